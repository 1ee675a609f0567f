"""HTML that is inert: everything that goes in is escaped, whatever it says. Needs only the standard library."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_NUMBER = frozenset("0123456789.,-−+ %<≈±")


def text(value: object) -> str:
    r"""Escape a value for HTML text or a quoted attribute; control characters become visible.

    >>> text('<b> "&" \x00')
    '&lt;b&gt; &quot;&amp;&quot; �'
    """
    said = "" if value is None else str(value)
    said = "".join(c if c >= " " or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in said)
    return escape(said.encode("utf-8", "replace").decode("utf-8"), quote=True)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """An HTML table of plain values, every cell escaped; numbers are aligned to the right, the rest to the left.

    >>> table(("n",), [("<a>",), (3,)])
    '<table><thead><tr><th scope="col" style="text-align:left">n</th></tr></thead>\
<tbody><tr><td style="text-align:left">&lt;a&gt;</td></tr><tr><td style="text-align:right">3</td></tr></tbody></table>'
    """
    # Said in each cell, because Jupyter's own style aligns everything to the right.
    head = "".join(f'<th scope="col" style="text-align:left">{text(name)}</th>' for name in header)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def fold(summary: str, inside: str) -> str:
    """HTML that is shown on demand.

    >>> fold("2 more", "<p>a</p>")
    '<details><summary>2 more</summary><p>a</p></details>'
    """
    return f"<details><summary>{text(summary)}</summary>{inside}</details>"


def paragraph(said: str, *, strong: bool = False) -> str:
    """A sentence of its own.

    >>> paragraph("a < b")
    '<p>a &lt; b</p>'
    """
    return f"<p><strong>{text(said)}</strong></p>" if strong else f"<p>{text(said)}</p>"


class Shown:
    """HTML that a notebook displays."""

    def __init__(self, content: str, plain: str = "") -> None:
        self.content, self.plain = content, plain

    def _repr_html_(self) -> str:
        return self.content

    def __repr__(self) -> str:
        return self.plain or object.__repr__(self)


def full_text(frame: "pd.DataFrame") -> Shown:
    """A table with its texts in whole, which a DataFrame cuts off."""
    return Shown(table([str(name) for name in frame.columns], frame.itertuples(index=False)), str(frame))


def sentences(said: Iterable[str]) -> Shown:
    """Sentences for a notebook, a line each.

    >>> sentences(["a < b"]).content
    '<ul><li>a &lt; b</li></ul>'
    """
    lines = list(said)
    return Shown(f"<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>", "\n".join(lines))


def _cell(value: object) -> str:
    said = text(value)
    number = any(c.isdigit() for c in said) and set(said) <= _NUMBER
    return f'<td style="text-align:{"right" if number else "left"}">{said}</td>'
