"""Two lists of run-level scores that share neither draws nor seeds: ours against a published table's.

Where the same examples or draws can be had for both, `ftlib.stats.verdict.compare` is far sharper: what the two share
cancels there, and here it does not.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ftlib.core.errors import FtlibError
from ftlib.stats.paired import Difference
from ftlib.stats.power import MOST_SEEDS
from ftlib.stats.variance import Array, check_alpha, check_margin
from ftlib.stats.verdict import MOST_TIMES, Comparison, Forecast, Voice, in_words, realistic


def compare_unpaired(
    a: ArrayLike,
    b: ArrayLike,
    *,
    margin: float,
    alpha: float = 0.05,
    name_a: str = "a",
    name_b: str = "b",
    unit: str = "points",
    higher_is_better: bool = True,
) -> Comparison:
    """Compare the means of two lists of runs that share neither draws nor seeds (Welch 1947).

    The interval is for new runs as those listed are: it covers chance in the test examples only so far as the runs were
    scored on different ones. Equivalence is two one-sided tests (Schuirmann 1987) with the same standard error and
    degrees of freedom.

    Args:
        a: `(n_runs_a,)` scores, one for each run.
        b: `(n_runs_b,)` scores.

    Returns:
        See `Comparison`. `more_examples` is None: run-level scores say nothing of examples. `more_seeds` is the number
        of runs to add to each of the two.

    Raises:
        FtlibError: Not a list of finite numbers, fewer than 2 runs, or margin or alpha that are not allowed.

    Means 5 and 2, squared standard errors 1 and 1, so t = 3 / sqrt(2) with (1 + 1)^2 / (1 + 1) = 2 degrees of freedom;
    the interval is 3 -+ 4.303 * sqrt(2):

    >>> found = compare_unpaired([4, 6], [1, 3], margin=1, unit="minutes", name_a="ours", name_b="theirs")
    >>> [round(x, 3) for x in (found.difference, found.low, found.high, found.p_value)]
    [3.0, -3.085, 9.085, 0.168]
    >>> print(found.sentence.partition("; ")[2])
    ours against theirs: +3.0 minutes (-3.1 to 9.1), not paired: 2 and 2 runs that share neither draws nor seeds
    """
    check_alpha(alpha)
    check_margin(margin)
    a, b = _runs(a, name_a), _runs(b, name_b)
    from scipy.special import stdtr, stdtrit

    value, sizes, variances = float(a.mean() - b.mean()), (len(a), len(b)), (float(a.var(ddof=1)), float(b.var(ddof=1)))
    se, df = (float(x) for x in _welch(variances, *sizes))
    half, half_same = (-float(stdtrit(df, level)) * se for level in (alpha / 2, alpha))

    def tail(distance: float) -> float:
        # Runs without any spread leave no doubt, except where there is no distance either.
        return float(stdtr(df, -distance / se)) if se > 0 else 0.5 if distance == 0 else float(distance < 0)

    found = Difference(
        value=value,
        low=value - half,
        high=value + half,
        p_value=2 * tail(abs(value)),
        p_same=tail(margin - abs(value)) if margin > 0 else 1.0,
        low_same=value - half_same,
        high_same=value + half_same,
        identical=False,
        margin=margin,
        alpha=alpha,
        n_seeds=min(sizes),
        n_examples=0,
        n_draws=0,
        spread=None,
    )
    voice = Voice(name_a, name_b, unit, higher_is_better, unpaired=sizes)
    return in_words(found, voice, found.p_value, forecast=lambda: _what_would_decide(found, variances, sizes))


class ZTest(NamedTuple):
    """The difference of two means as if nothing were shared."""

    difference: float
    low: float
    high: float
    z: float
    p_value: float


def z_test(a: float, b: float, se_a: float, se_b: float, alpha: float = 0.05) -> ZTest:
    """Compare two means by their standard errors alone, as lm-evaluation-harness does with two models' accuracies.

    On the same examples it is the bound to fall back on where nothing is known of single examples: what the two share
    does not cancel. Two that nearly always agree look undecided to it.

    Standard errors 3 and 4 are 5 together; a difference of 10 is two of them:

    >>> [round(x, 3) for x in z_test(30, 20, 3, 4)]
    [10, 0.2, 19.8, 2.0, 0.046]
    """
    from scipy.special import ndtr, ndtri

    check_alpha(alpha)
    value, se = a - b, float(np.hypot(se_a, se_b))
    z = value / se if se > 0 else np.copysign(np.inf, value) if value else 0.0
    half = -float(ndtri(alpha / 2)) * se
    return ZTest(value, value - half, value + half, z, 2 * float(ndtr(-abs(z))))


def _runs(values: ArrayLike, name: str) -> Array:
    """Check one list of scores."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise FtlibError(
            f"{name}: found something that is not a list of numbers ({error}); allowed: (n_runs,)"
        ) from None
    if array.ndim != 1 or len(array) < 2:
        raise FtlibError(
            f"{name}: found shape {array.shape}; allowed: (n_runs,), one score for each of 2 or more runs (one "
            "run does not show how runs differ)"
        )
    if not np.isfinite(array).all():
        raise FtlibError(
            f"{name}: found {int((~np.isfinite(array)).sum())} values that are NaN or infinite; allowed: none"
        )
    return array


def _welch(variances: tuple[float, float], n_a: ArrayLike, n_b: ArrayLike) -> tuple[Array, Array]:
    """Standard error of the difference and its degrees of freedom (Welch 1947, Satterthwaite 1946).

    >>> [float(x) for x in _welch((2.0, 2.0), 2, 2)]
    [1.4142135623730951, 2.0]
    """
    n_a, n_b = np.asarray(n_a, dtype=float), np.asarray(n_b, dtype=float)
    of_a, of_b = variances[0] / n_a, variances[1] / n_b
    if not of_a.any() and not of_b.any():
        return np.zeros_like(n_a), n_a + n_b - 2
    return np.sqrt(of_a + of_b), (of_a + of_b) ** 2 / (of_a**2 / (n_a - 1) + of_b**2 / (n_b - 1))


def _what_would_decide(found: Difference, variances: tuple[float, float], sizes: tuple[int, int]) -> Forecast:
    """How many runs to add to each, with 80 % power, were the true difference and variances those found."""
    from scipy.special import nctdtr, ndtr, stdtrit

    more = np.unique(np.geomspace(1, MOST_SEEDS, 400).astype(int))
    se, df = _welch(variances, sizes[0] + more, sizes[1] + more)
    settled = np.zeros(len(more))
    if se.all() and found.value != 0:
        settled += 1 - nctdtr(df, abs(found.value) / se, -stdtrit(df, found.alpha / 2))
    room = found.margin + stdtrit(df, found.alpha) * se
    if se.all() and abs(found.value) < found.margin:
        same = ndtr((room - found.value) / se) - ndtr((-room - found.value) / se)
        settled += np.where(room > 0, same, 0.0)
    if not (settled >= 0.8).any():
        return Forecast(None, None, "no affordable number of runs would decide a difference this near to what matters")
    runs = int(more[np.argmax(settled >= 0.8)])
    if not realistic(runs, max(sizes)):
        words = f"no realistic number of runs (up to {MOST_TIMES} times what there is) would decide"
        return Forecast(None, runs, words)
    return Forecast(None, runs, f"about {runs} more run{'s' * (runs > 1)} of each would decide")
