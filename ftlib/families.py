"""Families of models: what a model's configuration says it is. Read from JSON, so that planning needs no torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ENCODER, DECODER, ENCODER_DECODER = "encoder", "decoder", "encoder-decoder"
FAMILIES = (ENCODER, DECODER, ENCODER_DECODER)
"""BERT-like: reads both ways; GPT-like: continues text; T5-like: reads a text and writes another."""

_CONTINUES = ("ForCausalLM", "LMHeadModel")


def family_of(config: Mapping[str, Any]) -> str:
    """The family of a model by its config.json.

    A model stored without the layer that predicts tokens (`LlamaModel`) can only give features: an encoder here.

    >>> family_of({"architectures": ["LlamaForCausalLM"]}), family_of({"architectures": ["BertModel"]})
    ('decoder', 'encoder')
    >>> family_of({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True})
    'encoder-decoder'
    """
    if config.get("is_encoder_decoder"):
        return ENCODER_DECODER
    names = config.get("architectures") or []
    return DECODER if any(name.endswith(_CONTINUES) for name in names) else ENCODER


def context_of(config: Mapping[str, Any]) -> int | None:
    """The most tokens a model can see at once; None where its configuration sets no limit.

    >>> context_of({"n_positions": 1024}), context_of({"max_position_embeddings": 512}), context_of({})
    (1024, 512, None)
    """
    found = [config[name] for name in ("max_position_embeddings", "n_positions", "n_ctx") if config.get(name)]
    return min(found) if found else None


def read_config(folder: Path) -> dict[str, Any]:
    """A model folder's config.json."""
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))
