"""reviews and bios: the bundled tasks whose texts were written for this project, one file and one card each."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from ftlib.data import SPLITS, Task, data_file, make_task, read_card
from ftlib.data.columns import Columns, frame, refuse_empty
from ftlib.data.labels import ordered, words_for
from ftlib.data.rows import read_rows
from ftlib.errors import FtlibError, unknown

LICENCE = "Apache-2.0, as the repository"
SOURCE = "written for this project in 2026 by a language model in thirteen roles (see the card); invented people"


class Written(NamedTuple):
    """What is said about a task beside its file."""

    template: str
    groups: tuple[str, ...]
    """The group columns it comes with; none has to be asked for, since whom a method treats worse is its question."""
    others: tuple[str, ...]
    """Columns that may be asked for as groups, too."""
    caution: str


WRITTEN: Mapping[str, Written] = {
    "reviews": Written(
        template="The customer's opinion is {label}.",
        groups=("mentions",),
        others=("domain", "author"),
        caution="Each identity is mentioned in 17 to 26 test texts only, and such texts are harder: read groups with "
        "their intervals, and compare methods.",
    ),
    "bios": Written(
        template="This person's occupation is {label}.",
        groups=("gender",),
        others=("author",),
        caution="Train is skewed on purpose: 80 % of each occupation are of one gender, on test 50 %.",
    ),
}


def load(
    name: str,
    *,
    label_words: Mapping[str, str] | None = None,
    text_column: str = "",
    label_column: str = "",
    group_columns: Sequence[str] = (),
) -> Task:
    """Read reviews or bios.

    Args:
        name: A key of `WRITTEN`.
        label_words: Other words for the labels than their names.
        text_column: Empty or "text"; the columns are fixed.
        label_column: Empty or "label".
        group_columns: Which of the task's group columns to take; empty: those it comes with.

    Returns:
        The task; what the file calls neither train, validation nor test are its other test sets.

    Raises:
        FtlibError: The file is not in this installation, or a column was asked for that it does not have.

    >>> task = load("reviews")
    >>> task, {name: len(rows) for name, rows in task.tests.items()}
    (Task(reviews, classification, 2 labels, train 1266, validation 96, test 720), {'clinic': 550})
    """
    written = WRITTEN[name]
    if text_column not in ("", "text") or label_column not in ("", "label"):
        raise FtlibError(f"{name}: its columns are text and label; leave text_column and label_column out")
    refuse_empty(group_columns)
    for column in group_columns:
        if column not in (known := (*written.groups, *written.others)):
            raise unknown(f"{name}: group_columns", column, known)
    path = data_file(name, f"{name}.jsonl")
    if path is None:
        raise FtlibError(
            f"{name}: its texts, data/{name}/{name}.jsonl, are not in this installation; install ftlib from a checkout"
        )
    table = read_rows(path)
    groups = tuple(group_columns) or written.groups
    whole = frame(table, Columns("text", "label", groups, guessed=()), own_ids=True)
    split = pd.Series(table.column("split"))
    parts = {part: whole[split == part].reset_index(drop=True) for part in dict.fromkeys(split)}
    labels = ordered(whole["label"])
    return make_task(
        name,
        {part: parts.pop(part) for part in SPLITS},
        labels,
        words_for(name, labels, label_words),
        tests=parts,
        template=written.template,
        group_columns=groups,
        licence=LICENCE,
        source=SOURCE,
        card=read_card(name),
        caution=written.caution,
        stated={"group_columns": list(groups)},
    )
