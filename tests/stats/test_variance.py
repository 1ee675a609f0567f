"""The two-way table of seeds and examples against numbers by hand and against scipy."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from ftlib.core.errors import FtlibError
from ftlib.stats.variance import as_scores, by_cluster, paired, variance_components


def test_one_seed_is_the_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=50), rng.normal(size=50)
    found, reference = variance_components(a - b), scipy_stats.ttest_rel(a, b)
    interval = reference.confidence_interval(0.95)
    assert found.p_value() == pytest.approx(reference.pvalue, rel=1e-10)
    assert found.mean - found.half_width(0.05) == pytest.approx(interval.low)
    assert found.mean + found.half_width(0.05) == pytest.approx(interval.high)


def test_two_by_two_table_by_hand():
    # Rows average 1 and 3, columns 2 and 2, all 2; what is left over is (1, -1; -1, 1).
    found = variance_components([[2.0, 0.0], [2.0, 4.0]])
    # MS_S = 2 * (1 + 1) / 1 = 4, MS_E = 0, MS_R = 4: seeds add (4 - 4)/4 = 0 and the least is the plain 4/4.
    assert (found.mean, found.examples_se, found.seeds_se, found.least_se) == (2.0, 0.0, 0.0, 1.0)
    assert (found.var_seeds, found.var_examples, found.var_rest) == (0.0, 0.0, 4.0)
    assert found.half_width(0.05) == pytest.approx(12.706, abs=1e-3)


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 10])
def test_no_interval_is_narrower_than_the_t_interval_over_seeds(n_seeds):
    rng = np.random.default_rng(1)
    for _ in range(50):
        table = rng.normal(size=(n_seeds, 30)) + rng.normal(size=(n_seeds, 1))
        over_seeds = scipy_stats.t.ppf(0.975, n_seeds - 1) * scipy_stats.sem(table.mean(axis=1))
        assert variance_components(table).half_width(0.05) >= over_seeds * (1 - 1e-12)


def test_variances_are_recovered():
    rng = np.random.default_rng(2)
    found = [
        variance_components(
            0.5 * rng.normal(size=(5, 1)) + 2.0 * rng.normal(size=(1, 200)) + 3.0 * rng.normal(size=(5, 200))
        ).__dict__
        for _ in range(400)
    ]
    for name, truth in (("var_seeds", 0.25), ("var_examples", 4.0), ("var_rest", 9.0)):
        values = [f[name] for f in found]
        # var_seeds is cut off at 0, which lifts its mean a little.
        assert np.mean(values) == pytest.approx(truth, rel=0.15 if name == "var_seeds" else 0.02), name


@pytest.mark.parametrize("n_seeds", [1, 2, 3, 10])
def test_p_value_agrees_with_the_interval(n_seeds):
    rng = np.random.default_rng(3)
    for _ in range(20):
        found = variance_components(0.3 + 0.2 * rng.normal(size=(n_seeds, 1)) + rng.normal(size=(n_seeds, 40)))
        p = found.p_value()
        assert found.half_width(min(p * 1.001, 1.0)) <= abs(found.mean) <= found.half_width(p * 0.999)
        assert found.tail(0.0, 1) + found.tail(0.0, -1) == pytest.approx(1.0)


def test_far_and_near_p_values_stay_probabilities():
    flat = variance_components(np.ones((3, 5)))
    assert flat.p_value() == 0.0 and flat.p_value(1.0) == 1.0
    assert variance_components([[1.0, 1.0 + 1e-9]] * 3).p_value() < 1e-6
    assert 0 <= variance_components([[1e6, 1e6 + 1, 1e6 - 1]]).p_value() < 1e-10


def test_clusters_of_equal_size_are_their_means():
    rng = np.random.default_rng(4)
    table, clusters = rng.normal(size=(3, 60)), np.repeat(np.arange(20), 3)
    assert by_cluster(table, clusters) == pytest.approx(table.reshape(3, 20, 3).mean(axis=2))
    copies = variance_components(np.repeat(table, 4, axis=1), np.repeat(np.arange(60), 4))
    assert copies.half_width() == pytest.approx(variance_components(table).half_width()), (
        "four copies of an example are one example"
    )
    assert copies.n_examples == 60


def test_clusters_may_be_names_in_any_order_and_keep_the_mean():
    table = np.random.default_rng(5).normal(size=(2, 6))
    names = ["b", "a", "b", "c", "a", "c"]
    order = np.argsort(names, kind="stable")
    assert variance_components(table, names).mean == pytest.approx(table.mean())
    assert variance_components(table, names).half_width() == pytest.approx(
        variance_components(table[:, order], np.array(names)[order]).half_width()
    )


def test_one_row_stands_for_every_seed():
    a, b = paired(np.ones((3, 4)), np.zeros(4))
    assert a.shape == b.shape == (3, 4)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: as_scores(np.zeros((2, 2, 2))), r"\(2, 2, 2\)"),
        (lambda: as_scores([[1.0]]), "1 examples"),
        (lambda: as_scores(np.zeros((0, 5))), "0 seeds"),
        (lambda: as_scores([[1.0, 0.0], [1.0, np.nan]]), "1 values that are NaN.*seed 1, example 1"),
        (lambda: as_scores(["x", "y"]), "not a table of numbers|not a table"),
        (lambda: as_scores([[1, 2], [3]]), "not a table of numbers|not a table"),
        (lambda: paired([1, 0], [1, 0, 1]), "2 examples.*3"),
        (lambda: paired(np.zeros((2, 4)), np.zeros((3, 4))), "2 seeds.*3"),
        (lambda: by_cluster(np.zeros((1, 3)), [1, 2]), "clusters"),
        (lambda: by_cluster(np.zeros((1, 3)), [1, 1, 1]), "1 cluster"),
    ],
)
def test_errors_say_what_was_found(call, said):
    with pytest.raises(FtlibError, match=said):
        call()
