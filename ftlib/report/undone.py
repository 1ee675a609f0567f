"""What undoing a gap between groups costs, and whom: every mitigation against the same method without it.

The gap is the one to be undone: that of equal opportunity, for the label where the method without the mitigation has
the largest. Picked by looking, the largest of several is partly luck and would look smaller after anything. So the
level of its change is divided by how many labels and pairs of groups there were to pick from; and the largest gap that
is left (`ftlib.report.groups`) has to be read beside it, since a gap may move to another label. Runs are paired on
seeds and examples.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ftlib.difference import difference
from ftlib.errors import FtlibError
from ftlib.intervals import Interval
from ftlib.methods import METHODS
from ftlib.metrics.fairness import unnamed
from ftlib.metrics.gaps import FEWEST
from ftlib.report.courses import Paired, Side, compared, table_of
from ftlib.report.groups import Change, Treated, treated
from ftlib.report.parts import Part
from ftlib.report.rows import group_interval
from ftlib.report.study import Group, Study, read_study, seed_of
from ftlib.spread import Array

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


class Undone(NamedTuple):
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


def undone(study: Study, of: Treated) -> list[Undone]:
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
        Undone(
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
    name = "probe" if by_group else one.method
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
    return {one.a: one for one in compared(pairs, margin=plan.margin, rng=rng, clusters=clusters)}


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
