"""A study from plan to records: check everything, skip what is done, run the rest, survive being killed."""

import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock, Timeout

from ftlib import records
from ftlib.config.constraints import BUNDLED_MODELS, OF_TERMS, family_problem, length_problem
from ftlib.config.experiment import SCHEMA, Experiment, Suite, digest
from ftlib.config.methods import ENCODER, METHODS, family_of, read_config
from ftlib.config.suite_file import read_suite
from ftlib.core import atomic, surroundings
from ftlib.core.errors import FtlibError, several
from ftlib.core.format import seconds
from ftlib.data import general
from ftlib.data.audit import Findings, audit, planned_findings, unknown_tokens
from ftlib.data.registry import load_task
from ftlib.data.task import Task
from ftlib.execution import notebook_exec, worker
from ftlib.execution.engines import base
from ftlib.execution.planning import compatibility, estimate
from ftlib.execution.saved import FOLDER
from ftlib.models import weights
from ftlib.models.prompts import no_words, same_words
from ftlib.records import RunRecord, provenance
from ftlib.training.mitigation import column_of, without_terms

if TYPE_CHECKING:
    from collections.abc import Iterator


class Job(NamedTuple):
    """One run of the study: where it goes and whether it still has to happen."""

    run_dir: Path
    spec: Experiment
    done: bool
    again: str = ""
    """Why it has to happen again, although there is a record."""


class Planned(NamedTuple):
    """A suite whose data has been read and whose jobs are known."""

    suite: Suite
    tasks: Mapping[str, Task]
    jobs: tuple[Job, ...]
    threads: str = ""
    """What is said of the threads chosen for its runs; empty where each has one, or the number that was given."""

    def task_of(self, spec: Experiment) -> Task:
        """The data a run reads."""
        return self.tasks[_data_key(spec)]


def _data_key(spec: Experiment) -> str:
    return digest([spec.task, spec.columns()])


def plan(path: str | Path, overrides: Mapping[str, Any] | None = None, elsewhere: bool = False) -> Planned:
    """Read a suite and its data, check every run against its data and the surroundings, and find out what is done.

    Args:
        elsewhere: Whether the runs will be on other machines, whose devices and packages this one does not know.

    Raises:
        FtlibError: All that is wrong, before any kernel starts.
    """
    suite, problems = read_suite(path, overrides)
    # With a file that is wrong, what is said of the rest is from what is at hand: nothing is downloaded or collected.
    looked_at = [spec for spec in suite.experiments if not problems or _at_hand(spec)]
    missing = set()
    for model in dict.fromkeys(spec.model for spec in looked_at if METHODS[spec.method].model):
        try:
            weights.model_digest(weights.find(model).folder)
        except FtlibError as error:
            missing.add(model)
            problems += error.problems
    tasks: dict[str, Task | None] = {}
    for spec in looked_at:
        if (key := _data_key(spec)) not in tasks:
            tasks[key], said = _read(spec.task, spec.columns())
            problems += [one for one in said if one not in problems]
        if tasks[key] is not None and spec.model not in missing:
            problems += [problem for problem in run_problems(spec, tasks[key], elsewhere) if problem not in problems]
    usable = [spec for spec in looked_at if spec.model not in missing and tasks[_data_key(spec)] is not None]
    problems += surroundings.study_problems(suite.folder)
    problems += compatibility.prompts_that_do_not_fit(usable, lambda spec: tasks[_data_key(spec)])
    if problems:
        raise several(problems)
    threads, said = (1, "") if elsewhere else chosen_threads(suite, tasks)
    jobs = []
    for spec in suite.experiments:
        spec = _with_threads(spec, threads)
        run_dir = _folder(suite, spec)
        again = why_again(run_dir, spec, tasks[_data_key(spec)])
        jobs.append(Job(run_dir, spec, again is None, again or ""))
    return Planned(suite, tasks, tuple(jobs), said)


WORTH_THREADS = 60.0
"""Seconds that a study must end sooner for its runs to be given more threads than one."""


def _with_threads(spec: Experiment, threads: int) -> Experiment:
    if threads == 1 or not METHODS[spec.method].model:
        return spec
    return Experiment(**spec.passed() | {"threads": threads})


def chosen_threads(suite: Suite, tasks: Mapping[str, Task]) -> tuple[int, str]:
    """The threads of each run with a model, and what is said of them, where the person names no number.

    Two runs of one thread are sooner than one after the other with two, unless too few runs are there for the cores:
    so many threads are taken as the forecast says end the study first. Sums depend on the number of threads; so it is
    the same for all runs, is chosen for the whole study whatever is done of it, and stays once a run was begun.
    """
    specs, there = [spec for spec in suite.experiments if METHODS[spec.method].model], surroundings.cores()
    elsewhere = ("cuda", "mps", *(["auto"] if shutil.which("nvidia-smi") else []))
    given = any("threads" in spec.passed() or spec.processes > 1 or spec.device in elsewhere for spec in specs)
    if given or not len(specs) or len(specs) >= 2 * there:
        return 1, ""
    specs.sort(key=lambda spec: METHODS[spec.method].trains)
    glances: dict[str, float] = {}
    for spec in specs:
        if (kind := _but_seed(spec)) not in glances:
            glances[kind] = estimate.at_a_glance(spec, tasks[_data_key(spec)]) or 0.0
    alone = [glances[_but_seed(spec)] for spec in specs]
    options = range(1, there + 1)
    ends = {n: _end([estimate.with_threads(one, n) for one in alone], there // n) for n in options}
    begun = [n for n in options if any(_folder(suite, _with_threads(spec, n)).exists() for spec in specs)]
    best = begun[0] if begun else min(options, key=ends.get)
    if best == 1 or (not begun and ends[1] - ends[best] < WORTH_THREADS):
        return 1, ""
    first, then = (seconds(ends[n]).replace("\xa0", " ") for n in (best, 1))
    return best, (
        f"threads {best} for each run, chosen for {there} cores: about {first}, with one thread {then}; "
        "--set threads=1 has one, and makes other runs: sums differ in their last digits"
    )


def _but_seed(spec: Experiment) -> str:
    return digest({name: value for name, value in spec.resolved().items() if name != "seed"})


def _folder(suite: Suite, spec: Experiment) -> Path:
    return suite.folder / "runs" / spec.run_id


def _end(durations: Iterable[float], at_once: int) -> float:
    """When the last of some runs ends that are begun in order, so many at a time.

    >>> _end([2, 2, 3], 2), _end([2, 2, 3], 1)
    (5.0, 7.0)
    """
    ends = [0.0] * at_once
    for one in durations:
        ends[ends.index(min(ends))] += one
    return max(ends)


def _at_hand(spec: Experiment) -> bool:
    """Whether its data and its model are files of this machine."""
    local = spec.model in BUNDLED_MODELS or Path(spec.model).is_dir()
    return spec.task.startswith("file:") and (local or not METHODS[spec.method].model)


def _read(name: str, columns: Mapping[str, Any]) -> tuple[Task | None, list[str]]:
    """A task's data, or what is wrong with it."""
    try:
        return load_task(name, **columns), []
    except FtlibError as error:
        return None, [one if name in one else f"{name}: {one}" for one in error.problems]
    except OSError as error:
        return None, [f"{name}: {surroundings.in_words(error)}"]


def run_problems(spec: Experiment, task: Task, elsewhere: bool = False) -> list[str]:
    """What makes a run impossible on its data, in words."""
    problems, method = [], METHODS[spec.method]
    family = family_of(read_config(weights.find(spec.model).folder)) if method.model else ENCODER
    if problem := family_problem(method, task.kind, spec.model, family):
        problems.append(problem)
    config = read_config(weights.find(spec.model).folder) if method.model else {}
    if problem := length_problem(task.kind, spec.model, config, spec.max_length):
        problems.append(problem)
    if not elsewhere and (problem := method.lacks(spec.device) or _device_problem(spec)):
        problems.append(problem)
    # A model that writes answers with words, whatever the method.
    needs_words = method.needs_label_words or (family != ENCODER and method.trains)
    if needs_words and task.has_labels and not task.label_words:
        problems.append(f"{spec.method} on {no_words(task)}")
    if needs_words and (same := same_words(task)):
        problems.append(f"{spec.method} on {same}")
    try:
        task.draw(**spec.drawing())
    except FtlibError as error:
        problems.append(str(error))
    problems += [problem for name in (*spec.sequential_tasks, *spec.joint_tasks) for problem in _read(name, {})[1]]
    if spec.mitigation:
        try:
            column_of(task, spec.mitigation_column)
            if spec.mitigation in OF_TERMS and (problem := without_terms(task)):
                problems.append(f"mitigation: {spec.mitigation}: {problem}")
        except FtlibError as error:
            problems.append(str(error))
    if (spec.replay or spec.ewc) and not spec.sequential_tasks and general.old_examples(task) is None:
        said = "replay" if spec.replay else "ewc"
        problems.append(f"{said}: {task.name} has no old examples; name earlier tasks with sequential_tasks")
    try:
        notebook = notebook_exec.find(spec.resolved()["notebook"])
        if spec.notebook:
            # The methods' own notebooks declare all they need, which the tests see to.
            worker.notebook_parameters(spec, notebook)
    except FtlibError as error:
        problems.append(str(error))
    return problems


def _device_problem(spec: Experiment) -> str:
    """Why this machine's devices cannot do what a run with a model names; empty where they can."""
    if spec.device in ("auto", "cpu") or not METHODS[spec.method].model:
        return ""
    # Loads torch, which takes seconds: only where a device was named.
    from ftlib.models.loading import pick_device, pick_dtype

    try:
        pick_dtype(spec.dtype, pick_device(spec.device))
    except FtlibError as error:
        return str(error)
    return ""


def is_done(job: Job, task: Task) -> bool:
    """Whether the run has a complete record made from data, model and notebook as they are now."""
    return why_again(job.run_dir, job.spec, task) is None


def why_again(run_dir: Path, spec: Experiment, task: Task) -> str | None:
    """Why a run has to happen, though there may be a record: None where that is what would be made now; empty where
    there is no complete record.
    """
    try:
        record = records.complete_record(run_dir)
    except records.Damaged as error:
        return f"its record cannot be read ({error})"
    if record is None:
        return ""
    made = record.provenance
    if spec.save and METHODS[spec.method].saves and not (run_dir / FOLDER).is_dir():
        return "its model was not kept"
    if made.get("data_sha256") != task.sha256:
        return "made with other data"
    # Read only where a run has other tasks beside its own; records from before this was kept do not say.
    others = made.get("other_data_sha256") or {}
    if others and others != provenance.other_data(spec):
        return "made with other data"
    if METHODS[spec.method].model:
        found = weights.find(spec.model)
        if made.get("model_sha256") != found.sha256:
            return "made with other weights"
        # Records from before this was kept do not say.
        if made.get("model_files_sha256", "") not in ("", None, weights.model_digest(found.folder)):
            return "made with another tokenizer or configuration of the model"
    # A method's own notebook is a part of ftlib; one that the suite names is a part of the request.
    if spec.notebook and (before := made.get("notebook_sha256")):
        now = provenance.notebook_sha256(notebook_exec.find(spec.notebook))
        if before != now:
            return "made with another text of its notebook"
    return None


def execute(planned: Planned, jobs: int, show: Any, start: base.Start, timeout: float = 0) -> list[RunRecord]:
    """Run what is not done, `jobs` at a time, and return the records of the whole study.

    `show` is told of every change, `start` is from `ftlib.execution.engines.open_engine`; after `timeout` seconds a run
    is stopped and recorded as such, 0: never.
    """
    with one_at_a_time(planned.suite.folder):
        others = stop_orphans(planned.suite.folder)
        for run_dir, number in others.items():
            print(f"left alone: {run_dir} is being run by process {number}, which this study did not start", flush=True)
        # Asked again now that nobody else works here: what finished since the plan was made must not be redone.
        waiting = [
            job for job in planned.jobs if job.run_dir not in others and not is_done(job, planned.task_of(job.spec))
        ]
        audits: dict[str, Findings] = {}
        for job in waiting:
            prepare_folder(job, planned, audits)
        # Cheap runs first: they leave features in the cache that the others read.
        waiting.sort(key=lambda job: METHODS[job.spec.method].trains)
        base.execute([job.run_dir for job in waiting], jobs, start, show, timeout)
    return [records.read_record(job.run_dir) for job in planned.jobs if (job.run_dir / "record.json").exists()]


# The record is moved last, so that a move that was cut short goes on where it stopped.
_MADE = ("events.jsonl", "notebook.ipynb", FOLDER, "predictions.parquet", "record.json")


def prepare_folder(job: Job, planned: Planned, audits: dict[str, Findings] | None = None) -> None:
    """Put a run's request into its folder; an earlier attempt that was recorded is kept aside, not overwritten.

    Args:
        job: The run.
        planned: The study it belongs to.
        audits: The audits that were made so far, by the data's checksum (and the model, for its tokens); filled here.
    """
    job.run_dir.mkdir(parents=True, exist_ok=True)
    made = [path for name in _MADE if (path := job.run_dir / name).exists()]
    if (job.run_dir / "record.json").exists():
        records.set_aside(job.run_dir, made)
    else:
        # What a run left that was killed: beside the next attempt's record it would be taken for that attempt's.
        for path in made:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    notebook = notebook_exec.find(job.spec.resolved()["notebook"])
    said, task = estimate.read(planned.suite.folder).get(job.spec.run_id), planned.task_of(job.spec)
    atomic.write_json(
        job.run_dir / "spec.json",
        {
            "schema": SCHEMA,
            "run_id": job.spec.run_id,
            "passed": job.spec.passed(),
            "resolved": job.spec.resolved(),
            "plan_hash": planned.suite.plan_hash,
            "notebook_sha256": provenance.notebook_sha256(notebook),
            "data_findings": _findings(job.spec, planned, {} if audits is None else audits),
        }
        | ({"predicted": said} if said else {"counted": {"wall_seconds": estimate.at_a_glance(job.spec, task)}}),
    )


def _findings(spec: Experiment, planned: Planned, audits: dict[str, Findings]) -> list[dict[str, Any]]:
    """What the audit of a run's data found, for the record and the report."""
    task = planned.task_of(spec)
    if task.sha256 not in audits:
        audits[task.sha256] = audit(task)
    primary = planned.suite.plan.of(spec.task).primary
    found = audits[task.sha256]
    told = planned_findings(
        task, primary=primary, shots=spec.shots, train_limit=spec.train_limit, eval_limit=spec.eval_limit, found=found
    )
    if METHODS[spec.method].model:
        key = f"{task.sha256} {spec.model}"
        if key not in audits:
            tokenizer = stored_tokenizer(spec.model)
            unknown = unknown_tokens(task, spec.model, tokenizer) if tokenizer is not None else []
            audits[key] = Findings(task.name, (), tuple(unknown))
        told = [*told, *audits[key]]
    return [one._asdict() for one in told]


def stored_tokenizer(model: str) -> Any:
    """A model's tokenizer from its file; None where it has none of that kind."""
    from tokenizers import Tokenizer

    path = weights.find(model).folder / "tokenizer.json"
    return Tokenizer.from_file(str(path)) if path.is_file() else None


def stop_orphans(study: Path) -> dict[Path, int]:
    """Stop runs that an earlier, killed execution of this study left behind, as they have said of themselves.

    Returns:
        Run folders that somebody else is at work in, with the number of that process: they are left alone.
    """
    others = {}
    for run_dir in sorted(study.glob("runs/*")):
        found = worker.owner(run_dir)
        if found and not found.orphan:
            others[run_dir] = found.pid
            continue
        if found:
            worker.stop_tree(found.process)
            end = time.monotonic() + 5
            while worker.owner(run_dir) and time.monotonic() < end:
                time.sleep(0.02)
        worker.tidy(run_dir)
    return others


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
    threads = max((job.spec.threads * job.spec.processes for job in planned.jobs), default=1)
    return max(1, surroundings.cores() // threads)


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


def runs_again(planned: Planned) -> list[str]:
    """What is said of runs that are recorded and have to happen again, a line for each reason."""
    why: dict[str, list[str]] = {}
    for job in planned.jobs:
        if job.again:
            why.setdefault(job.again, []).append(job.spec.run_id)
    return [f"{reason}: will run again: {', '.join(run_ids)}" for reason, run_ids in why.items()]
