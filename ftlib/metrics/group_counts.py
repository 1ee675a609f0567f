"""What the rates of groups are made of: what they divide, drawn anew too, and how many independent draws that is."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftlib.influence import label_counts
from ftlib.resampling import resampling_counts


def counted(sums: ArrayLike, rate: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What a rate divides, and by what, label by label, from sums of `ftlib.influence.label_counts`.

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
    right, given, labelled = np.split(np.asarray(sums, dtype=float), 3, axis=-1)
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

    Args:
        truth: (n_examples,) numbers of the true labels.
        chosen: (n_examples,) numbers of the predicted ones.
        code: (n_examples,) numbers of the groups.
        n_groups: How many there are.
        n_labels: K, how many labels there are.
        clusters: (n_examples,): examples that share a source are drawn together.
        replicates: How often everything is drawn.
        rng: Draws.

    Returns:
        (n_replicates, n_groups, 3 K), as `ftlib.influence.label_counts` counts.
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

    Args:
        clusters: (n_examples,) what examples share a source with; None: nothing.
        some: (n_examples,) which are meant.

    >>> some = np.array([True, True, True, False])
    >>> independent(None, some), independent(["x", "x", "y", "z"], some)
    (3, 2)
    """
    return int(some.sum()) if clusters is None else len(set(np.asarray(clusters)[some]))
