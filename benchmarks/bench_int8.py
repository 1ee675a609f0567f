"""int8 against float32: speed, size, and what it costs in accuracy and in the gap between groups; writes docs/int8.md.

    python benchmarks/bench_int8.py [sst2 bios] [--seeds 3] [--train 400] [--test 700] [--rounds 1] [--threads 1]
        [--head linear_probe] [--folder build/int8] [--out docs]

MiniLM, fully fine-tuned in float32 on so many examples; what was trained answers the test texts as it is and in bytes
(`quantise = "int8"`). What FOLDER holds of a task and seed is not measured again. SST-2 is read from `../shared/data`.
"""

import argparse
import copy
import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from _studies import SHARED, write

import ftlib
from ftlib.config.experiment import Experiment
from ftlib.models.inference import module_probabilities
from ftlib.models.quantise import quantise
from ftlib.records.provenance import device_name
from ftlib.report.sections.fairness import Answers, gap_changes
from ftlib.stats.verdict import compare

MARGIN, LENGTH = 0.01, 64
ALIKE = {"same": f"equivalent within {100 * MARGIN:g} point"}


def chosen(probabilities, texts):
    """The label that is most probable for each text, as a number; and the seconds that took."""
    start = time.perf_counter()
    return probabilities(texts).argmax(axis=1), time.perf_counter() - start


def measured(name, seed, options):
    """Labels chosen in float32 and in int8, as numbers; the best seconds and the bytes of both."""
    spec = Experiment(
        task=task_of(name),
        method="full",
        seed=seed,
        train_limit=options.train,
        epochs=1.0,
        max_length=LENGTH,
        head_init=options.head,
        dtype="float32",
        threads=options.threads,
    )
    task, model = ftlib.open_task(spec), ftlib.open_model(spec)
    texts = task.test_set(options.test)["text"].tolist()
    plain = ftlib.adapt(spec, task, model).predictor.trainable.module
    small = copy.deepcopy(plain)
    sizes = [sum(p.numel() * p.element_size() for p in plain.parameters()), quantise(small)]
    asked, seconds = [module_probabilities(module, model, LENGTH) for module in (plain, small)], [np.inf, np.inf]
    for _ in range(options.rounds):
        found = [chosen(one, texts) for one in asked]
        seconds = [min(best, took) for best, (_, took) in zip(seconds, found, strict=True)]
    print(name, f"seed {seed}", seconds, sizes, flush=True)
    return {"answers": [labels.tolist() for labels, _ in found], "seconds": seconds, "sizes": sizes}


def task_of(name):
    """The task as an experiment names it."""
    return name if name == "bios" else f"file:{SHARED / name}"


def lines_of(name, options):
    """What a task shows, as Markdown."""
    runs = []
    for seed in range(options.seeds):
        said = (options.train, options.test, options.rounds, options.threads, options.head, seed)
        path = options.folder / f"{name}-{'-'.join(map(str, said))}.json"
        if not path.exists():
            found = json.dumps(measured(name, seed, options))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found, encoding="utf-8")
        runs.append(json.loads(path.read_text(encoding="utf-8")))
    plain, small = (np.array([run["answers"][place] for run in runs]) for place in (0, 1))
    seconds, sizes = [min(run["seconds"][place] for run in runs) for place in (0, 1)], runs[0]["sizes"]
    task = ftlib.load_task(task_of(name))
    test, labels = task.test_set(options.test), task.labels
    truth = test["label"].map({label: number for number, label in enumerate(labels)}).to_numpy()
    right = [(one == truth).astype(float) for one in (plain, small)]
    found = compare(right[1], right[0], margin=MARGIN, name_a="int8", name_b="float32")
    lines = [f"## {name}", "", "| | float32 | int8 | |", "| --- | --- | --- | --- |"]
    speeds = [len(test) / one for one in seconds]
    lines.append(f"| texts a second | {speeds[0]:.0f} | {speeds[1]:.0f} | {speeds[1] / speeds[0]:.2f} times |")
    lines.append(
        f"| size, MB | {sizes[0] / 1e6:.1f} | {sizes[1] / 1e6:.1f} | {sizes[0] / sizes[1]:.2f} times smaller |"
    )
    means = [f"{100 * one.mean():.1f}" for one in right]
    lines.append(f"| accuracy, % | {means[0]} | {means[1]} | {ALIKE.get(found.verdict, found.verdict)} |")
    lines.append(f"| same answer, % | | {100 * (plain == small).mean():.2f} | |")
    said = [f"Accuracy: {found.sentence}"]
    if columns := [column for column in test if column.startswith("group_")]:
        names, code = np.unique(test[columns[0]].astype(str), return_inverse=True)
        part = SimpleNamespace(labels=tuple(labels), truth=truth, clusters=None)
        method = SimpleNamespace(name="int8")
        for gap in gap_changes([Answers(method, plain, small, part, code, tuple(names))]):
            what = "accuracy" if gap.metric == "accuracy" else f"{gap.metric} of {gap.label}"
            row = (
                f"| gap in {what} between groups, points | {100 * gap.before.value:.1f} | {100 * gap.after.value:.1f} |"
            )
            lines.append(f"{row} {gap.verdict} |")
            if gap.change is not None:
                change = [100 * bound for bound in (gap.change.value, gap.change.low, gap.change.high)]
                said.append(
                    f"Gap in {what} ({columns[0].removeprefix('group_')}), int8 minus float32: {change[0]:+.1f} points "
                    f"({change[1]:.1f} to {change[2]:.1f}): {gap.verdict}."
                )
    return [
        *lines,
        "",
        f"{len(runs)} seed{'s' * (len(runs) > 1)}, {options.train:,} training examples, {len(test):,} test texts.",
        "",
        *said,
        "",
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=["sst2", "bios"])
    for option, default in (("seeds", 3), ("train", 400), ("test", 700), ("rounds", 1), ("threads", 1)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--head", choices=["new", "linear_probe"], default="new", help="where the new head starts")
    parser.add_argument("--folder", type=Path, default=Path("build/int8"))
    parser.add_argument("--out", default="docs")
    options = parser.parse_args()
    vnni = torch.cpu.get_capabilities().get("avx512_vnni", False)
    text = ["# int8 against float32", "", "Made by `python benchmarks/bench_int8.py`.", ""]
    text += [
        f"MiniLM, {LENGTH} tokens, batches of 64, {options.threads} thread{'s' * (options.threads > 1)}, torch "
        f"{torch.__version__}, {device_name('cpu')} ({'with' if vnni else 'without'} AVX512-VNNI), head begun as "
        f"`{options.head}`. Best of all seeds and rounds, both in turn. Margin "
        f"{100 * MARGIN:g} point, 95 % intervals over seeds and texts, paired.",
        "",
    ]
    for name in options.tasks:
        if name != "bios" and not SHARED.exists():
            print(f"{name}: skipped, since ../shared/data is not beside the checkout")
            continue
        text += lines_of(name, options)
    print("\n".join(text))
    write(Path(options.out) / "int8.md", "\n".join(text))
