"""What several tests share: a workshop with a toy task and a tiny model, and one study run in it as a user would."""

import gc
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

if "PYTEST_XDIST_WORKER" in os.environ:
    # A worker has a core of its own: with more threads they wait for each other. Read once, when torch is imported.
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import forked_python
import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from ftlib.execution import notebook_exec, saved
from ftlib.execution.planning import compatibility
from ftlib.report import figures

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before a test's file imports jsonschema, in the time that it takes for itself.
    notebook_exec.papermill_itself()

ROOT = Path(__file__).resolve().parent.parent


def ftlib_command(*arguments: str) -> list[str]:
    """The command line a user types, in this interpreter."""
    return [sys.executable, "-m", "ftlib", *arguments]


@dataclass(frozen=True)
class Finished:
    """A study that `ftlib run` was started on, once, from the folder `home`."""

    home: Path
    study: Path
    code: int
    said: str


@pytest.fixture(autouse=True)
def few_texts_are_timed(monkeypatch):
    """A run asks its model some sixty times to say how long an answer takes: longer than all else that a toy does."""
    monkeypatch.setattr(saved, "ONE_BY_ONE", (2, 3))
    monkeypatch.setattr(saved, "BATCHES", (1, 2))


@pytest.fixture(autouse=True, scope="session")
def nothing_is_forced_to_disk():
    """What a test wrote need not outlive a power cut, and waiting for the disk takes as long as writing."""
    with mock.patch("os.fsync", lambda descriptor: None):
        yield


_SVG = figures.svg


@pytest.fixture(autouse=True, scope="session")
def figures_are_not_drawn():
    """Drawing is two thirds of the time a report takes; `drawn` is for tests that look at pictures."""
    with mock.patch.object(figures, "svg", lambda figure: "<svg/>"):
        yield


def drawn():
    """Within it, figures are drawn."""
    return mock.patch.object(figures, "svg", _SVG)


@pytest.fixture(autouse=True)
def models_are_asked_here(monkeypatch):
    """What a model takes is found out by another process, which takes seconds to import what is imported here.

    tests/execution/test_compatibility.py leaves it to that process.
    """

    def ask(questions):
        # By its name, which is another model's in every working directory.
        compatibility._model.cache_clear()
        return [compatibility._answer(question) for question in questions]

    monkeypatch.setattr(compatibility, "_ask", ask)


@pytest.fixture(autouse=True, scope="module")
def what_is_loaded_is_no_garbage():
    """Each training looks for garbage, and would look through all that torch and the tests before have loaded."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def toy_home(tmp_path_factory) -> Path:
    """A working directory with opinions/ (a task), tiny/ (a model) and a cache of its own."""
    # Not above: the process that hands out the tests would import torch first, and nobody would test meanwhile.
    import tiny_models
    import tiny_translators
    import toy

    home = tmp_path_factory.mktemp("home")
    toy.write_task(home / "opinions")
    toy.write_topics(home / "topics")
    toy.save_model(home / "tiny")
    toy.write_notes(home / "notes.txt")
    tiny_models.tiny("llama", home / "writer")
    tiny_translators.write_pairs(home / "pairs")
    tiny_translators.tiny("bart", home / "translator")
    (home / "reports").mkdir()
    return home


@pytest.fixture
def at_home(toy_home, monkeypatch) -> Path:
    """The working directory is `toy_home`; nothing is written into the user's cache folder."""
    monkeypatch.chdir(toy_home)
    monkeypatch.setenv("FTLIB_CACHE", str(toy_home / "cache"))
    return toy_home


@pytest.fixture
def grouped(at_home):
    """The opinions with a group that goes with the label in train."""
    import toy

    folder = at_home / "grouped"
    if not folder.exists():
        toy.write_task(folder)
        for split in ("train", "validation", "test"):
            rows = pd.read_csv(folder / f"{split}.csv")
            chance = np.random.default_rng(len(rows)).random(len(rows))
            share = 0.5 if split == "test" else rows["label"].map({"good": 0.8, "bad": 0.2})
            rows["who"] = np.where(chance < share, "w", "m")
            rows.to_csv(folder / f"{split}.csv", index=False)
    return "file:grouped"


SUITE = """
[study]
question = "Which way of adapting a tiny model tells good from bad?"
[plan]
primary = "accuracy"
margin = 0.05
seeds = [5]
[defaults]
task = "file:opinions"
model = "tiny"
eval_limit = 20
max_length = 24
label_words = {bad = "negative, disappointing", good = "positive, a pleasure"}
[[runs]]
method = "zero_shot"
[[runs]]
method = "probe"
[[runs]]
method = ["lora", "bitfit", "full", "setfit"]
epochs = 3.0
batch_size = 8
learning_rate = 0.003
[[runs]]
method = "distill"
method_args = {layers = 1}
epochs = 3.0
batch_size = 8
learning_rate = 0.003
[[runs]]
method = "in_context"
model = "writer"
shots = 1
[[runs]]
method = "ngram"
task = "file:notes.txt"
label_words = {}
[plan.tasks."file:notes.txt"]
primary = "bits_per_byte"
margin = 0.02
"""


@pytest.fixture(scope="session")
def for_all(tmp_path_factory) -> Path:
    """The folder of what is made once where several processes test, each with a working directory of its own."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


INTERPRETER = sys.executable


@pytest.fixture(autouse=True, scope="session")
def processes_are_forked(for_all):
    """Processes that tests and ftlib start do not each import torch and transformers; see forked_python."""
    # The first line of a program names its interpreter: short, and without spaces.
    if sys.platform != "linux" or " " in INTERPRETER or len(INTERPRETER) > 120:
        yield
        return
    session = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    with FileLock(for_all / "forked.lock"):
        program = forked_python.launcher(for_all, session)
    if not os.access(program, os.X_OK):
        # Nothing may be executed where temporary files are.
        yield
        return
    sys.executable = program
    if session == os.getpid():
        yield
    else:
        # Many tests will ask for it: it imports while the first of them are at work.
        with subprocess.Popen([sys.executable, "-c", ""]) as first:
            yield
            first.kill()
    sys.executable = INTERPRETER


@contextmanager
def started_cold():
    """Processes that are started within it begin as a user's do, and are each other's children."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", INTERPRETER)
        yield


@pytest.fixture
def cold():
    """A test's processes are `started_cold`."""
    with started_cold():
        yield


@pytest.fixture(scope="session")
def toy_study(toy_home, for_all) -> Finished:
    """Every method, run through the real command line, kernels and all; ftlib adds majority and tfidf.

    Where several processes test, the first that asks runs it, and the others copy it into their own working directory.
    """
    with FileLock(for_all / "toy_study.lock"):
        told = for_all / "toy_study.json"
        if not told.exists():
            found = _run_toy_study(toy_home)
            told.write_text(json.dumps([str(found.study), found.code, found.said]), encoding="utf-8")
    made, code, said = json.loads(told.read_text(encoding="utf-8"))
    study = toy_home / "reports" / "curves"
    if not study.exists():
        shutil.copytree(made, study)
    return Finished(toy_home, study, code, said)


def _run_toy_study(toy_home: Path) -> Finished:
    study = toy_home / "reports" / "curves"
    study.mkdir()
    (study / "suite.toml").write_text(SUITE, encoding="utf-8")
    done = subprocess.run(
        ftlib_command("run", "reports/curves"),
        cwd=toy_home,
        env=os.environ | {"FTLIB_CACHE": str(toy_home / "cache")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    return Finished(toy_home, study, done.returncode, done.stdout)
