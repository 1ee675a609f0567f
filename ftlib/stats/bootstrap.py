"""Bootstrap and permutation: replicates as matrix products of resampling counts and scores.

Drawing an example twice is weighing it by 2, so B replicates of the means of many methods and seeds are one product of
a `(B, n_examples)` table of counts with the scores. Every method and seed sees the same resampled examples, which keeps
comparisons paired.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ftlib.core.errors import FtlibError
from ftlib.stats.variance import Array

CELLS = 2_000_000
"""Resampling counts held at once; 16 MB of float64 whatever the number of replicates."""


def resampling_counts(
    n: int, n_replicates: int, rng: np.random.Generator, dtype: DTypeLike = float
) -> Iterator[NDArray[np.floating]]:
    """Draw n of n with replacement, many times, and yield how often each was drawn, a block of replicates at a time.

    Yields:
        `(block, n)` counts; each row sums to n.

    >>> counts = next(resampling_counts(3, 2, np.random.default_rng(0)))
    >>> counts.shape, counts.sum(axis=1).tolist()
    ((2, 3), [3.0, 3.0])
    """
    block = max(1, min(n_replicates, CELLS // n))
    # Half-width random numbers, and one row at a time: both stay in the cache, which is twice as fast as one call.
    narrow = np.uint16 if n <= 2**16 else np.uint32
    for start in range(0, n_replicates, block):
        drawn = rng.integers(0, n, size=(min(block, n_replicates - start), n), dtype=narrow)
        counts = np.empty(drawn.shape, dtype)
        for row, indices in zip(counts, drawn, strict=True):
            row[:] = np.bincount(indices, minlength=n)
        yield counts


def bootstrap_means(
    scores: ArrayLike,
    rng: np.random.Generator,
    *,
    n_replicates: int = 10_000,
    clusters: ArrayLike | None = None,
    resample_seeds: bool = True,
) -> Array:
    """Two-level paired bootstrap of the mean of every method: examples and seeds are drawn anew, alike for all methods.

    Differences of columns are paired replicates of differences. As an interval this is too narrow below about ten
    seeds (a spread over S seeds is on average taken (S - 1) / S times too small, and no t quantile makes up for it:
    `docs/calibration.md`), which is why `ftlib.stats.verdict` does not use it; it serves what has no formula, such as
    the probability of being on a Pareto front.

    Args:
        scores: `(n_methods, n_seeds, n_examples)`.
        resample_seeds: False keeps the seeds as they are.

    Returns:
        `(n_replicates, n_methods)`.

    Raises:
        FtlibError: Wrong number of axes, or values that are not finite.

    Scores that never vary have means that never vary:

    >>> bootstrap_means(np.ones((2, 3, 4)), np.random.default_rng(0), n_replicates=2).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    table = np.asarray(scores, dtype=float)
    if table.ndim != 3 or not np.isfinite(table).all():
        raise FtlibError(
            f"scores: found shape {table.shape}; allowed: (n_methods, n_seeds, n_examples) of finite numbers"
        )
    n_methods, n_seeds, n_examples = table.shape
    flat = table.reshape(n_methods * n_seeds, n_examples)
    weights = np.ones(n_examples)
    if clusters is not None:
        index = np.unique(np.asarray(clusters), return_inverse=True)[1]
        if index.shape != (n_examples,):
            raise FtlibError(f"clusters: found shape {index.shape}; allowed: ({n_examples},)")
        weights = np.bincount(index).astype(float)
        flat = np.stack([np.bincount(index, weights=row) for row in flat])
    # Sums of small whole numbers (right or wrong) are exact in float32, which multiplies twice as fast.
    whole = (flat == np.rint(flat)).all() and np.abs(flat).max() * n_examples <= 2**24
    columns = np.ascontiguousarray(np.column_stack([flat.T, weights]), dtype=np.float32 if whole else np.float64)
    replicates = []
    for counts in resampling_counts(len(columns), n_replicates, rng, columns.dtype):
        sums = (counts @ columns).astype(float)
        means = sums[:, :-1] / sums[:, -1:]
        means = means.reshape(len(counts), n_methods, n_seeds)
        if resample_seeds and n_seeds > 1:
            seeds = np.concatenate(list(resampling_counts(n_seeds, len(counts), rng))) / n_seeds
            replicates.append((means @ seeds[:, :, None])[:, :, 0])
        else:
            replicates.append(means.mean(axis=2))
    return np.concatenate(replicates)


def swap_test(
    a: ArrayLike,
    b: ArrayLike,
    metric: Callable[[NDArray], NDArray],
    rng: np.random.Generator,
    *,
    n_permutations: int = 4_000,
    clusters: ArrayLike | None = None,
) -> float:
    """Permutation test that two runs are alike in a metric that is a function of sums over the examples.

    Were the two alike, which of the two gave which answer to an example would be a coin's fall: swap the answers to a
    random half of the examples and see how often the metrics differ as much (approximate randomisation, Noreen 1989;
    Yeh 2000 for F1). One run of each: with several seeds the seeds are what chance draws, not the answers.

    Args:
        a: `(n_examples, n_counts)`: what each example adds to the sums, first run
            (`ftlib.stats.linearize.label_counts`).
        metric: Sums `(..., n_counts)` to values `(...)`.

    Returns:
        Two-sided p-value, at least 1 / (n_permutations + 1).

    >>> x = np.array([[1.0], [0.0]])
    >>> swap_test(x, x, lambda sums: sums[..., 0], np.random.default_rng(0))
    1.0
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.ndim != 2 or a.shape != b.shape:
        raise FtlibError(f"found shapes {a.shape} and {b.shape}; allowed: (n_examples, n_counts) for both")
    step = b - a
    if clusters is not None:
        index = np.unique(np.asarray(clusters), return_inverse=True)[1]
        step = np.stack([np.bincount(index, weights=column) for column in step.T], axis=1)
    step = np.ascontiguousarray(step[(step != 0).any(axis=1)])
    if len(step) == 0:
        return 1.0
    sum_a, sum_b = a.sum(axis=0), b.sum(axis=0)
    found = abs(float(metric(sum_a) - metric(sum_b)))
    as_far, block = 0, max(1, CELLS // len(step))
    for start in range(0, n_permutations, block):
        size = min(block, n_permutations - start)
        swapped = rng.integers(0, 2, size=(size, len(step)), dtype=np.uint8).astype(float) @ step
        differences = np.abs(metric(sum_a + swapped) - metric(sum_b - swapped))
        as_far += int((differences >= found - 1e-12 * max(1.0, found)).sum())
    return (as_far + 1) / (n_permutations + 1)
