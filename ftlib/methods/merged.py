"""One LoRA for each of several tasks, each trained by itself, merged into one without any training (through peft)."""

from typing import TYPE_CHECKING

import peft
import torch

from ftlib.data import Task
from ftlib.families import ENCODER
from ftlib.methods import Predictor
from ftlib.methods.adapters import config_of, new_parameters
from ftlib.methods.trained import base, predictor
from ftlib.models import Model
from ftlib.spec import Experiment

if TYPE_CHECKING:
    import pandas as pd

MERGED = "merged"
"""The adapter that the others are merged into."""


def prepare(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame | None") -> Predictor:
    """The model with a first adapter, of the run's own task, and a head beside it that all tasks have their rows in."""
    untouched = base(model, spec, task)
    fresh = set(new_parameters(untouched))
    torch.manual_seed(spec.seed)
    config = config_of(spec, model.family, untouched)
    # The head is nobody's adapter: no two tasks share a row of it, so there is nothing in it to be merged. peft would
    # make it one of any classifier that it is told is one.
    config.modules_to_save = None
    if model.family == ENCODER:
        config.task_type = None
        config.exclude_modules = sorted({name.rpartition(".")[0] for name in fresh})
    module = peft.get_peft_model(untouched, config, adapter_name="0")
    for name, parameter in module.named_parameters():
        if name.removeprefix("base_model.model.") in fresh:
            parameter.requires_grad_(True)
    return predictor(module, model, spec, task)


def another(module: peft.PeftModel, spec: Experiment, number: int) -> None:
    """Train a new adapter from here on, begun from a seed of its own; those before it rest, and have no effect."""
    heads = [p for name, p in module.named_parameters() if p.requires_grad and ".lora_" not in name]
    if number:
        torch.manual_seed(spec.seed + number)
        module.add_adapter(str(number), module.peft_config["0"])
    module.set_adapter(str(number))
    for parameter in heads:
        parameter.requires_grad_(True)


def merge(module: peft.PeftModel, spec: Experiment) -> None:
    """Merge all adapters into one, which is the one in effect afterwards."""
    chosen, adapters = spec.resolved()["method_args"], list(module.peft_config)
    weight = chosen["weight"] / (len(adapters) if chosen["combination"] == "linear" else 1)
    # DARE drops at random (Yu et al. 2024, section 3).
    torch.manual_seed(spec.seed)
    density = {} if chosen["combination"] in ("linear", "cat") else {"density": chosen["density"]}
    module.add_weighted_adapter(
        adapters, [weight] * len(adapters), MERGED, combination_type=chosen["combination"], **density
    )
    module.set_adapter(MERGED)


def stack(module: torch.nn.Module, seed: int) -> None:
    """Add what a LoRA has learned to the weights beneath it, and begin it anew: it changes nothing, then."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, peft.tuners.lora.LoraLayer):
                for name in layer.active_adapters:
                    weight = layer.get_base_layer().weight
                    weight += layer.get_delta_weight(name).to(weight.dtype)
                    layer.reset_lora_parameters(name, True)
