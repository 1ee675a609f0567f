"""What other programs get: tables, LaTeX and Markdown that print texts as they are, PDF, and runs in trackers."""

import sys

import pandas as pd
import pytest
from pages import read
from synthetic import HOSTILE, TYPICAL, write_study

from ftlib.cli import main
from ftlib.core.errors import FtlibError
from ftlib.records import records_of
from ftlib.report import build, exports, trackers


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
        exports.export(study, ["page"])
    with pytest.raises(FtlibError, match=r"no report\.json"):
        exports.export(tmp_path, ["latex"])
    with pytest.raises(FtlibError, match="unknown 'excel'"):
        exports.export(study, ["excel"])


def test_figures_are_pdf_beside_svg_the_same_each_time_and_gone_when_not_asked_for(study):
    found = exports.export(study, ["pdf"])
    assert [one.name for one in found] == sorted(f"{one.stem}.pdf" for one in (study / "figures").glob("*.svg"))
    first = {one: one.read_bytes() for one in found}
    assert all(data.startswith(b"%PDF") and b"CreationDate" not in data for data in first.values())
    build.build(study, pdf=True)
    assert {one: one.read_bytes() for one in found} == first
    build.build(study)
    assert not list((study / "figures").glob("*.pdf"))


@pytest.mark.filterwarnings("ignore")
def test_runs_go_to_mlflow_once(study, monkeypatch):
    pytest.importorskip("sqlalchemy", reason="mlflow is not installed: pip install mlflow")
    tracking = pytest.importorskip("mlflow.tracking", reason="mlflow is not installed: pip install mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (uri,) = exports.export(study, ["mlflow"])
    assert exports.export(study, ["mlflow"]) == [uri] and (study / "exports" / "mlflow.db").is_file()
    client = tracking.MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("study").experiment_id])
    records = {record.run_id: record for _, record in records_of(study)}
    assert sorted(run.data.tags[trackers.ID] for run in runs) == sorted(records)
    for run in runs:
        record = records[run.data.tags[trackers.ID]]
        assert run.data.params["method"] == record.spec["resolved"]["method"]
        assert run.data.metrics["after/test/accuracy"] == record.value("after.test.accuracy")


@pytest.mark.filterwarnings("ignore")
def test_runs_go_to_trackio_once(study, tmp_path, monkeypatch):
    trackio = pytest.importorskip("trackio", reason="trackio is not installed: pip install trackio")
    monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path)
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path)
    for _ in range(2):
        assert exports.export(study, ["trackio"]) == [tmp_path]
    runs = list(trackio.Api().runs("study"))
    assert len(runs) == len(list(records_of(study)))


def test_without_a_tracker_one_sentence_names_what_to_install(study, monkeypatch):
    for name, needed in (("mlflow", "sqlalchemy"), ("trackio", "trackio")):
        monkeypatch.setitem(sys.modules, needed, None)
        with pytest.raises(FtlibError, match=f"export {name}: .*pip install"):
            exports.export(study, [name])


def test_the_command_line_writes_them_after_the_report(study, capsys):
    assert main(["report", str(study), "--export", "markdown"]) == 0
    assert "exports" in capsys.readouterr().out
