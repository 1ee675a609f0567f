"""Which methods a study's models take: asked before anything runs, of the methods and of peft themselves.

No list of architectures is kept here. What a configuration says is read; the rest is tried on a copy of the model
without weights (`ftlib.execution.planning.compatibility`), in a process of its own since that needs torch. An answer is
kept in the user's cache folder for as long as model, settings and installed packages stay the same, so it is asked for
once.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlib.config.experiment import Experiment, digest
from ftlib.config.methods import ENCODER, METHODS, family_of, read_config
from ftlib.core.atomic import cache_folder, write_json
from ftlib.core.format import short_name
from ftlib.data.kinds import KINDS
from ftlib.data.registry import kind_of
from ftlib.execution.planning import forecast
from ftlib.models import weights
from ftlib.records import provenance

if TYPE_CHECKING:
    from ftlib.data.task import Task
    from ftlib.execution.scheduler import Planned

READ = ("method", "method_args", "max_length", "context", "stride")
"""Fields that an answer depends on, beside the model and the number of labels."""


VERSION = 1
"""Of what is asked; another one does not read what this one kept."""


def incompatible_runs(planned: "Planned", ask: bool = True) -> list[str]:
    """Why runs that are not recorded cannot be, whatever the machine: one entry for each kind of run.

    Args:
        planned: From `ftlib.execution.scheduler.plan`.
        ask: Whether what is not known yet is asked, which takes the seconds that torch and peft take to load; else
            only what configurations say, and answers that are kept.
    """
    installed = provenance.versions()
    cells = [
        (cell, planned.task_of(cell[0])) for cell in forecast.distinct_costs(j.spec for j in planned.jobs if not j.done)
    ]
    cells = [(cell, task) for cell, task in cells if METHODS[cell[0].method].model]
    keys = [_key(cell[0], task, installed) for cell, task in cells]
    said = _answers(
        {
            key: {"passed": cell[0].passed(), "labels": len(task.labels)}
            for key, (cell, task) in zip(keys, cells, strict=True)
            if METHODS[cell[0].method].tried_on_model
        },
        ask,
    )
    problems = []
    for key, (cell, task) in zip(keys, cells, strict=True):
        if why := _unspoken(cell[0], task) or said.get(key):
            problems.append(f"{cell[0].task} ({len(cell)} run{'s' * (len(cell) > 1)}): {why}")
    return problems


def _unspoken(spec: Experiment, task: "Task") -> str:
    """Text can be modelled only by what was stored with the layer that predicts tokens."""
    config = read_config(weights.find(spec.model).folder)
    if task.has_labels or has_lm_head(config):
        return ""
    return (
        f"model: {spec.method} on text needs the layer that predicts tokens, and {spec.model} was stored without it; "
        "choose a model stored with it (a bundled one: tiny-lm)"
    )


def has_lm_head(config: Mapping[str, Any]) -> bool:
    """Whether a model can say how likely a text is: an encoder only where its masked-token layer was stored.

    >>> has_lm_head({"architectures": ["BertModel"]}), has_lm_head({"architectures": ["BertForMaskedLM"]})
    (False, True)
    """
    names = config.get("architectures") or []
    return family_of(config) != ENCODER or any(name.endswith("ForMaskedLM") for name in names)


def cautions(planned: "Planned") -> list[str]:
    """What runs without an error and yet measures nothing, or something else than one may think; a line for each kind
    of model.
    """
    said: dict[str, None] = {}
    for spec in (job.spec for job in planned.jobs if METHODS[job.spec.method].model):
        config = read_config(weights.find(spec.model).folder)
        if family_of(config) != ENCODER:
            continue
        pairs = [name for name in spec.evaluations if name.startswith("pairs:")]
        if pairs and not has_lm_head(config):
            said[f"caution: {', '.join(pairs)}: {spec.model} was stored without its masked-word layer: no value"] = None
        elif pairs and METHODS[spec.method].trains:
            said[
                f"caution: {', '.join(pairs)}: {spec.method} trains a head in place of {spec.model}'s masked-word "
                "layer: a value before, none after"
            ] = None
        texts = [
            short_name(name)
            for name in (*spec.sequential_tasks, *spec.joint_tasks)
            if not KINDS[kind_of(name)].has_labels
        ]
        if texts and not has_lm_head(config):
            said[
                f"caution: {', '.join(texts)}: {spec.model} was stored without its masked-word layer, so it reads text "
                "by telling each from the others (SimCSE), not by guessing masked words"
            ] = None
    return list(said)


def _key(spec: Experiment, task: "Task", installed: Mapping[str, str | None]) -> str:
    """What the answer about a run's method depends on."""
    found, settings = weights.find(spec.model), spec.resolved()
    config = (found.folder / "config.json").read_text(encoding="utf-8")
    asked = [{name: settings[name] for name in READ}, len(task.labels)]
    return digest([VERSION, asked, spec.model, found.sha256, config, installed])[:32]


def _answers(asked: Mapping[str, dict[str, Any]], ask: bool) -> dict[str, str]:
    """Key -> why not, empty where nothing is against it; from the cache, or asked now and put there."""
    kept = {key: cache_folder() / "takes" / f"{key}.json" for key in asked}
    found = {key: json.loads(path.read_text(encoding="utf-8"))["said"] for key, path in kept.items() if path.exists()}
    waiting = [key for key in asked if key not in found] if ask else []
    for key, answer in zip(waiting, _ask_all([asked[key] for key in waiting]), strict=True):
        if answer["said"] is not None:
            write_json(kept[key], answer)
        # Where nobody can say, the run, or its trial, will.
        found[key] = answer["said"] or ""
    return found


def _ask_all(questions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    if not questions:
        return []
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
