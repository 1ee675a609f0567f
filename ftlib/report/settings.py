"""What tells runs apart beside task, model, method and seed: the fields in which their specs differ, in words."""

import json
import re
from collections.abc import Mapping
from typing import Any

from ftlib.fields import Fields
from ftlib.naming import short_name

_OWN_COLUMNS = ("task", "model", "method", "seed", "notebook")
"""Fields that are no settings: they have a column of their own, or do not change what is asked."""

_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")


def natural(said: str) -> tuple[object, ...]:
    """Sort "shots=8" before "shots=64".

    >>> sorted(["shots=64", "shots=8", ""], key=natural)
    ['', 'shots=8', 'shots=64']
    """
    words = said.replace("=", " ").split()
    return tuple((0, float(word), "") if _NUMBER.fullmatch(word) else (1, 0.0, word) for word in words)


def differing(specs: list[Mapping[str, Any]]) -> list[str]:
    """For each spec, the fields in which the specs differ, in words; a field at its default is left out.

    >>> differing([{"shots": 8, "method_args": {"r": 4}}, {"shots": 0, "method_args": {"r": 4}}])
    ['shots=8', '']
    """
    flat = [
        {k: v for k, v in spec.items() if k not in ("method_args", *_OWN_COLUMNS)} | dict(spec.get("method_args", {}))
        for spec in specs
    ]
    names = dict.fromkeys(name for spec in flat for name in spec)
    found = [name for name in names if len({repr(spec.get(name)) for spec in flat}) > 1]
    plain = {name: field.get_default(call_default_factory=True) for name, field in Fields.model_fields.items()}
    said = []
    for spec in flat:
        shown = [name for name in found if name in spec and spec[name] != plain.get(name)]
        said.append(" ".join(f"{name}={_said(name, spec[name])}" for name in shown))
    if len(set(said)) < len({json.dumps(spec, sort_keys=True, default=str) for spec in flat}):
        said = [" ".join(f"{name}={spec.get(name)!r}" for name in found) for spec in flat]
    return said


def _said(name: str, value: Any) -> str:
    if name in ("earlier", "together"):
        # A task named by a path would say more about the machine than about the run.
        return ",".join(map(short_name, value))
    if name == "alphas":
        return ",".join(f"{alpha:g}" for alpha in value)
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
