"""The page's part on what methods memorise: the verdicts, exposure against repetitions, documents written out."""

import math
from typing import Any, NamedTuple

from ftlib.intervals import Interval
from ftlib.metrics.memorization import by_chance
from ftlib.plots.canaries import exposure as draw
from ftlib.report import say
from ftlib.report.canaries import MARGIN, Duel, Memory, memories, rows, times, verdict
from ftlib.report.figures import Figure, figure_of
from ftlib.report.study import Study
from ftlib.report.svg import drawing
from ftlib.report.tables import Cell, Table

MOST_LINES = 6
"""Methods a figure shows; the table holds them all."""


class MemoryPage(NamedTuple):
    """One task."""

    task: str
    sentences: tuple[str, ...]
    figure: Figure | None
    levels: Table
    duels: Table | None
    extracted: Table | None
    protocols: tuple[str, ...]


class Memorised(NamedTuple):
    """Everything of this part of the page."""

    pages: tuple[MemoryPage, ...]
    rows: dict[str, list[dict[str, Any]]]
    """What report.json holds of it, by its key."""

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Every figure, in the order of the page."""
        return tuple(one.figure for one in self.pages if one.figure)

    @property
    def there(self) -> bool:
        """Whether the page has this part."""
        return bool(self.pages)


def memorised(study: Study) -> Memorised:
    """What a study's methods memorise; empty where it planted nothing."""
    found = memories(study)
    told = rows(found)
    said = [sentence(duel) for memory in found for duel in memory.duels]
    for row, line in zip(told["memorised_verdicts"], said, strict=True):
        row["sentence"] = line
    return Memorised(tuple(map(_page, found)), told)


def _page(found: Memory) -> MemoryPage:
    return MemoryPage(
        found.task,
        # What happens before and after is in the table; the sentences are about what was asked.
        tuple(f"{sentence(duel)}." for duel in found.duels if duel.question != "memorised"),
        _figure(found) if found.kept else None,
        _levels(found),
        _duels(found) if found.duels else None,
        _extracted(found) if found.extracted else None,
        found.protocols,
    )


def bits(value: float, signed: bool = False) -> str:
    """An exposure, or a difference of two.

    >>> bits(3.14), bits(-0.5, signed=True)
    ('3.1', '−0.5')
    """
    return say.NONE if say.missing(value) else f"{value:{'+' if signed else ''}.1f}".replace("-", "−")


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
    "same": f"the same within {MARGIN:g} bit",
    "undecided": "undecided",
}


def _question(duel: Duel) -> str:
    return _QUESTIONS[duel.question].format(a=duel.a, b=duel.b, times=times(duel.repetitions))


def sentence(duel: Duel) -> str:
    """One comparison in one sentence, with its interval and on how many secrets and seeds it stands."""
    found = duel.difference
    size = f"{bits(abs(found.value))} bits"
    low, high = (found.low, found.high) if found.value >= 0 else (-found.high, -found.low)
    sure = (
        f"{bits(low)} to {bits(high)}; {say.plural(duel.found.n, 'secret')}, {say.plural(duel.found.n_seeds, 'seed')}"
    )
    words = {
        "less": f"exposed less by {size} ({sure})",
        "more": f"exposed more by {size} ({sure})",
        "same": f"the same within {MARGIN:g} bit: they differ by {size} ({sure})",
        "undecided": f"undecided: they differ by {size} ({sure})",
    }
    return f"{_question(duel)}: {words[verdict(duel)]}"


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
                Cell(say.p_value(duel.found.pair.p_holm), number=True) if duel else blank,
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
            Cell(say.p_value(duel.found.pair.p_holm), number=True),
            Cell(f"{duel.found.n}", number=True),
            Cell(f"{duel.found.n_seeds}", number=True),
        )
        for duel in found.duels
        if duel.question != "memorised"
    ]
    return Table(f"Every comparison by exposure, {found.task}", header, tuple(body)) if body else None


def _extracted(found: Memory) -> Table:
    """Documents continued token for token, beside documents that were not trained on."""
    numbers = ("before, %", "after, %", "documents", "seeds")
    header = (Cell("method"), Cell("documents"), *(Cell(name, number=True) for name in numbers))
    body = []
    for one in found.extracted:
        levels = [
            Cell(say.level("accuracy", share.value), say.span("accuracy", share.low, share.high), number=True)
            for share in one.shares.values()
        ]
        which = "trained on" if one.part == "extraction:train" else "never seen"
        counts = (Cell(say.count(one.n), number=True), Cell(f"{one.n_seeds}", number=True))
        body.append((Cell(one.group.name, strong=True), Cell(which), *levels, *counts))
    return Table(f"Documents that a method writes out when given their beginning, {found.task}", header, tuple(body))
