"""Who takes part: the methods of one task that have a value of the primary metric on the test part."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ftlib.influence import label_values
from ftlib.intervals import Interval
from ftlib.metrics import metric_row
from ftlib.report import say
from ftlib.report.parts import Part
from ftlib.report.rows import OF_LABELS, comparable, group_interval, metrics_of, value_of, values_of, why_not
from ftlib.report.study import Group, Run, Study


class Contestant(NamedTuple):
    """One method with one setting, or the untouched model, on one set of test examples."""

    name: str
    group: Group | None
    """None for an untouched model that no zero-shot run of the study stands for."""
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
    def baseline(self) -> bool:
        """Whether it uses no model."""
        return self.group is not None and self.group.baseline

    def only(self, seeds: set[int]) -> "Contestant":
        """The same with these seeds; unchanged where one run stands for every seed."""
        return self._replace(parts={s: p for s, p in self.parts.items() if s in seeds}) if self.draws else self

    def cost(self, name: str) -> float:
        """Mean over the runs; NaN where any did not measure it."""
        runs = [run for run in self.group.ok if run.seed in self.parts] if self.group else []
        values = [run.record.cost.get(name) for run in runs]
        return math.nan if not values or None in values else float(np.mean(values))


def called(one: Contestant) -> str:
    """A contestant's name in sentences."""
    return f"{one.short} (the untouched model)" if one.untouched and one.group else one.short


Same = tuple[bytes, str, str]
"""What must be equal for two to be compared: examples, data, and the protocol of likelihoods of text."""


def entrants(study: Study, task: str) -> tuple[list[tuple[Same, Contestant]], list[str]]:
    """Everyone with a value of the primary metric on the test part, and a note for everyone without."""
    metric, found, notes = study.plan.of(task).primary, [], []
    groups = [group for group in study.groups if group.task == task]
    models = list(dict.fromkeys(group.model for group in groups if group.model))
    before: dict[tuple[str, Same], Contestant | None] = {}
    for model in models:
        for same, one in _untouched([g for g in groups if g.model == model], model, models, metric):
            before[model, same] = one
    for group in groups:
        runs = [run for run in group.ok if ("after", "test") in run.parts]
        if not runs:
            notes.append(f"{group.name} is not compared: it has no run that finished")
            continue
        kept = comparable([run.parts["after", "test"] for run in runs])
        parts = {run.seed: part for run in runs if (part := run.parts["after", "test"]).same == kept[0].same}
        if left := sorted({run.seed for run in runs} - set(parts)):
            others = f"other test {say.noun(metric)}s"
            notes.append(f"{group.name}: seeds {left} were measured on {others} and are left out")
        level = group_interval(list(parts.values()), metric)
        if math.isnan(level.value):
            notes.append(f"{group.name} is not compared: {metric} is not available ({why_not(kept, metric)})")
            continue
        same = _same(kept[0], runs[0], group)
        model = before.get((group.model, same))
        same_as_before = model is not None and not group.draws and kept[0].answers == model.parts[0].answers
        found.append((same, Contestant(group.name, group, parts, group.draws, level, same_as_before)))
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
) -> Iterator[tuple[Same, Contestant]]:
    """The untouched model on each set of test examples, its predictions as most runs saw them."""
    seen: dict[Same, list[Part]] = {}
    for group in groups:
        for run in group.ok:
            part = run.parts.get(("before", "test"))
            if part is not None and metric in metrics_of(part):
                seen.setdefault(_same(part, run, group), []).append(part)
    name = "untouched model" if len(models) == 1 else f"untouched {model}"
    for same, parts in seen.items():
        counts = Counter(part.answers for part in parts)
        part = max(parts, key=lambda part: counts[part.answers])
        level = group_interval([part], metric)
        if not math.isnan(level.value):
            yield same, Contestant(name, None, {0: part}, False, level, True)


def common_seeds(a: Contestant, b: Contestant) -> tuple[int, ...]:
    """The seeds both sides have; a side that draws nothing has them all."""
    if a.draws and b.draws:
        return tuple(sorted(set(a.parts) & set(b.parts)))
    return tuple(sorted((a if a.draws else b).parts)) if a.draws or b.draws else (0,)


def scores(one: Contestant, metric: str) -> np.ndarray:
    """Values per run and example whose mean is the metric, higher is better: (n_seeds, n_examples)."""
    parts = list(one.parts.values())
    if metric in OF_LABELS:
        return label_values(parts[0].truth, np.stack([part.chosen for part in parts]), metric)
    return np.stack([values_of(part, metric) for part in parts]) * (1 if metric_row(metric).higher_is_better else -1)


def run_values(one: Contestant, metric: str) -> list[float]:
    """The metric of each run."""
    return [value_of(part, metric) for part in one.parts.values()]
