"""Documents of plain text, and those that are bundled: ordinary English, to measure what adapting costs there."""

from itertools import groupby
from pathlib import Path

import pandas as pd

from ftlib.core.errors import FtlibError
from ftlib.data.kinds import KINDS
from ftlib.data.tabular import content_ids, decoded
from ftlib.data.task import Task, data_file


def load_general() -> pd.DataFrame:
    """Read the bundled excerpts; data/general/CARD.md says whose they are.

    Returns:
        A row per excerpt, about 1,000 bytes each: `id` (str), `text` (str; paragraphs are lines) and `cluster` (str,
        the id: no two excerpts are from one document).

    Raises:
        FtlibError: The file is neither beside the package nor inside it.

    >>> excerpts = load_general()
    >>> list(excerpts.columns), len(excerpts)
    (['id', 'text', 'cluster'], 96)
    """
    excerpts = _read("general.txt")
    return excerpts.assign(cluster=excerpts["id"])


def old() -> pd.DataFrame:
    """Read other general text, that a language model can be trained on again so as not to forget it: none of it is
    measured.

    Returns:
        As `load_general`.

    >>> read = old()
    >>> list(read.columns), len(read), set(read["text"]).isdisjoint(load_general()["text"])
    (['id', 'text'], 1000, True)
    """
    return _read("old.txt")


def old_examples(task: Task) -> pd.DataFrame | None:
    """What may be replayed though a run has no earlier task: the task's old examples, or general text; None: nothing.

    >>> from ftlib.data.registry import load_task
    >>> len(old_examples(load_task("pydocs_text"))), old_examples(load_task("reviews"))
    (1000, None)
    """
    return old() if task.old is None and KINDS[task.kind].of_text else task.old


def _read(name: str) -> pd.DataFrame:
    path = data_file("general", name)
    if path is None:
        raise FtlibError(
            f"general: its text, data/general/{name}, is not in this installation; "
            "install ftlib from a checkout, or leave the evaluation out"
        )
    return read_documents(path)


def read_documents(path: Path) -> pd.DataFrame:
    """The documents of one file, in their order: a frame with `id` and `text`.

    Raises:
        FtlibError: The file cannot be read, is not UTF-8, or holds no document.
    """
    documents = split_documents(decoded(path, path.name))
    if not documents:
        raise FtlibError(f"{path.name}: the file is empty")
    return pd.DataFrame({"id": content_ids(documents), "text": documents}, dtype="str")


def split_documents(text: str) -> list[str]:
    r"""The documents of a text: what stands between empty lines.

    >>> split_documents("One\n two.\n\n \n\nThree.\r\n\r\nFour.\n")
    ['One\n two.', 'Three.', 'Four.']
    """
    # Not splitlines(): a form feed or U+2028 inside a line does not end it.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return ["\n".join(block) for filled, block in groupby(lines, lambda line: bool(line.strip())) if filled]
