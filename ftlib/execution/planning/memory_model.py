"""What a run must hold in memory, counted from files: a model's configuration, its tensors' shapes, the method's row.

No weight is read and nothing is started, so this can be asked of a model that would not fit. It is a count of what the
mathematics needs; what an allocator makes of it is for a trial (`ftlib.execution.planning.dry_run`) to measure.
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ftlib.config.experiment import Experiment
from ftlib.config.methods import ENCODER, METHODS, family_of, read_config
from ftlib.core.format import size
from ftlib.data.kinds import KINDS
from ftlib.models import weights

if TYPE_CHECKING:
    from ftlib.data.task import Task

VARIANT = ("shots", "short_classes", "train_limit", "epochs", "min_steps", "validations", "patience")
"""Fields in which runs of one trial may differ: how many examples there are, and how many steps are made."""

SAME_COST = ("seed", "learning_rate", "tuning", "notebook")
"""Fields that do not change what a step costs."""

FLOOR = {"none": 230 * 10**6, "model": 420 * 10**6, "trains": 480 * 10**6}
"""Bytes of a run's process before there is a model: Python, pandas and scikit-learn; torch and transformers too; peft
and accelerate too (measured with the pinned stack on Linux, x86)."""

FLOAT = 4
"""Bytes of a weight, of its gradient, and of each of AdamW's two means: ftlib keeps them in float32."""

EVALUATED, WINDOW = 64, 512
"""Texts that are classified at once; tokens that a language model sees at once."""


def distinct_costs(specs: Iterable[Experiment]) -> list[list[Experiment]]:
    """Runs whose steps and texts cost the same, together.

    >>> asked = [Experiment(method=m, seed=s) for m in ("lora", "full") for s in (0, 1, 2)]
    >>> [len(cell) for cell in distinct_costs(asked)]
    [3, 3]
    """
    found: dict[str, list[Experiment]] = {}
    for spec in specs:
        fields = {name: value for name, value in spec.resolved().items() if name not in VARIANT + SAME_COST}
        found.setdefault(json.dumps(fields, sort_keys=True), []).append(spec)
    return list(found.values())


def variant(spec: Experiment) -> str:
    """What runs that cost the same may differ in."""
    return json.dumps([spec.resolved()[name] for name in VARIANT])


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
        texts = EVALUATED if KINDS[kind].writes or (KINDS[kind].has_labels and family == ENCODER) else 1
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


def count(spec: Experiment, task: "Task") -> Footprint:
    """What a run needs at its peak, counted from its model's files and its data."""
    shape, family, longest = _model_of(spec), ENCODER, longest_text(task.splits["train"]["text"])
    if shape is not None:
        family = family_of(read_config(weights.find(spec.model).folder))
    # No text is longer than max_length.
    shorter = {} if KINDS[task.kind].of_text else {"max_length": min(spec.max_length, longest)}
    return footprint(spec.model_copy(update=shorter), shape, task.kind, family)


def _model_of(spec: Experiment) -> Shape | None:
    return shape_of(weights.find(spec.model).folder) if METHODS[spec.method].model else None


def longest_text(texts: Iterable[str]) -> int:
    """Tokens of the longest text, at most: as a rule a token is two bytes at least, so one of a script whose letters
    take three bytes each is not counted as half a letter.

    >>> longest_text(["the longest of two texts", "short"]), longest_text(["日本語の文章です"])
    (14, 14)
    """
    return max(8, max(len(text.encode()) // 2 for text in texts) + 2)


def advice(spec: Experiment, task: "Task", needed: int, available: int) -> str:
    """What to change so that a run fits, in words: the least change that does."""
    shape = _model_of(spec)
    if shape is None:
        return "free memory, or take a machine with more"
    kind = task.kind
    now = count(spec, task)

    def with_(**changed: Any) -> int:
        other = count(spec.model_copy(update=changed), task)
        # What is needed beside the process itself gets smaller as what is counted does.
        return round(other.floor + max(0, needed - now.floor) * (other.total - other.floor) / (now.total - now.floor))

    tries: list[dict[str, Any]] = []
    if METHODS[spec.method].trains:
        batch = int(spec.resolved()["batch_size"])
        parts = [2**power for power in range(1, 12) if 2**power <= batch and 2**power > spec.gradient_accumulation]
        tries += [{"gradient_accumulation": n} for n in parts] + [{"gradient_checkpointing": True}]
        tries += [{"gradient_accumulation": n, "gradient_checkpointing": True} for n in parts]
    field = KINDS[kind].cut_by
    tries += [{field: n} for n in (256, 128, 64, 32) if n < (getattr(spec, field) or 512)]
    for changed in tries:
        if (bytes_ := with_(**changed)) <= available:
            said = ", ".join(f"{name} = {str(value).lower()}" for name, value in changed.items())
            return f"{said} would fit, with about {size(bytes_)}"
    if METHODS[spec.method].moves == "all":
        smallest = {"method": "lora", "gradient_accumulation": int(spec.resolved()["batch_size"])}
        if (bytes_ := with_(**smallest, gradient_checkpointing=True)) <= available:
            return f"no smaller batch would fit; lora would, with about {size(bytes_)}"
    return f"no setting of {spec.method} would; choose a smaller model, or a machine with more memory"
