"""Measures of bias text by text, read from the predictions of the probes (`ftlib.biases`), for the ledger."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftlib.data.probes import is_bias
from ftlib.metrics.counterfactual import looked_at
from ftlib.metrics.stereotype import preferred
from ftlib.report.study import Run
from ftlib.spread import Array

Key = tuple[str, str, str]
"""Part, metric, and what about: the sides of a swap, the kind of the terms, the column of the groups."""


class Scores(NamedTuple):
    """A measure at one stage of one run."""

    values: Array | None
    """(n_terms, n_texts) whose means are the measure; one row where there is nothing to pick from. None: undefined."""
    ids: tuple[str, ...] = ()
    terms: tuple[str, ...] = ("",)
    clusters: tuple[str, ...] | None = None
    protocol: str = ""
    caution: str = ""
    """What is known against the measure."""
    reason: str = ""

    @property
    def same(self) -> tuple[Any, ...]:
        """Equal for two exactly where they can be paired."""
        return self.ids, self.terms, self.protocol


Told = Iterator[tuple[tuple[str, str], Scores]]
"""Metric and what about, with its scores."""


def scores_of(run: Run) -> dict[Key, dict[str, Scores]]:
    """Every measure of a run at both stages."""
    found: dict[Key, dict[str, Scores]] = {}
    kept = {stage: run.record.metrics.get(stage, {}) for stage in ("before", "after")}
    tables = _tables(run, {part for parts in kept.values() for part in parts if is_bias(part)})
    for stage, parts in kept.items():
        for part, leaves in parts.items():
            if not is_bias(part):
                continue
            read = _pairs if part.startswith("pairs:") else _templates if part == "templates" else _swaps
            told = dict(read(leaves, tables.get((stage, part))))
            untold = {(name, leaf.get("sides", "")): leaf for name, leaf in leaves.items() if "value" in leaf}
            told |= {about: Scores(None, reason=leaf["reason"]) for about, leaf in untold.items() if leaf.get("reason")}
            for (metric, about), scores in told.items():
                found.setdefault((part, metric, about), {})[stage] = scores
    return found


def _tables(run: Run, parts: set[str]) -> dict[tuple[str, str], dict[str, NDArray]]:
    """(stage, part) -> columns of a run's predictions."""
    if not parts:
        return {}
    import pyarrow.parquet

    path = run.folder / "predictions.parquet"
    wanted = {"stage", "part", "id", "cluster", "nats", "group_names", "group_kind", "group_term"}
    names = [n for n in pyarrow.parquet.read_schema(path).names if n in wanted or n.startswith("score_")]
    table = pyarrow.parquet.read_table(path, columns=names, filters=[("part", "in", sorted(parts))], partitioning=None)
    where = list(zip(table["stage"].to_pylist(), table["part"].to_pylist(), strict=True))
    found = {}
    for one in dict.fromkeys(where):
        rows = table.take([place for place, other in enumerate(where) if other == one])
        # Labels of another task have columns, too.
        held = [name for name in names if not rows[name].null_count]
        found[one] = {name: np.asarray(rows[name].to_pylist()) for name in held}
    return found


def _probabilities(rows: Mapping[str, NDArray]) -> Array:
    """(n_rows, n_labels)."""
    return np.stack([column for name, column in rows.items() if name.startswith("score_")], axis=1)


def _sources(rows: Mapping[str, NDArray], some: Sequence[int]) -> tuple[str, ...] | None:
    """Clusters of some rows; None where every one is its own."""
    found = tuple(rows["cluster"][list(some)].tolist()) if "cluster" in rows else ()
    return found if len(set(found)) < len(found) else None


def _swaps(leaves: Mapping[str, Any], rows: Mapping[str, NDArray] | None) -> Told:
    if rows is None:
        return
    place = {name: number for number, name in enumerate(rows["id"].tolist())}
    ids = sorted(name for name in place if f"{name}/swapped" in place)
    written = [place[name] for name in ids]
    both = _probabilities(rows)[[written, [place[f"{name}/swapped"] for name in ids]]]
    versions, sides = looked_at(both), leaves["signed_gap"]["sides"]
    clusters = _sources(rows, written)
    flips = (both[0].argmax(axis=1) != both[1].argmax(axis=1)).astype(float)
    for name, values in (("flip_rate", flips), ("mean_change", np.abs(versions[1] - versions[0]))):
        yield (name, ""), Scores(values[None], tuple(ids), clusters=clusters)
    second, first = sides.split(" minus ")
    named = rows["group_names"][written]
    one = np.flatnonzero(np.isin(named, [first, second]))
    gap = np.where(named == second, versions[0] - versions[1], versions[1] - versions[0])[one]
    own = _sources(rows, [written[place] for place in one])
    yield ("signed_gap", sides), Scores(gap[None], tuple(ids[place] for place in one), clusters=own)


def _templates(leaves: Mapping[str, Any], rows: Mapping[str, NDArray] | None) -> Told:
    if rows is None:
        return
    kinds, names, frames = rows["group_kind"].tolist(), rows["group_term"].tolist(), rows["cluster"].tolist()
    place = {key: number for number, key in enumerate(zip(frames, kinds, names, strict=True))}
    ids, terms = sorted(set(frames)), list(dict.fromkeys(zip(kinds, names, strict=True)))
    versions = _probabilities(rows)[[[place[frame, *term] for frame in ids] for term in terms]]
    scores = looked_at(versions)
    for kind in dict.fromkeys(kinds):
        own = scores[[number for number, term in enumerate(terms) if term[0] == kind]]
        others = (own.sum(axis=0) - own) / (len(own) - 1)
        yield (
            ("template_gap", kind),
            Scores(own - others, tuple(ids), tuple(name for other, name in terms if other == kind)),
        )


def _pairs(leaves: Mapping[str, Any], rows: Mapping[str, NDArray] | None) -> Told:
    if rows is None:
        return
    place = {name: number for number, name in enumerate(rows["id"].tolist())}
    ids = sorted(name.removesuffix("/more") for name in place if name.endswith("/more"))
    more, less = ([place[f"{name}/{side}"] for name in ids] for side in ("more", "less"))
    wins = preferred(-rows["nats"][more], -rows["nats"][less])[0].astype(float)
    said = leaves["stereotype_share"]
    of = {"protocol": said.get("protocol", ""), "caution": said.get("caution", "")}
    yield ("stereotype_share", ""), Scores(wins[None], tuple(ids), clusters=_sources(rows, more), **of)
