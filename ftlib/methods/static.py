"""A model without its layers: one vector for each token of its vocabulary, and logistic regression on their mean.

The vectors are what the base model says of each token alone, made as the package model2vec makes them (Tulkens & van
Dongen 2024); no text is needed. The package's own `distill` wants a transformers older than 5.4, so its recipe is here;
what reads texts is the package's model.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from ftlib.config.experiment import Experiment
from ftlib.core.errors import FtlibError
from ftlib.core.format import short_name
from ftlib.data.task import Task
from ftlib.methods.linear_probe import linear_head
from ftlib.models.export import Question, Saveable
from ftlib.models.loading import Model, kept
from ftlib.training.contract import Predictor

if TYPE_CHECKING:
    import pandas as pd
    from model2vec import StaticModel

SIF = 1e-4
"""A token's weight is SIF / (SIF + its frequency) (Arora et al. 2017, section 3; the package's default)."""


BATCH = 256


def prepare(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    """Distil the base model's vocabulary, or take it from the cache, and fit logistic regression to the examples.

    Raises:
        FtlibError: The model's tokenizer is written in Python, which the package cannot use.
    """
    chosen = spec.resolved()["method_args"]
    reader = static_model(model, chosen["dims"], spec.max_length)

    def features(texts: Sequence[str]) -> np.ndarray:
        # Its threads would be beside those of the spec.
        return reader.encode(list(texts), use_multiprocessing=False)

    head = linear_head(features(train["text"]), train["label"], task.labels, chosen["C"], train.get("weight"))
    learned = train["label"].nunique() * (reader.dim + 1)
    total, stored = reader.embedding.size + learned, reader.embedding.nbytes + 8 * learned
    saved = Saveable(None, reader, lambda: head, {short_name(spec.task): Question(task.labels)}, model.name)
    return Predictor(learned, total, stored, lambda texts: head(features(texts)), features=features, saved=saved)


def static_model(model: Model, dims: int, max_length: int) -> "StaticModel":
    """The distilled vectors with the base model's tokenizer, as the package reads and stores them."""
    from model2vec import StaticModel

    tokenizer = getattr(model.tokenizer, "backend_tokenizer", None)
    if tokenizer is None:
        raise FtlibError(
            f"model: static reads texts with a tokenizer.json, and {model.name} has a tokenizer written in Python "
            f"({type(model.tokenizer).__name__}); use probe"
        )
    table = kept("static", model, (model.dtype, dims), lambda: distilled(model, dims))
    # A row for each number up to the highest, where the package expects one for each token.
    places = None if tokenizer.get_vocab_size() == len(table) else np.arange(len(table))
    return StaticModel(table, tokenizer, normalize=True, max_length=max_length, token_mapping=places)


@torch.inference_mode()
def distilled(model: Model, dims: int) -> np.ndarray:
    """What the model says of each token alone: (numbers of the tokenizer, dims) float32, 0 for special tokens.

    A token stands between what the tokenizer puts around a text; what the last layer says of the three is averaged.
    """
    vocabulary, special = model.tokenizer.get_vocab(), set(model.tokenizer.all_special_ids)
    # A token that was made special stays so where the configuration beside names another in its place.
    special |= {number for number, token in model.tokenizer.added_tokens_decoder.items() if token.special}
    # BERT keeps places for words to come, [unused0] and so on, which are in no text.
    ids = np.array(sorted(n for word, n in vocabulary.items() if n not in special and not word.startswith("[unused")))
    full, bare = (model.tokenizer("a", add_special_tokens=around)["input_ids"] for around in (True, False))
    start = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    before, after = full[:start], full[start + len(bare) :]
    encoder, means = model.encoder(), []
    for first in range(0, len(ids), BATCH):
        rows = torch.tensor([[*before, number, *after] for number in ids[first : first + BATCH].tolist()])
        with model.autocast():
            hidden = encoder(input_ids=rows.to(model.device)).last_hidden_state
        means.append(hidden.float().mean(dim=1).cpu().numpy())
    found = principal(np.concatenate(means), dims) * rarity(len(ids))[:, None]
    table = np.zeros((max(vocabulary.values()) + 1, found.shape[1]), np.float32)
    table[ids] = found
    return table


def principal(rows: np.ndarray, dims: int) -> np.ndarray:
    """The first principal components of rows: (n, width) -> (n, min(dims, width)).

    >>> np.abs(principal(np.array([[0.0, 1.0], [4.0, 1.0], [2.0, 1.0]]), 1)).tolist()  # of 0, 4, 2: -2, 2, 0
    [[2.0], [2.0], [0.0]]
    """
    centred = rows - rows.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)
    return centred @ directions[:, ::-1][:, :dims]


def rarity(n: int) -> np.ndarray:
    """Weights of n tokens, the most frequent first: tokenizers number them so, and Zipf's law says how frequent.

    The k-th of two is 1 / (k + 1) of all: 3/5 and 2/5, and its weight SIF / (SIF + that).

    >>> (rarity(2) * 1e4).round(3).tolist()
    [1.666, 2.499]
    """
    frequency = 1 / np.arange(2, n + 2)
    return SIF / (SIF + frequency / frequency.sum())
