"""The numbers behind a verdict: interval, p-values and their agreement."""

import numpy as np
import pytest
from statsmodels.stats.weightstats import ttost_paired

from ftlib.stats.linearize import label_values
from ftlib.stats.paired import difference, label_swap_test, mcnemar


def test_one_imagined_example_each_by_hand():
    # 4 wins and 1 loss of 20, and one imagined of each: 22 examples, mean 3/22, sum of squares 7.
    a, b = np.repeat([1, 0, 1], [4, 1, 15]), np.repeat([0, 1, 1], [4, 1, 15])
    found = difference(a, b)
    mean = 3 / 22
    se = ((7 - 22 * mean**2) / 21 / 22) ** 0.5
    assert found.value == pytest.approx(3 / 20) and found.spread.mean == pytest.approx(mean)
    assert found.low == pytest.approx(mean - 2.079614 * se) and found.high == pytest.approx(mean + 2.079614 * se)
    assert found.p_value == pytest.approx(max(mcnemar(a, b)[1], found.spread.p_value()))


def test_imagined_examples_are_no_larger_than_those_found():
    # Three seeds of which one wins: the mean over seeds is 1/3 wherever they differ.
    a, b = np.zeros((3, 10)), np.zeros((3, 10))
    a[0, :4] = 1
    assert difference(a, b).spread.n_examples == 12
    assert difference(a, b).spread.mean == pytest.approx(4 / 3 / 12)
    alike = np.zeros((3, 10))
    assert difference(alike, alike).spread.var_examples == pytest.approx(2 / 11), "nothing found: as large as can be"


def test_equivalence_is_two_one_sided_tests_and_their_interval():
    a, b = np.random.default_rng(0).normal(size=(2, 60))
    for margin in (0.1, 0.5, 1.0):
        found = difference(a, b, margin=margin)
        assert found.p_same == pytest.approx(ttost_paired(a, b, -margin, margin)[0], rel=1e-8)
        assert (found.p_same < 0.05) == (-margin < found.low_same and found.high_same < margin)


def test_bounds_claim_nothing_impossible():
    a, b = np.ones((2, 12)), np.zeros((2, 12))
    b[0, 0] = 1
    found = difference(a, b)
    assert found.low >= -1 and found.high <= 1
    labels = np.array([0, 1] * 6)
    tables = (label_values(labels, p, "mcc") for p in (labels, 1 - labels))
    assert difference(*tables, bounds=(-1, 1)).high <= 2


def test_a_test_that_is_less_sure_widens_the_interval_to_zero():
    a = np.random.default_rng(1).normal(1.0, 1.0, 30)
    alone, checked = difference(a, 0 * a), difference(a, 0 * a, p_exact=0.2)
    assert alone.low > 0 and alone.p_value < 0.01
    assert checked.low == 0.0 and checked.p_value == 0.2 and checked.high == alone.high


def test_swapping_labels_of_clusters_moves_them_together():
    rng = np.random.default_rng(2)
    labels = np.repeat(rng.integers(0, 2, 12), 10)
    a, b = (np.where(np.repeat(rng.random(12) < p, 10), labels, 1 - labels) for p in (0.9, 0.5))
    single = label_swap_test(labels, a, b, "f1_macro", np.random.default_rng(0))
    sources = label_swap_test(labels, a, b, "f1_macro", np.random.default_rng(0), clusters=np.repeat(range(12), 10))
    assert single < 0.01 < sources
