"""The report: a pure function of a study's folder that says what the records say, to anyone, safely."""

import base64
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import drawn
from pages import CHECK, OUTPUTS, ROOT, Page, digests, read
from sklearn import metrics as sklearn_metrics
from synthetic import HOSTILE, TEXTS, TYPICAL, Made, write_study

from ftlib import records
from ftlib.core.errors import FtlibError
from ftlib.records.study import read_study
from ftlib.report import blocks, build
from ftlib.report.sections import examples, recommendation
from ftlib.report.sections.comparison import scores, task_comparisons
from ftlib.stats.verdict import compare

REASON = "</td><script>alert('reason')</script>"
ATTACKED = (
    *TYPICAL[:4],
    Made("lora", 1.0, (0, 1, 2)),
    Made("full", 1.1, (0, 1)),
    Made("full", 0.0, (2,), status="diverged", reason=REASON),
    Made("full", 0.0, (0,), {"shots": 8}, status="failed", reason="=cmd|' /C calc'!A0"),
)


@pytest.fixture(scope="module")
def study_dir(tmp_path_factory) -> Path:
    study = write_study(tmp_path_factory.mktemp("study_dir") / "study")
    build.build(study)
    return study


@pytest.fixture(scope="module")
def attacked(tmp_path_factory) -> Path:
    question = "Is </title><script>alert(1)</script> safe?"
    study = write_study(
        tmp_path_factory.mktemp("attacked") / "study", ATTACKED, labels=HOSTILE, hostile=True, question=question
    )
    with drawn():
        build.build(study)
    return study


def advised(folder: Path) -> recommendation.Advice:
    study = read_study(folder)
    return recommendation.advise(next(task_comparisons(study)))


# What it says


def test_every_value_is_what_scikit_learn_gives_from_the_predictions(study_dir):
    rows = pd.DataFrame(read(study_dir)["rows"]).set_index(["method", "stage", "metric"])
    for method in ("tfidf", "full"):
        found: dict[str, list[float]] = {}
        for run_dir, record in records.records_of(study_dir):
            if record.spec["resolved"]["method"] == method:
                table = records.read_predictions(run_dir).query("stage == 'after'")
                truth, given = table["label"], table["prediction"]
                found.setdefault("accuracy", []).append(sklearn_metrics.accuracy_score(truth, given))
                found.setdefault("f1_macro", []).append(sklearn_metrics.f1_score(truth, given, average="macro"))
                found.setdefault("mcc", []).append(sklearn_metrics.matthews_corrcoef(truth, given))
                each = sklearn_metrics.f1_score(truth, given, average=None, labels=["torch"])
                found.setdefault("f1.torch", []).append(each[0])
        for metric, values in found.items():
            row = rows.loc[(method, "after", metric)]
            assert row["value"] == pytest.approx(np.mean(values), abs=1e-12)
            assert row["low"] < row["value"] < row["high"] and row["n"] == 300 and row["seeds"] == len(values)


def test_a_verdict_is_what_compare_says(study_dir):
    study = read_study(study_dir)
    runs = {group.name: [run.parts["after", "test"] for run in group.ok] for group in study.groups}
    right = {name: np.stack([part.truth == part.chosen for part in parts]) for name, parts in runs.items()}
    for row in read(study_dir)["verdicts"]:
        a, b = right[row["a"]], right[row["b"]]
        expected = compare(a, b, margin=0.01, rng=np.random.default_rng(0))
        found = [row[name] for name in ("difference", "low", "high", "p_value")]
        assert found == pytest.approx([expected.difference, expected.low, expected.high, expected.p_value])
        assert row["p_holm"] >= row["p_value"]


def test_scores_are_of_metrics_that_the_predictions_give(study_dir):
    one = next(task_comparisons(read_study(study_dir))).methods[0]
    assert scores(one, "accuracy").shape[1] == 300
    with pytest.raises(FtlibError, match="metric: unknown 'acuracy'; did you mean 'accuracy'"):
        scores(one, "acuracy")


def test_values_without_a_number_carry_the_reason(study_dir):
    rows = read(study_dir)["rows"]
    missing = [row for row in rows if row["value"] is None]
    assert missing and all(row["reason"] for row in missing)
    assert any(row["method"] == "majority" and row["metric"] == "mcc" for row in missing)
    assert "only one label is ever predicted" in Page(study_dir / "report.html").text


def test_the_untouched_model_and_the_baselines_are_rows(study_dir):
    rows = read(study_dir)["rows"]
    assert {row["method"] for row in rows} == {"majority", "tfidf", "zero_shot", "probe", "full", "lora"}
    before = [row for row in rows if row["stage"] == "before" and row["metric"] == "accuracy"]
    assert {row["method"] for row in before} == {"zero_shot", "probe", "full", "lora"}
    words = Page(study_dir / "report.html").text
    assert "base model" in words and "measured by zero-shot" in words


def test_the_untouched_model_stands_for_itself_without_a_zero_shot_run(tmp_path):
    study = write_study(tmp_path / "study", [Made("tfidf", 0.5), Made("probe", 0.9)], n=100)
    found = next(task_comparisons(read_study(study)))
    assert {one.name for one in found.methods} == {"tfidf", "probe", "base model"}
    assert found.pair("probe", "base model") is not None


def test_the_page_opens_with_question_verdict_and_interval(study_dir):
    words = Page(study_dir / "report.html").text
    places = [words.index(part) for part in ("LoRA or full fine-tuning", "Verdict", "accuracy", "How sure this is")]
    assert places == sorted(places) and places[-1] < words.index("Methods by metrics")
    assert re.search(r"\d\d\.\d % \(\d\d\.\d to \d\d\.\d\)", words)
    assert "The evaluation plan was fixed before the first run: all 10 runs" in words
    assert "Minimum detectable difference (80 % power): " in words
    assert "would be missed by 3 seeds 73 % of the time" in words


def test_a_clear_winner_is_named_and_a_loser_is_not(tmp_path):
    made = [
        Made("majority", -2),
        Made("zero_shot", 0.0, as_before=True),
        Made("probe", 0.2),
        Made("full", 3.0, range(5)),
    ]
    told = advised(write_study(tmp_path / "study", made, n=400, noise=0.01))
    assert told.headline == "Use full: it is better than everything else that was tried."
    assert any(line.startswith("full is better than zero_shot (the base model) by ") for line in told.reasons)
    assert [rank for rank, _ in told.ranks] == ["1", "2", "4"] or [rank for rank, _ in told.ranks][0] == "1"


def test_of_methods_that_are_the_same_the_cheapest_is_recommended(tmp_path):
    made = [Made("majority", -2), Made("lora", 0.9, range(6)), Made("full", 0.9, range(6))]
    study = write_study(tmp_path / "study", made, n=1500, plan={"margin": 0.06}, noise=0.0)
    told = advised(study)
    assert told.chosen == "lora"
    assert told.headline.startswith("Use lora: ") and "are equivalent within 6 points" in told.headline


def test_what_is_not_shown_to_differ_is_said_so(study_dir):
    told = advised(study_dir)
    assert told.headline.startswith("No winner yet: ") and "are not shown to differ" in told.headline
    assert any("would decide" in line for line in told.reasons)
    assert any("If you must choose today" in line for line in told.reasons)
    assert ("1", "full, tfidf, lora and probe") in told.ranks or told.ranks[0][1].count(",") >= 1


def test_one_seed_speaks_for_one_training_run(tmp_path):
    told = advised(write_study(tmp_path / "study", [Made("lora", 1.0), Made("full", 1.0)], n=100))
    assert any("One seed per method" in line for line in told.limits)


@pytest.mark.parametrize("metric", ["f1_macro", "mcc", "brier"])
def test_other_primary_metrics_are_compared_in_their_own_direction(tmp_path, metric):
    made = [Made("tfidf", -0.5), Made("probe", 2.5)]
    study = write_study(tmp_path / "study", made, n=200, plan={"primary": metric})
    build.build(study)
    found = next(task_comparisons(read_study(study)))
    assert found.methods[0].name == "probe"
    assert found.pair("probe", "tfidf").comparison.verdict == "better"
    assert read(study)["verdicts"][0]["metric"] == metric


def test_unequal_training_data_is_said(tmp_path):
    made = [Made("tfidf", 0.5), Made("probe", 0.5, fields={"train_limit": 1000})]
    told = advised(write_study(tmp_path / "study", made, n=60))
    assert any("4\u202f000 to tfidf, 1\u202f000 to probe" in line for line in told.limits)


def test_settings_name_the_fields_that_differ(tmp_path):
    made = [Made("probe", s, (0, 1), {"shots": k}) for k, s in ((8, 0.0), (64, 1.0))] + [Made("probe", 1.2)]
    study = write_study(tmp_path / "study", [*made, Made("lora", 1.0, (0, 1), {"method_args": {"r": 4}})], n=120)
    build.build(study)
    content = read(study)
    assert {(row["method"], row["settings"]) for row in content["rows"]} == {
        ("probe", ""), ("probe", "shots=8"), ("probe", "shots=64"), ("lora", ""),
    }  # fmt: skip
    assert "labels per class" in Page(study / "report.html").text


# What went wrong


def test_failed_runs_are_shown_and_never_ranked(attacked):
    content, words = read(attacked), Page(attacked / "report.html").text
    assert {(row["method"], row["settings"], row["seed"], row["status"]) for row in content["failures"]} == {
        ("full", "", 2, "diverged"), ("full", "shots=8", 0, "failed"),
    }  # fmt: skip
    assert "2 runs did not give a result" in words and REASON in words
    assert not any("full shots=8" in (row["a"], row["b"]) for row in content["verdicts"])
    assert "no run finished (1 run: failed)" in words


def test_missing_seeds_leave_the_common_ones_and_the_page_says_so(attacked):
    pair = next(row for row in read(attacked)["verdicts"] if {row["a"], row["b"]} == {"lora", "full"})
    assert pair["seeds"] == 2 and "lora [seeds 0, 1]" in pair["sentence"]
    assert "use only those that finished on both sides: LoRA (2 seeds)" in Page(attacked / "report.html").text


def test_a_record_that_its_predictions_do_not_give_is_said_loudly(study_dir, tmp_path):
    study = shutil.copytree(study_dir, tmp_path / "study")
    path = next(path for path, record in records.records_of(study) if record.spec["resolved"]["method"] == "lora")
    record = json.loads((path / "record.json").read_text())
    record["metrics"]["after"]["test"]["accuracy"]["value"] += 0.001
    record["metrics"]["after"]["test"]["f1_macro"]["n"] = 299
    (path / "record.json").write_text(json.dumps(record))
    build.build(study)
    found = read(study)["disagreements"]
    assert [one["where"] for one in found] == ["after.test.accuracy", "after.test.f1_macro, n"]
    words = Page(study / "report.html").text
    assert "Do not rely on this report yet" in words and path.name in words
    assert words.index("Do not rely on this report yet") < words.index("Verdict")
    assert read(study_dir)["rows"] == read(study)["rows"], "the figures come from the predictions"


def test_runs_on_other_examples_are_not_comparable(tmp_path):
    study = write_study(tmp_path / "study", TYPICAL[:4], n=80)
    path = next(path for path, record in records.records_of(study) if record.spec["resolved"]["method"] == "tfidf")
    table = records.read_predictions(path).iloc[:60]
    table.to_parquet(path / "predictions.parquet", index=False)
    build.build(study)
    words = Page(study / "report.html").text
    assert "not comparable, since their test examples differ" in words and "TF-IDF (60 test examples)" in words
    assert not any("tfidf" in (row["a"], row["b"]) for row in read(study)["verdicts"])


@pytest.mark.parametrize("harm", ["missing", "garbage", "doubled"])
def test_predictions_that_cannot_be_used_are_a_failure(tmp_path, harm):
    study = write_study(tmp_path / "study", TYPICAL[:4], n=60)
    path = next(path for path, record in records.records_of(study) if record.spec["resolved"]["method"] == "probe")
    if harm == "missing":
        (path / "predictions.parquet").unlink()
    elif harm == "garbage":
        (path / "predictions.parquet").write_bytes(b"PAR1 not parquet")
    else:
        table = records.read_predictions(path)
        pd.concat([table, table.iloc[:1]]).to_parquet(path / "predictions.parquet", index=False)
    build.build(study)
    (failure,) = read(study)["failures"]
    assert failure["method"] == "probe" and failure["status"] == "unreadable" and failure["reason"]
    assert not any("probe" in (row["a"], row["b"]) for row in read(study)["verdicts"])


def test_runs_that_the_suite_asks_for_and_are_not_there_are_listed(tmp_path):
    study = write_study(tmp_path / "study", TYPICAL[:5], n=60)
    gone = [path for path, record in records.records_of(study) if record.spec["resolved"]["method"] == "lora"]
    shutil.rmtree(gone[0])
    build.build(study)
    assert len(read(study)["missing"]) == 1
    assert "1 run that suite.toml asks for is not here yet" in Page(study / "report.html").text


def test_another_plan_makes_it_exploratory(study_dir, tmp_path):
    study = shutil.copytree(study_dir, tmp_path / "study")
    suite = study / "suite.toml"
    suite.write_text(suite.read_text().replace("margin = 0.01", "margin = 0.02"))
    build.build(study)
    assert read(study)["provenance"]["plan_stood_before_the_runs"] is False
    assert "Exploratory: all runs were made under another plan" in Page(study / "report.html").text
    suite.unlink()
    build.build(study)
    assert "Exploratory: no plan was fixed before the runs" in Page(study / "report.html").text


def test_a_study_where_nothing_finished_still_reports(tmp_path):
    made = [Made("lora", 1.0, (0, 1), status="timeout", reason="stopped after 60 s")]
    study = write_study(tmp_path / "study", made)
    build.build(study)
    words = Page(study / "report.html").text
    assert "No run has finished" in words and "stopped after 60 s" in words
    assert read(study)["rows"] == [] and len(read(study)["failures"]) == 2


def test_a_folder_without_records_is_an_error(tmp_path):
    with pytest.raises(FtlibError, match="run the suite first"):
        build.build(tmp_path)


# Whom it cannot harm


def test_hostile_text_is_inert_on_the_page(attacked):
    path = attacked / "report.html"
    page = Page(path)
    tags = {tag for tag, _ in page.tags}
    assert tags.isdisjoint({"iframe", "object", "embed", "link", "form", "base", "svg", "b"})
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes), (tag, attributes)
        if tag == "img":
            assert attributes["src"].startswith("data:image/svg+xml;base64,") and attributes["alt"]
        if tag == "a":
            assert re.fullmatch(r"#\w+|runs/[\w%.-]+/[\w.]+", attributes["href"])
        links = [value for name, value in attributes.items() if name in ("src", "href", "srcset", "action")]
        assert not any(":" in link.removeprefix("data:") for link in links)
    for said in (*HOSTILE, "alert('text')", REASON, "Is </title><script>alert(1)</script> safe?"):
        assert said in page.text
    assert not page.open, "every tag is closed"


def test_the_policy_allows_this_style_sheet_and_nothing_else(attacked):
    html = (attacked / "report.html").read_text(encoding="utf-8")
    policy = next(a["content"] for t, a in Page(attacked / "report.html").tags if "Content-Security" in str(a))
    style = re.search(r"<style>(.*?)</style>", html, flags=re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none';") and f"style-src 'sha256-{digest}';" in policy
    assert "unsafe" not in policy and html.count("<style>") == 1


def test_the_policy_allows_the_one_script_and_data_stays_data(attacked, tmp_path):
    html = (attacked / "report.html").read_text(encoding="utf-8")
    policy = next(a["content"] for t, a in Page(attacked / "report.html").tags if "Content-Security" in str(a))
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", html, flags=re.DOTALL)
    code = [said for kind, said in scripts if not kind]
    data = [json.loads(said) for kind, said in scripts if kind == ' type="application/json"']
    assert len(code) + len(data) == len(scripts) and len(code) == 1
    digest = base64.b64encode(hashlib.sha256(code[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in policy and "innerHTML" not in code[0]
    assert any("alert('text')" in row[1] for row in data[0]["rows"]), "texts are there, and no markup"
    texts = write_study(tmp_path / "study", (), texts=TEXTS)
    build.build(texts)
    html = (texts / "report.html").read_text(encoding="utf-8")
    assert "<script" not in html and "script-src" not in html, "without examples there is no script"


def test_every_example_is_on_the_page_and_those_the_best_two_disagree_on_come_first(study_dir):
    html = (study_dir / "report.html").read_text(encoding="utf-8")
    found = json.loads(re.search(r'<script type="application/json">(.*?)</script>', html, flags=re.DOTALL)[1])
    assert len(found["rows"]) == 300 and len(found["methods"]) == 5
    first = [said[0] == truth for _, _, truth, said, _ in found["rows"]]
    second = [said[1] == truth for _, _, truth, said, _ in found["rows"]]
    differ = [a != b for a, b in zip(first, second, strict=True)]
    assert differ == sorted(differ, reverse=True) and any(differ)
    assert all(0 <= p <= 100 for *_, sure in found["rows"] for p in sure)


def test_tables_open_in_a_spreadsheet_without_running_anything(attacked):
    for path in (attacked / "tables").glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            for value in (value for row in csv.reader(file) for value in row):
                assert not value.startswith(("=", "@", "+", "\t", "\r")), value
                assert not value.startswith("-") or float(value) < 0
    assert "'=cmd" in (attacked / "tables" / "failures.csv").read_text(encoding="utf-8")
    assert "'=HYPERLINK" in (attacked / "tables" / "hard_examples.csv").read_text(encoding="utf-8")
    assert blocks.cell("-1e5") == "-1e5" and blocks.cell("-1+1") == "'-1+1"


def test_figures_beside_the_page_are_those_on_it_and_old_ones_go(study_dir):
    (study_dir / "figures" / "9-99-forest.svg").write_text("left by an earlier report")
    (study_dir / "figures" / "mine.svg").write_text("not the report's")
    with drawn():
        build.build(study_dir)
    shown = [a["src"].partition(",")[2] for tag, a in Page(study_dir / "report.html").tags if tag == "img"]
    files = sorted(path for path in (study_dir / "figures").glob("*.svg") if path.name != "mine.svg")
    assert [base64.b64decode(data) for data in shown] == [path.read_bytes() for path in files]
    assert len({path.read_bytes() for path in files}) > 5, "pictures, not one and the same"
    assert (study_dir / "figures" / "mine.svg").exists()


def test_texts_are_shown_where_the_study_holds_them_and_ids_elsewhere(study_dir, tmp_path):
    hard = pd.read_csv(study_dir / "tables" / "hard_examples.csv", keep_default_na=False)
    assert len(hard) and hard["text"].str.startswith("Return the").all()
    assert (hard["label"] != hard["said"]).all()
    study = shutil.copytree(study_dir, tmp_path / "study")
    shutil.rmtree(study / "examples")
    build.build(study)
    assert "does not hold the texts, so only ids are shown" in Page(study / "report.html").text


# What it is


def test_the_same_folder_gives_the_same_bytes_anywhere_and_without_torch(attacked, tmp_path):
    study = shutil.copytree(attacked, tmp_path / "elsewhere" / "study")
    for pattern in OUTPUTS:
        for path in study.glob(pattern):
            path.unlink()
    code = (
        "import sys; from ftlib.report.build import build; build(sys.argv[1]); "
        "assert 'torch' not in sys.modules and 'sklearn' not in sys.modules, 'torch or scikit-learn was imported'"
    )
    environment = os.environ | {"PYTHONHASHSEED": "77", "PYTHONPATH": str(ROOT), "TZ": "Asia/Tokyo", "LANG": "C"}
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(study)], check=True, env=environment, cwd=tmp_path)
    assert digests(study) == digests(attacked) != {}


@pytest.mark.skipif(not CHECK.exists(), reason="the workshop's check_study.py is not beside this checkout")
def test_the_study_keeps_the_contract(attacked):
    done = subprocess.run([sys.executable, str(CHECK), str(attacked)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_many_methods_are_compared_with_the_best_and_the_page_stays_readable(tmp_path):
    made = [Made("probe", 0.5 + 0.01 * k, fields={"method_args": {"C": 1.0 + k}}) for k in range(41)]
    study = write_study(tmp_path / "study", made, n=60, labels=("a", "b"), examples=False)
    build.build(study)
    content = read(study)
    assert len(content["verdicts"]) == 24 * 23 // 2 + (42 - 24)
    assert "beyond the first 24, methods are compared with the best only" in content["notes"]
    assert "2 more methods" in Page(study / "report.html").text


def test_several_tasks_have_a_verdict_each_and_one_table_for_all(tmp_path):
    task = tmp_path / "b.csv"
    task.write_text("text,label\n")
    made = [Made("tfidf", 0.0), Made("probe", 2.0)]
    made += [Made("tfidf", 2.0, fields={"task": f"file:{task}"}), Made("probe", 0.0, fields={"task": f"file:{task}"})]
    study = write_study(tmp_path / "study", made, n=200)
    build.build(study)
    content, words = read(study), Page(study / "report.html").text
    assert {row["task"] for row in content["verdicts"]} == {"pydocs", f"file:{task}"}
    best = {one["task"]: one["chosen"] for one in content["advice"]}
    assert best == {"pydocs": "probe", f"file:{task}": "tfidf"}
    assert "All tasks" in words and words.count("Verdict ·") == 2


def test_the_middle_half_and_the_chances_need_the_same_runs_on_every_task(tmp_path):
    task = tmp_path / "b.csv"
    task.write_text("text,label\n")
    other = {"task": f"file:{task}"}
    skills = {"probe": 0.0, "lora": 1.0, "full": 3.0}
    made = [Made(m, skill, (0, 1, 2), more) for m, skill in skills.items() for more in ({}, other)]
    study = write_study(tmp_path / "study", [*made, Made("tfidf", 0.5)])
    build.build(study)
    words = Page(study / "report.html").text
    assert "middle half of runs" in words
    assert "not as many runs on every task" in words
    # Six runs of full, six of lora, far apart: every run of one beats every run of the other.
    assert "full beats lora" in words and "1.00" in words
    assert "lora beats full" not in words


def test_examples_to_search_are_of_labels_only():
    one = SimpleNamespace(group=None)
    comparison = SimpleNamespace(of_text=False, has_labels=False, methods=(one, one))
    assert examples.answers(None, comparison, None) is None
