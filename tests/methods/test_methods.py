"""Every method yields a probability per label; what trains learns, and the same seed gives the same result."""

import numpy as np
import peft
import pytest
import torch
import toy
from thorough import mostly

import ftlib
from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core.errors import Diverged, FtlibError
from ftlib.data.evaluations import EVALUATIONS
from ftlib.data.kinds import KINDS
from ftlib.evaluation.evaluate import evaluate
from ftlib.metrics.registry import METRICS
from ftlib.models import loading
from ftlib.records import COLUMNS

FIELDS = {"task": "file:opinions", "model": "tiny", "label_words": toy.LABEL_WORDS, "dtype": "float32"}


ON_AN_ENCODER = [
    # What goes by groups needs a task that has some: test_methods_fairness.py.
    name
    for name, method in METHODS.items()
    if "encoder" in method.serves.get("classification", ()) and not method.groups
]

QUICK = [name for name in ON_AN_ENCODER if not METHODS[name].peft or name in ("lora", "prefix_tuning")]
"""Adapters are stored and read, each of them, in test_adapters.py."""


def spec_of(method, **fields):
    row, told = METHODS[method], {}
    if row.trains:
        told |= {"epochs": 3.0, "batch_size": 8, "learning_rate": 0.003}
    if row.merges:
        told["joint_tasks"] = ["file:topics"]
    if "layers" in row.arguments:
        # The tiny model has two.
        told["method_args"] = {"layers": 1}
    if "num_virtual_tokens" in row.arguments:
        # They take places among the 128 that the tiny model sees.
        told["max_length"] = 64
    return Experiment(method=method, **FIELDS, **told | fields)


@pytest.mark.parametrize("method", mostly(QUICK, ON_AN_ENCODER))
def test_a_run_yields_a_record_with_every_part_of_the_contract(at_home, tmp_path, method):
    spec = spec_of(method)
    record = ftlib.run(spec, tmp_path / spec.run_id)
    assert record.status == "ok"
    assert record.metrics["after"]["test"]["accuracy"]["n"] == toy.SIZES["test"]
    assert bool(record.metrics["before"]) == METHODS[method].model
    table = ftlib.read_predictions(tmp_path / spec.run_id)
    scores = table.filter(regex="^score_").to_numpy()
    assert np.abs(np.nansum(scores, axis=1) - 1).max() < 1e-6
    assert set(table["stage"]) == ({"before", "after"} if METHODS[method].model else {"after"})
    assert record.cost["train_seconds"] >= 0
    assert record.cost["peak_memory_bytes"] > 1e6
    if METHODS[method].trains:
        assert record.cost["achieved_flops_per_second"] > 0


@pytest.mark.parametrize("method", ["full", "lora", "probe"])
def test_the_same_seed_gives_the_same_result_and_another_seed_another(at_home, method):
    first, again = (ftlib.run(spec_of(method, train_limit=40)) for _ in range(2))
    assert first.metrics == again.metrics
    other = ftlib.run(spec_of(method, train_limit=40, seed=1))
    assert other.metrics["after"] != first.metrics["after"]


def test_lora_moves_few_parameters_and_full_moves_all(at_home):
    lora, full = ftlib.run(spec_of("lora")).cost, ftlib.run(spec_of("full")).cost
    assert full["trainable_parameters"] == full["total_parameters"]
    assert lora["trainable_parameters"] < 0.35 * full["trainable_parameters"]
    assert lora["checkpoint_bytes"] == 4 * lora["trainable_parameters"]


def test_training_learns_what_it_is_shown(at_home):
    task = ftlib.load_task("file:opinions")
    spec = spec_of("full", epochs=20.0)
    model = ftlib.open_model(spec)
    adapted = ftlib.adapt(spec, task, model)
    train = task.splits["train"]
    chosen = adapted.predictor.probabilities(train["text"].tolist()).argmax(axis=1)
    assert (np.asarray(task.labels)[chosen] == train["label"]).mean() > 0.9


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_the_first_step_of_a_short_training_moves_the_weights(at_home, monkeypatch, steps):
    rates, step = [], torch.optim.AdamW.step

    def stepped(self, *given):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *given)

    monkeypatch.setattr(torch.optim.AdamW, "step", stepped)
    spec = spec_of("full", epochs=1.0, batch_size=8, train_limit=8 * steps)
    ftlib.adapt(spec, ftlib.open_task(spec), ftlib.open_model(spec))
    assert len(rates) == steps and rates[0] == spec.resolved()["learning_rate"] and min(rates) > 0


def test_zero_shot_without_words_is_undefined_before_and_says_why(at_home):
    toy.write_task(at_home / "numbered", {"bad": "0", "good": "1"})
    fields = {**FIELDS, "task": "file:numbered", "label_words": {}}
    record = ftlib.run(Experiment(method="probe", **fields))
    before = record.metrics["before"]["test"]["accuracy"]
    assert before["value"] is None
    assert "label_words" in before["reason"]
    with pytest.raises(FtlibError, match="label_words"):
        ftlib.run(Experiment(method="zero_shot", **fields))


def test_a_tuning_budget_tries_that_many_settings_and_keeps_the_best_on_validation(at_home):
    record = ftlib.run(spec_of("full", tuning={"learning_rate": 3}))
    tried = record.provenance["tuned"]["tried"]
    assert len(tried) == 3
    best = max(tried, key=lambda one: one["validation_accuracy"])
    assert record.provenance["tuned"]["learning_rate"] == best["learning_rate"]


def test_a_setting_that_diverges_is_tried_and_not_taken(at_home, monkeypatch):
    from ftlib.training import trainer

    fit = trainer.fit

    def diverges_above(module, model, spec, *more):
        if spec.learning_rate > 0.003:
            raise Diverged("the training loss became nan")
        return fit(module, model, spec, *more)

    monkeypatch.setattr(trainer, "fit", diverges_above)
    tuned = ftlib.run(spec_of("full", tuning={"learning_rate": 3})).provenance["tuned"]
    assert tuned["learning_rate"] <= 0.003
    assert [one["validation_accuracy"] is None for one in tuned["tried"]] == [False, False, True]
    with pytest.raises(Diverged, match="all 2 learning rates"):
        ftlib.run(spec_of("full", learning_rate=0.1, tuning={"learning_rate": 2}))


def test_a_probe_general_of_an_encoder_is_null_with_a_reason(at_home):
    record = ftlib.run(spec_of("probe", evaluations=["general"]))
    for stage in ("before", "after"):
        assert record.metrics[stage]["general"]["bits_per_byte"]["value"] is None
        assert "encoder" in record.metrics[stage]["general"]["bits_per_byte"]["reason"]


def test_a_smaller_draw_is_part_of_a_larger_one_and_classes_keep_their_share(at_home):
    task = ftlib.load_task("file:opinions")
    few, more = (task.draw(shots=k, train_limit=0, seed=5) for k in (4, 8))
    assert set(few["id"]) < set(more["id"])
    assert few["label"].value_counts().to_dict() == {"bad": 4, "good": 4}
    small, large = (task.draw(shots=0, train_limit=n, seed=5) for n in (20, 40))
    assert set(small["id"]) < set(large["id"])
    shares = task.splits["train"]["label"].value_counts(normalize=True)
    assert abs(large["label"].value_counts(normalize=True) - shares).max() < 0.05
    with pytest.raises(FtlibError, match="fewer"):
        task.draw(shots=1000, train_limit=0, seed=0)
    with pytest.raises(FtlibError, match="train_limit"):
        task.draw(shots=0, train_limit=1000, seed=0)


def test_the_frozen_features_are_computed_once(at_home, monkeypatch):
    spec = spec_of("probe")
    first = ftlib.run(spec)

    def again(*arguments):
        raise AssertionError("computed again")

    monkeypatch.setattr(loading, "encoded", again)
    # What using it costs is measured anew, without the cache.
    monkeypatch.setattr("ftlib.execution.run.cost_of_use", lambda *_: {})
    second = ftlib.run(spec)
    assert second.metrics == first.metrics
    # The cost is what the work takes, not what the cache left to do.
    assert second.cost["train_seconds"] > 0.2 * first.cost["train_seconds"]


# The tables name what is there.


def test_every_row_names_what_is_there():
    for kind in KINDS.values():
        assert kind.primary in kind.metrics and not METRICS[kind.primary].not_primary
        assert all(not METHODS[name].model and kind.name in METHODS[name].serves for name in kind.baselines)
        assert all(callable(kind.function(what)) for what in ("evaluate", "predictor", "read"))
    for row in EVALUATIONS.values():
        assert callable(row.function()) and set(row.metrics) <= set(METRICS) and row.field in Experiment.model_fields
    for method in METHODS.values():
        assert (
            callable(method.prepare()) and method.trains == bool(method.moves) and method.counterpart in {"", *METHODS}
        )
        if method.peft:
            given = {*method.peft_arguments, *method.arguments} - {"combination", "density", "weight"}
            assert given <= set(getattr(peft, method.peft).__dataclass_fields__), method.name


@pytest.mark.parametrize(("task", "method"), [("file:opinions", "tfidf"), ("file:notes.txt", "ngram")])
def test_a_kind_says_the_columns_of_its_predictions(task, method, at_home):
    spec = Experiment(task=task, method=method)
    read = ftlib.load_task(task)
    found = evaluate("after", spec, read, None, METHODS[method].prepare()(None, spec, read, read.splits["train"]))
    filled = {name for name in COLUMNS if found.predictions[name].notna().all()} - {"stage", "part", "id", "cluster"}
    # A model without a tokenizer, as these are, has no number of tokens.
    assert filled == set(KINDS[read.kind].columns) - {"n_tokens"}
