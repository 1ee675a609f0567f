"""Part of the model itself trained, the rest frozen: its biases, or its last layers."""

from typing import TYPE_CHECKING

import torch

from ftlib.data import Task
from ftlib.errors import FtlibError
from ftlib.methods import Predictor
from ftlib.methods.adapters import new_parameters
from ftlib.methods.trained import base, predictor
from ftlib.models import Model
from ftlib.spec import Experiment

if TYPE_CHECKING:
    import pandas as pd


def prepare(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    """The model to train: all frozen but the chosen part and the head, which is new where it reads both ways.

    Raises:
        FtlibError: The model has no biases, or not so many layers.
    """
    module = base(model, spec, task)
    try:
        moving = biases(module) if spec.method == "bitfit" else last_layers(module, spec.resolved()["method_args"]["k"])
    except ValueError as error:
        raise FtlibError(f"method: {spec.method} does not fit {model.name}: {error}") from None
    moving = {*moving, *head(module)}
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in moving)
    return predictor(module, model, spec, task)


def head(module: torch.nn.Module) -> list[str]:
    """Parameters that only the task gives a meaning: a classifier's last layer, and all that no file held."""
    named = (name for name, _ in module.named_parameters() if name.startswith(("classifier.", "score.")))
    return [*named, *new_parameters(module)]


def biases(module: torch.nn.Module) -> list[str]:
    """Parameters that are added: of linear layers and of norms (Ben Zaken et al. 2022, section 3.1).

    >>> biases(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2), torch.nn.Linear(2, 1, bias=False)))
    ['0.bias', '1.bias']

    Raises:
        ValueError: There are none.
    """
    found = [name for name, _ in module.named_parameters() if name.endswith("bias")]
    if not found:
        raise ValueError(f"a {type(module).__name__} has no biases; lora or ia3 train as few parameters")
    return found


def last_layers(module: torch.nn.Module, k: int) -> list[str]:
    """Parameters of the last k layers and of what reads them: the norm after them, the pooler.

    The layer that predicts tokens stays: it is the embedding's twin in most models.

    Args:
        module: A model of transformers. Of an encoder-decoder, the decoder's layers are meant, which come last.
        k: Layers.

    Raises:
        ValueError: There are fewer layers.
    """
    names = [name for name, found in module.named_modules() if isinstance(found, torch.nn.ModuleList)]
    outer = [name for name in names if not any(name.startswith(other + ".") for other in names)]
    sizes = {name: len(module.get_submodule(name)) for name in outer}
    most = max(sizes.values(), default=0)
    if most < k:
        raise ValueError(f"found k = {k}; it has {most} layers")
    layers = [name for name in outer if sizes[name] == most][-1]
    everything = [name for name, _ in module.named_parameters()]
    kept = tuple(f"{layers}.{place}." for place in range(most - k, most))
    after = max(place for place, name in enumerate(everything) if name.startswith(layers + ".")) + 1
    # Some models name the norm that comes after the layers before them.
    around, _, _ = layers.rpartition(".")
    kept += tuple(
        f"{around}.{name}.".lstrip(".")
        for name, child in module.get_submodule(around).named_children()
        if "norm" in type(child).__name__.lower() and "emb" not in name
    )
    ends = (module.get_input_embeddings(), module.get_output_embeddings())
    words = {id(p) for layer in ends if layer is not None for p in layer.parameters()}
    return [
        name
        for place, (name, p) in enumerate(module.named_parameters())
        if name.startswith(kept) or (place >= after and id(p) not in words)
    ]
