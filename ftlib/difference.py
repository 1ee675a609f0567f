"""The difference of two methods in numbers: interval, p-value, and how surely it lies within the margin."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ftlib.errors import FtlibError
from ftlib.influence import as_predictions, label_counts, metric_of_counts
from ftlib.resampling import swap_test
from ftlib.spread import Array, Spread, check_alpha, is_binary, paired, spread
from ftlib.stats import mcnemar_counts


class Difference(NamedTuple):
    """Everything a verdict is decided from."""

    value: float
    """a - b, in the unit of the scores."""
    low: float
    high: float
    """Bounds of the 1 - alpha interval."""
    p_value: float
    """Two-sided p-value of "no difference"; above alpha exactly where the interval holds 0."""
    p_same: float
    """P-value of "differs by the margin or more"; 1 without a margin."""
    low_same: float
    high_same: float
    """Bounds of the 1 - 2 alpha interval, which lies within the margin exactly where `p_same` is below alpha."""
    identical: bool
    """Equal scores everywhere."""
    margin: float
    alpha: float
    n_seeds: int
    n_examples: int
    n_draws: int
    """Clusters where there are any, examples otherwise."""
    spread: Spread | None
    """The variances behind it; None where the two are not paired (`ftlib.unpaired`)."""


def difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    margin: float = 0.0,
    alpha: float = 0.05,
    clusters: ArrayLike | None = None,
    bounds: tuple[float, float] | None = None,
    p_exact: float | None = None,
    name_a: str = "a",
    name_b: str = "b",
) -> Difference:
    """Measure a - b, paired on examples and seeds.

    Args:
        a: `(n_seeds, n_examples)` scores or linear values of a metric; one row stands for every seed.
        b: The same examples and seeds.
        margin: Smallest difference that matters; 0: any does.
        alpha: 1 - confidence.
        clusters: `(n_examples,)`: examples that share a source count as one draw.
        bounds: Range of the metric, so that no bound claims the impossible; 0 and 1 where all scores are 0 or 1.
        p_exact: P-value of an exact or permutation test. The larger p-value stands, and the interval is widened
            to hold 0 where that is above alpha, so that the two never disagree.
        name_a: What to call `a` in an error.
        name_b: What to call `b` in an error.

    Returns:
        See `Difference`.

    Raises:
        FtlibError: See `ftlib.spread.paired`; or margin or alpha that are not allowed.

    Differences 0, 1, 2: mean 1, standard error 1 / sqrt(3), t = 4.303 with two degrees of freedom.

    >>> found = difference([3.0, 4.0, 5.0], [3.0, 3.0, 3.0])
    >>> [round(x, 3) for x in (found.value, found.low, found.high, found.p_value)]
    [1.0, -1.484, 3.484, 0.225]
    """
    check_alpha(alpha)
    if not 0 <= margin < np.inf:
        raise FtlibError(f"margin: found {margin}; allowed: 0 or more, in the unit of the scores (0.01 is 1 point)")
    a, b = paired(a, b, name_a, name_b)
    step = a - b
    value, identical, binary = float(step.mean()), not step.any(), is_binary(a) and is_binary(b)
    if binary and clusters is None:
        if len(step) == 1:
            p_exact = mcnemar_counts(int((step > 0).sum()), int((step < 0).sum()))[1]
        step = _with_imagined(step)
    found = spread(step, clusters)
    half = found.half_width(alpha)
    # The imagined examples draw the mean towards 0, which is the careful side for a difference but not for equivalence.
    plain = replace(found, mean=value)
    # Counts move in whole examples: half an example is kept from the margin, as a continuity correction does.
    kept = 0.5 / a.shape[1] if binary else 0.0
    half_same = plain.half_width(2 * alpha) + kept
    low, high, p_value = min(found.mean - half, value), max(found.mean + half, value), found.p_value()
    if identical:
        p_value = 1.0
    elif p_exact is not None:
        p_value = max(p_value, p_exact)
        if p_value > alpha:
            low, high = min(low, 0.0), max(high, 0.0)
    if binary or bounds:
        width = 1.0 if bounds is None else bounds[1] - bounds[0]
        low, high = max(low, -width), min(high, width)
    return Difference(
        value=value,
        low=low,
        high=high,
        p_value=p_value,
        p_same=plain.p_equivalent(margin - kept) if margin > kept else 1.0,
        low_same=value - half_same,
        high_same=value + half_same,
        identical=identical,
        margin=margin,
        alpha=alpha,
        n_seeds=len(a),
        n_examples=a.shape[1],
        n_draws=a.shape[1] if clusters is None else found.n_examples,
        spread=found,
    )


def _with_imagined(step: Array) -> Array:
    """Add one imagined example won by each method (Bonett and Price 2012).

    With few discordant examples the plain standard error is too small, and with none it is 0. The imagined examples are
    as large as those found, less what does not repeat from seed to seed and so tells of the spread already.
    """
    columns = step.mean(axis=0)[step.any(axis=0)]
    size = 1.0
    if len(columns):
        found = spread(step)
        repeats = found.var_examples / (found.var_examples + found.var_rest) if found.var_rest > 0 else 1.0
        size = float((columns**2).mean() * repeats) ** 0.5
    imagined = np.full((len(step), 1), size)
    return np.concatenate([step, imagined, -imagined], axis=1)


def label_swap_test(
    labels: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    metric: str,
    rng: np.random.Generator,
    *,
    positive: int = 1,
    clusters: ArrayLike | None = None,
) -> float:
    """Permutation test that two runs are alike in a metric of labels; see `ftlib.resampling.swap_test`.

    Args:
        labels: `(n_examples,)` class numbers.
        a: `(n_examples,)` class numbers that one run gave, or one row.
        b: The same for the other.
        metric: See `ftlib.influence.label_values`.
        rng: Draws the permutations.
        positive: Class of `f1_binary`.
        clusters: `(n_examples,)`: examples of one source are swapped together.

    Returns:
        Two-sided p-value.

    Raises:
        FtlibError: See `ftlib.influence.as_predictions`.

    >>> label_swap_test([0, 1], [0, 1], [0, 1], "mcc", np.random.default_rng(0))
    1.0
    """
    truth, guess_a, n_a = as_predictions(labels, a)
    _, guess_b, n_b = as_predictions(labels, b)
    n_classes = max(n_a, n_b, positive + 1)
    counts = [label_counts(truth, guess[0], n_classes) for guess in (guess_a, guess_b)]
    return swap_test(*counts, lambda sums: metric_of_counts(sums, metric, positive=positive), rng, clusters=clusters)
