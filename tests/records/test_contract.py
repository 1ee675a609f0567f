"""A finished study keeps its contract: every metric equals scikit-learn recomputed from the stored predictions."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from sklearn import metrics as sk

from ftlib import records


def recomputed(table, name, labels):
    truth, chosen = table["label"], table["prediction"]
    if name == "accuracy":
        return sk.accuracy_score(truth, chosen)
    if name == "f1_macro":
        return sk.f1_score(truth, chosen, average="macro")
    if name == "f1_binary":
        return sk.f1_score(truth, chosen, average="binary", pos_label=labels[1])
    if name == "mcc":
        return sk.matthews_corrcoef(truth, chosen)
    if name == "brier":
        scores = table[[f"score_{label}" for label in labels]].to_numpy()
        return ((scores - (truth.to_numpy()[:, None] == np.array(labels))) ** 2).sum(axis=1).mean()
    if name == "bits_per_byte":
        return table["nats"].sum() / np.log(2) / table["n_bytes"].sum()
    if name == "perplexity":
        return np.exp(table["nats"].sum() / table["n_tokens"].sum())
    return sk.f1_score(truth, chosen, labels=[name.removeprefix("f1.")], average=None)[0]


IN_NO_PREDICTION = {"order_sd"}
"""Metrics of several passes over the test part, of which one pass is stored."""


def test_every_metric_of_every_record_equals_scikit_learn_or_its_definition(toy_study):
    assert toy_study.code == 0, toy_study.said
    checked = 0
    for run_dir, record in records.records_of(toy_study.study):
        predictions = records.read_predictions(run_dir)
        labels = sorted(predictions["label"].dropna().unique())
        for stage, parts in record.metrics.items():
            for part, metrics in parts.items():
                table = predictions[(predictions["stage"] == stage) & (predictions["part"] == part)]
                if part == "sequence":
                    continue
                for name, leaf in records.flat(
                    {k: v for k, v in metrics.items() if k not in ("groups", "gaps")}
                ).items():
                    if leaf["value"] is not None and name not in IN_NO_PREDICTION:
                        assert leaf["value"] == pytest.approx(recomputed(table, name, labels), abs=1e-12), name
                        assert leaf["n"] == len(table)
                        checked += 1
    assert checked > 60


def test_the_contract_checker_passes(toy_study):
    checker = ROOT.parent / "shared" / "tools" / "check_study.py"
    if not checker.exists():
        pytest.skip("../shared/tools/check_study.py is not there; it comes with the development data")
    done = subprocess.run([sys.executable, str(checker), str(toy_study.study)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_prediction_columns_are_those_of_the_contract(toy_study):
    for run_dir, record in records.records_of(toy_study.study):
        columns = set(records.read_predictions(run_dir).columns)
        assert set(records.COLUMNS) <= columns
        labelled = record.spec["resolved"]["task"] == "file:opinions"
        scores = {column for column in columns if column.startswith("score_")}
        assert scores == ({"score_bad", "score_good"} if labelled else set())
    assert isinstance(run_dir, Path)
