"""Texts of a file one after another, so that a file of any size needs little memory: CSV, TSV, JSONL, Parquet.

What can be read as a whole is (`ftlib.data.tabular`), for its stricter checks; what cannot is checked row by row.
"""

import csv
import io
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from ftlib.core.errors import FtlibError
from ftlib.data.labels import joined_text, text_candidates
from ftlib.data.tabular import SUFFIXES, read_rows

WHOLE = 16 * 2**20
"""Bytes up to which a file is first read as a whole."""

STDIN = "-"


class Row(NamedTuple):
    """What is read of one row."""

    text: str | None
    """None: the row has none."""
    group: str | None = None


class Wanted(NamedTuple):
    """Which columns are read."""

    text: str = ""
    """"title+description" joins two; empty: guessed from the usual names."""
    group: str = ""
    """Empty: none."""


def checked(path: str, wanted: Wanted) -> int | None:
    """Read a file to its end without keeping it, and count its rows; None for standard input, which is read once.

    Raises:
        FtlibError: It cannot be read, or some row is not as the others; says the line.
    """
    if path == STDIN:
        return None
    file = Path(path)
    if not file.is_file():
        raise FtlibError(f"{path}: no such file; allowed: {', '.join(SUFFIXES)}, or - for standard input")
    if file.suffix.lower() not in SUFFIXES:
        raise FtlibError(f"{path}: found {file.suffix or 'no suffix'!r}; allowed: {', '.join(SUFFIXES)}, or -")
    if file.suffix.lower() != ".parquet" and file.stat().st_size <= WHOLE:
        read_rows(file)
    n = sum(1 for _ in rows(path, wanted))
    if not n:
        raise FtlibError(f"{path}: has no rows")
    return n


def rows(path: str, wanted: Wanted) -> Iterator[Row]:
    """The rows of a file in their order, or of standard input: JSONL, CSV with a header, or one text a line.

    Raises:
        FtlibError: As for `checked`.
    """
    if path == STDIN:
        yield from _standard_input(wanted)
        return
    file, suffix = Path(path), Path(path).suffix.lower()
    if suffix == ".parquet":
        yield from _parquet(file, wanted)
        return
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            if suffix in (".jsonl", ".ndjson"):
                yield from _jsonl(lines, file.name, wanted)
            else:
                yield from _delimited(lines, file.name, "\t" if suffix == ".tsv" else ",", wanted)
    except UnicodeDecodeError as error:
        raise FtlibError(
            f"{path}: byte {error.start} of a block is not UTF-8 ({error.reason}); save it as UTF-8"
        ) from None


def _standard_input(wanted: Wanted) -> Iterator[Row]:
    stream = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", newline="")
    first = stream.readline()
    lines = itertools.chain([first], stream)
    header = next(csv.reader([first]), [])
    if first.lstrip().startswith("{"):
        yield from _jsonl(lines, "standard input", wanted)
    elif wanted.text or text_candidates(header, ""):
        yield from _delimited(lines, "standard input", ",", wanted)
    else:
        yield from (Row(line.rstrip("\r\n") or None) for line in lines if first)


def _delimited(lines: Any, where: str, delimiter: str, wanted: Wanted) -> Iterator[Row]:
    limit = csv.field_size_limit(2**31 - 1)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        take = _Columns(header, where, wanted)
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                said = f"has {len(row)} fields, the header has {len(header)}"
                raise FtlibError(f"{where} line {reader.line_num} {said}")
            yield take(dict(zip(header, row, strict=True)))
    except csv.Error as error:
        raise FtlibError(f"{where} line {reader.line_num}: {error}; a quote inside a field is doubled") from None
    finally:
        csv.field_size_limit(limit)


def _jsonl(lines: Any, where: str, wanted: Wanted) -> Iterator[Row]:
    take = None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise FtlibError(f"{where} line {number}: not valid JSON: {error}") from None
        if not isinstance(row, dict):
            raise FtlibError(f"{where} line {number}: found {type(row).__name__}; each line is one object {{...}}")
        take = take or _Columns(list(row), where, wanted)
        yield take(row)


def _parquet(path: Path, wanted: Wanted) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            take = _Columns(file.schema_arrow.names, path.name, wanted)
            for batch in file.iter_batches(4096, columns=[*take.parts, *filter(None, [wanted.group])]):
                yield from map(take, batch.to_pylist())
    except (pyarrow.ArrowException, OSError) as error:
        raise FtlibError(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from None


class _Columns:
    """The function row -> Row, of the columns that are wanted."""

    def __init__(self, names: list[str], where: str, wanted: Wanted) -> None:
        text, listed = wanted.text, ", ".join(names)
        if not text:
            found = text_candidates(names, "")
            if len(found) != 1:
                said = f"could be {' or '.join(map(repr, found))}" if found else "no column has a usual name"
                raise FtlibError(f"{where}: the text: {said}; columns: {listed}; say which with --text-column")
            text = found[0]
        self.parts = [text] if text in names else [part.strip() for part in text.split("+")]
        self.group = wanted.group
        for name in (*self.parts, *filter(None, [self.group])):
            if name not in names:
                raise FtlibError(f"{where}: no column {name!r}; columns: {listed}")

    def __call__(self, row: dict[str, Any]) -> Row:
        said = [value for part in self.parts if isinstance(value := row.get(part), str)]
        text = joined_text(said) if len(said) == len(self.parts) else ""
        group = row.get(self.group) if self.group else None
        return Row(text if text.strip() else None, None if group is None else str(group).strip())


def writer(file: IO[str], suffix: str, names: list[str]) -> Any:
    """The function list of rows -> None that writes them as the suffix says."""
    if suffix in (".jsonl", ".ndjson"):
        return lambda found: file.writelines(
            json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) + "\n" for row in found
        )
    out = csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",", lineterminator="\n")
    out.writerow(names)
    return lambda found: out.writerows([_cell(value) for value in row] for row in found)


def _cell(value: Any) -> Any:
    """A label that a spreadsheet would take for a formula gets an apostrophe in front."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(("=", "+", "-", "@", "\t")) else value
