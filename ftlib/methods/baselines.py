"""What a result must beat: the majority class, TF-IDF with logistic regression; of a translation, its source.

What a language model must beat: a byte n-gram model of the training documents, without any pre-training.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftlib.config.experiment import Experiment
from ftlib.core.errors import FtlibError
from ftlib.core.format import short_name
from ftlib.data.task import Task
from ftlib.data.words import unspaced, word_pattern
from ftlib.metrics.language import Likelihood
from ftlib.models.export import Question, Saveable
from ftlib.models.heads import Head, of_regression
from ftlib.training.contract import Predictor, Writer, Written

if TYPE_CHECKING:
    import pandas as pd


def prepare_majority(model: None, spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    """The shares of the labels among the training examples, for every text."""
    shares = train["label"].value_counts(normalize=True).reindex(task.labels, fill_value=0.0).to_numpy()

    def probabilities(texts: Sequence[str]) -> np.ndarray:
        return np.tile(shares, (len(texts), 1))

    made = Predictor(len(shares), len(shares), 8 * len(shares), probabilities)
    made.saved = _saved(spec, task, Head("constant", {"shares": shares}))
    return made


def _saved(spec: Experiment, task: Task, head: Head) -> Saveable:
    return Saveable(head=lambda: head, questions={short_name(spec.task): Question(task.labels)})


def prepare_copy(model: None, spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    """The source text itself, for every text."""
    return Predictor(0, 0, 0, writer=Writer(lambda texts: [Written(text) for text in texts]))


def prepare_tfidf(model: None, spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    """TF-IDF and logistic regression, fitted to the training examples.

    It reads words and word pairs; one to four characters where a script has no spaces between words.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    # Told by all training texts, so that every run on the task reads alike however few it draws.
    if unspaced(task.splits["train"]["text"]):
        words = TfidfVectorizer(sublinear_tf=True, analyzer="char", ngram_range=(1, 4))
    else:
        # Single characters count as words: punctuation-like tokens and pronouns carry sentiment.
        words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=word_pattern())
    inputs = words.fit_transform(train["text"])
    fitted = LogisticRegression(C=spec.resolved()["method_args"]["C"], max_iter=2000)
    fitted.fit(inputs, train["label"], sample_weight=train.get("weight"))
    place = [task.labels.index(label) for label in fitted.classes_]

    def probabilities(texts: Sequence[str]) -> np.ndarray:
        found = np.zeros((len(texts), len(task.labels)))
        found[:, place] = fitted.predict_proba(words.transform(texts))
        return found

    learned = fitted.coef_.size + fitted.intercept_.size + words.idf_.size
    terms = words.get_feature_names_out().tolist()
    names = sum(len(word.encode()) + 1 for word in terms)
    reads = {name: getattr(words, name) for name in ("analyzer", "ngram_range", "token_pattern")}
    head = Head("tfidf", {"idf": words.idf_, **of_regression(fitted, task.labels)}, {"terms": terms, **reads})
    made = Predictor(learned, learned, 8 * learned + names, probabilities)
    made.saved = _saved(spec, task, head)
    return made


MOST = 8
"""Bytes of the longest n-gram: as many as fit one 64-bit number."""


class Counts(NamedTuple):
    """How often each n-gram of one length occurred, and what its context (all but its last byte) was followed by."""

    grams: NDArray[np.uint64]
    times: NDArray[np.float64]
    contexts: NDArray[np.uint64]
    total: NDArray[np.float64]
    """Times each context occurred."""
    kinds: NDArray[np.float64]
    """Different bytes that followed it."""


def prepare_ngram(model: None, spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    """Count the n-grams of the training documents."""
    order = spec.resolved()["method_args"]["order"]
    if order > MOST:
        raise FtlibError(f"method_args.order: found {order}; allowed: 1 to {MOST} bytes")
    counts = [count(train["text"].tolist(), length) for length in range(1, order + 1)]

    def score(texts: Sequence[str]) -> "pd.DataFrame":
        import pandas as pd

        sizes = [len(text.encode()) for text in texts]
        nats = [float(-np.log(probabilities(text, counts)).sum()) for text in texts]
        return pd.DataFrame({"nats": nats, "n_tokens": np.nan, "n_bytes": sizes})

    learned = sum(len(table.grams) for table in counts)
    protocol = f"byte {order}-grams, each byte given the {order - 1} before it in its document"
    return Predictor(learned, learned, 16 * learned, likelihood=Likelihood(score, protocol))


def count(texts: Sequence[str], length: int) -> Counts:
    """Count the n-grams of one length; a document is preceded by zero bytes, which are never predicted.

    >>> table = count(["abab"], 2)
    >>> table.times.tolist(), table.total.tolist(), table.kinds.tolist()  # 0a, ab twice, ba; after 0, a and b
    ([1.0, 2.0, 1.0], [1.0, 2.0, 1.0], [1.0, 1.0, 1.0])
    """
    grams, times = np.unique(np.concatenate([_grams(text, length) for text in texts]), return_counts=True)
    contexts, first, kinds = np.unique(grams >> np.uint64(8), return_index=True, return_counts=True)
    total = np.add.reduceat(times, first)
    return Counts(grams, times.astype(float), contexts, total.astype(float), kinds.astype(float))


def probabilities(text: str, counts: Sequence[Counts]) -> NDArray[np.float64]:
    """The probability of each byte of a text given those before it: (n_bytes,).

    Witten & Bell 1991, method C, interpolated: a context seen c times and followed by t different bytes gives the share
    t / (c + t) to the next shorter context; the shortest gives it to all 256 bytes alike.

    >>> counts = [count(["aab"], 1)]
    >>> probabilities("a", counts).round(4).tolist()  # (2 + 2 / 256) / (3 + 2)
    [0.4016]
    """
    found = np.full(len(text.encode()), 1 / 256)
    for length, table in enumerate(counts, 1):
        grams = _grams(text, length)
        times = _looked_up(table.grams, table.times, grams)
        total = _looked_up(table.contexts, table.total, grams >> np.uint64(8))
        kinds = _looked_up(table.contexts, table.kinds, grams >> np.uint64(8))
        seen = total > 0
        found[seen] = (times[seen] + kinds[seen] * found[seen]) / (total[seen] + kinds[seen])
    return found


def _grams(text: str, length: int) -> NDArray[np.uint64]:
    """Each byte of a text with the length - 1 before it, as one number."""
    body = np.frombuffer(bytes(length - 1) + text.encode(), np.uint8).astype(np.uint64)
    size = len(body) - length + 1
    found = np.zeros(size, np.uint64)
    for place in range(length):
        found = (found << np.uint64(8)) | body[place : place + size]
    return found


def _looked_up(
    keys: NDArray[np.uint64], values: NDArray[np.float64], wanted: NDArray[np.uint64]
) -> NDArray[np.float64]:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0.0)
