"""TASKS: the bundled tasks, and `load_task`, which reads any task by its name."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ftlib.core.errors import FtlibError
from ftlib.data.task import Task

if TYPE_CHECKING:
    pass

TASKS: Mapping[str, str] = {
    "pydocs": "which Python library does this docstring describe? (real text from the installed packages)",
    "reviews": "does the customer like it? (short reviews of four kinds of things, written for this project)",
    "bios": "what does this person do for a living? (short biographies, written for this project)",
    "pydocs_text": "documentation text of Python libraries, to be modelled (real text from the installed packages)",
}
"""Bundled tasks: name -> the question it asks. `file:PATH` and `hub:ID[@revision]` read any other."""


PROBES: Mapping[str, str] = {
    "general": "bits per byte on general text (models that give a likelihood of text)",
    "features": "linear probes on the features, of the bundled tasks that the model is not adapted to",
}
"""What a plan may measure before and after, beside the task itself."""


def kind_of(name: str) -> str:
    """What a task asks for, told by its name and, for `file:`, by the files there; nothing of the data is read.

    Args:
        name: As in `Experiment.task`; a name that no task has counts as classification, and `load_task` refuses it.

    Returns:
        "language-modeling" for `pydocs_text`, a text file (`file:PATH.txt`) and a folder that holds `train.txt`;
        else "classification".

    >>> kind_of("pydocs"), kind_of("pydocs_text"), kind_of("file:letters.txt"), kind_of("hub:letters.txt")
    ('classification', 'language-modeling', 'language-modeling', 'classification')
    """
    if name.startswith("file:"):
        path = Path(name.removeprefix("file:"))
        modelled = (path / "train.txt").is_file() if path.is_dir() else path.suffix.lower() == ".txt"
    else:
        modelled = name == "pydocs_text"
    return "language-modeling" if modelled else "classification"


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
        name: As in `Experiment.task`; `kind_of` says which kind it is.
        text_column: Column that holds the text; "title+description" joins two. Empty: guessed from the usual names.
        label_column: Column that holds the label. Empty: guessed.
        label_words: What each label means, in words.
        group_columns: Columns that name groups.

    Raises:
        FtlibError: The data is missing, empty, ragged, mixed or ambiguous; says file, line, what was found. Or a
            column, label or group was named for text to be modelled, which has none.
    """
    if kind_of(name) == "language-modeling":
        asked = {"text_column": text_column, "label_column": label_column, "label_words": label_words}
        if given := [field for field, value in {**asked, "group_columns": group_columns}.items() if value]:
            raise FtlibError(
                f"{name}: is text to be modelled, without columns, labels or groups; leave out {' and '.join(given)}"
            )
        if name == "pydocs_text":
            from ftlib.data.pydocs import load_text
        else:
            from ftlib.data.files import load_texts as load_text
        return load_text(name)
    columns = {"text_column": text_column, "label_column": label_column, "group_columns": tuple(group_columns)}
    if name.startswith("file:"):
        from ftlib.data.files import load
    elif name.startswith("hub:"):
        from ftlib.data.hub import load
    elif name == "pydocs":
        from ftlib.data.pydocs import load
    elif name in TASKS:
        from ftlib.data.bundled import load
    else:
        from ftlib.core.errors import unknown

        raise unknown("task", name, TASKS)
    return load(name, label_words=dict(label_words or {}), **columns)
