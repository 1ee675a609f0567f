"""What there is, as `ftlib list` shows it; and whether this installation is fit to run, as `ftlib doctor` says."""

import importlib.util
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ftlib.core import format
from ftlib.core.atomic import LIMIT, cache_folder, cached_files
from ftlib.core.errors import FtlibError
from ftlib.core.surroundings import CONTAINER, bytecode_caution, cache_caution, cores, memory, socket_folder
from ftlib.execution import notebook_exec
from ftlib.records import provenance

NEEDED = ("accelerate", "datasets", "jupyterlab", "papermill", "peft", "sklearn", "torch", "transformers")


def findings() -> list[tuple[str, bool, str]]:
    """(what, whether it is good, what was found and, where it is not good, what to do)."""
    found = [("python", sys.version_info >= (3, 11), f"{sys.version.split()[0]} at {sys.executable}; 3.11 or newer")]
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    found.append(
        ("packages", not missing, f"missing: {missing}; run `python bootstrap.py`" if missing else "all there")
    )
    if missing:
        return found
    found.append(("versions", True, ", ".join(f"{n} {v}" for n, v in provenance.versions().items() if v)))
    try:
        where = notebook_exec.folder()
        found.append(("notebooks", True, f"{len(notebook_exec.listed())} in {where}"))
    except FtlibError as error:
        found.append(("notebooks", False, str(error)))

    from ftlib.models.loading import load_model, pick_device, pick_dtype

    device = pick_device()
    found.append(("device", True, f"{provenance.device_name(device)}; matrix products in {pick_dtype('auto', device)}"))
    try:
        model = load_model("minilm")
        found.append(("minilm", True, f"checksum as published, in {model.folder}"))
    except FtlibError as error:
        found.append(("minilm", False, str(error)))
    found += surroundings_found()
    cache = cache_folder()
    near = next(place for place in (cache, *cache.parents) if place.exists())
    free = shutil.disk_usage(near).free / 1e9
    found.append(("disk", free > 1, f"{free:.1f} GB free for the cache {cache}" + ("" if free > 1 else "; free some")))
    found.append(("working folder", Path("reports").is_dir(), f"{Path.cwd()}: studies live in its folder reports/"))
    return found


def surroundings_found() -> list[tuple[str, bool, str]]:
    """What this process is given by its surroundings, as `findings` says it."""
    main, short = memory(), socket_folder()
    sockets = f"of kernels in {short}" if short else "no folder has a name that is short enough; kernels talk by TCP"
    caution, anew = cache_caution(cache_folder()), bytecode_caution()
    return [
        ("memory", True, f"{main.total / 1e9:.1f} GB ({main.of}), {main.available / 1e9:.1f} GB of it free"),
        ("cores", True, f"{cores()} may be used"),
        ("sockets", True, sockets),
        ("cache", not caution, caution or _cache()),
        ("bytecode", not anew, anew or "packages are compiled once, not by every process"),
    ]


def _cache() -> str:
    held = format.size(sum(path.stat().st_size for path in cached_files()))
    return f"{cache_folder()} holds {held} of at most {format.size(LIMIT)}; `ftlib doctor --clear-cache` empties it"


def catalogue(what: str, folders: Sequence[str] = (), memory: float = 0.0) -> list[dict[str, Any]]:
    """The rows of one table, each with a name and a summary.

    Args:
        what: tasks, models, methods, metrics, evaluations, notebooks or studies.
        folders: More models to list: folders of them.
        memory: Gigabytes (10^9 bytes) that a model may take; 0: what this machine has.

    Raises:
        FtlibError: Folders or a memory for anything but models, a memory below 0, or a folder without a model.

    >>> [row["name"] for row in catalogue("methods")][:3]
    ['majority', 'tfidf', 'ngram']
    """
    if what != "models" and (folders or memory):
        raise FtlibError(f"list {what}: folders and --memory belong to `ftlib list models`; leave them out")
    return {
        "tasks": _tasks,
        "models": partial(_models, folders, memory),
        "methods": _methods,
        "metrics": _metrics,
        "evaluations": _evaluations,
        "notebooks": _notebooks,
        "studies": _studies,
    }[what]()


def _tasks() -> list[dict[str, Any]]:
    from ftlib.data.registry import TASKS

    return [
        *({"name": name, "summary": task.question} for name, task in TASKS.items()),
        {
            "name": "file:PATH",
            "summary": "a CSV, TSV, JSONL, Parquet, text or TMX file, or a folder of train/validation/test",
        },
        {"name": "hub:ID[@revision]", "summary": "a dataset of the Hugging Face Hub"},
    ]


def _models(folders: Sequence[str], memory: float) -> list[dict[str, Any]]:
    from ftlib.models.catalog import candidates, machine_memory

    if memory < 0:
        raise FtlibError(f"--memory: found {memory:g}; allowed: gigabytes above 0, or 0 for what this machine has")
    room, of_what = (round(memory * 1e9), "the memory given") if memory else machine_memory()
    rows = []
    for one in candidates(folders):
        row: dict[str, Any] = one._asdict() | {"predict_bytes": one.predict_bytes, "train_bytes": one.train_bytes}
        row |= {"memory_bytes": room, "fits": one.use(room)}
        rows.append({"name": one.name, "summary": _in_columns(row, of_what)} | row)
    return [
        *rows,
        {"name": "FOLDER", "summary": "a local folder with config.json, a tokenizer and *.safetensors"},
        {"name": "OWNER/NAME[@revision]", "summary": "a model of the Hugging Face Hub, safetensors only"},
    ]


def _in_columns(row: dict[str, Any], of_what: str) -> str:
    """A model's row in words, each at its place."""
    if row["problem"]:
        return f"cannot be used: {row['problem']}"
    size = row["memory_bytes"] / 1e9
    room = (
        f"of the {size:.1f} GB (limit of this container)"
        if of_what == CONTAINER
        else f"of the {size:.3g} GB of {of_what}"
    )
    fits = {
        "train": f"fits {room.removeprefix('of ')}" if of_what == CONTAINER else "fits",
        "predict": f"fits to predict, too large to fine-tune fully {room}",
        "nothing": f"too large {room}",
    }[row["fits"]]
    speed = ""
    if row["speed"]:
        of_reading, of_training = (
            f"{value:.0f} ({low:.0f} to {high:.0f})"
            for value, low, high in (row["speed"][name] for name in ("reading", "training"))
        )
        speed = f"; measured here on {row['speed']['how']['task']}: reads {of_reading} texts a second, trains "
        speed += f"({row['speed']['how']['method']}) on {of_training}, n = {row['speed']['n']} repeats"
    return (
        f"{row['family']:8} {row['parameters'] / 1e6:8.1f} M parameters {row['disk_bytes'] / 1e6:8.1f} MB on disk  "
        f"context {row['context'] or 'no limit':>8}  {row['predict_bytes'] / 1e9:6.2f} GB to predict "
        f"{row['train_bytes'] / 1e9:7.2f} GB to train: {fits}; licence: {row['licence']}{speed}"
    )


def footer(what: str) -> str:
    """What stands below a table; empty where nothing does."""
    if what != "models":
        return ""
    from ftlib.models.catalog import FORMULA

    return FORMULA


def _methods() -> list[dict[str, Any]]:
    from ftlib.config.methods import METHODS

    rows = []
    for method in METHODS.values():
        row: dict[str, Any] = {"name": method.name, "summary": method.summary, "trains": method.trains}
        row |= {"notebook": method.notebook, "defaults": dict(method.defaults)}
        row["arguments"] = {name: f"{meaning} [{default!r}]" for name, (default, meaning) in method.arguments.items()}
        rows.append(row | {"kinds": list(method.kinds), "families": list(method.families)})
    return rows


def _evaluations() -> list[dict[str, Any]]:
    from ftlib.data.evaluations import EVALUATIONS

    return [
        {
            "name": name,
            "summary": row.question,
            "metrics": list(row.metrics),
            "passes": row.passes,
            "bias": row.is_bias,
        }
        for row in EVALUATIONS.values()
        if row.field == "evaluations"
        for name in row.offered or (row.name,)
    ]


def _metrics() -> list[dict[str, Any]]:
    from ftlib.metrics.registry import METRICS

    return [
        {
            "name": metric.name,
            "summary": f"{metric.summary} ({'higher' if metric.higher_is_better else 'lower'} is better)",
            "higher_is_better": metric.higher_is_better,
            "unit": metric.unit,
            "range": list(metric.range),
            "source": metric.source,
        }
        for metric in METRICS.values()
    ]


def _notebooks() -> list[dict[str, Any]]:
    from ftlib.execution import notebook_exec

    return [{"name": name, "summary": question} for name, question in notebook_exec.listed().items()]


def _studies() -> list[dict[str, Any]]:
    import tomllib

    rows = []
    for path in sorted(Path("reports").glob("*/suite.toml")):
        study = tomllib.loads(path.read_text(encoding="utf-8")).get("study", {})
        records = len(list(path.parent.glob("runs/*/record.json")))
        state = f"{records} records" if records else "not run yet"
        rows.append({"name": str(path.parent), "summary": f"{study.get('question', '')} ({state})", "records": records})
    return rows
