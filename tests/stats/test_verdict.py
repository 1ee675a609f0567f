"""Comparisons: the contract of DESIGN, the words, and how often the verdicts are wrong."""

import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats as scipy_stats
from sklearn.metrics import f1_score, matthews_corrcoef

from ftlib.core.errors import FtlibError
from ftlib.stats.multiple import compare_all, ranking
from ftlib.stats.paired import mcnemar
from ftlib.stats.verdict import Comparison, compare


def rng(seed=0):
    return np.random.default_rng(seed)


def compare_metric(labels, a, b, metric, **how):
    """Two methods by a metric of labels, as a family of one pair."""
    return compare_all({"a": a, "b": b}, labels=labels, metric=metric, **how)[0].comparison


def runs(n_seeds, n_examples, ease, seed=1, seed_sd=0.0):
    """Right or wrong: the difficulty of an example is the same for every method and seed."""
    chance, difficulty = rng(seed), rng(99).normal(size=n_examples)
    wobble = seed_sd * chance.normal(size=(n_seeds, 1))
    return (ease + difficulty + wobble + chance.normal(size=(n_seeds, n_examples)) > 0).astype(float)


def test_fields_are_designs_and_of_plain_types():
    found = compare(runs(3, 500, 1.0), runs(3, 500, 0.9, 2), margin=0.01, rng=rng())
    assert Comparison._fields == (
        "difference",
        "low",
        "high",
        "p_value",
        "verdict",
        "sentence",
        "more_examples",
        "more_seeds",
    )
    assert all(type(x) is float for x in found[:4])
    assert all(x is None or type(x) is int for x in found[6:])


def test_one_seed_of_numbers_is_the_paired_t_test():
    a, b = rng(0).normal(0.2, 1, 100), rng(1).normal(size=100)
    found, reference = compare(a, b, margin=0.01, rng=rng()), scipy_stats.ttest_rel(a, b)
    assert found.p_value == pytest.approx(reference.pvalue)
    assert found[1:3] == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert found.difference == pytest.approx(a.mean() - b.mean())


def test_one_seed_of_zeros_and_ones_is_never_more_sure_than_mcnemar_and_agrees_with_its_interval():
    for seed in range(200):
        chance = rng(seed)
        a, b = chance.random((2, 80)) < chance.uniform(0.5, 0.9, (2, 1))
        found = compare(a, b, margin=0.0, rng=rng())
        assert found.p_value >= mcnemar(a, b)[1] - 1e-12
        assert (found.p_value <= 0.05) == (found.low > 0 or found.high < 0)


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_interval_p_value_and_verdict_agree_with_several_seeds(n_seeds):
    for seed in range(60):
        a, b = runs(n_seeds, 120, 1.0, seed, 0.1), runs(n_seeds, 120, 0.6, seed + 1_000, 0.1)
        found = compare(a, b, margin=0.0, rng=rng())
        assert found.low <= found.difference <= found.high
        assert (found.p_value <= 0.05) == (found.low > 0 or found.high < 0)
        expected = "better" if found.low > 0 else "worse" if found.high < 0 else "undecided"
        assert found.verdict == expected


def test_swapping_the_two_swaps_the_verdict():
    a, b = runs(5, 800, 1.5), runs(5, 800, 0.8, 2)
    one, other = compare(a, b, margin=0.01, rng=rng()), compare(b, a, margin=0.01, rng=rng())
    assert (one.verdict, other.verdict) == ("better", "worse")
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))
    assert one.p_value == pytest.approx(other.p_value)


def test_identical_scores_are_the_same():
    a = runs(3, 300, 1.0)
    for x in (a, a[0], rng(0).normal(size=(3, 50)), np.ones(10)):
        for margin in (0.0, 0.01, 0.5):
            found = compare(x, x, margin=margin, rng=rng())
            assert (found.difference, found.p_value, found.verdict) == (0.0, 1.0, "same")
            assert found.low <= 0 <= found.high and found.more_examples is found.more_seeds is None


def test_identical_scores_on_few_examples_say_what_could_hide():
    sentence = compare(np.ones(30), np.ones(30), margin=0.01, rng=rng()).sentence
    assert "equal scores on every one of the 30 examples" in sentence and "could still hide" in sentence
    assert "could still hide" not in compare(np.ones(3_000), np.ones(3_000), margin=0.01, rng=rng()).sentence


def test_within_the_margin_is_the_same_even_where_it_is_surely_not_zero():
    a = rng(0).normal(size=2_000)
    found = compare(a + 0.1 + 0.01 * rng(1).normal(size=2_000), a, margin=1.0, unit="nats", rng=rng())
    assert found.low > 0 and found.verdict == "same"
    assert "are equivalent within 1 nats" in found.sentence and "real, but smaller than what matters" in found.sentence


def test_better_by_what_may_be_less_than_matters_says_so():
    found = compare(np.repeat([1.0, 0.0, 1.0], [60, 30, 910]), np.repeat([0.0, 1.0, 1.0], [60, 30, 910]),
                    margin=0.02, rng=rng())  # fmt: skip
    assert found.verdict == "better" and "may be less than the 2 points that matter" in found.sentence


def test_sentences():
    a, b = runs(5, 900, 1.5), runs(5, 900, 0.8, 2)
    said = compare(a, b, margin=0.01, rng=rng(), name_a="LoRA", name_b="full").sentence
    assert re.fullmatch(r"LoRA is better than full by \d+\.\d points \(\d+\.\d to \d+\.\d\)", said), said
    said = compare(b, a, margin=0.01, rng=rng(), name_a="full", name_b="LoRA").sentence
    assert re.fullmatch(r"full is worse than LoRA by \d+\.\d points \(\d+\.\d to \d+\.\d\)", said), said
    said = compare(a, runs(5, 900, 1.5, 7), margin=0.1, rng=rng()).sentence
    assert said.startswith("a and b are equivalent within 10 points: they differ by "), said
    said = compare(a, runs(5, 900, 1.5, 7), margin=0.01, rng=rng()).sentence
    assert said.startswith("undecided: about ") and "more examples" in said and "more seeds" in said, said
    assert said.endswith(")"), said
    said = compare(a[0], b[0], margin=0.01, rng=rng()).sentence
    assert said.endswith("for this one training run: other seeds may differ")
    assert "training run" not in compare(a[0], b[0], margin=0.01, rng=rng(), seeded=False).sentence
    for numbers in ((a, b), (a[0], b[0]), (a, runs(5, 900, 1.5, 7))):
        assert "significan" not in compare(*numbers, margin=0.01, rng=rng()).sentence


def test_more_examples_and_seeds_would_decide():
    found = compare(runs(3, 400, 1.0, 1), runs(3, 400, 0.9, 2), margin=0.0, rng=rng())
    assert found.verdict == "undecided" and found.more_examples > 0
    decided = 0
    for seed in range(40):
        n = 400 + found.more_examples
        chance = rng(seed)
        difficulty = chance.normal(size=n)
        a, b = (
            ease + difficulty + chance.normal(size=(3, n)) > 0 for ease in (1.0, 1.0 - 0.1 * found.difference / 0.024)
        )
        decided += compare(a, b, margin=0.0, rng=rng()).verdict in ("better", "worse")
    assert decided / 40 > 0.6, "forecast at 80 % power"


def test_one_seed_never_forecasts_seeds():
    found = compare(runs(1, 400, 1.0), runs(1, 400, 0.95, 2), margin=0.01, rng=rng())
    assert found.verdict == "undecided" and found.more_seeds is None and found.more_examples > 0


def test_a_method_that_draws_nothing_stands_for_every_seed():
    trained, fixed = runs(3, 500, 1.0, seed_sd=0.1), runs(1, 500, 0.3, 2)
    assert compare(trained, fixed, margin=0.01, rng=rng()) == compare(
        trained, np.tile(fixed, (3, 1)), margin=0.01, rng=rng()
    )


def test_losses_turn_the_verdict_not_the_difference():
    low, high = rng(0).normal(1.0, 0.1, (3, 200)), rng(1).normal(2.0, 0.1, (3, 200))
    found = compare(low, high, margin=0.01, rng=rng(), higher_is_better=False, unit="nats")
    assert found.difference < 0 and found.verdict == "better"
    assert re.fullmatch(r"a is better than b by 0\.998 nats \(0\.\d+ to 1\.\d+\)", found.sentence), found.sentence
    assert compare(high, low, margin=0.01, rng=rng(), higher_is_better=False).verdict == "worse"


def test_clusters_make_a_comparison_less_sure_and_count_examples_in_the_forecast():
    a, b = runs(1, 100, 1.0), runs(1, 100, 0.9, 2)
    copies, clusters = [np.repeat(x, 6, axis=1) for x in (a, b)], np.repeat(np.arange(100), 6)
    plain, clustered = (compare(*copies, margin=0.0, rng=rng(), clusters=c) for c in (None, clusters))
    assert clustered.high - clustered.low > 2 * (plain.high - plain.low)
    assert clustered.difference == pytest.approx(plain.difference)
    assert clustered.verdict == "undecided" and clustered.more_examples > (plain.more_examples or 0)


@pytest.mark.parametrize("metric", ["accuracy", "f1_macro", "f1_binary", "mcc"])
def test_metric_differences_are_scikit_learns(metric):
    labels = rng(0).integers(0, 3, 200)
    a, b = (np.where(rng(s).random((2, 200)) < p, labels, rng(s + 9).integers(0, 3, (2, 200)))
            for s, p in ((1, 0.7), (2, 0.5)))  # fmt: skip
    score = {
        "accuracy": lambda y, p: (y == p).mean(),
        "f1_macro": lambda y, p: f1_score(y, p, average="macro"),
        "f1_binary": lambda y, p: f1_score(y, p, labels=[1], average="macro"),
        "mcc": matthews_corrcoef,
    }[metric]
    found = compare_metric(labels, a, b, metric, margin=0.01, rng=rng())
    expected = np.mean([score(labels, x) - score(labels, y) for x, y in zip(a, b, strict=True)])
    assert found.difference == pytest.approx(expected)
    one = compare_metric(labels, a[0], b[0], metric, margin=0.01, rng=rng())
    assert one == compare_metric(labels, a[0], b[0], metric, margin=0.01, rng=rng()), "same rng, same answer"
    assert (one.p_value <= 0.05) == (one.low > 0 or one.high < 0)


def test_accuracy_is_one_thing_by_whichever_door():
    labels = rng(0).integers(0, 2, 300)
    a, b = (np.where(rng(s).random((3, 300)) < 0.8, labels, 1 - labels) for s in (1, 2))
    assert compare_metric(labels, a, b, "accuracy", margin=0.01, rng=rng()) == compare(
        a == labels, b == labels, margin=0.01, rng=rng()
    )


def test_family_is_corrected_and_says_so():
    chance = rng(3)
    scores = {f"m{i}": chance.random((1, 200)) < 0.6 for i in range(9)} | {"m9": chance.random((1, 200)) < 0.72}
    found = compare_all(scores, margin=0.0, rng=rng())
    alone = [p for p in found if p.comparison.p_value <= 0.05]
    kept = [p for p in found if p.comparison.verdict in ("better", "worse")]
    assert len(found) == 45 and len(kept) < len(alone)
    assert all(p.p_holm >= p.comparison.p_value for p in found)
    assert {(p.a, p.b) for p in kept} == {(p.a, p.b) for p in found if p.p_holm <= 0.05}
    demoted = [p for p in alone if p not in kept]
    assert all("among 45 comparisons not" in p.comparison.sentence for p in demoted)
    for pair in found:
        lone = compare(scores[pair.a], scores[pair.b], margin=0.0, rng=rng(), name_a=pair.a, name_b=pair.b)
        assert pair.comparison[:4] == lone[:4], "the interval stays at 95 %"


def test_only_the_plans_pairs_are_compared():
    scores = {name: runs(3, 100, ease, i) for i, (name, ease) in enumerate({"x": 1.0, "y": 0.5, "z": 0.0}.items())}
    found = compare_all(scores, margin=0.01, rng=rng(), pairs=[("z", "x")])
    assert [(p.a, p.b) for p in found] == [("z", "x")] and found[0].p_holm == found[0].comparison.p_value
    assert compare_all(scores, margin=0.01, rng=rng(), pairs=[]) == []
    with pytest.raises(FtlibError, match="pairs: found w; allowed: x, y, z"):
        compare_all(scores, margin=0.01, rng=rng(), pairs=[("x", "w")])


def test_families_of_metrics_and_single_rows():
    labels = rng(0).integers(0, 2, 150)
    guesses = {name: np.where(rng(s).random((n, 150)) < 0.7, labels, 1 - labels)
               for s, (name, n) in enumerate({"full": 3, "lora": 3, "majority": 1, "tfidf": 1}.items())}  # fmt: skip
    found = compare_all(guesses, margin=0.01, rng=rng(), labels=labels, metric="f1_macro")
    assert len(found) == 6
    assert not any("training run" in p.comparison.sentence for p in found), "single rows beside several draw nothing"
    single = {name: rows[:1] for name, rows in guesses.items()}
    found = compare_all(
        single, margin=0.01, rng=rng(), labels=labels, metric="mcc", draws_nothing=("majority", "tfidf")
    )
    assert ["training run" in p.comparison.sentence for p in found] == [True] * 5 + [False]
    guesses["lora"] = guesses["lora"][:1]
    found = compare_all(guesses, margin=0.01, rng=rng(), labels=labels, metric="mcc", draws_nothing=("majority",))
    lone = [(p.a, p.b) for p in found if "training run" in p.comparison.sentence]
    assert lone == [("lora", "majority"), ("lora", "tfidf"), ("majority", "tfidf")], "one seed of a method that draws"


def test_ranking_shows_ties_as_ties():
    scores = {"a": runs(5, 800, 2.0), "b": runs(5, 800, 2.0, 2), "c": runs(5, 800, 0.5, 3), "d": runs(1, 800, -1.0, 4)}
    values = {name: float(x.mean()) for name, x in scores.items()}
    places = ranking(values, compare_all(scores, margin=0.01, rng=rng()))
    assert {p.name: p.rank for p in places} == {"a": 1, "b": 1, "c": 3, "d": 4}
    assert {p.name: p.tied_with for p in places} == {"a": ("b",), "b": ("a",), "c": (), "d": ()}
    backwards = ranking(values, compare_all(scores, margin=0.01, rng=rng(), higher_is_better=False),
                        higher_is_better=False)  # fmt: skip
    assert [p.name for p in backwards][0] == "d"
    with pytest.raises(FtlibError, match="no value for c"):
        ranking({"a": 1.0, "b": 1.0}, compare_all(scores, margin=0.01, rng=rng(), pairs=[("a", "c")]))


@settings(deadline=None, max_examples=80)
@given(
    arrays.arrays(np.float64, st.tuples(st.integers(1, 4), st.just(7)), elements=st.floats(-1e6, 1e6)),
    arrays.arrays(np.float64, 7, elements=st.sampled_from([0.0, 1.0, -3.5, 1e-9])),
    st.sampled_from([0.0, 1e-3, 0.5]),
)
def test_any_scores_get_a_verdict_that_adds_up(a, b, margin):
    found = compare(a, b, margin=margin, rng=rng(), unit="nats")
    assert found.low <= found.difference <= found.high and 0 <= found.p_value <= 1
    if found.verdict == "better":
        assert found.low >= 0
    assert found.verdict != "undecided" or found.sentence.startswith("undecided: ")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: compare([1, 0], [1, 0, 1], margin=0.1, rng=rng(), name_a="LoRA"), "LoRA has 2 examples"),
        (lambda: compare([1, np.nan], [1, 0], margin=0.1, rng=rng()), "NaN"),
        (lambda: compare([1, 0], [1, 0], margin=-0.1, rng=rng()), "margin: found -0.1"),
        (lambda: compare([1, 0], [1, 0], margin=float("nan"), rng=rng()), "margin: found nan"),
        (lambda: compare([1, 0], [1, 0], margin="0.02", rng=rng()), "margin: found '0.02'; allowed: a number"),
        (lambda: compare([1, 0], [1, 0], margin=0.1, alpha=None, rng=rng()), "alpha: found None; allowed: a number"),
        (lambda: compare([1, 0], [1, 0], margin=0.1, alpha=1.0, rng=rng()), "alpha: found 1.0"),
        (lambda: compare(np.zeros((2, 3)), np.zeros((3, 3)), margin=0.1, rng=rng()), "2 seeds"),
        (lambda: compare_metric([0, 0], [0, 0], [0, 0], "f1_binary", margin=0.1, rng=rng()), "undefined"),
        (lambda: compare_all({"a": [0, 1], "b": [0, 1]}, margin=0.1, rng=rng(), metric="mcc"), "labels"),
    ],
)
def test_errors_say_what_was_found(call, said):
    with pytest.raises(FtlibError, match=said):
        call()


def test_comparing_is_quick():
    scores = {f"m{i}": runs(5, 2_000, 1.0 + 0.02 * i, i, 0.05) for i in range(10)}
    start = time.perf_counter()
    compare_all(scores, margin=0.01, rng=rng())
    assert time.perf_counter() - start < 3.0


# Calibration in small; the whole grid is in benchmarks/calibration.py and docs/calibration.md.


@pytest.mark.parametrize(("n_seeds", "seed_sd"), [(1, 0.0), (3, 0.0), (3, 0.1), (5, 0.1)])
def test_intervals_cover_and_false_claims_are_rare(n_seeds, seed_sd):
    chance, n, n_worlds, truth = rng(0), 150, 250, 0.0
    covered = wrong = same = 0
    for _ in range(n_worlds):
        difficulty = chance.normal(size=n)
        a, b = (
            0.8 + difficulty + seed_sd * chance.normal(size=(n_seeds, 1)) + chance.normal(size=(n_seeds, n)) > 0
            for _ in range(2)
        )
        found = compare(a, b, margin=0.2, rng=chance)
        covered += found.low <= truth <= found.high
        wrong += found.verdict in ("better", "worse")
        # A true difference of exactly the margin: b's scores lowered by it.
        same += compare(a - 0.0, b - 0.2, margin=0.2, rng=chance).verdict == "same"
    assert covered / n_worlds >= 0.91
    assert wrong / n_worlds <= 0.05 + 0.03 and same / n_worlds <= 0.05 + 0.04


def test_ten_equal_methods_are_rarely_told_apart():
    chance, wrong = rng(1), 0
    for _ in range(40):
        difficulty = chance.normal(size=120)
        scores = {f"m{i}": 0.8 + difficulty + chance.normal(size=(5, 120)) > 0 for i in range(10)}
        wrong += any(p.comparison.verdict in ("better", "worse") for p in compare_all(scores, margin=0.2, rng=chance))
    assert wrong <= 5, "2 of 40 expected at most; more than 5 has a chance of 1 %"
