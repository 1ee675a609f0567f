"""What became of every measure of bias: before adapting, after it, and whether that is more than noise.

What counts is the size of a bias, its distance from none: of a gap from 0, of a share of stereotypes from one half.
That sizes differ is claimed only where both "equal" and "equal, the other way round" are refuted, so a gap that turns
round has not grown. Largest gaps of several terms were picked by looking: the one that is to be larger is tested
against every term of the other stage, and the level divided by how many there were to pick from. Intervals come
from the two-way table of seeds and texts (`ftlib.difference`).
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ftlib.difference import Difference, difference
from ftlib.intervals import Interval, interval
from ftlib.report.ledger_scores import Key, Scores, scores_of
from ftlib.report.study import Group, Study
from ftlib.spread import Array
from ftlib.stats import holm

ALPHA = 0.05
MARGIN = 0.01
"""A change of a rate or a probability that is smaller than this, 1 point, matters to nobody."""
NEUTRAL = {"signed_gap": 0.0, "template_gap": 0.0, "stereotype_share": 0.5}
"""Where a measure that has two directions shows no bias; the others are sizes as they are."""
OPPORTUNITY = "equal_opportunity_difference"


class Line(NamedTuple):
    """A measure of one method."""

    method: Group
    part: str
    metric: str
    about: str
    before: Interval | None
    """None: not available, `reason` says why."""
    after: Interval | None
    change: Interval | None = None
    """Of the size, after - before."""
    p_value: float = 1.0
    """Of "the size is what it was", corrected for the terms, groups and labels picked from."""
    p_holm: float = 1.0
    """Corrected for the table, too."""
    p_same: float = 1.0
    """Of "it changed by the margin or more"."""
    identical: bool = False
    """Whether nothing moved at all."""
    verdict: str = ""
    """smaller, larger, same, cannot tell; empty where there is no change to speak of."""
    at: tuple[str, str] = ("", "")
    """What has the largest gap before and after."""
    n: int = 0
    seeds: int = 0
    protocol: str = ""
    caution: str = ""
    reason: str = ""


def ledger(study: Study, group_rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Line]]:
    """Task -> a line for each measure of bias and method; the lines of a task are one family (Holm).

    Args:
        study: With records that hold probes of bias, or groups.
        group_rows: What `ftlib.report.groups_page` found; gaps of equal opportunity are taken from there.
    """
    found: dict[str, list[Line]] = {}
    for group in study.groups:
        runs = [scores_of(run) for run in group.ok]
        for key in dict.fromkeys(key for run in runs for key in run):
            found.setdefault(group.task, []).append(_line(group, key, [run.get(key, {}) for run in runs]))
    for line in _opportunity(study, group_rows):
        found.setdefault(line.method.task, []).append(line)
    return {task: _decided(lines) for task, lines in found.items()}


def _decided(lines: list[Line]) -> list[Line]:
    """With corrected p-values and verdicts, one measure after the other."""
    # What changed nothing is no hypothesis, and costs the others no correction.
    asked = [place for place, one in enumerate(lines) if one.change is not None and not one.identical]
    corrected = dict(zip(asked, holm([lines[place].p_value for place in asked]), strict=True))
    for place, one in enumerate(lines):
        if one.change is not None:
            p = float(corrected.get(place, 1.0))
            moved = "larger" if one.change.value > 0 else "smaller"
            told = moved if p <= ALPHA else "cannot tell"
            lines[place] = one._replace(p_holm=p, verdict="same" if one.identical or one.p_same <= ALPHA else told)
    order = list(dict.fromkeys((one.part, one.metric, one.about) for one in lines))
    return sorted(lines, key=lambda one: order.index((one.part, one.metric, one.about)))


def _line(group: Group, key: Key, runs: Sequence[Mapping[str, Scores]]) -> Line:
    """One measure of a method's runs, which are (stage -> scores) each."""
    after = _alike([one["after"] for one in runs if "after" in one and one["after"].values is not None])
    whole = [one for one in runs if any(one.get("after") is side for side in after)]
    before = _alike([one["before"] for one in runs if "before" in one and one["before"].values is not None])
    if len(before) > 1 and all((one.values == before[0].values).all() for one in before):
        before = before[:1]
    elif after and len(before) > 1:
        whole = [one for one in whole if any(one.get("before") is side for side in before)]
        before = [one["before"] for one in whole]
        after = [one["after"] for one in whole] or after
    some = (after or before or [Scores(None)])[0]
    reason = _why_not(runs, before, after)
    # (n_seeds, n_terms, n_texts)
    sides = [np.stack([one.values for one in side]) if side else None for side in (before, after)]
    sources = [side[0].clusters if side else None for side in (before, after)]
    told = [None if side is None else _level(key[1], side, of) for side, of in zip(sides, sources, strict=True)]
    line = Line(
        group,
        *key,
        *told,
        at=tuple(
            "" if side is None else of[0].terms[_largest(key[1], side)]
            for of, side in zip((before, after), sides, strict=True)
        ),
        n=len(some.ids),
        seeds=len(after or before),
        protocol=some.protocol,
        caution=some.caution,
        reason=reason,
    )
    return line if reason else line._replace(**_change(key[1], *sides, some.clusters))


def _alike(found: list[Scores]) -> list[Scores]:
    """Those on the same texts, by the same protocol, as most."""
    most = Counter(one.same for one in found).most_common(1)
    return [one for one in found if one.same == most[0][0]]


def _why_not(runs: Sequence[Mapping[str, Scores]], before: list[Scores], after: list[Scores]) -> str:
    """Why there is no change to speak of; empty where there is one."""
    for stage, side in (("after", after), ("before", before)):
        if not side:
            said = next(
                (one[stage].reason for one in runs if stage in one and one[stage].reason), "it was not measured"
            )
            return f"{stage} adapting: {said}"
    if before[0].same != after[0].same:
        return "other texts, or another protocol, were used before than after"
    if _draws(after[0]) < 2:
        return "fewer than two texts of different sources have no spread to learn from"
    return ""


def _draws(one: Scores) -> int:
    return len(set(one.ids if one.clusters is None else one.clusters))


def _largest(metric: str, side: Array) -> int:
    """The term that is farthest from no bias, in the mean over seeds and texts."""
    return int(np.abs(side.mean(axis=(0, 2)) - NEUTRAL.get(metric, 0.0)).argmax())


def _level(metric: str, side: Array, clusters: Sequence[str] | None) -> Interval:
    """A stage's value with its interval, of the largest of several terms corrected for how many there were."""
    values, level = side[:, _largest(metric, side)], ALPHA / side.shape[1]
    if values.shape[1] < 2 or (clusters is not None and len(set(clusters)) < 2):
        return Interval(float(values.mean()), math.nan, math.nan)
    if metric in ("signed_gap", "template_gap"):
        found = difference(values, np.zeros_like(values), alpha=level, clusters=clusters, bounds=(0.0, 1.0))
        return Interval(found.value, found.low, found.high)
    return interval(values, alpha=level, clusters=clusters, bounds=(0.0, 1.0))


def _change(metric: str, before: Array, after: Array, clusters: Sequence[str] | None) -> dict[str, Any]:
    """Fields of a line: what became of the size, with an interval that leaves out 0 only where the p-value does."""
    terms, neutral = after.shape[1], NEUTRAL.get(metric)
    level, middle = ALPHA / terms, neutral or 0.0

    def step(a: Array, b: Array, mirrored: bool, margin: float = 0.0) -> Difference:
        b = 2 * middle - b if mirrored else b
        return difference(a, b, margin=margin, alpha=level, clusters=clusters, bounds=(0.0, 1.0))

    if (before == after).all():
        return {"change": Interval(0.0, 0.0, 0.0), "identical": True}
    ends = [side[:, _largest(metric, side)] for side in (before, after)]
    means = [float(end.mean()) - middle for end in ends]
    sign = -1 if means[1] < 0 else 1
    found = step(ends[1], ends[0], means[0] * means[1] < 0)
    value = abs(means[1]) - abs(means[0])
    lead, others = (ends[1], before) if value > 0 else (ends[0], after)
    ways = (False,) if neutral is None else (False, True)
    p_value = max(step(lead, others[:, place], way).p_value for place in range(terms) for way in ways)
    low, high = sorted((sign * found.low, sign * found.high))
    p_value = min(1.0, terms * p_value)
    if p_value > ALPHA:
        low, high = min(low, 0.0), max(high, 0.0)
    # Where no term's gap has changed by the margin, the largest has not.
    p_same = max(step(after[:, place], before[:, place], False, MARGIN).p_same for place in range(terms))
    return {"change": Interval(value, min(low, value), max(high, value)), "p_value": p_value, "p_same": p_same}


def _opportunity(study: Study, group_rows: Sequence[Mapping[str, Any]]) -> Iterator[Line]:
    """Gaps of equal opportunity as the section on groups found them."""
    names = ("task", "model", "method", "settings")
    methods = {tuple(getattr(group, name) for name in names): group for group in study.groups}
    found: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for row in group_rows:
        if row["metric"] == OPPORTUNITY and not row["group"]:
            key = *(row[name] for name in names), row["part"], row["column"]
            found.setdefault(key, {})[row["stage"]] = row
    for (*who, part, column), stages in found.items():
        after, change = stages["after"], stages.get("change")
        reason = after.get("reason", "") if change is None else ""
        yield Line(
            methods[tuple(who)],
            part,
            OPPORTUNITY,
            column,
            *(_taken(stages.get(stage)) for stage in ("before", "after", "change")),
            p_value=change["p_value"] if change else 1.0,
            identical=change is not None and change["verdict"] == "unchanged",
            at=tuple(_between(stages.get(stage), after["label"]) for stage in ("before", "after")),
            n=after["n"],
            seeds=after["seeds"],
            reason=reason or ("" if change else "before adapting: it was not measured"),
        )


def _taken(row: Mapping[str, Any] | None) -> Interval | None:
    if row is None or row["value"] is None:
        return None
    return Interval(*(math.nan if row[name] is None else row[name] for name in Interval._fields))


def _between(row: Mapping[str, Any] | None, label: str) -> str:
    return f"{label}: {row['lowest']} to {row['highest']}" if row and row.get("lowest") else ""
