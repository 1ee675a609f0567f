"""Few labelled examples, a frozen model: the linear probe."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ftlib.config.experiment import Experiment
from ftlib.core.format import short_name
from ftlib.data.task import Task
from ftlib.models.export import Question, Saveable
from ftlib.models.heads import Head, of_regression
from ftlib.models.inference import untouched_likelihood
from ftlib.models.loading import Model, count, features
from ftlib.training.contract import Predictor

if TYPE_CHECKING:
    import pandas as pd


def prepare(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    """Fit logistic regression on the frozen model's features of the training examples."""
    inputs = features(model, train["text"].tolist(), spec.max_length)
    C = spec.resolved()["method_args"]["C"]
    head = linear_head(inputs, train["label"], task.labels, C, train.get("weight"))

    def probabilities(texts: Sequence[str]) -> np.ndarray:
        return head(features(model, texts, spec.max_length))

    learned = train["label"].nunique() * (inputs.shape[1] + 1)
    # The model itself is left as it was, so its likelihood of text is too; it is loaded only where a probe asks.
    likelihood = (
        untouched_likelihood(model.untouched_speaker(), model, spec) if spec.evaluations and model.speaks else None
    )
    saved = Saveable(model, model.encoder, lambda: head, {short_name(spec.task): Question(task.labels)})
    return Predictor(learned, count(model) + learned, 8 * learned, probabilities, likelihood, saved=saved)


def linear_head(
    inputs: np.ndarray, labels: Sequence[str], known: Sequence[str], C: float, weights: Sequence[float] | None = None
) -> Head:
    """Fit logistic regression to features of labelled examples.

    Args:
        inputs: (n, width) features.
        labels: (n,), some of `known`, two different ones at least.
        known: The task's labels, in order.
        C: Inverse strength of the L2 penalty.
        weights: (n,) of the examples; None: all alike.

    Returns:
        Of features it makes (n, n_known) probabilities; a label without an example gets 0.
    """
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=C, max_iter=2000).fit(inputs, labels, sample_weight=weights)
    return Head("linear", of_regression(fitted, known))
