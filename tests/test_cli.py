"""The command line: every wrong request is one clear error with exit code 2, and nothing has happened."""

import json
import os
import subprocess
import sys

import pytest
import synthetic
import toy
from conftest import ROOT, drawn, ftlib_command

from ftlib import cli
from ftlib.execution import engines
from ftlib.metrics.registry import METRICS

HEAD = '[study]\nquestion = "Which?"\n[plan]\nseeds = [0, 1]\n'
DEFAULTS = '[defaults]\ntask = "file:opinions"\n'


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory with the toy task; a kernel that is started fails the test."""
    toy.write_task(tmp_path / "opinions")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTLIB_CACHE", str(tmp_path / "cache"))

    def started(*arguments, **options):
        raise AssertionError(f"a process was started: {arguments}")

    monkeypatch.setattr(engines, "Process", started)
    return tmp_path


def write(folder, runs, head=HEAD, defaults=DEFAULTS):
    (folder / "study").mkdir(exist_ok=True)
    (folder / "study" / "suite.toml").write_text(head + defaults + runs, encoding="utf-8")


def refused(capsys, *arguments: str) -> list[str]:
    """Run a command that must be refused; the lines of its error, without "ftlib: "."""
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert said.err.startswith("ftlib: ") and "Traceback" not in said.err
    return said.err.removeprefix("ftlib: ").strip().splitlines()


def refused_study(here, capsys) -> list[str]:
    """The same for `ftlib run` and `ftlib plan` on the study, of which nothing may be left but its suite file."""
    lines = refused(capsys, "run", "study")
    assert refused(capsys, "plan", "study") == lines
    assert [path.name for path in (here / "study").iterdir()] == ["suite.toml"]
    return lines


# Wrong requests (issue 2, Must show 5).


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (
            '[[runs]]\nmethod = "lora"\nlerning_rate = 0.1\n',
            "field: unknown 'lerning_rate'; did you mean 'learning_rate'?",
        ),
        ('[[runs]]\nmetod = "lorra"\n', "field: unknown 'metod'; did you mean 'method'?"),
        ('[[runs]]\nmethod = "lorra"\n', "method: unknown 'lorra'; did you mean 'lora'?"),
        ('[[runs]]\nmethod = "lora"\nlearning_rate = "high"\n', "learning_rate: found 'high'"),
        ('[[runs]]\nmethod = "lora"\nlearning_rate = 2\n', "learning_rate: found 2"),
        ('[[runs]]\nmethod = "probe"\nepochs = 3\n', "epochs: probe does not train"),
        ('[[runs]]\nmethod = "lora"\nshots = 2\ntrain_limit = 8\n', "shots and train_limit: both given"),
        ('[[runs]]\nmethod = "lora"\nmethod_args = {rank = 4}\n', "method_args of lora: unknown 'rank'"),
        ('[[runs]]\nmethod = "lora"\nmodel = "minilmm"\n', "did you mean 'minilm'?"),
        ('[[runs]]\nmethod = "lora"\nmodel = "opinions"\n', "without config.json"),
        ('[[runs]]\nmethod = "lora"\nshots = 1000\n', "train has fewer for"),
        ('[[runs]]\nmethod = "lora"\ntrain_limit = 1000\n', "train has 80 examples"),
        ('[[runs]]\nmethod = "lora"\nnotebook = "12_run_adaptor"\n', "did you mean '12_run_adapter'?"),
        ("[[runs]]\nseed = 3\n", "seed: belongs to [plan]"),
        ("[[runs]]\nmethod = {name = 'lora'}\n", "method: found"),
        ('[[runs]]\nmethod = "tfidf"\nmethod_args = {C = inf}\n', "method_args.C: found inf"),
        ('[[runs]]\nmethod = "tfidf"\nmethod_args = {C = 0}\n', "method_args.C: found 0"),
        ('[[runs]]\nmethod = "lora"\nmethod_args = {r = 4.5}\n', "method_args.r: found 4.5"),
        ('[[runs]]\nmethod = "lora"\nmethod_args = {lora_dropout = "x"}\n', "method_args.lora_dropout: found 'x'"),
        ('[[runs]]\nmethod = "lora"\nmethod_args = {lora_dropout = 1.0}\n', "method_args.lora_dropout"),
        ('[[runs]]\nmethod = "zero_shot"\nmethod_args = {template = "It"}\n', "it must contain {label}"),
        ('[[runs]]\nmethod = "lora"\nlearning_rate = nan\n', "learning_rate: found nan"),
        ('[[runs]]\nmethod = "lora"\nlearning_rate = []\n', "learning_rate: found an empty list"),
        ('[[runs]]\nmethod = "lora"\nepochs = "3"\n', "epochs: found '3'"),
        ("[[rums]]\nmethod = 'lora'\n", "section: unknown 'rums'; did you mean 'runs'?"),
    ],
)
def test_what_is_wrong_in_a_run_is_one_error_that_says_what_to_do(here, capsys, runs, said):
    write(here, runs)
    lines = refused_study(here, capsys)
    named = [line for line in lines if said in line]
    assert len(named) == 1, lines
    assert "suite.toml" in named[0] or "opinions" in named[0] or "ipynb" in named[0] or "notebook" in named[0]


@pytest.mark.parametrize(
    "defaults",
    ['lerning_rate = 0.1\ntask = "file:opinions"', 'task = "file:nothing"', 'task = "pydoks"', 'model = "minilmm"'],
)
def test_what_is_wrong_in_the_defaults_is_said_once_however_many_runs_it_concerns(here, capsys, defaults):
    write(
        here, '[[runs]]\nmethod = ["lora", "full"]\n[[runs]]\nmethod = "probe"\n', defaults=f"[defaults]\n{defaults}\n"
    )
    assert len(refused_study(here, capsys)) == 1


def test_a_file_that_is_missing(here, capsys):
    write(here, '[[runs]]\nmethod = "tfidf"\n', defaults='[defaults]\ntask = "file:opinons"\n')
    (line,) = refused_study(here, capsys)
    assert "no file or folder" in line and "opinons" in line and str(here) in line


def test_a_text_column_that_does_not_exist(here, capsys):
    write(here, '[[runs]]\nmethod = "tfidf"\n', defaults=DEFAULTS + 'text_column = "sentence"\n')
    (line,) = refused_study(here, capsys)
    assert "file:opinions: train.csv, validation.csv, test.csv: text_column: no column 'sentence'" in line
    assert "columns: text, label" in line


def test_a_model_that_cannot_be_had_is_said_before_anything_starts(here, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write(here, '[[runs]]\nmethod = "full"\nmodel = "some-owner/some-model"\n')
    (line,) = refused_study(here, capsys)
    assert "hf download some-owner/some-model" in line


def test_zero_shot_on_labels_that_are_numbers_needs_their_words(here, capsys):
    toy.write_task(here / "numbered", {"bad": "0", "good": "1"})
    write(here, '[[runs]]\nmethod = "zero_shot"\n', defaults='[defaults]\ntask = "file:numbered"\n')
    (line,) = refused_study(here, capsys)
    assert "not all words (0, 1)" in line and 'label_words = {"0" = "...", "1" = "..."}' in line


def test_a_test_file_with_a_label_that_train_does_not_have(here, capsys):
    toy.write_rows(here / "opinions" / "test.csv", [*toy.opinions()[:9], ("who knows", "mixed")])
    write(here, '[[runs]]\nmethod = "tfidf"\n')
    (line,) = refused_study(here, capsys)
    assert "test.csv" in line and "line 11" in line and "'mixed' is not in train" in line


@pytest.mark.parametrize("content", ["", "text,label\n"])
def test_an_empty_file(here, capsys, content):
    (here / "opinions" / "test.csv").write_text(content)
    write(here, '[[runs]]\nmethod = "tfidf"\n')
    (line,) = refused_study(here, capsys)
    assert "test.csv" in line


def test_the_same_fault_of_the_data_is_said_once_however_many_runs_read_it(here, capsys):
    (here / "opinions" / "test.csv").write_text("")
    words = 'label_words = {bad = "a", good = "b"}\n'
    write(here, f'[[runs]]\nmethod = ["tfidf", "lora", "full"]\n[[runs]]\nmethod = "zero_shot"\n{words}')
    assert len(refused_study(here, capsys)) == 1


def test_all_problems_of_a_suite_are_said_at_once(here, capsys):
    head = '[study]\nquestion = ""\n[plan]\nmargin = -1\nprimary = "acuracy"\n'
    runs = '[[runs]]\nmethod = "lorra"\nlerning_rate = 1\n[[runs]]\nmethod = "full"\nepochs = -1\nmodel = "minilmm"\n'
    write(here, runs, head)
    lines = refused_study(here, capsys)
    for word in (
        "question: missing",
        "margin: found",
        "'lorra'",
        "'lerning_rate'",
        "epochs: found",
        "'minilmm'",
        "'acuracy'",
    ):
        assert sum(word in line for line in lines) == 1, (word, lines)
    assert lines[0] == f"{len(lines) - 1} problems:"


def test_all_faults_of_the_data_are_said_at_once(here, capsys):
    toy.write_task(here / "numbered", {"bad": "0", "good": "1"})
    toy.write_task(here / "empty")
    (here / "empty" / "train.csv").write_text("")
    runs = '[[runs]]\nmethod = "zero_shot"\ntask = ["file:numbered", "file:empty"]\n'
    write(here, runs + '[[runs]]\nmethod = "lora"\nshots = 999\n')
    said = "\n".join(refused_study(here, capsys))
    assert "label_words" in said and "train.csv" in said and "shots = 999" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [("[study\n", "not valid TOML"), ("\xff", "not valid TOML"), ("", "question"), ("study = 1\n", "[study]")],
)
def test_a_file_that_is_no_suite(here, capsys, text, said):
    (here / "study").mkdir()
    (here / "study" / "suite.toml").write_bytes(text.encode("latin-1"))
    assert said in "\n".join(refused_study(here, capsys))


def test_a_study_that_is_not_there(here, capsys):
    for command in ("run", "plan"):
        assert "no such suite file" in refused(capsys, command, "study")[0]
    assert "study" in refused(capsys, "report", "study")[0]
    assert not (here / "study").exists()


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("seed", "write it as field=value"),
        ("sed=1", "did you mean 'seed'?"),
        ("max_length=1", "max_length: found 1"),
        ("seed=3", "[plan]"),
        ('evaluations=["general"]', "[plan]"),
    ],
)
def test_set_is_checked_as_the_file_is(here, capsys, pair, said):
    write(here, '[[runs]]\nmethod = "tfidf"\n')
    lines = refused(capsys, "run", "study", "--set", pair)
    assert sum(said in line for line in lines) == 1, lines


def test_jobs_and_timeout_are_not_negative(here, capsys):
    write(here, '[[runs]]\nmethod = "tfidf"\n')
    for option in ("--jobs", "--timeout"):
        assert "0 or more" in refused(capsys, "run", "study", option, "-1")[0]
    assert "0 or more" in refused(capsys, "plan", "study", "--jobs", "-1")[0]


@pytest.mark.parametrize("arguments", [["rnu"], ["run"], ["list", "method"], ["run", "study", "--dryrun"]])
def test_a_command_that_does_not_exist(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2 and "usage: ftlib" in capsys.readouterr().err


# Right ones.


def test_a_dry_run_says_what_would_run_and_runs_nothing(here, capsys):
    write(here, '[[runs]]\nmethod = ["zero_shot", "lora"]\n')
    assert cli.main(["run", "study", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "5 runs, 0 recorded already, 5 to do" in said and said.count("would run") == 5
    assert "added, as in every report: majority on file:opinions, tfidf on file:opinions" in said
    assert [path.name for path in (here / "study").iterdir()] == ["suite.toml"]


def test_set_sets_a_field_for_every_run(here, capsys):
    write(here, '[[runs]]\nmethod = ["zero_shot", "lora"]\n')

    def would_run(*more):
        assert cli.main(["run", "study", "--dry-run", *more]) == 0
        return {line.split()[2] for line in capsys.readouterr().out.splitlines() if "would run" in line}

    plain, limited = would_run(), would_run("--set", "eval_limit=20")
    assert len(plain) == len(limited) == 5 and not plain & limited
    assert would_run("--set", "eval_limit=0") == plain, "a default that is written out is the same run"


def test_a_plan_says_what_will_run_and_what_the_test_set_can_show(here, capsys):
    write(here, '[[runs]]\nmethod = ["zero_shot", "lora"]\n')
    assert cli.main(["plan", "study", "--no-trial"]) == 0
    said = capsys.readouterr().out
    assert "accuracy, margin 0.01, seeds 0, 1\n" in said
    assert "2 labels; train 80, validation 16, test 24; 24 test examples are used" in said
    assert "will not be shown" in said and "file:opinions lora: 2 runs" in said
    assert [path.name for path in (here / "study").iterdir()] == ["suite.toml"]


def test_a_report_is_made_again_from_the_records(here, capsys):
    study = synthetic.write_study(here / "study", n=40)
    assert cli.main(["report", "study"]) == 0
    assert capsys.readouterr().out.strip() == os.path.join("study", "report.html") and (study / "report.html").exists()


def test_a_study_that_is_done_runs_nothing_and_reports_again(toy_study, at_home, capsys, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **o: pytest.fail("a process was started"))
    page = (toy_study.study / "report.html").read_bytes()
    with drawn():
        assert cli.main(["run", "reports/curves"]) == 0
    assert "11 runs, 11 recorded already, 0 to do" in capsys.readouterr().out
    assert (toy_study.study / "report.html").read_bytes() == page, "the same records, the same bytes"


def test_while_it_runs_every_run_has_its_lines(toy_study):
    lines = toy_study.said.splitlines()
    for method in ("majority", "tfidf", "zero_shot", "probe", "lora", "full"):
        mine = [line.split()[0] for line in lines if f" {method} " in line and line.startswith(("running", "ok"))]
        assert mine[0] == "running" and mine[-1] == "ok", toy_study.said
    assert lines[-1] == "report: " + os.path.join("reports", "curves", "report.html")


def test_a_run_that_is_recorded_is_not_run_again_by_a_scheduler(toy_study, capsys):
    run_dir = next(toy_study.study.glob("runs/*"))
    before = (run_dir / "record.json").stat().st_mtime_ns
    assert cli.main(["run-one", str(run_dir)]) == 0
    assert capsys.readouterr().out.strip() == (
        f"ok: {run_dir.name}: has its record already; nothing was run, and nothing was changed"
    )
    assert (run_dir / "record.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("what", ["tasks", "models", "methods", "metrics", "evaluations", "notebooks", "studies"])
def test_every_table_is_listed_for_people_and_for_programs(what, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert cli.main(["list", what, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows and all(row["name"] and row["summary"] for row in rows)
    assert len({row["name"] for row in rows}) == len(rows)
    assert cli.main(["list", what]) == 0
    said = capsys.readouterr().out
    assert all(row["name"] in said and row["summary"] in said for row in rows)


def test_the_listed_metrics_say_which_way_is_better(capsys):
    assert cli.main(["list", "metrics", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(METRICS) and rows["brier"]["higher_is_better"] is False
    assert all(row["unit"] and row["source"] and len(row["range"]) == 2 for row in rows.values())


def test_studies_say_whether_they_were_run(toy_study, at_home, capsys):
    assert cli.main(["list", "studies", "--json"]) == 0
    rows = {row["name"]: row["records"] for row in json.loads(capsys.readouterr().out)}
    assert rows[os.path.join("reports", "curves")] == 11


def test_check_audits_data_and_names_what_it_found(here, capsys):
    assert cli.main(["check", "file:opinions"]) == 0
    assert capsys.readouterr().out.strip()
    assert "nothing" in refused(capsys, "check", "file:nothing")[0]


def test_check_reads_a_persons_own_columns(here, capsys):
    rows = [f"It is number {n},{'glad' if n % 2 else 'sad'},{'old' if n % 3 else 'young'}" for n in range(60)]
    (here / "own.csv").write_text("\n".join(["mail,mood,age", *rows]))
    (said,) = [line for line in refused(capsys, "check", "own.csv") if "label_column" in line]
    assert 'label_column = "mood" (for `ftlib check`: --label-column mood)' in said
    columns = ("--text-column", "mail", "--label-column", "mood", "--group-column", "age")
    assert cli.main(["check", "own.csv", *columns]) == 0
    said = capsys.readouterr().out
    assert "label_column: mood" in said and "2 labels in train" in said
    assert "'nope'" in refused(capsys, "check", "own.csv", *columns[:4], "--group-column", "nope")[0]


def test_the_doctor_looks_at_everything_a_run_needs(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    code = cli.main(["doctor"])
    said = capsys.readouterr().out
    assert code == (1 if "NOT OK" in said else 0)
    for word in ("python", "packages", "torch", "notebooks", "device", "minilm", "disk"):
        assert word in said


def test_the_doctor_says_what_is_not_well(here, capsys):
    assert cli.main(["doctor"]) == 1
    bad = [line for line in capsys.readouterr().out.splitlines() if line.startswith("NOT OK")]
    assert any("reports/" in line for line in bad)


def test_without_a_command_help_is_printed_and_the_request_was_wrong(capsys):
    assert cli.main([]) == 2
    assert "usage: ftlib" in capsys.readouterr().out


def test_the_exit_code_reaches_the_shell(here, monkeypatch):
    monkeypatch.undo()
    for command in (ftlib_command("run", "nothing"), [sys.executable, "-m", "ftlib"]):
        assert subprocess.run(command, cwd=here, capture_output=True).returncode == 2
