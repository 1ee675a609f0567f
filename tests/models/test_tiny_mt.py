"""The bundled translation model: what is stored is what its card says, it writes German, and its recipe resumes."""

import csv
import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from ftlib.config.experiment import Experiment
from ftlib.core.errors import FtlibError
from ftlib.models import weights
from ftlib.models.loading import count, load_model

FOLDER = ROOT / "data" / "tiny-mt"

SENTENCES = ["Do you need money?", "The file %(name)s could not be saved.", "Enter your password to continue."]

TEXTS = ["plain", "Größe: 3.14 €", "naïve — “quotes” 漢字 🙂", "%(name)s: %1 of {0} in <b>&amp;</b>"]


@pytest.fixture(scope="module")
def translate():
    tokenizer = AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)
    model = AutoModelForSeq2SeqLM.from_pretrained(FOLDER, local_files_only=True)

    def said(texts):
        inputs = tokenizer(texts, return_tensors="pt", padding=True)
        out = model.generate(**inputs, do_sample=False, max_new_tokens=40, max_length=None)
        return tokenizer.batch_decode(out, skip_special_tokens=True)

    return said


def test_it_is_found_checked_and_small():
    model = load_model("tiny-mt")
    assert (model.family, model.context) == ("encoder-decoder", 256)
    assert model.sha256 == weights.SHA256["tiny-mt"]
    assert count(model) == 5_259_776
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 20e6
    assert {path.suffix for path in FOLDER.iterdir()} <= {".json", ".safetensors", ".md", ".py", ".csv", ".svg"}
    assert json.loads((FOLDER / "config.json").read_text(encoding="utf-8"))["architectures"] == ["MarianMTModel"]


def test_other_weights_under_its_name_are_refused(monkeypatch):
    monkeypatch.setitem(weights.SHA256, "tiny-mt", "0" * 64)
    with pytest.raises(FtlibError, match="refused"):
        load_model("tiny-mt")


def test_any_text_can_be_written_and_read_back():
    tokenizer = load_model("tiny-mt").tokenizer
    for text in (*TEXTS, "am 3. Mai 1999, 64-Bit"):
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text and ids[-1] == tokenizer.eos_token_id


def test_it_translates_to_something_that_is_not_the_source(translate):
    said = translate(SENTENCES)
    assert translate(SENTENCES) == said
    for source, target in zip(SENTENCES, said, strict=True):
        assert target.strip() and target != source
        assert sum(letter.isalpha() or letter in " .,?!%()'" for letter in target) > 0.8 * len(target)


def test_the_loss_curve_is_there_as_picture_and_table():
    rows = list(csv.DictReader((FOLDER / "loss.csv").read_text(encoding="utf-8").splitlines()))
    tokens = [int(row["target_tokens"]) for row in rows]
    assert tokens == sorted(tokens) and len(tokens) > 10
    assert all(float(rows[-1][name]) < float(rows[0][name]) for name in ("tatoeba", "ms_docs", "github_ui"))
    assert "<svg" in (FOLDER / "loss.svg").read_text(encoding="utf-8")


def test_a_task_of_interface_strings_can_be_measured_with_it():
    import ftlib

    spec = Experiment(task="uistrings", model="tiny-mt", method="zero_shot", eval_limit=12, dtype="float32")
    record = ftlib.run(spec)
    assert record.status == "ok"
    for part in ("test", "tests.websites"):
        assert 0 < record.metrics["before"][part]["chrf"]["value"] <= 100


@pytest.mark.slow
def test_the_recipe_learns_from_any_pairs_and_goes_on_where_it_stopped(tmp_path):
    corpus = tmp_path / "pairs.tsv"
    lines = [f"open file {n} x86\tDatei {n} x86 öffnen\tui:here" for n in range(300)]
    corpus.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [sys.executable, FOLDER / "train.py", "--corpus", corpus, "--work", tmp_path / "work", "--every", "1"]
    command += ["--width", "64", "--inner", "64", "--layers", "1", "1", "--vocabulary", "300", "--batch", "512"]
    seen = []
    for minutes in ("0.03", "0.06"):
        out = subprocess.run([*command, "--minutes", minutes], capture_output=True, text=True, check=True).stdout
        seen.append(int(re.search(r"([\d,]+) target tokens seen", out)[1].replace(",", "")))
    assert seen[1] > seen[0] > 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "work" / "export", local_files_only=True)
    for text in (*TEXTS, "x86_64 2nd 3 D 1999"):
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "work" / "export", local_files_only=True)
    assert model.config.architectures == ["MarianMTModel"]
