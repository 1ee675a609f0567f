"""Full fine-tuning: every parameter of the model free."""

from typing import TYPE_CHECKING

from ftlib.data import Task
from ftlib.methods import Predictor
from ftlib.methods.trained import base, predictor
from ftlib.models import Model
from ftlib.spec import Experiment

if TYPE_CHECKING:
    import pandas as pd


def prepare(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    """The model to train: with a new head initialised from the seed where it reads both ways, else as it is."""
    return predictor(base(model, spec, task), model, spec, task)
