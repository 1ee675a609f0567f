"""The loop that watches runs, the same for all engines, and a run as a process of this machine."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

from ftlib import records
from ftlib.config.experiment import Experiment
from ftlib.execution import worker
from ftlib.records import provenance
from ftlib.records.events import read_events


class Handle(Protocol):
    """One started run."""

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""

    def waits(self) -> bool:
        """Whether it has not begun yet, as where no worker is free."""
        return False

    def stop(self) -> None:
        """End it and everything it started; returns when it is gone, or as good as gone."""


Start = Callable[[Path], Handle]
"""Starts `ftlib run-one` on a prepared run folder."""


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
    seconds_per_step: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    reason: str = ""
    handle: Handle | None = field(default=None, repr=False)

    @property
    def seconds(self) -> float:
        """Seconds it has been running, or ran."""
        return (self.ended or time.monotonic()) - self.started if self.started else 0.0


def execute(
    run_dirs: Sequence[Path],
    jobs: int,
    start: Start,
    show: Callable[[list[State]], None],
    timeout: float = 0,
    every: float = 0.3,
) -> None:
    """Run each folder, `jobs` at a time; one failure does not stop the rest.

    `show` is called with all states whenever there is something new to see. `timeout` is in seconds per run, 0: no
    limit. `every` so many seconds it is looked at what the runs are doing; that one has ended is seen sooner.
    """
    states = [State(path, Experiment(**provenance.request(path)["passed"])) for path in run_dirs]
    try:
        while any(state.state in ("waiting", "running") for state in states):
            for state in states:
                if state.state == "running":
                    _look(state, timeout)
            running = sum(state.state == "running" for state in states)
            for state in [state for state in states if state.state == "waiting"][: max(0, jobs - running)]:
                state.handle = start(state.run_dir)
                state.state, state.started = "running", time.monotonic()
            show(states)
            _wait([state for state in states if state.state == "running"], every)
    finally:
        for state in states:
            if state.state == "running":
                state.handle.stop()
                worker.tidy(state.run_dir)
    show(states)


def _wait(running: Sequence[State], seconds: float) -> None:
    """Wait for some seconds, or until a run has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and all(state.handle.poll() is None for state in running):
        time.sleep(0.02)


def _look(state: State, timeout: float) -> None:
    entries = read_events(state.run_dir)
    for entry in entries[-1:]:
        state.doing = entry.get("name", "training" if entry["event"] == "step" else entry["event"])
        state.step, state.of = entry.get("step", 0), entry.get("of", 0)
    steps = [entry for entry in entries if entry["event"] == "step"]
    if len(steps) > 1 and steps[-1]["step"] > steps[0]["step"]:
        # From the first step on: what came before, loading and measuring, says nothing about a step.
        state.seconds_per_step = (steps[-1]["time"] - steps[0]["time"]) / (steps[-1]["step"] - steps[0]["step"])
    code = state.handle.poll()
    if code is None and getattr(state.handle, "waits", bool)():
        # The time for which a run queues is not the run's.
        state.started, state.doing = time.monotonic(), "waiting for a worker"
    if code is None and timeout and state.seconds > timeout:
        state.handle.stop()
        # It may have written its record in its last moment.
        if not records.complete_record(state.run_dir):
            worker.write_failure(state.run_dir, state.spec, "timeout", f"stopped after {timeout:g} seconds")
    elif code is None:
        return
    worker.tidy(state.run_dir)
    recorded = (state.run_dir / "record.json").exists()
    if not recorded and (other := worker.owner(state.run_dir)):
        # Somebody began it between our look and our start: the folder, and its record, are theirs.
        state.state, state.ended = "failed", time.monotonic()
        state.reason = f"is being run by process {other.pid}, which this study did not start: left alone"
        return
    if not recorded:
        log = state.run_dir / "log.txt"
        last = log.read_text(encoding="utf-8", errors="replace").strip()[-500:] if log.exists() else ""
        advice = worker.memory_advice(state.spec)
        limit = worker.limit_said()
        reason = (
            f"the process ended with code {code} and no record; if memory ran out{limit}, {advice}. It said: {last}"
        )
        worker.write_failure(state.run_dir, state.spec, "failed", reason)
    record = records.read_record(state.run_dir)
    state.state, state.reason, state.ended = record.status, record.reason or "", time.monotonic()


class Process:
    """`ftlib run-one` in a process of its own, its output in the run's log.txt."""

    def __init__(self, run_dir: Path) -> None:
        with (run_dir / "log.txt").open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ftlib", "run-one", str(run_dir.resolve())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {worker.PARENT: str(os.getpid())},
            )

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return self.process.poll()

    def stop(self) -> None:
        """Kill it with its kernel."""
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.stop_tree(psutil.Process(self.process.pid))
        self.process.wait()
