"""What the page shows of a few-shot study: curves, the spread of the draws, crossings, label budgets, each rung."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ftlib import plots
from ftlib.crossover import Crossing
from ftlib.report import say, tables
from ftlib.report.climb import Stretch, stretches
from ftlib.report.contest import Contest
from ftlib.report.entrants import Contestant, called, run_values
from ftlib.report.figures import Figure, figure_of, title
from ftlib.report.ladder import Ladder
from ftlib.report.rungs import at, labels
from ftlib.report.standing import focus, needed, standing, turns
from ftlib.report.svg import drawing, panels
from ftlib.report.tables import Cell, Table


class RungPage(NamedTuple):
    """One number of labels, in full."""

    said: str
    methods: Table
    duels: Table


class LadderPage(NamedTuple):
    """Everything that a section says of a ladder, beside what every section says."""

    ladder: Ladder
    stretches: Table
    turns: tuple[str, ...]
    """Where the answer changes."""
    focus: str
    standing: tuple[str, ...]
    """What is shown of that method against the others, and what is not."""
    curve: Figure
    spread: Figure
    crossings: Table
    budgets: Table | None
    matrix: Table
    rungs: tuple[RungPage, ...]
    seconds: Table
    top: str
    """The most labels per class, in words."""


def ladder_page(ladder: Ladder, methods: Callable[[Contest], Table]) -> LadderPage:
    """Draw and tabulate a ladder.

    Args:
        ladder: Of one task.
        methods: Makes the table of methods by metrics of one rung.
    """
    found = stretches(ladder)
    answers = [tuple(called(best) for best in one.best) for one in found]
    rungs = [RungPage(labels(rung.shots), methods(rung), tables.duels(rung)) for rung in ladder.rungs]
    return LadderPage(
        ladder,
        _stretches(ladder, found),
        tuple(map(say.unbroken, turns(ladder, answers))),
        focus(ladder, answers),
        tuple(map(say.unbroken, standing(ladder, answers))),
        _curve(ladder),
        _spread(ladder),
        _crossings(ladder),
        _budgets(ladder),
        _matrix(ladder),
        tuple(rungs),
        _seconds(ladder),
        labels(ladder.shots[-1]),
    )


def _stretches(ladder: Ladder, found: Sequence[Stretch]) -> Table:
    """Who is best with how many labels."""
    metric = ladder.metric
    body = []
    for one in found:
        ends = [next(r for r in ladder.rungs if r.shots == k).contestants[0].level.value for k in one.shots]
        reached = [say.level(metric, value) for value in (ends[0], ends[-1])]
        names = [best.line for best in one.best]
        tied = ("the same within the margin" if one.same else "cannot be told apart") if len(names) > 1 else ""
        body.append(
            (
                Cell(at(one.shots, ladder.shots).partition(" label")[0], strong=True),
                Cell(say.some(names, 4), tied, strong=len(names) == 1),
                Cell(" to ".join(dict.fromkeys(reached)), number=True),
            )
        )
    header = (Cell("labels per class"), Cell("best"), Cell(say.heading(metric), "of the highest", number=True))
    return Table(f"The best with how many labels, {ladder.task}", header, tuple(body))


def _shown(metric: str, one: Contestant | None) -> str:
    if one is None:
        return ""
    span = say.span(metric, one.level.low, one.level.high)
    return say.level(metric, one.level.value) + (f" ({span})" if span else "")


def _by_shots(ladder: Ladder, cell: Callable[[Contestant], str]) -> Iterator[tuple[str, ...]]:
    for name, line in ladder.lines.items():
        yield (name, *(cell(line[k]) if k in line else "" for k in ladder.shots))


def _curve(ladder: Ladder) -> Figure:
    metric, by = ladder.metric, say.scale(ladder.metric)
    series = ladder.bands()
    beside = [one for one in ladder.beside if one.group is None or one.group.method != "majority"]
    goals = {one.line: by * one.level.value for one in beside}
    if ladder.target is not None:
        goals["target"] = by * ladder.target
    rows = [*_by_shots(ladder, lambda one: _shown(metric, one))]
    rows += [(called(one), *[_shown(metric, one)] * len(ladder.shots)) for one in (*ladder.still, *ladder.beside)]
    with drawing(3.3 + 0.06 * len(series)) as ax:
        plots.shots(
            ax,
            series,
            label=say.heading(metric),
            levels={one.line: by * one.level.value for one in ladder.still},
            goals=goals,
        )
        return figure_of(
            ax,
            "shots",
            f"{title(say.name(metric))} against labels per class",
            f"Bands are 95 % intervals for new draws of the labels and new test {say.noun(metric)}s. Lines across need "
            "no labels; dashed ones had all of them.",
            ("labels per class", *map(str, ladder.shots)),
            rows,
        )


def _spread(ladder: Ladder) -> Figure:
    metric, by = ladder.metric, say.scale(ladder.metric)
    runs = {
        name: {k: [by * value for value in run_values(one, metric)] for k, one in line.items()}
        for name, line in ladder.lines.items()
    }

    def cell(one: Contestant) -> str:
        values = run_values(one, metric)
        if len(values) < 2:
            return f"{say.level(metric, values[0])} (1 draw)"
        sd = say.difference(metric, float(np.std(values, ddof=1)), signed=False)
        return f"{say.level(metric, min(values))} to {say.level(metric, max(values))}, SD {sd} ({len(values)})"

    with panels(len(runs), 2, 1.5) as axes:
        plots.draws(axes, runs, label=say.heading(metric))
        axes[0].figure.supxlabel("labels per class", fontsize=9)
        axes[0].figure.supylabel(say.heading(metric), fontsize=9)
        return figure_of(
            axes[0],
            "draws",
            "Spread from draw to draw",
            "Every mark is one run on a draw of labels of its own, the bar their mean. The table holds the worst and "
            "the best draw, their standard deviation (SD) and how many there are.",
            ("labels per class", *map(str, ladder.shots)),
            [*_by_shots(ladder, cell)],
        )


def _crossings(ladder: Ladder) -> Table:
    body = [
        (
            Cell(f"{one.b} over {one.a}", strong=True),
            Cell(ladder.place(one.shots, one.a, one.b), number=True),
            Cell(_span(ladder, one), number=True),
            Cell(say.unbroken(one.sentence)),
        )
        for one in ladder.crossings
    ]
    numbers = (Cell("from", "labels per class", number=True), Cell("95 % interval", number=True))
    return Table(
        f"From how many labels on one method is ahead for good, {ladder.task}",
        (Cell("who overtakes whom"), *numbers, Cell("in words")),
        tuple(body),
    )


def _span(ladder: Ladder, one: Crossing) -> str:
    return " to ".join(dict.fromkeys(ladder.place(shots, one.a, one.b) for shots in (one.low, one.high)))


def _budgets(ladder: Ladder) -> Table | None:
    goals: dict[str, dict[str, Any]] = {}
    for one in ladder.budgets:
        goals.setdefault(one.goal, {})[one.found.name] = one
    if not goals:
        return None
    header = [Cell("method")]
    for goal, found in goals.items():
        target = next(iter(found.values())).found.target
        header.append(Cell(goal, say.with_name(ladder.metric, target), number=True))
    body = [
        (
            Cell(name, strong=True),
            *(Cell(needed(found[name], ladder), number=True) for found in goals.values()),
        )
        for name in ladder.lines
    ]
    return Table(f"How many labels per class each method needs, {ladder.task}", tuple(header), tuple(body))


def _matrix(ladder: Ladder) -> Table:
    """Every two methods at every number of labels: who is shown better."""
    pairs: dict[tuple[str, str], dict[int, str]] = {}
    for rung in reversed(ladder.rungs):
        names = {one.name: one.line for one in rung.contestants}
        for duel in rung.duels:
            a, b = names[duel.a], names[duel.b]
            said = {"better": a, "worse": b, "same": "same", "undecided": "·"}[duel.comparison.verdict]
            key = (b, a) if (b, a) in pairs else (a, b)
            pairs.setdefault(key, {})[rung.shots] = said
    body = [
        (Cell(f"{a}, {b}", strong=True), *(Cell(found.get(k, ""), number=True) for k in ladder.shots))
        for (a, b), found in pairs.items()
    ]
    header = (Cell("two methods", "labels per class:"), *(Cell(str(k), number=True) for k in ladder.shots))
    return Table(f"Who is shown better at each number of labels, {ladder.task}", header, tuple(body))


def _seconds(ladder: Ladder) -> Table:
    rows = _by_shots(ladder, lambda one: say.seconds(one.cost("train_seconds")))
    body = [(Cell(name, strong=True), *(Cell(value, number=True) for value in values)) for name, *values in rows]
    header = (Cell("training time with"), *(Cell(labels(k), number=True) for k in ladder.shots))
    return Table(f"Training time of each method, mean over its draws, {ladder.task}", header, tuple(body))
