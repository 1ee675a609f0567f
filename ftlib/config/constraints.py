"""What of an experiment's fields cannot be: names of tasks and models, and what does not go together, in words."""

import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ftlib.config.methods import (
    CHOICES,
    METHODS,
    SHARES,
    Method,
    context_of,
    family_of,
    read_config,
)
from ftlib.core.errors import FtlibError, unknown
from ftlib.core.format import short_name
from ftlib.data import canaries
from ftlib.data.evaluations import made_up
from ftlib.data.kinds import ENCODER, ENCODER_DECODER, KINDS, directed
from ftlib.data.registry import TASKS, kind_of
from ftlib.metrics.registry import METRICS

BUNDLED_MODELS: Mapping[str, str] = {
    "minilm": "all-MiniLM-L6-v2: an encoder of 22.7 M parameters for English sentences, Apache-2.0",
    "tiny-lm": "a decoder of 7.2 M parameters for English text, trained by this project (see its card)",
    "tiny-mt": "an encoder-decoder of 5.3 M parameters, English to German, trained by this project (see its card)",
}
"""Models that need no network: name -> what it is."""

_CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "minilm": {"architectures": ["BertModel"], "max_position_embeddings": 512},
    "tiny-lm": {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 1024},
    "tiny-mt": {"architectures": ["MarianMTModel"], "is_encoder_decoder": True, "max_position_embeddings": 256},
}
"""What of a bundled model's configuration is asked before its files are looked for."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")


def task_name_problems(task: str) -> list[str]:
    """Whether a task's name can be one; the data behind it is read later."""
    bare, direction = directed(task)
    if task.startswith("hub:"):
        good = re.fullmatch(r"[\w./-]+(@[\w./-]+)?", bare[4:])
        return [] if good else [f"task: found {task!r}; allowed: hub:ID or hub:ID@revision, :SOURCE>TARGET behind it"]
    if task.startswith("file:"):
        there = Path(bare[5:]).exists() or (direction and all(Path(f"{bare[5:]}.{one}").exists() for one in direction))
        return [] if there else [f"task: no file or folder at {bare[5:]!r} (from {Path.cwd()})"]
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


def known_family(model: str) -> str:
    """The family of a model that is here; empty where only its download will tell."""
    config = known_config(model)
    return family_of(config) if config else ""


def known_config(model: str) -> Mapping[str, Any]:
    """The configuration of a model that is here; empty where only its download will tell."""
    folder = Path(model)
    if model in _CONFIGS or not (folder / "config.json").is_file():
        return _CONFIGS.get(model, {})
    try:
        return read_config(folder)
    except FtlibError:  # A damaged folder is named where its weights are looked for, beside all else that is wrong.
        return {}


TRAINING = ("learning_rate", "epochs", "min_steps", "batch_size")
"""Fields of methods that train; at 0 the method's default."""

OF_TERMS = ("augment", "scrub")
"""Mitigations that change gender terms, and go by no column of groups."""

HOW = (
    "head_init", "validations", "patience", "gradient_accumulation", "gradient_checkpointing", "processes",
)  # fmt: skip
"""Fields of methods that train, the same for all of them: how the training begins, is watched and carried out."""

COURSE = ("sequential_tasks", "joint_tasks", "replay", "l2_sp", "ewc")
"""Fields that make a training more than one task's own: at their defaults it is just that."""

WRITING = (
    "instruction", "source_language", "target_language", "num_beams", "length_penalty", "max_new_tokens",
    "label_smoothing",
)  # fmt: skip
"""Fields of tasks for which a model writes a text."""

CONTINUED = (*COURSE, "other_task_limit", "sampling", "ewc_samples", "interpolation")
"""Fields of methods whose training goes on, in the notebook of those runs alone."""


def combination_problems(method: Method, values: Mapping[str, Any], given: Collection[str]) -> list[str]:
    """What cannot be asked together, in words; empty where all of it can.

    Args:
        method: The experiment's.
        values: All its fields, each of the right type; at its default where it was not given.
        given: The fields that are not at their defaults.
    """
    return [
        *_argument_problems(method, values["method_args"]),
        *_method_problems(method, values, given),
        *_fit_problems(method, values),
        *_writing_problems(method, values, given),
        *_course_problems(method, values, given),
        *_quantise_problems(method, values, given),
        *_canary_problems(method, values),
    ]


def _argument_problems(method: Method, given: Mapping[str, Any]) -> list[str]:
    """Whether the method has these arguments, and may have such values."""
    problems = []
    for name, value in given.items():
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
    return problems


def _is_share(value: float, which: str) -> bool:
    low = value > 0 if which.startswith("above") else value >= 0
    return low and (value < 1 if "below" in which else value <= 1)


def _method_problems(method: Method, values: Mapping[str, Any], given: Collection[str]) -> list[str]:
    """Whether the method takes what it is given."""
    problems = []
    if not method.trains:
        asked = [name for name in (*TRAINING, *HOW) if name in given]
        problems += [f"{name}: {method.name} does not train; leave it out" for name in asked]
    if method.contrastive:
        problems += [
            f"{name}: {method.name}'s loss is over all pairs of a batch, not to be divided; leave it out"
            for name in ("gradient_accumulation", "processes")
            if values[name] > 1
        ]
    if values["gradient_checkpointing"] and not method.recomputes:
        problems.append(f"gradient_checkpointing: {method.name} hands keys on from layer to layer; leave it out")
    if values["patience"] and values["shots"] and not values["validations"]:
        problems.append(
            "patience: with shots the loss on validation is not measured, since those labels would be more than the "
            "shots; say validations = 5 to use them all the same"
        )
    if method.trains and values["head_init"] != "new":
        problems += _head_problems(method, values)
    if values["mitigation"] and not (method.mitigates and KINDS[kind_of(values["task"])].has_labels):
        able = [m.name for m in METHODS.values() if m.mitigates and not m.constant]
        problems.append(f"mitigation: {method.name} on {values['task']}: allowed with {', '.join(able)}, on labels")
    if values["mitigation_column"] and values["mitigation"] not in ("reweight", "balance") and not method.groups:
        problems.append("mitigation_column: only reweight, balance, threshold and exponentiated go by a group column")
    if method.groups == "prediction" and any(made_up(name) for name in values["evaluations"]):
        problems.append(
            f"evaluations: {method.name} must be told the group of every text, and these are made up; use exponentiated"
        )
    if not method.draws and values["shots"]:
        problems.append(f"shots: {method.name} draws no examples; leave it out")
    if method.needs_shots and not values["shots"] and not values["train_limit"]:
        problems.append(f"shots: {method.name} needs a number of examples per class, e.g. shots = 1")
    return problems


def _head_problems(method: Method, values: Mapping[str, Any]) -> list[str]:
    """Whether there is a new head that could start at a probe."""
    said = f'head_init: found "{values["head_init"]}"'
    if not method.new_head:
        able = [m.name for m in METHODS.values() if m.new_head and ENCODER in m.families]
        return [f"{said}; {method.name} trains no new head with the model; allowed with {', '.join(able)}"]
    if not KINDS[kind_of(values["task"])].has_labels:
        return [f"{said}; {values['task']} has no labels, so there is no head; leave it out"]
    if (family := known_family(values["model"])) not in ("", ENCODER):
        return [f"{said}; {values['model']} is of the family {family} and answers in words; leave it out"]
    return []


def _fit_problems(method: Method, values: Mapping[str, Any]) -> list[str]:
    """Whether the method serves tasks of this kind and models of this family."""
    kind = kind_of(values["task"])
    if kind not in method.serves:
        others = [m.name for m in METHODS.values() if kind in m.serves]
        return [f"method: {method.name} cannot be used on {values['task']}, a {kind} task; choose from {others}"]
    if not method.model or not (family := known_family(values["model"])):
        return []
    problem = family_problem(method, kind, values["model"], family)
    length = length_problem(kind, values["model"], known_config(values["model"]), values["max_length"])
    return [said for said in (problem, length) if said]


def _writing_problems(method: Method, values: Mapping[str, Any], given: Collection[str]) -> list[str]:
    """Whether how texts are written is said where some are written, and nothing of labels where there are none."""
    kind = KINDS[kind_of(values["task"])]
    if not kind.writes:
        asked = [name for name in WRITING if name in given]
        return [
            f"{name}: {values['task']} is a {kind.name} task, of which no text is written; leave it out"
            for name in asked
        ]
    problems = []
    if values["instruction"] and values["instruction"].count("{text}") != 1:
        problems.append(f"instruction: found {values['instruction']!r}; it must contain {{text}} once")
    if values["length_penalty"] != 1 and values["num_beams"] == 1:
        problems.append("length_penalty: one beam has nothing to choose between; with num_beams = 4, say")
    if values["label_smoothing"] and not method.trains:
        problems.append(f"label_smoothing: {method.name} does not train; leave it out")
    if values["shots"]:
        problems.append("shots: are examples per class, and there are no classes; say how many with train_limit")
    if told := [name for name in ("label_words", "group_columns") if values[name]]:
        problems.append(f"{' and '.join(told)}: {values['task']} has no labels; leave out")
    of_labels = ("template", "calibration", "normalisation", "scale")
    problems += [
        f"method_args.{name}: is about labels, of which {values['task']} has none; see the field instruction"
        for name in of_labels
        if name in values["method_args"]
    ]
    return problems


def family_problem(method: Method, kind: str, model: str, family: str) -> str:
    """Why the method does not serve a model of this family on a task of this kind; empty where it does."""
    if family in method.serves[kind]:
        return ""
    return (
        f"model: {method.name} on a {kind} task needs a model of the family {' or '.join(method.serves[kind])}; "
        f"{model} is of the family {family} (bundled: a decoder, tiny-lm, and an encoder-decoder, tiny-mt)"
    )


def length_problem(kind: str, model: str, config: Mapping[str, Any], max_length: int) -> str:
    """Why a model with a place for each token cannot read texts of `max_length` tokens; empty where it can.

    >>> length_problem("classification", "minilm", known_config("minilm"), 4096)
    'max_length: found 4096; allowed: at most 512, as many tokens as minilm has positions for'
    """
    most = context_of(config)
    if KINDS[kind].writes:
        # Positions of T5 are relative: what its configuration calls its positions is what it was trained with.
        most = most if config.get("max_position_embeddings") and family_of(config) == ENCODER_DECODER else None
    elif family_of(config) != ENCODER or not KINDS[kind].has_labels:
        most = None
    if most is None or max_length <= most:
        return ""
    return f"max_length: found {max_length}; allowed: at most {most}, as many tokens as {model} has positions for"


def _course_problems(method: Method, values: Mapping[str, Any], given: Collection[str]) -> list[str]:
    """Whether a training on several tasks, or with what is known kept, can be carried out."""
    problems = []
    asked = [name for name in COURSE if name in given]
    if bad := [alpha for alpha in values["interpolation"] if round(100 * alpha) != round(100 * alpha, 6)]:
        problems.append(f"interpolation: found {bad}; allowed: hundredths from 0 to 1")
    if values["interpolation"] and not (method.trains and method.interpolates):
        able = [m.name for m in METHODS.values() if m.trains and m.interpolates]
        said = f"interpolation: {method.name} does not add to the base model's weights; allowed with"
        problems.append(f"{said} {', '.join(able)}")
    if method.merges and not values["joint_tasks"]:
        return [f"joint_tasks: {method.name} needs the tasks whose adapters are merged with that of task"]
    if not asked:
        lone = [name for name in CONTINUED if name != "interpolation" and name in given]
        return problems + [f"{name}: needs {' or '.join(COURSE[:2])}, or ewc" for name in lone]
    if not (method.trains and method.continues):
        able = [m.name for m in METHODS.values() if m.trains and m.continues]
        return [*problems, f"{', '.join(asked)}: {method.name} trains for one task alone; allowed: {', '.join(able)}"]
    if method.merges and any(values[name] for name in ("sequential_tasks", "replay", "ewc", "interpolation")):
        problems.append(f"{method.name}: its adapters are trained apart; name the tasks with joint_tasks, nothing else")
    tasks = [values["task"], *values["sequential_tasks"], *values["joint_tasks"]]
    names = [short_name(task) for task in tasks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"sequential_tasks, joint_tasks: {', '.join(twice)} more than once; each task of a run once")
    taken = ("test", "validation", "general", "sequence", "groups", "gaps")
    if clash := [name for name in names[1:] if name in taken or ":" in name or name.startswith("tests.")]:
        said = f"sequential_tasks, joint_tasks: {', '.join(clash)} is what a record calls something else"
        problems.append(f"{said}; rename the file")
    kind, kinds = kind_of(values["task"]), {task: kind_of(task) for task in tasks}
    if other := [task for task in values["joint_tasks"] if kinds[task] != kind]:
        problems.append(f"joint_tasks: {', '.join(other)} is not a {kind} task as {values['task']} is")
    old = [task for task in values["sequential_tasks"] if kinds[task] == kind]
    for name in ("replay", "ewc"):
        # Whether a task of pairs has old ones is seen when it is read.
        if values[name] and not old and KINDS[kind].has_labels:
            problems.append(f"{name}: there is nothing old; name sequential_tasks of the same kind")
    apart = [name for name in ("tuning", "gradient_accumulation", "processes", "mitigation") if name in given]
    return problems + [f"{name}: not with {', '.join(asked)}; leave it out" for name in apart]


def _quantise_problems(method: Method, values: Mapping[str, Any], given: Collection[str]) -> list[str]:
    """Whether there is a trained model that can be put into bytes."""
    if not values["quantise"]:
        return []
    said = f'quantise: found "{values["quantise"]}"; '
    if not method.trains or method.quantised:
        able = [m.name for m in METHODS.values() if m.trains and not m.quantised]
        return [f"{said}{method.name} trains no model in float32; allowed with {', '.join(able)}"]
    problems = [f"{said}not with {name}, which goes on from float32 weights" for name in CONTINUED if name in given]
    if values["save"] and method.not_in_int8:
        problems.append(f"{said}{method.not_in_int8}; leave out save")
    if values["device"] not in ("auto", "cpu"):
        problems.append(f'{said}a processor multiplies bytes here, not {values["device"]}; device = "cpu"')
    return problems


def _canary_problems(method: Method, values: Mapping[str, Any]) -> list[str]:
    """Whether canaries can be planted and looked for."""
    if not values["canaries"]:
        return []
    problems = canaries.problems(values["canaries"])
    if not KINDS[kind := kind_of(values["task"])].of_text:
        problems.append(f"canaries: are planted in text to be modelled; {values['task']} is a {kind} task")
    if not method.model:
        problems.append(f"canaries: {method.name} uses no model that could memorise them; leave it out")
    return problems


def size_problems(primary: str, margin: float, target: float | None = None) -> list[str]:
    """Whether a margin and a target are ones that the metric can have.

    >>> size_problems("accuracy", 2.0)
    ['margin: found 2; accuracy is from 0 to 1: two points are 0.02']
    >>> size_problems("chrf", 2.0), size_problems("accuracy", 0.01, 0.7)
    ([], [])
    """
    bounds = METRICS[primary].bounds if primary in METRICS else None
    if bounds is None:
        return []
    low, high = bounds
    said = f"{primary} is from {low:g} to {high:g}" + (": two points are 0.02" if (low, high) == (0, 1) else "")
    problems = [f"margin: found {margin:g}; {said}"] if margin >= high - low else []
    if target is not None and not low <= target <= high:
        problems.append(f"target: found {target:g}; {said}")
    return problems
