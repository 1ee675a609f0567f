"""pydocs and pydocs_text: real text from the documentation of Python libraries, read from the packages installed here.

pydocs asks which library a docstring describes; pydocs_text is text to be modelled.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from ftlib.core.errors import FtlibError
from ftlib.data.installed import (
    HEADING,
    MASK,
    Collected,
    Recipe,
    cached,
    description,
    docstrings,
    library_versions,
    mask,
    splits_of,
)
from ftlib.data.labels import words_for
from ftlib.data.task import Task, make_task, read_card

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

LICENCE = "each docstring under its own library's licence (see the card); read in place, not redistributed"

FEWEST_WORDS, ENOUGH_WORDS, MOST_WORDS = 8, 30, 60

_NAMES = re.compile(
    r"(?i)\w*(?:torch|numpy|scipy|pandas|sklearn|scikit|matplotlib|networkx|sympy|hugging\s?face)\w*(?:[- ]?learn\b)?"
    r"|\b(?:transformers|np|pd|plt|nx|mpl\w*|pyplot|pylab|sympi\w+|hf|aten)\b|🤗"
)


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
        label_words: Other words for the libraries than `LIBRARIES` has.

    Raises:
        FtlibError: A library is not installed, or a column was asked for that pydocs does not have.
    """
    if text_column not in ("", "text") or label_column not in ("", "label") or group_columns:
        raise FtlibError("pydocs: its columns are text and label, without groups; leave the columns out")
    versions = library_versions("pydocs", LIBRARIES)
    found = cached(RECIPE, versions)
    labels = tuple(sorted(LIBRARIES))
    return make_task(
        "pydocs",
        splits_of(found.examples, ("text", "label", "cluster")),
        labels,
        words_for("pydocs", labels, label_words or LIBRARIES),
        template=TEMPLATE,
        **_provenance("pydocs", versions, found),
    )


def masked(source: str) -> list[str]:
    """The source file's descriptions that are long enough and mostly prose once masked."""
    texts = []
    for _, docstring in docstrings(source):
        text = mask(description(docstring, enough=ENOUGH_WORDS, most=MOST_WORDS), _NAMES)
        words = len(re.findall(r"[A-Za-z]{2,}", text))
        if words >= FEWEST_WORDS and text.count(MASK) * 3 <= words:
            texts.append(text)
    return texts


RECIPE = Recipe(
    name="pydocs",
    libraries=tuple(LIBRARIES),
    sizes={"test": 150, "validation": 75, "train": 600},
    most_per_file={"test": 12, "validation": 12, "train": 30},
    texts=masked,
    file=__file__,
    seconds="15 to 45 s",
)

FEWEST_BYTES, MOST_BYTES = 300, 2000

OPENING_WORDS = 5
"""A document opens with this much prose at least; what starts with a list of arguments is a fragment."""

_ADDRESS = re.compile(r"(?i)[\w.+-]+\s?(?:@|\bat\b|\(at\))\s?[\w-]+\.(?:com|org|net|edu|gov|io|de|fr|uk|ch|ca|jp)\b")

_NOTICE = re.compile(
    r"(?i)\bcopyright\b|©|\ball rights reserved\b|\blicen[sc]ed under\b|\bauthors?\s*(?::|\n\s*[-=]{3})"
    r"|\b(?:thanks to|courtesy of|(?:written|contributed|provided|maintained) by) [A-Z]"
)

_HEADING_ONLY = re.compile(r".*(?::|\n\s*[-=~^]{3,})\s*", re.DOTALL)


def load_text(name: str = "pydocs_text") -> Task:
    """Read pydocs_text, from the cache or from the packages themselves.

    Raises:
        FtlibError: A library is not installed.
    """
    versions = library_versions(name, LIBRARIES)
    found = cached(TEXT_RECIPE, versions)
    return make_task(
        name,
        splits_of(found.examples, ("text", "cluster")),
        kind="language-modeling",
        **_provenance(name, versions, found),
    )


def _provenance(name: str, versions: Mapping[str, str], found: Collected) -> dict[str, Any]:
    """Where the texts of a task are from."""
    return {
        "licence": LICENCE,
        "source": "docstrings of " + ", ".join(f"{library} {version}" for library, version in versions.items()),
        "card": read_card(name),
        "stated": {
            "libraries": dict(versions),
            "files_not_parsed": found.unparsed,
            "splits": "by source file, seeded by its path",
        },
    }


def documents(source: str) -> list[str]:
    """The source file's docstrings that read as documentation, in the order of their hashes.

    In the order of the file, a few per file would mostly be the descriptions of modules.
    """
    found = (document(docstring) for _, docstring in docstrings(source))
    return sorted(filter(None, found), key=lambda text: hashlib.sha256(text.encode()).hexdigest())


def document(docstring: str) -> str:
    r"""A docstring as a document: whole, or its first paragraphs of `MOST_BYTES` at most; empty where it is none.

    It is none when it is short, does not open with prose, gives an address of electronic mail, or is a notice of
    copyright, authorship or thanks.

    >>> text = "Sort the rows of a table in place.\n\n" + "They are compared from left to right. " * 8
    >>> document(text) == text.strip(), document("Args:\n    rows: " + text)
    (True, '')
    >>> document(text + "\n\nExamples:\n\n" + "x" * 1990) == text.strip()
    True
    """
    paragraphs = re.split(r"\n(?:[ \t]*\n)+", docstring.strip())
    first = paragraphs[0].partition("\n")[0].strip()
    if HEADING.fullmatch(first) or len(description(docstring, enough=OPENING_WORDS, most=60).split()) < OPENING_WORDS:
        return ""
    kept: list[str] = []
    for paragraph in paragraphs:
        if len("\n\n".join([*kept, paragraph]).encode("utf-8", "replace")) > MOST_BYTES:
            break
        kept.append(paragraph)
    # What announces the paragraph that was cut announces nothing.
    while len(kept) < len(paragraphs) and kept and _HEADING_ONLY.fullmatch(kept[-1]):
        kept.pop()
    text = "\n\n".join(kept).rstrip()
    if _ADDRESS.search(text) or _NOTICE.search(text) or not _is_text(text):
        return ""
    return text if len(text.encode()) >= FEWEST_BYTES else ""


def _is_text(text: str) -> bool:
    """Whether a text holds neither control characters nor halves of surrogate pairs, which escapes can make."""
    return all(mark.isprintable() or mark == "\n" for mark in text)


TEXT_RECIPE = Recipe(
    name="pydocs_text",
    libraries=tuple(LIBRARIES),
    sizes={"test": 25, "validation": 13, "train": 125},
    most_per_file={"test": 2, "validation": 2, "train": 5},
    texts=documents,
    file=__file__,
    seconds="10 to 30 s",
)
