"""`ftlib export` takes a study's model home, and `ftlib predict` answers every row of a file, in order."""

import io
import json
import shutil
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
import toy

import ftlib
from ftlib.cli import main
from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core.errors import FtlibError
from ftlib.execution import predict as predicting
from ftlib.execution.export import export_runs
from ftlib.execution.predict import predict
from ftlib.models import heads
from ftlib.models.export import load_adapted
from ftlib.records import read_record


@pytest.fixture(scope="module")
def study(toy_home, tmp_path_factory):
    """TF-IDF once, and three seeds of a tiny LoRA, run where nothing is kept."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(toy_home)
        patch.setenv("FTLIB_CACHE", str(toy_home / "cache"))
        given = {"task": "file:opinions", "model": "tiny", "dtype": "float32", "max_length": 12, "train_limit": 40}
        trains = {"epochs": 1.0, "min_steps": 0, "batch_size": 8, "learning_rate": 0.003}
        for spec in [
            Experiment(method="tfidf", **given),
            *(Experiment(method="lora", seed=seed, **given | trains) for seed in (0, 1, 2)),
        ]:
            ftlib.run(spec, folder / "runs" / spec.run_id)
        yield folder


@pytest.fixture(scope="module")
def model(study, toy_home):
    """The exported TF-IDF."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(toy_home)
        patch.setenv("FTLIB_CACHE", str(toy_home / "cache"))
        assert main(["export", str(study), str(study / "words"), "--method", "tfidf"]) == 0
    return study / "words"


TEXTS = ["the soup was a joy from start to end", "never again, the app let us down", " ", "the coat is simply awful"]


def written(path, texts):
    table = pd.DataFrame({"id": range(len(texts)), "text": texts})
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return str(path)


def read(path):
    readers = {".parquet": pd.read_parquet, ".jsonl": lambda path: pd.read_json(path, lines=True)}
    return readers.get(path.suffix, lambda path: pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ","))(path)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_rows_in_are_rows_out_in_order(model, tmp_path, monkeypatch, ending):
    made, words_of = [], heads.words_of
    monkeypatch.setattr(heads, "words_of", lambda **facts: made.append(facts) or words_of(**facts))
    monkeypatch.setattr(predicting, "ROWS", 3)
    source, out = tmp_path / f"in{ending}", tmp_path / f"out{ending}"
    said = predict(model, written(source, TEXTS * 5), str(out))
    assert len(made) == 1, "the vocabulary is set up once, not for every batch"
    assert (said.rows, said.blank, said.cut) == (20, 5, 0) and "not calibrated (16 examples" in str(said)
    found = read(out)
    assert list(found) == ["label", "probability", "cut"] and len(found) == 20
    wanted = load_adapted(model).predict([text for text in TEXTS if text.strip()])
    assert found["label"].dropna().tolist() == wanted.labels.tolist() * 5
    assert found["probability"].dropna().tolist() == pytest.approx(wanted.probability.tolist() * 5, abs=1e-6)
    assert found["label"].isna().tolist() == [False, False, True, False] * 5


def _labels(folder):
    facts = json.loads((folder / "prediction.json").read_text(encoding="utf-8"))
    facts["tasks"][facts["task"]]["labels"] = ["good"]
    (folder / "prediction.json").write_text(json.dumps(facts), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: (folder / "head.safetensors").write_bytes(b"xx"), "cannot be read as a saved model"),
        (lambda folder: (folder / "head.safetensors").unlink(), "a file of it is damaged or missing: export it again"),
        (lambda folder: (folder / "prediction.json").write_text("[]"), "lacks adapter, family, library"),
        (lambda folder: (folder / "weights.bin").write_bytes(b"x"), "found weights.bin, a pickle, which could run any"),
        (_labels, "prediction.json names 1 labels, the weights give 2"),
    ],
)
def test_a_damaged_or_pickled_model_is_refused_in_one_sentence(model, tmp_path, capsys, change, said):
    folder = shutil.copytree(model, tmp_path / "model")
    change(folder)
    assert main(["predict", str(folder), written(tmp_path / "in.csv", TEXTS), "--out", str(tmp_path / "out.csv")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out.csv").exists()


def test_where_nothing_can_be_written_is_said_before_anything_is_read(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(predicting, "load_adapted", lambda *given, **more: pytest.fail("loaded for nothing"))
    source = written(tmp_path / "in.csv", TEXTS)
    (tmp_path / "folder.csv").mkdir()
    for out, said in (
        (source, "is the file that is read"),
        (tmp_path / "folder.csv", "is a folder"),
        (tmp_path / "in.csv" / "out.csv", "cannot be written there"),
    ):
        assert main(["predict", str(model), source, "--out", str(out)]) == 2
        assert said in capsys.readouterr().err
    assert read(tmp_path / "in.csv")["text"].tolist() == TEXTS


@pytest.mark.parametrize(
    ("given", "n"),
    [
        ("text\na joy\nawful\n", 2),
        ('{"text": "a joy"}\n{"text": "awful"}\n', 2),
        ("a joy\nsimply awful, all of it\n", 2),
    ],
)
def test_standard_input_is_a_table_or_a_text_a_line(model, monkeypatch, capsys, given, n):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
    assert main(["predict", str(model), "-"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == "label,probability,cut" and len(said.out.splitlines()) == n + 1
    assert f"{n} rows in" in said.err and "texts a second" in said.err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("in.csv", "text\na,b\n", "line 2 has 2 fields"),
        (
            "in.csv",
            "words,more\na,b\n",
            "no column has a usual name; columns: words, more; say which with --text-column",
        ),
        ("in.csv", "text,review\na,b\n", "could be 'text' or 'review'"),
        ("in.csv", "text\n", "no rows"),
        ("in.jsonl", '{"text": "a"}\n{"text": \n', "line 2: not valid JSON"),
        ("in.jsonl", '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}\n", "line 1: not valid JSON"),
        ("in.jsonl", '[\n {"text": "a"},\n {"text": "b"}\n]\n', "in.jsonl: is one JSON document"),
        ("in.jsonl", '[{"text": "a"}]', "in.jsonl: is one JSON document"),
        ("in.xlsx", "text\na\n", "found '.xlsx'; allowed"),
    ],
)
def test_what_cannot_be_read_is_said_and_nothing_is_written(model, tmp_path, monkeypatch, name, content, said):
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(FtlibError, match=said):
        predict(model, str(tmp_path / name), str(tmp_path / "out.csv"))
    # What is too large to be read as a whole is checked row by row.
    monkeypatch.setattr(predicting, "WHOLE", 0)
    with pytest.raises(FtlibError, match=said):
        predict(model, str(tmp_path / name), str(tmp_path / "out.csv"))
    assert not (tmp_path / "out.csv").exists()


def test_a_group_that_a_model_does_not_know_is_said_before_anything_is_answered(tmp_path):
    path = str(tmp_path / "in.csv")
    pd.DataFrame({"text": TEXTS, "who": ["women", "men", "men", "nobody"]}).to_csv(path, index=False)
    wanted = predicting.Wanted(group="who")
    assert predicting.checked(path, wanted, ("men", "women", "nobody")) == 4
    with pytest.raises(FtlibError, match="row 4: found 'nobody' in 'who'; this model goes by the groups men, women"):
        predicting.checked(path, wanted, ("men", "women"))


def test_a_label_that_a_spreadsheet_would_run_gets_an_apostrophe():
    file = io.StringIO()
    given = [("=1+1",), (None,), (True,), ("-1",), ("+0.5",), ("＝1+1",), ("-a",), (-0.5,)]
    predicting.writer(file, ".csv", ["label"])(given)
    said = ["'=1+1", '""', "true", "-1", "+0.5", "'＝1+1", "'-a", "-0.5"]
    assert file.getvalue().splitlines() == ["label", *said], "a number stays one"


def test_texts_in_another_encoding_on_standard_input_are_one_error(model, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a joy\ncaf\xe9\n")))
    assert main(["predict", str(model), "-"]) == 2
    assert "standard input: byte 9 of a block is not UTF-8" in capsys.readouterr().err


def test_what_is_no_list_of_texts_is_one_clear_error(model):
    loaded = load_adapted(model)
    with pytest.raises(FtlibError, match="found one text, 'a joy'; give a list"):
        loaded.predict("a joy")
    with pytest.raises(FtlibError, match="found one text"):
        loaded.probabilities("a joy")
    with pytest.raises(FtlibError, match="1 of 2 are no texts, the first at 1: None"):
        loaded.predict(["a joy", None])


def test_a_study_is_exported_by_its_median_on_validation_and_trained_again(study, at_home, tmp_path, capsys):
    assert main(["export", str(study), str(tmp_path / "out"), "--method", "lora", "--merge"]) == 0
    said = capsys.readouterr().out
    assert "of 3: the median of loss on validation" in said and "not the best on test" in said
    assert "trained again with its seed: as recorded within" in said
    facts = json.loads((tmp_path / "out" / "prediction.json").read_text(encoding="utf-8"))
    record = read_record(study / "runs" / facts["run_id"])
    losses = {}
    for path in (study / "runs").iterdir():
        curve = ftlib.read_curve(path) if read_record(path).spec["resolved"]["method"] == "lora" else []
        if len(curve):
            losses[path.name] = curve[curve["part"] == "validation"]["loss"].iloc[-1]
    assert sorted(losses, key=losses.get)[1] == record.run_id
    found = load_adapted(tmp_path / "out", dtype="float32", threads=1)
    table = ftlib.read_predictions(study / "runs" / record.run_id)
    test = table[(table["stage"] == "after") & (table["part"] == "test")]
    texts = ftlib.load_task("file:opinions").splits["test"]["text"].tolist()
    assert found.probabilities(texts)[:, 0] == pytest.approx(test["score_bad"].to_numpy(float), abs=1e-5)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "## How to use it" in card and "## Limits" in card and card.startswith("---\n")


@pytest.mark.parametrize("shots", [0, 4])
def test_seeds_that_were_not_measured_on_validation_are_trained_again_and_with_shots_the_first_is_taken(
    at_home, tmp_path, shots
):
    found = []
    for seed in (0, 1, 2):
        spec = Experiment(task="file:opinions", model="tiny", method="tfidf", shots=shots, seed=seed)
        found.append((tmp_path / spec.run_id, ftlib.run(spec, tmp_path / spec.run_id)))
    (said, _) = export_runs(found, tmp_path / "out")
    assert (
        said.startswith("seed 0 of 3: the first; with shots" if shots else "seed ") and "not the best on test" in said
    )
    assert ("the median of accuracy on validation" in said) != bool(shots)
    assert load_adapted(tmp_path / "out").predict(["good"]).labels[0] in ("good", "bad")


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("tfidf", "--int8: tfidf trains no model in float32; export it without"),
        ("prefix_tuning", "--int8: what prefix_tuning learns stands before the text and is in no weight"),
    ],
)
def test_what_cannot_be_put_into_bytes_is_refused_before_anything_is_trained(method, said, tmp_path):
    record = SimpleNamespace(run_id="0" * 16, spec={"passed": {"method": method}, "resolved": {"seed": 0}})
    with pytest.raises(FtlibError, match=said):
        export_runs([(tmp_path, record)], tmp_path / "out", int8=True)
    assert not (tmp_path / "out").exists()


def test_the_method_that_the_report_advises_is_exported_where_none_is_named(study, at_home, tmp_path, capsys):
    assert main(["export", str(study), str(tmp_path / "out")]) == 0
    assert (
        "no winner is shown; what the report would take today for file:opinions; another with"
        in capsys.readouterr().out
    )
    assert main(["export", str(study), str(tmp_path / "out")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["export", str(study), str(tmp_path / "other"), "--method", "dora"]) == 2
    assert "--method dora: no run of that name finished; allowed" in capsys.readouterr().err
    assert main(["export", str(study), str(tmp_path / "titled"), "--method", METHODS["tfidf"].title]) == 0


def test_that_the_untouched_model_is_advised_is_said_where_no_run_is_of_it(study, at_home, tmp_path, monkeypatch):
    advice = SimpleNamespace(chosen="base model", task="file:opinions", headline="Leave the model as it is")
    monkeypatch.setattr("ftlib.notebook.Study.reading", SimpleNamespace(advice=[advice]))
    with pytest.raises(FtlibError, match="advises the untouched base model, which is no run of the study; add zero_sh"):
        ftlib.export(study, tmp_path / "out")
    with pytest.raises(FtlibError, match="spec: found dict; give an Experiment"):
        ftlib.run({"method": "tfidf"})


def test_a_training_that_does_not_give_what_was_recorded_is_refused(study, at_home, tmp_path):
    path = next(p for p in (study / "runs").iterdir() if read_record(p).spec["resolved"]["method"] == "tfidf")
    kept = (path / "predictions.parquet").read_bytes()
    table = pd.read_parquet(path / "predictions.parquet")
    table["score_bad"] = table["score_bad"] + 0.01
    table.to_parquet(path / "predictions.parquet", index=False)
    try:
        with pytest.raises(FtlibError, match="trained again, it answers otherwise than was recorded, by up to 0.01"):
            export_runs([(path, read_record(path))], tmp_path / "out")
    finally:
        (path / "predictions.parquet").write_bytes(kept)
    assert not (tmp_path / "out").exists() and toy.SIZES["test"] == 24


@pytest.mark.parametrize("save", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_model_that_writes_is_kept_or_exported_and_writes_every_row(at_home, tmp_path, save, monkeypatch, capsys):
    monkeypatch.setattr(predicting, "ROWS", 32)
    monkeypatch.setattr("ftlib.execution.saved.SECONDS", 0.0)
    spec = Experiment(
        task="file:pairs", model="translator", method="lora", dtype="float32", max_length=24, max_new_tokens=8,
        num_beams=2, train_limit=16, eval_limit=6, epochs=1.0, min_steps=0, batch_size=8, save=save,
    )  # fmt: skip
    run_dir, out = tmp_path / spec.run_id, tmp_path / "out"
    record = ftlib.run(spec, run_dir)
    assert record.status == "ok" and ("saved" in record.provenance) == save
    assert record.cost["predict_examples_per_second"] > 0
    assert main(["export", str(run_dir), str(out)]) == 0
    assert ("trained again" in capsys.readouterr().out) != save
    if save:
        said = record.provenance["saved"]
        assert said["largest_difference"] <= 1e-5 and said["difference_to_record"] <= 1e-4
        assert 0 <= said["texts_changed"] <= said["n"] == 6 and said["validation"]["nats_per_token"] > 0
    texts = ["the cat sees a red mouse", " ", "the bird hears a big lamp", "word " * 40]
    said = predict(out, written(tmp_path / "in.csv", texts), str(tmp_path / "said.csv"))
    assert (said.rows, said.blank, said.cut) == (4, 1, 1) and "2 beams, at most 8 tokens written" in str(said)
    found = read(tmp_path / "said.csv")
    assert list(found) == ["text_out", "cut"] and found["text_out"].isna().tolist() == [False, True, False, False]
    # What its own kind of task calls the column, though a guess among the usual names would have two to choose from.
    pd.DataFrame({"source": texts[:1], "text": "other words"}).to_csv(tmp_path / "pairs.csv", index=False)
    predict(out, str(tmp_path / "pairs.csv"), str(tmp_path / "pairs_said.csv"))
    assert read(tmp_path / "pairs_said.csv")["text_out"][0] == found["text_out"][0]
    model = load_adapted(out, dtype="float32")
    assert found["text_out"][0] == model.write(texts[:1])[0] and "writes" not in repr(model)
    with pytest.raises(FtlibError, match=r"it has texts, by write\(\), no labels to give"):
        model.predict(texts)
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "def write(texts" in card and "## Limits" in card
