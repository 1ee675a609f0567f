"""From a few steps to many, and from a few texts to many: how long they take, and what memory.

A few real steps of a run, timed, and the memory they took: what its forecast is made from.

Runs in the process the run would run in: a kernel that executes a notebook (`ftlib.execution.planning.trials`).
    Everything is the
run's own: its model, its examples, its batches, its training loop, its predictor. Only there is less of it.
"""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib.config.experiment import Experiment
from ftlib.config.methods import DECODER, ENCODER, METHODS
from ftlib.core.atomic import write_json
from ftlib.data import bundled
from ftlib.data.task import Task
from ftlib.execution.run import open_model, open_task
from ftlib.metrics.registry import measure, measure_text
from ftlib.records import likelihoods_table, predictions_table, provenance
from ftlib.records.events import Events
from ftlib.training.contract import Predictor

if TYPE_CHECKING:
    import pandas as pd

    from ftlib.models.loading import Model

SECONDS = 3.0
"""After so many seconds no further texts are tried."""


SETTLED = 45
"""Steps after which the memory in use hardly grows any more."""


class Texts(NamedTuple):
    """Texts and how long they are."""

    texts: list[str]
    lengths: np.ndarray
    """Tokens, or bytes where there is no tokenizer."""


def tokens(examples: "pd.DataFrame", model: "Model | None", spec: Experiment) -> Texts:
    """The texts of examples, their lengths as the model will see them."""
    texts = examples["text"].tolist()
    if model is None:
        return Texts(texts, np.array([len(text.encode()) for text in texts]))
    cut = {} if "label" not in examples else {"truncation": True, "max_length": spec.max_length}
    return Texts(texts, np.array([len(ids) for ids in model.tokenizer(texts, verbose=False, **cut)["input_ids"]]))


def reading(spec: Experiment, task: Task, model: "Model | None", predictor: Predictor) -> dict[str, Any]:
    """Seconds that measuring takes, by what is measured: the test part, the validation part, the general text.

    The longest texts are read first, as many at once as a run reads: its memory shows.
    """
    modelled = not task.has_labels
    answers = predictor.likelihood.score if modelled else predictor.probabilities
    test = task.test_set(spec.eval_limit)
    together = 64 if model is None or (model.family == ENCODER and not modelled) else 8
    pace = Pace(answers, tokens(test, model, spec), together)
    found = {"checkpoint_bytes": predictor.checkpoint_bytes, "general_seconds": 0.0}
    for name, examples in (("eval_seconds", test), ("validation_seconds", task.splits["validation"])):
        read = (1 + len(predictor.orders or ())) * pace.seconds(tokens(examples, model, spec).lengths)
        found[name] = read + _metrics_seconds(task, examples, predictor)
    if "general" in spec.evaluations and model is not None and predictor.likelihood is not None:
        texts = tokens(bundled.load_general(), model, spec)
        own = pace if modelled else Pace(predictor.likelihood.score, texts, 8)
        found["general_seconds"] = own.seconds(texts.lengths)
    return found


class Pace:
    """Seconds that reading texts takes, by how long they are.

    A reader that needs a second to begin and a tenth for every token:

    >>> now = [0.0]
    >>> def read(texts: list[str]) -> None:
    ...     now[0] += 1 + 0.1 * sum(map(len, texts))
    >>> pace = Pace(read, Texts(["a" * 20, "a" * 10], np.array([20, 10])), 1, clock=lambda: now[0])
    >>> round(pace.seconds(np.array([20, 10, 10])), 3)
    5.0
    """

    def __init__(
        self,
        read: Callable[[list[str]], Any],
        sample: Texts,
        size: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        order = np.argsort(-sample.lengths, kind="stable")
        blocks = [order[start : start + size] for start in range(0, len(order), size)]
        alone = [sample.texts[order[-1]]]
        # The first call of all has more to do than later ones.
        timed(partial(read, alone), clock)
        once = timed(partial(read, alone), clock)
        least, found, began = int(sample.lengths[order[-1]]), {}, clock()
        for share in (0.0, 0.5, 0.8, 0.25):
            block = blocks[min(int(share * len(blocks)), len(blocks) - 1)]
            longest = int(sample.lengths[block[0]])
            if found and clock() - began > SECONDS:
                break
            took = timed(partial(read, [sample.texts[i] for i in block]), clock)
            if len(block) * longest > least:
                found[longest] = max(0.0, took - once) / (len(block) * longest - least)
        self.size, self.by_length = size, sorted(found.items()) or [(1, 0.0)]
        self.begins = max(0.0, once - least * self.by_length[0][1])

    def seconds(self, lengths: np.ndarray) -> float:
        """Of texts of these lengths, read in blocks of similar length.

        Args:
            lengths: (n_texts,) in the unit of the sample's.
        """
        order = np.sort(lengths)[::-1]
        at, rates = zip(*self.by_length, strict=True)
        blocks = [order[start : start + self.size] for start in range(0, len(order), self.size)]
        return float(self.begins + sum(len(block) * block[0] * np.interp(block[0], at, rates) for block in blocks))


def _metrics_seconds(task: Task, examples: "pd.DataFrame", predictor: Predictor) -> float:
    """Seconds that the metrics and their intervals take, with answers made up."""
    import pandas as pd

    rng = np.random.default_rng(0)

    def work() -> None:
        if not task.has_labels:
            sizes = examples["text"].map(len).to_numpy()
            made = pd.DataFrame({"nats": rng.gamma(2.0, size=len(sizes)) * sizes, "n_tokens": sizes, "n_bytes": sizes})
            table = likelihoods_table("after", "test", examples, made)
            measure_text(table, protocol=predictor.likelihood.protocol, pseudo=predictor.likelihood.pseudo)
        else:
            made = rng.dirichlet(np.ones(len(task.labels)), len(examples))
            measure(predictions_table("after", "test", examples, task.labels, made), task.labels)

    work()
    return timed(work)


def timed(work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds that some work takes."""
    start = clock()
    work()
    return clock() - start


def padded(lengths: np.ndarray) -> int:
    """Tokens of a batch with what fills it up: its longer and its shorter half each to its own longest text.

    >>> padded(np.array([3, 9, 5, 1]))
    24
    """
    halves = np.array_split(np.sort(lengths)[::-1], 2)
    return int(sum(len(half) * half[0] for half in halves if len(half)))


def read_at(lengths: np.ndarray, together: int) -> int:
    """Tokens of texts read so many at a time, in the order of their lengths, with what fills each batch up.

    >>> read_at(np.array([3, 9, 5, 1]), 2), read_at(np.array([3, 9, 5, 1]), 1)
    (24, 18)
    """
    ordered = np.sort(lengths)[::-1]
    return int(
        sum(len(part) * part[0] for part in np.split(ordered, range(together, len(ordered), together)) if len(part))
    )


TOGETHER = 64
"""Texts that are turned into features at a time (`ftlib.models.loading.features`)."""


def like(wanted: np.ndarray, lengths: np.ndarray) -> list[int]:
    """Examples as long as those wanted, or a little longer, each used once where there are enough.

    >>> like(np.array([5, 5, 2]), np.array([2, 5, 9, 5]))
    [1, 3, 0]
    """
    order = np.argsort(lengths, kind="stable").tolist()
    found = []
    for length in wanted:
        place = next((k for k, i in enumerate(order) if lengths[i] >= length), len(order) - 1)
        found.append(order.pop(place) if order else int(np.argmax(lengths)))
    return found


def line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope and intercept, neither below 0: more tokens take no less time, and no step less than none.

    >>> [round(value, 3) for value in line(np.array([1, 2, 3]), np.array([3.0, 5.0, 7.0]))]
    [2.0, 1.0]
    >>> [round(value, 3) for value in line(np.array([1, 2]), np.array([1.0, 4.0]))]
    [1.8, 0.0]
    """
    if np.ptp(x) == 0:
        return 0.0, float(np.mean(y))
    slope, base = np.polyfit(x, y, 1)
    if slope < 0:
        return 0.0, float(np.mean(y))
    return (float(slope), float(base)) if base >= 0 else (float(x @ y / (x @ x)), 0.0)


def grown(peaks: Sequence[int], steps: int) -> int:
    """Bytes by which the high-water mark rises from a first step to the last of many.

    Batches of ever other lengths leave gaps that the C library cannot use again. In trials the mark rose as fast for
    some forty steps, and then hardly. What was seen is drawn out to that, or to three times the steps that were seen.

    Args:
        peaks: After each step that was tried.
        steps: That will be made.

    From 4 to 7 within four steps, one for each after the first:

    >>> grown([4, 5, 6, 7], 8), grown([4, 5, 6, 7], 2), grown([4, 5, 6, 7], 1000), grown([4], 16)
    (7, 1, 11, 0)
    """
    if steps <= len(peaks):
        return peaks[steps - 1] - peaks[0]
    until = min(steps, max(SETTLED, len(peaks)), 3 * len(peaks))
    return round((peaks[-1] - peaks[0]) / (len(peaks) - 1) * (until - 1)) if len(peaks) > 1 else 0


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
    found = run_trial([Experiment(**fields) for fields in asked])
    write_json(folder / "answer.json", found | {"inside_seconds": time.perf_counter() - start})


def run_trial(specs: Sequence[Experiment]) -> dict[str, Any]:
    """Measure runs that differ in their examples and steps only; `ftlib.execution.planning.forecast.predicted` says
    what it means.

    Args:
        specs: In any order; the answer's `variants` are in the same one.
    """
    spec, start = specs[0], time.perf_counter()
    task, model = open_task(spec, _Watch(0)), open_model(spec, _Watch(0))
    found: dict[str, Any] = {"open_seconds": time.perf_counter() - start, "before_seconds": 0.0}
    draws = [task.draw(**one.drawing()) for one in specs]
    with _own_cache():
        if model is not None and (not task.has_labels or task.label_words):
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
    from ftlib.training.trainer import fit

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
    size_of = padded if task.has_labels else np.sum
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
    from ftlib.execution import continual
    from ftlib.training.trainer import fit

    shared, drawn = continual.begun(spec, task, model)
    short = spec.model_copy(update={"epochs": 1e-9, "validations": 0, "patience": 0, "processes": 1})
    seconds = 0.0
    for number, names in enumerate(continual.phases(spec), 1):
        trainable, frame = continual.phase_of(spec, shared, number, drawn)
        size_of = np.sum if not shared.tasks[names[0]].has_labels and model.family == DECODER else padded
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
    from ftlib.execution import continual

    shared, _ = continual.begun(spec, task, model)
    seconds = 0.0
    for name, other in continual.others(spec).items():
        if other.has_labels or model.family == DECODER:
            seconds += reading(spec, other, model, shared.answers(name))["eval_seconds"]
    return {"others_eval_seconds": seconds}


def _lengths(trainable: Any, examples: "pd.DataFrame") -> np.ndarray:
    return np.array([len(example["input_ids"]) for example in trainable.encode(examples)])


def _looked_at(spec: Experiment, tasks: Mapping[str, Task], trainable: Any, steps: int) -> int:
    """Tokens of validation that a training of so many steps reads, padding included, all looks together."""
    import pandas as pd

    from ftlib.training.trainer import looked_at, validation_steps

    size, times = int(spec.resolved()["batch_size"]), len(validation_steps(spec, steps))
    if not times:
        return 0
    watched = pd.concat([task.splits["validation"].assign(task=name) for name, task in tasks.items()])
    found = np.sort(_lengths(trainable, looked_at(watched, spec, steps * size, times)))[::-1]
    if not next(iter(tasks.values())).has_labels:
        return int(times * found.sum())
    return int(times * sum(len(part) * part[0] for part in np.split(found, range(4 * size, len(found), 4 * size))))


def _batches(spec: Experiment, lengths: np.ndarray) -> tuple[list[np.ndarray], int]:
    """The lengths in each batch, of a training's first ones where they are many, and how many steps a run makes."""
    from ftlib.training.trainer import mixed_lengths

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
