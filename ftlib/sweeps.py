"""Learning-rate sweeps: a method at several rates, the same seeds and test examples at each, read from a study.

A sweep asks where a method learns best; it does not choose a rate for a result that is then reported on the same
examples, which would be too good. What choosing takes from chance is shown by `chosen_on_half`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ftlib.errors import FtlibError, unknown
from ftlib.intervals import Interval, interval
from ftlib.records import read_predictions, records_of
from ftlib.spread import Array, as_scores, by_cluster


class Sweep(NamedTuple):
    """One method at several learning rates."""

    name: str
    rates: tuple[float, ...]
    """Ascending."""
    scores: tuple[Array, ...]
    """One table per rate, each `(n_seeds, n_examples)`: values whose mean is the metric, higher is better. Rows are the
    same seeds and columns the same test examples everywhere."""
    clusters: ArrayLike | None = None
    """`(n_examples,)`: test examples that share a source count as one draw."""

    def levels(self) -> list[Interval]:
        """The mean at each rate with its interval, for new examples and new seeds."""
        return [interval(table, clusters=self.clusters) for table in self.scores]

    def series(self) -> tuple[list[float], list[float], list[float], list[float]]:
        """Rates, means in per cent, and their bounds: what `ftlib.plots.rates.by_rate` draws."""
        levels = self.levels()
        return list(self.rates), *([100 * level[i] for level in levels] for i in range(3))

    def at(self, rate: float) -> Array:
        """The table at the rate nearest to this one, by their ratio.

        >>> sweep = Sweep("full", (1e-4, 1e-3), (np.zeros((1, 2)), np.ones((1, 2))))
        >>> sweep.at(4e-4).tolist()
        [[1.0, 1.0]]
        """
        return self.scores[int(np.argmin(np.abs(np.log(self.rates) - np.log(rate))))]

    def best_tried(self) -> float:
        """The rate with the highest mean."""
        return self.rates[int(np.argmax([table.mean() for table in self.scores]))]


def by_source(sweep: Sweep) -> Array:
    """The tables of a sweep, checked: (n_rates, n_seeds, n_clusters), or n_examples where none share a source.

    Raises:
        FtlibError: Rates that do not ascend, tables that do not fit, or see `ftlib.spread.as_scores`.
    """
    name, rates, scores, clusters = sweep
    if len(rates) != len(scores) or not rates or rates[0] <= 0 or list(rates) != sorted(set(rates)):
        raise FtlibError(f"{name}: found {len(scores)} tables for the rates {rates}; allowed: one for each, ascending")
    tables = [as_scores(table, f"{name} at {rate:g}") for rate, table in zip(rates, scores, strict=True)]
    if len({table.shape for table in tables}) > 1:
        shapes = ", ".join(f"{table.shape[0]} x {table.shape[1]}" for table in tables)
        raise FtlibError(f"{name}: found seeds x examples {shapes}; allowed: the same at every rate")
    return np.stack([by_cluster(table, clusters) for table in tables])


class Chosen(NamedTuple):
    """The rate that half of the examples would choose, measured on the other half."""

    rate: float
    """One of those tried."""
    there: float
    """The mean on the half that chose it: too high by what choosing takes from chance."""
    level: Interval
    """On the other half."""


def chosen_on_half(sweep: Sweep, half: int = 0) -> Chosen:
    """Choose a rate on every second test example and measure it on the others, which had no say.

    Args:
        sweep: The method; examples that share a source stay together.
        half: 0 or 1: which half chooses.

    >>> tables = tuple(np.array([row, row], float) for row in ([1, 0, 0, 0], [1, 1, 1, 0]))
    >>> found = chosen_on_half(Sweep("full", (1e-4, 1e-3), tables))
    >>> found.rate, found.there, found.level.value
    (0.001, 1.0, 0.5)
    """
    by_source(sweep)
    source = np.arange(len(sweep.scores[0][0])) if sweep.clusters is None else np.asarray(sweep.clusters)
    chooses = np.unique(source, return_inverse=True)[1] % 2 == half
    means = [float(table[:, chooses].mean()) for table in sweep.scores]
    best = int(np.argmax(means))
    clusters = None if sweep.clusters is None else source[~chooses]
    level = interval(sweep.scores[best][:, ~chooses], clusters=clusters)
    return Chosen(sweep.rates[best], means[best], level)


def read_sweeps(study: str | Path, task: str = "", methods: Sequence[str] = ()) -> dict[str, Sweep]:
    """Read the learning-rate sweeps of a study: method -> sweep, of the seeds that are there at every rate.

    A run that diverged gives no answer, so all of its examples count as wrong; one that failed otherwise is missing.

    Args:
        study: Its folder.
        task: One of its tasks, with labels; empty: that of the first run at several rates.
        methods: Those that are wanted, in this order; empty: all.

    Raises:
        FtlibError: No method of the task at two or more rates, or not one that is wanted; runs of a method that differ
            in more than rate and seed; other test examples; or no seed at every rate.
    """
    import pandas as pd

    runs = []
    for folder, record in records_of(study):
        asked = dict(record.spec["resolved"])
        if asked["learning_rate"] and record.status in ("ok", "diverged") and asked["task"] == (task or asked["task"]):
            # As given: what a later version adds has no part in it.
            others = {k: v for k, v in record.spec["passed"].items() if k not in ("learning_rate", "seed")}
            place = (asked["task"], asked["method"], asked["learning_rate"], asked["seed"])
            runs.append((*place, str(others), folder, record.status))
    table = pd.DataFrame(runs, columns=["task", "method", "rate", "seed", "others", "folder", "status"])
    counts = table.groupby(["task", "method"], sort=False)["rate"].nunique()
    swept = counts[counts > 1].index.tolist()
    if not swept:
        raise FtlibError(f"{study}: {task or 'no task'} was not run at several learning rates; found {len(table)} runs")
    table, there = table[table["task"] == swept[0][0]], [method for name, method in swept if name == swept[0][0]]
    found, examples = {}, None
    for method in methods or there:
        if method not in there:
            raise unknown("method at several learning rates", method, there)
        mine = table[table["method"] == method]
        if mine["others"].nunique() > 1:
            raise FtlibError(f"{study}: runs of {method} differ in more than learning_rate and seed; a sweep must not")
        rates = sorted(mine["rate"].unique())
        seeds = [seed for seed, some in mine.groupby("seed") if set(some["rate"]) == set(rates)]
        if not seeds:
            raise FtlibError(f"{study}: no seed of {method} finished at every one of the rates {rates}")
        done = mine.set_index(["rate", "seed"])
        scores = {}
        for place, run in done.iterrows():
            if run["status"] == "diverged":
                continue
            rows = read_predictions(run["folder"]).query("stage == 'after' and part == 'test'").sort_values("id")
            examples = rows if examples is None else examples
            if rows["id"].tolist() != examples["id"].tolist() or rows["label"].isna().any():
                raise FtlibError(f"{run['folder']}: allowed: the same test examples in every run, with labels")
            scores[place] = (rows["label"] == rows["prediction"]).to_numpy(dtype=float)
        if examples is None:
            raise FtlibError(f"{study}: every run of {method} diverged; lower rates are needed")
        wrong = np.zeros(len(examples))
        clusters = None if examples["cluster"].isna().any() else examples["cluster"].to_numpy()
        tables = tuple(np.stack([scores.get((rate, seed), wrong) for seed in seeds]) for rate in rates)
        found[method] = Sweep(method, tuple(map(float, rates)), tables, clusters)
    return found
