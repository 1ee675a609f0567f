"""A few-shot study of one task: a learning curve per method, where curves cross, how many labels a level takes.

Methods are compared with the same number of labels per class only. The verdict says what to use with the labels one has
and at how many that changes; of one method it says in full what is shown and what is not.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
from ftlib.report.blocks import Block, Cell, Figures, Fold, Heading, Note, OfTask, Section, Table, by_task, plain_table
from ftlib.report.figures import Figure, drawing, figure_of, panels, title
from ftlib.report.metric_rows import OF_LABELS, values_of
from ftlib.report.pairing import TESTED
from ftlib.report.plots import lines
from ftlib.report.sections.comparison import (
    MethodScores,
    TaskComparison,
    at,
    called,
    labels,
    methods_table,
    pairs_table,
    run_values,
    shots_of,
    task_comparisons,
    unit_of,
)
from ftlib.report.sections.recommendation import Advice
from ftlib.report.sections.runs import Unfinished
from ftlib.stats.learning_curve import Budget, Crossing, Curve, crossing, label_budget
from ftlib.stats.linearize import label_values

if TYPE_CHECKING:
    from ftlib.report.build import Reading


class Goal(NamedTuple):
    """A level, and how many labels per class a method needs for it."""

    goal: str
    """Whose level it is, or "the plan's target"."""
    found: Budget


class LearningCurves:
    """The comparisons of one task's methods, one for each number of labels per class, the fewest first."""

    def __init__(self, comparisons: Sequence[TaskComparison], target: float | None = None) -> None:
        self.comparisons, self.target = tuple(comparisons), target
        """target: what the plan wants to reach, in the metric's unit."""
        top = comparisons[-1]
        self.task, self.metric, self.margin = top.task, top.metric, top.margin
        self.shots = tuple(comparison.shots for comparison in comparisons)
        self.beside = comparisons[0].beside
        """Who had all labels."""
        self.still = tuple(one for one in top.methods if not shots_of(one))
        """Who needs none."""
        self.lines: dict[str, dict[int, MethodScores]] = {}
        """Method -> labels per class -> its entry; the best at the most labels first."""
        for comparison in reversed(comparisons):
            for one in comparison.methods:
                if shots_of(one):
                    self.lines.setdefault(one.line, {})[comparison.shots] = one
        self.lines = {name: dict(sorted(line.items())) for name, line in self.lines.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not compared, and why."""
        return tuple(dict.fromkeys(note for comparison in self.comparisons for note in comparison.notes))

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
        """The learning curve of one method, of the few-shot samples that it finished at every number of labels.

        Raises:
            FtlibError: No such method in the study, or no such sample.
        """
        if name not in self.lines:
            raise unknown("method", name, self.lines)
        line = self.lines[name]
        seeds = self.seeds(line, shots=list(line))
        if not seeds:
            raise FtlibError(f"{name}: no few-shot sample finished at every number of labels per class")
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
        """The few-shot samples (seeds) that these methods have at every one of these numbers of labels."""
        sets = [set(line[k].parts) for line in lines for k in shots if line[k].draws]
        return tuple(sorted(set.intersection(*sets))) if sets else (0,)

    def _crossing(self, first: str, second: str) -> Crossing:
        a, b = self.lines[first], self.lines[second]
        shots = self.measured(first, second)
        seeds = self.seeds(a, b, shots=shots)
        if not shots or not seeds:
            reason = (
                "no few-shot sample finished for both"
                if shots
                else "there is no number of labels at which both were measured"
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
            return _out_of_reach(name, level, "no few-shot sample finished at every number of labels")
        flat = _curve(called(one), dict.fromkeys(shots, one), shots, seeds, self.metric)
        found = crossing(flat, _curve(name, line, shots, seeds, self.metric), **self.how())
        bounds = found.shots, found.low, found.high
        return Budget(name, level, *bounds, found.ahead_last, found.n_draws, found.n, found.sentence, found.reason)

    def _budget(self, name: str, target: float) -> Budget:
        line = self.lines[name]
        seeds = self.seeds(line, shots=sorted(line))
        if not seeds:
            return _out_of_reach(name, target, "no few-shot sample finished at every number of labels")
        curve = _curve(name, line, sorted(line), seeds, self.metric)
        return label_budget(curve, target, unit=unit_of(self.metric), **self.how())

    def how(self) -> dict[str, Any]:
        """How its curves are compared: the named arguments of `ftlib.stats.learning_curve.crossing`."""
        first = next(iter(self.comparisons[0].methods[0].parts.values()))
        better = metric_row(self.metric).higher_is_better
        return {"clusters": first.clusters, "higher_is_better": better}


def learning_curves(found: Sequence[TaskComparison], study: Study) -> Iterator[TaskComparison | LearningCurves]:
    """The comparisons as they are told of: those of one task at several numbers of labels together."""
    comparisons: list[TaskComparison] = []
    for comparison in (*found, None):
        if comparisons and not (
            comparison and comparison.task == comparisons[-1].task and comparison.shots > comparisons[-1].shots
        ):
            # A task with a metric of its own has a target of its own, or none.
            settled = study.plan.tasks.get(comparisons[0].task, study.plan)
            yield LearningCurves(comparisons, getattr(settled, "target", None))
            comparisons = []
        if comparison and comparison.shots:
            comparisons.append(comparison)
        elif comparison:
            yield comparison


def read_learning_curves(folder: str | Path, task: str = "") -> LearningCurves:
    """Read the few-shot part of a finished study, as its report does.

    Args:
        folder: The study.
        task: One of its tasks; empty: its first with learning curves.

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
    """Values per few-shot sample and example whose mean is the metric, in its own direction."""
    parts = [one.parts[seed] for seed in seeds] if one.draws else list(one.parts.values())[:1]
    if metric in OF_LABELS:
        return label_values(parts[0].truth, np.stack([part.chosen for part in parts]), metric)
    return np.stack([values_of(part, metric) for part in parts])


def _unknown(a: str, b: str, reason: str) -> Crossing:
    return Crossing(a, b, *[math.nan] * 5, 0, 0, f"no crossing of {a} and {b}: {reason}", reason)


def _out_of_reach(name: str, target: float, reason: str) -> Budget:
    return Budget(name, target, *[math.nan] * 4, 0, 0, f"no label budget of {name}: {reason}", reason)


def crossing_rows(curves: LearningCurves) -> list[dict[str, Any]]:
    """The crossings as report.json holds them."""
    return [_plain(curves, one._asdict(), one.a, one.b) for one in curves.crossings]


def budget_rows(curves: LearningCurves) -> list[dict[str, Any]]:
    """The label budgets as report.json holds them."""
    return [_plain(curves, {"goal": one.goal} | one.found._asdict(), one.found.name) for one in curves.budgets]


def _plain(curves: LearningCurves, found: dict[str, Any], *names: str) -> dict[str, Any]:
    """Without infinities: a bound that is no number is null, and `<bound>_is` says where it lies: below the fewest
    labels measured, beyond the most, or undefined.
    """
    measured = curves.measured(*names)
    row: dict[str, Any] = {"task": curves.task, "metric": curves.metric, "measured": list(measured)}
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
"""Who is best, segment by segment of the numbers of labels."""


def _by_reference(name: str) -> tuple[float, str]:
    """What sorts methods so that those a reader wants others compared with come first."""
    method = METHODS.get(name.split()[0])
    return (method.reference if method and method.reference else math.inf), name


def answer_changes(curves: LearningCurves, answers: Answers, most: int = 4) -> list[str]:
    """Where the answer changes: the crossings of methods that are somewhere the best, and of the base model with
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
        for one in curves.crossings
        if {one.a, one.b} in pairs and (math.isfinite(one.low) or math.isfinite(one.high))
    ]
    still = [
        goal.found
        for goal in curves.budgets
        if {goal.goal, goal.found.name} in pairs and math.isfinite(goal.found.shots)
    ]
    told = sorted([*told, *still], key=lambda one: one.shots)
    return [*(f"{one.sentence}." for one in told[:most]), *_labels_needed(curves)]


def focus(curves: LearningCurves, answers: Answers) -> str:
    """The method that a reader is owed the whole truth about: the contrastive one, else the one most often the best."""
    for name, line in curves.lines.items():
        if any(one.group.method in METHODS and METHODS[one.group.method].contrastive for one in line.values()):
            return name
    wins = {name: sum(name in best for best in answers) for name in curves.lines}
    return max(wins, key=lambda name: wins[name])


def what_is_shown(curves: LearningCurves, answers: Answers) -> Iterator[str]:
    """Against each other method: where one is shown better, where not, and where it is worse."""
    name = focus(curves, answers)
    others = sorted((other for other in curves.lines if other != name), key=_by_reference)
    verdicts = {other: found for other in others if (found := _verdicts(curves, name, other))}
    open_ = {other: [k for k in found if found[k] != "better"] for other, found in verdicts.items()}
    said = [f"{other} with {at(ks, curves.shots)}" for other, ks in open_.items() if ks]
    if said:
        yield f"{name} is not shown better than {once(format.listed(said, 'or'))}."
    always: dict[tuple[int, ...], list[str]] = {}
    for other, ks in open_.items():
        if ks:
            yield _where(name, other, verdicts[other], curves)
        else:
            always.setdefault(tuple(verdicts[other]), []).append(other)
    for ks, others in always.items():
        every = "at every number of labels, " if ks == curves.shots else "wherever both were measured, "
        yield f"{name} is shown better than {format.listed(others)} {every}{at(ks, curves.shots)}."
    for goal in curves.budgets:
        if goal.found.name == name and goal.goal in map(called, curves.beside):
            yield f"{goal.found.sentence}."


def _verdicts(curves: LearningCurves, name: str, other: str) -> dict[int, str]:
    """Labels per class -> the verdict on a method against another."""
    found = {}
    for comparison in curves.comparisons:
        a, b = curves.lines[name].get(comparison.shots), curves.lines[other].get(comparison.shots)
        if a and b and (verdict := comparison.verdict(a.name, b.name)):
            found[comparison.shots] = verdict
    return found


def _where(name: str, other: str, verdicts: dict[int, str], curves: LearningCurves) -> str:
    """One sentence on two methods at every number of labels; what is not shown is said as plainly as what is."""
    ks = {verdict: [k for k in verdicts if verdicts[k] == verdict] for verdict in sorted(set(verdicts.values()))}
    if len(ks) == 1:
        verdict, span = next(iter(ks)), at(tuple(verdicts), curves.shots)
        within = units.margin(curves.metric, curves.margin)
        return {
            "worse": f"{name} is worse than {other} wherever both were measured, {span}.",
            "same": f"{name} and {other} are equivalent within {within} wherever both were measured, {span}.",
        }.get(verdict, f"Nor is {name} shown worse than {other} anywhere: {span}.")

    def with_(verdict: str) -> str:
        return f"with {at(ks[verdict], curves.shots)}"

    said = f"{name} is shown better than {other} {with_('better')}" if "better" in ks else ""
    said = said or f"{name} is nowhere shown better than {other}"
    said += f", and worse {with_('worse')}" if "worse" in ks else ""
    within = units.margin(curves.metric, curves.margin)
    said += f"; {with_('same')} they are equivalent within {within}" if "same" in ks else ""
    said += f"; {with_('undecided')} neither is shown better" if "undecided" in ks else ""
    return f"{once(said)}."


def once(said: str) -> str:
    """A sentence that says "labels per class" the first time only.

    >>> once("better with 1 label per class, worse with 2 to 8 labels per class")
    'better with 1 label per class, worse with 2 to 8'
    """
    head, _, tail = said.partition(" per class")
    return f"{head} per class{re.sub(r' labels? per class', '', tail)}"


def _labels_needed(curves: LearningCurves) -> Iterator[str]:
    """What the plan's target asks of each method."""
    goals = [one for one in curves.budgets if one.goal == "the plan's target"]
    if goals:
        goal = units.with_name(curves.metric, curves.target)
        said = "; ".join(f"{one.found.name} {needed(one, curves)}" for one in goals)
        yield f"Labels per class for the plan's target, {goal}: {said}."


def needed(one: Goal, curves: LearningCurves) -> str:
    """A label budget in a few words."""
    found = one.found
    if math.isnan(found.shots):
        return "not known"
    measured = curves.measured(found.name)
    low, guess, high = (curves.place(shots, found.name) for shots in (found.low, found.shots, found.high))
    guess = {-math.inf: f"{measured[0]} is enough", math.inf: f"not within {measured[-1]}"}.get(found.shots, guess)
    if found.low == found.high:
        return guess
    return f"{guess} ({low} to {high})"


MOST_SEGMENTS = 3
"""In a headline."""


class CurveSegment(NamedTuple):
    """Neighbouring numbers of labels with one answer."""

    shots: tuple[int, ...]
    best: tuple[MethodScores, ...]
    """At the last of them: nothing is shown better than these; the highest mean first."""
    same: bool
    """Whether several are shown to be equivalent within the margin, rather than not shown to differ."""

    @property
    def names(self) -> tuple[str, ...]:
        """What to call the best."""
        return tuple(map(called, self.best))

    @property
    def tied(self) -> str:
        """What is known of several."""
        return "equivalent within the margin" if self.same else "not shown to differ"


def advise(
    curves: LearningCurves,
    limits: Sequence[str] = (),
    unfinished: Unfinished | None = None,
    caution: Sequence[str] = (),
) -> Advice:
    """The verdict on a few-shot study in words.

    Args:
        limits: What there is to say of collapsed runs and of tuning.
        unfinished: What of the task has not run.
        caution: What is wrong with the data.
    """
    found = curve_segments(curves)
    answers = [one.names for one in found]
    lines = [*answer_changes(curves, answers), *what_is_shown(curves, answers)]
    return Advice(
        curves.task,
        _headline(curves, found, unfinished),
        _lead(curves, found),
        tuple(map(format.unbroken, [*([unfinished.detail] if unfinished else []), *lines])),
        tuple((at(one.shots, curves.shots), _answer(one)) for one in found),
        tuple(map(format.unbroken, [*_limits(curves), *limits])),
        curves.comparisons[-1].methods[0].name,
        tuple(caution),
    )


def curve_segments(curves: LearningCurves) -> list[CurveSegment]:
    """Who is best at each number of labels; neighbours with one answer are one segment."""
    found: list[CurveSegment] = []
    for comparison in curves.comparisons:
        best, same = _best(comparison)
        if found and {called(one) for one in best} == set(found[-1].names):
            found[-1] = CurveSegment((*found[-1].shots, comparison.shots), best, same and found[-1].same)
        else:
            found.append(CurveSegment((comparison.shots,), best, same))
    return found


def _best(comparison: TaskComparison) -> tuple[tuple[MethodScores, ...], bool]:
    """All that nothing is shown better than, the highest mean first; whether they are shown to be equivalent."""
    best = comparison.top
    return best, all(comparison.verdict(a.name, b.name) == "same" for a, b in combinations(best, 2))


def _answer(one: CurveSegment) -> str:
    names = list(one.names)
    return names[0] if len(names) == 1 else f"{some(names, 4)} ({one.tied})"


def _headline(curves: LearningCurves, found: Sequence[CurveSegment], unfinished: Unfinished | None) -> str:
    """What to use with how many labels; while runs are missing nothing is to be used, and it says what is so far."""
    span = f"{curves.shots[0]} to {labels(curves.shots[-1])}"
    start = f"{unfinished.headline}. So far " if unfinished else ""
    always = [one for one in found[-1].best if all(one.line in {best.line for best in part.best} for part in found)]
    names = [called(one) for one in always]
    if len(always) == 1:
        alone = [k for k in curves.shots if _beats_all(curves, always[0], k)]
        if always[0].untouched:
            return f"{start or 'Leave the model as it is: '}from {span} nothing that was tried is shown better."
        if len(alone) == len(curves.shots):
            so = f"{start}{names[0]} is" if start else f"Use {names[0]}: it is"
            return f"{so} better than everything else from {span}."
        ahead = f", and with {at(alone, curves.shots)} it is better than everything else" if alone else ""
        if start:
            return f"{start}nothing is shown better than {names[0]} from {span}{ahead}."
        return f"Use {names[0]}: from {span} nothing is shown better{ahead}."
    if len(found) == 1:
        tie = f"{some(names, 4)} are not shown to differ at any number of labels, {span}."
        return f"{start or 'No winner yet: '}{tie}"
    if always:
        if start:
            return f"{start}nothing is shown better than {listed(names, 'or')} from {span}."
        return f"Use {listed(names, 'or') if len(names) < 4 else some(names, 3)}: from {span} nothing is shown better."
    shown, rest = list(found), ""
    if len(found) > MOST_SEGMENTS:
        shown, rest = [part for part in found if len(part.best) == 1], "; elsewhere several are not shown to differ"
        if not 2 <= len(shown) <= MOST_SEGMENTS:
            shown, rest = [found[0], found[-1]], "; in between the answer changes"
    said = ", ".join(f"{_short(part)} with {at(part.shots, curves.shots)}" for part in shown)
    return f"{f'{start}it' if start else 'It'} depends on how many labels you have: {once(said)}{rest}."


def _beats_all(curves: LearningCurves, one: MethodScores, shots: int) -> bool:
    """Whether a method is shown better than every other that was compared at a number of labels."""
    comparison = curves.comparisons[curves.shots.index(shots)]
    here = next((other for other in comparison.methods if other.line == one.line), None)
    return here is not None and all(
        comparison.verdict(here.name, other.name) == "better" for other in comparison.methods if other is not here
    )


def _short(one: CurveSegment) -> str:
    names = [best.line if best.untouched and best.group else called(best) for best in one.best]
    return listed(names, "or") if len(names) <= 3 else f"{names[0]} or {len(names) - 1} others"


def _lead(curves: LearningCurves, found: Sequence[CurveSegment]) -> str:
    """The levels at both ends, and of what needs no labels or had all."""
    ends = [(comparison.methods[0], comparison.shots) for comparison in (curves.comparisons[0], curves.comparisons[-1])]
    said = [f"{called(one)} {_level(curves, one)} with {labels(k)}" for one, k in ends]
    here = {called(one) for one, _ in ends}
    others = [one for one in (*curves.still, *curves.beside) if called(one) not in here]
    said += [f"{called(one)} {_level(curves, one)}" for one in others[:3]]
    name = units.name(curves.metric)
    return f"{name[0].upper()}{name[1:]}: {'; '.join(said)}."


def _level(curves: LearningCurves, one: MethodScores) -> str:
    span = units.span(curves.metric, one.level.low, one.level.high)
    per_cent = " %" if units.scale(curves.metric) > 1 else ""
    return f"{level(curves.metric, one.level.value)}{per_cent}" + (f" ({span})" if span else "")


def _limits(curves: LearningCurves) -> Iterator[str]:
    top = curves.comparisons[-1]
    noun = units.noun(curves.metric)
    of = "" if units.in_own_unit(curves.metric) else f" of {curves.metric}"
    yield (
        f"{plural(top.n, f'test {noun}')}, the same for every method; smallest difference of practical interest: "
        f"{units.margin(curves.metric, curves.margin)}{of}. Methods are compared with the same number of labels per "
        "class only; intervals are 95 %, and the comparisons at one number are corrected for being so many (Holm): one "
        "question for each number."
    )
    few: dict[int, dict[int, set[str]]] = {}
    for name, line in curves.lines.items():
        for k, one in line.items():
            if k <= FEW and one.draws and len(one.parts) < DRAWS:
                few.setdefault(len(one.parts), {}).setdefault(k, set()).add(name)
    for n, found in sorted(few.items()):
        names = set().union(*found.values())
        of = "" if len(names) == len(curves.lines) else f" of {listed(sorted(names))}"
        where = at(sorted(found), curves.shots)
        yield (
            f"Caution: {'only ' * (n < 5)}{plural(n, 'few-shot sample')}{of} at {where}; at least {DRAWS} "
            "are advised, since with so few labels the sample alone moves the result (by 2 to 12 points, standard "
            "deviation at 8 labels per class in the published runs of SetFit, Tunstall et al. 2022)."
        )
    spread = [
        (max(values) - min(values), k, name)
        for name, line in curves.lines.items()
        for k, one in line.items()
        if len(values := run_values(one, curves.metric)) > 1
    ]
    if spread:
        most, k, name = max(spread)
        yield (
            f"The sample of the labels matters: between the best and the worst one of {name} at {labels(k)} lie "
            f"{units.difference(curves.metric, most, signed=False)}{units.unit(curves.metric)}."
        )
    partly = [
        f"{name} ({at(tuple(line), curves.shots).partition(' label')[0]})"
        for name, line in curves.lines.items()
        if set(line) < set(curves.shots)
    ]
    if partly:
        yield f"Not measured at every number of labels: {listed(partly)}; where a method is missing, it is not judged."


class FirstScreen(NamedTuple):
    """What stands beside the verdict of a few-shot study."""

    best: Table
    """Who is best with how many labels."""
    changes: tuple[str, ...]
    """Where the answer changes."""
    focus: str
    shown: tuple[str, ...]
    """What is shown of that method against the others, and what is not."""
    curve: Figure


def first_screen(curves: LearningCurves) -> FirstScreen:
    """The answer by number of labels, and the curves."""
    found = curve_segments(curves)
    answers = [one.names for one in found]
    return FirstScreen(
        _best_table(curves, found),
        tuple(map(format.unbroken, answer_changes(curves, answers))),
        focus(curves, answers),
        tuple(map(format.unbroken, what_is_shown(curves, answers))),
        _curve_figure(curves),
    )


def _best_table(curves: LearningCurves, found: Sequence[CurveSegment]) -> Table:
    """Who is best with how many labels."""
    metric, body = curves.metric, []
    highest = {comparison.shots: comparison.methods[0].level.value for comparison in curves.comparisons}
    for one in found:
        reached = [units.level(metric, highest[shots]) for shots in (one.shots[0], one.shots[-1])]
        names = [best.line for best in one.best]
        best = Cell(format.some(names, 4), one.tied if len(names) > 1 else "", strong=len(names) == 1)
        body.append((at(one.shots, curves.shots).partition(" label")[0], best, " to ".join(dict.fromkeys(reached))))
    header = ("labels per class", "best", (units.heading(metric), "of the highest"))
    return plain_table(f"The best with how many labels, {curves.task}", header, body, texts=2)


def _shown(metric: str, one: MethodScores | None) -> str:
    if one is None:
        return ""
    span = units.span(metric, one.level.low, one.level.high)
    return units.level(metric, one.level.value) + (f" ({span})" if span else "")


def _by_shots(curves: LearningCurves, cell: Callable[[MethodScores], str]) -> Iterator[tuple[str, ...]]:
    """For each method its name and a cell for each number of labels."""
    for name, line in curves.lines.items():
        yield (name, *(cell(line[k]) if k in line else "" for k in curves.shots))


def _curve_figure(curves: LearningCurves) -> Figure:
    metric, by = curves.metric, units.scale(curves.metric)
    series = curves.bands()
    with_all = [one for one in curves.beside if one.group is None or not one.group.constant]
    goals = {one.line: by * one.level.value for one in with_all}
    if curves.target is not None:
        goals["target"] = by * curves.target
    rows = [*_by_shots(curves, lambda one: _shown(metric, one))]
    rows += [(called(one), *[_shown(metric, one)] * len(curves.shots)) for one in (*curves.still, *curves.beside)]
    with drawing(3.3 + 0.06 * len(series)) as ax:
        lines.shots(
            ax,
            series,
            label=units.heading(metric),
            levels={one.line: by * one.level.value for one in curves.still},
            goals=goals,
        )
        return figure_of(
            ax,
            "shots",
            f"{title(units.name(metric))} against labels per class",
            f"Bands are 95 % intervals for new few-shot samples and new test {units.noun(metric)}s. Lines across need "
            "no labels; dashed ones had all of them.",
            ("labels per class", *map(str, curves.shots)),
            rows,
        )


def _samples_figure(curves: LearningCurves) -> Figure:
    metric, by = curves.metric, units.scale(curves.metric)
    runs = {
        name: {k: [by * value for value in run_values(one, metric)] for k, one in line.items()}
        for name, line in curves.lines.items()
    }

    def cell(one: MethodScores) -> str:
        values = run_values(one, metric)
        if len(values) < 2:
            return f"{units.level(metric, values[0])} (1 sample)"
        sd = units.difference(metric, float(np.std(values, ddof=1)), signed=False)
        return f"{units.level(metric, min(values))} to {units.level(metric, max(values))}, SD {sd} ({len(values)})"

    with panels(len(runs), 2, 1.5) as axes:
        lines.draws(axes, runs, label=units.heading(metric))
        axes[0].figure.supxlabel("labels per class", fontsize=9)
        axes[0].figure.supylabel(units.heading(metric), fontsize=9)
        return figure_of(
            axes[0],
            "samples",
            "Spread from sample to sample",
            "Every mark is one run on a few-shot sample of its own, the bar their mean. The table holds the worst and "
            "the best one, their standard deviation (SD) and how many there are.",
            ("labels per class", *map(str, curves.shots)),
            [*_by_shots(curves, cell)],
        )


def _crossings_table(curves: LearningCurves) -> Table:
    body = [
        (
            f"{one.b} over {one.a}",
            format.unbroken(one.sentence),
            curves.place(one.shots, one.a, one.b),
            " to ".join(dict.fromkeys(curves.place(shots, one.a, one.b) for shots in (one.low, one.high))),
        )
        for one in curves.crossings
    ]
    header = ("who overtakes whom", "in words", ("from", "labels per class"), "95 % interval")
    return plain_table(f"From how many labels on one method is ahead for good, {curves.task}", header, body, texts=2)


def _budgets_table(curves: LearningCurves) -> Table | None:
    goals: dict[str, dict[str, Goal]] = {}
    for one in curves.budgets:
        goals.setdefault(one.goal, {})[one.found.name] = one
    if not goals:
        return None
    targets = {goal: next(iter(found.values())).found.target for goal, found in goals.items()}
    header = ["method", *((goal, units.with_name(curves.metric, target)) for goal, target in targets.items())]
    body = [(name, *(needed(found[name], curves) for found in goals.values())) for name in curves.lines]
    return plain_table(f"How many labels per class each method needs, {curves.task}", header, body)


def _pairs_table(curves: LearningCurves) -> Table:
    """Every two methods at every number of labels: who is shown better."""
    pairs: dict[tuple[str, str], dict[int, str]] = {}
    for comparison in reversed(curves.comparisons):
        names = {one.name: one.line for one in comparison.methods}
        for pair in comparison.pairs:
            a, b = names[pair.a], names[pair.b]
            said = {"better": a, "worse": b, "same": "equivalent", "undecided": "·"}[pair.comparison.verdict]
            key = (b, a) if (b, a) in pairs else (a, b)
            pairs.setdefault(key, {})[comparison.shots] = said
    body = [(f"{a}, {b}", *(found.get(k, "") for k in curves.shots)) for (a, b), found in pairs.items()]
    header = (("two methods", "labels per class:"), *map(str, curves.shots))
    return plain_table(f"Who is shown better at each number of labels, {curves.task}", header, body)


def _seconds_table(curves: LearningCurves) -> Table:
    rows = _by_shots(curves, lambda one: format.seconds(one.cost("train_seconds")))
    header = ("training time with", *map(labels, curves.shots))
    return plain_table(f"Training time of each method, mean over its samples, {curves.task}", header, list(rows))


def _read(reading: "Reading") -> tuple["Reading", list[OfTask]] | None:
    found = [one for one in reading.told if isinstance(one, LearningCurves)]
    headed = len(reading.told) > 1
    return (reading, [OfTask(one.task if headed else "", one) for one in found]) if found else None


def _rows(items: tuple["Reading", list[OfTask]]) -> dict[str, list[dict[str, Any]]]:
    found = [one.found for one in items[1]]
    return {
        "crossovers": [row for curves in found for row in crossing_rows(curves)],
        "label_budgets": [row for curves in found for row in budget_rows(curves)],
    }


def _blocks(reading: "Reading", curves: LearningCurves) -> Iterator[Block]:
    noun = units.noun(curves.metric)
    yield Heading("How far one few-shot sample is from another", level=4)
    yield Note(
        "A few labels are a matter of luck: who labels other examples gets another model. What counts for you is one "
        "mark, not the bar."
    )
    yield Figures((_samples_figure(curves),), wide=True)
    if curves.crossings:
        yield Heading("Where one method overtakes another", level=4)
        yield Note(
            "The number of labels per class from which on a method is ahead for good, read off straight lines between "
            f"the numbers measured; paired on few-shot samples and test {noun}s. “Below” and “beyond” mean before the "
            "fewest and after the most that were measured."
        )
        yield _crossings_table(curves)
    if budgets := _budgets_table(curves):
        yield Heading("How many labels it takes", level=4)
        yield Note(
            "Labels per class, with 95 % intervals, until a method is, for good, ahead of what its column names or at "
            "the target."
        )
        yield budgets
    yield Heading("Method against method at every number of labels", level=4)
    yield Note(
        "The better of two where a difference is shown; “equivalent” is shown to lie within the margin, "
        f"{TESTED}; “·” means that neither is shown. Corrected (Holm) for all comparisons at one number of labels."
    )
    yield _pairs_table(curves)
    for comparison in curves.comparisons:
        pairs = pairs_table(comparison)
        summary = f"{labels(comparison.shots)}: {plural(len(pairs.rows), 'comparison')}, every metric"
        shown = (methods_table(reading.study, comparison, reading.rows), *([pairs] if pairs.rows else []))
        yield Fold(summary, shown)
    yield Heading("Training time", level=4)
    yield _seconds_table(curves)


_AT = ("measured", "shots", "shots_is", "low", "low_is", "high", "high_is")

SECTION = Section(
    name="learning_curves",
    title="Learning curves",
    read=_read,
    columns={
        "crossovers": (
            "task", "metric", "a", "b", *_AT, "ahead_first", "ahead_last", "n_draws", "n", "sentence", "reason",
        ),
        "label_budgets": (
            "task", "metric", "name", "goal", "target", *_AT, "reached_last", "n_draws", "n", "sentence", "reason",
        ),
    },
    rows=_rows,
    blocks=lambda items: by_task(items[1], lambda curves: _blocks(items[0], curves)),
)  # fmt: skip
