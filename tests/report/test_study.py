"""A study as a notebook shows it: verdict, table, figures, disagreements, and a report that a link opens."""

import re

import pytest
from synthetic import HOSTILE, Made, write_study

import ftlib
from ftlib.core.errors import FtlibError

RUNS = [
    Made("majority", -9.0),
    Made("zero_shot", 0.1, as_before=True),
    Made("probe", 0.6, seeds=(0, 1, 2)),
    Made("full", 1.6, seeds=(0, 1, 2)),
]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("study") / "shown", RUNS, labels=("a", *HOSTILE), n=90, hostile=True)
    return ftlib.read_study(folder)


def test_a_study_shows_its_question_its_verdict_and_its_methods(study):
    shown = study._repr_html_()
    assert study.reading.advice[0].headline.split(":")[0] in shown and study.question in shown
    assert all(name in study.table()._repr_html_() for name in ("probe", "full", "majority"))
    assert repr(study).endswith("shown, 8 runs, 1 missing)"), "its suite asks for tfidf, too"


def test_what_the_data_says_stays_text(study):
    parts = [study, study.table(), study.plot.methods(), study.plot.confusion("full"), study.examples("full", "probe")]
    for one in parts:
        shown = one._repr_html_()
        assert "<script>alert" not in shown and "<b>&amp;" not in shown and "<img" not in shown
    assert "&lt;img src=x onerror" in parts[-1]._repr_html_()


def test_figures_are_those_of_the_report(study):
    assert study.plot.seeds().kind == "seeds"
    assert study.plot.front()._repr_html_().count("<svg") == 1
    with pytest.raises(FtlibError, match="unknown .?money"):
        study.plot.front(cost="money")


def test_disagreements_are_counted_and_shown(study):
    shown = study.examples("full", "probe", most=2)._repr_html_()
    said = re.findall(r"Only (\w+) is right \(most of its runs\): (\d+) of 90 test examples", shown)
    assert [name for name, _ in said] == ["full", "probe"] and int(said[0][1]) > int(said[1][1])
    assert shown.count("<tr>") == 2 * (1 + 2)
    with pytest.raises(FtlibError, match="method: unknown 'ful'; did you mean 'full'"):
        study.examples("ful", "probe")


def test_an_unknown_task_is_an_error_that_names_the_tasks(study):
    with pytest.raises(FtlibError, match=r"task: unknown 'pydoc'.* Known: "):
        study.table("pydoc")


def test_the_report_says_its_verdict_and_links_to_itself(study, monkeypatch):
    (notebooks := study.folder.parent / "notebooks").mkdir()
    monkeypatch.chdir(notebooks)
    shown = study.report()
    assert 'href="../shown/report.html"' in shown._repr_html_() and (study.folder / "report.html").exists()
    assert study.reading.advice[0].lead in shown._repr_html_() and repr(shown).endswith("shown/report.html")
