"""The training step of every method that trains: transformers' Trainer, guarded and watched."""

import math
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

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


class _Trainer(transformers.Trainer):
    """Takes the loss of causal models in slices, which needs a fraction of the memory and less time."""

    sliced = False

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if not self.sliced:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        dtype = torch.bfloat16 if self.args.bf16 else torch.float32
        return next_token_loss(self.accelerator.unwrap_model(model, keep_fp32_wrapper=False), inputs, dtype)


def fit(trainable: Trainable, model: Model, spec: Experiment, train: "pd.DataFrame", events: Events) -> Training:
    """Train a module in place.

    AdamW, linear decay after a warm-up of a tenth of the steps (steady over seeds: Mosbach et al. 2021, section 6),
    batches of similar length, bfloat16 autocast where the model's dtype says so. Everything random follows the seed.

    Args:
        trainable: What to train, and how its examples are encoded; parameters that require no gradient stay.
        model: The base model: device and dtype.
        spec: learning_rate, epochs, batch_size and seed are read, resolved.
        train: The training examples.
        events: Where progress is written.

    Raises:
        Diverged: The loss is not finite.
    """
    settings = spec.resolved()
    module, examples = trainable.module, trainable.encode(train)
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
        trainer = _Trainer(
            model=module,
            args=arguments,
            train_dataset=examples,
            data_collator=trainable.collate,
            callbacks=[_Watch(events)],
        )
        trainer.sliced = model.family == DECODER and in_slices(module)
        trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
    seen = min(steps * settings["batch_size"], math.ceil(len(examples) * settings["epochs"]))
    mean_length = sum(len(example["input_ids"]) for example in examples) / len(examples)
    moving, total = _multiplied(module)
    return Training(seconds, seen / seconds, (4 * total + 2 * moving) * seen * mean_length / seconds)


def _multiplied(module: torch.nn.Module) -> tuple[int, int]:
    """Parameters that move, and all, of the layers that multiply; an embedding is looked up, not multiplied."""
    layers = [layer for layer in module.modules() if not isinstance(layer, torch.nn.Embedding)]
    found = [parameter for layer in layers for parameter in layer.parameters(recurse=False)]
    return sum(p.numel() for p in found if p.requires_grad), sum(p.numel() for p in found)
