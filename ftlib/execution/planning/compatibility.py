"""Whether a model takes a method, without its weights: the method is prepared on a copy that has names and shapes only.

The copy is built from the model's configuration on torch's "meta" device, where a tensor has a shape and no numbers: a
model of any size is there within a second, in no memory. Methods are prepared on it by the same functions as in a run,
so it is peft and the methods themselves that say no, and in the same words.

Run as `python -m ftlib.execution.planning.compatibility FOLDER` by `ftlib.execution.planning.takes`, in a process of
its own.
"""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import torch
import transformers

from ftlib.config.experiment import Experiment
from ftlib.config.methods import CLASSIFICATION, ENCODER_DECODER, METHODS
from ftlib.core.atomic import write_json
from ftlib.core.errors import FtlibError
from ftlib.data.task import Task
from ftlib.execution.planning.memory_model import FLOAT
from ftlib.models import weights
from ftlib.models.loading import Model, load_model


class Empty(Model):
    """A base model whose weights are never read."""

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
        module = self._built(transformers.AutoModelForSeq2SeqLM if two_halves else transformers.AutoModelForCausalLM)
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


def refusal(spec: Experiment, model: Model, labels: int = 2) -> str | None:
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
    copy = Empty(**{field.name: getattr(model, field.name) for field in fields(Model)})
    error = _error(spec, replace(copy, device="meta"), labels)
    if error is None:
        return ""
    if isinstance(error, FtlibError) and not _for_want_of_numbers(error):
        return str(error)
    if 2 * FLOAT * weights.parameters(model.folder) > psutil.virtual_memory().available:
        return None
    error = _error(spec, model, labels)
    if error is None or isinstance(error, FtlibError):
        return str(error or "")
    said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return f"method: {spec.method} does not fit {model.name}: {said}"


def _error(spec: Experiment, model: Model, labels: int) -> Exception | None:
    """What preparing ends with."""
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


def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """One question of `ftlib.execution.planning.takes`, answered: `said` as `refusal` says it."""
    spec = Experiment(**asked["passed"])
    try:
        return {"said": refusal(spec, _model(spec.model), asked["labels"])}
    except FtlibError as error:
        # The model itself cannot be opened.
        return {"said": str(error)}


@cache
def _model(name: str) -> Model:
    return load_model(name, device="cpu", dtype="float32")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    transformers.utils.logging.set_verbosity_error()
    questions = json.loads((folder / "asked.json").read_text(encoding="utf-8"))
    write_json(folder / "answers.json", [answer(asked) for asked in questions])
