"""No sentence of a report claims more than its comparison: verdicts, ties, forecasts, losses, fronts, data."""

import csv
import json
import re
import shutil
from itertools import permutations

import numpy as np
import pytest
from groups import LABELS, give_groups
from learning_curves import rising
from pages import Page
from synthetic import Made, write_study
from thorough import some_of

from ftlib import records
from ftlib.core.errors import FtlibError
from ftlib.records.study import read_study
from ftlib.report import build, model_card
from ftlib.report.sections import learning_curve, recommendation, runs
from ftlib.report.sections.comparison import called, task_comparisons, titles_of
from ftlib.report.sections.learning_curve import LearningCurves
from ftlib.stats.verdict import MOST_TIMES, compare, realistic

BETTER = re.compile(r"^(.+?) is (better|worse) than (.+?) by ")


def first(study):
    return next(task_comparisons(read_study(study)))


def made_up(seed: int) -> tuple[list[Made], dict]:
    """Methods of random skill, some as good as others, with few or many examples."""
    rng = np.random.default_rng(seed)
    spread = rng.choice([0.2, 1.0, 3.0])
    names = rng.permutation(["majority", "tfidf", "probe", "lora", "full", "ia3", "bitfit"])[: rng.integers(2, 8)]
    draws = range(int(rng.integers(1, 4)))
    made = [
        Made(str(name), float(rng.normal(0, spread)), draws if name in ("lora", "full", "ia3", "bitfit") else (0,))
        for name in names
    ]
    metric = str(rng.choice(["accuracy", "mcc", "f1_macro", "brier"]))
    how = {"n": int(rng.choice([24, 80, 400])), "plan": {"primary": metric, "margin": float(rng.choice([0.01, 0.1]))}}
    return made, how


def names_in(said: str, comparison) -> set[str]:
    """Whose names stand in a sentence; a longer name is not taken for a shorter one that it begins with."""
    found, rest = set(), said
    for name in sorted((called(one) for one in comparison.methods), key=len, reverse=True):
        if re.search(rf"(?<![\w]){re.escape(name)}(?![\w])", rest):
            found.add(name)
            rest = rest.replace(name, "")
    return found


@pytest.mark.parametrize("seed", some_of(6, range(30)))
def test_no_sentence_claims_more_than_its_comparison(seed, tmp_path):
    made, how = made_up(seed)
    comparison = first(write_study(tmp_path / "study", made, labels=("no", "yes", "so"), **how))
    told = recommendation.advise(comparison)
    by_name = {called(one): one.name for one in comparison.methods}
    best = comparison.top[0]
    others = [one for one in comparison.methods if one is not best]
    verdicts = [comparison.verdict(best.name, one.name) for one in others]

    if "better than everything else" in told.headline or "Leave the model" in told.headline:
        assert all(verdict == "better" for verdict in verdicts), told.headline
    elif told.headline.startswith("Use "):
        assert all(verdict in ("better", "same") for verdict in verdicts), told.headline
    if any(verdict == "undecided" for verdict in verdicts):
        assert told.headline.startswith("No winner yet: ")
        assert not re.match(r"(?!.*not shown).*\bis better", told.headline)
    tie = re.match(
        r"(?:No winner yet: |Use .*?: )(?:nothing here is distinguishable: )?(.+?) are (?:not|equiv)", told.headline
    )
    if tie:
        assert (
            names_in(tie[1], comparison)
            == names_in(told.ranks[0][1], comparison)
            == {called(one) for one in comparison.top}
        )
    for line in told.reasons:
        if found := BETTER.match(line):
            a, word, b = found.groups()
            assert comparison.verdict(by_name[a], by_name[b]) == word, line

    for rank, line in told.ranks:
        if rank == "…":
            continue
        members, _, above = line.partition(" (not shown to differ from ")
        inside = [by_name[name] for name in names_in(members, comparison)]
        assert all(comparison.verdict(a, b) in (None, "same", "undecided") for a, b in permutations(inside, 2)), line
        higher = [by_name[name] for name in names_in(above, comparison)] if above else []
        assert all(comparison.verdict(a, b) in (None, "same", "undecided") for a in inside for b in higher), line


@pytest.mark.parametrize(("seed", "n"), some_of(2, [(0, 30), (4, 2000), (1, 60), (2, 120), (3, 600)]))
def test_no_headline_of_a_few_shot_study_claims_more_than_its_comparisons(seed, n, tmp_path):
    rng = np.random.default_rng(seed)
    methods = [str(name) for name in rng.permutation(["probe", "setfit", "full"])[: rng.integers(2, 4)]]
    made = rising(methods, (1, 8, 64), draws=3, shift=float(rng.normal(0, 1)))
    study = read_study(write_study(tmp_path / "study", made, labels=("a", "b", "c"), n=n, noise=0.3))
    (curves,) = learning_curve.learning_curves(list(task_comparisons(study)), study)
    assert isinstance(curves, LearningCurves)
    told = learning_curve.advise(curves)
    name = re.match(r"Use (\w+)", told.headline)
    for comparison in curves.comparisons:
        best, *others = comparison.top
        alone = all(
            comparison.verdict(best.name, one.name) == "better" for one in comparison.methods if one is not best
        )
        if "it is better than everything else from" in told.headline:
            assert alone and called(best) == name[1], told.headline
    if told.headline.startswith("No winner yet"):
        assert all(len(comparison.top) > 1 for comparison in curves.comparisons)
    for comparison in curves.comparisons:
        if name and "nothing is shown better" in told.headline:
            assert name[1] in {one.line for one in comparison.top}
    open_ = runs.Unfinished("Not finished: 1 of 9 methods have run", "Finish the study first.")
    told = learning_curve.advise(curves, unfinished=open_)
    assert told.headline.startswith("Not finished: 1 of 9 methods have run. So far ") and "Use " not in told.headline


def test_a_lead_that_the_correction_leaves_open_is_no_win(tmp_path):
    made = [Made("majority", -2.0), Made("tfidf", 1.2), Made("probe", 0.1), Made("zero_shot", -0.2, as_before=True)]
    for n in (24, 30, 40, 60):
        comparison = first(write_study(tmp_path / str(n), made, labels=("no", "yes"), n=n))
        told = recommendation.advise(comparison)
        undecided = [
            one for one in comparison.methods[1:] if comparison.verdict(comparison.top[0].name, one.name) != "better"
        ]
        assert ("better than everything" in told.headline) == (not undecided)
        if undecided:
            assert "after correction" in told.headline and re.search(r"leads by [\d.]+ points over ", told.headline)


def test_what_nobody_can_do_is_no_advice():
    rng = np.random.default_rng(0)
    for n, shift in ((40, 0.05), (400, 0.01), (1200, 0.0005), (100, 0.0)):
        a = (rng.random((3, n)) < 0.7).astype(float)
        b = np.where(rng.random((3, n)) < shift, 1 - a, a)[:, rng.permutation(n)]
        found = compare(a, b, margin=0.0)
        for number, noun in re.findall(r"([\d \u202f]+) more (example|seed)", found.sentence):
            there = n if noun == "example" else 3
            assert int(re.sub(r"\D", "", number)) <= 1.1 * MOST_TIMES * there, found.sentence
        if found.verdict == "undecided" and found.more_examples and not realistic(found.more_examples, n):
            assert found.sentence.count("more examples") == ("together with" in found.sentence)


def test_the_cheaper_step_comes_first():
    rng = np.random.default_rng(3)
    said = []
    for _ in range(40):
        a, b = ((rng.random((4, 60)) < p).astype(float) for p in (0.7, 0.6))
        said.append(compare(a, b, margin=0.0).sentence)
    both = [
        line
        for line in said
        if "more seed" in line and "or" in line and "more example" in line and "either" not in line
    ]
    assert both and all(line.index("more seed") < line.index("more example") for line in both if " or " in line)


def test_a_study_with_runs_missing_names_no_winner(tmp_path):
    made = [Made("majority", -2.0), Made("tfidf", 0.0), Made("zero_shot", 0.0, as_before=True), Made("probe", 3.0)]
    made += [Made("lora", 0.5, (0, 1)), Made("full", 0.4, (0, 1))]
    study = write_study(tmp_path / "study", made, n=400)
    for path, record in list(records.records_of(study)):
        if record.spec["resolved"]["method"] in ("lora", "full"):
            shutil.rmtree(path)
    build.build(study)
    told = json.loads((study / "report.json").read_text())["advice"][0]
    assert told["headline"].startswith("Not finished: 4 of 6 methods of pydocs have run. So far probe is better than ")
    assert "Use " not in told["headline"] and told["reasons"][0].startswith("Finish the study first: ")
    assert "lora" in told["reasons"][0] and "full" in told["reasons"][0]
    assert not any("must choose today" in line for line in told["reasons"])


def test_a_method_that_answers_as_the_base_model_does_is_not_it(tmp_path):
    """As on two test examples, where a trained head and the untouched model may give the same labels."""
    made = [Made("majority", -0.5), Made("probe", 0.0, as_before=True), Made("zero_shot", 0.0, as_before=True)]
    comparison = first(write_study(tmp_path / "study", made, n=60))
    assert [one.name for one in comparison.methods if one.untouched] == ["zero_shot"]
    assert comparison.find("probe").cost("train_seconds") > 0


def test_two_that_are_level_are_not_said_to_lead(tmp_path):
    made = [Made("majority", -2.0), Made("tfidf", 0.5), Made("probe", 0.5)]
    comparison = first(write_study(tmp_path / "study", made, n=70))
    pair = comparison.pair("tfidf", "probe")
    assert pair.comparison.difference == 0 and pair.comparison.verdict == "undecided" and not pair.identical
    said = recommendation._sentence(comparison, comparison.find("tfidf"), comparison.find("probe"))
    assert "are not shown to differ: they differ by 0.0 points (" in said and "is ahead" not in said


def test_a_failed_run_keeps_the_study_open(tmp_path):
    made = [Made("majority", -2.0), Made("tfidf", 0.0), Made("zero_shot", 0.0, as_before=True)]
    made += [Made("lora", 2.0, (0, 1))]
    made.append(Made("lora", 0.0, (2,), status="failed", reason="memory"))
    study = write_study(tmp_path / "study", made, n=200)
    told = runs.unfinished(read_study(study), "pydocs")
    assert told.headline == "Not finished: 3 of 4 methods of pydocs have all their runs"
    assert "lora (1 of 3 runs failed)" in told.detail


def test_that_a_run_diverged_is_a_result(tmp_path):
    made = [Made("majority", -2.0), Made("tfidf", 0.0), Made("zero_shot", 0.0, as_before=True)]
    made.append(Made("lora", 0.0, status="diverged", reason="the loss became nan"))
    assert runs.unfinished(read_study(write_study(tmp_path / "study", made, n=100)), "pydocs") is None


def test_the_expected_loss_stands_before_the_worst_case(tmp_path):
    made = [Made("tfidf", 0.50), Made("full", 0.55, (0, 1))]
    comparison = first(write_study(tmp_path / "study", made, n=150))
    (line,) = [one for one in recommendation.advise(comparison).reasons if "must choose today" in one]
    if comparison.top[0].name == "full":
        expected, worst = map(
            float, re.search(r"expected loss is ([\d.]+) .* worst plausible case (\d+\.\d)", line).groups()
        )
        assert 0 <= expected <= worst
        pair = comparison.pair("full", "tfidf").comparison
        assert expected == pytest.approx(100 * abs(pair.difference), abs=0.06)


def test_costs_that_are_shown_alike_are_alike_on_the_front(tmp_path):
    study = write_study(tmp_path / "study", [Made("majority", -2.0), Made("tfidf", 1.0), Made("probe", 0.2)], n=200)
    seconds = {"majority": 0.001, "tfidf": 0.09, "probe": 0.03}
    for path, record in records.records_of(study):
        held = json.loads((path / "record.json").read_text())
        held["cost"]["train_seconds"] = seconds[record.spec["resolved"]["method"]]
        (path / "record.json").write_text(json.dumps(held))
    rows = [row for row in first(study).pareto if row["cost"] == "train_seconds"]
    assert [row["name"] for row in rows if row["on_front"]] == ["tfidf"], "all three are shown as under 0.1 s"
    assert {row["name"]: row["cost_value"] for row in rows} == seconds


def skewed(folder, answer: str = "", shots: int = 0, accuracy: float = 1.0):
    """A test set with 8 of 300 "yes"; who gives one label to all is named in `answer`."""
    fields = {"shots": shots} if shots else {}
    study = write_study(folder, [Made("tfidf", 1.0), Made("probe", 2.0, fields=fields)], labels=("no", "yes"), n=300)
    for path, record in records.records_of(study):
        table = records.read_predictions(path)
        number = table["id"].str[-5:].astype(int)
        right = table["prediction"] == table["label"]
        table["label"] = np.where(number < 8, "yes", "no")
        table["prediction"] = np.where(right, table["label"], np.where(number < 8, "no", "yes"))
        if record.spec["resolved"]["method"] == answer:
            table["prediction"] = "no"
        table[table["stage"] == "after"].to_parquet(path / "predictions.parquet", index=False)
    return study


def test_a_metric_under_which_doing_nothing_wins_is_named_beside_the_verdict(tmp_path):
    study = skewed(tmp_path / "study", shots=64)
    build.build(study)
    said = json.loads((study / "report.json").read_text())["advice"][0]["caution"]
    assert said == [
        "Accuracy of always answering 'no' is 97.3 %: a primary metric that sees the rare label (f1_binary or mcc) is "
        "advised.",
        "Only 8 test examples of 'yes': what is said of it rests on these few.",
        "Shots draw each label equally; the test set holds 2.7 % 'yes': probabilities of probe are not those of use, "
        "and their Brier scores are off; train_limit draws labels as they occur.",
    ]
    page = (study / "report.html").read_text(encoding="utf-8")
    assert page.index("97.3 %") < page.index("How sure this is")


def test_a_method_that_learned_nothing_does_not_count_as_beaten(tmp_path):
    comparison = first(skewed(tmp_path / "study", answer="probe"))
    assert comparison.find("probe").one_label == "no" and comparison.find("tfidf").one_label == ""
    told = recommendation.advise(comparison)
    assert any("probe gives 'no' to every test example: it has learned nothing" in line for line in told.reasons)
    lost = write_study(tmp_path / "lost", [Made("tfidf", 0.0), Made("lora", 3.0)], labels=("no", "yes"), n=300)
    for path, record in records.records_of(lost):
        table = records.read_predictions(path)
        table = table[table["stage"] == "after"]
        if record.spec["resolved"]["method"] == "tfidf":
            table["prediction"] = "yes"
        table.to_parquet(path / "predictions.parquet", index=False)
    told = recommendation.advise(first(lost))
    assert told.headline == (
        "No winner: lora was compared with tfidf only, which has learned nothing and cannot count as beaten."
    )


def test_what_the_audit_found_stands_beside_the_verdict(tmp_path):
    study = write_study(tmp_path / "study", [Made("tfidf", 0.0), Made("probe", 2.0)], labels=("a", "b"), n=100)
    found = [
        {"level": "PROBLEM", "code": "same_parts", "text": "all 52 test texts are also in <b>validation</b>", "n": 52},
        {"level": "NOTE", "code": "long", "text": "3 texts are long", "n": 3},
    ]
    for path, _ in records.records_of(study):
        held = json.loads((path / "record.json").read_text())
        held["provenance"]["data_findings"] = found
        (path / "record.json").write_text(json.dumps(held))
    build.build(study)
    (said,) = json.loads((study / "report.json").read_text())["advice"][0]["caution"]
    assert said == "all 52 test texts are also in <b>validation</b>."
    page = (study / "report.html").read_text(encoding="utf-8")
    assert "all 52 test texts are also in &lt;b&gt;validation&lt;/b&gt;." in page and "3 texts are long." not in page


def test_the_command_that_makes_it_again_works_where_the_page_lies(tmp_path, monkeypatch):
    study = write_study(tmp_path / "far" / "study", [Made("tfidf", 0.0), Made("probe", 2.0)], n=60)
    build.build(study)
    command = json.loads((study / "report.json").read_text())["provenance"]["reproduce"]
    monkeypatch.chdir(study)
    from ftlib.config.suite_file import load_suite

    assert len(load_suite(command.removeprefix("ftlib run ")).experiments) >= 2
    (study / "suite.toml").unlink()
    assert "no suite.toml" in runs.command(read_study(study))
    with pytest.raises(FtlibError):
        load_suite(".")


@pytest.mark.parametrize("seed", some_of(4, range(12)))
def test_no_model_card_claims_more_than_its_record(seed, tmp_path):
    made, how = made_up(seed)
    study = write_study(tmp_path / "study", [*made, Made("lora", 0.5, (7,))], labels=("no", "yes", "so"), **how)
    every = [record for _, record in records.records_of(study)]
    for path, record in records.records_of(study):
        method = record.spec["resolved"]["method"]
        if method in ("majority", "tfidf"):
            with pytest.raises(FtlibError, match="adapted no model"):
                model_card.card(path)
            continue
        text = model_card.card(path).text
        # Data cards are written by people; the rest has no comparison behind it and may not sound like one.
        ours = re.sub(r"^## Data\n.*?(?=^## )", "", text, flags=re.MULTILINE | re.DOTALL)
        assert not re.search(r"\b(better|best|beats?|wins?|outperforms?|significant(ly)?|equivalent)\b", ours), ours
        others = [one for one in every if one is not record and one.spec["resolved"]["method"] == method]
        others = [one for one in others if one.run_id != record.run_id]
        levels = re.search(r"^## How well it does\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)[1]
        rows = {
            cells[1]: cells for cells in (line.strip("| ").split(" | ") for line in levels.splitlines()) if cells[1:]
        }
        for name, leaf in model_card.of_test(record):
            _, _, _, said, n, spread = rows[model_card.inert(name)]
            assert (float(said.split()[0]), n) == (round(leaf["value"], 3), str(leaf["n"])) if leaf["value"] else True
            assert (spread == "no other run") == (not others)
        assert ("no run differs from it in the seed only" in text) == (not others)
        assert "no column of the data names groups" in text and "whom it treats worse" in text


def test_texts_whose_end_was_not_read_are_counted_beside_the_verdict(tmp_path):
    study = write_study(tmp_path / "study", [Made("tfidf", 0.0), Made("probe", 2.0)], labels=("a", "b"), n=100)
    for path, record in records.records_of(study):
        if record.spec["resolved"]["method"] == "probe":
            table = records.read_predictions(path)
            table["cut"] = table["id"].str[-5:].astype(int) < 3
            table.to_parquet(path / "predictions.parquet", index=False)
    build.build(study)
    (said,) = json.loads((study / "report.json").read_text())["advice"][0]["caution"]
    assert said == "3 test texts of 100 are longer than max_length: probe and base model did not read the end."


@pytest.mark.parametrize("seed", some_of(2, range(30, 42)))
def test_the_whole_page_and_every_table_go_by_the_same_verdicts(seed, tmp_path):
    """Headline, next steps, card, comparisons, CSV: none knows of a winner, or of a way to one, that another denies."""
    made, how = made_up(seed)
    have = {one.method for one in made}
    made += [Made(name, -0.5) for name in ("majority", "tfidf") if name not in have]
    study = write_study(tmp_path / "study", made, labels=("no", "yes", "so"), **how)
    comparison = first(study)
    build.build(study)
    page = Page(study / "report.html").text
    names = {say(one): one.name for one in comparison.methods for say in (called, lambda one: one.name)}
    names |= {titles_of(comparison)(said): name for said, name in names.items()}
    either = "|".join(sorted(map(re.escape, names), key=len, reverse=True))
    claims = set(re.findall(rf"(?<![\w-])({either}) is (better|worse) than ({either}) by ", page))
    assert claims or all(pair.comparison.verdict in ("same", "undecided") for pair in comparison.pairs)
    for a, word, b in claims:
        assert comparison.verdict(names[a], names[b]) == word, (a, word, b)

    with (study / "tables" / "verdicts.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            assert comparison.verdict(row["a"], row["b"]) == row["verdict"], row
    with (study / "tables" / "report_card.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["measure"] == comparison.metric and row["verdict"] not in ("", "base"):
                assert comparison.verdict(row["name"], row["against"]) == row["verdict"], row

    told = recommendation.advise(comparison)
    (steps,) = re.findall(r"What to do next(.*?)What this study does not show", page, re.DOTALL)
    best = comparison.top[0].name
    settled = not any(comparison.verdict(best, one.name) == "undecided" for one in comparison.methods)
    assert ("Nothing is open" in steps) <= settled, steps
    if "would decide" in told.headline:
        assert ("No realistic number" in steps) == ("no realistic number of examples or seeds" in told.headline), steps


def test_methods_are_called_by_their_titles_unless_a_label_is_called_the_same(tmp_path):
    made = [Made("majority", -0.5), Made("probe", 1.0), Made("full", 2.0)]
    pages = {}
    for folder, labels in (("plain", ("a", "b")), ("alike", ("full", "b"))):
        study = write_study(tmp_path / folder, made, labels=labels, n=60)
        build.build(study)
        pages[folder] = Page(study / "report.html").text, first(study)
    words, comparison = pages["plain"]
    said = "full leads over probe and majority; full fine-tuning stays, and a linear probe, and how=full."
    in_titles = titles_of(comparison)
    assert in_titles(said) == (
        "full fine-tuning leads over linear probe and majority class; full fine-tuning stays, and a linear probe, and "
        "how=full."
    )
    assert in_titles(in_titles(said)) == in_titles(said)
    # Of two methods one may have the other's name in its title.
    both = write_study(tmp_path / "both", [Made("probe", 1.0), Made("exponentiated", 1.2)], n=60)
    said = titles_of(first(both))("exponentiated and probe")
    assert said == "probe with equalised groups and linear probe" == titles_of(first(both))(said)
    assert "full fine-tuning right, linear probe wrong" in words and "majority class class" not in words
    words, comparison = pages["alike"]
    assert titles_of(comparison)("full and probe") == "full and linear probe"
    grouped = give_groups(write_study(tmp_path / "groups", made, labels=LABELS, n=60), {})
    for path, _ in records.records_of(grouped):
        table = records.read_predictions(path)
        table["group_gender"] = np.where(np.arange(len(table)) % 2, "probe", "man")
        table.to_parquet(path / "predictions.parquet", index=False)
    assert titles_of(first(grouped))("full and probe") == "full fine-tuning and probe"
