"""What many rows of report.json have in common: which runs they are about, and an interval's numbers.

What the predictions say, as rows: every metric of every group with its interval, and where a record disagrees.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftlib.metrics import language, text
from ftlib.metrics.classification import why_undefined
from ftlib.metrics.registry import METRICS, NO_TOKENS, WRITTEN, Metric, metric_row
from ftlib.records import flat
from ftlib.records.predictions import Part
from ftlib.records.study import Group, Run, Study
from ftlib.report.pairing import common_examples
from ftlib.stats.intervals import Interval, interval, metric_interval
from ftlib.stats.linearize import by_kind, label_sums, metric_of_counts

WHO = ("task", "model", "method", "settings")
"""What a row of report.json names its configuration by."""


def who(group: Group) -> dict[str, str]:
    """The columns that name a group of runs."""
    return {"task": group.task, "model": group.model, "method": group.method, "settings": group.settings}


def numbers(found: Interval) -> dict[str, float | None]:
    """A value and its interval, null where there is none.

    >>> numbers(Interval(0.5, 0.25, math.nan))
    {'value': 0.5, 'low': 0.25, 'high': None}
    """
    return {name: None if math.isnan(number) else float(number) for name, number in found._asdict().items()}


OF_LABELS = ("accuracy", "f1_macro", "f1_binary", "mcc")

TOLERANCE = 1e-9
"""How far a record's value may lie from the one recomputed before the report says so, as a share of values above 1."""


class Disagreement(NamedTuple):
    """A value of a record that its own predictions do not give."""

    run_id: str
    where: str
    recorded: float | None
    recomputed: float | None


def value_of(part: Part, metric: str) -> float:
    """One run's value of a metric, from its predictions; NaN where it is undefined or cannot be had from them."""
    if part.texts is not None:
        counts = part.counts(metric) if metric in metrics_of(part) and len(part.ids) else None
        return math.nan if counts is None else float(text.SUMS[metric].value(counts.sum(axis=0)))
    if metric in language.METRICS_OF_TEXT:
        sums = document_sums(part, metric)
        return METRICS[metric].function(*sums) if sums else math.nan
    if part.truth is None or part.chosen is None:
        return math.nan
    if metric_row(metric).terms:
        return float(part.terms[metric].mean()) if metric in part.terms else math.nan
    counts = label_sums(part.truth, part.chosen, len(part.labels))
    positive = _positive(part, metric)
    if positive is None or (metric == "f1_binary" and len(part.labels) != 2):
        return math.nan
    if metric == "mcc" and _constant(counts):
        return math.nan
    return float(metric_of_counts(counts, metric if metric in OF_LABELS else "f1_binary", positive=positive))


def values_of(part: Part, metric: str) -> NDArray[np.float64]:
    """Values per example whose mean is a metric that is no metric of labels: (n_examples,)."""
    if metric in part.terms:
        return part.terms[metric]
    if part.texts is not None:
        return text.influences(metric, part.counts(metric)[None])[0]
    return language.values(metric, *document_sums(part, metric))[0]


def metrics_of(part: Part) -> tuple[str, ...]:
    """The metrics that predictions of this form give, in the order reports show them."""
    if part.texts is not None:
        return tuple(filter(text.available, WRITTEN))
    if part.of_text:
        return tuple(f"{language.PREFIX * part.pseudo}{name}" for name in language.SIZES)
    if part.truth is None:
        return ()
    names = ["accuracy", "f1_macro", *(["f1_binary"] if len(part.labels) == 2 else []), "mcc"]
    return (*names, *part.terms, *(f"f1.{label}" for label in part.labels))


def group_interval(parts: Sequence[Part], metric: str) -> Interval:
    """A metric over the seeds of a group with its interval (chance in examples and in seeds); NaN where undefined."""
    first = parts[0]
    if metric in metrics_of(first) and first.texts is not None:
        counts = np.stack([part.counts(metric) for part in parts])
        return text.corpus_interval(metric, counts, bounds=METRICS[metric].bounds, clusters=first.clusters)
    if metric in language.METRICS_OF_TEXT:
        sums = [document_sums(part, metric) for part in parts]
        if None in sums:
            return Interval(math.nan, math.nan, math.nan)
        return language.text_interval(metric, *map(np.stack, zip(*sums, strict=True)), clusters=first.clusters)
    values = [value_of(part, metric) for part in parts]
    if any(map(math.isnan, values)):
        return Interval(math.nan, math.nan, math.nan)
    if len(first.ids if first.clusters is None else set(first.clusters)) < 2:
        return Interval(float(np.mean(values)), math.nan, math.nan)
    if metric in first.terms:
        terms = np.stack([part.terms[metric] for part in parts])
        return interval(terms, bounds=METRICS[metric].bounds, clusters=first.clusters)
    chosen = np.stack([part.chosen for part in parts])
    positive = _positive(first, metric)
    name = metric if metric in OF_LABELS else "f1_binary"
    return metric_interval(first.truth, chosen, name, positive=positive, clusters=first.clusters)


def rows_of(study: Study) -> list[dict[str, Any]]:
    """One row per group, stage, part and metric, as report.json holds them."""
    memory: dict[tuple[Any, ...], Interval] = {}
    return [row for group in study.groups for row in _group_rows(group, memory)]


def disagreements(study: Study) -> list[Disagreement]:
    """Every value of a record that differs from the one its predictions give."""
    return [found for run in study.runs if run.ok for found in _disagreements(run)]


def _disagreements(run: Run) -> Iterator[Disagreement]:
    for stage, parts in run.record.metrics.items():
        for part_name, kept in parts.items():
            part = run.parts.get((stage, part_name))
            for metric, leaf in flat(_without_groups(kept)).items():
                where = f"{stage}.{part_name}.{metric}"
                if part is None or metric not in metrics_of(part):
                    continue
                again, said = value_of(part, metric), leaf["value"]
                if math.isnan(again) != (said is None) or (
                    said is not None and abs(again - said) > TOLERANCE * max(1.0, abs(said))
                ):
                    yield Disagreement(run.record.run_id, where, said, None if math.isnan(again) else again)
                elif leaf.get("n") != len(part.ids):
                    yield Disagreement(run.record.run_id, f"{where}, n", leaf.get("n"), len(part.ids))


def _without_groups(kept: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of one evaluation; groups and gaps have rows of their own (`ftlib.report.sections.fairness`)."""
    return {name: leaf for name, leaf in kept.items() if name not in ("groups", "gaps")}


def _group_rows(group: Group, memory: dict[tuple[Any, ...], Interval]) -> Iterator[dict[str, Any]]:
    wheres = dict.fromkeys(where for run in group.ok for where in run.parts)
    for stage, part_name in wheres:
        parts = common_examples([run.parts[stage, part_name] for run in group.ok if (stage, part_name) in run.parts])
        if stage == "before" and len({part.answers for part in parts}) == 1:
            parts = parts[:1]
        for metric in metrics_of(parts[0]):
            key = (metric, *(part.answers for part in parts))
            key += tuple(part.terms[metric].tobytes() for part in parts if metric in part.terms)
            found = memory[key] if key in memory else memory.setdefault(key, group_interval(parts, metric))
            row = who(group) | {"stage": stage, "part": part_name, "metric": metric} | numbers(found)
            row |= {"n": len(parts[0].ids), "seeds": len(parts), "source": "predictions"}
            if parts[0].protocol:
                row["protocol"] = parts[0].protocol
            if row["value"] is None:
                row["reason"] = why_not(parts, metric)
            yield row
    yield from _recorded_rows(group, set(wheres))


def _recorded_rows(group: Group, seen: set[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Metrics that the predictions' columns read here cannot give: their mean over the seeds, as recorded."""
    found: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for run in group.ok:
        for stage, parts in run.record.metrics.items():
            for part_name, kept in parts.items():
                part = run.parts.get((stage, part_name))
                for metric, leaf in flat(_without_groups(kept)).items():
                    if part is None or metric not in metrics_of(part):
                        found.setdefault((stage, part_name, metric), []).append(leaf)
    for (stage, part_name, metric), leaves in found.items():
        values = [leaf["value"] for leaf in leaves if leaf["value"] is not None]
        one = leaves[0] if len(leaves) == 1 else {}
        row = who(group) | {"stage": stage, "part": part_name, "metric": metric}
        row |= {"value": float(np.mean(values)) if len(values) == len(leaves) else None}
        row |= {"low": one.get("low"), "high": one.get("high"), "n": leaves[0].get("n"), "seeds": len(leaves)}
        row["source"] = "record"
        if leaves[0].get("protocol"):
            row["protocol"] = leaves[0]["protocol"]
        if row["value"] is None:
            row["reason"] = next((leaf["reason"] for leaf in leaves if leaf.get("reason")), "not recorded")
        yield row


def why_not(parts: Sequence[Part], metric: str) -> str:
    """Why a metric of these parts has no value."""
    undefined = [part for part in parts if math.isnan(value_of(part, metric))]
    part = undefined[0] if undefined else parts[0]
    if metric in language.METRICS_OF_TEXT:
        return _why_no_text(part, metric)
    if part.texts is not None:
        return "there are no segments" if metric in WRITTEN else "it is no metric of texts that a model writes"
    if part.truth is None or part.chosen is None:
        return "there are no labels to compare with"
    if metric_row(metric).terms:
        return "there are no probabilities"
    label = metric.removeprefix("f1.")
    if metric == "f1_binary" and len(part.labels) != 2:
        reason = f"there are {len(part.labels)} labels, and it is about two"
    elif label == metric and metric not in OF_LABELS:
        reason = "the report cannot compute it from these predictions"
    elif metric not in OF_LABELS:
        reason = f"no example has the label {label!r} and none was given it"
    else:
        reason = why_undefined(metric, part.truth, part.chosen)
    return reason if len(undefined) == len(parts) else f"{reason}, in {len(undefined)} of {len(parts)} runs"


def _why_no_text(part: Part, metric: str) -> str:
    if not part.of_text:
        return "there are no likelihoods of documents"
    if metric not in metrics_of(part):
        return f"a masked model gives {language.PREFIX}likelihoods, which are another quantity"
    sums = document_sums(part, metric)
    return language.why_undefined(metric, sums[1]) if sums else NO_TOKENS


def document_sums(part: Part, metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Nats and what the metric divides them by, per document; None where the part does not hold them."""
    size = language.SIZES[metric.removeprefix(language.PREFIX)]
    held = metric in metrics_of(part) and size in part.numbers
    return (part.numbers["nats"], part.numbers[size]) if held else None


def show_as_per_cent(metric: Metric | str) -> bool:
    """Whether a metric is a share, which readers are shown in per cent."""
    return (metric_row(metric) if isinstance(metric, str) else metric).unit == "share"


def _constant(sums: NDArray[np.float64]) -> bool:
    _, given, labelled = by_kind(sums)
    return (given > 0).sum() < 2 or (labelled > 0).sum() < 2


def _positive(part: Part, metric: str) -> int | None:
    """The label that a metric is about: the second for F1 (binary), its own for `f1.<label>`."""
    if metric in OF_LABELS:
        return 1
    label = metric.removeprefix("f1.")
    return part.labels.index(label) if label in part.labels else None
