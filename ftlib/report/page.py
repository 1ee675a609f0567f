"""What the page says, as plain values for the template: tables, figures and words, nothing of HTML."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ftlib.core import format
from ftlib.metrics import units
from ftlib.metrics.registry import METRICS
from ftlib.records.study import Group, Study
from ftlib.report import metric_rows, tables
from ftlib.report.figures import Figure
from ftlib.report.sections import (
    comparison,
    degenerate_runs,
    error_analysis,
    learning_curve,
    other_evaluations,
    recommendation,
)
from ftlib.report.sections.comparison import MethodScores, TaskComparison
from ftlib.report.sections.comparison import labels as per_class
from ftlib.report.sections.forgetting import Forgot
from ftlib.report.sections.learning_curve import (
    LearningCurves,
    LearningCurvesPage,
    learning_curves,
    learning_curves_page,
)
from ftlib.report.sections.recommendation import Advice
from ftlib.report.sections.training import TrainingPage, training_page
from ftlib.report.sections.tuning import TuningPage, tuning_page
from ftlib.report.tables import Cell, Table

if TYPE_CHECKING:
    from ftlib.report.build import Reading

MOST_LABEL_ROWS = 24


MOST_METHOD_ROWS = 40


MOST_CONFUSIONS = 4


_WHO = ("task", "model", "method", "settings")


class Section(NamedTuple):
    """Everything about one task's contest."""

    contest: TaskComparison
    advice: Advice
    methods: Table
    methods_more: Table | None
    main: tuple[Figure, ...]
    also: Table | None
    duels: Table
    costs: tuple[Figure, ...]
    tuning: TuningPage | None
    training: TrainingPage | None
    per_label: Table | None
    """None where there are no labels: then neither are the four that follow."""
    per_label_more: Table | None
    confusions: tuple[Figure, ...]
    hard: tuple[error_analysis.Hard, ...]
    n_hard: int
    judges: tuple[str, ...]
    has_texts: bool
    words: Callable[[str], str]
    """What to call a label."""
    ladder: LearningCurvesPage | None = None
    """Of a few-shot study; the contest is then that of the most labels per class."""

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Every figure, in the order of the page."""
        tuned = (self.tuning.curves,) if self.tuning else ()
        trained = (self.training.figure,) if self.training else ()
        return (*self.main, *self.costs, *tuned, *trained, *self.confusions)


def sections(reading: "Reading", fallen: Sequence[degenerate_runs.Collapse] = ()) -> list[Section]:
    """One section per task, with the learning curves of a task in one; what a task's methods did to general text is
    said in its first.
    """
    seen: set[str] = set()
    found = []
    for told in learning_curves(reading.comparisons, reading.study):
        forgot = [] if told.task in seen else reading.general[told.task]
        seen.add(told.task)
        make = _ladder_section if isinstance(told, LearningCurves) else _section
        collapsed = degenerate_runs.sentences(fallen, told.task, told.metric)
        found.append(make(reading.study, told, forgot, reading.rows, collapsed))
    return found


def _section(
    study: Study,
    contest: TaskComparison,
    forgot: Sequence[Forgot],
    all_rows: Sequence[dict[str, Any]],
    fallen: Sequence[str],
) -> Section:
    told, tuned = recommendation.advise(contest, forgot), tuning_page(study, contest)
    return Section(
        contest,
        told._replace(
            limits=(*told.limits, *recommendation.sentences(contest), *fallen, *(tuned.warnings if tuned else ()))
        ),
        *_folded(_methods(study, contest, all_rows), MOST_METHOD_ROWS),
        tuple(comparison.main_figures(contest)),
        other_evaluations.beside_table(contest, forgot, other_evaluations.rows_of_others(study, all_rows)),
        comparison.duels(contest),
        tuple(comparison.cost_figures(contest)),
        tuned,
        training_page(study, contest),
        *(_NO_LABELS if contest.of_text else _labels(study, contest, contest.find(told.chosen))),
        error_analysis.words_of(contest),
    )


def _ladder_section(
    study: Study,
    ladder: LearningCurves,
    forgot: Sequence[Forgot],
    all_rows: Sequence[dict[str, Any]],
    fallen: Sequence[str],
) -> Section:
    """Labels, examples, general text and training are shown at the most labels per class."""
    top = ladder.rungs[-1]
    tuned = tuning_page(study, top)
    told = learning_curve.advise(ladder, [*fallen, *(tuned.warnings if tuned else ())])
    shown = {one.group.settings for one in top.contestants if one.group}
    rows_shown = [row for row in all_rows if row["settings"] in shown]
    shown_forgot = [one for one in forgot if one.group.settings in shown]
    page = learning_curves_page(ladder, lambda rung: _methods(study, rung, all_rows))
    return Section(
        top._replace(notes=ladder.notes),
        told,
        page.matrix,
        None,
        (page.curve, page.spread),
        other_evaluations.beside_table(top, shown_forgot, other_evaluations.rows_of_others(study, rows_shown)),
        comparison.duels(top),
        (),
        tuned,
        training_page(study, top),
        *(_NO_LABELS if top.of_text else _labels(study, top, top.contestants[0], 1)),
        error_analysis.words_of(top),
        page,
    )


_NO_LABELS = (None, None, (), (), 0, (), False)


def _labels(
    study: Study, contest: TaskComparison, chosen: MethodScores, most: int = MOST_CONFUSIONS
) -> tuple[Any, ...]:
    """What a section says of labels and examples, in the order of its fields."""
    hard = error_analysis.hard_examples(study, contest)
    others = [one for one in contest.contestants if one is not chosen and (one.untouched or not one.baseline)]
    shown = [chosen, *sorted(others, key=lambda one: not one.untouched)]
    few = len(next(iter(shown[0].parts.values())).labels) <= 12
    return (
        *_folded(_label_rows(contest), MOST_LABEL_ROWS),
        tuple(
            comparison.confusion_figure(one, error_analysis.words_of(contest)) for one in shown[: most if few else 1]
        ),
        tuple(_short(one) for one in hard[: error_analysis.MOST_HARD]),
        len(hard),
        tuple(one.short for one in error_analysis.judges(contest)),
        any(one.text for one in hard),
    )


def _folded(table: Table, most: int) -> tuple[Table, Table | None]:
    """The first rows, and the rest where there are more."""
    rest = Table(table.caption, table.header, table.rows[most:])
    return Table(table.caption, table.header, table.rows[:most]), rest if rest.rows else None


def _short(hard: error_analysis.Hard) -> error_analysis.Hard:
    text = " ".join(hard.text.split())
    most = error_analysis.MOST_LETTERS
    return hard._replace(text=text if len(text) <= most else text[: most - 1].rstrip() + "…")


def _methods(study: Study, contest: TaskComparison, all_rows: Sequence[dict[str, Any]]) -> Table:
    """Every method by every metric of the test part, best first; who has no result comes last, with the reason."""
    found = {
        (row["task"], row["model"], row["method"], row["settings"], row["metric"]): row
        for row in all_rows
        if row["stage"] == "after" and row["part"] == "test"
    }
    first = next(iter(contest.contestants[0].parts.values()))
    # What records hold beside what predictions give, such as the spread over orders of a prompt.
    recorded = [row["metric"] for row in found.values() if row["task"] == contest.task and row["source"] == "record"]
    names = dict.fromkeys(
        [contest.metric, *(name for name in (*metric_rows.metrics_of(first), *recorded) if name in METRICS)]
    )
    header = [Cell("method")] + [Cell(units.heading(name), number=True) for name in names]
    header += [Cell(name, number=True) for name in ("runs", f"test {units.noun(contest.metric)}s", "training time")]
    body, rule = [], next(iter(contest.protocols), "")
    for one in (*contest.contestants, *contest.beside):
        part = next(iter(one.parts.values()))
        other = part.protocol if part.protocol != rule else ""
        cells = [Cell(_called(one), "; ".join(filter(None, [_about(one), other])), strong=True)]
        for name in names:
            row = found.get((*_who(one.group), name)) if one.group else _level_of(one, name)
            cells.append(tables.value_cell(name, row, strong=name == contest.metric))
        cells += [Cell(str(len(one.parts)), number=True), Cell(format.count(len(first.ids)), number=True)]
        cells.append(Cell(format.seconds(one.cost("train_seconds")) if one.group else "none", number=True))
        body.append(tuple(cells))
    body += _without_result(study, contest, all_rows, len(names) + 1)
    at = f", {per_class(contest.shots)}" if contest.shots else ""
    return Table(f"Methods by metrics, {contest.task}{at}", tuple(header), tuple(body))


def _without_result(
    study: Study, contest: TaskComparison, all_rows: Sequence[dict[str, Any]], n_blank: int
) -> list[tuple[Cell, ...]]:
    """A row for everyone who has no value to show, with the reason."""
    here = {one.name for one in (*contest.contestants, *contest.beside)}
    lines = []
    for group in study.groups:
        rung = not contest.shots or group.shots == contest.shots
        if group.task == contest.task and group.name not in here and rung:
            rows_of_group = [row for row in all_rows if _is(row, group, "after") and row["metric"] == contest.metric]
            lines.append((group.name, _reason(group, rows_of_group)))
    measured = {one.group.model for one in contest.contestants if one.untouched and one.group}
    if not any(one.untouched and one.group is None for one in contest.contestants):
        for group in study.groups:
            before = [row for row in all_rows if _is(row, group, "before") and row["value"] is None]
            if before and group.model not in measured and group.task == contest.task:
                measured.add(group.model)
                lines.append(("untouched model", before[0].get("reason", "")))
    blank = [Cell("", number=True)] * n_blank
    return [(Cell(name, strong=True), Cell("not available", why, number=True), *blank, Cell("")) for name, why in lines]


def _is(row: dict[str, Any], group: Group, stage: str) -> bool:
    return row["stage"] == stage and row["part"] == "test" and _who(group) == tuple(row[name] for name in _WHO)


def _called(one: MethodScores) -> str:
    return "untouched model" if one.untouched else one.short


def _about(one: MethodScores) -> str:
    if one.untouched:
        return f"measured by {one.name}" if one.group else "before any adaptation"
    return "baseline" if one.baseline and not one.line else ""


def _who(group: Group) -> tuple[str, str, str, str]:
    return group.task, group.model, group.method, group.settings


def _level_of(one: MethodScores, metric: str) -> dict[str, Any]:
    found = metric_rows.group_interval(list(one.parts.values()), metric)
    return found._asdict() | {"reason": metric_rows.why_not(list(one.parts.values()), metric)}


def _reason(group: Group, found: Sequence[dict[str, Any]]) -> str:
    if found:
        return found[0].get("reason") or f"measured on other test {units.noun(found[0]['metric'])}s; not comparable"
    statuses = format.listed(sorted({"unreadable" if run.unreadable else run.record.status for run in group.runs}))
    return f"no run finished ({format.plural(len(group.runs), 'run')}: {statuses})"


def _label_rows(contest: TaskComparison) -> Table:
    names, found = error_analysis.per_label(contest)
    words = error_analysis.words_of(contest)
    header = (Cell("label"), Cell("examples", number=True), *(Cell(name, number=True) for name in names))
    body = [
        (
            Cell(words(label)),
            Cell(format.count(n), number=True),
            *(Cell(units.level(f"f1.{label}", v), number=True) for v in values),
        )
        for label, n, values in found
    ]
    return Table("F1 of each label, %", header, tuple(body))
