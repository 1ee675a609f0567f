"""Bias before and after: what became of every measure of bias, and whether that is more than noise.

What counts is the size of a bias, its distance from none: of a gap from 0, of a share of stereotypes from one half.
That sizes differ is claimed only where both "equal" and "equal, the other way round" are refuted, so a gap that turns
round has not grown. Largest gaps of several terms were picked by looking: the one that is to be larger is tested
against every term of the other stage, and the level divided by how many there were to pick from. Intervals come
from the two-way table of seeds and texts (`ftlib.stats.paired`), and measures text by text from the predictions of the
evaluations (`ftlib.evaluation.bias_probes`).
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftlib.core import format
from ftlib.data.evaluations import is_bias
from ftlib.metrics import units
from ftlib.metrics.bias import looked_at, preferred
from ftlib.metrics.fairness import looked_at as gap_labels
from ftlib.metrics.fairness import taking_part, unnamed
from ftlib.records.predictions import read_columns
from ftlib.records.study import Group, Run, Study
from ftlib.report.blocks import Block, Cell, Column, Fold, Heading, Note, Section, Sentences, table
from ftlib.report.metric_rows import numbers, who
from ftlib.report.pairing import TESTED, in_most
from ftlib.report.sections.fairness import (
    ALPHA,
    GAPS,
    METHOD,
    P_VALUE,
    RATE,
    Answers,
    GroupFairness,
    answers_of,
    corrected,
    share_cell,
    size,
    span,
)
from ftlib.stats.intervals import Interval, interval
from ftlib.stats.paired import Difference, difference
from ftlib.stats.variance import Array

if TYPE_CHECKING:
    from ftlib.report.build import Reading

MARGIN = 0.01
"""A change of a rate or a probability that is smaller than this, 1 point, matters to nobody."""

NEUTRAL = {"signed_gap": 0.0, "template_gap": 0.0, "stereotype_share": 0.5}
"""Where a measure that has two directions shows no bias; the others are sizes as they are."""

MOST_OPEN = 40
"""Lines of a table that is shown unfolded."""

_COLUMNS = ("id", "cluster", "nats", "group_names", "group_kind", "group_term", "score_")

_SIGNED = ("signed_gap", "template_gap")

Key = tuple[str, str, str]
"""Part, metric, and what about: the sides of a swap, the kind of the terms, the column of the groups."""


class Scores(NamedTuple):
    """A measure at one stage of one run."""

    values: Array | None
    """(n_terms, n_texts) whose means are the measure; one row where there is nothing to pick from. None: undefined."""
    ids: tuple[str, ...] = ()
    terms: tuple[str, ...] = ("",)
    clusters: tuple[str, ...] | None = None
    protocol: str = ""
    caution: str = ""
    """What is known against the measure."""
    reason: str = ""

    @property
    def same(self) -> tuple[Any, ...]:
        """Equal for two exactly where they can be paired."""
        return self.ids, self.terms, self.protocol


Told = Iterator[tuple[tuple[str, str], Scores]]
"""Metric and what about, with its scores."""


def scores_of(run: Run) -> dict[Key, dict[str, Scores]]:
    """Every measure of a run at both stages."""
    found: dict[Key, dict[str, Scores]] = {}
    kept = {stage: run.record.metrics.get(stage, {}) for stage in ("before", "after")}
    wanted = {part for parts in kept.values() for part in parts if is_bias(part)}
    tables = read_columns(run.folder / "predictions.parquet", wanted, _COLUMNS)
    for stage, parts in kept.items():
        for part, leaves in parts.items():
            if not is_bias(part):
                continue
            read = _pairs if part.startswith("pairs:") else _templates if part == "templates" else _swaps
            told = dict(read(leaves, tables[stage, part])) if (stage, part) in tables else {}
            untold = {(name, leaf.get("sides", "")): leaf for name, leaf in leaves.items() if "value" in leaf}
            told |= {about: Scores(None, reason=leaf["reason"]) for about, leaf in untold.items() if leaf.get("reason")}
            for (metric, about), scores in told.items():
                found.setdefault((part, metric, about), {})[stage] = scores
    return found


def _probabilities(rows: Mapping[str, NDArray]) -> Array:
    """(n_rows, n_labels)."""
    return np.stack([column for name, column in rows.items() if name.startswith("score_")], axis=1)


def _sources(rows: Mapping[str, NDArray], some: Sequence[int]) -> tuple[str, ...] | None:
    """Clusters of some rows; None where every one is its own."""
    found = tuple(rows["cluster"][list(some)].tolist()) if "cluster" in rows else ()
    return found if len(set(found)) < len(found) else None


def _swaps(leaves: Mapping[str, Any], rows: Mapping[str, NDArray]) -> Told:
    place = {name: number for number, name in enumerate(rows["id"].tolist())}
    ids = sorted(name for name in place if f"{name}/swapped" in place)
    written = [place[name] for name in ids]
    both = _probabilities(rows)[[written, [place[f"{name}/swapped"] for name in ids]]]
    versions, sides = looked_at(both), leaves["signed_gap"]["sides"]
    clusters = _sources(rows, written)
    flips = (both[0].argmax(axis=1) != both[1].argmax(axis=1)).astype(float)
    for name, values in (("flip_rate", flips), ("mean_change", np.abs(versions[1] - versions[0]))):
        yield (name, ""), Scores(values[None], tuple(ids), clusters=clusters)
    second, first = sides.split(" minus ")
    named = rows["group_names"][written]
    one = np.flatnonzero(np.isin(named, [first, second]))
    gap = np.where(named == second, versions[0] - versions[1], versions[1] - versions[0])[one]
    own = _sources(rows, [written[place] for place in one])
    yield ("signed_gap", sides), Scores(gap[None], tuple(ids[place] for place in one), clusters=own)


def _templates(leaves: Mapping[str, Any], rows: Mapping[str, NDArray]) -> Told:
    kinds, names, frames = rows["group_kind"].tolist(), rows["group_term"].tolist(), rows["cluster"].tolist()
    place = {key: number for number, key in enumerate(zip(frames, kinds, names, strict=True))}
    ids, terms = sorted(set(frames)), list(dict.fromkeys(zip(kinds, names, strict=True)))
    versions = _probabilities(rows)[[[place[frame, *term] for frame in ids] for term in terms]]
    scores = looked_at(versions)
    for kind in dict.fromkeys(kinds):
        own = scores[[number for number, term in enumerate(terms) if term[0] == kind]]
        others = (own.sum(axis=0) - own) / (len(own) - 1)
        yield (
            ("template_gap", kind),
            Scores(own - others, tuple(ids), tuple(name for other, name in terms if other == kind)),
        )


def _pairs(leaves: Mapping[str, Any], rows: Mapping[str, NDArray]) -> Told:
    place = {name: number for number, name in enumerate(rows["id"].tolist())}
    ids = sorted(name.removesuffix("/more") for name in place if name.endswith("/more"))
    more, less = ([place[f"{name}/{side}"] for name in ids] for side in ("more", "less"))
    wins = preferred(-rows["nats"][more], -rows["nats"][less])[0].astype(float)
    said = leaves["stereotype_share"]
    of = {"protocol": said.get("protocol", ""), "caution": said.get("caution", "")}
    yield ("stereotype_share", ""), Scores(wins[None], tuple(ids), clusters=_sources(rows, more), **of)


class BiasChange(NamedTuple):
    """A measure of one method."""

    method: Group
    part: str
    metric: str
    about: str
    before: Interval | None
    """None: not available, `reason` says why."""
    after: Interval | None
    change: Interval | None = None
    """Of the size, after - before."""
    p_value: float = 1.0
    """Of "the size is what it was", corrected for the terms, groups and labels picked from."""
    p_holm: float = 1.0
    """Corrected for the table, too."""
    p_same: float = 1.0
    """Of "it changed by the margin or more"."""
    identical: bool = False
    """Whether nothing moved at all."""
    verdict: str = ""
    """smaller, larger, same, undecided; empty where there is no change to speak of."""
    at: tuple[str, str] = ("", "")
    """What has the largest gap before and after."""
    n: int = 0
    seeds: int = 0
    protocol: str = ""
    caution: str = ""
    reason: str = ""


def bias_changes(study: Study, groups: Sequence[GroupFairness]) -> dict[str, list[BiasChange]]:
    """Task -> a line for each measure of bias and method; the lines of a task are one family (Holm).

    Args:
        study: With records that hold evaluations of bias, or groups.
        groups: Of whose changes the gaps of equal opportunity are taken.
    """
    found: dict[str, list[BiasChange]] = {}
    for group in study.groups:
        runs = [scores_of(run) for run in group.ok]
        for key in dict.fromkeys(key for run in runs for key in run):
            found.setdefault(group.task, []).append(_line(group, key, [run.get(key, {}) for run in runs]))
    for one in groups:
        found.setdefault(one.task, []).extend(_opportunity(one))
    return {task: _decided(lines) for task, lines in found.items()}


def _decided(lines: list[BiasChange]) -> list[BiasChange]:
    """With corrected p-values and verdicts, one measure after the other."""
    order = list(dict.fromkeys((one.part, one.metric, one.about) for one in lines))
    found = [
        one._replace(verdict="same") if one.change is not None and (one.identical or one.p_same <= ALPHA) else one
        for one in corrected(lines)
    ]
    return sorted(found, key=lambda one: order.index((one.part, one.metric, one.about)))


def _line(group: Group, key: Key, runs: Sequence[Mapping[str, Scores]]) -> BiasChange:
    """One measure of a method's runs, which are (stage -> scores) each."""
    after = _alike(runs, "after")
    whole = [one for one in runs if any(one.get("after") is side for side in after)]
    before = _alike(runs, "before")
    if len(before) > 1 and all((one.values == before[0].values).all() for one in before):
        before = before[:1]
    elif after and len(before) > 1:
        whole = [one for one in whole if any(one.get("before") is side for side in before)]
        before = [one["before"] for one in whole]
        after = [one["after"] for one in whole] or after
    some = (after or before or [Scores(None)])[0]
    reason = _why_not(runs, before, after)
    # (n_seeds, n_terms, n_texts)
    sides = [np.stack([one.values for one in side]) if side else None for side in (before, after)]
    sources = [side[0].clusters if side else None for side in (before, after)]
    told = [None if side is None else _level(key[1], side, of) for side, of in zip(sides, sources, strict=True)]
    line = BiasChange(
        group,
        *key,
        *told,
        at=tuple(
            "" if side is None else of[0].terms[_largest(key[1], side)]
            for of, side in zip((before, after), sides, strict=True)
        ),
        n=len(some.ids),
        seeds=len(after or before),
        protocol=some.protocol,
        caution=some.caution,
        reason=reason,
    )
    return line if reason else line._replace(**_change(key[1], *sides, some.clusters))


def _alike(runs: Sequence[Mapping[str, Scores]], stage: str) -> list[Scores]:
    """The scores at a stage that are on the same texts, by the same protocol, as most."""
    held = [one[stage] for one in runs if stage in one and one[stage].values is not None]
    return in_most(held, lambda scores: scores.same)


def _why_not(runs: Sequence[Mapping[str, Scores]], before: list[Scores], after: list[Scores]) -> str:
    """Why there is no change to speak of; empty where there is one."""
    for stage, side in (("after", after), ("before", before)):
        if not side:
            reasons = (one[stage].reason for one in runs if stage in one)
            return f"{stage} adapting: {next(filter(None, reasons), 'it was not measured')}"
    if before[0].same != after[0].same:
        return "other texts, or another protocol, were used before than after"
    if len(set(after[0].clusters or after[0].ids)) < 2:
        return "fewer than two texts of different sources have no spread to learn from"
    return ""


def _largest(metric: str, side: Array) -> int:
    """The term that is farthest from no bias, in the mean over seeds and texts."""
    return int(np.abs(side.mean(axis=(0, 2)) - NEUTRAL.get(metric, 0.0)).argmax())


def _level(metric: str, side: Array, clusters: Sequence[str] | None) -> Interval:
    """A stage's value with its interval, of the largest of several terms corrected for how many there were."""
    values, level = side[:, _largest(metric, side)], ALPHA / side.shape[1]
    if values.shape[1] < 2 or (clusters is not None and len(set(clusters)) < 2):
        return Interval(float(values.mean()), math.nan, math.nan)
    if metric in ("signed_gap", "template_gap"):
        found = difference(values, np.zeros_like(values), alpha=level, clusters=clusters, bounds=(0.0, 1.0))
        return Interval(found.value, found.low, found.high)
    return interval(values, alpha=level, clusters=clusters, bounds=(0.0, 1.0))


def _change(metric: str, before: Array, after: Array, clusters: Sequence[str] | None) -> dict[str, Any]:
    """Fields of a line: what became of the size, with an interval that leaves out 0 only where the p-value does."""
    terms, neutral = after.shape[1], NEUTRAL.get(metric)
    level, middle = ALPHA / terms, neutral or 0.0

    def step(a: Array, b: Array, mirrored: bool, margin: float = 0.0) -> Difference:
        b = 2 * middle - b if mirrored else b
        return difference(a, b, margin=margin, alpha=level, clusters=clusters, bounds=(0.0, 1.0))

    if (before == after).all():
        return {"change": Interval(0.0, 0.0, 0.0), "identical": True}
    ends = [side[:, _largest(metric, side)] for side in (before, after)]
    means = [float(end.mean()) - middle for end in ends]
    sign = -1 if means[1] < 0 else 1
    found = step(ends[1], ends[0], means[0] * means[1] < 0)
    value = abs(means[1]) - abs(means[0])
    lead, others = (ends[1], before) if value > 0 else (ends[0], after)
    ways = (False,) if neutral is None else (False, True)
    p_value = max(step(lead, others[:, place], way).p_value for place in range(terms) for way in ways)
    low, high = sorted((sign * found.low, sign * found.high))
    p_value = min(1.0, terms * p_value)
    if p_value > ALPHA:
        low, high = min(low, 0.0), max(high, 0.0)
    # Where no term's gap has changed by the margin, the largest has not.
    p_same = max(step(after[:, place], before[:, place], False, MARGIN).p_same for place in range(terms))
    return {"change": Interval(value, min(low, value), max(high, value)), "p_value": p_value, "p_same": p_same}


def _opportunity(of: GroupFairness) -> Iterator[BiasChange]:
    """Gaps of equal opportunity as the section on groups found them."""
    for one in of.changes:
        if one.metric != "tpr":
            continue
        pairs = (one.pair_before, one.pair)
        yield BiasChange(
            one.method,
            of.part,
            GAPS["tpr"],
            of.column,
            *(None if found is None or math.isnan(found.value) else found for found in (one.before, one.after)),
            change=one.change,
            p_value=one.p_value,
            identical=one.verdict == "unchanged",
            at=tuple(f"{one.label}: {' to '.join(pair)}" if pair else "" for pair in pairs),
            n=one.n,
            seeds=one.seeds,
            reason="" if one.change else one.reason or "before adapting: it was not measured",
        )


def largest_gaps(study: Study, of: GroupFairness) -> list[BiasChange]:
    """Of each method the largest gap of equal opportunity, wherever it is: its size before and after adapting.

    The section on groups follows one label, that of the largest gap after adapting; here sizes are compared, so that a
    method that moves a gap from one label to another has not made it larger.
    """
    lines = []
    for group in study.groups:
        pairs = [(run.parts.get(("before", of.part)), run.parts.get(("after", of.part))) for run in group.ok]
        if group.task == of.task and (one := answers_of(group, pairs, of.column)):
            lines += _largest_gap(one, of)
    return corrected(lines)


def _largest_gap(one: Answers, of: GroupFairness) -> Iterator[BiasChange]:
    truth, cells = one.part.truth, []
    for number in gap_labels(one.part.labels).values():
        sizes = [int(((truth == number) & (one.code == place)).sum()) for place in range(len(one.names))]
        taking = taking_part(one.names, sizes, unnamed())
        cells += [(number, a, b, sizes) for a, b in combinations(taking, 2)]
    if not cells:
        return

    def signed(chosen: NDArray) -> Array:
        """(n_seeds, n_gaps, n_examples): values whose mean is a gap and which spread as it does (`fairness.linear`)."""
        found = np.zeros((len(chosen), len(cells), len(truth)))
        for place, (number, a, b, sizes) in enumerate(cells):
            for sign, group in ((1, a), (-1, b)):
                among = (truth == number) & (one.code == group)
                hits = (chosen[:, among] == number).astype(float)
                rates = hits.mean(axis=1, keepdims=True)
                found[:, place] += sign * rates
                found[:, place, among] += sign * len(truth) / sizes[group] * (hits - rates)
        return found

    metric, clusters, after = "signed_gap", one.part.clusters, signed(one.after)
    before = None if one.before is None else signed(one.before)
    was = None if before is None else size(_level(metric, before, clusters))
    # The largest of several gaps is never below 0.
    was = was and was._replace(low=max(0.0, was.low))
    now = next(change for change in of.changes if change.method is one.method and change.metric == "tpr")
    line = BiasChange(one.method, of.part, GAPS["tpr"], of.column, was, now.after, n=now.n, seeds=len(after))
    yield line if before is None else line._replace(**_change(metric, before, after, clusters))


def lead(lines: Sequence[BiasChange]) -> str:
    """What adapting did to bias, in a sentence or two."""
    asked = [line for line in lines if line.verdict]
    if not asked:
        return "No bias was measured both before and after adapting, so nothing is said of what adapting did."
    still = sum(line.identical for line in asked)
    counts = Counter(line.verdict for line in asked if not line.identical)
    said = (
        f"Of {format.plural(len(asked), 'value')} of bias, one for each measure and method, adapting made "
        f"{counts['larger']} larger and {counts['smaller']} smaller; {counts['same']} are equivalent within "
        f"{units.margin(RATE, MARGIN)}, {still} did not move at all, and {counts['undecided']} are undecided."
    )
    untold = len(lines) - len(asked)
    return said + (f" {untold} could not be followed; the table says why." if untold else "")


def measure(line: BiasChange) -> str:
    """What is measured, in words."""
    kind = line.part.partition(":")[2]
    where = "" if line.part == "test" else f", {line.part.removeprefix('tests.')}"
    return {
        "flip_rate": f"answers that flip when {kind} is swapped",
        "mean_change": f"mean change of probability when {kind} is swapped",
        "signed_gap": f"gap {line.about} when {kind} is swapped",
        "template_gap": f"largest gap in templates by {line.about}" if line.about else "gaps in templates",
        "stereotype_share": f"stereotypes preferred, {kind}",
        GAPS["tpr"]: f"gap of equal opportunity by {line.about}{where}",
    }[line.metric]


def _value(line: BiasChange, found: Interval, at: str) -> str:
    unit = " %" if line.metric in ("flip_rate", "stereotype_share") else " points"
    return f"{units.difference(RATE, found.value, line.metric in _SIGNED)}{unit}{f' ({at})' if at else ''}"


def sentence(line: BiasChange) -> str:
    """What became of one measure of one method, in one sentence."""
    said = f"{line.method.name}: {measure(line)}"
    if not line.verdict:
        return f"{said}: not available: {line.reason}"
    before, after = (_value(line, *one) for one in zip((line.before, line.after), line.at, strict=True))
    said += f": {before} before, {after} after"
    if line.identical:
        return f"{said}: the same, nothing moved"
    signed = line.verdict in ("same", "undecided")
    found = line.change if signed else size(line.change)
    drawn = f"n = {format.count(line.n)}, {format.plural(line.seeds, 'run')}"
    sure = f"{units.difference(RATE, found.value, signed)} points ({span(found, signed)}; {drawn})"
    return said + {
        "same": f": equivalent within {units.margin(RATE, MARGIN)}, by {sure}",
        "undecided": f": undecided whether it became smaller or larger, by {sure}",
    }.get(line.verdict, f": {line.verdict} by {sure}")


def _verdict_cell(line: BiasChange) -> Cell:
    said = "equivalent" if line.verdict == "same" else line.verdict or "not available"
    return Cell(said, strong=said in ("larger", "smaller"))


def _level_cell(line: BiasChange, stage: int) -> Cell:
    found = share_cell(
        (line.before, line.after)[stage], line.reason.rpartition(" adapting: ")[2], signed=line.metric in _SIGNED
    )
    return found._replace(small=", ".join(filter(None, (found.small, line.at[stage]))))


def _change_cell(line: BiasChange) -> Cell:
    return Cell("0", number=True) if line.identical else share_cell(line.change, line.reason, signed=True)


COLUMNS = (
    *(Column(name, "") for name in ("task", "model")),
    METHOD,
    *(Column(name, "") for name in ("settings", "part")),
    Column("metric", "measure", measure, whole=True),
    Column("about", ""),
    Column("before", "before, % or points", lambda line: _level_cell(line, 0), True, True),
    *(Column(name, "") for name in ("before_low", "before_high", "before_at")),
    Column("after", "after, % or points", lambda line: _level_cell(line, 1), True, True),
    *(Column(name, "") for name in ("after_low", "after_high", "after_at")),
    Column("change", "change of its size, points", _change_cell, True, True),
    *(Column(name, "") for name in ("low", "high", "none_at", "p_value")),
    P_VALUE,
    Column("verdict", "adapting made it", _verdict_cell, whole=True),
    Column("n", "n", lambda line: format.count(line.n or None), True, True),
    Column("seeds", "runs", lambda line: str(line.seeds or format.NONE), True, True),
    *(Column(name, "") for name in ("protocol", "caution", "sentence", "reason")),
)
"""Of the CSV table; the page shows those with a title, of the same lines."""


def row(line: BiasChange) -> dict[str, Any]:
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
    return (None,) * 3 if found is None else tuple(numbers(found).values())


_NOTE = (
    "Every measure of bias of every method. The change is that of a bias's size: of a gap its distance from 0, of a "
    "share of preferred stereotypes its distance from 50 %; of what is picked as the largest of several, corrected for "
    "how many there were. Before and after are paired: the same texts, the same seeds; in brackets or below 95 % "
    "intervals for new texts and, from two seeds on, new seeds; “larger” and “smaller” hold for the whole table "
    "(Holm), “equivalent” means shown to lie within 1 point, "
    f"{TESTED}. “Undecided” is not “unbiased”, and a small bias on "
    "these texts shows no lack of it."
)


def _read(reading: "Reading") -> dict[str, list[BiasChange]] | None:
    return bias_changes(reading.study, reading.of("groups") or []) or None


def _blocks(found: Mapping[str, list[BiasChange]]) -> Iterator[Block]:
    yield Note(_NOTE)
    for task, lines in found.items():
        if len(found) > 1:
            yield Heading(task)
        yield Note(lead(lines), quiet=False)
        if moved := tuple(f"{sentence(line)}." for line in lines if line.verdict in ("larger", "smaller")):
            yield Sentences(moved)
        caption = f"Every measure of bias before and after adapting, {task}"
        shown = table(caption, [column for column in COLUMNS if column.title], lines)
        yield Fold(caption, (shown,), unfolded=len(lines) <= MOST_OPEN)
        for protocol in dict.fromkeys(line.protocol for line in lines if line.protocol):
            yield Note(f"Protocol: {protocol}.")
        for caution in dict.fromkeys(line.caution.rstrip(".") for line in lines if line.caution):
            yield Note(f"{caution}.")


SECTION = Section(
    name="bias_summary",
    title="Bias before and after",
    read=_read,
    columns={"bias_summary": tuple(column.name for column in COLUMNS)},
    rows=lambda found: {"bias_summary": [row(line) for lines in found.values() for line in lines]},
    blocks=_blocks,
)
