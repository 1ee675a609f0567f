"""Runs forked from a process that has already imported what they need: the study's side.

Importing costs a run seconds twice, in its own process and in its kernel's, and many runs have little else to do. So
the study starts a warm parent for each kind of run, which imports once and then forks
(`ftlib.execution.engines.forks`). Folders go to it, process ids and exit codes come back, each a line of JSON. Linux
only.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.execution import worker
from ftlib.execution.engines.base import Process

ANY_RUN = (
    "papermill.execute", "jupyter_client.manager", "jupyter_client.provisioning", "ipykernel.kernelapp",
    "ipykernel.debugger", "IPython.core.completerlib", "IPython.extensions.storemagic", "ftlib.execution.run",
    "pyarrow.pandas_compat", "scipy.stats", "sklearn.linear_model", "sklearn.feature_extraction.text",
)  # fmt: skip


WITH_A_MODEL = (
    "ftlib.models.inference",
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
)


THAT_TRAINS = ("ftlib.training.trainer", "peft")


class Kind(NamedTuple):
    """What runs must have in common to come from the same warm parent."""

    threads: int
    """The linear algebra libraries read it once, when they are imported."""
    modules: tuple[str, ...]
    """Not more than such a run would import itself: they count in the memory that it is recorded to need."""


def kind(spec: Experiment) -> Kind:
    """The warm parent that a run can come from."""
    method = METHODS[spec.method]
    return Kind(spec.threads, ANY_RUN + WITH_A_MODEL * method.model + THAT_TRAINS * method.trains)


class Parent:
    """A warm parent."""

    def __init__(self, kind: Kind, runs: Path) -> None:
        self.process = subprocess.Popen(
            # "run-one" and the folder are for `ftlib.execution.scheduler.stop_orphans`, which looks for what a study
            # left behind.
            [sys.executable, "-m", "ftlib.execution.engines.forks", "run-one", str(runs.resolve()), *kind.modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What goes wrong with it goes wrong again in the cold starts that follow, and is in their logs.
            stderr=subprocess.DEVNULL,
            env=os.environ | worker.thread_variables(kind.threads) | {worker.PARENT: str(os.getpid())},
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        self.ended = False
        self._news: dict[str, dict[str, int]] = {}
        self._rest = b""

    def ask(self, run_dir: str) -> None:
        """Have it fork a run as soon as everything is imported."""
        self._news[run_dir] = {}
        try:
            os.write(self.process.stdin.fileno(), json.dumps(run_dir).encode() + b"\n")
        except BrokenPipeError:
            self.ended = True

    def news(self, run_dir: str) -> dict[str, int]:
        """What is known of a run: its `pid` once it was forked, its exit `code` once it ended."""
        with contextlib.suppress(BlockingIOError):
            while not self.ended:
                data = os.read(self.process.stdout.fileno(), 65536)
                *lines, self._rest = (self._rest + data).split(b"\n")
                self._news |= map(json.loads, lines)
                self.ended = not data
        return self._news[run_dir]

    @property
    def idle(self) -> bool:
        """Whether every run it was asked for has ended."""
        return all("code" in news for news in self._news.values())

    def stop(self) -> None:
        """Kill it with everything it forked."""
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.stop_tree(psutil.Process(self.process.pid))
        self.process.communicate()
        self.ended = True


class Fork:
    """One run that a warm parent forks; should that die, the same run started cold."""

    def __init__(self, parent: Parent, run_dir: Path) -> None:
        self.parent, self.run_dir, self.name = parent, run_dir, str(run_dir.resolve())
        self.cold: Process | None = None
        parent.ask(self.name)

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        if self.cold:
            return self.cold.poll()
        news = self.parent.news(self.name)
        if "code" not in news and self.parent.ended:
            # The fork died with its parent; a record that it had written is found and kept.
            self._kill(news)
            self.cold = Process(self.run_dir)
        return news.get("code")

    def stop(self) -> None:
        """Kill it with its kernel."""
        if self.cold:
            return self.cold.stop()
        if "pid" not in self.parent.news(self.name):
            # It still imports, so it has forked nothing; what else waits for it starts cold.
            return self.parent.stop()
        while "code" not in (news := self.parent.news(self.name)) and not self.parent.ended:
            self._kill(news)
            time.sleep(0.01)

    def _kill(self, news: dict[str, int]) -> None:
        with contextlib.suppress(psutil.NoSuchProcess, KeyError):
            worker.stop_tree(psutil.Process(news["pid"]))
