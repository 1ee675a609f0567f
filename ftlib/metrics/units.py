"""Metrics as readers are shown them: their names, units and values."""

from collections.abc import Iterator, Mapping
from typing import Any

from ftlib.core.format import NONE, missing
from ftlib.core.html import fold, table
from ftlib.metrics import flat
from ftlib.metrics.registry import LANGUAGE_MODELING, METRICS, TEXT_TO_TEXT, metric_row

WRITTEN_AS = {
    "f1_macro": "macro F1",
    "f1_binary": "F1",
    "mcc": "MCC",
    "brier": "Brier score",
    "order_sd": "spread over orders",
    "bleu": "BLEU",
    "chrf": "chrF",
    "ter": "TER",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
}
"""Metrics that readers know by another spelling than their key's."""


def name(metric: str) -> str:
    """A metric's name in words.

    >>> name("f1_macro"), name("bits_per_byte"), name("chrf"), name("f1.not_ok")
    ('macro F1', 'bits per byte', 'chrF', 'f1.not_ok')
    """
    return WRITTEN_AS.get(metric, metric.replace("_", " ") if metric in METRICS else metric)


def of_text(metric: str) -> bool:
    """Whether it is a metric of likelihoods of text."""
    return metric_row(metric).kind == LANGUAGE_MODELING


def in_own_unit(metric: str) -> bool:
    """Whether its differences are said in its own unit, such as BLEU points."""
    row = metric_row(metric)
    return row.kind == LANGUAGE_MODELING or (row.kind == TEXT_TO_TEXT and row.unit != "share")


def noun(metric: str) -> str:
    """What it is measured on.

    >>> noun("accuracy"), noun("bits_per_byte"), noun("chrf")
    ('example', 'document', 'segment')
    """
    return {LANGUAGE_MODELING: "document", TEXT_TO_TEXT: "segment"}.get(metric_row(metric).kind, "example")


def unit(metric: str) -> str:
    """What follows a difference in a sentence.

    >>> unit("accuracy"), unit("mcc"), unit("bits_per_byte"), unit("bleu")
    (' points', ' in MCC', ' bits per byte', ' BLEU points')
    """
    if in_own_unit(metric):
        return f" {metric_row(metric).unit}"
    return " points" if scale(metric) > 1 else f" in {name(metric)}"


def heading(metric: str) -> str:
    r"""A metric's name with its unit and its direction, for a column.

    >>> heading("accuracy"), heading("brier")
    ('accuracy, %\xa0↑', 'Brier score\xa0↓')
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

    >>> with_name("accuracy", 0.6833), with_name("mcc", 0.5), with_name("bits_per_byte", 1.5), with_name("chrf", 50.0)
    ('accuracy 68.3 %', 'MCC 0.500', '1.500 bits per byte', 'chrF 50.0')
    """
    if of_text(metric):
        return f"{level(metric, value)} {name(metric)}"
    return f"{name(metric)} {level(metric, value)}{' %' if scale(metric) > 1 and not missing(value) else ''}"


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
    points = metric in METRICS and METRICS[metric].unit.endswith("points")
    return 1 if scale(metric) > 1 or points else 2 if metric.endswith("perplexity") else 3


def margin(metric: str, value: float) -> str:
    """The plan's margin in words.

    >>> margin("accuracy", 0.01), margin("accuracy", 0.005), margin("mcc", 0.02), margin("bits_per_byte", 0.02)
    ('1 point', '0.5 points', '0.02', '0.02 bits per byte')
    >>> margin("chrf", 1.0)
    '1 chrF point'
    """
    shown = f"{scale(metric) * value:g}"
    if in_own_unit(metric):
        return shown + (unit(metric).removesuffix("s") if shown == "1" else unit(metric))
    return shown if scale(metric) == 1 else f"{shown} point{'' if shown == '1' else 's'}"


FIRST = ("accuracy", "bits_per_byte")
"""Metrics that are asked for first."""
MOST_ROWS = 16
"""Rows beyond which other evaluation sets are shown on demand."""


def stages_table(stages: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """HTML of metrics[stage][evaluation set][metric]; the last stage minus the first is the change."""
    found = {stage: _of_parts(parts) for stage, parts in stages.items() if parts or len(stages) == 1}
    every = dict.fromkeys(path for leaves in found.values() for path in leaves)
    labels = [path for path in every if path[1].startswith("f1.")]
    rest = sorted((path for path in every if path not in labels), key=_order)
    own, others = [path for path in rest if path[0] == "test"] or rest, []
    if len(rest) > MOST_ROWS:
        others = [path for path in rest if path not in own]
    else:
        own = rest
    said = table(_header(found), _rows(own, found))
    for name, some in (("other evaluations", others), ("F1 of each label", labels)):
        if some:
            said += fold(f"{name} ({len(some)} rows)", table(_header(found), _rows(some, found)))
    return said


Path = tuple[str, str]
"""An evaluation set, and a metric's path in it."""


def _of_parts(parts: Mapping[str, Mapping[str, Any]]) -> dict[Path, Mapping[str, Any]]:
    """The leaves by path; groups and gaps, of which there are many, are the report's to show."""
    return {
        (part, metric): leaf
        for part, kept in parts.items()
        for metric, leaf in flat({name: node for name, node in kept.items() if name not in ("groups", "gaps")}).items()
    }


def _order(path: Path) -> tuple[bool, str, bool]:
    part, metric = path
    return part != "test", part if part != "test" else "", metric not in FIRST


def _header(found: Mapping[str, Any]) -> tuple[str, ...]:
    states = [stage.replace("_", " ") or "value" for stage in found]
    return ("metric", *(f"{state} (95 % interval)" for state in states), *(["change"] * (len(found) > 1)), "n")


def _rows(some: list[Path], found: Mapping[str, Mapping[Path, Mapping[str, Any]]]) -> Iterator[tuple[object, ...]]:
    sets = {part for leaves in found.values() for part, _ in leaves}
    for part, metric in some:
        known = metric if metric in METRICS or metric.startswith("f1.") else ""
        name = heading(metric) if known else metric
        leaves = [one.get((part, metric)) for one in found.values()]
        values = [leaf and leaf["value"] for leaf in (leaves[0], leaves[-1])]
        change = "" if None in values else _difference(known, values[1] - values[0])
        counted = next((leaf["n"] for leaf in reversed(leaves) if leaf and "n" in leaf), "")
        states = [_state(known, leaf) for leaf in leaves]
        yield f"{part}: {name}" if len(sets) > 1 else name, *states, *([change] * (len(found) > 1)), counted


def _state(metric: str, leaf: Mapping[str, Any] | None) -> str:
    if leaf is None:
        return ""
    if missing(leaf["value"]):
        return NONE if "reason" not in leaf else f"not available: {leaf['reason']}"
    show = (lambda value: level(metric, value)) if metric else (lambda value: f"{value:.3f}")
    if missing(leaf.get("low")) or missing(leaf.get("high")):
        return f"{show(leaf['value'])} (none)"
    return f"{show(leaf['value'])} ({show(leaf['low'])} to {show(leaf['high'])})"


def _difference(metric: str, value: float) -> str:
    return difference(metric, value) if metric else f"{value:+.3f}"
