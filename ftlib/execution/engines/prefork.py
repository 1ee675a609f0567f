"""Runs forked from a process that has already imported what they need. Linux only.

Importing costs a run seconds twice, in its own process and in its kernel's, and many runs have little else to do. So
the study starts a warm parent for each kind of run, which imports once and then forks
(`python -m ftlib.execution.engines.prefork`, the second half of this file). Folders go to it, process ids and exit
codes come back, each a line of JSON.

The warm parent has one thread and has opened nothing when it forks, and so has a run when it forks the process that
will be its kernel: before anything else. So the kernel is the run's own, as it is when both are started cold. Nothing
outlives the study: the warm parent ends with its standard input, and every fork ends with what it was forked from.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.execution import notebook_exec, worker
from ftlib.execution.engines.base import Process
from ftlib.records import provenance

ANY_RUN = (
    "jupyter_client.manager", "jupyter_client.provisioning", "ipykernel.kernelapp", "ipykernel.debugger",
    "IPython.core.completerlib", "IPython.extensions.storemagic", "ftlib.execution.run",
    "pyarrow.pandas_compat", "scipy.stats", "sklearn.linear_model", "sklearn.feature_extraction.text",
    "ftlib.notebook", "matplotlib.backends.backend_svg", "seaborn",
)  # fmt: skip

WITH_A_MODEL = (
    "ftlib.models.inference",
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
)

THAT_TRAINS = ("ftlib.training.trainer", "peft")

WORTH_A_PARENT = 2
"""Runs of a kind from which on a warm parent takes less time than it saves."""


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
            # The folder is for whoever looks at a list of processes.
            [sys.executable, "-m", "ftlib.execution.engines.prefork", str(runs.resolve()), *kind.modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What goes wrong with it goes wrong again in the cold starts that follow, and is in their logs.
            stderr=subprocess.DEVNULL,
            env=os.environ | worker.process_variables(kind.threads) | {worker.PARENT: str(os.getpid())},
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


_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

_SET_DEATH_SIGNAL, _SET_NAME = 1, 15


def main(modules: Sequence[str]) -> None:
    """Import modules, then fork a run for every folder that standard input names, until it ends."""
    interrupted = signal.getsignal(signal.SIGINT)
    # Ctrl-C reaches the whole terminal; what follows is for the study to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with(int(os.environ[worker.PARENT]))
    answers = os.dup(1)
    # Whatever a module prints while it is imported is no answer.
    os.dup2(2, 1)
    notebook_exec.papermill_itself()
    # As ipykernel does it, too late for what is imported here: matplotlib reads it once.
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    for name in modules:
        importlib.import_module(name)
    import nbformat
    import numpy as np

    # The format's schema is compiled when it is first used, and kept.
    nbformat.validate(nbformat.v4.new_notebook())
    # The same for all runs: the code that was imported above.
    provenance.git_state()
    provenance.versions()
    # Python does so with its own: a library that draws from the global state must not draw the same in every run.
    os.register_at_fork(after_in_child=np.random.seed)
    # Collecting garbage would write to every page that the forks share, and so copy it.
    gc.collect()
    gc.freeze()
    # The end of standard input is noticed from here on, and leaves the time to kill what the runs have started.
    _prctl(_SET_DEATH_SIGNAL, 0)
    try:
        _serve(answers, interrupted)
    finally:
        worker.stop_tree(psutil.Process())


def _serve(answers: int, interrupted: Any) -> None:
    running: dict[int, str] = {}
    rest = b""

    def answer(run_dir: str, **news: int) -> None:
        os.write(answers, json.dumps([run_dir, news]).encode() + b"\n")

    while True:
        if select.select([0], [], [], 0.01 if running else None)[0]:
            if not (data := os.read(0, 65536)):
                return
            *lines, rest = (rest + data).split(b"\n")
            for run_dir in map(json.loads, lines):
                pid = fork("ftlib-run", partial(_run, run_dir, answers, interrupted))
                running[pid] = run_dir
                answer(run_dir, pid=pid)
        for pid in list(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                answer(running.pop(pid), pid=pid, code=os.waitstatus_to_exitcode(status))


def fork(name: str, work: Callable[[], int]) -> int:
    """Fork a process that does some work, exits with its result, and does not outlive this one; its process id.

    `ps` and `top` show its name.
    """
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    code = 1
    try:
        _end_with(parent)
        _prctl(_SET_NAME, name.encode())
        code = work()
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except BaseException:
        # Printed as Python would at the top of a process, which this is.
        traceback.print_exc()
    finally:
        try:
            # As at the end of any process, but for taking thousands of imported objects apart.
            threading._shutdown()
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def _end_with(parent: int) -> None:
    _prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        # It ended before this was asked for.
        os._exit(1)


def _run(run_dir: str, answers: int, interrupted: Any) -> int:
    os.close(answers)
    signal.signal(signal.SIGINT, interrupted)
    log = os.open(Path(run_dir) / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for opened, standard in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(opened, standard)
    os.close(log)
    os.close(nothing)
    notebook_exec.waiting_kernel = WaitingKernel()
    return worker.main(run_dir)


class WaitingKernel:
    """A process that waits to become an IPython kernel; to jupyter_client, the `subprocess.Popen` of one."""

    stdin = stdout = stderr = None

    def __init__(self) -> None:
        command, self._command = os.pipe()
        self.returncode: int | None = None
        self.pid = fork("ftlib-waiting", partial(self._wait_to_begin, command))
        os.close(command)

    def begin(self, command: Sequence[str], environment: dict[str, str], cwd: str) -> None:
        """Let it become the kernel that a command would start: the interpreter, "-m", a module and its arguments."""
        environment = environment | {"JPY_PARENT_PID": str(os.getpid())}
        with os.fdopen(self._command, "w") as pipe:
            arguments = [*command[2:], f"--IPKernelApp.parent_handle={os.getpid()}"]
            json.dump([arguments, environment, cwd], pipe)

    def _wait_to_begin(self, command: int) -> int:
        # Away from the terminal and its Ctrl-C, and a group of its own for whoever stops it.
        os.setsid()
        os.close(self._command)
        with os.fdopen(command) as pipe:
            said = pipe.read()
        if not said:
            # The run ended without a kernel.
            return 0
        _prctl(_SET_NAME, b"ftlib-kernel")
        sys.argv, environment, cwd = json.loads(said)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(cwd)
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        return 0

    def poll(self) -> int | None:
        """Its exit code, None while it lives."""
        if self.returncode is None:
            self._ended(os.WNOHANG)
        return self.returncode

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        if self.returncode is None:
            self._ended(0)
        return self.returncode

    def _ended(self, how: int) -> None:
        ended, status = os.waitpid(self.pid, how)
        if ended:
            self.returncode = os.waitstatus_to_exitcode(status)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[2:])
