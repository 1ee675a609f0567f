"""Runs as processes of this machine."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from ftlib import worker
from ftlib.engines import Start


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


@contextmanager
def engine() -> Iterator[Start]:
    """The engine; it needs nothing opened."""
    yield Process
