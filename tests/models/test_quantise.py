"""A model in bytes answers nearly as the one it was made of, whatever its family and method, and takes a quarter."""

import numpy as np
import pytest
import tiny_models
import torch
import toy

import ftlib
from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core.errors import FtlibError
from ftlib.execution.run import quantised
from ftlib.models.quantise import Int8Embedding, Int8Linear, quantise

TRAINS = [
    name
    for name, method in METHODS.items()
    if method.trains and "encoder" in method.serves.get("classification", ()) and not method.merges
]


@pytest.fixture(scope="module", autouse=True)
def more_models(toy_home):
    for family in ("gpt2", "t5"):
        tiny_models.tiny(family, toy_home / family)


def spec_of(method, model, **fields):
    more = {"method_args": {"layers": 1}} if "layers" in METHODS[method].arguments else {}
    more |= {"train_limit": 16, "epochs": 1.0, "batch_size": 8, "max_length": 24, "eval_limit": 8, "dtype": "float32"}
    more |= {"task": "file:opinions", "label_words": toy.LABEL_WORDS}
    return Experiment(method=method, model=model, **more | fields)


PAIRS = [(method, "tiny") for method in TRAINS] + [("full", name) for name in ("writer", "gpt2", "t5")]


@pytest.mark.parametrize(("method", "model"), [*PAIRS, ("lora", "gpt2"), ("prefix_tuning", "writer"), ("ia3", "t5")])
def test_it_answers_nearly_as_the_model_it_was_made_of(method, model, at_home):
    spec = spec_of(method, model)
    task = ftlib.load_task(spec.task, **spec.columns())
    texts = task.splits["test"]["text"].tolist()[:8]
    opened = ftlib.open_model(spec)
    base = sum(4 * p.numel() for p in (opened.encoder() if model == "tiny" else opened.speaker()).parameters())
    predictor = ftlib.adapt(spec, task, opened).predictor
    wanted, inner = predictor.probabilities(texts), predictor.trainable.module
    quantised(spec.model_copy(update={"quantise": "int8"}), predictor)
    found = predictor.probabilities(texts)
    assert 0 < np.abs(found - wanted).max() < 0.05
    layers = [layer for layer in inner.modules() if isinstance(layer, Int8Linear)]
    assert layers and predictor.checkpoint_bytes < 0.75 * base


def test_a_run_in_bytes_is_another_configuration_and_measures_all_that_others_do(at_home):
    how = {"task": "file:notes.txt", "label_words": {}, "eval_limit": 3}
    plain, small = (spec_of("full", "writer", quantise=said, **how) for said in ("", "int8"))
    first, second = ftlib.run(plain), ftlib.run(small)
    assert plain.run_id != small.run_id and second.status == "ok"
    assert second.cost["checkpoint_bytes"] < first.cost["checkpoint_bytes"]
    bits = [one.metrics["after"]["test"]["bits_per_byte"]["value"] for one in (first, second)]
    assert bits[0] != bits[1] and bits[1] == pytest.approx(bits[0], rel=0.02)


def test_each_output_and_each_word_has_a_scale_of_its_own():
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 8)
    with torch.no_grad():
        layer.weight *= torch.logspace(-3, 1, 8)[:, None]
        inputs = torch.randn(32, 64)
        apart = (Int8Linear(layer)(inputs) - layer(inputs)).abs().amax(dim=0)
        # In seven bits an input is off by half of 1 in 127 of the range, 64 of them by eight times that in the mean.
        assert (apart <= 4 * (inputs.max() - inputs.min()) / 254 * layer.weight.norm(dim=1)).all()
        words = torch.nn.Embedding(5, 16)
        assert (Int8Embedding(words)(torch.arange(5)) - words.weight).abs().max() <= words.weight.abs().max() / 254


def test_the_layer_that_predicts_tokens_and_what_shares_its_weights_stay(at_home):
    module = ftlib.open_model(spec_of("full", "gpt2")).speaker()
    quantise(module)
    assert isinstance(module.get_output_embeddings(), torch.nn.Linear)
    assert module.get_input_embeddings().weight is module.get_output_embeddings().weight


def test_what_cannot_be_in_bytes_is_said_before_anything_runs(at_home):
    for fields, said in (
        ({"method": "probe"}, "probe trains no model in float32; allowed with setfit, full"),
        ({"method": "full", "interpolation": [0.5]}, "not with interpolation, which goes on from float32 weights"),
        ({"method": "full", "save": True}, "transformers reads no model in bytes; save the run without quantise"),
        ({"method": "full", "device": "cuda"}, 'not cuda; device = "cpu"'),
    ):
        with pytest.raises(FtlibError, match=said):
            Experiment(quantise="int8", **fields)
