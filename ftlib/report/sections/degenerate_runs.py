"""Runs that ended well and learned nothing: (nearly) every example is given the same label. Named, never dropped."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ftlib.core import format
from ftlib.metrics import units
from ftlib.metrics.classification import collapsed
from ftlib.records.study import Group, Run, Study
from ftlib.report.metric_rows import value_of
from ftlib.report.sections.comparison import with_labels
from ftlib.report.tables import Cell, Table


class Collapse(NamedTuple):
    """One run that gave (nearly) every test example the same label."""

    run: Run
    group: Group
    label: str
    share: float
    """Of its answers."""
    accuracy: float
    n: int
    """Test examples."""


def collapses(study: Study) -> list[Collapse]:
    """Every run that collapsed; the majority class gives one label by design and is not among them."""
    return [found for group in study.groups if not group.constant for found in _of(group)]


def _of(group: Group) -> Iterator[Collapse]:
    for run in group.ok:
        part = run.parts.get(("after", "test"))
        if part is None or part.truth is None or part.chosen is None:
            continue
        if found := collapsed(part.chosen, part.truth):
            code, share = found
            yield Collapse(run, group, part.labels[code], share, value_of(part, "accuracy"), len(part.ids))


def rows(found: Sequence[Collapse]) -> list[dict[str, Any]]:
    """The collapsed runs as report.json holds them."""
    return [
        {
            "run_id": one.run.record.run_id,
            "task": one.group.task,
            "model": one.group.model,
            "method": one.group.method,
            "settings": one.group.settings,
            "shots": one.run.resolved.get("shots", 0),
            "seed": one.run.seed,
            "label": one.label,
            "share": one.share,
            "accuracy": one.accuracy,
            "n": one.n,
        }
        for one in found
    ]


def table(found: Sequence[Collapse]) -> Table | None:
    """The collapsed runs; None where there are none."""
    several = len({one.group.task for one in found}) > 1
    numbers = ("seed", "gives this label to", "accuracy, %", "test examples")
    header = (Cell("method"), *([Cell("task")] if several else []), Cell("label given"))
    header += tuple(Cell(name, number=True) for name in numbers)
    body = [
        (
            Cell(one.group.name, strong=True),
            *([Cell(one.group.task)] if several else []),
            Cell(one.label),
            Cell(str(one.run.seed), number=True),
            Cell(f"{100 * one.share:.0f} %", number=True),
            Cell(units.level("accuracy", one.accuracy), number=True),
            Cell(format.count(one.n), number=True),
        )
        for one in found
    ]
    return Table("Runs that collapsed", header, tuple(body)) if body else None


def sentences(found: Sequence[Collapse], task: str, metric: str) -> list[str]:
    """Whose mean on a task the collapsed runs drag, and how far."""
    groups = {one.group.name: one.group for one in found if one.group.task == task}
    return [_dragged(group, [one.run for one in found if one.group is group], metric) for group in groups.values()]


def _dragged(group: Group, fallen: Sequence[Run], metric: str) -> str:
    parts = {id(run): run.parts["after", "test"] for run in group.ok if ("after", "test") in run.parts}
    values = {key: value_of(part, metric) for key, part in parts.items()}
    rest = [value for key, value in values.items() if key not in {id(run) for run in fallen}]
    seeds = format.listed([str(run.seed) for run in fallen])
    said = f"{len(fallen)} of {format.plural(len(values), 'run')} of {with_labels(group.name)} collapsed"
    said += f" (seed{'s' * (len(fallen) > 1)} {seeds})"
    if not rest:
        return f"{said}: what it reaches is the level of one label for everything."
    mean, without = (units.level(metric, float(np.mean(some))) for some in (list(values.values()), rest))
    per_cent = "\N{NO-BREAK SPACE}%" if units.scale(metric) > 1 else ""
    stay = f"stay{'s' * (len(fallen) == 1)} in its mean"
    return f"{said} and {stay} of {mean}{per_cent}; the others reach {without}{per_cent}."
