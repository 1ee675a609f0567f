"""What goes wrong in real life: a kill, a loss that is no number, two at once. Nothing is lost and nothing hidden."""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
import toy
from conftest import ROOT, ftlib_command, started_cold
from processes import HEAD, all_gone, family, kernels, wait_for, write_notebooks

import ftlib
from ftlib import cli, records
from ftlib.config.methods import METHODS
from ftlib.core import surroundings
from ftlib.core.errors import FtlibError
from ftlib.execution import notebook_exec, scheduler, worker
from ftlib.execution.engines import base
from ftlib.execution.planning import estimate
from ftlib.records.events import read_events

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills processes the way POSIX does")

BROKEN = {
    "80_run_exits": "import sys\nsys.exit(0)",
    "81_run_killed": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    "82_run_silent": "1 + 1",
    "83_run_sleeps": "import time\ntime.sleep(600)",
}
WAITS = "import time\nfrom pathlib import Path\nwhile Path('hold').exists():\n    time.sleep(0.05)"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A working directory with a task, a poisoned model, and notebooks that break, beside the repository's own."""
    home = tmp_path_factory.mktemp("broken")
    toy.write_task(home / "opinions")
    toy.save_model(home / "poisoned", poison=True)
    write_notebooks(home, BROKEN)
    waits = nbformat.read(ROOT / "notebooks" / "10_run_zero_shot.ipynb", as_version=4)
    last = max(place for place, cell in enumerate(waits.cells) if cell.cell_type == "code")
    waits.cells.insert(last, nbformat.v4.new_code_cell(WAITS, id="waits"))
    nbformat.write(waits, home / "notebooks" / "84_run_waits.ipynb")
    return home


@pytest.fixture
def here(home, monkeypatch) -> Path:
    monkeypatch.chdir(home)
    monkeypatch.setenv("FTLIB_CACHE", str(home / "cache"))
    return home


def write_study(folder: Path, runs: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "suite.toml").write_text(HEAD + runs, encoding="utf-8")
    return folder


def start(*arguments: str) -> subprocess.Popen:
    """Start ftlib as a user does, in a session of its own, so that a signal to all of it spares the test."""
    return subprocess.Popen(
        ftlib_command(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # Whoever runs the tests in the background has it ignored, which a process inherits.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def recorded(study: Path) -> dict[str, tuple[bytes, int]]:
    """Every finished run: its record, and when that was written."""
    return {path.parent.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in study.glob("runs/*/record.json")}


def statuses(study: Path) -> dict[str, str]:
    """notebook or method -> status, for every record of the study."""
    found = {}
    for _, record in records.records_of(study):
        resolved = record.spec["resolved"]
        found[resolved["method"] if resolved["notebook"] not in BROKEN else resolved["notebook"]] = record.status
    return found


# A whole study, killed in the middle.


@pytest.fixture(scope="module")
def killed(home) -> dict:
    """A study of two runs, killed -9 while it is in the second, looked at, and started again."""
    runs = '[[runs]]\nmethod = "majority"\n[[runs]]\nmethod = "tfidf"\nnotebook = "84_run_waits"\n'
    study = write_study(home / "reports" / "killed", runs)
    (home / "hold").touch()
    seen: dict = {"study": study}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("FTLIB_CACHE", str(home / "cache"))
        with started_cold():
            first = start("run", "reports/killed", "--jobs", "1")
        try:
            wait_for(lambda: recorded(study), "the first record")
            wait_for(lambda: len(list(study.glob("runs/*/events.jsonl"))) == 2, "the second run's kernel")
            seen["second"] = cli.main(["run", "reports/killed"])
            seen["before"] = recorded(study)
            seen["family"] = family(first.pid)
            seen["kernels"] = kernels(first.pid)
        finally:
            first.kill()
            first.communicate()
        end = time.monotonic() + 10
        while not all_gone(seen["family"]) and time.monotonic() < end:
            time.sleep(0.05)
        seen["gone"] = all_gone(seen["family"])
        seen["left"] = recorded(study)
        seen["lock"] = (study / ".lock").exists()
        (home / "hold").unlink()
        again = subprocess.run(ftlib_command("run", "reports/killed"), capture_output=True, text=True, timeout=240)
        seen["again"], seen["said"] = again.returncode, again.stdout + again.stderr
    return seen


def test_two_at_once_on_one_study_are_refused(killed):
    assert killed["second"] == 2


def test_a_killed_study_leaves_no_process_behind(killed):
    assert len(killed["kernels"]) == 1 and len(killed["family"]) >= 2, "it was killed while a kernel was at work"
    assert killed["gone"]


def test_a_killed_study_leaves_only_whole_records(killed):
    assert killed["left"] == killed["before"] and len(killed["left"]) == 1
    assert killed["lock"], "nobody could tidy up: the next start has to cope with the lock"


def test_started_again_it_finishes_and_redoes_only_what_was_not_recorded(killed):
    assert killed["again"] == 0, killed["said"]
    assert "2 runs, 1 recorded already, 1 to do" in killed["said"]
    now = recorded(killed["study"])
    assert len(now) == 2 and now.items() >= killed["left"].items(), "byte for byte, not even touched"
    assert (killed["study"] / "report.html").exists()
    assert not (killed["study"] / "superseded").exists()


def test_when_the_data_changes_its_runs_are_redone_and_the_old_ones_kept(killed, here, capsys):
    study = killed["study"]
    old = recorded(study)
    test_file = here / "opinions" / "test.csv"
    whole = test_file.read_text(encoding="utf-8")
    try:
        test_file.write_text("\n".join(whole.splitlines()[:-3]) + "\n", encoding="utf-8")
        assert cli.main(["run", "reports/killed"]) == 0
    finally:
        test_file.write_text(whole, encoding="utf-8")
    assert "0 recorded already, 2 to do" in capsys.readouterr().out
    for run_id, (record, _) in old.items():
        kept = study / "superseded" / run_id
        assert (kept / "1.record.json").read_bytes() == record
        assert {path.name for path in kept.iterdir()} == {
            "1.record.json", "1.predictions.parquet", "1.notebook.ipynb", "1.events.jsonl",
        }  # fmt: skip
        assert len(records.read_predictions(study / "runs" / run_id).query("part == 'test'")) == toy.SIZES["test"] - 3


@pytest.mark.slow
@pytest.mark.parametrize("moment", [0.5, 2.0, 4.0, 8.0, 13.0])
def test_killed_at_any_moment_it_finishes_when_started_again(here, moment, toy_home, cold):
    shutil.copytree(toy_home / "tiny", here / "tiny", dirs_exist_ok=True)
    study = write_study(
        here / "reports" / f"moment-{moment}", '[[runs]]\nmethod = "full"\nmodel = "tiny"\nepochs = 20\n'
    )
    first = start("run", str(study))
    time.sleep(moment)
    seen = family(first.pid)
    first.kill()
    first.communicate()
    wait_for(lambda: all_gone(seen), "every process of the study to end", 10)
    left = recorded(study)
    again = subprocess.run(ftlib_command("run", str(study)), capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(recorded(study)) == 3 and recorded(study).items() >= left.items()


# One run of a study breaks; the others go on.


@pytest.fixture(scope="module")
def broken(home) -> tuple[Path, int, str]:
    """A study in which one run exits, one's kernel is killed, one writes nothing, one diverges, and one is well."""
    runs = '[[runs]]\nmethod = "majority"\nnotebook = ["80_run_exits", "81_run_killed", "82_run_silent"]\n'
    study = write_study(home / "reports" / "broken", runs + '[[runs]]\nmethod = "full"\nmodel = "poisoned"\n')
    environment = os.environ | {"FTLIB_CACHE": str(home / "cache")}
    done = subprocess.run(
        ftlib_command("run", "reports/broken"), cwd=home, env=environment, capture_output=True, text=True, timeout=240
    )
    return study, done.returncode, done.stdout + done.stderr


def test_every_fault_has_its_status_and_the_others_go_on(broken):
    study, code, said = broken
    assert statuses(study) == {
        "80_run_exits": "failed",
        "81_run_killed": "failed",
        "82_run_silent": "failed",
        "full": "diverged",
        "tfidf": "ok",
    }, said
    assert code == 1


def test_every_fault_has_a_reason_that_says_what_happened(broken):
    reasons = {}
    for _, record in records.records_of(broken[0]):
        reasons[record.spec["resolved"]["notebook"]] = record.reason
    assert reasons.pop("10_run_zero_shot") is None
    assert "without writing a record" in reasons["80_run_exits"] and "without" in reasons["82_run_silent"]
    assert "DeadKernelError" in reasons["81_run_killed"] and "died" in reasons["81_run_killed"].lower()
    assert "loss became nan" in reasons["13_run_full"] and "learning_rate" in reasons["13_run_full"]


def test_a_fault_has_no_figures(broken):
    for run_dir, record in records.records_of(broken[0]):
        if record.status != "ok":
            assert record.metrics == {"before": {}, "after": {}}
            assert not (run_dir / "predictions.parquet").exists()


def test_the_report_and_the_terminal_name_every_fault(broken):
    study, _, said = broken
    failures = json.loads((study / "report.json").read_text())["failures"]
    assert sorted((one["method"], one["status"]) for one in failures) == [
        ("full", "diverged"), ("majority", "failed"), ("majority", "failed"), ("majority", "failed"),
    ]  # fmt: skip
    page = (study / "report.html").read_text(encoding="utf-8")
    for one in failures:
        assert one["run_id"] in page and one["run_id"] in said and one["reason"]


def test_what_broke_is_tried_again_and_what_is_well_is_not(broken, here, capsys):
    assert cli.main(["run", "reports/broken", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "5 runs, 1 recorded already, 4 to do" in said and said.count("would run") == 4


# One run, from outside.


def prepare(study: Path):
    """The one sleeping run of a study, its folder ready."""
    write_study(study, '[[runs]]\nmethod = "majority"\nnotebook = "83_run_sleeps"\n')
    planned = scheduler.plan(study)
    job = next(job for job in planned.jobs if job.spec.notebook)
    scheduler.prepare_folder(job, planned)
    return job


def test_a_run_that_takes_too_long_is_a_timeout(here, tmp_path, cold):
    job, seen = prepare(tmp_path / "study"), []

    def show(states):
        seen.extend(process for state in states if state.handle for process in family(state.handle.process.pid))

    base.execute([job.run_dir], 1, base.Process, show, timeout=3)
    record = records.read_record(job.run_dir)
    assert record.status == "timeout" and "3 seconds" in record.reason
    assert all_gone(seen)


def test_a_record_written_in_the_last_moment_before_the_timeout_counts(here, tmp_path, monkeypatch):
    job = prepare(tmp_path / "study")
    finish = worker.stop_tree

    def stop_after_it_finished(process):
        import pandas as pd

        spec = {"passed": job.spec.passed(), "resolved": job.spec.resolved()}
        records.write(job.run_dir, records.RunRecord(job.spec.run_id, "ok", spec), pd.DataFrame({"id": ["1"]}))
        finish(process)

    monkeypatch.setattr(worker, "stop_tree", stop_after_it_finished)
    base.execute([job.run_dir], 1, base.Process, lambda states: None, timeout=0.1)
    assert records.read_record(job.run_dir).status == "ok"


def test_when_the_process_of_a_run_is_killed_the_run_failed_and_its_kernel_ends(here, tmp_path, cold):
    job, seen = prepare(tmp_path / "study"), []

    def kill_it_at_work(states):
        process = states[0].handle.process
        if states[0].state == "running" and not seen and (found := kernels(process.pid)):
            seen.extend(found)
            process.kill()

    base.execute([job.run_dir], 1, base.Process, kill_it_at_work)
    record = records.read_record(job.run_dir)
    assert record.status == "failed" and "code -9" in record.reason and "memory" in record.reason
    wait_for(lambda: all_gone(seen), "the kernel to end", 10)


def test_ctrl_c_stops_everything_and_records_nothing(here, tmp_path, cold):
    job = prepare(tmp_path / "study")
    first = start("run", str(tmp_path / "study"))
    try:
        wait_for(lambda: [k for k in kernels(first.pid) if k.num_threads() > 1], "a kernel")
        seen = family(first.pid)
        owners = [json.loads(path.read_text()) for path in (tmp_path / "study").glob("runs/*/process.json")]
        sockets = [Path(said["sockets"]) for said in owners if "sockets" in said]
        assert sockets
        os.killpg(first.pid, signal.SIGINT)
        said, _ = first.communicate(timeout=30)
    finally:
        first.kill()
    assert first.returncode == 130 and "the same command continues" in said and "Traceback" not in said
    wait_for(lambda: all_gone(seen), "every process of the study to end", 10)
    assert not (job.run_dir / "record.json").exists()
    assert not (job.run_dir / "process.json").exists()
    assert not [folder for folder in sockets if folder.exists()], "the kernel's key went with it"


def test_a_kernels_folder_goes_though_the_kernel_puts_something_into_it_meanwhile(tmp_path, monkeypatch):
    folder, real, calls = tmp_path / "ftlib-kernel", shutil.rmtree, []
    folder.mkdir()

    def late(path, **options):
        calls.append(path)
        if len(calls) == 1:
            (folder / "k-1").touch()
            return
        real(path, **options)

    monkeypatch.setattr(surroundings.shutil, "rmtree", late)
    surroundings.remove_sockets(folder)
    assert len(calls) == 2 and not folder.exists()


def test_a_kernel_that_is_still_starting_ends_before_its_folder_goes(tmp_path, monkeypatch, cold):
    # As ipykernel does it: the folder of the connection file is made where it is not there.
    late = "import pathlib, sys, time; time.sleep(1); pathlib.Path(sys.argv[1]).parent.mkdir(exist_ok=True)"
    waiting = subprocess.Popen(["sleep", "60"])
    monkeypatch.setattr(notebook_exec, "waiting_kernel", waiting)
    with pytest.raises(KeyboardInterrupt), notebook_exec._folder_of_kernel(str(tmp_path)) as made:
        kernel = subprocess.Popen([sys.executable, "-c", late, f"{made}/kernel.json"])
        raise KeyboardInterrupt
    assert not psutil.pid_exists(kernel.pid) and waiting.returncode < 0, "both were killed"
    kernel.wait()
    assert not Path(made).exists()


def test_a_run_whose_study_is_gone_before_it_begins_ends_too(monkeypatch):
    ended = subprocess.Popen(["true"])
    ended.wait()
    stopped = []
    monkeypatch.setattr(worker, "stop_tree", lambda process: stopped.append(process.pid))
    monkeypatch.setenv(worker.PARENT, str(ended.pid))
    worker.follow_parent()
    wait_for(lambda: stopped == [os.getpid()], "it to stop itself", 5)
    assert worker.PARENT not in os.environ


# What is on disk is not what was written.


@pytest.fixture
def copied(toy_study, tmp_path, at_home) -> Path:
    """A copy of the toy study, to be damaged."""
    assert toy_study.code == 0, toy_study.said
    return Path(shutil.copytree(toy_study.study, tmp_path / "copy"))


@pytest.mark.parametrize("damage", ["", "{", '{"schema": 1}', "[]"])
def test_a_record_that_is_cut_short_is_named_and_the_others_are_used(copied, capsys, damage):
    path = sorted(copied.glob("runs/*/record.json"))[2]
    path.write_text(damage)
    assert cli.main(["run", str(copied), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "10 recorded already, 1 to do" in said and f"its record cannot be read ({path}" in said
    (note,) = [one for one in ftlib.read_study(copied).notes if one.startswith("left out: ")]
    assert path.parent.name in note and len(records.read_runs(copied)) == 10
    with pytest.raises(FtlibError):
        records.read_record(path.parent)


def test_a_record_that_holds_something_else_is_damaged(copied):
    path = sorted(copied.glob("runs/*/record.json"))[0]
    held = json.loads(path.read_text(encoding="utf-8"))
    wrong = {"provenance": [], "metrics": 3, "cost": None, "spec": {"resolved": []}, "status": "fine", "run_id": 7}
    for name, value in wrong.items():
        path.write_text(json.dumps(held | {name: value}), encoding="utf-8")
        with pytest.raises(records.Damaged, match="not a record"):
            records.read_record(path.parent)


def test_a_record_that_does_not_name_its_data_is_made_again(copied, capsys):
    path = sorted(copied.glob("runs/*/record.json"))[0]
    fields = json.loads(path.read_text())
    del fields["provenance"]["data_sha256"]
    path.write_text(json.dumps(fields))
    assert cli.main(["run", str(copied), "--dry-run"]) == 0
    assert f"made with other data: will run again: {path.parent.name}" in capsys.readouterr().out


def test_a_damaged_record_diary_texts_and_predictions_of_the_plan_stop_no_report(copied, capsys):
    first, second, *_ = sorted(copied.glob("runs/*/events.jsonl"))
    lines = first.read_text(encoding="utf-8").splitlines(keepends=True)
    first.write_text("".join([lines[0], '{"time": 1, "ev\n', "[]\n", *lines[1:]]), encoding="utf-8")
    assert len(read_events(first.parent)) == len(lines)
    assert f"{first}, line 2" in capsys.readouterr().err
    (second.parent / "record.json").write_text("{")
    (first.parent / "spec.json").write_text("{")
    examples = next(copied.glob("examples/*.parquet"))
    examples.write_bytes(b"half")
    (copied / estimate.FILE).write_text("{")
    assert cli.main(["report", str(copied)]) == 0
    assert second.parent.name in (copied / "report.html").read_text(encoding="utf-8")
    assert examples.name in (copied / "report.html").read_text(encoding="utf-8")
    assert cli.main(["run", str(copied), "--dry-run"]) == 0


# A record is of the model that is there now.


@pytest.mark.parametrize("name, said", [
    ("model.safetensors", "made with other weights"),
    ("tokenizer_config.json", "made with another tokenizer or configuration of the model"),
    pytest.param("config.json", "made with another tokenizer or configuration of the model", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_record_of_another_model_is_not_done(copied, at_home, capsys, name, said):
    path = at_home / "tiny" / name
    whole = path.read_bytes()
    try:
        if name == "model.safetensors":
            # The last byte of the last tensor.
            path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        else:
            path.write_bytes(whole.replace(b"{", b'{"of_another": 1,', 1))
        assert cli.main(["run", str(copied), "--dry-run"]) == 0
        found = capsys.readouterr().out
        of_models = {
            job.run_dir.name
            for job in scheduler.plan(copied).jobs
            if METHODS[job.spec.method].model and job.spec.model == "tiny"
        }
        assert f"{11 - len(of_models)} recorded already, {len(of_models)} to do" in found
        (line,) = [line for line in found.splitlines() if line.startswith(f"{said}: will run again: ")]
        assert set(line.partition("again: ")[2].split(", ")) == of_models
    finally:
        path.write_bytes(whole)
    assert cli.main(["run", str(copied), "--dry-run"]) == 0
    assert "11 recorded already, 0 to do" in capsys.readouterr().out


# Others' processes.


def bystander(run_dir: Path, study: dict | None) -> subprocess.Popen:
    """A process that says of itself that it is at work in a run's folder."""
    waits = [sys.executable, "-c", "import time; time.sleep(60)", "run-one", str(run_dir)]
    process = subprocess.Popen(waits, start_new_session=True)
    said = {"pid": process.pid, "started": psutil.Process(process.pid).create_time(), "host": platform.node()}
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "process.json").write_text(json.dumps(said | {"study": study}))
    return process


def test_only_its_own_orphans_are_stopped(tmp_path, cold):
    study = tmp_path / "study"
    gone = {"pid": 2**22 - 1, "started": 1.0}
    me = {"pid": os.getpid(), "started": psutil.Process().create_time()}
    orphan = bystander(study / "runs" / "orphan", gone)
    by_hand = bystander(study / "runs" / "by_hand", None)
    of_another = bystander(study / "runs" / "of_another", me)
    beside = bystander(tmp_path / "study" / "runs2" / "orphan", gone)
    command = [sys.executable, "-c", "import time; time.sleep(60)", "run-one", str(study / "runs" / "abc")]
    named_alike = subprocess.Popen(command)
    processes = [orphan, by_hand, of_another, beside, named_alike]
    # A process number that was given again: it was started at another time.
    again = study / "runs" / "again" / "process.json"
    again.parent.mkdir()
    again.write_text(json.dumps({"pid": by_hand.pid, "started": 1.0, "host": platform.node(), "study": gone}))
    try:
        left = scheduler.stop_orphans(study)
        assert orphan.wait(timeout=5) == -signal.SIGKILL
        assert all(process.poll() is None for process in processes[1:])
        assert left == {study / "runs" / "by_hand": by_hand.pid, study / "runs" / "of_another": of_another.pid}
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_second_run_one_on_a_folder_is_refused_and_names_the_first(here, tmp_path):
    job = prepare(tmp_path / "study")
    with started_cold():
        first = start("run-one", str(job.run_dir))
    try:
        wait_for((job.run_dir / "process.json").exists, "the first to begin")
        second = subprocess.run(
            ftlib_command("run-one", str(job.run_dir)), capture_output=True, text=True, timeout=60, check=False
        )
        assert second.returncode == 2
        assert f"is being run by process {first.pid}" in second.stderr
        study = subprocess.run(
            ftlib_command("run", str(tmp_path / "study"), "--jobs", "1"),
            capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert f"{job.run_dir} is being run by process {first.pid}" in study.stdout, study.stdout + study.stderr
        assert study.returncode == 1 and "not finished: 1 of its runs have no record" in study.stdout
        assert first.poll() is None, "it was left alone"
    finally:
        worker.stop_tree(psutil.Process(first.pid))
        first.communicate()
    assert not (job.run_dir / "record.json").exists()


def test_a_record_of_a_newer_ftlib_is_an_error_that_says_so(copied, capsys):
    path = sorted(copied.glob("runs/*/record.json"))[0]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 99}))
    assert cli.main(["run", str(copied), "--dry-run"]) == 2
    assert "schema 99" in capsys.readouterr().err


def test_a_record_without_its_predictions_is_not_done(copied, capsys):
    next(copied.glob("runs/*/predictions.parquet")).unlink()
    assert cli.main(["run", str(copied), "--dry-run"]) == 0
    assert "10 recorded already, 1 to do" in capsys.readouterr().out


def test_a_run_folder_that_was_renamed_is_not_taken_for_another_run(copied):
    run_dir = next(copied.glob("runs/*"))
    moved = run_dir.rename(run_dir.with_name("0" * 16))
    assert records.complete_record(moved) is None


def test_a_request_that_was_edited_is_refused(copied, capsys):
    run_dir = next(copied.glob("runs/*"))
    (run_dir / "record.json").unlink()
    given = json.loads((run_dir / "spec.json").read_text())
    (run_dir / "spec.json").write_text(json.dumps(given | {"passed": given["passed"] | {"eval_limit": 3}}))
    assert cli.main(["run-one", str(run_dir)]) == 2
    assert given["run_id"] in capsys.readouterr().err
    assert cli.main(["run-one", str(copied)]) == 2
    assert "no spec.json" in capsys.readouterr().err
