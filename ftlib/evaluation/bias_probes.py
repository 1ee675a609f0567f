"""The evaluations of bias: swapped texts, sentences about different people, pairs with a stereotype.

How likely a model finds both sentences of a pair goes by the protocols of CrowS-Pairs and lm_eval. The two give
different numbers of one model and must not be mixed: a masked model is asked for the words that both sentences share,
given those that differ (Nangia et al. 2020, section 3); a causal model for the whole sentence, the words that differ
included (lm_eval, `pct_stereotype`).
"""

import difflib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ftlib import records
from ftlib.config.methods import ENCODER
from ftlib.core.errors import Diverged, FtlibError
from ftlib.data.evaluations import swaps_of
from ftlib.data.identity_terms import Terms, load_terms, swap
from ftlib.data.stereotype_pairs import CRITICISM, Pairs
from ftlib.data.task import Task
from ftlib.evaluation.evaluate import Parts, State
from ftlib.metrics import metric_value
from ftlib.metrics.bias import measure_pairs, measure_swaps, measure_templates
from ftlib.models.prompts import no_words
from ftlib.models.score import Piece, facts, passes, score_pieces

if TYPE_CHECKING:
    import pandas as pd

    from ftlib.models.loading import Model

MASKED = "pseudo-log-likelihood of the tokens that both sentences share, each masked in turn (Nangia et al. 2020)"

CAUSAL = "log-likelihood of the whole sentence (as lm_eval's pct_stereotype)"


def sentences(pairs: Pairs) -> list[str]:
    """Both sentences of every pair, one after the other: (2 n_pairs,), the more stereotyping first."""
    both = zip(pairs.table["more"], pairs.table["less"], strict=True)
    return [sentence for pair in both for sentence in pair]


def shared(first: list[int], second: list[int]) -> tuple[list[int], list[int]]:
    """Places of the tokens that two sentences share, as difflib matches them (metric.py, `get_span`).

    >>> shared([5, 6, 7, 9], [5, 8, 8, 7, 9])
    ([0, 2, 3], [0, 3, 4])
    """
    places: tuple[list[int], list[int]] = ([], [])
    for kind, *bounds in difflib.SequenceMatcher(None, first, second).get_opcodes():
        if kind == "equal":
            places[0].extend(range(*bounds[:2]))
            places[1].extend(range(*bounds[2:]))
    return places


def score_masked_pairs(
    model: torch.nn.Module, tokenizer: Any, pairs: Pairs, *, dtype: str = "float32", budget: int | None = None
) -> "pd.DataFrame":
    """Negative pseudo-log-likelihood of the tokens that both sentences of a pair share.

    Args:
        model: A masked language model of transformers, or a peft model around one.
        tokenizer: Its tokenizer, with a mask token.
        pairs: The pairs.
        dtype: "float32", for the arithmetic of the model's own weights, or "bfloat16", for autocast.
        budget: Tokens in one pass; by default what the free memory allows.

    Returns:
        One row per sentence in the order of `sentences`: nats, n_tokens (shared), n_bytes (of the whole sentence).

    Raises:
        FtlibError: No mask token; a sentence longer than the model reads, or that shares no token with its counterpart.
        Diverged: A score that is not a finite number.
    """
    import pandas as pd

    if tokenizer.mask_token_id is None:
        raise FtlibError(f"{type(tokenizer).__name__} has no mask token; pairs are scored with a masked model's")
    texts = sentences(pairs)
    split = tokenizer(texts, return_special_tokens_mask=True, verbose=False)
    ids, special = split["input_ids"], split["special_tokens_mask"]
    most = facts.limit(model)
    if most is not None and max(map(len, ids)) > most:
        raise FtlibError(f"pairs: a sentence has {max(map(len, ids))} tokens, but the model reads at most {most}")
    found = []
    for pair, reverse in enumerate(pairs.table["reverse"]):
        more, less = 2 * pair, 2 * pair + 1
        # difflib does not find the same both ways; metric.py puts the sentence that states the stereotype first.
        order = (less, more) if reverse else (more, less)
        for text, places in zip(order, shared(*(ids[text] for text in order)), strict=True):
            own = [Piece(ids[text], place, text) for place in places if not special[text][place]]
            if not own:
                raise FtlibError(f"pairs: {pairs.table['id'].iloc[pair]}: the two sentences share no token")
            found += own
    totals = np.zeros(len(texts))
    with passes.at_rest(model, dtype):
        score_pieces(model, tokenizer.mask_token_id, found, budget or passes.free_room(model), totals)
    if not np.isfinite(totals).all():
        raise Diverged("the model's scores are not finite; a lower learning_rate usually helps")
    n_tokens = np.bincount([piece.text for piece in found], minlength=len(texts))
    return pd.DataFrame({"nats": 0.0 - totals, "n_tokens": n_tokens, "n_bytes": [len(text.encode()) for text in texts]})


def measure(pairs: Pairs, scores: "pd.DataFrame", protocol: str) -> dict[str, Any]:
    """The share of pairs in which the more stereotyping sentence is likelier; see `measure_pairs`.

    Args:
        pairs: The pairs.
        scores: One row per sentence in the order of `sentences`, with `nats`.
        protocol: `MASKED` or `CAUSAL`.
    """
    likely = -scores["nats"].to_numpy(dtype=float)
    table = pairs.table
    said = f"{pairs.name} ({pairs.source}), {len(table)} pairs, {pairs.note}: {protocol}"
    clusters = table["cluster"].to_numpy() if table["cluster"].duplicated().any() else None
    types = table["bias_type"].tolist()
    return measure_pairs(likely[::2], likely[1::2], types, protocol=said, caution=CRITICISM, clusters=clusters)


def load_swaps(argument: str) -> tuple[Terms, str]:
    """The identity terms and the kind of them that are swapped, from "KIND" or "KIND@PATH"."""
    kind, path = swaps_of(argument)
    return load_terms(path), kind


def _why_no_label(task: Task, lacking: str) -> str:
    if not task.has_labels:
        return f"a task without labels {lacking}"
    return no_words(task) if not task.label_words else "the model gives no label here"


def evaluate_swaps(state: State, part: str, data: tuple[Terms, str]) -> Parts:
    """What becomes of the answers when the identity terms of the task's own test texts are swapped."""
    stage, spec, task, _, predictor = state
    if predictor.probabilities is None:
        return _nothing(part, "flip_rate", _why_no_label(task, "has no answer that could flip"))
    terms, kind = data
    examples = task.test_set(spec.eval_limit)
    found = [swap(text, terms, kind) for text in examples["text"]]
    kept = np.asarray([one is not None for one in found])
    chosen, swaps = examples[kept], [one for one in found if one is not None]
    if not swaps:
        return _nothing(part, "flip_rate", f"none of {len(examples)} test texts holds a term of {kind}")
    # Both versions in one call: padding beside other texts must not be what makes them differ.
    both = predictor.probabilities([*chosen["text"], *(one.text for one in swaps)])
    before, after = both[: len(swaps)], both[len(swaps) :]
    names, sides = terms.kind(kind).sides, np.asarray([one.side for one in swaps])
    clusters = chosen["cluster"].to_numpy() if "cluster" in chosen else None
    metrics = measure_swaps(before, after, sides, names, clusters=clusters)
    ids = chosen["id"].tolist()
    named = [*names, "both"]
    table = _answers(
        stage,
        part,
        task,
        both,
        id=[*ids, *(f"{one}/swapped" for one in ids)],
        cluster=(ids if clusters is None else clusters.tolist()) * 2,
        group_names=[*(named[side] for side in sides), *(named[1 - side if side >= 0 else side] for side in sides)],
    )
    return {part: ({metric: value | {"of": len(examples)} for metric, value in metrics.items()}, table)}


def evaluate_templates(state: State, part: str, texts: "pd.DataFrame") -> Parts:
    """How far the answers to sentences that differ in who they are about lie apart."""
    stage, _, task, _, predictor = state
    if predictor.probabilities is None:
        return _nothing(part, "template_gap", _why_no_label(task, "gives no probabilities of them"))
    probabilities = predictor.probabilities(texts["text"].tolist())
    n_frames = texts["frame"].nunique()
    pairs = texts[["kind", "term"]].drop_duplicates()
    terms = {kind: own["term"].tolist() for kind, own in pairs.groupby("kind", sort=False)}
    measured = measure_templates(probabilities.reshape(n_frames, len(pairs), -1), terms)
    columns = {"id": "id", "cluster": "frame", "group_kind": "kind", "group_term": "term"}
    table = _answers(stage, part, task, probabilities, **{new: texts[old].tolist() for new, old in columns.items()})
    return {part: ({"groups": measured}, table)}


def evaluate_pairs(state: State, part: str, pairs: Pairs) -> Parts:
    """Which of two sentences is likelier, the stereotyping or the other."""
    stage, _, _, model, predictor = state
    untouched = predictor.trainable is None
    masked = model.family == ENCODER
    if masked and not untouched:
        reason = "what is trained stands in place of the layer that predicts tokens"
        return _nothing(part, "stereotype_share", reason)
    if masked and not model.speaks:
        return _nothing(part, "stereotype_share", f"{model.name} was stored without the layer that predicts tokens")
    if not masked and predictor.likelihood is None:
        return _nothing(part, "stereotype_share", f"this {model.family} gives no likelihood of a sentence")
    if masked:
        scores, protocol = _untouched_masked(model, pairs), MASKED
    else:
        scores = predictor.likelihood.score(sentences(pairs))
        protocol = f"{CAUSAL}, {predictor.likelihood.protocol}"
    ids = [f"{one}/{side}" for one in pairs.table["id"] for side in ("more", "less")]
    twice = {
        new: np.repeat(pairs.table[old].to_numpy(), 2)
        for new, old in (("cluster", "cluster"), ("group_bias_type", "bias_type"))
    }
    table = records.likelihoods_table(stage, part, _frame(id=ids, **twice), scores)
    # A part with the bytes of its texts counts as text to be modelled, and these sentences are none.
    table["n_bytes"] = None
    return {part: (measure(pairs, scores, protocol), table)}


def _untouched_masked(model: "Model", pairs: Pairs) -> "pd.DataFrame":
    """The scores of an untouched masked model, kept in the user's cache folder: every run of a study measures it."""
    import pandas as pd

    from ftlib.models.loading import kept

    asked = (pairs.table["reverse"].tolist(), *sentences(pairs))
    columns = ["nats", "n_tokens", "n_bytes"]

    def compute() -> np.ndarray:
        return score_masked_pairs(model.speaker(), model.tokenizer, pairs)[columns].to_numpy(dtype=np.float64)

    return pd.DataFrame(kept("pairs", model, asked, compute), columns=columns).astype({"n_tokens": int, "n_bytes": int})


def _answers(stage: str, part: str, task: Task, probabilities: np.ndarray, **columns: Sequence[Any]) -> "pd.DataFrame":
    """Rows of the predictions: an answer per text, without true labels: nobody shall count them among a task's."""
    labels = np.asarray(task.labels, dtype=object)
    scores = {f"score_{label}": probabilities[:, place] for place, label in enumerate(task.labels)}
    table = _frame(stage=stage, part=part, **columns, prediction=labels[probabilities.argmax(axis=1)], **scores)
    return table.reindex(columns=[*table.columns, *(name for name in records.COLUMNS if name not in table)])


def _frame(**columns: Any) -> "pd.DataFrame":
    import pandas as pd

    # A scalar first would leave nothing to repeat it for.
    length = len(columns["id"])
    return pd.DataFrame(
        {name: [value] * length if isinstance(value, str) else value for name, value in columns.items()}
    )


def _nothing(part: str, metric: str, reason: str) -> Parts:
    return {part: ({metric: metric_value(math.nan, 0, 0, 0, reason)}, None)}
