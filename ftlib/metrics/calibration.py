"""Temperature: one number, chosen on validation, that makes probabilities say how often they are right."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEAST = 100
"""Examples of validation below which a temperature would be noise."""


def at_temperature(probabilities: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Probabilities whose logarithms are divided by a temperature; rows sum to 1 (Guo et al. 2017, section 4.2).

    >>> at_temperature([[0.8, 0.2]], 2.0).round(3).tolist()  # 2 : 1 instead of 4 : 1
    [[0.667, 0.333]]
    """
    with np.errstate(divide="ignore"):
        logs = np.log(np.asarray(probabilities, dtype=np.float64)) / temperature
    found = np.exp(logs - logs.max(axis=1, keepdims=True))
    return found / found.sum(axis=1, keepdims=True)


def nats(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean of minus the logarithm of the true label's probability; infinite where one is 0.

    >>> round(nats([[0.5, 0.5], [0.25, 0.75]], [0, 1]), 4)  # (ln 2 + ln 4/3) / 2
    0.4904
    """
    chosen = np.asarray(probabilities, dtype=np.float64)[np.arange(len(np.asarray(labels))), np.asarray(labels)]
    with np.errstate(divide="ignore"):
        return float(-np.log(chosen).mean())


def temperature_of(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The temperature, 0.05 to 20, at which the true labels are likeliest; nan where one has no probability at all.

    A model that says 0.9 and is right nine times of ten needs none:

    >>> round(temperature_of([[0.9, 0.1]] * 10, [0] * 9 + [1]), 2)
    1.0
    >>> temperature_of([[1.0, 0.0]], [1])
    nan
    """
    from scipy.optimize import minimize_scalar

    if not np.isfinite(nats(probabilities, labels)):
        return float("nan")
    found = minimize_scalar(
        lambda log: nats(at_temperature(probabilities, np.exp(log)), labels),
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
    )
    return float(np.exp(found.x))
