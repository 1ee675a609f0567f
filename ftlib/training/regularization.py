"""What keeps weights near to where they were: a pull while a model learns something new, and states on the way back.

A pull is a quadratic penalty, sum over weights of strength x (weight - anchor)^2 / 2. L2-SP (Li et al. 2018, section
3.1) has one strength for all weights and the pre-trained model as anchor; elastic weight consolidation (Kirkpatrick et
al. 2017, equation 3) has the Fisher information of the task before as strength and the weights after it as anchor.

States on the way lie on the straight line from the untouched weights to the adapted ones (WiSE-FT, Wortsman et al.
2022, section 4): (1 - alpha) x untouched + alpha x adapted, nothing trained. Of low-rank adapters, whose update is
added to the weights, alpha scales the update, which is the same line. A new head has no untouched counterpart; it stays
as it was trained.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


class Line:
    """The line from the weights as they are now to those they will have.

    Args:
        module: Before training.
        new: Names of the parameters that no file held; they stay out of it.

    >>> module = torch.nn.Linear(1, 1, bias=False)
    >>> _ = module.weight.data.fill_(2.0)
    >>> line = Line(module, [])
    >>> _ = module.weight.data.fill_(4.0)
    >>> with line.at(0.25): module.weight.item()
    2.5
    >>> module.weight.item()
    4.0
    """

    def __init__(self, module: torch.nn.Module, new: Sequence[str]) -> None:
        self._updates = [part for part in module.modules() if hasattr(part, "lora_A") and hasattr(part, "scaling")]
        moving = [] if self._updates else [p for n, p in module.named_parameters() if p.requires_grad and n not in new]
        self._begun = [(p, p.detach().clone()) for p in moving]

    @contextmanager
    def at(self, alpha: float) -> Iterator[None]:
        """Within it, the module is that share of the way from its beginning to its end: 0 is the one, 1 the other.

        Args:
            alpha: 0 to 1; at both ends every weight is the same to the bit.
        """
        ended = [p.detach().clone() for p, _ in self._begun]
        scales = [dict(part.scaling) for part in self._updates]
        try:
            with torch.no_grad():
                for (p, begun), end in zip(self._begun, ended, strict=True):
                    p.copy_(begun if alpha == 0 else end if alpha == 1 else (1 - alpha) * begun + alpha * end)
            for part, scale in zip(self._updates, scales, strict=True):
                part.scaling.update({name: alpha * value for name, value in scale.items()})
            yield
        finally:
            with torch.no_grad():
                for (p, _), end in zip(self._begun, ended, strict=True):
                    p.copy_(end)
            for part, scale in zip(self._updates, scales, strict=True):
                part.scaling.update(scale)


def stage_of(alpha: float) -> str:
    """What a state is called in a record: in hundredths of the way.

    >>> stage_of(0.25), stage_of(1.0)
    ('alpha_25', 'alpha_100')
    """
    return f"alpha_{round(100 * alpha)}"
