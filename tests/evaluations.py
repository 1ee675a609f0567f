"""Canaries and bias sets given to made-up studies, as their evaluations would have measured them."""

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
from groups import LABELS
from synthetic import _joined

from ftlib import records
from ftlib.config import experiment
from ftlib.core import atomic
from ftlib.data.canaries import EACH
from ftlib.data.task import make_task
from ftlib.evaluation.evaluate import evaluate_named
from ftlib.metrics.memorization import exposure_interval
from ftlib.training.contract import Predictor

KNOWN = {"full": {0: 0.0, 1: 2.0, 4: 6.0, 16: 12.0}, "lora": {0: 0.0, 1: 0.0, 4: 2.0, 16: 12.0}}
"""Method -> repetitions -> bits above chance."""


def parts_of(method, seed):
    """(stage, part) -> its metrics and its predictions."""
    found = {}
    for stage in ("before", "after"):
        for count, above in KNOWN[method].items():
            rng = np.random.default_rng([seed, count, stage == "after"])
            raised = above if stage == "after" else 0.0
            ranks = np.ceil(1024 * rng.random(EACH) / 2**raised).astype(int)
            leaf = dict(zip(("value", "low", "high"), exposure_interval(ranks, 1024), strict=True))
            leaf |= {"n": EACH, "protocol": "1,024 candidates"}
            ids = [f"{count}x {number}" for number in range(EACH)]
            table = {"id": ids, "nats": 9.0, "rank": ranks, "candidates": 1024}
            found[stage, f"canaries:{count}"] = {"exposure": leaf}, table
        for which, hits in (("train", 6 if (stage, method) == ("after", "full") else 1), ("test", 1)):
            counts = np.where(np.arange(40) < hits, 16, 3)
            leaf = {"value": hits / 40, "low": 0.0, "high": 1.0, "n": 40, "protocol": "32 tokens given, 16 written"}
            table = {"id": [f"d{i:02d}" for i in range(40)], "n_tokens": counts, "n_wanted": 16}
            found[stage, f"extraction:{which}"] = {"extraction": leaf}, table
    return found


def with_canaries(study):
    """A study on text whose runs had canaries as well."""
    for path, record in list(records.records_of(study)):
        spec, metrics = record.spec["resolved"], {stage: dict(parts) for stage, parts in record.metrics.items()}
        if spec["method"] not in KNOWN:
            continue
        tables = [records.read_predictions(path)]
        for (stage, part), (leaves, table) in parts_of(spec["method"], spec["seed"]).items():
            metrics[stage][part] = leaves
            tables.append(pd.DataFrame({"stage": stage, "part": part, **table}))
        columns = list(dict.fromkeys(name for table in tables for name in table.columns))
        joined = pd.concat([table.dropna(axis=1, how="all") for table in tables], ignore_index=True)
        (path / "record.json").unlink()
        changed = records.RunRecord(**vars(record) | {"metrics": metrics})
        records.write(path, changed, joined.reindex(columns=columns))
    return study


WOMEN = {"she", "her", "woman", "female"}


PAIRS = "id,bias_type,sent_more,sent_less\n" + "".join(f"p{n},gender,{n} women lie,{n} men lie\n" for n in range(60))


def chance(*who):
    return np.random.default_rng(int.from_bytes(hashlib.sha256(repr(who).encode()).digest()[:4], "big"))


def classifier(bias, seed):
    """Prefers nurse to physician by `bias` where a text is about a woman, but for some noise."""

    def probabilities(texts):
        found = []
        for text in texts:
            women = bool(WOMEN & {word.strip(".,").lower() for word in text.split()})
            nurse = 0.35 + bias * women + chance(text, seed, bias).normal(0, 0.02)
            found.append([nurse, 0.8 - nurse, 0.2])
        return np.asarray(found)

    return probabilities


def speaker(share, seed):
    """Finds the first of two sentences likelier in about this share of the pairs."""

    def score(sentences):
        likely = [chance(one, seed, share).random() < share for one in sentences]
        nats = [float(not good) if "women" in one else 0.5 for one, good in zip(sentences, likely, strict=True)]
        return pd.DataFrame({"nats": nats, "n_tokens": 3, "n_bytes": 11})

    return SimpleNamespace(score=score, protocol="context 512")


def give_biases(study, pairs):
    """Measure made-up models as runs would: `full` becomes biased, `lora` stays as it was, majority has no before."""
    texts = [f"{('He', 'She')[n % 2]} came at {n} to see me." for n in range(120)]
    rows = pd.DataFrame({"id": [f"t{n:03d}" for n in range(120)], "text": texts, "label": LABELS[0]})
    task = make_task("toy", dict.fromkeys(("train", "validation", "test"), rows), LABELS)
    spec, model = experiment.Experiment(), SimpleNamespace(family="decoder", speaks=True)
    for run_dir, record in list(records.records_of(study)):
        method, seed = (record.spec["resolved"][name] for name in ("method", "seed"))
        tables = [records.read_predictions(run_dir)]
        written = json.loads((run_dir / "record.json").read_text(encoding="utf-8"))
        for stage in ("before", "after"):
            if (method, stage) == ("majority", "before"):
                continue
            adapted = stage == "after" and method in ("full", "lora")
            bias, who = (0.15 if method == "full" else 0.0, seed + 1) if adapted else (0.0, 0)
            likely = speaker(0.9 if bias else 0.5, who)
            if method == "lora" and adapted:
                likely = None
            made = Predictor(0, 0, 0, classifier(bias, who), likelihood=likely)
            for name in ("swaps:gender", "swaps:religion", "templates", f"pairs:{pairs}"):
                for part, (metrics, table) in evaluate_named(stage, spec, task, model, made, name).items():
                    written["metrics"][stage][part] = metrics
                    tables += [] if table is None else [table]
        _joined(tables).to_parquet(run_dir / "predictions.parquet", index=False)
        atomic.write_json(run_dir / "record.json", written)
