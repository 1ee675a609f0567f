"""Figures along an axis: labels per class, steps of training, tokens of context."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ftlib.plots.ink import COLOURS, FAINT, INK, LINES, MARKERS, PAPER, described, legend_below, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Series = Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]]
"""Name -> (labels per class, values, lower bounds, upper bounds)."""
_LETTERS = 15
"""What fits beside a curve."""


def shots(
    ax: "Axes",
    series: Series,
    *,
    label: str,
    levels: Mapping[str, float] | None = None,
    goals: Mapping[str, float] | None = None,
) -> "Axes":
    """Quality against labels per class, a line with its band per method, its name at its end.

    Args:
        ax: Where to draw.
        series: See `Series`.
        label: What the values are.
        levels: Name -> value of what needs no labels: a line across.
        goals: Name -> value of what had all labels, or is to be reached: a dashed line across.
    """
    ticks = sorted({count for counts, *_ in series.values() for count in counts})
    ends: list[tuple[float, str, str]] = []
    for number, (name, (counts, values, lows, highs)) in enumerate(series.items()):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        ax.fill_between(counts, lows, highs, color=colour, alpha=0.14, linewidth=0)
        ax.plot(counts, values, color=colour, marker=marker, markersize=5.5, markeredgecolor=PAPER, markeredgewidth=0.5)
        if counts[-1] == ticks[-1]:
            ends.append((values[-1], name, colour))
        else:
            where = (counts[-1], values[-1])
            ax.annotate(
                shorten(name, _LETTERS), where, xytext=(6, 0), textcoords="offset points", fontsize=8, color=colour,
                va="center", bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.8}, zorder=4,
            )  # fmt: skip
    for lines, style in ((levels or {}, "-"), (goals or {}, (0, (5, 3)))):
        for name, value in lines.items():
            ax.axhline(value, color=FAINT, linestyle=style, linewidth=1.1, zorder=1.5)
            ends.append((value, name, FAINT))
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.margins(x=0.03)
    ax.set_xlabel("labels per class")
    ax.set_ylabel(label)
    _name_ends(ax, ends)
    said = [
        f"{name}: " + ", ".join(f"{v:.3f} at {c:g}" for c, v in zip(counts, values, strict=True))
        for name, (counts, values, _, _) in series.items()
    ]
    said += [f"{name}: {value:.3f} at every number" for name, value in ((levels or {}) | (goals or {})).items()]
    return described(ax, f"{label} against labels per class. {'; '.join(said)}.")


def draws(axes: "Sequence[Axes]", runs: Mapping[str, Mapping[int, Sequence[float]]], *, label: str) -> "Sequence[Axes]":
    """Every run as a dot over its number of labels, a panel per method, so that the spread of the draws is seen.

    Args:
        axes: One for each method at least; those left over are hidden.
        runs: Name -> labels per class -> the value of each run.
        label: What the values are.
    """
    every = sorted({k for by_shots in runs.values() for k in by_shots})
    for number, (ax, (name, by_shots)) in enumerate(zip(axes, runs.items(), strict=False)):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        for k, values in by_shots.items():
            place = every.index(k)
            ax.plot([place - 0.3, place + 0.3], [np.mean(values)] * 2, color=INK, linewidth=1.2, zorder=2)
            aside = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else [0.0]
            ax.plot(
                place + np.asarray(aside), values, linestyle="none", marker=marker, markersize=3.6, color=colour,
                markeredgecolor=PAPER, markeredgewidth=0.3, zorder=3,
            )  # fmt: skip
        ax.set_title(shorten(name), fontsize=9, loc="left", color=colour)
        ax.set_xticks(range(len(every)), [f"{k:g}" for k in every], fontsize=7.5)
        ax.set_xlim(-0.6, len(every) - 0.4)
        ax.grid(False, axis="x")
        ax.tick_params(length=0)
        said = "; ".join(f"at {k}: " + ", ".join(f"{value:.3f}" for value in some) for k, some in by_shots.items())
        described(ax, f"{label} of every run of {name}, {said}.")
    for ax in axes[len(runs) :]:
        ax.set_visible(False)
    return axes


def curves(ax: "Axes", runs: Sequence[tuple[str, Sequence[float], Sequence[float]]]) -> "Axes":
    """Loss against step; lines of one name share colour and dashes.

    Args:
        ax: Where to draw.
        runs: (name, steps, losses) per line: a method's, or of the training and the validation examples.
    """
    names = list(dict.fromkeys(name for name, _, _ in runs))
    dashes = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (6, 2, 1, 2)))
    seen: set[str] = set()
    for name, steps, losses in runs:
        number = names.index(name)
        ax.plot(
            steps,
            losses,
            color=COLOURS[number % len(COLOURS)],
            linestyle=dashes[number % len(dashes)],
            linewidth=1.2,
            label=None if name in seen else shorten(name),
        )
        seen.add(name)
    ax.set_xlabel("step")
    ax.set_ylabel("loss")
    if len(names) > 4:
        legend_below(ax)
    else:
        ax.legend(loc="upper right", handletextpad=0.5, borderaxespad=0)
    ends = "; ".join(f"{name} from {losses[0]:.2f} to {losses[-1]:.2f}" for name, _, losses in runs if len(losses))
    return described(ax, f"Loss against step, a line per run: {ends}.")


def protocols(ax: "Axes", ways: Mapping[str, ArrayLike]) -> "Axes":
    """Bits per byte of one model on the same documents against the context it is given, a line per stride.

    Args:
        ax: Where to draw.
        ways: Columns context, stride, bits_per_byte, low, high and protocol, as of `ftlib.predict.by_protocol`.
    """
    names = ("context", "stride", "bits_per_byte", "low", "high")
    context, stride, bits, low, high = (np.asarray(ways[name], dtype=float) for name in names)
    shares = stride / context
    for number, share in enumerate(np.unique(shares)):
        here = np.flatnonzero(shares == share)
        here = here[np.argsort(context[here])]
        ax.errorbar(
            context[here],
            bits[here],
            yerr=[(bits - low)[here], (high - bits)[here]],
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
            capsize=3,
            label=f"stride: {share:.0%} of the context",
        )
    ticks = np.unique(context)
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
    ax.set_xlabel("tokens seen at once (context)")
    ax.set_ylabel("bits per byte (lower is better)")
    ax.legend(frameon=False)
    said = "; ".join(f"{way}: {value:.3f}" for way, value in zip(ways["protocol"], bits, strict=True))
    ax.alt_text = f"Bits per byte of one model on the same documents, measured in several ways. {said}."
    return ax


def _name_ends(ax: "Axes", ends: Sequence[tuple[float, str, str]]) -> None:
    """Names right of the axes at the height of what they name, moved apart where they would overlap."""
    least, most = ax.get_ylim()
    apart = 11 / (ax.figure.get_size_inches()[1] * 72 - 60) * (most - least)
    order = sorted(ends, key=lambda end: (end[0], end[1]))
    heights = [value for value, _, _ in order]
    # Neighbours that overlap are spread around their common middle; a few rounds settle chains of them.
    for _ in range(60):
        for i in range(len(heights) - 1):
            short = apart - (heights[i + 1] - heights[i])
            if short > 0:
                heights[i] -= short / 2
                heights[i + 1] += short / 2
    for height, (value, name, colour) in zip(heights, order, strict=True):
        ax.annotate(
            shorten(name, _LETTERS + 6), (1, value), xycoords=("axes fraction", "data"),
            xytext=(1.05, height), textcoords=("axes fraction", "data"), fontsize=8, color=colour, va="center",
            annotation_clip=False, arrowprops={"arrowstyle": "-", "color": LINES, "linewidth": 0.7, "shrinkB": 0},
        )  # fmt: skip
    ax.set_ylim(least, most)
