"""What is asked: one Experiment, and a Suite of many with its plan.

A run's identity is the hash of its whole resolved spec and the schema version; the plan and the record compute it with
the same function.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from ftlib.combinations import COURSE, TRAINING
from ftlib.errors import FtlibError, several
from ftlib.fields import Fields, field_problems
from ftlib.methods import METHODS

SCHEMA = 1
"""Version of the record's meaning; part of every run_id."""

DRAWS = 10
"""Draws of examples per class, unless the plan names its seeds."""

SEQUENCE = "40_run_sequence"
"""The notebook of runs whose training is more than one task's own."""

MISUSE = "51_run_misuse"
"""The notebook of runs in whose training text canaries are planted."""

FEW = 16
"""Examples per class up to which fewer than DRAWS draws deserve a caution."""


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
    ftlib.errors.FtlibError: Experiment: method: unknown 'lorra'; did you mean 'lora'? Known: bitfit, distill, \
dora, exponentiated, full, ia3, in_context, last_layers, loha, lokr, lora, majority, merged, ngram, p_tuning, pissa, \
prefix_tuning, probe, prompt_tuning, qlora, rslora, setfit, stacked, tfidf, threshold, vera, zero_shot
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

    @property
    def continued(self) -> bool:
        """Whether its training is more than one task's own."""
        return any(getattr(self, name) for name in COURSE)

    def columns(self) -> dict[str, Any]:
        """How its data is to be read: the named arguments of `load_task`."""
        return self.model_dump(include={"text_column", "label_column", "label_words", "group_columns"})

    def drawing(self) -> dict[str, Any]:
        """How its training examples are drawn: the named arguments of `Task.draw`."""
        return self.model_dump(include={"shots", "short_classes", "train_limit", "seed"})

    def passed(self) -> dict[str, Any]:
        """The fields as they were given."""
        return self.model_dump(include=self.model_fields_set)

    def resolved(self) -> dict[str, Any]:
        """Every field with its value, the method's defaults filled in by name."""
        method = METHODS[self.method]
        values = self.model_dump()
        for name in TRAINING if method.trains else ():
            # Whoever says how many passes means that many.
            if not values[name] and not (name == "min_steps" and self.epochs):
                values[name] = method.defaults[name]
        values["method_args"] = {
            name: type(default)(self.method_args.get(name, default)) for name, (default, _) in method.arguments.items()
        }
        own = MISUSE if self.canaries else method.notebook
        values["notebook"] = self.notebook or (SEQUENCE if self.continued or self.alphas else own)
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


class Override(BaseModel):
    """What the plan settles otherwise for one task: both, since a margin is in the unit of its metric."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    primary: str = Field(description="the metric the verdicts about this task are about")
    margin: float = Field(
        gt=0, allow_inf_nan=False, description="smallest difference that matters, in that metric's unit"
    )


class Plan(BaseModel):
    """What a study settles before anything trains."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    primary: str = Field("accuracy", description="the metric the verdicts are about")
    margin: float = Field(
        0.01, gt=0, allow_inf_nan=False, description="smallest difference that matters, in the metric's unit"
    )
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        default_factory=lambda: [0],
        min_length=1,
        description="one run each for what draws; not given: 0, and 0 to 9 for what draws shots",
    )
    target: float | None = Field(
        None,
        allow_inf_nan=False,
        exclude_if=lambda target: target is None,
        description="level of the primary metric that is wanted; the report says how many labels each method needs",
    )
    probes: list[str] = Field(default_factory=list, description="measured before and after in every run")
    tuning: dict[str, int] = Field(
        default_factory=dict, description="settings every trained method may try on validation"
    )
    # Left out where empty, so that plans from before there was such a field keep their hash.
    tasks: dict[str, Annotated[Override, Field(strict=False)]] = Field(
        default_factory=dict,
        exclude_if=lambda tasks: not tasks,
        description="primary and margin of single tasks, where they are not the plan's: [plan.tasks.NAME]",
    )

    def seeds_of(self, cell: Mapping[str, Any]) -> list[int]:
        """The seeds of one cell of the grid: the plan's; where it names none, ten for what draws examples per class.

        With few examples it matters most which they are, so one draw says little.

        >>> Plan().seeds_of({"method": "probe", "shots": 8}), Plan(seeds=[3]).seeds_of({"method": "probe", "shots": 8})
        ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [3])
        """
        if not draws(cell):
            return [0]
        return list(range(DRAWS)) if cell.get("shots") and "seeds" not in self.model_fields_set else self.seeds

    def of(self, task: str) -> "Plan":
        """The plan as it stands for one task.

        >>> plan = Plan(tasks={"pydocs_text": {"primary": "bits_per_byte", "margin": 0.02}})
        >>> plan.of("pydocs_text").primary, plan.of("pydocs").primary
        ('bits_per_byte', 'accuracy')
        """
        own = self.tasks.get(task)
        return self.model_copy(update={"tasks": {}} | (own.model_dump() if own else {}))


USUAL: Mapping[str, Override] = {
    "classification": Override(primary="accuracy", margin=0.01),
    "language-modeling": Override(primary="bits_per_byte", margin=0.02),
}
"""Kind of task -> what a plan would usually settle; used where there is no plan."""


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


def hash_of(question: str, plan: Plan) -> str:
    """What every record of a study carries, so that a plan that changed later shows: sixteen hex digits."""
    return digest({"question": question, "plan": plan.model_dump()})[:16]


def draws(cell: Mapping[str, Any]) -> bool:
    """Whether a run's result depends on the seed: TF-IDF and the probe do only when they draw a subset."""
    method = METHODS[cell["method"]] if "method" in cell else METHODS["zero_shot"]
    return method.trains or (method.draws and bool(cell.get("shots") or cell.get("train_limit")))
