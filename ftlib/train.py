"""The training step of every method that trains: transformers' Trainer, guarded and watched."""

import math
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
import transformers

from ftlib.errors import Diverged
from ftlib.models import Model
from ftlib.records import Events
from ftlib.spec import Experiment


class Training(NamedTuple):
    """What training took."""

    seconds: float
    examples_per_second: float
    flops_per_second: float
    """Of the matrix products alone: 2 per parameter and token forwards, 2 backwards, 2 more for those that move
    (Kaplan et al. 2020, section 2.1)."""


class _Watch(transformers.TrainerCallback):
    def __init__(self, events: Events) -> None:
        self.events = events

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


def fit(
    module: torch.nn.Module, model: Model, spec: Experiment, texts: Sequence[str], labels: Sequence[int], events: Events
) -> Training:
    """Train a classification module in place.

    AdamW, linear decay after a warm-up of a tenth of the steps (steady over seeds: Mosbach et al. 2021, section 6),
    batches of similar length, bfloat16 autocast where the model's dtype says so. Everything random follows the seed.

    Args:
        module: What to train; parameters that do not require a gradient stay.
        model: The base model: tokenizer, device, dtype.
        spec: learning_rate, epochs, batch_size, max_length and seed are read, resolved.
        texts: (n_examples,) training texts.
        labels: (n_examples,) label codes.
        events: Where progress is written.

    Raises:
        Diverged: The loss is not finite.
    """
    settings = spec.resolved()
    tokens = model.tokenizer(list(texts), truncation=True, max_length=spec.max_length)["input_ids"]
    examples = [{"input_ids": ids, "labels": label} for ids, label in zip(tokens, labels, strict=True)]
    steps = math.ceil(math.ceil(len(examples) / settings["batch_size"]) * settings["epochs"])
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
            train_sampling_strategy="group_by_length",
            dataloader_pin_memory=model.device == "cuda",
            logging_steps=max(1, steps // 50),
            # Otherwise a model full of NaN logs a loss of 0 and looks like the best of all.
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = transformers.Trainer(
            model=module,
            args=arguments,
            train_dataset=examples,
            data_collator=transformers.DataCollatorWithPadding(model.tokenizer),
            callbacks=[_Watch(events)],
        )
        trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
    seen = min(steps * settings["batch_size"], math.ceil(len(examples) * settings["epochs"]))
    mean_length = sum(map(len, tokens)) / len(tokens)
    moving, total = _multiplied(module)
    return Training(seconds, seen / seconds, (4 * total + 2 * moving) * seen * mean_length / seconds)


def _multiplied(module: torch.nn.Module) -> tuple[int, int]:
    """Parameters that move, and all, of the layers that multiply; an embedding is looked up, not multiplied."""
    layers = [layer for layer in module.modules() if not isinstance(layer, torch.nn.Embedding)]
    found = [parameter for layer in layers for parameter in layer.parameters(recurse=False)]
    return sum(p.numel() for p in found if p.requires_grad), sum(p.numel() for p in found)
