"""Adapters through peft: few new parameters, the base model frozen."""

import warnings
from typing import TYPE_CHECKING

import peft
import torch
from transformers.pytorch_utils import Conv1D

from ftlib.data import Task
from ftlib.families import DECODER, ENCODER, ENCODER_DECODER
from ftlib.methods import Predictor
from ftlib.methods.trained import base, predictor
from ftlib.models import Model
from ftlib.spec import Experiment

if TYPE_CHECKING:
    import pandas as pd

_TASK_TYPES = {ENCODER: "SEQ_CLS", DECODER: "CAUSAL_LM", ENCODER_DECODER: "SEQ_2_SEQ_LM"}


def prepare(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    """The model to train: the frozen base model with the adapter, initialised from the seed."""
    settings = spec.resolved()["method_args"]
    # Hu et al. 2021 adapt the attention alone; adapting every linear layer is the better default since (QLoRA,
    # Dettmers et al. 2023, section 4; "LoRA without regret" 2025).
    untouched = base(model, spec, task)
    # GPT-2 stores its linear layers' weights the other way round, and peft wants to be told.
    turned = any(isinstance(layer, Conv1D) for layer in untouched.modules())
    config = peft.LoraConfig(
        task_type=_TASK_TYPES[model.family], target_modules="all-linear", fan_in_fan_out=turned, **settings
    )
    torch.manual_seed(spec.seed)
    with warnings.catch_warnings():
        # peft 0.21 reads an attribute that transformers 5.23 has renamed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        module = peft.get_peft_model(untouched, config)
    return predictor(module, model, spec, task)
