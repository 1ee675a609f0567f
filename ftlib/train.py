"""The training of every method that trains: transformers' Trainer, guarded and watched."""

import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from ftlib import provenance
from ftlib.events import Events
from ftlib.families import DECODER, ENCODER
from ftlib.frozen import remembering
from ftlib.lean import lean
from ftlib.losses import in_slices
from ftlib.methods import Trainable
from ftlib.models import Model
from ftlib.ranks import divided, rank
from ftlib.score import passes
from ftlib.shards import in_shards
from ftlib.spec import Experiment
from ftlib.steps import Steps
from ftlib.watch import Watch

if TYPE_CHECKING:
    import pandas as pd


class Training(NamedTuple):
    """What training took."""

    seconds: float
    examples_per_second: float
    flops_per_second: float
    """Of the matrix products alone, and of what texts need without padding (model FLOPs as in Chowdhery et al. 2022,
    appendix B), as torch counts them."""
    validation_seconds: float
    """Spent on the loss on validation, beside `seconds`."""
    others: tuple[int, int]
    """Bytes that the other processes of this training used at their peak: of main memory, all together; of a GPU's
    memory, the most that one of them did."""


def fit(
    trainable: Trainable,
    model: Model,
    spec: Experiment,
    train: "pd.DataFrame",
    events: Events,
    validation: "pd.DataFrame | None" = None,
) -> Training:
    """Train a module in place.

    AdamW, linear decay after a warm-up of a tenth of the steps (steady over seeds: Mosbach et al. 2021, section 6),
    batches as `mixed_lengths` or the method makes them, bfloat16 autocast where the model's dtype says so. Everything
    random follows the seed. With few examples the passes go on until `min_steps` are made. Where a new head is to start
    at a probe, it is fitted first, which is no part of the seconds returned.

    Several processes (torchrun) each compute the gradient of their share of every batch, and hold the whole module
    meanwhile, or a part of it (`ftlib.ranks.divided`); all of them call this, and end with the same weights.

    Args:
        trainable: What to train, and how its examples are encoded; parameters that require no gradient stay.
        model: The base model: device and dtype.
        spec: learning_rate, epochs, min_steps, batch_size, seed and `ftlib.combinations.HOW` are read, resolved.
        train: The training examples.
        events: Where progress is written.
        validation: Examples whose loss is measured meanwhile; None: none is.

    Raises:
        Diverged: The loss is not finite.
        FtlibError: The experiment asks for another number of processes than there are; see `ftlib.ranks.rank`.
    """
    mine, in_parts = rank(spec), divided(spec)
    settings = spec.resolved()
    module, examples = trainable.module, trainable.encode(train)
    if trainable.begin:
        trainable.begin(trainable, examples)
    size, rate = settings["batch_size"], settings["learning_rate"]
    per_pass = math.ceil(len(examples) / size)
    steps = max(math.ceil(per_pass * settings["epochs"]), settings["min_steps"])
    lengths = [len(example["input_ids"]) for example in examples]
    choose = trainable.batches or partial(mixed_lengths, lengths, rng=np.random.default_rng(spec.seed))
    at = validation_steps(spec, steps) if validation is not None else []
    watched = trainable.encode(looked_at(validation, spec, steps * size, len(at))) if at else []
    # Texts of a single token have no loss.
    at = at if watched else []
    on_cpu = model.device == "cpu"
    # On a GPU two small passes take longer than one with padding.
    by_itself = 0 if trainable.alone and on_cpu and model.tokenizer.padding_side == "right" else 1
    with tempfile.TemporaryDirectory() as folder:
        trainer = Steps(
            choose(size, steps),
            trainable.collate,
            parts=spec.gradient_accumulation if spec.gradient_accumulation > 1 else by_itself,
            separable=trainable.separable,
            sliced=model.family == DECODER and in_slices(module),
            compiled=spec.torch_compile,
            pull=trainable.pull,
            model=module,
            train_dataset=examples,
            args=transformers.TrainingArguments(
                output_dir=folder,
                max_steps=steps,
                learning_rate=rate,
                per_device_train_batch_size=size,
                warmup_steps=math.ceil(steps / 10),
                lr_scheduler_type="linear",
                weight_decay=0.01,
                optim="adamw_torch_fused",
                bf16=model.bf16,
                use_cpu=on_cpu,
                seed=spec.seed,
                data_seed=spec.seed,
                dataloader_pin_memory=model.device == "cuda",
                logging_steps=max(1, steps // 50),
                # Otherwise a model full of NaN logs a loss of 0 and looks like the best of all.
                logging_nan_inf_filter=False,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                # Layers that a task does not use, such as a pooler, get no gradient.
                ddp_find_unused_parameters=True,
                ddp_backend="gloo" if on_cpu and spec.processes > 1 else None,
                # The others wait while the first one measures; that one ended is noticed by what started them.
                ddp_timeout=7 * 24 * 3600,
            ),
        )
        # A process uses one GPU, however many there are.
        trainer.args._n_gpu = 1
        if mine:
            # Or else all processes would drop the same of different examples.
            torch.manual_seed(spec.seed + mine * 2**32)
        trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
        events.say("fit", learning_rate=rate, steps=steps, n=len(examples))
        start = time.perf_counter()
        called = passes.core(module).base_model if trainer.sliced else module
        # What is drawn back is drawn whether a text uses it or not.
        words = _words(model, [*examples, *watched]) if trainable.closed and not trainable.pull else None
        # Not in parts: who remembers a text would make a pass less than the others.
        same = model.family == ENCODER and not in_parts and _reads_rows(trainable, spec)
        once = remembering(module) if same else nullcontext()
        parts = in_shards(module, trainer.args.device) if in_parts else nullcontext(module)
        with lean(module, words), once, parts as trained:
            if in_parts:
                trainer.divide(trained)
            measure = partial(trainer.measured, trained, watched, 4 * size)
            watch = Watch(trained, events, trainable.enough, at, measure, len(watched), spec.patience)
            trainer.add_callback(watch)
            with _as_asked(trained, called, spec):
                trainer.train()
            watch.put_back()
            seconds = time.perf_counter() - start - watch.seconds
            flops = _flops(trainer, examples)
        # accelerate leaves its autocast in place; what is measured afterwards chooses its own arithmetic.
        trainer.accelerator.unwrap_model(module, keep_fp32_wrapper=False)
        peaks = trainer.of_all([value or 0 for value in provenance.peak_memory().values()]).long().tolist()
    seen = len(examples) * trainer.state.global_step / per_pass
    flops *= seen * sum(lengths) / len(lengths)
    others = [peak for place, peak in enumerate(peaks) if place != mine]
    beside = sum(main for main, _ in others), max((device for _, device in others), default=0)
    return Training(seconds, seen / seconds, flops / seconds, watch.seconds, beside)


def _reads_rows(trainable: Trainable, spec: Experiment) -> bool:
    """Whether every row of a batch is a text as it is: not masked, nothing before it; and the model not compiled."""
    plain = trainable.alone and not hasattr(trainable.module, "peft_config")
    return plain and not spec.torch_compile and not spec.gradient_checkpointing


def validation_steps(spec: Experiment, steps: int) -> list[int]:
    """After which steps the loss on validation is measured; the last is always one of them.

    With a number of examples per class there is none, unless it was asked for: whoever has few labels has no others.

    >>> validation_steps(Experiment(method="full"), 40), validation_steps(Experiment(method="full", shots=8), 40)
    ([8, 16, 24, 32, 40], [])
    """
    times = spec.validations or (0 if spec.shots else 5)
    return sorted({math.ceil(steps * time / times) for time in range(1, times + 1)})


MOST, LEAST = 512, 32
"""Validation examples whose loss is measured at a time."""


def looked_at(validation: "pd.DataFrame", spec: Experiment, seen: int, times: int) -> "pd.DataFrame":
    """The same for every run of a task; so few that measuring takes about a tenth of training, unless it decides."""
    # A pass forwards is a third of a training step's work.
    affordable = MOST if spec.patience else max(LEAST, min(MOST, 3 * seen // (10 * times)))
    return validation.iloc[np.random.default_rng(0).permutation(len(validation))[:affordable]]


def _words(model: Model, examples: Sequence[dict[str, Any]]) -> set[int] | None:
    """Every token that an encoder will see; other families also see what they are to say."""
    if model.family != ENCODER:
        return None
    return {model.tokenizer.pad_token_id}.union(*(example["input_ids"] for example in examples))


@contextmanager
def _as_asked(module: torch.nn.Module, called: torch.nn.Module, spec: Experiment) -> Iterator[None]:
    """Within it, the module trains with activations computed anew, and what is called of it is compiled, if asked."""
    models = [part for part in module.modules() if isinstance(part, transformers.PreTrainedModel)]
    if spec.gradient_checkpointing:
        models[0].activation_checkpointing_enable({"use_reentrant": False})
    if spec.torch_compile:
        called.compile(dynamic=True)
    try:
        yield
    finally:
        if spec.gradient_checkpointing:
            models[0].activation_checkpointing_disable()
        if spec.torch_compile:
            called._compiled_call_impl = None


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


def _flops(trainer: Steps, examples: Sequence[dict[str, Any]]) -> float:
    """Operations of the matrix products of a training step, per token that is not padding; what torch counts of them.

    Counted on the two examples in the middle of the order by length, which need next to no padding.
    """
    middle = sorted(examples, key=lambda example: len(example["input_ids"]))[(len(examples) - 1) // 2 :][:2]
    inputs = trainer._prepare_inputs(trainer.collate(middle))
    # No gradient is kept, and what chance gives next is as if nothing had been counted.
    with torch.random.fork_rng(), FlopCounterMode(display=False) as counter:
        trainer.model.train()
        trainer.loss_of(trainer.model, inputs).backward()
    trainer.model.zero_grad()
    return counter.get_total_flops() / sum(len(example["input_ids"]) for example in middle)
