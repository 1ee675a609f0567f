"""The report's tables: comparisons, terms, failures, missing runs, every run."""

import json
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from ftlib.metrics import units
from ftlib.metrics.registry import metric_row
from ftlib.records.study import Group, Run, Study, differing
from ftlib.report.metric_rows import Disagreement
from ftlib.report.tables import Cell, Table


def long_name(study: Study, group: Group) -> str:
    """A group's name, with its task where the study has several."""
    several = len({other.task for other in study.groups}) > 1
    return f"{group.name} · {group.task}" if several else group.name


def settings(study: Study) -> Table | None:
    """The fields in which the methods differ beside their name, so that unequal terms are seen."""
    specs = [{**group.runs[0].resolved, "method_args": {}} for group in study.groups]
    said = differing(specs)
    body = []
    for group, line in zip(study.groups, said, strict=True):
        given = " ".join(
            f"{k}={json.dumps(v)}" for k, v in group.runs[0].resolved.get("method_args", {}).items() if v != ""
        )
        body.append((Cell(long_name(study, group), strong=True), Cell(line), Cell(given), Cell(_tuned(group))))
    header = (Cell("method"), Cell("settings that differ"), Cell("the method's own"), Cell("chosen on validation"))
    if not any(row[3].text for row in body):
        header, body = header[:3], [row[:3] for row in body]
    return Table("On what terms each method ran", header, tuple(body)) if body else None


def _tuned(group: Group) -> str:
    found = [run.record.provenance.get("tuned") for run in group.ok]
    rates = [
        f"{t['learning_rate']:.2g} of {len(t.get('tried', []))}"
        for t in found
        if isinstance(t, dict) and "learning_rate" in t
    ]
    return f"learning_rate {', '.join(rates)}" if rates else ""


def failures(study: Study) -> list[dict[str, Any]]:
    """Every run without a usable result, as report.json holds them."""
    return [
        {
            "run_id": run.record.run_id,
            "task": group.task,
            "model": group.model,
            "method": group.method,
            "settings": group.settings,
            "seed": run.seed,
            "status": run.record.status if not run.ok and not run.unreadable else "unreadable",
            "reason": run.unreadable or run.record.reason,
        }
        for group in study.groups
        for run in group.runs
        if not run.ok
    ]


def failed_table(failed: Sequence[dict[str, Any]]) -> Table:
    """Runs that failed, with what is known of why."""
    header = (Cell("method"), Cell("seed", number=True), Cell("status"), Cell("reason"), Cell("run"))
    body = [
        (
            Cell(" ".join(filter(None, (row["method"], row["settings"]))), strong=True),
            Cell(str(row["seed"]), number=True),
            Cell(row["status"]),
            Cell(row["reason"] or ""),
            Cell(row["run_id"]),
        )
        for row in failed
    ]
    return Table("Runs that failed", header, tuple(body))


def missing_table(study: Study) -> Table:
    """Runs that suite.toml asks for and that have left no record."""
    lines: dict[str, list[str]] = {}
    keys = list(study.missing)
    for spec, said in zip(keys, differing([dict(spec) for spec in keys]), strict=True):
        name = " · ".join(filter(None, (spec["method"], said, spec["task"])))
        lines.setdefault(name, []).append(str(spec["seed"]))
    body = [(Cell(name, strong=True), Cell(", ".join(seeds))) for name, seeds in lines.items()]
    return Table("Runs that are missing", (Cell("method"), Cell("seeds")), tuple(body))


def disagreement_table(found: Iterable[Disagreement]) -> Table:
    """Values of records that their predictions do not give."""
    header = (
        Cell("run"),
        Cell("value"),
        Cell("the record says", number=True),
        Cell("its predictions give", number=True),
    )
    body = [
        (
            Cell(one.run_id),
            Cell(one.where),
            Cell(_exact(one.recorded), number=True),
            Cell(_exact(one.recomputed), number=True),
        )
        for one in found
    ]
    return Table("Records that disagree with their own predictions", header, tuple(body))


def _exact(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.6g}"


def runs_table(study: Study) -> Table:
    """Every run with links to what it left."""
    header = (Cell("run"), Cell("method"), Cell("seed", number=True), Cell("status"), Cell("notebook"), Cell("record"))
    body = []
    for group in study.groups:
        for run in group.runs:
            body.append(
                (
                    Cell(run.record.run_id),
                    Cell(long_name(study, group)),
                    Cell(str(run.seed), number=True),
                    Cell(run.record.status),
                    _link(run, "notebook.html")
                    if (run.folder / "notebook.html").is_file()
                    else _link(run, "notebook.ipynb"),
                    _link(run, "record.json"),
                )
            )
    return Table("Every run", header, tuple(body))


def _link(run: Run, name: str) -> Cell:
    there = (run.folder / name).is_file()
    return Cell("open" if there else "", href=f"runs/{quote(run.folder.name)}/{name}" if there else "")


def metric_table(names: Iterable[str]) -> Table:
    """What the metrics shown mean and where their definitions are from."""
    header = (Cell("metric"), Cell("meaning"), Cell("better"), Cell("range", number=True), Cell("source"))
    body = []
    for name in names:
        row = metric_row(name)
        better = "higher" if row.higher_is_better else "lower"
        body.append(
            (
                Cell(units.name(name), strong=True),
                Cell(row.summary),
                Cell(better),
                Cell(f"{row.range[0]:g} {'and up' if row.range[1] is None else f'to {row.range[1]:g}'}", number=True),
                Cell(row.source),
            )
        )
    return Table("Metrics", header, tuple(body))
