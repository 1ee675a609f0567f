"""The training step: parts, memory savers and shortcuts change what it costs, not what is learned."""

import contextlib
import copy
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
import toy
import transformers
from transformers.integrations.sdpa_attention import sdpa_attention_forward

import ftlib
from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core.errors import Diverged, FtlibError
from ftlib.data.registry import load_task
from ftlib.models.loading import load_model
from ftlib.models.unpadded import MANY, answering, attention, kept, unpadded
from ftlib.records.events import Events
from ftlib.training import lm
from ftlib.training import trainer as train
from ftlib.training.callbacks import Watch
from ftlib.training.cpu import Dropout as Quick
from ftlib.training.cpu import Rows, lean, remembering
from ftlib.training.trainer import Steps

OPINIONS = {"task": "file:opinions", "label_words": toy.LABEL_WORDS, "max_length": 24}
# name -> model, task, method.
KINDS = {
    "encoder": {"model": "tiny", **OPINIONS},
    "decoder": {"model": "llama", **OPINIONS},
    "documents": {"model": "gpt2", "task": "file:notes.txt", "context": 32},
    "encoder-decoder": {"model": "t5", **OPINIONS},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with opinions/, notes.txt and a tiny model of each kind."""
    home = tmp_path_factory.mktemp("training")
    toy.write_task(home / "opinions")
    toy.write_notes(home / "notes.txt")
    toy.save_model(home / "tiny")
    for family in ("llama", "gpt2", "t5"):
        tiny_models.tiny(family, home / family)
    return home


@pytest.fixture(autouse=True)
def _there(home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setenv("FTLIB_CACHE", str(home / "cache"))


def made(kind: str, **fields):
    """(spec, task, model, predictor) of an experiment that is ready to train, in float32."""
    spec = Experiment(**{"method": "full", "dtype": "float32", "device": "cpu"} | KINDS[kind] | fields)
    columns = spec.columns()
    task, model = load_task(spec.task, **columns), load_model(spec.model, device="cpu", dtype=spec.dtype)
    return spec, task, model, METHODS[spec.method].prepare()(model, spec, task, task.splits["train"])


def still(module: torch.nn.Module) -> torch.nn.Module:
    """The module without dropout."""
    for part in module.modules():
        for name in ("p", "dropout", "attention_dropout", "dropout_rate"):
            if isinstance(getattr(part, name, None), float):
                setattr(part, name, 0.0)
    return module


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def assert_close(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], rtol=1e-4, atol=1e-6) -> None:
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=rtol, atol=atol, msg=name.__add__)


def steps(predictor, folder: Path, parts: int, sliced: bool = False, **more) -> Steps:
    arguments = transformers.TrainingArguments(output_dir=str(folder), use_cpu=True, report_to="none", **more)
    trainable = predictor.trainable
    return Steps(
        [], trainable.collate, parts=parts, separable=trainable.separable, sliced=sliced, model=trainable.module,
        train_dataset=[], args=arguments,
    )  # fmt: skip


# A batch in parts.


def end(values):
    """The second half of a text's tokens; the number of a label as it is."""
    return values if isinstance(values, int) else values[len(values) // 2 :]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_in_parts_has_the_gradient_of_the_whole(kind, tmp_path):
    _, task, _, predictor = made(kind)
    module = still(predictor.trainable.module)
    # As many as no number of parts divides, some of them short.
    examples = predictor.trainable.encode(task.splits["train"])[:7]
    examples[:3] = [{name: end(values) for name, values in one.items()} for one in examples[:3]]
    whole = module(**predictor.trainable.collate(examples))["loss"]
    whole.backward()
    wanted = gradients(module)
    for parts in (1, 2, 3, 7, 0):
        trainer = steps(predictor, tmp_path, parts, sliced=kind in ("decoder", "documents"))
        given = trainer._mine(examples)
        assert len(given["parts"]) == {0: 2, 1: 1, 2: 2, 3: 3, 7: 7}[parts]
        module.zero_grad()
        loss = trainer.training_step(module, given)
        assert float(loss) == pytest.approx(whole.item(), abs=1e-5)
        assert_close(gradients(module), wanted)


def test_the_shares_of_several_processes_are_averaged_to_the_whole(tmp_path):
    """Each computes its own; the mean over processes, which torch's DistributedDataParallel takes, is the whole's."""
    _, task, _, predictor = made("decoder")
    module, examples = predictor.trainable.module, predictor.trainable.encode(task.splits["train"])[:5]
    module(**predictor.trainable.collate(examples))["loss"].backward()
    wanted, found = gradients(module), []
    for world in (2, 3, 7):
        for place in range(world):
            trainer = steps(predictor, tmp_path, 2)
            trainer.rank, trainer.world = place, world
            module.zero_grad()
            trainer.training_step(module, trainer._mine(examples))
            found.append(gradients(module))
        assert_close({name: sum(one[name] for one in found) / world for name in wanted}, wanted)
        found.clear()


@pytest.mark.parametrize("kind", KINDS)
def test_activations_computed_anew_give_the_same_gradient(kind):
    spec, task, _, predictor = made(kind, gradient_checkpointing=True)
    module = still(predictor.trainable.module).train()
    inputs = predictor.trainable.collate(predictor.trainable.encode(task.splits["train"])[:6])
    plain = module(**inputs)["loss"]
    plain.backward()
    wanted, passes = gradients(module), []
    layer = next(part for part in module.modules() if isinstance(part, torch.nn.ModuleList))[0]
    inside = next(part for part in layer.modules() if not list(part.children()))
    inside.register_forward_pre_hook(lambda *given: passes.append(1))
    module.zero_grad()
    with train._as_asked(module, spec):
        loss = module(**inputs)["loss"]
        loss.backward()
    assert len(passes) == 2, "once forwards, once more on the way back"
    assert loss.item() == pytest.approx(plain.item(), abs=1e-6)
    assert_close(gradients(module), wanted)
    module(**inputs)["loss"].backward()
    assert len(passes) == 3, "and afterwards as before"


# What a processor can leave undone.


def tokens_of(examples) -> set[int]:
    return {0}.union(*(example["input_ids"] for example in examples))


def bert(**more) -> transformers.BertForSequenceClassification:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = transformers.BertConfig(
            vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, **more
        )
        return transformers.BertForSequenceClassification(config)


def test_rows_that_are_used_get_the_gradient_they_would_have():
    module, ids = still(bert()), torch.tensor([[5, 9, 7], [9, 5, 0]])
    inputs = {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": torch.tensor([0, 1])}
    module(**inputs)["loss"].backward()
    wanted = gradients(module)
    module.zero_grad()
    with lean(module, {5, 7, 9}):
        rows = module.get_input_embeddings()
        assert isinstance(rows, Rows) and rows.weight.shape == (4, 16), "three words, and what fills up"
        module(**inputs)["loss"].backward()
        found = gradients(module)
    table = "bert.embeddings.word_embeddings.weight"
    torch.testing.assert_close(found[table], wanted[table][[0, 5, 7, 9]])
    assert not found[table][0].any(), "what fills up does not move"
    assert_close({n: g for n, g in found.items() if n != table}, {n: g for n, g in wanted.items() if n != table})


@pytest.mark.parametrize("kind", KINDS)
def test_training_leanly_gives_the_weights_of_training_as_it_is(kind, monkeypatch):
    spec, task, model, predictor = made(kind, epochs=1.0, batch_size=9, learning_rate=0.003)
    module, twin = still(predictor.trainable.module), None
    start, examples = copy.deepcopy(module.state_dict()), predictor.trainable.encode(task.splits["train"])
    twin = copy.deepcopy(module)
    train.fit(predictor.trainable, model, spec, task.splits["train"], Events())
    monkeypatch.setattr(train, "lean", lambda *given: contextlib.nullcontext())
    train.fit(predictor.trainable._replace(module=twin), model, spec, task.splits["train"], Events())
    found, wanted = module.state_dict(), twin.state_dict()
    if kind == "encoder":
        table = "bert.embeddings.word_embeddings.weight"
        used = sorted(tokens_of(examples))
        unused = [row for row in range(len(start[table])) if row not in used]
        assert unused and torch.equal(found[table][unused], start[table][unused])
        found, wanted = ({**state, table: state[table][used]} for state in (found, wanted))
    assert_close(dict(found), dict(wanted), rtol=1e-3, atol=2e-4)
    assert any(not torch.equal(start[name], found[name]) for name in found if start[name].shape == found[name].shape)


@pytest.mark.parametrize("kind", ("encoder", "decoder"))
def test_lora_within_the_product_has_the_gradient_that_peft_gives_it(kind, monkeypatch):
    _, task, _, predictor = made(kind, method="lora", learning_rate=0.001)
    module = still(predictor.trainable.module).train()
    with torch.no_grad():
        for name, p in module.named_parameters():
            if ".lora_B." in name:
                p.normal_(std=0.1)
    inputs = predictor.trainable.collate(predictor.trainable.encode(task.splits["train"])[:5])

    def asked():
        module.zero_grad()
        loss = module(**inputs)["loss"]
        loss.backward()
        return {"loss": loss.detach(), **gradients(module)}

    def changed():
        return [layer for layer in module.modules() if "forward" in vars(layer)]

    wanted = asked()
    with lean(module, None):
        assert changed(), "peft's own is used"
        found = asked()
    assert not changed()
    assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    # What peft does beside adding is left to it.
    module.disable_adapter_layers()
    with lean(module, None):
        assert not changed()


def shape_of(module: torch.nn.Module) -> list:
    models = [part for part in module.modules() if isinstance(part, transformers.PreTrainedModel)]
    return [(name, type(part)) for name, part in module.named_modules()] + [
        (name, tuple(p.shape), p.requires_grad) for name, p in module.named_parameters()
    ] + [part.config._attn_implementation for part in models]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_module_is_as_it_was_afterwards_whatever_happened(kind, tmp_path):
    _, task, _, predictor = made(kind)
    module = predictor.trainable.module.train()
    before = shape_of(module)
    with pytest.raises(KeyError), lean(module, {1, 2}):
        assert shape_of(module) != before or kind == "decoder"
        raise KeyError
    assert shape_of(module) == before
    inputs = predictor.trainable.collate(predictor.trainable.encode(task.splits["train"])[:4])
    module.save_pretrained(tmp_path)
    module.eval()
    again = type(module).from_pretrained(tmp_path).eval()
    assert torch.equal(module(**inputs)["loss"], again(**inputs)["loss"])


def test_what_moved_within_is_there_afterwards():
    module = bert()
    table = module.get_input_embeddings()
    before = table.weight.detach().clone()
    with pytest.raises(KeyError), lean(module, [3]):
        with torch.no_grad():
            module.get_input_embeddings().weight.add_(1.0)
        raise KeyError
    assert module.get_input_embeddings() is table
    moved = (table.weight - before).abs().sum(dim=1).nonzero().squeeze(1).tolist()
    assert moved == [0, 3], "the word, and what fills up, which only a gradient would leave"


def test_tables_that_something_else_uses_or_that_stay_are_left_alone():
    tied, _ = tiny_models.build("llama", tie_word_embeddings=True)
    frozen = bert().requires_grad_(False)
    for module in (tied, frozen):
        table = module.get_input_embeddings()
        with lean(module, [3]):
            assert module.get_input_embeddings() is table
    free, _ = tiny_models.build("llama", tie_word_embeddings=False)
    with lean(free, None):
        assert type(free.get_input_embeddings()) is torch.nn.Embedding, "any word may come"


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    layer, x = Quick(p).train(), torch.ones(1001, 333, requires_grad=True)
    y = layer(x)
    dropped = float((y == 0).double().mean())
    assert abs(dropped - p) < 5 * np.sqrt(p * (1 - p) / x.numel())
    assert torch.unique(y.detach()).tolist() == pytest.approx([0, 1 / (1 - p)], rel=1e-4)
    # Neighbours are independent: pairs are dropped together as often as chance says.
    both = float(((y[:, :-1] == 0) & (y[:, 1:] == 0)).double().mean())
    assert abs(both - p * p) < 0.005
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert torch.equal(layer.eval()(x), x)


def test_dropout_follows_the_seed():
    x = torch.ones(7, 5)
    torch.manual_seed(4)
    one, other = kept(x, 0.3), kept(x, 0.3)
    assert not torch.equal(one, other)
    torch.manual_seed(4)
    assert torch.equal(kept(x, 0.3), one)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)])
@pytest.mark.parametrize("heads", [4, 2])
def test_attention_in_its_parts_is_attention(dtype, tolerance, heads):
    """With as many keys as queries and with fewer, what must not be seen masked; with its gradients."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 4, 6, 8), (2, heads, 6, 8), (2, heads, 6, 8)]
    given = [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]
    seen = torch.ones(2, 1, 6, 6, dtype=torch.bool).tril()
    seen[1, :, :, 4:] = False
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    layer = torch.nn.Module()
    layer.num_key_value_groups, layer.is_causal = 4 // heads, True
    found = []
    for function, masked in ((attention, mask), (sdpa_attention_forward, seen)):
        # So little dropout that nothing is dropped: without any, torch's own is taken in float32.
        more = {"dropout": 1e-9} if function is attention else {}
        out, _ = function(layer, *given, masked, scaling=0.3, **more)
        grads = torch.autograd.grad((out.float() ** 2).sum(), given)
        found.append([out.float(), *(grad.float() for grad in grads)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2", "gemma", "qwen3", "mistral"])
def test_a_model_says_the_same_with_attention_in_its_parts(kind):
    """Padding for a model that reads both ways, documents in one row for one that writes; in bfloat16, as it trains."""
    if kind == "bert":
        module, ids = still(bert()), torch.tensor([[5, 9, 7, 8], [9, 5, 0, 0]])
        inputs = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    else:
        module, _ = tiny_models.build(kind)
        inputs = lm.packed([[5, 9, 7, 11, 30], [60, 8, 21], [9, 5]], 8)
        inputs.pop("labels")
    still(module).train()
    found = []
    for context in (contextlib.nullcontext(), lean(module, None)):
        module.zero_grad()
        with context, torch.autocast("cpu", dtype=torch.bfloat16):
            logits = module(**inputs).logits
            (logits.float() ** 2).mean().backward()
        norm = torch.cat([grad.flatten() for grad in gradients(module).values()])
        found.append((logits.float().detach(), norm))
    for one, other in zip(*found, strict=True):
        scale = float(one.abs().max())
        assert float((one - other).abs().max()) < 0.03 * scale
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.999


# What is watched.


def fitted(kind: str, validation: bool = True, **fields):
    spec, task, model, predictor = made(kind, **fields)
    events = Events()
    with contextlib.redirect_stdout(None):
        found = train.fit(
            predictor.trainable, model, spec, task.splits["train"], events,
            task.splits["validation"] if validation else None,
        )  # fmt: skip
    return predictor, task, events.entries, found


def of(entries: list[dict], event: str) -> list[dict]:
    return [entry for entry in entries if entry["event"] == event]


def test_the_diary_says_what_was_fitted_and_both_losses():
    _, task, entries, training = fitted("encoder", epochs=4.0, batch_size=16, validations=3)
    (begin,) = of(entries, "fit")
    assert (begin["steps"], begin["n"], begin["learning_rate"]) == (20, 80, 1e-4)
    assert [entry["step"] for entry in of(entries, "step")] == list(range(1, 21))
    found = of(entries, "validation")
    assert [entry["step"] for entry in found] == [7, 14, 20]
    # Three looks at 12 share a twenty-fifth of the work of 320 examples (`AFFORDABLE`).
    assert {(entry["n"], entry["of"]) for entry in found} == {(12, 20)}
    assert not of(entries, "kept") and training.validation_seconds > 0
    assert training.others == (0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_loss_on_validation_is_that_of_the_model_that_comes_out(kind):
    # One look at the end, which all of validation can be afforded for.
    predictor, task, entries, _ = fitted(kind, epochs=2.0, batch_size=16, validations=1)
    assert of(entries, "validation")[-1]["loss"] == pytest.approx(validation_loss(predictor, task), rel=1e-4)


def validation_loss(predictor, task) -> float:
    """Over all validation examples at once."""
    module, examples = predictor.trainable.module.eval(), predictor.trainable.encode(task.splits["validation"])
    with torch.no_grad():
        return float(module(**predictor.trainable.collate(examples))["loss"])


def test_patience_stops_and_keeps_the_best_weights():
    predictor, task, entries, _ = fitted(
        "encoder", epochs=20.0, batch_size=8, learning_rate=0.05, validations=40, patience=2
    )
    found = of(entries, "validation")
    best = min(found, key=lambda entry: entry["loss"])
    assert len(found) < 40 and found[-3] is best, "two that are no better, and no more"
    (kept_,) = of(entries, "kept")
    assert (kept_["step"], kept_["loss"]) == (best["step"], best["loss"])
    assert validation_loss(predictor, task) == pytest.approx(best["loss"], rel=1e-4)


def test_without_shots_there_are_five_validations_and_with_shots_none_unless_asked_for():
    asked = partial(Experiment, task="file:opinions", model="tiny", method="full")
    assert len(train.validation_steps(asked(), 100)) == 5
    assert train.validation_steps(asked(shots=4), 100) == []
    assert train.validation_steps(asked(shots=4, validations=2), 100) == [50, 100]
    assert train.validation_steps(asked(validations=50), 7) == [1, 2, 3, 4, 5, 6, 7]
    with pytest.raises(FtlibError, match="say validations = 5"):
        asked(shots=4, patience=2)


def test_setfit_has_a_loss_on_validation_and_no_parts():
    _, _, entries, _ = fitted("encoder", method="setfit", batch_size=8, train_limit=12, min_steps=10)
    # As many as 80 examples seen can afford in one look (`AFFORDABLE`).
    assert {entry["n"] for entry in of(entries, "validation")} == {9}
    with pytest.raises(FtlibError, match="loss is over all pairs"):
        Experiment(task="file:opinions", method="setfit", gradient_accumulation=2)


def test_a_loss_that_is_no_number_is_a_divergence_on_training_and_on_validation(home):
    if not (home / "poisoned").exists():
        toy.save_model(home / "poisoned", poison=True)
    with pytest.raises(Diverged, match="training loss became nan by step 1"):
        fitted("encoder", model="poisoned", validation=False)
    arguments = transformers.TrainingArguments(output_dir=str(home / "none"), use_cpu=True, report_to="none")
    state = transformers.TrainerState(global_step=3, max_steps=9)
    watch = Watch(torch.nn.Linear(1, 1), Events(), 0.0, [3], lambda: float("nan"), 4, patience=1)
    with pytest.raises(Diverged, match="validation loss became nan by step 3 of 9"):
        watch.on_step_end(arguments, state, transformers.TrainerControl())


# Settings of how it is carried out.


@pytest.mark.parametrize("kind", ["decoder", "encoder-decoder"])
def test_what_training_leaves_behind_is_measured_in_its_own_arithmetic(kind):
    predictor, task, _, _ = fitted(kind, dtype="bfloat16", epochs=1.0)
    module = predictor.trainable.module.eval()
    inputs = predictor.trainable.collate(predictor.trainable.encode(task.splits["validation"])[:4])
    with torch.no_grad():
        found = module(**inputs)["loss"]
        again = type(module)(module.config)
        again.load_state_dict(module.state_dict())
        assert float(found) == pytest.approx(float(again.eval()(**inputs)["loss"]), abs=1e-6)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_the_same_experiment_twice_is_the_same_record(kind):
    spec = Experiment(**KINDS[kind], method="full", epochs=1.0, batch_size=16, learning_rate=0.003)
    one, other = ftlib.run(spec), ftlib.run(spec)
    assert one.metrics == other.metrics
    assert one.provenance == other.provenance


# Words without padding.

MAKES = {
    "bert": (transformers.BertConfig, {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32}),
    "roberta": (transformers.RobertaConfig, {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32}),
    "distilbert": (transformers.DistilBertConfig, {"dim": 16, "n_layers": 2, "hidden_dim": 32}),
    "mpnet": (transformers.MPNetConfig, {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32}),
    # The names of BERT's parts, and others among them.
    "mobilebert": (
        transformers.MobileBertConfig,
        {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32, "intra_bottleneck_size": 8}
        | {"embedding_size": 8},
    ),
    "electra": (
        transformers.ElectraConfig,
        {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32, "embedding_size": 8},
    ),
}


def classifier(make: str) -> torch.nn.Module:
    config, sizes = MAKES[make]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = config(vocab_size=60, num_attention_heads=2, pad_token_id=1, num_labels=3, **sizes)
        return transformers.AutoModelForSequenceClassification.from_config(made)


def batch(*lengths: int) -> dict[str, torch.Tensor]:
    """Texts of so many tokens, padded on the right."""
    ids = torch.full((len(lengths), max(lengths)), 1)
    for row, n in enumerate(lengths):
        ids[row, :n] = torch.arange(5, 5 + n)
    return {"input_ids": ids, "attention_mask": (ids != 1).long(), "labels": torch.arange(len(lengths)) % 3}


def asked(module: torch.nn.Module) -> torch.Tensor:
    return module(**batch(9, 2))["loss"]


def computed(module: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[int]]:
    """The loss and every gradient, and how many tokens each wide layer reads."""
    seen: list[int] = []
    wide = [part for part in module.modules() if isinstance(part, torch.nn.Linear) and part.out_features == 32]
    hooks = [part.register_forward_hook(lambda _, args, out: seen.append(out[..., 0].numel())) for part in wide]
    module.zero_grad()
    loss = module(**inputs)["loss"]
    loss.backward()
    for hook in hooks:
        hook.remove()
    return {"loss": loss.detach(), **gradients(module)}, seen


@pytest.mark.parametrize("lengths", ((9, 4, 2), (6, 6)), ids=str)
@pytest.mark.parametrize("make", ("bert", "roberta", "distilbert", "electra"))
def test_without_padding_every_gradient_is_the_same(make, lengths):
    module, inputs = still(classifier(make)).train(), batch(*lengths)
    wanted, _ = computed(module, inputs)
    before = shape_of(module)
    for around in (contextlib.nullcontext(), lean(module, None)):
        with around, unpadded(module, partial(asked, module)) as same:
            assert same and module.training
            found, read = computed(module, inputs)
        assert_close(found, wanted, rtol=1e-4, atol=1e-7)
        assert read == [sum(lengths), len(lengths)], "every word once, then first tokens alone"
    assert shape_of(module) == before
    assert computed(module, inputs)[1] == [len(lengths) * max(lengths)] * 2


def test_dropout_without_padding_follows_the_seed_and_drops():
    module, inputs, losses = classifier("bert").train(), batch(9, 4, 2), []
    with unpadded(module, partial(asked, module)):
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            losses.append(module(**inputs)["loss"].item())
    assert losses[0] == losses[1] != losses[2]


class Mean(torch.nn.Module):
    """A head that reads every token."""

    def __init__(self, reader: torch.nn.Module | None = None) -> None:
        super().__init__()
        self.reader = reader or classifier("bert").bert

    def forward(self, labels: torch.Tensor, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        said = self.reader(**inputs).last_hidden_state * inputs["attention_mask"][:, :, None]
        return {"loss": torch.nn.functional.cross_entropy(said.mean(dim=1), labels)}


@pytest.mark.parametrize(
    "made_so",
    (Mean, partial(classifier, "mpnet"), partial(classifier, "mobilebert")),
    ids=("reads all", "made otherwise", "with more in it"),
)
def test_what_needs_every_token_or_is_made_otherwise_is_left_as_it_is(made_so):
    module = still(made_so()).train()
    before, (wanted, _) = shape_of(module), computed(module, batch(9, 4, 2))
    with unpadded(module, partial(asked, module)) as same:
        assert not same and shape_of(module) == before
        found, read = computed(module, batch(9, 4, 2))
    assert_close(found, wanted, rtol=0, atol=0)
    assert set(read) == {27}


@pytest.mark.parametrize("lengths", ((9, 4, 2), (6, 6)), ids=str)
@pytest.mark.parametrize("make", ("bert", "roberta", "distilbert", "electra"))
def test_what_reads_every_token_gets_each_of_them_computed_once(make, lengths):
    module, inputs = Mean(still(classifier(make)).base_model).train(), batch(*lengths)
    wanted, _ = computed(module, inputs)
    before = shape_of(module)
    for _ in range(2):
        with answering(module.reader, MANY, every=True) as same:
            assert same and module.training
            found, read = computed(module, inputs)
    assert_close(found, wanted, rtol=1e-4, atol=1e-7)
    assert set(read) == {sum(lengths)} and shape_of(module) == before


def test_an_encoder_that_does_something_else_with_parts_of_the_same_names_is_left_as_it_is():
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 32, "num_attention_heads": 2}
    reader = transformers.RoFormerModel(transformers.RoFormerConfig(vocab_size=60, **sizes))
    for _ in range(2):
        with answering(reader, MANY, every=True) as same:
            assert not same and "forward" not in vars(reader.encoder)


@pytest.mark.parametrize("method", ("prompt_tuning", "prefix_tuning", "p_tuning"))
def test_words_before_a_text_leave_it_padded(method):
    _, task, _, predictor = made("encoder", method=method, learning_rate=0.001)
    trainable = predictor.trainable
    some = trainable.collate(trainable.encode(task.splits["train"])[:2])
    with unpadded(trainable.module, lambda: trainable.module(**some)["loss"]) as same:
        assert not same


def test_padding_is_back_whatever_happened():
    module = classifier("bert")
    holder = module.bert.encoder
    with pytest.raises(KeyError), unpadded(module, partial(asked, module)) as same:
        assert same and "forward" in vars(holder)
        raise KeyError
    assert "forward" not in vars(holder) and not module.bert._forward_pre_hooks


@pytest.mark.parametrize("method", ("full", "lora", "bitfit", "ia3", "last_layers", "distill"))
def test_training_without_padding_gives_the_weights_of_training_with_it(method, monkeypatch):
    chosen = {"distill": {"layers": 1}, "last_layers": {"k": 1}}
    fields = {"method_args": chosen[method]} if method in chosen else {}
    fields |= {"epochs": 1.0, "batch_size": 9, "learning_rate": 0.003}
    spec, task, model, predictor = made("encoder", method=method, **fields)
    module, inside = still(predictor.trainable.module), []
    twin = copy.deepcopy(module)
    known = train.unpadded

    @contextlib.contextmanager
    def noted(*given):
        with known(*given) as same:
            inside.append(same)
            yield same

    monkeypatch.setattr(train, "unpadded", noted)
    train.fit(predictor.trainable, model, spec, task.splits["train"], Events())
    assert inside == [True]
    monkeypatch.setattr(train, "unpadded", lambda *given: contextlib.nullcontext(False))
    other = copy.copy(predictor.trainable)._replace(module=twin)
    train.fit(other, model, spec, task.splits["train"], Events())
    assert_close(module.state_dict(), twin.state_dict(), rtol=1e-3, atol=2e-4)


# Frozen layers.


def test_frozen_layers_computed_once_give_the_weights_of_computing_them_at_every_step(monkeypatch):
    fields = {"method": "last_layers", "method_args": {"k": 1}, "epochs": 3.0, "batch_size": 9, "learning_rate": 0.003}
    spec, task, model, predictor = made("encoder", **fields)
    module = still(predictor.trainable.module)
    twin, before = copy.deepcopy(module), shape_of(module)
    examples, calls = task.splits["train"], []
    module.bert.encoder.layer[0].register_forward_hook(lambda layer, args, found: calls.append(len(found)))
    train.fit(predictor.trainable, model, spec, examples, Events(), task.splits["validation"])
    assert shape_of(module) == before
    once = sum(calls)
    assert once < 2 * (len(examples) + len(task.splits["validation"])), "each text once, or again where a batch is new"
    monkeypatch.setattr(train, "remembering", lambda module: contextlib.nullcontext())
    train.fit(predictor.trainable._replace(module=twin), model, spec, examples, Events(), task.splits["validation"])
    assert_close(module.state_dict(), twin.state_dict(), rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("method", ["full", "lora", "bitfit"])
def test_where_the_lowest_layer_trains_nothing_is_remembered(method):
    _, _, _, predictor = made("encoder", method=method)
    with remembering(predictor.trainable.module) as n:
        assert n == 0


def test_frozen_layers_are_put_back_whatever_happened():
    _, _, _, predictor = made("encoder", method="last_layers", method_args={"k": 1})
    module = predictor.trainable.module
    before, drops = shape_of(module), [part.p for part in module.modules() if isinstance(part, torch.nn.Dropout)]
    with pytest.raises(KeyError), remembering(module) as n:
        assert n == 1
        raise KeyError
    assert shape_of(module) == before
    assert drops == [part.p for part in module.modules() if isinstance(part, torch.nn.Dropout)]
