"""What methods memorise: exposure of planted canaries before and after, one method against another, extraction."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib.config.methods import METHODS
from ftlib.core import format
from ftlib.data.canaries import PREFIX, levels
from ftlib.metrics.memorization import by_chance, exposure_interval, exposures
from ftlib.records.predictions import read_columns
from ftlib.records.study import Group, Run, Study, seed_of
from ftlib.report.blocks import Block, Cell, Column, Fold, Heading, Note, Section, Sentences, Table, table
from ftlib.report.figures import Figure, drawing, figure_of
from ftlib.report.metric_rows import WHO, numbers, who
from ftlib.report.pairing import TESTED, Paired, Side, comparison_sentence, in_most, paired_comparisons
from ftlib.report.plots.heat import exposure as draw
from ftlib.report.sections.fairness import share_cell
from ftlib.stats.intervals import Interval, interval
from ftlib.stats.variance import Array

if TYPE_CHECKING:
    from ftlib.report.build import Reading

MARGIN = 1.0
"""Bits that matter: one more halves the guesses that a secret is worth."""

EXTRACTION = ("extraction:train", "extraction:test")

MOST_LINES = 6
"""Methods a figure shows; the table holds them all."""

Asked = tuple[int, str, str, Side, Side]
"""Repetitions, the names of both sides, both sides."""

Tables = Mapping[str, Mapping[tuple[str, str], Mapping[str, Array]]]
"""run_id -> (stage, evaluation set) -> columns of the predictions, in the order of their ids."""


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
    """Two things compared by exposure."""

    question: str
    """methods: two of them; memorised: after against before; repeated: most against least often planted, what
    adapting added."""
    repetitions: int
    a: str
    b: str
    found: Paired
    """Of minus the exposures: less is better."""

    @property
    def difference(self) -> Interval:
        """In bits, a - b: positive where a is more exposed."""
        said = self.found.comparison
        return Interval(-said.difference, -said.high, -said.low)

    @property
    def verdict(self) -> str:
        """Less or more (a is exposed less or more than b), same, or undecided."""
        said = self.found.comparison.verdict
        return {"better": "less", "worse": "more"}.get(said, said)


class Extracted(NamedTuple):
    """Documents that a method continues token for token."""

    group: Group
    part: str
    shares: Mapping[str, Interval]
    """before, after."""
    n: int
    """Documents of one run."""
    n_seeds: int


class Memorization(NamedTuple):
    """One task's methods."""

    task: str
    kept: tuple[Kept, ...]
    comparisons: tuple[ExposureComparison, ...]
    extracted: tuple[Extracted, ...]
    protocols: tuple[str, ...]


def memorization(study: Study) -> list[Memorization]:
    """For each task whose runs had canaries, what its methods kept; each question is a family of comparisons (Holm)."""
    tasks = dict.fromkeys(group.task for group in study.groups)
    return [found for task in tasks if (found := _of_task(study, task))]


def _of_task(study: Study, task: str) -> Memorization | None:
    groups = [g for g in study.groups if g.task == task and g.ok and levels(g.ok[0].record.metrics.get("after", {}))]
    if not groups:
        return None
    tables = {run.record.run_id: _tables(run) for group in groups for run in group.ok}
    kept = [one for group in groups for one in _kept(group, tables)]
    # Exposures among other numbers of candidates have another upper end.
    kept = in_most(kept, lambda one: one.candidates)
    compared = [
        one
        for question, pairs in _questions(kept).items()
        for one in _compared(question, pairs, np.random.default_rng(seed_of(study.plan_hash, task, question)))
    ]
    extracted = [one for group in groups for part in EXTRACTION if (one := _extracted(group, part, tables))]
    protocols = dict.fromkeys(
        leaf["protocol"]
        for group in groups
        for part, leaves in group.ok[0].record.metrics["after"].items()
        if _is_about(part)
        for leaf in leaves.values()
    )
    return Memorization(task, tuple(kept), tuple(compared), tuple(extracted), tuple(protocols))


def _is_about(part: str) -> bool:
    return part.startswith(PREFIX) or part in EXTRACTION


def _tables(run: Run) -> dict[tuple[str, str], dict[str, Array]]:
    parts = {part for stage in run.record.metrics.values() for part in stage if _is_about(part)}
    columns = ("id", "n_tokens", "rank", "candidates", "n_wanted")
    found = read_columns(run.folder / "predictions.parquet", parts, columns)
    orders = {where: np.argsort(held["id"], kind="stable") for where, held in found.items()}
    return {where: {name: held[name][orders[where]] for name in held} for where, held in found.items()}


def _kept(group: Group, tables: Tables) -> Iterator[Kept]:
    for count in levels(group.ok[0].record.metrics["after"]):
        where = [(stage, f"{PREFIX}{count}") for stage in ("before", "after")]
        runs = [run for run in group.ok if all(one in tables[run.record.run_id] for one in where)]
        sides = [[tables[run.record.run_id][one] for run in runs] for one in where]
        sizes = {len(held["rank"]) for side in sides for held in side}
        if len(sizes) != 1 or min(sizes) < 2:
            continue
        candidates = {number for side in sides for held in side for number in held["candidates"].tolist()}
        if len(candidates) == 1:
            before, after = (np.stack([held["rank"] for held in side]).astype(float) for side in sides)
            seeds = tuple(run.seed for run in runs)
            yield Kept(group, count, int(candidates.pop()), seeds, {"before": before, "after": after})


def _questions(kept: Sequence[Kept]) -> dict[str, list[Asked]]:
    """Question -> what is compared, all of methods that train; canaries that were not planted are but a control."""
    trained = [one for one in kept if METHODS[one.group.method].trains]
    planted = [one for one in trained if one.repetitions]
    pairs = [
        (a, b)
        for a, b in combinations(planted, 2)
        if a.repetitions == b.repetitions and a.group.method != b.group.method and a.group.model == b.group.model
    ]
    # On the same terms, where any methods ran on the same.
    pairs = [(a, b) for a, b in pairs if a.group.settings == b.group.settings] or pairs
    by_group: dict[str, list[Kept]] = {}
    for one in planted:
        by_group.setdefault(one.group.name, []).append(one)
    ends = [(some[-1], some[0]) for some in by_group.values() if len(some) > 1]
    return {
        "methods": [(a.repetitions, a.group.name, b.group.name, a.side(), b.side()) for a, b in pairs],
        "memorised": [(a.repetitions, a.group.name, "before", a.side("after"), a.side("before")) for a in trained],
        "repeated": [
            (most.repetitions, most.group.name, f"planted {times(least.repetitions)}", most.gain(), least.gain())
            for most, least in ends
        ],
    }


def _compared(question: str, pairs: Sequence[Asked], rng: np.random.Generator) -> list[ExposureComparison]:
    found = paired_comparisons([(a, b) for *_, a, b in pairs], margin=MARGIN, rng=rng, unit="bits")
    told = {(one.a, one.b): one for one in found}
    return [
        ExposureComparison(question, count, name_a, name_b, told[a.name, b.name])
        for count, name_a, name_b, a, b in pairs
        if (a.name, b.name) in told
    ]


def _extracted(group: Group, part: str, tables: Tables) -> Extracted | None:
    runs = [tables[run.record.run_id] for run in group.ok if ("after", part) in tables[run.record.run_id]]
    if not runs:
        return None
    # Runs with other training documents can have other numbers of them.
    n = min(len(held[stage, part]["id"]) for held in runs for stage in ("before", "after"))
    shares = {}
    for stage in ("before", "after"):
        sides = [held[stage, part] for held in runs]
        shares[stage] = interval(np.stack([(side["n_tokens"] >= side["n_wanted"])[:n] for side in sides]).astype(float))
    return Extracted(group, part, shares, n, len(runs))


def rows(found: Sequence[Memorization]) -> dict[str, list[dict[str, Any]]]:
    """What report.json holds of it, by its key."""
    told: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []
    for one in found:
        for kept in one.kept:
            at = {**who(kept.group), "part": f"{PREFIX}{kept.repetitions}", "metric": "exposure"}
            at |= {"repetitions": kept.repetitions, "candidates": kept.candidates, "seeds": len(kept.seeds)}
            told += [at | {"stage": s, "n": r.shape[1]} | numbers(kept.exposure(s)) for s, r in kept.ranks.items()]
        for extracted in one.extracted:
            at = {**who(extracted.group), "part": extracted.part, "metric": "extraction"}
            at |= {"n": extracted.n, "seeds": extracted.n_seeds}
            told += [at | {"stage": stage} | numbers(share) for stage, share in extracted.shares.items()]
        for pair in one.comparisons:
            said, (value, low, high) = pair.found, pair.difference
            at = {"task": one.task, "question": pair.question, "repetitions": pair.repetitions}
            at |= {"a": pair.a, "b": pair.b, "difference": value, "low": low, "high": high}
            at |= {"p_value": said.comparison.p_value, "p_holm": said.p_holm, "verdict": pair.verdict}
            verdicts.append(at | {"n": pair.found.n, "seeds": pair.found.n_seeds, "sentence": sentence(pair)})
    return {"memorization": told, "memorization_verdicts": verdicts}


def times(repetitions: int) -> str:
    """How often, in words.

    >>> times(0), times(1), times(16)
    ('never', 'once', '16 times')
    """
    return {0: "never", 1: "once"}.get(repetitions, f"{repetitions} times")


def bits(value: float, signed: bool = False) -> str:
    """An exposure, or a difference of two.

    >>> bits(3.14), bits(-0.5, signed=True)
    ('3.1', '−0.5')
    """
    return format.NONE if format.missing(value) else f"{value:{'+' if signed else ''}.1f}".replace("-", "−")


def _span(found: Interval, signed: bool = False) -> str:
    return "" if math.isnan(found.low) else f"{bits(found.low, signed)} to {bits(found.high, signed)}"


_QUESTIONS = {
    "methods": "{a} against {b}, planted {times}",
    "memorised": "{a}, planted {times}: after against before",
    "repeated": "{a}: planted {times} against {b}, what adapting added",
}

_VERDICTS = {
    "less": "exposed less",
    "more": "exposed more",
    "same": f"equivalent within {MARGIN:g} bit",
    "undecided": "undecided",
}

_IN_WORDS = {
    verdict: f"{said}{' by' if verdict in ('less', 'more') else ': they differ by'} {{size}} bits {{sure}}"
    for verdict, said in _VERDICTS.items()
}


def _question(one: ExposureComparison) -> str:
    return _QUESTIONS[one.question].format(a=one.a, b=one.b, times=times(one.repetitions))


def sentence(one: ExposureComparison) -> str:
    """One comparison in one sentence, with its interval and on how many secrets and seeds it stands."""
    counted = f"{format.plural(one.found.n, 'secret')}, {format.plural(one.found.n_seeds, 'seed')}"
    return f"{_question(one)}: {comparison_sentence(one.found.comparison, _IN_WORDS, bits, counted, one.verdict)}"


def _figure(found: Memorization) -> Figure:
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


def _bits_cell(found: Interval | None, signed: bool = False, strong: bool = False) -> Cell:
    return Cell(bits(found.value, signed), _span(found, signed), True, strong=strong) if found else Cell("")


def _levels(found: Memorization) -> Table:
    """Every method by every number of repetitions, before and after."""
    changes = {(pair.a, pair.repetitions): pair for pair in found.comparisons if pair.question == "memorised"}
    compared = [(kept, changes.get((kept.group.name, kept.repetitions))) for kept in found.kept]
    columns = (
        Column("method", "method", lambda row: Cell(row[0].group.name, strong=True), whole=True),
        Column("verdict", "after against before", lambda row: _said(row[1]), whole=True),
        Column("repetitions", "times planted", lambda row: f"{row[0].repetitions}", True, True),
        Column("before", "before, bits", lambda row: _bits_cell(row[0].exposure("before")), True, True),
        Column("after", "after, bits", lambda row: _bits_cell(row[0].exposure("after"), strong=True), True, True),
        Column("change", "change, bits", lambda row: _bits_cell(row[1] and row[1].difference, True), True, True),
        Column("p_holm", "p (Holm)", lambda row: format.p_value(row[1].found.p_holm) if row[1] else "", True, True),
        Column("n", "canaries", lambda row: f"{row[0].ranks['after'].shape[1]}", True, True),
        Column("seeds", "seeds", lambda row: f"{len(row[0].seeds)}", True, True),
    )
    return table(f"Exposure of planted secrets before and after, {found.task}", columns, compared)


def _said(one: ExposureComparison | None) -> str:
    return _VERDICTS[one.verdict] if one else "not compared"


_COMPARISONS = (
    Column("question", "comparison", _question, whole=True),
    Column("verdict", "verdict", lambda one: Cell(_VERDICTS[one.verdict], strong=True), whole=True),
    Column("difference", "difference, bits", lambda one: _bits_cell(one.difference, signed=True), True, True),
    Column("p_holm", "p (Holm)", lambda one: format.p_value(one.found.p_holm), True, True),
    Column("n", "canaries", lambda one: f"{one.found.n}", True, True),
    Column("seeds", "seeds", lambda one: f"{one.found.n_seeds}", True, True),
)

_DOCUMENTS = {"extraction:train": "trained on", "extraction:test": "never seen"}

_EXTRACTED = (
    Column("method", "method", lambda one: Cell(one.group.name, strong=True), whole=True),
    Column("part", "documents", lambda one: _DOCUMENTS[one.part], whole=True),
    Column("before", "before, %", lambda one: share_cell(one.shares["before"]), True, True),
    Column("after", "after, %", lambda one: share_cell(one.shares["after"]), True, True),
    Column("n", "documents", lambda one: format.count(one.n), True, True),
    Column("seeds", "seeds", lambda one: f"{one.n_seeds}", True, True),
)

_NOTE = (
    "Made-up secrets of four digits were planted in the training text. Exposure says how much the adapted model tells "
    "of them, in bits: 0 is nothing, a secret that was never seen has 1.4 in the mean by chance, and each bit halves "
    "the guesses that are needed. Comparisons are paired on secrets and seeds and corrected (Holm) for all of their "
    f"kind; “equivalent” means shown to lie within {MARGIN:g} bit, {TESTED}. "
    "A low exposure of these secrets is no proof that "
    "nothing else was memorised."
)


def _read(reading: "Reading") -> list[Memorization] | None:
    return memorization(reading.study) or None


def _blocks(found: list[Memorization]) -> Iterator[Block]:
    yield Note(_NOTE)
    for one in found:
        if len(found) > 1:
            yield Heading(one.task)
        # What happens before and after is in the table; the sentences are about what was asked.
        asked = [pair for pair in one.comparisons if pair.question != "memorised"]
        if asked:
            yield Sentences(tuple(f"{sentence(pair)}." for pair in asked))
        if one.kept:
            yield _figure(one)
        yield _levels(one)
        if asked:
            caption = f"Every comparison by exposure, {one.task}"
            yield Fold(caption, (table(caption, _COMPARISONS, asked),))
        if one.extracted:
            caption = f"Documents that a method writes out when given their beginning, {one.task}"
            yield table(caption, _EXTRACTED, one.extracted)
        for line in one.protocols:
            yield Note(f"{line}.")


SECTION = Section(
    name="memorization",
    title="What it memorises",
    read=_read,
    columns={
        "memorization": (
            *WHO, "part", "metric", "repetitions", "stage", "value", "low", "high", "n", "seeds", "candidates",
        ),
        "memorization_verdicts": (
            "task", "question", "repetitions", "a", "b", "difference", "low", "high", "p_value", "p_holm", "verdict",
            "n", "seeds", "sentence",
        ),
    },
    rows=rows,
    blocks=_blocks,
)  # fmt: skip
