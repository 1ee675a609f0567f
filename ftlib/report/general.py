"""What adapting cost elsewhere: bits per byte of general text before and after each method, paired over documents."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ftlib.intervals import Interval
from ftlib.metrics.language import METRICS_OF_TEXT
from ftlib.report import say
from ftlib.report.contest import Contest, unit_of
from ftlib.report.parts import Part
from ftlib.report.rows import comparable, group_interval, metrics_of, values_of
from ftlib.report.study import Group, Study, seed_of
from ftlib.verdict import Comparison, Pair, compare_all

PART = "general"
_BEFORE = " before"


class Forgot(NamedTuple):
    """One method on general text."""

    group: Group
    metric: str
    before: Interval
    after: Interval
    change: Comparison
    """after - before; lower is better."""
    p_holm: float
    margin: float
    """The smallest change that matters; 0 where the plan settles none in this unit."""
    n: int
    seeds: int
    protocol: str

    @property
    def unchanged(self) -> bool:
        """Whether every document is as likely as before."""
        return self.change.difference == self.change.low == self.change.high == 0


class _Entry(NamedTuple):
    group: Group
    metric: str
    before: list[Part]
    after: list[Part]


def forgotten(study: Study, task: str) -> list[Forgot]:
    """Every method of a task that was measured on general text before and after, in the order of the groups.

    The changes of methods measured on the same text under one protocol are one family of comparisons (Holm). A method
    whose parts differ in text or protocol is left out: its rows are in the table of what was measured beside the task.
    """
    families: dict[tuple[bytes, str, str, bool], list[_Entry]] = {}
    for group in study.groups:
        if group.task == task and (entry := _entry(group)):
            part = entry.after[0]
            # What changed nothing is no hypothesis, and costs the others no correction.
            still = {one.answers for one in entry.before} == {one.answers for one in entry.after}
            families.setdefault((part.same, part.protocol, entry.metric, still), []).append(entry)
    found = {one.group.name: one for entries in families.values() for one in _family(study, task, entries)}
    return [found[group.name] for group in study.groups if group.task == task and group.name in found]


def _entry(group: Group) -> _Entry | None:
    pairs = [(run.parts.get(("before", PART)), run.parts.get(("after", PART))) for run in group.ok]
    pairs = [
        (a, b)
        for a, b in pairs
        if a is not None
        and b is not None
        and b.of_text
        and (a.same, a.protocol, a.pseudo) == (b.same, b.protocol, b.pseudo)
    ]
    if not pairs:
        return None
    kept = {id(part) for part in comparable([after for _, after in pairs])}
    before, after = (list(side) for side in zip(*(pair for pair in pairs if id(pair[1]) in kept), strict=True))
    if len({part.answers for part in before}) == 1:
        before = before[:1]
    return _Entry(group, metrics_of(after[0])[0], before, after)


def _family(study: Study, task: str, entries: Sequence[_Entry]) -> Iterator[Forgot]:
    plan, first = study.plan.of(task), entries[0].after[0]
    metric = entries[0].metric
    margin = plan.margin if plan.primary in METRICS_OF_TEXT else 0.0
    levels = {one.group.name: [group_interval(side, metric) for side in (one.before, one.after)] for one in entries}
    # Fewer than two sources have no spread to learn from.
    able = [one for one in entries if not any(math.isnan(level.low) for level in levels[one.group.name])]
    if not able:
        return
    tables = {}
    for one in able:
        tables[one.group.name + _BEFORE] = np.stack([values_of(part, metric) for part in one.before])
        tables[one.group.name] = np.stack([values_of(part, metric) for part in one.after])
    still = {one.group.name for one in able if not one.group.draws}
    pairs: list[Pair] = compare_all(
        tables,
        margin=margin,
        rng=np.random.default_rng(seed_of(study.plan_hash, task, PART)),
        pairs=[(one.group.name, one.group.name + _BEFORE) for one in able],
        clusters=first.clusters,
        unit=unit_of(metric),
        higher_is_better=False,
        draws_nothing=still | {name + _BEFORE for name in still},
    )
    for one, pair in zip(able, pairs, strict=True):
        yield Forgot(
            one.group,
            metric,
            *levels[one.group.name],
            pair.comparison,
            pair.p_holm,
            margin,
            len(first.ids),
            len(one.after),
            first.protocol,
        )


def sentence(one: Forgot) -> str:
    """What a method did to general text, in one sentence."""
    change, name = one.change, one.group.name
    size, low, high = change.difference, change.low, change.high
    if change.verdict in ("better", "worse") and size < 0:
        size, low, high = -size, -high, -low
    signed = change.verdict not in ("better", "worse")
    size, low, high = (say.difference(one.metric, value, signed) for value in (size, low, high))
    of = f"{say.plural(one.n, 'excerpt')}, {say.plural(one.seeds, 'seed') if one.group.draws else '1 run'}"
    sure, unit = f"({low} to {high}, {of})", say.name(one.metric)
    if one.unchanged:
        return f"{name}: general text is exactly as likely as before ({of})"
    if change.verdict == "same":
        within = say.margin(one.metric, one.margin)
        return f"{name}: general text costs the same as before within {within}: {size} {sure}"
    if change.verdict == "undecided":
        alone = (
            " (alone it would count, among so many it does not quite)"
            if one.change.low > 0 or one.change.high < 0
            else ""
        )
        return f"{name}: undecided whether general text costs more than before or less: {size} {unit} {sure}{alone}"
    return (
        f"{name}: general text costs {size} {unit} {'more' if change.verdict == 'worse' else 'less'} than before {sure}"
    )


def bought_and_cost(contest: Contest, one: Forgot) -> str:
    """What adapting bought on the task beside what it cost on general text, in one sentence; empty without a task's."""
    on_task = on_task_of(contest, one.group.name)
    if on_task is None:
        return ""
    here = f"{signed(contest.metric, on_task)[0]}{say.unit(contest.metric)} on the task"
    there = f"{signed(one.metric, one.change)[0]}{say.unit(one.metric)} on general text"
    spans = [
        f"({signed(metric, found)[1]}{', undecided' if found.verdict == 'undecided' else ''})"
        for metric, found in ((contest.metric, on_task), (one.metric, one.change))
    ]
    return (
        f"What {one.group.name} bought and what it cost, against the untouched model: {here} {spans[0]}, {there} "
        f"{spans[1]}; fewer bits per byte are better."
    )


def on_task_of(contest: Contest, name: str) -> Comparison | None:
    """A method minus the untouched model on the task's own metric; None where the two were not compared."""
    before = next((one.name for one in contest.contestants if one.untouched and one.name != name), None)
    duel = contest.duel(name, before) if before else None
    if duel is None or duel.a == name:
        return duel and duel.comparison
    found = duel.comparison
    return found._replace(difference=-found.difference, low=-found.high, high=-found.low)


def signed(metric: str, found: Comparison) -> tuple[str, str]:
    """A difference with its sign, and its interval."""
    shown = [say.difference(metric, value) for value in (found.difference, found.low, found.high)]
    return shown[0], f"{shown[1]} to {shown[2]}"


def rows(found: Sequence[Forgot]) -> list[dict[str, Any]]:
    """The changes as report.json holds them."""
    return [
        {
            "task": one.group.task,
            "model": one.group.model,
            "method": one.group.method,
            "settings": one.group.settings,
            "part": PART,
            "metric": one.metric,
            "before": one.before.value,
            "after": one.after.value,
            "margin": one.margin or None,
        }
        | one.change._asdict()
        | {"p_holm": one.p_holm, "n": one.n, "seeds": one.seeds, "protocol": one.protocol, "sentence": sentence(one)}
        for one in found
    ]
