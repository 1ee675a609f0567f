"""Metrics: what each measures, and one value of a record with its interval."""

import json
import math
from collections.abc import Mapping
from typing import Any


def metric_value(value: float, low: float, high: float, n: int, reason: str) -> dict[str, Any]:
    """One value of a record, NaN written as null with its reason.

    >>> metric_value(float("nan"), 0.0, 0.0, 4, "nothing to divide by")
    {'value': None, 'low': None, 'high': None, 'n': 4, 'reason': 'nothing to divide by'}
    """
    if math.isnan(value):
        return {"value": None, "low": None, "high": None, "n": n, "reason": reason}
    bounds = [None if math.isnan(bound) else float(bound) for bound in (low, high)]
    return {"value": float(value), "low": bounds[0], "high": bounds[1], "n": n}


def flat(metrics: Mapping[str, Any], quoted: bool = False) -> dict[str, Mapping[str, Any]]:
    """The leaves of nested metrics by their path.

    Args:
        quoted: Put a key from the data that holds a point in quotation marks, so that no two paths can be the same.

    >>> flat({"after": {"test": {"accuracy": {"value": 0.5, "n": 4}}}})
    {'after.test.accuracy': {'value': 0.5, 'n': 4}}
    >>> list(flat({"f1": {"x": {"value": 1.0}, "x.low": {"value": 0.5}}}, quoted=True))
    ['f1.x', 'f1."x.low"']
    """
    found: dict[str, Mapping[str, Any]] = {}
    for key, node in metrics.items():
        if quoted and ("." in key or key.startswith('"')):
            key = json.dumps(key, ensure_ascii=False)
        # A group may be called "value".
        if "value" in node and not isinstance(node["value"], Mapping):
            found[key] = node
        else:
            found |= {f"{key}.{path}": leaf for path, leaf in flat(node, quoted).items()}
    return found
