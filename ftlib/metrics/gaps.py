"""Gaps between groups: how far the group that fares best lies from the one that fares worst, and how sure that is.

The definitions are fairlearn's. Its gap functions are not called: they say 0, "perfectly fair", of labels that are
text, look at one label where there are three, and take a group without positives for one that is never got right.

A largest rate minus a smallest is never below 0, and neither is that of any replicate, so an interval of replicates
would say "unfair" of every classifier. Here the interval is value ± q, q being the 1 - alpha quantile over replicates
of the farthest that any two groups' difference lies from the one found: it holds for every two groups at once (as
Tukey's for means), and for every label where the largest over labels is taken. Examples are drawn anew within their
group, or by cluster; while drawing, every rate has one imagined hit and one imagined miss (Agresti and Caffo 2000), so
that 10 of 10 is not taken for certainty. `tests/test_fairness.py` simulates how often the interval is right.
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftlib.influence import label_counts
from ftlib.metrics.group_counts import counted, drawn, independent
from ftlib.metrics.leaves import leaf
from ftlib.power import minimum_detectable_difference

FEWEST = 10
"""A group with fewer examples for a rate to divide by takes part in no gap: one example more or less would move its
rate by 10 points and more, and the largest difference of several such groups is mostly chance."""
REPLICATES = 2000


class Gap(NamedTuple):
    """What a gap compares."""

    rates: tuple[str, ...]
    """Of several the worst counts."""
    kinds: tuple[str, ...]
    summary: str


_BOTH = ("difference", "ratio")
GAPS: Mapping[str, Gap] = MappingProxyType(
    {
        "accuracy": Gap(("accuracy",), ("difference",), "share of a group's examples that are got right"),
        "demographic_parity": Gap(("selection_rate",), _BOTH, "share of a group that is given the label"),
        "equal_opportunity": Gap(("tpr",), _BOTH, "share of a group's examples with the label that are given it"),
        "equalized_odds": Gap(("tpr", "fpr"), _BOTH, "the worse of equal opportunity and the same for other labels"),
    }
)
"""Gaps by name (Hardt et al. 2016; fairlearn, `equalized_odds_difference(agg="worst_case")`): a difference is the
largest rate minus the smallest, 0 where groups fare alike; a ratio the smallest over the largest, 1 where they do."""


class Rate(NamedTuple):
    """One rate of the groups that take part in a gap, and how far chance may have moved each."""

    label: str
    groups: tuple[str, ...]
    hits: NDArray[np.float64]
    tried: NDArray[np.float64]
    """(n_groups,) what the rate divides by."""
    draws: NDArray[np.float64]
    """(n_groups,) independent draws behind them: examples, or clusters."""
    again: NDArray[np.float64]
    """(n_replicates, n_groups) rates of replicates, the imagined examples among them."""
    counts: Mapping[str, int]
    """Every group's examples to divide by, those that are too few too."""

    def why_not(self, ratio: bool) -> str:
        """Why there is no gap; empty where there is one."""
        if len(self.groups) < 2:
            listed = ", ".join(f"{group}: {n}" for group, n in list(self.counts.items())[:8])
            of = f" for {self.label!r}" if self.label else ""
            return f"a gap takes two named groups with {FEWEST} examples or more to divide by{of} ({listed})"
        return "the rate is 0 in every group, and 0 / 0 is no ratio" if ratio and not self.hits.any() else ""

    @property
    def rates(self) -> NDArray[np.float64]:
        """(n_groups,)."""
        return self.hits / self.tried

    @property
    def center(self) -> NDArray[np.float64]:
        """(n_groups,) rates with the imagined examples."""
        return (self.hits + 1) / (self.tried + 2)

    def value(self, ratio: bool) -> float:
        """The gap."""
        low, high = self.rates.min(), self.rates.max()
        return float(low / high if ratio else high - low)

    def errors(self, ratio: bool) -> NDArray[np.float64]:
        """(n_replicates,) how far the worst of all pairs of groups lies from what was found; of ratios, in logs."""
        off = np.log(np.maximum(self.again, 1e-300)) - np.log(self.center) if ratio else self.again - self.center
        # Replicates are of two examples more than there are, so they vary too little.
        off *= (self.tried + 2) / self.tried
        return off.max(axis=1) - off.min(axis=1)


def taking_part(names: Sequence[str], sizes: ArrayLike, unnamed: str) -> list[int]:
    """Places of the groups that take part in a gap: those with a name, and `FEWEST` examples to divide by or more.

    >>> taking_part(["", "man", "woman", "other"], [40, 90, 10, 9], unnamed="")
    [1, 2]
    """
    return [place for place, (name, n) in enumerate(zip(names, sizes, strict=True)) if name != unnamed and n >= FEWEST]


def ends(rates: ArrayLike) -> tuple[int, int]:
    """Places of the lowest and the highest rate; two even where all rates are equal.

    >>> ends([0.5, 0.9, 0.4]), ends([0.5, 0.5])
    ((2, 1), (0, 1))
    """
    rates = np.asarray(rates)
    lowest, highest = int(rates.argmin()), int(rates.argmax())
    return lowest, highest if highest != lowest else (lowest + 1) % len(rates)


def smallest_gap(n_a: float, n_b: float, rate: float, comparisons: int = 1, alpha: float = 0.05) -> float:
    """Smallest true difference of two groups' rates that so few examples establish with 80 % power.

    Answers to two examples, each right at `rate`, differ with chance 2 rate (1 - rate). That is the discordance of a
    paired comparison (`ftlib.power`) of as many examples as the harmonic mean of the groups' sizes.

    Args:
        n_a: Independent examples of one group.
        n_b: Of the other.
        rate: Of both together, above 0 and below 1.
        comparisons: Pairs of groups, times labels, that were looked at.
        alpha: Level of the two-sided test.

    Returns:
        The difference as a share; infinite where none would be established.

    (1.96 + 0.84) * sqrt(0.25 / 100 + 0.25 / 100) = 0.198:

    >>> round(smallest_gap(100, 100, 0.5), 2)
    0.2
    """
    n, discordance = max(2, int(2 / (1 / n_a + 1 / n_b))), 2 * rate * (1 - rate)
    return minimum_detectable_difference(
        n_examples=n, n_seeds=1, discordance=discordance, comparisons=comparisons, alpha=alpha
    )


def gaps(
    truth: NDArray,
    chosen: NDArray,
    code: NDArray,
    names: Sequence[str],
    labels: Mapping[str, int],
    n_labels: int,
    *,
    unnamed: str,
    rng: np.random.Generator,
    clusters: ArrayLike | None = None,
    alpha: float = 0.05,
) -> dict[str, dict[str, Any]]:
    """Every gap of one column of groups, with its interval.

    Args:
        truth: (n_examples,) numbers of the true labels.
        chosen: (n_examples,) numbers of the predicted ones.
        code: (n_examples,) numbers of the groups.
        names: Of the groups.
        labels: The labels looked at, each against the rest, and their numbers; one where there are two labels.
        n_labels: How many there are.
        unnamed: The group that takes part in no gap, since it is nobody's name.
        rng: Draws the replicates.
        clusters: (n_examples,): examples that share a source are drawn together.
        alpha: 1 - confidence.

    Returns:
        Name -> {"value", "low", "high", "n"} and, where there is a value: "smallest" (the smallest difference, of a
        ratio the one nearest to 1, that so few examples would show), "lowest" and "highest" (groups), "label",
        "left_out" (groups). Without a value "reason". A name without a label is about the label with the largest gap.
    """
    counts = np.stack(
        [label_counts(truth[code == g], chosen[code == g], n_labels).sum(axis=0) for g in range(len(names))]
    )
    counts_again = drawn(truth, chosen, code, len(names), n_labels, clusters=clusters, replicates=REPLICATES, rng=rng)
    rates: dict[str, dict[str, Rate]] = {}
    for name in ("accuracy", "selection_rate", "tpr", "fpr"):
        sides, again = counted(counts, name), counted(counts_again, name)
        rates[name] = {}
        for label, number in {"": 0}.items() if name == "accuracy" else labels.items():
            among = {"tpr": truth == number, "fpr": truth != number}.get(name, np.ones(len(truth), bool))
            draws = [independent(clusters, among & (code == g)) for g in range(len(names))]
            some = [side[..., number] for side in (*sides, *again)]
            rates[name][label] = _rate(label, names, unnamed, *some, np.asarray(draws, dtype=float), rng)
    found = {}
    for name, gap in GAPS.items():
        for kind in gap.kinds:
            families = {label: [rates[rate][label] for rate in gap.rates] for label in rates[gap.rates[0]]}
            found[f"{name}_{kind}"] = _leaf(list(families.values()), kind == "ratio", alpha)
            for label, family in families.items() if len(families) > 1 else ():
                found[f"{name}_{kind}_{label}"] = _leaf([family], kind == "ratio", alpha)
    return found


def _rate(
    label: str,
    names: Sequence[str],
    unnamed: str,
    hits: NDArray,
    tried: NDArray,
    hits_again: NDArray,
    tried_again: NDArray,
    draws: NDArray,
    rng: np.random.Generator,
) -> Rate:
    kept = taking_part(names, tried, unnamed)
    hit, missed = rng.poisson(1.0, (2, len(hits_again), len(kept)))
    hits_again, tried_again = hits_again[:, kept] + hit, tried_again[:, kept] + hit + missed
    center = np.tile((hits[kept] + 1) / (tried[kept] + 2), (len(hit), 1))
    # A replicate may hold none of a group's few clusters: it says nothing, which is the center.
    again = np.divide(hits_again, tried_again, out=center, where=tried_again > 0)
    counts = {name: int(n) for name, n in zip(names, tried, strict=True)}
    return Rate(label, tuple(names[place] for place in kept), hits[kept], tried[kept], draws[kept], again, counts)


def _leaf(families: Sequence[Sequence[Rate]], ratio: bool, alpha: float) -> dict[str, Any]:
    """The largest gap (smallest ratio) of all labels' rates; a label that lacks one of its rates is left out."""
    whole = [rate for family in families if not any(one.why_not(ratio) for one in family) for rate in family]
    if not whole:
        reason = next(said for family in families for one in family if (said := one.why_not(ratio)))
        n = int(families[0][0].tried.sum())
        return leaf(math.nan, math.nan, math.nan, n, reason)
    values = [rate.value(ratio) for rate in whole]
    at = whole[int(np.argmin(values) if ratio else np.argmax(values))]
    value, rates, center = at.value(ratio), at.rates, at.center
    errors = np.max([rate.errors(ratio) for rate in whole], axis=0)
    far = float(np.quantile(errors, 1 - alpha, method="higher"))
    low, high = max(0.0, value - far), min(1.0, value + far)
    if ratio:
        middle = center.min() / center.max()
        # A rate of 0 among the replicates is endlessly far in logs: then nothing is known of the ratio.
        least, most = (middle * math.exp(-far), middle * math.exp(far)) if far < 100 else (0.0, 1.0)
        low, high = min(value, least), max(value, min(1.0, most))
    lowest, highest = ends(rates)
    pooled = (at.hits[[lowest, highest]].sum() + 1) / (at.tried[[lowest, highest]].sum() + 2)
    comparisons = len(whole) * math.comb(len(rates), 2)
    smallest = smallest_gap(at.draws[lowest], at.draws[highest], pooled, comparisons, alpha)
    if ratio:
        smallest = max(0.0, 1 - smallest / center.max())
    more = {"smallest": None if math.isinf(smallest) else float(smallest)}
    more |= {"lowest": at.groups[lowest], "highest": at.groups[highest]}
    more |= {"label": at.label} if at.label else {}
    more |= {"left_out": left} if (left := [name for name in at.counts if name not in at.groups]) else {}
    return leaf(value, low, high, int(at.tried.sum()), "") | more
