"""What many rows of report.json have in common: which runs they are about, and an interval's numbers."""

import math

from ftlib.intervals import Interval
from ftlib.report.study import Group


def who(group: Group) -> dict[str, str]:
    """The columns that name a group of runs."""
    return {"task": group.task, "model": group.model, "method": group.method, "settings": group.settings}


def numbers(found: Interval) -> dict[str, float | None]:
    """A value and its interval, null where there is none.

    >>> numbers(Interval(0.5, 0.25, math.nan))
    {'value': 0.5, 'low': 0.25, 'high': None}
    """
    return {name: None if math.isnan(number) else float(number) for name, number in found._asdict().items()}
