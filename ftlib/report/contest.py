"""Who is compared with whom: one task's methods on the same test examples, every difference through `ftlib.verdict`."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from ftlib.metrics import metric_row
from ftlib.report.entrants import Contestant, called, common_seeds, entrants
from ftlib.report.rows import OF_LABELS
from ftlib.report.study import Study, seed_of
from ftlib.report.tradeoffs import detectable, pareto
from ftlib.verdict import Comparison, Pair, Place, compare_all, ranking

Paired = tuple[Contestant, Contestant, tuple[int, ...]]
"""Two sides and the seeds they are compared on."""
ALL_PAIRS_UP_TO = 24
"""Methods that are all compared with one another; what ranks lower is compared with the best only."""


class Duel(NamedTuple):
    """One comparison, under the plain names of both sides."""

    a: str
    b: str
    comparison: Comparison
    p_holm: float
    n_seeds: int
    compared_as: tuple[str, str]
    """The names in the comparison's sentence."""


class Contest(NamedTuple):
    """The comparison of one task's methods by the plan's primary metric."""

    task: str
    metric: str
    contestants: tuple[Contestant, ...]
    """Best first."""
    duels: tuple[Duel, ...]
    places: tuple[Place, ...]
    pareto: tuple[dict[str, Any], ...]
    detectable: tuple[str, str, float] | None
    """Two methods, and the smallest true difference between such two that is found 4 times of 5."""
    notes: tuple[str, ...]
    """What was not compared, and why."""

    def find(self, name: str) -> Contestant:
        """The contestant of that name."""
        return next(one for one in self.contestants if one.name == name)

    def duel(self, a: str, b: str) -> Duel | None:
        """The comparison of two, whichever way round it was made."""
        return next((duel for duel in self.duels if {duel.a, duel.b} == {a, b}), None)

    def leads(self, a: str, b: str) -> bool:
        """Whether a's level is at least as good as b's."""
        order = [one.name for one in self.contestants]
        return order.index(a) < order.index(b)


def contests(study: Study) -> Iterator[Contest]:
    """One contest per task and set of test examples, the largest of a task first."""
    for task in dict.fromkeys(group.task for group in study.groups):
        found, notes = entrants(study, task)
        families: dict[tuple[bytes, str], list[Contestant]] = {}
        for same, one in found:
            families.setdefault(same, []).append(one)
        sized = sorted(families.values(), key=len, reverse=True)
        if len(sized) > 1:
            parties = " and ".join(_party(members) for members in sized)
            notes = [*notes, f"not comparable, since their test examples differ: {parties}"]
        for number, members in enumerate(sized):
            yield _contest(study, task, members, notes if number == 0 else [])


def _party(members: Sequence[Contestant]) -> str:
    n = len(next(iter(members[0].parts.values())).ids)
    return f"{', '.join(one.name for one in members)} ({n} test examples)"


def _contest(study: Study, task: str, members: list[Contestant], notes: list[str]) -> Contest:
    plan, up = study.plan, 1 if metric_row(study.plan.primary).higher_is_better else -1
    members = sorted(members, key=lambda one: (-up * one.level.value, one.name))
    few = members[:ALL_PAIRS_UP_TO]
    wanted = [pair for pair in combinations(members, 2) if pair[0] is members[0] or pair[1] in few]
    pairs = [(a, b, common_seeds(a, b)) for a, b in wanted]
    if len(wanted) < math.comb(len(members), 2):
        notes = [*notes, f"beyond the first {ALL_PAIRS_UP_TO}, methods are compared with the best only"]
    notes = [*notes, *_seed_notes(pairs)]
    duels = _duels(study, task, [pair for pair in pairs if pair[2]])
    values = {one.name: one.level.value for one in members}
    plain = [Pair(duel.a, duel.b, duel.comparison, duel.p_holm) for duel in duels]
    return Contest(
        task,
        plan.primary,
        tuple(members),
        tuple(duels),
        tuple(ranking(values, plain, higher_is_better=up > 0)),
        tuple(pareto(study, task, members, up)),
        detectable(study, members),
        tuple(notes),
    )


def _seed_notes(pairs: Sequence[Paired]) -> Iterator[str]:
    """What pairing by seed left out."""
    for a, b, common in pairs:
        if not common:
            yield f"{a.name} and {b.name} are not compared: no seed finished for both"
    fewer = {
        (one.name, len(common))
        for a, b, common in pairs
        for one in (a, b)
        if one.draws and 0 < len(common) < len(one.parts)
    }
    if fewer:
        said = ", ".join(f"{name} ({n} seed{'s' if n > 1 else ''})" for name, n in sorted(fewer))
        yield f"seeds are paired, so some comparisons use only those that finished on both sides: {said}"


def _duels(study: Study, task: str, pairs: Sequence[Paired]) -> list[Duel]:
    if not pairs:
        return []
    metric, plan = metric_row(study.plan.primary), study.plan
    tables: dict[str, np.ndarray] = {}
    plain, keys = {}, []
    for a, b, common in pairs:
        keys.append(tuple(_entry(one, common, metric.name, tables) for one in (a, b)))
        plain |= dict(zip(keys[-1], (a.name, b.name), strict=True))
    first = next(iter(pairs[0][0].parts.values()))
    of_labels = {"metric": metric.name, "labels": first.truth} if metric.name in OF_LABELS else {}
    still = {called(one) for pair in pairs for one in pair[:2] if not one.draws}
    compared = compare_all(
        tables,
        margin=plan.margin,
        rng=np.random.default_rng(seed_of(study.plan_hash, task, metric.name)),
        pairs=keys,
        clusters=first.clusters,
        unit=unit_of(metric.name),
        higher_is_better=metric.higher_is_better,
        draws_nothing=still,
        **of_labels,
    )
    return [
        Duel(plain[pair.a], plain[pair.b], pair.comparison, pair.p_holm, len(common), (pair.a, pair.b))
        for pair, (_, _, common) in zip(compared, pairs, strict=True)
    ]


def _entry(one: Contestant, seeds: tuple[int, ...], metric: str, tables: dict[str, np.ndarray]) -> str:
    """The name under which these seeds of a method are compared; their scores are put into `tables`."""
    name = called(one)
    if one.draws and set(seeds) < set(one.parts):
        name += f" [seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}]"
    if name not in tables:
        parts = [one.parts[seed] for seed in seeds] if one.draws else list(one.parts.values())[:1]
        tables[name] = np.stack([part.chosen if metric in OF_LABELS else part.brier for part in parts])
    return name


def unit_of(metric: str) -> str:
    """The unit of a difference in words."""
    unit = metric_row(metric).unit
    return {"share": "points", "correlation": "in MCC", "squared probability": "in Brier score"}.get(unit, unit)
