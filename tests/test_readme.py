"""The README is short, and what it names is there."""

import re

import pytest
from conftest import ROOT

from ftlib.cli import main
from ftlib.config.suite_file import load_suite

README = (ROOT / "README.md").read_text(encoding="utf-8")
ROOMS = (
    "core", "stats", "metrics", "data", "config", "records", "models", "training", "methods", "evaluation",
    "execution", "report",
)  # fmt: skip


def test_it_is_short():
    assert len(README.splitlines()) <= 150


def test_the_rooms_are_those_of_the_library_in_their_order():
    named = re.findall(r"^\| `ftlib/(\w+)` \| \S", README, re.MULTILINE)
    assert named == list(ROOMS)
    there = {path.parent.name for path in (ROOT / "ftlib").glob("*/__init__.py")}
    assert there == set(ROOMS)


def test_the_fifteen_files_are_there_and_no_longer_than_it_says():
    files = re.findall(r"^(\d+)\. `(ftlib/[\w/]+\.py)`: \S", README, re.MULTILINE)
    assert [int(number) for number, _ in files] == list(range(1, 16))
    lines = sum(len((ROOT / name).read_text(encoding="utf-8").splitlines()) for _, name in files)
    said = re.search(r"at most ([\d ]+) lines together", README)[1]
    assert lines <= int(said.replace(" ", ""))


@pytest.mark.parametrize("name", sorted({"README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))}))
def test_the_files_that_it_names_are_there(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:docs|notebooks|reports|data|ftlib|benchmarks)/[\w./-]+)`", text))
    named |= {f"docs/{found}" if "/" not in found else found for found in re.findall(r"\]\(([\w./-]+)\)", text)}
    made = {"reports/reviews", "reports/reviews/suite.toml", "reports/demo/report.html"}
    assert not [one for one in sorted(named - made) if not (ROOT / one).exists()]


def test_every_command_is_in_its_table(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    known = set(re.findall(r"^    ([a-z-]+)\s", capsys.readouterr().out, re.MULTILINE)) - {"run-one"}
    assert set(re.findall(r"^\| `ftlib ([a-z]+)", README, re.MULTILINE)) == known


def suites(name: str) -> list[str]:
    return re.findall(r"```toml\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


BEFORE = '[study]\nquestion = "Q?"\n'
PLAN = '[plan]\nprimary = "accuracy"\nmargin = 0.02\nseeds = [0]\n'
EXAMPLES = [*suites("README.md"), *suites("docs/suites.md")]


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_are_suites(example, tmp_path):
    text = ("" if "[study]" in example else BEFORE) + ("" if "[plan]" in example else PLAN) + example
    (tmp_path / "suite.toml").write_text(text, encoding="utf-8")
    assert load_suite(tmp_path, check_files=False).experiments
