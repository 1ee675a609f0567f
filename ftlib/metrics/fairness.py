"""Who is treated worse by a classifier: its rates for each group of people, and how far the groups lie apart.

The definitions are fairlearn's, and so are the values, which tests compare with its MetricFrame. Its gap functions are
not called: they say 0, "perfectly fair", of labels that are text, look at one label where there are three, and take a
group without positives for one that is never got right. A rate that divides by nothing is not available here, with the
reason, where fairlearn says 0. Of two labels the second is the positive one; three or more are taken one against the
rest.

A gap is a largest rate minus a smallest. It is never below 0, and neither is that of any replicate, so an interval of
replicates would say "unfair" of every classifier. Here the interval is value ± q, q being the 1 - alpha quantile over
replicates of the farthest that any two groups' difference lies from the one found: it holds for every two groups at
once (as Tukey's for means), and for every label where the largest over labels is taken. Examples are drawn anew within
their group, or by cluster; while drawing, every rate has one imagined hit and one imagined miss (Agresti and Caffo
2000), so that 10 of 10 is not taken for certainty. `tests/metrics/test_metrics_fairness.py`
simulates how often the interval is right.

Throughout, `truth`, `chosen` and `code` are `(n_examples,)` numbers of the true labels, the predicted ones and the
groups; `clusters` and `alpha` are as in `ftlib.stats`.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftlib.metrics import metric_value
from ftlib.metrics.classification import accuracy, confusion, f1_macro
from ftlib.stats.bootstrap import resampling_counts
from ftlib.stats.intervals import interval, metric_interval
from ftlib.stats.linearize import by_kind, label_counts
from ftlib.stats.paired import wilson
from ftlib.stats.power import minimum_detectable_difference

if TYPE_CHECKING:
    import pandas as pd

PREFIX = "group_"
"""Before the name of a column of groups, in predictions."""

BLANK_GROUP = "(blank)"
"""How a group that is left blank is named; it is nobody's name, and takes part in no gap."""

FEWEST = 10
"""A group with fewer examples for a rate to divide by takes part in no gap: one example more or less would move its
rate by 10 points and more, and the largest difference of several such groups is mostly chance."""

REPLICATES = 2000

SEED = 0
"""Of the replicates: the same predictions give the same intervals."""


def counted(sums: ArrayLike, rate: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a rate divides, and by what, label by label, from sums of `ftlib.stats.linearize.label_counts`.

    Args:
        sums: (..., 3 K): examples rightly given label k, given it, and having it.
        rate: accuracy, selection_rate, tpr or fpr.

    Returns:
        Hits and tried, each (..., K); of accuracy, which is of no label, (..., 1).

    Two of three examples of label 1 found, and one of the two others given it:

    >>> sums = label_counts([1, 1, 1, 0, 0], [1, 1, 0, 1, 0], 2).sum(axis=0)
    >>> [tuple(float(side[1]) for side in counted(sums, rate)) for rate in ("selection_rate", "tpr", "fpr")]
    [(3.0, 5.0), (2.0, 3.0), (1.0, 2.0)]
    """
    right, given, labelled = by_kind(np.asarray(sums, dtype=float))
    n = labelled.sum(axis=-1, keepdims=True)
    if rate == "accuracy":
        return right.sum(axis=-1, keepdims=True), n
    if rate == "selection_rate":
        return given, np.broadcast_to(n, given.shape)
    return (right, labelled) if rate == "tpr" else (given - right, n - labelled)


def drawn(
    truth: NDArray,
    chosen: NDArray,
    code: NDArray,
    n_groups: int,
    n_labels: int,
    *,
    clusters: ArrayLike | None,
    replicates: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Sums of label counts of every group, of examples drawn anew within it, or by cluster.

    Returns:
        (n_replicates, n_groups, 3 K), as `ftlib.stats.linearize.label_counts` counts.
    """
    if clusters is not None:
        index = np.unique(np.asarray(clusters), return_inverse=True)[1]
        units = np.zeros((index.max() + 1, n_groups, 3 * n_labels))
        np.add.at(units, (index, code), label_counts(truth, chosen, n_labels))
        flat = units.reshape(len(units), -1)
        sums = np.concatenate([some @ flat for some in resampling_counts(len(flat), replicates, rng)])
        return sums.reshape(replicates, n_groups, -1)
    sums = np.empty((replicates, n_groups, 3 * n_labels))
    for group in range(n_groups):
        # Examples with the same label and answer are alike: how often each kind is drawn is multinomial.
        own = code == group
        kinds, how_many = np.unique(truth[own] * n_labels + chosen[own], return_counts=True)
        some = rng.multinomial(how_many.sum(), how_many / how_many.sum(), replicates)
        sums[:, group] = some @ label_counts(kinds // n_labels, kinds % n_labels, n_labels)
    return sums


def independent(clusters: ArrayLike | None, some: NDArray) -> int:
    """How many independent draws some of the examples are: themselves, or the clusters they come from.

    >>> some = np.array([True, True, True, False])
    >>> independent(None, some), independent(["x", "x", "y", "z"], some)
    (3, 2)
    """
    return int(some.sum()) if clusters is None else len(set(np.asarray(clusters)[some]))


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
    paired comparison (`ftlib.stats.power`) of as many examples as the harmonic mean of the groups' sizes.

    Args:
        rate: Of both together, above 0 and below 1.
        comparisons: Pairs of groups, times labels, that were looked at.

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
        labels: The labels looked at, each against the rest, and their numbers; one where there are two labels.
        unnamed: The group that takes part in no gap, since it is nobody's name.

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
            found[f"{name}_{kind}"] = _largest_gap(list(families.values()), kind == "ratio", alpha)
            for label, family in families.items() if len(families) > 1 else ():
                found[f"{name}_{kind}_{label}"] = _largest_gap([family], kind == "ratio", alpha)
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


def _largest_gap(families: Sequence[Sequence[Rate]], ratio: bool, alpha: float) -> dict[str, Any]:
    """The largest gap (smallest ratio) of all labels' rates; a label that lacks one of its rates is left out."""
    whole = [rate for family in families if not any(one.why_not(ratio) for one in family) for rate in family]
    if not whole:
        reason = next(said for family in families for one in family if (said := one.why_not(ratio)))
        n = int(families[0][0].tried.sum())
        return metric_value(math.nan, math.nan, math.nan, n, reason)
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
    return metric_value(value, low, high, int(at.tried.sum()), "") | more


def unnamed() -> str:
    """How a group that was left blank is named."""
    return BLANK_GROUP


def columns_of(table: "pd.DataFrame") -> list[str]:
    """The columns of groups that these predictions have, without their prefix."""
    return [
        name.removeprefix(PREFIX) for name in table.columns if name.startswith(PREFIX) and table[name].notna().any()
    ]


def clusters_of(table: "pd.DataFrame") -> NDArray | None:
    """(n_examples,) what examples share a source with; None where not all are known to have one."""
    return table["cluster"].to_numpy() if table["cluster"].notna().all() else None


def looked_at(labels: Sequence[str]) -> dict[str, int]:
    """The labels that rates are about, each against the rest, and their numbers.

    >>> looked_at(["bad", "good"]), looked_at(["a", "b", "c"])
    ({'good': 1}, {'a': 0, 'b': 1, 'c': 2})
    """
    return {label: number for number, label in enumerate(labels) if number or len(labels) > 2}


def measure_groups(
    table: "pd.DataFrame",
    labels: Sequence[str],
    *,
    alpha: float = 0.05,
    rng: np.random.Generator | None = None,
) -> dict[str, dict[str, Any]]:
    """Rates of every group and gaps between groups, of one part's predictions, with intervals over its examples.

    Args:
        table: Predictions of one stage and part, `group_<column>` among their columns; a missing group counts as blank.
        rng: Draws the replicates of the gaps; None: seeded.

    Returns:
        {"groups": {column: {group: {metric: leaf}}}, "gaps": {column: {name: leaf}}}; metrics of a group are accuracy,
        f1_macro and, for each label looked at, selection_rate_<label>, tpr_<label> and fpr_<label>; n is what each
        divides by. Names of gaps are those of `ftlib.metrics.fairness.GAPS` with _difference or _ratio; "worst_group"
        is the lowest accuracy of a group that takes part. A group with fewer than 10 examples takes part in no gap.

    >>> import pandas as pd
    >>> said = pd.DataFrame({"label": ["yes"] * 4, "prediction": ["yes", "yes", "yes", "no"], "cluster": None})
    >>> found = measure_groups(said.assign(group_sex=["f", "f", "m", "m"]), ["no", "yes"])["groups"]["sex"]
    >>> found["m"]["tpr_yes"]["value"], found["m"]["tpr_yes"]["n"], found["m"]["fpr_yes"]["value"]
    (0.5, 2, None)
    """
    blank, rng = unnamed(), np.random.default_rng(SEED) if rng is None else rng
    columns = {name: table[f"{PREFIX}{name}"].fillna(blank).astype(str) for name in columns_of(table)}
    numbers = {label: number for number, label in enumerate(labels)}
    truth, chosen = (table[name].map(numbers).to_numpy(dtype=int) for name in ("label", "prediction"))
    clusters = clusters_of(table)
    found: dict[str, dict[str, Any]] = {"groups": {}, "gaps": {}}
    for column, values in columns.items():
        names, code = np.unique(values.to_numpy(dtype=str), return_inverse=True)
        names, shown = [str(name) for name in names], looked_at(labels)
        levels = _levels(truth, chosen, names, code, clusters, shown, len(labels), alpha)
        apart = gaps(
            truth, chosen, code, names, shown, len(labels), unnamed=blank, rng=rng, clusters=clusters, alpha=alpha
        )
        found["groups"][column] = levels
        found["gaps"][column] = apart | {"worst_group": _worst(levels, blank)}
    return found


def _levels(
    truth: NDArray,
    chosen: NDArray,
    names: Sequence[str],
    code: NDArray,
    clusters: NDArray | None,
    shown: Mapping[str, int],
    n_labels: int,
    alpha: float,
) -> dict[str, dict[str, Any]]:
    """Every group's metrics."""
    found = {}
    for place, name in enumerate(names):
        own = code == place
        said = truth[own], chosen[own]
        counts = confusion(*said, n_labels)
        rate = partial(_rate_with_interval, clusters=clusters, alpha=alpha)
        found[name] = {
            "accuracy": rate(accuracy(*said), truth == chosen, own),
            "f1_macro": _f1_with_interval(*said, None if clusters is None else clusters[own], alpha),
        }
        for label, number in shown.items():
            given, has = chosen == number, truth == number
            hit, n_given, n_has, n = counts[number, number], counts[:, number].sum(), counts[number].sum(), counts.sum()
            none = f"no example of this group has the label {label!r}"
            every = f"every example of this group has the label {label!r}"
            found[name] |= {
                f"selection_rate_{label}": rate(n_given / n, given, own),
                f"tpr_{label}": rate(hit / n_has if n_has else math.nan, given, own & has, reason=none),
                f"fpr_{label}": rate(
                    (n_given - hit) / (n - n_has) if n > n_has else math.nan, given, own & ~has, reason=every
                ),
            }
    return found


def _rate_with_interval(
    value: float, hits: NDArray, among: NDArray, *, clusters: NDArray | None, alpha: float, reason: str = ""
) -> dict[str, Any]:
    """A rate with its interval, from which examples are hits and which it is about."""
    some, n = hits[among], int(among.sum())
    if n == 0:
        return metric_value(value, math.nan, math.nan, 0, reason)
    if clusters is None:
        low, high = wilson(float(some.sum()), n, alpha)
    elif len(set(clusters[among])) < 2:
        # One source has no spread to learn from.
        low = high = math.nan
    else:
        _, low, high = interval(some, alpha=alpha, clusters=clusters[among])
    return metric_value(float(value), low, high, n, "")


def _f1_with_interval(truth: NDArray, chosen: NDArray, clusters: NDArray | None, alpha: float) -> dict[str, Any]:
    n = len(truth)
    if n < 2:
        return metric_value(math.nan, math.nan, math.nan, n, "an F1 takes two examples or more, and this group has one")
    value = f1_macro(truth, chosen)
    if clusters is not None and len(set(clusters)) < 2:
        return metric_value(value, math.nan, math.nan, n, "")
    _, low, high = metric_interval(truth, chosen[None], "f1_macro", alpha=alpha, clusters=clusters)
    return metric_value(value, low, high, n, "")


def _worst(levels: Mapping[str, Mapping[str, Any]], unnamed: str) -> dict[str, Any]:
    """The group with the lowest accuracy; its interval is that of one group, which was chosen for being the lowest."""
    able = {name: one["accuracy"] for name, one in levels.items() if name != unnamed and one["accuracy"]["n"] >= FEWEST}
    if not able:
        n = sum(one["accuracy"]["n"] for one in levels.values())
        return metric_value(math.nan, math.nan, math.nan, n, f"no named group has {FEWEST} examples or more")
    name = min(able, key=lambda group: able[group]["value"])
    return able[name] | {"group": name}
