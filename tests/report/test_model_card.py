"""Model cards: everything from the record, nothing made up, nothing from data that could be markup."""

import re

import pytest
import yaml
from synthetic import HOSTILE, TYPICAL, Made, MadeText, write_study

from ftlib import records
from ftlib.core.errors import FtlibError
from ftlib.report import model_card


@pytest.fixture(scope="module")
def study_dir(tmp_path_factory):
    """Several methods of several seeds."""
    return write_study(tmp_path_factory.mktemp("card") / "study", TYPICAL, n=60)


def run_of(study, method, seed=0):
    return next(
        (path, one)
        for path, one in records.records_of(study)
        if (one.spec["resolved"]["method"], one.spec["resolved"]["seed"]) == (method, seed)
    )


def section(made, name):
    return re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", made.text, re.MULTILINE | re.DOTALL)[1]


def test_a_card_holds_every_test_metric_with_interval_and_n(study_dir):
    path, record = run_of(study_dir, "lora")
    made = model_card.card(path)
    results = {one.metric_type: one for one in made.data.eval_results}
    for name, leaf in records.flat(record.metrics["after"]["test"]).items():
        said = f"| {model_card.inert(name)} |"
        assert said in section(made, "How well it does")
        if not name.startswith("f1."):
            assert results[name].metric_value == leaf["value"] and f"n = {leaf['n']}" in results[name].metric_name
    accuracy = record.metrics["after"]["test"]["accuracy"]
    assert f"{accuracy['value']:.3f} (no interval)" in made.text, "made-up records hold none"


def test_its_metadata_is_the_hubs(study_dir):
    made = model_card.card(run_of(study_dir, "lora")[0])
    front = yaml.safe_load(str(made).split("---\n")[1])
    assert front["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert "license" not in front and "Apache-2.0" in section(made, "How it was made"), "nobody has chosen one yet"
    assert front["library_name"] == "peft" and front["pipeline_tag"] == "text-classification"
    assert front["model-index"][0]["results"][0]["dataset"]["name"] == "pydocs"


def test_other_seeds_of_the_same_setting_stand_beside_it(study_dir):
    _, record = run_of(study_dir, "lora")
    made = model_card.card(study_dir, record.run_id)
    same = [one for _, one in records.records_of(study_dir) if one.spec["resolved"]["method"] == "lora"]
    others = [one for one in same if one.run_id != record.run_id]
    values = [one.metrics["after"]["test"]["accuracy"]["value"] for one in others]
    assert f"{min(values):.3f} to {max(values):.3f} ({len(values)} runs)" in made.text
    assert "luck of one training" not in section(made, "What was not tested")


def test_what_was_not_tested_is_said(study_dir):
    made = model_card.card(run_of(study_dir, "lora")[0])
    assert "None" in section(made, "Groups tested") and "Not tested" in section(made, "Memorised text")
    missing = section(made, "What was not tested")
    for words in ("whom it treats worse", "texts from elsewhere", "memorised", "other languages"):
        assert words in missing


def test_the_card_of_bundled_data_speaks_in_it(study_dir):
    said = section(model_card.card(run_of(study_dir, "lora")[0]), "Data")
    assert "Known biases" in said and "Licence" in said


def test_of_data_that_states_nothing_the_licence_is_unknown(tmp_path):
    study = write_study(tmp_path / "study", (Made("lora", 0.5, fields={"task": "hub:someone/some_data"}),), n=20)
    made = model_card.card(study)
    assert "Licence and known biases of the data: unknown" in section(made, "Data")
    assert made.data.datasets == "someone/some_data"
    assert "luck of one training" in section(made, "What was not tested")


def test_a_study_of_several_settings_asks_which(study_dir):
    with pytest.raises(FtlibError, match=r"settings adapted a model.*--run"):
        model_card.card(study_dir)
    _, majority = run_of(study_dir, "majority")
    with pytest.raises(FtlibError, match="adapted no model"):
        model_card.card(study_dir, majority.run_id)
    with pytest.raises(FtlibError, match="is not among"):
        model_card.card(study_dir, "0" * 16)
    with pytest.raises(FtlibError, match="neither a run's folder"):
        model_card.card(study_dir / "nothing")


def edited(study, method, metrics):
    """The run's folder, its record changed."""
    path, record = run_of(study, method)
    (path / "record.json").unlink()
    records.write(path, records.RunRecord(**vars(record) | {"metrics": metrics(record.metrics)}),
                  records.read_predictions(path))  # fmt: skip
    return path


def leaf(value, n=5):
    return {"value": value, "low": value, "high": value, "n": n}


def test_groups_gaps_and_memory_are_shown_where_they_were_measured(tmp_path):
    study = write_study(tmp_path / "study", (), texts=(MadeText("lora", -0.1),))

    def grown(metrics):
        more = {"groups": {"sex": {"f": {"accuracy": leaf(0.5)}}}, "gaps": {"sex": {"accuracy_difference": leaf(0.25)}}}
        more = {"test": metrics["after"]["test"] | more}
        kept = {"canaries:16": {"exposure": leaf(7.5) | {"protocol": "1,024 candidates"}}}
        return metrics | {"after": metrics["after"] | more | kept}

    made = model_card.card(edited(study, "lora", grown))
    assert "| sex | f | 0.500 (0.500 to 0.500) | 5 |" in made.text
    assert model_card.inert("accuracy_difference") in section(made, "Groups tested")
    assert "planted 16 times, bits | not measured | 7.500" in section(made, "Memorised text")
    assert "not to be released" in section(made, "Limits")
    assert "harmful" in section(made, "What was not tested") and made.data.pipeline_tag == "text-generation"


def test_text_from_data_is_no_markup(tmp_path):
    words = dict.fromkeys(("numpy", "torch"), f"{HOSTILE[0]} [x](http://evil)\n\n# y | `z`")
    study = write_study(tmp_path / "study", (Made("lora", 0.5, fields={"label_words": words}),), n=20)

    def hostile(metrics):
        test = dict(metrics["after"]["test"])
        test["f1"] = {label: leaf(0.5) for label in (*HOSTILE, "a|b\n---\nlicense: mit\n---", "![i](http://evil)")}
        test["groups"] = {"<img src=x>": {"**bold**|": {"accuracy": leaf(0.5)}}}
        return metrics | {"after": metrics["after"] | {"test": test}}

    path = edited(study, "lora", hostile)
    made = model_card.card(path)
    for mark in ("<script", "<b>", "<img", "](http", "**bold**", "`z`", "![", "http://evil"):
        assert mark not in made.text
    for line in made.text.splitlines():
        assert not line.startswith("|") or line.count("|") in (3, 5, 6, 7), line
    assert made.data.license is None and len(re.findall(r"^# ", made.text, re.MULTILINE)) == 1


def test_a_card_says_what_was_asked_for_and_studies_name_their_settings(tmp_path):
    made = (Made("probe", 0.5), Made("probe", 0.6, fields={"mitigation": "reweight"}))
    study = write_study(tmp_path / "study", made, n=20)
    path = next(path for path, one in records.records_of(study) if one.spec["resolved"].get("mitigation"))
    said = str(model_card.card(path))
    assert "with the mitigation reweight" in said and "| asked for | mitigation reweight |" in said
    assert "learning_rate" not in said, "nothing of it makes steps"
    with pytest.raises(FtlibError, match=r"which with --run: .*\(probe mitigation=reweight\)"):
        model_card.card(study)


def test_a_card_is_written_beside_its_record(study_dir, tmp_path):
    path, record = run_of(study_dir, "full")
    assert model_card.write(study_dir, record.run_id) == path / "MODEL_CARD.md"
    with pytest.raises(FtlibError, match="is a folder; name a file"):
        model_card.write(path, out=tmp_path)
    there = model_card.write(path, out=tmp_path / "README.md")
    assert there.read_bytes() == (path / "MODEL_CARD.md").read_bytes()
    assert there.read_text(encoding="utf-8").startswith("---\n")


def test_what_the_audit_found_stands_in_the_data_section(tmp_path):
    study = write_study(tmp_path / "study", (Made("lora", 0.5),), n=20)
    path, record = run_of(study, "lora")
    found = [{"level": "PROBLEM", "code": "leak", "text": "4 test texts are in <b>train</b>", "n": 4}]
    (path / "record.json").unlink()
    kept = records.RunRecord(**vars(record) | {"provenance": record.provenance | {"data_findings": found}})
    records.write(path, kept, records.read_predictions(path))
    said = section(model_card.card(path), "Data")
    assert "What its audit found wrong:" in said and "- 4 test texts are in &lt;b&gt;train&lt;/b&gt;." in said
