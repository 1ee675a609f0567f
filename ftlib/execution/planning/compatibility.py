"""Which methods a study's models take: asked before anything runs, of the methods and of peft themselves.

No list of architectures is kept here. What a configuration says is read; the rest is tried on a copy of the model that
has names and shapes only: it is built from the configuration on torch's "meta" device, so a model of any size is there
within a second, in no memory. Methods are prepared on it by the same functions as in a run, so it is peft and the
methods themselves that say no, and in the same words.

That needs torch, so it happens in a process of its own: `python -m ftlib.execution.planning.compatibility FOLDER`. An
answer is kept in the user's cache folder for as long as model, settings and installed packages stay the same; a trial
(`ftlib.execution.planning.dry_run`), which prepares the method on the model itself, leaves one too.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlib.config.experiment import Experiment, digest
from ftlib.config.methods import (
    CLASSIFICATION,
    DECODER,
    ENCODER,
    ENCODER_DECODER,
    METHODS,
    context_of,
    family_of,
    has_lm_head,
    read_config,
)
from ftlib.core.atomic import cache_folder, keep_json, kept_json, write_json
from ftlib.core.errors import FtlibError
from ftlib.core.surroundings import memory
from ftlib.data.task import Task
from ftlib.execution.planning.memory_model import FLOAT, distinct_costs
from ftlib.models import weights
from ftlib.models.prompts import clipped, orders, prompt_of, tokens_at_most
from ftlib.records import provenance

if TYPE_CHECKING:
    from ftlib.execution.scheduler import Planned
    from ftlib.models.loading import Model

READ = ("method", "method_args", "max_length", "context", "stride")
"""Fields that an answer depends on, beside the model and the number of labels."""

VERSION = 1
"""Of what is asked; another one does not read what this one kept."""


class Refused(FtlibError):
    """A model does not take a method."""


def incompatible_runs(planned: "Planned", ask: bool = True) -> list[str]:
    """Why runs that are not recorded cannot be, whatever the machine: one entry for each kind of run.

    Args:
        planned: From `ftlib.execution.scheduler.plan`.
        ask: Whether what is not known yet is asked, which takes the seconds that torch and peft take to load; else
            only what configurations say, and answers that are kept.
    """
    cells = distinct_costs(job.spec for job in planned.jobs if not job.done and METHODS[job.spec.method].model)
    tasks = [planned.task_of(cell[0]) for cell in cells]
    paths = [_path(cell[0], task) if is_asked(cell[0]) else None for cell, task in zip(cells, tasks, strict=True)]
    known = {path: found["said"] for path in filter(None, paths) if (found := kept_json(path))}
    waiting = {
        path: {"passed": cell[0].passed(), "labels": len(task.labels)}
        for path, cell, task in zip(paths, cells, tasks, strict=True)
        if ask and path and path not in known
    }
    for path, answer in zip(waiting, _ask(list(waiting.values())) if waiting else (), strict=True):
        if answer["said"] is not None:
            keep_json(path, answer)
        # Where nobody can say, the run, or its trial, will.
        known[path] = answer["said"] or ""
    problems = []
    for path, cell, task in zip(paths, cells, tasks, strict=True):
        if why := _without_lm_head(cell[0], task) or known.get(path):
            problems.append(f"{cell[0].task} ({len(cell)} run{'s' * (len(cell) > 1)}): {why}")
    return problems


def prompts_that_do_not_fit(specs: Sequence[Experiment], task_of: Callable[[Experiment], Task]) -> list[str]:
    """Which prompts are longer than what their model sees at once: told by the examples that would be drawn and by the
    model's own tokenizer, all of a kind together, with the most that fits.
    """
    kinds: dict[str, list[Experiment]] = {}
    for spec in specs:
        task = task_of(spec)
        if not METHODS[spec.method].model or not task.label_words:
            continue
        config = read_config(weights.find(spec.model).folder)
        if family_of(config) == ENCODER or context_of(config) is None:
            continue
        same = [spec.task, spec.columns(), spec.model, spec.method, spec.method_args, spec.max_length]
        kinds.setdefault(digest(same), []).append(spec)
    problems = []
    for kind in kinds.values():
        try:
            found = _too_long(kind, task_of(kind[0]))
        except FtlibError as error:
            # A template that is none, or a tokenizer that does not load.
            found = str(error)
        if found and found not in problems:
            problems.append(found)
    return problems


def _too_long(kind: Sequence[Experiment], task: Task) -> str:
    """Why runs that differ in their seeds and examples only cannot put their question; empty where they can."""
    first = kind[0]
    folder = weights.find(first.model).folder
    context, tokenizer = context_of(read_config(folder)), tokenizer_of(folder, first.model)
    prompt = prompt_of(task, str(first.method_args.get("template", "")))
    where = f"{first.task} {first.method} on {first.model}"
    around = tokens_at_most(tokenizer, prompt, "", 0)
    if first.max_length + around > context:
        texts = task.test_set(first.eval_limit)["text"].tolist()
        longest = max(map(len, tokenizer(texts, add_special_tokens=False)["input_ids"]))
        if min(longest, first.max_length) + around > context:
            return (
                f"{where}: max_length = {first.max_length}: a text of the test set has {longest} tokens, the question "
                f"around it {around}, and {first.model} sees {context} at once; set max_length to at most "
                f"{max(1, context - around)}, which cuts longer texts"
            )
    if not METHODS[first.method].needs_shots:
        return ""

    def fits(name: str, number: int, spec: Experiment) -> bool:
        try:
            train = task.draw(**spec.drawing() | {name: number})
        except FtlibError:
            # Said elsewhere: there are not as many examples.
            return True
        texts = clipped(tokenizer, train["text"].tolist(), spec.max_length)
        shown = [(text, task.labels.index(label)) for text, label in zip(texts, train["label"], strict=True)]
        (order,) = orders(len(shown), spec.seed, 1)
        prefix = prompt.shots([shown[place] for place in order])
        return tokens_at_most(tokenizer, prompt, prefix, spec.max_length) <= context

    for name in ("shots", "train_limit"):
        asked = [spec for spec in kind if getattr(spec, name)]
        over = sorted({getattr(spec, name) for spec in asked if not fits(name, getattr(spec, name), spec)})
        if not over:
            continue
        most, beyond = 0, over[0]
        while beyond - most > 1:
            middle = (most + beyond) // 2
            if all(fits(name, middle, spec) for spec in asked):
                most = middle
            else:
                beyond = middle
        said = f"{name} = {', '.join(map(str, over))} {'do' if len(over) > 1 else 'does'} not fit {context} tokens here"
        best = f"the most is {most}" if most else "not even 1 does"
        return f"{where}: {said}; {best} (with max_length = {first.max_length}; a smaller one leaves more room)"
    return ""


_AS_STORED = ("TokenizersBackend", "PreTrainedTokenizerFast", "GPT2Tokenizer", "GPT2TokenizerFast")
"""Classes that put texts into tokens just as their tokenizer.json says; others add something of their own."""


class _Stored:
    """A tokenizer.json read by itself, which takes no seconds as loading transformers does; called alike."""

    is_fast = True

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        self.stored = Tokenizer.from_file(str(path))
        self.stored.no_truncation()
        self.stored.no_padding()

    def __call__(self, given: Any, add_special_tokens: bool = True, return_offsets_mapping: bool = False) -> Any:
        texts = [given] if isinstance(given, str) else given
        found = self.stored.encode_batch(texts, add_special_tokens=add_special_tokens)
        columns = {"input_ids": [one.ids for one in found], "offset_mapping": [one.offsets for one in found]}
        return {name: values[0] for name, values in columns.items()} if isinstance(given, str) else columns


def _as_stored(path: Path, config: Path) -> "_Stored | None":
    """A tokenizer from its file alone; None where that is not all of it, or damaged, which transformers says better."""
    try:
        plain = json.loads(config.read_text(encoding="utf-8")).get("tokenizer_class") in _AS_STORED
        return _Stored(path) if plain else None
    # The tokenizers package raises Exception itself.
    except Exception:
        return None


@cache
def tokenizer_of(folder: Path, model: str) -> Any:
    """What puts a model's texts into tokens, called as transformers' own, which is loaded only where needed."""
    path, config = folder / "tokenizer.json", folder / "tokenizer_config.json"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if path.is_file() and config.is_file() and (stored := _as_stored(path, config)):
        return stored
    import transformers

    level = transformers.utils.logging.get_verbosity()
    # It warns of texts longer than the model sees, which is what is asked here.
    transformers.utils.logging.set_verbosity_error()
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError) as error:
        raise FtlibError(f"model {model!r}: its tokenizer does not load from {folder}: {error}") from None
    finally:
        transformers.utils.logging.set_verbosity(level)


def is_asked(spec: Experiment) -> bool:
    """Whether a run's method may not fit its model; 4 bits cannot be tried without the weights they stand for."""
    method = METHODS[spec.method]
    return method.model and method.tried_on_model


def keep(spec: Experiment, task: Task, said: str) -> None:
    """Keep what a trial found out: why a run's method does not fit its model; empty where it does."""
    if is_asked(spec):
        keep_json(_path(spec, task), {"said": said})


def _path(spec: Experiment, task: Task) -> Path:
    """Where the answer about a run's method is kept, by all that it depends on."""
    found, settings = weights.find(spec.model), spec.resolved()
    asked = [{name: settings[name] for name in READ}, len(task.labels)]
    key = digest([VERSION, asked, spec.model, found.files_sha256, weights.code_digest(), provenance.versions()])[:32]
    return cache_folder() / "takes" / f"{key}.json"


def _ask(questions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Have another process answer, as `refusal` does: `said`."""
    with tempfile.TemporaryDirectory(prefix="ftlib-") as folder:
        write_json(Path(folder) / "asked.json", questions)
        command = [sys.executable, "-m", "ftlib.execution.planning.compatibility", folder]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        path = Path(folder) / "answers.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
    last = done.stderr.strip().rpartition("\n")[2]
    print(f"caution: what the models take could not be asked (code {done.returncode}): {last}", file=sys.stderr)
    return [{"said": None}] * len(questions)


def _without_lm_head(spec: Experiment, task: Task) -> str:
    """Text can be modelled, and a question put to what continues it, only with the layer that predicts tokens."""
    folder = weights.find(spec.model).folder
    config = read_config(folder)
    if family_of(config) == DECODER and not _output_stored(folder, config):
        return (
            f"model: {spec.model} was stored without its output layer, the one that predicts tokens, and its "
            "configuration says that the embedding does not stand for it (tie_word_embeddings = false); choose a model "
            "stored with it (a bundled one: tiny-lm)"
        )
    if task.has_labels or has_lm_head(config):
        return ""
    return (
        f"model: {spec.method} on text needs the layer that predicts tokens, and {spec.model} was stored without it; "
        "choose a model stored with it (a bundled one: tiny-lm)"
    )


def _output_stored(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether a decoder has an output layer, by the headers of its files; only loading tells where its configuration is
    silent about that.
    """
    size = config.get("vocab_size")
    if config.get("tie_word_embeddings") is not False or not size:
        return True
    rows = [name for name, (_, shape) in weights.tensors(folder).items() if len(shape) == 2 and shape[0] == size]
    return any("embed" not in name.replace("embed_out", "") and name not in _EMBEDDINGS for name in rows)


_EMBEDDINGS = ("wte.weight", "transformer.wte.weight")
"""What the embedding of tokens is called where not by that word."""


def without_weights(model: "Model") -> "Model":
    """A copy of a base model whose weights are never read; from here on torch is needed."""
    import torch
    import transformers

    from ftlib.models.loading import Model

    class Empty(Model):
        def classifier(self, n_labels: int, seed: int, **config: int) -> torch.nn.Module:
            """As `Model.classifier`; what the file holds is taken to be all but the head."""
            module = self._built(transformers.AutoModelForSequenceClassification, num_labels=n_labels, **config)
            stored = {id(parameter) for parameter in module.base_model.parameters()}
            for parameter in module.parameters():
                parameter._is_hf_initialized = id(parameter) in stored
            return module

        def speaker(self) -> torch.nn.Module:
            """As `Model.speaker`, of a decoder or an encoder-decoder."""
            two_halves = self.family == ENCODER_DECODER
            module = self._built(
                transformers.AutoModelForSeq2SeqLM if two_halves else transformers.AutoModelForCausalLM
            )
            for parameter in module.parameters():
                parameter._is_hf_initialized = True
            return module

        def _built(self, loader: Any, **more: int) -> torch.nn.Module:
            config = transformers.AutoConfig.from_pretrained(
                self.folder, trust_remote_code=False, local_files_only=True, **more
            )
            try:
                with torch.device("meta"):
                    return loader.from_config(config, dtype=torch.float32, trust_remote_code=False).eval()
            except (OSError, ValueError, KeyError) as error:
                raise FtlibError(f"model in {self.folder} does not load as {loader.__name__}: {error}") from None

    return Empty(**{field.name: getattr(model, field.name) for field in fields(Model)})


def refusal(spec: Experiment, model: "Model", labels: int = 2) -> str | None:
    """Why a run's method cannot be prepared on its model.

    The copy's no is taken where it is the method's. Where it is the copy's own, which cannot read a text, the model is
    loaded and decides, unless it is too large for this machine.

    Args:
        spec: method, method_args, max_length, context and stride are read.
        model: On the CPU.
        labels: Of the task; of text to be modelled, any.

    Returns:
        Empty: it can. None: only the run will tell.
    """
    error = preparing_error(spec, replace(without_weights(model), device="meta"), labels)
    if error is None:
        return ""
    if isinstance(error, FtlibError) and not _for_want_of_numbers(error):
        return str(error)
    if 2 * FLOAT * weights.parameters(model.folder) > memory().available:
        return None
    error = preparing_error(spec, model, labels)
    return "" if error is None else in_words(error, spec, model)


def in_words(error: Exception, spec: Experiment, model: "Model") -> str:
    """What preparing a method ended with, as the person who plans should read it."""
    if isinstance(error, FtlibError):
        return str(error)
    said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return f"method: {spec.method} does not fit {model.name}: {said}"


def preparing_error(spec: Experiment, model: "Model", labels: int) -> Exception | None:
    """What preparing a run's method on a model ends with; None where it succeeds."""
    import pandas as pd
    import torch

    names = tuple(f"label {number}" for number in range(max(2, labels)))
    # Prompts and documents are put to one and the same module; documents would be read to see what it makes of them.
    task = Task("any", CLASSIFICATION, {}, names, {name: name for name in names}, "")
    train = pd.DataFrame({"id": names, "text": names, "label": names})
    if "soft" in METHODS[spec.method].arguments:
        # The small model alone, without a teacher, which would be trained first.
        spec = spec.model_copy(update={"method_args": spec.method_args | {"soft": 0.0}})
    try:
        # What is new comes to lie beside what is there: PiSSA multiplies them with each other.
        with torch.device(model.device):
            METHODS[spec.method].prepare()(model, spec, task, train)
    except Exception as error:
        # peft meets a model that it was not written for in many ways, and the run would meet the same one.
        return error
    return None


def _for_want_of_numbers(error: FtlibError) -> bool:
    """Whether it was the copy that could not, since its tensors have no numbers."""
    cause = error.__context__
    return isinstance(cause, NotImplementedError) or re.search(r"\bmeta\b", str(cause)) is not None


def _answer(question: Mapping[str, Any]) -> dict[str, Any]:
    spec = Experiment(**question["passed"])
    try:
        return {"said": refusal(spec, _model(spec.model), question["labels"])}
    except FtlibError as error:
        # The model itself cannot be opened.
        return {"said": str(error)}


@cache
def _model(name: str) -> "Model":
    from ftlib.models.loading import load_model

    return load_model(name, device="cpu", dtype="float32")


if __name__ == "__main__":
    import transformers

    transformers.utils.logging.set_verbosity_error()
    asked_in = Path(sys.argv[1])
    asked = json.loads((asked_in / "asked.json").read_text(encoding="utf-8"))
    write_json(asked_in / "answers.json", [_answer(question) for question in asked])
