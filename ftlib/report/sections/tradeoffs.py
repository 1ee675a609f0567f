"""Quality against what it takes: time, memory, what is forgotten and whom it treats worse, side by side."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib.core import format
from ftlib.core.errors import unknown
from ftlib.metrics import units
from ftlib.metrics.registry import metric_row
from ftlib.records.study import Study, seed_of
from ftlib.report.blocks import Block, Figures, Note, OfTask, Section, by_task
from ftlib.report.figures import Figure, figure_of, panels, title
from ftlib.report.metric_rows import WHO, who
from ftlib.report.plots import methods
from ftlib.report.sections.comparison import (
    LEAST_SECONDS,
    MOST_ROWS,
    MethodScores,
    TaskComparison,
    score_tables,
)
from ftlib.report.sections.report_card import Card, CardColumn
from ftlib.stats.aggregate import pareto_membership

if TYPE_CHECKING:
    from ftlib.report.build import Reading

WIDTH = 6.4
"""Inches of the figure."""

_COSTS = {"train_seconds": ("training time, seconds", 1.0), "peak_memory_bytes": ("peak memory, GB", 1e-9)}
"""What is drawn of the costs that are measured, and on what scale."""


class Panel(NamedTuple):
    """Quality against one price."""

    label: str
    rows: tuple[dict[str, Any], ...]
    """As report.json holds them."""
    scale: float = 1.0
    measured: bool = True
    """False of changes and gaps, whose place of no harm is 0."""


def harm_rows(study: Study, card: Card) -> Iterator[tuple[CardColumn, list[dict[str, Any]]]]:
    """For each measure of forgetting and bias how surely each method is on the front of quality against it.

    The measure stands as it was found: that it is uncertain itself is not in the probability.
    """
    comparison = card.comparison
    up = 1 if metric_row(comparison.metric).higher_is_better else -1
    for column in card.columns:
        harm = {name: _harm(column, entry.value.value) for name, entry in column.entries.items()}
        able = [one for one in comparison.methods if one.group and one.name in harm]
        if column.family not in ("forgetting", "bias", "text") or ":" not in column.name or len(able) < 2:
            continue
        if comparison.n < 2:
            # One example has no spread, so there is no saying how sure a place is.
            continue
        rng = np.random.default_rng(seed_of(study.plan_hash, comparison.task, f"front {column.name}"))
        clusters = next(iter(able[0].parts.values())).clusters
        prices = {one.name: harm[one.name] for one in able}
        surely = pareto_membership(
            score_tables(able, comparison.metric), prices, rng, n_replicates=2_000, clusters=clusters
        )
        yield (
            column,
            [
                who(one.group)
                | {"name": one.name, "metric": comparison.metric, "cost": column.name, "cost_value": prices[one.name]}
                | {"value": one.level.value, "on_front": not any(_beats(other, one, prices, up) for other in able)}
                | {"probability": surely[one.name]}
                for one in able
            ],
        )


def _harm(column: CardColumn, value: float) -> float:
    """A measure so that less is better: of what features tell, what was lost."""
    metric = column.name.partition(":")[0]
    return -value if column.family == "forgetting" and metric_row(metric).higher_is_better else value


def _beats(other: MethodScores, one: MethodScores, prices: dict[str, float], up: int) -> bool:
    gain, saving = up * (other.level.value - one.level.value), prices[one.name] - prices[other.name]
    return gain >= 0 and saving >= 0 and (gain > 0 or saving > 0)


class Prices(NamedTuple):
    """One task's qualities against every price."""

    comparison: TaskComparison
    panels: tuple[Panel, ...]
    fronts: tuple[dict[str, Any], ...]
    """Rows on forgetting and bias; those on costs are `comparison.pareto`."""


def _prices(reading: "Reading", card: Card) -> Prices | None:
    comparison, found, fronts = card.comparison, [], []
    for cost, (label, scale) in _COSTS.items():
        rows = [row for row in comparison.pareto if row["cost"] == cost]
        found += [Panel(label, tuple(rows[:MOST_ROWS]), scale)] if len(rows) > 1 else []
    for column, rows in harm_rows(reading.study, card):
        fronts += rows
        by = 100.0 if column.family == "bias" else units.scale(column.name.partition(":")[0])
        unit = column.unit.partition(",")[0] if column.family == "bias" else ""
        lost = column.family == "forgetting" and metric_row(column.name.partition(":")[0]).higher_is_better
        said = f"lost of {column.title}, points" if lost else f"{column.title}, {unit or column.unit}"
        found.append(Panel(said.replace(" ↓", ""), tuple(rows[:MOST_ROWS]), by, column.family == "text"))
    return Prices(comparison, tuple(found), tuple(fronts)) if found else None


def _figure(found: Prices) -> Figure:
    comparison, by = found.comparison, units.scale(found.comparison.metric)
    with panels(len(found.panels), min(2, len(found.panels)), 2.5, WIDTH) as axes:
        for ax, panel in zip(axes, found.panels, strict=False):
            some = [comparison.find(row["name"]) for row in panel.rows]
            methods.cost_quality(
                ax,
                [one.name for one in some],
                [panel.scale * row["cost_value"] for row in panel.rows],
                *([by * getattr(one.level, end) for one in some] for end in ("value", "low", "high")),
                label=units.heading(comparison.metric),
                on_front=[row["on_front"] for row in panel.rows],
                cost_label=panel.label,
                least=LEAST_SECONDS if panel.rows[0]["cost"] == "train_seconds" else 0.0,
                legend=False,
                measured=panel.measured,
            )
        for ax in axes[len(found.panels) :]:
            ax.set_visible(False)
        _key(axes, found.panels)
        return figure_of(
            axes[0],
            "prices",
            f"{title(units.name(comparison.metric))} against "
            + ("what it takes" if len(found.panels) > 1 else found.panels[0].label.partition(",")[0]),
            "Filled points are Pareto-optimal: nothing that costs less, or as much, is better. The table says how "
            f"often each is so under resampling of test {units.noun(comparison.metric)}s and seeds, with "
            "costs, forgetting and bias as measured; with few seeds such probabilities are rough.",
            ("method", *(panel.label for panel in found.panels)),
            list(_table(found)),
        )


FRONTS = {"time": "train_seconds", "memory": "peak_memory_bytes", "parameters": "trainable_parameters"}
"""What a person calls a cost."""


def front(comparison: TaskComparison, cost: str) -> Figure:
    """Quality against one cost.

    Args:
        comparison: The comparison of a task's methods.
        cost: A name of `FRONTS`.

    Raises:
        FtlibError: No such cost, or fewer than two methods have it.
    """
    rows = [row for row in comparison.pareto if row["cost"] == FRONTS.get(cost)][:MOST_ROWS]
    if len(rows) < 2:
        able = [name for name, key in FRONTS.items() if sum(row["cost"] == key for row in comparison.pareto) > 1]
        raise unknown("cost", cost, able)
    label, scale = _COSTS.get(FRONTS[cost], ("trainable parameters, thousands", 1e-3))
    return _figure(Prices(comparison, (Panel(label, tuple(rows), scale),), ()))


def _key(axes: Sequence[Any], shown: Sequence[Panel]) -> None:
    """One legend for all panels."""
    handles: dict[str, Any] = {}
    for ax, _ in zip(axes, shown, strict=False):
        handles |= {name: handle for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    axes[0].figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, handletextpad=0.3)


def _table(found: Prices) -> Iterator[tuple[str, ...]]:
    """On the front of each panel with which probability."""
    for one in found.comparison.methods[:MOST_ROWS]:
        if one.group is None:
            continue
        cells = []
        for panel in found.panels:
            row = next((row for row in panel.rows if row["name"] == one.name), None)
            cells.append(format.NONE if row is None else f"on the front: {format.likelihood(row['probability'])}")
        yield (one.name, *cells)


def _read(reading: "Reading") -> tuple["Reading", list[OfTask]]:
    cards = {id(card.comparison): card for card in reading.of("report_card")}
    return reading, reading.of_tasks(lambda comparison: _prices(reading, cards[id(comparison)]), few_shot=False)


def _blocks(found: Prices) -> Iterator[Block]:
    if found.comparison.of_text:
        yield Note("Fewer bits per byte are better.")
    yield Figures((_figure(found),), wide=True)


SECTION = Section(
    name="quality_and_cost",
    title="Quality against cost, forgetting and bias",
    read=_read,
    columns={
        "pareto": (*WHO, "name", "metric", "cost", "cost_value", "value", "on_front", "probability"),
        "fronts": (*WHO, "name", "metric", "cost", "cost_value", "value", "on_front", "probability"),
    },
    rows=lambda items: {
        "pareto": [row for comparison in items[0].comparisons for row in comparison.pareto],
        "fronts": [row for one in items[1] for row in one.found.fronts],
    },
    blocks=lambda items: by_task(items[1], _blocks),
)
