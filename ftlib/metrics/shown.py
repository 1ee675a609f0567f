"""A run's metrics as a notebook shows them: a row per metric, a column per state of the model."""

from collections.abc import Iterator, Mapping
from typing import Any

from ftlib.core.format import NONE, missing
from ftlib.core.html import fold, table
from ftlib.metrics import flat, units
from ftlib.metrics.registry import METRICS

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
        name = units.heading(metric) if known else metric
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
    show = (lambda value: units.level(metric, value)) if metric else (lambda value: f"{value:.3f}")
    if missing(leaf.get("low")) or missing(leaf.get("high")):
        return f"{show(leaf['value'])} (none)"
    return f"{show(leaf['value'])} ({show(leaf['low'])} to {show(leaf['high'])})"


def _difference(metric: str, value: float) -> str:
    return units.difference(metric, value) if metric else f"{value:+.3f}"
