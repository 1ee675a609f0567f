"""Few-shot studies made up from code: methods x examples per class x draws, with skills that are known.

`python tests/curves.py FOLDER [TASKS]` makes one up and times the report over it.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from math import log2, log10
from pathlib import Path

import numpy as np
from synthetic import LIBRARIES, Made, values, write_study

from ftlib import records

SHOTS = (1, 2, 4, 8, 16, 32, 64)
SKILLS: Mapping[str, Callable[[int], float]] = {
    "probe": lambda k: -0.9 + 0.40 * log2(k),
    "setfit": lambda k: -0.5 + 0.45 * log2(k),
    "lora": lambda k: -2.6 + 0.75 * log2(k),
    "full": lambda k: -2.0 + 0.75 * log2(k),
}
"""Log-odds of being right at k examples per class. full and setfit cross at log2 k = 5 (32), full and probe at 3.14
(8.8), lora and setfit beyond 64; setfit is always above probe."""


def rising(
    methods: Sequence[str] = tuple(SKILLS),
    shots: Sequence[int] = SHOTS,
    draws: int = 10,
    task: str = "",
    shift: float = 0.0,
) -> list[Made]:
    """The runs of a few-shot study of one task, with zero-shot and TF-IDF on all labels beside it."""
    more = {"task": task} if task else {}
    made = [Made("majority", -2.0, fields=more), Made("tfidf", 0.9 + shift, fields=more)]
    made.append(Made("zero_shot", -0.12, fields=more, as_before=True))
    return made + [
        Made(method, SKILLS[method](k) + shift, range(draws), more | {"shots": k}) for method in methods for k in shots
    ]


def swept(seeds: Sequence[int] = (0, 1, 2)) -> list[Made]:
    """The runs of a learning-rate sweep whose tops are at 3e-4 (full) and 3e-3 (lora), with zero-shot beside it."""
    made = [Made("zero_shot", -1.0, as_before=True)]
    for top, method in ((3e-4, "full"), (3e-3, "lora")):
        for factor in (0.1, 0.33, 1.0, 3.3):
            skill = 1.0 - 2.0 * log10(factor) ** 2
            made.append(Made(method, skill, seeds, {"learning_rate": round(top * factor, 8)}))
    return made


def run_of(study: Path, **fields: object) -> Path:
    """The folder of the one run whose spec has these values."""
    found = []
    for path in sorted(study.glob("runs/*/spec.json")):
        resolved = json.loads(path.read_text())["resolved"]
        if all(resolved[name] == value for name, value in fields.items()):
            found.append(path.parent)
    (run,) = found
    return run


def collapse(run: Path, label: str, share: float = 1.0, labels: tuple[str, ...] = LIBRARIES) -> None:
    """Make a run give (nearly) every example the same label, its record with it."""
    table = records.read_predictions(run)
    here = np.flatnonzero((table["stage"] == "after").to_numpy())
    table.loc[here[: round(share * len(here))], "prediction"] = label
    table.to_parquet(run / "predictions.parquet", index=False)
    record = json.loads((run / "record.json").read_text())
    record["metrics"]["after"]["test"] = values(table.iloc[here], labels)
    (run / "record.json").write_text(json.dumps(record))


def in_files(study: Path, size: int = 5) -> None:
    """Say of every test example from which file it is: `size` from each."""
    for path in study.glob("runs/*/predictions.parquet"):
        table = records.read_predictions(path.parent)
        table["cluster"] = [f"file-{int(name.rpartition('-')[2]) // size}" for name in table["id"]]
        table.to_parquet(path, index=False)


def main(folder: str, tasks: str = "1") -> None:
    """Make up a study of that many tasks and time its report."""
    from ftlib.report import build

    study, made = Path(folder), []
    if not study.exists():
        for number in range(int(tasks)):
            name = f"file:{study.parent / f'task{number}.csv'}" if number else ""
            if number:
                (study.parent / f"task{number}.csv").write_text("text,label\n")
            made += rising(task=name, shift=0.3 * number)
        write_study(study, made, n=800, labels=LIBRARIES[:4], plan={"margin": 0.02}, noise=0.15)
    start = time.perf_counter()
    build.build(study)
    print(f"{time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
