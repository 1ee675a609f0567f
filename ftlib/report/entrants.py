"""Who takes part: the methods of one task that have a value of the primary metric on the test part."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ftlib.influence import label_values
from ftlib.intervals import Interval
from ftlib.metrics import metric_row
from ftlib.report.parts import Part
from ftlib.report.rows import OF_LABELS, comparable, group_interval, value_of, why_not
from ftlib.report.study import Group, Study


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
    return f"{one.name} (the untouched model)" if one.untouched and one.group else one.name


def entrants(study: Study, task: str) -> tuple[list[tuple[tuple[bytes, str], Contestant]], list[str]]:
    """Everyone with a value of the primary metric on the test part, and a note for everyone without."""
    metric, found, notes = study.plan.primary, [], []
    groups = [group for group in study.groups if group.task == task]
    models = list(dict.fromkeys(group.model for group in groups if group.model))
    before = {model: _untouched([g for g in groups if g.model == model], model, models) for model in models}
    for group in groups:
        runs = [run for run in group.ok if ("after", "test") in run.parts]
        if not runs:
            notes.append(f"{group.name} is not compared: it has no run that finished")
            continue
        kept = comparable([run.parts["after", "test"] for run in runs])
        parts = {
            run.seed: run.parts["after", "test"] for run in runs if run.parts["after", "test"].same == kept[0].same
        }
        if left := sorted({run.seed for run in runs} - set(parts)):
            notes.append(f"{group.name}: seeds {left} were measured on other test examples and are left out")
        level = group_interval(list(parts.values()), metric)
        if math.isnan(level.value):
            notes.append(f"{group.name} is not compared: {metric} is not available ({why_not(kept, metric)})")
            continue
        model = before.get(group.model)
        same_as_before = model is not None and not group.draws and kept[0].answers == model[1].answers
        data = str(runs[0].record.provenance.get("data_sha256", ""))
        found.append(((kept[0].same, data), Contestant(group.name, group, parts, group.draws, level, same_as_before)))
        if same_as_before:
            before[group.model] = None
    for entry in before.values():
        if entry is not None:
            name, part, data = entry
            level = group_interval([part], metric)
            if not math.isnan(level.value):
                found.append(((part.same, data), Contestant(name, None, {0: part}, False, level, True)))
    return found, notes


def _untouched(groups: Sequence[Group], model: str, models: Sequence[str]) -> tuple[str, Part, str] | None:
    """The untouched model's predictions, as most runs saw them."""
    seen = [
        (run.parts["before", "test"], run) for group in groups for run in group.ok if ("before", "test") in run.parts
    ]
    seen = [(part, run) for part, run in seen if part.truth is not None]
    if not seen:
        return None
    counts: dict[bytes, int] = {}
    for part, _ in seen:
        counts[part.answers] = counts.get(part.answers, 0) + 1
    most = max(counts, key=lambda answers: counts[answers])
    part, run = next((part, run) for part, run in seen if part.answers == most)
    name = "untouched model" if len(models) == 1 else f"untouched {model}"
    return name, part, str(run.record.provenance.get("data_sha256", ""))


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
    return np.stack([part.brier for part in parts]) * (1 if metric_row(metric).higher_is_better else -1)


def run_values(one: Contestant, metric: str) -> list[float]:
    """The metric of each run."""
    return [value_of(part, metric) for part in one.parts.values()]
