"""What a run that was trained on one task after another scored, read off its record for `ftlib.metrics.forgetting`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ftlib.naming import short_name
from ftlib.spread import Array


def tasks_of(metrics: Mapping[str, Any], resolved: Mapping[str, Any], metric: str = "accuracy") -> dict[str, str]:
    """The tasks of a record's sequence that have a metric, as parts, in order, each with the stage that trained it.

    >>> after = {"after": {"test": {"accuracy": {}}, "bios": {"accuracy": {}}, "poems": {"bits_per_byte": {}}}}
    >>> tasks_of(after, {"earlier": ["bios", "poems"]})
    {'bios': 'after_1', 'test': 'after'}
    """
    earlier = [short_name(name) for name in resolved.get("earlier") or []]
    stages = {name: f"after_{number}" for number, name in enumerate(earlier, 1)} | {"test": "after"}
    return {
        name: stage
        for name, stage in stages.items()
        if any(metric in parts.get(name, {}) for at, parts in metrics.items() if at in (stage, "after"))
    }


def matrix(metrics: Mapping[str, Any], resolved: Mapping[str, Any], metric: str = "accuracy") -> Array:
    """R of a record: what the tasks scored, one row after each training.

    Args:
        metrics: Of the record: stage -> part -> metric -> {"value", ...}.
        resolved: Its spec; `earlier` is read.
        metric: Tasks that do not have it, such as those of text, are left out with their trainings.

    Returns:
        `(T, T)`, in the order of `earlier`, the run's own task last; NaN where there is no value.

    >>> stage = lambda a, b: {"bios": {"accuracy": {"value": a}}, "test": {"accuracy": {"value": b}}}
    >>> matrix({"after_1": stage(0.9, None), "after": stage(0.7, 0.8)}, {"earlier": ["bios"]}).tolist()
    [[0.9, nan], [0.7, 0.8]]
    """
    tasks = tasks_of(metrics, resolved, metric)
    rows = [[_value(metrics, stage, part, metric) for part in tasks] for stage in tasks.values()]
    return np.array(rows, dtype=float).reshape(len(tasks), len(tasks))


def base(metrics: Mapping[str, Any], resolved: Mapping[str, Any], metric: str = "accuracy") -> Array:
    """What the untouched model scored on the tasks of `matrix`: `(T,)`, NaN where it could not answer.

    >>> base({"before": {"test": {"accuracy": {"value": 0.2}}}, "after": {"test": {"accuracy": {}}}}, {}).tolist()
    [0.2]
    """
    tasks = tasks_of(metrics, resolved, metric)
    return np.array([_value(metrics, "before", part, metric) for part in tasks], dtype=float)


def _value(metrics: Mapping[str, Any], stage: str, part: str, metric: str) -> float:
    value = metrics.get(stage, {}).get(part, {}).get(metric, {}).get("value")
    return np.nan if value is None else float(value)
