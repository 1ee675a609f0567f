"""Scoring beside lm_eval 0.4.13 (hf backend), in one process; writes docs/scoring.md and .svg.

    python benchmarks/bench_scoring.py [--model PATH] [--queries N] [--repeats N] [--shots N ...] [--out docs]

Same model object, same requests, float32, same threads. Each of lm_eval's batch sizes is tried on a part of the
requests first and the fastest is taken; then both take turns, and the ratio is the median over the repetitions.
Seconds are the process's processor time, which a busy machine disturbs less than the clock's; one thread waits for
nothing here. Requests: first lines of docstrings of the standard library, with a choice of four packages, as shots and
as queries; short texts: docstrings; long texts: many of them, one after another. Tokenizing is timed with the rest, on
both sides. Needs the extra `bench`, which `make bench` installs.
"""

import argparse
import ast
import asyncio
import contextlib
import email
import io
import os
import sys
import time
import unittest
import xml
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
import transformers
from _studies import processor, spent
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import ftlib.report.plots as style
from ftlib.models import score
from ftlib.models.score import facts
from ftlib.report.figures import drawing, svg

ROOT = Path(__file__).resolve().parents[1]
LABELS = {asyncio: " tasks and event loops", email: " mail messages", unittest: " unit tests", xml: " XML documents"}
LETTERS = [" A", " B", " C", " D"]
SHOTS = (0, 2, 4, 8, 16, 32)
BATCH_SIZES = (1, 4, 16)
WANTED = {"8 shots": 20.0, "8 shots, one-token labels": 10.0, "long texts": 1.2}


def docstrings():
    """(text, label) of every docstring of the four packages, in a fixed mixed order."""
    found = []
    for package, label in LABELS.items():
        for path in sorted(Path(package.__file__).parent.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    said = ast.get_docstring(node)
                    found += [(said, label)] if said else []
    return [found[i] for i in np.random.default_rng(0).permutation(len(found))]


def fresh_model(texts):
    """A Llama of 15 million parameters with random weights, and a byte-level tokenizer made from the texts."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<bos>", "<pad>"]
    core.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=8192, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core, bos_token=special[0], pad_token=special[1])
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=8192, hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6,
        num_key_value_heads=2, max_position_embeddings=1024, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval(), tokenizer


def timed(call):
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def side_by_side(name, ours, theirs, harness, part, repeats):
    """Time both in turns; a row of the table."""
    sizes = {}
    for size in BATCH_SIZES:
        harness.batch_size_per_gpu = size
        sizes[size] = timed(lambda: theirs(part))[0]
    harness.batch_size_per_gpu = best = min(sizes, key=sizes.get)
    ours(part)
    seconds = []
    for turn in range(repeats):
        pair = [timed(ours), timed(theirs)] if turn % 2 else [timed(theirs), timed(ours)][::-1]
        seconds.append([spent for spent, _ in pair])
    apart = np.abs(np.subtract(pair[0][1], pair[1][1])).max()
    # lm_eval adds up in float32, whose steps grow with the sum.
    allowed = 1e-4 + 1e-6 * np.abs(pair[1][1]).max()
    mine, other = np.median(seconds, axis=0)
    ratio = np.median([b / a for a, b in seconds])
    print(
        f"{name}: ours {mine:.2f} s, lm_eval {other:.2f} s (batch size {best}): {ratio:.1f} x, {apart:.1g} nats apart"
    )
    return {
        "name": name,
        "ours": mine,
        "theirs": other,
        "size": best,
        "ratio": ratio,
        "apart": apart,
        "allowed": allowed,
    }


def write(rows, about, remaining, folder):
    """Write the table and the picture."""
    lines = [
        "# Scoring, compared with lm_eval",
        "",
        "Written by `python benchmarks/bench_scoring.py` (`make bench`); do not edit. "
        f"{about} How it is measured is said at the top of that file.",
        "",
        "![times faster than lm_eval, against the number of shots](scoring.svg)",
        "",
        "| requests | ftlib, s | lm_eval, s | its best batch size | times faster | largest difference, nats |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {r['name']} | {r['ours']:.2f} | {r['theirs']:.2f} | {r['size']} | {r['ratio']:.1f} | {r['apart']:.1g} |"
            for r in rows
        ),
        "",
        "Why it grows with the shots: lm_eval reads the whole prompt for every label of every query (for every query, "
        "where labels are single tokens); ftlib reads the shots once, each query once, and each label's own tokens. "
        "Long texts gain least: nothing is shared or padded there, both spend nearly all their time in the same matrix "
        "products, and ftlib saves only what lm_eval does with whole matrices of positions x vocabulary.",
        "",
        f"With the most shots and long texts, {remaining}",
        "",
        "The differences are rounding: lm_eval adds up a text in float32, where steps at 8000 nats are 0.0005.",
        "",
    ]
    (folder / "scoring.md").write_text("\n".join(lines), encoding="utf-8")
    with drawing(2.6) as ax:
        series = {
            "labels of several tokens": [r for r in rows if r["name"].endswith("shots")],
            "labels of one token": [r for r in rows if r["name"].endswith("one-token labels")],
        }
        said, ratios_at = [], [r["shots"] for r in rows if "shots" in r]
        for number, (label, chosen) in enumerate(series.items()):
            shots, ratios = [r["shots"] for r in chosen], [r["ratio"] for r in chosen]
            ax.plot(shots, ratios, color=style.COLOURS[number], marker=style.MARKERS[number], label=label)
            said.append(f"{label}: " + ", ".join(f"{r:.1f} at {s}" for s, r in zip(shots, ratios, strict=True)))
        ax.axhline(1, color=style.FAINT, linewidth=0.8)
        ax.set_xticks([shots for shots in sorted(set(ratios_at)) if not 0 < shots < 8])
        ax.set_ylim(0)
        ax.set_xlabel("shots in the prompt")
        ax.set_ylabel("times faster than lm_eval")
        ax.legend(loc="upper left")
        ax.alt_text = f"Times faster than lm_eval against shots in the prompt. {'; '.join(said)}."
        (folder / "scoring.svg").write_text(svg(ax.figure), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    bundled = ROOT / "data" / "tiny-lm"
    there = (bundled / "config.json").exists()
    parser.add_argument("--model", type=Path, default=bundled if there else None, help="default: data/tiny-lm, or none")
    parser.add_argument("--queries", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shots", type=int, nargs="+", default=SHOTS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.disable_progress_bar()
    found = docstrings()
    if options.model:
        model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
    else:
        model, tokenizer = fresh_model([text for text, _ in found])
    context = min(1024, facts.limit(model) or 1024)
    harness = HFLM(
        pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=1, add_bos_token=False, max_length=context
    )
    size = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"{type(model).__name__} of {size:.1f} M parameters; prefix cached and trees: {score.fast_path(model)}")

    firsts = [(text.splitlines()[0], label) for text, label in found]
    firsts = [(text, label) for text, label in firsts if 30 <= len(text) <= 50]
    shots, queries = firsts[: max(options.shots)], [f"{text}\nAbout:" for text, _ in firsts[-options.queries :]]
    rows = []

    def continuations(n_shots, labels):
        # A label as it stands in the shots is a letter where the labels are letters.
        known = dict(zip(LABELS.values(), labels, strict=True))
        prefix = "".join(f"{text}\nAbout:{known[label]}\n\n" for text, label in shots[:n_shots])

        def ours(some=queries):
            return score.score_continuations(model, tokenizer, prefix, some, labels, bos=False)

        def theirs(some=queries):
            pairs = [(prefix + query, label) for query in some for label in labels]
            requests = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
            values = [value for value, _ in harness.loglikelihood(requests, disable_tqdm=True)]
            return np.reshape(values, (len(some), len(labels)))

        return ours, theirs

    for kind, labels in (("", list(LABELS.values())), (", one-token labels", LETTERS)):
        for n_shots in options.shots:
            both = continuations(n_shots, labels)
            row = side_by_side(f"{n_shots} shots{kind}", *both, harness, queries[:4], options.repeats)
            rows.append(row | {"shots": n_shots})

    long = ["\n\n".join(text for text, _ in found[i::32]) for i in range(4)]
    short = [text for text, _ in found[: 3 * options.queries]]

    def our_rolling(some):
        return -score.score_text(model, tokenizer, some, context=context, stride=context)["nats"].to_numpy()

    def their_rolling(some):
        requests = [Instance("loglikelihood_rolling", {}, (text,), i) for i, text in enumerate(some)]
        # It draws progress bars whatever it is asked.
        with contextlib.redirect_stderr(io.StringIO()):
            return np.array(harness.loglikelihood_rolling(requests, disable_tqdm=True))

    lengths = []
    for name, texts in (("short texts", short), ("long texts", long)):
        both = [lambda some=texts, how=how: how(some) for how in (our_rolling, their_rolling)]
        rows.append(side_by_side(name, *both, harness, texts[: len(texts) // 2], options.repeats))
        n_tokens = score.score_text(model, tokenizer, texts, context=context, stride=context)["n_tokens"]
        lengths.append(f"{len(texts)} {name} of {n_tokens.mean():.0f} tokens")
    remaining = spent(lambda: (continuations(max(options.shots), list(LABELS.values()))[0](), our_rolling(long)))
    about = (
        f"{type(model).__name__} of {size:.1f} million parameters, vocabulary {len(tokenizer)}, float32, "
        f"{options.threads} thread{'s' * (options.threads > 1)} of {processor()}; {len(queries)} "
        f"queries x {len(LABELS)} labels; {' and '.join(lengths)} on average, context {context}; "
        f"processor seconds, medians of {options.repeats}; lm_eval 0.4.13, transformers {transformers.__version__}."
    )
    options.out.mkdir(parents=True, exist_ok=True)
    write(rows, about, remaining, options.out)
    ratios = {row["name"]: row["ratio"] for row in rows}
    missed = [
        f"{name}: {ratios[name]:.1f} x, wanted {least} x"
        for name, least in WANTED.items()
        if ratios.get(name, least) < least
    ]
    missed += [f"{row['name']}: {row['apart']:.1g} nats apart" for row in rows if row["apart"] > row["allowed"]]
    print("\n".join(missed) or "all ratios as wanted")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
