"""The cost of mitigation: every mitigation against the same method without it, group by group."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import drawn
from groups import LABELS, MITIGATED, SEEDS, give_skew
from synthetic import Made, write_study

from ftlib import records
from ftlib.core.errors import FtlibError
from ftlib.records.study import read_study
from ftlib.report.blocks import Sentences, figures_of
from ftlib.report.build import Reading
from ftlib.report.sections import fairness
from ftlib.report.sections.fairness import by_label, pictured, read_groups
from ftlib.report.sections.mitigation import SECTION, cost_sentence, effects, mitigation_costs, rows


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return give_skew(write_study(tmp_path_factory.mktemp("mitigation") / "study", MITIGATED, labels=LABELS, n=400))


@pytest.fixture(scope="module")
def found(study):
    return {one.method.name: one for one in mitigation_costs(*read_groups(study))}


def section_of(study):
    """The rows and the blocks of the section."""
    reading = Reading(read_study(study))
    reading.items["groups"] = fairness.SECTION.read(reading)
    items = SECTION.read(reading)
    return SECTION.rows(items)["mitigation_cost"], list(SECTION.blocks(items))


def answers(study, method, mitigation=""):
    """Answers after adapting of all seeds, one under the other."""
    tables = [
        records.read_predictions(run_dir).query("stage == 'after'").assign(seed=record.spec["resolved"]["seed"])
        for run_dir, record in records.records_of(study)
        if (record.spec["resolved"]["method"], record.spec["resolved"]["mitigation"]) == (method, mitigation)
    ]
    table = pd.concat(tables)
    return table.assign(right=table["label"] == table["prediction"])


def test_every_mitigation_stands_against_the_same_method_without_it(found):
    assert {name: one.plain.name for name, one in found.items()} == {
        "probe mitigation=reweight": "probe",
        "threshold": "probe",
        "full mitigation=balance": "full",
        "full mitigation=scrub": "full",
    }
    assert {one.gap.seeds for name, one in found.items() if name.startswith("full")} == {5}


def test_the_gap_is_that_of_the_label_where_it_was_largest_without(study, found):
    plain = answers(study, "full").query("group_gender != 'other'")
    rates = plain.groupby(["label", "group_gender"])["right"].mean().unstack()
    gap = found["full mitigation=scrub"].gap
    assert gap.label == (rates["woman"] - rates["man"]).abs().idxmax()
    assert gap.before.value == pytest.approx(abs(rates.loc[gap.label, "woman"] - rates.loc[gap.label, "man"]))
    scrubbed = answers(study, "full", "scrub").query("group_gender != 'other' and label == @gap.label")
    after = scrubbed.groupby("group_gender")["right"].mean()
    assert gap.after.value == pytest.approx(abs(after["woman"] - after["man"]))
    assert gap.change.value == pytest.approx(gap.after.value - gap.before.value)
    assert gap.change.low <= gap.change.value <= gap.change.high < 0
    assert gap.verdict == "smaller" and gap.p_holm <= 0.05
    assert rates.loc[gap.label].idxmin() == gap.pair_before[0]


def test_what_it_cost_is_the_paired_difference_of_the_plans_metric(study, found):
    one = found["full mitigation=scrub"]
    means = [answers(study, "full", how)["right"].mean() for how in ("", "scrub")]
    assert [level.value for level in one.levels] == pytest.approx(means)
    said = one.quality.pair.comparison
    assert said.difference == pytest.approx(means[1] - means[0]) and said.verdict == "better"
    assert (one.metric, one.quality.n, one.quality.n_seeds) == ("accuracy", 400, 5)
    down = found["full mitigation=balance"]
    assert down.quality.pair.comparison.verdict == "worse" and down.gap.verdict == "smaller"


def test_effects_on_groups_tell_helping_from_levelling_down(study, found):
    def of_label(name):
        one = found[name]
        return one.gap.pair_before, {each.group: each for each in one.effects if each.label == one.gap.label}

    (lowest, highest), helped = of_label("full mitigation=scrub")
    assert helped[lowest].change.low > 0 and helped[highest].change.low <= 0 <= helped[highest].change.high
    (lowest, highest), levelled = of_label("full mitigation=balance")
    assert levelled[highest].change.high < 0 and levelled[lowest].change.low <= 0 <= levelled[lowest].change.high
    each = next(one for one in found["full mitigation=balance"].effects if (one.group, one.label) == ("woman", ""))
    own = [answers(study, "full", how).query("group_gender == 'woman'")["right"] for how in ("", "balance")]
    assert (each.without, each.mitigated, each.n) == (pytest.approx(own[0].mean()), pytest.approx(own[1].mean()), 198)
    few = next(one for one in found["full mitigation=balance"].effects if (one.group, one.label) == ("other", ""))
    assert few.n == 4 and np.isnan(few.change.low), "four people have no interval"


def test_sentences_and_rows_say_the_same(study, found):
    said = cost_sentence(found["full mitigation=scrub"])
    assert (
        said.startswith("full mitigation=scrub, which goes by gender terms, against full: the gap for '")
        and "became smaller, by " in said
    )
    assert "; accuracy is better by " in said and "−" not in said.partition(" points")[0]
    told = pd.DataFrame(rows(read_groups(study)[1], list(found.values()))).set_index(["method", "settings"])
    assert set(told["gap_verdict"]) <= {"smaller", "larger", "undecided", "unchanged"} and (told["n"] == 400).all()
    assert told.loc[("full", "mitigation=scrub"), "quality_verdict"] == "better"
    shown = pd.DataFrame(effects(list(found.values())))
    assert set(shown["group"]) == {"man", "woman", "other"} and (shown["n"] > 0).all()


def test_the_same_answers_are_unchanged_and_cost_nothing(tmp_path):
    made = [Made("tfidf", 0.4), Made("full", 1.5, SEEDS), Made("full", 1.5, SEEDS, {"mitigation": "balance"})]
    folder = give_skew(write_study(tmp_path / "study", made, labels=LABELS, n=120), lambda method, how: (0.3, 0.0))
    plain = {}
    for run_dir, record in records.records_of(folder):
        if record.spec["resolved"]["mitigation"] == "" and record.spec["resolved"]["method"] == "full":
            plain[record.spec["resolved"]["seed"]] = records.read_predictions(run_dir)
    for run_dir, record in records.records_of(folder):
        if record.spec["resolved"]["mitigation"]:
            plain[record.spec["resolved"]["seed"]].to_parquet(run_dir / "predictions.parquet", index=False)
    (one,) = mitigation_costs(*read_groups(folder))
    assert one.gap.verdict == "unchanged" and one.gap.change == (0.0, 0.0, 0.0) and one.quality.identical
    assert cost_sentence(one).endswith("is the same, since no answer changed; accuracy is exactly the same")
    assert all(each.change.value == 0 for each in one.effects)


def test_what_has_nothing_to_stand_against_is_left_out(tmp_path):
    made = [
        Made("full", 1.5, (0, 1)),
        Made("full", 1.5, (7,), {"mitigation": "balance"}),
        Made("full", 1.5, (0,), {"mitigation": "scrub", "train_limit": 50}),
        Made("threshold", 1.0),
    ]
    folder = give_skew(write_study(tmp_path / "study", made, labels=LABELS, n=80))
    assert mitigation_costs(*read_groups(folder)) == [], "no seed in common, other terms, and no probe"


def test_without_two_groups_there_is_no_gap_and_the_cost_is_told(tmp_path):
    made = [Made("full", 1.5, SEEDS), Made("full", 1.0, SEEDS, {"mitigation": "balance"})]
    folder = give_skew(write_study(tmp_path / "study", made, labels=LABELS, n=80), few=80)
    study, of = read_groups(folder)
    (one,) = mitigation_costs(study, of)
    assert one.gap.change is None and "two named groups with 10 examples or more are needed" in cost_sentence(one)
    assert one.quality is not None and {each.label for each in one.effects} == {""}
    assert rows(of, [one])[0]["reason"] == one.gap.reason and rows(of, [one])[0]["gap_verdict"] == ""
    _, blocks = section_of(folder)
    (said,) = (block.lines for block in blocks if isinstance(block, Sentences))
    assert figures_of(blocks) == [] and said == (f"{cost_sentence(one)}.",)


def test_the_report_says_what_mitigation_did_and_to_which_groups(study):
    with drawn():
        told, blocks = section_of(study)
    pairs = mitigation_costs(*read_groups(study))
    (said,) = (block.lines for block in blocks if isinstance(block, Sentences))
    assert said == tuple(f"{cost_sentence(one)}." for one in pairs)
    assert {row["sentence"] for row in told} == {cost_sentence(one) for one in pairs}
    for row, one in zip(told, pairs, strict=True):
        assert row["gap_change"] == list(one.gap.change) and row["gap_verdict"] == one.gap.verdict
        assert {each["group"] for each in row["groups"]} == {each.group for each in one.effects}
    (figure,) = figures_of(blocks)
    assert {row[0] for row in figure.rows} >= {one.method.name for one in pairs}
    json.dumps(told, allow_nan=False)


def test_groups_that_are_not_there_are_asked_for_in_vain(study, tmp_path):
    with pytest.raises(FtlibError, match="found no predictions with age; groups there are: gender of pydocs"):
        read_groups(study, column="age")
    plain = write_study(tmp_path / "plain", [Made("tfidf", 0.5)], n=40)
    with pytest.raises(FtlibError, match="groups there are: none"):
        read_groups(plain)


def test_shares_by_label_are_those_of_the_records(study):
    _, told = read_groups(study)
    levels = by_label(told, "full")
    runs = [record for _, record in records.records_of(study) if record.spec["resolved"]["method"] == "full"]
    plain = [record for record in runs if not record.spec["resolved"]["mitigation"]]
    kept = plain[0].metrics["after"]["test"]["groups"]["gender"]
    assert len(levels) == 2 * sum(bool(group[f"tpr_{label}"]["n"]) for group in kept.values() for label in LABELS)
    for one in levels:
        groups = [record.metrics[one.stage]["test"]["groups"]["gender"] for record in plain]
        leaves = [group[one.group][f"tpr_{one.label}"] for group in groups]
        assert one.found.value == pytest.approx(np.mean([leaf["value"] for leaf in leaves]))
        assert one.n == leaves[0]["n"] and one.seeds == (1 if one.stage == "before" else 5)
    with drawn():
        assert "nurse, man: " in pictured(levels).svg
    with pytest.raises(FtlibError, match="lorra"):
        by_label(told, "lorra")
