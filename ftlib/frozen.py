"""Lower layers that do not train, computed once for each text instead of at every step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers

MOST_BYTES = 2**29
"""Of what is remembered; texts beyond it are computed each time."""


class Remembered(torch.nn.Module):
    """In place of an encoder's first frozen layers: what came out of them for each text, computed when first asked for.

    Args:
        layers: The frozen layers, first to last.
    """

    def __init__(self, layers: list[torch.nn.Module]) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)
        self.rows: list[tuple[int, ...]] = []
        """The texts that the model is reading, as tokens."""
        self._known: dict[tuple[int, ...], torch.Tensor] = {}
        self._bytes = 0

    def see(self, module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        """Before the model reads a batch: remember which texts it holds."""
        ids, mask = args[0] if args else kwargs["input_ids"], kwargs["attention_mask"]
        self.rows = [tuple(row[:n]) for row, n in zip(ids.tolist(), mask.sum(dim=1).tolist(), strict=True)]

    def forward(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """(n, n_tokens, width) what the first frozen layer reads -> what the last one says; nothing where texts end."""
        if any(row not in self._known for row in self.rows):
            with torch.no_grad():
                found = hidden
                for layer in self.layers:
                    found = layer(found, *args, **kwargs)
            for row, one in zip(self.rows, found, strict=True):
                if self._bytes < MOST_BYTES and row not in self._known:
                    self._known[row] = one[: len(row)].clone()
                    self._bytes += self._known[row].numel() * one.element_size()
            return found
        first = self._known[self.rows[0]]
        found = torch.zeros(hidden.shape, dtype=first.dtype, device=hidden.device)
        for place, row in enumerate(self.rows):
            found[place, : len(row)] = self._known[row]
        return found


class Past(torch.nn.Module):
    """In place of the frozen layers after the first: their work is done."""

    def forward(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """What came in."""
        return hidden


@contextmanager
def remembering(module: torch.nn.Module) -> Iterator[int]:
    """Within it, an encoder's frozen lower layers are computed once per text, without dropout, as when it predicts.

    Only where nothing below a layer trains, so that none of it changes between steps. Texts are padded on the right.

    Args:
        module: What is trained; put back as it was, whatever happens.

    Yields:
        How many layers are remembered; 0 where the lowest one trains, or the model is built another way.
    """
    found = _lower(module)
    if found is None:
        yield 0
        return
    reader, layers, n = found
    frozen = [layers[place] for place in range(n)]
    drops = [
        part for part in (reader.embeddings, *frozen) for part in part.modules() if isinstance(part, torch.nn.Dropout)
    ]
    shares = [part.p for part in drops]
    remembered = Remembered(frozen)
    hook = reader.register_forward_pre_hook(remembered.see, with_kwargs=True)
    try:
        for part in drops:
            part.p = 0.0
        layers[0] = remembered
        for place in range(1, n):
            layers[place] = Past()
        yield n
    finally:
        hook.remove()
        for place, layer in enumerate(frozen):
            layers[place] = layer
        for part, share in zip(drops, shares, strict=True):
            part.p = share


def _lower(module: torch.nn.Module) -> tuple[torch.nn.Module, torch.nn.ModuleList, int] | None:
    """The model that reads, its layers, and how many of them, from the lowest, are frozen with all below."""
    models = [part for part in module.modules() if isinstance(part, transformers.PreTrainedModel)]
    reader = models[0].base_model if models else None
    encoder = getattr(reader, "encoder", None)
    layers = getattr(encoder, "layer", None)
    # Of BERT's make: embeddings, then layers one after the other, each a function of what the one before it said.
    if not isinstance(layers, torch.nn.ModuleList) or not hasattr(reader, "embeddings"):
        return None
    if any(p.requires_grad for p in reader.embeddings.parameters()):
        return None
    n = 0
    while n < len(layers) and not any(p.requires_grad for p in layers[n].parameters()):
        n += 1
    return (reader, layers, n) if n else None
