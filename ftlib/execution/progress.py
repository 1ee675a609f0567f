"""What a person sees while a study runs: a live table on a terminal, plain lines anywhere else."""

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ftlib.config.methods import METHODS
from ftlib.core.format import clock, short_name
from ftlib.records import provenance

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ftlib.execution.engines.base import State


def title(state: "State") -> str:
    """The run in a few words: method, what was set beside the defaults, seed."""
    passed = state.spec.passed()
    shown = (
        "shots", "train_limit", "learning_rate", "epochs", "method_args", "head_init",
        "sequential_tasks", "other_task_limit",
        "joint_tasks", "sampling", "replay", "l2_sp", "ewc", "mitigation",
    )  # fmt: skip
    of_tasks = {name: ",".join(map(short_name, passed.get(name) or ())) for name in ("sequential_tasks", "joint_tasks")}
    extra = [f"{name}={of_tasks.get(name, passed[name])}" for name in shown if passed.get(name)]
    return " ".join([state.spec.task, state.spec.method, *extra, f"seed={state.spec.seed}"])


def usual(states: "list[State]") -> dict[tuple, float]:
    """Mean seconds of the finished runs: of each method on a task with as many shots, of each method, and of those that
    train or do not, all together; and, as `OFF`, how many times as long as was foretold they took.
    """
    found: dict[tuple, list[float]] = {}
    for state in states:
        if state.state == "ok":
            for kind in _kinds(state):
                found.setdefault(kind, []).append(state.seconds)
    known = {kind: sum(seconds) / len(seconds) for kind, seconds in found.items()}
    told = [(state.seconds, told) for state in states if state.state == "ok" and (told := predicted(state.run_dir))]
    # What is short is mostly starting, which says nothing of the work of others.
    long = [(took, told) for took, told in told if told >= LONG]
    off = (BELIEVED + sum(took for took, _ in long)) / (BELIEVED + sum(told for _, told in long))
    return known | ({OFF: off} if long else {})


LONG, OFF = 6.0, ("foretold",)

BELIEVED = 30.0
"""Seconds for which a forecast counts beside the runs that have ended: the first of a kind does what others share."""


def _kinds(state: "State") -> tuple[tuple, ...]:
    """What a run is like, the nearest likeness first."""
    spec = state.spec
    alike = (spec.task, spec.model, spec.method, spec.shots)
    return alike, alike[2:], (spec.method,), (METHODS[spec.method].trains,)


def remaining(state: "State", known: dict[tuple, float]) -> float | None:
    """Seconds the run still needs: from its steps, else from finished runs like it; None when unknown.

    Args:
        state: The run.
        known: From `usual`.
    """
    if state.state == "running" and state.seconds_per_step and state.doing == "training":
        return state.seconds_per_step * (state.of - state.step)
    alike, *others = _kinds(state)
    guess, told = known.get(alike), predicted(state.run_dir)
    if guess is None and told is not None:
        guess = told * known.get(OFF, 1.0)
    if guess is None:
        guess = next((known[kind] for kind in others if kind in known), None)
    if guess is None or state.state not in ("waiting", "running"):
        return None
    return max(0.0, guess - state.seconds)


@cache
def predicted(run_dir: Path) -> float | None:
    """Seconds that `ftlib plan` predicted for the run, or else that its work comes to; None where neither is known."""
    asked = provenance.request(run_dir)
    return (asked.get("predicted") or asked.get("counted") or {}).get("wall_seconds")


def study_remaining(states: "list[State]", jobs: int) -> float | None:
    """Seconds the study still needs; None until the first run has ended, unless all were predicted.

    A run like which none has ended is taken to need as long as the longest so far.
    """
    open_ones = [state for state in states if state.state in ("waiting", "running")]
    if not open_ones:
        return 0.0
    known = usual(states)
    guesses = [remaining(state, known) for state in open_ones]
    if None in guesses and not any(state.ended for state in states):
        return None
    longest = max((state.seconds for state in states if state.ended), default=0.0)
    longest = max([longest, *(s.seconds + g for s, g in zip(open_ones, guesses, strict=True) if s.started and g)])
    left = [
        max(0.0, longest - state.seconds) if guess is None else guess
        for state, guess in zip(open_ones, guesses, strict=True)
    ]
    return max(sum(left) / jobs, max(left))


def summary(states: "list[State]", jobs: int, already_done: int) -> str:
    """How far the study is, in one line."""
    done = sum(state.state not in ("waiting", "running") for state in states)
    said = f"{done + already_done} of {len(states) + already_done} runs done"
    return said if done == len(states) else f"{said}, about {clock(study_remaining(states, jobs))} left"


def shown_first(states: "list[State]", most: int) -> "list[State]":
    """The rows that fit: what is running or went wrong, then what is next, then what was done last."""
    rank = {"running": 0, "failed": 1, "diverged": 1, "timeout": 1, "waiting": 2, "ok": 3}
    order = sorted(states, key=lambda state: (rank[state.state], -state.ended))
    kept = {id(state) for state in order[:most]}
    return [state for state in states if id(state) in kept]


def line(state: "State", known: dict[tuple, float]) -> tuple[str, str, str, str, str]:
    """One run's row: title, state, what it is doing, elapsed, remaining."""
    doing = f"{state.doing} {state.step}/{state.of}" if state.of else state.doing
    if state.state not in ("running", "ok"):
        doing = state.reason
    left = remaining(state, known)
    return title(state), state.state, doing, clock(state.seconds), "" if left is None else f"about {clock(left)}"


@contextmanager
def watching(jobs: int, already_done: int) -> "Iterator[Callable[[list[State]], None]]":
    """The function that shows states, for as long as the study runs."""
    if sys.stdout.isatty():
        with _live_table(jobs, already_done) as show:
            yield show
    else:
        yield _plain_lines(jobs, already_done)


@contextmanager
def _live_table(jobs: int, already_done: int) -> "Iterator[Callable[[list[State]], None]]":
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    with Live(refresh_per_second=4) as live:

        def show(states: "list[State]") -> None:
            table = Table("run", "state", "doing", "elapsed", "remaining", box=None)
            # A table taller than the window would be cut where the eye is.
            known = usual(states)
            for state in shown_first(states, max(3, live.console.height - 4)):
                table.add_row(*(Text(cell) for cell in line(state, known)))
            table.caption = summary(states, jobs, already_done)
            live.update(table)

        yield show


def _plain_lines(jobs: int, already_done: int, every: float = 30.0) -> "Callable[[list[State]], None]":
    seen: dict[str, str] = {}
    last = [time.monotonic()]

    def show(states: "list[State]") -> None:
        tick = time.monotonic() - last[0] >= every
        said = False
        for state in states:
            changed = seen.get(state.spec.run_id, "waiting") != state.state
            if changed or (tick and state.state == "running"):
                name, now, doing, elapsed, left = line(state, usual(states))
                parts = [f"{now:8}", name, doing, elapsed if elapsed != "0:00" else "", left]
                print("  ".join(part for part in parts if part.strip()), flush=True)
                seen[state.spec.run_id] = state.state
                said = True
        if tick:
            last[0] = time.monotonic()
        if tick or (said and any(state.state == "ok" for state in states)):
            print(f"          {summary(states, jobs, already_done)}", flush=True)

    return show


@contextmanager
def trying() -> "Iterator[Callable[[int, int, Sequence[str], float | None], None]]":
    """The function that shows how far the trials of a plan are, on standard error."""
    last = [0.0, ""]

    def show(done: int, total: int, names: "Sequence[str]", left: float | None) -> None:
        said = f"trying {', '.join(names)}: {done} of {total} done, about {clock(left)} left"
        if said == last[1] or not names or (not sys.stderr.isatty() and time.monotonic() - last[0] < 5):
            return
        last[:] = time.monotonic(), said
        print(f"\r{said:<78}" if sys.stderr.isatty() else said, end="", file=sys.stderr, flush=True)
        if not sys.stderr.isatty():
            print(file=sys.stderr)

    yield show
    if sys.stderr.isatty() and last[1]:
        print(f"\r{'':<78}\r", end="", file=sys.stderr, flush=True)
