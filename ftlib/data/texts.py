"""file:PATH.txt: text to be modelled, from one file or from a folder with one file per split."""

from itertools import groupby
from pathlib import Path

import pandas as pd

from ftlib.data import SPLITS, Task, make_task
from ftlib.data.columns import content_ids
from ftlib.data.files import NAMES, divide, normal, split_files
from ftlib.data.rows import SUFFIXES, decoded
from ftlib.errors import FtlibError

SET_ASIDE = 0.1
"""Share of the documents that becomes validation, and test, where there is none; one document at least."""

FEWEST = 3
"""One document for each split."""


def load(name: str) -> Task:
    """Read `file:PATH`: a text file, or a folder with train.txt, test.txt and perhaps validation.txt.

    Documents are separated by an empty line (or one of spaces only); the line ends of Windows are read as any others,
    and nothing else of the text is changed.

    Args:
        name: "file:" and a path, relative to the working directory.

    Raises:
        FtlibError: A file is missing, is not UTF-8 (says file and line) or holds too few documents; or the folder also
            has files of a table.
    """
    path = Path(name.removeprefix("file:"))
    files = split_files(path, (".txt",))
    stems = {stem for names in NAMES.values() for stem in names}
    beside = sorted(path.iterdir()) if path.is_dir() else []
    if tables := [file.name for file in beside if file.suffix.lower() in SUFFIXES and file.stem.lower() in stems]:
        raise FtlibError(f"{name}: holds text (train.txt) and tables ({', '.join(tables)}); keep one or the other")
    frames = {split: read_documents(file) for split, file in files.items()}
    splits, how = _splits(frames, path)
    stated = {"documents": "separated by an empty line", "ids": "hash of the text", "splits": how}
    return make_task(name, splits, kind="language-modeling", source=str(path), stated=stated)


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


def _splits(frames: dict[str, pd.DataFrame], path: Path) -> tuple[dict[str, pd.DataFrame], str]:
    """Divide what is not divided yet, and say how."""
    if "validation" in frames:
        return {split: frames[split] for split in SPLITS}, "as given"
    whole = "all" if "all" in frames else "train"
    new = ("validation", "test") if whole == "all" else ("validation",)
    different = frames[whole]["text"].map(normal).nunique()
    if different <= len(new):
        raise FtlibError(
            f"{path}: {len(frames[whole])} documents, {different} different, are too few for "
            f"{' and '.join(('train', *new))}; separate documents by an empty line, or add some"
        )
    share = max(SET_ASIDE, 1 / different)
    parts = divide(frames[whole], {"train": 1 - share * len(new), **dict.fromkeys(new, share)})
    how = "80/10/10 of one file, by hash of the document" if whole == "all" else "validation: 10 % of train, by hash"
    return {split: parts.get(split, frames.get(split)) for split in SPLITS}, how
