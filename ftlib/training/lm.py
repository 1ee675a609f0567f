"""Several documents in one row of tokens, none of which sees another: training without padding.

The loss of language models, taken a few positions at a time.

All logits of a batch at once, positions x vocabulary, are most of the memory that training a small model needs, and
moving them to and fro most of its time on a CPU.
"""

from collections.abc import Sequence
from typing import Any

import torch

from ftlib.models.generation import IGNORED
from ftlib.models.score import facts, passes


def pieces(ids: Sequence[int], most: int) -> list[list[int]]:
    """A document cut into pieces of at most `most` tokens; a last piece of one token, which predicts none, is dropped.

    >>> pieces([1, 2, 3, 4, 5], 2)
    [[1, 2], [3, 4]]
    """
    found = [list(ids[start : start + most]) for start in range(0, len(ids), most)]
    return [piece for piece in found if len(piece) > 1]


def rows(lengths: Sequence[int], width: int) -> list[list[int]]:
    """Which pieces share a row: the longest first, each into the first row that has room for it.

    >>> rows([3, 5, 2, 4], width=7)
    [[1, 2], [3, 0]]
    """
    found: list[list[int]] = []
    room: list[int] = []
    for piece in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        place = next((i for i, left in enumerate(room) if left >= lengths[piece]), len(found))
        if place == len(found):
            found.append([])
            room.append(width)
        found[place].append(piece)
        room[place] -= lengths[piece]
    return found


def packed(documents: Sequence[Sequence[int]], width: int, *, together: bool = True) -> dict[str, Any]:
    """A batch of documents for a causal model.

    Positions begin anew with each document, from which transformers (`find_packed_sequence_indices`) builds the mask
    that keeps them apart. The first token of a document is given, not predicted.

    Args:
        documents: Token numbers, each at most `width` long.
        width: Tokens of a row.
        together: Whether documents may share a row; else each has its own.

    Returns:
        input_ids, position_ids and labels, (n_rows, longest row) each.

    >>> batch = packed([[5, 6], [7, 8, 9]], width=6)
    >>> batch["input_ids"].tolist(), batch["position_ids"].tolist(), batch["labels"].tolist()
    ([[7, 8, 9, 5, 6]], [[0, 1, 2, 0, 1]], [[-100, 8, 9, -100, 6]])
    """
    lengths = [len(ids) for ids in documents]
    chosen = rows(lengths, width if together else 0)
    longest = max(sum(lengths[i] for i in row) for row in chosen)
    shape = (len(chosen), longest)
    batch = {"input_ids": torch.zeros(shape, dtype=torch.long), "labels": torch.full(shape, IGNORED)}
    # What fills a row up is one more document, which nobody asks about.
    batch["position_ids"] = torch.arange(longest).repeat(len(chosen), 1)
    for place, row in enumerate(chosen):
        start = 0
        for document in row:
            ids = torch.tensor(documents[document])
            end = start + len(ids)
            batch["input_ids"][place, start:end] = ids
            batch["labels"][place, start + 1 : end] = ids[1:]
            batch["position_ids"][place, start:end] = torch.arange(len(ids))
            start = end
        batch["position_ids"][place, start:] = torch.arange(longest - start)
    # A cache would make transformers overlook that positions begin anew.
    return batch | {"use_cache": False}


@torch.no_grad()
def keeps_apart(module: torch.nn.Module, tolerance: float = 1e-3) -> bool:
    """Whether a causal model gives a document the same scores alone and after another in its row.

    Asked of the model itself: that positions which begin anew separate documents is not true of every family.
    """
    generator = torch.Generator().manual_seed(0)
    size = module.get_input_embeddings().num_embeddings
    first, second = torch.randint(size, (2, 9), generator=generator).tolist()
    was_training, device = module.training, next(module.parameters()).device
    module.eval()
    found = []
    for documents in ([second], [first, second]):
        batch = packed(documents, 18)
        inputs = {name: batch[name].to(device) for name in ("input_ids", "position_ids")}
        found.append(module(**inputs, use_cache=False).logits[0, -9:].float())
    module.train(was_training)
    return bool((found[0] - found[1]).abs().max() < tolerance)


POSITIONS = 512
"""Whose logits exist at once: with a vocabulary of 8,192 they are 16 MB."""


class CrossEntropyOfSlices(torch.autograd.Function):
    """Mean cross-entropy of a linear output layer; its gradients are computed on the way, slice by slice."""

    @staticmethod
    def forward(ctx, hidden, weight, target):
        """Mean over the positions.

        Args:
            ctx: Of autograd.
            hidden: (n, width) what the output layer reads.
            weight: (vocabulary, width) of the output layer.
            target: (n,) the token each position is to predict.
        """
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        to_hidden = torch.empty_like(hidden)
        to_weight = torch.zeros(weight.shape, device=weight.device) if ctx.needs_input_grad[1] else None
        for here, wanted, place in zip(
            hidden.split(POSITIONS), target.split(POSITIONS), to_hidden.split(POSITIONS), strict=True
        ):
            logits = (here @ weight.t()).float()
            norm = logits.logsumexp(dim=1, keepdim=True)
            total += (norm - logits.gather(1, wanted[:, None])).sum()
            error = logits.sub_(norm).exp_()
            error[torch.arange(len(wanted)), wanted] -= 1
            error = (error / len(target)).to(hidden.dtype)
            place.copy_(error @ weight)
            if to_weight is not None:
                to_weight += error.t() @ here
        ctx.save_for_backward(to_hidden, to_weight)
        ctx.dtype = weight.dtype
        return total / len(target)

    @staticmethod
    def backward(ctx, scale):
        """The gradients that `forward` has computed, times that of the loss."""
        to_hidden, to_weight = ctx.saved_tensors
        return to_hidden * scale, None if to_weight is None else (to_weight * scale).to(ctx.dtype), None


def next_token_loss(module: torch.nn.Module, inputs: dict, dtype: torch.dtype) -> torch.Tensor:
    """Mean cross-entropy of the labelled tokens, each given those before it.

    Args:
        module: A causal model whose logits are its output layer's and nothing else (`ftlib.models.score.facts`).
        inputs: What its body takes, and labels (n_rows, length), IGNORED where the loss does not count.
        dtype: Of the matrix products: float32, or bfloat16 by autocast.
    """
    inner, inputs = passes.core(module), dict(inputs)
    labels = inputs.pop("labels")[:, 1:]
    counted = labels != IGNORED
    with torch.autocast(labels.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        hidden = inner.base_model(**inputs)[0][:, :-1][counted]
    weight = inner.get_output_embeddings().weight
    return CrossEntropyOfSlices.apply(hidden.to(dtype), weight.to(dtype), labels[counted])


def in_slices(module: torch.nn.Module) -> bool:
    """Whether `next_token_loss` is the model's own loss: a causal model whose logits are a plain output layer's."""
    if facts.is_encoder_decoder(module) or passes.core(module).get_output_embeddings() is None:
        return False
    head = passes.core(module).get_output_embeddings()
    return type(head) is torch.nn.Linear and head.bias is None and facts.facts(module).sliced
