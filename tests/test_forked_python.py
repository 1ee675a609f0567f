"""A forked process is to whoever starts it what a process of the interpreter is."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
from conftest import INTERPRETER
from processes import wait_for


@pytest.fixture(autouse=True)
def forked() -> None:
    if sys.executable == INTERPRETER:
        pytest.skip("processes are not forked here: see processes_are_forked in conftest.py")


IS_FORKED = "; import sys, os; assert 'torch' in sys.modules and 'ftlib' not in sys.modules"
SAYS = """
import os, sys
print(sys.argv[1:], os.getcwd(), os.environ["SAID"], sys.stdin.read(), sys.flags.interactive)
print("wrong", file=sys.stderr)
sys.exit(7)
"""


@pytest.mark.parametrize("where", ["-c", "script", "-m"])
def test_arguments_streams_environment_folder_and_exit_code_are_those_of_the_interpreter(where, tmp_path):
    (tmp_path / "says.py").write_text(SAYS)
    given = {"-c": ["-c", SAYS], "script": ["says.py"], "-m": ["-m", "says"]}[where]
    asked = {"cwd": tmp_path, "env": os.environ | {"SAID": "é\n"}, "input": "in", "capture_output": True, "text": True}
    one, other = (subprocess.run([python, *given, "a", "b c"], **asked) for python in (sys.executable, INTERPRETER))
    assert sys.executable != INTERPRETER and other.returncode == 7
    assert (one.returncode, one.stdout, one.stderr) == (other.returncode, other.stdout, other.stderr)


def test_an_error_a_signal_and_ctrl_c_end_it_as_they_would():
    def code(text: str) -> int:
        return subprocess.run([sys.executable, "-c", text + IS_FORKED], stderr=subprocess.PIPE).returncode

    assert code("pass") == 0
    assert code("1 / 0") == code("raise SystemExit('no')") == 1
    assert code("import os; os.kill(os.getpid(), 9)") == -signal.SIGKILL
    waits = (
        "import time\ntry:\n    print('in', flush=True); time.sleep(60)\nexcept KeyboardInterrupt:\n    print('out')"
    )
    # Whoever runs the tests in the background has it ignored, which a process inherits.
    how = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    with subprocess.Popen([sys.executable, "-c", waits], stdout=subprocess.PIPE, text=True, **how) as process:
        assert process.stdout.readline() == "in\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20)[0] == "out\n" and process.returncode == 0


def test_it_ends_with_what_stands_for_it():
    says = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", says], stdout=subprocess.PIPE, text=True) as process:
        pid = int(process.stdout.readline())
        assert pid != process.pid and psutil.pid_exists(pid)
        process.kill()
    wait_for(lambda: not psutil.pid_exists(pid), "the fork to end", 10)


def test_what_libraries_read_at_their_import_is_read_anew():
    environment = os.environ | {"OMP_NUM_THREADS": "61"}
    code = "import sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout == "False\n"
