"""The metrics of one part of a record, with intervals: `measure` of labels, `measure_text` of documents."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ftlib.intervals import interval, metric_interval
from ftlib.metrics import classification, language
from ftlib.metrics.fairness import clusters_of, columns_of, measure_groups
from ftlib.metrics.leaves import leaf

if TYPE_CHECKING:
    import pandas as pd

NO_TOKENS = "it has no tokenizer, and a perplexity per byte compares with none per token"
"""Why a model without a tokenizer has no perplexity."""


def measure(table: "pd.DataFrame", labels: Sequence[str], alpha: float = 0.05) -> dict[str, dict[str, Any]]:
    """Every classification metric of one part's predictions, with intervals.

    The intervals speak of chance in the examples, for this one run (`ftlib.intervals`; examples that share a
    `cluster` count as one draw). What other seeds would give is the report's to say.

    Args:
        table: Predictions of one stage and part.
        labels: The task's label names, in order.
        alpha: 1 minus the level of the intervals.

    Returns:
        metric -> {"value", "low", "high", "n"}, and "reason" where the value is None; where the predictions have
        groups, "groups" and "gaps" too (`ftlib.metrics.fairness.measure_groups`).
    """
    code = {name: number for number, name in enumerate(labels)}
    truth = table["label"].map(code).to_numpy()
    chosen = table["prediction"].map(code).to_numpy()
    probabilities = table[[f"score_{name}" for name in labels]].to_numpy(dtype=float)
    clusters = clusters_of(table)
    found: dict[str, dict[str, Any]] = {}
    binary = [classification.f1_binary] if len(labels) == 2 else []
    for metric in (classification.accuracy, classification.f1_macro, *binary, classification.mcc):
        name, value = metric.__name__, metric(truth, chosen)
        bounds = metric_interval(truth, chosen[None], name, alpha=alpha, clusters=clusters)
        found[name] = leaf(
            value, bounds.low, bounds.high, len(truth), classification.why_undefined(name, truth, chosen)
        )
    terms = classification.brier_terms(truth, probabilities)
    found["brier"] = leaf(*interval(terms, alpha=alpha, clusters=clusters, bounds=(0.0, 2.0)), len(truth), "")
    for number, label in enumerate(labels):
        bounds = metric_interval(truth, chosen[None], "f1_binary", alpha=alpha, positive=number, clusters=clusters)
        reason = f"no example has the label {label!r} and none was given it"
        found[f"f1_{label}"] = leaf(
            classification.f1_of(truth, chosen, number), bounds.low, bounds.high, len(truth), reason
        )
    if columns_of(table):
        found |= measure_groups(table, labels, alpha=alpha)
    return found


def measure_text(
    table: "pd.DataFrame", *, protocol: str, pseudo: bool = False, alpha: float = 0.05
) -> dict[str, dict[str, Any]]:
    """Bits per byte and perplexity of one part's documents, with intervals over documents (or their clusters).

    Args:
        table: One row per document: `nats`, `n_tokens`, `n_bytes`, `cluster`. A model without a tokenizer leaves
            `n_tokens` empty, and has no perplexity.
        protocol: How the likelihoods came about (context, stride, what begins a document); part of what a value means.
        pseudo: Whether they are a masked model's; its metrics have names of their own.
        alpha: 1 minus the level of the intervals.

    Returns:
        metric -> {"value", "low", "high", "n", "protocol"}, and "reason" where the value is None; n = documents.

    Raises:
        FtlibError: A likelihood is not finite, or a number of bytes is missing.
    """
    nats, clusters = table["nats"].to_numpy(dtype=float), clusters_of(table)
    found = {}
    for name, size in language.SIZES.items():
        metric, sizes = f"{language.PREFIX * pseudo}{name}", table[size]
        if name == "perplexity" and len(sizes) and sizes.isna().all():
            bounds, reason = [math.nan] * 3, NO_TOKENS
        else:
            sizes = sizes.to_numpy(dtype=float)
            bounds = language.text_interval(metric, nats, sizes, alpha=alpha, clusters=clusters)
            reason = language.why_undefined(metric, sizes)
        found[metric] = leaf(*bounds, len(table), reason) | {"protocol": protocol}
    return found
