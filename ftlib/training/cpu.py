"""What a training step on a processor can leave undone, or do in less time, with the same result up to rounding.

Half of a small encoder's parameters are the embeddings of its vocabulary. A training set uses a few thousand of its
words, yet a step writes a gradient for every one, measures it, and moves it by nothing. Here those rows stay aside.
Dropout here draws 16 random bits for an element, where torch draws a number. Forwards and backwards, torch's fused
attention took 1.9 to 10 times as long in bfloat16 as its parts do, by the shape, on a processor with AVX512-BF16.

Lower layers that do not train, computed once for each text instead of at every step. What a batch is padded with, and
what the last layer would say about words that no head reads, are not computed at all.
"""

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import transformers
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions


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


def kept(x: torch.Tensor, p: float) -> torch.Tensor:
    """What dropout multiplies by: 0 with probability p, else 1 / (1 - p), from 16 random bits an element.

    Args:
        x: Whose shape and dtype the mask has.
        p: To the nearest 1 / 65 536.

    >>> torch.manual_seed(0); kept(torch.ones(4, 250_000), 0.5).mean(dim=1).round(decimals=2)
    <torch._C.Generator object at ...>
    tensor([1., 1., 1., 1.])
    """
    bits = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    dropped = round(p * 2**16)
    return (bits[: x.numel()] >= dropped - 2**15).view_as(x).to(x.dtype).mul_(2**16 / (2**16 - dropped))


LONG = 1024
"""Tokens from which attention is left to torch: its parts hold a number for every pair of tokens."""


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention in its parts, as transformers calls it.

    Args:
        module: The layer that asks.
        query: (n, n_heads, n_tokens, width); key and value may have fewer heads.
        key: (n, n_key_heads, n_tokens, width).
        value: (n, n_key_heads, n_tokens, width).
        attention_mask: (n, 1, n_tokens, n_tokens), added: 0 where one may look, a large negative number elsewhere.
        dropout: Share of the attention that is dropped.
        scaling: Of the products; None: 1 / sqrt(width).
        more: What else transformers passes on.

    Returns:
        (n, n_tokens, n_heads, width), and no weights.
    """
    # In float32 without dropout torch's own is as fast; what it alone knows about is left to it.
    special = any(more.get(name) is not None for name in ("softcap", "s_aux"))
    if attention_mask is None or special or key.shape[2] > LONG or (not dropout and query.dtype == torch.float32):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **more
        )
    key, value = (repeat_kv(x, query.shape[1] // x.shape[1]) for x in (key, value))
    scores = (query * (scaling or query.shape[-1] ** -0.5)) @ key.transpose(2, 3)
    weights = torch.softmax(scores.float() + attention_mask, dim=-1).to(query.dtype)
    if dropout:
        weights = weights * kept(weights, dropout)
    return (weights @ value).transpose(1, 2).contiguous(), None


transformers.AttentionInterface.register("in_parts", attention)

AttentionMaskInterface.register("in_parts", eager_mask)


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


class _Spread(torch.autograd.Function):
    """Rows to their places among more, with something else in between; backwards they are taken out again."""

    @staticmethod
    def forward(ctx, x, places, n, between):
        """(n_rows, width), (n_rows) places, how many there are, what stands elsewhere -> (n, width)."""
        ctx.save_for_backward(places)
        return x.new_full((n, x.shape[1]), between).index_copy_(0, places, x)

    @staticmethod
    def backward(ctx, grad):
        """Towards the rows."""
        (places,) = ctx.saved_tensors
        return grad.index_select(0, places), None, None, None


class _Taken(torch.autograd.Function):
    """Some rows, none of them twice: torch's own adds up what comes back, which takes longer than to copy it."""

    @staticmethod
    def forward(ctx, x, places):
        """(n, width), (n_rows) -> (n_rows, width)."""
        ctx.save_for_backward(places)
        ctx.n = len(x)
        return x.index_select(0, places)

    @staticmethod
    def backward(ctx, grad):
        """Towards all of them."""
        (places,) = ctx.saved_tensors
        return grad.new_zeros(ctx.n, grad.shape[1]).index_copy_(0, places, grad), None


class _Parts(NamedTuple):
    """An encoder's layer: the attention's dropout and three inputs, and what follows: (looked at, read) -> said."""

    dropout: torch.nn.Dropout
    query: Callable[[torch.Tensor], torch.Tensor]
    key: Callable[[torch.Tensor], torch.Tensor]
    value: Callable[[torch.Tensor], torch.Tensor]
    after: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _of_bert(layer: Any) -> _Parts:
    look = layer.attention.self

    def after(seen: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        between = layer.attention.output(seen, x)
        return layer.output(layer.intermediate(between), between)

    return _Parts(look.dropout, look.query, look.key, look.value, after)


def _of_distilbert(layer: Any) -> _Parts:
    look = layer.attention

    def after(seen: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        between = layer.sa_layer_norm(look.out_lin(seen) + x)
        return layer.output_layer_norm(layer.ffn(between) + between)

    return _Parts(look.dropout, look.q_lin, look.k_lin, look.v_lin, after)


_MAKES = {
    "encoder": (("attention.self.query", "attention.output.dense", "intermediate.dense", "output.dense"), _of_bert),
    "transformer": (("attention.q_lin", "attention.out_lin", "sa_layer_norm", "ffn.lin2"), _of_distilbert),
}
"""Where the layers are -> what each is made of, and the function that finds its parts."""


def _made(reader: torch.nn.Module) -> tuple[torch.nn.Module, list[_Parts]] | None:
    """What holds an encoder's layers, and the parts of each; None where it is made another way."""
    for name, (names, parts) in _MAKES.items():
        holder = getattr(reader, name, None)
        layers = getattr(holder, "layer", None)
        if isinstance(layers, torch.nn.ModuleList) and all(
            dict.fromkeys(names).keys() <= {place for place, _ in layer.named_modules()} for layer in layers
        ):
            return holder, [parts(layer) for layer in layers]
    return None


class Unpadded:
    """What is computed in place of an encoder's stack of layers: every word once, padding never.

    Between attentions a word is computed by itself, so that the words of a batch stand in one row, and are put apart
    into texts for attention alone. The last layer computes first tokens only, each from all words of its text.

    Args:
        reader: The encoder.
        layers: The parts of its layers.
    """

    def __init__(self, reader: torch.nn.Module, layers: list[_Parts]) -> None:
        self.reader, self.layers = reader, layers
        self.elsewhere = 0.0
        """What is said of all tokens but the first."""
        self._mask = torch.ones(0)

    def see(self, module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        """Before the encoder reads a batch: where its words are."""
        self._mask = kwargs["attention_mask"]

    def __call__(
        self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """(n, n_tokens, width) what the first layer reads -> what the last one says of first tokens, as many places."""
        mask, (n, n_tokens, width) = self._mask, hidden_states.shape
        words, lengths = mask.view(-1).nonzero().squeeze(1), mask.sum(dim=1)
        padded, n_heads = len(words) < n * n_tokens, self.reader.config.num_attention_heads
        added = (1.0 - mask[:, None, None].float()) * torch.finfo(torch.float32).min

        def apart(x: torch.Tensor) -> torch.Tensor:
            """(n_words, width) -> (n, n_heads, n_tokens, width of a head)."""
            x = _Spread.apply(x, words, n * n_tokens, 0.0) if padded else x
            return x.view(n, n_tokens, n_heads, -1).transpose(1, 2)

        x = hidden_states.reshape(n * n_tokens, width)
        x = _Taken.apply(x, words) if padded else x
        for layer in self.layers:
            last = layer is self.layers[-1]
            key, value = apart(layer.key(x)), apart(layer.value(x))
            if last:
                x = _Taken.apply(x, lengths.cumsum(0) - lengths)
                query = layer.query(x).view(n, 1, n_heads, -1).transpose(1, 2)
            else:
                query = apart(layer.query(x))
            dropout = layer.dropout.p if layer.dropout.training else 0.0
            seen, _ = attention(self.reader, query, key, value, added.expand(-1, -1, query.shape[2], -1), dropout)
            seen = seen.reshape(-1, width)
            x = layer.after(_Taken.apply(seen, words) if padded and not last else seen, x)
        firsts = torch.arange(n, device=x.device) * n_tokens
        said = _Spread.apply(x, firsts, n * n_tokens, self.elsewhere)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=said.view(n, n_tokens, width))


@contextmanager
def unpadded(module: torch.nn.Module, inputs: dict[str, Any]) -> Iterator[bool]:
    """Within it, a classifier's encoder computes no padding, and nothing that its head does not read.

    The gradient is the same, up to rounding.

    Args:
        module: What is trained, on texts padded on the right; changed back, whatever happens.
        inputs: A batch of it, on which the loss is compared with and without.

    Yields:
        Whether it is so: the encoder is made as BERT or DistilBERT are, its head reads first tokens alone, and the loss
        is the same. Otherwise the module is as it was.
    """
    models = _models(module)
    reader = models[0].base_model if models else None
    # What some adapters put before a text has places of its own.
    prompted = any(
        getattr(one, "is_prompt_learning", False)
        for part in module.modules()
        for one in (getattr(part, "peft_config", None) or {}).values()
    )
    made = None if reader is None or prompted or torch.distributed.is_initialized() else _made(reader)
    if made is None:
        yield False
        return
    holder, layers = made
    instead = Unpadded(reader, layers)
    wanted = _loss(module, inputs)
    hook = reader.register_forward_pre_hook(instead.see, with_kwargs=True)
    holder.forward = instead
    try:
        # A head that reads more than first tokens shows itself.
        instead.elsewhere = math.nan
        same = torch.allclose(_loss(module, inputs), wanted, rtol=1e-4, atol=1e-5)
        instead.elsewhere = 0.0
        if not same:
            hook.remove()
            del holder.forward
        yield same
    finally:
        if "forward" in vars(holder):
            hook.remove()
            del holder.forward


@torch.no_grad()
def _loss(module: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
    """Without dropout."""
    training = module.training
    module.eval()
    found = module(**inputs)["loss"].float()
    module.train(training)
    return found


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
