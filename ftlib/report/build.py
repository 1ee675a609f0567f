"""The report: a study's folder in, one page that a person can act on out.

`build` reads `suite.toml` and `runs/*/` and writes `report.html`, `report.json`, `tables/*.csv` and `figures/*.svg`. It
is a pure function of the folder: the same folder gives the same bytes. Every figure is recomputed from the predictions,
and every comparison goes through `ftlib.stats.verdict`.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlib.core import atomic, format
from ftlib.core.html import text
from ftlib.metrics import units
from ftlib.records.study import Study, read_study
from ftlib.report import metric_rows, plots
from ftlib.report.blocks import Block, OfTask, Section, as_csv, figures_of, in_words
from ftlib.report.figures import Figure, as_pdf
from ftlib.report.sections import (
    across_tasks,
    bias_summary,
    confidence,
    continual,
    costs,
    error_analysis,
    examples,
    fairness,
    forgetting,
    learning_curve,
    memorization,
    mitigation,
    other_evaluations,
    page_one,
    recommendation,
    report_card,
    runs,
    tradeoffs,
    training,
    transfer,
    translation,
    tuning,
)
from ftlib.report.sections.comparison import (
    COMPARISONS_SECTION,
    METHODS_SECTION,
    TaskComparison,
    main_figure,
    task_comparisons,
    titles_of,
    unheard,
)
from ftlib.report.sections.learning_curve import FirstScreen, LearningCurves, first_screen, learning_curves
from ftlib.report.sections.recommendation import Advice

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True)
class Reading:
    """A study as sections read it: what several of them need is computed once."""

    study: Study
    items: dict[str, Any] = field(default_factory=dict)
    """What sections have read, by their names."""

    def of(self, name: str) -> Any:
        """What the section of that name reads; read once, by whichever section needs it first."""
        if name not in self.items:
            self.items[name] = next(section for section in SECTIONS if section.name == name).read(self)
        return self.items[name]

    @cached_property
    def comparisons(self) -> list[TaskComparison]:
        """Every comparison of methods: of a few-shot study one for each number of labels per class."""
        return list(task_comparisons(self.study))

    @cached_property
    def told(self) -> list[TaskComparison | LearningCurves]:
        """The comparisons as they are told of: those of one task at several numbers of labels together."""
        return list(learning_curves(self.comparisons, self.study))

    @cached_property
    def tops(self) -> list[TaskComparison]:
        """What each verdict is about; in a few-shot study the comparison at the most labels per class."""
        return [
            one.comparisons[-1]._replace(notes=one.notes) if isinstance(one, LearningCurves) else one
            for one in self.told
        ]

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One row per method, stage, evaluation set and metric, as report.json holds them."""
        return metric_rows.rows_of(self.study)

    @cached_property
    def collapses(self) -> list[runs.Collapse]:
        """Runs that gave (nearly) every example the same label."""
        return runs.collapses(self.study)

    @cached_property
    def general(self) -> dict[str, list[forgetting.Forgot]]:
        """Task -> what its methods did to general text."""
        return {task: forgetting.forgotten(self.study, task) for task in dict.fromkeys(top.task for top in self.tops)}

    @cached_property
    def tuning(self) -> list[OfTask]:
        """What each task's methods tried on validation."""
        return self.of_tasks(lambda top: tuning.tuning(self.study, top))

    @cached_property
    def advice(self) -> list[Advice]:
        """One verdict for each of `tops`."""
        tuned = {id(one.found.comparison): one.found for one in self.tuning}
        found = []
        for one, top in zip(self.told, self.tops, strict=True):
            limits = runs.collapse_sentences(self.collapses, top.task, top.metric)
            if id(top) in tuned:
                limits += tuning.warnings(tuned[id(top)])
            lacking = runs.unfinished(self.study, top.task)
            caution = recommendation.cautions(self.study, top)
            if isinstance(one, LearningCurves):
                found.append(learning_curve.advise(one, limits, lacking, caution))
            else:
                told = recommendation.advise(one, self.forgotten_by(top), lacking, caution)
                limits = [*recommendation.sentences(one), *limits]
                found.append(told._replace(limits=(*told.limits, *limits)))
        return found

    def advice_on(self, top: TaskComparison) -> Advice:
        """The verdict that one of `tops` led to."""
        return next(advice for one, advice in zip(self.tops, self.advice, strict=True) if one is top)

    def forgotten_by(self, top: TaskComparison) -> list[forgetting.Forgot]:
        """What a task's methods did to general text; it is said with the first comparison of the task only."""
        if top is not next(one for one in self.tops if one.task == top.task):
            return []
        shown = {one.group.settings for one in top.methods if one.group}
        return [one for one in self.general[top.task] if not top.shots or one.group.settings in shown]

    def of_tasks(self, read: Callable[[TaskComparison], Any], few_shot: bool = True) -> list[OfTask]:
        """What a function reads of each of `tops`, where it reads anything, without few-shot studies where wished."""
        headed = len(self.tops) > 1
        return [
            OfTask(top.where if headed or top.shots else "", found)
            for top in self.tops
            if (few_shot or not top.shots) and (found := read(top)) is not None
        ]


_HERE = Path(__file__).parent

SECTIONS: tuple[Section, ...] = (
    across_tasks.SECTION,
    learning_curve.SECTION,
    METHODS_SECTION,
    runs.ABSENT_SECTION,
    COMPARISONS_SECTION,
    tradeoffs.SECTION,
    costs.SECTION,
    forgetting.SECTION,
    other_evaluations.SECTION,
    continual.SECTION,
    transfer.SECTION,
    tuning.SECTION,
    training.SECTION,
    error_analysis.SECTION,
    translation.SECTION,
    confidence.SECTION,
    examples.SECTION,
    fairness.SECTION,
    mitigation.SECTION,
    bias_summary.SECTION,
    memorization.SECTION,
    runs.SOURCES_SECTION,
    report_card.SECTION,
)
"""The sections, in the order of the page."""


def build(study_folder: str | Path, *, pdf: bool = False) -> Path:
    """Write a study's report.

    Args:
        study_folder: The folder that holds `runs/`, and `suite.toml` where there is one.
        pdf: Write the figures as PDF beside the SVG.

    Returns:
        The path of `report.html`.

    Raises:
        FtlibError: There is no record, or one cannot be read.
    """
    study = read_study(study_folder)
    reading = Reading(study)
    # One colour and one marker for each method, in every figure of the page.
    names = [one.name for comparison in reading.tops for one in comparison.methods]
    with plots.one_look(names, titles_of(*reading.comparisons)), as_pdf(pdf):
        return _build(study.folder, study, reading)


def _build(folder: Path, study: Study, reading: Reading) -> Path:
    wrong = metric_rows.disagreements(study)
    first = [first_screen(one) if isinstance(one, LearningCurves) else None for one in reading.told]
    content: dict[str, Any] = {
        "question": study.question,
        "plan": study.plan.model_dump(),
        "disagreements": [one._asdict() for one in wrong],
        "notes": [*_notes(reading), *(note for one in reading.comparisons for note in one.notes)],
        "advice": [one._asdict() for one in reading.advice],
        "provenance": runs.provenance(study),
    }
    columns: dict[str, Sequence[str]] = {}
    listed: dict[str, list[dict[str, Any]]] = {}
    shown = []
    for section in SECTIONS:
        items = reading.of(section.name)
        found = {name: [] for name in section.columns} if items is None else section.rows(items)
        # Two sections may fill one table.
        for name, rows in found.items():
            content[name] = [*content.get(name, []), *rows]
        found = section.csv(items) if section.csv else found
        for name in section.columns:
            listed[name] = [*listed.get(name, []), *found[name]]
        columns |= section.columns
        if items is not None and (blocks := [in_words(one, plots.in_words) for one in section.blocks(items)]):
            shown.append((section, blocks))
    for name, rows in listed.items():
        _write(folder / "tables" / f"{name}.csv", as_csv(rows, columns[name]))
    # What stands on page one is drawn once: beside the verdict, not again in the section of the methods.
    charts = [one.curve if one else main_figure(top) for one, top in zip(first, reading.tops, strict=True)]
    pictures = [
        *([chart] for chart in charts),
        *(figures_of(blocks) for _, blocks in shown),
    ]
    _write_figures(folder / "figures", pictures)
    atomic.write_json(folder / "report.json", content)
    path = folder / "report.html"
    _write(path, _page(reading, wrong, shown, first, charts))
    return path


def _notes(reading: Reading) -> list[str]:
    """What the reader must know about how the folder was read, and why tasks that were run are not compared."""
    return [*reading.study.notes, *unheard(reading.study, reading.comparisons)]


def _write_figures(folder: Path, parts: Sequence[Sequence[Figure]]) -> None:
    """Write the figures and take away those of an earlier report that this one has not."""
    written = set()
    for number, part in enumerate(parts, 1):
        for place, figure in enumerate(part, 1):
            name = f"{number:02d}-{place:02d}-{figure.kind}"
            for ending, drawn in (("svg", figure.svg.encode("utf-8", "replace")), ("pdf", figure.pdf)):
                if drawn:
                    written.add(f"{name}.{ending}")
                    atomic.write_atomically(folder / f"{name}.{ending}", lambda to, data=drawn: to.write_bytes(data))
    for old in (*folder.glob("[0-9]*-[0-9][0-9]-*.svg"), *folder.glob("[0-9]*-[0-9][0-9]-*.pdf")):
        if old.name not in written:
            old.unlink()


def _write(path: Path, content: str) -> None:
    data = content.encode("utf-8", "replace")
    atomic.write_atomically(path, lambda temporary: temporary.write_bytes(data))


def _hashed(said: str) -> str:
    """How a policy names a style or a script by its content."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(said.encode()).digest()).decode()}'"


@cache
def _templates() -> "Environment":
    """The page's templates, which are turned into code once; a page adds what it alone calls its methods."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else Markup(text(value)),
    )
    environment.filters |= {
        "picture": lambda svg: f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}",
        "raw": Markup,
        "card_table": report_card.card_table,
        "glosses": report_card.glosses,
    }
    return environment


def _page(
    reading: Reading,
    wrong: Sequence[metric_rows.Disagreement],
    shown: Sequence[tuple[Section, Sequence[Block]]],
    first: Sequence[FirstScreen | None],
    charts: Sequence[Figure],
) -> str:
    from markupsafe import Markup

    study = reading.study
    css = (_HERE / "style.css").read_text(encoding="utf-8")
    finds = any(block.kind == "finder" for _, blocks in shown for block in blocks)
    script = (_HERE / "finder.js").read_text(encoding="utf-8") if finds else ""
    allowed = "default-src 'none'; " + (f"script-src {_hashed(script)}; " if script else "")
    environment = _templates()

    words = {
        task: titles_of(*(one for one in reading.comparisons if one.task == task))
        for task in {one.task for one in reading.comparisons}
    }

    def titled(said: str, top: TaskComparison) -> str:
        """A sentence with what people call the methods, those too that had other numbers of labels."""
        return words[top.task](said)

    environment.filters |= {
        "titled": titled,
        "titled_table": lambda shown, top: shown._replace(
            rows=tuple(tuple(cell._replace(text=titled(cell.text, top)) for cell in row) for row in shown.rows)
        ),
    }
    cards = reading.of("report_card")
    pages = [page_one.page_one(reading, *some) for some in zip(reading.tops, reading.advice, cards, strict=True)]
    return environment.get_template("template.html").render(
        css=Markup(css),
        script=Markup(script),
        csp=f"{allowed}style-src {_hashed(css)}; img-src data:; base-uri 'none'; form-action 'none'",
        title=study.question or f"Study {study.folder.resolve().name}",
        disagreements=runs.disagreement_table(wrong) if wrong else None,
        n_wrong_runs=len({one.run_id for one in wrong}),
        absent=reading.of("absent"),
        notes=_notes(reading),
        some_finished=any(run.ok for run in study.runs),
        glance=reading.of("tasks").glance,
        verdicts=list(zip(reading.tops, reading.advice, first, charts, cards, pages, strict=True)),
        plan_line=runs.plan_line(study),
        plan_stood=runs.plan_stood(study),
        shown=shown,
        format=format,
        units=units,
    )
