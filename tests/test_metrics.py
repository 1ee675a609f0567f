"""Every metric against scikit-learn and by hand; undefined is NaN with a reason."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from ftlib.core.errors import FtlibError
from ftlib.metrics import classification
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

    from ftlib.metrics.as_evaluate import metric

    both = evaluate.combine([metric("accuracy"), metric("f1_macro"), metric("mcc")])
    both.add_batch(references=[0, 0, 1, 2], predictions=[0, 1, 1, 2])
    found = both.compute()
    assert found["accuracy"] == 0.75
    assert found["f1_macro"] == pytest.approx(sk.f1_score([0, 0, 1, 2], [0, 1, 1, 2], average="macro"))


@pytest.mark.parametrize("wrong", [[0.9, 1.0], [None, 1], ["a", "b"]])
def test_evaluate_metrics_check_what_evaluate_would_cast(wrong):
    from ftlib.metrics.as_evaluate import metric

    with pytest.raises(FtlibError, match="integer"):
        metric("accuracy").compute(references=[1, 1], predictions=wrong)
