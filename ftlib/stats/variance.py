"""How far chance may have moved a mean: the two-way table of seeds and examples.

Scores come in one shape only, `(n_seeds, n_examples)`: row = one training run, column = one test example, the same
examples in every row. Two sources of chance are kept apart throughout: which examples the test set happens to hold, and
which seeds the runs happened to draw. With three seeds a bootstrap over runs is far too narrow (measured in
`docs/calibration.md`), so every interval of ftlib comes from the variance components of this table and Student's t.

`gap_spread` says the same of a gap between groups of people, where what seeds do is learned from all groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftlib.core.errors import FtlibError

Array = NDArray[np.float64]


def as_scores(scores: ArrayLike, name: str = "scores") -> Array:
    """Check scores and bring them to the shape `(n_seeds, n_examples)`.

    Args:
        scores: `(n_seeds, n_examples)`, or `(n_examples,)` for one run. Booleans count as 0 and 1.

    Raises:
        FtlibError: Not numbers, not one or two axes, fewer than 2 examples, no seed, or a value that is not finite.

    >>> as_scores([True, False, True])
    array([[1., 0., 1.]])
    """
    try:
        array = np.asarray(scores, dtype=float)
    except (TypeError, ValueError) as error:
        raise FtlibError(
            f"{name}: found something that is not a table of numbers ({error}); allowed: an array "
            "(n_seeds, n_examples), or (n_examples,) for one seed"
        ) from error
    if array.ndim == 1:
        array = array[None, :]
    if array.ndim != 2:
        raise FtlibError(
            f"{name}: found shape {array.shape}; allowed: (n_seeds, n_examples), or (n_examples,) for one seed"
        )
    if array.shape[0] < 1 or array.shape[1] < 2:
        raise FtlibError(
            f"{name}: found {array.shape[0]} seeds and {array.shape[1]} examples; allowed: at least 1 seed and "
            "2 examples (one example has no spread to learn from)"
        )
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        seed, example = (int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise FtlibError(
            f"{name}: found {bad} values that are NaN or infinite, the first at seed {seed}, example {example}; "
            "allowed: finite numbers (leave unscored examples out of every method alike)"
        )
    return array


def check_alpha(alpha: float) -> None:
    """Refuse an alpha that is no level of a test.

    Raises:
        FtlibError: alpha is no number between 0 and 0.5.
    """
    if not (isinstance(alpha, Real) and 0 < alpha < 0.5):
        raise FtlibError(f"alpha: found {alpha!r}; allowed: a number between 0 and 0.5, usually 0.05")


def check_margin(margin: float, name: str = "margin") -> None:
    """Refuse a margin that is no size of a difference.

    Raises:
        FtlibError: margin is no finite number of 0 or more.
    """
    if not (isinstance(margin, Real) and 0 <= margin < np.inf):
        raise FtlibError(
            f"{name}: found {margin!r}; allowed: a number of 0 or more, in the unit of the scores (accuracy: 0.01 is "
            "1 point)"
        )


def paired(a: ArrayLike, b: ArrayLike, name_a: str = "a", name_b: str = "b") -> tuple[Array, Array]:
    """Check that two score tables belong to the same examples and seeds, and give them one shape.

    One row against several stands for every seed: a method that draws nothing (majority, zero-shot) runs once.

    Args:
        b: The same examples in the same order; the same seeds, or one row.

    >>> x, y = paired([[1, 0], [1, 1]], [0, 1])
    >>> x.shape, y.tolist()
    ((2, 2), [[0.0, 1.0], [0.0, 1.0]])
    """
    a, b = as_scores(a, name_a), as_scores(b, name_b)
    if a.shape[1] != b.shape[1]:
        raise FtlibError(
            f"{name_a} has {a.shape[1]} examples and {name_b} has {b.shape[1]}; allowed: the same examples, in the "
            "same order, for both (the comparison is paired)"
        )
    if a.shape[0] != b.shape[0] and 1 not in (a.shape[0], b.shape[0]):
        raise FtlibError(
            f"{name_a} has {a.shape[0]} seeds and {name_b} has {b.shape[0]}; allowed: the same seeds for both, or "
            "one row for a method that draws nothing (keep the seeds that both have)"
        )
    shape = (max(a.shape[0], b.shape[0]), a.shape[1])
    return np.broadcast_to(a, shape), np.broadcast_to(b, shape)


def by_cluster(values: Array, clusters: ArrayLike | None) -> Array:
    """Turn values of examples into values of clusters, so that examples of one source count as one draw.

    Cluster g becomes theta_s + G/n * sum over its examples of (v_si - theta_s), theta_s the mean of row s: the row
    means stay what they were and unequal clusters are handled as a ratio estimate (Miller 2024, section 2.2).

    Args:
        clusters: `(n_examples,)`, anything that can be compared; None: every example is its own cluster.

    Returns:
        `(n_seeds, n_clusters)`.

    Raises:
        FtlibError: Wrong length, or fewer than 2 clusters.

    >>> by_cluster(np.array([[1.0, 1.0, 0.0, 0.0]]), ["p", "p", "q", "q"])
    array([[1., 0.]])
    """
    if clusters is None:
        return values
    clusters = np.asarray(clusters)
    n_examples = values.shape[1]
    if clusters.shape != (n_examples,):
        raise FtlibError(f"clusters: found shape {clusters.shape}; allowed: ({n_examples},), one entry per example")
    _, index = np.unique(clusters, return_inverse=True)
    n_clusters = int(index.max()) + 1
    if n_clusters < 2:
        raise FtlibError("clusters: found 1 cluster; allowed: at least 2 (one source has no spread to learn from)")
    means = values.mean(axis=1, keepdims=True)
    rows = [np.bincount(index, weights=row, minlength=n_clusters) for row in values - means]
    return means + np.stack(rows) * (n_clusters / n_examples)


@dataclass(frozen=True)
class VarianceComponents:
    """Mean of a `(n_seeds, n_examples)` table and how far chance in examples and in seeds may have moved it.

    The table is read as mean + seed + example + rest (Searle, Casella and McCulloch 1992, chapter 4). With MS_S, MS_E,
    MS_R the mean squares of S seeds and n examples, seeds add (MS_S - MS_R) / (n S) to the variance of the mean and
    examples MS_E / (n S). Each source is stretched by the t quantile of its own degrees of freedom,
    half width^2 = t(S - 1)^2 * seeds + t(n - 1)^2 * examples (Cochran 1964), because with three seeds the
    pooled degrees of freedom of Satterthwaite give an interval that is too narrow. And no interval is narrower
    than Student's t over the means of the seeds, MS_S / (n S) with S - 1: three seeds that happen to agree do not
    show that seeds do not matter. That makes intervals over three seeds a little wide where seeds do not matter,
    and is what keeps false claims rare among many comparisons. With one seed only examples are covered.
    """

    mean: float
    """Mean over seeds and examples, in the unit of the scores."""
    examples_se: float
    """Standard error from examples, n_examples - 1 degrees of freedom."""
    seeds_se: float
    """Standard error that seeds add, n_seeds - 1 degrees of freedom; 0 with one seed."""
    least_se: float
    """Standard error of the means of the seeds, n_seeds - 1 degrees of freedom; 0 with one seed."""
    n_seeds: int
    n_examples: int
    """Examples, or clusters where the table holds clusters."""
    var_seeds: float
    """Variance between seeds that stays however many examples there are; NaN with one seed."""
    var_examples: float
    """Variance between examples that is the same for every seed; with one seed all of it."""
    var_rest: float
    """Variance of an example from seed to seed; 0 with one seed."""
    seeds_df: int | None = None
    """Degrees of freedom of `seeds_se` and `least_se` where they are not n_seeds - 1."""

    @property
    def se(self) -> float:
        """Standard error of the mean, for new examples and (with at least 2 seeds) new seeds."""
        return (self.examples_se**2 + self.seeds_se**2) ** 0.5

    def half_width(self, alpha: float = 0.05) -> float:
        """Half the width of the 1 - alpha interval."""
        errors = self.examples_se, self.seeds_se, self.least_se
        return float(half_width(*errors, self.n_seeds, self.n_examples, alpha, self.seeds_df))

    def tail(self, null: float, side: int) -> float:
        """One-sided p-value: the chance, were the mean `null`, of one at least this far to `side` (+1 or -1)."""
        distance = side * (self.mean - null)
        if distance == 0:
            return 0.5
        if self.n_seeds == 1 and self.examples_se > 0:
            from scipy.special import stdtr

            return float(stdtr(self.n_examples - 1, -distance / self.examples_se))
        # The p-value that agrees with the interval: the level at which its bound reaches the null. Bisected on the
        # log scale; 50 halvings leave 12 digits.
        if self.half_width(1.0 - 1e-9) > abs(distance):
            p = 0.5
        elif self.half_width(2e-100) < abs(distance):
            p = 0.0
        else:
            small, large = np.log(1e-100), np.log(0.5)
            for _ in range(50):
                middle = (small + large) / 2
                wide = self.half_width(2 * float(np.exp(middle))) > abs(distance)
                small, large = (middle, large) if wide else (small, middle)
            p = float(np.exp(large))
        return p if distance > 0 else 1 - p

    def p_value(self, null: float = 0.0) -> float:
        """Two-sided p-value of "the mean is `null`"; below alpha exactly where the 1 - alpha interval leaves it out."""
        return min(1.0, 2 * self.tail(null, 1 if self.mean >= null else -1))

    def p_equivalent(self, margin: float) -> float:
        """P-value of "the mean is at least `margin` away from 0" (two one-sided tests, Schuirmann 1987)."""
        # The larger of the two is that of the bound nearer to the mean.
        return self.tail(margin, -1) if self.mean >= 0 else self.tail(-margin, 1)


def variance_components(values: ArrayLike, clusters: ArrayLike | None = None) -> VarianceComponents:
    """Split the chance in a table of scores into seeds, examples and rest.

    One seed gives the textbook standard error, sd / sqrt(n): here sqrt(0.5 / 2) = 0.5.

    >>> s = variance_components([[0.0, 1.0]])
    >>> s.mean, round(s.se, 6)
    (0.5, 0.5)
    """
    table = by_cluster(as_scores(values), clusters)
    n_seeds, n_examples = table.shape
    rows, columns, mean = table.mean(axis=1), table.mean(axis=0), float(table.mean())
    ms_examples = n_seeds * float(((columns - mean) ** 2).sum()) / (n_examples - 1)
    ms_seeds = ms_rest = 0.0
    if n_seeds > 1:
        ms_seeds = n_examples * float(((rows - mean) ** 2).sum()) / (n_seeds - 1)
        rest = table - rows[:, None] - columns[None, :] + mean
        ms_rest = float((rest**2).sum()) / ((n_seeds - 1) * (n_examples - 1))
    examples_se, seeds_se, least_se = standard_errors(ms_seeds, ms_examples, ms_rest, n_seeds, n_examples)
    return VarianceComponents(
        mean=mean,
        examples_se=float(examples_se),
        seeds_se=float(seeds_se),
        least_se=float(least_se),
        n_seeds=n_seeds,
        n_examples=n_examples,
        var_seeds=max(ms_seeds - ms_rest, 0.0) / n_examples if n_seeds > 1 else np.nan,
        var_examples=max(ms_examples - ms_rest, 0.0) / n_seeds,
        var_rest=ms_rest,
    )


def standard_errors(
    ms_seeds: ArrayLike, ms_examples: ArrayLike, ms_rest: ArrayLike, n_seeds: int, n_examples: int
) -> tuple[Array, Array, Array]:
    """Standard errors of the mean of a two-way table from its mean squares; see `VarianceComponents`.

    Works on arrays of mean squares, so that `ftlib.stats.power` asks the very same formula what it will do.

    Returns:
        `examples_se`, `seeds_se` and `least_se` of `VarianceComponents`.

    sqrt(8 / 8), sqrt((18 - 2) / 8) and sqrt(18 / 8):

    >>> [round(float(x), 4) for x in standard_errors(18.0, 8.0, 2.0, 2, 4)]
    [1.0, 1.4142, 1.5]
    """
    ms_seeds, ms_examples, ms_rest = (np.asarray(m, dtype=float) for m in (ms_seeds, ms_examples, ms_rest))
    cells = n_seeds * n_examples
    examples_se = np.sqrt(ms_examples / cells)
    if n_seeds == 1:
        return examples_se, np.zeros_like(ms_seeds), np.zeros_like(ms_seeds)
    seeds_se = np.sqrt(np.maximum(ms_seeds - ms_rest, 0.0) / cells)
    return examples_se, seeds_se, np.sqrt(ms_seeds / cells)


def half_width(
    examples_se: Array | float,
    seeds_se: Array | float,
    least_se: Array | float,
    n_seeds: int,
    n_examples: int,
    alpha: float,
    seeds_df: int | None = None,
) -> Array | float:
    """Half the width of the 1 - alpha interval of a two-way mean, from the fields of `VarianceComponents`.

    One seed: Student's t, here 12.706 with one degree of freedom.

    >>> round(float(half_width(1.0, 0.0, 0.0, 1, 2, 0.05)), 3)
    12.706
    """
    t_examples = _students_t(n_examples - 1, alpha)
    if n_seeds == 1:
        return t_examples * examples_se
    t_seeds = _students_t(n_seeds - 1 if seeds_df is None else seeds_df, alpha)
    return np.maximum(np.hypot(t_examples * examples_se, t_seeds * seeds_se), t_seeds * least_se)


@lru_cache(maxsize=1 << 14)
def _students_t(df: float, alpha: float) -> float:
    """The quantile of Student's t that alpha / 2 lies beyond; a report asks for the same ones again and again."""
    from scipy.special import stdtrit

    # The lower tail keeps its digits where 1 - alpha / 2 would round to 1.
    return -float(stdtrit(df, alpha / 2))


def is_binary(scores: Array) -> bool:
    """Whether every score is 0 or 1.

    >>> is_binary(np.array([0.0, 1.0])), is_binary(np.array([0.5]))
    (True, False)
    """
    return bool(((scores == 0) | (scores == 1)).all())


def between(rates: ArrayLike, flips: ArrayLike) -> float:
    """Variance of what a seed does to one group and not to the others (Paule and Mandel 1982).

    Args:
        rates: `(n_seeds, n_groups)`.
        flips: `(n_groups,)` variance of a group's rate from seed to seed that its examples alone explain; where they
            explain all, the variance is 0.

    Two groups, two seeds, nothing flips: the four rates are 0.05 from their groups' means, which is
    4 * 0.05^2 / ((2 - 1) * (2 - 1)) = 0.01.

    >>> round(between([[0.5, 0.5], [0.6, 0.4]], [0.0, 0.0]), 6)
    0.01
    """
    from scipy.optimize import brentq

    rates, flips = np.asarray(rates, dtype=float), np.asarray(flips, dtype=float)
    off, df = rates - rates.mean(axis=0), (rates.shape[0] - 1) * (rates.shape[1] - 1)

    def excess(variance: float) -> float:
        # A group whose examples never flip would otherwise weigh infinitely.
        weights = 1 / (variance + np.maximum(flips, 1e-12))
        common = (off * weights).sum(axis=1, keepdims=True) / weights.sum()
        return float(((off - common) ** 2 * weights).sum() - df)

    if not df or excess(0.0) <= 0:
        return 0.0
    return float(brentq(excess, 0.0, float((off**2).sum()), xtol=1e-12))


def gap_spread(
    values: Array, sides: Sequence[tuple[Sequence[Array], Array]], clusters: Sequence[str] | None
) -> VarianceComponents:
    """Variances of a weighted sum of groups' rates, such as a gap; what seeds do is learned from all groups.

    Two of twelve groups are 66 pairs to pick from, and three seeds leave two degrees of freedom: an interval from one
    pair's seeds alone, widened for 66 picks, says "0 to 100 points" of everything. But all groups met the same seeds.
    So a group's rate is read as mean + seed + group and seed together + flips of single examples. The variance of the
    flips is known from the examples; that of group and seed together, one number for all groups, is estimated with
    (groups - 1) (seeds - 1) degrees of freedom (`between`). What a seed does to all groups alike cancels in a gap. With
    two groups it is much what `variance_components` says. `tests/report/test_report_groups.py` simulates how often
    it is right.

    Args:
        values: Their mean is the sum.
        sides: What it sums: before and after adapting, or one of them. Of each the tables of all groups, every one
            `(n_seeds, n_examples)` values whose mean is the group's rate, and `(n_groups,)` weights.
    """
    found = variance_components(values, clusters)
    if found.n_seeds == 1:
        return found
    seeds = alone = 0.0
    for tables, weights in sides:
        if len(tables[0]) == 1:
            continue
        each = [variance_components(table, clusters) for table in tables]
        flips = np.array([one.var_rest / one.n_examples for one in each])
        shared = between(np.stack([table.mean(axis=1) for table in tables], axis=1), flips)
        seeds += float((weights**2).sum()) * shared / found.n_seeds
        alone += float((weights**2 * flips).sum()) / found.n_seeds
    groups = len(sides[0][1])
    seeds_df = (groups - 1) * (found.n_seeds - 1)
    return replace(found, seeds_se=seeds**0.5, least_se=(seeds + alone) ** 0.5, seeds_df=seeds_df)
