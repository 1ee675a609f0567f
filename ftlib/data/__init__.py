"""TASKS: the bundled tasks, and `load_task`, which reads any task by its name."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ftlib.errors import FtlibError

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "validation", "test")
"""The splits every task has, in the order they are used."""

TASKS: Mapping[str, str] = {
    "pydocs": "which Python library does this docstring describe? (real text from the installed packages)",
}
"""Bundled tasks: name -> the question it asks. `file:PATH` and `hub:ID[@revision]` read any other."""

PROBES: Mapping[str, str] = {
    "general": "bits per byte on general text (models that give a likelihood of text)",
}
"""What a plan may measure before and after, beside the task itself."""


@dataclass(frozen=True, repr=False)
class Task:
    """A task, read and checked.

    Every split is a DataFrame with the columns `id` (str, unique in the split and the same each time the data is
    read), `text` (str, never empty), `label` (str, one of `labels`), one `group_<column>` (str) for each group column,
    and `cluster` (str) where examples share a source.
    """

    name: str
    kind: str
    splits: Mapping[str, "pd.DataFrame"]
    labels: tuple[str, ...]
    label_words: Mapping[str, str]
    """What each label means, in words; empty when the labels are numbers and nobody said."""
    sha256: str
    """Of the content of all splits and the labels' order."""
    template: str = "This text is about {label}."
    """Sentence that turns a label's words into a description, for zero-shot."""
    group_columns: tuple[str, ...] = ()
    licence: str = "not stated"
    source: str = ""
    card: str = ""
    """The data card, in Markdown."""
    caution: str = ""
    stated: Mapping[str, object] = field(default_factory=dict)
    """Choices made while reading (columns guessed, how splits were made, Hub revision); they go into the record."""

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(split)}" for name, split in self.splits.items())
        return f"Task({self.name}, {self.kind}, {len(self.labels)} labels, {sizes})"

    def _repr_html_(self) -> str:
        from ftlib.report.html import table, text

        counts = {name: split["label"].value_counts() for name, split in self.splits.items()}
        rows = [
            (label, self.label_words.get(label, ""), *(int(counts[name].get(label, 0)) for name in self.splits))
            for label in self.labels
        ]
        rows.append(("all", "", *(len(split) for split in self.splits.values())))
        said = f"{self.name}: {self.kind}; licence: {self.licence}. {self.caution}"
        return f"<p>{text(said)}</p>" + table(("label", "in words", *self.splits), rows)

    def draw(self, *, shots: int, train_limit: int, seed: int) -> "pd.DataFrame":
        """Draw training examples, seeded, nested (a smaller draw is contained in a larger one) and stratified.

        Args:
            shots: Examples per class; 0: no limit per class.
            train_limit: Examples in all, classes in their proportions; 0: all.
            seed: The same seed gives the same draw.

        Raises:
            FtlibError: Some class has fewer than `shots` examples, or there are fewer than `train_limit` in all.
        """
        train = self.splits["train"]
        rng = np.random.default_rng(seed)
        order = train.iloc[rng.permutation(len(train))]
        rank = order.groupby("label").cumcount()
        if shots:
            counts = train["label"].value_counts()
            if short := {name: int(counts.get(name, 0)) for name in self.labels if counts.get(name, 0) < shots}:
                raise FtlibError(f"{self.name}: shots = {shots}, but train has fewer for {short}; choose fewer shots")
            return order[rank < shots].sort_index()
        if not train_limit or train_limit == len(train):
            return train
        if train_limit > len(train):
            raise FtlibError(
                f"{self.name}: train_limit = {train_limit}, but train has {len(train)} examples; 0 takes them all"
            )
        # Each example's place within its class, as a share of the class: cutting the sorted shares anywhere keeps the
        # classes in proportion and makes draws of different sizes nested.
        size = order.groupby("label")["label"].transform("size")
        share = ((rank + 0.5) / size).to_numpy()
        return order.iloc[np.sort(np.argsort(share, kind="stable")[:train_limit])].sort_index()

    def test_set(self, eval_limit: int) -> "pd.DataFrame":
        """The test split, or `eval_limit` of its examples: the same ones whatever the run, so that runs are paired."""
        test = self.splits["test"]
        if not eval_limit or eval_limit >= len(test):
            return test
        chosen = np.random.default_rng(0).permutation(len(test))[:eval_limit]
        return test.iloc[np.sort(chosen)]


def make_task(
    name: str, splits: Mapping[str, "pd.DataFrame"], labels: tuple[str, ...], label_words: Mapping[str, str], **more
) -> Task:
    """Build a task from checked splits, its content hash included."""
    content = hashlib.sha256(repr(labels).encode())
    for split in SPLITS:
        table = splits[split]
        for column in table.columns:
            content.update(f"\x1e{split}\x1f{column}\x1e".encode())
            content.update("\x1f".join(table[column].astype(str)).encode())
    return Task(name, "classification", splits, labels, label_words, content.hexdigest(), **more)


def load_task(
    name: str,
    *,
    text_column: str = "",
    label_column: str = "",
    label_words: Mapping[str, str] | None = None,
    group_columns: tuple[str, ...] | list[str] = (),
) -> Task:
    """Read a task by name: a bundled one, `file:PATH`, or `hub:ID[@revision]`.

    Args:
        name: As in `Experiment.task`.
        text_column: Column that holds the text; "title+description" joins two. Empty: guessed from the usual names.
        label_column: Column that holds the label. Empty: guessed.
        label_words: What each label means, in words.
        group_columns: Columns that name groups.

    Raises:
        FtlibError: The data is missing, empty, ragged, mixed or ambiguous; says file, line, what was found.
    """
    columns = {"text_column": text_column, "label_column": label_column, "group_columns": tuple(group_columns)}
    if name.startswith("file:"):
        from ftlib.data.files import load
    elif name.startswith("hub:"):
        from ftlib.data.hub import load
    elif name == "pydocs":
        from ftlib.data.pydocs import load
    else:
        from ftlib.errors import unknown

        raise unknown("task", name, TASKS)
    return load(name, label_words=dict(label_words or {}), **columns)


def read_card(name: str) -> str:
    """The data card of a bundled task: beside the package in a checkout, inside it when installed; else empty."""
    package = Path(__file__).parents[1]
    for folder in (package.parent / "data", package / "_data"):
        card = folder / name / "CARD.md"
        if card.is_file():
            return card.read_text(encoding="utf-8")
    return ""
