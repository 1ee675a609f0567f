"""How exposed planted secrets are."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ftlib.plots.ink import COLOURS, FAINT, MARKERS, PAPER, described, legend_below, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def exposure(
    ax: "Axes",
    series: Mapping[str, tuple[Sequence[float], ...]],
    *,
    most: float | None = None,
    chance: float | None = None,
) -> "Axes":
    """Exposure against how often a secret was planted, a line with its intervals per method or state.

    Args:
        ax: Where to draw.
        series: Name -> (repetitions, values, lower bounds, upper bounds), in bits.
        most: The highest exposure that can be seen: a dashed line.
        chance: The mean exposure of a secret that was never seen: a line.
    """
    ticks = sorted({count for counts, *_ in series.values() for count in counts})
    for number, (name, (counts, *bounds)) in enumerate(series.items()):
        values, low, high = (np.asarray(bound, dtype=float) for bound in bounds)
        # Side by side, since intervals at one place would cover each other.
        places = np.array([ticks.index(count) for count in counts]) + 0.09 * (number - (len(series) - 1) / 2)
        ax.errorbar(
            places, values, yerr=[values - low, high - values], color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)], markersize=5.5, markeredgecolor=PAPER, markeredgewidth=0.5,
            capsize=2.5, elinewidth=1, label=shorten(name),
        )  # fmt: skip
    for value, style, said in ((most, (0, (5, 3)), "most that is seen"), (chance, "-", "chance")):
        if value is not None:
            ax.axhline(value, color=FAINT, linestyle=style, linewidth=1.1, zorder=1.5, label=said)
    ax.set_xticks(range(len(ticks)), [f"{tick:g}" for tick in ticks])
    ax.set_ylim(bottom=0)
    ax.set_xlabel("times planted in the training text")
    ax.set_ylabel("exposure, bits (lower is better)")
    legend_below(ax)
    lines = [
        f"{name}: " + ", ".join(f"{value:.2f} bits at {count:g}" for count, value in zip(counts, values, strict=True))
        for name, (counts, values, *_) in series.items()
    ]
    if chance is not None:
        lines.append(f"chance: {chance:.2f} bits")
    if most is not None:
        lines.append(f"most that is seen: {most:.2f} bits")
    return described(ax, f"Exposure against times planted. {'; '.join(lines)}.")
