"""What is kept against what is gained."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ftlib.plots.ink import COLOURS, FAINT, LINES, MARKERS, PAPER, described, legend_below, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def dial(
    ax: "Axes",
    names: Sequence[str],
    forgotten: ArrayLike,
    gained: ArrayLike,
    *,
    label: str,
    forgotten_label: str,
    lines: Mapping[str, Sequence[int]],
    chosen: int | None = None,
    untouched: float | None = None,
) -> "Axes":
    """Quality against what was forgotten, each setting a point with both intervals; better is up and to the left.

    Args:
        ax: Where to draw.
        names: One per point.
        forgotten: (n, 3) what was forgotten, with its lower and upper bound.
        gained: (n, 3) quality on the task, with its lower and upper bound.
        label: What the quality is.
        forgotten_label: What was forgotten, and in what unit.
        lines: Name -> the points between untouched and adapted weights, in the order of the way.
        chosen: A point that is filled: what the sentence below names.
        untouched: The untouched model's quality.
    """
    forgotten, gained = np.asarray(forgotten, dtype=float), np.asarray(gained, dtype=float)
    on_line = {i for some in lines.values() for i in some}
    for number, (name, some) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        ax.plot(forgotten[list(some), 0], gained[list(some), 0], color=colour, linewidth=1.4, label=shorten(name))
    free = [i for i in range(len(names)) if i not in on_line]
    for i in range(len(names)):
        number = next((k for k, some in enumerate(lines.values()) if i in some), len(lines))
        place = free.index(i) + len(lines) if i in free else number
        colour = COLOURS[place % len(COLOURS)]
        marker = MARKERS[free.index(i) % len(MARKERS)] if i in free else "."
        for x, y in (((0, 0), (1, 2)), ((1, 2), (0, 0))):
            if np.isfinite([*forgotten[i, list(x)], *gained[i, list(y)]]).all():
                ax.plot(forgotten[i, list(x)], gained[i, list(y)], color=colour, linewidth=0.9, alpha=0.6, zorder=2)
        ax.plot(
            [forgotten[i, 0]], [gained[i, 0]], marker=marker, linestyle="none", zorder=3, markeredgecolor=colour,
            markerfacecolor=colour if i == chosen or i not in free else PAPER,
            label=shorten(_beside(names[i], [*lines, *names])) if i in free else None,
        )  # fmt: skip
    ax.axvline(0, color=FAINT, linestyle=(0, (4, 3)), linewidth=1)
    if untouched is not None and np.isfinite(untouched):
        ax.axhline(untouched, color=LINES, linewidth=1.2)
    ax.set_xlabel(forgotten_label)
    ax.set_ylabel(label)
    ax.margins(x=0.1, y=0.12)
    legend_below(ax)
    points = "; ".join(f"{names[i]} {gained[i, 0]:.3f} with {forgotten[i, 0]:.3f}" for i in range(len(names)))
    base = "" if untouched is None else f" The untouched model: {untouched:.3f}."
    return described(ax, f"{label} against {forgotten_label}: {points}.{base}")


def _beside(name: str, others: Sequence[str]) -> str:
    """A name without what another one, which stands beside it, says already.

    >>> _beside("full learning_rate=0.001 replay=0.2", ["full learning_rate=0.001", "lora"])
    '… replay=0.2'
    >>> _beside("lora", ["full", "lora"])
    'lora'
    """
    said = max((other for other in others if name.startswith(f"{other} ")), key=len, default="")
    return f"…{name[len(said) :]}" if said else name
