"""The page's table of other evaluations: what the plan asked to measure that no other section shows."""

from collections.abc import Sequence
from typing import Any

from ftlib.core.format import short_name
from ftlib.data.probes import is_bias
from ftlib.metrics import units
from ftlib.metrics.continual import OF_R
from ftlib.metrics.registry import METRICS
from ftlib.records.study import Study
from ftlib.report.sections import forgetting
from ftlib.report.sections.comparison import TaskComparison
from ftlib.report.sections.forgetting import Forgot
from ftlib.report.tables import Cell, Table, value_cell


def rows_of_others(study: Study, all_rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that the table of other evaluations shows: not what another section shows better.

    Of other tasks that a run was trained on the single labels are left out.
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
        and not row["part"].startswith((forgetting.FEATURES, "canaries:", "extraction:"))
        and not (row["part"] == "sequence" and row["metric"] in OF_R)
        and not (row["part"] in trained and row["metric"] not in METRICS)
    ]


def beside_table(contest: TaskComparison, forgot: Sequence[Forgot], all_rows: Sequence[dict[str, Any]]) -> Table | None:
    """What else was measured beside the task (earlier tasks, probes, perplexity of general text), before and after."""
    found: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    said = {(one.group.model, one.group.method, one.group.settings, forgetting.GENERAL, one.metric) for one in forgot}
    for row in all_rows:
        here = row["task"] == contest.task and row["part"] not in ("test", "validation")
        # Probes for bias are in the ledger; of other tasks one metric is enough here, and all are in tables/rows.csv.
        here = here and not is_bias(row["part"]) and not row["metric"].startswith(("f1", "mcc", "brier"))
        if here and tuple(row[name] for name in ("model", "method", "settings", "part", "metric")) not in said:
            where = (" ".join(filter(None, (row["method"], row["settings"]))), row["part"], row["metric"])
            found.setdefault(where, {})[row["stage"]] = row
    header = (
        Cell("method"),
        Cell("measured on"),
        Cell("metric"),
        Cell("before", number=True),
        Cell("after", number=True),
    )
    body = [
        (
            Cell(name, strong=True),
            Cell(part),
            Cell(units.name(metric), next((row["protocol"] for row in stages.values() if row.get("protocol")), "")),
            *(value_cell(metric, stages.get(stage)) for stage in ("before", "after")),
        )
        for (name, part, metric), stages in found.items()
    ]
    return Table(f"Measured beside the task, {contest.task}", header, tuple(body)) if body else None
