"""Set up a virtual environment from the lock file, then do one thing in it. Needs Python 3.11 and nothing else.

usage: python bootstrap.py [setup | demo | test | test-all | bench | lint | pictures | recorded | lab] [ARGUMENT ...]
"""

import ast
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import urllib.request
import venv
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
LOCK = ROOT / "requirements.lock"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
UV = "uv==0.13.9"
"""Installs what pip installs in a fraction of the time; where it cannot be had, pip does the work."""

FOR_UV = {
    "index-url": "--default-index", "extra-index-url": "--index", "find-links": "--find-links",
    "constraint": "--constraint", "no-index": "--no-index", "trusted-host": "--allow-insecure-host",
    "cert": "SSL_CERT_FILE", "default-timeout": "UV_HTTP_TIMEOUT", "timeout": "UV_HTTP_TIMEOUT",
}  # fmt: skip
"""pip's settings by uv's names: options, or variables of its environment."""

PIP_ALONE = ("disable-pip-version-check", "cache-dir", "no-cache-dir", "quiet", "progress-bar", "root-user-action")
"""Settings of pip that do not change what is installed."""

COMMANDS = {
    "setup": [],
    "demo": [["-m", "ftlib", "run", "reports/demo"]],
    "test": [["-m", "pytest", "-n", "auto", "--dist", "worksteal", "-m", "not slow"]],
    "test-all": [["-m", "pytest", "-n", "auto", "--dist", "worksteal"]],
    "bench": [["-m", "benchmarks"]],
    "lint": [["-m", "ruff", "check", "."], ["-m", "ruff", "format", "--check", "."]],
    "pictures": [["tests/browser.py", "reports/demo", "docs"]],
    "recorded": [
        ["-m", "ftlib", "run", f"reports/recorded/{name}"]
        for name in ("methods", "fewshot", "learning_rate", "base_model", "bias")
    ],
    "lab": [
        # Notebooks are stored with the plain kernel, which every editor has; here it is called ftlib, too.
        *(
            ["-m", "ipykernel", "install", "--prefix", str(VENV), "--name", name, "--display-name", "ftlib"]
            for name in ("ftlib", "python3")
        ),
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
    # Many containers tell Python to keep no bytecode. Then every process compiles torch, transformers and peft anew,
    # which takes it longer than all else that a small run does.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    for number, step in enumerate(steps):
        arguments = more if number == len(steps) - 1 else []
        code = subprocess.call([str(PYTHON), *step, *arguments], cwd=ROOT, env=environment)
        if code:
            return code
    return 0


def set_up() -> None:
    """Install the lock file and ftlib itself, unless exactly that is installed already."""
    stamp = VENV / "installed.sha256"
    wanted = _wanted()
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    begun = VENV / "begun"
    # What was stopped half-way may have left packages that only look installed.
    if begun.exists() or not PYTHON.exists() or _version_with_pip(PYTHON) != sys.version_info[:2]:
        print(f"making a virtual environment in {VENV}", flush=True)
        shutil.rmtree(VENV, ignore_errors=True)
        try:
            make_environment()
        except BaseException:
            # What is half made would be taken for an environment the next time.
            shutil.rmtree(VENV, ignore_errors=True)
            raise
    stamp.unlink(missing_ok=True)
    begun.touch()
    if _wants_cpu_torch():
        torch = next(line.split()[0] for line in LOCK.read_text().splitlines() if line.startswith("torch=="))
        print(f"installing the CPU build of {torch}", flush=True)
        _install("--no-deps", "--index-url", CPU_INDEX, torch)
    print("installing the packages of requirements.lock (once)", flush=True)
    _install("-r", str(LOCK))
    _install("--no-deps", "--no-build-isolation", "-e", str(ROOT))
    # Last, so that an interrupted installation is done again.
    stamp.write_text(wanted)
    begun.unlink()


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
    _install("--constraint", str(LOCK), "--no-build-isolation", "-e", f"{ROOT}[{name}]")
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


def _install(*arguments: str) -> None:
    """Install with uv where it can be had and does as pip is told to on this machine, else with pip."""
    if uv := _uv():
        command, environment = uv
        done = subprocess.run([*command, *arguments], env=os.environ | environment, stderr=subprocess.PIPE, text=True)
        if done.returncode == 0:
            return
        print(f"uv could not ({_end_of(done.stderr)}); pip does it, which takes minutes", flush=True)
        _uv.cache_clear()
        (VENV / "without-uv").touch()
    if code := subprocess.call([*PIP_INSTALL, *arguments]):
        sys.exit(f"installation failed with code {code}; the message above is pip's. The same command continues.")


PIP_INSTALL = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


@cache
def _uv() -> tuple[list[str], dict[str, str]] | None:
    """The command that installs with uv, and its environment; None where pip has to do."""
    if (VENV / "without-uv").exists():
        return None
    said = subprocess.run([str(PYTHON), "-m", "pip", "config", "list"], capture_output=True, text=True)
    if (translated := for_uv(said.stdout)) is None:
        return None
    found, own = shutil.which("uv"), PYTHON.with_name("uv.exe" if os.name == "nt" else "uv")
    if not found and not own.exists() and subprocess.run([*PIP_INSTALL, UV], capture_output=True).returncode:
        return None
    options, environment = translated
    # As pip does: every index is asked, and the best version of all is taken.
    how = ["--python", str(PYTHON), "--quiet", "--index-strategy", "unsafe-best-match"]
    return [found or str(own), "pip", "install", *how, *options], environment


def for_uv(listed: str) -> tuple[list[str], dict[str, str]] | None:
    r"""Options and environment of uv that do what pip is set to do; None where one of its settings has no like there.

    Args:
        listed: What `pip config list` prints.

    >>> for_uv("global.index-url='https://a/simple'\nglobal.find-links='/w /x'\n:env:.cert='/c.pem'")
    (['--default-index', 'https://a/simple', '--find-links', '/w', '--find-links', '/x'], {'SSL_CERT_FILE': '/c.pem'})
    >>> for_uv("global.only-binary=':all:'")
    """
    settings = {}
    for line in filter(None, listed.splitlines()):
        name, _, value = line.partition("=")
        section, _, name = name.rpartition(".")
        # Later ones, of the environment at last, stand above earlier ones.
        if section in ("global", "install", ":env:") and name not in PIP_ALONE:
            settings[name] = ast.literal_eval(value)
    options: list[str] = []
    environment: dict[str, str] = {}
    for name, value in settings.items():
        if name not in FOR_UV:
            return None
        known = FOR_UV[name]
        if known == "--no-index":
            options += [known] if value.lower() in ("1", "true", "yes", "on") else []
        elif known.startswith("--"):
            options += [word for one in value.split() for word in (known, one)]
        else:
            environment[known] = value
    return options, environment


def _end_of(text: str) -> str:
    return " ".join(text.split())[-300:] or "it said nothing"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
