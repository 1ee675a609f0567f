"""Metrics that are not means, as means: one value per example whose average is the metric.

Macro F1, MCC, BLEU and ratios such as bits per byte are functions of sums over the examples. To first order such a
metric is its own value plus the average of each example's influence on it, taken by leaving the example out (the
jackknife: Tukey 1958; Efron 1982, chapter 3). So metric + influence of every example, `(n_seeds, n_examples)`, averages
to the metric exactly and spreads as the metric does, and every interval, test and power calculation for means serves
these metrics too.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftlib.core.errors import FtlibError, unknown
from ftlib.stats.variance import Array, as_scores

RANGES = {"accuracy": (0.0, 1.0), "f1_macro": (0.0, 1.0), "f1_binary": (0.0, 1.0), "mcc": (-1.0, 1.0)}
"""Metrics of labels and predictions, with the range of each; higher is better in all."""


def as_predictions(labels: ArrayLike, predictions: ArrayLike) -> tuple[NDArray, NDArray, int]:
    """Check labels and predicted labels, and number the classes that occur from 0.

    Args:
        predictions: `(n_seeds, n_examples)` or `(n_examples,)` integers, none negative.

    Returns:
        `(n_examples,)` labels, `(n_seeds, n_examples)` predictions, and the number of classes.

    Raises:
        FtlibError: Not integers, negative, or shapes that do not fit.

    >>> labels, predictions, n = as_predictions([0, 2], [2, 2])
    >>> predictions.shape, n
    ((1, 2), 3)
    """
    arrays = []
    for name, found in (("labels", labels), ("predictions", predictions)):
        array = np.asarray(found)
        if array.dtype.kind not in "iub":
            if array.dtype.kind != "f" or not np.isfinite(array).all() or (array != np.rint(array)).any():
                raise FtlibError(
                    f"{name}: found {array.dtype} values; allowed: the numbers of the classes, 0, 1, 2, ..."
                )
            array = array.astype(np.int64)
        if array.size and array.min() < 0:
            raise FtlibError(f"{name}: found {array.min()}; allowed: the numbers of the classes, 0 and up")
        arrays.append(array.astype(np.int64))
    truth, guess = arrays
    guess = guess[None, :] if guess.ndim == 1 else guess
    if truth.ndim != 1 or guess.ndim != 2 or guess.shape[1] != len(truth) or len(truth) < 2 or len(guess) < 1:
        raise FtlibError(
            f"found labels {truth.shape} and predictions {guess.shape}; allowed: (n_examples,) and "
            "(n_seeds, n_examples) over the same 2 or more examples"
        )
    return truth, guess, int(max(truth.max(), guess.max())) + 1


def label_values(labels: ArrayLike, predictions: ArrayLike, metric: str, *, positive: int = 1) -> Array:
    """Values per example whose mean over the examples is the metric of each seed.

    With t, p, l the number of examples rightly given, given, and labelled class k: F1_k = 2 t / (p + l), and leaving
    out an example that was given or labelled k (d = 1, or d = 2 for both) changes it by
    (2 [d = 2] - d F1_k) / (p + l - d). Macro F1 averages over the classes that occur among the labels or this
    seed's predictions, as scikit-learn does. MCC is the correlation of the one-hot tables (Gorodkin 2004), 0 where
    only one class was given or labelled.

    Args:
        positive: The class that `f1_binary` is about; with another class number, the F1 of that class.

    Returns:
        `(n_seeds, n_examples)`; a row is NaN where its metric is undefined (F1 of a class that occurs nowhere).

    One of two positives found, nothing else given: F1 = 2 / 3. Without the first example it is 0, without the second 1,
    without the third as before: influences 4/3, -2/3 and 0, less their mean 2/9.

    >>> values = label_values([1, 1, 0], [1, 0, 0], "f1_binary")
    >>> values.mean().round(4), values.round(4).tolist()
    (np.float64(0.6667), [[1.7778, -0.2222, 0.4444]])
    """
    truth, guess, n_classes = as_predictions(labels, predictions)
    if metric not in RANGES:
        raise unknown("metric", metric, RANGES)
    if metric == "accuracy":
        return (guess == truth).astype(float)
    n_classes = max(n_classes, positive + 1)
    return np.stack([_row(truth, row, n_classes, metric, positive) for row in guess])


def _row(truth: NDArray, guess: NDArray, n_classes: int, metric: str, positive: int) -> Array:
    n, right = len(truth), guess == truth
    hits, given, labelled = by_kind(label_sums(truth, guess, n_classes))
    if metric == "mcc":
        sums = right.sum(), given @ labelled, given @ given, labelled @ labelled
        value = _correlation(n, *sums)
        without = _correlation(
            n - 1,
            sums[0] - right,
            sums[1] - labelled[guess] - given[truth] + right,
            sums[2] - 2 * given[guess] + 1,
            sums[3] - 2 * labelled[truth] + 1,
        )
        influence = (n - 1) * (value - without)
        return value + influence - influence.mean()
    uses = given + labelled
    if metric == "f1_binary":
        if uses[positive] == 0:
            return np.full(n, np.nan)
        share = np.zeros(n_classes)
        share[positive] = 1.0
    else:
        share = (uses > 0) / (uses > 0).sum()
    f1 = _f1(hits, uses)
    # A class that only the example left out uses has an F1 of 0 or 1 whatever is done: no influence.
    one = np.divide(share * f1, uses - 1, out=np.zeros(n_classes), where=uses > 1)
    both = np.divide(2 * share * (1 - f1), uses - 2, out=np.zeros(n_classes), where=uses > 2)
    influence = (n - 1) * np.where(right, both[truth], -one[guess] - one[truth])
    return share @ f1 + influence - influence.mean()


def ratio_values(numerators: ArrayLike, denominators: ArrayLike) -> Array:
    """Values per example whose mean is sum of numerators / sum of denominators, for each seed.

    For bits per byte: numerators = nats / ln 2, denominators = bytes. Leaving out an example changes the ratio by
    (numerator - ratio * denominator) / (sum of the other denominators) (Cochran 1977, chapter 6).

    Args:
        denominators: `(n_seeds, n_examples)`, or `(n_examples,)` where every seed has the same.

    Raises:
        FtlibError: Shapes that do not fit, or denominators that are negative or sum to 0.

    Ratio 3 / 4; 2 / 3 without the first example, 1 without the second. Influences 1/12 and -1/4, less their mean -1/12:

    >>> ratio_values([1.0, 2.0], [1.0, 3.0]).round(4).tolist()  # 3/4 + 1/12 + 1/12, 3/4 - 1/4 + 1/12
    [[0.9167, 0.5833]]
    """
    top, bottom = as_scores(numerators, "numerators"), as_scores(denominators, "denominators")
    if top.shape[1] != bottom.shape[1] or bottom.shape[0] not in (1, top.shape[0]):
        raise FtlibError(
            f"found numerators {top.shape} and denominators {bottom.shape}; allowed: the same shape, or one row of "
            "denominators for all seeds"
        )
    sums = bottom.sum(axis=1, keepdims=True)
    if (bottom < 0).any() or (sums <= 0).any():
        raise FtlibError("denominators: allowed: none negative, and a positive sum (tokens, bytes, weights)")
    others = sums - bottom
    if (others <= 0).any():
        raise FtlibError("denominators: found one example that holds them all; allowed: two or more above 0")
    ratio = top.sum(axis=1, keepdims=True) / sums
    influence = (bottom.shape[1] - 1) * (top - ratio * bottom) / others
    return ratio + influence - influence.mean(axis=1, keepdims=True)


def sum_values(counts: ArrayLike, metric: Callable[[NDArray], NDArray]) -> Array:
    """Values per example whose mean is any metric of sums over the examples, such as corpus BLEU or chrF.

    Args:
        counts: `(n_seeds, n_examples, n_counts)`: what each example adds to the sums (matches, lengths, tokens).

    Raises:
        FtlibError: Wrong number of axes, or a metric that is not finite.

    A ratio of sums, as in `ratio_values`:

    >>> sum_values([[[1.0, 1.0], [2.0, 3.0]]], lambda sums: sums[..., 0] / sums[..., 1]).round(4).tolist()
    [[0.9167, 0.5833]]
    """
    table = np.asarray(counts, dtype=float)
    if table.ndim != 3 or table.shape[0] < 1 or table.shape[1] < 2:
        raise FtlibError(
            f"counts: found shape {table.shape}; allowed: (n_seeds, n_examples, n_counts), 2 examples or more"
        )
    sums = table.sum(axis=1, keepdims=True)
    value = np.asarray(metric(sums), dtype=float).reshape(len(table), 1)
    without = np.asarray(metric(sums - table), dtype=float)
    if not (np.isfinite(value).all() and np.isfinite(without).all()):
        raise FtlibError("metric: found a value that is not finite; allowed: a metric defined without any one example")
    influence = (table.shape[1] - 1) * (value - without)
    return value + influence - influence.mean(axis=1, keepdims=True)


def label_counts(labels: ArrayLike, predictions: ArrayLike, n_classes: int) -> Array:
    """What each example adds to the sums that every metric of labels is a function of.

    Args:
        labels: `(n_examples,)` class numbers below `n_classes`, K.
        predictions: `(n_examples,)` class numbers of one run.

    Returns:
        `(n_examples, 3 K)`: rightly given class k, given class k, labelled class k.

    >>> label_counts([0, 1], [1, 1], 2).tolist()
    [[0.0, 0.0, 0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]]
    """
    one_hot = np.eye(n_classes)
    given, labelled = one_hot[np.asarray(predictions)], one_hot[np.asarray(labels)]
    return np.concatenate([given * labelled, given, labelled], axis=1)


def label_sums(labels: NDArray, predictions: NDArray, n_classes: int) -> Array:
    """The sums of `label_counts` over all examples: `(3 K,)`.

    >>> label_sums(np.array([0, 1]), np.array([1, 1]), 2).tolist()
    [0.0, 1.0, 0.0, 2.0, 1.0, 1.0]
    """
    chosen = (labels[labels == predictions], predictions, labels)
    return np.concatenate([np.bincount(some, minlength=n_classes) for some in chosen]).astype(float)


def by_kind(sums: Array) -> Array:
    """Sums of `label_counts`, `(..., 3 K)`, as those rightly given, given and labelled each class: `(3, ..., K)`.

    >>> by_kind(np.array([0.0, 1.0, 0.0, 2.0, 1.0, 1.0])).tolist()
    [[0.0, 1.0], [0.0, 2.0], [1.0, 1.0]]
    """
    return np.moveaxis(sums.reshape(*sums.shape[:-1], 3, -1), -2, 0)


def metric_of_counts(counts: ArrayLike, metric: str, *, positive: int = 1) -> Array:
    """A metric of labels from its sums, for as many resamples at once as there are leading axes.

    Args:
        counts: `(..., 3 K)` sums (whole or weighted) of `label_counts`.
        metric: `accuracy`, `f1_macro`, `f1_binary` or `mcc`.

    Returns:
        `(...)`; NaN for the F1 of a class that occurs nowhere, 0 for the MCC of one class only.

    >>> sums = label_sums(np.array([1, 1, 0]), np.array([1, 0, 0]), 2)
    >>> [round(float(metric_of_counts(sums, m)), 4) for m in ("accuracy", "f1_binary", "f1_macro", "mcc")]
    [0.6667, 0.6667, 0.6667, 0.5]
    """
    if metric not in RANGES:
        raise unknown("metric", metric, RANGES)
    hits, given, labelled = by_kind(np.asarray(counts, dtype=float))
    n = labelled.sum(axis=-1)
    if metric == "accuracy":
        return hits.sum(axis=-1) / n
    if metric == "mcc":
        products = (given * labelled).sum(axis=-1)
        return _correlation(n, hits.sum(axis=-1), products, (given**2).sum(axis=-1), (labelled**2).sum(axis=-1))
    uses = given + labelled
    f1 = _f1(hits, uses)
    if metric == "f1_binary":
        return np.where(uses[..., positive] > 0, f1[..., positive], np.nan)
    return f1.sum(axis=-1) / (uses > 0).sum(axis=-1)


def _f1(hits: Array, uses: Array) -> Array:
    """F1 of every class from how often it was rightly given, and given or labelled; 0 of one that occurs nowhere."""
    return np.divide(2 * hits, uses, out=np.zeros_like(uses), where=uses > 0)


def _correlation(n: ArrayLike, hits: Array, products: Array, given_squares: Array, labelled_squares: Array) -> Array:
    """MCC from sums over the classes; 0 where only one class was given or labelled."""
    scale = np.sqrt(np.maximum((n**2 - given_squares) * (n**2 - labelled_squares), 0.0))
    # Weighted sums of one class alone may leave a little more than nothing.
    return np.divide(n * hits - products, scale, out=np.zeros(np.shape(scale)), where=scale > 1e-9 * n**2)
