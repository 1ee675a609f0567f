"""The report on what methods memorise: exposure, verdicts between methods, extraction, the page's part."""

import csv
import json

import numpy as np
import pytest
from conftest import drawn
from evaluations import with_canaries
from synthetic import MadeText, write_study

from ftlib import records
from ftlib.metrics.memorization import exposure
from ftlib.records.study import read_study
from ftlib.report import build
from ftlib.report.blocks import Fold, Note, Sentences, Table, figures_of
from ftlib.report.build import Reading
from ftlib.report.sections.memorization import SECTION, bits, memorization

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    texts = (MadeText("full", -0.2, seeds=SEEDS), MadeText("lora", -0.1, seeds=SEEDS))
    return with_canaries(write_study(tmp_path_factory.mktemp("canaries") / "study", (), texts=texts))


def section_of(study):
    """What the section reads, its rows and its blocks."""
    items = SECTION.read(Reading(read_study(study)))
    return items and (SECTION.rows(items), list(SECTION.blocks(items)))


def test_exposures_are_those_of_the_ranks_in_the_predictions(study):
    (found,) = memorization(read_study(study))
    assert [(one.group.method, one.repetitions) for one in found.kept] == [
        (method, count) for method in ("full", "lora") for count in (0, 1, 4, 16)
    ]
    for one in found.kept:
        means = []
        for path, record in records.records_of(study):
            if record.spec["resolved"]["method"] == one.group.method:
                table = records.read_predictions(path)
                here = table[(table["stage"] == "after") & (table["part"] == f"canaries:{one.repetitions}")]
                means.append(exposure(here["rank"], 1024))
        assert one.exposure("after").value == pytest.approx(np.mean(means)) and one.seeds == SEEDS


def test_lora_against_full_is_put_in_a_verdict_at_each_number_of_repetitions(study):
    told = section_of(study)[0]["memorization_verdicts"]
    pairs = {row["repetitions"]: row for row in told if row["question"] == "methods"}
    assert set(pairs) == {1, 4, 16}, "canaries that were not planted are no question"
    assert {(row["a"], row["b"]) for row in pairs.values()} == {("full", "lora")}
    assert pairs[4]["verdict"] == "more" and pairs[4]["difference"] > 2
    assert pairs[4]["low"] < pairs[4]["difference"] < pairs[4]["high"] and pairs[4]["p_holm"] < 0.05
    assert pairs[16]["verdict"] == "same", "both know all that can be seen"
    assert "full against lora, planted 4 times: exposed more by" in pairs[4]["sentence"]
    assert "5 secrets, 3 seeds" in pairs[4]["sentence"]


def test_a_family_of_comparisons_is_corrected_as_one(study):
    told = section_of(study)[0]["memorization_verdicts"]
    for question in ("methods", "memorised", "repeated"):
        rows = [row for row in told if row["question"] == question]
        assert all(row["p_holm"] >= row["p_value"] for row in rows)
        assert max(row["p_holm"] for row in rows) >= min(1.0, len(rows) * min(row["p_value"] for row in rows)) - 1e-12


def test_exposure_rises_with_repetitions_and_the_control_does_not(study):
    told = section_of(study)[0]["memorization_verdicts"]
    risen = {row["a"]: row for row in told if row["question"] == "repeated"}
    assert {row["verdict"] for row in risen.values()} == {"more"}
    assert "full: planted 16 times against planted once" in risen["full"]["sentence"]
    kept = {(row["a"], row["repetitions"]): row["verdict"] for row in told if row["question"] == "memorised"}
    assert kept["full", 16] == kept["lora", 16] == "more"
    assert kept["full", 0] != "more" and kept["lora", 0] != "more"


def test_documents_written_out_stand_beside_those_never_seen(study):
    told = [row for row in section_of(study)[0]["memorization"] if row["metric"] == "extraction"]
    found = {(row["method"], row["part"], row["stage"]): row for row in told}
    full = found["full", "extraction:train", "after"]
    assert full["value"] == pytest.approx(6 / 40) and full["n"] == 40 and full["seeds"] == 3
    assert found["full", "extraction:test", "after"]["value"] == pytest.approx(1 / 40)
    assert all(0 <= row["low"] < row["value"] < row["high"] <= 1 for row in told)


def test_the_page_has_a_figure_with_its_table_and_says_the_protocol(study):
    _, blocks = section_of(study)
    (drawn,) = figures_of(blocks)
    (said,) = (block.lines for block in blocks if isinstance(block, Sentences))
    levels, extracted = (block for block in blocks if isinstance(block, Table))
    (folded,) = (block.blocks[0] for block in blocks if isinstance(block, Fold))
    assert "chance" in drawn.alt and "10.00 bits at 16" in drawn.alt and drawn.svg.startswith("<")
    assert len(drawn.rows) == len(levels.rows) == 8 and len(extracted.rows) == 4
    notes = [block.text for block in blocks if isinstance(block, Note)][1:]
    assert notes == ["1,024 candidates.", "32 tokens given, 16 written."]
    assert all("bits" in line for line in said) and len(folded.rows) == len(said) == 5


def test_the_report_holds_it_in_every_form(study):
    with drawn():
        page = build.build(study).read_text(encoding="utf-8")
    assert (
        "<h2>What it memorises</h2>" in page
        and "full fine-tuning against LoRA, planted 4 times: exposed more by" in page
    )
    content = json.loads((study / "report.json").read_text(encoding="utf-8"))
    assert len(content["memorization"]) == 2 * 2 * 4 + 2 * 2 * 2 and len(content["memorization_verdicts"]) == 3 + 8 + 2
    with (study / "tables" / "memorization.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(content["memorization"])
    assert list((study / "figures").glob("*-exposure.svg"))


def test_a_study_without_canaries_has_no_such_part(tmp_path):
    plain = write_study(tmp_path / "study", (), texts=(MadeText("full", -0.2),))
    assert section_of(plain) is None
    content = json.loads((build.build(plain).parent / "report.json").read_text(encoding="utf-8"))
    assert content["memorization"] == content["memorization_verdicts"] == []


def test_one_seed_is_enough_to_say_something(tmp_path):
    texts = (MadeText("full", -0.2), MadeText("lora", -0.1))
    told, _ = section_of(with_canaries(write_study(tmp_path / "study", (), texts=texts)))
    assert told["memorization_verdicts"] and all(row["seeds"] == 1 for row in told["memorization_verdicts"])


def test_numbers_are_shown_with_their_sign():
    assert bits(float("nan")) == "n/a" and bits(0.04, signed=True) == "+0.0"
