"""From a few steps to many, and from a few texts to many: how long they take, and what memory."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib.data import Task, general
from ftlib.families import ENCODER
from ftlib.methods import LANGUAGE_MODELING, Predictor
from ftlib.metrics import measure, measure_text
from ftlib.records import likelihoods_table, predictions_table
from ftlib.spec import Experiment

if TYPE_CHECKING:
    import pandas as pd

    from ftlib.models import Model

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
    modelled = task.kind == LANGUAGE_MODELING
    answers = predictor.likelihood.score if modelled else predictor.probabilities
    test = task.test_set(spec.eval_limit)
    together = 64 if model is None or (model.family == ENCODER and not modelled) else 8
    pace = Pace(answers, tokens(test, model, spec), together)
    found = {"checkpoint_bytes": predictor.checkpoint_bytes, "general_seconds": 0.0}
    for name, examples in (("eval_seconds", test), ("validation_seconds", task.splits["validation"])):
        read = (1 + len(predictor.orders or ())) * pace.seconds(tokens(examples, model, spec).lengths)
        found[name] = read + _metrics_seconds(task, examples, predictor)
    if "general" in spec.probes and model is not None and predictor.likelihood is not None:
        texts = tokens(general.load(), model, spec)
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
        if task.kind == LANGUAGE_MODELING:
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
"""Texts that are turned into features at a time (`ftlib.models.features`)."""


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
