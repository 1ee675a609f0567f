"""One training shared by several processes gives the record that one process gives."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import toy
from test_faults import all_gone, family, wait_for

import ftlib
from ftlib import cli, engines, records, suite, worker
from ftlib.engines import local
from ftlib.errors import FtlibError
from ftlib.events import read_events
from ftlib.spec import Experiment

pytestmark = pytest.mark.skipif(os.name != "posix", reason="gloo and torchrun as on POSIX")

WORDS = {"bad": "negative", "good": "positive"}
TASK = {"task": "file:opinions", "epochs": 1.0, "max_length": 24, "dtype": "float32", "label_words": WORDS}
# Odd batches, so that one process has more to do than the other, and a last one of a single example.
OFTEN = {"epochs": 3.0, "validations": 15}
SHARED = {
    "full, odd batches": {"model": "still", "method": "full", "batch_size": 13, "learning_rate": 0.003},
    "full, in parts": {"model": "still", "method": "full", "batch_size": 8, "gradient_accumulation": 2},
    "a last batch of one": {"model": "still", "method": "full", "train_limit": 10, "batch_size": 3, "min_steps": 8},
    "lora on a decoder": {"model": "writer", "method": "lora", "batch_size": 9, "gradient_checkpointing": True},
    "patience": {"model": "still", "method": "full", "batch_size": 8, "learning_rate": 0.1, "patience": 1} | OFTEN,
    "tuned": {"model": "writer", "method": "lora", "batch_size": 20, "tuning": {"learning_rate": 2}},
    "dropout": {"model": "tiny", "method": "full", "batch_size": 8, "learning_rate": 0.003},
}
# What every process runs; the first one tells what became of it.
EACH = """
import json, sys
import ftlib
for name, fields in json.loads(sys.argv[1]).items():
    record = ftlib.run(ftlib.Experiment(**fields), sys.argv[2] + "/" + name)
    assert (record is None) == (__import__("os").environ.get("RANK", "0") != "0")
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A working directory with a task and models, one of them without dropout."""
    home = tmp_path_factory.mktemp("shared")
    toy.write_task(home / "opinions")
    toy.save_model(home / "tiny")
    toy.save_model(home / "still")
    config = json.loads((home / "still" / "config.json").read_text())
    dropped = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (home / "still" / "config.json").write_text(json.dumps(config | dropped))
    tiny_models.tiny("llama", home / "writer")
    return home


@pytest.fixture
def here(home, monkeypatch) -> Path:
    monkeypatch.chdir(home)
    monkeypatch.setenv("FTLIB_CACHE", str(home / "cache"))
    return home


def torchrun(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Two processes, as a person starts them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=240)


def prepared(folder: Path, **fields: object) -> Path:
    """A run folder that asks for an experiment."""
    spec = Experiment(**TASK | fields)
    folder = folder / spec.run_id
    records.write_json(folder / "spec.json", {"run_id": spec.run_id, "passed": spec.passed()})
    return folder


def losses(run_dir: Path, event: str) -> np.ndarray:
    """(n, 2) steps and losses of a run's diary."""
    found = [(entry["step"], entry["loss"]) for entry in read_events(run_dir) if entry["event"] == event]
    return np.array(found)


@pytest.fixture(scope="module")
def both(home) -> dict:
    """Every experiment of SHARED, trained by one process and by two."""
    asked = {name: TASK | {"processes": 2} | fields for name, fields in SHARED.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("FTLIB_CACHE", str(home / "cache"))
        (home / "each.py").write_text(EACH, encoding="utf-8")
        patch.setenv("PYTHONPATH", str(Path(ftlib.__file__).parent.parent))
        done = torchrun("each.py", json.dumps(asked), "shared")
        assert done.returncode == 0, done.stderr
        # In a process of its own, since what this one has needed before counts in its high-water mark.
        single = json.dumps({name: fields | {"processes": 1} for name, fields in asked.items()})
        done = subprocess.run([sys.executable, "each.py", single, "alone"], capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
    return {name: (home / "alone" / name, home / "shared" / name) for name in SHARED}


@pytest.mark.parametrize("name", SHARED)
def test_two_processes_give_the_record_of_one(both, name):
    alone, shared = both[name]
    one, other = records.read_record(alone), records.read_record(shared)
    assert sorted(path.name for path in shared.iterdir()) == sorted(path.name for path in alone.iterdir())
    first, second = records.read_predictions(alone), records.read_predictions(shared)
    assert list(first.columns) == list(second.columns) and len(first) == len(second)
    tolerance = 0.05 if name == "dropout" else 2e-3
    for column in first.filter(regex="^score_"):
        np.testing.assert_allclose(second[column], first[column], atol=tolerance)
    for metric, value in one.metrics["after"]["test"].items():
        assert (value["value"] is None) == (other.metrics["after"]["test"][metric]["value"] is None)
    assert abs(one.value("after.test.accuracy") - other.value("after.test.accuracy")) <= 1 / toy.SIZES["test"]
    for event in ("step", "validation"):
        assert losses(alone, event).shape == losses(shared, event).shape
        if name != "dropout":
            np.testing.assert_allclose(losses(shared, event), losses(alone, event), atol=2e-3)
    assert [entry["event"] for entry in read_events(alone)] == [entry["event"] for entry in read_events(shared)]


def test_what_two_processes_cost_is_what_both_do(both):
    one, other = (records.read_record(path).cost for path in both["full, odd batches"])
    assert 1.5 < other["peak_memory_bytes"] / one["peak_memory_bytes"] < 2.5
    for name in ("train_examples", "trainable_parameters", "checkpoint_bytes"):
        assert one[name] == other[name]
    done = (cost["train_examples_per_second"] / cost["achieved_flops_per_second"] for cost in (one, other))
    assert next(done) == pytest.approx(next(done)), "as many operations for an example"


def test_patience_stopped_both_and_the_best_weights_were_kept(both):
    for path in both["patience"]:
        entries = read_events(path)
        assert [entry["event"] for entry in entries if entry["event"] == "kept"] == ["kept"]
        assert losses(path, "validation")[-1][0] < next(entry["of"] for entry in entries if entry["event"] == "step")


def test_run_one_starts_the_processes_that_a_run_asks_for(both, here, tmp_path, monkeypatch):
    folder = prepared(tmp_path / "runs", **SHARED["full, odd batches"], processes=2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    record = worker.run_one(folder)
    assert record.status == "ok", record.reason
    assert record == records.read_record(folder) == worker.run_one(folder)
    assert {path.name for path in folder.iterdir()} == {
        "spec.json", "events.jsonl", "notebook.ipynb", "predictions.parquet", "record.json",
    }  # fmt: skip
    inside = records.read_record(both["full, odd batches"][1])
    assert record.metrics == inside.metrics, "with a notebook and without"
    assert len(records.read_predictions(folder)) == 2 * toy.SIZES["test"]


def test_when_another_process_fails_the_run_failed_with_its_reason(here, tmp_path):
    """Only the second process raises, while the first one trains."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "if os.environ.get('RANK') == '1':\n"
        "    import ftlib.run\n"
        "    def fails(*given):\n"
        "        raise MemoryError('no room for it')\n"
        "    ftlib.run._fit_once = fails\n"
    )
    folder = prepared(tmp_path / "runs", **SHARED["full, odd batches"], processes=2)
    done = torchrun("-m", "ftlib", "run-one", str(folder), PYTHONPATH=str(tmp_path))
    record = records.read_record(folder)
    assert done.returncode != 0 and record.status == "failed"
    assert "out of memory (MemoryError: no room for it)" in record.reason and "batch_size below 13" in record.reason
    assert not (folder / "failure.json").exists()


def test_when_another_process_is_killed_the_run_failed_and_nothing_is_left(here, tmp_path):
    fields = SHARED["full, odd batches"] | {"epochs": 1000.0}
    folder, seen = prepared(tmp_path / "runs", **fields, processes=2), []

    def kill_the_second(states):
        if seen or not states[0].step:
            return
        found = family(states[0].handle.process.pid)
        for process in found:
            if process.environ().get("RANK") == "1":
                seen.extend(found)
                process.send_signal(signal.SIGKILL)

    engines.execute([folder], 1, local.Process, kill_the_second)
    record = records.read_record(folder)
    assert seen and record.status == "failed" and "one of its 2 processes ended" in record.reason
    wait_for(lambda: all_gone(seen), "every process to end", 40)


def test_a_study_starts_such_runs_cold_and_fewer_at_a_time(here, tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "suite.toml").write_text(
        '[study]\nquestion = "Who shares?"\n[plan]\nseeds = [0, 1]\n[defaults]\ntask = "file:opinions"\n'
        'model = "still"\n[[runs]]\nmethod = "full"\nprocesses = 2\n',
        encoding="utf-8",
    )
    planned = suite.plan(folder)
    alone = suite.Planned(planned.suite, planned.tasks, tuple(j for j in planned.jobs if j.spec.processes == 1))
    assert suite.default_jobs(planned) == max(1, suite.default_jobs(alone) // 2)
    job = next(job for job in planned.jobs if job.spec.processes == 2)
    suite.prepare_folder(job, planned)
    with local.engine([job.spec for job in planned.jobs]) as start:
        handle = start(job.run_dir)
        handle.stop()
    assert isinstance(handle, local.Process)


def test_another_number_of_processes_is_one_clear_error(here, tmp_path, monkeypatch, capsys):
    folder = prepared(tmp_path / "runs", **SHARED["full, odd batches"], processes=3)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert cli.main(["run-one", str(folder)]) == 2
    assert "found 3, but 2 are running" in capsys.readouterr().err
    with pytest.raises(FtlibError, match="found 1, but 2 are running"):
        ftlib.run(Experiment(method="majority"))
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as ended:
        cli.main(["run-one", str(folder)])
    assert not ended.value.code and not capsys.readouterr().err


def test_a_model_that_would_be_divided_is_refused(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(FtlibError, match="cannot divide it"):
        ftlib.run(Experiment(method="majority"))
