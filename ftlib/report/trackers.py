"""A study's runs for the trackers that people keep their runs in: MLflow and trackio, where these are installed.

Each run of the study is one run there: its settings, what was measured before and after with intervals, what it cost,
and the losses of training by step. A run that is there already stays as it is.
"""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ftlib.core.errors import FtlibError
from ftlib.metrics import flat
from ftlib.records.events import fits, read_events
from ftlib.records.study import Run, Study, read_study

ID = "ftlib.run_id"
"""The tag that says which record a run of MLflow is."""


def numbers(run: Run) -> dict[str, float]:
    """What was measured of a run, with its intervals, and what it cost; what is undefined is left out."""
    found: dict[str, float | None] = {f"cost/{name}": value for name, value in run.record.cost.items()}
    for path, leaf in flat(run.record.metrics, quoted=True).items():
        name = _clean(path)
        while name in found:
            # Two labels may differ only in letters that no tracker takes.
            name += "_"
        found |= {name: leaf["value"], f"{name}.low": leaf.get("low"), f"{name}.high": leaf.get("high")}
    return {name: float(value) for name, value in found.items() if value is not None}


def _clean(path: str) -> str:
    """A path of metrics as a name that both trackers take, whatever a label is called.

    >>> _clean("after.test.accuracy"), _clean('after.test.f1."http://x.y"')
    ('after/test/accuracy', 'after/test/f1/http___x.y')
    """
    keys = re.findall(r'"(?:[^"\\]|\\.)*"|[^.]+', path)
    return "/".join(re.sub(r"[^\w\-. ]", "_", key.strip('"')).strip(". ") or "_" for key in keys)[:250]


def losses(run: Run) -> Iterator[tuple[str, int, float]]:
    """Name, step and loss of the run's last training."""
    found = fits(read_events(run.folder))
    for part in ("train", "validation"):
        points = getattr(found[-1], part) if found else ()
        yield from ((f"loss/{part}", step, loss) for step, loss in points if math.isfinite(loss))


def _name(run: Run) -> str:
    return f"{run.resolved.get('method')} seed={run.seed} {run.record.run_id[:8]}"


def _settings(run: Run) -> dict[str, str]:
    return {name: str(value)[:500] for name, value in run.resolved.items()}


def _tags(run: Run) -> dict[str, str]:
    known, names = run.record.provenance, ("ftlib", "model_sha256", "data_sha256", "device")
    said = {name: str(known[name])[:500] for name in names if known.get(name)}
    return {ID: run.record.run_id, "ftlib.plan_hash": run.record.plan_hash, "ftlib.status": run.record.status} | said


def _project(study: Study) -> str:
    return re.sub(r"[^\w\-]", "_", study.folder.resolve().name)


def to_mlflow(study_folder: str | Path) -> str:
    """Write a study's runs to MLflow, as an experiment of the study's name; the address of the store.

    That is what the environment variable MLFLOW_TRACKING_URI names, else the file `exports/mlflow.db` of the study.

    Raises:
        FtlibError: mlflow is not installed, or the folder holds no record.
    """
    try:
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient
        from sqlalchemy import create_engine  # noqa: F401  (mlflow-skinny comes without)
    except ImportError as error:
        raise FtlibError(f"export mlflow: {error}; run `pip install mlflow`") from None
    study = read_study(study_folder)
    own = study.folder.resolve() / "exports" / "mlflow.db"
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{own.as_posix()}"
    own.parent.mkdir(parents=True, exist_ok=True)
    client, name = MlflowClient(uri), _project(study)
    known = client.get_experiment_by_name(name)
    experiment = known.experiment_id if known else client.create_experiment(name)
    for run in study.runs:
        if client.search_runs([experiment], f"tags.`{ID}` = '{run.record.run_id}'"):
            continue
        begun, ended = (round(1000 * at) for at in run.times or (0, 0))
        made = client.create_run(experiment, start_time=begun, run_name=_name(run), tags=_tags(run)).info.run_id
        metrics = [Metric(name, value, ended, 0) for name, value in numbers(run).items()]
        metrics += [Metric(name, loss, begun, step) for name, step, loss in losses(run)]
        params = [Param(name, value) for name, value in _settings(run).items()]
        # MLflow takes a thousand metrics, or a hundred parameters, at a time.
        for start in range(0, len(params), 100):
            client.log_batch(made, params=params[start : start + 100])
        for start in range(0, len(metrics), 1000):
            client.log_batch(made, metrics=metrics[start : start + 1000])
        client.set_terminated(made, "FINISHED" if run.record.status == "ok" else "FAILED", end_time=ended)
    return uri


def to_trackio(study_folder: str | Path) -> Path:
    """Write a study's runs to trackio, as a project of the study's name; the folder that trackio keeps them in.

    Raises:
        FtlibError: trackio is not installed, or the folder holds no record.
    """
    try:
        import trackio
        from trackio.utils import TRACKIO_DIR
    except ImportError as error:
        raise FtlibError(f"export trackio: {error}; run `pip install trackio`") from None
    study = read_study(study_folder)
    project = _project(study)
    try:
        known = {one.name for one in trackio.Api().runs(project)}
    except ValueError:
        known = set()  # No such project yet.
    for run in study.runs:
        if _name(run) in known:
            continue
        method = str(run.resolved.get("method"))
        quiet = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        made = trackio.init(project, name=_name(run), group=method, config=_settings(run) | _tags(run), **quiet)
        steps: dict[int, dict[str, float]] = {}
        for name, step, loss in losses(run):
            steps.setdefault(step, {})[name] = loss
        for step in sorted(steps):
            made.log(steps[step], step=step)
        made.log(numbers(run), step=max(steps, default=0) + 1)
        made.finish()
    return Path(TRACKIO_DIR)
