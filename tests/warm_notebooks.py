"""A process that has imported what notebooks need and forks one to execute each that it is asked for.

A kernel that starts cold imports torch and transformers for ten seconds; tests/execution/test_warm.py shows that one
that is forked is a process like any other.
"""

import importlib
import json
import os
import subprocess
import sys
import traceback
from functools import partial
from pathlib import Path

from ftlib.execution import notebook_exec
from ftlib.execution.engines import prefork


def execute(source: Path, target: Path, parameters: dict) -> None:
    """As `ftlib.execution.notebook_exec.execute`, from the same working directory and environment; Linux only."""
    if sys.platform != "linux":
        notebook_exec.execute(source, target, parameters)
        return
    asked = {"given": [str(source), str(target), parameters], "cwd": os.getcwd(), "env": dict(os.environ)}
    process = _started()
    process.stdin.write(json.dumps(asked) + "\n")
    process.stdin.flush()
    if said := json.loads(process.stdout.readline()):
        raise AssertionError(said)


_here: list[subprocess.Popen] = []


def stop() -> None:
    """End it."""
    while _here:
        _here.pop().communicate()


def _started() -> subprocess.Popen:
    if not _here:
        command = [sys.executable, __file__]
        _here.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    return _here[0]


def _work(asked: dict) -> int:
    # What a cell reads from standard input is not to be the next one that is asked for.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    notebook_exec.waiting_kernel = prefork.WaitingKernel()
    source, target, parameters = asked["given"]
    try:
        notebook_exec.execute(Path(source), Path(target), parameters)
    except BaseException:
        _wrong(asked).write_text(traceback.format_exc(), encoding="utf-8")
        return 1
    return 0


def _wrong(asked: dict) -> Path:
    """Where it is said what went wrong: beside the executed copy."""
    return Path(asked["given"][1]).with_suffix(".wrong.txt")


def main() -> None:
    """Fork a process for each line of standard input, one after another; answer what went wrong, or nothing."""
    answers = os.dup(1)
    os.dup2(2, 1)
    notebook_exec.papermill_itself()
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    for name in prefork.ANY_RUN + prefork.WITH_A_MODEL + prefork.THAT_TRAINS:
        importlib.import_module(name)
    for line in sys.stdin:
        asked = json.loads(line)
        pid = prefork.fork("ftlib-test", partial(_work, asked))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said = f"it ended with code {code}"
        if _wrong(asked).exists():
            said = _wrong(asked).read_text(encoding="utf-8")
        os.write(answers, json.dumps(said if code else "").encode() + b"\n")


if __name__ == "__main__":
    main()
