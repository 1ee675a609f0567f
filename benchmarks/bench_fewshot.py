"""The few-shot study on four tasks, or some of them: how long it takes and what it says; writes docs/fewshot.md.

    python benchmarks/bench_fewshot.py [pydocs ag_news sst2 banking77] [--samples 3] [--folder FOLDER] [--out docs]

pydocs is `reports/fewshot` as it is: ten samples, wanted within 20 minutes on 2 cores. The others are the same study on
`../shared/data`, with three samples (`--samples`), to take less time. Some class of Banking77 (77
classes) has too few examples for the largest number of shots and gives all it has; there the prompt of all classes
does not fit the bundled decoder and is left out. A study that is finished in FOLDER is not run again: its report is
read.
"""

import argparse
import sys
from pathlib import Path

from _studies import SHARED, ran, suite_of, write

WORDS = 'label_words = {"0" = "negative", "1" = "positive"}'
TASKS = {
    "pydocs": {},
    "ag_news": {},
    "sst2": {"more": WORDS},
    "banking77": {},
}
WANTED = 20 * 60


def suite(name, draws, more=""):
    """The suite file of a task, from that of pydocs."""
    text = suite_of("fewshot")
    if name == "pydocs":
        return text
    text = text.replace('task = "pydocs"', f'task = "file:{SHARED / name}"\n{more}')
    text = text.replace("margin = 0.02\n", f"margin = 0.02\nseeds = {list(range(draws))}\n")
    if name == "banking77":
        text = text.replace(
            "shots = [1, 2, 4, 8, 16, 32, 64]", 'shots = [1, 2, 4, 8, 16, 32, 64]\nshort_classes = "all"'
        )
        text = text[: text.index("[[runs]]                    # examples in the prompt")]
    return text


def lines_of(name, report, seconds):
    """What a report says, as Markdown."""
    took = f" ({seconds / 60:.1f} minutes)" if seconds else ""
    (advice,) = (one for one in report["advice"])
    draws = max((row["n_draws"] for row in report["crossovers"]), default=0)
    found = [f"## {name}", "", f"{draws} samples{took}. **{advice['headline']}**", ""]
    found += ["| labels per class | best |", "| --- | --- |"]
    found += [f"| {at} | {said} |" for at, said in advice["ranks"]]
    found += ["", *(f"- {line}" for line in advice["reasons"])]
    found += ["", "Where one method overtakes another:", ""]
    return [*found, *(f"- {row['sentence']}" for row in report["crossovers"] if not row["reason"]), ""]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--folder", default="build/fewshot")
    parser.add_argument("--out", default="docs")
    options = parser.parse_args()
    text, slow = ["# The few-shot study, task by task", ""], False
    for name in options.tasks:
        if name != "pydocs" and not SHARED.exists():
            print(f"{name}: skipped, since ../shared/data is not beside the checkout")
            continue
        report, seconds = ran(Path(options.folder) / name, suite(name, options.samples, **TASKS[name]))
        slow = slow or (name == "pydocs" and seconds > WANTED)
        text += lines_of(name, report, seconds)
    print("\n".join(text))
    write(Path(options.out) / "fewshot.md", "\n".join(text))
    sys.exit(slow)
