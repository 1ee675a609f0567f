"""Log-likelihoods under a language model: of continuations, of whole texts, of masked tokens.

What is common to many texts is computed once. The texts of `score_continuations` are trees of tokens behind a common
prefix: the prefix is read once, and many trees go through the model in one pass, each token seeing its own past only.
Models for which that is not right, or not known to be, are run row by row and give the same numbers; `fast_path` says
which, and why. Of a masked model each token is hidden in turn, and predicted from all the others of its piece of text.

In all functions, `model` is a language model of transformers or a peft model around one, and `tokenizer` its tokenizer;
`dtype` is "float32", for the arithmetic of the model's own weights, or "bfloat16", for autocast; `budget` is the number
of tokens in one pass, by default what the free memory allows: it changes speed, not results. A score that is not a
finite number raises `Diverged`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from ftlib.core.errors import Diverged, FtlibError, listed_texts, several
from ftlib.models.score import decoder, facts, passes, trees


class Piece(NamedTuple):
    """A piece of a text, with the tokenizer's special tokens around it."""

    tokens: list[int]
    hidden: int
    """The place of the token that is hidden and predicted."""
    text: int
    """Which text it is a piece of."""


def pieces(tokenizer: Any, texts: Sequence[str], context: int) -> list[Piece]:
    """Every text in consecutive pieces of at most `context` tokens, once for every token that is not a special one.

    Raises:
        FtlibError: The tokenizer has no mask token.
    """
    if tokenizer.mask_token_id is None:
        raise FtlibError(f"{type(tokenizer).__name__} has no mask token; score_masked needs a masked language model's")
    found = []
    for number, text in enumerate(texts):
        split = tokenizer(
            text,
            truncation=True,
            max_length=context,
            return_overflowing_tokens=True,
            return_special_tokens_mask=True,
            verbose=False,
        )
        for ids, special in zip(split["input_ids"], split["special_tokens_mask"], strict=True):
            found += [Piece(ids, place, number) for place, is_special in enumerate(special) if not is_special]
    return found


def score_pieces(
    model: torch.nn.Module, mask_token: int, found: Sequence[Piece], budget: int, totals: np.ndarray
) -> None:
    """Add up the log-probabilities of the hidden tokens, longest piece first."""
    device = passes.device_of(model)

    def run(batch: Sequence[Piece]) -> None:
        longest = len(batch[0].tokens)
        ids = torch.full((len(batch), longest), mask_token)
        attention = torch.zeros((len(batch), longest), dtype=torch.long)
        for row, piece in enumerate(batch):
            ids[row, : len(piece.tokens)] = torch.tensor(piece.tokens)
            ids[row, piece.hidden] = mask_token
            attention[row, : len(piece.tokens)] = 1
        hidden = torch.tensor([piece.hidden for piece in batch], device=device)
        with only(model, hidden) as narrowed:
            logits = model(input_ids=ids.to(device), attention_mask=attention.to(device)).logits
        at = torch.arange(len(batch), device=device)
        logits = logits[at, 0 if narrowed else hidden].float()
        tokens = torch.tensor([piece.tokens[piece.hidden] for piece in batch], device=device)
        values = logits[at, tokens] - logits.logsumexp(dim=-1)
        np.add.at(totals, [piece.text for piece in batch], values.double().cpu().numpy())

    ordered = sorted(found, key=lambda piece: -len(piece.tokens))
    passes.in_batches(ordered, lambda batch: len(batch) * len(batch[0].tokens), budget, run)


@contextmanager
def only(model: torch.nn.Module, places: torch.Tensor) -> Iterator[bool]:
    """Let the output layers see one place (n_rows,) of each row; False where model and output layers are one.

    They work on every token by itself, and over a vocabulary they cost more than all other layers of a small model.
    """
    body = passes.core(model).base_model
    if body is passes.core(model):
        yield False
        return

    def narrow(module: torch.nn.Module, given: Any, output: Any) -> Any:
        rows = torch.arange(len(places), device=places.device)
        output["last_hidden_state"] = output["last_hidden_state"][rows, places][:, None]
        return output

    hook = body.register_forward_hook(narrow)
    try:
        yield True
    finally:
        hook.remove()


__all__ = ["fast_path", "protocol", "score_continuations", "score_masked", "score_text"]


def score_continuations(
    model: torch.nn.Module,
    tokenizer: Any,
    prefix: str,
    queries: Sequence[str],
    continuations: Sequence[str],
    *,
    bos: bool = True,
    dtype: str = "float32",
    budget: int | None = None,
) -> np.ndarray:
    """Log-probabilities of every continuation after every query.

    The text is prefix + query + continuation. Its tokens are lm_eval's (`_encode_pair`): white space at the end of the
    query goes to the continuation; the continuation is what the whole has beyond as many tokens as prefix + query.

    Args:
        model: A causal or an encoder-decoder language model of transformers, or a peft model around one.
        tokenizer: Its tokenizer; it need not have a padding token.
        prefix: What stands before every query, such as the shots; may be empty.
        continuations: (n_continuations,) such as label words, each with the space that separates it.
        bos: Put BOS (EOS where there is none) before the text. An encoder-decoder gets its tokenizer's special tokens
            around prefix + query whatever this says; no end of text is scored after a continuation.

    Returns:
        (n_queries, n_continuations) float64: summed log-probabilities, nats.

    Raises:
        FtlibError: No continuations; one that is empty or has no tokens of its own; a text longer than the model reads;
            a model without an output layer.
    """
    _check(model, queries=queries, continuations=continuations)
    if not len(continuations):
        raise FtlibError("continuations: at least one is needed")
    encoder = facts.is_encoder_decoder(model)
    texts = [prefix + query for query in queries]
    contexts, labels = trees.pairs(tokenizer, texts, continuations, bos=bos, encoder=encoder)
    totals = np.zeros(len(texts) * len(continuations))
    if not texts:
        return totals.reshape(0, len(continuations))
    if encoder:
        with passes.at_rest(model, dtype):
            width = passes.core(model).config.get_text_config().vocab_size
            decoder.score_decoded(model, contexts, labels, budget or passes.free_room(model, width), totals)
    else:
        facts.check_causal(model, "score_continuations")
        _check_lengths(model, contexts, labels)
        common = trees.shared(contexts)
        before = contexts[0][:common]
        n = len(continuations)
        forest = [
            trees.grow(context[common:], own, i * n)
            for i, (context, own) in enumerate(zip(contexts, labels, strict=True))
        ]
        known = facts.facts(model)
        with passes.at_rest(model, dtype):
            if known.trees:
                passes.score_trees(model, before, forest, budget or passes.free_room(model), totals)
            else:
                rows = [row for tree in forest for row in trees.rows(tree, before)]
                _score_rows(model, known, rows, budget, totals)
    return _finite(totals).reshape(len(texts), len(continuations))


def score_text(
    model: torch.nn.Module,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    context: int,
    stride: int,
    bos: bool = True,
    dtype: str = "float32",
    budget: int | None = None,
) -> pd.DataFrame:
    """Negative log-likelihood of every text; perplexity is exp(nats / n_tokens), bits per byte nats / n_bytes / ln 2.

    No text sees another. A text longer than the context is read in windows (`ftlib.models.score.trees.windows`): the
    first predicts as many tokens as it reads, each later one the next `stride`, and every token is scored once. With
    stride = context these are lm_eval's rolling windows, with a smaller one every token has at least context - stride
    before it.

    Args:
        context: Tokens that the model sees at most, BOS counted.
        stride: Tokens by which a window advances, 1 to context.
        bos: Put BOS (EOS where there is none) before each text. Without it the first token has nothing before it and
            is not scored: neither it nor its bytes are counted.

    Returns:
        One row per text: nats (summed negative log-likelihood), n_tokens (scored), n_bytes (UTF-8, of the text whose
        tokens are scored). An empty text has 0 of each.

    Raises:
        FtlibError: A context that is longer than the model reads, or a stride that leaves tokens out; a model that is
            not causal.
    """
    _check(model, texts=texts)
    facts.check_causal(model, "score_text")
    most = facts.limit(model)
    problems = []
    if not 1 <= stride <= context:
        problems.append(f"stride: {stride} is not between 1 and the context of {context} tokens")
    if most is not None and context > most:
        problems.append(f"context: {context} tokens, but the model reads at most {most}")
    if problems:
        raise several(problems)
    ids, n_bytes = trees.text_tokens(tokenizer, texts, bos=bos)
    rows = [row for place, text in enumerate(ids) for row in trees.windows(text, context, stride, place)]
    totals = np.zeros(len(texts))
    known = facts.facts(model)
    with passes.at_rest(model, dtype):
        _score_rows(model, known, rows, budget, totals)
    return _table(totals, [max(0, len(text) - 1) for text in ids], n_bytes)


def score_masked(
    model: torch.nn.Module,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    context: int,
    dtype: str = "float32",
    budget: int | None = None,
) -> pd.DataFrame:
    """Negative pseudo-log-likelihood of every text under a masked language model.

    Each token is hidden in turn and predicted from all others (Salazar et al. 2020, "Masked Language Model Scoring");
    exp(nats / n_tokens) is a pseudo-perplexity, to be compared with none of a causal model. A text longer than the
    context is cut into consecutive pieces that do not see each other.

    Args:
        tokenizer: Its tokenizer, with a mask token.
        context: Tokens of a piece, special tokens counted.

    Returns:
        One row per text: nats, n_tokens (special ones not counted), n_bytes (UTF-8).

    Raises:
        FtlibError: No mask token, or a context longer than the model reads.
    """
    _check(model, texts=texts)
    most = facts.limit(model)
    if most is not None and context > most:
        raise FtlibError(f"context: {context} tokens, but the model reads at most {most}")
    found = pieces(tokenizer, texts, context)
    totals = np.zeros(len(texts))
    with passes.at_rest(model, dtype):
        score_pieces(model, tokenizer.mask_token_id, found, budget or passes.free_room(model), totals)
    n_tokens = np.bincount([piece.text for piece in found], minlength=len(texts))
    return _table(totals, n_tokens, [len(text.encode()) for text in texts])


def protocol(*, context: int, stride: int, bos: bool) -> str:
    """How `score_text` reads, in words, to be printed beside every perplexity.

    >>> protocol(context=512, stride=256, bos=True)
    'context 512, stride 256, BOS first, each document on its own'
    >>> protocol(context=512, stride=512, bos=False)
    "context 512, stride 512, no BOS (a document's first token is not scored), each document on its own"
    """
    first = "BOS first" if bos else "no BOS (a document's first token is not scored)"
    return f"context {context}, stride {stride}, {first}, each document on its own"


def fast_path(model: torch.nn.Module) -> tuple[bool, str]:
    """Whether `score_continuations` reads the common prefix once and packs trees for this model, and why or why not.

    Asking runs a trial of a few dozen tokens, once for a model object.
    """
    if facts.is_encoder_decoder(model):
        return False, "an encoder-decoder: each query is encoded once, continuations are scored in the decoder"
    known = facts.facts(model)
    return known.trees, known.why


def _score_rows(
    model: torch.nn.Module, known: facts.Facts, rows: list[trees.Row], budget: int | None, totals: np.ndarray
) -> None:
    width = 0 if known.sliced else passes.core(model).config.get_text_config().vocab_size
    most = budget or passes.free_room(model, width)
    if facts.one_at_a_time(model):
        most = 1
    passes.score_rows(model, facts.row_logits(model, known.sliced), rows, most, totals)


def _check(model: Any, **given: Sequence[str]) -> None:
    """Refuse what is no module of torch, and what is no list of texts."""
    if not isinstance(model, torch.nn.Module):
        what = type(model).__name__
        raise FtlibError(f"model: found {what}; give the language model itself, as load_model(NAME).speaker()")
    for name, value in given.items():
        listed_texts(value, name)


def _check_lengths(model: torch.nn.Module, contexts: list[list[int]], labels: list[list[list[int]]]) -> None:
    most = facts.limit(model)
    if most is None:
        return
    # The last token is predicted and never read.
    lengths = [len(context) + max(map(len, own)) - 1 for context, own in zip(contexts, labels, strict=True)]
    long = [(i, length) for i, length in enumerate(lengths) if length > most]
    if long:
        query, length = max(long, key=lambda found: found[1])
        raise FtlibError(
            f"{len(long)} of {len(contexts)} queries are too long: query {query} has {length} tokens with the prefix, "
            f"but the model reads at most {most}; use fewer shots or shorter texts"
        )


def _finite(totals: np.ndarray) -> np.ndarray:
    if not np.isfinite(totals).all():
        raise Diverged("the model's scores are not finite; a lower learning_rate usually helps")
    return totals


def _table(totals: np.ndarray, n_tokens: Sequence[int] | np.ndarray, n_bytes: Sequence[int]) -> pd.DataFrame:
    # 0.0 - 0.0 is 0.0, where -0.0 would be printed with its sign.
    return pd.DataFrame({"nats": 0.0 - _finite(totals), "n_tokens": n_tokens, "n_bytes": n_bytes})
