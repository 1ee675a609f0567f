"""How training went, as the page shows it: losses on training and validation, overfitting, early stops, failed runs."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ftlib.core import format
from ftlib.metrics import units
from ftlib.records.events import Fit, Points, Rise, fits, read_events, rise
from ftlib.records.study import Group, Run, Study
from ftlib.report.blocks import Block, Figures, Note, Section, Sentences, by_task
from ftlib.report.figures import Figure, figure_of, panels
from ftlib.report.metric_rows import WHO, who
from ftlib.report.plots import lines
from ftlib.report.sections.comparison import TaskComparison

MOST_PANELS = 12
"""Methods a figure has a panel for; the table holds them all."""

MOST_SAID = 8
"""Methods with a sentence of their own."""


class Trained(NamedTuple):
    """How the training of one method's runs went: of the fits that were taken."""

    group: Group
    name: str
    runs: tuple[tuple[Run, Fit], ...]
    """Runs that finished."""
    failed: tuple[tuple[Run, Fit], ...]
    """Runs that gave no result: their last fit."""
    steps: tuple[float, ...]
    """At which all finished runs have a finite validation loss."""
    rise: Rise | None
    """Of the validation loss; None with fewer than two such steps, or where the runs end at different ones."""

    @property
    def stops_early(self) -> bool:
        """Whether the runs were to stop when validation no longer got better."""
        return bool(self.group.runs[0].resolved.get("patience"))


class Training(NamedTuple):
    """How the training of a task's methods went."""

    comparison: TaskComparison
    methods: tuple[Trained, ...]


def training(study: Study, comparison: TaskComparison) -> Training | None:
    """The training of a task's methods; None where no diary holds a loss."""
    names = {id(one.group): one.short for one in comparison.methods if one.group is not None}
    order = list(names)
    groups = [
        g for g in study.groups if g.task == comparison.task and (not comparison.shots or g.shots == comparison.shots)
    ]
    groups.sort(key=lambda group: order.index(id(group)) if id(group) in names else len(order))
    found = tuple(one for group in groups if (one := _trained(group, names.get(id(group), group.name))))
    return Training(comparison, found) if found else None


def _trained(group: Group, name: str) -> Trained | None:
    taken = [(run, fit) for run in group.runs if (fit := _taken(run)) is not None]
    runs = tuple(one for one in taken if one[0].ok)
    failed = tuple(one for one in taken if not one[0].ok)
    if not taken:
        return None
    steps = _shared(fit.validation for _, fit in runs)
    found = None
    # Where some runs stopped before others there is no common end to rise to.
    if len(steps) > 1 and all(fit.validation[-1][0] == steps[-1] for _, fit in runs):
        found = rise([[dict(fit.validation)[step] for step in steps] for _, fit in runs])
    return Trained(group, name, runs, failed, steps, found)


def _taken(run: Run) -> Fit | None:
    """The fit whose setting was taken: the tuned one, or else the last; None without two finite losses."""
    able = [fit for fit in fits(read_events(run.folder)) if len(_finite(fit.train)) > 1]
    tuned = run.record.provenance.get("tuned")
    rate = tuned.get("learning_rate") if isinstance(tuned, dict) else None
    taken = [fit for fit in able if rate is not None and math.isclose(fit.learning_rate, rate, rel_tol=1e-9)]
    return (taken or able or [None])[-1]


def ended_higher(group: Group) -> bool:
    """Whether the training loss of every finished run ended above where it began: the learning rate may be too high."""
    curves = [_finite(fit.train) for run in group.ok if (fit := _taken(run)) is not None]
    return bool(curves) and all(points[-1][1] > points[0][1] for points in curves)


def _finite(points: Points) -> Points:
    return tuple(point for point in points if math.isfinite(point[1]))


def _shared(curves: Iterable[Points]) -> tuple[float, ...]:
    """Steps at which all curves have a finite loss."""
    found = [{step for step, _ in _finite(points)} for points in curves]
    return tuple(sorted(set.intersection(*found))) if found else ()


def _mean(curves: Sequence[Points]) -> lines.Line:
    steps = _shared(curves)
    return steps, [float(np.mean([dict(points)[step] for points in curves])) for step in steps]


def row_of(one: Trained) -> dict[str, Any]:
    """How training went, as report.json holds it; losses are means over the runs that finished."""
    group, curves = one.group, [_finite(fit.train) for _, fit in one.runs]
    watched = [dict(points) for _, fit in one.runs if (points := _finite(fit.validation))]
    sizes = sorted({fit.n for _, fit in one.runs if fit.n})
    row = who(group) | {"name": one.name, "runs": len(one.runs), "failed": len(one.failed)}
    row |= {"steps": max((points[-1][0] for points in curves), default=None)}
    for name, place in (("train_first", 0), ("train_last", -1)):
        row[name] = float(np.mean([points[place][1] for points in curves])) if curves else None
    names = ("rise", "rise_low", "rise_high")
    row |= dict.fromkeys(("validation_lowest", "lowest_at_step", "validation_last", *names))
    if watched:
        lowest = [losses[one.steps[one.rise.place]] if one.rise else min(losses.values()) for losses in watched]
        last = [losses[max(losses)] for losses in watched]
        row |= {"validation_lowest": float(np.mean(lowest)), "validation_last": float(np.mean(last))}
    if one.rise:
        row["lowest_at_step"] = one.steps[one.rise.place]
        values = (one.rise.value, one.rise.low, one.rise.high)
        row |= {name: None if math.isnan(v) else v for name, v in zip(names, values, strict=True)}
    row["kept_steps"] = [fit.kept for _, fit in one.runs if fit.kept is not None]
    return row | {"n_validation": sizes[0] if len(sizes) == 1 else None}


def _note(found: Sequence[Trained], comparison: TaskComparison) -> str:
    sizes = sorted({fit.n for one in found for _, fit in one.runs if fit.n})
    if not any(fit.validation for one in found for _, fit in one.runs):
        return "Training loss alone: validation loss was not measured on the way."
    n = f"{' or '.join(map(format.count, sizes))} " if sizes else ""
    noun = units.noun(comparison.metric)
    return (
        f"Validation loss is the mean over {n}validation {noun}s, which no step learned from. Where it turns up while "
        "the training loss still falls, the method begins to learn its examples by heart; quality can hold for a while "
        "all the same, since the loss also depends on confidence. Of tuned methods: the setting that was taken."
    )


def sentences(found: Sequence[Trained]) -> Iterator[str]:
    """Who overfits, who stopped early, whose runs failed."""
    yield from _rises(found)
    stops = [one for one in found if one.stops_early]
    for one in stops[:MOST_SAID]:
        kept = [fit.kept for _, fit in one.runs if fit.kept is not None]
        patience = one.group.runs[0].resolved["patience"]
        steps = f", of step {format.listed([f'{step:g}' for step in sorted(set(kept))])}" if kept else ""
        yield (
            f"{one.name} stops early (patience {patience}): {len(kept)} of {format.plural(len(one.runs), 'run')} kept "
            f"earlier weights than the last{steps}."
        )
    failed = [
        f"{one.name}, seed {run.seed} ({'unreadable' if run.unreadable else run.record.status})"
        for one in found
        for run, _ in one.failed
    ]
    if failed:
        yield f"Failed, and shown all the same: {format.some(failed, MOST_SAID)}."


def _rises(found: Sequence[Trained]) -> Iterator[str]:
    """Where the validation loss rose, where that may be chance, and where it did not."""
    able = [one for one in found if one.rise and not one.stops_early]
    over = [one for one in able if one.rise.shown]
    for one in over[:MOST_SAID]:
        step, last, by = one.steps[one.rise.place], one.steps[-1], one.rise
        yield (
            f"{one.name} overfits: its validation loss was lowest at step {step:g} and rose by {by.value:.3f} "
            f"({by.low:.3f} to {by.high:.3f}; {format.plural(by.n_seeds, 'seed')}) until step {last:g}."
        )
    if over[MOST_SAID:]:
        yield f"So do {_names(over[MOST_SAID:])}; the table has their numbers."
    alone = [one for one in able if one.rise.n_seeds == 1 and one.rise.value > 0]
    if alone:
        said = [f"{one.name} by {one.rise.value:.3f} after step {one.steps[one.rise.place]:g}" for one in alone]
        names = format.some(said, MOST_SAID)
        yield f"With one seed a rise may be chance; the validation loss rose in the one run of {names}."
    calm = [one for one in able if one not in over and one not in alone]
    late = [one for one in calm if one.rise.place == len(one.steps) - 1]
    calm = [one for one in calm if one not in late]
    if late:
        yield f"Lowest at the last step, so more steps may help: the validation loss of {_names(late)}."
    if calm:
        yield f"No rise of the validation loss beyond chance from seed to seed: {_names(calm)}."


def _names(some: Sequence[Trained]) -> str:
    return format.some([one.name for one in some], MOST_SAID)


def _figure(found: Sequence[Trained]) -> Figure:
    shown = found[:MOST_PANELS]
    watched = any(fit.validation for one in shown for _, fit in one.runs)
    with panels(len(shown), min(3, max(2, len(shown))), 1.3, one_scale=False) as axes:
        lines.losses(axes, {one.name: _lines(one) for one in shown})
        axes[0].figure.supxlabel("step", fontsize=9)
        axes[0].figure.supylabel("loss", fontsize=9)
        left = f" The first {MOST_PANELS} of {len(found)} methods." if len(found) > MOST_PANELS else ""
        return figure_of(
            axes[0],
            "losses",
            "Training loss and validation loss" if watched else "Training loss",
            "A panel per method, each on its own scale: thick lines are means over the runs that finished, thin ones "
            f"single runs.{left}",
            (
                "method", "runs", "steps", "training loss", "lowest on validation", "last", "rise (95 % interval)",
                "kept",
            ),
            [_told(row_of(one)) for one in found],
        )  # fmt: skip


def _lines(one: Trained) -> lines.Losses:
    train = [fit.train for _, fit in one.runs]
    validation = [points for _, fit in one.runs if (points := _finite(fit.validation))]
    return lines.Losses(
        [_line(points) for points in train],
        [_line(points) for points in validation],
        [_line(fit.train) for _, fit in one.failed],
        _mean(train),
        _mean(validation),
    )


def _line(points: Points) -> lines.Line:
    return [step for step, _ in points], [loss for _, loss in points]


def _told(row: dict[str, Any]) -> tuple[str, ...]:
    def loss(name: str) -> str:
        return format.NONE if row[name] is None else f"{row[name]:.3f}"

    lowest = loss("validation_lowest")
    if row["validation_lowest"] is not None:
        lowest += " of each run" if row["lowest_at_step"] is None else f" at step {row['lowest_at_step']:g}"
    span = "" if row["rise_low"] is None else f" ({row['rise_low']:.3f} to {row['rise_high']:.3f})".replace("-", "−")
    kept = ", ".join(f"{step:g}" for step in row["kept_steps"]) or "last"
    runs = str(row["runs"]) + (f" ({row['failed']} failed)" if row["failed"] else "")
    return (
        row["name"], runs, format.NONE if row["steps"] is None else f"{row['steps']:g}",
        f"{loss('train_first')} to {loss('train_last')}" if row["train_first"] is not None else format.NONE, lowest,
        loss("validation_last"), loss("rise").replace("-", "−") + span, kept if row["runs"] else "",
    )  # fmt: skip


def _blocks(found: Training) -> Iterator[Block]:
    if said := tuple(map(format.unbroken, sentences(found.methods))):
        yield Sentences(said)
    yield Note(_note(found.methods, found.comparison))
    yield Figures((_figure(found.methods),), wide=True)


SECTION = Section(
    name="training",
    title="How training went",
    read=lambda reading: reading.of_tasks(lambda comparison: training(reading.study, comparison)),
    columns={
        "training": (
            *WHO, "name", "runs", "failed", "steps", "train_first", "train_last", "validation_lowest",
            "lowest_at_step", "validation_last", "rise", "rise_low", "rise_high", "kept_steps", "n_validation",
        ),
    },
    rows=lambda items: {"training": [row_of(method) for one in items for method in one.found.methods]},
    blocks=lambda items: by_task(items, _blocks),
)  # fmt: skip
