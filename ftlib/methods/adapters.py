"""Adapters through peft: few new parameters, the base model frozen."""

import warnings
from typing import TYPE_CHECKING

import peft
import torch

from ftlib.data import Task
from ftlib.methods import Classifier
from ftlib.models import Model, parameters
from ftlib.predict import module_probabilities
from ftlib.spec import Experiment

if TYPE_CHECKING:
    import pandas as pd


def prepare(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame") -> Classifier:
    """The classifier to train: the frozen base model with the adapter and a head initialised from the seed."""
    base = model.classifier(len(task.labels), spec.seed)
    settings = spec.resolved()["method_args"]
    # Hu et al. 2021 adapt the attention alone; adapting every linear layer is the better default since (QLoRA,
    # Dettmers et al. 2023, section 4; "LoRA without regret" 2025).
    config = peft.LoraConfig(task_type="SEQ_CLS", target_modules="all-linear", **settings)
    torch.manual_seed(spec.seed)
    with warnings.catch_warnings():
        # peft 0.21 reads an attribute that transformers 5.23 has renamed.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        module = peft.get_peft_model(base, config)
    return Classifier(module_probabilities(module, model, spec.max_length), *parameters(module), module)
