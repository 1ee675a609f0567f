"""Figures of a study: one function per figure, an axes in, the same axes out. Plain sequences in, no files, no pandas.

Every function leaves a description of what it drew on the axes, for readers who do not see it: `alt_text(ax)`. Colours
are those of Okabe and Ito (2008), told apart with every form of colour vision; a marker's shape always says the same as
its colour. The report draws on `ftlib.report.figures.drawing`; a notebook on any axes.
"""

from ftlib.report.plots.lines import Line, Losses, best_of, curves, draws, losses, protocols, shots
from ftlib.report.plots.methods import MOST_CELLS_WITH_NUMBERS, confusion, cost_quality, forest, seeds
from ftlib.report.plots.style import COLOURS, FAINT, INK, LINES, MARKERS, PAPER, alt_text, clean, shorten

__all__ = [
    "COLOURS",
    "FAINT",
    "INK",
    "LINES",
    "Line",
    "Losses",
    "MARKERS",
    "MOST_CELLS_WITH_NUMBERS",
    "PAPER",
    "alt_text",
    "best_of",
    "clean",
    "confusion",
    "cost_quality",
    "curves",
    "draws",
    "forest",
    "losses",
    "protocols",
    "seeds",
    "shorten",
    "shots",
]
