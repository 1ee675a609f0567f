"""Runs that were trained on several tasks in sequence, read: who got which example right after which training.

And what all sections on forgetting share: scores of examples of several tasks that count alike, and comparisons that
are paired on seeds and examples.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ftlib.influence import label_values
from ftlib.metrics import metric_row
from ftlib.metrics.forgetting import tasks_of
from ftlib.naming import short_name
from ftlib.report.parts import Part
from ftlib.report.rows import OF_LABELS, metrics_of, values_of
from ftlib.report.study import Group, Run
from ftlib.spread import Array
from ftlib.verdict import Pair, compare_all


class Course(NamedTuple):
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


def course(group: Group) -> Course | None:
    """A group's runs as one course; None where they went through fewer than two tasks with labels.

    Seeds that lack a score on a task from its own training on, or were measured on other examples than most, are left
    out.
    """
    runs = [run for run in group.ok if run.resolved.get("earlier")]
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
    return Course(group, tasks, names, seeds, hits, clusters_of(lasts), most)


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


def compared(pairs: Sequence[tuple[Side, Side]], **how: Any) -> list[Paired]:
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

    >>> shortened(["full earlier=bios", "full earlier=bios replay=0.2"], "earlier")
    {'full earlier=bios': 'full', 'full earlier=bios replay=0.2': 'full replay=0.2'}
    """
    found = {name: re.sub(rf" {field}=\S+", "", name) for name in names}
    return found if len(set(found.values())) == len(found) else {name: name for name in names}
