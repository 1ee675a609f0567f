"""Few-shot contrastive training beside the published scores and the setfit package; writes docs/setfit.md.

    python benchmarks/bench_setfit.py [--samples 10] [--beside 5] [--examples 2000] [--steps 0] [--out docs]

Published: SetFit with all-MiniLM-L6-v2 on AG News, 8 examples per class, ten samples (`../shared/data/setfit_results`);
ours on ten samples of our own and the whole test set, compared unpaired. Beside: setfit 1.2.0 with its defaults (20
iterations, batches of 16 pairs) and ours take turns on the same samples, one thread each in one process; accuracy on
the same test texts, paired; the ratio is of processor seconds of training, which a busy machine disturbs less than the
clock's, its interval over the samples on a log scale. With --steps the package makes only so many of its 80 steps,
whose seconds are multiplied, and its accuracy is not compared. The package's progress bars and model cards are off.
Needs the extra `bench`, which `make bench` installs.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import pandas as pd
import torch
from _studies import SHARED, over, processor, spent, write

import ftlib as ft
from ftlib.models import weights
from ftlib.stats import paired

SHOTS, MARGIN = 8, 0.01
WANTED = 10.0
STEPS = 80
"""That the package makes: 20 pairs of either kind for each of 32 sentences, 16 at a time."""


class Quiet(ft.Events):
    """No lines about steps."""

    def say(self, *_, **__):
        """Nothing."""


def published():
    """(10,) accuracies of the published samples, as fractions."""
    table = pd.read_csv(SHARED / "setfit_results" / "scores.csv")
    wanted = "run == 'all-MiniLM-L6-v2' and dataset == 'ag_news' and shots_per_class == @SHOTS"
    return table.query(wanted)["score"].to_numpy() / 100


def ours(task, model, seed):
    """Seconds of training, and the function texts -> labels."""
    spec = ft.Experiment(task=task.name, method="setfit", shots=SHOTS, seed=seed)
    start = time.process_time()
    adapted = ft.adapt(spec, task, model, Quiet())
    seconds = time.process_time() - start
    return seconds, lambda texts: np.array(task.labels)[adapted.predictor.probabilities(texts).argmax(axis=1)]


def theirs(task, seed, steps):
    """The same of the package, with its defaults; of the first steps only, where they are not 0."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from setfit import SetFitModel, Trainer, TrainingArguments
    from sklearn.linear_model import LogisticRegression

    train = task.draw(shots=SHOTS, seed=seed)
    body = Transformer(str(weights.find("minilm").folder), max_seq_length=256)
    parts = [body, Pooling(body.get_embedding_dimension(), pooling_mode="mean"), Normalize()]
    model = SetFitModel(SentenceTransformer(modules=parts, device="cpu"), LogisticRegression())
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, batch_size=16, num_iterations=20, num_epochs=1, seed=seed, report_to="none", save_strategy="no",
            show_progress_bar=False, max_steps=steps or -1,
        )  # fmt: skip
        examples = Dataset.from_dict({"text": train["text"].tolist(), "label": train["label"].tolist()})
        # Its own metric would be fetched from the network.
        trainer = Trainer(model=model, args=arguments, train_dataset=examples, metric=lambda *_: 0.0)
        of_steps, make_steps = [], trainer.train_embeddings

        def watched(*given, **named):
            begun = time.process_time()
            make_steps(*given, **named)
            of_steps.append(time.process_time() - begun)

        trainer.train_embeddings = watched
        start = time.process_time()
        trainer.train()
        seconds = time.process_time() - start
        # The head is fitted once, however many steps there were.
        seconds += sum(of_steps) * (STEPS / steps - 1) if steps else 0.0
    return seconds, lambda texts: np.array(model.predict(list(texts), show_progress_bar=False))


def against_published(task, model, n_draws):
    """Lines about the published table."""
    test = task.splits["test"]
    scores = []
    for seed in range(n_draws):
        seconds, answer = ours(task, model, seed)
        scores.append((answer(test["text"].tolist()) == test["label"].to_numpy()).mean())
        print(f"ours, sample {seed}: accuracy {scores[-1]:.4f} on {len(test)} texts, {seconds:.1f} s", flush=True)
    known = published()
    names = {"name_a": "ftlib's setfit", "name_b": "the published SetFit"}
    found = ft.compare_unpaired(scores, known, margin=MARGIN, **names)
    lines = [
        "| | samples | mean accuracy | 95 % interval of the mean | standard deviation |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, values in (("published", known), ("ftlib", np.array(scores))):
        mean, low, high = paired.t_interval(values)
        lines.append(
            f"| {name} | {len(values)} | {mean:.4f} | {low:.4f} to {high:.4f} | {np.std(values, ddof=1):.4f} |"
        )
    return [*lines, "", f"Verdict: {found.sentence}.", f"Samples: {', '.join(f'{x:.4f}' for x in scores)}."]


def beside(task, model, n_draws, n_examples, steps):
    """Lines about the package on the same samples, and whether it is as fast and as good as wanted."""
    test = task.test_set(n_examples)
    texts, truth = test["text"].tolist(), test["label"].to_numpy()
    seconds, right = {"ftlib": [], "setfit": []}, {"ftlib": [], "setfit": []}
    for seed in range(n_draws):
        for name, train in (("setfit", lambda: theirs(task, seed, steps)), ("ftlib", lambda: ours(task, model, seed))):  # noqa: B023
            torch.set_num_threads(1)
            took, answer = train()
            seconds[name].append(took)
            right[name].append(answer(texts) == truth)
            print(f"{name}, sample {seed}: {took:.1f} s, accuracy {right[name][-1].mean():.4f}", flush=True)
    logs = np.log(np.array(seconds["setfit"]) / np.array(seconds["ftlib"]))
    ratio = np.exp(np.mean(logs))
    names = {"name_a": "ftlib's setfit", "name_b": "the setfit package", "rng": np.random.default_rng(0)}
    found = (
        None
        if steps
        else ft.compare(*(np.array(right[name], dtype=float) for name in ("ftlib", "setfit")), margin=MARGIN, **names)
    )
    lines = [
        "| sample | setfit 1.2.0, seconds | ftlib, seconds | setfit, accuracy | ftlib, accuracy |",
        "| --- | --- | --- | --- | --- |",
    ]
    for seed in range(n_draws):
        took = " | ".join(f"{seconds[name][seed]:.1f}" for name in ("setfit", "ftlib"))
        level = " | ".join(
            "-" if steps and name == "setfit" else f"{right[name][seed].mean():.4f}" for name in ("setfit", "ftlib")
        )
        lines.append(f"| {seed} | {took} | {level} |")
    said = over(logs, lambda x: f"{np.exp(x):.1f}", "samples")
    lines += ["", f"Training is {said} times as fast (wanted: {WANTED:g})."]
    if steps:
        lines += [f"The package's seconds are {STEPS / steps:g} times those of its first {steps} steps."]
    else:
        lines += [f"Accuracy on {len(test)} test texts, the same for both: {found.sentence}."]
    return [*lines, "", spent(lambda: ours(task, model, 0))], ratio >= WANTED


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--beside", type=int, default=5)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--out", default="docs")
    options = parser.parse_args()
    if not SHARED.exists():
        sys.exit("skipped: AG News and the published scores are not at ../shared/data, beside the checkout")
    task, model = ft.load_task(f"file:{SHARED / 'ag_news'}"), ft.load_model("minilm")
    one = against_published(task, model, options.samples) if options.samples else []
    two, fast = beside(task, model, options.beside, options.examples, options.steps) if options.beside else ([], True)
    text = [
        "# Contrastive few-shot training, compared with the setfit package",
        "",
        f"AG News, 8 examples per class, all-MiniLM-L6-v2, one thread; {processor()}.",
        "",
    ]
    text += ["## The published scores", "", *one, ""] if one else []
    text += ["## The setfit package, same samples, same machine, in turns", "", *two, ""] if two else []
    text += ["Measured with `python benchmarks/bench_setfit.py`. The two take turns,"]
    text += ["seconds are the processor's.", ""]
    print("\n".join(text))
    write(Path(options.out) / "setfit.md", "\n".join(text))
    sys.exit(not fast)
