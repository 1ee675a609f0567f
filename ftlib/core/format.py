"""Numbers, durations and names as readers are shown them: what is not there is said to be so, never shown as 0."""

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NONE = "n/a"


def missing(value: float | None) -> bool:
    """Whether there is no number.

    >>> missing(None), missing(float("nan")), missing(0)
    (True, True, False)
    """
    return value is None or (isinstance(value, float) and math.isnan(value))


def seconds(value: float | None) -> str:
    r"""A duration.

    >>> seconds(0.004), seconds(7.3), seconds(140), seconds(7300)
    ('under 0.1\xa0s', '7.3\xa0s', '2\xa0min 20\xa0s', '2\xa0h 1\xa0min')
    """
    if missing(value):
        return NONE
    if value == 0:
        return "0\xa0s"
    if value < 0.1:
        return "under 0.1\xa0s"
    if value < 60:
        return f"{value:.1f}\xa0s" if value < 10 else f"{value:.0f}\xa0s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes}\xa0min {rest}\xa0s" if minutes < 60 else f"{minutes // 60}\xa0h {minutes % 60}\xa0min"


def typed(path: str | Path) -> str:
    """A path as it is typed into a shell.

    >>> typed("reports/demo"), typed("my study")
    ('reports/demo', "'my study'")
    """
    return shlex.quote(Path(path).as_posix())


def size(value: float | None) -> str:
    """Bytes.

    >>> size(0), size(2_700_000), size(1.4e9)
    ('0', '2.7 MB', '1.4 GB')
    """
    if missing(value):
        return NONE
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= unit:
            return f"{value / unit:.1f} {name}"
    return f"{value:.0f}"


def count(value: float | None) -> str:
    """How many.

    >>> count(871), count(22_713_216)
    ('871', '22.7 M')
    """
    if missing(value):
        return NONE
    if value >= 1e9:
        return f"{value / 1e9:.1f} G"
    return f"{value / 1e6:.1f} M" if value >= 1e6 else f"{value:,.0f}".replace(",", "\u202f")


def p_value(value: float | None) -> str:
    """A p-value, never as 0.

    >>> p_value(0.04321), p_value(1e-9)
    ('0.043', 'below 0.001')
    """
    if missing(value):
        return NONE
    return "below 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def likelihood(value: float) -> str:
    """A probability from replicates, of which none is ever certain.

    >>> likelihood(1.0), likelihood(0.62)
    ('over 99 %', '62 %')
    """
    return "over 99 %" if value > 0.99 else "under 1 %" if value < 0.01 else f"{100 * value:.0f} %"


def listed(names: list[str] | tuple[str, ...], last: str = "and") -> str:
    """Names in a sentence.

    >>> listed(["a", "b", "c"]), listed(["a"])
    ('a, b and c', 'a')
    """
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}" if names else "none"


def some(names: list[str] | tuple[str, ...], most: int = 5) -> str:
    """The first of many names in a sentence.

    >>> some(["a", "b", "c", "d"], 2), some(["a", "b", "c"], 2)
    ('a, b and 2 others', 'a, b and c')
    """
    return listed(names if len(names) <= most + 1 else [*names[:most], f"{len(names) - most} others"])


def unbroken(said: str) -> str:
    """Keep the thousands of a number on one line.

    >>> unbroken("about 1 500 more")
    'about 1\u202f500 more'
    """
    return re.sub(r"(?<=\d) (?=\d{3}(?!\d))", "\u202f", said)


def plural(number: int, noun: str) -> str:
    """A number with its noun.

    >>> plural(1, "seed"), plural(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def protocols(found: Mapping[str, Sequence[str]]) -> str:
    """How likelihoods of text came about, in one line: the first is the rule, and who differs is named.

    >>> protocols({"context 512": ["lora", "full"]}), protocols({"context 512": ["lora"], "6-grams": ["ngram"]})
    ('context 512', 'context 512; ngram: 6-grams')
    """
    rule, *others = found or [""]
    return "; ".join([rule, *(f"{some(list(found[other]))}: {other}" for other in others)])


def clock(seconds: float | None) -> str:
    """Minutes and seconds.

    >>> clock(75.4), clock(None)
    ('1:15', '?')
    """
    return "?" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def short_name(task: str) -> str:
    """What a task is called as a part of a record: of a path its last component without ending.

    >>> short_name("pydocs"), short_name("file:data/trec6"), short_name("hub:stanfordnlp/sst2@abc")
    ('pydocs', 'trec6', 'sst2')
    >>> short_name("file:data/multi30k:en>de")  # a direction is no part of the name
    'multi30k'
    """
    task = re.sub(r":[^:/>]+>[^:/>]+$", "", task)
    if task.startswith("file:"):
        return Path(task[5:]).stem
    return task.removeprefix("hub:").partition("@")[0].rpartition("/")[2]


_STARTS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def cell(value: Any) -> str:
    """One cell: a text that a spreadsheet would take for a formula gets an apostrophe in front; numbers stay numbers.

    >>> cell("=1+1"), cell("-0.5"), cell(-0.5), cell("-a"), cell(None), cell(True)
    ("'=1+1", '-0.5', '-0.5', "'-a", '', 'yes')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return repr(value)
    said = str(value).replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode("utf-8")
    if said.lstrip(" ").startswith(_STARTS_FORMULA) and not _is_number(said):
        return f"'{said}"
    return said


def _is_number(said: str) -> bool:
    if not said.isascii() or said != said.strip():
        return False
    try:
        float(said)
    except ValueError:
        return False
    return True
