"""A model in bytes answers nearly as the one it was made of, whatever its family and method, and takes a quarter."""

import shutil

import numpy as np
import pytest
import safetensors.torch
import tiny_models
import torch
import toy

import ftlib
from ftlib.cli import main
from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core.errors import FtlibError
from ftlib.execution.run import quantised
from ftlib.models import export
from ftlib.models.quantise import Int8Embedding, Int8Linear, _bytes, quantise
from ftlib.records import read_record

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
        small = Int8Linear(*_bytes(layer.weight), layer.bias)
        apart = (small(inputs) - layer(inputs)).abs().amax(dim=0)
        # In seven bits an input is off by half of 1 in 127 of the range, 64 of them by eight times that in the mean.
        assert (apart <= 4 * (inputs.max() - inputs.min()) / 254 * layer.weight.norm(dim=1)).all()
        words = torch.nn.Embedding(5, 16)
        assert (
            Int8Embedding(*_bytes(words.weight))(torch.arange(5)) - words.weight
        ).abs().max() <= words.weight.abs().max() / 254


def test_the_layer_that_predicts_tokens_and_what_shares_its_weights_stay(at_home):
    module = ftlib.open_model(spec_of("full", "gpt2")).speaker()
    quantise(module)
    assert isinstance(module.get_output_embeddings(), torch.nn.Linear)
    assert module.get_input_embeddings().weight is module.get_output_embeddings().weight


SAVED = [("full", "tiny"), ("lora", "tiny"), ("dora", "tiny"), ("setfit", "tiny"), ("lora", "writer"), ("full", "t5")]


@pytest.fixture(scope="module")
def kept(toy_home, tmp_path_factory):
    """Models in bytes, saved, and asked in one fresh process without ftlib."""
    out, found = tmp_path_factory.mktemp("bytes"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(toy_home)
        patch.setenv("FTLIB_CACHE", str(toy_home / "cache"))
        for method, model in SAVED:
            spec = spec_of(method, model)
            task = ftlib.open_task(spec)
            saved = ftlib.adapt(spec, task, ftlib.open_model(spec)).predictor.saved.ready(spec, precise=True)
            quantise(saved.module)
            saved.facts = {**saved.facts, "int8": True}
            export.write(out / f"{method}-{model}", saved)
            rows = dict.fromkeys(saved.questions, task.splits["test"])
            found[method, model] = saved, export.asked_of(saved, out / f"{method}-{model}", rows)
        answers, _ = export.ask_alone([asked for _, asked in found.values()])
        yield {pair: (*one, answer) for (pair, one), answer in zip(found.items(), answers, strict=True)}


@pytest.mark.parametrize("pair", SAVED)
def test_a_model_in_bytes_is_read_without_ftlib_and_again(kept, pair, at_home):
    saved, asked, alone = kept[pair]
    assert export.difference(saved, asked, alone) <= export.INT8_TOLERANCE
    back = export.load_adapted(asked.folder, threads=1, dtype="float32")
    assert export.difference(back, asked, alone) <= export.INT8_TOLERANCE and back.model.device == "cpu"
    assert any(isinstance(layer, Int8Linear) for layer in back.module.modules())
    files = {path.name for path in asked.folder.iterdir()}
    assert export.INT8 in files and not {"model.safetensors", "adapter_model.safetensors"} & files


def test_a_damaged_file_of_bytes_is_said_to_be(kept, at_home, tmp_path):
    folder = shutil.copytree(kept["full", "tiny"][1].folder, tmp_path / "model")
    whole = (folder / export.INT8).read_bytes()
    (folder / export.INT8).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FtlibError, match="cannot be read as a saved model"):
        export.load_adapted(folder)
    arrays = safetensors.torch.load(whole)
    safetensors.torch.save_file({**arrays, "more": torch.zeros(1)}, folder / export.INT8)
    with pytest.raises(FtlibError, match="more is in no layer of this configuration"):
        export.load_adapted(folder)


def test_a_run_in_bytes_keeps_its_model_and_a_run_in_float32_is_exported_in_bytes(at_home, tmp_path):
    small, plain = (spec_of("lora", "tiny", quantise=said, save=bool(said)) for said in ("int8", ""))
    for spec in (small, plain):
        assert ftlib.run(spec, tmp_path / spec.run_id).status == "ok"
    said = read_record(tmp_path / small.run_id).provenance["saved"]
    assert said["int8"] and said["largest_difference"] <= export.INT8_TOLERANCE
    assert said["weights_bytes"] < 0.75 * said["float32_bytes"]
    assert main(["export", str(tmp_path / plain.run_id), str(tmp_path / "out"), "--int8"]) == 0
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "are in int8 (" in card and " of 8 test examples have another label than in float32" in card
    texts = ftlib.load_task(small.task).splits["test"]["text"].tolist()
    kept, made = (export.load_adapted(path, dtype="float32") for path in (tmp_path / small.run_id, tmp_path / "out"))
    assert kept.probabilities(texts) == pytest.approx(made.probabilities(texts), abs=export.INT8_TOLERANCE)
    assert main(["export", str(tmp_path / small.run_id), str(tmp_path / "copied")]) == 0
    assert (tmp_path / "copied" / export.INT8).is_file()


def test_what_cannot_be_in_bytes_is_said_before_anything_runs(at_home):
    for fields, said in (
        ({"method": "probe"}, "probe trains no model in float32; allowed with setfit, full"),
        ({"method": "full", "interpolation": [0.5]}, "not with interpolation, which goes on from float32 weights"),
        (
            {"method": "prefix_tuning", "save": True},
            "what prefix_tuning learns stands before the text .* leave out save",
        ),
        ({"method": "full", "device": "cuda"}, 'not cuda; device = "cpu"'),
    ):
        with pytest.raises(FtlibError, match=said):
            Experiment(quantise="int8", **fields)
