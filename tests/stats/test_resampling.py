"""Bootstrap and permutation: against formulas, against scipy, and reproducible."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from ftlib.core.errors import FtlibError
from ftlib.stats.bootstrap import bootstrap_means, resampling_counts, swap_test
from ftlib.stats.linearize import label_counts, metric_of_counts


def test_counts_draw_n_of_n_evenly():
    counts = np.concatenate(list(resampling_counts(10, 20_000, np.random.default_rng(0))))
    assert counts.shape == (20_000, 10) and (counts.sum(axis=1) == 10).all()
    # Multinomial: mean 1, variance 1 - 1/10.
    assert counts.mean(axis=0) == pytest.approx(np.ones(10), abs=0.03)
    assert counts.var(axis=0) == pytest.approx(np.full(10, 0.9), abs=0.05)


def test_blocks_do_not_change_the_number_of_replicates(monkeypatch):
    monkeypatch.setattr("ftlib.stats.bootstrap.CELLS", 100)
    assert bootstrap_means(np.ones((2, 3, 30)), np.random.default_rng(0), n_replicates=17).shape == (17, 2)


def test_spread_over_examples_is_the_standard_error():
    scores = np.random.default_rng(1).normal(size=(1, 1, 200))
    means = bootstrap_means(scores, np.random.default_rng(2), n_replicates=20_000)[:, 0]
    assert means.std() == pytest.approx(scores.std() / 200**0.5, rel=0.03)
    interval = np.quantile(means, [0.025, 0.975])
    reference = scipy_stats.bootstrap(
        (scores[0, 0],), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(4)
    )
    assert interval == pytest.approx(tuple(reference.confidence_interval), abs=0.01)


def test_seeds_are_a_second_source_of_chance_and_can_be_kept_fixed():
    scores = np.repeat([[[0.0], [1.0], [2.0]]], 50, axis=2)
    means = bootstrap_means(scores, np.random.default_rng(0), n_replicates=20_000)
    # Three seeds drawn from 0, 1, 2: variance (2/3) / 3, which is (S - 1)/S of the unbiased one.
    assert means.var() == pytest.approx(2 / 9, rel=0.03)
    fixed = bootstrap_means(scores, np.random.default_rng(0), n_replicates=10, resample_seeds=False)
    assert fixed == pytest.approx(np.ones((10, 1)))


def test_methods_see_the_same_examples_and_seeds():
    scores = np.random.default_rng(1).normal(size=(1, 3, 40))
    means = bootstrap_means(np.concatenate([scores, scores + 1]), np.random.default_rng(0), n_replicates=200)
    assert means[:, 1] - means[:, 0] == pytest.approx(np.ones(200))


def test_clusters_are_drawn_whole():
    rng = np.random.default_rng(1)
    sources = rng.normal(size=30)
    copies = np.repeat(sources, 5)[None, None]
    means = bootstrap_means(copies, np.random.default_rng(0), n_replicates=20_000, clusters=np.repeat(np.arange(30), 5))
    assert means.std() == pytest.approx(sources.std() / 30**0.5, rel=0.03)


def test_same_rng_same_interval_other_rng_other_interval():
    scores = np.random.default_rng(1).normal(size=(3, 40))
    first, again, other = (
        bootstrap_means(scores[None], np.random.default_rng(s), n_replicates=500).tolist() for s in (0, 0, 1)
    )
    assert first == again != other


def test_swapping_answers_of_accuracy_is_mcnemars_test():
    rng = np.random.default_rng(0)
    right_a, right_b = rng.random((2, 80)) < 0.7
    p = swap_test(
        right_a[:, None], right_b[:, None], lambda sums: sums[..., 0], np.random.default_rng(1), n_permutations=40_000
    )
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    assert p == pytest.approx(scipy_stats.binomtest(only_a, only_a + only_b).pvalue, abs=0.01)


def test_swapping_answers_of_macro_f1_is_scipys_permutation_test():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 60)
    a, b = (np.where(rng.random(60) < p, labels, rng.integers(0, 3, 60)) for p in (0.75, 0.55))

    def f1(counts):
        return metric_of_counts(counts, "f1_macro")

    p = swap_test(
        label_counts(labels, a, 3), label_counts(labels, b, 3), f1, np.random.default_rng(0), n_permutations=20_000
    )

    def difference(x, y):
        return float(f1(label_counts(labels, x, 3).sum(axis=0)) - f1(label_counts(labels, y, 3).sum(axis=0)))

    reference = scipy_stats.permutation_test(
        (a, b), difference, permutation_type="samples", n_resamples=3_000, rng=np.random.default_rng(1)
    )
    assert p == pytest.approx(reference.pvalue, abs=0.03)


def test_swap_test_is_honest_when_nothing_differs():
    rng = np.random.default_rng(5)
    p_values = []
    for _ in range(300):
        right = (rng.random((2, 60)) < 0.7).astype(float)
        p_values.append(swap_test(right[0][:, None], right[1][:, None], lambda s: s[..., 0], rng, n_permutations=400))
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05 + 3 * (0.05 * 0.95 / 300) ** 0.5


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: bootstrap_means(np.ones((3, 4)), np.random.default_rng(0)), "n_methods"),
        (lambda: bootstrap_means(np.ones((1, 1, 4)), np.random.default_rng(0), clusters=[1, 2]), "clusters"),
        (lambda: swap_test(np.ones((3, 1)), np.ones((4, 1)), lambda s: s, np.random.default_rng(0)), "n_counts"),
    ],
)
def test_errors_say_what_was_found(call, said):
    with pytest.raises(FtlibError, match=said):
        call()
