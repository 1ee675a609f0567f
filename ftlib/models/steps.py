"""A decoder of BART's make, a token at a time: what transformers' own forward pass gives, with less around it.

At every step transformers builds masks, output objects and longer caches anew, which for a small model takes as long as
its matrix products. Here the caches have their full length from the start, what the decoder reads of the source is
computed once and shared by all beams of a text, and nothing is made that is not used.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention as attend

FAMILIES = {"bart": False, "marian": False, "mbart": True}
"""Model types whose decoder layers are these, and whether each layer normalises what it reads or what it wrote."""


ROWS = 96
"""For how many rows the output layer is laid out; others are as right."""


class Steps:
    """The decoder's memory of the texts that it writes.

    Args:
        model: Of one of FAMILIES, perhaps with an adapter in its layers.
        states: (n, n_tokens, width) the encoder's.
        mask: (n, n_tokens) what is there of them; None: all.
        most: Tokens that are written at most.
        scores: The model's output layer, as `output` gives it.
    """

    def __init__(
        self, model: Any, states: torch.Tensor, mask: torch.Tensor | None, most: int, scores: Callable
    ) -> None:
        self.model, self.decoder, self.most, self.step, self.beams = model, model.get_decoder(), most, 0, 1
        self.scores = scores
        self.first = FAMILIES[model.config.model_type]
        self.scale = getattr(self.decoder, "embed_scale", 1.0)
        places = self.decoder.embed_positions
        known = torch.arange(min(most, places.num_embeddings - getattr(places, "offset", 0)), device=states.device)
        self.places = places(known[None], 0, position_ids=known).reshape(len(known), -1)
        self.mask = None if mask is None else mask[:, None, None].bool()
        read = [layer.encoder_attn for layer in self.decoder.layers]
        self.read = [[_heads(project(states), one) for project in (one.k_proj, one.v_proj)] for one in read]
        self.own: list[list[torch.Tensor]] = []

    def logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n_rows,) the last token of each text -> (n_rows, vocabulary) float32 scores of the next."""
        hidden = self.decoder.embed_tokens(tokens[:, None]) * self.scale + self.places[self.step]
        if norm := getattr(self.decoder, "layernorm_embedding", None):
            hidden = norm(hidden)
        for number, layer in enumerate(self.decoder.layers):
            hidden = self._part(hidden, layer.self_attn_layer_norm, lambda x, n=number: self._look_back(n, x))
            hidden = self._part(hidden, layer.encoder_attn_layer_norm, lambda x, n=number: self._read(n, x))
            hidden = self._part(hidden, layer.final_layer_norm, lambda x, of=layer: of.fc2(of.activation_fn(of.fc1(x))))
        if norm := getattr(self.decoder, "layer_norm", None):
            hidden = norm(hidden)
        self.step += 1
        return (self.scores(hidden) + self.model.final_logits_bias)[:, 0].float()

    def _part(self, hidden: torch.Tensor, norm: Any, compute: Any) -> torch.Tensor:
        return hidden + compute(norm(hidden)) if self.first else norm(hidden + compute(hidden))

    def _look_back(self, number: int, hidden: torch.Tensor) -> torch.Tensor:
        one = self.decoder.layers[number].self_attn
        query, *fresh = (_heads(project(hidden), one) for project in (one.q_proj, one.k_proj, one.v_proj))
        if number == len(self.own):
            shape = (len(hidden), query.shape[1], self.most, query.shape[3])
            self.own.append([part.new_empty(shape) for part in fresh])
        for kept, part in zip(self.own[number], fresh, strict=True):
            kept[:, :, self.step] = part[:, :, 0]
        key, value = (kept[:, :, : self.step + 1] for kept in self.own[number])
        return one.out_proj(attend(query, key, value, scale=one.scaling).reshape(hidden.shape))

    def _read(self, number: int, hidden: torch.Tensor) -> torch.Tensor:
        one, (key, value) = self.decoder.layers[number].encoder_attn, self.read[number]
        # A text's beams are several questions to the same source.
        query = _heads(one.q_proj(hidden).view(len(key), self.beams, -1), one)
        mask = self.mask if self.mask is None else self.mask.expand(-1, -1, self.beams, -1)
        found = attend(query, key, value, attn_mask=mask, scale=one.scaling)
        return one.out_proj(found.transpose(1, 2).reshape(hidden.shape))

    def spread(self, beams: int) -> None:
        """Go on with each text so many times."""
        self.beams = beams
        self.own = [[kept.repeat_interleave(beams, dim=0) for kept in some] for some in self.own]

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only: all beams of some texts."""
        texts = rows[:: self.beams] // self.beams
        self.own = [[kept[rows] for kept in some] for some in self.own]
        self.read = [[part[texts] for part in some] for some in self.read]
        self.mask = None if self.mask is None else self.mask[texts]

    def reorder(self, rows: torch.Tensor) -> None:
        """Let beams go on from other beams of the same texts."""
        for some in self.own:
            for kept in some:
                kept[:, :, : self.step] = kept[:, :, : self.step].index_select(0, rows)


def output(model: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """The layer that gives each word of the vocabulary a score.

    In float32 on a processor its weights are laid out once as oneDNN reads them, which is what torch's compiler does
    with weights that stay: for a few rows and many words 1.5 to 2 times as fast as torch's own product.
    """
    layer = model.get_output_embeddings()
    able = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    plain = type(layer) is torch.nn.Linear and layer.weight.dtype == torch.float32
    if not able or not plain or layer.weight.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return layer
    laid_out = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)

    def scores(hidden: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(hidden, laid_out, layer.bias, "none", [], "")

    return scores


def _heads(x: torch.Tensor, attention: Any) -> torch.Tensor:
    """(n, n_tokens, width) -> (n, n_heads, n_tokens, width of a head)."""
    return x.view(*x.shape[:2], attention.num_heads, -1).transpose(1, 2)
