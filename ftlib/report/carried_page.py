"""What one task gives to another, as the page shows it: a matrix of gains, and every pair in words and numbers."""

from collections.abc import Iterator, Sequence

import numpy as np

from ftlib.metrics import metric_row
from ftlib.plots.heat import heat
from ftlib.report import say
from ftlib.report.carried import Carried, better_is_lower, sentence
from ftlib.report.figures import Figure, figure_of
from ftlib.report.settings import differing
from ftlib.report.study import Group
from ftlib.report.svg import drawing
from ftlib.report.tables import Cell, Table

_MARKS = {"better": "better", "worse": "worse", "same": "same", "undecided": "?"}


def figures(found: Sequence[Carried]) -> Iterator[Figure]:
    """One matrix for each method and way: what each single task gave to each other one."""
    single = [one for one in found if len(one.sources) == 1 and one.against == "alone"]
    single = [one for one in single if metric_row(one.metric).unit == "share"]
    names = _variants([one.group for one in single])
    cells: dict[tuple[str, str], dict[tuple[str, str], Carried]] = {}
    for one in single:
        cells.setdefault((names[one.group.name, one.group.task], one.how), {})[one.sources[0], one.task] = one
    for (method, how), pairs in cells.items():
        yield _matrix(method, how, pairs)


def _variants(groups: Sequence[Group]) -> dict[tuple[str, str], str]:
    """Group -> its method with the settings that tell it from others, which tasks it was trained on left aside."""
    apart = ("task", "earlier", "together")
    specs = [{k: v for k, v in group.runs[0].resolved.items() if k not in apart} for group in groups]
    unique = list({repr(spec): spec for spec in specs}.values())
    several = len({spec.get("model") for spec in unique}) > 1
    said = {repr(spec): words for spec, words in zip(unique, differing(unique), strict=True)} if unique else {}
    return {
        (group.name, group.task): " ".join(
            filter(None, (group.method, f"({group.model})" if several else "", said[repr(spec)]))
        )
        for group, spec in zip(groups, specs, strict=True)
    }


def _matrix(method: str, how: str, pairs: dict[tuple[str, str], Carried]) -> Figure:
    sources = list(dict.fromkeys(source for source, _ in pairs))
    targets = list(dict.fromkeys(target for _, target in pairs))
    values = np.full((len(sources), len(targets)), np.nan)
    marks = [["" for _ in targets] for _ in sources]
    for (source, target), one in pairs.items():
        at = sources.index(source), targets.index(target)
        values[at] = one.gain.pair.comparison.difference
        marks[at[0]][at[1]] = _MARKS[one.gain.pair.comparison.verdict]
    metrics = say.listed(list(dict.fromkeys(say.name(one.metric) for one in pairs.values())))
    beside = "before it" if how == "after" else "together with it"
    with drawing(1.2 + 0.55 * len(sources)) as ax:
        heat(
            ax,
            values,
            sources,
            targets,
            label=f"Points of {metrics} that a task gains by another one trained {beside}, {method}",
            across="the task that is measured",
            down=f"trained {beside}",
            digits=1,
            signed=True,
            marks=marks,
        )
        return figure_of(
            ax,
            "carried",
            f"{method}: what a task gains by another one trained {beside}",
            f"Points of {metrics} against the task alone; below the number the verdict, “?” where neither a difference "
            "nor sameness is shown.",
            ("from", "to", "gain, points", "95 % interval", "p (Holm)", "seeds", "n"),
            [(source, target, *_numbers(one)) for (source, target), one in pairs.items()],
        )


def _numbers(one: Carried) -> tuple[str, ...]:
    said = one.gain.pair.comparison
    return (
        say.difference(one.metric, said.difference),
        f"{say.difference(one.metric, said.low)} to {say.difference(one.metric, said.high)}",
        say.p_value(one.gain.pair.p_holm),
        str(one.gain.n_seeds),
        say.count(one.n),
    )


_VERDICTS = {"better": "gains", "worse": "loses", "same": "the same", "undecided": "undecided"}


def table(found: Sequence[Carried], against: str) -> Table | None:
    """Every pair against a task alone, or against the tasks in sequence; None where there is none."""
    numbers = ("with them", "without", "gain", "p (Holm)", "seeds", "n")
    header = (Cell("task"), Cell("trained"), Cell("method"), Cell("verdict"), *(Cell(x, number=True) for x in numbers))
    body = []
    for one in found:
        if one.against != against:
            continue
        gain, sure, *rest = _numbers(one)
        lower = ", fewer are better" if better_is_lower(one.metric) else ""
        other = f"against {one.other.name}" if one.other.name != one.group.name else ""
        body.append(
            (
                Cell(one.task, f"{say.heading(one.metric)}{lower}", strong=True),
                Cell(f"{one.how} {say.listed(list(one.sources))}"),
                Cell(one.group.name, other),
                Cell(_VERDICTS[one.gain.pair.comparison.verdict], f"{sentence(one)}."),
                *(
                    Cell(say.level(one.metric, level.value), say.span(one.metric, level.low, level.high), number=True)
                    for level in (one.level, one.base)
                ),
                Cell(gain, sure, number=True, strong=True),
                *(Cell(value, number=True) for value in rest),
            )
        )
    said = "each task alone" if against == "alone" else "the same tasks in sequence"
    return Table(f"Trained with others against {said}", header, tuple(body)) if body else None
