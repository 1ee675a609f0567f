"""Masked language models: each token is hidden in turn, and predicted from all the others of its piece of text."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from ftlib.core.errors import FtlibError
from ftlib.models.score import passes


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
