"""Stored configurations and tokenizers that were altered: the same answers as of the unaltered, or a refusal."""

import json
import shutil

import numpy as np
import pytest
import tiny_models
import torch
import transformers
from thorough import crossed

import ftlib
from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS as TABLE
from ftlib.config.methods import context_of
from ftlib.core.errors import FtlibError
from ftlib.execution.run import adapt, open_model, open_task
from ftlib.models import loading, weights
from ftlib.models.inference import module_probabilities
from ftlib.models.loading import load_model, pooled

TEXTS = ["a good film", "a bad film, disappointing and long and dull", "good"]
CLASSIFIERS = {
    "three_labels": {"num_labels": 3},
    "two_labels": {"num_labels": 2},
    "named": {"id2label": {0: "x", 1: "y"}, "label2id": {"x": 0, "y": 1}},
    "multi_label": {"num_labels": 2, "problem_type": "multi_label_classification"},
    "regression": {"num_labels": 1, "problem_type": "regression"},
    "dropout": {"num_labels": 2, "classifier_dropout": 0.9},
    "tuples": {"num_labels": 2, "return_dict": False, "output_hidden_states": True},
}


def classifier_of(base, folder, **config):
    """The base model stored as a classifier, its body as it was."""
    settings = transformers.AutoConfig.from_pretrained(base, **config)
    torch.manual_seed(7)
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    loader = transformers.AutoModelForSequenceClassification
    loader.from_pretrained(base, config=settings).save_pretrained(folder)
    transformers.utils.logging.set_verbosity(level)
    transformers.AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def head_of(folder, seed):
    module = load_model(str(folder), dtype="float32").classifier(2, seed)
    return {name: value.detach().clone() for name, value in module.named_parameters()}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_new_head_is_new_whatever_was_stored(at_home, tmp_path, name):
    folder = classifier_of(at_home / "tiny", tmp_path / name, **CLASSIFIERS[name])
    plain, found, other = head_of(at_home / "tiny", 0), head_of(folder, 0), head_of(folder, 1)
    assert all(torch.equal(found[one], value) for one, value in plain.items())
    assert not torch.equal(found["classifier.weight"], other["classifier.weight"])
    model = load_model(str(folder))
    assert model.stored_head == ["classifier.bias", "classifier.weight"]
    config = model.classifier(2, 0).config
    assert (config.num_labels, config.problem_type) == (2, "single_label_classification")


METHODS = ("probe", "zero_shot", "full", "lora", "bitfit", "last_layers", "setfit", "distill")


def answers(folder, method, shots=0):
    arguments = {"layers": 1} if method == "distill" else {"k": 1} if method == "last_layers" else {}
    trains = (
        {} if method in ("probe", "zero_shot", "in_context") else {"epochs": 1, "batch_size": 8, "learning_rate": 0.003}
    )
    limit = {"shots": shots} if shots else {} if method == "zero_shot" else {"train_limit": 16}
    words = {"bad": "negative", "good": "positive"}
    spec = Experiment(
        task="file:opinions", model=str(folder), method=method, method_args=arguments, dtype="float32",
        max_length=24, label_words=words, **limit, **trains,
    )  # fmt: skip
    task, model = open_task(spec), open_model(spec)
    return adapt(spec, task, model).predictor.probabilities(TEXTS)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_answers_alike_on_a_base_model_and_on_a_stored_classifier(at_home, tmp_path, method, capsys):
    folder = classifier_of(at_home / "tiny", tmp_path / "three", **CLASSIFIERS["three_labels"])
    assert np.allclose(answers(at_home / "tiny", method), answers(folder, method), atol=1e-6)


def test_the_record_says_that_a_stored_head_was_dropped(at_home, tmp_path, capsys):
    folder = classifier_of(at_home / "tiny", tmp_path / "two", **CLASSIFIERS["two_labels"])
    asked = {"task": "file:opinions", "method": "full", "train_limit": 8, "eval_limit": 8, "epochs": 1}
    came = ftlib.run(Experiment(model=str(folder), **asked), tmp_path / "run").provenance
    assert came["dropped_head"] == ["classifier.bias", "classifier.weight"]
    assert came["model_files_sha256"] == weights.model_digest(folder)
    assert "dropped_head" not in ftlib.run(Experiment(model="tiny", **asked), tmp_path / "other").provenance


TOLD = "tokenizer_config.json"
TOKENIZERS = {
    "padding on the left": {"padding_side": "left"},
    "cut on the left": {"truncation_side": "left"},
    "pad is the end": {"pad_token": "[SEP]"},
    "no pad": {"pad_token": None},
    "no mask listed": {"model_input_names": ["input_ids", "token_type_ids"]},
}


@pytest.fixture(scope="module")
def untouched():
    """(family, method) -> what the unaltered model answers, computed once."""
    return {}


@pytest.mark.parametrize(("name", "method"), crossed(TOKENIZERS, METHODS, ("padding on the left",)))
def test_an_altered_tokenizer_changes_no_answer(at_home, tmp_path, name, method, untouched, capsys):
    folder = tmp_path / "altered"
    shutil.copytree(at_home / "tiny", folder)
    for path in (folder / "tokenizer_config.json", folder / "special_tokens_map.json"):
        if path.exists():
            said = json.loads(path.read_text(encoding="utf-8"))
            kept = {key: value for key, value in (said | TOKENIZERS[name]).items() if value is not None}
            path.write_text(json.dumps(kept), encoding="utf-8")
    if ("encoder", method) not in untouched:
        untouched["encoder", method] = answers(at_home / "tiny", method)
    assert np.allclose(untouched["encoder", method], answers(folder, method), atol=1e-5)


WRITERS = {
    "llama": ("zero_shot", "in_context", "lora", "ia3", "prompt_tuning", "full"),
    "t5": ("zero_shot", "lora", "full"),
}
BESIDE = TOKENIZERS | {
    "pad is the end": {"pad_token": "<eos>"},
    "cache off, tuples": {"config.json": {"use_cache": False, "return_dict": False, "output_hidden_states": True}},
    "another way to generate": {"generation_config.json": {"max_length": 3, "do_sample": True, "num_beams": 4}},
}


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize(
    ("family", "method"),
    [
        pytest.param(family, one, marks=() if one in ("zero_shot", "full") else pytest.mark.slow)
        for family, some in WRITERS.items()
        for one in some
    ],
)
def test_nothing_stored_beside_a_decoders_weights_changes_an_answer(
    at_home, tmp_path, family, method, name, untouched, capsys
):
    tiny_models.tiny(family, tmp_path / "model")
    shots = int(method == "in_context")
    if (family, method) not in untouched:
        untouched[family, method] = answers(tmp_path / "model", method, shots)
        if method != "zero_shot":
            # Otherwise nothing was altered by the method itself, and there would be nothing to compare.
            assert not np.allclose(untouched[family, method], answers(tmp_path / "model", "zero_shot"), atol=1e-4)
    given = BESIDE[name]
    files = {key: value for key, value in given.items() if key.endswith(".json")} or {"tokenizer_config.json": given}
    for file, fields in files.items():
        path = tmp_path / "model" / file
        said = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        kept = {key: value for key, value in (said | fields).items() if value is not None}
        path.write_text(json.dumps(kept), encoding="utf-8")
    assert np.allclose(untouched[family, method], answers(tmp_path / "model", method, shots), atol=1e-5)


def alterations(family):
    """What may lie beside the weights: file -> fields, by what it is."""
    for name, given in (TOKENIZERS if family == "encoder" else BESIDE).items():
        yield name, ({key: value for key, value in given.items() if key.endswith(".json")} or {TOLD: given})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "family"),
    [
        (name, family)
        for name, row in TABLE.items()
        if row.model and not row.needs
        for family in row.serves.get("classification", ())
    ],
)
def test_every_method_answers_alike_on_every_family_or_refuses_it(grouped, at_home, tmp_path, method, family, capsys):
    row, models = TABLE[method], {"decoder": "llama", "encoder-decoder": "t5"}
    given = {"task": grouped, "group_columns": ["who"]} if row.groups else {"task": "file:opinions"}
    given |= {"shots": 1} if row.needs_shots else {} if row.untouched else {"train_limit": 48 if row.groups else 16}
    given |= {"epochs": 1, "min_steps": 0, "batch_size": 8, "learning_rate": 0.003} if row.trains else {}
    given |= {"joint_tasks": ["file:topics"]} if row.merges else {}
    given |= {"sequential_tasks": ["file:topics"]} if row.stacks else {}
    arguments = dict.fromkeys({"layers", "k"} & set(row.arguments), 1)

    def answered(folder):
        words = {"bad": "negative", "good": "positive"}
        spec = Experiment(
            model=str(folder), method=method, method_args=arguments, dtype="float32", max_length=24, label_words=words,
            **given,
        )  # fmt: skip
        task, model = open_task(spec), open_model(spec)
        # One that goes by groups finds a text's group in the task.
        texts = task.splits["test"]["text"].tolist()[:8] if row.groups else TEXTS
        return adapt(spec, task, model).predictor.probabilities(texts)

    for number, (name, files) in enumerate([("as it is", {}), *alterations(family)]):
        folder = tmp_path / str(number)
        if family == "encoder":
            shutil.copytree(at_home / "tiny", folder)
        else:
            tiny_models.tiny(models[family], folder)
        for file, fields in files.items():
            path = folder / file
            said = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
            kept = {key: value for key, value in (said | fields).items() if value is not None}
            path.write_text(json.dumps(kept), encoding="utf-8")
        if not number:
            try:
                plain = answered(folder)
            except FtlibError as error:
                assert "allowed" in str(error) or "has no" in str(error), error
                return
        else:
            assert np.allclose(plain, answered(folder), atol=1e-5), name


def test_a_tokenizer_of_another_model_is_refused(at_home, tmp_path):
    folder = tmp_path / "altered"
    shutil.copytree(at_home / "tiny", folder)
    path = folder / "tokenizer.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    said["model"]["vocab"]["word"] = 10**6
    path.write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(FtlibError, match="do not belong together"):
        load_model(str(folder))


@pytest.mark.parametrize("how", ["mean", "max", "first", "last"])
def test_pooling_goes_by_the_mask_and_not_by_position(how):
    hidden = torch.randn(2, 3, 4)
    filled = torch.zeros(2, 2, 4)
    there, none = torch.ones(2, 3), torch.zeros(2, 2)
    right = pooled(torch.cat([hidden, filled + 9], 1), torch.cat([there, none], 1), how)
    left = pooled(torch.cat([filled - 9, hidden], 1), torch.cat([none, there], 1), how)
    assert torch.equal(right, pooled(hidden, there, how)) and torch.equal(left, right)


def test_the_stored_pooling_is_used_and_an_unknown_one_refused(at_home, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(at_home / "tiny", folder)
    (folder / "1_Pooling").mkdir()
    mean = loading.features(load_model(str(folder), dtype="float32"), TEXTS, 24)

    def stored(**modes):
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes), encoding="utf-8")
        return load_model(str(folder), dtype="float32")

    assert np.array_equal(mean, loading.features(stored(pooling_mode_mean_tokens=True), TEXTS, 24))
    first = stored(pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)
    assert first.pooling == "first" and not np.allclose(mean, loading.features(first, TEXTS, 24))
    assert stored(pooling_mode="lasttoken").pooling == "last"
    with pytest.raises(FtlibError, match="found pooling by cls_token and mean_tokens; allowed: one of mean"):
        stored(pooling_mode_cls_token=True, pooling_mode_mean_tokens=True)


def test_longer_texts_than_there_are_positions_are_refused_before_anything_runs(at_home, tmp_path):
    for folder, allowed in ((at_home / "tiny", 128), (roberta(at_home, tmp_path / "roberta", 66), 64)):
        asked = {"task": "file:opinions", "model": str(folder), "method": "probe"}
        with pytest.raises(FtlibError, match=f"max_length: found 129; allowed: at most {allowed}, as many tokens"):
            Experiment(**asked, max_length=129)
        Experiment(**asked, max_length=allowed)


def roberta(at_home, folder, positions):
    """A tiny RoBERTa, whose positions start at 2."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(at_home / "tiny")
    config = transformers.RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=positions, pad_token_id=1, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.RobertaModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_text_as_long_as_a_model_has_positions_for_can_be_read(at_home, tmp_path):
    folder = roberta(at_home, tmp_path / "roberta", 66)
    most = context_of(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    found = loading.features(load_model(str(folder), dtype="float32"), ["good " * 200, "bad"], most)
    assert found.shape == (2, 16) and np.isfinite(found).all()


@pytest.mark.parametrize("stored", ["LlamaModel", "LlamaForSequenceClassification"])
def test_a_head_on_the_last_token_reads_the_same_alone_and_filled_up(tmp_path, stored):
    module, tokenizer = tiny_models.build("llama")
    config = module.config
    config.pad_token_id, config.num_labels = None, 3
    kept = module.model
    if stored != "LlamaModel":
        kept = transformers.LlamaForSequenceClassification(config)
        kept.model = module.model
    kept.save_pretrained(tmp_path)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(tmp_path)
    model = load_model(str(tmp_path), dtype="float32")
    assert bool(model.stored_head) == (stored != "LlamaModel")
    answer = module_probabilities(model.classifier(2, 0), model, 24)
    together, alone = answer(TEXTS), np.concatenate([answer([text]) for text in TEXTS])
    assert together.shape == (3, 2) and np.allclose(together, alone, atol=1e-6)


def test_a_decoder_that_was_stored_without_its_output_layer_is_refused(tmp_path, at_home):
    folder = tmp_path / "writer"
    shutil.copytree(at_home / "writer", folder)
    module = transformers.AutoModelForCausalLM.from_pretrained(folder)
    module.model.save_pretrained(folder)
    path = folder / "config.json"
    said = json.loads(path.read_text(encoding="utf-8")) | {"architectures": ["LlamaForCausalLM"]}
    path.write_text(json.dumps(said | {"tie_word_embeddings": False}), encoding="utf-8")
    with pytest.raises(FtlibError, match=r"was stored without lm_head\.weight"):
        load_model(str(folder)).speaker()
