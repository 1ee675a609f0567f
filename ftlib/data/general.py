"""The text of the probe "general": ordinary English, to measure what adapting to something else costs there."""

from typing import TYPE_CHECKING

from ftlib.data import data_file
from ftlib.data.texts import read_documents
from ftlib.errors import FtlibError

if TYPE_CHECKING:
    import pandas as pd


def load() -> "pd.DataFrame":
    """Read the bundled excerpts; data/general/CARD.md says whose they are.

    Returns:
        A row per excerpt, about 1,000 bytes each: `id` (str), `text` (str; paragraphs are lines) and `cluster` (str,
        the id: no two excerpts are from one document).

    Raises:
        FtlibError: The file is neither beside the package nor inside it.

    >>> excerpts = load()
    >>> list(excerpts.columns), len(excerpts)
    (['id', 'text', 'cluster'], 96)
    """
    excerpts = _read("general.txt")
    return excerpts.assign(cluster=excerpts["id"])


def old() -> "pd.DataFrame":
    """Read other general text, that a language model can be trained on again so as not to forget it: none of it is
    measured.

    Returns:
        As `load`.

    >>> read = old()
    >>> list(read.columns), len(read), set(read["text"]).isdisjoint(load()["text"])
    (['id', 'text'], 1000, True)
    """
    return _read("old.txt")


def _read(name: str) -> "pd.DataFrame":
    path = data_file("general", name)
    if path is None:
        raise FtlibError(
            f"general: its text, data/general/{name}, is not in this installation; "
            "install ftlib from a checkout, or leave the probe out"
        )
    return read_documents(path)
