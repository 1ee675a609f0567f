"""One run state by state, for a notebook: after each training, and on the way from the untouched weights.

Runs that were trained on several tasks in sequence, read: who got which example right after which training.

And what all sections on forgetting share: scores of examples of several tasks that count alike, and comparisons that
are paired on seeds and examples.

What methods that were trained on the same tasks in sequence forget, and which of them forgets less.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from ftlib.core import format
from ftlib.core.format import short_name
from ftlib.core.html import table
from ftlib.metrics import units
from ftlib.metrics.continual import matrix, tasks_of, why_undefined
from ftlib.metrics.registry import METRICS, metric_row
from ftlib.records import RunRecord
from ftlib.records.predictions import Part
from ftlib.records.study import Group, Run, Study, seed_of
from ftlib.report.figures import Picture, picture
from ftlib.report.metric_rows import OF_LABELS, metrics_of, numbers, values_of, who
from ftlib.report.plots.heat import heat
from ftlib.stats.intervals import Interval, interval
from ftlib.stats.linearize import label_values
from ftlib.stats.multiple import Pair, compare_all
from ftlib.stats.paired import difference
from ftlib.stats.variance import Array
from ftlib.stats.verdict import Comparison


class Shown:
    """A table that a notebook displays."""

    def __init__(self, content: str) -> None:
        self.content = content

    def _repr_html_(self) -> str:
        return self.content


def pictured(record: RunRecord, metric: str = "accuracy") -> Picture:
    """R[i, j] of a run as a picture: the score on every task after every training.

    Args:
        record: Of a run with earlier tasks.
        metric: What all of them are measured by.
    """
    own = short_name(record.spec["resolved"]["task"])
    names = [own if part == "test" else part for part in tasks_of(record.metrics, record.spec["resolved"], metric)]
    found = matrix(record.metrics, record.spec["resolved"], metric)
    return picture(heat, found, names, names, label=metric, down="after training on", across="measured on")


def states(record: RunRecord, metric: str) -> Shown:
    """A metric of everything that was measured, state by state: rows are parts, columns the model's states.

    Args:
        record: Of any run.
        metric: Its name; parts that do not have it are left out.
    """
    parts = dict.fromkeys(part for stage in record.metrics.values() for part, found in stage.items() if metric in found)
    cells = [[_cell(stage.get(part, {}).get(metric)) for stage in record.metrics.values()] for part in parts]
    rows = [(part, *row) for part, row in zip(parts, cells, strict=True)]
    return Shown(table(("part", *(name.replace("_", " ") for name in record.metrics)), rows))


def _cell(found: dict | None) -> str:
    if found is None:
        return ""
    if found["value"] is None:
        return "not available"
    if found.get("low") is None or found.get("high") is None:
        return f"{found['value']:.3f} (no interval{': one document' if found.get('n') == 1 else ''})"
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


class TaskSequence(NamedTuple):
    """One method's runs through one sequence of tasks with labels."""

    group: Group
    tasks: tuple[str, ...]
    """In the order of training; the run's own is the last."""
    parts: tuple[str, ...]
    """What they are called in the records."""
    seeds: tuple[int, ...]
    hits: tuple[Array, ...]
    """For each task (n_seeds, T + 1, n_examples): right or not, untouched and after each training, or NaN."""
    clusters: Array | None
    """(n_examples of all tasks,), or None."""
    ids: tuple[bytes, ...]
    """Equal for two courses exactly where a task's examples are."""

    @property
    def R(self) -> Array:
        """(n_seeds, T, T) accuracy on task j after training i."""
        return np.stack([table[:, 1:].mean(axis=2) for table in self.hits], axis=-1)

    @property
    def base(self) -> Array:
        """(n_seeds, T) accuracy of the untouched model."""
        return np.stack([table[:, 0].mean(axis=1) for table in self.hits], axis=-1)

    @property
    def n(self) -> int:
        """Examples of all tasks together."""
        return sum(table.shape[2] for table in self.hits)


def task_sequence(group: Group) -> TaskSequence | None:
    """A group's runs as one course; None where they went through fewer than two tasks with labels.

    Seeds that lack a score on a task from its own training on, or were measured on other examples than most, are left
    out.
    """
    runs = [run for run in group.ok if run.resolved.get("sequential_tasks")]
    stages = tasks_of(runs[0].record.metrics, runs[0].resolved) if runs else {}
    if len(stages) < 2:
        return None
    names, order = tuple(stages), ["before", *stages.values()]
    found = {run.seed: [[run.parts.get((stage, part)) for stage in order] for part in names] for run in runs}
    whole = {
        seed: columns
        for seed, columns in found.items()
        if all(part and part.truth is not None for j, column in enumerate(columns) for part in column[j + 1 :])
    }
    if not whole:
        return None
    keys = {seed: tuple(examples_of(column[-1]) for column in columns) for seed, columns in whole.items()}
    most = max((counts := Counter(keys.values())), key=lambda key: counts[key])
    seeds = tuple(seed for seed in whole if keys[seed] == most)
    hits = tuple(np.stack([_hits(whole[seed][j], most[j]) for seed in seeds]) for j in range(len(names)))
    lasts = [column[-1] for column in whole[seeds[0]]]
    tasks = tuple(short_name(group.task) if part == "test" else part for part in names)
    return TaskSequence(group, tasks, names, seeds, hits, clusters_of(lasts), most)


def _hits(column: Sequence[Part | None], key: bytes) -> Array:
    """(T + 1, n_examples): right or wrong at every stage."""
    n = len(column[-1].ids)
    able = [part if part is not None and examples_of(part) == key else None for part in column]
    return np.stack(
        [np.full(n, np.nan) if part is None else (part.truth == part.chosen).astype(float) for part in able]
    )


def examples_of(part: Part) -> bytes:
    """Equal for two parts exactly where ids and true labels (of text: sizes) are, whatever else their files hold."""
    truth = part.numbers["n_bytes"] if part.truth is None else [part.labels[code] for code in part.truth]
    return json.dumps([part.ids.tolist(), list(truth)]).encode()


def clusters_of(parts: Sequence[Part]) -> Array | None:
    """Sources of the examples of several parts, one after another; None where every example is its own."""
    if all(part.clusters is None for part in parts):
        return None
    sides = [part.ids if part.clusters is None else part.clusters for part in parts]
    return np.concatenate([[f"{number} {one}" for one in side] for number, side in enumerate(sides)])


def alike(tables: Sequence[Array]) -> Array:
    """Scores on several tasks as one table, in whose mean every task counts the same, whatever its size.

    A row's mean is the mean of its tasks' means, and its spread that within the tasks, as of a stratified sample
    (Cochran 1977, section 5.3): column i of task k is mean + n / (K n_k) (score - mean of the task).

    Args:
        tables: For each of K tasks (n_seeds, n_k).

    Returns:
        (n_seeds, n), n the sum of the n_k.

    One task with a mean of 1 and one with a mean of 0.5:

    >>> alike([np.array([[1.0, 1.0, 1.0, 1.0]]), np.array([[0.0, 1.0]])]).tolist()
    [[0.75, 0.75, 0.75, 0.75, 0.0, 1.5]]
    """
    if len(tables) == 1:
        return tables[0]
    n, k = sum(table.shape[1] for table in tables), len(tables)
    means = [table.mean(axis=1, keepdims=True) for table in tables]
    mean = sum(means) / k
    return np.concatenate([mean + n / (k * t.shape[1]) * (t - m) for t, m in zip(tables, means, strict=True)], axis=1)


class Side(NamedTuple):
    """One side of a paired comparison."""

    name: str
    seeds: tuple[int, ...]
    table: Array
    """(n_seeds, n_examples)."""
    draws: bool = True
    """False where its one row stands for every seed."""


class Paired(NamedTuple):
    """A comparison, and on how many seeds it is paired."""

    a: str
    b: str
    pair: Pair
    n_seeds: int
    n: int
    """Examples, of all tasks that are compared."""
    identical: bool
    """Whether the scores are equal everywhere."""


def paired_comparisons(pairs: Sequence[tuple[Side, Side]], **how: Any) -> list[Paired]:
    """Compare pairs on the seeds that both sides have, as one family (Holm); pairs without such seeds are left out.

    Args:
        pairs: Of sides with the same examples.
        how: margin, rng and the rest of `compare_all`.
    """
    tables: dict[str, Array] = {}
    keys, kept = [], []
    if (clusters := how.get("clusters")) is not None and len(set(clusters)) < 2:
        return []
    for number, (a, b) in enumerate(pairs):
        drawn = [set(side.seeds) for side in (a, b) if side.draws]
        common = sorted(set.intersection(*drawn)) if drawn else [0]
        # One example has no spread to learn from.
        if not common or a.table.shape[1] < 2:
            continue
        keys.append((f"{number} a", f"{number} b"))
        for key, side in zip(keys[-1], (a, b), strict=True):
            tables[key] = side.table[[side.seeds.index(s) for s in common]] if side.draws else side.table[:1]
        equal = not (tables[keys[-1][0]] - tables[keys[-1][1]]).any()
        kept.append((a, b, len(common), equal, not drawn))
    if not keys:
        return []
    still = {key for pair, entry in zip(keys, kept, strict=True) for key in pair if entry[-1]}
    found = compare_all(tables, pairs=keys, draws_nothing=still, **how)
    return [
        Paired(a.name, b.name, pair, n_seeds, a.table.shape[1], equal)
        for pair, (a, b, n_seeds, equal, _) in zip(found, kept, strict=True)
    ]


def table_of(parts: Sequence[Part], metric: str) -> Array | None:
    """(n_seeds, n_examples) values whose mean is the metric, higher is better; None where they do not give it."""
    if any(metric not in metrics_of(part) for part in parts):
        return None
    if metric in OF_LABELS:
        rows = [label_values(part.truth, part.chosen, metric)[0] for part in parts]
        return None if np.isnan(rows).any() else np.stack(rows)
    return np.stack([values_of(part, metric) for part in parts]) * (1 if metric_row(metric).higher_is_better else -1)


def in_common(runs: Sequence[Run], stage: str, part: str) -> dict[int, Part]:
    """Seed -> a part of these runs, where it is about the same examples under the same protocol as most."""
    found = {run.seed: run.parts[stage, part] for run in runs if (stage, part) in run.parts}
    if not found:
        return {}
    counts = Counter((examples_of(one), one.protocol) for one in found.values())
    most = max(counts, key=lambda key: counts[key])
    return {seed: one for seed, one in found.items() if (examples_of(one), one.protocol) == most}


def shortened(names: Sequence[str], field: str) -> dict[str, str]:
    """Name -> the same without what it says of a field, where they stay apart without it.

    >>> shortened(["full sequential_tasks=bios", "full sequential_tasks=bios replay=0.2"], "sequential_tasks")
    {'full sequential_tasks=bios': 'full', 'full sequential_tasks=bios replay=0.2': 'full replay=0.2'}
    """
    found = {name: re.sub(rf" {field}=\S+", "", name) for name in names}
    return found if len(set(found.values())) == len(found) else {name: name for name in names}


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
    courses: tuple[TaskSequence, ...]
    levels: tuple[dict[str, Interval], ...]
    """For each course, a name of `SHOWN` -> value with its interval over examples and seeds."""
    duels: tuple[Paired, ...]
    """Every two by `forgetting_first`; its difference is that of what is kept, so better is forgetting less."""
    margin: float
    """0 where the plan settles none in this unit."""

    @property
    def names(self) -> dict[str, str]:
        """What to call the methods where all went through these tasks."""
        return shortened([one.group.name for one in self.courses], "sequential_tasks")


def sequences(study: Study) -> list[Sequences]:
    """Every sequence of tasks that the study's methods went through, in the order of the groups."""
    families: dict[tuple[Any, ...], list[TaskSequence]] = {}
    for one in filter(None, map(task_sequence, study.groups)):
        families.setdefault((one.group.task, one.tasks, one.ids), []).append(one)
    return [_family(study, task, tasks, found) for (task, tasks, _), found in families.items()]


def _family(study: Study, task: str, tasks: tuple[str, ...], found: Sequence[TaskSequence]) -> Sequences:
    margin = margin_in_share(study, task)
    sides = [Side(one.group.name, one.seeds, -forgotten(one)) for one in found]
    duels = paired_comparisons(
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


def forgotten(one: TaskSequence) -> Array:
    """(n_seeds, n_examples) right when the task was learned, minus right after the last training; tasks count alike.

    The last task has nothing to lose and is left out.
    """
    return alike([hits[:, j + 1] - hits[:, -1] for j, hits in enumerate(one.hits[:-1])])


def level(one: TaskSequence, name: str) -> Interval:
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


def _earlier(one: TaskSequence, clusters: Array | None) -> Array | None:
    """Sources of the examples of all tasks but the last."""
    return None if clusters is None else clusters[: one.n - one.hits[-1].shape[2]]


def reason(one: TaskSequence, name: str) -> str:
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
    said, of = duel.pair.comparison, f"{format.plural(duel.n_seeds, 'seed')}, paired"
    names = found.names
    if duel.identical:
        return f"{names[duel.a]} and {names[duel.b]} forget exactly the same ({of})"
    words = _WORDS[said.verdict].format(
        a=names[duel.a],
        b=names[duel.b],
        size=f"{units.difference('accuracy', abs(said.difference), signed=False)} points",
        sure=f"{spanned(said)}, {of}",
        margin=units.margin("accuracy", found.margin),
    )
    return words + alone(said)


def alone(said: Comparison) -> str:
    """What is added where a difference would count were it the only one."""
    return ALONE if said.verdict == "undecided" and (said.low > 0 or said.high < 0) else ""


def spanned(said: Comparison, metric: str = "accuracy") -> str:
    """The interval of a difference whose size is said without its sign."""
    low, high = (said.low, said.high) if said.difference >= 0 else (-said.high, -said.low)
    return f"{units.difference(metric, low, signed=False)} to {units.difference(metric, high, signed=False)}"


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
