"""Where an encoder's new head should start; writes docs/head.md.

    python benchmarks/bench_head.py [--folder build/head] [--out docs]

The study `reports/head`, run in FOLDER where it is not finished there: accuracy with a head drawn at random and with
one begun at a probe, the verdicts between the two, what either does to features that other tasks are read from, and
the seconds each takes.
"""

import argparse
from pathlib import Path

import pandas as pd
from _studies import ran, scores, suite_of, write

import ftlib as ft
from ftlib.stats import paired


def between(report):
    """The verdict on the two starts, for each task and method."""
    lines = []
    for row in report["verdicts"]:
        longer, shorter = sorted((row["a"], row["b"]), key=len, reverse=True)
        if longer == f"{shorter} head_init=linear_probe":
            lines.append(f"- {row['task']}: {row['sentence']}")
    return lines


def features(runs):
    """How much better another task is read from the features after training than before: a mean over seeds, points."""
    names = [name.removesuffix(".accuracy") for name in runs if name.startswith("after.features:")]
    names = [name.removeprefix("after.") for name in names if f"{name}.accuracy" in runs and name.count(".") == 1]
    lines = ["| trained on | read from the features | method | head | change, points | seeds |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for name in names:
        change = 100 * (runs[f"after.{name}.accuracy"] - runs[f"before.{name}.accuracy"])
        for (task, method, head), found in change.groupby([runs["task"], runs["method"], runs["head_init"]]):
            if found.notna().all() and method in ("full", "lora"):
                low, high = paired.t_interval(found.to_numpy())[1:]
                cells = f"{found.mean():.1f} ({low:.1f} to {high:.1f}) | {len(found)}"
                lines.append(f"| {task} | {name.removeprefix('features:')} | {method} | {head} | {cells} |")
    return lines


def seconds(runs):
    """Seconds of training, the start of the head included: with a linear probe, divided by without."""
    means = (
        runs[runs["method"].isin(["full", "lora"])]
        .groupby(["task", "method", "head_init"])["cost.train_seconds"]
        .mean()
    )
    ratios = (means.xs("linear_probe", level="head_init") / means.xs("new", level="head_init")).sort_values()
    return (
        f"Seconds of training, with a linear probe divided by without: {ratios.iloc[0]:.2f} to {ratios.iloc[-1]:.2f}."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default="build/head")
    parser.add_argument("--out", default="docs")
    options = parser.parse_args()
    report, _ = ran(options.folder, suite_of("head"))
    runs: pd.DataFrame = ft.read_runs(options.folder)
    text = [
        "# Initialisation of the classification head: random or linear probe",
        "",
        "Made by `python benchmarks/bench_head.py`.",
        "",
    ]
    text += ["## Accuracy", "", "400 examples, 50 steps, five seeds.", "", *scores(report), "", *between(report), ""]
    text += [seconds(runs), "", "## Features", "", *features(runs), ""]
    print("\n".join(text))
    write(Path(options.out) / "head.md", "\n".join(text))
