"""Adapters begin where the model is, move what they say and nothing else, and are stored for plain peft to read."""

import math

import numpy as np
import peft
import pytest
import tiny_models
import torch
import toy
import transformers
from safetensors.torch import load_file
from thorough import mostly

import ftlib
from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core.errors import FtlibError
from ftlib.execution.scheduler import run_problems
from ftlib.methods.finetune import biases, last_layers, new_parameters
from ftlib.models.loading import load_model
from ftlib.models.prompts import clipped, prompt_of
from ftlib.models.score import score_continuations
from ftlib.records.events import Events
from ftlib.training.trainer import fit

HERE = [name for name, method in METHODS.items() if method.notebook == "12_run_adapter" and not method.needs]
PEFT = [name for name in HERE if METHODS[name].peft]
VIRTUAL = [name for name in PEFT if not METHODS[name].continues]
MERGES = [name for name in PEFT if name not in VIRTUAL]
KINDS = {
    "tiny": (transformers.AutoModelForSequenceClassification, {"num_labels": 2}),
    "bare": (transformers.AutoModelForSequenceClassification, {"num_labels": 2}),
    "writer": (transformers.AutoModelForCausalLM, {}),
    "gpt2": (transformers.AutoModelForCausalLM, {}),
    "t5": (transformers.AutoModelForSeq2SeqLM, {}),
}
# They have no bias at all; GPT-2's layers are none of torch's.
UNFIT = {("bitfit", "writer"), ("bitfit", "t5"), ("miss", "gpt2"), ("oft", "gpt2"), ("delora", "gpt2")}


def pairs(methods, *models):
    return pytest.mark.parametrize(
        ("method", "name"), [(one, other) for one in methods for other in models if (one, other) not in UNFIT]
    )


@pytest.fixture(scope="module", autouse=True)
def more_models(toy_home):
    """GPT-2, an encoder-decoder, and an encoder stored without the layer that sums a text up, beside the toy's own."""
    for family, name in (("gpt2", "gpt2"), ("t5", "t5"), ("bert", "bare")):
        tiny_models.tiny(family, toy_home / name)


def made(method, name, **fields):
    """(spec, model, predictor) on the toy task, or on the toy text."""
    on_text = fields.get("task") == "file:notes.txt"
    given = {"task": "file:opinions", "label_words": {} if on_text else toy.LABEL_WORDS, "max_length": 24} | fields
    spec = Experiment(method=method, model=name, dtype="float32", **given)
    task, model = ftlib.load_task(spec.task, **spec.columns()), load_model(name, dtype="float32")
    return spec, model, METHODS[method].prepare()(model, spec, task, task.splits["train"])


def fresh(name):
    """The model as any user of transformers gets it, its new layers other than ours."""
    kind, how = KINDS[name]
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    torch.manual_seed(99)
    module = kind.from_pretrained(name, **how).eval()
    transformers.utils.logging.set_verbosity(level)
    return module


@torch.inference_mode()
def says(module, width=400):
    """Logits of two texts, one of them padded; of a decoder after a learned prompt, those of the text."""
    module.eval()
    size = min(module.get_input_embeddings().num_embeddings, width)
    ids = torch.randint(4, size, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
    more = {"decoder_input_ids": ids[:, :4]} if module.config.is_encoder_decoder else {}
    return module(input_ids=ids, attention_mask=mask, **more).logits


def moved(module, by=0.03):
    """The module, whatever trains shifted at random: what training does, and quicker."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(by * torch.randn(parameter.shape, generator=generator))
    return module


# Where they begin.


@pairs(MERGES, "tiny", "writer")
def test_an_adapter_begins_where_the_model_is(method, name, at_home):
    _, model, predictor = made(method, name)
    untouched = model.classifier(2, 0) if name == "tiny" else model.speaker()
    apart = (says(predictor.trainable.module) - says(untouched)).abs().max().item()
    # PiSSA takes the weights apart and puts them together again, which float32 does to seven digits.
    assert apart <= (1e-4 if method == "pissa" else 0.0)


def test_the_seed_draws_an_adapter(at_home):
    for method in PEFT:
        first, again, other = (
            torch.cat([p.flatten() for p in made(method, "tiny", seed=seed)[2].trainable.module.state_dict().values()])
            for seed in (0, 0, 1)
        )
        assert torch.equal(first, again) and not torch.equal(first, other), method


# What is stored.


@pairs(PEFT, "bare", "writer", "gpt2", "t5")
def test_a_stored_adapter_is_read_by_plain_peft_and_merges(method, name, at_home, tmp_path):
    _, _, predictor = made(method, name)
    module = moved(predictor.trainable.module)
    wanted = says(module)
    module.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert predictor.checkpoint_bytes == sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    read = peft.PeftModel.from_pretrained(fresh(name), tmp_path)
    assert torch.equal(says(read), wanted)
    if method in MERGES:
        assert (says(read.merge_and_unload()) - wanted).abs().max() <= 1e-5


def test_peft_finds_the_base_model_by_itself(at_home, tmp_path):
    for method in ("lora", "prefix_tuning"):
        module = moved(made(method, "writer")[2].trainable.module)
        module.save_pretrained(tmp_path / method)
        assert torch.equal(says(peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / method)), says(module))


def test_an_adapter_that_training_made_predicts_the_same_when_it_is_read_and_merged(at_home, tmp_path):
    spec, model, predictor = made("dora", "tiny", epochs=2.0, batch_size=8, learning_rate=0.01)
    task = ftlib.load_task(spec.task, **spec.columns())
    fit(predictor.trainable, model, spec, task.splits["train"], Events())
    texts = task.splits["test"]["text"].tolist()
    wanted = predictor.probabilities(texts)
    predictor.trainable.module.save_pretrained(tmp_path)
    merged = peft.PeftModel.from_pretrained(fresh("tiny"), tmp_path).merge_and_unload().eval()
    tokens = model.tokenizer(texts, truncation=True, max_length=24, padding=True, return_tensors="pt")
    with torch.inference_mode():
        found = merged(**tokens).logits.double().softmax(dim=-1).numpy()
    assert np.abs(found - wanted).max() <= 1e-5


def test_the_sizes_are_those_a_person_counts(at_home):
    base = sum(p.numel() for p in load_model("tiny").classifier(2, 0).parameters())
    # 2 layers of a BERT of width 32: four 32 x 32, 32 x 64 and 64 x 32 each; a 32 x 32 pooler; a head of 2 x 33.
    ends, head = 2 * (4 * 64 + 2 * 96) + 64, 66
    counted = {
        "lora": (8 * ends, 8 * ends),
        "dora": (8 * ends + 2 * (5 * 32 + 64) + 32, 8 * ends + 2 * (5 * 32 + 64) + 32),
        "prompt_tuning": (20 * 32, 20 * 32),
        "prefix_tuning": (20 * 2 * 2 * 32, 20 * 2 * 2 * 32),
        # The network that makes the tokens is not needed once they are made.
        "p_tuning": (20 * 32 + 3 * 33 * 32, 20 * 32),
        # A number per output and one per rank of each layer; a 256 x 64 matrix each way, which does not train.
        "vera": (2 * (5 * 32 + 64) + 32 + 13 * 256, 2 * (5 * 32 + 64) + 32 + 13 * 256 + 2 * 256 * 64),
    }
    for method, (trained, kept) in counted.items():
        predictor = made(method, "tiny")[2]
        assert predictor.trainable_parameters == trained + head, method
        assert predictor.checkpoint_bytes == 4 * (kept + head), method
        assert predictor.total_parameters == base + kept, method


def test_a_layer_that_no_file_held_trains_and_is_stored(at_home):
    """Otherwise whoever reads the adapter would draw that layer anew, and get other answers."""
    assert new_parameters(load_model("tiny").classifier(2, 0)) == ["classifier.weight", "classifier.bias"]
    new = {name.rpartition(".")[0] for name in new_parameters(load_model("bare").classifier(2, 0))}
    assert new == {"bert.pooler.dense", "classifier"}
    for method in HERE:
        predictor = made(method, "bare")[2]
        trains = [name for name, p in predictor.trainable.module.named_parameters() if p.requires_grad]
        assert any("pooler" in name for name in trains) and any("classifier" in name for name in trains), method
        assert not any("lora" in name and "pooler" in name for name in trains), method


# What moves.


@pairs(HERE, "tiny", "gpt2")
def test_training_moves_what_is_meant_to_move_and_nothing_else(method, name, at_home):
    # The topmost layer alone: below it T5 keeps a table of distances, which says nothing about a single word.
    which = {"k": 1} if method == "last_layers" else {}
    fields = {"epochs": 1.0, "batch_size": 8, "learning_rate": 0.01, "method_args": which}
    spec, model, predictor = made(method, name, **fields)
    module = predictor.trainable.module
    before = {key: value.clone() for key, value in module.state_dict().items()}
    trains = {key for key, parameter in module.named_parameters() if parameter.requires_grad}
    task = ftlib.load_task(spec.task, **spec.columns())
    fit(predictor.trainable, model, spec, task.splits["train"][:12], Events())
    changed = {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == trains
    assert sum(module.get_parameter(key).numel() for key in trains) == predictor.trainable_parameters


def test_bitfit_moves_every_bias_and_last_layers_the_last(at_home):
    module = made("bitfit", "tiny")[2].trainable.module
    trains = {key for key, p in module.named_parameters() if p.requires_grad}
    assert trains == {key for key, _ in module.named_parameters() if key.endswith("bias")} | {"classifier.weight"}
    for name, above in (("tiny", {"bert.pooler", "classifier"}), ("gpt2", {"transformer.ln_f"})):
        module = made("last_layers", name, method_args={"k": 1})[2].trainable.module
        trains = {key for key, p in module.named_parameters() if p.requires_grad}
        layer = "bert.encoder.layer." if name == "tiny" else "transformer.h."
        assert {key for key in trains if not key.startswith(layer + "1.")} == {
            key for key, _ in module.named_parameters() if key.startswith(tuple(above))
        }
        assert not any(key.startswith(layer + "0.") for key in trains)
        assert {key for key, _ in module.named_parameters() if key.startswith(layer + "1.")} <= trains


@pytest.mark.parametrize("family", sorted(set(tiny_models.FAMILIES) - {"bert"}))
def test_the_last_layers_of_every_family_end_in_its_last_norm_and_before_its_vocabulary(family):
    module, words = tiny_models.build(family)
    found = last_layers(module, 1)
    norms = [name for name in found if "norm" in name.rpartition(".")[0].rpartition(".")[2] or "ln_f" in name]
    assert any(".1." not in name for name in norms)
    assert not [name for name in found if len(words) in module.get_parameter(name).shape]
    assert not [name for name in found if ".0." in name and ".1." not in name and "encoder" in name]
    # Those below the last can be done without: nothing that trains comes before them.
    assert len(last_layers(module, 2)) > len(found)


def test_a_norm_that_is_named_before_its_layers_is_found():
    shape = {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 90}
    module = transformers.OPTForCausalLM(transformers.OPTConfig(word_embed_proj_dim=32, **shape))
    outside = {name for name in last_layers(module, 1) if ".layers." not in name}
    assert outside == {"model.decoder.final_layer_norm.weight", "model.decoder.final_layer_norm.bias"}


# Learned tokens before a text.


@pairs(VIRTUAL, "writer", "gpt2", "t5")
def test_what_training_minimises_is_what_is_measured(method, name, at_home):
    """With learned tokens in front, the loss of a padded batch is that of the texts, scored one by one."""
    spec, model, predictor = made(method, name)
    module = moved(predictor.trainable.module).eval()
    task = ftlib.load_task(spec.task, **spec.columns())
    rows = task.splits["train"][:6]
    batch = predictor.trainable.collate(predictor.trainable.encode(rows))
    with torch.inference_mode():
        loss = module(**batch).loss.item()
    prompt = prompt_of(task)
    queries = [prompt.query(text) for text in clipped(model.tokenizer, rows["text"].tolist(), spec.max_length)]
    found = score_continuations(module, model.tokenizer, "", queries, prompt.answers())
    own = [task.labels.index(label) for label in rows["label"]]
    assert loss == pytest.approx(-found[range(6), own].sum() / int((batch["labels"] >= 0).sum()), rel=1e-5)
    untouched = score_continuations(model.speaker(), model.tokenizer, "", queries, prompt.answers())
    assert np.abs(found - untouched).max() > 1e-3, "the learned tokens are heard"


@pairs(VIRTUAL, "writer", "gpt2")
def test_the_same_of_documents_whose_rows_are_shorter_by_the_learned_tokens(method, name, at_home):
    _, _, predictor = made(method, name, task="file:notes.txt")
    module = moved(predictor.trainable.module).eval()
    rows = ftlib.load_task("file:notes.txt").splits["train"][:5]
    batch = predictor.trainable.collate(predictor.trainable.encode(rows))
    with torch.inference_mode():
        loss = module(**batch).loss.item()
    found = predictor.likelihood.score(rows["text"].tolist())
    assert loss == pytest.approx(found["nats"].sum() / found["n_tokens"].sum(), rel=1e-5)
    assert "context 236," in predictor.likelihood.protocol
    with pytest.raises(FtlibError, match="context: found 250; .* sees at most 236 tokens"):
        made(method, name, task="file:notes.txt", context=250)


@pytest.mark.parametrize("method", VIRTUAL)
def test_an_encoder_reads_a_text_after_learned_tokens_the_same_in_any_company(method, at_home):
    _, model, predictor = made(method, "tiny")
    module = moved(predictor.trainable.module).eval()
    texts = ["the soup was a joy", "never again, the app let us down, I regret trusting the app", "fine"]
    together, alone = predictor.probabilities(texts), [predictor.probabilities([text])[0] for text in texts]
    assert np.abs(together - np.stack(alone)).max() < 1e-6
    with torch.inference_mode():
        # The last word counts, so the text is read to its end.
        ids = torch.tensor([model.tokenizer(text)["input_ids"] for text in ("I regret the soup", "I regret the app")])
        first, second = module(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    # A model of random weights hardly cares, and yet a hundred times as much as sums differ.
    assert (first - second).abs().max() > 1e-6
    with pytest.raises(FtlibError, match="max_length: found 120; .* at most 108 are left"):
        made(method, "tiny", max_length=120)


# Runs, and what is refused.


@pytest.mark.parametrize("method", mostly(("lora", "dora", "vera", "prompt_tuning", "bitfit", "last_layers"), HERE))
def test_a_run_on_a_decoder_is_ok_and_repeatable(method, at_home):
    fields = {"task": "file:opinions", "label_words": toy.LABEL_WORDS, "train_limit": 12, "eval_limit": 6}
    how = {"epochs": 1.0, "batch_size": 6, "learning_rate": 0.01, "max_length": 16, "dtype": "float32"}
    spec = Experiment(method=method, model="gpt2" if method == "bitfit" else "writer", **fields, **how)
    first, again = ftlib.run(spec), ftlib.run(spec)
    assert first.status == "ok" and first.metrics == again.metrics
    assert first.metrics["after"] != first.metrics["before"]
    assert 0 < first.cost["trainable_parameters"] < first.cost["total_parameters"]


@pytest.mark.parametrize("method", [*VIRTUAL, "dora", "bitfit"])
def test_a_run_on_a_text_is_ok(method, at_home):
    how = {"epochs": 1.0, "batch_size": 20, "learning_rate": 0.01, "dtype": "float32", "eval_limit": 3}
    spec = Experiment(method=method, task="file:notes.txt", model="gpt2" if method == "bitfit" else "writer", **how)
    assert math.isfinite(ftlib.run(spec).metrics["after"]["test"]["bits_per_byte"]["value"])


@pytest.mark.parametrize("method", [*VIRTUAL, "vera", "last_layers"])
def test_a_run_on_an_encoder_decoder_is_ok(method, at_home):
    how = {"epochs": 1.0, "batch_size": 6, "max_length": 16, "dtype": "float32", "train_limit": 12, "eval_limit": 6}
    spec = Experiment(method=method, task="file:opinions", label_words=toy.LABEL_WORDS, model="t5", **how)
    assert ftlib.run(spec).status == "ok"


def test_what_a_model_cannot_have_is_said(at_home):
    with pytest.raises(FtlibError, match="bitfit does not fit writer: a LlamaForCausalLM has no biases"):
        made("bitfit", "writer")
    with pytest.raises(FtlibError, match="found k = 3; it has 2 layers"):
        made("last_layers", "tiny", method_args={"k": 3})
    assert biases(load_model("tiny").classifier(2, 0))[-1] == "classifier.bias"


@pytest.mark.skipif(torch.cuda.is_available(), reason="what is said where there is no CUDA")
def test_qlora_says_what_it_needs_before_anything_is_loaded(at_home, monkeypatch):
    spec = Experiment(method="qlora", model="writer", task="file:opinions", label_words=toy.LABEL_WORDS)
    task = ftlib.load_task(spec.task, **spec.columns())

    def loads(*arguments):
        raise AssertionError("was loaded")

    monkeypatch.setattr("ftlib.models.loading._load", loads)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FtlibError, match="qlora needs bitsandbytes, not installed here: pip install bitsandbytes"):
        METHODS["qlora"].prepare()(load_model("writer"), spec, task, task.splits["train"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert any("qlora needs device cuda" in problem for problem in run_problems(spec, task))
    assert METHODS["lora"].lacks("cpu") == ""
    with pytest.raises(FtlibError, match="qlora .* needs a model of the family decoder or encoder-decoder"):
        Experiment(method="qlora", model="tiny", task="file:opinions")


def test_arguments_are_checked_by_the_table(at_home):
    for method, name, value, said in (
        ("dora", "lora_dropout", 1.0, "0 to below 1"),
        ("vera", "vera_dropout", -0.1, "0 to below 1"),
        ("prompt_tuning", "num_virtual_tokens", 0, "a positive number"),
        ("last_layers", "k", 1.5, "int"),
    ):
        with pytest.raises(FtlibError, match=f"method_args.{name}: found {value}; allowed: {said}"):
            Experiment(method=method, method_args={name: value})
    with pytest.raises(FtlibError, match="unknown 'r'"):
        Experiment(method="ia3", method_args={"r": 4})
