"""The report's figures: which to draw, from what, each with its description and its numbers as a table."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ftlib import plots
from ftlib.records import read_events
from ftlib.report import say
from ftlib.report.contest import Contest
from ftlib.report.entrants import Contestant, run_values
from ftlib.report.study import Study
from ftlib.report.svg import drawing, svg

MOST_ROWS = 30
"""Methods a figure shows; the tables hold them all."""
MOST_CURVES = 40


class Figure(NamedTuple):
    """One figure, ready to be put on the page."""

    kind: str
    title: str
    caption: str
    svg: str
    alt: str
    header: tuple[str, ...]
    """Of the table that says the same."""
    rows: tuple[tuple[str, ...], ...]
    unfolded: bool = False
    """Whether the table is shown at once, since it says more than the picture."""


def _forest(contest: Contest) -> Figure:
    """The primary metric of every method with its interval."""
    metric, shown = contest.metric, contest.contestants[:MOST_ROWS]
    by = say.scale(metric)
    before = next((one for one in contest.contestants if one.untouched), None)
    with drawing(0.75 + 0.3 * len(shown)) as ax:
        plots.forest(
            ax,
            [one.name for one in shown],
            [by * one.level.value for one in shown],
            [by * one.level.low for one in shown],
            [by * one.level.high for one in shown],
            label=say.heading(metric),
            reference=("untouched", by * before.level.value) if before else None,
            faint=[one.baseline or one.untouched for one in shown],
        )
        return figure_of(
            ax,
            "forest",
            f"{title(say.name(metric))} of every method",
            f"Dots are means over seeds, lines 95 % intervals for new test {say.noun(metric)}s and new seeds. Two "
            "methods can differ although their lines overlap: comparisons are paired, so read the table of comparisons "
            "for that.",
            ("method", say.heading(metric), "95 % interval"),
            [(one.name, say.level(metric, one.level.value), say.span(metric, *one.level[1:])) for one in shown],
        )


def main_figures(contest: Contest) -> Iterator[Figure]:
    """The primary metric of every method, and its spread from seed to seed where there are several."""
    yield _forest(contest)
    if any(len(one.parts) > 1 for one in contest.contestants):
        yield _seeds(contest)


def cost_figures(contest: Contest) -> Iterator[Figure]:
    """Quality against what it takes: time, memory; each only where there is something to see."""
    for cost, label in (("train_seconds", "training time, seconds"), ("peak_memory_bytes", "peak memory, GB")):
        if figure := _cost(contest, cost, label):
            yield figure


def _cost(contest: Contest, cost: str, label: str) -> Figure | None:
    rows = [row for row in contest.pareto if row["cost"] == cost][:MOST_ROWS]
    if len(rows) < 2:
        return None
    metric, by, unit = contest.metric, say.scale(contest.metric), 1e-9 if cost == "peak_memory_bytes" else 1.0
    found = [contest.find(row["name"]) for row in rows]
    with drawing(3.4 + 0.16 * math.ceil(len(rows) / 2)) as ax:
        plots.cost_quality(
            ax,
            [row["name"] for row in rows],
            [unit * row["cost_value"] for row in rows],
            [by * one.level.value for one in found],
            [by * one.level.low for one in found],
            [by * one.level.high for one in found],
            label=say.heading(metric),
            on_front=[row["on_front"] for row in rows],
            cost_label=label,
        )
        said = say.seconds if cost == "train_seconds" else say.size
        return figure_of(
            ax,
            f"cost-{cost.split('_')[-2] if cost.startswith('peak') else 'time'}",
            f"{title(say.name(metric))} against {label.partition(',')[0]}",
            "Filled points: nothing cheaper is as good. The table says how often each would be on that front, were the "
            f"test {say.noun(metric)}s and seeds drawn again; with few seeds such probabilities are rough.",
            ("method", label.partition(",")[0], say.heading(metric), "on the front"),
            [
                (
                    row["name"],
                    said(row["cost_value"]),
                    say.level(metric, row["value"]),
                    say.likelihood(row["probability"]),
                )
                for row in rows
            ],
        )


def _seeds(contest: Contest) -> Figure:
    metric, by = contest.metric, say.scale(contest.metric)
    shown = [one for one in contest.contestants if one.draws][:MOST_ROWS]
    with drawing(0.7 + 0.3 * len(shown)) as ax:
        plots.seeds(
            ax, {one.name: [by * v for v in run_values(one, metric)] for one in shown}, label=say.heading(metric)
        )
        rows = []
        for one in shown:
            values = run_values(one, metric)
            spread = say.difference(metric, max(values) - min(values), signed=False)
            rows.append((one.name, ", ".join(say.level(metric, v) for v in values), spread))
        return figure_of(
            ax,
            "seeds",
            "Spread from seed to seed",
            "Every dot is one run; the bar is their mean. Methods that draw nothing run once and are left out.",
            ("method", f"{say.heading(metric)} of each run", "best minus worst"),
            rows,
        )


def curve_figures(study: Study, contest: Contest) -> Iterator[Figure]:
    """Training and validation loss of every run that kept a diary."""
    runs: dict[str, list[tuple[str, list[float], list[float]]]] = {"step": [], "validation": []}
    for group in study.groups:
        if group.task != contest.task or (contest.shots and group.shots != contest.shots):
            continue
        for run in group.runs:
            events = read_events(run.folder)
            for kind, found in runs.items():
                points = [
                    (e["step"], e["loss"])
                    for e in events
                    if e.get("event") == kind and _finite(e.get("step")) and _finite(e.get("loss"))
                ]
                if len(points) > 1:
                    found.append((group.name, [p[0] for p in points], [p[1] for p in points]))
    for kind, found in runs.items():
        if not found:
            continue
        name = "training" if kind == "step" else "validation"
        with drawing(3.0 + 0.1 * len({who for who, _, _ in found[:MOST_CURVES]})) as ax:
            plots.curves(ax, found[:MOST_CURVES], validation=kind == "validation")
            yield figure_of(
                ax,
                f"curves-{name}",
                f"{name.capitalize()} loss",
                "A line per run, runs that failed included. A loss that still falls at the end asks for more epochs."
                + (f" The first {MOST_CURVES} of {len(found)} runs." if len(found) > MOST_CURVES else ""),
                ("method", "steps", "first loss", "last loss"),
                [(who, f"{steps[-1]:g}", f"{losses[0]:.3f}", f"{losses[-1]:.3f}") for who, steps, losses in found],
            )


def confusion_figure(one: Contestant, words: Callable[[str], str]) -> Figure:
    """Where each label's examples went, all seeds of a method together."""
    parts = list(one.parts.values())
    labels, k = [words(label) for label in parts[0].labels], len(parts[0].labels)
    counts = sum(np.bincount(part.truth * k + part.chosen, minlength=k * k) for part in parts).reshape(k, k)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full((k, k), np.nan), where=totals > 0)
    with drawing(min(4.6, 2.4 + 0.25 * k)) as ax:
        plots.confusion(ax, shares, labels, name=one.short)
        off = [(shares[i, j], i, j) for i in range(k) for j in range(k) if i != j and counts[i, j]]
        off.sort(key=lambda entry: (-entry[0], entry[1], entry[2]))
        return figure_of(
            ax,
            "confusion",
            one.short,
            "",
            ("true label", "taken for", "share"),
            [(labels[i], labels[j], f"{100 * share:.0f} %") for share, i, j in off[:15]],
        )._replace(unfolded=k > plots.MOST_CELLS_WITH_NUMBERS)


def title(said: str) -> str:
    """Words with a capital in front.

    >>> title("f1_macro of every method")
    'F1_macro of every method'
    """
    return said[0].upper() + said[1:]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def figure_of(
    ax: Any, kind: str, title: str, caption: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]
) -> Figure:
    """A figure of what is drawn on these axes, with the table that says the same."""
    said = " ".join(filter(None, map(plots.alt_text, ax.figure.axes)))
    return Figure(kind, title, caption, svg(ax.figure), said, header, tuple(rows))
