"""Do I need a transformer at all? TF-IDF, static and the linear probe from 1 label per class on; writes docs/static.md.

    python benchmarks/bench_static.py [sst2 trec6 banking77 ag_news pydocs] [--samples 3] [--methods tfidf static probe]
        [--out docs]

1 to 64 labels per class (all of a class that has fewer), and 2,000 examples, each in samples, the same ones for every
method. Public tasks are read from `../shared/data`.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from _studies import SHARED, write

import ftlib
from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core.atomic import clock
from ftlib.models.loading import load_model
from ftlib.records.provenance import device_name
from ftlib.stats.multiple import compare_all

TASKS = ("sst2", "trec6", "banking77", "ag_news", "pydocs")
PAIRS = (("static", "tfidf"), ("probe", "static"))
RUNGS = (1, 2, 4, 8, 16, 32, 64, 0)
"""Labels per class; 0: 2,000 examples in all."""
MARGIN, TEST, LENGTH = 0.01, 1000, 64


def answers(name, model, samples, methods):
    """(rung, method) -> (n_samples, n_test) whether each test text was answered rightly; and seconds of predicting."""
    read = f"file:{SHARED / name}" if name != "pydocs" else name
    task = ftlib.load_task(read)
    test, found, took = task.test_set(TEST), {}, dict.fromkeys(methods, np.inf)
    texts, truth = test["text"].tolist(), test["label"].to_numpy()
    for rung in RUNGS:
        drawn = (
            {"shots": rung, "short_classes": "all"} if rung else {"train_limit": min(2000, len(task.splits["train"]))}
        )
        for method in methods:
            rows = []
            for seed in range(samples):
                spec = Experiment(task=read, method=method, seed=seed, max_length=LENGTH, **drawn)
                predictor = METHODS[method].prepare()(model, spec, task, task.draw(**spec.drawing()))
                start = clock()
                scores = predictor.probabilities(texts)
                took[method] = min(took[method], clock() - start)
                rows.append(np.asarray(task.labels)[scores.argmax(axis=1)] == truth)
            found[rung, method] = np.array(rows, float)
        print(name, rung or "2,000 in all", *(f"{m} {found[rung, m].mean():.3f}" for m in methods), flush=True)
    return found, {method: len(texts) / seconds for method, seconds in took.items()}


def lines_of(name, found, verdicts, speeds, pairs):
    """A task's table, as Markdown."""
    head = ["labels per class", *speeds, *(f"{a} against {b}" for a, b in pairs)]
    lines = [f"## {name}", "", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for rung in RUNGS:
        means = [f"{100 * found[rung, method].mean():.1f}" for method in speeds]
        said = []
        for pair in pairs:
            one = verdicts[name, rung, *pair]
            said.append(f"{one.verdict}: {100 * one.difference:+.1f} ({100 * one.low:.1f} to {100 * one.high:.1f})")
        lines.append(f"| {rung or '2,000 in all'} | {' | '.join([*means, *said])} |")
    return [*lines, "", "Texts a second: " + ", ".join(f"{m} {speed:,.0f}" for m, speed in speeds.items()) + ".", ""]


def summary(verdicts, names):
    """Where static beats TF-IDF and where it does not, in words."""
    for verdict, said in (
        ("better", "static is better than TF-IDF (by verdict)"),
        ("worse", "static is worse than TF-IDF"),
        ("undecided", "neither is shown better"),
        ("same", f"they are equivalent within {100 * MARGIN:g} point"),
    ):
        where = []
        for name in names:
            rungs = [rung for rung in RUNGS if verdicts[name, rung, "static", "tfidf"].verdict == verdict]
            if rungs:
                where.append(f"{name} with {', '.join(str(rung) if rung else '2,000 in all' for rung in rungs)}")
        if where:
            yield f"- {said}: {'; '.join(where)}."


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=["tfidf", "static", "probe"])
    parser.add_argument("--out", default="docs")
    options = parser.parse_args()
    names = [name for name in options.tasks if name == "pydocs" or SHARED.exists()]
    model, start = load_model("minilm"), time.perf_counter()
    pairs = [pair for pair in PAIRS if {*pair} <= {*options.methods}]
    tables = {name: answers(name, model, options.samples, options.methods) for name in names}
    scores = {f"{name}|{rung}|{m}": rows for name in names for (rung, m), rows in tables[name][0].items()}
    asked = [(name, rung, *pair) for name in names for rung in RUNGS for pair in pairs]
    found = compare_all(
        scores,
        margin=MARGIN,
        rng=np.random.default_rng(0),
        pairs=[(f"{name}|{rung}|{a}", f"{name}|{rung}|{b}") for name, rung, a, b in asked],
    )
    verdicts = dict(zip(asked, (pair.comparison for pair in found), strict=True))
    text = ["# Do I need a transformer at all?", "", "Made by `python benchmarks/bench_static.py`.", ""]
    text += [
        f"Accuracy in %, {options.samples} samples of labels, at most {TEST:,} test texts, MiniLM, {LENGTH} tokens,",
        f"{device_name('cpu')}, 1 thread. Differences in points, 95 % intervals over samples and texts; verdicts at a",
        f"margin of {100 * MARGIN:g} point, corrected (Holm) over all {len(asked)} comparisons. What the cache spared",
        "counts.",
        "",
        *summary(verdicts, names),
        "",
    ]
    for name in names:
        text += lines_of(name, tables[name][0], verdicts, tables[name][1], pairs)
    print("\n".join(text), f"\n{time.perf_counter() - start:.0f} s")
    write(Path(options.out) / "static.md", "\n".join(text))
