"""What probabilities are worth: accuracy where people take the unsure ones, and thresholds by what errors cost."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib.core import format
from ftlib.metrics import units
from ftlib.records.study import Study, seed_of
from ftlib.report.blocks import Block, Cell, Column, Heading, Note, OfTask, Section, by_task, table
from ftlib.report.figures import Figure, drawing, figure_of
from ftlib.report.plots import lines
from ftlib.report.sections.comparison import MethodScores, TaskComparison
from ftlib.stats.intervals import Interval
from ftlib.stats.thresholds import COVERAGES, Cheapest, answered, cheapest_thresholds, coverage_curve

if TYPE_CHECKING:
    from ftlib.report.build import Reading

MOST_METHODS, MOST_RUNS = 6, 10
"""Methods that are looked at, the best first, and runs of each."""

RATIOS = ((1, 50), (1, 10), (1, 5), (1, 2), (1, 1), (2, 1), (5, 1), (10, 1), (50, 1))
"""What a false alarm and a miss cost beside each other."""

GOAL = 0.9
"""Accuracy of which it is said how much of the work it leaves to the model."""


class Sure(NamedTuple):
    """How one task's methods know what they know."""

    comparison: TaskComparison
    coverage: dict[str, list[Interval]]
    """Method -> accuracy at each of COVERAGES."""
    positive: str
    """The label that false alarms and misses are about; empty where there are not two."""
    costs: dict[tuple[float, float], list[tuple[str, Cheapest]]]
    """(a false alarm, a miss) -> methods with what they cost, the cheapest first."""
    found: dict[str, tuple[list[float], list[float]]]
    """Method -> false alarms and what is found, in per cent, for every threshold."""
    own: tuple[float, float] | None = None
    """What errors cost the person who asks, where suite.toml says so."""


def read_sure(study: Study, comparison: TaskComparison) -> Sure | None:
    """What the probabilities of one task's best methods are worth; None where there are none."""
    able = [one for one in comparison.methods if _able(one)][:MOST_METHODS]
    if not able:
        return None
    first = _parts(able[0])[0]
    coverage = {}
    for one in able:
        parts = _parts(one)
        hits, sure = np.stack([p.chosen == p.truth for p in parts]), np.stack([p.sure for p in parts])
        rng = np.random.default_rng(seed_of(study.plan_hash, comparison.task, one.name, "coverage"))
        coverage[one.name] = coverage_curve(hits, sure, rng, clusters=first.clusters)
    if len(first.labels) != 2:
        return Sure(comparison, coverage, "", {}, {}, study.error_costs)
    probabilities = {
        one.name: np.mean([np.where(p.chosen == 1, p.sure, 1 - p.sure) for p in _parts(one)], axis=0) for one in able
    }
    costs = {}
    own = [study.error_costs] if study.error_costs and study.error_costs not in RATIOS else []
    for alarm, miss in [*own, *RATIOS]:
        rng = np.random.default_rng(seed_of(study.plan_hash, comparison.task, f"costs {alarm:g} {miss:g}"))
        told = cheapest_thresholds(first.truth, list(probabilities.values()), alarm, miss, rng, clusters=first.clusters)
        costs[alarm, miss] = sorted(zip(probabilities, told, strict=True), key=lambda pair: pair[1].cost.value)
    found = {name: _trade(first.truth, p) for name, p in probabilities.items()}
    return Sure(comparison, coverage, first.labels[1], costs, found, study.error_costs)


def _able(one: MethodScores) -> bool:
    constant = one.group is not None and one.group.constant
    return not constant and all(part.sure is not None for part in one.parts.values())


def _parts(one: MethodScores) -> list[Any]:
    return list(one.parts.values())[:MOST_RUNS]


MOST_POINTS = 120


def _trade(truth: np.ndarray, p: np.ndarray) -> tuple[list[float], list[float]]:
    order = np.argsort(-p, kind="stable")
    label = truth[order].astype(float)
    places = np.unique(np.linspace(0, len(p), MOST_POINTS).astype(int))
    alarms, hits = (np.r_[0.0, x.cumsum()][places] for x in (1 - label, label))
    return (100 * alarms / max(1.0, (1 - label).sum())).tolist(), (100 * hits / max(1.0, label.sum())).tolist()


def _coverage_rows(found: Sure) -> Iterator[dict[str, Any]]:
    for name, levels in found.coverage.items():
        for share, level in zip(COVERAGES, levels, strict=True):
            row = {"task": found.comparison.task, "shots": found.comparison.shots, "name": name, "coverage": share}
            yield row | level._asdict() | {"n": answered(share, found.comparison.n)}


def _cost_rows(found: Sure) -> Iterator[dict[str, Any]]:
    for (alarm, miss), told in found.costs.items():
        for name, one in told:
            row = {
                "task": found.comparison.task,
                "shots": found.comparison.shots,
                "name": name,
                "positive": found.positive,
            }
            row |= {"false_alarm_costs": alarm, "miss_costs": miss, "threshold": one.threshold, **one.cost._asdict()}
            yield row | {
                "false_alarms": one.false_alarms,
                "misses": one.misses,
                "best": one.best,
                "n": found.comparison.n,
            }


def _coverage_figure(found: Sure) -> Figure:
    by = units.scale("accuracy")
    series = {
        name: tuple([by * getattr(level, end) for level in levels] for end in ("value", "low", "high"))
        for name, levels in found.coverage.items()
    }
    with drawing(3.4 + 0.16 * -(-len(series) // 2)) as ax:
        lines.coverage(ax, series, [100 * share for share in COVERAGES], label=units.heading("accuracy"))
        shown = (0.25, 0.5, 0.75, 1.0)
        rows = [
            (name, *(f"{units.level('accuracy', one.value)} ({units.span('accuracy', *one[1:])})"
             for share, one in zip(COVERAGES, levels, strict=True) if share in shown))
            for name, levels in found.coverage.items()
        ]  # fmt: skip
        return figure_of(
            ax,
            "coverage",
            "Accuracy against coverage",
            "If only the answers that a method is surest of are used and the rest is left to people. Bands are 95 % "
            "intervals: percentiles under resampling of test examples and seeds, or Wilson's for so few answers where "
            "that is wider; with few seeds they are rough.",
            ("method", *(f"of the surest {100 * share:g} %" for share in shown)),
            rows,
        )


def _goal_sentence(found: Sure) -> str:
    said = []
    for name, levels in found.coverage.items():
        able = [share for share, level in zip(COVERAGES, levels, strict=True) if level.low >= GOAL]
        if able:
            said.append(f"{name} the surest {100 * max(able):g} %")
    if not said:
        return f"No method is shown to be right {100 * GOAL:g} % of the time on any share of what it is surest of."
    return f"Shown to be right {100 * GOAL:g} % of the time or more: {format.listed(said)} of the examples."


def costs_sentence(found: Sure) -> str:
    """Which method at which threshold by the costs that suite.toml says; empty where it says none."""
    if found.own is None:
        return ""
    if not found.costs:
        n = len(_parts(found.comparison.methods[0])[0].labels)
        return f"Your costs of errors are of a task with two labels; this one has {n}, so nothing is said by them."
    alarm, miss = found.own
    name, one = found.costs[found.own][0]
    value, low, high = map(_per_thousand, one.cost)
    rest = "" if one.best > 0.95 or len(found.costs[found.own]) == 1 else f"; next is {found.costs[found.own][1][0]}"
    return (
        f"By your costs (a false alarm {alarm:g}, a miss {miss:g}): {name}, calling a text {found.positive} from "
        f"{100 * one.threshold:.0f} % on, costs {value} per 1 000 texts ({low} to {high}); that no "
        f"other method is cheaper holds with probability {format.likelihood(one.best)}{rest}."
    )


def _per_thousand(cost: float) -> str:
    """What a thousand texts cost.

    >>> _per_thousand(2.2147), _per_thousand(0.0123)
    ('2\u202f210', '12.3')
    """
    rounded = float(f"{1000 * cost:.3g}")
    return format.count(rounded) if rounded >= 1000 else f"{rounded:g}"


def _cost_table(found: Sure) -> Any:
    def of(row: dict[str, Any]) -> str:
        value, low, high = map(_per_thousand, row["cost"])
        return f"{value} ({low} to {high})"

    columns = (
        Column("ratio", "false alarm : miss", lambda said: Cell(said, strong=True)),
        Column("name", "cheapest method", lambda name: Cell(name, strong=True)),
        Column("threshold", f"call it {found.positive} from", lambda p: f"{100 * p:.0f} %", number=True),
        Column("row", "cost of 1 000 texts", of, number=True, whole=True),
        Column("misses", "misses", lambda p: f"{100 * p:.1f} %", number=True, unit="of all texts"),
        Column("false_alarms", "false alarms", lambda p: f"{100 * p:.1f} %", number=True, unit="of all texts"),
        Column("best", "how sure", format.likelihood, number=True, unit="that no other is cheaper"),
    )
    rows = [
        {"ratio": f"{alarm:g} : {miss:g}", "name": told[0][0], **told[0][1]._asdict()}
        for (alarm, miss), told in found.costs.items()
    ]
    return table(f"Which method at which threshold, {found.comparison.where}", columns, rows)


def _blocks(found: Sure) -> Iterator[Block]:
    yield Note(_goal_sentence(found), quiet=False)
    yield _coverage_figure(found)
    if not found.costs:
        return
    yield Heading("Which threshold, if errors cost differently", 4)
    yield Note(
        f"A false alarm is a text that is called {found.positive} and is not, a miss one that is and is not called so. "
        "Find the line with your costs, or write them under [study] in suite.toml (error_costs = {false_alarm = 1, "
        "miss = 10}): which method is cheapest, from which probability on it should say so, and how sure that is. "
        "Costs, false alarms and misses are of test examples that had no part in choosing the threshold; probabilities "
        "are means over a method's runs."
    )
    if said := costs_sentence(found):
        yield Note(said, quiet=False)
    yield _cost_table(found)
    with drawing(3.6 + 0.16 * -(-len(found.found) // 2)) as ax:
        lines.trade_of_errors(ax, found.found, found.positive)
        rows = [
            (name, *(f"{max(f for a, f in zip(*both, strict=True) if a <= most):.0f} %" for most in (1, 5, 10, 20)))
            for name, both in found.found.items()
        ]
        yield figure_of(
            ax,
            "thresholds",
            f"{found.positive} found against false alarms",
            "Every point of a line is a threshold. The dashed line is chance.",
            ("method", *(f"found at {most} % alarms" for most in (1, 5, 10, 20))),
            rows,
        )


def _read(reading: "Reading") -> list[OfTask]:
    return reading.of_tasks(
        lambda comparison: None if not comparison.has_labels else read_sure(reading.study, comparison)
    )


SECTION = Section(
    name="confidence",
    title="How far to trust the probabilities",
    read=_read,
    columns={
        "coverage": ("task", "shots", "name", "coverage", "value", "low", "high", "n"),
        "thresholds": (
            "task", "shots", "name", "positive", "false_alarm_costs", "miss_costs", "threshold", "value", "low", "high",
            "false_alarms", "misses", "best", "n",
        ),
    },
    rows=lambda items: {
        "coverage": [row for one in items for row in _coverage_rows(one.found)],
        "thresholds": [row for one in items for row in _cost_rows(one.found)],
    },
    blocks=lambda items: by_task(items, _blocks),
)  # fmt: skip
