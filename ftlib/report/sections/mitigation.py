"""What undoing a gap between groups costs, and whom: every mitigation against the same method without it.

The gap is the one to be undone: that of equal opportunity, for the label where the method without the mitigation has
the largest. Picked by looking, the largest of several is partly luck and would look smaller after anything. So the
level of its change is divided by how many labels and pairs of groups there were to pick from; and the largest gap that
is left (`ftlib.report.sections.fairness`) has to be read beside it, since a gap may move to another label. Runs are
paired on seeds and examples.

What undoing a gap costs, in words, rows, tables and a picture (`ftlib.report.sections.mitigation`).

The page's part on whom methods treat worse: sentences, gaps before and after, every group's rates, a figure.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ftlib.config.methods import METHODS
from ftlib.core import format
from ftlib.core.errors import FtlibError
from ftlib.metrics import units
from ftlib.metrics.fairness import FEWEST, unnamed
from ftlib.records.predictions import Part
from ftlib.records.study import Group, Study, read_study, seed_of
from ftlib.report.figures import Figure, drawing, figure_of
from ftlib.report.metric_rows import group_interval, who
from ftlib.report.plots.heat import Values, rates_by_group, tradeoff
from ftlib.report.sections.comparison import MOST_ROWS
from ftlib.report.sections.continual import ALONE, Paired, Side, alone, paired_comparisons, spanned, table_of
from ftlib.report.sections.fairness import GAP_OF, RATE, Change, Level, Treated, lead, rows, sentence, treated
from ftlib.report.tables import Cell, Table
from ftlib.stats.intervals import Interval
from ftlib.stats.paired import difference
from ftlib.stats.variance import Array

_ASIDE = ("seed", "notebook", "mitigation", "mitigation_column", "method", "method_args")


_TURNED = {"smaller": "larger", "larger": "smaller"}


class Effect(NamedTuple):
    """What a mitigation did to one group."""

    group: str
    label: str
    """The share of whose examples is found; empty: accuracy."""
    without: float
    mitigated: float
    change: Interval
    """mitigated - without, of this group alone; no interval where it has too few examples."""
    n: int
    """Examples it divides by."""


class MitigationCost(NamedTuple):
    """One mitigation against the same method without it."""

    method: Group
    plain: Group
    metric: str
    """The plan's."""
    margin: float
    levels: tuple[Interval, Interval]
    """The metric without the mitigation and with it."""
    quality: Paired | None
    """With the mitigation minus without; None: there is no spread to compare by."""
    gap: Change
    """Before: without the mitigation; after: with it; for the label with the largest gap before."""
    whom: tuple[Effect, ...]


class _Both(NamedTuple):
    method: Group
    plain: Group
    mitigated: dict[int, Part]
    """Seed -> predictions; one where no seed would change them."""
    without: dict[int, Part]

    def rows(self) -> list[tuple[Part, Part]]:
        """Without and with, seed by seed; what stands for every seed is there for each."""
        n = max(len(self.without), len(self.mitigated))
        sides = [list(side.values()) for side in (self.without, self.mitigated)]
        return list(zip(*(side if len(side) == n else side[:1] * n for side in sides), strict=True))


def read_treated(folder: str | Path, task: str = "", column: str = "") -> tuple[Study, Treated]:
    """A finished study, and how its methods treat the groups of one column, as its report finds it.

    Args:
        folder: The study.
        task: One of its tasks; empty: its first with groups.
        column: One of the task's columns of groups; empty: its first.

    Raises:
        FtlibError: The study holds no record, or no such groups.
    """
    study = read_study(folder)
    found = treated(study)
    for one in found:
        if one.task == (task or one.task) and one.column == (column or one.column):
            return study, one
    have = ", ".join(dict.fromkeys(f"{one.column} of {one.task}" for one in found)) or "none"
    asked = " of ".join(filter(None, (column or "groups", task)))
    raise FtlibError(f"{folder}: found no predictions with {asked}; groups there are: {have}")


def mitigation_costs(study: Study, of: Treated) -> list[MitigationCost]:
    """Every mitigation of one task against the same method without it, in the order of the groups.

    Those of the task are one family (Holm), by quality and by gap. `threshold` and `exponentiated` are heads on frozen
    features and stand against the probe. Left out is what has no counterpart in the study, no seed in common with it,
    or was measured on other examples than most.

    Args:
        study: With records.
        of: Whose gaps: one column of groups of one part of one of its tasks.
    """
    able = [group for group in study.groups if group.task == of.task and group.ok]
    pairs = [(one, plain) for one in able if (plain := _without(one, able))]
    kinds = [part.same for pair in pairs for group in pair for part in _parts(group, of).values()]
    same = max(kinds, key=kinds.count) if kinds else b""
    found = [both for pair in pairs if (both := _both(*pair, of, same))]
    plan, gaps, costs = study.plan.of(of.task), _gaps(study, of, found), _costs(study, of, found)
    return [
        MitigationCost(
            both.method,
            both.plain,
            plan.primary,
            plan.margin,
            tuple(group_interval(list(side.values()), plan.primary) for side in (both.without, both.mitigated)),
            costs.get(both.method.name),
            gaps[both.method.name],
            tuple(_whom(both, of.column, gaps[both.method.name].label)),
        )
        for both in found
    ]


def _without(one: Group, able: Sequence[Group]) -> Group | None:
    """The same method on the same terms without what makes it treat groups alike."""
    spec = one.runs[0].resolved
    by_group = one.method in METHODS and METHODS[one.method].groups
    if not (spec.get("mitigation") or by_group):
        return None
    name = METHODS[one.method].counterpart if by_group else one.method
    return next((other for other in able if other.method == name and _plain(other.runs[0].resolved, spec)), None)


def _plain(other: Mapping[str, Any], spec: Mapping[str, Any]) -> bool:
    """Whether it has no mitigation and is like the spec in all else; of the arguments, in those it has."""
    fields = all(spec.get(name) == value for name, value in other.items() if name not in _ASIDE)
    given = spec.get("method_args", {})
    arguments = all(given.get(name) == value for name, value in other.get("method_args", {}).items())
    return not other.get("mitigation") and fields and arguments


def _parts(group: Group, of: Treated) -> dict[int, Part]:
    found = {run.seed: run.parts.get(("after", of.part)) for run in group.ok}
    return {seed: part for seed, part in found.items() if part is not None and of.column in part.groups}


def _both(method: Group, plain: Group, of: Treated, same: bytes) -> _Both | None:
    sides = [{seed: part for seed, part in _parts(group, of).items() if part.same == same} for group in (method, plain)]
    if method.draws and plain.draws:
        common = sorted(set(sides[0]) & set(sides[1]))
        sides = [{seed: side[seed] for seed in common} for side in sides]
    return _Both(method, plain, *sides) if all(sides) else None


def _gaps(study: Study, of: Treated, found: Sequence[_Both]) -> dict[str, Change]:
    """Name -> the gap of equal opportunity without the mitigation and with it."""
    groups = []
    for both in found:
        # The report picks the label by what is measured after: that is the method without the mitigation here.
        runs = [
            replace(both.method.ok[0], parts={("before", of.part): mitigated, ("after", of.part): without})
            for without, mitigated in both.rows()
        ]
        groups.append(replace(both.method, runs=tuple(runs)))
    told = [
        one for one in treated(replace(study, groups=tuple(groups))) if (one.part, one.column) == (of.part, of.column)
    ]
    return {one.method.name: _forward(one) for some in told for one in some.changes if one.metric == "tpr"}


def _forward(one: Change) -> Change:
    """The same the other way round."""
    change = None if one.change is None else Interval(*(0.0 - one.change[place] for place in (0, 2, 1)))
    return one._replace(
        before=one.after,
        after=one.before,
        change=change,
        verdict=_TURNED.get(one.verdict, one.verdict),
        pair=one.pair_before,
        pair_before=one.pair,
    )


def _costs(study: Study, of: Treated, found: Sequence[_Both]) -> dict[str, Paired]:
    """Name -> the plan's metric with the mitigation minus without it."""
    plan, pairs = study.plan.of(of.task), []
    for both in found:
        sides = ((both.method, both.mitigated), (both.plain, both.without))
        tables = [table_of(list(parts.values()), plan.primary) for _, parts in sides]
        if all(table is not None for table in tables):
            pair = zip(sides, tables, strict=True)
            pairs.append(tuple(Side(group.name, tuple(parts), one, group.draws) for (group, parts), one in pair))
    if not pairs:
        return {}
    rng = np.random.default_rng(seed_of(study.plan_hash, of.task, of.part, "undone"))
    clusters = next(iter(found[0].without.values())).clusters
    return {one.a: one for one in paired_comparisons(pairs, margin=plan.margin, rng=rng, clusters=clusters)}


def _whom(both: _Both, column: str, label: str) -> Iterator[Effect]:
    """What changed for every group with a name: accuracy, and how much of the gap's label is found."""
    first = next(iter(both.without.values()))
    groups = first.groups[column].astype(str)
    right = [
        np.stack([part.chosen == part.truth for part in side]).astype(float) for side in zip(*both.rows(), strict=True)
    ]
    for of in dict.fromkeys(("", label)):
        among = first.truth == first.labels.index(of) if of else np.ones(len(first.truth), bool)
        for group in sorted(set(groups.tolist()) - {unnamed()}):
            own = among & (groups == group)
            if own.any():
                clusters = None if first.clusters is None else first.clusters[own]
                yield _effect(group, of, right[0][:, own], right[1][:, own], clusters)


def _effect(group: str, label: str, without: Array, mitigated: Array, clusters: Array | None) -> Effect:
    """What changed for one group, from (n_seeds, n_examples) hits without the mitigation and with it.

    >>> _effect("woman", "", np.array([[1.0, 0.0, 0.0, 0.0]]), np.array([[1.0, 1.0, 0.0, 0.0]]), None)
    Effect(group='woman', label='', without=0.25, mitigated=0.5, change=Interval(value=0.25, low=nan, high=nan), n=4)
    """
    means, n = (float(without.mean()), float(mitigated.mean())), without.shape[1]
    change = Interval(means[1] - means[0], math.nan, math.nan)
    if n >= FEWEST and (clusters is None or len(set(clusters)) > 1):
        found = difference(mitigated, without, clusters=clusters)
        change = Interval(found.value, found.low, found.high)
    return Effect(group, label, *means, change, n)


_COST = {
    "better": "{of} is better by {size}",
    "worse": "{of} is worse by {size}",
    "same": "{of} is the same within {margin}, by {size}",
    "undecided": "undecided whether {of} is better or worse, by {size}",
}


class MitigationCosts(NamedTuple):
    """What undoing the gaps of one column of groups costs, as the page shows it."""

    sentences: tuple[str, ...]
    figure: Figure | None
    """None where no method has a gap to show."""
    whom: Table


def mitigation_cost_section(one: Treated, found: Sequence[MitigationCost], where: str) -> MitigationCosts:
    """The part of the page.

    Args:
        one: The groups' gaps.
        found: What was done about them, at least one thing.
        where: Of which task and part, in words.
    """
    return MitigationCosts(
        tuple(f"{cost_sentence(each)}." for each in found), _figure(one, found, where), _groups_named(one, found, where)
    )


def _figure(one: Treated, found: Sequence[MitigationCost], where: str) -> Figure | None:
    """Quality against each method's own largest gap."""
    metric = found[0].metric
    levels = {each.plain.name: each.levels[0] for each in found} | {each.method.name: each.levels[1] for each in found}
    gaps = {change.method.name: change.after for change in one.changes if change.metric == "tpr" and change.pair}
    names = [name for name in levels if name in gaps]
    if not names:
        return None
    by, label = units.scale(metric), "largest gap of equal opportunity, points"
    with drawing(3.4 + 0.16 * math.ceil(len(names) / 2)) as ax:
        tradeoff(
            ax,
            names,
            [[100 * end for end in gaps[name]] for name in names],
            [[by * end for end in levels[name]] for name in names],
            label=units.heading(metric),
            forgotten_label=label,
            lines={},
        )
        return figure_of(
            ax,
            "undone",
            f"Quality against the gap by {one.column}, {where}",
            "Each method with its 95 % intervals; better is up and to the left, and at the dashed line the groups fare "
            "alike. The gap is each method's own largest, wherever it is: one that was closed for a label may have "
            "opened for another.",
            ("method", units.heading(metric), "95 % interval", label, "95 % interval"),
            [
                (
                    name,
                    units.level(metric, levels[name].value),
                    units.span(metric, levels[name].low, levels[name].high),
                    units.difference(RATE, gaps[name].value, signed=False),
                    " to ".join(units.difference(RATE, end, signed=False) for end in gaps[name][1:]),
                )
                for name in names
            ],
        )


def _groups_named(one: Treated, found: Sequence[MitigationCost], where: str) -> Table:
    """What changed for every group."""
    names = ("without", "with", "change", "examples")
    header = [Cell("mitigation"), Cell("rate"), Cell("group"), *(Cell(name, number=True) for name in names)]
    body = []
    for each in found:
        for effect in each.whom:
            change = [units.difference(RATE, end) for end in effect.change]
            known = not math.isnan(effect.change.low)
            body.append(
                (
                    Cell(each.method.name, strong=True),
                    Cell(f"share of {effect.label!r} found" if effect.label else "accuracy"),
                    Cell(effect.group),
                    *(Cell(units.level(RATE, side), number=True) for side in (effect.without, effect.mitigated)),
                    Cell(change[0], f"{change[1]} to {change[2]}" if known else "too few for an interval", number=True),
                    Cell(format.count(effect.n), number=True),
                )
            )
    return Table(f"What undoing the gap did to each group, {where}, by {one.column}", tuple(header), tuple(body))


def mitigation_cost_rows(one: Treated, found: Sequence[MitigationCost]) -> list[dict[str, Any]]:
    """What report.json holds: a row for each mitigation, with its verdicts and what it did to each group."""
    told = []
    for each in found:
        gap, quality = each.gap, each.quality.pair.comparison if each.quality else None
        row: dict[str, Any] = {**who(each.method), "part": one.part, "column": one.column}
        row |= {"against": each.plain.name, "label": gap.label, "gap_verdict": gap.verdict, "reason": gap.reason}
        for name, side in (("without", gap.before), ("with", gap.after), ("change", gap.change)):
            row[f"gap_{name}"] = None if side is None or math.isnan(side.value) else list(map(_number, side))
        row |= {"p_holm": gap.p_holm, "metric": each.metric, "sentence": cost_sentence(each)}
        row |= {"quality_verdict": quality.verdict if quality else None}
        row |= {"quality_difference": quality.difference if quality else None}
        row |= {"low": quality.low if quality else None, "high": quality.high if quality else None}
        row["groups"] = [effect._asdict() | {"change": list(map(_number, effect.change))} for effect in each.whom]
        told.append(row | {"n": each.quality.n if each.quality else gap.n, "seeds": gap.seeds})
    return told


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def cost_sentence(one: MitigationCost) -> str:
    """What a mitigation did to the gap and what it cost, in one sentence."""
    return f"{one.method.name} against {one.plain.name}: {_gap(one)}; {_cost(one)}"


def _gap(one: MitigationCost) -> str:
    gap = one.gap
    if gap.change is None:
        return f"no gap of equal opportunity is available: {gap.reason}"
    said = f"the gap for {gap.label!r} between {gap.pair_before[0]} and {gap.pair_before[1]}"
    if gap.verdict == "unchanged":
        return f"{said} is the same, the answers are"
    signed = gap.verdict == "cannot tell"
    size = gap.change if signed or gap.change.value > 0 else Interval(*(0.0 - gap.change[i] for i in (0, 2, 1)))
    value, low, high = (units.difference("accuracy", end, signed) for end in size)
    moved = f"cannot tell whether {said} became smaller or larger" if signed else f"{said} became {gap.verdict}"
    counts = signed and (gap.change.low > 0 or gap.change.high < 0)
    return f"{moved}, by {value} points ({low} to {high}){ALONE if counts else ''}"


def _cost(one: MitigationCost) -> str:
    if one.quality is None:
        return f"{units.name(one.metric)} is not compared, having no spread"
    if one.quality.identical:
        return f"{units.name(one.metric)} is exactly the same"
    said, margin = one.quality.pair.comparison, units.margin(one.metric, one.margin)
    if said.verdict in ("better", "worse"):
        size, ends = units.difference(one.metric, abs(said.difference), signed=False), spanned(said, one.metric)
    else:
        size, low, high = (units.difference(one.metric, end) for end in (said.difference, said.low, said.high))
        ends = f"{low} to {high}"
    size = f"{size}{units.unit(one.metric)} ({ends})"
    return _COST[said.verdict].format(of=units.name(one.metric), size=size, margin=margin) + alone(said)


def cost_rows(found: Sequence[MitigationCost]) -> list[dict[str, Any]]:
    """A row for each mitigation: the gap and the quality without it and with it, and both verdicts."""
    told = []
    for one in found:
        gap, quality = one.gap, one.quality.pair.comparison if one.quality else None
        row: dict[str, Any] = {"name": one.method.name, "against": one.plain.name, "label": gap.label}
        row |= {f"gap {when}": side and side.value for when, side in (("without", gap.before), ("with", gap.after))}
        row |= {"gap became": gap.verdict or gap.reason}
        row |= {f"{one.metric} {when}": side.value for when, side in zip(("without", "with"), one.levels, strict=True)}
        row |= {f"{one.metric} is": quality.verdict if quality else "not compared"}
        told.append(row | {"n": one.quality.n if quality else gap.n, "runs": gap.seeds})
    return told


def effects(found: Sequence[MitigationCost]) -> list[dict[str, Any]]:
    """A row for each mitigation and group: what it changed for that group."""
    return [
        {"name": one.method.name, "of": each.label or "all", "group": each.group, "without": each.without}
        | {"with": each.mitigated, "change": each.change.value, "low": each.change.low, "high": each.change.high}
        | {"n": each.n}
        for one in found
        for each in one.whom
    ]


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
    mended: MitigationCosts | None
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


def groups_section(study: Study) -> Groups:
    """Whom a study's methods treat worse; empty where its predictions have no groups."""
    found = treated(study)
    undo = [mitigation_costs(study, one) for one in found]
    told = [row for one, some in zip(found, undo, strict=True) for row in mitigation_cost_rows(one, some)]
    pages = tuple(_page(one, some) for one, some in zip(found, undo, strict=True))
    return Groups(pages, [row for one in found for row in rows(one)], told)


def _page(one: Treated, undo: Sequence[MitigationCost]) -> GroupPage:
    where = one.task if one.part == "test" else f"{one.task}, {one.part.removeprefix('tests.')}"
    return GroupPage(
        f"{where}, by {one.column}",
        lead(one),
        tuple(f"{sentence(change)}." for change in one.changes),
        _gap_table(one, where),
        _rates_figure(one, where),
        _level_table(one, where),
        tuple(_notes(one)),
        mitigation_cost_section(one, undo, where) if undo else None,
    )


def _gap_cell(found: Interval | None, reason: str, signed: bool = False, strong: bool = False) -> Cell:
    if found is None or math.isnan(found.value):
        return Cell("not available", reason, number=True)
    shown = [units.difference(RATE, value, signed) for value in found]
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
                Cell(format.p_value(c.p_holm) if asked else "", number=True),
                Cell(_smallest(c), number=True),
                Cell(format.count(c.n), number=True),
                Cell(str(c.seeds), number=True),
            )
        )
    return Table(f"Gaps between groups before and after adapting, {where}, by {one.column}", tuple(header), tuple(body))


def _turned(one: Change) -> str:
    return f"before: {' to '.join(one.pair_before)}" if one.pair_before and one.pair_before != one.pair else ""


def _smallest(one: Change) -> str:
    if one.reason:
        return format.NONE
    return "none" if math.isinf(one.smallest) else f"{units.difference(RATE, one.smallest, signed=False)} points"


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
            cells += [Cell(label.get(name, format.NONE))] if metric == "tpr" else []
            cells += [_level_cell(found.get((name, group, metric, stage)), stage) for stage in ("before", "after")]
            after = found.get((name, group, metric, "after"))
            cells.append(Cell(format.count(after.n) if after else format.NONE, number=True))
        body.append(tuple(cells))
    return Table(f"Every group's rates, {where}, by {one.column}", tuple(header), tuple(body))


def _level_cell(level: Level | None, stage: str) -> Cell:
    if level is None:
        return Cell("not available", "not measured" if stage == "before" else "no label has a gap", number=True)
    if math.isnan(level.found.value):
        return Cell("not available", "no example to divide by", number=True)
    return Cell(units.level(RATE, level.found.value), units.span(RATE, level.found.low, level.found.high), number=True)


def _rates_figure(one: Treated, where: str) -> Figure:
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
        return format.NONE
    value, low, high = values
    return f"{value:.1f}" + ("" if math.isnan(low) else f" ({low:.1f} to {high:.1f})")


def _notes(one: Treated) -> Iterator[str]:
    if one.left_out:
        yield f"In no gap, having fewer than {FEWEST} examples or no name: {format.some(list(one.left_out), 12)}"
