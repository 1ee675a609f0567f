"""Training on a GPU beside transformers' Trainer and beside what the device can multiply; writes docs/gpu.md.

    python benchmarks/bench_gpu.py [--minutes 8] [--toy] [--out docs] [--folder build/gpu]

A decoder of Qwen3's make with 0.6 billion random parameters on pydocs' text (full, LoRA and, with bitsandbytes, QLoRA),
and all-MiniLM-L6-v2 on pydocs (full, LoRA), in bfloat16. Beside them the Trainer with its defaults: float32, batches of
8 in random order, each padded to its longest. The peak is that of square products, measured now. What a trial foretells
of the GPU's memory stands beside what the training then took. A part is begun only while minutes are left, and each
line is written when it is known. Where there is no GPU, or with --toy, the same is done with toys.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers
from _studies import processor, write

import ftlib as ft
from ftlib.config.methods import METHODS
from ftlib.core.format import size
from ftlib.execution.benchmark import matmul_peak
from ftlib.execution.planning.dry_run import run_trial
from ftlib.models import weights
from ftlib.records import provenance

SHAPE = {
    "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
    "intermediate_size": 3072, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip
"""Of Qwen3-0.6B (Yang et al. 2025, table 1)."""

TOY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
TOY |= {"intermediate_size": 64, "vocab_size": 8192, "tie_word_embeddings": True}

HEADER = "| model | method | examples/s | share of the peak | Trainer, examples/s | ratio | GPU memory | foretold |"


class Quiet(ft.Events):
    """No lines about steps."""

    def say(self, *_, **__):
        """Nothing."""


def decoder(folder, shape):
    """A decoder of Qwen3's make with random weights, and tiny-lm's words."""
    if not (folder / "config.json").exists():
        torch.manual_seed(0)
        words = transformers.AutoTokenizer.from_pretrained(weights.find("tiny-lm").folder, local_files_only=True)
        config = transformers.Qwen3Config(**shape, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id)
        transformers.Qwen3ForCausalLM(config).save_pretrained(folder)
        words.save_pretrained(folder)
    return str(folder)


def specs(device, toy, folder):
    """What is measured: experiments."""
    n = {"train_limit": 8, "epochs": 1.0} if toy else {"train_limit": 0, "epochs": 1.0}
    name = decoder(Path(folder) / ("qwen3-toy" if toy else "qwen3-0.6b"), TOY if toy else SHAPE)
    # Weights that know nothing want small steps; what they learn is not looked at.
    text = {"task": "pydocs_text", "model": name, "batch_size": 8, "learning_rate": 1e-5, "context": 512}
    labels = {"task": "pydocs", "model": "minilm", "batch_size": 4 if toy else 64}
    common = {"device": device, "seed": 0, "validations": 1} | n
    found = [ft.Experiment(method=method, **text, **common) for method in ("full", "lora", "qlora")]
    return [*found, *(ft.Experiment(method=method, **labels, **common) for method in ("full", "lora"))]


def reset(device):
    """Forget the highest mark of the device's memory."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def ours(spec):
    """Examples a second, share of the measured peak, and the device's memory in bytes, None without one."""
    task, model = ft.load_task(spec.task), ft.load_model(spec.model, device=spec.device, threads=spec.threads)
    reset(model.device)
    cost = ft.adapt(spec, task, model, Quiet()).cost
    share = cost["achieved_flops_per_second"] / matmul_peak(model.device, model.dtype, model.threads)
    return cost["train_examples_per_second"], share, provenance.peak_memory()["peak_device_memory_bytes"]


def theirs(spec):
    """Examples a second of transformers' Trainer with its defaults, on the same texts."""
    task, model = ft.load_task(spec.task), ft.load_model(spec.model, device=spec.device)
    made = METHODS[spec.method].prepare()(model, spec, task, task.draw(**spec.drawing()))
    train = task.draw(**spec.drawing())
    most = spec.max_length if task.has_labels else spec.context
    ids = model.tokenizer(train["text"].tolist(), truncation=True, max_length=most)["input_ids"]
    examples = [{"input_ids": one} for one in ids]
    if task.has_labels:
        examples = [
            one | {"labels": task.labels.index(name)} for one, name in zip(examples, train["label"], strict=True)
        ]
        pad = transformers.DataCollatorWithPadding(model.tokenizer)
    else:
        pad = transformers.DataCollatorForLanguageModeling(model.tokenizer, mlm=False)
    with tempfile.TemporaryDirectory() as folder:
        how = transformers.TrainingArguments(
            folder, num_train_epochs=1, report_to="none", save_strategy="no", disable_tqdm=True, seed=0,
            use_cpu=model.device == "cpu", dataloader_pin_memory=model.device == "cuda",
        )  # fmt: skip
        module = made.trainable.module
        trainer = transformers.Trainer(module, how, train_dataset=examples, data_collator=pad)
        trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
        start = time.perf_counter()
        trainer.train()
        return len(examples) / (time.perf_counter() - start)


def row(spec, peak):
    """One line of the table."""
    foretold = run_trial([spec])["variants"][0]["peak_device_memory_bytes"]
    speed, share, held = ours(spec)
    reset(spec.device)
    other = theirs(spec)
    memory = [size(held), size(foretold)] if held else ["no GPU", "no GPU"]
    of, numbers = f"{share:.0%} of {peak / 1e12:.3g} TFLOP/s", [f"{other:.1f}", f"{speed / other:.2f}"]
    return f"| {' | '.join([Path(spec.model).name, spec.method, f'{speed:.1f}', of, *numbers, *memory])} |"


def main():
    """Measure what there is time for; 0 where every part was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--out", default="docs")
    parser.add_argument("--folder", default="build/gpu")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    toy, end = options.toy or device == "cpu", time.monotonic() + 60 * options.minutes
    text, longest, left_out = [], 0.0, 0

    def add(*lines):
        """Print lines and keep them at once: what comes after them may be stopped."""
        print("\n".join(lines), flush=True)
        text.extend(lines)
        write(Path(options.out) / ("gpu_toy.md" if toy else "gpu.md"), "\n".join(text) + "\n")

    kind = "toys, which say nothing of speed" if toy else "a decoder of 0.6 billion random parameters, and MiniLM"
    peak = matmul_peak(device, "bfloat16", 1)
    add(f"# Training on a GPU ({kind})", "", f"{processor(device)}; made by `python benchmarks/bench_gpu.py`.", "")
    add(HEADER, "| --- | --- | --- | --- | --- | --- | --- | --- |")
    for spec in specs(device, toy, options.folder):
        start, name = time.monotonic(), f"| {Path(spec.model).name} | {spec.method}"
        if lacking := METHODS[spec.method].lacks(device):
            add(f"{name} | {lacking} | | | | | |")
        elif start + longest > end:
            left_out += 1
            add(f"{name} | not measured: {options.minutes:g} minutes were over | | | | | |")
        else:
            add(row(spec, peak))
            longest = max(longest, time.monotonic() - start)
    return left_out


if __name__ == "__main__":
    sys.exit(main())
