"""A study's folder made up from code: what running a suite would leave behind, without training anything.

`python tests/synthetic.py FOLDER [RECORDS [EXAMPLES]]` makes up a study of that size and times the report over it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ftlib import records
from ftlib.metrics import classification
from ftlib.spec import Experiment, digest

LIBRARIES = ("networkx", "numpy", "pandas", "scipy", "sklearn", "sympy", "torch", "transformers")
HOSTILE = ("<script>alert(1)</script>", '=HYPERLINK("http://evil","x")', "</svg><b>&amp;")
"""Label names that attack HTML, spreadsheets and SVG."""
HOSTILE_TEXT = (
    "@SUM(1) </svg></details><script>alert('text')</script> <img src=x onerror=alert(2)> $\\frac{1}{2}$ \x1b[31m"
)
COST = {"majority": 0.01, "tfidf": 2.0, "zero_shot": 0.0, "probe": 12.0, "lora": 140.0, "full": 150.0}
MEMORY = {"majority": 0.3, "tfidf": 0.4, "zero_shot": 0.7, "probe": 0.7, "lora": 1.0, "full": 1.4}
DRAWS = ("lora", "full")


@dataclass(frozen=True)
class Made:
    """One run to make up."""

    method: str
    skill: float
    """Log-odds of being right on an example of middling difficulty."""
    seeds: Sequence[int] = (0,)
    fields: Mapping[str, Any] = field(default_factory=dict)
    status: str = "ok"
    reason: str | None = None
    as_before: bool = False
    """Whether its predictions are those of the untouched model."""


LADDER = (
    Made("majority", -2.0),
    Made("tfidf", 0.62),
    Made("zero_shot", -0.12, as_before=True),
    Made("probe", 0.68),
    Made("lora", 0.84, (0, 1, 2)),
    Made("full", 0.88, (0, 1, 2)),
)


def write_study(
    folder: Path,
    made: Sequence[Made] = LADDER,
    *,
    labels: tuple[str, ...] = LIBRARIES,
    n: int = 300,
    question: str = "LoRA or full fine-tuning for telling libraries apart?",
    plan: Mapping[str, Any] | None = None,
    hostile: bool = False,
    examples: bool = True,
    runs: str | None = None,
    noise: float = 0.02,
) -> Path:
    """Write a study's folder as running its suite would; the same arguments give the same bytes.

    Args:
        folder: Where; it must not hold runs.
        made: The runs.
        labels: The task's labels.
        n: Test examples.
        question: The study's question.
        plan: Fields of [plan]; the seeds are those of `made` unless given.
        hostile: Whether the texts attack the page.
        examples: Whether `examples/<data_sha256>.parquet` is written.
        runs: The [[runs]] of suite.toml; made from `made` where None.
        noise: Spread of skill from seed to seed, in log-odds.
    """
    seeds = sorted({seed for run in made for seed in run.seeds})
    plan = {"primary": "accuracy", "margin": 0.01, "seeds": seeds, "probes": [], "tuning": {}} | dict(plan or {})
    _write_suite(folder, question, plan, made, runs)
    plan_hash = digest({"question": question, "plan": plan})[:16]
    rng = np.random.default_rng(7)
    task = pd.DataFrame({"id": [f"test-{i:05d}" for i in range(n)]})
    task["text"] = [
        HOSTILE_TEXT if hostile else f"Return the {w} of an array along axis {i}, ignoring missing values."
        for i, w in enumerate(rng.choice(["mean", "largest eigenvalue", "sorted order", "graph distance"], n))
    ]
    truth = rng.choice(len(labels), n)
    task["label"] = np.asarray(labels, dtype=object)[truth]
    data_sha256 = hashlib.sha256(repr(labels).encode() + truth.tobytes()).hexdigest()
    if examples:
        (folder / "examples").mkdir(parents=True)
        task.to_parquet(folder / "examples" / f"{data_sha256}.parquet", index=False)
    difficulty = rng.normal(0, 1.2, n)
    before = records.predictions_table(
        "before", "test", task, labels, _draw(rng, truth, difficulty, -0.12, len(labels))
    )
    for run in made:
        for seed in run.seeds:
            spec = Experiment(
                **{"method": run.method, "tuning": {}, "probes": plan["probes"], **run.fields, "seed": seed}
            )
            skill = run.skill + (rng.normal(0, noise) if len(run.seeds) > 1 else 0)
            after = records.predictions_table(
                "after", "test", task, labels, _draw(rng, truth, difficulty, skill, len(labels))
            )
            if run.as_before:
                after = before.assign(stage="after")
            if run.method == "majority":
                shares = np.bincount(truth, minlength=len(labels)) / n
                after = records.predictions_table("after", "test", task, labels, np.tile(shares, (n, 1)))
            table = after if run.method in ("majority", "tfidf") else pd.concat([before, after], ignore_index=True)
            _write_run(folder, spec, run, table, labels, plan_hash, data_sha256, rng)
    return folder


def _write_suite(folder: Path, question: str, plan: Mapping[str, Any], made: Sequence[Made], runs: str | None) -> None:
    lines = ["[study]", f"question = {json.dumps(question, ensure_ascii=False)}", "", "[plan]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in plan.items() if value != {}]
    if runs is None:
        runs = ""
        for run in made:
            fields = {"method": run.method, **run.fields}
            runs += "\n[[runs]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in fields.items())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "suite.toml").write_text("\n".join(lines) + "\n" + runs, encoding="utf-8")


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


def _draw(rng: np.random.Generator, truth: np.ndarray, difficulty: np.ndarray, skill: float, k: int) -> np.ndarray:
    right = rng.random(len(truth)) < 1 / (1 + np.exp(-(skill + difficulty)))
    wrong = (truth + rng.integers(1, k, len(truth))) % k
    logits = rng.normal(0, 0.5, (len(truth), k))
    logits[np.arange(len(truth)), np.where(right, truth, wrong)] += 3.0
    odds = np.exp(logits)
    return odds / odds.sum(axis=1, keepdims=True)


def _write_run(
    folder: Path,
    spec: Experiment,
    run: Made,
    table: pd.DataFrame,
    labels: tuple[str, ...],
    plan_hash: str,
    data_sha256: str,
    rng: np.random.Generator,
) -> None:
    run_dir = folder / "runs" / spec.run_id
    run_dir.mkdir(parents=True)
    resolved = spec.resolved()
    asked = {"schema": 1, "run_id": spec.run_id, "passed": spec.passed(), "resolved": resolved, "plan_hash": plan_hash}
    records.write_json(run_dir / "spec.json", asked)
    (run_dir / "notebook.ipynb").write_text("{}", encoding="utf-8")
    metrics: dict[str, Any] = {"before": {}, "after": {}}
    for (stage, part), rows in table.groupby(["stage", "part"], sort=False):
        metrics[stage][part] = values(rows, labels)
    seconds = COST.get(run.method, 60.0) * (1 + 0.04 * rng.standard_normal())
    trained = run.method in DRAWS
    record = records.RunRecord(
        run_id=spec.run_id,
        status=run.status,
        reason=run.reason,
        spec={"passed": spec.passed(), "resolved": resolved},
        plan_hash=plan_hash,
        metrics=metrics if run.status == "ok" else {"before": {}, "after": {}},
        cost={
            "train_seconds": seconds,
            "train_examples": 8 * resolved["shots"] or resolved["train_limit"] or 4000,
            "eval_seconds": 4.0,
            "peak_memory_bytes": int(MEMORY.get(run.method, 1.0) * 2**30),
            "trainable_parameters": {"full": 22_713_216, "lora": 663_552, "probe": 3080}.get(run.method, 0),
            "total_parameters": 22_713_216 if resolved["model"] else 0,
            "checkpoint_bytes": {"full": 90_900_000, "lora": 2_700_000}.get(run.method, 0),
            "train_examples_per_second": 60.0 if trained else None,
            "achieved_flops_per_second": None,
        },
        provenance={
            "ftlib": "0.1.0",
            "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
            "packages": {"torch": "2.13.0", "transformers": "5.23.0"},
            "device": "cpu",
            "threads": 1,
            "dtype": "bfloat16",
            "model_sha256": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
            if resolved["model"]
            else "",
            "data_sha256": data_sha256,
            "notebook_sha256": "ab" * 32,
        },
    )
    records.write(run_dir, record, table if run.status == "ok" else None)
    if trained:
        _write_events(run_dir, run.status == "diverged", rng)


def values(rows: pd.DataFrame, labels: tuple[str, ...]) -> dict[str, Any]:
    """What a record says of one part, without intervals (they are the report's to compute)."""
    truth, chosen = (rows[name].map(labels.index).to_numpy() for name in ("label", "prediction"))
    scores = rows[[f"score_{name}" for name in labels]].to_numpy()
    found = {
        "accuracy": classification.accuracy(truth, chosen),
        "f1_macro": classification.f1_macro(truth, chosen),
        "mcc": classification.mcc(truth, chosen),
        "brier": classification.brier(truth, scores),
    }
    if len(labels) == 2:
        found["f1_binary"] = classification.f1_binary(truth, chosen)
    found |= {f"f1_{name}": classification.f1_of(truth, chosen, code) for code, name in enumerate(labels)}
    return {
        name: {"value": None, "low": None, "high": None, "n": len(rows), "reason": "nothing to divide by"}
        if np.isnan(value)
        else {"value": value, "low": None, "high": None, "n": len(rows)}
        for name, value in found.items()
    }


def _write_events(run_dir: Path, diverged: bool, rng: np.random.Generator) -> None:
    lines = []
    for step in range(5, 101, 5):
        loss = 2.1 * np.exp(-step / 40) + 0.9 + 0.05 * rng.standard_normal()
        broken = diverged and step > 60
        entry = {
            "time": 1.0 + step,
            "event": "step",
            "step": step,
            "of": 100,
            "loss": None if broken else round(loss, 4),
        }
        lines.append(json.dumps(entry))
        if step % 25 == 0:
            entry = {"time": 1.0 + step, "event": "validation", "step": step, "loss": round(loss + 0.1, 4)}
            lines.append(json.dumps(entry))
    (run_dir / "events.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_large(folder: Path, n_records: int, n_examples: int) -> Path:
    """Write a study of `n_records` runs: the baselines, and five seeds each of as many learning rates as that needs."""
    rng = np.random.default_rng(0)
    made = [Made("majority", -1.0), Made("tfidf", 0.2), Made("zero_shot", 0.0, as_before=True)]
    for number in range((n_records - len(made)) // 5):
        fields = {"learning_rate": round(1e-5 * (1 + number // 2), 6)}
        made.append(Made(("lora", "full")[number % 2], rng.normal(0.8, 0.2), range(5), fields))
    made.append(Made("full", 0.3, range(n_records - sum(len(run.seeds) for run in made)), {"shots": 8}))
    return write_study(folder, made, labels=LIBRARIES[:4], n=n_examples)
