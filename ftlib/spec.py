"""What is asked: one Experiment, and the Suite that expands into many.

Everything is checked here, at once, before a kernel starts or a byte is downloaded. A run's identity is the hash of its
whole resolved spec and the schema version; the plan and the record compute it with the same function.
"""

import difflib
import hashlib
import itertools
import json
import tomllib
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from ftlib.errors import FtlibError, several, unknown
from ftlib.fields import Fields, field_problems, model_problems
from ftlib.methods import METHODS

SCHEMA = 1
"""Version of the record's meaning; part of every run_id."""


class Experiment(Fields):
    """One experiment, flat and frozen. 0, "" and empty mean "the default that the method, task or machine gives".

    Raises:
        FtlibError: Some field is unknown, of the wrong type, out of range or impossible together with another; all
            problems are listed, each with what was found and what is allowed.

    >>> spec = Experiment(task="pydocs", method="lora", seed=1)
    >>> spec.resolved()["learning_rate"], len(spec.run_id)
    (0.001, 16)
    >>> Experiment(task="pydocs", method="lorra")
    Traceback (most recent call last):
        ...
    ftlib.errors.FtlibError: Experiment: method: unknown 'lorra'; did you mean 'lora'? Known: full, lora, majority, \
probe, tfidf, zero_shot
    """

    def __init__(self, **fields: Any) -> None:
        if found := field_problems(fields):
            raise several(f"Experiment: {problem}" for problem in found)
        super().__init__(**fields)

    @classmethod
    def from_parameters(cls, namespace: Mapping[str, Any]) -> "Experiment":
        """Build the experiment from a notebook's parameters cell: `Experiment.from_parameters(globals())`.

        Papermill accepts a misspelt parameter in silence; here a name that is nearly a field's is an error.

        Raises:
            FtlibError: As for the constructor, or a name that is a field's, misspelt.

        >>> Experiment.from_parameters({"method": "full", "lerning_rate": 0.1})
        Traceback (most recent call last):
            ...
        ftlib.errors.FtlibError: parameter 'lerning_rate' is not a field; did you mean 'learning_rate'?
        """
        plain = {k: v for k, v in namespace.items() if not k.startswith("_")}
        for name, value in plain.items():
            near = difflib.get_close_matches(name, cls.model_fields, n=1, cutoff=0.85)
            if name not in cls.model_fields and near and isinstance(value, str | int | float | bool | list | dict):
                raise FtlibError(f"parameter {name!r} is not a field; did you mean {near[0]!r}?")
        return cls(**{k: plain[k] for k in cls.model_fields if k in plain})

    @classmethod
    def of(cls, checked: Fields) -> "Experiment":
        """The experiment of fields that have been checked."""
        return cls.model_construct(checked.model_fields_set, **dict(checked))

    def passed(self) -> dict[str, Any]:
        """The fields as they were given."""
        return self.model_dump(include=self.model_fields_set)

    def resolved(self) -> dict[str, Any]:
        """Every field with its value, the method's defaults filled in by name."""
        method = METHODS[self.method]
        values = self.model_dump()
        for name in ("learning_rate", "epochs", "batch_size"):
            if not values[name] and method.trains:
                values[name] = method.defaults[name]
        values["method_args"] = {
            name: type(default)(self.method_args.get(name, default)) for name, (default, _) in method.arguments.items()
        }
        values["notebook"] = self.notebook or method.notebook
        if not method.model:
            values["model"] = ""
        return values

    @cached_property
    def run_id(self) -> str:
        """Sixteen hex digits: the SHA-256 of the resolved spec and the schema version.

        A field at its default is left out, so that a field that is added later leaves old records valid; a default that
        changes is a change of meaning and bumps SCHEMA.
        """
        default = {name: field.get_default(call_default_factory=True) for name, field in Fields.model_fields.items()}
        asked = {name: value for name, value in self.resolved().items() if value != default[name]}
        return digest({"schema": SCHEMA, "spec": asked})[:16]

    def _repr_html_(self) -> str:
        from ftlib.report.html import table

        resolved, passed = self.resolved(), self.passed()
        rows = [
            (name, json.dumps(resolved[name]), "given" if name in passed else "default", field.description)
            for name, field in type(self).model_fields.items()
        ]
        return table(("field", "value", "from", "meaning"), rows)


class Plan(BaseModel):
    """What a study settles before anything trains."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    primary: str = Field("accuracy", description="the metric the verdicts are about")
    margin: float = Field(
        0.01, gt=0, allow_inf_nan=False, description="smallest difference that matters, in the metric's unit"
    )
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        default_factory=lambda: [0], min_length=1, description="one run each for what draws"
    )
    probes: list[str] = Field(default_factory=list, description="measured before and after in every run")
    tuning: dict[str, int] = Field(
        default_factory=dict, description="settings every trained method may try on validation"
    )


class Added(NamedTuple):
    """A baseline the suite file did not ask for and every report shows."""

    task: str
    method: str


class Suite(NamedTuple):
    """A study: its question, its plan and every experiment of its grid."""

    folder: Path
    question: str
    plan: Plan
    plan_hash: str
    experiments: tuple[Experiment, ...]
    added: tuple[Added, ...]


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of keys.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def load_suite(path: str | Path, overrides: Mapping[str, Any] | None = None, *, check_files: bool = True) -> Suite:
    """Read `suite.toml` and expand it into experiments.

    A list in `[[runs]]` or `[defaults]` makes a grid, except for fields that are lists themselves. What draws runs once
    per seed of the plan; what does not runs once. The majority class and TF-IDF are added for every task they lack.

    Args:
        path: The suite file, or the study's folder that holds it.
        overrides: Fields set for every run, over the file (`--set field=value`).
        check_files: Whether the data and models that it names by path must be there; reading a finished study needs
            neither.

    Raises:
        FtlibError: All problems of the file at once, each with its place.
    """
    path = Path(path)
    path = path / "suite.toml" if path.is_dir() else path
    if not path.is_file():
        raise FtlibError(f"{path}: no such suite file; a study is a folder with a suite.toml (see reports/demo)")
    try:
        file = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FtlibError(f"{path}: not valid TOML: {error}") from None

    problems = [f"{path}: {unknown('section', name, _SECTIONS)}" for name in file if name not in _SECTIONS]
    study, plan_fields = _table(file, "study", problems), _table(file, "plan", problems)
    defaults, runs = _table(file, "defaults", problems), file.get("runs", [])
    problems += [f"{path}: [study] {unknown('field', name, ['question'])}" for name in study if name != "question"]
    question = study.get("question", "")
    if not isinstance(question, str) or not question.strip():
        problems.append(f"{path}: [study] question: missing; say in one sentence what the study decides")
    found, bad = model_problems(plan_fields, Plan)
    problems += [f"{path}: [plan] {problem}" for problem in found]
    plan = Plan(**{name: value for name, value in plan_fields.items() if name not in bad})
    problems += [f"{path}: [plan] {problem}" for problem in _plan_problems(plan)]
    if not isinstance(runs, list) or not runs or not all(isinstance(run, dict) for run in runs):
        problems.append(f'{path}: [[runs]]: none; write at least one, e.g. [[runs]] method = "zero_shot"')
        runs = []
    for field in ("seed", "probes", "tuning"):
        if any(field in fields for fields in (defaults, *runs, overrides or {})):
            problems.append(f"{path}: {field}: belongs to [plan], so that it is the same for every method")

    cells: list[tuple[str, dict[str, Any]]] = []
    for number, run in enumerate(runs, 1):
        fields = {**defaults, **run, **(overrides or {})}
        empty = [name for name, value in fields.items() if value == [] and name not in _LISTS]
        problems += [f"{path}: [[runs]] {number}: {name}: found an empty list, which leaves no run" for name in empty]
        cells += [(f"[[runs]] {number}", cell) for cell in _grid(fields)]
    added = _missing_baselines([cell for _, cell in cells], defaults | dict(overrides or {}))
    cells += [("added baseline", cell) for cell in added]
    if "plan" not in file and len(cells) - len(added) > 1:
        problems.append(f"{path}: [plan]: missing; a study that compares settles primary, margin and seeds beforehand")

    experiments: dict[str, Experiment] = {}
    wrong: dict[str, list[str]] = {}
    for where, cell in cells:
        cell = {**cell, "seed": plan.seeds[0], "probes": plan.probes, "tuning": plan.tuning}
        method = METHODS.get(str(cell.get("method")))
        if method and not method.trains:
            cell["tuning"] = {}
        if found := field_problems(cell, check_files=check_files):
            for problem in found:
                wrong.setdefault(problem, []).append(where)
            continue
        for seed in plan.seeds if draws(cell) else [0]:
            spec = Experiment.of(Fields(**{**cell, "seed": seed}))
            experiments.setdefault(spec.run_id, spec)
    # A fault of [defaults] is every run's: it is said once, with its places.
    problems += [f"{path}: {', '.join(dict.fromkeys(places))}: {problem}" for problem, places in wrong.items()]
    if problems:
        raise several(problems)
    stands = {"question": question, "plan": plan.model_dump()}
    chosen = tuple(Added(cell.get("task", "pydocs"), cell["method"]) for cell in added)
    return Suite(path.parent, question, plan, digest(stands)[:16], tuple(experiments.values()), chosen)


_SECTIONS = ("study", "plan", "defaults", "runs")
_LISTS = {"probes", "group_columns"}


def draws(cell: Mapping[str, Any]) -> bool:
    """Whether a run's result depends on the seed: TF-IDF and the probe do only when they draw a subset."""
    method = METHODS[cell["method"]] if "method" in cell else METHODS["zero_shot"]
    return method.trains or (method.draws and bool(cell.get("shots") or cell.get("train_limit")))


def _table(file: Mapping[str, Any], name: str, problems: list[str]) -> dict[str, Any]:
    value = file.get(name, {})
    if isinstance(value, dict):
        return value
    problems.append(f"[{name}]: found {type(value).__name__}; write it as a table, [{name}] on a line of its own")
    return {}


def _plan_problems(plan: Plan) -> list[str]:
    from ftlib.metrics import METRICS

    problems = []
    if plan.primary not in METRICS:
        problems.append(str(unknown("primary", plan.primary, METRICS)))
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
    shared = ("text_column", "label_column", "label_words", "group_columns", "eval_limit", "threads")
    cells = [cell for cell in cells if isinstance(cell.get("task", "pydocs"), str)]
    have = {(cell.get("task", "pydocs"), str(cell.get("method"))) for cell in cells}
    added = []
    for task in dict.fromkeys(cell.get("task", "pydocs") for cell in cells):
        like = next(cell for cell in cells if cell.get("task", "pydocs") == task)
        for method in ("majority", "tfidf"):
            if (task, method) not in have:
                kept = {name: like[name] for name in shared if name in like}
                limit = {} if "train_limit" not in defaults else {"train_limit": like.get("train_limit", 0)}
                added.append({"task": task, "method": method, **kept, **limit})
    return added
