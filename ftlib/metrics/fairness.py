"""Whom a classifier treats worse: its rates for each group of people, and how far the groups lie apart.

Groups are taken apart by fairlearn's MetricFrame, and values are fairlearn's but for one: a rate that divides by
nothing is not available, with the reason, where fairlearn says 0. Of two labels the second is the positive one; three
or more are taken one against the rest. `ftlib.metrics.gaps` says what a gap is and how sure it is.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ftlib.intervals import interval, metric_interval
from ftlib.metrics.classification import accuracy, confusion, f1_macro
from ftlib.metrics.gaps import FEWEST, gaps
from ftlib.metrics.leaves import leaf
from ftlib.stats import wilson

if TYPE_CHECKING:
    import pandas as pd

PREFIX = "group_"
SEED = 0
"""Of the replicates: the same predictions give the same intervals."""


def unnamed() -> str:
    """How a group that was left blank is named; it is nobody's name, and takes part in no gap."""
    # The module loads pandas, which a report without groups does without.
    from ftlib.data.columns import BLANK_GROUP

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
        labels: The task's label names, in order.
        alpha: 1 minus the level of the intervals.
        rng: Draws the replicates of the gaps; None: seeded.

    Returns:
        {"groups": {column: {group: {metric: leaf}}}, "gaps": {column: {name: leaf}}}; metrics of a group are accuracy,
        f1_macro and, for each label looked at, selection_rate_<label>, tpr_<label> and fpr_<label>; n is what each
        divides by. Names of gaps are those of `ftlib.metrics.gaps.GAPS` with _difference or _ratio; "worst_group" is
        the lowest accuracy of a group that takes part. A group with fewer than 10 examples takes part in no gap.

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


def by_group(truth: NDArray, chosen: NDArray, groups: Sequence[str], n_labels: int) -> "pd.DataFrame":
    """Accuracy, macro F1 and confusion of every group, by fairlearn's MetricFrame: a row per group.

    Its own rates are not used: they take several times as long, one after another, and say 0 where they divide by
    nothing.

    Args:
        truth: (n_examples,) numbers of the true labels.
        chosen: (n_examples,) numbers of the predicted ones.
        groups: (n_examples,) names.
        n_labels: How many labels there are.
    """
    # It loads scikit-learn, which takes a second, and only data with groups need it.
    from fairlearn.metrics import MetricFrame

    metrics = {"accuracy": accuracy, "f1_macro": f1_macro, "confusion": partial(confusion, n_labels=n_labels)}
    return MetricFrame(metrics=metrics, y_true=truth, y_pred=chosen, sensitive_features=np.asarray(groups)).by_group


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
    frame = by_group(truth, chosen, np.asarray(names)[code], n_labels)
    found = {}
    for place, name in enumerate(names):
        own, values = code == place, frame.loc[name]
        rate = partial(_rate, clusters=clusters, alpha=alpha)
        found[name] = {
            "accuracy": rate(values["accuracy"], truth == chosen, own),
            "f1_macro": _f1(values["f1_macro"], truth, chosen, own, clusters, alpha),
        }
        for label, number in shown.items():
            given, has, counts = chosen == number, truth == number, values["confusion"]
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


def _rate(
    value: float, hits: NDArray, among: NDArray, *, clusters: NDArray | None, alpha: float, reason: str = ""
) -> dict[str, Any]:
    """A rate with its interval, from which examples are hits and which it is about."""
    some, n = hits[among], int(among.sum())
    if n == 0:
        return leaf(value, math.nan, math.nan, 0, reason)
    if clusters is None:
        low, high = wilson(float(some.sum()), n, alpha)
    elif len(set(clusters[among])) < 2:
        # One source has no spread to learn from.
        low = high = math.nan
    else:
        _, low, high = interval(some, alpha=alpha, clusters=clusters[among])
    return leaf(float(value), low, high, n, "")


def _f1(
    value: float, truth: NDArray, chosen: NDArray, own: NDArray, clusters: NDArray | None, alpha: float
) -> dict[str, Any]:
    n, sources = int(own.sum()), None if clusters is None else clusters[own]
    if n < 2:
        return leaf(math.nan, math.nan, math.nan, n, "an F1 takes two examples or more, and this group has one")
    if sources is not None and len(set(sources)) < 2:
        return leaf(float(value), math.nan, math.nan, n, "")
    _, low, high = metric_interval(truth[own], chosen[own][None], "f1_macro", alpha=alpha, clusters=sources)
    return leaf(float(value), low, high, n, "")


def _worst(levels: Mapping[str, Mapping[str, Any]], unnamed: str) -> dict[str, Any]:
    """The group with the lowest accuracy; its interval is that of one group, which was chosen for being the lowest."""
    able = {name: one["accuracy"] for name, one in levels.items() if name != unnamed and one["accuracy"]["n"] >= FEWEST}
    if not able:
        n = sum(one["accuracy"]["n"] for one in levels.values())
        return leaf(math.nan, math.nan, math.nan, n, f"no named group has {FEWEST} examples or more")
    name = min(able, key=lambda group: able[group]["value"])
    return able[name] | {"group": name}
