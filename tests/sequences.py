"""A study's folder made up from code whose runs were trained on several tasks, or on the way to one."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import synthetic

from ftlib import records
from ftlib.config.experiment import Experiment
from ftlib.core import atomic
from ftlib.core.format import short_name
from ftlib.metrics import continual
from ftlib.metrics.registry import measure_text

LABELS = {"pydocs": ("numpy", "pandas", "torch"), "reviews": ("negative", "positive"), "bios": ("nurse", "poet")}
N = 120

Scores = Mapping[str, Mapping[str, float | None]]
"""stage -> part -> accuracy (of text: bits per byte by which it became dearer); None: no answer."""


@dataclass(frozen=True)
class Went:
    """One run to make up."""

    method: str
    scores: Scores
    seeds: Sequence[int] = (0, 1, 2)
    fields: Mapping[str, Any] = field(default_factory=dict)
    noise: float = 0.03
    """Spread of an example's ease from run to run."""
    who: str = ""
    """What the noise is drawn from, beside the seed; where empty it is the run_id, which a field's name is part of."""


def write_courses(folder: Path, went: Sequence[Went], n: int = N, source: int = 0) -> Path:
    """Write a study without suite.toml as its runs would leave it; the same arguments give the same bytes.

    Args:
        folder: Where.
        went: The runs.
        n: Examples of every task.
        source: How many examples come from one source; 0: every example is its own.
    """
    for run in went:
        for seed in run.seeds:
            spec = Experiment(**{"task": "pydocs", "method": run.method, **run.fields, "seed": seed})
            _write(folder, run, spec, n, source)
    return folder


def _rng(*words: Any) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(repr(words).encode()).digest()[:4], "big"))


def _write(folder: Path, run: Went, spec: Experiment, n: int, source: int) -> None:
    metrics: dict[str, Any] = {"before": {}, "after": {}}
    tables = []
    who = f"{run.who} {spec.seed}" if run.who else spec.run_id
    for stage, parts in run.scores.items():
        metrics.setdefault(stage, {})
        for part, score in parts.items():
            if part == "general" or (part == "test" and spec.task == "pydocs_text"):
                table = synthetic._likelihoods(stage, part, synthetic._documents(part, 40, False), score, who)
                metrics[stage][part] = measure_text(table, protocol=synthetic.PROTOCOL)
            elif score is None:
                leaf = {"value": None, "low": None, "high": None, "n": n, "reason": "labels without words"}
                metrics[stage][part] = {"accuracy": leaf}
                continue
            else:
                task = short_name(spec.task) if part == "test" else part.removeprefix("features:")
                chance = (run.noise, 0.0 if stage == "before" else who)
                table = _answers(stage, part, task, score, chance, n, source)
                metrics[stage][part] = synthetic.values(table, LABELS[task])
            tables.append(table)
    joined = synthetic._joined(tables)
    if sequence := continual.summary(joined, metrics, spec.resolved()):
        metrics["after"]["sequence"] = sequence
    cost = {"train_seconds": 30.0, "eval_seconds": 4.0, "peak_memory_bytes": 2**30, "trainable_parameters": 1000}
    provenance = {"ftlib": "0.1.0", "data_sha256": hashlib.sha256(spec.task.encode()).hexdigest(), "device": "cpu"}
    asked = {"passed": spec.passed(), "resolved": spec.resolved()}
    record = records.RunRecord(
        run_id=spec.run_id, status="ok", spec=asked, metrics=metrics, cost=cost, provenance=provenance
    )
    run_dir = folder / "runs" / spec.run_id
    run_dir.mkdir(parents=True)
    atomic.write_json(run_dir / "spec.json", {"schema": 1, "run_id": spec.run_id, **asked})
    records.write(run_dir, record, joined)


def _answers(
    stage: str, part: str, task: str, score: float, chance: tuple[Any, ...], n: int, source: int
) -> pd.DataFrame:
    """Answers of which so many are right, on examples that are as easy for all; chance moves an example's ease."""
    labels, rng = LABELS[task], _rng(task)
    truth, ease = rng.integers(0, len(labels), n), (rng.permutation(n) + 0.5) / n
    noise, who = chance
    right = ease + noise * _rng(who, stage, part).standard_normal(n) * bool(who) < score
    given = np.where(right, truth, (truth + 1) % len(labels))
    examples = pd.DataFrame({"id": [f"{task}-{i:04d}" for i in range(n)], "text": "a text"})
    examples["label"] = np.asarray(labels, dtype=object)[truth]
    if source:
        examples["cluster"] = [f"file-{i // source}" for i in range(n)]
    odds = np.full((n, len(labels)), 0.1 / (len(labels) - 1))
    odds[np.arange(n), given] = 0.9
    return records.predictions_table(stage, part, examples, labels, odds)


BEFORE = {"test": 0.35, "reviews": 0.5, "bios": None}


def sequence(reviews: float, bios: float) -> dict:
    """Stages of a run over three tasks; what is given is what is left of the first two at the end."""
    return {
        "before": BEFORE,
        "after_1": {"test": 0.4, "reviews": 0.85, "bios": None},
        "after_2": {"test": 0.45, "reviews": (0.85 + reviews) / 2, "bios": 0.8},
        "after": {"test": 0.75, "reviews": reviews, "bios": bios},
    }


def plain(test: float, **more) -> dict:
    return {"before": {"test": 0.35, **more.get("before", {})}, "after": {"test": test, **more.get("after", {})}}
