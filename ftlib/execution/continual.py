"""Several trainings in one run: on other tasks first, on several at once, holding on to old examples or weights.

Between two trainings every task is measured, so that a run holds its own row of R[i, j], the score on task j after
training i (Lopez-Paz & Ranzato 2017, section 3): the stages `after_1`, `after_2`, ... and `after`. At the end: which
examples of which task a training sees.
"""

import itertools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core.format import short_name
from ftlib.data import general
from ftlib.data.kinds import KINDS
from ftlib.data.registry import load_task
from ftlib.data.task import Task
from ftlib.evaluation.evaluate import Evaluated, joined, of_examples
from ftlib.methods import peft_adapters
from ftlib.methods.multitask import Shared
from ftlib.metrics import metric_value
from ftlib.models.prompts import no_words
from ftlib.records.events import Events
from ftlib.training.contract import Predictor, Trainable
from ftlib.training.regularization import Anchors, Line, fisher, pretrained
from ftlib.training.trainer import Training, fit

if TYPE_CHECKING:
    import pandas as pd

    from ftlib.models.loading import Model


class TrainedSequence(NamedTuple):
    """A model after all its trainings."""

    predictor: Predictor
    """For the run's own task; its members are the others."""
    training: Training
    """All of them together."""
    examples: int
    """Different examples that were trained on."""
    between: dict[str, Evaluated]
    """What it showed after each training but the last: `after_1`, ..."""
    line: Line | None
    """From the untouched weights, where states on the way are asked for."""


def phases(spec: Experiment) -> list[list[str]]:
    """The trainings in order: for each, the tasks that it is on, by short name.

    >>> phases(Experiment(task="pydocs", method="full", sequential_tasks=["reviews"], joint_tasks=["bios"]))
    [['reviews'], ['pydocs', 'bios']]

    Adapters that are merged are trained apart:

    >>> phases(Experiment(task="pydocs", method="merged", joint_tasks=["bios"]))
    [['pydocs'], ['bios']]
    """
    together = [[spec.task, *spec.joint_tasks]]
    if METHODS[spec.method].merges:
        together = [[name] for name in together[0]]
    trainings = [*([name] for name in spec.sequential_tasks), *together]
    return [[short_name(name) for name in names] for names in trainings]


def others(spec: Experiment) -> dict[str, Task]:
    """The tasks that a run has beside its own, by short name, read.

    Raises:
        FtlibError: See `ftlib.data.registry.load_task`.
    """
    return {short_name(name): load_task(name) for name in (*spec.sequential_tasks, *spec.joint_tasks)}


def zero_shot_baselines(spec: Experiment, model: "Model") -> dict[str, tuple[Task, Predictor]]:
    """The zero-shot of the untouched model on the run's other tasks; where labels have no words there is none."""
    return {
        name: (task, METHODS["zero_shot"].prepare()(model, spec, task, None))
        for name, task in others(spec).items()
        if (task.label_words if task.has_labels else model.family in KINDS[task.kind].families)
    }


def train_sequence(spec: Experiment, task: Task, model: "Model", events: Events) -> TrainedSequence:
    """Train in every phase, in order; the model, and a head that knows all tasks, go from one to the next.

    Raises:
        Diverged: Some training did.
    """
    import pandas as pd

    shared, drawn = begun(spec, task, model)
    own, tasks = short_name(spec.task), shared.tasks
    line = Line(shared.module, shared.new) if spec.interpolation else None
    anchors = _anchored(spec, shared)
    if spec.ewc and not spec.sequential_tasks:
        _consolidate(spec, shared, own, general.old_examples(task).assign(task=own), anchors, events)
    between, trainings, seen = {}, [], []
    for number, names in enumerate(phases(spec), 1):
        trainable, frame = phase_of(spec, shared, number, drawn)
        if anchors:
            trainable = trainable._replace(pull=anchors.pull)
        watched = pd.concat([tasks[name].splits["validation"].assign(task=name) for name in names])
        events.say("phase", tasks=names, replayed=len(frame) - sum(len(drawn[name]) for name in names))
        trainings.append((fit(trainable, model, spec, frame, events, watched), len(frame)))
        seen += names
        if number == len(phases(spec)) or METHODS[spec.method].merges:
            continue
        if METHODS[spec.method].stacks:
            peft_adapters.stack(shared.module, spec.seed + number)
        if spec.ewc and tasks[names[0]].kind == task.kind:
            _consolidate(spec, shared, names[0], drawn[names[0]], anchors, events)
        events.say("stage", name=f"after_{number}")
        between[f"after_{number}"] = _row(f"after_{number}", spec, shared, seen, own)
    if METHODS[spec.method].merges:
        peft_adapters.merge(shared.module, spec)
    answers = shared.answers(own)
    members = {
        name: (one, shared.answers(name))
        for name, one in tasks.items()
        if name != own and model.family in KINDS[one.kind].families
    }
    predictor = replace(
        shared.predictor,
        probabilities=answers.probabilities,
        likelihood=answers.likelihood,
        writer=answers.writer,
        prompt=answers.prompt,
        members=members,
        saved=shared.saveable(own),
    )
    unique = sum(len(frame) for frame in drawn.values())
    return TrainedSequence(predictor, _together(trainings), unique, between, line)


def begun(spec: Experiment, task: Task, model: "Model") -> tuple[Shared, dict[str, "pd.DataFrame"]]:
    """The model for all of a run's tasks, and the examples of each that it is trained on, both by short name."""
    own, beside = short_name(spec.task), others(spec)
    tasks = {**{name: beside[name] for name in map(short_name, spec.sequential_tasks)}, own: task, **beside}
    return Shared(model, spec, tasks), {name: _draw(spec, name == own, one, name) for name, one in tasks.items()}


def _draw(spec: Experiment, own: bool, task: Task, name: str) -> "pd.DataFrame":
    if own:
        found = task.draw(**spec.drawing())
    else:
        most = spec.other_task_limit or spec.train_limit
        found = task.draw(train_limit=min(most, len(task.splits["train"])), seed=spec.seed)
    return found.assign(task=name)


def _anchored(spec: Experiment, shared: Shared) -> Anchors:
    import torch

    anchors = Anchors()
    if spec.l2_sp:
        for weight in pretrained(shared.module, shared.new):
            anchors.add(weight, torch.tensor(spec.l2_sp, device=weight.device), weight.detach().clone())
    return anchors


def _consolidate(
    spec: Experiment, shared: Shared, name: str, examples: "pd.DataFrame", anchors: Anchors, events: Events
) -> None:
    """Draw the weights to what they are now, each as strongly as the task's examples need it."""
    trainable = shared.trainable([name])
    encoded = trainable.encode(examples)
    # By a digest of its name: tasks whose names are as long would draw the same places.
    rng = np.random.default_rng([spec.seed, zlib.crc32(name.encode())])
    chosen = rng.permutation(len(encoded))[: spec.ewc_samples]
    events.say("consolidate", task=name, n=len(chosen))
    for weight, importance in fisher(trainable, shared.model, encoded, chosen.tolist()).items():
        anchors.add(weight, spec.ewc * importance, weight.detach().clone())


def phase_of(
    spec: Experiment, shared: Shared, number: int, drawn: Mapping[str, "pd.DataFrame"]
) -> tuple[Trainable, "pd.DataFrame"]:
    """What is trained in one of a run's trainings, and on what: what is new, and what is replayed of what was seen.

    Args:
        spec: The run.
        shared: Its model.
        number: Which of its `phases`, from 1.
        drawn: As `begun` returns it.
    """
    import pandas as pd

    names, kind = phases(spec)[number - 1], shared.tasks[phases(spec)[number - 1][0]].kind
    if METHODS[spec.method].merges:
        peft_adapters.another(shared.module, spec, number - 1)
    seen = [name for before in phases(spec)[: number - 1] for name in before] if not METHODS[spec.method].merges else []
    frames = [drawn[name] for name in names]
    old = [drawn[name] for name in dict.fromkeys(seen) if shared.tasks[name].kind == kind]
    if spec.replay and not old and (known := general.old_examples(shared.tasks[names[0]])) is not None:
        old = [known.assign(task=names[0])]
    for place, frame in enumerate(old if spec.replay else []):
        rng = np.random.default_rng([spec.seed, len(seen), place])
        frames.append(frame.iloc[replayed(len(frame), spec.replay, rng)])
    frame = pd.concat(frames, ignore_index=True)
    trainable = shared.trainable(list(dict.fromkeys(frame["task"])))
    if len(names) > 1 and spec.sampling != "proportional":
        rng = np.random.default_rng(spec.seed)
        trainable = trainable._replace(
            batches=lambda size, steps: mixed_tasks(frame["task"], spec.sampling, size, steps, rng)
        )
    return trainable, frame


def _row(stage: str, spec: Experiment, shared: Shared, seen: list[str], own: str) -> Evaluated:
    """Every task between two trainings: by its head where it was trained on, by zero-shot where it was not."""
    found = {}
    for name, task in shared.tasks.items():
        part = "test" if name == own else name
        predictor = shared.answers(name) if name in seen else shared.guesses(name)
        if shared.model.family not in KINDS[task.kind].families:
            continue
        if predictor is None:
            missing = metric_value(float("nan"), 0, 0, len(task.test_set(spec.eval_limit)), no_words(task))
            found[part] = {"accuracy": missing}, None
        else:
            found[part] = of_examples(stage, part, task, task.test_set(spec.eval_limit), predictor)
    return joined(found, 0.0)


def _together(trainings: list[tuple[Training, int]]) -> Training:
    """Several trainings as one: seconds add up, rates are means over the seconds."""
    seconds = sum(one.seconds for one, _ in trainings)
    rate, work = (
        sum(getattr(one, name) * one.seconds for one, _ in trainings) / seconds
        for name in ("examples_per_second", "flops_per_second")
    )
    return Training(seconds, rate, work, sum(one.validation_seconds for one, _ in trainings), (0, 0))


SAMPLING = ("proportional", "equal", "temperature")
"""How often each of several tasks is drawn: as it has examples, all alike, or between the two."""

TEMPERATURE = 2.0
"""Of sampling by temperature; a task of n examples is drawn in proportion to n^(1/T). 1 is proportional, infinity is
equal (Arivazhagan et al. 2019, section 3.2)."""


def shares(sizes: Mapping[str, int], sampling: str) -> dict[str, float]:
    """The share of a training's examples that each task gets.

    Args:
        sizes: Examples of each task.
        sampling: One of SAMPLING.

    >>> shares({"large": 900, "small": 100}, "temperature")
    {'large': 0.75, 'small': 0.25}
    >>> shares({"large": 900, "small": 100}, "equal"), shares({"large": 900, "small": 100}, "proportional")
    ({'large': 0.5, 'small': 0.5}, {'large': 0.9, 'small': 0.1})
    """
    power = {"proportional": 1.0, "equal": 0.0, "temperature": 1 / TEMPERATURE}[sampling]
    weights = {name: n**power for name, n in sizes.items()}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def mixed_tasks(
    tasks: Sequence[str], sampling: str, size: int, steps: int, rng: np.random.Generator
) -> list[list[int]]:
    """Batches in which each example's task is drawn by its share.

    Args:
        tasks: (n,) the task of each example.
        sampling: One of SAMPLING.
        size: Examples per batch.
        steps: Batches.
        rng: Source of chance.

    Returns:
        `steps` lists of indices; every example of a task is used once before any of them is used again.

    >>> found = mixed_tasks(["a"] * 90 + ["b"] * 10, "equal", 10, 100, np.random.default_rng(0))
    >>> sum(place >= 90 for batch in found for place in batch)
    500
    """
    places = {name: np.flatnonzero(np.asarray(tasks) == name) for name in dict.fromkeys(tasks)}
    wanted = shares({name: len(found) for name, found in places.items()}, sampling)
    supply = {name: _endless(found, rng) for name, found in places.items()}
    # As exactly in proportion as whole examples allow, in an order that chance makes.
    counts = {name: round(share * size * steps) for name, share in wanted.items()}
    most = max(counts, key=lambda name: counts[name])
    counts[most] += size * steps - sum(counts.values())
    order = rng.permutation(np.repeat(np.asarray(list(counts), dtype=object), list(counts.values())))
    drawn = [int(next(supply[name])) for name in order]
    return [drawn[start : start + size] for start in range(0, len(drawn), size)]


def _endless(places: np.ndarray, rng: np.random.Generator):
    return itertools.chain.from_iterable(rng.permutation(places) for _ in itertools.count())


def replayed(n: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Which of n old examples are mixed with the new ones: a share of them, drawn; nested over shares.

    >>> few, many = (replayed(10, share, np.random.default_rng(0)) for share in (0.2, 0.5))
    >>> len(few), set(few) <= set(many)
    (2, True)
    """
    return np.sort(rng.permutation(n)[: round(share * n)])
