"""Attention in its parts, and encoders that compute no padding and nothing that is not read.

For processors: forwards and backwards, torch's fused attention took 1.9 to 10 times as long in bfloat16 as its parts,
by the shape, on one with AVX512-BF16.
"""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import transformers
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, eager_mask
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions


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


MANY = 16
"""Texts from which padding is left out, where that can be done; with fewer, answers come as the model gives them."""

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


class _Scatter(torch.autograd.Function):
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


class _Gather(torch.autograd.Function):
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


_BESIDE = {"dense", "LayerNorm", "dropout"}

_MAKES = {
    "encoder": (
        {
            "": {"attention", "intermediate", "output"},
            "attention": {"self", "output"},
            "attention.self": {"query", "key", "value", "dropout"},
            "attention.output": _BESIDE,
            "output": _BESIDE,
        },
        _of_bert,
    ),
    "transformer": (
        {
            "": {"attention", "sa_layer_norm", "ffn", "output_layer_norm"},
            "attention": {"q_lin", "k_lin", "v_lin", "out_lin", "dropout"},
        },
        _of_distilbert,
    ),
}
"""Where the layers are -> all that each part of a layer is made of, and the function that finds what is needed."""


def _made(encoder: torch.nn.Module) -> tuple[torch.nn.Module, list[torch.nn.Module], list[_Parts]] | None:
    """What holds an encoder's layers; the first ones, made otherwise, such as what remembers; the parts of all others.

    None where the last one is made otherwise too.
    """
    for name, (made_of, parts) in _MAKES.items():
        holder = getattr(encoder, name, None)
        layers = getattr(holder, "layer", None)
        if isinstance(layers, torch.nn.ModuleList):
            known = [
                all({child for child, _ in layer.get_submodule(place).named_children()} == names
                    for place, names in made_of.items())
                for layer in layers
            ]  # fmt: skip
            first = known.index(True) if True in known else len(known)
            if first < len(known) and all(known[first:]):
                return holder, list(layers[:first]), [parts(layer) for layer in layers[first:]]
    return None


class Unpadded:
    """What is computed in place of an encoder's stack of layers: every token once, padding never.

    Between attentions a token is computed by itself, so that the tokens of a batch stand in one row, and are put apart
    into texts for attention alone. Where heads read first tokens alone, the last layer computes only these, each from
    all tokens of its text.

    Args:
        encoder: Embeddings, layers and what follows them.
        before: Its first layers, if they are to be computed as they are.
        layers: The parts of the others.
        every: Whether every token is read, and not the first of each text alone.
    """

    def __init__(
        self, encoder: torch.nn.Module, before: list[torch.nn.Module], layers: list[_Parts], every: bool = False
    ) -> None:
        self.encoder, self.before, self.layers, self.every = encoder, before, layers, every
        self.elsewhere = 0.0
        """What is said of all tokens that are not read."""
        self._mask: torch.Tensor | None = None

    def see(self, module: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        """Before the encoder reads a batch: where its tokens are."""
        self._mask = kwargs.get("attention_mask")

    def __call__(
        self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """(n, n_tokens, width) what the first layer reads -> what the last one says of what is read, as many places."""
        n, n_tokens, width = hidden_states.shape
        mask = hidden_states.new_ones(n, n_tokens) if self._mask is None else self._mask
        tokens, lengths = mask.view(-1).nonzero().squeeze(1), mask.sum(dim=1)
        padded, n_heads = len(tokens) < n * n_tokens, self.encoder.config.num_attention_heads
        added = (1.0 - mask[:, None, None].float()) * torch.finfo(torch.float32).min

        def apart(x: torch.Tensor) -> torch.Tensor:
            """(n_tokens of all texts, width) -> (n, n_heads, n_tokens, width of a head)."""
            x = _Scatter.apply(x, tokens, n * n_tokens, 0.0) if padded else x
            return x.view(n, n_tokens, n_heads, -1).transpose(1, 2)

        for layer in self.before:
            hidden_states = layer(hidden_states, *args, **kwargs)
        x = hidden_states.reshape(n * n_tokens, width)
        x = _Gather.apply(x, tokens) if padded else x
        for layer in self.layers:
            last = layer is self.layers[-1] and not self.every
            key, value = apart(layer.key(x)), apart(layer.value(x))
            if last:
                x = _Gather.apply(x, lengths.cumsum(0) - lengths)
                query = layer.query(x).view(n, 1, n_heads, -1).transpose(1, 2)
            else:
                query = apart(layer.query(x))
            dropout = layer.dropout.p if layer.dropout.training else 0.0
            seen, _ = attention(self.encoder, query, key, value, added.expand(-1, -1, query.shape[2], -1), dropout)
            seen = seen.reshape(-1, width)
            x = layer.after(_Gather.apply(seen, tokens) if padded and not last else seen, x)
        read = tokens if self.every else torch.arange(n, device=x.device) * n_tokens
        said = x if len(read) == n * n_tokens else _Scatter.apply(x, read, n * n_tokens, self.elsewhere)
        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=said.view(n, n_tokens, width))


@contextmanager
def unpadded(
    module: torch.nn.Module, asked: Callable[[], torch.Tensor] | None, *, every: bool = False
) -> Iterator[bool]:
    """Within it, an encoder computes no padding, and nothing that what follows it does not read.

    What it says and the gradient are the same, up to rounding. The module is changed for every thread that calls it.

    Args:
        module: It reads texts padded on the right; changed back, whatever happens.
        asked: What the module says of some texts, or its loss, computed with and without, not training; None: it is
            known to be the same.
        every: Whether what follows reads every token that is no padding; else it reads first tokens alone.

    Yields:
        Whether it is so: the encoder is made as BERT or DistilBERT are, and what was asked is the same. Otherwise the
        module is as it was.
    """
    encoder = next((part for part in module.modules() if isinstance(part, transformers.PreTrainedModel)), None)
    encoder = None if encoder is None else encoder.base_model
    # What some adapters put before a text has places of its own.
    prompted = any(
        getattr(one, "is_prompt_learning", False)
        for part in module.modules()
        for one in (getattr(part, "peft_config", None) or {}).values()
    )
    made = None if encoder is None or prompted or torch.distributed.is_initialized() else _made(encoder)
    if made is None:
        yield False
        return
    holder, before, layers = made
    instead = Unpadded(encoder, before, layers, every)
    wanted = None if asked is None else _unmoved(module, asked)
    hook = encoder.register_forward_pre_hook(instead.see, with_kwargs=True)
    holder.forward = instead
    try:
        same = True
        if asked is not None:
            # A head that reads more than first tokens shows itself.
            instead.elsewhere = 0.0 if every else math.nan
            same = torch.allclose(_unmoved(module, asked), wanted, rtol=1e-4, atol=1e-5)
            instead.elsewhere = 0.0
        if not same:
            hook.remove()
            del holder.forward
        yield same
    finally:
        if "forward" in vars(holder):
            hook.remove()
            del holder.forward


_FOUND: "WeakKeyDictionary[torch.nn.Module, bool]" = WeakKeyDictionary()
"""Of modules, whether they say the same without padding: found out once each."""

_ONE_AT_A_TIME = threading.Lock()
"""A module that answers without padding is changed meanwhile, for all threads that ask it."""


@contextmanager
def answering(
    module: torch.nn.Module, n: int, asked: Callable[[], torch.Tensor] | None = None, *, every: bool = False
) -> Iterator[bool]:
    """Within it, a module that answers n texts computes no padding where they are `MANY`; one thread at a time.

    Args:
        module: See `unpadded`.
        n: Texts; 0 where padding cannot be left out (`ftlib.models.loading.Model.unpads`).
        asked: What the module says of some of them; None: every token of an encoder is read, which is asked about texts
            of its own.
        every: See `unpadded`.

    Yields:
        Whether it is so. Some have a BERT's parts and do something else with them, such as RoFormer.
    """
    with _ONE_AT_A_TIME:
        known = _FOUND.get(module) if n >= MANY else False
        asked = None if known else asked or partial(_said, module)
        with nullcontext(False) if known is False else unpadded(module, asked, every=every) as same:
            if n >= MANY:
                _FOUND[module] = same
            yield same


def _said(encoder: torch.nn.Module) -> torch.Tensor:
    """What it says of the tokens of two made-up texts, one of which is padded."""
    lengths, pad = torch.tensor([7, 4]), encoder.config.pad_token_id or 0
    mask = torch.arange(7)[None] < lengths[:, None]
    # Beyond the first numbers, which stand for padding, beginnings and ends.
    words = 5 + torch.arange(14).view(2, 7) % max(1, encoder.get_input_embeddings().num_embeddings - 5)
    ids = torch.where(mask, words, pad).to(encoder.device)
    with torch.autocast(encoder.device.type, enabled=False):
        found = encoder(input_ids=ids, attention_mask=mask.long().to(encoder.device)).last_hidden_state
    return found[mask.to(encoder.device)]


@torch.no_grad()
def _unmoved(module: torch.nn.Module, asked: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Without dropout."""
    training = module.training
    module.eval()
    try:
        return asked().float()
    finally:
        module.train(training)
