"""The one error a user meets: where it is, what was found, what is allowed, what to do."""

import difflib
from collections.abc import Iterable


class FtlibError(Exception):
    """A request that cannot be carried out, said in words a user can act on.

    Attributes:
        problems: What is wrong, one entry each; most errors have one.
    """

    def __init__(self, said: str, problems: Iterable[str] = ()) -> None:
        super().__init__(said)
        self.problems = tuple(problems) or (said,)

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows instead of a traceback: the sentence, since where it was raised helps nobody."""
        return str(self).splitlines()


class Diverged(FtlibError):
    """Training met a loss that is not a finite number; the run's status is `diverged`."""


class Interrupted(KeyboardInterrupt):
    """A person stopped a run; says what was kept."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def unknown(kind: str, name: object, known: Iterable[str]) -> FtlibError:
    """Build the error for a name that is in no table.

    Args:
        kind: What the name should have been, e.g. "method".

    Returns:
        An error to raise; it suggests the nearest known name where one is near.

    >>> print(unknown("method", "lorra", ["full", "lora"]))
    method: unknown 'lorra'; did you mean 'lora'? Known: full, lora
    >>> print(unknown("method", "zzz", ["full", "lora"]))
    method: unknown 'zzz'. Known: full, lora
    """
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return FtlibError(f"{kind}: unknown {name!r}{hint} Known: {', '.join(known)}")


def several(problems: Iterable[str]) -> FtlibError:
    """Join all problems of one request into one error, a line each.

    >>> print(several(["a: missing", "b: wrong"]))
    2 problems:
      a: missing
      b: wrong
    """
    problems = list(problems)
    if len(problems) == 1:
        return FtlibError(problems[0])
    return FtlibError("\n  ".join([f"{len(problems)} problems:", *problems]), problems)


def listed_texts(texts: Iterable[str], name: str = "texts") -> list[str]:
    """Texts as a list.

    Args:
        name: What the error calls them.

    Raises:
        FtlibError: They are one text or nothing, or something among them is none.

    >>> listed_texts(("a", "b"))
    ['a', 'b']
    """
    if texts is None or isinstance(texts, str):
        found = "nothing" if texts is None else f"one text, {texts[:40]!r}"
        raise FtlibError(f"{name}: found {found}; give a list of texts")
    given = list(texts)
    if wrong := [place for place, text in enumerate(given) if not isinstance(text, str)]:
        what = given[wrong[0]]
        raise FtlibError(f"{name}: {len(wrong)} of {len(given)} are no texts, the first at {wrong[0]}: {what!r}")
    return given
