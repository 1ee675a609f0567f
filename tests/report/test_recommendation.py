"""What a report says of methods that ended behind what they began with."""

import json

import pytest
from synthetic import Made, write_study

from ftlib.records.study import read_study
from ftlib.report.sections.comparison import task_comparisons
from ftlib.report.sections.recommendation import sentences

SEEDS = (0, 1, 2, 3)
FROZEN = (Made("zero_shot", -0.1, as_before=True), Made("probe", 1.2))


def said(folder, *runs):
    write_study(folder, runs)
    (comparison,) = task_comparisons(read_study(folder))
    return sentences(comparison)


def test_nobody_is_behind_where_training_helped(tmp_path):
    assert said(tmp_path, *FROZEN, Made("full", 1.8, SEEDS), Made("lora", 1.3, SEEDS)) == []


def test_who_is_behind_the_probe_is_named_with_what_to_try(tmp_path):
    (line,) = said(tmp_path, *FROZEN, Made("full", 1.8, SEEDS), Made("lora", 0.2, SEEDS))
    assert line.startswith("lora ended behind probe, which took no training of the model")
    assert 'Before setting it aside, try head_init = "linear_probe"' in line and line.endswith("or a tuning budget.")


def test_who_is_behind_the_untouched_model_too_is_said_once(tmp_path):
    (line,) = said(tmp_path, *FROZEN, Made("full", -1.5, SEEDS), Made("lora", -1.6, SEEDS), Made("tfidf", -3.0))
    names = {"full and lora", "lora and full"}
    assert any(line.startswith(f"{both} ended behind probe or zero_shot (the base model)") for both in names)
    assert "setting them aside" in line and "tfidf" not in line


@pytest.mark.parametrize("other", [{"head_init": "linear_probe"}, {"model": "tiny-lm"}])
def test_a_head_is_no_remedy_where_it_was_fitted_or_there_is_none(tmp_path, other):
    runs = [Made("zero_shot", 1.0, fields=other, as_before=True)] if "model" in other else FROZEN
    (line,) = said(tmp_path, *runs, Made("lora", -1.6, SEEDS, fields=other))
    assert "head_init" not in line and "try more epochs" in line


def test_who_ended_with_a_higher_loss_is_to_learn_slower(tmp_path):
    runs = [*FROZEN, Made("full", -1.5, SEEDS), Made("lora", -1.6, SEEDS)]
    write_study(tmp_path, runs)
    (full,) = [group for group in read_study(tmp_path).groups if group.method == "full"]
    for diary in (run.folder / "events.jsonl" for run in full.runs):
        lines = [json.loads(line) for line in diary.read_text(encoding="utf-8").splitlines()]
        losses = iter(sorted(line["loss"] for line in lines if line["event"] == "step"))
        rising = [line | {"loss": next(losses)} if line["event"] == "step" else line for line in lines]
        diary.write_text("".join(json.dumps(line) + "\n" for line in rising), encoding="utf-8")
    (comparison,) = task_comparisons(read_study(tmp_path))
    (line,) = sentences(comparison)
    assert "or a tuning budget for lora; and a lower learning_rate for full, whose training loss ended higher" in line
