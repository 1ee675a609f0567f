"""uistrings: English interface strings and their German, read from the message catalogs of installed packages.

Strings of a notebook editor are to be learned; those of websites, in another vocabulary and by other translators, show
what that costs elsewhere.
"""

import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ftlib.core.errors import FtlibError
from ftlib.data.installed import NearDuplicates, library_versions, package_folder
from ftlib.data.kinds import TEXT_TO_TEXT
from ftlib.data.tabular import content_ids
from ftlib.data.task import SPLITS, Task, make_task, read_card

DOMAINS: Mapping[str, tuple[str, ...]] = {
    "notebooks": ("jupyterlab_language_pack_de_DE",),
    "websites": ("django", "rest_framework", "allauth"),
}
"""Domain -> import names of its packages. The first is learned; of the others, what is not old examples is a test
set."""

LANGUAGES = ("de", "de_DE")
"""What the folder of a catalog is called."""

LICENCE = "each string under its own package's licence (BSD or MIT, see the card); read in place, not redistributed"

FEWEST_WORDS, MOST_WORDS = 2, 60

PARTS = {"test": 30, "validation": 10}
"""Percent of the families of strings; the others are for training."""

PLACEHOLDER = re.compile(
    r"%\(\w+\)[-#0+]*\d*(?:\.\d+)?[a-zA-Z]"  # %(name)s
    r"|%(?:\d+\$)?[-#0+]*\d*(?:\.\d+)?[sdifrxu](?![a-zA-Z])|%\d+"  # %s, %1$s, %1
    r"|\$?\{[\w.!:]*\}"  # {}, {name}, ${name}
    r"|</?[a-zA-Z][^<>]*>"  # <b>, </a>
)
"""What the program fills in or reads as markup: the same on both sides, or the pair is none."""

_MARKS = (
    re.compile(r"(?:(?<![&=\dA-Z])&(?=\w)|(?<=[A-Z])&(?=[a-z]))(?!\w+;)"),
    re.compile(r"(?<!\w)_(?=[^\W_])(?!\w*_)"),
)
"""Before the letter that is to be pressed: & of Qt and Windows, _ of GTK."""


class Pair(NamedTuple):
    """A string and its translation."""

    source: str
    target: str


def load(name: str = "uistrings", **asked: object) -> Task:
    """Read uistrings from the packages' catalogs; no module of them is imported.

    Raises:
        FtlibError: A package is not installed, a catalog cannot be read, or columns were asked for.
    """
    if given := [field for field, value in asked.items() if value]:
        raise FtlibError(f"{name}: has a source and a target, and nothing to choose; leave out {' and '.join(given)}")
    versions = library_versions(name, [package for packages in DOMAINS.values() for package in packages])
    near = NearDuplicates(), NearDuplicates()
    domains = {domain: list(fit(pairs(packages), *near)) for domain, packages in DOMAINS.items()}
    learned, *others = (divided(frame(found)) for found in domains.values())
    return make_task(
        name,
        learned,
        kind=TEXT_TO_TEXT,
        tests={
            domain: pd.concat([parts["validation"], parts["test"]], ignore_index=True)
            for domain, parts in zip(list(domains)[1:], others, strict=True)
        },
        old=pd.concat([parts["train"] for parts in others], ignore_index=True),
        licence=LICENCE,
        source="message catalogs of " + ", ".join(f"{package} {version}" for package, version in versions.items()),
        card=read_card(name),
        stated={
            "packages": dict(versions),
            "direction": "English to German",
            "splits": f"{PARTS['test']} % test, {PARTS['validation']} % validation, by how the English begins",
        },
    )


def frame(found: list[Pair]) -> pd.DataFrame:
    """The pairs as a table: id, text (English), label (German) and cluster (how the English begins)."""
    table = pd.DataFrame(found, columns=["text", "label"], dtype="str")
    return table.assign(
        id=content_ids(f"{one}\x1f{other}" for one, other in found), cluster=table["text"].map(opening)
    )[["id", "text", "label", "cluster"]]


def divided(whole: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The pairs of each split, by the families of their English."""
    parts = whole["cluster"].map(part_of)
    return {split: whole[parts == split].reset_index(drop=True) for split in SPLITS}


def opening(source: str) -> str:
    """The first four letters of a string's first two words: what begins alike is a family, as a rule.

    >>> opening("Enter a valid URL."), opening("%(n)d items deleted"), opening("Item deleted")
    ('ente a', 'item dele', 'item dele')
    """
    words = re.findall(r"[^\W\d_]+", PLACEHOLDER.sub(" ", source).casefold())
    return " ".join(word[:4] for word in words[:2])


def part_of(cluster: str) -> str:
    """The split of a family, decided by nothing but its name: another version of a package moves none."""
    place = int(sha256(cluster.encode()).hexdigest(), 16) % 100
    return "test" if place < PARTS["test"] else "validation" if place < sum(PARTS.values()) else "train"


def pairs(packages: tuple[str, ...]) -> Iterator[Pair]:
    """Every translated string of the packages, as it stands in their catalogs, plural forms each for itself."""
    for package in packages:
        for path in catalogs(package):
            yield from messages(path)


def catalogs(package: str) -> list[Path]:
    """The package's German catalogs, in the same order everywhere: compiled ones, and sources without a compiled one.

    Raises:
        FtlibError: There is none.
    """
    folder = package_folder(package)
    found = [] if folder is None else [p for p in folder.rglob("*.[mp]o") if p.parent.parent.name in LANGUAGES]
    kept = [path for path in found if path.suffix == ".mo" or not path.with_suffix(".mo").exists()]
    if folder is None or not kept:
        raise FtlibError(f"uistrings: {package} has no German message catalog here; install it again with pip")
    return sorted(kept, key=lambda path: path.relative_to(folder).as_posix())


def messages(path: Path) -> Iterator[Pair]:
    """The translated strings of a catalog; those marked as uncertain (fuzzy) are none.

    Raises:
        FtlibError: It is no catalog.
    """
    from babel.messages.mofile import read_mo
    from babel.messages.pofile import PoFileError, read_po

    try:
        with path.open("rb") as file:
            catalog = read_mo(file) if path.suffix == ".mo" else read_po(file, abort_invalid=True, ignore_obsolete=True)
    except (OSError, ValueError, LookupError, struct.error, PoFileError) as error:
        raise FtlibError(f"uistrings: {path} cannot be read as a message catalog ({error}); install it anew") from None
    for message in catalog:
        forms = [(message.id, message.string)]
        if isinstance(message.id, list | tuple):
            forms = list(zip(message.id, message.string, strict=False))
        yield from (Pair(*form) for form in forms if all(form) and not message.fuzzy)


def fit(found: Iterator[Pair], *near: NearDuplicates) -> Iterator[Pair]:
    """The pairs that can be learned from and measured on, as a reader sees them.

    Left out are strings of fewer than two words beside placeholders, which mean different things in different places,
    or over sixty; pairs that are the same, or do not have the same placeholders, on both sides; and near-duplicates
    on either side.

    >>> rows = [("&Open a %s", "Ein %s &öffnen"), ("Save the %s", "Sichern"), ("Close", "Schließen"), ("A b", "A b")]
    >>> list(fit([Pair(*row) for row in rows], NearDuplicates()))
    [Pair(source='Open a %s', target='Ein %s öffnen')]
    """
    for raw in found:
        pair = unmarked(Pair(*(" ".join(side.split()) for side in raw)))
        held = [Counter(PLACEHOLDER.findall(side)) for side in pair]
        said = [PLACEHOLDER.sub(" ", side) for side in pair]
        words = len(re.findall(r"[^\W\d_]+", said[0]))
        if not FEWEST_WORDS <= words <= MOST_WORDS or held[0] != held[1] or said[0].casefold() == said[1].casefold():
            continue
        if all(seen.add(side) for seen, side in zip(near, said, strict=False)):
            yield pair


def unmarked(pair: Pair) -> Pair:
    """The pair without the marks of keyboard shortcuts: a mark is there once on each side; other signs are text.

    >>> unmarked(Pair("E&xit", "&Beenden")), unmarked(Pair("_New file", "_Neue Datei"))
    (Pair(source='Exit', target='Beenden'), Pair(source='New file', target='Neue Datei'))
    >>> unmarked(Pair("Q&A of _x_", "F&A von _x_"))
    Pair(source='Q&A of _x_', target='F&A von _x_')
    """
    for mark in _MARKS:
        if all(len(mark.findall(side)) == 1 for side in pair):
            pair = Pair(*(mark.sub("", side) for side in pair))
    return pair
