"""In-context learning: labelled examples in the prompt, a frozen model (Brown et al. 2020, section 2)."""

from typing import TYPE_CHECKING

import numpy as np

from ftlib.config.experiment import Experiment
from ftlib.core.errors import FtlibError
from ftlib.data.task import Task
from ftlib.models.inference import prompted, untouched_likelihood
from ftlib.models.loading import Model, count
from ftlib.models.prompts import Prompt, clipped, prompt_of
from ftlib.training.contract import Predictor

if TYPE_CHECKING:
    import pandas as pd


def prepare(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    """Put the training examples before every query, in an order drawn from the seed; in other orders beside it.

    The order alone can decide between a good answer and chance (Lu et al. 2022), so its spread belongs to the result.

    Raises:
        FtlibError: The examples do not fit what the model can see at once.
    """
    chosen = spec.resolved()["method_args"]
    prompt = prompt_of(task, chosen["template"])
    texts = clipped(model.tokenizer, train["text"].tolist(), spec.max_length)
    examples = [(text, task.labels.index(label)) for text, label in zip(texts, train["label"], strict=True)]
    prefixes = [
        prompt.shots([examples[i] for i in order]) for order in orders(len(examples), spec.seed, chosen["orders"])
    ]
    _fits(model, spec, prompt, prefixes[0], len(examples))
    module = model.speaker()
    options = {name: chosen[name] for name in ("calibration", "normalisation")}
    first, *others = [prompted(module, model, spec, prompt, prefix, **options) for prefix in prefixes]
    likelihood = untouched_likelihood(module, model, spec)
    shown = prefixes[0] + prompt.template
    return Predictor(0, count(model), 0, first, likelihood, orders=tuple(others), prompt=shown)


def orders(n: int, seed: int, times: int) -> list[list[int]]:
    """Orders of n examples drawn from the seed; more orders begin with those that fewer have.

    >>> [sorted(order) for order in orders(3, seed=0, times=2)]
    [[0, 1, 2], [0, 1, 2]]
    >>> orders(9, 0, 3)[:2] == orders(9, 0, 2)
    True
    """
    return [np.random.default_rng([seed, number]).permutation(n).tolist() for number in range(times)]


def _fits(model: Model, spec: Experiment, prompt: Prompt, prefix: str, shots: int) -> None:
    if model.context is None:
        return
    longest = max(len(model.tokenizer(answer)["input_ids"]) for answer in prompt.answers())
    around = len(model.tokenizer(prompt.query(""))["input_ids"])
    needed = len(model.tokenizer(prefix)["input_ids"]) + spec.max_length + around + longest
    if needed > model.context:
        raise FtlibError(
            f"in_context: {shots} examples and a text of max_length = {spec.max_length} tokens need up to {needed} "
            f"tokens, and {model.name} sees {model.context} at once; choose fewer shots or a smaller max_length"
        )
