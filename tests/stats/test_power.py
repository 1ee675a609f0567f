"""Power against textbook formulas and against simulation of the very comparison it predicts."""

import numpy as np
import pytest

from ftlib.core.errors import FtlibError
from ftlib.stats.power import (
    DifferenceVariance,
    examples_needed,
    minimum_detectable_difference,
    planning_sentence,
    power_of,
    seeds_needed,
)
from ftlib.stats.variance import variance_components


def test_many_examples_one_seed_is_the_textbook_formula():
    for n, discordance in ((2_000, 0.2), (872, 0.1), (20_000, 0.05)):
        textbook = (1.959964 + 0.841621) * (discordance / n) ** 0.5
        assert minimum_detectable_difference(n, 1, discordance=discordance) == pytest.approx(textbook, rel=0.01)
        assert power_of(textbook, n, 1, DifferenceVariance.planned(discordance)).different == pytest.approx(
            0.8, abs=0.01
        )


def test_endless_examples_leave_the_t_test_over_seeds():
    from statsmodels.stats.power import TTestPower

    for n_seeds in (3, 5, 10):
        chance = DifferenceVariance(examples=1e-9, seeds=1.0)
        found = power_of(1.5, 10_000, n_seeds, chance).different
        assert found == pytest.approx(TTestPower().power(1.5, n_seeds, 0.05), abs=0.02)


@pytest.mark.parametrize(("n_seeds", "seed_sd"), [(1, 0.0), (3, 0.0), (3, 0.02), (5, 0.02)])
def test_predicted_power_is_the_simulated_one(n_seeds, seed_sd):
    rng, n, chance = np.random.default_rng(0), 200, DifferenceVariance.planned(0.2, seed_sd, 0.5)
    difference = minimum_detectable_difference(n, n_seeds, discordance=0.2, seed_sd=seed_sd, repeated=0.5, power=0.6)
    margin, found, same = 2 * difference, 0, 0
    for _ in range(800):
        table = (
            seed_sd * rng.normal(size=(n_seeds, 1))
            + chance.examples**0.5 * rng.normal(size=(1, n))
            + chance.rest**0.5 * rng.normal(size=(n_seeds, n))
        )
        seen, no_difference = variance_components(difference + table), variance_components(table)
        found += seen.mean - seen.half_width(0.05) > 0
        same += abs(no_difference.mean) + no_difference.half_width(0.1) < margin
    assert found / 800 == pytest.approx(0.6, abs=0.05)
    predicted = power_of(0.0, n, n_seeds, chance, margin=margin)
    assert same / 800 == pytest.approx(predicted.same, abs=0.05)


def test_more_of_anything_detects_less_and_noise_detects_more():
    def detectable(n=500, s=3, **changes):
        return minimum_detectable_difference(n, s, **{"discordance": 0.1, "seed_sd": 0.01, **changes})

    assert detectable(2_000) < detectable() < detectable(100)
    assert detectable(s=10) < detectable(s=5) < detectable() < detectable(s=2)
    assert detectable(discordance=0.05) < detectable() < detectable(seed_sd=0.03)
    assert detectable(power=0.5) < detectable() < detectable(alpha=0.01)
    assert detectable(s=10, repeated=0.3) < detectable(s=10, repeated=0.9)
    assert detectable(s=3, seed_sd=0, repeated=0.3) > detectable(s=3, seed_sd=0, repeated=0.9), (
        "three seeds cannot tell noise of the runs from a spread of the seeds"
    )


def test_needed_numbers_are_the_least_that_suffice():
    chance = DifferenceVariance.planned(0.2, 0.005, 0.5)
    n = examples_needed(0.03, 3, chance)
    assert power_of(0.03, n, 3, chance).settled >= 0.8 > power_of(0.03, n - 1, 3, chance).settled
    s = seeds_needed(0.03, 1_000, chance)
    assert power_of(0.03, 1_000, s, chance).settled >= 0.8 > power_of(0.03, 1_000, s - 1, chance).settled


def test_a_difference_within_the_margin_is_settled_as_the_same():
    chance = DifferenceVariance.planned(0.1)
    n = examples_needed(0.0, 1, chance, margin=0.01)
    # Two one-sided tests at 5 %, each with 90 % power: ((1.645 + 1.282) / 0.01)^2 * 0.1.
    assert n == pytest.approx(((1.6449 + 1.2816) / 0.01) ** 2 * 0.1, rel=0.01)
    assert examples_needed(0.0, 1, chance) is None, "without a margin no number of examples shows that 0 is 0"
    # The margin itself is a difference that matters: (1.960 + 0.842)^2 * 0.1 / 0.01^2.
    assert examples_needed(0.01, 1, chance, margin=0.01) == pytest.approx(7_850, rel=0.01)


def test_seeds_or_examples_alone_may_not_suffice():
    assert seeds_needed(0.01, 100, DifferenceVariance.planned(0.2)) is None
    assert examples_needed(0.01, 3, DifferenceVariance(0.1, 0.03**2)) is None


def test_sentence_and_errors():
    said = planning_sentence(2_000, 3, discordance=0.1, seed_sd=0.005)
    assert said.startswith("with 2 000 examples and 3 seeds, differences under ") and "0.5 points" in said
    assert "speaks for that training run only" in planning_sentence(100, 1, discordance=0.1)
    assert "of any size" in planning_sentence(5, 2, discordance=1.0, seed_sd=1.0)
    assert "significant" not in said
    for bad in (
        {"n_examples": 1},
        {"n_seeds": 0},
        {"discordance": 0.0},
        {"discordance": 1.1},
        {"seed_sd": -1.0},
        {"power": 1.0},
        {"alpha": 0.5},
        {"repeated": 2.0},
    ):
        fields = {"n_examples": 100, "n_seeds": 3, "discordance": 0.1, **bad}
        with pytest.raises(FtlibError, match="allowed"):
            minimum_detectable_difference(fields.pop("n_examples"), fields.pop("n_seeds"), **fields)
