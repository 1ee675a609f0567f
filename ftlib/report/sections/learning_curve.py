"""A few-shot study of one task, its rungs together: a curve per method, where curves cross, what a target costs.

Method against method in a few-shot study, in words: where one overtakes another, and what is not shown of it.

The verdict of a few-shot study in words: what to use with the labels one has, and at how many that changes.

What the page shows of a few-shot study: curves, the spread of the draws, crossings, label budgets, each rung.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ftlib.config.experiment import DRAWS, FEW
from ftlib.config.methods import METHODS
from ftlib.core import format
from ftlib.core.errors import FtlibError, unknown
from ftlib.core.format import listed, plural, some
from ftlib.metrics import units
from ftlib.metrics.registry import metric_row
from ftlib.metrics.units import level
from ftlib.records.study import Study, read_study
from ftlib.report.figures import Figure, drawing, figure_of, panels, title
from ftlib.report.metric_rows import OF_LABELS, values_of
from ftlib.report.plots import lines
from ftlib.report.sections import comparison
from ftlib.report.sections.comparison import (
    MethodScores,
    TaskComparison,
    at,
    called,
    labels,
    run_values,
    shots_of,
    task_comparisons,
    unit_of,
)
from ftlib.report.sections.recommendation import Advice
from ftlib.report.tables import Cell, Table
from ftlib.stats.learning_curve import Budget, Crossing, Curve, crossing, label_budget
from ftlib.stats.linearize import label_values


class Goal(NamedTuple):
    """A level, and how many labels per class a method needs for it."""

    goal: str
    """Whose level it is, or "the plan's target"."""
    found: Budget


class LearningCurves:
    """The contests of one task, one for each number of labels per class, the fewest first."""

    def __init__(self, rungs: Sequence[TaskComparison], target: float | None = None) -> None:
        self.rungs, self.target = tuple(rungs), target
        """target: what the plan wants to reach, in the metric's unit."""
        top = rungs[-1]
        self.task, self.metric, self.margin = top.task, top.metric, top.margin
        self.shots = tuple(rung.shots for rung in rungs)
        self.beside = rungs[0].beside
        """Who had all labels."""
        self.still = tuple(one for one in top.contestants if not shots_of(one))
        """Who needs none."""
        self.lines: dict[str, dict[int, MethodScores]] = {}
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
            if one.group is None or not one.group.constant:
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
        metric is said: what `ftlib.report.plots.lines.shots` draws.
        """
        by = units.scale(self.metric)
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
            return format.count(round(shots)) if shots >= 9.95 else f"{shots:.2g}"
        return f"below {self.measured(*names)[0]}" if shots < 0 else f"beyond {self.measured(*names)[-1]}"

    def seeds(self, *lines: dict[int, MethodScores], shots: Sequence[int]) -> tuple[int, ...]:
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

    def _passing(self, one: MethodScores, name: str) -> Budget:
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
        """How its curves are compared: the named arguments of `ftlib.stats.learning_curve.crossing`."""
        first = next(iter(self.rungs[0].contestants[0].parts.values()))
        better = metric_row(self.metric).higher_is_better
        return {"clusters": first.clusters, "higher_is_better": better}


def learning_curves(found: Sequence[TaskComparison], study: Study) -> Iterator[TaskComparison | LearningCurves]:
    """The contests as they are told of: those of one task at several numbers of labels together."""
    rungs: list[TaskComparison] = []
    for contest in (*found, None):
        if rungs and not (contest and contest.task == rungs[-1].task and contest.shots > rungs[-1].shots):
            # A task with a metric of its own has a target of its own, or none.
            settled = study.plan.tasks.get(rungs[0].task, study.plan)
            yield LearningCurves(rungs, getattr(settled, "target", None))
            rungs = []
        if contest and contest.shots:
            rungs.append(contest)
        elif contest:
            yield contest


def read_learning_curves(folder: str | Path, task: str = "") -> LearningCurves:
    """Read the few-shot part of a finished study, as its report does.

    Args:
        folder: The study.
        task: One of its tasks; empty: its first with a ladder.

    Raises:
        FtlibError: The study holds no record, or this task was not run at two or more numbers of labels per class.
    """
    study = read_study(folder)
    found = [one for one in learning_curves(list(task_comparisons(study)), study) if isinstance(one, LearningCurves)]
    for one in found:
        if one.task == (task or one.task):
            return one
    have = ", ".join(one.task for one in found) or "none"
    raise FtlibError(
        f"{folder}: {task or 'its task'} was not run at two or more numbers of shots; tasks that were: {have}"
    )


def _curve(name: str, line: dict[int, MethodScores], shots: Sequence[int], seeds: Sequence[int], metric: str) -> Curve:
    return Curve(name, tuple(shots), tuple(_values(line[k], seeds, metric) for k in shots))


def _values(one: MethodScores, seeds: Sequence[int], metric: str) -> np.ndarray:
    """Values per draw and example whose mean is the metric, in its own direction."""
    parts = [one.parts[seed] for seed in seeds] if one.draws else list(one.parts.values())[:1]
    if metric in OF_LABELS:
        return label_values(parts[0].truth, np.stack([part.chosen for part in parts]), metric)
    return np.stack([values_of(part, metric) for part in parts])


def _unknown(a: str, b: str, reason: str) -> Crossing:
    return Crossing(a, b, *[math.nan] * 5, 0, 0, f"no crossing of {a} and {b}: {reason}", reason)


def _out_of_reach(name: str, target: float, reason: str) -> Budget:
    return Budget(name, target, *[math.nan] * 4, 0, 0, f"no label budget of {name}: {reason}", reason)


def crossing_rows(ladder: LearningCurves) -> list[dict[str, Any]]:
    """The crossings as report.json holds them."""
    return [_plain(ladder, one._asdict(), one.a, one.b) for one in ladder.crossings]


def budget_rows(ladder: LearningCurves) -> list[dict[str, Any]]:
    """The label budgets as report.json holds them."""
    return [_plain(ladder, {"goal": one.goal} | one.found._asdict(), one.found.name) for one in ladder.budgets]


def _plain(ladder: LearningCurves, found: dict[str, Any], *names: str) -> dict[str, Any]:
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


Answers = Sequence[tuple[str, ...]]
"""Who is best, stretch by stretch of numbers of labels."""


def _by_reference(name: str) -> tuple[float, str]:
    """What sorts methods so that those a reader wants others compared with come first."""
    method = METHODS.get(name.split()[0])
    return (method.reference if method and method.reference else math.inf), name


def turns(ladder: LearningCurves, answers: Answers, most: int = 4) -> list[str]:
    """Where the answer changes: the crossings of methods that are somewhere the best, and of the untouched model with
    them; and what the plan's target asks of each method.
    """
    pairs = {
        frozenset((a, b))
        for before, after in pairwise(answers)
        for a, b in product(before, after)
        if a != b and not {a, b} <= set(before) & set(after)
    }
    told = [
        one
        for one in ladder.crossings
        if {one.a, one.b} in pairs and (math.isfinite(one.low) or math.isfinite(one.high))
    ]
    still = [
        goal.found
        for goal in ladder.budgets
        if {goal.goal, goal.found.name} in pairs and math.isfinite(goal.found.shots)
    ]
    told = sorted([*told, *still], key=lambda one: one.shots)
    return [*(f"{one.sentence}." for one in told[:most]), *_labels_needed(ladder)]


def focus(ladder: LearningCurves, answers: Answers) -> str:
    """The method that a reader is owed the whole truth about: the contrastive one, else the one most often the best."""
    for name, line in ladder.lines.items():
        if any(one.group.method in METHODS and METHODS[one.group.method].contrastive for one in line.values()):
            return name
    wins = {name: sum(name in best for best in answers) for name in ladder.lines}
    return max(wins, key=lambda name: wins[name])


def standing(ladder: LearningCurves, answers: Answers) -> Iterator[str]:
    """Against each other method: where one is shown better, where not, and where it is worse."""
    name = focus(ladder, answers)
    others = sorted((other for other in ladder.lines if other != name), key=_by_reference)
    verdicts = {other: found for other in others if (found := _verdicts(ladder, name, other))}
    open_ = {other: [k for k in found if found[k] != "better"] for other, found in verdicts.items()}
    said = [f"{other} with {at(ks, ladder.shots)}" for other, ks in open_.items() if ks]
    if said:
        yield f"{name} is not shown better than {once(format.listed(said, 'or'))}."
    always: dict[tuple[int, ...], list[str]] = {}
    for other, ks in open_.items():
        if ks:
            yield _where(name, other, verdicts[other], ladder)
        else:
            always.setdefault(tuple(verdicts[other]), []).append(other)
    for ks, others in always.items():
        every = "at every number of labels, " if ks == ladder.shots else "wherever both were measured, "
        yield f"{name} is shown better than {format.listed(others)} {every}{at(ks, ladder.shots)}."
    for goal in ladder.budgets:
        if goal.found.name == name and goal.goal in map(called, ladder.beside):
            yield f"{goal.found.sentence}."


def _verdicts(ladder: LearningCurves, name: str, other: str) -> dict[int, str]:
    """Labels per class -> the verdict on a method against another."""
    found = {}
    for rung in ladder.rungs:
        a, b = ladder.lines[name].get(rung.shots), ladder.lines[other].get(rung.shots)
        duel = rung.duel(a.name, b.name) if a and b else None
        if duel:
            verdict = duel.comparison.verdict
            turned = {"better": "worse", "worse": "better"}.get(verdict, verdict)
            found[rung.shots] = verdict if duel.a == a.name else turned
    return found


def _where(name: str, other: str, verdicts: dict[int, str], ladder: LearningCurves) -> str:
    """One sentence on two methods at every number of labels; what is not shown is said as plainly as what is."""
    ks = {verdict: [k for k in verdicts if verdicts[k] == verdict] for verdict in sorted(set(verdicts.values()))}
    if len(ks) == 1:
        verdict, span = next(iter(ks)), at(tuple(verdicts), ladder.shots)
        within = units.margin(ladder.metric, ladder.margin)
        return {
            "worse": f"{name} is worse than {other} wherever both were measured, {span}.",
            "same": f"{name} and {other} are the same within {within} wherever both were measured, {span}.",
        }.get(verdict, f"Nor is {name} shown worse than {other} anywhere: {span}.")

    def with_(verdict: str) -> str:
        return f"with {at(ks[verdict], ladder.shots)}"

    said = f"{name} is shown better than {other} {with_('better')}" if "better" in ks else ""
    said = said or f"{name} is nowhere shown better than {other}"
    said += f", and worse {with_('worse')}" if "worse" in ks else ""
    said += (
        f"; {with_('same')} they are the same within {units.margin(ladder.metric, ladder.margin)}"
        if "same" in ks
        else ""
    )
    said += f"; {with_('undecided')} neither is shown better" if "undecided" in ks else ""
    return f"{once(said)}."


def once(said: str) -> str:
    """A sentence that says "labels per class" the first time only.

    >>> once("better with 1 label per class, worse with 2 to 8 labels per class")
    'better with 1 label per class, worse with 2 to 8'
    """
    head, _, tail = said.partition(" per class")
    return f"{head} per class{re.sub(r' labels? per class', '', tail)}"


def _labels_needed(ladder: LearningCurves) -> Iterator[str]:
    """What the plan's target asks of each method."""
    goals = [one for one in ladder.budgets if one.goal == "the plan's target"]
    if goals:
        goal = units.with_name(ladder.metric, ladder.target)
        said = "; ".join(f"{one.found.name} {needed(one, ladder)}" for one in goals)
        yield f"Labels per class for the plan's target, {goal}: {said}."


def needed(one: Goal, ladder: LearningCurves) -> str:
    """A label budget in a few words."""
    found = one.found
    if math.isnan(found.shots):
        return "not known"
    measured = ladder.measured(found.name)
    low, guess, high = (ladder.place(shots, found.name) for shots in (found.low, found.shots, found.high))
    guess = {-math.inf: f"{measured[0]} is enough", math.inf: f"not within {measured[-1]}"}.get(found.shots, guess)
    if found.low == found.high:
        return guess
    return f"{guess} ({low} to {high})"


MOST_STRETCHES = 3
"""In a headline."""


class CurveSegment(NamedTuple):
    """Neighbouring numbers of labels with one answer."""

    shots: tuple[int, ...]
    best: tuple[MethodScores, ...]
    """At the last of them: nothing is shown better than these; the highest mean first."""
    same: bool
    """Whether several are shown to be the same within the margin, rather than not told apart."""


def advise(ladder: LearningCurves, fallen: Sequence[str] = ()) -> Advice:
    """Put a ladder in words.

    Args:
        ladder: Of one task.
        fallen: What there is to say of runs that collapsed.
    """
    found = curve_segments(ladder)
    answers = [tuple(called(best) for best in one.best) for one in found]
    lines = [*turns(ladder, answers), *standing(ladder, answers)]
    return Advice(
        ladder.task,
        _headline(ladder, found),
        _lead(ladder, found),
        tuple(map(format.unbroken, lines)),
        tuple((at(one.shots, ladder.shots), _answer(one)) for one in found),
        tuple(map(format.unbroken, [*_limits(ladder), *fallen])),
        ladder.rungs[-1].contestants[0].name,
    )


def curve_segments(ladder: LearningCurves) -> list[CurveSegment]:
    """Who is best at each number of labels; neighbours with one answer are one stretch."""
    found: list[CurveSegment] = []
    for rung in ladder.rungs:
        best, same = _best(rung)
        names = {called(one) for one in best}
        if found and {called(one) for one in found[-1].best} == names:
            found[-1] = CurveSegment((*found[-1].shots, rung.shots), best, same and found[-1].same)
        else:
            found.append(CurveSegment((rung.shots,), best, same))
    return found


def _best(rung: TaskComparison) -> tuple[tuple[MethodScores, ...], bool]:
    """All that nothing is shown better than, the highest mean first; whether they are shown to be the same."""
    unbeaten = {place.name for place in rung.places if place.rank == 1}
    best = tuple(one for one in rung.contestants if one.name in unbeaten) or rung.contestants[:1]
    duels = [rung.duel(best[0].name, one.name) for one in best[1:]]
    return best, all(duel is not None and duel.comparison.verdict == "same" for duel in duels)


def _answer(one: CurveSegment) -> str:
    names = [called(best) for best in one.best]
    if len(names) == 1:
        return names[0]
    return f"{some(names, 4)} ({'the same within the margin' if one.same else 'not told apart'})"


def _headline(ladder: LearningCurves, found: Sequence[CurveSegment]) -> str:
    span = f"{ladder.shots[0]} to {labels(ladder.shots[-1])}"
    always = [one for one in found[-1].best if all(one.line in {best.line for best in part.best} for part in found)]
    names = [called(one) for one in always]
    if len(always) == 1:
        alone = [k for part in found if len(part.best) == 1 for k in part.shots]
        if always[0].untouched:
            return f"Leave the model as it is: from {span} nothing that was tried is shown better."
        if len(found) == 1:
            return f"Use {names[0]}: it is better than everything else from {span}."
        ahead = f", and with {at(alone, ladder.shots)} it is better than everything else" if alone else ""
        return f"Use {names[0]}: from {span} nothing is shown better{ahead}."
    if len(found) == 1:
        return f"No winner yet: {some(names, 4)} cannot be told apart at any number of labels, {span}."
    if always:
        return f"Use {listed(names, 'or') if len(names) < 4 else some(names, 3)}: from {span} nothing is shown better."
    shown, rest = list(found), ""
    if len(found) > MOST_STRETCHES:
        shown, rest = [part for part in found if len(part.best) == 1], "; elsewhere several cannot be told apart"
        if not 2 <= len(shown) <= MOST_STRETCHES:
            shown, rest = [found[0], found[-1]], "; in between the answer changes"
    said = ", ".join(f"{_short(part)} with {at(part.shots, ladder.shots)}" for part in shown)
    return f"It depends on how many labels you have: {once(said)}{rest}."


def _short(one: CurveSegment) -> str:
    names = [best.line if best.untouched and best.group else called(best) for best in one.best]
    return listed(names, "or") if len(names) <= 3 else f"{names[0]} or {len(names) - 1} others"


def _lead(ladder: LearningCurves, found: Sequence[CurveSegment]) -> str:
    """The levels at both ends, and of what needs no labels or had all."""
    ends = [(rung.contestants[0], rung.shots) for rung in (ladder.rungs[0], ladder.rungs[-1])]
    said = [f"{called(one)} {_level(ladder, one)} with {labels(k)}" for one, k in ends]
    here = {called(one) for one, _ in ends}
    others = [one for one in (*ladder.still, *ladder.beside) if called(one) not in here]
    said += [f"{called(one)} {_level(ladder, one)}" for one in others[:3]]
    name = units.name(ladder.metric)
    return f"{name[0].upper()}{name[1:]}: {'; '.join(said)}."


def _level(ladder: LearningCurves, one: MethodScores) -> str:
    span = units.span(ladder.metric, one.level.low, one.level.high)
    per_cent = " %" if units.scale(ladder.metric) > 1 else ""
    return f"{level(ladder.metric, one.level.value)}{per_cent}" + (f" ({span})" if span else "")


def _limits(ladder: LearningCurves) -> Iterator[str]:
    top = ladder.rungs[-1]
    noun = units.noun(ladder.metric)
    of = "" if top.of_text else f" of {ladder.metric}"
    yield (
        f"{plural(top.n, f'test {noun}')}, the same for every method; a difference matters from "
        f"{units.margin(ladder.metric, ladder.margin)}{of} on. Methods are compared with the same number of labels per "
        "class only; intervals are 95 %, and the comparisons at one number are corrected for being so many (Holm): one "
        "question for each number."
    )
    few: dict[int, dict[int, set[str]]] = {}
    for name, line in ladder.lines.items():
        for k, one in line.items():
            if k <= FEW and one.draws and len(one.parts) < DRAWS:
                few.setdefault(len(one.parts), {}).setdefault(k, set()).add(name)
    for n, found in sorted(few.items()):
        names = set().union(*found.values())
        of = "" if len(names) == len(ladder.lines) else f" of {listed(sorted(names))}"
        where = at(sorted(found), ladder.shots)
        yield (
            f"Caution: {'only ' * (n < 5)}{plural(n, 'draw')}{of} at {where}; at least {DRAWS} "
            "are advised, since with so few labels the draw alone moves the result (by 2 to 12 points, standard "
            "deviation at 8 labels per class in the published runs of SetFit, Tunstall et al. 2022)."
        )
    spread = [
        (max(values) - min(values), k, name)
        for name, line in ladder.lines.items()
        for k, one in line.items()
        if len(values := run_values(one, ladder.metric)) > 1
    ]
    if spread:
        most, k, name = max(spread)
        yield (
            f"The draw of the labels matters: between the best and the worst draw of {name} at {labels(k)} lie "
            f"{units.difference(ladder.metric, most, signed=False)}{units.unit(ladder.metric)}."
        )
    partly = [
        f"{name} ({at(tuple(line), ladder.shots).partition(' label')[0]})"
        for name, line in ladder.lines.items()
        if set(line) < set(ladder.shots)
    ]
    if partly:
        yield f"Not measured at every number of labels: {listed(partly)}; where a method is missing, it is not judged."


class CurvePointPage(NamedTuple):
    """One number of labels, in full."""

    said: str
    methods: Table
    duels: Table


class LearningCurvesPage(NamedTuple):
    """Everything that a section says of a ladder, beside what every section says."""

    ladder: LearningCurves
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
    rungs: tuple[CurvePointPage, ...]
    seconds: Table
    top: str
    """The most labels per class, in words."""


def learning_curves_page(ladder: LearningCurves, methods: Callable[[TaskComparison], Table]) -> LearningCurvesPage:
    """Draw and tabulate a ladder.

    Args:
        ladder: Of one task.
        methods: Makes the table of methods by metrics of one rung.
    """
    found = curve_segments(ladder)
    answers = [tuple(called(best) for best in one.best) for one in found]
    rungs = [CurvePointPage(labels(rung.shots), methods(rung), comparison.duels(rung)) for rung in ladder.rungs]
    return LearningCurvesPage(
        ladder,
        _stretches(ladder, found),
        tuple(map(format.unbroken, turns(ladder, answers))),
        focus(ladder, answers),
        tuple(map(format.unbroken, standing(ladder, answers))),
        _curve_figure(ladder),
        _spread(ladder),
        _crossings(ladder),
        _budgets(ladder),
        _matrix(ladder),
        tuple(rungs),
        _seconds(ladder),
        labels(ladder.shots[-1]),
    )


def _stretches(ladder: LearningCurves, found: Sequence[CurveSegment]) -> Table:
    """Who is best with how many labels."""
    metric = ladder.metric
    body = []
    for one in found:
        ends = [next(r for r in ladder.rungs if r.shots == k).contestants[0].level.value for k in one.shots]
        reached = [units.level(metric, value) for value in (ends[0], ends[-1])]
        names = [best.line for best in one.best]
        tied = ("the same within the margin" if one.same else "cannot be told apart") if len(names) > 1 else ""
        body.append(
            (
                Cell(at(one.shots, ladder.shots).partition(" label")[0], strong=True),
                Cell(format.some(names, 4), tied, strong=len(names) == 1),
                Cell(" to ".join(dict.fromkeys(reached)), number=True),
            )
        )
    header = (Cell("labels per class"), Cell("best"), Cell(units.heading(metric), "of the highest", number=True))
    return Table(f"The best with how many labels, {ladder.task}", header, tuple(body))


def _shown(metric: str, one: MethodScores | None) -> str:
    if one is None:
        return ""
    span = units.span(metric, one.level.low, one.level.high)
    return units.level(metric, one.level.value) + (f" ({span})" if span else "")


def _by_shots(ladder: LearningCurves, cell: Callable[[MethodScores], str]) -> Iterator[tuple[str, ...]]:
    for name, line in ladder.lines.items():
        yield (name, *(cell(line[k]) if k in line else "" for k in ladder.shots))


def _curve_figure(ladder: LearningCurves) -> Figure:
    metric, by = ladder.metric, units.scale(ladder.metric)
    series = ladder.bands()
    beside = [one for one in ladder.beside if one.group is None or not one.group.constant]
    goals = {one.line: by * one.level.value for one in beside}
    if ladder.target is not None:
        goals["target"] = by * ladder.target
    rows = [*_by_shots(ladder, lambda one: _shown(metric, one))]
    rows += [(called(one), *[_shown(metric, one)] * len(ladder.shots)) for one in (*ladder.still, *ladder.beside)]
    with drawing(3.3 + 0.06 * len(series)) as ax:
        lines.shots(
            ax,
            series,
            label=units.heading(metric),
            levels={one.line: by * one.level.value for one in ladder.still},
            goals=goals,
        )
        return figure_of(
            ax,
            "shots",
            f"{title(units.name(metric))} against labels per class",
            "Bands are 95 % intervals for new draws of the labels and "
            f"new test {units.noun(metric)}s. Lines across need "
            "no labels; dashed ones had all of them.",
            ("labels per class", *map(str, ladder.shots)),
            rows,
        )


def _spread(ladder: LearningCurves) -> Figure:
    metric, by = ladder.metric, units.scale(ladder.metric)
    runs = {
        name: {k: [by * value for value in run_values(one, metric)] for k, one in line.items()}
        for name, line in ladder.lines.items()
    }

    def cell(one: MethodScores) -> str:
        values = run_values(one, metric)
        if len(values) < 2:
            return f"{units.level(metric, values[0])} (1 draw)"
        sd = units.difference(metric, float(np.std(values, ddof=1)), signed=False)
        return f"{units.level(metric, min(values))} to {units.level(metric, max(values))}, SD {sd} ({len(values)})"

    with panels(len(runs), 2, 1.5) as axes:
        lines.draws(axes, runs, label=units.heading(metric))
        axes[0].figure.supxlabel("labels per class", fontsize=9)
        axes[0].figure.supylabel(units.heading(metric), fontsize=9)
        return figure_of(
            axes[0],
            "draws",
            "Spread from draw to draw",
            "Every mark is one run on a draw of labels of its own, the bar their mean. The table holds the worst and "
            "the best draw, their standard deviation (SD) and how many there are.",
            ("labels per class", *map(str, ladder.shots)),
            [*_by_shots(ladder, cell)],
        )


def _crossings(ladder: LearningCurves) -> Table:
    body = [
        (
            Cell(f"{one.b} over {one.a}", strong=True),
            Cell(ladder.place(one.shots, one.a, one.b), number=True),
            Cell(_span(ladder, one), number=True),
            Cell(format.unbroken(one.sentence)),
        )
        for one in ladder.crossings
    ]
    numbers = (Cell("from", "labels per class", number=True), Cell("95 % interval", number=True))
    return Table(
        f"From how many labels on one method is ahead for good, {ladder.task}",
        (Cell("who overtakes whom"), *numbers, Cell("in words")),
        tuple(body),
    )


def _span(ladder: LearningCurves, one: Crossing) -> str:
    return " to ".join(dict.fromkeys(ladder.place(shots, one.a, one.b) for shots in (one.low, one.high)))


def _budgets(ladder: LearningCurves) -> Table | None:
    goals: dict[str, dict[str, Any]] = {}
    for one in ladder.budgets:
        goals.setdefault(one.goal, {})[one.found.name] = one
    if not goals:
        return None
    header = [Cell("method")]
    for goal, found in goals.items():
        target = next(iter(found.values())).found.target
        header.append(Cell(goal, units.with_name(ladder.metric, target), number=True))
    body = [
        (
            Cell(name, strong=True),
            *(Cell(needed(found[name], ladder), number=True) for found in goals.values()),
        )
        for name in ladder.lines
    ]
    return Table(f"How many labels per class each method needs, {ladder.task}", tuple(header), tuple(body))


def _matrix(ladder: LearningCurves) -> Table:
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


def _seconds(ladder: LearningCurves) -> Table:
    rows = _by_shots(ladder, lambda one: format.seconds(one.cost("train_seconds")))
    body = [(Cell(name, strong=True), *(Cell(value, number=True) for value in values)) for name, *values in rows]
    header = (Cell("training time with"), *(Cell(labels(k), number=True) for k in ladder.shots))
    return Table(f"Training time of each method, mean over its draws, {ladder.task}", header, tuple(body))
