"""Every metric against scikit-learn and by hand; undefined is NaN with a reason."""

import math
import subprocess

import numpy as np
import pandas as pd
import pytest
from conftest import INTERPRETER
from sklearn import metrics as sk

from ftlib.core.errors import FtlibError
from ftlib.metrics import classification
from ftlib.metrics.as_evaluate import INPUTS, as_evaluate, from_evaluate
from ftlib.metrics.registry import METRICS, measure, metric_row


@pytest.fixture(params=[2, 3, 8])
def drawn(request):
    """Labels and predictions of 200 examples, right more often than not."""
    rng = np.random.default_rng(request.param)
    labels = rng.integers(0, request.param, 200)
    return labels, np.where(rng.random(200) < 0.6, labels, rng.integers(0, request.param, 200))


def test_every_metric_of_labels_equals_scikit_learn(drawn):
    labels, predictions = drawn
    assert classification.accuracy(labels, predictions) == pytest.approx(sk.accuracy_score(labels, predictions))
    assert classification.f1_macro(labels, predictions) == pytest.approx(
        sk.f1_score(labels, predictions, average="macro")
    )
    assert classification.mcc(labels, predictions) == pytest.approx(sk.matthews_corrcoef(labels, predictions))
    each = sk.f1_score(labels, predictions, average=None)
    assert [classification.f1_of(labels, predictions, k) for k in range(len(each))] == pytest.approx(list(each))


def test_brier_equals_scikit_learn_for_two_labels():
    rng = np.random.default_rng(0)
    labels, positive = rng.integers(0, 2, 50), rng.random(50)
    both = np.stack([1 - positive, positive], axis=1)
    # scikit-learn's score for two labels is about the positive one alone: half of the sum over both.
    assert classification.brier(labels, both) == pytest.approx(2 * sk.brier_score_loss(labels, positive))


def test_f1_of_the_case_that_lighteval_gets_wrong():
    labels, predictions = [0] * 6 + [1] * 4, [0] * 5 + [1] + [0] * 3 + [1]
    found = [classification.f1_of(labels, predictions, k) for k in (0, 1)]
    assert found == pytest.approx([10 / 14, 2 / 6])


def table_of(labels, predictions, names, probabilities=None):
    if probabilities is None:
        probabilities = np.eye(len(names))[predictions]
    named = np.asarray(names, dtype=object)
    columns = {f"score_{name}": probabilities[:, k] for k, name in enumerate(names)}
    frame = pd.DataFrame({"label": named[labels], "prediction": named[predictions], "cluster": None, **columns})
    return frame


def test_measure_fills_value_interval_and_n_for_every_label(drawn):
    labels, predictions = drawn
    names = [f"label {k}" for k in range(labels.max() + 1)]
    found = measure(table_of(labels, predictions, names), names)
    assert set(names) == set(found["f1"])
    assert ("f1_binary" in found) == (len(names) == 2)
    for leaf in [*found.pop("f1").values(), *found.values()]:
        assert leaf["low"] <= leaf["value"] <= leaf["high"]
        assert leaf["n"] == 200


def test_a_cluster_of_examples_counts_as_one_draw():
    rng = np.random.default_rng(1)
    labels = np.repeat(rng.integers(0, 2, 40), 10)
    predictions = np.repeat(rng.integers(0, 2, 40), 10)
    table = table_of(labels, predictions, ["a", "b"])
    alone = measure(table, ["a", "b"])["accuracy"]
    together = measure(table.assign(cluster=np.repeat(np.arange(40), 10).astype(str)), ["a", "b"])["accuracy"]
    assert together["value"] == alone["value"]
    assert together["high"] - together["low"] > 2 * (alone["high"] - alone["low"])


def test_undefined_is_null_with_a_reason_and_never_zero():
    labels = np.array([0, 1, 0, 1])
    found = measure(table_of(labels, np.zeros(4, int), ["a", "b", "c"]), ["a", "b", "c"])
    assert found["mcc"]["value"] is None
    assert "only one label is ever predicted" in found["mcc"]["reason"]
    assert found["f1"]["c"]["value"] is None
    assert "'c'" in found["f1"]["c"]["reason"]
    assert found["f1"]["b"]["value"] == 0.0


def test_nothing_to_measure_is_nan():
    empty = np.array([], dtype=int)
    assert math.isnan(classification.accuracy(empty, empty))
    assert math.isnan(classification.f1_macro(empty, empty))


@pytest.mark.parametrize(("labels", "predictions"), [([0, 1], [0]), ([0.5, 1.0], [0, 1]), (["a"], ["a"])])
def test_what_is_not_two_lists_of_codes_is_refused(labels, predictions):
    with pytest.raises(FtlibError, match="labels"):
        classification.accuracy(labels, predictions)


def test_every_row_says_direction_unit_range_and_source():
    for metric in METRICS.values():
        low, high = metric.range
        assert high is None or low < high
        assert metric.unit and metric.source and metric.summary
    assert metric_row("f1.some label").higher_is_better


def test_metrics_serve_as_evaluate_metrics():
    import evaluate

    both = evaluate.combine([as_evaluate("accuracy"), as_evaluate("f1_macro"), as_evaluate("mcc")])
    both.add_batch(references=[0, 0, 1, 2], predictions=[0, 1, 1, 2])
    found = both.compute()
    assert found["accuracy"] == 0.75
    assert found["f1_macro"] == pytest.approx(sk.f1_score([0, 0, 1, 2], [0, 1, 1, 2], average="macro"))


@pytest.mark.parametrize("wrong", [[0.9, 1.0], [None, 1], ["a", "b"]])
def test_evaluate_metrics_check_what_evaluate_would_cast(wrong):
    with pytest.raises(FtlibError, match="integer"):
        as_evaluate("accuracy").compute(references=[1, 1], predictions=wrong)


R = [[0.9, 0.2], [0.7, 0.8]]
PROBABILITIES = [[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]]
GIVEN = {
    "predictions": ([0, 0, 1, 1], [0, 1, 1, 1]),
    "probabilities": ([0, 0, 1, 1], PROBABILITIES),
    "likelihoods": ([10.0, 20.0], [5, 8]),
    "accuracies": ([0.5, 0.7, 0.6],),
    "matrix": (R,),
    "ranks": ([1, 4, 16],),
    "matches": ([4, 3, 0],),
    "versions": (PROBABILITIES, PROBABILITIES[::-1]),
    "frames": ([[0.5, 0.25], [1.0, 0.5]],),
    "pairs": ([-10.2, -9.5], [-11.0, -9.0]),
    "texts": (["die Katze sieht den Hund", "ein Satz"], ["die Katze sieht einen Hund", "ein Satz"]),
    "used": ([1.0, 0.0, 1.0],),
}
BESIDE = {"ranks": {"candidates": 16}, "matches": {"length": 4}, "frames": {"term": 0}}


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_an_evaluate_module_and_comes_back_as_a_function(name):
    row = METRICS[name]
    more = {"base": [0.1, 0.3]} if name == "forward_transfer" else BESIDE.get(row.takes, {})
    direct = row.function(*map(np.asarray, GIVEN[row.takes]), **more)
    expected = float(getattr(direct, "value", direct))
    module = as_evaluate(name)
    columns = dict(zip(INPUTS[row.takes], GIVEN[row.takes], strict=True))
    assert module.compute(**columns, **more) == {name: pytest.approx(expected)}
    assert from_evaluate(module, **more)(*GIVEN[row.takes]) == pytest.approx(expected)


def test_a_module_of_ones_own_serves_as_a_metric():
    import datasets
    import evaluate

    class Mine(evaluate.Metric):
        def _info(self):
            number = datasets.Value("int64")
            features = datasets.Features({"predictions": number, "references": number})
            return evaluate.MetricInfo(description="mine", citation="none", features=features)

        def _compute(self, predictions, references, weight=1.0):
            hits = sum(p == r == 1 for p, r in zip(predictions, references, strict=True))
            return {"hits": weight * hits, "given": [sum(predictions)], "labelled": sum(references)}

    mine = Mine(keep_in_memory=True)
    assert from_evaluate(mine, "hits", weight=0.5)(np.array([1, 1, 0]), np.array([1, 0, 1])) == 0.5
    assert from_evaluate(mine, "labelled")([1, 1, 0], [1, 0, 0]) == 2, "labels come first"
    with pytest.raises(FtlibError, match="hits, given, labelled; found several"):
        from_evaluate(mine)([1], [1])
    with pytest.raises(FtlibError, match="'given', which is none of them or no number"):
        from_evaluate(mine, "given")([1], [1])
    with pytest.raises(FtlibError, match="found int"):
        from_evaluate(3)


def test_evaluate_is_imported_when_it_is_asked_for():
    code = "import sys, ftlib.metrics.as_evaluate; print('evaluate' in sys.modules)"
    assert subprocess.run([INTERPRETER, "-c", code], capture_output=True, text=True).stdout == "False\n"
