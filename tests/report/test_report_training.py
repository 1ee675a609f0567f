"""The report on tuning, training, costs and predictions: fair budgets, overfitting made visible, what it all took."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from conftest import drawn
from pages import CHECK, Page, digests, read
from scipy import stats as scipy_stats
from synthetic import TEXTS, Made, MadeText, write_study

import ftlib
from ftlib import records
from ftlib.core.errors import FtlibError
from ftlib.records import events
from ftlib.records.study import read_study
from ftlib.report import build
from ftlib.report.sections import costs, tuning
from ftlib.report.sections.comparison import task_comparisons
from ftlib.report.sections.training import sentences, training
from ftlib.report.sections.tuning import Tuning
from ftlib.stats.aggregate import expected_best_of_seeds

STILL = (Made("tfidf", 0.6), Made("zero_shot", -0.1, as_before=True))
OVERFITS = (1.4, 1.1, 1.2, 1.5)


def tuned(method: str, tried: Sequence[float | None], seeds: Sequence[int] = (0, 1, 2), **more) -> Made:
    return Made(method, 0.8, seeds, tried=tried, **more)


def told(folder: Path, made: Sequence[Made] = ()) -> tuple[Tuning, tuple[str, ...]]:
    """The tuning in a study, which is made up where there is something to make, and what is said of it."""
    study = read_study(write_study(folder, [*STILL, *made], n=60) if made else folder)
    found = tuning.tuning(study, next(task_comparisons(study)))
    return found, tuning.sentences(found)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    made = [
        *STILL,
        tuned("full", (0.75, 0.66, 0.64), watched=OVERFITS),
        tuned("lora", (0.66, 0.64, 0.80)),
        tuned("rslora", (0.69, 0.63, None), fields={"patience": 1}, kept=75),
        tuned("dora", (0.67, 0.61, 0.60), (0, 1)),
        Made("dora", 0.0, (2,), status="diverged", reason="the training loss became nan by step 61 of 100"),
    ]
    folder = write_study(tmp_path_factory.mktemp("training") / "study", made)
    for path, record in records.records_of(folder):
        asked = json.loads((path / "spec.json").read_text())
        off = {"peak_memory_bytes": 0.8, "train_seconds": 2.0, "eval_seconds": 2.0, "checkpoint_bytes": 1.0}
        asked["predicted"] = {name: by * record.cost[name] for name, by in off.items()}
        (path / "spec.json").write_text(json.dumps(asked))
    with drawn():
        build.build(folder)
    return folder


# Tuning


def test_the_best_of_k_is_the_mean_over_all_choices_of_k_and_over_seeds():
    tries = np.random.default_rng(0).normal(size=(4, 5))
    tries[1, 3] = tries[2, 0] = np.nan
    found = expected_best_of_seeds(tries)
    for k in range(1, 6):
        means, none = [], []
        for row in tries:
            choices = [np.array(some)[np.isfinite(some)] for some in combinations(row, k)]
            means.append(np.mean([some.max() for some in choices if len(some)]))
            none.append(np.mean([not len(some) for some in choices]))
        assert found.seeds[:, k - 1] == pytest.approx(means) and found.nothing[k - 1] == pytest.approx(np.mean(none))
        low, high = scipy_stats.t.interval(0.95, 3, np.mean(means), scipy_stats.sem(means))
        assert (found.value[k - 1], found.low[k - 1], found.high[k - 1]) == pytest.approx((np.mean(means), low, high))
    assert expected_best_of_seeds(-tries, higher_is_better=False).value == pytest.approx(-found.value)
    assert np.isnan(expected_best_of_seeds(tries[:1]).low).all()
    with pytest.raises(FtlibError, match="at least one number for each seed"):
        expected_best_of_seeds([[np.nan, np.nan]])


def test_the_curves_on_the_page_are_those_of_the_records(study):
    (entry,) = read(study)["tuning"]
    rows = {(row["method"], row["k"]): row for row in entry["curve"]}
    tries = {}
    for _, record in records.records_of(study):
        if found := record.provenance.get("tuned"):
            scores = [one["validation_accuracy"] for one in found["tried"]]
            tries.setdefault(record.spec["resolved"]["method"], []).append(scores)
    assert set(tries) == {"full", "lora", "rslora", "dora"} == {method for method, _ in rows}
    for method, scores in tries.items():
        expected = expected_best_of_seeds(np.array(scores, dtype=float))
        for k in (1, 2, 3):
            row = rows[method, k]
            assert row["value"] == pytest.approx(expected.value[k - 1])
            assert row["low"] < row["value"] < row["high"]
            assert row["seeds"] == len(scores) and row["n_validation"] == 600
    words = Page(study / "report.html").text
    assert "How fairly were they tuned?" in words and "600 validation examples" in words
    assert "Student's t over 2 to 3 seeds" in words


def test_a_winner_that_depends_on_the_budget_is_said_beside_the_verdict_too(tmp_path):
    made = [tuned("full", (0.70, 0.70, 0.70), range(5)), tuned("lora", (0.50, 0.50, 0.90), range(5))]
    folder = write_study(tmp_path / "study", [*STILL, *made], n=60)
    build.build(folder)
    content = read(folder)
    (entry,) = content["tuning"]
    assert entry["winners"][0]["winners"] == ["full"] and entry["winners"][-1]["winners"] == ["lora"]
    limits = " ".join(content["advice"][0]["limits"])
    assert "Caution: the winner on validation depends on the budget" in limits and "lora would have won" in limits


def test_settings_that_diverged_and_rates_at_the_edge_of_the_grid_are_named(study):
    (entry,) = read(study)["tuning"]
    said = " ".join(entry["sentences"])
    rate = next(one["tried"][2]["learning_rate"] for one in entry["chosen"] if one["method"] == "rslora")
    assert f"rslora diverged at learning rate {rate:.2g} (3 of 3 seeds)" in said
    assert "of budgets of 1 setting 33 % would have had no result" in said
    caution = next(line for line in entry["sentences"] if "beyond the grid" in line)
    assert caution.startswith("Caution: ") and "lora (3 of 3 seeds)" in caution and "full" not in caution
    assert {one["at_edge"] for one in entry["chosen"] if one["method"] == "lora"} == {True}


@pytest.mark.parametrize(
    ("tried", "seeds", "expected"),
    [
        (((0.80, 0.79, 0.78), (0.60, 0.61, 0.62)), 5, "does not depend on the budget: full, with 1 setting tried"),
        (((0.70, 0.70, 0.70), (0.70, 0.70, 0.70)), 3, "No budget from 1 to 3 settings shows a winner on validation"),
        (((0.70, 0.70, 0.70), (0.50, 0.50, 0.90)), 5, "The winner on validation depends on the budget: with 1"),
        (((0.80, 0.79, 0.78), (0.60, 0.61, 0.62)), 1, "full has the highest mean on validation at every budget"),
        (((0.70, 0.70, 0.70), (0.50, 0.50, 0.99)), 1, "of full with 1 setting tried and lora from"),
    ],
)  # fmt: skip
def test_whether_the_winner_depends_on_the_budget_is_one_sentence(tmp_path, tried, seeds, expected):
    made = [tuned(method, some, range(seeds)) for method, some in zip(("full", "lora"), tried, strict=True)]
    _, said = told(tmp_path / "study", made)
    assert expected in said[0]
    assert ("nobody can say whether that is chance" in " ".join(said)) == (seeds == 1)
    assert (f"paired on {seeds} seeds" in said[0]) == (seeds > 1)


def test_unequal_budgets_are_a_caution(tmp_path):
    made = [tuned("full", (0.7, 0.6, 0.5)), tuned("lora", (0.7, 0.6)), Made("ia3", 0.5, (0, 1, 2))]
    found, _ = told(tmp_path / "study", made)
    (caution,) = tuning.warnings(found)
    assert caution == (
        "Caution: the tuning was not fair, since the budgets differ: ia3 tried 1 setting; lora tried 2 settings; full "
        "tried 3 settings."
    )
    assert found.race.budget == 2


def test_seeds_that_tried_other_rates_are_left_out_and_named(tmp_path):
    folder = write_study(tmp_path / "study", [*STILL, tuned("full", (0.7, 0.6)), tuned("lora", (0.7, 0.6))], n=60)
    for path, record in records.records_of(folder):
        if record.spec["resolved"]["method"] == "lora" and record.spec["resolved"]["seed"] == 1:
            found = json.loads((path / "record.json").read_text())
            found["provenance"]["tuned"]["tried"][1]["learning_rate"] = 0.5
            (path / "record.json").write_text(json.dumps(found))
    found, said = told(folder)
    assert "lora: seeds left out, since they tried other rates than most: 1." in said
    assert next(one for one in found.methods if one.name == "lora").seeds == (0, 2)


def test_old_records_without_a_number_of_validation_examples_say_so(tmp_path):
    folder = write_study(tmp_path / "study", [*STILL, tuned("full", (0.7, 0.6)), tuned("lora", (0.7, 0.6))], n=60)
    for path, _ in records.records_of(folder):
        text = (path / "record.json").read_text()
        (path / "record.json").write_text(re.sub(r',\s*"n_validation": 600', "", text))
    build.build(folder)
    (entry,) = read(folder)["tuning"]
    assert {row["n_validation"] for row in entry["curve"]} == {None}
    assert "on these same validation examples" in entry["note"] and "600" not in entry["note"]
    assert "not recorded" in Page(folder / "report.html").text


def test_text_is_tuned_by_bits_per_byte_of_which_fewer_are_better(tmp_path):
    texts = [
        *TEXTS[:2],
        MadeText("lora", -0.2, seeds=(0, 1, 2), tried=(1.4, 1.3, 1.5)),
        MadeText("full", -0.25, seeds=(0, 1, 2), tried=(1.2, 1.6, 1.7)),
    ]
    folder = write_study(tmp_path / "study", (), texts=texts)
    build.build(folder)
    (entry,) = read(folder)["tuning"]
    full = [row["value"] for row in entry["curve"] if row["method"] == "full"]
    assert full == sorted(full, reverse=True) and entry["metric"] == "bits_per_byte"
    assert "Protocol: context 512" in entry["note"]


def test_without_tuning_there_is_no_section(tmp_path):
    folder = write_study(tmp_path / "study", [*STILL, Made("lora", 0.5)], n=60)
    build.build(folder)
    assert read(folder)["tuning"] == [] and "How fairly" not in Page(folder / "report.html").text
    assert (folder / "tables" / "tuning.csv").read_text().count("\n") == 1


# Training


def test_a_rise_of_the_validation_loss_is_said_with_its_interval_and_no_other(study):
    rows = {row["name"]: row for row in read(study)["training"]}
    full = rows["full"]
    assert full["lowest_at_step"] == 50 and full["rise"] == pytest.approx(0.4, abs=0.05)
    assert 0 < full["rise_low"] < full["rise"] < full["rise_high"] and full["n_validation"] == 600
    assert rows["lora"]["rise"] == 0 and rows["dora"]["failed"] == 1 and rows["dora"]["runs"] == 2
    words = Page(study / "report.html").text
    assert re.search(
        r"full fine-tuning overfits: its validation loss was lowest at step 50 and rose by 0\.\d{3} \(0\.\d{3} to",
        words,
    )
    assert "LoRA overfits" not in words and "Failed, and shown all the same: DoRA, seed 2 (diverged)." in words
    assert "rsLoRA stops early (patience 1): 3 of 3 runs kept earlier weights than the last, of step 75." in words
    assert rows["rslora"]["kept_steps"] == [75, 75, 75]


def test_the_lowest_of_noise_alone_is_rarely_called_overfitting():
    rng = np.random.default_rng(0)
    shown = [events.rise(rng.normal(size=(3, 5))).shown for _ in range(1000)]
    assert np.mean(shown) < 0.04
    with pytest.raises(FtlibError, match="finite"):
        events.rise([[1.0, math.nan]])


def test_one_seed_is_said_to_be_one(tmp_path):
    study = read_study(write_study(tmp_path / "study", [*STILL, Made("full", 0.5, watched=OVERFITS)], n=60))
    (said, *_) = sentences(training(study, next(task_comparisons(study))).methods)
    assert said.startswith("With one seed a rise may be chance; the validation loss rose in the one run of full by 0.")


def test_old_diaries_show_the_training_loss_alone_and_none_leaves_the_section_out(tmp_path):
    folder = write_study(tmp_path / "study", [*STILL, Made("full", 0.5, (0, 1), watched=())], n=60)
    for path in folder.glob("runs/*/events.jsonl"):
        lines = path.read_text().splitlines()
        path.write_text("\n".join(line for line in lines if '"step"' in line and '"fit"' not in line) + "\n")
    build.build(folder)
    (row,) = read(folder)["training"]
    assert row["validation_last"] is None and row["train_last"] < row["train_first"]
    assert "Training loss alone" in Page(folder / "report.html").text
    for path in folder.glob("runs/*/events.jsonl"):
        path.unlink()
    build.build(folder)
    assert read(folder)["training"] == [] and "How training went" not in Page(folder / "report.html").text


def test_the_fit_of_the_setting_that_was_taken_is_shown(tmp_path):
    folder = write_study(tmp_path / "study", [*STILL, tuned("lora", (0.6, 0.9, 0.5), (0,))], n=60)
    study = read_study(folder)
    (one,) = training(study, next(task_comparisons(study))).methods
    ((run, fit),) = one.runs
    assert fit.learning_rate == run.record.provenance["tuned"]["learning_rate"]


def test_a_curve_is_read_from_a_run_fit_by_fit(study):
    path = next(p for p, r in records.records_of(study) if r.spec["resolved"]["method"] == "rslora")
    curve = ftlib.read_curve(path)
    assert list(curve.columns) == ["fit", "learning_rate", "part", "step", "loss"]
    assert set(curve["fit"]) == {1, 2, 3} and set(curve["part"]) == {"train", "validation"}
    assert len(curve.query("fit == 1 and part == 'train'")) == 20
    assert curve.query("fit == 3")["loss"].isna().any() and not curve.query("fit == 1")["loss"].isna().any()
    untrained = next(p for p, r in records.records_of(study) if r.spec["resolved"]["method"] == "tfidf")
    with pytest.raises(FtlibError, match=r"no events\.jsonl"):
        ftlib.read_curve(untrained)
    assert len(ftlib.read_runs(study)) == 14


def test_old_diaries_of_tuned_runs_are_cut_where_the_steps_begin_anew():
    steps = [{"event": "step", "step": step, "loss": 1.0 / step} for step in (1, 2, 3)]
    entries = [
        *steps,
        {"event": "tried", "learning_rate": 0.1},
        *steps,
        {"event": "tried", "learning_rate": 0.3},
        *steps,
    ]
    assert [fit.learning_rate for fit in events.fits(entries)][:2] == [0.1, 0.3]
    assert [len(fit.train) for fit in events.fits([*steps, *steps, {"event": "stage"}])] == [3, 3]
    odd = [{"event": "step", "step": None}, {"event": "step", "step": True}, {"event": "kept", "step": 3}, {}]
    assert events.fits(odd) == []


def test_a_few_shot_study_shows_tuning_and_training_at_the_most_labels(tmp_path):
    made = [
        Made(method, skill, (0, 1, 2), {"shots": shots}, tried=(0.6, 0.5, 0.4), watched=OVERFITS)
        for method, skill in (("lora", 0.2), ("full", 0.4))
        for shots in (4, 64)
    ]
    folder = write_study(tmp_path / "study", [*STILL, *made], n=60)
    build.build(folder)
    content, words = read(folder), Page(folder / "report.html").text
    (entry,) = content["tuning"]
    assert entry["shots"] == 64 and {row["settings"] for row in entry["curve"]} == {"shots=64"}
    assert {row["settings"] for row in content["training"]} == {"shots=64"}
    assert "How fairly were they tuned? pydocs, 64 labels per class" in words
    assert "How training went pydocs, 64 labels per class" in words and "full fine-tuning overfits" in words


# Costs


def test_costs_hold_what_moves_and_how_much_of_the_machine_was_used(study):
    table = costs.costs(read_study(study))
    names = [cell.text for cell in table.header]
    rows = {row[0].text: dict(zip(names, row, strict=True)) for row in table.rows}
    full, tfidf = rows["full"], rows["tfidf"]
    assert full["trainable parameters"].small == "100\xa0%\xa0of\xa022.7\xa0M"
    assert rows["lora"]["trainable parameters"].small == "2.9\xa0%\xa0of\xa022.7\xa0M"
    assert full["share of peak FLOP/s"][:2] == ("33 %", "31\xa0of\xa095\xa0GFLOP/s")
    assert re.fullmatch(r"60\sexamples/s, 1\d\ss\svalidation", full["training time"].small)
    assert full["stored"].text == "90.9 MB" and tfidf["share of peak FLOP/s"].text == ""


def test_costs_that_old_records_do_not_hold_are_not_made_up(tmp_path):
    folder = write_study(tmp_path / "study", [*STILL, Made("lora", 0.5), Made("full", 0.5)], n=60)
    new = ("matmul_peak_flops_per_second", "validation_seconds")
    for path, record in records.records_of(folder):
        found = json.loads((path / "record.json").read_text())
        found["cost"] = {name: value for name, value in record.cost.items() if name not in new}
        (path / "record.json").write_text(json.dumps(found))
    build.build(folder)
    words = Page(folder / "report.html").text
    assert "peak not measured" in words and not re.search(r"\d s validation", words)
    assert "Predicted against actual" not in words


def test_quality_against_what_moves_is_among_the_fronts(study):
    rows = [row for row in read(study)["pareto"] if row["cost"] == "trainable_parameters"]
    assert {row["method"] for row in rows} == {"zero_shot", "full", "lora", "rslora", "dora"}
    assert all(0 <= row["probability"] <= 1 for row in rows)


def test_predictions_stand_beside_what_was_so(study):
    rows = [row for row in read(study)["predicted"] if row["method"] == "full"]
    ratios = {row["what"]: row["ratio"] for row in rows}
    assert ratios == pytest.approx({"peak_memory_bytes": 0.8, "seconds": 2.0, "checkpoint_bytes": 1.0}, rel=1e-6)
    words = Page(study / "report.html").text
    assert "Predicted as a multiple of what it was: peak memory 0.80×" in words and "time 2.00×" in words


# What it is


@pytest.mark.slow
def test_the_same_folder_gives_the_same_bytes(study):
    first = digests(study)
    build.build(study)
    assert digests(study) == first


@pytest.mark.skipif(not CHECK.exists(), reason="the workshop's check_study.py is not beside this checkout")
def test_the_study_keeps_the_contract(study):
    done = subprocess.run([sys.executable, str(CHECK), str(study)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_figure_of_training_has_its_words_and_its_table(study):
    page = Page(study / "report.html")
    words = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert any("expected best of as many settings tried, full fine-tuning: " in said for said in words)
    assert any("Losses of full fine-tuning: training from" in said and "1 failed run" in said for said in words)
    assert page.text.count("The same as a table") >= 6
