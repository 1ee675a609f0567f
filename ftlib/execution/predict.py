"""`ftlib predict`: a saved model answers every row of a file, in order, a few thousand rows at a time."""

import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ftlib.core import format
from ftlib.core.atomic import write_atomically
from ftlib.core.errors import FtlibError
from ftlib.data import streaming
from ftlib.data.streaming import Row, Wanted
from ftlib.models.export import SavedModel, load_adapted
from ftlib.records import provenance

COLUMNS = ["label", "probability", "cut"]

ROWS = 4096
"""Read, answered and written at a time."""

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
    """Whether they are calibrated, in words."""

    def __str__(self) -> str:
        speed = (self.rows - self.blank) / self.seconds if self.seconds else float("nan")
        lines = [f"{_many(self.rows)} rows in {format.seconds(self.seconds)}, {_many(speed)} texts a second"]
        if self.cut:
            lines.append(f"{_many(self.cut)} cut: longer than the model reads")
        if self.blank:
            lines.append(f"{_many(self.blank)} without a text: left blank")
        memory = format.size(provenance.peak_memory()["peak_memory_bytes"])
        return "; ".join([*lines, f"peak memory {memory}", self.probabilities])


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
    suffix = Path(out).suffix.lower() if out else ".csv"
    if suffix not in streaming.SUFFIXES:
        raise FtlibError(f"--out {out}: found {suffix or 'no suffix'!r}; allowed: {', '.join(streaming.SUFFIXES)}")
    wanted = Wanted(text_column, group_column)
    total = streaming.checked(path, wanted)
    saved = load_adapted(model, dtype=dtype, threads=threads)
    if not saved.question(task).labels:
        raise FtlibError(f"{model}: was adapted to text without labels; README.md in its folder says how to use it")
    by_group = saved.head is not None and "groups" in saved.head.facts
    if group_column and not by_group:
        raise FtlibError(f"--group-column {group_column}: this model does not go by groups; leave it out")
    if by_group and not group_column:
        raise FtlibError(f"{model}: must be told the group of every text; name its column with --group-column")
    # What is loaded at the first answer is no part of the speed.
    saved.predict(["a text"], task, saved.head.facts["groups"][:1] if group_column and saved.head else None)
    start, counts = time.perf_counter(), {"rows": 0, "cut": 0, "blank": 0}

    def fill(write: Any) -> None:
        shown = start
        for batch in _batches(streaming.rows(path, wanted)):
            write(_answers(saved, batch, task, counts))
            if time.perf_counter() - shown > EVERY:
                shown = time.perf_counter()
                _show(counts["rows"], total, shown - start)

    if out:
        write_atomically(Path(out), lambda temporary: _to_file(temporary, suffix, fill))
    else:
        fill(streaming.writer(sys.stdout, suffix, COLUMNS))
        sys.stdout.flush()
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return Said(**counts, seconds=time.perf_counter() - start, probabilities=_calibrated(saved))


def _batches(found: Iterator[Row]) -> Iterator[list[Row]]:
    while batch := list(itertools.islice(found, ROWS)):
        yield batch


def _answers(saved: SavedModel, batch: Sequence[Row], task: str, counts: dict[str, int]) -> list[tuple]:
    there = [row for row in batch if row.text is not None]
    groups = [str(row.group) for row in there] if there and there[0].group is not None else None
    labels, probability, cut = saved.predict([str(row.text) for row in there], task, groups)
    counts["rows"] += len(batch)
    counts["blank"] += len(batch) - len(there)
    counts["cut"] += int(cut.sum())
    answers = zip(labels.tolist(), probability.round(6).tolist(), cut.tolist(), strict=True)
    return [next(answers) if row.text is not None else (None, None, None) for row in batch]


def _to_file(path: Path, suffix: str, fill: Any) -> None:
    if suffix != ".parquet":
        with path.open("w", encoding="utf-8", newline="") as file:
            fill(streaming.writer(file, suffix, COLUMNS))
        return
    import pyarrow
    import pyarrow.parquet

    kinds = (pyarrow.string(), pyarrow.float64(), pyarrow.bool_())
    schema = pyarrow.schema(list(zip(COLUMNS, kinds, strict=True)))
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
    chosen = saved.facts.get("temperature") or {}
    if chosen.get("value"):
        return f"probabilities calibrated on {chosen['n']} examples of validation"
    return f"probabilities not calibrated ({chosen.get('reason', 'nothing was set aside')})"
