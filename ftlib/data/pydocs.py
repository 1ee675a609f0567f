"""pydocs: which Python library does this docstring describe? Real text, read from the packages installed here."""

import hashlib
import json
import platform
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ftlib.data import SPLITS, Task, make_task, read_card
from ftlib.data import docstrings as source_reader
from ftlib.data.cache import cache_folder
from ftlib.data.docstrings import MASK, NearDuplicates, description, docstrings, mask, package_folder, source_files
from ftlib.data.labels import words_for
from ftlib.errors import FtlibError
from ftlib.records import write_atomically

LIBRARIES: Mapping[str, str] = {
    "matplotlib": "drawing plots, axes, colors and fonts",
    "networkx": "graphs, nodes and edges",
    "pandas": "data tables: series, columns, index, dates",
    "scipy": "numerical computing: signals, statistics, optimization, interpolation",
    "sklearn": "machine learning: fitting classifiers and regression on features",
    "sympy": "symbolic mathematics: expressions, polynomials, equations, geometry",
    "torch": "tensors, GPU kernels, compilers and distributed training",
    "transformers": "pretrained models: attention, tokens, images, audio, generation",
}
"""The labels (a library's import name), and what each library is for, in words that do not name it."""

TEMPLATE = "Documentation of a Python library for {label}."
SIZES: Mapping[str, int] = {"test": 150, "validation": 75, "train": 600}
"""Examples per library; a file's docstrings all go to one split, filled in this order."""

MOST_PER_FILE: Mapping[str, int] = {"test": 12, "validation": 12, "train": 30}
"""No file may dominate its library, least of all where it is measured."""

FEWEST_WORDS, ENOUGH_WORDS, MOST_WORDS = 8, 30, 60

_NAMES = re.compile(
    r"(?i)\w*(?:torch|numpy|scipy|pandas|sklearn|scikit|matplotlib|networkx|sympy|hugging\s?face)\w*(?:[- ]?learn\b)?"
    r"|\b(?:transformers|np|pd|plt|nx|mpl\w*|pyplot|pylab|sympi\w+|hf|aten)\b|🤗"
)
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}
_SLOW_SECONDS = 2.0


class Example(NamedTuple):
    """One description: its split, library, source file and masked text."""

    split: str
    label: str
    cluster: str
    text: str


def load(
    name: str = "pydocs",
    *,
    label_words: Mapping[str, str] | None = None,
    text_column: str = "",
    label_column: str = "",
    group_columns: tuple[str, ...] = (),
) -> Task:
    """Read pydocs, from the cache or from the packages themselves.

    Args:
        name: "pydocs".
        label_words: Other words for the libraries than `LIBRARIES` has.
        text_column: Empty or "text"; the columns are fixed.
        label_column: Empty or "label".
        group_columns: Empty; the examples belong to no groups of people.

    Raises:
        FtlibError: A library is not installed, or a column was asked for that pydocs does not have.
    """
    if text_column not in ("", "text") or label_column not in ("", "label") or group_columns:
        raise FtlibError("pydocs: its columns are text and label, without groups; leave the columns out")
    versions = library_versions()
    examples, unparsed = _cached(versions)
    splits = {}
    for split in SPLITS:
        table = pd.DataFrame([example for example in examples if example.split == split], columns=Example._fields)
        table.insert(0, "id", [hashlib.sha256(text.encode()).hexdigest()[:12] for text in table["text"]])
        splits[split] = table[["id", "text", "label", "cluster"]]
    labels = tuple(sorted(LIBRARIES))
    read = ", ".join(f"{library} {version}" for library, version in versions.items())
    return make_task(
        "pydocs",
        splits,
        labels,
        words_for("pydocs", labels, label_words or LIBRARIES),
        template=TEMPLATE,
        licence="each docstring under its own library's licence (see the card); read in place, not redistributed",
        source=f"docstrings of {read}",
        card=read_card("pydocs"),
        stated={
            "libraries": dict(versions),
            "files_not_parsed": unparsed,
            "splits": "by source file, seeded by its path",
        },
    )


def library_versions() -> dict[str, str]:
    """Installed version of each library.

    Raises:
        FtlibError: Some library is not installed.
    """
    versions, missing = {}, []
    for library in LIBRARIES:
        distribution = _DISTRIBUTIONS.get(library, library)
        try:
            # Without the local part: +cpu or +cu130 says how torch was built, not what it documents.
            versions[library] = metadata.version(distribution).split("+")[0]
        except metadata.PackageNotFoundError:
            missing.append(distribution)
    if missing:
        raise FtlibError(
            f"pydocs: reads the docstrings of installed packages; missing: {', '.join(missing)}; "
            f"do: pip install {' '.join(missing)}"
        )
    return versions


def collect(
    libraries: tuple[str, ...] = tuple(LIBRARIES), sizes: Mapping[str, int] = SIZES
) -> tuple[list[Example], int]:
    """Read the libraries' docstrings, mask, drop near-duplicates, split by file and balance.

    Files come in the order of their path's hash, so that neither the file system nor alphabetical order decides what
    is in a split, and reading stops as soon as the splits are full.

    Returns:
        The examples, as many of each library in a split as of any other, and how many files could not be parsed.
    """
    near, examples, unparsed, start, told = NearDuplicates(), [], 0, time.monotonic(), False
    for library in libraries:
        folder = package_folder(library)
        if folder is None:
            raise FtlibError(f"pydocs: {library} is not installed")
        left = dict(sizes)
        ranked = sorted(
            (_rank(f"{library}/{path.relative_to(folder).as_posix()}"), path) for path in source_files(folder)
        )
        for _, path in ranked:
            split = next((split for split, missing in left.items() if missing), None)
            if split is None:
                break
            try:
                found = _masked(path.read_text(encoding="utf-8"))
            except (SyntaxError, ValueError):
                unparsed += 1
                continue
            room = min(left[split], MOST_PER_FILE[split])
            cluster = f"{library}/{path.relative_to(folder).as_posix()}"
            for text in found:
                if room and near.add(text):
                    examples.append(Example(split, library, cluster, text))
                    room -= 1
                    left[split] -= 1
            if not told and time.monotonic() - start > _SLOW_SECONDS:
                told = True
                print(
                    "pydocs: reading docstrings of installed packages, once (15 to 45 s) ...",
                    file=sys.stderr,
                )
    return _balanced(examples, libraries), unparsed


def _rank(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()


def _masked(source: str) -> list[str]:
    """The source file's descriptions that are long enough and mostly prose once masked."""
    texts = []
    for _, docstring in docstrings(source):
        text = mask(description(docstring, enough=ENOUGH_WORDS, most=MOST_WORDS), _NAMES)
        words = len(re.findall(r"[A-Za-z]{2,}", text))
        if words >= FEWEST_WORDS and text.count(MASK) * 3 <= words:
            texts.append(text)
    return texts


def _balanced(examples: list[Example], libraries: tuple[str, ...]) -> list[Example]:
    """Cut every library to the size of the smallest, split by split."""
    counts = Counter((example.split, example.label) for example in examples)
    room = {(split, label): min(counts[split, other] for other in libraries) for split, label in counts}
    kept = []
    for example in examples:
        if room[example.split, example.label]:
            room[example.split, example.label] -= 1
            kept.append(example)
    return kept


def _cached(versions: Mapping[str, str]) -> tuple[list[Example], int]:
    """The examples from the cache, where what made them has not changed; else collected, and cached."""
    code = b"".join(Path(path).read_bytes() for path in (__file__, source_reader.__file__))
    python = ".".join(platform.python_version_tuple()[:2])
    made_by = json.dumps({"libraries": dict(versions), "python": python, "code": hashlib.sha256(code).hexdigest()})
    path = cache_folder() / "pydocs" / f"{hashlib.sha256(made_by.encode()).hexdigest()[:16]}.jsonl"
    if (found := _read(path)) is not None:
        return found
    examples, unparsed = collect()
    body = "".join(json.dumps(example, ensure_ascii=False) + "\n" for example in examples)
    head = {"sha256": hashlib.sha256(body.encode()).hexdigest(), "files_not_parsed": unparsed}
    content = (json.dumps(head) + "\n" + body).encode()
    try:
        write_atomically(path, lambda temporary: temporary.write_bytes(content))
    except OSError as error:
        print(
            f"pydocs: not kept for the next time, {path.parent} cannot be written: {error.strerror}",
            file=sys.stderr,
        )
    return examples, unparsed


def _read(path: Path) -> tuple[list[Example], int] | None:
    """A cache file's examples; None when it is absent or not what was written."""
    try:
        first, body = path.read_bytes().split(b"\n", 1)
        head = json.loads(first)
        if hashlib.sha256(body).hexdigest() != head["sha256"]:
            return None
        return [Example(*json.loads(line)) for line in body.decode().split("\n")[:-1]], head["files_not_parsed"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
