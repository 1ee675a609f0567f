"""Do I need a transformer at all? TF-IDF, static and the linear probe from 1 label per class on; writes docs/static.md.

    python benchmarks/bench_static.py [sst2 trec6 banking77 ag_news pydocs] [--samples 5] [--probe 520]
        [--folder build/static] [--out docs]

1 to 64 labels per class (all of a class that has fewer), in samples that are the same for every method, and all of
train. The linear probe, whose time is MiniLM's, is measured up to so many training examples. What FOLDER holds of a
task is not measured again. Public tasks are read from `../shared/data`.
"""

import argparse
import json
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
"""Labels per class; 0: all of train."""
ALL = "all of train"
MARGIN, TEST, LENGTH = 0.01, 1000, 64


def answers(name, model, samples, most):
    """Method -> rung -> (n_samples, n_test) whether each test text was answered rightly; and texts a second."""
    read = f"file:{SHARED / name}" if name != "pydocs" else name
    task = ftlib.load_task(read)
    test, found, took = task.test_set(TEST), {}, {}
    texts, truth = test["text"].tolist(), test["label"].to_numpy()
    for rung in RUNGS:
        drawn = {"shots": rung, "short_classes": "all"} if rung else {}
        # The majority class is the same in every sample, and all of train is one sample.
        for method in ("tfidf", "static", "probe") if rung else ("majority", "tfidf", "static", "probe"):
            rows = []
            for seed in range(samples if rung else 1):
                spec = Experiment(task=read, method=method, seed=seed, max_length=LENGTH, **drawn)
                train = task.draw(**spec.drawing())
                if method == "probe" and len(train) > most:
                    break
                predictor = METHODS[method].prepare()(model, spec, task, train)
                start = clock()
                scores = predictor.probabilities(texts)
                took[method] = min(took.get(method, np.inf), clock() - start)
                rows.append((np.asarray(task.labels)[scores.argmax(axis=1)] == truth).tolist())
            if rows:
                found.setdefault(method, {})[str(rung)] = rows
        means = (f"{m} {np.mean(found[m][str(rung)]):.3f}" for m in found if str(rung) in found[m])
        print(name, rung or ALL, *means, flush=True)
    return {"answers": found, "speeds": {method: len(texts) / seconds for method, seconds in took.items()}}


def lines_of(name, found, verdicts):
    """A task's table, as Markdown."""
    shown = [method for method in ("tfidf", "static", "probe") if method in found["answers"]]
    head = ["labels per class", *shown, *(f"{a} against {b}" for a, b in PAIRS)]
    lines = [f"## {name}", "", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for rung in RUNGS:
        rows = [found["answers"][method].get(str(rung)) for method in shown]
        said = [f"{100 * np.mean(one):.1f}" if one else "-" for one in rows]
        for pair in PAIRS:
            one = verdicts.get((name, rung, *pair))
            said.append(
                f"{one.verdict}: {100 * one.difference:+.1f} ({100 * one.low:.1f} to {100 * one.high:.1f})"
                if one
                else "-"
            )
        lines.append(f"| {rung or ALL} | {' | '.join(said)} |")
    majority = 100 * np.mean(found["answers"]["majority"]["0"])
    n = len(found["answers"]["majority"]["0"][0])
    speeds = ", ".join(f"{m} {found['speeds'][m]:,.0f}" for m in shown)
    return [*lines, "", f"{n:,} test texts; the majority class has {majority:.1f}. Texts a second: {speeds}.", ""]


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
                where.append(f"{name} with {', '.join(str(rung or ALL) for rung in rungs)}")
        if where:
            yield f"- {said}: {'; '.join(where)}."


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--probe", type=int, default=520, help="training examples, at most, of the linear probe")
    parser.add_argument("--folder", type=Path, default=Path("build/static"))
    parser.add_argument("--out", default="docs")
    options = parser.parse_args()
    names = [name for name in options.tasks if name == "pydocs" or SHARED.exists()]
    model, start, tables = load_model("minilm"), time.perf_counter(), {}
    for name in names:
        path = options.folder / f"{name}-{options.samples}-{options.probe}.json"
        if not path.exists():
            measured = json.dumps(answers(name, model, options.samples, options.probe))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(measured, encoding="utf-8")
        tables[name] = json.loads(path.read_text(encoding="utf-8"))
    scores = {
        f"{name}|{rung}|{method}": np.array(rows, float)
        for name in names
        for method, rungs in tables[name]["answers"].items()
        for rung, rows in rungs.items()
    }
    listed = [(name, rung, *pair) for name in names for rung in RUNGS for pair in PAIRS]
    asked = [(name, rung, a, b) for name, rung, a, b in listed if f"{name}|{rung}|{a}" in scores]
    found = compare_all(
        scores,
        margin=MARGIN,
        rng=np.random.default_rng(0),
        pairs=[(f"{name}|{rung}|{a}", f"{name}|{rung}|{b}") for name, rung, a, b in asked],
    )
    verdicts = dict(zip(asked, (pair.comparison for pair in found), strict=True))
    text = ["# Do I need a transformer at all?", "", "Made by `python benchmarks/bench_static.py`.", ""]
    text += [
        f"Accuracy in %, {options.samples} samples of labels (one of all of train), at most {TEST:,} test texts, "
        f"MiniLM, {LENGTH} tokens, {device_name('cpu')}, 1 thread. Differences in points, 95 % intervals over samples "
        f"and texts; verdicts at a margin of {100 * MARGIN:g} point, corrected (Holm) over all {len(asked)} "
        f"comparisons. The linear probe (`probe`) is measured up to {options.probe} training examples. What the cache "
        "holds of MiniLM's features is not computed again.",
        "",
        *summary(verdicts, names),
        "",
    ]
    for name in names:
        text += lines_of(name, tables[name], verdicts)
    print("\n".join(text), f"\n{time.perf_counter() - start:.0f} s")
    write(Path(options.out) / "static.md", "\n".join(text))
