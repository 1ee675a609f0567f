"""What a run leaves behind: one record and its predictions, written once, atomically, the record last.

A run is done when its record is there and complete; nothing else (no notebook, no log) says so. Every figure of a
report can be recomputed from the predictions.
"""

import functools
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ftlib.config.experiment import SCHEMA, renamed
from ftlib.core.atomic import write_atomically, write_json
from ftlib.core.errors import FtlibError
from ftlib.core.html import paragraph
from ftlib.core.surroundings import in_words
from ftlib.metrics import flat
from ftlib.metrics.registry import METRICS
from ftlib.metrics.units import FIRST, stages_table
from ftlib.records.predictions import is_whole, read_predictions

if TYPE_CHECKING:
    import pandas as pd

    from ftlib.training.contract import Written

__all__ = [
    "COLUMNS", "RunRecord", "complete_record", "flat", "likelihoods_table", "predictions_table", "read_predictions",
    "read_record", "read_runs", "records_of", "write", "written_table",
]  # fmt: skip

STATUS = ("ok", "failed", "diverged", "timeout")

COLUMNS = ("stage", "part", "id", "label", "prediction", "cluster", "nats", "n_tokens", "n_bytes", "text_out")
"""Columns of every predictions table, beside `score_<label>` and `group_<column>`."""


@dataclass(frozen=True)
class RunRecord:
    """One run, as `record.json` holds it."""

    run_id: str
    status: str
    """ok, failed, diverged or timeout."""
    spec: Mapping[str, Any]
    """{"passed": the fields as given, "resolved": every field with its value}."""
    plan_hash: str = ""
    """Hash of the plan that stood when the run was made; empty for a run outside a study."""
    reason: str | None = None
    """Why the status is not ok."""
    metrics: Mapping[str, Any] = field(default_factory=lambda: {"before": {}, "after": {}})
    """metrics[stage][part][metric] = {"value", "low", "high", "n"} and, where the value is null, "reason"."""
    cost: Mapping[str, float | None] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def value(self, path: str) -> float:
        """The value at "stage.part.metric"; NaN where it is undefined. A name with a point in it stands in "".

        Raises:
            FtlibError: There is nothing at that path.
        """
        found = flat(self.metrics, quoted=True)
        if path not in found:
            raise FtlibError(f"{self.run_id}: no metric {path!r}; there is {sorted(found)}")
        return math.nan if found[path]["value"] is None else float(found[path]["value"])

    def __repr__(self) -> str:
        spec, found = self.spec.get("resolved", {}), flat(self.metrics.get("after", {}))
        said = [f"{name} {found[f'test.{name}']['value']:.3f}" for name in FIRST if _number(found.get(f"test.{name}"))]
        what = f"{spec.get('method')} on {spec.get('task')}"
        return f"RunRecord({', '.join([self.run_id, self.status, what, *said])})"

    def _repr_html_(self) -> str:
        return stages_table(self.metrics) if self.status == "ok" else paragraph(f"{self.status}: {self.reason}")


def _number(leaf: Mapping[str, Any] | None) -> bool:
    return leaf is not None and leaf["value"] is not None


def predictions_table(
    stage: str, part: str, examples: "pd.DataFrame", labels: tuple[str, ...], probabilities: np.ndarray
) -> "pd.DataFrame":
    """One row per example, in the columns the contract names.

    Args:
        stage: "before" or "after".
        part: "test", "validation", or the name of another evaluation.
        examples: Rows of a task's split, in the order of `probabilities`.
        labels: The task's label names, in the order of the columns of `probabilities`.
        probabilities: (n_examples, n_labels), rows sum to 1.

    Raises:
        FtlibError: The probabilities are not finite, do not sum to 1, or their shape does not fit.
    """
    import pandas as pd

    if probabilities.shape != (len(examples), len(labels)):
        raise FtlibError(f"probabilities {probabilities.shape}, expected {(len(examples), len(labels))}")
    if not np.isfinite(probabilities).all() or (np.abs(probabilities.sum(axis=1) - 1) > 1e-4).any():
        raise FtlibError(f"{stage}/{part}: probabilities are not finite or do not sum to 1")
    table = pd.DataFrame(
        {
            "stage": stage,
            "part": part,
            "id": examples["id"].to_numpy(),
            "label": examples["label"].to_numpy(),
            "prediction": np.asarray(labels, dtype=object)[probabilities.argmax(axis=1)],
        }
    )
    for column, name in enumerate(labels):
        table[f"score_{name}"] = probabilities[:, column].astype(np.float64)
    texts = examples["text"]
    table["n_bytes"] = texts.map(lambda text: len(text.encode())).to_numpy()
    truth = np.asarray([labels.index(label) for label in examples["label"]])
    chosen = probabilities[np.arange(len(truth)), truth]
    table["nats"] = -np.log(np.maximum(chosen, np.finfo(np.float64).tiny))
    return _complete(table, examples)


def likelihoods_table(stage: str, part: str, examples: "pd.DataFrame", likelihoods: "pd.DataFrame") -> "pd.DataFrame":
    """One row per document, in the columns the contract names.

    Args:
        examples: Documents, in the order of `likelihoods`.
        likelihoods: (n_documents,) nats, n_tokens, n_bytes.

    Raises:
        FtlibError: A likelihood is not finite, or there are not as many as documents.
    """
    import pandas as pd

    if len(likelihoods) != len(examples) or not np.isfinite(likelihoods["nats"]).all():
        raise FtlibError(f"{stage}/{part}: {len(likelihoods)} likelihoods of {len(examples)} documents, or not finite")
    table = pd.DataFrame({"stage": stage, "part": part, "id": examples["id"].to_numpy()})
    for column in ("nats", "n_tokens", "n_bytes"):
        table[column] = likelihoods[column].to_numpy()
    return _complete(table, examples)


def written_table(
    stage: str, part: str, examples: "pd.DataFrame", written: Sequence["Written"], rated: "np.ndarray | None" = None
) -> "pd.DataFrame":
    """One row per segment, in the columns the contract names: `label` is the reference, `text_out` what was written.

    Args:
        examples: Segments, in the order of `written`.
        written: A text for each, and whether it was still being written when it was as long as it may be.
        rated: (n, 2) nats and tokens of the references; None where the method gives no likelihood.

    Raises:
        FtlibError: Not as many texts as segments, or a likelihood that is not finite.
    """
    import pandas as pd

    if len(written) != len(examples):
        raise FtlibError(f"{stage}/{part}: {len(written)} texts for {len(examples)} segments")
    if rated is not None and not np.isfinite(rated).all():
        raise FtlibError(f"{stage}/{part}: the likelihood of a reference is not finite; a lower learning_rate helps")
    table = pd.DataFrame({"stage": stage, "part": part, "id": examples["id"].to_numpy()})
    table["label"] = examples["label"].to_numpy()
    table["text_out"] = [one.text for one in written]
    table["unfinished"] = [one.unfinished for one in written]
    table["n_bytes"] = [len(text.encode()) for text in examples["label"]]
    if rated is not None:
        table["nats"], table["n_tokens"] = rated[:, 0], rated[:, 1].astype(int)
    return _complete(table, examples)


def _complete(table: "pd.DataFrame", examples: "pd.DataFrame") -> "pd.DataFrame":
    """With what the examples say of groups and sources, and every column that the contract names."""
    for column in examples.columns:
        if column == "cluster" or column.startswith("group_"):
            table[column] = examples[column].to_numpy()
    for column in COLUMNS:
        if column not in table:
            table[column] = None
    return table


def write(run_dir: str | Path, record: RunRecord, predictions: "pd.DataFrame | None" = None) -> Path:
    """Write a run: predictions first, record last, each in one step, so that a record means a whole run.

    Raises:
        FtlibError: The record is not consistent (unknown status, no reason, an old record is there).
    """
    run_dir = Path(run_dir)
    if record.status not in STATUS or (record.status != "ok") != bool(record.reason):
        raise FtlibError(f"{run_dir}: status {record.status!r} with reason {record.reason!r} is not a record")
    if (run_dir / "record.json").exists() and (old := read_record(run_dir)).status == "ok":
        if old.metrics == record.metrics:
            return run_dir / "record.json"
        raise FtlibError(f"{run_dir}: has a record with other values; records are never edited. Move the folder away")
    if record.status == "ok":
        if predictions is None:
            raise FtlibError(f"{run_dir}: a record that is ok needs its predictions")
        write_predictions(run_dir / "predictions.parquet", predictions)
    path = run_dir / "record.json"
    write_json(path, asdict(record))
    return path


def set_aside(run_dir: Path, made: Iterable[Path]) -> Path:
    """Move what an earlier attempt made into `superseded/`, beside the study's runs, where nothing is overwritten.

    Args:
        made: Its files, the record last, so that a move that was cut short goes on where it stopped.

    Returns:
        The folder that holds all earlier attempts of the run, numbered.
    """
    kept = run_dir.parent.parent / "superseded" / run_dir.name
    kept.mkdir(parents=True, exist_ok=True)
    number = len(list(kept.glob("*.record.json"))) + 1
    for path in made:
        os.replace(path, kept / f"{number}.{path.name}")
    return kept


def write_predictions(path: Path, table: "pd.DataFrame") -> None:
    """Write a run's predictions in one step, numbers byte by byte: a quarter smaller, and to the last bit the same."""
    numbers = [name for name in table if table[name].dtype == np.float64]
    rest = [name for name in table if name not in numbers]
    how = {"compression": "zstd", "compression_level": 9, "use_byte_stream_split": numbers, "use_dictionary": rest}
    write_atomically(path, lambda temporary: table.to_parquet(temporary, index=False, **how))


class Damaged(FtlibError):
    """A record that cannot be read, which says nothing about the others of its study."""


def read_record(run_dir: str | Path) -> RunRecord:
    """Read one run's record.

    Raises:
        FtlibError: It is missing, not JSON, from another schema, or lacks a field.
    """
    path = Path(run_dir) / "record.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["schema"] == 1:
            fields = _of_schema_1(fields)
        if fields["schema"] != SCHEMA:
            raise FtlibError(f"{path}: schema {fields['schema']}; this ftlib reads schemas 1 and {SCHEMA}")
        _check_shape(fields)
        return RunRecord(**fields)
    except FileNotFoundError:
        raise FtlibError(f"{path}: no record; the run has not finished") from None
    except OSError as error:
        raise Damaged(in_words(error)) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{path}: not a record ({error}); move its folder away to run it again") from None


def _check_shape(fields: Mapping[str, Any]) -> None:
    """Refuse a record that is JSON and holds something else than the contract says, before anyone reads on in it.

    Raises:
        ValueError: Says which entry.
    """
    stages = {f"metrics.{stage}": parts for stage, parts in dict(fields["metrics"]).items()}
    parts = {f"{stage}.{part}": leaves for stage, held in stages.items() for part, leaves in dict(held).items()}
    objects = {name: fields[name] for name in ("spec", "metrics", "cost", "provenance")} | stages | parts
    objects["spec.resolved"] = fields["spec"]["resolved"]
    if wrong := next((name for name, value in objects.items() if not isinstance(value, dict)), ""):
        raise ValueError(f"{wrong} is no object")
    if fields["status"] not in STATUS or not isinstance(fields["run_id"], str):
        raise ValueError(f"status {fields['status']!r}, run_id {fields['run_id']!r}")


@functools.cache
def _say_once(said: str) -> None:
    print(said, file=sys.stderr)


def _of_schema_1(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A record of schema 1 in the words of this one: fields that have another name, F1 of labels below one key."""
    _say_once("ftlib: records of schema 1 are read under the names of schema 2; the files stay as they are")
    metrics: dict[str, dict[str, Any]] = {}
    for stage, parts in fields["metrics"].items():
        metrics[stage] = {}
        for part, kept in parts.items():
            labels = {name: leaf for name, leaf in kept.items() if name.startswith("f1_") and name not in METRICS}
            found = {name: leaf for name, leaf in kept.items() if name not in labels}
            if labels:
                found["f1"] = {name.removeprefix("f1_"): leaf for name, leaf in labels.items()}
            metrics[stage][part] = found
    spec = {name: renamed(given) for name, given in fields["spec"].items()}
    return {**fields, "schema": SCHEMA, "metrics": metrics, "spec": spec}


def complete_record(run_dir: str | Path) -> RunRecord | None:
    """The run's record where it is whole, its own folder's, and ok with readable predictions; None otherwise."""
    run_dir = Path(run_dir)
    if not (run_dir / "record.json").exists():
        return None
    record = read_record(run_dir)
    return record if record.run_id == run_dir.name and record.status == "ok" and is_whole(run_dir) else None


def records_of(folder: str | Path, damaged: list[str] | None = None) -> Iterator[tuple[Path, RunRecord]]:
    """Every record of a study, with its run's folder, in the order of the folders' names.

    One that cannot be read is left out, and named: in the list that is given, else on standard error.
    """
    for path in sorted(Path(folder).glob("runs/*/record.json")):
        try:
            yield path.parent, read_record(path.parent)
        except Damaged as error:
            if damaged is None:
                _say_once(f"ftlib: left out: {error}")
            else:
                damaged.append(str(error))


def read_runs(folder: str | Path) -> "pd.DataFrame":
    """One row per run of a study.

    Columns: `run_id`, `status`, `reason`, every field of the resolved spec, every metric as `after.test.accuracy` (with
    `.low`, `.high` and `.n`; a name with a point in it, such as a label, stands in ""), every cost as
    `cost.train_seconds`, and `plan_hash`.

    Raises:
        FtlibError: There is no such folder.
    """
    import pandas as pd

    if not Path(folder).is_dir():
        raise FtlibError(f"{folder}: no such folder; name a study's")
    rows = []
    for _, record in records_of(folder):
        row = {"run_id": record.run_id, "status": record.status, "reason": record.reason}
        row |= dict(record.spec["resolved"]) | {"plan_hash": record.plan_hash}
        for path, leaf in flat(record.metrics, quoted=True).items():
            row[path] = math.nan if leaf["value"] is None else leaf["value"]
            row |= {f"{path}.{name}": leaf.get(name) for name in ("low", "high", "n")}
        rows.append(row | {f"cost.{name}": value for name, value in record.cost.items()})
    return pd.DataFrame(rows)
