"""What a model's probabilities are worth: accuracy of the answers it is surest of, and the threshold that costs least.

Both are resampled: examples (their sources, where they come in such) and seeds are drawn anew, alike for all methods.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ftlib.stats.intervals import Interval
from ftlib.stats.paired import wilson
from ftlib.stats.variance import Array

COVERAGES = tuple(k / 20 for k in range(1, 21))
"""Shares of the examples that are answered."""


def drawn_again(
    n: int, n_seeds: int, rng: np.random.Generator, n_replicates: int, clusters: ArrayLike | None = None
) -> tuple[Array, Array]:
    """How often each example and each seed is drawn.

    Returns:
        (n_replicates, n) and (n_replicates, n_seeds) counts.

    >>> examples, seeds = drawn_again(4, 2, np.random.default_rng(0), 3)
    >>> examples.shape, seeds.sum(axis=1).tolist()
    ((3, 4), [2.0, 2.0, 2.0])
    """
    _, source = np.unique(np.arange(n) if clusters is None else np.asarray(clusters).astype(str), return_inverse=True)
    k = int(source.max()) + 1
    by_source = rng.multinomial(k, np.full(k, 1 / k), size=n_replicates).astype(float)
    return by_source[:, source], rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=n_replicates).astype(
        float
    )


def accuracy_at(hits: ArrayLike, sure: ArrayLike, coverages: Sequence[float], weights: ArrayLike) -> Array:
    """Accuracy of the surest answers, for several shares of the examples and weightings of them.

    Args:
        hits: (n,) 1 where the answer is right.
        sure: (n,) how sure the model was; what is equally sure stands in the order given.
        coverages: (n_coverages,) shares above 0 to 1.
        weights: (n_weightings, n).

    Returns:
        (n_weightings, n_coverages).

    The surest half of four answers is right, the rest is half right:

    >>> accuracy_at([1, 0, 1, 1], [0.9, 0.6, 0.7, 0.8], [0.5, 1.0], np.ones((1, 4))).tolist()
    [[1.0, 0.75]]
    """
    order = np.argsort(-np.asarray(sure, dtype=float), kind="stable")
    weights = np.asarray(weights, dtype=float)[:, order]
    seen, right = weights.cumsum(axis=1), (weights * np.asarray(hits, dtype=float)[order]).cumsum(axis=1)
    found = np.empty((len(weights), len(coverages)))
    for row, (total, hit) in enumerate(zip(seen, right, strict=True)):
        # The first place where the wanted share is reached; rounding must not push it one on.
        at = np.searchsorted(total, np.asarray(coverages) * total[-1] - 1e-9)
        found[row] = hit[at] / total[at]
    return found


def coverage_curve(
    hits: ArrayLike, sure: ArrayLike, rng: np.random.Generator, *, clusters: ArrayLike | None = None,
    n_replicates: int = 200,
) -> list[Interval]:  # fmt: skip
    """Accuracy of the surest answers at each of `COVERAGES`, mean over seeds, with 95 % intervals.

    Percentiles of replicates, or Wilson's interval for so many answers where that is wider: replicates of answers that
    are all right are all right.

    Args:
        hits: (n_seeds, n_examples).
        sure: (n_seeds, n_examples).

    Of the surest tenth, one answer, nothing is known:

    >>> rng = np.random.default_rng(0)
    >>> [round(end, 2) for end in coverage_curve(np.ones((1, 10)), [np.arange(10)], rng)[1]]
    [1.0, 0.21, 1.0]
    """
    hits, sure = np.asarray(hits, dtype=float), np.asarray(sure, dtype=float)
    n_seeds, n = hits.shape
    examples, seeds = drawn_again(n, n_seeds, rng, n_replicates, clusters)
    values = np.stack([accuracy_at(h, s, COVERAGES, np.ones((1, n)))[0] for h, s in zip(hits, sure, strict=True)])
    each = np.stack([accuracy_at(h, s, COVERAGES, examples) for h, s in zip(hits, sure, strict=True)])
    again = np.einsum("bs,sbc->bc", seeds / n_seeds, each)
    low, high = np.quantile(again, [0.025, 0.975], axis=0)
    level = values.mean(axis=0)
    sources = n if clusters is None else len(np.unique(np.asarray(clusters).astype(str)))
    fewest = [answered(share, sources) for share in COVERAGES]
    wilsons = np.array([wilson(rate * m, m) for rate, m in zip(level.clip(0, 1), fewest, strict=True)]).T
    low, high = np.minimum(low, wilsons[0]), np.maximum(high, wilsons[1])
    return [Interval(*map(float, one)) for one in zip(level, low, high, strict=True)]


def answered(share: float, n: int) -> int:
    """How many examples a share of n is, as `accuracy_at` takes it.

    >>> answered(0.05, 45), answered(1.0, 45)
    (3, 45)
    """
    return max(1, math.ceil(share * n - 1e-9))


class Cheapest(NamedTuple):
    """What a method costs where its threshold costs least."""

    threshold: float
    """From this probability of the second label on it is given."""
    cost: Interval
    """Mean cost of an example, of examples that had no part in choosing the threshold."""
    false_alarms: float
    """Share of the same examples; with `misses` it is what makes the cost."""
    misses: float
    best: float
    """Share of the replicates in which no other method costs less."""


def cheapest_thresholds(
    truth: ArrayLike, probabilities: Sequence[ArrayLike], false_alarm: float, miss: float, rng: np.random.Generator,
    *, clusters: ArrayLike | None = None, n_replicates: int = 200,
) -> list[Cheapest]:  # fmt: skip
    """The threshold at which each method costs least, and what it costs there.

    A replicate chooses the threshold on the examples that it drew and is charged for those that it did not, so that
    nobody is rewarded for a threshold that fits the very examples it is judged on.

    Args:
        truth: (n,) 1 where the second label is right, else 0.
        probabilities: Of each method (n,) of the second label, mean over its seeds.
        false_alarm: What it costs to give the second label where it is wrong.
        miss: What it costs not to give it where it is right.

    Of two methods one is always right:

    >>> found = cheapest_thresholds([0, 1] * 20, [[0.2, 0.8] * 20, [0.5, 0.5] * 20], 1, 10, np.random.default_rng(0))
    >>> [(round(one.cost.value, 1), one.best) for one in found], 0.2 < found[0].threshold <= 0.8
    ([(0.0, 1.0), (0.5, 0.0)], True)
    """
    truth = np.asarray(truth, dtype=float)
    examples, _ = drawn_again(len(truth), 1, rng, n_replicates, clusters)
    charged = examples[(examples == 0).any(axis=1)]
    weighings = np.concatenate([np.ones((1, len(truth))), charged])
    found, again, errors = [], [], []
    for p in (np.asarray(one, dtype=float) for one in probabilities):
        order = np.argsort(-p, kind="stable")
        label = truth[order]
        # Place k: the k examples with the highest probability are given the second label; equal ones go together.
        able = np.r_[True, np.diff(p[order]) != 0, True]
        weights = weighings[:, order]
        alarms = np.pad((weights * (1 - label)).cumsum(axis=1), ((0, 0), (1, 0)))
        hits = np.pad((weights * label).cumsum(axis=1), ((0, 0), (1, 0)))
        costs = false_alarm * alarms + miss * (hits[:, -1:] - hits)
        places = np.where(able, costs, np.inf).argmin(axis=1)
        rest = (charged[:, order] == 0).astype(float)
        given = np.arange(len(p)) < places[1:, None]
        each = np.where(given, false_alarm * (1 - label), miss * label)
        again.append((rest * each).sum(axis=1) / rest.sum(axis=1))
        wrong = (given * (1 - label), ~given * label)
        errors.append([float(((rest * kind).sum(axis=1) / rest.sum(axis=1)).mean()) for kind in wrong])
        place = int(places[0])
        ends = (p[order[place - 1]] if place else 1.0, p[order[place]] if place < len(p) else 0.0)
        found.append((ends[0] + ends[1]) / 2 if place and place < len(p) else ends[0] if place else 1.0)
    table = np.stack(again)
    best = (table == table.min(axis=0)).astype(float)
    best /= best.sum(axis=0)
    lows, highs = np.quantile(table, [0.025, 0.975], axis=1)
    return [
        Cheapest(
            float(threshold),
            Interval(float(row.mean()), float(low), float(high)),
            *wrong,
            float(share),
        )
        for threshold, row, low, high, wrong, share in zip(
            found, table, lows, highs, errors, best.mean(axis=1), strict=True
        )
    ]
