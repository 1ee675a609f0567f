"""Suites that model text: what the plan settles per task, what is added, and what is refused, all at once."""

import pytest

from ftlib.config.experiment import Override, Plan, hash_of
from ftlib.config.suite_file import load_suite
from ftlib.core.errors import FtlibError

HEAD = '[study]\nquestion = "Which?"\n'
TEXT = '[[runs]]\ntask = "pydocs_text"\nmodel = "tiny-lm"\nmethod = ["zero_shot", "lora"]\n'
LABELS = '[[runs]]\nmethod = "probe"\n'
OVERRIDE = '[plan.tasks.pydocs_text]\nprimary = "bits_per_byte"\nmargin = 0.05\n'


def read(tmp_path, text, **overrides):
    file = tmp_path / "suite.toml"
    file.write_text(HEAD + text, encoding="utf-8")
    return load_suite(file, overrides)


def problems(tmp_path, text) -> list[str]:
    with pytest.raises(FtlibError) as caught:
        read(tmp_path, text)
    return [problem.partition("suite.toml: ")[2] for problem in caught.value.problems]


def test_a_plan_without_tasks_keeps_the_hash_it_had_before_there_were_any():
    """If this fails, every record made under such a plan becomes exploratory. Was that meant? Then change this."""
    question = "Which library does this documentation describe: how should a small encoder be adapted to tell?"
    assert hash_of(question, Plan(primary="accuracy", margin=0.02, seeds=[0, 1, 2])) == "8cec60cc7f9534cc"


def test_a_plan_without_tasks_says_nothing_of_them():
    assert "tasks" not in Plan().model_dump()
    assert hash_of("?", Plan()) == hash_of("?", Plan(tasks={}))


def test_a_study_may_hold_both_kinds_each_with_its_metric_and_margin(tmp_path):
    found = read(tmp_path, "[plan]\nmargin = 0.02\nseeds = [0, 1]\n" + OVERRIDE + TEXT + LABELS)
    assert (found.plan.of("pydocs").primary, found.plan.of("pydocs").margin) == ("accuracy", 0.02)
    own = found.plan.of("pydocs_text")
    assert (own.primary, own.margin, own.seeds, own.tasks) == ("bits_per_byte", 0.05, [0, 1], {})
    assert set(found.added) == {("pydocs_text", "ngram"), ("pydocs", "majority"), ("pydocs", "tfidf")}


def test_a_study_of_text_alone_settles_it_in_its_plan(tmp_path):
    found = read(tmp_path, '[plan]\nprimary = "bits_per_byte"\nmargin = 0.02\n' + TEXT)
    assert found.plan.of("pydocs_text") == found.plan


def test_the_hash_changes_with_what_is_settled_for_a_task(tmp_path):
    plan = "[plan]\nseeds = [0]\n"
    hashes = [
        read(tmp_path, plan + text + TEXT + LABELS).plan_hash for text in (OVERRIDE, OVERRIDE.replace("0.05", "0.04"))
    ]
    assert hashes[0] != hashes[1]


def test_a_file_is_named_in_quotes(tmp_path):
    (tmp_path / "a.txt").write_text("Some text.\n")
    task = f"file:{tmp_path}/a.txt"
    text = f'[plan]\n[plan.tasks."{task}"]\nprimary = "bits_per_byte"\nmargin = 1\n'
    found = read(tmp_path, text + LABELS + TEXT.replace("pydocs_text", task))
    assert found.plan.tasks == {task: Override(primary="bits_per_byte", margin=1.0)}


def test_a_metric_of_the_other_kind_is_refused_and_the_error_says_what_to_write(tmp_path):
    said = problems(tmp_path, "[plan]\n" + TEXT + LABELS)
    assert said == [
        "[plan] primary: accuracy is of classification tasks, and pydocs_text is a language-modeling task; under "
        '[plan.tasks.pydocs_text] write primary = "bits_per_byte" and margin = 0.02, say'
    ]
    (alone,) = problems(tmp_path, "[plan]\n" + TEXT)
    assert "under [plan] write" in alone
    (turned,) = problems(tmp_path, '[plan]\nprimary = "bits_per_byte"\n' + TEXT + LABELS)
    assert 'under [plan.tasks.pydocs] write primary = "accuracy" and margin = 0.01' in turned
    (own,) = problems(tmp_path, "[plan]\n" + OVERRIDE.replace("bits_per_byte", "mcc") + TEXT + LABELS)
    assert own.startswith("[plan.tasks.pydocs_text] primary: mcc is of classification tasks")


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ('primary = "perplexity"', "[plan] primary: perplexity cannot decide: it is per token"),
        ('primary = "order_sd"', "order_sd cannot decide: it says how steady a prompt is"),
        ('primary = "bits_per_bite"', "did you mean 'bits_per_byte'"),
        ("tasks = 3", "write a table per task, [plan.tasks.NAME]"),
        ("tasks.pydocs_text = 3", "[plan.tasks.pydocs_text]: primary and margin missing"),
        ('tasks.pydocs_text = {primary = "bits_per_byte"}', "margin missing; a margin is in the unit"),
        ('tasks.pydocs_text = {primary = "bits_per_byte", margin = 0}', "[plan.tasks.pydocs_text] margin: found 0"),
        ('tasks.pydocs_text = {primary = "bits_per_byte", margin = inf}', "margin: found inf"),
        ('tasks.pydocs_text = {primary = "acuracy", margin = 1}', "did you mean 'accuracy'"),
        ('tasks.pydocs_text = {primary = "pseudo_perplexity", margin = 1}', "masked models see what comes after"),
        ('tasks.pydocs_text = {primary = "bits_per_byte", margin = 1, seeds = [1]}', "unknown 'seeds'"),
        ('tasks.pydocs_tex = {primary = "bits_per_byte", margin = 1}', "did you mean 'pydocs_text'"),
    ],
)
def test_a_plan_that_cannot_stand_is_refused(tmp_path, plan, said):
    found = problems(tmp_path, f"[plan]\n{plan}\n{TEXT}{LABELS}")
    assert any(said in problem for problem in found), found
    assert all("\n" not in problem for problem in found)


def test_everything_that_is_wrong_is_said_at_once(tmp_path):
    text = '[plan]\nmargin = -1\n[plan.tasks.nowhere]\nprimary = "perplexity"\nmargin = 0.1\n' + TEXT + LABELS
    said = problems(tmp_path, text)
    for part in ("margin: found -1", "perplexity cannot decide", "unknown 'nowhere'", "accuracy is of classification"):
        assert any(part in problem for problem in said), part


def test_a_method_that_does_not_serve_a_task_is_refused_once(tmp_path):
    text = '[plan]\nprimary = "bits_per_byte"\n[[runs]]\ntask = "pydocs_text"\nmethod = ["tfidf", "ngram"]\n'
    (said,) = problems(tmp_path, text)
    assert "tfidf" in said and "language-modeling" in said
