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
    if state.state == "running" and state.step and state.doing == "training":
        return state.seconds * (state.of - state.step) / state.step
    done = [other.seconds for other in states if other.spec.method == state.spec.method and other.state == "ok"]
    if not done or state.state not in ("waiting", "running"):
        return None
    return max(0.0, sum(done) / len(done) - state.seconds)


def study_remaining(states: "list[State]", jobs: int) -> float | None:
    """Seconds the study still needs, where every waiting run's method has been seen; None otherwise."""
    left = [remaining(state, states) for state in states if state.state in ("waiting", "running")]
    if not left or any(seconds is None for seconds in left):
        return None
    return max(sum(left) / jobs, max(left))


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
        yield _plain_lines(jobs)


@contextmanager
def _live_table(jobs: int, already_done: int) -> "Iterator[Callable[[list[State]], None]]":
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    with Live(refresh_per_second=4) as live:

        def show(states: "list[State]") -> None:
            table = Table("run", "state", "doing", "elapsed", "remaining", box=None)
            for state in states:
                table.add_row(*(Text(cell) for cell in line(state, states)))
            done = sum(state.state not in ("waiting", "running") for state in states)
            left = clock(study_remaining(states, jobs))
            table.caption = f"{done + already_done} of {len(states) + already_done} runs done, about {left} left"
            live.update(table)

        yield show


def _plain_lines(jobs: int, every: float = 30.0) -> "Callable[[list[State]], None]":
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
            done = sum(state.state not in ("waiting", "running") for state in states)
            if (left_all := study_remaining(states, jobs)) is not None:
                print(f"          {done} of {len(states)} done, about {clock(left_all)} left", flush=True)

    return show
