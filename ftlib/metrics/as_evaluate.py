"""The bridge to Hugging Face `evaluate`: ftlib's metrics as its modules, and its modules as metrics of ftlib.

Nothing is downloaded: a module is made from a row of `METRICS`, or is one that the user has loaded. `evaluate` takes
seconds to import, so it is imported when it is asked for.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ftlib.core.errors import FtlibError, unknown
from ftlib.metrics.registry import METRICS

if TYPE_CHECKING:
    import evaluate

INPUTS: Mapping[str, Mapping[str, str]] = {
    "predictions": {"references": "label", "predictions": "label"},
    "probabilities": {"references": "label", "prediction_scores": "numbers"},
    "likelihoods": {"nats": "number", "sizes": "number"},
    "accuracies": {"accuracies": "number"},
    "matrix": {"R": "numbers"},
    "ranks": {"ranks": "number"},
    "matches": {"matched": "number"},
    "versions": {"before": "numbers", "after": "numbers"},
    "frames": {"scores": "numbers"},
    "pairs": {"more": "number", "less": "number"},
    "used": {"used": "number"},
    "texts": {"references": "text", "predictions": "text"},
}
"""What a metric takes (`Metric.takes`) -> the inputs of its module in the order of the function's arguments, and what
one example of each is: an integer label code, a number, a row of numbers, or a text. What the function takes beside
them (`candidates`, `length`, `term`, `base`) is a named argument of `compute`."""


def as_evaluate(name: str) -> "evaluate.Metric":
    """One row of `METRICS` as an `evaluate.Metric`, which `evaluate.combine` accepts.

    Raises:
        FtlibError: There is no such metric.

    >>> as_evaluate("accuracy").compute(references=[0, 1, 1, 0], predictions=[0, 1, 0, 0])
    {'accuracy': 0.75}
    >>> as_evaluate("exposure").compute(ranks=[1, 16], candidates=16)
    {'exposure': 2.0}
    """
    import datasets
    import evaluate

    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    row, inputs = METRICS[name], INPUTS[METRICS[name].takes]
    kinds = {
        "label": datasets.Value("int64"),
        "number": datasets.Value("float64"),
        "text": datasets.Value("string"),
        "numbers": datasets.Sequence(datasets.Value("float64")),
    }

    class Module(evaluate.Metric):
        def _info(self) -> evaluate.MetricInfo:
            return evaluate.MetricInfo(
                description=f"{row.summary} ({'higher' if row.higher_is_better else 'lower'} is better)",
                citation=row.source,
                inputs_description=", ".join(f"{column}: {kind}" for column, kind in inputs.items()),
                features=datasets.Features({column: kinds[kind] for column, kind in inputs.items()}),
            )

        def add_batch(self, *, predictions: Any = None, references: Any = None, **more: Any) -> None:
            """Check the labels first: evaluate itself turns 0.9 into 0 and scores None as wrong."""
            given = {"predictions": predictions, "references": references, **more}
            for column in (column for column, kind in inputs.items() if kind == "label"):
                for place, value in enumerate(given[column] if given[column] is not None else []):
                    if isinstance(value, bool) or not hasattr(value, "__index__"):
                        raise FtlibError(f"{column}[{place}]: found {value!r}; allowed: integer label codes")
            super().add_batch(predictions=predictions, references=references, **more)

        def _compute(self, **given: Any) -> dict[str, float]:
            arrays = [given.pop(column) for column in inputs]
            arrays = [array if row.takes == "texts" else np.asarray(array) for array in arrays]
            found = row.function(*arrays, **given)
            return {name: float(getattr(found, "value", found))}

    # Without keep_in_memory evaluate leaves files in its cache folder.
    return Module(config_name=name, keep_in_memory=True)


def from_evaluate(module: "evaluate.EvaluationModule", value: str = "", **options: Any) -> Callable[..., float]:
    """A user's own `evaluate` module as a function on arrays, as the rows of `METRICS` are.

    The function takes the module's inputs in the order of its features, labels (`references`) first, then
    `predictions`: `f(labels, predictions)` for a metric of labels.

    Args:
        module: From `evaluate.load`, or made by hand.
        value: Which of the values that the module computes is meant; may be left out where there is one.
        **options: Named arguments of its `compute`, such as `average="macro"`.

    Raises:
        FtlibError: It is no evaluate module; or, when the function is called, it computes no single number.

    >>> mine = from_evaluate(as_evaluate("f1_macro"))
    >>> mine(np.array([0, 0, 1]), np.array([0, 0, 1]))
    1.0
    """
    import evaluate

    if not isinstance(module, evaluate.EvaluationModule):
        raise FtlibError(f"from_evaluate: found {type(module).__name__}; allowed: a module of the package evaluate")
    features = module.features[0] if isinstance(module.features, list) else module.features
    names = sorted(features, key=lambda name: {"references": 0, "predictions": 1}.get(name, 2))

    def function(*arrays: ArrayLike) -> float:
        given = {name: np.asarray(array) for name, array in zip(names, arrays, strict=True)}
        found = module.compute(**given, **options)
        key = value or (next(iter(found)) if len(found) == 1 else "")
        if key not in found or np.ndim(found[key]) != 0:
            said = f"{value!r}, which is none of them or no number" if value else "several"
            raise FtlibError(f"{module.name}: computes {', '.join(found)}; found {said}; say which with value=")
        return float(found[key])

    return function
