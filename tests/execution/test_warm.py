"""Runs forked from a warm parent are the runs that a cold start would have made, and end as those do."""

import os
import signal
import sys
from pathlib import Path

import nbformat
import pandas as pd
import psutil
import pytest
import toy
from conftest import started_cold
from processes import HEAD, PARAMETERS, all_gone, family, kernels, wait_for, write_notebooks

from ftlib import records
from ftlib.execution import engines, scheduler
from ftlib.execution.engines import base

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a warm parent forks")

ODD = {
    "81_run_ends": "import os\nos._exit(7)",
    "83_run_sleeps": "import time\ntime.sleep(600)",
    "84_run_grows": """
import resource, numpy as np
from pathlib import Path
held = np.ones(400_000_000 // 8) if seed == 0 else None
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)""",
    "85_run_shows": """
import os, random, sys, tempfile, uuid
import matplotlib.pyplot as plt, numpy as np, pandas as pd, torch
os.system("echo said by a child")
print("said", file=sys.stderr)
drawn = [random.random(), float(np.random.rand()), tempfile.mktemp(), str(uuid.uuid4())]
print("DRAWN", *drawn)
print(torch.get_num_threads(), os.environ["OMP_NUM_THREADS"], os.getcwd(), sys.path[:2], __name__, sys.stdin.read())
plt.plot([1, 2]); plt.show()
pd.DataFrame({"a": [1]})""",
}
MORE = '\nmodel: str = "minilm"\nshots: int = 0'


@pytest.fixture(autouse=True, scope="module")
def cold():
    """Warm parents are those of a user."""
    with started_cold():
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory, toy_home) -> Path:
    """A working directory with notebooks that do one odd thing, a task and a model."""
    home = tmp_path_factory.mktemp("warm")
    toy.write_task(home / "opinions")
    (home / "tiny").symlink_to(toy_home / "tiny")
    write_notebooks(home, ODD, PARAMETERS + MORE)
    return home


@pytest.fixture
def here(home, monkeypatch) -> Path:
    monkeypatch.chdir(home)
    monkeypatch.setenv("FTLIB_CACHE", str(home / "cache"))
    return home


def prepared(folder: Path, runs: str, seeds: str = "[0, 1]") -> list:
    """The jobs of a new study that `runs` asks for, their folders ready."""
    folder.mkdir(parents=True)
    head = HEAD.replace("seeds = [0]", f"seeds = {seeds}")
    (folder / "suite.toml").write_text(head + 'model = "tiny"\n' + runs, encoding="utf-8")
    planned = scheduler.plan(folder)
    jobs = [job for job in planned.jobs if job.spec.notebook or job.spec.shots]
    for job in jobs:
        scheduler.prepare_folder(job, planned)
    return jobs


def executed(jobs: list, warm: bool = True, show=lambda states: None, at_a_time: int = 1) -> None:
    """Run them; every run that is warm, whatever it takes."""
    with engines.local_engine([job.spec for job in jobs] if warm else ()) as start:
        base.execute([job.run_dir for job in jobs], at_a_time, start, show)


@pytest.fixture(scope="module")
def start(home):
    """Starts runs of odd notebooks, of one warm parent, which goes when the engine does."""
    parents = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("FTLIB_CACHE", str(home / "cache"))
        jobs = prepared(home / "reports" / "kind", odd("81_run_ends"))
        with engines.local_engine([job.spec for job in jobs]) as engine:

            def start(run_dir: Path):
                handle = engine(run_dir)
                parents.append(handle.parent)
                return handle

            yield start
    assert len(set(parents)) == 1 and parents[0].process.returncode == -signal.SIGKILL


def outputs(run_dir: Path) -> list:
    """What the executed notebook shows, cell by cell."""
    return [cell.get("outputs", []) for cell in nbformat.read(run_dir / "notebook.ipynb", as_version=4).cells]


def odd(name: str) -> str:
    return f'[[runs]]\nmethod = "tfidf"\nnotebook = "{name}"\nshots = 8\n'


METHODS = """
[[runs]]
method = "lora"
shots = 8
"""


@pytest.fixture(scope="module")
def both(home) -> tuple[Path, Path]:
    """A run that needs what every other kind of run does, made cold and made warm."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("FTLIB_CACHE", str(home / "cache"))
        (cold, _), (warm, other) = (prepared(home / "reports" / name, METHODS) for name in ("cold", "warm"))
        executed([cold], warm=False)
        # Of two of a kind one is enough to look at.
        with engines.local_engine([warm.spec, other.spec]) as start:
            base.execute([warm.run_dir], 1, start, lambda states: None)
    return cold.run_dir, warm.run_dir


def test_a_warm_run_has_the_numbers_of_a_cold_one(both):
    one, other = map(records.read_record, both)
    assert (one.status, other.status) == ("ok", "ok") and one.metrics == other.metrics
    pd.testing.assert_frame_equal(*map(records.read_predictions, both), check_exact=True)
    assert one.provenance == other.provenance
    # Jupyter interrupts a kernel before it asks it to end, of which the log may say a word.
    assert {(path / "log.txt").read_text().splitlines()[-1] for path in both} == {f"ok: {other.run_id}"}


def test_a_warm_run_has_about_the_memory_of_a_cold_one(both):
    one, other = (records.read_record(path).cost["peak_memory_bytes"] for path in both)
    # What libraries were read from disk for others counts only where it is used.
    assert 0.75 < other / one < 1.1


def test_the_notebook_of_a_warm_run_shows_what_that_of_a_cold_one_shows(both):
    one, other = map(outputs, both)
    assert [[list(shown.get("data", shown)) for shown in cell] for cell in one] == [
        [list(shown.get("data", shown)) for shown in cell] for cell in other
    ]
    assert one[:5] == other[:5]


@pytest.fixture(scope="module")
def odd_ones(home, start) -> dict[str, list[Path]]:
    """The folders of two runs of each odd notebook that ends."""
    jobs = prepared(home / "reports" / "odd", "".join(odd(name) for name in ODD if name != "83_run_sleeps"))
    base.execute([job.run_dir for job in jobs], 1, start, lambda states: None)
    return {name: [job.run_dir for job in jobs if job.spec.notebook == name] for name in ODD}


def test_a_fork_is_a_process_like_any_other(odd_ones, here, tmp_path):
    """Its streams are caught, its figures shown, its threads those asked for, and its chance its own."""
    jobs = prepared(tmp_path / "study", odd("85_run_shows"), seeds="[0]")
    executed(jobs, warm=False)
    (one,), drawn = [outputs(job.run_dir)[-1] for job in jobs], []
    for run_dir in odd_ones["85_run_shows"]:
        other = outputs(run_dir)[-1]
        assert [shown["output_type"] for shown in one] == [shown["output_type"] for shown in other]
        said = ["".join(shown["text"] for shown in cell if "text" in shown) for cell in (one, other)]
        first, second = (sorted(line for line in text.splitlines() if not line.startswith("DRAWN")) for text in said)
        assert first == second and "said" in first
        drawn += [line.split()[1:] for text in said for line in text.splitlines() if line.startswith("DRAWN")]
        figure, table = ([shown["data"] for shown in cell if "data" in shown] for cell in (one, other))
        assert figure == table and "image/png" in figure[0] and "text/html" in figure[1]
    # The cold one is there twice.
    assert all(len(set(column)) == 3 for column in zip(*drawn, strict=True)), "no two runs draw the same"


def test_memory_is_the_runs_own(odd_ones):
    large, small = (int(outputs(run_dir)[-1][0]["text"]) for run_dir in odd_ones["84_run_grows"])
    assert large > 400_000_000 and small < large - 300_000_000


def test_a_kernel_that_ends_is_a_failed_run(odd_ones):
    """One that exits, and one that is killed: tests/test_faults.py, whose runs start warm, too."""
    for run_dir in odd_ones["81_run_ends"]:
        record = records.read_record(run_dir)
        assert record.status == "failed" and "Kernel died" in record.reason


def test_a_warm_run_that_takes_too_long_is_a_timeout_and_its_parent_goes_on(start, tmp_path):
    stopped, late = prepared(tmp_path / "study", odd("83_run_sleeps"))
    handle = start(stopped.run_dir)
    seen = wait_for(lambda: "pid" in (news := handle.parent.news(handle.name)) and kernels(news["pid"]), "a kernel")
    seen.append(psutil.Process(handle.parent.news(handle.name)["pid"]))
    handle.stop()
    assert handle.poll() == -signal.SIGKILL and not handle.cold
    # On a busy machine a killed process takes a moment to end.
    wait_for(lambda: all_gone(seen), "the kernel to end", 10)
    base.execute([late.run_dir], 1, start, lambda states: None, timeout=3)
    assert handle.parent.idle and not handle.parent.ended
    record = records.read_record(late.run_dir)
    assert record.status == "timeout" and "3 seconds" in record.reason


def test_a_run_that_is_killed_failed_and_its_kernel_ends(start, tmp_path):
    (job,), seen = prepared(tmp_path / "study", odd("83_run_sleeps"), seeds="[0]"), []

    def kill_it_at_work(states):
        for state in states:
            news = state.handle.parent.news(state.handle.name) if state.state == "running" else {}
            if "pid" in news and "code" not in news and (found := kernels(news["pid"])):
                seen.extend(found)
                os.kill(news["pid"], signal.SIGKILL)

    base.execute([job.run_dir], 1, start, kill_it_at_work)
    record = records.read_record(job.run_dir)
    assert record.status == "failed" and "code -9" in record.reason
    wait_for(lambda: seen and all_gone(seen), "the kernels to end", 10)


@pytest.mark.parametrize("moment", [pytest.param("while it imports", marks=pytest.mark.slow), "while a run is at work"])
def test_without_its_warm_parent_a_study_goes_on_cold(here, tmp_path, moment):
    jobs = prepared(tmp_path / "study", '[[runs]]\nmethod = "tfidf"\nshots = 8\n')
    seen = []

    def kill_it(states):
        for state in states:
            if state.state == "running" and not seen and (moment == "while it imports" or state.doing):
                seen.extend([state.handle.parent.process, *family(state.handle.parent.process.pid)])
                state.handle.parent.process.kill()

    executed(jobs, show=kill_it, at_a_time=2)
    assert seen and [records.read_record(job.run_dir).status for job in jobs] == ["ok", "ok"]
    wait_for(lambda: all_gone(seen[1:]), "its forks to end", 5)


def test_a_run_alone_of_its_kind_starts_cold(here, tmp_path):
    jobs = prepared(tmp_path / "study", '[[runs]]\nmethod = ["tfidf", "probe"]\nshots = 8\n', seeds="[0]")
    with engines.local_engine([job.spec for job in jobs]) as start:
        handle = start(jobs[0].run_dir)
        assert isinstance(handle, base.Process)
        handle.stop()
