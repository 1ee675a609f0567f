"""How often each group of people is got right by a method, before adapting and after."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftlib.intervals import Interval, interval
from ftlib.report.parts import Part
from ftlib.report.rows import comparable
from ftlib.report.study import Group
from ftlib.spread import Array


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
