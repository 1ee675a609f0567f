"""What a result must beat: the majority class, and TF-IDF with logistic regression."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ftlib.data import Task
from ftlib.methods import Predictor
from ftlib.spec import Experiment

if TYPE_CHECKING:
    import pandas as pd


def prepare(model: None, spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    """Fit the baseline that the spec names on the training examples."""
    return (_majority if spec.method == "majority" else _tfidf)(spec, task, train)


def _majority(spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    shares = train["label"].value_counts(normalize=True).reindex(task.labels, fill_value=0.0).to_numpy()

    def probabilities(texts: Sequence[str]) -> np.ndarray:
        return np.tile(shares, (len(texts), 1))

    return Predictor(len(shares), len(shares), 8 * len(shares), probabilities)


def _tfidf(spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    # Single characters count as words: punctuation-like tokens and pronouns carry sentiment.
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b")
    inputs = words.fit_transform(train["text"])
    fitted = LogisticRegression(C=spec.resolved()["method_args"]["C"], max_iter=2000)
    fitted.fit(inputs, train["label"], sample_weight=train.get("weight"))
    place = [task.labels.index(label) for label in fitted.classes_]

    def probabilities(texts: Sequence[str]) -> np.ndarray:
        found = np.zeros((len(texts), len(task.labels)))
        found[:, place] = fitted.predict_proba(words.transform(texts))
        return found

    learned = fitted.coef_.size + fitted.intercept_.size + words.idf_.size
    names = sum(len(word.encode()) + 1 for word in words.vocabulary_)
    return Predictor(learned, learned, 8 * learned + names, probabilities)
