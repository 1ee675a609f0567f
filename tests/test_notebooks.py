"""The notebooks: stored stripped, thin, alike; every one is executed, and its numbers are the library's."""

import ast
import json
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import papermill
import psutil
import pytest
import threadpoolctl
import toy
from conftest import ROOT

import ftlib
from ftlib import records
from ftlib.config.experiment import SEQUENCE, Experiment
from ftlib.config.methods import METHODS
from ftlib.core import surroundings
from ftlib.core.errors import FtlibError
from ftlib.execution import notebook_exec
from ftlib.execution.worker import notebook_parameters

FILES = sorted((ROOT / "notebooks").glob("*.ipynb"))
RUN = [path for path in FILES if "_run_" in path.stem]
READ = [path for path in FILES if "_run_" not in path.stem]
TYPES = {"str": str, "int": int, "float": (float, int), "bool": bool, "list": list, "dict": dict}
STUDIED = (
    "majority", "tfidf", "ngram", "zero_shot", "probe", "lora", "bitfit", "full", "setfit", "distill", "in_context",
)  # fmt: skip
"""Methods of the toy study. Other adapters run the same notebook as lora; the toy study's task has no groups."""
FAMILIES = ("ngram", "full", "in_context")
"""Methods whose notebook's record is computed anew here: without a model, an encoder that trains, a decoder."""
MOST_PARAMETERS = 12


def name(path) -> str:
    return path.stem


def load(path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell) -> str:
    return "".join(cell["source"])


def code_cells(path) -> list[dict]:
    return [cell for cell in load(path)["cells"] if cell["cell_type"] == "code"]


def tagged(path) -> list[dict]:
    return [cell for cell in code_cells(path) if "parameters" in cell["metadata"].get("tags", [])]


def parameters(path) -> dict[str, object]:
    """Names and defaults of the parameters cell."""
    (cell,) = tagged(path)
    return {line.target.id: ast.literal_eval(line.value) for line in ast.parse(source(cell)).body}


every = pytest.mark.parametrize("path", FILES, ids=name)
every_run = pytest.mark.parametrize("path", RUN, ids=name)


# How they are stored.


def test_there_are_notebooks_of_both_kinds():
    assert RUN and READ and all(re.fullmatch(r"\d0_start_here|\d\d_(run|read|plan)_\w+", path.stem) for path in FILES)


@every
def test_a_notebook_is_stored_stripped(path):
    for cell in code_cells(path):
        assert cell["outputs"] == [] and cell["execution_count"] is None, source(cell)
    assert not any({"execution", "papermill"} & set(cell["metadata"]) for cell in load(path)["cells"])
    assert "papermill" not in load(path)["metadata"] and "widgets" not in load(path)["metadata"]


@every
def test_a_notebook_is_valid_with_stable_cell_ids_and_the_plain_kernel(path):
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    ids = [cell["id"] for cell in book.cells]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[a-z][a-z0-9-]*", one) for one in ids), ids
    assert book.metadata.kernelspec.name == "python3" and book.metadata.kernelspec.display_name == "Python 3"


@every
def test_the_title_is_a_question(path):
    first = load(path)["cells"][0]
    assert first["cell_type"] == "markdown"
    assert re.fullmatch(r"# [A-Z].*\?", source(first).splitlines()[0])
    assert notebook_exec.listed()[path.stem].endswith("?")


@every
def test_what_a_notebook_points_to_is_there(path):
    text = "\n".join(source(cell) for cell in load(path)["cells"] if cell["cell_type"] == "markdown")
    named = set(re.findall(r"`(\d\d_\w+)`", text)) | set(re.findall(r"[Nn]otebook (\d\d)\b", text))
    assert not [one for one in named if not any(other.stem.startswith(one) for other in FILES)]
    assert not [one for one in re.findall(r"`(reports/[\w/.]+)`", text) if not (ROOT / one).exists()]


# How they are written: if a cell wants a function, the library wants one.

FORBIDDEN = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.AsyncFor, ast.While, ast.Try,
    ast.Global, ast.Delete, ast.Assert, ast.Raise,
)  # fmt: skip
PATHS = re.compile(
    r"\b(os|pathlib|Path|glob|open|sys|shutil|subprocess)\b\s*[.(]|^\s*[%!]|import (os|sys|pathlib)", re.M
)


@every
def test_code_cells_are_thin(path):
    for cell in code_cells(path):
        text = source(cell)
        assert not PATHS.search(text), f"path juggling or magic: {text}"
        found = [type(node).__name__ for node in ast.walk(ast.parse(text)) if isinstance(node, FORBIDDEN)]
        assert not found, f"{found} in {text}"
        if cell not in tagged(path):
            lines = [line for line in text.splitlines() if line.strip()]
            assert 0 < len(lines) <= 8, text


@every
def test_no_two_code_cells_stand_before_the_reader_is_told_what_they_do(path):
    cells = load(path)["cells"]
    assert sum(cell["cell_type"] == "markdown" for cell in cells) >= 3
    assert source(cells[-1]).strip() and cells[-1]["cell_type"] == "markdown", (
        "the last word is the reader's, not code's"
    )


# run_ notebooks: a spec in, one record out.


@every_run
def test_parameters_are_few_fields_of_an_experiment_and_overrides(path):
    given = parameters(path)
    assert set(given) <= {*Experiment.model_fields, "run_dir", "overrides"} and "run_dir" in given
    lines = [line for line in source(tagged(path)[0]).splitlines() if line.strip()]
    assert len(lines) <= MOST_PARAMETERS
    for line in lines[:-1]:
        match = re.fullmatch(r"(\w+): (\w+) = ([^=#]+?)  # ([^=]+)", line)
        assert match, f"not `name: type = literal  # help`, or a second = sign: {line}"
        kind, value = TYPES[match[2]], ast.literal_eval(match[3])
        assert isinstance(value, kind), line
    last = re.fullmatch(r"overrides: dict = {}  # any other field of Experiment, e\.g\. (\{.+\})", lines[-1])
    (example,) = ast.literal_eval(last[1])
    assert example in Experiment.model_fields and example not in given
    assert Experiment.from_parameters(given).resolved()["notebook"] == path.stem, "by itself it runs what is its own"


@every_run
def test_papermill_sees_every_parameter_with_its_help(path):
    seen = papermill.inspect_notebook(str(path))
    assert set(seen) == set(parameters(path))
    assert all(one["help"] and one["inferred_type_name"] in TYPES for one in seen.values())


@every_run
def test_what_a_notebook_is_given_is_the_whole_experiment(path):
    """By name what its parameters cell has, in `overrides` what it has not; its own values play no part."""
    spec = Experiment(method="lora", seed=3, max_length=64, train_limit=40, label_words={"0": "no"}, stride=9)
    given = notebook_parameters(spec, path)
    assert set(given) == set(parameters(path)) - {"run_dir"}
    assert set(given["overrides"]) == {
        name for name in ("method", "seed", "max_length", "train_limit", "label_words", "stride") if name not in given
    }
    assert Experiment.from_parameters(given) == spec


def test_a_notebook_without_overrides_cannot_be_given_other_fields(tmp_path):
    book = load(RUN[0])
    cell = next(cell for cell in book["cells"] if "parameters" in cell["metadata"].get("tags", []))
    cell["source"] = [line for line in cell["source"] if not line.startswith("overrides")]
    path = tmp_path / "mine.ipynb"
    path.write_text(json.dumps(book), encoding="utf-8")
    assert "overrides" not in notebook_parameters(Experiment(), path)
    with pytest.raises(FtlibError, match="has no parameter epochs, which this run sets"):
        notebook_parameters(Experiment(method="lora", epochs=3.0), path)


def test_a_notebook_by_itself_uses_every_core_and_one_of_a_study_what_its_run_asks_for(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(surroundings, "cores", lambda root=None: 4)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 8 if logical else 4)
    given = parameters(ROOT / "notebooks" / "13_run_full.ipynb")
    assert Experiment.from_parameters(given).threads == 4
    assert Experiment.from_parameters(given | {"overrides": {"threads": 3}}).threads == 3
    counts = parameters(ROOT / "notebooks" / "10_run_zero_shot.ipynb") | {"method": "tfidf"}
    assert Experiment.from_parameters(counts).threads == 1, "there is no model"
    assert Experiment.from_parameters(given | {"run_dir": "reports/mine/runs/1"}).threads == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert Experiment.from_parameters(given).threads == 2


CELL = "method: str = 'lora'\nseed: int = 1\noverrides: dict = {}"


def test_overrides_win_and_an_unknown_name_in_them_is_an_error():
    spec = Experiment.from_parameters({"method": "lora", "seed": 1, "overrides": {"seed": 2, "epochs": 3}})
    assert spec == Experiment(method="lora", seed=2, epochs=3)
    with pytest.raises(FtlibError, match="unknown 'lerning_rate'; did you mean 'learning_rate'"):
        Experiment.from_parameters({"overrides": {"lerning_rate": 0.1}})
    with pytest.raises(FtlibError, match="overrides: found 3"):
        Experiment.from_parameters({"overrides": 3})


def test_a_persons_own_variables_are_no_misspelt_parameters():
    mine = {"tasks": ["a"], "seeds": 3, "models": "b", "evaluation": 1, "_seed": 4}
    cells = [CELL, "tasks = ['a']\nseeds: int = 3", "models = 'b'"]
    assert Experiment.from_parameters({"method": "lora", "In": cells, **mine}) == Experiment(method="lora")


@pytest.mark.parametrize(
    "cells",
    [["methd: str = 'lora'\n" + CELL], [CELL, "# Parameters\nmethd = 'full'"], ["\n" + CELL + "\nmethd: str = ''"]],
    ids=["in the cell", "injected", "last"],
)
def test_a_misspelt_parameter_is_an_error(cells):
    with pytest.raises(FtlibError, match="parameter 'methd' is not a field; did you mean 'method'"):
        Experiment.from_parameters({"method": "lora", "methd": "full", "In": cells})


def test_a_parameter_that_was_misspelt_and_put_right_is_no_error():
    cells = ["methd: str = 'full'\noverrides: dict = {}", "spec = ...", CELL]
    assert Experiment.from_parameters({"methd": "full", "method": "lora", "In": cells}).method == "lora"


def test_an_experiment_shows_first_what_differs_from_the_defaults():
    given = parameters(ROOT / "notebooks" / "12_run_adapter.ipynb") | {"learning_rate": 0.002}
    first, rest = Experiment.from_parameters(given)._repr_html_().split("<details>")
    changed, others = (re.findall(r"<tr><td[^>]*>(.*?)</td>", part) for part in (first, rest))
    assert {"method", "learning_rate"} <= set(changed) and not {"seed", "batch_size"} & set(changed)
    assert [*changed, *others].count("learning_rate") == 1 and len(changed) + len(others) == len(
        Experiment.model_fields
    )
    kinds = re.findall(r'<td style="text-align:left">(method|default)</td>', rest)
    assert kinds == sorted(kinds, reverse=True) and kinds[0] == "method", "what the method decides stands first"


@every_run
def test_a_run_notebook_names_its_methods(path):
    text = source(tagged(path)[0])
    told = re.search(r"^method: .*# one of: (.*)$", text, re.M)[1].split(", ")
    own = [method.name for method in METHODS.values() if method.notebook == path.stem]
    if path.stem == SEQUENCE:
        own = [method.name for method in METHODS.values() if method.trains and method.continues]
    assert told == (own or [parameters(path)["method"]]), "a lesson on another notebook's method names that one"


@every_run
def test_a_run_notebook_ends_with_its_record_then_cautions_and_exercises(path):
    last_code = source(code_cells(path)[-1])
    assert last_code.startswith("record = ft.save(") and "ft.save(" not in "".join(
        source(cell) for cell in code_cells(path)[:-1]
    )
    last = source(load(path)["cells"][-1])
    assert "What to be careful about" in last and re.search(r"## Exercises\n\n1\. ", last)


# read_ notebooks: records in, no model.


@pytest.mark.parametrize("path", [path for path in READ if "_read_" in path.stem], ids=name)
def test_a_read_notebook_takes_a_study_or_numbers_and_no_model(path):
    assert not {"model", "method"} & set(parameters(path))
    text = "\n".join(source(cell) for cell in code_cells(path))
    assert not re.search(r"torch|transformers|load_model|open_model|ft\.run\(|ft\.save\(", text)


# Every notebook, executed.


def errors(path) -> list[str]:
    found = []
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            if output["output_type"] == "error":
                found.append(f"{output['ename']}: {output['evalue']}")
            if output["output_type"] == "stream" and output["name"] == "stderr":
                found.append(output["text"])
    return found


def run_of(study, method):
    """The one run of a method: its folder and its record."""
    found = [(path, rec) for path, rec in records.records_of(study) if rec.spec["resolved"]["method"] == method]
    assert len(found) == 1
    return found[0]


def test_the_study_of_every_method_ran(toy_study):
    assert toy_study.code == 0, toy_study.said
    done = {record.spec["resolved"]["method"]: record.status for _, record in records.records_of(toy_study.study)}
    assert done == dict.fromkeys(STUDIED, "ok"), toy_study.said


@pytest.mark.parametrize("method", FAMILIES)
def test_a_notebooks_record_equals_the_librarys(method, toy_study, at_home, tmp_path, monkeypatch):
    """The same numbers to the last bit, computed anew here, without what the notebook left in the cache."""
    run_dir, record = run_of(toy_study.study, method)
    monkeypatch.setenv("FTLIB_CACHE", str(tmp_path / "cache"))
    spec = Experiment(**record.spec["passed"])
    assert spec.run_id == record.run_id == run_dir.name
    with threadpoolctl.threadpool_limits(spec.threads):
        again = ftlib.run(spec, tmp_path / record.run_id)
    assert again.metrics == record.metrics
    assert again.spec == record.spec and set(again.cost) == set(record.cost)
    mine, its = records.read_predictions(tmp_path / record.run_id), records.read_predictions(run_dir)
    assert mine.equals(its)
    differ = {key for key in record.provenance if record.provenance[key] != again.provenance.get(key)}
    # A study audits its data before it runs; a run outside a study has no audit.
    assert differ <= {"notebook_sha256", "git", "data_findings"}, (
        "another run of the same spec comes from the same things"
    )


@pytest.mark.parametrize("method", STUDIED)
def test_an_executed_notebook_is_kept_without_errors(method, toy_study, at_home):
    run_dir, record = run_of(toy_study.study, method)
    assert errors(run_dir / "notebook.ipynb") == []
    book = nbformat.read(run_dir / "notebook.ipynb", as_version=4)
    injected = next(cell for cell in book.cells if "injected-parameters" in cell.metadata.get("tags", []))
    values = {line.targets[0].id: ast.literal_eval(line.value) for line in ast.parse(injected.source).body}
    assert Path(values.pop("run_dir")).parts[-4:] == run_dir.parts[-4:]
    spec = Experiment(**record.spec["passed"])
    assert values == notebook_parameters(spec, ROOT / "notebooks" / f"{METHODS[method].notebook}.ipynb")
    assert Experiment.from_parameters(values).run_id == record.run_id


def test_the_runs_were_given_other_values_than_the_notebooks_hold(toy_study):
    """Otherwise a notebook that ignores a parameter would not be found out."""
    for method in STUDIED:
        _, record = run_of(toy_study.study, method)
        own = parameters(ROOT / "notebooks" / f"{METHODS[method].notebook}.ipynb")
        trained = ("seed", "epochs", "learning_rate") if METHODS[method].trains else ()
        for field in {"task", "eval_limit", *trained} & set(own):
            assert record.spec["passed"][field] != own[field], f"{method}: {field}"


SMALL = {"task": "file:opinions", "model": "tiny", "label_words": toy.LABEL_WORDS, "train_limit": 20, "epochs": 1.0}
LESSONS = {
    "31_run_perplexity": {"task": "file:notes.txt", "model": "writer"},
    "40_run_sequence": SMALL | {"sequential_tasks": ["file:topics"], "method": "lora", "interpolation": [0.5]},
    "41_run_domain": SMALL | {"sequential_tasks": ["file:notes.txt"], "model": "writer", "evaluations": []},
    "51_run_misuse": {
        "task": "file:notes.txt",
        "model": "writer",
        "train_limit": 20,
        "canaries": [0, 4],
        "epochs": 1.0,
    },
    "42_run_multitask": SMALL | {"joint_tasks": ["file:topics"]},
    "44_run_translation": {
        "task": "file:pairs",
        "model": "translator",
        "train_limit": 20,
        "epochs": 1.0,
        "max_new_tokens": 8,
    },
}
"""What each lesson whose method is another notebook's own is given here."""


def test_every_lesson_is_executed():
    assert set(LESSONS) == {path.stem for path in RUN} - {METHODS[method].notebook for method in STUDIED}


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_lesson_that_runs_a_method_leaves_its_record(lesson, at_home, tmp_path):
    """What its parameters cell does not have goes through `overrides`, as a person would write it."""
    path = ROOT / "notebooks" / f"{lesson}.ipynb"
    asked = LESSONS[lesson] | {"eval_limit": 3}
    own = {name: value for name, value in asked.items() if name in parameters(path)}
    others = {name: value for name, value in asked.items() if name not in own}
    notebook_exec.execute(path, tmp_path / path.name, own | {"overrides": others, "run_dir": str(tmp_path / "run")})
    assert errors(tmp_path / path.name) == []
    record = records.read_record(tmp_path / "run")
    assert others.items() <= record.spec["passed"].items()
    if lesson == SEQUENCE:
        assert ftlib.run(Experiment(**record.spec["passed"])).metrics == record.metrics


@pytest.mark.parametrize("path", READ, ids=name)
def test_every_other_notebook_is_executed(path, toy_study, at_home, tmp_path):
    """Those that read get the toy study; one that runs something by itself gets a folder of its own to do it in."""
    study, task = "reports/curves" if "_read_" in path.stem else str(tmp_path / "study"), "file:opinions"
    own = ROOT / str(parameters(path).get("study", "")) if tagged(path) else ROOT
    # Where it reads speeds, too, it needs the toy models; the others read what a fresh clone has.
    if "recorded" in own.parts and "base_model" not in own.parts:
        study, task = str(shutil.copytree(own, tmp_path / "recorded")), ""
    offered = {"study": study, "task": task, "model": "tiny", "eval_limit": 20, "shots": 8}
    takes = papermill.inspect_notebook(str(path)) if tagged(path) else {}
    notebook_exec.execute(path, tmp_path / path.name, {key: value for key, value in offered.items() if key in takes})
    assert errors(tmp_path / path.name) == []
    assert any(cell.get("outputs") for cell in nbformat.read(tmp_path / path.name, as_version=4).cells)


def test_the_notebook_on_adapters_by_itself_trains_both_and_compares_them(at_home, tmp_path):
    """As a person runs it: no study, so it looks inside, trains the rival, too, and ends with an answer."""
    path = ROOT / "notebooks" / "12_run_adapter.ipynb"
    given = {"task": "file:opinions", "model": "tiny", "train_limit": 20, "eval_limit": 20, "epochs": 1.0}
    others = {"overrides": {"label_words": toy.LABEL_WORDS}}
    notebook_exec.execute(path, tmp_path / path.name, given | others)
    assert errors(tmp_path / path.name) == []
    last = [cell for cell in nbformat.read(tmp_path / path.name, as_version=4).cells if cell.cell_type == "code"][-1]
    shown = "".join(one.get("data", {}).get("text/html", "") for one in last.outputs)
    assert "lora against full" in shown or "than full" in shown or "lora and full" in shown
    assert "<svg" in shown, "an answer has a picture"


RECORDED = sorted((ROOT / "reports" / "recorded").glob("*/suite.toml"))


@pytest.mark.parametrize("suite", RECORDED, ids=lambda path: path.parent.name)
def test_a_recorded_study_is_whole(suite):
    found = ftlib.read_study(suite.parent)
    assert not found.missing and not found.exploratory and not found.notes and all(run.ok for run in found.runs)


def test_recorded_studies_are_small_and_hold_no_weights():
    listed = subprocess.run(
        ["git", "ls-files", "reports/recorded"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert sum((ROOT / name).stat().st_size for name in listed) < 3_000_000
    kept = {Path(name).name for name in listed if "/runs/" in name}
    assert kept <= {"record.json", "predictions.parquet", "events.jsonl"}


def test_a_kernel_that_jupyter_starts_among_the_notebooks_works_from_the_repository(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT / "notebooks")
    notebook_exec.at_root()
    assert Path.cwd() == ROOT
    monkeypatch.chdir(tmp_path)
    notebook_exec.at_root()
    assert Path.cwd() == tmp_path
