"""How often each group of people is found, label by label: where a gap between groups sits that accuracy hides."""

from collections.abc import Sequence

from ftlib.errors import unknown
from ftlib.metrics.fairness import looked_at, unnamed
from ftlib.plots.groups import Values, rates_by_group
from ftlib.report.group_rates import Level, levels_of, sides_of
from ftlib.report.groups import Treated
from ftlib.report.svg import Picture, picture


def by_label(of: Treated, name: str) -> list[Level]:
    """Of each label's examples the share that a method finds, group by group, before and after adapting.

    Args:
        of: One column of groups of a part of a task.
        name: Of a method, as the report names it.

    Returns:
        A rate for each label looked at, stage, and group that has a name and such examples.

    Raises:
        FtlibError: No method of that name has these groups.
    """
    methods = {one.method.name: one.method for one in of.changes}
    if name not in methods:
        raise unknown("method", name, methods)
    sides, blank = sides_of(methods[name], of.part, of.column), unnamed()
    levels = [level for label in looked_at(sides.part.labels) for level in levels_of(sides, label)]
    return [level for level in levels if level.metric == "tpr" and level.group != blank and level.n]


def pictured(levels: Sequence[Level]) -> Picture:
    """The rates of `by_label` as a picture: a band for each label, hollow before adapting and filled after it."""
    found: dict[tuple[str, str, str], Values] = {
        (one.stage, one.label, one.group): tuple(100 * end for end in one.found) for one in levels
    }
    drawn: dict[str, dict[str, tuple[Values | None, Values]]] = {one.label: {} for one in levels}
    for (stage, label, group), values in found.items():
        if stage == "after":
            drawn[label][group] = (found.get(("before", label, group)), values)
    height = 1.2 + 0.17 * sum(map(len, drawn.values()))
    return picture(rates_by_group, drawn, label="share that is found, %", height=height)
