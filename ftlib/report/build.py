"""The report: a study's folder in, one page that a person can act on out.

`build` reads `suite.toml` and `runs/*/` and writes `report.html`, `report.json`, `tables/*.csv` and `figures/*.svg`. It
is a pure function of the folder: the same folder gives the same bytes. Every figure is recomputed from the predictions,
and every comparison goes through `ftlib.stats.verdict`.

From a study's folder to its files: read, compare, draw, write; each file in one step.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ftlib.core import atomic, format
from ftlib.core.html import text
from ftlib.metrics import units
from ftlib.metrics.registry import METRICS
from ftlib.records.study import Study, read_study
from ftlib.report import metric_rows, page, tables
from ftlib.report.blocks import Block, Section, figures_of
from ftlib.report.figures import Figure
from ftlib.report.metric_rows import WHO
from ftlib.report.page import Section as TaskSection
from ftlib.report.sections import (
    across_tasks,
    continual,
    costs,
    degenerate_runs,
    error_analysis,
    forgetting,
    memorization,
    provenance,
    runs,
    training,
    transfer,
)
from ftlib.report.sections.bias_summary import BiasSummary, drifts
from ftlib.report.sections.comparison import TaskComparison, task_comparisons, unheard
from ftlib.report.sections.comparison import labels as per_class
from ftlib.report.sections.costs import Foretold, foretold
from ftlib.report.sections.costs import rows as foretold_rows
from ftlib.report.sections.learning_curve import budget_rows, crossing_rows
from ftlib.report.sections.mitigation import Groups, groups_section


@dataclass(frozen=True)
class Reading:
    """A study as sections read it: what several of them need is computed once."""

    study: Study
    items: dict[str, Any] = field(default_factory=dict)
    """What earlier sections read, by their names."""

    @cached_property
    def comparisons(self) -> list[TaskComparison]:
        """One comparison of methods for each task."""
        return list(task_comparisons(self.study))

    @cached_property
    def general(self) -> dict[str, list[forgetting.Forgot]]:
        """For each task what its methods did to general text."""
        return {
            task: forgetting.forgotten(self.study, task) for task in dict.fromkeys(g.task for g in self.study.groups)
        }

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One row per method, stage, evaluation set and metric, as report.json holds them."""
        return metric_rows.rows_of(self.study)


def build(study_folder: str | Path) -> Path:
    """Write a study's report.

    Args:
        study_folder: The folder that holds `runs/`, and `suite.toml` where there is one.

    Returns:
        The path of `report.html`.

    Raises:
        FtlibError: There is no record, or one cannot be read.
    """
    return write_report(Path(study_folder))


_HERE = Path(__file__).parent


_AT = ("measured", "shots", "shots_is", "low", "low_is", "high", "high_is")


COLUMNS = {
    "rows": (*WHO, "stage", "part", "metric", "value", "low", "high", "n", "seeds", "source", "reason", "protocol"),
    "verdicts": (
        "task", "metric", "a", "b", "difference", "low", "high", "p_value", "p_holm", "verdict", "more_examples",
        "more_seeds", "seeds", "sentence",
    ),
    "pareto": (*WHO, "name", "metric", "cost", "cost_value", "value", "on_front", "probability"),
    "crossovers": ("task", "metric", "a", "b", *_AT, "ahead_first", "ahead_last", "n_draws", "n", "sentence", "reason"),
    "label_budgets": (
        "task", "metric", "name", "goal", "target", *_AT, "reached_last", "n_draws", "n", "sentence", "reason",
    ),
    "tuning": (
        *WHO, "name", "metric", "k", "value", "low", "high", "first", "all_diverged", "seeds", "n_validation",
    ),
    "training": (
        *WHO, "name", "runs", "failed", "steps", "train_first", "train_last", "validation_lowest", "lowest_at_step",
        "validation_last", "rise", "rise_low", "rise_high", "kept_steps", "n_validation",
    ),
    "predicted": ("task", "model", "method", "what", "predicted", "actual", "ratio", "lowest", "highest", "n"),
    "groups": (
        *WHO, "part", "column", "group", "metric", "label", "stage", "value", "low", "high", "n", "seeds", "p_value",
        "p_holm", "verdict", "lowest", "highest", "smallest", "sentence", "reason",
    ),
    "undone": (
        *WHO, "part", "column", "against", "label", "gap_without", "gap_with", "gap_change", "gap_verdict", "p_holm",
        "metric", "quality_difference", "low", "high", "quality_verdict", "n", "seeds", "groups", "sentence", "reason",
    ),
    "ledger": (
        *WHO, "part", "metric", "about", "before", "before_low", "before_high", "before_at", "after", "after_low",
        "after_high", "after_at", "change", "low", "high", "none_at", "p_value", "p_holm", "verdict", "n", "seeds",
        "protocol", "caution", "sentence", "reason",
    ),
    "failures": ("run_id", *WHO, "seed", "status", "reason"),
    "collapsed": ("run_id", *WHO, "shots", "seed", "label", "share", "accuracy", "n"),
    "hard_examples": ("task", "id", "label", "text", "method", "said"),
}  # fmt: skip
"""The tables that are also written as CSV, and their columns."""

SECTIONS: tuple[Section, ...] = (
    forgetting.SECTION,
    continual.SECTION,
    transfer.SECTION,
    memorization.SECTION,
)
"""The sections, in the order of the page."""


def write_report(folder: Path) -> Path:
    """Read the study and write everything; see `ftlib.report.build.build`."""
    study = read_study(folder)
    reading = Reading(study)
    found, all_rows = reading.comparisons, reading.rows
    wrong = metric_rows.disagreements(study)
    failed = runs.failures(study)
    notes = [*study.notes, *unheard(study, found)]
    fallen, told = degenerate_runs.collapses(study), foretold(study)
    whom = groups_section(study)
    drifted = drifts(study, whom.rows)
    parts = page.sections(reading, fallen)
    climbs = [part.ladder.ladder for part in parts if part.ladder]
    verdicts = [row for contest in found for row in verdict_rows(contest)]
    told_rows, columns, shown_blocks = {}, dict(COLUMNS), {}
    for section in SECTIONS:
        items = section.read(reading)
        reading.items[section.name] = items
        columns |= section.columns
        told_rows |= {name: [] for name in section.columns} if items is None else section.rows(items)
        if items is not None:
            shown_blocks[section.name] = list(section.blocks(items))
    content = {
        "question": study.question,
        "plan": study.plan.model_dump(),
        "rows": all_rows,
        "verdicts": verdicts,
        "pareto": [row for contest in found for row in contest.pareto],
        "crossovers": [row for one in climbs for row in crossing_rows(one)],
        "label_budgets": [row for one in climbs for row in budget_rows(one)],
        "tuning": [part.tuning.entry() for part in parts if part.tuning],
        "training": [row for part in parts if part.training for row in training.rows(part.training.found)],
        "groups": whom.rows,
        "undone": whom.undone,
        "ledger": drifted.rows,
        **told_rows,
        "predicted": foretold_rows(told),
        "failures": failed,
        "collapsed": degenerate_runs.rows(fallen),
        "missing": [dict(spec) for spec in study.missing],
        "disagreements": [one._asdict() for one in wrong],
        "notes": [*notes, *(note for contest in found for note in contest.notes)],
        "advice": [part.advice._asdict() for part in parts],
        "provenance": provenance.provenance(study),
    }
    listed = {name: content[name] for name in columns if name in content}
    listed["tuning"] = [row for entry in content["tuning"] for row in entry["curve"]]
    listed["hard_examples"] = [row for part in parts for row in _hard_rows(study, part.contest)]
    for name, entries in listed.items():
        _write(folder / "tables" / f"{name}.csv", tables.as_csv(entries, columns[name]))
    _write_figures(
        folder / "figures",
        [
            *(part.figures for part in parts),
            whom.figures,
            *(figures_of(shown) for shown in shown_blocks.values()),
        ],
    )
    atomic.write_json(folder / "report.json", content)
    measured = [name for name in METRICS if any(row["metric"] == name for row in all_rows)]
    path = folder / "report.html"
    _write(path, _page(study, parts, failed, wrong, notes, measured, fallen, told, whom, drifted, shown_blocks))
    return path


def verdict_rows(contest: TaskComparison) -> list[dict[str, Any]]:
    """The comparisons as report.json holds them."""
    at = f"with {per_class(contest.shots)}, " if contest.shots else ""
    return [
        {"task": contest.task, "metric": contest.metric, "a": duel.a, "b": duel.b}
        | duel.comparison._asdict()
        | {"sentence": at + duel.comparison.sentence, "p_holm": duel.p_holm, "seeds": duel.n_seeds}
        for duel in contest.duels
    ]


def _hard_rows(study: Study, contest: TaskComparison) -> list[dict[str, Any]]:
    return [
        {"task": contest.task, "id": hard.id, "label": hard.label, "text": hard.text, "method": method, "said": said}
        for hard in error_analysis.hard_examples(study, contest)
        for method, said in hard.said
    ]


def _write_figures(folder: Path, parts: Sequence[Sequence[Figure]]) -> None:
    """Write the figures and take away those of an earlier report that this one has not."""
    written = set()
    for number, part in enumerate(parts, 1):
        for place, figure in enumerate(part, 1):
            name = f"{number}-{place:02d}-{figure.kind}.svg"
            written.add(name)
            _write(folder / name, figure.svg)
    for old in folder.glob("[0-9]*-[0-9][0-9]-*.svg"):
        if old.name not in written:
            old.unlink()


def _write(path: Path, content: str) -> None:
    data = content.encode("utf-8", "replace")
    atomic.write_atomically(path, lambda temporary: temporary.write_bytes(data))


def _page(
    study: Study,
    parts: Sequence[TaskSection],
    failed: Sequence[Mapping[str, Any]],
    wrong: Sequence[Any],
    notes: Sequence[str],
    measured: Sequence[str],
    fallen: Sequence[degenerate_runs.Collapse],
    told: Foretold | None,
    whom: Groups,
    drifted: BiasSummary,
    shown_blocks: Mapping[str, Sequence[Block]],
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    css = (_HERE / "style.css").read_text(encoding="utf-8")
    style_hash = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else Markup(text(value)),
    )
    environment.filters["picture"] = lambda svg: f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
    return environment.get_template("template.html").render(
        css=Markup(css),
        csp=f"default-src 'none'; style-src 'sha256-{style_hash}'; img-src data:; base-uri 'none'; form-action 'none'",
        study=study,
        title=study.question or f"Study {study.folder.resolve().name}",
        sections=parts,
        several=len(parts) > 1,
        across_by=" and ".join(dict.fromkeys(units.name(part.contest.metric) for part in parts)),
        across=across_tasks.tables(study, [part.contest for part in parts if not part.ladder]),
        glance=across_tasks.glance([part.ladder.ladder for part in parts if part.ladder]),
        plan_line=provenance.plan_line(study),
        plan_stood=provenance.plan_stood(study),
        disagreements=runs.disagreement_table(wrong) if wrong else None,
        n_wrong_runs=len({one.run_id for one in wrong}),
        failed=runs.failed_table(failed) if failed else None,
        n_failed=len(failed),
        collapsed=degenerate_runs.table(fallen),
        notes=notes,
        some_finished=any(run.ok for run in study.runs),
        missing=runs.missing_table(study) if study.missing else None,
        groups=whom,
        shown_sections=[(section, shown_blocks[section.name]) for section in SECTIONS if section.name in shown_blocks],
        ledger=drifted,
        costs=costs.costs(study),
        foretold=told,
        settings=runs.settings(study),
        metrics=runs.metric_table(measured),
        facts=provenance.facts(study),
        command=provenance.command(study),
        runs=runs.runs_table(study),
        format=format,
        units=units,
    )
