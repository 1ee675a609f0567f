"""What a person is told while a study runs."""

import time
from pathlib import Path

import pytest

from ftlib.config.experiment import Experiment
from ftlib.core.atomic import write_json
from ftlib.execution import progress
from ftlib.execution.engines.base import State


def state(method="full", now="waiting", seconds=0.0, shots=0, **more):
    started = time.monotonic() - seconds if seconds else 0.0
    ended = 0.0 if now in ("waiting", "running") else time.monotonic()
    return State(Path("run"), Experiment(method=method, shots=shots), now, started=started, ended=ended, **more)


def test_a_run_in_training_says_its_step_and_what_is_left():
    running = state(now="running", seconds=30, doing="training", step=50, of=250, seconds_per_step=0.2)
    name, now, doing, elapsed, left = progress.line(running, progress.usual([running]))
    assert name == "pydocs full seed=0"
    assert (now, doing, elapsed, left) == ("running", "training 50/250", "0:30", "about 0:40")


def test_a_run_is_named_by_what_else_it_learns_and_what_holds_it_back():
    spec = Experiment(method="full", sequential_tasks=["reviews", "bios"], replay=0.2, ewc=1e5, train_limit=300)
    said = progress.title(State(Path("run"), spec, "waiting"))
    assert said == "pydocs full train_limit=300 sequential_tasks=reviews,bios replay=0.2 ewc=100000.0 seed=0"


def test_a_waiting_run_is_judged_by_finished_runs_like_it():
    states = [state(now="ok", seconds=100), state(), state("lora"), state("probe")]
    known = progress.usual(states)
    assert progress.remaining(states[1], known) == pytest.approx(100, abs=1)
    # No lora has ended: as long as what else trains; nothing like a probe has.
    assert progress.remaining(states[2], known) == pytest.approx(100, abs=1)
    assert progress.remaining(states[3], known) is None
    # It is taken to need as long as the longest so far; two at a time.
    assert progress.study_remaining(states, jobs=2) == pytest.approx(150, abs=2)
    assert progress.study_remaining(states, jobs=1) == pytest.approx(300, abs=3)


def test_runs_with_as_many_shots_say_more_than_others_of_the_method():
    states = [state(now="ok", seconds=seconds, shots=k) for k, seconds in ((1, 10), (64, 90))]
    known = progress.usual(states)
    assert progress.remaining(state(shots=64), known) == pytest.approx(90, abs=1)
    assert progress.remaining(state(shots=8), known) == pytest.approx(50, abs=1)


def test_nothing_is_promised_before_the_first_run_has_ended():
    states = [state(now="running", seconds=5), state()]
    assert progress.study_remaining(states, jobs=1) is None
    assert progress.summary(states, 1, 3) == "3 of 5 runs done, about ? left"
    done = [state(now="ok", seconds=5)]
    assert progress.summary(done, 1, 0) == "1 of 1 runs done"


def told(folder, seconds):
    """A run's folder, whose work comes to so many seconds."""
    write_json(folder / "spec.json", {"counted": {"wall_seconds": seconds}})
    return folder


def test_what_the_work_comes_to_is_said_at_once_and_then_held_against_runs_that_ended(tmp_path):
    states = [state("majority", "ok", 0.5), state("zero_shot", "running", 5), state("full"), state("lora")]
    for place, (one, seconds) in enumerate(zip(states, (2.0, 20.0, 100.0, 100.0), strict=True)):
        one.run_dir = told(tmp_path / str(place), seconds)
    assert progress.study_remaining(states, jobs=1) == pytest.approx(215, abs=1)
    states[1].state, states[1].ended, states[1].started = "ok", 30.0, 0.1
    # It took half as long again as its work came to, of which one run is no proof: (30 + 30) / (30 + 20) of the rest.
    assert progress.study_remaining(states, jobs=1) == pytest.approx(240, abs=3)
    states[2].state, states[2].ended, states[2].started = "ok", 130.0, 0.1
    # Another method on the same task, by its own work: (30 + 160) / (30 + 120) of it.
    assert progress.study_remaining(states, jobs=1) == pytest.approx(127, abs=2)


def test_what_went_wrong_says_why_instead_of_what_it_was_doing():
    failed = state(now="failed", seconds=4, doing="training", reason="out of memory")
    assert progress.line(failed, {})[1:3] == ("failed", "out of memory")


def test_a_small_window_shows_what_runs_and_what_failed_before_what_is_done():
    states = [state(now="ok", seconds=9) for _ in range(40)] + [state(now="running", seconds=1), state(now="failed")]
    shown = progress.shown_first(states, 3)
    assert [one.state for one in shown] == ["ok", "running", "failed"]


def test_plain_lines_say_each_change_once(capsys):
    show = progress._plain_lines(jobs=1, already_done=1)
    states = [state("lora"), state(now="running", seconds=1)]
    show(states)
    show(states)
    assert capsys.readouterr().out.count("running") == 1
    states[1] = state(now="ok", seconds=2)
    show(states)
    said = capsys.readouterr().out
    assert "ok " in said and "2 of 3 runs done" in said
