"""METRICS: every metric ftlib knows, one row each; `measure` and `measure_text`, which fill a record's metrics.

A metric is a pure function on arrays. Each row says which way is better, in what unit and range, and where its
definition is from; a value that is undefined is NaN, and the record gives the reason.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ftlib import verdict
from ftlib.metrics import classification, counterfactual, forgetting, language, memorization, stereotype

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Metric:
    """One row of the table."""

    name: str
    summary: str
    function: Callable[..., float]
    """What it takes is said by `takes`."""
    higher_is_better: bool
    unit: str
    range: tuple[float, float | None]
    """None: without bound."""
    source: str
    takes: str = "predictions"
    """"predictions": `f(labels, predictions)`; "probabilities": `f(labels, probabilities)`; "likelihoods":
    `f(nats, sizes)`; "accuracies": `f(accuracies)`; "matrix": `f(R)`, or `f(R, base)` (`ftlib.metrics.forgetting`);
    "ranks": `f(ranks, candidates)` and "matches": `f(matched, length)` (`ftlib.metrics.memorization`);
    "versions": `f(before, after)`, "frames": `f(scores, term)` (`ftlib.metrics.counterfactual`) and "pairs":
    `f(more, less)` (`ftlib.metrics.stereotype`)."""
    kind: str = "classification"
    """The kind of task it is of."""
    not_primary: str = ""
    """Why no plan can decide by it; empty where one can."""


_OF_SEQUENCES = "it is about several tasks in sequence, and not every run has one"
_OF_IDENTITIES = "it is about identities that texts name, and no number of it is good or bad by itself"
_OF_MEMORY = "it is about what a model keeps of its training text, and not every run measures that"

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
            Metric(
                "order_sd",
                "standard deviation of the accuracy over orders of the same in-context examples",
                language.order_sd,
                False,
                "share",
                (0, None),
                "Lu et al. 2022; chi-square interval of a normal sample",
                takes="accuracies",
                not_primary="it says how steady a prompt is, not how good",
            ),
            Metric(
                "bits_per_byte",
                "bits that the model needs per UTF-8 byte of the text, whatever its tokenizer",
                language.bits_per_byte,
                False,
                "bits per byte",
                (0, None),
                "lm-evaluation-harness, metric of the same name",
                takes="likelihoods",
                kind="language-modeling",
            ),
            Metric(
                "perplexity",
                "exp of the mean negative log-likelihood of a token; compares models of one tokenizer only",
                language.perplexity,
                False,
                "per token of this tokenizer",
                (1, None),
                "Jelinek et al. 1977",
                takes="likelihoods",
                kind="language-modeling",
                not_primary="it is per token, so models with different tokenizers cannot be compared by it",
            ),
            Metric(
                "pseudo_bits_per_byte",
                "bits per byte from pseudo-likelihoods: each token masked in turn, its right context seen",
                language.bits_per_byte,
                False,
                "bits per byte",
                (0, None),
                "Salazar et al. 2020, section 2.1",
                takes="likelihoods",
                kind="language-modeling",
                not_primary="masked models see what comes after a token, so it is no likelihood of text",
            ),
            Metric(
                "pseudo_perplexity",
                "perplexity from pseudo-likelihoods: each token masked in turn, its right context seen",
                language.perplexity,
                False,
                "per token of this tokenizer",
                (1, None),
                "Salazar et al. 2020, section 2.3",
                takes="likelihoods",
                kind="language-modeling",
                not_primary="masked models see what comes after a token, so it is no likelihood of text",
            ),
            Metric(
                "average_accuracy",
                "mean accuracy on all tasks of a sequence after the last training",
                forgetting.average_accuracy,
                True,
                "share",
                (0, 1),
                "Lopez-Paz & Ranzato 2017, equation 2",
                takes="matrix",
                not_primary=_OF_SEQUENCES,
            ),
            Metric(
                "backward_transfer",
                "accuracy at the end minus that right after a task's own training, mean over all tasks but the last",
                forgetting.backward_transfer,
                True,
                "share",
                (-1, 1),
                "Lopez-Paz & Ranzato 2017, equation 3",
                takes="matrix",
                not_primary=_OF_SEQUENCES,
            ),
            Metric(
                "forward_transfer",
                "zero-shot accuracy just before a task's own training minus the untouched model's, all but the first",
                forgetting.forward_transfer,
                True,
                "share",
                (-1, 1),
                "Lopez-Paz & Ranzato 2017, equation 4, from the untouched model instead of a random one",
                takes="matrix",
                not_primary=_OF_SEQUENCES,
            ),
            Metric(
                "forgetting_first",
                "accuracy right after a task's own training minus that at the end, mean over all tasks but the last",
                forgetting.forgetting_first,
                False,
                "share",
                (-1, 1),
                "Forgetting of the avalanche library",
                takes="matrix",
                not_primary=_OF_SEQUENCES,
            ),
            Metric(
                "forgetting_max",
                "best accuracy before the last training minus that at the end, mean over all tasks but the last",
                forgetting.forgetting_max,
                False,
                "share",
                (-1, 1),
                "Chaudhry et al. 2018, equation 3",
                takes="matrix",
                not_primary=_OF_SEQUENCES,
            ),
            Metric(
                "exposure",
                "what a model tells of a secret planted in its training text; each bit halves the guesses it takes",
                memorization.exposure,
                False,
                "bits",
                (0, None),
                "Carlini et al. 2019, section 4",
                takes="ranks",
                kind="language-modeling",
                not_primary=_OF_MEMORY,
            ),
            Metric(
                "extraction",
                "share of documents that greedy decoding continues token for token",
                memorization.extraction,
                False,
                "share",
                (0, 1),
                "Carlini et al. 2023, definition 3.1",
                takes="matches",
                kind="language-modeling",
                not_primary=_OF_MEMORY,
            ),
            Metric(
                "flip_rate",
                "share of texts whose predicted label changes when their identity terms are swapped",
                counterfactual.flip_rate,
                False,
                "share",
                (0, 1),
                "Garg et al. 2019, section 3",
                takes="versions",
                not_primary=_OF_IDENTITIES,
            ),
            Metric(
                "mean_change",
                "mean absolute change of a label's probability when a text's identity terms are swapped",
                counterfactual.mean_change,
                False,
                "probability",
                (0, 1),
                "Garg et al. 2019, counterfactual token fairness gap",
                takes="versions",
                not_primary=_OF_IDENTITIES,
            ),
            Metric(
                "signed_gap",
                "probability of the same texts about the second side minus about the first; 0 is none",
                counterfactual.signed_gap,
                False,
                "probability",
                (-1, 1),
                "Kiritchenko & Mohammad 2018, section 5 (paired differences)",
                takes="versions",
                not_primary=_OF_IDENTITIES,
            ),
            Metric(
                "template_gap",
                "probability of sentences about one identity minus the mean of the others of its kind; 0 is none",
                counterfactual.template_gap,
                False,
                "probability",
                (-1, 1),
                "Kiritchenko & Mohammad 2018, section 5 (sentences from templates)",
                takes="frames",
                not_primary=_OF_IDENTITIES,
            ),
            Metric(
                "stereotype_share",
                "share of pairs whose more stereotyping sentence is likelier; 0.5 prefers neither",
                stereotype.stereotype_share,
                False,
                "share",
                (0, 1),
                "Nangia et al. 2020, section 3",
                takes="pairs",
                kind="language-modeling",
                not_primary=_OF_IDENTITIES,
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
        metric -> {"value", "low", "high", "n"}, and "reason" where the value is None; where the predictions have
        groups, "groups" and "gaps" too (`ftlib.metrics.fairness.measure_groups`).
    """
    code = {name: number for number, name in enumerate(labels)}
    truth = table["label"].map(code).to_numpy()
    chosen = table["prediction"].map(code).to_numpy()
    probabilities = table[[f"score_{name}" for name in labels]].to_numpy(dtype=float)
    clusters = _clusters(table)
    # Not at the top: it needs `leaf`.
    from ftlib.metrics import fairness

    found: dict[str, dict[str, Any]] = {}
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
    if fairness.columns_of(table):
        found |= fairness.measure_groups(table, labels, alpha=alpha)
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
    nats, clusters = table["nats"].to_numpy(dtype=float), _clusters(table)
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


NO_TOKENS = "it has no tokenizer, and a perplexity per byte compares with none per token"


def _clusters(table: "pd.DataFrame") -> Any:
    return table["cluster"].to_numpy() if table["cluster"].notna().all() else None


def leaf(value: float, low: float, high: float, n: int, reason: str) -> dict[str, Any]:
    """One value of a record, NaN written as null with its reason.

    >>> leaf(float("nan"), 0.0, 0.0, 4, "nothing to divide by")
    {'value': None, 'low': None, 'high': None, 'n': 4, 'reason': 'nothing to divide by'}
    """
    if math.isnan(value):
        return {"value": None, "low": None, "high": None, "n": n, "reason": reason}
    bounds = [None if math.isnan(bound) else float(bound) for bound in (low, high)]
    return {"value": float(value), "low": bounds[0], "high": bounds[1], "n": n}
