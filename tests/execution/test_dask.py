"""Runs on a Dask cluster: to queue is not to run, and what this machine lacks the workers may have."""

import subprocess
import sys
import time

import pytest

from ftlib import cli
from ftlib.execution import scheduler
from ftlib.execution.engines import base, open_engine

distributed = pytest.importorskip("distributed", reason="needs the extra dask")

SUITE = '[study]\nquestion = "?"\n[plan]\nseeds = [0]\n[defaults]\ntask = "file:opinions"\n'
SUITE += '[[runs]]\nmethod = ["majority", "tfidf"]\n'


@pytest.fixture
def study(at_home, request):
    folder = at_home / "reports" / request.node.name
    folder.mkdir()
    (folder / "suite.toml").write_text(SUITE)
    return folder


@pytest.fixture
def quick_work(monkeypatch):
    """A run that lasts a second, in place of `run-one`; the workers are threads here, so they see it."""
    began = []

    def process(run_dir):
        began.append(run_dir)
        with (run_dir / "log.txt").open("w") as log:
            return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"], stdout=log)

    class Quick:
        def __init__(self, run_dir):
            self.process = process(run_dir)

        def poll(self):
            return self.process.poll()

        def stop(self):
            self.process.kill()
            self.process.wait()

    monkeypatch.setattr("ftlib.execution.engines.dask.Process", Quick)
    return began


def test_what_waits_for_a_worker_does_not_count_towards_the_limit(study, quick_work):
    """Two runs of a second on one worker: the second has not begun while the first runs."""
    planned = scheduler.plan(study)
    dirs = [job.run_dir for job in planned.jobs]
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        open_engine("dask", 2, cluster.scheduler_address) as start,
    ):
        for path in dirs:
            path.mkdir(parents=True, exist_ok=True)
        handles = [start(path) for path in dirs]
        end = time.monotonic() + 60
        while not quick_work and time.monotonic() < end:
            time.sleep(0.02)
        assert sorted(handle.waits() for handle in handles) == [False, True]
        while any(handle.poll() is None for handle in handles) and time.monotonic() < end:
            time.sleep(0.05)
        assert [handle.poll() for handle in handles] == [0, 0] and not any(handle.waits() for handle in handles)


def test_the_clock_of_a_run_begins_when_it_does(tmp_path, monkeypatch):
    class Waiting:
        def poll(self):
            return None

        def waits(self):
            return True

        def stop(self):
            raise AssertionError("stopped while it waited")

    state = base.State(tmp_path, None, "running", started=time.monotonic() - 100, handle=Waiting())
    base._look(state, timeout=1)
    assert state.state == "running" and state.seconds < 1 and state.doing == "waiting for a worker"


def test_what_this_machine_lacks_does_not_matter_to_a_schedulers_workers(study, capsys):
    (study / "suite.toml").write_text(
        SUITE + '[[runs]]\nmethod = "qlora"\nmodel = "writer"\nlabel_words = {bad = "bad", good = "good"}\n'
    )
    assert cli.main(["run", str(study), "--dry-run"]) == 2
    assert "qlora needs" in capsys.readouterr().err
    assert cli.main(["run", str(study), "--dry-run", "--engine", "dask", "--scheduler", "tcp://127.0.0.1:1"]) == 0
    assert "would run" in capsys.readouterr().out
