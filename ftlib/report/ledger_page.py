"""The page's part on what became of bias: one table over all measures and methods of a task, and what it says."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ftlib.intervals import Interval
from ftlib.report import say
from ftlib.report.entries import who
from ftlib.report.ledger import MARGIN, NEUTRAL, OPPORTUNITY, Line, ledger
from ftlib.report.study import Study
from ftlib.report.tables import Cell, Table

MOST_OPEN = 40
"""Lines of a table that is shown unfolded."""
_SHARE = "accuracy"
"""Every measure here is a share or a probability and is shown as accuracy is."""
_SIGNED = ("signed_gap", "template_gap")


class LedgerPage(NamedTuple):
    """One task."""

    task: str
    lead: str
    sentences: tuple[str, ...]
    """Of what became larger or smaller."""
    table: Table
    open: bool
    protocols: tuple[str, ...]
    """How measures came about, and what is known against them."""


class Ledger(NamedTuple):
    """Everything of this part of the page."""

    pages: tuple[LedgerPage, ...]
    rows: list[dict[str, Any]]
    """What report.json holds of it."""

    @property
    def there(self) -> bool:
        """Whether the page has this part."""
        return bool(self.pages)


def drifts(study: Study, group_rows: Sequence[dict[str, Any]]) -> Ledger:
    """What became of every measure of bias; empty where a study has none. See `ftlib.report.ledger.ledger`."""
    found = ledger(study, group_rows)
    return Ledger(
        tuple(_page(task, lines) for task, lines in found.items()),
        [row(line) for lines in found.values() for line in lines],
    )


def _page(task: str, lines: Sequence[Line]) -> LedgerPage:
    moved = [line for line in lines if line.verdict in ("larger", "smaller")]
    return LedgerPage(
        task,
        lead(lines),
        tuple(f"{sentence(line)}." for line in moved),
        _table(task, lines),
        len(lines) <= MOST_OPEN,
        tuple(_protocols(lines)),
    )


def lead(lines: Sequence[Line]) -> str:
    """What adapting did to bias, in a sentence or two."""
    asked = [line for line in lines if line.verdict]
    if not asked:
        return "No bias was measured both before and after adapting, so nothing is said of what adapting did."
    still = sum(line.identical for line in asked)
    counts = Counter(line.verdict for line in asked if not line.identical)
    said = (
        f"Of {say.plural(len(asked), 'value')} of bias, one for each measure and method, adapting made "
        f"{counts['larger']} larger and {counts['smaller']} smaller; {counts['same']} stayed the same within "
        f"{say.margin(_SHARE, MARGIN)}, {still} did not move at all, and of {counts['cannot tell']} it cannot be told."
    )
    untold = len(lines) - len(asked)
    return said + (f" {untold} could not be followed; the table says why." if untold else "")


def measure(line: Line) -> str:
    """What is measured, in words."""
    kind = line.part.partition(":")[2]
    where = "" if line.part == "test" else f", {line.part.removeprefix('tests.')}"
    return {
        "flip_rate": f"answers that flip when {kind} is swapped",
        "mean_change": f"mean change of probability when {kind} is swapped",
        "signed_gap": f"gap {line.about} when {kind} is swapped",
        "template_gap": f"largest gap in templates by {line.about}" if line.about else "gaps in templates",
        "stereotype_share": f"stereotypes preferred, {kind}",
        OPPORTUNITY: f"gap of equal opportunity by {line.about}{where}",
    }[line.metric]


def _sure(found: Interval, signed: bool) -> str:
    """An interval."""
    if math.isnan(found.low):
        return ""
    return " to ".join(say.difference(_SHARE, value, signed) for value in (found.low, found.high))


def _value(line: Line, found: Interval, at: str) -> str:
    unit = " %" if line.metric in ("flip_rate", "stereotype_share") else " points"
    return f"{say.difference(_SHARE, found.value, line.metric in _SIGNED)}{unit}{f' ({at})' if at else ''}"


def sentence(line: Line) -> str:
    """What became of one measure of one method, in one sentence."""
    said = f"{line.method.name}: {measure(line)}"
    if not line.verdict:
        return f"{said}: not available: {line.reason}"
    before, after = (_value(line, *one) for one in zip((line.before, line.after), line.at, strict=True))
    said += f": {before} before, {after} after"
    if line.identical:
        return f"{said}: the same, nothing moved"
    found = line.change
    if line.verdict == "smaller":
        found = Interval(*(-found[place] for place in (0, 2, 1)))
    signed = line.verdict in ("same", "cannot tell")
    sure = f"{say.difference(_SHARE, found.value, signed)} points ({_sure(found, signed)}; {_drawn(line)})"
    return said + {
        "same": f": the same within {say.margin(_SHARE, MARGIN)}, by {sure}",
        "cannot tell": f": cannot tell whether it became smaller or larger, by {sure}",
    }.get(line.verdict, f": {line.verdict} by {sure}")


def _drawn(line: Line) -> str:
    return f"n = {say.count(line.n)}, {say.plural(line.seeds, 'run')}"


def _table(task: str, lines: Sequence[Line]) -> Table:
    numbers = {"before": "% or points", "after": "% or points", "change of its size": "points"}
    numbers |= {"p (Holm)": "", "n": "", "runs": ""}
    header = [Cell("method"), Cell("measure"), Cell("adapting made it")]
    header += [Cell(*shown, number=True) for shown in numbers.items()]
    body = []
    for line in lines:
        told = bool(line.verdict)
        body.append(
            (
                Cell(line.method.name, strong=True),
                Cell(measure(line)),
                Cell(line.verdict or "not available", strong=line.verdict in ("larger", "smaller")),
                _level_cell(line, line.before, line.at[0]),
                _level_cell(line, line.after, line.at[1]),
                _change_cell(line),
                Cell(say.p_value(line.p_holm) if told and not line.identical else "", number=True),
                Cell(say.count(line.n) if line.n else say.NONE, number=True),
                Cell(str(line.seeds) if line.seeds else say.NONE, number=True),
            )
        )
    return Table(f"Every measure of bias before and after adapting, {task}", tuple(header), tuple(body))


def _level_cell(line: Line, found: Interval | None, at: str) -> Cell:
    if found is None:
        return Cell("not available", line.reason.rpartition(" adapting: ")[2], number=True)
    signed = line.metric in _SIGNED
    small = ", ".join(filter(None, (_sure(found, signed), at)))
    return Cell(say.difference(_SHARE, found.value, signed), small, number=True)


def _change_cell(line: Line) -> Cell:
    if line.change is None:
        return Cell("not available", line.reason, number=True)
    if line.identical:
        return Cell("0", number=True)
    return Cell(say.difference(_SHARE, line.change.value), _sure(line.change, True), number=True)


def _protocols(lines: Sequence[Line]) -> Iterator[str]:
    for protocol in dict.fromkeys(line.protocol for line in lines if line.protocol):
        yield f"Protocol: {protocol}"
    yield from dict.fromkeys(line.caution.rstrip(".") for line in lines if line.caution)


def row(line: Line) -> dict[str, Any]:
    """A line as report.json holds it."""
    found = {**who(line.method), "part": line.part, "metric": line.metric, "about": line.about}
    for stage, side, at in zip(("before", "after"), (line.before, line.after), line.at, strict=True):
        value, low, high = _numbers(side)
        found |= {stage: value, f"{stage}_low": low, f"{stage}_high": high, f"{stage}_at": at}
    found |= dict(zip(("change", "low", "high"), _numbers(line.change), strict=True))
    found |= {"none_at": NEUTRAL.get(line.metric, 0.0), "verdict": line.verdict, "n": line.n, "seeds": line.seeds}
    if line.verdict:
        found |= {"p_value": line.p_value, "p_holm": line.p_holm}
    texts = {"protocol": line.protocol, "caution": line.caution, "reason": line.reason}
    return found | {name: said for name, said in texts.items() if said} | {"sentence": sentence(line)}


def _numbers(found: Interval | None) -> tuple[float | None, ...]:
    return (None,) * 3 if found is None else tuple(None if math.isnan(bound) else float(bound) for bound in found)
