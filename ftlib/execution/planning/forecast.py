"""What a run will need: memory, time and disk, from a trial of a few steps or, where there was none, from its files.

The trial is `ftlib.execution.planning.dry_run`'s; what its numbers mean is said here, and what is done when a run does
not fit.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.data.kinds import KINDS
from ftlib.execution.planning.memory_model import Shape, footprint
from ftlib.records import RunRecord

VARIANT = ("shots", "short_classes", "train_limit", "epochs", "min_steps", "validations", "patience")
"""Fields in which runs of one trial may differ: how many examples there are, and how many steps are made."""


SAME_COST = ("seed", "learning_rate", "tuning", "notebook")
"""Fields that do not change what a step costs."""


FILE = "forecast.json"
"""What `ftlib plan` leaves in a study's folder."""


class Predicted(NamedTuple):
    """What one run will need; None: not known, since no trial was made."""

    peak_memory_bytes: int
    train_seconds: float | None = None
    eval_seconds: float | None = None
    wall_seconds: float | None = None
    """From its start to its end."""
    checkpoint_bytes: int | None = None
    peak_device_memory_bytes: int | None = None
    """On the GPU."""


def distinct_costs(specs: Iterable[Experiment]) -> list[list[Experiment]]:
    """Runs that one trial tells the cost of, together.

    >>> asked = [Experiment(method=m, seed=s) for m in ("lora", "full") for s in (0, 1, 2)]
    >>> [len(cell) for cell in distinct_costs(asked)]
    [3, 3]
    """
    found: dict[str, list[Experiment]] = {}
    for spec in specs:
        fields = {name: value for name, value in spec.resolved().items() if name not in VARIANT + SAME_COST}
        found.setdefault(json.dumps(fields, sort_keys=True), []).append(spec)
    return list(found.values())


def variant(spec: Experiment) -> str:
    """What runs of one trial differ in."""
    return json.dumps([spec.resolved()[name] for name in VARIANT])


def predicted(answer: Mapping[str, Any], told: Mapping[str, Any], spec: Experiment) -> Predicted:
    """A run's needs by the trial of its cell.

    Training is prepared once, begins once, makes its steps, each of so many seconds and so many more for a token, looks
    at validation, and ends; with a tuning budget all that happens once per setting, and validation is read after each.

    Args:
        answer: What `ftlib.execution.planning.dry_run.run_trial` found.
        told: The run's entry among the answer's `variants`.
        spec: The run.

    Of a run with several trainings, or one on several tasks, the trial went through each of them.

    Two settings of 10 steps of 0.5 s + 100 tokens of 0.001 s, and 1 s of validation after each:

    >>> answer = {"start_seconds": 2.0, "open_seconds": 0.0, "before_seconds": 0.0, "prepare_seconds": 1.0,
    ...           "fit_seconds": 0.0, "step_seconds": 0.5, "step_seconds_per_token": 0.001, "checkpoint_bytes": 8,
    ...           "look_seconds_per_token": 0.001, "finish_seconds_per_token": 0.0, "validation_seconds": 1.0,
    ...           "eval_seconds": 3.0, "general_seconds": 0.0}
    >>> told = {"steps": 10, "step_tokens": 100.0, "train_tokens": 50, "validation_tokens": 0.0,
    ...         "peak_memory_bytes": 900}
    >>> spec = Experiment(method="full", shots=1, tuning={"learning_rate": 2})
    >>> predicted(answer, told, spec)[:4]
    (900, 16.0, 3.0, 21.0)
    """
    found = {**answer, **told}
    method, fits = METHODS[spec.method], 1
    train = found["prepare_seconds"] + found.get("prepare_seconds_per_token", 0.0) * found["train_tokens"]
    if method.trains:
        fits = spec.tuning.get("learning_rate", 1)
        step = found["step_seconds"] + found["step_seconds_per_token"] * found["step_tokens"]
        train += found["fit_seconds"] + found["steps"] * step
        train += found["finish_seconds_per_token"] * found["train_tokens"]
        train += found["look_seconds_per_token"] * found["validation_tokens"]
        if fits > 1:
            train = fits * (train + found["validation_seconds"])
    train = found.get("course_seconds", train)
    around = found["start_seconds"] + found["open_seconds"] + found["before_seconds"]
    # An untouched model's general text is read once for the whole study.
    around += found["general_seconds"] if method.trains else 0.0
    # Every task between the trainings, and once more for every state on the way; the others before and after, too.
    evaluate, others = found["eval_seconds"], found.get("others_eval_seconds", 0.0)
    around += (len(spec.sequential_tasks) + len(spec.interpolation)) * (evaluate + others) + 2 * others
    return Predicted(
        int(found["peak_memory_bytes"]),
        train,
        evaluate,
        around + train + evaluate,
        int(found["checkpoint_bytes"]),
        found.get("peak_device_memory_bytes"),
    )


def at_a_time(peaks: Sequence[int], available: int, wanted: int) -> int:
    """How many runs can go on at once: the largest of them must fit together; 0 where not even one does.

    >>> at_a_time([4, 3, 1], available=7, wanted=3), at_a_time([9], available=7, wanted=2)
    (2, 0)
    """
    ordered = sorted(peaks, reverse=True)
    return next((n for n in range(max(1, wanted), 0, -1) if sum(ordered[:n]) <= available), 0)


def advice(spec: Experiment, shape: Shape | None, kind: str, family: str, needed: int, available: int) -> str:
    """What to change so that a run fits, in words: the least change that does.

    Args:
        spec: The run.
        shape: Of its model.
        kind: Of its task.
        family: Of its model.
        needed: Bytes, as predicted.
        available: Bytes there are for it.

    A model of 10 layers and a width of 1,000, in whose batch there are 16 x 128 tokens:

    >>> spec, shape = Experiment(method="full"), Shape(10**8, (), 10, 1000, 4000)
    >>> advice(spec, shape, "classification", "encoder", 2_800_000_000, 2_400_000_000)
    'gradient_accumulation = 4 would fit, with about 2.3 GB'
    >>> advice(spec, shape, "classification", "encoder", 2_800_000_000, 1_000_000_000)
    'no smaller batch would fit; lora would, with about 891 MB'
    """
    if shape is None:
        return "free memory, or take a machine with more"
    now = footprint(spec, shape, kind, family)

    def with_(**changed: Any) -> int:
        other = footprint(spec.model_copy(update=changed), shape, kind, family)
        # What is needed beside the process itself gets smaller as what is counted does.
        return round(other.floor + max(0, needed - now.floor) * (other.total - other.floor) / (now.total - now.floor))

    tries: list[dict[str, Any]] = []
    if METHODS[spec.method].trains:
        size = int(spec.resolved()["batch_size"])
        parts = [2**power for power in range(1, 12) if 2**power <= size and 2**power > spec.gradient_accumulation]
        tries += [{"gradient_accumulation": n} for n in parts] + [{"gradient_checkpointing": True}]
        tries += [{"gradient_accumulation": n, "gradient_checkpointing": True} for n in parts]
    field = KINDS[kind].cut_by
    tries += [{field: n} for n in (256, 128, 64, 32) if n < (getattr(spec, field) or 512)]
    for changed in tries:
        if (bytes_ := with_(**changed)) <= available:
            said = ", ".join(f"{name} = {str(value).lower()}" for name, value in changed.items())
            return f"{said} would fit, with about {gigabytes(bytes_)}"
    if METHODS[spec.method].moves == "all":
        smallest = {"method": "lora", "gradient_accumulation": int(spec.resolved()["batch_size"])}
        if (bytes_ := with_(**smallest, gradient_checkpointing=True)) <= available:
            return f"no smaller batch would fit; lora would, with about {gigabytes(bytes_)}"
    return f"no setting of {spec.method} would; choose a smaller model, or a machine with more memory"


def gigabytes(n: float) -> str:
    """Bytes as a person reads them.

    >>> gigabytes(1_234_000_000), gigabytes(24_640)
    ('1.2 GB', '25 kB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:.1f} {unit}" if unit == "GB" else f"{n / size:.0f} {unit}"
    return f"{n:.0f} B"


class Compared(NamedTuple):
    """What was predicted of the runs of a method, and what was so."""

    task: str
    model: str
    """Empty for a method without one."""
    method: str
    what: str
    """peak_memory_bytes, seconds (of training and evaluation) or checkpoint_bytes."""
    predicted: float
    """Mean over the runs."""
    actual: float
    """Mean over the same runs."""
    ratio: float
    """predicted / actual; NaN where actual is 0."""
    lowest: float
    """The smallest ratio of a single run."""
    highest: float
    n: int
    """Runs that ended well and of which something was predicted."""


def against(runs: Iterable[tuple[Path, RunRecord]]) -> list[Compared]:
    """What was predicted of a study's runs beside what they needed.

    Args:
        runs: Run folder and record, as `ftlib.records.records_of` yields them.

    Returns:
        One row per task, model, method and what was predicted; none where nothing was.
    """
    found: dict[tuple[str, str, str, str], list[tuple[float, float]]] = {}
    for folder, record in runs:
        path = folder / "spec.json"
        said = json.loads(path.read_text(encoding="utf-8")).get("predicted") if path.exists() else None
        if not said or record.status != "ok":
            continue
        names, resolved = ("train_seconds", "eval_seconds"), record.spec["resolved"]
        for what in ("peak_memory_bytes", "seconds", "checkpoint_bytes"):
            parts = names if what == "seconds" else (what,)
            pair = [sum(source.get(name) or 0.0 for name in parts) for source in (said, record.cost)]
            if all(said.get(name) is not None for name in parts) and any(pair):
                key = (resolved["task"], resolved["model"], resolved["method"], what)
                found.setdefault(key, []).append((pair[0], pair[1]))
    return [Compared(*key, *_compared(pairs)) for key, pairs in found.items()]


def _compared(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float, float, float, int]:
    """Means, their ratio, and the ratios of single runs at both ends.

    >>> _compared([(2, 1), (2, 4)])
    (2.0, 2.5, 0.8, 0.5, 2.0, 2)
    """
    said, was = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    ratios = [a / b if b else math.nan for a, b in pairs]
    return said, was, said / was if was else math.nan, min(ratios), max(ratios), len(pairs)


def read(study: Path) -> dict[str, dict[str, Any]]:
    """run_id -> what `ftlib plan` predicted; empty where it was not asked."""
    path = study / FILE
    return json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else {}
