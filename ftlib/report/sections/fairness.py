"""How often each group of people is got right by a method, before adapting and after.

Whom methods treat worse: the gaps between groups of people before and after adapting, and what became of them.

A gap is the rate of the group that fares best minus that of the one that fares worst: of accuracy, of equal opportunity
(examples with a label that are given it) for the label where that is largest after adapting, and, of two labels, of
false positives (examples of the first that are given the second). Its interval, and that of its change, come from the
two-way table of seeds and examples (`ftlib.stats.variance`), each group's rate in its linear form. Groups and label
were picked by looking, so the level is divided by how many there were to pick from.

How often each group of people is found, label by label: where a gap between groups sits that accuracy hides.

What a method's gaps between groups are and what adapting did to them, in sentences and as rows of report.json.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftlib.core import format
from ftlib.core.errors import unknown
from ftlib.metrics import units
from ftlib.metrics.fairness import FEWEST, ends, independent, looked_at, smallest_gap, taking_part, unnamed
from ftlib.records.predictions import Part
from ftlib.records.study import Group, Study
from ftlib.report.figures import Picture, picture
from ftlib.report.metric_rows import common_examples, numbers, who
from ftlib.report.plots.heat import Values, rates_by_group
from ftlib.stats.intervals import Interval, interval
from ftlib.stats.paired import holm
from ftlib.stats.variance import Array, VarianceComponents, gap_spread


class Sides(NamedTuple):
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


class Level(NamedTuple):
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


def sides_of(method: Group, name: str, column: str) -> Sides | None:
    """What the runs of a method answered in a part; None where none of them has these groups.

    Args:
        method: The runs.
        name: Of the part.
        column: Of the groups.
    """
    pairs = [(run.parts.get(("before", name)), run.parts.get(("after", name))) for run in method.ok]
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
    return Sides(method, earlier, chosen, first, code, tuple(map(str, names)))


def hits_of(one: Sides, metric: str, number: int) -> tuple[NDArray, list[Array | None]]:
    """Which examples a rate is about, and before and after which of them are hits."""
    truth = one.part.truth
    among = {"tpr": truth == number, "fpr": truth != number}.get(metric, np.ones(len(truth), bool))
    wanted = truth if metric == "accuracy" else number
    hits = [None if chosen is None else (chosen == wanted)[:, among] for chosen in (one.before, one.after)]
    return among, [None if side is None else side.astype(float) for side in hits]


def levels_of(one: Sides, label: str) -> Iterator[Level]:
    """Every group's accuracy, and its rates for the label of the gap: of two labels the false positives, too."""
    rates = ("tpr", "fpr") if len(one.part.labels) == 2 else ("tpr",)
    number = one.part.labels.index(label) if label else 0
    wanted = [("accuracy", "", 0), *((rate, label, number) for rate in rates if label)]
    for metric, named, number in wanted:
        among, sides = hits_of(one, metric, number)
        sources = None if one.part.clusters is None else one.part.clusters[among]
        for stage, hits in zip(("before", "after"), sides, strict=True):
            for place, group in enumerate(one.names) if hits is not None else ():
                own = one.code[among] == place
                found = rate_of(hits[:, own], None if sources is None else sources[own])
                yield Level(one.method, stage, group, metric, named, found, int(own.sum()), len(hits))


def rate_of(hits: Array, clusters: NDArray | None) -> Interval:
    """A rate and its interval; NaN where there is nothing to divide by, without bounds where nothing spreads.

    Args:
        hits: (n_seeds, n_examples) of 0 and 1.
        clusters: (n_examples,) what examples share a source with; None: nothing.

    >>> rate_of(np.array([[1.0]]), None)
    Interval(value=1.0, low=nan, high=nan)
    """
    if not hits.size:
        return Interval(math.nan, math.nan, math.nan)
    if hits.shape[1] < 2 or (clusters is not None and len(set(clusters)) < 2):
        return Interval(float(hits.mean()), math.nan, math.nan)
    return interval(hits, clusters=clusters)


ALPHA = 0.05


_NONE = Interval(math.nan, math.nan, math.nan)


class Change(NamedTuple):
    """One method's gap after adapting, before it, and what adapting did to it."""

    method: Group
    metric: str
    label: str
    after: Interval
    before: Interval | None
    """None: nothing was measured before."""
    change: Interval | None
    """after - before."""
    p_value: float
    """Of "adapting changed nothing", corrected for the groups and labels picked from."""
    p_holm: float
    """Corrected for the methods, too."""
    verdict: str
    """smaller, larger, cannot tell, unchanged (the same answers), or empty without a before."""
    pair: tuple[str, ...]
    """The groups with the lowest and the highest rate after adapting; empty where there is no gap."""
    pair_before: tuple[str, ...]
    smallest: float
    """The smallest gap that one run on so many examples establishes with 80 % power; infinite: none."""
    n: int
    seeds: int
    reason: str = ""
    """Why there is no gap."""

    @property
    def shown(self) -> bool:
        """Whether there is a gap after adapting beyond chance."""
        return self.after.low > 0


class Treated(NamedTuple):
    """One column of groups of one part of a task."""

    task: str
    part: str
    column: str
    changes: tuple[Change, ...]
    levels: tuple[Level, ...]
    left_out: tuple[str, ...]
    """Groups too small for any gap, with their sizes."""


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


def treated(study: Study) -> list[Treated]:
    """Every column of groups, task by task; the changes of all methods and both gaps are one family (Holm)."""
    found = []
    for task in dict.fromkeys(group.task for group in study.groups):
        methods = [group for group in study.groups if group.task == task]
        runs = [run for group in methods for run in group.ok]
        wheres = dict.fromkeys(
            (name, column)
            for run in runs
            for (stage, name), part in run.parts.items()
            if stage == "after" and (name == "test" or name.startswith("tests."))
            for column in part.groups
        )
        for name, column in wheres:
            sides = [one for group in methods if (one := sides_of(group, name, column))]
            if sides:
                found.append(_treated(task, name, column, sides))
    return found


def _treated(task: str, name: str, column: str, sides: Sequence[Sides]) -> Treated:
    changes = [change for one in sides for change in _changes(one)]
    # What changed nothing is no hypothesis, and costs the others no correction.
    asked = [place for place, one in enumerate(changes) if one.change is not None and one.verdict != "unchanged"]
    for place, p in zip(asked, holm([changes[place].p_value for place in asked]), strict=True):
        one = changes[place]
        moved = "smaller" if one.change.value < 0 else "larger"
        changes[place] = one._replace(p_holm=float(p), verdict=moved if p <= ALPHA else "cannot tell")
    labels = {one.method.name: one.label for one in changes if one.metric == "tpr"}
    levels = [level for one in sides for level in levels_of(one, _of_two(one) or labels[one.method.name])]
    sizes = dict(zip(sides[0].names, np.bincount(sides[0].code), strict=True))
    left_out = tuple(f"{group} ({n})" for group, n in sizes.items() if n < FEWEST or group == unnamed())
    return Treated(task, name, column, tuple(changes), tuple(levels), left_out)


def _of_two(one: Sides) -> str:
    """The label that counts as positive where there are two; empty where there are more."""
    return one.part.labels[1] if len(one.part.labels) == 2 else ""


def _changes(one: Sides) -> Iterator[Change]:
    labels = looked_at(one.part.labels)
    yield _change(one, "accuracy", [_cut(one, "accuracy", "", 0)])
    yield _change(one, "tpr", [_cut(one, "tpr", *label) for label in labels.items()])
    if _of_two(one):
        yield _change(one, "fpr", [_cut(one, "fpr", *label) for label in labels.items()])


def _cut(one: Sides, metric: str, label: str, number: int) -> _Cut:
    among, sides = hits_of(one, metric, number)
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
        ", ".join(f"{name}: {n}" for name, n in zip(one.names, counts, strict=True)),
    )


def _change(one: Sides, metric: str, cuts: Sequence[_Cut]) -> Change:
    seeds = len(one.after)
    able = [cut for cut in cuts if len(cut.names) > 1 and (cut.clusters is None or len(set(cut.clusters)) > 1)]
    if not able:
        of = f" for {cuts[0].label!r}" if cuts[0].label else ""
        reason = (
            f"a gap takes two named groups with {FEWEST} examples or more to divide by, of two sources{of} "
            f"({cuts[0].sizes})"
        )
        before = None if one.before is None else _NONE
        return Change(one.method, metric, "", _NONE, before, None, 1.0, 1.0, "", (), (), math.inf, 0, seeds, reason)
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
    levels = [None if side is None else _positive(_around(side.gap, _spread(side, sources), level)) for side in sides]
    return Change(
        one.method,
        metric,
        cut.label,
        levels[1],
        levels[0],
        change,
        p,
        p,
        verdict,
        tuple(cut.names[place] for place in pairs[1]),
        tuple(cut.names[place] for place in pairs[0]),
        smallest_gap(*sizes, pooled, picked_from),
        len(cut.code),
        seeds,
    )


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


def _spread(stage: _Stage, sources: list[str] | None) -> VarianceComponents:
    return gap_spread(stage.values, [(stage.tables, stage.weights)], sources)


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


def _positive(found: Interval) -> Interval:
    """A largest minus a smallest is never below 0."""
    return found._replace(low=max(0.0, found.low))


def _sources(cut: _Cut) -> list[str] | None:
    """Clusters of the examples; the imagined ones have their own."""
    if cut.clusters is None:
        return None
    return [*(f"1 {name}" for name in cut.clusters), *(f"0 {number}" for number in range(2 * len(cut.names)))]


def by_label(of: Treated, name: str) -> list[Level]:
    """Of each label's examples the share that a method finds, group by group, before and after adapting.

    Args:
        of: One column of groups of a part of a task.
        name: Of a method, as the report names it.

    Returns:
        A rate for each label looked at, stage, and group that has a name and such examples.

    Raises:
        FtlibError: No method of that name has these groups.
    """
    methods = {one.method.name: one.method for one in of.changes}
    if name not in methods:
        raise unknown("method", name, methods)
    sides, blank = sides_of(methods[name], of.part, of.column), unnamed()
    levels = [level for label in looked_at(sides.part.labels) for level in levels_of(sides, label)]
    return [level for level in levels if level.metric == "tpr" and level.group != blank and level.n]


def pictured(levels: Sequence[Level]) -> Picture:
    """The rates of `by_label` as a picture: a band for each label, hollow before adapting and filled after it."""
    found: dict[tuple[str, str, str], Values] = {
        (one.stage, one.label, one.group): tuple(100 * end for end in one.found) for one in levels
    }
    drawn: dict[str, dict[str, tuple[Values | None, Values]]] = {one.label: {} for one in levels}
    for (stage, label, group), values in found.items():
        if stage == "after":
            drawn[label][group] = (found.get(("before", label, group)), values)
    height = 1.2 + 0.17 * sum(map(len, drawn.values()))
    return picture(rates_by_group, drawn, label="share that is found, %", height=height)


GAP_OF = {"accuracy": "accuracy", "tpr": "equal opportunity", "fpr": "false positives"}
"""What a gap is called by the rate it is of."""


_GAPS = {
    "accuracy": "accuracy_difference",
    "tpr": "equal_opportunity_difference",
    "fpr": "false_positive_rate_difference",
}


RATE = "accuracy"
"""Every rate here is a share and is shown as accuracy is."""


def lead(one: Treated) -> str:
    """What adapting did to the gaps, in a sentence or two."""
    asked = [c for c in one.changes if c.verdict not in ("", "unchanged")]
    if not asked:
        return "No method was adapted and measured before and after, so nothing is said of what adapting did."
    moved = {
        verdict: [f"{c.method.name} ({GAP_OF[c.metric]})" for c in asked if c.verdict == verdict]
        for verdict in ("larger", "smaller")
    }
    said = [f"Adapting made the gap {verdict} for {format.some(names)}." for verdict, names in moved.items() if names]
    if untold := len(asked) - sum(map(len, moved.values())):
        said.append(
            f"For {untold} of {format.plural(len(asked), 'gap')} it cannot be told whether adapting changed them."
        )
    return " ".join(said)


def _of(change: Change) -> str:
    told = {"tpr": f"share of {change.label!r} that is found", "fpr": f"share of others called {change.label!r}"}
    return told.get(change.metric, "accuracy")


def _points(found: Interval, signed: bool = False) -> str:
    shown = [units.difference(RATE, value, signed) for value in found]
    return f"{shown[0]} points ({shown[1]} to {shown[2]})"


def sentence(one: Change) -> str:
    """What a method's gap is and what adapting did to it, in one sentence."""
    name = one.method.name
    if one.reason:
        return f"{name}: no gap of {GAP_OF[one.metric]} is available: {one.reason}"
    sure = "" if one.shown else ", which may be chance"
    said = f"{name}: {_of(one)}, {one.pair[1]} against {one.pair[0]}: {_points(one.after)} apart{sure}"
    if one.change is None:
        return said
    turned = "" if one.pair == one.pair_before else f", {one.pair_before[1]} against {one.pair_before[0]}"
    said += f"; before adapting {_points(one.before)}{turned}"
    if one.verdict == "unchanged":
        return f"{said}: the answers are the same"
    if one.verdict == "cannot tell":
        return f"{said}: cannot tell whether the gap became smaller or larger, by {_points(one.change, signed=True)}"
    size = one.change if one.change.value > 0 else Interval(*(-one.change[i] for i in (0, 2, 1)))
    return f"{said}: the gap became {one.verdict} by {_points(size)}"


def rows(one: Treated) -> Iterator[dict[str, Any]]:
    """Gaps and rates as report.json holds them; of a gap `group` is empty."""
    where = {"part": one.part, "column": one.column}
    for c in one.changes:
        about = {**who(c.method), **where, "group": "", "metric": _GAPS[c.metric], "label": c.label}
        for stage, found in (("before", c.before), ("after", c.after), ("change", c.change)):
            if found is None:
                continue
            row = {**about, "stage": stage, **numbers(found), "n": c.n, "seeds": c.seeds}
            if row["value"] is None:
                row["reason"] = c.reason
            if stage == "after" and not c.reason:
                smallest = None if math.isinf(c.smallest) else c.smallest
                row |= {"lowest": c.pair[0], "highest": c.pair[1], "smallest": smallest}
            if stage == "before" and c.pair_before:
                row |= {"lowest": c.pair_before[0], "highest": c.pair_before[1]}
            if stage == "change":
                row |= {"p_value": c.p_value, "p_holm": c.p_holm, "verdict": c.verdict, "sentence": sentence(c)}
            yield row
    for level in one.levels:
        row = {**who(level.method), **where, "group": level.group, "metric": level.metric, "label": level.label}
        row |= {"stage": level.stage, **numbers(level.found), "n": level.n, "seeds": level.seeds}
        yield row | ({"reason": "no example to divide by"} if row["value"] is None else {})
