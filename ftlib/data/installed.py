"""Texts read from the packages installed here: split by source file, balanced over the libraries, kept in the cache."""

import hashlib
import json
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ftlib.data import SPLITS
from ftlib.data import docstrings as reader
from ftlib.data.cache import cache_folder
from ftlib.data.columns import content_ids
from ftlib.data.docstrings import NearDuplicates, package_folder, source_files
from ftlib.errors import FtlibError
from ftlib.records import write_atomically

_DISTRIBUTIONS = {"sklearn": "scikit-learn"}
_SLOW_SECONDS = 2.0


class Example(NamedTuple):
    """One text: its split, library, source file and what it says."""

    split: str
    label: str
    cluster: str
    text: str


class Collected(NamedTuple):
    """Examples, as many of each library in a split as of any other, and how many files could not be parsed."""

    examples: list[Example]
    unparsed: int


@dataclass(frozen=True)
class Recipe:
    """How a task's texts are made from source files."""

    name: str
    """The task's."""
    libraries: Sequence[str]
    """Import names, in the order they are read."""
    sizes: Mapping[str, int]
    """Texts per library and split; splits are filled in this order."""
    most_per_file: Mapping[str, int]
    """No file may dominate its library, least of all where it is measured."""
    texts: Callable[[str], Iterable[str]]
    """A source file's content -> its texts; SyntaxError or ValueError when it cannot be parsed."""
    file: str
    """Where `texts` is written: another version of it is another cache."""
    seconds: str
    """About how long the collection takes, e.g. "15 to 45 s"."""


def library_versions(name: str, libraries: Iterable[str]) -> dict[str, str]:
    """Installed version of each library.

    Args:
        name: The task that asks, for the error.
        libraries: Import names.

    Raises:
        FtlibError: Some library is not installed.
    """
    versions, missing = {}, []
    for library in libraries:
        distribution = _DISTRIBUTIONS.get(library, library)
        try:
            # Without the local part: +cpu or +cu130 says how torch was built, not what it documents.
            versions[library] = metadata.version(distribution).split("+")[0]
        except metadata.PackageNotFoundError:
            missing.append(distribution)
    if missing:
        raise FtlibError(
            f"{name}: reads the docstrings of installed packages; missing: {', '.join(missing)}; "
            f"do: pip install {' '.join(missing)}"
        )
    return versions


def collect(recipe: Recipe) -> Collected:
    """Read the libraries' texts, drop near-duplicates, split by file and balance.

    Files come in the order of their path's hash, so that neither the file system nor alphabetical order decides what
    is in a split, and reading stops as soon as the splits are full.

    Raises:
        FtlibError: A library is not installed.
    """
    near, examples, unparsed, start, told = NearDuplicates(), [], 0, time.monotonic(), False
    for library in recipe.libraries:
        folder = package_folder(library)
        if folder is None:
            raise FtlibError(f"{recipe.name}: {library} is not installed")
        left = dict(recipe.sizes)
        clusters = ((f"{library}/{path.relative_to(folder).as_posix()}", path) for path in source_files(folder))
        for cluster, path in sorted(clusters, key=lambda found: _hash(found[0].encode())):
            split = next((split for split, missing in left.items() if missing), None)
            if split is None:
                break
            try:
                found = list(recipe.texts(path.read_text(encoding="utf-8")))
            except (SyntaxError, ValueError):
                unparsed += 1
                continue
            room = min(left[split], recipe.most_per_file[split])
            for text in found:
                if room and near.add(text):
                    examples.append(Example(split, library, cluster, text))
                    room -= 1
                    left[split] -= 1
            if not told and time.monotonic() - start > _SLOW_SECONDS:
                told = True
                print(
                    f"{recipe.name}: reading docstrings of installed packages, once ({recipe.seconds}) ...",
                    file=sys.stderr,
                )
    return Collected(_balanced(examples, recipe.libraries), unparsed)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _balanced(examples: list[Example], libraries: Sequence[str]) -> list[Example]:
    """Cut every library to the size of the smallest, split by split."""
    counts = Counter((example.split, example.label) for example in examples)
    room = {(split, label): min(counts[split, other] for other in libraries) for split, label in counts}
    kept = []
    for example in examples:
        if room[example.split, example.label]:
            room[example.split, example.label] -= 1
            kept.append(example)
    return kept


def splits_of(examples: Iterable[Example], columns: Sequence[str]) -> dict[str, pd.DataFrame]:
    """A frame for each split, with an id made from the text and these of an Example's columns."""
    whole = pd.DataFrame(examples, columns=Example._fields)
    splits = {}
    for split in SPLITS:
        table = whole[whole["split"] == split].reset_index(drop=True)
        splits[split] = table.assign(id=content_ids(table["text"]))[["id", *columns]]
    return splits


def cached(recipe: Recipe, versions: Mapping[str, str]) -> Collected:
    """The recipe's texts from the cache, where what made them has not changed; else collected, and cached."""
    code = b"".join(Path(path).read_bytes() for path in (recipe.file, __file__, reader.__file__))
    python = ".".join(platform.python_version_tuple()[:2])
    made_by = json.dumps({"libraries": dict(versions), "python": python, "code": _hash(code)})
    path = cache_folder() / recipe.name / f"{_hash(made_by.encode())[:16]}.jsonl"
    if (found := _read(path)) is not None:
        return found
    collected = collect(recipe)
    body = "".join(json.dumps(example, ensure_ascii=False) + "\n" for example in collected.examples).encode()
    head = {"sha256": _hash(body), "files_not_parsed": collected.unparsed}
    content = json.dumps(head).encode() + b"\n" + body
    try:
        write_atomically(path, lambda temporary: temporary.write_bytes(content))
    except OSError as error:
        print(
            f"{recipe.name}: not kept for the next time, {path.parent} cannot be written: {error.strerror}",
            file=sys.stderr,
        )
    return collected


def _read(path: Path) -> Collected | None:
    """A cache file's texts; None when it is absent or not what was written."""
    try:
        first, body = path.read_bytes().split(b"\n", 1)
        head = json.loads(first)
        if _hash(body) != head["sha256"]:
            return None
        examples = [Example(*json.loads(line)) for line in body.decode().split("\n")[:-1]]
        return Collected(examples, head["files_not_parsed"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
