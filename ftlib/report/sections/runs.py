"""The runs of a study: which failed, collapsed or are missing, and where the figures of the others come from.

A run that collapsed ended well and learned nothing: (nearly) every example is given the same label. It is named and
never dropped.
"""

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import numpy as np

from ftlib.core import format
from ftlib.metrics import units
from ftlib.metrics.classification import collapsed
from ftlib.metrics.registry import METRICS, metric_row
from ftlib.records.study import Group, Run, Study, differing
from ftlib.report.blocks import (
    Block,
    Cell,
    Column,
    Facts,
    Fold,
    Heading,
    Note,
    Said,
    Section,
    Table,
    plain_table,
    table,
)
from ftlib.report.metric_rows import WHO, Disagreement, value_of, who
from ftlib.report.sections.comparison import with_labels

if TYPE_CHECKING:
    from ftlib.report.build import Reading


class Collapse(NamedTuple):
    """One run that gave (nearly) every test example the same label."""

    run: Run
    group: Group
    label: str
    share: float
    """Of its answers."""
    accuracy: float
    n: int
    """Test examples."""

    def row(self) -> dict[str, Any]:
        """The same as report.json holds it."""
        at = {"run_id": self.run.record.run_id} | who(self.group)
        at |= {"shots": self.run.resolved.get("shots", 0), "seed": self.run.seed}
        return at | {"label": self.label, "share": self.share, "accuracy": self.accuracy, "n": self.n}


def collapses(study: Study) -> list[Collapse]:
    """Every run that collapsed; the majority class gives one label by design and is not among them."""
    return [found for group in study.groups if not group.constant for found in _of(group)]


def _of(group: Group) -> Iterator[Collapse]:
    for run in group.ok:
        part = run.parts.get(("after", "test"))
        if part is None or part.truth is None or part.chosen is None:
            continue
        if found := collapsed(part.chosen, part.truth):
            code, share = found
            yield Collapse(run, group, part.labels[code], share, value_of(part, "accuracy"), len(part.ids))


def collapse_sentences(found: Sequence[Collapse], task: str, metric: str) -> list[str]:
    """Whose mean on a task the collapsed runs drag, and how far."""
    groups = {one.group.name: one.group for one in found if one.group.task == task}
    return [_dragged(group, [one.run for one in found if one.group is group], metric) for group in groups.values()]


def _dragged(group: Group, fallen: Sequence[Run], metric: str) -> str:
    parts = {id(run): run.parts["after", "test"] for run in group.ok if ("after", "test") in run.parts}
    values = {key: value_of(part, metric) for key, part in parts.items()}
    rest = [value for key, value in values.items() if key not in {id(run) for run in fallen}]
    seeds = format.listed([str(run.seed) for run in fallen])
    said = f"{len(fallen)} of {format.plural(len(values), 'run')} of {with_labels(group.name)} collapsed"
    said += f" (seed{'s' * (len(fallen) > 1)} {seeds})"
    if not rest:
        return f"{said}: what it reaches is the level of one label for everything."
    mean, without = (units.level(metric, float(np.mean(some))) for some in (list(values.values()), rest))
    per_cent = "\N{NO-BREAK SPACE}%" if units.scale(metric) > 1 else ""
    stay = f"stay{'s' * (len(fallen) == 1)} in its mean"
    return f"{said} and {stay} of {mean}{per_cent}; the others reach {without}{per_cent}."


def failures(study: Study) -> list[dict[str, Any]]:
    """Every run without a usable result, as report.json holds them."""
    return [
        {"run_id": run.record.run_id}
        | who(group)
        | {
            "seed": run.seed,
            "status": run.record.status if not run.ok and not run.unreadable else "unreadable",
            "reason": run.unreadable or run.record.reason,
        }
        for group in study.groups
        for run in group.runs
        if not run.ok
    ]


def _name(row: Mapping[str, Any]) -> Cell:
    return Cell(" ".join(filter(None, (row["method"], row["settings"]))), strong=True)


_FAILED = (
    Column("method", "method", _name, whole=True),
    Column("seed", "seed", number=True),
    Column("status", "status"),
    Column("reason", "reason", lambda said: said or ""),
    Column("run_id", "run"),
)
_COLLAPSED = (
    Column("method", "method", _name, whole=True),
    Column("task", "task"),
    Column("label", "label given"),
    Column("seed", "seed", number=True),
    Column("share", "gives this label to", lambda share: f"{100 * share:.0f} %", number=True),
    Column("accuracy", "accuracy, %", lambda value: units.level("accuracy", value), number=True),
    Column("n", "test examples", format.count, number=True),
)


def missing_table(study: Study) -> Table:
    """Runs that suite.toml asks for and that have left no record."""
    lines: dict[str, list[str]] = {}
    for spec, said in zip(study.missing, differing([dict(spec) for spec in study.missing]), strict=True):
        name = " · ".join(filter(None, (spec["method"], said, spec["task"])))
        lines.setdefault(name, []).append(str(spec["seed"]))
    body = [(name, ", ".join(seeds)) for name, seeds in lines.items()]
    return plain_table("Runs not finished yet", ("method", "seeds"), body, texts=2)


class Unfinished(NamedTuple):
    """What a task of the study lacks."""

    headline: str
    """How many of its methods have run."""
    detail: str
    """Which have not, and what to do first."""


def unfinished(study: Study, task: str) -> Unfinished | None:
    """What a task lacks; None where every run that the suite asks for has given a result.

    That a run diverged is a result: running it again would give the same.
    """
    cells: dict[str, tuple[str, list[str]]] = {}
    begun = set()
    for group in study.groups:
        if group.task == task:
            failed = sum(not run.ok and run.record.status != "diverged" for run in group.runs)
            said = [f"{failed} of {format.plural(len(group.runs), 'run')} failed"] if failed else []
            cells[_cell(group.runs[0].resolved)] = (group.name, said)
            begun |= {_cell(group.runs[0].resolved)} if group.ok else set()
    specs = [dict(spec) for spec in study.missing]
    absent: dict[str, int] = {}
    for spec, settings in zip(specs, differing(specs), strict=True):
        if spec["task"] == task:
            name = " ".join(filter(None, (spec["method"], settings)))
            cells.setdefault(_cell(spec), (name, []))
            absent[_cell(spec)] = absent.get(_cell(spec), 0) + 1
    for cell, n in absent.items():
        cells[cell][1].append(f"{format.plural(n, 'run')} not here yet")
    open_ = {cell: (name, said) for cell, (name, said) in cells.items() if said}
    if not open_:
        return None
    done, total = len(cells) - len(open_), len(cells)
    have = "has" if done == 1 else "have"
    what = f"{have} all {'its' if done == 1 else 'their'} runs" if begun & set(open_) else f"{have} run"
    which = "; ".join(f"{with_labels(name)} ({', '.join(said)})" for name, said in open_.values())
    first = "Finish the study first: " if absent else "Runs failed, and why stands below: "
    return Unfinished(
        f"Not finished: {done} of {format.plural(total, 'method')} of {format.short_name(task)} {what}",
        f"{first}{which}.",
    )


def _cell(resolved: Mapping[str, Any]) -> str:
    """The same for runs that differ in their seed only."""
    fields = {name: value for name, value in resolved.items() if name not in ("seed", "notebook")}
    return json.dumps(fields, sort_keys=True, default=str)


class Absent(NamedTuple):
    """Runs that gave no result, or none worth the name."""

    study: Study
    failed: list[dict[str, Any]]
    collapsed: list[dict[str, Any]]


def _absent_blocks(found: Absent) -> Iterator[Block]:
    if found.failed:
        yield Heading("Runs that failed")
        yield Note("Shown, never dropped and never ranked.")
        yield table("Runs that failed", _FAILED, found.failed)
    if found.collapsed:
        yield Heading("Runs that collapsed")
        yield Note(
            "They ended well and give one label to 95 % of the test examples or more, though the truth is not like "
            "that: the failed runs of fine-tuning on few examples (Mosbach et al. 2021). They stay in every mean."
        )
        yield table("Runs that collapsed", _COLLAPSED, found.collapsed)
    if found.study.missing:
        yield Heading("Runs not finished yet")
        yield Note("suite.toml asks for them and there is no record: run the study again, and only these run.")
        yield missing_table(found.study)


ABSENT_SECTION = Section(
    name="absent",
    title="What is not here",
    read=lambda reading: Absent(reading.study, failures(reading.study), [one.row() for one in reading.collapses]),
    columns={
        "failures": ("run_id", *WHO, "seed", "status", "reason"),
        "collapsed": ("run_id", *WHO, "shots", "seed", "label", "share", "accuracy", "n"),
    },
    rows=lambda found: {
        "failures": found.failed,
        "collapsed": found.collapsed,
        "missing": [dict(spec) for spec in found.study.missing],
    },
    blocks=_absent_blocks,
)


def disagreement_table(found: Iterable[Disagreement]) -> Table:
    """Values of records that their predictions do not give."""

    def exact(value: float | None) -> str:
        return "nothing" if value is None else f"{value:.6g}"

    columns = (
        Column("run_id", "run"),
        Column("where", "value"),
        Column("recorded", "the record says", exact, number=True),
        Column("recomputed", "its predictions give", exact, number=True),
    )
    rows = [one._asdict() for one in found]
    return table("Records that disagree with their own predictions", columns, rows)


_OF_THE_RUN = ("tuned", "git", "packages", "data")


def provenance(study: Study) -> dict[str, Any]:
    """Each field with the values that the runs hold, and how many runs hold each, as report.json has it."""
    fields: dict[str, dict[str, int]] = {}
    for run in study.runs:
        for name, value in _flat(run.record.provenance).items():
            said = (
                value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
            )
            counts = fields.setdefault(name, {})
            counts[said] = counts.get(said, 0) + 1
    values = {
        name: [{"value": value, "runs": n} for value, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
        for name, counts in sorted(fields.items())
    }
    return {
        "plan_hash": study.plan_hash or None,
        "plan_stood_before_the_runs": plan_stood(study),
        "exploratory_runs": [run.record.run_id for run in study.exploratory],
        "runs": len(study.runs),
        "reproduce": command(study),
        "fields": values,
    }


def problems(provenance: Mapping[str, Any], but: Container[str] = ()) -> list[str]:
    """What the audit of a run's data found that makes a score mean less than it says.

    Args:
        but: Codes of findings that are said elsewhere.
    """
    found = provenance.get("data_findings") or []
    grave = [one for one in found if str(one.get("level", "")).upper() == "PROBLEM" and one.get("code") not in but]
    return [f"{str(one['text']).rstrip('.')}." for one in grave]


def plan_stood(study: Study) -> bool:
    """Whether every run carries the hash of the plan as suite.toml holds it."""
    return bool(study.plan_hash) and not study.exploratory


def plan_line(study: Study) -> str:
    """Whether the plan stood, in words."""
    if not study.plan_hash:
        return "Exploratory: no plan was fixed before the runs, so what follows is a search, not a test."
    if not study.exploratory:
        n = len(study.runs)
        runs = "its only run" if n == 1 else f"all {n} runs"
        return f"The evaluation plan was fixed before the first run: {runs} carry its hash ({study.plan_hash})."
    n, total = len(study.exploratory), len(study.runs)
    which = "all runs were" if n == total else f"{n} of {total} runs were"
    return f"Exploratory: {which} made under another plan than suite.toml holds now ({study.plan_hash})."


def command(study: Study) -> str:
    """The command that makes this study again, in the folder that holds this page, wherever that lies."""
    if not (study.folder / "suite.toml").is_file():
        return "not possible from here: the folder holds no suite.toml"
    return "ftlib run ."


def facts(study: Study) -> list[tuple[str, str]]:
    """The provenance a reader looks for first, one line each; where runs differ, every value with its runs."""
    fields = provenance(study)["fields"]
    names = {
        "ftlib": "ftlib", "git.commit": "git commit", "git.dirty": "changed since the commit", "python": "Python",
        "system": "system", "device": "device", "threads": "threads", "dtype": "arithmetic",
        "model_sha256": "model, SHA-256", "data_sha256": "data, SHA-256",
    }  # fmt: skip
    lines = [(title, _said(fields[name])) for name, title in names.items() if name in fields]
    packages = [
        f"{name.removeprefix('packages.')} {_said(values)}"
        for name, values in fields.items()
        if name.startswith("packages.")
    ]
    return [*lines, *([("packages", ", ".join(packages))] if packages else [])]


def _said(values: list[Mapping[str, Any]]) -> str:
    shown = [
        {"": "none", "null": "none", "false": "no", "true": "yes"}.get(entry["value"], entry["value"])
        for entry in values
    ]
    if len(shown) == 1:
        return shown[0]
    return "; ".join(
        f"{value} ({format.plural(entry['runs'], 'run')})" for value, entry in zip(shown, values, strict=True)
    )


def _flat(node: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in node.items():
        if isinstance(value, Mapping) and name in ("git", "packages"):
            found |= _flat(value, f"{name}.")
        elif name not in _OF_THE_RUN:
            found[where + name] = value
    return found


def plan_in_words(study: Study, few_shot: bool) -> str:
    """The plan as it was settled, on one line."""
    plan = study.plan
    said = [f"primary {plan.primary}, margin {plan.margin}"]
    said += [f"on {task} primary {own.primary}, margin {own.margin}" for task, own in plan.tasks.items()]
    none_named = few_shot and "seeds" not in plan.model_fields_set
    seeds = ", ".join(map(str, plan.seeds)) + (" (none named: 0 to 9 for what draws shots)" if none_named else "")
    line = f"{'; '.join(said)}, seeds {seeds}"
    if plan.target is not None:
        line += f", target {plan.target}"
    if plan.evaluations:
        line += f", evaluations {', '.join(plan.evaluations)}"
    line += "".join(f", tuning {name} over {n} settings" for name, n in plan.tuning.items())
    return line + (f" (hash {study.plan_hash})" if study.plan_hash else "")


def long_name(study: Study, group: Group) -> str:
    """A group's name, with its task where the study has several."""
    several = len({other.task for other in study.groups}) > 1
    return f"{group.name} · {group.task}" if several else group.name


def runs_table(study: Study) -> Table:
    """Every run with links to what it left."""
    body: list[Sequence[Said]] = []
    for group in study.groups:
        for run in group.runs:
            notebook = "notebook.html" if (run.folder / "notebook.html").is_file() else "notebook.ipynb"
            said = (long_name(study, group), str(run.seed), run.record.status)
            body.append((Cell(run.record.run_id), *said, _link(run, notebook), _link(run, "record.json")))
    return plain_table("Every run", ("run", "method", "seed", "status", "notebook", "record"), body, texts=6)


def _link(run: Run, name: str) -> Cell:
    there = (run.folder / name).is_file()
    return Cell("open" if there else "", href=f"runs/{quote(run.folder.name)}/{name}" if there else "")


def metric_table(names: Iterable[str]) -> Table:
    """What the metrics shown mean and where their definitions are from."""
    body = []
    for row in map(metric_row, names):
        ends = f"{row.range[0]:g} {'and up' if row.range[1] is None else f'to {row.range[1]:g}'}"
        better = "higher" if row.higher_is_better else "lower"
        body.append((units.name(row.name), row.summary, better, ends, row.source))
    return plain_table("Metrics", ("metric", "meaning", "better", "range", "source"), body, texts=5)


def _sources_blocks(reading: "Reading") -> Iterator[Block]:
    study = reading.study
    plan = plan_in_words(study, any(one.shots for one in reading.comparisons))
    again = f"{command(study)} (in the folder that holds this page)" if study.plan_hash else command(study)
    yield Facts((("reproduce", again), *facts(study), ("plan", plan)))
    yield Fold("Every run, with its notebook and record", (runs_table(study),))
    if measured := [name for name in METRICS if any(row["metric"] == name for row in reading.rows)]:
        yield Fold("What the metrics mean", (metric_table(measured),))


SOURCES_SECTION = Section(
    name="sources",
    title="Provenance",
    read=lambda reading: reading,
    columns={},
    rows=lambda _: {},
    blocks=_sources_blocks,
)
