"""Text-to-text tasks: read, written, measured, compared; figures are sacrebleu's, what is written is `generate`'s."""

import json
import math
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tiny_translators
import torch
import transformers
from pages import read
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest
from thorough import crossed

import ftlib
from ftlib import cli, records
from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core.errors import FtlibError
from ftlib.data.kinds import KINDS
from ftlib.data.registry import kind_of, load_task
from ftlib.metrics import text
from ftlib.metrics.registry import METRICS
from ftlib.models.generation import Decoding, generate
from ftlib.report import build
from ftlib.stats.verdict import compare

FAMILIES = ("t5", "bart", "marian")
QUICK = {"epochs": 0.1, "min_steps": 0, "batch_size": 4, "train_limit": 24, "validations": 1}
SHORT = {"task": "file:pairs", "max_length": 48, "eval_limit": 5, "dtype": "float32"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A working directory with pairs/ (a task) and t5/, bart/, marian/ (models)."""
    home = tmp_path_factory.mktemp("translators")
    tiny_translators.write_pairs(home / "pairs")
    for family in FAMILIES:
        tiny_translators.tiny(family, home / family)
    return home


@pytest.fixture
def at(home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setenv("FTLIB_CACHE", str(home / "cache"))
    # What using a model costs is measured for two seconds after each training.
    monkeypatch.setattr("ftlib.execution.saved.SECONDS", 0.0)
    return home


# Metrics.


def damaged(references, rng):
    """References with words lost and replaced, one in twenty of them empty."""
    found = []
    for reference in references:
        words = [word for word in reference.split() if rng.random() > 0.15]
        words = [word if rng.random() > 0.2 else "etwas" for word in words]
        found.append("" if rng.random() < 0.05 else " ".join(words))
    return found


@pytest.fixture(scope="module")
def corpus():
    rng = np.random.default_rng(0)
    nouns = ["Hund", "Katze", "Straße", "Kind", "Rechner", "Wolke", "Zeitung", "Brücke"]
    verbs = ["sieht", "trägt", "hört", "findet"]
    references = [
        f"Der {rng.choice(nouns)} {rng.choice(verbs)} die {rng.choice(nouns)}, und {rng.choice(nouns)} {i} auch."
        for i in range(120)
    ]
    return references, damaged(references, rng), damaged(references, rng)


OURS = {"bleu": BLEU, "chrf": CHRF, "ter": TER}


@pytest.mark.parametrize("metric", OURS)
def test_figures_and_signatures_are_sacrebleus(metric, corpus):
    references, hypotheses, _ = corpus
    scorer = OURS[metric]()
    assert text.score(metric, references, hypotheses) == pytest.approx(
        scorer.corpus_score(hypotheses, [references]).score, abs=1e-9
    )
    assert text.signature(metric) == str(scorer.get_signature())
    for start in range(12):
        few = references[start : start + 2], hypotheses[start : start + 2]
        expected = OURS[metric]().corpus_score(few[1], [few[0]]).score
        assert text.score(metric, *few) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", OURS)
def test_intervals_are_those_of_sacrebleus_bootstrap(metric, corpus, monkeypatch):
    """Sampling segments 1,000 times and influences of single segments say the same."""
    monkeypatch.setenv("SACREBLEU_SEED", "1")
    references, hypotheses, _ = corpus
    drawn = OURS[metric]().corpus_score(hypotheses, [references], n_bootstrap=1000)
    counts = text.counts_of(metric, references, hypotheses)[None]
    found = text.corpus_interval(metric, counts, bounds=METRICS[metric].bounds)
    assert (found.high - found.low) / 2 == pytest.approx(drawn._ci, rel=0.15)
    assert found.low < found.value < found.high


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
def test_our_verdict_agrees_with_sacrebleus_paired_tests(metric, corpus, monkeypatch):
    monkeypatch.setenv("SACREBLEU_SEED", "1")
    references, first, second = corpus
    third = [
        reference if i % 3 else hypothesis for i, (reference, hypothesis) in enumerate(zip(*corpus[:2], strict=True))
    ]
    for a, b, differ in ((first, second, False), (first, third, True)):
        values = [text.influences(metric, text.counts_of(metric, references, one)[None]) for one in (a, b)]
        ours = compare(*values, margin=0.5, rng=np.random.default_rng(0))
        for kind in ("bs", "ar"):
            test = PairedTest([("a", a), ("b", b)], {metric: OURS[metric](references=[references])}, None, kind, 400)
            _, scores = test()
            p = scores[next(name for name in scores if name.lower().startswith(metric))][1].p_value
            assert (p < 0.05) == differ == (ours.p_value < 0.05)


def test_an_empty_hypothesis_is_counted_and_references_that_cannot_be_are_refused(corpus):
    references, hypotheses, _ = corpus
    empty = sum(not one for one in hypotheses)
    assert empty and text.empty_share(references, hypotheses) == pytest.approx(empty / len(references))
    assert text.score("bleu", ["ein Satz"], [""]) == text.score("chrf", ["ein Satz"], [""]) == 0
    with pytest.raises(FtlibError, match="2 references and 1 hypotheses"):
        text.bleu(["a", "b"], ["a"])
    with pytest.raises(FtlibError, match="1 of 2 are empty, the first is number 2"):
        text.chrf(["a", " "], ["a", "b"])
    with pytest.raises(FtlibError, match=r"references: number 1 is a list; .* \(sacrebleu's lists"):
        text.chrf([["a", "b"]], ["a"])
    assert math.isnan(text.score("bleu", [], []))


# Data.


def test_a_table_of_source_and_target_is_a_text_to_text_task(at):
    task = load_task("file:pairs")
    assert task.kind == kind_of("file:pairs") == "text-to-text" and not task.labels
    assert list(task.splits["train"]) == ["id", "text", "label"] and len(task.splits["test"]) == 25
    assert task.splits["train"]["label"].str.startswith("die ").all()
    assert "bytes of references" in task._repr_html_()


def aligned(folder, sources, targets, stem="corpus"):
    folder.mkdir(exist_ok=True)
    (folder / f"{stem}.en").write_text("".join(f"{one}\n" for one in sources), encoding="utf-8")
    (folder / f"{stem}.de").write_text("".join(f"{one}\n" for one in targets), encoding="utf-8")
    return folder / stem


PAIRS = [(f"line {n}", f"Zeile {n}") for n in range(40)]


def test_aligned_files_tmx_and_named_columns_are_read_alike(tmp_path):
    path = aligned(tmp_path, *zip(*PAIRS, strict=True))
    units = "".join(
        f'<tu><tuv xml:lang="en-US"><seg>{one}</seg></tuv><tuv xml:lang="de"><seg>Zeile <b>{n}</b></seg></tuv></tu>'
        for n, (one, _) in enumerate(PAIRS)
    )
    head = '<?xml version="1.0" encoding="UTF-8"?><tmx version="1.4"><header srclang="en-US"/><body>'
    (tmp_path / "memory.tmx").write_text(f"{head}{units}</body></tmx>", encoding="utf-8")
    rows = [json.dumps({"en": one, "de": other}) for one, other in PAIRS]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    names = (f"file:{path}:en>de", f"file:{tmp_path}/memory.tmx", f"file:{tmp_path}/memory.tmx:en>de")
    tasks = [load_task(name) for name in (*names, f"file:{tmp_path}/rows.jsonl:en>de")]
    assert len({task.sha256 for task in tasks}) == 1 and len(tasks[0].splits["train"]) == 28
    back = load_task(f"file:{path}:de>en")
    assert back.splits["test"]["text"].str.startswith("Zeile").all()
    for split in ("train", "test"):
        aligned(tmp_path / "folder", *zip(*PAIRS, strict=True), stem=split)
    assert len(load_task(f"file:{tmp_path}/folder:en>de").splits["test"]) == 40
    with pytest.raises(FtlibError, match="say which is the source"):
        load_task(f"file:{tmp_path}/folder")


def test_a_direction_names_the_columns_that_a_table_has(tmp_path):
    rows = [{"source": one, "target": other, "en": one.upper(), "de": other.upper()} for one, other in PAIRS]
    (tmp_path / "four.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")

    def first(direction):
        task = load_task(f"file:{tmp_path}/four.jsonl{direction}")
        return task.splits["train"].iloc[0][["text", "label"]].tolist(), task.stated

    (source, target), _ = first("")
    assert (source[:4], target[:5]) == ("line", "Zeile")
    (source, target), said = first(":de>en")
    assert (source[:5], target[:4]) == ("ZEILE", "LINE") and said["direction"] == "de to en"
    (source, target), _ = first(":target>source")
    assert (source[:5], target[:4]) == ("Zeile", "line")
    _, said = first(":fr>it")
    assert said["direction"] == "fr to it, read from the columns source and target"
    refused(f"file:{tmp_path}/four.jsonl:source>it", "no column 'it'")


def test_units_without_one_of_the_languages_are_counted(tmp_path):
    units = "".join(
        f'<tu><tuv xml:lang="en"><seg>{one}</seg></tuv>'
        + f'<tuv xml:lang="de"><seg>{other}</seg></tuv>' * (n % 4 > 0)
        + "</tu>"
        for n, (one, other) in enumerate(PAIRS)
    )
    (tmp_path / "some.tmx").write_text(f'<tmx><header srclang="en"/><body>{units}</body></tmx>', encoding="utf-8")
    said = load_task(f"file:{tmp_path}/some.tmx").stated
    assert said["left out"] == "10 of 40 units, which lack one of these languages" and said["languages"] == "en to de"


def refused(name, said):
    with pytest.raises(FtlibError, match=said):
        load_task(name)


def test_pairs_that_cannot_be_are_refused_in_words(tmp_path):
    path = aligned(tmp_path, [one for one, _ in PAIRS], [other for _, other in PAIRS][1:])
    refused(f"file:{path}:en>de", "corpus.en has 40 lines and corpus.de 39")
    path = aligned(tmp_path, [one for one, _ in PAIRS], ["", *(other for _, other in PAIRS[1:])])
    refused(f"file:{path}:en>de", "corpus.en and corpus.de line 1: de is blank")
    (tmp_path / "lists.jsonl").write_text(json.dumps({"source": "a", "target": ["b", "c"]}) + "\n")
    refused(f"file:{tmp_path}/lists.jsonl", r"line 1: target is a list of 2 texts \(in 1 of 1 rows\)")
    (tmp_path / "wrong.csv").write_text("english,german\na,b\n")
    refused(f"file:{tmp_path}/wrong.csv:en>de", "no column 'en' and no column 'de'; columns: english, german")
    (tmp_path / "odd.tmx").write_text('<!DOCTYPE tmx [<!ENTITY a "b">]><tmx/>')
    refused(f"file:{tmp_path}/odd.tmx:en>de", "declares XML entities")
    (tmp_path / "three.tmx").write_text(
        '<tmx><body><tu><tuv xml:lang="en"><seg>a</seg></tuv><tuv xml:lang="fr"><seg>b</seg></tuv></tu></body></tmx>'
    )
    refused(f"file:{tmp_path}/three.tmx", "has the languages en, fr; say which is written from which")


def test_what_does_not_go_together_is_said_before_anything_runs(at):
    def said(**fields):
        with pytest.raises(FtlibError) as found:
            Experiment(**({"task": "file:pairs", "model": "t5"} | fields))
        return str(found.value)

    assert "setfit cannot be used on file:pairs, a text-to-text task" in said(method="setfit")
    assert "in_context on a text-to-text task needs a model of the family decoder" in said(method="in_context")
    assert "of the family decoder or encoder-decoder; minilm" in said(method="full", model="minilm")
    assert "one beam has nothing to choose between" in said(method="full", length_penalty=2.0)
    assert "must contain {text} once" in said(method="full", instruction="translate")
    assert "label_smoothing: zero_shot does not train" in said(label_smoothing=0.1)
    assert "method_args.template: is about labels" in said(method_args={"template": "It is {label}."})
    assert "num_beams: pydocs is a classification task" in said(task="pydocs", model="minilm", num_beams=4)
    assert "shots: are examples per class" in said(method="full", shots=4)
    assert "at most 128, as many tokens as bart has positions for" in said(method="full", model="bart", max_length=256)


def test_the_audit_finds_what_is_wrong_with_pairs(tmp_path):
    from ftlib.data.audit import audit

    rows = [
        {"source": f"the cat number {n} sleeps here", "target": f"die Katze Nummer {n} schläft da"} for n in range(60)
    ]
    swapped = [{"source": one["target"], "target": one["source"]} for one in rows[:20]]
    rows[3]["target"], rows[4]["target"] = rows[3]["source"], "ja"
    for split, some in (("train", rows), ("test", swapped)):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, some)), encoding="utf-8")
    found = {one.code: one for one in audit(load_task(f"file:{tmp_path}"))}
    assert found["swapped"].level == "problem" and "are source and target swapped?" in str(found["swapped"])
    assert found["same_pairs"].n == 1 and found["odd_pairs"].n == 1
    write = tiny_translators.write_pairs(tmp_path / "pairs")
    assert "swapped" not in {one.code for one in audit(load_task(f"file:{write}"))}


def test_old_pairs_of_the_task_are_replayed_where_there_are_any(at):
    from ftlib.execution.continual import begun, phase_of
    from ftlib.execution.scheduler import run_problems
    from ftlib.models.loading import load_model

    spec = Experiment(task="uistrings", model="t5", method="full", replay=0.2, train_limit=8)
    task = load_task("uistrings")
    shared, drawn = begun(spec, task, load_model("t5", device="cpu", dtype="float32"))
    frame = phase_of(spec, shared, 1, drawn)[1]
    assert len(frame) == 8 + round(0.2 * len(task.old)) and set(frame["text"][8:]) <= set(task.old["text"])
    lone = Experiment(**SHORT, model="t5", method="full", replay=0.2)
    assert any("replay: file:pairs has no old examples" in one for one in run_problems(lone, load_task("file:pairs")))


# Models.


@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses:UserWarning")
def test_pickled_weights_are_refused_with_the_command_that_converts_them(home, tmp_path, at, monkeypatch):
    from ftlib.models import weights

    folder = tmp_path / "pickled"
    folder.mkdir()
    for path in (home / "marian").iterdir():
        if path.suffix != ".safetensors":
            (folder / path.name).write_bytes(path.read_bytes())
    from safetensors.torch import load_file

    torch.save(load_file(home / "marian" / "model.safetensors"), folder / "pytorch_model.bin")
    with pytest.raises(FtlibError, match="loads no pickled weights") as found:
        weights.find(str(folder))
    monkeypatch.chdir(tmp_path)
    exec(re.search(r"python -c '(.+?)';", str(found.value))[1], {})
    assert weights.find(str(tmp_path / "pickled-safetensors")).sha256


def test_every_file_of_a_marian_tokenizer_counts(home):
    from ftlib.models.weights import model_digest

    before = model_digest(home / "marian")
    for name in ("source.spm", "target.spm", "vocab.json"):
        path = home / "marian" / name
        kept = path.read_bytes()
        path.write_bytes(kept + b" ")
        assert model_digest(home / "marian") != before, name
        path.write_bytes(kept)
    assert model_digest(home / "marian") == before


# What is written.

WORDS, ENDS = 16, [2, 5, 6]


@pytest.fixture(scope="module", params=[*FAMILIES, "mbart", "gpt2", "llama"])
def writer(request):
    """A random model of a family that ends its texts after some tokens, sooner or later."""
    if request.param in (*FAMILIES, "mbart"):
        model = tiny_translators.build(request.param, WORDS, pad=0, eos=2, bos=1)
    else:
        model = tiny_translators.decoder(request.param, WORDS, pad=0, eos=2, bos=1)
    model.generation_config.eos_token_id = ENDS
    return model


def by_transformers(model, inputs, beams, penalty, most, ends=(2,)):
    decodes, longest = not model.config.is_encoder_decoder, max(map(len, inputs))
    fill = [[0] * (longest - len(ids)) for ids in inputs]
    rows = [(space + ids) if decodes else (ids + space) for space, ids in zip(fill, inputs, strict=True)]
    there = [
        (space + [1] * len(ids)) if decodes else ([1] * len(ids) + space)
        for space, ids in zip(fill, inputs, strict=True)
    ]
    made = model.generate(
        input_ids=torch.tensor(rows), attention_mask=torch.tensor(there), do_sample=False,
        num_beams=beams, length_penalty=penalty, max_new_tokens=most,
    )  # fmt: skip
    found = []
    for row in made[:, longest if decodes else 1 :].tolist():
        found.append(row[: next((place for place, token in enumerate(row) if token in ends), len(row))])
    return found


@pytest.mark.parametrize(("beams", "penalty"), [(1, 1.0), (3, 1.0), (4, 0.6)])
def test_what_is_written_is_what_generate_writes(writer, beams, penalty):
    rng = np.random.default_rng(0)
    inputs = [[*rng.integers(7, WORDS, size=rng.integers(2, 14)).tolist(), 2] for _ in range(14)]
    if not writer.config.is_encoder_decoder:
        inputs = [ids[:-1] for ids in inputs]
    mine = generate(writer, inputs, Decoding(beams, penalty, 16), "float32")
    theirs = by_transformers(writer, inputs, beams, penalty, 16, ENDS)
    assert mine == theirs
    if writer.config.model_type in ("bart", "llama"):
        assert len({len(row) for row in mine}) > 1, "some texts end before others, and leave their batch"


def test_many_texts_of_many_lengths_leave_their_batch_at_different_times(writer):
    """More than an encoder reads at once, and caches that lose rows."""
    rng = np.random.default_rng(1)
    inputs = [[*rng.integers(7, WORDS, size=rng.integers(2, 30)).tolist(), 2] for _ in range(40)]
    for beams in (1, 2):
        expected = by_transformers(writer, inputs, beams, 1.0, 12, ENDS)
        assert generate(writer, inputs, Decoding(beams, 1.0, 12), "float32") == expected


def test_a_model_that_reads_its_source_again_is_left_to_generate(home):
    model = tiny_translators.build("bart", WORDS, pad=0, eos=2, bos=1)
    model.generation_config.encoder_no_repeat_ngram_size = 2
    inputs = [[5, 6, 7, 2], [8, 9, 2]]
    assert generate(model, inputs, Decoding(2, 1.0, 8), "float32") == by_transformers(model, inputs, 2, 1.0, 8)


# Methods.

TRAINED = [
    method.name
    for method in METHODS.values()
    if "text-to-text" in method.serves and method.trains and not method.needs and not method.merges
]


NO_FIT = {("bitfit", "t5"), ("ia3", "marian")}
"""T5 has no biases, and peft knows no layers of Marian for IA3; both are said before anything is trained."""


@pytest.mark.parametrize(("method", "family"), crossed(TRAINED, FAMILIES, ("full", "lora")))
def test_every_method_that_trains_serves_every_family(family, method, at):
    known = METHODS[method].arguments
    small = {"r": 2} if "r" in known else {"k": 1} if "k" in known else {}
    spec = Experiment(**SHORT, **QUICK, model=family, method=method, method_args=small, max_new_tokens=6)
    if (method, family) in NO_FIT:
        with pytest.raises(FtlibError, match=f"{method} does not fit {family}"):
            ftlib.run(spec)
        return
    record = ftlib.run(spec)
    found = record.metrics["after"]["test"]
    assert record.status == "ok" and found["chrf"]["n"] == 5
    assert found["bleu"]["signature"] == text.signature("bleu")
    assert set(found) == set(KINDS["text-to-text"].metrics) and set(record.metrics["before"]["test"]) == set(found)
    assert METHODS[method].trains and record.cost["written_tokens_per_second"] > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_training_learns_the_toy_language(family, at, tmp_path):
    """Forty steps; the untouched model knows none of its twelve words."""
    asked = SHORT | {"model": family, "method": "full", "epochs": 4.0, "batch_size": 10, "learning_rate": 0.01}
    ftlib.run(Experiment(**asked), tmp_path / "run")
    table = records.read_predictions(tmp_path / "run")
    before, after = (table[table["stage"] == stage] for stage in ("before", "after"))
    assert (after["n_tokens"].to_numpy() == before["n_tokens"].to_numpy()).all()
    assert after["nats"].sum() < 0.7 * before["nats"].sum()


def test_an_adapter_that_is_exported_into_the_weights_writes_what_the_record_says(at, tmp_path, capsys):
    """By the command line, of a run whose model was not kept; read by transformers alone."""
    from ftlib.cli import main

    asked = SHORT | QUICK | {"model": "bart", "epochs": 2.0, "learning_rate": 0.01}
    spec = Experiment(**asked, method="lora", method_args={"r": 2}, max_new_tokens=6)
    ftlib.run(spec, tmp_path / "study" / "runs" / spec.run_id)
    assert main(["export", str(tmp_path / "study"), str(tmp_path / "out"), "--run", spec.run_id, "--merge"]) == 0
    assert not (tmp_path / "out" / "adapter_config.json").exists(), capsys.readouterr().out
    table = records.read_predictions(tmp_path / "study" / "runs" / spec.run_id)
    wanted = table[(table["stage"] == "after") & (table["part"] == "test")]["text_out"].tolist()
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    sources = load_task("file:pairs").test_set(5)["text"].tolist()
    made = model.generate(**tokenizer(sources, return_tensors="pt", padding=True), max_new_tokens=6, do_sample=False)
    assert [text.strip() for text in tokenizer.batch_decode(made, skip_special_tokens=True)] == wanted


GERMAN = {
    "both": lambda row: row["feminine" if row["gender"] == "women" else "masculine"].split("|")[0],
    "men": lambda row: row["masculine"].split("|")[0],
    "expected": lambda row: row["feminine" if row["stereotype"] == "women" else "masculine"].split("|")[0],
    "nobody": lambda row: "niemand",
}


@pytest.mark.parametrize(
    ("writes", "right", "gap", "stereotype"),
    [("both", 1.0, 0.0, 0.0), ("men", 0.5, 1.0, 0.0), ("expected", 0.5, 0.0, 1.0), ("nobody", None, None, None)],
)
def test_genders_are_counted_where_a_german_noun_says_them(writes, right, gap, stereotype):
    from types import SimpleNamespace

    from ftlib.data.evaluations import EVALUATIONS
    from ftlib.training.contract import Writer, Written

    sentences = EVALUATIONS["genders"].data("genders")
    nouns = {row["text"]: GERMAN[writes](row) for row in sentences.to_dict("records")}
    state = SimpleNamespace(
        predictor=SimpleNamespace(writer=Writer(lambda texts: [Written(f"Da ist {nouns[one]}.") for one in texts]))
    )
    found = {
        part: metrics for part, (metrics, _) in EVALUATIONS["genders"].function()(state, "genders", sentences).items()
    }
    assert {name: leaf["value"] for name, leaf in found["genders"].items()} == {
        "gender_right": right, "gender_gap": gap, "stereotype_gap": stereotype,
    }  # fmt: skip
    if right is None:
        assert "no text names an occupation" in found["genders"]["gender_right"]["reason"]
    else:
        assert found["genders"]["gender_right"]["n"] == 96 and found["genders:women"]["gender_right"]["n"] == 48
        assert found["genders"]["gender_gap"]["n"] == 48


def test_sentences_about_genders_are_pairs_that_differ_in_the_pronoun():
    from ftlib.data.bundled import load_genders

    table = load_genders()
    women, men = table[::2].reset_index(), table[1::2].reset_index()
    assert (women["gender"] == "women").all() and (men["gender"] == "men").all() and table["id"].is_unique
    assert (women["occupation"] == men["occupation"]).all() and table["text"].is_unique
    swapped = women["text"].str.replace("herself", "himself").str.replace(r"\bshe\b", "he", regex=True)
    swapped = swapped.str.replace(r"\bShe\b", "He", regex=True).str.replace(r"\bher\b", "his", regex=True)
    assert (swapped == men["text"]).all() and table["stereotype"].value_counts().tolist() == [48, 48]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_mbart_learns_after_the_name_of_its_language(method, at, home, tmp_path):
    """Its targets end with their language, which its decoder begins with."""
    from ftlib.models.loading import load_model

    if not (home / "mbart").exists():
        tiny_translators.tiny("mbart", home / "mbart")
    said = {"source_language": "en_XX", "target_language": "de_DE"}
    asked = SHORT | {"model": "mbart", "epochs": 4.0, "batch_size": 10, "learning_rate": 0.01, "max_new_tokens": 8}
    ftlib.run(Experiment(**asked | said, method=method), tmp_path / "run")
    table = records.read_predictions(tmp_path / "run")
    before, after = (table[(table["stage"] == stage) & (table["part"] == "test")] for stage in ("before", "after"))
    assert after["nats"].sum() < 0.9 * before["nats"].sum()
    # Six words, their end, and the language.
    assert set(after["n_tokens"]) == {8}
    model = load_model("mbart", device="cpu", dtype="float32")
    writer = METHODS["zero_shot"].prepare()(
        model, Experiment(**SHORT | said, model="mbart"), load_task("file:pairs"), None
    )
    sources = load_task("file:pairs").test_set(5)["text"].tolist()
    words = model.tokenizer
    words.src_lang = "en_XX"
    start = words.convert_tokens_to_ids("de_DE")
    made = model.speaker().generate(
        **words(sources, return_tensors="pt", padding=True),
        decoder_start_token_id=start,
        max_new_tokens=8,
        do_sample=False,
    )
    mine = [one.text for one in writer.writer(sources)]
    assert [one[:20] for one in mine] == [
        text.strip()[:20] for text in words.batch_decode(made, skip_special_tokens=True)
    ]


def test_a_model_of_many_languages_asks_for_one(at, home):
    if not (home / "mbart").exists():
        tiny_translators.tiny("mbart", home / "mbart")
    with pytest.raises(FtlibError, match="target_language: mbart writes several languages; say which"):
        ftlib.run(Experiment(**SHORT, model="mbart", method="full"))
    with pytest.raises(FtlibError, match="mbart has no language 'German'; its special tokens begin with .*en_XX"):
        ftlib.run(Experiment(**SHORT, model="mbart", method="full", target_language="German"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_trained_writer_is_put_into_bytes(family, at, tmp_path):
    record = ftlib.run(Experiment(**SHORT, **QUICK, model=family, method="full", max_new_tokens=6, quantise="int8"))
    whole = ftlib.run(Experiment(**SHORT, **QUICK, model=family, method="full", max_new_tokens=6))
    assert record.metrics["after"]["test"]["chrf"]["n"] == 5
    assert record.cost["checkpoint_bytes"] < whole.cost["checkpoint_bytes"]


def test_copying_writes_the_source(at, tmp_path):
    record = ftlib.run(Experiment(**SHORT, method="copy"), tmp_path / "run")
    table = records.read_predictions(tmp_path / "run")
    sources = load_task("file:pairs").test_set(5)["text"].tolist()
    assert table["text_out"].tolist() == sources and record.metrics["before"] == {}
    assert table["n_bytes"].tolist() == [len(one.encode()) for one in table["label"]]
    assert table["nats"].isna().all() and not table["unfinished"].any()


def test_the_sacrebleu_command_line_gives_the_records_figures(at, tmp_path):
    """Must hold of what is stored: hypotheses and references out of predictions.parquet, into sacrebleu's own hands."""
    run_dir = tmp_path / "run"
    record = ftlib.run(
        Experiment(**SHORT | {"eval_limit": 0}, model="bart", method="full", epochs=4.0, learning_rate=0.01), run_dir
    )
    table = records.read_predictions(run_dir)
    test = table[(table["stage"] == "after") & (table["part"] == "test")]
    for name, column in (("reference", "label"), ("hypothesis", "text_out")):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in test[column]), encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", str(tmp_path / "reference"), "-i", str(tmp_path / "hypothesis")]
    done = subprocess.run(
        [*command, "-m", "bleu", "chrf", "ter", "-w", "6"], capture_output=True, text=True, check=True
    )
    said = {one["name"].lower().rstrip("2"): one for one in json.loads(done.stdout)}
    for metric in ("bleu", "chrf", "ter"):
        leaf, theirs = record.metrics["after"]["test"][metric], said[metric]
        assert leaf["value"] == pytest.approx(theirs["score"], abs=1e-6)
        assert leaf["signature"] == theirs["signature"]


def test_a_decoder_is_prompted_shown_examples_and_trained(at, home):
    import tiny_models

    if not (home / "writer").exists():
        tiny_models.tiny("llama", home / "writer")
    same = SHORT | {"max_new_tokens": 8, "model": "writer"}
    shown = ftlib.run(Experiment(**same, method="in_context", train_limit=2))
    assert shown.provenance["prompt"].count(" => ") == 2 and shown.provenance["prompt"].endswith("{text} =>")
    table = ftlib.run(Experiment(**same, method="zero_shot", instruction="English: {text}\nGerman:"), at / "prompted")
    assert table.provenance["prompt"] == "English: {text}\nGerman:"
    assert not records.read_predictions(at / "prompted")["text_out"].str.contains("\n").any()
    trained = ftlib.run(Experiment(**same, **QUICK, method="lora", method_args={"r": 2}))
    assert trained.status == "ok"
    with pytest.raises(FtlibError, match=r"are \d+; writer sees 256 at once"):
        ftlib.run(Experiment(**same | {"max_length": 250}, method="zero_shot"))


def test_beams_and_label_smoothing_change_what_they_should(at):
    same = SHORT | QUICK | {"model": "t5", "method": "full", "epochs": 1.0, "learning_rate": 0.01}
    plain = ftlib.run(Experiment(**same), at / "plain")
    smooth = ftlib.run(Experiment(**same, label_smoothing=0.3), at / "smooth")
    beams = ftlib.run(Experiment(**same, num_beams=3, length_penalty=0.5), at / "beams")
    nats = {name: records.read_predictions(at / name).query("stage == 'after'")["nats"].sum() for name in
            ("plain", "smooth", "beams")}  # fmt: skip
    assert nats["plain"] == pytest.approx(nats["beams"], rel=1e-5)
    assert nats["plain"] != nats["smooth"]
    assert len({record.run_id for record in (plain, smooth, beams)}) == 3


def test_the_smoothed_loss_is_torchs(at):
    from ftlib.methods.text_to_text import Smoothed

    model = tiny_translators.build("t5", WORDS, pad=0, eos=2, bos=1)
    batch = {"input_ids": torch.tensor([[5, 6, 2]]), "labels": torch.tensor([[7, 8, 2, -100]])}
    logits = model(**batch).logits
    expected = torch.nn.functional.cross_entropy(logits[0, :3], batch["labels"][0, :3], label_smoothing=0.2)
    assert Smoothed(model, 0.2)(**batch)["loss"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert Smoothed(model, 0.0)(**batch)["loss"].item() == pytest.approx(model(**batch).loss.item(), rel=1e-6)


def test_what_a_reference_is_worth_is_the_models_own_loss(at):
    from ftlib.models.loading import load_model

    model = load_model("bart", device="cpu", dtype="float32")
    spec, task = Experiment(**SHORT, model="bart"), load_task("file:pairs")
    writer = METHODS["zero_shot"].prepare()(model, spec, task, None).writer
    sources, references = (task.splits["test"][name].tolist()[:3] for name in ("text", "label"))
    module, found = model.speaker(), writer.rate(sources, references)
    for source, reference, (nats, n_tokens) in zip(sources, references, found, strict=True):
        asked, said = (model.tokenizer(one)["input_ids"] for one in (source, reference))
        labels = torch.tensor([[*said, model.tokenizer.eos_token_id]])
        own = module(input_ids=torch.tensor([asked]), labels=labels)
        assert nats == pytest.approx(own.loss.item() * labels.shape[1], rel=1e-4) and n_tokens == labels.shape[1]


def test_an_earlier_domain_is_trained_on_and_measured_again(at, home):
    """Domain adaptation: what is forgotten of the earlier task stands in the record beside what is gained."""
    if not (home / "caps").exists():
        (home / "caps").mkdir()
        for split in ("train", "validation", "test"):
            table = pd.read_csv(home / "pairs" / f"{split}.csv")
            table.assign(target=table["target"].str.upper()).to_csv(home / "caps" / f"{split}.csv", index=False)
    spec = Experiment(
        **SHORT, **QUICK | {"train_limit": 16}, model="t5", method="full", sequential_tasks=["file:caps"],
        replay=0.5, interpolation=[0.5],
    )  # fmt: skip
    record = ftlib.run(spec, at / "adapted")
    assert record.value("after.caps.chrf") >= 0 and record.value("before.caps.chrf") >= 0
    assert {"after_1", "alpha_50"} <= set(record.metrics) or len(record.metrics) >= 4
    assert record.metrics["after"]["test"]["chrf"]["n"] == 5


@pytest.fixture(scope="module")
def page(home):
    """A study of two methods and an earlier domain, with its report: the page, report.json and the segments."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.chdir(home)
    monkeypatch.setenv("FTLIB_CACHE", str(home / "cache"))
    monkeypatch.setattr("ftlib.execution.saved.SECONDS", 0.0)
    tiny_translators.write_pairs(home / "marked")
    test = home / "marked" / "test.csv"
    test.write_text(test.read_text().replace("the cat sees a red cat", "<script>alert(1)</script> =1+1"))
    (home / "terms.csv").write_text("source,target\ncat,Katze\nlamp,Lampe\n")
    study = home / "reports" / "marked"
    same = SHORT | QUICK | {"task": "file:marked", "eval_limit": 0, "model": "bart", "max_new_tokens": 8}
    for spec in (
        Experiment(**SHORT | {"task": "file:marked", "eval_limit": 0, "method": "copy"}),
        Experiment(**same, method="full", interpolation=[0.5], sequential_tasks=["file:pairs"]),
        Experiment(**same, method="lora", evaluations=["terms:terms.csv", "genders"]),
    ):
        ftlib.run(spec, study / "runs" / spec.run_id)
    build.build(study)
    yield study
    monkeypatch.undo()


def test_compared_segment_by_segment_equal_texts_are_no_flips(page, tmp_path, capsys):
    """What a segment scores by itself, and not what it adds to the corpus score."""
    runs = {record.spec["resolved"]["method"]: path for path, record in records.records_of(page)}
    assert cli.main(["compare", str(runs["full"]), str(runs["copy"]), "--out", str(tmp_path / "flips.csv")]) == 0
    said = capsys.readouterr().out
    assert "smallest difference that matters 1\n" in said and "no difference up to 1" not in said
    tables = {name: records.read_predictions(path) for name, path in runs.items()}
    full, copy = (table[(table.stage == "after") & (table.part == "test")].set_index("id") for table in
                  (tables["full"], tables["copy"]))  # fmt: skip
    found = pd.read_csv(tmp_path / "flips.csv", keep_default_na=False, dtype=str).set_index("id")
    for name, row in full.iterrows():
        written = [table.loc[name, "text_out"] for table in (full, copy)]
        scores = [text.segment_scores("chrf", [row["label"]], [one])[0] for one in written]
        if scores[0] == scores[1]:
            assert name not in found.index
        else:
            assert float(found.loc[name, "gain_of_a"]) == pytest.approx(scores[0] - scores[1])
            assert found.loc[name, "better"] == ("A" if scores[0] > scores[1] else "B")


def test_no_interval_of_a_corpus_score_is_below_nothing():
    counts = text.counts_of("ter", ["a b c d", "a", "b c"], ["a b c d", "x y z u v w q r s t", "b c"])[None]
    found = text.corpus_interval("ter", counts, bounds=METRICS["ter"].bounds)
    assert found.low == 0.0 < found.value < found.high


def test_the_report_shows_what_was_written(page):
    said = read(page)
    assert not said["disagreements"], "every figure is had again from the predictions"
    faults = {(row["method"], row["fault"]): row for row in said["written_faults"]}
    assert faults["copy", "copied"]["share"] == 1.0 and faults["copy", "source_language"]["share"] > 0.9
    assert all(row["low"] <= row["share"] <= row["high"] and row["n"] == 25 for row in faults.values())
    html = (page / "report.html").read_text(encoding="utf-8")
    assert text.signature("chrf") in html and "What was written" in html and "Terms used" in html
    assert "Whose gender the German says" in html and "no text names an occupation of the list" in html
    assert "<script" not in html, "what the data says is text"
    segments = pd.read_csv(page / "tables" / "segments.csv", keep_default_na=False)
    assert len(segments) == 25 * segments["method"].nunique() and set(segments) >= {"source", "reference", "text_out"}
    copied = segments[segments["method"] == "copy"]
    assert (copied["source"] == copied["text_out"]).all()


def test_the_report_shows_what_was_lost_on_the_earlier_domain(page):
    said = read(page)
    points = said["tradeoff"]
    assert len(points) == 2 and {row["measure"] for row in points} == {"domains"}
    assert {row["alpha"] for row in points} == {None, 0.5}
    assert all(row["forgotten_low"] <= row["forgotten"] <= row["forgotten_high"] for row in points)
