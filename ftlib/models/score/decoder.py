"""Encoder-decoder models, whose continuations are scored in the decoder; and what greedy decoding would write.

Every query is encoded once. Nothing is generated: up to the first token that differs, greedy decoding has before it
just what stands in the text, so the tokens that a causal model would write are read off one pass over the text itself.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutput

from ftlib.core.errors import FtlibError
from ftlib.models.score import facts, passes, trees
from ftlib.models.score.trees import Row, grow, rows


def score_decoded(
    model: torch.nn.Module,
    contexts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[Sequence[int]]],
    budget: int,
    totals: np.ndarray,
) -> None:
    """Add up the log-probabilities of continuations.

    Args:
        contexts: (n_queries,) tokens for the encoder.
        continuations: (n_queries, n_continuations) tokens for the decoder; no end of text is put behind them.

    Raises:
        FtlibError: The configuration does not say which token the decoder starts with.
    """
    start = passes.core(model).config.decoder_start_token_id
    if start is None:
        raise FtlibError("the model's configuration has no decoder_start_token_id; set it to what it was trained with")
    n = len(continuations[0])
    lines = [list(rows(grow([start], labels, i * n))) for i, labels in enumerate(continuations)]
    order = sorted(range(len(contexts)), key=lambda i: -len(contexts[i]))

    def cost(batch: Sequence[int]) -> int:
        longest = max(len(row.tokens) for i in batch for row in lines[i])
        return (len(contexts[batch[0]]) + longest) * sum(len(lines[i]) for i in batch)

    def run(batch: Sequence[int]) -> None:
        ids, mask = _padded([contexts[i] for i in batch])
        decoded = [row for i in batch for row in lines[i]]
        query = [place for place, i in enumerate(batch) for _ in lines[i]]
        logits = _decode(model, ids, mask, decoded, query)
        targets = [target for row in decoded for target in row.targets]
        at = np.array([i * logits.shape[1] + target.at for i, row in enumerate(decoded) for target in row.targets])
        nodes, which = np.unique(at, return_inverse=True)
        wanted = logits.flatten(0, 1)[torch.from_numpy(nodes).to(logits.device)]
        found = passes.log_probabilities(iter([wanted]), targets, which)
        np.add.at(totals, [target.place for target in targets], found)

    passes.in_batches(order, cost, budget, run)


def _decode(
    model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor, decoded: Sequence[Row], query: Sequence[int]
) -> torch.Tensor:
    """Logits (n_rows, length, vocabulary) of the decoder's rows, each after the query that is its own."""
    device = passes.device_of(model)
    ids, mask = ids.to(device), mask.to(device)
    written = _padded([row.tokens for row in decoded])[0].to(device)
    if facts.virtual_tokens(model):
        # A learned prompt goes in front of the encoder's input, and of the decoder's with some methods.
        given = {"input_ids": ids[query]}
    else:
        hidden = passes.core(model).get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        given = {"encoder_outputs": BaseModelOutput(last_hidden_state=hidden[query])}
    logits = model(**given, attention_mask=mask[query], decoder_input_ids=written).logits
    return logits[:, logits.shape[1] - written.shape[1] :]


def _padded(lines: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (n_lines, longest), padded on the right with a token of the line, and 1 where they are its own."""
    longest = max(map(len, lines))
    ids = [[*line, *[line[0]] * (longest - len(line))] for line in lines]
    mask = [[1] * len(line) + [0] * (longest - len(line)) for line in lines]
    return torch.tensor(ids), torch.tensor(mask)


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
        texts: (n_texts,) documents; BOS is put before each.
        prefix: Tokens that are given, BOS not counted.
        length: Tokens that are to be written.

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
    ids, _ = trees.text_tokens(tokenizer, list(texts), bos=True)
    whole = 1 + prefix + length
    rows = [(place, row[:whole]) for place, row in enumerate(ids) if len(row) >= whole]
    found = np.full(len(ids), np.nan)
    known, width = facts.facts(model), prefix + length
    logits, device = facts.row_logits(model, known.sliced), passes.device_of(model)
    vocabulary = 0 if known.sliced else passes.core(model).config.get_text_config().vocab_size
    room = 1 if facts.one_at_a_time(model) else budget or passes.free_room(model, vocabulary)

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
