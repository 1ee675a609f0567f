"""The page's part on whom methods treat worse: sentences, gaps before and after, every group's rates, a figure."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from ftlib.intervals import Interval
from ftlib.metrics.gaps import FEWEST
from ftlib.plots.groups import Values, rates_by_group
from ftlib.report import say
from ftlib.report.figures import MOST_ROWS, Figure, figure_of
from ftlib.report.groups import Change, Level, Treated, treated
from ftlib.report.study import Group, Study
from ftlib.report.svg import drawing
from ftlib.report.tables import Cell, Table

MOST_GROUPS = 6
"""Groups a figure shows; the tables hold them all."""
_GAPS = {"accuracy": "accuracy_difference", "tpr": "equal_opportunity_difference"}
_RATE = "accuracy"
"""Every rate here is a share and is shown as accuracy is."""


class GroupPage(NamedTuple):
    """One column of groups."""

    title: str
    lead: str
    sentences: tuple[str, ...]
    gaps: Table
    figure: Figure
    levels: Table
    notes: tuple[str, ...]


class Groups(NamedTuple):
    """Everything of this part of the page."""

    pages: tuple[GroupPage, ...]
    rows: list[dict[str, Any]]
    """What report.json holds of it."""

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Every figure, in the order of the page."""
        return tuple(one.figure for one in self.pages)

    @property
    def there(self) -> bool:
        """Whether the page has this part."""
        return bool(self.pages)


def groups(study: Study) -> Groups:
    """Whom a study's methods treat worse; empty where its predictions have no groups."""
    found = treated(study)
    return Groups(tuple(map(_page, found)), [row for one in found for row in rows(one)])


def _page(one: Treated) -> GroupPage:
    where = one.task if one.part == "test" else f"{one.task}, {one.part.removeprefix('tests.')}"
    return GroupPage(
        f"{where}, by {one.column}",
        lead(one),
        tuple(f"{sentence(change)}." for change in one.changes),
        _gap_table(one, where),
        _figure(one, where),
        _level_table(one, where),
        tuple(_notes(one)),
    )


def lead(one: Treated) -> str:
    """What adapting did to the gaps, in a sentence or two."""
    asked = [c for c in one.changes if c.verdict not in ("", "unchanged")]
    if not asked:
        return "No method was adapted and measured before and after, so nothing is said of what adapting did."
    named = {"accuracy": "accuracy", "tpr": "equal opportunity"}
    moved = {
        verdict: [f"{c.method.name} ({named[c.metric]})" for c in asked if c.verdict == verdict]
        for verdict in ("larger", "smaller")
    }
    said = [f"Adapting made the gap {verdict} for {say.some(names)}." for verdict, names in moved.items() if names]
    if untold := len(asked) - sum(map(len, moved.values())):
        said.append(f"For {untold} of {say.plural(len(asked), 'gap')} it cannot be told whether adapting changed them.")
    return " ".join(said)


def _of(change: Change) -> str:
    return "accuracy" if change.metric == "accuracy" else f"share of {change.label!r} that is found"


def _points(found: Interval, signed: bool = False) -> str:
    shown = [say.difference(_RATE, value, signed) for value in found]
    return f"{shown[0]} points ({shown[1]} to {shown[2]})"


def sentence(one: Change) -> str:
    """What a method's gap is and what adapting did to it, in one sentence."""
    name = one.method.name
    if one.reason:
        of = "accuracy" if one.metric == "accuracy" else "equal opportunity"
        return f"{name}: no gap of {of} is available: {one.reason}"
    sure = "" if one.shown else ", which may be chance"
    said = f"{name}: {_of(one)}, {one.pair[1]} against {one.pair[0]}: {_points(one.after)} apart{sure}"
    if one.change is None:
        return said
    turned = "" if one.pair == one.pair_before else f", {one.pair_before[1]} against {one.pair_before[0]}"
    said += f"; before adapting {_points(one.before)}{turned}"
    if one.verdict == "unchanged":
        return f"{said}: the answers are the same"
    if one.verdict == "cannot tell":
        return f"{said}: cannot tell whether the gap became smaller or larger, by {_points(one.change, signed=True)}"
    size = one.change if one.change.value > 0 else Interval(*(-one.change[i] for i in (0, 2, 1)))
    return f"{said}: the gap became {one.verdict} by {_points(size)}"


def _gap_cell(found: Interval | None, reason: str, signed: bool = False, strong: bool = False) -> Cell:
    if found is None or math.isnan(found.value):
        return Cell("not available", reason, number=True)
    shown = [say.difference(_RATE, value, signed) for value in found]
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
                Cell("accuracy" if c.metric == "accuracy" else "equal opportunity", c.label),
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
    return "none" if math.isinf(one.smallest) else f"{say.difference(_RATE, one.smallest, signed=False)} points"


def _level_table(one: Treated, where: str) -> Table:
    """Every group's rates before and after."""
    found = {(level.method.name, level.group, level.metric, level.stage): level for level in one.levels}
    header = [Cell("method"), Cell("group")]
    header += [Cell(f"accuracy {stage}", "%", number=True) for stage in ("before", "after")]
    header += [Cell("examples", number=True), Cell("label with the largest gap")]
    header += [Cell(f"its share found {stage}", "%", number=True) for stage in ("before", "after")]
    header += [Cell("examples with it", number=True)]
    body = []
    for name, group in dict.fromkeys((level.method.name, level.group) for level in one.levels):
        cells = [Cell(name, strong=True), Cell(group)]
        for metric in ("accuracy", "tpr"):
            after = found.get((name, group, metric, "after"))
            if metric == "tpr":
                cells.append(Cell(after.label if after else say.NONE))
            cells += [_level_cell(found.get((name, group, metric, stage)), stage) for stage in ("before", "after")]
            cells.append(Cell(say.count(after.n) if after else say.NONE, number=True))
        body.append(tuple(cells))
    return Table(f"Every group's rates, {where}, by {one.column}", tuple(header), tuple(body))


def _level_cell(level: Level | None, stage: str) -> Cell:
    if level is None:
        return Cell("not available", "not measured" if stage == "before" else "no label has a gap", number=True)
    if math.isnan(level.found.value):
        return Cell("not available", "no example to divide by", number=True)
    return Cell(say.level(_RATE, level.found.value), say.span(_RATE, level.found.low, level.found.high), number=True)


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


def _who(method: Group) -> dict[str, str]:
    return {"task": method.task, "model": method.model, "method": method.method, "settings": method.settings}


def rows(one: Treated) -> Iterator[dict[str, Any]]:
    """Gaps and rates as report.json holds them; of a gap `group` is empty."""
    where = {"part": one.part, "column": one.column}
    for c in one.changes:
        about = {**_who(c.method), **where, "group": "", "metric": _GAPS[c.metric], "label": c.label}
        for stage, found in (("before", c.before), ("after", c.after), ("change", c.change)):
            if found is None:
                continue
            row = {**about, "stage": stage, **_numbers(found), "n": c.n, "seeds": c.seeds}
            if row["value"] is None:
                row["reason"] = c.reason
            if stage == "after" and not c.reason:
                smallest = None if math.isinf(c.smallest) else c.smallest
                row |= {"lowest": c.pair[0], "highest": c.pair[1], "smallest": smallest}
            if stage == "before" and c.pair_before:
                row |= {"lowest": c.pair_before[0], "highest": c.pair_before[1]}
            if stage == "change":
                row |= {"p_value": c.p_value, "p_holm": c.p_holm, "verdict": c.verdict, "sentence": sentence(c)}
            yield row
    for level in one.levels:
        row = {**_who(level.method), **where, "group": level.group, "metric": level.metric, "label": level.label}
        row |= {"stage": level.stage, **_numbers(level.found), "n": level.n, "seeds": level.seeds}
        yield row | ({"reason": "no example to divide by"} if row["value"] is None else {})


def _numbers(found: Interval) -> dict[str, float | None]:
    return {name: None if math.isnan(bound) else float(bound) for name, bound in found._asdict().items()}
