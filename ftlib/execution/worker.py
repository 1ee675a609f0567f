"""One prepared run folder, executed in this process: what `ftlib run-one RUN_DIR` does on any machine.

Running out of memory, whoever says so, is recognised here, and said with what would help.

A run whose training several processes share is executed by as many, started by torchrun: here, where nobody else has
done so. The first one executes the notebook, in whose kernel it trains; the others only train, and write nothing.
"""

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from filelock import FileLock, Timeout

from ftlib import records
from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core import atomic
from ftlib.core.errors import FtlibError
from ftlib.core.format import size
from ftlib.core.surroundings import memory, remove_sockets
from ftlib.execution import notebook_exec
from ftlib.records import RunRecord, provenance
from ftlib.training import distributed

_NAMES = ("OutOfMemoryError", "MemoryError", "_ArrayMemoryError")
"""Of exceptions: torch's on a GPU, Python's, numpy's."""

_WORDS = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "unable to allocate",
    "alloc_failed", "memoryallocation", "bad_alloc",
)  # fmt: skip
"""Of CUDA and MPS, torch on a processor, the operating system, numpy, cuBLAS, and C++."""


def ran_out(name: str, said: str) -> bool:
    """Whether an error says that memory ran out.

    >>> ran_out("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB.")
    True
    >>> ran_out("RuntimeError", "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8")
    True
    >>> ran_out("ValueError", "memory is a good name")
    False
    """
    return name in _NAMES or any(words in said.lower() for words in _WORDS)


def explained(name: str, said: str, spec: Experiment) -> str:
    """An error as the reason of a run that failed: with advice where memory ran out, or may have.

    >>> explained("MemoryError", "", Experiment(method="probe"))
    'out of memory (MemoryError); what helps: a max_length below 128, a smaller model, fewer runs at a time (--jobs)'
    >>> explained("ValueError", "no", Experiment(method="probe"))
    'ValueError: no'
    """
    what = f"{name}: {said}" if said and said != name else name
    if ran_out(name, said):
        return f"out of memory ({what}); {memory_advice(spec)}"
    if name == "DeadKernelError":
        said = f"{what}; the system ends a process so when memory runs out{limit_said()}"
        return f"{said}: if that was it, {memory_advice(spec)}"
    return what


def limit_said() -> str:
    """The limit that a container or a shell sets to memory, to be put behind what ran out; empty where none is set."""
    found = memory()
    return f" ({found.of} is {size(found.total)})" if found.total < psutil.virtual_memory().total else ""


def memory_advice(spec: Experiment) -> str:
    """What needs less memory than this experiment, the smallest change first."""
    method, helps = METHODS[spec.method], []
    if method.trains:
        batch = int(spec.resolved()["batch_size"])
        if batch > spec.gradient_accumulation and not method.contrastive:
            helps.append(f"gradient_accumulation = {min(batch, 2 * spec.gradient_accumulation)}")
        if not spec.gradient_checkpointing:
            helps.append("gradient_checkpointing = true")
        if batch > 1:
            helps.append(f"a batch_size below {batch}")
    if method.model:
        helps.append(f"a max_length below {spec.max_length}")
    if method.moves == "all":
        helps.append("an adapter such as lora")
    if method.model:
        helps.append("a smaller model")
    return "what helps: " + ", ".join([*helps, "fewer runs at a time (--jobs)"])


class Owner(NamedTuple):
    """The process that is at work in a run's folder."""

    pid: int
    process: psutil.Process | None
    """None: it is on another machine."""
    orphan: bool
    """Whether a study started it that is gone."""


_OWNER, _LOCK = "process.json", ".lock"


def owner(run_dir: Path) -> Owner | None:
    """Who is at work in a run's folder, as that process has said there itself; None where nobody is.

    A process number is given again when its process is gone: what was started at another time is another process.
    """
    try:
        said = json.loads((run_dir / _OWNER).read_text(encoding="utf-8"))
        pid, started, host, study = int(said["pid"]), float(said["started"]), said["host"], said["study"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if host != platform.node():
        # Whether a process of another machine lives is not to be seen from here, but whether its lock is held.
        return None if _unlocked(run_dir) else Owner(pid, None, False)
    process = _living(pid, started)
    if process is None:
        return None
    return Owner(pid, process, bool(study) and _living(study["pid"], study["started"]) is None)


def _unlocked(run_dir: Path) -> bool:
    try:
        with FileLock(run_dir / _LOCK, timeout=0):
            return True
    except (Timeout, OSError):
        return False


def _living(pid: int, started: float) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - started) < 1 and process.status() != psutil.STATUS_ZOMBIE:
            return process
    except psutil.NoSuchProcess:
        pass
    return None


@contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Hold a run's folder and say in it who does; the lock falls with the process, however that ends.

    Processes that torchrun starts are one run: the one that started torchrun holds the folder for them.

    Raises:
        FtlibError: Another process is at work there.
    """
    if distributed.launched():
        other = owner(run_dir)
        mine = {parent.pid for parent in psutil.Process().parents()}
        if other and other.pid not in mine and os.environ.get("RANK", "0") == "0":
            raise FtlibError(_busy(run_dir))
        yield
        return
    lock = FileLock(run_dir / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise FtlibError(_busy(run_dir)) from None
    try:
        atomic.write_json(run_dir / _OWNER, _oneself() | {"host": platform.node(), "study": _study()})
        yield
    finally:
        (run_dir / _OWNER).unlink(missing_ok=True)
        lock.release()


def _oneself(pid: int | None = None) -> dict[str, float]:
    process = psutil.Process(pid)
    return {"pid": process.pid, "started": process.create_time()}


def _study() -> dict[str, float] | None:
    """The study that started this process; None where a person or a scheduler did."""
    pid = os.environ.get(PARENT)
    try:
        return _oneself(int(pid)) if pid else None
    except psutil.NoSuchProcess:
        # Gone already: a process that ended at no time that anything started.
        return {"pid": int(pid), "started": 0.0}


def _note_sockets(run_dir: Path, folder: str) -> None:
    path = run_dir / _OWNER
    if not path.exists():
        # A person started torchrun, and ends what that leaves.
        return
    atomic.write_json(path, json.loads(path.read_text(encoding="utf-8")) | {"sockets": folder})


def tidy(run_dir: Path) -> None:
    """Remove what a run left outside its folder when it was killed; nothing where somebody is at work in it."""
    path = run_dir / _OWNER
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        host, folder = said["host"], Path(said.get("sockets", ""))
    except (OSError, ValueError, KeyError, TypeError):
        return
    if owner(run_dir) is None:
        if host == platform.node() and folder.name.startswith("ftlib-"):
            remove_sockets(folder)
        path.unlink(missing_ok=True)


def _busy(run_dir: Path) -> str:
    number, where = "another process", ""
    if other := owner(run_dir):
        number = f"process {other.pid}"
        where = "" if other.process else " on another machine"
    return f"{run_dir}: is being run by {number}{where}; wait for it, or stop it first"


def main(run_dir: str | Path) -> int:
    """Carry out what a run's folder asks for, and return the exit code of the process."""
    try:
        if records.complete_record(run_dir):
            print(f"ok: {Path(run_dir).name}: has its record already; nothing was run, and nothing was changed")
            return 0
        record = run_one(run_dir)
    except FtlibError as error:
        print(f"ftlib: {error}", file=sys.stderr)
        return 2
    if record is None:
        # One of several processes of a run, and not the one that speaks for them.
        return 0
    print(f"{record.status}: {record.run_id}" + (f": {record.reason}" if record.reason else ""))
    return 0 if record.status == "ok" else 1


def run_one(run_dir: str | Path) -> RunRecord | None:
    """Execute the notebook of one prepared run folder and return its record, whatever became of it.

    A notebook that stopped without a record leaves a record all the same, with the status and the reason.

    Returns:
        The record; None in a process that torchrun started and that is not the first.

    Raises:
        FtlibError: The folder holds no valid request, or torchrun started another number of processes than it asks for.
        SystemExit: In a process that is not the first, when its part failed: torchrun then ends the others.
    """
    run_dir = Path(run_dir)
    given = provenance.request(run_dir)
    if not given:
        raise FtlibError(f"{run_dir}: no spec.json; `ftlib run SUITE` makes run folders")
    if record := records.complete_record(run_dir):
        return record
    with held(run_dir):
        return _run(run_dir, given)


def _run(run_dir: Path, given: Mapping[str, Any]) -> RunRecord | None:
    """`run_one` of a folder that this process, or the one that started it, holds."""
    # Whoever held the folder until now may have finished it.
    if record := records.complete_record(run_dir):
        return record
    spec = Experiment(**given["passed"])
    if spec.run_id != given["run_id"]:
        raise FtlibError(f"{run_dir}: spec.json says run {given['run_id']}, but its fields are run {spec.run_id}")
    follow_parent()
    # Set before the kernel starts: the linear algebra libraries read it once. Sums depend on the number of threads.
    os.environ |= process_variables(spec.threads)
    if spec.processes > 1 and not distributed.launched():
        try:
            distributed.divided(spec)
        except FtlibError as error:
            # What every process would say, said once.
            return write_failure(run_dir, spec, *failure(error, spec))
        return _together(run_dir, spec)
    if _rank(spec):
        return _assist(run_dir, spec)
    for name in ("events.jsonl", "notebook.ipynb"):
        (run_dir / name).unlink(missing_ok=True)
    if spec.processes > 1:
        signal.signal(signal.SIGTERM, lambda number, frame: _ended(run_dir, spec))
    source = notebook_exec.find(spec.resolved()["notebook"])
    parameters = notebook_parameters(spec, source) | {"run_dir": str(run_dir)}
    found = "failed", "the notebook ended without writing a record"
    try:
        notebook_exec.execute(source, run_dir / "notebook.ipynb", parameters, partial(_note_sockets, run_dir))
    except Exception as error:
        # Whatever a notebook raises, or a kernel that dies, is this run's failure and not the study's.
        found = _of_another(run_dir, spec) if _left_alone(error) else failure(error, spec)
    if spec.processes > 1:
        # From here on it ends by itself.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if record := records.complete_record(run_dir):
        return record
    return write_failure(run_dir, spec, *found)


def failure(error: BaseException, spec: Experiment) -> tuple[str, str]:
    """The status and the reason of a run that an error ended, its own or that of its notebook.

    >>> failure(FtlibError("shots: found 9"), Experiment())
    ('failed', 'shots: found 9')
    """
    name = getattr(error, "ename", type(error).__name__)
    said = getattr(error, "evalue", str(error))
    reason = said or name if name in ("FtlibError", "Diverged") else explained(name, said, spec)
    return "diverged" if name == "Diverged" else "failed", reason


def _together(run_dir: Path, spec: Experiment) -> RunRecord:
    """Start as many processes as the run asks for, each of which executes this folder, and wait for them."""
    (run_dir / _FAILURE).unlink(missing_ok=True)
    path = run_dir / "record.json"
    # Of an earlier attempt that failed.
    old = path.stat().st_mtime_ns if path.exists() else None
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={spec.processes}"]
    command = [*torchrun, "-m", "ftlib", "run-one", str(run_dir.resolve())]
    # What they say beside errors is what this process will say.
    subprocess.run(command, env=os.environ | {PARENT: str(os.getpid())}, stdout=subprocess.DEVNULL)
    if path.exists() and path.stat().st_mtime_ns != old:
        return records.read_record(run_dir)
    return write_failure(run_dir, spec, *_of_another(run_dir, spec))


def _rank(spec: Experiment) -> int:
    try:
        return distributed.rank(spec)
    except FtlibError:
        # Once is enough.
        if os.environ.get("RANK", "0") != "0":
            raise SystemExit(0) from None
        raise


_FAILURE = "failure.json"
"""In the run's folder until the first process has read it: why another one failed."""


def _assist(run_dir: Path, spec: Experiment) -> None:
    from ftlib.execution.run import assist

    try:
        assist(spec)
    except Exception as error:
        if not _left_alone(error):
            atomic.write_json(run_dir / _FAILURE, failure(error, spec))
        raise SystemExit(1) from error


def _left_alone(error: BaseException) -> bool:
    """Whether it only says that another process is gone: what failed there is the reason."""
    said = f"{getattr(error, 'ename', type(error).__name__)} {getattr(error, 'evalue', str(error))}"
    return any(name in said for name in ("gloo", "NCCL", "DistBackendError", "DistNetworkError", "DistStoreError"))


def _of_another(run_dir: Path, spec: Experiment) -> tuple[str, str]:
    path = run_dir / _FAILURE
    if not path.exists():
        advice = memory_advice(spec)
        return "failed", f"one of its {spec.processes} processes ended without a word; if memory ran out, {advice}"
    status, reason = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    return status, reason


def _ended(run_dir: Path, spec: Experiment) -> None:
    """Torchrun ends this process, the first, because another one has ended: neither it nor its kernel may wait."""
    if not records.complete_record(run_dir):
        write_failure(run_dir, spec, *_of_another(run_dir, spec))
    stop_tree(psutil.Process())


def process_variables(threads: int) -> dict[str, str]:
    """Environment variables from which a process that computes takes its number of threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))


def notebook_parameters(spec: Experiment, source: Path) -> dict[str, Any]:
    """Every field the notebook declares, with the spec's value, so that the notebook's own defaults play no part.

    Other fields go into the notebook's `overrides` where they differ from their default.

    Raises:
        FtlibError: The notebook runs no experiment, or the spec sets a field that it does not declare, and it has no
            `overrides`.
    """
    declared = notebook_exec.papermill_itself().inspect_notebook(str(source))
    if "run_dir" not in declared:
        raise FtlibError(
            f"notebook: {source.stem} runs no experiment: it has no parameter run_dir, where a run's record goes"
        )
    values = spec.model_dump()
    default = {name: field.get_default(call_default_factory=True) for name, field in Experiment.model_fields.items()}
    others = {name: value for name, value in values.items() if name not in declared and value != default[name]}
    own = {name: value for name, value in values.items() if name in declared}
    if "overrides" in declared:
        return own | {"overrides": others}
    if others:
        raise FtlibError(f"{source.name}: has no parameter {', '.join(others)}, which this run sets")
    return own


def write_failure(run_dir: Path, spec: Experiment, status: str, reason: str) -> RunRecord:
    """Record a run that did not end well."""
    given = provenance.request(run_dir)
    record = RunRecord(
        run_id=spec.run_id,
        status=status,
        spec={"passed": given.get("passed", spec.passed()), "resolved": spec.resolved()},
        plan_hash=given.get("plan_hash", ""),
        reason=" ".join(reason.split())[:2000],
        provenance={"notebook_sha256": given.get("notebook_sha256"), "git": provenance.git_state()},
    )
    records.write(run_dir, record)
    return record


PARENT = "FTLIB_PARENT"
"""Environment variable in which a study tells the processes it starts who it is."""


def follow_parent() -> None:
    """End this process and its kernel when the study that started it is gone, however it ended.

    Kernels are started detached, so a killed study would otherwise leave them running. A run that no study started, but
    a person or a scheduler, is left to them.
    """
    if PARENT not in os.environ:
        return
    # Taken out, so that nothing this run starts believes to have been started by the study.
    started_by = int(os.environ.pop(PARENT))
    parent = psutil.Process(started_by) if psutil.pid_exists(started_by) else None

    def watch() -> None:
        while parent and parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.3)
        stop_tree(psutil.Process())

    threading.Thread(target=watch, daemon=True).start()


def stop_tree(process: psutil.Process) -> None:
    """Kill a process and everything it started."""
    try:
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
