"""What swapping changes: numbers by hand, intervals, and the probes of a classifier that is known to be biased."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ftlib.config.experiment import Experiment
from ftlib.core.errors import FtlibError
from ftlib.data import bundled
from ftlib.data.evaluations import EVALUATIONS, is_bias, part_of
from ftlib.data.task import make_task
from ftlib.evaluation.evaluate import evaluate_named
from ftlib.metrics.bias import looked_at, measure_swaps, measure_templates
from ftlib.metrics.registry import METRICS
from ftlib.stats.paired import wilson
from ftlib.training.contract import Predictor


def two(positive):
    """Probabilities of two labels from those of the second."""
    positive = np.asarray(positive, dtype=float)
    return np.stack([1 - positive, positive], axis=-1)


def test_by_hand():
    """Four texts about men, swapped: 0.1, 0.2, 0.3 and 0.4 less; the third and fourth cross one half."""
    found = measure_swaps(two([0.9, 0.8, 0.7, 0.6]), two([0.8, 0.6, 0.4, 0.2]), [0] * 4, ["men", "women"])
    assert found["flip_rate"]["value"] == 0.5
    assert (found["flip_rate"]["low"], found["flip_rate"]["high"]) == pytest.approx(wilson(2, 4))
    assert found["mean_change"]["value"] == pytest.approx(0.25)
    gap = found["signed_gap"]
    assert gap["value"] == pytest.approx(-0.25) and gap["n"] == 4 and gap["sides"] == "women minus men"
    assert gap["p_value"] == pytest.approx(stats.ttest_1samp([0.1, 0.2, 0.3, 0.4], 0).pvalue)
    assert gap["low"] < -0.25 < gap["high"] < 0


def test_the_gap_has_one_direction_whoever_the_text_was_about():
    men = measure_swaps(two([0.9, 0.8, 0.9]), two([0.8, 0.6, 0.8]), [0, 0, 0], ["men", "women"])
    mixed = measure_swaps(two([0.9, 0.6, 0.9]), two([0.8, 0.8, 0.8]), [0, 1, 0], ["men", "women"])
    assert mixed["signed_gap"] == men["signed_gap"] and mixed["signed_gap"]["value"] == pytest.approx(-0.4 / 3)


def test_texts_about_both_sides_have_no_direction():
    found = measure_swaps(two([0.9, 0.8, 0.7]), two([0.8, 0.6, 0.4]), [0, -1, -1], ["men", "women"])
    assert found["flip_rate"]["n"] == 3 and found["signed_gap"]["n"] == 1
    assert found["signed_gap"]["value"] is None and "1 text name men alone" in found["signed_gap"]["reason"]


def test_nothing_to_swap_is_not_available():
    found = measure_swaps(np.zeros((0, 2)), np.zeros((0, 2)), [], ["men", "women"])
    assert {leaf["value"] for leaf in found.values()} == {None}
    assert "no texts hold a term" in found["flip_rate"]["reason"]


def test_a_model_that_does_not_react_has_zeros_with_intervals():
    same = two(np.linspace(0.1, 0.9, 30))
    found = measure_swaps(same, same, [0, 1] * 15, ["men", "women"])
    assert [found[name]["value"] for name in ("flip_rate", "mean_change", "signed_gap")] == [0, 0, 0]
    assert found["flip_rate"]["high"] > 0.05 and found["signed_gap"]["p_value"] == 1


def test_of_three_labels_neither_version_is_favoured():
    """Noise alone: with the label predicted for the written version the gap would be far below 0."""
    rng = np.random.default_rng(0)
    versions = rng.dirichlet([2, 2, 2], size=(2, 4000))
    favoured = versions[0].argmax(axis=1)
    written = (versions[1] - versions[0])[np.arange(4000), favoured].mean()
    chosen = looked_at(versions)
    assert written < -0.1 and abs((chosen[1] - chosen[0]).mean()) < 0.02


def test_texts_of_one_source_are_one_draw():
    before, after = two([0.9, 0.9, 0.8, 0.8, 0.7, 0.7]), two([0.8, 0.8, 0.6, 0.6, 0.4, 0.4])
    alone = measure_swaps(before[::2], after[::2], [0] * 3, ["a", "b"])
    twice = measure_swaps(before, after, [0] * 6, ["a", "b"], clusters=["x", "x", "y", "y", "z", "z"])
    assert twice["signed_gap"]["p_value"] == pytest.approx(alone["signed_gap"]["p_value"])


def test_term_gaps_by_hand():
    """Two frames, three terms: the first is 0.3 and 0.4 above the mean of the others."""
    scores = [[0.6, 0.3, 0.3], [0.9, 0.4, 0.6]]
    found = measure_templates(two(scores), {"kind": ["a", "b", "c"]})["kind"]
    assert found["a"]["template_gap"]["value"] == pytest.approx(0.35)
    assert found["a"]["template_score"]["value"] == pytest.approx(0.75)
    assert sum(found[term]["template_gap"]["value"] for term in "abc") == pytest.approx(0)
    assert found["a"]["template_gap"]["n"] == 2
    for term in "abc":
        assert found[term]["template_gap"]["p_value"] <= found[term]["template_gap"]["p_holm"] <= 1


@pytest.mark.parametrize("wrong", [np.zeros((2, 3)), np.zeros((2, 3, 1)), np.full((2, 3, 2), np.nan)])
def test_shapes_that_do_not_fit_are_refused(wrong):
    with pytest.raises(FtlibError, match="allowed"):
        looked_at(wrong)


def test_other_shapes_are_refused():
    with pytest.raises(FtlibError, match="swaps: found"):
        measure_swaps(two([0.5]), two([0.5, 0.5]), [0], ["a", "b"])
    with pytest.raises(FtlibError, match="templates: found"):
        measure_templates(two([[0.5, 0.5]]), {"kind": ["a", "b"]})


def test_the_table_has_a_row_for_each():
    for name in ("flip_rate", "mean_change", "signed_gap", "template_gap", "stereotype_share"):
        assert METRICS[name].not_primary and not METRICS[name].higher_is_better


TEXTS = ["He was kind to me.", "She was kind to me.", "A woman called.", "The soup was cold.", "His wife smiled."]
NAMES = [f"t{number}" for number in range(5)]


def task():
    rows = pd.DataFrame({"id": NAMES, "text": TEXTS, "label": ["good", "bad", "good", "bad", "good"]})
    return make_task("toy", dict.fromkeys(("train", "validation", "test"), rows), ("bad", "good"))


def sexist(texts):
    """Good is likelier where a text holds a word for women."""
    return two(
        [0.8 if {"she", "her", "woman", "female"} & {w.strip(".").lower() for w in t.split()} else 0.4 for t in texts]
    )


def test_swaps_find_a_classifier_that_prefers_women():
    found = evaluate_named("after", Experiment(), task(), None, Predictor(0, 0, 0, sexist), "swaps:gender")
    metrics, table = found["swaps:gender"]
    # "His wife smiled." names both; "Her husband smiled." is what becomes likelier.
    assert metrics["flip_rate"]["value"] == 1.0 and metrics["flip_rate"]["n"] == 4 and metrics["flip_rate"]["of"] == 5
    assert metrics["signed_gap"]["value"] == pytest.approx(0.4) and metrics["signed_gap"]["n"] == 3
    assert table["id"].tolist() == ["t0", "t1", "t2", "t4", *(f"{one}/swapped" for one in ("t0", "t1", "t2", "t4"))]
    assert table["label"].isna().all()
    assert table["group_names"].tolist() == ["men", "women", "women", "both", "women", "men", "men", "both"]
    again = measure_swaps(
        table[["score_bad", "score_good"]][:4], table[["score_bad", "score_good"]][4:], [0, 1, 1, -1], ["men", "women"]
    )
    assert {name: one["value"] for name, one in again.items()} == {name: one["value"] for name, one in metrics.items()}


def test_templates_find_it_too():
    metrics, table = evaluate_named("after", Experiment(), task(), None, Predictor(0, 0, 0, sexist), "templates")[
        "templates"
    ]
    gaps = {term: one["template_gap"] for term, one in metrics["groups"]["gender"].items()}
    assert gaps["female"]["value"] == pytest.approx(0.4) and gaps["male"]["value"] == pytest.approx(-0.2)
    assert gaps["female"]["p_holm"] < 0.001 and gaps["female"]["n"] == 30
    assert metrics["groups"]["religion"]["Muslim"]["template_gap"]["value"] == 0
    assert len(table) == len(bundled.load_templates()) and table["label"].isna().all()
    assert set(table["part"]) == {"templates"} and table["group_term"].nunique() == 36


def test_what_cannot_be_asked_says_why():
    predictor = Predictor(0, 0, 0)
    without = replace(task(), labels=(), kind="language-modeling")
    for name, metric in (("swaps:gender", "flip_rate"), ("templates", "template_gap")):
        for asked, said in ((task(), "so their meaning is unknown"), (without, "a task without labels")):
            metrics, table = evaluate_named("after", Experiment(), asked, None, predictor, name)[name]
            assert table is None and metrics[metric]["value"] is None and said in metrics[metric]["reason"]
    metrics, table = evaluate_named("after", Experiment(), task(), None, Predictor(0, 0, 0, sexist), "swaps:religion")[
        "swaps:religion"
    ]
    assert table is None and "none of 5 test texts" in metrics["flip_rate"]["reason"]


def test_the_evaluations_of_bias_are_named():
    names = [name for row in EVALUATIONS.values() if row.is_bias for name in row.offered or (row.name,)]
    assert names == ["swaps:gender", "swaps:nationality", "swaps:religion", "templates", "pairs:PATH"]
    assert all(is_bias(name) and part_of(name) == name for name in names)
