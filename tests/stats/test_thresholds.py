"""What probabilities are worth: intervals hold what they say, and nobody is paid for looking."""

import numpy as np
import pytest

from ftlib.stats.thresholds import COVERAGES, accuracy_at, cheapest_thresholds, coverage_curve, drawn_again


def test_accuracy_of_all_is_accuracy_and_weights_are_repetitions():
    rng = np.random.default_rng(0)
    hits, sure = rng.integers(0, 2, 50), rng.random(50)
    weights = rng.integers(0, 3, 50)
    again = accuracy_at(np.repeat(hits, weights), np.repeat(sure, weights), [1.0], np.ones((1, weights.sum())))
    assert accuracy_at(hits, sure, [1.0], weights[None]) == pytest.approx(again)
    assert accuracy_at(hits, sure, [1.0], np.ones((1, 50)))[0, 0] == pytest.approx(hits.mean())


def test_sources_are_drawn_whole():
    examples, _ = drawn_again(6, 1, np.random.default_rng(0), 50, clusters=["a", "a", "b", "b", "c", "c"])
    assert (examples[:, ::2] == examples[:, 1::2]).all() and (examples.sum(axis=1) == 6).all()


def test_intervals_of_coverage_hold_the_truth_nineteen_times_of_twenty():
    held, rng = 0, np.random.default_rng(1)
    for _ in range(200):
        sure = rng.random((1, 300))
        hits = rng.random((1, 300)) < 0.5 + 0.5 * sure
        level = coverage_curve(hits, sure, rng)[COVERAGES.index(0.5)]
        held += level.low <= 0.5 + 0.5 * 0.75 <= level.high
    assert held >= 180


def test_a_method_that_knows_nothing_costs_what_the_better_of_all_or_none_costs():
    rng = np.random.default_rng(2)
    truth = rng.random(600) < 0.3
    (one,) = cheapest_thresholds(truth, [rng.random(600)], 1, 10, rng)
    assert one.cost.value >= 0.99 * (1 - truth.mean()), "a threshold that fits noise is not paid for"
    assert one.misses < 0.02


def test_the_dearer_a_miss_the_lower_the_threshold():
    rng = np.random.default_rng(3)
    p = rng.random(2000)
    truth = rng.random(2000) < p
    cuts = [cheapest_thresholds(truth, [p], 1, miss, rng)[0].threshold for miss in (0.2, 1, 10)]
    assert cuts == sorted(cuts, reverse=True)
    assert cuts == pytest.approx([1 / 1.2, 0.5, 1 / 11], abs=0.12), (
        "1 / (1 + ratio), as it is for calibrated probabilities"
    )
