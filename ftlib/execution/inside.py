"""What training does, before it is hidden: the parameters, a batch, its loss, and one step."""

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core import format
from ftlib.core.html import Shown, paragraph, table
from ftlib.data.task import Task
from ftlib.execution.run import drawn_examples
from ftlib.records.events import Events

if TYPE_CHECKING:
    from ftlib.models.loading import Model

MOST_ROWS = 8
"""Weight matrices, and texts of the batch, that are shown."""


class Inside:
    """A model as a method prepares it, looked at from inside; a study's runs leave that out."""

    size = 4
    """Texts of the batch."""

    def __init__(self, spec: Experiment, task: Task, model: "Model", events: Events | None = None) -> None:
        self.spec, self.task, self.model = spec, task, model
        self.left_out = events is not None and events.path is not None

    @cached_property
    def _prepared(self):
        import torch

        train = drawn_examples(self.spec, self.task)
        with torch.random.fork_rng():
            trainable = METHODS[self.spec.method].prepare()(self.model, self.spec, self.task, train).trainable
            examples = trainable.encode(train)
            if trainable.begin:
                trainable.begin(trainable, examples)
        # The shortest, so that a row is read at a glance.
        few = sorted(examples, key=lambda example: len(example["input_ids"]))[: self.size]
        return trainable, few

    def parameters(self) -> Shown:
        """Which matrices are frozen and which are trained, by their shapes."""
        if self.left_out:
            return _left_out()
        named = list(self._prepared[0].module.named_parameters())
        moved, total = (sum(p.numel() for _, p in some) for some in ([x for x in named if x[1].requires_grad], named))
        # The first layer stands for all.
        first = next((name.partition(".0.")[0] + ".0." for name, _ in named if ".0." in name), "")
        shown = [one for one in named if one[0].startswith(first) and one[1].dim() > 1][:MOST_ROWS]
        shown += [one for one in named if one[1].requires_grad and one not in shown and "layer" not in one[0]][:2]
        rows = [
            (
                name.removeprefix("base_model.model.").removesuffix(".weight"),
                " x ".join(map(str, p.shape)),
                format.count(p.numel()),
                "trained" if p.requires_grad else "frozen",
            )
            for name, p in shown
        ]
        said = f"{format.count(moved)} of {format.count(total)} numbers are trained ({moved / total:.2%})."
        return Shown(paragraph(f"{said} Some of them:") + table(("matrix", "shape", "numbers", ""), rows), said)

    def batch(self) -> Shown:
        """A few training texts as the model takes them, padded to one length, with their labels."""
        if self.left_out:
            return _left_out()
        trainable, few = self._prepared
        made, words = trainable.collate(few), self.model.tokenizer.convert_ids_to_tokens
        labels = made["labels"].tolist()
        rows = [
            (" ".join(words(row)), self.task.labels[label] if isinstance(label, int) else "the next token, everywhere")
            for row, label in zip(made["input_ids"].tolist(), labels, strict=True)
        ]
        shape = " x ".join(map(str, made["input_ids"].shape))
        return Shown(paragraph(f"One batch: {shape} token numbers, here as tokens.") + table(("tokens", "label"), rows))

    def step(self) -> Shown:
        """One step of training on that batch: its loss, the gradient's size, and the loss afterwards."""
        if self.left_out:
            return _left_out()
        import torch

        trainable, few = self._prepared
        module, rate = trainable.module.eval(), self.spec.resolved()["learning_rate"]
        moved = [p for p in module.parameters() if p.requires_grad]
        batch = {name: value.to(self.model.device) for name, value in trainable.collate(few).items()}
        before = module(**batch)["loss"]
        before.backward()
        size = float(torch.cat([p.grad.flatten() for p in moved if p.grad is not None]).norm())
        torch.optim.AdamW(moved, lr=rate).step()
        module.zero_grad()
        with torch.no_grad():
            after = float(module(**batch)["loss"])
        guess = float(np.log(len(self.task.labels))) if self.task.labels else None
        rows = [
            ("loss of the batch", f"{float(before.detach()):.4f}"),
            *([("loss of guessing among the labels", f"{guess:.4f}")] if guess else []),
            ("length of the gradient", f"{size:.4f}"),
            ("learning rate: how far one step moves each number, about", f"{rate:g}"),
            ("loss of the same batch after one step", f"{after:.4f}"),
        ]
        return Shown(table(("one step", ""), rows))


def _left_out() -> Shown:
    return Shown(paragraph("Left out in a study: it would only cost time."), "left out in a study")


def look_inside(spec: Experiment, task: Task, model: "Model", events: Events | None = None) -> Inside:
    """The model as the method prepares it, to be looked at before it is trained: parameters, a batch, one step."""
    return Inside(spec, task, model, events)
