"""What runs share: computed once, found again by all it depends on, and of no consequence for a record."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from thorough import mostly

import ftlib
from ftlib import cli
from ftlib.core import atomic
from ftlib.methods import finetune
from ftlib.models import loading
from ftlib.report.sections.costs import shared

OPINIONS = {"task": "file:opinions", "model": "tiny", "max_length": 24, "dtype": "float32"}
MEASURED = ("seconds", "per_second", "memory")
"""Costs that are measured, and so differ from one time to the next."""


@pytest.fixture
def cache(at_home, tmp_path, monkeypatch):
    monkeypatch.setenv("FTLIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def rows_of(names, told):
    """Rows that say which name they are of; `told` learns what was computed."""

    def compute(places):
        told.append([names[place] for place in places])
        return np.array([[int(names[place], 16)] for place in places], float), np.full(len(places), 2.0)

    return atomic.remembered_rows("features", "f" * 32, names, compute)


def name(number):
    return f"{number:032x}"


def test_a_sample_takes_its_rows_from_what_others_have_computed(cache):
    told, names = [], [name(n) for n in range(6)]
    assert rows_of(names[:4], told)[:, 0].tolist() == [0, 1, 2, 3]
    assert rows_of([names[5], names[2], names[0], names[5]], told)[:, 0].tolist() == [5, 2, 0, 5]
    assert rows_of(names, told)[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert told == [names[:4], [names[5]], [names[4]]], "each row once"
    assert rows_of([], told).shape[0] == 0


def test_the_seconds_of_a_sample_are_those_of_its_own_rows(cache, monkeypatch):
    told, names = [], [name(n) for n in range(8)]
    ticks = iter([0.0, 16.0])
    with monkeypatch.context() as only:
        only.setattr(atomic.time, "perf_counter", lambda: next(ticks))
        rows_of(names, told)
    before = atomic.saved_seconds()
    rows_of(names[:3], told)
    assert atomic.saved_seconds() - before == pytest.approx(6.0), "three of eight rows that took 16 s"


def test_what_is_computed_from_something_kept_took_as_long_as_both(cache, monkeypatch):
    def inner():
        return atomic.remembered("features", "a" * 32, lambda: np.ones(2))

    folder = cache / "features"
    inner()
    (folder / f"{'a' * 32}.json").write_text(json.dumps({"seconds": 30.0}))
    atomic.remembered("probabilities", "b" * 32, inner)
    assert json.loads((cache / "probabilities" / f"{'b' * 32}.json").read_text())["seconds"] >= 30


WRITER = """
import sys, numpy as np
from ftlib.core import atomic
names = [f"{n:032x}" for n in range(int(sys.argv[1]), 400)]
for start in range(0, len(names), 20):
    some = names[start : start + 20]
    found = atomic.remembered_rows(
        "features", "f" * 32, some, lambda ps: (np.array([[int(some[p], 16)] for p in ps], float), np.ones(len(ps)))
    )
    assert found[:, 0].tolist() == [int(one, 16) for one in some]
print("done")
"""


def test_runs_at_the_same_time_and_killed_ones_leave_whole_rows(cache):
    command = [sys.executable, "-c", WRITER]
    writers = [subprocess.Popen([*command, str(start)], stdout=subprocess.PIPE, text=True) for start in (0, 7, 0)]
    time.sleep(1.5)
    writers[2].kill()
    said = [one.communicate()[0] for one in writers]
    assert said[:2] == ["done\n", "done\n"]
    told = []
    assert rows_of([name(n) for n in range(400)], told)[:, 0].tolist() == list(range(400)) and not told


def test_damaged_rows_are_computed_again(cache, capsys):
    told, names = [], [name(n) for n in range(3)]
    rows_of(names, told)
    (path,) = (one for one in cache.rglob("*.npy") if ".names" not in one.name)
    path.write_bytes(b"half")
    assert rows_of(names, told)[:, 0].tolist() == [0, 1, 2] and len(told) == 2
    assert "is computed again" in capsys.readouterr().err


def test_the_cache_keeps_to_its_size_and_what_was_read_last_stays(cache, monkeypatch):
    for place, key in enumerate("abc"):
        atomic.remembered("features", key * 32, lambda: np.zeros(1000))
        for path in (cache / "features").glob(f"{key * 32}*"):
            os.utime(path, (time.time() - 1000 + place,) * 2)
    mine = cache / "features" / "notes of mine.json"
    mine.write_text("{}")
    # Read, and so not the oldest any more.
    atomic.remembered("features", "a" * 32, lambda: pytest.fail("computed again"))
    monkeypatch.setattr(atomic, "LIMIT", 25_000)
    atomic.remembered("features", "d" * 32, lambda: np.zeros(1000))
    left = {path.name[0] for path in atomic.cached_files()}
    assert left == {"a", "c", "d"} and mine.exists()
    old = time.time() - atomic.UNREAD - 10
    for path in (cache / "features").glob("c*"):
        os.utime(path, (old, old))
    atomic.remembered("features", "e" * 32, lambda: np.zeros(10))
    assert {path.name[0] for path in atomic.cached_files()} == {"a", "d", "e"}


def test_doctor_empties_the_cache_of_what_ftlib_has_put_there(cache, capsys):
    atomic.remembered("features", "a" * 32, lambda: np.zeros(10))
    rows_of([name(1)], [])
    mine = cache / "features" / "mine.txt"
    mine.write_text("stays")
    cli.main(["doctor", "--clear-cache"])
    said = capsys.readouterr().out
    assert "removed: 4 files" in said and "holds 0" in said and mine.exists() and not list(atomic.cached_files())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_texts_features_are_the_same_bits_whatever_is_read_beside_it(at_home, dtype):
    model = ftlib.load_model("tiny", dtype=dtype)
    texts = ftlib.load_task("file:opinions").splits["train"]["text"].tolist()
    encoder = model.encoder()
    whole = loading.encoded(encoder, model, texts, 24)
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 30):
        some = rng.permutation(len(texts))[:size]
        assert np.array_equal(loading.encoded(encoder, model, [texts[i] for i in some], 24), whole[some])


def without_measured(record):
    """A record as JSON, less what is measured anew each time."""
    whole = json.loads(json.dumps(record._asdict() if hasattr(record, "_asdict") else vars(record), default=dict))
    whole["cost"] = {name: value for name, value in whole["cost"].items() if not any(m in name for m in MEASURED)}
    return whole


@pytest.mark.parametrize("method", mostly(("probe", "lora"), ["zero_shot", "probe", "lora", "full"]))
def test_a_record_is_the_same_with_and_without_what_is_shared(method, cache, tmp_path, monkeypatch):
    given = OPINIONS | {"train_limit": 40, "evaluations": ["features"]}
    own = {"epochs": 1.0, "head_init": "linear_probe"} if method in ("lora", "full") else {}
    monkeypatch.setattr("ftlib.data.evaluations.PROBED", {"reviews": 27})
    monkeypatch.setattr("ftlib.evaluation.linear_probes.PROBE_TRAIN", 16)
    monkeypatch.setattr("ftlib.evaluation.linear_probes.PROBE_TEST", 12)
    # Other samples, and another method, leave rows; this run finds a part of its own.
    ftlib.run(ftlib.Experiment(**given, **own, method=method, seed=1))
    ftlib.run(ftlib.Experiment(**given, method="probe", seed=2))
    spec = ftlib.Experiment(**given, **own, method=method, seed=0)
    warm = ftlib.run(spec, tmp_path / "warm")
    monkeypatch.setenv("FTLIB_CACHE", str(tmp_path / "empty"))
    cold = ftlib.run(spec, tmp_path / "cold")
    assert warm.cost["shared_seconds"] > cold.cost["shared_seconds"]
    assert without_measured(warm) == without_measured(cold)
    tables = [pd.read_parquet(tmp_path / which / "predictions.parquet") for which in ("warm", "cold")]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_a_heads_start_is_shared_by_methods_that_begin_at_the_untouched_model(cache, monkeypatch):
    made, real = [], finetune.read_alike
    monkeypatch.setattr(
        finetune, "read_alike", lambda model, ids, read: made.append(len(ids)) or real(model, ids, read)
    )
    for method, seed in (("full", 0), ("full", 1), ("lora", 2)):
        spec = ftlib.Experiment(**OPINIONS, method=method, seed=seed, head_init="linear_probe", train_limit=0)
        task, model = ftlib.load_task("file:opinions"), ftlib.load_model("tiny", dtype="float32")
        predictor = ftlib.config.methods.METHODS[method].prepare()(model, spec, task, task.splits["train"])
        trainable = predictor.trainable
        trainable.begin(trainable, trainable.encode(task.splits["train"]))
    # The one text by which the layer is found, each time; the rows once.
    assert sorted(made, reverse=True)[:2] == [80, 1]


def test_weights_that_have_moved_are_not_answered_for_by_the_untouched_ones(at_home):
    spec = ftlib.Experiment(**OPINIONS, method="lora", head_init="linear_probe")
    task, model = ftlib.load_task("file:opinions"), ftlib.load_model("tiny", dtype="float32")
    module = ftlib.config.methods.METHODS["lora"].prepare()(model, spec, task, task.splits["train"]).trainable.module
    layer = [part for part in module.modules() if isinstance(part, torch.nn.Linear)][-1]
    before = finetune._below(module, layer)
    state = dict(module.named_parameters())
    with torch.no_grad():
        layer.weight.add_(1.0)
        assert finetune._below(module, layer) == before, "what the layer itself says does not matter"
        next(value for name, value in state.items() if ".lora_A." in name).add_(1.0)
        assert finetune._below(module, layer) == before, "nothing comes of it while the other factor is 0"
        next(value for name, value in state.items() if ".lora_B." in name).view(-1)[0] = 1e-6
    assert finetune._below(module, layer) != before


def test_the_report_says_how_much_was_shared(toy_study):
    from ftlib.records.study import read_study

    said = shared(read_study(toy_study.study))
    assert said.startswith("Computed once and shared: ") and "what each run takes by itself" in said
    assert "Computed once and shared" in (Path(toy_study.study) / "report.html").read_text(encoding="utf-8")
