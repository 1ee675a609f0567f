"""What a state of a model has forgotten, example by example: of general text, earlier tasks, or its features."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ftlib.metrics.language import METRICS_OF_TEXT
from ftlib.report.courses import alike, clusters_of, course, examples_of, in_common, table_of
from ftlib.report.features import PREFIX
from ftlib.report.parts import Part
from ftlib.report.rows import metrics_of
from ftlib.report.study import Group
from ftlib.spread import Array


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


def general(group: Group, stage: str) -> Loss | None:
    """Bits by which a byte of general text became dearer."""
    before, after, seeds = _before_and(group, stage, "general")
    metric = next((name for part in after[:1] for name in metrics_of(part) if name in METRICS_OF_TEXT), "")
    tables = [table_of(some, metric) if some and metric else None for some in (before, after)]
    if any(table is None for table in tables):
        return None
    # The tables are minus the bits per byte.
    same = (after[0].protocol, examples_of(after[0]))
    return Loss(metric, seeds, tables[0] - tables[1], clusters_of(after[:1]), same)


def sequence(group: Group, stage: str) -> Loss | None:
    """Accuracy lost on the earlier tasks since each was trained on; tasks count alike."""
    one = course(group)
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


def features(group: Group, stage: str) -> Loss | None:
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
    "general": general,
    "sequence": sequence,
    "features": features,
}
"""Name -> what a group's models had forgotten at a stage, None where it was not measured; the first that serves is
taken."""
