"""Metrics of sequences of tasks: a matrix that a person can check, identities, and what is undefined."""

import numpy as np
import pandas as pd
import pytest

from ftlib.core.errors import FtlibError
from ftlib.metrics import continual
from ftlib.metrics.continual import (
    average_accuracy,
    backward_transfer,
    base,
    forgetting_first,
    forgetting_max,
    forward_transfer,
    matrix,
    summary,
)
from ftlib.metrics.registry import METRICS

R = np.array([[0.8, 0.5, 0.3], [0.9, 0.8, 0.4], [0.5, 0.7, 0.9]])
BASE = np.array([0.5, 0.3, 0.3])


def test_a_matrix_by_hand():
    assert average_accuracy(R) == pytest.approx((0.5 + 0.7 + 0.9) / 3)
    assert backward_transfer(R) == pytest.approx(((0.5 - 0.8) + (0.7 - 0.8)) / 2)
    assert forward_transfer(R, BASE) == pytest.approx(((0.5 - 0.3) + (0.4 - 0.3)) / 2)
    assert forgetting_first(R) == pytest.approx(((0.8 - 0.5) + (0.8 - 0.7)) / 2)
    assert forgetting_max(R) == pytest.approx(((0.9 - 0.5) + (0.8 - 0.7)) / 2)


def test_leading_axes_are_runs_and_every_definition_is_its_loop():
    rng = np.random.default_rng(0)
    many, bases = rng.random((4, 5, 6, 6)), rng.random((4, 5, 6))
    for at in np.ndindex(4, 5):
        one, b, last = many[at], bases[at], 5
        back = np.mean([one[last, j] - one[j, j] for j in range(last)])
        ahead = np.mean([one[j - 1, j] - b[j] for j in range(1, 6)])
        most = np.mean([max(one[i, j] for i in range(j, last)) - one[last, j] for j in range(last)])
        assert backward_transfer(many)[at] == pytest.approx(back)
        assert forward_transfer(many, bases)[at] == pytest.approx(ahead)
        assert forgetting_max(many)[at] == pytest.approx(most)
        assert average_accuracy(many)[at] == pytest.approx(one[last].mean())
    assert forgetting_first(many) == pytest.approx(-backward_transfer(many))
    assert (forgetting_max(many) >= forgetting_first(many) - 1e-12).all()


def test_two_tasks_have_one_kind_of_forgetting_and_a_model_that_stays_forgets_nothing():
    two = np.random.default_rng(1).random((7, 2, 2))
    assert forgetting_max(two) == pytest.approx(forgetting_first(two))
    still = np.tile([0.5, 0.6, 0.7], (3, 1))
    assert forgetting_first(still) == forgetting_max(still) == forward_transfer(still, still[0]) == 0


def test_what_is_undefined_is_nan():
    one = np.array([[0.7]])
    for function in continual.OF_R.values():
        assert np.isnan(function(one, np.array([0.5])))
    unseen = R.copy()
    unseen[0, 1] = np.nan
    assert np.isnan(forward_transfer(unseen, BASE)) and backward_transfer(unseen) == backward_transfer(R)
    assert forgetting_max(unseen) == forgetting_max(R)
    lacking = R.copy()
    lacking[1, 0] = np.nan
    assert np.isnan(forgetting_max(lacking)) and forgetting_first(lacking) == forgetting_first(R)
    with pytest.raises(FtlibError, match=r"found shape \(2, 3\); allowed"):
        backward_transfer(R[:2])
    with pytest.raises(FtlibError, match="base: found shape"):
        forward_transfer(R, BASE[:2])


def test_the_table_of_metrics_has_them():
    for name in continual.OF_R:
        assert METRICS[name].takes == "matrix" and METRICS[name].not_primary
        assert METRICS[name].higher_is_better == (not name.startswith("forgetting"))


STAGES = ("before", "after_1", "after")
SPEC = {"task": "pydocs", "sequential_tasks": ["file:data/opinions"]}


def record(scores: np.ndarray, n: int = 40, seed: int = 0) -> tuple[pd.DataFrame, dict]:
    """Predictions and metrics of a run; `scores` (3 stages, 2 tasks), NaN where there was no answer."""
    rng, rows, metrics = np.random.default_rng(seed), [], {}
    for stage, values in zip(STAGES, scores, strict=True):
        for part, value in zip(("opinions", "test"), values, strict=True):
            if np.isnan(value):
                metrics.setdefault(stage, {})[part] = {"accuracy": {"value": None}}
                continue
            right = rng.permutation(n) < value * n
            given = np.where(right, "yes", "no")
            one = pd.DataFrame({"stage": stage, "part": part, "id": [f"{part}-{i}" for i in range(n)], "label": "yes"})
            rows.append(one.assign(prediction=given, cluster=None))
            metrics.setdefault(stage, {})[part] = {"accuracy": {"value": float(right.mean())}}
    return pd.concat(rows, ignore_index=True), metrics


SCORES = np.array([[0.4, 0.3], [0.9, 0.5], [0.6, 0.8]])


def test_the_matrix_of_a_record_is_in_the_order_of_training():
    _, metrics = record(SCORES)
    assert matrix(metrics, SPEC).tolist() == [[0.9, 0.5], [0.6, 0.8]]
    assert base(metrics, SPEC).tolist() == [0.4, 0.3]
    metrics["after_2"] = metrics.pop("after_1")
    metrics["after"]["poems"] = metrics["after_2"]["poems"] = {"bits_per_byte": {"value": 1.2}}
    beside = SPEC | {"sequential_tasks": ["file:poems.csv", *SPEC["sequential_tasks"]]}
    assert matrix(metrics, beside).tolist() == [[0.9, 0.5], [0.6, 0.8]]


def test_a_record_says_its_metrics_with_paired_intervals():
    table, metrics = record(SCORES, n=400)
    found = summary(table, metrics, SPEC)
    assert found == summary(table, metrics, SPEC)
    for name, function in continual.OF_R.items():
        leaf = found[name]
        assert leaf["value"] == pytest.approx(float(function(SCORES[1:], SCORES[0])))
        assert leaf["low"] < leaf["value"] < leaf["high"] and leaf["n"] == 800
    lost = (table["label"] == table["prediction"]).groupby([table["part"], table["stage"]]).apply(np.asarray)
    step = lost["opinions", "after_1"].astype(float) - lost["opinions", "after"].astype(float)
    half = 1.96 * step.std() / 20
    assert found["forgetting_first"]["low"] == pytest.approx(step.mean() - half, abs=0.01)
    assert found["forgetting_first"]["high"] == pytest.approx(step.mean() + half, abs=0.01)


def test_examples_of_one_source_count_as_one_draw():
    table, metrics = record(SCORES, n=200)
    wide = summary(table.assign(cluster=table["id"].str.split("-").str[1].astype(int) // 20), metrics, SPEC)
    alone = summary(table.assign(cluster=table["id"]), metrics, SPEC)
    assert wide["average_accuracy"]["value"] == alone["average_accuracy"]["value"]
    assert alone == summary(table, metrics, SPEC)


def test_a_record_without_zero_shot_answers_has_no_forward_transfer_and_says_why():
    scores = SCORES.copy()
    scores[:2, 1] = np.nan
    found = summary(*record(scores), SPEC)
    assert found["forward_transfer"]["value"] is None and found["forward_transfer"]["low"] is None
    assert found["forward_transfer"]["reason"] == "no zero-shot answers to test before it was trained on"
    assert found["forgetting_first"]["value"] == pytest.approx(0.3)


def test_fewer_than_two_tasks_in_sequence_have_no_summary():
    table, metrics = record(SCORES)
    assert summary(table, metrics, {"task": "pydocs", "sequential_tasks": []}) == {}
    assert summary(table, metrics, {"task": "pydocs"}) == {}
    assert summary(None, metrics, SPEC) == {}
