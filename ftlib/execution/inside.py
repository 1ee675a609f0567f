"""What notebooks do beside one run: look at a training from inside, run a rival, run several one after the other.

Inside a training are its parameters, a batch, its loss, and one step.
"""

import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib import records
from ftlib.config.constraints import TRAINING
from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core import format
from ftlib.core.errors import Interrupted
from ftlib.core.html import Shown, paragraph, table
from ftlib.data.task import Task
from ftlib.evaluation.evaluate import Evaluated
from ftlib.execution.run import Adapted, adapt, drawn_examples, measure_after, run_stages
from ftlib.records import RunRecord
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


def run_each(specs: Sequence[Experiment], study: str | Path) -> list[RunRecord]:
    """The records of several experiments, run one after the other, each with a line that says how far it is.

    Args:
        specs: What to run; what has a complete record in `study` already is not run again.
        study: Folder for the records.

    Raises:
        Interrupted: A person stopped it; what had finished is recorded, and the same call goes on from there.
    """
    found: list[RunRecord] = []
    for place, spec in enumerate(specs, 1):
        folder, name = Path(study) / "runs" / spec.run_id, f"{place} of {len(specs)}: {spec.method}, seed {spec.seed}"
        record = records.complete_record(folder)
        if record:
            print(f"{name}: recorded already")
        else:
            start = time.monotonic()
            try:
                record = run_stages(spec, folder, _Told(folder, name))
            except KeyboardInterrupt as stop:
                said = str(stop).partition(":")[0] or "Interrupted"
                raise Interrupted(
                    f"{said} of {spec.method}: {format.plural(len(found), 'run')} of {len(specs)} are recorded in "
                    f"{study}; run the cell again to do the rest."
                ) from None
            print(f"\r{name}: done in {format.seconds(time.monotonic() - start)}{'':<40}")
        found.append(record)
    return found


class Rival(NamedTuple):
    """Another method on the same examples, beside the one that a notebook is about; it leaves no record."""

    name: str
    spec: Experiment
    adapted: Adapted
    after: Evaluated

    def _repr_html_(self) -> str:
        return self.adapted._repr_html_() + self.after._repr_html_()


_OWN = ("learning_rate", "method_args", "notebook", "interpolation", "patience")
"""Fields of one method that are not handed to another."""


def rival(
    spec: Experiment, task: Task, model: "Model", events: Events, called: str = "", **changes: Any
) -> Rival | None:
    """The same experiment with something else, such as `method="full"`: trained, measured, and not recorded.

    Another method has its own learning rate and settings. None within a study, which compares by itself.

    Args:
        called: What it is called in sentences; its method and what was changed, if empty.
        changes: Fields of the experiment.
    """
    if events.path is not None:
        return None
    row = METHODS[changes.get("method", spec.method)]
    left = _OWN if row.name != spec.method else ("notebook",)
    kept = {name: value for name, value in spec.passed().items() if name not in left}
    if not row.trains:
        kept = {name: value for name, value in kept.items() if name not in TRAINING and name != "head_init"}
    other = Experiment(**kept | changes)
    own = model if row.model else None
    adapted = adapt(other, task, own, events)
    said = " ".join(f"{name}={value}" for name, value in changes.items() if name != "method")
    return Rival(
        called or f"{other.method} {said}".strip(), other, adapted, measure_after(other, task, own, adapted, events)
    )


class _Told(Events):
    """A diary in a folder that also says on one line what is being done."""

    def __init__(self, run_dir: Path, name: str) -> None:
        super().__init__(run_dir)
        self.name = name

    def say(self, event: str, **facts: Any) -> None:
        super().say(event, **facts)
        print(f"\r{self.name}: {self.doing():<50}", end="", flush=True)
