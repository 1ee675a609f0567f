"""Zero-shot: what the untouched model says. Nothing is trained."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ftlib.data import Task
from ftlib.families import ENCODER
from ftlib.methods import LANGUAGE_MODELING, METHODS, Predictor
from ftlib.models import Model, count, features
from ftlib.predict import untouched_likelihood, untouched_probabilities
from ftlib.prompts import label_descriptions, prompt_of
from ftlib.spec import Experiment

if TYPE_CHECKING:
    import pandas as pd


def prepare(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame | None" = None) -> Predictor:
    """Measure the model as it is: the similarity of texts to each label's description for a model that reads both ways,
    the likelihood of each label's words after the text for one that writes, the likelihood of the texts for a task
    without labels.

    Raises:
        FtlibError: The labels are numbers and nobody said what they mean; or the model gives no likelihood and the
            task asks for it.
    """
    defaults = {name: default for name, (default, _) in METHODS["zero_shot"].arguments.items()}
    chosen = defaults | (spec.method_args if spec.method == "zero_shot" else {})
    if model.family == ENCODER and task.kind != LANGUAGE_MODELING:
        return _by_similarity(model, spec, task, chosen)
    module = model.speaker()
    likelihood = untouched_likelihood(module, model, spec)
    if task.kind == LANGUAGE_MODELING:
        return Predictor(0, count(model), 0, likelihood=likelihood)
    prompt = prompt_of(task, chosen["template"])
    options = {name: chosen[name] for name in ("calibration", "normalisation")}
    answers = untouched_probabilities(module, model, spec, prompt, **options)
    return Predictor(0, count(model), 0, answers, likelihood, prompt=prompt.template)


def _by_similarity(model: Model, spec: Experiment, task: Task, chosen: Mapping[str, object]) -> Predictor:
    """Describe every label and compare texts with the descriptions.

    The probabilities are a softmax over cosine similarities times `scale`; 20 is the scale with which sentence encoders
    of this kind are trained (Reimers & Gurevych 2019 and the multiple-negatives loss of sentence-transformers).
    """
    described = features(model, label_descriptions(task, chosen["template"]), spec.max_length)

    def probabilities(texts: Sequence[str]) -> np.ndarray:
        similarity = features(model, texts, spec.max_length) @ described.T
        weights = np.exp(chosen["scale"] * (similarity - similarity.max(axis=1, keepdims=True)).astype(np.float64))
        return weights / weights.sum(axis=1, keepdims=True)

    return Predictor(0, count(model), 0, probabilities)
