"""Answers of many texts, for which an encoder computes no padding, and of few, for which it reads them as they come."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import toy
import transformers

from ftlib.models.inference import module_probabilities
from ftlib.models.loading import features_in_use, load_model
from ftlib.models.unpadded import MANY


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(toy.save_model(tmp_path_factory.mktemp("model") / "tiny"), dtype="float32", device="cpu")


def test_many_texts_get_the_answers_that_few_do(model):
    module = model.classifier(3, 0)
    texts = [" ".join(["good", "bad", "film"][: 1 + place % 3] * (1 + place % 5)) for place in range(MANY + 7)]
    calls = []
    module.bert.encoder.layer[0].register_forward_hook(lambda layer, args, out: calls.append(len(out)))
    answer = module_probabilities(module, model, 24)
    together = answer(texts)
    assert calls == [2], "the layers as they are say what the shortest and the longest text become, once"
    again = answer(texts)
    assert calls == [2], "which is asked once"
    assert np.array_equal(again, together)
    few = np.concatenate([answer(texts[start : start + 8]) for start in range(0, len(texts), 8)])
    assert sum(calls[1:]) == len(texts)
    assert np.abs(together - few).max() < 1e-6
    assert len(np.unique(together.round(6), axis=0)) > 5


def test_features_of_many_texts_are_those_of_each_alone(model):
    encoder = model.encoder()
    texts = [" ".join(["good", "bad", "film"][: 1 + place % 3] * (1 + place % 5)) for place in range(MANY + 7)]
    together = features_in_use(encoder, model, texts, 24, 64)
    assert (
        np.abs(together - np.concatenate([features_in_use(encoder, model, [text], 24, 1) for text in texts])).max()
        < 1e-6
    )
    assert "forward" not in vars(encoder.encoder) and not encoder._forward_pre_hooks


def test_threads_that_ask_one_model_get_the_answers_of_one(model):
    module = model.classifier(3, 0)
    asked = [["good film"] * MANY, ["bad", "good bad film good"] * MANY, ["film bad"], ["good"] * 3] * 6
    answer = module_probabilities(module, model, 24)
    wanted = [answer(texts) for texts in asked]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda texts: module_probabilities(module, model, 24)(texts), asked))
    assert all(np.abs(one - other).max() < 1e-6 for one, other in zip(found, wanted, strict=True))
    assert "forward" not in vars(module.bert.encoder) and not module.bert._forward_pre_hooks


def test_a_model_made_otherwise_answers_many_texts_as_few(model):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32, "num_attention_heads": 2}
    config = transformers.MPNetConfig(vocab_size=len(model.tokenizer), pad_token_id=0, num_labels=3, **sizes)
    module = transformers.MPNetForSequenceClassification(config)
    answer = module_probabilities(module, model, 24)
    texts = ["good film", "bad"] * MANY
    assert np.abs(answer(texts) - np.tile(answer(texts[:2]), (MANY, 1))).max() < 1e-6
