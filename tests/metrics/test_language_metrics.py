"""Perplexity and bits per byte by hand; their intervals by simulation; pairing; what is undefined says why."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from ftlib.core.errors import FtlibError
from ftlib.metrics import language
from ftlib.metrics.registry import METRICS, measure_text
from ftlib.stats.linearize import sum_values
from ftlib.stats.verdict import compare

PROTOCOL = "context 512, stride 256, BOS first, each document on its own"


def documents(n=40, seed=0, noise=0.2, sources=None):
    """Likelihoods of documents whose bits per byte spread by `noise`, those of one source together."""
    rng = np.random.default_rng(seed)
    source = np.arange(n) if sources is None else np.arange(n) % sources
    n_bytes = rng.integers(100, 2000, n)
    bits = 1.5 + noise * rng.normal(size=source.max() + 1)[source]
    table = pd.DataFrame({"nats": math.log(2) * bits * n_bytes, "n_tokens": -(-n_bytes // 4), "n_bytes": n_bytes})
    return table.assign(cluster=None if sources is None else source.astype(str))


def test_a_corpus_has_one_value_and_no_mean_of_its_documents():
    assert language.perplexity([math.log(2), 9 * math.log(4)], [1, 9]) == pytest.approx(2 ** (19 / 10))
    assert language.bits_per_byte([math.log(2), 9 * math.log(4)], [1, 9]) == pytest.approx(1.9)


def test_bits_per_byte_is_perplexity_where_tokens_are_bytes():
    table = documents()
    bits = language.bits_per_byte(table["nats"], table["n_bytes"])
    assert 2**bits == pytest.approx(language.perplexity(table["nats"], table["n_bytes"]))


def test_measure_gives_value_interval_n_and_protocol():
    table = documents()
    found = measure_text(table, protocol=PROTOCOL)
    assert list(found) == ["bits_per_byte", "perplexity"]
    for name, leaf in found.items():
        assert leaf["low"] < leaf["value"] < leaf["high"]
        assert leaf["n"] == 40 and leaf["protocol"] == PROTOCOL
        size = table[language.SIZES[name]]
        assert leaf["value"] == pytest.approx(METRICS[name].function(table["nats"], size), rel=1e-12)
    nats = [math.log(found["perplexity"][bound]) for bound in ("low", "value", "high")]
    assert nats[2] - nats[1] == pytest.approx(nats[1] - nats[0]), "the exp of an interval that is even"


def test_a_masked_models_metrics_have_names_of_their_own():
    plain, pseudo = (measure_text(documents(), protocol=PROTOCOL, pseudo=flag) for flag in (False, True))
    assert list(pseudo) == ["pseudo_bits_per_byte", "pseudo_perplexity"]
    assert [leaf["value"] for leaf in pseudo.values()] == [leaf["value"] for leaf in plain.values()]


def test_documents_of_one_source_count_as_one_draw():
    table = documents(120, sources=6)
    together = measure_text(table, protocol=PROTOCOL)["bits_per_byte"]
    alone = measure_text(table.assign(cluster=None), protocol=PROTOCOL)["bits_per_byte"]
    assert together["value"] == pytest.approx(alone["value"])
    assert together["high"] - together["low"] > 3 * (alone["high"] - alone["low"])


@pytest.mark.parametrize("sources", [None, 12])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(sources):
    """The truth is the ratio over endless documents: 1.5 bits, since bits and bytes are independent here."""
    held = 0
    for seed in range(400):
        leaf = measure_text(documents(48, seed, sources=sources), protocol=PROTOCOL)["bits_per_byte"]
        held += leaf["low"] <= 1.5 <= leaf["high"]
    assert 0.92 <= held / 400 <= 0.985


def test_values_pair_exactly():
    """The values' mean is the metric, and their difference compares as bits per byte themselves do."""
    a, b = documents(seed=1), documents(seed=2)
    b["n_bytes"] = a["n_bytes"]
    tables = [language.values("bits_per_byte", t["nats"], t["n_bytes"]) for t in (a, b)]
    exact = [language.bits_per_byte(t["nats"], t["n_bytes"]) for t in (a, b)]
    assert [t.mean() for t in tables] == pytest.approx(exact, rel=1e-12)
    found = compare(*tables, margin=0.02, unit="bits per byte", higher_is_better=False)
    assert found.difference == pytest.approx(exact[0] - exact[1], rel=1e-9)
    sums = [np.stack([t["nats"] / math.log(2), t["n_bytes"]], -1)[None] for t in (a, b)]
    direct = compare(*(sum_values(one, lambda s: s[..., 0] / s[..., 1]) for one in sums), margin=0.02)
    assert (found.low, found.high) == pytest.approx((direct.low, direct.high), rel=0.02)
    same = compare(tables[0], tables[0], margin=0.02)
    assert same.difference == 0 and same.verdict == "same"


def test_pairing_takes_out_what_documents_share():
    easier = documents(seed=3)
    harder = easier.assign(nats=easier["nats"] + 0.01 * math.log(2) * easier["n_bytes"])
    a, b = (language.values("bits_per_byte", t["nats"], t["n_bytes"]) for t in (easier, harder))
    found = compare(a, b, margin=0.001, higher_is_better=False)
    assert found.difference == pytest.approx(-0.01) and found.verdict == "better"
    assert found.high - found.low < 1e-9, "each document costs the same more, so nothing is left to chance"


def test_a_perplexity_is_no_mean():
    with pytest.raises(FtlibError, match="compare by bits_per_byte"):
        language.values("perplexity", [1.0, 2.0], [1, 2])


def test_seeds_widen_the_interval():
    one = documents()
    sizes, nats = one["n_bytes"].to_numpy(), one["nats"].to_numpy()
    seeds = np.stack([nats * (1 + shift) for shift in (-0.1, 0.0, 0.1)])
    found = language.text_interval("bits_per_byte", seeds, np.stack([sizes] * 3))
    alone = language.text_interval("bits_per_byte", nats, sizes)
    assert found.value == pytest.approx(alone.value) and found.high - found.low > 2 * (alone.high - alone.low)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([], {"there are no documents"}),
        ([(0.0, 0, 0)] * 3, {"no bytes were scored", "no tokens were scored"}),
    ],
)
def test_undefined_is_null_with_a_reason(rows, reason):
    table = pd.DataFrame(rows, columns=["nats", "n_tokens", "n_bytes"], dtype=float).assign(cluster=None)
    found = measure_text(table, protocol=PROTOCOL)
    assert {leaf["reason"] for leaf in found.values()} == reason
    assert all(leaf["value"] is None and leaf["low"] is None for leaf in found.values())


def test_a_model_without_a_tokenizer_has_no_perplexity():
    found = measure_text(documents().assign(n_tokens=None), protocol=PROTOCOL)
    assert found["bits_per_byte"]["value"] > 0
    assert found["perplexity"]["value"] is None and "no tokenizer" in found["perplexity"]["reason"]


def test_what_json_cannot_hold_is_null():
    table = pd.DataFrame({"nats": [1e6, 2e6], "n_tokens": [1, 2], "n_bytes": [4, 4], "cluster": None})
    found = measure_text(table, protocol=PROTOCOL)
    assert found["perplexity"]["value"] is None and found["perplexity"]["reason"] == "too large for a number"
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("rows", [1, 3])
def test_one_document_or_source_has_a_value_and_no_interval(rows):
    table = documents(rows).assign(cluster="a.txt")
    for leaf in measure_text(table, protocol=PROTOCOL).values():
        assert leaf["value"] > 0 and leaf["low"] is None and leaf["high"] is None


def test_documents_of_no_bytes_change_nothing():
    table = documents()
    empty = pd.DataFrame({"nats": [0.0], "n_tokens": [0], "n_bytes": [0], "cluster": [None]})
    more = pd.concat([table.drop(columns="cluster"), empty.drop(columns="cluster")]).assign(cluster=None)
    a, b = (measure_text(t, protocol=PROTOCOL)["bits_per_byte"]["value"] for t in (table, more))
    assert a == pytest.approx(b, rel=1e-12)


@pytest.mark.parametrize(
    ("nats", "sizes", "said"),
    [
        ([math.nan, 1.0], [1, 1], "1 of 2"),
        ([math.inf, 1.0], [1, 1], "infinite"),
        ([1.0], [1, 2], "one length"),
        ([1.0, 1.0], [-1, 2], "none negative"),
        ([1.0, 1.0], [math.nan, 2], "missing"),
    ],
)
def test_what_is_no_likelihood_is_refused(nats, sizes, said):
    with pytest.raises(FtlibError, match=said):
        language.bits_per_byte(nats, sizes)
    if len(nats) == len(sizes):
        with pytest.raises(FtlibError, match=said):
            language.text_interval("perplexity", nats, sizes)


def test_the_spread_over_orders_is_that_of_a_normal_sample():
    from scipy import stats

    accuracies = [0.61, 0.58, 0.70, 0.55]
    value, low, high = language.order_sd(accuracies)
    assert value == pytest.approx(np.std(accuracies, ddof=1))
    bounds = [value * math.sqrt(3 / stats.chi2.ppf(q, 3)) for q in (0.975, 0.025)]
    assert [low, high] == pytest.approx(bounds)
    rng = np.random.default_rng(0)
    found = [language.order_sd(rng.normal(0.6, 0.05, 4)) for _ in range(400)]
    assert 0.92 <= np.mean([one.low <= 0.05 <= one.high for one in found]) <= 0.98


def test_one_order_has_no_spread_and_equal_orders_have_no_upper_bound():
    assert all(map(math.isnan, language.order_sd([0.5])))
    assert language.order_sd([0.5, 0.5])[:2] == (0.0, 0.0) and math.isnan(language.order_sd([0.5, 0.5]).high)


def test_what_compares_models_of_one_tokenizer_only_decides_no_study():
    deciding = {name for name, row in METRICS.items() if row.kind == "language-modeling" and not row.not_primary}
    assert deciding == {"bits_per_byte"}
    assert {METRICS[name].kind for name in language.METRICS_OF_TEXT} == {"language-modeling"}
    assert not any(METRICS[name].higher_is_better for name in language.METRICS_OF_TEXT)
