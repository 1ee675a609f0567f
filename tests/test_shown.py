"""Objects show themselves in a notebook; dataset text is inert; a person who stops a run reads what was kept."""

import numpy as np
import pytest
from IPython.core.interactiveshell import InteractiveShell

import ftlib
from ftlib.core.errors import Interrupted
from ftlib.execution import run as stages
from ftlib.metrics.units import stages_table
from ftlib.records import RunRecord, complete_record

LEAF = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}


def test_a_record_has_a_row_per_metric_with_before_after_and_change():
    better = {"accuracy": LEAF | {"value": 0.75}, "f1": {"<b>": LEAF}, "groups": {"sex": {"a": {"accuracy": LEAF}}}}
    record = RunRecord("0", "ok", {}, metrics={"before": {"test": {"accuracy": LEAF}}, "after": {"test": better}})
    first, folded = record._repr_html_().split("<details>")
    assert first.count("<tr>") == 2 and "50.0 (40.0 to 60.0)" in first and ">+25.0</td>" in first
    assert "&lt;b&gt;" in folded and "<b>" not in record._repr_html_() and "sex" not in record._repr_html_()
    assert "accuracy 0.750" in repr(record)


def test_a_run_that_failed_shows_why():
    assert RunRecord("0", "diverged", {}, reason="loss <nan>")._repr_html_() == "<p>diverged: loss &lt;nan&gt;</p>"


def test_evaluation_sets_whose_names_have_points_keep_their_metrics_names():
    shown = stages_table({"after": {"test": {"accuracy": LEAF}, "tests.clinic": {"accuracy": LEAF}}})
    assert "tests.clinic: accuracy, %" in shown


def test_an_experiment_is_written_as_it_would_be_typed():
    spec = ftlib.Experiment(method="lora", seed=3)
    assert repr(spec) == "Experiment(method='lora', seed=3)"
    assert (
        repr(ftlib.Experiment()) == "Experiment()" and "Every field at its default" in ftlib.Experiment()._repr_html_()
    )


def test_a_comparison_shows_its_sentence():
    found = ftlib.compare(np.ones((1, 40)), np.zeros((1, 40)), margin=0.1, rng=np.random.default_rng(0), name_a="<i>")
    assert found._repr_html_().startswith("<p><strong>&lt;i&gt; is better")


def test_a_notebook_shows_an_error_as_its_sentence_and_no_traceback(capsys):
    shell = InteractiveShell.instance()
    shell.run_cell("import ftlib; ftlib.Experiment(method='lorra')")
    said = capsys.readouterr().out
    assert "did you mean 'lora'" in said and "Traceback" not in said and "File " not in said


def _two(at_home):
    shared = {"task": "file:opinions", "eval_limit": 6}
    return [ftlib.Experiment(method=method, **shared) for method in ("majority", "tfidf")]


def test_what_was_interrupted_says_what_was_kept_and_goes_on_from_there(at_home, tmp_path, monkeypatch, capsys):
    one, two = _two(at_home)
    plain = stages.evaluate

    def stop(stage, spec, *more, **named):
        if spec.method == two.method:
            raise KeyboardInterrupt
        return plain(stage, spec, *more, **named)

    monkeypatch.setattr(stages, "evaluate", stop)
    with pytest.raises(Interrupted, match="in measuring the adapted model of tfidf: 1 run of 2 .* run the cell again"):
        ftlib.run_each([one, two], tmp_path)
    assert complete_record(tmp_path / "runs" / one.run_id) and not complete_record(tmp_path / "runs" / two.run_id)
    monkeypatch.setattr(stages, "evaluate", plain)
    capsys.readouterr()
    assert [record.run_id for record in ftlib.run_each([one, two], tmp_path)] == [one.run_id, two.run_id]
    said = capsys.readouterr().out
    assert "1 of 2: majority, seed 0: recorded already" in said and "2 of 2: tfidf, seed 0: done in" in said


def test_an_interrupted_cell_says_at_which_step(at_home, monkeypatch):
    spec, events = _two(at_home)[0], ftlib.Events(None)
    task = ftlib.open_task(spec, events)
    events.say("stage", name="adapt")
    events.say("step", step=3, of=40, loss=1.0)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "drawn_examples", stop)
    monkeypatch.setattr(events, "say", lambda *_, **__: None)
    with pytest.raises(Interrupted, match=r"^Interrupted in step 3 of 40 of training: nothing .* kept"):
        ftlib.adapt(spec, task, None, events)
