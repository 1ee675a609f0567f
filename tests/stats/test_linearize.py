"""Metrics as means of linear values: the value is scikit-learn's, the slope is the true one."""

import warnings

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from ftlib.core.errors import FtlibError
from ftlib.stats.linearize import RANGES, label_counts, label_values, metric_of_counts, ratio_values, sum_values

SKLEARN = {
    "accuracy": accuracy_score,
    "f1_macro": lambda y, p: f1_score(y, p, average="macro"),
    "f1_binary": lambda y, p: f1_score(y, p, labels=[1], average="macro"),
    "mcc": matthews_corrcoef,
}


def _data(n=60, n_classes=4, n_seeds=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    guesses = np.where(rng.random((n_seeds, n)) < 0.6, labels, rng.integers(0, n_classes, (n_seeds, n)))
    return labels, guesses


@pytest.mark.parametrize("metric", RANGES)
@pytest.mark.parametrize("n_classes", [2, 4, 7])
def test_rows_average_to_scikit_learns_value(metric, n_classes):
    labels, guesses = _data(n_classes=n_classes)
    for row, guess in zip(label_values(labels, guesses, metric), guesses, strict=True):
        assert row.mean() == pytest.approx(SKLEARN[metric](labels, guess), abs=1e-12)
    counts = label_counts(labels, guesses[0], n_classes).sum(axis=0)
    assert metric_of_counts(counts, metric) == pytest.approx(SKLEARN[metric](labels, guesses[0]), abs=1e-12)


@pytest.mark.parametrize("metric", RANGES)
def test_values_are_the_change_without_an_example(metric):
    labels, guesses = _data(n_seeds=1)
    n, values = len(labels), label_values(labels, guesses, metric)[0]
    whole = SKLEARN[metric](labels, guesses[0])
    without = [SKLEARN[metric](np.delete(labels, i), np.delete(guesses[0], i)) for i in range(n)]
    influence = (n - 1) * (whole - np.array(without))
    assert values == pytest.approx(whole + influence - influence.mean())


def test_classes_that_one_example_alone_uses_do_not_break_anything():
    labels, guess = np.array([0] * 9 + [1, 2]), np.array([0] * 9 + [1, 3])
    for metric in RANGES:
        assert np.isfinite(label_values(labels, guess, metric)).all(), metric


def test_every_metric_of_sums_has_the_same_values_by_the_general_form():
    labels, guesses = _data(n_seeds=2, n=40)
    counts = [label_counts(labels, guess, 4) for guess in guesses]
    for metric in ("accuracy", "f1_macro", "mcc"):
        general = sum_values(counts, lambda sums, metric=metric: metric_of_counts(sums, metric))
        assert general == pytest.approx(label_values(labels, guesses, metric), abs=1e-9), metric


def test_macro_f1_averages_over_classes_that_occur_as_scikit_learn_does():
    labels, guess = [0, 0, 3, 3], [0, 3, 3, 5]
    assert label_values(labels, guess, "f1_macro").mean() == pytest.approx(f1_score(labels, guess, average="macro"))


def test_degenerate_metrics():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert label_values([0, 1, 1], [1, 1, 1], "mcc").tolist() == [[0.0, 0.0, 0.0]], "0 as in scikit-learn"
        assert np.isnan(label_values([0, 0], [0, 0], "f1_binary")).all(), "no label 1 anywhere: undefined, not 0"
        assert np.isnan(metric_of_counts(label_counts([0, 0], [0, 0], 2).sum(axis=0), "f1_binary"))
        assert label_values([1, 1], [1, 1], "f1_macro").mean() == 1.0
        assert label_values([0, 0, 2], [0, 0, 0], "f1_binary", positive=2).mean() == 0.0


def test_ratio_is_the_ratio_of_sums():
    rng = np.random.default_rng(1)
    top, bottom = rng.random((2, 30)), rng.random(30)
    values = ratio_values(top, bottom)
    assert values.mean(axis=1) == pytest.approx(top.sum(axis=1) / bottom.sum())
    pairs = np.stack([top, np.broadcast_to(bottom, top.shape)], axis=-1)
    assert values == pytest.approx(sum_values(pairs, lambda sums: sums[..., 0] / sums[..., 1]))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: label_values([0, 1], [0, 1], "f1_makro"), "did you mean 'f1_macro'"),
        (lambda: label_values([0, 1], [0, 1, 1], "mcc"), r"\(2,\).*\(1, 3\)"),
        (lambda: label_values([0, -1], [0, 1], "mcc"), "-1"),
        (lambda: label_values(["a", "b"], [0, 1], "mcc"), "labels"),
        (lambda: label_values([0, 1], [0.0, 0.5], "mcc"), "predictions"),
        (lambda: ratio_values([1, 2], [0, 0]), "denominators"),
        (lambda: ratio_values([1, 2], [0, 3]), "one example that holds them all"),
        (lambda: sum_values(np.ones((2, 3)), lambda s: s), "n_counts"),
        (lambda: ratio_values(np.ones((2, 3)), np.ones((3, 3))), "denominators"),
    ],
)
def test_errors_say_what_was_found(call, said):
    with pytest.raises(FtlibError, match=said):
        call()
