"""What a run must hold in memory, counted from files: a model's configuration, its tensors' shapes, the method's row.

No weight is read and nothing is started, so this can be asked of a model that would not fit. It is a count of what the
mathematics needs; what an allocator makes of it is for the probe (`ftlib.execution.planning.dry_run`) to measure.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ftlib.config.experiment import Experiment
from ftlib.config.methods import ENCODER, METHODS, read_config
from ftlib.data.kinds import KINDS
from ftlib.models import weights

FLOOR = {"none": 230 * 10**6, "model": 420 * 10**6, "trains": 480 * 10**6}
"""Bytes of a run's process before there is a model: Python, pandas and scikit-learn; torch and transformers too; peft
and accelerate too (measured with the pinned stack on Linux, x86)."""


FLOAT = 4
"""Bytes of a weight, of its gradient, and of each of AdamW's two means: ftlib keeps them in float32."""


EVALUATED, WINDOW = 64, 512
"""Texts that are classified at once; tokens that a language model sees at once."""


class Shape(NamedTuple):
    """What the memory of a model depends on."""

    parameters: int
    linear: tuple[tuple[int, int], ...]
    """(numbers out, numbers in) of every linear layer inside the model; embeddings and the output layer left out."""
    layers: int
    hidden: int
    """Numbers that stand for a token between layers."""
    inner: int
    """Numbers that stand for it inside the feed-forward part."""


class Footprint(NamedTuple):
    """Bytes, by what they are for."""

    floor: int
    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All together."""
        return sum(self)

    @property
    def fixed(self) -> int:
        """What stays however small the batch is."""
        return self.total - self.activations


def shape_of(folder: Path) -> Shape:
    """Read a model's shape from its folder.

    Raises:
        FtlibError: Its files cannot be read.
    """
    config = read_config(folder)
    # A model that also sees or hears keeps what concerns text apart.
    config = config | (config.get("text_config") or {})
    stored = {name: shape for name, (_, shape) in weights.tensors(folder).items()}
    outside = ("embed", "wte", "wpe", "lm_head", "shared", "pooler", "relative_attention")
    linear = tuple(
        shape for name, shape in stored.items() if len(shape) == 2 and not any(word in name for word in outside)
    )
    hidden = _first(config, "hidden_size", "n_embd", "d_model", default=0)
    layers = _first(config, "num_hidden_layers", "n_layer", "num_layers", default=1)
    if config.get("is_encoder_decoder"):
        layers += _first(config, "num_decoder_layers", "decoder_layers", default=layers)
    inner = _first(config, "intermediate_size", "n_inner", "d_ff", "ffn_dim", "encoder_ffn_dim", default=4 * hidden)
    return Shape(weights.parameters(folder), linear, layers, hidden, inner)


def _first(config: Mapping[str, Any], *names: str, default: int) -> int:
    return next((int(config[name]) for name in names if config.get(name)), default)


def footprint(spec: Experiment, shape: Shape | None, kind: str, family: str) -> Footprint:
    """Count what a run needs at its peak.

    Weights, gradients and AdamW's means: 4 + 4 + 8 bytes for a parameter that moves, 4 for one that does not
    (Rajbhandari et al. 2020, section 3.1, without their half-precision copies). Activations: see `activations`, of a
    batch of texts as long as `max_length` allows.

    Args:
        spec: What is asked.
        shape: Of its base model; None for a method without one.
        kind: Of its task.
        family: Of its model.

    A model of one layer, 1,000 parameters, all of which move: 16,000 bytes beside activations and the process itself.

    >>> spec = Experiment(method="full", batch_size=2, max_length=10, dtype="float32")
    >>> found = footprint(spec, Shape(1000, ((8, 8),), 1, 8, 32), "classification", "encoder")
    >>> found.weights, found.gradients, found.optimizer, found.activations == 2 * activations(2 * 10, 8, 32)
    (4000, 4000, 8000, True)
    """
    method, settings = METHODS[spec.method], spec.resolved()
    if shape is None:
        return Footprint(FLOOR["none"], 0, 0, 0, 0)
    moving = moved(spec, shape) if method.trains else 0
    adapters = moving if method.moves == "added" else 0
    length = getattr(spec, KINDS[kind].cut_by) or WINDOW
    # Arithmetic in float32 keeps numbers of twice the size.
    wide = 2 if spec.dtype == "float32" else 1
    if method.trains:
        texts = math.ceil(settings["batch_size"] / spec.gradient_accumulation)
        each = activations(texts * length, shape.hidden, shape.inner)
        kept = shape.layers * each
        if spec.gradient_checkpointing:
            # Each layer's input stays, and one layer at a time is computed again (Korthikanti et al. 2022, section 5).
            kept = shape.layers * 2 * texts * length * shape.hidden + each
    else:
        texts = EVALUATED if KINDS[kind].has_labels and family == ENCODER else 1
        kept = activations(texts * length, shape.hidden, shape.inner)
    floor = FLOOR["trains" if method.trains else "model"]
    held = FLOAT * (shape.parameters + adapters)
    return Footprint(floor, held, FLOAT * moving, 2 * FLOAT * moving, wide * kept)


def moved(spec: Experiment, shape: Shape) -> int:
    """Parameters that training moves: all, or a rank-r update of every linear layer (Hu et al. 2021, section 4.1).

    Other methods that train few parameters move less than a hundredth; it is counted as that.

    Two layers of 8 x 8 at rank 2: 2 x (8 + 8) each.

    >>> moved(Experiment(method="lora", method_args={"r": 2}), Shape(1000, ((8, 8), (8, 8)), 1, 8, 32))
    64
    """
    if METHODS[spec.method].moves == "all":
        return shape.parameters
    arguments = spec.resolved()["method_args"]
    if "lora_alpha" in arguments:
        return arguments["r"] * sum(map(sum, shape.linear))
    if "k" in arguments:
        return math.ceil(shape.parameters * min(1.0, arguments["k"] / shape.layers))
    return shape.parameters // 100


def activations(tokens: int, hidden: int, inner: int) -> int:
    """Bytes that one layer keeps for the way back, in 16-bit arithmetic, without the attention scores.

    Korthikanti et al. 2022, section 4.1: s b h (34 + 5 a s / h) bytes for s b tokens of width h. The second term is
    the attention scores, which the attention used here does not store; of the 34, 16 are in the feed-forward part,
    whose width is 4 h there: (18 h + 4 f) with a width of f.

    >>> activations(1, hidden=1, inner=4)
    34
    """
    return tokens * (18 * hidden + 4 * inner)
