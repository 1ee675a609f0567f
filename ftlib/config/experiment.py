"""What is asked: one Experiment, and a Suite of many with its plan.

Everything that can be wrong with an experiment's fields is said in words, all at once, before a kernel starts or a byte
is downloaded: where it is, what was found and what is allowed. A run's identity is the hash of its whole resolved spec
and the schema version; the plan and the record compute it with the same function.
"""

import difflib
import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ftlib.config.constraints import COURSE, TRAINING, combination_problems, model_name_problems, task_name_problems
from ftlib.config.methods import METHODS
from ftlib.core.errors import FtlibError, several, unknown
from ftlib.core.surroundings import threads_alone
from ftlib.data.evaluations import evaluation_problems
from ftlib.data.kinds import KINDS
from ftlib.data.registry import kind_of

CHECKED = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
"""Of every table of fields: exact types, no others, and no number that is infinite or none."""


class Fields(BaseModel):
    """The fields of an Experiment; checked here by type and range, and by `field_problems` against each other."""

    model_config = ConfigDict(**CHECKED, protected_namespaces=())

    task: str = Field("pydocs", description="bundled name, file:PATH or hub:ID[@revision]")
    model: str = Field(
        "minilm", description="bundled name, local folder, or Hub id[@revision]; text-to-text tasks: tiny-mt"
    )
    method: str = Field("zero_shot", description="a name from `ftlib list methods`")
    method_args: dict[str, Any] = Field(
        default_factory=dict, description="settings of the method, e.g. {'r': 16}; see `ftlib list methods`"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="draws the examples, initialises, orders")
    shots: int = Field(0, ge=0, description="training examples per class; 0: not limited")
    short_classes: Literal["error", "all"] = Field(
        "error", description="where a class has fewer examples than shots: error, or all it has"
    )
    train_limit: int = Field(0, ge=0, description="training examples in all, drawn by the seed; 0: all")
    eval_limit: int = Field(0, ge=0, description="test examples, the same for every run; 0: all")
    epochs: float = Field(0.0, ge=0, le=1000, description="passes over the training examples; 0: the method's default")
    min_steps: int = Field(
        0, ge=0, le=10**6, description="training steps at least; 0: the method's default where epochs is not given"
    )
    learning_rate: float = Field(0.0, ge=0, le=1, description="peak learning rate; 0: the method's default")
    batch_size: int = Field(0, ge=0, le=4096, description="examples per training step; 0: the method's default")
    head_init: Literal["new", "linear_probe"] = Field(
        "new",
        description="where an encoder's new head starts: new, from the seed; linear_probe, at logistic regression on "
        "what the model gives it before training (Kumar et al. 2022)",
    )
    validations: int = Field(
        0,
        ge=0,
        le=1000,
        description="times the loss on validation is measured in training; 0: up to 5, none with shots",
    )
    patience: int = Field(
        0, ge=0, description="validations without a better loss after which training stops, the best kept; 0: off"
    )
    gradient_accumulation: int = Field(
        1, ge=1, le=4096, description="parts in which a step's batch is computed, one after another: less memory"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute activations again instead of keeping them: less memory, more time"
    )
    processes: int = Field(1, ge=1, le=1024, description="processes that share each step of one training (torchrun)")
    sequential_tasks: list[str] = Field(
        default_factory=list, description="tasks, named as task is, that the model is trained on before, in this order"
    )
    joint_tasks: list[str] = Field(
        default_factory=list, description="tasks, named as task is, that the model is trained on at the same time"
    )
    other_task_limit: int = Field(
        0,
        ge=0,
        description="training examples of each sequential or joint task, at most; 0: as train_limit says, or all",
    )
    sampling: Literal["proportional", "equal", "temperature"] = Field(
        "proportional", description="how often each joint task is drawn: by its size, all alike, or by its square root"
    )
    replay: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the old examples mixed with the new: of earlier tasks, else of the task's old domain, or "
        "general text where it is text that is modelled",
    )
    l2_sp: float = Field(0.0, ge=0, description="strength of the pull back to the untouched weights, no unit; 0: off")
    ewc: float = Field(
        0.0, ge=0, description="strength of elastic weight consolidation for the tasks before, no unit; 0: off"
    )
    ewc_samples: int = Field(128, ge=1, description="old examples whose gradients say which weights matter to them")
    interpolation: list[Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=list,
        description="shares of the way from untouched to adapted weights, also measured; in hundredths",
    )
    canaries: list[Annotated[int, Field(ge=0, le=1000)]] = Field(
        default_factory=list,
        description="how often made-up secrets are planted in the training text, e.g. [0, 1, 16]: what is memorised?",
    )
    max_length: int = Field(128, ge=8, le=8192, description="tokens; longer texts are cut there")
    instruction: str = Field(
        "",
        description="what a source text stands in, e.g. 'translate English to German: {text}'; empty: the text alone, "
        "or for a decoder '{text} =>'",
    )
    source_language: str = Field("", description="as the tokenizer of a model of many languages names it, e.g. en_XX")
    target_language: str = Field("", description="the same of what is written, e.g. de_DE")
    num_beams: int = Field(1, ge=1, le=64, description="beams of the search for the likeliest text; 1: greedy")
    length_penalty: float = Field(
        1.0, ge=-10, le=10, description="with beams: a text's log-likelihood is divided by its tokens to this power"
    )
    max_new_tokens: int = Field(
        0, ge=0, le=8192, description="tokens of a text that is written, at most; 0: max_length"
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of the target that is spread over all tokens in training"
    )
    context: int = Field(
        0, ge=0, description="tokens a language model sees at once when measured; 0: 512, or what it can see"
    )
    stride: int = Field(0, ge=0, description="tokens from one such window to the next; 0: half the context")
    evaluations: list[str] = Field(
        default_factory=list,
        description="what else is measured before and after: general text, linear probes, bias sets",
    )
    text_column: str = Field("", description="column holding the text; empty: guessed from the usual names")
    label_column: str = Field("", description="column holding the label; empty: guessed from the usual names")
    label_words: dict[str, str] = Field(
        default_factory=dict, description="what a label means, in words, e.g. {'0': 'negative', '1': 'positive'}"
    )
    group_columns: list[str] = Field(default_factory=list, description="columns naming groups of people")
    quoting: Literal["", "none"] = Field(
        "", description="none: quotation marks of a CSV or TSV are text, and every line is a row; empty: they enclose"
    )
    mitigation: Literal["", "reweight", "balance", "augment", "scrub"] = Field(
        "", description="what is done to the examples so that groups are treated more alike; empty: nothing"
    )
    mitigation_column: str = Field("", description="group column that a mitigation goes by; empty: the task's first")
    tuning: dict[str, int] = Field(
        default_factory=dict, description="settings tried on validation, e.g. {'learning_rate': 3}"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: cuda, then mps, then cpu")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="arithmetic of matrix products; auto: bfloat16 autocast where the processor has it"
    )
    quantise: Literal["", "int8"] = Field(
        "",
        description="int8: once trained, the model answers in bytes, smaller and faster on a processor; empty: as is",
    )
    threads: int = Field(
        1,
        ge=1,
        le=1024,
        description="CPU threads; part of the result, so fixed by the spec; a study of few long runs may come to more, "
        "and a notebook by itself has one for each core, up to 8",
    )
    save: bool = Field(False, description="keep the adapted model, as anybody can load it, in the run's folder model/")
    notebook: str = Field("", description="run_ notebook that executes it; empty: the method's own")


def model_problems(fields: Mapping[str, Any], schema: type[BaseModel]) -> tuple[list[str], set[str]]:
    """Check types, ranges and names; return the problems in words and the fields they concern."""
    try:
        schema.model_validate(dict(fields))
    except ValidationError as error:
        problems, wrong = [], set()
        for item in error.errors(include_url=False):
            name = str(item["loc"][0])
            wrong.add(name)
            if item["type"] == "extra_forbidden":
                problems.append(str(unknown("field", name, schema.model_fields)))
            else:
                where = ".".join(str(part) for part in item["loc"])
                meaning = schema.model_fields[name].description
                said = item["msg"][0].lower() + item["msg"][1:]
                if item["type"] == "finite_number":
                    said = f"allowed: {_range_of(schema, name)}"
                problems.append(f"{where}: found {item['input']!r}; {said} ({name}: {meaning})")
        return problems, wrong
    return [], set()


def _range_of(schema: type[BaseModel], name: str) -> str:
    """The numbers that a field may hold, in words.

    >>> _range_of(Fields, "l2_sp"), _range_of(Fields, "learning_rate"), _range_of(Plan, "margin")
    ('0 or more, finite', '0 to 1', 'above 0, finite')
    """
    stated = schema.model_json_schema()["properties"][name]
    stated = stated.get("items") or next((one for one in stated.get("anyOf", ()) if one["type"] == "number"), stated)
    low, most = stated.get("minimum", stated.get("exclusiveMinimum")), stated.get("maximum")
    if low is None:
        return "a finite number"
    if most is not None:
        return f"{low:g} to {most:g}"
    return f"above {low:g}, finite" if "exclusiveMinimum" in stated else f"{low:g} or more, finite"


def with_model(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, with the bundled model that the task's kind means where the method needs one and none is named.

    >>> with_model({"task": "uistrings", "method": "full"})["model"]
    'tiny-mt'
    >>> with_model({"task": "uistrings", "method": "copy"}), with_model({"method": "full"})
    ({'task': 'uistrings', 'method': 'copy'}, {'method': 'full'})
    """
    task, method = fields.get("task"), METHODS.get(str(fields.get("method")))
    if "model" in fields or not isinstance(task, str) or method is None or not method.model:
        return dict(fields)
    meant = KINDS[kind_of(task)].model
    return {**fields, "model": meant} if meant else dict(fields)


def field_problems(fields: Mapping[str, Any], *, check_files: bool = True) -> list[str]:
    """Everything that is wrong with an experiment's fields, in words; empty when nothing is.

    Args:
        fields: The fields as given.
        check_files: Whether data and models named by a path must be there.
    """
    problems, wrong = model_problems(fields, Fields)
    plain = {name: field.get_default(call_default_factory=True) for name, field in Fields.model_fields.items()}
    values = plain | {name: value for name, value in fields.items() if name in plain and name not in wrong}

    method = METHODS.get(values["method"])
    if method is None:
        problems.append(str(unknown("method", values["method"], METHODS)))
    if check_files:
        problems += task_name_problems(values["task"]) + model_name_problems(values["model"])
        for name in ("sequential_tasks", "joint_tasks"):
            problems += [f"{name}: {said}" for task in values[name] for said in task_name_problems(task)]
    problems += evaluation_problems(values["evaluations"], check_files=check_files)
    for name, count in values["tuning"].items():
        if name != "learning_rate":
            problems.append(str(unknown("tuning", name, ["learning_rate"])))
        elif not 1 <= count <= 9:
            problems.append(f"tuning.learning_rate: found {count}; allowed: 1 to 9 settings")
    if values["notebook"] and not re.fullmatch(r"[\w-]+", values["notebook"]):
        problems.append(f"notebook: found {values['notebook']!r}; allowed: a name from `ftlib list notebooks`")
    if values["shots"] and values["train_limit"]:
        problems.append("shots and train_limit: both given; choose examples per class or examples in all")
    if values["context"] and values["stride"] > values["context"]:
        problems.append(f"stride: found {values['stride']}; allowed: at most context, {values['context']} tokens")
    if method is not None:
        given = {name for name, value in values.items() if value != plain[name]}
        problems += combination_problems(method, values, given)
    return problems


SCHEMA = 2
"""Version of the record's meaning; part of every run_id."""

RENAMED: Mapping[str, str] = {
    "earlier": "sequential_tasks",
    "together": "joint_tasks",
    "earlier_limit": "other_task_limit",
    "alphas": "interpolation",
    "head": "head_init",
    "probes": "evaluations",
}
"""Fields of schema 1 that have another name now."""


def renamed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields with the names of today, from fields that may have those of schema 1.

    >>> renamed({"earlier": ["reviews"], "head": "probe", "seed": 1, "torch_compile": False})
    {'sequential_tasks': ['reviews'], 'head_init': 'linear_probe', 'seed': 1}
    """
    # Compiling changed no result, and is no field any more.
    found = {RENAMED.get(name, name): value for name, value in fields.items() if name != "torch_compile"}
    if found.get("head_init") == "probe":
        found["head_init"] = "linear_probe"
    return found


DRAWS = 10
"""Samples of examples per class, unless the plan names its seeds."""

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
    >>> Experiment(task="pydocs", method="lorra")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ftlib.core.errors.FtlibError: Experiment: method: unknown 'lorra'; did you mean 'lora'? Known: bitfit, ...
    """

    def __init__(self, **fields: Any) -> None:
        if old := [name for name in fields if name in RENAMED]:
            said = ", ".join(f"{name} is {RENAMED[name]}" for name in old)
            print(f"ftlib: Experiment: names of schema 1 are read under those of schema 2: {said}", file=sys.stderr)
            fields = renamed(fields)
        fields = with_model(fields)
        if found := field_problems(fields):
            raise several(f"Experiment: {problem}" for problem in found)
        super().__init__(**fields)

    @classmethod
    def from_parameters(cls, namespace: Mapping[str, Any]) -> "Experiment":
        r"""The experiment that a notebook's parameters ask for: `Experiment.from_parameters(globals())`.

        Fields are taken by name, then those of the dictionary `overrides`, which win. Papermill accepts a misspelt
        parameter in silence; here a parameter that is nearly a field's name is an error. Other variables are ignored.
        In a notebook that no study executes, whose `run_dir` is empty, a model has `threads_alone`.

        Raises:
            FtlibError: As for the constructor, or a parameter is a misspelt field.

        >>> spec = Experiment.from_parameters({"method": "full", "tasks": ["a", "b"], "overrides": {"epochs": 3}})
        >>> spec.method, spec.epochs
        ('full', 3.0)
        >>> cell = "lerning_rate: float = 0.1\noverrides: dict = {}"
        >>> Experiment.from_parameters({"In": [cell], "lerning_rate": 0.1})
        Traceback (most recent call last):
            ...
        ftlib.core.errors.FtlibError: parameter 'lerning_rate' is not a field; did you mean 'learning_rate'?
        """
        for name in sorted(_declared(namespace.get("In", ())) & namespace.keys() - cls.model_fields.keys()):
            if near := difflib.get_close_matches(name, cls.model_fields, n=1, cutoff=0.85):
                raise FtlibError(f"parameter {name!r} is not a field; did you mean {near[0]!r}?")
        overrides = namespace.get("overrides", {})
        if not isinstance(overrides, dict):
            raise FtlibError(f'overrides: found {overrides!r}; allowed: fields by name, for example {{"epochs": 3}}')
        # A function may be called as a field is, such as `save`.
        given = {name: namespace[name] for name in cls.model_fields if not callable(namespace.get(name, print))}
        spec = cls(**given | overrides)
        alone = namespace.get("run_dir") == "" and spec.processes == 1 and METHODS[spec.method].model
        # One run at a time: nobody else wants the other cores.
        return cls(**{"threads": threads_alone()} | given | overrides) if alone else spec

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
        return self.model_dump(include={"text_column", "label_column", "label_words", "group_columns", "quoting"})

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
        values["notebook"] = self.notebook or (SEQUENCE if self.continued or self.interpolation else own)
        if not method.model:
            values["model"] = ""
        return values

    @cached_property
    def run_id(self) -> str:
        """Sixteen hex digits: the SHA-256 of the resolved spec and the schema version.

        A field at its default is left out, so that a field that is added later leaves old records valid; a default that
        changes is a change of meaning and bumps SCHEMA.
        """
        default = _defaults()
        # Whether the model is kept changes nothing about it.
        asked = {name: value for name, value in self.resolved().items() if value != default[name] and name != "save"}
        return digest({"schema": SCHEMA, "spec": asked})[:16]

    def __repr__(self) -> str:
        return f"Experiment({', '.join(f'{name}={value!r}' for name, (value, _) in self._given().items())})"

    def __str__(self) -> str:
        return repr(self)

    def _given(self) -> dict[str, tuple[Any, Any]]:
        """What differs from the defaults: field -> its value, and the default."""
        passed = self.passed()
        plain = {name: field.get_default(call_default_factory=True) for name, field in Fields.model_fields.items()}
        return {name: (passed[name], plain[name]) for name in plain if passed.get(name, plain[name]) != plain[name]}

    def _repr_html_(self) -> str:
        from ftlib.core.html import fold, paragraph, table

        given, resolved = self._given(), self.resolved()
        said = {name: str(field.description) for name, field in type(self).model_fields.items()}
        plain = {name: field.get_default(call_default_factory=True) for name, field in type(self).model_fields.items()}
        rows = [(name, json.dumps(resolved[name]), json.dumps(plain[name]), said[name]) for name in given]
        rest = [
            (name, json.dumps(resolved[name]), "method" if resolved[name] != plain[name] else "default", said[name])
            for name in said
            if name not in given
        ]
        rest.sort(key=lambda row: row[2] == "default")
        shown = (
            table(("field", "value", "default", "meaning"), rows) if rows else paragraph("Every field at its default.")
        )
        return shown + fold(f"{len(rest)} more fields", table(("field", "value", "from", "meaning"), rest))


def _declared(cells: Sequence[str]) -> set[str]:
    r"""The parameters among the names of executed cells: those of the parameters cell, and what Papermill injects.

    The parameters cell is the last one that declares `overrides`; what Papermill injects begins with a comment.

    >>> cell = "seed: int = 0  # draws the examples\noverrides: dict = {}"
    >>> sorted(_declared(["epoch: int = 3", cell, "# Parameters\nbatch = 8", "tasks = []"]))
    ['batch', 'overrides', 'seed']
    """
    declaring = [cell for cell in cells if re.search(r"^overrides: dict = ", cell, re.MULTILINE)]
    injected = [cell for cell in cells if cell.startswith("# Parameters\n")]
    return set(re.findall(r"^(\w+)(?:: \w+)? = ", "\n".join([*declaring[-1:], *injected[-1:]]), re.MULTILINE))


class Override(BaseModel):
    """What the plan settles otherwise for one task: both, since a margin is in the unit of its metric."""

    model_config = CHECKED

    primary: str = Field(description="the metric the verdicts about this task are about")
    margin: float = Field(gt=0, description="smallest difference that matters, in that metric's unit")


class Plan(BaseModel):
    """What a study settles before anything trains."""

    model_config = CHECKED

    primary: str = Field("accuracy", description="the metric the verdicts are about")
    margin: float = Field(0.01, gt=0, description="smallest difference that matters, in the metric's unit")
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        default_factory=lambda: [0],
        min_length=1,
        description="one run each for what draws; not given: 0, and 0 to 9 for what draws shots",
    )
    target: float | None = Field(
        None,
        exclude_if=lambda target: target is None,
        description="level of the primary metric that is wanted; the report says how many labels each method needs",
    )
    evaluations: list[str] = Field(default_factory=list, description="what else every run measures before and after")
    tuning: dict[str, int] = Field(
        default_factory=dict, description="settings every trained method may try on validation"
    )
    # Left out where empty, so that plans from before there was such a field keep their hash.
    tasks: dict[str, Annotated[Override, Field(strict=False)]] = Field(
        default_factory=dict,
        exclude_if=lambda tasks: not tasks,
        description="primary and margin of single tasks, where they are not the plan's: [plan.tasks.NAME]",
    )

    def _repr_html_(self) -> str:
        from ftlib.core.html import table

        said = self.model_dump(mode="json")
        fields = type(self).model_fields
        return table(
            ("the plan", "value", "meaning"),
            [(name, json.dumps(value), str(fields[name].description)) for name, value in said.items() if value != {}],
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


@cache
def _defaults() -> Mapping[str, Any]:
    """Every field of an experiment at its default."""
    return {name: field.get_default(call_default_factory=True) for name, field in Fields.model_fields.items()}


USUAL: Mapping[str, Override] = {
    name: Override(primary=kind.primary, margin=kind.margin) for name, kind in KINDS.items()
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
    """What every record of a study carries, so that a plan that changed later shows: sixteen hex digits.

    It is over what the plan comes to, not over what was written: where seeds are left out, runs that draw shots have
    others than the rest.

    >>> hash_of("?", Plan()) == hash_of("?", Plan(seeds=[0]))
    False
    >>> hash_of("?", Plan(seeds=[0])) == hash_of("?", Plan(seeds=[0], primary="accuracy"))
    True
    """
    few, many = (plan.seeds_of({"method": "full", "shots": shots}) for shots in (1, 0))
    seeds = many if few == many else {"with shots": few, "without": many}
    return digest({"question": question, "plan": plan.model_dump() | {"seeds": seeds}})[:16]


def draws(cell: Mapping[str, Any]) -> bool:
    """Whether a run's result depends on the seed: TF-IDF and the probe do only when they draw a subset."""
    method = METHODS[cell["method"]] if "method" in cell else METHODS["zero_shot"]
    return method.trains or (method.draws and bool(cell.get("shots") or cell.get("train_limit")))
