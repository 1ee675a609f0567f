"""hub: tasks, without the Hub: its cache, a stand-in for its client, and a server that never answers."""

import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import ROOT

from ftlib.core.errors import FtlibError
from ftlib.data import hub
from ftlib.data.registry import load_task

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CARD = """---
configs:
- config_name: default
  data_files:
  - {split: train, path: train.csv}
  - {split: test, path: test.csv}
dataset_info:
  features:
  - {name: text, dtype: string}
  - name: label
    dtype: {class_label: {names: {'0': negative, '1': positive}}}
---
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache of the Hub, offline."""
    for name, folder in (("HF_HOME", "."), ("HF_HUB_CACHE", "hub")):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", str(tmp_path / folder))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def repository(home, card=CARD):
    """What `hf download --repo-type dataset some/reviews` leaves."""
    folder = home / "hub" / "datasets--some--reviews"
    files = folder / "snapshots" / COMMIT
    files.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    (files / "README.md").write_text(card)
    (files / "train.csv").write_text("text,label\n" + "".join(f"text {n},{n % 2}\n" for n in range(20)))
    (files / "test.csv").write_text("text,label\ngood,1\nbad,0\n")
    return files


def dataset(train=20, **others):
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"sentence": Value("string"), "label": ClassLabel(names=["negative", "positive"])})

    def split(labels):
        return Dataset.from_dict(
            {"sentence": [f"text {n}" for n in range(len(labels))], "label": labels}, features=features
        )

    return {"train": split([n % 2 for n in range(train)])} | {name: split(labels) for name, labels in others.items()}


@pytest.fixture
def online(monkeypatch):
    """A Hub that knows one data set; returns what it was asked."""
    asked = {}
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    info = SimpleNamespace(sha=COMMIT, card_data=SimpleNamespace(license="mit"))
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda self, *args, **kwargs: info)
    monkeypatch.setattr("datasets.get_dataset_config_names", lambda *args, **kwargs: asked.get("configs", ["default"]))

    def load_dataset(path, name=None, **kwargs):
        asked.update(path=path, name=name, **kwargs)
        return asked["splits"]

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    return asked


def test_a_revision_is_pinned_to_its_commit_and_labels_have_names(online):
    online["splits"] = dataset(validation=[0, 1], test=[1, 0, 1])
    task = load_task("hub:some/reviews@main")
    assert online == online | {"path": "some/reviews", "name": "default", "revision": COMMIT}
    assert "trust_remote_code" not in online
    assert task.labels == ("negative", "positive") and list(task.splits["test"]["label"]) == [
        "positive",
        "negative",
        "positive",
    ]
    assert task.stated["revision"] == COMMIT and task.licence == "mit" and COMMIT in task.source
    assert task.stated["text_column"] == "sentence" and task.stated["hub_splits"] == "as on the Hub"


def test_hidden_test_labels_make_validation_the_test_split(online):
    online["splits"] = dataset(validation=[0, 1, 1], test=[-1, -1])
    task = load_task("hub:some/reviews")
    assert {split: len(frame) for split, frame in task.splits.items()} == {"train": 18, "validation": 2, "test": 3}
    assert "hidden" in task.stated["hub_splits"]


def test_without_a_test_split(online):
    online["splits"] = dataset(validation=[0, 1, 1])
    assert len(load_task("hub:some/reviews").splits["test"]) == 3
    online["splits"] = dataset()
    task = load_task("hub:some/reviews")
    assert {split: len(frame) for split, frame in task.splits.items()} == {"train": 14, "validation": 3, "test": 3}


def test_several_configurations_are_listed_and_one_can_be_named(online):
    online["configs"] = ["cola", "sst2"]
    with pytest.raises(FtlibError, match='2 configurations: cola, sst2; say which: task = "hub:some/glue/cola"'):
        load_task("hub:some/glue")
    online["splits"] = dataset(test=[0, 1])
    assert load_task("hub:some/glue/sst2").stated["configuration"] == "sst2" and online["name"] == "sst2"


def test_a_missing_label_in_a_row_is_refused(online):
    online["splits"] = dataset(validation=[0, 1], test=[1, -1, 1])
    with pytest.raises(FtlibError, match=r"some/reviews test row 2: the label \(label\) is missing"):
        load_task("hub:some/reviews")


def test_what_the_hub_refuses_is_said(online, monkeypatch):
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    for kind, said in ((RepositoryNotFoundError, "no such data set"), (RevisionNotFoundError, "no revision 'v9'")):

        def refuse(self, *args, kind=kind, **kwargs):
            raise kind.__new__(kind)

        monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", refuse)
        with pytest.raises(FtlibError, match=said):
            load_task("hub:some/reviews@v9")


@pytest.mark.parametrize("name", ["hub:", "hub:a/b/c/d", "hub:a//b", "hub:a@b@c"])
def test_names_that_cannot_be(name):
    with pytest.raises(FtlibError, match="allowed: hub:ID"):
        hub.parse(name)


def test_warm_cache_of_downloaded_files_is_read_offline(home):
    repository(home)
    for name in ("hub:some/reviews", "hub:some/reviews@main", f"hub:some/reviews@{COMMIT}"):
        task = load_task(name)
        assert task.labels == ("negative", "positive") and task.stated["revision"] == COMMIT
        assert len(task.splits["train"]) + len(task.splits["validation"]) == 20


def test_warm_cache_of_prepared_arrow_files_is_read_offline(home):
    folder = home / "datasets" / "some___film_reviews" / "default" / "0.0.0" / COMMIT
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    for split, rows in dataset(validation=[0, 1], test=[1, 0]).items():
        rows.save_to_disk(home / split)
        (home / split / "data-00000-of-00001.arrow").rename(folder / f"film_reviews-{split}.arrow")
    task = load_task("hub:some/filmReviews")
    assert task.stated["revision"] == COMMIT and len(task.splits["train"]) == 20
    with pytest.raises(FtlibError, match="not in the cache"):
        load_task("hub:some/filmReviews@" + COMMIT[::-1])


def test_a_commit_in_the_cache_asks_nobody(home, monkeypatch):
    repository(home)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda *args, **kwargs: pytest.fail("asked the Hub"))
    assert load_task(f"hub:some/reviews@{COMMIT}").stated["revision"] == COMMIT


@pytest.mark.parametrize("card_only", [False, True])
def test_cold_cache_offline_says_how_to_fetch(home, card_only):
    if card_only:
        files = repository(home)
        (files / "train.csv").unlink()
        (files / "test.csv").unlink()
    with pytest.raises(FtlibError) as caught:
        load_task("hub:some/reviews")
    assert 'load_dataset("some/reviews")' in str(caught.value)
    assert "hf download --repo-type dataset some/reviews" in str(caught.value) and "HF_HOME" in str(caught.value)


ASK = """
import time, ftlib.data.hub
start = time.monotonic()
try:
    ftlib.data.hub.load("hub:some/reviews")
except Exception as error:
    assert "not in the cache" in str(error), error
    print(time.monotonic() - start)
"""


def seconds_to_refuse(tmp_path, **environment):
    """In a process of its own, as the client reads its settings when it is imported."""
    found = subprocess.run(
        [sys.executable, "-c", ASK],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "HF_HOME": str(tmp_path), **environment},
        timeout=60,
        check=True,
    )
    return float(found.stdout)


def test_offline_the_error_comes_within_five_seconds(tmp_path):
    assert seconds_to_refuse(tmp_path, HF_HUB_OFFLINE="1") < 5


def test_a_hub_that_never_answers_costs_less_than_five_seconds(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert seconds_to_refuse(tmp_path, HF_ENDPOINT=address, HF_HUB_OFFLINE="", NO_PROXY="127.0.0.1") < 5
