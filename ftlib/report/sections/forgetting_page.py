"""The page's part on what methods forget and carry over: sequences, features, the dial, one task for another."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ftlib.core import format
from ftlib.core.format import short_name
from ftlib.metrics import units
from ftlib.metrics.continual import OF_R
from ftlib.metrics.registry import METRICS
from ftlib.records.study import Study
from ftlib.report.figures import Figure, drawing, figure_of
from ftlib.report.plots.heat import heat
from ftlib.report.sections import continual, transfer
from ftlib.report.sections import forgetting as dial
from ftlib.report.sections import forgetting as dial_page
from ftlib.report.sections import forgetting as features
from ftlib.report.sections.comparison import TaskComparison
from ftlib.report.sections.continual import Sequences, TaskSequence
from ftlib.report.tables import Cell, Table

MOST_MATRICES = 8
"""Methods that have a picture of their own; the tables hold them all."""


_LEVELS = (continual.LEARNED, "average_accuracy")
"""Of what is said of a sequence, what is no difference."""


class SequencePage(NamedTuple):
    """One sequence of tasks."""

    order: str
    sentences: tuple[str, ...]
    levels: Table
    figures: tuple[Figure, ...]
    scores: Table
    notes: tuple[str, ...]
    """What was left out, and why values are missing."""


class TradeoffPage(NamedTuple):
    """One task's dial."""

    sentence: str
    figure: Figure


class Forgetting(NamedTuple):
    """Everything of this part of the page."""

    sequences: tuple[SequencePage, ...]
    features: tuple[tuple[Table, tuple[str, ...]], ...]
    """For each task its table, and the changes in words."""
    dials: tuple[TradeoffPage, ...]
    carried: tuple[Figure, ...]
    alone: Table | None
    in_sequence: Table | None
    rows: dict[str, list[dict[str, Any]]]
    """What report.json holds of it, by its key."""

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Every figure, in the order of the page."""
        matrices = [figure for one in self.sequences for figure in one.figures]
        return (*matrices, *(one.figure for one in self.dials), *self.carried)

    @property
    def there(self) -> bool:
        """Whether the page has this part."""
        return bool(self.sequences or self.features or self.dials or self.alone or self.in_sequence)


def forgetting_section(study: Study, contests: Sequence[TaskComparison]) -> Forgetting:
    """What a study's methods forget and carry over; empty where it measured none of it."""
    went = continual.sequences(study)
    tasks = dict.fromkeys(group.task for group in study.groups)
    probed = [found for task in tasks if (found := features.feature_changes(study, task))]
    dials = [found for contest in contests if (found := dial.tradeoff(study, contest))]
    pairs = transfer.transfers(study)
    return Forgetting(
        tuple(map(_sequence, went)),
        tuple(
            (features.features_table(found), tuple(f"{features.features_sentence(one)}." for one in found))
            for found in probed
        ),
        tuple(TradeoffPage(dial_page.sentence(found), dial_page.figure(found)) for found in dials),
        tuple(transfer.figures(pairs)),
        transfer.table(pairs, "alone"),
        transfer.table(pairs, "in sequence"),
        {
            "general": [row for found in probed for row in features.features_rows(found)],
            "sequences": continual.rows(went),
            "dial": [row for found in dials for row in dial.rows(found)],
            "carried": transfer.rows(pairs),
        },
    )


def beside_rows(study: Study, all_rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that the table of what was measured beside a task shows: not what this part of the page shows better.

    Of other tasks that a run was trained on the single labels are left out.
    """
    trained = {
        short_name(name)
        for run in study.runs
        for field in ("sequential_tasks", "joint_tasks")
        for name in run.resolved.get(field) or []
    }
    return [
        row
        for row in all_rows
        if row["stage"] in ("before", "after")
        and not row["part"].startswith((features.PREFIX, "canaries:", "extraction:"))
        and not (row["part"] == "sequence" and row["metric"] in OF_R)
        and not (row["part"] in trained and row["metric"] not in METRICS)
    ]


def _sequence(found: Sequences) -> SequencePage:
    return SequencePage(
        " → ".join(found.tasks),
        tuple(f"{continual.sentence(found, duel)}." for duel in found.duels),
        _levels(found),
        tuple(_matrix(one, found.names[one.group.name]) for one in found.courses[:MOST_MATRICES]),
        _scores(found),
        tuple(_notes(found)),
    )


def _levels(found: Sequences) -> Table:
    """Every method by what is said of its sequence."""
    header = [Cell("method"), Cell("right after own training, %\N{NO-BREAK SPACE}↑", "mean over tasks", number=True)]
    for name in continual.SHOWN[1:]:
        unit = "%" if name in _LEVELS else "points"
        up = "↑" if METRICS[name].higher_is_better else "↓"
        header.append(Cell(f"{name.replace('_', ' ')}, {unit}\N{NO-BREAK SPACE}{up}", number=True))
    header += [Cell("seeds", number=True), Cell("n", "examples of all tasks", number=True)]
    body = []
    for one, levels in zip(found.courses, found.levels, strict=True):
        cells = [Cell(found.names[one.group.name], strong=True)]
        for name, value in levels.items():
            if format.missing(value.value):
                cells.append(Cell("not available", continual.reason(one, name), number=True))
            elif name in _LEVELS:
                shown = units.level("accuracy", value.value), units.span("accuracy", value.low, value.high)
                cells.append(Cell(*shown, number=True))
            else:
                ends = f"{units.difference(name, value.low)} to {units.difference(name, value.high)}"
                cells.append(Cell(units.difference(name, value.value), ends, number=True))
        cells += [Cell(str(len(one.seeds)), number=True), Cell(format.count(one.n), number=True)]
        body.append(tuple(cells))
    return Table(f"What methods forget, {' → '.join(found.tasks)}", tuple(header), tuple(body))


def _grid(one: TaskSequence) -> tuple[np.ndarray, list[str]]:
    """Accuracy of the untouched model and after each training, mean over seeds; and what the rows are."""
    # A task that one seed could not answer has no mean over the seeds.
    grid = np.concatenate([one.base.mean(axis=0)[None], one.R.mean(axis=0)])
    return grid, ["untouched", *(f"after {task}" for task in one.tasks)]


def _matrix(one: TaskSequence, name: str) -> Figure:
    grid, rows = _grid(one)
    with drawing(1.1 + 0.42 * len(rows)) as ax:
        heat(
            ax,
            grid,
            rows,
            one.tasks,
            label=f"Accuracy of {name} on each task after each training, per cent",
            across="measured on",
        )
        return figure_of(
            ax,
            "sequence",
            name,
            f"Accuracy in per cent, mean over {format.plural(len(one.seeds), 'seed')}. "
            "Before a task's own training its "
            "labels are guessed from their names (zero-shot); where labels have no names the cell is empty.",
            ("", *one.tasks),
            [
                (row, *(units.level("accuracy", value) for value in map(float, values)))
                for row, values in zip(rows, grid, strict=True)
            ],
        )


def _scores(found: Sequences) -> Table:
    """R of every method, seed by seed."""
    header = (Cell("method"), Cell("seed", number=True), Cell("stage"), *(Cell(x, number=True) for x in found.tasks))
    body = []
    for one in found.courses:
        for number, seed in enumerate(one.seeds):
            for i, row in enumerate(one.R[number]):
                values = [Cell(units.level("accuracy", float(value)), number=True) for value in row]
                at = (
                    Cell(found.names[one.group.name], strong=True),
                    Cell(str(seed), number=True),
                    Cell(f"after {one.tasks[i]}"),
                )
                body.append((*at, *values))
    return Table(f"Accuracy of every run after every training, {' → '.join(found.tasks)}", header, tuple(body))


def _notes(found: Sequences) -> Iterator[str]:
    for one in found.courses:
        left = sorted({run.seed for run in one.group.ok} - set(one.seeds))
        if left:
            yield f"{one.group.name}: seeds left out, since they lack a score or used other examples: {left}"
    if len(found.courses) > 1 and not found.duels:
        yield "Nothing is compared: no two methods have a seed in common, or there is one source of examples"
    if len(found.courses) > MOST_MATRICES:
        yield f"The first {MOST_MATRICES} of {len(found.courses)} methods have a picture; the table has them all"
