"""The verdict in words: what to use, over what, how sure, what this study cannot say, and what to try first."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from ftlib.config.constraints import known_family
from ftlib.config.methods import ENCODER, METHODS
from ftlib.core import format
from ftlib.metrics import units
from ftlib.metrics.registry import metric_row
from ftlib.records.study import Study
from ftlib.report.pairing import Paired, apart
from ftlib.report.sections import forgetting, training
from ftlib.report.sections.comparison import BASE, MethodScores, TaskComparison, called
from ftlib.report.sections.runs import Unfinished, problems
from ftlib.stats.intervals import Interval


def sentences(comparison: TaskComparison) -> list[str]:
    """Who is worse, by verdict, than the base model or a probe of it, and what to try before giving it up."""
    told = {one.name: (one, list(_ahead(comparison, one))) for one in comparison.methods if _trained(one)}
    late = [(one, ahead) for one, ahead in told.values() if ahead]
    if not late:
        return []
    rivals = {rival.name: called(rival) for _, ahead in late for rival in ahead}
    behind = [one for one, _ in late]
    them = "it" if len(late) == 1 else "them"
    fast = [one for one in behind if training.ended_higher(one.group)]
    slow = [one for one in behind if one not in fast]
    remedies = []
    if slow:
        some = ["more epochs", "a higher learning_rate", "a tuning budget"]
        if any(_at_random(one) for one in slow):
            some.insert(0, 'head_init = "linear_probe", which starts the new head where a probe would')
        whose = f" for {_names(slow)}" if fast else ""
        remedies.append(f"{format.listed(some, 'or')}{whose}")
    if fast:
        loss = "training loss" if len(fast) == 1 else "training losses"
        remedies.append(f"a lower learning_rate for {_names(fast)}, whose {loss} ended higher than at the start")
    return [
        f"{_names(behind)} ended behind {format.listed(list(rivals.values()), 'or')}, which took no training of the "
        "model: more often a sign of how a method was trained than of a worse method. Before setting "
        f"{them} aside, try {'; and '.join(remedies)}."
    ]


def _trained(one: MethodScores) -> bool:
    return one.group is not None and one.group.method in METHODS and METHODS[one.group.method].trains


def _is_probe(one: MethodScores) -> bool:
    method = METHODS.get(one.group.method)
    return method is not None and method.frozen and not method.groups


def _ahead(comparison: TaskComparison, one: MethodScores) -> Iterator[MethodScores]:
    """The base model and probes of the same one that are better, by verdict."""
    model = one.group.model
    for rival in comparison.methods:
        if rival.group is None:
            same = rival.name in (BASE, f"{BASE} {model}")
        else:
            same = rival.group.model == model and (rival.untouched or _is_probe(rival))
        if same and comparison.verdict(rival.name, one.name) == "better":
            yield rival


def _at_random(one: MethodScores) -> bool:
    fields = one.group.runs[0].resolved
    return fields.get("head_init", "new") == "new" and known_family(one.group.model) in ("", ENCODER)


RARE = 10
"""Test examples of a label below which one more or less right moves its figures by 10 points or more."""
SKEWED = 0.8
"""Share of the test examples from which on always giving the most frequent label looks good by accuracy."""


def cautions(study: Study, comparison: TaskComparison) -> list[str]:
    """What is wrong with a task's data: what its audit found, and what the test labels alone show."""
    runs = [run for group in study.groups if group.task == comparison.task for run in group.runs]
    part = next(iter(comparison.methods[0].parts.values()))
    own: dict[str, str] = {}
    lines: list[str] = []
    if part.truth is not None and len(part.truth):
        own = dict(_of_labels(comparison, part.labels, np.bincount(part.truth, minlength=len(part.labels))))
        lines = [*own.values(), *_of_length(comparison)]
    # What the test labels of the runs show is not said a second time in the words of the audit.
    audited = [problem for run in runs for problem in problems(run.record.provenance, but=own)]
    return list(dict.fromkeys([*audited, *lines]))


def _of_labels(comparison: TaskComparison, labels: Sequence[str], counts: np.ndarray) -> Iterator[tuple[str, str]]:
    """(code of the audit's finding, sentence)."""
    n, metric = int(counts.sum()), comparison.metric
    most, share = labels[int(counts.argmax())], counts.max() / n
    highest = max(one.level.value for one in comparison.methods)
    if metric == "accuracy" and (share >= SKEWED or share >= highest):
        better = "f1_binary or mcc" if len(labels) == 2 else "f1_macro or mcc"
        yield (
            "nothing_wins",
            (
                f"Accuracy of always answering {most!r} is {100 * share:.1f} %: "
                f"a primary metric that sees the rare label{'s' * (len(labels) > 2)} ({better}) is advised."
            ),
        )
    few = [
        f"{format.plural(int(k), 'test example')} of {name!r}"
        for name, k in sorted(zip(labels, counts, strict=True), key=lambda pair: pair[1])
        if k < RARE
    ]
    if few:
        them = "it" if len(few) == 1 else "them"
        yield "handful", f"Only {format.some(few, 3)}: what is said of {them} rests on these few."
    drawn = [one for one in comparison.methods if one.group and one.group.shots]
    rare, least = labels[int(counts.argmin())], counts.min() / n
    if drawn and least < 0.5 / len(labels):
        yield (
            "even_draws",
            (
                f"Shots draw each label equally; the test set holds {100 * least:.1f} % {rare!r}: "
                f"probabilities of {_names(drawn)} are not those of use, and their Brier scores are off; "
                "train_limit draws labels as they occur."
            ),
        )


def _of_length(comparison: TaskComparison) -> Iterator[str]:
    """Whose texts were cut: how many, by the tokenizer and max_length of their own runs."""
    found: dict[int, list[MethodScores]] = {}
    for one in comparison.methods:
        flags = [part.cut for part in one.parts.values() if part.cut is not None]
        if flags and (n := max(int(flag.sum()) for flag in flags)):
            found.setdefault(n, []).append(one)
    for n, some in found.items():
        are = "is" if n == 1 else "are"
        yield (
            f"{format.plural(n, 'test text')} of {format.count(comparison.n)} {are} longer than max_length: "
            f"{_names(some)} did not read the end."
        )


MOST_RANKS = 10
"""Lines of a ranking."""
MOST_NAMES = 8
"""Names of a tie, in headline and ranking."""


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
    """The cheapest of those that are shown to be as good as the one with the best mean."""
    caution: tuple[str, ...] = ()
    """What is wrong with the data, to be read before the headline is repeated."""


def advise(
    comparison: TaskComparison,
    forgot: Sequence[forgetting.Forgot] = (),
    unfinished: Unfinished | None = None,
    caution: Sequence[str] = (),
) -> Advice:
    """Put the comparison of one task's methods in words.

    Every sentence goes by `TaskComparison.verdict`, which is corrected for the number of comparisons: "better" stands
    only where that verdict does.

    Args:
        forgot: What the methods did to general text, if measured.
        unfinished: What of the task has not run.
        caution: What is wrong with the data.
    """
    best, *others = comparison.top
    beaten = [one for one in comparison.methods if comparison.verdict(best.name, one.name) == "better"]
    same = [one for one in others if comparison.verdict(best.name, one.name) == "same"]
    tied = [one for one in others if one not in same]
    leaning = [one for one in tied if _leaning(comparison, best, one)]
    open_ = [one for one in tied if one not in leaning]
    behind = [one for one in comparison.methods if one not in (best, *others, *beaten)]
    chosen = min([best, *same], key=_expense)
    lines = [unfinished.detail] if unfinished else []
    lines += [
        _sentence(comparison, best, one) for one in (*same, *open_[:3], *behind[:3]) if _met(comparison, best, one)
    ]
    if open_[3:] or behind[3:]:
        lines.append(f"Nor is {best.name} shown to differ from {_names([*open_[3:], *behind[3:]])}.")
    if tied and not unfinished:
        lines += _choose_today(comparison, best, comparison.top)
    lines += _ahead_in_part(comparison, best, leaning)
    near = next(iter(beaten), None)
    over = [one for one in comparison.methods if one.untouched or one.baseline]
    told = [one for one in (chosen, *tied, *behind) if chosen is best or one is chosen]
    for one in [*([near] if near else []), *sorted(over, key=lambda one: not one.untouched)]:
        if one not in told and _met(comparison, chosen, one):
            lines.append(_sentence(comparison, chosen, one))
    lines += [
        f"{called(one)} gives {one.one_label!r} to every test example: it has learned nothing, and being ahead of it "
        "shows nothing."
        for one in comparison.methods
        if one.one_label
    ]
    elsewhere = next((one for one in forgot if one.group is chosen.group), None)
    if elsewhere and not elsewhere.unchanged:
        lines.append(forgetting.bought_and_cost(comparison, elsewhere) or f"{forgetting.change_sentence(elsewhere)}.")
    return Advice(
        comparison.task,
        format.unbroken(_headline(comparison, chosen, same, tied, behind, unfinished)),
        _lead(comparison, best, chosen, list(comparison.top) if tied or behind else []),
        tuple(dict.fromkeys(map(format.unbroken, lines))),
        tuple(_ranks(comparison)),
        tuple(_limits(comparison)),
        chosen.name,
        tuple(caution),
    )


def _names(some: list[MethodScores], most: int = 5) -> str:
    return format.some([called(one) for one in some], most)


def _met(comparison: TaskComparison, a: MethodScores, b: MethodScores) -> bool:
    return comparison.pair(a.name, b.name) is not None


def _leaning(comparison: TaskComparison, a: MethodScores, b: MethodScores) -> bool:
    """Whether the comparison alone would have counted, and only the correction for being many keeps it open."""
    pair = comparison.pair(a.name, b.name)
    return pair is not None and not pair.comparison.low <= 0 <= pair.comparison.high


def _able(some: list[MethodScores]) -> list[MethodScores]:
    """Those that have learned something; all where none has."""
    return [one for one in some if not one.one_label] or some


def _expense(one: MethodScores) -> tuple[float, float, float]:
    costs = [one.cost(name) for name in ("train_seconds", "peak_memory_bytes")]
    costs = [math.inf if math.isnan(cost) else cost for cost in costs]
    return (0.0 if one.group is None else costs[0], costs[1], -one.level.value)


def _headline(
    comparison: TaskComparison,
    chosen: MethodScores,
    same: Sequence[MethodScores],
    tied: Sequence[MethodScores],
    behind: Sequence[MethodScores],
    unfinished: Unfinished | None,
) -> str:
    """What the comparisons say, and no more: the tie it names is the first place of the ranking."""
    top, best = comparison.top, comparison.top[0]
    names, today = _names(top, MOST_NAMES), not unfinished
    start = "" if today else f"{unfinished.headline}. So far "
    if len(comparison.methods) == 1:
        if today:
            return f"Only {called(best)} was measured, so there is nothing to compare it with."
        return f"{start}only {called(best)} was measured, and there is nothing to compare it with."
    if not comparison.pairs:
        return f"{start or 'No winner: '}nothing could be compared; why not is said below."
    among = [best, *same]
    alike = all(comparison.verdict(a.name, b.name) == "same" for a, b in combinations(among, 2))
    if behind or tied or not alike:
        start = start or "No winner yet: "
        if len(top) == 1:
            return (
                f"{start}nothing is shown better than {names}, but it is not shown to be better than "
                f"{_names(behind, MOST_NAMES)}."
            )
        every = "nothing here is distinguishable: " if len(top) == len(comparison.methods) else ""
        corrected = " after correction" if len(comparison.pairs) > 1 else ""
        return f"{start}{every}{names} are not shown to differ{corrected}{_ahead_of(comparison, best, tied, today)}."
    if same:
        within = units.margin(comparison.metric, comparison.margin)
        said = f"{names} are equivalent within {within}"
        return f"Use {called(chosen)}: {said}, and it is the cheapest of them." if today else f"{start}{said}."
    empty = [one for one in comparison.methods if one.one_label and one is not best]
    if len(empty) == len(comparison.methods) - 1:
        have = "has" if len(empty) == 1 else "have"
        return (
            f"{start or 'No winner: '}{called(best)} was compared with {_names(empty)} only, which {have} learned "
            "nothing and cannot count as beaten."
        )
    but = f" ({_names(empty)} learned nothing and cannot count as beaten)" if empty else ""
    if best.untouched:
        return f"{start}{'nothing' if start else 'Leave the model as it is: nothing'} that was tried is better{but}."
    if today:
        return f"Use {called(best)}: it is better than everything else that was tried{but}."
    return f"{start}{called(best)} is better than everything else that has run{but}."


def _ahead_of(comparison: TaskComparison, best: MethodScores, tied: Sequence[MethodScores], decide: bool) -> str:
    """How far the first of a tie is ahead of the next that it is not shown to differ from, and what would decide."""
    pair = _met_first(comparison, best, tied)
    if pair is None:
        return ""
    ahead = _gain(comparison, pair, best)
    second = comparison.find(pair.b if pair.a == best.name else pair.a)
    size = units.difference(comparison.metric, ahead.value, signed=False)
    lead = ""
    if ahead.value > 0:
        lead = f"; {called(best)} leads by {size}{units.unit(comparison.metric)} over {called(second)}"
    return f"{lead}; {needed(pair)}" if decide else lead


def _met_first(comparison: TaskComparison, best: MethodScores, some: Sequence[MethodScores]) -> Paired | None:
    return next((pair for one in some if (pair := comparison.pair(best.name, one.name))), None)


def next_open(comparison: TaskComparison) -> Paired | None:
    """The first place against the next method that nothing is shown of; None: all is settled."""
    best = comparison.top[0]
    open_ = [one for one in comparison.methods if comparison.verdict(best.name, one.name) == "undecided"]
    return _met_first(comparison, best, open_)


def _gain(comparison: TaskComparison, pair: Paired, one: MethodScores) -> Interval:
    """How far one of two is ahead of the other, in the direction in which the metric is better."""
    up = 1 if metric_row(comparison.metric).higher_is_better else -1
    found, sign = pair.comparison, up if pair.a == one.name else -up
    low, high = sorted((sign * found.low, sign * found.high))
    return Interval(sign * found.difference, low, high)


def needed(pair: Paired) -> str:
    """What would decide an undecided comparison, in the words of `ftlib.stats.verdict`."""
    first, second = pair.compared_as
    said = pair.comparison.sentence.removeprefix("undecided: ")
    return said.partition(f"{first} against {second}")[0].rstrip("(; ")


def _lead(comparison: TaskComparison, best: MethodScores, chosen: MethodScores, tied: list[MethodScores]) -> str:
    if not tied:
        return f"{_reached(comparison, chosen)}."
    cheap = min(_able(tied), key=_expense)
    second = f"; the cheapest of these, {_reached(comparison, cheap)}" if cheap is not best else ""
    first = "Highest" if metric_row(comparison.metric).higher_is_better else "Lowest"
    return f"{first} so far: {_reached(comparison, best)}{second}."


def _reached(comparison: TaskComparison, one: MethodScores) -> str:
    metric, level = comparison.metric, one.level
    span = f" ({units.span(metric, level.low, level.high)})" if units.span(metric, level.low, level.high) else ""
    seconds = one.cost("train_seconds")
    cost = "" if not one.group else f", {format.seconds(seconds)} of training" if seconds else ", no training"
    return f"{one.name} with {units.with_name(metric, level.value)}{span}{cost}"


def _choose_today(comparison: TaskComparison, best: MethodScores, among: list[MethodScores]) -> list[str]:
    """What an undecided comparison means for someone who cannot wait."""
    cheap = min(_able(among), key=_expense)
    if cheap is best:
        return [f"If you must choose today, choose {called(cheap)}: it leads and is also the cheapest of these."]
    seconds = [format.seconds(one.cost("train_seconds")) for one in (cheap, best)]
    time = f"{seconds[0]} of training against {seconds[1]}" if cheap.cost("train_seconds") else "no training"
    start = f"If you must choose today, the cheapest of these is {called(cheap)} ({time})"
    pair = comparison.pair(best.name, cheap.name)
    if pair is None:
        return [f"{start}; it was not compared with {called(best)}, so what that costs is not known."]
    loss = _gain(comparison, pair, best)
    expected, worst = (
        units.difference(comparison.metric, max(0.0, value), signed=False) for value in (loss.value, loss.high)
    )
    unit = f"{units.unit(comparison.metric)}{_of(comparison)}"
    return [f"{start}; the expected loss is {expected}{unit}, in the worst plausible case {worst}."]


def _sentence(comparison: TaskComparison, a: MethodScores, b: MethodScores) -> str:
    """The comparison in the words of `ftlib.stats.verdict`; where it is undecided, the two and their distance come
    first.
    """
    pair = comparison.pair(a.name, b.name)
    found = pair.comparison
    if found.verdict != "undecided":
        return f"{found.sentence}."
    first, second = pair.compared_as
    ahead, behind = (first, second) if comparison.leads(pair.a, pair.b) else (second, first)
    apart_by, nothing = (
        units.difference(comparison.metric, size, signed=False) for size in (abs(found.difference), 0.0)
    )
    lead = "they differ by" if apart_by == nothing else f"{ahead} is ahead by"
    return f"{ahead} and {behind} are not shown to differ: {lead} {_distance(comparison, pair)}; {needed(pair)}."


def _ahead_in_part(comparison: TaskComparison, best: MethodScores, leaning: list[MethodScores]) -> list[str]:
    """One sentence for all that the best would beat, were there fewer comparisons."""
    if not leaning:
        return []
    said = [
        f"{called(one)} by {_distance(comparison, pair)}"
        for one in leaning[:6]
        if (pair := comparison.pair(best.name, one.name))
    ]
    said += [f"{len(leaning) - 6} others"] if len(leaning) > 6 else []
    return [
        f"{best.name} is ahead of {format.listed(said)}: significant on its own, not after "
        f"correction for {len(comparison.pairs)} comparisons."
    ]


def _distance(comparison: TaskComparison, pair: Paired) -> str:
    """How far the better of two is ahead, with the interval."""
    shown = [units.difference(comparison.metric, number, signed=False) for number in apart(pair.comparison)]
    return f"{shown[0]}{units.unit(comparison.metric)} ({shown[1]} to {shown[2]})"


def _of(comparison: TaskComparison) -> str:
    """What an amount is of, unless its unit says so."""
    return "" if units.in_own_unit(comparison.metric) else f" of {units.name(comparison.metric)}"


def _ranks(comparison: TaskComparison) -> list[tuple[str, str]]:
    """Places with ties as ties: (place, names); a line holds only methods of which no two are shown to differ."""
    order = [place.name for place in comparison.places]
    lines: list[tuple[int, list[str], list[str]]] = []
    for number, place in enumerate(comparison.places):
        higher = [
            one.name for one in comparison.places[:number] if one.rank < place.rank and one.name in place.tied_with
        ]
        for rank, members, above in lines:
            if rank == place.rank and above == higher and set(members) <= set(place.tied_with):
                members.append(place.name)
                break
        else:
            lines.append((place.rank, [place.name], higher))
    said = []
    for rank, members, above in lines[:MOST_RANKS]:
        names = _names([comparison.find(name) for name in members], MOST_NAMES)
        also = f" (not shown to differ from {_names([comparison.find(name) for name in above])})" if above else ""
        said.append((str(rank), names + also))
    rest = len(order) - sum(len(members) for _, members, _ in lines[:MOST_RANKS])
    return [*said, *([("…", f"{format.plural(rest, 'more method')}: see the table")] if rest else [])]


def _limits(comparison: TaskComparison) -> list[str]:
    most = max((len(one.parts) for one in comparison.methods if one.draws), default=1)
    pairs, noun = len(comparison.pairs), units.noun(comparison.metric)
    lines = [
        f"{format.plural(comparison.n, f'test {noun}')}, the same for every method; smallest difference of practical "
        f"interest: {units.margin(comparison.metric, comparison.margin)}{_of(comparison)}. Intervals are 95 %"
        + (f"; {format.plural(pairs, 'comparison')}, corrected for being so many (Holm)." if pairs > 1 else ".")
    ]
    if protocols := format.protocols(comparison.protocols):
        lines.append(f"{units.name(comparison.metric).capitalize()} by this protocol: {protocols}.")
    if comparison.detectable:
        a, b, least = comparison.detectable
        said = f"{units.difference(comparison.metric, least, signed=False)}{units.unit(comparison.metric)}"
        lines.append(
            f"Minimum detectable difference (80 % power): {said}, between two methods as similar as {a} and {b}, "
            "before correction."
        )
    given: dict[float, list[MethodScores]] = {}
    for one in comparison.methods:
        if not one.untouched and one.group and not math.isnan(one.cost("train_examples")):
            given.setdefault(one.cost("train_examples"), []).append(one)
    if len(given) > 1:
        said = [f"{format.count(n)} to {_names(some)}" for n, some in sorted(given.items(), reverse=True)[:6]]
        lines.append(f"Not every method was given as many training {noun}s: {', '.join(said)}.")
    if most == 1:
        lines.append(
            f"One seed per method: the intervals say what other test {noun}s might give, and nothing about another "
            f"training run. Methods that train can move{'' if comparison.of_text else ' by several points'} from seed "
            "to seed."
        )
    elif most < 6:
        missed = 100 * 0.9**most
        lines.append(
            f"{format.plural(most, 'seed')} for each method that uses randomness: the intervals cover new test {noun}s "
            f"and new seeds, but {most} runs say little about how seeds spread, so they are wide on purpose. A failure "
            f"that hits 1 run in 10 would be missed by {most} seeds {missed:.0f} % of the time."
        )
    return lines
