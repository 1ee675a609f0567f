"""What undoing a gap costs, in words, rows, tables and a picture (`ftlib.report.undone`)."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ftlib.intervals import Interval
from ftlib.plots.dial import dial
from ftlib.report import say
from ftlib.report.entries import who
from ftlib.report.figures import Figure, figure_of
from ftlib.report.groups import Treated
from ftlib.report.groups_said import RATE
from ftlib.report.sequences import ALONE, alone, spanned
from ftlib.report.svg import drawing
from ftlib.report.tables import Cell, Table
from ftlib.report.undone import Undone

_COST = {
    "better": "{of} is better by {size}",
    "worse": "{of} is worse by {size}",
    "same": "{of} is the same within {margin}, by {size}",
    "undecided": "undecided whether {of} is better or worse, by {size}",
}


class Mended(NamedTuple):
    """What undoing the gaps of one column of groups costs, as the page shows it."""

    sentences: tuple[str, ...]
    figure: Figure | None
    """None where no method has a gap to show."""
    whom: Table


def mended(one: Treated, found: Sequence[Undone], where: str) -> Mended:
    """The part of the page.

    Args:
        one: The groups' gaps.
        found: What was done about them, at least one thing.
        where: Of which task and part, in words.
    """
    return Mended(tuple(f"{sentence(each)}." for each in found), _figure(one, found, where), _whom(one, found, where))


def _figure(one: Treated, found: Sequence[Undone], where: str) -> Figure | None:
    """Quality against each method's own largest gap."""
    metric = found[0].metric
    levels = {each.plain.name: each.levels[0] for each in found} | {each.method.name: each.levels[1] for each in found}
    gaps = {change.method.name: change.after for change in one.changes if change.metric == "tpr" and change.pair}
    names = [name for name in levels if name in gaps]
    if not names:
        return None
    by, label = say.scale(metric), "largest gap of equal opportunity, points"
    with drawing(3.4 + 0.16 * math.ceil(len(names) / 2)) as ax:
        dial(
            ax,
            names,
            [[100 * end for end in gaps[name]] for name in names],
            [[by * end for end in levels[name]] for name in names],
            label=say.heading(metric),
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
            ("method", say.heading(metric), "95 % interval", label, "95 % interval"),
            [
                (
                    name,
                    say.level(metric, levels[name].value),
                    say.span(metric, levels[name].low, levels[name].high),
                    say.difference(RATE, gaps[name].value, signed=False),
                    " to ".join(say.difference(RATE, end, signed=False) for end in gaps[name][1:]),
                )
                for name in names
            ],
        )


def _whom(one: Treated, found: Sequence[Undone], where: str) -> Table:
    """What changed for every group."""
    names = ("without", "with", "change", "examples")
    header = [Cell("mitigation"), Cell("rate"), Cell("group"), *(Cell(name, number=True) for name in names)]
    body = []
    for each in found:
        for effect in each.whom:
            change = [say.difference(RATE, end) for end in effect.change]
            known = not math.isnan(effect.change.low)
            body.append(
                (
                    Cell(each.method.name, strong=True),
                    Cell(f"share of {effect.label!r} found" if effect.label else "accuracy"),
                    Cell(effect.group),
                    *(Cell(say.level(RATE, side), number=True) for side in (effect.without, effect.mitigated)),
                    Cell(change[0], f"{change[1]} to {change[2]}" if known else "too few for an interval", number=True),
                    Cell(say.count(effect.n), number=True),
                )
            )
    return Table(f"What undoing the gap did to each group, {where}, by {one.column}", tuple(header), tuple(body))


def mended_rows(one: Treated, found: Sequence[Undone]) -> list[dict[str, Any]]:
    """What report.json holds: a row for each mitigation, with its verdicts and what it did to each group."""
    told = []
    for each in found:
        gap, quality = each.gap, each.quality.pair.comparison if each.quality else None
        row: dict[str, Any] = {**who(each.method), "part": one.part, "column": one.column}
        row |= {"against": each.plain.name, "label": gap.label, "gap_verdict": gap.verdict, "reason": gap.reason}
        for name, side in (("without", gap.before), ("with", gap.after), ("change", gap.change)):
            row[f"gap_{name}"] = None if side is None or math.isnan(side.value) else list(map(_number, side))
        row |= {"p_holm": gap.p_holm, "metric": each.metric, "sentence": sentence(each)}
        row |= {"quality_verdict": quality.verdict if quality else None}
        row |= {"quality_difference": quality.difference if quality else None}
        row |= {"low": quality.low if quality else None, "high": quality.high if quality else None}
        row["groups"] = [effect._asdict() | {"change": list(map(_number, effect.change))} for effect in each.whom]
        told.append(row | {"n": each.quality.n if each.quality else gap.n, "seeds": gap.seeds})
    return told


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def sentence(one: Undone) -> str:
    """What a mitigation did to the gap and what it cost, in one sentence."""
    return f"{one.method.name} against {one.plain.name}: {_gap(one)}; {_cost(one)}"


def _gap(one: Undone) -> str:
    gap = one.gap
    if gap.change is None:
        return f"no gap of equal opportunity is available: {gap.reason}"
    said = f"the gap for {gap.label!r} between {gap.pair_before[0]} and {gap.pair_before[1]}"
    if gap.verdict == "unchanged":
        return f"{said} is the same, the answers are"
    signed = gap.verdict == "cannot tell"
    size = gap.change if signed or gap.change.value > 0 else Interval(*(0.0 - gap.change[i] for i in (0, 2, 1)))
    value, low, high = (say.difference("accuracy", end, signed) for end in size)
    moved = f"cannot tell whether {said} became smaller or larger" if signed else f"{said} became {gap.verdict}"
    counts = signed and (gap.change.low > 0 or gap.change.high < 0)
    return f"{moved}, by {value} points ({low} to {high}){ALONE if counts else ''}"


def _cost(one: Undone) -> str:
    if one.quality is None:
        return f"{say.name(one.metric)} is not compared, having no spread"
    if one.quality.identical:
        return f"{say.name(one.metric)} is exactly the same"
    said, margin = one.quality.pair.comparison, say.margin(one.metric, one.margin)
    if said.verdict in ("better", "worse"):
        size, ends = say.difference(one.metric, abs(said.difference), signed=False), spanned(said, one.metric)
    else:
        size, low, high = (say.difference(one.metric, end) for end in (said.difference, said.low, said.high))
        ends = f"{low} to {high}"
    size = f"{size}{say.unit(one.metric)} ({ends})"
    return _COST[said.verdict].format(of=say.name(one.metric), size=size, margin=margin) + alone(said)


def rows(found: Sequence[Undone]) -> list[dict[str, Any]]:
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


def effects(found: Sequence[Undone]) -> list[dict[str, Any]]:
    """A row for each mitigation and group: what it changed for that group."""
    return [
        {"name": one.method.name, "of": each.label or "all", "group": each.group, "without": each.without}
        | {"with": each.mitigated, "change": each.change.value, "low": each.change.low, "high": each.change.high}
        | {"n": each.n}
        for one in found
        for each in one.whom
    ]
