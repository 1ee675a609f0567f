"""The cost of mitigation: every mitigation of a gap between groups against the same method without it.

The gap is the one to be closed: that of equal opportunity, for the label where the method without the mitigation has
the largest. Picked by looking, the largest of several is partly luck and would look smaller after anything. So the
level of its change is divided by how many labels and pairs of groups there were to pick from; and the largest gap that
is left (`ftlib.report.sections.fairness`) has to be read beside it, since a gap may move to another label. Runs are
paired on seeds and examples.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib.config.constraints import OF_TERMS
from ftlib.config.methods import METHODS
from ftlib.core import format
from ftlib.metrics import units
from ftlib.metrics.fairness import FEWEST, unnamed
from ftlib.records.predictions import Part
from ftlib.records.study import Group, Study, seed_of
from ftlib.report.blocks import Block, Cell, Column, Fold, Heading, Note, Section, Sentences, table
from ftlib.report.figures import Figure, drawing, figure_of
from ftlib.report.metric_rows import WHO, group_interval, numbers, who
from ftlib.report.pairing import Paired, Side, paired_comparisons
from ftlib.report.plots.heat import tradeoff
from ftlib.report.sections.continual import ALONE, alone, spanned, table_of
from ftlib.report.sections.fairness import (
    RATE,
    GapChange,
    GroupFairness,
    answers_of,
    flipped,
    gap_changes,
    points,
    share_cell,
    size,
    span,
)
from ftlib.stats.intervals import Interval
from ftlib.stats.paired import difference
from ftlib.stats.variance import Array

if TYPE_CHECKING:
    from ftlib.report.build import Reading

_ASIDE = ("seed", "notebook", "save", "mitigation", "mitigation_column", "method", "method_args")
"""Fields in which a method may differ from the same without the mitigation."""

_TURNED = {"smaller": "larger", "larger": "smaller"}


class GroupEffect(NamedTuple):
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
    gap: GapChange
    """Before: without the mitigation; after: with it; for the label with the largest gap before."""
    effects: tuple[GroupEffect, ...]
    goes_by: str
    """The column of groups that the mitigation goes by; empty: it changes gender terms, whatever the column."""
    column: str
    """The column of groups that the gap is of."""


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


def mitigation_costs(study: Study, of: GroupFairness) -> list[MitigationCost]:
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
    plan, gaps, costs = study.plan.of(of.task), _gaps(of, found), _costs(study, of, found)
    return [
        MitigationCost(
            both.method,
            both.plain,
            plan.primary,
            plan.margin,
            tuple(group_interval(list(side.values()), plan.primary) for side in (both.without, both.mitigated)),
            costs.get(both.method.name),
            gaps[both.method.name],
            tuple(_effects_of(both, of.column, gaps[both.method.name].label)),
            _goes_by(both),
            of.column,
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


def _parts(group: Group, of: GroupFairness) -> dict[int, Part]:
    found = {run.seed: run.parts.get(("after", of.part)) for run in group.ok}
    return {seed: part for seed, part in found.items() if part is not None and of.column in part.groups}


def _both(method: Group, plain: Group, of: GroupFairness, same: bytes) -> _Both | None:
    sides = [{seed: part for seed, part in _parts(group, of).items() if part.same == same} for group in (method, plain)]
    if method.draws and plain.draws:
        common = sorted(set(sides[0]) & set(sides[1]))
        sides = [{seed: side[seed] for seed in common} for side in sides]
    return _Both(method, plain, *sides) if all(sides) else None


def _gaps(of: GroupFairness, found: Sequence[_Both]) -> dict[str, GapChange]:
    """Name -> the gap of equal opportunity without the mitigation and with it."""
    # The label is picked by what is measured after: that is the method without the mitigation here.
    answers = [answers_of(both.method, [pair[::-1] for pair in both.rows()], of.column) for both in found]
    return {one.method.name: _forward(one) for one in gap_changes(answers) if one.metric == "tpr"}


def _forward(one: GapChange) -> GapChange:
    """The same the other way round."""
    return one._replace(
        before=one.after,
        after=one.before,
        change=None if one.change is None else flipped(one.change),
        verdict=_TURNED.get(one.verdict, one.verdict),
        pair=one.pair_before,
        pair_before=one.pair,
    )


def _costs(study: Study, of: GroupFairness, found: Sequence[_Both]) -> dict[str, Paired]:
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
    # The word is part of the seed, so that numbers stay what they were.
    rng = np.random.default_rng(seed_of(study.plan_hash, of.task, of.part, "undone"))
    clusters = next(iter(found[0].without.values())).clusters
    return {one.a: one for one in paired_comparisons(pairs, margin=plan.margin, rng=rng, clusters=clusters)}


def _goes_by(both: _Both) -> str:
    spec = both.method.runs[0].resolved
    if spec.get("mitigation") in OF_TERMS:
        return ""
    return spec.get("mitigation_column") or next(iter(next(iter(both.mitigated.values())).groups))


def _effects_of(both: _Both, column: str, label: str) -> Iterator[GroupEffect]:
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


def _effect(group: str, label: str, without: Array, mitigated: Array, clusters: Array | None) -> GroupEffect:
    """What changed for one group, from (n_seeds, n_examples) hits without the mitigation and with it.

    >>> _effect("w", "", np.array([[1.0, 0.0, 0.0, 0.0]]), np.array([[1.0, 1.0, 0.0, 0.0]]), None)
    GroupEffect(group='w', label='', without=0.25, mitigated=0.5, change=Interval(value=0.25, low=nan, high=nan), n=4)
    """
    means, n = (float(without.mean()), float(mitigated.mean())), without.shape[1]
    change = Interval(means[1] - means[0], math.nan, math.nan)
    if n >= FEWEST and (clusters is None or len(set(clusters)) > 1):
        found = difference(mitigated, without, clusters=clusters)
        change = Interval(found.value, found.low, found.high)
    return GroupEffect(group, label, *means, change, n)


def cost_sentence(one: MitigationCost) -> str:
    """What a mitigation did to the gap and what it cost, in one sentence."""
    by = "" if one.goes_by == one.column else f", which goes by {one.goes_by or 'gender terms'},"
    return f"{one.method.name}{by} against {one.plain.name}: {_gap(one.gap)}; {_cost(one)}"


def _gap(gap: GapChange) -> str:
    if gap.change is None:
        return f"no gap of equal opportunity is available: {gap.reason}"
    said = f"the gap for {gap.label!r} between {gap.pair_before[0]} and {gap.pair_before[1]}"
    if gap.verdict == "unchanged":
        return f"{said} is the same, since no answer changed"
    if gap.verdict == "undecided":
        counts = ALONE if gap.change.low > 0 or gap.change.high < 0 else ""
        return f"undecided whether {said} became smaller or larger, by {points(gap.change, signed=True)}{counts}"
    return f"{said} became {gap.verdict}, by {points(size(gap.change))}"


_COST = {
    "better": "{of} is better by {size}",
    "worse": "{of} is worse by {size}",
    "same": "{of} is equivalent within {margin}, by {size}",
    "undecided": "undecided whether {of} is better or worse, by {size}",
}


def _cost(one: MitigationCost) -> str:
    if one.quality is None:
        return f"{units.name(one.metric)} is not compared, having no spread"
    if one.quality.identical:
        return f"{units.name(one.metric)} is exactly the same"
    said, margin = one.quality.comparison, units.margin(one.metric, one.margin)
    if said.verdict in ("better", "worse"):
        by, bounds = units.difference(one.metric, abs(said.difference), signed=False), spanned(said, one.metric)
    else:
        by, low, high = (units.difference(one.metric, end) for end in (said.difference, said.low, said.high))
        bounds = f"{low} to {high}"
    by = f"{by}{units.unit(one.metric)} ({bounds})"
    return _COST[said.verdict].format(of=units.name(one.metric), size=by, margin=margin) + alone(said)


def rows(of: GroupFairness, found: Sequence[MitigationCost]) -> list[dict[str, Any]]:
    """What report.json holds: a row for each mitigation, with its verdicts and what it did to each group."""
    told = []
    for one in found:
        gap, quality = one.gap, one.quality and one.quality.comparison
        row: dict[str, Any] = {**who(one.method), "part": of.part, "column": of.column}
        row |= {
            "goes_by": one.goes_by,
            "against": one.plain.name,
            "label": gap.label,
            "gap_verdict": gap.verdict,
            "reason": gap.reason,
        }
        for name, side in (("without", gap.before), ("with", gap.after), ("change", gap.change)):
            row[f"gap_{name}"] = None if side is None or math.isnan(side.value) else list(numbers(side).values())
        row |= {"p_holm": gap.p_holm, "metric": one.metric, "sentence": cost_sentence(one)}
        row |= {"quality_verdict": quality and quality.verdict, "quality_difference": quality and quality.difference}
        row |= {"low": quality and quality.low, "high": quality and quality.high}
        row["groups"] = [each._asdict() | {"change": list(numbers(each.change).values())} for each in one.effects]
        told.append(row | {"n": one.quality.n if one.quality else gap.n, "seeds": gap.seeds})
    return told


def effects(found: Sequence[MitigationCost]) -> list[dict[str, Any]]:
    """A row for each mitigation and group: what it changed for that group."""
    return [
        {"name": one.method.name, "of": each.label or "all", "group": each.group, "without": each.without}
        | {"with": each.mitigated, "change": each.change.value, "low": each.change.low, "high": each.change.high}
        | {"n": each.n, "rate": f"share of {each.label!r} found" if each.label else "accuracy"}
        for one in found
        for each in one.effects
    ]


def _changed(row: Mapping[str, Any]) -> Cell:
    found = share_cell(Interval(row["change"], row["low"], row["high"]), signed=True)
    return found if found.small else found._replace(small="too few for an interval")


def _percent(share: float) -> str:
    return units.level(RATE, share)


_EFFECTS = (
    Column("name", "mitigation", lambda name: Cell(name, strong=True)),
    Column("rate", "rate"),
    Column("group", "group"),
    Column("without", "without, %", _percent, number=True),
    Column("with", "with, %", _percent, number=True),
    Column("change", "change, points", _changed, number=True, whole=True),
    Column("n", "examples", format.count, number=True),
)


def _figure(of: GroupFairness, found: Sequence[MitigationCost]) -> Figure | None:
    """Quality against each method's own largest gap; None where no method has one."""
    metric = found[0].metric
    levels = {each.plain.name: each.levels[0] for each in found} | {each.method.name: each.levels[1] for each in found}
    gaps = {change.method.name: change.after for change in of.changes if change.metric == "tpr" and change.pair}
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
            "mitigation",
            f"Quality against the gap, {of.where}",
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
                    span(gaps[name]),
                )
                for name in names
            ],
        )


_NOTE = (
    "Each mitigation against the same method without it, on the same people and seeds (threshold and exponentiated "
    "against the probe). The gap is that of the label where the method without it has the largest, corrected for "
    "picking; both verdicts are corrected for their number (Holm)."
)

Costs = list[tuple[GroupFairness, list[MitigationCost]]]
"""Columns of groups with the mitigations of their gaps."""


def _read(reading: "Reading") -> Costs | None:
    groups = reading.of("groups") or []
    return [(of, found) for of in groups if (found := mitigation_costs(reading.study, of))] or None


def _blocks(costs: Costs) -> Iterator[Block]:
    yield Note(_NOTE)
    for of, found in costs:
        if len(costs) > 1:
            yield Heading(of.where)
        yield Sentences(tuple(f"{cost_sentence(one)}." for one in found))
        if drawn := _figure(of, found):
            yield drawn
        caption = f"What mitigation did to each group, {of.where}"
        yield Fold(caption, (table(caption, _EFFECTS, effects(found)),))


SECTION = Section(
    name="mitigation",
    title="Cost of mitigation",
    read=_read,
    columns={
        "mitigation_cost": (
            *WHO, "part", "column", "goes_by", "against", "label", "gap_without", "gap_with", "gap_change",
            "gap_verdict", "p_holm", "metric", "quality_difference", "low", "high", "quality_verdict", "n",
            "seeds", "groups", "sentence", "reason",
        ),
    },
    rows=lambda costs: {"mitigation_cost": [row for of, found in costs for row in rows(of, found)]},
    blocks=_blocks,
)  # fmt: skip
