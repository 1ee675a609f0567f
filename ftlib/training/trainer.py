"""One training step: a batch in parts, by one process or several, with the loss each family of models needs.

The training of every method that trains: transformers' Trainer, guarded and watched.
"""

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from ftlib.config.experiment import Experiment
from ftlib.config.methods import DECODER, ENCODER
from ftlib.models.loading import Model
from ftlib.models.unpadded import unpadded
from ftlib.records import provenance
from ftlib.records.events import Events
from ftlib.training.callbacks import Watch
from ftlib.training.contract import Trainable
from ftlib.training.cpu import lean, remembering
from ftlib.training.distributed import apart, divided, in_shards, rank
from ftlib.training.lm import IGNORED, in_slices, next_token_loss

if TYPE_CHECKING:
    import pandas as pd

Example = dict[str, Any]

WORTH = 0.1
"""Share of a batch's tokens, padding included, from which computing it in two parts is less work than in one."""


class Steps(transformers.Trainer):
    """transformers' Trainer, given its batches, each computed in parts whose gradients add up.

    Args:
        chosen: Which examples each step sees, of all processes together.
        collate: Examples as one padded batch.
        parts: In how many parts each process computes its share; 0: two on a processor where that saves padding.
        separable: Whether the loss is a mean over examples or tokens, so that a batch can be taken apart.
        sliced: Whether the loss of a causal model is taken a few positions at a time.
        pull: Adds to the gradients of a step what is no loss of examples.
        more: What `transformers.Trainer` takes.
    """

    def __init__(
        self,
        chosen: Sequence[list[int]],
        collate: Callable[[list[Example]], dict[str, Any]],
        *,
        parts: int,
        separable: bool,
        sliced: bool,
        pull: Callable[[], None] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(**more)
        self.chosen, self.collate, self.parts, self.separable = chosen, collate, parts, separable
        self.pull, self.divided = pull, False
        self.rank, self.world = self.args.process_index, self.args.world_size
        # Only the wrapper's own forward pass tells other processes that a backward pass will follow.
        self.sliced = sliced and self.world == 1

    def divide(self, part: torch.nn.Module) -> None:
        """Train what is in shards (`ftlib.training.distributed`); every process calls it as often as the others do."""
        self.model = self.model_wrapped = part
        # What transformers itself loads in shards it neither wraps nor moves.
        self.divided = self.is_distributed_loading_by_transformers = True

    def get_train_dataloader(self) -> torch.utils.data.DataLoader:
        """Each step's examples as parts, of which every process sees its own."""
        pin = self.args.dataloader_pin_memory
        return torch.utils.data.DataLoader(
            self.train_dataset, batch_sampler=self.chosen, collate_fn=self._mine, pin_memory=pin
        )

    def _mine(self, examples: list[Example]) -> dict[str, Any]:
        if not self.separable:
            return {"parts": [(1.0, self.collate(examples))]}
        whole = sum(map(counted, examples))
        # A process for which nothing is left computes something that counts for nothing: the others wait for it.
        mine = examples[self.rank :: self.world]
        parts = shares(mine, self.parts) if mine else [examples[:1]]
        weight = self.world / whole if mine else 0.0
        found = [(weight * sum(map(counted, part)), self.collate(part)) for part in parts]
        if self.divided:
            others = (examples[rank :: self.world] for rank in range(min(self.world, len(examples))))
            most = max(len(shares(other, self.parts)) for other in others)
            found += [(0.0, self.collate(examples[:1]))] * (most - len(found))
        return {"parts": found}

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """The gradient of one step, and its loss."""
        model.train()
        parts, total = self._prepare_inputs(inputs)["parts"], 0.0
        # Around all parts, so that the weights are turned into bfloat16 once.
        with self._autocast():
            for place, (share, part) in enumerate(parts):
                last = place == len(parts) - 1
                with nullcontext() if last else self.accelerator.no_sync(model):
                    loss = self.loss_of(model, part) * share
                    with torch.autocast(self.args.device.type, enabled=False):
                        self.accelerator.backward(loss)
                total = total + loss.detach()
        if self.pull:
            self.pull()
        return total

    def loss_of(self, model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        """The mean loss over the examples, or over the tokens whose loss counts."""
        if not self.sliced:
            return model(**inputs)["loss"]
        dtype = torch.bfloat16 if self.args.bf16 else torch.float32
        return next_token_loss(self.accelerator.unwrap_model(model, keep_fp32_wrapper=False), inputs, dtype)

    @torch.no_grad()
    def measured(self, module: torch.nn.Module, examples: Sequence[Example], size: int) -> float:
        """The mean loss over examples that are not trained on, in batches of similar length.

        Each process measures its share, and all are told the same: they must agree when to stop.
        """
        module.eval()
        order = sorted(examples, key=lambda example: -len(example["input_ids"]))[self.rank :: self.world]
        # The first process has the most; another one goes through something that counts for nothing beside it.
        most = -(-len(examples) // self.world)
        total, n = 0.0, 0
        with self._autocast():
            for start in range(0, most, size):
                some = order[start : start + size]
                weight = sum(map(counted, some))
                loss = self.loss_of(module, self._prepare_inputs(self.collate(some or examples[:1])))
                total, n = total + float(loss) * weight, n + weight
        if self.divided:
            apart(module)
        module.train()
        total, n = self.of_all([total, n]).sum(dim=0).tolist()
        return total / n

    def of_all(self, values: Sequence[float]) -> torch.Tensor:
        """What every process gives: (n_values,) -> (n_processes, n_values)."""
        mine = torch.tensor([list(values)], dtype=torch.float64)
        return self.accelerator.gather(mine.to(self.args.device)).cpu() if self.world > 1 else mine

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.args.device.type, dtype=torch.bfloat16, enabled=self.args.bf16)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted here: `ftlib.training.trainer` counts what texts need, without padding."""
        return 0


def counted(example: Example) -> int:
    """What an example counts for in a mean: 1 where it has one label, else its tokens whose loss counts.

    >>> counted({"input_ids": [5, 6, 7], "labels": 2}), counted({"input_ids": [5, 6, 7]})
    (1, 2)
    >>> counted({"input_ids": [5, 6, 7], "labels": [-100, -100, 7]})
    1
    """
    labels = example.get("labels")
    if labels is None:
        return len(example["input_ids"]) - 1
    return 1 if isinstance(labels, int) else sum(label != IGNORED for label in labels)


def shares(examples: Sequence[Example], parts: int) -> list[list[Example]]:
    """A batch taken apart, the longest first, so that each part is padded to its own longest.

    Args:
        examples: At least one.
        parts: How many, where there are as many examples; 0: two if that leaves out a tenth of the tokens, else one.

    >>> long, short = {"input_ids": [1] * 9}, {"input_ids": [1] * 2}
    >>> [len(part) for part in shares([short, long, short, long], 0)], len(shares([long, long], 0))
    ([2, 2], 1)
    """
    order = sorted(examples, key=lambda example: -len(example["input_ids"]))
    lengths = [len(example["input_ids"]) for example in order]
    half = -(-len(order) // 2)
    if not parts:
        parts = 2 if lengths[0] - lengths[-1] and _saved(lengths, half) > WORTH else 1
    size = -(-len(order) // parts)
    return [order[start : start + size] for start in range(0, len(order), size)]


def _saved(lengths: Sequence[int], half: int) -> float:
    """Share of the tokens, padding included, that two parts do without; lengths from the longest down."""
    return (len(lengths) - half) * (lengths[0] - lengths[half]) / (len(lengths) * lengths[0])


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

    AdamW, linear decay after a warm-up of a tenth of the steps (steady over seeds: Mosbach et al. 2021, section 6);
    fewer than ten have none, whose first step would move nothing. Batches as `mixed_lengths` or the method makes them,
    bfloat16 autocast where the model's dtype says so. Everything random follows the seed. With few examples the passes
    go on until `min_steps` are made. Where a new head is to start at a probe, it is fitted first, which is no part of
    the seconds returned.

    Several processes (torchrun) each compute the gradient of their share of every batch, and hold the whole module
    meanwhile, or a part of it (`ftlib.training.distributed.divided`); all of them call this, and end with the same
    weights.

    Args:
        trainable: What to train, and how its examples are encoded; parameters that require no gradient stay.
        model: The base model: device and dtype.
        spec: learning_rate, epochs, min_steps, batch_size, seed and `ftlib.config.constraints.HOW` are read, resolved.
        train: The training examples.
        events: Where progress is written.
        validation: Examples whose loss is measured meanwhile; None: none is.

    Raises:
        Diverged: The loss is not finite.
        FtlibError: The experiment asks for another number of processes than there are; see
            `ftlib.training.distributed.rank`.
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
    rows = trainable.alone and model.unpads
    # Where padding is computed, in two parts there is less of it; on a GPU two small passes take longer than one.
    by_itself = 0 if rows else 1
    with tempfile.TemporaryDirectory() as folder:
        trainer = Steps(
            choose(size, steps),
            trainable.collate,
            parts=spec.gradient_accumulation if spec.gradient_accumulation > 1 else by_itself,
            separable=trainable.separable,
            sliced=model.family == DECODER and in_slices(module),
            pull=trainable.pull,
            model=module,
            train_dataset=examples,
            args=transformers.TrainingArguments(
                output_dir=folder,
                max_steps=steps,
                learning_rate=rate,
                per_device_train_batch_size=size,
                warmup_steps=math.ceil(steps / 10) if steps >= 10 else 0,
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
        # What is drawn back is drawn whether a text uses it or not.
        words = _words(model, [*examples, *watched]) if trainable.closed and not trainable.pull else None
        # Not in parts: who remembers a text would make a pass less than the others.
        same = model.family == ENCODER and not in_parts and _reads_rows(trainable, spec)
        once = remembering(module) if same else nullcontext()
        parts = in_shards(module, trainer.args.device) if in_parts else nullcontext(module)
        # The shortest and the longest example.
        ends = sorted(examples, key=lambda example: len(example["input_ids"]))[:: max(1, len(examples) - 1)]
        reads = rows and model.family == ENCODER and not spec.gradient_checkpointing
        bare = unpadded(module, lambda: module(**trainable.collate(ends))["loss"]) if reads else nullcontext(False)
        with lean(module, words), once, parts as trained:
            if in_parts:
                trainer.divide(trained)
            measure = partial(trainer.measured, trained, watched, 4 * size)
            watch = Watch(trained, events, trainable.enough, at, measure, len(watched), spec.patience)
            trainer.add_callback(watch)
            with _as_asked(trained, spec), bare as without:
                if without:
                    trainer.parts = trainer.parts or 1
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
    """Whether every row of a batch is a text as it is: not masked, nothing before it."""
    plain = trainable.alone and not hasattr(trainable.module, "peft_config")
    return plain and not spec.gradient_checkpointing


def validation_steps(spec: Experiment, steps: int) -> list[int]:
    """After which steps the loss on validation is measured; the last is always one of them.

    With a number of examples per class there is none, unless it was asked for: whoever has few labels has no others.
    Fewer where training is short, since each is of `LEAST` examples or more.

    >>> validation_steps(Experiment(method="full"), 40), validation_steps(Experiment(method="full", shots=8), 40)
    ([8, 16, 24, 32, 40], [])
    """
    seen = steps * int(spec.resolved()["batch_size"])
    times = spec.validations or (0 if spec.shots else min(5, max(2, int(AFFORDABLE * seen) // LEAST)))
    return sorted({math.ceil(steps * time / times) for time in range(1, times + 1)})


MOST, LEAST = 512, 8
"""Validation examples whose loss is measured at a time."""

AFFORDABLE = 3 / 25
"""Validation examples measured for each that is trained on, all looks together: a twenty-fifth of training's work, a
pass forwards being a third of a step's."""


def looked_at(validation: "pd.DataFrame", spec: Experiment, seen: int, times: int) -> "pd.DataFrame":
    """The same for every run of a task; so few that measuring takes a twentieth of training, unless it decides."""
    affordable = MOST if spec.patience else max(LEAST, min(MOST, int(AFFORDABLE * seen) // times))
    return validation.iloc[np.random.default_rng(0).permutation(len(validation))[:affordable]]


def _words(model: Model, examples: Sequence[dict[str, Any]]) -> set[int] | None:
    """Every token that an encoder will see; other families also see what they are to say."""
    if model.family != ENCODER:
        return None
    return {model.tokenizer.pad_token_id}.union(*(example["input_ids"] for example in examples))


@contextmanager
def _as_asked(module: torch.nn.Module, spec: Experiment) -> Iterator[None]:
    """Within it, the module trains with activations computed anew, if asked."""
    if not spec.gradient_checkpointing:
        yield
        return
    model = next(part for part in module.modules() if isinstance(part, transformers.PreTrainedModel))
    model.activation_checkpointing_enable({"use_reentrant": False})
    try:
        yield
    finally:
        model.activation_checkpointing_disable()


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

    As the model is made: what `ftlib.models.unpadded` leaves out makes training quicker, not smaller.

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
