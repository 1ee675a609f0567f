"""What the runs of a plan will need, and what is done where that is more than there is."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from ftlib.config.experiment import Experiment
from ftlib.config.methods import ENCODER, METHODS, family_of, read_config
from ftlib.core.atomic import write_json
from ftlib.core.errors import several
from ftlib.core.format import clock
from ftlib.execution.planning import forecast, takes
from ftlib.execution.planning.forecast import Predicted, gigabytes
from ftlib.execution.planning.memory_model import Footprint, Shape, footprint, shape_of
from ftlib.execution.planning.trials import Trial, answers
from ftlib.models import weights
from ftlib.models.catalog import machine_memory
from ftlib.records import provenance

if TYPE_CHECKING:
    from ftlib.data.task import Task
    from ftlib.execution.scheduler import Planned


class Need(NamedTuple):
    """What the runs of one trial need."""

    trial: Trial
    counted: Footprint
    """By the files alone."""
    runs: dict[str, Predicted]
    """run_id -> prediction."""
    failed: str = ""
    """Why there was no trial, or what stopped it."""
    died: bool = False
    """Whether that was for want of memory."""
    device_memory: int | None = None
    """Bytes of the GPU that was used."""

    @property
    def memory(self) -> int:
        """Bytes of main memory that the largest of them needs."""
        return max(one.peak_memory_bytes for one in self.runs.values())

    @property
    def on_device(self) -> int:
        """The same on the GPU; 0 where none is used."""
        return max(one.peak_device_memory_bytes or 0 for one in self.runs.values())


def needs(planned: "Planned", at_once: int, show: Callable[..., None] | None) -> list[Need]:
    """What the runs that are not recorded will need.

    Args:
        planned: From `ftlib.execution.scheduler.plan`.
        at_once: Runs at a time, and so trials.
        show: See `ftlib.execution.planning.trials.answers`; None: nothing is tried, all is counted from files.

    Raises:
        FtlibError: There are runs whose model does not take their method.
    """
    if problems := takes.incompatible_runs(planned):
        raise several(problems)
    specs = [job.spec for job in planned.jobs if not job.done]
    trials = [Trial(tuple(cell), planned.task_of(cell[0])) for cell in forecast.distinct_costs(specs)]
    counts = [_count(trial.specs[0], trial.task)[0] for trial in trials]
    available = psutil.virtual_memory().available
    tried = [i for i in range(len(trials)) if show and _fits_by_count(trials[i].specs[0], counts[i], available)]
    # So many at a time that they fit together, by the count.
    fit = forecast.at_a_time([counts[i].total for i in tried], available, at_once)
    asked = [trials[i] for i in tried]
    found = dict(zip(tried, answers(asked, specs, max(1, fit), show) if tried else [], strict=True))
    return [_need(trials[i], counts[i], found.get(i)) for i in range(len(trials))]


def _fits_by_count(spec: Experiment, counted: Footprint, available: int) -> bool:
    return counted.total <= (available if spec.device == "cpu" else max(available, machine_memory()[0]))


def _count(spec: Experiment, task: "Task") -> tuple[Footprint, Shape | None, str]:
    if not METHODS[spec.method].model:
        return footprint(spec, None, task.kind, ENCODER), None, ENCODER
    folder = weights.find(spec.model).folder
    shape, family = shape_of(folder), family_of(read_config(folder))
    # A token is two bytes at least, as a rule; no text is longer than max_length.
    longest = int(task.splits["train"]["text"].str.len().max()) // 2 + 2
    shorter = {"max_length": min(spec.max_length, max(8, longest))} if task.has_labels else {}
    return footprint(spec.model_copy(update=shorter), shape, task.kind, family), shape, family


def _advice(spec: Experiment, task: "Task", needed: int, available: int) -> str:
    _, shape, family = _count(spec, task)
    return forecast.advice(spec, shape, task.kind, family, needed, available)


def _need(trial: Trial, counted: Footprint, answer: dict[str, Any] | None) -> Need:
    if answer is None or "failed" in answer:
        runs = {spec.run_id: Predicted(counted.total) for spec in trial.specs}
        failed, died = (answer["failed"], answer["died"]) if answer else ("counted from files, not tried", False)
        return Need(trial, counted, runs, failed, died)
    told = dict(zip(map(forecast.variant, trial.variants), answer["variants"], strict=True))
    runs = {spec.run_id: forecast.predicted(answer, told[forecast.variant(spec)], spec) for spec in trial.specs}
    return Need(trial, counted, runs, device_memory=answer["device_memory_bytes"])


def fitting(found: Sequence[Need], wanted: int) -> int:
    """Runs at a time such that memory suffices, at most those wanted.

    Raises:
        FtlibError: There are runs that do not fit even alone; says what each needs, what there is, what would fit.
    """
    available = psutil.virtual_memory().available
    problems = []
    for need in found:
        spec, task = need.trial.specs[0], need.trial.task
        if need.died:
            said = _advice(spec, task, max(need.counted.total, available), available)
            problems.append(f"{_kind(need)} ({len(need.runs)} runs): does not fit: {need.failed}; {said}")
            continue
        both = ((need.memory, available, "memory"), (need.on_device, need.device_memory, "GPU memory"))
        for bytes_, room, of in both:
            if room is not None and bytes_ > room:
                said = _advice(spec, task, bytes_, room)
                problems.append(
                    f"{_kind(need)} ({len(need.runs)} runs): needs about {gigabytes(bytes_)} of {of}, "
                    f"{gigabytes(room)} are free; {said}"
                )
    if problems:
        raise several(problems)
    peaks = [one.peak_memory_bytes for need in found for one in need.runs.values()]
    devices = [one.peak_device_memory_bytes or 0 for need in found for one in need.runs.values()]
    room = max((need.device_memory or 0 for need in found), default=0)
    return max(1, min(forecast.at_a_time(peaks, available, wanted), forecast.at_a_time(devices, room, wanted)))


def jobs_that_fit(planned: "Planned", wanted: int) -> int:
    """Runs at a time, fewer than wanted where those predicted need more memory together than there is."""
    said = forecast.read(planned.suite.folder)
    peaks = [said[job.spec.run_id]["peak_memory_bytes"] for job in planned.jobs if job.spec.run_id in said]
    return max(1, forecast.at_a_time(peaks, psutil.virtual_memory().available, wanted))


def runs_that_do_not_fit(planned: "Planned", ask: bool = False) -> list[str]:
    """Runs that cannot be on this machine, whatever else is going on there: what they hold for certain is too much, or
    their model does not take their method.

    Args:
        planned: From `ftlib.execution.scheduler.plan`.
        ask: See `ftlib.execution.planning.takes.incompatible_runs`; without it a study starts at once, and knows what
            `ftlib plan` found out.
    """
    problems = []
    for cell in forecast.distinct_costs(job.spec for job in planned.jobs if not job.done):
        spec, task = cell[0], planned.task_of(cell[0])
        counted = _count(spec, task)[0]
        main = psutil.virtual_memory().total
        total, of = (main, "this machine's memory") if spec.device == "cpu" else machine_memory()
        if counted.fixed > max(total, 0 if spec.device == "cuda" else main):
            said = _advice(spec, task, counted.total, total)
            problems.append(
                f"{spec.task} {spec.method} on {spec.model}: needs at least {gigabytes(counted.fixed)}, and {of} is "
                f"{gigabytes(total)}; {said}"
            )
    return problems + takes.incompatible_runs(planned, ask)


def save(planned: "Planned", found: Sequence[Need], jobs: int) -> None:
    """Keep what was predicted in the study's folder, from where `ftlib run` puts it beside each run."""
    runs = {run_id: one._asdict() for need in found for run_id, one in need.runs.items() if not need.failed}
    machine = provenance.device_name("cpu")
    write_json(planned.suite.folder / forecast.FILE, {"schema": 1, "machine": machine, "jobs": jobs, "runs": runs})


def table(found: Sequence[Need], jobs: int) -> list[str]:
    """What the runs will need, a line for each kind, and all together."""
    if not found:
        return ["nothing is left to run"]
    rows = [("", "runs", "memory", "time per run", "checkpoint", "")]
    for need in found:
        values = need.runs.values()
        rows.append(
            (
                _kind(need),
                str(len(values)),
                _span([one.peak_memory_bytes for one in values], gigabytes),
                _span([one.wall_seconds for one in values], clock),
                _span([one.checkpoint_bytes for one in values], gigabytes),
                need.failed,
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    every = [one for need in found for one in need.runs.values()]
    known = [one.wall_seconds for one in every if one.wall_seconds is not None]
    stored = sum(one.checkpoint_bytes or 0 for one in every)
    if known:
        seconds = max(sum(known) / jobs, max(known))
        some = "" if len(known) == len(every) else f" (of {len(known)} of them)"
        lines.append(
            f"together: {len(every)} runs, {jobs} at a time: about {clock(seconds)} minutes{some}; what they adapt "
            f"would take {gigabytes(stored)} to store"
        )
    return ["what the runs will need, predicted:", *lines]


def _kind(need: Need) -> str:
    spec = need.trial.specs[0]
    changed = [f"{name}={value}" for name, value in spec.method_args.items()]
    shown = ("batch_size", "max_length", "gradient_accumulation", "gradient_checkpointing")
    changed += [f"{name}={value}" for name, value in spec.passed().items() if name in shown]
    # Of a model's folder, its name: a path would fill the line.
    model = spec.resolved()["model"]
    name = Path(model).name if model and Path(model).is_dir() else model
    return " ".join(filter(None, [spec.task, name, spec.method, *changed]))


def _span(values: Sequence[float | None], say: Callable[[Any], str]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "?"
    low, high = say(min(known)), say(max(known))
    return low if low == high else f"{low} to {high}"
