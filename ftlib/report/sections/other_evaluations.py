"""What a plan measured beside the task: general text before and after every method, and every other evaluation."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ftlib.core import format
from ftlib.core.format import short_name
from ftlib.data.probes import is_bias
from ftlib.metrics import units
from ftlib.metrics.continual import OF_R
from ftlib.metrics.registry import METRICS
from ftlib.records.study import Study
from ftlib.report.blocks import Block, Figures, Note, OfTask, Section, Sentences, by_task
from ftlib.report.figures import Figure, drawing, figure_of, title
from ftlib.report.metric_rows import WHO
from ftlib.report.plots import methods
from ftlib.report.sections import forgetting
from ftlib.report.sections.comparison import MOST_ROWS, TaskComparison
from ftlib.report.sections.forgetting import Forgot
from ftlib.report.tables import Cell, Said, Table, plain_table, value_cell

if TYPE_CHECKING:
    from ftlib.report.build import Reading


class General(NamedTuple):
    """What a task's methods did to general text."""

    contest: TaskComparison
    found: tuple[Forgot, ...]

    def by_metric(self) -> list[list[Forgot]]:
        """Masked models have a metric of their own, which is never beside the other."""
        found: dict[str, list[Forgot]] = {}
        for one in self.found:
            found.setdefault(one.metric, []).append(one)
        return list(found.values())


_WORDS = {"better": "less than before", "worse": "more than before", "same": "equivalent", "undecided": "undecided"}


def _table(contest: TaskComparison, found: Sequence[Forgot]) -> Table:
    """Every method on general text, beside what it did to the task."""
    name, task_unit = units.name(found[0].metric), units.unit(contest.metric).strip()
    header = ("method", "general text costs", ("before", name), ("after", name), ("change", name),
              ("change on the task", task_unit), "excerpts", "runs")  # fmt: skip
    body: list[Sequence[Said]] = []
    for one in found:
        on_task = forgetting.on_task_of(contest, one.group.name)
        change = Cell("0", number=True)
        if not one.unchanged:
            change = Cell(*forgetting.signed(one.metric, one.change), number=True, strong=True)
        body.append(
            (
                one.group.name,
                "exactly the same" if one.unchanged else _WORDS[one.change.verdict],
                *(
                    (units.level(one.metric, level.value), units.span(one.metric, level.low, level.high))
                    for level in (one.before, one.after)
                ),
                change,
                forgetting.signed(contest.metric, on_task) if on_task else "",
                format.count(one.n),
                str(one.seeds),
            )
        )
    return plain_table(f"General text before and after, {contest.task}", header, body, texts=2)


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
        and not row["part"].startswith((forgetting.PREFIX, "canaries:", "extraction:"))
        and not is_bias(row["part"])
        and not row["metric"].startswith(("f1", "mcc", "brier"))
        and not (row["part"] == "sequence" and row["metric"] in OF_R)
        and not (row["part"] in trained and row["metric"] not in METRICS)
    ]


def other_table(contest: TaskComparison, forgot: Sequence[Forgot], rows: Sequence[dict[str, Any]]) -> Table | None:
    """Other evaluations of a task's methods (earlier tasks, perplexity of general text), before and after."""
    found: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    said = {(one.group.model, one.group.method, one.group.settings, forgetting.PART, one.metric) for one in forgot}
    for row in rows:
        at = tuple(row[name] for name in ("model", "method", "settings", "part", "metric"))
        if row["task"] == contest.task and at not in said:
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
    header = ("method", "measured on", "metric", "before", "after")
    return plain_table(f"Other evaluations, {contest.task}", header, body, texts=3) if body else None


def _read_general(reading: "Reading") -> tuple["Reading", list[OfTask]]:
    def read(contest: TaskComparison) -> General | None:
        shown = reading.forgotten_by(contest)
        return General(contest, tuple(shown)) if shown else None

    return reading, reading.of_tasks(read)


def _general_blocks(found: General) -> Iterator[Block]:
    protocols: dict[str, list[str]] = {}
    for one in found.found:
        protocols.setdefault(one.protocol, []).append(one.group.name)
    yield Note(
        "How many bits a byte of ordinary text costs each method, before and after; lower is better. Every change is "
        f"paired: the same excerpts, the same seeds. Protocol: {format.protocols(protocols)}."
    )
    yield Sentences(tuple(f"{forgetting.general_sentence(one)}." for one in found.found))
    for some in found.by_metric():
        yield _table(found.contest, some)
    yield Figures(tuple(_figure(some) for some in found.by_metric()))


GENERAL_SECTION = Section(
    name="general",
    title="General text before and after",
    read=_read_general,
    columns={
        "general": (
            *WHO, "part", "metric", "before", "after", "difference", "low", "high", "p_value", "p_holm", "verdict",
            "n", "seeds", "protocol", "sentence",
        ),
    },
    rows=lambda items: {
        "general": [row for found in items[0].general.values() for row in forgetting.general_rows(found)]
    },
    blocks=lambda items: by_task(items[1], _general_blocks),
)  # fmt: skip


def _read_others(reading: "Reading") -> list[OfTask]:
    rows = other_rows(reading.study, reading.rows)

    def read(contest: TaskComparison) -> Table | None:
        own = {one.group.settings for one in contest.contestants if one.group}
        shown = [row for row in rows if row["settings"] in own] if contest.shots else rows
        return other_table(contest, reading.forgotten_by(contest), shown)

    return reading.of_tasks(read)


def _others_blocks(shown: Table) -> Iterator[Block]:
    yield Note("What else the plan measured, on the base model and after adapting it.")
    yield shown


OTHERS_SECTION = Section(
    name="others",
    title="Other evaluations",
    read=_read_others,
    columns={},
    rows=lambda _: {},
    blocks=lambda items: by_task(items, _others_blocks),
)
