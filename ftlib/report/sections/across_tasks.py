"""Several tasks at once: every method on every task, the middle half of all its runs, and who tends to beat whom."""

from collections.abc import Mapping, Sequence

import numpy as np

from ftlib.core import format
from ftlib.metrics import units
from ftlib.metrics.registry import metric_row
from ftlib.records.study import Study, seed_of
from ftlib.report.sections.comparison import MethodScores, TaskComparison, run_values
from ftlib.report.sections.learning_curve import LearningCurves, curve_segments
from ftlib.report.tables import Cell, Table
from ftlib.stats.aggregate import interquartile_mean_interval, probability_of_improvement
from ftlib.stats.learning_curve import Crossing

Entries = Mapping[str, Mapping[str, MethodScores]]
"""Method -> task -> its entry there."""


def tables(study: Study, contests: Sequence[TaskComparison]) -> list[Table]:
    """The tables of the section on all tasks, for each primary metric; none where it is that of one task.

    The interquartile mean and the probability of improvement (Agarwal et al. 2021) speak of new runs on these same
    tasks, and are given for methods that have the same number of runs on every task.
    """
    by_metric: dict[str, list[TaskComparison]] = {}
    for contest in contests:
        by_metric.setdefault(contest.metric, []).append(contest)
    return [table for metric, some in by_metric.items() for table in _tables(study, metric, some)]


def glance(ladders: Sequence[LearningCurves]) -> list[Table]:
    """Several few-shot studies at a glance: who is best with how many labels, and where one method overtakes another;
    none for fewer than two.
    """
    if len(ladders) < 2:
        return []
    every = sorted({k for ladder in ladders for k in ladder.shots})
    body = []
    for ladder in ladders:
        best = {k: one for one in curve_segments(ladder) for k in one.shots}
        cells = [_best_cell(best[k].best) if k in best else Cell("") for k in every]
        body.append((Cell(ladder.task, units.name(ladder.metric), strong=True), *cells))
    header = (Cell("task", "labels per class:"), *(Cell(str(k)) for k in every))
    first = Table("The best with how many labels, on every task", header, tuple(body))
    pairs: dict[tuple[str, ...], dict[str, Cell]] = {}
    for ladder in ladders:
        for one in ladder.crossings:
            pairs.setdefault(tuple(sorted((one.a, one.b))), {})[ladder.task] = _crossing_cell(ladder, one)
    tasks = dict.fromkeys(ladder.task for ladder in ladders)
    rows = [
        (Cell(" and ".join(pair), strong=True), *(found.get(task, Cell("")) for task in tasks))
        for pair, found in pairs.items()
    ]
    header = (Cell("two methods"), *(Cell(task) for task in tasks))
    return [first, Table("Which of two methods is ahead for good, and from how many labels on", header, tuple(rows))]


def _best_cell(best: Sequence[MethodScores]) -> Cell:
    names = [one.line for one in best]
    if len(names) < 4:
        return Cell(format.listed(names, "or"), strong=len(names) == 1)
    return Cell(f"{len(names)} not told apart", f"{names[0]} leads")


def _crossing_cell(ladder: LearningCurves, one: Crossing) -> Cell:
    if one.reason:
        return Cell("not known", one.reason)
    point, *bounds = (ladder.place(shots, one.a, one.b) for shots in (one.shots, one.low, one.high))
    span = " to ".join(dict.fromkeys(bounds))
    if one.low == one.high == -np.inf:
        return Cell(f"{one.b} throughout")
    return Cell(f"{one.b} from {point}" if np.isfinite(one.shots) else f"{one.b}", f"interval: {span}")


def _tables(study: Study, metric: str, contests: Sequence[TaskComparison]) -> list[Table]:
    tasks = list(dict.fromkeys(contest.task for contest in contests))
    if len(tasks) < 2:
        return []
    found: dict[str, dict[str, MethodScores]] = {}
    for contest in contests:
        for one in contest.contestants:
            name = "untouched model" if one.untouched else one.name
            found.setdefault(name, {}).setdefault(contest.task, one)
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
    body = []
    for name, by_task in found.items():
        cells = [Cell(name, strong=True)]
        for task in tasks:
            level = by_task[task].level if task in by_task else None
            cells.append(
                Cell(units.level(metric, level.value), units.span(metric, level.low, level.high), number=True)
                if level
                else Cell("not available", "not measured", number=True)
            )
        if name in runs:
            middle = interquartile_mean_interval(runs[name], rng)
            n_runs = format.plural(runs[name].size, "run")
            span = units.span(metric, middle.low, middle.high) + f", {n_runs}" if len(runs[name]) > 1 else n_runs
            cells.append(Cell(units.level(metric, middle.value), span, number=True, strong=True))
        else:
            cells.append(Cell("not available", "not as many runs on every task", number=True))
        body.append(tuple(cells))
    header = (Cell("method"), *(Cell(task, number=True) for task in tasks), Cell("middle half of runs", number=True))
    return Table(f"{units.heading(metric)} on every task", header, tuple(body))


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
        body.append((Cell(f"{a} beats {b}"), Cell(f"{chance.value:.2f}", span, number=True)))
    header = (Cell("a run of one against a run of the next, on a task of these"), Cell("chance", number=True))
    return [Table(f"Probability of improvement by {units.name(metric)}", header, tuple(body))]
