"""`ftlib predict`: a saved model answers every row of a file, in order, many rows at a time.

What can be read as a whole is (`ftlib.data.tabular`), for its stricter checks. What cannot is read and checked row by
row, so that a file of any size needs little memory.
"""

import csv
import io
import itertools
import json
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from ftlib.core import format
from ftlib.core.atomic import check_writable, write_atomically
from ftlib.core.errors import FtlibError
from ftlib.data.labels import joined_text, text_candidates
from ftlib.data.parallel import PAIR
from ftlib.data.tabular import SUFFIXES, read_rows, refuse_one_document
from ftlib.models.export import SavedModel, load_adapted
from ftlib.records import provenance

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
    usual: tuple[str, ...] = ()
    """Names that a guess takes before the usual ones of texts."""


def _readable(path: str) -> None:
    file = Path(path)
    if path == STDIN:
        return
    if not file.is_file():
        raise FtlibError(f"{path}: no such file; allowed: {', '.join(SUFFIXES)}, or - for standard input")
    if file.suffix.lower() not in SUFFIXES:
        raise FtlibError(f"{path}: found {file.suffix or 'no suffix'!r}; allowed: {', '.join(SUFFIXES)}, or -")


def checked(path: str, wanted: Wanted, groups: Collection[str] = ()) -> int | None:
    """Read a file to its end without keeping it, and count its rows; None for standard input, which is read once.

    Args:
        groups: All that a column of groups may say.

    Raises:
        FtlibError: It cannot be read, or some row is not as the others, or of another group; says the line or row.
    """
    if path == STDIN:
        return None
    file = Path(path)
    if file.suffix.lower() != ".parquet" and file.stat().st_size <= WHOLE:
        read_rows(file)
    n = 0
    for n, row in enumerate(rows(path, wanted), 1):
        if wanted.group and str(row.group) not in groups:
            raise FtlibError(
                f"{path} row {n}: found {row.group!r} in {wanted.group!r}; this model goes by the groups "
                f"{', '.join(groups)}"
            )
    if not n:
        raise FtlibError(f"{path}: has no rows")
    return n


def rows(path: str, wanted: Wanted) -> Iterator[Row]:
    """The rows of a file in their order, or of standard input: JSONL, CSV with a header, or one text a line.

    Raises:
        FtlibError: As for `checked`.
    """
    if path == STDIN:
        try:
            yield from _standard_input(wanted)
        except UnicodeDecodeError as error:
            raise FtlibError(f"standard input: {_not_utf8(error)}") from None
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
        raise FtlibError(f"{path}: {_not_utf8(error)}") from None


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"byte {error.start} of a block is not UTF-8 ({error.reason}); save it as UTF-8"


def _guessed(names: Sequence[str], wanted: Wanted) -> list[str]:
    """The columns that may hold the text, by their names."""
    return [name for name in wanted.usual if name in names][:1] or text_candidates(names, "")


def _standard_input(wanted: Wanted) -> Iterator[Row]:
    stream = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", newline="")
    first = stream.readline()
    lines = itertools.chain([first], stream)
    header = next(csv.reader([first]), [])
    if first.lstrip().startswith("{"):
        yield from _jsonl(lines, "standard input", wanted)
    elif wanted.text or _guessed(header, wanted):
        yield from _delimited(lines, "standard input", ",", wanted)
    else:
        refuse_one_document(first, "standard input")
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
        if take is None:
            refuse_one_document(line, where)
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
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
            found = _guessed(names, wanted)
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
    if isinstance(value, bool):
        return "true" if value else "false"
    return format.cell(value) if isinstance(value, str) or value is None else value


LABELS, TEXTS = {"label": "string", "probability": "float64", "cut": "bool_"}, {"text_out": "string", "cut": "bool_"}
"""The columns that are written, and pyarrow's kind of each: of a model that gives labels, and of one that writes."""

ROWS = 4096
"""Read, answered and written at a time; of texts to be written one in sixteen."""

EVERY = 2.0
"""Seconds between two lines that say how far it is."""


class Said(NamedTuple):
    """What was predicted of a file."""

    rows: int
    cut: int
    """Texts longer than the model reads, whose end it did not see."""
    blank: int
    """Rows without a text, which have no answer."""
    seconds: float
    """Of reading, answering and writing."""
    probabilities: str
    """Whether they are calibrated, in words; of a model that writes, how it does."""
    task: str = ""
    """Which of several the model was asked about; empty: it has one."""

    def __str__(self) -> str:
        speed = (self.rows - self.blank) / self.seconds if self.seconds else float("nan")
        lines = [f"{_many(self.rows)} rows in {format.seconds(self.seconds)}, {_many(speed)} texts a second"]
        if self.cut:
            lines.append(f"{_many(self.cut)} cut: longer than the model reads")
        if self.blank:
            lines.append(f"{_many(self.blank)} without a text: left blank")
        memory = format.size(provenance.peak_memory()["peak_memory_bytes"])
        return "; ".join([*([self.task] if self.task else []), *lines, f"peak memory {memory}", self.probabilities])


def _many(number: float) -> str:
    """A whole number with its thousands apart.

    >>> _many(1234567.8)
    '1 234 568'
    """
    return f"{number:,.0f}".replace(",", " ")


def predict(
    model: str | Path,
    path: str,
    out: str = "",
    *,
    task: str = "",
    text_column: str = "",
    group_column: str = "",
    threads: int = 0,
    dtype: str = "auto",
) -> Said:
    """Answer every row of a file: a row in, a row out, in the same order.

    Args:
        model: A run's folder, or a saved model's.
        path: CSV, TSV, JSONL or Parquet; "-" for standard input.
        out: A file of one of these kinds, there only once all rows are in it; empty: CSV on standard output.
        task: Of a model of several tasks; empty: its own.
        text_column: Empty: guessed.
        group_column: Whose group a model reads that goes by them.
        threads: CPU threads; 0: all cores.
        dtype: As of an experiment.

    Raises:
        FtlibError: Model or file are not what they should be; nothing is written then.
    """
    suffix = _writable(out, path) if out else ".csv"
    _readable(path)
    saved = load_adapted(model, dtype=dtype, threads=threads)
    writes = bool(saved.question(task).writing)
    columns = TEXTS if writes else LABELS
    if not writes and not saved.question(task).labels:
        raise FtlibError(f"{model}: was adapted to text without labels; README.md in its folder says how to use it")
    by_group = saved.head is not None and "groups" in saved.head.facts
    if group_column and not by_group:
        raise FtlibError(f"--group-column {group_column}: this model does not go by groups; leave it out")
    if by_group and not group_column:
        raise FtlibError(f"{model}: must be told the group of every text; name its column with --group-column")
    wanted = Wanted(text_column, group_column, PAIR[:1] if writes else ())
    total = checked(path, wanted, saved.head.facts["groups"] if by_group else ())
    # What is loaded at the first answer is no part of the speed.
    if writes:
        saved.write(["a text"], task)
    else:
        saved.predict(["a text"], task, saved.head.facts["groups"][:1] if group_column and saved.head else None)
    start, counts = time.perf_counter(), {"rows": 0, "cut": 0, "blank": 0}

    def fill(write: Any) -> None:
        shown = start
        for batch in _batches(rows(path, wanted), max(1, ROWS // 16) if writes else ROWS):
            write(_answers(saved, batch, task, counts))
            if time.perf_counter() - shown > EVERY:
                shown = time.perf_counter()
                _show(counts["rows"], total, shown - start)

    if out:
        write_atomically(Path(out), lambda temporary: _to_file(temporary, suffix, columns, fill))
    else:
        fill(writer(sys.stdout, suffix, list(columns)))
        sys.stdout.flush()
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return Said(
        **counts, seconds=time.perf_counter() - start, probabilities=_calibrated(saved), task=_asked(saved, task)
    )


def _asked(saved: SavedModel, task: str) -> str:
    others = [name for name in saved.questions if name != format.short_name(task or saved.facts["task"])]
    return f"task {task or saved.facts['task']} (--task asks about {', '.join(others)})" if others else ""


def _writable(out: str, path: str) -> str:
    """The suffix of a file that is written; refused before a million rows are answered for nothing."""
    file = Path(out)
    if (suffix := file.suffix.lower()) not in SUFFIXES:
        raise FtlibError(f"--out {out}: found {suffix or 'no suffix'!r}; allowed: {', '.join(SUFFIXES)}")
    if file.is_dir() or (file.exists() and Path(path).exists() and file.samefile(path)):
        raise FtlibError(f"--out {out}: is {'a folder' if file.is_dir() else 'the file that is read'}; name another")
    check_writable(file.parent, f"--out {out}")
    return suffix


def _batches(found: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while batch := list(itertools.islice(found, size)):
        yield batch


def _answers(saved: SavedModel, batch: Sequence[Row], task: str, counts: dict[str, int]) -> list[tuple]:
    there = [row for row in batch if row.text is not None]
    texts = [str(row.text) for row in there]
    groups = [str(row.group) for row in there] if there and there[0].group is not None else None
    if saved.question(task).writing:
        cut, said = saved.cut(texts), [saved.write(texts, task)]
    else:
        labels, probability, cut = saved.predict(texts, task, groups)
        said = [labels.tolist(), probability.round(6).tolist()]
    counts["rows"] += len(batch)
    counts["blank"] += len(batch) - len(there)
    counts["cut"] += int(cut.sum())
    answers = zip(*said, cut.tolist(), strict=True)
    return [next(answers) if row.text is not None else (None,) * (len(said) + 1) for row in batch]


def _to_file(path: Path, suffix: str, columns: Mapping[str, str], fill: Any) -> None:
    if suffix != ".parquet":
        with path.open("w", encoding="utf-8", newline="") as file:
            fill(writer(file, suffix, list(columns)))
        return
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(name, getattr(pyarrow, kind)()) for name, kind in columns.items()])
    with pyarrow.parquet.ParquetWriter(path, schema) as file:
        fill(
            lambda rows: file.write_table(pyarrow.table([list(one) for one in zip(*rows, strict=True)], schema=schema))
        )


def _show(done: int, total: int | None, seconds: float) -> None:
    of = f" of {_many(total)}" if total else ""
    left = f", about {format.seconds(seconds * (total - done) / done)} left" if total else ""
    said = f"{_many(done)}{of} rows, {_many(done / seconds)} a second{left}"
    print(f"\r{said:72}" if sys.stderr.isatty() else said, end="" if sys.stderr.isatty() else "\n", file=sys.stderr)


def _calibrated(saved: SavedModel) -> str:
    if how := saved.question().writing:
        return f"{how['num_beams']} beam{'s' * (how['num_beams'] > 1)}, at most {how['max_new_tokens']} tokens written"
    chosen = saved.facts.get("temperature") or {}
    if chosen.get("value"):
        return f"probabilities calibrated on {format.plural(chosen['n'], 'example')} of validation"
    return f"probabilities not calibrated ({chosen.get('reason', 'nothing was set aside')})"
