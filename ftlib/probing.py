"""A few real steps of a run, timed, and the memory they took: what its forecast is made from.

Runs in the process the run would run in: a kernel that executes a notebook (`ftlib.engines.probes`). Everything is the
run's own: its model, its examples, its batches, its training loop, its predictor. Only there is less of it.
"""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ftlib import provenance
from ftlib.data import Task
from ftlib.events import Events
from ftlib.families import DECODER
from ftlib.methods import LANGUAGE_MODELING, METHODS
from ftlib.pace import TOGETHER, grown, like, line, padded, read_at, reading, timed, tokens
from ftlib.records import write_json
from ftlib.run import open_model, open_task
from ftlib.spec import Experiment

if TYPE_CHECKING:
    import pandas as pd

    from ftlib.models import Model

STEPS, STEPS_SECONDS = 40, 5.0
"""Training steps that are tried at most, and seconds after which no further ones are."""
SAMPLE = 96
"""Training examples that are turned into features; seconds go with their tokens."""
WITHOUT_A_MODEL = 5000
"""The same for methods that have no model and are quick."""


class _Enough(Exception):
    """Enough steps were timed."""


class _Watch(Events):
    """Notes when each training step ended and the memory in use by then; ends the training when there was time enough.

    Args:
        needed: Steps that are made however long they take.
    """

    def __init__(self, needed: int) -> None:
        super().__init__()
        self.needed, self.worked = needed, 0.0
        self.ends: list[float] = []
        self.peaks: list[dict[str, int | None]] = []

    def say(self, event: str, **facts: Any) -> None:
        if event != "step":
            return
        self.ends.append(time.perf_counter())
        self.peaks.append(provenance.peak_memory())
        # Seconds at work: where others keep the processor busy, as many steps are tried as where nobody does.
        self.worked = self.worked or time.process_time()
        spent = min(time.process_time() - self.worked, self.ends[-1] - self.ends[0])
        if len(self.ends) >= self.needed and spent > STEPS_SECONDS:
            raise _Enough


def answer(folder: str | Path) -> None:
    """Measure what `probe.json` in a folder asks for, and write `answer.json` beside it.

    Args:
        folder: Its `probe.json` holds, as `variants`, the fields of runs that differ in how many examples they are
            given and how many steps they make.
    """
    folder, start = Path(folder), time.perf_counter()
    with contextlib.suppress(OSError):
        # Where memory runs out, it shall be this process that ends, not the user's editor; Linux alone asks.
        Path("/proc/self/oom_score_adj").write_text("1000")
    asked = json.loads((folder / "probe.json").read_text(encoding="utf-8"))["variants"]
    found = measured([Experiment(**fields) for fields in asked])
    write_json(folder / "answer.json", found | {"inside_seconds": time.perf_counter() - start})


def measured(specs: Sequence[Experiment]) -> dict[str, Any]:
    """Measure runs that differ in their examples and steps only; `ftlib.forecast.predicted` says what it means.

    Args:
        specs: In any order; the answer's `variants` are in the same one.
    """
    spec, start = specs[0], time.perf_counter()
    task, model = open_task(spec, _Watch(0)), open_model(spec, _Watch(0))
    found: dict[str, Any] = {"open_seconds": time.perf_counter() - start, "before_seconds": 0.0}
    draws = [task.draw(**one.drawing()) for one in specs]
    with _own_cache():
        if model is not None and (task.kind == LANGUAGE_MODELING or task.label_words):
            found["before_seconds"] = timed(partial(METHODS["zero_shot"].prepare(), model, spec, task, None))
        measure = _training if METHODS[spec.method].trains else _fitting
        more, variants = measure(specs, task, model, draws)
    if spec.continued:
        more |= _reading_others(spec, task, model)
        variants = [told | _course(one, task, model) for told, one in zip(variants, specs, strict=True)]
    peaks = provenance.peak_memory()
    device = None
    if model is not None and model.device == "cuda":
        import torch

        device = torch.cuda.get_device_properties(0).total_memory
    return found | more | {"variants": [peaks | one for one in variants], "device_memory_bytes": device}


def _training(
    specs: Sequence[Experiment], task: Task, model: "Model", draws: "list[pd.DataFrame]"
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train, then predict: what each variant's batches need shows while they grow."""
    from ftlib.train import fit

    largest = max(range(len(specs)), key=lambda i: len(draws[i]))
    spec, train = specs[largest], draws[largest]
    prepare = METHODS[spec.method].prepare()
    start = time.perf_counter()
    predictor = prepare(model, spec, task, train)
    found = {"prepare_seconds": time.perf_counter() - start, "finish_seconds_per_token": 0.0}
    trainable = predictor.trainable
    if trainable.finish:
        # What is done once the module is trained takes as long as there are examples: tried with some of them.
        train = train.groupby("label").head(max(2, SAMPLE // len(task.labels)))
        predictor = prepare(model, spec, task, train)
        trainable = predictor.trainable
    lengths = _lengths(trainable, train)
    size_of = np.sum if task.kind == LANGUAGE_MODELING else padded
    variants, batches = [], []
    for one, drawn in zip(specs, draws, strict=True):
        mine = _lengths(trainable, drawn)
        made, count = _batches(one, mine)
        told = {"train_examples": len(drawn), "train_tokens": int(mine.sum()), "steps": count}
        told["step_tokens"] = float(np.mean([size_of(batch) for batch in made]))
        variants.append(told | {"validation_tokens": _looked_at(one, {task.name: task}, trainable, count)})
        batches.append(made)
    # The variants with the least memory first, since its high-water mark only rises: the longest batch of each.
    longest = [max(made, key=size_of) for made in batches]
    order = sorted(range(len(specs)), key=lambda i: size_of(longest[i]))
    watch = _Watch(len(order) + 2)
    looks = any(one["validation_tokens"] for one in variants)
    short = spec.model_copy(update={"epochs": 1e-9, "validations": int(looks), "patience": 0, "processes": 1})

    def trial(wanted: list[np.ndarray], watch: _Watch, validation: "pd.DataFrame | None") -> Any:
        chosen = [like(batch, lengths) for batch in wanted]
        given = trainable._replace(batches=lambda size, steps: chosen)
        return fit(given, model, short.model_copy(update={"min_steps": len(wanted)}), train, watch, validation)

    first = [longest[order[0]], *(longest[i] for i in order)]
    start = time.perf_counter()
    looked = trial(first, watch, task.splits["validation"] if looks else None).validation_seconds
    once = _looked_at(short, {task.name: task}, trainable, len(first)) if looks else 0
    found["look_seconds_per_token"] = looked / once if once else 0.0
    after = provenance.peak_memory()
    more, rest = _Watch(2), batches[largest][:STEPS]
    with contextlib.suppress(_Enough):
        trial(rest, more, None)
    took = np.concatenate([np.diff(watch.ends), np.diff(more.ends)])
    sizes = [size_of(batch) for batch in (*first[1:], *rest[1 : len(more.ends)])]
    slope, base = line(np.array(sizes), took)
    found |= {"step_seconds": base, "step_seconds_per_token": slope}
    found["fit_seconds"] = max(0.0, watch.ends[0] - start - base - slope * size_of(first[0]))
    tail = [one["peak_memory_bytes"] for one in (after, *more.peaks)]
    if trainable.finish:
        found["finish_seconds_per_token"] = timed(trainable.finish) / int(tokens(train, model, spec).lengths.sum())
    found |= reading(spec, task, model, predictor)
    beyond = provenance.peak_memory()["peak_memory_bytes"] - tail[-1]
    for place, i in enumerate(order, 1):
        variants[i] |= after if variants[i]["validation_tokens"] else watch.peaks[place]
        variants[i]["peak_memory_bytes"] += beyond
        if len(draws[i]) > specs[i].resolved()["batch_size"]:
            # Otherwise every step sees the same batch.
            variants[i]["peak_memory_bytes"] += grown(tail, variants[i]["steps"])
    return found, variants


def _course(spec: Experiment, task: Task, model: "Model") -> dict[str, Any]:
    """Of a run that is trained more than once, or on more than its task: the seconds and the memory of all of it."""
    from ftlib import course
    from ftlib.train import fit

    shared, drawn = course.begun(spec, task, model)
    short = spec.model_copy(update={"epochs": 1e-9, "validations": 0, "patience": 0, "processes": 1})
    seconds = 0.0
    for number, names in enumerate(course.legs(spec), 1):
        trainable, frame = course.leg(spec, shared, number, drawn)
        size_of = np.sum if shared.tasks[names[0]].kind == LANGUAGE_MODELING and model.family == DECODER else padded
        lengths = _lengths(trainable, frame)
        batches, steps = _batches(spec, lengths)
        wanted = [max(batches, key=size_of), *batches[: STEPS // 2]]
        chosen, watch, start = [like(batch, lengths) for batch in wanted], _Watch(4), time.perf_counter()
        given = trainable._replace(batches=lambda size, steps, chosen=chosen: chosen)
        with contextlib.suppress(_Enough):
            fit(given, model, short.model_copy(update={"min_steps": len(wanted)}), frame, watch, None)
        sizes = np.array([size_of(batch) for batch in wanted])
        slope, base = line(sizes[1 : len(watch.ends)], np.diff(watch.ends))
        begins = max(0.0, watch.ends[0] - start - base - slope * sizes[0])
        seconds += begins + steps * (base + slope * float(np.mean([size_of(batch) for batch in batches])))
        # Reading is a third of a step's work; going back through it the rest.
        seconds += slope / 3 * _looked_at(spec, {name: shared.tasks[name] for name in names}, trainable, steps)
    return {"course_seconds": seconds} | provenance.peak_memory()


def _reading_others(spec: Experiment, task: Task, model: "Model") -> dict[str, float]:
    """Seconds that measuring the tasks beside a run's own takes, once; text that an encoder reads is not measured."""
    from ftlib import course

    shared, _ = course.begun(spec, task, model)
    seconds = 0.0
    for name, other in course.others(spec).items():
        if other.kind != LANGUAGE_MODELING or model.family == DECODER:
            seconds += reading(spec, other, model, shared.answers(name))["eval_seconds"]
    return {"others_eval_seconds": seconds}


def _lengths(trainable: Any, examples: "pd.DataFrame") -> np.ndarray:
    return np.array([len(example["input_ids"]) for example in trainable.encode(examples)])


def _looked_at(spec: Experiment, tasks: Mapping[str, Task], trainable: Any, steps: int) -> int:
    """Tokens of validation that a training of so many steps reads, padding included, all looks together."""
    import pandas as pd

    from ftlib.train import looked_at, validation_steps

    size, times = int(spec.resolved()["batch_size"]), len(validation_steps(spec, steps))
    if not times:
        return 0
    watched = pd.concat([task.splits["validation"].assign(task=name) for name, task in tasks.items()])
    found = np.sort(_lengths(trainable, looked_at(watched, spec, steps * size, times)))[::-1]
    if next(iter(tasks.values())).kind == LANGUAGE_MODELING:
        return int(times * found.sum())
    return int(times * sum(len(part) * part[0] for part in np.split(found, range(4 * size, len(found), 4 * size))))


def _batches(spec: Experiment, lengths: np.ndarray) -> tuple[list[np.ndarray], int]:
    """The lengths in each batch, of a training's first ones where they are many, and how many steps a run makes."""
    from ftlib.train import mixed_lengths

    settings = spec.resolved()
    size = settings["batch_size"]
    per_pass = -(-len(lengths) // size)
    steps = max(int(np.ceil(per_pass * settings["epochs"])), settings["min_steps"])
    batches = mixed_lengths(lengths.tolist(), size, min(steps, max(per_pass, STEPS)), np.random.default_rng(spec.seed))
    return [lengths[batch] for batch in batches], steps


def _fitting(
    specs: Sequence[Experiment], task: Task, model: "Model | None", draws: "list[pd.DataFrame]"
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Fit what needs no gradient to some of the examples, and predict; prompts hold the shots they are to hold."""
    largest = max(range(len(specs)), key=lambda i: len(draws[i]))
    spec, train, prepare = specs[largest], draws[largest], METHODS[specs[largest].method].prepare()
    together = TOGETHER if model else 1
    variants = [
        {"train_examples": len(drawn), "train_tokens": read_at(tokens(drawn, model, spec).lengths, together)}
        for drawn in draws
    ]
    if METHODS[spec.method].needs_shots:
        for told, one, drawn in zip(variants, specs, draws, strict=True):
            start = time.perf_counter()
            predictor = prepare(model, one, task, drawn)
            told |= {"prepare_seconds": time.perf_counter() - start} | reading(one, task, model, predictor)
        return {}, variants
    most = SAMPLE if model else WITHOUT_A_MODEL
    kinds = ["label", *(name for name in train if name.startswith("group_"))]
    few = train.groupby(kinds).head(2) if "label" in train else train.head(4)
    some = train.iloc[np.unique(np.linspace(0, len(train) - 1, min(most, len(train))).astype(int))]
    some = train.loc[train.index.isin(some.index) | train.index.isin(few.index)]
    at_least = timed(partial(prepare, model, spec, task, few))
    start = time.perf_counter()
    predictor = prepare(model, spec, task, some)
    took = time.perf_counter() - start
    small, large = (read_at(tokens(part, model, spec).lengths, together) for part in (few, some))
    slope = max(0.0, (took - at_least) / (large - small)) if large > small else 0.0
    found = {"prepare_seconds": max(0.0, at_least - slope * small), "prepare_seconds_per_token": slope}
    return found | reading(spec, task, model, predictor), variants


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
