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
    path = data_file("general", "general.txt")
    if path is None:
        raise FtlibError(
            "general: its text, data/general/general.txt, is not in this installation; "
            "install ftlib from a checkout, or leave the probe out"
        )
    excerpts = read_documents(path)
    return excerpts.assign(cluster=excerpts["id"])
