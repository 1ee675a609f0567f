"""What every method yields, and what training is given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ftlib.core.atomic import clock
from ftlib.metrics.language import Likelihood

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch

    from ftlib.data.task import Task
    from ftlib.models.export import Saveable


class Trainable(NamedTuple):
    """What `train.fit` is to train, and on what."""

    module: "torch.nn.Module"
    encode: "Callable[[pd.DataFrame], list[dict[str, Any]]]"
    """The training examples as a model takes them."""
    collate: Callable[[list[dict[str, Any]]], dict[str, Any]]
    """Several of them as one batch."""
    batches: Callable[[int, int], list[list[int]]] | None = None
    """(batch_size, steps) -> which examples each step sees; None: all of them once per pass, by similar length."""
    alone: bool = False
    """Whether every example has one label and its own row, so that a batch may be taken apart to save padding."""
    separable: bool = True
    """Whether a batch's loss is a mean over its examples or tokens, so that it can be computed in parts."""
    enough: float = 0.0
    """Training loss at which there is nothing left to learn; 0: every step is made."""
    finish: Callable[[], None] | None = None
    """What is left to do once the module is trained; part of training's cost."""
    closed: bool = True
    """Whether it sees no tokens but those of the examples."""
    begin: "Callable[[Trainable, list[dict[str, Any]]], None] | None" = None
    """(this, its encoded examples): sets what is new to where it starts; None: where it was drawn at random."""
    pull: Callable[[], None] | None = None
    """Adds to the gradients of a step what draws the weights somewhere; see `ftlib.training.regularization`."""


class Written(NamedTuple):
    """What a model wrote for one text."""

    text: str
    tokens: int = 0
    """Of the model's tokenizer."""
    unfinished: bool = False
    """Whether it was still writing when it had written as much as it may."""


@dataclass
class Writer:
    """Source texts in, texts out; counts what that took."""

    write: Callable[[Sequence[str]], Sequence[Written]]
    rate: "Callable[[Sequence[str], Sequence[str]], np.ndarray] | None" = None
    """(n,) sources, (n,) references -> (n, 2): nats of each reference, and its tokens; None where there are none."""
    tokens: int = 0
    """Written so far."""
    seconds: float = 0.0
    """It took, those included that the cache has saved."""

    def __call__(self, texts: Sequence[str]) -> list[Written]:
        """What is written for each text, in their order."""
        start = clock()
        found = list(self.write(texts))
        self.seconds += clock() - start
        self.tokens += sum(one.tokens for one in found)
        return found


@dataclass
class Predictor:
    """What every method yields: texts in; probabilities of labels out, or how likely a text is, or texts."""

    trainable_parameters: int
    """Numbers that adapting sets."""
    total_parameters: int
    """Numbers that predicting needs."""
    checkpoint_bytes: int
    """Size of what adapting made and a user would have to store beside the base model."""
    probabilities: "Callable[[Sequence[str]], np.ndarray] | None" = None
    """(n_texts,) -> (n_texts, n_labels); rows sum to 1, columns in the order of the task's labels."""
    likelihood: Likelihood | None = None
    """For models that give one."""
    writer: Writer | None = None
    """For tasks of which a text is written."""
    trainable: Trainable | None = None
    """For a method that trains."""
    orders: "Sequence[Callable[[Sequence[str]], np.ndarray]] | None" = None
    """The same shots in other orders, as `probabilities`; None for a method without shots in a prompt."""
    prompt: str = ""
    """A prompt as the model reads it, the query left as {text}."""
    features: "Callable[[Sequence[str]], np.ndarray] | None" = None
    """(n_texts,) -> (n_texts, width) of the adapted model; None where adapting left the model's features as they were,
    or has none."""
    members: "Mapping[str, tuple[Task, Predictor]]" = field(default_factory=dict)
    """What the same model answers on other tasks, by the tasks' short names."""
    saved: "Saveable | None" = None
    """What of it is saved; None: there is nothing that anybody could load."""
