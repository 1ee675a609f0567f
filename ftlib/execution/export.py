"""`ftlib export`: a study's model as a folder that needs no ftlib; one that was not kept is trained again.

Trained again means the same spec, seed, data and model files; whether it answers as was recorded is checked.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core.atomic import check_writable
from ftlib.core.errors import FtlibError
from ftlib.evaluation.evaluate import of_examples
from ftlib.execution import run, scheduler
from ftlib.execution.saved import FOLDER, keep, validated
from ftlib.models import export
from ftlib.records import RunRecord, read_predictions
from ftlib.records.events import read_curve


def export_runs(
    found: Sequence[tuple[Path, RunRecord]],
    out: Path,
    *,
    seeds: str = "median",
    merge: bool = False,
    int8: bool = False,
) -> list[str]:
    """Write the models of runs that differ in their seed only; a model that was not kept is trained again.

    Args:
        found: Run folders and records of one method with one setting.
        out: A folder that is not there yet: the model itself, or one folder a seed where there are several.
        seeds: "median": the seed in the middle on validation, never the best on test; "all".
        merge: Whether an adapter is added to the weights, so that the folder needs no other.
        int8: Whether it is put into bytes; a run with `quantise = "int8"` always is.

    Returns:
        Sentences that say what was written, and which seed it is.

    Raises:
        FtlibError: The folder is there; the data, the model or the machine give another model than was recorded.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FtlibError(f"{out}: is there already; name a folder that is not")
    for path, record in found:
        _saves(Experiment(**record.spec["passed"]), path, int8)
    check_writable(out.parent, str(out))
    ordered = sorted(found, key=lambda one: one[1].spec["resolved"].get("seed", 0))
    said = []
    if seeds == "median" and len(ordered) > 1:
        chosen, reason = _median(ordered)
        said.append(f"seed {chosen[1].spec['resolved']['seed']} of {len(ordered)}: {reason}")
        ordered = [chosen]
    elif len(ordered) > 1:
        said.append(f"all {len(ordered)} seeds, a folder each")
    for path, record in ordered:
        folder = out if len(ordered) == 1 else out / f"seed{record.spec['resolved']['seed']}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        said.append(f"{folder}: {_export(path, record, folder, merge, int8)}")
    return said


def _median(ordered: Sequence[tuple[Path, RunRecord]]) -> tuple[tuple[Path, RunRecord], str]:
    """The run in the middle on validation, trained again where nothing was measured there; why it is that one."""
    never = "not the best on test, which would promise more than it keeps"
    if any(record.spec["resolved"].get("shots") for _, record in ordered):
        return ordered[
            0
        ], f"the first; with shots, validation is not looked at, so nothing says which is typical; {never}"
    figures = [_on_validation(path, record) for path, record in ordered]
    if len({name for name, _ in figures}) != 1 or not figures[0][0]:
        figures = [_validated_again(record) for _, record in ordered]
    middle = sorted(range(len(ordered)), key=lambda place: figures[place][1])[(len(ordered) - 1) // 2]
    name, value = figures[middle]
    return ordered[middle], f"the median of {name} on validation ({value:.4g}); {never}"


def _validated_again(record: RunRecord) -> tuple[str, float]:
    """What a run's model shows on validation, trained again: its own record has nothing of it."""
    spec = Experiment(**record.spec["passed"])
    task, model = run.open_task(spec), run.open_model(spec)
    return _figure(validated(spec, task, run.adapt(spec, task, model).predictor.saved.ready(spec))["validation"])


def _figure(said: Mapping[str, float]) -> tuple[str, float]:
    """The one figure of validation that `validated` gives."""
    name = next(one for one in said if one != "n")
    return name, said[name]


def _saves(spec: Experiment, where: object, int8: bool = False) -> None:
    method = METHODS[spec.method]
    if not method.saves:
        raise FtlibError(f"{where}: {spec.method} has nothing that could be loaded elsewhere")
    if (int8 or spec.quantise) and (why := method.not_in_int8):
        raise FtlibError(f"{where}: --int8: {why}; export it without")


def _on_validation(path: Path, record: RunRecord) -> tuple[str, float]:
    """What a run shows on validation, lower is better last: its metric, else the loss of its last training."""
    came = record.provenance
    if figure := (came.get("saved") or {}).get("validation"):
        return _figure(figure)
    for tried in (came.get("tuned") or {}).get("tried", ()):
        name = next((one for one in tried if one.startswith("validation_")), "")
        if tried["learning_rate"] == came["tuned"]["learning_rate"] and tried.get(name) is not None:
            return name.removeprefix("validation_"), tried[name]
    if (path / "events.jsonl").is_file():
        curve = read_curve(path)
        curve = curve[(curve["part"] == "validation") & (curve["fit"] == curve["fit"].max())]
        if len(curve):
            return "loss", float(
                curve["loss"].min() if record.spec["resolved"].get("patience") else curve["loss"].iloc[-1]
            )
    return "", float("nan")


def _export(path: Path, record: RunRecord, folder: Path, merge: bool, int8: bool) -> str:
    """Write one run's model, copied where it was kept, else trained again and compared with the record."""
    kept = path / FOLDER
    spec = Experiment(**record.spec["passed"])
    if (kept / export.FACTS).is_file() and not merge and int8 <= bool(spec.quantise):
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        return f"the model that run {record.run_id} kept"
    task = run.open_task(spec)
    if other := scheduler.why_again(path, spec.model_copy(update={"save": False}), task):
        raise FtlibError(f"{path}: {other}; the model that was recorded cannot be made again. Run the study again")
    recorded = read_predictions(path)
    recorded = recorded[(recorded["stage"] == "after") & (recorded["part"] == "test")].reset_index(drop=True)
    model = run.open_model(spec)
    predictor = run.adapt(spec, task, model).predictor
    again = of_examples("after", "test", task, task.test_set(spec.eval_limit), predictor)[1]
    names = [name for name in again if name.startswith("score_")] or ["nats"]
    apart = float(np.abs(again[names].to_numpy(dtype=float) - recorded[names].to_numpy(dtype=float)).max())
    if apart > (export.TOLERANCE if names != ["nats"] else export.TOLERANCE * float(recorded["nats"].max())):
        there = record.provenance.get("device", "an unknown machine")
        raise FtlibError(
            f"{path}: trained again, it answers otherwise than was recorded, by up to {apart:.2g}. Another processor "
            f"or another version of a package rounds otherwise; the record is of {there}, and names its packages. Run "
            "the study here with save = true, and export that"
        )
    said = keep(folder, spec, task, model, predictor, recorded, merge=merge, int8=int8)
    return (
        f"run {record.run_id}, trained again with its seed: as recorded within {apart:.2g}, and in a process without "
        f"ftlib within {said['largest_difference']:.2g} on {said['n']} test examples"
    )
