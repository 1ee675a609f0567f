"""What methods memorise: exposure of planted canaries before and after, one method against another, extraction."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib.config.methods import METHODS
from ftlib.core import format
from ftlib.data.canaries import PREFIX, levels
from ftlib.metrics import units
from ftlib.metrics.memorization import by_chance, exposure_interval, exposures
from ftlib.records.study import Group, Run, Study, seed_of
from ftlib.report.blocks import Block, Fold, Heading, Note, Section, Sentences
from ftlib.report.figures import Figure, drawing, figure_of
from ftlib.report.metric_rows import WHO, numbers, who
from ftlib.report.pairing import Paired, Side, comparison_sentence, paired_comparisons
from ftlib.report.plots.heat import exposure as draw
from ftlib.report.tables import Cell, Table
from ftlib.stats.intervals import Interval, interval
from ftlib.stats.variance import Array

if TYPE_CHECKING:
    from ftlib.report.build import Reading

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


class ExposureComparison(NamedTuple):
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
    duels: tuple[ExposureComparison, ...]
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


def _asked(question: str, pairs: Sequence[Asked], rng: np.random.Generator) -> list[ExposureComparison]:
    found = paired_comparisons([(a, b) for *_, a, b in pairs], margin=MARGIN, rng=rng, unit="bits")
    said = {(one.a, one.b): one for one in found}
    return [
        # The tables hold minus the exposure.
        ExposureComparison(
            question, count, name_a, name_b, Interval(-one.difference, -one.high, -one.low), said[a.name, b.name]
        )
        for count, name_a, name_b, a, b in pairs
        if (a.name, b.name) in said
        for one in [said[a.name, b.name].comparison]
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


def verdict(duel: ExposureComparison) -> str:
    """Less or more (a is exposed less or more than b), same, or undecided."""
    said = duel.found.comparison.verdict
    return _WORDS.get(said, said)


def _verdict(task: str, duel: ExposureComparison) -> dict[str, Any]:
    said = duel.found
    at = {"task": task, "question": duel.question, "repetitions": duel.repetitions, "a": duel.a, "b": duel.b}
    at |= {"difference": duel.difference.value, "low": duel.difference.low, "high": duel.difference.high}
    at |= {"p_value": said.comparison.p_value, "p_holm": said.p_holm, "verdict": verdict(duel)}
    return at | {"n": duel.found.n, "seeds": duel.found.n_seeds}


MOST_LINES = 6
"""Methods a figure shows; the table holds them all."""


def _read(reading: "Reading") -> list[Memory] | None:
    return memories(reading.study) or None


def _with_sentences(found: list[Memory]) -> dict[str, list[dict[str, Any]]]:
    told = rows(found)
    said = [sentence(duel) for memory in found for duel in memory.duels]
    for row, line in zip(told["memorised_verdicts"], said, strict=True):
        row["sentence"] = line
    return told


_NOTE = (
    "Made-up secrets of four digits were planted in the training text. Exposure says how much the adapted model tells "
    "of them, in bits: 0 is nothing, a secret that was never seen has 1.4 in the mean by chance, and each bit halves "
    "the guesses that are needed. Comparisons are paired on secrets and seeds and corrected (Holm) for all of their "
    f"kind; “equivalent” means shown to lie within {MARGIN:g} bit. A low exposure of these secrets is no proof that "
    "nothing else was memorised."
)


def _blocks(found: list[Memory]) -> Iterator[Block]:
    yield Note(_NOTE)
    for one in found:
        if len(found) > 1:
            yield Heading(one.task)
        # What happens before and after is in the table; the sentences are about what was asked.
        if said := tuple(f"{sentence(duel)}." for duel in one.duels if duel.question != "memorised"):
            yield Sentences(said)
        if one.kept:
            yield _figure(one)
        yield _levels(one)
        if duels := _duels(one):
            yield Fold(duels.caption, (duels,))
        if one.extracted:
            yield _extracted_rows(one)
        for line in one.protocols:
            yield Note(f"{line}.")


def bits(value: float, signed: bool = False) -> str:
    """An exposure, or a difference of two.

    >>> bits(3.14), bits(-0.5, signed=True)
    ('3.1', '−0.5')
    """
    return format.NONE if format.missing(value) else f"{value:{'+' if signed else ''}.1f}".replace("-", "−")


def _span(found: Interval, signed: bool = False) -> str:
    if math.isnan(found.low):
        return ""
    return f"{bits(found.low, signed)} to {bits(found.high, signed)}"


_QUESTIONS = {
    "methods": "{a} against {b}, planted {times}",
    "memorised": "{a}, planted {times}: after against before",
    "repeated": "{a}: planted {times} against {b}, what adapting added",
}


_SAID = {
    "less": "exposed less",
    "more": "exposed more",
    "same": f"equivalent within {MARGIN:g} bit",
    "undecided": "undecided",
}


_IN_WORDS = {
    "less": "exposed less by {size} bits {sure}",
    "more": "exposed more by {size} bits {sure}",
    "same": f"equivalent within {MARGIN:g} bit: they differ by {{size}} bits {{sure}}",
    "undecided": "undecided: they differ by {size} bits {sure}",
}


def _question(duel: ExposureComparison) -> str:
    return _QUESTIONS[duel.question].format(a=duel.a, b=duel.b, times=times(duel.repetitions))


def sentence(duel: ExposureComparison) -> str:
    """One comparison in one sentence, with its interval and on how many secrets and seeds it stands."""
    counted = f"{format.plural(duel.found.n, 'secret')}, {format.plural(duel.found.n_seeds, 'seed')}"
    return f"{_question(duel)}: {comparison_sentence(duel.found.comparison, _IN_WORDS, bits, counted, verdict(duel))}"


def _figure(found: Memory) -> Figure:
    """Exposure against repetitions, a line per method."""
    lines: dict[str, list[tuple[int, Interval]]] = {}
    for one in found.kept:
        lines.setdefault(one.group.name, []).append((one.repetitions, one.exposure("after")))
    series = {
        name: ([count for count, _ in some], *([level[k] for _, level in some] for k in range(3)))
        for name, some in list(lines.items())[:MOST_LINES]
    }
    candidates = found.kept[0].candidates
    with drawing(3.2 + 0.16 * math.ceil(len(series) / 2)) as ax:
        draw(ax, series, most=math.log2(candidates), chance=by_chance(candidates))
        return figure_of(
            ax,
            "exposure",
            f"Exposure of planted secrets, {found.task}",
            "Each bit halves the guesses that finding a secret takes with the model's help. Bars are 95 % intervals "
            "for new secrets and new seeds. At the dashed line a secret is likelier than every other candidate: it may "
            "be known better than is seen here.",
            ("method", "times planted", "exposure, bits", "95 % interval"),
            [
                (name, f"{count}", bits(level.value), _span(level))
                for name, some in lines.items()
                for count, level in some
            ],
        )


def _levels(found: Memory) -> Table:
    """Every method by every number of repetitions, before and after."""
    changes = {(d.a, d.repetitions): d for d in found.duels if d.question == "memorised"}
    numbers = ("times planted", "before, bits", "after, bits", "change, bits", "p (Holm)", "canaries", "seeds")
    header = (Cell("method"), Cell("after against before"), *(Cell(name, number=True) for name in numbers))
    body = []
    for one in found.kept:
        duel = changes.get((one.group.name, one.repetitions))
        before, after = one.exposure("before"), one.exposure("after")
        blank = Cell("", number=True)
        change = Cell(bits(duel.difference.value, True), _span(duel.difference, True), number=True) if duel else blank
        body.append(
            (
                Cell(one.group.name, strong=True),
                Cell(_SAID[verdict(duel)] if duel else "not compared"),
                Cell(f"{one.repetitions}", number=True),
                Cell(bits(before.value), _span(before), number=True),
                Cell(bits(after.value), _span(after), number=True, strong=True),
                change,
                Cell(format.p_value(duel.found.p_holm), number=True) if duel else blank,
                Cell(f"{one.ranks['after'].shape[1]}", number=True),
                Cell(f"{len(one.seeds)}", number=True),
            )
        )
    return Table(f"Exposure of planted secrets before and after, {found.task}", header, tuple(body))


def _duels(found: Memory) -> Table | None:
    """Methods against each other, and often against seldom planted."""
    numbers = ("difference, bits", "95 % interval", "p (Holm)", "canaries", "seeds")
    header = (Cell("comparison"), Cell("verdict"), *(Cell(name, number=True) for name in numbers))
    body = [
        (
            Cell(_question(duel)),
            Cell(_SAID[verdict(duel)], strong=True),
            Cell(bits(duel.difference.value, True), number=True),
            Cell(_span(duel.difference, True), number=True),
            Cell(format.p_value(duel.found.p_holm), number=True),
            Cell(f"{duel.found.n}", number=True),
            Cell(f"{duel.found.n_seeds}", number=True),
        )
        for duel in found.duels
        if duel.question != "memorised"
    ]
    return Table(f"Every comparison by exposure, {found.task}", header, tuple(body)) if body else None


def _extracted_rows(found: Memory) -> Table:
    """Documents continued token for token, beside documents that were not trained on."""
    numbers = ("before, %", "after, %", "documents", "seeds")
    header = (Cell("method"), Cell("documents"), *(Cell(name, number=True) for name in numbers))
    body = []
    for one in found.extracted:
        levels = [
            Cell(units.level("accuracy", share.value), units.span("accuracy", share.low, share.high), number=True)
            for share in one.shares.values()
        ]
        which = "trained on" if one.part == "extraction:train" else "never seen"
        counts = (Cell(format.count(one.n), number=True), Cell(f"{one.n_seeds}", number=True))
        body.append((Cell(one.group.name, strong=True), Cell(which), *levels, *counts))
    return Table(f"Documents that a method writes out when given their beginning, {found.task}", header, tuple(body))


SECTION = Section(
    name="memorised",
    title="What it memorises",
    read=_read,
    columns={
        "memorised": (
            *WHO, "part", "metric", "repetitions", "stage", "value", "low", "high", "n", "seeds", "candidates",
        ),
        "memorised_verdicts": (
            "task", "question", "repetitions", "a", "b", "difference", "low", "high", "p_value", "p_holm", "verdict",
            "n", "seeds", "sentence",
        ),
    },
    rows=_with_sentences,
    blocks=_blocks,
)  # fmt: skip
