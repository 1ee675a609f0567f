"""METRICS: every metric ftlib knows, one row each, and `measure`, which fills a record's metrics.

A metric is a pure function on arrays. Each row says which way is better, in what unit and range, and where its
definition is from; a value that is undefined is NaN, and the record gives the reason.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ftlib import verdict
from ftlib.metrics import classification

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Metric:
    """One row of the table."""

    name: str
    summary: str
    function: Callable[..., float]
    """`f(labels, predictions, ...)`, or `f(labels, probabilities)` for those of `takes` = "probabilities"."""
    higher_is_better: bool
    unit: str
    range: tuple[float, float]
    source: str
    takes: str = "predictions"


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        m.name: m
        for m in (
            Metric(
                "accuracy",
                "share of examples whose predicted label is the true one",
                classification.accuracy,
                True,
                "share",
                (0, 1),
                "scikit-learn accuracy_score",
            ),
            Metric(
                "f1_macro",
                "mean over labels of F1; every label counts the same",
                classification.f1_macro,
                True,
                "share",
                (0, 1),
                "Sokolova & Lapalme 2009, table 3; scikit-learn f1_score(average='macro')",
            ),
            Metric(
                "f1_binary",
                "F1 of the second of two labels (the positive one)",
                classification.f1_binary,
                True,
                "share",
                (0, 1),
                "van Rijsbergen 1979, chapter 7; scikit-learn f1_score(average='binary')",
            ),
            Metric(
                "mcc",
                "Matthews correlation of true and predicted labels; 0 is chance",
                classification.mcc,
                True,
                "correlation",
                (-1, 1),
                "Gorodkin 2004; scikit-learn matthews_corrcoef",
            ),
            Metric(
                "brier",
                "mean squared distance between the probabilities and the truth",
                classification.brier,
                False,
                "squared probability",
                (0, 2),
                "Brier 1950",
                takes="probabilities",
            ),
        )
    }
)


def metric_row(name: str) -> Metric:
    """The table's row for a key of a record; `f1_<label>` is the row of one label's F1."""
    if name in METRICS:
        return METRICS[name]
    return Metric(
        name,
        f"F1 of the label {name.removeprefix('f1_')!r}",
        classification.f1_of,
        True,
        "share",
        (0, 1),
        METRICS["f1_binary"].source,
    )


def measure(table: "pd.DataFrame", labels: Sequence[str], alpha: float = 0.05) -> dict[str, dict[str, Any]]:
    """Every classification metric of one part's predictions, with intervals.

    The intervals speak of chance in the examples, for this one run (`verdict.metric_interval`; examples that share a
    `cluster` count as one draw). What other seeds would give is the report's to say.

    Args:
        table: Predictions of one stage and part.
        labels: The task's label names, in order.
        alpha: 1 minus the level of the intervals.

    Returns:
        metric -> {"value", "low", "high", "n"}, and "reason" where the value is None.
    """
    code = {name: number for number, name in enumerate(labels)}
    truth = table["label"].map(code).to_numpy()
    chosen = table["prediction"].map(code).to_numpy()
    probabilities = table[[f"score_{name}" for name in labels]].to_numpy(dtype=float)
    clusters = table["cluster"].to_numpy() if table["cluster"].notna().all() else None

    found = {}
    for name in ("accuracy", "f1_macro", *(["f1_binary"] if len(labels) == 2 else []), "mcc"):
        value = METRICS[name].function(truth, chosen)
        bounds = verdict.metric_interval(truth, chosen[None], name, alpha=alpha, clusters=clusters)
        found[name] = leaf(
            value, bounds.low, bounds.high, len(truth), classification.why_undefined(name, truth, chosen)
        )
    terms = classification.brier_terms(truth, probabilities)
    found["brier"] = leaf(*verdict.interval(terms, alpha=alpha, clusters=clusters, bounds=(0.0, 2.0)), len(truth), "")
    for number, label in enumerate(labels):
        bounds = verdict.metric_interval(
            truth, chosen[None], "f1_binary", alpha=alpha, positive=number, clusters=clusters
        )
        reason = f"no example has the label {label!r} and none was given it"
        found[f"f1_{label}"] = leaf(
            classification.f1_of(truth, chosen, number), bounds.low, bounds.high, len(truth), reason
        )
    return found


def leaf(value: float, low: float, high: float, n: int, reason: str) -> dict[str, Any]:
    """One value of a record, NaN written as null with its reason.

    >>> leaf(float("nan"), 0.0, 0.0, 4, "nothing to divide by")
    {'value': None, 'low': None, 'high': None, 'n': 4, 'reason': 'nothing to divide by'}
    """
    if math.isnan(value):
        return {"value": None, "low": None, "high": None, "n": n, "reason": reason}
    bounds = [None if math.isnan(bound) else float(bound) for bound in (low, high)]
    return {"value": float(value), "low": bounds[0], "high": bounds[1], "n": n}
