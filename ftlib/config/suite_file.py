"""A suite file becomes a Suite: the grid expanded, the baselines added, everything that is wrong said at once."""

import itertools
import json
import math
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ftlib.config.constraints import size_problems
from ftlib.config.experiment import (
    RENAMED,
    Added,
    Experiment,
    Fields,
    Override,
    Plan,
    Suite,
    field_problems,
    hash_of,
    model_problems,
    renamed,
    with_model,
)
from ftlib.config.methods import METHODS
from ftlib.core.errors import FtlibError, several, unknown
from ftlib.data.kinds import KINDS
from ftlib.data.registry import kind_of
from ftlib.metrics.registry import METRICS


def load_suite(path: str | Path, overrides: Mapping[str, Any] | None = None, *, check_files: bool = True) -> Suite:
    """Read `suite.toml` and expand it into experiments.

    A list in `[[runs]]` or `[defaults]` makes a grid, except for fields that are lists themselves. A run's `shots`
    replace the defaults' `train_limit`, and the other way round. What draws runs once
    per seed of the plan; what does not runs once. Every method without a model that serves a task is added to it where
    it lacks: the majority class and TF-IDF to tasks with labels, an n-gram model to text.

    Args:
        path: The suite file, or the study's folder that holds it.
        overrides: Fields set for every run, over the file (`--set field=value`); `seeds` are the study's. Of seeds that
            the plan has the others are still to be run; with others it is another plan.
        check_files: Whether the data and models that it names by path must be there; reading a finished study needs
            neither.

    Raises:
        FtlibError: All problems of the file at once, each with its place.
    """
    suite, problems = read_suite(path, overrides, check_files=check_files)
    if problems:
        raise several(problems)
    return suite


def read_suite(
    path: str | Path, overrides: Mapping[str, Any] | None = None, *, check_files: bool = True
) -> tuple[Suite, list[str]]:
    """What can be read of a suite file, and all that is wrong with the rest, so that both can be looked at in one go.

    Raises:
        FtlibError: There is no such file, or it is no TOML.
    """
    path = Path(path)
    path = path / "suite.toml" if path.is_dir() else path
    file = _parsed(path)
    question, stated, problems = _settled(file)
    overrides = dict(overrides or {})
    plan, found = _with_seeds(stated, overrides.pop("seeds", None))
    problems += found
    if not set(plan.seeds) <= set(stated.seeds_of({"method": "full", "shots": 1})):
        stated = plan
    cells, added, found = _cells(file, overrides)
    problems += [*found, *_task_problems(plan, [_task_of(cell) for _, cell in cells])]
    if "plan" not in file and len(cells) - len(added) > 1:
        problems.append("[plan]: missing; a study that compares settles primary, margin and seeds beforehand")
    experiments, found = _experiments(cells, plan, check_files)
    said = [f"{path}: {problem}" for problem in [*problems, *found]]
    return Suite(path.parent, question, plan, hash_of(question, stated), experiments, added), said


Cell = tuple[str, dict[str, Any]]
"""One combination of the grid: its place in the file, and its fields."""


def _parsed(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FtlibError(f"{path}: no such suite file; a study is a folder with a suite.toml (see reports/demo)")
    try:
        file = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FtlibError(f"{path}: not valid TOML: {error}") from None
    tables = [file.get("plan"), file.get("defaults"), *(file["runs"] if isinstance(file.get("runs"), list) else [])]
    for table in (table for table in tables if isinstance(table, dict)):
        old = {name: RENAMED[name] for name in table if name in RENAMED}
        if old:
            said = ", ".join(f"{name} is {new}" for name, new in old.items())
            print(f"ftlib: {path}: names of schema 1 are read under those of schema 2: {said}", file=sys.stderr)
            now = renamed(table)
            table.clear()
            table |= now
    return file


def _settled(file: Mapping[str, Any]) -> tuple[str, Plan, list[str]]:
    """The question and the plan, with every problem outside the grid; what is wrong is left at its default."""
    problems = [str(unknown("section", name, _SECTIONS)) for name in file if name not in _SECTIONS]
    for name in ("study", "plan", "defaults"):
        if not isinstance(file.get(name, {}), dict):
            found = type(file[name]).__name__
            problems.append(f"[{name}]: found {found}; write it as a table, [{name}] on a line of its own")
    study, fields = _table(file, "study"), _table(file, "plan")
    known = ["question", "error_costs"]
    problems += [f"[study] {unknown('field', name, known)}" for name in study if name not in known]
    problems += [f"[study] {problem}" for problem in error_costs(study)[1]]
    question = study.get("question", "")
    if not isinstance(question, str) or not question.strip():
        problems.append("[study] question: missing; say in one sentence what the study decides")
    tasks, wrong = _overrides(fields.get("tasks", {}))
    found, bad = model_problems({**fields, "tasks": {}}, Plan)
    plan = Plan(**{name: value for name, value in fields.items() if name not in bad} | {"tasks": tasks})
    problems += [f"[plan] {problem}" for problem in [*found, *_plan_problems(plan)]]
    return question, plan, problems + wrong


def _with_seeds(plan: Plan, asked: Any) -> tuple[Plan, list[str]]:
    """The plan with other seeds, where some are asked for: `--set seeds=0,1` or `--set seeds=[0, 1]`."""
    if asked is None:
        return plan, []
    listed = asked.split(",") if isinstance(asked, str) else asked if isinstance(asked, list) else [asked]
    seeds = [int(one) if isinstance(one, str) and one.strip().isdecimal() else one for one in listed]
    problems, _ = model_problems({"seeds": seeds}, Plan)
    if problems:
        return plan, [f"--set {problem}" for problem in problems]
    found = plan.model_copy(update={"seeds": seeds})
    found.model_fields_set.add("seeds")
    return found, [f"--set {problem}" for problem in _plan_problems(found) if problem.startswith("seeds")]


def error_costs(study: Mapping[str, Any]) -> tuple[tuple[float, float] | None, list[str]]:
    """What a false alarm and a miss cost, as [study] says it; None where it does not, with what is wrong.

    >>> error_costs({"error_costs": {"false_alarm": 1, "miss": 10}})
    ((1.0, 10.0), [])
    """
    said = study.get("error_costs")
    if said is None:
        return None, []
    found = [said.get(name) for name in ("false_alarm", "miss")] if isinstance(said, dict) and len(said) == 2 else []
    if not found or any(type(cost) not in (int, float) or not 0 < cost < math.inf for cost in found):
        wanted = "two costs above 0, error_costs = {false_alarm = 1, miss = 10}"
        return None, [f"error_costs: found {said!r}; write {wanted}"]
    return (float(found[0]), float(found[1])), []


def _overrides(tables: Any) -> tuple[dict[str, Override], list[str]]:
    """What the plan settles for single tasks, and what is wrong with it."""
    if not isinstance(tables, dict):
        return {}, [f"[plan] tasks: found {tables!r}; write a table per task, [plan.tasks.NAME]"]
    good, problems = {}, []
    for name, own in tables.items():
        where, own = _heading(name), own if isinstance(own, dict) else {}
        if lacking := [field for field in Override.model_fields if field not in own]:
            problems.append(f"{where}: {' and '.join(lacking)} missing; a margin is in the unit of its primary metric")
            continue
        found, _ = model_problems(own, Override)
        if not found:
            good[name] = Override(**own)
            found = size_problems(own["primary"], own["margin"])
        problems += [f"{where} {problem}" for problem in [*found, *_primary_problems(own["primary"])]]
    return good, problems


def _heading(task: str) -> str:
    """The table that settles a task, as the file writes it.

    >>> _heading("pydocs_text"), _heading("file:a.txt")
    ('[plan.tasks.pydocs_text]', '[plan.tasks."file:a.txt"]')
    """
    return f"[plan.tasks.{task if re.fullmatch('[A-Za-z0-9_-]+', task) else json.dumps(task)}]"


def _task_problems(plan: Plan, tasks: list[str]) -> list[str]:
    """Where the plan's metric and a task do not go together."""
    kinds = {task: kind_of(task) for task in tasks}
    problems = [
        f"{_heading(task)} {unknown('task', task, kinds)} (the tasks of [[runs]])"
        for task in plan.tasks
        if task not in kinds
    ]
    for task, kind in kinds.items():
        metric = METRICS.get(plan.of(task).primary)
        if metric is None or metric.not_primary or metric.kind == kind:
            continue
        # One table for the task, unless the whole study is of its kind.
        where = _heading(task) if task in plan.tasks else "[plan]"
        place = where if len(set(kinds.values())) == 1 else _heading(task)
        usual = KINDS[kind]
        problems.append(
            f"{where} primary: {metric.name} is of {metric.kind} tasks, and {task} is a {kind} task; under {place} "
            f'write primary = "{usual.primary}" and margin = {usual.margin:g}, say'
        )
    return problems


def _cells(file: Mapping[str, Any], overrides: dict[str, Any]) -> tuple[list[Cell], tuple[Added, ...], list[str]]:
    """Every combination of the grid, the added baselines among them."""
    defaults, runs, problems = _table(file, "defaults"), file.get("runs", []), []
    if not isinstance(runs, list) or not runs or not all(isinstance(run, dict) for run in runs):
        problems.append('[[runs]]: none; write at least one, e.g. [[runs]] method = "zero_shot"')
        runs = []
    for field in ("seed", "evaluations", "tuning"):
        if any(field in fields for fields in (defaults, *runs, overrides)):
            problems.append(f"{field}: belongs to [plan], so that it is the same for every method")
    cells: list[Cell] = []
    for number, run in enumerate(runs, 1):
        where, fields = f"[[runs]] {number}", {**_without_rival(defaults, {**run, **overrides}), **run, **overrides}
        empty = [name for name, value in fields.items() if value == [] and name not in _LISTS]
        problems += [f"{where}: {name}: found an empty list, which leaves no run" for name in empty]
        # A misspelt field is said elsewhere; it may be the one that is missing.
        if "method" not in fields and set(fields) <= set(Fields.model_fields):
            problems.append(f"{where}: method: missing; known: {', '.join(METHODS)}")
        cells += [(where, cell) for cell in _grid(fields)]
    baselines = _missing_baselines([cell for _, cell in cells], defaults | overrides)
    added = tuple(Added(_task_of(cell), cell["method"]) for cell in baselines)
    return [*cells, *(("added baseline", cell) for cell in baselines)], added, problems


def _without_rival(defaults: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults, less the one way of limiting the training examples that the run replaces by the other.

    >>> _without_rival({"train_limit": 2000, "epochs": 2}, {"shots": 8})
    {'epochs': 2}
    """
    rivals = {"shots": "train_limit", "train_limit": "shots"}
    replaced = {rivals[name] for name in rivals if name in own}
    return {name: value for name, value in defaults.items() if name not in replaced}


def _experiments(cells: list[Cell], plan: Plan, check_files: bool) -> tuple[tuple[Experiment, ...], list[str]]:
    """The experiments of the grid, once per seed where they draw; and what is wrong, said once with its places."""
    experiments: dict[str, Experiment] = {}
    wrong: dict[str, list[str]] = {}
    for where, cell in cells:
        cell = {**cell, "seed": plan.seeds[0], "evaluations": plan.evaluations, "tuning": plan.tuning}
        method = METHODS.get(str(cell.get("method")))
        if method and not method.trains:
            cell["tuning"] = {}
        cell = with_model(cell)
        if found := field_problems(cell, check_files=check_files):
            for problem in found:
                wrong.setdefault(problem, []).append(where)
            continue
        for seed in plan.seeds_of(cell):
            spec = Experiment.of(Fields(**{**cell, "seed": seed}))
            experiments.setdefault(spec.run_id, spec)
    return tuple(experiments.values()), [f"{', '.join(dict.fromkeys(at))}: {said}" for said, at in wrong.items()]


_SECTIONS = ("study", "plan", "defaults", "runs")

_LISTS = {"evaluations", "group_columns", "sequential_tasks", "joint_tasks", "interpolation", "canaries"}


def _table(file: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = file.get(name, {})
    return value if isinstance(value, dict) else {}


def _task_of(cell: Mapping[str, Any]) -> str:
    """A cell's task; what is no name is said elsewhere."""
    return str(cell.get("task", Fields.model_fields["task"].default))


def _primary_problems(name: str) -> list[str]:
    """Whether a plan can decide by a metric at all."""
    able = [metric.name for metric in METRICS.values() if not metric.not_primary]
    if name not in METRICS:
        return [str(unknown("primary", name, able))]
    why = METRICS[name].not_primary
    return [f"primary: {name} cannot decide: {why}; allowed: {', '.join(able)}"] if why else []


def _plan_problems(plan: Plan) -> list[str]:
    problems = [*_primary_problems(plan.primary), *size_problems(plan.primary, plan.margin, plan.target)]
    if len(set(plan.seeds)) < len(plan.seeds):
        problems.append(f"seeds: found {plan.seeds}; each seed once")
    return problems


def _grid(fields: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Every combination of the fields' listed values.

    >>> list(_grid({"method": ["lora", "full"], "shots": 8}))
    [{'method': 'lora', 'shots': 8}, {'method': 'full', 'shots': 8}]
    """
    axes = []
    for name, value in fields.items():
        many = isinstance(value, list) and (name not in _LISTS or (value and isinstance(value[0], list)))
        axes.append([(name, item) for item in value] if many else [(name, value)])
    return [dict(combination) for combination in itertools.product(*axes)]


def _missing_baselines(cells: list[dict[str, Any]], defaults: Mapping[str, Any]) -> list[dict[str, Any]]:
    shared = ("text_column", "label_column", "label_words", "group_columns", "quoting", "eval_limit", "threads")
    cells = [cell for cell in cells if isinstance(cell.get("task", ""), str)]
    have = {(_task_of(cell), str(cell.get("method"))) for cell in cells}
    added = []
    for task in dict.fromkeys(map(_task_of, cells)):
        like = next(cell for cell in cells if _task_of(cell) == task)
        for method in KINDS[kind_of(task)].baselines:
            if (task, method) not in have:
                kept = {name: like[name] for name in shared if name in like}
                limit = {} if "train_limit" not in defaults else {"train_limit": like.get("train_limit", 0)}
                added.append({"task": task, "method": method, **kept, **limit})
    return added
