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
from ftlib.config.experiment import USUAL, Experiment, Plan, hash_of
from ftlib.core import atomic
from ftlib.metrics import classification
from ftlib.metrics.registry import measure_text

LIBRARIES = ("networkx", "numpy", "pandas", "scipy", "sklearn", "sympy", "torch", "transformers")
HOSTILE = ("<script>alert(1)</script>", '=HYPERLINK("http://evil","x")', "</svg><b>&amp;")
"""Label names that attack HTML, spreadsheets and SVG."""
HOSTILE_TEXT = (
    "@SUM(1) </svg></details><script>alert('text')</script> <img src=x onerror=alert(2)> $\\frac{1}{2}$ \x1b[31m"
)
PROTOCOL = "context 512, stride 256, BOS first, each document on its own"
COST = {"majority": 0.01, "tfidf": 2.0, "ngram": 0.5, "zero_shot": 0.0, "probe": 12.0, "lora": 140.0, "full": 150.0}
MEMORY = {"majority": 0.3, "tfidf": 0.4, "zero_shot": 0.7, "probe": 0.7, "lora": 1.0, "full": 1.4}
DRAWS = ("full", "lora", "rslora", "dora", "ia3", "bitfit", "last_layers", "prompt_tuning")
FACTORS = (1, 1 / 3, 3, 1 / 10, 10)
"""Learning rates a tuning budget buys, as multiples of the one asked for."""


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
    general: float | None = None
    """Bits per byte by which general text became dearer; None: not measured."""
    tried: Sequence[float | None] = ()
    """Mean score on validation of each setting tried, the first at the rate asked for; None: it diverged."""
    watched: Sequence[float] = (1.62, 1.32, 1.21, 1.14)
    """Mean loss on validation at equal distances up to step 100."""
    kept: int | None = None
    """The step whose weights were kept."""


@dataclass(frozen=True)
class MadeText:
    """One run on text to make up; every document's bits per byte are the untouched model's and the change."""

    method: str
    change: float = 0.0
    """Bits per byte of the task's documents."""
    general: float | None = None
    """Bits per byte of general text; None: not measured."""
    seeds: Sequence[int] = (0,)
    fields: Mapping[str, Any] = field(default_factory=dict)
    protocol: str = PROTOCOL
    pseudo: bool = False
    status: str = "ok"
    reason: str | None = None
    tried: Sequence[float | None] = ()
    """Mean score on validation of each setting tried, the first at the rate asked for; None: it diverged."""
    watched: Sequence[float] = (1.62, 1.32, 1.21, 1.14)
    """Mean loss on validation at equal distances up to step 100."""
    kept: int | None = None
    """The step whose weights were kept."""


TYPICAL = (
    Made("majority", -2.0),
    Made("tfidf", 0.62),
    Made("zero_shot", -0.12, as_before=True),
    Made("probe", 0.68),
    Made("lora", 0.84, (0, 1, 2)),
    Made("full", 0.88, (0, 1, 2)),
)


TEXTS = (
    MadeText("ngram", 0.9, protocol="byte 6-grams, each byte given the 5 before it in its document"),
    MadeText("zero_shot", 0.0, 0.0),
    MadeText("lora", -0.21, 0.03, (0, 1, 2)),
    MadeText("full", -0.26, 0.12, (0, 1, 2)),
)
"""A study of text alone: `write_study(folder, (), texts=TEXTS)`."""


def write_study(
    folder: Path,
    made: Sequence[Made] = TYPICAL,
    *,
    labels: tuple[str, ...] = LIBRARIES,
    n: int = 300,
    question: str = "LoRA or full fine-tuning for telling libraries apart?",
    plan: Mapping[str, Any] | None = None,
    hostile: bool = False,
    examples: bool = True,
    runs: str | None = None,
    noise: float = 0.02,
    texts: Sequence[MadeText] = (),
    text_task: str = "pydocs_text",
    n_texts: int = 60,
    clusters: bool = True,
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
        texts: Runs on text.
        text_task: Their task.
        n_texts: Its test documents.
        clusters: Whether those come in fours from one file.
    """
    everything = [*made, *texts]
    seeds = sorted({seed for run in everything for seed in run.seeds})
    plan = {"primary": "accuracy", "margin": 0.01, "seeds": seeds, "evaluations": [], "tuning": {}} | dict(plan or {})
    if texts:
        usual = USUAL["language-modeling"].model_dump()
        plan |= {"tasks": {text_task: usual}} if made else usual
    if any(run.general is not None for run in everything):
        plan["evaluations"] = ["general"]
    if runs is None:
        runs = "".join(_run_table({"method": run.method, **run.fields}) for run in made)
        runs += "".join(_run_table(_text_fields(run, text_task)) for run in texts)
    _write_suite(folder, question, plan, runs)
    plan_hash = hash_of(question, Plan(**plan))
    if texts:
        _write_texts(folder, texts, text_task, n_texts, clusters, plan, plan_hash)
    if not made:
        return folder
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
    untouched = values(before, labels)
    for run in made:
        for seed in run.seeds:
            spec = Experiment(
                **{"method": run.method, "tuning": {}, "evaluations": plan["evaluations"], **run.fields, "seed": seed}
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
            tables = [after] if run.method in ("majority", "tfidf") else [before, after]
            if run.general is not None:
                excerpts = _documents("general", 40, False)
                tables.append(_likelihoods("before", "general", excerpts, 0.0))
                tables.append(_likelihoods("after", "general", excerpts, run.general, run.method, seed))
            _write_run(folder, spec, run, _joined(tables), labels, plan_hash, data_sha256, rng, untouched)
    return folder


def _text_fields(run: MadeText, task: str) -> dict[str, Any]:
    model = {} if run.method == "ngram" else {"model": "minilm" if run.pseudo else "tiny-lm"}
    return {"method": run.method, "task": task, **model, **run.fields}


def _write_texts(
    folder: Path,
    texts: Sequence[MadeText],
    task: str,
    n: int,
    clusters: bool,
    plan: Mapping[str, Any],
    plan_hash: str,
) -> None:
    documents, excerpts = _documents("test", n, clusters), _documents("general", 40, False)
    data_sha256 = hashlib.sha256(f"text {n} {clusters}".encode()).hexdigest()
    rng = np.random.default_rng(11)
    for run in texts:
        for seed in run.seeds:
            fields = {"tuning": {}, "evaluations": plan["evaluations"], **_text_fields(run, task)}
            tables = []
            for part, examples, change in (("test", documents, run.change), ("general", excerpts, run.general)):
                if change is not None:
                    tables.append(_likelihoods("after", part, examples, change, run.method, seed))
                    if run.method != "ngram":
                        tables.append(_likelihoods("before", part, examples, 0.0))
            table = _joined(tables)
            if run.method == "ngram":
                table["n_tokens"] = None
            spec = Experiment(**fields, seed=seed)
            _write_run(folder, spec, run, table, (), plan_hash, data_sha256, rng)


def _documents(part: str, n: int, clusters: bool) -> pd.DataFrame:
    """Documents: how long each is and how many bits a byte of it costs the untouched model."""
    rng = np.random.default_rng(5)
    source = rng.normal(0, 0.15, n)[np.arange(n) // 4 if clusters else np.arange(n)]
    found = pd.DataFrame({"id": [f"{part}-{i:04d}" for i in range(n)], "n_bytes": rng.integers(200, 3000, n)})
    found["bits"] = 1.6 + source + rng.normal(0, 0.1, n)
    return found.assign(cluster=[f"file-{i // 4}.txt" for i in range(n)]) if clusters else found


def _likelihoods(stage: str, part: str, documents: pd.DataFrame, change: float, *who: Any) -> pd.DataFrame:
    """A model whose bits per byte are `change` more, and some chance; without a change it is the untouched model."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(repr((part, who)).encode()).digest()[:4], "big"))
    chance = rng.normal(0, 0.01) + rng.normal(0, 0.03, len(documents)) if change else 0.0
    sizes = documents["n_bytes"]
    nats = np.log(2) * sizes * (documents["bits"] + change + chance)
    found = pd.DataFrame({"nats": nats, "n_tokens": -(-sizes // 4), "n_bytes": sizes})
    return records.likelihoods_table(stage, part, documents, found)


def _joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One table, as a run writes it: columns that no row fills are put back after joining."""
    columns = list(dict.fromkeys(name for table in tables for name in table.columns))
    filled = pd.concat([table.dropna(axis=1, how="all") for table in tables], ignore_index=True)
    return filled.reindex(columns=columns)


def _run_table(fields: Mapping[str, Any]) -> str:
    return "\n[[runs]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in fields.items())


def _write_suite(folder: Path, question: str, plan: Mapping[str, Any], runs: str) -> None:
    lines = ["[study]", f"question = {json.dumps(question, ensure_ascii=False)}", "", "[plan]"]
    lines += [f"{key} = {_toml(value)}" for key, value in plan.items() if value != {}]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "suite.toml").write_text("\n".join(lines) + "\n" + runs, encoding="utf-8")


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
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
    run: Made | MadeText,
    table: pd.DataFrame,
    labels: tuple[str, ...],
    plan_hash: str,
    data_sha256: str,
    rng: np.random.Generator,
    untouched: Mapping[str, Any] | None = None,
) -> None:
    run_dir = folder / "runs" / spec.run_id
    run_dir.mkdir(parents=True)
    resolved = spec.resolved()
    asked = {"schema": 1, "run_id": spec.run_id, "passed": spec.passed(), "resolved": resolved, "plan_hash": plan_hash}
    atomic.write_json(run_dir / "spec.json", asked)
    (run_dir / "notebook.ipynb").write_text("{}", encoding="utf-8")
    metrics: dict[str, Any] = {"before": {}, "after": {}}
    for (stage, part), rows in table.groupby(["stage", "part"], sort=False):
        if rows["label"].isna().all():
            text = {} if isinstance(run, Made) else {"pseudo": run.pseudo, "protocol": run.protocol}
            metrics[stage][part] = measure_text(rows, **{"protocol": PROTOCOL} | text)
        elif untouched and stage == "before":
            metrics[stage][part] = untouched
        else:
            metrics[stage][part] = values(rows, labels)
    seconds = COST.get(run.method, 60.0) * (1 + 0.04 * rng.standard_normal())
    trained = run.method in DRAWS
    tuned = _tuned(run, resolved, "accuracy" if labels else "bits_per_byte")
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
            "achieved_flops_per_second": 31e9 if trained else None,
            "matmul_peak_flops_per_second": 95e9 if trained else None,
            "validation_seconds": 0.1 * seconds if trained else None,
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
            **({"tuned": tuned} if tuned else {}),
        },
    )
    records.write(run_dir, record, table if run.status == "ok" else None)
    if trained:
        _write_events(run_dir, run, tuned, resolved, rng)


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
    by_label = {name: classification.f1_of(truth, chosen, code) for code, name in enumerate(labels)}
    return _leaves(found, len(rows)) | {"f1": _leaves(by_label, len(rows))}


def _leaves(found, n):
    return {
        name: {"value": None, "low": None, "high": None, "n": n, "reason": "nothing to divide by"}
        if np.isnan(value)
        else {"value": value, "low": None, "high": None, "n": n}
        for name, value in found.items()
    }


def _tuned(run: Made | MadeText, resolved: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """What trying settings leaves in a record: the score of each differs a little from seed to seed."""
    if not run.tried or run.status != "ok":
        return {}
    rng = np.random.default_rng([resolved["seed"], len(run.tried)])
    scores = [None if mean is None else round(mean + 0.004 * rng.standard_normal(), 4) for mean in run.tried]
    tried = [
        {"learning_rate": resolved["learning_rate"] * factor, f"validation_{metric}": score}
        | ({"reason": "the training loss became nan"} if score is None else {})
        | {"n_validation": 600}
        for factor, score in zip(FACTORS, scores, strict=False)
    ]
    able = [one for one in tried if one[f"validation_{metric}"] is not None]
    sign = 1 if metric == "accuracy" else -1
    return {
        "learning_rate": max(able, key=lambda one: sign * one[f"validation_{metric}"])["learning_rate"],
        "tried": tried,
    }


def _write_events(
    run_dir: Path, run: Made | MadeText, tuned: Mapping[str, Any], resolved: Mapping[str, Any], rng: np.random.Generator
) -> None:
    """The run's diary: one fit, or one for each setting tried."""
    entries: list[dict[str, Any]] = []
    noise = rng.standard_normal(20)
    chance = np.random.default_rng([resolved["seed"], 9])
    for tried in tuned.get("tried") or [{"learning_rate": resolved["learning_rate"]}]:
        diverged = run.status == "diverged" or "reason" in tried
        entries.append({"event": "fit", "learning_rate": tried["learning_rate"], "steps": 100})
        for place, step in enumerate(range(5, 101, 5)):
            loss = round(2.1 * np.exp(-step / 40) + 0.9 + 0.05 * noise[place], 4)
            broken = diverged and step > 60
            entries.append({"event": "step", "step": step, "of": 100, "loss": None if broken else loss})
            if broken:
                break
            if run.watched and step % (100 // len(run.watched)) == 0:
                mean = run.watched[step // (100 // len(run.watched)) - 1] + 0.01 * chance.standard_normal()
                entries.append({"event": "validation", "step": step, "of": 100, "loss": round(mean, 4), "n": 600})
        if run.kept is not None and not diverged:
            entries.append({"event": "kept", "step": run.kept, "loss": round(min(run.watched), 4)})
        if tuned:
            entries.append({"event": "tried", **tried})
    lines = [json.dumps({"time": float(number), **entry}) for number, entry in enumerate(entries)]
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
