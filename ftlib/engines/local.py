"""Runs as local processes, a few at a time."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ftlib import provenance, records, worker
from ftlib.spec import Experiment


@dataclass
class State:
    """One run as the person watching sees it."""

    run_dir: Path
    spec: Experiment
    state: str = "waiting"
    """waiting, running, or the record's status."""
    doing: str = ""
    step: int = 0
    of: int = 0
    started: float = 0.0
    ended: float = 0.0
    reason: str = ""
    process: Any = field(default=None, repr=False)

    @property
    def seconds(self) -> float:
        """Seconds it has been running, or ran."""
        return (self.ended or time.monotonic()) - self.started if self.started else 0.0


def execute(
    run_dirs: Sequence[Path], jobs: int, show: Callable[[list[State]], None], timeout: float = 0, every: float = 0.3
) -> None:
    """Run each folder's `ftlib run-one` in a process of its own, `jobs` at a time; one failure does not stop the rest.

    Args:
        run_dirs: Prepared run folders, in the order they should start.
        jobs: Processes at a time.
        show: Called with all states whenever there is something new to see.
        timeout: Seconds per run; 0: no limit.
        every: Seconds between looks.
    """
    states = [State(path, Experiment(**provenance.request(path)["passed"])) for path in run_dirs]
    try:
        while any(state.state in ("waiting", "running") for state in states):
            for state in states:
                if state.state == "running":
                    _look(state, timeout)
            running = sum(state.state == "running" for state in states)
            for state in [state for state in states if state.state == "waiting"][: max(0, jobs - running)]:
                _start(state)
            show(states)
            time.sleep(every)
    finally:
        for state in states:
            if state.state == "running":
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.stop_tree(psutil.Process(state.process.pid))
    show(states)


def _start(state: State) -> None:
    log = (state.run_dir / "log.txt").open("w", encoding="utf-8")
    with log:
        state.process = subprocess.Popen(
            [sys.executable, "-m", "ftlib", "run-one", str(state.run_dir.resolve())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    state.state, state.started = "running", time.monotonic()


def _look(state: State, timeout: float) -> None:
    for entry in records.read_events(state.run_dir)[-1:]:
        state.doing = entry.get("name", "training" if entry["event"] == "step" else entry["event"])
        state.step, state.of = entry.get("step", 0), entry.get("of", 0)
    code = state.process.poll()
    if code is None and timeout and state.seconds > timeout:
        worker.stop_tree(psutil.Process(state.process.pid))
        state.process.wait()
        worker.write_failure(state.run_dir, state.spec, "timeout", f"stopped after {timeout:g} seconds")
    elif code is None:
        return
    elif not (state.run_dir / "record.json").exists():
        last = (state.run_dir / "log.txt").read_text(encoding="utf-8", errors="replace").strip()[-500:]
        reason = f"the process ended with code {code} and no record (out of memory?): {last}"
        worker.write_failure(state.run_dir, state.spec, "failed", reason)
    record = records.read_record(state.run_dir)
    state.state, state.reason, state.ended = record.status, record.reason or "", time.monotonic()
