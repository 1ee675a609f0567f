"""What full fine-tuning and adapters share: which module is trained, on what, and how its answers are read."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import transformers

from ftlib.data import Task
from ftlib.families import ENCODER, ENCODER_DECODER
from ftlib.methods import LANGUAGE_MODELING, Predictor, Trainable
from ftlib.models import Model, parameters
from ftlib.packing import IGNORED, keeps_apart, packed, pieces
from ftlib.predict import likelihood_of, module_probabilities, prompted, window
from ftlib.prompts import Prompt, clipped, prompt_of
from ftlib.score.tokens import pairs, text_tokens
from ftlib.spec import Experiment

if TYPE_CHECKING:
    import pandas as pd


def base(model: Model, spec: Experiment, task: Task) -> torch.nn.Module:
    """The module before training: a new head for a model that reads both ways, else the model as it is."""
    if model.family == ENCODER:
        return model.classifier(len(task.labels), spec.seed)
    return model.speaker()


def predictor(module: torch.nn.Module, model: Model, spec: Experiment, task: Task) -> Predictor:
    """The module as a predictor that can be trained."""
    sizes = parameters(module)
    if task.kind == LANGUAGE_MODELING:
        return Predictor(*sizes, likelihood=likelihood_of(module, model, spec), trainable=_of_text(module, model, spec))
    if model.family == ENCODER:
        answers = module_probabilities(module, model, spec.max_length)
        return Predictor(*sizes, answers, trainable=_of_codes(module, model, spec, task))
    prompt = prompt_of(task)
    return Predictor(
        *sizes,
        # What the model has learned it says outright: dividing by what it says to nothing would undo a learned prior.
        prompted(module, model, spec, prompt, calibration="none", normalisation="none"),
        likelihood_of(module, model, spec),
        _of_words(module, model, spec, task, prompt),
        prompt=prompt.template,
    )


def _of_codes(module: torch.nn.Module, model: Model, spec: Experiment, task: Task) -> Trainable:
    """Texts and the number of their label."""

    def encode(train: "pd.DataFrame") -> list[dict[str, Any]]:
        tokens = model.tokenizer(train["text"].tolist(), truncation=True, max_length=spec.max_length)["input_ids"]
        codes = [task.labels.index(label) for label in train["label"]]
        return [{"input_ids": ids, "labels": code} for ids, code in zip(tokens, codes, strict=True)]

    return Trainable(module, encode, transformers.DataCollatorWithPadding(model.tokenizer), alone=True)


def _of_words(module: torch.nn.Module, model: Model, spec: Experiment, task: Task, prompt: Prompt) -> Trainable:
    """Prompts and the words of their label; the loss is on the label's words alone."""
    answers = dict(zip(task.labels, prompt.answers(), strict=True))

    def encode(train: "pd.DataFrame") -> list[dict[str, Any]]:
        texts = clipped(model.tokenizer, train["text"].tolist(), spec.max_length)
        two_halves = model.family == ENCODER_DECODER
        examples = []
        for text, label in zip(texts, train["label"], strict=True):
            ((asked,), ((said,),)) = pairs(
                model.tokenizer, [prompt.query(text)], [answers[label]], bos=True, encoder=two_halves
            )
            both = {"input_ids": asked + said, "labels": [IGNORED] * len(asked) + said}
            examples.append({"input_ids": asked, "labels": said} if two_halves else both)
        return examples

    return Trainable(module, encode, transformers.DataCollatorForSeq2Seq(model.tokenizer, module))


def _of_text(module: torch.nn.Module, model: Model, spec: Experiment) -> Trainable:
    """Documents, several to a row where the model can be kept from looking across; the loss is on every token."""
    context, _ = window(model, spec)
    together = keeps_apart(module)

    def encode(train: "pd.DataFrame") -> list[dict[str, Any]]:
        documents, _ = text_tokens(model.tokenizer, train["text"].tolist(), bos=True)
        return [{"input_ids": piece} for ids in documents for piece in pieces(ids, context)]

    def collate(examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return packed([example["input_ids"] for example in examples], context, together=together)

    return Trainable(module, encode, collate)
