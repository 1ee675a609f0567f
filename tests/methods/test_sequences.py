"""Several trainings in one run: what must be exactly so, and what must be measured."""

import copy

import numpy as np
import pytest
import tiny_models
import torch
import toy
from thorough import some_of

import ftlib
from ftlib import records
from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core.errors import FtlibError
from ftlib.data import evaluations
from ftlib.evaluation import linear_probes
from ftlib.execution import continual
from ftlib.methods import peft_adapters
from ftlib.methods.distillation import Taught
from ftlib.methods.multitask import Shared, union
from ftlib.records.events import Events, read_events
from ftlib.training.regularization import Anchors, Line, fisher
from ftlib.training.trainer import fit

SMALL = {"task": "file:opinions", "model": "tiny", "eval_limit": 20, "max_length": 24, "batch_size": 8}
WORDS = {"label_words": toy.LABEL_WORDS}
TEXT = {"task": "file:notes.txt", "model": "writer", "eval_limit": 4, "batch_size": 4, "epochs": 1.0, "context": 64}


def opened(spec):
    return ftlib.open_task(spec), ftlib.open_model(spec)


def weights(module):
    return {name: p.detach().clone() for name, p in module.named_parameters()}


@pytest.fixture
def still(at_home, tmp_path):
    """A tiny encoder without dropout, which learns of eighty texts what it can learn, whatever the seed."""
    module, words = tiny_models.build("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    module.save_pretrained(tmp_path / "still")
    words.save_pretrained(tmp_path / "still")
    return str(tmp_path / "still")


# What must be exactly so.


@pytest.mark.parametrize(("method", "model"), [("lora", "tiny"), ("lora", "writer"), ("dora", "writer")])
def test_an_adapter_that_begins_at_zero_has_forgotten_exactly_nothing(method, model, at_home):
    spec = Experiment(**SMALL | WORDS | {"model": model, "method": method, "evaluations": ["general"]})
    task, base = opened(spec)
    adapted = METHODS[method].prepare()(base, spec, task, None)
    texts = [text for text, _ in toy.opinions()][:12]
    from ftlib.models.loading import encoded

    assert np.array_equal(adapted.features(texts), encoded(base.encoder(), base, texts, spec.max_length))
    if adapted.likelihood:
        before = METHODS["zero_shot"].prepare()(base, spec, task, None).likelihood.score(texts)
        assert adapted.likelihood.score(texts)["nats"].to_numpy() == pytest.approx(before["nats"].to_numpy(), abs=0)


@pytest.mark.parametrize("method", some_of(2, ["full", "lora", "bitfit", "last_layers", "rslora"]))
def test_the_line_begins_at_the_untouched_model_and_ends_at_the_adapted_one_to_the_bit(method, at_home, monkeypatch):
    monkeypatch.setattr(evaluations, "PROBED", {"topics": 10})
    monkeypatch.setattr(linear_probes, "_task", lambda name: ftlib.load_task("file:topics"))
    arguments = {"method_args": {"k": 1}} if method == "last_layers" else {}
    spec = Experiment(
        **SMALL | WORDS | arguments, method=method, interpolation=[0.0, 0.5, 1.0], evaluations=["features"], epochs=2.0,
        learning_rate=0.01,
    )  # fmt: skip
    record = ftlib.run(spec)
    found = record.metrics
    assert list(found) == ["before", "alpha_0", "alpha_50", "alpha_100", "after"]
    assert found["alpha_100"] == found["after"]
    assert found["alpha_0"]["features:topics"] == found["before"]["features:topics"]
    assert found["alpha_50"]["test"] != found["alpha_0"]["test"]


def test_of_a_model_that_writes_the_beginning_of_the_line_is_the_untouched_model(at_home):
    spec = Experiment(**TEXT, method="full", interpolation=[0.0, 1.0], evaluations=["general"], learning_rate=0.01)
    found = ftlib.run(spec).metrics
    assert found["alpha_0"] == found["before"] and found["alpha_100"] == found["after"]
    assert found["after"]["general"] != found["before"]["general"]


def test_weights_are_put_back_whatever_happens(at_home):
    module = torch.nn.Linear(2, 2)
    line = Line(module, [])
    with torch.no_grad():
        module.weight.add_(1)
    ended = module.weight.detach().clone()
    with pytest.raises(RuntimeError), line.at(0.3):
        raise RuntimeError
    assert torch.equal(module.weight, ended)


def trained(spec, task, model, pull=None):
    trainable = METHODS[spec.method].prepare()(model, spec, task, None).trainable._replace(pull=pull)
    fit(trainable, model, spec, task.draw(**spec.drawing()), Quiet())
    return trainable.module


class Quiet(Events):
    def say(self, *_, **__):
        pass


def test_consolidation_without_strength_is_plain_training_to_the_bit(at_home):
    spec = Experiment(**TEXT, method="full", learning_rate=0.01)
    task, model = opened(spec)
    plain = weights(trained(spec, task, model))
    anchors = Anchors()
    trainable = METHODS["full"].prepare()(model, spec, task, None).trainable
    for weight in trainable.module.parameters():
        anchors.add(weight, torch.zeros_like(weight), torch.randn_like(weight))
    fit(trainable._replace(pull=anchors.pull), model, spec, task.draw(**spec.drawing()), Quiet())
    assert all(torch.equal(plain[name], p) for name, p in trainable.module.named_parameters())


@pytest.mark.parametrize(("penalty", "strengths"), [("l2_sp", (1.0, 100.0)), ("ewc", (1e3, 1e6))])
def test_the_stronger_the_pull_the_nearer_the_weights_stay(at_home, penalty, strengths):
    """EWC of a language model alone: what must be kept is general text, which is packed."""

    def moved(strength):
        spec = Experiment(**TEXT, **{penalty: strength}, method="full", learning_rate=0.01, ewc_samples=4)
        task, model = opened(spec)
        begun = weights(model.speaker())
        ended = continual.train_sequence(spec, task, model, Quiet()).predictor.trainable.module
        return sum(float((p.detach() - begun[name]).square().sum()) for name, p in ended.named_parameters())

    free, held, tight = moved(1e-9), *(moved(strength) for strength in strengths)
    assert tight < held < free


def test_fisher_information_is_the_mean_squared_gradient_of_single_examples(at_home):
    spec = Experiment(**SMALL | WORDS, method="full", dtype="float32")
    task, model = opened(spec)
    trainable = METHODS["full"].prepare()(model, spec, task, None).trainable
    examples = trainable.encode(task.splits["train"])
    found = fisher(trainable, model, examples, [3, 5])
    wanted = {}
    for place in (3, 5):
        trainable.module.zero_grad()
        trainable.module(**trainable.collate([examples[place]])).loss.backward()
        for p in trainable.module.parameters():
            if p.grad is not None:
                wanted[p] = wanted.get(p, 0) + p.grad**2 / 2
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[p], wanted[p]) for p in wanted)


def test_two_pulls_are_one(at_home):
    weight = torch.nn.Parameter(torch.randn(5))
    pulls = [(torch.rand(5), torch.randn(5)) for _ in range(3)]
    anchors = Anchors()
    for strength, anchor in pulls:
        anchors.add(weight, strength, anchor)
    weight.grad = torch.zeros(5)
    anchors.pull()
    assert torch.allclose(weight.grad, sum(s * (weight - a) for s, a in pulls), atol=1e-6)


# Sequences.


@pytest.fixture
def told(at_home, tmp_path):
    """The record of a run, its predictions and what happened."""

    def run(**fields):
        spec = Experiment(
            **SMALL | WORDS | {"sequential_tasks": ["file:topics"], "epochs": 4.0, "learning_rate": 0.003} | fields
        )
        folder = tmp_path / spec.run_id
        record = ftlib.run(spec, folder)
        return record, records.read_predictions(folder), read_events(folder)

    return run


@pytest.mark.parametrize(("method", "model"), [("full", "tiny"), ("lora", "tiny"), ("lora", "writer")])
def test_a_sequence_measures_every_task_after_every_training(method, model, told):
    labels = {} if model == "tiny" else {"learning_rate": 0.01}
    record, table, _ = told(method=method, model=model, **labels)
    assert list(record.metrics) == ["before", "after_1", "after"]
    for stage in ("before", "after_1", "after"):
        for part in ("test", "topics"):
            rows = table[(table["stage"] == stage) & (table["part"] == part)]
            found = record.metrics[stage].get(part, {}).get("accuracy")
            if len(rows):
                assert found["value"] == pytest.approx((rows["label"] == rows["prediction"]).mean())
                assert found["n"] == len(rows)
    first, last = (record.metrics[stage]["topics"]["accuracy"]["value"] for stage in ("after_1", "after"))
    assert record.metrics["after"]["sequence"]["forgetting_first"]["value"] == pytest.approx(first - last)


def test_a_task_after_itself_forgets_nothing_beyond_noise(told, at_home):
    toy.write_task(at_home / "again")
    record, _, _ = told(method="full", sequential_tasks=["file:again"], epochs=15.0)
    learned = record.metrics["after_1"]["again"]["accuracy"]["value"]
    found = record.metrics["after"]["sequence"]["forgetting_first"]["value"]
    # Over 12 seeds, in float32 and in bfloat16, at least 0.85 was learned, and up to two texts of 20 came or one went.
    assert learned > 0.75 and abs(found) < 0.175


def test_old_examples_replayed_in_full_are_what_training_together_sees(told):
    _, _, events = told(method="full", replay=1.0)
    _, _, at_once = told(method="full", sequential_tasks=[], joint_tasks=["file:topics"])
    last, only = ([entry for entry in one if entry["event"] == "fit"][-1] for one in (events, at_once))
    assert (last["n"], last["steps"]) == (only["n"], only["steps"]) == (160, 80)
    assert [entry["replayed"] for entry in events if entry["event"] == "phase"] == [0, 80]


@pytest.mark.parametrize(("share", "n"), [(0.0, 80), (0.05, 84), (0.2, 96)])
def test_a_share_of_the_old_examples_is_replayed(share, n, told):
    _, _, events = told(method="full", replay=share, epochs=1.0)
    assert [entry["n"] for entry in events if entry["event"] == "fit"] == [80, n]


def test_of_a_language_model_general_text_is_replayed(at_home, tmp_path):
    ftlib.run(Experiment(**TEXT, method="full", replay=0.01, train_limit=10), tmp_path / "run")
    (begun,) = (entry for entry in read_events(tmp_path / "run") if entry["event"] == "fit")
    (phase,) = (entry for entry in read_events(tmp_path / "run") if entry["event"] == "phase")
    assert phase["replayed"] == 10 and begun["n"] >= 20


def test_tasks_at_once_have_rows_of_their_own(told):
    record, table, _ = told(
        method="full", sequential_tasks=[], joint_tasks=["file:topics"], sampling="equal", epochs=12.0
    )
    assert set(record.metrics["after"]) == {"test", "topics"} and set(record.metrics) == {"before", "after"}
    topics = table[(table["stage"] == "after") & (table["part"] == "topics")]
    assert set(topics["prediction"]) <= {"object", "occasion"}
    assert topics["score_good"].isna().all() and np.allclose(topics[["score_object", "score_occasion"]].sum(axis=1), 1)
    # Over 12 seeds at least 0.8, in float32 and in bfloat16.
    assert record.metrics["after"]["topics"]["accuracy"]["value"] > 0.6


def test_the_loss_looks_at_a_tasks_own_labels_alone(at_home):
    spec = Experiment(**SMALL | WORDS, method="full", joint_tasks=["file:topics"], dtype="float32")
    task, model = opened(spec)
    tasks = {"opinions": task, "topics": ftlib.load_task("file:topics")}
    shared = Shared(model, spec, tasks)
    assert union(tasks).labels == ("opinions: bad", "opinions: good", "topics: object", "topics: occasion")
    trainable = shared.trainable(["opinions"])
    batch = trainable.collate(trainable.encode(task.splits["train"].head(4).assign(task="opinions")))
    shared.module.eval()
    trainable.module(**batch)["loss"].backward()
    gradient = shared.module.classifier.weight.grad
    assert gradient[:2].abs().sum() > 0 and gradient[2:].abs().sum() == 0


def test_text_read_first_moves_the_model_that_then_learns_the_task(told, at_home):
    """By telling texts apart where the model has no masked layer, by guessing masked words where it has one."""
    record, _, events = told(method="full", sequential_tasks=["file:notes.txt"], epochs=1.0)
    assert [entry["tasks"] for entry in events if entry["event"] == "phase"] == [["notes"], ["opinions"]]
    assert "notes" not in record.metrics["after"] and "sequence" not in record.metrics["after"]
    tiny_models.tiny("bert", at_home / "masked") if not (at_home / "masked").exists() else None
    record, _, events = told(
        method="full", model="masked", sequential_tasks=["file:notes.txt"], epochs=1.0, label_words={}
    )
    losses = [entry["loss"] for entry in events if entry["event"] == "step"]
    assert np.isfinite(losses).all()


# Adapters of several tasks.


def test_stacking_changes_no_answer_and_begins_anew(at_home):
    spec = Experiment(**SMALL | WORDS, method="lora", epochs=4.0, learning_rate=0.01, dtype="float32")
    task, model = opened(spec)
    predictor = ftlib.adapt(spec, task, model).predictor
    texts = [text for text, _ in toy.opinions()][:12]
    before = predictor.probabilities(texts)
    peft_adapters.stack(predictor.trainable.module, 3)
    assert np.allclose(before, predictor.probabilities(texts), atol=1e-5)
    ups = [p for name, p in predictor.trainable.module.named_parameters() if ".lora_B." in name]
    assert ups and not any(p.any() for p in ups)


def test_adapters_that_are_added_up_change_what_each_changes(at_home):
    spec = Experiment(
        **SMALL | WORDS, method="merged", joint_tasks=["file:topics"], method_args={"combination": "cat"}, epochs=2.0,
        learning_rate=0.01, dtype="float32",
    )  # fmt: skip
    task, model = opened(spec)
    module = continual.train_sequence(spec, task, model, Quiet()).predictor.trainable.module
    layer = next(part for part in module.modules() if hasattr(part, "lora_A"))
    parts = [layer.get_delta_weight(name) for name in ("0", "1")]
    assert all(float(part.abs().sum()) > 0 for part in parts)
    assert torch.allclose(layer.get_delta_weight(peft_adapters.MERGED), sum(parts), atol=1e-6)


@pytest.mark.parametrize("combination", ["linear", "ties", "dare_linear", "dare_ties"])
def test_merged_adapters_answer_every_task(combination, told):
    record, _, _ = told(
        method="merged",
        sequential_tasks=[],
        joint_tasks=["file:topics"],
        method_args={"combination": combination},
        epochs=1.0,
    )
    assert {"test", "topics"} <= set(record.metrics["after"])


@pytest.mark.parametrize("method", ["stacked", "lora"])
def test_an_adapter_goes_on_from_another_tasks(method, still, monkeypatch):
    """Each training begins where the one before ended, and learns its own task."""
    spec = Experiment(
        **SMALL | {"model": still}, method=method, sequential_tasks=["file:topics"], epochs=10.0, learning_rate=0.002
    )
    task, model = opened(spec)
    began, ended, losses = [], [], []

    def loss(trainable, frame):
        trainable.module.eval()
        with torch.no_grad():
            return float(trainable.module(**trainable.collate(trainable.encode(frame)))["loss"])

    def watched(trainable, model, spec, frame, *more):
        began.append(weights(trainable.module))
        before = loss(trainable, frame)
        training = fit(trainable, model, spec, frame, *more)
        losses.append((before, loss(trainable, frame)))
        ended.append(weights(trainable.module))
        return training

    monkeypatch.setattr(continual, "fit", watched)
    continual.train_sequence(spec, task, model, Quiet())
    assert len(losses) == 2
    new = {name for name in began[1] if ".lora_" in name}
    if method == "lora":
        assert all(torch.equal(ended[0][name], began[1][name]) for name in began[1])
    else:
        # What the first has learned is in the weights below, and the second begins at zero.
        assert not any(began[1][name].any() for name in new if ".lora_B." in name)
        below = [name for name in began[1] if name.endswith("query.base_layer.weight")]
        assert below and all(not torch.equal(ended[0][name], began[1][name]) for name in below)
    assert all(not torch.equal(began[1][name], ended[1][name]) for name in new)
    # One answer for all texts has a loss of 0.69, which is where each begins. Over 12 seeds, in float32 and bfloat16,
    # the first training takes off at least 0.34 and the second, whose head is new and whose adapter is not, 0.08.
    assert all(after < before - 0.03 for before, after in losses)


# Distillation.


def test_a_small_model_that_says_what_its_teacher_says_has_nothing_to_learn():
    class Fixed(torch.nn.Module):
        def __init__(self, logits):
            super().__init__()
            self.logits = torch.nn.Parameter(logits)

        def forward(self):
            return self

    logits = torch.randn(3, 4)
    module = Taught(Fixed(logits.clone()), 2.0)
    answer, labels = torch.softmax(logits, dim=1), torch.zeros(3, dtype=torch.long)
    module(labels, answer, torch.ones(3))["loss"].backward()
    assert torch.allclose(module.classifier.logits.grad, torch.zeros(3, 4), atol=1e-6)
    hard = module(labels, answer, torch.zeros(3))["loss"]
    assert torch.allclose(hard, torch.nn.functional.cross_entropy(logits, labels))


@pytest.mark.parametrize(("soft", "n"), [(0.0, 20), (1.0, 50), (0.5, 50)])
def test_a_small_model_is_taught_on_texts_without_labels(soft, n, at_home, tmp_path):
    arguments = {"layers": 1, "soft": soft, "unlabelled": 30}
    spec = Experiment(**SMALL | WORDS, method="distill", method_args=arguments, train_limit=20, epochs=1.0)
    record = ftlib.run(spec, tmp_path / "run")
    (begun,) = (entry for entry in read_events(tmp_path / "run") if entry["event"] == "fit")
    assert begun["n"] == n
    whole = ftlib.run(Experiment(**SMALL | WORDS, method="full", epochs=1.0))
    assert record.cost["total_parameters"] < whole.cost["total_parameters"]


def test_a_small_model_is_smaller(at_home):
    spec = Experiment(**SMALL | WORDS, method="distill", method_args={"layers": 2, "soft": 0.0})
    with pytest.raises(FtlibError, match="below 2"):
        ftlib.run(spec)


# What cannot be.

IMPOSSIBLE = {
    "probe trains for one task alone": {"method": "probe", "sequential_tasks": ["bios"]},
    "pydocs more than once": {"method": "full", "sequential_tasks": ["pydocs"]},
    "is not a classification task": {"method": "full", "joint_tasks": ["pydocs_text"]},
    "there is nothing old": {"method": "full", "replay": 0.5},
    "does not add to the base model.s weights": {"method": "dora", "interpolation": [0.5]},
    "hundredths": {"method": "full", "interpolation": [0.123]},
    "needs sequential_tasks or joint_tasks": {"method": "full", "other_task_limit": 5},
    "not with sequential_tasks": {"method": "full", "sequential_tasks": ["bios"], "tuning": {"learning_rate": 3}},
    "merged needs the tasks": {"method": "merged"},
    "trained apart": {"method": "merged", "joint_tasks": ["bios"], "sequential_tasks": ["reviews"]},
    "unknown 'reviws'": {"method": "full", "sequential_tasks": ["reviws"]},
    "0 to 1": {"method": "distill", "method_args": {"soft": 1.5}},
}


@pytest.mark.parametrize("said", IMPOSSIBLE)
def test_what_cannot_be_is_said_before_anything_loads(said):
    with pytest.raises(FtlibError, match=said):
        Experiment(**IMPOSSIBLE[said])


def test_a_run_of_one_task_is_what_it_was():
    spec = Experiment(method="lora")
    assert spec.resolved()["notebook"] == "12_run_adapter"
    assert Experiment(method="lora", sequential_tasks=["bios"]).resolved()["notebook"] == "40_run_sequence"
    assert Experiment(method="lora", interpolation=[0.5]).resolved()["notebook"] == "40_run_sequence"
    assert copy.deepcopy(spec).run_id == spec.run_id
