"""What adapting did to everything else a model's features could tell: linear probes before and after each method.

What adapting cost elsewhere: bits per byte of general text before and after each method, paired over documents.

What a state of a model has forgotten, example by example: of general text, earlier tasks, or its features.

The dial between a task and what was known before: settings that keep more of the one or of the other.

Quality on the task against what was forgotten, for every setting of a task's methods and, where weights part of the way
from untouched to adapted were measured (Wortsman et al. 2022), for every step of the way.

The dial as the page shows it: which setting keeps the gain and forgets least, the picture, the numbers.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ftlib.config.methods import METHODS
from ftlib.core import format
from ftlib.metrics import units
from ftlib.metrics.language import METRICS_OF_TEXT
from ftlib.metrics.registry import metric_row
from ftlib.records.predictions import Part
from ftlib.records.study import Group, Study, seed_of
from ftlib.report.figures import Figure, drawing, figure_of
from ftlib.report.metric_rows import common_examples, group_interval, metrics_of, values_of, who
from ftlib.report.plots.heat import tradeoff as draw
from ftlib.report.sections.comparison import TaskComparison, unit_of
from ftlib.report.sections.continual import (
    Paired,
    Side,
    alike,
    alone,
    clusters_of,
    examples_of,
    in_common,
    margin_in_share,
    paired_comparisons,
    shortened,
    spanned,
    table_of,
    task_sequence,
)
from ftlib.report.tables import Cell, Table
from ftlib.stats.intervals import Interval
from ftlib.stats.multiple import Pair, compare_all
from ftlib.stats.variance import Array, variance_components
from ftlib.stats.verdict import Comparison

PREFIX = "features:"


METRIC = "accuracy"


class FeatureChange(NamedTuple):
    """One method and one task that is read off its features."""

    group: Group
    part: str
    before: Interval
    after: Interval
    change: Paired
    """after - before; higher is better."""
    margin: float
    n: int

    @property
    def unchanged(self) -> bool:
        """Whether the same examples are got right as before."""
        return self.change.identical


def feature_changes(study: Study, task: str) -> list[FeatureChange]:
    """Every method of a task by every probed task, in the order of the groups.

    The changes in one probed task are one family (Holm).
    """
    groups = [group for group in study.groups if group.task == task and group.ok]
    names = dict.fromkeys(part for group in groups for run in group.ok for _, part in run.parts)
    found = [one for part in names if part.startswith(PREFIX) for one in _features_family(study, task, groups, part)]
    return sorted(found, key=lambda one: groups.index(one.group))


def _features_family(study: Study, task: str, groups: Sequence[Group], part: str) -> list[FeatureChange]:
    sides: list[tuple[Group, list[Part], dict[int, Part]]] = []
    for group in groups:
        before, after = (in_common(group.ok, stage, part) for stage in ("before", "after"))
        if seeds := sorted(set(before) & set(after)):
            first = [before[seed] for seed in seeds]
            kept = first[:1] if len({one.answers for one in first}) == 1 else first
            sides.append((group, kept, {seed: after[seed] for seed in seeds}))
    if not sides:
        return []
    found = [examples_of(before[0]) for _, before, _ in sides]
    most = max(found, key=found.count)
    sides = [(g, b, a) for g, b, a in sides if {examples_of(one) for one in (*b, *a.values())} == {most}]
    pairs = []
    for group, before, after in sides:
        seeds = tuple(after)
        tables = [table_of(some, METRIC) for some in (list(after.values()), before)]
        drawn = len(before) > 1
        pairs.append(
            (
                Side(f"{group.name} after", seeds, tables[0], group.draws),
                Side(f"{group.name} before", seeds if drawn else (), tables[1], drawn),
            )
        )
    margin = margin_in_share(study, task)
    rng = np.random.default_rng(seed_of(study.plan_hash, task, part))
    changes = paired_comparisons(pairs, margin=margin, rng=rng, clusters=sides[0][1][0].clusters)
    # One example, or one source of them, has no spread to learn from: then nothing is compared.
    return changes and [
        FeatureChange(
            group,
            part,
            group_interval(before, METRIC),
            group_interval(list(after.values()), METRIC),
            change,
            margin,
            len(before[0].ids),
        )
        for (group, before, after), change in zip(sides, changes, strict=True)
    ]


_WORDS = {"better": "tell more than before", "worse": "tell less than before", "same": "the same"}


def features_verdict(one: FeatureChange) -> str:
    """What became of the features, in a few words."""
    return "exactly the same" if one.unchanged else _WORDS.get(one.change.pair.comparison.verdict, "undecided")


def features_sentence(one: FeatureChange) -> str:
    """What a method did to what its features tell of a task, in one sentence."""
    said, name = one.change.pair.comparison, one.part.removeprefix(PREFIX)
    runs = format.plural(one.change.n_seeds, "seed") if one.group.draws else "1 run"
    of = f"{format.plural(one.n, 'example')}, {runs}"
    if one.unchanged:
        return f"{one.group.name}: a probe for {name} answers exactly as before ({of})"
    size = f"{units.difference(METRIC, abs(said.difference), signed=False)} points ({spanned(said)}, {of})"
    if said.verdict == "same":
        within = units.margin(METRIC, one.margin)
        return f"{one.group.name}: a probe for {name} is as good as before within {within}: it moved by {size}"
    if said.verdict == "undecided":
        words = f"undecided whether a probe for {name} is better or worse than before: by {size}"
        return f"{one.group.name}: {words}{alone(said)}"
    return f"{one.group.name}: a probe for {name} is {said.verdict} than before by {size}"


def features_table(found: Sequence[FeatureChange]) -> Table:
    """Every method by every probed task, before and after."""
    numbers = ("before", "after", "change, points", "p (Holm)", "examples", "runs")
    header = [Cell("method"), Cell("probed task"), Cell("its features")]
    header += [Cell(name, "accuracy, %" if name in ("before", "after") else "", number=True) for name in numbers]
    body = []
    for one in found:
        said = one.change.pair.comparison
        levels = [
            Cell(units.level(METRIC, level.value), units.span(METRIC, level.low, level.high), number=True)
            for level in (one.before, one.after)
        ]
        change = Cell(
            units.difference(METRIC, said.difference),
            f"{units.difference(METRIC, said.low)} to {units.difference(METRIC, said.high)}",
            number=True,
            strong=True,
        )
        body.append(
            (
                Cell(one.group.name, strong=True),
                Cell(one.part.removeprefix(PREFIX)),
                Cell(features_verdict(one)),
                *levels,
                Cell("0", number=True) if one.unchanged else change,
                Cell(format.p_value(one.change.pair.p_holm), number=True),
                Cell(format.count(one.n), number=True),
                Cell(str(one.change.n_seeds), number=True),
            )
        )
    task = found[0].group.task
    return Table(f"What a probe reads off the features before and after, {task}", tuple(header), tuple(body))


def features_rows(found: Sequence[FeatureChange]) -> list[dict[str, Any]]:
    """The changes as report.json holds them, beside those of general text."""
    return [
        {**who(one.group), "part": one.part, "metric": METRIC, "before": one.before.value, "after": one.after.value}
        | {"margin": one.margin or None}
        | one.change.pair.comparison._asdict()
        | {
            "p_holm": one.change.pair.p_holm,
            "n": one.n,
            "seeds": one.change.n_seeds,
            "sentence": features_sentence(one),
        }
        for one in found
    ]


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
    kept = {id(part) for part in common_examples([after for _, after in pairs])}
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


def general_sentence(one: Forgot) -> str:
    """What a method did to general text, in one sentence."""
    change, name = one.change, one.group.name
    size, low, high = change.difference, change.low, change.high
    if change.verdict in ("better", "worse") and size < 0:
        size, low, high = -size, -high, -low
    signed = change.verdict not in ("better", "worse")
    size, low, high = (units.difference(one.metric, value, signed) for value in (size, low, high))
    of = f"{format.plural(one.n, 'excerpt')}, {format.plural(one.seeds, 'seed') if one.group.draws else '1 run'}"
    sure, unit = f"({low} to {high}, {of})", units.name(one.metric)
    if one.unchanged:
        return f"{name}: general text is exactly as likely as before ({of})"
    if change.verdict == "same":
        within = units.margin(one.metric, one.margin)
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


def bought_and_cost(contest: TaskComparison, one: Forgot) -> str:
    """What adapting bought on the task beside what it cost on general text, in one sentence; empty without a task's."""
    on_task = on_task_of(contest, one.group.name)
    if on_task is None:
        return ""
    here = f"{signed(contest.metric, on_task)[0]}{units.unit(contest.metric)} on the task"
    there = f"{signed(one.metric, one.change)[0]}{units.unit(one.metric)} on general text"
    spans = [
        f"({signed(metric, found)[1]}{', undecided' if found.verdict == 'undecided' else ''})"
        for metric, found in ((contest.metric, on_task), (one.metric, one.change))
    ]
    return (
        f"What {one.group.name} bought and what it cost, against the untouched model: {here} {spans[0]}, {there} "
        f"{spans[1]}; fewer bits per byte are better."
    )


def on_task_of(contest: TaskComparison, name: str) -> Comparison | None:
    """A method minus the untouched model on the task's own metric; None where the two were not compared."""
    before = next((one.name for one in contest.contestants if one.untouched and one.name != name), None)
    duel = contest.duel(name, before) if before else None
    if duel is None or duel.a == name:
        return duel and duel.comparison
    found = duel.comparison
    return found._replace(difference=-found.difference, low=-found.high, high=-found.low)


def signed(metric: str, found: Comparison) -> tuple[str, str]:
    """A difference with its sign, and its interval."""
    shown = [units.difference(metric, value) for value in (found.difference, found.low, found.high)]
    return shown[0], f"{shown[1]} to {shown[2]}"


def general_rows(found: Sequence[Forgot]) -> list[dict[str, Any]]:
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
        | {
            "p_holm": one.p_holm,
            "n": one.n,
            "seeds": one.seeds,
            "protocol": one.protocol,
            "sentence": general_sentence(one),
        }
        for one in found
    ]


class Loss(NamedTuple):
    """What one state of a group's models has forgotten; more is worse."""

    metric: str
    """In whose unit."""
    seeds: tuple[int, ...]
    table: Array
    """(n_seeds, n_examples)."""
    clusters: Array | None
    same: Any
    """Equal where examples, and so values, can be compared."""

    @property
    def spreads(self) -> bool:
        """Whether there is a spread to learn from: several examples, from several sources."""
        return self.table.shape[1] > 1 and (self.clusters is None or len(set(self.clusters)) > 1)


def _before_and(group: Group, stage: str, part: str) -> tuple[list[Part], list[Part], tuple[int, ...]]:
    """A part of the untouched model and of a later stage, paired by seed."""
    before, after = in_common(group.ok, "before", part), in_common(group.ok, stage, part)
    seeds = tuple(
        seed
        for seed in after
        if seed in before and examples_of(before[seed]) == examples_of(after[seed])
        and before[seed].protocol == after[seed].protocol
    )  # fmt: skip
    return [before[seed] for seed in seeds], [after[seed] for seed in seeds], seeds


def general_losses(group: Group, stage: str) -> Loss | None:
    """Bits by which a byte of general text became dearer."""
    before, after, seeds = _before_and(group, stage, "general")
    metric = next((name for part in after[:1] for name in metrics_of(part) if name in METRICS_OF_TEXT), "")
    tables = [table_of(some, metric) if some and metric else None for some in (before, after)]
    if any(table is None for table in tables):
        return None
    # The tables are minus the bits per byte.
    same = (after[0].protocol, examples_of(after[0]))
    return Loss(metric, seeds, tables[0] - tables[1], clusters_of(after[:1]), same)


def sequence_losses(group: Group, stage: str) -> Loss | None:
    """Accuracy lost on the earlier tasks since each was trained on; tasks count alike."""
    one = task_sequence(group)
    if one is None:
        return None
    lost, lasts = [], []
    for j, part in enumerate(one.parts[:-1]):
        now = [run.parts.get((stage, part)) for run in group.ok if run.seed in one.seeds]
        if any(some is None or examples_of(some) != one.ids[j] for some in now):
            return None
        lost.append(one.hits[j][:, j + 1] - np.stack([some.truth == some.chosen for some in now]))
        lasts.append(now[0])
    return Loss("accuracy", one.seeds, alike(lost), clusters_of(lasts), (one.tasks, one.ids))


def feature_losses(group: Group, stage: str) -> Loss | None:
    """Accuracy that linear probes of the features lost; probed tasks count alike."""
    names = dict.fromkeys(part for run in group.ok for _, part in run.parts if part.startswith(PREFIX))
    found = {name: _before_and(group, stage, name) for name in names}
    found = {name: one for name, one in found.items() if one[2]}
    if not found or len({seeds for _, _, seeds in found.values()}) > 1:
        return None
    changes, firsts = [], []
    for before, after, _ in found.values():
        changes.append(table_of(before, "accuracy") - table_of(after, "accuracy"))
        firsts.append(after[0])
    seeds = next(iter(found.values()))[2]
    same = tuple((name, examples_of(first)) for name, first in zip(found, firsts, strict=True))
    return Loss("accuracy", seeds, alike(changes), clusters_of(firsts), same)


MEASURES: Mapping[str, Callable[[Group, str], Loss | None]] = {
    "general": general_losses,
    "sequence": sequence_losses,
    "features": feature_losses,
}
"""Name -> what a group's models had forgotten at a stage, None where it was not measured; the first that serves is
taken."""


SETTINGS = ("replay", "l2_sp", "ewc", "learning_rate", "r")
"""Fields that turn the dial, the method's own among them; so does the way from untouched to adapted weights."""


_NO_SETTING = ("seed", "notebook", "interpolation", "ewc_samples", "evaluations")


class TradeoffPoint(NamedTuple):
    """One setting of one method, or one step on the way to it."""

    name: str
    group: Group
    alpha: float | None
    """Share of the way from the untouched weights; None: the adapted model as it is."""
    parts: Mapping[int, Part]
    """Seed -> predictions of the task's test part."""
    level: Interval
    loss: Loss
    forgot: Interval


class Tradeoff(NamedTuple):
    """One task's points, best on the task first."""

    contest: TaskComparison
    measure: str
    points: tuple[TradeoffPoint, ...]
    gains: tuple[Paired, ...]
    """The best against every other, in the order of the points: by the task's metric, higher is better."""
    losses: tuple[Paired, ...]
    """The best against every other by what was forgotten, with its sign turned: higher is better."""
    chosen: int
    """The point that forgets least of those shown to be as good as the best; the best itself where there is none."""
    margin: float
    """Of what was forgotten; 0 where the plan settles none in this unit."""

    @property
    def metric(self) -> str:
        """In whose unit forgetting is said."""
        return self.points[0].loss.metric


def tradeoff(study: Study, contest: TaskComparison) -> Tradeoff | None:
    """The dial of a contest's trained methods; None where no two points differ in a setting that turns it."""
    groups = [one.group for one in contest.contestants if one.group and one.group.method in METHODS]
    turned = [group for some in _families(groups) for group in some if METHODS[group.method].trains]
    names = shortened([group.name for group in turned], "interpolation")
    for measure in MEASURES:
        points = [point for group in turned for point in _points(group, contest, measure, names[group.name])]
        kept = _of_most(points)
        if len(kept) > 1:
            return _dial(study, contest, measure, kept)
    return None


def _families(groups: Sequence[Group]) -> Iterator[list[Group]]:
    """Groups that differ in nothing but the dial's settings, and those with steps on the way."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        spec = group.runs[0].resolved
        own = {k: v for k, v in spec.get("method_args", {}).items() if k not in SETTINGS}
        left = {k: v for k, v in spec.items() if k not in (*SETTINGS, *_NO_SETTING)}
        found.setdefault(repr(sorted((left | {"method_args": sorted(own.items())}).items())), []).append(group)
    return (some for some in found.values() if len(some) > 1 or some[0].runs[0].resolved.get("interpolation"))


def _points(group: Group, contest: TaskComparison, measure: str, name: str) -> Iterator[TradeoffPoint]:
    """The adapted model, and the steps on the way to it."""
    shares = [alpha for alpha in group.runs[0].resolved.get("interpolation") or [] if alpha < 1]
    stages: dict[str, float | None] = {"after": None} | {f"alpha_{round(100 * alpha)}": alpha for alpha in shares}
    for stage, alpha in stages.items():
        loss = MEASURES[measure](group, stage)
        parts = in_common(group.ok, stage, "test") if loss else {}
        if not parts or table_of(list(parts.values()), contest.metric) is None:
            continue
        level = group_interval(list(parts.values()), contest.metric)
        if loss.spreads and not math.isnan(level.value):
            found = variance_components(loss.table, loss.clusters)
            ends = found.mean - found.half_width(), found.mean + found.half_width()
            at = "" if alpha is None else f" at {alpha:g} of the way"
            yield TradeoffPoint(name + at, group, alpha, parts, level, loss, Interval(found.mean, *ends))


def _of_most(points: Sequence[TradeoffPoint]) -> list[TradeoffPoint]:
    """The points whose examples are those of most."""
    keys = [(examples_of(next(iter(one.parts.values()))), one.loss.metric, one.loss.same) for one in points]
    most = max(keys, key=keys.count, default=None)
    return [point for point, key in zip(points, keys, strict=True) if key == most]


def _dial(study: Study, contest: TaskComparison, measure: str, points: Sequence[TradeoffPoint]) -> Tradeoff:
    up = 1 if metric_row(contest.metric).higher_is_better else -1
    ordered = sorted(points, key=lambda one: (-up * one.level.value, one.name))
    plan, metric = study.plan.of(contest.task), ordered[0].loss.metric
    margin = plan.margin if unit_of(plan.primary) == unit_of(metric) else 0.0
    best, *others = ordered
    rng = np.random.default_rng(seed_of(study.plan_hash, contest.task, "dial"))

    def against(side: Callable[[TradeoffPoint], Side], clusters: Array | None, least: float) -> tuple[Paired, ...]:
        pairs = [(side(one), side(best)) for one in others]
        return tuple(paired_comparisons(pairs, margin=least, rng=rng, clusters=clusters))

    first = next(iter(best.parts.values()))
    gains = against(lambda one: _gained(one, contest.metric), first.clusters, contest.margin)
    losses = against(lambda one: Side(one.name, one.loss.seeds, -one.loss.table), best.loss.clusters, margin)
    good = {one.a for one in gains if one.pair.comparison.verdict in ("same", "better")}
    able = [0, *(place for place, one in enumerate(ordered) if one.name in good)]
    chosen = min(able, key=lambda place: (ordered[place].forgot.value, place))
    return Tradeoff(contest, measure, tuple(ordered), gains, losses, chosen, margin)


def _gained(one: TradeoffPoint, metric: str) -> Side:
    return Side(one.name, tuple(one.parts), table_of(list(one.parts.values()), metric))


def point_comparison(found: Sequence[Paired], name: str) -> Paired | None:
    """The comparison of a point with the best."""
    return next((one for one in found if one.a == name), None)


def rows(found: Tradeoff) -> list[dict[str, Any]]:
    """The points as report.json holds them."""
    told = []
    for place, one in enumerate(found.points):
        gain, loss = point_comparison(found.gains, one.name), point_comparison(found.losses, one.name)
        told.append(
            {**who(one.group), "name": one.name, "alpha": one.alpha, "metric": found.contest.metric}
            | {"value": one.level.value, "low": say_none(one.level.low), "high": say_none(one.level.high)}
            | {"measure": found.measure, "forgotten": one.forgot.value}
            | {"forgotten_low": one.forgot.low, "forgotten_high": one.forgot.high}
            | {"as_good": gain.pair.comparison.verdict if gain else "best", "chosen": place == found.chosen}
            | {"forgets": loss.pair.comparison.verdict if loss else "best"}
            | {"n": len(next(iter(one.parts.values())).ids), "n_forgotten": one.loss.table.shape[1]}
            | {"seeds": len(one.parts)}
        )
    return told


def say_none(value: float) -> float | None:
    """NaN as report.json holds it."""
    return None if format.missing(value) else float(value)


MOST_POINTS = 24


_FORGOT = {
    "general": "{} that general text costs more than before",
    "sequence": "points of accuracy lost on the earlier tasks",
    "features": "points of accuracy that probes of the features lost",
}


def label(found: Tradeoff) -> str:
    """What was forgotten, with its unit."""
    return _FORGOT[found.measure].format(units.name(found.metric))


def sentence(found: Tradeoff) -> str:
    """Which setting keeps the gain within the margin of the best while forgetting least, or that nobody can tell."""
    best, chosen = found.points[0], found.points[found.chosen]
    within = units.margin(found.contest.metric, found.contest.margin)
    if found.chosen:
        gain = point_comparison(found.gains, chosen.name).pair.comparison
        kept = (
            f"{chosen.name} keeps what {best.name}, the best on the task, gained, within {within}: they differ by "
            f"{units.difference(found.contest.metric, abs(gain.difference), signed=False)}"
            f"{units.unit(found.contest.metric)} ({spanned(gain, found.contest.metric)})"
        )
        return f"{kept}. {_less(found, chosen, best)}"
    doubtful = [
        one
        for one in found.points[1:]
        if one.forgot.value < best.forgot.value
        and (pair := point_comparison(found.gains, one.name))
        and pair.pair.comparison.verdict == "undecided"
    ]
    if doubtful:
        names = format.some([one.name for one in doubtful], 3)
        return (
            f"Cannot tell: {best.name} is the best on the task; {names} forgot less, and whether the gain is kept "
            f"within {within} is undecided."
        )
    if any(one.forgot.value < best.forgot.value for one in found.points[1:]):
        return f"{best.name} is the best on the task, and nothing that forgot less keeps its gain within {within}."
    return f"{best.name} is the best on the task and forgot least of all settings measured."


def _less(found: Tradeoff, chosen: TradeoffPoint, best: TradeoffPoint) -> str:
    """Whether it forgot less than the best."""
    pair = point_comparison(found.losses, chosen.name)
    what = label(found)
    if pair is None:
        return f"Cannot tell whether it forgot less: no seed finished for both ({what})."
    said, metric = pair.pair.comparison, found.metric
    size = f"{units.difference(metric, abs(said.difference), signed=False)} ({spanned(said, metric)})"
    runs = format.plural(pair.n_seeds, "seed")
    if said.verdict == "better":
        return f"It forgot less by {size} {what}, paired on {runs}."
    if said.verdict == "same":
        return f"Both forgot the same within {units.margin(metric, found.margin)}: they differ by {size} {what}."
    return f"Cannot tell whether it forgot less than {best.name}: they differ by {size} {what}, paired on {runs}."


def figure(found: Tradeoff) -> Figure:
    """Quality against what was forgotten, with the table that says the same."""
    metric, shown = found.contest.metric, found.points[:MOST_POINTS]
    by, by_loss = units.scale(metric), units.scale(found.metric)
    before = next((one for one in found.contest.contestants if one.untouched), None)
    lines: dict[str, list[tuple[float, int]]] = {}
    for place, one in enumerate(shown):
        lines.setdefault(one.group.name, []).append((1.0 if one.alpha is None else one.alpha, place))
    ways = [[place for _, place in sorted(some)] for some in lines.values() if len(some) > 1]
    # The adapted model's name, without how far along the way.
    joined = {min((shown[place].name for place in way), key=len): way for way in ways}
    with drawing(3.4 + 0.16 * math.ceil(len(lines) / 2)) as ax:
        draw(
            ax,
            [one.name for one in shown],
            [[by_loss * value for value in one.forgot] for one in shown],
            [[by * value for value in one.level] for one in shown],
            label=units.heading(metric),
            forgotten_label=label(found),
            lines=joined,
            chosen=found.chosen if found.chosen < len(shown) else None,
            untouched=by * before.level.value if before else None,
        )
        return figure_of(
            ax,
            "dial",
            f"What is gained and what is forgotten, {found.contest.task}",
            "Each setting with its 95 % intervals for new examples and seeds; left of the dashed line nothing is "
            "forgotten. A line joins states on the way from the untouched weights to the adapted ones. The level line "
            "is the untouched model.",
            (
                "setting", units.heading(metric), "95 % interval", "as good as the best", label(found), "95 % interval",
                "forgot less than the best", "seeds", "n",
            ),
            [_row(found, one) for one in found.points],
        )  # fmt: skip


_AS_GOOD = {"same": "yes", "better": "better", "worse": "no", "undecided": "undecided"}


_LESS = {"same": "the same", "better": "yes", "worse": "no, more", "undecided": "undecided"}


def _row(found: Tradeoff, one: TradeoffPoint) -> tuple[str, ...]:
    gain, loss, metric = (
        point_comparison(found.gains, one.name),
        point_comparison(found.losses, one.name),
        found.contest.metric,
    )
    best = one is found.points[0]
    return (
        one.name,
        units.level(metric, one.level.value),
        units.span(metric, one.level.low, one.level.high),
        "the best" if best else _AS_GOOD[gain.pair.comparison.verdict] if gain else "not compared",
        units.difference(found.metric, one.forgot.value),
        f"{units.difference(found.metric, one.forgot.low)} to {units.difference(found.metric, one.forgot.high)}",
        "the best" if best else _LESS[loss.pair.comparison.verdict] if loss else "not compared",
        str(len(one.parts)),
        f"{format.count(len(next(iter(one.parts.values())).ids))} and {format.count(one.loss.table.shape[1])}",
    )
