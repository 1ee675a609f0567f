"""From scores to words: better, worse, the same within the margin, or undecided and what would decide it.

The one path by which ftlib compares. Differences are paired on examples and seeds; the interval covers new examples
and, from two seeds on, new seeds (`ftlib.spread.Spread`); `docs/calibration.md` measures how often it is right.

The order of decisions, written down because it is a choice: (1) scores that are equal everywhere are the same; (2) a
difference shown to lie within the margin is "same", even where it is surely not 0, because the plan said that it does
not matter (the sentence still names it); (3) an interval that leaves out 0 is "better" or "worse"; (4) the rest is
undecided.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftlib.difference import difference, label_swap_test
from ftlib.errors import FtlibError
from ftlib.influence import RANGES, label_values, ratio_values, sum_values
from ftlib.intervals import Interval, interval, metric_interval, ratio_interval
from ftlib.resampling import swap_test
from ftlib.spread import as_scores
from ftlib.stats import holm
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
    "interval",
    "metric_interval",
    "ranking",
    "ratio_interval",
]


class Pair(NamedTuple):
    """One comparison of a family."""

    a: str
    b: str
    comparison: Comparison
    p_holm: float
    """The p-value corrected for all comparisons of the family (Holm)."""


class Place(NamedTuple):
    """A row of a ranking."""

    rank: int
    """1 + the number of methods established to be better: methods that cannot be told apart share ranks."""
    name: str
    value: float
    tied_with: tuple[str, ...]
    """Methods it is the same as, or undecided against, best first."""


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
            raise FtlibError(
                f"{name}: {metric} of class {positive} is undefined; it is neither a label nor a prediction"
            )
    p_swap = None
    if len(tables[0]) == len(tables[1]) == 1 and metric != "accuracy":
        p_swap = label_swap_test(
            labels, predictions_a, predictions_b, metric, rng, positive=positive, clusters=clusters
        )
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
    for top, bottom in (a, b):
        values = ratio_values(top, bottom)
        counts.append(
            np.stack([np.broadcast_to(np.asarray(part, dtype=float), values.shape) for part in (top, bottom)], -1)
        )
    return compare_sums(*counts, _ratio, unit=unit, higher_is_better=higher_is_better, **how)


def _ratio(sums: NDArray) -> NDArray:
    return sums[..., 0] / sums[..., 1]


def compare_all(
    scores: Mapping[str, ArrayLike],
    *,
    margin: float,
    alpha: float = 0.05,
    rng: np.random.Generator,
    pairs: Iterable[tuple[str, str]] | None = None,
    clusters: ArrayLike | None = None,
    unit: str = "points",
    higher_is_better: bool = True,
    labels: ArrayLike | None = None,
    metric: str | None = None,
    positive: int = 1,
    draws_nothing: Collection[str] | None = None,
) -> list[Pair]:
    """Compare every pair of methods, corrected for being many (Holm).

    Intervals stay at 1 - alpha each; a "better" or "worse" must survive the correction, and where it does not the
    sentence says so. A verdict of "same" is one claim at alpha and is not corrected.

    Args:
        scores: Method -> `(n_seeds, n_examples)` scores; with `metric`, class numbers that were predicted. For ratios
            give `ftlib.influence.ratio_values`.
        margin: Smallest difference that matters.
        alpha: 1 - confidence, and the chance of any wrong "better" or "worse" in the whole family.
        rng: Draws the permutations where a metric with one seed needs them.
        pairs: The plan's comparisons; all pairs where left out.
        clusters: `(n_examples,)`, see `compare`.
        unit: See `compare`.
        higher_is_better: False for losses.
        labels: `(n_examples,)` class numbers, with `metric`.
        metric: A metric of labels, see `compare_metric`; None: the mean of the scores.
        positive: Class of `f1_binary`.
        draws_nothing: Methods without chance of their own (majority, zero-shot), whose single row is all there is to
            know. None: where some method has several seeds, those with a single row.

    Returns:
        One `Pair` for each comparison, in the order of `pairs`.

    Raises:
        FtlibError: See `compare`; or a pair names a method that is not in `scores`.

    >>> right, wrong = np.ones(50), np.zeros(50)
    >>> found = compare_all({"x": right, "y": wrong, "z": right}, margin=0.01, rng=np.random.default_rng(0))
    >>> [(p.a, p.b, p.comparison.verdict) for p in found]
    [('x', 'y', 'better'), ('x', 'z', 'same'), ('y', 'z', 'worse')]
    """
    if metric is not None and labels is None:
        raise FtlibError("compare_all: a metric of labels needs labels")
    if metric is None:
        tables = {name: as_scores(table, name) for name, table in scores.items()}
    else:
        tables = {name: label_values(labels, table, metric, positive=positive) for name, table in scores.items()}
        undefined = [name for name, table in tables.items() if np.isnan(table).any()]
        if undefined:
            raise FtlibError(f"{metric} of class {positive} is undefined for {', '.join(undefined)}: it occurs nowhere")
    wanted = list(combinations(tables, 2)) if pairs is None else [tuple(pair) for pair in pairs]
    missing = sorted({name for pair in wanted for name in pair} - set(tables))
    if missing:
        raise FtlibError(f"pairs: found {', '.join(missing)}; allowed: {', '.join(tables)}")
    several = any(len(table) > 1 for table in tables.values())
    differences, voices = [], []
    for a, b in wanted:
        one_run = len(tables[a]) == len(tables[b]) == 1
        p_swap = None
        if one_run and metric not in (None, "accuracy"):
            p_swap = label_swap_test(labels, scores[a], scores[b], metric, rng, positive=positive, clusters=clusters)
        differences.append(
            difference(
                tables[a],
                tables[b],
                margin=margin,
                alpha=alpha,
                clusters=clusters,
                bounds=RANGES[metric] if metric else None,
                p_exact=p_swap,
                name_a=a,
                name_b=b,
            )
        )
        draws = not several if draws_nothing is None else not (a in draws_nothing and b in draws_nothing)
        voices.append(Voice(a, b, unit, higher_is_better, one_run=one_run and draws))
    adjusted = holm([found.p_value for found in differences])
    return [
        Pair(voice.a, voice.b, in_words(found, voice, float(p), len(differences)), float(p))
        for found, voice, p in zip(differences, voices, adjusted, strict=True)
    ]


def ranking(values: Mapping[str, float], pairs: Iterable[Pair], *, higher_is_better: bool = True) -> list[Place]:
    """Rank methods so that ties show as ties.

    A method's rank is 1 + the number of methods established to be better than it. "Cannot be told apart" does not
    carry over from pair to pair (x ties y, y ties z, x beats z), so every place names whom it ties with.

    Args:
        values: Method -> value, which orders methods of one rank.
        pairs: From `compare_all`. Pairs that were not compared count as ties.
        higher_is_better: Direction of the values.

    Returns:
        Places, best rank first.

    Raises:
        FtlibError: A pair names a method without a value.

    >>> right, wrong = np.ones(50), np.zeros(50)
    >>> pairs = compare_all({"x": right, "y": wrong, "z": right}, margin=0.01, rng=np.random.default_rng(0))
    >>> [(p.rank, p.name, p.tied_with) for p in ranking({"x": 1.0, "y": 0.0, "z": 1.0}, pairs)]
    [(1, 'x', ('z',)), (1, 'z', ('x',)), (3, 'y', ())]
    """
    beaten_by: dict[str, set[str]] = {name: set() for name in values}
    for pair in pairs:
        if pair.a not in values or pair.b not in values:
            raise FtlibError(f"ranking: no value for {pair.a if pair.a not in values else pair.b}")
        if pair.comparison.verdict == "better":
            beaten_by[pair.b].add(pair.a)
        elif pair.comparison.verdict == "worse":
            beaten_by[pair.a].add(pair.b)
    order = sorted(values, key=lambda name: -values[name] if higher_is_better else values[name])
    places = [
        Place(
            1 + len(beaten_by[name]),
            name,
            float(values[name]),
            tuple(n for n in order if n != name and n not in beaten_by[name] and name not in beaten_by[n]),
        )
        for name in order
    ]
    return sorted(places, key=lambda place: place.rank)
