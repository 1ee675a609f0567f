"""What methods memorise: exposure of planted canaries before and after, one method against another, extraction."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from ftlib.canaries import PREFIX, levels
from ftlib.intervals import Interval, interval
from ftlib.methods import METHODS
from ftlib.metrics.memorization import exposure_interval, exposures
from ftlib.report.courses import Paired, Side, compared
from ftlib.report.entries import numbers, who
from ftlib.report.study import Group, Run, Study, seed_of
from ftlib.spread import Array

MARGIN = 1.0
"""Bits that matter: one more halves the guesses that a secret is worth."""
EXTRACTION = ("extraction:train", "extraction:test")
Asked = tuple[int, str, str, Side, Side]
"""Repetitions, the names of both sides, both sides."""


class Kept(NamedTuple):
    """What one method kept of the canaries that were planted so often."""

    group: Group
    repetitions: int
    candidates: int
    seeds: tuple[int, ...]
    ranks: Mapping[str, Array]
    """before, after: (n_seeds, n_canaries)."""

    def exposure(self, stage: str) -> Interval:
        """Mean exposure with its interval for new canaries and seeds, bits."""
        return exposure_interval(self.ranks[stage], self.candidates)

    def side(self, stage: str = "after") -> Side:
        """For comparisons, in which the less exposed is the better."""
        table = -exposures(self.ranks[stage], self.candidates)
        return Side(f"{self.group.name} {stage} {self.repetitions}", self.seeds, table)

    def gain(self) -> Side:
        """What adapting added: other secrets were other guesses before it, and that is chance."""
        before, after = self.side("before"), self.side("after")
        return Side(f"{self.group.name} gained {self.repetitions}", self.seeds, after.table - before.table)


class Duel(NamedTuple):
    """Two things compared by exposure; the difference is a - b in bits, positive where a is more exposed."""

    question: str
    """methods: two of them; memorised: after against before; repeated: most against least often planted, what
    adapting added."""
    repetitions: int
    a: str
    b: str
    difference: Interval
    found: Paired


class Extracted(NamedTuple):
    """Documents that a method continues token for token."""

    group: Group
    part: str
    shares: Mapping[str, Interval]
    """before, after."""
    n: int
    """Documents of one run."""
    n_seeds: int


class Memory(NamedTuple):
    """One task's methods."""

    task: str
    kept: tuple[Kept, ...]
    duels: tuple[Duel, ...]
    extracted: tuple[Extracted, ...]
    protocols: tuple[str, ...]


def memories(study: Study) -> list[Memory]:
    """For each task whose runs had canaries, what its methods kept; each question is a family of comparisons (Holm)."""
    return [found for task in dict.fromkeys(g.task for g in study.groups) if (found := _memory(study, task))]


def _memory(study: Study, task: str) -> Memory | None:
    groups = [g for g in study.groups if g.task == task and g.ok and levels(g.ok[0].record.metrics.get("after", {}))]
    if not groups:
        return None
    tables = {run.record.run_id: _rows(run) for group in groups for run in group.ok}
    kept = [one for group in groups for one in _kept(group, tables)]
    # Exposures among other numbers of candidates have another upper end.
    most = Counter(one.candidates for one in kept).most_common(1)[0][0] if kept else 0
    kept = [one for one in kept if one.candidates == most]

    questions = {"methods": _methods(kept), "memorised": _memorised(kept), "repeated": _repeated(kept)}
    duels = [
        duel
        for name, pairs in questions.items()
        for duel in _asked(name, list(pairs), np.random.default_rng(seed_of(study.plan_hash, task, name)))
    ]
    extracted = [one for group in groups for part in EXTRACTION if (one := _extracted(group, part, tables))]
    return Memory(task, tuple(kept), tuple(duels), tuple(extracted), tuple(_protocols(groups)))


def _rows(run: Run) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(stage, part) -> rows of a run's predictions, in the order of their ids."""
    import pyarrow.parquet

    path = run.folder / "predictions.parquet"
    names = {"stage", "part", "id", "n_tokens", "rank", "candidates", "n_wanted"}
    there = [name for name in pyarrow.parquet.read_schema(path).names if name in names]
    table = pyarrow.parquet.read_table(path, columns=there, partitioning=None)
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        if row["part"].startswith(PREFIX) or row["part"] in EXTRACTION:
            found.setdefault((row["stage"], row["part"]), []).append(row)
    return {where: sorted(rows, key=lambda row: row["id"]) for where, rows in found.items()}


def _kept(group: Group, tables: Mapping[str, Any]) -> Iterator[Kept]:
    for count in levels(group.ok[0].record.metrics["after"]):
        where = [(stage, f"{PREFIX}{count}") for stage in ("before", "after")]
        runs = [run for run in group.ok if all(one in tables[run.record.run_id] for one in where)]
        rows = [[tables[run.record.run_id][one] for one in where] for run in runs]
        if not rows or len({len(some) for both in rows for some in both}) > 1 or len(rows[0][0]) < 2:
            continue
        candidates = {row["candidates"] for both in rows for some in both for row in some}
        if len(candidates) == 1:
            ranks = np.asarray([[[row["rank"] for row in some] for some in both] for both in rows], dtype=float)
            of = {"before": ranks[:, 0], "after": ranks[:, 1]}
            yield Kept(group, count, int(candidates.pop()), tuple(run.seed for run in runs), of)


def _methods(kept: Sequence[Kept]) -> Iterator[Asked]:
    """Methods that train, on the same terms where any are; canaries that were not planted are no question."""
    trained = [one for one in kept if one.repetitions and METHODS[one.group.method].trains]
    pairs = [
        (a, b)
        for a, b in combinations(trained, 2)
        if a.repetitions == b.repetitions and a.group.method != b.group.method and a.group.model == b.group.model
    ]
    alike = [(a, b) for a, b in pairs if a.group.settings == b.group.settings]
    for a, b in alike or pairs:
        yield a.repetitions, a.group.name, b.group.name, a.side(), b.side()


def _memorised(kept: Sequence[Kept]) -> Iterator[Asked]:
    for one in kept:
        if METHODS[one.group.method].trains:
            yield one.repetitions, one.group.name, "before", one.side("after"), one.side("before")


def _repeated(kept: Sequence[Kept]) -> Iterator[Asked]:
    by_group: dict[str, list[Kept]] = {}
    for one in kept:
        if one.repetitions and METHODS[one.group.method].trains:
            by_group.setdefault(one.group.name, []).append(one)
    for name, some in by_group.items():
        if len(some) > 1:
            least, most = some[0], some[-1]
            yield most.repetitions, name, f"planted {times(least.repetitions)}", most.gain(), least.gain()


def times(repetitions: int) -> str:
    """How often, in words.

    >>> times(0), times(1), times(16)
    ('never', 'once', '16 times')
    """
    return {0: "never", 1: "once"}.get(repetitions, f"{repetitions} times")


def _asked(question: str, pairs: Sequence[Asked], rng: np.random.Generator) -> list[Duel]:
    found = compared([(a, b) for *_, a, b in pairs], margin=MARGIN, rng=rng, unit="bits")
    said = {(one.a, one.b): one for one in found}
    return [
        # The tables hold minus the exposure.
        Duel(question, count, name_a, name_b, Interval(-one.difference, -one.high, -one.low), said[a.name, b.name])
        for count, name_a, name_b, a, b in pairs
        if (a.name, b.name) in said
        for one in [said[a.name, b.name].pair.comparison]
    ]


def _extracted(group: Group, part: str, tables: Mapping[str, Any]) -> Extracted | None:
    runs = [tables[run.record.run_id] for run in group.ok if ("after", part) in tables[run.record.run_id]]
    if not runs:
        return None
    # Runs with other training documents can have other numbers of them.
    n = min(len(rows[stage, part]) for rows in runs for stage in ("before", "after"))
    shares = {}
    for stage in ("before", "after"):
        hits = [[row["n_tokens"] >= row["n_wanted"] for row in rows[stage, part][:n]] for rows in runs]
        shares[stage] = interval(np.asarray(hits, dtype=float))
    return Extracted(group, part, shares, n, len(runs))


def _protocols(groups: Sequence[Group]) -> Iterator[str]:
    seen: dict[str, None] = {}
    for group in groups:
        for part, leaves in group.ok[0].record.metrics["after"].items():
            if part.startswith(PREFIX) or part in EXTRACTION:
                seen |= dict.fromkeys(leaf["protocol"] for leaf in leaves.values())
    yield from seen


def rows(found: Sequence[Memory]) -> dict[str, list[dict[str, Any]]]:
    """What report.json holds of it, by its key."""
    told: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []
    for memory in found:
        for one in memory.kept:
            at = {**who(one.group), "part": f"{PREFIX}{one.repetitions}", "metric": "exposure"}
            at |= {"repetitions": one.repetitions, "candidates": one.candidates, "seeds": len(one.seeds)}
            told += [at | {"stage": s, "n": r.shape[1]} | numbers(one.exposure(s)) for s, r in one.ranks.items()]
        for one in memory.extracted:
            at = {**who(one.group), "part": one.part, "metric": "extraction", "n": one.n, "seeds": one.n_seeds}
            told += [at | {"stage": stage} | numbers(share) for stage, share in one.shares.items()]
        verdicts += [_verdict(memory.task, duel) for duel in memory.duels]
    return {"memorised": told, "memorised_verdicts": verdicts}


_WORDS = {"better": "less", "worse": "more"}


def verdict(duel: Duel) -> str:
    """Less or more (a is exposed less or more than b), same, or undecided."""
    said = duel.found.pair.comparison.verdict
    return _WORDS.get(said, said)


def _verdict(task: str, duel: Duel) -> dict[str, Any]:
    said = duel.found.pair
    at = {"task": task, "question": duel.question, "repetitions": duel.repetitions, "a": duel.a, "b": duel.b}
    at |= {"difference": duel.difference.value, "low": duel.difference.low, "high": duel.difference.high}
    at |= {"p_value": said.comparison.p_value, "p_holm": said.p_holm, "verdict": verdict(duel)}
    return at | {"n": duel.found.n, "seeds": duel.found.n_seeds}
