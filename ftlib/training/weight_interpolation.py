"""States of a model on the straight line from the untouched weights to the adapted ones (Wortsman et al. 2022).

WiSE-FT, section 4: weights (1 - alpha) x untouched + alpha x adapted, nothing trained. Of low-rank adapters, whose
update is added to the weights, alpha scales the update, which is the same line. A new head has no untouched
counterpart; it stays as it was trained.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch


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
