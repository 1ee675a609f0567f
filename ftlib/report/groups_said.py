"""What a method's gaps between groups are and what adapting did to them, in sentences and as rows of report.json."""

import math
from collections.abc import Iterator
from typing import Any

from ftlib.intervals import Interval
from ftlib.report import say
from ftlib.report.entries import numbers, who
from ftlib.report.groups import Change, Treated

GAP_OF = {"accuracy": "accuracy", "tpr": "equal opportunity", "fpr": "false positives"}
"""What a gap is called by the rate it is of."""

_GAPS = {
    "accuracy": "accuracy_difference",
    "tpr": "equal_opportunity_difference",
    "fpr": "false_positive_rate_difference",
}

RATE = "accuracy"
"""Every rate here is a share and is shown as accuracy is."""


def lead(one: Treated) -> str:
    """What adapting did to the gaps, in a sentence or two."""
    asked = [c for c in one.changes if c.verdict not in ("", "unchanged")]
    if not asked:
        return "No method was adapted and measured before and after, so nothing is said of what adapting did."
    moved = {
        verdict: [f"{c.method.name} ({GAP_OF[c.metric]})" for c in asked if c.verdict == verdict]
        for verdict in ("larger", "smaller")
    }
    said = [f"Adapting made the gap {verdict} for {say.some(names)}." for verdict, names in moved.items() if names]
    if untold := len(asked) - sum(map(len, moved.values())):
        said.append(f"For {untold} of {say.plural(len(asked), 'gap')} it cannot be told whether adapting changed them.")
    return " ".join(said)


def _of(change: Change) -> str:
    told = {"tpr": f"share of {change.label!r} that is found", "fpr": f"share of others called {change.label!r}"}
    return told.get(change.metric, "accuracy")


def _points(found: Interval, signed: bool = False) -> str:
    shown = [say.difference(RATE, value, signed) for value in found]
    return f"{shown[0]} points ({shown[1]} to {shown[2]})"


def sentence(one: Change) -> str:
    """What a method's gap is and what adapting did to it, in one sentence."""
    name = one.method.name
    if one.reason:
        return f"{name}: no gap of {GAP_OF[one.metric]} is available: {one.reason}"
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


def rows(one: Treated) -> Iterator[dict[str, Any]]:
    """Gaps and rates as report.json holds them; of a gap `group` is empty."""
    where = {"part": one.part, "column": one.column}
    for c in one.changes:
        about = {**who(c.method), **where, "group": "", "metric": _GAPS[c.metric], "label": c.label}
        for stage, found in (("before", c.before), ("after", c.after), ("change", c.change)):
            if found is None:
                continue
            row = {**about, "stage": stage, **numbers(found), "n": c.n, "seeds": c.seeds}
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
        row = {**who(level.method), **where, "group": level.group, "metric": level.metric, "label": level.label}
        row |= {"stage": level.stage, **numbers(level.found), "n": level.n, "seeds": level.seeds}
        yield row | ({"reason": "no example to divide by"} if row["value"] is None else {})
