"""Encoder-decoder models: every query is encoded once, its continuations are scored in the decoder."""

from collections.abc import Sequence

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutput

from ftlib.errors import FtlibError
from ftlib.score import facts, passes
from ftlib.score.trees import Row, grow, rows


def score_decoded(
    model: torch.nn.Module,
    contexts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[Sequence[int]]],
    budget: int,
    totals: np.ndarray,
) -> None:
    """Add up the log-probabilities of continuations.

    Args:
        model: The model, at rest.
        contexts: (n_queries,) tokens for the encoder.
        continuations: (n_queries, n_continuations) tokens for the decoder; no end of text is put behind them.
        budget: Tokens in one pass, the encoder's counted for every row of the decoder.
        totals: (n_queries * n_continuations,) float64, nats; added to.

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
