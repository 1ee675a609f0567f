"""Page one: the card says in one word each what the comparisons say, and what it says beside them is generated."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from groups import LABELS, give_groups
from pages import Page, read
from sklearn.metrics import precision_recall_fscore_support
from synthetic import TEXTS, TYPICAL, Made, write_study

from ftlib import records
from ftlib.config.methods import METHODS
from ftlib.records.study import read_study
from ftlib.report import build, plots
from ftlib.report.sections import error_analysis, page_one, report_card
from ftlib.report.sections.comparison import task_comparisons, titles_of

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Labels, text and general text."""
    made = (
        *TYPICAL[:4],
        Made("lora", 1.6, SEEDS, general=0.05),
        Made("full", 2.2, SEEDS, general=0.2),
    )
    folder = write_study(tmp_path_factory.mktemp("card") / "study", made, labels=("nurse", "poet"), n=240, texts=TEXTS)
    build.build(folder)
    return folder


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """Groups of people, whom full fine-tuning treats worse."""
    made = (*TYPICAL[:4], Made("lora", 1.6, SEEDS), Made("full", 2.2, SEEDS))
    folder = write_study(tmp_path_factory.mktemp("people") / "study", made, labels=LABELS, n=240)
    give_groups(folder, {"full": 0.6})
    build.build(folder)
    return folder


def cell(study: Path, name: str, measure: str) -> dict:
    rows = read(study)["report_card"]
    return next(row for row in rows if row["name"] == name and row["measure"] == measure)


def test_the_card_has_every_family(study, people):
    rows = read(study)["report_card"] + read(people)["report_card"]
    assert {row["family"] for row in rows} == {"quality", "text", "forgetting", "bias", "cost"}
    assert {row["measure"].partition(":")[0] for row in rows} >= {
        "accuracy", "f1_macro", "bits_per_byte", "perplexity", "equal_opportunity_difference", "train_seconds",
    }  # fmt: skip


def test_the_card_says_of_the_primary_metric_what_the_verdicts_say(study):
    words = {"better": "worse", "worse": "better"}
    verdicts = {}
    for row in read(study)["verdicts"]:
        verdicts[row["task"], row["a"], row["b"]] = row["verdict"]
        verdicts[row["task"], row["b"], row["a"]] = words.get(row["verdict"], row["verdict"])
    shown = [row for row in read(study)["report_card"] if row["measure"] in ("accuracy", "bits_per_byte")]
    compared = [row for row in shown if row["verdict"] not in (None, "base")]
    assert len(compared) > 5
    for row in compared:
        assert row["verdict"] == verdicts[row["task"], row["name"], row["against"]]


def test_a_cell_has_value_interval_n_and_seeds(study):
    one = cell(study, "full", "f1_macro")
    assert one["low"] < one["value"] < one["high"] and one["n"] == 240 and one["seeds"] == 3
    assert one["verdict"] == "better" and one["against"] == "zero_shot"
    assert cell(study, "zero_shot", "f1_macro")["verdict"] == "base"


def test_perplexity_has_the_verdict_of_the_likelihood_it_is_made_of(study):
    assert cell(study, "full", "perplexity")["verdict"] == cell(study, "full", "bits_per_byte")["verdict"] == "better"


def test_more_bits_on_general_text_are_forgotten(study):
    assert cell(study, "full", "bits_per_byte:general")["verdict"] == "worse"


def test_the_page_says_it_in_words_and_shape(study):
    words = Page(study / "report.html").text
    for said in ("▲ better", "● base", "What to do next", "What this study does not show", "Report card"):
        assert said in words
    assert words.index("Report card") < words.index("How sure this is") < words.index("Methods by metrics")
    assert "Its label:" in words and "licence" in words and "3 seeds" in words


def test_unfinished_studies_say_first_to_finish_them(tmp_path):
    folder = write_study(tmp_path / "study", TYPICAL, n=60)
    gone = [path for path in sorted(folder.glob("runs/*/record.json")) if '"lora"' in path.read_text()]
    for path in gone:
        path.unlink()
    build.build(folder)
    words = Page(folder / "report.html").text
    assert "Finish the study: 3 runs are missing, an unknown time of computing" in words, "no run of it is there"


def test_groups_too_small_for_a_gap_leave_no_column_and_no_error(tmp_path):
    folder = write_study(tmp_path / "study", TYPICAL[:3], labels=LABELS, n=10)
    give_groups(folder, few=0, unnamed=0)
    build.build(folder)
    assert not [row for row in read(folder)["report_card"] if row["family"] == "bias"]
    words = Page(folder / "report.html").text
    assert "no groups and no evaluation of bias were measured" not in words
    assert (
        "How groups by gender differ in how often a label is found: no label has enough examples of two groups" in words
    )


def test_every_column_of_groups_is_on_the_card_and_what_is_not_is_told(tmp_path):
    """Of `town` half of whose B is got wrong by full, whatever the label; of `gender` nobody."""
    folder = write_study(tmp_path / "study", (*TYPICAL[:3], Made("full", 2.2, SEEDS)), labels=LABELS, n=240)
    for path, record in records.records_of(folder):
        table = records.read_predictions(path)
        number = table["id"].str.removeprefix("test-").astype(int)
        table["group_gender"] = np.where(number % 2 == 0, "woman", "man")
        table["group_town"] = np.where(number % 3 == 0, "B", "A")
        # Of one label B has too few examples.
        table.loc[(table["label"] == LABELS[2]) & (number > 20), "group_town"] = "A"
        if record.spec["resolved"]["method"] == "full":
            wrong = (table["stage"] == "after") & (table["group_town"] == "B") & (number % 2 == 0)
            other = dict(zip(LABELS, LABELS[1:] + LABELS[:1], strict=True))
            table.loc[wrong, "prediction"] = table.loc[wrong, "label"].map(other)
        table.to_parquet(path / "predictions.parquet", index=False)
    build.build(folder)
    measures = {row["measure"] for row in read(folder)["report_card"] if row["family"] == "bias"}
    assert measures == {"equal_opportunity_difference:gender", "equal_opportunity_difference:town"}
    words = Page(folder / "report.html").text
    assert "Gaps beside the card's: full fine-tuning's accuracy is " in words and " apart by town, A against B" in words
    assert f"left out, having too few examples: {LABELS[2]} of B (" in words
    gaps = [row for row in read(folder)["groups"] if row["metric"] == "equal_opportunity_difference"]
    bias = [row for row in read(folder)["report_card"] if row["family"] == "bias"]
    of_card = {(row["measure"], row["name"]): row["n"] for row in bias}
    for row in gaps:
        if row["stage"] == "after":
            assert of_card[f"{row['metric']}:{row['column']}", row["method"]] == row["n"], "as many as the table says"


def test_the_bias_of_a_lone_base_model_stands_on_the_card(tmp_path):
    folder = write_study(tmp_path / "study", (TYPICAL[0], Made("full", 2.2, SEEDS)), labels=LABELS, n=240)
    give_groups(folder, {"full": 0.6})
    build.build(folder)
    bias = {row["name"]: row for row in read(folder)["report_card"] if row["family"] == "bias"}
    assert bias["base model"]["verdict"] == "base" and 0 <= bias["base model"]["low"] <= bias["base model"]["value"]


def test_costs_of_errors_say_nothing_of_three_labels(tmp_path):
    folder = write_study(tmp_path / "study", TYPICAL[:3], labels=LABELS, n=60)
    suite = (folder / "suite.toml").read_text(encoding="utf-8")
    (folder / "suite.toml").write_text(
        suite.replace("[study]\n", "[study]\nerror_costs = {false_alarm = 1, miss = 5}\n"), encoding="utf-8"
    )
    words = Page(build.build(folder)).text
    assert "Your costs of errors are of a task with two labels; this one has 3, so nothing is said by them." in words


def test_methods_on_unequal_terms_are_named(tmp_path):
    plain, other = Made("full", 1.0, SEEDS), Made("lora", 1.2, SEEDS, {"mitigation": "reweight"})
    folder = write_study(tmp_path / "one", (*TYPICAL[:3], plain, other), n=60)
    said = "What of a difference is the method's own: LoRA has mitigation = reweight, which not all others have."
    assert said in Page(build.build(folder)).text
    # Where the name says it, or all have it, there is nothing to add.
    for name, made in (("two", (plain, other, Made("lora", 1.0, SEEDS))), ("three", (other,))):
        folder = write_study(tmp_path / name, (*TYPICAL[:3], *made), n=60)
        assert "What of a difference is the method's own" not in Page(build.build(folder)).text


def test_more_training_takes_longer_by_its_steps():
    def group(method, **spec):
        return SimpleNamespace(method=method, runs=[SimpleNamespace(resolved=spec)])

    short = group("full", batch_size=16, epochs=2.0, min_steps=40)
    assert page_one._steps(short, 140) == page_one._steps(short, 60) == 40
    assert page_one._steps(group("full", batch_size=16, epochs=2.0, min_steps=0), 140) == 18
    assert page_one._steps(group("probe"), 140) == 140


def test_of_gaps_sizes_are_compared_wherever_they_are(people):
    gap = {row["name"]: row for row in read(people)["report_card"] if row["family"] == "bias"}
    rows = [row for row in read(people)["groups"] if row["stage"] == "after"]
    said = {row["method"]: row for row in rows if row["metric"] == "equal_opportunity_difference"}
    assert gap["full"]["value"] == pytest.approx(said["full"]["value"])
    assert gap["full"]["verdict"] == "worse" and gap["zero_shot"]["verdict"] == "base"
    assert gap["tfidf"]["verdict"] is None, "nothing was measured before"


def test_one_method_has_one_look_in_every_figure():
    with plots.one_look(["lora", "full", "probe"]):
        assert plots.looks(["full", "probe"])["probe"] == plots.looks(["probe shots=8"])["probe shots=8"]
        assert len(set(plots.looks(f"method {k}" for k in range(60)).values())) == 60


def test_a_base_model_is_that_of_the_method(study):
    found = json.loads((study / "report.json").read_text(encoding="utf-8"))["report_card"]
    assert {row["against"] for row in found} == {"zero_shot", None}
    assert report_card.SECTION.columns["report_card"][:4] == ("task", "model", "method", "settings")


def test_the_persons_own_costs_of_errors_are_answered_on_page_one(study, tmp_path):
    own = shutil.copytree(study, tmp_path / "study")
    suite = (own / "suite.toml").read_text(encoding="utf-8")
    (own / "suite.toml").write_text(
        suite.replace("[study]\n", "[study]\nerror_costs = {false_alarm = 1, miss = 30}\n"), encoding="utf-8"
    )
    words = Page(build.build(own)).text
    rows = [row for row in read(own)["thresholds"] if row["miss_costs"] == 30]
    assert {row["false_alarm_costs"] for row in rows} == {1}
    best = min(rows, key=lambda row: row["value"])
    said = f"By your costs (a false alarm 1, a miss 30): {best['name']}, calling a text poet from "
    said = titles_of(next(task_comparisons(read_study(own))))(said)
    assert words.index(said) < words.index("Report card"), "beside the verdict"
    assert f"on, costs {1000 * best['value']:.3g} per 1 000 texts" in words
    # The errors are those of the same examples as the cost.
    for row in rows:
        assert row["value"] == pytest.approx(row["false_alarms"] + 30 * row["misses"])


def test_precision_and_recall_are_what_scikit_learn_gives(people):
    comparison = next(task_comparisons(read_study(people)))
    for one in comparison.methods:
        parts = list(one.parts.values())
        names = list(parts[0].labels)
        wanted = np.mean(
            [precision_recall_fscore_support(part.truth, part.chosen, zero_division=np.nan)[:2] for part in parts],
            axis=0,
        )
        for row in error_analysis.rates(comparison, one).rows:
            place = names.index(row[0].text)
            for cell, value in ((row[4], wanted[0][place]), (row[2], wanted[1][place])):
                if np.isnan(value):
                    assert cell.text == "not available"
                else:
                    low, high = map(float, cell.small.split(" to "))
                    assert (
                        cell.text == f"{100 * value:.1f}" and low <= 100 * value + 0.05 and 100 * value - 0.05 <= high
                    )


def test_page_one_calls_methods_what_people_call_them(study):
    assert all(method.title for method in METHODS.values())
    comparison = next(task_comparisons(read_study(study)))
    said = titles_of(comparison)("full and lora, not full fine-tuning, a linear probe, how=probe or probe-like; probe")
    kept = "not full fine-tuning, a linear probe, how=probe or probe-like"
    assert said == f"full fine-tuning and LoRA, {kept}; linear probe"
    words = Page(study / "report.html").text
    headline = next(one["headline"] for one in read(study)["advice"] if one["task"] == comparison.task)
    assert titles_of(comparison)(headline) in words and "LoRA (lora)" in words
