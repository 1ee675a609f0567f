"""What `ftlib plan` predicted of the runs beside what they took."""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

from ftlib.forecast import Compared, against
from ftlib.report import say
from ftlib.report.study import Study
from ftlib.report.tables import Cell, Table

_WHAT = {
    "peak_memory_bytes": ("peak memory", say.size),
    "seconds": ("time", say.seconds),
    "checkpoint_bytes": ("stored", say.size),
}
"""What is predicted: its name and how it is said."""


class Foretold(NamedTuple):
    """What a section shows of the predictions."""

    found: tuple[Compared, ...]
    sentence: str
    table: Table


def foretold(study: Study) -> Foretold | None:
    """Predicted against actual; None where nothing was predicted."""
    found = tuple(against((run.folder, run.record) for run in study.runs))
    return Foretold(found, _sentence(found), _table(found)) if found else None


def rows(found: Foretold | None) -> list[dict[str, Any]]:
    """The comparisons as report.json holds them."""
    return [
        {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in one._asdict().items()}
        for one in (found.found if found else ())
    ]


def _sentence(found: Sequence[Compared]) -> str:
    """How far the predictions were off, over the methods."""
    said = []
    for what, (name, _) in _WHAT.items():
        ratios = [one.ratio for one in found if one.what == what and not math.isnan(one.ratio)]
        if ratios:
            ends = " to ".join(dict.fromkeys((_times(min(ratios)), _times(max(ratios)))))
            half = f" (half of {say.plural(len(ratios), 'method')} below {_times(median(ratios))})"
            said.append(f"{name} {ends}{half if len(ratios) > 2 else ''}")
    return f"Predicted as a multiple of what it was: {'; '.join(said)}." if said else "Nothing predicted was measured."


def _times(ratio: float) -> str:
    """A ratio with two digits that count, and no more than that.

    >>> _times(0.8312), _times(1.049), _times(13.2)
    ('0.83×', '1.05×', '13×')
    """
    return f"{ratio:.0f}×" if ratio >= 9.95 else f"{ratio:.2f}×"


def _table(found: Sequence[Compared]) -> Table:
    several = {name for name in ("task", "model") if len({getattr(one, name) for one in found} - {""}) > 1}
    methods: dict[tuple[str, str, str], dict[str, Compared]] = {}
    for one in found:
        methods.setdefault((one.task, one.model, one.method), {})[one.what] = one
    body = []
    for (task, model, method), by_what in methods.items():
        name = f"{method} ({model})" if "model" in several and model else method
        n = max(one.n for one in by_what.values())
        cells = [_cell(by_what.get(what), said) for what, (_, said) in _WHAT.items()]
        body.append((Cell(name, task if "task" in several else "", strong=True), *cells, Cell(str(n), number=True)))
    header = (Cell("method"), *(Cell(name, number=True) for name, _ in _WHAT.values()), Cell("runs", number=True))
    return Table("Predicted against actual, mean over the runs", header, tuple(body))


def _cell(one: Compared | None, said: Any) -> Cell:
    if one is None:
        return Cell(say.NONE, number=True)
    both = f"{said(one.predicted)}, was {said(one.actual)}"
    if math.isnan(one.ratio):
        return Cell(say.NONE, both, number=True)
    runs = f" ({_times(one.lowest)} to {_times(one.highest)})" if one.n > 1 else ""
    return Cell(_times(one.ratio) + runs, both, number=True)
