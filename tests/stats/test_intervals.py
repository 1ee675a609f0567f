"""Intervals of single values: inside their range, around their value, fast, and right often enough."""

import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from statsmodels.stats.proportion import proportion_confint

from ftlib.core.errors import FtlibError
from ftlib.stats.intervals import interval, metric_interval, ratio_interval
from ftlib.stats.linearize import RANGES
from ftlib.stats.paired import t_interval


def test_one_run_of_zeros_and_ones_is_wilson():
    values = np.repeat([1, 0], [33, 7])
    assert interval(values)[1:] == pytest.approx(proportion_confint(33, 40, method="wilson"))


def test_one_run_of_numbers_is_students_t():
    values = np.random.default_rng(0).normal(size=30)
    assert interval(values) == pytest.approx(t_interval(values))


def test_runs_that_are_copies_know_no_more_than_one():
    values = np.random.default_rng(0).random(300) < 0.8
    one, three = interval(values), interval(np.tile(values, (3, 1)))
    assert three.value == one.value
    assert three.high - three.low == pytest.approx(one.high - one.low, rel=0.02)


def test_seeds_that_differ_widen_the_interval():
    rng = np.random.default_rng(0)
    steady, shaky = rng.random((3, 400)) < 0.8, rng.random((3, 400)) < np.array([[0.7], [0.8], [0.9]])
    assert np.ptp(interval(shaky)[1:]) > 2.5 * np.ptp(interval(steady)[1:])


def test_clusters_widen_the_interval_and_copies_change_nothing():
    rng = np.random.default_rng(0)
    sources = np.tile(rng.random(80) < 0.7, (2, 1))
    copies, clusters = np.repeat(sources, 5, axis=1), np.repeat(np.arange(80), 5)
    assert interval(copies, clusters=clusters) == pytest.approx(interval(sources), rel=1e-9)
    assert np.ptp(interval(copies, clusters=clusters)[1:]) > 1.5 * np.ptp(interval(copies)[1:])


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 25).flatmap(
        lambda n: st.tuples(
            arrays.arrays(np.int64, n, elements=st.integers(0, 3)),
            arrays.arrays(np.int64, st.tuples(st.integers(1, 4), st.just(n)), elements=st.integers(0, 3)),
        )
    )
)
# One label is found always and two never: nothing spreads, but for rounding.
@example((np.array([2] + [0] * 18), np.array([[1] + [0] * 18])))
def test_every_interval_holds_its_value_and_stays_in_range(data):
    labels, guesses = data
    for metric, (least, greatest) in RANGES.items():
        value, low, high = metric_interval(labels, guesses, metric)
        if np.isnan(value):
            assert metric == "f1_binary" and np.isnan(low) and np.isnan(high)
        else:
            assert least <= low <= value <= high <= greatest and low < high, metric


def test_a_value_at_the_edge_is_not_certain():
    labels = np.array([0] * 50 + [1] * 5)
    for metric in RANGES:
        assert metric_interval(labels, labels, metric).low < 1.0, metric
    # All 5 right, and never given wrongly: as sure as 5 of 5, not as 55 of 55.
    assert metric_interval(labels, labels, "f1_binary").low == pytest.approx(
        proportion_confint(5, 5, method="wilson")[0]
    )
    assert metric_interval(labels, 0 * labels, "f1_binary")[:2] == (0.0, 0.0)


def test_class_that_occurs_nowhere_is_undefined_not_zero():
    assert all(np.isnan(x) for x in metric_interval([0, 0, 1], [0, 1, 1], "f1_binary", positive=2))


def test_ratio_interval_by_hand_and_never_below_zero():
    # Ratio 3/4, values 11/12 and 7/12: standard error 1/6, t = 12.706.
    assert ratio_interval([1.0, 2.0], [1.0, 3.0]) == pytest.approx((0.75, 0.0, 0.75 + 12.7062 / 6), abs=1e-4)


@pytest.mark.parametrize("metric", RANGES)
def test_two_thousand_examples_and_eight_classes_take_milliseconds(metric):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, 2_000)
    guesses = np.where(rng.random((5, 2_000)) < 0.8, labels, rng.integers(0, 8, (5, 2_000)))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        metric_interval(labels, guesses, metric)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.030


@pytest.mark.parametrize("n_seeds", [1, 3])
@pytest.mark.parametrize("metric", RANGES)
def test_intervals_cover(metric, n_seeds):
    """Nominal 95 %; the whole grid is in benchmarks/calibration.py."""
    rng, n, hits, n_worlds = np.random.default_rng(0), 150, 0, 400

    def draw(n, n_seeds):
        labels = rng.choice(3, size=n, p=[0.5, 0.3, 0.2])
        hard = rng.random(n) < 0.3
        right = ~hard | (rng.random((n_seeds, n)) < 0.4)
        return labels, np.where(right, labels, (labels + rng.integers(1, 3, n)) % 3)

    truth = metric_interval(*draw(400_000, 1), metric).value
    for _ in range(n_worlds):
        found = metric_interval(*draw(n, n_seeds), metric)
        hits += found.low <= truth <= found.high
    assert 0.92 <= hits / n_worlds <= 0.985


def test_errors_say_what_was_found():
    with pytest.raises(FtlibError, match="alpha: found 0.7"):
        interval([0, 1], alpha=0.7)
    with pytest.raises(FtlibError, match="NaN"):
        interval([0.0, np.nan])
    with pytest.raises(FtlibError, match="unknown 'bleu'"):
        metric_interval([0, 1], [0, 1], "bleu")
