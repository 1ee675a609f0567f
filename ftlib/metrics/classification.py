"""Metrics of classification. Labels and predictions are integer codes `(n_examples,)`; probabilities `(n, n_labels)`.

Every function returns NaN where its definition divides nothing by nothing.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from ftlib.core.errors import FtlibError
from ftlib.stats.linearize import label_sums, metric_of_counts


def accuracy(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Share of predictions that are the label; NaN for no examples.

    >>> accuracy([0, 0, 1, 2], [0, 1, 1, 2])
    0.75
    """
    return _value("accuracy", labels, predictions)


def f1_of(labels: ArrayLike, predictions: ArrayLike, label: int) -> float:
    """F1 of one label: 2 TP / (2 TP + FP + FN); NaN where the label neither occurs nor is predicted.

    >>> f1_of([0, 0, 1, 1], [0, 1, 1, 1], 1)  # TP 2, FP 1, FN 0
    0.8
    """
    return _value("f1_binary", labels, predictions, label)


def f1_binary(labels: ArrayLike, predictions: ArrayLike) -> float:
    """F1 of label 1.

    >>> f1_binary([0, 0, 1, 1], [0, 1, 1, 1])
    0.8
    """
    return f1_of(labels, predictions, 1)


def f1_macro(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Mean F1 of the labels that occur or are predicted; every label counts the same.

    >>> round(f1_macro([0] * 6 + [1] * 4, [0] * 5 + [1] + [0] * 3 + [1]), 4)  # (10/14 + 2/6) / 2
    0.5238
    """
    return _value("f1_macro", labels, predictions)


def mcc(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Matthews correlation for any number of labels (Gorodkin 2004, equation 8); NaN where one side is constant.

    >>> round(mcc([0, 0, 1, 1], [0, 1, 1, 1]), 4)  # (2*1 - 1*0) / sqrt(3*2*2*1)
    0.5774
    >>> mcc([0, 1], [1, 1])
    nan
    """
    constant = min(len(set(np.asarray(side).tolist())) for side in (labels, predictions)) < 2
    return math.nan if constant else _value("mcc", labels, predictions)


def _value(metric: str, labels: ArrayLike, predictions: ArrayLike, label: int = 1) -> float:
    """A metric of one run's labels, from the counts that all of them are functions of."""
    labels, predictions = _pair(labels, predictions)
    if not len(labels):
        return math.nan
    # Only labels that occur are counted: codes may be large.
    present, codes = np.unique([label, *labels, *predictions], return_inverse=True)
    positive, truth, chosen = int(codes[0]), codes[1 : 1 + len(labels)], codes[1 + len(labels) :]
    return float(metric_of_counts(label_sums(truth, chosen, len(present)), metric, positive=positive))


def brier_terms(labels: ArrayLike, probabilities: ArrayLike) -> np.ndarray:
    """Per example, the squared distance between its probabilities and the truth: (n_examples,)."""
    probabilities = np.asarray(probabilities, dtype=float)
    truth = np.eye(probabilities.shape[1])[np.asarray(labels, dtype=int)]
    return ((probabilities - truth) ** 2).sum(axis=1)


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean squared distance between probabilities and truth, summed over labels: 0 best, 2 worst (Brier 1950).

    >>> round(brier([0, 1], [[1.0, 0.0], [0.5, 0.5]]), 12)
    0.25
    """
    terms = brier_terms(labels, probabilities)
    return float(terms.mean()) if len(terms) else math.nan


def confusion(labels: ArrayLike, predictions: ArrayLike, n_labels: int) -> np.ndarray:
    """Counts (n_labels, n_labels): row = true label, column = predicted label.

    >>> confusion([0, 0, 1], [0, 1, 1], 2).tolist()
    [[1, 1], [0, 1]]
    """
    labels, predictions = _pair(labels, predictions)
    return np.bincount(labels * n_labels + predictions, minlength=n_labels**2).reshape(n_labels, n_labels)


COLLAPSED_SHARE, MOST_OF_TRUTH, FEWEST = 0.95, 0.80, 20
"""A run collapsed where one label takes this share of its answers or more, and this share of the truth or less; with
fewer examples than the last nothing is said."""


def collapsed(predicted: ArrayLike, truth: ArrayLike) -> tuple[int, float] | None:
    """The label that a run gives (nearly) every example although the truth is not like that, and its share of answers.

    Fine-tuning on few examples ends like this for some seeds and not for others: the "failed runs" of Mosbach et al.
    (2021, arXiv 2006.04884), which end well and are no better than a constant. The rule is one label for 95 % of the
    answers or more that is 80 % of the truth or less. None where it does not hold, or for fewer than 20 examples.

    >>> truth = [0, 1] * 20
    >>> collapsed([1] * 40, truth), collapsed([1] * 38 + [0] * 2, truth), collapsed([1] * 37 + [0] * 3, truth)
    ((1, 1.0), (1, 0.95), None)
    >>> collapsed([1] * 40, [1] * 36 + [0] * 4) is None  # 90 % have that label: this may be all there is to learn
    True
    """
    truth, predicted = _pair(truth, predicted)
    if len(truth) < FEWEST:
        return None
    labels, counts = np.unique(predicted, return_counts=True)
    label, share = int(labels[counts.argmax()]), float(counts.max() / len(truth))
    return (label, share) if share >= COLLAPSED_SHARE and (truth == label).mean() <= MOST_OF_TRUTH else None


def why_undefined(name: str, labels: ArrayLike, predictions: ArrayLike) -> str:
    """The reason a metric of these examples is NaN."""
    labels, predictions = _pair(labels, predictions)
    if not len(labels):
        return "there are no examples"
    if name == "mcc":
        side = "true label occurs" if len(set(labels)) == 1 else "label is ever predicted"
        return f"only one {side}, so there is nothing to correlate (scikit-learn says 0 by convention)"
    return "the positive label neither occurs nor is predicted"


def _pair(labels: ArrayLike, predictions: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.ndim != 1 or labels.shape != predictions.shape:
        raise FtlibError(
            f"labels {labels.shape} and predictions {predictions.shape}: two lists of one length are needed"
        )
    if labels.dtype.kind not in "iub" or predictions.dtype.kind not in "iub":
        raise FtlibError(f"labels ({labels.dtype}) and predictions ({predictions.dtype}) must be integer codes")
    return labels.astype(int), predictions.astype(int)
