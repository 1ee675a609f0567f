"""METRICS: every metric ftlib knows, one row each; and the metrics of one part of a record, with intervals.

A metric is a pure function on arrays. Each row says which way is better, in what unit and range, and where its
definition is from; a value that is undefined is NaN, and the record gives the reason.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from ftlib.metrics import bias, classification, continual, language, memorization, metric_value, text
from ftlib.metrics.fairness import clusters_of, columns_of, measure_groups
from ftlib.stats.intervals import interval, metric_interval

if TYPE_CHECKING:
    import pandas as pd

CLASSIFICATION, LANGUAGE_MODELING, TEXT_TO_TEXT = "classification", "language-modeling", "text-to-text"
"""Names of kinds of task (`ftlib.data.kinds`)."""

__all__ = ["METRICS", "Metric", "NO_TOKENS", "metric_value", "measure", "measure_text", "measure_written", "metric_row"]

NO_TOKENS = "it has no tokenizer, and a perplexity per byte compares with none per token"
"""Why a model without a tokenizer has no perplexity."""


def measure(table: "pd.DataFrame", labels: Sequence[str], alpha: float = 0.05) -> dict[str, dict[str, Any]]:
    """Every classification metric of one part's predictions, with intervals.

    The intervals speak of chance in the examples, for this one run (`ftlib.stats.intervals`; examples that share a
    `cluster` count as one draw). What other seeds would give is the report's to say.

    Args:
        table: Predictions of one stage and part.
        labels: The task's label names, in order.
        alpha: 1 minus the level of the intervals.

    Returns:
        metric -> {"value", "low", "high", "n"}, and "reason" where the value is None; "f1" -> label -> the same; where
        the predictions have groups, "groups" and "gaps" too (`ftlib.metrics.fairness.measure_groups`).
    """
    code = {name: number for number, name in enumerate(labels)}
    truth = table["label"].map(code).to_numpy()
    chosen = table["prediction"].map(code).to_numpy()
    probabilities = table[[f"score_{name}" for name in labels]].to_numpy(dtype=float)
    clusters = clusters_of(table)
    found: dict[str, dict[str, Any]] = {}
    for row in METRICS.values():
        if row.takes == "predictions" and row.kind == CLASSIFICATION and not row.terms:
            if row.labels not in (0, len(labels)):
                continue
            value, reason = row.function(truth, chosen), classification.why_undefined(row.name, truth, chosen)
            bounds = metric_interval(truth, chosen[None], row.name, alpha=alpha, clusters=clusters)
            found[row.name] = metric_value(value, bounds.low, bounds.high, len(truth), reason)
    for name, terms in terms_of(truth, chosen, probabilities).items():
        bounds = interval(terms, alpha=alpha, clusters=clusters, bounds=METRICS[name].bounds)
        found[name] = metric_value(*bounds, len(truth), "")
    # By label below one key: a label may be called as a metric is.
    found["f1"] = {}
    for number, label in enumerate(labels):
        bounds = metric_interval(truth, chosen[None], "f1_binary", alpha=alpha, positive=number, clusters=clusters)
        reason = f"no example has the label {label!r} and none was given it"
        found["f1"][label] = metric_value(
            classification.f1_of(truth, chosen, number), bounds.low, bounds.high, len(truth), reason
        )
    if columns_of(table):
        found |= measure_groups(table, labels, alpha=alpha)
    return found


def terms_of(truth: np.ndarray, chosen: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """Metric -> (n,) values whose mean it is, for every metric of labels that has them.

    Args:
        truth: (n,) numbers of the true labels.
        chosen: (n,) numbers of the predicted labels.
        probabilities: (n, n_labels)
    """
    taken = {"predictions": chosen, "probabilities": probabilities}
    return {
        row.name: row.terms(truth, taken[row.takes])
        for row in METRICS.values()
        if row.terms and row.kind == CLASSIFICATION and row.labels in (0, probabilities.shape[1])
    }


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
        found[metric] = metric_value(*bounds, len(table), reason) | {"protocol": protocol}
    return found


def measure_written(table: "pd.DataFrame", alpha: float = 0.05) -> dict[str, dict[str, Any]]:
    """Every metric of texts that a model wrote for one part's segments, with intervals over segments (or clusters).

    Args:
        table: One row per segment: `label`, the reference; `text_out`, what was written; `cluster`.
        alpha: 1 minus the level of the intervals.

    Returns:
        metric -> {"value", "low", "high", "n"}, "reason" where the value is None, and "signature" where a value
        depends on how texts were cut into words.
    """
    references, hypotheses = table["label"].tolist(), table["text_out"].tolist()
    found = {}
    for name in WRITTEN:
        if not text.available(name):
            continue
        counts = text.counts_of(name, references, hypotheses)[None]
        bounds = text.corpus_interval(
            name, counts, bounds=METRICS[name].bounds, alpha=alpha, clusters=clusters_of(table)
        )
        found[name] = metric_value(*bounds, len(table), "there are no segments")
        if how := text.signature(name):
            found[name]["signature"] = how
    return found


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
    `f(nats, sizes)`; "accuracies": `f(accuracies)`; "matrix": `f(R)`, or `f(R, base)` (`ftlib.metrics.continual`);
    "ranks": `f(ranks, candidates)` and "matches": `f(matched, length)` (`ftlib.metrics.memorization`);
    "versions": `f(before, after)`, "frames": `f(scores, term)` (`ftlib.metrics.bias`) and "pairs":
    `f(more, less)` (`ftlib.metrics.bias`); "texts": `f(references, hypotheses)` and
    "used": `f(used)` (`ftlib.metrics.text`)."""
    kind: str = CLASSIFICATION
    """The kind of task it is of."""
    terms: Callable[..., np.ndarray] | None = None
    """For a mean over examples with labels: what `function` takes -> (n,) values whose mean it is. Its interval is that
    of a mean; metrics without it have a closed form in `ftlib.stats.linearize`."""
    labels: int = 0
    """How many labels a task must have for it; 0: any number."""
    not_primary: str = ""
    """Why no plan can decide by it; empty where one can."""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Least and greatest value; None where there is no bound."""
        return None if None in self.range else self.range


_OF_SEQUENCES = "it is about several tasks in sequence, and not every run has one"

_OF_IDENTITIES = "it is about identities that texts name, and no number of it is good or bad by itself"

_OF_GENDERS = "it is about one set of sentences, and not every run measures that"

_OF_MASKED = "masked models see what comes after a token, so it is no likelihood of text"

_OF_LENGTH = "a text is not better for being longer or shorter"

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
        "van Rijsbergen 1979, chapter 7; scikit-learn f1_score(average='binary')", labels=2,
    ),
    Metric(
        "mcc", "Matthews correlation of true and predicted labels; 0 is chance",
        classification.mcc, True, "correlation", (-1, 1), "Gorodkin 2004; scikit-learn matthews_corrcoef",
    ),
    Metric(
        "brier", "mean squared distance between the probabilities and the truth",
        classification.brier, False, "squared probability", (0, 2), "Brier 1950", takes="probabilities",
        terms=classification.brier_terms,
    ),
    Metric(
        "order_sd", "standard deviation of the accuracy over orders of the same in-context examples",
        language.order_sd, False, "share", (0, None), "Lu et al. 2022; chi-square interval of a normal sample",
        takes="accuracies", not_primary="it says how steady a prompt is, not how good",
    ),
    Metric(
        "bits_per_byte", "bits that the model needs per UTF-8 byte of the text, whatever its tokenizer",
        language.bits_per_byte, False, "bits per byte", (0, None), "lm-evaluation-harness, metric of the same name",
        takes="likelihoods", kind=LANGUAGE_MODELING,
    ),
    Metric(
        "perplexity", "exp of the mean negative log-likelihood of a token; compares models of one tokenizer only",
        language.perplexity, False, "per token of this tokenizer", (1, None), "Jelinek et al. 1977",
        takes="likelihoods", kind=LANGUAGE_MODELING,
        not_primary="it is per token, so models with different tokenizers cannot be compared by it",
    ),
    Metric(
        "pseudo_bits_per_byte",
        "bits per byte from pseudo-likelihoods: each token masked in turn, its right context seen",
        language.bits_per_byte, False, "bits per byte", (0, None), "Salazar et al. 2020, section 2.1",
        takes="likelihoods", kind=LANGUAGE_MODELING, not_primary=_OF_MASKED,
    ),
    Metric(
        "pseudo_perplexity", "perplexity from pseudo-likelihoods: each token masked in turn, its right context seen",
        language.perplexity, False, "per token of this tokenizer", (1, None), "Salazar et al. 2020, section 2.3",
        takes="likelihoods", kind=LANGUAGE_MODELING, not_primary=_OF_MASKED,
    ),
    Metric(
        "average_accuracy", "mean accuracy on all tasks of a sequence after the last training",
        continual.average_accuracy, True, "share", (0, 1), "Lopez-Paz & Ranzato 2017, equation 2", takes="matrix",
        not_primary=_OF_SEQUENCES,
    ),
    Metric(
        "backward_transfer",
        "accuracy at the end minus that right after a task's own training, mean over all tasks but the last",
        continual.backward_transfer, True, "share", (-1, 1), "Lopez-Paz & Ranzato 2017, equation 3", takes="matrix",
        not_primary=_OF_SEQUENCES,
    ),
    Metric(
        "forward_transfer",
        "zero-shot accuracy just before a task's own training minus the untouched model's, all but the first",
        continual.forward_transfer, True, "share", (-1, 1),
        "Lopez-Paz & Ranzato 2017, equation 4, from the untouched model instead of a random one", takes="matrix",
        not_primary=_OF_SEQUENCES,
    ),
    Metric(
        "forgetting_first",
        "accuracy right after a task's own training minus that at the end, mean over all tasks but the last",
        continual.forgetting_first, False, "share", (-1, 1), "Forgetting of the avalanche library", takes="matrix",
        not_primary=_OF_SEQUENCES,
    ),
    Metric(
        "forgetting_max",
        "best accuracy before the last training minus that at the end, mean over all tasks but the last",
        continual.forgetting_max, False, "share", (-1, 1), "Chaudhry et al. 2018, equation 3", takes="matrix",
        not_primary=_OF_SEQUENCES,
    ),
    Metric(
        "exposure", "what a model tells of a secret planted in its training text; each bit halves the guesses it takes",
        memorization.exposure, False, "bits", (0, None), "Carlini et al. 2019, section 4", takes="ranks",
        kind=LANGUAGE_MODELING, not_primary=_OF_MEMORY,
    ),
    Metric(
        "extraction", "share of documents that greedy decoding continues token for token",
        memorization.extraction, False, "share", (0, 1), "Carlini et al. 2023, definition 3.1", takes="matches",
        kind=LANGUAGE_MODELING, not_primary=_OF_MEMORY,
    ),
    Metric(
        "flip_rate", "share of texts whose predicted label changes when their identity terms are swapped",
        bias.flip_rate, False, "share", (0, 1), "Garg et al. 2019, section 3", takes="versions",
        not_primary=_OF_IDENTITIES,
    ),
    Metric(
        "mean_change", "mean absolute change of a label's probability when a text's identity terms are swapped",
        bias.mean_change, False, "probability", (0, 1), "Garg et al. 2019, counterfactual token fairness gap",
        takes="versions", not_primary=_OF_IDENTITIES,
    ),
    Metric(
        "signed_gap", "probability of the same texts about the second side minus about the first; 0 is none",
        bias.signed_gap, False, "probability", (-1, 1),
        "Kiritchenko & Mohammad 2018, section 5 (paired differences)", takes="versions", not_primary=_OF_IDENTITIES,
    ),
    Metric(
        "template_gap",
        "probability of sentences about one identity minus the mean of the others of its kind; 0 is none",
        bias.template_gap, False, "probability", (-1, 1),
        "Kiritchenko & Mohammad 2018, section 5 (sentences from templates)", takes="frames", not_primary=_OF_IDENTITIES,
    ),
    Metric(
        "stereotype_share", "share of pairs whose more stereotyping sentence is likelier; 0.5 prefers neither",
        bias.stereotype_share, False, "share", (0, 1), "Nangia et al. 2020, section 3", takes="pairs",
        kind=LANGUAGE_MODELING, not_primary=_OF_IDENTITIES,
    ),
    Metric(
        "chrf", "F of the character n-grams of what was written; follows word forms that BLEU counts as wrong",
        text.chrf, True, "chrF points", (0, 100), "Popović 2015; sacrebleu corpus_chrf", takes="texts",
        kind=TEXT_TO_TEXT,
    ),
    Metric(
        "bleu", "share of word runs of 1 to 4 that the reference has too, with a penalty where the whole is too short",
        text.bleu, True, "BLEU points", (0, 100), "Papineni et al. 2002; sacrebleu corpus_bleu", takes="texts",
        kind=TEXT_TO_TEXT,
    ),
    Metric(
        "ter", "word edits, moved blocks among them, that make what was written the reference, per 100 of its words",
        text.ter, False, "TER points", (0, None), "Snover et al. 2006; sacrebleu corpus_ter", takes="texts",
        kind=TEXT_TO_TEXT,
    ),
    Metric(
        "exact_match", "share of segments written exactly as the reference",
        text.exact_match, True, "share", (0, 1), "Rajpurkar et al. 2016, section 6.1, without normalisation",
        takes="texts", kind=TEXT_TO_TEXT,
    ),
    Metric(
        "length_ratio", "words written per word of the references; 1 is as long",
        text.length_ratio, True, "ratio", (0, None), "sacrebleu corpus_bleu, sys_len / ref_len", takes="texts",
        kind=TEXT_TO_TEXT, not_primary=_OF_LENGTH,
    ),
    Metric(
        "empty_share", "share of segments for which nothing was written",
        text.empty_share, False, "share", (0, 1), "counted", takes="texts", kind=TEXT_TO_TEXT,
        not_primary="it says how often nothing was written, not how good the rest is",
    ),
    Metric(
        "term_use", "share of a list's terms in source texts whose translation was used",
        text.term_use, True, "share", (0, 1), "counted", takes="used", kind=TEXT_TO_TEXT,
        not_primary="it is about the terms of one list, and not every run measures that",
    ),
    Metric(
        "gender_right", "share of translated sentences whose person has the gender that the source's pronoun says",
        text.gender_right, True, "share", (0, 1), "Stanovsky et al. 2019, accuracy", takes="used", kind=TEXT_TO_TEXT,
        not_primary=_OF_GENDERS,
    ),
    Metric(
        "gender_gap", "right about men minus right about women, of sentences that differ in the pronoun alone",
        text.gender_gap, False, "share", (-1, 1), "Stanovsky et al. 2019, difference by gender, of paired sentences",
        takes="used", kind=TEXT_TO_TEXT, not_primary=_OF_GENDERS,
    ),
    Metric(
        "stereotype_gap", "right where the gender is the one that people expect minus right where it is not, paired",
        text.stereotype_gap, False, "share", (-1, 1), "Stanovsky et al. 2019, difference by stereotype, paired",
        takes="used", kind=TEXT_TO_TEXT, not_primary=_OF_GENDERS,
    ),
    Metric(
        "rouge1", "mean F1 of words of summary and reference (needs the package rouge-score)",
        text.rouge1, True, "share", (0, 1), "Lin 2004; rouge-score", takes="texts", kind=TEXT_TO_TEXT,
    ),
    Metric(
        "rouge2", "mean F1 of word pairs of summary and reference (needs the package rouge-score)",
        text.rouge2, True, "share", (0, 1), "Lin 2004; rouge-score", takes="texts", kind=TEXT_TO_TEXT,
    ),
    Metric(
        "rougeL", "mean F1 of the longest common subsequence of summary and reference (needs the package rouge-score)",
        text.rougeL, True, "share", (0, 1), "Lin 2004; rouge-score", takes="texts", kind=TEXT_TO_TEXT,
    ),
)  # fmt: skip

METRICS: Mapping[str, Metric] = MappingProxyType({row.name: row for row in _ROWS})

WRITTEN = tuple(row.name for row in _ROWS if row.takes == "texts")
"""Metrics of texts that a model wrote."""


def metric_row(name: str) -> Metric:
    """The table's row for a key of a record; `f1.<label>` is the row of one label's F1."""
    if name in METRICS:
        return METRICS[name]
    summary = f"F1 of the label {name.removeprefix('f1.')!r}"
    return replace(METRICS["f1_binary"], name=name, summary=summary, function=classification.f1_of)
