"""How likely a model finds both sentences of a pair, by the protocols that CrowS-Pairs and lm_eval use.

The two give different numbers of one model and must not be mixed: a masked model is asked for the words that both
sentences share, given those that differ (Nangia et al. 2020, section 3); a causal model for the whole sentence, the
words that differ included (lm_eval, `pct_stereotype`).
"""

import difflib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ftlib.data.pairs import CRITICISM, Pairs
from ftlib.errors import Diverged, FtlibError
from ftlib.metrics.stereotype import measure_pairs
from ftlib.score import facts, passes, score_text
from ftlib.score.masked import Piece, score_pieces

if TYPE_CHECKING:
    import pandas as pd

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
        score_pieces(model, tokenizer.mask_token_id, found, budget or passes.room(model), totals)
    if not np.isfinite(totals).all():
        raise Diverged("the model's scores are not finite; a lower learning_rate usually helps")
    n_tokens = np.bincount([piece.text for piece in found], minlength=len(texts))
    return pd.DataFrame({"nats": 0.0 - totals, "n_tokens": n_tokens, "n_bytes": [len(text.encode()) for text in texts]})


def score_causal_pairs(model: torch.nn.Module, tokenizer: Any, pairs: Pairs, *, context: int) -> "pd.DataFrame":
    """Negative log-likelihood of both sentences of every pair; see `ftlib.score.score_text`.

    Returns:
        As `score_masked_pairs`, of the whole sentences.
    """
    return score_text(model, tokenizer, sentences(pairs), context=context, stride=context)


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
