"""pydocs: which Python library does this docstring describe? Real text, read from the packages installed here."""

import re
from collections.abc import Mapping

from ftlib.data import Task, make_task, read_card
from ftlib.data.docstrings import MASK, description, docstrings, mask
from ftlib.data.installed import Recipe, cached, library_versions, splits_of
from ftlib.data.labels import words_for
from ftlib.errors import FtlibError

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
    versions = library_versions("pydocs", LIBRARIES)
    found = cached(RECIPE, versions)
    labels = tuple(sorted(LIBRARIES))
    read = ", ".join(f"{library} {version}" for library, version in versions.items())
    return make_task(
        "pydocs",
        splits_of(found.examples, ("text", "label", "cluster")),
        labels,
        words_for("pydocs", labels, label_words or LIBRARIES),
        template=TEMPLATE,
        licence=LICENCE,
        source=f"docstrings of {read}",
        card=read_card("pydocs"),
        stated={
            "libraries": dict(versions),
            "files_not_parsed": found.unparsed,
            "splits": "by source file, seeded by its path",
        },
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
