"""The report card: every method by quality, text, forgetting, bias and cost, each against the base model in one word.

A cell holds a value with its interval and what the comparison with the base model says: better, equivalent, worse or
undecided. No cell is computed for the card alone where a section below shows the same; a column that no method has a
value for is left out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib.config.methods import METHODS
from ftlib.core import format
from ftlib.metrics import units
from ftlib.metrics.registry import metric_row
from ftlib.records.study import Group, Study
from ftlib.report.blocks import Cell, Section, Table
from ftlib.report.metric_rows import WHO, group_interval, metrics_of, numbers, who
from ftlib.report.sections.bias_summary import BiasChange, largest_gaps
from ftlib.report.sections.comparison import BASE, MethodScores, TaskComparison, compared
from ftlib.report.sections.costs import seconds_per_thousand
from ftlib.report.sections.fairness import GAPS, RATE, GroupFairness
from ftlib.report.sections.forgetting import FEATURES, Forgot
from ftlib.stats.intervals import Interval

if TYPE_CHECKING:
    from ftlib.report.build import Reading

MOST_ROWS = 24
"""Methods the card shows; the tables hold them all."""

MOST_COLUMNS = 3
"""Columns of groups of people that the card shows."""

_SIZES = {"smaller": "better", "larger": "worse", "unchanged": "same", "same": "same", "undecided": "undecided"}
"""What became of a gap or another bias -> what that is for whoever is treated by it."""


class Entry(NamedTuple):
    """One cell of the card."""

    value: Interval
    shown: str
    span: str
    n: int
    seeds: int
    verdict: str = ""
    """better, same, worse, undecided; base: it is the base model; empty: there is nothing to compare it with."""


class CardColumn(NamedTuple):
    """One measure of every method."""

    family: str
    """quality, text, forgetting, bias or cost."""
    name: str
    """As in report.json: a metric, with the evaluation set behind a colon where it is not the task's."""
    title: str
    unit: str
    gloss: str
    """What it is, in one line."""
    entries: Mapping[str, Entry]
    """By the names of the methods that have a value."""


class Card(NamedTuple):
    """The report card of one task."""

    comparison: TaskComparison
    columns: tuple[CardColumn, ...]

    def bases(self) -> list[str]:
        """The base models that methods are compared with."""
        return [one.name for one in self.comparison.methods if one.untouched]


def base_of(comparison: TaskComparison, one: MethodScores) -> MethodScores | None:
    """The base model of a method; of a baseline, which has none, the best base model there is."""
    bases = [other for other in comparison.methods if other.untouched]
    model = one.group.model if one.group else ""
    own = [other for other in bases if model and model in (other.name, _model(comparison, other))]
    return next(iter(own or ([] if model and len(bases) > 1 else bases)), None)


def _model(comparison: TaskComparison, one: MethodScores) -> str:
    """The base model that a method adapts, or that it is; where the study has one alone, no name says which."""
    if one.group or (named := one.name.removeprefix(BASE).strip()):
        return one.group.model if one.group else named
    models = {other.group.model for other in comparison.methods if other.group} - {""}
    return models.pop() if len(models) == 1 else ""


def card(reading: "Reading", comparison: TaskComparison) -> Card:
    """The report card of one task's methods, from what the sections have read."""
    columns = [
        *_quality(reading.study, comparison),
        *_forgotten(reading, comparison),
        *_bias(reading, comparison),
        *_costs(comparison),
    ]
    return Card(comparison, tuple(column for column in columns if column.entries))


def _entry(metric: str, value: Interval, n: int, seeds: int, verdict: str) -> Entry:
    return Entry(value, units.level(metric, value.value), units.span(metric, *value[1:]), n, seeds, verdict)


def _quality(study: Study, comparison: TaskComparison) -> Iterator[CardColumn]:
    """The primary metric, and beside it F1 or accuracy; BLEU or chrF; of text to be modelled the perplexity."""
    metric, first = comparison.metric, _part(comparison.methods[0])
    verdicts = {one.name: _verdict(comparison, one) for one in comparison.methods}
    levels = {one.name: one.level for one in comparison.methods}
    yield _of_metric("quality", metric, comparison, levels, verdicts)
    for other in ("perplexity",) if comparison.of_text else ("f1_macro", "accuracy", "bleu", "chrf"):
        if other == metric or other not in metrics_of(first):
            continue
        levels = {one.name: group_interval(list(one.parts.values()), other) for one in comparison.methods}
        if comparison.of_text:
            # Of the same tokens a perplexity is the likelihood per byte in another unit, and so is its verdict.
            verdicts = {name: verdict if levels[name].value > 0 else "" for name, verdict in verdicts.items()}
        else:
            verdicts = _against_base(study, comparison, other)
        yield _of_metric("text" if comparison.of_text else "quality", other, comparison, levels, verdicts)
        return


def _of_metric(
    family: str, metric: str, comparison: TaskComparison, levels: Mapping[str, Interval], verdicts: Mapping[str, str]
) -> CardColumn:
    entries = {
        one.name: _entry(metric, levels[one.name], comparison.n, len(one.parts), verdicts.get(one.name, ""))
        for one in comparison.methods
        if not np.isnan(levels[one.name].value)
    }
    return CardColumn(family, metric, units.heading(metric), "", metric_row(metric).summary, entries)


def _part(one: MethodScores) -> Any:
    return next(iter(one.parts.values()))


def _verdict(comparison: TaskComparison, one: MethodScores) -> str:
    base = base_of(comparison, one)
    if base is None:
        return ""
    return "base" if base.name == one.name else comparison.verdict(one.name, base.name) or ""


def _against_base(study: Study, comparison: TaskComparison, metric: str) -> dict[str, str]:
    """Verdicts of each method against its base model by another metric: one family of comparisons (Holm)."""
    found = {one.name: "base" for one in comparison.methods if one.untouched}
    pairs = [(one, base) for one in comparison.methods if (base := base_of(comparison, one)) and base.name != one.name]
    if any(np.isnan(one.level.low) for pair in pairs for one in pair):
        return found
    plan = study.plan.of(comparison.task)
    plan = plan.model_copy(update={"primary": metric, "margin": comparison.margin})
    for pair in compared((study.plan_hash, comparison.task, f"card {metric}"), plan, pairs):
        found[pair.a] = pair.comparison.verdict
    return found


def _forgotten(reading: "Reading", comparison: TaskComparison) -> Iterator[CardColumn]:
    """What adapting did to general text, and to what the features tell of other tasks."""
    read = reading.of("forgetting")
    features = [one for some in read.features for one in some if one.group.task == comparison.task] if read else []
    general = list(reading.general.get(comparison.task, []))
    if general and features:
        yield _general_level(comparison, general)
    elif general:
        yield _changes(
            comparison, general, "general text", f"change in {units.name(general[0].metric)} ↓",
            "by how much ordinary English became harder to predict than before adapting: what was forgotten",
        )  # fmt: skip
    for part in dict.fromkeys(one.part for one in features):
        task = part.removeprefix(FEATURES)
        yield _changes(
            comparison, [one for one in features if one.part == part], f"{task} from its features", "change, points ↑",
            f"by how many points a linear probe of the model's features tells {task} better than before adapting; "
            "below 0 is forgotten",
        )  # fmt: skip


def _general_level(comparison: TaskComparison, found: Sequence[Forgot]) -> CardColumn:
    metric, entries = found[0].metric, {}
    for method, one in _of_methods(comparison, found):
        level = one.before if method.untouched else one.after
        entries[method.name] = _entry(metric, level, one.n, one.seeds, _changed(method, one))
    gloss = f"{metric_row(metric).summary}, of ordinary English after adapting; more than before was forgotten"
    return CardColumn("text", f"{metric}:general", "general text", units.heading(metric), gloss, entries)


def _changes(comparison: TaskComparison, found: Sequence[Forgot], title: str, unit: str, gloss: str) -> CardColumn:
    metric, entries = found[0].metric, {}
    for method, one in _of_methods(comparison, found):
        if method.untouched:
            continue
        value = Interval(one.change.difference, one.change.low, one.change.high)
        shown = "0" if one.unchanged else units.difference(metric, value.value)
        span = "" if one.unchanged else " to ".join(units.difference(metric, end) for end in value[1:])
        entries[method.name] = Entry(value, shown, span, one.n, one.seeds, _changed(method, one))
    return CardColumn("forgetting", f"{metric}:{found[0].part}", title, unit, gloss, entries)


def _of_methods(comparison: TaskComparison, found: Iterable[Forgot]) -> Iterator[tuple[MethodScores, Forgot]]:
    """Each method with its change; a base model that no run stands for with any of its model, measured before."""
    by_group = {id(one.group): one for one in found}
    for method in comparison.methods:
        if one := by_group.get(id(method.group)):
            yield method, one
        elif method.untouched:
            model = _model(comparison, method)
            yield from islice(((method, one) for one in by_group.values() if one.group.model == model), 1)


def _changed(method: MethodScores, one: Forgot) -> str:
    if method.untouched:
        return "base"
    return "same" if one.unchanged else one.change.verdict


def _bias(reading: "Reading", comparison: TaskComparison) -> Iterator[CardColumn]:
    """The largest gap between groups in how often a label is found; where there are no groups, the first measure."""
    shown = 0
    for of in groups_of(reading, comparison):
        unit = "largest gap, points ↓"
        gloss = (
            f"the largest difference between groups by {of.column} in how often a label is found where it is right "
            "(equal opportunity), whichever label that is; 0 is even"
        )
        if of.labels_out:
            gloss += f"; left out, having too few examples: {format.some(list(of.labels_out), 3)}"
        # No gap where no group has enough examples: then another measure of bias, where there is one.
        if shown < MOST_COLUMNS and (gaps := largest_gaps(reading.study, of)):
            yield _measured(comparison, gaps, f"bias by {of.column}", unit, gloss)
            shown += 1
    if shown:
        return
    lines = (reading.of("bias_summary") or {}).get(comparison.task, [])
    if lines:
        key = (lines[0].part, lines[0].metric, lines[0].about)
        unit, gloss = units.heading(lines[0].metric), metric_row(lines[0].metric).summary
        same = [one for one in lines if (one.part, one.metric, one.about) == key]
        of = f", {key[2]}" if key[2] else ""
        if others := len({(one.part, one.metric, one.about) for one in lines}) - 1:
            gloss += f"; {format.plural(others, 'other measure')} of bias in the section on bias"
        yield _measured(comparison, same, f"bias: {key[0]}{of}", unit, gloss)


def groups_of(reading: "Reading", comparison: TaskComparison) -> list[GroupFairness]:
    """How a task's methods treat the groups of its own test set, a column of groups after the other."""
    return [one for one in reading.of("groups") or [] if one.task == comparison.task and one.part == "test"]


def _measured(comparison: TaskComparison, lines: Sequence[BiasChange], title: str, unit: str, gloss: str) -> CardColumn:
    metric, about, entries = lines[0].metric, lines[0].about or lines[0].part, {}
    for method in comparison.methods:
        own = [one for one in lines if one.method is method.group]
        one = own[0] if own else None
        if one is None and method.untouched:
            # Measured before adapting it, whatever method then did so.
            model = _model(comparison, method)
            one = next((line for line in lines if line.method.model == model), None)
        level = one and (one.after if own else one.before)
        if level is not None and not np.isnan(level.value):
            verdict = "base" if method.untouched else _SIZES.get(one.verdict, "")
            entry = _entry(RATE if metric in GAPS.values() else metric, level, one.n, one.seeds, verdict)
            if says_little(entry):
                low, high = (100 * end for end in level[1:])
                entry = entry._replace(span=f"{low:.0f} to {high:.0f}, too few")
            entries[method.name] = entry
    return CardColumn("bias", f"{metric}:{about}", title, unit, gloss, entries)


def says_little(entry: Entry) -> bool:
    """Whether a gap between groups is hardly known: its interval is over half of all it can be."""
    return entry.value.high - entry.value.low > 0.5


def _costs(comparison: TaskComparison) -> Iterator[CardColumn]:
    """Seconds of training, and of use for 1 000 texts; in brackets the least and the most of single runs."""
    for name, title, unit, gloss, of in (
        ("train_seconds", "training", "time", "how long adapting took, mean over the runs, on this machine", _training),
        ("seconds_per_1000", "use", "time for 1 000 texts", "how long it takes to answer 1 000 texts like the test "
         "set's, from the time of evaluation", seconds_per_thousand),
    ):  # fmt: skip
        entries = {}
        for one in comparison.methods:
            values = of(one.group) if one.group else []
            if one.untouched and name == "train_seconds":
                values = [0.0] * len(values)
            if values:
                level = Interval(float(np.mean(values)), min(values), max(values))
                ends = list(dict.fromkeys(map(format.seconds, level[1:])))
                span = " to ".join(ends) if len(values) > 1 and len(ends) > 1 else ""
                shown = "none" if name == "train_seconds" and one.untouched else format.seconds(level.value)
                verdict = "base" if one.untouched else ""
                entries[one.name] = Entry(level, shown, span, comparison.n, len(values), verdict)
        yield CardColumn("cost", name, title, unit, gloss, entries)


def _training(group: Group) -> list[float]:
    values = [run.record.cost.get("train_seconds") for run in group.ok]
    return [] if None in values else [float(value) for value in values]


def card_table(found: Card) -> Table:
    """The card as the page shows it."""
    comparison = found.comparison
    header = (Cell("method"), *(Cell(one.title, one.unit, number=True) for one in found.columns))
    body = []
    for one in comparison.methods[:MOST_ROWS]:
        base = "base model" if one.untouched else "baseline" * one.baseline
        cells = [Cell(one.title, base, strong=True)]
        for column in found.columns:
            entry = column.entries.get(one.name)
            if entry is None:
                cells.append(Cell("–", number=True))
            else:
                cells.append(Cell(entry.shown, entry.span, number=True, mark=entry.verdict))
        body.append(tuple(cells))
    return Table(f"Report card, {comparison.where}", header, tuple(body))


def glosses(found: Card) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """One line for each method and for each column."""
    methods = dict.fromkeys(one.group.method for one in found.comparison.methods if one.group)
    known = [METHODS[name] for name in methods if name in METHODS]
    named = [(f"{one.title} ({one.name})" if one.title else one.name, one.summary) for one in known]
    return named, [(f"{one.title} ({one.unit})" if one.unit else one.title, one.gloss) for one in found.columns]


def _rows(cards: Iterable[Card]) -> Iterator[dict[str, Any]]:
    for found in cards:
        for column in found.columns:
            for one in found.comparison.methods:
                if (entry := column.entries.get(one.name)) is None:
                    continue
                at = who(one.group) if one.group else dict.fromkeys(WHO, "") | {"task": found.comparison.task}
                base = base_of(found.comparison, one)
                yield (
                    {**at, "name": one.name, "shots": found.comparison.shots, "family": column.family}
                    | {"measure": column.name, **numbers(entry.value), "n": entry.n, "seeds": entry.seeds}
                    | {"verdict": entry.verdict or None, "against": base.name if base and entry.verdict else None}
                )


SECTION = Section(
    name="report_card",
    title="Report card",
    read=lambda reading: [card(reading, comparison) for comparison in reading.tops],
    columns={
        "report_card": (
            *WHO, "name", "shots", "family", "measure", "value", "low", "high", "n", "seeds", "verdict", "against",
        ),
    },
    rows=lambda cards: {"report_card": list(_rows(cards))},
    blocks=lambda _: (),
)  # fmt: skip
"""It stands on page one."""
