"""What full fine-tuning and adapters share: which module is trained, on what, and how its answers are read."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

from ftlib.data import Task
from ftlib.errors import FtlibError
from ftlib.families import ENCODER, ENCODER_DECODER
from ftlib.methods import LANGUAGE_MODELING, Predictor, Trainable
from ftlib.methods.heads import PROBE, fitted
from ftlib.models import Model, encoded, parameters
from ftlib.packing import IGNORED, keeps_apart, packed, pieces
from ftlib.predict import likelihood_of, module_probabilities, prompted, window
from ftlib.prompts import Prompt, clipped, prompt_of
from ftlib.score import passes
from ftlib.score.tokens import pairs, text_tokens
from ftlib.spec import Experiment

if TYPE_CHECKING:
    import pandas as pd


def base(model: Model, spec: Experiment, task: Task) -> torch.nn.Module:
    """The module before training: a new head for a model that reads both ways, else the model as it is."""
    if model.family == ENCODER:
        return model.classifier(len(task.labels), spec.seed)
    return model.speaker()


def body(module: torch.nn.Module) -> torch.nn.Module:
    """The part that reads, adapters in it included: without a head, or the layer that predicts tokens."""
    whole = passes.core(module)
    return whole.get_encoder() if whole.config.is_encoder_decoder else whole.base_model


def predictor(module: torch.nn.Module, model: Model, spec: Experiment, task: Task) -> Predictor:
    """The module as a predictor that can be trained.

    Raises:
        FtlibError: A head is to be fitted, and the model answers in words.
    """
    sizes = parameters(module)
    if spec.head == PROBE and model.family != ENCODER:
        raise FtlibError(
            f'head: found "{spec.head}"; {model.name} is of the family {model.family} and answers in words, '
            "without a head; leave it out"
        )

    def features(texts: Sequence[str]) -> np.ndarray:
        return encoded(body(module), model, texts, spec.max_length)

    if task.kind == LANGUAGE_MODELING:
        likelihood, trainable = likelihood_of(module, model, spec), _of_text(module, model, spec)
        return Predictor(*sizes, likelihood=likelihood, trainable=trainable, features=features)
    if model.family == ENCODER:
        answers = module_probabilities(module, model, spec.max_length)
        return Predictor(*sizes, answers, trainable=_of_codes(module, model, spec, task), features=features)
    prompt = prompt_of(task)
    return Predictor(
        *sizes,
        # What the model has learned it says outright: dividing by what it says to nothing would undo a learned prior.
        prompted(module, model, spec, prompt, calibration="none", normalisation="none"),
        likelihood_of(module, model, spec),
        _of_words(module, model, spec, task, prompt),
        prompt=prompt.template,
        features=features,
    )


def _of_codes(module: torch.nn.Module, model: Model, spec: Experiment, task: Task) -> Trainable:
    """Texts and the number of their label."""
    weighted = spec.mitigation == "reweight"

    def encode(train: "pd.DataFrame") -> list[dict[str, Any]]:
        tokens = model.tokenizer(train["text"].tolist(), truncation=True, max_length=spec.max_length)["input_ids"]
        codes = [task.labels.index(label) for label in train["label"]]
        found = [{"input_ids": ids, "labels": code} for ids, code in zip(tokens, codes, strict=True)]
        if not weighted:
            return found
        # Examples of validation count alike.
        weights = train["weight"] if "weight" in train else [1.0] * len(train)
        return [{**one, "weight": float(weight)} for one, weight in zip(found, weights, strict=True)]

    collate = transformers.DataCollatorWithPadding(model.tokenizer)
    begin = fitted(model) if spec.head == PROBE else None
    return Trainable(Weighted(module) if weighted else module, encode, collate, alone=True, begin=begin)


class Weighted(torch.nn.Module):
    """A classifier in whose loss examples count differently."""

    def __init__(self, classifier: torch.nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, labels: torch.Tensor, weight: torch.Tensor, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """The mean of weight x cross-entropy; weights are 1 on average over the training examples.

        Args:
            labels: (n,) numbers of labels.
            weight: (n,)
            inputs: What the classifier takes.
        """
        losses = torch.nn.functional.cross_entropy(self.classifier(**inputs).logits.float(), labels, reduction="none")
        return {"loss": (losses * weight.float()).mean()}


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
