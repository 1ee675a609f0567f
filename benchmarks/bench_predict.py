"""`ftlib predict` on a million rows: rows a second and peak memory of each method; writes docs/predict.md.

    python benchmarks/bench_predict.py [tfidf static probe] [--rows 1000000] [--probe-rows 10000]
        [--task pydocs] [--threads 1] [--folder build/predict] [--out docs]

The models are fitted to 2,000 examples of the task and saved; the rows are its texts, again and again, in a CSV. Each
method answers in a process of its own. The linear probe's time is MiniLM's, for every row alike, so it gets fewer rows
unless told otherwise. What FOLDER holds of a method is not measured again.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

from _studies import processor, write

import ftlib
from ftlib.config.experiment import Experiment
from ftlib.core.format import size
from ftlib.models import export

TRAIN, LENGTH = 2000, 64
CHILD = """
import json, sys
from ftlib.execution.predict import predict
from ftlib.records.provenance import peak_memory
said = predict(*sys.argv[1:4], threads=int(sys.argv[4]))
print(json.dumps([said.rows, said.cut, said.seconds, peak_memory()["peak_memory_bytes"]]))
"""


def saved(method, task, folder):
    """The folder of a method's model, made where it is not there."""
    if not (folder / export.FACTS).exists():
        spec = Experiment(task=task, method=method, train_limit=TRAIN, max_length=LENGTH, dtype="float32")
        predictor = ftlib.adapt(spec, ftlib.open_task(spec), ftlib.open_model(spec)).predictor
        export.write(folder, predictor.saved.ready(spec, precise=True))
    return folder


def rows_of(task, path, n):
    """A CSV of so many rows, and the characters of a text in the mean."""
    splits = ftlib.load_task(task).splits
    texts = [text for split in ("train", "test") for text in splits[split]["text"]]
    if not path.exists():
        with path.open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file)
            out.writerow(["id", "text"])
            out.writerows([place, texts[place % len(texts)]] for place in range(n))
    return path, sum(map(len, texts)) / len(texts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=["tfidf", "static", "probe"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--probe-rows", type=int, default=10_000)
    parser.add_argument("--task", default="pydocs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("build/predict"))
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args()
    for folder in (options.folder, options.out):
        folder.mkdir(parents=True, exist_ok=True)
    lines, characters = [], 0.0
    for method in options.methods:
        n = options.probe_rows if method == "probe" else options.rows
        source, characters = rows_of(options.task, options.folder / f"{n}.csv", n)
        kept = options.folder / f"{method}-{n}.json"
        if not kept.exists():
            model, out = saved(method, options.task, options.folder / method), options.folder / f"{method}.csv"
            told = subprocess.run(
                [sys.executable, "-c", CHILD, str(model), str(source), str(out), str(options.threads)],
                env=os.environ | {"OMP_NUM_THREADS": str(options.threads), "TOKENIZERS_PARALLELISM": "false"},
                stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            with out.open(encoding="utf-8", newline="") as file:
                assert sum(1 for _ in csv.reader(file)) == n + 1, "a row in is a row out"
            kept.write_text(told.stdout, encoding="utf-8")
        rows, cut, seconds, memory = json.loads(kept.read_text(encoding="utf-8"))
        lines.append(f"| {method} | {rows:,} | {cut:,} | {seconds:,.0f} s | {rows / seconds:,.0f} | {size(memory)} |")
        print(lines[-1], flush=True)
    text = [
        "# Predictions for a million rows",
        "",
        "Made by `python benchmarks/bench_predict.py`.",
        "",
        f"`ftlib predict MODEL_DIR rows.csv --out labels.csv`, threads: {options.threads}, on {processor()}. Texts of "
        f"{Path(options.task).name}, {characters:.0f} characters in the mean; models fitted to {TRAIN:,} of them, cut "
        f"after {LENGTH} tokens. "
        "Seconds are of reading, answering and writing; memory is the process's peak.",
        "",
        "| method | rows | cut | took | rows a second | peak memory |",
        "| --- | --- | --- | --- | --- | --- |",
        *lines,
        "",
        "Rows are read, answered and written 4,096 at a time, so memory does not grow with their number.",
        "",
    ]
    write(options.out / "predict.md", "\n".join(text))
