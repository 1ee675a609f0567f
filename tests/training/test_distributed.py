"""One training shared by several processes gives the record that one process gives."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
import toy
from filelock import FileLock
from processes import all_gone, family, wait_for

import ftlib
from ftlib import cli, records
from ftlib.config.experiment import Experiment
from ftlib.core import atomic
from ftlib.core.errors import FtlibError
from ftlib.execution import engines, scheduler, worker
from ftlib.execution.engines import base
from ftlib.records.events import read_events
from ftlib.training import distributed
from ftlib.training.distributed import apart, in_shards, layers

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
# Of these the others hold what they are about; left to `make test-all`.
SLOW = {name: SHARED.pop(name) for name in ("full, in parts", "tuned", "dropout")}
FSDP = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
# Three parts for one process and two for the other, which has to make a third pass; a second model loaded.
SHARDED = {name: SHARED[name] for name in ("a last batch of one", "patience", "lora on a decoder")} | {
    "full, in uneven parts": SHARED["a last batch of one"] | {"batch_size": 5, "gradient_accumulation": 3},
    "lora": {"model": "still", "method": "lora", "batch_size": 20, "tuning": {"learning_rate": 2}},
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
def home(for_all) -> Path:
    """A working directory with a task and models, one of them without dropout; the same for all that test."""
    home = for_all / "distributed"
    with FileLock(for_all / "distributed.lock"):
        if not home.exists():
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
    atomic.write_json(folder / "spec.json", {"run_id": spec.run_id, "passed": spec.passed()})
    return folder


def losses(run_dir: Path, event: str) -> np.ndarray:
    """(n, 2) steps and losses of a run's diary."""
    found = [(entry["step"], entry["loss"]) for entry in read_events(run_dir) if entry["event"] == event]
    return np.array(found)


def run_all(home: Path, fields_of: dict, folder: str, processes: int, **environment: str) -> dict[str, Path]:
    """Every experiment, one after another, trained by one process or by two, once; its folder, by name."""
    with FileLock(home / f"{folder}.lock"):
        if not (home / folder).exists():
            _run_all(home, fields_of, folder, processes, **environment)
    return {name: home / folder / name for name in fields_of}


def _run_all(home: Path, fields_of: dict, folder: str, processes: int, **environment: str) -> None:
    asked = json.dumps({name: TASK | fields | {"processes": processes} for name, fields in fields_of.items()})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("FTLIB_CACHE", str(home / "cache"))
        (home / "each.py").write_text(EACH, encoding="utf-8")
        patch.setenv("PYTHONPATH", str(Path(ftlib.__file__).parent.parent))
        if processes == 2:
            done = torchrun("each.py", asked, folder, **environment)
        else:
            # In a process of its own, since what this one has needed before counts in its high-water mark.
            command = [sys.executable, "each.py", asked, folder]
            done = subprocess.run(command, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def both(home) -> dict[str, tuple[Path, Path]]:
    """Every experiment of SHARED, trained by one process and by two."""
    alone, shared = run_all(home, SHARED, "alone", 1), run_all(home, SHARED, "shared", 2)
    return {name: (alone[name], shared[name]) for name in SHARED}


@pytest.fixture(scope="module")
def slow_ones(home) -> dict[str, tuple[Path, Path]]:
    """Every experiment of SLOW, trained by one process and by two."""
    alone, shared = run_all(home, SLOW, "alone, slow", 1), run_all(home, SLOW, "shared, slow", 2)
    return {name: (alone[name], shared[name]) for name in SLOW}


@pytest.fixture(scope="module")
def sharded(home) -> dict[str, tuple[Path, Path]]:
    """Every experiment of SHARDED, trained by one process and by two that divide the model."""
    alone, shared = run_all(home, SHARDED, "whole", 1), run_all(home, SHARDED, "shards", 2, **FSDP)
    return {name: (alone[name], shared[name]) for name in SHARDED}


@pytest.mark.parametrize("name", SHARED)
def test_two_processes_give_the_record_of_one(both, name):
    same_record(*both[name], name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_two_processes_give_the_record_of_one_of_more_kinds(slow_ones, name):
    same_record(*slow_ones[name], name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARDED)
def test_two_processes_that_divide_the_model_give_the_record_of_one(sharded, name):
    same_record(*sharded[name], name)
    one, other = (records.read_record(path) for path in sharded[name])
    for cost in ("train_examples", "trainable_parameters", "total_parameters", "checkpoint_bytes"):
        assert one.cost[cost] == other.cost[cost]
    done = [r.cost["train_examples_per_second"] / r.cost["achieved_flops_per_second"] for r in (one, other)]
    # One process alone takes the loss of a decoder slice by slice, where it counts.
    assert done[0] == pytest.approx(done[1], rel=1e-6 if "decoder" not in name else 0.5), "as many operations"


def same_record(alone: Path, shared: Path, name: str) -> None:
    one, other = records.read_record(alone), records.read_record(shared)
    assert sorted(path.name for path in shared.iterdir()) == sorted(path.name for path in alone.iterdir())
    first, second = records.read_predictions(alone), records.read_predictions(shared)
    assert list(first.columns) == list(second.columns) and len(first) == len(second)
    tolerance = 0.05 if name == "dropout" else 2e-3
    for column in first.filter(regex="^score_"):
        np.testing.assert_allclose(second[column], first[column], atol=tolerance)
    values, others = (records.flat(record.metrics["after"]["test"]) for record in (one, other))
    assert {k: leaf["value"] is None for k, leaf in values.items()} == {
        k: leaf["value"] is None for k, leaf in others.items()
    }
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


def test_run_one_starts_the_processes_that_a_run_asks_for(both, here, tmp_path, monkeypatch, cold):
    folder = prepared(tmp_path / "runs", **SHARED["full, odd batches"], processes=2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    record = worker.run_one(folder)
    assert record.status == "ok", record.reason
    assert record == records.read_record(folder) == worker.run_one(folder)
    assert {path.name for path in folder.iterdir()} == {
        ".lock", "spec.json", "events.jsonl", "notebook.ipynb", "predictions.parquet", "record.json",
    }  # fmt: skip
    inside = records.read_record(both["full, odd batches"][1])
    assert record.metrics == inside.metrics, "with a notebook and without"
    assert len(records.read_predictions(folder)) == 2 * toy.SIZES["test"]


def test_when_another_process_fails_the_run_failed_with_its_reason(here, tmp_path, cold):
    """Only the second process raises, while the first one trains."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "if os.environ.get('RANK') == '1':\n"
        "    import ftlib.execution.run\n"
        "    def fails(*given):\n"
        "        raise MemoryError('no room for it')\n"
        "    ftlib.execution.run._fit_once = fails\n"
    )
    folder = prepared(tmp_path / "runs", **SHARED["full, odd batches"], processes=2)
    done = torchrun("-m", "ftlib", "run-one", str(folder), PYTHONPATH=str(tmp_path))
    record = records.read_record(folder)
    assert done.returncode != 0 and record.status == "failed"
    assert "out of memory (MemoryError: no room for it)" in record.reason and "batch_size below 13" in record.reason
    assert not (folder / "failure.json").exists()


def test_when_another_process_is_killed_the_run_failed_and_nothing_is_left(here, tmp_path, cold):
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

    base.execute([folder], 1, base.Process, kill_the_second)
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
    planned = scheduler.plan(folder)
    alone = scheduler.Planned(planned.suite, planned.tasks, tuple(j for j in planned.jobs if j.spec.processes == 1))
    assert scheduler.default_jobs(planned) == max(1, scheduler.default_jobs(alone) // 2)
    job = next(job for job in planned.jobs if job.spec.processes == 2)
    scheduler.prepare_folder(job, planned)
    with engines.local_engine([job.spec for job in planned.jobs]) as start:
        handle = start(job.run_dir)
        handle.stop()
    assert isinstance(handle, base.Process)


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


@pytest.mark.parametrize(
    ("variable", "said", "fields", "refused"),
    [
        ("ACCELERATE_USE_DEEPSPEED", "true", {}, "divides a model by FSDP alone"),
        ("ACCELERATE_USE_MEGATRON_LM", "true", {}, "divides a model by FSDP alone"),
        ("FSDP_VERSION", "1", {}, "FSDP_VERSION: found 1, allowed .*: 2"),
        ("FSDP_OFFLOAD_PARAMS", "true", {}, "found true, allowed .*: false"),
        ("FSDP_ACTIVATION_CHECKPOINTING", "true", {}, "gradient_checkpointing = true does that"),
    ],
)
def test_what_cannot_be_divided_is_one_clear_error(here, tmp_path, monkeypatch, variable, said, fields, refused):
    # So that what is passed on to other processes is taken back.
    monkeypatch.setenv(distributed.DIVIDED, "")
    for name, value in (FSDP | {variable: said}).items():
        monkeypatch.setenv(name, value)
    record = worker.run_one(prepared(tmp_path / "runs", **SHARED["full, odd batches"] | {"processes": 2} | fields))
    assert record.status == "failed" and re.search(refused, record.reason)


def test_one_process_holds_the_whole_model_whatever_accelerate_is_told(monkeypatch):
    monkeypatch.setenv(distributed.DIVIDED, "")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert not distributed.divided(Experiment(method="full"))
    assert "ACCELERATE_USE_FSDP" not in os.environ
    assert distributed.divided(Experiment(method="full", processes=2))
    with pytest.raises(FtlibError, match="four bits"):
        distributed.divided(Experiment(method="qlora", model="tiny-lm", processes=2))


@pytest.fixture
def group() -> Iterator[None]:
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_what_was_learned_in_shards_is_in_the_whole_module(group):
    whole, _ = tiny_models.build("bert")
    before = {name: p.detach().clone() for name, p in whole.named_parameters()}
    known = dict(whole.named_parameters())
    inputs = {"input_ids": torch.tensor([[5, 6, 7]])}
    said = whole(**inputs).logits.detach()
    with in_shards(whole, torch.device("cpu")) as part:
        assert len(layers(part)) == 2 and all(type(layer).__name__ == "FSDPBertLayer" for layer in layers(part))
        assert all(p.isnan().all() and p.untyped_storage().nbytes() == 4 for p in known.values())
        with torch.no_grad():
            torch.testing.assert_close(part(**inputs).logits, said)
            apart(part)
            for p in part.parameters():
                p.add_(1.0)
    assert all(p is known[name] for name, p in whole.named_parameters()), "the same objects"
    for name, p in whole.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] + 1.0, rtol=0, atol=0)


def test_a_module_whose_training_failed_answers_nothing(group):
    whole = torch.nn.Linear(2, 2)
    with pytest.raises(ZeroDivisionError), in_shards(whole, torch.device("cpu")):
        raise ZeroDivisionError
    assert whole(torch.ones(1, 2)).isnan().all()
