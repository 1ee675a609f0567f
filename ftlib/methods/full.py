"""Full fine-tuning: the model with a new head, every parameter free."""

from typing import TYPE_CHECKING

from ftlib.data import Task
from ftlib.methods import Classifier
from ftlib.models import Model, parameters
from ftlib.predict import module_probabilities
from ftlib.spec import Experiment

if TYPE_CHECKING:
    import pandas as pd


def prepare(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame") -> Classifier:
    """The classifier to train: the base model and a head initialised from the seed."""
    module = model.classifier(len(task.labels), spec.seed)
    return Classifier(module_probabilities(module, model, spec.max_length), *parameters(module), module)
