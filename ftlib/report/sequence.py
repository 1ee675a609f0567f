"""One run state by state, for a notebook: after each training, and on the way from the untouched weights."""

from ftlib import plots
from ftlib.metrics.forgetting import matrix, tasks_of
from ftlib.naming import short_name
from ftlib.records import RunRecord
from ftlib.report.html import table
from ftlib.report.svg import Picture, picture


class Shown:
    """A table that a notebook displays."""

    def __init__(self, content: str) -> None:
        self.content = content

    def _repr_html_(self) -> str:
        return self.content


def pictured(record: RunRecord, metric: str = "accuracy") -> Picture:
    """R[i, j] of a run as a picture: the score on every task after every training.

    Args:
        record: Of a run with earlier tasks.
        metric: What all of them are measured by.
    """
    own = short_name(record.spec["resolved"]["task"])
    names = [own if part == "test" else part for part in tasks_of(record.metrics, record.spec["resolved"], metric)]
    found = matrix(record.metrics, record.spec["resolved"], metric)
    return picture(plots.heat, found, names, names, label=metric, down="after training on", across="measured on")


def states(record: RunRecord, metric: str) -> Shown:
    """A metric of everything that was measured, state by state: rows are parts, columns the model's states.

    Args:
        record: Of any run.
        metric: Its name; parts that do not have it are left out.
    """
    parts = dict.fromkeys(part for stage in record.metrics.values() for part, found in stage.items() if metric in found)
    cells = [[_cell(stage.get(part, {}).get(metric)) for stage in record.metrics.values()] for part in parts]
    rows = [(part, *row) for part, row in zip(parts, cells, strict=True)]
    return Shown(table(("part", *(name.replace("_", " ") for name in record.metrics)), rows))


def _cell(found: dict | None) -> str:
    if found is None:
        return ""
    if found["value"] is None:
        return "not available"
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"
