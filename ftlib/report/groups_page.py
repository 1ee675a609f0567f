"""The page's part on whom methods treat worse: sentences, gaps before and after, every group's rates, a figure."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ftlib.intervals import Interval
from ftlib.metrics.gaps import FEWEST
from ftlib.plots.groups import Values, rates_by_group
from ftlib.report import say
from ftlib.report.figures import MOST_ROWS, Figure, figure_of
from ftlib.report.group_rates import Level
from ftlib.report.groups import Change, Treated, treated
from ftlib.report.groups_said import GAP_OF, RATE, lead, rows, sentence
from ftlib.report.study import Study
from ftlib.report.svg import drawing
from ftlib.report.tables import Cell, Table
from ftlib.report.undone import Undone, undone
from ftlib.report.undone_page import Mended, mended, mended_rows

MOST_GROUPS = 6
"""Groups a figure shows; the tables hold them all."""


class GroupPage(NamedTuple):
    """One column of groups."""

    title: str
    lead: str
    sentences: tuple[str, ...]
    gaps: Table
    figure: Figure
    levels: Table
    notes: tuple[str, ...]
    mended: Mended | None
    """What undoing the gaps costs; None where nothing was meant to."""


class Groups(NamedTuple):
    """Everything of this part of the page."""

    pages: tuple[GroupPage, ...]
    rows: list[dict[str, Any]]
    """What report.json holds of it."""
    undone: list[dict[str, Any]]
    """And of what undoing the gaps costs."""

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Every figure, in the order of the page."""
        both = [(one.figure, one.mended.figure if one.mended else None) for one in self.pages]
        return tuple(figure for some in both for figure in some if figure is not None)

    @property
    def there(self) -> bool:
        """Whether the page has this part."""
        return bool(self.pages)


def groups(study: Study) -> Groups:
    """Whom a study's methods treat worse; empty where its predictions have no groups."""
    found = treated(study)
    undo = [undone(study, one) for one in found]
    told = [row for one, some in zip(found, undo, strict=True) for row in mended_rows(one, some)]
    pages = tuple(_page(one, some) for one, some in zip(found, undo, strict=True))
    return Groups(pages, [row for one in found for row in rows(one)], told)


def _page(one: Treated, undo: Sequence[Undone]) -> GroupPage:
    where = one.task if one.part == "test" else f"{one.task}, {one.part.removeprefix('tests.')}"
    return GroupPage(
        f"{where}, by {one.column}",
        lead(one),
        tuple(f"{sentence(change)}." for change in one.changes),
        _gap_table(one, where),
        _figure(one, where),
        _level_table(one, where),
        tuple(_notes(one)),
        mended(one, undo, where) if undo else None,
    )


def _gap_cell(found: Interval | None, reason: str, signed: bool = False, strong: bool = False) -> Cell:
    if found is None or math.isnan(found.value):
        return Cell("not available", reason, number=True)
    shown = [say.difference(RATE, value, signed) for value in found]
    return Cell(shown[0], f"{shown[1]} to {shown[2]}", number=True, strong=strong)


def _gap_table(one: Treated, where: str) -> Table:
    numbers = ("before", "after", "change", "p (Holm)", "smallest gap it could show", "examples", "runs")
    header = [Cell("method"), Cell("gap of"), Cell("lowest to highest"), Cell("adapting made it")]
    header += [Cell(name, "points" if name in ("before", "after", "change") else "", number=True) for name in numbers]
    body = []
    for c in one.changes:
        untold = "nothing was measured before" if c.before is None else c.reason
        asked = c.change is not None and c.verdict != "unchanged"
        body.append(
            (
                Cell(c.method.name, strong=True),
                Cell(GAP_OF[c.metric], c.label),
                Cell(" to ".join(c.pair), _turned(c)),
                Cell(c.verdict, strong=c.verdict in ("smaller", "larger")),
                _gap_cell(c.before, untold),
                _gap_cell(c.after, c.reason, strong=c.shown),
                Cell("0", number=True) if c.verdict == "unchanged" else _gap_cell(c.change, untold, signed=True),
                Cell(say.p_value(c.p_holm) if asked else "", number=True),
                Cell(_smallest(c), number=True),
                Cell(say.count(c.n), number=True),
                Cell(str(c.seeds), number=True),
            )
        )
    return Table(f"Gaps between groups before and after adapting, {where}, by {one.column}", tuple(header), tuple(body))


def _turned(one: Change) -> str:
    return f"before: {' to '.join(one.pair_before)}" if one.pair_before and one.pair_before != one.pair else ""


def _smallest(one: Change) -> str:
    if one.reason:
        return say.NONE
    return "none" if math.isinf(one.smallest) else f"{say.difference(RATE, one.smallest, signed=False)} points"


def _level_table(one: Treated, where: str) -> Table:
    """Every group's rates before and after; false positives where there are two labels."""
    found = {(level.method.name, level.group, level.metric, level.stage): level for level in one.levels}
    label = {level.method.name: level.label for level in one.levels if level.metric == "tpr"}
    told = {"accuracy": "accuracy", "tpr": "its share found", "fpr": "others called so"}
    of = {"accuracy": "examples", "tpr": "examples with it", "fpr": "examples without it"}
    shown = [metric for metric in told if metric != "fpr" or any(level.metric == "fpr" for level in one.levels)]
    header = [Cell("method"), Cell("group")]
    for metric in shown:
        header += [Cell("label with the largest gap")] if metric == "tpr" else []
        header += [Cell(f"{told[metric]} {stage}", "%", number=True) for stage in ("before", "after")]
        header.append(Cell(of[metric], number=True))
    body = []
    for name, group in dict.fromkeys((level.method.name, level.group) for level in one.levels):
        cells = [Cell(name, strong=True), Cell(group)]
        for metric in shown:
            cells += [Cell(label.get(name, say.NONE))] if metric == "tpr" else []
            cells += [_level_cell(found.get((name, group, metric, stage)), stage) for stage in ("before", "after")]
            after = found.get((name, group, metric, "after"))
            cells.append(Cell(say.count(after.n) if after else say.NONE, number=True))
        body.append(tuple(cells))
    return Table(f"Every group's rates, {where}, by {one.column}", tuple(header), tuple(body))


def _level_cell(level: Level | None, stage: str) -> Cell:
    if level is None:
        return Cell("not available", "not measured" if stage == "before" else "no label has a gap", number=True)
    if math.isnan(level.found.value):
        return Cell("not available", "no example to divide by", number=True)
    return Cell(say.level(RATE, level.found.value), say.span(RATE, level.found.low, level.found.high), number=True)


def _figure(one: Treated, where: str) -> Figure:
    levels = [level for level in one.levels if level.metric == "accuracy"]
    methods = list(dict.fromkeys(level.method.name for level in levels))[:MOST_ROWS]
    sizes = {level.group: level.n for level in levels}
    shown = sorted(sorted(sizes, key=lambda group: -sizes[group])[:MOST_GROUPS])
    found = {(level.method.name, level.group, level.stage): tuple(100 * v for v in level.found) for level in levels}
    drawn: dict[str, dict[str, tuple[Values | None, Values]]] = {
        name: {
            group: (found.get((name, group, "before")), after)
            for group in shown
            if (after := found.get((name, group, "after")))
        }
        for name in methods
    }
    caption = (
        "Hollow: before adapting; filled: after it. Lines are 95 % intervals for new test examples and new seeds, each "
        "group on its own; whether a gap is more than chance is said in the table of gaps."
    )
    if len(sizes) > len(shown):
        caption += f" The {len(shown)} groups with the most examples are shown."
    with drawing(1.2 + 0.17 * len(methods) * max(2, len(shown))) as ax:
        rates_by_group(ax, drawn, label="accuracy, %")
        return figure_of(
            ax,
            "groups",
            f"Accuracy by {one.column}, {where}",
            caption,
            ("method", "group", "before, %", "after, %"),
            [
                (name, group, _said(before), _said(after))
                for name, row in drawn.items()
                for group, (before, after) in row.items()
            ],
        )


def _said(values: Values | None) -> str:
    if values is None:
        return say.NONE
    value, low, high = values
    return f"{value:.1f}" + ("" if math.isnan(low) else f" ({low:.1f} to {high:.1f})")


def _notes(one: Treated) -> Iterator[str]:
    if one.left_out:
        yield f"In no gap, having fewer than {FEWEST} examples or no name: {say.some(list(one.left_out), 12)}"
