"""Strict reading of CSV, TSV, JSONL and Parquet: what the file says, or an error that names file and line."""

import csv
import hashlib
import io
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftlib.core.errors import FtlibError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")

MOST_REPORTED = 5

_MOST_LINES = 100
"""Places named in one message."""

_FIELD_LIMIT = 2**31 - 1

_SPACED = re.compile(r'\s+"[^"]*"\s*')
"""A field that was meant to be in quotes."""

_OTHER_FORMATS = {
    b"\x1f\x8b": "compressed (gzip)", b"PK\x03\x04": "a zip archive, as Excel's .xlsx is", b"PAR1": "Parquet",
    b"\xd0\xcf\x11\xe0": "a file of old Excel", b"SQLite format 3": "a SQLite database",
}  # fmt: skip
"""First bytes of files that are no text, and what they are."""


@dataclass(frozen=True)
class Table:
    """A file's rows as they stand there, each with its place."""

    where: str
    unit: str
    """What a place is called: line, or row where the format has no lines."""
    lines: Sequence[int]
    columns: tuple[str, ...]
    column: Callable[[str], list[Any]]
    """All values of one column; MISSING where a row lacks it."""
    joined: Sequence[int] = ()
    """The places of rows that take several lines of the file, as fields in quotes may."""
    stated: Mapping[str, str] = field(default_factory=dict)
    """Choices made while reading it, for the record: what was left out, and why."""

    def at(self, row: int) -> str:
        """A row's place in words, e.g. "train.csv line 7"."""
        return f"{self.where} {self.unit} {self.lines[row]}"

    def told(self, found: Iterable[tuple[int, str]]) -> list[str]:
        """What is wrong, each thing once with all the places of its rows."""
        rows: dict[str, list[int]] = {}
        for row, said in found:
            rows.setdefault(said, []).append(self.lines[row])
        return [f"{self.where} {_named(places, self.unit)}: {said}" for said, places in rows.items()]


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING = _Missing()
"""A value that is not there: a JSONL key left out, a null."""


def all_of(problems: Iterable[str]) -> FtlibError:
    """Join one file's problems into one error: the first five, and how many more.

    >>> print(all_of(f"line {n}: blank" for n in range(1, 8)))
    7 problems:
      line 1: blank
      line 2: blank
      line 3: blank
      line 4: blank
      line 5: blank
      and 2 more
    """
    problems = list(problems)
    if len(problems) == 1:
        return FtlibError(problems[0])
    more = [f"and {len(problems) - MOST_REPORTED} more"] if len(problems) > MOST_REPORTED else []
    shown = [*problems[:MOST_REPORTED], *more]
    return FtlibError("\n  ".join([f"{len(problems)} problems:", *shown]), shown)


def read_rows(path: Path, where: str = "", quoting: str = "") -> Table:
    """Read one file strictly; its suffix says the format.

    Args:
        where: What to call it in errors; its name where empty.
        quoting: "none": quotation marks of a CSV or TSV are part of the text, and every line is one row. Empty: they
            enclose fields (RFC 4180).

    Raises:
        FtlibError: Not UTF-8, ragged, malformed or empty; or quotation marks would make one row of several.
    """
    where = where or path.name
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise FtlibError(
            f"{where}: found {suffix or 'no suffix'!r}; allowed: {', '.join(SUFFIXES)}; text to be modelled: .txt"
        )
    if quoting not in ("", "none"):
        raise FtlibError(f'quoting: found {quoting!r}; allowed: "none", or empty')
    if suffix == ".parquet":
        return _parquet(path, where)
    text = decoded(path, where)
    if not text.strip():
        raise FtlibError(f"{where}: the file is empty")
    if suffix in (".jsonl", ".ndjson"):
        return _jsonl(text, where)
    delimiter = "\t" if suffix == ".tsv" else ","
    return _lines(text, where, delimiter) if quoting else _delimited(text, where, delimiter, path)


def header(path: Path) -> tuple[str, ...]:
    """The columns of a file of rows, by its first line or its schema; none where they cannot be read."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES or not path.is_file():
        return ()
    if suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        try:
            return tuple(pyarrow.parquet.read_schema(path).names)
        except (pyarrow.ArrowException, OSError):
            return ()
    try:
        with path.open(encoding="utf-8-sig") as file:
            line = file.readline(2**16).rstrip("\r\n")
        if suffix in (".jsonl", ".ndjson"):
            first = json.loads(line)
            return tuple(first) if isinstance(first, dict) else ()
        return tuple(name.strip() for name in next(csv.reader([line], delimiter="\t" if suffix == ".tsv" else ","), []))
    except (OSError, ValueError, RecursionError, csv.Error):
        return ()


def decoded(path: Path, where: str) -> str:
    """The text of a file in strict UTF-8, without the byte order mark.

    Raises:
        FtlibError: It cannot be read, or is not text in UTF-8; says the line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FtlibError(f"{where}: cannot be read: {error.strerror}") from None
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise FtlibError(f"{where}: is UTF-16 (byte 0 is 0x{content[0]:02x}); save it as UTF-8")
    if kind := next((kind for start, kind in _OTHER_FORMATS.items() if content.startswith(start)), ""):
        raise FtlibError(f"{where}: is {kind} and no text; unpack it, or save it as {SUFFIXES[0]} in UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        lines = [n for n, line in enumerate(content.split(b"\n"), 1) if not _is_utf8(line)]
        raise FtlibError(
            f"{where} {_named(lines)}: byte {error.start} of the file (0x{content[error.start]:02x}) is not UTF-8; "
            "save it as UTF-8"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise FtlibError(f"{where} line {line}: holds a NUL character; this is not a text file")
    return text


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _lines(text: str, where: str, delimiter: str) -> Table:
    """A file in which quotation marks are as any other character: a line is a row."""
    rows: list[list[str]] = []
    lines: list[int] = []
    ragged: dict[int, list[int]] = {}
    header: list[str] = []
    for line, said in enumerate(_physical(text), 1):
        if not said:
            continue
        row = said.split(delimiter)
        if not header:
            header = [name.strip() for name in row]
        elif len(row) == len(header):
            rows.append(row)
            lines.append(line)
        else:
            ragged.setdefault(len(row), []).append(line)
    return _table(where, delimiter, header, rows, lines, _ragged(ragged, where, header))


def _ragged(found: Mapping[int, Sequence[int]], where: str, header: Sequence[str]) -> list[str]:
    """What is said of lines that have more or fewer fields than the header."""
    comment = "; the first line is read as the names of the columns" if header and header[0].startswith("#") else ""
    return [
        f"{where} {_named(lines)} {'has' if len(lines) == 1 else 'have'} {_count(n)}, the header has {len(header)}"
        f"{comment}"
        for n, lines in sorted(found.items(), key=lambda one: one[1][0])
    ]


def _physical(text: str) -> list[str]:
    """The lines of a file, whatever ends them; not splitlines(), which also ends one at U+2028."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _delimited(text: str, where: str, delimiter: str, path: Path) -> Table:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    spans: list[tuple[int, int, int]] = []  # The place in rows, the first and the last line.
    ragged: dict[int, list[int]] = {}
    broken = ""
    header: list[str] | None = None
    limit = csv.field_size_limit(_FIELD_LIMIT)  # One limit for the whole process: put back below.
    start = 1
    try:
        while True:
            try:
                row = next(reader)
            except StopIteration:
                break
            except csv.Error as error:  # The reader goes on with the next line.
                broken = broken or str(error)
                start = reader.line_num + 1
                continue
            line, start = start, reader.line_num + 1
            if not row:
                continue
            if header is None:
                header = [name.strip() for name in row]
            elif len(row) == len(header):
                if reader.line_num > line:
                    spans.append((len(rows), line, reader.line_num))
                rows.append(row)
                lines.append(line)
            else:
                ragged.setdefault(len(row), []).append(line)
        physical = _physical(text)
        problems = _ragged(ragged, where, header or [])
        if broken:
            problems = [_unbalanced(physical, where, delimiter, broken, path)]
        elif across := _across(rows, spans, physical, delimiter):
            problems = [_spanning(across, where, path)]
        elif 2 * len(spaced := _spaced(rows, lines)) > len(rows):
            problems = [
                f"{where} {_named(spaced)}: a space stands before the quotation marks, which then belong to the "
                f"text; write no space after {'a comma' if delimiter == ',' else 'a tab'}"
            ]
    finally:
        csv.field_size_limit(limit)
    return _table(where, delimiter, header or [], rows, lines, problems, [first for _, first, _ in spans])


def _spaced(rows: Sequence[Sequence[str]], lines: Sequence[int]) -> list[int]:
    """Lines with a field that was meant to be in quotes and begins with a space."""
    return [line for line, row in zip(lines, rows, strict=True) if any(map(_SPACED.fullmatch, row))]


def _table(
    where: str,
    delimiter: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    lines: Sequence[int],
    problems: Sequence[str],
    joined: Sequence[int] = (),
) -> Table:
    problems = _header_problems(header, where, delimiter) + list(problems)
    if problems:
        raise all_of(problems)
    if not rows:
        raise FtlibError(f"{where}: has a header and no rows")
    columns = tuple(header)

    def column(name: str) -> list[str]:
        place = columns.index(name)
        return [row[place] for row in rows]

    return Table(where, "line", lines, columns, column, joined)


def _unbalanced(physical: Sequence[str], where: str, delimiter: str, first: str, path: Path) -> str:
    """What is said of a file whose quotation marks do not balance: all lines that cannot be read by themselves."""
    found = []
    for line, said in enumerate(physical, 1):
        try:
            next(csv.reader([said], delimiter=delimiter, strict=True), None)
        except csv.Error:
            found.append(line)
    return (
        f"{where} {_named(found)}: {first}; a field that starts with a quote ends with one, and a quote inside is "
        f'doubled (""). {_go_on(path)}'
    )


def _across(
    rows: Sequence[Sequence[str]], spans: Iterable[tuple[int, int, int]], physical: Sequence[str], delimiter: str
) -> list[tuple[int, int]]:
    """The first and last lines of rows that look like several rows, which quotation marks have joined.

    A text may have line ends. What it has not is the rest of a row: a tab in a TSV; in a CSV, on a line that has as
    many fields as the header, a value inside the quotes that is another row's value of that column.
    """
    spans = list(spans)
    if not spans:
        return []
    several = {place for place, _, _ in spans}
    single = [row for place, row in enumerate(rows) if place not in several]
    # The quotation marks may have swallowed most rows: what stands outside them counts, too.
    values = [
        Counter(row[place].strip() for row in [*single, *(rows[at] for at in several)]) for place in range(len(rows[0]))
    ]
    least = 2 if len(rows) >= 20 else 1  # A text that stands there once is no value of a column of labels.
    usual = [{value for value, n in column.items() if value and n >= least} for column in values]

    def holds_a_row(fields: Sequence[str], first: int, last: int) -> bool:
        return any(fields[place].strip() in usual[place] for place in range(first, last))

    found = []
    for at, start, end in spans:
        wide = [place for place, value in enumerate(rows[at]) if re.search("[\r\n]", value)]
        inside = [rows[at][place] for place in wide]
        if delimiter == "\t":
            if any("\t" in value for value in inside):
                found.append((start, end))
            continue
        for line in range(start, end + 1):
            fields = physical[line - 1].split(delimiter)
            if len(fields) != len(rows[at]):
                continue
            first = wide[0] + 1 if line == start else 0
            last = wide[-1] if line == end else len(fields)
            if holds_a_row(fields, first, last):
                found.append((start, end))
                break
    return found


def _spanning(found: Sequence[tuple[int, int]], where: str, path: Path) -> str:
    shown = [f"{first} to {last}" for first, last in found]
    more = f" and {len(shown) - _MOST_LINES} more" if len(shown) > _MOST_LINES else ""
    lost = sum(last - first for first, last in found)
    return (
        f"{where} lines {', '.join(shown[:_MOST_LINES])}{more}: a quotation mark opens in one row and closes in "
        f"a later one, so that {lost + len(found)} lines would become {len(found)} "
        f"row{'s' * (len(found) > 1)}. {_go_on(path)}, or, where those line ends belong to a text, write the file as "
        ".jsonl"
    )


def _go_on(path: Path) -> str:
    return (
        'Where nothing is quoted in this file, say so: quoting = "none" in [defaults] of a study, '
        f'`ftlib check {shlex.quote(str(path))} --quoting none`, load_task(..., quoting="none")'
    )


def _named(lines: Sequence[int], unit: str = "line") -> str:
    """Lines, or rows, in words, neighbours together.

    >>> _named([2]), _named([2, 4, 5, 6, 9]), _named([1, 2], "row")
    ('line 2', 'lines 2, 4 to 6, 9', 'rows 1 to 2')
    """
    runs: list[list[int]] = []
    for line in lines:
        if runs and line == runs[-1][-1] + 1:
            runs[-1].append(line)
        else:
            runs.append([line])
    shown = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs]
    more = f" and {len(shown) - _MOST_LINES} more" if len(shown) > _MOST_LINES else ""
    return f"{unit}{'s' * (len(lines) != 1)} {', '.join(shown[:_MOST_LINES])}{more}"


def _count(fields: int) -> str:
    return "1 field" if fields == 1 else f"{fields} fields"


def _header_problems(header: Sequence[str], where: str, delimiter: str) -> list[str]:
    problems = [
        f"{where}: the header has {header.count(name)} columns named {name!r}"
        for name in dict.fromkeys(header)
        if header.count(name) > 1
    ]
    if len(header) == 1 and (other := next((mark for mark in ";\t|," if mark in header[0]), None)):
        problems.append(
            f"{where}: the header is one column, {header[0]!r}; separate columns by "
            f"{'tabs' if delimiter != ',' else 'commas'}, not {other!r}"
        )
    return problems


def refuse_one_document(first: str, where: str) -> None:
    """Say once, instead of line by line, that what should be lines of JSON is JSON as a whole.

    Args:
        first: The first line that is not blank.

    Raises:
        FtlibError: It opens a list of objects, or an object that ends on another line.
    """
    if "".join(first.split())[:2] in ("[", "{", "[{"):
        raise FtlibError(
            f"{where}: is one JSON document; each line is one object {{...}} of its own (JSON Lines, as "
            "`jq -c '.[]' FILE` writes the objects of a list)"
        )


def _jsonl(text: str, where: str) -> Table:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    problems: list[str] = []
    # Not splitlines(): a text may hold U+2028, which is no end of line in JSON.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        if not rows and not problems:
            refuse_one_document(line, where)
        try:
            row = json.loads(line, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
            json.dumps(row, ensure_ascii=False).encode()  # Half a surrogate pair is valid JSON and no text.
        except (ValueError, RecursionError) as error:
            problems.append(f"{where} line {number}: not valid JSON: {error}")
            continue
        if isinstance(row, dict):
            rows.append(row)
            lines.append(number)
        else:
            problems.append(f"{where} line {number}: found {type(row).__name__}; each line is one object {{...}}")
    if problems:
        raise all_of(problems)
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    if not columns:
        raise FtlibError(f"{where}: every line is an empty object {{}}; a row has a text and a label")
    return Table(where, "line", lines, columns, lambda name: [known(row.get(name)) for row in rows])


def known(value: Any) -> Any:
    """The value, or MISSING for null and NaN."""
    return MISSING if value is None or value != value else value  # NaN differs from itself.


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key appears twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def _parquet(path: Path, where: str) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise FtlibError(f"{where}: cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    if not table.num_rows:
        raise FtlibError(f"{where}: has no rows")
    if problems := _header_problems(table.column_names, where, ","):
        raise all_of(problems)

    def column(name: str) -> list[Any]:
        return [known(value) for value in table.column(name).to_pylist()]

    return Table(where, "row", range(1, table.num_rows + 1), tuple(table.column_names), column)


def content_ids(texts: Iterable[str]) -> list[str]:
    """Twelve hex digits of each text's SHA-256; a text's second occurrence gets "-2", and so on.

    >>> content_ids(["a", "b", "a"])
    ['ca978112ca1b', '3e23e8160039', 'ca978112ca1b-2']
    """
    seen: Counter[str] = Counter()
    ids = []
    for text in texts:
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        seen[digest] += 1
        ids.append(digest if seen[digest] == 1 else f"{digest}-{seen[digest]}")
    return ids
