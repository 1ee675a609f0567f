"""Strict reading of CSV, TSV, JSONL and Parquet: what the file says, or an error that names file and line."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlib.core.errors import FtlibError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")

MOST_REPORTED = 5

_FIELD_LIMIT = 2**31 - 1


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

    def at(self, row: int) -> str:
        """A row's place in words, e.g. "train.csv line 7"."""
        return f"{self.where} {self.unit} {self.lines[row]}"


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


def read_rows(path: Path, where: str = "") -> Table:
    """Read one file strictly; its suffix says the format.

    Args:
        where: What to call it in errors; its name where empty.

    Raises:
        FtlibError: Not UTF-8, ragged, malformed or empty; all problems of the file, up to five.
    """
    where = where or path.name
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise FtlibError(
            f"{where}: found {suffix or 'no suffix'!r}; allowed: {', '.join(SUFFIXES)}; text to be modelled: .txt"
        )
    if suffix == ".parquet":
        return _parquet(path, where)
    text = decoded(path, where)
    if not text.strip():
        raise FtlibError(f"{where}: the file is empty")
    if suffix in (".jsonl", ".ndjson"):
        return _jsonl(text, where)
    return _delimited(text, where, "\t" if suffix == ".tsv" else ",")


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
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FtlibError(
            f"{where} line {line}: byte {error.start} of the file (0x{content[error.start]:02x}) is not UTF-8; "
            "save it as UTF-8"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise FtlibError(f"{where} line {line}: holds a NUL character; this is not a text file")
    return text


def _delimited(text: str, where: str, delimiter: str) -> Table:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    problems: list[str] = []
    header: list[str] | None = None
    limit = csv.field_size_limit(_FIELD_LIMIT)  # One limit for the whole process: put back below.
    start = 1
    try:
        for row in reader:
            line, start = start, reader.line_num + 1
            if not row:
                continue
            if header is None:
                header = [name.strip() for name in row]
            elif len(row) == len(header):
                rows.append(row)
                lines.append(line)
            else:
                problems.append(f"{where} line {line} has {_count(len(row))}, the header has {len(header)}")
    except csv.Error as error:
        problems.append(
            f"{where} line {start}: {error}; a field that starts with a quote ends with one, "
            'and a quote inside is doubled ("")'
        )
    finally:
        csv.field_size_limit(limit)
    problems = _header_problems(header or [], where, delimiter) + problems
    if problems:
        raise all_of(problems)
    if not rows:
        raise FtlibError(f"{where}: has a header and no rows")
    columns = tuple(header or ())

    def column(name: str) -> list[str]:
        place = columns.index(name)
        return [row[place] for row in rows]

    return Table(where, "line", lines, columns, column)


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


def _jsonl(text: str, where: str) -> Table:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    problems: list[str] = []
    # Not splitlines(): a text may hold U+2028, which is no end of line in JSON.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
            json.dumps(row, ensure_ascii=False).encode()  # Half a surrogate pair is valid JSON and no text.
        except ValueError as error:
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
