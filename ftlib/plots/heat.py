"""Tables of numbers as cells whose colour says how large they are."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ftlib.plots.ink import PAPER, described, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEVELS = ("#f1f6fa", "#9ecae1", "#0072B2", "#003a5c")
_CHANGES = ("#8c3d00", "#D55E00", "#f6f6f6", "#0072B2", "#003a5c")


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

    Args:
        ax: Where to draw.
        values: (n_rows, n_columns); NaN where there is none.
        rows: Names, the first at the top.
        columns: Names.
        label: What the values are, for the description.
        across: What the columns are.
        down: What the rows are.
        scale: What values are multiplied by where they are written: 100 shows shares in per cent.
        digits: After the point.
        signed: Differences, coloured on both sides of 0; otherwise shares from 0 to 1.
        marks: (n_rows, n_columns) what is written below the numbers.
    """
    from matplotlib.colors import LinearSegmentedColormap

    values = np.asarray(values, dtype=float)
    ramp = LinearSegmentedColormap.from_list("ftlib", _CHANGES if signed else _LEVELS)
    most = max(float(np.nanmax(np.abs(values), initial=0)), 1e-9)
    low, high = (-most, most) if signed else (0, 1)
    ax.grid(False)
    ax.pcolormesh(np.ma.masked_invalid(values), cmap=ramp, vmin=low, vmax=high, edgecolors=PAPER, linewidth=0.8)
    ax.set_xlim(0, values.shape[1])
    ax.set_ylim(values.shape[0], 0)
    ax.set_xticks(np.arange(len(columns)) + 0.5, [shorten(name, 16) for name in columns])
    ax.set_yticks(np.arange(len(rows)) + 0.5, [shorten(name, 22) for name in rows])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
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
