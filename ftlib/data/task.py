"""Task: a task that was read and checked, whatever it was read from."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from ftlib.core.errors import FtlibError
from ftlib.data.kinds import CLASSIFICATION, KINDS

if TYPE_CHECKING:
    import pandas as pd

SPLITS = ("train", "validation", "test")
"""The splits every task has, in the order they are used."""


@dataclass(frozen=True, repr=False)
class Task:
    """A task, read and checked.

    Every split is a DataFrame with the columns `id` (str, unique in the split and the same each time the data is
    read), `text` (str, never empty), `label` (str, one of `labels`), one `group_<column>` (str) for each group column,
    and `cluster` (str) where examples share a source. Text to be modelled has no labels, and no column for them: each
    row is a document. Of a text-to-text task `text` is the source and `label` the reference, what is to be written.
    """

    name: str
    kind: str
    """A name of KINDS (`ftlib.data.kinds`)."""
    splits: Mapping[str, "pd.DataFrame"]
    labels: tuple[str, ...]
    """In order; none where text is to be modelled or written."""
    label_words: Mapping[str, str]
    """What each label means, in words; empty where one has no letter and nobody said."""
    sha256: str
    """Of the content of all splits and the labels' order."""
    template: str = "This text is about {label}."
    """Sentence that turns a label's words into a description, for zero-shot."""
    tests: Mapping[str, "pd.DataFrame"] = field(default_factory=dict)
    """Other test sets, of other domains as a rule: the part `tests.<name>` of a record; columns as in `splits`."""
    old: "pd.DataFrame | None" = None
    """Training examples of those domains, which `replay` mixes with the task's own; none of them is measured."""
    group_columns: tuple[str, ...] = ()
    licence: str = "not stated"
    source: str = ""
    card: str = ""
    """The data card, in Markdown."""
    caution: str = ""
    stated: Mapping[str, object] = field(default_factory=dict)
    """Choices made while reading (columns guessed, how splits were made, Hub revision); they go into the record."""

    @property
    def has_labels(self) -> bool:
        """Whether every example has one of the task's labels."""
        return KINDS[self.kind].has_labels

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(split)}" for name, split in self.splits.items())
        labels = f"{len(self.labels)} labels, " if self.labels else ""
        return f"Task({self.name}, {self.kind}, {labels}{sizes})"

    def _repr_html_(self) -> str:
        from ftlib.core.html import table, text

        said = f"<p>{text(f'{self.name}: {self.kind}; licence: {self.licence}. {self.caution}')}</p>"
        if not self.has_labels:
            sides = [side for side in ("text", "label") if side in self.splits["train"]]
            sizes = [
                (name, len(split), *(text_bytes(split[one]) for one in sides)) for name, split in self.splits.items()
            ]
            bytes_ = ("bytes of sources", "bytes of references") if len(sides) == 2 else ("bytes",)
            return said + table(("split", f"{KINDS[self.kind].example}s", *bytes_), sizes)
        counts = {name: split["label"].value_counts() for name, split in self.splits.items()}
        rows = [
            (label, self.label_words.get(label, ""), *(int(counts[name].get(label, 0)) for name in self.splits))
            for label in self.labels
        ]
        rows.append(("all", "", *(len(split) for split in self.splits.values())))
        # Of training: test texts are not for reading before the methods have answered.
        one = self.splits["train"].drop_duplicates("label").set_index("label")["text"].map(_beginning)
        rows = [(*row, one.get(row[0], "")) for row in rows]
        return said + table(("label", "in words", *self.splits, "a training text"), rows)

    def draw(self, *, shots: int = 0, train_limit: int = 0, seed: int, short_classes: str = "error") -> "pd.DataFrame":
        """Draw training examples, seeded, nested (a smaller draw is contained in a larger one) and stratified.

        Args:
            shots: Examples per class; 0: no limit per class.
            train_limit: Examples (documents, where text is modelled) in all, classes in their proportions; 0: all.
            seed: The same seed gives the same draw.
            short_classes: What to do where a class has fewer than `shots` examples: "error", or "all" it has.

        Raises:
            FtlibError: Some class has fewer than `shots` examples and those it has are not to do; or there are fewer
                than `train_limit` in all; or `shots` was given for text to be modelled.
        """
        train = self.splits["train"]
        rng = np.random.default_rng(seed)
        order = train.iloc[rng.permutation(len(train))]
        if shots:
            return self._shots(order, shots, short_classes)
        if not train_limit or train_limit == len(train):
            return train
        if train_limit > len(train):
            raise FtlibError(
                f"{self.name}: train_limit = {train_limit}, but train has {len(train)} {KINDS[self.kind].example}s; "
                "0 takes them all"
            )
        if not self.has_labels:
            return order.iloc[:train_limit].sort_index()
        # Each example's place within its class, as a share of the class: cutting the sorted shares anywhere keeps the
        # classes in proportion and makes draws of different sizes nested.
        labels = order.groupby("label")
        share = ((labels.cumcount() + 0.5) / labels["label"].transform("size")).to_numpy()
        return order.iloc[np.sort(np.argsort(share, kind="stable")[:train_limit])].sort_index()

    def _shots(self, order: "pd.DataFrame", shots: int, short_classes: str) -> "pd.DataFrame":
        """The first `shots` training examples of each class in that order."""
        if not self.has_labels:
            raise FtlibError(
                f"{self.name}: shots = {shots} are examples per class, and {self.kind} tasks have no classes; "
                f"say how many {KINDS[self.kind].example}s with train_limit"
            )
        counts = order["label"].value_counts()
        short = {name: int(counts.get(name, 0)) for name in self.labels if counts.get(name, 0) < shots}
        if short and short_classes == "error":
            raise FtlibError(
                f"{self.name}: shots = {shots}, but train has fewer for {short}; choose fewer shots, or take what "
                'there is with short_classes = "all"'
            )
        return order[order.groupby("label").cumcount() < shots].sort_index()

    def test_set(self, eval_limit: int) -> "pd.DataFrame":
        """The test split, or `eval_limit` of its examples: the same ones whatever the run, so that runs are paired."""
        return limited(self.splits["test"], eval_limit)


def _beginning(said: str, most: int = 100) -> str:
    said = " ".join(said.split())
    return said if len(said) <= most else said[: most - 1].rstrip() + "…"


def limited(examples: "pd.DataFrame", most: int) -> "pd.DataFrame":
    """So many of the examples, the same ones every time; 0: all."""
    if not most or most >= len(examples):
        return examples
    return examples.iloc[np.sort(np.random.default_rng(0).permutation(len(examples))[:most])]


def make_task(
    name: str,
    splits: Mapping[str, "pd.DataFrame"],
    labels: tuple[str, ...] = (),
    label_words: Mapping[str, str] = MappingProxyType({}),
    *,
    kind: str = CLASSIFICATION,
    tests: Mapping[str, "pd.DataFrame"] = MappingProxyType({}),
    old: "pd.DataFrame | None" = None,
    **more,
) -> Task:
    """Build a task from checked splits, its content hash included; text to be modelled has no labels."""
    content = hashlib.sha256(repr(labels).encode())
    # After the splits, so that a task without other test sets keeps its hash.
    others = [*sorted(tests.items()), *([("old", old)] if old is not None else [])]
    for split, table in [*((split, splits[split]) for split in SPLITS), *others]:
        for column in table.columns:
            content.update(f"\x1e{split}\x1f{column}\x1e".encode())
            content.update("\x1f".join(table[column].astype(str)).encode())
    return Task(name, kind, splits, labels, label_words, content.hexdigest(), tests=dict(tests), old=old, **more)


def text_bytes(texts: Iterable[str]) -> int:
    """Bytes of texts in UTF-8, all together.

    >>> text_bytes(["na\u00efve", "."])
    7
    """
    return sum(len(text.encode()) for text in texts)


def data_file(name: str, file: str) -> Path | None:
    """A file of bundled data: beside the package in a checkout, inside it when installed; None where it is not."""
    package = Path(__file__).parents[1]
    paths = (folder / name / file for folder in (package.parent / "data", package / "_data"))
    return next((path for path in paths if path.is_file()), None)


def read_card(name: str) -> str:
    """The data card of a bundled task; empty where it is not."""
    card = data_file(name, "CARD.md")
    return card.read_text(encoding="utf-8") if card else ""
