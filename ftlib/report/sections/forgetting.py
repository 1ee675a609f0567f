"""What adapting cost elsewhere: general text, what features still tell of other tasks, and gain against forgetting.

General text and features are measured before and after each method, paired over documents or examples. The trade-off
sets quality on the task against what was forgotten, for every setting of a task's methods and, where weights part of
the way from the base model to the adapted one were measured (Wortsman et al. 2022), for every step of the way.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib.config.methods import METHODS
from ftlib.core import format
from ftlib.metrics import units
from ftlib.metrics.language import METRICS_OF_TEXT
from ftlib.metrics.registry import metric_row
from ftlib.records.predictions import Part
from ftlib.records.study import Group, Study, seed_of
from ftlib.report.blocks import Block, Cell, Column, Figures, Fold, Heading, Note, Section, Sentences, Table, table
from ftlib.report.figures import Figure, drawing, figure_of, title
from ftlib.report.metric_rows import WHO, group_interval, metrics_of, numbers, values_of, who
from ftlib.report.pairing import Paired, Side, common_examples, in_most, paired_comparisons
from ftlib.report.plots import methods
from ftlib.report.plots.heat import tradeoff as draw_tradeoff
from ftlib.report.sections.comparison import MOST_ROWS, TaskComparison, unit_of
from ftlib.report.sections.continual import (
    alike,
    change_cell,
    clusters_of,
    difference_sentence,
    difference_span,
    examples_of,
    in_common,
    level_cell,
    margin_in_share,
    shortened,
    spanned,
    table_of,
    task_sequence,
)
from ftlib.stats.intervals import Interval
from ftlib.stats.multiple import Pair, compare_all
from ftlib.stats.variance import Array, variance_components
from ftlib.stats.verdict import Comparison

if TYPE_CHECKING:
    from ftlib.report.build import Reading

GENERAL = "general"
"""The evaluation set of general text."""

FEATURES = "features:"
"""Evaluation sets that begin so hold what a linear probe reads off the features, named by its task."""

_BEFORE = " before"


class Forgot(NamedTuple):
    """What one method did to something it was not adapted to: general text, or what its features tell of a task."""

    group: Group
    part: str
    metric: str
    before: Interval
    after: Interval
    change: Comparison
    """after - before; bits of text are the better the fewer, features the better the more they tell."""
    p_holm: float
    margin: float
    """The smallest change that matters; 0 where the plan settles none in this unit."""
    n: int
    seeds: int
    unchanged: bool
    """Whether every document is as likely as before, or the same examples are got right."""
    protocol: str = ""


class _Entry(NamedTuple):
    """Predictions of general text by one configuration."""

    group: Group
    metric: str
    before: list[Part]
    after: list[Part]


def forgotten(study: Study, task: str) -> list[Forgot]:
    """Every method of a task that was measured on general text before and after, in the order of the groups.

    The changes of methods measured on the same text under one protocol are one family of comparisons (Holm). A method
    whose parts differ in text or protocol is left out: its rows are in the table of other evaluations.
    """
    families: dict[tuple[bytes, str, str, bool], list[_Entry]] = {}
    for group in study.groups:
        if group.task == task and (entry := _general_parts(group)):
            part = entry.after[0]
            # What changed nothing is no hypothesis, and costs the others no correction.
            still = {one.answers for one in entry.before} == {one.answers for one in entry.after}
            families.setdefault((part.same, part.protocol, entry.metric, still), []).append(entry)
    found = {one.group.name: one for entries in families.values() for one in _general_family(study, task, entries)}
    return [found[group.name] for group in study.groups if group.task == task and group.name in found]


def _general_parts(group: Group) -> _Entry | None:
    pairs = [(run.parts.get(("before", GENERAL)), run.parts.get(("after", GENERAL))) for run in group.ok]
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


def _general_family(study: Study, task: str, entries: Sequence[_Entry]) -> Iterator[Forgot]:
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
        rng=np.random.default_rng(seed_of(study.plan_hash, task, GENERAL)),
        pairs=[(one.group.name, one.group.name + _BEFORE) for one in able],
        clusters=first.clusters,
        unit=unit_of(metric),
        higher_is_better=False,
        draws_nothing=still | {name + _BEFORE for name in still},
    )
    for one, pair in zip(able, pairs, strict=True):
        change = pair.comparison
        yield Forgot(
            one.group,
            GENERAL,
            metric,
            *levels[one.group.name],
            change,
            pair.p_holm,
            margin,
            len(first.ids),
            len(one.after),
            change.difference == change.low == change.high == 0,
            first.protocol,
        )


def feature_changes(study: Study, task: str) -> list[Forgot]:
    """What each method of a task did to what its features tell of other tasks, in the order of the groups.

    The changes in what is told of one task are one family (Holm).
    """
    groups = [group for group in study.groups if group.task == task and group.ok]
    names = dict.fromkeys(part for group in groups for run in group.ok for _, part in run.parts)
    found = [one for part in names if part.startswith(FEATURES) for one in _features_of(study, task, groups, part)]
    return sorted(found, key=lambda one: groups.index(one.group))


def _features_of(study: Study, task: str, groups: Sequence[Group], part: str) -> list[Forgot]:
    sides: list[tuple[Group, list[Part], dict[int, Part]]] = []
    for group in groups:
        before, after = (in_common(group.ok, stage, part) for stage in ("before", "after"))
        if seeds := sorted(set(before) & set(after)):
            first = [before[seed] for seed in seeds]
            kept = first[:1] if len({one.answers for one in first}) == 1 else first
            sides.append((group, kept, {seed: after[seed] for seed in seeds}))
    if not sides:
        return []
    most = examples_of(in_most(sides, lambda side: examples_of(side[1][0]))[0][1][0])
    sides = [(g, b, a) for g, b, a in sides if {examples_of(one) for one in (*b, *a.values())} == {most}]
    pairs = []
    for group, before, after in sides:
        seeds = tuple(after)
        tables = [table_of(some, "accuracy") for some in (list(after.values()), before)]
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
        Forgot(
            group,
            part,
            "accuracy",
            group_interval(before, "accuracy"),
            group_interval(list(after.values()), "accuracy"),
            change.comparison,
            change.p_holm,
            margin,
            len(before[0].ids),
            change.n_seeds,
            change.identical,
        )
        for (group, before, after), change in zip(sides, changes, strict=True)
    ]


def bought_and_cost(comparison: TaskComparison, one: Forgot) -> str:
    """What adapting bought on the task beside what it cost on general text, in one sentence; empty without a task's."""
    on_task = _on_task(comparison, one.group.name)
    if on_task is None:
        return ""
    sides = ((comparison.metric, on_task, "the task"), (one.metric, one.change, "general text"))
    here, there = (
        f"{units.difference(metric, found.difference)}{units.unit(metric)} on {where} "
        f"({difference_span(metric, found)}{', undecided' if found.verdict == 'undecided' else ''})"
        for metric, found, where in sides
    )
    return (
        f"What {one.group.name} bought and what it cost, against the base model: {here}, {there}; fewer bits per byte "
        "are better."
    )


def _on_task(comparison: TaskComparison, name: str) -> Comparison | None:
    """A method minus the base model on the task's own metric; None where the two were not compared."""
    before = next((one.name for one in comparison.methods if one.untouched and one.name != name), None)
    pair = comparison.pair(name, before) if before else None
    if pair is None or pair.a == name:
        return pair and pair.comparison
    found = pair.comparison
    return found._replace(difference=-found.difference, low=-found.high, high=-found.low)


_GENERAL_TEXT = {
    "better": "general text costs {{size}}{unit} less than before {{sure}}",
    "worse": "general text costs {{size}}{unit} more than before {{sure}}",
    "same": "what general text costs is equivalent to before within {margin}: it moved by {{size}} {{sure}}",
    "undecided": "undecided whether general text costs more than before or less: by {{size}}{unit} {{sure}}",
    "unchanged": "general text is exactly as likely as before",
}

_A_PROBE = {
    "better": "a linear probe for {task} is better than before by {{size}}{unit} {{sure}}",
    "worse": "a linear probe for {task} is worse than before by {{size}}{unit} {{sure}}",
    "same": "a linear probe for {task} is equivalent to before within {margin}: it moved by {{size}}{unit} {{sure}}",
    "undecided": "undecided whether a linear probe for {task} got better or worse: by {{size}}{unit} {{sure}}",
    "unchanged": "a linear probe for {task} answers exactly as before",
}


def change_sentence(one: Forgot) -> str:
    """What a method did to general text, or to what its features tell of a task, in one sentence."""
    general = one.part == GENERAL
    words, noun = (_GENERAL_TEXT, "excerpt") if general else (_A_PROBE, "example")
    names = {"task": one.part.removeprefix(FEATURES), "unit": units.unit(one.metric)}
    counted = f"{format.plural(one.n, noun)}, {format.plural(one.seeds, 'seed') if one.group.draws else '1 run'}"
    if one.unchanged:
        return f"{one.group.name}: {words['unchanged'].format(**names)} ({counted})"
    names["margin"] = units.margin(one.metric, one.margin)
    return f"{one.group.name}: {difference_sentence(one.metric, one.change, words, counted, **names)}"


def change_row(one: Forgot) -> dict[str, Any]:
    """A change as report.json holds it."""
    return (
        {**who(one.group), "part": one.part, "metric": one.metric, "before": one.before.value, "after": one.after.value}
        | {"margin": one.margin or None}
        | one.change._asdict()
        | {"p_holm": one.p_holm, "n": one.n, "seeds": one.seeds, "protocol": one.protocol}
        | {"sentence": change_sentence(one)}
    )


_GENERAL_IS = {"better": "less than before", "worse": "more than before", "same": "equivalent"}

_FEATURES_TELL = {"better": "tell more than before", "worse": "tell less than before", "same": "equivalent"}


def _verdict(one: Forgot) -> str:
    """What became of it, in a few words."""
    words = _GENERAL_IS if one.part == GENERAL else _FEATURES_TELL
    return "exactly the same" if one.unchanged else words.get(one.change.verdict, "undecided")


def _change(one: Forgot) -> Cell:
    return Cell("0", number=True) if one.unchanged else change_cell(one.metric, one.change, strong=True)


def _changes(caption: str, found: Sequence[Forgot], about: str, unit: str, n: str, own: Column) -> Table:
    """Every method before and after, with one column of its own."""
    general = found[0].part == GENERAL
    columns = [
        Column("of", "method", lambda one: Cell(one.group.name, strong=True)),
        Column("of", about, _verdict),
        Column("of", "before", lambda one: level_cell(one.metric, one.before), number=True, unit=unit),
        Column("of", "after", lambda one: level_cell(one.metric, one.after), number=True, unit=unit),
        Column("of", "change", _change, number=True, unit="" if general else "points"),
        Column("p_holm", "p (Holm)", format.p_value, number=True),
        Column("n", n, format.count, number=True),
        Column("seeds", "runs", number=True),
    ]
    # The task of a probe stands beside the method, the change on the task beside that of general text.
    columns.insert(5 if general else 1, own)
    return table(caption, columns, [change_row(one) | {"of": one} for one in found])


def _on_task_cell(comparison: TaskComparison, one: Forgot) -> Cell:
    found = _on_task(comparison, one.group.name)
    return change_cell(comparison.metric, found) if found else Cell("", number=True)


def _general_figure(found: Sequence[Forgot]) -> Figure:
    """How much more or less likely each method left general text."""
    shown, metric = found[:MOST_ROWS], found[0].metric
    label = f"change in {units.name(metric)} on general text"
    with drawing(0.75 + 0.3 * len(shown)) as ax:
        methods.forest(
            ax,
            [one.group.name for one in shown],
            [one.change.difference for one in shown],
            [one.change.low for one in shown],
            [one.change.high for one in shown],
            label=label,
            reference=("as before", 0.0),
        )
        return figure_of(
            ax,
            "general",
            title(label),
            "To the right of the dashed line a method forgot, to the left it gained. Lines are 95 % intervals, paired: "
            "each document before and after.",
            ("method", "before", "after", "change", "95 % interval"),
            [
                (
                    one.group.name,
                    units.level(metric, one.before.value),
                    units.level(metric, one.after.value),
                    units.difference(metric, one.change.difference),
                    difference_span(metric, one.change),
                )
                for one in shown
            ],
        )


class Loss(NamedTuple):
    """What one state of a configuration's models has forgotten, example by example; more is worse."""

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
    """An evaluation set by the base model and at a later stage, paired by seed."""
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
    before, after, seeds = _before_and(group, stage, GENERAL)
    metric = next((name for part in after[:1] for name in metrics_of(part) if name in METRICS_OF_TEXT), "")
    tables = [table_of(some, metric) if some and metric else None for some in (before, after)]
    if any(table is None for table in tables):
        return None
    # The tables are minus the bits per byte.
    same = (after[0].protocol, examples_of(after[0]))
    return Loss(metric, seeds, tables[0] - tables[1], clusters_of(after[:1]), same)


def sequence_losses(group: Group, stage: str) -> Loss | None:
    """Accuracy lost on the previous tasks since each was trained on; tasks count alike."""
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
    """Accuracy that linear probes of the features lost; the tasks of the probes count alike."""
    names = dict.fromkeys(part for run in group.ok for _, part in run.parts if part.startswith(FEATURES))
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


def domain_losses(group: Group, stage: str) -> Loss | None:
    """ChrF lost on texts of other domains: the task's other test sets, and previous tasks; domains count alike."""
    domains = dict.fromkeys(part for run in group.ok for (_, part), one in run.parts.items() if one.texts is not None)
    found = {name: _before_and(group, stage, name) for name in domains if name not in ("test", "validation")}
    found = {name: one for name, one in found.items() if one[2]}
    if not found or len({seeds for _, _, seeds in found.values()}) > 1:
        return None
    changes = [table_of(before, "chrf") - table_of(after, "chrf") for before, after, _ in found.values()]
    firsts = [after[0] for _, after, _ in found.values()]
    same = tuple((name, examples_of(first)) for name, first in zip(found, firsts, strict=True))
    return Loss("chrf", next(iter(found.values()))[2], alike(changes), clusters_of(firsts), same)


MEASURES: Mapping[str, Callable[[Group, str], Loss | None]] = {
    GENERAL: general_losses,
    "sequence": sequence_losses,
    "features": feature_losses,
    "domains": domain_losses,
}
"""Name -> what a configuration's models had forgotten at a stage, None where it was not measured; the first that serves
is taken."""

SETTINGS = ("replay", "l2_sp", "ewc", "learning_rate", "r")
"""Fields that trade the task against what was known before, the method's own among them; so does the way from the base
weights to the adapted ones."""

_NO_SETTING = ("seed", "notebook", "interpolation", "ewc_samples", "evaluations")


class TradeoffPoint(NamedTuple):
    """One setting of one method, or one step on the way from the base model to it."""

    name: str
    group: Group
    alpha: float | None
    """Share of the way from the base weights; None: the adapted model as it is."""
    parts: Mapping[int, Part]
    """Seed -> predictions of the task's test part."""
    level: Interval
    loss: Loss
    forgot: Interval


class Tradeoff(NamedTuple):
    """One task's points, best on the task first."""

    comparison: TaskComparison
    measure: str
    points: tuple[TradeoffPoint, ...]
    gains: tuple[Paired, ...]
    """The best against every other, in the order of the points: by the task's metric, higher is better."""
    losses: tuple[Paired, ...]
    """The best against every other by what was forgotten, with its sign trained: higher is better."""
    chosen: int
    """The point that forgets least of those shown to be as good as the best; the best itself where there is none."""
    margin: float
    """Of what was forgotten; 0 where the plan settles none in this unit."""

    @property
    def metric(self) -> str:
        """In whose unit forgetting is said."""
        return self.points[0].loss.metric


def tradeoff(study: Study, comparison: TaskComparison) -> Tradeoff | None:
    """The trade-off of the trained methods of a task; None where no two points differ in one of `SETTINGS`."""
    groups = [one.group for one in comparison.methods if one.group and one.group.method in METHODS]
    trained = [group for some in _alike_but_for_settings(groups) for group in some if METHODS[group.method].trains]
    names = shortened([group.name for group in trained], "interpolation")
    for measure in MEASURES:
        points = [point for group in trained for point in _points(group, comparison, measure, names[group.name])]
        kept = in_most(points, _compared_on)
        if len(kept) > 1:
            return _compare_points(study, comparison, measure, kept)
    return None


def _alike_but_for_settings(groups: Sequence[Group]) -> Iterator[list[Group]]:
    """Configurations that differ in nothing but `SETTINGS`, and those with steps on the way."""
    found: dict[str, list[Group]] = {}
    for group in groups:
        spec = group.runs[0].resolved
        own = {k: v for k, v in spec.get("method_args", {}).items() if k not in SETTINGS}
        left = {k: v for k, v in spec.items() if k not in (*SETTINGS, *_NO_SETTING)}
        found.setdefault(repr(sorted((left | {"method_args": sorted(own.items())}).items())), []).append(group)
    return (some for some in found.values() if len(some) > 1 or some[0].runs[0].resolved.get("interpolation"))


def _points(group: Group, comparison: TaskComparison, measure: str, name: str) -> Iterator[TradeoffPoint]:
    """The adapted model, and the steps on the way to it."""
    shares = [alpha for alpha in group.runs[0].resolved.get("interpolation") or [] if alpha < 1]
    stages: dict[str, float | None] = {"after": None} | {f"alpha_{round(100 * alpha)}": alpha for alpha in shares}
    for stage, alpha in stages.items():
        loss = MEASURES[measure](group, stage)
        parts = in_common(group.ok, stage, "test") if loss else {}
        if not parts or table_of(list(parts.values()), comparison.metric) is None:
            continue
        level = group_interval(list(parts.values()), comparison.metric)
        if loss.spreads and not math.isnan(level.value):
            found = variance_components(loss.table, loss.clusters)
            ends = found.mean - found.half_width(), found.mean + found.half_width()
            at = "" if alpha is None else f" at {alpha:g} of the way"
            yield TradeoffPoint(name + at, group, alpha, parts, level, loss, Interval(found.mean, *ends))


def _compared_on(one: TradeoffPoint) -> tuple[Any, ...]:
    """What must be equal for two points to be compared."""
    return examples_of(next(iter(one.parts.values()))), one.loss.metric, one.loss.same


def _compare_points(
    study: Study, comparison: TaskComparison, measure: str, points: Sequence[TradeoffPoint]
) -> Tradeoff:
    up = 1 if metric_row(comparison.metric).higher_is_better else -1
    ordered = sorted(points, key=lambda one: (-up * one.level.value, one.name))
    plan, metric = study.plan.of(comparison.task), ordered[0].loss.metric
    margin = plan.margin if unit_of(plan.primary) == unit_of(metric) else 0.0
    best, *others = ordered
    rng = np.random.default_rng(seed_of(study.plan_hash, comparison.task, "dial"))

    def against(side: Callable[[TradeoffPoint], Side], clusters: Array | None, least: float) -> tuple[Paired, ...]:
        pairs = [(side(one), side(best)) for one in others]
        return tuple(paired_comparisons(pairs, margin=least, rng=rng, clusters=clusters))

    first = next(iter(best.parts.values()))
    gains = against(lambda one: _on_test(one, comparison.metric), first.clusters, comparison.margin)
    losses = against(lambda one: Side(one.name, one.loss.seeds, -one.loss.table), best.loss.clusters, margin)
    good = {one.a for one in gains if one.comparison.verdict in ("same", "better")}
    able = [0, *(place for place, one in enumerate(ordered) if one.name in good)]
    chosen = min(able, key=lambda place: (ordered[place].forgot.value, place))
    return Tradeoff(comparison, measure, tuple(ordered), gains, losses, chosen, margin)


def _on_test(one: TradeoffPoint, metric: str) -> Side:
    """A point's scores on the task."""
    return Side(one.name, tuple(one.parts), table_of(list(one.parts.values()), metric))


def _against_best(found: Sequence[Paired], name: str) -> Paired | None:
    """The comparison of a point with the best."""
    return next((one for one in found if one.a == name), None)


def tradeoff_row(found: Tradeoff, place: int) -> dict[str, Any]:
    """A point as report.json holds it."""
    one = found.points[place]
    gain, loss = _against_best(found.gains, one.name), _against_best(found.losses, one.name)
    return (
        {**who(one.group), "name": one.name, "alpha": one.alpha, "metric": found.comparison.metric}
        | numbers(one.level)
        | {"measure": found.measure, "forgotten": one.forgot.value}
        | {"forgotten_low": one.forgot.low, "forgotten_high": one.forgot.high}
        | {"as_good": gain.comparison.verdict if gain else "best", "chosen": place == found.chosen}
        | {"forgets": loss.comparison.verdict if loss else "best"}
        | {"n": len(next(iter(one.parts.values())).ids), "n_forgotten": one.loss.table.shape[1]}
        | {"seeds": len(one.parts)}
    )


MOST_POINTS = 24

_FORGOT = {
    GENERAL: "{} that general text costs more than before",
    "sequence": "points of accuracy lost on the previous tasks",
    "features": "points of accuracy that linear probes of the features lost",
    "domains": "{} points lost on other domains",
}


def forgotten_label(found: Tradeoff) -> str:
    """What was forgotten, with its unit."""
    return _FORGOT[found.measure].format(units.name(found.metric))


def tradeoff_sentence(found: Tradeoff) -> str:
    """Which setting keeps the gain within the margin of the best while forgetting least, or that nobody can tell."""
    best, chosen = found.points[0], found.points[found.chosen]
    within = units.margin(found.comparison.metric, found.comparison.margin)
    if found.chosen:
        gain = _against_best(found.gains, chosen.name).comparison
        kept = (
            f"{chosen.name} keeps what {best.name}, the best of these on the task, gained, within {within}: they "
            "differ by "
            f"{units.difference(found.comparison.metric, abs(gain.difference), signed=False)}"
            f"{units.unit(found.comparison.metric)} ({spanned(gain, found.comparison.metric)})"
        )
        return f"{kept}. {_forgot_less(found, chosen, best)}"
    doubtful = [
        one
        for one in found.points[1:]
        if one.forgot.value < best.forgot.value
        and (pair := _against_best(found.gains, one.name))
        and pair.comparison.verdict == "undecided"
    ]
    if doubtful:
        names = format.some([one.name for one in doubtful], 3)
        return (
            f"Cannot tell: {best.name} is the best of these on the task; {names} forgot less, and whether the gain is "
            f"kept within {within} is undecided."
        )
    if any(one.forgot.value < best.forgot.value for one in found.points[1:]):
        less = f"none that forgot less keeps its gain within {within}"
        return f"{best.name} is the best of these on the task, and {less}."
    return f"{best.name} is the best of these on the task and forgot least of them."


def _forgot_less(found: Tradeoff, chosen: TradeoffPoint, best: TradeoffPoint) -> str:
    """Whether it forgot less than the best."""
    pair = _against_best(found.losses, chosen.name)
    what = forgotten_label(found)
    if pair is None:
        return f"Cannot tell whether it forgot less: no seed finished for both ({what})."
    said, metric = pair.comparison, found.metric
    size = f"{units.difference(metric, abs(said.difference), signed=False)} ({spanned(said, metric)})"
    runs = format.plural(pair.n_seeds, "seed")
    if said.verdict == "better":
        return f"It forgot less by {size} {what}, paired on {runs}."
    if said.verdict == "same":
        return f"Both forgot equally within {units.margin(metric, found.margin)}: they differ by {size} {what}."
    return f"Cannot tell whether it forgot less than {best.name}: they differ by {size} {what}, paired on {runs}."


def _tradeoff_figure(found: Tradeoff) -> Figure:
    """Quality against what was forgotten, with the table that says the same."""
    metric, shown, lost = found.comparison.metric, found.points[:MOST_POINTS], forgotten_label(found)
    by, by_loss = units.scale(metric), units.scale(found.metric)
    before = next((one for one in found.comparison.methods if one.untouched), None)
    lines: dict[str, list[tuple[float, int]]] = {}
    for place, one in enumerate(shown):
        lines.setdefault(one.group.name, []).append((1.0 if one.alpha is None else one.alpha, place))
    ways = [[place for _, place in sorted(some)] for some in lines.values() if len(some) > 1]
    # The adapted model's name, without how far along the way.
    joined = {min((shown[place].name for place in way), key=len): way for way in ways}
    with drawing(3.4 + 0.16 * math.ceil(len(lines) / 2)) as ax:
        draw_tradeoff(
            ax,
            [one.name for one in shown],
            [[by_loss * value for value in one.forgot] for one in shown],
            [[by * value for value in one.level] for one in shown],
            label=units.heading(metric),
            forgotten_label=lost,
            lines=joined,
            chosen=found.chosen if found.chosen < len(shown) else None,
            untouched=by * before.level.value if before else None,
        )
        return figure_of(
            ax,
            "tradeoff",
            f"What is gained and what is forgotten, {found.comparison.task}",
            "Each setting with its 95 % intervals for new examples and seeds; left of the dashed line nothing is "
            "forgotten. A line joins states on the way from the base weights to the adapted ones. The level line is "
            "the base model.",
            (
                "setting", units.heading(metric), "95 % interval", "as good as the best", lost, "95 % interval",
                "forgot less than the best", "seeds", "n",
            ),
            [_figure_row(found, place) for place in range(len(found.points))],
        )  # fmt: skip


_AS_GOOD = {"same": "yes", "better": "better", "worse": "no", "undecided": "undecided"}

_FORGOT_LESS = {"same": "equivalent", "better": "yes", "worse": "no, more", "undecided": "undecided"}


def _figure_row(found: Tradeoff, place: int) -> tuple[str, ...]:
    row, one, metric = tradeoff_row(found, place), found.points[place], found.comparison.metric
    other = "not compared" if place else "the best"
    return (
        one.name,
        units.level(metric, one.level.value),
        units.span(metric, one.level.low, one.level.high),
        _AS_GOOD.get(row["as_good"], other),
        units.difference(found.metric, one.forgot.value),
        difference_span(found.metric, one.forgot),
        _FORGOT_LESS.get(row["forgets"], other),
        str(row["seeds"]),
        f"{format.count(row['n'])} and {format.count(row['n_forgotten'])}",
    )


class Elsewhere(NamedTuple):
    """What the methods of a study did to everything but the task."""

    general: tuple[tuple[TaskComparison, list[Forgot]], ...]
    """For each task the comparison of its methods on it, and what these did to general text."""
    all_general: tuple[Forgot, ...]
    """With every number of labels of a few-shot study, not the most only."""
    features: tuple[list[Forgot], ...]
    """For each task."""
    tradeoffs: tuple[Tradeoff, ...]


def _read(reading: "Reading") -> Elsewhere | None:
    general = [(comparison, found) for comparison in reading.tops if (found := reading.forgotten_by(comparison))]
    tasks = dict.fromkeys(group.task for group in reading.study.groups)
    features = [found for task in tasks if (found := feature_changes(reading.study, task))]
    tradeoffs = [found for comparison in reading.comparisons if (found := tradeoff(reading.study, comparison))]
    every = [one for found in reading.general.values() for one in found]
    if not (every or features or tradeoffs):
        return None
    return Elsewhere(tuple(general), tuple(every), tuple(features), tuple(tradeoffs))


def _rows(found: Elsewhere) -> dict[str, list[dict[str, Any]]]:
    changes = [*found.all_general, *(one for some in found.features for one in some)]
    return {
        "general": [change_row(one) for one in changes],
        "tradeoff": [tradeoff_row(one, place) for one in found.tradeoffs for place in range(len(one.points))],
    }


def _blocks(found: Elsewhere) -> Iterator[Block]:
    for comparison, changes in found.general:
        yield from _general_blocks(comparison, changes)
    if found.features:
        yield Heading("Linear-probe accuracy on other tasks")
        yield Note(
            "A linear probe is fitted to a task that the model was not adapted to, on its features before and after. "
            "Paired: the same examples, the same seeds; corrected (Holm) over the methods for each task of a probe."
        )
    for some in found.features:
        caption = f"What a linear probe reads off the features before and after, {some[0].group.task}"
        probed = Column("of", "task of the probe", lambda one: one.part.removeprefix(FEATURES))
        yield _changes(caption, some, "its features", "accuracy, %", "examples", probed)
        yield Fold("The same in words", (Sentences(tuple(f"{change_sentence(one)}." for one in some)),))
    if found.tradeoffs:
        yield Heading("Trade-off of the task and what is forgotten")
        yield Note(
            "Settings of one method, and weights part of the way from the base ones to the adapted ones. Who is as "
            "good as the best is shown by equivalence within the margin; who forgot less is corrected (Holm) for all "
            "settings."
        )
    for one in found.tradeoffs:
        yield Note(tradeoff_sentence(one), quiet=False)
        yield _tradeoff_figure(one)


def _general_blocks(comparison: TaskComparison, found: Sequence[Forgot]) -> Iterator[Block]:
    """What the methods of one task did to general text; of a few-shot study those with the most labels."""
    by_metric: dict[str, list[Forgot]] = {}
    protocols: dict[str, list[str]] = {}
    for one in found:
        by_metric.setdefault(one.metric, []).append(one)
        protocols.setdefault(one.protocol, []).append(one.group.name)
    yield Heading(f"General text, {comparison.where}")
    yield Note(
        "Bits per byte of each method on ordinary text, before and after; lower is better. Every change is "
        f"paired: the same excerpts, the same seeds. Protocol: {format.protocols(protocols)}."
    )
    yield Sentences(tuple(f"{change_sentence(one)}." for one in found))
    unit = units.unit(comparison.metric).strip()
    on_task = Column("of", "change on the task", lambda one: _on_task_cell(comparison, one), number=True, unit=unit)
    # Masked models have a metric of their own, which is never beside the other.
    for metric, some in by_metric.items():
        caption = f"General text before and after, {comparison.task}"
        yield _changes(caption, some, "general text costs", units.name(metric), "excerpts", on_task)
    yield Figures(tuple(map(_general_figure, by_metric.values())))


SECTION = Section(
    name="forgetting",
    title="Effect on other abilities (forgetting)",
    read=_read,
    columns={
        "general": (
            *WHO, "part", "metric", "before", "after", "difference", "low", "high", "p_value", "p_holm", "verdict", "n",
            "seeds", "protocol", "sentence",
        ),
        "tradeoff": (
            *WHO, "name", "alpha", "metric", "value", "low", "high", "measure", "forgotten", "forgotten_low",
            "forgotten_high", "as_good", "forgets", "chosen", "n", "n_forgotten", "seeds",
        ),
    },
    rows=_rows,
    blocks=_blocks,
)  # fmt: skip
