"""The verdict of a few-shot study in words: what to use with the labels one has, and at how many that changes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ftlib.report import say, standing
from ftlib.report.advice import Advice
from ftlib.report.contest import Contest
from ftlib.report.entrants import Contestant, called, run_values
from ftlib.report.ladder import Ladder
from ftlib.report.rungs import at, labels
from ftlib.report.say import level, listed, plural, some
from ftlib.spec import DRAWS, FEW

MOST_STRETCHES = 3
"""In a headline."""


class Stretch(NamedTuple):
    """Neighbouring numbers of labels with one answer."""

    shots: tuple[int, ...]
    best: tuple[Contestant, ...]
    """At the last of them: nothing is shown better than these; the highest mean first."""
    same: bool
    """Whether several are shown to be the same within the margin, rather than not told apart."""


def advise(ladder: Ladder, fallen: Sequence[str] = ()) -> Advice:
    """Put a ladder in words.

    Args:
        ladder: Of one task.
        fallen: What there is to say of runs that collapsed.
    """
    found = stretches(ladder)
    answers = [tuple(called(best) for best in one.best) for one in found]
    lines = [*standing.turns(ladder, answers), *standing.standing(ladder, answers)]
    return Advice(
        ladder.task,
        _headline(ladder, found),
        _lead(ladder, found),
        tuple(map(say.unbroken, lines)),
        tuple((at(one.shots, ladder.shots), _answer(one)) for one in found),
        tuple(map(say.unbroken, [*_limits(ladder), *fallen])),
        ladder.rungs[-1].contestants[0].name,
    )


def stretches(ladder: Ladder) -> list[Stretch]:
    """Who is best at each number of labels; neighbours with one answer are one stretch."""
    found: list[Stretch] = []
    for rung in ladder.rungs:
        best, same = _best(rung)
        names = {called(one) for one in best}
        if found and {called(one) for one in found[-1].best} == names:
            found[-1] = Stretch((*found[-1].shots, rung.shots), best, same and found[-1].same)
        else:
            found.append(Stretch((rung.shots,), best, same))
    return found


def _best(rung: Contest) -> tuple[tuple[Contestant, ...], bool]:
    """All that nothing is shown better than, the highest mean first; whether they are shown to be the same."""
    unbeaten = {place.name for place in rung.places if place.rank == 1}
    best = tuple(one for one in rung.contestants if one.name in unbeaten) or rung.contestants[:1]
    duels = [rung.duel(best[0].name, one.name) for one in best[1:]]
    return best, all(duel is not None and duel.comparison.verdict == "same" for duel in duels)


def _answer(one: Stretch) -> str:
    names = [called(best) for best in one.best]
    if len(names) == 1:
        return names[0]
    return f"{some(names, 4)} ({'the same within the margin' if one.same else 'not told apart'})"


def _headline(ladder: Ladder, found: Sequence[Stretch]) -> str:
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
    return f"It depends on how many labels you have: {standing.once(said)}{rest}."


def _short(one: Stretch) -> str:
    names = [best.line if best.untouched and best.group else called(best) for best in one.best]
    return listed(names, "or") if len(names) <= 3 else f"{names[0]} or {len(names) - 1} others"


def _lead(ladder: Ladder, found: Sequence[Stretch]) -> str:
    """The levels at both ends, and of what needs no labels or had all."""
    ends = [(rung.contestants[0], rung.shots) for rung in (ladder.rungs[0], ladder.rungs[-1])]
    said = [f"{called(one)} {_level(ladder, one)} with {labels(k)}" for one, k in ends]
    here = {called(one) for one, _ in ends}
    others = [one for one in (*ladder.still, *ladder.beside) if called(one) not in here]
    said += [f"{called(one)} {_level(ladder, one)}" for one in others[:3]]
    name = say.name(ladder.metric)
    return f"{name[0].upper()}{name[1:]}: {'; '.join(said)}."


def _level(ladder: Ladder, one: Contestant) -> str:
    span = say.span(ladder.metric, one.level.low, one.level.high)
    per_cent = " %" if say.scale(ladder.metric) > 1 else ""
    return f"{level(ladder.metric, one.level.value)}{per_cent}" + (f" ({span})" if span else "")


def _limits(ladder: Ladder) -> Iterator[str]:
    top = ladder.rungs[-1]
    noun = say.noun(ladder.metric)
    of = "" if top.of_text else f" of {ladder.metric}"
    yield (
        f"{plural(top.n, f'test {noun}')}, the same for every method; a difference matters from "
        f"{say.margin(ladder.metric, ladder.margin)}{of} on. Methods are compared with the same number of labels per "
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
            f"{say.difference(ladder.metric, most, signed=False)}{say.unit(ladder.metric)}."
        )
    partly = [
        f"{name} ({at(tuple(line), ladder.shots).partition(' label')[0]})"
        for name, line in ladder.lines.items()
        if set(line) < set(ladder.shots)
    ]
    if partly:
        yield f"Not measured at every number of labels: {listed(partly)}; where a method is missing, it is not judged."
