"""Groups given to the examples of made-up studies, and methods that treat them differently."""

import hashlib
import json

import numpy as np
from synthetic import Made

from ftlib import records
from ftlib.core import atomic
from ftlib.metrics.registry import measure

LABELS = ("nurse", "physician", "teacher")


def give_groups(study, worse=None, *, few=4, unnamed=7):
    """Give every example a gender, and have a method answer wrongly for some of the men; records say the same.

    Args:
        study: A study's folder.
        worse: Method -> share of men's examples that it gets wrong after adapting, on top.
        few: How many are of a third gender.
        unnamed: How many have none.
    """
    for run_dir, record in list(records.records_of(study)):
        table = records.read_predictions(run_dir)
        number = table["id"].str.removeprefix("test-").astype(int)
        gender = np.where(number % 2 == 0, "woman", "man").astype(object)
        gender[number < few] = "other"
        gender[(number >= few) & (number < few + unnamed)] = None
        table["group_gender"] = gender
        share = (worse or {}).get(record.spec["resolved"]["method"], 0.0)
        rng = np.random.default_rng(record.spec["resolved"]["seed"])
        hit = (table["stage"] == "after") & (table["group_gender"] == "man") & (rng.random(len(table)) < share)
        other = table["label"].map(lambda label: LABELS[(LABELS.index(label) + 1) % 3])
        table.loc[hit, "prediction"] = other[hit]
        for label in LABELS:
            table.loc[hit, f"score_{label}"] = (other[hit] == label).astype(float)
        table.to_parquet(run_dir / "predictions.parquet", index=False)
        written = json.loads((run_dir / "record.json").read_text(encoding="utf-8"))
        for (stage, part), rows in table.groupby(["stage", "part"], sort=False):
            written["metrics"][stage][part] = measure(rows, LABELS)
        atomic.write_json(run_dir / "record.json", written)
    return study


SEEDS = tuple(range(5))


MITIGATED = (
    Made("zero_shot", 0.5, as_before=True),
    Made("probe", 1.8),
    Made("probe", 1.8, fields={"mitigation": "reweight"}),
    Made("threshold", 1.8),
    Made("full", 2.0, SEEDS),
    Made("full", 2.0, SEEDS, {"mitigation": "scrub"}),
    Made("full", 2.0, SEEDS, {"mitigation": "balance"}),
)


SWAPPED = {"nurse": "physician", "physician": "nurse"}


def skewed(method, mitigation):
    """Of men who are nurses and women who are physicians, and of the others of both, the shares taken for the other."""
    if method == "zero_shot":
        return 0.0, 0.0
    return {"": (0.0, 0.0) if method == "threshold" else (0.5, 0.0), "balance": (0.5, 0.5)}.get(mitigation, (0.0, 0.0))


def give_skew(study, shares=skewed, *, few=4):
    """Give every example a gender, and have methods take some men for physicians and some women for nurses.

    Args:
        study: A study's folder; its records are made to say the same.
        shares: (method, mitigation) -> how often those of the rarer gender are mistaken, and how often the others.
        few: How many are of a third gender.
    """
    for run_dir, record in list(records.records_of(study)):
        table, spec = records.read_predictions(run_dir), record.spec["resolved"]
        number = table["id"].str.removeprefix("test-").astype(int)
        table["group_gender"] = np.where(number < few, "other", np.where(number % 2 == 0, "woman", "man"))
        rare, common = shares(spec["method"], spec["mitigation"])
        said = repr((spec["method"], spec["mitigation"], spec["seed"])).encode()
        chance = np.random.default_rng(int.from_bytes(hashlib.sha256(said).digest()[:4], "big")).random(len(table))
        rarer = (table["label"] == "nurse") == (table["group_gender"] == "man")
        hit = (table["stage"] == "after") & table["label"].isin(SWAPPED) & (chance < np.where(rarer, rare, common))
        other = table["label"].map(SWAPPED)
        table.loc[hit, "prediction"] = other[hit]
        for label in LABELS:
            table.loc[hit, f"score_{label}"] = (other[hit] == label).astype(float)
        table.to_parquet(run_dir / "predictions.parquet", index=False)
        written = json.loads((run_dir / "record.json").read_text(encoding="utf-8"))
        for (stage, part), own in table.groupby(["stage", "part"], sort=False):
            written["metrics"][stage][part] = measure(own, LABELS)
        atomic.write_json(run_dir / "record.json", written)
    return study
