"""TASKS: the bundled tasks, and `load_task`, which reads any task by its name."""

import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ftlib.core.errors import FtlibError, unknown
from ftlib.data.kinds import CLASSIFICATION, KINDS, LANGUAGE_MODELING, TEXT_TO_TEXT, directed
from ftlib.data.task import Task


class Bundled(NamedTuple):
    """One row of the table."""

    question: str
    """What the task asks, for `ftlib list tasks`."""
    load: str = "ftlib.data.bundled:load"
    """The function that reads it, given its name; of a task with labels, the columns too."""
    kind: str = CLASSIFICATION


TASKS: Mapping[str, Bundled] = MappingProxyType(
    {
        "pydocs": Bundled(
            "which Python library does this docstring describe? (real text from the installed packages)",
            "ftlib.data.pydocs:load",
        ),
        "reviews": Bundled(
            "does the customer like it? (short reviews of four kinds of things, written for this project)"
        ),
        "bios": Bundled("what does this person do for a living? (short biographies, written for this project)"),
        "pydocs_text": Bundled(
            "documentation text of Python libraries, to be modelled (real text from the installed packages)",
            "ftlib.data.pydocs:load_text",
            LANGUAGE_MODELING,
        ),
        "uistrings": Bundled(
            "German for the English strings of an interface (real catalogs of the installed packages)",
            "ftlib.data.uistrings:load",
            TEXT_TO_TEXT,
        ),
    }
)
"""Bundled tasks, by name. `file:PATH` and `hub:ID[@revision]` read any other."""


def kind_of(name: str) -> str:
    """What a task asks for, told by its name and, for `file:`, by the files there; nothing of the data is read.

    Args:
        name: As in `Experiment.task`; a name that no task has counts as classification, and `load_task` refuses it.

    Returns:
        A name of KINDS: a bundled task's own; "language-modeling" for a text file (`file:PATH.txt`) and a folder that
        holds `train.txt`; "text-to-text" for a table with the columns source and target, and for a name with a
        direction (`hub:ID:en>de`); else "classification".

    >>> kind_of("pydocs"), kind_of("pydocs_text"), kind_of("file:letters.txt"), kind_of("hub:letters.txt")
    ('classification', 'language-modeling', 'language-modeling', 'classification')
    >>> kind_of("hub:opus_books/de-en:en>de")
    'text-to-text'
    """
    if directed(name)[1]:
        return next(kind.name for kind in KINDS.values() if kind.pair)
    if name.startswith("file:"):
        path = Path(name.removeprefix("file:"))
        return next((kind.name for kind in KINDS.values() if kind.owns(path)), CLASSIFICATION)
    return TASKS[name].kind if name in TASKS else CLASSIFICATION


def load_task(
    name: str,
    *,
    text_column: str = "",
    label_column: str = "",
    label_words: Mapping[str, str] | None = None,
    group_columns: tuple[str, ...] | list[str] = (),
    quoting: str = "",
) -> Task:
    """Read a task by name: a bundled one, `file:PATH`, or `hub:ID[@revision]`.

    Args:
        name: As in `Experiment.task`; `kind_of` says which kind it is.
        text_column: Column that holds the text; "title+description" joins two. Empty: guessed from the usual names.
        label_column: Column that holds the label. Empty: guessed.
        label_words: What each label means, in words.
        group_columns: Columns that name groups.
        quoting: "none": quotation marks of a CSV or TSV are part of the text, and every line is one row. Empty: they
            enclose fields.

    Raises:
        FtlibError: The data is missing, empty, ragged, mixed or ambiguous; says file, line, what was found. Or a
            column, label or group was named for text to be modelled, which has none.
    """
    if isinstance(group_columns, str):
        raise FtlibError(f"group_columns: found the text {group_columns!r}; write a list: [{group_columns!r}]")
    columns = {"text_column": text_column, "label_column": label_column}
    asked = {**columns, "label_words": label_words, "group_columns": group_columns}
    kind = KINDS[kind_of(name)]
    if quoting and (not name.startswith("file:") or kind.of_text):
        raise FtlibError(f"{name}: quoting is for file: tasks with a table; leave it out")
    if name.startswith("file:"):
        load = kind.function("read")
    elif name.startswith("hub:"):
        load = pkgutil.resolve_name("ftlib.data.hub:load")
    elif name in TASKS:
        load = pkgutil.resolve_name(TASKS[name].load)
    else:
        raise unknown("task", name, TASKS)
    if not kind.of_text:
        more = {"quoting": quoting} if quoting else {}
        return load(name, label_words=dict(label_words or {}), **columns, group_columns=tuple(group_columns), **more)
    if given := [field for field, value in asked.items() if value]:
        raise FtlibError(
            f"{name}: is text to be modelled, without columns, labels or groups; leave out {' and '.join(given)}"
        )
    return load(name)
