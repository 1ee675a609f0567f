"""One figure for several tasks, several tries or two goals at once.

Interquartile mean and probability of improvement over tasks (Agarwal et al. 2021, "Deep RL at the edge of the
statistical precipice"), expected best of k tuning tries, and how surely a method is on the Pareto front.
"""

from collections.abc import Mapping
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ftlib.core.errors import FtlibError
from ftlib.stats.bootstrap import bootstrap_means, resampling_counts
from ftlib.stats.variance import Array, as_scores, check_alpha, variance_components


class Aggregate(NamedTuple):
    """A figure over several tasks with its 1 - alpha interval, for new runs on these same tasks."""

    value: float
    low: float
    high: float


def interquartile_mean(scores: ArrayLike) -> float:
    """Mean of the middle half of all runs on all tasks; runs are not thrown out one task at a time.

    Trims floor(n / 4) values from each end of the n = n_seeds * n_tasks sorted values, as rliable and scipy's
    `trim_mean` do.

    Args:
        scores: `(n_seeds, n_tasks)`, put on one scale first (accuracy, or 0 = baseline and 1 = best known).

    Of 1, 2, 3, 100 the middle half is 2 and 3:

    >>> interquartile_mean([[1, 2], [3, 100]])
    2.5
    """
    return float(_trimmed(as_scores(scores).ravel()))


def interquartile_mean_interval(
    scores: ArrayLike, rng: np.random.Generator, *, n_replicates: int = 10_000, alpha: float = 0.05
) -> Aggregate:
    """Interquartile mean with a stratified bootstrap: runs are drawn anew within every task.

    Returns:
        Value and percentile interval: about new runs on these tasks, not about new tasks. Below ten seeds it is too
        narrow, as every percentile bootstrap is.

    >>> interquartile_mean_interval(np.ones((3, 4)), np.random.default_rng(0), n_replicates=20)
    Aggregate(value=1.0, low=1.0, high=1.0)
    """
    table = as_scores(scores)
    n_seeds, n_tasks = table.shape
    drawn = rng.integers(0, n_seeds, size=(n_replicates, n_seeds, n_tasks))
    replicates = _trimmed(table[drawn, np.arange(n_tasks)].reshape(n_replicates, -1))
    low, high = np.quantile(replicates, [alpha / 2, 1 - alpha / 2])
    return Aggregate(interquartile_mean(table), float(low), float(high))


def _trimmed(values: Array) -> Array:
    cut = values.shape[-1] // 4
    return np.sort(values, axis=-1)[..., cut : values.shape[-1] - cut].mean(axis=-1)


def probability_of_improvement(
    a: ArrayLike, b: ArrayLike, rng: np.random.Generator, *, n_replicates: int = 2_000, alpha: float = 0.05
) -> Aggregate:
    """Chance that a run of a beats a run of b on a task drawn from these; ties count half (Mann-Whitney).

    Args:
        a: `(n_seeds_a, n_tasks)`.
        b: `(n_seeds_b, n_tasks)`; the numbers of seeds may differ.

    Raises:
        FtlibError: See `ftlib.stats.variance.as_scores`; or different numbers of tasks.

    On the first task a's 2 beats 1 and ties 2 (0.75), on the second it always wins:

    >>> probability_of_improvement([[2, 9]], [[1, 0], [2, 1]], np.random.default_rng(0)).value
    0.875
    """
    a, b = as_scores(a, "a"), as_scores(b, "b")
    if a.shape[1] != b.shape[1]:
        raise FtlibError(f"found {a.shape[1]} and {b.shape[1]} tasks; allowed: the same tasks for both")
    wins = (a[:, None] > b[None]) + 0.5 * (a[:, None] == b[None])
    times_a, times_b = (
        np.stack([np.concatenate(list(resampling_counts(len(x), n_replicates, rng))) for _ in range(a.shape[1])])
        for x in (a, b)
    )
    replicates = np.einsum("tra,abt,trb->r", times_a, wins, times_b, optimize=True)
    replicates /= len(a) * len(b) * a.shape[1]
    low, high = np.quantile(replicates, [alpha / 2, 1 - alpha / 2])
    return Aggregate(float(wins.mean()), float(low), float(high))


def expected_best(scores: ArrayLike, *, higher_is_better: bool = True) -> Array:
    """Expected best of k tries, for every k up to the number made: what a tuning budget buys.

    The mean over all subsets of k of the n tries, without replacement: unbiased (Tang et al. 2020), where drawing with
    replacement as in "Show your work" (Dodge et al. 2019) is too low. With the scores sorted upwards the i-th
    is the best of comb(i - 1, k - 1) subsets out of comb(n, k).

    Args:
        scores: `(n_tries,)` validation scores of independent settings.

    Returns:
        `(n_tries,)`: entry k - 1 for k tries.

    Raises:
        FtlibError: No tries, or values that are not finite.

    The pairs of 1, 2, 3 have maxima 2, 3, 3:

    >>> [round(float(x), 4) for x in expected_best([3, 1, 2])]
    [2.0, 2.6667, 3.0]
    """
    values = np.asarray(scores, dtype=float)
    if values.ndim != 1 or len(values) < 1 or not np.isfinite(values).all():
        raise FtlibError(f"scores: found shape {values.shape}; allowed: (n_tries,) finite numbers, at least one")
    order = np.sort(values if higher_is_better else -values)
    n = len(order)
    # weights[i] for k + 1 from those for k: comb(i, k) / comb(n, k + 1), with i counted from 0.
    weights, best = np.full(n, 1 / n), np.empty(n)
    rank = np.arange(n)
    for k in range(1, n + 1):
        best[k - 1] = weights @ order
        if k < n:
            weights = weights * np.maximum(rank - k + 1, 0) / k * (k + 1) / (n - k)
    return best if higher_is_better else -best


class BestOf(NamedTuple):
    """What tuning budgets of 1, 2, ... settings buy, entry k - 1 for k settings."""

    seeds: Array
    """`(n_seeds, n_tries)`: the expected best of k of each seed."""
    value: Array
    """`(n_tries,)`: their mean over the seeds."""
    low: Array
    high: Array
    """`(n_tries,)`: 1 - alpha interval for new seeds, Student's t; NaN with one seed, which has no spread."""
    nothing: Array
    """`(n_tries,)`: share of the choices of k settings that all diverged, which `value` leaves out."""


def expected_best_of_seeds(tries: ArrayLike, *, higher_is_better: bool = True, alpha: float = 0.05) -> BestOf:
    """Expected best of k settings for every k, over seeds: `expected_best` where settings may diverge.

    Args:
        tries: `(n_seeds, n_tries)` validation scores, every column one setting; NaN: it diverged.

    Returns:
        See `BestOf`. The interval is about new seeds with the same validation examples.

    Raises:
        FtlibError: No table of numbers, infinite ones, or a seed for which every setting diverged.

    Of 1, 2 and one that diverged two of three pairs hold the 2, the other the 1; one of three single ones diverged:

    >>> found = expected_best_of_seeds([[1, 2, np.nan]])
    >>> found.value.round(4).tolist(), found.nothing.round(4).tolist()
    ([1.5, 1.6667, 2.0], [0.3333, 0.0, 0.0])
    """
    check_alpha(alpha)
    table = np.asarray(tries, dtype=float)
    if table.ndim != 2 or not table.size or np.isinf(table).any() or np.isnan(table).all(axis=1).any():
        raise FtlibError(
            f"tries: found shape {table.shape}; allowed: (n_seeds, n_tries) numbers, NaN where a setting diverged, at "
            "least one number for each seed"
        )
    n_seeds, n_tries = table.shape
    curves, nothing = np.empty_like(table), np.empty_like(table)
    for seed, row in enumerate(table):
        diverged = np.isnan(row)
        worst = np.nanmin(row) if higher_is_better else np.nanmax(row)
        # Those that diverged come last, as `worst` does; the choices of nothing else are taken out of the mean again.
        all_of = np.array([comb(int(diverged.sum()), k) / comb(n_tries, k) for k in range(1, n_tries + 1)])
        best = expected_best(np.where(diverged, worst, row), higher_is_better=higher_is_better)
        curves[seed], nothing[seed] = (best - all_of * worst) / (1 - all_of), all_of
    value, half = curves.mean(axis=0), np.full(n_tries, np.nan)
    if n_seeds > 1:
        half = np.array([variance_components(column).half_width(alpha) for column in curves.T])
    return BestOf(curves, value, value - half, value + half, nothing.mean(axis=0))


def pareto_membership(
    quality: Mapping[str, ArrayLike],
    cost: Mapping[str, float],
    rng: np.random.Generator,
    *,
    n_replicates: int = 4_000,
    clusters: ArrayLike | None = None,
    higher_is_better: bool = True,
) -> dict[str, float]:
    """Probability that a method is on the Pareto front: no other is at least as good and as cheap, and better in one.

    Args:
        quality: Method -> `(n_seeds, n_examples)` scores; one row serves all seeds. For metrics that are not means give
            `ftlib.stats.linearize.label_values`.
        cost: Method -> seconds, bytes or parameters; lower is better.

    Returns:
        Method -> share of replicates in which it is on the front; near 0.5 means that the data do not say.

    The cheapest is always on the front, an equal at twice the price never:

    >>> scores = {"cheap": [0, 1, 1], "dear": [0, 1, 1], "best": [1, 1, 1]}
    >>> found = pareto_membership(scores, {"cheap": 1, "dear": 2, "best": 3}, np.random.default_rng(0))
    >>> found["cheap"], found["dear"], 0.6 < found["best"] < 0.8  # 1 - (2/3)^3 = 0.70
    (1.0, 0.0, True)
    """
    names = list(quality)
    if set(names) != set(cost):
        raise FtlibError(f"found qualities of {sorted(quality)} and costs of {sorted(cost)}; allowed: the same methods")
    tables = [as_scores(quality[name], name) for name in names]
    n_seeds = max(len(table) for table in tables)
    if any(len(t) not in (1, n_seeds) or t.shape[1] != tables[0].shape[1] for t in tables):
        raise FtlibError(
            f"quality: found shapes {[t.shape for t in tables]}; allowed: the same examples and seeds, or one row"
        )
    shape = (n_seeds, tables[0].shape[1])
    stacked = np.stack([np.broadcast_to(table, shape) for table in tables])
    means = bootstrap_means(stacked, rng, n_replicates=n_replicates, clusters=clusters)
    # Sums of one order differ from sums of another in the last digit; a tie must stay a tie.
    means = np.round(means if higher_is_better else -means, 12)
    price = np.array([float(cost[name]) for name in names])
    on_front = {}
    for i, name in enumerate(names):
        as_good, better = means >= means[:, [i]], means > means[:, [i]]
        dominated = (as_good & (price < price[i])) | (better & (price <= price[i]))
        on_front[name] = float(1 - dominated.any(axis=1).mean())
    return on_front
