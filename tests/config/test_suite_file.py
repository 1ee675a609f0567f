"""A suite file becomes experiments, a plan that has a hash, and jobs that know whether they are done."""

import itertools
import json
import os
import subprocess
import sys
import types

import pytest
import toy

from ftlib import records
from ftlib.config.constraints import WRITING
from ftlib.config.experiment import Experiment, Plan
from ftlib.config.methods import METHODS
from ftlib.config.suite_file import load_suite
from ftlib.core import surroundings
from ftlib.core.errors import FtlibError
from ftlib.execution import notebook_exec, scheduler
from ftlib.execution.engines import base

HEAD = '[study]\nquestion = "Which?"\n[plan]\nseeds = [0, 1, 2]\n'


def write(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "suite.toml").write_text(text, encoding="utf-8")
    return folder


def read(tmp_path, runs, head=HEAD, **overrides):
    return load_suite(write(tmp_path / "study", head + runs), overrides)


def asked(found):
    """The experiments without the baselines that were added, as (method, shots, learning_rate, seed)."""
    added = {one.method for one in found.added}
    return [(s.method, s.shots, s.learning_rate, s.seed) for s in found.experiments if s.method not in added]


# The grid.


def test_lists_expand_into_every_combination_and_every_seed(tmp_path):
    found = read(tmp_path, '[[runs]]\nmethod = ["lora", "full"]\nlearning_rate = [0.1, 0.2]\n')
    combinations = [
        (m, 0, r, s) for (m, r), s in itertools.product([*itertools.product(["lora", "full"], [0.1, 0.2])], range(3))
    ]
    assert asked(found) == combinations


def test_a_list_in_defaults_is_a_grid_over_every_run(tmp_path):
    found = read(tmp_path, '[defaults]\nshots = [2, 4]\n[[runs]]\nmethod = "probe"\n[[runs]]\nmethod = "lora"\n')
    assert {(m, k) for m, k, _, _ in asked(found)} == {("probe", 2), ("probe", 4), ("lora", 2), ("lora", 4)}


def test_a_run_says_otherwise_than_the_defaults_and_set_says_otherwise_than_both(tmp_path):
    runs = '[defaults]\nshots = 4\nmax_length = 64\n[[runs]]\nmethod = "probe"\nshots = 2\n'
    assert {(s.shots, s.max_length) for s in read(tmp_path, runs).experiments if s.method == "probe"} == {(2, 64)}
    assert {s.shots for s in read(tmp_path, runs, shots=8).experiments if s.method == "probe"} == {8}


def test_fields_that_are_lists_themselves_are_one_value(tmp_path):
    found = read(tmp_path, '[defaults]\ngroup_columns = ["author", "region"]\n[[runs]]\nmethod = "tfidf"\n')
    assert {tuple(s.group_columns) for s in found.experiments} == {("author", "region")}


def test_the_same_experiment_asked_twice_runs_once(tmp_path):
    found = read(tmp_path, '[[runs]]\nmethod = "lora"\n[[runs]]\nmethod = "lora"\nlearning_rate = 0.001\n')
    assert len(asked(found)) == 3


@pytest.mark.parametrize(
    ("run", "times"),
    [
        ('method = "zero_shot"', 1),
        ('method = "majority"', 1),
        ('method = "tfidf"', 1),
        ('method = "tfidf"\ntrain_limit = 20', 3),
        ('method = "probe"', 1),
        ('method = "probe"\nshots = 2', 3),
        ('method = "lora"', 3),
        ('method = "full"', 3),
    ],
)
def test_only_what_draws_runs_once_per_seed(tmp_path, run, times):
    method = run.split('"')[1]
    assert sum(s.method == method for s in read(tmp_path, f"[[runs]]\n{run}\n").experiments) == times


# Baselines.


def test_the_majority_class_and_tfidf_are_added_for_every_task_that_lacks_them(tmp_path):
    toy.write_task(tmp_path / "opinions")
    one, two = f"file:{tmp_path}/opinions", "pydocs"
    found = read(tmp_path, f'[[runs]]\nmethod = "tfidf"\ntask = "{one}"\n[[runs]]\nmethod = "lora"\ntask = "{two}"\n')
    assert set(found.added) == {(one, "majority"), (two, "majority"), (two, "tfidf")}
    assert {(s.task, s.method) for s in found.experiments} == {*found.added, (one, "tfidf"), (two, "lora")}


def test_an_added_baseline_reads_the_task_as_the_runs_do(tmp_path):
    words = 'label_words = {a = "x", b = "y"}\neval_limit = 30\ntext_column = "body"\n'
    found = read(tmp_path, f'[defaults]\n{words}train_limit = 50\nmax_length = 64\n[[runs]]\nmethod = "lora"\n')
    tfidf = [s for s in found.experiments if s.method == "tfidf"]
    assert [s.seed for s in tfidf] == [0, 1, 2], "it draws train_limit examples, so it runs once per seed"
    assert {(s.eval_limit, s.train_limit, s.text_column) for s in tfidf} == {(30, 50, "body")}
    assert tfidf[0].label_words == {"a": "x", "b": "y"}


def test_nothing_is_added_where_both_are_there(tmp_path):
    found = read(tmp_path, '[[runs]]\nmethod = ["majority", "tfidf", "zero_shot"]\n')
    assert found.added == () and len(found.experiments) == 3


# The plan.


def test_a_study_that_compares_needs_a_plan(tmp_path):
    head = '[study]\nquestion = "Which?"\n'
    with pytest.raises(FtlibError, match=r"\[plan\]: missing"):
        read(tmp_path, '[[runs]]\nmethod = ["lora", "full"]\n', head)
    assert read(tmp_path, '[[runs]]\nmethod = "lora"\n', head).plan == Plan()


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ("margin = 0", "margin"),
        ("margin = inf", "margin: found inf"),
        ("margin = 2", "margin: found 2; accuracy is from 0 to 1: two points are 0.02"),
        ('primary = "mcc"\nmargin = 3', "margin: found 3; mcc is from -1 to 1"),
        ("target = 70", "target: found 70; accuracy is from 0 to 1"),
        ('[plan.tasks.pydocs]\nprimary = "accuracy"\nmargin = 1.0', "margin: found 1; accuracy is from 0 to 1"),
        ("margin = nan", "margin: found nan"),
        ("seeds = [0, -1]", "found -1"),
        ("seeds = [0, 4294967296]", "found 4294967296"),
        ("seeds = [0.5]", "found 0.5"),
        ('evaluations = ["generall"]', "did you mean 'general'"),
        ("tuning = {lr = 3}", "learning_rate"),
        ("tuning = {learning_rate = 99}", "1 to 9"),
        ("seeds = []", "seeds"),
        ("seeds = [1, 1]", "each seed once"),
        ('primary = "acuracy"', "did you mean 'accuracy'"),
        ("margn = 0.1", "did you mean 'margin'"),
        ("seed = [0]", "did you mean 'seeds'"),
    ],
)
def test_a_plan_that_cannot_stand_is_refused(tmp_path, plan, said):
    with pytest.raises(FtlibError) as caught:
        read(tmp_path, '[[runs]]\nmethod = "lora"\n', f'[study]\nquestion = "Which?"\n[plan]\n{plan}\n')
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["seed = 3", 'evaluations = ["general"]', "tuning = {learning_rate = 3}"])
def test_what_the_plan_settles_cannot_be_set_for_one_method(tmp_path, field):
    with pytest.raises(FtlibError, match=r"belongs to \[plan\]"):
        read(tmp_path, f'[[runs]]\nmethod = "lora"\n{field}\n')


def test_the_tuning_budget_goes_to_what_trains_and_to_nothing_else(tmp_path):
    found = read(tmp_path, '[[runs]]\nmethod = ["lora", "probe"]\n', HEAD + "tuning = {learning_rate = 3}\n")
    assert {s.method: s.tuning for s in found.experiments} == {
        "lora": {"learning_rate": 3}, "probe": {}, "majority": {}, "tfidf": {},
    }  # fmt: skip


def test_the_hash_of_the_plan_changes_with_the_plan_and_with_nothing_else(tmp_path):
    def hashed(plan="seeds = [0, 1, 2]\nmargin = 0.01", question="Which?", runs='[[runs]]\nmethod = "lora"\n'):
        return read(tmp_path, runs, f'[study]\nquestion = "{question}"\n[plan]\n{plan}\n').plan_hash

    same = hashed()
    assert same == hashed("margin = 0.01\nseeds = [0, 1, 2]") == hashed(runs='[[runs]]\nmethod = "full"\n')
    assert same == hashed('seeds = [0, 1, 2]\nprimary = "accuracy"'), "a default that is written out is no change"
    others = [
        hashed("seeds = [0, 1]\nmargin = 0.01"),
        hashed("seeds = [0, 1, 2]\nmargin = 0.02"),
        hashed('seeds = [0, 1, 2]\nmargin = 0.01\nprimary = "mcc"'),
        hashed("seeds = [0, 1, 2]\nmargin = 0.01\ntuning = {learning_rate = 3}"),
        hashed('seeds = [0, 1, 2]\nmargin = 0.01\nprobes = ["general"]'),
        hashed(question="Whether?"),
    ]
    assert len({same, *others}) == 7


# Who a run is.

KNOWN = {"task": "pydocs", "model": "minilm", "method": "lora", "seed": 1}
OTHER = {
    "task": "hub:owner/data",
    "model": "owner/model",
    "method": "full",
    "method_args": {"r": 16},
    "seed": 2,
    "shots": 4,
    "short_classes": "all",
    "train_limit": 100,
    "eval_limit": 100,
    "epochs": 3.0,
    "min_steps": 50,
    "head_init": "linear_probe",
    "validations": 3,
    "patience": 2,
    "gradient_accumulation": 2,
    "gradient_checkpointing": True,
    "processes": 2,
    "learning_rate": 0.01,
    "batch_size": 8,
    "max_length": 64,
    "instruction": "translate: {text}",
    "source_language": "en_XX",
    "target_language": "de_DE",
    "num_beams": 4,
    "length_penalty": 0.5,
    "max_new_tokens": 64,
    "label_smoothing": 0.1,
    "context": 256,
    "stride": 64,
    "evaluations": ["general"],
    "text_column": "body",
    "label_column": "topic",
    "label_words": {"a": "b"},
    "group_columns": ["author"],
    "quoting": "none",
    "quantise": "int8",
    "tuning": {"learning_rate": 3},
    "sequential_tasks": ["bios"],
    "joint_tasks": ["reviews"],
    "replay": 0.5,
    "l2_sp": 0.1,
    "ewc": 10.0,
    "other_task_limit": 50,
    "sampling": "equal",
    "ewc_samples": 16,
    "interpolation": [0.5],
    "canaries": [0, 4],
    "mitigation": "balance",
    "mitigation_column": "author",
    "device": "cpu",
    "dtype": "float32",
    "threads": 2,
    "notebook": "13_run_full",
}
WRITES = {"task": "hub:owner/data:en>de", "model": "owner/model"}
NEEDED = {
    **dict.fromkeys(WRITING, WRITES),
    "length_penalty": WRITES | {"num_beams": 2},
    "canaries": {"task": "pydocs_text", "model": "tiny-lm"},
    "mitigation_column": {"mitigation": "balance"},
    "replay": {"sequential_tasks": ["bios"]},
    "ewc": {"sequential_tasks": ["bios"]},
} | dict.fromkeys(
    ("other_task_limit", "sampling", "ewc_samples"),
    {"sequential_tasks": ["bios"], "joint_tasks": ["reviews"], "ewc": 1.0},
)
"""What else a field asks for."""


def test_the_run_id_is_the_same_today_tomorrow_and_elsewhere():
    """If this fails, every record there is will be made again. Was that meant? Then change this."""
    assert Experiment(**KNOWN).run_id == "09a68e0cb63d9da1"


def test_every_field_is_part_of_the_run_id_but_whether_the_model_is_kept():
    assert {*OTHER, "save"} == set(Experiment.model_fields)
    assert Experiment(**KNOWN, save=True).run_id == Experiment(**KNOWN).run_id
    ids = {name: Experiment(**KNOWN | NEEDED.get(name, {}) | {name: value}).run_id for name, value in OTHER.items()}
    assert len(set(ids.values())) == len(OTHER)
    assert all(ids[name] != Experiment(**KNOWN | NEEDED.get(name, {})).run_id for name in OTHER)


def test_a_default_written_out_is_the_same_run():
    assert Experiment(**KNOWN, learning_rate=0.001, method_args={"r": 8}).run_id == Experiment(**KNOWN).run_id


def test_the_model_is_no_part_of_a_run_that_uses_none():
    assert Experiment(method="majority", model="owner/a").run_id == Experiment(method="majority").run_id


def test_passed_is_what_was_given_and_resolved_is_everything():
    spec = Experiment(method="lora", method_args={"r": 4}, epochs=3)
    assert spec.passed() == {"method": "lora", "method_args": {"r": 4}, "epochs": 3.0}
    full = spec.resolved()
    assert set(full) == set(Experiment.model_fields)
    assert full["method_args"] == {"r": 4, "lora_alpha": 16, "lora_dropout": 0.0}
    assert (full["learning_rate"], full["batch_size"], full["notebook"]) == (0.001, 16, "12_run_adapter")
    assert json.loads(json.dumps(full)) == full
    assert Experiment(**spec.passed()) == spec and Experiment(**spec.passed()).run_id == spec.run_id


# Jobs.

TWO = '[[runs]]\nmethod = ["majority", "tfidf"]\n'


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """A study of the two baselines on the toy task, planned; nothing has run."""
    monkeypatch.chdir(tmp_path)
    toy.write_task(tmp_path / "opinions")
    write(tmp_path / "study", HEAD + '[defaults]\ntask = "file:opinions"\n' + TWO)
    return scheduler.plan("study")


def pretend(planned, job, status="ok"):
    """Leave the record that running the job would leave, with predictions of no substance."""
    import pandas as pd

    record = records.RunRecord(
        run_id=job.spec.run_id,
        status=status,
        spec={"passed": job.spec.passed(), "resolved": job.spec.resolved()},
        reason=None if status == "ok" else "it was made up",
        provenance={"data_sha256": planned.task_of(job.spec).sha256},
    )
    records.write(job.run_dir, record, pd.DataFrame({"id": ["1"]}))


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ('notebook = "20_read_comparison"', "20_read_comparison runs no experiment: it has no parameter run_dir"),
        ('device = "mps"', "device: 'mps' is not there; this machine has"),
    ],
)
def test_what_could_not_run_here_is_refused_by_the_plan(tmp_path, monkeypatch, field, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    toy.write_task(tmp_path / "opinions")
    write(tmp_path / "study", HEAD + f'[defaults]\ntask = "file:opinions"\n{field}\n[[runs]]\nmethod = "zero_shot"\n')
    with pytest.raises(FtlibError, match=said):
        scheduler.plan("study")


def test_planning_writes_nothing(planned):
    assert [job.done for job in planned.jobs] == [False, False]
    assert [path.name for path in planned.suite.folder.iterdir()] == ["suite.toml"]


def test_a_job_is_done_when_its_record_is_whole_and_ok(planned):
    pretend(planned, planned.jobs[0])
    pretend(planned, planned.jobs[1], status="failed")
    assert [job.done for job in scheduler.plan("study").jobs] == [True, False]
    (planned.jobs[0].run_dir / "predictions.parquet").unlink()
    assert [job.done for job in scheduler.plan("study").jobs] == [False, False]


def test_a_record_of_other_data_is_not_done(planned, tmp_path):
    for job in planned.jobs:
        pretend(planned, job)
    rows = toy.opinions()
    toy.write_rows(tmp_path / "opinions" / "test.csv", rows[100:])
    assert [job.done for job in scheduler.plan("study").jobs] == [False, False]


def test_an_earlier_attempt_is_kept_aside_each_time(planned):
    job = planned.jobs[0]
    for attempt in (1, 2):
        pretend(planned, job, status="failed")
        written = (job.run_dir / "record.json").read_bytes()
        (job.run_dir / "events.jsonl").write_text('{"event": "old"}\n')
        scheduler.prepare_folder(job, planned)
        kept = planned.suite.folder / "superseded" / job.spec.run_id
        assert (kept / f"{attempt}.record.json").read_bytes() == written
        assert (kept / f"{attempt}.events.jsonl").exists()
        assert sorted(path.name for path in job.run_dir.iterdir()) == ["spec.json"]


def test_a_folder_left_by_a_killed_run_starts_clean(planned):
    job = planned.jobs[0]
    job.run_dir.mkdir(parents=True)
    for name in ("events.jsonl", "predictions.parquet", "notebook.ipynb"):
        (job.run_dir / name).write_text("half")
    scheduler.prepare_folder(job, planned)
    assert sorted(path.name for path in job.run_dir.iterdir()) == ["spec.json"]


def test_a_request_says_who_it_is(planned):
    job = planned.jobs[1]
    scheduler.prepare_folder(job, planned)
    given = json.loads((job.run_dir / "spec.json").read_text())
    assert given["run_id"] == job.run_dir.name == Experiment(**given["passed"]).run_id
    assert given["resolved"] == job.spec.resolved() and given["plan_hash"] == planned.suite.plan_hash
    assert len(given["notebook_sha256"]) == 64


def test_what_was_recorded_while_we_waited_is_not_done_again(planned, monkeypatch):
    """Another execution may finish a run between our plan and our turn."""
    pretend(planned, planned.jobs[0])
    started = []
    monkeypatch.setattr(base, "execute", lambda run_dirs, *more: started.extend(run_dirs))
    scheduler.execute(planned, 1, lambda states: None, base.Process)
    assert started == [planned.jobs[1].run_dir]
    assert (planned.jobs[0].run_dir / "record.json").exists()


def test_cheap_runs_start_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    toy.write_task(tmp_path / "opinions")
    write(
        tmp_path / "study",
        HEAD + '[defaults]\ntask = "file:opinions"\n[[runs]]\nmethod = ["lora", "majority", "tfidf"]\n',
    )
    planned, order = scheduler.plan("study"), []
    by_folder = {job.run_dir: job.spec.method for job in planned.jobs}
    monkeypatch.setattr(base, "execute", lambda run_dirs, *more: order.extend(by_folder[d] for d in run_dirs))
    scheduler.execute(planned, 1, lambda states: None, base.Process)
    assert order == ["majority", "tfidf", "lora", "lora", "lora"]


# The lock.


def test_a_study_that_is_running_is_refused_and_free_afterwards(tmp_path):
    code = (
        f"import time; from ftlib.execution import scheduler; from pathlib import Path\n"
        f"with scheduler.one_at_a_time(Path({str(tmp_path)!r})): print('in', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "in\n"
        with (
            pytest.raises(FtlibError, match="another ftlib is running this study"),
            scheduler.one_at_a_time(tmp_path),
        ):
            pytest.fail("both are in")
    finally:
        other.kill()
        other.communicate()
    # It was killed with the lock in hand; what it left on the disk holds nobody.
    with scheduler.one_at_a_time(tmp_path):
        assert (tmp_path / ".lock").exists()


@pytest.mark.parametrize("left", ["", "{", "null", '{"pid": 999999999, "started": 1}'])
def test_whatever_a_lock_file_holds_only_a_live_process_locks(tmp_path, left):
    (tmp_path / ".lock").write_text(left)
    with scheduler.one_at_a_time(tmp_path):
        pass


def test_runs_at_a_time_are_cores_over_threads(planned, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    # No container, and no scheduler, that allows fewer.
    monkeypatch.setattr(surroundings, "ROOT", tmp_path)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    assert scheduler.default_jobs(planned) == 8
    many = [job._replace(spec=job.spec.model_copy(update={"threads": 3})) for job in planned.jobs]
    assert scheduler.default_jobs(planned._replace(jobs=tuple(many))) == 2
    many = [job._replace(spec=job.spec.model_copy(update={"threads": 64})) for job in planned.jobs]
    assert scheduler.default_jobs(planned._replace(jobs=tuple(many))) == 1


def test_threads_are_as_many_as_end_the_study_first(tmp_path, monkeypatch):
    """Few long runs share the cores; a person's number stands, and so does what was begun."""
    monkeypatch.setattr(scheduler.surroundings, "cores", lambda: 4)
    monkeypatch.setattr(scheduler.shutil, "which", lambda name: None)
    monkeypatch.setattr(scheduler.estimate, "at_a_glance", lambda spec, task: seconds)

    def threads(**more):
        specs = tuple(Experiment(method="full", seed=seed, **more) for seed in range(runs))
        suite = types.SimpleNamespace(experiments=specs, folder=tmp_path)
        return scheduler.chosen_threads(suite, {scheduler._data_key(specs[0]): None}), specs

    seconds, runs = 300.0, 2
    (found, said), specs = threads()
    assert found == 2 and "threads 2 for each run, chosen for 4 cores" in said and "--set threads=1" in said
    assert threads(threads=1)[0] == threads(processes=2)[0] == threads(device="cuda")[0] == (1, "")
    runs = 5
    assert threads()[0] == (1, "")
    seconds, runs = 30.0, 1
    assert threads()[0] == (1, "")
    # Three threads were begun with, when it had fewer runs.
    seconds, runs = 300.0, 2
    (tmp_path / "runs" / Experiment(method="full", seed=0, threads=3).run_id).mkdir(parents=True)
    assert threads()[0][0] == 3
    (tmp_path / "runs" / specs[1].run_id).mkdir()
    assert threads()[0] == (1, "")


def test_every_method_has_a_notebook_that_exists():
    for method in METHODS.values():
        assert notebook_exec.find(method.notebook).exists()


def test_the_shots_of_a_run_replace_the_train_limit_of_the_defaults(tmp_path):
    head = '[study]\nquestion = "?"\n[plan]\nseeds = [0]\n[defaults]\ntrain_limit = 2000\n'
    file = tmp_path / "suite.toml"
    file.write_text(head + '[[runs]]\nmethod = "full"\n[[runs]]\nmethod = "probe"\nshots = [8, 64]\n')
    found = {(s.method, s.shots, s.train_limit) for s in load_suite(file).experiments}
    assert {("full", 0, 2000), ("probe", 8, 0), ("probe", 64, 0)} <= found
    file.write_text(head + '[[runs]]\nmethod = "probe"\nshots = 8\ntrain_limit = 9\n')
    with pytest.raises(FtlibError, match="both given"):
        load_suite(file)


def test_tokens_that_a_model_does_not_know_are_in_the_record_and_so_in_the_report(tmp_path):
    rows = [(f"{'อร่อยมาก' if n % 2 else 'แย่มาก'}ร้านนี้{n}", "ab"[n % 2]) for n in range(120)]
    toy.write_rows(tmp_path / "thai.csv", rows)
    runs = '[[runs]]\nmethod = ["tfidf", "probe"]\n'
    study = write(tmp_path / "study", HEAD + f'[defaults]\ntask = "file:{tmp_path}/thai.csv"\nmodel = "minilm"\n{runs}')
    found = scheduler.plan(study)
    for job in found.jobs:
        scheduler.prepare_folder(job, found)
        told = json.loads((job.run_dir / "spec.json").read_text())["data_findings"]
        said = [one for one in told if one["code"] == "unknown_tokens"]
        assert bool(said) == (job.spec.method == "probe")
        assert all("minilm does not know" in one["text"] and one["level"] == "problem" for one in said)


def test_seeds_set_on_the_command_line_are_the_studys(tmp_path):
    (tmp_path / "suite.toml").write_text(f'{HEAD}[[runs]]\nmethod = "lora"\n', encoding="utf-8")
    whole = load_suite(tmp_path)
    for asked in ("0,2", [0, 2]):
        part = load_suite(tmp_path, {"seeds": asked})
        assert {spec.seed for spec in part.experiments if spec.method == "lora"} == {0, 2}
        assert part.plan_hash == whole.plan_hash, "a part of what the plan asks for"
    other = load_suite(tmp_path, {"seeds": 7})
    assert other.plan.seeds == [7] and other.plan_hash != whole.plan_hash
    for wrong in ("a", [0, 0], -1, []):
        with pytest.raises(FtlibError, match="--set seeds"):
            load_suite(tmp_path, {"seeds": wrong})


def test_costs_of_errors_are_no_part_of_the_plan_and_have_to_be_two_above_0(tmp_path):
    runs = '[[runs]]\nmethod = "lora"\n'
    head = HEAD.replace("[plan]", "error_costs = {false_alarm = 1, miss = 10}\n[plan]")
    assert read(tmp_path, runs, head).plan_hash == read(tmp_path, runs, HEAD).plan_hash
    for wrong in ("10", "{miss = 1}", "{false_alarm = 0, miss = 1}", '{false_alarm = 1, miss = "a lot"}'):
        with pytest.raises(FtlibError, match=r"\[study\] error_costs"):
            read(tmp_path, runs, HEAD.replace("[plan]", f"error_costs = {wrong}\n[plan]"))
