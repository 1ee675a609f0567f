"""A record is whole or it is not there; nothing overwrites one."""

import json

import numpy as np
import pandas as pd
import pytest

import ftlib
from ftlib import records
from ftlib.core import atomic
from ftlib.core.errors import FtlibError
from ftlib.records import RunRecord, predictions_table
from ftlib.records.events import Events, read_events

LABELS = ("bad", "good")
EXAMPLES = pd.DataFrame(
    {"id": ["x", "y"], "text": ["née", "ok"], "label": ["bad", "good"], "group_age": ["old", "young"]}
)
PREDICTIONS = predictions_table("after", "test", EXAMPLES, LABELS, np.array([[0.9, 0.1], [0.75, 0.25]]))


def record(run_id="abc", accuracy=0.5, **more):
    leaf = {"value": accuracy, "low": 0.1, "high": 0.9, "n": 2}
    metrics = {"before": {}, "after": {"test": {"accuracy": leaf}}}
    return RunRecord(
        run_id, more.pop("status", "ok"), {"passed": {}, "resolved": {"method": "probe"}}, metrics=metrics, **more
    )


def test_predictions_hold_one_row_per_example_with_probabilities_and_groups():
    assert PREDICTIONS["prediction"].tolist() == ["bad", "bad"]
    assert PREDICTIONS["score_good"].tolist() == [0.1, 0.25]
    assert PREDICTIONS["group_age"].tolist() == ["old", "young"]
    assert PREDICTIONS["n_bytes"].tolist() == [4, 2]
    assert PREDICTIONS["nats"].tolist() == pytest.approx([-np.log(0.9), -np.log(0.25)])
    assert set(records.COLUMNS) <= set(PREDICTIONS)


@pytest.mark.parametrize("wrong", [[[0.9, 0.2], [0.5, 0.5]], [[np.nan, 1.0], [0.5, 0.5]], [[0.5, 0.5]]])
def test_probabilities_that_are_none_are_refused(wrong):
    with pytest.raises(FtlibError, match="probabilities"):
        predictions_table("after", "test", EXAMPLES, LABELS, np.array(wrong))


def test_what_was_written_is_read_again(tmp_path):
    run = tmp_path / "runs" / "abc"
    records.write(run, record(), PREDICTIONS)
    assert records.read_record(run) == record()
    assert records.complete_record(run) == record()
    assert records.read_predictions(run)["id"].tolist() == ["x", "y"]
    with pytest.raises(FtlibError, match="no such folder"):
        records.read_runs(tmp_path / "nowhere")
    row = records.read_runs(tmp_path).iloc[0]
    assert row["after.test.accuracy"] == 0.5
    assert row["after.test.accuracy.n"] == 2
    assert not list(run.glob(".*"))


def test_a_record_that_stands_is_never_changed(tmp_path):
    run = tmp_path / "runs" / "abc"
    path = records.write(run, record(), PREDICTIONS)
    before = path.read_bytes()
    assert records.write(run, record(), PREDICTIONS) == path
    with pytest.raises(FtlibError, match="never edited"):
        records.write(run, record(accuracy=0.75), PREDICTIONS)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damaged", [False, True])
def test_a_lesson_run_again_by_another_version_sets_the_old_record_aside(
    damaged, at_home, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    spec = ftlib.Experiment(task=f"file:{at_home / 'opinions'}", method="majority")
    run = tmp_path / "reports/exploration/runs" / spec.run_id
    assert ftlib.run(spec, "").status == "ok"
    made = json.loads((run / "record.json").read_text(encoding="utf-8"))
    assert ftlib.run(spec, "").status == "ok" and not (tmp_path / "reports/exploration/superseded").exists()
    made["metrics"]["after"]["test"]["accuracy"]["value"] = 0.125
    old = "{" if damaged else json.dumps(made)
    (run / "record.json").write_text(old, encoding="utf-8")
    capsys.readouterr()
    assert ftlib.run(spec, "").status == "ok"
    said, kept = capsys.readouterr().out, run.parent.parent / "superseded" / spec.run_id
    assert "an earlier record of this run has other values" in said and str(kept.relative_to(tmp_path)) in said
    assert (kept / "1.record.json").read_text(encoding="utf-8") == old and (kept / "1.predictions.parquet").exists()
    assert records.complete_record(run).metrics["after"]["test"]["accuracy"]["value"] != 0.125


def test_a_failing_write_leaves_the_old_file_and_nothing_half_done(tmp_path):
    path = tmp_path / "value.json"
    atomic.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range float values"):
        atomic.write_json(path, {"a": float("nan")})

    def breaks(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        atomic.write_atomically(path, breaks)
    assert json.loads(path.read_text()) == {"a": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["value.json"]


def test_only_a_whole_record_of_its_own_folder_is_complete(tmp_path):
    other = tmp_path / "runs" / "elsewhere"
    records.write(other, record(), PREDICTIONS)
    assert records.complete_record(other) is None
    failed = tmp_path / "runs" / "abc"
    records.write(failed, record(status="failed", reason="out of memory"))
    assert records.complete_record(failed) is None
    assert records.complete_record(tmp_path / "nothing") is None


@pytest.mark.parametrize("fields", [{"status": "fine"}, {"status": "failed"}, {"reason": "why"}])
def test_a_status_and_its_reason_belong_together(tmp_path, fields):
    with pytest.raises(FtlibError, match="is not a record"):
        records.write(tmp_path, record(**fields), PREDICTIONS)


@pytest.mark.parametrize("content", ["{", '{"schema": 99}', "[]", '{"schema": 1, "surprise": 2}'])
def test_what_is_no_record_is_an_error_that_names_the_file(tmp_path, content):
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(FtlibError, match=r"record\.json"):
        records.read_record(tmp_path)


def test_the_diary_survives_a_torn_last_line_and_holds_no_nan(tmp_path):
    events = Events(tmp_path)
    events.say("fit", learning_rate=0.1, steps=2, n=8)
    events.say("step", step=1, of=2, loss=0.5)
    events.say("validation", step=1, of=2, loss=0.7, n=4)
    events.say("step", step=2, of=2, loss=float("nan"))
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write('{"event": "ste')
    found = read_events(tmp_path)
    assert [entry["loss"] for entry in found[1:]] == [0.5, 0.7, None]
    assert events.curves() == [("training", [1, 2], [0.5, None]), ("validation", [1], [0.7])]


def test_a_value_is_found_by_its_path_or_the_error_lists_what_is_there():
    assert record().value("after.test.accuracy") == 0.5
    with pytest.raises(FtlibError, match=r"after\.test\.accuracy"):
        record().value("after.test.f2")


def test_labels_with_points_have_columns_and_paths_of_their_own(tmp_path):
    leaf = {"value": 0.75, "low": 0.5, "high": 0.9, "n": 8}
    labels = {"x": leaf, "x.low": leaf | {"value": 0.25}, 'x"': leaf | {"value": 0.5}}
    groups = {"a.b": {"c": {"accuracy": leaf}}, "a": {"b.c": {"accuracy": leaf | {"value": 0.125}}}}
    metrics = {"after": {"test": {"f1": labels, "groups": groups}}}
    made = records.RunRecord("r", "failed", {"resolved": {}}, reason="made up", metrics=metrics)
    records.write(tmp_path / "runs" / "r", made)
    row = records.read_runs(tmp_path).iloc[0]
    assert (row["after.test.f1.x"], row["after.test.f1.x.low"], row['after.test.f1."x.low"']) == (0.75, 0.5, 0.25)
    assert row['after.test.groups."a.b".c.accuracy'] == 0.75 and row['after.test.groups.a."b.c".accuracy'] == 0.125
    assert made.value('after.test.f1."x.low"') == 0.25 and made.value('after.test.f1.x"') == 0.5
