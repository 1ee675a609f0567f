"""Adapters through peft: few new parameters, the base model frozen; of several tasks, merged into one.

Which class of peft configures an adapter, and with what, is in its row of METHODS.
"""

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import peft
import torch
import transformers
from transformers.pytorch_utils import Conv1D

from ftlib.config.experiment import Experiment
from ftlib.config.methods import DECODER, ENCODER, ENCODER_DECODER, METHODS
from ftlib.core.errors import FtlibError
from ftlib.data.task import Task
from ftlib.methods.finetune import base, build_predictor, new_parameters
from ftlib.models.loading import Model
from ftlib.training.contract import Predictor

if TYPE_CHECKING:
    import pandas as pd

_TASK_TYPES = {ENCODER: "SEQ_CLS", DECODER: "CAUSAL_LM", ENCODER_DECODER: "SEQ_2_SEQ_LM"}


def prepare(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    """The model to train: the frozen base model with the adapter, initialised from the seed.

    Raises:
        FtlibError: The machine lacks what the method needs; peft cannot adapt this model so; the learned tokens and
            the text together are more than the model sees.
    """
    if problem := METHODS[spec.method].lacks(spec.device):
        raise FtlibError(problem)
    settings = spec.resolved()["method_args"]
    virtual = settings.get("num_virtual_tokens", 0)
    sees = _beside(model, spec, virtual)
    untouched = _in_four_bits(model) if METHODS[spec.method].quantised else base(model, spec, task)
    numbers = untouched.num_parameters()
    torch.manual_seed(spec.seed)
    with warnings.catch_warnings():
        # peft 0.21 reads an attribute that transformers 5.23 has renamed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        # Asked whether documents can share a row: they cannot, since their positions are not heard.
        warnings.filterwarnings("ignore", "Position ids are not supported", UserWarning)
        try:
            module = peft.get_peft_model(untouched, config_of(spec, model.family, untouched))
            if virtual and model.family == ENCODER:
                _read_two_tokens(module)
        except (RuntimeError, TypeError, ValueError) as error:
            kind = untouched.config.model_type
            raise FtlibError(f"method: {spec.method} does not fit {model.name} ({kind}): {error}; try lora") from None
        made = build_predictor(module, sees, spec, task)
    stored = peft.get_peft_model_state_dict(module, save_embedding_layers=False).values()
    replaced = sum(p.numel() for name, p in module.named_parameters() if ".original_module." in name)
    made.total_parameters = numbers - replaced + sum(tensor.numel() for tensor in stored)
    made.checkpoint_bytes = sum(tensor.numel() * tensor.element_size() for tensor in stored)
    if virtual:
        # Nothing shares a row with another text, so that positions say nothing, and peft warns where they are given.
        collate = made.trainable.collate
        made.trainable = made.trainable._replace(collate=lambda examples: _without_positions(collate(examples)))
        # They stand before the text; the model that reads it is as it was.
        made.features = None
    return made


def config_of(spec: Experiment, family: str, untouched: torch.nn.Module) -> peft.PeftConfig:
    """The configuration that peft makes the adapter from.

    Args:
        spec: method, method_args (by peft's names) and seed are read, resolved.
        family: Of the model.
        untouched: The model, its head already on it.
    """
    method = METHODS[spec.method]
    kind = getattr(peft, method.peft)
    # What the checkpoint did not hold is in no file but the adapter's.
    fresh = sorted({name.rpartition(".")[0] for name in new_parameters(untouched)})
    chosen = {**method.peft_arguments, "task_type": _TASK_TYPES[family], "modules_to_save": fresh or None}
    # The others say what is done with adapters once they are trained.
    known = kind.__dataclass_fields__
    chosen |= {name: value for name, value in spec.resolved()["method_args"].items() if name in known}
    if issubclass(kind, peft.PromptLearningConfig):
        if kind is not peft.PrefixTuningConfig:
            # By names that every model has, where peft knows some models' own.
            shape = untouched.config.get_text_config()
            chosen |= {"num_layers": shape.num_hidden_layers, "num_attention_heads": shape.num_attention_heads}
            chosen["token_dim"] = untouched.get_input_embeddings().embedding_dim
        return kind(**chosen)
    if "fan_in_fan_out" in known:
        # GPT-2 stores its linear layers' weights the other way round, and peft wants to be told.
        chosen["fan_in_fan_out"] = any(isinstance(layer, Conv1D) for layer in untouched.modules())
    if "projection_prng_key" in known:
        # VeRA's and RandLora's random matrices, which peft would draw alike for every seed. They are stored with what
        # is trained: that the same numbers come out of another version of torch is not promised.
        chosen["projection_prng_key"] = spec.seed
    return kind(**chosen)


def _in_four_bits(model: Model) -> torch.nn.Module:
    """The base model with its linear layers in NF4, the scales quantised as well (Dettmers et al. 2023, section 3)."""
    loader = (
        transformers.AutoModelForSeq2SeqLM if model.family == ENCODER_DECODER else transformers.AutoModelForCausalLM
    )
    how = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if model.bf16 else torch.float32,
    )
    return loader.from_pretrained(
        model.folder,
        quantization_config=how,
        dtype=torch.float32,
        device_map={"": model.device},
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
    ).eval()


def _beside(model: Model, spec: Experiment, virtual: int) -> Model:
    """The model as it sees a text beside so many learned tokens, each of which takes a position."""
    if not virtual or not model.context:
        return model
    left = model.context - virtual
    if left < 1 or (model.family == ENCODER and spec.max_length > left):
        raise FtlibError(
            f"max_length: found {spec.max_length}; {model.name} sees {model.context} tokens, of which "
            f"{spec.method} takes {virtual}; at most {max(left, 0)} are left"
        )
    return replace(model, context=left)


@torch.inference_mode()
def _read_two_tokens(module: torch.nn.Module) -> None:
    """Some encoders do not take what peft puts before a text, which shows only when they read one."""
    ids = torch.tensor([[0, 0]], device=next(module.parameters()).device)
    module(input_ids=ids, attention_mask=torch.ones_like(ids))


def _without_positions(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in batch.items() if name != "position_ids"}


MERGED = "merged"
"""The adapter that the others are merged into."""


def prepare_merged(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame | None") -> Predictor:
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
    return build_predictor(module, model, spec, task)


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
