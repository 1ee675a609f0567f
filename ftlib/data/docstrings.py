"""Docstrings of an installed package, read from its source and stripped of what names the package."""

import ast
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

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
            if words and lines[0].strip().lower() not in (
                "explanation",
                "description",
                "introduction",
            ):
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
