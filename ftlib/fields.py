"""The fields of an experiment, and everything that can be wrong with them, in words.

Each problem says where it is, what was found and what is allowed; all are found at once, before a kernel starts or a
byte is downloaded.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ftlib.combinations import combination_problems
from ftlib.data import PROBES
from ftlib.data.probes import BIASES, is_bias
from ftlib.data.probes import problems as probe_problems
from ftlib.errors import unknown
from ftlib.methods import METHODS
from ftlib.naming import model_name_problems, task_name_problems


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
    head: Literal["new", "probe"] = Field(
        "new",
        description="where an encoder's new head starts: new, from the seed; probe, at logistic regression on what the "
        "model gives it before training (Kumar et al. 2022)",
    )
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
    plain = {name: field.get_default(call_default_factory=True) for name, field in Fields.model_fields.items()}
    values = plain | {name: value for name, value in fields.items() if name in plain and name not in wrong}

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
        given = {name for name, value in values.items() if value != plain[name]}
        problems += combination_problems(method, values, given)
    return problems
