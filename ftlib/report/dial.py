"""The dial between a task and what was known before: settings that keep more of the one or of the other.

Quality on the task against what was forgotten, for every setting of a task's methods and, where weights part of the way
from untouched to adapted were measured (Wortsman et al. 2022), for every step of the way.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ftlib.intervals import Interval
from ftlib.methods import METHODS
from ftlib.metrics import metric_row
from ftlib.report import say
from ftlib.report.contest import Contest, unit_of
from ftlib.report.courses import Paired, Side, compared, examples_of, in_common, shortened, table_of
from ftlib.report.entries import who
from ftlib.report.lost import MEASURES, Loss
from ftlib.report.parts import Part
from ftlib.report.rows import group_interval
from ftlib.report.study import Group, Study, seed_of
from ftlib.spread import Array, spread

SETTINGS = ("replay", "l2_sp", "ewc", "learning_rate", "r")
"""Fields that turn the dial, the method's own among them; so does the way from untouched to adapted weights."""

_NO_SETTING = ("seed", "notebook", "alphas", "ewc_samples", "probes")


class Point(NamedTuple):
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


class Dial(NamedTuple):
    """One task's points, best on the task first."""

    contest: Contest
    measure: str
    points: tuple[Point, ...]
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


def dial(study: Study, contest: Contest) -> Dial | None:
    """The dial of a contest's trained methods; None where no two points differ in a setting that turns it."""
    groups = [one.group for one in contest.contestants if one.group and one.group.method in METHODS]
    turned = [group for some in _families(groups) for group in some if METHODS[group.method].trains]
    names = shortened([group.name for group in turned], "alphas")
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
    return (some for some in found.values() if len(some) > 1 or some[0].runs[0].resolved.get("alphas"))


def _points(group: Group, contest: Contest, measure: str, name: str) -> Iterator[Point]:
    """The adapted model, and the steps on the way to it."""
    alphas = [alpha for alpha in group.runs[0].resolved.get("alphas") or [] if alpha < 1]
    stages: dict[str, float | None] = {"after": None} | {f"alpha_{round(100 * alpha)}": alpha for alpha in alphas}
    for stage, alpha in stages.items():
        loss = MEASURES[measure](group, stage)
        parts = in_common(group.ok, stage, "test") if loss else {}
        if not parts or table_of(list(parts.values()), contest.metric) is None:
            continue
        level = group_interval(list(parts.values()), contest.metric)
        if loss.spreads and not math.isnan(level.value):
            found = spread(loss.table, loss.clusters)
            ends = found.mean - found.half_width(), found.mean + found.half_width()
            at = "" if alpha is None else f" at {alpha:g} of the way"
            yield Point(name + at, group, alpha, parts, level, loss, Interval(found.mean, *ends))


def _of_most(points: Sequence[Point]) -> list[Point]:
    """The points whose examples are those of most."""
    keys = [(examples_of(next(iter(one.parts.values()))), one.loss.metric, one.loss.same) for one in points]
    most = max(keys, key=keys.count, default=None)
    return [point for point, key in zip(points, keys, strict=True) if key == most]


def _dial(study: Study, contest: Contest, measure: str, points: Sequence[Point]) -> Dial:
    up = 1 if metric_row(contest.metric).higher_is_better else -1
    ordered = sorted(points, key=lambda one: (-up * one.level.value, one.name))
    plan, metric = study.plan.of(contest.task), ordered[0].loss.metric
    margin = plan.margin if unit_of(plan.primary) == unit_of(metric) else 0.0
    best, *others = ordered
    rng = np.random.default_rng(seed_of(study.plan_hash, contest.task, "dial"))

    def against(side: Callable[[Point], Side], clusters: Array | None, least: float) -> tuple[Paired, ...]:
        pairs = [(side(one), side(best)) for one in others]
        return tuple(compared(pairs, margin=least, rng=rng, clusters=clusters))

    first = next(iter(best.parts.values()))
    gains = against(lambda one: _gained(one, contest.metric), first.clusters, contest.margin)
    losses = against(lambda one: Side(one.name, one.loss.seeds, -one.loss.table), best.loss.clusters, margin)
    good = {one.a for one in gains if one.pair.comparison.verdict in ("same", "better")}
    able = [0, *(place for place, one in enumerate(ordered) if one.name in good)]
    chosen = min(able, key=lambda place: (ordered[place].forgot.value, place))
    return Dial(contest, measure, tuple(ordered), gains, losses, chosen, margin)


def _gained(one: Point, metric: str) -> Side:
    return Side(one.name, tuple(one.parts), table_of(list(one.parts.values()), metric))


def duel(found: Sequence[Paired], name: str) -> Paired | None:
    """The comparison of a point with the best."""
    return next((one for one in found if one.a == name), None)


def rows(found: Dial) -> list[dict[str, Any]]:
    """The points as report.json holds them."""
    told = []
    for place, one in enumerate(found.points):
        gain, loss = duel(found.gains, one.name), duel(found.losses, one.name)
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
    return None if say.missing(value) else float(value)
