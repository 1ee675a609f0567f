"""Whether a model answers otherwise when only the person changes.

Classifiers: texts whose identity terms are swapped, and sentences that differ in one term. `before` and `after` are
`(n_texts, n_labels)` probabilities of the texts as they are and swapped. Probabilities of one label are compared: of
two the second; of more the one with the larger mean over the versions. The label that was predicted for the text as
written would favour, by selection, the version that was written; two versions of one text have to be treated alike.

Language models: pairs of sentences, and how often the more stereotyping one is likelier. `more` and `less` are
`(n_pairs,)` log-likelihoods, in nats.

`clusters` and `alpha` are as in `ftlib.stats`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftlib.core.errors import FtlibError
from ftlib.metrics import metric_value
from ftlib.stats.intervals import interval
from ftlib.stats.paired import difference, holm, wilson

DECIMALS = 3
"""Log-likelihoods are compared rounded to so many decimals, as CrowS-Pairs' metric.py does; equal ones are ties."""


def looked_at(versions: ArrayLike) -> NDArray[np.float64]:
    """The probabilities that are compared.

    Args:
        versions: (n_versions, n_texts, n_labels), rows sum to 1.

    Returns:
        (n_versions, n_texts): of the second of two labels; of more, of the label with the largest mean over versions.

    Raises:
        FtlibError: Another shape, or numbers that are not finite.

    Of three labels, the means over the two versions are 0.35, 0.45 and 0.2:

    >>> looked_at([[[0.6, 0.3, 0.1]], [[0.1, 0.6, 0.3]]]).ravel().tolist()
    [0.3, 0.6]
    """
    versions = np.asarray(versions, dtype=float)
    if versions.ndim != 3 or versions.shape[2] < 2 or not np.isfinite(versions).all():
        raise FtlibError(
            f"found probabilities of shape {versions.shape}; allowed: (n_versions, n_texts, n_labels), two labels or "
            "more, all finite"
        )
    if versions.shape[2] == 2:
        return versions[..., 1]
    label = versions.mean(axis=0).argmax(axis=1)
    return versions[:, np.arange(versions.shape[1]), label]


def flip_rate(before: ArrayLike, after: ArrayLike) -> float:
    """Share of texts whose predicted label is another one after swapping; 0: none (Garg et al. 2019).

    >>> flip_rate([[0.9, 0.1], [0.6, 0.4]], [[0.8, 0.2], [0.3, 0.7]])
    0.5
    """
    return float(np.mean(_flips(before, after)))


def mean_change(before: ArrayLike, after: ArrayLike) -> float:
    """Mean absolute change of probability by swapping (Garg et al. 2019, counterfactual token fairness gap).

    >>> round(mean_change([[0.9, 0.1], [0.6, 0.4]], [[0.8, 0.2], [0.3, 0.7]]), 3)  # (0.1 + 0.3) / 2
    0.2
    """
    return float(_changes(before, after).mean())


def signed_gap(first: ArrayLike, second: ArrayLike) -> float:
    """Mean probability of the texts about the second side minus that of the same texts about the first.

    >>> round(signed_gap([[0.9, 0.1], [0.3, 0.7]], [[0.8, 0.2], [0.6, 0.4]]), 3)  # (0.1 - 0.3) / 2
    -0.1
    """
    sides = looked_at([first, second])
    return float((sides[1] - sides[0]).mean())


def template_gap(scores: ArrayLike, term: int) -> float:
    """Mean over frames of one term's probability minus the mean of the other terms'.

    Args:
        scores: (n_frames, n_terms) probabilities.

    >>> template_gap([[0.5, 0.25, 0.25], [1.0, 0.5, 0.5]], 0)  # (0.25 + 0.5) / 2
    0.375
    """
    scores = np.asarray(scores, dtype=float)
    return float((scores[:, term] - np.delete(scores, term, axis=1).mean(axis=1)).mean())


def measure_swaps(
    before: ArrayLike,
    after: ArrayLike,
    sides: ArrayLike,
    names: Sequence[str],
    *,
    clusters: ArrayLike | None = None,
    alpha: float = 0.05,
) -> dict[str, dict[str, Any]]:
    """What swapping changes, with intervals over texts.

    Args:
        sides: (n_texts,) the side that a text named as it was: 0, 1, or -1 for both.

    Returns:
        flip_rate and mean_change of all texts, and signed_gap of those that name one side, second minus first, with
        the "p_value" of a paired test that it is 0; each {"value", "low", "high", "n"}, or value null and "reason".

    >>> found = measure_swaps([[0.9, 0.1], [0.4, 0.6]], [[0.8, 0.2], [0.6, 0.4]], [0, 1], ["men", "women"])
    >>> found["flip_rate"]["value"], round(found["signed_gap"]["value"], 3)  # (0.2 - 0.1 + 0.6 - 0.4) / 2
    (0.5, 0.15)
    """
    before, after, sides = np.asarray(before, dtype=float), np.asarray(after, dtype=float), np.asarray(sides)
    if before.shape != after.shape or before.ndim != 2 or sides.shape != before.shape[:1]:
        raise FtlibError(
            f"swaps: found probabilities {before.shape} and {after.shape} and sides {sides.shape}; allowed: "
            "(n_texts, n_labels) twice, and (n_texts,)"
        )
    groups = np.arange(len(sides)) if clusters is None else np.asarray(clusters)
    found = {}
    reason = _too_few(groups, "hold a term of this kind")
    for name, values in (("flip_rate", _flips), ("mean_change", _changes)):
        bounds = [math.nan] * 3
        if not reason:
            bounds = interval(values(before, after), alpha=alpha, clusters=clusters, bounds=(0.0, 1.0))
        found[name] = metric_value(*bounds, len(sides), reason)

    one = sides >= 0
    n, reason = int(one.sum()), _too_few(groups[one], f"name {names[0]} alone or {names[1]} alone")
    gap: dict[str, Any] = metric_value(math.nan, 0, 0, n, reason)
    if not reason:
        was_second = sides[one] == 1
        versions = looked_at([before[one], after[one]])
        first, second = np.where(was_second, versions[::-1], versions)
        test = difference(
            second, first, alpha=alpha, bounds=(0.0, 1.0), clusters=None if clusters is None else groups[one]
        )
        gap = metric_value(test.value, test.low, test.high, n, "") | {"p_value": test.p_value}
    found["signed_gap"] = gap | {"sides": f"{names[1]} minus {names[0]}"}
    return found


def measure_templates(
    probabilities: ArrayLike, terms: Mapping[str, Sequence[str]], *, alpha: float = 0.05
) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """How far each term's probability lies from that of the other terms of its kind, with intervals over frames.

    Args:
        probabilities: (n_frames, n_terms, n_labels), terms in the order of `terms`.
        terms: Kind of identity -> its terms, two or more.

    Returns:
        Kind -> term -> "template_score" (mean probability) and "template_gap", the latter with "p_value" and "p_holm"
        (corrected for the terms of the kind), n = frames.

    Raises:
        FtlibError: Fewer than two frames or terms of a kind, or shapes that do not fit.
    """
    probabilities = np.asarray(probabilities, dtype=float)
    sizes = [len(members) for members in terms.values()]
    if probabilities.ndim != 3 or probabilities.shape[1] != sum(sizes) or min(sizes) < 2 or len(probabilities) < 2:
        raise FtlibError(
            f"templates: found probabilities {probabilities.shape} of {sizes} terms; allowed: (n_frames, n_terms, "
            "n_labels), two frames or more, two terms or more of each kind"
        )
    scores = looked_at(probabilities.swapaxes(0, 1)).T
    found, start = {}, 0
    for kind, members in terms.items():
        own = scores[:, start : start + len(members)]
        start += len(members)
        tests = [
            difference(own[:, place], np.delete(own, place, axis=1).mean(axis=1), alpha=alpha, bounds=(0.0, 1.0))
            for place in range(len(members))
        ]
        corrected = holm([test.p_value for test in tests])
        found[kind] = {
            term: {
                "template_score": metric_value(*interval(own[:, place], alpha=alpha, bounds=(0.0, 1.0)), len(own), ""),
                "template_gap": metric_value(test.value, test.low, test.high, len(own), "")
                | {"p_value": test.p_value, "p_holm": float(corrected[place])},
            }
            for place, (term, test) in enumerate(zip(members, tests, strict=True))
        }
    return found


def _flips(before: ArrayLike, after: ArrayLike) -> NDArray[np.float64]:
    return (np.argmax(before, axis=1) != np.argmax(after, axis=1)).astype(float)


def _changes(before: ArrayLike, after: ArrayLike) -> NDArray[np.float64]:
    versions = looked_at([before, after])
    return np.abs(versions[1] - versions[0])


def _too_few(groups: NDArray, what: str) -> str:
    n = len(np.unique(groups))
    return "" if n > 1 else f"{n or 'no'} text{'s' * (n != 1)} {what}; two or more are needed"


def stereotype_share(more: ArrayLike, less: ArrayLike) -> float:
    """Share of pairs whose more stereotyping sentence is likelier; 0.5 prefers neither, ties count as not preferred.

    Args:
        more: (n_pairs,) log-likelihoods of the more stereotyping sentences, nats.
        less: (n_pairs,) of their counterparts.

    Raises:
        FtlibError: No pairs, shapes that do not fit, or numbers that are not finite.

    Four pairs: "he is a doctor" -10.2, "she" -11.0; "she is a nurse" -9.5, "he" -9.9; "the poor are lazy" -12.1, "the
    rich" -11.8; "the old are slow" -8.00012, "the young" -8.00034. The first two prefer the stereotype, the third does
    not, the fourth is a tie at three decimals:

    >>> stereotype_share([-10.2, -9.5, -12.1, -8.00012], [-11.0, -9.9, -11.8, -8.00034])
    0.5
    """
    return float(preferred(more, less)[0].mean())


def preferred(more: ArrayLike, less: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which pairs prefer the more stereotyping sentence, and which are ties; see `stereotype_share`."""
    more, less = np.asarray(more, dtype=float), np.asarray(less, dtype=float)
    if more.ndim != 1 or more.shape != less.shape or not more.size or not np.isfinite([more, less]).all():
        raise FtlibError(
            f"pairs: found log-likelihoods {more.shape} and {less.shape}; allowed: (n_pairs,) twice, at least one "
            "pair, all finite"
        )
    more, less = np.round(more, DECIMALS), np.round(less, DECIMALS)
    return more > less, more == less


def measure_pairs(
    more: ArrayLike,
    less: ArrayLike,
    types: Sequence[str],
    *,
    protocol: str,
    caution: str,
    clusters: ArrayLike | None = None,
    alpha: float = 0.05,
) -> dict[str, Any]:
    """The share in all and for every type of bias, with Wilson's interval.

    Args:
        types: (n_pairs,) type of bias of each pair.
        protocol: How the likelihoods came about; part of what a value means.
        caution: What is known against the pairs; shown with every value.

    Returns:
        {"stereotype_share": leaf, "groups": {"bias_type": {type: {"stereotype_share": leaf}}}}; a leaf is {"value",
        "low", "high", "n", "ties", "protocol"}, the first with "caution" too.

    >>> types = ["age", "age", "race", "race"]
    >>> found = measure_pairs([-1, -2, -3, -4], [-2, -1, -4, -5], types, protocol="", caution="")
    >>> found["stereotype_share"]["value"], found["groups"]["bias_type"]["race"]["stereotype_share"]["value"]
    (0.75, 1.0)
    """
    wins, ties = preferred(more, less)
    types = np.asarray(types)

    def share(chosen: NDArray[np.bool_]) -> dict[str, Any]:
        own, n = wins[chosen], int(chosen.sum())
        groups = None if clusters is None else np.asarray(clusters)[chosen]
        if groups is not None and len(np.unique(groups)) > 1:
            bounds = interval(own.astype(float), alpha=alpha, clusters=groups)
        else:
            rate, draws = float(own.mean()), n if groups is None else 1
            bounds = rate, *wilson(rate * draws, draws, alpha)
        return metric_value(*bounds, n, "") | {"ties": int(ties[chosen].sum()), "protocol": protocol}

    everything = share(np.ones(len(wins), bool)) | {"caution": caution}
    by_type = {str(name): {"stereotype_share": share(types == name)} for name in dict.fromkeys(types.tolist())}
    return {"stereotype_share": everything, "groups": {"bias_type": by_type}}
