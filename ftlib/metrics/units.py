"""Metrics as readers are shown them: their names, units and values."""

from ftlib.core.format import NONE, missing
from ftlib.metrics.registry import METRICS, metric_row


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
    known = metric in METRICS or metric.startswith("f1.")
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


def margin(metric: str, value: float) -> str:
    """The plan's margin in words.

    >>> margin("accuracy", 0.01), margin("accuracy", 0.005), margin("mcc", 0.02), margin("bits_per_byte", 0.02)
    ('1 point', '0.5 points', '0.02', '0.02 bits per byte')
    """
    shown = f"{scale(metric) * value:g}"
    if of_text(metric):
        return shown + unit(metric)
    return shown if scale(metric) == 1 else f"{shown} point{'' if shown == '1' else 's'}"
