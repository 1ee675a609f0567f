"""A study's folder, read: its runs, grouped into what the plan compares, and whether the plan stood before them.

`differing` says how groups of one task, model and method differ: the fields in which their specs do, in words.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftlib import records
from ftlib.config.experiment import USUAL, Fields, Plan, draws, hash_of, renamed
from ftlib.config.methods import METHODS
from ftlib.config.suite_file import error_costs, load_suite
from ftlib.core.errors import FtlibError, several
from ftlib.core.format import short_name, typed
from ftlib.data.kinds import CLASSIFICATION
from ftlib.metrics.registry import METRICS
from ftlib.records import RunRecord
from ftlib.records.events import read_events
from ftlib.records.predictions import Examples, Part, read_parts

_OWN_COLUMNS = ("task", "model", "method", "seed", "notebook", "save")
"""Fields that are no settings: they have a column of their own, or do not change what is asked."""
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")


def natural(said: str) -> tuple[object, ...]:
    """Sort "shots=8" before "shots=64".

    >>> sorted(["shots=64", "shots=8", ""], key=natural)
    ['', 'shots=8', 'shots=64']
    """
    words = said.replace("=", " ").split()
    return tuple((0, float(word), "") if _NUMBER.fullmatch(word) else (1, 0.0, word) for word in words)


def differing(specs: list[Mapping[str, Any]]) -> list[str]:
    """For each spec, the fields in which the specs differ, in words; a field at its default is left out.

    >>> differing([{"shots": 8, "method_args": {"r": 4}}, {"shots": 0, "method_args": {"r": 4}}])
    ['shots=8', '']
    """
    flat = [
        {k: v for k, v in spec.items() if k not in ("method_args", *_OWN_COLUMNS)} | dict(spec.get("method_args", {}))
        for spec in specs
    ]
    names = dict.fromkeys(name for spec in flat for name in spec)
    found = [name for name in names if len({repr(spec.get(name)) for spec in flat}) > 1]
    plain = {name: field.get_default(call_default_factory=True) for name, field in Fields.model_fields.items()}
    said = []
    for spec in flat:
        shown = [name for name in found if name in spec and spec[name] != plain.get(name)]
        said.append(" ".join(f"{name}={_said(name, spec[name])}" for name in shown))
    if len(set(said)) < len({json.dumps(spec, sort_keys=True, default=str) for spec in flat}):
        said = [" ".join(f"{name}={spec.get(name)!r}" for name in found) for spec in flat]
    return said


def _said(name: str, value: Any) -> str:
    if name in ("sequential_tasks", "joint_tasks"):
        # A task named by a path would say more about the machine than about the run.
        return ",".join(map(short_name, value))
    if name == "interpolation":
        return ",".join(f"{alpha:g}" for alpha in value)
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)


@dataclass(frozen=True)
class Run:
    """One record with its predictions."""

    folder: Path
    record: RunRecord
    parts: Mapping[tuple[str, str], Part] = field(default_factory=dict)
    """(stage, part) -> predictions; empty where the run is not ok."""
    unreadable: str = ""
    """Why the predictions of a record that says ok cannot be used."""

    @property
    def resolved(self) -> Mapping[str, Any]:
        """Every field of the spec with its value."""
        return self.record.spec.get("resolved", {})

    @property
    def ok(self) -> bool:
        """Whether it finished and left predictions that can be used."""
        return self.record.status == "ok" and not self.unreadable

    @property
    def times(self) -> tuple[float, float] | None:
        """When it began and ended, in seconds since 1970, as its diary says; None where there is none."""
        at = [float(entry["time"]) for entry in read_events(self.folder) if "time" in entry]
        return (min(at), max(at)) if at else None

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.resolved.get("seed", 0)


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed only: one method with one setting on one task and model."""

    task: str
    model: str
    method: str
    settings: str
    """The fields that differ among the groups of the same task, model and method, e.g. "shots=8"."""
    name: str
    """Unique among the groups of the task."""
    runs: tuple[Run, ...]
    """In the order of their seeds; those that failed too."""

    @property
    def ok(self) -> tuple[Run, ...]:
        """The runs that finished."""
        return tuple(run for run in self.runs if run.ok)

    @property
    def draws(self) -> bool:
        """Whether another seed could give another result; otherwise one run stands for every seed."""
        spec = self.runs[0].resolved
        return len(self.runs) > 1 or spec.get("method") not in METHODS or draws(spec)

    @property
    def baseline(self) -> bool:
        """Whether it uses no model."""
        return self.method in METHODS and not METHODS[self.method].model

    @property
    def constant(self) -> bool:
        """Whether it gives every text the same answer."""
        return self.method in METHODS and METHODS[self.method].constant

    @property
    def shots(self) -> int:
        """Labelled examples per class that it was given; 0: not limited, or none are drawn."""
        drawn = self.method not in METHODS or METHODS[self.method].draws
        return int(self.runs[0].resolved.get("shots") or 0) if drawn else 0


@dataclass(frozen=True)
class Study:
    """Everything a report is made from."""

    folder: Path
    question: str
    plan: Plan
    plan_hash: str
    """Of suite.toml as it is now; empty where there is none."""
    groups: tuple[Group, ...]
    missing: tuple[Mapping[str, Any], ...]
    """Resolved specs that suite.toml asks for and that have no record."""
    notes: tuple[str, ...]
    """What the reader must know about how the folder was read."""
    texts: Mapping[str, Examples] = field(default_factory=dict)
    """data_sha256 -> texts of the test part, where the study holds them."""
    error_costs: tuple[float, float] | None = None
    """What a false alarm and a miss cost, where suite.toml says so."""

    @property
    def runs(self) -> tuple[Run, ...]:
        """All runs, group by group."""
        return tuple(run for group in self.groups for run in group.runs)

    @property
    def exploratory(self) -> tuple[Run, ...]:
        """Runs made under another plan than suite.toml holds now, or under none."""
        return tuple(run for run in self.runs if not self.plan_hash or run.record.plan_hash != self.plan_hash)


def read_study(folder: str | Path) -> Study:
    """Read a study's folder.

    Raises:
        FtlibError: The folder holds no record, or one that cannot be read.
    """
    folder = Path(folder)
    damaged: list[str] = []
    found = list(records.records_of(folder, damaged))
    if not found and damaged:
        raise several(damaged)
    if not found:
        raise FtlibError(f"{folder}: no runs/*/record.json; run the suite first (ftlib run {typed(folder)})")
    cache: dict[bytes, Any] = {}
    runs = [read_run(path, record, cache) for path, record in found]
    question, plan, plan_hash, costs, notes = read_plan(folder, runs)
    missing, more = _against_suite(folder, runs)
    wrong = [run for run in runs if run.record.run_id != run.folder.name]
    notes += [f"left out: {said}" for said in damaged]
    notes += more + [f"the record in runs/{run.folder.name} calls itself {run.record.run_id}" for run in wrong]
    groups = tuple(_groups(runs))
    notes += _of_several(groups)
    texts = {run.record.provenance.get("data_sha256") for run in runs}
    examples = {}
    for sha in sorted(filter(None, texts)):
        try:
            if path := example_file(folder, sha):
                examples[sha] = Examples.read(path)
        except FtlibError as error:
            notes.append(f"left out: {error}")
    return Study(folder, question, plan, plan_hash, groups, missing, tuple(notes), examples, costs)


def read_run(path: Path, record: RunRecord, cache: dict[bytes, Any]) -> Run:
    """A run with its predictions; why they cannot be used, where they cannot."""
    if record.status != "ok":
        return Run(path, record)
    try:
        return Run(path, record, read_parts(path / "predictions.parquet", record.metrics, cache))
    except FtlibError as error:
        return Run(path, record, unreadable=str(error))


def example_file(folder: Path, sha: str) -> Path | None:
    """Where a study keeps the test texts of that data; None where it does not."""
    path = folder / "examples" / f"{sha}.parquet"
    return path if sha.isalnum() and path.is_file() else None


def read_plan(folder: Path, runs: list[Run]) -> tuple[str, Plan, str, tuple[float, float] | None, list[str]]:
    """The question, the plan, its hash and what errors cost, read without looking at anything outside the folder."""
    path = folder / "suite.toml"
    if not path.is_file():
        said = "there is no suite.toml, so no plan stood before the runs; the defaults of a plan are used"
        return "", _usual(runs), "", None, [said]
    try:
        file = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        question, plan = str(file.get("study", {}).get("question", "")), Plan(**renamed(file.get("plan", {})))
        costs, wrong = error_costs(file.get("study", {}))
    except (ValueError, TypeError, AttributeError):
        return "", _usual(runs), "", None, ["suite.toml cannot be read as a suite; the defaults of a plan are used"]
    notes = [] if "plan" in file else ["suite.toml has no [plan]; its defaults are used"]
    return question, plan, hash_of(question, plan), costs, [*notes, *(f"suite.toml: {said}" for said in wrong)]


def _usual(runs: list[Run]) -> Plan:
    """What a plan would usually settle for the tasks that were run, whose kind is told by what was measured on them."""
    found = {}
    for run in runs:
        for metric in run.record.metrics.get("after", {}).get("test", {}):
            if metric in METRICS and METRICS[metric].kind != CLASSIFICATION:
                found[str(run.resolved.get("task", ""))] = USUAL[METRICS[metric].kind]
    return Plan(tasks=dict(sorted(found.items())))


def _against_suite(folder: Path, runs: list[Run]) -> tuple[tuple[Mapping[str, Any], ...], list[str]]:
    """Runs that suite.toml asks for and are not there, and what keeps them from being listed."""
    if not (folder / "suite.toml").is_file():
        return (), []
    try:
        suite = load_suite(folder, check_files=False)
    except FtlibError:
        return (), ["suite.toml does not load here, so runs that are missing cannot be listed"]
    wanted = {spec.run_id: spec.resolved() for spec in suite.experiments}
    have = {run.record.run_id for run in runs}
    return tuple(spec for run_id, spec in wanted.items() if run_id not in have), []


def _groups(runs: list[Run]) -> Iterable[Group]:
    cells: dict[str, list[Run]] = {}
    origins = _origins(runs)
    for run in runs:
        fields = {k: v for k, v in run.resolved.items() if k not in ("seed", "notebook", "save")}
        fields |= origins.get(run.folder, {})
        cells.setdefault(json.dumps(fields, sort_keys=True, default=str), []).append(run)
    columns: dict[tuple[str, str, str], list[str]] = {}
    for key, members in cells.items():
        columns.setdefault(_columns(members[0]), []).append(key)
    models: dict[str, set[str]] = {}
    for task, model, _ in columns:
        models.setdefault(task, set()).add(model)
    order = {method: place for place, method in enumerate(METHODS)}
    for (task, model, method), keys in sorted(columns.items(), key=lambda c: (c[0][0], order.get(c[0][2], 99), c[0])):
        settings = differing([cells[key][0].resolved | origins.get(cells[key][0].folder, {}) for key in keys])
        for key, said in sorted(zip(keys, settings, strict=True), key=lambda pair: natural(pair[1])):
            several = model and len(models[task] - {""}) > 1
            name = " ".join(filter(None, [method, f"({model})" if several else "", said]))
            members = sorted(cells[key], key=lambda run: (run.seed, run.record.run_id))
            yield Group(task, model, method, said, name, tuple(members))


def _origins(runs: Iterable[Run]) -> dict[Path, dict[str, str]]:
    """By a run's folder, from which weights, model files and data it was made, where runs that share them disagree.

    Seeds of two models, or of two versions of the data, are no sample of one thing. A run that failed, or was recorded
    before there was such an entry, does not say, and is not distinguished by it.
    """
    found: dict[Path, dict[str, str]] = {}
    # Tokenizer and configuration are named only where the weights alone do not tell runs apart.
    for word, entry, known in (
        ("weights", "model_sha256", lambda run: [run.resolved.get("model")]),
        ("model_files", "model_files_sha256", lambda run: [run.record.provenance.get("model_sha256")]),
        ("data", "data_sha256", lambda run: [run.resolved.get(name) for name in _OF_DATA]),
    ):
        alike: dict[str, list[Run]] = {}
        for run in runs:
            if run.record.provenance.get(entry):
                alike.setdefault(json.dumps(known(run), default=str), []).append(run)
        for some in alike.values():
            if len({run.record.provenance[entry] for run in some}) > 1:
                for run in some:
                    found.setdefault(run.folder, {})[word] = str(run.record.provenance[entry])[:12]
    return found


_OF_DATA = ("task", "text_column", "label_column", "label_words", "group_columns", "quoting", "mitigation")
"""Fields that decide which data a run reads: where all are alike, the data is too, unless its file changed."""


def _of_several(groups: Iterable[Group]) -> list[str]:
    """What is said where one task's runs were made from several versions of a model or of the data."""
    said: dict[tuple[str, str], list[str]] = {}
    origins = _origins([run for group in groups for run in group.runs])
    for group in groups:
        for word in dict.fromkeys(word for run in group.runs for word in origins.get(run.folder, {})):
            said.setdefault((group.task, word), []).append(group.name)
    what = {
        "weights": "other weights",
        "model_files": "other model files (tokenizer, configuration)",
        "data": "other data",
    }
    return [
        f"{short_name(task)}: some runs were made from {what[word]} than others ({', '.join(names)}); they are shown "
        "apart and never averaged: `ftlib run` makes again what is out of date"
        for (task, word), names in said.items()
    ]


def _columns(run: Run) -> tuple[str, str, str]:
    spec = run.resolved
    return str(spec.get("task", "")), str(spec.get("model", "")), str(spec.get("method", ""))


def seed_of(*words: str) -> int:
    """A seed for a generator, from the folder's content and nothing else."""
    return int.from_bytes(hashlib.sha256("\x1f".join(words).encode()).digest()[:8], "big")
