"""The difference of two methods in numbers: interval, p-value, and how surely it lies within the margin.

And what it is made of: Wilson's interval, McNemar's test, Student's t, Holm's correction. Variances that cover seeds as
well as examples are in `ftlib.stats.variance`, permutation tests in `ftlib.stats.bootstrap`, what a plan can show in
`ftlib.stats.power`.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ftlib.core.errors import FtlibError
from ftlib.stats.bootstrap import swap_test
from ftlib.stats.linearize import as_predictions, label_counts, metric_of_counts
from ftlib.stats.variance import (
    Array,
    VarianceComponents,
    check_alpha,
    check_margin,
    is_binary,
    paired,
    variance_components,
)


def wilson(successes: float, n: float, alpha: float = 0.05) -> tuple[float, float]:
    """Wilson's interval for a rate (Wilson 1927; Brown, Cai and DasGupta 2001).

    Raises:
        FtlibError: n is not positive, or successes is outside 0 to n.

    With none of n right the upper bound is z^2 / (n + z^2), here 3.84 / 13.84:

    >>> [round(bound, 4) for bound in wilson(0, 10)]
    [0.0, 0.2775]
    """
    if not n > 0 or not 0 <= successes <= n:
        raise FtlibError(f"wilson: found {successes} of {n}; allowed: 0 <= successes <= n, n > 0")
    from scipy.special import ndtri

    return squeeze(successes / n, float(ndtri(1 - alpha / 2)) ** 2 / n)


def squeeze(rate: float, ratio: float) -> tuple[float, float]:
    """Wilson's interval of a rate from `ratio` = z^2 / n; always holds the rate and stays in [0, 1].

    For a rate whose interval would be rate +/- h, `ratio` = h^2 / (rate (1 - rate)) is z^2 over the effective number of
    examples (Korn and Graubard 1998), which is how seeds, clusters and F1 reach the same formula.

    >>> [round(x, 4) for x in squeeze(0.5, 1.0)]  # (0.5 + 0.5) / 2 -+ sqrt(0.25 + 0.25) / 2
    [0.1464, 0.8536]
    """
    center = (rate + ratio / 2) / (1 + ratio)
    half = (ratio * rate * (1 - rate) + ratio**2 / 4) ** 0.5 / (1 + ratio)
    return max(0.0, min(center - half, rate)), min(1.0, max(center + half, rate))


def mcnemar(a: ArrayLike, b: ArrayLike) -> tuple[float, float]:
    """McNemar's test that two runs are right equally often: exact, and mid-p.

    Only the examples that exactly one of the two got right count; under the null each is a fair coin. The mid-p form
    counts half of the observed outcome and is the less timid of the two (Fagerland, Lydersen and Laake 2013).

    Returns:
        Exact and mid-p two-sided p-values.

    Raises:
        FtlibError: More than one seed, values other than 0 and 1, or different lengths.

    Three examples, all won by a: exact 2 * 1/8, mid-p 1/8.

    >>> mcnemar([1, 1, 1, 0], [0, 0, 0, 0])
    (0.25, 0.125)
    """
    a, b = paired(a, b)
    if a.shape[0] != 1 or not (is_binary(a) and is_binary(b)):
        raise FtlibError("mcnemar: allowed: one run of 0 and 1 for each method, shape (n_examples,)")
    return mcnemar_counts(int((a > b).sum()), int((a < b).sum()))


def mcnemar_counts(only_a: int, only_b: int) -> tuple[float, float]:
    """McNemar's exact and mid-p values from the two counts of discordant examples; see `mcnemar`.

    >>> mcnemar_counts(0, 0)
    (1.0, 1.0)
    """
    from scipy.special import bdtr

    n, k = only_a + only_b, min(only_a, only_b)
    if n == 0:
        return 1.0, 1.0
    below = float(bdtr(k - 1, n, 0.5)) if k else 0.0
    upto = float(bdtr(k, n, 0.5))
    return min(1.0, 2 * upto), min(1.0, below + upto)


def holm(p_values: ArrayLike) -> Array:
    """Holm's step-down correction: adjusted p-values that hold for the family as a whole (Holm 1979).

    Returns:
        `(n_comparisons,)` in the order given; compare each with alpha.

    Raises:
        FtlibError: A value outside [0, 1] or NaN.

    Smallest times 3, next times 2, last times 1, never falling:

    >>> [round(float(p), 4) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise FtlibError(f"holm: found {p.tolist()}; allowed: a list of p-values, each from 0 to 1")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def t_interval(values: ArrayLike, alpha: float = 0.05) -> tuple[float, float, float]:
    """Mean of one list of numbers with Student's t interval: for runs that come as one score each.

    Args:
        values: `(n_runs,)` scores, or paired differences.

    Returns:
        Mean, lower bound, upper bound.

    Raises:
        FtlibError: Fewer than 2 values, more than one axis, or values that are not finite.

    Mean 2, standard error 1 / sqrt(3), t = 4.303 with two degrees of freedom:

    >>> [round(x, 3) for x in t_interval([1, 2, 3])]
    [2.0, -0.484, 4.484]
    """
    if np.ndim(values) != 1:
        raise FtlibError(f"values: found shape {np.shape(values)}; allowed: (n_runs,), one number for each run")
    found = variance_components(values)
    half = found.half_width(alpha)
    return found.mean, found.mean - half, found.mean + half


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
    spread: VarianceComponents | None
    """The variances behind it; None where the two are not paired (`ftlib.stats.unpaired`)."""


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
        margin: Smallest difference that matters; 0: any does.
        bounds: Range of the metric, so that no bound claims the impossible; 0 and 1 where all scores are 0 or 1.
        p_exact: P-value of an exact or permutation test. The larger p-value stands, and the interval is widened
            to hold 0 where that is above alpha, so that the two never disagree.

    Raises:
        FtlibError: See `ftlib.stats.variance.paired`; or margin or alpha that are not allowed.

    Differences 0, 1, 2: mean 1, standard error 1 / sqrt(3), t = 4.303 with two degrees of freedom.

    >>> found = difference([3.0, 4.0, 5.0], [3.0, 3.0, 3.0])
    >>> [round(x, 3) for x in (found.value, found.low, found.high, found.p_value)]
    [1.0, -1.484, 3.484, 0.225]
    """
    check_alpha(alpha)
    check_margin(margin)
    a, b = paired(a, b, name_a, name_b)
    step = a - b
    value, identical, binary = float(step.mean()), not step.any(), is_binary(a) and is_binary(b)
    if binary and clusters is None:
        if len(step) == 1:
            p_exact = mcnemar_counts(int((step > 0).sum()), int((step < 0).sum()))[1]
        step = _with_imagined(step)
    found = variance_components(step, clusters)
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
        found = variance_components(step)
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
    """Permutation test that two runs are alike in a metric of labels; see `ftlib.stats.bootstrap.swap_test`.

    >>> label_swap_test([0, 1], [0, 1], [0, 1], "mcc", np.random.default_rng(0))
    1.0
    """
    truth, guess_a, n_a = as_predictions(labels, a)
    _, guess_b, n_b = as_predictions(labels, b)
    n_classes = max(n_a, n_b, positive + 1)
    counts = [label_counts(truth, guess[0], n_classes) for guess in (guess_a, guess_b)]
    return swap_test(*counts, lambda sums: metric_of_counts(sums, metric, positive=positive), rng, clusters=clusters)
