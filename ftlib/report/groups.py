"""Whom methods treat worse: how often each group of people is got right before and after, and what became of the gaps.

A gap is the rate of the group that fares best minus that of the one that fares worst: of accuracy, and of equal
opportunity (examples with a label that are given it) for the label where that is largest after adapting. Its interval,
and that of its change, come from the two-way table of seeds and examples (`ftlib.spread`), each group's rate in its
linear form. Groups and label were picked by looking, so the level is divided by how many there were to pick from.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftlib.intervals import Interval, interval
from ftlib.metrics.fairness import looked_at, unnamed
from ftlib.metrics.gaps import FEWEST, smallest_gap
from ftlib.report.parts import Part
from ftlib.report.rows import comparable
from ftlib.report.study import Group, Study
from ftlib.spread import Array, spread
from ftlib.stats import holm

ALPHA = 0.05
_NONE = Interval(math.nan, math.nan, math.nan)


class Level(NamedTuple):
    """One group's rate at one stage."""

    method: Group
    stage: str
    group: str
    metric: str
    """accuracy, or tpr of `label`."""
    label: str
    found: Interval
    n: int
    """Examples it divides by."""
    seeds: int


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


class _Sides(NamedTuple):
    method: Group
    before: NDArray | None
    """(n_seeds, n_examples) numbers of the predicted labels; one row where all seeds have the same."""
    after: NDArray
    part: Part
    code: NDArray
    names: tuple[str, ...]


class _Cut(NamedTuple):
    """Hits of one rate, of the groups that take part in its gap."""

    label: str
    names: tuple[str, ...]
    code: NDArray
    sides: tuple[Array | None, Array]
    """before and after: (n_seeds, n_examples)."""
    clusters: NDArray | None

    @property
    def rates(self) -> Array:
        """(n_groups,) after adapting, mean over seeds."""
        return _rates(self.sides[1], self.code, len(self.names)).mean(axis=0)


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
            sides = [one for group in methods if (one := _sides(group, name, column))]
            if sides:
                found.append(_treated(task, name, column, sides))
    return found


def _sides(method: Group, name: str, column: str) -> _Sides | None:
    pairs = [(run.parts.get(("before", name)), run.parts.get(("after", name))) for run in method.ok]
    pairs = [(a, b) for a, b in pairs if b is not None and b.chosen is not None and column in b.groups]
    if not pairs:
        return None
    kept = {id(part) for part in comparable([after for _, after in pairs])}
    pairs = [pair for pair in pairs if id(pair[1]) in kept]
    first, before = pairs[0][1], [a for a, b in pairs if a is not None and a.chosen is not None and a.same == b.same]
    if len({part.answers for part in before}) == 1:
        before = before[:1]
    elif len(before) < len(pairs):
        before = []
    names, code = np.unique(first.groups[column].astype(str), return_inverse=True)
    chosen = np.stack([part.chosen for _, part in pairs])
    earlier = np.stack([part.chosen for part in before]) if before else None
    return _Sides(method, earlier, chosen, first, code, tuple(map(str, names)))


def _treated(task: str, name: str, column: str, sides: Sequence[_Sides]) -> Treated:
    changes = [change for one in sides for change in _changes(one)]
    # What changed nothing is no hypothesis, and costs the others no correction.
    asked = [place for place, one in enumerate(changes) if one.change is not None and one.verdict != "unchanged"]
    for place, p in zip(asked, holm([changes[place].p_value for place in asked]), strict=True):
        one = changes[place]
        moved = "smaller" if one.change.value < 0 else "larger"
        changes[place] = one._replace(p_holm=float(p), verdict=moved if p <= ALPHA else "cannot tell")
    labels = {one.method.name: one.label for one in changes if one.metric == "tpr"}
    levels = [level for one in sides for level in _levels(one, labels[one.method.name])]
    sizes = dict(zip(sides[0].names, np.bincount(sides[0].code), strict=True))
    left_out = tuple(f"{group} ({n})" for group, n in sizes.items() if n < FEWEST or group == unnamed())
    return Treated(task, name, column, tuple(changes), tuple(levels), left_out)


def _changes(one: _Sides) -> Iterator[Change]:
    yield _change(one, "accuracy", [_cut(one, "accuracy", "", 0)])
    yield _change(one, "tpr", [_cut(one, "tpr", *label) for label in looked_at(one.part.labels).items()])


def _hits(one: _Sides, metric: str, number: int) -> tuple[NDArray, list[Array | None]]:
    """Which examples a rate is about, and before and after which of them are hits."""
    truth = one.part.truth
    among = truth == number if metric == "tpr" else np.ones(len(truth), bool)
    right = [None if chosen is None else (chosen == truth)[:, among] for chosen in (one.before, one.after)]
    return among, [None if side is None else side.astype(float) for side in right]


def _cut(one: _Sides, metric: str, label: str, number: int) -> _Cut:
    among, sides = _hits(one, metric, number)
    code, clusters = one.code[among], one.part.clusters
    sizes, blank = np.bincount(code, minlength=len(one.names)), unnamed()
    kept = [place for place, name in enumerate(one.names) if name != blank and sizes[place] >= FEWEST]
    inside = np.isin(code, kept)
    return _Cut(
        label,
        tuple(one.names[place] for place in kept),
        np.searchsorted(kept, code[inside]),
        tuple(None if side is None else side[:, inside] for side in sides),
        None if clusters is None else clusters[among][inside],
    )


def _change(one: _Sides, metric: str, cuts: Sequence[_Cut]) -> Change:
    seeds = len(one.after)
    able = [cut for cut in cuts if len(cut.names) > 1 and (cut.clusters is None or len(set(cut.clusters)) > 1)]
    if not able:
        sizes = ", ".join(f"{name}: {n}" for name, n in zip(one.names, np.bincount(one.code), strict=True))
        reason = f"a gap takes two named groups with {FEWEST} examples or more to divide by, of two sources ({sizes})"
        before = None if one.before is None else _NONE
        return Change(one.method, metric, "", _NONE, before, None, 1.0, 1.0, "", (), (), math.inf, 0, seeds, reason)
    cut = max(able, key=lambda cut: np.ptp(cut.rates))
    groups = len(cut.names)
    picked_from = len(able) * groups * (groups - 1) // 2
    level = ALPHA / picked_from
    before, after = cut.sides
    sides = [None if side is None else _gap_values(side, cut, imagined) for side, imagined in ((before, 1), (after, 0))]
    pairs = [() if side is None else _ends(side, cut) for side in cut.sides]
    sizes = [_draws(cut, cut.code == place) for place in pairs[1]]
    pooled = float(after[:, np.isin(cut.code, pairs[1])].mean())
    pooled = (pooled * sum(sizes) + 1) / (sum(sizes) + 2)
    change, p, verdict = None, 1.0, ""
    if sides[0] is not None:
        step = sides[1][1] - sides[0][1]
        found = spread(step, _sources(cut))
        value = sides[1][0] - sides[0][0]
        change, p = _around(value, found, level), min(1.0, picked_from * found.p_value())
        if (before == after).all():
            change, p, verdict = Interval(0.0, 0.0, 0.0), 1.0, "unchanged"
    levels = [
        None if side is None else _positive(_around(side[0], spread(side[1], _sources(cut)), level)) for side in sides
    ]
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


def _gap_values(hits: Array, cut: _Cut, first: int) -> tuple[float, Array]:
    """A stage's gap, and values whose mean it is but for imagined examples: a hit and a miss for every group.

    Without them a group that is always got right would be taken to be so for certain. Before and after adapting they
    are each other's opposite, as two examples that changed (Bonett and Price 2012).
    """
    groups = len(cut.names)
    weights = np.zeros(groups)
    weights[list(_ends(hits, cut))] = -1.0, 1.0
    imagined = np.tile([first, 1 - first], (len(hits), groups)).astype(float)
    code = np.concatenate([cut.code, np.repeat(np.arange(groups), 2)])
    gap = float(np.ptp(_rates(hits, cut.code, groups).mean(axis=0)))
    return gap, linear(np.concatenate([hits, imagined], axis=1), code, weights)


def _ends(hits: Array, cut: _Cut) -> tuple[int, int]:
    """The groups with the lowest and the highest rate in the mean over seeds; two even where all rates are equal."""
    rates = _rates(hits, cut.code, len(cut.names)).mean(axis=0)
    lowest, highest = int(rates.argmin()), int(rates.argmax())
    return lowest, highest if highest != lowest else (lowest + 1) % len(rates)


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


def _around(value: float, found: Any, level: float) -> Interval:
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


def _draws(cut: _Cut, some: NDArray) -> int:
    return int(some.sum()) if cut.clusters is None else len(set(cut.clusters[some]))


def _levels(one: _Sides, label: str) -> Iterator[Level]:
    """Every group's accuracy, and its rate for the label of the gap."""
    wanted = [("accuracy", "", 0), *([("tpr", label, one.part.labels.index(label))] if label else [])]
    for metric, named, number in wanted:
        among, sides = _hits(one, metric, number)
        sources = None if one.part.clusters is None else one.part.clusters[among]
        for stage, hits in zip(("before", "after"), sides, strict=True):
            for place, group in enumerate(one.names) if hits is not None else ():
                own = one.code[among] == place
                found = _level(hits[:, own], None if sources is None else sources[own])
                yield Level(one.method, stage, group, metric, named, found, int(own.sum()), len(hits))


def _level(hits: Array, clusters: NDArray | None) -> Interval:
    if not hits.size:
        return _NONE
    if hits.shape[1] < 2 or (clusters is not None and len(set(clusters)) < 2):
        return Interval(float(hits.mean()), math.nan, math.nan)
    return interval(hits, clusters=clusters)
