"""Learning curves: a method's scores at several numbers of labels, their mean, and the band around it.

Between two measured numbers of labels k a mean curve is read as straight in log2 k. The band's half width at every k,
measured or between, is that of `ftlib.spread.Spread`: it covers new draws of training examples and new test examples,
and at a measured k it is the interval that a comparison there would give (which for scores of 0 and 1 imagines two more
examples: `ftlib.difference`).
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ftlib.errors import FtlibError
from ftlib.spread import Array, Spread, as_scores, by_cluster, half_width, standard_errors

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

    Args:
        curves: One or more, over the same draws and test examples.

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
        values: `(n_points,)`.
        logs: `(n_points,)` ascending places.
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
            target: In the unit of the values.
            alpha: 1 - confidence.
            clusters: `(n_examples,)`: test examples that share a source count as one draw.
            touching: Whether the target itself counts as above it.
        """
        values = np.stack([by_cluster(table, clusters) for table in tables.values()])
        self.logs, self.touching = np.log2(list(tables)), touching
        _, self.n_seeds, self.n_draws = values.shape
        rows, columns, means = values.mean(axis=2), values.mean(axis=1), values.mean(axis=(1, 2))
        # Mean squares of `ftlib.spread`, and mean products of any two numbers of labels beside them: (K, K).
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
        """Standard errors of weighted means of the numbers of labels: see `ftlib.spread.standard_errors`.

        Args:
            weights: `(n_points, n_numbers)`.

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
        return 1 - Spread(mean, *errors, self.n_seeds, self.n_draws, np.nan, np.nan, np.nan).tail(0.0, 1)

    def _from_where(self, values: Array, places: Array) -> float:
        log = last_change(values, places, touching=self.touching)
        return float(2.0**log) if np.isfinite(log) else log
