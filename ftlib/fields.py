"""The fields of an experiment, and everything that can be wrong with them, in words.

Each problem says where it is, what was found and what is allowed; all are found at once, before a kernel starts or a
byte is downloaded.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ftlib.data import PROBES, TASKS, kind_of
from ftlib.errors import unknown
from ftlib.families import DECODER, ENCODER, family_of, read_config
from ftlib.methods import CHOICES, METHODS, SHARES, Method

BUNDLED_MODELS: Mapping[str, str] = {
    "minilm": "all-MiniLM-L6-v2: an encoder of 22.7 M parameters for English sentences, Apache-2.0",
    "tiny-lm": "a decoder of 7.2 M parameters for English text, trained by this project (see its card)",
}
"""Models that need no network: name -> what it is."""

TRAINING = ("learning_rate", "epochs", "min_steps", "batch_size")
"""Fields of methods that train; at 0 the method's default."""

HOW = ("validations", "patience", "gradient_accumulation", "gradient_checkpointing", "torch_compile", "processes")
"""Fields of methods that train, the same for all of them: how the training is watched and carried out."""

_FAMILIES = {"minilm": ENCODER, "tiny-lm": DECODER}

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")


class Fields(BaseModel):
    """The fields of an Experiment; checked here by type and range, and by `field_problems` against each other."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, protected_namespaces=())

    task: str = Field("pydocs", description="bundled name, file:PATH or hub:ID[@revision]")
    model: str = Field("minilm", description="bundled name, local folder, or Hub id[@revision]")
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
    validations: int = Field(
        0, ge=0, le=1000, description="times the loss on validation is measured while training; 0: 5, none with shots"
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
    torch_compile: bool = Field(
        False, description="compile the model before training: a minute or more at first; no gain measured on a CPU"
    )
    processes: int = Field(1, ge=1, le=1024, description="processes that share each step of one training (torchrun)")
    max_length: int = Field(128, ge=8, le=8192, description="tokens; longer texts are cut there")
    context: int = Field(
        0, ge=0, description="tokens a language model sees at once when measured; 0: 512, or what it can see"
    )
    stride: int = Field(0, ge=0, description="tokens from one such window to the next; 0: half the context")
    probes: list[str] = Field(default_factory=list, description="measured before and after beside the task")
    text_column: str = Field("", description="column holding the text; empty: guessed from the usual names")
    label_column: str = Field("", description="column holding the label; empty: guessed from the usual names")
    label_words: dict[str, str] = Field(
        default_factory=dict, description="what a label means, in words, e.g. {'0': 'negative', '1': 'positive'}"
    )
    group_columns: list[str] = Field(default_factory=list, description="columns naming groups of people")
    tuning: dict[str, int] = Field(
        default_factory=dict, description="settings tried on validation, e.g. {'learning_rate': 3}"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto: cuda, then mps, then cpu")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="arithmetic of matrix products; auto: bfloat16 autocast where the processor has it"
    )
    threads: int = Field(1, ge=1, le=1024, description="CPU threads; part of the result, so fixed by the spec")
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
                problems.append(f"{where}: found {item['input']!r}; {said} ({name}: {meaning})")
        return problems, wrong
    return [], set()


def field_problems(fields: Mapping[str, Any], *, check_files: bool = True) -> list[str]:
    """Everything that is wrong with an experiment's fields, in words; empty when nothing is.

    Args:
        fields: The fields as given.
        check_files: Whether data and models named by a path must be there.
    """
    problems, wrong = model_problems(fields, Fields)
    values = {name: field.get_default(call_default_factory=True) for name, field in Fields.model_fields.items()}
    values |= {name: value for name, value in fields.items() if name in values and name not in wrong}

    method = METHODS.get(values["method"])
    if method is None:
        problems.append(str(unknown("method", values["method"], METHODS)))
    if check_files:
        problems += task_name_problems(values["task"]) + model_name_problems(values["model"])
    problems += [str(unknown("probes", probe, PROBES)) for probe in values["probes"] if probe not in PROBES]
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
        problems += _method_problems(method, values) + _fit_problems(method, values)
    return problems


def _fit_problems(method: Method, values: Mapping[str, Any]) -> list[str]:
    """Whether the method serves tasks of this kind and models of this family."""
    kind = kind_of(values["task"])
    if kind not in method.serves:
        others = [m.name for m in METHODS.values() if kind in m.serves]
        return [f"method: {method.name} cannot be used on {values['task']}, a {kind} task; choose from {others}"]
    if not method.model or not (family := known_family(values["model"])):
        return []
    problem = family_problem(method, kind, values["model"], family)
    return [problem] if problem else []


def known_family(model: str) -> str:
    """The family of a model that is here; empty where only its download will tell."""
    if model in _FAMILIES:
        return _FAMILIES[model]
    folder = Path(model)
    return family_of(read_config(folder)) if (folder / "config.json").is_file() else ""


def family_problem(method: Method, kind: str, model: str, family: str) -> str:
    """Why the method does not serve a model of this family on a task of this kind; empty where it does."""
    if family in method.serves[kind]:
        return ""
    return (
        f"model: {method.name} on a {kind} task needs a model of the family {' or '.join(method.serves[kind])}; "
        f"{model} is of the family {family} (a bundled decoder: tiny-lm)"
    )


def _method_problems(method: Method, values: Mapping[str, Any]) -> list[str]:
    problems = []
    for name, value in values["method_args"].items():
        if name not in method.arguments:
            problems.append(str(unknown(f"method_args of {method.name}", name, method.arguments)))
            continue
        default = method.arguments[name][0]
        fits = (int, float) if isinstance(default, float) else (type(default),)
        if isinstance(value, bool) or not isinstance(value, fits):
            problems.append(f"method_args.{name}: found {value!r}; allowed: {type(default).__name__}")
        elif name in CHOICES and value not in CHOICES[name]:
            problems.append(f"method_args.{name}: found {value!r}; allowed: {', '.join(CHOICES[name])}")
        elif name in SHARES and not 0 <= value < 1:
            problems.append(f"method_args.{name}: found {value!r}; allowed: 0 to below 1")
        elif name == "template" and value and "{label}" not in value:
            problems.append(f"method_args.template: found {value!r}; it must contain {{label}}")
        elif name not in SHARES and not isinstance(value, str) and not 0 < value < math.inf:
            problems.append(f"method_args.{name}: found {value!r}; allowed: a positive number")
    if not method.trains:
        for name in (*TRAINING, *HOW):
            if values[name] != Fields.model_fields[name].default:
                problems.append(f"{name}: {method.name} does not train; leave it out")
    if method.name == "setfit":
        for name in ("gradient_accumulation", "processes"):
            if values[name] > 1:
                problems.append(f"{name}: setfit's loss is over all pairs of a batch, not to be divided; leave it out")
    if values["gradient_checkpointing"] and method.name == "prefix_tuning":
        problems.append("gradient_checkpointing: prefix_tuning hands keys on from layer to layer; leave it out")
    if values["patience"] and values["shots"] and not values["validations"]:
        problems.append(
            "patience: with shots the loss on validation is not measured, since those labels would be more than the "
            "shots; say validations = 5 to use them all the same"
        )
    if method.name in ("majority", "zero_shot") and values["shots"]:
        problems.append(f"shots: {method.name} draws no examples; leave it out")
    if method.needs_shots and not values["shots"] and not values["train_limit"]:
        problems.append(f"shots: {method.name} needs a number of examples per class, e.g. shots = 1")
    return problems


def task_name_problems(task: str) -> list[str]:
    """Whether a task's name can be one; the data behind it is read later."""
    if task.startswith("hub:"):
        good = re.fullmatch(r"[\w./-]+(@[\w./-]+)?", task[4:])
        return [] if good else [f"task: found {task!r}; allowed: hub:ID or hub:ID@revision"]
    if task.startswith("file:"):
        return [] if Path(task[5:]).exists() else [f"task: no file or folder at {task[5:]!r} (from {Path.cwd()})"]
    return [] if task in TASKS else [f"{unknown('task', task, TASKS)}; or file:PATH, or hub:ID[@revision]"]


def model_name_problems(model: str) -> list[str]:
    """Whether a model's name can be one: bundled, a local folder with a config.json, or a Hub id."""
    if model in BUNDLED_MODELS:
        return []
    folder = Path(model)
    if folder.is_dir():
        return [] if (folder / "config.json").is_file() else [f"model: {model!r} is a folder without config.json"]
    looks_like_path = model.startswith((".", "/", "~")) or "\\" in model or model.count("/") > 1
    if looks_like_path or not _HUB_ID.fullmatch(model):
        return [
            f"{unknown('model', model, BUNDLED_MODELS)}; or a local folder, or a Hub id such as owner/name[@revision]"
        ]
    return []
