"""Every method's model, saved for every family, answers alike in a fresh process without ftlib, and read again."""

import functools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tiny_models
import tiny_translators
import torch
import toy
import transformers

import ftlib
from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core.errors import FtlibError
from ftlib.execution import predict as predicting
from ftlib.execution import saved as keeping
from ftlib.execution.saved import keep
from ftlib.metrics import calibration
from ftlib.models import export
from ftlib.models.export import load_adapted

MODELS = {"encoder": "tiny", "decoder": "small", "encoder-decoder": "t5s"}
TEXT, WRITTEN = "language-modeling", "text-to-text"


class Case(NamedTuple):
    """One model to save."""

    method: str
    model: str
    fields: dict
    merge: bool = False


def cases() -> dict[str, Case]:
    """Every method of the table for every family of every kind that it serves; and what can go wrong in saving."""
    found = {}
    for name, row in METHODS.items():
        for kind, families in row.serves.items():
            for family in families if row.model else families[:1]:
                if not row.saves or row.needs or (row.peft == "" and name == "bitfit" and family != "encoder"):
                    continue
                more = {"task": "file:notes.txt", "label_words": {}} if kind == TEXT else {}
                if row.needs_shots:
                    more["shots"] = 1
                if row.merges:
                    more["joint_tasks"] = ["file:topics"]
                if row.stacks:
                    more["sequential_tasks"] = ["file:topics"]
                if {"layers", "k"} & set(row.arguments):
                    more["method_args"] = dict.fromkeys({"layers", "k"} & set(row.arguments), 1)
                if row.groups:
                    more |= {"task": "file:sided", "group_columns": ["who"]}
                if kind == WRITTEN or (kind == TEXT and (family == "encoder" or row.merges or row.stacks)):
                    continue
                found[f"{name}-{family}-{kind}"] = Case(name, MODELS[family], more)
    for method, model, more in (
        ("full", "t5s", {}), ("lora", "t5s", {"instruction": "to German: {text}"}), ("full", "small", {}),
        ("full", "marian", {"num_beams": 2}), ("lora", "translator", {"num_beams": 3, "length_penalty": 2.0}),
        ("lora", "small", {"num_beams": 2}), ("zero_shot", "small", {}), ("prompt_tuning", "small", {}),
        ("prompt_tuning", "t5s", {}), ("in_context", "small", {"train_limit": 2}),
        ("full", "writer_foreign", {"sequential_tasks": ["file:other"]}),
    ):  # fmt: skip
        pairs = {"task": "file:pairs", "label_words": {}, "max_length": 24, "max_new_tokens": 8}
        found[f"{method}-{model}-{WRITTEN}"] = Case(method, model, pairs | more)
    for model in ("t5s", "marian", "translator", "small"):
        found[f"lora merged into {model}-{WRITTEN}"] = Case("lora", model, pairs, merge=True)
    topics, sequence = {"joint_tasks": ["file:topics"]}, {"sequential_tasks": ["file:topics"]}
    found |= {
        "merged into the weights": Case("lora", "tiny", {}, merge=True),
        "dora merged": Case("dora", "small", {}, merge=True),
        "tied embeddings, adapter": Case("lora", "tied", {}),
        "tied embeddings, merged": Case("lora", "tied", {}, merge=True),
        "tied embeddings, all weights": Case("full", "tied", {}),
        "padding on the left": Case("full", "left", {}),
        "padding on the left, adapter": Case("lora", "left", {}),
        "padding on the left, head on features": Case("probe", "left", {}),
        "a decoder padded on the left": Case("lora", "writer_left", {}),
        "a foreign pad token": Case("lora", "foreign", {}),
        "a foreign pad token of a decoder": Case("full", "writer_foreign", {}),
        "labels in reverse": Case("full", "stored", {}),
        "labels in reverse, adapter": Case("lora", "stored", {}),
        "head on the last token": Case("lora", "reads_last", {}),
        "joint tasks": Case("full", "tiny", topics),
        "joint tasks, adapter": Case("lora", "tiny", topics),
        "joint tasks, merged": Case("lora", "tiny", topics, merge=True),
        "joint tasks of a decoder": Case("lora", "small", topics),
        "in sequence": Case("full", "tiny", sequence),
        "in sequence, adapter": Case("lora", "tiny", sequence),
        "weighted": Case("full", "tiny", {"task": "file:sided", "group_columns": ["who"], "mitigation": "reweight"}),
    }
    return found


CASES = cases()


def altered(home, base, name, **said):
    """A copy of a model whose tokenizer's configuration says otherwise."""
    folder = home / name
    shutil.copytree(home / base, folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | said), encoding="utf-8")


def more_models(home):
    """Models whose saved form can differ from what was trained."""
    for family, name, how in (
        ("llama", "small", {}), ("t5", "t5s", {}), ("gpt2", "tied", {}),
    ):  # fmt: skip
        module, words = tiny_models.build(family, **how)
        with torch.no_grad():
            for parameter in module.parameters():
                # Smaller weights: answers that are nearly certain would hide a difference.
                parameter.mul_(0.4 if parameter.ndim > 1 else 1.0)
        module.save_pretrained(home / name)
        words.save_pretrained(home / name)
    assert transformers.AutoConfig.from_pretrained(home / "tied").tie_word_embeddings
    tiny_translators.tiny("marian", home / "marian")
    shutil.copytree(home / "pairs", home / "other")
    altered(home, "tiny", "left", padding_side="left")
    altered(home, "tiny", "foreign", pad_token="[SEP]")
    altered(home, "small", "writer_left", padding_side="left")
    altered(home, "small", "writer_foreign", pad_token="<mask>")
    config = transformers.AutoConfig.from_pretrained(home / "tiny")
    config.id2label, config.label2id = {0: "good", 1: "bad"}, {"good": 0, "bad": 1}
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    transformers.AutoModelForSequenceClassification.from_pretrained(home / "tiny", config=config).save_pretrained(
        home / "stored"
    )
    transformers.AutoTokenizer.from_pretrained(home / "tiny").save_pretrained(home / "stored")
    transformers.LlamaModel.from_pretrained(home / "small").save_pretrained(home / "reads_last")
    transformers.AutoTokenizer.from_pretrained(home / "small").save_pretrained(home / "reads_last")
    transformers.utils.logging.set_verbosity(level)
    rows = [(text, label, "w" if place % 2 else "m") for place, (text, label) in enumerate(toy.opinions())]
    start = 0
    for split, size in toy.SIZES.items():
        toy.write_rows(home / "sided" / f"{split}.csv", rows[start : start + size])
        start += size
        path = home / "sided" / f"{split}.csv"
        path.write_text("text,label,who\n" + path.read_text(encoding="utf-8").partition("\n")[2], encoding="utf-8")


def spec_of(case):
    trains = {"epochs": 1.0, "min_steps": 0, "batch_size": 8, "learning_rate": 0.003, "validations": 1}
    given = {"task": "file:opinions", "label_words": toy.LABEL_WORDS, "max_length": 12, "dtype": "float32"}
    given |= trains if METHODS[case.method].trains else {}
    limit = {} if METHODS[case.method].untouched or "shots" in case.fields else {"train_limit": 12}
    return Experiment(method=case.method, model=case.model, **given | limit | case.fields)


class Made(NamedTuple):
    """A model as the run has it, and as a process without ftlib and `load_adapted` answer for it."""

    saved: export.SavedModel
    asked: export.Asked
    own: dict
    alone: dict


EVERY_FAMILY = ("full", "lora", "zero_shot", "probe")
ALIKE = ("rslora", "dora", "pissa", "ia3", "vera", "miss", "hira", "oft", "delora", "randlora")


def marked() -> list:
    """The cases; of most methods, all but the first family of each are slow.

    A model, an adapter, a prompt and a head on features are saved for every family. Other adapters are files that peft
    writes and reads in the same way: tests/methods/test_adapters.py.
    """
    found, seen = [], {}
    for name, case in CASES.items():
        first = seen.setdefault(case.method, name)
        again = first != name and name.startswith(f"{case.method}-") and case.method not in EVERY_FAMILY
        again |= name.startswith(f"{case.method}-encoder") and case.method in ALIKE
        again |= name in (f"lora merged into {model}-{WRITTEN}" for model in ("translator", "small"))
        found.append(pytest.param(name, marks=pytest.mark.slow) if again else name)
    return found


@pytest.fixture(scope="session")
def saved_home(toy_home):
    """The working directory, with more models."""
    more_models(toy_home)
    return toy_home


@pytest.fixture(scope="session")
def made(saved_home, tmp_path_factory):
    """(name of a case) -> what it gives, trained for a step or two, saved, and asked in a fresh process, once."""
    return functools.cache(functools.partial(_made, saved_home, tmp_path_factory.mktemp("saved")))


def _made(home: Path, out: Path, name: str) -> Made:
    case = CASES[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("FTLIB_CACHE", str(home / "cache"))
        spec = spec_of(case)
        task, model = ftlib.open_task(spec), ftlib.open_model(spec)
        predictor = ftlib.adapt(spec, task, model).predictor
        saved = predictor.saved.ready(spec)
        folder = out / str(list(CASES).index(name))
        export.write(folder, saved, merge=case.merge)
        own = saved.facts["task"]
        tests = {one: task if one == own else predictor.members[one][0] for one in saved.questions}
        rows = {one: other.splits["test"] for one, other in tests.items()}
        asked = export.asked_of(saved, folder, rows, keeping._column(spec, task))
        answers = {own: predictor} | {one: predictor.members[one][1] for one in rows if one != own}
        said = {one: answers[one].probabilities(texts) for one, texts in asked.texts.items() if saved.labels}
        (alone,), peak = export.ask_alone([asked])
        assert peak is None or peak > 1e8
    return Made(saved, asked, said, alone)


@pytest.mark.parametrize("name", marked())
def test_a_saved_model_answers_alike_without_ftlib_and_when_it_is_read_again(made, name, toy_home, monkeypatch):
    monkeypatch.chdir(toy_home)
    one = made(name)
    assert export.difference(one.saved, one.asked, one.alone) <= export.TOLERANCE
    back = load_adapted(one.asked.folder, dtype="float32", threads=1)
    assert export.difference(back, one.asked, one.alone) <= export.TOLERANCE
    for task, wanted in one.own.items():
        # The run's own predictor, by whichever way it goes.
        assert np.abs(one.alone[task] - wanted).max() <= export.TOLERANCE
        assert wanted.shape[1] == len(back.question(task).labels)
    for task, targets in (one.asked.targets or {}).items():
        # Of two tokens that are alike likely, rounding chooses: not every text need be the same.
        same = one.alone[task][:, 2] == np.array(one.saved.write(one.asked.texts[task], task), object)
        assert same.mean() > 0.5 and len(same) == len(targets) and all(one.alone[task][:, 0] > 0)
        assert back.write(one.asked.texts[task], task) == one.saved.write(one.asked.texts[task], task)
    files = {path.name for path in one.asked.folder.iterdir()}
    assert not {path for path in files if path.endswith((".bin", ".pkl", ".pt", ".pickle"))}


def test_every_method_of_the_table_is_saved_for_every_family_or_says_that_it_is_not():
    without = {name for name, row in METHODS.items() if not row.saves}
    assert without == {"ngram", "copy"}
    tested = {case.method for case in CASES.values()}
    # What needs CUDA cannot be made here.
    assert set(METHODS) - without - tested == {name for name, row in METHODS.items() if row.needs}


def test_what_is_saved_says_labels_and_cut_and_answers_texts(made):
    one = made("labels in reverse")
    config = json.loads((one.asked.folder / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "bad", "1": "good"}
    back = load_adapted(one.asked.folder, dtype="float32")
    found = back.predict(["never again", "word " * 40])
    assert found.cut.tolist() == [False, True] and set(found.labels) <= {"bad", "good"}
    assert back.predict([]).labels.tolist() == []
    both = load_adapted(made("joint tasks").asked.folder)
    assert list(both.questions) == ["opinions", "topics"]
    assert both.question("file:topics") == both.question("topics"), "as the suite calls it, too"
    assert predicting._asked(both, "topics") == "task topics (--task asks about opinions)"
    assert predicting._asked(both, "").startswith(f"task {both.facts['task']} (--task asks about ")
    with pytest.raises(FtlibError, match="adapted to opinions, topics"):
        both.predict(["a"], task="weather")


def test_a_run_keeps_its_model_and_records_how_it_was_checked(at_home, tmp_path):
    spec = Experiment(task="file:opinions", model="tiny", method="probe", dtype="float32", max_length=24, save=True)
    assert spec.run_id == spec.model_copy(update={"save": False}).run_id, "keeping it changes nothing about it"
    run_dir = tmp_path / spec.run_id
    record = ftlib.run(spec, run_dir)
    said = record.provenance["saved"]
    assert said["largest_difference"] <= export.TOLERANCE and said["difference_to_record"] <= export.TOLERANCE
    assert said["n"] == toy.SIZES["test"] and said["bytes"] > 0 and "16 examples" in said["temperature"]["reason"]
    assert record.cost["predict_memory_bytes"] > 1e8 and record.cost["predict_examples_per_second"] > 0
    low, high = (record.cost[f"predict_latency_{name}_seconds"] for name in ("median", "p99"))
    assert 0 < low <= high
    table = ftlib.read_predictions(run_dir)
    test = table[(table["stage"] == "after") & (table["part"] == "test")]
    texts = ftlib.load_task("file:opinions").splits["test"]["text"].tolist()
    assert ftlib.load_adapted(run_dir).predict(texts).labels.tolist() == test["prediction"].tolist()


def test_a_model_that_answers_otherwise_is_no_result(at_home, tmp_path, monkeypatch):
    spec = Experiment(task="file:opinions", method="tfidf", max_length=24, save=True)
    task = ftlib.open_task(spec)
    predictor = ftlib.adapt(spec, task, None).predictor
    write = export.write

    def other(folder, saved, **more):
        arrays = {**saved.head.arrays, "bias": saved.head.arrays["bias"] + [0.0, 0.01]}
        write(folder, export.SavedModel(None, None, replace(saved.head, arrays=arrays), saved.facts), **more)

    monkeypatch.setattr(export, "write", other)
    with pytest.raises(FtlibError, match=r"answers otherwise: by up to .* on 24 test examples; allowed: 1e-05"):
        keep(tmp_path / "model", spec, task, None, predictor, None)
    assert not list(tmp_path.iterdir())


def test_no_saved_model_is_said(tmp_path):
    with pytest.raises(FtlibError, match="no saved model here; allowed"):
        load_adapted(tmp_path)
    (tmp_path / export.FACTS).write_text("{", encoding="utf-8")
    with pytest.raises(FtlibError, match="cannot be read as a saved model"):
        load_adapted(tmp_path)


def test_a_learned_prompt_cannot_be_merged(made, tmp_path):
    saved = made("prompt_tuning-decoder-classification").saved
    with pytest.raises(FtlibError, match="--merge: prompt_tuning stands before the text"):
        export.write(tmp_path / "out", saved, merge=True)


def test_a_temperature_undoes_one():
    rng = np.random.default_rng(0)
    plain = rng.dirichlet([1, 1, 1], size=2000)
    labels = [rng.choice(3, p=row) for row in plain]
    sure = calibration.at_temperature(plain, 0.5)
    assert calibration.temperature_of(sure, labels) == pytest.approx(2.0, rel=0.1)
