"""Where a record comes from: versions, machine, data, notebook; and what the process used."""

import hashlib
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ftlib
from ftlib.config.experiment import Experiment
from ftlib.core.atomic import write_atomically
from ftlib.core.errors import FtlibError
from ftlib.data.registry import load_task
from ftlib.data.task import Task

if TYPE_CHECKING:
    from ftlib.models.loading import Model

PACKAGES = (
    "accelerate", "datasets", "fairlearn", "model2vec", "numpy", "pandas", "papermill", "peft", "scikit-learn", "scipy",
    "tokenizers", "torch", "transformers",
)  # fmt: skip
"""Packages whose version can change a number."""


def request(run_dir: str | Path) -> dict[str, Any]:
    """What the suite asked of this run folder (`spec.json`); empty for a run outside a study."""
    path = Path(run_dir) / "spec.json"
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise FtlibError(f"{path}: not a request ({error}); `ftlib run SUITE` writes it again") from None


def describe(spec: Experiment, task: Task, model: "Model | None", given: Mapping[str, Any]) -> dict[str, Any]:
    """Everything a reader needs to judge whether two records can be compared, or to make one again."""
    dropped = model.stored_head if model else []
    return {
        "ftlib": ftlib.__version__,
        "git": git_state(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": versions(),
        "device": device_name(model.device if model else "cpu"),
        "threads": spec.threads,
        "dtype": model.dtype if model else "float64",
        "model_sha256": model.sha256 if model else None,
        "model_files_sha256": model.files_sha256 if model else None,
        "model_revision": model.revision if model else None,
        # Of a head that the model was stored with nothing is used: each run draws its own from the seed.
        **({"dropped_head": dropped} if dropped else {}),
        "data_sha256": task.sha256,
        "other_data_sha256": other_data(spec),
        "data": {
            **task.stated,
            "licence": task.licence,
            "caution": task.caution,
            "sizes": {name: len(table) for name, table in task.splits.items()},
        },
        "notebook_sha256": given.get("notebook_sha256"),
        # What the audit of the data found before the study ran; a run outside a study has none.
        "data_findings": given.get("data_findings", []),
    }


def other_data(spec: Experiment) -> dict[str, str]:
    """The content's SHA-256 of every task that a run has beside its own, by its name in the suite."""
    return {name: load_task(name).sha256 for name in (*spec.sequential_tasks, *spec.joint_tasks)}


@cache
def versions() -> dict[str, str | None]:
    """The installed version of each package that can change a number; None where it is not installed."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def device_name(device: str) -> str:
    """The device with the name its maker gives it."""
    if device == "cuda":
        import torch

        return f"cuda: {torch.cuda.get_device_name()}"
    cpuinfo = Path("/proc/cpuinfo")
    if device == "cpu" and cpuinfo.exists():
        named = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if named:
            return f"cpu: {named[0].partition(':')[2].strip()}"
    return f"{device}: {platform.processor() or platform.machine()}"


@cache
def git_state() -> dict[str, Any] | None:
    """Commit of the checkout ftlib runs from, and whether it was changed since; None outside a checkout.

    As it was when this process, or the one it was forked from, first asked: that is the code it runs.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        status = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(status.stdout.strip())}


def peak_memory() -> dict[str, int | None]:
    """High-water mark of this process: resident memory, and memory on the GPU where one was used, in bytes."""
    status = Path("/proc/self/status")
    if sys.platform == "win32":
        import psutil

        resident = psutil.Process().memory_info().peak_wset
    elif status.exists():
        # Of this process alone: what getrusage says is, after exec, at least what the process that started it held.
        resident = next(
            int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM:")
        )
    else:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        resident = peak if sys.platform == "darwin" else peak * 1024
    torch = sys.modules.get("torch")
    on_gpu = torch.cuda.max_memory_allocated() if torch and torch.cuda.is_initialized() else None
    return {"peak_memory_bytes": resident, "peak_device_memory_bytes": on_gpu}


def keep_examples(run_dir: Path, task: Task) -> None:
    """Keep the test examples' texts once per study, so that the report can show what was got wrong."""
    if run_dir.parent.name != "runs":
        return
    path = run_dir.parent.parent / "examples" / f"{task.sha256}.parquet"
    if not path.exists():
        test = task.splits["test"].filter(["id", "text", "label"])
        write_atomically(path, lambda temporary: test.to_parquet(temporary, index=False))


def notebook_sha256(path: Path) -> str:
    """Of the notebook's file, as stored."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
