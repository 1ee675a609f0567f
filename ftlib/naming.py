"""What tasks and models are called, and whether a name can be one."""

import re
from collections.abc import Mapping
from pathlib import Path

from ftlib.data import TASKS
from ftlib.errors import unknown
from ftlib.families import DECODER, ENCODER, family_of, read_config

BUNDLED_MODELS: Mapping[str, str] = {
    "minilm": "all-MiniLM-L6-v2: an encoder of 22.7 M parameters for English sentences, Apache-2.0",
    "tiny-lm": "a decoder of 7.2 M parameters for English text, trained by this project (see its card)",
}
"""Models that need no network: name -> what it is."""

_FAMILIES = {"minilm": ENCODER, "tiny-lm": DECODER}

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?")


def short_name(task: str) -> str:
    """What a task is called as a part of a record: of a path its last component without ending.

    >>> short_name("pydocs"), short_name("file:data/trec6"), short_name("hub:stanfordnlp/sst2@abc")
    ('pydocs', 'trec6', 'sst2')
    """
    if task.startswith("file:"):
        return Path(task[5:]).stem
    return task.removeprefix("hub:").partition("@")[0].rpartition("/")[2]


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


def known_family(model: str) -> str:
    """The family of a model that is here; empty where only its download will tell."""
    if model in _FAMILIES:
        return _FAMILIES[model]
    folder = Path(model)
    return family_of(read_config(folder)) if (folder / "config.json").is_file() else ""
