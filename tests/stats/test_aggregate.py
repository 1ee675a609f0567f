"""Aggregates over tasks, tries and goals: by hand, by brute force, against scipy."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from ftlib.core.errors import FtlibError
from ftlib.stats.aggregate import (
    expected_best,
    interquartile_mean,
    interquartile_mean_interval,
    pareto_membership,
    probability_of_improvement,
)


def test_interquartile_mean_is_scipys_trimmed_mean():
    for shape in ((3, 4), (5, 7), (1, 2), (10, 26)):
        scores = np.random.default_rng(0).normal(size=shape)
        assert interquartile_mean(scores) == pytest.approx(scipy_stats.trim_mean(scores.ravel(), 0.25))


def test_interquartile_interval_covers_new_runs_of_the_same_tasks():
    rng, covered = np.random.default_rng(0), 0
    tasks = np.linspace(0, 1, 8)
    truth = interquartile_mean(tasks + 0.1 * rng.normal(size=(4_000, 8)))
    for _ in range(200):
        found = interquartile_mean_interval(tasks + 0.1 * rng.normal(size=(10, 8)), rng, n_replicates=300)
        covered += found.low <= truth <= found.high
    assert covered / 200 > 0.88


def test_probability_of_improvement_is_mann_whitney_over_the_pairs():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.5, 1, (6, 3)), rng.normal(size=(4, 3))
    u = [scipy_stats.mannwhitneyu(a[:, t], b[:, t]).statistic / 24 for t in range(3)]
    found = probability_of_improvement(a, b, np.random.default_rng(0))
    assert found.value == pytest.approx(np.mean(u))
    assert 0 <= found.low < found.value < found.high <= 1
    with pytest.raises(FtlibError, match="tasks"):
        probability_of_improvement(a, b[:, :2], rng)


def test_expected_best_is_the_mean_over_all_subsets():
    scores = np.random.default_rng(2).normal(size=7)
    for k in range(1, 8):
        subsets = [max(s) for s in combinations(scores, k)]
        assert expected_best(scores)[k - 1] == pytest.approx(np.mean(subsets))
        losses = [min(s) for s in combinations(scores, k)]
        assert expected_best(scores, higher_is_better=False)[k - 1] == pytest.approx(np.mean(losses))


def test_expected_best_of_many_tries_neither_overflows_nor_falls():
    curve = expected_best(np.random.default_rng(3).random(2_000))
    assert (np.diff(curve) >= -1e-12).all() and curve[-1] <= 1
    with pytest.raises(FtlibError, match="n_tries"):
        expected_best([])


def test_front_of_quality_and_cost():
    rng = np.random.default_rng(4)
    good, poor = rng.random((3, 400)) < 0.9, rng.random((3, 400)) < 0.6
    found = pareto_membership(
        {"good": good, "poor": poor, "poor but dear": poor, "one row": poor[0]},
        {"good": 10, "poor": 1, "poor but dear": 20, "one row": 0.5},
        np.random.default_rng(0),
        n_replicates=500,
    )
    assert found["good"] == found["one row"] == 1.0 and found["poor but dear"] == 0.0
    assert 0 < found["poor"] < 1, "as good as a cheaper one: the data do not say"
    losses = pareto_membership(
        {"low": np.zeros(9), "high": np.ones(9)}, {"low": 1, "high": 1}, rng, n_replicates=9, higher_is_better=False
    )
    assert losses == {"low": 1.0, "high": 0.0}
    with pytest.raises(FtlibError, match="same methods"):
        pareto_membership({"a": [1, 2]}, {"b": 1}, rng)
