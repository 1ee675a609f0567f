"""Numbers as readers are shown them. A value that is not there is said to be so, never shown as 0."""

import math
import re
from collections.abc import Mapping, Sequence

from ftlib.metrics import METRICS, metric_row

NONE = "n/a"


def missing(value: float | None) -> bool:
    """Whether there is no number.

    >>> missing(None), missing(float("nan")), missing(0)
    (True, True, False)
    """
    return value is None or (isinstance(value, float) and math.isnan(value))


def name(metric: str) -> str:
    """A metric's name in words: its key, unless the key is words with underscores.

    >>> name("f1_macro"), name("bits_per_byte")
    ('f1_macro', 'bits per byte')
    """
    return metric.replace("_", " ") if of_text(metric) else metric


def of_text(metric: str) -> bool:
    """Whether it is a metric of likelihoods of text."""
    return metric_row(metric).kind == "language-modeling"


def noun(metric: str) -> str:
    """What it is measured on.

    >>> noun("accuracy"), noun("bits_per_byte")
    ('example', 'document')
    """
    return "document" if of_text(metric) else "example"


def unit(metric: str) -> str:
    """What follows a difference in a sentence.

    >>> unit("accuracy"), unit("mcc"), unit("bits_per_byte")
    (' points', ' in mcc', ' bits per byte')
    """
    if of_text(metric):
        return f" {metric_row(metric).unit}"
    return " points" if scale(metric) > 1 else f" in {metric}"


def heading(metric: str) -> str:
    r"""A metric's name with its unit and its direction, for a column.

    >>> heading("accuracy"), heading("brier")
    ('accuracy, %\xa0↑', 'brier\xa0↓')
    """
    row = metric_row(metric)
    return (
        f"{name(metric)}{', %' if row.unit == 'share' else ''}\N{NO-BREAK SPACE}{'↑' if row.higher_is_better else '↓'}"
    )


def scale(metric: str) -> float:
    """What a metric's values are multiplied by for readers: shares are shown in per cent."""
    known = metric in METRICS or metric.startswith("f1_")
    return 100.0 if known and metric_row(metric).unit == "share" else 1.0


def level(metric: str, value: float | None) -> str:
    """A metric's value, without its unit.

    >>> level("accuracy", 0.6833), level("mcc", 0.6833), level("mcc", None)
    ('68.3', '0.683', 'n/a')
    """
    if missing(value):
        return NONE
    return f"{scale(metric) * value:.{_digits(metric)}f}".replace("-", "−")


def with_name(metric: str, value: float | None) -> str:
    """A metric's value with its unit and name.

    >>> with_name("accuracy", 0.6833), with_name("mcc", 0.5), with_name("bits_per_byte", 1.5)
    ('accuracy 68.3 %', 'mcc 0.500', '1.500 bits per byte')
    """
    if of_text(metric):
        return f"{level(metric, value)} {name(metric)}"
    return f"{metric} {level(metric, value)}{' %' if scale(metric) > 1 and not missing(value) else ''}"


def span(metric: str, low: float | None, high: float | None) -> str:
    """An interval.

    >>> span("accuracy", 0.66, 0.7)
    '66.0 to 70.0'
    """
    return "" if missing(low) or missing(high) else f"{level(metric, low)} to {level(metric, high)}"


def difference(metric: str, value: float | None, signed: bool = True) -> str:
    """A difference of two values; shares in points.

    >>> difference("accuracy", -0.021)
    '−2.1'
    """
    if missing(value):
        return NONE
    return f"{scale(metric) * value:{'+' if signed else ''}.{_digits(metric)}f}".replace("-", "−")


def _digits(metric: str) -> int:
    """Digits after the point: of per cent, of a perplexity, of the rest."""
    return 1 if scale(metric) > 1 else 2 if metric.endswith("perplexity") else 3


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


def margin(metric: str, value: float) -> str:
    """The plan's margin in words.

    >>> margin("accuracy", 0.01), margin("accuracy", 0.005), margin("mcc", 0.02), margin("bits_per_byte", 0.02)
    ('1 point', '0.5 points', '0.02', '0.02 bits per byte')
    """
    shown = f"{scale(metric) * value:g}"
    if of_text(metric):
        return shown + unit(metric)
    return shown if scale(metric) == 1 else f"{shown} point{'' if shown == '1' else 's'}"


def protocols(found: Mapping[str, Sequence[str]]) -> str:
    """How likelihoods of text came about, in one line: the first is the rule, and who differs is named.

    >>> protocols({"context 512": ["lora", "full"]}), protocols({"context 512": ["lora"], "6-grams": ["ngram"]})
    ('context 512', 'context 512; ngram: 6-grams')
    """
    rule, *others = found or [""]
    return "; ".join([rule, *(f"{some(list(found[other]))}: {other}" for other in others)])
