"""How fairly the methods were tuned: what each number of settings buys on validation, and whether the winner changes.

A tuning budget of k settings buys the best of k on validation, in the mean over all choices of k of the settings tried
(Dodge et al. 2019, section 3; without replacement as in Tang et al. 2020, section 3). Methods are compared at every k,
paired on seeds.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ftlib.config.methods import METHODS
from ftlib.core import format
from ftlib.data.kinds import KINDS
from ftlib.metrics import units
from ftlib.metrics.registry import metric_row
from ftlib.records.study import Group, Study, seed_of
from ftlib.report.blocks import Block, Figures, Note, Said, Section, Sentences, Table, by_task, plain_table
from ftlib.report.figures import Figure, figure_of, panels
from ftlib.report.metric_rows import WHO, who
from ftlib.report.pairing import Side, in_most, paired_comparisons
from ftlib.report.plots import lines
from ftlib.report.sections.comparison import TaskComparison, unit_of
from ftlib.stats.aggregate import BestOf, expected_best_of_seeds
from ftlib.stats.variance import Array


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


class RateRange(NamedTuple):
    """Neighbouring budgets with one answer."""

    first: int
    last: int
    winners: tuple[str, ...]
    """None of them is shown to be worse than the first, which has the best mean."""


class Race(NamedTuple):
    """Who would have won with each number of settings that all tuned methods tried."""

    leaders: tuple[str, ...]
    """The best mean for each budget, 1 first."""
    stretches: tuple[RateRange, ...]
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
    """The tuning of one task's methods."""

    comparison: TaskComparison
    metric: str
    """Measured on validation."""
    methods: tuple[Tuned, ...]
    untuned: tuple[str, ...]
    """Methods that train and tried one setting, which leaves no score on validation."""
    race: Race
    """With settings taken by chance from those tried."""

    @property
    def budgets(self) -> dict[int, list[str]]:
        """Number of settings tried -> the methods that tried as many."""
        found: dict[int, list[str]] = {}
        for one in self.methods:
            found.setdefault(len(one.rates), []).append(one.name)
        if self.untuned:
            found.setdefault(1, []).extend(self.untuned)
        return dict(sorted(found.items()))


def tuning(study: Study, comparison: TaskComparison) -> Tuning | None:
    """What a task's methods tried on validation; None where none tried several settings."""
    metric = KINDS[metric_row(comparison.metric).kind].primary
    named = [(one.group, one.short) for one in comparison.methods if one.group is not None]
    found = tuple(one for group, name in named if (one := _read(group, name, metric)))
    if not found:
        return None
    trained = [name for group, name in named if group.method in METHODS and METHODS[group.method].trains]
    untuned = tuple(name for name in trained if name not in {one.name for one in found})
    rng = np.random.default_rng(seed_of(study.plan_hash, comparison.task, "tuning", str(comparison.shots)))
    margin = comparison.margin if metric == comparison.metric else 0.0
    race = _race(found, {"margin": margin, "rng": rng, "unit": unit_of(metric)})
    return Tuning(comparison, metric, found, untuned, race)


def _race(found: Sequence[Tuned], how: Mapping[str, Any]) -> Race:
    """Who would have won at every budget."""
    leaders, stretches, n_common = [], [], []
    for k in range(1, min(len(one.rates) for one in found) + 1):
        winners, paired_on = _winners(found, {one.name: one.best.seeds[:, k - 1] for one in found}, how)
        leaders.append(winners[0])
        n_common += paired_on
        if stretches and set(stretches[-1].winners) == set(winners):
            stretches[-1] = RateRange(stretches[-1].first, k, winners)
        else:
            stretches.append(RateRange(k, k, winners))
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
    if not np.isfinite(values[order[0].name]).all():
        return tuple(one.name for one in order), []
    pairs = []
    for other in order[1:]:
        common = sorted(set(order[0].seeds) & set(other.seeds))
        # Seeds stand where examples do elsewhere: each has one score.
        pairs.append(
            tuple(
                Side(one.name, (0,), values[one.name][None, [one.seeds.index(seed) for seed in common]])
                for one in (order[0], other)
            )
        )
    compared = paired_comparisons(pairs, higher_is_better=up, **how)
    beaten = {one.b for one in compared if one.comparison.verdict == "better"}
    return tuple(one.name for one in order if one.name not in beaten), [one.n for one in compared]


def _read(group: Group, name: str, metric: str) -> Tuned | None:
    """What a group's runs tried; those that tried other rates than most are left out, and named."""
    read = {run.seed: one for run in group.ok if (one := _tried(run.record.provenance.get("tuned"), metric))}
    if not read:
        return None
    kept = dict(in_most(read.items(), lambda item: item[1][0]))
    most = next(iter(kept.values()))[0]
    sizes = {n for _, _, _, ns in kept.values() for n in ns}
    tries = np.array([scores for _, scores, _, _ in kept.values()], dtype=float)
    best = expected_best_of_seeds(tries, higher_is_better=metric_row(metric).higher_is_better)
    if bounds := metric_row(metric).bounds:
        best = best._replace(low=np.clip(best.low, *bounds), high=np.clip(best.high, *bounds))
    return Tuned(
        group,
        name,
        metric,
        most,
        tuple(kept),
        tries,
        tuple(chosen for _, _, chosen, _ in kept.values()),
        sizes.pop() if len(sizes) == 1 else None,
        best,
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


MOST_PANELS = 12
"""Methods that have a panel and remarks; the tables hold them all."""


def entry(found: Tuning) -> dict[str, Any]:
    """The tuning of one task as report.json holds it."""
    return {
        "task": found.comparison.task,
        "metric": found.metric,
        "shots": found.comparison.shots,
        "budget": found.race.budget,
        "note": _note(found),
        "sentences": list(sentences(found)),
        "winners": [one._asdict() for one in found.race.stretches],
        "curve": list(rows(found)),
        "chosen": list(chosen(found)),
    }


def sentences(found: Tuning) -> tuple[str, ...]:
    """The answer first; cautions begin with that word."""
    return tuple(map(format.unbroken, [_answer(found), *_cautions(found), *_remarks(found)]))


def _note(found: Tuning) -> str:
    metric, noun = found.metric, units.noun(found.metric)
    sizes = sorted({one.n_validation for one in found.methods if one.n_validation is not None})
    n = " or ".join(map(format.count, sizes)) + " " if sizes else ""
    seeds = sorted({len(one.seeds) for one in found.methods})
    runs = " to ".join(dict.fromkeys((str(seeds[0]), format.plural(seeds[-1], "seed"))))
    if len(seeds) == 1:
        runs = format.plural(seeds[0], "seed")
    spread = (
        f"95 % intervals (Student's t over {runs}) are for new seeds on these same {n}validation {noun}s"
        if seeds[-1] > 1
        else f"One seed each on {n}validation {noun}s, so there is no interval"
    )
    protocol = f" Protocol: {format.protocols(found.comparison.protocols)}." if found.comparison.of_text else ""
    return (
        f"The best {units.name(metric)} on validation of k settings, in the mean over all choices of k of those tried "
        f"(Dodge et al. 2019, without replacement). {spread}.{protocol} The best of several is too good on the "
        f"{noun}s that chose it: compare methods by the verdict above, on test {noun}s that chose nothing."
    )


def _answer(found: Tuning) -> str:
    """Whether the winner depends on the budget, in one sentence."""
    race, (few, many) = found.race, found.race.n_common
    if len(found.methods) == 1:
        return f"Only {found.methods[0].name} was tuned, so there is no winner that a budget could change."
    if not many:
        return (
            f"{_turns(race, found.metric)}. No two methods have two seeds in common, so nobody can say whether that is "
            "chance."
        )
    seeds = f"paired on {f'{few} to ' if few < many else ''}{format.plural(many, 'seed')}"
    if len(race.stretches) > 1:
        what = "The winner" if race.changes else "How clear the winner is"
        return f"{what} on validation depends on the budget: {_course(race)} ({seeds})."
    (only,) = race.stretches
    if race.budget == 1:
        return f"With the 1 setting that all tried {_won(only.winners)} on validation ({seeds})."
    if len(only.winners) == 1:
        always = f"with 1 setting tried as with {race.budget}"
        return f"The winner on validation does not depend on the budget: {only.winners[0]}, {always} ({seeds})."
    return (
        f"No budget from 1 to {race.budget} settings shows a winner on validation: "
        f"{format.some(only.winners)} are not "
        f"shown to differ ({seeds}). {_turns(race, found.metric)}, which may be chance."
    )


def _course(race: Race) -> str:
    """Who would have won, stretch by stretch."""
    return "; ".join(f"{_at(one, race.budget)} {_won(one.winners)}" for one in race.stretches)


def _turns(race: Race, metric: str) -> str:
    """Who has the best mean on validation, from which budget on."""
    best = "lowest" if units.of_text(metric) else "highest"
    turns = [k for k in range(race.budget) if k == 0 or race.leaders[k] != race.leaders[k - 1]]
    if len(turns) == 1:
        return f"{race.leaders[0]} has the {best} mean on validation at every budget from 1 to {race.budget}"
    said = [f"{race.leaders[k]} {f'from {k + 1} on' if k else 'with 1 setting tried'}" for k in turns]
    return f"The {best} mean on validation is that of {format.listed(said)}"


def _at(one: RateRange, k: int) -> str:
    """At which budgets; the first is said in full."""
    if one.first == one.last:
        return "with 1 setting tried" if one.first == 1 else f"with {one.first}"
    if one.first == 1:
        return f"with 1 to {one.last} settings tried"
    return f"from {one.first} on" if one.last == k else f"with {one.first} to {one.last}"


def _won(winners: Sequence[str]) -> str:
    if len(winners) == 1:
        return f"{winners[0]} would have won"
    return f"{format.some(winners)} would not have been shown to differ"


def _cautions(found: Tuning) -> Iterator[str]:
    yield from _unequal(found)
    edge = [one for one in found.methods if one.at_edge]
    if edge:
        said = format.some([f"{one.name} ({_of(len(one.at_edge), len(one.seeds))})" for one in edge], 8)
        yield (
            f"Caution: the rate taken is the smallest or the largest that was tried for {said}; a rate beyond the grid "
            "may be better."
        )


def _unequal(found: Tuning) -> Iterator[str]:
    if len(found.budgets) > 1:
        said = "; ".join(
            f"{format.some(names, 8)} tried {format.plural(k, 'setting')}" for k, names in found.budgets.items()
        )
        yield f"Caution: the tuning was not fair, since the budgets differ: {said}."


def _remarks(found: Tuning) -> Iterator[str]:
    for one in found.methods[:MOST_PANELS]:
        if one.diverged:
            nothing = one.best.nothing[0]
            yield (
                f"{one.name} diverged at learning rate {format.listed(_diverged(one))}: of budgets of 1 setting "
                f"{100 * nothing:.0f} % would have had no result, which its curve leaves out."
            )
        if one.left_out:
            seeds = format.listed([str(seed) for seed in one.left_out])
            yield f"{one.name}: seeds left out, since they tried other rates than most: {seeds}."
    if found.metric != found.comparison.metric:
        chosen_by, compared_by = units.name(found.metric), units.name(found.comparison.metric)
        yield f"Settings are chosen by {chosen_by}; the plan compares by {compared_by}."


def _of(n: int, total: int) -> str:
    return f"{n} of {format.plural(total, 'seed')}" if total > 1 else "its only seed"


def warnings(found: Tuning) -> Iterator[str]:
    """What has to be said beside the verdict."""
    yield from _unequal(found)
    if found.race.changes:
        said = _answer(found)
        yield f"Caution: {said[0].lower()}{said[1:]}"


def _figure(found: Tuning) -> Figure:
    metric, by = found.metric, units.scale(found.metric)
    shown = found.methods[:MOST_PANELS]
    curves = {one.name: tuple(by * getattr(one.best, name) for name in ("value", "low", "high")) for one in shown}
    with panels(len(shown), min(3, max(2, len(shown))), 1.35) as axes:
        lines.best_of(axes, curves, label=f"validation {units.heading(metric)}")
        axes[0].figure.supxlabel("settings tried", fontsize=9)
        axes[0].figure.supylabel(f"validation {units.heading(metric)}", fontsize=9)
        left = f" The first {MOST_PANELS} of {len(found.methods)} methods." if len(found.methods) > MOST_PANELS else ""
        return figure_of(
            axes[0],
            "best-of",
            "The best of as many settings as are tried",
            "Grey lines are the other methods. A curve that still rises at its end asks for a larger budget. The table "
            f"also has the best of the first k in the order tried, the first being the rate asked for.{left}",
            (
                "method", "settings tried", f"best {units.heading(metric)}", "95 % interval", "of the first k", "seeds",
                "n",
            ),
            [row for one in found.methods for row in _curve_rows(one)],
        )  # fmt: skip


def _curve_rows(one: Tuned) -> Iterator[tuple[str, ...]]:
    n = "not recorded" if one.n_validation is None else format.count(one.n_validation)
    for k in range(1, len(one.rates) + 1):
        value, low, high = (float(getattr(one.best, name)[k - 1]) for name in ("value", "low", "high"))
        span = units.span(one.metric, low, high) or "one seed"
        first = units.level(one.metric, float(one.firsts[:, k - 1].mean()))
        yield one.name, str(k), units.level(one.metric, value), span, first, str(len(one.seeds)), n


def _taken(found: Tuning) -> Table:
    """Which setting was chosen for which seeds, of which."""
    body: list[Sequence[Said]] = []
    for one in found.methods:
        seeds: dict[float, list[str]] = {}
        for seed, rate in zip(one.seeds, one.chosen, strict=True):
            seeds.setdefault(rate, []).append(str(seed))
        taken = [
            f"{rate:.2g}" + (f" (seed{'s' * (len(some) > 1)} {', '.join(some)})" if len(one.seeds) > 1 else "")
            for rate, some in sorted(seeds.items())
        ]
        tried = ", ".join(f"{rate:.2g}" for rate in one.rates)
        edge = "at the edge of the grid" if one.at_edge else ""
        body.append((one.name, ("; ".join(taken), edge), tried, ", ".join(_diverged(one)) or "none"))
    header = ("method", "learning rate taken", "tried, in this order", "diverged")
    return plain_table(f"Which setting validation chose, {found.comparison.task}", header, body, texts=4)


def _diverged(one: Tuned) -> list[str]:
    return [f"{rate:.2g} ({_of(n, len(one.seeds))})" for rate, n in one.diverged.items()]


def _blocks(found: Tuning) -> Iterator[Block]:
    yield Sentences(sentences(found))
    yield Note(_note(found))
    yield Figures((_figure(found),), wide=True)
    yield _taken(found)


SECTION = Section(
    name="tuning",
    title="How fairly were they tuned?",
    read=lambda reading: reading.tuning,
    columns={
        "tuning": (
            *WHO, "name", "metric", "k", "value", "low", "high", "first", "all_diverged", "seeds", "n_validation",
        ),
    },
    rows=lambda items: {"tuning": [entry(one.found) for one in items]},
    blocks=lambda items: by_task(items, _blocks),
    csv=lambda items: {"tuning": [row for one in items for row in rows(one.found)]},
)  # fmt: skip
