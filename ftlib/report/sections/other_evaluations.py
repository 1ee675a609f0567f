"""What a plan measured beside the task that no other section shows, before and after every method."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ftlib.core.format import short_name
from ftlib.data.evaluations import is_bias
from ftlib.metrics import units
from ftlib.metrics.continual import OF_R
from ftlib.metrics.registry import METRICS
from ftlib.records.study import Study
from ftlib.report.blocks import Block, Note, OfTask, Section, Table, by_task, plain_table, value_cell
from ftlib.report.sections import forgetting
from ftlib.report.sections.comparison import TaskComparison
from ftlib.report.sections.forgetting import Forgot

if TYPE_CHECKING:
    from ftlib.report.build import Reading


def other_rows(study: Study, all_rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows on other evaluations that no section of its own shows better.

    Of other tasks one metric is enough here, and all are in tables/rows.csv; of those that a run was trained on the
    single labels are left out.
    """
    trained = {
        short_name(name)
        for run in study.runs
        for field in ("sequential_tasks", "joint_tasks")
        for name in run.resolved.get(field) or []
    }
    return [
        row
        for row in all_rows
        if row["stage"] in ("before", "after")
        and row["part"] not in ("test", "validation")
        and not row["part"].startswith((forgetting.FEATURES, "canaries:", "extraction:"))
        and not is_bias(row["part"])
        and not row["metric"].startswith(("f1", "mcc", "brier"))
        and not (row["part"] == "sequence" and row["metric"] in OF_R)
        and not (row["part"] in trained and row["metric"] not in METRICS)
    ]


def other_table(comparison: TaskComparison, forgot: Sequence[Forgot], rows: Sequence[dict[str, Any]]) -> Table | None:
    """Other evaluations of a task's methods (previous tasks, perplexity of general text), before and after."""
    found: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    said = {(one.group.model, one.group.method, one.group.settings, forgetting.GENERAL, one.metric) for one in forgot}
    for row in rows:
        at = tuple(row[name] for name in ("model", "method", "settings", "part", "metric"))
        if row["task"] == comparison.task and at not in said:
            where = (" ".join(filter(None, (row["method"], row["settings"]))), row["part"], row["metric"])
            found.setdefault(where, {})[row["stage"]] = row
    body = [
        (
            name,
            part,
            (units.name(metric), next((row["protocol"] for row in stages.values() if row.get("protocol")), "")),
            *(value_cell(metric, stages.get(stage)) for stage in ("before", "after")),
        )
        for (name, part, metric), stages in found.items()
    ]
    # Where a model gives no such value at all, before nor after, there is nothing to show.
    body = [row for row in body if any(cell.text != "not available" for cell in row[3:])]
    header = ("method", "measured on", "metric", "before", "after")
    return plain_table(f"Other evaluations, {comparison.task}", header, body, texts=3) if body else None


def _read(reading: "Reading") -> list[OfTask]:
    rows = other_rows(reading.study, reading.rows)

    def read(comparison: TaskComparison) -> Table | None:
        own = {one.group.settings for one in comparison.methods if one.group}
        shown = [row for row in rows if row["settings"] in own] if comparison.shots else rows
        return other_table(comparison, reading.forgotten_by(comparison), shown)

    return reading.of_tasks(read)


def _blocks(shown: Table) -> Iterator[Block]:
    yield Note("What else the plan measured, on the base model and after adapting it.")
    yield shown


SECTION = Section(
    name="others",
    title="Other evaluations",
    read=_read,
    columns={},
    rows=lambda _: {},
    blocks=lambda items: by_task(items, _blocks),
)
