"""Groups treated alike by the head on frozen features: fairlearn's two ways, compared like any method.

`threshold` fits logistic regression and then, for each group, the thresholds that even out a rate between the groups
(Hardt et al. 2016, section 4). It goes by the group of every text that it answers, at prediction too: texts are looked
up among the task's own, and nobody can use it who does not know, or may not ask, whose text it is. `exponentiated`
weighs examples again and again and mixes the regressions that come of it, so that the mixture evens out the rate
(Agarwal et al. 2018, section 3); it reads groups at training only.

Both draw their answers by chance. Here nothing is drawn: a probability is how often the answer would be given, and a
prediction is what would be given most often. So the same run has the same numbers, and the rates, which both even out
on average over draws and on the training examples, are near to even rather than even; the measured gaps say how near.
The probabilities are those of such answers, most of them 0 or 1: calibration says little about them.

Texts whose group was left blank are a group as well. Two labels: the second is the positive one, as everywhere. More:
each label against the rest, and its rate is evened out by itself; then `shared_out` makes probabilities of all of them.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib.config.experiment import Experiment
from ftlib.core.errors import FtlibError
from ftlib.core.format import short_name
from ftlib.data.task import Task
from ftlib.models.export import Question, Saveable
from ftlib.models.heads import Head
from ftlib.models.inference import untouched_likelihood
from ftlib.models.loading import Model, count, features
from ftlib.training.contract import Predictor
from ftlib.training.mitigation import column_of

if TYPE_CHECKING:
    import pandas as pd


class OneLabel(NamedTuple):
    """What answers whether texts have one label."""

    accepts: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """(n, width) features, (n,) numbers of groups -> (n,) probability that the answer is yes."""
    scores: Callable[[np.ndarray], np.ndarray]
    """(n, width) -> (n,) how likely the regressions behind the answer find the label."""
    learned: int
    """Numbers that answering needs."""
    arrays: Mapping[str, np.ndarray]
    """The same, of every regression: as `ftlib.models.heads` reads them, the label left out."""


class FairHead(NamedTuple):
    """A head for all labels."""

    probabilities: Callable[[np.ndarray, Sequence[str] | None], np.ndarray]
    """(n, width) features, (n,) groups (None for `exponentiated`) -> (n, n_labels); rows sum to 1."""
    learned: int
    """Numbers that answering needs."""
    saved: Head
    """The same as arrays."""


def prepare(model: Model, spec: Experiment, task: Task, train: "pd.DataFrame") -> Predictor:
    """Fit the head that the spec names on the frozen model's features of the training examples.

    Raises:
        FtlibError: The task has no groups, or the training examples are too few to even out anything between them.
    """
    column = column_of(task, spec.mitigation_column)
    inputs = features(model, train["text"].tolist(), spec.max_length)
    arguments = spec.resolved()["method_args"]
    head = fair_head(spec.method, inputs, train["label"], train[column], task.labels, arguments)
    group_of = _groups(task, column) if spec.method == "threshold" else None

    def probabilities(texts: Sequence[str]) -> np.ndarray:
        groups = group_of(texts) if group_of else None
        return head.probabilities(features(model, texts, spec.max_length), groups)

    likelihood = (
        untouched_likelihood(model.untouched_speaker(), model, spec) if spec.evaluations and model.speaks else None
    )
    saved = Saveable(model, model.encoder, lambda: head.saved, {short_name(spec.task): Question(task.labels)})
    return Predictor(
        head.learned, count(model) + head.learned, 8 * head.learned, probabilities, likelihood, saved=saved
    )


def fair_head(
    method: str,
    inputs: np.ndarray,
    labels: Sequence[str],
    groups: Sequence[str],
    known: Sequence[str],
    arguments: Mapping[str, Any],
) -> FairHead:
    """Fit fairlearn's ThresholdOptimizer or ExponentiatedGradient over logistic regression.

    Args:
        method: "threshold" or "exponentiated".
        inputs: (n, width) features.
        labels: (n,), some of `known`.
        groups: (n,) names.
        known: The task's labels, in order; one without an example is never given.
        arguments: The method's `method_args`, every one.

    Raises:
        FtlibError: There is one group only; or of some label a group has no example, or nothing else.
    """
    found, codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    names = found.tolist()
    if len(names) < 2:
        raise FtlibError(f"{method}: all training examples are of the group {names[0]!r}; it takes two or more")
    truth = {label: (np.asarray(labels) == label).astype(int) for label in known}
    asked = {label: truth[label] for label in (known[1:] if len(known) == 2 else known) if truth[label].any()}
    for label, is_it in asked.items():
        for code, name in enumerate(names):
            own = is_it[codes == code]
            if own.min() == own.max():
                lacks = "no training example" if not own.any() else "no training example of another label than"
                raise FtlibError(
                    f"{method}: the group {name!r} has {lacks} {label!r} (of {len(own)}), so there is no rate to even "
                    "out; take more examples, other group_columns, or fewer groups"
                )
    if not asked:
        raise FtlibError(f"{method}: no training example has the label {known[-1]!r}; take more examples")
    fit = _threshold if method == "threshold" else _exponentiated
    # fairlearn is handed 0 and 1, never names: of labels that are names its rates are wrong without a word.
    # And float64: its own tables refuse what it works out from float32.
    inputs = np.asarray(inputs, dtype=np.float64)
    fitted = {label: fit(inputs, is_it, codes, arguments) for label, is_it in asked.items()}
    number = {name: code for code, name in enumerate(names)}

    def probabilities(rows: np.ndarray, groups: Sequence[str] | None) -> np.ndarray:
        rows = np.asarray(rows, dtype=np.float64)
        if groups is not None and (strange := sorted(set(groups) - set(number))):
            raise FtlibError(
                f"{method}: asked about texts of the group {strange[0]!r}, of which training had no example, so it has "
                f"no threshold; training had {', '.join(number)}"
            )
        own = np.array([number[group] for group in groups], dtype=int) if groups is not None else np.zeros(0, int)
        accepted, scores = np.zeros((2, len(rows), len(known)))
        for label, one in fitted.items():
            place = known.index(label)
            # Weights of a mixture sum to 1 but for rounding.
            accepted[:, place] = np.clip(one.accepts(rows, own), 0, 1)
            scores[:, place] = one.scores(rows)
        if len(known) == 2:
            return np.column_stack([1 - accepted[:, 1], accepted[:, 1]])
        return shared_out(accepted, scores)

    arrays = {
        name: np.concatenate([one.arrays[name] for one in fitted.values()])
        for name in next(iter(fitted.values())).arrays
    }
    arrays["label"] = np.repeat(
        [known.index(label) for label in fitted], [len(one.arrays["bias"]) for one in fitted.values()]
    )
    kind, facts = ("thresholds", {"groups": names}) if method == "threshold" else ("mixture", {})
    saved = Head(kind, arrays, facts | {"n_labels": len(known)})
    return FairHead(probabilities, sum(one.learned for one in fitted.values()), saved)


def shared_out(accepted: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Probabilities of several labels from answers about each: those accepted share by their scores.

    Where no label is accepted, all share by their scores; so a rate that was even for each label by itself need not
    stay so.

    Args:
        accepted: (n, n_labels) probability that a label is accepted.
        scores: (n, n_labels) how likely each is, above 0 for some.

    Returns:
        (n, n_labels); rows sum to 1.

    >>> shared_out(np.array([[1, 1, 0], [0, 0, 0]]), np.array([[0.3, 0.1, 0.6], [0.5, 0.25, 0.25]])).round(2).tolist()
    [[0.75, 0.25, 0.0], [0.5, 0.25, 0.25]]
    """
    joint = accepted * scores
    joint = np.where(joint.sum(axis=1, keepdims=True) > 0, joint, scores)
    return joint / joint.sum(axis=1, keepdims=True)


def _threshold(inputs: np.ndarray, truth: np.ndarray, codes: np.ndarray, arguments: Mapping[str, Any]) -> OneLabel:
    from fairlearn.postprocessing import ThresholdOptimizer
    from sklearn.linear_model import LogisticRegression

    fitted = ThresholdOptimizer(
        estimator=LogisticRegression(C=arguments["C"], max_iter=2000),
        constraints=arguments["constraint"],
        grid_size=arguments["grid_size"],
        predict_method="predict_proba",
    ).fit(inputs, truth, sensitive_features=codes)

    def accepts(asked: np.ndarray, own: np.ndarray) -> np.ndarray:
        # As a column: one text alone would lose its only dimension in fairlearn. The method's name begins with a line,
        # but `predict` is nothing else than a draw by what it returns.
        return fitted._pmf_predict(asked, sensitive_features=own.reshape(-1, 1))[:, 1]

    def scores(asked: np.ndarray) -> np.ndarray:
        return fitted.estimator_.predict_proba(asked)[:, 1]

    # Of each group two thresholds and how often each is taken.
    return OneLabel(accepts, scores, inputs.shape[1] + 1 + 4 * len(set(codes)), _rules(fitted))


def _rules(fitted: Any) -> dict[str, np.ndarray]:
    """The regression under the thresholds; of each group two thresholds, and what is answered in spite of them."""
    groups = [one for _, one in sorted(fitted.interpolated_thresholder_.interpolation_dict.items())]
    rule = [
        [
            (chance, 1.0 if operation.operator == ">" else -1.0, operation.threshold)
            for chance, operation in ((one.p0, one.operation0), (one.p1, one.operation1))
        ]
        for one in groups
    ]
    regression = fitted.estimator_
    return {
        "weight": regression.coef_,
        "bias": regression.intercept_,
        "rule": np.array([rule], np.float64),
        "ignored": np.array([[one.get("p_ignore", 0.0) for one in groups]]),
        "constant": np.array([[one.get("prediction_constant", 0.0) for one in groups]], np.float64),
    }


def _exponentiated(inputs: np.ndarray, truth: np.ndarray, codes: np.ndarray, arguments: Mapping[str, Any]) -> OneLabel:
    from fairlearn import reductions
    from sklearn.linear_model import LogisticRegression

    moment = {
        "demographic_parity": reductions.DemographicParity,
        "true_positive_rate_parity": reductions.TruePositiveRateParity,
        "false_positive_rate_parity": reductions.FalsePositiveRateParity,
        "equalized_odds": reductions.EqualizedOdds,
    }[arguments["constraint"]]
    mixture = reductions.ExponentiatedGradient(
        LogisticRegression(C=arguments["C"], max_iter=2000),
        moment(difference_bound=arguments["eps"]),
        max_iter=arguments["max_iter"],
    )
    with warnings.catch_warnings():
        # fairlearn 0.15 fills its tables in ways that pandas 4 will refuse; nobody who runs this can help it.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="fairlearn")
        fitted = mixture.fit(inputs, truth, sensitive_features=codes)
    members = [(fitted.weights_[i], one) for i, one in fitted.predictors_.items() if fitted.weights_[i] > 0]

    def accepts(asked: np.ndarray, own: np.ndarray) -> np.ndarray:
        return sum(weight * one.predict(asked) for weight, one in members)

    def scores(asked: np.ndarray) -> np.ndarray:
        # A member may know one class only; the classes are 0 and 1, so this is the share of 1 either way.
        return sum(weight * (one.predict_proba(asked) @ one.classes_) for weight, one in members)

    # A member that knows one class only is a line that all are on one side of.
    lines = [
        (one.coef_[0], one.intercept_[0])
        if hasattr(one, "coef_")
        else (np.zeros(inputs.shape[1]), np.inf if one.predict(inputs[:1])[0] else -np.inf)
        for _, one in members
    ]
    arrays = {
        "weight": np.array([slope for slope, _ in lines]),
        "bias": np.array([offset for _, offset in lines]),
        "share": np.array([weight for weight, _ in members]),
    }
    return OneLabel(accepts, scores, len(members) * (inputs.shape[1] + 2), arrays)


def _groups(task: Task, column: str) -> Callable[[Sequence[str]], list[str]]:
    """The function texts -> their groups, for texts of the task: any split, any other test set."""
    found: dict[str, set[str]] = {}
    for table in (*task.splits.values(), *task.tests.values()):
        for text, group in zip(table["text"], table[column], strict=True):
            found.setdefault(text, set()).add(group)

    def group_of(texts: Sequence[str]) -> list[str]:
        for text in texts:
            if len(own := sorted(found.get(text, ()))) != 1:
                said = f"stands in {task.name} with several, {', '.join(own)}" if own else f"is not among {task.name}'s"
                raise FtlibError(
                    f"threshold: needs the one group of each text, and this text {said}: {text[:60]!r}; without "
                    "groups at prediction there is the method exponentiated"
                )
        return [next(iter(found[text])) for text in texts]

    return group_of
