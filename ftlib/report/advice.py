"""The verdict in words: what to use, over what, how sure, and what this study cannot say."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ftlib.metrics import metric_row
from ftlib.report import general, say
from ftlib.report.contest import Contest, Duel
from ftlib.report.entrants import Contestant, called

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


def advise(contest: Contest, forgot: Sequence[general.Forgot] = ()) -> Advice:
    """Put a contest in words.

    Args:
        contest: One task's.
        forgot: What its methods did to general text, where that was measured.
    """
    best = contest.contestants[0]
    rivals = [(one, contest.duel(best.name, one.name)) for one in contest.contestants[1:]]
    same = [one for one, duel in rivals if duel and duel.comparison.verdict == "same"]
    open_ = [one for one, duel in rivals if duel and duel.comparison.verdict == "undecided" and not _leaning(duel)]
    leaning = [one for one, duel in rivals if duel and duel.comparison.verdict == "undecided" and _leaning(duel)]
    chosen = min([best, *same], key=_expense)
    lines = [_sentence(contest, best, one) for one in (*same, *open_[:3])]
    if open_[3:]:
        lines.append(f"Nor can {best.name} be told apart from {_names(open_[3:])}.")
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
        lines.append(general.bought_and_cost(contest, elsewhere) or f"{general.sentence(elsewhere)}.")
    return Advice(
        contest.task,
        _headline(contest, chosen, same, open_, leaning),
        _lead(contest, best, chosen, [best, *same, *open_] if open_ else []),
        tuple(dict.fromkeys(map(say.unbroken, lines))),
        tuple(_ranks(contest)),
        tuple(_limits(contest)),
        chosen.name,
    )


def _names(some: list[Contestant], most: int = 5) -> str:
    return say.some([called(one) for one in some], most)


def _leaning(duel: Duel) -> bool:
    """Whether the comparison alone would have counted, and only the correction for being many keeps it open."""
    return not duel.comparison.low <= 0 <= duel.comparison.high


def _expense(one: Contestant) -> tuple[float, float, float]:
    costs = [one.cost(name) for name in ("train_seconds", "peak_memory_bytes")]
    costs = [math.inf if math.isnan(cost) else cost for cost in costs]
    return (0.0 if one.group is None else costs[0], costs[1], -one.level.value)


def _headline(
    contest: Contest,
    chosen: Contestant,
    same: list[Contestant],
    open_: list[Contestant],
    leaning: list[Contestant],
) -> str:
    best = contest.contestants[0]
    if len(contest.contestants) == 1:
        return f"Only {called(best)} was measured, so there is nothing to compare it with."
    if open_:
        return f"No winner yet: {_names([best, *same, *open_])} cannot be told apart."
    doubt = f", though its lead over {_names(leaning)} is not beyond doubt" if leaning else ""
    if same:
        names = _names([best, *same])
        within = say.margin(contest.metric, contest.margin)
        return f"Use {called(chosen)}: {names} are the same within {within}, and it is the cheapest of them{doubt}."
    if best.untouched:
        return f"Leave the model as it is: nothing that was tried is better{doubt}."
    return f"Use {called(best)}: it is better than everything else that was tried{doubt}."


def _lead(contest: Contest, best: Contestant, chosen: Contestant, tied: list[Contestant]) -> str:
    if not tied:
        return f"{_reached(contest, chosen)}."
    cheap = min(tied, key=_expense)
    second = f"; the cheapest of these, {_reached(contest, cheap)}" if cheap is not best else ""
    first = "Highest" if metric_row(contest.metric).higher_is_better else "Lowest"
    return f"{first} so far: {_reached(contest, best)}{second}."


def _reached(contest: Contest, one: Contestant) -> str:
    metric, level = contest.metric, one.level
    span = f" ({say.span(metric, level.low, level.high)})" if say.span(metric, level.low, level.high) else ""
    cost = f", {say.seconds(one.cost('train_seconds'))} of training" if one.group else ""
    return f"{one.name} with {say.with_name(metric, level.value)}{span}{cost}"


def _choose_today(contest: Contest, best: Contestant, among: list[Contestant]) -> list[str]:
    """What an undecided contest means for someone who cannot wait."""
    cheap = min(among, key=_expense)
    if cheap is best:
        return [f"If you must choose today, choose {called(cheap)}: it leads and is also the cheapest of these."]
    comparison = contest.duel(best.name, cheap.name).comparison
    worst = max(abs(comparison.low), abs(comparison.high))
    time = f"{say.seconds(cheap.cost('train_seconds'))} of training against {say.seconds(best.cost('train_seconds'))}"
    return [
        f"If you must choose today, the cheapest of these is {called(cheap)} ({time}); the price could be as much as "
        f"{say.difference(contest.metric, worst, signed=False)}{say.unit(contest.metric)}{_of(contest)}."
    ]


def _sentence(contest: Contest, a: Contestant, b: Contestant) -> str:
    """The comparison in the words of `ftlib.verdict`; where it is undecided, the two and their distance come first."""
    duel = contest.duel(a.name, b.name)
    found = duel.comparison
    if found.verdict != "undecided":
        return f"{found.sentence}."
    first, second = duel.compared_as
    ahead, behind = (first, second) if contest.leads(duel.a, duel.b) else (second, first)
    decide = found.sentence.removeprefix("undecided: ").partition(f"{first} against {second}")[0].rstrip("(; ")
    return f"{ahead} and {behind} cannot be told apart: {ahead} is ahead by {_distance(contest, duel)}; {decide}."


def _ahead_in_part(contest: Contest, best: Contestant, leaning: list[Contestant]) -> list[str]:
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
        f"{best.name} is ahead of {say.listed(said)}: each alone would count, among {len(contest.duels)} comparisons "
        "it does not quite."
    ]


def _distance(contest: Contest, duel: Duel) -> str:
    """How far the better of two is ahead, with the interval."""
    found = duel.comparison
    size, low, high = found.difference, found.low, found.high
    if size < 0:
        size, low, high = -size, -high, -low
    shown = [say.difference(contest.metric, number, signed=False) for number in (size, low, high)]
    return f"{shown[0]}{say.unit(contest.metric)} ({shown[1]} to {shown[2]})"


def _of(contest: Contest) -> str:
    """What an amount is of, unless its unit says so."""
    return "" if contest.of_text else f" of {contest.metric}"


def _ranks(contest: Contest) -> list[tuple[str, str]]:
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
        also = f" (not told apart from {_names([contest.find(name) for name in higher])})" if higher else ""
        lines.append((rank, names + also))
    rest = sum(len(places) for _, places in seen[MOST_RANKS:])
    return [*lines[:MOST_RANKS], *([("…", f"{say.plural(rest, 'more method')}: see the table")] if rest else [])]


def _limits(contest: Contest) -> list[str]:
    most = max((len(one.parts) for one in contest.contestants if one.draws), default=1)
    pairs, noun = len(contest.duels), say.noun(contest.metric)
    lines = [
        f"{say.plural(contest.n, f'test {noun}')}, the same for every method; a difference matters from "
        f"{say.margin(contest.metric, contest.margin)}{_of(contest)} on. Intervals are 95 %"
        + (f"; {say.plural(pairs, 'comparison')}, corrected for being so many (Holm)." if pairs > 1 else ".")
    ]
    if protocols := say.protocols(contest.protocols):
        lines.append(f"{say.name(contest.metric).capitalize()} by this protocol: {protocols}.")
    if contest.detectable:
        a, b, least = contest.detectable
        lines.append(
            f"The smallest difference this study can show: between two methods as alike as {a} and {b}, a true "
            f"difference under {say.difference(contest.metric, least, signed=False)}{say.unit(contest.metric)} is "
            "missed more often than 1 time in 5 (before correction)."
        )
    given: dict[float, list[Contestant]] = {}
    for one in contest.contestants:
        if not one.untouched and one.group and not math.isnan(one.cost("train_examples")):
            given.setdefault(one.cost("train_examples"), []).append(one)
    if len(given) > 1:
        said = [f"{say.count(n)} to {_names(some)}" for n, some in sorted(given.items(), reverse=True)[:6]]
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
            f"{say.plural(most, 'seed')} per method that draws: the intervals cover new test {noun}s and new seeds, "
            f"but {most} runs say little about how seeds spread, so they are wide on purpose. They cannot show rare "
            f"accidents: a mishap in 1 run of 10 stays unseen with {most} seeds {missed:.0f} % of the time."
        )
    return lines
