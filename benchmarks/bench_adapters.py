"""Adapters, full fine-tuning and the linear probe, with equal tuning budgets, on two tasks; writes docs/adapters.md.

    python benchmarks/bench_adapters.py [pydocs sst2] [--folder build/adapters] [--out docs]

The study `reports/adapters` on pydocs and on SST-2 (`../shared/data`), as one study of the tasks that are named, both
as a rule: three seeds, three learning rates for every method that trains, chosen on validation. A study that is
finished in FOLDER is not run again: its report is read.
"""

import argparse
import sys
from pathlib import Path

from _studies import SHARED, processor, ran, suite_of, write

from ftlib.records import records_of

DATA = SHARED / "sst2"


def suite(tasks):
    """The suite file of these tasks, from that of pydocs."""
    text = suite_of("adapters")
    if tasks == ["pydocs"]:
        return text
    same, *runs = text.split("[[runs]]")
    more = f'\ntask = "file:{DATA}"\nlabel_words = {{"0" = "negative", "1" = "positive"}}'
    return "[[runs]]".join([same, *(runs if "pydocs" in tasks else []), *(more + run for run in runs)])


COSTS = {
    "train_seconds": ("training, s", 1.0),
    "peak_memory_bytes": ("peak memory, GB", 1e9),
    "trainable_parameters": ("trainable parameters", 1.0),
}


def shares(study):
    """Method -> trainable share of its parameters, in percent."""
    costs = {record.spec["resolved"]["method"]: record.cost for _, record in records_of(study)}
    known = {name: cost for name, cost in costs.items() if name not in ("tfidf", "majority")}
    return {name: 100 * cost["trainable_parameters"] / cost["total_parameters"] for name, cost in known.items()}


def table(report, task, trainable):
    """One line per method, as Markdown: quality, cost, and how surely it is on the front."""
    fronts = [row for row in report["pareto"] if row["task"] == task]
    names = {row["name"]: row for row in fronts}
    sure = {(row["name"], row["cost"]): row for row in fronts}
    head = ["method", "accuracy", "trainable, %", *(f"{COSTS[cost][0]} (on the front)" for cost in COSTS)]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for name, row in sorted(names.items(), key=lambda item: -item[1]["value"]):
        cells = [f"{float(f'{trainable[name]:.2g}'):g}" if name in trainable else "no model"]
        for cost, (_, unit) in COSTS.items():
            found = sure.get((name, cost))
            if not found:
                cells.append("not available")
                continue
            value = found["cost_value"] / unit
            shown = f"{value:,.0f}" if cost == "trainable_parameters" else f"{value:.3g}"
            cells.append(f"{shown} ({found['probability']:.2f})")
        lines.append(f"| {name} | {row['value']:.3f} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=["pydocs", "sst2"])
    parser.add_argument("--folder", default="build/adapters")
    parser.add_argument("--out", default="docs")
    options = parser.parse_args()
    if unknown := set(options.tasks) - {"pydocs", "sst2"}:
        parser.error(f"tasks: found {', '.join(sorted(unknown))}; allowed: pydocs, sst2")
    if "sst2" in options.tasks and not DATA.exists():
        sys.exit("skipped: SST-2 is not at ../shared/data, beside the checkout")
    study = Path(options.folder)
    report, _ = ran(study, suite(options.tasks))
    trainable = shares(study)
    text = ["# Adapters, equally tuned", "", f"Made by `python benchmarks/bench_adapters.py`; {processor()}.", ""]
    text += [
        "Three seeds, three learning rates each, chosen on validation and counted in the seconds. In brackets: the"
    ]
    text += ["probability that the method is on the Pareto front of accuracy and this cost.", ""]
    for advice in report["advice"]:
        task = "SST-2" if "sst2" in advice["task"] else advice["task"]
        text += [f"## {task}", "", f"**{advice['headline']}**", "", *table(report, advice["task"], trainable), ""]
        text += [*(f"- {line}" for line in advice["reasons"]), ""]
    print("\n".join(text))
    write(Path(options.out) / "adapters.md", "\n".join(text).replace(str(DATA), "sst2"))
