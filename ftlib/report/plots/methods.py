"""Methods beside each other: their values, their costs, the spread of their runs, their mistakes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ftlib.report.plots import FAINT, INK, LINES, PAPER, clean, described, label_of, legend_below, looks, shorten
from ftlib.report.plots.heat import LEVELS, cells

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CELLS_WITH_NUMBERS = 12
"""Labels up to which a confusion matrix writes its shares into the cells."""


def forest(
    ax: "Axes",
    names: Sequence[str],
    values: ArrayLike,
    lows: ArrayLike,
    highs: ArrayLike,
    *,
    label: str,
    reference: tuple[str, float] | None = None,
    tied: Sequence[bool] = (),
) -> "Axes":
    """One row per method: its value as its marker, its interval as a line; the first name is at the top.

    `lows`: (n,) lower bounds; NaN where unknown.
    `reference`: A name and a value to draw a dashed line at.
    `tied`: (n,) whether a method shares the first place: a bracket joins those that do.
    """
    import seaborn as sns

    values, lows, highs = (np.asarray(x, dtype=float) for x in (values, lows, highs))
    look, n = list(looks(names).values()), len(names)
    places = [str(place) for place in range(n)][::-1]
    ends = np.where(np.isfinite(lows) & np.isfinite(highs), [lows, highs], values)
    sns.pointplot(
        x=np.concatenate([ends[0], values, ends[1]]), y=places * 3, hue=places * 3, order=places[::-1],
        hue_order=places, orient="h", estimator="median", errorbar=("pi", 100), linestyles="none", legend=False, ax=ax,
        palette=[colour for colour, _ in look], markers=[marker for _, marker in look], markersize=6,
        err_kws={"linewidth": 2.2, "solid_capstyle": "butt"},
    )  # fmt: skip
    first = [n - 1 - place for place, shares in enumerate(tied) if shares]
    if len(first) > 1:
        ends = [first[0] + 0.3, first[-1] - 0.3]
        ax.plot([1.02] * 2, ends, transform=ax.get_yaxis_transform(), color=INK, linewidth=1.4, clip_on=False)
        for place in first:
            across = ax.get_yaxis_transform()
            ax.plot([1.005, 1.02], [place] * 2, transform=across, color=INK, linewidth=1.4, clip_on=False)
        ax.text(
            1.035, sum(ends) / 2, "not shown\nto differ", transform=ax.get_yaxis_transform(), fontsize=8, color=FAINT,
            va="center",
        )  # fmt: skip
    if reference and np.isfinite(reference[1]):
        ax.axvline(reference[1], color=FAINT, linestyle=(0, (4, 3)), linewidth=1)
        ax.annotate(
            clean(reference[0]),
            (reference[1], 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=FAINT,
        )
    ax.set_yticks(range(n)[::-1], [label_of(name) for name in names])
    ax.set_ylim(-0.6, n - 0.4)
    ax.set_ylabel("")
    ax.grid(False, axis="y")
    ax.grid(True, axis="x")
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(label)
    said = "; ".join(f"{name} {_span(v, lo, hi)}" for name, v, lo, hi in zip(names, values, lows, highs, strict=True))
    ties = (
        f" Not shown to differ at the top: {', '.join(names[n - 1 - place] for place in first)}."
        if len(first) > 1
        else ""
    )
    return described(ax, f"{label} of each method with its interval: {said}.{ties}")


def cost_quality(
    ax: "Axes",
    names: Sequence[str],
    seconds: ArrayLike,
    values: ArrayLike,
    lows: ArrayLike,
    highs: ArrayLike,
    *,
    label: str,
    on_front: Sequence[bool],
    cost_label: str = "training time, seconds",
    least: float = 0.1,
    legend: bool = True,
    measured: bool = True,
) -> "Axes":
    """Quality against cost, each method a point; filled points may be on the front of best trade-offs.

    `seconds`: (n,) cost; values below `least` are drawn there, since the axis is logarithmic where costs differ
    20-fold.
    `on_front`: (n,) whether nothing cheaper is as good, with costs as they are drawn.
    `measured`: False for what can be below 0, such as a change: a plain axis with a line at 0.
    """
    values, lows, highs = (np.asarray(x, dtype=float) for x in (values, lows, highs))
    cost = np.asarray(seconds, dtype=float)
    cost = np.maximum(cost, least) if measured else cost
    order, look = np.argsort(cost, kind="stable"), looks(names)
    front = [i for i in order if on_front[i]]
    if len(front) > 1:
        # Between two points of the front nobody has been: it goes along in steps.
        ax.plot(cost[front], values[front], color=LINES, linewidth=5, drawstyle="steps-post", zorder=1)
    for i in order:
        colour, marker = look[names[i]]
        if np.isfinite([lows[i], highs[i]]).all():
            ax.plot([cost[i]] * 2, [lows[i], highs[i]], color=colour, linewidth=1.4, zorder=2)
        fill = colour if on_front[i] else PAPER
        ax.plot(
            [cost[i]],
            [values[i]],
            marker=marker,
            markerfacecolor=fill,
            markeredgecolor=colour,
            linestyle="none",
            zorder=3,
            label=label_of(names[i]),
        )
    if not measured:
        ax.axvline(0, color=FAINT, linestyle=(0, (4, 3)), linewidth=1, zorder=0)
    elif not cost.min() and cost.max() > 0:
        # Nothing has no place on a logarithmic axis: it stands left of the least that is something.
        ax.set_xscale("symlog", linthresh=cost[cost > 0].min())
        ax.xaxis.set_major_formatter(lambda tick, _: f"{tick:g}")
    elif cost.max() > 20 * cost.min():
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(lambda tick, _: f"{tick:g}")
    ax.set_xlabel(cost_label)
    ax.set_ylabel(label)
    ax.margins(x=0.12, y=0.12)
    if legend:
        legend_below(ax)
    points = "; ".join(f"{names[i]} {values[i]:.3f} at {cost[i]:.3g}{' (front)' if on_front[i] else ''}" for i in order)
    return described(ax, f"{label} against {cost_label}: {points}.")


def seeds(ax: "Axes", runs: Mapping[str, Sequence[float]], *, label: str) -> "Axes":
    """Every run as a dot, so that the spread from seed to seed is seen, not summarised.

    `runs`: name -> the value of each run; the first name is at the top.
    """
    import seaborn as sns

    look = looks(runs)
    for place, values in enumerate(runs.values()):
        if values:
            ax.plot([np.mean(values)] * 2, [place - 0.28, place + 0.28], color=INK, linewidth=2)
    # Without jitter, which would draw from numpy's global state: the same runs give the same picture.
    places = [str(place) for place, values in enumerate(runs.values()) for _ in values]
    sns.stripplot(
        x=[value for values in runs.values() for value in values], y=places, order=[str(k) for k in range(len(runs))],
        hue=places, hue_order=[str(k) for k in range(len(runs))], palette=[look[name][0] for name in runs],
        legend=False, orient="h", jitter=False, ax=ax, size=5.5, edgecolor=PAPER, linewidth=0.6,
    )  # fmt: skip
    ax.set_yticks(range(len(runs)), [label_of(name) for name in runs])
    ax.set_ylim(len(runs) - 0.4, -0.6)
    ax.set_ylabel("")
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(label)
    said = "; ".join(f"{name}: " + ", ".join(f"{value:.3f}" for value in values) for name, values in runs.items())
    return described(ax, f"{label} of every run. {said}.")


def confusion(ax: "Axes", shares: ArrayLike, labels: Sequence[str], *, name: str) -> "Axes":
    """Where the examples of each true label went: row = true label, column = predicted label, shares of the row.

    `shares`: (k, k), each row sums to 1 (or is NaN where the label has no example).
    `labels`: (k,) labels; numbers are written into the cells for up to 12.
    """
    shares = np.asarray(shares, dtype=float)
    cells(ax, np.nan_to_num(shares), LEVELS, 0, 1, linewidth=0.8 if len(labels) <= 30 else 0)
    ax.set_aspect("equal")
    step = max(1, -(-len(labels) // 40))
    at = np.arange(0, len(labels), step)
    said = [shorten(labels[i], 16) for i in at]
    size = 8 if len(labels) <= MOST_CELLS_WITH_NUMBERS else max(3.5, 170 / len(labels))
    ax.set_xticks(
        at + 0.5, said, rotation=60 if len(labels) > 4 else 30, ha="right", rotation_mode="anchor", fontsize=size
    )
    ax.set_yticks(at + 0.5, said, fontsize=size)
    ax.set_xlabel("predicted label")
    ax.set_ylabel("true label")
    if len(labels) <= MOST_CELLS_WITH_NUMBERS:
        for row, column in zip(*np.nonzero(np.nan_to_num(shares) >= 0.005), strict=True):
            share = shares[row, column]
            colour = "#ffffff" if share > 0.58 else "#1b2a36"
            ax.text(column + 0.5, row + 0.5, f"{100 * share:.0f}", ha="center", va="center", fontsize=7.5, color=colour)
    off = np.nan_to_num(shares.copy())
    np.fill_diagonal(off, 0)
    right = "; ".join(
        f"{labels[i]} {100 * shares[i, i]:.0f} %" for i in range(min(len(labels), 12)) if np.isfinite(shares[i, i])
    )
    worst = ""
    if off.max(initial=0) > 0:
        i, j = np.unravel_index(off.argmax(), off.shape)
        worst = f" Most often mistaken: {labels[i]} for {labels[j]} ({100 * off[i, j]:.0f} %)."
    return described(ax, f"Confusion of {name}, per cent of each true label. Recognised: {right}.{worst}")


def _span(value: float, low: float, high: float) -> str:
    return f"{value:.3f}" + (f" ({low:.3f} to {high:.3f})" if np.isfinite([low, high]).all() else "")
