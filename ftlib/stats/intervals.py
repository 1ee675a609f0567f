"""A value with its interval: what every row of a report shows.

The interval is for new examples and, from two seeds on, new seeds (`ftlib.stats.variance.VarianceComponents`). With one
seed it covers chance in the examples only: it is about that one training run and says nothing of another seed's.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ftlib.stats.linearize import RANGES, as_predictions, label_values, ratio_values
from ftlib.stats.paired import squeeze, wilson
from ftlib.stats.variance import VarianceComponents, as_scores, check_alpha, is_binary, variance_components


class Interval(NamedTuple):
    """A value with its 1 - alpha interval; all three NaN where the metric is undefined."""

    value: float
    low: float
    high: float


def interval(
    values: ArrayLike,
    *,
    alpha: float = 0.05,
    clusters: ArrayLike | None = None,
    bounds: tuple[float, float] | None = None,
) -> Interval:
    """Mean of one method's scores with its interval: for new examples and, from two seeds on, new seeds.

    Scores of 0 and 1 from one run get Wilson's interval; scores with bounds get Wilson's formula with the effective
    number of examples that seeds and clusters leave (`ftlib.stats.paired.squeeze`); other scores get Student's t.

    Args:
        bounds: Least and greatest possible mean; 0 and 1 where all scores are 0 or 1.

    Returns:
        Value, low, high, with low <= value <= high within the bounds.

    >>> [round(x, 4) for x in interval([0] * 10)]  # Wilson, none of 10
    [0.0, 0.0, 0.2775]
    """
    check_alpha(alpha)
    table = as_scores(values, "values")
    found = variance_components(table, clusters)
    if is_binary(table):
        if len(table) == 1 and clusters is None:
            value = float(table.mean())
            return Interval(value, *wilson(float(table.sum()), table.shape[1], alpha))
        # 0s and 1s of independent runs on independent examples are the most that can be known.
        return _level(found, alpha, (0.0, 1.0), found.n_examples, most=found.n_examples * found.n_seeds)
    return _level(found, alpha, bounds, found.n_examples)


def metric_interval(
    labels: ArrayLike,
    predictions: ArrayLike,
    metric: str,
    *,
    alpha: float = 0.05,
    positive: int = 1,
    clusters: ArrayLike | None = None,
) -> Interval:
    """A metric of labels with its interval, averaged over seeds.

    Args:
        metric: `accuracy`, `f1_macro`, `f1_binary` (of class `positive`) or `mcc`.
        positive: Class of `f1_binary`; pass each class in turn for F1 per class.

    Returns:
        Value, low, high, within the metric's range; all NaN for the F1 of a class that occurs nowhere.

    >>> metric_interval([1, 1, 0], [1, 0, 0], "f1_binary").value.__round__(4)
    0.6667
    """
    check_alpha(alpha)
    if metric == "accuracy":
        return interval(label_values(labels, predictions, metric), alpha=alpha, clusters=clusters)
    table = label_values(labels, predictions, metric, positive=positive)
    if np.isnan(table).any():
        return Interval(np.nan, np.nan, np.nan)
    truth, guess, _ = as_predictions(labels, predictions)
    found = variance_components(table, clusters)
    if metric == "f1_binary":
        # An F1 of exactly 0 or 1 has no spread; only the examples the class touches say how sure it is.
        touched = max(1, int(((truth == positive) | (guess == positive)).any(axis=0).sum()))
        return _level(found, alpha, RANGES[metric], min(touched, found.n_examples))
    return _level(found, alpha, RANGES[metric], found.n_examples)


def ratio_interval(
    numerators: ArrayLike,
    denominators: ArrayLike,
    *,
    alpha: float = 0.05,
    bounds: tuple[float, float] | None = None,
    clusters: ArrayLike | None = None,
) -> Interval:
    """Sum of numerators / sum of denominators with its interval, averaged over seeds (bits per byte, precision).

    Args:
        denominators: `(n_seeds, n_examples)`, or `(n_examples,)` for all seeds.
        bounds: Least and most that the ratio can be; there it is as sure as the examples with a denominator make it.

    Returns:
        Value, low, high in the unit of the ratio; never below 0 where no numerator is.
        A perplexity is the exp of all three.

    >>> ratio_interval([2.0, 4.0], [1.0, 2.0])
    Interval(value=2.0, low=2.0, high=2.0)

    Of four answers all are right, which does not make the next one certain:

    >>> ratio_interval([1, 1, 1, 1, 0], [1, 1, 1, 1, 0], bounds=(0, 1)).low.__round__(2)
    0.51
    """
    if bounds is not None:
        check_alpha(alpha)
        found = variance_components(ratio_values(numerators, denominators), clusters)
        touched = int((np.atleast_2d(denominators) > 0).any(axis=0).sum())
        return _level(found, alpha, bounds, touched)
    found = interval(ratio_values(numerators, denominators), alpha=alpha, clusters=clusters)
    if (np.asarray(numerators) >= 0).all():
        return Interval(found.value, max(found.low, 0.0), found.high)
    return found


def _level(
    found: VarianceComponents, alpha: float, bounds: tuple[float, float] | None, n_at_bound: int, most: float = np.inf
) -> Interval:
    """Interval around a mean; at a bound as sure as `n_at_bound` examples, and nowhere surer than `most`."""
    half = found.half_width(alpha)
    if bounds is None:
        return Interval(found.mean, found.mean - half, found.mean + half)
    from scipy.special import ndtri

    least, width = bounds[0], bounds[1] - bounds[0]
    rate = min(max((found.mean - least) / width, 0.0), 1.0)
    z2 = float(ndtri(1 - alpha / 2)) ** 2
    variance, half = rate * (1 - rate), half / width
    # What spreads by rounding alone does not spread: such as an F1 of labels that are all right or all wrong.
    ratio = half**2 / variance if variance > 1e-12 and half > 1e-12 else z2 / n_at_bound
    low, high = squeeze(rate, max(ratio, z2 / most))
    low, high, value = least + width * low, least + width * high, least + width * rate
    return Interval(value, min(low, value), max(high, value))
