"""The run's diary: what it is doing now, and what it did."""

import json
import math
import time
from pathlib import Path
from typing import Any


class Events:
    """The run's diary, `events.jsonl`: what it is doing now, one JSON object a line, appended as it happens.

    With no folder somebody is watching: training steps are shown on one line, with an estimate of what is left.
    """

    def __init__(self, run_dir: str | Path | None = None) -> None:
        self.path = Path(run_dir) / "events.jsonl" if run_dir else None
        self.entries: list[dict[str, Any]] = []
        self._started = time.monotonic()

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
        elif event == "step":
            step, of, loss = facts["step"], facts["of"], facts["loss"]
            left = (time.monotonic() - self._started) / step * (of - step)
            print(f"\rstep {step} of {of}, loss {loss:.3f}, about {left:.0f} s left   ", end="", flush=True)

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
    """The run's diary; a last line that is still being written is left out."""
    path = Path(run_dir) / "events.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]
