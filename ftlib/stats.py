"""Intervals, paired tests and corrections: arrays in, numbers out.

Shapes are `(n_seeds, n_examples)` as in `ftlib.spread`, which holds the intervals that cover seeds as well as examples;
`ftlib.resampling` has the bootstrap and the permutation tests, `ftlib.power` what a plan can show.
"""

import numpy as np
from numpy.typing import ArrayLike

from ftlib.errors import FtlibError
from ftlib.spread import Array, is_binary, paired, spread


def wilson(successes: float, n: float, alpha: float = 0.05) -> tuple[float, float]:
    """Wilson's interval for a rate (Wilson 1927; Brown, Cai and DasGupta 2001).

    Args:
        successes: How many of `n` were right.
        n: How many were tried; independent of one another.
        alpha: 1 - confidence.

    Returns:
        Lower and upper bound, in [0, 1].

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

    Args:
        a: `(n_examples,)` of 0 and 1, one run.
        b: The same examples.

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

    Args:
        p_values: `(n_comparisons,)`.

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


def equivalence(a: ArrayLike, b: ArrayLike, margin: float, *, clusters: ArrayLike | None = None) -> float:
    """P-value of two one-sided tests: small means a and b differ by less than `margin` (Schuirmann 1987).

    Args:
        a: `(n_seeds, n_examples)`.
        b: The same examples and seeds.
        margin: Smallest difference that matters, in the unit of the scores.
        clusters: `(n_examples,)`, see `spread`.

    Returns:
        The larger of the two one-sided p-values.

    Raises:
        FtlibError: See `paired`; or a margin that is not positive.

    Differences 0.1 and -0.1: mean 0, standard error 0.1, so t = 10 with one degree of freedom on both sides.

    >>> round(equivalence([0.1, 0.0], [0.0, 0.1], margin=1.0), 4)  # 1/2 - arctan(10) / pi
    0.0317
    """
    if not margin > 0:
        raise FtlibError(f"margin: found {margin}; allowed: a positive number, in the unit of the scores")
    a, b = paired(a, b)
    return spread(a - b, clusters).p_equivalent(margin)


def t_interval(values: ArrayLike, alpha: float = 0.05) -> tuple[float, float, float]:
    """Mean of one list of numbers with Student's t interval: for runs that come as one score each.

    Args:
        values: `(n_runs,)` scores, or paired differences.
        alpha: 1 - confidence.

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
    found = spread(values)
    half = found.half_width(alpha)
    return found.mean, found.mean - half, found.mean + half
