"""The report on few-shot studies: methods are compared with as many labels only, and what is not shown is said."""

import csv
import json
import re
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
from conftest import drawn
from learning_curves import collapse, in_files, rising, run_of
from pages import CHECK, Page, digests, read
from synthetic import LIBRARIES, Made, write_study

from ftlib import records
from ftlib.metrics.classification import accuracy, collapsed
from ftlib.records.study import read_study
from ftlib.report import build
from ftlib.report.blocks import figures_of
from ftlib.report.sections import learning_curve
from ftlib.report.sections.comparison import task_comparisons, titles_of
from ftlib.report.sections.learning_curve import LearningCurves, learning_curves
from ftlib.stats.paired import holm

QUESTION = "With the labels I have, what should I do, and when does the answer change?"
METHODS = ("probe", "setfit", "lora", "full")
SHOTS = (1, 4, 8, 32, 64)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Four methods at 1 to 64 labels: a run of full collapsed, one of lora failed, and lora is not there at 64."""
    folder = tmp_path_factory.mktemp("climb") / "study"
    made = [
        run
        for run in rising(METHODS, SHOTS)
        if (run.method, run.fields.get("shots")) not in {("lora", 64), ("lora", 4)}
    ]
    made += [Made("lora", -1.1, [s for s in range(10) if s != 2], {"shots": 4})]
    made += [Made("lora", 0.0, (2,), {"shots": 4}, status="diverged", reason="the loss was not finite")]
    write_study(folder, made, n=300, plan={"margin": 0.02}, question=QUESTION, noise=0.1)
    collapse(run_of(folder, method="full", shots=1, seed=3), "scipy", 0.97)
    in_files(folder)
    with drawn():
        build.build(folder)
    return folder


def climbed(folder, target=None) -> LearningCurves:
    found = read_study(folder)
    (curves,) = learning_curves(list(task_comparisons(found)), found)
    return LearningCurves(curves.comparisons, target) if target is not None else curves


# Who is compared with whom


def shots_in(name: str) -> int:
    found = re.search(r"shots=(\d+)", name)
    return int(found[1]) if found else 0


def test_methods_are_compared_with_as_many_labels_only(study):
    rows = read(study)["verdicts"]
    seen = {k: set() for k in SHOTS}
    for row in rows:
        (k,) = {shots_in(row["a"]), shots_in(row["b"])} - {0}
        seen[k].add(frozenset((row["a"].split()[0], row["b"].split()[0])))
        assert row["sentence"].startswith(f"with {k} label{'s' * (k > 1)} per class, ")
    everyone = [frozenset(pair) for pair in combinations((*METHODS, "zero_shot"), 2)]
    assert all(seen[k] == set(everyone) for k in SHOTS[:-1]) and not any("lora" in pair for pair in seen[64])
    assert not {"tfidf", "majority"} & {row[side] for row in rows for side in "ab"}


def test_each_number_of_labels_is_a_family_of_its_own(study):
    rows = read(study)["verdicts"]
    for k in SHOTS:
        here = [row for row in rows if k in (shots_in(row["a"]), shots_in(row["b"]))]
        assert [row["p_holm"] for row in here] == pytest.approx(list(holm([row["p_value"] for row in here])))
    assert "the comparisons at one number are corrected for being so many (Holm)" in Page(study / "report.html").text


def test_one_number_of_labels_is_no_learning_curve(tmp_path):
    made = [Made("tfidf", 0.5), *(Made(m, s, (0, 1), {"shots": 8}) for m, s in (("probe", 0.2), ("setfit", 0.9)))]
    folder = write_study(tmp_path / "study", made, n=150)
    build.build(folder)
    content, words = read(folder), Page(folder / "report.html").text
    assert content["crossovers"] == content["label_budgets"] == content["collapsed"] == []
    assert "Methods by metrics" in words and "Where one method overtakes another" not in words
    assert {row["a"].split()[0] for row in content["verdicts"]} | {row["b"] for row in content["verdicts"]} >= {"tfidf"}


def test_one_method_with_two_settings_is_two_lines(tmp_path):
    fields = [{"shots": k, "method_args": {"r": r}} for k in (2, 16) for r in (4, 16)]
    made = [Made("lora", 0.1 * f["shots"], (0, 1, 2), f) for f in fields]
    curves = climbed(write_study(tmp_path / "study", [*made, Made("probe", 0.0, (0, 1, 2), {"shots": 2})], n=100))
    assert set(curves.lines) == {"lora r=4", "lora r=16", "probe"} and curves.shots == (2, 16)
    assert set(curves.lines["probe"]) == {2}


# Where curves cross


def test_a_known_crossing_is_found(study):
    rows = {(row["a"], row["b"]): row for row in read(study)["crossovers"]}
    row = rows["setfit", "full"]
    assert row["low"] < 32 < row["high"] and row["low"] < row["shots"] < row["high"], "the skills are equal at 32"
    assert row["shots_is"] == row["low_is"] == row["high_is"] == "number"
    assert row["sentence"].startswith("full overtakes setfit between ")
    row = rows["probe", "full"]
    assert row["low"] < 2**3.14 < row["high"]
    row = rows["probe", "setfit"]
    assert row["shots"] is row["low"] is row["high"] is None
    assert row["shots_is"] == row["low_is"] == row["high_is"] == "below"
    assert set(rows) == {tuple(pair) for pair in rows} and len(rows) == 6, "every two methods once"
    words = Page(study / "report.html").text
    assert "below 1" in words and " inf" not in words and "nan" not in words.split()


def test_samples_that_one_side_lacks_are_left_out(study):
    rows = {frozenset((row["a"], row["b"])): row["n_draws"] for row in read(study)["crossovers"]}
    assert rows[frozenset(("lora", "full"))] == 9 and rows[frozenset(("setfit", "full"))] == 10


def test_examples_of_one_file_count_as_one(study):
    curves = climbed(study)
    parts = [part for comparison in curves.comparisons for one in comparison.methods for part in one.parts.values()]
    assert len(set(parts[0].clusters)) == 60 and all(list(p.clusters) == list(parts[0].clusters) for p in parts)
    assert list(curves.how()["clusters"]) == list(parts[0].clusters)


def test_label_budgets_are_for_what_is_there_and_for_the_plans_target(study):
    rows = {(row["goal"], row["name"]): row for row in read(study)["label_budgets"]}
    assert {goal for goal, _ in rows} == {"tfidf, all labels", "zero_shot (the base model)"}
    # tfidf has 0.9, which setfit has at log2 k = 3.1 and full at 3.9.
    assert rows["tfidf, all labels", "setfit"]["low"] < 2**3.1 < rows["tfidf, all labels", "setfit"]["high"]
    assert rows["tfidf, all labels", "full"]["low"] < 2**3.9 < rows["tfidf, all labels", "full"]["high"]
    found = climbed(study, target=0.99)
    goals = [one for one in found.budgets if one.goal == "the plan's target"]
    assert len(goals) == 4 and all(one.found.shots == np.inf for one in goals)
    said = learning_curve.advise(found).reasons
    assert any("plan's target, accuracy 99.0 %: full not within 64" in line for line in said)


def test_beyond_is_beyond_what_these_two_were_measured_at(tmp_path):
    made = [Made("probe", 1.0, range(4), {"shots": k}) for k in (1, 2, 8)]
    made += [Made("full", s, range(4), {"shots": k}) for k, s in ((1, 1.0), (2, 1.0))]
    folder = write_study(tmp_path / "study", made, n=200, noise=0.0)
    build.build(folder)
    (row,) = read(folder)["crossovers"]
    assert row["measured"] == [1, 2] and row["high_is"] == "beyond"
    words = Page(folder / "report.html").text
    assert "beyond 2" in words and "beyond 8" not in words


# What is said


def test_the_verdict_says_what_to_use_and_where_the_answer_changes(study):
    words = Page(study / "report.html").text
    told = read(study)["advice"][0]
    assert told["headline"].startswith(("It depends on how many labels you have: ", "Use "))
    headline = titles_of(build.Reading(read_study(study)).tops[0])(told["headline"])
    places = [words.index(part) for part in (QUESTION, "Verdict", headline, "What to use with how many labels")]
    assert places == sorted(places)
    covered = " ".join(where for where, _ in told["ranks"])
    assert covered.count("per class") == len(told["ranks"]) >= 3
    assert words.index("Where the answer changes") < words.index("How sure this is")


def test_what_is_not_shown_of_the_contrastive_method_is_said(study):
    (line,) = [line for line in read(study)["advice"][0]["reasons"] if "setfit is not shown better than" in line]
    assert re.search(r"than full with (32 and )?64", line)
    better = {
        shots_in(row["a"])
        for row in read(study)["verdicts"]
        if (row["a"].split()[0], row["b"].split()[0], row["verdict"])
        in {("setfit", "full", "better"), ("full", "setfit", "worse")}
    }
    assert better >= {1, 4, 8} and 64 not in better
    assert any(
        line.startswith("setfit is shown better than full with 1, 4 and 8")
        or line.startswith("setfit is shown better than full with 1 to ")
        for line in read(study)["advice"][0]["reasons"]
    )


def test_curves_without_a_contrastive_method_speak_of_the_one_most_often_best(tmp_path):
    curves = climbed(write_study(tmp_path / "study", rising(("probe", "full"), (4, 64), 4), n=300))
    told = learning_curve.advise(curves)
    assert any(line.startswith(("full is", "probe is", "Nor is")) for line in told.reasons)


def test_one_method_that_always_wins_is_recommended(tmp_path):
    made = [Made("probe", s, range(4), {"shots": k}) for k, s in ((1, 2.0), (8, 3.0))]
    made += [Made("full", s, range(4), {"shots": k}) for k, s in ((1, -1.0), (8, -0.5))]
    told = learning_curve.advise(climbed(write_study(tmp_path / "study", made, n=300)))
    assert told.headline == "Use probe: it is better than everything else from 1 to 8 labels per class."


def test_neighbours_with_one_answer_are_one_segment(tmp_path):
    skills = {("full", 4): 3.5}
    made = [
        Made(method, skills.get((method, k), 0.5), range(4), {"shots": k})
        for method in ("probe", "full")
        for k in (1, 2, 4)
    ]
    found = learning_curve.curve_segments(climbed(write_study(tmp_path / "study", made, n=200, noise=0.0)))
    assert [one.shots for one in found] == [(1, 2), (4,)]
    assert [one.line for one in found[1].best] == ["full"]


def test_few_samples_are_cautioned_about(tmp_path, study):
    folder = write_study(tmp_path / "study", rising(("probe", "setfit"), (4, 8, 64), 3), n=150)
    build.build(folder)
    words = Page(folder / "report.html").text
    assert "Caution: only 3 few-shot samples at 4 and 8 labels per class; at least 10 are advised, since" in words
    assert "Caution: 9 few-shot samples of LoRA at 4 labels per class" in Page(study / "report.html").text


def test_the_plans_target_is_drawn_tabled_and_said(tmp_path):
    made = rising(("probe", "setfit"), (1, 8, 64), 4)
    folder = write_study(tmp_path / "study", made, n=200, plan={"target": 0.75})
    build.build(folder)
    content, words = read(folder), Page(folder / "report.html").text
    goals = {(row["goal"], row["name"]): row for row in content["label_budgets"]}
    row = goals["the plan's target", "setfit"]
    assert row["target"] == 0.75 and row["low"] < row["shots"] < row["high"] and row["measured"] == [1, 8, 64]
    assert content["plan"]["target"] == 0.75 and ", target 0.75" in words
    assert "Labels per class for the plan's target, accuracy 75.0 %: SetFit " in words
    (image,) = [a["alt"] for t, a in Page(folder / "report.html").tags if t == "img" and "against labels" in a["alt"]]
    assert "target: 75.000 at every number" in image


def test_one_sample_says_that_it_cannot_tell(tmp_path):
    folder = write_study(tmp_path / "study", rising(("probe", "setfit"), (4, 8), 1), n=150)
    build.build(folder)
    (row,) = read(folder)["crossovers"]
    assert row["reason"] and row["shots_is"] == "undefined" and row["shots"] is None
    assert "not known" in Page(folder / "report.html").text


def test_what_is_not_measured_everywhere_is_said(study):
    assert "Not measured at every number of labels: LoRA (1 to 32)" in Page(study / "report.html").text


@pytest.mark.parametrize("metric", ["mcc", "brier"])
def test_other_metrics_are_climbed_in_their_own_direction(tmp_path, metric):
    folder = write_study(tmp_path / "study", rising(("probe", "full"), (1, 64), 5), n=300, plan={"primary": metric})
    (one,) = climbed(folder).crossings
    assert (one.a, one.b) == ("probe", "full") and 1 < one.low < 2**3.14 < one.high < 64


# What went wrong


def test_a_collapsed_run_is_named_and_stays_in_the_mean(study):
    (row,) = read(study)["collapsed"]
    expected = {"method": "full", "shots": 1, "seed": 3, "label": "scipy", "n": 300, "task": "pydocs"}
    assert expected.items() <= row.items() and 0.97 <= row["share"] < 1
    found = []
    for run, record in records.records_of(study):
        spec = record.spec["resolved"]
        if (spec["method"], spec["shots"]) == ("full", 1):
            table = records.read_predictions(run).query("stage == 'after'")
            found.append(accuracy(*(table[name].map(LIBRARIES.index).to_numpy() for name in ("label", "prediction"))))
            if spec["seed"] == 3:
                assert row["accuracy"] == pytest.approx(found[-1])
    (level,) = [
        row["value"]
        for row in read(study)["rows"]
        if (row["method"], row["settings"], row["metric"], row["stage"]) == ("full", "shots=1", "accuracy", "after")
    ]
    assert len(found) == 10 and level == pytest.approx(np.mean(found))
    words = Page(study / "report.html").text
    assert "1 of 10 runs of full fine-tuning at 1 label per class collapsed (seed 3) and stays in its mean of " in words
    assert "1 run collapsed to one label and stays in every mean" in words and "Runs that collapsed" in words


def test_a_failed_run_is_shown_and_not_ranked(study):
    content, words = read(study), Page(study / "report.html").text
    (row,) = content["failures"]
    assert (row["method"], row["settings"], row["seed"]) == ("lora", "shots=4", 2)
    assert "the loss was not finite" in words and not content["disagreements"]


def test_collapsing_is_told_from_a_rare_label_and_from_few_examples():
    truth = np.repeat([0, 1, 2], 10)
    assert collapsed(np.full(30, 2), truth) == (2, 1.0)
    assert collapsed(np.append(np.full(28, 2), [0, 1]), truth) is None, "93 %"
    assert collapsed(np.ones(19, int), np.arange(19) % 2) is None, "too few"
    assert collapsed(np.ones(100, int), np.r_[np.ones(81, int), np.zeros(19, int)]) is None, "81 % is the truth"
    assert collapsed(np.ones(100, int), np.r_[np.ones(80, int), np.zeros(20, int)]) == (1, 1.0)


def test_the_majority_class_did_not_collapse_and_other_studies_name_theirs_too(tmp_path):
    folder = write_study(tmp_path / "study", [Made("majority", -2.0), Made("full", 1.0, (0, 1, 2))], n=120)
    collapse(run_of(folder, method="full", seed=1), "numpy")
    build.build(folder)
    (row,) = read(folder)["collapsed"]
    assert (row["method"], row["seed"], row["shots"]) == ("full", 1, 0)
    assert "1 of 3 runs of full fine-tuning collapsed (seed 1)" in Page(folder / "report.html").text


# What it is


def test_figures_have_their_words_and_their_table(study):
    reading = build.Reading(read_study(study))
    curve = learning_curve.first_screen(climbed(study)).curve
    (spread,) = figures_of(learning_curve.SECTION.blocks(learning_curve.SECTION.read(reading)))
    assert curve.kind == "shots" and spread.kind == "samples"
    for method in METHODS:
        assert method in curve.alt and method in spread.alt
        assert method in [row[0] for row in curve.rows] and method in [row[0] for row in spread.rows]
    assert "tfidf, all labels" in curve.alt and "zero_shot" in curve.alt
    assert re.fullmatch(r"\d+\.\d to \d+\.\d, SD \d+\.\d \(10\)", {r[0]: r[1:] for r in spread.rows}["setfit"][3])
    kinds = {path.name.split("-", 2)[2] for path in (study / "figures").glob("*.svg")}
    assert {"shots.svg", "samples.svg"} <= kinds and "forest.svg" not in kinds
    images = [attributes for tag, attributes in Page(study / "report.html").tags if tag == "img"]
    assert images and all(image["alt"] for image in images) and len(images) == len(list((study / "figures").iterdir()))


def test_the_page_stays_short(study):
    html = (study / "report.html").read_text(encoding="utf-8")
    assert html.count("<details") < 30 and html.count("labels per class: ") == len(SHOTS) - 1
    assert len(re.findall(r"<figure", html)) < 8 and not Page(study / "report.html").open


def test_tables_are_written_for_machines(study):
    for name, key in (("crossovers", "sentence"), ("label_budgets", "goal"), ("collapsed", "label")):
        with (study / "tables" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(read(study)[name]) > 0 and all(row[key] for row in rows)
        assert "inf" not in {value for row in rows for value in row.values()}
    assert isinstance(read(study)["pareto"], list)


@pytest.mark.slow
def test_the_same_folder_gives_the_same_bytes(study):
    before = digests(study)
    code = "import sys; from ftlib.report.build import build; build(sys.argv[1])"
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(study)], check=True)
    assert digests(study) == before != {}


@pytest.mark.skipif(not CHECK.exists(), reason="the workshop's check_study.py is not beside this checkout")
def test_the_study_keeps_the_contract(study):
    done = subprocess.run([sys.executable, str(CHECK), str(study)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_several_tasks_are_seen_at_a_glance(tmp_path):
    (tmp_path / "b.csv").write_text("text,label\n")
    made = rising(("probe", "setfit", "full"), (1, 8, 64), 4) + rising(
        ("probe", "setfit", "full"), (1, 8), 4, f"file:{tmp_path / 'b.csv'}"
    )
    folder = write_study(tmp_path / "study", made, n=200)
    build.build(folder)
    words = Page(folder / "report.html").text
    assert "All tasks at a glance" in words and words.count("Verdict ·") == 2
    assert words.index("All tasks at a glance") < words.index("Verdict")
    assert {row["task"] for row in read(folder)["crossovers"]} == {"pydocs", f"file:{tmp_path / 'b.csv'}"}


def test_hostile_names_stay_inert(tmp_path):
    folder = write_study(tmp_path / "study", rising(("probe", "setfit"), (1, 8), 2), n=60, labels=("<script>", "=1+1"))
    collapse(run_of(folder, method="probe", shots=1, seed=1), "=1+1", labels=("<script>", "=1+1"))
    build.build(folder)
    assert "<script>=1" not in (html := (folder / "report.html").read_text()) and "&lt;script&gt;" in html
    scripts = [attributes for tag, attributes in Page(folder / "report.html").tags if tag == "script"]
    assert all(attributes in ({}, {"type": "application/json"}) for attributes in scripts)
    assert "'=1+1" in (folder / "tables" / "collapsed.csv").read_text()
    assert json.loads((folder / "report.json").read_text())["collapsed"][0]["label"] == "=1+1"
