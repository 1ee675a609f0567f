"""A few real steps of every kind of run, timed, and the memory they took: what a forecast is made from.

`ftlib.execution.planning.estimate` starts `python -m ftlib.execution.planning.dry_run FOLDER`. That process imports
what runs import, once, and forks a child for every trial, as a study forks its runs; where nothing forks, children
start cold. Everything in a trial is the run's own: its model, its examples, its batches, its training loop, its
predictor. Only there is less of it.
"""

import contextlib
import importlib
import json
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib.config.experiment import Experiment
from ftlib.config.methods import ENCODER, METHODS
from ftlib.core.atomic import clock, write_json
from ftlib.core.errors import FtlibError
from ftlib.data import general
from ftlib.data.evaluations import evaluation_of
from ftlib.data.kinds import KINDS
from ftlib.data.task import Task
from ftlib.evaluation.evaluate import of_examples
from ftlib.execution import notebook_exec, worker
from ftlib.execution.planning.compatibility import Refused, in_words
from ftlib.execution.planning.memory_model import EVALUATED, FLOAT, shape_of
from ftlib.execution.run import drawn_examples, open_model, open_task, quantised
from ftlib.records import provenance
from ftlib.records.events import Events
from ftlib.training.contract import Predictor, Trainable

if TYPE_CHECKING:
    import pandas as pd

    from ftlib.models.loading import Model

MEASURED = 3
"""Training steps that are timed after a first one, at most."""

SAMPLE, WITHOUT_A_MODEL = 96, 5000
"""Training examples that a method without training steps is tried on; the same where it has no model and is quick."""

FEW = 16
"""Texts that reading is timed on, at most."""

SHARE, FREELY = 0.1, 5e11
"""A trial may do such a share of the work of its runs; or compute so much, which takes one core some seconds."""


def allowed(work: float, runs: int, model: "Model | None") -> float:
    """Tokens that a trial may read: going back through them, too, counts as reading twice.

    Args:
        work: Tokens that a run reads, counted like that.
        runs: That the trial speaks for.
        model: None: what takes no model is tried on as much as there is; and so it is on a GPU, which is quick.
    """
    if model is None or model.device == "cuda":
        return math.inf
    return max(SHARE * runs * work, FREELY / max(1, 2 * sum(a * b for a, b in shape_of(model.folder).linear)))


def middle(n: int, k: int = MEASURED) -> list[int]:
    """The middle one of each of k equal parts of n things in order: together they stand for all.

    >>> middle(9), middle(2), middle(1)
    ([1, 4, 7], [0, 1], [0])
    """
    return sorted({int((i + 0.5) * n / k) for i in range(k)})


class Batching(NamedTuple):
    """How texts are read together."""

    size: int
    """So many at a time."""
    pad_to_multiple_of: int = 0
    """Where a batch has texts of one length and is filled up with texts again: of so many tokens; else 0."""


def blocks_of(lengths: np.ndarray, size: int, step: int = 0) -> list[np.ndarray]:
    """Texts as a model reads them together, longest first; see `Batching`.

    >>> [block.tolist() for block in blocks_of(np.array([3, 9, 5]), 2)]
    [[1, 2], [0]]
    >>> [block.tolist() for block in blocks_of(np.array([3, 9, 5, 7]), 2, 4)]
    [[1], [2, 3], [0]]
    """
    order = np.argsort(-lengths, kind="stable")
    alike = [order]
    if step:
        widths = -(-lengths // step)
        alike = [np.flatnonzero(widths == width) for width in np.unique(widths)[::-1]]
    return [some[start : start + size] for some in alike for start in range(0, len(some), size)]


def read_at(lengths: np.ndarray, size: int, step: int = 0) -> int:
    """Tokens of texts that are read so, padding and filling included.

    >>> read_at(np.array([3, 9, 5, 1]), 2), read_at(np.array([3, 9, 5, 1]), 1), read_at(np.array([3, 9, 5, 7]), 2, 4)
    (24, 18, 48)
    """
    blocks = blocks_of(lengths, size, step)
    if step:
        return int(sum(size * -(-lengths[block[0]] // step) * step for block in blocks))
    return int(sum(len(block) * lengths[block[0]] for block in blocks))


def of_features(model: "Model") -> Batching:
    """How texts are read where their features are wanted (`ftlib.models.loading.read_alike`)."""
    # Whoever forks trials that need no model has not imported torch.
    from ftlib.models.loading import STEP, TOGETHER

    return Batching(TOGETHER.get(model.device, EVALUATED), STEP)


def batch_tokens(lengths: np.ndarray) -> int:
    """Tokens of a training batch: its longer and its shorter half are each padded to its longest text.

    Where no padding is computed there are a few less; a trial's own batches are counted in the same way.

    >>> batch_tokens(np.array([3, 9, 5, 1]))
    24
    """
    return read_at(lengths, -(-len(lengths) // 2))


def seconds_of(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds that some work took, and those that the cache has spared it."""
    start, alone = time.perf_counter(), clock()
    work()
    took = time.perf_counter() - start
    return took, max(0.0, clock() - alone - took)


def timed(work: Callable[[], Any]) -> float:
    """Seconds that some work takes, by itself: those included that the cache has spared it."""
    return sum(seconds_of(work))


def text_lengths(texts: Sequence[str], model: "Model | None", max_length: int | None = None) -> np.ndarray:
    """Tokens of each text; bytes where there is no tokenizer; at most max_length, where one is given."""
    if model is None:
        return np.array([len(text.encode()) for text in texts])
    cut = {"truncation": True, "max_length": max_length} if max_length else {}
    return np.array([len(ids) for ids in model.tokenizer(list(texts), verbose=False, **cut)["input_ids"]])


def _reading_time(
    read: Callable[["pd.DataFrame"], Any],
    texts: "pd.DataFrame",
    lengths: np.ndarray,
    batching: Batching,
    most: float = math.inf,
) -> Callable[[int], float]:
    """Seconds that reading any number of tokens takes: timed on two texts and on a few, all of middling length, or on
    as many batches of texts of one length as may be read.

    Args:
        read: It has read before, since a first call has more to do than later ones.
        texts: To choose from.
        lengths: Tokens of each.
        batching: How they are read.
        most: Tokens to read.
    """
    blocks = blocks_of(lengths, *batching)
    some = blocks[len(blocks) // 2]
    if batching.pad_to_multiple_of:
        many = np.clip(most / 2 / read_at(lengths[some], *batching), 1, 2 * MEASURED)
        some = np.concatenate([blocks[place] for place in middle(len(blocks), int(many))])
        if len(some) < 2:
            # Which is too few for an interval.
            some = np.argsort(lengths, kind="stable")[len(lengths) // 2 - 1 :][:2]
        took, once = seconds_of(partial(read, texts.iloc[some]))
        # What labels mean was read before and is kept: it is read once for all texts.
        each = took / read_at(lengths[some], *batching)
        return lambda tokens: once + each * tokens
    some = some[: int(np.clip(most / max(1, lengths[some[0]]), 4, FEW))]
    two, few = (timed(partial(read, texts.iloc[part])) for part in (some[:2], some))
    less, more = (read_at(lengths[part], *batching) for part in (some[:2], some))
    each = max(0.0, few - two) / (more - less) if more > less else few / max(1, more)
    # What a call does once, such as reading what labels mean, it does once for all texts, too.
    once = max(0.0, two - each * less)
    return lambda tokens: once + each * tokens


def _reading(
    spec: Experiment,
    task: Task,
    model: "Model | None",
    predictor: Predictor,
    most: float = math.inf,
    held: float = 0,
) -> dict[str, Any]:
    """Seconds that measuring takes, by what is measured: the test part, the validation part, the general text.

    The longest texts are read first, which shows the memory that it takes.

    Args:
        spec: The run.
        task: Whose test part is read.
        model: The base model.
        predictor: What reads.
        most: Tokens to read for one time.
        held: Tokens of which a training has held all that a layer computes, times the layers; 0 where there was none.
    """
    modelled, writes = KINDS[task.kind].of_text, KINDS[task.kind].writes
    longest, test = None if modelled else spec.max_length, task.test_set(spec.eval_limit)
    encoder = model is not None and model.family == ENCODER and not modelled
    batching = Batching(len(test) if model is None else EVALUATED if writes or encoder else 8)
    if encoder and (predictor.trainable is None or predictor.trainable.finish):
        batching = of_features(model)
    lengths = text_lengths(test["text"], model, longest)
    measure = partial(of_examples, "after", "test", task, predictor=predictor)
    first = blocks_of(lengths, *batching)[0]
    # A batch that is filled up is as large with one text; and what reading holds, of one layer, training held already.
    if batching.pad_to_multiple_of or (encoder and held >= read_at(lengths[first], *batching)):
        first = np.argsort(-lengths, kind="stable")[:2]
    measure(test.iloc[first])
    takes = _reading_time(measure, test, lengths, batching, most)
    others = text_lengths(task.splits["validation"]["text"], model, longest)
    found = {
        "eval_seconds": takes(read_at(lengths, *batching)),
        "validation_seconds": takes(read_at(others, *batching)),
    }
    found |= {"checkpoint_bytes": predictor.checkpoint_bytes, "general_seconds": 0.0}
    found["model_bytes"] = FLOAT * predictor.total_parameters if model else 0
    if model is not None:
        # Not tried, since what they cost is known beside what the test does.
        own, test_tokens = {spec.task, *spec.sequential_tasks, *spec.joint_tasks}, read_at(lengths, *batching)
        others = [name for name in spec.evaluations if name != "general"]
        beside = sum(evaluation_of(name).tokens_read(name, own, test_tokens) for name in others)
        found["general_seconds"] = takes(beside) if others else 0.0
    if "general" in spec.evaluations and model is not None and predictor.likelihood is not None:
        documents, batching = general.load_general(), Batching(8)
        lengths = text_lengths(documents["text"], model)
        if not modelled:
            score = predictor.likelihood.score
            score(documents["text"].iloc[blocks_of(lengths, *batching)[0]].tolist())
            takes = _reading_time(lambda some: score(some["text"].tolist()), documents, lengths, batching)
        found["general_seconds"] += takes(read_at(lengths, *batching))
    return found


class _Watch(Events):
    """Notes when each training step ended, the memory in use by then, and how many numbers of the module move."""

    def __init__(self, module: Any = None) -> None:
        super().__init__()
        self.module, self.moving = module, 0
        self.ends: list[float] = []
        self.peaks: list[dict[str, int | None]] = []

    def say(self, event: str, **facts: Any) -> None:
        if event == "step":
            # Now, since meanwhile it has only those embeddings that its texts use.
            self.moving = sum(weight.numel() for weight in self.module.parameters() if weight.requires_grad)
            self.ends.append(time.perf_counter())
            self.peaks.append(provenance.peak_memory())


FORWARD = 1 / 3
"""Reading is a third of a training step's work; going back through it is the rest."""

UNUSED, SETTLED = {"float32": 1.0, "bfloat16": 2.0}, 90
"""Steps on batches of ever other lengths leave memory unused between them, and kernels for their shapes: as much as so
many steps keep, after so many; then the high-water mark hardly rises.

Seen of MiniLM on pydocs, in GB. float32 (AVX2): full 1.11 after the longest batch, of which 0.36 are kept for the way
back, and 1.43 and 1.66 after 100 and 250 steps; LoRA 1.12, 0.50, 1.40 and 1.50. bfloat16, when padding was still
computed: full 1.1, 1.4 and 1.6 after 12, 80 and 100 steps, of which 0.17 are kept."""


class _Phase(NamedTuple):
    """One training that a run makes."""

    steps: int
    step_tokens: float
    """Mean over its batches."""
    train_tokens: int
    """Of all its examples, as they are read."""
    validation_tokens: int
    """That its looks at validation read, all together."""
    look: "pd.DataFrame | None"
    """The longest examples of validation, as many as are read at a time; None where there is no look."""
    longest: list[dict]
    """The batch with the most tokens: of encoded examples."""
    typical: list[list[dict]]
    """Batches that together stand for all."""
    some_of_each: list[dict]
    """Examples of every label, which a head's start needs."""
    held: float
    """Tokens of which the longest batch holds all that a layer computes, times the layers; 0: not known."""

    @property
    def work(self) -> float:
        """Tokens that a run reads, where going back through them counts as reading twice."""
        return self.steps * self.step_tokens / FORWARD + self.validation_tokens


class _Stepped(NamedTuple):
    """Training steps that were tried."""

    seconds_per_token: float
    fit_seconds: float
    """From the call to the first step."""
    begin_seconds_per_token: float
    """Of setting a new head to where it starts, by the tokens that are read for that."""
    peaks: list[dict[str, int | None]]
    """Memory after each step."""
    held: int
    """Bytes that stay between steps: weights, gradients and AdamW's two means."""
    dtype: str
    """That is computed in."""

    def grown(self, place: int, phase: _Phase) -> int:
        """Bytes by which the high-water mark will rise from a step to the last of many that differ in length."""
        if len(phase.typical) < 2:
            # Every step sees the same batch.
            return 0
        kept = max(0, self.peaks[place]["peak_memory_bytes"] - self.held)
        return round(kept * UNUSED[self.dtype] * min(1.0, phase.steps / SETTLED))

    def seconds(self, phase: _Phase) -> float:
        """What a training takes."""
        read = phase.steps * phase.step_tokens + phase.validation_tokens * FORWARD
        return self.fit_seconds + self.begin_seconds_per_token * phase.train_tokens + self.seconds_per_token * read


def _phase(
    spec: Experiment,
    tasks: Mapping[str, Task],
    model: "Model",
    trainable: Trainable,
    train: "pd.DataFrame",
    own: bool,
    runs: int,
) -> _Phase:
    """What a training on tasks consists of; `own`: on the examples that the method was prepared on, for which it may
    have batches of its own. `runs`: that the trial speaks for.
    """
    from ftlib.training.distributed import layers
    from ftlib.training.trainer import mixed_lengths

    settings, examples = spec.resolved(), trainable.encode(train)
    lengths, size = _lengths(examples), settings["batch_size"]
    per_pass = -(-len(examples) // size)
    steps = max(int(np.ceil(per_pass * settings["epochs"])), settings["min_steps"])
    usual = partial(mixed_lengths, lengths.tolist(), rng=np.random.default_rng(spec.seed))
    choose = trainable.batches if own and trainable.batches else usual
    batches = sorted(choose(size, min(steps, per_pass)), key=lambda batch: batch_tokens(lengths[batch]))
    some = []
    if len(examples) == len(train) and all(task.has_labels for task in tasks.values()):
        kinds = [name for name in ("task", "label") if name in train]
        some = train.reset_index(drop=True).groupby(kinds).head(2).index.tolist()
    mean = float(np.mean([batch_tokens(lengths[batch]) for batch in batches]))
    looked, look = _looked_at(spec, tasks, trainable, steps)
    held, at_once = 0.0, lengths[batches[-1]].sum() / spec.gradient_accumulation
    if model.family == ENCODER and not spec.gradient_checkpointing:
        # Of layers below those that train nothing is kept for the way back.
        held = at_once * sum(
            any(weight.requires_grad for weight in layer.parameters()) for layer in layers(trainable.module)
        )
        if look is not None and held >= len(look) * lengths.max():
            # It shows no memory that the batch does not.
            look = look.head(2)
    longest, some = ([examples[i] for i in places] for places in (batches[-1], some))
    phase = _Phase(steps, mean, read_at(lengths, *of_features(model)), looked, look, longest, [], some, held)
    left = allowed(phase.work, runs, model) * FORWARD - batch_tokens(lengths[batches[-1]])
    places = middle(len(batches), int(np.clip(left // mean, 1, MEASURED)))
    return phase._replace(typical=[[examples[i] for i in batches[place]] for place in places])


def _stepped(
    trainable: Trainable,
    model: "Model",
    spec: Experiment,
    train: "pd.DataFrame",
    first: Sequence[list[dict]],
    phase: _Phase,
) -> _Stepped:
    """Make training steps: the first, in which memory is laid out, are not timed, the typical ones are."""
    from ftlib.training.trainer import fit

    made = [*first, *phase.typical]
    examples = [one for batch in made for one in batch] + phase.some_of_each
    places, begun = iter(range(len(examples))), [0.0]
    chosen = [[next(places) for _ in batch] for batch in made]

    def begin(given: Trainable, found: list[dict]) -> None:
        begun[0] = timed(partial(trainable.begin, given, found))

    given = trainable._replace(
        encode=lambda frame: examples if frame is train else trainable.encode(frame),
        batches=lambda size, steps: chosen,
        begin=begin if trainable.begin else None,
        enough=0.0,
    )
    # With patience, all of the examples that are given are looked at.
    few = {"epochs": 1e-9, "min_steps": len(made), "validations": 1, "patience": len(made), "processes": 1}
    before = provenance.peak_memory()["peak_memory_bytes"]
    watch, start = _Watch(trainable.module), time.perf_counter()
    took = fit(given, model, spec.model_copy(update=few), train, watch, phase.look)
    held = before + 3 * FLOAT * watch.moving
    sizes = [batch_tokens(_lengths(batch)) for batch in made]
    # The look at validation falls into the last step.
    stepping = watch.ends[-1] - watch.ends[len(first) - 1] - took.validation_seconds
    per_token = stepping / sum(sizes[len(first) :])
    until_first = watch.ends[0] - start - begun[0] - per_token * sizes[0]
    read = read_at(_lengths(examples), *of_features(model))
    return _Stepped(
        per_token, max(0.0, until_first), begun[0] / read, watch.peaks, held, "bfloat16" if model.bf16 else "float32"
    )


def _lengths(examples: Sequence[Mapping[str, Any]]) -> np.ndarray:
    return np.array([len(example["input_ids"]) for example in examples])


def _looked_at(
    spec: Experiment, tasks: Mapping[str, Task], trainable: Trainable, steps: int
) -> "tuple[int, pd.DataFrame | None]":
    """Tokens of validation that a training of so many steps reads, all looks together, and its longest examples."""
    import pandas as pd

    from ftlib.training.trainer import looked_at, validation_steps

    size, times = int(spec.resolved()["batch_size"]), len(validation_steps(spec, steps))
    if not times:
        return 0, None
    watched = pd.concat([task.splits["validation"].assign(task=name) for name, task in tasks.items()])
    examples = looked_at(watched, spec, steps * size, times)
    found = _lengths(trainable.encode(examples))
    longest = examples.iloc[np.argsort(-examples["text"].str.len().to_numpy(), kind="stable")[: 4 * size]]
    modelled = KINDS[next(iter(tasks.values())).kind].of_text
    return times * (int(found.sum()) if modelled else read_at(found, 4 * size)), longest


def _prepared(spec: Experiment, task: Task, model: "Model | None", train: "pd.DataFrame | None") -> Predictor:
    """The method prepared, as a run prepares it.

    Raises:
        Refused: It cannot be, of this model.
    """
    try:
        return METHODS[spec.method].prepare()(model, spec, task, train)
    except Exception as error:
        said = getattr(error, "evalue", str(error))
        if model is None or worker.ran_out(type(error).__name__, said):
            raise
        raise Refused(in_words(error, spec, model)) from error


def run_trial(specs: Sequence[Experiment], runs: int = 1) -> dict[str, Any]:
    """Measure runs that differ in their examples and steps only; `ftlib.execution.planning.estimate.predicted` says
    what it means.

    Args:
        specs: In any order; the answer's `variants` are in the same one.
        runs: That each speaks for: the more, the more exactly it is measured.
    """
    spec, start, quiet = specs[0], time.perf_counter(), _Watch()
    task, model = open_task(spec, quiet), open_model(spec, quiet)
    found: dict[str, Any] = {"open_seconds": time.perf_counter() - start, "before_seconds": 0.0}
    draws = [drawn_examples(one, task) for one in specs]
    with _own_cache():
        if model is not None and (not task.has_labels or task.label_words):
            found["before_seconds"] = timed(partial(METHODS["zero_shot"].prepare(), model, spec, task, None))
        tried = _training if METHODS[spec.method].trains else _fitting
        more, variants = tried(specs, task, model, draws, runs)
    if spec.continued:
        variants = [told | _course(one, task, model, runs) for told, one in zip(variants, specs, strict=True)]
    peaks, device = provenance.peak_memory(), None
    if model is not None and model.device == "cuda":
        import torch

        device = torch.cuda.get_device_properties(0).total_memory
    return found | more | {"variants": [peaks | one for one in variants], "device_memory_bytes": device}


def _training(
    specs: Sequence[Experiment], task: Task, model: "Model", draws: "list[pd.DataFrame]", runs: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train for a few steps, then predict: what each variant's longest batch needs shows while they grow."""
    largest = max(range(len(specs)), key=lambda i: len(draws[i]))
    spec, train, start = specs[largest], draws[largest], time.perf_counter()
    predictor = _prepared(spec, task, model, train)
    prepare_seconds, finish_seconds_per_token = time.perf_counter() - start, 0.0
    if predictor.trainable.finish:
        # What is done once the module is trained takes as long as there are examples: tried with some of them.
        train = train.groupby("label").head(max(2, SAMPLE // len(task.labels)))
        predictor = _prepared(spec, task, model, train)
    trainable = predictor.trainable
    planned = [
        _phase(one, {task.name: task}, model, trainable, drawn, drawn is train, runs)
        for one, drawn in zip(specs, draws, strict=True)
    ]
    # The variants with the least memory first, since its high-water mark only rises.
    order = sorted(range(len(specs)), key=lambda i: batch_tokens(_lengths(planned[i].longest)))
    first = [planned[i].longest for i in order]
    stepped = _stepped(trainable, model, spec, train, first, planned[largest])
    if trainable.finish:
        read = read_at(text_lengths(train["text"], model, spec.max_length), *of_features(model))
        finish_seconds_per_token = timed(trainable.finish) / read
    quantised(spec, predictor)
    most, held = allowed(planned[largest].work, runs, model), max(phase.held for phase in planned)
    found = _reading(spec, task, model, predictor, most, held)
    beyond = provenance.peak_memory()["peak_memory_bytes"] - stepped.peaks[len(first) - 1]["peak_memory_bytes"]
    variants: list[dict[str, Any]] = [{} for _ in specs]
    for place, i in enumerate(order):
        finish = finish_seconds_per_token * planned[i].train_tokens
        variants[i] = {"train_seconds": prepare_seconds + stepped.seconds(planned[i]) + finish} | stepped.peaks[place]
        variants[i]["peak_memory_bytes"] += beyond + stepped.grown(place, planned[i])
    return found, variants


def _course(spec: Experiment, task: Task, model: "Model", runs: int) -> dict[str, Any]:
    """Of a run that is trained more than once, or on more than its task: the seconds and the memory of all of it, and
    the seconds that measuring its other tasks takes, once; text that an encoder reads is not measured.
    """
    from ftlib.execution import continual

    shared, drawn = continual.begun(spec, task, model)
    seconds, grown = 0.0, 0
    for number, names in enumerate(continual.phases(spec), 1):
        trainable, frame = continual.phase_of(spec, shared, number, drawn)
        tasks = {name: shared.tasks[name] for name in names}
        phase = _phase(spec, tasks, model, trainable, frame, own=True, runs=runs)
        stepped = _stepped(trainable, model, spec, frame, [phase.longest], phase)
        seconds, grown = seconds + stepped.seconds(phase), max(grown, stepped.grown(0, phase))
    others = sum(
        _reading(spec, other, model, shared.answers(name))["eval_seconds"]
        for name, other in continual.others(spec).items()
        if model.family in KINDS[other.kind].families
    )
    peaks = provenance.peak_memory()
    peaks["peak_memory_bytes"] += grown
    return {"train_seconds": seconds, "others_eval_seconds": others} | peaks


def _fitting(
    specs: Sequence[Experiment], task: Task, model: "Model | None", draws: "list[pd.DataFrame]", runs: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Fit what needs no gradient to some of the examples, and predict; prompts hold the shots they are to hold."""
    if METHODS[specs[0].method].needs_shots:
        variants = []
        for spec, drawn in zip(specs, draws, strict=True):
            start = time.perf_counter()
            predictor = _prepared(spec, task, model, drawn)
            took = {"train_seconds": time.perf_counter() - start}
            variants.append(took | _reading(spec, task, model, predictor))
        return {}, variants
    largest = max(range(len(specs)), key=lambda i: len(draws[i]))
    spec, train = specs[largest], draws[largest]
    encoder = model is not None and model.family == ENCODER
    batching = of_features(model) if encoder else Batching(EVALUATED if model else 1)

    def lengths(examples: "pd.DataFrame") -> np.ndarray:
        return text_lengths(examples["text"], model, spec.max_length)

    def tokens(examples: "pd.DataFrame") -> int:
        return read_at(lengths(examples), *batching)

    may = allowed(tokens(train) + tokens(task.test_set(spec.eval_limit)), runs, model)
    if encoder and len(train):
        # Whole batches: a text by itself costs as much as a batch.
        blocks = blocks_of(lengths(train), *batching)
        many = np.clip(may / (tokens(train) / len(blocks)), 1, SAMPLE / batching.size)
        places = np.concatenate([blocks[place] for place in middle(len(blocks), int(many))])
    else:
        most = SAMPLE if model else WITHOUT_A_MODEL
        places = np.unique(np.linspace(0, len(train) - 1, min(most, len(train))).astype(int))
    kinds = ["label", *(name for name in train if name.startswith("group_"))]
    short = train.iloc[np.argsort(train["text"].str.len().to_numpy(), kind="stable")]
    few = short.groupby(kinds).head(2) if "label" in train else short.head(4)
    some = train.loc[train.index.isin(train.index[places]) | train.index.isin(few.index)]
    _prepared(spec, task, model, few)
    # What the first time left in the cache counts, as it does in a record.
    start = clock()
    _prepared(spec, task, model, few)
    between = clock()
    predictor = _prepared(spec, task, model, some)
    at_least, took = between - start, clock() - between
    small, large = tokens(few), tokens(some)
    per_token = max(0.0, (took - at_least) / (large - small)) if large > small else 0.0
    variants = [{"train_seconds": max(at_least, took + per_token * (tokens(drawn) - large))} for drawn in draws]
    return _reading(spec, task, model, predictor, may), variants


@contextlib.contextmanager
def _own_cache() -> Iterator[None]:
    """What is computed for a trial is kept out of the user's cache, and nothing is taken from there."""
    before = os.environ.get("FTLIB_CACHE")
    with tempfile.TemporaryDirectory(prefix="ftlib-") as folder:
        os.environ["FTLIB_CACHE"] = folder
        try:
            yield
        finally:
            del os.environ["FTLIB_CACHE"]
            if before is not None:
                os.environ["FTLIB_CACHE"] = before


def empty_notebook(folder: Path) -> dict[str, Any]:
    """Execute a notebook as a run does: the seconds until its kernel is at work, and the bytes that the kernel adds."""
    notebook_exec.papermill_itself()
    import nbformat

    start, before = time.perf_counter(), provenance.peak_memory()["peak_memory_bytes"]
    if sys.platform == "linux":
        from ftlib.execution.engines.prefork import WaitingKernel

        notebook_exec.waiting_kernel = WaitingKernel()
    said = folder / "kernel.json"
    cells = [
        "at: str = ''",
        "from pathlib import Path\nfrom ftlib.core.atomic import write_json\nfrom ftlib.records import provenance\n\n"
        "write_json(Path(at), provenance.peak_memory())",
    ]
    python = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": python})
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in cells]
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, folder / "empty.ipynb")
    notebook_exec.execute(folder / "empty.ipynb", folder / "executed.ipynb", {"at": str(said)})
    kernel = json.loads(said.read_text(encoding="utf-8"))["peak_memory_bytes"]
    return {"start_seconds": time.perf_counter() - start, "kernel_bytes": max(0, kernel - before)}


def trial(folder: Path, number: int, variants: Sequence[dict[str, Any]], runs: int) -> None:
    """Carry out one trial in this process, and write its answer; without variants, of an empty notebook."""
    with contextlib.suppress(OSError):
        # Where memory runs out, it shall be this process that ends, not the user's editor; Linux alone asks.
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        specs = [Experiment(**fields) for fields in variants]
        found = run_trial(specs, runs) if specs else empty_notebook(folder)
    except Exception as error:
        # Whatever it is, the run itself would meet it, and the person who plans should know.
        name, said = type(error).__name__, " ".join(str(error).split())[:500]
        reason = said if isinstance(error, FtlibError) else f"{name}: {said}" if said else name
        found = {"failed": reason, "died": worker.ran_out(name, said), "refused": isinstance(error, Refused)}
    write_json(folder / f"{number}.json", found)


def main(folder: Path) -> None:
    """Carry out all trials that `asked.json` in a folder names, in order, so many at a time.

    Each names the modules that its runs import. They are imported when their turn comes, since they count in the memory
    of everything that is forked later.
    """
    asked = json.loads((folder / "asked.json").read_text(encoding="utf-8"))
    started_by, seconds = os.getppid(), 0.0
    forking = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    running: dict[int, Any] = {}

    def wait(most: int) -> None:
        while len(running) > most:
            for number in [number for number, process in running.items() if process.exitcode is not None]:
                code, path = running.pop(number).exitcode, folder / f"{number}.json"
                if not path.exists():
                    reason = f"the trial ended with code {code} and no answer (out of memory?)"
                    write_json(path, {"failed": reason, "died": True, "refused": False})
            if os.getppid() != started_by:
                # Nobody waits for the answers; what runs here ends with this process.
                sys.exit(1)
            time.sleep(0.01)

    for number, one in enumerate(asked["trials"]):
        wait(asked["at_once"] - 1)
        seconds += timed(lambda modules=one["modules"]: [importlib.import_module(name) for name in modules])
        write_json(folder / f"{number}.begun.json", {"import_seconds": seconds})
        given = (folder, number, one["variants"], one["runs"])
        running[number] = forking.Process(target=trial, args=given, daemon=True)
        running[number].start()
    wait(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
