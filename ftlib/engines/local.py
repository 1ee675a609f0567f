"""Runs as processes of this machine."""

import contextlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from ftlib import provenance, worker
from ftlib.engines import Handle, Start
from ftlib.spec import Experiment


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


WORTH_A_PARENT = 2
"""Runs of a kind from which on a warm parent takes less time than it saves."""


@contextmanager
def engine(specs: Iterable[Experiment] = ()) -> Iterator[Start]:
    """The engine.

    Args:
        specs: What is about to run; where there are several of a kind they start warm, and others cold.
    """
    if sys.platform != "linux":
        yield Process
        return
    # Not at the top: it says how a process ends with its parent, which only Linux knows.
    from ftlib.engines import warm

    left = Counter(warm.kind(spec) for spec in specs if spec.processes == 1)
    parents = {kind: None for kind, runs in left.items() if runs >= WORTH_A_PARENT}

    def start(run_dir: Path) -> Handle:
        spec = Experiment(**provenance.request(run_dir)["passed"])
        if spec.processes > 1:
            # Torchrun starts its processes, from nothing.
            return Process(run_dir)
        kind = warm.kind(spec)
        left[kind] -= 1
        for other, parent in parents.items():
            if parent and left[other] < 1 and parent.idle and other != kind:
                # Its memory is of use to others.
                parent.stop()
        if kind not in parents:
            return Process(run_dir)
        parents[kind] = parents[kind] or warm.Parent(kind, run_dir.parent)
        return Process(run_dir) if parents[kind].ended else warm.Fork(parents[kind], run_dir)

    try:
        yield start
    finally:
        for parent in filter(None, parents.values()):
            parent.stop()
