"""From scores to words: better, worse, the same within the margin, or undecided and what would decide it.

The one path by which ftlib compares. Differences are paired on examples and seeds; the interval covers new examples
and, from two seeds on, new seeds (`ftlib.spread.Spread`); `docs/calibration.md` measures how often it is right.
`ftlib.standings` compares many methods at once, `ftlib.unpaired` two lists of runs that share nothing.

The order of decisions, written down because it is a choice: (1) scores that are equal everywhere are the same; (2) a
difference shown to lie within the margin is "same", even where it is surely not 0, because the plan said that it does
not matter (the sentence still names it); (3) an interval that leaves out 0 is "better" or "worse"; (4) the rest is
undecided.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftlib.difference import difference, label_swap_test
from ftlib.errors import FtlibError
from ftlib.influence import RANGES, label_values, ratio_values, sum_values
from ftlib.intervals import Interval, interval, metric_interval, ratio_interval
from ftlib.resampling import swap_test
from ftlib.standings import Pair, Place, compare_all, ranking
from ftlib.unpaired import compare_unpaired
from ftlib.wording import Comparison, Voice, in_words

__all__ = [
    "Comparison",
    "Interval",
    "Pair",
    "Place",
    "compare",
    "compare_all",
    "compare_metric",
    "compare_ratio",
    "compare_sums",
    "compare_unpaired",
    "interval",
    "metric_interval",
    "ranking",
    "ratio_interval",
]


def compare(
    a: ArrayLike,
    b: ArrayLike,
    *,
    margin: float,
    alpha: float = 0.05,
    rng: np.random.Generator | None = None,
    clusters: ArrayLike | None = None,
    name_a: str = "a",
    name_b: str = "b",
    unit: str = "points",
    higher_is_better: bool = True,
    seeded: bool = True,
) -> Comparison:
    """Compare two methods by the mean of their scores, paired on examples and seeds.

    Args:
        a: `(n_seeds, n_examples)` scores, or `(n_examples,)`: one run. One row against several stands for every seed.
        b: The same examples and seeds.
        margin: Smallest difference that matters, in the unit of the scores (accuracy: 0.01 is 1 point); 0: any does.
        alpha: 1 - confidence; equivalence is tested at alpha on each side.
        rng: Source of chance of every comparison's signature; a mean has a formula and draws nothing.
        clusters: `(n_examples,)`: examples that share a source count as one draw.
        name_a: Name in the sentence.
        name_b: Name in the sentence.
        unit: `points` shows scores times 100; any other unit shows them as they are.
        higher_is_better: False for losses. The difference stays a - b, the verdict follows the direction.
        seeded: False where neither method draws anything, so that one run is all there is to know.

    Returns:
        The difference with its interval, the verdict, and what would decide it; see `Comparison`.

    Raises:
        FtlibError: Shapes, NaN, margin or alpha that are not allowed, with what was found.

    Of 40 examples a gets 12 that b does not, b gets 2 that a does not; the difference is 10 / 40:

    >>> a, b = np.repeat([1, 0, 1], [12, 2, 26]), np.repeat([0, 1, 1], [12, 2, 26])
    >>> result = compare(a, b, margin=0.01, rng=np.random.default_rng(0), name_a="LoRA", name_b="probe")
    >>> result.difference, result.verdict
    (0.25, 'better')
    >>> print(result.sentence)
    LoRA is better than probe by 25.0 points (5.8 to 41.8), for this one training run: other seeds may differ
    """
    found = difference(a, b, margin=margin, alpha=alpha, clusters=clusters, name_a=name_a, name_b=name_b)
    voice = Voice(name_a, name_b, unit, higher_is_better, one_run=seeded and found.n_seeds == 1)
    return in_words(found, voice, found.p_value)


def compare_metric(
    labels: ArrayLike,
    predictions_a: ArrayLike,
    predictions_b: ArrayLike,
    metric: str,
    *,
    margin: float,
    rng: np.random.Generator,
    alpha: float = 0.05,
    positive: int = 1,
    clusters: ArrayLike | None = None,
    name_a: str = "a",
    name_b: str = "b",
    unit: str = "points",
    seeded: bool = True,
) -> Comparison:
    """Compare two methods by a metric of labels: accuracy, macro F1, the F1 of one class, or MCC.

    The metric's linear form (`ftlib.influence`) is compared as a mean is. With one seed the p-value comes from a
    permutation test, and the interval is widened to hold 0 where the two disagree.

    Args:
        labels: `(n_examples,)` class numbers.
        predictions_a: `(n_seeds, n_examples)` class numbers.
        predictions_b: The same examples and seeds, or one row.
        metric: `accuracy`, `f1_macro`, `f1_binary` or `mcc`.
        margin: Smallest difference that matters (0.01 is 1 point).
        rng: Draws the permutations.
        alpha: 1 - confidence.
        positive: Class of `f1_binary`.
        clusters: `(n_examples,)`, see `compare`.
        name_a: Name in the sentence.
        name_b: Name in the sentence.
        unit: See `compare`.
        seeded: See `compare`.

    Returns:
        See `compare`.

    Raises:
        FtlibError: See `compare` and `ftlib.influence.label_values`; or the metric is undefined.

    >>> labels = [0, 1, 0, 1]
    >>> compare_metric(labels, labels, labels, "f1_macro", margin=0.01, rng=np.random.default_rng(0)).verdict
    'same'
    """
    tables = [label_values(labels, p, metric, positive=positive) for p in (predictions_a, predictions_b)]
    for name, table in zip((name_a, name_b), tables, strict=True):
        if np.isnan(table).any():
            raise FtlibError(f"{name}: {metric} of class {positive} is undefined: it is no label and no prediction")
    p_swap = None
    if len(tables[0]) == len(tables[1]) == 1 and metric != "accuracy":
        both = (predictions_a, predictions_b)
        p_swap = label_swap_test(labels, *both, metric, rng, positive=positive, clusters=clusters)
    found = difference(
        *tables,
        margin=margin,
        alpha=alpha,
        clusters=clusters,
        bounds=RANGES[metric],
        p_exact=p_swap,
        name_a=name_a,
        name_b=name_b,
    )
    voice = Voice(name_a, name_b, unit, one_run=seeded and found.n_seeds == 1)
    return in_words(found, voice, found.p_value)


def compare_sums(
    a: ArrayLike,
    b: ArrayLike,
    metric: Callable[[NDArray], NDArray],
    *,
    margin: float,
    rng: np.random.Generator,
    alpha: float = 0.05,
    clusters: ArrayLike | None = None,
    name_a: str = "a",
    name_b: str = "b",
    unit: str = "points",
    higher_is_better: bool = True,
    seeded: bool = True,
) -> Comparison:
    """Compare two methods by any metric that is a function of sums over the examples, such as corpus BLEU.

    With one seed the p-value comes from a permutation test, as in `compare_metric`.

    Args:
        a: `(n_seeds, n_examples, n_counts)`: what each example adds to the sums.
        b: The same examples and seeds, or one seed.
        metric: Sums `(..., n_counts)` to values `(...)`.
        margin: Smallest difference that matters, in the unit of the metric.
        rng: Draws the permutations.
        alpha: 1 - confidence.
        clusters: `(n_examples,)`, see `compare`.
        name_a: Name in the sentence.
        name_b: Name in the sentence.
        unit: See `compare`.
        higher_is_better: False for losses.
        seeded: See `compare`.

    Returns:
        See `compare`; the difference is a - b, so a negative one is an improvement of a loss.

    Raises:
        FtlibError: See `compare` and `ftlib.influence.sum_values`.

    >>> counts = [[[1.0, 2.0], [3.0, 4.0]]]
    >>> compare_sums(counts, counts, lambda s: s[..., 0] / s[..., 1], margin=0.1, rng=np.random.default_rng(0)).verdict
    'same'
    """
    tables = [sum_values(counts, metric) for counts in (a, b)]
    p_swap = None
    if len(tables[0]) == len(tables[1]) == 1 and tables[0].shape == tables[1].shape:
        p_swap = swap_test(np.asarray(a)[0], np.asarray(b)[0], metric, rng, clusters=clusters)
    found = difference(
        *tables, margin=margin, alpha=alpha, clusters=clusters, p_exact=p_swap, name_a=name_a, name_b=name_b
    )
    voice = Voice(name_a, name_b, unit, higher_is_better, one_run=seeded and found.n_seeds == 1)
    return in_words(found, voice, found.p_value)


def compare_ratio(
    a: tuple[ArrayLike, ArrayLike],
    b: tuple[ArrayLike, ArrayLike],
    *,
    unit: str = "bits per byte",
    higher_is_better: bool = False,
    **how: Any,
) -> Comparison:
    """Compare two methods by a sum over a sum, such as bits per byte; lower is better unless said otherwise.

    Args:
        a: Numerators and denominators, each `(n_seeds, n_examples)`; one row of denominators serves all seeds.
        b: The same examples and seeds.
        unit: Unit of the ratio.
        higher_is_better: True for ratios such as hits per attempt.
        how: `margin`, `rng` and the rest of `compare_sums`.

    Returns:
        See `compare_sums`.

    Raises:
        FtlibError: See `compare_sums` and `ftlib.influence.ratio_values`.

    >>> text = ([8.0, 12.0], [4.0, 6.0])
    >>> compare_ratio(text, text, margin=0.01, rng=np.random.default_rng(0)).verdict
    'same'
    """
    counts = []
    for parts in (a, b):
        shape = ratio_values(*parts).shape
        counts.append(np.stack([np.broadcast_to(np.asarray(part, dtype=float), shape) for part in parts], -1))
    how |= {"unit": unit, "higher_is_better": higher_is_better}
    return compare_sums(*counts, lambda sums: sums[..., 0] / sums[..., 1], **how)
