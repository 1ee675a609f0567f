"""How fairly the methods were tuned: what each number of settings buys on validation, and whether the winner changes.

A tuning budget of k settings buys the best of k on validation, in the mean over all choices of k of the settings tried
(Dodge et al. 2019, section 3; without replacement as in Tang et al. 2020, section 3). Methods are compared at every k,
paired on seeds.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ftlib.aggregate import BestOf, expected_best_of_seeds
from ftlib.methods import METHODS
from ftlib.metrics import metric_row
from ftlib.report.contest import Contest, unit_of
from ftlib.report.entries import who
from ftlib.report.study import Group, Study, seed_of
from ftlib.spread import Array
from ftlib.verdict import compare_all


class Tuned(NamedTuple):
    """One method's settings and what they gave on validation."""

    group: Group
    name: str
    metric: str
    rates: tuple[float, ...]
    """Learning rates in the order tried."""
    seeds: tuple[int, ...]
    tries: Array
    """(n_seeds, n_tries) validation scores; NaN: it diverged."""
    chosen: tuple[float, ...]
    """The rate taken, for each seed."""
    n_validation: int | None
    """Validation examples; None where the records do not say."""
    best: BestOf
    left_out: tuple[int, ...]
    """Seeds that tried other rates than most."""

    @property
    def firsts(self) -> Array:
        """(n_seeds, n_tries) the best of the first 1, 2, ... tried; NaN where they all diverged."""
        best = np.fmax if metric_row(self.metric).higher_is_better else np.fmin
        return best.accumulate(self.tries, axis=1)

    @property
    def diverged(self) -> dict[float, int]:
        """Rate -> for how many seeds it diverged."""
        counts = np.isnan(self.tries).sum(axis=0)
        return {rate: int(n) for rate, n in zip(self.rates, counts, strict=True) if n}

    @property
    def at_edge(self) -> tuple[int, ...]:
        """Seeds for which the smallest or the largest of three rates or more was taken."""
        ends = (min(self.rates), max(self.rates))
        return tuple(s for s, rate in zip(self.seeds, self.chosen, strict=True) if len(self.rates) > 2 and rate in ends)


class Stretch(NamedTuple):
    """Neighbouring budgets with one answer."""

    first: int
    last: int
    winners: tuple[str, ...]
    """None of them is shown to be worse than the first, which has the best mean."""


class Race(NamedTuple):
    """Who would have won with each number of settings that all tuned methods tried."""

    leaders: tuple[str, ...]
    """The best mean for each budget, 1 first."""
    stretches: tuple[Stretch, ...]
    n_common: tuple[int, int]
    """The fewest and the most seeds that a comparison was paired on; 0, 0 where there was none."""

    @property
    def budget(self) -> int:
        """The largest."""
        return len(self.leaders)

    @property
    def changes(self) -> bool:
        """Whether two budgets have winners of which none is the same."""
        sets = [set(one.winners) for one in self.stretches]
        return self.n_common[1] > 0 and any(not a & b for a in sets for b in sets)


class Tuning(NamedTuple):
    """The tuning of one contest's methods."""

    contest: Contest
    metric: str
    """Measured on validation."""
    methods: tuple[Tuned, ...]
    untuned: tuple[str, ...]
    """Methods that train and tried one setting, which leaves no score on validation."""
    race: Race
    """With settings taken by chance from those tried."""
    ordered: Race
    """With the first of those tried, the method's own first: what this plan would have said with a smaller budget."""

    @property
    def budgets(self) -> dict[int, list[str]]:
        """Number of settings tried -> the methods that tried as many."""
        found: dict[int, list[str]] = {}
        for one in self.methods:
            found.setdefault(len(one.rates), []).append(one.name)
        if self.untuned:
            found.setdefault(1, []).extend(self.untuned)
        return dict(sorted(found.items()))


def tuning(study: Study, contest: Contest) -> Tuning | None:
    """What a contest's methods tried on validation; None where none tried several settings."""
    metric = "bits_per_byte" if contest.of_text else "accuracy"
    named = [(one.group, one.short) for one in contest.contestants if one.group is not None]
    found = tuple(one for group, name in named if (one := _read(group, name, metric)))
    if not found:
        return None
    trained = [name for group, name in named if group.method in METHODS and METHODS[group.method].trains]
    untuned = tuple(name for name in trained if name not in {one.name for one in found})
    rng = np.random.default_rng(seed_of(study.plan_hash, contest.task, "tuning", str(contest.shots)))
    margin = contest.margin if metric == contest.metric else 0.0
    how = {"margin": margin, "rng": rng, "unit": unit_of(metric)}
    race = _race(found, {one.name: one.best.seeds for one in found}, how)
    return Tuning(contest, metric, found, untuned, race, _race(found, {one.name: one.firsts for one in found}, how))


def _race(found: Sequence[Tuned], curves: Mapping[str, Array], how: Mapping[str, Any]) -> Race:
    """Who would have won at every budget; `curves` holds each method's best of k for every seed."""
    leaders, stretches, n_common = [], [], []
    for k in range(1, min(len(one.rates) for one in found) + 1):
        winners, paired_on = _winners(found, {name: curve[:, k - 1] for name, curve in curves.items()}, how)
        leaders.append(winners[0])
        n_common += paired_on
        if stretches and set(stretches[-1].winners) == set(winners):
            stretches[-1] = Stretch(stretches[-1].first, k, winners)
        else:
            stretches.append(Stretch(k, k, winners))
    ends = (min(n_common), max(n_common)) if n_common else (0, 0)
    return Race(tuple(leaders), tuple(stretches), ends)


def _winners(
    found: Sequence[Tuned], values: Mapping[str, Array], how: Mapping[str, Any]
) -> tuple[tuple[str, ...], list[int]]:
    """Who would have won, the best mean first, and on how many seeds each comparison is paired.

    A method that has no result for some seed has lost. Without two seeds in common two methods are not compared, and no
    winner is told from what is only the best mean.
    """
    up = metric_row(found[0].metric).higher_is_better
    able = [one for one in found if np.isfinite(values[one.name]).all()] or list(found)
    order = sorted(able, key=lambda one: ((-1 if up else 1) * values[one.name].mean(), one.name))
    tables, pairs, paired_on = {}, [], []
    for place, other in enumerate(order[1:], 1):
        common = sorted(set(order[0].seeds) & set(other.seeds))
        if len(common) < 2:
            continue
        for side, one in (("a", order[0]), ("b", other)):
            tables[f"{place}{side}"] = values[one.name][[one.seeds.index(seed) for seed in common]]
        pairs.append((f"{place}a", f"{place}b"))
        paired_on.append(len(common))
    if not pairs or not np.isfinite(values[order[0].name]).all():
        return tuple(one.name for one in order), []
    compared = compare_all(tables, pairs=pairs, draws_nothing=(), higher_is_better=up, **how)
    beaten = {order[int(one.a[:-1])].name for one in compared if one.comparison.verdict == "better"}
    return tuple(one.name for one in order if one.name not in beaten), paired_on


def _read(group: Group, name: str, metric: str) -> Tuned | None:
    """What a group's runs tried; those that tried other rates than most are left out, and named."""
    read = {run.seed: one for run in group.ok if (one := _tried(run.record.provenance.get("tuned"), metric))}
    if not read:
        return None
    counts = Counter(rates for rates, _, _, _ in read.values())
    most = max(counts, key=lambda rates: counts[rates])
    kept = {seed: one for seed, one in read.items() if one[0] == most}
    sizes = {n for _, _, _, ns in kept.values() for n in ns}
    tries = np.array([scores for _, scores, _, _ in kept.values()], dtype=float)
    return Tuned(
        group,
        name,
        metric,
        most,
        tuple(kept),
        tries,
        tuple(chosen for _, _, chosen, _ in kept.values()),
        sizes.pop() if len(sizes) == 1 else None,
        expected_best_of_seeds(tries, higher_is_better=metric_row(metric).higher_is_better),
        tuple(seed for seed in read if seed not in kept),
    )


def _tried(tuned: Any, metric: str) -> tuple[tuple[float, ...], list[float], float, list[int | None]] | None:
    """A record's rates, their scores, the rate taken and the sizes of validation; None where nothing was tuned."""
    tried = tuned.get("tried") if isinstance(tuned, Mapping) else None
    if not tried:
        return None
    values = [one.get(f"validation_{metric}") for one in tried]
    scores = [math.nan if value is None else float(value) for value in values]
    if all(map(math.isnan, scores)):
        return None
    rates = tuple(float(one["learning_rate"]) for one in tried)
    return rates, scores, float(tuned["learning_rate"]), [one.get("n_validation") for one in tried]


def rows(found: Tuning) -> Iterator[dict[str, Any]]:
    """What each number of settings buys each method, as report.json holds it."""
    for one in found.methods:
        for k in range(1, len(one.rates) + 1):
            numbers = {name: _or_none(getattr(one.best, name)[k - 1]) for name in ("value", "low", "high")}
            numbers["first"] = _or_none(float(one.firsts[:, k - 1].mean()))
            yield who(one.group) | {
                "name": one.name, "metric": found.metric, "k": k, **numbers,
                "all_diverged": float(one.best.nothing[k - 1]), "seeds": len(one.seeds),
                "n_validation": one.n_validation,
            }  # fmt: skip


def chosen(found: Tuning) -> Iterator[dict[str, Any]]:
    """What was tried and taken for each seed, as report.json holds it."""
    for one in found.methods:
        for seed, scores, rate in zip(one.seeds, one.tries, one.chosen, strict=True):
            tried = [
                {"learning_rate": tried, "value": _or_none(value)}
                for tried, value in zip(one.rates, scores, strict=True)
            ]
            at = {"name": one.name, "metric": found.metric, "seed": seed, "learning_rate": rate}
            yield who(one.group) | at | {"at_edge": seed in one.at_edge, "tried": tried}


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
