"""What runs will need: counted from files, told from a trial, compared with what they needed."""

import json
import os
import sys
import time

import numpy as np
import pandas as pd
import psutil
import pytest
import toy
from threadpoolctl import threadpool_info

from ftlib import cli, records
from ftlib.config.experiment import Experiment
from ftlib.core import atomic
from ftlib.execution import progress, scheduler
from ftlib.execution.engines.base import State
from ftlib.execution.planning import dry_run, estimate
from ftlib.execution.planning.memory_model import distinct_costs, footprint, longest_text, shape_of
from ftlib.records import RunRecord
from ftlib.report.sections import costs
from ftlib.training import trainer

HEAD = '[study]\nquestion = "Which?"\n[plan]\nseeds = [0, 1]\n[defaults]\ntask = "file:opinions"\nmodel = "tiny"\n'
HEAD += 'eval_limit = 20\nmax_length = 24\nlabel_words = {bad = "negative, sad", good = "positive, a joy"}\n'
ANSWER = {
    "open_seconds": 0.5, "before_seconds": 0.5, "start_seconds": 2.0, "import_seconds": 4.0, "kernel_bytes": 0,
    "eval_seconds": 3.0, "validation_seconds": 2.0, "general_seconds": 0.0, "checkpoint_bytes": 1000,
    "model_bytes": 10**8, "device_memory_bytes": None,
}  # fmt: skip
VARIANT = {
    "train_seconds": 9.0, "peak_memory_bytes": 10**9, "peak_device_memory_bytes": None,
}  # fmt: skip


@pytest.fixture
def study(at_home, request):
    """A study of two methods in a folder of its own, nothing of it run."""
    folder = at_home / "reports" / request.node.name[:30]
    folder.mkdir()
    (folder / "suite.toml").write_text(HEAD + '[[runs]]\nmethod = ["lora", "full"]\n', encoding="utf-8")
    return folder


@pytest.fixture
def no_trials(monkeypatch):
    """A trial that is started fails the test."""
    monkeypatch.setattr(estimate, "answers", lambda *arguments: pytest.fail("a trial was started"))


def memory(monkeypatch, available, total=None):
    """A machine with so much memory."""
    found = psutil.virtual_memory()._replace(available=available, total=total or available)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: found)
    monkeypatch.setattr(estimate, "machine_memory", lambda: (found.total, "this machine's memory"))


def answered(monkeypatch, **changed):
    """Trials that find what is said here, at once."""
    variant = VARIANT | {name: changed.pop(name) for name in list(changed) if name in VARIANT}

    def answers(trials, at_once, show):
        return [ANSWER | changed | {"variants": [variant] * len(trial.variants)} for trial in trials]

    monkeypatch.setattr(estimate, "answers", answers)


# From files alone.


def test_a_model_is_counted_from_its_files_as_torch_counts_it(toy_home):
    import transformers

    for name, loader in (("tiny", transformers.AutoModel), ("writer", transformers.AutoModelForCausalLM)):
        module = loader.from_pretrained(toy_home / name)
        shape = shape_of(toy_home / name)
        assert shape.parameters == sum(parameter.numel() for parameter in module.parameters())
        config = module.config
        assert (shape.layers, shape.hidden, shape.inner) == (2, 32, 64) == (
            config.num_hidden_layers, config.hidden_size, config.intermediate_size
        )  # fmt: skip


def test_the_adapters_that_are_counted_are_those_that_peft_makes(toy_home):
    from ftlib.config.methods import METHODS
    from ftlib.data.registry import load_task
    from ftlib.execution.planning.memory_model import moved
    from ftlib.models.loading import load_model

    task, spec = load_task(f"file:{toy_home / 'opinions'}"), Experiment(method="lora", method_args={"r": 4})
    model = load_model(str(toy_home / "tiny"))
    predictor = METHODS["lora"].prepare()(model, spec, task, task.splits["train"])
    head = 2 * (32 + 1)
    pooler = 4 * (32 + 32)
    assert moved(spec, shape_of(toy_home / "tiny")) + head + pooler == predictor.trainable_parameters


def test_less_is_counted_where_less_is_kept(toy_home):
    shape = shape_of(toy_home / "tiny")

    def total(**fields):
        return footprint(Experiment(**{"method": "full", **fields}), shape, "classification", "encoder").total

    whole = total()
    assert total(gradient_accumulation=2) < whole > total(gradient_checkpointing=True)
    assert total(method="lora") < whole < total(dtype="float32") and total(method="probe") < total(method="lora")
    assert total(max_length=64) < whole < total(batch_size=64)


# What does not fit.


def test_what_cannot_fit_is_refused_before_anything_is_tried(study, monkeypatch, capsys, no_trials):
    memory(monkeypatch, 10**8)
    assert cli.main(["plan", str(study)]) == 2
    said = capsys.readouterr().err
    assert "file:opinions tiny lora max_length=24 (2 runs): needs about" in said and "100.0 MB are free" in said
    assert cli.main(["run", str(study)]) == 2
    assert "needs at least" in capsys.readouterr().err and not (study / "runs").exists()


def test_what_a_trial_found_too_large_is_refused_with_what_would_fit(study, monkeypatch, capsys):
    memory(monkeypatch, 2 * 10**9)
    answered(monkeypatch, peak_memory_bytes=2_100_000_000)
    assert cli.main(["plan", str(study)]) == 2
    said = capsys.readouterr().err
    assert "needs about 2.1 GB of memory, 2.0 GB are free; gradient_accumulation = " in said
    assert not (study / "forecast.json").exists()


def test_fewer_runs_go_on_at_once_where_memory_is_short(study, monkeypatch, capsys):
    memory(monkeypatch, 3 * 10**9)
    answered(monkeypatch, peak_memory_bytes=2 * 10**9)
    monkeypatch.setattr(scheduler, "default_jobs", lambda planned: 4)
    assert cli.main(["plan", str(study)]) == 0
    assert "1 at a time" in capsys.readouterr().out
    assert estimate.jobs_that_fit(scheduler.plan(study), 4) == 1
    assert cli.main(["plan", str(study), "--jobs", "4"]) == 2
    assert "--jobs 1 do" in capsys.readouterr().err


def test_a_trial_that_dies_is_a_finding(study, monkeypatch, capsys):
    found = {"failed": "the trial ended", "died": True}
    monkeypatch.setattr(estimate, "answers", lambda trials, *more: [found] * len(trials))
    assert cli.main(["plan", str(study)]) == 2
    said = capsys.readouterr().err
    assert "does not fit: the trial ended" in said and "gradient_accumulation" in said


@pytest.mark.skipif(sys.platform != "linux", reason="trials are forked")
def test_a_process_that_left_no_answer_is_one_that_died(tmp_path, monkeypatch):
    monkeypatch.setattr(dry_run, "trial", lambda *arguments: os._exit(7))
    atomic.write_json(tmp_path / "asked.json", {"at_once": 1, "trials": [{"modules": [], "variants": [], "runs": 1}]})
    dry_run.main(tmp_path)
    found = estimate._answer(tmp_path, 0)
    assert found["died"] and "ended with code 7" in found["failed"]


def test_a_text_of_a_script_without_spaces_is_not_counted_short():
    letters = "\u65e5\u672c\u8a9e" * 20
    assert longest_text([letters]) >= len(letters) and longest_text(["a word"]) == 8


# What is told from a trial.


def test_a_plan_says_what_runs_will_need_and_keeps_it_for_the_run(study, monkeypatch, capsys):
    memory(monkeypatch, 64 * 10**9)
    answered(monkeypatch)
    assert cli.main(["plan", str(study)]) == 0
    said = capsys.readouterr().out
    # 2 s to start, 0.5 to open, 0.5 before; 9 s of training; 3 s of evaluation.
    assert "file:opinions tiny lora max_length=24  2     1.0 GB  0:15          1.0 kB" in said
    planned = scheduler.plan(study)
    kept = estimate.read(study)
    assert set(kept) == {job.spec.run_id for job in planned.jobs}
    job = next(job for job in planned.jobs if job.spec.method == "lora")
    scheduler.prepare_folder(job, planned)
    request = json.loads((job.run_dir / "spec.json").read_text(encoding="utf-8"))
    assert request["predicted"] == kept[job.spec.run_id] and request["predicted"]["train_seconds"] == 9.0


def test_what_was_predicted_is_the_first_estimate_of_what_is_left(study, monkeypatch):
    memory(monkeypatch, 64 * 10**9)
    answered(monkeypatch)
    assert cli.main(["plan", str(study)]) == 0
    planned = scheduler.plan(study)
    jobs = [job for job in planned.jobs if job.spec.method == "lora"]
    for job in jobs:
        scheduler.prepare_folder(job, planned)
    states = [State(job.run_dir, job.spec) for job in jobs]
    assert progress.study_remaining(states, jobs=1) == pytest.approx(30) and len(states) == 2


def test_nothing_is_predicted_of_a_study_that_was_not_planned(study):
    planned = scheduler.plan(study)
    scheduler.prepare_folder(planned.jobs[0], planned)
    request = json.loads((planned.jobs[0].run_dir / "spec.json").read_text(encoding="utf-8"))
    assert "predicted" not in request and request["counted"]["wall_seconds"] > 0


def test_more_work_is_counted_as_more_seconds(at_home, monkeypatch):
    from ftlib.data.registry import load_task

    monkeypatch.setattr(estimate, "_product_speed", lambda: 1e6)
    task = load_task("file:opinions")
    asked = {"task": "file:opinions", "model": "tiny", "max_length": 24, "dtype": "float32"}

    def counted(**more):
        return estimate.at_a_glance(Experiment(**asked | more), task)

    once = counted(method="full", train_limit=40, epochs=1.0) - estimate.STARTING
    test = counted(method="zero_shot") - estimate.STARTING
    twice = counted(method="full", train_limit=40, epochs=2.0) - estimate.STARTING
    assert counted(method="majority") < estimate.STARTING and twice - test == pytest.approx(2 * (once - test))
    # An example that is trained on is read three times, one that is tested on once.
    assert (once - test) / test == pytest.approx(3 * 40 / 24)
    large = counted(method="full", train_limit=40, epochs=1.0, batch_size=512) - estimate.STARTING
    assert large == pytest.approx(once), "a batch holds no more than there is"


def test_the_speed_of_products_is_that_of_one_thread(monkeypatch):
    """Where another program has a core, threads wait for each other: half the speed was found, and twice the time."""
    threads = []

    def noted():
        threads.extend(one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas")
        return time.perf_counter()

    monkeypatch.setattr(estimate.time, "process_time", noted)
    estimate._product_speed.cache_clear()
    assert estimate._product_speed() > 0 and set(threads) == {1}
    estimate._product_speed.cache_clear()


def test_without_trials_memory_is_counted_and_time_is_not_guessed(study, capsys, no_trials):
    assert cli.main(["plan", str(study), "--no-trial"]) == 0
    said = capsys.readouterr().out
    assert "counted from files, not tried" in said and "?" in said
    assert not (study / "forecast.json").exists()


def test_runs_share_a_trial_where_only_examples_and_steps_differ():
    specs = [Experiment(method="full", shots=shots, seed=seed) for shots in (1, 8) for seed in (0, 1, 2)]
    (cell,) = distinct_costs(specs)
    assert len(cell) == 6 and len(estimate.Trial(tuple(cell), None).variants) == 2
    assert len(distinct_costs([specs[0], specs[0].model_copy(update={"batch_size": 4})])) == 2


def test_a_trial_tells_what_a_run_needs(at_home, monkeypatch, capsys):
    """The real thing, a process each, on a model so small that starting is most of it."""
    folder = at_home / "reports" / "tried"
    folder.mkdir()
    runs = '[[runs]]\nmethod = "full"\nepochs = 2.0\nbatch_size = 8\n'
    (folder / "suite.toml").write_text(HEAD + runs + '[[runs]]\nmethod = "probe"\nshots = [2, 8]\n', encoding="utf-8")
    assert cli.main(["plan", str(folder), "--jobs", "2"]) == 0
    said = capsys.readouterr()
    assert "trying" in said.err and "together: 8 runs, 2 at a time: about " in said.out
    kept, planned = estimate.read(folder), scheduler.plan(folder)
    by_method = {}
    for job in planned.jobs:
        by_method.setdefault(job.spec.method, []).append(kept[job.spec.run_id])
    full = by_method["full"][0]
    assert 3e8 < full["peak_memory_bytes"] < 2e9 and full["train_seconds"] > by_method["majority"][0]["train_seconds"]
    assert full["checkpoint_bytes"] > by_method["probe"][0]["checkpoint_bytes"] > 0
    # Asked again, the answers are there.
    monkeypatch.setattr(estimate, "_tried", lambda *arguments: pytest.fail("a trial was started again"))
    assert cli.main(["plan", str(folder), "--jobs", "2"]) == 0
    assert estimate.read(folder) == kept


def test_a_tuned_run_holds_another_model_and_trains_once_per_setting():
    once, tuned = (Experiment(method="full", tuning=tuning) for tuning in ({}, {"learning_rate": 3}))
    one, other = (estimate.predicted(ANSWER, VARIANT, spec) for spec in (once, tuned))
    assert other.peak_memory_bytes == one.peak_memory_bytes + ANSWER["model_bytes"]
    assert other.train_seconds == 3 * (one.train_seconds + ANSWER["validation_seconds"])


def test_a_look_at_validation_is_no_step_of_a_trial(at_home, monkeypatch):
    """It falls into the last step that is timed, and took as long as all of them: predicted were 1.7 times the time."""
    measured, tried, found = trainer.Steps.measured, dry_run._stepped, []

    def slow(*given):
        time.sleep(2)
        return measured(*given)

    monkeypatch.setattr(trainer.Steps, "measured", slow)
    monkeypatch.setattr(dry_run, "_stepped", lambda *given: found.append(tried(*given)) or found[-1])
    given = {"task": "file:opinions", "model": "tiny", "method": "full", "eval_limit": 20, "max_length": 24}
    dry_run.run_trial([Experiment(**given, label_words=toy.LABEL_WORDS)])
    # Were it in the steps, two seconds would be shared by so many tokens at most.
    assert 0 < found[0].seconds_per_token < 2 / (dry_run.MEASURED * 16 * given["max_length"])


def test_a_trial_does_a_share_of_the_work_of_its_runs(at_home, monkeypatch):
    """One of a model of 110 million parameters took as long as its run, and planning a study a third of the study."""
    planned, steps = dry_run._phase, []
    monkeypatch.setattr(dry_run, "_phase", lambda *given, **more: steps.append(planned(*given, **more)) or steps[-1])
    given = {
        "task": "file:opinions",
        "model": "tiny",
        "method": "full",
        "max_length": 24,
        "epochs": 1.0,
        "min_steps": 0,
    }
    spec = Experiment(**given, label_words=toy.LABEL_WORDS)
    for runs, freely in ((1, 0), (10**6, 0), (1, dry_run.FREELY)):
        monkeypatch.setattr(dry_run, "FREELY", freely)
        dry_run.run_trial([spec], runs)
    assert [len(one.typical) for one in steps] == [1, dry_run.MEASURED, dry_run.MEASURED]


@pytest.mark.parametrize(("method", "layers"), [("full", 2), ("lora", 2), ("last_layers", 1), ("prefix_tuning", 0)])
def test_what_a_training_holds_is_of_the_layers_that_train(at_home, monkeypatch, method, layers):
    """Where one layer of twelve trains, reading many texts may take more memory than a step: it is read then."""
    planned, seen = dry_run._phase, []
    monkeypatch.setattr(dry_run, "_phase", lambda *given, **more: seen.append(planned(*given, **more)) or seen[-1])
    given = {"task": "file:opinions", "model": "tiny", "max_length": 24, "epochs": 1.0, "min_steps": 0}
    arguments = {"k": 1} if method == "last_layers" else {}
    dry_run.run_trial([Experiment(**given, method=method, method_args=arguments, label_words=toy.LABEL_WORDS)])
    longest = sum(len(example["input_ids"]) for example in seen[0].longest)
    assert seen[0].held == layers * longest


def test_a_trial_reads_whole_batches_and_as_many_as_it_may(at_home):
    from ftlib.models.loading import load_model

    model = load_model("tiny", dtype="float32")
    assert dry_run.allowed(0, 1, None) == float("inf") and dry_run.allowed(1e9, 3, model) == 3 * dry_run.SHARE * 1e9
    assert dry_run.of_features(model) == dry_run.Batching(8, 4)


@pytest.mark.parametrize("how", [(8, 4), (64, 0), (8, 0)])
@pytest.mark.parametrize("longest", [3, 60, 200])
def test_the_time_of_all_texts_follows_from_some(how, longest, monkeypatch):
    """Where a batch has texts of one length and is filled up, one text of a length costs as much as eight."""
    lengths = np.random.default_rng(longest).integers(1, longest + 1, 100)
    texts, read, once = pd.DataFrame({"text": range(100)}), [], 1.0

    def takes(some):
        read.append(len(some))
        return 0.01 * dry_run.read_at(lengths[some["text"]], *how), once

    monkeypatch.setattr(dry_run, "seconds_of", lambda work: work())
    seconds = dry_run._reading_time(takes, texts, lengths, dry_run.Batching(*how))
    whole = dry_run.read_at(lengths, *how)
    assert seconds(whole) == pytest.approx(once + 0.01 * whole)
    assert min(read) >= 2 and max(read) <= 2 * dry_run.MEASURED * 8


def test_a_trial_trains_on_what_mitigation_makes_of_the_examples(at_home, monkeypatch):
    planned, seen = dry_run._phase, {}
    monkeypatch.setattr(dry_run, "_phase", lambda spec, *more: seen.setdefault(spec.mitigation, planned(spec, *more)))
    given = {"task": "file:opinions", "model": "tiny", "method": "full", "eval_limit": 20, "max_length": 24}
    for mitigation in ("", "augment"):
        dry_run.run_trial([Experiment(**given, mitigation=mitigation, label_words=toy.LABEL_WORDS)])
    assert seen["augment"].train_tokens > seen[""].train_tokens


@pytest.mark.parametrize(
    "asked",
    [
        {"method": "full", "model": "writer", "sequential_tasks": ["file:notes.txt"]},
        {"method": "full", "joint_tasks": ["file:topics"], "sampling": "equal", "l2_sp": 0.1},
        {"method": "merged", "joint_tasks": ["file:topics"]},
    ],
)
def test_a_trial_goes_through_every_training_of_a_run(at_home, asked):
    given = {
        "task": "file:opinions",
        "model": "tiny",
        "eval_limit": 20,
        "max_length": 24,
        "label_words": toy.LABEL_WORDS,
    }
    spec = Experiment(**given | asked)
    found = dry_run.run_trial([spec]) | {"start_seconds": 1.0, "kernel_bytes": 0}
    told = found["variants"][0]
    assert told["train_seconds"] > 0 and told["others_eval_seconds"] > 0
    said = estimate.predicted(found, told, spec)
    assert said.train_seconds == told["train_seconds"]
    # The other task is read before and after, and with the own one after each training but the last.
    read = 2 * told["others_eval_seconds"] + len(spec.sequential_tasks) * (
        said.eval_seconds + told["others_eval_seconds"]
    )
    around = sum(found[name] for name in ("start_seconds", "open_seconds", "before_seconds", "general_seconds"))
    assert said.wall_seconds == pytest.approx(around + said.train_seconds + said.eval_seconds + read)


def test_a_trial_that_fails_says_why_and_refuses_nothing(at_home, capsys):
    folder = at_home / "reports" / "poisoned"
    folder.mkdir()
    toy.save_model(at_home / "poisoned", poison=True)
    (folder / "suite.toml").write_text(
        HEAD.replace('"tiny"', '"poisoned"') + '[[runs]]\nmethod = "full"\n', encoding="utf-8"
    )
    assert cli.main(["plan", str(folder)]) == 0
    assert "the training loss became nan" in capsys.readouterr().out


# What was predicted beside what was so.


def test_predicted_stands_beside_actual(tmp_path):
    for seed, (said, was) in enumerate(((110, 100), (90, 100))):
        run_dir = tmp_path / "runs" / f"r{seed}"
        cost = {"peak_memory_bytes": was, "train_seconds": 3.0, "eval_seconds": 1.0, "checkpoint_bytes": 0}
        resolved = {"task": "t", "model": "m", "method": "full", "seed": seed}
        record = RunRecord(f"r{seed}", "ok", {"passed": {}, "resolved": resolved}, cost=cost)
        predicted = {"peak_memory_bytes": said, "train_seconds": 5.0, "eval_seconds": 1.0, "checkpoint_bytes": 0}
        atomic.write_json(run_dir / "record.json", record.__dict__)
        atomic.write_json(run_dir / "spec.json", {"predicted": predicted})
    memory_row, seconds = costs.against(records.records_of(tmp_path))
    assert memory_row == ("t", "m", "full", "peak_memory_bytes", 100, 100, 1.0, 0.9, 1.1, 2)
    assert seconds[3:] == ("seconds", 6.0, 4.0, 1.5, 1.5, 1.5, 2)


def test_runs_of_which_nothing_was_predicted_are_left_out(toy_study):
    assert costs.against(records.records_of(toy_study.study)) == []
