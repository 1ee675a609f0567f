"""`ftlib predict`: a saved model answers every row of a file, in order, many rows at a time."""

import itertools
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ftlib.core import format
from ftlib.core.atomic import write_atomically
from ftlib.core.errors import FtlibError
from ftlib.data import streaming
from ftlib.data.streaming import Row, Wanted
from ftlib.models.export import SavedModel, load_adapted
from ftlib.records import provenance

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
    writes = bool(saved.question(task).writing)
    columns = TEXTS if writes else LABELS
    if not writes and not saved.question(task).labels:
        raise FtlibError(f"{model}: was adapted to text without labels; README.md in its folder says how to use it")
    by_group = saved.head is not None and "groups" in saved.head.facts
    if group_column and not by_group:
        raise FtlibError(f"--group-column {group_column}: this model does not go by groups; leave it out")
    if by_group and not group_column:
        raise FtlibError(f"{model}: must be told the group of every text; name its column with --group-column")
    # What is loaded at the first answer is no part of the speed.
    if writes:
        saved.write(["a text"], task)
    else:
        saved.predict(["a text"], task, saved.head.facts["groups"][:1] if group_column and saved.head else None)
    start, counts = time.perf_counter(), {"rows": 0, "cut": 0, "blank": 0}

    def fill(write: Any) -> None:
        shown = start
        for batch in _batches(streaming.rows(path, wanted), max(1, ROWS // 16) if writes else ROWS):
            write(_answers(saved, batch, task, counts))
            if time.perf_counter() - shown > EVERY:
                shown = time.perf_counter()
                _show(counts["rows"], total, shown - start)

    if out:
        write_atomically(Path(out), lambda temporary: _to_file(temporary, suffix, columns, fill))
    else:
        fill(streaming.writer(sys.stdout, suffix, list(columns)))
        sys.stdout.flush()
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return Said(**counts, seconds=time.perf_counter() - start, probabilities=_calibrated(saved))


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
            fill(streaming.writer(file, suffix, list(columns)))
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
        return f"probabilities calibrated on {chosen['n']} examples of validation"
    return f"probabilities not calibrated ({chosen.get('reason', 'nothing was set aside')})"
