"""Set up a virtual environment from the lock file, then do one thing in it. Needs Python 3.11 and nothing else.

usage: python bootstrap.py [setup | demo | test | test-all | bench | lint | recorded | lab] [ARGUMENT ...]
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import urllib.request
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
LOCK = ROOT / "requirements.lock"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
COMMANDS = {
    "setup": [],
    "demo": [["-m", "ftlib", "run", "reports/demo"]],
    "test": [["-m", "pytest", "-n", "auto", "--dist", "worksteal", "-m", "not slow"]],
    "test-all": [["-m", "pytest", "-n", "auto", "--dist", "worksteal"]],
    "bench": [["-m", "benchmarks"]],
    "lint": [["-m", "ruff", "check", "."], ["-m", "ruff", "format", "--check", "."]],
    "recorded": [
        ["-m", "ftlib", "run", f"reports/recorded/{name}"]
        for name in ("methods", "fewshot", "learning_rate", "base_model", "bias")
    ],
    "lab": [
        ["-m", "ipykernel", "install", "--prefix", str(VENV), "--name", "ftlib", "--display-name", "ftlib"],
        [
            "-m", "jupyterlab", f"--ServerApp.root_dir={ROOT}", "--MultiKernelManager.default_kernel_name=ftlib",
            "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb",
        ],
    ],
}  # fmt: skip
"""What each command runs, one after the other. Jupyter's root is the checkout: reports and data are in sight."""

EXTRAS = {"bench": "bench"}
"""What a command needs beyond the lock file: an extra of pyproject.toml."""


def main() -> int:
    """Set up if anything changed since the last time, then run the command's steps until one fails."""
    name, *more = sys.argv[1:] or ["setup"]
    if name not in COMMANDS:
        print(f"unknown command {name!r}\n{__doc__}", file=sys.stderr)
        return 2
    if tuple(sys.version_info[:2]) < (3, 11):
        print(
            f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}. Run it with python3.11.",
            file=sys.stderr,
        )
        return 2
    set_up()
    if name in EXTRAS:
        add_extra(EXTRAS[name])
    steps = COMMANDS[name]
    if name == "lab":
        no_news()
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            # As in a container, where there is nobody else.
            more = ["--allow-root", *more]
    for number, step in enumerate(steps):
        arguments = more if number == len(steps) - 1 else []
        code = subprocess.call([str(PYTHON), *step, *arguments], cwd=ROOT)
        if code:
            return code
    return 0


def set_up() -> None:
    """Install the lock file and ftlib itself, unless exactly that is installed already."""
    stamp = VENV / "installed.sha256"
    wanted = _wanted()
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    if not PYTHON.exists() or _version_with_pip(PYTHON) != sys.version_info[:2]:
        print(f"making a virtual environment in {VENV}", flush=True)
        shutil.rmtree(VENV, ignore_errors=True)
        try:
            make_environment()
        except BaseException:
            # What is half made would be taken for an environment the next time.
            shutil.rmtree(VENV, ignore_errors=True)
            raise
    stamp.unlink(missing_ok=True)
    if _wants_cpu_torch():
        torch = next(line.split()[0] for line in LOCK.read_text().splitlines() if line.startswith("torch=="))
        print(f"installing the CPU build of {torch}", flush=True)
        _pip("--no-deps", "--index-url", CPU_INDEX, torch)
    print("installing the packages of requirements.lock (a few minutes, once)", flush=True)
    _pip("-r", str(LOCK))
    _pip("--no-deps", "--no-build-isolation", "-e", str(ROOT))
    # Last, so that an interrupted installation is done again.
    stamp.write_text(wanted)


def no_news() -> None:
    """Tell JupyterLab not to ask in every fresh profile, over the outputs, whether it may fetch news."""
    path = VENV / "share/jupyter/lab/settings/overrides.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}\n')


def make_environment() -> None:
    """Make the virtual environment, with pip in it, by whatever this machine has for it.

    Plain Debian and Ubuntu, and Colab, have a Python without ensurepip, which `venv` needs to put pip into it.
    """
    if importlib.util.find_spec("ensurepip"):
        venv.create(VENV, with_pip=True)
    elif uv := shutil.which("uv"):
        _must([uv, "venv", "--quiet", "--seed", "--python", sys.executable, str(VENV)])
    elif importlib.util.find_spec("virtualenv"):
        _must([sys.executable, "-m", "virtualenv", "--quiet", str(VENV)])
    elif importlib.util.find_spec("pip"):
        venv.create(VENV, with_pip=False)
        _must([sys.executable, "-m", "pip", "--python", str(PYTHON), "install", "--quiet", "pip"])
    else:
        minor = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        sys.exit(
            f"{sys.executable} has no ensurepip, so no environment with pip can be made. Debian, Ubuntu: "
            f"apt install {minor}-venv. Elsewhere: install uv or virtualenv. Then run the same command again; "
            "nothing was left behind."
        )


def _must(command: list[str]) -> None:
    if code := subprocess.call(command):
        sys.exit(f"{' '.join(command)} failed with code {code}; its own message is above. The same command continues.")


def add_extra(name: str) -> None:
    """Install an extra, in the lock file's versions where it names them, unless exactly that is installed already."""
    stamp = VENV / f"{name}.sha256"
    wanted = _wanted()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"installing the extra {name!r} (once)", flush=True)
    _pip("--constraint", str(LOCK), "--no-build-isolation", "-e", f"{ROOT}[{name}]")
    stamp.write_text(wanted)


def _wanted() -> str:
    """A checksum of all that an installation is made from."""
    parts = [LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), sys.version.encode(), str(VENV).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _version_with_pip(python: Path) -> tuple[int, ...]:
    """The version of an interpreter; empty where it does not run or has no pip."""
    code = "import pip, sys; print(*sys.version_info[:2])"
    found = subprocess.run([str(python), "-c", code], capture_output=True, text=True)
    return tuple(map(int, found.stdout.split())) if found.returncode == 0 else ()


def _wants_cpu_torch() -> bool:
    """Whether the CPU build saves 2.6 GB here (Linux, no NVIDIA driver, not installed yet) and can be had at once."""
    if not sys.platform.startswith("linux") or shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists():
        return False
    if subprocess.run([str(PYTHON), "-c", "import torch"], capture_output=True).returncode == 0:
        return False
    try:
        with urllib.request.urlopen(f"{CPU_INDEX}/torch/", timeout=3):
            return True
    except OSError:
        return False


def _pip(*arguments: str) -> None:
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    if code := subprocess.call(command):
        sys.exit(f"installation failed with code {code}; the message above is pip's. The same command continues.")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
