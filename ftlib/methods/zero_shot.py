"""Zero-shot: the label whose description is most similar to the text; nothing is trained."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ftlib.data import Task
from ftlib.errors import FtlibError
from ftlib.methods import METHODS, Classifier
from ftlib.models import Model, count, features
from ftlib.prompts import label_descriptions
from ftlib.spec import Experiment

if TYPE_CHECKING:
    import pandas as pd


def prepare(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame | None" = None) -> Classifier:
    """Describe every label and compare texts with the descriptions.

    The probabilities are a softmax over cosine similarities times `scale`; 20 is the scale with which sentence encoders
    of this kind are trained (Reimers & Gurevych 2019 and the multiple-negatives loss of sentence-transformers).

    Raises:
        FtlibError: The labels are numbers and nobody said what they mean.
    """
    if not task.label_words:
        raise FtlibError(no_words(task))
    defaults = {name: default for name, (default, _) in METHODS["zero_shot"].arguments.items()}
    chosen = defaults | (spec.method_args if spec.method == "zero_shot" else {})
    described = features(model, label_descriptions(task, chosen["template"]), spec.max_length)

    def probabilities(texts: Sequence[str]) -> np.ndarray:
        similarity = features(model, texts, spec.max_length) @ described.T
        weights = np.exp(chosen["scale"] * (similarity - similarity.max(axis=1, keepdims=True)).astype(np.float64))
        return weights / weights.sum(axis=1, keepdims=True)

    return Classifier(probabilities, 0, count(model), 0)


def no_words(task: Task) -> str:
    """Why zero-shot cannot be measured on a task whose labels are numbers."""
    example = ", ".join(f'"{label}" = "..."' for label in task.labels[:3])
    return (
        f"{task.name}: the labels are numbers ({', '.join(task.labels[:5])}), so their meaning is unknown; "
        f"say it with label_words = {{{example}}}"
    )
