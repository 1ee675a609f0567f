"""Setting up: done once, done again when what it was made from changes, and never half done."""

import importlib.util
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.fixture
def bootstrap(tmp_path, monkeypatch):
    """bootstrap.py as a module, in a checkout of its own; what it would run is written down instead."""
    spec = importlib.util.spec_from_file_location("bootstrap_under_test", ROOT / "bootstrap.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, path in {"ROOT": ".", "VENV": ".venv", "LOCK": "requirements.lock", "PYTHON": ".venv/bin/python"}.items():
        monkeypatch.setattr(module, name, tmp_path / path)
    (tmp_path / "requirements.lock").write_text("numpy==2.4.6\ntorch==2.13.0  # the CPU build\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    module.done = []

    def create(folder, **options):
        module.done.append("venv")
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").touch()

    def call(command, **options):
        module.done.append(" ".join(map(str, command[1:])))
        return module.codes.get(command[-1], 0)

    module.codes = {}
    monkeypatch.setattr(module.venv, "create", create)
    monkeypatch.setattr(module.subprocess, "call", call)
    monkeypatch.setattr(module, "_install", lambda *arguments: module.done.append("install " + " ".join(arguments)))
    monkeypatch.setattr(module, "_version_with_pip", lambda python: sys.version_info[:2])
    monkeypatch.setattr(module, "_wants_cpu_torch", lambda: False)
    return module


def set_up(bootstrap) -> list[str]:
    """What setting up does now."""
    bootstrap.done.clear()
    bootstrap.set_up()
    return list(bootstrap.done)


def test_from_nothing_it_makes_the_environment_and_installs_the_lock_file_then_ftlib(bootstrap):
    made, packages, ftlib = set_up(bootstrap)
    assert made == "venv" and packages == f"install -r {bootstrap.LOCK}"
    assert ftlib == f"install --no-deps --no-build-isolation -e {bootstrap.ROOT}"


def test_a_second_time_it_does_nothing_and_asks_nothing(bootstrap, monkeypatch):
    set_up(bootstrap)
    monkeypatch.setattr(bootstrap, "_version_with_pip", lambda python: pytest.fail("a process was started"))
    monkeypatch.setattr(bootstrap, "_wants_cpu_torch", lambda: pytest.fail("the network was asked"))
    assert set_up(bootstrap) == []


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_it_installs_again_when_what_it_installs_from_changes(bootstrap, name):
    set_up(bootstrap)
    (bootstrap.ROOT / name).write_text("torch==2.13.1\n")
    assert [step.split()[0] for step in set_up(bootstrap)] == ["install", "install"], (
        "into the environment that is there"
    )
    assert set_up(bootstrap) == []


def test_it_installs_again_when_the_checkout_was_moved(bootstrap, monkeypatch, tmp_path):
    set_up(bootstrap)
    moved = tmp_path / "elsewhere"
    (tmp_path / ".venv").rename(moved)
    monkeypatch.setattr(bootstrap, "VENV", moved)
    monkeypatch.setattr(bootstrap, "PYTHON", moved / "bin" / "python")
    assert len(set_up(bootstrap)) == 2


def test_an_environment_of_another_python_is_made_anew(bootstrap, monkeypatch):
    set_up(bootstrap)
    bootstrap.LOCK.write_text("numpy==2.4.7\n")
    monkeypatch.setattr(bootstrap, "_version_with_pip", lambda python: (3, 1))
    (bootstrap.VENV / "old").touch()
    assert set_up(bootstrap)[0] == "venv" and not (bootstrap.VENV / "old").exists()


def without(monkeypatch, *gone):
    """A Python that lacks some modules, on a machine without uv."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in gone else real(name))
    monkeypatch.setattr("shutil.which", lambda name: None)


def test_a_python_without_ensurepip_uses_the_pip_it_runs_with(bootstrap, monkeypatch):
    without(monkeypatch, "ensurepip", "virtualenv")
    made, borrowed, *_ = set_up(bootstrap)
    assert made == "venv" and borrowed == f"-m pip --python {bootstrap.PYTHON} install --quiet pip"


def test_a_python_with_nothing_to_make_an_environment_says_so_and_leaves_nothing(bootstrap, monkeypatch):
    without(monkeypatch, "ensurepip", "virtualenv", "pip")
    for _ in range(2):
        with pytest.raises(SystemExit, match="no ensurepip.*apt install python3.*-venv.*nothing was left behind"):
            bootstrap.set_up()
        assert not bootstrap.VENV.exists()


def test_an_environment_that_is_half_made_is_taken_away(bootstrap, monkeypatch):
    def breaks(folder, **options):
        (folder / "bin").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(bootstrap.venv, "create", breaks)
    with pytest.raises(KeyboardInterrupt):
        bootstrap.set_up()
    assert not bootstrap.VENV.exists()


def test_an_installation_that_broke_off_is_done_again(bootstrap, monkeypatch):
    set_up(bootstrap)
    whole = bootstrap._install
    bootstrap.LOCK.write_text("numpy==2.4.7\n")

    def broken(*arguments):
        raise SystemExit("no network")

    monkeypatch.setattr(bootstrap, "_install", broken)
    with pytest.raises(SystemExit):
        bootstrap.set_up()
    monkeypatch.setattr(bootstrap, "_install", whole)
    bootstrap.LOCK.write_text("numpy==2.4.6\ntorch==2.13.0  # the CPU build\n")
    assert len(set_up(bootstrap)) == 3, "neither the old stamp nor what looks installed vouches for what is half done"
    assert set_up(bootstrap) == []


def test_where_it_can_it_takes_the_cpu_build_of_the_torch_in_the_lock_file_first(bootstrap, monkeypatch):
    monkeypatch.setattr(bootstrap, "_wants_cpu_torch", lambda: True)
    assert set_up(bootstrap)[1] == f"install --no-deps --index-url {bootstrap.CPU_INDEX} torch==2.13.0"


@pytest.fixture
def installer(bootstrap, monkeypatch):
    """bootstrap.py with its own `_install`; what pip is configured for, and what fails, is the test's to say."""
    spec = importlib.util.spec_from_file_location("bootstrap_again", ROOT / "bootstrap.py")
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    for name in ("ROOT", "VENV", "LOCK", "PYTHON"):
        setattr(fresh, name, getattr(bootstrap, name))
    bootstrap.VENV.joinpath("bin").mkdir(parents=True)
    fresh.done, fresh.config, fresh.refused = [], "global.index-url='https://mirror/simple'\n", ""

    def ran(command, **options):
        said = " ".join(map(str, command))
        fresh.done.append((said, options.get("env", {}).get("SSL_CERT_FILE")))
        failed = bool(fresh.refused) and fresh.refused in said
        return subprocess.CompletedProcess(command, int(failed), fresh.config, "no such\nversion")

    monkeypatch.setattr(fresh.subprocess, "run", ran)
    monkeypatch.setattr(fresh.subprocess, "call", lambda command: fresh.done.append((" ".join(command), None)) or 0)
    monkeypatch.setattr(fresh.shutil, "which", lambda name: None)
    return fresh


def test_uv_installs_from_where_pip_is_told_to(installer):
    installer.config += ":env:.cert='/a.pem'\n:env:.disable-pip-version-check='1'\n"
    installer._install("-r", "lock")
    installer._install("-e", ".")
    (_, _), (got, _), (first, cert), (second, _) = installer.done
    assert got.endswith(f"pip install --quiet --disable-pip-version-check {installer.UV}")
    assert "uv pip install" in first and "--default-index https://mirror/simple -r lock" in first and cert == "/a.pem"
    assert second.endswith("-e .") and "uv pip install" in second, "pip's settings are asked for once"


@pytest.mark.parametrize(("refused", "config"), [(" uv==", ""), ("", "global.only-binary=':all:'\n")])
def test_pip_installs_where_uv_cannot_be_had_or_would_do_otherwise(installer, refused, config, capsys):
    installer.refused, installer.config = refused, installer.config + config
    installer._install("-r", "lock")
    assert installer.done[-1][0].endswith("-m pip install --quiet --disable-pip-version-check -r lock")
    assert capsys.readouterr().out == ""


def test_where_uv_fails_pip_goes_on_and_one_line_says_so(installer, capsys):
    installer.refused = "uv pip install"
    for _ in range(2):
        installer._install("-r", "lock")
    assert sum("uv pip" in said for said, _ in installer.done) == 1
    assert installer.done[-1][0].endswith("-r lock") and " -m pip " in installer.done[-1][0]
    assert capsys.readouterr().out == "uv could not (no such version); pip does it, which takes minutes\n"


def run(bootstrap, monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["bootstrap.py", *arguments])
    return bootstrap.main()


def test_a_command_sets_up_and_then_does_its_steps(bootstrap, monkeypatch):
    assert run(bootstrap, monkeypatch, "demo", "--jobs", "1") == 0
    assert bootstrap.done[0] == "venv" and bootstrap.done[-1] == "-m ftlib run reports/demo --jobs 1"
    bootstrap.done.clear()
    assert run(bootstrap, monkeypatch, "test") == 0
    assert bootstrap.done == ["-m pytest -n auto --dist worksteal -m not slow"]


def test_the_first_step_that_fails_is_the_last(bootstrap, monkeypatch):
    bootstrap.codes["."] = 3
    assert run(bootstrap, monkeypatch, "lint") == 3
    assert [step for step in bootstrap.done if "ruff" in step] == ["-m ruff check ."]


def test_an_unknown_command_does_nothing(bootstrap, monkeypatch, capsys):
    assert run(bootstrap, monkeypatch, "dmo") == 2
    assert bootstrap.done == [] and "demo" in capsys.readouterr().err


def test_an_old_python_is_told_which_one_is_needed(bootstrap, monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 10, 0))
    assert run(bootstrap, monkeypatch, "demo") == 2
    assert bootstrap.done == [] and "3.11" in capsys.readouterr().err


def test_every_make_target_is_a_command(bootstrap):
    targets = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY:"))
    assert set(targets.split()[1:]) == set(bootstrap.COMMANDS)


def test_the_lock_file_pins_every_package_exactly(bootstrap):
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.split("#")[0].strip() for line in lines if line.strip() and not line.lstrip().startswith(("#", "--"))]
    assert pins and all("==" in pin.split(";")[0] and "*" not in pin for pin in pins)
    assert "torch==2.13.0" in [pin.split(";")[0].strip() for pin in pins]
