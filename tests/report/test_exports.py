"""What other programs get: tables that are the same, LaTeX and Markdown that print texts as they are, and a PDF."""

import pandas as pd
import pytest
from pages import read
from synthetic import HOSTILE, TYPICAL, write_study

from ftlib.cli import main
from ftlib.core.errors import FtlibError
from ftlib.report import build, exports


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("exports") / "study", TYPICAL[:4], labels=HOSTILE, n=60)
    build.build(folder)
    return folder


def test_parquet_holds_what_report_json_does(study):
    exports.export(study, ["parquet"])
    table = pd.read_parquet(study / "exports" / "rows.parquet")
    rows = read(study)["rows"]
    assert len(table) == len(rows) and list(table["value"].fillna(-1)) == [
        -1 if row["value"] is None else row["value"] for row in rows
    ]


def test_latex_and_markdown_have_intervals_and_print_hostile_names(study):
    exports.export(study, ["latex", "markdown"])
    tex = (study / "exports" / "report_card.tex").read_text(encoding="utf-8")
    assert r"\toprule" in tex and r"f1\_macro" in tex and " to " in tex
    assert tex.count(r" \\") == len(read(study)["report_card"]) + 1
    markdown = (study / "exports" / "rows.md").read_text(encoding="utf-8")
    assert "<script>" not in markdown and "&lt;script" in markdown


def test_without_a_browser_or_a_report_one_sentence_says_so(study, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FtlibError, match="found no browser that prints"):
        exports.export(study, ["pdf"])
    with pytest.raises(FtlibError, match=r"no report\.json"):
        exports.export(tmp_path, ["latex"])
    with pytest.raises(FtlibError, match="unknown 'excel'"):
        exports.export(study, ["excel"])


def test_the_command_line_writes_them_after_the_report(study, capsys):
    assert main(["report", str(study), "--export", "markdown"]) == 0
    assert "exports" in capsys.readouterr().out
