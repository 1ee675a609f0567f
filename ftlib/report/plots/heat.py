"""Numbers as coloured cells, rates of groups of people, exposure of planted secrets, what is kept against gained."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ftlib.report.plots import COLOURS, FAINT, LINES, MARKERS, PAPER, described, label_of, legend_below, looks, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVELS = ("#f1f6fa", "#9ecae1", "#0072B2", "#003a5c")

_CHANGES = ("#8c3d00", "#D55E00", "#f6f6f6", "#0072B2", "#003a5c")


def cells(
    ax: "Axes", values: ArrayLike, colours: Sequence[str], low: float, high: float, *, linewidth: float = 0.8
) -> None:
    """Colour a cell for every number, the first row at the top; cells without a number stay empty."""
    import seaborn as sns
    from matplotlib.colors import LinearSegmentedColormap

    ax.grid(False)
    sns.heatmap(
        np.asarray(values, dtype=float), ax=ax, vmin=low, vmax=high, cbar=False, linewidths=linewidth, linecolor=PAPER,
        cmap=LinearSegmentedColormap.from_list("ftlib", colours), xticklabels=False, yticklabels=False,
    )  # fmt: skip
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def heat(
    ax: "Axes",
    values: ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    label: str,
    across: str = "",
    down: str = "",
    scale: float = 100.0,
    digits: int = 0,
    signed: bool = False,
    marks: Sequence[Sequence[str]] = (),
) -> "Axes":
    """A cell for every number, which is written into it; cells without one stay empty.

    `values`: (n_rows, n_columns); NaN where there is none.
    `rows`: Names, the first at the top.
    `scale`: What values are multiplied by where they are written: 100 shows shares in per cent.
    `signed`: Differences, coloured on both sides of 0; otherwise shares from 0 to 1.
    `marks`: (n_rows, n_columns) what is written below the numbers.
    """
    values = np.asarray(values, dtype=float)
    most = max(float(np.nanmax(np.abs(values), initial=0)), 1e-9)
    low, high = (-most, most) if signed else (0, 1)
    cells(ax, values, _CHANGES if signed else LEVELS, low, high)
    ax.set_xticks(np.arange(len(columns)) + 0.5, [label_of(name, 16) for name in columns])
    ax.set_yticks(np.arange(len(rows)) + 0.5, [label_of(name, 22) for name in rows])
    ax.set_xlabel(across)
    ax.set_ylabel(down)
    said = []
    for i, j in zip(*np.nonzero(np.isfinite(values)), strict=True):
        number = f"{scale * values[i, j]:{'+' if signed else ''}.{digits}f}".replace("-", "−")
        mark = shorten(marks[i][j]) if len(marks) else ""
        deep = abs(values[i, j]) / most > 0.5 if signed else values[i, j] > 0.5
        ax.text(
            j + 0.5, i + 0.5, "\n".join(filter(None, (number, mark))), ha="center", va="center", fontsize=8,
            color="#ffffff" if deep else "#1b2a36",
        )  # fmt: skip
        said.append(f"{rows[i]}, {columns[j]}: {number}{f' ({mark})' if mark else ''}")
    return described(ax, f"{label}. {'; '.join(said)}.")


Values = tuple[float, float, float]
"""Value, lower and upper bound; NaN where there is none."""


def rates_by_group(
    ax: "Axes", methods: Mapping[str, Mapping[str, tuple[Values | None, Values]]], *, label: str
) -> "Axes":
    """A band of rows per method, a row per group: before adapting hollow, after it filled, each with its interval.

    `methods`: Name -> group -> (before, after); the first name is at the top. Before is None where there is none.
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
    ax.set_yticks([-band for band in range(len(methods))], [label_of(name) for name in methods])
    ax.set_ylim(-len(methods) + 0.5, 0.5)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(label)
    legend_below(ax)
    return described(ax, f"{label} of every group, hollow before adapting and filled after it. {'; '.join(said)}.")


def _span(values: Values) -> str:
    value, low, high = values
    return f"{value:.1f}" + (f" ({low:.1f} to {high:.1f})" if np.isfinite([low, high]).all() else "")


def exposure(
    ax: "Axes",
    series: Mapping[str, tuple[Sequence[float], ...]],
    *,
    most: float | None = None,
    chance: float | None = None,
) -> "Axes":
    """Exposure against how often a secret was planted, a line with its intervals per method or state.

    `series`: Name -> (repetitions, values, lower bounds, upper bounds), in bits.
    `most`: The highest exposure that can be seen: a dashed line.
    `chance`: The mean exposure of a secret that was never seen: a line.
    """
    ticks, look = sorted({count for counts, *_ in series.values() for count in counts}), looks(series)
    for number, (name, (counts, *bounds)) in enumerate(series.items()):
        values, low, high = (np.asarray(bound, dtype=float) for bound in bounds)
        # Side by side, since intervals at one place would cover each other.
        places = np.array([ticks.index(count) for count in counts]) + 0.09 * (number - (len(series) - 1) / 2)
        ax.errorbar(
            places, values, yerr=[values - low, high - values], color=look[name][0], marker=look[name][1],
            markersize=5.5, markeredgecolor=PAPER, markeredgewidth=0.5, capsize=2.5, elinewidth=1, label=label_of(name),
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


def tradeoff(
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

    `forgotten`: (n, 3) what was forgotten, with its lower and upper bound.
    `gained`: (n, 3) quality on the task, with its lower and upper bound.
    `forgotten_label`: What was forgotten, and in what unit.
    `lines`: Name -> the points between untouched and adapted weights, in the order of the way.
    `chosen`: A point that is filled: what the sentence below names.
    `untouched`: The base model's quality.
    """
    forgotten, gained = np.asarray(forgotten, dtype=float), np.asarray(gained, dtype=float)
    on_line = {i for some in lines.values() for i in some}
    look = looks([*lines, *(name for i, name in enumerate(names) if i not in on_line)])
    for name, some in lines.items():
        colour = look[name][0]
        ax.plot(forgotten[list(some), 0], gained[list(some), 0], color=colour, linewidth=1.4, label=label_of(name))
    for i, point in enumerate(names):
        of_line = next((name for name, some in lines.items() if i in some), "")
        colour, marker = (look[of_line][0], ".") if of_line else look[point]
        for x, y in (((0, 0), (1, 2)), ((1, 2), (0, 0))):
            if np.isfinite([*forgotten[i, list(x)], *gained[i, list(y)]]).all():
                ax.plot(forgotten[i, list(x)], gained[i, list(y)], color=colour, linewidth=0.9, alpha=0.6, zorder=2)
        ax.plot(
            [forgotten[i, 0]], [gained[i, 0]], marker=marker, linestyle="none", zorder=3, markeredgecolor=colour,
            markerfacecolor=colour if i == chosen or of_line else PAPER,
            label=label_of(_beside(names[i], [*lines, *names])) if not of_line else None,
        )  # fmt: skip
    ax.axvline(0, color=FAINT, linestyle=(0, (4, 3)), linewidth=1)
    if untouched is not None and np.isfinite(untouched):
        ax.axhline(untouched, color=LINES, linewidth=1.2)
    ax.set_xlabel(forgotten_label)
    ax.set_ylabel(label)
    ax.margins(x=0.1, y=0.12)
    legend_below(ax)
    points = "; ".join(f"{names[i]} {gained[i, 0]:.3f} with {forgotten[i, 0]:.3f}" for i in range(len(names)))
    base = "" if untouched is None else f" The base model: {untouched:.3f}."
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
