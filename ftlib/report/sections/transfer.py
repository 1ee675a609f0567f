"""What one task gives to another: a task after others, or together with them, against the task alone.

A pair is made of runs on the same terms (model, method, settings, number of examples) and the same seeds; what is
compared is the plan's metric of the task, on the same examples.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib.config.constraints import CONTINUED
from ftlib.config.methods import METHODS
from ftlib.core import format
from ftlib.core.format import short_name
from ftlib.metrics import units
from ftlib.metrics.registry import metric_row
from ftlib.records.predictions import Part
from ftlib.records.study import Group, Study, differing, seed_of
from ftlib.report.blocks import Block, Cell, Column, Figures, Heading, Note, Section, Table, table
from ftlib.report.figures import Figure, drawing, figure_of
from ftlib.report.metric_rows import WHO, group_interval, who
from ftlib.report.pairing import Paired, Side, in_most, paired_comparisons
from ftlib.report.plots.heat import heat
from ftlib.report.sections.comparison import unit_of
from ftlib.report.sections.continual import (
    change_cell,
    difference_sentence,
    difference_span,
    examples_of,
    in_common,
    level_cell,
    table_of,
)
from ftlib.stats.intervals import Interval

if TYPE_CHECKING:
    from ftlib.report.build import Reading

_ASIDE = (
    *CONTINUED, "task", "train_limit", "seed", "notebook", "evaluations", "validations", "text_column", "label_column",
    "label_words", "group_columns", "quoting", "save",
)  # fmt: skip
"""Fields that do not say on what terms a task was trained: those of the sequence, and those of the task itself."""


class Transfer(NamedTuple):
    """One task's score in two runs that differ in what else was trained on."""

    task: str
    """By its short name."""
    sources: tuple[str, ...]
    """What else was trained on, by short name."""
    how: str
    """after, joint_tasks, or after and joint_tasks."""
    against: str
    """alone, or in sequence."""
    group: Group
    other: Group
    metric: str
    level: Interval
    base: Interval
    gain: Paired
    """With the others minus without; higher is better whatever the metric."""
    margin: float
    n: int


class _Pair(NamedTuple):
    """A configuration and one without the other tasks, before their examples are read."""

    task: str
    sources: tuple[str, ...]
    how: str
    against: str
    group: Group
    part: str
    other: Group
    other_part: str


def transfers(study: Study) -> list[Transfer]:
    """Every pair of runs that shows what a task gains by others; those of one task are one family (Holm)."""
    able = [group for group in study.groups if group.ok and group.method in METHODS and METHODS[group.method].trains]
    families: dict[str, list[_Pair]] = {}
    for group in able:
        for wanted in _pairs_of(group, able):
            families.setdefault(wanted.task, []).append(wanted)
    return [one for task, wanted in families.items() for one in _family_of_task(study, task, wanted)]


def _pairs_of(group: Group, able: Sequence[Group]) -> Iterator[_Pair]:
    before, joint = _names(group, "sequential_tasks"), _names(group, "joint_tasks")
    own, names = group.task, [*before, group.task, *joint]
    if len(names) < 2:
        return
    how = " and ".join(name for name, some in (("after", before), ("joint_tasks", joint)) if some)
    for task in (own, *joint):
        sources = tuple(short_name(name) for name in names if name != task)
        part = "test" if task == own else short_name(task)
        lone = next((one for one in able if _trained_alone(one) and _terms(one) == _terms(group, task, own)), None)
        if lone:
            yield _Pair(short_name(task), sources, how, "alone", group, part, lone, "test")
        for one in _in_sequence(group, able) if how == "joint_tasks" else ():
            place = "test" if task == one.task else short_name(task)
            yield _Pair(short_name(task), sources, how, "in sequence", group, part, one, place)


def _in_sequence(group: Group, able: Sequence[Group]) -> Iterator[Group]:
    """Groups that were trained on the same tasks one after another, on the same terms."""
    names, terms = {group.task, *_names(group, "joint_tasks")}, _terms(group)[1:]
    for one in able:
        visited = {*_names(one, "sequential_tasks"), one.task}
        in_sequence = _names(one, "sequential_tasks") and not _names(one, "joint_tasks")
        if in_sequence and visited == names and _terms(one)[1:] == terms:
            yield one


def _names(group: Group, field: str) -> list[str]:
    return list(group.runs[0].resolved.get(field) or [])


def _trained_alone(group: Group) -> bool:
    """Whether it was trained on its task and nothing else, nothing old held on to."""
    spec = group.runs[0].resolved
    return not any(spec.get(name) for name in ("sequential_tasks", "joint_tasks", "replay", "l2_sp", "ewc"))


def _terms(group: Group, task: str = "", own: str = "") -> tuple[str, int, str]:
    """A task, how many of its examples were trained on at most, and the rest of the terms, to be compared."""
    spec: Mapping[str, Any] = group.runs[0].resolved
    limit = (
        spec.get("train_limit", 0) if task in ("", own) else spec.get("other_task_limit") or spec.get("train_limit", 0)
    )
    rest = {name: value for name, value in spec.items() if name not in _ASIDE}
    return task or group.task, limit, json.dumps(rest, sort_keys=True, default=str)


def _family_of_task(study: Study, task: str, wanted: Sequence[_Pair]) -> Iterator[Transfer]:
    """Pairs on the examples that most are measured on; a pair on others is left out."""
    read: list[tuple[_Pair, dict[int, Part], dict[int, Part], str]] = []
    for one in wanted:
        parts, others = in_common(one.group.ok, "after", one.part), in_common(one.other.ok, "after", one.other_part)
        full = next(name for name in (one.group.task, *_names(one.group, "joint_tasks")) if short_name(name) == task)
        if parts and others and _same_examples(parts, others):
            read.append((one, parts, others, full))
    if not read:
        return
    read = in_most(read, lambda entry: examples_of(next(iter(entry[1].values()))))
    plan = study.plan.of(read[0][3])
    sides, kept = [], []
    for one, parts, others, _ in read:
        tables = [table_of(list(some.values()), plan.primary) for some in (parts, others)]
        if all(table is not None for table in tables) and set(parts) & set(others):
            sides.append((Side("a", tuple(parts), tables[0]), Side("b", tuple(others), tables[1])))
            kept.append((one, parts, others))
    if not kept:
        return
    first = next(iter(kept[0][1].values()))
    rng = np.random.default_rng(seed_of(study.plan_hash, task, "carried"))
    gains = paired_comparisons(sides, margin=plan.margin, rng=rng, clusters=first.clusters)
    for (one, parts, others), gain in zip(kept if gains else (), gains, strict=True):
        levels = [group_interval(list(some.values()), plan.primary) for some in (parts, others)]
        yield Transfer(*one[:4], one.group, one.other, plan.primary, *levels, gain, plan.margin, len(first.ids))


def _same_examples(parts: Mapping[int, Part], others: Mapping[int, Part]) -> bool:
    a, b = next(iter(parts.values())), next(iter(others.values()))
    return (examples_of(a), a.protocol, a.pseudo) == (examples_of(b), b.protocol, b.pseudo)


_TRAINED = {"after": "after", "joint_tasks": "together with", "after and joint_tasks": "after and together with"}


def _with(one: Transfer) -> str:
    """How the task was trained with the others."""
    return f"{_TRAINED[one.how]} {format.listed(list(one.sources))}"


_WORDS = {
    "better": "{with_} is better than {without} by {{size}}{unit} {{sure}}",
    "worse": "{with_} is worse than {without} by {{size}}{unit} {{sure}}",
    "same": "{with_} is equivalent to {without} within {margin}: they differ by {{size}}{unit} {{sure}}",
    "undecided": "undecided whether {with_} is better or worse than {without}: they differ by {{size}}{unit} {{sure}}",
}


def sentence(one: Transfer) -> str:
    """What the other tasks did to this one, in one sentence."""
    names = {"with_": f"{one.task} {_with(one)}", "without": f"{one.task} {one.against}"}
    if one.gain.identical:
        return f"{one.group.name}: {names['with_']} does on every {units.noun(one.metric)} what {names['without']} does"
    names |= {"unit": units.unit(one.metric), "margin": units.margin(one.metric, one.margin)}
    counted = f"{format.plural(one.gain.n_seeds, 'seed')}, paired"
    return f"{one.group.name}: {difference_sentence(one.metric, one.gain.comparison, _WORDS, counted, **names)}"


def _rows(found: Sequence[Transfer]) -> dict[str, list[dict[str, Any]]]:
    """The pairs as report.json holds them; a difference above 0 is a gain, whatever the metric."""
    return {"transfer": [_row(one) for one in found]}


def _row(one: Transfer) -> dict[str, Any]:
    said = one.gain.comparison
    return (
        {**who(one.group), "task": one.task, "sources": " ".join(one.sources), "how": one.how}
        | {"against": one.against, "metric": one.metric, "unit": unit_of(one.metric)}
        | {"value": one.level.value, "other": one.base.value, "gain": said.difference}
        | {"low": said.low, "high": said.high, "p_value": said.p_value, "p_holm": one.gain.p_holm}
        | {"verdict": said.verdict, "n": one.n, "seeds": one.gain.n_seeds, "sentence": sentence(one)}
    )


_MARKS = {"better": "better", "worse": "worse", "same": "same", "undecided": "?"}


def _figures(found: Sequence[Transfer]) -> Iterator[Figure]:
    """One matrix for each method and way: what each single task gave to each other one."""
    single = [one for one in found if len(one.sources) == 1 and one.against == "alone"]
    single = [one for one in single if metric_row(one.metric).unit == "share"]
    names = _variants([one.group for one in single])
    cells: dict[tuple[str, str], dict[tuple[str, str], Transfer]] = {}
    for one in single:
        cells.setdefault((names[one.group.name, one.group.task], one.how), {})[one.sources[0], one.task] = one
    for (method, how), pairs in cells.items():
        yield _matrix(method, how, pairs)


def _variants(groups: Sequence[Group]) -> dict[tuple[str, str], str]:
    """Name and task of a configuration -> its method with the settings that differ, its tasks left aside."""
    apart = ("task", "sequential_tasks", "joint_tasks")
    specs = [{k: v for k, v in group.runs[0].resolved.items() if k not in apart} for group in groups]
    unique = list({repr(spec): spec for spec in specs}.values())
    several = len({spec.get("model") for spec in unique}) > 1
    said = {repr(spec): words for spec, words in zip(unique, differing(unique), strict=True)} if unique else {}
    return {
        (group.name, group.task): " ".join(
            filter(None, (group.method, f"({group.model})" if several else "", said[repr(spec)]))
        )
        for group, spec in zip(groups, specs, strict=True)
    }


def _matrix(method: str, how: str, pairs: dict[tuple[str, str], Transfer]) -> Figure:
    sources = list(dict.fromkeys(source for source, _ in pairs))
    targets = list(dict.fromkeys(target for _, target in pairs))
    values = np.full((len(sources), len(targets)), np.nan)
    marks = [["" for _ in targets] for _ in sources]
    for (source, target), one in pairs.items():
        at = sources.index(source), targets.index(target)
        values[at] = one.gain.comparison.difference
        marks[at[0]][at[1]] = _MARKS[one.gain.comparison.verdict]
    metrics = format.listed(list(dict.fromkeys(units.name(one.metric) for one in pairs.values())))
    when = "before it" if how == "after" else "together with it"
    with drawing(1.2 + 0.55 * len(sources)) as ax:
        heat(
            ax,
            values,
            sources,
            targets,
            label=f"Points of {metrics} that a task gains by another one trained {when}, {method}",
            across="the task that is measured",
            down=f"trained {when}",
            digits=1,
            signed=True,
            marks=marks,
        )
        return figure_of(
            ax,
            "transfer",
            f"{method}: what a task gains by another one trained {when}",
            f"Points of {metrics} against the task alone; below the number the verdict, “?” where neither a difference "
            "nor equivalence is shown.",
            ("from", "to", "gain, points", "95 % interval", "p (Holm)", "seeds", "n"),
            [
                (
                    source,
                    target,
                    units.difference(one.metric, one.gain.comparison.difference),
                    difference_span(one.metric, one.gain.comparison),
                    format.p_value(one.gain.p_holm),
                    str(one.gain.n_seeds),
                    format.count(one.n),
                )
                for (source, target), one in pairs.items()
            ],
        )


_VERDICTS = {"better": "gains", "worse": "loses", "same": "equivalent", "undecided": "undecided"}


def _task(one: Transfer) -> Cell:
    lower = "" if metric_row(one.metric).higher_is_better else ", fewer are better"
    return Cell(one.task, f"{units.heading(one.metric)}{lower}", strong=True)


def _method(one: Transfer) -> Cell:
    return Cell(one.group.name, f"against {one.other.name}" if one.other.name != one.group.name else "")


_COLUMNS = (
    Column("pair", "task", _task),
    Column("pair", "trained", _with),
    Column("pair", "method", _method),
    Column("pair", "verdict", lambda one: Cell(_VERDICTS[one.gain.comparison.verdict], f"{sentence(one)}.")),
    Column("pair", "with them", lambda one: level_cell(one.metric, one.level), number=True),
    Column("pair", "without", lambda one: level_cell(one.metric, one.base), number=True),
    Column("pair", "gain", lambda one: change_cell(one.metric, one.gain.comparison, strong=True), number=True),
    Column("p_holm", "p (Holm)", format.p_value, number=True),
    Column("seeds", "seeds", number=True),
    Column("n", "n", format.count, number=True),
)


def _table(found: Sequence[Transfer], against: str) -> Table | None:
    """Every pair against a task alone, or against the tasks in sequence; None where there is none."""
    rows = [_row(one) | {"pair": one} for one in found if one.against == against]
    said = "each task alone" if against == "alone" else "the same tasks in sequence"
    return table(f"Trained with others against {said}", _COLUMNS, rows) if rows else None


def _blocks(found: Sequence[Transfer]) -> Iterator[Block]:
    yield Note(
        "The same method on the same terms, with other tasks and without; paired on examples and seeds, corrected "
        "(Holm) for all comparisons of one task. A gain above 0 is better, whatever the metric."
    )
    if figures := tuple(_figures(found)):
        yield Figures(figures)
    if alone_table := _table(found, "alone"):
        yield alone_table
    if in_sequence := _table(found, "in sequence"):
        yield Heading("One model trained on all tasks at once, against one that learned them in sequence")
        yield in_sequence


def _read(reading: "Reading") -> list[Transfer] | None:
    return transfers(reading.study) or None


SECTION = Section(
    name="transfer",
    title="What one task gives to another",
    read=_read,
    columns={
        "transfer": (
            *WHO, "sources", "how", "against", "metric", "unit", "value", "other", "gain", "low", "high", "p_value",
            "p_holm", "verdict", "n", "seeds", "sentence",
        ),
    },
    rows=_rows,
    blocks=_blocks,
)  # fmt: skip
