"""Python processes that are forked from one that has imported what ftlib needs from others, but nothing of ftlib.

A process that ftlib starts in a test would import torch, transformers and peft for six seconds and then compute for
one. `launcher` writes a program that takes python's arguments: it asks the server of its session, which it starts where
there is none, for a fork that does what they say; hands over its standard streams; passes on signals; and ends as the
fork does. Where libraries would have read something else when they were imported, and for options not known here, it
becomes the interpreter itself. Linux only.

Whoever looks at a tree of processes sees the program without children: such tests use the interpreter
(`conftest.started_cold`).
"""

import json
import os
import select
import signal
import socket
import sys
import uuid
from pathlib import Path

IMPORTED = (
    "torch", "torch.distributed.run", "transformers", "transformers.trainer",
    "transformers.integrations.sdpa_attention", "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert", "peft", "safetensors.torch", "datasets", "pandas", "pyarrow.parquet",
    "pyarrow.pandas_compat", "scipy.stats", "scipy.optimize", "sklearn.linear_model",
    "sklearn.feature_extraction.text", "matplotlib.backends.backend_svg", "seaborn", "papermill", "jinja2",
    "jupyter_client.manager", "jupyter_client.provisioning", "ipykernel.kernelapp", "ipykernel.debugger",
    "IPython.core.completerlib", "IPython.extensions.storemagic", "jsonschema", "psutil",
)  # fmt: skip

READ = ("HF_", "TRANSFORMERS_", "ATEN_", "MKL_", "OMP_", "ONEDNN_MAX", "MPL", "HOME", "XDG_", "PYTHON")
"""Beginnings of the names of variables that libraries or Python read when they are imported."""

READ_AGAIN = {"HF_HUB_OFFLINE", "PYTHONPATH"}
"""Those that a fork can follow all the same."""

LAUNCHER = """#!{python} -ISE
import fcntl, json, os, signal, socket, sys, time

python, server, name, known = {python!r}, {server!r}, {name!r}, {known!r}
environment = dict(os.environ)
read = {{key: value for key, value in environment.items() if key.startswith({read!r}) and key not in {again!r}}}
options = sys.argv[1:]
while options and options[0] in ("-u", "-W"):
    options = options[1 + (options[0] == "-W") :]
if read != known or not options or (options[0].startswith("-") and options[0] not in ("-m", "-c")):
    os.execv(python, [python, *sys.argv[1:]])


def connected():
    found = socket.socket(socket.AF_UNIX)
    try:
        found.connect(name.replace("@", chr(0)))
        return found
    except OSError:
        found.close()


def started():
    with open({log!r}, "a") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        if not (found := connected()):
            said = os.open({log!r}, os.O_RDWR | os.O_APPEND)
            streams = [(os.POSIX_SPAWN_DUP2, said, stream) for stream in (0, 1, 2)]
            own = {{key: value for key, value in environment.items() if key not in {again!r}}}
            os.posix_spawn(python, [python, server, name, {session!r}], own, file_actions=streams, setsid=True)
            while not (found := connected()):
                time.sleep(0.02)
    return found


asked = connected() or started()
signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
# They wait until it is known whom they are for.
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
text = json.dumps(
    {{
        "arguments": sys.argv, "cwd": os.getcwd(), "environment": environment, "parent": os.getppid(),
        "interrupted": signal.getsignal(signal.SIGINT) is not signal.SIG_IGN,
    }}
).encode()
socket.send_fds(asked, [len(text).to_bytes(8, "big")], [0, 1, 2])
asked.sendall(text)
answers = asked.makefile()
child = int(answers.readline())


def passed_on(number, frame):
    # Ctrl-C goes to all of a group.
    (os.killpg if number == signal.SIGINT else os.kill)(child, number)


for number in signals:
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, passed_on)
signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
code = int(answers.readline())
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


def launcher(folder: Path, session: int) -> str:
    """The path of the program, written into a folder, once.

    Args:
        folder: One for all processes of a session.
        session: The process with whose end the server ends.
    """
    path = folder / "python"
    if not path.exists():
        known = {key: value for key, value in os.environ.items() if key.startswith(READ) and key not in READ_AGAIN}
        text = LAUNCHER.format(
            python=sys.executable, server=__file__, name=f"@ftlib-{uuid.uuid4()}", known=known, read=READ,
            again=READ_AGAIN, log=str(folder / "python.log"), session=str(session),
        )  # fmt: skip
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
    return str(path)


def main(name: str, session: str) -> None:
    """Answer whoever connects, until the session's process has ended."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(name)
    listening.listen(64)
    paths = _import_all()
    forks: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([listening, *forks.values()], [], [], 0.01 if forks else 1.0)
        for pid, asked in list(forks.items()):
            if asked in ready:
                # Whoever asked says nothing more: it was killed.
                os.kill(pid, signal.SIGKILL)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                _say(asked, os.waitstatus_to_exitcode(status))
                forks.pop(pid).close()
        if listening in ready:
            asked, _ = listening.accept()
            if pid := _forked(asked, [listening, *forks.values()], paths):
                _say(asked, pid)
                forks[pid] = asked
        if not Path("/proc", session).exists():
            # Not by taking apart what is imported.
            os._exit(0)


def _say(asked: socket.socket, number: int) -> None:
    try:
        asked.sendall(f"{number}\n".encode())
    except OSError:
        # It was killed, which the next look finds.
        return


def _import_all() -> list[str]:
    """Import, as ftlib's own warm parents do; where modules are found beside this file's folder."""
    import gc
    import importlib

    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    # As `ftlib.execution.notebook_exec.papermill_itself` does, and why.
    sys.modules["rfc3987_syntax"] = None
    importlib.import_module("jsonschema")
    del sys.modules["rfc3987_syntax"]
    for name in IMPORTED:
        importlib.import_module(name)
    import numpy as np

    os.register_at_fork(after_in_child=np.random.seed)
    gc.collect()
    gc.freeze()
    return sys.path[1:]


def _forked(asked: socket.socket, others: list[socket.socket], paths: list[str]) -> int:
    """The fork that does what somebody asks; 0: whoever asks was killed meanwhile."""
    try:
        head, streams, _, _ = socket.recv_fds(asked, 8, 3)
        text, size = b"", int.from_bytes(head, "big")
        while len(text) < size and (more := asked.recv(size - len(text))):
            text += more
    except OSError:
        return 0
    pid = os.fork() if text else 0
    if pid or not text:
        for stream in streams:
            os.close(stream)
        return pid
    code = 1
    try:
        for one in (asked, *others):
            one.close()
        for place, stream in enumerate(streams):
            os.dup2(stream, place)
            os.close(stream)
        code = _work(json.loads(text), paths)
    finally:
        os._exit(code)


def _work(asked: dict, paths: list[str]) -> int:
    """Do what the interpreter would, given these arguments; its exit code."""
    import atexit
    import runpy
    import threading
    import traceback
    import types
    import warnings

    import huggingface_hub.constants

    # What runs in the background has it ignored, and so may the server.
    signal.signal(signal.SIGINT, signal.default_int_handler if asked["interrupted"] else signal.SIG_IGN)
    os.setsid()
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    huggingface_hub.constants.HF_HUB_OFFLINE = os.environ.get("HF_HUB_OFFLINE") == "1"
    # Some processes end with the one that started them, and a fork of this one has another.
    mine, real = os.getpid(), os.getppid
    os.getppid = lambda: asked["parent"] if os.getpid() == mine else real()
    sys.executable, *arguments = asked["arguments"]
    sys.orig_argv = [sys.executable, *arguments]
    while arguments[0] in ("-u", "-W"):
        if arguments.pop(0) == "-W":
            warnings.simplefilter(arguments.pop(0))
        else:
            sys.stdout.reconfigure(write_through=True)
    added = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    first, *sys.argv = arguments
    sys.path[:] = [os.getcwd() if first in ("-m", "-c") else os.path.dirname(os.path.abspath(first)), *added, *paths]
    code = 0
    try:
        if first == "-m":
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        elif first == "-c":
            own = sys.modules["__main__"] = types.ModuleType("__main__")
            code_of, sys.argv[0] = compile(sys.argv[0], "<string>", "exec"), "-c"
            exec(code_of, own.__dict__)
        else:
            sys.argv.insert(0, first)
            runpy.run_path(first, run_name="__main__")
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
        if isinstance(exit.code, str):
            print(exit.code, file=sys.stderr)
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
        code = 1
    try:
        threading._shutdown()
        atexit._run_exitfuncs()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return code


if __name__ == "__main__":
    main(sys.argv[1].replace("@", "\0"), sys.argv[2])
