"""A model without its layers is the one that model2vec makes, reads texts of every family, and is distilled once."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import model2vec
import numpy as np
import pytest
import tiny_models
import toy

import ftlib
from ftlib.config.experiment import Experiment
from ftlib.core.errors import FtlibError
from ftlib.methods import static
from ftlib.models.loading import load_model


@pytest.fixture(scope="module", autouse=True)
def more_models(toy_home):
    tiny_models.tiny("t5", toy_home / "t5")


def test_the_vectors_are_those_that_model2vec_makes(at_home):
    """Its own functions, without the part that wants an older transformers."""
    path = Path(model2vec.__file__).parent / "distill" / "inference.py"
    spec = importlib.util.spec_from_file_location("model2vec_inference", path)
    package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    model = load_model("tiny", dtype="float32")
    special = set(model.tokenizer.all_special_ids)
    ids = [number for number in range(len(model.tokenizer)) if number not in special]
    around = [[model.tokenizer.cls_token_id, number, model.tokenizer.sep_token_id] for number in ids]
    means = package.create_embeddings(model.encoder(), around, "cpu", model.tokenizer.pad_token_id)
    wanted = package.apply_pca(means, 8) * package.compute_weights(len(ids), static.SIF)[:, None]
    found = static.distilled(model, 8)
    # A component may point either way.
    signs = np.sign((found[ids] * wanted).sum(axis=0))
    assert np.abs(found[ids] * signs - wanted).max() < 1e-5 and not found[list(special)].any()


@pytest.mark.parametrize("name", ["tiny", "writer", "t5"])
def test_a_text_is_the_mean_of_its_tokens_whatever_the_family(name, at_home):
    model = load_model(name, dtype="float32")
    reader, text = static.static_model(model, 384, 64), "the soup was a joy"
    ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    mean = reader.embedding[ids].mean(axis=0)
    assert reader.encode(text) == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    spec = Experiment(method="static", model=name, task="file:opinions", label_words=toy.LABEL_WORDS, dtype="float32")
    record = ftlib.run(spec)
    accuracy = record.metrics["after"]["test"]["accuracy"]
    assert record.status == "ok" and accuracy["value"] > 0.6 and accuracy["n"] == toy.SIZES["test"]
    assert record.cost["total_parameters"] == reader.embedding.size + record.cost["trainable_parameters"]


def test_a_text_is_said_to_be_cut_where_its_end_changes_nothing(at_home):
    """Words it knows are a token each; the package also leaves off what is beyond so many characters."""
    spec = Experiment(method="static", model="tiny", task="file:opinions", label_words=toy.LABEL_WORDS, max_length=20)
    task = ftlib.open_task(spec)
    saved = ftlib.adapt(spec, task, ftlib.open_model(spec)).predictor.saved.ready(spec)
    short, full, beyond = "a joy", "a " * 20, "a " * 21
    reader = saved.module
    assert [len(one) for one in reader.tokenize([short, full, beyond])] == [2, 20, 20]
    texts = [short, full, beyond, "é" + full, "x" * 20 * reader.median_token_length + " soup"]
    assert saved.cut(texts).tolist() == [False, False, True, True, True]
    assert saved._static(texts)[0] == pytest.approx(reader.encode(texts), abs=1e-6), "read as the package reads"
    assert saved.predict(texts).cut.tolist() == saved.cut(texts).tolist() and not len(saved.cut([]))


def test_it_is_distilled_once_and_its_cost_counts_every_time(at_home, monkeypatch):
    spec = Experiment(method="static", model="tiny", task="file:opinions", label_words=toy.LABEL_WORDS, threads=2)
    first = ftlib.run(spec)
    monkeypatch.setattr(static, "distilled", lambda *arguments: pytest.fail("distilled again"))
    again = ftlib.run(spec)
    assert again.metrics == first.metrics and again.cost["train_seconds"] > 0.2 * first.cost["train_seconds"]


def test_what_the_layers_knew_is_measured_on_the_vectors(at_home):
    """General text has no likelihood any more, and says so; features are the vectors' own."""
    spec = Experiment(
        method="static", model="writer", task="file:opinions", label_words=toy.LABEL_WORDS, evaluations=["general"],
        eval_limit=8,
    )  # fmt: skip
    after = ftlib.run(spec).metrics["after"]["general"]["bits_per_byte"]
    assert after["value"] is None and "gives no likelihood" in after["reason"]


def test_a_tokenizer_written_in_python_is_refused(at_home):
    model = load_model("tiny", dtype="float32")
    with pytest.raises(FtlibError, match="tokenizer written in Python .*use probe"):
        static.static_model(replace(model, tokenizer=object()), 8, 8)
