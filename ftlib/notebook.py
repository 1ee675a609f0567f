"""What notebooks show, above all rooms: a study with verdicts, tables and figures, a run's answer, and its model."""

import json
from collections.abc import Iterator
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ftlib.config.experiment import Experiment, draws
from ftlib.config.methods import METHODS
from ftlib.core import format
from ftlib.core.errors import FtlibError, unknown
from ftlib.core.html import Shown, fold, paragraph, text
from ftlib.core.html import table as html_table
from ftlib.execution.export import export_runs
from ftlib.execution.notebook_exec import from_notebook
from ftlib.metrics import units
from ftlib.metrics.units import FIRST
from ftlib.models.export import FACTS
from ftlib.records import RunRecord, read_record
from ftlib.records import study as records_study
from ftlib.report import model_card
from ftlib.report.blocks import Table
from ftlib.report.build import Reading, build
from ftlib.report.figures import Figure, picture
from ftlib.report.plots import methods
from ftlib.report.sections import tradeoffs
from ftlib.report.sections.comparison import (
    BASE,
    MethodScores,
    TaskComparison,
    confusion_figure,
    main_figure,
    main_figures,
    methods_table,
    unit_of,
)
from ftlib.report.sections.error_analysis import words_of
from ftlib.report.sections.recommendation import Advice, next_open
from ftlib.report.sections.runs import unfinished
from ftlib.stats.verdict import compare

if TYPE_CHECKING:
    from ftlib.evaluation.evaluate import Evaluated
    from ftlib.execution.inside import Rival
    from ftlib.execution.run import Adapted

MOST_LETTERS = 400
"""Of a text that is shown."""


def read_study(folder: str | Path) -> "Study":
    """A study's folder, read, as an object that shows itself in a notebook.

    Raises:
        FtlibError: The folder holds no record, or one that cannot be read.
    """
    found = records_study.read_study(folder)
    return Study(**{one.name: getattr(found, one.name) for one in fields(found)})


def export(
    folder: str | Path,
    out: str | Path,
    *,
    run: str = "",
    method: str = "",
    task: str = "",
    seeds: str = "median",
    merge: bool = False,
    int8: bool = False,
) -> list[str]:
    """Write a study's model as a folder that loads without ftlib; sentences that say what was written, and why that.

    Args:
        folder: A study, or one run's folder.
        out: A folder that is not there yet.
        run: The id of a run.
        method: A method's name, as in the report; empty: the one that the report advises.
        task: Which, where a study has several.
        seeds: "median": the seed in the middle on validation, never the best on test; "all": a folder each.
        merge: Whether an adapter is added to the weights, so that the folder needs no other.
        int8: Whether the weights are put into bytes.

    Raises:
        FtlibError: No such run, method or task; see also `ftlib.execution.export.export_runs`.
    """
    found, said = _chosen_runs(Path(folder), run, method, task)
    lines = export_runs(found, Path(out), seeds=seeds, merge=merge, int8=int8)
    for path, record in found:
        for one in (Path(out), Path(out) / f"seed{record.spec['resolved']['seed']}"):
            model_card.complete(path, one)
    return [*said, *lines]


def _chosen_runs(folder: Path, run: str, method: str, task: str) -> tuple[list[tuple[Path, RunRecord]], list[str]]:
    """The runs that are exported, and a sentence that says why where nobody named them."""
    if (folder / "record.json").is_file():
        return [(folder, read_record(folder))], []
    study = read_study(folder)
    groups = [group for group in study.groups if group.ok and task in ("", group.task)]
    if run:
        found = [one for group in groups for one in group.ok if one.record.run_id == run]
        if not found:
            raise FtlibError(f"--run {run}: no such run that finished in {folder}")
        return [(found[0].folder, found[0].record)], []
    said = []
    if not method:
        told = {one.task: one for one in study.reading.advice}
        tasks = [name for name in told if task in ("", name)]
        if len(tasks) != 1:
            listed = ", ".join(tasks or told) or "none is compared"
            raise FtlibError(f"--task: found {task!r}; say which: {listed}")
        groups, method = [group for group in groups if group.task == tasks[0]], told[tasks[0]].chosen
        if not any(group.name == method for group in groups):
            found = "the report advises the untouched base model, which is no run of the study"
            raise FtlibError(f"{folder}: {found}; add zero_shot to it, or name a method with --method")
        still_open = next_open(study.comparison_of(tasks[0])) or unfinished(study, tasks[0])
        what = "no winner is shown; what the report would take today" if still_open else "what the report advises"
        said = [f"{method}: {what} for {tasks[0]}; another with --method"]
    chosen = [group for group in groups if method in (group.name, group.method, METHODS[group.method].title)]
    if len(chosen) != 1:
        listed = ", ".join(f"{group.name!r} on {group.task}" for group in chosen or groups)
        several = f"found {len(chosen)} settings of that name" if chosen else "no run of that name finished"
        raise FtlibError(f"--method {method}: {several}; allowed, by name and --task: {listed}")
    return [(one.folder, one.record) for one in chosen[0].ok], said


class Study(records_study.Study):
    """A study that can be looked at: `table()`, `plot.front()`, `examples(a, b)`, `report()`.

    Where it is of several tasks, each of these takes the name of one; the first is taken otherwise.
    """

    @cached_property
    def reading(self) -> Reading:
        """What the sections of the report read of it."""
        return Reading(self)

    def comparison_of(self, task: str = "") -> TaskComparison:
        """The comparison that the verdict on a task is about.

        Raises:
            FtlibError: No such task, or nothing of it can be compared.
        """
        tops = {one.task: one for one in reversed(self.reading.tops)}
        if task and task not in tops:
            raise unknown("task", task, tops)
        if not tops:
            raise FtlibError(
                f"{self.folder}: nothing can be compared; ftlib report {format.typed(self.folder)} says why"
            )
        return tops[task] if task else self.reading.tops[0]

    def table(self, task: str = "") -> Table:
        """Every method by every metric of the test set, best first."""
        return methods_table(self, self.comparison_of(task), self.reading.rows)

    @property
    def plot(self) -> "Plots":
        """Its figures."""
        return Plots(self)

    def verdict(self, task: str = "") -> Shown:
        """What to use, in words, and how sure that is; of every task, where none is named."""
        wanted = self.comparison_of(task).task if task else ""
        found = [one for one in self.reading.advice if wanted in ("", one.task)]
        plain = "\n".join(f"{format.short_name(one.task)}: {one.headline}" for one in found)
        return Shown("".join(map(_verdict, found)), plain)

    def examples(self, a: str, b: str, task: str = "", most: int = 10) -> Shown:
        """The test texts that only one of two methods got right, those on which they are furthest apart first.

        Args:
            a: A method's name, as in `table()`.
            b: Another.
            most: Texts to show of each kind.

        Raises:
            FtlibError: No such method, or the task has no labels, so that nothing is right or wrong.
        """
        comparison = self.comparison_of(task)
        if not comparison.has_labels:
            raise FtlibError(f"{comparison.task}: has no labels, so nothing is right or wrong; see plot.methods()")
        return Shown("".join(_only_one_right(self, comparison, *(_method(comparison, name) for name in (a, b)), most)))

    def export(self, out: str | Path, **how: Any) -> Shown:
        """The advised model, written as a folder that loads without ftlib; `how` as of `ftlib.export`.

        A folder that already holds a model of this study is left as it is, so that a notebook's cell can be run again.
        """
        if Path(out, FACTS).is_file():
            kept = json.loads(Path(out, FACTS).read_text(encoding="utf-8")).get("run_id")
            if kept in {run.record.run_id for run in self.runs}:
                said = f"{Path(out).as_posix()}: is there already, of run {kept}; another name writes another model"
                return Shown(paragraph(said), said)
        lines = export(self.folder, out, **how)
        return Shown("".join(map(paragraph, lines)), "\n".join(lines))

    def report(self) -> Shown:
        """The report, written: its verdicts, the picture of its methods, and a link that opens it."""
        path = build(self.folder)
        link = f'<a href="{text(from_notebook(path))}" target="_blank">Open the report</a>'
        drawn = self.plot.methods().svg if self.reading.tops else ""
        told = self.verdict()
        content = f"{told.content}{drawn}<p>{link} ({text(path.as_posix())})</p>"
        return Shown(content, f"{told.plain}\n{path.as_posix()}".strip())

    def __repr__(self) -> str:
        missing = f", {len(self.missing)} missing" if self.missing else ""
        return f"Study({self.folder.as_posix()}, {format.plural(len(self.runs), 'run')}{missing})"

    def _repr_html_(self) -> str:
        said = [paragraph(self.question, strong=True)] if self.question else []
        missing = f"; {format.plural(len(self.missing), 'run')} not finished yet" if self.missing else ""
        said.append(paragraph(f"{format.plural(len(self.runs), 'run')}{missing}."))
        shown = [self.verdict().content, self.table()._repr_html_()] if self.reading.tops else []
        return "".join([*said, *shown])


class Plots:
    """The figures of a study, as its report draws them."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def methods(self, task: str = "") -> Figure:
        """The primary metric of every method, with its interval."""
        return main_figure(self._study.comparison_of(task))

    def seeds(self, task: str = "") -> Figure:
        """Every run as a dot.

        Raises:
            FtlibError: Every method ran once.
        """
        return self._of_kind(main_figures(self._study.comparison_of(task)), "seeds")

    def front(self, task: str = "", cost: str = "time") -> Figure:
        """Quality against a cost; filled points are Pareto-optimal.

        Args:
            cost: time, memory or parameters.

        Raises:
            FtlibError: Fewer than two methods have that cost.
        """
        return tradeoffs.front(self._study.comparison_of(task), cost)

    def confusion(self, method: str, task: str = "") -> Figure:
        """Which labels a method took for which."""
        comparison = self._study.comparison_of(task)
        return confusion_figure(_method(comparison, method), words_of(comparison))

    def _of_kind(self, figures: Iterator[Figure], kind: str) -> Figure:
        found = {one.kind: one for one in figures}
        if kind not in found:
            raise unknown("figure", kind, found)
        return found[kind]


def _verdict(advice: Advice) -> str:
    said = paragraph(f"{format.short_name(advice.task)}: {advice.headline}", strong=True) + paragraph(advice.lead)
    said += "".join(f"<p>{text(line)}</p>" for line in advice.caution)
    reasons = "".join(f"<li>{text(line)}</li>" for line in advice.reasons)
    limits = "".join(f"<li>{text(line)}</li>" for line in advice.limits)
    return f"{said}<ul>{reasons}</ul>{fold('How sure this is', f'<ul>{limits}</ul>')}"


def _method(comparison: TaskComparison, name: str) -> MethodScores:
    """A method by its name, or by its method's where that is one only."""
    able = [*comparison.methods, *comparison.beside]
    for called in (lambda one: one.name, lambda one: one.short, lambda one: one.group.method if one.group else ""):
        found = [one for one in able if called(one) == name]
        if len(found) == 1:
            return found[0]
    raise unknown("method", name, [one.name for one in able])


def _only_one_right(
    study: Study, comparison: TaskComparison, a: MethodScores, b: MethodScores, most: int
) -> Iterator[str]:
    rows, texts = {one.name: _answers(one) for one in (a, b)}, _texts(study, a, b)
    part = next(iter(a.parts.values()))
    for right, wrong in ((a, b), (b, a)):
        hits, misses = rows[right.name]["right"], rows[wrong.name]["right"]
        found = np.flatnonzero((hits > 0.5) & (misses <= 0.5))
        found = found[np.argsort(rows[right.name]["nats"][found] - rows[wrong.name]["nats"][found], kind="stable")]
        shown = [
            (texts.get(str(part.ids[k]), str(part.ids[k]))[:MOST_LETTERS], part.labels[part.truth[k]])
            + tuple(part.labels[rows[one.name]["said"][k]] for one in (right, wrong))
            for k in found[:most]
        ]
        first = f"; the first {most}" if len(found) > most else ""
        noun = format.plural(len(part.ids), f"test {units.noun(comparison.metric)}")
        yield paragraph(f"Only {right.short} is right (most of its runs): {len(found)} of {noun}{first}.", strong=True)
        yield html_table(("text", "label", right.short, wrong.short), shown) if shown else ""


def _answers(one: MethodScores) -> dict[str, Any]:
    """By example: the share of runs that got it right, the answer of most, and how unlikely they held the truth."""
    parts = list(one.parts.values())
    votes = sum(np.eye(len(parts[0].labels), dtype=int)[part.chosen] for part in parts)
    nats = [part.numbers["nats"] for part in parts if "nats" in part.numbers]
    return {
        "right": np.mean([part.chosen == part.truth for part in parts], axis=0),
        "said": votes.argmax(axis=1),
        "nats": np.mean(nats, axis=0) if nats else np.zeros(len(parts[0].truth)),
    }


def _texts(study: Study, *able: MethodScores) -> dict[str, str]:
    group = next((one.group for one in able if one.group), None)
    found = study.texts.get(group.ok[0].record.provenance.get("data_sha256")) if group else None
    return {example: " ".join(said.split()) for example, said in found.texts.items()} if found else {}


MARGIN = 0.02
"""The smallest difference that matters here; a study says its own."""


def answer(
    spec: Experiment,
    before: "Evaluated",
    adapted: "Adapted",
    after: "Evaluated",
    *rivals: "Rival | None",
    margin: float = MARGIN,
) -> Shown:
    """What one run says of its method: a sentence against each rival and the base model, a picture, and what each took.

    Args:
        rivals: Other methods on the same examples (`ftlib.rival`); None, as within a study, is left out.
        margin: The smallest difference that matters, in the metric's unit.
    """
    metric = next((name for name in FIRST if name in after.metrics["test"]), next(iter(after.metrics["test"])))
    able: list[Measured] = [(spec.method, spec, adapted, after)]
    able += [(one.name, one.spec, one.adapted, one.after) for one in rivals if one]
    # Zero-shot, measured afterwards, is the base model.
    if before.predictions is not None and not np.array_equal(before.scores(), after.scores()):
        able.append((BASE, None, None, before))
    said = [_sentence(metric, able[0], other, margin) for other in able[1:]]
    told = "".join(paragraph(f"{one}.", strong=True) for one in said)
    return Shown(told + _table(metric, able) + _forest(metric, able), "\n".join(said))


Measured = tuple[str, Experiment | None, "Adapted | None", "Evaluated"]
"""A name, and what was measured under it."""


def _sentence(metric: str, one: Measured, other: Measured, margin: float) -> str:
    losses = -1 if units.of_text(metric) else 1
    seeded = any(spec is not None and draws(spec.resolved()) for _, spec, _, _ in (one, other))
    names = {"name_a": one[0], "name_b": other[0], "unit": unit_of(metric), "higher_is_better": losses > 0}
    scores = (losses * measured.scores() for _, _, _, measured in (one, other))
    said = compare(*scores, margin=margin, rng=np.random.default_rng(0), seeded=seeded, **names).sentence
    needed, _, numbers = said.removeprefix("undecided: ").partition("; ")
    return f"{numbers}; no significant difference found: {needed}" if said.startswith("undecided: ") else said


def _forest(metric: str, able: list[Measured]) -> str:
    by, leaves = units.scale(metric), [one[3].metrics["test"][metric] for one in able]
    bounds = ("value", "low", "high")
    values = [[np.nan if leaf[name] is None else by * leaf[name] for leaf in leaves] for name in bounds]
    names = [one[0] for one in able]
    height = 0.75 + 0.3 * len(able)
    drawn = picture(methods.forest, names, *values, label=units.heading(metric), height=height)
    return drawn._repr_html_()


def _table(metric: str, able: list[Measured]) -> str:
    rows = []
    for name, _, adapted, measured in able:
        leaf = measured.metrics["test"][metric]
        shown = f"{units.level(metric, leaf['value'])} ({units.span(metric, leaf['low'], leaf['high'])})"
        took = (
            (format.count(adapted.predictor.trainable_parameters), format.seconds(adapted.cost["train_seconds"]))
            if adapted
            else ("none", "none")
        )
        rows.append((name, shown, leaf["n"], *took))
    header = ("method", f"{units.heading(metric)} (95 % interval)", "n", "trainable parameters", "training time")
    return html_table(header, rows)
