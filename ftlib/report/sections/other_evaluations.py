"""The page's section on what was measured beside the task: general text before and after, and every other probe."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ftlib.core import format
from ftlib.data.evaluations import is_bias
from ftlib.metrics import units
from ftlib.report.figures import Figure, drawing, figure_of, title
from ftlib.report.plots import methods
from ftlib.report.sections import forgetting
from ftlib.report.sections.comparison import MOST_ROWS, TaskComparison
from ftlib.report.sections.forgetting import Forgot
from ftlib.report.tables import Cell, Table, value_cell


class General(NamedTuple):
    """What a task's methods did to general text."""

    found: tuple[Forgot, ...]
    sentences: tuple[str, ...]
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]
    """One for each metric: masked models have one of their own, which is never beside the other."""
    protocols: str


def general_section(contest: TaskComparison, found: Sequence[Forgot]) -> General | None:
    """The section on general text; None where none was measured."""
    by_metric: dict[str, list[Forgot]] = {}
    protocols: dict[str, list[str]] = {}
    for one in found:
        by_metric.setdefault(one.metric, []).append(one)
        protocols.setdefault(one.protocol, []).append(one.group.name)
    if not found:
        return None
    return General(
        tuple(found),
        tuple(f"{forgetting.general_sentence(one)}." for one in found),
        tuple(_table(contest, some) for some in by_metric.values()),
        tuple(_figure(some) for some in by_metric.values()),
        format.protocols(protocols),
    )


_WORDS = {"better": "less than before", "worse": "more than before", "same": "the same", "undecided": "undecided"}


def _table(contest: TaskComparison, found: Sequence[Forgot]) -> Table:
    """Every method on general text, beside what it did to the task."""
    name, task_unit = units.name(found[0].metric), units.unit(contest.metric).strip()
    numbers = {
        "before": name,
        "after": name,
        "change": name,
        "change on the task": task_unit,
        "excerpts": "",
        "runs": "",
    }
    header = [Cell("method"), Cell("general text costs"), *(Cell(*shown, number=True) for shown in numbers.items())]
    body = []
    for one in found:
        on_task = forgetting.on_task_of(contest, one.group.name)
        levels = [
            Cell(units.level(one.metric, level.value), units.span(one.metric, level.low, level.high), number=True)
            for level in (one.before, one.after)
        ]
        task = Cell(*forgetting.signed(contest.metric, on_task), number=True) if on_task else Cell("", number=True)
        body.append(
            (
                Cell(one.group.name, strong=True),
                Cell("exactly the same" if one.unchanged else _WORDS[one.change.verdict]),
                *levels,
                Cell("0", number=True)
                if one.unchanged
                else Cell(*forgetting.signed(one.metric, one.change), number=True, strong=True),
                task,
                Cell(format.count(one.n), number=True),
                Cell(str(one.seeds), number=True),
            )
        )
    return Table(f"General text before and after, {contest.task}", tuple(header), tuple(body))


def _figure(found: Sequence[Forgot]) -> Figure:
    """How much more or less likely each method left general text."""
    shown, metric = found[:MOST_ROWS], found[0].metric
    label = f"change in {units.name(metric)} on general text"
    with drawing(0.75 + 0.3 * len(shown)) as ax:
        methods.forest(
            ax,
            [one.group.name for one in shown],
            [one.change.difference for one in shown],
            [one.change.low for one in shown],
            [one.change.high for one in shown],
            label=label,
            reference=("as before", 0.0),
            faint=[one.unchanged for one in shown],
        )
        return figure_of(
            ax,
            "general",
            title(label),
            "To the right of the dashed line a method forgot, to the left it gained. Lines are 95 % intervals, paired: "
            "each document before and after.",
            ("method", "before", "after", "change", "95 % interval"),
            [
                (
                    one.group.name,
                    units.level(metric, one.before.value),
                    units.level(metric, one.after.value),
                    units.difference(metric, one.change.difference),
                    f"{units.difference(metric, one.change.low)} to {units.difference(metric, one.change.high)}",
                )
                for one in shown
            ],
        )


def beside_table(contest: TaskComparison, forgot: Sequence[Forgot], all_rows: Sequence[dict[str, Any]]) -> Table | None:
    """What else was measured beside the task (earlier tasks, probes, perplexity of general text), before and after."""
    found: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    said = {(one.group.model, one.group.method, one.group.settings, forgetting.PART, one.metric) for one in forgot}
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
