"""Figures of training: what settings tried buy on validation, and the losses on the way; a panel per method."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ftlib.plots.ink import COLOURS, FAINT, LINES, PAPER, described, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Line = tuple[Sequence[float], Sequence[float]]
"""(steps, losses)."""


class Losses(NamedTuple):
    """What one panel of `losses` shows."""

    train: Sequence[Line]
    """Of each run."""
    validation: Sequence[Line] = ()
    failed: Sequence[Line] = ()
    """Training losses of runs that gave no result."""
    mean_train: Line = ((), ())
    """Over the runs; empty where they share no steps."""
    mean_validation: Line = ((), ())


def best_of(
    axes: "Sequence[Axes]",
    curves: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float]]],
    *,
    label: str,
) -> "Sequence[Axes]":
    """The expected best of 1, 2, ... settings tried, a panel per method with its interval; the others are faint.

    Args:
        axes: One for each method at least, of one scale; those left over are hidden.
        curves: Name -> (values, lower bounds, upper bounds), entry k - 1 for k settings; bounds NaN where unknown.
        label: What the values are.
    """
    most = max(len(values) for values, _, _ in curves.values())
    for ax, (name, (values, lows, highs)) in zip(axes, curves.items(), strict=False):
        for other, (beside, _, _) in curves.items():
            if other != name:
                ax.plot(range(1, len(beside) + 1), beside, color=LINES, linewidth=1, zorder=1)
        tries = np.arange(1, len(values) + 1)
        ax.fill_between(tries, lows, highs, color=COLOURS[0], alpha=0.16, linewidth=0)
        ax.plot(
            tries, values, color=COLOURS[0], marker="o", markersize=4, markeredgecolor=PAPER, markeredgewidth=0.5,
            zorder=3,
        )  # fmt: skip
        _dressed(ax, name)
        ax.set_xticks(range(1, most + 1))
        ax.set_xlim(0.7, most + 0.3)
        said = ", ".join(f"{value:.3f} of {k}" for k, value in enumerate(values, 1))
        described(ax, f"{label}, expected best of as many settings tried, {name}: {said}.")
    _hide(axes, len(curves))
    return axes


def losses(axes: "Sequence[Axes]", methods: Mapping[str, Losses]) -> "Sequence[Axes]":
    """Training and validation loss against step, a panel per method on a scale of its own, a thin line per run.

    Args:
        axes: One for each method at least; those left over are hidden.
        methods: Name -> its lines.
    """
    for ax, (name, lines) in zip(axes, methods.items(), strict=False):
        for some, mean, colour, style, marker in (
            (lines.train, lines.mean_train, COLOURS[0], "-", ""),
            (lines.validation, lines.mean_validation, COLOURS[1], (0, (4, 2)), "s"),
        ):
            alone = len(some) == 1
            for steps, values in some:
                ax.plot(steps, values, color=colour, linestyle=style, linewidth=0.7, alpha=1 if alone else 0.4)
            ax.plot(
                *(some[0] if alone else mean), color=colour, linestyle=style, linewidth=1.7, marker=marker,
                markersize=3.6, markeredgecolor=PAPER, markeredgewidth=0.4, zorder=3,
            )  # fmt: skip
        _scaled(ax, lines)
        for steps, values in lines.failed:
            ax.plot(steps, values, color=FAINT, linestyle=(0, (1, 1.4)), linewidth=1.1)
            last = [(s, v) for s, v in zip(steps, values, strict=True) if np.isfinite(v)][-1:]
            ax.plot(*zip(*last, strict=True), color=FAINT, marker="x", markersize=5, clip_on=False, zorder=4)
        _dressed(ax, name)
        ax.margins(x=0.04)
        described(ax, f"Losses of {name}: {_said(lines)}.")
    _hide(axes, len(methods))
    _key(axes[0], methods)
    return axes


def _scaled(ax: "Axes", lines: Losses) -> None:
    """Heights of the runs that finished: a loss that ran away would press them flat."""
    shown = [value for _, values in (*lines.train, *lines.validation) for value in values if np.isfinite(value)]
    if shown and lines.failed:
        room = 0.25 * (max(shown) - min(shown)) or 0.1
        ax.set_ylim(min(shown) - room / 3, max(shown) + room)


def _dressed(ax: "Axes", name: str) -> None:
    ax.set_title(shorten(name), fontsize=9, loc="left")
    ax.tick_params(length=0, labelsize=7.5)
    ax.grid(False, axis="x")


def _hide(axes: "Sequence[Axes]", used: int) -> None:
    for ax in axes[used:]:
        ax.set_visible(False)


def _key(ax: "Axes", methods: Mapping[str, Losses]) -> None:
    from matplotlib.lines import Line2D

    kinds = [
        ("training loss", {"color": COLOURS[0]}, True),
        (
            "validation loss",
            {"color": COLOURS[1], "linestyle": (0, (4, 2)), "marker": "s", "markersize": 3.6},
            any(lines.validation for lines in methods.values()),
        ),
        (
            "of a failed run",
            {"color": FAINT, "linestyle": (0, (1, 1.4)), "marker": "x", "markersize": 5},
            any(lines.failed for lines in methods.values()),
        ),
    ]
    handles = [Line2D([], [], label=name, **how) for name, how, there in kinds if there]
    ax.figure.legend(handles=handles, loc="outside upper left", ncols=3, handlelength=2.6)


def _said(lines: Losses) -> str:
    """From where to where, in words."""
    said = []
    for kind, some, (_, mean) in (
        ("training", lines.train, lines.mean_train),
        ("validation", lines.validation, lines.mean_validation),
    ):
        values = some[0][1] if len(some) == 1 else mean
        if len(values):
            lowest = f", lowest {np.nanmin(values):.3f}" if kind == "validation" else ""
            runs = f"mean of {len(some)} runs" if len(some) > 1 else "1 run"
            said.append(f"{kind} from {values[0]:.3f} to {values[-1]:.3f}{lowest} ({runs})")
        elif some:
            said.append(f"{kind} of {len(some)} runs with steps of their own")
    if lines.failed:
        said.append(f"{len(lines.failed)} failed run{'s' if len(lines.failed) > 1 else ''}")
    return "; ".join(said) or "none that was finite"
