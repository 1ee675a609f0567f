"""The fields of an experiment, and everything that can be wrong with them, in words.

Each problem says where it is, what was found and what is allowed; all are found at once, before a kernel starts or a
byte is downloaded.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ftlib import canaries
from ftlib.data import PROBES, TASKS, kind_of
from ftlib.data.probes import BIASES, is_bias
from ftlib.data.probes import problems as probe_problems
from ftlib.errors import unknown
from ftlib.families import DECODER, ENCODER, family_of, read_config
from ftlib.methods import CHOICES, CLASSIFICATION, METHODS, SHARES, Method

BUNDLED_MODELS: Mapping[str, str] = {
    "minilm": "all-MiniLM-L6-v2: an encoder of 22.7 M parameters for English sentences, Apache-2.0",
    "tiny-lm": "a decoder of 7.2 M parameters for English text, trained by this project (see its card)",
}
"""Models that need no network: name -> what it is."""

TRAINING = ("learning_rate", "epochs", "min_steps", "batch_size")
"""Fields of methods that train; at 0 the method's default."""

HOW = ("validations", "patience", "gradient_accumulation", "gradient_checkpointing", "torch_compile", "processes")
"""Fields of methods that train, the same for all of them: how the training is watched and carried out."""

COURSE = ("earlier", "together", "replay", "l2_sp", "ewc")
"""Fields that make a training more than one task's own: at their defaults it is just that."""

MITIGATED = ("baselines", "few_shot", "full", "adapters", "partial")
"""Files of methods whose training examples a mitigation can change."""

CONTINUED = (*COURSE, "earlier_limit", "sampling", "ewc_samples", "alphas")
"""Fields of methods whose training goes on, in the notebook of those runs alone."""

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
    earlier: list[str] = Field(
        default_factory=list, description="tasks, named as task is, that the model is trained on before, in this order"
    )
    together: list[str] = Field(
        default_factory=list, description="tasks, named as task is, that the model is trained on at the same time"
    )
    earlier_limit: int = Field(
        0, ge=0, description="training examples of each earlier or joint task, at most; 0: as train_limit says, or all"
    )
    sampling: Literal["proportional", "equal", "temperature"] = Field(
        "proportional", description="how often each joint task is drawn: by its size, all alike, or by its square root"
    )
    replay: float = Field(
        0.0, ge=0, le=1, description="share of the old examples mixed with the new; of a language model, general text"
    )
    l2_sp: float = Field(0.0, ge=0, description="strength of the pull back to the untouched weights, no unit; 0: off")
    ewc: float = Field(
        0.0, ge=0, description="strength of elastic weight consolidation for the earlier tasks, no unit; 0: off"
    )
    ewc_samples: int = Field(128, ge=1, description="old examples whose gradients say which weights matter to them")
    alphas: list[Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=list,
        description="shares of the way from untouched to adapted weights, also measured; in hundredths",
    )
    canaries: list[Annotated[int, Field(ge=0, le=1000)]] = Field(
        default_factory=list,
        description="how often made-up secrets are planted in the training text, e.g. [0, 1, 16]: what is memorised?",
    )
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
        for name in ("earlier", "together"):
            problems += [f"{name}: {said}" for task in values[name] for said in task_name_problems(task)]
    known = [*PROBES, *BIASES]
    problems += [str(unknown("probes", p, known)) for p in values["probes"] if p not in PROBES and not is_bias(p)]
    problems += probe_problems([p for p in values["probes"] if is_bias(p)], check_files=check_files)
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
        problems += _method_problems(method, values) + _fit_problems(method, values) + _course_problems(method, values)
        problems += _canary_problems(method, values)
    return problems


def _canary_problems(method: Method, values: Mapping[str, Any]) -> list[str]:
    """Whether canaries can be planted and looked for."""
    if not values["canaries"]:
        return []
    problems = canaries.problems(values["canaries"])
    if (kind := kind_of(values["task"])) == CLASSIFICATION:
        problems.append(f"canaries: are planted in text to be modelled; {values['task']} is a {kind} task")
    if not method.model:
        problems.append(f"canaries: {method.name} uses no model that could memorise them; leave it out")
    return problems


def short_name(task: str) -> str:
    """What a task is called as a part of a record: of a path its last component without ending.

    >>> short_name("pydocs"), short_name("file:data/trec6"), short_name("hub:stanfordnlp/sst2@abc")
    ('pydocs', 'trec6', 'sst2')
    """
    if task.startswith("file:"):
        return Path(task[5:]).stem
    return task.removeprefix("hub:").partition("@")[0].rpartition("/")[2]


def _course_problems(method: Method, values: Mapping[str, Any]) -> list[str]:
    """Whether a training on several tasks, or with what is known kept, can be carried out."""
    problems = []
    default = {name: Fields.model_fields[name].get_default(call_default_factory=True) for name in CONTINUED}
    asked = [name for name in COURSE if values[name] != default[name]]
    if bad := [alpha for alpha in values["alphas"] if round(100 * alpha) != round(100 * alpha, 6)]:
        problems.append(f"alphas: found {bad}; allowed: hundredths from 0 to 1")
    if values["alphas"] and not (method.trains and method.interpolates):
        able = [m.name for m in METHODS.values() if m.trains and m.interpolates]
        problems.append(f"alphas: {method.name} does not add to the untouched weights; allowed with {', '.join(able)}")
    if method.name == "merged" and not values["together"]:
        return ["together: merged needs the tasks whose adapters are merged with that of task"]
    if not asked:
        lone = [name for name in CONTINUED if name != "alphas" and values[name] != default[name]]
        return problems + [f"{name}: needs {' or '.join(COURSE[:2])}, or ewc" for name in lone]
    if not (method.trains and method.continues):
        able = [m.name for m in METHODS.values() if m.trains and m.continues]
        return [*problems, f"{', '.join(asked)}: {method.name} trains for one task alone; allowed: {', '.join(able)}"]
    if method.name == "merged" and (values["earlier"] or values["replay"] or values["ewc"] or values["alphas"]):
        problems.append("merged: its adapters are trained apart; name the tasks with together, nothing else")
    tasks = [values["task"], *values["earlier"], *values["together"]]
    names = [short_name(task) for task in tasks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"earlier, together: {', '.join(twice)} more than once; each task of a run once")
    taken = ("test", "validation", "general", "sequence", "groups", "gaps")
    if clash := [name for name in names[1:] if name in taken or ":" in name or name.startswith("tests.")]:
        problems.append(f"earlier, together: {', '.join(clash)} is what a record calls something else; rename the file")
    kind, kinds = kind_of(values["task"]), {task: kind_of(task) for task in tasks}
    if other := [task for task in values["together"] if kinds[task] != kind]:
        problems.append(f"together: {', '.join(other)} is not a {kind} task as {values['task']} is")
    old = [task for task in values["earlier"] if kinds[task] == kind]
    for name in ("replay", "ewc"):
        if values[name] and not old and kind == CLASSIFICATION:
            problems.append(f"{name}: there is nothing old; name earlier tasks of the same kind")
    for name in ("tuning", "gradient_accumulation", "processes", "mitigation"):
        if values[name] not in ({}, 1, ""):
            problems.append(f"{name}: not with {', '.join(asked)}; leave it out")
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
        elif name in SHARES and not _is_share(value, SHARES[name]):
            problems.append(f"method_args.{name}: found {value!r}; allowed: {SHARES[name]}")
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
    if values["mitigation"] and (method.module not in MITIGATED or kind_of(values["task"]) != CLASSIFICATION):
        able = [m.name for m in METHODS.values() if m.module in MITIGATED and m.name != "majority"]
        problems.append(f"mitigation: {method.name} on {values['task']}: allowed with {', '.join(able)}, on labels")
    if values["mitigation_column"] and values["mitigation"] not in ("reweight", "balance") and not method.groups:
        problems.append("mitigation_column: only reweight, balance, threshold and exponentiated go by a group column")
    if method.groups == "prediction" and any(p == "templates" or p.startswith("swaps") for p in values["probes"]):
        problems.append(
            f"probes: {method.name} must be told the group of every text, and these are made up; use exponentiated"
        )
    if method.name in ("majority", "zero_shot") and values["shots"]:
        problems.append(f"shots: {method.name} draws no examples; leave it out")
    if method.needs_shots and not values["shots"] and not values["train_limit"]:
        problems.append(f"shots: {method.name} needs a number of examples per class, e.g. shots = 1")
    return problems


def _is_share(value: float, which: str) -> bool:
    low = value > 0 if which.startswith("above") else value >= 0
    return low and (value < 1 if "below" in which else value <= 1)


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
