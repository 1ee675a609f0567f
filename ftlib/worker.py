"""One prepared run folder, executed in this process: what `ftlib run-one RUN_DIR` does on any machine."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from ftlib import notebooks, provenance, records
from ftlib.errors import FtlibError
from ftlib.records import RunRecord
from ftlib.spec import Experiment


def run_one(run_dir: str | Path) -> RunRecord:
    """Execute the notebook of one prepared run folder and return its record, whatever became of it.

    A notebook that stopped without a record leaves a record all the same, with the status and the reason.

    Raises:
        FtlibError: The folder holds no valid request.
    """
    run_dir = Path(run_dir)
    given = provenance.request(run_dir)
    if not given:
        raise FtlibError(f"{run_dir}: no spec.json; `ftlib run SUITE` makes run folders")
    if record := records.complete_record(run_dir):
        return record
    spec = Experiment(**given["passed"])
    if spec.run_id != given["run_id"]:
        raise FtlibError(f"{run_dir}: spec.json says run {given['run_id']}, but its fields are run {spec.run_id}")
    for name in ("events.jsonl", "notebook.ipynb"):
        (run_dir / name).unlink(missing_ok=True)
    follow_parent()
    # Set before the kernel starts: the linear algebra libraries read it once. Sums depend on the number of threads.
    os.environ |= thread_variables(spec.threads)
    source = notebooks.find(spec.resolved()["notebook"])
    parameters = notebook_parameters(spec, source) | {"run_dir": str(run_dir)}
    status, reason = "failed", ""
    try:
        notebooks.execute(source, run_dir / "notebook.ipynb", parameters)
        reason = "the notebook ended without writing a record"
    except Exception as error:
        # Whatever a notebook raises, or a kernel that dies, is this run's failure and not the study's.
        name = getattr(error, "ename", type(error).__name__)
        status = "diverged" if name == "Diverged" else "failed"
        said = getattr(error, "evalue", str(error)) or name
        reason = said if name in ("FtlibError", "Diverged") else f"{name}: {said}"
    if record := records.complete_record(run_dir):
        return record
    return write_failure(run_dir, spec, status, reason)


def thread_variables(threads: int) -> dict[str, str]:
    """The environment variables from which the linear algebra libraries take their number of threads."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))


def notebook_parameters(spec: Experiment, source: Path) -> dict[str, Any]:
    """Every field the notebook declares, with the spec's value, so that the notebook's own defaults play no part.

    Raises:
        FtlibError: The spec sets a field that the notebook does not declare.
    """
    import papermill

    declared = papermill.inspect_notebook(str(source))
    values = spec.model_dump()
    default = {name: field.get_default(call_default_factory=True) for name, field in Experiment.model_fields.items()}
    if lost := [name for name in values if name not in declared and values[name] != default[name]]:
        raise FtlibError(f"{source.name}: has no parameter {', '.join(lost)}, which this run sets")
    return {name: value for name, value in values.items() if name in declared}


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
