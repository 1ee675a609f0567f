"""Zero-shot: what the untouched model says. Nothing is trained."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ftlib.config.experiment import Experiment
from ftlib.config.methods import DECODER, ENCODER, METHODS
from ftlib.core.format import short_name
from ftlib.data.kinds import KINDS
from ftlib.data.task import Task
from ftlib.models.export import Question, Saveable, in_words
from ftlib.models.heads import Head
from ftlib.models.inference import untouched_likelihood, untouched_probabilities
from ftlib.models.loading import Model, count, features
from ftlib.models.prompts import label_descriptions, prompt_of
from ftlib.training.contract import Predictor

if TYPE_CHECKING:
    import pandas as pd

SCALE = 20.0
"""Inverse temperature with which sentence encoders of this kind are trained (Reimers & Gurevych 2019 and the
multiple-negatives loss of sentence-transformers)."""


def prepare(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame | None" = None) -> Predictor:
    """Measure the model as it is: the similarity of texts to each label's description for a model that reads both ways,
    the likelihood of each label's words after the text for one that writes, the likelihood of the texts for a task
    without labels; what it writes for a task of texts.

    Raises:
        FtlibError: The labels are not all words and nobody said what they mean; or the model gives no likelihood and
            the task asks for it.
    """
    return KINDS[task.kind].function("untouched")(model, spec, task)


def of_text(model: Model, spec: Experiment, task: Task) -> Predictor:
    """How likely the model as it is finds texts."""
    module = model.untouched_speaker()
    # A masked model's pseudo-likelihood is no answer that anybody would ask for.
    saved = Saveable(model, module, questions={short_name(spec.task): Question()}) if model.family == DECODER else None
    return Predictor(0, count(model), 0, likelihood=untouched_likelihood(module, model, spec), saved=saved)


def of_labels(model: Model, spec: Experiment, task: Task) -> Predictor:
    """The labels that the model as it is gives: by the similarity of descriptions, or by the likelihood of words."""
    defaults = {name: default for name, (default, _) in METHODS["zero_shot"].arguments.items()}
    chosen = defaults | (spec.method_args if METHODS[spec.method].untouched else {})
    if model.family == ENCODER:
        encode = partial(features, model, max_length=spec.max_length)
        answers = by_similarity(encode, task, chosen["template"], chosen["scale"])

        def head() -> Head:
            described = encode(label_descriptions(task, chosen["template"])).astype(np.float64)
            return Head("linear", {"weight": chosen["scale"] * described, "bias": np.zeros(len(described))})

        saved = Saveable(model, model.encoder, head, {short_name(spec.task): Question(task.labels)})
        return Predictor(0, count(model), 0, answers, saved=saved)
    module = model.untouched_speaker()
    likelihood = untouched_likelihood(module, model, spec)
    prompt = prompt_of(task, chosen["template"])
    options = {name: chosen[name] for name in ("calibration", "normalisation")}
    answers = untouched_probabilities(module, model, spec, prompt, **options)
    saved = Saveable(model, module, questions={short_name(spec.task): in_words(task, prompt, **options)})
    return Predictor(0, count(model), 0, answers, likelihood, prompt=prompt.template, saved=saved)


def by_similarity(
    encode: Callable[[Sequence[str]], np.ndarray], task: Task, template: str = "", scale: float = SCALE
) -> Callable[[Sequence[str]], np.ndarray]:
    """Describe every label and compare texts with the descriptions.

    The probabilities are a softmax over cosine similarities times `scale`.

    Args:
        encode: (n_texts,) -> (n_texts, width) features of length 1.
        task: Its labels have words.
        template: Sentence with {label} in it; empty: the task's own.
        scale: Inverse temperature.
    """
    described = label_descriptions(task, template)

    def probabilities(texts: Sequence[str]) -> np.ndarray:
        similarity = encode(texts) @ encode(described).T
        weights = np.exp(scale * (similarity - similarity.max(axis=1, keepdims=True)).astype(np.float64))
        return weights / weights.sum(axis=1, keepdims=True)

    return probabilities
