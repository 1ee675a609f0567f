"""METRICS: every metric ftlib knows, one row each.

A metric is a pure function on arrays. Each row says which way is better, in what unit and range, and where its
definition is from; a value that is undefined is NaN, and the record gives the reason.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from ftlib.metrics import classification, counterfactual, forgetting, language, memorization, stereotype
from ftlib.metrics.leaves import leaf
from ftlib.metrics.parts import NO_TOKENS, measure, measure_text

__all__ = ["METRICS", "NO_TOKENS", "Metric", "leaf", "measure", "measure_text", "metric_row"]


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
_OF_MASKED = "masked models see what comes after a token, so it is no likelihood of text"
_OF_MEMORY = "it is about what a model keeps of its training text, and not every run measures that"

_ROWS = (
    Metric(
        "accuracy", "share of examples whose predicted label is the true one",
        classification.accuracy, True, "share", (0, 1), "scikit-learn accuracy_score",
    ),
    Metric(
        "f1_macro", "mean over labels of F1; every label counts the same",
        classification.f1_macro, True, "share", (0, 1),
        "Sokolova & Lapalme 2009, table 3; scikit-learn f1_score(average='macro')",
    ),
    Metric(
        "f1_binary", "F1 of the second of two labels (the positive one)",
        classification.f1_binary, True, "share", (0, 1),
        "van Rijsbergen 1979, chapter 7; scikit-learn f1_score(average='binary')",
    ),
    Metric(
        "mcc", "Matthews correlation of true and predicted labels; 0 is chance",
        classification.mcc, True, "correlation", (-1, 1), "Gorodkin 2004; scikit-learn matthews_corrcoef",
    ),
    Metric(
        "brier", "mean squared distance between the probabilities and the truth",
        classification.brier, False, "squared probability", (0, 2), "Brier 1950", takes="probabilities",
    ),
    Metric(
        "order_sd", "standard deviation of the accuracy over orders of the same in-context examples",
        language.order_sd, False, "share", (0, None), "Lu et al. 2022; chi-square interval of a normal sample",
        takes="accuracies", not_primary="it says how steady a prompt is, not how good",
    ),
    Metric(
        "bits_per_byte", "bits that the model needs per UTF-8 byte of the text, whatever its tokenizer",
        language.bits_per_byte, False, "bits per byte", (0, None), "lm-evaluation-harness, metric of the same name",
        takes="likelihoods", kind="language-modeling",
    ),
    Metric(
        "perplexity", "exp of the mean negative log-likelihood of a token; compares models of one tokenizer only",
        language.perplexity, False, "per token of this tokenizer", (1, None), "Jelinek et al. 1977",
        takes="likelihoods", kind="language-modeling",
        not_primary="it is per token, so models with different tokenizers cannot be compared by it",
    ),
    Metric(
        "pseudo_bits_per_byte",
        "bits per byte from pseudo-likelihoods: each token masked in turn, its right context seen",
        language.bits_per_byte, False, "bits per byte", (0, None), "Salazar et al. 2020, section 2.1",
        takes="likelihoods", kind="language-modeling", not_primary=_OF_MASKED,
    ),
    Metric(
        "pseudo_perplexity", "perplexity from pseudo-likelihoods: each token masked in turn, its right context seen",
        language.perplexity, False, "per token of this tokenizer", (1, None), "Salazar et al. 2020, section 2.3",
        takes="likelihoods", kind="language-modeling", not_primary=_OF_MASKED,
    ),
    Metric(
        "average_accuracy", "mean accuracy on all tasks of a sequence after the last training",
        forgetting.average_accuracy, True, "share", (0, 1), "Lopez-Paz & Ranzato 2017, equation 2", takes="matrix",
        not_primary=_OF_SEQUENCES,
    ),
    Metric(
        "backward_transfer",
        "accuracy at the end minus that right after a task's own training, mean over all tasks but the last",
        forgetting.backward_transfer, True, "share", (-1, 1), "Lopez-Paz & Ranzato 2017, equation 3", takes="matrix",
        not_primary=_OF_SEQUENCES,
    ),
    Metric(
        "forward_transfer",
        "zero-shot accuracy just before a task's own training minus the untouched model's, all but the first",
        forgetting.forward_transfer, True, "share", (-1, 1),
        "Lopez-Paz & Ranzato 2017, equation 4, from the untouched model instead of a random one", takes="matrix",
        not_primary=_OF_SEQUENCES,
    ),
    Metric(
        "forgetting_first",
        "accuracy right after a task's own training minus that at the end, mean over all tasks but the last",
        forgetting.forgetting_first, False, "share", (-1, 1), "Forgetting of the avalanche library", takes="matrix",
        not_primary=_OF_SEQUENCES,
    ),
    Metric(
        "forgetting_max",
        "best accuracy before the last training minus that at the end, mean over all tasks but the last",
        forgetting.forgetting_max, False, "share", (-1, 1), "Chaudhry et al. 2018, equation 3", takes="matrix",
        not_primary=_OF_SEQUENCES,
    ),
    Metric(
        "exposure", "what a model tells of a secret planted in its training text; each bit halves the guesses it takes",
        memorization.exposure, False, "bits", (0, None), "Carlini et al. 2019, section 4", takes="ranks",
        kind="language-modeling", not_primary=_OF_MEMORY,
    ),
    Metric(
        "extraction", "share of documents that greedy decoding continues token for token",
        memorization.extraction, False, "share", (0, 1), "Carlini et al. 2023, definition 3.1", takes="matches",
        kind="language-modeling", not_primary=_OF_MEMORY,
    ),
    Metric(
        "flip_rate", "share of texts whose predicted label changes when their identity terms are swapped",
        counterfactual.flip_rate, False, "share", (0, 1), "Garg et al. 2019, section 3", takes="versions",
        not_primary=_OF_IDENTITIES,
    ),
    Metric(
        "mean_change", "mean absolute change of a label's probability when a text's identity terms are swapped",
        counterfactual.mean_change, False, "probability", (0, 1), "Garg et al. 2019, counterfactual token fairness gap",
        takes="versions", not_primary=_OF_IDENTITIES,
    ),
    Metric(
        "signed_gap", "probability of the same texts about the second side minus about the first; 0 is none",
        counterfactual.signed_gap, False, "probability", (-1, 1),
        "Kiritchenko & Mohammad 2018, section 5 (paired differences)", takes="versions", not_primary=_OF_IDENTITIES,
    ),
    Metric(
        "template_gap",
        "probability of sentences about one identity minus the mean of the others of its kind; 0 is none",
        counterfactual.template_gap, False, "probability", (-1, 1),
        "Kiritchenko & Mohammad 2018, section 5 (sentences from templates)", takes="frames", not_primary=_OF_IDENTITIES,
    ),
    Metric(
        "stereotype_share", "share of pairs whose more stereotyping sentence is likelier; 0.5 prefers neither",
        stereotype.stereotype_share, False, "share", (0, 1), "Nangia et al. 2020, section 3", takes="pairs",
        kind="language-modeling", not_primary=_OF_IDENTITIES,
    ),
)  # fmt: skip

METRICS: Mapping[str, Metric] = MappingProxyType({row.name: row for row in _ROWS})


def metric_row(name: str) -> Metric:
    """The table's row for a key of a record; `f1_<label>` is the row of one label's F1."""
    if name in METRICS:
        return METRICS[name]
    summary = f"F1 of the label {name.removeprefix('f1_')!r}"
    return replace(METRICS["f1_binary"], name=name, summary=summary, function=classification.f1_of)
