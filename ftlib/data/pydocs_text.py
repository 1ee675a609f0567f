"""pydocs_text: documentation of Python libraries, to be modelled. Real text, read from the packages installed here."""

import hashlib
import re

from ftlib.data import Task, make_task, read_card
from ftlib.data.docstrings import HEADING, description, docstrings
from ftlib.data.installed import Recipe, cached, library_versions, splits_of
from ftlib.data.pydocs import LIBRARIES, LICENCE

FEWEST_BYTES, MOST_BYTES = 300, 2000
OPENING_WORDS = 5
"""A document opens with this much prose at least; what starts with a list of arguments is a fragment."""

_ADDRESS = re.compile(r"(?i)[\w.+-]+\s?(?:@|\bat\b|\(at\))\s?[\w-]+\.(?:com|org|net|edu|gov|io|de|fr|uk|ch|ca|jp)\b")
_NOTICE = re.compile(
    r"(?i)\bcopyright\b|©|\ball rights reserved\b|\blicen[sc]ed under\b|\bauthors?\s*(?::|\n\s*[-=]{3})"
    r"|\b(?:thanks to|courtesy of|(?:written|contributed|provided|maintained) by) [A-Z]"
)
_HEADING_ONLY = re.compile(r".*(?::|\n\s*[-=~^]{3,})\s*", re.DOTALL)


def load(name: str = "pydocs_text") -> Task:
    """Read pydocs_text, from the cache or from the packages themselves.

    Args:
        name: "pydocs_text".

    Raises:
        FtlibError: A library is not installed.
    """
    versions = library_versions(name, LIBRARIES)
    found = cached(RECIPE, versions)
    return make_task(
        name,
        splits_of(found.examples, ("text", "cluster")),
        kind="language-modeling",
        licence=LICENCE,
        source="docstrings of " + ", ".join(f"{library} {version}" for library, version in versions.items()),
        card=read_card(name),
        stated={
            "libraries": versions,
            "files_not_parsed": found.unparsed,
            "splits": "by source file, seeded by its path",
        },
    )


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


RECIPE = Recipe(
    name="pydocs_text",
    libraries=tuple(LIBRARIES),
    sizes={"test": 25, "validation": 13, "train": 125},
    most_per_file={"test": 2, "validation": 2, "train": 5},
    texts=documents,
    file=__file__,
    seconds="10 to 30 s",
)
