"""Group fairness: for which groups of people a method makes more errors, before adapting and after.

A gap is the rate of the group that fares best minus that of the one that fares worst: of accuracy, of equal opportunity
(examples with a label that are given it) for the label where that is largest after adapting, and, of two labels, of
false positives (examples of the first that are given the second). Its interval, and that of its change, come from the
two-way table of seeds and examples (`ftlib.stats.variance`), each group's rate in its linear form. Groups and label
were picked by looking, so the level is divided by how many there were to pick from.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftlib.core import format
from ftlib.core.errors import FtlibError, unknown
from ftlib.metrics import units
from ftlib.metrics.fairness import FEWEST, ends, independent, looked_at, smallest_gap, taking_part, unnamed
from ftlib.records.predictions import Part
from ftlib.records.study import Group, Study, read_study
from ftlib.report.blocks import Block, Cell, Column, Fold, Heading, Note, Section, Sentences, Table, table
from ftlib.report.figures import Figure, Picture, drawing, figure_of, picture
from ftlib.report.metric_rows import WHO, numbers, who
from ftlib.report.pairing import common_examples
from ftlib.report.plots.heat import Values, rates_by_group
from ftlib.report.sections.comparison import MOST_ROWS
from ftlib.stats.intervals import Interval, interval
from ftlib.stats.paired import holm
from ftlib.stats.variance import Array, VarianceComponents, gap_spread

if TYPE_CHECKING:
    from ftlib.report.build import Reading

ALPHA = 0.05

GAP_OF = {"accuracy": "accuracy", "tpr": "equal opportunity", "fpr": "false positives"}
"""What a gap is called by the rate it is of."""

GAPS = {
    "accuracy": "accuracy_difference",
    "tpr": "equal_opportunity_difference",
    "fpr": "false_positive_rate_difference",
}
"""What metrics call it."""

RATE = "accuracy"
"""Every rate here is a share and is shown as accuracy is."""

MOST_GROUPS = 6
"""Groups a figure shows; the tables hold them all."""

MOST_OPEN = 12
"""Sentences that are shown unfolded."""

_NONE = Interval(math.nan, math.nan, math.nan)


class Answers(NamedTuple):
    """A method's answers before and after adapting, and which group every example belongs to."""

    method: Group
    before: NDArray | None
    """(n_seeds, n_examples) numbers of the predicted labels; one row where all seeds have the same."""
    after: NDArray
    part: Part
    """Of one of the runs: what is alike in all, such as the truth."""
    code: NDArray
    """(n_examples,) numbers of the groups."""
    names: tuple[str, ...]

    @property
    def positive(self) -> str:
        """The label that counts as positive where there are two; empty where there are more."""
        return self.part.labels[1] if len(self.part.labels) == 2 else ""


class GroupRate(NamedTuple):
    """One group's rate at one stage."""

    method: Group
    stage: str
    group: str
    metric: str
    """accuracy, or tpr or fpr of `label`."""
    label: str
    found: Interval
    n: int
    """Examples it divides by."""
    seeds: int


class GapChange(NamedTuple):
    """One method's gap after adapting, before it, and what adapting did to it."""

    method: Group
    metric: str
    label: str
    after: Interval
    before: Interval | None
    """None: nothing was measured before."""
    seeds: int
    n: int = 0
    change: Interval | None = None
    """after - before."""
    p_value: float = 1.0
    """Of "adapting changed nothing", corrected for the groups and labels picked from."""
    p_holm: float = 1.0
    """Corrected for the methods, too."""
    verdict: str = ""
    """smaller, larger, undecided, unchanged (the same answers), or empty without a before."""
    pair: tuple[str, ...] = ()
    """The groups with the lowest and the highest rate after adapting; empty where there is no gap."""
    pair_before: tuple[str, ...] = ()
    smallest: float = math.inf
    """The smallest gap that one run on so many examples establishes with 80 % power; infinite: none."""
    reason: str = ""
    """Why there is no gap."""

    @property
    def shown(self) -> bool:
        """Whether there is a gap after adapting beyond chance."""
        return self.after.low > 0

    @property
    def identical(self) -> bool:
        """Whether nothing changed at all."""
        return self.verdict == "unchanged"


class GroupFairness(NamedTuple):
    """One column of groups of one part of a task."""

    task: str
    part: str
    column: str
    changes: tuple[GapChange, ...]
    rates: tuple[GroupRate, ...]
    left_out: tuple[str, ...]
    """Groups too small for any gap, with their sizes."""
    labels_out: tuple[str, ...] = ()
    """Labels of which another group has too few examples for a gap, with that group and how many."""

    @property
    def where(self) -> str:
        """The task, the evaluation set where it is not the task's own, and the column."""
        where = self.task if self.part == "test" else f"{self.task}, {self.part.removeprefix('tests.')}"
        return f"{where}, by {self.column}"


def group_fairness(study: Study) -> list[GroupFairness]:
    """Every column of groups, task by task; the changes of all methods and both gaps are one family (Holm)."""
    found = []
    for task in dict.fromkeys(group.task for group in study.groups):
        methods = [group for group in study.groups if group.task == task]
        wheres = dict.fromkeys(
            (name, column)
            for group in methods
            for run in group.ok
            for (stage, name), part in run.parts.items()
            if stage == "after" and (name == "test" or name.startswith("tests."))
            for column in part.groups
        )
        for name, column in wheres:
            answers = [one for group in methods if (one := answers_of(group, _pairs(group, name), column))]
            if answers:
                found.append(_of_column(task, name, column, answers))
    return found


def _pairs(method: Group, name: str) -> list[tuple[Part | None, Part | None]]:
    return [(run.parts.get(("before", name)), run.parts.get(("after", name))) for run in method.ok]


def read_groups(folder: str | Path, task: str = "", column: str = "") -> tuple[Study, GroupFairness]:
    """A finished study, and how its methods treat the groups of one column, as its report finds it.

    Args:
        folder: The study.
        task: One of its tasks; empty: its first with groups.
        column: One of the task's columns of groups; empty: its first.

    Raises:
        FtlibError: The study holds no record, or no such groups.
    """
    study = read_study(folder)
    found = group_fairness(study)
    for one in found:
        if one.task == (task or one.task) and one.column == (column or one.column):
            return study, one
    have = ", ".join(dict.fromkeys(f"{one.column} of {one.task}" for one in found)) or "none"
    asked = " of ".join(filter(None, (column or "groups", task)))
    raise FtlibError(f"{folder}: found no predictions with {asked}; groups there are: {have}")


def answers_of(method: Group, pairs: Sequence[tuple[Part | None, Part | None]], column: str) -> Answers | None:
    """What a method answered (before, after) in each of its runs; None where none of them has these groups."""
    pairs = [(a, b) for a, b in pairs if b is not None and b.chosen is not None and column in b.groups]
    if not pairs:
        return None
    kept = {id(part) for part in common_examples([after for _, after in pairs])}
    pairs = [pair for pair in pairs if id(pair[1]) in kept]
    first, before = pairs[0][1], [a for a, b in pairs if a is not None and a.chosen is not None and a.same == b.same]
    if len({part.answers for part in before}) == 1:
        before = before[:1]
    elif len(before) < len(pairs):
        before = []
    names, code = np.unique(first.groups[column].astype(str), return_inverse=True)
    chosen = np.stack([part.chosen for _, part in pairs])
    earlier = np.stack([part.chosen for part in before]) if before else None
    return Answers(method, earlier, chosen, first, code, tuple(map(str, names)))


def _of_column(task: str, name: str, column: str, answers: Sequence[Answers]) -> GroupFairness:
    changes = gap_changes(answers)
    labels = {one.method.name: one.label for one in changes if one.metric == "tpr"}
    rates = [rate for one in answers for rate in _rates_of(one, one.positive or labels[one.method.name])]
    sizes = dict(zip(answers[0].names, np.bincount(answers[0].code), strict=True))
    left_out = tuple(f"{group} ({n})" for group, n in sizes.items() if n < FEWEST or group == unnamed())
    return GroupFairness(task, name, column, tuple(changes), tuple(rates), left_out, tuple(_labels_out(answers[0])))


def _labels_out(one: Answers) -> Iterator[str]:
    """Labels and groups whose examples are too few for a gap of equal opportunity, of groups that have enough in all.

    Of two labels it is about the second alone, as the gaps are.
    """
    for place in taking_part(one.names, np.bincount(one.code, minlength=len(one.names)), unnamed()):
        for label, number in looked_at(one.part.labels).items():
            n = int(((one.part.truth == number) & (one.code == place)).sum())
            if n < FEWEST:
                yield f"{label} of {one.names[place]} ({n})"


def gap_changes(answers: Sequence[Answers]) -> list[GapChange]:
    """Every gap of every method, as one family (Holm)."""
    return corrected([change for one in answers for change in _changes(one)])


def corrected(changes: list[Any]) -> list[Any]:
    """Changes with the p-values of one family (Holm) and what they became; `GapChange` or alike."""
    # What changed nothing is no hypothesis, and costs the others no correction.
    asked = [place for place, one in enumerate(changes) if one.change is not None and not one.identical]
    for place, p in zip(asked, holm([changes[place].p_value for place in asked]), strict=True):
        one = changes[place]
        moved = "smaller" if one.change.value < 0 else "larger"
        changes[place] = one._replace(p_holm=float(p), verdict=moved if p <= ALPHA else "undecided")
    return changes


def _changes(one: Answers) -> Iterator[GapChange]:
    labels = looked_at(one.part.labels)
    yield _change(one, "accuracy", [_cut(one, "accuracy", "", 0)])
    for metric in ("tpr", "fpr") if one.positive else ("tpr",):
        yield _change(one, metric, [_cut(one, metric, *label) for label in labels.items()])


def _hits_of(one: Answers, metric: str, number: int) -> tuple[NDArray, list[Array | None]]:
    """Which examples a rate is about, and before and after which of them are hits."""
    truth = one.part.truth
    among = {"tpr": truth == number, "fpr": truth != number}.get(metric, np.ones(len(truth), bool))
    wanted = truth if metric == "accuracy" else number
    hits = [None if chosen is None else (chosen == wanted)[:, among] for chosen in (one.before, one.after)]
    return among, [None if side is None else side.astype(float) for side in hits]


def _rates_of(one: Answers, label: str) -> Iterator[GroupRate]:
    """Every group's accuracy, and its rates for the label of the gap: of two labels the false positives, too."""
    rates = ("tpr", "fpr") if one.positive else ("tpr",)
    number = one.part.labels.index(label) if label else 0
    wanted = [("accuracy", "", 0), *((rate, label, number) for rate in rates if label)]
    for metric, named, number in wanted:
        among, sides = _hits_of(one, metric, number)
        sources = None if one.part.clusters is None else one.part.clusters[among]
        for stage, hits in zip(("before", "after"), sides, strict=True):
            for place, group in enumerate(one.names) if hits is not None else ():
                own = one.code[among] == place
                found = rate_of(hits[:, own], None if sources is None else sources[own])
                yield GroupRate(one.method, stage, group, metric, named, found, int(own.sum()), len(hits))


def rate_of(hits: Array, clusters: NDArray | None) -> Interval:
    """The rate of (n_seeds, n_examples) hits; NaN where there are none, without bounds where nothing spreads.

    >>> rate_of(np.array([[1.0]]), None)
    Interval(value=1.0, low=nan, high=nan)
    """
    if not hits.size:
        return Interval(math.nan, math.nan, math.nan)
    if hits.shape[1] < 2 or (clusters is not None and len(set(clusters)) < 2):
        return Interval(float(hits.mean()), math.nan, math.nan)
    return interval(hits, clusters=clusters)


class _Stage(NamedTuple):
    """A gap before or after adapting, and what its spread is learned from."""

    gap: float
    values: Array
    """(n_seeds, n_examples): their mean is the gap but for imagined examples."""
    tables: list[Array]
    """Of each group the same for its rate."""
    weights: Array
    """(n_groups,): the gap is the rates' weighted sum."""


class _Cut(NamedTuple):
    """Hits of one rate, of the groups that take part in its gap."""

    label: str
    names: tuple[str, ...]
    code: NDArray
    sides: tuple[Array | None, Array]
    """before and after: (n_seeds, n_examples)."""
    clusters: NDArray | None
    sizes: str
    """Of all groups, in words."""

    def rates(self, hits: Array) -> Array:
        """(n_groups,) of one of the sides, mean over seeds."""
        return _rates(hits, self.code, len(self.names)).mean(axis=0)


def _cut(one: Answers, metric: str, label: str, number: int) -> _Cut:
    among, sides = _hits_of(one, metric, number)
    code, clusters = one.code[among], one.part.clusters
    counts = np.bincount(code, minlength=len(one.names))
    kept = taking_part(one.names, counts, unnamed())
    inside = np.isin(code, kept)
    return _Cut(
        label,
        tuple(one.names[place] for place in kept),
        np.searchsorted(kept, code[inside]),
        tuple(None if side is None else side[:, inside] for side in sides),
        None if clusters is None else clusters[among][inside],
        format.some([f"{name}: {n}" for name, n in zip(one.names, counts, strict=True)], 8),
    )


def _change(one: Answers, metric: str, cuts: Sequence[_Cut]) -> GapChange:
    seeds = len(one.after)
    able = [cut for cut in cuts if len(cut.names) > 1 and (cut.clusters is None or len(set(cut.clusters)) > 1)]
    if not able:
        of = f" for {cuts[0].label!r}" if cuts[0].label else ""
        sources = "" if cuts[0].clusters is None else ", of two sources,"
        others = "; no other label has them either" if len(cuts) > 1 else ""
        reason = (
            f"two named groups with {FEWEST} examples or more{sources} are needed; found{of} {cuts[0].sizes}{others}"
        )
        before = None if one.before is None else _NONE
        return GapChange(one.method, metric, "", _NONE, before, seeds, reason=reason)
    cut = max(able, key=lambda cut: np.ptp(cut.rates(cut.sides[1])))
    picked_from = len(able) * math.comb(len(cut.names), 2)
    level = ALPHA / picked_from
    before, after = cut.sides
    sources = _sources(cut)
    sides = [None if side is None else _stage(side, cut, imagined) for side, imagined in ((before, 1), (after, 0))]
    pairs = [() if side is None else ends(cut.rates(side)) for side in cut.sides]
    sizes = [independent(cut.clusters, cut.code == place) for place in pairs[1]]
    pooled = float(after[:, np.isin(cut.code, pairs[1])].mean())
    pooled = (pooled * sum(sizes) + 1) / (sum(sizes) + 2)
    change, p, verdict = None, 1.0, ""
    if sides[0] is not None:
        both = [(side.tables, side.weights) for side in sides]
        found = gap_spread(sides[1].values - sides[0].values, both, sources)
        value = sides[1].gap - sides[0].gap
        change, p = _around(value, found, level), min(1.0, picked_from * found.p_value())
        if (before == after).all():
            change, p, verdict = Interval(0.0, 0.0, 0.0), 1.0, "unchanged"
    spreads = [
        None if side is None else gap_spread(side.values, [(side.tables, side.weights)], sources) for side in sides
    ]
    # A largest minus a smallest is never below 0.
    levels = [
        None if side is None else (found := _around(side.gap, spread, level))._replace(low=max(0.0, found.low))
        for side, spread in zip(sides, spreads, strict=True)
    ]
    named = [tuple(cut.names[place] for place in pair) for pair in pairs]
    smallest = smallest_gap(*sizes, pooled, picked_from)
    of = (one.method, metric, cut.label, levels[1], levels[0], seeds, len(cut.code))
    return GapChange(*of, change, p, p, verdict, named[1], named[0], smallest)


def _rates(hits: Array, code: NDArray, n_groups: int) -> Array:
    """(n_seeds, n_groups)."""
    sums = np.stack([np.bincount(code, weights=row, minlength=n_groups) for row in hits])
    return sums / np.bincount(code, minlength=n_groups)


def _stage(hits: Array, cut: _Cut, first: int) -> _Stage:
    """A stage's gap, with imagined examples where its spread is learned: a hit and a miss for every group.

    Without them a group that is always got right would be taken to be so for certain. Before and after adapting they
    are each other's opposite, as two examples that changed (Bonett and Price 2012).
    """
    groups, rates = len(cut.names), cut.rates(hits)
    weights = np.zeros(groups)
    weights[list(ends(rates))] = -1.0, 1.0
    imagined = np.tile([first, 1 - first], (len(hits), groups)).astype(float)
    code = np.concatenate([cut.code, np.repeat(np.arange(groups), 2)])
    values, *tables = (linear(np.concatenate([hits, imagined], axis=1), code, of) for of in (weights, *np.eye(groups)))
    return _Stage(float(np.ptp(rates)), values, tables, weights)


def linear(hits: Array, code: NDArray, weights: Array) -> Array:
    """Values per example whose mean is a weighted sum of the groups' rates, and which spread as it does.

    Args:
        hits: (n_seeds, n_examples) of 0 and 1.
        code: (n_examples,) numbers of the groups.
        weights: (n_groups,); 1 and -1 for a difference of two.

    Returns:
        (n_seeds, n_examples): sum + n weight / n_group (hit - the group's rate), n all examples.

    Rates 1 and 0.5, their difference 0.5:

    >>> linear(np.array([[1.0, 1.0, 1.0, 0.0]]), np.array([0, 0, 1, 1]), np.array([1.0, -1.0])).tolist()
    [[0.5, 0.5, -0.5, 1.5]]
    """
    sizes, n = np.bincount(code, minlength=len(weights)), len(code)
    rates = _rates(hits, code, len(weights))
    return (rates @ weights)[:, None] + n * (weights / sizes)[code] * (hits - rates[:, code])


def _around(value: float, found: VarianceComponents, level: float) -> Interval:
    half = found.half_width(level)
    return Interval(value, max(-1.0, min(value, found.mean - half)), min(1.0, max(value, found.mean + half)))


def _sources(cut: _Cut) -> list[str] | None:
    """Clusters of the examples; the imagined ones have their own."""
    if cut.clusters is None:
        return None
    return [*(f"1 {name}" for name in cut.clusters), *(f"0 {number}" for number in range(2 * len(cut.names)))]


def by_label(of: GroupFairness, name: str) -> list[GroupRate]:
    """Of each label's examples the share that a method finds, group by group, before and after adapting.

    Groups that have no name, or no such examples, are left out.

    Raises:
        FtlibError: No method of that name has these groups.
    """
    methods = {one.method.name: one.method for one in of.changes}
    if name not in methods:
        raise unknown("method", name, methods)
    answers, blank = answers_of(methods[name], _pairs(methods[name], of.part), of.column), unnamed()
    rates = [rate for label in looked_at(answers.part.labels) for rate in _rates_of(answers, label)]
    return [rate for rate in rates if rate.metric == "tpr" and rate.group != blank and rate.n]


def pictured(rates: Sequence[GroupRate]) -> Picture:
    """The rates of `by_label` as a picture: a band for each label, hollow before adapting and filled after it."""
    drawn = _drawn(rates, lambda rate: rate.label)
    height = 1.2 + 0.17 * sum(map(len, drawn.values()))
    return picture(rates_by_group, drawn, label="share that is found, %", height=height)


def _drawn(
    rates: Sequence[GroupRate], band: Callable[[GroupRate], str]
) -> dict[str, dict[str, tuple[Values | None, Values]]]:
    """Band -> group -> (before, after) in per cent, for `rates_by_group`."""
    found = {(rate.stage, band(rate), rate.group): tuple(100 * end for end in rate.found) for rate in rates}
    drawn: dict[str, dict[str, tuple[Values | None, Values]]] = {band(rate): {} for rate in rates}
    for (stage, name, group), values in found.items():
        if stage == "after":
            drawn[name][group] = (found.get(("before", name, group)), values)
    return drawn


def flipped(found: Interval) -> Interval:
    """A difference the other way round.

    >>> flipped(Interval(-0.2, -0.3, 0.1))
    Interval(value=0.2, low=-0.1, high=0.3)
    """
    return Interval(*(0.0 - found[end] for end in (0, 2, 1)))


def size(found: Interval) -> Interval:
    """A difference without its sign."""
    return found if found.value > 0 else flipped(found)


def span(found: Interval, signed: bool = False) -> str:
    """The bounds of a share, or of a difference of two; empty where there are none."""
    if math.isnan(found.low):
        return ""
    return " to ".join(units.difference(RATE, end, signed) for end in found[1:])


def points(found: Interval, signed: bool = False) -> str:
    """A difference of shares in words.

    >>> points(Interval(0.021, -0.01, 0.052), signed=True)
    '+2.1 points (−1.0 to +5.2)'
    """
    return f"{units.difference(RATE, found.value, signed)} points ({span(found, signed)})"


def share_cell(found: Interval | None, reason: str = "", *, signed: bool = False, strong: bool = False) -> Cell:
    """A share, or a difference of two, with its interval; where there is none, why."""
    if found is None or math.isnan(found.value):
        return Cell("not available", reason, number=True)
    return Cell(units.difference(RATE, found.value, signed), span(found, signed), number=True, strong=strong)


def lead(one: GroupFairness) -> str:
    """What adapting did to the gaps, in a sentence or two."""
    asked = [c for c in one.changes if c.verdict not in ("", "unchanged")]
    if not asked and any(c.identical for c in one.changes):
        return "Adapting changed no answer, and so no gap."
    if not asked and any(c.before is not None for c in one.changes):
        return "No gap could be followed: too few groups have a name and enough examples."
    if not asked:
        return "No method was adapted and measured before and after, so nothing is said of what adapting did."
    moved = {
        verdict: [f"{c.method.name} ({GAP_OF[c.metric]})" for c in asked if c.verdict == verdict]
        for verdict in ("larger", "smaller")
    }
    said = [f"Adapting made the gap {verdict} for {format.some(names)}." for verdict, names in moved.items() if names]
    if undecided := len(asked) - sum(map(len, moved.values())):
        if undecided == len(asked):
            gap = "the gap" if undecided == 1 else f"any of the {undecided} gaps"
            said.append(f"It is undecided whether adapting changed {gap}.")
        else:
            it = "it" if undecided == 1 else "them"
            said.append(f"For {undecided} of {len(asked)} gaps it is undecided whether adapting changed {it}.")
    return " ".join(said)


def _rate_of(one: GapChange) -> str:
    of = {"tpr": f"share of {one.label!r} that is found", "fpr": f"share of others called {one.label!r}"}
    return of.get(one.metric, "accuracy")


def gap_of(one: GapChange) -> str:
    """Whose gap it is and of what, in words."""
    return f"{one.method.name}'s {_rate_of(one)}"


def sentence(one: GapChange) -> str:
    """What a method's gap is and what adapting did to it, in one sentence."""
    name = one.method.name
    if one.reason:
        return f"{name}: no gap of {GAP_OF[one.metric]} is available: {one.reason}"
    said = f"{name}: {_rate_of(one)}, {one.pair[1]} against {one.pair[0]}: {points(one.after)} apart"
    said += "" if one.shown else ", which may be chance"
    if one.change is None:
        return said
    said += f"; before adapting {points(one.before)}"
    said += "" if one.pair == one.pair_before else f", {one.pair_before[1]} against {one.pair_before[0]}"
    if one.identical:
        return f"{said}: the answers are the same"
    if one.verdict == "undecided":
        return f"{said}: undecided whether the gap became smaller or larger, by {points(one.change, signed=True)}"
    return f"{said}: the gap became {one.verdict} by {points(size(one.change))}"


def rows(one: GroupFairness) -> Iterator[dict[str, Any]]:
    """Gaps and rates as report.json holds them; of a gap `group` is empty."""
    where = {"part": one.part, "column": one.column}
    for c in one.changes:
        about = {**who(c.method), **where, "group": "", "metric": GAPS[c.metric], "label": c.label}
        stages = (("before", c.before, c.pair_before), ("after", c.after, c.pair), ("change", c.change, ()))
        for stage, found, pair in stages:
            if found is None:
                continue
            row = {**about, "stage": stage, **numbers(found), "n": c.n, "seeds": c.seeds}
            if row["value"] is None:
                row["reason"] = c.reason
            if pair:
                row |= {"lowest": pair[0], "highest": pair[1]}
            if pair and stage == "after":
                row["smallest"] = None if math.isinf(c.smallest) else c.smallest
            if stage == "change":
                row |= {"p_value": c.p_value, "p_holm": c.p_holm, "verdict": c.verdict, "sentence": sentence(c)}
            yield row
    for rate in one.rates:
        row = {**who(rate.method), **where, "group": rate.group, "metric": rate.metric, "label": rate.label}
        row |= {"stage": rate.stage, **numbers(rate.found), "n": rate.n, "seeds": rate.seeds}
        yield row | ({"reason": "no example to divide by"} if row["value"] is None else {})


def _pair(one: GapChange) -> Cell:
    elsewhere = one.pair_before and one.pair_before != one.pair
    return Cell(" to ".join(one.pair), f"before: {' to '.join(one.pair_before)}" if elsewhere else "")


def _untold(one: GapChange) -> str:
    return "nothing was measured before" if one.before is None else one.reason


def _changed(one: GapChange) -> Cell:
    return Cell("0", number=True) if one.identical else share_cell(one.change, _untold(one), signed=True)


def _smallest(one: GapChange) -> str:
    if one.reason:
        return format.NONE
    return "none" if math.isinf(one.smallest) else f"{units.difference(RATE, one.smallest, signed=False)} points"


def _moved(one: GapChange) -> Cell:
    return Cell(one.verdict, strong=one.verdict in ("smaller", "larger"))


def _p_value(one: Any) -> str:
    return "" if one.change is None or one.identical else format.p_value(one.p_holm)


METHOD = Column("method", "method", lambda one: Cell(one.method.name, strong=True), whole=True)
P_VALUE = Column("p_holm", "p (Holm)", _p_value, True, True)

_GAP_COLUMNS = (
    METHOD,
    Column("metric", "gap of", lambda c: Cell(GAP_OF[c.metric], c.label), whole=True),
    Column("pair", "lowest to highest", _pair, whole=True),
    Column("verdict", "adapting made it", _moved, whole=True),
    Column("before", "before, points", lambda c: share_cell(c.before, _untold(c)), True, True),
    Column("after", "after, points", lambda c: share_cell(c.after, c.reason, strong=c.shown), True, True),
    Column("change", "change, points", _changed, True, True),
    P_VALUE,
    Column("smallest", "smallest gap it could show", _smallest, True, True),
    Column("n", "examples", lambda c: format.count(c.n), True, True),
    Column("seeds", "runs", lambda c: str(c.seeds), True, True),
)

_RATES = {"accuracy": "accuracy", "tpr": "its share found", "fpr": "others called so"}


def _rates_table(one: GroupFairness) -> Table:
    """Every group's rates before and after; beside them the label of the largest gap, which they are of."""
    before = {(rate.method.name, rate.group, rate.metric): rate.found for rate in one.rates if rate.stage == "before"}

    def earlier(rate: GroupRate) -> Cell:
        found = before.get((rate.method.name, rate.group, rate.metric))
        return share_cell(found, "no example to divide by" if found else "not measured")

    columns = (
        METHOD,
        Column("group", "group", lambda rate: rate.group, whole=True),
        Column("metric", "rate", lambda rate: Cell(_RATES[rate.metric], rate.label), whole=True),
        Column("before", "before, %", earlier, True, True),
        Column("after", "after, %", lambda rate: share_cell(rate.found, "no example to divide by"), True, True),
        Column("n", "examples it divides by", lambda rate: format.count(rate.n), True, True),
    )
    return table(f"Every group's rates, {one.where}", columns, [rate for rate in one.rates if rate.stage == "after"])


def _rates_figure(one: GroupFairness) -> Figure:
    rates = [rate for rate in one.rates if rate.metric == "accuracy"]
    methods = list(dict.fromkeys(rate.method.name for rate in rates))[:MOST_ROWS]
    sizes = {rate.group: rate.n for rate in rates}
    largest = sorted(sizes, key=lambda group: -sizes[group])[:MOST_GROUPS]
    drawn = _drawn(
        [rate for rate in rates if rate.method.name in methods and rate.group in largest], lambda rate: rate.method.name
    )
    caption = (
        "Hollow: before adapting; filled: after it. Lines are 95 % intervals for new test examples and new seeds, each "
        "group on its own; whether a gap is more than chance is said in the table of gaps."
    )
    if len(sizes) > len(largest):
        caption += f" The {len(largest)} groups with the most examples are shown."
    with drawing(1.2 + 0.17 * len(methods) * max(2, len(largest))) as ax:
        rates_by_group(ax, drawn, label="accuracy, %")
        return figure_of(
            ax,
            "groups",
            f"Accuracy, {one.where}",
            caption,
            ("method", "group", "before, %", "after, %"),
            [
                (name, group, _said(before), _said(after))
                for name, row in drawn.items()
                for group, (before, after) in row.items()
            ],
        )


def _said(values: Values | None) -> str:
    if values is None:
        return format.NONE
    value, low, high = values
    return f"{value:.1f}" + ("" if math.isnan(low) else f" ({low:.1f} to {high:.1f})")


_NOTE = (
    "A gap is how far the group that fares best lies from the one that fares worst: in accuracy; in equal opportunity, "
    "which is the share of the examples with a label that are given it, for the label where that is largest after "
    "adapting; and, of two labels, in false positives, which is the share of the examples of the first that are given "
    "the second. In brackets 95 % intervals for new test examples and, from two seeds on, new seeds, corrected for the "
    "groups and labels there were to pick from; p-values also for the methods (Holm). “Undecided” is not “fair”: gaps "
    "below the smallest one that the test set could show (80 % power, one run) go unseen more often than not."
)


def _read(reading: "Reading") -> list[GroupFairness] | None:
    return group_fairness(reading.study) or None


def _blocks(found: list[GroupFairness]) -> Iterator[Block]:
    yield Note(_NOTE)
    for one in found:
        yield Heading(one.where)
        yield Note(lead(one), quiet=False)
        said = Sentences(tuple(f"{sentence(change)}." for change in one.changes))
        yield Fold("Method by method", (said,), unfolded=len(one.changes) <= MOST_OPEN)
        yield table(f"Gaps between groups before and after adapting, {one.where}", _GAP_COLUMNS, one.changes)
        if one.left_out:
            left_out = format.some(list(one.left_out), 12)
            yield Note(f"In no gap, having fewer than {FEWEST} examples or no name: {left_out}.")
        if one.labels_out:
            labels = format.some(list(one.labels_out), 12)
            yield Note(f"In no gap of equal opportunity, having fewer than {FEWEST} examples: {labels}.")
        yield _rates_figure(one)
        rates = _rates_table(one)
        yield Fold(rates.caption, (rates,))


SECTION = Section(
    name="groups",
    title="Group fairness: for which groups it makes more errors",
    read=_read,
    columns={
        "groups": (
            *WHO, "part", "column", "group", "metric", "label", "stage", "value", "low", "high", "n", "seeds",
            "p_value", "p_holm", "verdict", "lowest", "highest", "smallest", "sentence", "reason",
        ),
    },
    rows=lambda found: {"groups": [row for one in found for row in rows(one)]},
    blocks=_blocks,
)  # fmt: skip
