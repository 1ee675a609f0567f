"""Learning-rate sweeps: at which rate a method learns best, how sure that is, and how many times another's best it is.

A sweep runs a method at several rates with the same seeds and measures the same test examples. It asks where a method
learns best; it does not choose a rate for a result that is then reported on the same examples, which would be too good:
`chosen_on_half` shows what choosing takes from chance.

The best rate is the top of the parabola through the best mean and its two neighbours, in the logarithm of the rate. Its
interval is that of the top when chance is drawn anew: test examples with replacement (the same for two methods that are
compared), and what training moved each mean by as normal, with the variance that the seeds show among the five rates
around the best once seeds and rates are taken out, divided by a chi-squared sample of its degrees of freedom. Drawing
the few seeds themselves with replacement would be too narrow: `tests/records/test_lr_sweep.py` simulates how
often the interval is right.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ftlib.config.methods import METHODS
from ftlib.core.errors import FtlibError, unknown
from ftlib.records import records_of
from ftlib.records.predictions import Part, read_parts
from ftlib.stats.intervals import Interval, interval
from ftlib.stats.power import grouped
from ftlib.stats.variance import Array, as_scores, by_cluster, check_alpha

DRAWS = 4000
"""Times chance is drawn anew for an interval."""

AROUND = 2
"""Rates on either side of the best whose seeds say how much training varies: farther off it varies otherwise."""


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
        """Rates, means in per cent, and their bounds: what `ftlib.report.plots.lines.by_rate` draws."""
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
        FtlibError: Rates that do not ascend, tables that do not fit, or see `ftlib.stats.variance.as_scores`.
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
        task: One of its tasks, with labels; empty: that of the first run at several rates.
        methods: Those that are wanted, in this order; empty: all, in the order of METHODS.

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
            runs.append((*place, str(others), folder, record))
    table = pd.DataFrame(runs, columns=["task", "method", "rate", "seed", "others", "folder", "record"])
    counts = table.groupby(["task", "method"], sort=False)["rate"].nunique()
    swept = counts[counts > 1].index.tolist()
    if not swept:
        raise FtlibError(f"{study}: {task or 'no task'} was not run at several learning rates; found {len(table)} runs")
    table, there = table[table["task"] == swept[0][0]], [method for name, method in swept if name == swept[0][0]]
    there.sort(key=lambda method: [*METHODS, method].index(method))
    found, cache = {}, {}
    examples: Part | None = None
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
            if run["record"].status == "diverged":
                continue
            parts = read_parts(run["folder"] / "predictions.parquet", run["record"].metrics, cache)
            part = parts["after", "test"]
            examples = examples or part
            if part.truth is None or part.same != examples.same:
                raise FtlibError(f"{run['folder']}: allowed: the same test examples in every run, with labels")
            scores[place] = (part.truth == part.chosen).astype(float)
        if examples is None:
            raise FtlibError(f"{study}: every run of {method} diverged; lower rates are needed")
        wrong = np.zeros(len(examples.ids))
        tables = tuple(np.stack([scores.get((rate, seed), wrong) for seed in seeds]) for rate in rates)
        found[method] = Sweep(method, tuple(map(float, rates)), tables, examples.clusters)
    return found


class Best(NamedTuple):
    """The rate at which a method learns best."""

    name: str
    rate: float
    """Interpolated; NaN: see `reason`."""
    low: float
    """Lower bound of the 1 - alpha interval; 0: it may lie below every rate that was tried."""
    high: float
    """Upper bound; inf: it may lie above every rate that was tried."""
    n_seeds: int
    n: int
    """Test examples."""
    sentence: str
    reason: str
    """Why there is no number; empty otherwise."""


class Ratio(NamedTuple):
    """How many times the best rate of a the best rate of b is."""

    a: str
    b: str
    ratio: float
    """NaN: see `reason`."""
    low: float
    """Lower bound of the 1 - alpha interval; 0: none is known."""
    high: float
    """Upper bound; inf: none is known."""
    verdict: Literal["holds", "does not hold", "undecided"]
    """What the interval says of the claim."""
    n_seeds: int
    n: int
    sentence: str
    reason: str


def best_rate(sweep: Sweep, *, rng: np.random.Generator, alpha: float = 0.05) -> Best:
    """Find the learning rate at which a method learns best.

    Returns:
        The rate with its interval; NaN with a reason where the best of those tried is the lowest or the highest (then
        the interval says on which side it may lie), and where there are fewer than 3 rates or 2 seeds.

    Raises:
        FtlibError: Rates that do not ascend, or tables that do not fit.

    The tops of 0.2, 0.4, 0.2 and of 0.1, 0.3, 0.3: at the middle one, and half way to the last in the logarithm.

    >>> sweep = Sweep("full", (1e-4, 1e-3, 1e-2), tuple(np.full((3, 4), mean) for mean in (0.2, 0.4, 0.2)))
    >>> print(best_rate(sweep, rng=np.random.default_rng(0)).sentence)
    full learns best at a rate of 0.001 (95 % interval 0.001 to 0.001; 3 seeds, 4 test examples)
    >>> flat = sweep._replace(scores=tuple(np.full((3, 4), mean) for mean in (0.1, 0.3, 0.3)))
    >>> round(best_rate(flat, rng=np.random.default_rng(0)).rate, 6)
    0.003162
    """
    check_alpha(alpha)
    tables = by_source(sweep)
    size = tables.shape[1], len(sweep.scores[0][0])
    if reason := _too_few(sweep):
        return Best(sweep.name, *[np.nan] * 3, *size, f"no best rate of {sweep.name}: {reason}", reason)
    (low, high), (least, most) = _drawn([sweep], [tables], rng)[0], _top(sweep, tables)
    low, high = _bounds(low, high, alpha)
    aside = f"({_span(low, high, alpha)}; {size[0]} seeds, {grouped(size[1])} test examples)"
    if least == most:
        said = f"{sweep.name} learns best at a rate of {10**least:.2g} {aside}"
        return Best(sweep.name, 10**least, low, high, *size, said, "")
    reason = f"the best rate tried is the {'lowest' if np.isinf(least) else 'highest'}, so a better one may lie beyond"
    return Best(sweep.name, np.nan, low, high, *size, f"{sweep.name}: {reason} {aside}", reason)


def ratio_of_best(
    a: Sweep,
    b: Sweep,
    *,
    rng: np.random.Generator,
    claim: float = 10.0,
    within: float = 2.0,
    alpha: float = 0.05,
) -> Ratio:
    """Find how many times the best learning rate of a the best rate of b is, and whether a claim about that holds.

    Args:
        b: Another, measured on the same test examples.
        claim: The ratio that is claimed.
        within: The factor, above 1, by which a ratio may miss the claim and still be called as claimed.

    Returns:
        The claim "holds" where the interval lies within claim / within and claim * within, "does not hold" where it
        lies outside, and is undecided otherwise. The ratio is NaN with a reason where a best rate is.

    Raises:
        FtlibError: See `best_rate`; other test examples; or claim or within that are not allowed.

    >>> full = Sweep("full", (1e-4, 1e-3, 1e-2), tuple(np.full((3, 4), mean) for mean in (0.2, 0.4, 0.2)))
    >>> lora = full._replace(name="lora", rates=(1e-3, 1e-2, 1e-1))
    >>> found = ratio_of_best(full, lora, rng=np.random.default_rng(0))
    >>> round(found.ratio, 6), found.verdict
    (10.0, 'holds')
    """
    check_alpha(alpha)
    if claim <= 0 or within <= 1:
        raise FtlibError(f"claim, within: found {claim:g}, {within:g}; allowed: a ratio above 0, a factor above 1")
    tables = [by_source(a), by_source(b)]
    examples = {len(one.scores[0][0]) for one in (a, b)}
    if len(examples) > 1:
        raise FtlibError(f"{a.name} and {b.name}: found {sorted(examples)} test examples; allowed: the same for both")
    size = min(table.shape[1] for table in tables), examples.pop()
    if reason := _too_few(a) or _too_few(b):
        said = f"no ratio of {b.name} to {a.name}: {reason}"
        return Ratio(a.name, b.name, *[np.nan] * 3, "undecided", *size, said, reason)
    (a_least, a_most), (b_least, b_most) = _drawn([a, b], tables, rng)
    low, high = _bounds(b_least - a_most, b_most - a_least, alpha)
    ends = [one.name for one, table in zip((a, b), tables, strict=True) if not np.isfinite(_top(one, table)).all()]
    reason = f"the best rate of {' and of '.join(ends)} lies at an end of those tried" if ends else ""
    ratio = np.nan if reason else float(10 ** (_top(b, tables[1])[0] - _top(a, tables[0])[0]))
    verdict: Literal["holds", "does not hold", "undecided"] = "undecided"
    if claim / within <= low and high <= claim * within:
        verdict = "holds"
    elif high < claim / within or low > claim * within:
        verdict = "does not hold"
    aside = f"({_span(low, high, alpha)}; {size[0]} seeds, {grouped(size[1])} test examples)"
    times = f"{ratio:.2g} times that of {a.name}" if not reason else f"not known as a multiple of {a.name}'s: {reason}"
    judged = {
        "holds": f"{claim:g} times holds, to within a factor of {within:g}",
        "does not hold": f"{claim:g} times does not hold, not even to within a factor of {within:g}",
        "undecided": f"whether it is {claim:g} times, to within a factor of {within:g}, is undecided",
    }[verdict]
    said = f"the best rate of {b.name} is {times} {aside}; {judged}"
    return Ratio(a.name, b.name, ratio, low, high, verdict, *size, said, reason)


def _too_few(sweep: Sweep) -> str:
    if len(sweep.rates) < 3:
        return f"{sweep.name} was run at {len(sweep.rates)} rates, and a top between them takes 3"
    if len(sweep.scores[0]) < 2:
        return f"{sweep.name} has one seed, which does not show how seeds differ"
    return ""


def _top(sweep: Sweep, tables: Array) -> tuple[float, float]:
    least, most = _tops(np.log10(sweep.rates), tables.mean(axis=(1, 2))[None])
    return float(least[0]), float(most[0])


def _tops(logs: Array, means: Array) -> tuple[Array, Array]:
    """Where curves are highest, as bounds: equal within, one infinite where the highest mean is the first or the last.

    Args:
        logs: `(n_rates,)` ascending places.
        means: `(n_curves, n_rates)`.

    >>> least, most = _tops(np.array([0.0, 1.0, 2.0]), np.array([[0.0, 1.0, 0.0], [2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]))
    >>> least.tolist(), most.tolist()
    ([1.0, -inf, 2.0], [1.0, 0.0, inf])
    """
    best = means.argmax(axis=1)
    middle, curve = best.clip(1, len(logs) - 2), np.arange(len(means))
    left, right = logs[middle] - logs[middle - 1], logs[middle + 1] - logs[middle]
    height = means[curve, middle]
    falls, rises = height - means[curve, middle + 1], height - means[curve, middle - 1]
    bend = left * falls + right * rises
    shift = (right**2 * rises - left**2 * falls) / np.where(bend > 0, 2 * bend, 1.0)
    top = logs[middle] + shift
    first, last = best == 0, best == len(logs) - 1
    least = np.where(first, -np.inf, np.where(last, logs[-1], top))
    return least, np.where(last, np.inf, np.where(first, logs[0], top))


def _drawn(sweeps: list[Sweep], tables: list[Array], rng: np.random.Generator) -> list[tuple[Array, Array]]:
    """The tops of every sweep when chance is drawn anew, the same examples for all: see the module."""
    n = tables[0].shape[2]
    examples = rng.multinomial(n, np.full(n, 1 / n), DRAWS) / n
    found = []
    for sweep, table in zip(sweeps, tables, strict=True):
        means = table.mean(axis=2)
        best = int(means.mean(axis=1).argmax())
        near = means[max(0, best - AROUND) : best + AROUND + 1]
        rest = near - near.mean(axis=0) - near.mean(axis=1, keepdims=True) + near.mean()
        free = (near.shape[0] - 1) * (near.shape[1] - 1)
        variance = float((rest**2).sum()) / rng.chisquare(free, DRAWS) / near.shape[1]
        noise = rng.standard_normal((DRAWS, len(means))) * np.sqrt(variance)[:, None]
        found.append(_tops(np.log10(sweep.rates), examples @ table.mean(axis=1).T + noise))
    return found


def _bounds(least: Array, most: Array, alpha: float) -> tuple[float, float]:
    # No mean of two draws: one of them may be infinite.
    low = np.quantile(least, alpha / 2, method="lower")
    return float(10**low), float(10 ** np.quantile(most, 1 - alpha / 2, method="higher"))


def _span(low: float, high: float, alpha: float) -> str:
    if low == 0 and high == np.inf:
        return f"{100 * (1 - alpha):g} % interval without bounds"
    bounds = f"{low:.2g} to {high:.2g}" if low > 0 and high < np.inf else f"{low:.2g} or more"
    return f"{100 * (1 - alpha):g} % interval {f'{high:.2g} or less' if low == 0 else bounds}"
