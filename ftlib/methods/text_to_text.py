"""Text-to-text tasks: a model that learns to write, writes as it is, or is shown pairs (`ftlib.models.generation`)."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ftlib.config.experiment import Experiment
from ftlib.config.methods import ENCODER_DECODER
from ftlib.core.format import short_name
from ftlib.data.task import Task
from ftlib.models.export import Question, Saveable
from ftlib.models.generation import Reading
from ftlib.models.inference import dtype_of, likelihood_of, untouched_likelihood
from ftlib.models.loading import Model, count, kept, parameters
from ftlib.models.prompts import BETWEEN_SHOTS, orders
from ftlib.training.contract import Predictor, Trainable, Writer, Written
from ftlib.training.lm import IGNORED

if TYPE_CHECKING:
    import pandas as pd

OF_DECODERS = "{text} =>"
"""What a decoder is given where nothing else is said."""


def predictor(module: torch.nn.Module, model: Model, spec: Experiment, task: Task) -> Predictor:
    """The module as a predictor of what is to be written, which can be trained."""
    question = _question(model, spec)
    reading = Reading(model, question, spec.max_length)
    trained = Smoothed(module, spec.label_smoothing) if spec.label_smoothing else module

    def encode(train: "pd.DataFrame") -> list[dict[str, Any]]:
        return reading.examples(train["text"].tolist(), train["label"].tolist())

    return Predictor(
        *parameters(module),
        likelihood=likelihood_of(module, model, spec),
        writer=_writer(module, reading, spec),
        trainable=Trainable(trained, encode, reading.collator(module)),
        prompt=reading.said,
        saved=_saved(module, model, spec, question),
    )


def untouched(model: Model, spec: Experiment, task: Task) -> Predictor:
    """What the model as it is writes, kept in the user's cache folder: every run of a study measures it."""
    module, question = model.speaker(), _question(model, spec, trained=False)
    reading = Reading(model, question, spec.max_length)
    writer = _writer(module, reading, spec)
    how = [reading.said, spec.max_length, dtype_of(spec), *reading.decoding]
    how += [spec.source_language, spec.target_language]

    def write(texts: Sequence[str]) -> list[Written]:
        def compute() -> np.ndarray:
            return np.array([json.dumps(one) for one in writer.write(texts)] or [""])

        return [Written(*json.loads(one)) for one in kept("written", model, (how, *texts), compute) if one]

    def rate(texts: Sequence[str], references: Sequence[str]) -> np.ndarray:
        return kept("rated", model, (how, *texts, "", *references), lambda: writer.rate(texts, references))

    likelihood = untouched_likelihood(module, model, spec)
    found = Predictor(0, count(model), 0, likelihood=likelihood, writer=Writer(write, rate), prompt=reading.said)
    found.saved = _saved(module, model, spec, question)
    return found


def with_shots(model: Model, spec: Experiment, train: "pd.DataFrame") -> Predictor:
    """A decoder that is shown pairs before every source text, in an order drawn from the seed.

    Raises:
        FtlibError: They do not fit what the model can see at once.
    """
    question = _question(model, spec, trained=False)
    reading = Reading(model, question, spec.max_length)
    order = orders(len(train), spec.seed, 1)[0]
    pairs = [(train["text"].iloc[place], train["label"].iloc[place]) for place in order]
    reading.before = "".join(f"{reading.query(text)} {target}{BETWEEN_SHOTS}" for text, target in pairs)
    reading.fits(len(pairs))
    module = model.speaker()
    likelihood = untouched_likelihood(module, model, spec)
    writer, shown = _writer(module, reading, spec), reading.before + reading.said
    saved = _saved(module, model, spec, question._replace(prefix=reading.before))
    return Predictor(0, count(model), 0, likelihood=likelihood, writer=writer, prompt=shown, saved=saved)


def _question(model: Model, spec: Experiment, trained: bool = True) -> Question:
    """How a model is asked for texts; one that has not learned where a text ends answers in a line."""
    encodes = model.family == ENCODER_DECODER
    names = ("num_beams", "source_language", "target_language")
    writing = {name: getattr(spec, name) for name in names} | {
        "length_penalty": float(spec.length_penalty),
        "max_new_tokens": spec.max_new_tokens or spec.max_length,
        "lines": not (trained or encodes),
    }
    return Question(template=spec.instruction or ("{text}" if encodes else OF_DECODERS), writing=writing)


def _saved(module: torch.nn.Module, model: Model, spec: Experiment, question: Question) -> Saveable:
    return Saveable(model, module, questions={short_name(spec.task): question})


def _writer(module: torch.nn.Module, reading: Reading, spec: Experiment) -> Writer:
    """What a module writes, and how likely it finds references."""
    dtype, most = dtype_of(spec), reading.decoding.max_new_tokens

    def write(texts: Sequence[str]) -> list[Written]:
        return [Written(text, n, n >= most) for text, n in reading.write(module, texts, dtype)]

    return Writer(write, lambda texts, references: reading.rate(module, texts, references, dtype))


class Smoothed(torch.nn.Module):
    """A model whose loss is the cross-entropy with a target of which a share is spread over all tokens.

    Szegedy et al. 2016, section 7.
    """

    def __init__(self, writes: torch.nn.Module, share: float) -> None:
        super().__init__()
        self.writes, self.share = writes, share

    def forward(self, labels: torch.Tensor, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """The mean over the labelled tokens.

        Args:
            labels: (n, n_tokens), IGNORED where the loss does not count.
            inputs: What the model takes.
        """
        logits = self.writes(labels=labels, **inputs).logits[:, -labels.shape[1] :].float()
        if not self.writes.config.is_encoder_decoder:
            logits, labels = logits[:, :-1], labels[:, 1:]
        flat = logits.flatten(0, 1), labels.flatten()
        return {"loss": torch.nn.functional.cross_entropy(*flat, ignore_index=IGNORED, label_smoothing=self.share)}
