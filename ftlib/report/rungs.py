"""The rungs of a few-shot study: which methods stand beside each other at every number of labels per class."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ftlib.methods import METHODS
from ftlib.report import say
from ftlib.report.entrants import Contestant

_SHOTS = re.compile(r"(?:^| )shots=\d+(?= |$)")


def labels(shots: int | str) -> str:
    """A number of labels in words.

    >>> labels(1), labels(8), labels("1 to 4")
    ('1 label per class', '8 labels per class', '1 to 4 labels per class')
    """
    return f"{shots} label{'s' * (shots not in (1, '1'))} per class"


def at(shots: Sequence[int], every: Sequence[int]) -> str:
    """Some of the numbers of labels, in words; three or more neighbours as one stretch.

    >>> at((1, 2, 4, 64), (1, 2, 4, 8, 16, 32, 64)), at((1, 4, 8), (1, 2, 4, 8, 16))
    ('1 to 4 and 64 labels per class', '1, 4 and 8 labels per class')
    """
    runs: list[list[int]] = []
    for place, k in enumerate(every):
        if k in shots:
            if runs and place and every[place - 1] == runs[-1][-1]:
                runs[-1].append(k)
            else:
                runs.append([k])
    said = [x for run in runs for x in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run))]
    return labels(say.listed(said))


def with_labels(name: str) -> str:
    """A group's name as it is spoken.

    >>> with_labels("setfit shots=8"), with_labels("lora r=4 shots=1"), with_labels("full")
    ('setfit at 8 labels per class', 'lora r=4 at 1 label per class', 'full')
    """
    return re.sub(r"(?:^| )shots=(\d+)(?= |$)", lambda found: f" at {labels(found[1])}", name)


class Rung(NamedTuple):
    """Who is compared at one number of labels."""

    shots: int
    """Labelled examples per class."""
    members: list[Contestant]
    """Methods that had so many, and what draws none and so stands at every number."""
    beside: tuple[Contestant, ...]
    """Who had more labels than any rung (all there are): shown, and not compared."""


def rungs(members: Sequence[Contestant]) -> Iterator[Rung]:
    """Take a task's contestants apart by how many labels they had; nothing unless there are two or more numbers."""
    counts = sorted({shots_of(one) for one in members} - {0})
    if len(counts) < 2:
        return
    lines = {one.name: said for one, said in _lines([one for one in members if shots_of(one)])}
    still = [one._replace(line=_base(one, members)) for one in _once([one for one in members if _still(one)])]
    rest = [one for one in members if not shots_of(one) and not _still(one)]
    beside = tuple(one._replace(line=_with_all(one, members)) for one in rest)
    for k in counts:
        here = [one._replace(line=lines[one.name]) for one in members if shots_of(one) == k]
        yield Rung(k, [*here, *still], beside)


def shots_of(one: Contestant) -> int:
    """Labelled examples per class that it was given; 0 for what draws none, and for what was not limited."""
    return 0 if one.untouched or one.group is None else one.group.shots


def _draws(method: str) -> bool:
    return method not in METHODS or METHODS[method].draws


def _still(one: Contestant) -> bool:
    """Whether no label of the task has a part in it."""
    return one.untouched or (one.group is not None and not one.baseline and not _draws(one.group.method))


def _once(still: Sequence[Contestant]) -> list[Contestant]:
    """Each answer once: a zero-shot that was asked for at every number of labels is one method."""
    found: dict[bytes, Contestant] = {}
    for one in sorted(still, key=lambda one: not one.untouched):
        found.setdefault(next(iter(one.parts.values())).answers, one)
    return list(found.values())


def _lines(members: Sequence[Contestant]) -> Iterator[tuple[Contestant, str]]:
    """A name for each that is the same at every number of labels, and no other's at the same number."""
    for one in members:
        base = _base(one, members)
        twins = [other for other in members if _base(other, members) == base]
        if len({shots_of(other) for other in twins}) < len(twins):
            base = f"{base} {_SHOTS.sub('', one.group.settings).strip()}".strip()
        yield one, base


def _base(one: Contestant, members: Sequence[Contestant]) -> str:
    """The method, with its model only where it was tried with several."""
    if one.group is None:
        return one.name
    models = {other.group.model for other in members if other.group and other.group.method == one.group.method}
    return f"{one.group.method} ({one.group.model})" if len(models) > 1 else one.group.method


def _with_all(one: Contestant, members: Sequence[Contestant]) -> str:
    settings = _SHOTS.sub("", one.group.settings).strip() if one.group else ""
    alone = sum(other.group is not None and other.group.method == one.group.method for other in members) == 1
    limited = one.group is not None and one.group.runs[0].resolved.get("train_limit")
    base = _base(one, members) if alone or not settings else f"{_base(one, members)} {settings}"
    return base if not _draws(one.group.method) or (limited and settings) else f"{base}, all labels"
