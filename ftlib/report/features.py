"""What adapting did to everything else a model's features could tell: linear probes before and after each method."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ftlib.intervals import Interval
from ftlib.report import say
from ftlib.report.courses import Paired, Side, compared, examples_of, in_common, table_of
from ftlib.report.entries import who
from ftlib.report.parts import Part
from ftlib.report.rows import group_interval
from ftlib.report.sequences import alone, margin_in_share, spanned
from ftlib.report.study import Group, Study, seed_of
from ftlib.report.tables import Cell, Table

PREFIX = "features:"
METRIC = "accuracy"


class Features(NamedTuple):
    """One method and one task that is read off its features."""

    group: Group
    part: str
    before: Interval
    after: Interval
    change: Paired
    """after - before; higher is better."""
    margin: float
    n: int

    @property
    def unchanged(self) -> bool:
        """Whether the same examples are got right as before."""
        return self.change.identical


def features(study: Study, task: str) -> list[Features]:
    """Every method of a task by every probed task, in the order of the groups.

    The changes in one probed task are one family (Holm).
    """
    groups = [group for group in study.groups if group.task == task and group.ok]
    names = dict.fromkeys(part for group in groups for run in group.ok for _, part in run.parts)
    found = [one for part in names if part.startswith(PREFIX) for one in _family(study, task, groups, part)]
    return sorted(found, key=lambda one: groups.index(one.group))


def _family(study: Study, task: str, groups: Sequence[Group], part: str) -> list[Features]:
    sides: list[tuple[Group, list[Part], dict[int, Part]]] = []
    for group in groups:
        before, after = (in_common(group.ok, stage, part) for stage in ("before", "after"))
        if seeds := sorted(set(before) & set(after)):
            first = [before[seed] for seed in seeds]
            kept = first[:1] if len({one.answers for one in first}) == 1 else first
            sides.append((group, kept, {seed: after[seed] for seed in seeds}))
    if not sides:
        return []
    found = [examples_of(before[0]) for _, before, _ in sides]
    most = max(found, key=found.count)
    sides = [(g, b, a) for g, b, a in sides if {examples_of(one) for one in (*b, *a.values())} == {most}]
    pairs = []
    for group, before, after in sides:
        seeds = tuple(after)
        tables = [table_of(some, METRIC) for some in (list(after.values()), before)]
        drawn = len(before) > 1
        pairs.append(
            (
                Side(f"{group.name} after", seeds, tables[0], group.draws),
                Side(f"{group.name} before", seeds if drawn else (), tables[1], drawn),
            )
        )
    margin = margin_in_share(study, task)
    rng = np.random.default_rng(seed_of(study.plan_hash, task, part))
    changes = compared(pairs, margin=margin, rng=rng, clusters=sides[0][1][0].clusters)
    # One example, or one source of them, has no spread to learn from: then nothing is compared.
    return changes and [
        Features(
            group,
            part,
            group_interval(before, METRIC),
            group_interval(list(after.values()), METRIC),
            change,
            margin,
            len(before[0].ids),
        )
        for (group, before, after), change in zip(sides, changes, strict=True)
    ]


_WORDS = {"better": "tell more than before", "worse": "tell less than before", "same": "the same"}


def verdict(one: Features) -> str:
    """What became of the features, in a few words."""
    return "exactly the same" if one.unchanged else _WORDS.get(one.change.pair.comparison.verdict, "undecided")


def sentence(one: Features) -> str:
    """What a method did to what its features tell of a task, in one sentence."""
    said, name = one.change.pair.comparison, one.part.removeprefix(PREFIX)
    runs = say.plural(one.change.n_seeds, "seed") if one.group.draws else "1 run"
    of = f"{say.plural(one.n, 'example')}, {runs}"
    if one.unchanged:
        return f"{one.group.name}: a probe for {name} answers exactly as before ({of})"
    size = f"{say.difference(METRIC, abs(said.difference), signed=False)} points ({spanned(said)}, {of})"
    if said.verdict == "same":
        within = say.margin(METRIC, one.margin)
        return f"{one.group.name}: a probe for {name} is as good as before within {within}: it moved by {size}"
    if said.verdict == "undecided":
        words = f"undecided whether a probe for {name} is better or worse than before: by {size}"
        return f"{one.group.name}: {words}{alone(said)}"
    return f"{one.group.name}: a probe for {name} is {said.verdict} than before by {size}"


def table(found: Sequence[Features]) -> Table:
    """Every method by every probed task, before and after."""
    numbers = ("before", "after", "change, points", "p (Holm)", "examples", "runs")
    header = [Cell("method"), Cell("probed task"), Cell("its features")]
    header += [Cell(name, "accuracy, %" if name in ("before", "after") else "", number=True) for name in numbers]
    body = []
    for one in found:
        said = one.change.pair.comparison
        levels = [
            Cell(say.level(METRIC, level.value), say.span(METRIC, level.low, level.high), number=True)
            for level in (one.before, one.after)
        ]
        change = Cell(
            say.difference(METRIC, said.difference),
            f"{say.difference(METRIC, said.low)} to {say.difference(METRIC, said.high)}",
            number=True,
            strong=True,
        )
        body.append(
            (
                Cell(one.group.name, strong=True),
                Cell(one.part.removeprefix(PREFIX)),
                Cell(verdict(one)),
                *levels,
                Cell("0", number=True) if one.unchanged else change,
                Cell(say.p_value(one.change.pair.p_holm), number=True),
                Cell(say.count(one.n), number=True),
                Cell(str(one.change.n_seeds), number=True),
            )
        )
    task = found[0].group.task
    return Table(f"What a probe reads off the features before and after, {task}", tuple(header), tuple(body))


def rows(found: Sequence[Features]) -> list[dict[str, Any]]:
    """The changes as report.json holds them, beside those of general text."""
    return [
        {**who(one.group), "part": one.part, "metric": METRIC, "before": one.before.value, "after": one.after.value}
        | {"margin": one.margin or None}
        | one.change.pair.comparison._asdict()
        | {"p_holm": one.change.pair.p_holm, "n": one.n, "seeds": one.change.n_seeds, "sentence": sentence(one)}
        for one in found
    ]
