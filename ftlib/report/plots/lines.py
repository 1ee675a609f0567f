"""Figures along an axis: labels per class, steps of training, settings tried, learning rates, tokens of context."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ftlib.report.plots import (
    COLOURS,
    FAINT,
    INK,
    LINES,
    MARKERS,
    PAPER,
    described,
    label_of,
    legend_below,
    looks,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Series = Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]]
"""Name -> (labels per class, values, lower bounds, upper bounds)."""

_LETTERS = 17
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

    `levels`: Name -> value of what needs no labels: a line across.
    `goals`: Name -> value of what had all labels, or is to be reached: a dashed line across.
    """
    ticks = sorted({count for counts, *_ in series.values() for count in counts})
    ends: list[tuple[float, str, str]] = []
    look = looks(series)
    for name, (counts, values, lows, highs) in series.items():
        colour, marker = look[name]
        ax.fill_between(counts, lows, highs, color=colour, alpha=0.14, linewidth=0)
        ax.plot(counts, values, color=colour, marker=marker, markersize=5.5, markeredgecolor=PAPER, markeredgewidth=0.5)
        if counts[-1] == ticks[-1]:
            ends.append((values[-1], name, colour))
        else:
            where = (counts[-1], values[-1])
            ax.annotate(
                label_of(name, _LETTERS), where, xytext=(6, 0), textcoords="offset points", fontsize=8, color=colour,
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

    `axes`: One for each method at least; those left over are hidden.
    `runs`: Name -> labels per class -> the value of each run.
    """
    every = sorted({k for by_shots in runs.values() for k in by_shots})
    look = looks(runs)
    for ax, (name, by_shots) in zip(axes, runs.items(), strict=False):
        colour, marker = look[name]
        for k, values in by_shots.items():
            place = every.index(k)
            ax.plot([place - 0.3, place + 0.3], [np.mean(values)] * 2, color=INK, linewidth=1.2, zorder=2)
            aside = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else [0.0]
            ax.plot(
                place + np.asarray(aside), values, linestyle="none", marker=marker, markersize=3.6, color=colour,
                markeredgecolor=PAPER, markeredgewidth=0.3, zorder=3,
            )  # fmt: skip
        ax.set_title(label_of(name), fontsize=9, loc="left", color=colour)
        ax.set_xticks(range(len(every)), [f"{k:g}" for k in every], fontsize=7.5)
        ax.set_xlim(-0.6, len(every) - 0.4)
        ax.grid(False, axis="x")
        ax.tick_params(length=0)
        said = "; ".join(f"at {k}: " + ", ".join(f"{value:.3f}" for value in some) for k, some in by_shots.items())
        described(ax, f"{label} of every run of {name}, {said}.")
    for ax in axes[len(runs) :]:
        ax.set_visible(False)
    return axes


def coverage(
    ax: "Axes",
    series: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float]]],
    shares: Sequence[float],
    *,
    label: str,
) -> "Axes":
    """Quality of the answers a method is surest of, a line with its band per method.

    `series`: Name -> (values, lower bounds, upper bounds), one for each share.
    `shares`: Of the examples that are answered, in per cent.
    """
    import seaborn as sns

    look = looks(series)
    for name, (values, lows, highs) in series.items():
        colour, marker = look[name]
        ax.fill_between(shares, lows, highs, color=colour, alpha=0.12, linewidth=0)
        sns.lineplot(
            x=list(shares), y=list(values), ax=ax, estimator=None, color=colour, marker=marker, markersize=5,
            markevery=4, markeredgecolor=PAPER, markeredgewidth=0.4, label=label_of(name), legend=False,
        )  # fmt: skip
    ax.set_xlabel("answered: the surest share of the examples, %")
    ax.set_ylabel(label)
    legend_below(ax)
    ends = "; ".join(
        f"{name}: {values[0]:.1f} of the surest {shares[0]:g} %, {values[-1]:.1f} of all"
        for name, (values, _, _) in series.items()
    )
    return described(ax, f"{label} against the share that is answered. {ends}.")


def trade_of_errors(ax: "Axes", series: Mapping[str, tuple[Sequence[float], Sequence[float]]], positive: str) -> "Axes":
    """Which share of a label is found against false alarms, for every threshold, a line per method.

    `series`: Name -> (false alarms, found), in per cent, from no threshold passed to all.
    """
    import seaborn as sns

    look = looks(series)
    for name, (alarms, found) in series.items():
        sns.lineplot(
            x=list(alarms), y=list(found), ax=ax, estimator=None, sort=False, color=look[name][0],
            label=label_of(name), legend=False, drawstyle="steps-post",
        )  # fmt: skip
    ax.plot([0, 100], [0, 100], color=FAINT, linestyle=(0, (4, 3)), linewidth=1)
    ax.set_xlabel(f"false alarms: others that are called {shorten(positive)}, %")
    ax.set_ylabel(f"{shorten(positive)} that is found, %")
    legend_below(ax)
    said = "; ".join(
        f"{name}: {max(f for a, f in zip(alarms, found, strict=True) if a <= 10):.0f} % found at 10 % alarms"
        for name, (alarms, found) in series.items()
    )
    return described(ax, f"Share of {positive} found against false alarms, for every threshold. {said}.")


def curves(ax: "Axes", runs: Sequence[tuple[str, Sequence[float], Sequence[float]]]) -> "Axes":
    """Loss against step; lines of one name share colour and dashes.

    `runs`: (name, steps, losses) per line: a method's, or of the training and the validation examples.
    """
    import seaborn as sns

    names = list(dict.fromkeys(name for name, _, _ in runs))
    dashes = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (6, 2, 1, 2)))
    for place, (name, steps, losses) in enumerate(runs):
        number = names.index(name)
        first = name not in [earlier for earlier, _, _ in runs[:place]]
        sns.lineplot(
            x=list(steps), y=list(losses), ax=ax, estimator=None, sort=False, color=COLOURS[number % len(COLOURS)],
            linestyle=dashes[number % len(dashes)], linewidth=1.2, label=label_of(name) if first else "_", legend=False,
        )  # fmt: skip
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

    `ways`: Columns context, stride, bits_per_byte, low, high and protocol, as of
    `ftlib.models.inference.by_protocol`.
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
            label_of(name, _LETTERS + 6), (1, value), xycoords=("axes fraction", "data"),
            xytext=(1.05, height), textcoords=("axes fraction", "data"), fontsize=8, color=colour, va="center",
            annotation_clip=False, arrowprops={"arrowstyle": "-", "color": LINES, "linewidth": 0.7, "shrinkB": 0},
        )  # fmt: skip
    ax.set_ylim(least, most)


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

    `axes`: One for each method at least, of one scale; those left over are hidden.
    `curves`: Name -> (values, lower bounds, upper bounds), entry k - 1 for k settings; bounds NaN where unknown.
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

    `axes`: One for each method at least; those left over are hidden.
    `methods`: Name -> its lines.
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
    ax.set_title(label_of(name), fontsize=9, loc="left")
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


def by_rate(
    ax: "Axes", series: Series, *, label: str, best: Mapping[str, tuple[float, float, float]] | None = None
) -> "Axes":
    """Quality against learning rate, a line with its band per method; below it, where each is best.

    `series`: Name -> (rates, values, lower bounds, upper bounds).
    `best`: Name -> (rate, low, high) where a method is best; NaN, 0 and inf where there is no such bound.
    """
    rates = sorted({rate for some, *_ in series.values() for rate in some})
    look = looks(series)
    for name, (some, values, lows, highs) in series.items():
        colour, marker = look[name]
        ax.fill_between(some, lows, highs, color=colour, alpha=0.14, linewidth=0)
        ax.plot(
            some, values, color=colour, marker=marker, markersize=5.5, markeredgecolor=PAPER, markeredgewidth=0.5,
            label=label_of(name),
        )  # fmt: skip
    least, most = ax.get_ylim()
    step = 0.06 * (most - least)
    for number, (name, (rate, low, high)) in enumerate((best or {}).items()):
        colour, marker = look[name]
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
