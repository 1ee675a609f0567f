"""One task's methods beside each other: who takes part, who is better than whom, quality against what it costs.

Methods are compared on the same test examples and seeds, in a few-shot study at the same number of labels per class
only.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib.config.experiment import Plan
from ftlib.config.methods import METHODS
from ftlib.core import format
from ftlib.core.errors import unknown
from ftlib.data.kinds import KINDS
from ftlib.metrics import units
from ftlib.metrics.registry import METRICS, metric_row
from ftlib.records.predictions import Part
from ftlib.records.study import Group, Run, Study, seed_of
from ftlib.report.blocks import (
    Block,
    Cell,
    Figures,
    Fold,
    Note,
    OfTask,
    Said,
    Section,
    Table,
    by_task,
    first_rows,
    plain_table,
    value_cell,
)
from ftlib.report.figures import Figure, drawing, figure_of, title
from ftlib.report.metric_rows import (
    OF_LABELS,
    WHO,
    group_interval,
    metrics_of,
    value_of,
    values_of,
    who,
    why_not,
)
from ftlib.report.pairing import TESTED, Paired, Side, common_examples, common_seeds, in_most, paired_comparisons
from ftlib.report.plots import methods
from ftlib.stats.aggregate import pareto_membership
from ftlib.stats.intervals import Interval
from ftlib.stats.linearize import label_values
from ftlib.stats.multiple import Place, ranking
from ftlib.stats.power import DifferenceVariance, power_of
from ftlib.stats.variance import paired, variance_components
from ftlib.stats.verdict import Verdict

if TYPE_CHECKING:
    from ftlib.report.build import Reading

BASE = "base model"
"""What a model is called before anything was done to it."""


class MethodScores(NamedTuple):
    """One method with one setting, or the base model, on one set of test examples."""

    name: str
    group: Group | None
    """None for a base model that no zero-shot run of the study stands for."""
    parts: Mapping[int, Part]
    """Seed -> predictions."""
    draws: bool
    """False where one run stands for every seed."""
    level: Interval
    untouched: bool = False
    """Whether this is the model before anything was done to it."""
    line: str = ""
    """Its name among methods that had as many labels per class; empty outside few-shot studies."""

    @property
    def short(self) -> str:
        """Its name where all that is shown had as many labels."""
        return self.line or self.name

    @property
    def title(self) -> str:
        """What people call it: its short name with the method's title, "LoRA (minilm) r=4"."""
        method = self.group.method if self.group else ""
        known = METHODS[method].title if method in METHODS else ""
        return known + self.short.removeprefix(method) if known and self.short.startswith(method) else self.short

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those of its runs."""
        return tuple(self.parts)

    @property
    def baseline(self) -> bool:
        """Whether it uses no model."""
        return self.group is not None and self.group.baseline

    @property
    def one_label(self) -> str:
        """The label that it gave every example in every run, though none is its by design: it has learned nothing."""
        if self.group is not None and self.group.constant:
            return ""
        given = {
            part.labels[code]
            for part in self.parts.values()
            if part.chosen is not None and len(set(part.truth)) > 1
            for code in np.unique(part.chosen)
        }
        return given.pop() if len(given) == 1 else ""

    def only(self, seeds: set[int]) -> "MethodScores":
        """The same with these seeds; unchanged where one run stands for every seed."""
        return self._replace(parts={s: p for s, p in self.parts.items() if s in seeds}) if self.draws else self

    def cost(self, name: str) -> float:
        """Mean over the runs; NaN where any did not measure it. What is untouched has no training."""
        if self.untouched and name == "train_seconds":
            return 0.0
        runs = [run for run in self.group.ok if run.seed in self.parts] if self.group else []
        values = [run.record.cost.get(name) for run in runs]
        return math.nan if not values or None in values else float(np.mean(values))


def titles_of(*comparisons: "TaskComparison") -> Callable[[str], str]:
    """What puts methods' titles into a sentence that has their names.

    A name stays that a label or a group of people has as well: of the data nothing is put into other words.
    """
    titles = {one.short: one.title for comparison in comparisons for one in comparison.beside}
    # What stands beside a few-shot comparison, with all labels, has the name that its methods are called there.
    titles |= {
        name: one.title for comparison in comparisons for one in comparison.methods for name in (one.name, one.short)
    }
    # The methods of a comparison have the same examples.
    parts = [next(iter(comparison.methods[0].parts.values())) for comparison in comparisons]
    of_data = {label for part in parts for label in part.labels}
    of_data |= {str(value) for part in parts for column in part.groups.values() for value in column}
    known = sorted({name for name, shown in titles.items() if name != shown} - of_data, key=len, reverse=True)
    if not known:
        return str

    # A title stays as it is: the "full" of "full fine-tuning", the "probe" of "probe with equalised groups".
    already = sorted(set(titles.values()) - set(known), key=len, reverse=True)
    # So does a part of a word or a setting, such as "how=probe".
    found = re.compile(rf"(?<![\w=-])({'|'.join(map(re.escape, [*already, *known]))})(?![\w=-])")
    return lambda said: found.sub(lambda name: titles[name[1]] if name[1] in known else name[1], said)


def called(one: MethodScores) -> str:
    """A method's name in sentences."""
    return f"{one.short} (the base model)" if one.untouched and one.group else one.short


Same = tuple[bytes, str, str]
"""What must be equal for two to be compared: examples, data, and the protocol of likelihoods of text."""


def method_scores(study: Study, task: str) -> tuple[list[tuple[Same, MethodScores]], list[str]]:
    """Everyone with a value of the primary metric on the test part, and a note for everyone without."""
    metric, found, notes = study.plan.of(task).primary, [], []
    groups = [group for group in study.groups if group.task == task]
    models = list(dict.fromkeys(group.model for group in groups if group.model))
    before: dict[tuple[str, Same], MethodScores | None] = {}
    for model in models:
        for same, one in _untouched([g for g in groups if g.model == model], model, models, metric):
            before[model, same] = one
    for group in groups:
        runs = [run for run in group.ok if ("after", "test") in run.parts]
        if not runs:
            notes.append(f"{group.name} is not compared: it has no run that finished")
            continue
        kept = common_examples([run.parts["after", "test"] for run in runs])
        parts = {run.seed: part for run in runs if (part := run.parts["after", "test"]).same == kept[0].same}
        if left := sorted({run.seed for run in runs} - set(parts)):
            others = f"other test {units.noun(metric)}s"
            notes.append(f"{group.name}: seeds {left} were measured on {others} and are left out")
        level = group_interval(list(parts.values()), metric)
        if math.isnan(level.value):
            notes.append(
                f"{group.name} is not compared: {units.name(metric)} is not available ({why_not(kept, metric)})"
            )
            continue
        same = _same(kept[0], runs[0], group)
        model = before.get((group.model, same))
        nothing_learned = group.method in METHODS and METHODS[group.method].untouched
        same_as_before = model is not None and nothing_learned and kept[0].answers == model.parts[0].answers
        found.append((same, MethodScores(group.name, group, parts, group.draws, level, same_as_before)))
        if same_as_before:
            before[group.model, same] = None
    found += [(same, one) for (_, same), one in before.items() if one is not None]
    return found, notes


def _same(part: Part, run: Run, group: Group) -> Same:
    # A baseline has no window to slide: however it reads a document, its likelihood of the whole is what it is.
    protocol = "" if group.baseline else part.protocol
    return part.same, str(run.record.provenance.get("data_sha256", "")), protocol


def _untouched(
    groups: Sequence[Group], model: str, models: Sequence[str], metric: str
) -> Iterator[tuple[Same, MethodScores]]:
    """The base model on each set of test examples, its predictions as most runs saw them."""
    seen: dict[Same, list[Part]] = {}
    for group in groups:
        for run in group.ok:
            part = run.parts.get(("before", "test"))
            if part is not None and metric in metrics_of(part):
                seen.setdefault(_same(part, run, group), []).append(part)
    name = BASE if len(models) == 1 else f"{BASE} {model}"
    for same, parts in seen.items():
        part = in_most(parts, lambda part: part.answers)[0]
        level = group_interval([part], metric)
        if not math.isnan(level.value):
            yield same, MethodScores(name, None, {0: part}, False, level, True)


def scores(one: MethodScores, metric: str) -> np.ndarray:
    """Values per run and example whose mean is the metric, higher is better: (n_seeds, n_examples).

    Raises:
        FtlibError: A metric that predictions of this form do not give.
    """
    parts = list(one.parts.values())
    if metric not in (able := metrics_of(parts[0])):
        raise unknown("metric", metric, able)
    if metric in OF_LABELS:
        return label_values(parts[0].truth, np.stack([part.chosen for part in parts]), metric)
    return np.stack([values_of(part, metric) for part in parts]) * (1 if metric_row(metric).higher_is_better else -1)


def run_values(one: MethodScores, metric: str) -> list[float]:
    """The metric of each run."""
    return [value_of(part, metric) for part in one.parts.values()]


_SHOTS = re.compile(r"(?:^| )shots=\d+(?= |$)")


def without_shots(said: str) -> str:
    """A configuration's name or settings without the number of labels per class.

    >>> without_shots("lora shots=8 r=4"), without_shots("shots=16")
    ('lora r=4', '')
    """
    return _SHOTS.sub("", said).strip()


def labels(shots: int | str) -> str:
    """A number of labels in words.

    >>> labels(1), labels(8), labels("1 to 4")
    ('1 label per class', '8 labels per class', '1 to 4 labels per class')
    """
    return f"{shots} label{'s' * (shots not in (1, '1'))} per class"


def at(shots: Sequence[int], every: Sequence[int]) -> str:
    """Some of the numbers of labels, in words; three or more neighbours as one stretch.

    >>> at((1, 2, 4, 64), (1, 2, 4, 8, 16, 32, 64)), at((1, 4, 8), (1, 2, 4, 8, 16))
    ('1 to 4 and 64 labels per class', '1, 4 and 8 labels per class')
    """
    runs: list[list[int]] = []
    for place, k in enumerate(every):
        if k in shots:
            if runs and place and every[place - 1] == runs[-1][-1]:
                runs[-1].append(k)
            else:
                runs.append([k])
    said = [x for run in runs for x in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run))]
    return labels(format.listed(said))


def with_labels(name: str) -> str:
    """A group's name as it is spoken.

    >>> with_labels("setfit shots=8"), with_labels("lora r=4 shots=1"), with_labels("full")
    ('setfit at 8 labels per class', 'lora r=4 at 1 label per class', 'full')
    """
    return re.sub(r"(?:^| )shots=(\d+)(?= |$)", lambda found: f" at {labels(found[1])}", name)


class CurvePoint(NamedTuple):
    """Who is compared at one number of labels."""

    shots: int
    """Labelled examples per class."""
    members: list[MethodScores]
    """Methods that had so many, and what draws none and so stands at every number."""
    beside: tuple[MethodScores, ...]
    """Who had more labels than any point of the curve (all there are): shown, and not compared."""


def curve_points(members: Sequence[MethodScores]) -> Iterator[CurvePoint]:
    """Take a task's methods apart by how many labels they had; nothing unless there are two or more numbers."""
    counts = sorted({shots_of(one) for one in members} - {0})
    if len(counts) < 2:
        return
    lines = {one.name: said for one, said in _lines([one for one in members if shots_of(one)])}
    still = [one._replace(line=_base(one, members)) for one in _once([one for one in members if _still(one)])]
    rest = [one for one in members if not shots_of(one) and not _still(one)]
    beside = tuple(one._replace(line=_with_all(one, members)) for one in rest)
    for k in counts:
        here = [one._replace(line=lines[one.name]) for one in members if shots_of(one) == k]
        yield CurvePoint(k, [*here, *still], beside)


def shots_of(one: MethodScores) -> int:
    """Labelled examples per class that it was given; 0 for what draws none, and for what was not limited."""
    return 0 if one.untouched or one.group is None else one.group.shots


def _draws(method: str) -> bool:
    return method not in METHODS or METHODS[method].draws


def _still(one: MethodScores) -> bool:
    """Whether no label of the task has a part in it."""
    return one.untouched or (one.group is not None and not one.baseline and not _draws(one.group.method))


def _once(still: Sequence[MethodScores]) -> list[MethodScores]:
    """Each answer once: a zero-shot that was asked for at every number of labels is one method."""
    found: dict[bytes, MethodScores] = {}
    for one in sorted(still, key=lambda one: not one.untouched):
        found.setdefault(next(iter(one.parts.values())).answers, one)
    return list(found.values())


def _lines(members: Sequence[MethodScores]) -> Iterator[tuple[MethodScores, str]]:
    """A name for each that is the same at every number of labels, and no other's at the same number."""
    for one in members:
        base = _base(one, members)
        twins = [other for other in members if _base(other, members) == base]
        if len({shots_of(other) for other in twins}) < len(twins):
            base = f"{base} {without_shots(one.group.settings)}".strip()
        yield one, base


def _base(one: MethodScores, members: Sequence[MethodScores]) -> str:
    """The method, with its model only where it was tried with several."""
    if one.group is None:
        return one.name
    models = {other.group.model for other in members if other.group and other.group.method == one.group.method}
    return f"{one.group.method} ({one.group.model})" if len(models) > 1 else one.group.method


def _with_all(one: MethodScores, members: Sequence[MethodScores]) -> str:
    settings = without_shots(one.group.settings) if one.group else ""
    alone = sum(other.group is not None and other.group.method == one.group.method for other in members) == 1
    limited = one.group is not None and one.group.runs[0].resolved.get("train_limit")
    base = _base(one, members) if alone or not settings else f"{_base(one, members)} {settings}"
    return base if not _draws(one.group.method) or (limited and settings) else f"{base}, all labels"


ALL_PAIRS_UP_TO = 24
"""Methods that are all compared with one another; what ranks lower is compared with the best only."""


class TaskComparison(NamedTuple):
    """The comparison of one task's methods by the plan's primary metric."""

    task: str
    metric: str
    margin: float
    """The smallest difference that matters, in the metric's unit."""
    methods: tuple[MethodScores, ...]
    """Best first."""
    pairs: tuple[Paired, ...]
    places: tuple[Place, ...]
    pareto: tuple[dict[str, Any], ...]
    detectable: tuple[str, str, float] | None
    """Two methods, and the smallest true difference between such two that is found 4 times of 5."""
    notes: tuple[str, ...]
    """What was not compared, and why."""
    shots: int = 0
    """Labels per class that all who draw any had; 0: they are not compared by that."""
    beside: tuple[MethodScores, ...] = ()
    """Where shots are compared: who had all labels, which is shown and not compared."""

    @property
    def where(self) -> str:
        """The task, with how many labels per class it was compared at."""
        return f"{self.task}, {labels(self.shots)}" if self.shots else self.task

    @property
    def of_text(self) -> bool:
        """Whether models of text are compared, which have likelihoods and no answers."""
        return KINDS[metric_row(self.metric).kind].of_text

    @property
    def has_labels(self) -> bool:
        """Whether what is compared are answers with labels."""
        return KINDS[metric_row(self.metric).kind].has_labels

    @property
    def n(self) -> int:
        """How many test examples there are."""
        return len(_any_part(self.methods[0]).ids)

    @property
    def protocols(self) -> dict[str, tuple[str, ...]]:
        """How likelihoods of text came about -> the methods it holds for; empty where there are none."""
        found: dict[str, tuple[str, ...]] = {}
        for one in sorted(self.methods, key=lambda one: one.baseline):
            if protocol := _any_part(one).protocol:
                found[protocol] = (*found.get(protocol, ()), one.name)
        return found

    def find(self, name: str) -> MethodScores:
        """The method of that name."""
        return next(one for one in self.methods if one.name == name)

    def pair(self, a: str, b: str) -> Paired | None:
        """The comparison of two, whichever way round it was made."""
        return next((pair for pair in self.pairs if {pair.a, pair.b} == {a, b}), None)

    def verdict(self, a: str, b: str) -> Verdict | None:
        """The corrected verdict on a against b, which every sentence goes by; None where they were not compared."""
        pair = self.pair(a, b)
        if pair is None:
            return None
        found = pair.comparison.verdict
        return found if pair.a == a else _TURNED.get(found, found)

    @property
    def top(self) -> tuple[MethodScores, ...]:
        """All that nothing is shown better than, best first: the first place of the ranking."""
        unbeaten = {place.name for place in self.places if place.rank == 1}
        return tuple(one for one in self.methods if one.name in unbeaten) or self.methods[:1]

    def leads(self, a: str, b: str) -> bool:
        """Whether a's level is at least as good as b's."""
        order = [one.name for one in self.methods]
        return order.index(a) < order.index(b)


_TURNED: Mapping[Verdict, Verdict] = {"better": "worse", "worse": "better"}


def task_comparisons(study: Study) -> Iterator[TaskComparison]:
    """One comparison per task and set of test examples, the largest of a task first; few-shot methods are compared at
    the same number of labels per class only, so a task has one per number.
    """
    for task in dict.fromkeys(group.task for group in study.groups):
        found, notes = method_scores(study, task)
        families = _families(found)
        sized = sorted(families.values(), key=len, reverse=True)
        if len(sized) > 1:
            parties = " and ".join(_party(members) for members in sized)
            protocols = len({same[:2] for same in families}) == 1
            differ = "protocols" if protocols else f"test {units.noun(study.plan.of(task).primary)}s"
            notes = [*notes, f"not comparable, since their {differ} differ: {parties}"]
        for number, members in enumerate(sized):
            said = notes if number == 0 else []
            for point in list(curve_points(members)) or [CurvePoint(0, members, ())]:
                yield _task_comparison(study, task, point, said)
                said = []


def unheard(study: Study, found: Sequence[TaskComparison]) -> list[str]:
    """Why tasks that were run have no comparison."""
    tasks = {group.task: None for group in study.groups if group.ok and all(group.task != c.task for c in found)}
    return [f"{task}: {note}" for task in tasks for note in method_scores(study, task)[1]]


def _families(found: Sequence[tuple[Same, MethodScores]]) -> dict[Same, list[MethodScores]]:
    """Who can be compared: the same examples, data and protocol."""
    families: dict[Same, list[MethodScores]] = {}
    for same, one in found:
        families.setdefault(same, []).append(one)
    for same in list(families):
        # Baselines have no protocol that matters: they join the most of those that have one.
        others = [other for other in families if other[:2] == same[:2] and other[2] and not same[2]]
        if others:
            families[max(others, key=lambda other: len(families[other]))] += families.pop(same)
    return families


def _any_part(one: MethodScores) -> Part:
    return next(iter(one.parts.values()))


def _party(members: Sequence[MethodScores]) -> str:
    part = _any_part(min(members, key=lambda one: one.baseline))
    noun = "document" if part.of_text else "example" if part.texts is None else "segment"
    n = format.plural(len(part.ids), f"test {noun}")
    return f"{', '.join(one.name for one in members)} ({n}{f', {part.protocol}' if part.protocol else ''})"


def _task_comparison(study: Study, task: str, point: CurvePoint, notes: list[str]) -> TaskComparison:
    plan = study.plan.of(task)
    up = 1 if metric_row(plan.primary).higher_is_better else -1
    chance = (study.plan_hash, task, *([f"shots={point.shots}"] if point.shots else []))
    members = sorted(point.members, key=lambda one: (-up * one.level.value, one.name))
    few = members[:ALL_PAIRS_UP_TO]
    wanted = [pair for pair in combinations(members, 2) if pair[0] is members[0] or pair[1] in few]
    if len(wanted) < math.comb(len(members), 2):
        notes = [*notes, f"beyond the first {ALL_PAIRS_UP_TO}, methods are compared with the best only"]
    notes = [*notes, *_seed_notes(wanted)]
    spreads = not any(math.isnan(one.level.low) for one in members)
    if not spreads:
        notes = [
            *notes,
            f"nothing is compared: one test {units.noun(plan.primary)}, or one source of them, has no spread",
        ]
    pairs = compared(chance, plan, wanted if spreads else [])
    values = {one.name: one.level.value for one in members}
    return TaskComparison(
        task,
        plan.primary,
        plan.margin,
        tuple(members),
        tuple(pairs),
        tuple(ranking(values, pairs, higher_is_better=up > 0)),
        tuple(pareto(chance, plan.primary, members)) if spreads else (),
        detectable(members, plan.primary) if spreads else None,
        tuple(notes),
        point.shots,
        point.beside,
    )


def _seed_notes(wanted: Sequence[tuple[MethodScores, MethodScores]]) -> Iterator[str]:
    """What pairing by seed left out."""
    pairs = [(a, b, common_seeds(a, b)) for a, b in wanted]
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


def compared(chance: Sequence[str], plan: Plan, pairs: Sequence[tuple[MethodScores, MethodScores]]) -> list[Paired]:
    """Pairs of methods compared by a plan's primary metric, as one family; `chance` holds words that seed it."""
    if not pairs:
        return []
    metric, first = metric_row(plan.primary), _any_part(pairs[0][0])
    return paired_comparisons(
        [tuple(_side(one, metric.name) for one in pair) for pair in pairs],
        margin=plan.margin,
        rng=np.random.default_rng(seed_of(*chance, metric.name)),
        clusters=first.clusters,
        unit=unit_of(metric.name),
        higher_is_better=metric.higher_is_better,
        **({"metric": metric.name, "labels": first.truth} if metric.name in OF_LABELS else {}),
    )


def _side(one: MethodScores, metric: str) -> Side:
    table = [part.chosen if metric in OF_LABELS else values_of(part, metric) for part in one.parts.values()]
    return Side(one.name, one.seeds, np.stack(table), one.draws, called(one))


def unit_of(metric: str) -> str:
    """The unit of a difference in words."""
    unit = metric_row(metric).unit
    return {"share": "points", "correlation": "in MCC", "squared probability": "in Brier score"}.get(unit, unit)


COSTS = ("train_seconds", "peak_memory_bytes", "trainable_parameters")


def pareto(chance: Sequence[str], metric: str, members: Sequence[MethodScores]) -> Iterator[dict[str, Any]]:
    """How surely each method is on the front of quality against each cost, as report.json holds it.

    `chance` holds words that the seed is made from.
    """
    up = 1 if metric_row(metric).higher_is_better else -1
    for cost in COSTS:
        able = [one for one in members if one.group is not None and not math.isnan(one.cost(cost))]
        if cost == "trainable_parameters":
            # How little of a model need move; the baselines have none.
            able = [one for one in able if not one.group.baseline]
            able = able if len({one.cost(cost) for one in able} - {0.0}) > 1 else []
        if len(able) < 2:
            continue
        quality = score_tables(able, metric)
        prices = {one.name: one.cost(cost) for one in able}
        clusters = next(iter(able[0].parts.values())).clusters
        rng = np.random.default_rng(seed_of(*chance, cost))
        surely = pareto_membership(quality, prices, rng, n_replicates=2_000, clusters=clusters)
        for one in able:
            yield who(one.group) | {
                "name": one.name,
                "metric": metric,
                "cost": cost,
                "cost_value": prices[one.name],
                "value": one.level.value,
                "on_front": not any(_dominates(other, one, cost, up) for other in able),
                "probability": surely[one.name],
            }


LEAST_SECONDS = 0.1
"""Below it a time is shown as "under 0.1 s", and drawn there."""


def shown_cost(one: MethodScores, cost: str) -> float:
    """A cost as tables and figures tell it apart; two that are shown alike are alike on the front, too."""
    return max(one.cost(cost), LEAST_SECONDS) if cost == "train_seconds" else one.cost(cost)


def score_tables(able: Sequence[MethodScores], metric: str) -> dict[str, np.ndarray]:
    """Each method's values per run and example, over the seeds that all methods have; over none, each method's mean."""
    drawing = [set(one.parts) for one in able if one.draws]
    shared = set.intersection(*drawing) if drawing else set()
    if drawing and not shared:
        return {one.name: scores(one, metric).mean(axis=0, keepdims=True) for one in able}
    return {one.name: scores(one.only(shared), metric) for one in able}


def _dominates(other: MethodScores, one: MethodScores, cost: str, up: int) -> bool:
    gain, saving = up * (other.level.value - one.level.value), shown_cost(one, cost) - shown_cost(other, cost)
    return gain >= 0 and saving >= 0 and (gain > 0 or saving > 0)


def detectable(members: Sequence[MethodScores], metric: str) -> tuple[str, str, float] | None:
    """The smallest difference that two methods like the two best could show with this test set, 4 times of 5."""
    trained = [one for one in members if one.draws]
    trained = trained if len(trained) > 1 else list(members)
    if len(trained) < 2 or not (common := common_seeds(*trained[:2])):
        return None
    a, b = trained[:2]
    tables = (scores(one.only(set(common)), metric) for one in (a, b))
    least = least_detectable(*tables, next(iter(a.parts.values())).clusters, most_apart(metric))
    return None if least is None else (a.name, b.name, least)


def most_apart(metric: str) -> float:
    """A difference that two hardly exceed: of a metric in points of its own 100, of any other 1."""
    return 100.0 if metric_row(metric).unit.endswith(" points") else 1.0


def least_detectable(
    a: np.ndarray, b: np.ndarray, clusters: np.ndarray | None = None, most: float = 1.0
) -> float | None:
    """The smallest true difference that is found 4 times of 5 between two that vary as these.

    None above the most, and where the two do not vary at all, which says nothing of others that do.

    Args:
        a: (n_seeds, n_examples) scores.
        b: The same examples and seeds, or one row.
    """
    first, second = paired(a, b)
    if not np.ptp(first - second):
        return None
    chance = DifferenceVariance.measured(variance_components(first - second, clusters))
    n_seeds, n = first.shape
    low, high = 0.0, most
    if power_of(high, n, n_seeds, chance).different < 0.8:
        return None
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if power_of(middle, n, n_seeds, chance).different < 0.8 else (low, middle)
    return high


_VERDICTS = {"better": "{} is better", "worse": "{} is worse", "same": "equivalent", "undecided": "undecided"}


def pairs_table(comparison: TaskComparison) -> Table:
    """Every comparison of a task's methods, with its verdict in words."""
    metric, unit, in_words = comparison.metric, "", titles_of(comparison)
    if units.scale(metric) > 1:
        unit = ", points"
    elif units.in_own_unit(metric):
        unit = f",{units.unit(metric)}"

    def row(pair: Paired) -> tuple[Said, ...]:
        found, (a, b) = pair.comparison, pair.compared_as if comparison.shots else (pair.a, pair.b)
        return (
            Cell(in_words(f"{a} − {b}")),
            Cell(_VERDICTS[found.verdict].format(a), format.unbroken(found.sentence), strong=True),
            units.difference(metric, found.difference),
            f"{units.difference(metric, found.low)} to {units.difference(metric, found.high)}",
            (format.p_value(pair.p_holm), f"alone: {format.p_value(found.p_value)}"),
            str(pair.n_seeds),
        )

    header = ("comparison", "verdict", f"difference{unit}", "95 % interval", "p (Holm)", "seeds")
    caption = f"Every comparison by {units.name(metric)}, {comparison.where}"
    return plain_table(caption, header, map(row, comparison.pairs), texts=2)


MOST_METHOD_ROWS = 40
"""Methods a table shows at once; the rest is folded."""


def methods_table(study: Study, comparison: TaskComparison, all_rows: Sequence[dict[str, Any]]) -> Table:
    """Every method by every metric of the test part, best first; who has no result comes last, with the reason."""
    found = {
        (*(row[name] for name in WHO), row["metric"]): row
        for row in all_rows
        if row["stage"] == "after" and row["part"] == "test"
    }
    first = _any_part(comparison.methods[0])
    # What records hold beside what predictions give, such as the spread over orders of a prompt.
    recorded = [row["metric"] for row in found.values() if row["task"] == comparison.task and row["source"] == "record"]
    names = dict.fromkeys([comparison.metric, *(name for name in (*metrics_of(first), *recorded) if name in METRICS)])
    noun, rule = units.noun(comparison.metric), next(iter(comparison.protocols), "")
    header = ("method", *map(units.heading, names), "runs", f"test {noun}s", "training time")
    body: list[Sequence[Said]] = []
    for one in (*comparison.methods, *comparison.beside):
        parts = list(one.parts.values())
        other = parts[0].protocol if parts[0].protocol != rule else ""
        values = []
        for name in names:
            if one.group:
                row = found.get((*who(one.group).values(), name))
            else:
                row = group_interval(parts, name)._asdict() | {"reason": why_not(parts, name)}
            values.append(value_cell(name, row, strong=name == comparison.metric))
        shown = BASE if one.untouched else one.short
        time = "none" if one.untouched else format.seconds(one.cost("train_seconds")) if one.group else "none"
        about = "; ".join(filter(None, (_about(one), other)))
        body.append(((shown, about), *values, str(len(parts)), format.count(len(first.ids)), time))
    for name, why in _without_result(study, comparison, all_rows):
        body.append((name, ("not available", why), *[""] * (len(names) + 1), Cell("")))
    return plain_table(f"Methods by metrics, {comparison.where}", header, body)


def _without_result(
    study: Study, comparison: TaskComparison, all_rows: Sequence[dict[str, Any]]
) -> Iterator[tuple[str, str]]:
    """Everyone who has no value to show, with the reason."""

    def rows_of(group: Group, stage: str) -> list[dict[str, Any]]:
        at = who(group) | {"stage": stage, "part": "test"}
        return [row for row in all_rows if at.items() <= row.items()]

    groups = [group for group in study.groups if group.task == comparison.task]
    here = {one.name for one in (*comparison.methods, *comparison.beside)}
    for group in groups:
        if group.name not in here and (not comparison.shots or group.shots == comparison.shots):
            yield group.name, _reason(group, [r for r in rows_of(group, "after") if r["metric"] == comparison.metric])
    if any(one.untouched and one.group is None for one in comparison.methods):
        return
    measured = {one.group.model for one in comparison.methods if one.untouched and one.group}
    for group in groups:
        before = [row for row in rows_of(group, "before") if row["value"] is None]
        if before and group.model not in measured:
            measured.add(group.model)
            yield BASE, before[0].get("reason", "")


def _about(one: MethodScores) -> str:
    if one.untouched:
        return f"measured by {one.name}" if one.group else "before any adaptation"
    return "baseline" if one.baseline and not one.line else ""


def _reason(group: Group, found: Sequence[dict[str, Any]]) -> str:
    if found:
        return found[0].get("reason") or f"measured on other test {units.noun(found[0]['metric'])}s; not comparable"
    statuses = format.listed(sorted({"unreadable" if run.unreadable else run.record.status for run in group.runs}))
    return f"no run finished ({format.plural(len(group.runs), 'run')}: {statuses})"


MOST_ROWS = 30
"""Methods a figure shows; the tables hold them all."""


def main_figure(comparison: TaskComparison) -> Figure:
    """The primary metric of every method with its interval."""
    metric, shown = comparison.metric, comparison.methods[:MOST_ROWS]
    by = units.scale(metric)
    before = next((one for one in comparison.methods if one.untouched), None)
    with drawing(0.75 + 0.3 * len(shown)) as ax:
        methods.forest(
            ax,
            [one.name for one in shown],
            [by * one.level.value for one in shown],
            [by * one.level.low for one in shown],
            [by * one.level.high for one in shown],
            label=units.heading(metric),
            reference=(BASE, by * before.level.value) if before else None,
            tied=[one in comparison.top for one in shown],
        )
        return figure_of(
            ax,
            "forest",
            f"{title(units.name(metric))} of every method",
            f"Dots are means over seeds, lines 95 % intervals for new test {units.noun(metric)}s and new seeds. Two "
            "methods can differ although their lines overlap: comparisons are paired, so read the table of comparisons "
            "for that.",
            ("method", units.heading(metric), "95 % interval"),
            [(one.title, units.level(metric, one.level.value), units.span(metric, *one.level[1:])) for one in shown],
        )


def main_figures(comparison: TaskComparison) -> Iterator[Figure]:
    """The spread of the primary metric from seed to seed, where there are several."""
    if any(len(one.parts) > 1 for one in comparison.methods):
        yield _seeds(comparison)


def _seeds(comparison: TaskComparison) -> Figure:
    metric, by = comparison.metric, units.scale(comparison.metric)
    shown = [one for one in comparison.methods if one.draws][:MOST_ROWS]
    with drawing(0.7 + 0.3 * len(shown)) as ax:
        methods.seeds(
            ax, {one.name: [by * v for v in run_values(one, metric)] for one in shown}, label=units.heading(metric)
        )
        rows = []
        for one in shown:
            values = run_values(one, metric)
            spread = units.difference(metric, max(values) - min(values), signed=False)
            rows.append((one.name, ", ".join(units.level(metric, v) for v in values), spread))
        return figure_of(
            ax,
            "seeds",
            "Spread from seed to seed",
            "Every dot is one run; the bar is their mean. Methods that draw nothing run once and are left out.",
            ("method", f"{units.heading(metric)} of each run", "best minus worst"),
            rows,
        )


def confusion_figure(one: MethodScores, words: Callable[[str], str]) -> Figure:
    """Where each label's examples went, all seeds of a method together."""
    parts = list(one.parts.values())
    labels, k = [words(label) for label in parts[0].labels], len(parts[0].labels)
    counts = sum(np.bincount(part.truth * k + part.chosen, minlength=k * k) for part in parts).reshape(k, k)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full((k, k), np.nan), where=totals > 0)
    with drawing(min(4.6, 2.4 + 0.25 * k)) as ax:
        methods.confusion(ax, shares, labels, name=one.short)
        off = [(shares[i, j], i, j) for i in range(k) for j in range(k) if i != j and counts[i, j]]
        off.sort(key=lambda entry: (-entry[0], entry[1], entry[2]))
        return figure_of(
            ax,
            "confusion",
            one.short,
            "",
            ("true label", "taken for", "share"),
            [(labels[i], labels[j], f"{100 * share:.0f} %") for share, i, j in off[:15]],
        )._replace(unfolded=k > methods.MOST_CELLS_WITH_NUMBERS)


def _protocols(comparison: TaskComparison) -> str:
    return f" Protocol: {format.protocols(comparison.protocols)}." if comparison.of_text else ""


def _read_methods(reading: "Reading") -> tuple["Reading", list[OfTask]]:
    def read(comparison: TaskComparison) -> tuple[TaskComparison, Table]:
        return comparison, methods_table(reading.study, comparison, reading.rows)

    return reading, reading.of_tasks(read, few_shot=False)


def _methods_blocks(found: tuple[TaskComparison, Table]) -> Iterator[Block]:
    comparison, shown = found
    note = (
        "On the test set. Each value with its 95 % interval; ↑ higher is better, ↓ lower is better. Runs: trainings "
        "with different seeds (1 where a method draws nothing)."
    )
    if comparison.of_text:
        note += (
            " Perplexity is per token, so it compares models of one tokenizer only; bits per byte is what is compared."
        )
    yield Note(note + _protocols(comparison))
    yield from first_rows(shown, MOST_METHOD_ROWS, "method")
    if figures := tuple(main_figures(comparison)):
        yield Figures(figures)


METHODS_SECTION = Section(
    name="methods",
    title="Methods by metrics",
    read=_read_methods,
    columns={
        "rows": (*WHO, "stage", "part", "metric", "value", "low", "high", "n", "seeds", "source", "reason", "protocol")
    },
    rows=lambda items: {"rows": items[0].rows},
    blocks=lambda items: by_task(items[1], _methods_blocks),
)


def _verdicts(comparison: TaskComparison) -> Iterator[dict[str, Any]]:
    at = f"with {labels(comparison.shots)}, " if comparison.shots else ""
    for pair in comparison.pairs:
        row = {
            "task": comparison.task,
            "metric": comparison.metric,
            "a": pair.a,
            "b": pair.b,
        } | pair.comparison._asdict()
        yield row | {"sentence": at + pair.comparison.sentence, "p_holm": pair.p_holm, "seeds": pair.n_seeds}


def _read_comparisons(reading: "Reading") -> tuple["Reading", list[OfTask]]:
    return reading, reading.of_tasks(lambda comparison: comparison if comparison.pairs else None, few_shot=False)


def _comparisons_blocks(comparison: TaskComparison) -> Iterator[Block]:
    better = " Fewer bits per byte are better." if comparison.of_text else ""
    yield Note(
        f"Every difference is paired: the same test {units.noun(comparison.metric)}s, the same seeds. “Equivalent” "
        f"means shown to lie within the margin, {TESTED}, or equal on every example; "
        "“undecided” means that neither a difference "
        f"nor equivalence is shown.{better}{_protocols(comparison)}"
    )
    shown, n = pairs_table(comparison), len(comparison.pairs)
    yield Fold(format.plural(n, "comparison"), (shown,), unfolded=n <= 15)


COMPARISONS_SECTION = Section(
    name="comparisons",
    title="Comparisons",
    read=_read_comparisons,
    columns={
        "verdicts": (
            "task", "metric", "a", "b", "difference", "low", "high", "p_value", "p_holm", "verdict", "more_examples",
            "more_seeds", "seeds", "sentence",
        ),
    },
    rows=lambda items: {"verdicts": [row for comparison in items[0].comparisons for row in _verdicts(comparison)]},
    blocks=lambda items: by_task(items[1], _comparisons_blocks),
)  # fmt: skip
