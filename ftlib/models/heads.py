"""What is fitted to features or words, as arrays and JSON: a line of numpy gives its answers, with or without ftlib.

The functions below are written into the README of a saved model as they stand here, so they use nothing but numpy.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ftlib.core.errors import FtlibError


def linear(inputs, weight, bias):
    """(n, width) features -> (n, n_labels) probabilities: a softmax; a label at -inf was in no example."""
    logits = np.asarray(inputs @ weight.T, dtype=np.float64) + bias
    found = np.exp(logits - logits.max(axis=1, keepdims=True))
    return found / found.sum(axis=1, keepdims=True)


def mixture(inputs, weight, bias, share, label, n_labels):
    """(n, width) features -> (n, n_labels): how often regressions, each drawn with its share, accept their label."""
    says = np.asarray(inputs, dtype=np.float64) @ weight.T + bias
    of_label = np.eye(n_labels)[label] * share[:, None]
    return shared((says > 0) @ of_label, (1 / (1 + np.exp(-says))) @ of_label)


def thresholds(inputs, weight, bias, label, rule, ignored, constant, n_labels, groups, group_of):
    """(n, width) features and the group of each -> (n, n_labels): each group has thresholds of its own for a label."""
    scores = 1 / (1 + np.exp(-(np.asarray(inputs, dtype=np.float64) @ weight.T + bias)))
    own = [groups.index(group) for group in group_of]
    chance, sign, at = np.moveaxis(rule[:, own], -1, 0).transpose(0, 2, 1, 3)
    accepted = (chance * (sign * (scores[:, :, None] - at) > 0)).sum(axis=2)
    accepted = ignored[:, own].T * constant[:, own].T + (1 - ignored[:, own].T) * accepted
    of_label = np.eye(n_labels)[label]
    return shared(accepted @ of_label, scores @ of_label)


def shared(accepted, scores):
    """Two labels: the second is accepted or not. More: those accepted share by their scores, or all where none is."""
    accepted = np.clip(accepted, 0, 1)
    if accepted.shape[1] == 2:
        return np.column_stack([1 - accepted[:, 1], accepted[:, 1]])
    joint = accepted * scores
    joint = np.where(joint.sum(axis=1, keepdims=True) > 0, joint, scores)
    return joint / joint.sum(axis=1, keepdims=True)


def constant(texts, shares):
    """The same shares of the labels for every text."""
    return np.tile(shares, (len(texts), 1))


def words_of(terms, idf, analyzer, ngram_range, token_pattern):
    """The TfidfVectorizer of scikit-learn that reads texts as it did when the head was fitted."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    reads = {"analyzer": analyzer, "ngram_range": tuple(ngram_range), "token_pattern": token_pattern}
    made = TfidfVectorizer(sublinear_tf=True, vocabulary={term: place for place, term in enumerate(terms)}, **reads)
    made.idf_ = idf
    return made


CODE = {
    "linear": ((linear,), "linear(features(texts), **head)"),
    "mixture": ((mixture, shared), 'mixture(features(texts), **head, n_labels=said["head"]["n_labels"])'),
    "thresholds": ((thresholds, shared), 'thresholds(features(texts), **head, **said["head"], group_of=groups)'),
    "constant": ((constant,), "constant(texts, **head)"),
    "tfidf": ((words_of, linear), "linear(words.transform(texts), head['weight'], head['bias'])"),
}
"""Kind of head -> the functions it needs and how they are called on its arrays `head` and its facts `said["head"]`."""


@dataclass(frozen=True)
class Head:
    """A head: its kind, its arrays, and what else JSON says of it."""

    kind: str
    arrays: Mapping[str, np.ndarray]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def _words(self) -> Any:
        """Made once: a vocabulary takes longer to set up than many texts take to be read."""
        return words_of(idf=self.arrays["idf"], **self.facts)

    def __call__(self, inputs: Any, groups: Sequence[str] | None = None) -> np.ndarray:
        """(n, n_labels) of features (n, width), or of texts where it reads words itself.

        Raises:
            FtlibError: It goes by groups and was told none, or one that it does not know.
        """
        if self.kind == "tfidf":
            return linear(self._words.transform(inputs), self.arrays["weight"], self.arrays["bias"])
        more = dict(self.facts)
        if "groups" in more:
            if groups is None or (strange := sorted(set(groups) - set(more["groups"]))):
                found = "none" if groups is None else repr(strange[0])
                raise FtlibError(
                    f"groups: found {found}; this model must be told the group of every text, one of "
                    f"{', '.join(more['groups'])}"
                )
            more["group_of"] = groups
        return {"linear": linear, "mixture": mixture, "thresholds": thresholds, "constant": constant}[self.kind](
            inputs, **self.arrays, **more
        )

    def code(self) -> tuple[str, str]:
        """The functions that give its answers, as Python, and how they are called."""
        functions, called = CODE[self.kind]
        return "\n\n".join(inspect.getsource(one).rstrip() for one in functions), called


def of_regression(fitted: Any, known: Sequence[str]) -> dict[str, np.ndarray]:
    """Weight and bias of a logistic regression of scikit-learn: one row a label, -inf where a label has no example.

    Of two labels each gets half the difference, so that a softmax gives the same probabilities.
    """
    slopes, offsets = np.asarray(fitted.coef_, np.float64), np.asarray(fitted.intercept_, np.float64)
    if len(fitted.classes_) == 2:
        slopes, offsets = (np.concatenate([-one, one]) / 2 for one in (slopes, offsets))
    weight, bias = np.zeros((len(known), slopes.shape[1])), np.full(len(known), -np.inf)
    place = [list(known).index(label) for label in fitted.classes_]
    weight[place], bias[place] = slopes, offsets
    return {"weight": weight, "bias": bias}
