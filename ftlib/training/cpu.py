"""What a training step on a processor can leave undone, or do in less time, with the same result up to rounding.

Half of a small encoder's parameters are the embeddings of its vocabulary. A training set uses a few thousand of its
words, yet a step writes a gradient for every one, measures it, and moves it by nothing. Here those rows stay aside.
Dropout here draws 16 random bits for an element, where torch draws a number. Attention is computed in its parts.

Lower layers that do not train, computed once for each text instead of at every step.
"""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers

from ftlib.models.unpadded import kept


class Rows(torch.nn.Module):
    """The rows of an embedding that some texts use; looked up by the same token numbers."""

    def __init__(self, whole: torch.nn.Embedding, used: torch.Tensor) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(whole.weight.detach()[used].clone())
        place = torch.full((whole.num_embeddings,), -1, device=used.device)
        place[used] = torch.arange(len(used), device=used.device)
        # No buffer: those are sent from process to process at every step, where there are several.
        self.place = place
        # Some families give the token that fills up a place in the table that never moves.
        self.padding_idx = None if whole.padding_idx is None else int(place[whole.padding_idx])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(n, n_tokens) token numbers -> (n, n_tokens, width)."""
        return torch.nn.functional.embedding(self.place[ids], self.weight, self.padding_idx)


class Dropout(torch.nn.Dropout):
    """`torch.nn.Dropout` with masks from `kept`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        return x * kept(x, self.p) if self.training and 0 < self.p < 1 else super().forward(x)


class _Beside(torch.autograd.Function):
    """A frozen linear layer and the low-rank one beside it: what both say, with one pass over it fewer for each sum."""

    @staticmethod
    def forward(ctx, x, weight, bias, down, up, scale):
        """(n, width), (out, width), (out) or None, (rank, width), (out, rank), times the second -> (n, out)."""
        found = x @ weight.t() if bias is None else torch.addmm(bias, x, weight.t())
        narrow = x @ down.t()
        ctx.save_for_backward(x, weight, down, up, narrow)
        ctx.scale = scale
        # Not in place by its name: what counts operations does not know that one.
        return torch.addmm(found, narrow, up.t(), alpha=scale, out=found)

    @staticmethod
    def backward(ctx, grad):
        """Nothing towards what is frozen."""
        x, weight, down, up, narrow = ctx.saved_tensors
        # In float32 a product with a narrow right side took a quarter of the time with that side turned (MKL), and
        # `grad.t() @ narrow` four times that of its transpose.
        towards = (grad @ up.t().contiguous().t()).mul_(ctx.scale)
        below = None
        if ctx.needs_input_grad[0]:
            below = grad @ weight
            torch.addmm(below, towards, down, out=below)
        return below, None, None, towards.t() @ x, (narrow.t() @ grad).t().mul(ctx.scale), None


def _plain_lora(module: torch.nn.Module) -> list[Any]:
    """LoRA layers of peft that do nothing but add: one adapter in use, no dropout, a frozen linear layer beneath.

    None where several processes train, each of which may hold a part of what is frozen.
    """
    known = None if torch.distributed.is_initialized() else sys.modules.get("peft.tuners.lora.layer")
    return [
        layer
        for layer in module.modules()
        if known
        and type(layer) is known.Linear
        and type(layer.base_layer) is torch.nn.Linear
        and not layer.base_layer.weight.requires_grad
        and (layer.base_layer.bias is None or not layer.base_layer.bias.requires_grad)
        and len(layer.active_adapters) == 1
        and layer.active_adapters[0] in layer.lora_A
        and layer.lora_A[layer.active_adapters[0]].bias is None
        and layer.lora_B[layer.active_adapters[0]].bias is None
        and type(layer.lora_dropout[layer.active_adapters[0]]) is torch.nn.Identity
        and not (layer.merged or layer.disable_adapters or layer.fan_in_fan_out or layer.lora_variant)
    ]


def _both(layer: Any) -> Callable[..., torch.Tensor]:
    """What such a layer computes, in place of its own `forward`; what is frozen is turned into bfloat16 once."""
    (name,), base, known = layer.active_adapters, layer.base_layer, {}

    def forward(x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        if dtype not in known:
            known[dtype] = base.weight.detach().to(dtype), None if base.bias is None else base.bias.detach().to(dtype)
        down, up = layer.lora_A[name].weight.to(dtype), layer.lora_B[name].weight.to(dtype)
        found = _Beside.apply(x.reshape(-1, x.shape[-1]).to(dtype), *known[dtype], down, up, layer.scaling[name])
        return found.view(*x.shape[:-1], -1)

    return forward


@contextmanager
def lean(module: torch.nn.Module, tokens: Iterable[int] | None) -> Iterator[None]:
    """Within it, a module on a processor trains with only the embeddings it needs, quicker dropout, attention and LoRA.

    A row that no text uses gets no gradient, so that Adam leaves it; the one difference is that weight decay does not
    shrink it either. Left as they are: an embedding that is frozen, shared with another layer (a tied output layer
    predicts every word), or of another class than torch's own, which may scale.

    Args:
        module: What is trained; changed back, with the new rows in place, whatever happens.
        tokens: Every token number that it will be given meanwhile; None: any, so that all embeddings stay.

    >>> found = torch.nn.Embedding(1000, 2)
    >>> Rows(found, torch.tensor([3, 7]))(torch.tensor([[7, 3]])).equal(found(torch.tensor([[7, 3]])))
    True
    """
    if any(parameter.device.type != "cpu" for parameter in module.parameters()):
        yield
        return
    changed = [(parent, name, child, Dropout(child.p)) for parent, name, child in _children(module, torch.nn.Dropout)]
    wholes = [] if tokens is None else _own_embeddings(module)
    for parent, name, child in _children(module, torch.nn.Embedding):
        if child in wholes:
            always = [] if child.padding_idx is None else [child.padding_idx]
            changed.append((parent, name, child, Rows(child, torch.tensor(sorted({*always, *tokens})))))
    looking = [part for part in _models(module) if part.config._attn_implementation == "sdpa"]
    beside = _plain_lora(module)
    try:
        for layer in beside:
            layer.forward = _both(layer)
        for parent, name, child, other in changed:
            setattr(parent, name, other.train(child.training))
        for part in looking:
            part.set_attn_implementation("in_parts")
        yield
    finally:
        for layer in beside:
            del layer.forward
        for part in looking:
            part.set_attn_implementation("sdpa")
        for parent, name, child, other in changed:
            setattr(parent, name, child)
            if isinstance(other, Rows):
                used = (other.place >= 0).nonzero().squeeze(1)
                with torch.no_grad():
                    child.weight[used] = other.weight


def _children(module: torch.nn.Module, kind: type) -> list[tuple[torch.nn.Module, str, Any]]:
    """Every child of exactly that class: its parent, its name there, itself."""
    found = [(parent, name, child) for parent in module.modules() for name, child in parent.named_children()]
    return [one for one in found if type(one[2]) is kind]


def _own_embeddings(module: torch.nn.Module) -> list[torch.nn.Module]:
    """The tables that turn tokens into vectors, where they move and nothing else uses them."""
    tables = list({id(table): table for model in _models(module) if (table := model.get_input_embeddings())}.values())
    users: dict[int, int] = {}
    for part in module.modules():
        for parameter in part.parameters(recurse=False):
            users[id(parameter)] = users.get(id(parameter), 0) + 1
    return [table for table in tables if table.weight.requires_grad and users[id(table.weight)] == 1]


def _models(module: torch.nn.Module) -> list[transformers.PreTrainedModel]:
    return [part for part in module.modules() if isinstance(part, transformers.PreTrainedModel)]


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
