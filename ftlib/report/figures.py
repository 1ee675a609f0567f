"""Figures as SVG, which follows a dark screen, and as PDF: the same, byte for byte, each time they are drawn."""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import ftlib.report.plots as style
from ftlib.core.html import paragraph
from ftlib.report.plots import FAINT, INK, LINES, PAPER, alt_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DARK = {
    INK: "#e6edf3",
    FAINT: "#9aa4af",
    LINES: "#3d444d",
    PAPER: "#0d1117",
    "#0072B2": "#4aa8e0",
    "#5C5C5C": "#a8a8a8",
}

WIDTH = 4.7
"""Inches; narrow, so that the letters stay readable on a telephone."""

_RC = {
    "svg.hashsalt": "ftlib",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.edgecolor": LINES,
    "axes.labelcolor": FAINT,
    "axes.facecolor": PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": LINES,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": PAPER,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "lines.markersize": 6,
}


@contextmanager
def drawing(height: float, width: float = WIDTH) -> Iterator["Axes"]:
    """An axes to draw on, in the report's style, on a figure of its own that no window knows of."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_RC):
        yield Figure(figsize=(width, height), layout="constrained").add_subplot()


@contextmanager
def panels(
    number: int, columns: int, height: float, width: float = WIDTH, *, one_scale: bool = True
) -> Iterator[list["Axes"]]:
    """Several axes in a figure of its own, as many to a row as `columns`.

    `height`: Inches of one row.
    `width`: Inches of the figure.
    `one_scale`: Whether all share their heights.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = -(-number // columns)
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(width, 0.35 + height * rows), layout="constrained")
        yield list(figure.subplots(rows, columns, sharey=one_scale, squeeze=False).flat)


def svg(figure: "Figure") -> str:
    """The figure as SVG: no date, stable ids, text as text, colours that follow a dark screen, description inside."""
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context(_RC), warnings.catch_warnings():
        # A label in a script that DejaVu lacks is drawn by the reader's own fonts.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ ")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :].replace("'DejaVu Sans'", "system-ui, 'DejaVu Sans'")
    said = escape(" ".join(filter(None, (alt_text(ax) for ax in figure.axes))), quote=True)
    dark = "".join(
        f'[style*="fill: {light}"]{{fill:{deep}!important}}[style*="stroke: {light}"]{{stroke:{deep}!important}}'
        for light, deep in ((light.lower(), deep) for light, deep in _DARK.items())
    )
    style = f"<style>@media (prefers-color-scheme: dark){{{dark}}}</style>"
    return re.sub(
        r"<svg\b([^>]*)>",
        lambda tag: f'<svg role="img" aria-label="{said}"{tag[1]}>\n <title>{said}</title>{style}',
        drawn,
        count=1,
    )


def pdf(figure: "Figure") -> bytes:
    """The figure as PDF: no date, so that it is the same each time; letters as outlines of their font, for print."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context(_RC | {"pdf.fonttype": 42}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ ")
        figure.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return buffer.getvalue()


_AS_PDF: ContextVar[bool] = ContextVar("as_pdf", default=False)


@contextmanager
def as_pdf(wanted: bool) -> Iterator[None]:
    """Draw every figure inside as PDF too, where wanted."""
    token = _AS_PDF.set(wanted)
    try:
        yield
    finally:
        _AS_PDF.reset(token)


class Picture:
    """A figure that a notebook shows as the report does, with its description for those who cannot see it."""

    def __init__(self, drawn: str) -> None:
        self.svg = drawn

    def _repr_html_(self) -> str:
        return self.svg


def picture(draw: Callable[..., object], *content: object, height: float = 2.6, **more: object) -> Picture:
    """Draw one of `ftlib.report.plots` for a notebook: `picture(methods.seeds, values, label="accuracy")`.

    `draw`: A function of `ftlib.report.plots`.
    """
    with drawing(height) as ax:
        draw(ax, *content, **more)
        return Picture(svg(ax.figure))


class Figure(NamedTuple):
    """One figure, ready to be put on the page."""

    kind: str
    title: str
    caption: str
    svg: str
    alt: str
    header: tuple[str, ...]
    """Of the table that says the same."""
    rows: tuple[tuple[str, ...], ...]
    unfolded: bool = False
    """Whether the table is shown at once, since it says more than the picture."""
    pdf: bytes = b""
    """Empty where it was not asked for."""

    def __repr__(self) -> str:
        return f"Figure({self.title})"

    def _repr_html_(self) -> str:
        return paragraph(self.title, strong=True) + self.svg + (paragraph(self.caption) if self.caption else "")


def title(said: str) -> str:
    """Words with a capital in front.

    >>> title("f1_macro of every method")
    'F1_macro of every method'
    """
    return said[0].upper() + said[1:]


def figure_of(
    ax: Any, kind: str, title: str, caption: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]]
) -> Figure:
    """A figure of what is drawn on these axes, with the table that says the same."""
    said = " ".join(filter(None, map(style.alt_text, ax.figure.axes)))
    title, caption = style.in_words(title), style.in_words(caption)
    if header[0] == "method":
        rows = [(style.in_words(row[0]), *row[1:]) for row in rows]
    printed = pdf(ax.figure) if _AS_PDF.get() else b""
    return Figure(kind, title, caption, svg(ax.figure), said, header, tuple(rows), pdf=printed)
