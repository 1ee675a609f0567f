"""Runs beside each other: which were measured on the same examples, on which seeds two can be paired, who is better.

Every comparison of the report is made here, through `ftlib.stats.multiple.compare_all`.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ftlib.records.predictions import Part
from ftlib.stats.intervals import Interval
from ftlib.stats.multiple import Pair, compare_all
from ftlib.stats.variance import Array
from ftlib.stats.verdict import Comparison

T = TypeVar("T")


def in_most(some: Iterable[T], key: Callable[[T], Hashable]) -> list[T]:
    """Those whose key most of them have; the key that comes first, where several are as frequent.

    >>> in_most(["a", "bb", "cc", "d"], len)
    ['a', 'd']
    """
    some = list(some)
    counts = Counter(map(key, some))
    most = max(counts, key=lambda one: counts[one], default=None)
    return [one for one in some if key(one) == most]


def common_examples(parts: Iterable[Part]) -> list[Part]:
    """The parts that share examples and protocol of most of them."""
    return in_most(parts, lambda part: (part.same, part.protocol))


class Side(NamedTuple):
    """One side of a paired comparison."""

    name: str
    seeds: tuple[int, ...]
    table: Array
    """(n_seeds, n_examples): scores; with a metric of labels, class numbers."""
    draws: bool = True
    """False where its one row stands for every seed."""
    called: str = ""
    """Its name in sentences, where that is another."""

    def on(self, seeds: Sequence[int]) -> tuple[str, Array]:
        """What it is called in sentences about these seeds only, and its rows."""
        said = self.called or self.name
        if not self.draws:
            return said, self.table[:1]
        if set(seeds) < set(self.seeds):
            said += f" [seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}]"
        return said, self.table[[self.seeds.index(seed) for seed in seeds]]


TESTED = "by two one-sided tests at 5 %, while the intervals shown are the wider ones at 95 %"
"""How "equivalent" was shown, for the notes of sections."""


class Paired(NamedTuple):
    """A comparison, and on how many seeds it is paired."""

    a: str
    b: str
    pair: Pair
    n_seeds: int
    n: int
    """Examples, of all tasks that are compared."""
    identical: bool
    """Whether the scores are equal everywhere."""

    @property
    def comparison(self) -> Comparison:
        """The verdict with its numbers."""
        return self.pair.comparison

    @property
    def p_holm(self) -> float:
        """The p-value, corrected for the whole family."""
        return self.pair.p_holm

    @property
    def compared_as(self) -> tuple[str, str]:
        """The names in the comparison's sentence."""
        return self.pair.a, self.pair.b


def common_seeds(a: Any, b: Any) -> tuple[int, ...]:
    """The seeds that both sides have; a side that draws nothing has them all. Sides have `draws` and `seeds`."""
    drawn = [set(side.seeds) for side in (a, b) if side.draws]
    return tuple(sorted(set.intersection(*drawn))) if drawn else (0,)


def paired_comparisons(pairs: Sequence[tuple[Side, Side]], **how: Any) -> list[Paired]:
    """Compare pairs on the seeds that both sides have, as one family (Holm); pairs without such seeds are left out.

    Args:
        pairs: Of sides with the same examples.
        how: margin, rng and the rest of `compare_all`.
    """
    tables: dict[str, Array] = {}
    keys, kept, still = [], [], set()
    if (clusters := how.get("clusters")) is not None and len(set(clusters)) < 2:
        return []
    for a, b in pairs:
        seeds = common_seeds(a, b)
        # One example has no spread to learn from.
        if not seeds or a.table.shape[1] < 2:
            continue
        keys.append(tuple(_entered(tables, *side.on(seeds)) for side in (a, b)))
        still |= {key for key, side in zip(keys[-1], (a, b), strict=True) if not side.draws}
        kept.append((a, b, len(seeds)))
    if not keys:
        return []
    found = compare_all(tables, pairs=keys, draws_nothing=still, **how)
    return [
        Paired(a.name, b.name, pair, n_seeds, a.table.shape[1], bool(np.all(tables[pair.a] == tables[pair.b])))
        for pair, (a, b, n_seeds) in zip(found, kept, strict=True)
    ]


def _entered(tables: dict[str, Array], name: str, table: Array) -> str:
    """Put a table under a name, or under the name with a number where it has another table."""
    free, number = name, 1
    while free in tables and not np.array_equal(tables[free], table):
        number += 1
        free = f"{name} ({number})"
    tables[free] = table
    return free


def apart(found: Any) -> Interval:
    """How far two are apart, whoever is ahead: the difference of a comparison without its sign, and its interval."""
    if found.difference < 0:
        return Interval(-found.difference, -found.high, -found.low)
    return Interval(found.difference, found.low, found.high)


def comparison_sentence(
    found: Any, words: Mapping[str, str], shown: Callable[[float], str], counted: str = "", verdict: str = ""
) -> str:
    """A comparison in words.

    Args:
        found: What has a verdict, a difference and its bounds.
        words: For each verdict a phrase with places for {size} and {sure}, the interval in brackets.
        shown: How a number is said.
        counted: What stands after the interval: on how many examples and seeds it rests.
        verdict: Where it is another than the comparison's own.
    """
    size, low, high = map(shown, apart(found))
    sure = f"({low} to {high}{f'; {counted}' if counted else ''})"
    return words[verdict or found.verdict].format(size=size, sure=sure)
