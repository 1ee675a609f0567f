"""The loss of language models, taken a few positions at a time.

All logits of a batch at once, positions x vocabulary, are most of the memory that training a small model needs, and
moving them to and fro most of its time on a CPU.
"""

import torch

from ftlib.packing import IGNORED
from ftlib.score import facts, passes

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
        module: A causal model whose logits are its output layer's and nothing else (`ftlib.score.facts`).
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
