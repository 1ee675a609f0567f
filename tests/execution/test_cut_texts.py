"""Texts that are longer than max_length: counted by the run's own tokenizer, in the plan and with every answer."""

import pandas as pd
import pytest
import transformers

import ftlib
from ftlib import cli
from ftlib.config.experiment import Experiment

LONG = "good " * 30
WORDS = {"bad": "negative, sad", "good": "positive, a joy"}


@pytest.fixture
def long_texts(at_home, tmp_path):
    """A task of 40 texts of which every fourth is long, in its own file."""
    rows = [
        (f"{'good' if n % 2 else 'bad'} film {n} {LONG if n % 4 == 0 else ''}", ("bad", "good")[n % 2])
        for n in range(80)
    ]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(tmp_path / "long.csv", index=False)
    return f"file:{tmp_path / 'long.csv'}"


@pytest.mark.parametrize(
    ("method", "model", "shots"), [("probe", "tiny", 0), ("zero_shot", "writer", 0), ("in_context", "writer", 1)]
)
def test_every_answer_says_whether_its_text_was_cut(method, model, shots, long_texts, tmp_path, capsys):
    spec = Experiment(task=long_texts, model=model, method=method, shots=shots, max_length=24, label_words=WORDS)
    ftlib.run(spec, tmp_path / "run")
    found = ftlib.read_predictions(tmp_path / "run")
    found = found[(found["part"] == "test") & (found["stage"] == "after")].set_index("id")
    texts = ftlib.load_task(long_texts, label_words=WORDS).splits["test"].set_index("id")["text"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    tokens = texts.map(lambda text: len(tokenizer(text, add_special_tokens=model == "tiny")["input_ids"]))
    assert (found["cut"] == (tokens.loc[found.index] > 24)).all() and 0 < found["cut"].sum() < len(found)


def test_plan_and_run_say_what_will_be_cut_before_it_is(long_texts, tmp_path, capsys):
    (tmp_path / "suite.toml").write_text(
        f'[study]\nquestion = "?"\n[defaults]\ntask = "{long_texts}"\nmodel = "tiny"\nmax_length = 24\n'
        '[[runs]]\nmethod = "probe"\n'
    )
    assert cli.main(["plan", str(tmp_path), "--no-trial"]) == 0
    planned = [line for line in capsys.readouterr().out.splitlines() if line.startswith("caution: ")]
    assert any("test texts are longer than max_length = 24 tokens of tiny and cut there" in line for line in planned)
    assert cli.main(["run", str(tmp_path), "--dry-run"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.startswith("caution: ")] == planned, "run says what plan says"
