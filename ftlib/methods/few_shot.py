"""Few labelled examples, a frozen model: the linear probe."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ftlib.data import Task
from ftlib.methods import Predictor
from ftlib.models import Model, count, features
from ftlib.predict import untouched_likelihood
from ftlib.spec import Experiment

if TYPE_CHECKING:
    import pandas as pd


def prepare(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    """Fit logistic regression on the frozen model's features of the training examples."""
    from sklearn.linear_model import LogisticRegression

    inputs = features(model, train["text"].tolist(), spec.max_length)
    fitted = LogisticRegression(C=spec.resolved()["method_args"]["C"], max_iter=2000).fit(inputs, train["label"])
    place = [task.labels.index(label) for label in fitted.classes_]

    def probabilities(texts: Sequence[str]) -> np.ndarray:
        found = np.zeros((len(texts), len(task.labels)))
        found[:, place] = fitted.predict_proba(features(model, texts, spec.max_length))
        return found

    learned = fitted.coef_.size + fitted.intercept_.size
    # The model itself is left as it was, so its likelihood of text is too; it is loaded only where a probe asks.
    likelihood = untouched_likelihood(model.speaker(), model, spec) if spec.probes and model.speaks else None
    return Predictor(learned, count(model) + learned, 8 * learned, probabilities, likelihood)
