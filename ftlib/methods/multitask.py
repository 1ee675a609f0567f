"""One model for several tasks, at once or one after another: a head or a prompt for each, one body for all.

A model that reads both ways gets one new head with a row for every label of every task; an example's loss, and an
answer, look at its own task's rows alone, as separate heads would (Caruana 1997, section 2). A language model answers
in words, and needs nothing new. Text to be modelled, where it is one of the tasks, trains the body: by the model's own
loss where it has the layer for it, else by telling each text from the others in spite of dropout (unsupervised SimCSE:
Gao et al. 2021, section 3).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

from ftlib.config.experiment import Experiment
from ftlib.config.methods import CLASSIFICATION, ENCODER, METHODS
from ftlib.data.task import Task
from ftlib.methods.finetune import body, build_predictor, new_parameters
from ftlib.methods.zero_shot import by_similarity
from ftlib.models.export import Question, Saveable
from ftlib.models.inference import prompted
from ftlib.models.loading import Model, encoded, pooled
from ftlib.models.prompts import prompt_of
from ftlib.training.contract import Predictor, Trainable

if TYPE_CHECKING:
    import pandas as pd

TEMPERATURE = 0.05
"""Of the softmax over cosine similarities (Gao et al. 2021, section 5.1)."""

MASKED = 0.15
"""Share of a text's tokens that a masked model is to guess (Devlin et al. 2019, section 3.1)."""


class Shared:
    """A model that is trained on several tasks.

    Args:
        model: The base model.
        spec: Method and settings.
        tasks: By short name, in the order in which they are trained.
    """

    def __init__(self, model: Model, spec: Experiment, tasks: Mapping[str, Task]) -> None:
        self.model, self.spec, self.tasks = model, spec, tasks
        self.labelled = {name: task for name, task in tasks.items() if task.has_labels}
        prepare, first = METHODS[spec.method].prepare(), next(iter(tasks.values()))
        whole = union(self.labelled) if model.family == ENCODER else first
        self.predictor: Predictor = prepare(model, spec, whole, None)
        self.module = self.predictor.trainable.module
        # A head belongs to a task; all else is drawn back and mixed. Of an adapter, peft stores heads apart.
        adapter = hasattr(self.module, "peft_config")
        names = [name for name, _ in self.module.named_parameters() if ".modules_to_save." in name]
        self.new: list[str] = names if adapter else new_parameters(self.module)
        self._trainables = {name: self._trainable(task, name) for name, task in tasks.items()}

    def _trainable(self, task: Task, name: str) -> Trainable:
        if self.model.family != ENCODER:
            return build_predictor(self.module, self.model, self.spec, task).trainable
        if not task.has_labels:
            return _of_encoder_text(self.module, self.model, self.spec)
        return self._of_rows(name)

    def _of_rows(self, name: str) -> Trainable:
        low, high = self._rows(name)
        trainable = self.predictor.trainable

        def encode(train: "pd.DataFrame") -> list[dict[str, Any]]:
            labels = [qualified(name, label) for label in train["label"]]
            return [one | {"rows": (low, high)} for one in trainable.encode(train.assign(label=labels))]

        def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
            rows = torch.tensor([one["rows"] for one in examples])
            plain = [{key: value for key, value in one.items() if key != "rows"} for one in examples]
            return {**trainable.collate(plain), "rows": rows}

        return trainable._replace(module=OwnRows(self.module), encode=encode, collate=collate)

    def _rows(self, name: str) -> tuple[int, int]:
        sizes = {one: len(task.labels) for one, task in self.labelled.items()}
        low = sum(size for one, size in list(sizes.items())[: list(sizes).index(name)])
        return low, low + sizes[name]

    def trainable(self, names: Sequence[str]) -> Trainable:
        """What trains on these tasks, whose examples are distinguished by a column `task`; all of one kind."""
        kinds = [self._trainables[name] for name in names]

        def encode(train: "pd.DataFrame") -> list[dict[str, Any]]:
            found: list[dict[str, Any] | None] = [None] * len(train)
            pieces: list[dict[str, Any]] = []
            for name, one in zip(names, kinds, strict=True):
                places = np.flatnonzero((train["task"] == name).to_numpy())
                made = one.encode(train.iloc[places]) if len(places) else []
                if len(made) != len(places):
                    # A long document is several pieces; there is no order to keep.
                    pieces += made
                    continue
                for place, example in zip(places, made, strict=True):
                    found[place] = example
            return [*(one for one in found if one is not None), *pieces]

        return kinds[0]._replace(encode=encode)

    def answers(self, name: str) -> Predictor:
        """The model's own answers on a task that it was trained on."""
        task = self.tasks[name]
        if self.model.family != ENCODER:
            return build_predictor(self.module, self.model, self.spec, task)
        if not task.has_labels:
            return Predictor(0, 0, 0)
        low, high = self._rows(name)

        def probabilities(texts: Sequence[str]) -> np.ndarray:
            rows = self.predictor.probabilities(texts)[:, low:high]
            # What other tasks' labels get is taken out: softmax over the task's own rows.
            return rows / rows.sum(axis=1, keepdims=True)

        return Predictor(0, 0, 0, probabilities)

    def saveable(self, own: str) -> Saveable:
        """All tasks in one: a head with rows for each, or a prompt of its own."""
        encoder, asked = self.model.family == ENCODER, {}
        for name in (own, *(one for one in self.tasks if one != own)):
            if not encoder:
                # Whatever it is called in there, it is this task's.
                (asked[name],) = self.answers(name).saved.questions.values()
            elif self.tasks[name].has_labels:
                asked[name] = Question(self.tasks[name].labels, self._rows(name))
        return Saveable(self.model, self.module, questions=asked)

    def guesses(self, name: str) -> Predictor | None:
        """What the model says of a task that it was not trained on yet, by the zero-shot of its family; None where the
        task's labels have no words.
        """
        task = self.tasks[name]
        if not task.has_labels:
            return self.answers(name) if self.model.family != ENCODER else None
        if not task.label_words:
            return None
        if self.model.family == ENCODER:
            return Predictor(0, 0, 0, by_similarity(self._features, task))
        options = {"calibration": "contextual", "normalisation": "none"}
        return Predictor(0, 0, 0, prompted(self.module, self.model, self.spec, prompt_of(task), **options))

    def _features(self, texts: Sequence[str]) -> np.ndarray:
        return encoded(body(self.module), self.model, texts, self.spec.max_length)


def qualified(task: str, label: str) -> str:
    """A label among those of several tasks.

    >>> qualified("reviews", "negative")
    'reviews: negative'
    """
    return f"{task}: {label}"


def union(tasks: Mapping[str, Task]) -> Task:
    """A task with the labels of all, distinguished by the tasks' names; it has no examples of its own."""
    labels = tuple(qualified(name, label) for name, task in tasks.items() for label in task.labels)
    return Task("+".join(tasks), CLASSIFICATION, {}, labels, {}, "")


class OwnRows(torch.nn.Module):
    """A classifier whose loss looks, for every example, at the labels of its own task alone."""

    def __init__(self, classifier: torch.nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, labels: torch.Tensor, rows: torch.Tensor, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """The mean cross-entropy.

        Args:
            labels: (n,) numbers among all tasks' labels.
            rows: (n, 2) first and behind the last of the labels of each example's task.
            inputs: What the classifier takes.
        """
        logits = self.classifier(**inputs).logits.float()
        places = torch.arange(logits.shape[1], device=logits.device)
        outside = (places < rows[:, :1]) | (places >= rows[:, 1:])
        return {"loss": torch.nn.functional.cross_entropy(logits.masked_fill(outside, -torch.inf), labels)}


def _of_encoder_text(module: torch.nn.Module, model: Model, spec: Experiment) -> Trainable:
    """Texts that an encoder is to read more of, without labels."""

    def encode(train: "pd.DataFrame") -> list[dict[str, Any]]:
        tokens = model.tokenizer(train["text"].tolist(), truncation=True, max_length=spec.max_length)["input_ids"]
        # One number per text, so that texts count alike.
        return [{"input_ids": ids, "labels": 0} for ids in tokens]

    pad: Callable[..., Any] = model.tokenizer.pad
    if model.speaks:
        speaker = Masked(module, model)
        collate = transformers.DataCollatorForLanguageModeling(model.tokenizer, mlm_probability=MASKED)

        def masked(examples: list[dict[str, Any]]) -> dict[str, Any]:
            return dict(collate([{"input_ids": one["input_ids"]} for one in examples]))

        # Some masked tokens are replaced by any of the vocabulary.
        return Trainable(speaker, encode, masked, closed=False)

    def padded(examples: list[dict[str, Any]]) -> dict[str, Any]:
        return dict(pad({"input_ids": [one["input_ids"] for one in examples]}, return_tensors="pt"))

    # Every text is told from all others of its batch, which therefore stays whole.
    return Trainable(Alike(module), encode, padded, separable=False)


class Alike(torch.nn.Module):
    """The contrastive loss of texts read twice, with different dropout."""

    def __init__(self, whole: torch.nn.Module) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """(n, n_tokens) token numbers -> the mean over texts of minus the log-probability of the text's own twin."""
        reader = body(self.whole)
        first, second = (pooled(reader(**inputs).last_hidden_state, inputs["attention_mask"]) for _ in range(2))
        wanted = torch.arange(len(first), device=first.device)
        return {"loss": torch.nn.functional.cross_entropy(first @ second.t() / TEMPERATURE, wanted)}


class Masked(torch.nn.Module):
    """The loss of guessing masked tokens, by the model's own output layer over the shared body."""

    def __init__(self, whole: torch.nn.Module, model: Model) -> None:
        super().__init__()
        self.speaker = model.speaker()
        reader = body(whole)
        setattr(self.speaker, self.speaker.base_model_prefix, reader)
        # Its last layer is the embeddings' twin, and they are the shared body's now.
        self.speaker.tie_weights()

    def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """As transformers' masked language models."""
        return {"loss": self.speaker(**inputs).loss}
