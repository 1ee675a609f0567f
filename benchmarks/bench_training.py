"""Training beside transformers' Trainer, and beside what the processor can multiply; writes docs/training.md.

    python benchmarks/bench_training.py [--seeds 3] [--examples 1000] [--test 1000] [--threads 2]
                                        [--folder build/training] [--out docs]

SST-2 with all-MiniLM-L6-v2, one pass over the same examples, one process, in turns. The Trainer has its
defaults and what courses set: float32, batches of 16 in random order, each padded to its longest; LoRA through peft
with the same rank, scale and layers. Rates are ftlib's for both. Examples a second are those of the training loop;
accuracy is on the same test texts, paired over examples and seeds. The peak is that of square matrix products in the
same arithmetic, measured now. Where the rest of the time goes is asked of torch's profiler, in one more training.
What a seed gave is kept in FOLDER and not measured again, so that seeds can be added. Then two trainings, as scripts
make them, one after the other, and as a study does, side by side. Last, how much longer a step takes than its own
matrix products, timed alone. With one thread, seconds are the process's processor time, which a busy machine disturbs
less than the clock's. Each arithmetic (ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2
MKL_ENABLE_INSTRUCTIONS=AVX2 imitates an older processor) has sections of its own.
"""

import argparse
import collections
import contextlib
import json
import multiprocessing
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import peft
import torch
import transformers
from _studies import SHARED, over, processor, spent, write
from torch.utils._python_dispatch import TorchDispatchMode

import ftlib as ft
from ftlib.execution.benchmark import matmul_peak
from ftlib.models.inference import module_probabilities

DATA = SHARED / "sst2"
WORDS = {"0": "negative", "1": "positive"}
MARGINS = (0.01, 0.02)
"""ftlib's default, and that of the studies in `reports`."""
WANTED = {"bfloat16": 4.0, "float32": 2.5}
"""Times the Trainer's examples a second."""
OF_PRODUCTS = {"full": 1.25, "lora": 1.4}
"""Times what a step's matrix products alone take, at batch 16."""
OF_ANSWERS = 1.2
"""The same of a pass forwards."""


class Quiet(ft.Events):
    """No lines about steps."""

    def say(self, *_, **__):
        """Nothing."""


def spec_of(method, seed, n, **changed):
    """Ours: one pass over n examples."""
    given = {"epochs": 1.0, "batch_size": 16, "threads": torch.get_num_threads()}
    given |= {"task": f"file:{DATA}", "label_words": WORDS}
    return ft.Experiment(method=method, seed=seed, train_limit=n, **{**given, **changed})


def seconds_of(threads):
    """What a stopwatch shows: of one thread the seconds it had the processor, of several the clock's."""
    return time.process_time() if threads == 1 else _clock()


_clock = time.perf_counter


def ours(task, model, method, seed, n, /, **changed):
    """Examples a second, FLOP/s, and the function texts -> probabilities."""
    spec = spec_of(method, seed, n, **changed)
    with patch("ftlib.training.trainer.time.perf_counter", lambda: seconds_of(spec.threads)):
        adapted = ft.adapt(spec, task, model, Quiet())
    cost = adapted.cost
    speed = cost["train_examples_per_second"], cost["achieved_flops_per_second"]
    return *speed, adapted.predictor.probabilities


def theirs(task, model, method, seed, n):
    """The same of transformers' Trainer."""
    spec = spec_of(method, seed, n)
    settings, train = spec.resolved(), task.draw(**spec.drawing())
    module = model.classifier(len(task.labels), seed)
    if method == "lora":
        how = peft.LoraConfig(task_type="SEQ_CLS", target_modules="all-linear", **settings["method_args"])
        module = peft.get_peft_model(module, how)
    tokens = model.tokenizer(train["text"].tolist(), truncation=True, max_length=spec.max_length)["input_ids"]
    codes = [task.labels.index(label) for label in train["label"]]
    examples = [{"input_ids": ids, "labels": code} for ids, code in zip(tokens, codes, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder, learning_rate=settings["learning_rate"], num_train_epochs=1, per_device_train_batch_size=16,
            seed=seed, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        pad = transformers.DataCollatorWithPadding(model.tokenizer)
        trainer = transformers.Trainer(module, arguments, train_dataset=examples, data_collator=pad)
        trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
        start = seconds_of(spec.threads)
        trainer.train()
        seconds = seconds_of(spec.threads) - start
    return n / seconds, None, module_probabilities(module, model, spec.max_length)


class Products(TorchDispatchMode):
    """Counts matrix products by the operator and by what it multiplies."""

    # The last two are what is seen where no gradient is asked for.
    NAMES = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::linear", "aten::matmul")

    def __init__(self):
        super().__init__()
        self.seen = collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._schema.name in self.NAMES:
            what = tuple((tuple(one.shape), one.stride(), one.dtype) for one in args if isinstance(one, torch.Tensor))
            # Timed as the one that makes its own result.
            self.seen[func._overloadpacket.default, what] += 1
        return func(*args, **(kwargs or {}))


def alone(seen, threads, tries=5, seconds=0.01):
    """Seconds of matrix products when nothing else is done: each the fastest of what fits into so many seconds."""
    took = 0.0
    for (func, what), count in seen.items():
        given = [torch.empty_strided(shape, stride, dtype=dtype).normal_() for shape, stride, dtype in what]
        each = []
        while len(each) < tries or sum(each) < seconds:
            start = seconds_of(threads)
            func(*given)
            each.append(seconds_of(threads) - start)
        fastest = min(each)
        took += count * fastest
    return took


def beyond_products(tasks, model, n, size=16):
    """Yield lines: how many times the seconds of its own matrix products alone training takes."""
    yield "| method | texts | seconds of training / of its products alone | wanted | share of the peak |"
    yield "| --- | --- | --- | --- | --- |"
    peak = matmul_peak("cpu", model.dtype, model.threads)
    # A look at validation is no part of a step.
    with patch("ftlib.training.trainer.validation_steps", lambda spec, steps: []):
        for method, wanted in OF_PRODUCTS.items():
            for name, (task, given) in tasks.items():
                with Products() as products:
                    ours(task, model, method, 0, n, batch_size=size, **given)
                found = [ours(task, model, method, 0, n, batch_size=size, **given) for _ in range(3)]
                rate, flops, _ = max(found, key=lambda one: one[0])
                ratio = n / rate / alone(products.seen, model.threads)
                yield f"| {method} | {name} | {ratio:.2f} | {wanted:g} | {flops / peak:.0%} |"
    for name, (task, _) in tasks.items():
        answer = module_probabilities(model.classifier(len(task.labels), 0), model, 128)
        texts = task.splits["test"]["text"].tolist()[: 4 * n]
        with Products() as products:
            answer(texts)
        took = []
        for _ in range(3):
            start = seconds_of(model.threads)
            answer(texts)
            took.append(seconds_of(model.threads) - start)
        yield f"| answering | {name} | {min(took) / alone(products.seen, model.threads):.2f} | {OF_ANSWERS:g} | |"


def paid_off(task, model, n, repeats=2):
    """Yield lines: examples a second of training with an option and without it, seed after seed."""
    # Where training looks them up, not where they are made.
    remembered = patch("ftlib.training.trainer.remembering", lambda module: contextlib.nullcontext(0))
    padded = patch("ftlib.training.trainer.unpadded", lambda module, inputs: contextlib.nullcontext(False))
    cases = {
        "last_layers k=1, three passes: lower layers computed once": ("last_layers", {"epochs": 3.0}, remembered),
        "full: no padding, first tokens alone in the last layer": ("full", {}, padded),
        "lora: no padding, first tokens alone in the last layer": ("lora", {}, padded),
    }
    yield "| option | without, examples/s, seed after seed | with |"
    yield "| --- | --- | --- |"
    for name, (method, given, off) in cases.items():
        speeds = [[], []]
        for seed in range(repeats):
            with off:
                speeds[0].append(ours(task, model, method, seed, n, **given)[0])
            speeds[1].append(ours(task, model, method, seed, n, **given)[0])
        yield f"| {name} | {' | '.join(', '.join(f'{one:.0f}' for one in some) for some in speeds)} |"


def timed(train, task, model, method, seed, n, threads, gate, found):
    """Train once with so many threads, when all are there; puts the seconds by the clock into `found`."""
    torch.set_num_threads(threads)
    gate.wait()
    with patch(f"{__name__}.seconds_of", lambda threads: _clock()):
        speed, *_ = train(task, replace(model, threads=threads), method, seed, n)
    found.put(n / speed)


def two_runs(task, model, method, n, repeats=3):
    """Yield lines: how long two trainings that differ in their seed take, as scripts make them and as a study does."""
    fork = multiprocessing.get_context("fork")
    cases = {
        "the Trainer, one after the other, two threads": (theirs, 2),
        "the Trainer, side by side, one thread each": (theirs, 1),
        "ftlib, one after the other, two threads": (ours, 2),
        "ftlib, side by side, one thread each, as `ftlib run` has them": (ours, 1),
    }
    took = {name: [] for name in cases}
    for _ in range(repeats):
        for name, (train, threads) in cases.items():
            found, at_once = fork.Queue(), 2 // threads
            seconds = []
            for first in range(0, 2, at_once):
                gate = fork.Barrier(at_once)
                given = [(train, task, model, method, first + k, n, threads, gate, found) for k in range(at_once)]
                processes = [fork.Process(target=timed, args=one) for one in given]
                for process in processes:
                    process.start()
                seconds.append(max(found.get() for _ in processes))
                for process in processes:
                    process.join()
            took[name].append(sum(seconds))
    base = np.array(took["the Trainer, one after the other, two threads"])
    yield "| two trainings | seconds, time after time | times as fast as scripts with the Trainer |"
    yield "| --- | --- | ---: |"
    for name, some in took.items():
        yield f"| {name} | {', '.join(f'{one:.0f}' for one in some)} | {np.median(base / np.array(some)):.2f} |"


def trained(train, task, model, method, seed, options, kept):
    """Train once and keep what came out in a file; in a process of its own, so that nobody has what another warmed."""
    speed, flops, probabilities = train(task, model, method, seed, options.examples)
    test = task.test_set(options.test)
    right = np.array(task.labels)[probabilities(test["text"].tolist()).argmax(axis=1)] == test["label"].to_numpy()
    found = {"speed": speed, "flops": flops, "peak": matmul_peak("cpu", model.dtype, model.threads)}
    kept.write_text(json.dumps(found | {"right": right.tolist()}), encoding="utf-8")


def beside(task, model, method, options):
    """Lines about one method, and whether it is as fast, as good and as near to the peak as wanted."""
    test = task.test_set(options.test)
    speeds, right, shares = {"Trainer": [], "ftlib": []}, {"Trainer": [], "ftlib": []}, []
    for seed in range(options.seeds):
        for name, train in (("Trainer", theirs), ("ftlib", ours)):
            called = method, seed, name, model.dtype, options.examples, len(test), options.threads
            kept = Path(options.folder) / f"{'_'.join(map(str, called))}.json"
            if not kept.exists():
                kept.parent.mkdir(parents=True, exist_ok=True)
                process = multiprocessing.get_context("fork").Process(
                    target=trained, args=(train, task, model, method, seed, options, kept)
                )
                process.start()
                process.join()
            found = json.loads(kept.read_text(encoding="utf-8"))
            speeds[name].append(found["speed"])
            right[name].append(np.array(found["right"]))
            said = (
                f"{method}, seed {seed}, {name}: {found['speed']:.1f} examples/s, accuracy {right[name][-1].mean():.4f}"
            )
            if found["flops"]:
                shares.append((found["flops"], found["peak"]))
                said += f", {shares[-1][0] / 1e9:.0f} GFLOP/s of {shares[-1][1] / 1e9:.0f}"
            print(said, flush=True)
    ratios = np.log(np.divide(speeds["ftlib"], speeds["Trainer"]))
    ratio, mean = np.exp(np.mean(ratios)), np.mean(shares, axis=0) / 1e9
    names = {"name_a": "ftlib", "name_b": "the Trainer", "rng": np.random.default_rng(0)}
    pair = [np.array(right[name], dtype=float) for name in ("ftlib", "Trainer")]
    found = {margin: ft.compare(*pair, margin=margin, **names) for margin in MARGINS}
    lines = [
        f"## {method}, {model.dtype}",
        "",
        "| seed | Trainer, examples/s | ftlib, examples/s | Trainer, accuracy | ftlib, accuracy |",
    ]
    lines += ["| --- | --- | --- | --- | --- |"]
    for seed in range(options.seeds):
        speed = " | ".join(f"{speeds[name][seed]:.1f}" for name in speeds)
        level = " | ".join(f"{right[name][seed].mean():.4f}" for name in speeds)
        lines.append(f"| {seed} | {speed} | {level} |")
    lines += [
        "",
        f"{over(ratios, lambda x: f'{np.exp(x):.2f}')} times the examples a second (wanted: {WANTED[model.dtype]:g}).",
        *(
            f"Accuracy on {len(test)} test texts, margin {margin:.0%}: {one.sentence}.  "
            for margin, one in found.items()
        ),
        f"{mean[0]:.0f} GFLOP/s, {over([a / b for a, b in shares], lambda x: f'{x:.0%}')} of the measured "
        f"{mean[1]:.0f}.  ",
        "",
    ]
    return lines, ratio >= WANTED[model.dtype]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", default="build/training")
    parser.add_argument("--out", default="docs")
    options = parser.parse_args()
    if not DATA.exists():
        sys.exit("skipped: SST-2 is not at ../shared/data, beside the checkout")
    task, model = ft.load_task(f"file:{DATA}", label_words=WORDS), ft.load_model("minilm", threads=options.threads)
    text, good, arithmetic = [], True, model.dtype

    def add(*lines):
        """Print lines and keep them at once: what comes after them may be stopped."""
        print("\n".join(lines), flush=True)
        text.extend(lines)
        Path(options.folder).mkdir(parents=True, exist_ok=True)
        (Path(options.folder) / f"{arithmetic}.md").write_text("\n".join(text) + "\n", encoding="utf-8")
        parts = [path.read_text(encoding="utf-8") for path in sorted(Path(options.folder).glob("*.md"))]
        title = "# Training, compared with transformers' Trainer and with its own matrix products"
        write(Path(options.out) / "training.md", "\n".join([title, "", *parts]))

    add(
        f"## {arithmetic}",
        "",
        f"{processor()}, {options.threads} thread{'s' * (options.threads > 1)}: SST-2, all-MiniLM-L6-v2, "
        f"{options.examples} texts once; made by `python benchmarks/bench_training.py`.",
        "",
    )
    # Before this process itself trains: what was forked after that would wait for threads it does not have.
    for method in OF_PRODUCTS:
        more, well = beside(task, model, method, options)
        add(*more)
        good = good and well
    for method in OF_PRODUCTS if options.threads == 2 else ():
        add(f"## Two trainings, {method}, {arithmetic}", "")
        for line in two_runs(task, model, method, options.examples // 2):
            add(line)
        add("")
    tasks = {"SST-2": (task, {}), "pydocs": (ft.load_task("pydocs"), {"task": "pydocs", "label_words": {}})}
    add(f"## A step beside its own products, {arithmetic}", "")
    for line in beyond_products(tasks, model, max(64, options.examples // 4)):
        add(line)
    add("")
    for method in OF_PRODUCTS:
        said = spent(lambda method=method: ours(task, model, method, 0, max(64, options.examples // 4)))
        add(f"{method}, SST-2: {said}  ")
    add(
        "",
        f"## What options give, {arithmetic}",
        "",
        f"{options.examples // 2} texts, each with the seeds 0 and 1.",
        "",
    )
    for line in paid_off(task, model, options.examples // 2):
        add(line)
    sys.exit(not good)
