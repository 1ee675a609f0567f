"""Figures of learning-rate sweeps."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ftlib.plots.along import Series
from ftlib.plots.ink import COLOURS, MARKERS, PAPER, described, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def by_rate(
    ax: "Axes", series: Series, *, label: str, best: Mapping[str, tuple[float, float, float]] | None = None
) -> "Axes":
    """Quality against learning rate, a line with its band per method; below it, where each is best.

    Args:
        ax: Where to draw.
        series: Name -> (rates, values, lower bounds, upper bounds).
        label: What the values are.
        best: Name -> (rate, low, high) where a method is best; NaN, 0 and inf where there is no such bound.
    """
    rates = sorted({rate for some, *_ in series.values() for rate in some})
    for number, (name, (some, values, lows, highs)) in enumerate(series.items()):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        ax.fill_between(some, lows, highs, color=colour, alpha=0.14, linewidth=0)
        ax.plot(
            some, values, color=colour, marker=marker, markersize=5.5, markeredgecolor=PAPER, markeredgewidth=0.5,
            label=shorten(name),
        )  # fmt: skip
    least, most = ax.get_ylim()
    step = 0.06 * (most - least)
    for number, (name, (rate, low, high)) in enumerate((best or {}).items()):
        place = list(series).index(name)
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        height = least - (number + 0.5) * step
        # A bound that is not known leaves the picture.
        ends = [max(low, rates[0] / 3), min(high, 3 * rates[-1])]
        ax.plot(ends, [height] * 2, color=colour, linewidth=2.2, solid_capstyle="butt")
        if np.isfinite(rate):
            ax.plot([rate], [height], marker=marker, color=colour, markersize=6, linestyle="none")
    ax.set_ylim(least - (len(best or {}) + 0.5) * step, most)
    ax.set_xscale("log")
    ax.set_xlim(rates[0] / 1.6, 1.6 * rates[-1])
    ax.set_xlabel("learning rate" + (" (bars below: where each is best, with its interval)" if best else ""))
    ax.set_ylabel(label)
    ax.legend(frameon=False)
    said = [
        f"{name}: " + ", ".join(f"{value:.3f} at {rate:g}" for rate, value in zip(some, values, strict=True))
        for name, (some, values, _, _) in series.items()
    ]
    said += [
        f"{name} is best at {rate:.2g} ({low:.2g} to {high:.2g})" for name, (rate, low, high) in (best or {}).items()
    ]
    return described(ax, f"{label} against learning rate. {'; '.join(said)}.")
