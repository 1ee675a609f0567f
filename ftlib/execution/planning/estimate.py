"""What the runs of a plan will need: memory, time and disk; and what is done where that is more than there is.

It is told from a trial of a few steps (`ftlib.execution.planning.dry_run`) or, without one, counted from files: the
time roughly, by the products that a run makes and the speed at which this processor multiplies.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import psutil
from threadpoolctl import threadpool_limits

from ftlib.config.experiment import Experiment, digest
from ftlib.config.methods import ENCODER, METHODS, family_of, read_config
from ftlib.core.atomic import cache_folder, keep_json, kept_json, write_json
from ftlib.core.errors import FtlibError, several
from ftlib.core.format import clock, seconds, size
from ftlib.core.surroundings import memory
from ftlib.data.evaluations import evaluation_of
from ftlib.data.task import Task
from ftlib.execution import worker
from ftlib.execution.engines import prefork
from ftlib.execution.planning import compatibility
from ftlib.execution.planning.memory_model import Footprint, advice, count, distinct_costs, shape_of, variant
from ftlib.models import weights
from ftlib.models.catalog import machine_memory
from ftlib.records import provenance

if TYPE_CHECKING:
    from ftlib.execution.scheduler import Planned

VERSION = 5
"""Of what a trial does and says; another one does not read what this one kept."""

FILE = "forecast.json"
"""What `ftlib plan` leaves in a study's folder."""


class Trial(NamedTuple):
    """One trial: runs that differ in seed, examples and steps only; without runs, of starting a notebook."""

    specs: tuple[Experiment, ...]
    task: Task | None

    @property
    def variants(self) -> list[Experiment]:
        """One run of each number of examples and steps."""
        return list({variant(spec): spec for spec in reversed(self.specs)}.values())[::-1]

    @property
    def name(self) -> str:
        """What a person who waits is told."""
        return f"{self.specs[0].task} {self.specs[0].method}" if self.specs else "an empty notebook"

    @property
    def threads(self) -> int:
        """Of its runs."""
        return self.specs[0].threads if self.specs else 1

    @property
    def modules(self) -> tuple[str, ...]:
        """What its runs import."""
        return prefork.kind(self.specs[0]).modules if self.specs else prefork.ANY_RUN

    def path(self, at_once: int) -> Path:
        """Where its answer is kept, by all it depends on; trials that go on at once slow each other, as runs do."""
        models = {one.model: weights.find(one.model).files_sha256 for one in self.specs if METHODS[one.method].model}
        asked = [[spec.resolved() for spec in self.variants], models, self.task.sha256 if self.task else ""]
        machine = [provenance.device_name("cpu"), os.cpu_count(), provenance.versions()]
        return cache_folder() / "forecasts" / f"{digest([VERSION, asked, machine, at_once])[:32]}.json"


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


def predicted(answer: Mapping[str, Any], told: Mapping[str, Any], spec: Experiment) -> Predicted:
    """A run's needs by the trial of its cell.

    With a tuning budget it is trained once per setting, and validation is read after each; the best model so far is
    held beside the one that is trained.

    Args:
        answer: What `ftlib.execution.planning.dry_run.run_trial` found, with what starting takes.
        told: The run's entry among the answer's `variants`.
        spec: The run.

    Two settings of 6 s of training and 1 s of validation after each:

    >>> answer = {"start_seconds": 2.0, "kernel_bytes": 9, "open_seconds": 0.0, "before_seconds": 0.0,
    ...           "checkpoint_bytes": 8, "model_bytes": 91, "validation_seconds": 1.0, "eval_seconds": 3.0,
    ...           "general_seconds": 0.0}
    >>> told = {"train_seconds": 6.0, "peak_memory_bytes": 900}
    >>> spec = Experiment(method="full", shots=1, tuning={"learning_rate": 2})
    >>> predicted(answer, told, spec)[:4]
    (1000, 14.0, 3.0, 19.0)
    """
    found, method = {**answer, **told}, METHODS[spec.method]
    train, memory = found["train_seconds"], found["peak_memory_bytes"] + found["kernel_bytes"]
    fits = spec.tuning.get("learning_rate", 1) if method.trains else 1
    if fits > 1:
        train, memory = fits * (train + found["validation_seconds"]), memory + found["model_bytes"]
    around = found["start_seconds"] + found["open_seconds"] + found["before_seconds"]
    # Evaluations beside the task, which an untouched model's answers serve once for the whole study.
    around += found["general_seconds"] if method.trains else 0.0
    # Every task between the trainings, and once more for every state on the way; the others before and after, too.
    evaluate, others = found["eval_seconds"], found.get("others_eval_seconds", 0.0)
    around += (len(spec.sequential_tasks) + len(spec.interpolation)) * (evaluate + others) + 2 * others
    wall, device = around + train + evaluate, found.get("peak_device_memory_bytes")
    return Predicted(int(memory), train, evaluate, wall, int(found["checkpoint_bytes"]), device)


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
    def title(self) -> str:
        """Its runs in a few words."""
        spec = self.trial.specs[0]
        changed = [f"{name}={value}" for name, value in spec.method_args.items()]
        shown = ("batch_size", "max_length", "gradient_accumulation", "gradient_checkpointing")
        changed += [f"{name}={value}" for name, value in spec.passed().items() if name in shown]
        # Of a model's folder, its name: a path would fill the line.
        model = spec.resolved()["model"]
        name = Path(model).name if model and Path(model).is_dir() else model
        return " ".join(filter(None, [spec.task, name, spec.method, *changed]))


Show = Callable[[int, int, Sequence[str], float | None], None]
"""Told how many trials are done, of how many, what is tried now, and the seconds that are left, if known."""


def needs(planned: "Planned", at_once: int, show: Show | None) -> list[Need]:
    """What the runs that are not recorded will need, told by trials, as many at once as there will be runs; without
    anybody to show them to, nothing is tried, and all is counted from files.

    Raises:
        FtlibError: There are runs whose model does not take their method.
    """
    if problems := compatibility.incompatible_runs(planned, ask=show is None):
        raise several(problems)
    specs = [job.spec for job in planned.jobs if not job.done]
    trials = [Trial(tuple(cell), planned.task_of(cell[0])) for cell in distinct_costs(specs)]
    counts = [count(trial.specs[0], trial.task) for trial in trials]
    available = memory().available
    tried = [i for i in range(len(trials)) if show and _fits_by_count(trials[i].specs[0], counts[i], available)]
    # So many at a time that they fit together, by the count.
    fit = at_a_time([counts[i].total for i in tried], available, at_once)
    found = dict(zip(tried, answers([trials[i] for i in tried], max(1, fit), show) if tried else [], strict=True))
    for i, answer in found.items():
        if "failed" not in answer or answer.get("refused"):
            compatibility.keep(trials[i].specs[0], trials[i].task, answer.get("failed", ""))
    if problems := compatibility.incompatible_runs(planned, ask=False):
        raise several(problems)
    kinds = Counter(prefork.kind(spec) for spec in specs)
    return [_need(trials[i], counts[i], found.get(i), kinds) for i in range(len(trials))]


def _fits_by_count(spec: Experiment, counted: Footprint, available: int) -> bool:
    return counted.total <= (available if spec.device == "cpu" else max(available, machine_memory()[0]))


def answers(trials: Sequence[Trial], at_once: int, show: Show) -> list[dict[str, Any]]:
    """What each trial found: as `ftlib.execution.planning.dry_run.run_trial` says, with what starting takes; or why
    there is nothing, as `failed`. Answers are kept in the user's cache folder.
    """
    starting = Trial((), None)
    # What imports least goes first: its memory is not to hold what others import.
    paths = {trial.path(at_once): trial for trial in sorted([starting, *trials], key=lambda one: len(one.modules))}
    found = {path: kept for path in paths if (kept := kept_json(path))}
    waiting, began = [path for path in paths if path not in found], time.monotonic()
    # The linear algebra libraries read the number of threads once.
    for threads in sorted({paths[path].threads for path in waiting}):
        mine = [path for path in waiting if paths[path].threads == threads]
        for running, news in _tried([paths[path] for path in mine], threads, at_once):
            found |= {mine[number]: answer for number, answer in news.items()}
            done = sum(path in found for path in waiting)
            left = (time.monotonic() - began) / done * (len(waiting) - done) if done else None
            show(done, len(waiting), [paths[mine[number]].name for number in running], left)
    for path in waiting:
        if "failed" not in found[path]:
            keep_json(path, found[path])
    return [found[starting.path(at_once)] | found[trial.path(at_once)] for trial in trials]


def _tried(
    trials: Sequence[Trial], threads: int, at_once: int
) -> Iterator[tuple[list[int], dict[int, dict[str, Any]]]]:
    """Carry out trials, each in a process of its own: again and again, which are running, and what others answered."""
    with tempfile.TemporaryDirectory(prefix="ftlib-") as name:
        folder, waiting = Path(name), set(range(len(trials)))
        asked = [
            {
                "modules": trial.modules,
                "variants": [spec.passed() for spec in trial.variants],
                "runs": len(trial.specs) // max(1, len(trial.variants)),
            }
            for trial in trials
        ]
        write_json(folder / "asked.json", {"at_once": at_once, "trials": asked})
        with (folder / "log.txt").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "ftlib.execution.planning.dry_run", name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | worker.process_variables(threads),
            )
        try:
            while waiting:
                code = process.poll()
                news = {number: found for number in waiting if (found := _answer(folder, number))}
                if code is not None:
                    last = (folder / "log.txt").read_text(encoding="utf-8").strip().rpartition("\n")[2]
                    failed = {"failed": f"trials ended with code {code}: {last}", "died": False, "refused": False}
                    news = dict.fromkeys(waiting, failed) | news
                waiting -= set(news)
                yield [number for number in sorted(waiting) if _begun(folder, number).exists()], news
                time.sleep(0.02)
        finally:
            if process.poll() is None:
                worker.stop_tree(psutil.Process(process.pid))
            process.wait()


def _begun(folder: Path, number: int) -> Path:
    return folder / f"{number}.begun.json"


def _answer(folder: Path, number: int) -> dict[str, Any]:
    path = folder / f"{number}.json"
    if not path.exists():
        return {}
    return json.loads(_begun(folder, number).read_text(encoding="utf-8")) | json.loads(path.read_text(encoding="utf-8"))


def _need(trial: Trial, counted: Footprint, answer: dict[str, Any] | None, runs_of_kind: Mapping[Any, int]) -> Need:
    if answer is None or "failed" in answer:
        runs = {spec.run_id: Predicted(counted.total) for spec in trial.specs}
        failed, died = (answer["failed"], answer["died"]) if answer else ("counted from files, not tried", False)
        return Need(trial, counted, runs, failed, died)
    if runs_of_kind[prefork.kind(trial.specs[0])] < prefork.WORTH_A_PARENT:
        # Such a run starts cold.
        answer = answer | {"start_seconds": answer["start_seconds"] + answer["import_seconds"]}
    told = dict(zip(map(variant, trial.variants), answer["variants"], strict=True))
    runs = {spec.run_id: predicted(answer, told[variant(spec)], spec) for spec in trial.specs}
    return Need(trial, counted, runs, device_memory=answer["device_memory_bytes"])


def at_a_time(peaks: Sequence[int], available: int, wanted: int) -> int:
    """How many runs can go on at once: the largest of them must fit together; 0 where not even one does.

    >>> at_a_time([4, 3, 1], available=7, wanted=3), at_a_time([9], available=7, wanted=2)
    (2, 0)
    """
    ordered = sorted(peaks, reverse=True)
    return next((n for n in range(max(1, wanted), 0, -1) if sum(ordered[:n]) <= available), 0)


def fitting(found: Sequence[Need], wanted: int) -> int:
    """Runs at a time such that memory suffices, at most those wanted.

    Raises:
        FtlibError: There are runs that do not fit even alone; says what each needs, what there is, what would fit.
    """
    available = memory().available
    problems = []
    for need in found:
        spec, task, title = need.trial.specs[0], need.trial.task, f"{need.title} ({len(need.runs)} runs)"
        if need.died:
            said = advice(spec, task, max(need.counted.total, available), available)
            problems.append(f"{title}: does not fit: {need.failed}; {said}")
            continue
        needed = max(one.peak_memory_bytes for one in need.runs.values())
        on_device = max(one.peak_device_memory_bytes or 0 for one in need.runs.values())
        both = ((needed, available, "memory"), (on_device, need.device_memory, "GPU memory"))
        for bytes_, room, of in both:
            if room is not None and bytes_ > room:
                said = advice(spec, task, bytes_, room)
                problems.append(f"{title}: needs about {size(bytes_)} of {of}, {size(room)} are free; {said}")
    if problems:
        raise several(problems)
    peaks = [one.peak_memory_bytes for need in found for one in need.runs.values()]
    devices = [one.peak_device_memory_bytes or 0 for need in found for one in need.runs.values()]
    room = max((need.device_memory or 0 for need in found), default=0)
    return max(1, min(at_a_time(peaks, available, wanted), at_a_time(devices, room, wanted)))


def jobs_that_fit(planned: "Planned", wanted: int) -> int:
    """Runs at a time, fewer than wanted where those predicted need more memory together than there is."""
    said = read(planned.suite.folder)
    peaks = [said[job.spec.run_id]["peak_memory_bytes"] for job in planned.jobs if job.spec.run_id in said]
    return max(1, at_a_time(peaks, memory().available, wanted))


def runs_that_do_not_fit(planned: "Planned", ask: bool = False) -> list[str]:
    """Runs that cannot be on this machine, whatever else is going on there: what they hold for certain is too much, or
    their model does not take their method.

    Whether a model takes a method is asked only if `ask`: a study starts at once, and knows what a plan found out.
    """
    problems = []
    for cell in distinct_costs(job.spec for job in planned.jobs if not job.done):
        spec, task = cell[0], planned.task_of(cell[0])
        counted = count(spec, task)
        main, _, whose = memory()
        total, of = (main, whose) if spec.device == "cpu" else machine_memory()
        if counted.fixed > max(total, 0 if spec.device == "cuda" else main):
            said = advice(spec, task, counted.total, total)
            problems.append(
                f"{spec.task} {spec.method} on {spec.model}: needs at least {size(counted.fixed)}, and {of} is "
                f"{size(total)}; {said}"
            )
    return problems + compatibility.incompatible_runs(planned, ask)


def save(planned: "Planned", found: Sequence[Need], jobs: int) -> None:
    """Keep what was predicted in the study's folder, from where `ftlib run` puts it beside each run."""
    runs = {run_id: one._asdict() for need in found for run_id, one in need.runs.items() if not need.failed}
    machine = provenance.device_name("cpu")
    write_json(planned.suite.folder / FILE, {"schema": 1, "machine": machine, "jobs": jobs, "runs": runs})


def read(study: Path) -> dict[str, dict[str, Any]]:
    """run_id -> what `ftlib plan` predicted; empty where it was not asked."""
    path = study / FILE
    # What `ftlib plan` said is of use and not needed: a damaged file is no reason to run nothing.
    return (kept_json(path) or {}).get("runs", {})


def table(found: Sequence[Need], jobs: int) -> list[str]:
    """What the runs will need, a line for each kind, and all together."""
    if not found:
        return ["nothing is left to run"]
    rows = [("", "runs", "memory", "time per run", "checkpoint", "")]
    for need in found:
        values = need.runs.values()
        rows.append(
            (
                need.title,
                str(len(values)),
                _span([one.peak_memory_bytes for one in values], size),
                _span([one.wall_seconds for one in values], clock),
                _span([one.checkpoint_bytes for one in values], size),
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
        duration = seconds(max(sum(known) / jobs, max(known))).replace("\xa0", " ")
        some = "" if len(known) == len(every) else f" (of {len(known)} of them)"
        lines.append(
            f"together: {len(every)} runs, {jobs} at a time: about {duration}{some}; "
            f"what they adapt would take {size(stored)} to store"
        )
    return ["what the runs will need, predicted:", *lines]


def _span(values: Sequence[float | None], say: Callable[[Any], str]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "?"
    low, high = say(min(known)), say(max(known))
    return low if low == high else f"{low} to {high}"


STARTING = 4.0
"""Seconds that a run takes around its work."""

REACHED = 0.55
"""Of what square products reach on one thread, the share that a run's own work does (docs/training.md)."""

IN_BFLOAT16 = 2.2
"""Times the speed of float32 where a processor multiplies bfloat16 natively."""


def at_a_glance(spec: Experiment, task: Task) -> float | None:
    """Seconds that a run will take, roughly: by how much it multiplies, at the speed at which this processor does.

    What a person is told until runs have ended, whose times then say better; nobody has to wait for a trial. None where
    the model's files cannot be read, which the run itself says better.
    """
    method = METHODS[spec.method]
    if not method.model:
        return STARTING / 2
    settings, folder = spec.resolved(), weights.find(spec.model).folder
    some = task.splits["train"]["text"].sample(min(200, len(task.splits["train"])), random_state=0).tolist()
    try:
        shape, config = shape_of(folder), read_config(folder)
        found = compatibility.tokenizer_of(folder, spec.model)(some)["input_ids"]
    except FtlibError:
        return None
    says = 0 if family_of(config) == ENCODER else shape.hidden * int(config.get("vocab_size", 0))
    n = spec.shots * len(task.labels) or spec.train_limit or len(task.splits["train"])
    each = float(np.mean([min(len(ids), spec.max_length if task.has_labels else len(ids)) for ids in found]))
    test = len(task.test_set(spec.eval_limit)) * each
    # Reading is one product with every weight, training three.
    learning = n * each if method.draws and not method.needs_shots else 0.0
    if method.trains:
        # The last batch of a pass has what is left, and may be the only one.
        passes = max(settings["epochs"], settings["min_steps"] / math.ceil(n / settings["batch_size"]))
        learning = 3 * passes * n * each * spec.tuning.get("learning_rate", 1)
    own = {spec.task, *spec.sequential_tasks, *spec.joint_tasks}
    beside = sum(evaluation_of(name).tokens_read(name, own, test) for name in spec.evaluations)
    # The untouched model's answers are computed once for a study.
    reading = test + (beside if method.trains or method.untouched else 0.0)
    if method.needs_shots:
        reading *= 1 + max(1, n) / 4
    fast = IN_BFLOAT16 if _native_bfloat16() and spec.dtype != "float32" else 1.0
    # How likely texts are is computed in float32.
    work = 2 * (sum(a * b for a, b in shape.linear) + says) * (learning / fast + reading / (fast if not says else 1.0))
    return with_threads(STARTING + work / (REACHED * _product_speed()), spec.threads)


def with_threads(glance: float, threads: int) -> float:
    """Seconds of a run with so many threads that takes so long with one: two are 1.4 times as fast, four twice.

    >>> with_threads(STARTING + 20, 4)
    14.0
    """
    return STARTING + (glance - STARTING) / math.sqrt(threads)


@cache
def _product_speed() -> float:
    """Floating-point operations a second of one thread, in float32, by products that take a fifth of a second."""
    square, best = np.random.default_rng(0).random((512, 512), np.float32), 0.0
    # Several threads wait for the one whose core is needed for something else, and waiting costs processor time.
    with threadpool_limits(1):
        end = time.perf_counter() + 0.2
        while time.perf_counter() < end:
            # Seconds of the processor, whatever else it does.
            start = time.process_time()
            for _ in range(8):
                square @ square
            best = max(best, 8 * 2 * 512**3 / max(time.process_time() - start, 1e-9))
    return best


def _native_bfloat16() -> bool:
    """As `ftlib.models.loading.pick_dtype` finds out, without torch."""
    path = Path("/proc/cpuinfo")
    if os.environ.get("ATEN_CPU_CAPABILITY", "avx512") != "avx512" or not path.exists():
        return False
    listed = path.read_text(encoding="utf-8")
    return " avx512_bf16" in listed or " amx_bf16" in listed
