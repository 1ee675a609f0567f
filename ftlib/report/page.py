"""What the page says, as plain values for the template: tables, figures and words, nothing of HTML."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ftlib.metrics import METRICS
from ftlib.report import advice, figures, labels, rows, say, tables
from ftlib.report.advice import Advice
from ftlib.report.contest import Contest
from ftlib.report.entrants import Contestant
from ftlib.report.figures import Figure
from ftlib.report.study import Group, Study
from ftlib.report.tables import Cell, Table

MOST_LABEL_ROWS = 24
MOST_METHOD_ROWS = 40
MOST_CONFUSIONS = 4
_WHO = ("task", "model", "method", "settings")


class Section(NamedTuple):
    """Everything about one task's contest."""

    contest: Contest
    advice: Advice
    methods: Table
    methods_more: Table | None
    main: tuple[Figure, ...]
    beside: Table | None
    duels: Table
    costs: tuple[Figure, ...]
    curves: tuple[Figure, ...]
    per_label: Table
    per_label_more: Table | None
    confusions: tuple[Figure, ...]
    hard: tuple[labels.Hard, ...]
    n_hard: int
    judges: tuple[str, ...]
    has_texts: bool
    words: Callable[[str], str]
    """What to call a label."""


def sections(study: Study, contests: Sequence[Contest], all_rows: Sequence[dict[str, Any]]) -> list[Section]:
    """One section per contest."""
    return [_section(study, contest, all_rows) for contest in contests]


def _section(study: Study, contest: Contest, all_rows: Sequence[dict[str, Any]]) -> Section:
    told = advice.advise(study, contest)
    hard = labels.hard_examples(study, contest)
    chosen = contest.find(told.chosen)
    others = [one for one in contest.contestants if one is not chosen and (one.untouched or not one.baseline)]
    shown = [chosen, *sorted(others, key=lambda one: not one.untouched)]
    few = len(next(iter(shown[0].parts.values())).labels) <= 12
    methods = _folded(_methods(study, contest, all_rows), MOST_METHOD_ROWS)
    return Section(
        contest,
        told,
        *methods,
        tuple(figures.main_figures(contest)),
        _beside(contest, all_rows),
        tables.duels(contest),
        tuple(figures.cost_figures(contest)),
        tuple(figures.curve_figures(study, contest)),
        *_folded(_label_rows(contest), MOST_LABEL_ROWS),
        tuple(
            figures.confusion_figure(one, labels.words_of(contest)) for one in shown[: MOST_CONFUSIONS if few else 1]
        ),
        tuple(_short(one) for one in hard[: labels.MOST_HARD]),
        len(hard),
        tuple(one.name for one in labels.judges(contest)),
        any(one.text for one in hard),
        labels.words_of(contest),
    )


def _folded(table: Table, most: int) -> tuple[Table, Table | None]:
    """The first rows, and the rest where there are more."""
    rest = Table(table.caption, table.header, table.rows[most:])
    return Table(table.caption, table.header, table.rows[:most]), rest if rest.rows else None


def _short(hard: labels.Hard) -> labels.Hard:
    text = " ".join(hard.text.split())
    most = labels.MOST_LETTERS
    return hard._replace(text=text if len(text) <= most else text[: most - 1].rstrip() + "…")


def _methods(study: Study, contest: Contest, all_rows: Sequence[dict[str, Any]]) -> Table:
    """Every method by every metric of the test part, best first; who has no result comes last, with the reason."""
    found = {
        (row["task"], row["model"], row["method"], row["settings"], row["metric"]): row
        for row in all_rows
        if row["stage"] == "after" and row["part"] == "test"
    }
    first = next(iter(contest.contestants[0].parts.values()))
    names = [contest.metric, *(name for name in rows.metrics_of(first) if name in METRICS and name != contest.metric)]
    header = [Cell("method")] + [Cell(say.heading(name), number=True) for name in names]
    header += [Cell("runs", number=True), Cell("test examples", number=True), Cell("training time", number=True)]
    body = []
    for one in contest.contestants:
        cells = [Cell(_called(one), _about(one), strong=True)]
        for name in names:
            row = found.get((*_who(one.group), name)) if one.group else _level_of(one, name)
            cells.append(_value(name, row, strong=name == contest.metric))
        cells += [Cell(str(len(one.parts)), number=True), Cell(say.count(len(first.ids)), number=True)]
        cells.append(Cell(say.seconds(one.cost("train_seconds")) if one.group else "none", number=True))
        body.append(tuple(cells))
    body += _without_result(study, contest, all_rows, len(names) + 1)
    return Table(f"Methods by metrics, {contest.task}", tuple(header), tuple(body))


def _without_result(
    study: Study, contest: Contest, all_rows: Sequence[dict[str, Any]], n_blank: int
) -> list[tuple[Cell, ...]]:
    """A row for everyone who has no value to show, with the reason."""
    here = {one.name for one in contest.contestants}
    lines = []
    for group in study.groups:
        if group.task == contest.task and group.name not in here:
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


def _called(one: Contestant) -> str:
    return "untouched model" if one.untouched else one.name


def _about(one: Contestant) -> str:
    if one.untouched:
        return f"measured by {one.name}" if one.group else "before any adaptation"
    return "baseline" if one.baseline else ""


def _who(group: Group) -> tuple[str, str, str, str]:
    return group.task, group.model, group.method, group.settings


def _level_of(one: Contestant, metric: str) -> dict[str, Any]:
    found = rows.group_interval(list(one.parts.values()), metric)
    return found._asdict() | {"reason": rows.why_not(list(one.parts.values()), metric)}


def _value(metric: str, row: dict[str, Any] | None, strong: bool = False) -> Cell:
    if row is None:
        return Cell("not available", "not measured", number=True)
    if say.missing(row["value"]):
        return Cell("not available", row.get("reason", ""), number=True)
    return Cell(say.level(metric, row["value"]), say.span(metric, row["low"], row["high"]), number=True, strong=strong)


def _reason(group: Group, found: Sequence[dict[str, Any]]) -> str:
    if found:
        return found[0].get("reason") or "measured on other test examples; not comparable"
    statuses = say.listed(sorted({"unreadable" if run.unreadable else run.record.status for run in group.runs}))
    return f"no run finished ({say.plural(len(group.runs), 'run')}: {statuses})"


def _beside(contest: Contest, all_rows: Sequence[dict[str, Any]]) -> Table | None:
    """What was measured beside the task (general text, earlier tasks, probes), before and after."""
    found: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for row in all_rows:
        if row["task"] == contest.task and row["part"] not in ("test", "validation"):
            where = (" ".join(filter(None, (row["method"], row["settings"]))), row["part"], row["metric"])
            found.setdefault(where, {})[row["stage"]] = row
    header = (
        Cell("method"),
        Cell("measured on"),
        Cell("metric"),
        Cell("before", number=True),
        Cell("after", number=True),
    )
    body = [
        (
            Cell(name, strong=True),
            Cell(part),
            Cell(metric),
            *(_value(metric, stages.get(stage)) for stage in ("before", "after")),
        )
        for (name, part, metric), stages in found.items()
    ]
    return Table(f"Measured beside the task, {contest.task}", header, tuple(body)) if body else None


def _label_rows(contest: Contest) -> Table:
    names, found = labels.per_label(contest)
    words = labels.words_of(contest)
    header = (Cell("label"), Cell("examples", number=True), *(Cell(name, number=True) for name in names))
    body = [
        (
            Cell(words(label)),
            Cell(say.count(n), number=True),
            *(Cell(say.level(f"f1_{label}", v), number=True) for v in values),
        )
        for label, n, values in found
    ]
    return Table("F1 of each label, %", header, tuple(body))
