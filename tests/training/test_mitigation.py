"""What is done to training examples so that groups are treated more alike."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from thorough import mostly
from toy import grouped_spec

import ftlib
from ftlib.config.experiment import Experiment
from ftlib.core.errors import FtlibError
from ftlib.execution.scheduler import run_problems
from ftlib.methods.finetune import Weighted
from ftlib.training.mitigation import balanced, independent, mitigated


def test_with_weights_label_and_group_are_independent(grouped):
    train = ftlib.load_task(grouped, group_columns=["who"]).splits["train"]
    weights = independent(train["label"], train["group_who"])
    assert weights.sum() == pytest.approx(len(train))
    shares = pd.Series(weights).groupby([train["label"].to_numpy(), train["group_who"].to_numpy()]).sum().unstack()
    rates = shares.div(shares.sum(axis=1), axis=0)
    assert rates.loc["good"].to_numpy() == pytest.approx(rates.loc["bad"].to_numpy())


def test_balanced_examples_have_every_group_equally_often(grouped):
    train = ftlib.load_task(grouped, group_columns=["who"]).splits["train"]
    places = balanced(train["label"], train["group_who"], np.random.default_rng(3))
    assert set(places) == set(range(len(train)))
    counts = train.iloc[places].groupby(["label", "group_who"]).size().unstack()
    assert (counts["w"] == counts["m"]).all()


@pytest.mark.parametrize("method", mostly(("tfidf", "probe", "lora"), ["tfidf", "probe", "full", "lora"]))
def test_every_mitigation_runs_and_changes_what_is_learned(method, grouped, tmp_path):
    """The toy's examples name "his album" and "her novel", so there are terms to swap and to scrub."""
    test = ftlib.load_task(grouped).splits["test"]
    # Texts that scrubbing leaves alone: another answer there comes from training.
    alone = set(test.loc[~test["text"].str.contains(r"\b(?:his|her)\b"), "id"])

    def said(**fields):
        record = ftlib.run(grouped_spec(grouped, method=method, **fields), tmp_path / fields.get("mitigation", "plain"))
        assert record.status == "ok" and record.metrics["after"]["test"]["accuracy"]["n"] == 20
        table = ftlib.read_predictions(tmp_path / fields.get("mitigation", "plain"))
        rows = table[(table["stage"] == "after") & table["id"].isin(alone)]
        return record.cost["train_examples"], rows["score_good"].to_numpy()

    n, plain = said()
    seen = {how: said(mitigation=how) for how in ("reweight", "balance", "augment", "scrub")}
    assert len(plain) > 10 and all(len(scores) == len(plain) for _, scores in seen.values())
    assert all(not np.array_equal(scores, plain) for _, scores in seen.values())
    assert n == seen["reweight"][0] == seen["scrub"][0] == 80 < min(seen["balance"][0], seen["augment"][0])


def test_a_weight_counts_as_so_many_examples():
    class Fixed(torch.nn.Module):
        def forward(self, x):
            self.logits = x
            return self

    logits, labels = torch.randn(3, 2), torch.tensor([0, 1, 1])
    weighted = Weighted(Fixed())(labels, torch.tensor([2.0, 0.0, 1.0]), x=logits)["loss"]
    repeated = torch.nn.functional.cross_entropy(logits[[0, 0, 2]], labels[[0, 0, 2]])
    assert torch.allclose(weighted, repeated)


def test_without_groups_there_is_nothing_to_go_by(at_home):
    task = ftlib.load_task("file:opinions")
    with pytest.raises(FtlibError, match="needs groups"):
        mitigated(task, task.splits["train"], "balance", "", 0)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"method": "zero_shot", "mitigation": "balance"}, "zero_shot on pydocs"),
        ({"method": "setfit", "mitigation": "balance"}, "setfit on pydocs"),
        ({"method": "probe", "mitigation": "scrub", "mitigation_column": "x"}, "only reweight, balance"),
        ({"method": "full", "mitigation": "balance", "sequential_tasks": ["bios"]}, "not with sequential_tasks"),
    ],
)
def test_what_cannot_be_is_said(fields, said):
    with pytest.raises(FtlibError, match=said):
        Experiment(**fields)


def test_a_mitigation_without_groups_is_said_before_anything_runs(grouped):
    spec = Experiment(task="file:opinions", method="tfidf", mitigation="balance", dtype="float32")
    (said,) = run_problems(spec, ftlib.load_task(spec.task))
    assert "mitigation needs groups; name their column with group_columns" in said
    asked = {"group_columns": ["who"], "mitigation": "balance"}
    spec = Experiment(task=grouped, method="tfidf", dtype="float32", **asked)
    assert run_problems(spec, ftlib.load_task(grouped, **spec.columns())) == []


@pytest.mark.parametrize("how", ["augment", "scrub"])
def test_a_mitigation_that_would_change_no_text_is_said_before_anything_runs(at_home, how):
    lines = "".join(f"{word} {n},{n % 2},{'ab'[n % 2]}\n" for n, word in enumerate(["soup", "coat", "film"] * 20))
    Path("plain.csv").write_text("text,label,who\n" + lines, encoding="utf-8")
    fields = {"task": "file:plain.csv", "method": "tfidf", "dtype": "float32", "group_columns": ["who"]}
    spec = Experiment(**fields, mitigation=how)
    (said,) = run_problems(spec, ftlib.load_task(spec.task, **spec.columns()))
    assert said.startswith(f"mitigation: {how}: none of the ") and "English gender term" in said
