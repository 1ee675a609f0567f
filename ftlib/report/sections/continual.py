"""Runs that were trained on several tasks in sequence: who forgets less, and what each got right when.

What every section on forgetting shares is here too: which examples can be compared, scores of several tasks that count
alike, and how a difference is shown.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib.core import format
from ftlib.core.format import short_name
from ftlib.core.html import Shown, paragraph
from ftlib.core.html import table as html_table
from ftlib.metrics import units
from ftlib.metrics.continual import matrix, tasks_of, why_undefined
from ftlib.metrics.registry import METRICS, metric_row
from ftlib.records import RunRecord
from ftlib.records.predictions import Part
from ftlib.records.study import Group, Run, Study, seed_of
from ftlib.report.blocks import Block, Cell, Column, Figures, Fold, Heading, Note, Section, Sentences, Table, table
from ftlib.report.figures import Figure, Picture, drawing, figure_of, picture
from ftlib.report.metric_rows import OF_LABELS, WHO, metrics_of, numbers, values_of, who
from ftlib.report.pairing import Paired, Side, apart, comparison_sentence, in_most, paired_comparisons
from ftlib.report.plots.heat import heat
from ftlib.stats.intervals import Interval, interval
from ftlib.stats.linearize import label_values
from ftlib.stats.paired import difference
from ftlib.stats.variance import Array
from ftlib.stats.verdict import Comparison

if TYPE_CHECKING:
    from ftlib.report.build import Reading

MOST_MATRICES = 8
"""Methods that have a picture of their own; the tables hold them all."""


def pictured(record: RunRecord, metric: str = "accuracy") -> Picture:
    """R[i, j] of a run of several tasks, drawn for a notebook: the score on every task after every training."""
    own = short_name(record.spec["resolved"]["task"])
    names = [own if part == "test" else part for part in tasks_of(record.metrics, record.spec["resolved"], metric)]
    found = matrix(record.metrics, record.spec["resolved"], metric)
    return picture(heat, found, names, names, label=metric, down="after training on", across="measured on")


def what_was_forgotten(record: RunRecord) -> Shown:
    """What a run of several tasks forgot, for a notebook: in words, as a picture, and every state in a table."""
    own = record.spec["resolved"]
    metric = (
        "accuracy" if "accuracy" in record.metrics["after"]["test"] else next(iter(record.metrics["after"]["test"]))
    )
    lost = record.metrics["after"].get("sequence", {}).get("forgetting_max", {"value": None})
    said = "Fewer than two tasks with labels were trained on in sequence, so nothing is counted as forgotten."
    if lost["value"] is not None:
        size = units.difference(metric, lost["value"], signed=False)
        span = " to ".join(units.difference(metric, lost[bound], signed=False) for bound in ("low", "high"))
        said = (
            f"Forgotten at the end, on average over the previous tasks: {size} points of {units.name(metric)} ({span})."
        )
    drawn = pictured(record, metric)._repr_html_() if len(tasks_of(record.metrics, own, metric)) > 1 else ""
    return Shown(paragraph(said, strong=True) + drawn + states(record, metric).content, said)


def states(record: RunRecord, metric: str) -> Shown:
    """A table of one run for a notebook: rows are evaluation sets, columns the model's states.

    Evaluation sets without the metric are left out.
    """
    parts = dict.fromkeys(part for stage in record.metrics.values() for part, found in stage.items() if metric in found)
    cells = [[_state(stage.get(part, {}).get(metric), metric) for stage in record.metrics.values()] for part in parts]
    rows = [(part, *row) for part, row in zip(parts, cells, strict=True)]
    return Shown(html_table(("evaluation set", *(name.replace("_", " ") for name in record.metrics)), rows))


def _state(found: dict[str, Any] | None, metric: str) -> str:
    if found is None:
        return ""
    if found["value"] is None:
        return "not available"
    if found.get("low") is None or found.get("high") is None:
        of = f"one {units.noun(metric)}" if found.get("n") == 1 else "one source of examples"
        return f"{found['value']:.3f} (no interval: {of})"
    return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


class TaskSequence(NamedTuple):
    """One method's runs through one sequence of tasks with labels."""

    group: Group
    tasks: tuple[str, ...]
    """In the order of training; the run's own is the last."""
    parts: tuple[str, ...]
    """What they are called in the records."""
    seeds: tuple[int, ...]
    hits: tuple[Array, ...]
    """For each task (n_seeds, T + 1, n_examples): right or not, by the base model and after each training, or NaN."""
    clusters: Array | None
    """(n_examples of all tasks,), or None."""
    ids: tuple[bytes, ...]
    """Equal for two sequences exactly where a task's examples are."""

    @property
    def R(self) -> Array:
        """(n_seeds, T, T) accuracy on task j after training i."""
        return np.stack([table[:, 1:].mean(axis=2) for table in self.hits], axis=-1)

    @property
    def base(self) -> Array:
        """(n_seeds, T) accuracy of the base model."""
        return np.stack([table[:, 0].mean(axis=1) for table in self.hits], axis=-1)

    @property
    def n(self) -> int:
        """Examples of all tasks together."""
        return sum(table.shape[2] for table in self.hits)


def task_sequence(group: Group) -> TaskSequence | None:
    """The runs of one configuration as one sequence; None where they went through fewer than two tasks with labels.

    Seeds that lack a score on a task from its own training on, or were measured on other examples than most, are left
    out.
    """
    runs = [run for run in group.ok if run.resolved.get("sequential_tasks")]
    stages = tasks_of(runs[0].record.metrics, runs[0].resolved) if runs else {}
    if len(stages) < 2:
        return None
    names, order = tuple(stages), ["before", *stages.values()]
    found = {run.seed: [[run.parts.get((stage, part)) for stage in order] for part in names] for run in runs}
    whole = {
        seed: columns
        for seed, columns in found.items()
        if all(part and part.truth is not None for j, column in enumerate(columns) for part in column[j + 1 :])
    }
    if not whole:
        return None
    keys = {seed: tuple(examples_of(column[-1]) for column in columns) for seed, columns in whole.items()}
    seeds = tuple(in_most(whole, keys.__getitem__))
    most = keys[seeds[0]]
    hits = tuple(np.stack([_hits(whole[seed][j], most[j]) for seed in seeds]) for j in range(len(names)))
    lasts = [column[-1] for column in whole[seeds[0]]]
    tasks = tuple(short_name(group.task) if part == "test" else part for part in names)
    return TaskSequence(group, tasks, names, seeds, hits, clusters_of(lasts), most)


def _hits(column: Sequence[Part | None], key: bytes) -> Array:
    """(T + 1, n_examples): right or wrong at every stage."""
    n = len(column[-1].ids)
    able = [part if part is not None and examples_of(part) == key else None for part in column]
    return np.stack(
        [np.full(n, np.nan) if part is None else (part.truth == part.chosen).astype(float) for part in able]
    )


def examples_of(part: Part) -> bytes:
    """Equal for two parts exactly where ids and true labels (of text: sizes) are, whatever else their files hold."""
    truth = part.numbers["n_bytes"] if part.truth is None else [part.labels[code] for code in part.truth]
    return json.dumps([part.ids.tolist(), list(truth)]).encode()


def clusters_of(parts: Sequence[Part]) -> Array | None:
    """Sources of the examples of several parts, one after another; None where every example is its own."""
    if all(part.clusters is None for part in parts):
        return None
    sides = [part.ids if part.clusters is None else part.clusters for part in parts]
    return np.concatenate([[f"{number} {one}" for one in side] for number, side in enumerate(sides)])


def alike(tables: Sequence[Array]) -> Array:
    """Scores on several tasks as one table, in whose mean every task counts the same, whatever its size.

    A row's mean is the mean of its tasks' means, and its spread that within the tasks, as of a stratified sample
    (Cochran 1977, section 5.3): column i of task k is mean + n / (K n_k) (score - mean of the task).

    Args:
        tables: For each of K tasks (n_seeds, n_k).

    Returns:
        (n_seeds, n), n the sum of the n_k.

    One task with a mean of 1 and one with a mean of 0.5:

    >>> alike([np.array([[1.0, 1.0, 1.0, 1.0]]), np.array([[0.0, 1.0]])]).tolist()
    [[0.75, 0.75, 0.75, 0.75, 0.0, 1.5]]
    """
    if len(tables) == 1:
        return tables[0]
    n, k = sum(table.shape[1] for table in tables), len(tables)
    means = [table.mean(axis=1, keepdims=True) for table in tables]
    mean = sum(means) / k
    return np.concatenate([mean + n / (k * t.shape[1]) * (t - m) for t, m in zip(tables, means, strict=True)], axis=1)


def table_of(parts: Sequence[Part], metric: str) -> Array | None:
    """(n_seeds, n_examples) values whose mean is the metric, higher is better; None where they do not give it."""
    if any(metric not in metrics_of(part) for part in parts):
        return None
    if metric in OF_LABELS:
        rows = [label_values(part.truth, part.chosen, metric)[0] for part in parts]
        return None if np.isnan(rows).any() else np.stack(rows)
    return np.stack([values_of(part, metric) for part in parts]) * (1 if metric_row(metric).higher_is_better else -1)


def in_common(runs: Sequence[Run], stage: str, part: str) -> dict[int, Part]:
    """Seed -> a part of these runs, where it is about the same examples under the same protocol as most."""
    found = [(run.seed, run.parts[stage, part]) for run in runs if (stage, part) in run.parts]
    return dict(in_most(found, lambda item: (examples_of(item[1]), item[1].protocol)))


def shortened(names: Sequence[str], field: str) -> dict[str, str]:
    """Name -> the same without what it says of a field, where they stay apart without it.

    >>> shortened(["full sequential_tasks=bios", "full sequential_tasks=bios replay=0.2"], "sequential_tasks")
    {'full sequential_tasks=bios': 'full', 'full sequential_tasks=bios replay=0.2': 'full replay=0.2'}
    """
    found = {name: re.sub(rf" {field}=\S+", "", name) for name in names}
    return found if len(set(found.values())) == len(found) else {name: name for name in names}


LEARNED = "learned"
"""The mean of R's diagonal: what methods score on a task right after its own training, the last task too."""

SHOWN = (LEARNED, "average_accuracy", "forgetting_first", "forgetting_max", "backward_transfer", "forward_transfer")
"""What is said of a method, in this order: what was learned, what is there at the end, and what was lost between."""

_UNKNOWN = Interval(math.nan, math.nan, math.nan)


class Sequences(NamedTuple):
    """Methods that went through the same tasks in the same order, measured on the same examples."""

    task: str
    """The last one, by its full name."""
    tasks: tuple[str, ...]
    methods: tuple[TaskSequence, ...]
    levels: tuple[dict[str, Interval], ...]
    """For each method, a name of `SHOWN` -> value with its interval over examples and seeds."""
    pairs: tuple[Paired, ...]
    """Every two by `forgetting_first`; its difference is that of what is kept, so better is forgetting less."""
    margin: float
    """0 where the plan settles none in this unit."""

    @property
    def names(self) -> dict[str, str]:
        """What to call the methods where all went through these tasks."""
        return shortened([one.group.name for one in self.methods], "sequential_tasks")


def sequences(study: Study) -> list[Sequences]:
    """Every sequence of tasks that the study's methods went through, in the order of the groups."""
    families: dict[tuple[Any, ...], list[TaskSequence]] = {}
    for one in filter(None, map(task_sequence, study.groups)):
        families.setdefault((one.group.task, one.tasks, one.ids), []).append(one)
    return [_family_of_sequences(study, task, tasks, found) for (task, tasks, _), found in families.items()]


def _family_of_sequences(study: Study, task: str, tasks: tuple[str, ...], found: Sequence[TaskSequence]) -> Sequences:
    margin = margin_in_share(study, task)
    sides = [Side(one.group.name, one.seeds, -forgotten(one)) for one in found]
    pairs = paired_comparisons(
        list(combinations(sides, 2)),
        margin=margin,
        rng=np.random.default_rng(seed_of(study.plan_hash, *tasks, "forgetting_first")),
        clusters=_earlier(found[0], found[0].clusters),
    )
    levels = tuple({name: level(one, name) for name in SHOWN} for one in found)
    return Sequences(task, tasks, tuple(found), levels, tuple(pairs), margin)


def margin_in_share(study: Study, task: str) -> float:
    """The plan's margin for differences of accuracy; 0 where its metric has another unit."""
    plan = study.plan.of(task)
    return plan.margin if METRICS[plan.primary].unit == "share" else 0.0


def forgotten(one: TaskSequence) -> Array:
    """(n_seeds, n_examples) right when the task was learned, minus right after the last training; tasks count alike.

    The last task has nothing to lose and is left out.
    """
    return alike([hits[:, j + 1] - hits[:, -1] for j, hits in enumerate(one.hits[:-1])])


def level(one: TaskSequence, name: str) -> Interval:
    """One of `SHOWN` in the mean over the seeds, for new examples and seeds; NaN where it is undefined.

    The best score of `forgetting_max` is the one found, seed by seed: that another training might have been the best
    is not in its interval.
    """
    first, last = one.hits[:-1], len(one.tasks)
    if name in (LEARNED, "average_accuracy"):
        table = alike([hits[:, -1 if name != LEARNED else j + 1] for j, hits in enumerate(one.hits)])
        # A stage that was measured on other examples has no score.
        return _UNKNOWN if np.isnan(table).any() else interval(table, clusters=one.clusters, bounds=(0.0, 1.0))
    if name == "forward_transfer":
        sides = [(hits[:, j], hits[:, 0]) for j, hits in enumerate(one.hits) if j]
        clusters = None if one.clusters is None else one.clusters[one.hits[0].shape[2] :]
    else:
        if name == "forgetting_max":
            best = [1 + j + hits[:, 1 + j : last].mean(axis=2).argmax(axis=1) for j, hits in enumerate(first)]
        else:
            best = [np.full(len(one.seeds), 1 + j) for j in range(len(first))]
        sides = [(hits[np.arange(len(best[j])), best[j]], hits[:, -1]) for j, hits in enumerate(first)]
        clusters = _earlier(one, one.clusters)
    a, b = (alike(list(tables)) for tables in zip(*sides, strict=True))
    if np.isnan(a).any() or np.isnan(b).any() or (clusters is not None and len(set(clusters)) < 2):
        return _UNKNOWN
    found = difference(b, a, clusters=clusters, bounds=(0.0, 1.0))
    if name == "backward_transfer":
        return Interval(found.value, found.low, found.high)
    # Nothing forgotten is 0, not -0.
    return Interval(*(0.0 - end for end in (found.value, found.high, found.low)))


def _earlier(one: TaskSequence, clusters: Array | None) -> Array | None:
    """Sources of the examples of all tasks but the last."""
    return None if clusters is None else clusters[: one.n - one.hits[-1].shape[2]]


def reason(one: TaskSequence, name: str) -> str:
    """Why one of `SHOWN` has no value."""
    return why_undefined(one.R.mean(axis=0), one.base.mean(axis=0), one.tasks, name)


ALONE = " (alone it would count, among so many it does not quite)"

_FORGETS = {
    "better": "{a} forgets less than {b} by {{size}} points {{sure}}",
    "worse": "{a} forgets more than {b} by {{size}} points {{sure}}",
    "same": "{a} and {b} forget equally within {margin}: they differ by {{size}} points {{sure}}",
    "undecided": "undecided whether {a} forgets more or less than {b}: they differ by {{size}} points {{sure}}",
}


def sentence(found: Sequences, pair: Paired) -> str:
    """Which of two forgets less, in one sentence."""
    names, counted = found.names, f"{format.plural(pair.n_seeds, 'seed')}, paired"
    a, b = names[pair.a], names[pair.b]
    if pair.identical:
        return f"{a} and {b} forget exactly the same ({counted})"
    margin = units.margin("accuracy", found.margin)
    return difference_sentence("accuracy", pair.comparison, _FORGETS, counted, a=a, b=b, margin=margin)


def difference_sentence(metric: str, found: Comparison, words: Mapping[str, str], counted: str, **names: str) -> str:
    """A difference in words, in a metric's numbers (see `ftlib.report.pairing.comparison_sentence`).

    Args:
        metric: Of what it is a difference.
        found: The difference.
        words: For each verdict a phrase with places for these names and, doubled, for {{size}} and {{sure}}.
        counted: On how many examples and seeds it stands.
        names: What the phrase names; users give names, so braces in them are no places.
    """
    names = {key: name.replace("{", "{{").replace("}", "}}") for key, name in names.items()}
    phrases = {verdict: said.format(**names) for verdict, said in words.items()}
    said = comparison_sentence(found, phrases, lambda value: units.difference(metric, value, signed=False), counted)
    return said + alone(found)


def alone(said: Comparison) -> str:
    """What is added where a difference would count were it the only one."""
    return ALONE if said.verdict == "undecided" and (said.low > 0 or said.high < 0) else ""


def spanned(said: Comparison, metric: str = "accuracy") -> str:
    """The interval of a difference whose size is said without its sign."""
    _, low, high = (units.difference(metric, end, signed=False) for end in apart(said))
    return f"{low} to {high}"


def level_cell(metric: str, found: Interval, strong: bool = False) -> Cell:
    """A value with its interval below it."""
    span = units.span(metric, found.low, found.high)
    return Cell(units.level(metric, found.value), span, number=True, strong=strong)


def change_cell(metric: str, found: Comparison, strong: bool = False) -> Cell:
    """A difference with its sign, its interval below it."""
    return Cell(units.difference(metric, found.difference), difference_span(metric, found), number=True, strong=strong)


def difference_span(metric: str, found: Comparison | Interval) -> str:
    """The interval of a difference, with signs."""
    return f"{units.difference(metric, found.low)} to {units.difference(metric, found.high)}"


def _rows(found: Sequence[Sequences]) -> dict[str, list[dict[str, Any]]]:
    """The metrics of every sequence, and every comparison, as report.json holds them."""
    told = []
    for family in found:
        sequence = " > ".join(family.tasks)
        for one, levels in zip(family.methods, family.levels, strict=True):
            at = {**who(one.group), "sequence": sequence, "n": one.n, "seeds": len(one.seeds)}
            for name, value in levels.items():
                why = {"reason": reason(one, name)} if math.isnan(value.value) else {}
                told.append(at | {"metric": name} | numbers(value) | why)
        for pair in family.pairs:
            said = pair.comparison
            told.append(
                {"task": family.task, "sequence": sequence, "metric": "forgetting_first", "a": pair.a, "b": pair.b}
                # What is compared is what is kept; what is forgotten has the other sign.
                | {"value": -said.difference, "low": -said.high, "high": -said.low, "p_value": said.p_value}
                | {"p_holm": pair.p_holm, "verdict": said.verdict, "seeds": pair.n_seeds}
                | {"n": pair.n, "sentence": sentence(family, pair)}
            )
    return {"sequences": told}


_LEVELS = (LEARNED, "average_accuracy")
"""Of `SHOWN`, what is no difference."""


def _shown_cell(one: TaskSequence, name: str, value: Interval) -> Cell:
    if format.missing(value.value):
        return Cell("not available", reason(one, name), number=True)
    if name in _LEVELS:
        return level_cell("accuracy", value)
    return Cell(units.difference(name, value.value), difference_span(name, value), number=True)


def _heading(name: str) -> str:
    if name == LEARNED:
        return "right after own training, %\N{NO-BREAK SPACE}↑"
    unit, up = "%" if name in _LEVELS else "points", "↑" if METRICS[name].higher_is_better else "↓"
    return f"{name.replace('_', ' ')}, {unit}\N{NO-BREAK SPACE}{up}"


_LEVEL_COLUMNS = (
    Column("method", "method", lambda name: Cell(name, strong=True)),
    *(
        Column(name, _heading(name), lambda cell: cell, True, unit="mean over tasks" * (name == LEARNED))
        for name in SHOWN
    ),
    Column("seeds", "seeds", number=True),
    Column("n", "n", format.count, number=True, unit="examples of all tasks"),
)


def _levels(found: Sequences) -> Table:
    """Every method by what is said of its sequence."""
    rows = [
        {"method": found.names[one.group.name], "seeds": len(one.seeds), "n": one.n}
        | {name: _shown_cell(one, name, value) for name, value in levels.items()}
        for one, levels in zip(found.methods, found.levels, strict=True)
    ]
    return table(f"What methods forget, {' → '.join(found.tasks)}", _LEVEL_COLUMNS, rows)


def _matrix(one: TaskSequence, name: str) -> Figure:
    """Accuracy of the base model and after each training, mean over seeds."""
    # A task that one seed could not answer has no mean over the seeds.
    grid = np.concatenate([one.base.mean(axis=0)[None], one.R.mean(axis=0)])
    rows = ["base model", *(f"after {task}" for task in one.tasks)]
    with drawing(1.1 + 0.42 * len(rows)) as ax:
        heat(
            ax,
            grid,
            rows,
            one.tasks,
            label=f"Accuracy of {name} on each task after each training, per cent",
            across="measured on",
        )
        return figure_of(
            ax,
            "sequence",
            name,
            f"Accuracy in per cent, mean over {format.plural(len(one.seeds), 'seed')}. Before a task's own training "
            "its labels are guessed from their names (zero-shot); where labels have no names the cell is empty.",
            ("", *one.tasks),
            [
                (row, *(units.level("accuracy", value) for value in map(float, values)))
                for row, values in zip(rows, grid, strict=True)
            ],
        )


def _scores(found: Sequences) -> Table:
    """R of every method, seed by seed."""
    columns = (
        Column("method", "method", lambda name: Cell(name, strong=True)),
        Column("seed", "seed", number=True),
        Column("stage", "stage"),
        *(Column(task, task, lambda value: units.level("accuracy", value), number=True) for task in found.tasks),
    )
    rows = [
        {"method": found.names[one.group.name], "seed": str(seed), "stage": f"after {one.tasks[i]}"}
        | dict(zip(one.tasks, map(float, values), strict=True))
        for one in found.methods
        for number, seed in enumerate(one.seeds)
        for i, values in enumerate(one.R[number])
    ]
    return table(f"Accuracy of every run after every training, {' → '.join(found.tasks)}", columns, rows)


def _notes(found: Sequences) -> Iterator[str]:
    """What was left out, and why."""
    for one in found.methods:
        left = sorted({run.seed for run in one.group.ok} - set(one.seeds))
        if left:
            yield f"{one.group.name}: seeds left out, since they lack a score or used other examples: {left}."
    if len(found.methods) > 1 and not found.pairs:
        yield "Nothing is compared: no two methods have a seed in common, or there is one source of examples."
    if len(found.methods) > MOST_MATRICES:
        yield f"The first {MOST_MATRICES} of {len(found.methods)} methods have a picture; the table has them all."


_NOTE = (
    "Right after own training: what was learned, the mean over the tasks of the accuracy on each when it had just been "
    "trained on. Average accuracy: on all tasks at the end. Forgetting: what was lost since a task's own training "
    "(first), or since its best moment (max). Backward transfer: what later trainings did to the previous tasks. "
    "Forward transfer: what previous trainings did to a task before its own. All with 95 % intervals for new examples "
    "and, from two seeds on, new seeds; tasks count alike, whatever their size."
)


def _blocks(found: Sequence[Sequences]) -> Iterator[Block]:
    yield Note(_NOTE)
    yield Note("Whoever learned little has little to forget: read what is forgotten beside what was learned.")
    for one in found:
        yield Heading(" → ".join(one.tasks))
        if one.pairs:
            yield Sentences(tuple(f"{sentence(one, pair)}." for pair in one.pairs))
        yield _levels(one)
        yield from map(Note, _notes(one))
        shown = one.methods[:MOST_MATRICES]
        yield Figures(tuple(_matrix(method, one.names[method.group.name]) for method in shown))
        scores = _scores(one)
        yield Fold(scores.caption, (scores,))


def _read(reading: "Reading") -> list[Sequences] | None:
    return sequences(reading.study) or None


SECTION = Section(
    name="sequences",
    title="Trained on one task after another",
    read=_read,
    columns={
        "sequences": (
            *WHO, "sequence", "metric", "a", "b", "value", "low", "high", "p_value", "p_holm", "verdict", "n", "seeds",
            "sentence", "reason",
        ),
    },
    rows=_rows,
    blocks=_blocks,
)  # fmt: skip
