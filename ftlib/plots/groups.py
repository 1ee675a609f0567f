"""Figures of groups of people."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ftlib.plots.ink import COLOURS, MARKERS, PAPER, described, legend_below, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Values = tuple[float, float, float]
"""Value, lower and upper bound; NaN where there is none."""


def rates_by_group(
    ax: "Axes", methods: Mapping[str, Mapping[str, tuple[Values | None, Values]]], *, label: str
) -> "Axes":
    """A band of rows per method, a row per group: before adapting hollow, after it filled, each with its interval.

    Args:
        ax: Where to draw.
        methods: Name -> group -> (before, after); the first name is at the top. Before is None where there is none.
        label: What the values are, for the axis.
    """
    groups = list(dict.fromkeys(group for rows in methods.values() for group in rows))
    step = 0.8 / max(len(groups), 1)
    said = []
    for band, (name, rows) in enumerate(methods.items()):
        for group, (before, after) in rows.items():
            number = groups.index(group)
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            place = -band + 0.4 - step * (number + 0.5)
            for shift, values, filled in ((step / 5, before, False), (-step / 5, after, True)):
                if values is None or not np.isfinite(values[0]):
                    continue
                value, low, high = values
                if np.isfinite([low, high]).all():
                    width, pale = (2.0, 1.0) if filled else (1.2, 0.55)
                    ax.plot([low, high], [place + shift] * 2, color=colour, linewidth=width, alpha=pale, zorder=2)
                ax.plot(
                    [value], [place + shift], marker=marker, linestyle="none", markersize=5, zorder=3,
                    markeredgecolor=colour, markerfacecolor=colour if filled else PAPER,
                )  # fmt: skip
            was = "" if before is None else f"{_span(before)} before, "
            said.append(f"{name}, {group}: {was}{_span(after)} after")
    for number, group in enumerate(groups):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        ax.plot([], [], color=colour, marker=marker, linestyle="none", label=shorten(group))
    ax.set_yticks([-band for band in range(len(methods))], [shorten(name) for name in methods])
    ax.set_ylim(-len(methods) + 0.5, 0.5)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(label)
    legend_below(ax)
    return described(ax, f"{label} of every group, hollow before adapting and filled after it. {'; '.join(said)}.")


def _span(values: Values) -> str:
    value, low, high = values
    return f"{value:.1f}" + (f" ({low:.1f} to {high:.1f})" if np.isfinite([low, high]).all() else "")
