"""What a section of the report is made of: one data model for the page, report.json and the CSV tables.

A section reads the study once (`read`), says what machines get of it (`rows`) and what people see (`blocks`). The page
renders every block with one macro (`section.html`), so that a section needs no template of its own. Tables become CSV
that a spreadsheet opens without running anything, whatever the data says.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ftlib.core import format
from ftlib.core.format import cell
from ftlib.core.html import paragraph
from ftlib.core.html import table as html_table
from ftlib.metrics import units
from ftlib.report.figures import Figure

if TYPE_CHECKING:
    from ftlib.report.build import Reading


def as_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows as CSV, the columns in the order given."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([cell(name) for name in columns])
    for row in rows:
        writer.writerow([cell(row.get(name)) for name in columns])
    return file.getvalue()


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


class Column(NamedTuple):
    """One column of a table: the key of its rows in report.json and CSV, and how the page shows it."""

    name: str
    title: str
    format: Callable[[Any], str | Cell] = str
    """What the page shows of a row's value; of the whole row where `whole`."""
    number: bool = False
    whole: bool = False
    unit: str = ""
    """A second, quieter line of the title."""


def table(caption: str, columns: Sequence[Column], rows: Iterable[Mapping[str, Any]]) -> Table:
    """A table of the page from rows as report.json holds them.

    >>> made = table("Accuracy", [Column("n", "examples", number=True)], [{"n": 3, "not shown": 1}])
    >>> made.rows[0][0].text, made.header[0].text
    ('3', 'examples')
    """

    def cell(column: Column, row: Mapping[str, Any]) -> Cell:
        shown = column.format(row if column.whole else row[column.name])
        return shown if isinstance(shown, Cell) else Cell(shown, number=column.number)

    header = tuple(Cell(column.title, column.unit, number=column.number) for column in columns)
    return Table(caption, header, tuple(tuple(cell(column, row) for column in columns) for row in rows))


class Heading(NamedTuple):
    """A heading inside a section, such as a task's name."""

    text: str
    level: int = 3
    kind: str = "heading"


class Note(NamedTuple):
    """A paragraph: quiet where it explains, plain where it says a result."""

    text: str
    quiet: bool = True
    kind: str = "note"


class Sentences(NamedTuple):
    """Results in words, one line each; what begins with "Caution" stands out."""

    lines: tuple[str, ...]
    kind: str = "sentences"


class Figures(NamedTuple):
    """Figures beside each other, where the page is wide enough."""

    figures: tuple[Figure, ...]
    wide: bool = False
    """Whether they have several panels, and so the page's width each."""
    kind: str = "figures"


class Facts(NamedTuple):
    """Names with what there is to say of each."""

    facts: tuple[tuple[str, str], ...]
    kind: str = "facts"


class Example(NamedTuple):
    """One text with what was said of it."""

    id: str
    text: str
    """Empty where it is not known."""
    said: tuple[tuple[str, str], ...]
    """(who, what); the first is the truth."""
    more: str = ""


class Examples(NamedTuple):
    """Texts beside each other."""

    examples: tuple[Example, ...]
    kind: str = "examples"


class Finder(NamedTuple):
    """Search and filter of examples; the one part of the page that takes a script."""

    data: str
    """Methods, labels and rows, as JSON that ends no element of HTML."""
    n: int
    """Examples it holds."""
    total: int
    """Examples there are."""
    kind: str = "finder"


class Fold(NamedTuple):
    """Blocks that are shown on demand."""

    summary: str
    blocks: tuple[Any, ...]
    unfolded: bool = False
    kind: str = "fold"


Block = Heading | Note | Sentences | Examples | Finder | Facts | Figures | Fold | Table | Figure


class Section(NamedTuple):
    """One part of the report."""

    name: str
    """Its anchor on the page."""
    title: str
    read: "Callable[[Reading], Any]"
    """What it is about; None where the study has nothing of it."""
    columns: Mapping[str, tuple[str, ...]]
    """The tables it gives to report.json and tables/NAME.csv, with the columns of the CSV."""
    rows: Callable[[Any], Mapping[str, list[dict[str, Any]]]]
    """The rows of these tables, from what was read."""
    blocks: Callable[[Any], Iterable[Block]]
    """What people see, from what was read; a section without blocks is not on the page."""
    csv: Callable[[Any], Mapping[str, list[dict[str, Any]]]] | None = None
    """The rows of the CSV tables, where report.json nests them or leaves them out."""


class OfTask(NamedTuple):
    """What a section read of one task."""

    heading: str
    """The task, with its number of labels; empty where the study has but one."""
    found: Any


def by_task(items: Iterable[OfTask], blocks: Callable[[Any], Iterable[Block]]) -> Iterator[Block]:
    """The blocks of every task, each task below its heading."""
    for one in items:
        if one.heading:
            yield Heading(one.heading)
        yield from blocks(one.found)


def in_words(block: Block, say: Callable[[str], str]) -> Block:
    """A block with what people call the methods, in its sentences and where a row of a table is about one.

    >>> in_words(Note("lora leads"), lambda said: said.replace("lora", "LoRA")).text
    'LoRA leads'
    """

    def named(cell: Cell) -> Cell:
        about = cell.strong and not cell.number and not cell.href
        return cell._replace(text=say(cell.text), small=say(cell.small)) if about else cell

    if isinstance(block, Note):
        return block._replace(text=say(block.text))
    if isinstance(block, Sentences):
        return block._replace(lines=tuple(map(say, block.lines)))
    if isinstance(block, Table):
        return block._replace(rows=tuple(tuple(map(named, row)) for row in block.rows))
    if isinstance(block, Examples):
        found = (one._replace(said=tuple((say(who), what) for who, what in one.said)) for one in block.examples)
        return block._replace(examples=tuple(found))
    if isinstance(block, Fold):
        return block._replace(summary=say(block.summary), blocks=tuple(in_words(one, say) for one in block.blocks))
    return block


def figures_of(blocks: Iterable[Block]) -> list[Figure]:
    """Every figure of some blocks, folded ones too, in the order of the page."""
    found: list[Figure] = []
    for block in blocks:
        if isinstance(block, Figure):
            found.append(block)
        elif isinstance(block, Figures):
            found += block.figures
        elif isinstance(block, Fold):
            found += figures_of(block.blocks)
    return found


def first_rows(shown: Table, most: int, noun: str) -> Iterator[Block]:
    """A table's first rows, and the rest on demand where there are more."""
    yield shown._replace(rows=shown.rows[:most])
    if rest := shown.rows[most:]:
        yield Fold(format.plural(len(rest), f"more {noun}"), (shown._replace(rows=rest),))
