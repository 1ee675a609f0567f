"""Tests and corrections against numbers by hand, scipy, statsmodels and a published table."""

import csv
from collections import defaultdict

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import ttost_paired

from ftlib.core.errors import FtlibError
from ftlib.stats.paired import difference, holm, mcnemar, mcnemar_counts, t_interval, wilson

PUBLISHED = ROOT.parent / "shared" / "data" / "setfit_results" / "scores.csv"


@given(st.integers(1, 500), st.floats(0, 1), st.floats(0.001, 0.4))
def test_wilson_is_statsmodels_wilson_and_holds_the_rate(n, share, alpha):
    k = round(share * n)
    low, high = wilson(k, n, alpha)
    assert (low, high) == pytest.approx(proportion_confint(k, n, alpha, method="wilson"), abs=1e-12)
    assert 0 <= low <= k / n <= high <= 1


def test_t_interval_by_hand():
    # Mean 2, variance 1, standard error 1 / sqrt(3), t = 4.302653 with two degrees of freedom.
    assert t_interval([1, 2, 3]) == pytest.approx((2.0, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (3, 0), (5, 5), (12, 3), (40, 25), (1, 200)])
def test_mcnemar_is_statsmodels_and_the_definition_of_mid_p(only_a, only_b):
    exact, mid = mcnemar_counts(only_a, only_b)
    reference = statsmodels_mcnemar([[7, only_a], [only_b, 9]], exact=True)
    assert exact == pytest.approx(reference.pvalue)
    from scipy.stats import binom

    observed = binom.pmf(min(only_a, only_b), only_a + only_b, 0.5)
    assert mid == pytest.approx(min(1.0, exact - observed) if only_a != only_b else 1.0)
    assert 0 < mid <= exact <= 1


def test_mcnemar_takes_scores_and_refuses_more_than_one_run():
    assert mcnemar([1, 1, 1, 0], [0, 0, 0, 0]) == (0.25, 0.125)
    for a in ([[1, 0], [1, 0]], [0.5, 1.0]):
        with pytest.raises(FtlibError, match="mcnemar"):
            mcnemar(a, [1, 0])


def test_holm_is_statsmodels_holm():
    rng = np.random.default_rng(0)
    for n in (1, 2, 3, 10, 45):
        for p_values in (rng.random(n), rng.random(n) ** 6, np.round(rng.random(n), 1)):
            assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-12)


def test_holm_of_nothing_is_nothing_and_nan_is_refused():
    assert holm([]).shape == (0,)
    with pytest.raises(FtlibError, match="nan"):
        holm([0.1, float("nan")])


def test_equivalence_is_statsmodels_two_one_sided_tests():
    rng = np.random.default_rng(0)
    for margin in (0.05, 0.3, 1.0):
        a, b = rng.normal(0.1, 1, size=80), rng.normal(size=80)
        found = difference(a, b, margin=margin)
        assert found.p_same == pytest.approx(ttost_paired(a, b, -margin, margin)[0], rel=1e-8)


def _published():
    if not PUBLISHED.exists():
        pytest.skip(
            "the published few-shot scores lie outside the repository: ../shared/data/setfit_results/scores.csv"
        )
    scores = defaultdict(dict)
    with PUBLISHED.open(newline="") as file:
        for row in csv.DictReader(file):
            key = row["run"], row["dataset"], int(row["shots_per_class"]), row["measure"]
            scores[key][int(row["split"])] = float(row["score"])
    return scores


MPNET, FULL = "paraphrase-mpnet-base-v2-epochs_20", "roberta-large"
# Paired difference and 95 % interval as printed in METRICS 5.2 (None: not printed there).
TABLE = {
    ("sst5", 8, "accuracy"): (10.1, 7.7, 12.6, 1),
    ("amazon_counterfactual_en", 8, "matthews_correlation"): (31.0, 22, 40, 0),
    ("SentEval-CR", 8, "accuracy"): (29.7, 26, 33, 0),
    ("emotion", 8, "accuracy"): (20.1, 14, 26, 0),
    ("enron_spam", 8, "accuracy"): (5.1, 0.9, 9.3, 1),
    ("ag_news", 8, "accuracy"): (1.2, -1.0, 3.4, 1),
    ("emotion", 64, "accuracy"): (11.2, -1.8, 24.3, 1),
}
AT_64 = {"sst5": 6.0, "amazon_counterfactual_en": 9.2, "SentEval-CR": 1.5, "enron_spam": 0.2, "ag_news": -0.4}


def test_published_few_shot_differences_are_reproduced():
    scores = _published()
    for (dataset, shots, measure), (expected, low, high, digits) in TABLE.items():
        a, b = (scores[run, dataset, shots, measure] for run in (MPNET, FULL))
        assert sorted(a) == sorted(b) == list(range(10))
        found = t_interval([a[split] - b[split] for split in range(10)])
        assert round(found[0], 1) == expected, dataset
        # Half of the last printed digit, and a little: the printed -1.8 is -1.851 here and in scipy.
        assert found[1:] == pytest.approx((low, high), abs=0.56 * 10.0**-digits), dataset
    for dataset, expected in AT_64.items():
        measure = "matthews_correlation" if dataset == "amazon_counterfactual_en" else "accuracy"
        a, b = (scores[run, dataset, 64, measure] for run in (MPNET, FULL))
        assert round(t_interval([a[split] - b[split] for split in range(10)])[0], 1) == expected, dataset
