"""What methods that were trained on the same tasks in sequence forget, and which of them forgets less."""

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from ftlib.difference import difference
from ftlib.intervals import Interval, interval
from ftlib.metrics import METRICS
from ftlib.metrics.forgetting import why_undefined
from ftlib.report import say
from ftlib.report.courses import Course, Paired, Side, alike, compared, course, shortened
from ftlib.report.entries import numbers, who
from ftlib.report.study import Study, seed_of
from ftlib.spread import Array
from ftlib.wording import Comparison

LEARNED = "learned"
"""The mean of R's diagonal: what methods score on a task right after its own training, the last task too."""
SHOWN = (LEARNED, "average_accuracy", "forgetting_first", "forgetting_max", "backward_transfer", "forward_transfer")
"""What is said of a method, in this order: what was learned, what is there at the end, and what was lost between."""
_UNKNOWN = Interval(math.nan, math.nan, math.nan)


class Sequences(NamedTuple):
    """Methods that went through the same tasks in the same order, measured on the same examples."""

    task: str
    """The last one, by its full name."""
    tasks: tuple[str, ...]
    courses: tuple[Course, ...]
    levels: tuple[dict[str, Interval], ...]
    """For each course, a name of `SHOWN` -> value with its interval over examples and seeds."""
    duels: tuple[Paired, ...]
    """Every two by `forgetting_first`; its difference is that of what is kept, so better is forgetting less."""
    margin: float
    """0 where the plan settles none in this unit."""

    @property
    def names(self) -> dict[str, str]:
        """What to call the methods where all went through these tasks."""
        return shortened([one.group.name for one in self.courses], "earlier")


def sequences(study: Study) -> list[Sequences]:
    """Every sequence of tasks that the study's methods went through, in the order of the groups."""
    families: dict[tuple[Any, ...], list[Course]] = {}
    for one in filter(None, map(course, study.groups)):
        families.setdefault((one.group.task, one.tasks, one.ids), []).append(one)
    return [_family(study, task, tasks, found) for (task, tasks, _), found in families.items()]


def _family(study: Study, task: str, tasks: tuple[str, ...], found: Sequence[Course]) -> Sequences:
    margin = margin_in_share(study, task)
    sides = [Side(one.group.name, one.seeds, -forgotten(one)) for one in found]
    duels = compared(
        list(combinations(sides, 2)),
        margin=margin,
        rng=np.random.default_rng(seed_of(study.plan_hash, *tasks, "forgetting_first")),
        clusters=_earlier(found[0], found[0].clusters),
    )
    levels = tuple({name: level(one, name) for name in SHOWN} for one in found)
    return Sequences(task, tasks, tuple(found), levels, tuple(duels), margin)


def margin_in_share(study: Study, task: str) -> float:
    """The plan's margin for differences of accuracy; 0 where its metric has another unit."""
    plan = study.plan.of(task)
    return plan.margin if METRICS[plan.primary].unit == "share" else 0.0


def forgotten(one: Course) -> Array:
    """(n_seeds, n_examples) right when the task was learned, minus right after the last training; tasks count alike.

    The last task has nothing to lose and is left out.
    """
    return alike([hits[:, j + 1] - hits[:, -1] for j, hits in enumerate(one.hits[:-1])])


def level(one: Course, name: str) -> Interval:
    """One of `SHOWN` in the mean over the seeds, for new examples and seeds; NaN where it is undefined.

    The best score of `forgetting_max` is the one found, seed by seed: that another training might have been the best
    is not in its interval.
    """
    first, last = one.hits[:-1], len(one.tasks)
    if name in (LEARNED, "average_accuracy"):
        table = alike([hits[:, -1 if name != LEARNED else j + 1] for j, hits in enumerate(one.hits)])
        # A stage that was measured on other examples has no score.
        return _UNKNOWN if np.isnan(table).any() else interval(table, clusters=one.clusters, bounds=(0.0, 1.0))
    if name == "forward_transfer":
        sides = [(hits[:, j], hits[:, 0]) for j, hits in enumerate(one.hits) if j]
        clusters = None if one.clusters is None else one.clusters[one.hits[0].shape[2] :]
    else:
        if name == "forgetting_max":
            best = [1 + j + hits[:, 1 + j : last].mean(axis=2).argmax(axis=1) for j, hits in enumerate(first)]
        else:
            best = [np.full(len(one.seeds), 1 + j) for j in range(len(first))]
        sides = [(hits[np.arange(len(best[j])), best[j]], hits[:, -1]) for j, hits in enumerate(first)]
        clusters = _earlier(one, one.clusters)
    a, b = (alike(list(tables)) for tables in zip(*sides, strict=True))
    if np.isnan(a).any() or np.isnan(b).any() or (clusters is not None and len(set(clusters)) < 2):
        return _UNKNOWN
    found = difference(b, a, clusters=clusters, bounds=(0.0, 1.0))
    if name == "backward_transfer":
        return Interval(found.value, found.low, found.high)
    # Nothing forgotten is 0, not -0.
    return Interval(*(0.0 - end for end in (found.value, found.high, found.low)))


def _earlier(one: Course, clusters: Array | None) -> Array | None:
    """Sources of the examples of all tasks but the last."""
    return None if clusters is None else clusters[: one.n - one.hits[-1].shape[2]]


def reason(one: Course, name: str) -> str:
    """Why one of `SHOWN` has no value."""
    return why_undefined(one.R.mean(axis=0), one.base.mean(axis=0), one.tasks, name)


ALONE = " (alone it would count, among so many it does not quite)"
_WORDS = {
    "better": "{a} forgets less than {b} by {size} ({sure})",
    "worse": "{a} forgets more than {b} by {size} ({sure})",
    "same": "{a} and {b} forget the same within {margin}: they differ by {size} ({sure})",
    "undecided": "undecided whether {a} forgets more or less than {b}: they differ by {size} ({sure})",
}


def sentence(found: Sequences, duel: Paired) -> str:
    """Which of two forgets less, in one sentence."""
    said, of = duel.pair.comparison, f"{say.plural(duel.n_seeds, 'seed')}, paired"
    names = found.names
    if duel.identical:
        return f"{names[duel.a]} and {names[duel.b]} forget exactly the same ({of})"
    words = _WORDS[said.verdict].format(
        a=names[duel.a],
        b=names[duel.b],
        size=f"{say.difference('accuracy', abs(said.difference), signed=False)} points",
        sure=f"{spanned(said)}, {of}",
        margin=say.margin("accuracy", found.margin),
    )
    return words + alone(said)


def alone(said: Comparison) -> str:
    """What is added where a difference would count were it the only one."""
    return ALONE if said.verdict == "undecided" and (said.low > 0 or said.high < 0) else ""


def spanned(said: Comparison, metric: str = "accuracy") -> str:
    """The interval of a difference whose size is said without its sign."""
    low, high = (said.low, said.high) if said.difference >= 0 else (-said.high, -said.low)
    return f"{say.difference(metric, low, signed=False)} to {say.difference(metric, high, signed=False)}"


def rows(found: Sequence[Sequences]) -> list[dict[str, Any]]:
    """The metrics of every sequence, and every comparison, as report.json holds them."""
    told = []
    for family in found:
        sequence = " > ".join(family.tasks)
        for one, levels in zip(family.courses, family.levels, strict=True):
            at = {**who(one.group), "sequence": sequence, "n": one.n, "seeds": len(one.seeds)}
            for name, value in levels.items():
                why = {"reason": reason(one, name)} if math.isnan(value.value) else {}
                told.append(at | {"metric": name} | numbers(value) | why)
        for duel in family.duels:
            said = duel.pair.comparison
            told.append(
                {"task": family.task, "sequence": sequence, "metric": "forgetting_first", "a": duel.a, "b": duel.b}
                # What is compared is what is kept; what is forgotten has the other sign.
                | {"value": -said.difference, "low": -said.high, "high": -said.low, "p_value": said.p_value}
                | {"p_holm": duel.pair.p_holm, "verdict": said.verdict, "seeds": duel.n_seeds}
                | {"n": duel.n, "sentence": sentence(family, duel)}
            )
    return told
