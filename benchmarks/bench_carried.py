"""What is carried over from text, from tasks and from larger models; writes docs/carried.md.

    python benchmarks/bench_carried.py [domain multitask transfer] [--folder FOLDER] [--out docs]

The studies of these names in `reports`, each run in FOLDER where it is not finished there. Of each: every method's
score on the task's test texts, and on those of another domain where the task has some; what a task gained or lost by
what else was trained on, in the report's sentences; of transfer, the verdicts on what the study asks.
"""

import argparse
import sys
from pathlib import Path

from _studies import ran, suite_of

STUDIES = {
    "domain": "Reading the domain's text first, and a task met in another domain",
    "multitask": "One model for three tasks: at once, one after the other, or each its own",
    "transfer": "A large model's answers, adapters of other tasks",
}
TAUGHT = "distill epochs=2 min_steps=40 soft=1"
ASKED = {
    "does the teacher's answer help the student, at as many steps?": (
        "distill epochs=2 min_steps=40 soft=1",
        "distill epochs=12 soft=0",
    ),
    "is the student as good as its teacher?": (TAUGHT, "full"),
    "is merging as good as learning at once?": ("merged combination=linear", "lora together=bios,reviews"),
    "is merging as good as an adapter of its own?": ("merged combination=linear", "lora"),
    "does beginning at another task's adapter help?": ("lora earlier=bios", "lora"),
    "does standing on another task's adapter help?": ("stacked", "lora"),
}
"""What transfer asks, and the two names in its report that answer."""


def scores(report):
    """A line per task, method and test part: the primary metric over seeds, after training and before."""
    found = {}
    for row in report["rows"]:
        part = row["part"]
        if row["metric"] == "accuracy" and (part == "test" or part.startswith("tests.")) and row["value"] is not None:
            key = row["task"], part, row["model"], row["method"], row["settings"]
            found.setdefault(key, {})[row["stage"]] = row
    lines = [
        "| task | texts | model | method | before, % | after, % | seeds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for key, stages in found.items():
        if "after" in stages:
            cells = [percent(stages.get(stage)) for stage in ("before", "after")]
            task, part, model, *method = key
            lines.append(
                f"| {task} | {part} | {model} | {' '.join(method)} | {' | '.join(cells)} | {stages['after']['seeds']} |"
            )
    return lines


def percent(row):
    """A share with its interval; a dash where it was not measured."""
    return f"{100 * row['value']:.1f} ({100 * row['low']:.1f} to {100 * row['high']:.1f})" if row else "-"


def answers(report):
    """The verdicts that answer what transfer asks."""
    told = {frozenset((row["a"], row["b"])): row["sentence"] for row in report["verdicts"]}
    missing = [names for names in ASKED.values() if frozenset(names) not in told]
    if missing:
        sys.exit(f"transfer: nothing compares {missing}; there are {sorted({name for pair in told for name in pair})}")
    return [f"- {question} {told[frozenset(names)]}" for question, names in ASKED.items()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", default=list(STUDIES))
    parser.add_argument("--folder", default="build/carried")
    parser.add_argument("--out", default="docs")
    options = parser.parse_args()
    text = ["# What is carried over: measured", "", "Made by `python benchmarks/bench_carried.py`.", ""]
    for name in options.studies:
        report, seconds = ran(Path(options.folder) / name, suite_of(name))
        took = f" ({seconds / 60:.0f} minutes)" if seconds else ""
        text += [f"## {STUDIES[name]}{took}", "", *scores(report), ""]
        text += [*(f"- {row['sentence']}" for row in report["carried"]), ""]
        if name == "transfer":
            text += [*answers(report), ""]
    print("\n".join(text))
    (Path(options.out) / "carried.md").write_text("\n".join(text), encoding="utf-8")
