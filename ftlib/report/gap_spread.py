"""How far chance may have moved a gap between groups over few seeds: what seeds do is learned from all groups.

Two of twelve groups are 66 pairs to pick from, and three seeds leave two degrees of freedom: an interval from one
pair's seeds alone, widened for 66 picks, says "0 to 100 points" of everything. But all groups met the same seeds. So a
group's rate is read as mean + seed + group and seed together + flips of single examples. The variance of the flips is
known from the examples; that of group and seed together, one number for all groups, is estimated with
(groups - 1) (seeds - 1) degrees of freedom by the equation of Paule and Mandel (1982). What a seed does to all groups
alike cancels in a gap. With two groups it is much what `ftlib.spread` says. `tests/test_report_groups.py` simulates
how often it is right.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import stdtrit

from ftlib.spread import Array, Spread, spread


@dataclass(frozen=True)
class Pooled(Spread):
    """A spread whose part from seeds was learned from several groups."""

    seeds_df: int
    """Degrees of freedom of `seeds_se` and `least_se`."""

    def half_width(self, alpha: float = 0.05) -> float:
        """Half the width of the 1 - alpha interval; as `Spread.half_width` but for the degrees of freedom."""
        examples = -float(stdtrit(self.n_examples - 1, alpha / 2)) * self.examples_se
        if self.n_seeds == 1:
            return examples
        t = -float(stdtrit(self.seeds_df, alpha / 2))
        return float(max(np.hypot(examples, t * self.seeds_se), t * self.least_se))


def between(rates: ArrayLike, flips: ArrayLike) -> float:
    """Variance of what a seed does to one group and not to the others (Paule and Mandel 1982).

    Args:
        rates: (n_seeds, n_groups).
        flips: (n_groups,) variance of a group's rate from seed to seed that its examples alone explain.

    Returns:
        0 where the flips explain all.

    Two groups, two seeds, nothing flips: the four rates are 0.05 from their groups' means, which is
    4 * 0.05^2 / ((2 - 1) * (2 - 1)) = 0.01.

    >>> round(between([[0.5, 0.5], [0.6, 0.4]], [0.0, 0.0]), 6)
    0.01
    """
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


def gap_spread(values: Array, sides: Sequence[tuple[Sequence[Array], Array]], clusters: Sequence[str] | None) -> Spread:
    """The spread of a weighted sum of groups' rates.

    Args:
        values: (n_seeds, n_examples) whose mean it is (`ftlib.report.groups.linear`).
        sides: What it sums: before and after adapting, or one of them. Of each the tables of all groups, every one
            (n_seeds, n_examples) values whose mean is the group's rate, and (n_groups,) weights.
        clusters: (n_examples,) what examples share a source with; None: nothing.
    """
    found = spread(values, clusters)
    if found.n_seeds == 1:
        return found
    seeds = alone = 0.0
    for tables, weights in sides:
        if len(tables[0]) == 1:
            continue
        each = [spread(table, clusters) for table in tables]
        flips = np.array([one.var_rest / one.n_examples for one in each])
        shared = between(np.stack([table.mean(axis=1) for table in tables], axis=1), flips)
        seeds += float((weights**2).sum()) * shared / found.n_seeds
        alone += float((weights**2 * flips).sum()) / found.n_seeds
    groups = len(sides[0][1])
    pooled = {"seeds_se": seeds**0.5, "least_se": (seeds + alone) ** 0.5}
    return Pooled(**asdict(found) | pooled, seeds_df=(groups - 1) * (found.n_seeds - 1))
