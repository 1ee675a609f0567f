"""Real sentences, the real encoder: each rung reaches what it should on SST-2 (minutes long, so in `make test-all`)."""

import pytest
from conftest import ROOT

import ftlib
from ftlib import cli

SST2 = ROOT.parent / "shared" / "data" / "sst2"
SUITE = """
[study]
question = "How should a small encoder be adapted to tell good from bad reviews?"
[plan]
primary = "accuracy"
margin = 0.01
seeds = [0, 1, 2]
[defaults]
task = "file:{task}"
train_limit = 2000
label_words = {{"0" = "negative", "1" = "positive"}}
[[runs]]
method = "tfidf"
train_limit = 0
[[runs]]
method = ["zero_shot", "lora", "full"]
"""
LEAST = {"tfidf": 0.80, "zero_shot": 0.65, "lora": 0.81, "full": 0.82}


@pytest.mark.slow
@pytest.mark.skipif(not SST2.exists(), reason="../shared/data/sst2 is not there; it comes with the development data")
def test_each_rung_reaches_its_accuracy_on_sst2(tmp_path):
    (tmp_path / "suite.toml").write_text(SUITE.format(task=SST2.as_posix()), encoding="utf-8")
    assert cli.main(["run", str(tmp_path)]) == 0
    runs = ftlib.read_runs(tmp_path)
    means = runs.groupby("method")["after.test.accuracy"].mean()
    print(means)
    for method, least in LEAST.items():
        assert means[method] >= least
    assert means["tfidf"] <= 0.82
