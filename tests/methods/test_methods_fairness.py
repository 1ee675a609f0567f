"""Heads on frozen features that treat groups alike: what they even out, what they read, and what they refuse."""

import numpy as np
import pandas as pd
import pytest
from fairlearn.postprocessing import ThresholdOptimizer
from sklearn.linear_model import LogisticRegression
from toy import grouped_spec

import ftlib
from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core.errors import FtlibError
from ftlib.methods.fairness import fair_head
from ftlib.methods.linear_probe import linear_head

FAIR = ("threshold", "exponentiated")
METHOD = pytest.mark.parametrize("method", FAIR)


def arguments(method, **more):
    return {name: default for name, (default, _) in METHODS[method].arguments.items()} | more


def made(n, labels, seed=0):
    """Features that say the label, and say it less of group m; group and label go together, so m is found less."""
    rng = np.random.default_rng(seed)
    label = rng.integers(len(labels), size=n)
    group = np.where(rng.random(n) < np.where(label == len(labels) - 1, 0.75, 0.35), "w", "m")
    inputs = np.eye(len(labels))[label] * np.where(group == "w", 2.0, 1.0)[:, None] + rng.normal(size=(n, len(labels)))
    inputs[:, -1] += np.where(group == "w", 1.0, -1.0)
    return inputs, np.array(labels)[label], group


def gap(label, truth, chosen, group):
    """How differently often the label is found in the two groups."""
    rates = [np.mean(chosen[(truth == label) & (group == one)] == label) for one in ("w", "m")]
    return abs(rates[0] - rates[1])


@METHOD
@pytest.mark.parametrize(("labels", "share"), [(("no", "yes"), 0.25), (("a", "b", "yes"), 0.85)])
def test_a_known_gap_is_reduced(method, labels, share):
    """Of several labels, each evened out against the rest, less is left of it once a text gets only one."""
    inputs, truth, group = made(1500, labels)
    new, new_truth, new_group = made(1500, labels, seed=1)
    plain = linear_head(inputs, truth, labels, 1.0)(new)
    head = fair_head(method, inputs, truth, group, labels, arguments(method))
    fair = head.probabilities(new, new_group if method == "threshold" else None)
    assert fair.shape == plain.shape and fair.sum(axis=1) == pytest.approx(1) and (fair >= 0).all()
    before, after = (gap("yes", new_truth, np.array(labels)[p.argmax(axis=1)], new_group) for p in (plain, fair))
    assert before > 0.4 and after < share * before
    assert np.mean(np.array(labels)[fair.argmax(axis=1)] == new_truth) > 1.2 / len(labels)


def test_a_probability_is_how_often_fairlearn_would_say_so():
    inputs, truth, group = made(400, ("no", "yes"))
    head = fair_head("threshold", inputs, truth, group, ("no", "yes"), arguments("threshold"))
    found = head.probabilities(inputs, group)[:, 1]
    codes, ours = (group == "w").astype(int), LogisticRegression(C=1.0, max_iter=2000)
    fitted = ThresholdOptimizer(
        estimator=ours, constraints="true_positive_rate_parity", predict_method="predict_proba"
    ).fit(inputs, (truth == "yes").astype(int), sensitive_features=codes)
    drawn = np.mean([fitted.predict(inputs, sensitive_features=codes, random_state=i) for i in range(400)], axis=0)
    assert np.abs(drawn - found).max() < 0.15 and drawn.mean() == pytest.approx(found.mean(), abs=0.01)
    rates = [found[(truth == "yes") & (group == one)].mean() for one in ("w", "m")]
    assert rates[0] == pytest.approx(rates[1], abs=1e-3), "on average over draws, on the training examples"


def test_groups_are_read_at_prediction_by_threshold_alone():
    inputs, truth, group = made(600, ("no", "yes"))
    other = np.where(group == "w", "m", "w")
    threshold, exponentiated = (fair_head(m, inputs, truth, group, ("no", "yes"), arguments(m)) for m in FAIR)
    assert not np.array_equal(threshold.probabilities(inputs, group), threshold.probabilities(inputs, other))
    assert np.array_equal(exponentiated.probabilities(inputs, group), exponentiated.probabilities(inputs, None))
    assert (METHODS["threshold"].groups, METHODS["exponentiated"].groups) == ("prediction", "training")
    one = threshold.probabilities(inputs[:1], group[:1])
    assert one == pytest.approx(threshold.probabilities(inputs, group)[:1]), "a text alone"


@METHOD
def test_on_the_toy_task_a_run_is_the_same_again(method, grouped):
    one, again = (ftlib.run(grouped_spec(grouped, method=method)) for _ in range(2))
    assert one.status == "ok" and one.metrics["after"] == again.metrics["after"]
    assert one.metrics["after"]["test"]["accuracy"]["n"] == 20
    assert one.spec["resolved"]["method_args"]["constraint"] == "true_positive_rate_parity"
    assert one.cost["checkpoint_bytes"] == 8 * one.cost["trainable_parameters"] > 0


def predictor(method, grouped, test_rows=None):
    spec = grouped_spec(grouped, method=method)
    task = ftlib.open_task(spec)
    if test_rows is not None:
        task.tests["other"] = test_rows
    return METHODS[method].prepare()(ftlib.open_model(spec), spec, task, task.splits["train"])


def test_threshold_needs_the_one_group_of_every_text(grouped):
    known = ftlib.load_task(grouped, group_columns=["who"]).splits["train"]["text"].iloc[0]
    rows = pd.DataFrame({"text": [known, "of a third", "both"], "label": "good", "group_who": ["w", "x", "w"]})
    rows = pd.concat([rows, rows.tail(1).assign(group_who="m")])
    asked = predictor("threshold", grouped, rows)
    for text, said in {
        "never seen": "is not among .*: 'never seen'.*exponentiated",
        "both": "with several, m, w",
        "of a third": "of the group 'x', of which training had no example.* m, w",
    }.items():
        with pytest.raises(FtlibError, match=said):
            asked.probabilities([text])
    assert predictor("exponentiated", grouped).probabilities(["never seen"]).sum() == pytest.approx(1)


@METHOD
def test_without_groups_there_is_nothing_to_even_out(method, at_home):
    spec = Experiment(task="file:opinions", model="tiny", method=method, eval_limit=5)
    with pytest.raises(FtlibError, match="needs groups; name their column with group_columns"):
        ftlib.run(spec)


@METHOD
@pytest.mark.parametrize(
    ("truth", "group", "said"),
    [
        ("yes no yes no", "w w w w", "all training examples are of the group 'w'"),
        ("yes no no no", "w w m m", r"'m' has no training example 'yes' \(of 2\)"),
        ("yes no yes yes", "w w m m", "'m' has no training example of another label than 'yes'"),
        ("no no no no", "w w m m", "no training example has the label 'yes'"),
    ],
)
def test_too_few_examples_are_said(method, truth, group, said):
    with pytest.raises(FtlibError, match=said):
        fair_head(method, np.eye(4), truth.split(), group.split(), ("no", "yes"), arguments(method))


@METHOD
@pytest.mark.parametrize("constraint", ["false_positive_rate_parity", "demographic_parity", "equalized_odds"])
def test_every_constraint_can_be_asked_for(method, constraint):
    inputs, truth, group = made(300, ("no", "yes"))
    given = arguments(method, constraint=constraint)
    head = fair_head(method, inputs, truth, group, ("no", "yes"), given)
    assert head.probabilities(inputs, group).sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"method": "threshold", "method_args": {"constraint": "parity"}}, "allowed: true_positive_rate_parity"),
        ({"method": "threshold", "method_args": {"eps": 0.1}}, "unknown 'eps'"),
        ({"method": "exponentiated", "method_args": {"eps": 0.0}}, "a positive number"),
        ({"method": "exponentiated", "mitigation": "balance"}, "exponentiated on pydocs"),
    ],
)
def test_what_cannot_be_is_said(fields, said):
    with pytest.raises(FtlibError, match=said):
        Experiment(**fields)
