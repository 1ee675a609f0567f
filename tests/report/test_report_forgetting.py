"""The report on what methods forget: sequences, features, trade-offs of task and forgetting, transfer."""

import csv
import io
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import drawn
from pages import Page, digests, read
from sequences import N, Went, plain, sequence, write_courses

from ftlib.metrics.continual import OF_R
from ftlib.records import RunRecord
from ftlib.records.study import differing, read_study
from ftlib.report import build
from ftlib.report.blocks import Note, Table, figures_of
from ftlib.report.figures import drawing, svg
from ftlib.report.plots import alt_text
from ftlib.report.plots.heat import heat
from ftlib.report.plots.heat import tradeoff as plot_tradeoff
from ftlib.report.sections import continual, forgetting, transfer
from ftlib.report.sections.comparison import task_comparisons
from ftlib.report.sections.continual import alike, task_sequence
from ftlib.stats.paired import difference
from ftlib.stats.variance import variance_components

EARLIER = {"sequential_tasks": ["reviews", "bios"]}


def blocks_of(section, folder) -> list:
    """What a section shows of a study; nothing where it has none of it."""
    found = section.read(build.Reading(read_study(folder)))
    return [] if found is None else list(section.blocks(found))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Everything at once: three methods in sequence, features, a trade-off, pairs and joint training."""
    probed = {"before": {"features:bios": 0.8}, "after": {"features:bios": 0.6}}
    steps = {f"alpha_{100 * a:.0f}": {"test": 0.35 + 0.45 * a, "general": 0.3 * a} for a in (0, 0.25, 0.5, 0.75, 1)}
    way = {"before": {"general": 0.0}, "after": {"general": 0.3}}
    went = [
        Went("full", sequence(0.55, 0.6), fields=EARLIER),
        Went("full", sequence(0.8, 0.78), fields=EARLIER | {"replay": 0.2}),
        Went("lora", sequence(0.7, 0.7), fields=EARLIER),
        Went("full", plain(0.7, **probed)),
        Went("full", plain(0.85), fields={"task": "bios"}),
        Went("full", plain(0.88), fields={"task": "reviews"}),
        # That its model is kept does not part it from the others.
        Went("full", plain(0.9, before={"bios": None}, after={"bios": 0.85}),
             fields={"joint_tasks": ["bios"], "save": True}),
        Went("full", plain(0.8, before={"bios": None}, after={"bios": 0.6}) | {"after_1": {"test": 0.4, "bios": 0.82}},
             fields={"sequential_tasks": ["bios"]}),
        Went("lora", plain(0.8, **way) | steps, fields={"interpolation": [0.0, 0.25, 0.5, 0.75, 1.0]}),
        Went("lora", plain(0.8, before={"general": 0.0}, after={"general": 0.05}), fields={"l2_sp": 0.1}),
    ]  # fmt: skip
    folder = write_courses(tmp_path_factory.mktemp("forgetting") / "study", went)
    with drawn():
        build.build(folder)
    return folder


# Sequences


def test_a_sequence_holds_every_example_of_every_stage(study):
    found = [one for group in read_study(study).groups if (one := task_sequence(group))]
    full = next(one for one in found if one.tasks == ("reviews", "bios", "pydocs") and one.group.method == "full")
    assert full.seeds == (0, 1, 2) and full.R.shape == (3, 3, 3) and full.n == 3 * N
    assert np.isnan(full.R[:, 0, 1]).all() and not np.isnan(full.R[:, 0, 2]).any()
    assert np.isnan(full.base[:, 1]).all() and full.base[:, 2] == pytest.approx(0.35, abs=0.01)


def test_the_metrics_of_a_sequence_are_those_of_its_matrix_and_of_the_records(study):
    content, read_back = read(study), read_study(study)
    rows = [row for row in content["sequences"] if row.get("method")]
    for group in read_back.groups:
        one = task_sequence(group)
        if one is None:
            continue
        for name, function in OF_R.items():
            (row,) = [
                r for r in rows if (r["method"], r["settings"], r["metric"]) == (group.method, group.settings, name)
            ]
            value = float(function(one.R, one.base).mean())
            kept = [run.record.metrics["after"]["sequence"][name]["value"] for run in group.ok]
            if math.isnan(value):
                assert row["value"] is None and "zero-shot" in row["reason"] and kept == [None] * 3
                continue
            assert row["value"] == pytest.approx(value) == pytest.approx(np.mean(kept))
            assert row["low"] <= row["value"] <= row["high"] and row["seeds"] == 3


def test_what_was_learned_is_shown_beside_what_is_forgotten(study):
    content, words = read(study), " ".join(Page(study / "report.html").text.split())
    found = {}
    for row in content["sequences"]:
        if row.get("method") and row["sequence"].count(">") == 2:
            found.setdefault((row["method"], row["settings"]), {})[row["metric"]] = row
    assert len(found) == 3 and all(set(one) == set(continual.SHOWN) for one in found.values())
    assert set(continual.SHOWN) == {continual.LEARNED, *OF_R}
    groups = {(group.method, group.settings): task_sequence(group) for group in read_study(study).groups}
    for key, rows in found.items():
        learned = rows["learned"]
        by_hand = np.mean([np.diag(R).mean() for R in groups[key].R])
        assert learned["value"] == pytest.approx(by_hand) and (learned["n"], learned["seeds"]) == (3 * N, 3)
        assert 0 < learned["low"] < learned["value"] < learned["high"] < 1
        # The last task has had no time to be forgotten, so two of three lose what there is to lose.
        left = learned["value"] - rows["forgetting_first"]["value"] * 2 / 3
        assert left == pytest.approx(rows["average_accuracy"]["value"])
    # 0.85, 0.8 and 0.75, but for chance.
    assert found["lora", "sequential_tasks=reviews,bios"]["learned"]["value"] == pytest.approx(0.8, abs=0.02)
    assert "right after own training" in words and "Whoever learned little has little to forget" in words


def test_a_method_that_learned_nothing_is_seen_to_have_nothing_to_forget(tmp_path):
    """Its forgetting alone would look the best of all."""
    nothing = {
        "before": {"test": 0.35, "reviews": 0.5},
        "after_1": {"test": 0.35, "reviews": 0.5},
        "after": {"test": 0.35, "reviews": 0.5},
    }
    much = nothing | {"after_1": {"test": 0.35, "reviews": 0.9}, "after": {"test": 0.75, "reviews": 0.7}}
    fields = {"sequential_tasks": ["reviews"]}
    went = [Went("lora", nothing, fields=fields, noise=0), Went("full", much, fields=fields, noise=0)]
    shown = blocks_of(continual.SECTION, write_courses(tmp_path / "s", went))
    table = next(block for block in shown if isinstance(block, Table))
    named = [cell.text.partition(",")[0] for cell in table.header[:4]]
    assert named == ["method", "right after own training", "average accuracy", "forgetting first"]
    cells = {row[0].text: [cell.text for cell in row[1:4]] for row in table.rows}
    assert cells == {"lora": ["42.5", "42.5", "+0.0"], "full": ["82.5", "72.5", "+20.0"]}


def test_a_stage_measured_on_other_examples_leaves_what_was_learned_unknown(study):
    one = next(one for group in read_study(study).groups if (one := task_sequence(group)) and len(one.tasks) == 3)
    hits = (one.hits[0].copy(), *one.hits[1:])
    hits[0][:, 1] = np.nan
    unknown = one._replace(hits=hits)
    assert math.isnan(continual.level(unknown, "learned").value)
    assert "no score on reviews" in continual.reason(unknown, "learned")
    assert not math.isnan(continual.level(unknown, "average_accuracy").value)


def test_tasks_count_alike_and_spread_as_a_stratified_sample():
    rng = np.random.default_rng(0)
    tables = [rng.normal(0, 1, (1, 50)), rng.normal(5, 2, (1, 200))]
    found = variance_components(alike(tables))
    assert found.mean == pytest.approx((tables[0].mean() + tables[1].mean()) / 2)
    by_hand = math.sqrt(tables[0].var(ddof=1) / 50 + tables[1].var(ddof=1) / 200) / 2
    assert found.examples_se == pytest.approx(by_hand, rel=0.02)


def test_who_forgets_less_is_said_in_words_and_corrected(study):
    found = continual.sequences(read_study(study))
    three = next(one for one in found if len(one.tasks) == 3)
    said = [continual.sentence(three, pair) for pair in three.pairs]
    assert len(said) == 3 and all("3 seeds, paired" in line for line in said)
    (line,) = [one for one in said if "replay=0.2" in one and "lora" not in one]
    assert "forgets more than" in line and line.index("full") < line.index("replay=0.2")
    pair = next(pair for pair in three.pairs if continual.sentence(three, pair) == line)
    a, b = (next(one for one in three.methods if one.group.name == name) for name in (pair.a, pair.b))
    by_hand = difference(-continual.forgotten(a), -continual.forgotten(b), margin=0.01)
    assert pair.comparison.difference == pytest.approx(by_hand.value)
    assert (pair.comparison.low, pair.comparison.high) == pytest.approx((by_hand.low, by_hand.high))
    assert pair.p_holm >= pair.comparison.p_value
    called = re.sub(r"\bfull\b", "full fine-tuning", line)
    assert f"{called}." in " ".join(Page(study / "report.html").text.split())


def test_methods_that_answer_alike_forget_the_same(tmp_path):
    same = [
        Went("full", sequence(0.6, 0.6), (0,), EARLIER, noise=0),
        Went("lora", sequence(0.6, 0.6), (0,), EARLIER, noise=0),
    ]
    (found,) = continual.sequences(read_study(write_courses(tmp_path / "s", same)))
    assert continual.sentence(found, found.pairs[0]) == "full and lora forget exactly the same (1 seed, paired)"


def test_seeds_that_lack_a_stage_are_left_out_and_named(tmp_path):
    short = {stage: parts for stage, parts in sequence(0.6, 0.6).items() if stage != "after_2"}
    went = [Went("full", sequence(0.6, 0.6), (0, 1), EARLIER), Went("full", short, (2,), EARLIER)]
    said = [
        block.text
        for block in blocks_of(continual.SECTION, write_courses(tmp_path / "s", went))
        if isinstance(block, Note)
    ]
    assert "full: seeds left out, since they lack a score or used other examples: [2]." in said


def test_examples_of_one_source_count_as_one_draw(tmp_path):
    went = [Went("full", sequence(0.55, 0.6), fields=EARLIER), Went("lora", sequence(0.8, 0.78), fields=EARLIER)]
    one, many = (
        continual.sequences(read_study(write_courses(tmp_path / str(source), went, source=source)))[0]
        for source in (0, 12)
    )
    assert one.methods[0].clusters is None and len(set(many.methods[0].clusters)) == 3 * N // 12
    for name, level in one.levels[0].items():
        assert level.value == pytest.approx(many.levels[0][name].value, nan_ok=True)
    differences = [found.pairs[0].comparison.difference for found in (one, many)]
    assert differences[0] == pytest.approx(differences[1])


def test_states_of_a_run_are_shown_with_their_intervals_or_why_there_is_none():
    one = {"value": 1.234, "low": None, "high": None, "n": 1}
    several = {"value": 1.5, "low": None, "high": None, "n": 12}
    sure = {"value": 1.0, "low": 0.9, "high": 1.1, "n": 40}
    none = {"value": None, "low": None, "high": None, "n": 0, "reason": "no text"}
    stages = {"before": {"test": {"bits_per_byte": one}}, "after": {"test": {"bits_per_byte": sure}}}
    stages["before"]["general"] = {"bits_per_byte": several}
    stages["after"] |= {"general": {"bits_per_byte": none}, "bios": {"accuracy": sure}}
    shown = continual.states(RunRecord("", "ok", {}, metrics=stages), "bits_per_byte")._repr_html_()
    assert "1.234 (no interval: one document)" in shown and "1.500 (no interval: one source of examples)" in shown
    assert "1.000 (0.900 to 1.100)" in shown and "not available" in shown and "bios" not in shown


# Features


def test_what_features_tell_is_compared_before_and_after(study):
    (row,) = [row for row in read(study)["general"] if row["part"] == "features:bios"]
    assert row["verdict"] == "worse" and row["n"] == N and row["seeds"] == 3
    assert row["before"] == pytest.approx(0.8, abs=0.01) and row["low"] < row["difference"] < row["high"] < 0
    assert "a linear probe for bios is worse than before by" in row["sentence"]
    assert "Linear-probe accuracy on other tasks" in Page(study / "report.html").text


def test_features_that_stay_are_exactly_the_same(tmp_path):
    still = {"before": {"features:bios": 0.8}, "after": {"features:bios": 0.8}}
    folder = write_courses(tmp_path / "s", [Went("probe", plain(0.7, **still), (0,), noise=0)])
    (one,) = forgetting.feature_changes(read_study(folder), "pydocs")
    assert one.unchanged and forgetting.change_sentence(one).startswith(
        "probe: a linear probe for bios answers exactly as before"
    )


# Trade-offs


def tradeoff_of(folder, went):
    study = read_study(write_courses(folder / "s", went))
    return forgetting.tradeoff(study, next(task_comparisons(study)))


def test_the_tradeoff_names_what_keeps_the_gain_and_forgets_least(study):
    rows = read(study)["tradeoff"]
    assert {row["measure"] for row in rows} == {"general"}
    assert [row["alpha"] for row in rows if row["alpha"] is not None and row["alpha"] == 1] == []
    steps = {row["alpha"]: row for row in rows if row["alpha"] is not None}
    assert set(steps) == {0, 0.25, 0.5, 0.75} and steps[0]["forgotten"] == pytest.approx(0, abs=1e-12)
    assert steps[0.5]["forgotten"] == pytest.approx(0.15, abs=0.03)
    assert sum(row["chosen"] for row in rows) == 1
    images = [attributes["alt"] for tag, attributes in Page(study / "report.html").tags if tag == "img"]
    assert any(alt.startswith("accuracy, %") and "general text costs more than before" in alt for alt in images)


def test_a_setting_shown_to_be_as_good_and_to_forget_less_is_chosen(tmp_path):
    def forgot(bits):
        return plain(0.8, before={"general": 0.0}, after={"general": bits})

    went = [Went("lora", forgot(0.3), noise=0), Went("lora", forgot(0.05), fields={"l2_sp": 0.1}, noise=0)]
    found = tradeoff_of(tmp_path, went)
    assert found.points[found.chosen].name == "lora l2_sp=0.1"
    said = forgetting.tradeoff_sentence(found)
    assert "lora l2_sp=0.1 keeps what lora, the best of these on the task, gained, within 1 point" in said
    assert "It forgot less by 0.2" in said and "bits per byte that general text costs more" in said


def test_what_cannot_be_told_is_said_to_be_so(tmp_path):
    went = [
        Went("lora", plain(0.8, before={"general": 0.0}, after={"general": 0.3})),
        Went("lora", plain(0.78, before={"general": 0.0}, after={"general": 0.1}), fields={"l2_sp": 1.0}),
    ]
    said = forgetting.tradeoff_sentence(tradeoff_of(tmp_path, went))
    assert said.startswith("Cannot tell: lora is the best of these on the task; lora l2_sp=1 forgot less")


def test_without_general_text_the_tradeoff_takes_the_earlier_tasks(study, tmp_path):
    went = [
        Went("full", sequence(0.5, 0.5), fields=EARLIER),
        Went("full", sequence(0.8, 0.78), fields=EARLIER | {"replay": 0.2}),
    ]
    found = tradeoff_of(tmp_path, went)
    assert found.measure == "sequence" and "previous tasks" in forgetting.forgotten_label(found)
    one = next(point for point in found.points if "replay" in point.name)
    assert one.forgot.value == pytest.approx(((0.85 - 0.8) + (0.8 - 0.78)) / 2, abs=0.02)


def test_settings_of_different_methods_and_other_fields_are_no_tradeoff(tmp_path):
    def one(method, **fields):
        return Went(method, plain(0.7, before={"general": 0.0}, after={"general": 0.1}), fields=fields)

    assert tradeoff_of(tmp_path, [one("lora"), one("full"), one("full", train_limit=50)]) is None


# One task for another


def test_gains_are_paired_with_the_task_alone_on_the_same_terms(study):
    rows = {
        (row["task"], row["sources"], row["how"], row["against"], row["settings"]): row
        for row in read(study)["transfer"]
    }
    joint = rows["pydocs", "bios", "joint_tasks", "alone", "joint_tasks=bios"]
    assert joint["verdict"] == "better" and joint["gain"] == pytest.approx(0.2, abs=0.03) and joint["seeds"] == 3
    assert joint["low"] < joint["gain"] < joint["high"] and joint["n"] == N
    after = rows["pydocs", "bios", "after", "alone", "sequential_tasks=bios"]
    assert (
        after["gain"] == pytest.approx(0.1, abs=0.02)
        and "pydocs after bios is better than pydocs alone by 1" in after["sentence"]
    )
    assert rows["bios", "pydocs", "joint_tasks", "alone", "joint_tasks=bios"]["gain"] == pytest.approx(0, abs=0.02)
    sequence = rows["bios", "pydocs", "joint_tasks", "in sequence", "joint_tasks=bios"]
    assert sequence["gain"] == pytest.approx(0.25, abs=0.02) and sequence["verdict"] == "better"
    assert not any(row["method"] == "lora" for row in rows.values() if row["sources"] == "bios")
    words = " ".join(Page(study / "report.html").text.split())
    assert "What one task gives to another" in words and "against one that learned them in sequence" in words


def test_runs_on_other_terms_are_not_paired(tmp_path):
    went = [
        Went("full", plain(0.7), fields={"train_limit": 50}),
        Went(
            "full",
            plain(0.8, after={"bios": 0.8}) | {"after_1": {"test": 0.4, "bios": 0.8}},
            fields={"sequential_tasks": ["bios"]},
        ),
    ]
    assert transfer.transfers(read_study(write_courses(tmp_path / "s", went))) == []


def test_a_text_task_after_another_is_compared_in_bits_per_byte(tmp_path):
    texts = {"task": "pydocs_text", "model": "tiny-lm"}
    went = [
        Went("full", {"before": {"test": 0.0}, "after": {"test": -0.1}}, fields=texts),
        Went(
            "full",
            {"before": {"test": 0.0, "reviews": 0.5}, "after_1": {"test": 0.1, "reviews": 0.8}}
            | {"after": {"test": -0.3, "reviews": 0.6}},
            fields=texts | {"sequential_tasks": ["reviews"]},
        ),
    ]
    folder = write_courses(tmp_path / "s", went)
    (one,) = transfer.transfers(read_study(folder))
    assert one.metric == "bits_per_byte" and one.gain.comparison.verdict == "better"
    assert one.gain.comparison.difference == pytest.approx(one.base.value - one.level.value)
    gain = f"{one.gain.comparison.difference:.3f} bits per byte ("
    assert f"pydocs_text after reviews is better than pydocs_text alone by {gain}" in transfer.sentence(one)
    assert task_sequence(one.group) is None
    shown = blocks_of(transfer.SECTION, folder)
    assert blocks_of(continual.SECTION, folder) == [] == figures_of(shown)
    assert [block.caption for block in shown if isinstance(block, Table)] == [
        "Trained with others against each task alone"
    ]


# The page


def test_the_page_is_pure_and_holds_a_table_for_every_figure(study):
    before = digests(study)
    with drawn():
        build.build(study)
    assert digests(study) == before
    for name in ("sequences", "tradeoff", "transfer"):
        rows = list(csv.DictReader(io.StringIO((study / "tables" / f"{name}.csv").read_text())))
        assert len(rows) == len(read(study)[name]) > 0
    kinds = {path.stem.split("-", 2)[2] for path in (study / "figures").glob("*.svg")}
    assert {"sequence", "tradeoff", "transfer"} <= kinds
    assert not read(study)["disagreements"]


@pytest.mark.parametrize("signed", [False, True])
def test_names_cannot_harm_the_pictures_and_cells_without_a_number_stay_empty(signed):
    names = ["<script>alert(1)</script>", "</svg>&amp;\x1b$\\frac{1}"]
    with drawing(2.0) as ax:
        heat(ax, [[0.5, np.nan], [-0.25, 0.125]], names, names, label="gain", signed=signed, marks=[names, names])
        drawn = svg(ax.figure)
    ElementTree.fromstring(drawn)
    assert "<script" not in drawn and len(ax.texts) == 3 and "NaN" not in drawn
    with drawing(3.0) as ax:
        points = [[0.1, 0.0, 0.2], [0.3, np.nan, np.nan]]
        lines = {names[0]: [0, 1]} if signed else {}
        plot_tradeoff(ax, names, points, points, label="accuracy", forgotten_label="lost", lines=lines, untouched=0.2)
        drawn = svg(ax.figure)
    ElementTree.fromstring(drawn)
    assert "<script" not in drawn and "0.300 with 0.300" in alt_text(ax)


def test_a_study_without_such_runs_has_no_such_part(tmp_path):
    folder = write_courses(tmp_path / "s", [Went("full", plain(0.7)), Went("lora", plain(0.75))])
    build.build(folder)
    content, words = read(folder), Page(folder / "report.html").text
    assert content["sequences"] == content["tradeoff"] == content["transfer"] == []
    assert "Trained on one task after another" not in words and "Trade-off of the task" not in words
    assert "What one task gives" not in words


def test_tasks_of_a_sequence_are_named_without_their_folders():
    specs = [
        {"sequential_tasks": [], "seed": 0},
        {"sequential_tasks": ["file:/somewhere/else/trec6", "bios"], "seed": 0},
    ]
    assert differing(specs) == ["", "sequential_tasks=trec6,bios"]
