"""Several tasks at once: every method on every task, the middle half of all its runs, and who tends to beat whom."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ftlib.core import format
from ftlib.metrics import units
from ftlib.metrics.registry import metric_row
from ftlib.records.study import Study, seed_of
from ftlib.report.blocks import Block, Cell, Note, Said, Section, Table, plain_table
from ftlib.report.sections.comparison import BASE, MethodScores, TaskComparison, run_values
from ftlib.report.sections.learning_curve import LearningCurves, curve_segments
from ftlib.stats.aggregate import interquartile_mean_interval, probability_of_improvement
from ftlib.stats.learning_curve import Crossing

if TYPE_CHECKING:
    from ftlib.report.build import Reading

Entries = Mapping[str, Mapping[str, MethodScores]]
"""Method -> task -> its entry there."""


def tables(study: Study, comparisons: Sequence[TaskComparison]) -> list[Table]:
    """The tables of the section on all tasks, for each primary metric; none where it is that of one task.

    The interquartile mean and the probability of improvement (Agarwal et al. 2021) speak of new runs on these same
    tasks, and are given for methods that have the same number of runs on every task.
    """
    by_metric: dict[str, list[TaskComparison]] = {}
    for comparison in comparisons:
        by_metric.setdefault(comparison.metric, []).append(comparison)
    return [table for metric, some in by_metric.items() for table in _tables(study, metric, some)]


def glance(by_task: Sequence[LearningCurves]) -> list[Table]:
    """Several few-shot studies at a glance: who is best with how many labels, and where one method overtakes another;
    none for fewer than two.
    """
    if len(by_task) < 2:
        return []
    every = sorted({k for curves in by_task for k in curves.shots})
    body = []
    for curves in by_task:
        best = {k: one for one in curve_segments(curves) for k in one.shots}
        cells = [_best_cell(best[k].best) if k in best else Cell("") for k in every]
        body.append((Cell(curves.task, units.name(curves.metric), strong=True), *cells))
    header = (("task", "labels per class:"), *map(str, every))
    first = plain_table("The best with how many labels, on every task", header, body, texts=len(every) + 1)
    pairs: dict[tuple[str, ...], dict[str, Cell]] = {}
    for curves in by_task:
        for one in curves.crossings:
            pairs.setdefault(tuple(sorted((one.a, one.b))), {})[curves.task] = _crossing_cell(curves, one)
    tasks = dict.fromkeys(curves.task for curves in by_task)
    rows = [(" and ".join(pair), *(found.get(task, Cell("")) for task in tasks)) for pair, found in pairs.items()]
    caption = "Which of two methods is ahead for good, and from how many labels on"
    return [first, plain_table(caption, ("two methods", *tasks), rows, texts=len(tasks) + 1)]


def _best_cell(best: Sequence[MethodScores]) -> Cell:
    names = [one.line for one in best]
    if len(names) < 4:
        return Cell(format.listed(names, "or"), strong=len(names) == 1)
    return Cell(f"{len(names)} not shown to differ", f"{names[0]} leads")


def _crossing_cell(curves: LearningCurves, one: Crossing) -> Cell:
    if one.reason:
        return Cell("not known", one.reason)
    point, *bounds = (curves.place(shots, one.a, one.b) for shots in (one.shots, one.low, one.high))
    span = " to ".join(dict.fromkeys(bounds))
    if one.low == one.high == -np.inf:
        return Cell(f"{one.b} throughout")
    return Cell(f"{one.b} from {point}" if np.isfinite(one.shots) else f"{one.b}", f"interval: {span}")


def _tables(study: Study, metric: str, comparisons: Sequence[TaskComparison]) -> list[Table]:
    tasks = list(dict.fromkeys(comparison.task for comparison in comparisons))
    if len(tasks) < 2:
        return []
    found: dict[str, dict[str, MethodScores]] = {}
    for comparison in comparisons:
        for one in comparison.methods:
            name = BASE if one.untouched else one.name
            found.setdefault(name, {}).setdefault(comparison.task, one)
    runs = {name: values for name in found if (values := _runs(found[name], tasks, metric)) is not None}
    rng = np.random.default_rng(seed_of(study.plan_hash, *tasks, metric))
    return [_levels(found, tasks, metric, runs, rng), *_improvements(runs, metric, rng)]


def _runs(by_task: Mapping[str, MethodScores], tasks: Sequence[str], metric: str) -> np.ndarray | None:
    """(n_seeds, n_tasks); None where a task is missing or the numbers of runs differ."""
    if set(by_task) != set(tasks):
        return None
    values = [run_values(by_task[task], metric) for task in tasks]
    return np.array(values).T if len({len(one) for one in values}) == 1 and np.isfinite(values).all() else None


def _levels(
    found: Entries, tasks: Sequence[str], metric: str, runs: Mapping[str, np.ndarray], rng: np.random.Generator
) -> Table:
    body: list[Sequence[Said]] = []
    for name, by_task in found.items():
        levels = [by_task[task].level if task in by_task else None for task in tasks]
        cells: list[Said] = [
            (units.level(metric, level.value), units.span(metric, level.low, level.high))
            if level
            else ("not available", "not measured")
            for level in levels
        ]
        middle: Said = ("not available", "not as many runs on every task")
        if name in runs:
            found_middle = interquartile_mean_interval(runs[name], rng)
            n_runs = format.plural(runs[name].size, "run")
            ends = units.span(metric, found_middle.low, found_middle.high)
            span = f"{ends}, {n_runs}" if len(runs[name]) > 1 else n_runs
            middle = Cell(units.level(metric, found_middle.value), span, number=True, strong=True)
        body.append((name, *cells, middle))
    return plain_table(f"{units.heading(metric)} on every task", ("method", *tasks, "middle half of runs"), body)


def _improvements(runs: Mapping[str, np.ndarray], metric: str, rng: np.random.Generator) -> list[Table]:
    up = 1 if metric_row(metric).higher_is_better else -1
    order = sorted(runs, key=lambda name: -up * runs[name].mean())
    if len(order) < 2:
        return []
    body = []
    for a, b in zip(order, order[1:], strict=False):
        chance = probability_of_improvement(up * runs[a], up * runs[b], rng)
        many = min(len(runs[a]), len(runs[b])) > 1
        span = f"{chance.low:.2f} to {chance.high:.2f}" if many else "one run each: no interval"
        body.append((Cell(f"{a} beats {b}"), (f"{chance.value:.2f}", span)))
    header = ("a run of one against a run of the next, on a task of these", "chance")
    return [plain_table(f"Probability of improvement by {units.name(metric)}", header, body)]


class Across(NamedTuple):
    """What the tasks of a study say together."""

    glance: list[Table]
    tables: list[Table]
    metrics: str


def _read(reading: "Reading") -> Across:
    few_shot = [one for one in reading.told if isinstance(one, LearningCurves)]
    others = [one for one in reading.told if isinstance(one, TaskComparison)]
    names = dict.fromkeys(units.name(one.metric) for one in others)
    return Across(glance(few_shot), tables(reading.study, others), " and ".join(names))


def _blocks(found: Across) -> Iterator[Block]:
    if found.tables:
        yield Note(
            f"{found.metrics} of every method on every task, with 95 % intervals. The middle half is the mean of all "
            "runs on all tasks without the best and the worst quarter; its interval, and the chances below, speak of "
            "new runs on these same tasks and are rough below ten seeds."
        )
        yield from found.tables


SECTION = Section(
    name="tasks",
    title="All tasks",
    read=_read,
    columns={},
    rows=lambda _: {},
    blocks=_blocks,
)
