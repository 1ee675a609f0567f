"""The report on bias before and after: whether it changed beyond noise."""

import csv

import numpy as np
import pytest
from evaluations import PAIRS, give_biases
from groups import LABELS, give_groups
from pages import Page, read
from synthetic import Made, write_study

from ftlib import records
from ftlib.records.study import read_study
from ftlib.report import build
from ftlib.report.build import Reading
from ftlib.report.sections import fairness
from ftlib.report.sections.bias_summary import SECTION, Scores, _change, _line, bias_changes, lead, sentence

MADE = (
    Made("majority", -2.0),
    Made("zero_shot", 0.5, as_before=True),
    Made("lora", 2.0, (0, 1, 2)),
    Made("full", 2.0, (0, 1, 2)),
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("bias")
    folder = write_study(root / "study", MADE, labels=LABELS, n=300)
    give_groups(folder, {"full": 0.4})
    (root / "toy.csv").write_text(PAIRS, encoding="utf-8")
    give_biases(folder, root / "toy.csv")
    build.build(folder)
    return folder


@pytest.fixture(scope="module")
def lines(study):
    [found] = bias_changes(read_study(study), fairness.group_fairness(read_study(study))).values()
    return {(one.method.name, one.part, one.metric, one.about): one for one in found}


GAP = ("swaps:gender", "signed_gap", "women minus men")


def test_before_and_after_are_what_the_records_say(study, lines):
    kept = {}
    for _, record in records.records_of(study):
        for stage, parts in record.metrics.items():
            kept.setdefault((record.spec["resolved"]["method"], stage), []).append(parts)
    seen = set()
    for (method, part, metric, _), line in lines.items():
        for stage, found, at in zip(("before", "after"), (line.before, line.after), line.at, strict=True):
            if found is None:
                continue
            leaves = [parts[part] for parts in kept[method, stage]]
            if metric == "template_gap":
                gaps = {
                    term: np.mean([one["groups"][line.about][term][metric]["value"] for one in leaves])
                    for term in leaves[0]["groups"][line.about]
                }
                assert max(gaps, key=lambda term: abs(gaps[term])) == at
                expected = gaps[at]
            elif metric == "equal_opportunity_difference":
                continue
            else:
                expected = np.mean([one[metric]["value"] for one in leaves])
            assert found.value == pytest.approx(expected, abs=1e-9) and found.low <= found.value <= found.high
            seen.add(metric)
    assert seen == {"flip_rate", "mean_change", "signed_gap", "template_gap", "stereotype_share"}


def test_one_run_has_the_interval_of_its_record(study, lines):
    [record] = [one for _, one in records.records_of(study) if one.spec["resolved"]["method"] == "zero_shot"]
    for metric, about in (("flip_rate", ""), ("mean_change", ""), GAP[1:]):
        leaf = record.metrics["after"]["swaps:gender"][metric]
        found = lines["zero_shot", "swaps:gender", metric, about].after
        assert list(found) == pytest.approx([leaf[name] for name in ("value", "low", "high")])


def test_bias_that_was_put_in_is_found_to_be_larger(lines):
    for key in (("swaps:gender", "flip_rate", ""), ("swaps:gender", "mean_change", ""), GAP):
        line = lines["full", *key]
        assert line.verdict == "larger" and line.p_holm <= 0.05 and line.change.low > 0 and line.seeds == 3
    gap = lines["full", *GAP]
    assert gap.after.value == pytest.approx(0.15, abs=0.02) and gap.n == 120
    assert lines["full", "templates", "template_gap", "gender"].verdict == "larger"
    assert lines["full", "pairs:toy", "stereotype_share", ""].verdict == "larger"
    assert "CrowS" not in gap.caution and "Blodgett" in lines["full", "pairs:toy", "stereotype_share", ""].caution


def test_nothing_else_is_claimed(lines):
    claimed = {(key[0], key[1]) for key, one in lines.items() if one.verdict in ("larger", "smaller")}
    assert {method for method, _ in claimed} == {"full"}
    assert all(
        one.identical and one.verdict == "same" for key, one in lines.items() if key[0] == "zero_shot" and one.change
    )
    assert lines["lora", *GAP].verdict in ("same", "undecided") and not lines["lora", *GAP].identical


def test_what_is_undefined_is_not_available_and_says_why(lines):
    for key, one in lines.items():
        assert bool(one.reason) == (one.change is None) == (one.verdict == ""), key
        assert one.reason or (one.before and one.after)
    assert "no likelihood" in lines["lora", "pairs:toy", "stereotype_share", ""].reason
    assert lines["lora", "pairs:toy", "stereotype_share", ""].before.value is not None
    assert "none of 120 test texts" in lines["full", "swaps:religion", "flip_rate", ""].reason
    assert lines["full", "swaps:religion", "flip_rate", ""].after is None
    assert lines["majority", *GAP].reason == "before adapting: it was not measured"


def test_gaps_of_equal_opportunity_are_those_of_the_groups_section(study, lines):
    rows = [r for r in read(study)["groups"] if r["metric"] == "equal_opportunity_difference" and not r["group"]]
    for row in rows:
        line = lines[row["method"], "test", row["metric"], "gender"]
        assert getattr(line, row["stage"]).value == row["value"]
        if row["stage"] == "change" and not line.identical:
            assert line.p_value == row["p_value"] <= line.p_holm
    assert len(rows) == 10 and "nothing moved" in sentence(lines["zero_shot", "test", rows[0]["metric"], "gender"])


def test_a_gap_that_turns_round_has_not_grown():
    noise = np.random.default_rng(0).normal(0, 0.01, (2, 1, 1, 50))
    before, after = 0.1 + noise[0], -0.1 - noise[1]
    turned = _change("signed_gap", before, after, None)
    assert abs(turned["change"].value) < 0.01 and turned["p_value"] > 0.05 and turned["p_same"] > 0.5
    assert turned["change"].low <= 0 <= turned["change"].high
    grown = _change("signed_gap", before, 3 * after, None)
    assert grown["change"].value == pytest.approx(0.2, abs=0.01) and grown["p_value"] < 0.001
    shrunk = _change("signed_gap", 3 * after, before, None)
    assert shrunk["change"].value == pytest.approx(-0.2, abs=0.01) and shrunk["change"].high < 0


def test_a_share_is_compared_by_its_distance_from_one_half():
    high, low = (np.repeat([1.0, 0.0], sides)[None, None] for sides in ((90, 30), (30, 90)))
    assert _change("stereotype_share", high, low, None)["change"].value == 0
    assert _change("stereotype_share", high, low, None)["p_value"] > 0.5
    fair = np.tile([1.0, 0.0], 60)[None, None]
    assert _change("stereotype_share", low, fair, None)["change"].value == -0.25


def test_largest_of_many_gaps_is_rarely_said_to_have_changed_by_chance():
    rng, alarms = np.random.default_rng(3), 0
    for _ in range(100):
        real = rng.normal(0, 0.02, (1, 6, 1))
        before, after = (real + rng.normal(0, 0.05, (1, 6, 20)) for _ in range(2))
        alarms += _change("template_gap", before, after, None)["p_value"] <= 0.05
    assert alarms <= 7


def test_the_page_the_json_and_the_table_say_the_same(study, lines):
    page, rows = Page(study / "report.html"), read(study)["bias_summary"]
    assert len(rows) == len(lines) and "Bias before and after" in page.text
    assert lead(list(lines.values())) in page.text
    assert (
        sentence(lines["full", *GAP]).replace("full:", "full fine-tuning:", 1) in page.text
        and "Blodgett et al. 2021" in page.text
    )
    assert "not available" in page.text and "none of 120 test texts" in page.text
    row = next(r for r in rows if (r["method"], r["part"], r["metric"]) == ("full", *GAP[:2]))
    assert [row[name] for name in ("change", "low", "high")] == pytest.approx(list(lines["full", *GAP].change))
    untold = [r for r in rows if not r["verdict"]]
    assert untold and all(r["change"] is None and r["reason"] in r["sentence"] for r in untold)
    with (study / "tables" / "bias_summary.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(rows)


def test_sentences_are_plain(lines):
    said = sentence(lines["full", *GAP])
    assert said.startswith("full: gap women minus men when gender is swapped: ") and ": larger by " in said
    assert "n = 120, 3 runs" in said
    assert "could not be followed; the table says why" in lead(list(lines.values()))
    assert lead([one for one in lines.values() if not one.verdict]).startswith("No bias was measured both")
    assert sentence(lines["lora", "pairs:toy", "stereotype_share", ""]).startswith(
        "lora: stereotypes preferred, toy: not available: after adapting: "
    )


def line_of(*runs):
    """A line of runs that are (scores before, scores after) each."""
    return _line(
        None, ("swaps:gender", "mean_change", ""), [dict(zip(("before", "after"), r, strict=True)) for r in runs]
    )


def test_only_what_can_be_paired_is_compared():
    some, other = ([Scores(np.array([[x, 0.2, 0.4]]), ids) for x in (0.1, 0.3)] for ids in ("abc", "abd"))
    assert line_of((some[0], some[1])).change.value == pytest.approx(0.2 / 3)
    assert "other texts, or another protocol" in line_of((some[0], other[1])).reason
    assert "another protocol" in line_of((some[0], some[1]._replace(protocol="context 64"))).reason
    assert "no spread to learn from" in line_of([one._replace(clusters=("x",) * 3) for one in some]).reason
    assert line_of(some, some, other).seeds == 2, "the seed on other texts is left out"
    assert line_of((some[0], some[1]), (some[1], some[0])).change.value == pytest.approx(0), "each with its own before"


def test_a_study_without_bias_has_no_such_section(tmp_path):
    study = read_study(write_study(tmp_path / "study", [Made("tfidf", 0.5)], n=40))
    assert SECTION.read(Reading(study, {"groups": None})) is None
