"""The report on models of text: likelihoods instead of answers, under a protocol, and what adapting cost elsewhere."""

import csv
import json
import math
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import drawn
from pages import Page, digests, read
from synthetic import HOSTILE_TEXT, PROTOCOL, TEXTS, TYPICAL, Made, MadeText, write_study

from ftlib import records
from ftlib.metrics import language
from ftlib.records.study import read_study
from ftlib.report import build
from ftlib.report.sections import forgetting, recommendation
from ftlib.report.sections.comparison import task_comparisons
from ftlib.stats.verdict import compare

OTHER = "context 256, stride 128, BOS first, each document on its own"


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    study = write_study(tmp_path_factory.mktemp("texts") / "study", (), texts=TEXTS)
    with drawn():
        build.build(study)
    return study


def runs_of(study, method):
    return [path for path, record in records.records_of(study) if record.spec["resolved"]["method"] == method]


def first_comparison(study):
    return next(task_comparisons(read_study(study)))


def edit_record(path, change):
    record = json.loads((path / "record.json").read_text())
    change(record["metrics"])
    (path / "record.json").write_text(json.dumps(record))


# What is compared


def test_fewer_bits_per_byte_are_better(texts):
    found = first_comparison(texts)
    assert [one.name for one in found.methods] == ["full", "lora", "zero_shot", "ngram"]
    assert [place.rank for place in found.places] == [1, 2, 3, 4]
    assert found.find("zero_shot").untouched
    told = recommendation.advise(found)
    assert told.headline == "Use full: it is better than everything else that was tried."
    assert re.match(r"full with 1\.\d{3} bits per byte \(1\.\d{3} to 1\.\d{3}\), 2\smin", told.lead)
    said = next(line for line in told.reasons if "than zero_shot (the base model) by" in line)
    assert re.search(r"is better than .* by 0\.2\d* bits per byte \(0\.2\d* to 0\.2\d*\)", said)
    assert (
        "60 test documents, the same for every method; smallest difference of practical interest: 0.02 bits per byte."
        in told.limits[0]
    )


def test_every_value_is_the_corpus_value_of_the_predictions(texts):
    rows = pd.DataFrame(read(texts)["rows"]).set_index(["method", "stage", "part", "metric"])
    for method in ("lora", "zero_shot"):
        found = []
        for path in runs_of(texts, method):
            table = records.read_predictions(path).query("stage == 'after' and part == 'test'")
            nats, tokens, size = (table[name].to_numpy(float) for name in ("nats", "n_tokens", "n_bytes"))
            found.append((nats.sum() / size.sum() / math.log(2), nats.sum() / tokens.sum()))
        bits, nats = np.mean(found, axis=0)
        row = rows.loc[(method, "after", "test", "bits_per_byte")]
        assert row["value"] == pytest.approx(bits, rel=1e-12)
        assert row["low"] < row["value"] < row["high"] and row["n"] == 60 and row["seeds"] == len(found)
        assert rows.loc[(method, "after", "test", "perplexity")]["value"] == pytest.approx(math.exp(nats), rel=1e-12)
    assert not read(texts)["disagreements"]


def test_a_verdict_is_what_compare_says_of_the_values(texts):
    tables, clusters = {}, None
    for group in read_study(texts).groups:
        parts = [run.parts["after", "test"] for run in group.ok]
        clusters = parts[0].clusters
        rows = [language.values("bits_per_byte", p.numbers["nats"], p.numbers["n_bytes"])[0] for p in parts]
        tables[group.name] = np.stack(rows)
    for row in read(texts)["verdicts"]:
        expected = compare(tables[row["a"]], tables[row["b"]], margin=0.02, clusters=clusters, higher_is_better=False)
        names = ("difference", "low", "high", "p_value")
        assert [row[name] for name in names] == pytest.approx([getattr(expected, name) for name in names])
        assert row["metric"] == "bits_per_byte"
    assert len(np.unique(clusters)) == 15, "files are what is drawn, and they are fewer than documents"


def test_nothing_is_said_of_labels_or_examples(texts):
    words = Page(texts / "report.html").text
    for absent in ("F1 of each label", "every method got wrong", "Confusion", "test example", "accuracy", "f1_"):
        assert absent not in words, absent
    assert "test documents" in words and words.count("bits_per_byte") == 1, "only the plan is quoted as it is written"
    assert (texts / "tables" / "hard_examples.csv").read_text().count("\n") == 1
    for section in ("Spread from seed to seed", "Quality against cost", "Training loss", "Comparisons"):
        assert section in words, section


def test_the_untouched_model_stands_for_itself_without_a_zero_shot_run(tmp_path):
    found = first_comparison(write_study(tmp_path / "study", (), texts=TEXTS[2:]))
    assert {one.name for one in found.methods} == {"lora", "full", "base model"}
    assert found.pair("lora", "base model").comparison.verdict == "better"


def test_a_model_without_a_tokenizer_takes_part_and_has_no_perplexity(texts):
    rows = {(row["method"], row["metric"]): row for row in read(texts)["rows"] if row["part"] == "test"}
    assert rows["ngram", "bits_per_byte"]["value"] > 2
    assert rows["ngram", "perplexity"]["value"] is None and "no tokenizer" in rows["ngram", "perplexity"]["reason"]
    assert first_comparison(texts).pair("ngram", "lora") is not None


# Under which protocol


def test_the_protocol_is_beside_every_value(texts):
    rows = [row for row in read(texts)["rows"] if "perplexity" in row["metric"] or "bits" in row["metric"]]
    assert rows and all(row["protocol"] for row in rows)
    with (texts / "tables" / "rows.csv").open(encoding="utf-8", newline="") as file:
        assert {row["protocol"] for row in csv.DictReader(file)} == {PROTOCOL, TEXTS[0].protocol}
    words = Page(texts / "report.html").text
    for heading in ("How sure this is", "Methods by metrics", "General text", "Comparisons", "Quality against cost"):
        assert PROTOCOL in words[words.index(heading) :][:1500], heading
    assert "compares models of one tokenizer only; bits per byte is what is compared" in words
    assert f"byte n-grams: {TEXTS[0].protocol}" in words


def test_two_protocols_are_not_compared(tmp_path):
    other = MadeText("lora", -0.3, fields={"method_args": {"r": 4}}, protocol=OTHER)
    study = write_study(tmp_path / "study", (), texts=[*TEXTS, other])
    build.build(study)
    content = read(study)
    (note,) = [note for note in content["notes"] if "not comparable" in note]
    assert "since their protocols differ" in note and PROTOCOL in note and OTHER in note
    names = [{row["a"], row["b"]} for row in content["verdicts"]]
    assert {"lora r=4", "base model"} in names, "each protocol has its own untouched model"
    assert not any({"lora r=4", name} in names for name in ("lora r=8", "full", "ngram", "zero_shot"))


def test_texts_of_other_lengths_are_not_compared(tmp_path):
    study = write_study(tmp_path / "study", (), texts=TEXTS)
    (path,) = runs_of(study, "zero_shot")
    table = records.read_predictions(path)
    table.assign(n_bytes=table["n_bytes"] + 1).to_parquet(path / "predictions.parquet", index=False)
    build.build(study)
    assert any("since their test documents differ" in note for note in read(study)["notes"])


def test_masked_models_are_never_among_the_others(tmp_path):
    masked = MadeText("zero_shot", 0.0, 0.0, fields={"max_length": 64}, pseudo=True)
    study = write_study(tmp_path / "study", (), texts=[*TEXTS, masked])
    build.build(study)
    content = read(study)
    assert {row["metric"] for row in content["rows"] if row["model"] == "minilm"} == {
        "pseudo_bits_per_byte",
        "pseudo_perplexity",
    }
    assert any("a masked model gives pseudo_likelihoods" in note for note in content["notes"])
    assert not any("minilm" in row["a"] + row["b"] for row in content["verdicts"])
    metrics = {(row["model"], row["metric"]) for row in content["general"]}
    assert metrics == {("tiny-lm", "bits_per_byte"), ("minilm", "pseudo_bits_per_byte")}
    assert not content["disagreements"]


# Effect on other abilities


def test_general_text_before_and_after_is_paired_over_documents_and_seeds(texts):
    found = {row["method"]: row for row in read(texts)["general"]}
    assert set(found) == {"zero_shot", "lora", "full"}
    sides = {"before": [], "after": []}
    for path in runs_of(texts, "lora"):
        table = records.read_predictions(path).query("part == 'general'")
        for stage, rows in sides.items():
            part = table[table["stage"] == stage].sort_values("id")
            rows.append(language.values("bits_per_byte", part["nats"], part["n_bytes"])[0])
    expected = compare(sides["after"], sides["before"], margin=0.02, higher_is_better=False)
    row = found["lora"]
    names = ("difference", "low", "high", "p_value")
    assert [row[name] for name in names] == pytest.approx([getattr(expected, name) for name in names])
    assert row["after"] - row["before"] == pytest.approx(row["difference"]) and row["n"] == 40 and row["seeds"] == 3
    assert row["verdict"] == "worse" and row["protocol"] == PROTOCOL and row["metric"] == "bits_per_byte"


def test_what_changes_nothing_is_exactly_zero_and_costs_the_others_no_correction(texts):
    found = {row["method"]: row for row in read(texts)["general"]}
    still = found["zero_shot"]
    assert still["difference"] == still["low"] == still["high"] == 0 and still["p_value"] == 1
    assert "general text is exactly as likely as before (40 excerpts, 1 run)" in still["sentence"]
    alone = forgetting.forgotten(read_study(texts), "pydocs_text")
    holm = sorted(one.change.p_value for one in alone if not one.unchanged)
    assert min(one.p_holm for one in alone) == pytest.approx(min(1, 2 * holm[0])), "two methods, not three"


def test_one_sentence_per_method_and_what_was_bought_beside_it(texts):
    words = Page(texts / "report.html").text
    for method in ("LoRA", "full fine-tuning"):
        assert re.search(
            rf"{method}: general text costs 0\.\d{{3}} bits per byte more than before "
            r"\(0\.\d{3} to 0\.\d{3}; 40 excerpts, 3 seeds\)",
            words,
        )
    bought = re.search(
        r"What full fine-tuning bought and what it cost, against the base model: −0\.\d{3} bits per byte on the task "
        r"\(−0\.\d{3} to −0\.\d{3}\), \+0\.\d{3} bits per byte on general text \(\+0\.\d{3} to \+0\.\d{3}\)",
        words,
    )
    assert bought and words.index(bought[0]) < words.index("How sure this is")
    assert "Change in bits per byte on general text" in words
    kinds = {path.name.split("-", 2)[2] for path in (texts / "figures").glob("*.svg")}
    assert {"forest.svg", "general.svg", "seeds.svg"} <= kinds


@pytest.mark.parametrize(("change", "said"), [(0.002, "equivalent to before within 0.02"), (0.03, "undecided whether")])
def test_a_small_or_unsure_change_is_said_so(tmp_path, change, said):
    made = [MadeText("lora", -0.2, change, range(6) if change < 0.01 else (0, 1))]
    study = write_study(tmp_path / "study", (), texts=made)
    (one,) = forgetting.forgotten(read_study(study), "pydocs_text")
    assert said in forgetting.change_sentence(one)


def test_studies_of_labels_show_general_text_too(tmp_path):
    fields = {"model": "tiny-lm"}
    made = [Made("tfidf", 0.5), Made("zero_shot", -0.12, (0,), fields, as_before=True, general=0.0)]
    study = write_study(tmp_path / "study", [*made, Made("lora", 2.0, (0, 1, 2), fields, general=0.08)], n=200)
    build.build(study)
    content, words = read(study), Page(study / "report.html").text
    assert {row["metric"] for row in content["verdicts"]} == {"accuracy"}
    rows = {row["method"]: row for row in content["general"]}
    assert rows["lora"]["verdict"] == "worse" and rows["lora"]["margin"] is None
    assert "LoRA: general text costs 0.0" in words
    assert re.search(r"\+\d\d\.\d points on the task \(.*?\), \+0\.0\d\d bits per byte on general text", words)
    assert "F1 of each label" in words and not content["disagreements"]


def test_an_encoder_says_why_it_has_no_general_text(tmp_path):
    study = write_study(tmp_path / "study", [Made("probe", 0.5), Made("tfidf", 0.5)], n=60)
    leaf = {"value": None, "low": None, "high": None, "n": 0, "reason": "an encoder gives no likelihood"}
    for stage in ("before", "after"):
        edit_record(runs_of(study, "probe")[0], lambda m, stage=stage: m[stage].update(general={"bits_per_byte": leaf}))
    build.build(study)
    words = Page(study / "report.html").text
    assert read(study)["general"] == [] and "Effect on other abilities" not in words
    assert "an encoder gives no likelihood" in words


# What else


def test_a_study_of_both_kinds_decides_each_by_its_own_metric(tmp_path):
    made = [Made("majority", -2.0), Made("tfidf", 0.5), Made("probe", 2.0)]
    study = write_study(tmp_path / "study", made, texts=TEXTS, n=200)
    build.build(study)
    content, words = read(study), Page(study / "report.html").text
    assert {(row["task"], row["metric"]) for row in content["verdicts"]} == {
        ("pydocs", "accuracy"),
        ("pydocs_text", "bits_per_byte"),
    }
    assert {one["task"]: one["chosen"] for one in content["advice"]} == {"pydocs": "probe", "pydocs_text": "full"}
    assert content["plan"]["tasks"] == {"pydocs_text": {"primary": "bits_per_byte", "margin": 0.02}}
    assert content["provenance"]["plan_stood_before_the_runs"] and not content["missing"]
    assert "All tasks" not in words, "a metric of one task has nothing to go across"
    assert "on pydocs_text primary bits_per_byte, margin 0.02" in words


def test_several_tasks_of_text_have_one_table_for_all(tmp_path):
    (tmp_path / "b.txt").write_text("Some text.\n")
    other = {"task": f"file:{tmp_path}/b.txt"}
    made = [
        MadeText(m, change, None, (0, 1, 2), more)
        for m, change in (("lora", -0.2), ("full", -0.5))
        for more in ({}, other)
    ]
    study = write_study(tmp_path / "study", (), texts=made)
    build.build(study)
    words = Page(study / "report.html").text
    assert "bits per byte of every method on every task" in words and words.count("Verdict ·") == 2
    # Six runs of each, far apart, and fewer bits are better.
    assert "full beats lora" in words and "1.00" in words and "lora beats full" not in words


def test_a_record_of_text_that_its_predictions_do_not_give_is_said(tmp_path):
    study = write_study(tmp_path / "study", (), texts=TEXTS)
    path = runs_of(study, "lora")[0]

    def harm(metrics):
        metrics["after"]["test"]["bits_per_byte"]["value"] += 1e-6
        metrics["after"]["general"]["perplexity"]["value"] *= 1.01
        metrics["before"]["general"]["bits_per_byte"]["n"] = 3

    edit_record(path, harm)
    build.build(study)
    where = {one["where"] for one in read(study)["disagreements"]}
    assert where == {"after.test.bits_per_byte", "after.general.perplexity", "before.general.bits_per_byte, n"}


def test_the_spread_over_orders_is_shown_where_it_was_recorded(tmp_path):
    study = write_study(tmp_path / "study", TYPICAL[:4], n=80)
    leaf = {"value": 0.031, "low": 0.018, "high": 0.12, "n": 4}
    edit_record(runs_of(study, "probe")[0], lambda metrics: metrics["after"]["test"].update(order_sd=leaf))
    build.build(study)
    (row,) = [row for row in read(study)["rows"] if row["metric"] == "order_sd"]
    assert (row["value"], row["low"], row["high"], row["n"], row["source"]) == (0.031, 0.018, 0.12, 4, "record")
    words = Page(study / "report.html").text
    assert (
        "spread over orders, %\xa0↓" in (study / "report.html").read_text()
        and "3.1" in words
        and "1.8 to 12.0" in words
    )
    assert "standard deviation of the accuracy over orders" in words


def test_without_a_plan_text_is_judged_by_what_plans_usually_settle(tmp_path):
    study = write_study(tmp_path / "study", (), texts=TEXTS)
    (study / "suite.toml").unlink()
    build.build(study)
    assert {row["metric"] for row in read(study)["verdicts"]} == {"bits_per_byte"}
    assert "no plan was fixed before the runs" in Page(study / "report.html").text


@pytest.mark.parametrize("texts_of", ["one source", "one document"])
def test_one_source_is_shown_and_nothing_is_compared(tmp_path, texts_of):
    n = 4 if texts_of == "one source" else 1
    study = write_study(tmp_path / "study", (), texts=TEXTS, n_texts=n)
    build.build(study)
    content = read(study)
    assert content["verdicts"] == [] and any("nothing is compared" in note for note in content["notes"])
    row = next(row for row in content["rows"] if row["part"] == "test" and row["method"] == "full")
    assert row["value"] > 0 and row["low"] is None


def test_one_labelled_example_is_shown_and_nothing_is_compared(tmp_path):
    study = write_study(tmp_path / "study", TYPICAL[1:4], n=1)
    build.build(study)
    assert read(study)["verdicts"] == [] and "nothing is compared" in Page(study / "report.html").text


def test_a_task_that_cannot_be_compared_says_why(tmp_path):
    study = write_study(tmp_path / "study", (), texts=[MadeText("zero_shot", 0.0, pseudo=True)])
    build.build(study)
    words = Page(study / "report.html").text
    assert "Nothing that finished can be compared" in words and "a masked model gives" in words


def test_failed_runs_of_text_are_shown_and_never_ranked(tmp_path):
    failed = MadeText("full", 0.0, 0.0, status="diverged", reason="the loss was not finite")
    study = write_study(tmp_path / "study", (), texts=[*TEXTS[:3], failed])
    build.build(study)
    content = read(study)
    assert [row["status"] for row in content["failures"]] == ["diverged"]
    assert not any("full" in (row["a"], row["b"]) for row in content["verdicts"])


def test_whatever_a_protocol_or_a_file_is_called_is_inert(tmp_path):
    texts = [MadeText(one.method, one.change, one.general, one.seeds, protocol=HOSTILE_TEXT) for one in TEXTS[1:]]
    study = write_study(tmp_path / "study", (), texts=texts)
    for path in runs_of(study, "lora"):
        table = records.read_predictions(path)
        table["cluster"] = table["cluster"].map(lambda name: f"{HOSTILE_TEXT}{name}", na_action="ignore")
        table.to_parquet(path / "predictions.parquet", index=False)
    build.build(study)
    page = Page(study / "report.html")
    assert {tag for tag, _ in page.tags}.isdisjoint({"b", "svg"}) and not page.open
    assert "alert('text')" in page.text
    for path in (study / "tables").glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            assert not any(value.startswith(("=", "@", "+")) for row in csv.reader(file) for value in row)


def test_the_same_folder_gives_the_same_bytes(texts, tmp_path):
    before = digests(texts)
    study = shutil.copytree(texts, tmp_path / "study")
    with drawn():
        build.build(study)
    assert digests(study) == before
