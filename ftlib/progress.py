"""What a person sees while a study runs: a live table on a terminal, plain lines anywhere else."""

import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ftlib.engines import State


def title(state: "State") -> str:
    """The run in a few words: method, what was set beside the defaults, seed."""
    passed = state.spec.passed()
    shown = ("shots", "train_limit", "learning_rate", "epochs", "method_args")
    extra = [f"{name}={passed[name]}" for name in shown if passed.get(name)]
    return " ".join([state.spec.task, state.spec.method, *extra, f"seed={state.spec.seed}"])


def remaining(state: "State", states: "list[State]") -> float | None:
    """Seconds the run still needs: from its steps, else from finished runs of its method; None when unknown."""
    if state.state == "running" and state.seconds_per_step and state.doing == "training":
        return state.seconds_per_step * (state.of - state.step)
    done = [other.seconds for other in states if other.spec.method == state.spec.method and other.state == "ok"]
    if not done or state.state not in ("waiting", "running"):
        return None
    return max(0.0, sum(done) / len(done) - state.seconds)


def study_remaining(states: "list[State]", jobs: int) -> float | None:
    """Seconds the study still needs; None until the first run has ended.

    A method not seen yet is taken to need as long as the longest run so far.
    """
    open_ones = [state for state in states if state.state in ("waiting", "running")]
    known = [state.seconds for state in states if state.ended]
    known += [state.seconds + left for state in open_ones if state.started and (left := remaining(state, states))]
    if not open_ones:
        return 0.0
    if not any(state.ended for state in states):
        return None
    guesses = [remaining(state, states) for state in open_ones]
    left = [
        max(0.0, max(known) - state.seconds) if guess is None else guess
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


def clock(seconds: float | None) -> str:
    """Minutes and seconds.

    >>> clock(75.4), clock(None)
    ('1:15', '?')
    """
    return "?" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def line(state: "State", states: "list[State]") -> tuple[str, str, str, str, str]:
    """One run's row: title, state, what it is doing, elapsed, remaining."""
    doing = f"{state.doing} {state.step}/{state.of}" if state.of else state.doing
    if state.state not in ("running", "ok"):
        doing = state.reason
    left = remaining(state, states)
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
            for state in shown_first(states, max(3, live.console.height - 4)):
                table.add_row(*(Text(cell) for cell in line(state, states)))
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
                name, now, doing, elapsed, left = line(state, states)
                parts = [f"{now:8}", name, doing, elapsed if elapsed != "0:00" else "", left]
                print("  ".join(part for part in parts if part.strip()), flush=True)
                seen[state.spec.run_id] = state.state
                said = True
        if tick:
            last[0] = time.monotonic()
        if tick or (said and any(state.state == "ok" for state in states)):
            print(f"          {summary(states, jobs, already_done)}", flush=True)

    return show
