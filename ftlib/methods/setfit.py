"""SetFit: an encoder tuned on pairs of examples, then a linear head on its features (Tunstall et al. 2022, section 3).

Pairs are many where sentences are few. The published recipe samples pairs and encodes both sentences of each; here a
step encodes each sentence of its batch once and takes all pairs among them, for a fraction of the work.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers

from ftlib.config.experiment import Experiment
from ftlib.core.format import short_name
from ftlib.data.task import Task
from ftlib.methods.linear_probe import linear_head
from ftlib.models.export import Question, Saveable
from ftlib.models.loading import Model, encoded, parameters, pooled
from ftlib.models.unpadded import MANY, answering, unpadded
from ftlib.training.contract import Predictor, Trainable

if TYPE_CHECKING:
    import pandas as pd

CONVERGED = 0.01
"""Loss at which training stops: cosines are on average within 0.15 of what they should be."""

ALIKE = 8
"""Sentences encoded at a time, of like length, where padding is computed. Of 32 docstrings in groups of 16, a third of
the tokens are padding; in groups of 8, a fifth."""

AT_ONCE = 16
"""The same where none is: of 32, 16 at a time took 4 % less than all together, whose numbers fit no cache."""

TOGETHER = 4
"""Examples of one class that stay together in a batch where not all examples fit one: each then has three of its own
class to be drawn to."""


def prepare(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    """The encoder to tune on pairs of the training examples; its head is fitted to the tuned features afterwards."""
    chosen = spec.resolved()["method_args"]
    encoder = model.encoder()
    # Now: while it trains it has the embeddings of its own texts alone.
    many = MANY if model.unpads and not spec.gradient_checkpointing else 0
    with answering(encoder, many, every=True) as without:
        module = Pairs(encoder, model.pooling, padded=not without)
    texts, labels = train["text"].tolist(), train["label"].tolist()
    codes = [task.labels.index(label) for label in labels]
    heads: list = []

    def finish() -> None:
        features = encoded(module.encoder, model, texts, spec.max_length)
        heads.append(linear_head(features, labels, task.labels, chosen["C"]))

    def probabilities(asked: Sequence[str]) -> np.ndarray:
        return heads[-1](encoded(module.encoder, model, asked, spec.max_length))

    def encode(train: "pd.DataFrame") -> list[dict[str, Any]]:
        tokens = model.tokenizer(train["text"].tolist(), truncation=True, max_length=spec.max_length)["input_ids"]
        numbers = [task.labels.index(label) for label in train["label"]]
        return [{"input_ids": ids, "labels": number} for ids, number in zip(tokens, numbers, strict=True)]

    def batches(size: int, steps: int) -> list[list[int]]:
        return mixed_batches(codes, size, steps, np.random.default_rng(spec.seed))

    trained, total, stored = parameters(module)
    learned = len(set(codes)) * (module.encoder.config.hidden_size + 1)
    collate = transformers.DataCollatorWithPadding(model.tokenizer)
    trainable = Trainable(module, encode, collate, batches=batches, separable=False, enough=CONVERGED, finish=finish)
    made = Predictor(trained + learned, total + learned, stored + 8 * learned, probabilities, trainable=trainable)
    questions = {short_name(spec.task): Question(task.labels)}
    made.saved = Saveable(model, module.encoder, lambda: heads[-1], questions)
    made.features = lambda asked: encoded(module.encoder, model, asked, spec.max_length)
    return made


class Pairs(torch.nn.Module):
    """An encoder whose loss is over all pairs of a batch.

    Args:
        encoder: Whose tokens are pooled.
        pooling: See `ftlib.models.loading.pooled`.
        padded: Whether padding is computed, or left out as `ftlib.models.unpadded.answering` found that it can be.
    """

    def __init__(self, encoder: torch.nn.Module, pooling: str = "mean", *, padded: bool = True) -> None:
        super().__init__()
        self.encoder, self.pooling, self.padded = encoder, pooling, padded

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """(n, n_tokens) tokens and (n,) class numbers -> the loss of all n (n - 1) / 2 pairs."""
        order = attention_mask.sum(dim=1).argsort(stable=True)
        found = []
        with nullcontext(False) if self.padded else unpadded(self.encoder, None, every=True) as without:
            # Sentences of like length at a time: what a short one is filled up with costs as much as words.
            for rows in order.split(AT_ONCE if without else ALIKE):
                width = int(attention_mask[rows].sum(dim=1).max())
                ids, mask = input_ids[rows, :width], attention_mask[rows, :width]
                hidden = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
                found.append(pooled(hidden, mask, self.pooling))
        return {"loss": pair_loss(torch.cat(found), labels[order])}


def pair_loss(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """How far the cosines of all pairs are from 1 (same class) and 0 (another), squared.

    The two kinds of pairs count alike, however many there are of each: Tunstall et al. 2022 sample as many of one as of
    the other (section 3.1), and this is what such a sample is on average. A kind of which there is none is left out.

    Args:
        features: (n, width), rows of length 1.
        labels: (n,) class numbers.

    Two of one class at a cosine of 0.6 and a third at right angles to both: (0.4^2 + 0) / 2.

    >>> x = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    >>> round(float(pair_loss(x, torch.tensor([0, 0, 1]))), 4)
    0.08
    """
    cosines = features.float() @ features.float().T
    once = torch.ones_like(cosines).triu(1).bool()
    alike = labels[:, None] == labels[None]
    kinds = [((1 - cosines[once & alike]) ** 2), (cosines[once & ~alike] ** 2)]
    return torch.stack([errors.mean() for errors in kinds if errors.numel()]).mean()


def mixed_batches(codes: Sequence[int], size: int, steps: int, rng: np.random.Generator) -> list[list[int]]:
    """Batches in which examples have company of their own class.

    Args:
        codes: (n,) class numbers.
        size: Examples per batch, at most.
        steps: Batches.
        rng: Source of chance.

    Returns:
        `steps` lists of indices; every example is used once before any is used again.

    >>> batches = mixed_batches([0] * 8 + [1] * 8, 8, 2, np.random.default_rng(0))
    >>> sorted(sum(batches, [])) == list(range(16)), [len(batch) for batch in batches]
    (True, [8, 8])
    """
    codes, found = np.asarray(codes), []
    while len(found) < steps:
        groups = []
        for code in np.unique(codes):
            members = rng.permutation(np.flatnonzero(codes == code))
            groups += [members[start : start + TOGETHER] for start in range(0, len(members), TOGETHER)]
        order = np.concatenate([groups[place] for place in rng.permutation(len(groups))]).tolist()
        # As even as they can be: a last batch of two or three would be noise.
        found += [part.tolist() for part in np.array_split(order, -(-len(order) // size))]
    return found[:steps]
