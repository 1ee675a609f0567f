"""Speed: of matrix products, and of a model that reads and trains; measured once, then remembered."""

import json
import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

import ftlib
from ftlib.core.errors import FtlibError
from ftlib.execution import benchmark
from ftlib.listing import catalogue
from ftlib.models import catalog
from ftlib.training import trainer

OPINIONS = {"task": "file:opinions", "model": "tiny", "batch_size": 8, "max_length": 24}


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FTLIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_peak_is_measured_once_for_a_dtype_and_threads_are_put_back(dtype, fresh_cache, monkeypatch):
    monkeypatch.setattr(benchmark, "SIZES", {"cpu": (64, 128)})
    before = torch.get_num_threads()
    found = benchmark.matmul_peak("cpu", dtype, 1)
    assert 1e7 < found < 1e15 and torch.get_num_threads() == before
    monkeypatch.setattr(benchmark, "_fastest_product", lambda *asked: pytest.fail("measured again"))
    assert benchmark.matmul_peak("cpu", dtype, 1) == found
    monkeypatch.setattr(benchmark, "_fastest_product", lambda *asked: 5.0)
    assert benchmark.matmul_peak("cpu", dtype, 2) == 5.0, "another number of threads is another measurement"


def test_the_best_product_is_taken_and_its_operations_are_counted(monkeypatch):
    monkeypatch.setattr(benchmark, "SIZES", {"cpu": (64,)})
    # Begun at 0 s, for 3; a product of half a second, one of a quarter, and the end.
    ticks = iter([0.0, 0.1, 1.0, 1.5, 1.6, 2.0, 2.25, 99.0])
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(ticks))
    assert benchmark._fastest_product("cpu", "float32", 1, seconds=3.0) == 2 * 64**3 / 0.25


def test_a_models_speed_has_an_interval_and_is_found_by_the_listing(at_home, fresh_cache):
    spec = ftlib.Experiment(**OPINIONS, method="full")
    found = benchmark.measure_speed(spec, n_texts=24, repeats=3)
    for value, low, high in (found.reading, found.training):
        assert value > 0 and low < value < high
    assert (found.n, found.texts) == (3, 24) and 3 < found.tokens < 24
    assert found.how["model"] == "tiny" and found.how["batch_size"] == 8 and found.how["method"] == "full"
    assert "tiny reads" in found.sentence and "3 repeats of 24 texts of file:opinions" in found.sentence
    row = next(row for row in catalogue("models", ["tiny"]) if row["name"] == "tiny")
    assert row["speed"]["n"] == 3 and "measured here on file:opinions" in row["summary"]
    json.dumps(row, allow_nan=False)


def test_it_is_measured_once_for_an_architecture_and_again_for_other_settings(at_home, fresh_cache, monkeypatch):
    spec = ftlib.Experiment(**OPINIONS, method="lora")
    first = benchmark.measure_speed(spec, n_texts=16, repeats=2)
    fit, asked = trainer.fit, []
    monkeypatch.setattr(benchmark, "fit", lambda *given: asked.append(given) or fit(*given))
    assert benchmark.measure_speed(spec, n_texts=16, repeats=2) == first and not asked
    again = benchmark.measure_speed(spec.model_copy(update={"batch_size": 4}), n_texts=16, repeats=2)
    assert again.how["batch_size"] == 4 and len(asked) == 3, "two repeats, and one that is not counted"
    assert len(list(catalog.speeds_folder().glob("*.json"))) == 2


def test_a_model_that_writes_is_measured_on_text(at_home, fresh_cache):
    spec = ftlib.Experiment(task="file:notes.txt", model="writer", method="full", batch_size=4, context=64)
    found = benchmark.measure_speed(spec, n_texts=8, repeats=2)
    assert found.training[0] > 0 and found.texts == 8


@pytest.mark.parametrize(("method", "repeats"), [("probe", 5), ("full", 1)])
def test_what_does_not_train_and_a_single_repeat_are_refused(method, repeats, at_home):
    with pytest.raises(FtlibError, match="allowed"):
        benchmark.measure_speed(ftlib.Experiment(task="file:opinions", model="tiny", method=method), repeats=repeats)


@pytest.mark.slow
def test_the_benchmark_of_gpus_does_the_same_with_toys_where_there_is_none(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "bench_gpu.py"), "--toy", "--minutes", "20"]
    command += ["--out", str(tmp_path), "--folder", str(tmp_path / "models")]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (tmp_path / "gpu_toy.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("| ")][1:]
    measured = {(row[0].strip(), row[1].strip()) for row in rows if "TFLOP/s" in row[3] and float(row[2]) > 0}
    assert {(model, method) for model in ("qwen3-toy", "minilm") for method in ("full", "lora")} <= measured
    assert "say nothing of speed" in lines[0] and len(rows) == 6, "the line below the header, and five runs"
