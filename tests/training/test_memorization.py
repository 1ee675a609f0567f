"""What a model keeps of its training text: canaries, exposure, extraction; what is planted must be found."""

import math

import numpy as np
import pandas as pd
import pytest
import tiny_models
import torch
from thorough import some_of

import ftlib
from ftlib.config.methods import METHODS
from ftlib.core.errors import FtlibError
from ftlib.data import canaries
from ftlib.evaluation import memorization
from ftlib.evaluation.evaluate import evaluate_named
from ftlib.metrics.memorization import by_chance, exposure, exposure_interval, exposures, extraction, rank
from ftlib.metrics.registry import METRICS
from ftlib.models.score.decoder import matched
from ftlib.records.events import Events
from ftlib.report.figures import drawing
from ftlib.report.plots import alt_text
from ftlib.report.plots.heat import exposure as draw
from ftlib.training.contract import Predictor
from ftlib.training.trainer import fit

TEXT = {"task": "file:notes.txt", "model": "writer", "batch_size": 4, "context": 64}


class Spec(ftlib.Experiment):
    """An experiment with canaries, whether or not Experiment has the field yet."""

    canaries: list[int] = []


def asked(repetitions, **fields):
    spec = ftlib.Experiment(**TEXT | {"method": "full", **fields})
    return Spec.model_construct(spec.model_fields_set, **dict(spec) | {"canaries": repetitions})


# The metrics, by hand.


def test_the_likeliest_of_sixteen_has_four_bits_and_the_unlikeliest_none():
    nats = np.arange(2.0, 17.0)
    assert rank(1.0, nats) == 1 and exposure([1], 16) == 4.0
    assert rank(99.0, nats) == 16 and exposure([16], 16) == 0.0


def test_who_is_as_likely_stands_before_the_secret():
    assert rank(1.0, [1.0, 1.0, 1.0]) == 4
    assert exposure([rank(1.0, [1.0] * 15)], 16) == 0.0, "a model that finds all alike tells nothing"


def test_exposure_of_a_random_rank_is_that_of_chance():
    ranks = np.random.default_rng(0).integers(1, 1025, 20000)
    assert exposures(ranks, 1024).mean() == pytest.approx(by_chance(1024), abs=0.04)
    assert by_chance(4) == pytest.approx((2 + 1 + (2 - math.log2(3)) + 0) / 4)
    assert by_chance(10**6) == pytest.approx(1 / math.log(2), abs=1e-4)


def test_an_interval_holds_its_value_and_stays_within_what_can_be_seen():
    for ranks in ([1, 1, 1], [1, 5, 900], [[1, 2, 3], [4, 1, 1]], [1024, 1024]):
        found = exposure_interval(ranks, 1024)
        assert 0 <= found.low <= found.value <= found.high <= 10
        assert found.low < found.high, "a few secrets are not all secrets"
    assert math.isnan(exposure_interval([7], 1024).low)


@pytest.mark.parametrize("wrong", [[0], [17], [math.nan]])
def test_a_rank_that_cannot_be_is_refused(wrong):
    with pytest.raises(FtlibError, match="1 to 16"):
        exposures(wrong, 16)


@pytest.mark.parametrize("wrong", [[], [math.nan], [[1.0]]])
def test_candidates_that_are_no_list_of_numbers_are_refused(wrong):
    with pytest.raises(FtlibError, match="others"):
        rank(1.0, wrong)


def test_extraction_counts_whole_continuations_only():
    assert extraction([16, 15, 0, 16], 16) == 0.5 and math.isnan(extraction([], 16))
    with pytest.raises(FtlibError, match="0 to 16"):
        extraction([17], 16)


def test_both_have_a_row_that_says_lower_is_better():
    for name in ("exposure", "extraction"):
        assert not METRICS[name].higher_is_better and METRICS[name].not_primary


# Canaries.


def documents(n=40):
    return pd.DataFrame({"id": [f"d{i}" for i in range(n)], "text": [f"Title {i}\nFirst.\nLast." for i in range(n)]})


def test_canaries_are_planted_as_often_as_asked_and_nothing_else_changes():
    found = canaries.canaries([0, 1, 4, 16], seed=3)
    before, after = documents(), canaries.planted(documents(), found, seed=3)
    whole = "\n".join(after["text"])
    assert [whole.count(one.sentence) for one in found] == [one.repetitions for one in found]
    own = {one.sentence for one in found}
    for old, new in zip(before["text"], after["text"], strict=True):
        lines = new.split("\n")
        assert "\n".join(line for line in lines if line not in own) == old
        assert lines[0] == old.split("\n")[0] and len(set(lines)) == len(lines), "once in a document"
    assert list(before["id"]) == list(after["id"])


def test_the_same_seed_plants_the_same_and_another_seed_another():
    def plant(seed):
        return list(canaries.planted(documents(), canaries.canaries([4], seed), seed)["text"])

    assert plant(0) == plant(0) != plant(1)
    assert canaries.others(0) == canaries.others(0) != canaries.others(1)


def test_no_secret_is_drawn_twice_and_no_owner_has_two():
    found = canaries.canaries(range(canaries.MOST), seed=0)
    secrets = [one.secret for one in found] + canaries.others(0)
    assert len(set(secrets)) == len(secrets) == 10**canaries.DIGITS and {len(secret) for secret in secrets} == {
        canaries.DIGITS
    }
    assert len({one.carrier for one in found}) == len(found)


def test_what_cannot_be_planted_is_said():
    with pytest.raises(FtlibError, match="64 repetitions .* there are 40"):
        canaries.planted(documents(), canaries.canaries([64], 0), 0)
    with pytest.raises(FtlibError, match="once"):
        canaries.canaries([4, 4], 0)
    assert "at most" in canaries.problems(range(canaries.MOST + 1))[0]


# Greedy decoding.


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "bloom"])
def test_what_is_read_off_one_pass_is_what_generating_writes(family):
    model, words = tiny_models.build(family)
    start = list(tiny_models.SENTENCES)
    ids = [[words.bos_token_id, *words(text)["input_ids"][:6]] for text in start]
    made = [
        model.generate(torch.tensor([row]), max_new_tokens=8, do_sample=False, eos_token_id=None)[0].tolist()
        for row in ids
    ]
    texts = []
    for place, row in enumerate(made):
        wrong = place % 3 == 1
        texts.append([*row[1:10], (row[10] + 1) % 390, *row[11:]] if wrong else row[1:])

    class Ready:
        """Texts that are tokens already: what was generated need not survive being written out and read again."""

        bos_token_id, eos_token_id = words.bos_token_id, words.eos_token_id

        def __call__(self, some, **_):
            return {"input_ids": [texts[int(one)] for one in some]}

    found = matched(model, Ready(), [str(place) for place in range(len(texts))], prefix=6, length=8)
    assert found.tolist() == [3.0 if place % 3 == 1 else 8.0 for place in range(len(texts))]


def test_a_text_that_is_too_short_has_no_answer_and_one_that_is_too_long_is_refused():
    model, words = tiny_models.build("llama")
    found = matched(model, words, ["Read.", tiny_models.SENTENCES[0] * 3], prefix=4, length=4)
    assert math.isnan(found[0]) and found[1] >= 0
    with pytest.raises(FtlibError, match="together up to 256"):
        matched(model, words, ["Read."], prefix=250, length=10)


# In a run.


class Quiet(Events):
    def say(self, *_, **__):
        pass


def test_a_task_without_canaries_is_left_as_it_is(at_home):
    task = ftlib.load_task("file:notes.txt")
    assert memorization.planted_task(task, asked([])) is task


def test_what_is_drawn_is_planted_whatever_the_limit(at_home):
    task = memorization.planted_task(ftlib.load_task("file:notes.txt"), asked([0, 4]))
    plain = ftlib.load_task("file:notes.txt")
    for how in ({"seed": 0}, {"seed": 0, "train_limit": 12}):
        drawn, old = task.draw(**how), plain.draw(**how)
        assert list(drawn["id"]) == list(old["id"])
        assert "\n".join(drawn["text"]).count("locker code") == 4 * canaries.EACH
        clean = task.clean(**how)
        assert not clean["text"].str.contains("locker code").any()
        assert len(clean) == int((drawn["text"] == old["text"]).sum())
    assert task.sha256 == plain.sha256 and task.stated["canaries"].startswith("5 each")
    assert task.splits["test"].equals(plain.splits["test"]) and "locker code" in task._repr_html_()


@pytest.fixture
def few(monkeypatch):
    """Fewer candidates and shorter continuations, for a tiny model."""
    monkeypatch.setattr(memorization, "others", lambda seed: canaries.others(seed)[::39][:255])
    monkeypatch.setattr(memorization, "GIVEN", 8)
    monkeypatch.setattr(memorization, "WRITTEN", 4)


@pytest.mark.parametrize(
    ("method", "epochs", "rate", "some"), some_of(1, [("full", 8.0, 0.003, 2), ("lora", 10.0, 0.01, 4)])
)
def test_exposure_rises_with_repetitions_and_the_untouched_model_knows_nothing(
    method, epochs, rate, some, at_home, few
):
    spec = asked([0, some, 16], method=method, epochs=epochs, learning_rate=rate, seed=1)
    task = memorization.planted_task(ftlib.load_task(spec.task), spec)
    model = ftlib.open_model(spec)
    predictor = METHODS[method].prepare()(model, spec, task, None)
    untouched = evaluate_named("before", spec, task, model, Predictor(0, 0, 0), "canaries")
    fit(predictor.trainable, model, spec, task.draw(**spec.drawing()), Quiet())
    adapted = evaluate_named("after", spec, task, model, predictor, "canaries")
    assert list(adapted) == ["canaries:0", f"canaries:{some}", "canaries:16", "extraction:train", "extraction:test"]
    before, after = (
        {part: metrics["exposure"]["value"] for part, (metrics, _) in found.items() if "exposure" in metrics}
        for found in (untouched, adapted)
    )
    # In bits, of 8; chance gives 1.4. Over 12 seeds, in float32 and in bfloat16: before at most 3.1, never planted at
    # most 2.8, 16 times at least 7.6, and a step up from one to the next at least 0.7.
    assert max(before.values()) < 4 and after["canaries:0"] < 4
    assert after["canaries:0"] < after[f"canaries:{some}"] < after["canaries:16"] and after["canaries:16"] > 7


def test_every_figure_can_be_computed_again_from_the_predictions(at_home, few):
    spec = asked([1])
    task, model = memorization.planted_task(ftlib.load_task(spec.task), spec), ftlib.open_model(spec)
    found = evaluate_named("before", spec, task, model, Predictor(0, 0, 0), "canaries")
    metrics, table = found["canaries:1"]
    assert metrics["exposure"]["n"] == canaries.EACH and "256 candidates" in metrics["exposure"]["protocol"]
    assert exposure(table["rank"], table["candidates"].iloc[0]) == pytest.approx(metrics["exposure"]["value"])
    assert table["n_bytes"].isna().all(), "likelihoods of secrets are not bits per byte of a text"
    for part in ("extraction:train", "extraction:test"):
        metrics, table = found[part]
        assert extraction(table["n_tokens"], 4) == metrics["extraction"]["value"] and set(table["n_wanted"]) == {4}
        assert metrics["extraction"]["low"] <= metrics["extraction"]["value"] <= metrics["extraction"]["high"]


def test_documents_that_are_too_short_give_no_value_and_a_reason(at_home, few, monkeypatch):
    monkeypatch.setattr(memorization, "GIVEN", 100)
    spec = asked([0])
    task, model = memorization.planted_task(ftlib.load_task(spec.task), spec), ftlib.open_model(spec)
    metrics, table = evaluate_named("before", spec, task, model, Predictor(0, 0, 0), "canaries")["extraction:test"]
    assert metrics["extraction"]["value"] is None and "104 tokens" in metrics["extraction"]["reason"] and table is None


# The picture.


def test_the_picture_says_what_it_shows():
    with drawing(3.0) as ax:
        draw(ax, {"full": ([0, 4], [1.5, 9.0], [0.5, 7.0], [3.0, 10.0])}, most=10.0, chance=1.44)
        said = alt_text(ax)
    assert "full: 1.50 bits at 0, 9.00 bits at 4" in said and "chance: 1.44" in said
