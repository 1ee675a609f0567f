"""Sequences of four real tasks, as for BERT, and the trade-off of task and forgetting; writes docs/forgetting.md.

    python benchmarks/bench_forgetting.py [tradeoff remedies sequence] [--seeds 5] [--folder FOLDER] [--out docs]

sequence: question types (TREC), news (AG News), intents (Banking77, its ten most frequent) and sentiment (SST-2), in
this order, one model, 300 examples of each: full fine-tuning at a high rate and at a low one, LoRA at two rates. Once
with four passes over each task, and once with twelve, since at a low rate four teach little, and who learned little
has little to forget.
Published for BERT-base on RTE, MRPC, CoLA and SST-2 over five seeds: 19.9 +/- 4.8 points forgotten by full fine-tuning,
0.6 +/- 1.4 by LoRA (arXiv 2603.27707). A verdict on the difference, and on whether it turns at the lower rate.
tradeoff: the first part of `reports/forgetting`, a language model; wanted within 15 minutes on 2 cores.
remedies: all of `reports/forgetting`.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from _studies import SHARED, ran, suite_of, write

import ftlib as ft
from ftlib.metrics.continual import matrix
from ftlib.records import records_of

WORDS = {
    "trec6": {
        "ABBR": "abbreviation",
        "DESC": "description",
        "ENTY": "thing",
        "HUM": "person",
        "LOC": "place",
        "NUM": "number",
    },  # fmt: skip
    "ag_news": {"0": "world", "1": "sport", "2": "business", "3": "technology"},
    "sst2": {"0": "negative", "1": "positive"},
}
SEQUENCE = """
[study]
question = "Does full fine-tuning forget more than LoRA, and does that turn when its learning rate is lowered?"
[plan]
primary = "accuracy"
margin = 0.01
seeds = {seeds}
[defaults]
task = "file:{folder}/sst2"
sequential_tasks = ["file:{folder}/trec6", "file:{folder}/ag_news", "file:{folder}/banking10"]
model = "minilm"
train_limit = 300
eval_limit = 200
max_length = 48
epochs = {epochs}
[[runs]]
method = "full"
learning_rate = [2e-4, {low}]
[[runs]]
method = "lora"
learning_rate = [3e-4, 1e-3]
"""
PASSES = {4.0: 1e-5, 12.0: 3e-5}
"""Passes over each task, and full fine-tuning's low rate."""
WANTED = 15 * 60
UNITS = "Bits per byte of documentation, and by how much those of general English rose; three seeds, 95 % intervals."


def prepared(folder):
    """The four tasks with labels in words, and of Banking77 the ten intents that are most frequent in train."""
    for name in ("trec6", "ag_news", "banking77", "sst2"):
        task = ft.load_task(f"file:{SHARED / name}")
        kept = list(task.labels)
        if name == "banking77":
            kept = task.splits["train"]["label"].value_counts().index[:10].tolist()
        target = folder / ("banking10" if name == "banking77" else name)
        target.mkdir(parents=True, exist_ok=True)
        for split, rows in task.splits.items():
            rows = rows[rows["label"].isin(kept)]
            known = WORDS.get(name, {})
            words = rows["label"].map(lambda label, known=known: known.get(label, label.replace("_", " ")))
            table = pd.DataFrame({"text": rows["text"], "label": words})
            table.to_csv(target / f"{split}.csv", index=False, quoting=csv.QUOTE_ALL)


def tradeoff_suite():
    """The first part of reports/forgetting: small steps, part of the way, replay."""
    text = suite_of("forgetting")
    return text[: text.index("# Other remedies:")]


def sequence_lines(study, report, epochs):
    """Forgetting of each method, and the verdicts."""
    table = ft.read_runs(study)
    matrices = {record.run_id: matrix(record.metrics, record.spec["resolved"]) for _, record in records_of(study)}
    found = [f"## A sequence of four tasks, {epochs:g} passes over each", ""]
    found += ["Points, mean and standard deviation over seeds:", ""]
    found += [
        "| method | learning rate | seeds | after its own training | forgotten, first-based | max-based | at the end |"
    ]
    found += ["| --- | --- | --- | --- | --- | --- | --- |"]
    table = table[table["after.sequence.forgetting_first"].notna()]
    for (method, rate), rows in table.groupby(["method", "learning_rate"]):
        # Whoever learned little has little to forget.
        learned = 100 * np.array([np.diag(matrices[run_id]).mean() for run_id in rows["run_id"]])
        cells = [f"{learned.mean():.1f} +/- {learned.std(ddof=1):.1f}"]
        for name in ("forgetting_first", "forgetting_max", "average_accuracy"):
            values = 100 * rows[f"after.sequence.{name}"]
            cells.append(f"{values.mean():.1f} +/- {np.std(values, ddof=1):.1f}")
        found.append(f"| {method} | {rate:g} | {len(rows)} | {' | '.join(cells)} |")
    verdicts = [row["sentence"] for row in report["sequences"] if row.get("sentence")]
    said = (
        "What was never learned cannot be forgotten: "
        "read the points forgotten together with those reached after own training."
    )
    return [*found, "", said, "", *(f"- {one}" for one in verdicts), ""]


def tradeoff_lines(report, task):
    """The points of the trade-off: quality on the task beside what was forgotten."""
    found = ["| setting | on the task | forgotten |", "| --- | --- | --- |"]
    for row in report["tradeoff"]:
        if row["task"] == task:
            scale, digits = (100, 1) if row["metric"] == "accuracy" else (1, 3)
            value, lost = (
                [scale * row[name] for name in names]
                for names in (("value", "low", "high"), ("forgotten", "forgotten_low", "forgotten_high"))
            )
            cells = "{:.{d}f} ({:.{d}f} to {:.{d}f})".format(*value, d=digits)
            cells += " | {:+.{d}f} ({:+.{d}f} to {:+.{d}f})".format(*lost, d=digits)
            found.append(f"| {row['name']}{'; chosen' if row['chosen'] else ''} | {cells} |")
    return [*found, ""]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["tradeoff", "remedies", "sequence"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", default="build/forgetting")
    parser.add_argument("--out", default="docs")
    options = parser.parse_args()
    folder, text, slow = Path(options.folder), ["# What is forgotten: measured", ""], False
    if "tradeoff" in options.parts:
        report, seconds = ran(folder / "tradeoff", tradeoff_suite())
        slow = seconds > WANTED
        took = f" ({seconds / 60:.1f} minutes)" if seconds else ""
        text += [
            f"## The trade-off of task and forgetting: tiny-lm adapted to pydocs' text{took}",
            "",
            UNITS,
            "",
            *tradeoff_lines(report, "pydocs_text"),
        ]
    if "remedies" in options.parts:
        report, _ = ran(folder / "whole", suite_of("forgetting"))
        text += ["## Every remedy: `reports/forgetting`", "", UNITS, "", *tradeoff_lines(report, "pydocs_text")]
        text += [
            "Reviews, then occupations, then libraries; points of accuracy on the last, and points forgotten of the"
        ]
        text += ["others since each was learned:", "", *tradeoff_lines(report, "pydocs")]
        text += [*(f"- {row['sentence']}" for row in report["sequences"] if row.get("sentence")), ""]
    if "sequence" in options.parts and not SHARED.exists():
        print("sequence: skipped, since ../shared/data is not beside the checkout")
    elif "sequence" in options.parts:
        if not (folder / "data" / "sst2" / "test.csv").exists():
            prepared(folder / "data")
        for epochs, low in PASSES.items():
            study, given = folder / f"sequence_{epochs:g}", {"seeds": list(range(options.seeds)), "low": low}
            report, _ = ran(study, SEQUENCE.format(folder=(folder / "data").as_posix(), epochs=epochs, **given))
            text += sequence_lines(study, report, epochs)
    print("\n".join(text))
    write(Path(options.out) / "forgetting.md", "\n".join(text))
    sys.exit(slow)
