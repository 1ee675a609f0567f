"""The run's diary, `events.jsonl`: what the run is doing now, and how training went.

The losses of a diary are read fit by fit, and `rise` says whether validation shows that training was too long. A run
that tries several settings fits once for each. Old diaries have no entry that begins a fit: there a step that does not
come after the one before it begins the next.
"""

import json
import math
import sys
import time
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ftlib.core.errors import FtlibError
from ftlib.stats.paired import difference
from ftlib.stats.variance import Array

if TYPE_CHECKING:
    import pandas as pd


STAGES = {
    "data": "reading the data",
    "model": "loading the model",
    "before": "measuring the base model",
    "adapt": "adapting",
    "after": "measuring the adapted model",
}
"""What a run is doing, in words."""


class Events:
    """The diary as it is written: one JSON object a line, appended as it happens.

    With no folder somebody is watching: stages and training steps are shown on one line, with an estimate of what is
    left.
    """

    def __init__(self, run_dir: str | Path | None = None) -> None:
        self.path = Path(run_dir) / "events.jsonl" if run_dir else None
        self.entries: list[dict[str, Any]] = []
        self._started, self._stage = time.monotonic(), ""

    def say(self, event: str, **facts: Any) -> None:
        """Append one entry; numbers that are not finite become null, with their text beside them."""
        clean = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in facts.items()
        }
        entry = {"time": round(time.time(), 3), "event": event, **clean}
        self.entries.append(entry)
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n")
        elif event == "stage":
            self._started = time.monotonic()
            self._stage = str(facts["name"])
            print(f"{STAGES.get(self._stage, self._stage)} ...", end="", flush=True)
        elif event == "step":
            step, of, loss = facts["step"], facts["of"], facts["loss"]
            left = (time.monotonic() - self._started) / step * (of - step)
            print(f"\rstep {step} of {of}, loss {loss:.3f}, about {left:.0f} s left   ", end="", flush=True)

    def doing(self) -> str:
        """What the last entries say is being done, in words; empty before the first."""
        stage = next((entry["name"] for entry in reversed(self.entries) if entry["event"] == "stage"), "")
        last = self.entries[-1] if self.entries else {}
        return (
            f"step {last['step']} of {last['of']} of training"
            if last.get("event") == "step"
            else STAGES.get(stage, stage)
        )

    def ended(self) -> None:
        """End the line of a stage that somebody is watching, with the seconds it took."""
        if self._stage and time.monotonic() - self._started < 1:
            print(f"\r{'':<40}\r", end="", flush=True)
        elif self._stage:
            print(
                f"\r{STAGES.get(self._stage, self._stage)}: {time.monotonic() - self._started:.1f} s{'':<40}",
                flush=True,
            )
        self._stage = ""

    def curves(self) -> list[tuple[str, list[int], list[float]]]:
        """Part (training, validation), steps and losses of each training, in order, for `plots.curves`."""
        found: list[tuple[str, list[int], list[float]]] = []
        for entry in self.entries:
            if entry["event"] == "fit":
                found += [("training", [], []), ("validation", [], [])]
            elif entry["event"] in ("step", "validation"):
                _, steps, losses = found[-1 if entry["event"] == "validation" else -2]
                steps.append(entry["step"])
                losses.append(entry["loss"])
        return [one for one in found if one[1]]


def read_events(run_dir: str | Path) -> list[dict[str, Any]]:
    """The run's diary; a last line that is still being written is left out, and so is one that is broken."""
    path = Path(run_dir) / "events.jsonl"
    if not path.exists():
        return []
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1], 1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict) and "event" in entry:
            found.append(entry)
        else:
            _say_once(f"ftlib: {path}, line {number}: is not an entry of a diary, and left out")
    return found


@cache
def _say_once(said: str) -> None:
    print(said, file=sys.stderr)


Points = tuple[tuple[float, float], ...]
"""(step, loss) pairs; a loss that was not finite is NaN."""


class Fit(NamedTuple):
    """One training with one setting."""

    learning_rate: float
    """NaN where the diary does not say."""
    train: Points
    """Mean training loss since the entry before."""
    validation: Points
    n: int
    """Validation examples; 0 where there is no validation loss."""
    kept: int | None
    """The step whose weights were kept, where those are not the last."""


def fits(events: Iterable[Mapping[str, Any]]) -> list[Fit]:
    """The trainings of a run, in the order they were made.

    >>> diary = [{"event": "fit", "learning_rate": 0.1}, {"event": "step", "step": 5, "loss": 2.0}]
    >>> fits([*diary, {"event": "validation", "step": 5, "loss": 2.5, "n": 40}])
    [Fit(learning_rate=0.1, train=((5, 2.0),), validation=((5, 2.5),), n=40, kept=None)]
    """
    found: list[dict[str, Any]] = []
    events, over = list(events), True
    told = any(entry.get("event") == "fit" for entry in events)
    for entry in events:
        kind, step = entry.get("event"), entry.get("step")
        if kind == "fit":
            found.append(_begun(entry.get("learning_rate")))
            over = False
        elif kind in ("step", "validation") and _number(step):
            last = found[-1]["train"][-1][0] if found and found[-1]["train"] else -math.inf
            if not told and (over or (kind == "step" and step <= last)):
                found.append(_begun(None))
                over = False
            if not found:
                continue
            loss = entry.get("loss")
            part = found[-1]["train" if kind == "step" else "validation"]
            part.append((step, float(loss) if _number(loss) else math.nan))
            if kind == "validation" and _number(entry.get("n")):
                found[-1]["n"] = entry["n"]
        elif kind == "kept" and found and _number(step):
            found[-1]["kept"] = step
        elif kind == "tried":
            if found and not over and math.isnan(found[-1]["learning_rate"]) and _number(entry.get("learning_rate")):
                found[-1]["learning_rate"] = entry["learning_rate"]
            over = True
    return [Fit(**one | {name: tuple(one[name]) for name in ("train", "validation")}) for one in found]


def _begun(rate: Any) -> dict[str, Any]:
    rate = float(rate) if _number(rate) else math.nan
    return {"learning_rate": rate, "train": [], "validation": [], "n": 0, "kept": None}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_curve(run_dir: str | Path) -> "pd.DataFrame":
    """A run's losses, one row each.

    Returns:
        Columns `fit` (1, 2, ... in the order made), `learning_rate` (NaN where the diary does not say), `part` ("train"
        or "validation"), `step`, `loss` (NaN where it was not finite); no row for a run that does not train.

    Raises:
        FtlibError: The folder has no diary.
    """
    import pandas as pd

    if not (Path(run_dir) / "events.jsonl").is_file():
        raise FtlibError(f"{run_dir}: no events.jsonl; allowed: a run's folder, such as reports/demo/runs/<run_id>")
    rows = [
        (number, fit.learning_rate, part, step, loss)
        for number, fit in enumerate(fits(read_events(run_dir)), 1)
        for part in ("train", "validation")
        for step, loss in getattr(fit, part)
    ]
    return pd.DataFrame(rows, columns=["fit", "learning_rate", "part", "step", "loss"])


class Rise(NamedTuple):
    """How far a validation loss rose from its lowest place to the end."""

    place: int
    """Index of the lowest mean loss."""
    value: float
    low: float
    high: float
    """1 - alpha interval for new seeds; NaN with one seed."""
    n_seeds: int

    @property
    def shown(self) -> bool:
        """Whether the rise is more than chance from seed to seed."""
        return self.low > 0


def rise(losses: ArrayLike, *, alpha: float = 0.05) -> Rise:
    """How far the validation loss rose until the end of training: above 0 it overfits.

    The lowest of several noisy losses is too low. So each seed's place is that of the lowest mean of the other seeds,
    and the rise, paired on seeds, gets Student's t; with one seed there are no others, and no interval.

    Args:
        losses: `(n_seeds, n_validations)`, the last one at the end of training.

    Raises:
        FtlibError: No such table, or losses that are not finite.

    Both seeds are lowest in the middle, and end 0.5 and 0.7 above that:

    >>> found = rise([[2.0, 1.0, 1.5], [2.0, 0.9, 1.6]])
    >>> found.place, round(found.value, 3), round(found.low, 3)  # 0.6 - 12.706 * 0.1
    (1, 0.6, -0.671)
    """
    table: Array = np.asarray(losses, dtype=float)
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise FtlibError(f"losses: found shape {table.shape}; allowed: (n_seeds, n_validations) finite numbers")
    place = int(table.mean(axis=0).argmin())
    if len(table) == 1:
        return Rise(place, float(table[0, -1] - table[0, place]), math.nan, math.nan, 1)
    others = [np.delete(table, seed, axis=0).mean(axis=0).argmin() for seed in range(len(table))]
    found = difference(table[:, -1], table[np.arange(len(table)), others], alpha=alpha)
    return Rise(place, found.value, found.low, found.high, len(table))
