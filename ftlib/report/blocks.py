"""What a section of the report is made of: one data model for the page, report.json and the CSV tables.

A section reads the study once (`read`), says what machines get of it (`rows`) and what people see (`blocks`). The page
renders every block with one macro (`section.html`), so that a section needs no template of its own.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ftlib.core import format
from ftlib.report.figures import Figure
from ftlib.report.tables import Cell, Table

if TYPE_CHECKING:
    from ftlib.report.build import Reading


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
