"""Counterfactual texts: the same text about somebody else, and the text without saying who it is about.

The words that name an identity, and what stands in their place, are listed in data/terms and in a file of the user's.
What differs between a text and its swap is the identity that it names; a model that answers otherwise answers to the
identity (Kusner et al. 2017; for classifiers of text Garg et al. 2019, "Counterfactual Fairness in Text
Classification"). The lists are two-way for gender (names too), and for nationality and religion every
member's words become those of one reference, the reference's those of another member.

Words that read in two ways ("her": his or him; "German": an adjective or a person) are decided by the next word alone:
where none follows, or one of a list that begins no noun phrase ("and", "to", "was", "again"), the word stands by
itself. So "saw her and left" gives "him" and "her left hand" gives "his", as does, wrongly, "saw her leave" ("his
leave"). Nothing here parses, resolves who is meant, or knows a name from a word that is spelled like one; a swapped
text can say what nobody would ("he gave birth"). Read some before believing a number (data/terms/CARD.md).
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ftlib.core.errors import FtlibError, unknown
from ftlib.data.task import data_file
from ftlib.data.words import UNSPACED

SETTINGS = {"sides", "rows", "by_what_follows", "reference", "instead", "forms", "neutral", "capital_only", "members"}

BOTH = -1
"""The side of a text that names both."""


class Entry(NamedTuple):
    """A word of a list, and what stands in its place: [before a noun, elsewhere]."""

    listed: str
    side: int
    instead: tuple[str, str]
    neutral: tuple[str, str]


@dataclass(frozen=True)
class Kind:
    """The words of one kind of identity."""

    name: str
    sides: tuple[str, str]
    entries: Mapping[str, Entry]
    """By the word in lower case."""
    capital_only: frozenset[str] = frozenset()
    """Words that need their capital even where a text has none."""

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """An article, if there is one, and a word of the list, the longest that fits."""
        words = "|".join(re.escape(word) for word in sorted(self.entries, key=len, reverse=True))
        # A character of a script without spaces ends no word and begins none: beside it, a term stands by itself.
        edge = rf"[^\W{UNSPACED}]"
        return re.compile(rf"(?<!{edge})(?:(an?)(\s+))?({words})(?!{edge})", re.IGNORECASE)

    def names(self, word: str, plain: bool) -> Entry | None:
        """The entry of a word as it stands in a text; None where its capitals say that it is another word."""
        entry = self.entries[word.lower()]
        listed = entry.listed
        if listed.islower() or word in (listed, capital(listed), listed.upper()):
            return entry
        return entry if plain and listed not in self.capital_only else None


@dataclass(frozen=True)
class Terms:
    """All lists that swaps are made from."""

    kinds: Mapping[str, Kind]
    no_noun: frozenset[str]
    a: tuple[str, ...]
    an: tuple[str, ...]

    def kind(self, name: str) -> Kind:
        """The kind of that name.

        Raises:
            FtlibError: There is none.
        """
        if name not in self.kinds:
            raise unknown("kind of identity terms", name, self.kinds)
        return self.kinds[name]

    def alone(self, rest: str) -> bool:
        """Whether a word that is followed by this stands by itself, with no noun after it.

        >>> [load_terms().alone(rest) for rest in (" old friend", " and left", ".", " 'best' friend", " then-wife")]
        [False, True, True, False, False]
        """
        following = re.match(r"\s+[\"'“‘(]*([\w-]+)", rest)
        return following is None or following[1].lower() in self.no_noun

    def takes_an(self, word: str) -> bool:
        """Whether the article before a word is "an".

        >>> [load_terms().takes_an(word) for word in ("uncle", "Ukrainian", "heiress", "man")]
        [True, False, True, False]
        """
        word = word.lower()
        return word.startswith(self.an) or (word[:1] in tuple("aeiou") and not word.startswith(self.a))


@cache
def load_terms(path: str = "") -> Terms:
    """Read the lists of data/terms/terms.toml, and a file of the user's on top of them.

    Args:
        path: A TOML file in the same form; empty: the project's lists alone.

    Raises:
        FtlibError: A file is missing, is not TOML, or has something in it that is not as the project's file says.

    >>> {name: kind.sides for name, kind in load_terms().kinds.items()}["gender"]
    ('men', 'women')
    """
    own = data_file("terms", "terms.toml")
    if own is None:
        raise FtlibError("terms: data/terms/terms.toml is not in this installation; install ftlib from a checkout")
    lists = _read(own)
    for name, table in _read(Path(path)).items() if path else ():
        lists[name] = _merged(lists[name], table) if name in lists else table
    where = path or own.name
    grammar = lists.pop("grammar")
    kinds = {name: _kind(where, name, table) for name, table in lists.items()}
    return Terms(kinds, frozenset(grammar["no_noun"]), tuple(grammar["a"]), tuple(grammar["an"]))


def _read(path: Path) -> dict[str, Any]:
    try:
        lists = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FtlibError(f"terms: {path} cannot be read ({error.strerror}); give the path of a TOML file") from None
    except ValueError as error:
        raise FtlibError(f"terms: {path} is not TOML in UTF-8: {error}") from None
    for name, table in lists.items():
        allowed = {"no_noun", "a", "an"} if name == "grammar" else SETTINGS
        if not isinstance(table, dict):
            raise FtlibError(f"{path}: {name} stands outside the tables; allowed: [grammar] and a table for each kind")
        if wrong := set(table) - allowed:
            raise unknown(f"{path}: [{name}]", min(wrong), allowed)
    return lists


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """A kind with the user's words first, and the user's settings in place of the project's."""
    both = {**old, **new}
    for name in ("rows", "no_noun", "a", "an", "capital_only"):
        if name in old and name in new:
            both[name] = [*new[name], *old[name]]
    if "members" in old and "members" in new:
        both["members"] = {**old["members"], **new["members"]}
    if any(name in new and new[name] != old.get(name) for name in ("reference", "instead")):
        # What the project's file says about single words leads to its own reference.
        both["by_what_follows"] = new.get("by_what_follows", {})
    elif "by_what_follows" in old and "by_what_follows" in new:
        both["by_what_follows"] = {**old["by_what_follows"], **new["by_what_follows"]}
    return both


def _kind(where: str, name: str, table: Mapping[str, Any]) -> Kind:
    """A kind from its table."""
    sides = table.get("sides")
    if not _words(sides, 2):
        raise FtlibError(f"{where}: [{name}] sides: found {sides!r}; allowed: two names, one for each side")
    entries: dict[str, Entry] = {}
    for word, how in table.get("by_what_follows", {}).items():
        both = [how.get("instead"), how.get("neutral")] if isinstance(how, dict) else [None]
        if not all(_words(words, 2) for words in both) or how.get("side") not in sides:
            raise FtlibError(
                f"{where}: [{name}.by_what_follows] {word}: found {how!r}; allowed: side (one of {sides}), instead and "
                "neutral, both [before a noun, elsewhere]"
            )
        entries[word.lower()] = Entry(word, sides.index(how["side"]), *(tuple(words) for words in both))
    for row in table.get("rows", []):
        if not _words(row, 3):
            raise FtlibError(f"{where}: [{name}] rows: found {row!r}; allowed: [word, its counterpart, neutral word]")
        for side in (0, 1):
            other, neutral = row[1 - side], row[2]
            entries.setdefault(row[side].lower(), Entry(row[side], side, (other, other), (neutral, neutral)))
    for entry in _of_members(where, name, table) if table.get("members") else ():
        entries.setdefault(entry.listed.lower(), entry)
    if not entries:
        raise FtlibError(f"{where}: [{name}] has neither rows nor members; give one of them")
    return Kind(name, tuple(sides), entries, frozenset(table.get("capital_only", ())))


def _of_members(where: str, name: str, table: Mapping[str, Any]) -> Iterable[Entry]:
    members, forms, neutral = table["members"], table.get("forms", []), table.get("neutral")
    ends = {end: table.get(end) for end in ("reference", "instead")}
    for end, member in ends.items():
        if member not in members:
            raise unknown(f"{where}: [{name}] {end}", member, members)
    if not _words(neutral, len(forms)):
        raise FtlibError(f"{where}: [{name}] neutral: found {neutral!r}; allowed: a word for each of {forms}")
    spelled = {}
    for member, cells in members.items():
        if not isinstance(cells, list) or len(cells) != len(forms):
            raise FtlibError(f"{where}: [{name}.members] {member}: found {cells!r}; allowed: one each of {forms}")
        spelled[member] = [[word for word in ([cell] if isinstance(cell, str) else cell) if word] for cell in cells]
    for end, member in ends.items():
        if lacks := [form for form, words in zip(forms, spelled[member], strict=True) if not words]:
            raise FtlibError(f"{where}: [{name}] {end} {member!r} has no {lacks[0]}; it must have every form")
    for member, cells in spelled.items():
        is_reference = member == ends["reference"]
        other = [words[0] for words in spelled[ends["instead" if is_reference else "reference"]]]
        for word in dict.fromkeys(word for words in cells for word in words):
            # A word of two forms is the first before a noun (a German car), the second elsewhere (a German came).
            at = [place for place, words in enumerate(cells) if word in words]
            first, last = at[0], at[-1]
            yield Entry(word, int(not is_reference), (other[first], other[last]), (neutral[first], neutral[last]))


def _words(found: object, n: int) -> bool:
    return isinstance(found, list) and len(found) == n and all(isinstance(word, str) and word for word in found)


def capital(word: str) -> str:
    """The word with a capital."""
    return word[:1].upper() + word[1:]


class Swap(NamedTuple):
    """A text about somebody else."""

    text: str
    side: int
    """The side that the text named before: 0 the first, 1 the second, BOTH."""


def swapped(text: str, terms: Terms, kind: str) -> str | None:
    """The text with every identity term of a kind replaced by its counterpart; None where it holds no term.

    Args:
        text: Of any length; one that names both sides has both exchanged.
        kind: "gender", "nationality", "religion", or another of the terms.

    Raises:
        FtlibError: No such kind.

    >>> from ftlib.data.identity_terms import load_terms
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

    >>> from ftlib.data.identity_terms import load_terms
    >>> terms = load_terms()
    >>> [swap(text, terms, "gender").side for text in ("He left.", "She left.", "He met her.")]
    [0, 1, -1]
    """
    said, sides = _replaced(text, terms, terms.kind(kind), lambda entry: entry.instead)
    return Swap(said, sides.pop() if len(sides) == 1 else BOTH) if sides else None


def scrubbed(text: str, terms: Terms, kinds: Iterable[str] = ()) -> str:
    """The text with identity terms replaced by neutral words; verbs are left as they are ("they was").

    Args:
        kinds: Which kinds; none: all.

    Raises:
        FtlibError: No such kind.

    >>> from ftlib.data.identity_terms import load_terms
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
