"""Method against method in a few-shot study, in words: where one overtakes another, and what is not shown of it."""

import math
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise, product

from ftlib.report import say
from ftlib.report.entrants import called
from ftlib.report.ladder import Goal, Ladder
from ftlib.report.rungs import at

Answers = Sequence[tuple[str, ...]]
"""Who is best, stretch by stretch of numbers of labels."""
_FIRST = ("full", "probe", "tfidf")
"""Whom a reader wants a contrastive run compared with first."""


def turns(ladder: Ladder, answers: Answers, most: int = 4) -> list[str]:
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


def focus(ladder: Ladder, answers: Answers) -> str:
    """The method that a reader is owed the whole truth about: the contrastive one, else the one most often the best."""
    for name, line in ladder.lines.items():
        if any(one.group.method == "setfit" for one in line.values()):
            return name
    wins = {name: sum(name in best for best in answers) for name in ladder.lines}
    return max(wins, key=lambda name: wins[name])


def standing(ladder: Ladder, answers: Answers) -> Iterator[str]:
    """Against each other method: where one is shown better, where not, and where it is worse."""
    name = focus(ladder, answers)
    others = sorted(
        (other for other in ladder.lines if other != name),
        key=lambda other: (_FIRST.index(first) if (first := other.split()[0]) in _FIRST else len(_FIRST), other),
    )
    verdicts = {other: found for other in others if (found := _verdicts(ladder, name, other))}
    open_ = {other: [k for k in found if found[k] != "better"] for other, found in verdicts.items()}
    said = [f"{other} with {at(ks, ladder.shots)}" for other, ks in open_.items() if ks]
    if said:
        yield f"{name} is not shown better than {once(say.listed(said, 'or'))}."
    always: dict[tuple[int, ...], list[str]] = {}
    for other, ks in open_.items():
        if ks:
            yield _where(name, other, verdicts[other], ladder)
        else:
            always.setdefault(tuple(verdicts[other]), []).append(other)
    for ks, some in always.items():
        every = "at every number of labels, " if ks == ladder.shots else "wherever both were measured, "
        yield f"{name} is shown better than {say.listed(some)} {every}{at(ks, ladder.shots)}."
    for goal in ladder.budgets:
        if goal.found.name == name and goal.goal in map(called, ladder.beside):
            yield f"{goal.found.sentence}."


def _verdicts(ladder: Ladder, name: str, other: str) -> dict[int, str]:
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


def _where(name: str, other: str, verdicts: dict[int, str], ladder: Ladder) -> str:
    """One sentence on two methods at every number of labels; what is not shown is said as plainly as what is."""
    ks = {verdict: [k for k in verdicts if verdicts[k] == verdict] for verdict in sorted(set(verdicts.values()))}
    if len(ks) == 1:
        verdict, span = next(iter(ks)), at(tuple(verdicts), ladder.shots)
        within = say.margin(ladder.metric, ladder.margin)
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
        f"; {with_('same')} they are the same within {say.margin(ladder.metric, ladder.margin)}" if "same" in ks else ""
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


def _labels_needed(ladder: Ladder) -> Iterator[str]:
    """What the plan's target asks of each method."""
    goals = [one for one in ladder.budgets if one.goal == "the plan's target"]
    if goals:
        goal = say.with_name(ladder.metric, ladder.target)
        said = "; ".join(f"{one.found.name} {needed(one, ladder)}" for one in goals)
        yield f"Labels per class for the plan's target, {goal}: {said}."


def needed(one: Goal, ladder: Ladder) -> str:
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
