"""Learning curves: from how many labels on one method beats another, and how many labels a method needs.

A few-shot study measures methods at k labelled examples per class, every method on the same nested samples. Between two
k measured a mean curve is read as straight in log2 k. Method b overtakes a at the k from which on its mean curve is
above a's for good; a target is reached at the k from which on the mean curve stays at or above it. Either may lie
before the first k measured (-inf) or beyond the last (inf), and so may the bounds of its interval, which is read off
the band around the curve. The band's half width at every k, measured or between, is that of
`ftlib.stats.variance.VarianceComponents`: it covers new samples of training examples and new test examples, and at a
measured k it is the interval that a comparison there would give (which for scores of 0 and 1 imagines two more
examples: `ftlib.stats.paired`). `docs/crossover.md` says why, and measures how often it is right.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ftlib.core.errors import FtlibError
from ftlib.stats.power import grouped
from ftlib.stats.variance import (
    Array,
    VarianceComponents,
    as_scores,
    by_cluster,
    check_alpha,
    half_width,
    standard_errors,
)

if TYPE_CHECKING:
    import pandas as pd

POINTS = 16
"""Places at which a band is followed from one number of labels to the next."""


class Curve(NamedTuple):
    """One method's scores at several numbers of labels."""

    name: str
    shots: tuple[int, ...]
    """Labelled examples per class, ascending."""
    scores: tuple[Array, ...]
    """One table per number of labels, each `(n_draws, n_examples)`: values whose mean is the metric, in its unit. Rows
    are the same draws and columns the same test examples at every number and in every curve; what draws nothing
    (zero-shot) has the same one row everywhere."""

    def draws(self) -> "pd.DataFrame":
        """The mean of every draw: a row per draw, a column per number of labels.

        >>> Curve("probe", (1, 2), (np.array([[0.0, 1.0]]), np.array([[1.0, 1.0]]))).draws().to_numpy().tolist()
        [[0.5, 1.0]]
        """
        import pandas as pd

        means = {k: table.mean(axis=1) for k, table in zip(self.shots, self.scores, strict=True)}
        return pd.DataFrame(means).rename_axis(index="draw", columns="labels per class")


def tables_of(*curves: Curve) -> list[dict[int, Array]]:
    """Check curves that belong together.

    Returns:
        For each curve: number of labels -> `(n_draws, n_examples)`, or one row.

    Raises:
        FtlibError: No numbers of labels or not ascending, a table too few, scores that are no tables of finite numbers,
            or draws or test examples that do not fit.

    >>> tables_of(Curve("probe", (1, 2), ([0.0, 1.0], [1.0, 1.0])))[0][2]
    array([[1., 1.]])
    """
    checked = []
    for name, shots, scores in curves:
        if not shots or len(shots) != len(scores) or shots[0] <= 0 or list(shots) != sorted(set(shots)):
            raise FtlibError(
                f"{name}: found {len(scores)} tables of scores for {tuple(shots)} labels per class; allowed: one table "
                "for each number of labels, at least one, above 0 and ascending"
            )
        checked.append({k: as_scores(table, f"{name} at {k}") for k, table in zip(shots, scores, strict=True)})
    names = [curve.name for curve in curves]
    shapes = {f"{name} at {k}": t.shape for name, tables in zip(names, checked, strict=True) for k, t in tables.items()}
    if len({n for _, n in shapes.values()}) > 1 or len({draws for draws, _ in shapes.values()} - {1}) > 1:
        found = ", ".join(f"{where}: {draws} x {n}" for where, (draws, n) in shapes.items())
        raise FtlibError(
            f"found draws x test examples {found}; allowed: the same draws and test examples everywhere (keep those "
            "that all have), or one row for a method that draws nothing"
        )
    return checked


def unsure(name: str, tables: dict[int, Array]) -> str:
    """Why a curve says nothing of other draws; empty where it does, or where nothing is drawn.

    >>> unsure("probe", {1: np.array([[0.0, 1.0]]), 2: np.array([[1.0, 1.0]])})
    'probe has one draw at k = 1, which does not show how draws differ'
    """
    single = [k for k, table in tables.items() if len(table) == 1]
    first = next(iter(tables.values()))
    if not single or all(np.array_equal(first, table) for table in tables.values()):
        return ""
    return f"{name} has one draw at k = {single[0]}, which does not show how draws differ"


def last_change(values: Array, logs: Array, *, touching: bool = False) -> float:
    """Where a curve, straight between its points, rises above 0 for good.

    Args:
        touching: Whether 0 itself counts as above.

    Returns:
        A place; -inf where every value is above 0, inf where the last is not.

    >>> lines = ([-1.0, 1.0, 1.0], [1.0, -1.0, 3.0], [1.0, 1.0, 1.0], [1.0, 1.0, -1.0])
    >>> [last_change(np.array(line), np.array([0.0, 1.0, 2.0])) for line in lines]
    [0.5, 1.25, -inf, inf]
    """
    below = np.flatnonzero(values < 0 if touching else values <= 0)
    if len(below) == 0:
        return -np.inf
    j = int(below[-1])
    if j == len(values) - 1:
        return np.inf
    return float(logs[j] - values[j] / (values[j + 1] - values[j]) * (logs[j + 1] - logs[j]))


class Band:
    """A mean curve with its band, and the number of labels from which on it is above a target for good.

    The upper bound of that number is where the band's lower edge rises above the target for good. It is too small only
    if that edge lies above the target where the curve does not, at the one place where the curve leaves the target
    behind, so at most with probability alpha / 2, and testing many places costs nothing (Berger 1982). The lower bound
    is where the upper edge does.
    """

    def __init__(
        self,
        tables: dict[int, Array],
        *,
        target: float = 0.0,
        alpha: float = 0.05,
        clusters: ArrayLike | None = None,
        touching: bool = False,
    ) -> None:
        """Measure a curve.

        Args:
            tables: Number of labels, ascending, at least two -> `(n_draws, n_examples)` values, higher is better.
            touching: Whether the target itself counts as above it.
        """
        values = np.stack([by_cluster(table, clusters) for table in tables.values()])
        self.logs, self.touching = np.log2(list(tables)), touching
        _, self.n_seeds, self.n_draws = values.shape
        rows, columns, means = values.mean(axis=2), values.mean(axis=1), values.mean(axis=(1, 2))
        # Mean squares of `ftlib.stats.variance`, and mean products of any two numbers of labels beside them: (K, K).
        rest = (values - rows[:, :, None] - columns[:, None, :] + means[:, None, None]).reshape(len(means), -1)
        rows, columns, free = rows - means[:, None], columns - means[:, None], max(1, self.n_seeds - 1)
        self.squares = (
            self.n_draws * rows @ rows.T / free,
            self.n_seeds * columns @ columns.T / (self.n_draws - 1),
            rest @ rest.T / (free * (self.n_draws - 1)),
        )
        self.means = means - target
        # A mean that is the target but for rounding is the target, and a spread from rounding is none.
        self.nothing = 1e-12 * max(abs(target), float(np.abs(values).max()))
        self.means[np.abs(self.means) < self.nothing] = 0.0

        ends = zip(self.logs[:-1], self.logs[1:], strict=True)
        self.places = np.append(np.concatenate([np.linspace(*e, POINTS, endpoint=False) for e in ends]), self.logs[-1])
        # Between two numbers of labels the curve is a weighted mean of both tables.
        self.weights = np.stack([np.interp(self.places, self.logs, corner) for corner in np.eye(len(means))], axis=1)
        self.middle = self.weights @ self.means
        self.half = half_width(*self.errors(self.weights), self.n_seeds, self.n_draws, alpha)
        self.half[self.half < self.nothing] = 0.0
        self.shots = self._from_where(self.means, self.logs)
        """Labels per class, interpolated; -inf: above from the smallest number on; inf: not above at the largest."""
        self.low = min(self.shots, self._from_where(self.middle + self.half, self.places))
        self.high = max(self.shots, self._from_where(self.middle - self.half, self.places))
        """Bounds of the 1 - alpha interval, likewise."""

    def errors(self, weights: Array) -> tuple[Array, Array, Array]:
        """Standard errors of weighted means of the numbers of labels: see `ftlib.stats.variance.standard_errors`.

        Returns:
            From examples, from draws, and the least: each `(n_points,)`.
        """
        # Rounding can leave a square that is nothing just below 0.
        squares = [((weights @ products) * weights).sum(axis=1).clip(0) for products in self.squares]
        return standard_errors(*squares, self.n_seeds, self.n_draws)

    def above(self, which: int) -> float:
        """How surely the curve is above the target at one number of labels: 1 - the p-value of "it is not"."""
        mean = float(self.means[which])
        errors = [float(error[0]) for error in self.errors(np.eye(len(self.means))[[which]])]
        if max(errors) <= self.nothing:
            return float(mean > 0 or (self.touching and mean == 0))
        return 1 - VarianceComponents(mean, *errors, self.n_seeds, self.n_draws, np.nan, np.nan, np.nan).tail(0.0, 1)

    def _from_where(self, values: Array, places: Array) -> float:
        log = last_change(values, places, touching=self.touching)
        return float(2.0**log) if np.isfinite(log) else log


class Crossing(NamedTuple):
    """At which number of labels b overtakes a for good."""

    a: str
    b: str
    shots: float
    """Labels per class, interpolated; -inf: b is ahead from the smallest number measured on; inf: not at the largest;
    NaN: see `reason`."""
    low: float
    high: float
    """Bounds of the 1 - alpha interval, likewise."""
    ahead_first: float
    """How surely b is ahead at the smallest number of labels: 1 - the one-sided p-value of "it is not"."""
    ahead_last: float
    """How surely b is ahead at the largest."""
    n_draws: int
    """Draws of training examples; 1 where neither method draws."""
    n: int
    """Test examples."""
    sentence: str
    """The crossing in words."""
    reason: str
    """Why there is no number; empty otherwise."""


class Budget(NamedTuple):
    """How many labels a method needs for a target."""

    name: str
    target: float
    """In the unit of the scores."""
    shots: float
    """Labels per class, interpolated; -inf: reached from the smallest number measured on; inf: not at the largest; NaN:
    see `reason`."""
    low: float
    high: float
    """Bounds of the 1 - alpha interval, likewise."""
    reached_last: float
    """How surely the target is reached at the largest number of labels: 1 - the one-sided p-value of "it is not"."""
    n_draws: int
    """Draws of training examples; 1 where the method draws nothing."""
    n: int
    """Test examples."""
    sentence: str
    """The budget in words."""
    reason: str
    """Why there is no number; empty otherwise."""


def crossing(
    a: Curve,
    b: Curve,
    *,
    alpha: float = 0.05,
    clusters: ArrayLike | None = None,
    higher_is_better: bool = True,
) -> Crossing:
    """Find the number of labels per class from which on b is better than a.

    Args:
        b: The method that may overtake it, on the same draws and test examples. A number of labels at which only one of
            the two was measured is left out.

    Returns:
        The crossing with its interval; NaN with a reason where the two share fewer than 2 numbers of labels, or where
        there are fewer than 2 draws of what draws.

    b - a is -0.2 at 4 labels and 0.2 at 16: nothing half way between 2 and 4 doublings, at 8.

    >>> a = Curve("probe", (4, 16), (np.full((3, 5), 0.6), np.full((3, 5), 0.6)))
    >>> b = Curve("full", (4, 16), (np.full((3, 5), 0.4), np.full((3, 5), 0.8)))
    >>> found = crossing(a, b)
    >>> round(found.shots, 6), found.ahead_first, found.ahead_last
    (8.0, 0.0, 1.0)
    >>> print(found.sentence)
    full overtakes probe at 8 labels per class (3 draws, 5 test examples)
    """
    check_alpha(alpha)
    of_a, of_b = tables_of(a, b)
    shots = sorted(of_a.keys() & of_b.keys())
    size = _size(of_a, of_b)
    reason = unsure(a.name, of_a) or unsure(b.name, of_b)
    if len(shots) < 2:
        reason = "a crossing takes two numbers of labels at which both were measured; there is " + (
            "one" if shots else "none"
        )
    if reason:
        said = f"no crossing of {a.name} and {b.name}: {reason}"
        return Crossing(a.name, b.name, *[np.nan] * 5, *size, said, reason)
    up = 1.0 if higher_is_better else -1.0
    band = Band({k: up * (of_b[k] - of_a[k]) for k in shots}, alpha=alpha, clusters=clusters)
    said = f"{_said(_OVERTAKES, band, shots, a=a.name, b=b.name)} ({_aside(band, shots, size, 'ahead from the first')})"
    return Crossing(a.name, b.name, band.shots, band.low, band.high, band.above(0), band.above(-1), *size, said, "")


def label_budget(
    curve: Curve,
    target: float,
    *,
    alpha: float = 0.05,
    clusters: ArrayLike | None = None,
    higher_is_better: bool = True,
    unit: str = "points",
) -> Budget:
    """Find the number of labels per class from which on a method's mean stays at or above a target.

    Args:
        target: In the unit of the scores (accuracy: 0.7 is 70 points).
        unit: `points` shows the target times 100; any other unit shows it as it is.

    Returns:
        The number of labels with its interval; NaN with a reason as in `crossing`.

    0.5 at 4 labels and 0.7 at 16: 0.6 half way, at 8.

    >>> found = label_budget(Curve("probe", (4, 16), (np.full((3, 5), 0.5), np.full((3, 5), 0.7))), 0.6)
    >>> round(found.shots, 6), found.sentence
    (8.0, 'probe needs 8 labels per class for 60 points (3 draws, 5 test examples)')
    """
    check_alpha(alpha)
    if not np.isfinite(target):
        raise FtlibError(
            f"target: found {target}; allowed: a finite number, in the unit of the scores (0.7: 70 points)"
        )
    name, (tables,) = curve.name, tables_of(curve)
    size, goal = _size(tables), f"{100 * target if unit == 'points' else target:.4g} {unit}"
    reason = unsure(name, tables)
    if len(tables) < 2:
        reason = "it was measured at 1 number of labels, and a budget takes 2"
    if reason:
        return Budget(name, target, *[np.nan] * 4, *size, f"no label budget of {name} for {goal}: {reason}", reason)
    up, shots = (1.0 if higher_is_better else -1.0), list(tables)
    facing = {k: up * table for k, table in tables.items()}
    band = Band(facing, target=up * target, alpha=alpha, clusters=clusters, touching=True)
    said = f"{_said(_NEEDS, band, shots, name=name, goal=goal)} ({_aside(band, shots, size, 'reached from the first')})"
    return Budget(name, target, band.shots, band.low, band.high, band.above(-1), *size, said, "")


def _size(*curves: dict[int, Array]) -> tuple[int, int]:
    """Draws and test examples."""
    shapes = [table.shape for tables in curves for table in tables.values()]
    return max(draws for draws, _ in shapes), shapes[0][1]


_OVERTAKES = {
    "always": "{b} is ahead of {a} from the first, {first}",
    "never": "{b} is not ahead of {a} up to {last}",
    "unknown": "cannot tell whether {b} overtakes {a} within {last}",
    "or more": "{b} overtakes {a} at {low} or more, and may not do so within {most}",
    "or fewer": "{b} overtakes {a} at {high} or fewer, and may be ahead from the first, {least}",
    "at": "{b} overtakes {a} at {at}",
    "between": "{b} overtakes {a} between {low_number} and {high}",
}
_NEEDS = {
    "always": "{name} reaches {goal} from the first, {first}",
    "never": "{name} does not reach {goal} up to {last}",
    "unknown": "cannot tell whether {name} reaches {goal} within {last}",
    "or more": "{name} needs {low} or more for {goal}, and {most} may not be enough",
    "or fewer": "{name} needs {high} or fewer for {goal}, and {least} may be enough",
    "at": "{name} needs {at} for {goal}",
    "between": "{name} needs between {low_number} and {high} for {goal}",
}


def _said(sentences: Mapping[str, str], band: Band, shots: list[int], **names: str) -> str:
    """The sentence for which of the band's bounds are numbers."""
    numbers = {"low": band.low, "high": band.high, "at": band.shots, "first": shots[0], "last": shots[-1]}
    said = {name: _labels(number) for name, number in numbers.items() if np.isfinite(number)}
    if np.isfinite(band.low):
        said["low_number"] = _number(band.low)
    return sentences[_kind(band)].format(**said, least=shots[0], most=shots[-1], **names)


def _kind(band: Band) -> str:
    """Which of the bounds are numbers."""
    if band.low == band.high or (np.isfinite([band.low, band.high]).all() and _number(band.low) == _number(band.high)):
        return "always" if band.high == -np.inf else "never" if band.low == np.inf else "at"
    if np.isinf(band.low):
        return "or fewer" if np.isfinite(band.high) else "unknown"
    return "between" if np.isfinite(band.high) else "or more"


def _aside(band: Band, shots: list[int], size: tuple[int, int], first: str) -> str:
    """Say what a sentence rests on."""
    guess = f"best guess {_number(band.shots)}; " if np.isfinite(band.shots) else "best guess: "
    if np.isinf(band.shots):
        guess += f"{first}; " if band.shots < 0 else f"not within {shots[-1]}; "
    if _kind(band) in ("always", "never", "at"):
        guess = ""
    draws = f"{size[0]} draws, " if size[0] > 1 else ""
    return f"{guess}{draws}{grouped(size[1])} test examples"


def _labels(shots: float) -> str:
    return f"{_number(shots)} label{'s' * (_number(shots) != '1')} per class"


def _number(shots: float) -> str:
    """Whole labels from 10 on, halves and thirds below.

    >>> [_number(x) for x in (1, 5.31, 9.97, 26.7, 1234)]
    ['1', '5.3', '10', '27', '1 234']
    """
    return grouped(round(shots)) if shots >= 9.95 else f"{shots:.2g}"
