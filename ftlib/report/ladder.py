"""A few-shot study of one task, its rungs together: a curve per method, where curves cross, what a target costs."""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ftlib.crossover import Budget, Crossing, crossing, label_budget
from ftlib.curves import Curve
from ftlib.errors import FtlibError, unknown
from ftlib.influence import label_values
from ftlib.metrics import metric_row
from ftlib.report import say
from ftlib.report.contest import Contest, contests, unit_of
from ftlib.report.entrants import Contestant, called
from ftlib.report.rows import OF_LABELS, values_of
from ftlib.report.rungs import shots_of
from ftlib.report.study import Study, read_study


class Goal(NamedTuple):
    """A level, and how many labels per class a method needs for it."""

    goal: str
    """Whose level it is, or "the plan's target"."""
    found: Budget


class Ladder:
    """The contests of one task, one for each number of labels per class, the fewest first."""

    def __init__(self, rungs: Sequence[Contest], target: float | None = None) -> None:
        self.rungs, self.target = tuple(rungs), target
        """target: what the plan wants to reach, in the metric's unit."""
        top = rungs[-1]
        self.task, self.metric, self.margin = top.task, top.metric, top.margin
        self.shots = tuple(rung.shots for rung in rungs)
        self.beside = rungs[0].beside
        """Who had all labels."""
        self.still = tuple(one for one in top.contestants if not shots_of(one))
        """Who needs none."""
        self.lines: dict[str, dict[int, Contestant]] = {}
        """Method -> labels per class -> its entry; the best at the most labels first."""
        for rung in reversed(rungs):
            for one in rung.contestants:
                if shots_of(one):
                    self.lines.setdefault(one.line, {})[rung.shots] = one
        self.lines = {name: dict(sorted(line.items())) for name, line in self.lines.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not compared, and why."""
        return tuple(dict.fromkeys(note for rung in self.rungs for note in rung.notes))

    @cached_property
    def crossings(self) -> tuple[Crossing, ...]:
        """Every two methods: where the one ahead at the most labels overtook the other; the earliest first."""
        found = [self._crossing(*pair) for pair in combinations(self.lines, 2)]
        return tuple(sorted(found, key=lambda one: (math.isnan(one.shots), one.shots, one.b, one.a)))

    @cached_property
    def budgets(self) -> tuple[Goal, ...]:
        """How many labels each method needs for the plan's target, to pass TF-IDF on all labels and the like, and to
        pass what needs none. Passing another is paired on its examples, so its chance counts too.
        """
        goals = [
            Goal("the plan's target", self._budget(name, self.target)) for name in self.lines if self.target is not None
        ]
        for one in (*self.beside, *self.still):
            if one.group is None or one.group.method != "majority":
                goals += [Goal(called(one), self._passing(one, name)) for name in self.lines]
        return tuple(goals)

    def curve(self, name: str) -> Curve:
        """The learning curve of one method, of the draws that it finished at every number of labels.

        Raises:
            FtlibError: No such method in the study, or no such draw.
        """
        if name not in self.lines:
            raise unknown("method", name, self.lines)
        line = self.lines[name]
        seeds = self.seeds(line, shots=list(line))
        if not seeds:
            raise FtlibError(f"{name}: no draw finished at every number of labels per class")
        return _curve(name, line, list(line), seeds, self.metric)

    def bands(self) -> dict[str, tuple[list[int], list[float], list[float], list[float]]]:
        """Method -> labels per class, its levels, and their lower and upper bounds, in per cent where that is how the
        metric is said: what `ftlib.plots.shots` draws.
        """
        by = say.scale(self.metric)
        return {
            name: (list(line), *([by * one.level[i] for one in line.values()] for i in range(3)))
            for name, line in self.lines.items()
        }

    def measured(self, *names: str) -> tuple[int, ...]:
        """The numbers of labels at which all of these methods were measured."""
        return tuple(k for k in self.shots if all(k in self.lines[name] for name in names))

    def place(self, shots: float, *names: str) -> str:
        """A number of labels in words, or where it lies outside what was measured of these methods."""
        if math.isnan(shots):
            return "not known"
        if math.isfinite(shots):
            return say.count(round(shots)) if shots >= 9.95 else f"{shots:.2g}"
        return f"below {self.measured(*names)[0]}" if shots < 0 else f"beyond {self.measured(*names)[-1]}"

    def seeds(self, *lines: dict[int, Contestant], shots: Sequence[int]) -> tuple[int, ...]:
        """The draws that these methods have at every one of these numbers of labels."""
        sets = [set(line[k].parts) for line in lines for k in shots if line[k].draws]
        return tuple(sorted(set.intersection(*sets))) if sets else (0,)

    def _crossing(self, first: str, second: str) -> Crossing:
        a, b = self.lines[first], self.lines[second]
        shots = self.measured(first, second)
        seeds = self.seeds(a, b, shots=shots)
        if not shots or not seeds:
            reason = (
                "no draw finished for both" if shots else "there is no number of labels at which both were measured"
            )
            return _unknown(first, second, reason)
        curves = [_curve(name, line, shots, seeds, self.metric) for name, line in ((first, a), (second, b))]
        up = 1 if metric_row(self.metric).higher_is_better else -1
        behind, ahead = sorted(curves, key=lambda curve: (up * curve.scores[-1].mean(), -up * curve.scores[0].mean()))
        return crossing(behind, ahead, **self.how())

    def _passing(self, one: Contestant, name: str) -> Budget:
        """Where a method passes one that has the same level whatever the number of labels."""
        line, level = self.lines[name], one.level.value
        shots = sorted(line)
        seeds = self.seeds(line, dict.fromkeys(shots, one), shots=shots)
        if not seeds:
            return _out_of_reach(name, level, "no draw finished at every number of labels")
        flat = _curve(called(one), dict.fromkeys(shots, one), shots, seeds, self.metric)
        found = crossing(flat, _curve(name, line, shots, seeds, self.metric), **self.how())
        bounds = found.shots, found.low, found.high
        return Budget(name, level, *bounds, found.ahead_last, found.n_draws, found.n, found.sentence, found.reason)

    def _budget(self, name: str, target: float) -> Budget:
        line = self.lines[name]
        seeds = self.seeds(line, shots=sorted(line))
        if not seeds:
            return _out_of_reach(name, target, "no draw finished at every number of labels")
        curve = _curve(name, line, sorted(line), seeds, self.metric)
        return label_budget(curve, target, unit=unit_of(self.metric), **self.how())

    def how(self) -> dict[str, Any]:
        """How its curves are compared: the named arguments of `ftlib.crossover.crossing`."""
        first = next(iter(self.rungs[0].contestants[0].parts.values()))
        better = metric_row(self.metric).higher_is_better
        return {"rng": np.random.default_rng(0), "clusters": first.clusters, "higher_is_better": better}


def ladders(found: Sequence[Contest], study: Study) -> Iterator[Contest | Ladder]:
    """The contests as they are told of: those of one task at several numbers of labels together."""
    rungs: list[Contest] = []
    for contest in (*found, None):
        if rungs and not (contest and contest.task == rungs[-1].task and contest.shots > rungs[-1].shots):
            # A task with a metric of its own has a target of its own, or none.
            settled = study.plan.tasks.get(rungs[0].task, study.plan)
            yield Ladder(rungs, getattr(settled, "target", None))
            rungs = []
        if contest and contest.shots:
            rungs.append(contest)
        elif contest:
            yield contest


def read_ladder(folder: str | Path, task: str = "") -> Ladder:
    """Read the few-shot part of a finished study, as its report does.

    Args:
        folder: The study.
        task: One of its tasks; empty: its first with a ladder.

    Raises:
        FtlibError: The study holds no record, or this task was not run at two or more numbers of labels per class.
    """
    study = read_study(folder)
    found = [one for one in ladders(list(contests(study)), study) if isinstance(one, Ladder)]
    for one in found:
        if one.task == (task or one.task):
            return one
    have = ", ".join(one.task for one in found) or "none"
    raise FtlibError(
        f"{folder}: {task or 'its task'} was not run at two or more numbers of shots; tasks that were: {have}"
    )


def _curve(name: str, line: dict[int, Contestant], shots: Sequence[int], seeds: Sequence[int], metric: str) -> Curve:
    return Curve(name, tuple(shots), tuple(_values(line[k], seeds, metric) for k in shots))


def _values(one: Contestant, seeds: Sequence[int], metric: str) -> np.ndarray:
    """Values per draw and example whose mean is the metric, in its own direction."""
    parts = [one.parts[seed] for seed in seeds] if one.draws else list(one.parts.values())[:1]
    if metric in OF_LABELS:
        return label_values(parts[0].truth, np.stack([part.chosen for part in parts]), metric)
    return np.stack([values_of(part, metric) for part in parts])


def _unknown(a: str, b: str, reason: str) -> Crossing:
    return Crossing(a, b, *[math.nan] * 5, 0, 0, f"no crossing of {a} and {b}: {reason}", reason)


def _out_of_reach(name: str, target: float, reason: str) -> Budget:
    return Budget(name, target, *[math.nan] * 4, 0, 0, f"no label budget of {name}: {reason}", reason)


def crossing_rows(ladder: Ladder) -> list[dict[str, Any]]:
    """The crossings as report.json holds them."""
    return [_plain(ladder, one._asdict(), one.a, one.b) for one in ladder.crossings]


def budget_rows(ladder: Ladder) -> list[dict[str, Any]]:
    """The label budgets as report.json holds them."""
    return [_plain(ladder, {"goal": one.goal} | one.found._asdict(), one.found.name) for one in ladder.budgets]


def _plain(ladder: Ladder, found: dict[str, Any], *names: str) -> dict[str, Any]:
    """Without infinities: a bound that is no number is null, and `<bound>_is` says where it lies: below the fewest
    labels measured, beyond the most, or undefined.
    """
    measured = ladder.measured(*names)
    row: dict[str, Any] = {"task": ladder.task, "metric": ladder.metric, "measured": list(measured)}
    for name, value in found.items():
        if name in ("shots", "low", "high"):
            row |= {name: float(value) if math.isfinite(value) else None, f"{name}_is": where(value)}
        else:
            row[name] = None if isinstance(value, float) and math.isnan(value) else value
    return row


def where(shots: float) -> str:
    """Where a number of labels lies.

    >>> [where(x) for x in (8.0, -math.inf, math.inf, math.nan)]
    ['number', 'below', 'beyond', 'undefined']
    """
    if math.isnan(shots):
        return "undefined"
    return "number" if math.isfinite(shots) else "below" if shots < 0 else "beyond"
