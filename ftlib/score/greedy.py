"""What a causal model writes by greedy decoding, compared with what stands in a text; nothing is generated.

Up to the first token that differs, greedy decoding has before it just what stands in the text. So the tokens it would
write can be read off one pass over the text itself.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ftlib.errors import FtlibError
from ftlib.score import facts, passes, tokens


def matched(
    model: torch.nn.Module,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    prefix: int,
    length: int,
    dtype: str = "float32",
    budget: int | None = None,
) -> np.ndarray:
    """Tokens of each text, after its prefix, that greedy decoding writes as they stand there, before it first errs.

    Args:
        model: A causal language model of transformers, or a peft model around one.
        tokenizer: Its tokenizer.
        texts: (n_texts,) documents; BOS is put before each.
        prefix: Tokens that are given, BOS not counted.
        length: Tokens that are to be written.
        dtype: "float32", for the arithmetic of the model's own weights, or "bfloat16", for autocast.
        budget: Tokens in one pass; by default what the free memory allows.

    Returns:
        (n_texts,) float64, 0 to length; NaN for a text of fewer than prefix + length tokens.

    Raises:
        FtlibError: prefix + length is more than the model reads, or the model is not causal.
    """
    facts.check_causal(model, "greedy decoding")
    most = facts.limit(model)
    if min(prefix, length) < 1 or (most is not None and prefix + length > most):
        raise FtlibError(
            f"prefix and length: found {prefix} and {length} tokens; allowed: from 1, together up to {most}"
        )
    ids, _ = tokens.text_tokens(tokenizer, list(texts), bos=True)
    whole = 1 + prefix + length
    rows = [(place, row[:whole]) for place, row in enumerate(ids) if len(row) >= whole]
    found = np.full(len(ids), np.nan)
    known, width = facts.facts(model), prefix + length
    logits, device = facts.row_logits(model, known.sliced), passes.device_of(model)
    vocabulary = 0 if known.sliced else passes.core(model).config.get_text_config().vocab_size
    room = 1 if facts.one_at_a_time(model) else budget or passes.room(model, vocabulary)

    def run(batch: Sequence[tuple[int, list[int]]]) -> None:
        read = torch.tensor([row for _, row in batch], device=device)
        starts = torch.arange(len(batch), device=device)[:, None] * width
        # What stands at one place is predicted at the place before.
        wanted = (starts + prefix + torch.arange(length, device=device)).flatten()
        said = torch.cat([some.argmax(dim=-1) for some in logits(read[:, :-1], wanted)])
        right = said.reshape(len(batch), length) == read[:, -length:]
        found[[place for place, _ in batch]] = right.long().cumprod(dim=1).sum(dim=1).cpu().numpy()

    with passes.at_rest(model, dtype):
        passes.in_batches(rows, lambda batch: len(batch) * width, room, run)
    return found
