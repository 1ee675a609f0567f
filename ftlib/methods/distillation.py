"""Distillation: a small model learns from a large one's answers to texts that nobody has labelled (Hinton et al. 2015).

The large one, the teacher, is the base model, fully fine-tuned on the labelled examples; the small one is its first
layers with a new head. Both are made within one run, so that what the teacher cost is part of what the small one did.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

from ftlib.config.experiment import Experiment
from ftlib.core.errors import FtlibError
from ftlib.core.format import short_name
from ftlib.data.task import Task
from ftlib.methods.finetune import body
from ftlib.methods.finetune import prepare as teacher_of
from ftlib.models.export import Question, Saveable
from ftlib.models.inference import module_probabilities
from ftlib.models.loading import Model, encoded, parameters
from ftlib.records.events import Events
from ftlib.training.contract import Predictor, Trainable

if TYPE_CHECKING:
    import pandas as pd


def prepare(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    """The small model to train; where it has a teacher, that one has been trained and asked by then.

    Raises:
        FtlibError: The base model has no more layers than the small one is to have.
    """
    chosen = spec.resolved()["method_args"]
    module = model.classifier(len(task.labels), spec.seed, num_hidden_layers=chosen["layers"])
    if chosen["layers"] >= (most := _layers(model)):
        raise FtlibError(f"method_args.layers: found {chosen['layers']}; allowed: below {most}, those of {model.name}")
    answers: dict[str, np.ndarray] = {}
    if chosen["soft"] > 0:
        texts = list(dict.fromkeys([*train["text"], *_unlabelled(task, train, spec.seed, chosen["unlabelled"])]))
        answers = dict(zip(texts, _answers(model, spec, task, train, texts), strict=True))
    trainable = _of_answers(module, model, spec, task, train, answers)
    features = body(module)
    made = Predictor(*parameters(module), module_probabilities(module, model, spec.max_length), trainable=trainable)
    made.saved = Saveable(model, module, questions={short_name(spec.task): Question(task.labels)})
    made.features = lambda asked: encoded(features, model, asked, spec.max_length)
    return made


def _layers(model: Model) -> int:
    config = transformers.AutoConfig.from_pretrained(model.folder, trust_remote_code=False, local_files_only=True)
    return config.num_hidden_layers


def _unlabelled(task: Task, train: "pd.DataFrame", seed: int, most: int) -> list[str]:
    """Texts of the training split that were not drawn as examples; their labels stay unseen."""
    rest = task.splits["train"]
    rest = rest[~rest["id"].isin(train["id"])]
    return rest["text"].iloc[np.random.default_rng(seed).permutation(len(rest))[:most]].tolist()


def _answers(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame", texts: Sequence[str]) -> np.ndarray:
    """What the teacher says: (n_texts, n_labels) probabilities."""
    from ftlib.training.trainer import fit

    asked = spec.model_copy(update={"method": "full", "method_args": {}, **TEACHER})
    teacher = teacher_of(model, asked, task, train)
    fit(teacher.trainable, model, asked, train, _Quiet())
    return teacher.probabilities(texts)


TEACHER = {"learning_rate": 0.0, "min_steps": 0, "validations": 0, "patience": 0}
"""A teacher is trained as `full` is by default, for as many passes and with batches as large as the small model."""


class _Quiet(Events):
    """The diary is about the small model."""

    def say(self, event: str, **facts: Any) -> None:
        pass


def _of_answers(
    module: torch.nn.Module,
    model: Model,
    spec: Experiment,
    task: Task,
    train: "pd.DataFrame",
    answers: dict[str, np.ndarray],
) -> Trainable:
    """Texts and what is to be said of them: the label, the teacher's answer, or both."""
    pad = transformers.DataCollatorWithPadding(model.tokenizer)
    chosen = spec.resolved()["method_args"]
    drawn = set(train["id"])

    def one(ids: list[int], code: int, answer: np.ndarray | None) -> dict[str, Any]:
        # Without a label, or without a teacher's answer, the other one is all there is.
        share = 0.0 if answer is None else 1.0 if code < 0 else chosen["soft"]
        wanted = np.zeros(len(task.labels)) if answer is None else answer
        return {"input_ids": ids, "labels": max(code, 0), "answer": wanted.tolist(), "share": share}

    def encode(frame: "pd.DataFrame") -> list[dict[str, Any]]:
        rows = [(text, task.labels.index(label)) for text, label in zip(frame["text"], frame["label"], strict=True)]
        if set(frame["id"]) == drawn:
            rows += [(text, -1) for text in answers if text not in set(train["text"])]
        tokens = model.tokenizer([text for text, _ in rows], truncation=True, max_length=spec.max_length)["input_ids"]
        return [one(ids, code, answers.get(text)) for ids, (text, code) in zip(tokens, rows, strict=True)]

    def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
        more = {name: torch.tensor([example[name] for example in examples]) for name in ("answer", "share")}
        plain = [{name: example[name] for name in ("input_ids", "labels")} for example in examples]
        return {**pad(plain), **more}

    taught = Taught(module, chosen["temperature"])
    return Trainable(taught, encode, collate, alone=True)


class Taught(torch.nn.Module):
    """A classifier whose loss is how far it is from the label, and from the teacher's answer."""

    def __init__(self, classifier: torch.nn.Module, temperature: float) -> None:
        super().__init__()
        self.classifier, self.temperature = classifier, temperature

    def forward(
        self, labels: torch.Tensor, answer: torch.Tensor, share: torch.Tensor, **inputs: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The mean of (1 - share) x cross-entropy with the label + share x T^2 x cross-entropy of the softened answers.

        Hinton et al. 2015, section 2: both softened by the temperature T, the gradient's size kept by T^2.

        Args:
            labels: (n,) numbers of labels.
            answer: (n, n_labels) the teacher's probabilities.
            share: (n,) of the loss that the teacher has.
            inputs: What the classifier takes.
        """
        logits = self.classifier(**inputs).logits.float()
        hard = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        wanted = torch.softmax(answer.float().clamp_min(1e-12).log() / self.temperature, dim=-1)
        soft = -(wanted * torch.log_softmax(logits / self.temperature, dim=-1)).sum(dim=-1) * self.temperature**2
        share = share.float()
        return {"loss": ((1 - share) * hard + share * soft).mean()}
