"""Whom a classifier treats worse: by hand, against fairlearn, and never 0 where there is nothing to say."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from fairlearn import metrics as fairlearn
from thorough import some_of

from ftlib import records
from ftlib.data.registry import load_task
from ftlib.metrics import fairness
from ftlib.metrics.fairness import BLANK_GROUP, FEWEST, GAPS, columns_of, gaps, looked_at, measure_groups, smallest_gap
from ftlib.metrics.registry import measure
from ftlib.stats.paired import wilson

NO_YES = ("no", "yes")


def table_of(rows, column="sex", labels=NO_YES):
    """Predictions from (group, label, prediction, how often)."""
    wide = [(group, label, given) for group, label, given, n in rows for _ in range(n)]
    table = pd.DataFrame(wide, columns=[f"group_{column}", "label", "prediction"]).assign(cluster=None)
    return table.assign(**{f"score_{label}": (table["prediction"] == label).astype(float) for label in labels})


BY_HAND = [
    *(("a", "yes", "yes", 8), ("a", "yes", "no", 2), ("a", "no", "yes", 2), ("a", "no", "no", 8)),
    *(("b", "yes", "yes", 5), ("b", "yes", "no", 5), ("b", "no", "no", 10)),
]


@pytest.fixture(scope="module")
def by_hand():
    return measure_groups(table_of(BY_HAND), NO_YES)


def test_rates_of_groups_by_hand(by_hand):
    a, b = (by_hand["groups"]["sex"][group] for group in "ab")
    names = ("accuracy", "selection_rate_yes", "tpr_yes", "fpr_yes")
    assert [a[name]["value"] for name in names] == pytest.approx([16 / 20, 10 / 20, 8 / 10, 2 / 10])
    assert [b[name]["value"] for name in names] == pytest.approx([15 / 20, 5 / 20, 5 / 10, 0.0])
    assert [a[name]["n"] for name in names] == [20, 20, 10, 10]
    assert b["f1_macro"]["value"] == pytest.approx((2 * 5 / 15 + 2 * 10 / 25) / 2)
    assert (a["tpr_yes"]["low"], a["tpr_yes"]["high"]) == pytest.approx(wilson(8, 10))
    assert "tpr_no" not in a


def test_gaps_by_hand(by_hand):
    found = by_hand["gaps"]["sex"]
    expected = {
        "accuracy_difference": 0.05,
        "demographic_parity_difference": 0.25,
        "demographic_parity_ratio": 0.5,
        "equal_opportunity_difference": 0.3,
        "equal_opportunity_ratio": 0.625,
        "equalized_odds_difference": 0.3,
        "equalized_odds_ratio": 0.0,
        "worst_group": 0.75,
    }
    assert {name: leaf["value"] for name, leaf in found.items()} == pytest.approx(expected)
    assert found["equal_opportunity_difference"]["n"] == 20 and found["accuracy_difference"]["n"] == 40
    assert found["equal_opportunity_difference"]["lowest"] == "b" and found["worst_group"]["group"] == "b"
    assert found["demographic_parity_difference"]["label"] == "yes"
    for leaf in found.values():
        assert leaf["low"] <= leaf["value"] <= leaf["high"]
    # 10 examples against 10 cannot show a gap of 30 points.
    assert found["equal_opportunity_difference"]["low"] == 0 < 0.3 < found["equal_opportunity_difference"]["smallest"]


@pytest.fixture(params=["2 labels", "bios"])
def stored(request, tmp_path):
    """Predictions of a task with groups, written and read back; right more often for one group."""
    rng = np.random.default_rng(5)
    if request.param == "bios":
        task = load_task("bios")
        examples, labels = task.splits["test"], task.labels
    else:
        labels = NO_YES
        examples = pd.DataFrame({"id": np.arange(300).astype(str), "text": "a", "label": rng.choice(labels, 300)})
        examples["group_sex"] = rng.choice(["f", "m", "x"], 300)
    group = next(name for name in examples if name.startswith("group_"))
    able = np.where(examples[group] == examples[group].iloc[0], 2.5, 1.0)
    odds = rng.normal(size=(len(examples), len(labels)))
    odds += able[:, None] * (examples["label"].to_numpy()[:, None] == np.asarray(labels))
    odds = np.exp(odds)
    table = records.predictions_table("after", "test", examples, labels, odds / odds.sum(axis=1, keepdims=True))
    table.to_parquet(tmp_path / "predictions.parquet", index=False)
    return records.read_predictions(tmp_path), labels, group.removeprefix("group_")


def test_values_equal_fairlearn_on_stored_predictions(stored):
    table, labels, column = stored
    found = measure_groups(table, labels)
    sensitive = table[f"group_{column}"].to_numpy(dtype=str)
    functions = {
        "selection_rate": fairlearn.selection_rate,
        "tpr": fairlearn.true_positive_rate,
        "fpr": fairlearn.false_positive_rate,
    }
    both = {
        f"{name}_{kind}": getattr(fairlearn, f"{name}_{kind}")
        for name, gap in GAPS.items()
        for kind in gap.kinds
        if name != "accuracy"
    }
    largest = dict.fromkeys(both, 0.0) | {name: 1.0 for name in both if name.endswith("ratio")}
    for label in looked_at(labels):
        truth, chosen = ((table[name] == label).astype(int).to_numpy() for name in ("label", "prediction"))
        frame = fairlearn.MetricFrame(metrics=functions, y_true=truth, y_pred=chosen, sensitive_features=sensitive)
        for group, row in frame.by_group.iterrows():
            for name, value in row.items():
                assert found["groups"][column][group][f"{name}_{label}"]["value"] == pytest.approx(value, abs=1e-12)
        for name, function in both.items():
            value = function(truth, chosen, sensitive_features=sensitive)
            own = found["gaps"][column][f"{name}_{label}" if len(labels) > 2 else name]
            assert own["value"] == pytest.approx(value, abs=1e-12) and own["label"] == label
            pick = min if name.endswith("ratio") else max
            largest[name] = pick(largest[name], value)
    for name, value in largest.items():
        assert found["gaps"][column][name]["value"] == pytest.approx(value, abs=1e-12)
    right = (table["label"] == table["prediction"]).to_numpy(dtype=int)
    frame = fairlearn.MetricFrame(
        metrics=fairlearn.selection_rate, y_true=right, y_pred=right, sensitive_features=sensitive
    )
    assert found["gaps"][column]["accuracy_difference"]["value"] == pytest.approx(frame.difference())
    assert found["gaps"][column]["worst_group"]["value"] == pytest.approx(frame.group_min())


def test_every_leaf_keeps_the_contract_and_is_json(stored):
    table, labels, column = stored
    found = measure(table, labels)
    assert set(found["groups"]) == set(found["gaps"]) == {column}
    json.dumps(found, allow_nan=False)
    for path, leaf in records.flat({"after": {"test": found}}).items():
        assert leaf["n"] > 0 and leaf["low"] <= leaf["value"] <= leaf["high"], path
    assert found == measure(table, labels), "the same predictions give the same intervals"


def test_predictions_without_groups_have_none():
    table = table_of(BY_HAND)
    assert columns_of(table.assign(group_sex=None)) == []
    assert "groups" not in measure(table.drop(columns="group_sex"), NO_YES)


# Never 0 where there is nothing to say


def nothing(leaf):
    assert leaf["value"] is None and leaf["low"] is None and leaf["reason"]
    return leaf["reason"]


def test_labels_that_are_text_have_the_gap_that_fairlearn_hides():
    table = table_of(BY_HAND)
    # Why fairlearn's gap functions are not called.
    said = fairlearn.demographic_parity_difference(
        table["label"], table["prediction"], sensitive_features=table["group_sex"]
    )
    assert said == 0.0
    assert measure_groups(table, NO_YES)["gaps"]["sex"]["demographic_parity_difference"]["value"] == pytest.approx(0.25)


def test_three_labels_are_taken_one_against_the_rest_and_the_largest_gap_names_its_label():
    labels = ("x", "y", "z")
    rows = [(group, label, label, 10) for group in "ab" for label in labels]
    rows += [("a", "z", "z", 10), ("b", "z", "y", 10)]
    found = measure_groups(table_of(rows, labels=labels), labels)["gaps"]["sex"]
    each = {label: found[f"equal_opportunity_difference_{label}"]["value"] for label in labels}
    assert each == pytest.approx({"x": 0.0, "y": 0.0, "z": 0.5})
    assert found["equal_opportunity_difference"]["label"] == "z"
    assert found["equal_opportunity_difference"]["value"] == pytest.approx(0.5)
    # The largest of three is less sure than one that was asked for alone.
    whole, alone = found["equal_opportunity_difference"], found["equal_opportunity_difference_z"]
    assert whole["low"] <= alone["low"] and whole["smallest"] > alone["smallest"]


def test_a_group_of_one_is_shown_and_is_part_of_no_gap():
    found = measure_groups(table_of([*BY_HAND, ("c", "yes", "no", 1)]), NO_YES)
    one = found["groups"]["sex"]["c"]
    assert one["accuracy"]["value"] == 0.0 and one["accuracy"]["n"] == 1 and one["accuracy"]["high"] > 0.7
    assert "two examples or more" in nothing(one["f1_macro"])
    assert "every example of this group has the label 'yes'" in nothing(one["fpr_yes"])
    for name, leaf in measure_groups(table_of(BY_HAND), NO_YES)["gaps"]["sex"].items():
        assert found["gaps"]["sex"][name]["value"] == leaf["value"]
    assert found["gaps"]["sex"]["accuracy_difference"]["left_out"] == ["c"]
    assert found["gaps"]["sex"]["worst_group"]["group"] == "b"


def test_one_group_has_no_gap():
    rows = [("a", "yes", "yes", 30), ("a", "no", "no", 30), ("c", "yes", "no", 1)]
    for name, leaf in measure_groups(table_of(rows), NO_YES)["gaps"]["sex"].items():
        if name != "worst_group":
            assert "a gap takes two named groups" in nothing(leaf) and "c: " in leaf["reason"]


def test_a_group_without_positives_has_no_true_positive_rate():
    rows = [*BY_HAND, ("c", "no", "no", 20)]
    # fairlearn says that c's positives are never found.
    table = table_of(rows)
    binary = [(table[name] == "yes").astype(int) for name in ("label", "prediction")]
    assert fairlearn.true_positive_rate(*(side[table["group_sex"] == "c"] for side in binary), pos_label=1) == 0.0
    found = measure_groups(table, NO_YES)
    assert found["groups"]["sex"]["c"]["tpr_yes"]["n"] == 0
    assert "no example of this group has the label 'yes'" in nothing(found["groups"]["sex"]["c"]["tpr_yes"])
    opportunity = found["gaps"]["sex"]["equal_opportunity_difference"]
    assert opportunity["value"] == pytest.approx(0.3) and opportunity["left_out"] == ["c"]
    assert found["gaps"]["sex"]["demographic_parity_difference"]["value"] == pytest.approx(0.5)


@pytest.mark.parametrize("missing", [None, BLANK_GROUP])
def test_a_missing_group_is_shown_and_is_part_of_no_gap(missing):
    table = table_of([*BY_HAND, ("c", "yes", "no", 50)])
    table.loc[table["group_sex"] == "c", "group_sex"] = missing
    found = measure_groups(table, NO_YES)
    assert found["groups"]["sex"][BLANK_GROUP]["accuracy"]["value"] == 0.0
    assert found["gaps"]["sex"]["accuracy_difference"]["value"] == pytest.approx(0.05)
    assert found["gaps"]["sex"]["accuracy_difference"]["left_out"] == [BLANK_GROUP]
    assert found["gaps"]["sex"]["worst_group"]["group"] == "b"


def test_a_ratio_of_nothing_to_nothing_is_none():
    rows = [(group, label, "no", 20) for group in "ab" for label in NO_YES]
    found = measure_groups(table_of(rows), NO_YES)["gaps"]["sex"]
    assert found["demographic_parity_difference"]["value"] == 0.0
    assert found["demographic_parity_difference"]["high"] > 0.05, "0 of 40 is not a certainty"
    assert "0 / 0 is no ratio" in nothing(found["demographic_parity_ratio"])


# How sure


@pytest.mark.parametrize(
    ("rates", "sizes"),
    some_of(
        2,
        [
            ((0.97, 0.97), (30, 200)),
            ((0.7, 0.7, 0.7, 0.7), (20, 40, 60, 80)),
            ((0.8, 0.8), (40, 40)),
            ((0.9, 0.6), (40, 40)),
            ((0.5, 0.5), (12, 12)),
        ],
    ),  # fmt: skip
)
def test_the_interval_of_a_gap_holds_the_true_gap_as_often_as_it_says(monkeypatch, rates, sizes):
    monkeypatch.setattr(fairness, "REPLICATES", 500)
    rng = np.random.default_rng(3)
    code = np.repeat(np.arange(len(sizes)), sizes)
    truth, names, held = np.ones(len(code), int), [str(k) for k in range(len(sizes))], 0
    true = max(rates) - min(rates)
    for _ in range(300):
        chosen = (rng.random(len(code)) < np.repeat(rates, sizes)).astype(int)
        found = gaps(truth, chosen, code, names, {"yes": 1}, 2, unnamed="", rng=rng)["accuracy_difference"]
        held += found["low"] <= true <= found["high"]
    assert held / 300 >= 0.925


def test_clusters_count_as_one_draw():
    alone = table_of([(group, label, given, 10 * n) for group, label, given, n in BY_HAND])
    together = alone.assign(cluster=[str(i // 10) for i in range(len(alone))])
    found, wide = (measure_groups(table, NO_YES) for table in (alone, together))
    for one, other in ((found["gaps"]["sex"]["accuracy_difference"], wide["gaps"]["sex"]["accuracy_difference"]),):
        assert one["value"] == other["value"] and other["high"] - other["low"] > 2 * (one["high"] - one["low"])
        assert other["smallest"] > 2 * one["smallest"]
    one, other = (side["groups"]["sex"]["a"]["accuracy"] for side in (found, wide))
    assert one["value"] == other["value"] and other["high"] - other["low"] > 2 * (one["high"] - one["low"])


def test_one_source_has_no_interval_but_a_value():
    table = table_of(BY_HAND)
    table["cluster"] = np.where(table["group_sex"] == "a", "one", [str(i) for i in range(len(table))])
    found = measure_groups(table, NO_YES)["groups"]["sex"]["a"]
    assert found["accuracy"]["value"] == pytest.approx(0.8) and found["accuracy"]["low"] is None
    assert found["f1_macro"]["low"] is None


def test_the_smallest_gap_is_what_80_per_cent_of_tests_find():
    n, rate = 200, 0.7
    gap = smallest_gap(n, n, rate)
    rng = np.random.default_rng(1)
    a, b = (rng.binomial(n, rate + side * gap / 2, 4000) / n for side in (1, -1))
    sd = np.sqrt((a * (1 - a) + b * (1 - b)) / n)
    assert ((a - b) / sd > 1.96).mean() == pytest.approx(0.8, abs=0.03)
    assert smallest_gap(n, n, rate, comparisons=8) > gap > smallest_gap(4 * n, 4 * n, rate)
    assert math.isinf(smallest_gap(2, 2, 0.5, comparisons=20))


def test_groups_smaller_than_the_fewest_are_said_to_be(by_hand):
    rows = [*BY_HAND, *(("c", label, "no", FEWEST // 2 - 1) for label in NO_YES)]
    found = measure_groups(table_of(rows), NO_YES)["gaps"]["sex"]
    assert found["accuracy_difference"]["left_out"] == ["c"]
    assert found["accuracy_difference"]["value"] == by_hand["gaps"]["sex"]["accuracy_difference"]["value"]
