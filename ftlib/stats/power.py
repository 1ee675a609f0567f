"""What a test set and a number of seeds can show at all: power, smallest detectable difference, what would decide.

The predictions ask the formula of `ftlib.stats.variance.VarianceComponents` itself what it will do: the mean squares of
the two-way table are taken over their own distributions (scaled chi-squares), and the interval they give is held
against the difference.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ftlib.core.errors import FtlibError
from ftlib.stats.variance import Array, VarianceComponents, check_alpha, half_width, standard_errors

MOST_EXAMPLES = 10_000_000
"""A comparison that needs more examples than this is called one that examples do not decide."""

MOST_SEEDS = 200
"""The same for seeds."""


@dataclass(frozen=True)
class DifferenceVariance:
    """Variances of a paired difference of two methods, per example and run, in the squared unit of the score."""

    examples: float
    """Between examples, alike for every seed."""
    seeds: float = 0.0
    """Between seeds, alike for every example: the squared spread of the difference over seeds with endless examples."""
    rest: float = 0.0
    """Of one example from seed to seed."""

    @classmethod
    def measured(cls, found: VarianceComponents) -> "DifferenceVariance":
        """The variances a comparison found; with one seed the spread between seeds is unknown and taken as 0."""
        return cls(found.var_examples, 0.0 if found.n_seeds == 1 else found.var_seeds, found.var_rest)

    @classmethod
    def planned(cls, discordance: float, seed_sd: float = 0.0, repeated: float = 0.5) -> "DifferenceVariance":
        """The variances of a plan.

        Args:
            discordance: Share of examples that exactly one of the two methods gets right, from 0 to 1.
            seed_sd: Standard deviation over seeds of the difference, with endless examples (0.01 = 1 point).
            repeated: Share of the discordance that falls on the same examples with every seed. The rest averages out
                over many seeds, but three cannot tell it from a spread of the seeds.

        Raises:
            FtlibError: A value outside its range.

        >>> DifferenceVariance.planned(0.2, seed_sd=0.1, repeated=0.75)
        DifferenceVariance(examples=0.15..., seeds=0.01..., rest=0.05)
        """
        if not 0 < discordance <= 1 or not seed_sd >= 0 or not 0 <= repeated <= 1:
            raise FtlibError(
                f"found discordance {discordance}, seed_sd {seed_sd}, repeated {repeated}; allowed: discordance "
                "above 0 and at most 1, seed_sd 0 or more, repeated 0 to 1"
            )
        return cls(discordance * repeated, seed_sd**2, discordance * (1 - repeated))


class Power(NamedTuple):
    """What a comparison will say, as probabilities."""

    different: float
    """The 1 - alpha interval lies on the difference's side of 0."""
    same: float
    """The 1 - 2 alpha interval lies within the margin."""
    settled: float
    """One of the two, and rightly: different where there is a difference, same where it is below the margin."""


def power_of(
    difference: float,
    n_examples: int,
    n_seeds: int,
    chance: DifferenceVariance,
    *,
    alpha: float = 0.05,
    margin: float = 0.0,
    comparisons: int = 1,
) -> Power:
    """Chance that a comparison will establish a difference, or equivalence.

    Args:
        margin: Smallest difference that matters; 0 leaves equivalence out.
        comparisons: Size of the family; a difference must hold at alpha / comparisons, Holm's strictest step.

    Raises:
        FtlibError: Fewer than 2 examples or 1 seed, or alpha outside (0, 0.5).

    With 100 examples, 20 of them discordant, the standard error is sqrt(0.2 / 100) = 4.47 points, and a difference of
    2.8 standard errors (12.5 points) is found with about 80 % power:

    >>> round(power_of(0.125, 100, 1, DifferenceVariance.planned(0.2)).different, 2)
    0.79
    """
    _check(n_examples, n_seeds, alpha)
    from scipy.special import ndtr

    sd = _standard_deviation(n_examples, n_seeds, chance)
    half = _half_widths(n_examples, n_seeds, chance, alpha / comparisons)
    if sd == 0:
        return Power(float(difference != 0), float(abs(difference) < margin), float(difference != 0 or margin > 0))
    different = ndtr((abs(difference) - half) / sd)
    rightly_different = different if difference else np.zeros_like(different)
    if not margin > 0:
        return Power(float(different.mean()), 0.0, float(rightly_different.mean()))
    room = margin - _half_widths(n_examples, n_seeds, chance, 2 * alpha)
    same = np.where(room > 0, ndtr((room - difference) / sd) - ndtr((-room - difference) / sd), 0.0)
    rightly_same = same if abs(difference) < margin else np.zeros_like(same)
    # Where the two leave no gap between them, every outcome is one or the other.
    both = bool(difference) and abs(difference) < margin
    settled = np.where(both & (half <= room), 1.0, rightly_different + rightly_same)
    return Power(float(different.mean()), float(same.mean()), float(settled.mean()))


def minimum_detectable_difference(
    n_examples: int,
    n_seeds: int,
    *,
    discordance: float,
    seed_sd: float = 0.0,
    repeated: float = 0.5,
    power: float = 0.8,
    alpha: float = 0.05,
    comparisons: int = 1,
) -> float:
    """Smallest true difference in accuracy that a comparison will establish with the wanted power.

    Args:
        discordance: Share of examples that exactly one of the two gets right; often 0.1 to 0.2, less for near twins.
        seed_sd: Standard deviation over seeds of the difference, as a fraction.
        repeated: Share of the discordance that falls on the same examples with every seed.

    Returns:
        The difference as a fraction (0.029 = 2.9 points); infinite where no difference up to 1 is detectable.

    Raises:
        FtlibError: A value outside its range.

    (1.96 + 0.84) * sqrt(0.2 / 2000) = 0.028:

    >>> round(minimum_detectable_difference(2000, 1, discordance=0.2), 3)
    0.028
    """
    _check(n_examples, n_seeds, alpha)
    if not 0 < power < 1:
        raise FtlibError(f"power: found {power}; allowed: between 0 and 1, usually 0.8")
    chance = DifferenceVariance.planned(discordance, seed_sd, repeated)
    from scipy.special import ndtr

    sd = _standard_deviation(n_examples, n_seeds, chance)
    half = _half_widths(n_examples, n_seeds, chance, alpha / comparisons)
    low, high = 0.0, 1.0
    if ndtr((high - half) / sd).mean() < power:
        return float("inf")
    while high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (middle, high) if ndtr((middle - half) / sd).mean() < power else (low, middle)
    return high


def planning_sentence(
    n_examples: int,
    n_seeds: int,
    *,
    discordance: float,
    seed_sd: float = 0.0,
    power: float = 0.8,
    comparisons: int = 1,
) -> str:
    """Say what a plan can show, before anything trains; arguments as `minimum_detectable_difference`.

    >>> said = planning_sentence(872, 1, discordance=0.1)
    >>> said.partition(" (80 %")[0]
    'with 872 examples and 1 seed, differences under 3.0 points will not be shown'
    >>> planning_sentence(40, 1, discordance=0.1).partition(" (80 %")[0]
    'with 40 examples and 1 seed, differences of up to 10 points will not be shown'
    """
    plan = {"discordance": discordance, "seed_sd": seed_sd, "power": power, "comparisons": comparisons}
    least = minimum_detectable_difference(n_examples, n_seeds, **plan)
    number = f"under {100 * least:.1f} points"
    if least > discordance:
        # Two that disagree on so many examples differ by no more; those that disagree on more may be told apart.
        number = f"of up to {100 * discordance:g} points" if discordance < 1 else "of any size"
    seeds = f"{n_seeds} seed{'s' if n_seeds > 1 else ''}"
    spread = f" and seeds spread by {100 * seed_sd:g} points" if seed_sd and n_seeds > 1 else ""
    family = f" among {comparisons} comparisons" if comparisons > 1 else ""
    caution = "; one seed speaks for that training run only" if n_seeds == 1 else ""
    return (
        f"with {grouped(n_examples)} examples and {seeds}, differences {number} will not be shown{family} "
        f"({100 * power:g} % power, if the two disagree in being right on {100 * discordance:g} % of the "
        f"examples{spread}){caution}"
    )


def examples_needed(
    difference: float, n_seeds: int, chance: DifferenceVariance, *, power: float = 0.8, **rules: float
) -> int | None:
    """Fewest examples with which a true difference is settled: established, or shown to be within the margin.

    Args:
        **rules: `margin`, `alpha` and `comparisons` of `power_of`.

    Returns:
        Number of examples, or None where `MOST_EXAMPLES` would not be enough.

    ((1.96 + 0.84) / 0.02)^2 * 0.2 = 3 925, and a little for Student's t:

    >>> examples_needed(0.02, 1, DifferenceVariance.planned(0.2))
    3927
    """
    return _fewest(lambda n: power_of(difference, n, n_seeds, chance, **rules).settled >= power, 2, MOST_EXAMPLES)


def seeds_needed(
    difference: float, n_examples: int, chance: DifferenceVariance, *, power: float = 0.8, **rules: float
) -> int | None:
    """Fewest seeds (at least 2) with which a true difference is settled; arguments as `examples_needed`.

    Returns:
        Number of seeds, or None where `MOST_SEEDS` would not be enough: the examples are what is missing.

    Two methods that differ by 1 point on 100 examples are not settled by any number of seeds:

    >>> seeds_needed(0.01, 100, DifferenceVariance.planned(0.2)) is None
    True
    """
    return _fewest(lambda s: power_of(difference, n_examples, s, chance, **rules).settled >= power, 2, MOST_SEEDS)


def grouped(number: int) -> str:
    """A whole number with its thousands apart.

    >>> grouped(1400), grouped(872)
    ('1 400', '872')
    """
    return f"{number:,}".replace(",", " ")


def _check(n_examples: int, n_seeds: int, alpha: float) -> None:
    if n_examples < 2 or n_seeds < 1:
        raise FtlibError(f"found {n_examples} examples and {n_seeds} seeds; allowed: at least 2 examples and 1 seed")
    check_alpha(alpha)


def _standard_deviation(n_examples: int, n_seeds: int, chance: DifferenceVariance) -> float:
    variance = chance.seeds / n_seeds + chance.examples / n_examples + chance.rest / (n_seeds * n_examples)
    return variance**0.5


def _half_widths(n_examples: int, n_seeds: int, chance: DifferenceVariance, alpha: float) -> Array:
    """Half widths of the interval at evenly likely values of the mean squares."""
    ms_examples = (chance.rest + n_seeds * chance.examples) * _chi2(n_examples - 1, 8)
    ms_seeds = np.zeros(1)
    if n_seeds > 1:
        ms_seeds = (chance.rest + n_examples * chance.seeds) * _chi2(n_seeds - 1, 40)[:, None]
    errors = standard_errors(ms_seeds, ms_examples, chance.rest, n_seeds, n_examples)
    return half_width(*errors, n_seeds, n_examples, alpha)


@lru_cache(maxsize=4096)
def _chi2(df: int, n_points: int) -> Array:
    """Evenly likely values of a chi-square over its degrees of freedom."""
    from scipy.special import chdtri

    return chdtri(df, 1 - (np.arange(n_points) + 0.5) / n_points) / df


def _fewest(enough: Callable[[int], bool], least: int, most: int) -> int | None:
    low, high = least - 1, least
    while not enough(high):
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
