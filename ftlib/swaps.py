"""Counterfactual texts: the same text about somebody else, and the text without saying who it is about.

What differs between a text and its swap is the identity that it names; a model that answers otherwise answers to the
identity (Kusner et al. 2017; for classifiers of text Garg et al. 2019, "Counterfactual Fairness in Text
Classification"). The words are in data/terms, two-way for gender (names too), and for nationality and religion every
member's words become those of one reference, the reference's those of another member.

Words that read in two ways ("her": his or him; "German": an adjective or a person) are decided by the next word alone:
where none follows, or one of a list that begins no noun phrase ("and", "to", "was", "again"), the word stands by
itself. So "saw her and left" gives "him" and "her left hand" gives "his", as does, wrongly, "saw her leave" ("his
leave"). Nothing here parses, resolves who is meant, or knows a name from a word that is spelled like one; a swapped
text can say what nobody would ("he gave birth"). Read some before believing a number (data/terms/CARD.md).
"""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ftlib.terms import Entry, Kind, Terms, capital

BOTH = -1
"""The side of a text that names both."""


class Swap(NamedTuple):
    """A text about somebody else."""

    text: str
    side: int
    """The side that the text named before: 0 the first, 1 the second, BOTH."""


def swapped(text: str, terms: Terms, kind: str) -> str | None:
    """The text with every identity term of a kind replaced by its counterpart; None where it holds no term.

    Args:
        text: Of any length; one that names both sides has both exchanged.
        terms: See `ftlib.terms.load_terms`.
        kind: "gender", "nationality", "religion", or another of the terms.

    Raises:
        FtlibError: No such kind.

    >>> from ftlib.terms import load_terms
    >>> terms = load_terms()
    >>> swapped("She is an actress, and her brother saw her. HE waved to Emma himself.", terms, "gender")
    'He is an actor, and his sister saw him. SHE waved to Daniel herself.'
    >>> swapped("A man left his coat; the coat was his.", terms, "gender")
    'A woman left her coat; the coat was hers.'
    >>> swapped("An American and two Germans ate Polish food in France.", terms, "nationality")
    'A Nigerian and two Americans ate American food in America.'
    >>> swapped("The rabbi met a Muslim man at church.", terms, "religion")
    'The priest met a Christian man at mosque.'
    >>> swapped("The soup was cold; Turkey, roast or not, it was not.", terms, "gender") is None
    True
    """
    found = swap(text, terms, kind)
    return found and found.text


def swap(text: str, terms: Terms, kind: str) -> Swap | None:
    """As `swapped`, with the side that the text named.

    >>> from ftlib.terms import load_terms
    >>> terms = load_terms()
    >>> [swap(text, terms, "gender").side for text in ("He left.", "She left.", "He met her.")]
    [0, 1, -1]
    """
    said, sides = _replaced(text, terms, terms.kind(kind), lambda entry: entry.instead)
    return Swap(said, sides.pop() if len(sides) == 1 else BOTH) if sides else None


def scrubbed(text: str, terms: Terms, kinds: Iterable[str] = ()) -> str:
    """The text with identity terms replaced by neutral words; verbs are left as they are ("they was").

    Args:
        text: Of any length.
        terms: See `ftlib.terms.load_terms`.
        kinds: Which kinds; none: all.

    Raises:
        FtlibError: No such kind.

    >>> from ftlib.terms import load_terms
    >>> scrubbed("My aunt, an Iranian Muslim, lost her keys at the mosque.", load_terms())
    'My relative, a local believer, lost their keys at the place of worship.'
    """
    for kind in tuple(kinds) or terms.kinds:
        text, _ = _replaced(text, terms, terms.kind(kind), lambda entry: entry.neutral)
    return text


def _replaced(text: str, terms: Terms, kind: Kind, choose: Callable[[Entry], tuple[str, str]]) -> tuple[str, set[int]]:
    sides: set[int] = set()
    plain = not any(letter.isupper() for letter in text)

    def put(match: re.Match[str]) -> str:
        article, gap, word = match.groups()
        entry = kind.names(word, plain)
        if entry is None:
            return match[0]
        sides.add(entry.side)
        new = choose(entry)[terms.alone(text[match.end() :])]
        begins = re.search(r"(^|[.!?])[\s\"'“‘(]*$", text[: match.start()]) is not None and not article
        new = _like(word, new, entry.listed, plain=plain, begins=begins)
        if not article:
            return new
        if terms.takes_an(word) != terms.takes_an(new):
            article = _article(article, terms.takes_an(new), shouted=new.isupper())
        return f"{article}{gap}{new}"

    return kind.pattern.sub(put, text), sides


def _like(word: str, new: str, listed: str, *, plain: bool, begins: bool) -> str:
    """The new word in the case of the one it replaces."""
    if plain:
        return new.lower()
    if word != listed and len(word) > 1 and word.isupper():
        return new.upper()
    return capital(new) if word[0].isupper() and (listed[0].islower() or begins) else new


def _article(article: str, an: bool, *, shouted: bool) -> str:
    new = "an" if an else "a"
    if shouted and article.isupper():
        return new.upper()
    return capital(new) if article[0].isupper() else new
