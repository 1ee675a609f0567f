"""Canaries: made-up secrets planted in the training text, to see what a model keeps of what stood there so often.

A canary is a sentence that this project wrote, such as "The locker code of Mara Quill is", and four digits drawn by the
seed. Nobody can know them but who has read them, so a model that finds them likelier than other digits has memorised
them (Carlini et al. 2019, "The Secret Sharer", sections 3 and 4). Every canary has an owner of its own: with one
sentence for all, the digits of one would be in the way of another's.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib.core.errors import FtlibError

if TYPE_CHECKING:
    import pandas as pd

CARRIER = "The locker code of {owner} is"

DIGITS = 4
"""So few that all 10^4 secrets can be ranked, which share their first digits: no sample, and no estimate."""

EACH = 5
"""Canaries of each number of repetitions."""

PREFIX = "canaries:"
"""Before the number of repetitions, the name of a part of a record."""

_FIRST = ("Mara", "Odo", "Tilda", "Bran", "Ysolde", "Corin", "Edda", "Faro")

_LAST = ("Quill", "Hasp", "Brindle", "Vane", "Thorpe")

OWNERS = tuple(f"{first} {last}" for first in _FIRST for last in _LAST)
"""Nobody's names."""

MOST = len(OWNERS) // EACH
"""Numbers of repetitions in one run, at most."""


class Canary(NamedTuple):
    """One planted sentence."""

    repetitions: int
    """In the training documents of one pass; 0: it is measured and not planted."""
    number: int
    """Among those of as many repetitions."""
    carrier: str
    secret: str

    @property
    def id(self) -> str:
        """Its name in a record.

        >>> Canary(16, 2, "The code is", "0123").id
        '16x 2'
        """
        return f"{self.repetitions}x {self.number}"

    @property
    def sentence(self) -> str:
        """What stands in the text."""
        return f"{self.carrier} {self.secret}."


def problems(repetitions: Sequence[int]) -> list[str]:
    """What is wrong with the numbers of repetitions, in words.

    >>> problems([0, 1, 16]), problems([4, 4])
    ([], ['canaries: found [4, 4]; allowed: each number of repetitions once'])
    """
    if len(set(repetitions)) < len(repetitions):
        return [f"canaries: found {list(repetitions)}; allowed: each number of repetitions once"]
    if len(repetitions) > MOST:
        return [f"canaries: found {len(repetitions)} numbers of repetitions; allowed: {MOST} at most"]
    return []


def canaries(repetitions: Sequence[int], seed: int) -> list[Canary]:
    """Some canaries for each number of repetitions; the same seed gives the same, whatever is planted besides.

    >>> [one.id for one in canaries([0, 16], seed=0)][3:7]
    ['0x 3', '0x 4', '16x 0', '16x 1']
    >>> len({one.secret for one in canaries([1, 4, 16], seed=0)})
    15
    """
    if found := problems(repetitions):
        raise FtlibError(found[0])
    owners = np.random.default_rng([seed, 1]).permutation(len(OWNERS))
    secrets = _secrets(seed)
    return [
        Canary(count, number, CARRIER.format(owner=OWNERS[owners[place]]), secrets[place])
        for level, count in enumerate(repetitions)
        for number in range(EACH)
        for place in [level * EACH + number]
    ]


def others(seed: int) -> list[str]:
    """The secrets that every canary's own is ranked among: all that no canary has.

    >>> len(others(0)), set(others(0)) & {one.secret for one in canaries([1, 4], 0)}
    (9960, set())
    """
    return sorted(_secrets(seed)[len(OWNERS) :])


def _secrets(seed: int) -> list[str]:
    """All secrets; the first are those of the owners."""
    return [f"{secret:0{DIGITS}d}" for secret in np.random.default_rng([seed, 2]).permutation(10**DIGITS)]


def planted(train: "pd.DataFrame", found: Sequence[Canary], seed: int) -> "pd.DataFrame":
    """The training documents with the canaries among their lines.

    Documents stay as many as they are, and each canary stands at most once in a document: on a line of its own, after
    the first line. So a training with canaries takes as many steps as one without.

    Raises:
        FtlibError: A canary is to stand in more documents than there are.
    """
    most = max((one.repetitions for one in found), default=0)
    if most > len(train):
        raise FtlibError(
            f"canaries: {most} repetitions need as many training documents, and there are {len(train)}; "
            "plant fewer, or raise train_limit"
        )
    rng = np.random.default_rng([seed, 3])
    lines = [text.split("\n") for text in train["text"]]
    for one in found:
        for place in rng.choice(len(lines), one.repetitions, replace=False):
            lines[place].insert(int(rng.integers(1, len(lines[place]) + 1)), one.sentence)
    return train.assign(text=["\n".join(some) for some in lines])


def levels(metrics: Mapping[str, Any]) -> list[int]:
    """The numbers of repetitions that a stage of a record holds, ascending.

    >>> levels({"test": {}, "canaries:16": {}, "canaries:1": {}})
    [1, 16]
    """
    return sorted(int(part.removeprefix(PREFIX)) for part in metrics if part.startswith(PREFIX))


def by_repetitions(metrics: Mapping[str, Any]) -> dict[str, tuple[list[float], ...]]:
    """A record's exposures: stage -> (repetitions, values, lower bounds, upper bounds), as `ftlib.report.plots` draws
    them.

    >>> leaf = {"value": 3.0, "low": 1.0, "high": 5.0, "n": 5}
    >>> by_repetitions({"before": {}, "after": {"canaries:4": {"exposure": leaf}}})
    {'after': ([4], [3.0], [1.0], [5.0])}
    """
    found = {}
    for stage, parts in metrics.items():
        if counts := levels(parts):
            leaves = [parts[f"{PREFIX}{count}"]["exposure"] for count in counts]
            found[stage] = (counts, *([leaf[name] for leaf in leaves] for name in ("value", "low", "high")))
    return found
