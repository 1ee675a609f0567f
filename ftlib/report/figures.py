"""The report's figures: which to draw, from what, each with its description and its numbers as a table."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ftlib import plots
from ftlib.report import say
from ftlib.report.contest import Contest
from ftlib.report.entrants import Contestant, run_values
from ftlib.report.svg import drawing, svg

MOST_ROWS = 30
"""Methods a figure shows; the tables hold them all."""


class Figure(NamedTuple):
    """One figure, ready to be put on the page."""

    kind: str
    title: str
    caption: str
    svg: str
    alt: str
    header: tuple[str, ...]
    """Of the table that says the same."""
    rows: tuple[tuple[str, ...], ...]
    unfolded: bool = False
    """Whether the table is shown at once, since it says more than the picture."""


def _forest(contest: Contest) -> Figure:
    """The primary metric of every method with its interval."""
    metric, shown = contest.metric, contest.contestants[:MOST_ROWS]
    by = say.scale(metric)
    before = next((one for one in contest.contestants if one.untouched), None)
    with drawing(0.75 + 0.3 * len(shown)) as ax:
        plots.forest(
            ax,
            [one.name for one in shown],
            [by * one.level.value for one in shown],
            [by * one.level.low for one in shown],
            [by * one.level.high for one in shown],
            label=say.heading(metric),
            reference=("untouched", by * before.level.value) if before else None,
            faint=[one.baseline or one.untouched for one in shown],
        )
        return figure_of(
            ax,
            "forest",
            f"{title(say.name(metric))} of every method",
            f"Dots are means over seeds, lines 95 % intervals for new test {say.noun(metric)}s and new seeds. Two "
            "methods can differ although their lines overlap: comparisons are paired, so read the table of comparisons "
            "for that.",
            ("method", say.heading(metric), "95 % interval"),
            [(one.name, say.level(metric, one.level.value), say.span(metric, *one.level[1:])) for one in shown],
        )


def main_figures(contest: Contest) -> Iterator[Figure]:
    """The primary metric of every method, and its spread from seed to seed where there are several."""
    yield _forest(contest)
    if any(len(one.parts) > 1 for one in contest.contestants):
        yield _seeds(contest)


class _Cost(NamedTuple):
    """How a cost is drawn and said."""

    kind: str
    label: str
    scale: float
    said: Callable[[float], str]


_COSTS = {
    "train_seconds": _Cost("cost-time", "training time, seconds", 1.0, say.seconds),
    "peak_memory_bytes": _Cost("cost-memory", "peak memory, GB", 1e-9, say.size),
    "trainable_parameters": _Cost("cost-parameters", "trainable parameters, thousands", 1e-3, say.count),
}


def cost_figures(contest: Contest) -> Iterator[Figure]:
    """Quality against what it takes: time, memory, what moves; each only where there is something to see."""
    for cost, how in _COSTS.items():
        if figure := _cost(contest, cost, how):
            yield figure


def _cost(contest: Contest, cost: str, how: _Cost) -> Figure | None:
    rows = [row for row in contest.pareto if row["cost"] == cost][:MOST_ROWS]
    if len(rows) < 2:
        return None
    metric, by = contest.metric, say.scale(contest.metric)
    found = [contest.find(row["name"]) for row in rows]
    named = how.label.partition(",")[0]
    with drawing(3.4 + 0.16 * math.ceil(len(rows) / 2)) as ax:
        plots.cost_quality(
            ax,
            [row["name"] for row in rows],
            [how.scale * row["cost_value"] for row in rows],
            [by * one.level.value for one in found],
            [by * one.level.low for one in found],
            [by * one.level.high for one in found],
            label=say.heading(metric),
            on_front=[row["on_front"] for row in rows],
            cost_label=how.label,
        )
        return figure_of(
            ax,
            how.kind,
            f"{title(say.name(metric))} against {named}",
            "Filled points: nothing cheaper is as good. The table says how often each would be on that front, were the "
            f"test {say.noun(metric)}s and seeds drawn again; with few seeds such probabilities are rough.",
            ("method", named, say.heading(metric), "on the front"),
            [
                (
                    row["name"],
                    how.said(row["cost_value"]),
                    say.level(metric, row["value"]),
                    say.likelihood(row["probability"]),
                )
                for row in rows
            ],
        )


def _seeds(contest: Contest) -> Figure:
    metric, by = contest.metric, say.scale(contest.metric)
    shown = [one for one in contest.contestants if one.draws][:MOST_ROWS]
    with drawing(0.7 + 0.3 * len(shown)) as ax:
        plots.seeds(
            ax, {one.name: [by * v for v in run_values(one, metric)] for one in shown}, label=say.heading(metric)
        )
        rows = []
        for one in shown:
            values = run_values(one, metric)
            spread = say.difference(metric, max(values) - min(values), signed=False)
            rows.append((one.name, ", ".join(say.level(metric, v) for v in values), spread))
        return figure_of(
            ax,
            "seeds",
            "Spread from seed to seed",
            "Every dot is one run; the bar is their mean. Methods that draw nothing run once and are left out.",
            ("method", f"{say.heading(metric)} of each run", "best minus worst"),
            rows,
        )


def confusion_figure(one: Contestant, words: Callable[[str], str]) -> Figure:
    """Where each label's examples went, all seeds of a method together."""
    parts = list(one.parts.values())
    labels, k = [words(label) for label in parts[0].labels], len(parts[0].labels)
    counts = sum(np.bincount(part.truth * k + part.chosen, minlength=k * k) for part in parts).reshape(k, k)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full((k, k), np.nan), where=totals > 0)
    with drawing(min(4.6, 2.4 + 0.25 * k)) as ax:
        plots.confusion(ax, shares, labels, name=one.short)
        off = [(shares[i, j], i, j) for i in range(k) for j in range(k) if i != j and counts[i, j]]
        off.sort(key=lambda entry: (-entry[0], entry[1], entry[2]))
        return figure_of(
            ax,
            "confusion",
            one.short,
            "",
            ("true label", "taken for", "share"),
            [(labels[i], labels[j], f"{100 * share:.0f} %") for share, i, j in off[:15]],
        )._replace(unfolded=k > plots.MOST_CELLS_WITH_NUMBERS)


def title(said: str) -> str:
    """Words with a capital in front.

    >>> title("f1_macro of every method")
    'F1_macro of every method'
    """
    return said[0].upper() + said[1:]


def figure_of(
    ax: Any, kind: str, title: str, caption: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]
) -> Figure:
    """A figure of what is drawn on these axes, with the table that says the same."""
    said = " ".join(filter(None, map(plots.alt_text, ax.figure.axes)))
    return Figure(kind, title, caption, svg(ax.figure), said, header, tuple(rows))
