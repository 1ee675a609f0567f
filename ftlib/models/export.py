"""Adapted models as folders that anybody loads without ftlib: saved, checked in a process of its own, and read again.

A folder holds what transformers, peft or scikit-learn read (safetensors and JSON, never a pickle), the tokenizer as it
was used, `prediction.json` (labels in order, prompt, cut, temperature), and README.md, whose code is all that a user
needs: `probabilities(texts)`, or `nats(texts)` for a model of text without labels, or `write(texts)` and `nats(texts,
targets)` for one that writes. The check runs just that code, in a fresh process without ftlib, so that what is
documented is what was tested.
"""

import copy
import inspect
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib.config.methods import ENCODER, ENCODER_DECODER, METHODS
from ftlib.core.errors import FtlibError, listed_texts
from ftlib.core.format import short_name, typed
from ftlib.data.kinds import DECODER, LOADERS
from ftlib.models.heads import Head

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from ftlib.config.experiment import Experiment
    from ftlib.data.task import Task
    from ftlib.models.generation import Reading
    from ftlib.models.loading import Model
    from ftlib.models.prompts import Prompt

FACTS, HEAD, INT8 = "prediction.json", "head.safetensors", "int8.safetensors"

TOLERANCE = 1e-5
"""The largest difference between the answers of a saved model and those of the run, in float32."""

NEEDED = {"adapter", "family", "library", "max_length", "method", "task", "tasks"}
"""What prediction.json says of every model."""

PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")

INT8_TOLERANCE = 0.01
"""The same of a model in int8, each text alone: a rounding error may turn into one of a whole step."""

CHECKED = 32
"""Test examples, at most, that a saved model is asked in a process of its own."""


class Question(NamedTuple):
    """How a model is asked about one task."""

    labels: Sequence[str] = ()
    """None: the task is text to be modelled."""
    rows: Sequence[int] | None = None
    """Which of the head's outputs are this task's; None: all."""
    template: str = ""
    """With {text} and {label}, for a model that answers in words."""
    words: Sequence[str] = ()
    """What each label means."""
    prefix: str = ""
    """What stands before every question."""
    calibration: str = "none"
    normalisation: str = "none"
    writing: Mapping[str, Any] | None = None
    """How texts are written, for a model that writes them: `num_beams`, `length_penalty`, `max_new_tokens`,
    `source_language`, `target_language`, and `lines`, whether an answer ends with its line. `template` is the
    instruction then, and texts stand before it in `prefix`."""


def in_words(task: "Task", prompt: "Prompt", prefix: str = "", **options: str) -> Question:
    """The question of a model that answers in words."""
    return Question(task.labels, None, prompt.template, prompt.words, prefix, **options)


@dataclass
class Saveable:
    """What of an adapted model is saved, and how it is asked."""

    model: "Model | None" = None
    module: "torch.nn.Module | Callable[[], torch.nn.Module] | None" = None
    """The adapted one, or what loads the untouched one."""
    head: Callable[[], Head] | None = None
    """What was fitted to features or words, once training is finished."""
    questions: Mapping[str, Question] = field(default_factory=dict)
    """By the task's short name; the run's own first."""
    base: str = ""
    """The base model's name, where what is saved does not hold it."""

    def ready(self, spec: "Experiment", precise: bool = False) -> "SavedModel":
        """The model as it would be read from its folder, without writing it.

        Args:
            spec: max_length and method are read.
            precise: Whether it multiplies in float32 whatever the run does.
        """
        module = self.module
        if callable(module) and not hasattr(module, "save_pretrained"):
            module = module()
        model = replace(self.model, dtype="float32") if precise and self.model else self.model
        tasks = {name: question._asdict() for name, question in self.questions.items()}
        facts = {
            "method": spec.method,
            "library": METHODS[spec.method].saves,
            "base_model": self.model.name if self.model else self.base or None,
            "family": self.model.family if self.model else None,
            "max_length": spec.max_length,
            "task": next(iter(tasks)),
            "tasks": tasks,
        }
        return SavedModel(model, module, self.head() if self.head else None, facts)


class Answers(NamedTuple):
    """What a model says of texts, in their order."""

    labels: "np.ndarray"
    """(n,) the likeliest label of each."""
    probability: "np.ndarray"
    """(n,) of that label, calibrated where validation allowed."""
    cut: "np.ndarray"
    """(n,) whether the text was longer than the model reads, so that its end was not seen."""


class SavedModel:
    """A model that answers texts, as it was saved."""

    def __init__(self, model: "Model | None", module: Any, head: Head | None, facts: Mapping[str, Any]) -> None:
        self.model, self.module, self.head, self.facts = model, module, head, facts
        self._readings: dict[str, Any] = {}

    def __repr__(self) -> str:
        asked = "; ".join(f"{name}: {', '.join(one.labels) or 'text'}" for name, one in self.questions.items())
        return f"SavedModel({self.facts.get('method', '')} of {self.facts.get('base_model') or 'no model'}; {asked})"

    @property
    def questions(self) -> dict[str, Question]:
        """By the task's short name."""
        return {name: Question(**said) for name, said in self.facts["tasks"].items()}

    def question(self, task: str = "") -> Question:
        """How it is asked about a task; about its own where none is named.

        Raises:
            FtlibError: It was not adapted to that task.
        """
        known = self.questions
        if (name := short_name(task) if task else self.facts["task"]) not in known:
            raise FtlibError(f"task: found {task!r}; this model was adapted to {', '.join(known)}")
        return known[name]

    @property
    def labels(self) -> tuple[str, ...]:
        """Of its own task, in order."""
        return tuple(self.question().labels)

    def probabilities(
        self, texts: Sequence[str], task: str = "", groups: Sequence[str] | None = None, batch_size: int = 64
    ) -> np.ndarray:
        """(n_texts, n_labels); rows sum to 1, columns in the order of the task's labels; as the run has them.

        Args:
            texts: Any number.
            task: Short name; empty: the run's own.
            groups: (n_texts,) for a model that goes by them.
            batch_size: Texts at once; changes speed and memory, not results.

        Raises:
            FtlibError: The task has no labels, the model must be told the groups, or the texts are no list of texts.
        """
        texts = listed_texts(texts)
        question = self.question(task)
        if not question.labels:
            has = "texts, by write()" if question.writing else "likelihoods"
            raise FtlibError(f"this model was adapted to text without labels; it has {has}, no labels to give")
        if not len(texts):
            return np.zeros((0, len(question.labels)))
        if self.head is not None:
            return self.head(self._inputs(texts, batch_size), groups)
        from ftlib.config.experiment import Experiment
        from ftlib.models import inference, prompts

        most = self.facts["max_length"]
        if self.model.family == ENCODER:
            found = inference.module_probabilities(self.module, self.model, most, batch_size)(texts)
            if question.rows is None:
                return found
            found = found[:, slice(*question.rows)]
            return found / found.sum(axis=1, keepdims=True)
        # Likelihoods are sums over many tokens: in float32.
        spec, prompt = Experiment(max_length=most, dtype="float32"), prompts.Prompt(question.template, question.words)
        options = {"calibration": question.calibration, "normalisation": question.normalisation}
        return inference.prompted(self.module, self.model, spec, prompt, question.prefix, **options)(texts)

    def _inputs(self, texts: Sequence[str], batch_size: int) -> Any:
        if self.model is None:
            return texts if self.module is None else self._static(texts)[0]
        from ftlib.models.loading import features_in_use

        return features_in_use(self.module, self.model, texts, self.facts["max_length"], batch_size)

    def predict(self, texts: Sequence[str], task: str = "", groups: Sequence[str] | None = None) -> Answers:
        """The label of every text, its probability, and whether the text was cut.

        Raises:
            FtlibError: As for `probabilities`.
        """
        texts = listed_texts(texts)
        if self.model is None and self.module is not None and len(texts):
            # Reading a text is most of the work, so it is read once.
            inputs, cut = self._static(texts)
            found = self.calibrated(self.head(inputs, groups))
        else:
            found, cut = self.calibrated(self.probabilities(texts, task, groups)), self.cut(texts)
        best = found.argmax(axis=1) if len(texts) else np.zeros(0, int)
        labels = np.asarray(self.question(task).labels, dtype=object)
        if found.shape[1] != len(labels):
            raise FtlibError(f"{FACTS} names {len(labels)} labels, the weights give {found.shape[1]}; export it again")
        return Answers(labels[best], found[np.arange(len(best)), best], cut)

    def calibrated(self, probabilities: np.ndarray) -> np.ndarray:
        """The probabilities at the temperature that validation chose; as they are where it chose none."""
        from ftlib.metrics.calibration import at_temperature

        chosen = self.facts.get("temperature") or {}
        return at_temperature(probabilities, chosen["value"]) if chosen.get("value") else probabilities

    def write(self, texts: Sequence[str], task: str = "") -> list[str]:
        """What it writes for each text, multiplying in float32."""
        return [text for text, _ in self.reading(task).write(self.module, listed_texts(texts), "float32")]

    def rate(self, texts: Sequence[str], references: Sequence[str], task: str = "") -> np.ndarray:
        """(n, 2): the nats of each reference after its text, and its tokens."""
        return self.reading(task).rate(
            self.module, listed_texts(texts), listed_texts(references, "references"), "float32"
        )

    def reading(self, task: str = "") -> "Reading":
        """What it is given for a text, and how it answers.

        Raises:
            FtlibError: It writes no texts.
        """
        question = self.question(task)
        if not question.writing:
            raise FtlibError(f"this model writes no texts: it was adapted to {task or self.facts['task']}")
        if task not in self._readings:
            from ftlib.models.generation import Reading

            self._readings[task] = Reading(self.model, question, self.facts["max_length"])
        return self._readings[task]

    def cut(self, texts: Sequence[str]) -> np.ndarray:
        """(n,) whether a text is longer than `max_length` tokens, so that its end is not read."""
        texts = listed_texts(texts)
        if self.question().writing:
            return self.reading().cut(texts)
        if self.model is None:
            return np.zeros(len(texts), bool) if self.module is None else self._static(texts)[1]
        special = self.head is not None or self.model.family == ENCODER
        ids = self.model.tokenizer(list(texts), add_special_tokens=special, verbose=False)["input_ids"] if texts else []
        return np.array([len(one) > self.facts["max_length"] for one in ids], bool)

    @cached_property
    def _uncut(self) -> Any:
        """The tokenizer of static vectors without the limit that the package set."""
        from tokenizers import Tokenizer

        copied = Tokenizer.from_str(self.module.tokenizer.to_str())
        copied.no_truncation()
        return copied

    def _static(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(n, dims) what the package's `encode` makes of texts, and (n,) whether it leaves off the end of one.

        It looks at so many characters, and at the first `max_length` tokens of them.
        """
        most, module = self.facts["max_length"], self.module
        characters = most * module.median_token_length
        read = self._uncut.encode_batch_fast([text[:characters] for text in texts], add_special_tokens=False)
        longer = [len(one) > most or len(text) > characters for one, text in zip(read, texts, strict=True)]
        found = np.zeros((len(texts), module.dim), module.embedding.dtype)
        for place, one in enumerate(read):
            if ids := [number for number in one.ids[:most] if number != module.unk_token_id]:
                rows = ids if module.token_mapping is None else module.token_mapping[ids]
                found[place] = module.embedding[rows].mean(axis=0)
        return found / (np.linalg.norm(found, axis=1, keepdims=True) + 1e-32), np.array(longer, bool)

    def likelihood(self, texts: Sequence[str]) -> "pd.DataFrame":
        """How likely a language model finds whole texts: nats, n_tokens, n_bytes; BOS stands before each."""
        from ftlib.models.inference import CONTEXT
        from ftlib.models.score import facts, score_text

        # Learned tokens in front take some of the places.
        context = min(CONTEXT, facts.limit(self.module) or CONTEXT)
        return score_text(self.module, self.model.tokenizer, texts, context=context, stride=context // 2)


# Written.


def write(folder: Path, saved: SavedModel, *, merge: bool = False, card: Sequence[str] = ()) -> None:
    """Write a model into an empty folder, for transformers, peft or scikit-learn to read.

    Args:
        folder: Made where it is not there.
        saved: What is written.
        merge: Whether an adapter is added to the weights, so that the folder needs no other.
        card: More lines of README.md, in Markdown.

    Raises:
        FtlibError: An adapter that stands before the text cannot be merged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model, module = saved.model, saved.module
    facts, adapter = dict(saved.facts), False
    if saved.head is not None:
        from safetensors.numpy import save_file

        facts |= {"kind": saved.head.kind, "head": dict(saved.head.facts)}
        save_file({name: np.ascontiguousarray(value) for name, value in saved.head.arrays.items()}, folder / HEAD)
        if model is None and module is not None:
            module.save_pretrained(folder)
        if model is not None:
            facts["pooling"] = model.pooling
        if facts.get("int8"):
            _write_int8(folder, module)
        elif model is not None:
            # Of two halves both are stored, since that is what transformers reads.
            (model.body() if model.family == ENCODER_DECODER else module).save_pretrained(folder)
    else:
        outputs = _outputs(saved.questions)
        facts["outputs"] = outputs
        in_bytes = facts.get("int8", False)
        adapter = hasattr(module, "peft_config") and METHODS[facts["method"]].saves == "peft" and not merge
        adapter = adapter and not in_bytes
        if adapter:
            _write_adapter(folder, module, model)
        else:
            plain = module if in_bytes else _whole(module, facts["method"])
            if model.family == ENCODER:
                plain.config.id2label = dict(enumerate(outputs))
                plain.config.label2id = {label: code for code, label in enumerate(outputs)}
            if in_bytes:
                _write_int8(folder, plain)
            else:
                plain.save_pretrained(folder)
        if model.family != ENCODER:
            _generation(module, model, saved).save_pretrained(folder)
    if model is not None:
        tokenizer, most = model.tokenizer, model.tokenizer.model_max_length
        if saved.head is not None or model.family == ENCODER:
            # Where nobody says otherwise, texts are cut where the run cut them.
            tokenizer.model_max_length = facts["max_length"]
        tokenizer.save_pretrained(folder)
        tokenizer.model_max_length = most
    facts["adapter"] = adapter
    (folder / FACTS).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    code = readme_code(
        facts["family"] or "",
        adapter=adapter,
        pooling=facts.get("pooling", ""),
        head=saved.head.code() if saved.head else None,
        has_labels=bool(saved.labels),
        several=any(one.rows for one in saved.questions.values()),
        half=bool(model) and model.family == ENCODER_DECODER,
        static=model is None and module is not None,
        writes=bool(saved.question().writing),
        int8=facts.get("int8", False),
    )
    # Its metadata, without which the Hub's readers complain.
    metadata = ["---", f"library_name: {facts['library']}", "---", ""]
    title = f"# {facts['method']} of {facts['base_model'] or 'words'}"
    lines = [*metadata, title, "", "## How to use it", "", f"```python\n{code}```", "", *card]
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _outputs(questions: Mapping[str, Question]) -> list[str]:
    """The names of a head's outputs: the labels, with their task's name where there are several."""
    several = any(one.rows for one in questions.values())
    ordered = sorted(questions.items(), key=lambda one: one[1].rows or (0, 0))
    return [f"{name}: {label}" if several else label for name, one in ordered for label in one.labels]


def _whole(module: Any, method: str) -> Any:
    """A model without an adapter: what was in one is in the weights."""
    if not hasattr(module, "peft_config"):
        return module
    active = module.peft_config[module.active_adapter]
    if active.is_prompt_learning:
        raise FtlibError(f"--merge: {method} stands before the text and is in no weight; export it without --merge")
    return copy.deepcopy(module).merge_and_unload()


def _write_adapter(folder: Path, module: Any, model: "Model") -> None:
    """The adapter and the head, with the name of its base model where others find it too."""
    name, revision = hub_name(model.folder)
    config = module.peft_config[module.active_adapter]
    config.base_model_name_or_path, config.revision = name or str(model.folder), revision or None
    module.save_pretrained(folder, selected_adapters=[module.active_adapter])
    # peft's own card says nothing.
    (folder / "README.md").unlink(missing_ok=True)


def _write_int8(folder: Path, module: Any) -> None:
    """Its bytes and configuration; under a name of their own, since `from_pretrained` would take them for weights."""
    from safetensors.torch import save_file

    from ftlib.models.quantise import stored

    inner = module.get_base_model() if hasattr(module, "get_base_model") else module
    save_file(stored(inner), folder / INT8)
    inner.config.save_pretrained(folder)


def hub_name(folder: Path) -> tuple[str, str]:
    """The Hub id and the commit of a model that lies in the Hub's cache; two empty strings for another.

    >>> hub_name(Path("/cache/models--org--name/snapshots/0a1b"))
    ('org/name', '0a1b')
    """
    found = folder.parts[-3] if len(folder.parts) > 2 and folder.parts[-2] == "snapshots" else ""
    if not found.startswith("models--"):
        return "", ""
    return found.removeprefix("models--").replace("--", "/"), folder.name


def _generation(module: Any, model: "Model", saved: SavedModel) -> Any:
    """How it writes: as its run did; else the likeliest token each time, as many as the longest answer has."""
    import transformers

    tokenizer, question = model.tokenizer, saved.question()
    if question.writing:
        from ftlib.models.generation import configuration

        return configuration(module, saved.reading().decoding)
    answers = [len(tokenizer(f" {one}", add_special_tokens=False)["input_ids"]) for one in question.words]
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    if model.family == ENCODER_DECODER:
        ids["decoder_start_token_id"] = module.config.decoder_start_token_id
    most = max(answers, default=126) + 2
    return transformers.GenerationConfig(do_sample=False, max_new_tokens=most, **ids)


# Checked.

_CHECK = r"""
import json, os, re, sys, warnings
from pathlib import Path
asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
home, found = Path.cwd(), []
for one in asked["models"]:
    os.chdir(one["folder"])
    code = re.search(r"```python\n(.*?)```", Path("README.md").read_text(encoding="utf-8"), re.S)[1]
    space = {}
    exec(compile(code, "README.md", "exec"), space)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(asked["threads"])
    answers = {}
    for task, given in one["texts"].items():
        named = {"task": task} if len(one["texts"]) > 1 else {}
        if one["groups"]:
            named["groups"] = one["groups"]
        if "write" in space:
            written, rated = space["write"](given, **named), space["nats"](given, one["targets"][task], **named)
            answers[task] = [[*pair, text] for pair, text in zip(rated, written)]
        else:
            ask, named = (space["probabilities"], named) if "probabilities" in space else (space["nats"], {})
            # In int8 an answer depends on what the text is asked together with.
            answers[task] = [ask([text], **named)[0] for text in given] if one["alone"] else ask(given, **named)
    found.append(answers)
    os.chdir(home)
strangers = [name for name in sys.modules if name.partition(".")[0] == "ftlib"]
status = Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
peak = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
said = {"answers": found, "strangers": strangers, "peak": peak}
Path(sys.argv[2]).write_text(json.dumps(said), encoding="utf-8")
"""


class Asked(NamedTuple):
    """A saved model and what it is asked in a process of its own."""

    folder: Path
    texts: Mapping[str, Sequence[str]]
    """By task, its own first."""
    groups: Sequence[str] | None = None
    targets: Mapping[str, Sequence[str]] | None = None
    """References by task, of a model that writes texts."""
    alone: bool = False
    """Whether each text is asked by itself."""


def ask_alone(models: Sequence[Asked], threads: int = 1) -> tuple[list[dict[str, np.ndarray]], int | None]:
    """What saved models answer in a fresh process that knows no ftlib, by the code in their README.

    Returns:
        For each model, by task, (n_texts, n_labels) probabilities; of a model of text without labels (n_texts, 2) nats
        and tokens; of one that writes (n_texts, 3), those of the references and what it writes. And the peak memory of
        that process in bytes, None where the system does not say.

    Raises:
        FtlibError: Some model does not load, or its code fails.
    """
    # Nothing is looked for on the Hub: what the folder needs is here, or the check fails.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": ""}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    with TemporaryDirectory(prefix="ftlib-") as folder:
        given, told = Path(folder, "asked.json"), Path(folder, "told.json")
        listed = [one._asdict() | {"folder": str(one.folder.resolve())} for one in models]
        given.write_text(json.dumps({"models": listed, "threads": threads}), encoding="utf-8")
        command = [sys.executable, "-c", _CHECK, str(given), str(told)]
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=1800)
        if not told.exists():
            last = [line for line in done.stderr.strip().splitlines() if line][-1:] or [f"exit code {done.returncode}"]
            named = ", ".join(str(one.folder) for one in models)
            raise FtlibError(f"{named}: does not answer in a process without ftlib: {last[0]}")
        said = json.loads(told.read_text(encoding="utf-8"))
    if said["strangers"]:
        raise FtlibError(f"{models[0].folder}: its code imported {said['strangers'][0]}; it must do without")
    kind = {True: object, False: float}
    return [
        {task: np.array(rows, kind[asked.targets is not None]) for task, rows in one.items()}
        for asked, one in zip(models, said["answers"], strict=True)
    ], said["peak"]


def asked_of(saved: SavedModel, folder: Path, examples: "Mapping[str, pd.DataFrame]", column: str = "") -> Asked:
    """Some examples of each task, evenly spread; of text without labels so much as is seen at once.

    Args:
        saved: The model.
        folder: Where it was written.
        examples: Test examples by task, its own first.
        column: The column of groups, for a model that goes by them.
    """
    texts, groups, targets = {}, None, {}
    for name, rows in examples.items():
        some = rows.iloc[spread(len(rows))]
        texts[name] = some["text"].tolist()
        if saved.question(name).writing:
            targets[name] = some["label"].tolist()
        elif not saved.question(name).labels:
            from ftlib.models.inference import CONTEXT
            from ftlib.models.prompts import clipped

            texts[name] = clipped(saved.model.tokenizer, texts[name], min(CONTEXT, saved.model.context or CONTEXT) // 4)
        if column and groups is None:
            groups = some[column].tolist()
    return Asked(folder, texts, groups, targets or None, bool(saved.facts.get("int8")))


def spread(n: int) -> np.ndarray:
    """Up to CHECKED places of n, evenly spread, both ends among them.

    >>> spread(3).tolist(), len(spread(1000)), spread(1000)[-1].item()
    ([0, 1, 2], 32, 999)
    """
    return np.unique(np.linspace(0, n - 1, min(CHECKED, n)).astype(int))


def difference(saved: SavedModel, asked: Asked, answers: Mapping[str, np.ndarray]) -> float:
    """The largest difference between two models' answers: of a probability, or of the nats of a token.

    What they write is not compared: of two tokens that are alike likely, rounding chooses.
    """
    most = 0.0
    for name, texts in asked.texts.items():
        found, parts = answers[name], [[text] for text in texts] if asked.alone else [texts]
        if saved.question(name).labels:
            apart = np.abs(found - np.concatenate([saved.probabilities(part, name, asked.groups) for part in parts]))
        else:
            if asked.targets is not None:
                # One at a time, as README.md has it: padding would round otherwise.
                pairs = zip(texts, asked.targets[name], strict=True)
                own = [saved.rate([text], [target], name)[0, 0] for text, target in pairs]
            else:
                own = np.concatenate([saved.likelihood(part)["nats"] for part in parts])
            nats, tokens = found[:, :2].astype(float).T
            apart = np.abs(nats - np.asarray(own)) / np.maximum(tokens, 1)
        most = max(most, float(apart.max()) if np.isfinite(apart).all() else float("inf"))
    return most


# Read again.


def folder_of(path: str | Path) -> Path:
    """The folder of a saved model: it, or `model` in a run's folder.

    Raises:
        FtlibError: There is none.
    """
    path = Path(path)
    for folder in (path, path / "model"):
        if (folder / FACTS).is_file():
            return folder
    said = "no saved model here" if path.exists() else "no such folder"
    if (path / "record.json").exists():
        said = f"this run kept no model: `ftlib export {typed(path)} OUT` makes it"
    elif (path / "suite.toml").exists():
        said = f"is a study: `ftlib export {typed(path)} OUT` takes the model of its winner out of it"
    raise FtlibError(f"{path}: {said}; allowed: a folder with {FACTS}, or the folder of a run with save = true")


def load_adapted(path: str | Path, *, device: str = "auto", dtype: str = "auto", threads: int = 0) -> SavedModel:
    """Read a saved model: `load_adapted("reports/demo/runs/0123456789abcdef").predict(["A text."])`.

    Args:
        path: A run's folder, or a folder that `ftlib export` wrote.
        device: As of an experiment.
        dtype: As of an experiment.
        threads: CPU threads; 0: as many as there are cores.

    Raises:
        FtlibError: There is no saved model, or a file of it is damaged.
    """
    folder = folder_of(path)
    from safetensors import SafetensorError

    try:
        facts = _facts_in(folder)
        head = None
        if "kind" in facts:
            from safetensors.numpy import load_file

            head = Head(facts["kind"], load_file(folder / HEAD), facts["head"])
        if not facts["family"]:
            module = None
            if facts["library"] == "model2vec":
                from model2vec import StaticModel

                module = StaticModel.from_pretrained(folder)
            return SavedModel(None, module, head, facts)
        return _with_model(folder, facts, head, device, dtype, threads)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, SafetensorError) as error:
        if isinstance(error, FtlibError):
            raise
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise FtlibError(
            f"{folder}: cannot be read as a saved model ({what}); a file of it is damaged or missing: export it again"
        ) from None


def _facts_in(folder: Path) -> dict[str, Any]:
    """What prediction.json says.

    Raises:
        FtlibError: It lacks something, or there are pickled weights in the folder.
    """
    if pickled := sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED):
        raise FtlibError(
            f"{folder}: found {pickled[0]}, a pickle, which could run any code; ftlib reads safetensors and JSON only. "
            "Remove it where model.safetensors is there, too; else export the model again"
        )
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    if lacking := NEEDED - (facts if isinstance(facts, dict) else {}).keys():
        raise FtlibError(f"{folder / FACTS}: lacks {', '.join(sorted(lacking))}; export the model again")
    return facts


def _with_model(
    folder: Path, facts: Mapping[str, Any], head: Head | None, device: str, dtype: str, threads: int
) -> SavedModel:
    import torch
    import transformers

    from ftlib.config.methods import context_of
    from ftlib.core.surroundings import cores
    from ftlib.models.loading import Model, pick_device, pick_dtype, tokenizer_in

    transformers.utils.logging.disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(threads or cores())
    device, only = (
        pick_device("cpu" if facts.get("int8") else device),
        {"local_files_only": True, "trust_remote_code": False},
    )
    tokenizer = tokenizer_in(folder)
    loader, family = LOADERS[facts["family"]], facts["family"]
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    try:
        if facts["adapter"]:
            import peft

            more = {}
            if family == ENCODER:
                labels = dict(enumerate(facts["outputs"]))
                more = {"num_labels": len(labels), "id2label": labels, "ignore_mismatched_sizes": True}
                more["pad_token_id"] = tokenizer.pad_token_id
            kind = getattr(peft, f"AutoPeft{loader.removeprefix('Auto')}")
            with warnings.catch_warnings():
                # peft 0.21 reads an attribute that transformers 5.23 has renamed.
                warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
                module = kind.from_pretrained(folder, dtype=torch.float32, local_files_only=True, **more)
        else:
            kind = transformers.AutoModel if head else getattr(transformers, loader)
            if facts.get("int8"):
                module = kind.from_config(transformers.AutoConfig.from_pretrained(folder, **only), dtype=torch.float32)
            else:
                module = kind.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, **only)
    finally:
        transformers.utils.logging.set_verbosity(level)
    if head and family == ENCODER_DECODER:
        module = module.get_encoder()
    if facts.get("int8"):
        from safetensors.torch import load_file

        from ftlib.models.quantise import restored

        module = restored(module, load_file(folder / INT8))
    context = context_of(module.config.to_dict())
    run_as = (device, pick_dtype(dtype, device), threads or cores())
    pooling = facts.get("pooling", "mean")
    model = Model(facts["base_model"], folder, "", "", "", *run_as, tokenizer, family, context, pooling)
    return SavedModel(model, module.eval().to(device), head, facts)


# The code in the README.

_PIPELINE = """
from transformers import pipeline

classify = pipeline("text-classification", model=folder, top_k=None, truncation=True)


def probabilities(texts, batch_size=16):
    labels = classify.model.config.id2label.values()
    found = [{one["label"]: one["score"] for one in each} for each in classify(list(texts), batch_size=batch_size)]
    return [[each[label] for label in labels] for each in found]
"""

_START = """
import json
import pathlib

import torch
from transformers import AutoTokenizer

said = json.loads(pathlib.Path(folder, "prediction.json").read_text(encoding="utf-8"))
tokenizer = AutoTokenizer.from_pretrained(folder)
"""

_WHOLE = """
from transformers import {loader}

model = {loader}.from_pretrained(folder, dtype=torch.float32).eval()
"""

_INT8 = """
import warnings

from safetensors.torch import load_file
from transformers import AutoConfig, {loader}


{functions}


model = {loader}.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
{half}model = restored(model, load_file(pathlib.Path(folder, "int8.safetensors")))
"""

_LABELS = """labels = dict(enumerate(said["outputs"]))
"""

_OF_ENCODER = """, num_labels=len(labels), id2label=labels,
    pad_token_id=tokenizer.pad_token_id, ignore_mismatched_sizes=True,"""

_CLASSIFIER = """

@torch.inference_mode()
def probabilities(texts, task=said["task"], batch_size=16):
    found = []
    for start in range(0, len(texts), batch_size):
        batch = tokenizer(list(texts[start : start + batch_size]), truncation=True, padding=True, return_tensors="pt")
        logits = model(**batch).logits[:, slice(*(said["tasks"][task]["rows"] or (None, None)))]
        found += logits.double().softmax(dim=-1).tolist()
    return found
"""

_FEATURES = """{load}

@torch.inference_mode()
def features(texts, batch_size=16):
    found = []
    for start in range(0, len(texts), batch_size):
        batch = tokenizer(list(texts[start : start + batch_size]), truncation=True, padding=True, return_tensors="pt")
        hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"]
{pooled}
        found.append(torch.nn.functional.normalize(one, dim=-1))
    return torch.cat(found).numpy()
"""

_POOLED = {
    "mean": "one = (hidden * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)",
    "max": "one = hidden.masked_fill(~mask.bool()[:, :, None], -torch.inf).amax(dim=1)",
    "first": "one = hidden[torch.arange(len(hidden)), mask.argmax(dim=1)]",
    "last": "one = hidden[torch.arange(len(hidden)), mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)]",
}

_HEAD = """
import json
import pathlib

import numpy as np
from safetensors.numpy import load_file

said = json.loads(pathlib.Path(folder, "prediction.json").read_text(encoding="utf-8"))
head = load_file(pathlib.Path(folder, "head.safetensors"))


{functions}

{words}
def probabilities(texts, groups=None):
    return {called}.tolist()
"""

_STATIC = """from model2vec import StaticModel

model = StaticModel.from_pretrained(folder)


def features(texts):
    return model.encode(list(texts), use_multiprocessing=False)

"""

_TOKENS = """

def ids_of(text, special=False):
    return tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]


first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
"""

_CAUSAL = """

@torch.inference_mode()
def score(asked, answer):
    "The log-probability of an answer; white space between it and what was asked is the answer's."
    context = ids_of(asked.rstrip())
    ids = ids_of(asked + answer)[len(context) :]
    context = context if context[:1] == [first] else [first, *context]
    logits = model(input_ids=torch.tensor([context + ids])).logits[0, -len(ids) - 1 : -1]
    return logits.log_softmax(dim=-1)[range(len(ids)), ids].double().sum()
"""

_SEQ2SEQ = """

@torch.inference_mode()
def score(asked, answer):
    "The log-probability of an answer; white space between it and what was asked is the answer's."
    short = asked.rstrip()
    ids = ids_of(asked[len(short) :] + answer)
    decoded = torch.tensor([[model.config.decoder_start_token_id, *ids[:-1]]])
    found = model(input_ids=torch.tensor([ids_of(short, special=True)]), decoder_input_ids=decoded)
    logits = found.logits[0, -len(ids) :]
    return logits.log_softmax(dim=-1)[range(len(ids)), ids].double().sum()
"""

_WORDS = """

def clipped(text):
    read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    most = said["max_length"]
    return text if len(read["input_ids"]) <= most else text[: read["offset_mapping"][most - 1][1]]


def probabilities(texts, task=said["task"]):
    how = said["tasks"][task]
    before, _, after = how["template"].partition("{label}")
    space = " " * (len(before) - len(before.rstrip(" ")))
    answers = [space + words + after for words in how["words"]]
    sizes = {"none": lambda _: 1, "token": lambda answer: len(ids_of(answer)), "byte": lambda one: len(one.encode())}

    def logs(text):
        asked = how["prefix"] + before.rstrip(" ").replace("{text}", text)
        return torch.stack([score(asked, one) / sizes[how["normalisation"]](one) for one in answers])

    found = torch.stack([logs(clipped(text)) for text in texts])
    if how["calibration"] == "contextual":
        found = found - torch.stack([logs(text) for text in ("N/A", "", "[MASK]")]).softmax(dim=-1).mean(dim=0).log()
    return found.softmax(dim=-1).tolist()
"""

_TEXT = """

@torch.inference_mode()
def nats(texts):
    "Minus the log-probability of each text, which fits what the model sees at once, and its number of tokens."
    found = []
    for text in texts:
        ids = [first, *ids_of(text)]
        logs = model(input_ids=torch.tensor([ids])).logits[0, -len(ids) : -1].log_softmax(dim=-1)
        found.append([-logs[range(len(ids) - 1), ids[1:]].double().sum().item(), len(ids) - 1])
    return found
"""

_READS = """
side = "right"
end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]


def source(text, how):
    asked = how["template"].replace("{text}", text)
    return tokenizer(asked, truncation=True, max_length=said["max_length"])["input_ids"]


def target(text):
    ids = tokenizer(text_target=text, truncation=True, max_length=said["max_length"])["input_ids"]
    return ids if not end or ids[-1:] == end else ids[: said["max_length"] - 1] + end


def logits_of(asked, ids):
    return model(input_ids=torch.tensor([asked]), labels=torch.tensor([ids])).logits[0, -len(ids) :]
"""

_GOES_ON = """
side = "left"
end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]


def source(text, how):
    ids = ids_of(text)
    text = text if len(ids) <= said["max_length"] else tokenizer.decode(ids[: said["max_length"]])
    ids = ids_of(how["prefix"] + how["template"].replace("{text}", text))
    return ids if ids[:1] == [first] else [first, *ids]


def target(text):
    return ids_of(" " + text)[: said["max_length"] - len(end)] + end


def logits_of(asked, ids):
    return model(input_ids=torch.tensor([asked + ids])).logits[0, -len(ids) - 1 : -1]
"""

_WRITE = """

how = said["tasks"][said["task"]]["writing"]
for name, language in (("src_lang", how["source_language"]), ("tgt_lang", how["target_language"])):
    if language:
        setattr(tokenizer, name, language)
{settings}.generation_config = GenerationConfig.from_pretrained(folder)


@torch.inference_mode()
def write(texts, task=said["task"], batch_size=16):
    "What the model writes for each text."
    found = []
    for start in range(0, len(texts), batch_size):
        ids = [source(text, said["tasks"][task]) for text in texts[start : start + batch_size]]
        batch = tokenizer.pad({"input_ids": ids}, padding_side=side, return_tensors="pt")
        made = model.generate(**batch)
        given = batch["input_ids"] if side == "left" else made[:, :1]
        begins = given.shape[1] if made[:, : given.shape[1]].equal(given) else 0
        found += tokenizer.batch_decode(
            made[:, begins:], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
    return [one.strip().partition("\\n")[0] if how["lines"] else one.strip() for one in found]


@torch.inference_mode()
def nats(texts, targets, task=said["task"]):
    "Minus the log-probability of each target after its text, and its number of tokens."
    found = []
    for text, wanted in zip(texts, targets):
        ids = target(wanted)
        logs = logits_of(source(text, said["tasks"][task]), ids).log_softmax(dim=-1)
        found.append([-logs[range(len(ids)), ids].double().sum().item(), len(ids)])
    return found
"""


def readme_code(
    family: str = "", *, adapter: bool = False, pooling: str = "", head: tuple[str, str] | None = None,
    has_labels: bool = True, several: bool = False, half: bool = False, static: bool = False,
    writes: bool = False, int8: bool = False,
) -> str:  # fmt: skip
    """The code for one kind of saved model.

    Args:
        family: Of the base model; empty: there is none.
        adapter: Whether the folder holds an adapter of peft, whose base model lies elsewhere.
        pooling: How features are made of tokens, for a head on features.
        head: Its functions and how they are called (`ftlib.models.heads.Head.code`).
        has_labels: Whether it gives labels; else likelihoods of text.
        several: Whether the head's outputs are of several tasks.
        static: Whether features are means of static vectors (model2vec).
        half: Whether features are those of the reading half of an encoder-decoder.
        writes: Whether it writes a text for each that it is given.
        int8: Whether its weights are bytes.
    """
    loader = "AutoModel" if head else LOADERS.get(family, "")
    kept = "model = model.get_encoder()\n" if half and head else ""
    if int8:
        from ftlib.models import quantise

        made = (quantise.Int8Linear, quantise.Int8Embedding, quantise.restored)
        functions = "\n\n\n".join(inspect.getsource(one).rstrip() for one in made)
        whole = _INT8.format(loader=loader, functions=functions, half=kept)
    else:
        whole = _WHOLE.format(loader=loader) + kept
    where = 'folder = "."  # this folder\n'
    if head:
        functions, called = head
        words = "" if family or "words" not in called else 'words = words_of(idf=head["idf"], **said["head"])\n\n'
        words = _STATIC if static else words
        made = _HEAD.format(functions=functions, called=called, words=words)
        if not family:
            return where + made
        pooled = " " * 8 + _POOLED[pooling]
        return where + _START + _FEATURES.format(pooled=pooled, load=whole) + made
    if family == ENCODER and not adapter and not several and not int8:
        return where + _PIPELINE
    if adapter:
        of_encoder = family == ENCODER
        load = f"\nfrom peft import AutoPeft{loader[4:]}\n\n{_LABELS if of_encoder else ''}model = AutoPeft{loader[4:]}"
        more = _OF_ENCODER if of_encoder else ""
        load += f".from_pretrained(\n    folder, dtype=torch.float32{more}\n).eval()\n"
    else:
        load = whole
    if family == ENCODER:
        return where + _START + load + _CLASSIFIER
    if writes:
        start = _START.replace("AutoTokenizer", "AutoTokenizer, GenerationConfig", 1)
        # peft hands on its own wrapper's settings for a decoder, and none for an encoder-decoder.
        settings = "model.get_base_model().generation_config = model" if adapter else "model"
        asks = _READS if family == ENCODER_DECODER else _TOKENS + _GOES_ON
        return where + start + load + asks + _WRITE.replace("{settings}", settings)
    asks = {DECODER: _CAUSAL, ENCODER_DECODER: _SEQ2SEQ}[family]
    return where + _START + load + _TOKENS + (asks + _WORDS if has_labels else _TEXT)
