"""Which examples of which task a training sees: several tasks at once, and old ones replayed."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

SAMPLING = ("proportional", "equal", "temperature")
"""How often each of several tasks is drawn: as it has examples, all alike, or between the two."""

TEMPERATURE = 2.0
"""Of sampling by temperature; a task of n examples is drawn in proportion to n^(1/T). 1 is proportional, infinity is
equal (Arivazhagan et al. 2019, section 3.2)."""


def shares(sizes: Mapping[str, int], sampling: str) -> dict[str, float]:
    """The share of a training's examples that each task gets.

    Args:
        sizes: Examples of each task.
        sampling: One of SAMPLING.

    >>> shares({"large": 900, "small": 100}, "temperature")
    {'large': 0.75, 'small': 0.25}
    >>> shares({"large": 900, "small": 100}, "equal"), shares({"large": 900, "small": 100}, "proportional")
    ({'large': 0.5, 'small': 0.5}, {'large': 0.9, 'small': 0.1})
    """
    power = {"proportional": 1.0, "equal": 0.0, "temperature": 1 / TEMPERATURE}[sampling]
    weights = {name: n**power for name, n in sizes.items()}
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def mixed_tasks(
    tasks: Sequence[str], sampling: str, size: int, steps: int, rng: np.random.Generator
) -> list[list[int]]:
    """Batches in which each example's task is drawn by its share.

    Args:
        tasks: (n,) the task of each example.
        sampling: One of SAMPLING.
        size: Examples per batch.
        steps: Batches.
        rng: Source of chance.

    Returns:
        `steps` lists of indices; every example of a task is used once before any of them is used again.

    >>> found = mixed_tasks(["a"] * 90 + ["b"] * 10, "equal", 10, 100, np.random.default_rng(0))
    >>> sum(place >= 90 for batch in found for place in batch)
    500
    """
    places = {name: np.flatnonzero(np.asarray(tasks) == name) for name in dict.fromkeys(tasks)}
    wanted = shares({name: len(found) for name, found in places.items()}, sampling)
    supply = {name: _endless(found, rng) for name, found in places.items()}
    # As exactly in proportion as whole examples allow, in an order that chance makes.
    counts = {name: round(share * size * steps) for name, share in wanted.items()}
    most = max(counts, key=lambda name: counts[name])
    counts[most] += size * steps - sum(counts.values())
    order = rng.permutation(np.repeat(np.asarray(list(counts), dtype=object), list(counts.values())))
    drawn = [int(next(supply[name])) for name in order]
    return [drawn[start : start + size] for start in range(0, len(drawn), size)]


def _endless(places: np.ndarray, rng: np.random.Generator):
    return itertools.chain.from_iterable(rng.permutation(places) for _ in itertools.count())


def replayed(n: int, share: float, rng: np.random.Generator) -> np.ndarray:
    """Which of n old examples are mixed with the new ones: a share of them, drawn; nested over shares.

    >>> few, many = (replayed(10, share, np.random.default_rng(0)) for share in (0.2, 0.5))
    >>> len(few), set(few) <= set(many)
    (2, True)
    """
    return np.sort(rng.permutation(n)[: round(share * n)])
