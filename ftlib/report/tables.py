"""Tables: cells for the page, and CSV that a spreadsheet opens without running anything, whatever the data says."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ftlib.core import format
from ftlib.core.html import paragraph
from ftlib.core.html import table as html_table
from ftlib.metrics import units

_STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def cell(value: Any) -> str:
    """One cell: a text that a spreadsheet would take for a formula gets an apostrophe in front; numbers stay numbers.

    >>> cell("=1+1"), cell("-0.5"), cell(-0.5), cell("-a"), cell(None), cell(True)
    ("'=1+1", '-0.5', '-0.5', "'-a", '', 'yes')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return repr(value)
    said = str(value).replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
    if said.lstrip(" ").startswith(_STARTS_FORMULA) and not _is_number(said):
        return f"'{said}"
    return said


def as_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows as CSV, the columns in the order given."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([cell(name) for name in columns])
    for row in rows:
        writer.writerow([cell(row.get(name)) for name in columns])
    return file.getvalue()


def _is_number(said: str) -> bool:
    if not said.isascii() or said != said.strip():
        return False
    try:
        float(said)
    except ValueError:
        return False
    return True


class Cell(NamedTuple):
    """One cell of a table."""

    text: str
    small: str = ""
    """A second, quieter line."""
    number: bool = False
    href: str = ""
    strong: bool = False
    mark: str = ""
    """A verdict that is shown as a word with a shape: better, same, worse, undecided, base."""


class Table(NamedTuple):
    """A table with a caption that screen readers read out."""

    caption: str
    header: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]
    kind: str = "table"

    def _repr_html_(self) -> str:
        shown = ([f"{one.text} ({one.small})" if one.small else one.text for one in row] for row in self.rows)
        return paragraph(self.caption) + html_table([one.text for one in self.header], shown)


Said = str | tuple[str, str] | Cell
"""A cell's text, its text and a quieter second line, or the cell itself."""


def plain_table(caption: str, header: Sequence[Said], rows: Iterable[Sequence[Said]], texts: int = 1) -> Table:
    """A table whose first columns are text, the first of them what a row is about, and whose other columns are numbers.

    >>> made = plain_table("Times", ["method", "seconds"], [["lora", ("2", "3 runs")]])
    >>> made.rows[0][0].strong, made.rows[0][1].number, made.rows[0][1].small
    (True, True, '3 runs')
    """

    def cells(row: Sequence[Said], body: bool) -> Iterator[Cell]:
        for place, said in enumerate(row):
            if isinstance(said, Cell):
                yield said
            else:
                text, small = (said, "") if isinstance(said, str) else said
                yield Cell(text, small, number=place >= texts, strong=body and place == 0)

    return Table(caption, tuple(cells(header, False)), tuple(tuple(cells(row, True)) for row in rows))


def value_cell(metric: str, row: dict[str, Any] | None, strong: bool = False) -> Cell:
    """A metric's value with its interval, or why there is none; `row` as report.json holds it."""
    if row is None:
        return Cell("not available", "not measured", number=True)
    if format.missing(row["value"]):
        return Cell("not available", row.get("reason", ""), number=True)
    return Cell(
        units.level(metric, row["value"]), units.span(metric, row["low"], row["high"]), number=True, strong=strong
    )
