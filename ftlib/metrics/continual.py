"""What a model that is trained on one task after another forgets, and what one task gives to the next.

All of it is read off R of shape `(..., T, T)`: R[i, j] is the score on task j after training i, both in the order of
training. Leading axes are runs or replicates. Results have the shape `(...)`: NaN where a score that is needed is not
there, and for fewer than two tasks. An R whose last two axes differ is refused with an `FtlibError`. `matrix` and
`base` read R and the untouched model's scores off a record.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ftlib.core.errors import FtlibError
from ftlib.core.format import short_name
from ftlib.metrics import metric_value
from ftlib.stats.bootstrap import resampling_counts
from ftlib.stats.variance import Array

if TYPE_CHECKING:
    import pandas as pd

REPLICATES = 2_000


def tasks_of(metrics: Mapping[str, Any], resolved: Mapping[str, Any], metric: str = "accuracy") -> dict[str, str]:
    """The tasks of a record's sequence that have a metric, as parts, in order, each with the stage that trained it.

    >>> after = {"after": {"test": {"accuracy": {}}, "bios": {"accuracy": {}}, "poems": {"bits_per_byte": {}}}}
    >>> tasks_of(after, {"sequential_tasks": ["bios", "poems"]})
    {'bios': 'after_1', 'test': 'after'}
    """
    previous = [short_name(name) for name in resolved.get("sequential_tasks") or []]
    stages = {name: f"after_{number}" for number, name in enumerate(previous, 1)} | {"test": "after"}
    return {
        name: stage
        for name, stage in stages.items()
        if any(metric in parts.get(name, {}) for at, parts in metrics.items() if at in (stage, "after"))
    }


def matrix(metrics: Mapping[str, Any], resolved: Mapping[str, Any], metric: str = "accuracy") -> Array:
    """R of a record: what the tasks scored, one row after each training.

    Args:
        metrics: Of the record: stage -> part -> metric -> {"value", ...}.
        metric: Tasks that do not have it, such as those of text, are left out with their trainings.

    Returns:
        `(T, T)`, in the order of `sequential_tasks`, the run's own task last; NaN where there is no value.

    >>> stage = lambda a, b: {"bios": {"accuracy": {"value": a}}, "test": {"accuracy": {"value": b}}}
    >>> matrix({"after_1": stage(0.9, None), "after": stage(0.7, 0.8)}, {"sequential_tasks": ["bios"]}).tolist()
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


def average_accuracy(R: ArrayLike) -> Array:
    """Mean score on all tasks after the last training (Lopez-Paz & Ranzato 2017, equation 2).

    The last row of three tasks, (0.5 + 0.7 + 0.9) / 3:

    >>> R = [[0.8, 0.5, 0.3], [0.9, 0.8, 0.4], [0.5, 0.7, 0.9]]
    >>> round(float(average_accuracy(R)), 6)
    0.7
    """
    R = _square(R)
    return R[..., -1, :].mean(axis=-1) if R.shape[-1] > 1 else np.full(R.shape[:-2], np.nan)


def backward_transfer(R: ArrayLike) -> Array:
    """What later trainings did to the previous tasks; below 0 is forgetting (Lopez-Paz & Ranzato 2017, equation 3).

    Returns:
        `(...)`: mean over all tasks but the last of the score at the end minus that right after its own training.

    The first task goes from 0.8 to 0.5, the second from 0.8 to 0.7: (-0.3 - 0.1) / 2.

    >>> R = [[0.8, 0.5, 0.3], [0.9, 0.8, 0.4], [0.5, 0.7, 0.9]]
    >>> round(float(backward_transfer(R)), 6)
    -0.2
    """
    R = _square(R)
    return _mean((R[..., -1, :] - np.diagonal(R, axis1=-2, axis2=-1))[..., :-1])


def forward_transfer(R: ArrayLike, base: ArrayLike) -> Array:
    """What previous trainings did to a task before its own (Lopez-Paz & Ranzato 2017, equation 4).

    There the base is a model at random initialisation; here it is the untouched model's zero-shot answer.

    Args:
        base: `(..., T)` scores of the untouched model.

    Returns:
        `(...)`: mean over all tasks but the first of the score just before its own training minus the base.

    Raises:
        FtlibError: The last two axes of R are not alike, or base has another number of tasks.

    The second task stands at 0.5 before its training, the third at 0.4, and both began at 0.3: (0.2 + 0.1) / 2.

    >>> R = [[0.8, 0.5, 0.3], [0.9, 0.8, 0.4], [0.5, 0.7, 0.9]]
    >>> round(float(forward_transfer(R, [0.5, 0.3, 0.3])), 6)
    0.15
    """
    R, base = _square(R), np.asarray(base, dtype=float)
    if base.shape[-1:] != R.shape[-1:]:
        raise FtlibError(f"base: found shape {base.shape}; allowed: (..., {R.shape[-1]}), a score of each task")
    return _mean(np.diagonal(R, offset=1, axis1=-2, axis2=-1) - base[..., 1:])


def forgetting_first(R: ArrayLike) -> Array:
    """Score right after a task's own training minus that at the end, mean over all tasks but the last.

    The `Forgetting` of the avalanche library (first recorded minus last recorded): minus the backward transfer.

    Returns:
        `(...)`; above 0 is forgetting.

    >>> R = [[0.8, 0.5, 0.3], [0.9, 0.8, 0.4], [0.5, 0.7, 0.9]]
    >>> round(float(forgetting_first(R)), 6)
    0.2
    """
    return -backward_transfer(R)


def forgetting_max(R: ArrayLike) -> Array:
    """Best score a task had from its own training on, minus that at the end (Chaudhry et al. 2018, equation 3).

    The mean over all tasks but the last. The best is looked for before the last training, so that a task that the
    last training improved counts below 0; never less than `forgetting_first`.

    Returns:
        `(...)`; above 0 is forgetting.

    The first task was best after the second training, at 0.9: (0.4 + 0.1) / 2.

    >>> R = [[0.8, 0.5, 0.3], [0.9, 0.8, 0.4], [0.5, 0.7, 0.9]]
    >>> round(float(forgetting_max(R)), 6)
    0.25
    """
    R = _square(R)
    last = R.shape[-1] - 1
    # The maximum of a row with NaN in it is NaN, as it should be: the best may be the one that is missing.
    lost = [R[..., j:last, j].max(axis=-1) - R[..., last, j] for j in range(last)]
    return _mean(np.stack(lost, axis=-1)) if lost else np.full(R.shape[:-2], np.nan)


OF_R: Mapping[str, Callable[[Array, Array], Array]] = {
    "average_accuracy": lambda R, base: average_accuracy(R),
    "backward_transfer": lambda R, base: backward_transfer(R),
    "forward_transfer": forward_transfer,
    "forgetting_first": lambda R, base: forgetting_first(R),
    "forgetting_max": lambda R, base: forgetting_max(R),
}
"""Name -> function of R and base."""


def summary(
    predictions: "pd.DataFrame | None", metrics: Mapping[str, Any], resolved: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """What a record says of its sequence, with 95 % intervals over examples for this one run.

    A bootstrap, paired: every replicate weighs a task's examples (or their clusters) alike at every stage.

    Args:
        predictions: All stages; columns stage, part, id, label, prediction, and cluster where examples share a source.

    Returns:
        Name -> {"value", "low", "high", "n"}, and "reason" where the value is None; n counts the examples of all
        tasks together. Empty where fewer than two tasks of labels were trained on in sequence.
    """
    tasks = tasks_of(metrics, resolved)
    if predictions is None or len(tasks) < 2:
        return {}
    R, untouched = matrix(metrics, resolved), base(metrics, resolved)
    rng, columns, n = np.random.default_rng(0), [], 0
    for part in tasks:
        scores, sizes, examples = _scores(predictions[predictions["part"] == part], ["before", *tasks.values()])
        blocks = resampling_counts(len(sizes), REPLICATES, rng)
        columns.append(np.concatenate([(counts @ scores) / (counts @ sizes)[:, None] for counts in blocks]))
        n += examples
    drawn = np.stack(columns, axis=-1)
    found = {}
    for name, function in OF_R.items():
        value, replicates = float(function(R, untouched)), function(drawn[:, 1:], drawn[:, 0])
        low, high = (np.nan, np.nan) if np.isnan(replicates).any() else np.quantile(replicates, [0.025, 0.975])
        found[name] = metric_value(
            value, min(low, value), max(high, value), n, why_undefined(R, untouched, list(tasks), name)
        )
    return found


def why_undefined(R: Array, base: Array, tasks: Sequence[str], name: str) -> str:
    """Why a value is NaN.

    >>> why_undefined(np.array([[0.9, np.nan], [0.7, 0.8]]), np.array([0.5, 0.5]), ["bios", "test"], "forward_transfer")
    'no zero-shot answers to test before it was trained on'
    """
    if len(tasks) < 2:
        return "fewer than two tasks of labels in sequence"
    if name == "forward_transfer":
        lacking = [task for j, task in enumerate(tasks) if j and np.isnan([R[j - 1, j], base[j]]).any()]
        return f"no zero-shot answers to {', '.join(lacking)} before it was trained on"
    lacking = [task for j, task in enumerate(tasks) if np.isnan(R[j:, j]).any()]
    return f"no score on {', '.join(lacking)} after some training"


def _scores(rows: "pd.DataFrame", stages: Sequence[str]) -> tuple[Array, Array, int]:
    """Right answers of each cluster `(n_clusters, n_stages)`, its size `(n_clusters,)`, and how many examples."""
    right = (rows["label"] == rows["prediction"]).astype(float).groupby([rows["id"], rows["stage"]]).first().unstack()
    right = right.reindex(columns=list(stages))
    clusters = np.arange(len(right))
    if "cluster" in rows and rows["cluster"].notna().all():
        clusters = np.unique(rows.groupby("id")["cluster"].first().astype(str), return_inverse=True)[1]
    table = right.to_numpy(dtype=float)
    sums = np.stack([np.bincount(clusters, weights=column) for column in table.T], axis=1)
    return sums, np.bincount(clusters).astype(float), len(table)


def _mean(values: Array) -> Array:
    """Over the last axis; NaN of nothing."""
    return values.mean(axis=-1) if values.shape[-1] else np.full(values.shape[:-1], np.nan)


def _square(R: ArrayLike) -> Array:
    R = np.asarray(R, dtype=float)
    if R.ndim < 2 or R.shape[-1] != R.shape[-2] or not R.shape[-1]:
        raise FtlibError(f"R: found shape {R.shape}; allowed: (..., T, T), a row after each training of T tasks")
    return R
