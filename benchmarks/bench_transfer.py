"""Transfer from text, from tasks and from larger models; writes docs/transfer.md.

    python benchmarks/bench_transfer.py [domain multitask transfer] [--folder FOLDER] [--out docs]

The studies of these names in `reports`, each run in FOLDER where it is not finished there. Of each: every method's
score on the task's test texts, and on those of another domain where the task has some; what a task gained or lost by
what else was trained on, in the report's sentences; of transfer, the verdicts on what the study asks.
"""

import argparse
import sys
from pathlib import Path

from _studies import ran, scores, suite_of, write

STUDIES = {
    "domain": "Reading the domain's text first, and a task met in another domain",
    "multitask": "One model for three tasks: jointly, in sequence, or one model each",
    "transfer": "A large model's answers, adapters of other tasks",
}
TAUGHT = "distill epochs=2 min_steps=40 soft=1"
ASKED = {
    "does the teacher's answer help the student, at as many steps?": (
        "distill epochs=2 min_steps=40 soft=1",
        "distill epochs=12 soft=0",
    ),
    "is the student as good as its teacher?": (TAUGHT, "full"),
    "is merging as good as learning at once?": ("merged combination=linear", "lora joint_tasks=bios,reviews"),
    "is merging as good as an adapter of its own?": ("merged combination=linear", "lora"),
    "does starting from another task's adapter help?": ("lora sequential_tasks=bios", "lora"),
    "does stacking on another task's adapter help?": ("stacked", "lora"),
}
"""What transfer asks, and the two names in its report that answer."""


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
    parser.add_argument("--folder", default="build/transfer")
    parser.add_argument("--out", default="docs")
    options = parser.parse_args()
    text = ["# Transfer: measured", "", "Made by `python benchmarks/bench_transfer.py`.", ""]
    for name in options.studies:
        report, seconds = ran(Path(options.folder) / name, suite_of(name))
        took = f" ({seconds / 60:.0f} minutes)" if seconds else ""
        text += [f"## {STUDIES[name]}{took}", "", *scores(report), ""]
        text += [*(f"- {row['sentence']}" for row in report["transfer"]), ""]
        if name == "transfer":
            text += [*answers(report), ""]
    print("\n".join(text))
    write(Path(options.out) / "transfer.md", "\n".join(text))
