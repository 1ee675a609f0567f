"""Figures of a study: one function per figure, an axes in, the same axes out. Plain sequences in, no files, no pandas.

Every function leaves a description of what it drew on the axes, for readers who do not see it: `alt_text(ax)`. Colours
are those of Okabe and Ito (2008), which every form of colour vision tells apart; a marker's shape always says the same
as its colour. The report draws on `ftlib.report.figures.drawing`; a notebook on any axes. What all figures share is
here.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A6A00", "#5C5C5C")

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")

_SHOTS = re.compile(r" shots=\d+")

_LOOKS: ContextVar[Mapping[str, tuple[str, str]] | None] = ContextVar("looks", default=None)

_SAY: ContextVar[Callable[[str], str]] = ContextVar("say", default=str)


def looks(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Name -> colour and marker: those of the report that is being made, else by the names' order.

    >>> looks(["lora", "full"])["full"]
    ('#D55E00', 's')
    """
    given = dict(_LOOKS.get() or {})
    found = {}
    for name in names:
        # A method with other numbers of labels is the same line of a curve.
        known = _SHOTS.sub("", name)
        found[name] = given.setdefault(known, (COLOURS[len(given) % len(COLOURS)], MARKERS[len(given) % len(MARKERS)]))
    return found


@contextmanager
def one_look(names: Iterable[str], say: Callable[[str], str] = str) -> Iterator[None]:
    """Give each name one colour and one marker in every figure drawn inside.

    `say`: What people call what has a name in a text, "LoRA (minilm)" for "lora (minilm)".
    """
    looked = _LOOKS.set(looks(dict.fromkeys(_SHOTS.sub("", name) for name in names)))
    said = _SAY.set(say)
    try:
        yield
    finally:
        _LOOKS.reset(looked)
        _SAY.reset(said)


def in_words(said: str) -> str:
    """A text with what people call the methods that it names."""
    return _SAY.get()(said)


INK, FAINT, LINES, PAPER = "#1f2328", "#59636e", "#d1d9e0", "#ffffff"


def alt_text(ax: "Axes") -> str:
    """What the figure on these axes shows, in words."""
    return getattr(ax, "alt_text", "")


def described(ax: "Axes", said: str) -> "Axes":
    """Leave a description on the axes."""
    ax.alt_text = clean(in_words(said))
    return ax


def clean(said: str) -> str:
    r"""Text that XML can hold: control characters become visible.

    >>> clean("a\x1bb")
    'a�b'
    """
    said = re.sub(r"\s", " ", said)
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\N{REPLACEMENT CHARACTER}", said)


def label_of(name: str, most: int = 26) -> str:
    """A method's name for an axis or a legend, as people call it."""
    return shorten(in_words(name), most)


def shorten(said: str, most: int = 26) -> str:
    """Text short enough for an axis.

    >>> shorten("a name of many letters", 10)
    'a name of…'
    """
    said = clean(said)
    return said if len(said) <= most else said[: most - 1].rstrip() + "…"


def legend_below(ax: "Axes") -> None:
    """Put the legend under the axes, clear of their name."""
    # A share of the axes' height would move with the figure's; 44 points clear the tick labels and the axis' name.
    height = ax.figure.get_size_inches()[1] * 72
    ax.legend(loc="upper left", bbox_to_anchor=(0, -44 / height), ncols=2, handletextpad=0.3, borderaxespad=0)
