"""Many methods at once: every pair compared and corrected for being many, and a ranking that shows ties."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ftlib.core.errors import FtlibError
from ftlib.stats.linearize import RANGES, label_values
from ftlib.stats.paired import Difference, difference, holm, label_swap_test
from ftlib.stats.variance import as_scores
from ftlib.stats.verdict import Comparison, Voice, in_words


class Pair(NamedTuple):
    """One comparison of a family."""

    a: str
    b: str
    comparison: Comparison
    p_holm: float
    """The p-value corrected for all comparisons of the family (Holm)."""


class Place(NamedTuple):
    """A row of a ranking."""

    rank: int
    """1 + the number of methods established to be better: methods not shown to differ share ranks."""
    name: str
    value: float
    tied_with: tuple[str, ...]
    """Methods it is the same as, or undecided against, best first."""


def compare_all(
    scores: Mapping[str, ArrayLike],
    *,
    margin: float,
    alpha: float = 0.05,
    rng: np.random.Generator,
    pairs: Iterable[tuple[str, str]] | None = None,
    clusters: ArrayLike | None = None,
    unit: str = "points",
    higher_is_better: bool = True,
    labels: ArrayLike | None = None,
    metric: str | None = None,
    positive: int = 1,
    draws_nothing: Collection[str] | None = None,
) -> list[Pair]:
    """Compare every pair of methods by a mean or by a metric of labels, corrected for being many (Holm).

    A metric of labels is compared in its linear form (`ftlib.stats.linearize`), as a mean is. With one seed its p-value
    comes from a permutation test, and the interval is widened to hold 0 where the two disagree.

    Intervals stay at 1 - alpha each; a "better" or "worse" must survive the correction, and where it does not the
    sentence says so. A verdict of "same" is one claim at alpha and is not corrected.

    Args:
        scores: Method -> `(n_seeds, n_examples)` scores; with `metric`, class numbers that were predicted. For ratios
            give `ftlib.stats.linearize.ratio_values`.
        alpha: 1 - confidence, and the chance of any wrong "better" or "worse" in the whole family.
        pairs: The plan's comparisons; all pairs where left out.
        labels: `(n_examples,)` class numbers, with `metric`.
        metric: `accuracy`, `f1_macro`, `f1_binary` or `mcc`; None: the mean of the scores.
        draws_nothing: Methods without chance of their own (majority, zero-shot), whose single row is all there is to
            know. None: where some method has several seeds, those with a single row.

    Returns:
        One `Pair` for each comparison, in the order of `pairs`.

    >>> right, wrong = np.ones(50), np.zeros(50)
    >>> found = compare_all({"x": right, "y": wrong, "z": right}, margin=0.01, rng=np.random.default_rng(0))
    >>> [(p.a, p.b, p.comparison.verdict) for p in found]
    [('x', 'y', 'better'), ('x', 'z', 'same'), ('y', 'z', 'worse')]
    """
    if metric is not None and labels is None:
        raise FtlibError("compare_all: a metric of labels needs labels")
    if metric is None:
        tables = {name: as_scores(table, name) for name, table in scores.items()}
    else:
        tables = {name: label_values(labels, table, metric, positive=positive) for name, table in scores.items()}
        undefined = [name for name, table in tables.items() if np.isnan(table).any()]
        if undefined:
            raise FtlibError(f"{metric} of class {positive} is undefined for {', '.join(undefined)}: it occurs nowhere")
    wanted = list(combinations(tables, 2)) if pairs is None else [tuple(pair) for pair in pairs]
    missing = sorted({name for pair in wanted for name in pair} - set(tables))
    if missing:
        raise FtlibError(f"pairs: found {', '.join(missing)}; allowed: {', '.join(tables)}")
    several = any(len(table) > 1 for table in tables.values())
    found = []
    for a, b in wanted:
        one_run = len(tables[a]) == len(tables[b]) == 1
        p_swap = None
        if one_run and metric not in (None, "accuracy"):
            p_swap = label_swap_test(labels, scores[a], scores[b], metric, rng, positive=positive, clusters=clusters)
        measured = difference(
            tables[a],
            tables[b],
            margin=margin,
            alpha=alpha,
            clusters=clusters,
            bounds=RANGES[metric] if metric else None,
            p_exact=p_swap,
            name_a=a,
            name_b=b,
        )
        draws = not several if draws_nothing is None else not (a in draws_nothing and b in draws_nothing)
        found.append((measured, Voice(a, b, unit, higher_is_better, one_run=one_run and draws)))
    return corrected(found)


def corrected(found: Sequence[tuple[Difference, Voice]]) -> list[Pair]:
    """Comparisons of one family, in words, each p-value corrected for all of them (Holm)."""
    adjusted = holm([measured.p_value for measured, _ in found])
    return [
        Pair(voice.a, voice.b, in_words(measured, voice, float(p), len(found)), float(p))
        for (measured, voice), p in zip(found, adjusted, strict=True)
    ]


def ranking(values: Mapping[str, float], pairs: Iterable[Pair], *, higher_is_better: bool = True) -> list[Place]:
    """Rank methods so that ties show as ties.

    A method's rank is 1 + the number of methods established to be better than it. "Not shown to differ" does not
    carry over from pair to pair (x ties y, y ties z, x beats z), so every place names whom it ties with.

    Args:
        values: Method -> value, which orders methods of one rank.
        pairs: From `compare_all`. Pairs that were not compared count as ties.

    Raises:
        FtlibError: A pair names a method without a value.

    >>> right, wrong = np.ones(50), np.zeros(50)
    >>> pairs = compare_all({"x": right, "y": wrong, "z": right}, margin=0.01, rng=np.random.default_rng(0))
    >>> [(p.rank, p.name, p.tied_with) for p in ranking({"x": 1.0, "y": 0.0, "z": 1.0}, pairs)]
    [(1, 'x', ('z',)), (1, 'z', ('x',)), (3, 'y', ())]
    """
    beaten_by: dict[str, set[str]] = {name: set() for name in values}
    for pair in pairs:
        if pair.a not in values or pair.b not in values:
            raise FtlibError(f"ranking: no value for {pair.a if pair.a not in values else pair.b}")
        if pair.comparison.verdict == "better":
            beaten_by[pair.b].add(pair.a)
        elif pair.comparison.verdict == "worse":
            beaten_by[pair.a].add(pair.b)
    order = sorted(values, key=lambda name: -values[name] if higher_is_better else values[name])
    places = [
        Place(
            1 + len(beaten_by[name]),
            name,
            float(values[name]),
            tuple(n for n in order if n != name and n not in beaten_by[name] and name not in beaten_by[n]),
        )
        for name in order
    ]
    return sorted(places, key=lambda place: place.rank)
