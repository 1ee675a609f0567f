"""Who is compared with whom: one task's methods on the same test examples, every difference through `ftlib.verdict`."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from ftlib.metrics import metric_row
from ftlib.report import say
from ftlib.report.entrants import Contestant, Same, called, common_seeds, entrants
from ftlib.report.parts import Part
from ftlib.report.rows import OF_LABELS, values_of
from ftlib.report.rungs import Rung, rungs
from ftlib.report.study import Study, seed_of
from ftlib.report.tradeoffs import detectable, pareto
from ftlib.spec import Plan
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
    margin: float
    """The smallest difference that matters, in the metric's unit."""
    contestants: tuple[Contestant, ...]
    """Best first."""
    duels: tuple[Duel, ...]
    places: tuple[Place, ...]
    pareto: tuple[dict[str, Any], ...]
    detectable: tuple[str, str, float] | None
    """Two methods, and the smallest true difference between such two that is found 4 times of 5."""
    notes: tuple[str, ...]
    """What was not compared, and why."""
    shots: int = 0
    """Labels per class that all who draw any had; 0: they are not compared by that."""
    beside: tuple[Contestant, ...] = ()
    """Where shots are compared: who had all labels, which is shown and not compared."""

    @property
    def of_text(self) -> bool:
        """Whether models of text are compared, which have likelihoods and no answers."""
        return metric_row(self.metric).kind == "language-modeling"

    @property
    def n(self) -> int:
        """How many test examples there are."""
        return len(_any_part(self.contestants[0]).ids)

    @property
    def protocols(self) -> dict[str, tuple[str, ...]]:
        """How likelihoods of text came about -> the contestants it holds for; empty where there are none."""
        found: dict[str, tuple[str, ...]] = {}
        for one in sorted(self.contestants, key=lambda one: one.baseline):
            if protocol := _any_part(one).protocol:
                found[protocol] = (*found.get(protocol, ()), one.name)
        return found

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
    """One contest per task and set of test examples, the largest of a task first; few-shot methods are compared at the
    same number of labels per class only, so a task has one contest per number.
    """
    for task in dict.fromkeys(group.task for group in study.groups):
        found, notes = entrants(study, task)
        families = _families(found)
        sized = sorted(families.values(), key=len, reverse=True)
        if len(sized) > 1:
            parties = " and ".join(_party(members) for members in sized)
            protocols = len({same[:2] for same in families}) == 1
            differ = "protocols" if protocols else f"test {say.noun(study.plan.of(task).primary)}s"
            notes = [*notes, f"not comparable, since their {differ} differ: {parties}"]
        for number, members in enumerate(sized):
            said = notes if number == 0 else []
            for rung in list(rungs(members)) or [Rung(0, members, ())]:
                yield _contest(study, task, rung, said)
                said = []


def unheard(study: Study, found: Sequence[Contest]) -> list[str]:
    """Why tasks that were run have no contest."""
    tasks = {group.task: None for group in study.groups if group.ok and all(group.task != c.task for c in found)}
    return [f"{task}: {note}" for task in tasks for note in entrants(study, task)[1]]


def _families(found: Sequence[tuple[Same, Contestant]]) -> dict[Same, list[Contestant]]:
    """Who can be compared: the same examples, data and protocol."""
    families: dict[Same, list[Contestant]] = {}
    for same, one in found:
        families.setdefault(same, []).append(one)
    for same in list(families):
        # Baselines have no protocol that matters: they join the most of those that have one.
        others = [other for other in families if other[:2] == same[:2] and other[2] and not same[2]]
        if others:
            families[max(others, key=lambda other: len(families[other]))] += families.pop(same)
    return families


def _any_part(one: Contestant) -> Part:
    return next(iter(one.parts.values()))


def _party(members: Sequence[Contestant]) -> str:
    part = _any_part(min(members, key=lambda one: one.baseline))
    n = say.plural(len(part.ids), f"test {'document' if part.of_text else 'example'}")
    return f"{', '.join(one.name for one in members)} ({n}{f', {part.protocol}' if part.protocol else ''})"


def _contest(study: Study, task: str, rung: Rung, notes: list[str]) -> Contest:
    plan = study.plan.of(task)
    up = 1 if metric_row(plan.primary).higher_is_better else -1
    chance = (study.plan_hash, task, *([f"shots={rung.shots}"] if rung.shots else []))
    members = sorted(rung.members, key=lambda one: (-up * one.level.value, one.name))
    few = members[:ALL_PAIRS_UP_TO]
    wanted = [pair for pair in combinations(members, 2) if pair[0] is members[0] or pair[1] in few]
    pairs = [(a, b, common_seeds(a, b)) for a, b in wanted]
    if len(wanted) < math.comb(len(members), 2):
        notes = [*notes, f"beyond the first {ALL_PAIRS_UP_TO}, methods are compared with the best only"]
    notes = [*notes, *_seed_notes(pairs)]
    spreads = not any(math.isnan(one.level.low) for one in members)
    if not spreads:
        notes = [
            *notes,
            f"nothing is compared: one test {say.noun(plan.primary)}, or one source of them, has no spread",
        ]
    duels = _duels(chance, plan, [pair for pair in pairs if pair[2] and spreads])
    values = {one.name: one.level.value for one in members}
    plain = [Pair(duel.a, duel.b, duel.comparison, duel.p_holm) for duel in duels]
    return Contest(
        task,
        plan.primary,
        plan.margin,
        tuple(members),
        tuple(duels),
        tuple(ranking(values, plain, higher_is_better=up > 0)),
        tuple(pareto(chance, task, plan.primary, members)) if spreads else (),
        detectable(members, plan.primary) if spreads else None,
        tuple(notes),
        rung.shots,
        rung.beside,
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


def _duels(chance: Sequence[str], plan: Plan, pairs: Sequence[Paired]) -> list[Duel]:
    if not pairs:
        return []
    metric = metric_row(plan.primary)
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
        rng=np.random.default_rng(seed_of(*chance, metric.name)),
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
        tables[name] = np.stack([part.chosen if metric in OF_LABELS else values_of(part, metric) for part in parts])
    return name


def unit_of(metric: str) -> str:
    """The unit of a difference in words."""
    unit = metric_row(metric).unit
    return {"share": "points", "correlation": "in MCC", "squared probability": "in Brier score"}.get(unit, unit)
