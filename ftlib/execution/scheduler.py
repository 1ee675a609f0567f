"""A study from plan to records: check everything, skip what is done, run the rest, survive being killed."""

import os
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
from filelock import FileLock, Timeout

from ftlib import records
from ftlib.config.constraints import family_problem, length_problem
from ftlib.config.experiment import SCHEMA, Experiment, Suite, digest
from ftlib.config.methods import ENCODER, METHODS, family_of, read_config
from ftlib.config.suite_file import load_suite
from ftlib.core import atomic
from ftlib.core.errors import FtlibError, several
from ftlib.data.registry import load_task
from ftlib.data.task import Task
from ftlib.execution import notebook_exec, worker
from ftlib.execution.engines import base
from ftlib.execution.planning import estimate
from ftlib.models import weights
from ftlib.models.prompts import no_words
from ftlib.records import RunRecord, provenance

if TYPE_CHECKING:
    from collections.abc import Iterator


class Job(NamedTuple):
    """One run of the study: where it goes and whether it still has to happen."""

    run_dir: Path
    spec: Experiment
    done: bool


class Planned(NamedTuple):
    """A suite whose data has been read and whose jobs are known."""

    suite: Suite
    tasks: Mapping[str, Task]
    jobs: tuple[Job, ...]

    def task_of(self, spec: Experiment) -> Task:
        """The data a run reads."""
        return self.tasks[_data_key(spec)]


def _data_key(spec: Experiment) -> str:
    return digest([spec.task, spec.columns()])


def plan(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Planned:
    """Read a suite and its data, check every run against its data, and find out what is done.

    Raises:
        FtlibError: All that is wrong, before any kernel starts.
    """
    suite = load_suite(path, overrides)
    tasks: dict[str, Task] = {}
    problems: list[str] = []
    missing = set()
    for model in dict.fromkeys(spec.model for spec in suite.experiments if METHODS[spec.method].model):
        try:
            weights.find(model)
        except FtlibError as error:
            missing.add(model)
            problems += error.problems
    for spec in suite.experiments:
        if (key := _data_key(spec)) not in tasks:
            try:
                tasks[key] = load_task(spec.task, **spec.columns())
            except FtlibError as error:
                tasks[key] = None
                said = [one if spec.task in one else f"{spec.task}: {one}" for one in error.problems]
                problems += [one for one in said if one not in problems]
        if tasks[key] is not None and spec.model not in missing:
            problems += [problem for problem in run_problems(spec, tasks[key]) if problem not in problems]
    if problems:
        raise several(problems)
    jobs = [Job(suite.folder / "runs" / spec.run_id, spec, False) for spec in suite.experiments]
    jobs = [job._replace(done=is_done(job, tasks[_data_key(job.spec)])) for job in jobs]
    return Planned(suite, tasks, tuple(jobs))


def run_problems(spec: Experiment, task: Task) -> list[str]:
    """What makes a run impossible on its data, in words."""
    problems, method = [], METHODS[spec.method]
    family = family_of(read_config(weights.find(spec.model).folder)) if method.model else ENCODER
    if problem := family_problem(method, task.kind, spec.model, family):
        problems.append(problem)
    config = read_config(weights.find(spec.model).folder) if method.model else {}
    if problem := length_problem(task.kind, spec.model, config, spec.max_length):
        problems.append(problem)
    if problem := method.lacks(spec.device):
        problems.append(problem)
    # A model that writes answers with words, whatever the method.
    needs_words = method.needs_label_words or (family != ENCODER and method.trains)
    if needs_words and task.has_labels and not task.label_words:
        problems.append(f"{spec.method} on {no_words(task)}")
    try:
        task.draw(**spec.drawing())
    except FtlibError as error:
        problems.append(str(error))
    try:
        notebook = notebook_exec.find(spec.resolved()["notebook"])
        if spec.notebook:
            # The methods' own notebooks declare all they need, which the tests see to.
            worker.notebook_parameters(spec, notebook)
    except FtlibError as error:
        problems.append(str(error))
    return problems


def is_done(job: Job, task: Task) -> bool:
    """Whether the run has a complete record made from the data as it is now."""
    record = records.complete_record(job.run_dir)
    return record is not None and record.provenance["data_sha256"] == task.sha256


def execute(planned: Planned, jobs: int, show: Any, start: base.Start, timeout: float = 0) -> list[RunRecord]:
    """Run what is not done, `jobs` at a time, and return the records of the whole study.

    `show` is told of every change, `start` is from `ftlib.execution.engines.open_engine`; after `timeout` seconds a run
    is stopped and recorded as such, 0: never.
    """
    with one_at_a_time(planned.suite.folder):
        stop_orphans(planned.suite.folder)
        # Asked again now that nobody else works here: what finished since the plan was made must not be redone.
        waiting = [job for job in planned.jobs if not is_done(job, planned.task_of(job.spec))]
        for job in waiting:
            prepare_folder(job, planned)
        # Cheap runs first: they leave features in the cache that the others read.
        waiting.sort(key=lambda job: METHODS[job.spec.method].trains)
        base.execute([job.run_dir for job in waiting], jobs, start, show, timeout)
    return [records.read_record(job.run_dir) for job in planned.jobs if (job.run_dir / "record.json").exists()]


# The record is moved last, so that a move that was cut short goes on where it stopped.
_MADE = ("events.jsonl", "notebook.ipynb", "predictions.parquet", "record.json")


def prepare_folder(job: Job, planned: Planned) -> None:
    """Put a run's request into its folder; an earlier attempt that was recorded is kept aside, not overwritten."""
    job.run_dir.mkdir(parents=True, exist_ok=True)
    made = [path for name in _MADE if (path := job.run_dir / name).exists()]
    if (job.run_dir / "record.json").exists():
        kept = planned.suite.folder / "superseded" / job.run_dir.name
        kept.mkdir(parents=True, exist_ok=True)
        number = len(list(kept.glob("*.record.json"))) + 1
        for path in made:
            os.replace(path, kept / f"{number}.{path.name}")
    else:
        # What a run left that was killed: beside the next attempt's record it would be taken for that attempt's.
        for path in made:
            path.unlink()
    notebook = notebook_exec.find(job.spec.resolved()["notebook"])
    said = estimate.read(planned.suite.folder).get(job.spec.run_id)
    atomic.write_json(
        job.run_dir / "spec.json",
        {
            "schema": SCHEMA,
            "run_id": job.spec.run_id,
            "passed": job.spec.passed(),
            "resolved": job.spec.resolved(),
            "plan_hash": planned.suite.plan_hash,
            "notebook_sha256": provenance.notebook_sha256(notebook),
        }
        | ({"predicted": said} if said else {}),
    )


def stop_orphans(study: Path) -> None:
    """Stop kernels that an earlier, killed execution of this study left behind."""
    marker = str((study / "runs").resolve())
    for process in psutil.process_iter(["cmdline", "pid"]):
        command = process.info["cmdline"] or []
        if (
            process.pid != os.getpid()
            and "run-one" in command
            and any(str(part).startswith(marker) for part in command)
        ):
            worker.stop_tree(process)


@contextmanager
def one_at_a_time(study: Path) -> "Iterator[None]":
    """Hold the study's lock, so that two executions do not work on the same runs; it falls with the process.

    Raises:
        FtlibError: Another process holds it.
    """
    try:
        with FileLock(study / ".lock", timeout=0):
            yield
    except Timeout:
        raise FtlibError(f"{study}: another ftlib is running this study; wait for it or stop it first") from None


def default_jobs(planned: Planned) -> int:
    """Runs at a time: one per core where each has one thread, since two runs of one thread beat one of two."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max((job.spec.threads * job.spec.processes for job in planned.jobs), default=1)
    return max(1, cores // threads)


def plan_changes(planned: Planned) -> list[str]:
    """What is said when runs were recorded under another plan than the suite states now; empty when none were."""
    hashes = [records.read_record(job.run_dir).plan_hash for job in planned.jobs if job.done]
    others = [one for one in hashes if one != planned.suite.plan_hash]
    if not others:
        return []
    return [
        f"the plan changed after {len(others)} runs were recorded (under {', '.join(sorted(set(others)))}): "
        "they are kept, and the report marks them and every comparison with them as exploratory"
    ]
