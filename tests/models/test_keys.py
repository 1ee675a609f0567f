"""Keys of what is kept, done or counted together hold everything that the answer depends on."""

import json
import random
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score

import ftlib
from ftlib.config.experiment import Plan, hash_of
from ftlib.config.methods import METHODS
from ftlib.core.errors import FtlibError
from ftlib.core.format import short_name
from ftlib.metrics.registry import METRICS, measure
from ftlib.models import loading, weights
from ftlib.records import COLUMNS, RunRecord, flat, predictions_table, provenance
from ftlib.records.study import read_study


def permute_vocabulary(folder):
    """Give most words of a tokenizer the numbers of others."""
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    words = [word for word, number in vocabulary.items() if number > 4]
    numbers = [vocabulary[word] for word in words]
    random.Random(0).shuffle(numbers)
    vocabulary.update(zip(words, numbers, strict=True))
    path.write_text(json.dumps(tokenizer), encoding="utf-8")


@pytest.fixture
def mine(at_home, tmp_path):
    shutil.copytree(at_home / "tiny", tmp_path / "mine")
    return tmp_path / "mine"


def write(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


READ = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json",
    "merges.txt", "special_tokens_map.json", "added_tokens.json", "modules.json", "1_Pooling/config.json",
    "spiece.model", "source.spm", "model.safetensors.index.json",
)  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_every_file_that_is_read_changes_the_digest_of_a_model(mine, name):
    before = weights.model_digest(mine)
    write(mine / name, "{}")
    assert weights.model_digest(mine) != before


def test_what_is_not_read_changes_no_digest_and_weights_do_even_within_a_process(mine):
    before = weights.model_digest(mine)
    write(mine / "README.md", "a card")
    assert weights.model_digest(mine) == before
    with (mine / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"abcd")
    assert weights.model_digest(mine) != before


def test_every_input_changes_the_key_of_what_is_kept(mine, monkeypatch):
    model = ftlib.load_model(str(mine), dtype="float32")
    asked = ("float32", 24, "a text")
    found = [loading.key_of(model, asked)]
    assert loading.key_of(model, asked) == found[0]
    found += [loading.key_of(replace(model, **one), asked) for one in ({"files_sha256": "0"}, {"threads": 2})]
    found += [loading.key_of(model, one) for one in (("bfloat16", *asked[1:]), ("float32", 25, "a text"), asked[:2])]
    for place, name, other in (
        (weights, "code_digest", lambda: "another code"),
        (provenance, "versions", lambda: {"torch": "0"}),
        (provenance, "device_name", lambda device: "another processor"),
        (torch, "__version__", "0"),
        (torch.backends.cpu, "get_cpu_capability", lambda: "another capability"),
    ):
        with monkeypatch.context() as only:
            only.setattr(place, name, other)
            found.append(loading.key_of(model, asked))
    assert len(set(found)) == len(found)


def test_a_changed_tokenizer_is_not_answered_for_by_the_old_one(mine, monkeypatch):
    def shown():
        return loading.features(ftlib.load_model(str(mine), dtype="float32"), ["a good film", "bad"], 24)

    before = shown()
    permute_vocabulary(mine)
    again = shown()
    monkeypatch.setenv("FTLIB_CACHE", str(mine / "empty"))
    assert not np.allclose(before, again) and np.array_equal(again, shown())


def test_plans_that_ask_for_other_seeds_have_other_hashes_and_meaning_alone_counts():
    plans = [Plan(), Plan(seeds=[0]), Plan(seeds=[0, 1]), Plan(margin=0.02), Plan(evaluations=["general"])]
    assert len({hash_of("?", plan) for plan in plans}) == len(plans)
    assert hash_of("?", Plan(seeds=[0])) == hash_of("?", Plan(seeds=[0], margin=0.01, tasks={}))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["l2_sp", "ewc", "replay", "learning_rate", "epochs"])
def test_no_number_is_infinite_or_none(at_home, name, value):
    with pytest.raises(FtlibError, match=f"{name}: found {value}; allowed: 0 "):
        ftlib.Experiment(task="file:opinions", model="tiny", method="full", **{name: value})


def test_no_number_of_a_method_or_a_list_is_infinite(at_home):
    asked = {"task": "file:opinions", "model": "tiny", "method": "lora"}
    for wrong in ({"method_args": {"lora_alpha": float("inf")}}, {"interpolation": [float("nan")]}):
        with pytest.raises(FtlibError, match=r"found (inf|nan); allowed"):
            ftlib.Experiment(**asked, **wrong)


OURS = [
    *METRICS, *METHODS, *COLUMNS, "macro", "micro", "binary", "value", "low", "high", "n", "reason", "f1",
    "groups", "gaps",
    "before", "after", "test", "validation", "general", "base model", "nan", "text", "score_label",
    "(blank)", "a.b", "=1+1",
]  # fmt: skip
"""Names that the library has for something."""


@pytest.mark.parametrize(
    "labels",
    [("macro", "micro"), ("binary", "text"), ("value", "n"), ("label", "id", "cluster")]
    + [tuple(sorted(random.Random(seed).sample(OURS, 2 + seed % 5))) for seed in range(20)],
)
def test_labels_and_groups_may_be_called_like_what_the_library_has(labels):
    truth = [labels[place % len(labels)] for place in range(30)]
    texts = pd.DataFrame({"id": [str(n) for n in range(30)], "text": "a", "label": truth, "group_value": truth})
    rows = np.tile([0.7, *[0.3 / (len(labels) - 1)] * (len(labels) - 1)], (30, 1))
    table = predictions_table("after", "test", texts, labels, rows)
    assert len(set(table.columns)) == len(table.columns)
    assert {f"score_{label}" for label in labels} <= set(table.columns)
    found, said = measure(table, labels), [labels[0]] * 30
    assert found["f1_macro"]["value"] == pytest.approx(f1_score(truth, said, average="macro", zero_division=0))
    each = f1_score(truth, said, labels=list(labels), average=None, zero_division=0)
    assert [found["f1"][label]["value"] for label in labels] == pytest.approx(list(each))
    leaves = flat({"after": {"test": found}})
    assert leaves["after.test.f1_macro"] is found["f1_macro"]
    held = {id(leaf) for leaf in leaves.values()}
    assert len(held) == len(leaves) and all(id(found["f1"][label]) in held for label in labels)


def recorded(study, seed, entry, value):
    """A record of the study, with another model or other data in its provenance."""
    spec = ftlib.Experiment(task="file:opinions", model="tiny", method="probe", train_limit=20, seed=seed)
    ftlib.run(spec, study / "runs" / spec.run_id)
    path = study / "runs" / spec.run_id / "record.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["provenance"][entry] = value or record["provenance"][entry]
    path.write_text(json.dumps(record), encoding="utf-8")


@pytest.mark.parametrize(
    ("entry", "said"),
    [("model_sha256", "other weights"), ("model_files_sha256", "other model files"), ("data_sha256", "other data")],
)
def test_seeds_of_two_models_are_never_averaged(at_home, tmp_path, entry, said):
    for seed, value in ((0, ""), (1, ""), (2, "f" * 64)):
        recorded(tmp_path, seed, entry, value)
    study = read_study(tmp_path)
    assert sorted(len(group.runs) for group in study.groups) == [1, 2]
    assert len({group.name for group in study.groups}) == 2
    (note,) = [note for note in study.notes if said in note]
    assert note.startswith(f"{short_name('file:opinions')}: some runs") and "never averaged" in note


def test_records_from_before_there_was_such_an_entry_stay_together(at_home, tmp_path):
    for seed in (0, 1):
        recorded(tmp_path, seed, "model_sha256", "")
    path = next(tmp_path.glob("runs/*/record.json"))
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["provenance"]["model_files_sha256"]
    path.write_text(json.dumps(record), encoding="utf-8")
    (group,) = read_study(tmp_path).groups
    assert len(group.runs) == 2


def test_values_without_an_interval_are_shown_as_such():
    leaf = {"value": 1.2341, "low": None, "high": None, "n": 1}
    metrics = {
        "before": {"test": {"bits_per_byte": leaf}},
        "after": {"test": {"bits_per_byte": leaf | {"low": 1.0, "high": 2.0}}},
    }
    record = RunRecord("0", "ok", {}, metrics=metrics)
    shown = ftlib.states(record, "bits_per_byte")._repr_html_()
    assert "1.234 (no interval: one document)" in shown and "1.234 (1.000 to 2.000)" in shown
    assert "1.234 (none)" in record._repr_html_() and "1.000 to 2.000" in record._repr_html_()


def test_a_run_of_two_tasks_can_be_pictured():
    leaf = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}
    stages = {"before": ("test", "reviews"), "after_1": ("test", "reviews"), "after": ("test", "reviews")}
    metrics = {stage: {part: {"accuracy": leaf} for part in parts} for stage, parts in stages.items()}
    spec = ftlib.Experiment(task="pydocs", method="full", sequential_tasks=["reviews"])
    record = RunRecord(spec.run_id, "ok", {"resolved": spec.resolved()}, metrics=metrics)
    assert ftlib.pictured(record)._repr_html_()
