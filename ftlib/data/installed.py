"""Texts from the docstrings of installed packages: read from source, cleaned, split by file, balanced, kept in the
cache.

What names a package is masked, so that a text does not give its own label away.
"""

import ast
import hashlib
import json
import platform
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ftlib.core.atomic import cache_folder, write_atomically
from ftlib.core.errors import FtlibError
from ftlib.data.tabular import content_ids
from ftlib.data.task import SPLITS

SKIPPED_FOLDERS = frozenset(
    ("tests", "test", "testing", "_testing")
    + ("_vendor", "vendor", "vendored", "_vendored", "externals", "_external", "extern", "_extern", "third_party")
    + ("array_api_compat", "array_api_extra", "distutils")
)
"""Folders that hold tests, or another project's code."""

MASK = "_"
"""What stands where code or a name was: one token for most tokenizers, none for TF-IDF."""


def package_folder(package: str) -> Path | None:
    """Folder of an installed package, found without importing it; None when it is not installed.

    >>> package_folder("json").name
    'json'
    >>> package_folder("no_such_package")
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def source_files(folder: Path) -> list[Path]:
    """Every source file of a package but tests and vendored code, in the same order on every machine."""
    files = (path for path in folder.rglob("*.py") if not SKIPPED_FOLDERS & set(path.relative_to(folder).parts))
    kept = (path for path in files if not path.name.startswith(("test_", "conftest")))
    return sorted(kept, key=lambda path: path.relative_to(folder).as_posix())


def docstrings(source: str) -> Iterator[tuple[str, str]]:
    r"""Name and docstring of the module and of each public class and function in a source file.

    Raises:
        SyntaxError, ValueError: The file cannot be parsed by this Python.

    >>> list(docstrings('class A:\n    def f(self):\n        "Say it."\n    def _g(self):\n        "Hide it."'))
    [('A.f', 'Say it.')]
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # What Python thinks of the escapes in another project's strings.
        pending: list[tuple[str, ast.AST]] = [("", ast.parse(source))]
    for name, node in pending:
        text = ast.get_docstring(node)  # type: ignore[arg-type]
        if text:
            yield name or "module", text
        for child in ast.iter_child_nodes(node):
            # What is defined inside a function is nobody's documentation.
            inside = isinstance(node, (ast.Module, ast.ClassDef))
            described = isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            if inside and described and not child.name.startswith("_"):
                pending.append((f"{name}.{child.name}".lstrip("."), child))


HEADING = re.compile(
    r"(?i)(?:parameters?|params|args?|arguments|other parameters|keyword arg.*|kwargs|attributes?|properties|fields|"
    r"returns?|yields?|raises|warnings?|inputs?|outputs?|shape|methods|usage.*|syntax|(?:\w+ )?examples?|notes?|"
    r"see also|references?|todo|history|authors?|:\w+[^:`]*:(?!`).*):?"
)
"""A line that opens a section of a docstring."""

_UNDERLINE = re.compile(r"^\s*([-=~^*#+])\1{2,}\s*$")

_NOT_PROSE = re.compile(r"^\s*(?:>>>|\.\.|[-*+|]\s|\d+[.)]\s|[-=+|]{3,}|[@#|]|\$\$|```|\w+\s\(.*\)?:|.*\*optional\*)")


def description(docstring: str, *, enough: int, most: int) -> str:
    r"""The prose a docstring opens with: paragraphs up to its first section, until `enough` words; at most `most`.

    Lists, tables, directives, doctests and indented code are no prose.

    >>> description("Sort a list.\n\n    code()\n\nIt is stable.\n\nArgs:\n    a: List.", enough=5, most=9)
    'Sort a list. It is stable.'
    """
    words: list[str] = []
    for paragraph in re.split(r"\n[ \t]*\n", docstring.replace("\t", "    ")):
        lines = paragraph.strip("\n").splitlines()
        if len(lines) > 1 and _UNDERLINE.match(lines[1]):
            if words and lines[0].strip().lower() not in ("explanation", "description", "introduction"):
                break
            lines = lines[2:]
        prose = []
        for line in lines:
            if HEADING.fullmatch(line.strip()) or _UNDERLINE.match(line):
                break
            prose.append(line)
        if prose and not prose[0].startswith("    ") and not any(_NOT_PROSE.match(line) for line in prose):
            words += " ".join(prose).split()
        if len(words) >= enough or len(prose) < len(lines):
            break
    return " ".join(words if len(words) <= most else _whole_sentences(words[:most]))


def _whole_sentences(words: list[str]) -> list[str]:
    """Cut back to the last full stop, unless that loses more than half."""
    ends = [place for place, word in enumerate(words, 1) if word.endswith((".", "!", "?"))]
    return words[: ends[-1]] if ends and ends[-1] * 2 >= len(words) else words


_CODE = re.compile(
    r"""(?x)
      <[^<>\n]{1,80}>                                     # markup
    | (?::[\w:+.-]+:)?`{1,2}[^`]*`{1,2}_{0,2}             # roles and backticks
    | \$[^$]*\$ | \\\w+(?:\{[^}]*\})*                     # TeX
    | (?:https?|ftp|doi)[:/]\S+ | \bwww\.\S+              # addresses
    | %\([^)]*\)[sd] | \{[^{}]*\}                         # templates to be filled in
    | \b(?:[A-Za-z_]\w*\.)+(?!\s)[A-Za-z_]\w*(?:\(\S*\))? # dotted names
    | \b\w+\(\)                                           # calls
    | \b\w*_\w*\b                                         # snake_case
    | \b[A-Z]*[a-z0-9]+[A-Z]\w*\b                         # CamelCase
    | \[\d+\]_?                                           # footnotes
    """
)

_ABBREVIATION = re.compile(r"(?i)\b(e)\.g\.|\b(i)\.e\.")

# "Read more in the _." is one library's habit, and says nothing once the place is masked.
_POINTER = re.compile(
    r"(?i)(?:^|(?<=[.!?:_] ))(?:(?:for|to) [^.!?]*?)?(?:please )?\b(?:read more in|see|refer to)\b[^.!?]*(?:[.!?]\s*|$)"
)

# Neighbouring marks, and the quotes, stars or brackets around one, say no more than one mark.
_MASKS = re.compile(rf"[\[*'\"]*(?:{MASK}[\s\]\[*'\"/:=,-]*)*{MASK}[\]*'\"]*(?!\w)")


def mask(text: str, names: re.Pattern[str]) -> str:
    """Replace code, identifiers, addresses and every match of `names` by one mark.

    >>> mask("Call `f(x)` or np.sort() on a NumPy array, e.g. via my_list.", re.compile("(?i)numpy"))
    'Call _ or _ on a _ array, eg via _.'
    """
    text = _ABBREVIATION.sub(lambda found: "eg" if found[1] else "ie", text)
    text = names.sub(MASK, _CODE.sub(MASK, text)).replace("`", "").replace(MASK * 2, MASK)
    return _POINTER.sub("", " ".join(_MASKS.sub(MASK, text).split())).strip()


class NearDuplicates:
    """Remembers four-word sequences of texts, to tell a new text from one that repeats what was there.

    >>> near = NearDuplicates()
    >>> near.add("Return the number of nodes."), near.add("return the number of nodes!"), near.add("Draw a red line.")
    (True, False, True)
    >>> near.add("Draw a red line, but only where a blue one has not been drawn before.")
    False
    """

    def __init__(self, share: float = 0.5) -> None:
        self.share = share
        self.sizes: list[int] = []
        self.places: dict[tuple[str, ...], list[int]] = {}

    def add(self, text: str) -> bool:
        """Remember a text; False, and nothing remembered, when it is a near-duplicate.

        It is one when more than `share` of its own sequences were seen before, or when it repeats more than `share`
        of those of one earlier text.
        """
        words = re.findall(r"[a-z]+", text.lower())
        sequences = {tuple(words[start : start + 4]) for start in range(max(1, len(words) - 3))}
        seen = [sequence for sequence in sequences if sequence in self.places]
        repeated = Counter(number for sequence in seen for number in self.places[sequence])
        if len(seen) > self.share * len(sequences) or any(
            count > self.share * self.sizes[number] for number, count in repeated.items()
        ):
            return False
        for sequence in sequences:
            self.places.setdefault(sequence, []).append(len(self.sizes))
        self.sizes.append(len(sequences))
        return True


_DISTRIBUTIONS = {"sklearn": "scikit-learn", "rest_framework": "djangorestframework", "allauth": "django-allauth"}

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
            f"{name}: reads installed packages; missing: {', '.join(missing)}; "
            f"do: pip install {' '.join(missing)}, or 'ftlib[data]'"
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
                said = f"{recipe.name}: reading docstrings of installed packages, once ({recipe.seconds}) ..."
                print(said, file=sys.stderr)
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
    code = b"".join(Path(path).read_bytes() for path in (recipe.file, __file__))
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
        said = f"{recipe.name}: not kept for the next time, {path.parent} cannot be written: {error.strerror}"
        print(said, file=sys.stderr)
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
