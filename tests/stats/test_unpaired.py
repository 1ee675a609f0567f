"""Two lists of runs that share nothing: Welch's test, equivalence, and the words."""

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.weightstats import ttost_ind

import ftlib
from ftlib.core.errors import FtlibError
from ftlib.stats.unpaired import compare_unpaired
from ftlib.stats.verdict import Comparison

ASIDE = "runs that share neither draws nor seeds"


def lists(seed, n_a=10, n_b=10, shift=0.0, sd_a=0.02, sd_b=0.06):
    rng = np.random.default_rng(seed)
    return 0.7 + shift + sd_a * rng.normal(size=n_a), 0.7 + sd_b * rng.normal(size=n_b)


@pytest.mark.parametrize("sizes", [(2, 2), (10, 10), (3, 25)])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_it_is_welchs_t_test(sizes, alpha):
    for seed in range(5):
        a, b = lists(seed, *sizes, shift=0.03)
        found = compare_unpaired(a, b, margin=0.0, alpha=alpha)
        reference = scipy_stats.ttest_ind(a, b, equal_var=False)
        assert found.p_value == pytest.approx(reference.pvalue)
        assert found[1:3] == pytest.approx(tuple(reference.confidence_interval(1 - alpha)))
        assert found.difference == pytest.approx(a.mean() - b.mean())
        assert (found.p_value <= alpha) == (not found.low <= 0 <= found.high)


def test_same_is_two_one_sided_tests():
    for seed in range(20):
        a, b = lists(seed)
        for margin in (0.01, 0.04, 0.08):
            found = compare_unpaired(a, b, margin=margin)
            assert (found.verdict == "same") == (ttost_ind(a, b, -margin, margin, usevar="unequal")[0] <= 0.05)


def test_four_verdicts_say_that_nothing_is_paired():
    a, b = lists(1, shift=0.2)
    better, worse = (
        compare_unpaired(a, b, margin=0.01, name_a="ours", name_b="theirs"),
        compare_unpaired(b, a, margin=0),
    )
    assert (better.verdict, worse.verdict) == ("better", "worse")
    assert better.sentence.startswith("ours is better than theirs by ")
    assert better.sentence.endswith(f", not paired: 10 and 10 {ASIDE}")
    assert compare_unpaired(a, b, margin=0.01, higher_is_better=False).verdict == "worse"
    same = compare_unpaired(*lists(2, 40, 30), margin=0.05)
    assert same.verdict == "same" and f"not paired: 40 and 30 {ASIDE}" in same.sentence
    open_ = compare_unpaired(*lists(3), margin=0.01)
    assert open_.verdict == "undecided" and f"not paired: 10 and 10 {ASIDE}" in open_.sentence
    assert all(isinstance(found, Comparison) and found.more_examples is None for found in (better, worse, same, open_))
    assert better.more_seeds is None and worse.more_seeds is None and same.more_seeds is None


def test_the_runs_to_add_would_decide():
    a, b = lists(4, shift=0.05, sd_a=0.05)
    found = compare_unpaired(a, b, margin=0.0)
    assert found.verdict == "undecided" and found.more_seeds
    assert found.sentence.startswith(
        f"undecided: about {found.more_seeds} more runs of each would decide; a against b: "
    )
    rng, n, size = np.random.default_rng(5), 10 + found.more_seeds, (2_000, 10 + found.more_seeds)
    new_a, new_b = rng.normal(a.mean(), a.std(ddof=1), size), rng.normal(b.mean(), b.std(ddof=1), size)
    decided = (scipy_stats.ttest_ind(new_a, new_b, axis=1, equal_var=False).pvalue < 0.05).mean()
    assert n > 10 and 0.76 < decided < 0.86


def test_equivalence_is_forecast_too_and_some_things_no_number_decides():
    a = np.array([0.70, 0.72, 0.68, 0.71, 0.69])
    near = compare_unpaired(a, a + 0.001, margin=0.015)
    assert near.verdict == "undecided" and 1 <= near.more_seeds <= 40
    never = compare_unpaired(a, a - 0.01, margin=0.01)
    assert never.verdict == "undecided" and never.more_seeds is not None, "a difference of the margin can be shown"
    flat = compare_unpaired(a, a, margin=0.0)
    assert (flat.verdict, flat.p_value, flat.more_seeds) == ("undecided", 1.0, None)
    assert "no affordable number of runs would decide" in flat.sentence


def test_runs_without_spread():
    assert compare_unpaired([0.5, 0.5], [0.7, 0.7], margin=0.01).verdict == "worse"
    assert compare_unpaired([0.5, 0.5], [0.5, 0.5], margin=0.01).verdict == "same"
    found = compare_unpaired([0.5, 0.5], [0.5, 0.5], margin=0.0)
    assert (found.verdict, found.low, found.high, found.more_seeds) == ("undecided", 0.0, 0.0, None)
    one_sided = compare_unpaired([0.5, 0.5, 0.5], [0.4, 0.6, 0.7], margin=0.0)
    assert one_sided.p_value == pytest.approx(scipy_stats.ttest_1samp([0.4, 0.6, 0.7], 0.5).pvalue)


@pytest.mark.parametrize(
    ("a", "said"),
    [
        ([0.5], r"ours: found shape \(1,\)"),
        ([[0.5, 0.6]], r"ours: found shape \(1, 2\)"),
        ([0.5, float("nan")], "ours: found 1 values that are NaN"),
        (["x", "y"], "ours: found something that is not a list of numbers"),
    ],
)
def test_what_is_no_list_of_runs_is_refused(a, said):
    with pytest.raises(FtlibError, match=said):
        compare_unpaired(a, [0.1, 0.2], margin=0.01, name_a="ours")


def test_margin_and_alpha_are_checked_and_it_is_found_at_the_top():
    with pytest.raises(FtlibError, match="margin"):
        compare_unpaired([0, 1], [0, 1], margin=-1)
    with pytest.raises(FtlibError, match="alpha"):
        compare_unpaired([0, 1], [0, 1], margin=0, alpha=1)
    assert ftlib.compare_unpaired is compare_unpaired
