"""The training step of every method that trains: transformers' Trainer, guarded and watched."""

import ctypes
import math
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import transformers

from ftlib.errors import Diverged
from ftlib.families import DECODER
from ftlib.losses import in_slices, next_token_loss
from ftlib.methods import Trainable
from ftlib.models import Model
from ftlib.records import Events
from ftlib.spec import Experiment

if TYPE_CHECKING:
    import pandas as pd


class Training(NamedTuple):
    """What training took."""

    seconds: float
    examples_per_second: float
    flops_per_second: float
    """Of the matrix products alone: 2 per parameter and token forwards, 2 backwards, 2 more for those that move
    (Kaplan et al. 2020, section 2.1)."""


class _Watch(transformers.TrainerCallback):
    def __init__(self, events: Events, enough: float) -> None:
        self.events, self.enough = events, enough
        self.last: deque[float] = deque(maxlen=3)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        # `loss` is the mean since the last entry; `train_loss`, at the end, that of the whole training.
        if "loss" in logs:
            self.events.say("step", step=state.global_step, of=state.max_steps, loss=round(logs["loss"], 6))
        loss = logs.get("loss", logs.get("train_loss", 0.0))
        if not math.isfinite(loss):
            raise Diverged(
                f"the training loss became {loss} by step {state.global_step} of {state.max_steps}; "
                f"a learning_rate below {args.learning_rate:g} usually helps"
            )
        self.last.append(loss)
        # Three in a row: one batch may be easy.
        if len(self.last) == self.last.maxlen and max(self.last) < self.enough:
            control.should_training_stop = True


class _Trainer(transformers.Trainer):
    """Sees the batches that `fit` chooses, and takes losses in parts, which needs less time and memory."""

    sliced = False
    """Whether the loss of a causal model is taken a few positions at a time."""
    halved = False
    """Whether the shorter half of a batch is computed apart from the longer one."""
    chosen: Sequence[list[int]] = ()
    """Which examples each step sees."""

    def get_train_dataloader(self) -> torch.utils.data.DataLoader:
        how = {"collate_fn": self.data_collator, "pin_memory": self.args.dataloader_pin_memory}
        return torch.utils.data.DataLoader(self.train_dataset, batch_sampler=self.chosen, **how)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if self.halved:
            return _in_halves(model, inputs)
        if not self.sliced:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        dtype = torch.bfloat16 if self.args.bf16 else torch.float32
        return next_token_loss(self.accelerator.unwrap_model(model, keep_fp32_wrapper=False), inputs, dtype)


def fit(trainable: Trainable, model: Model, spec: Experiment, train: "pd.DataFrame", events: Events) -> Training:
    """Train a module in place.

    AdamW, linear decay after a warm-up of a tenth of the steps (steady over seeds: Mosbach et al. 2021, section 6),
    batches as `mixed_lengths` or the method makes them, bfloat16 autocast where the model's dtype says so. Everything
    random follows the seed. With few examples the passes go on until `min_steps` are made.

    Args:
        trainable: What to train, and how its examples are encoded; parameters that require no gradient stay.
        model: The base model: device and dtype.
        spec: learning_rate, epochs, min_steps, batch_size and seed are read, resolved.
        train: The training examples.
        events: Where progress is written.

    Raises:
        Diverged: The loss is not finite.
    """
    _keep_large_blocks()
    settings = spec.resolved()
    module, examples = trainable.module, trainable.encode(train)
    per_pass = math.ceil(len(examples) / settings["batch_size"])
    steps = max(math.ceil(per_pass * settings["epochs"]), settings["min_steps"])
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            learning_rate=settings["learning_rate"],
            per_device_train_batch_size=settings["batch_size"],
            warmup_steps=math.ceil(steps / 10),
            lr_scheduler_type="linear",
            weight_decay=0.01,
            optim="adamw_torch_fused",
            bf16=model.bf16,
            use_cpu=model.device == "cpu",
            seed=spec.seed,
            data_seed=spec.seed,
            dataloader_pin_memory=model.device == "cuda",
            logging_steps=max(1, steps // 50),
            # Otherwise a model full of NaN logs a loss of 0 and looks like the best of all.
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = _Trainer(
            model=module,
            args=arguments,
            train_dataset=examples,
            data_collator=trainable.collate,
            callbacks=[_Watch(events, trainable.enough)],
        )
        lengths = [len(example["input_ids"]) for example in examples]
        choose = trainable.batches or partial(mixed_lengths, lengths, rng=np.random.default_rng(spec.seed))
        trainer.chosen = choose(settings["batch_size"], steps)
        # On a GPU two small passes take longer than one with padding.
        trainer.halved = trainable.alone and model.device == "cpu" and model.tokenizer.padding_side == "right"
        trainer.sliced = model.family == DECODER and in_slices(module)
        trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
    seen = len(examples) * trainer.state.global_step / per_pass
    mean_length = sum(lengths) / len(lengths)
    moving, total = _multiplied(module)
    return Training(seconds, seen / seconds, (4 * total + 2 * moving) * seen * mean_length / seconds)


def _in_halves(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The mean loss of a batch, its longer and its shorter half each padded to its own longest text."""
    lengths = inputs["attention_mask"].sum(dim=1)
    loss = 0.0
    for rows in lengths.argsort(descending=True, stable=True).chunk(2):
        width = int(lengths[rows].max())
        half = {name: value[rows, :width] if value.ndim > 1 else value[rows] for name, value in inputs.items()}
        loss = loss + model(**half)["loss"] * (len(rows) / len(lengths))
    return loss


def mixed_lengths(lengths: Sequence[int], size: int, steps: int, rng: np.random.Generator) -> list[list[int]]:
    """Random batches, and of similar length where examples are many: padding costs as much as words.

    A pass is shuffled and cut into pools of up to 50 batches, which are sorted by length, as transformers does. Fewer
    than eight batches are left as chance made them: length can go with the label, and sorting few examples would make
    every batch one of few labels.

    Args:
        lengths: (n,) tokens.
        size: Examples per batch; the last one of a pass may have fewer.
        steps: Batches.
        rng: Source of chance.

    Returns:
        `steps` lists of indices; every example is used once before any is used again.

    >>> batches = mixed_lengths([9, 1, 1, 9, 9, 1], 3, 4, np.random.default_rng(0))
    >>> sorted(batches[0] + batches[1]), len(batches)
    ([0, 1, 2, 3, 4, 5], 4)
    """
    n, found = len(lengths), []
    pool = size * max(1, min(n // (4 * size), 50))
    while len(found) < steps:
        order = rng.permutation(n)
        parts = []
        for start in range(0, n, pool):
            some = order[start : start + pool]
            if pool > size:
                some = some[np.argsort(np.asarray(lengths)[some], kind="stable")]
            parts += [some[first : first + size].tolist() for first in range(0, len(some), size)]
        found += [parts[place] for place in rng.permutation(len(parts))]
    return found[:steps]


def _keep_large_blocks() -> None:
    """Let the C library keep memory that was freed: it gives large blocks back to the system and asks for them anew.

    A step writes a gradient of every embedding, tens of megabytes, and each page that comes from the system costs a
    fault: a tenth of the step of a small model. glibc alone has the call.
    """
    if sys.platform != "linux" or not hasattr(library := ctypes.CDLL(None), "mallopt"):
        return
    trim_threshold, mmap_threshold = -1, -3
    library.mallopt(mmap_threshold, 2**30)
    library.mallopt(trim_threshold, 2**31 - 1)


def _multiplied(module: torch.nn.Module) -> tuple[int, int]:
    """Parameters that move, and all, of the layers that multiply; an embedding is looked up, not multiplied."""
    layers = [layer for layer in module.modules() if not isinstance(layer, torch.nn.Embedding)]
    found = [parameter for layer in layers for parameter in layer.parameters(recurse=False)]
    return sum(p.numel() for p in found if p.requires_grad), sum(p.numel() for p in found)
