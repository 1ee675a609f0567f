"""A new head that starts at a probe: what it says before training, what it leaves alone, where there is none."""

import numpy as np
import pytest
import torch
import toy
from sklearn.linear_model import LogisticRegression
from thorough import some_of

import ftlib
from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core.errors import FtlibError
from ftlib.execution import continual
from ftlib.methods.finetune import start
from ftlib.methods.multitask import Shared
from ftlib.records.events import Events
from ftlib.training.trainer import fit

SMALL = {
    "task": "file:opinions", "model": "tiny", "eval_limit": 20, "max_length": 24, "batch_size": 8, "dtype": "float32",
    "head_init": "linear_probe",
}  # fmt: skip


def begun(**fields):
    """A method's model before training, with the weights that it had before its head was set."""
    spec = Experiment(**SMALL | fields)
    task, model = ftlib.open_task(spec), ftlib.open_model(spec)
    predictor = METHODS[spec.method].prepare()(model, spec, task, None)
    trainable = predictor.trainable
    before = {name: p.detach().clone() for name, p in trainable.module.named_parameters()}
    train = task.draw(**spec.drawing())
    trainable.begin(trainable, trainable.encode(train))
    return predictor, before, task, train, model


def read_by_the_head(module, model, texts):
    """(n, width) what the tiny model's pooler says, a text at a time, without ftlib."""
    seen = []
    (layer,) = (part for name, part in module.named_modules() if name.endswith(("classifier", "classifier.default")))
    layer = layer if isinstance(layer, torch.nn.Linear) else layer.modules_to_save.default
    hook = layer.register_forward_hook(lambda layer, args, out: seen.append(args[0]))
    module.eval()
    with torch.inference_mode():
        for text in texts:
            module(**model.tokenizer(text, truncation=True, max_length=24, return_tensors="pt"))
    hook.remove()
    return torch.cat(seen).numpy()


@pytest.mark.parametrize("method", ["full", "lora", "bitfit"])
def test_before_training_it_says_what_logistic_regression_on_its_inputs_says(method, at_home):
    predictor, before, task, train, model = begun(method=method)
    module, asked = predictor.trainable.module, [text for text, _ in toy.opinions()][-20:]
    inputs = read_by_the_head(module, model, train["text"])
    strength = 10 / np.mean(np.linalg.norm(inputs, axis=1) ** 2)
    wanted = LogisticRegression(C=strength, max_iter=2000).fit(inputs, train["label"])
    found = predictor.probabilities(asked)
    assert found == pytest.approx(wanted.predict_proba(read_by_the_head(module, model, asked)), abs=1e-4)
    assert tuple(wanted.classes_) == task.labels
    after = dict(module.named_parameters())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {name.rpartition(".")[2] for name in moved} == {"weight", "bias"}
    assert all("classifier" in name for name in moved) and len(moved) == 2


def test_weights_of_examples_count():
    inputs, labels = np.array([[-1.0], [1.0], [1.0]]), [0, 1, 0]
    plain, heavy, thrice = (torch.nn.Linear(1, 2) for _ in range(3))
    start(plain, inputs, labels, [1.0, 1.0, 1.0])
    start(heavy, inputs, labels, [1.0, 3.0, 1.0])
    start(thrice, inputs[[0, 1, 1, 1, 2]], np.array(labels)[[0, 1, 1, 1, 2]], [1.0] * 5)
    assert torch.allclose(heavy.weight, thrice.weight, atol=1e-3) and torch.allclose(heavy.bias, thrice.bias, atol=1e-3)
    assert not torch.allclose(heavy.weight, plain.weight, atol=0.05)


def test_a_head_without_a_bias_gets_none():
    head = torch.nn.Linear(2, 2, bias=False)
    start(head, np.array([[-1.0, 0.5], [1.0, 0.5]]), [0, 1], [1.0, 1.0])
    assert head.bias is None and head.weight[1, 0] > 0 > head.weight[0, 0]


def test_reweighted_examples_are_weighed_in_the_head_too(at_home):
    spec = Experiment(**SMALL | {"method": "full", "mitigation": "reweight"})
    task, model = ftlib.open_task(spec), ftlib.open_model(spec)
    train = task.draw(**spec.drawing())
    heads = []
    for weight in (1.0, 5.0):
        trainable = METHODS["full"].prepare()(model, spec, task, None).trainable
        heavy = train.assign(weight=np.where(train["label"] == task.labels[0], weight, 1.0))
        trainable.begin(trainable, trainable.encode(heavy))
        heads.append(trainable.module.classifier.classifier.bias.detach())
    assert heads[1][0] - heads[1][1] > heads[0][0] - heads[0][1]


def test_of_several_tasks_each_head_is_fitted_once_and_when_its_own_turn_comes(at_home):
    spec = Experiment(**SMALL | {"method": "full", "sequential_tasks": ["file:topics"], "replay": 1.0})
    task, model = ftlib.open_task(spec), ftlib.open_model(spec)
    shared, drawn = continual.begun(spec, task, model)
    assert isinstance(shared, Shared)
    head = shared.module.classifier.weight
    first, (low, high) = head.detach().clone(), shared._rows("opinions")
    mine, own = torch.arange(low, high), torch.ones(len(head), dtype=bool)
    own[mine] = False
    trainable, frame = continual.phase_of(spec, shared, 1, drawn)
    trainable.begin(trainable, trainable.encode(frame))
    second = head.detach().clone()
    assert torch.equal(first[mine], second[mine]) and not torch.equal(first[own], second[own])
    trainable, frame = continual.phase_of(spec, shared, 2, drawn)
    assert set(frame["task"]) == {"topics", "opinions"}
    trainable.begin(trainable, trainable.encode(frame))
    assert torch.equal(second[own], head[own]) and not torch.equal(second[mine], head[mine])


@pytest.mark.parametrize("method", some_of(2, ["full", "stacked", "lora", "merged"]))
def test_a_run_of_several_tasks_can_start_so(method, at_home):
    tasks = {"joint_tasks": ["file:topics"]} if method == "merged" else {"sequential_tasks": ["file:topics"]}
    record = ftlib.run(Experiment(**SMALL | tasks, method=method, epochs=1.0))
    assert record.status == "ok" and record.metrics["after"]["topics"]["accuracy"]["n"] > 0


def test_training_goes_on_from_there_and_is_the_same_every_time(at_home):
    fields = SMALL | {"method": "full", "epochs": 1.0, "train_limit": 24}
    first, again = (ftlib.run(Experiment(**fields)) for _ in range(2))
    assert first.metrics == again.metrics
    assert first.metrics["after"] != ftlib.run(Experiment(**fields | {"head_init": "new"})).metrics["after"]
    spec = Experiment(**fields | {"learning_rate": 1e-12})
    task, model = ftlib.open_task(spec), ftlib.open_model(spec)
    predictor = METHODS["full"].prepare()(model, spec, task, None)
    train = task.draw(**spec.drawing())
    fit(predictor.trainable, model, spec, train, Events(None))
    still = predictor.trainable.module.classifier.weight.detach()
    fresh, *_ = begun(**{name: value for name, value in fields.items() if name not in SMALL})
    assert torch.allclose(still, fresh.trainable.module.classifier.weight, atol=1e-6)


IMPOSSIBLE = {
    "probe does not train": {"method": "probe"},
    "setfit trains no new head": {"method": "setfit"},
    "distill trains no new head": {"method": "distill"},
    "no labels, so there is no head": {"method": "full", "task": "pydocs_text", "model": "tiny-lm"},
    "answers in words": {"method": "lora", "model": "tiny-lm"},
    "'new' or 'linear_probe'": {"method": "full", "head_init": "best"},
}


@pytest.mark.parametrize("said", IMPOSSIBLE)
def test_where_there_is_no_such_head_it_is_said_before_anything_loads(said):
    with pytest.raises(FtlibError, match=said):
        Experiment(**{"head_init": "linear_probe"} | IMPOSSIBLE[said])


def test_a_model_that_answers_in_words_is_refused_when_only_loading_it_tells(at_home, monkeypatch):
    spec = Experiment(**{**SMALL, "method": "full", "label_words": toy.LABEL_WORDS})
    task = ftlib.open_task(spec)
    writer = ftlib.open_model(spec.model_copy(update={"model": "writer"}))
    with pytest.raises(FtlibError, match="answers in words, without a head"):
        METHODS["full"].prepare()(writer, spec, task, None)


def test_one_label_is_not_enough():
    with pytest.raises(FtlibError, match="needs two labels; found 1 among 3 training examples"):
        start(torch.nn.Linear(2, 2), np.ones((3, 2)), [1, 1, 1], [1.0] * 3)
