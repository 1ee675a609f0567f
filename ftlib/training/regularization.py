"""What draws weights back while a model learns something new: towards where it began, or towards what it knew.

Both are a quadratic penalty, sum over weights of strength x (weight - anchor)^2 / 2. L2-SP (Li et al. 2018, section
3.1) has one strength for all weights and the pre-trained model as anchor; elastic weight consolidation (Kirkpatrick et
al. 2017, equation 3) has the Fisher information of the earlier task as strength and the weights after it as anchor.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import send_to_device

from ftlib.training.contract import Trainable

if TYPE_CHECKING:
    from ftlib.models.loading import Model


class Anchors:
    """The penalty's strengths and anchors, weight by weight, and its gradient.

    Two quadratic penalties on a weight are one, up to a constant: their strengths add, and the anchor is the mean of
    the anchors, weighted by them. So the memory is that of one, however many tasks there were.

    >>> weight = torch.nn.Parameter(torch.tensor([3.0]))
    >>> anchors = Anchors()
    >>> anchors.add(weight, torch.tensor([1.0]), torch.tensor([0.0]))
    >>> anchors.add(weight, torch.tensor([3.0]), torch.tensor([4.0]))
    >>> weight.grad = torch.zeros(1)
    >>> anchors.pull()
    >>> weight.grad
    tensor([0.])
    """

    def __init__(self) -> None:
        self._found: dict[int, tuple[torch.nn.Parameter, torch.Tensor, torch.Tensor]] = {}

    def add(self, weight: torch.nn.Parameter, strength: torch.Tensor, anchor: torch.Tensor) -> None:
        """Draw a weight to an anchor.

        Args:
            weight: What trains, of any shape.
            strength: Of its shape, or one number.
            anchor: Of its shape.
        """
        if id(weight) in self._found:
            _, before, old = self._found[id(weight)]
            total = before + strength
            # Where neither pulls, any anchor will do.
            share = torch.where(total > 0, strength / total.clamp_min(torch.finfo(torch.float32).tiny), 0.0)
            strength, anchor = total, torch.lerp(old, anchor, share)
        self._found[id(weight)] = weight, strength, anchor

    def __bool__(self) -> bool:
        return bool(self._found)

    @torch.no_grad()
    def pull(self) -> None:
        """Add the penalty's gradient to that of the loss."""
        for weight, strength, anchor in self._found.values():
            if weight.grad is not None:
                weight.grad.addcmul_(strength.to(weight.grad.dtype), weight - anchor)


def pretrained(module: torch.nn.Module, new: Sequence[str]) -> list[torch.nn.Parameter]:
    """The weights that train and that a file held; a new head has nothing to be drawn back to.

    Args:
        module: What trains.
        new: Names of the parameters that no file held (`ftlib.methods.finetune.new_parameters`).
    """
    return [p for name, p in module.named_parameters() if p.requires_grad and name not in set(new)]


def fisher(
    trainable: Trainable, model: "Model", examples: Sequence[dict[str, Any]], chosen: Sequence[int]
) -> dict[torch.nn.Parameter, torch.Tensor]:
    """The diagonal of the empirical Fisher information: the mean squared gradient of single examples' log-likelihood.

    Empirical: the labels are the true ones, not drawn from the model (the difference: Kunstner et al. 2019, section 2).
    Of text, whose loss is a mean over tokens, the mean log-likelihood of a token counts.

    Args:
        trainable: The module and its collate function.
        model: The base model: device and arithmetic.
        examples: Encoded.
        chosen: Which of them are looked at; their number is the sample size.

    Returns:
        For each weight that trains and that these examples reach, a tensor of its shape.
    """
    module = trainable.module
    found: dict[torch.nn.Parameter, torch.Tensor] = {}
    module.eval()
    for place in chosen:
        module.zero_grad()
        batch = send_to_device(trainable.collate([examples[place]]), model.device)
        with model.autocast():
            loss = module(**batch)["loss"]
        loss.backward()
        for p in module.parameters():
            if p.grad is not None:
                found[p] = found.get(p, 0.0) + p.grad.detach().float() ** 2 / len(chosen)
    module.zero_grad()
    return found
