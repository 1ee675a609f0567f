"""The verdict in words: what to use, over what, how sure, what this study cannot say, and what to try first."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ftlib.config.constraints import known_family
from ftlib.config.methods import ENCODER, METHODS
from ftlib.core import format
from ftlib.metrics import units
from ftlib.metrics.registry import metric_row
from ftlib.report.pairing import Paired, apart
from ftlib.report.sections import forgetting
from ftlib.report.sections.comparison import BASE, MethodScores, TaskComparison, called


def sentences(contest: TaskComparison) -> list[str]:
    """Who is worse, by verdict, than the base model or a probe of it, and what to try before giving it up."""
    told = {one.name: (one, list(_ahead(contest, one))) for one in contest.contestants if _trained(one)}
    late = [(one, ahead) for one, ahead in told.values() if ahead]
    if not late:
        return []
    rivals = {rival.name: called(rival) for _, ahead in late for rival in ahead}
    names = format.some([called(one) for one, _ in late])
    them = "it" if len(late) == 1 else "them"
    remedies = ["more epochs", "a higher learning_rate", "a tuning budget"]
    if any(_at_random(one) for one, _ in late):
        remedies.insert(0, 'head_init = "linear_probe", which starts the new head where a probe would')
    return [
        f"{names} ended behind {format.listed(list(rivals.values()), 'or')}, which took no training of the model: more "
        f"often a sign of too little training than of a worse method. Before setting {them} aside, "
        f"try {format.listed(remedies, 'or')}."
    ]


def _trained(one: MethodScores) -> bool:
    return one.group is not None and one.group.method in METHODS and METHODS[one.group.method].trains


def _is_probe(one: MethodScores) -> bool:
    method = METHODS.get(one.group.method)
    return method is not None and method.frozen and not method.groups


def _ahead(contest: TaskComparison, one: MethodScores) -> Iterator[MethodScores]:
    """The base model and probes of the same one that are better, by verdict."""
    model = one.group.model
    for rival in contest.contestants:
        if rival.group is None:
            same = rival.name in (BASE, f"{BASE} {model}")
        else:
            same = rival.group.model == model and (rival.untouched or _is_probe(rival))
        duel = contest.duel(rival.name, one.name) if same else None
        if duel and duel.comparison.verdict == ("better" if duel.a == rival.name else "worse"):
            yield rival


def _at_random(one: MethodScores) -> bool:
    fields = one.group.runs[0].resolved
    return fields.get("head_init", "new") == "new" and known_family(one.group.model) in ("", ENCODER)


MOST_RANKS = 10


class Advice(NamedTuple):
    """What a reader who decides should read first, for one task."""

    task: str
    headline: str
    lead: str
    """The level reached and what it took."""
    reasons: tuple[str, ...]
    """Sentences that back the headline, the weightiest first."""
    ranks: tuple[tuple[str, str], ...]
    """(place, names that share it)."""
    limits: tuple[str, ...]
    """How sure, and what the intervals can and cannot mean."""
    chosen: str
    """The recommended method's name."""


def advise(contest: TaskComparison, forgot: Sequence[forgetting.Forgot] = ()) -> Advice:
    """Put the comparison of one task's methods in words; `forgot` says what they did to general text, if measured."""
    best = contest.contestants[0]
    rivals = [(one, contest.duel(best.name, one.name)) for one in contest.contestants[1:]]
    same = [one for one, duel in rivals if duel and duel.comparison.verdict == "same"]
    open_ = [one for one, duel in rivals if duel and duel.comparison.verdict == "undecided" and not _leaning(duel)]
    leaning = [one for one, duel in rivals if duel and duel.comparison.verdict == "undecided" and _leaning(duel)]
    chosen = min([best, *same], key=_expense)
    lines = [_sentence(contest, best, one) for one in (*same, *open_[:3])]
    if open_[3:]:
        lines.append(f"Nor is {best.name} shown to differ from {_names(open_[3:])}.")
    lines += _choose_today(contest, best, [best, *same, *open_]) if open_ else []
    lines += _ahead_in_part(contest, best, leaning)
    near = next((one for one, duel in rivals if duel and one not in (*same, *open_, *leaning)), None)
    over = [one for one in contest.contestants if one.untouched or one.baseline]
    told = [one for one in (chosen, *open_, *leaning) if chosen is best or one is chosen]
    for one in [*([near] if near else []), *sorted(over, key=lambda one: not one.untouched)]:
        if one not in told and contest.duel(chosen.name, one.name):
            lines.append(_sentence(contest, chosen, one))
    elsewhere = next((one for one in forgot if one.group is chosen.group), None)
    if elsewhere and not elsewhere.unchanged:
        lines.append(forgetting.bought_and_cost(contest, elsewhere) or f"{forgetting.change_sentence(elsewhere)}.")
    return Advice(
        contest.task,
        _headline(contest, chosen, same, open_, leaning),
        _lead(contest, best, chosen, [best, *same, *open_] if open_ else []),
        tuple(dict.fromkeys(map(format.unbroken, lines))),
        tuple(_ranks(contest)),
        tuple(_limits(contest)),
        chosen.name,
    )


def _names(some: list[MethodScores], most: int = 5) -> str:
    return format.some([called(one) for one in some], most)


def _leaning(duel: Paired) -> bool:
    """Whether the comparison alone would have counted, and only the correction for being many keeps it open."""
    return not duel.comparison.low <= 0 <= duel.comparison.high


def _expense(one: MethodScores) -> tuple[float, float, float]:
    costs = [one.cost(name) for name in ("train_seconds", "peak_memory_bytes")]
    costs = [math.inf if math.isnan(cost) else cost for cost in costs]
    return (0.0 if one.group is None else costs[0], costs[1], -one.level.value)


def _headline(
    contest: TaskComparison,
    chosen: MethodScores,
    same: list[MethodScores],
    open_: list[MethodScores],
    leaning: list[MethodScores],
) -> str:
    best = contest.contestants[0]
    if len(contest.contestants) == 1:
        return f"Only {called(best)} was measured, so there is nothing to compare it with."
    if open_:
        return f"No winner yet: {_names([best, *same, *open_])} are not shown to differ."
    doubt = f", though its lead over {_names(leaning)} is not beyond doubt" if leaning else ""
    if same:
        names = _names([best, *same])
        within = units.margin(contest.metric, contest.margin)
        return f"Use {called(chosen)}: {names} are equivalent within {within}, and it is the cheapest of them{doubt}."
    if best.untouched:
        return f"Leave the model as it is: nothing that was tried is better{doubt}."
    return f"Use {called(best)}: it is better than everything else that was tried{doubt}."


def _lead(contest: TaskComparison, best: MethodScores, chosen: MethodScores, tied: list[MethodScores]) -> str:
    if not tied:
        return f"{_reached(contest, chosen)}."
    cheap = min(tied, key=_expense)
    second = f"; the cheapest of these, {_reached(contest, cheap)}" if cheap is not best else ""
    first = "Highest" if metric_row(contest.metric).higher_is_better else "Lowest"
    return f"{first} so far: {_reached(contest, best)}{second}."


def _reached(contest: TaskComparison, one: MethodScores) -> str:
    metric, level = contest.metric, one.level
    span = f" ({units.span(metric, level.low, level.high)})" if units.span(metric, level.low, level.high) else ""
    cost = f", {format.seconds(one.cost('train_seconds'))} of training" if one.group else ""
    return f"{one.name} with {units.with_name(metric, level.value)}{span}{cost}"


def _choose_today(contest: TaskComparison, best: MethodScores, among: list[MethodScores]) -> list[str]:
    """What an undecided comparison means for someone who cannot wait."""
    cheap = min(among, key=_expense)
    if cheap is best:
        return [f"If you must choose today, choose {called(cheap)}: it leads and is also the cheapest of these."]
    comparison = contest.duel(best.name, cheap.name).comparison
    worst = max(abs(comparison.low), abs(comparison.high))
    seconds = [format.seconds(one.cost("train_seconds")) for one in (cheap, best)]
    time = f"{seconds[0]} of training against {seconds[1]}"
    return [
        f"If you must choose today, the cheapest of these is {called(cheap)} ({time}); the price could be as much as "
        f"{units.difference(contest.metric, worst, signed=False)}{units.unit(contest.metric)}{_of(contest)}."
    ]


def _sentence(contest: TaskComparison, a: MethodScores, b: MethodScores) -> str:
    """The comparison in the words of `ftlib.stats.verdict`; where it is undecided, the two and their distance come
    first.
    """
    duel = contest.duel(a.name, b.name)
    found = duel.comparison
    if found.verdict != "undecided":
        return f"{found.sentence}."
    first, second = duel.compared_as
    ahead, behind = (first, second) if contest.leads(duel.a, duel.b) else (second, first)
    decide = found.sentence.removeprefix("undecided: ").partition(f"{first} against {second}")[0].rstrip("(; ")
    return f"{ahead} and {behind} are not shown to differ: {ahead} is ahead by {_distance(contest, duel)}; {decide}."


def _ahead_in_part(contest: TaskComparison, best: MethodScores, leaning: list[MethodScores]) -> list[str]:
    """One sentence for all that the best would beat, were there fewer comparisons."""
    if not leaning:
        return []
    said = [
        f"{called(one)} by {_distance(contest, duel)}"
        for one in leaning[:6]
        if (duel := contest.duel(best.name, one.name))
    ]
    said += [f"{len(leaning) - 6} others"] if len(leaning) > 6 else []
    return [
        f"{best.name} is ahead of {format.listed(said)}: each alone would count, "
        f"among {len(contest.duels)} comparisons "
        "it does not quite."
    ]


def _distance(contest: TaskComparison, duel: Paired) -> str:
    """How far the better of two is ahead, with the interval."""
    shown = [units.difference(contest.metric, number, signed=False) for number in apart(duel.comparison)]
    return f"{shown[0]}{units.unit(contest.metric)} ({shown[1]} to {shown[2]})"


def _of(contest: TaskComparison) -> str:
    """What an amount is of, unless its unit says so."""
    return "" if contest.of_text else f" of {contest.metric}"


def _ranks(contest: TaskComparison) -> list[tuple[str, str]]:
    """Places with ties as ties."""
    lines, seen = [], []
    for place in contest.places:
        rank = str(place.rank)
        if seen and seen[-1][0] == rank:
            seen[-1][1].append(place)
        else:
            seen.append((rank, [place]))
    for rank, places in seen:
        names = _names([contest.find(place.name) for place in places], 8)
        above = {other for place in places for other in place.tied_with} - {place.name for place in places}
        higher = [p.name for p in contest.places if p.name in above and p.rank < places[0].rank]
        also = f" (not shown to differ from {_names([contest.find(name) for name in higher])})" if higher else ""
        lines.append((rank, names + also))
    rest = sum(len(places) for _, places in seen[MOST_RANKS:])
    return [*lines[:MOST_RANKS], *([("…", f"{format.plural(rest, 'more method')}: see the table")] if rest else [])]


def _limits(contest: TaskComparison) -> list[str]:
    most = max((len(one.parts) for one in contest.contestants if one.draws), default=1)
    pairs, noun = len(contest.duels), units.noun(contest.metric)
    lines = [
        f"{format.plural(contest.n, f'test {noun}')}, the same for every method; a difference matters from "
        f"{units.margin(contest.metric, contest.margin)}{_of(contest)} on. Intervals are 95 %"
        + (f"; {format.plural(pairs, 'comparison')}, corrected for being so many (Holm)." if pairs > 1 else ".")
    ]
    if protocols := format.protocols(contest.protocols):
        lines.append(f"{units.name(contest.metric).capitalize()} by this protocol: {protocols}.")
    if contest.detectable:
        a, b, least = contest.detectable
        lines.append(
            f"The smallest difference this study can show: between two methods as alike as {a} and {b}, a true "
            f"difference under {units.difference(contest.metric, least, signed=False)}{units.unit(contest.metric)} is "
            "missed more often than 1 time in 5 (before correction)."
        )
    given: dict[float, list[MethodScores]] = {}
    for one in contest.contestants:
        if not one.untouched and one.group and not math.isnan(one.cost("train_examples")):
            given.setdefault(one.cost("train_examples"), []).append(one)
    if len(given) > 1:
        said = [f"{format.count(n)} to {_names(some)}" for n, some in sorted(given.items(), reverse=True)[:6]]
        lines.append(f"Not every method was given as many training {noun}s: {', '.join(said)}.")
    if most == 1:
        lines.append(
            f"One seed per method: the intervals say what other test {noun}s might give, and nothing about another "
            f"training run. Methods that train can move{'' if contest.of_text else ' by several points'} from seed to "
            "seed."
        )
    elif most < 6:
        missed = 100 * 0.9**most
        lines.append(
            f"{format.plural(most, 'seed')} per method that draws: the intervals cover new test {noun}s and new seeds, "
            f"but {most} runs say little about how seeds spread, so they are wide on purpose. They cannot show rare "
            f"accidents: a mishap in 1 run of 10 stays unseen with {most} seeds {missed:.0f} % of the time."
        )
    return lines
