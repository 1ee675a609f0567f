"""What else a contest shows: who is on the front of quality against cost, and the smallest difference it could find."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ftlib.aggregate import pareto_membership
from ftlib.metrics import metric_row
from ftlib.power import Chance, power_of
from ftlib.report.entrants import Contestant, common_seeds, scores
from ftlib.report.study import seed_of
from ftlib.spread import paired, spread

COSTS = ("train_seconds", "peak_memory_bytes", "trainable_parameters")


def pareto(chance: Sequence[str], task: str, metric: str, members: Sequence[Contestant]) -> Iterator[dict[str, Any]]:
    """How surely each method is on the front of quality against each cost, as report.json holds it.

    Args:
        chance: Words that the seed is made from.
        task: The contest's task.
        metric: Its primary metric.
        members: Its contestants.
    """
    up = 1 if metric_row(metric).higher_is_better else -1
    for cost in COSTS:
        able = [one for one in members if one.group is not None and not math.isnan(one.cost(cost))]
        if cost == "trainable_parameters":
            # How little of a model need move; the baselines have none.
            able = [one for one in able if not one.group.baseline]
            able = able if len({one.cost(cost) for one in able} - {0.0}) > 1 else []
        if len(able) < 2:
            continue
        quality = _tables(able, metric)
        prices = {one.name: one.cost(cost) for one in able}
        clusters = next(iter(able[0].parts.values())).clusters
        rng = np.random.default_rng(seed_of(*chance, cost))
        surely = pareto_membership(quality, prices, rng, n_replicates=2_000, clusters=clusters)
        for one in able:
            yield {
                "task": task,
                "model": one.group.model,
                "method": one.group.method,
                "settings": one.group.settings,
                "name": one.name,
                "metric": metric,
                "cost": cost,
                "cost_value": prices[one.name],
                "value": one.level.value,
                "on_front": not any(_dominates(other, one, cost, up) for other in able),
                "probability": surely[one.name],
            }


def _tables(able: Sequence[Contestant], metric: str) -> dict[str, np.ndarray]:
    """Each method's values per run and example, over the seeds that all methods have; over none, each method's mean."""
    drawing = [set(one.parts) for one in able if one.draws]
    shared = set.intersection(*drawing) if drawing else set()
    if drawing and not shared:
        return {one.name: scores(one, metric).mean(axis=0, keepdims=True) for one in able}
    return {one.name: scores(one.only(shared), metric) for one in able}


def _dominates(other: Contestant, one: Contestant, cost: str, up: int) -> bool:
    gain, saving = up * (other.level.value - one.level.value), one.cost(cost) - other.cost(cost)
    return gain >= 0 and saving >= 0 and (gain > 0 or saving > 0)


def detectable(members: Sequence[Contestant], metric: str) -> tuple[str, str, float] | None:
    """The smallest difference that two methods like the two best could show with this test set, 4 times of 5."""
    trained = [one for one in members if one.draws]
    trained = trained if len(trained) > 1 else list(members)
    if len(trained) < 2 or not (common := common_seeds(*trained[:2])):
        return None
    a, b = trained[:2]
    first, second = paired(*(scores(one.only(set(common)), metric) for one in (a, b)))
    chance = Chance.measured(spread(first - second, next(iter(a.parts.values())).clusters))
    n_seeds, n = first.shape
    low, high = 0.0, 1.0
    if power_of(high, n, n_seeds, chance).different < 0.8:
        return None
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if power_of(middle, n, n_seeds, chance).different < 0.8 else (low, middle)
    return a.name, b.name, high
