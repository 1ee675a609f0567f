"""What `ftlib plan` predicts beside what the runs then need; writes docs/forecast.md.

    python benchmarks/bench_forecast.py [--limit 2000] [--seeds 3] [--jobs 2] [--folder FOLDER] [--out docs]

A real study, planned and run as a user would: MiniLM, tiny-lm, and a BERT of 110 million random parameters made here.
Wanted: peak memory within 20 % and time within 30 % of what it was, of every kind of run that takes a second or more.
The cache is the study's own, so that nothing is spared. A study that is finished in FOLDER is not run again.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from _studies import ROOT, processor, write

SUITE = """
[study]
question = "What will it need, and what did it need?"
[plan]
seeds = {seeds}
[plan.tasks.pydocs_text]
primary = "bits_per_byte"
margin = 0.02
[defaults]
task = "pydocs"
model = "minilm"
train_limit = {limit}
eval_limit = 300
[[runs]]
method = ["zero_shot", "probe", "lora", "full"]
[[runs]]
method = ["zero_shot", "probe"]
model = "{large}"
train_limit = {few}
eval_limit = 100
[[runs]]
method = ["lora", "full"]
model = "{large}"
train_limit = {few}
eval_limit = 100
epochs = 2.0
[[runs]]
task = "pydocs_text"
model = "tiny-lm"
train_limit = {few}
eval_limit = 40
method = ["lora", "full"]
epochs = 1.0
"""
MEMORY, TIME = 0.20, 0.30
BRIEF = 1.0
"""Seconds below which a time is mostly noise and is shown, not judged."""


def suite(limit: int, seeds: int, large: Path) -> str:
    """The suite file."""
    few = max(32, limit // 10)
    return SUITE.format(seeds=list(range(seeds)), limit=limit, few=few, large=large.as_posix())


def larger(folder: Path) -> Path:
    """A BERT of the usual size with random weights, and MiniLM's words."""
    import transformers

    from ftlib.models import weights

    if not (folder / "config.json").exists():
        words = transformers.AutoTokenizer.from_pretrained(weights.find("minilm").folder, local_files_only=True)
        transformers.BertModel(transformers.BertConfig(vocab_size=len(words))).save_pretrained(folder)
        words.save_pretrained(folder)
    return folder


def judged(row) -> str:
    """Whether a row keeps the promise; empty where none is made."""
    if row.what == "checkpoint_bytes" or (row.what == "seconds" and row.actual < BRIEF):
        return ""
    most = MEMORY if row.what == "peak_memory_bytes" else TIME
    return "yes" if abs(row.ratio - 1) <= most else "**no**"


def shown(row, value: float) -> str:
    """A value in its unit."""
    from ftlib.core.format import size

    return f"{value:.1f} s" if row.what == "seconds" else size(value)


def page(rows, spent: dict[str, float], jobs: int, machine: str) -> str:
    """docs/forecast.md."""
    names = {"peak_memory_bytes": "peak memory", "seconds": "training and evaluation", "checkpoint_bytes": "to store"}
    lines = ["# What was predicted, and what was so", ""]
    lines += [
        f"Made by `python benchmarks/bench_forecast.py`; {machine}, {jobs} runs at a time. "
        f"Planning took {spent['plan']:.0f} s, running {spent['run']:.0f} s. "
        "Ratio: predicted / actual, of the means over the runs, and of single runs from the lowest to the highest. "
        f"Wanted: memory within {MEMORY:.0%}, time within {TIME:.0%}; times under {BRIEF:g} s are not judged.",
        "",
        "| task | model | method | what | predicted | actual | ratio | single runs | n | within |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        single = f"{row.lowest:.2f} to {row.highest:.2f}"
        values = f"{shown(row, row.predicted)} | {shown(row, row.actual)} | {row.ratio:.2f} | {single} | {row.n}"
        model = Path(row.model).name
        lines.append(f"| {row.task} | {model} | {row.method} | {names[row.what]} | {values} | {judged(row)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Plan, run, compare; 1 where a promise was not kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", default="build/forecast")
    parser.add_argument("--out", default="docs")
    options = parser.parse_args()
    from ftlib.execution.planning.estimate import read
    from ftlib.records import records_of
    from ftlib.report.sections.costs import against

    study = Path(options.folder).resolve()
    study.mkdir(parents=True, exist_ok=True)
    spent = {}
    text = suite(options.limit, options.seeds, larger(study / "bert-110m"))
    (study / "suite.toml").write_text(text, encoding="utf-8")
    for command in ("plan", "run"):
        start, took = time.perf_counter(), study / f"{command}.seconds.txt"
        if not took.exists():
            asked = [sys.executable, "-m", "ftlib", command, str(study), "--jobs", str(options.jobs)]
            if subprocess.call(asked, cwd=ROOT, env=os.environ | {"FTLIB_CACHE": str(study / "cache")}):
                sys.exit(f"ftlib {command} failed")
            took.write_text(f"{time.perf_counter() - start:.0f}", encoding="utf-8")
        spent[command] = float(took.read_text(encoding="utf-8"))
    assert read(study)
    rows = against(records_of(study))
    text = page(rows, spent, options.jobs, processor())
    print(text)
    write(Path(options.out) / "forecast.md", text)
    return any("no" in judged(row) for row in rows)


if __name__ == "__main__":
    sys.exit(main())
