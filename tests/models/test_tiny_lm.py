"""The bundled language model: what is stored is what its card says, and adapting it does what the demo shows."""

import csv
import json
import math

import pytest
import torch
from conftest import ROOT

import ftlib
from ftlib.config.experiment import Experiment
from ftlib.core.errors import FtlibError
from ftlib.data import general
from ftlib.metrics.language import bits_per_byte
from ftlib.models import weights
from ftlib.models.loading import count, load_model

FOLDER = ROOT / "data" / "tiny-lm"


def test_it_is_found_checked_and_small():
    model = load_model("tiny-lm")
    assert (model.family, model.context, model.speaks) == ("decoder", 1024, True)
    assert model.sha256 == weights.SHA256["tiny-lm"]
    assert count(model) == 7_212_288
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 25e6
    assert {path.suffix for path in FOLDER.iterdir()} <= {".json", ".safetensors", ".md", ".py", ".csv", ".svg"}


def test_other_weights_under_its_name_are_refused(monkeypatch):
    monkeypatch.setitem(weights.SHA256, "tiny-lm", "0" * 64)
    with pytest.raises(FtlibError, match="refused"):
        load_model("tiny-lm")


def test_any_text_can_be_written_and_read_back():
    tokenizer = load_model("tiny-lm").tokenizer
    for text in ("plain", "  indented\n\n\ttabs 3.14159", "naïve — “quotes” 漢字 🙂", "\x00\x7f"):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    assert tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id


def test_it_predicts_ordinary_english_about_as_its_card_says():
    model = load_model("tiny-lm")
    texts = general.load_general()["text"].tolist()[:16]
    found = ftlib.score_text(model.speaker(), model.tokenizer, texts, context=512, stride=256)
    assert bits_per_byte(found["nats"], found["n_bytes"]) < 1.6
    assert math.isfinite(found["nats"].sum())


def test_it_continues_a_sentence_with_words():
    model = load_model("tiny-lm")
    inputs = model.tokenizer("The old man looked out of the", return_tensors="pt")
    with torch.inference_mode():
        out = model.speaker().generate(**inputs, max_new_tokens=12, do_sample=False, pad_token_id=1)
    said = model.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :])
    assert said.strip() and sum(letter.isalpha() or letter in " .,;'\"-" for letter in said) > 0.8 * len(said), said


def test_the_loss_curve_is_there_as_picture_and_table():
    rows = list(csv.DictReader((FOLDER / "loss.csv").read_text(encoding="utf-8").splitlines()))
    tokens = [int(row["tokens"]) for row in rows]
    assert tokens == sorted(tokens) and len(tokens) > 10
    assert float(rows[-1]["valid_bits_per_byte"]) < float(rows[0]["valid_bits_per_byte"])
    assert "<svg" in (FOLDER / "loss.svg").read_text(encoding="utf-8")
    assert json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))["architectures"] == ["LlamaForCausalLM"]


@pytest.mark.slow
def test_adapting_it_to_documentation_lowers_its_bits_per_byte_by_far():
    spec = Experiment(
        task="pydocs_text",
        model="tiny-lm",
        method="full",
        train_limit=300,
        epochs=1.0,
        learning_rate=1e-3,
        eval_limit=60,
        evaluations=["general"],
    )
    record = ftlib.run(spec)
    assert record.value("after.test.bits_per_byte") < 0.85 * record.value("before.test.bits_per_byte")
    assert record.value("after.general.bits_per_byte") != record.value("before.general.bits_per_byte")
