"""A look inside training before it is hidden, and the answer at the end of a notebook."""

import re

import pytest
import toy

import ftlib
from ftlib.config.experiment import Experiment

SPEC = {"task": "file:opinions", "model": "tiny", "label_words": toy.LABEL_WORDS, "train_limit": 20, "eval_limit": 12}


@pytest.fixture(scope="module")
def ran(toy_home):
    """LoRA on the toy task by hand, as notebook 12 does it, beside full fine-tuning."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(toy_home)
        patched.setenv("FTLIB_CACHE", str(toy_home / "cache"))
        spec, events = Experiment(method="lora", epochs=1.0, **SPEC), ftlib.Events(None)
        task, base = ftlib.open_task(spec, events), ftlib.open_model(spec, events)
        inside = ftlib.look_inside(spec, task, base, events)
        shown = [one._repr_html_() for one in (inside.parameters(), inside.batch(), inside.step())]
        before = ftlib.measure_before(spec, task, base, events)
        adapted = ftlib.adapt(spec, task, base, events)
        after = ftlib.measure_after(spec, task, base, adapted, events)
        full = ftlib.rival(spec, task, base, events, method="full")
        majority = ftlib.rival(spec, task, base, events, "nothing", method="majority")
        yield spec, shown, (before, adapted, after), (full, majority)


def test_a_low_rank_matrix_is_shown_beside_the_frozen_one(ran):
    _, (parameters, _, _), _, _ = ran
    rows = re.findall(r">([\w.]*lora_A[\w.]*)</td><td[^>]*>(\d+) x (\d+)</td>.*?(trained|frozen)", parameters)
    assert rows and all(int(rank) == 8 and said == "trained" for _, rank, _, said in rows)
    assert "frozen" in parameters and "numbers are trained" in parameters


def test_a_batch_is_shown_as_tokens_with_labels(ran):
    _, (_, batch, _), _, _ = ran
    assert batch.count("<tr>") == 1 + 4 and "[CLS]" in batch and (">good<" in batch or ">bad<" in batch)


def test_one_step_makes_the_loss_of_its_batch_smaller(ran):
    _, (_, _, step), _, _ = ran
    before, after = (float(re.search(rf"{name}</td><td[^>]*>([\d.]+)", step)[1]) for name in
                     ("loss of the batch", "loss of the same batch after one step"))  # fmt: skip
    assert after < before and "0.6931" in step, "guessing between two labels costs ln 2"


def test_looking_inside_changes_no_result(ran, at_home):
    spec, _, (_, _, after), _ = ran
    assert ftlib.run(spec).metrics["after"] == after.metrics


def test_the_answer_sets_the_method_against_its_rivals_and_the_base_model(ran):
    spec, _, measured, rivals = ran
    shown = ftlib.answer(spec, *measured, *rivals)
    sentences = repr(shown).splitlines()
    assert all(name in said for name, said in zip(("full", "nothing", "base model"), sentences, strict=True))
    assert shown._repr_html_().count("<svg") == 1 and all(said in shown._repr_html_() for said in sentences)


def test_a_rival_keeps_the_examples_and_leaves_its_own_settings_to_its_method(ran):
    spec, _, _, (full, majority) = ran
    assert (full.spec.method, full.spec.train_limit, full.spec.learning_rate) == ("full", spec.train_limit, 0.0)
    assert majority.name == "nothing" and majority.spec.epochs == 0


def test_within_a_study_nothing_is_trained_beside_the_run(ran, at_home, tmp_path):
    spec, _, measured, _ = ran
    events = ftlib.Events(tmp_path)
    task, base = ftlib.open_task(spec, events), ftlib.open_model(spec, events)
    assert ftlib.rival(spec, task, base, events, method="full") is None
    assert repr(ftlib.look_inside(spec, task, base, events).step()) == "left out in a study"
    assert repr(ftlib.answer(spec, *measured, None)).count("\n") == 0
