"""What models wrote: how a score comes about, what is wrong with the texts, and texts beside each other."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib.core import format
from ftlib.data.kinds import KINDS
from ftlib.metrics import text, units
from ftlib.metrics.registry import metric_row
from ftlib.metrics.text_faults import FAULTS
from ftlib.records.predictions import Part
from ftlib.report.blocks import (
    Block,
    Example,
    Examples,
    Fold,
    Heading,
    Note,
    OfTask,
    Section,
    Table,
    by_task,
    plain_table,
)
from ftlib.report.metric_rows import group_interval
from ftlib.report.sections.comparison import MethodScores, TaskComparison
from ftlib.report.sections.error_analysis import texts_of
from ftlib.stats.intervals import Interval, interval

if TYPE_CHECKING:
    from ftlib.report.build import Reading

CUT = "unfinished"
"""The fault that the run itself has noticed: the text was still being written at its longest."""

BINS = 4
"""Classes of segments by length, of about the same size."""

LEAST = 8
"""Segments of a class of lengths at least."""

MOST_WORST, MOST_BEST, MOST_APART, MOST_SAID, MOST_LETTERS = 10, 4, 6, 8, 400
"""Segments that are shown, methods beside each other, and letters of a text."""

SIGNED = ("chrf", "bleu", "ter")

GENDERS = ("gender_right", "gender_gap", "stereotype_gap")

_SAID = {
    ("gender_right", ""): "right",
    ("gender_right", "women"): "right about women",
    ("gender_right", "men"): "right about men",
    ("gender_right", "expected"): "right where the gender is expected of the occupation",
    ("gender_right", "unexpected"): "right where it is not",
    ("gender_gap", ""): "men minus women, paired",
    ("stereotype_gap", ""): "expected minus not expected, paired",
}
"""A metric, and whom it is about -> how the table has it."""


class Written(NamedTuple):
    """One task's texts."""

    comparison: TaskComparison
    chosen: MethodScores
    """Whose worst and best segments are shown."""
    sources: tuple[str, ...]
    """(n,) in the order of the ids; empty where the study does not hold them."""
    faults: tuple[dict[str, Any], ...]
    """One row per method and fault, as report.json holds them."""
    lengths: tuple[dict[str, Any], ...]
    """One row per method and class of lengths."""
    terms: tuple[dict[str, Any], ...]
    """One row per method and list of terms."""
    genders: tuple[dict[str, Any], ...]
    """One row per method and share or difference of GENDERS."""


def _first(one: MethodScores) -> Part:
    return next(iter(one.parts.values()))


def _read(reading: "Reading") -> list[OfTask]:
    def read(comparison: TaskComparison) -> Written | None:
        if not KINDS[metric_row(comparison.metric).kind].writes:
            return None
        chosen = comparison.find(reading.advice_on(comparison).chosen)
        texts = texts_of(reading.study, comparison)
        ids = [str(one) for one in _first(chosen).ids]
        sources = tuple(texts[one] for one in ids) if all(one in texts for one in ids) else ()
        faults = tuple(row for one in comparison.methods for row in _faults(comparison, one, sources))
        own = [one for one in comparison.methods if one.group]
        terms, genders = (
            tuple(row for one in own for row in _counted(comparison.task, one, some))
            for some in (("term_use",), GENDERS)
        )
        return Written(comparison, chosen, sources, faults, tuple(_by_length(comparison)), terms, genders)

    return reading.of_tasks(read)


def _faults(comparison: TaskComparison, one: MethodScores, sources: Sequence[str]) -> Iterator[dict[str, Any]]:
    """How often each fault is there, over segments and seeds; those that need the sources only where they are."""
    parts = list(one.parts.values())
    flags = {}
    for name, (_, function) in FAULTS.items():
        if sources or name in ("empty", "repeated", "short"):
            known = sources or [""] * len(parts[0].ids)
            flags[name] = np.stack([function(known, *part.texts) for part in parts])
    if all(part.unfinished is not None for part in parts):
        flags[CUT] = np.stack([part.unfinished for part in parts])
    for name, found in flags.items():
        level = Interval(float(found.mean()), np.nan, np.nan)
        if found.shape[1] > 1 and (parts[0].clusters is None or len(set(parts[0].clusters)) > 1):
            level = interval(found.astype(float), bounds=(0, 1), clusters=parts[0].clusters)
        yield {
            "task": comparison.task, "method": one.name, "fault": name, "share": level.value,
            "low": _known(level.low), "high": _known(level.high), "n": found.shape[1], "seeds": len(parts),
        }  # fmt: skip


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _by_length(comparison: TaskComparison) -> Iterator[dict[str, Any]]:
    """The primary metric among segments whose references are of similar length."""
    references = _first(comparison.methods[0]).texts[0]
    sizes = np.array([len(one.split()) for one in references])
    bins = min(BINS, len(sizes) // LEAST)
    if bins < 2:
        return
    edges = np.unique(np.quantile(sizes, np.arange(1, bins) / bins))
    where = np.searchsorted(edges, sizes, side="left")
    if len(np.unique(where)) < 2:
        return
    for code in np.unique(where):
        rows = where == code
        for one in comparison.methods:
            parts = [_only(part, rows) for part in one.parts.values()]
            level = group_interval(parts, comparison.metric)
            yield {
                "task": comparison.task, "method": one.name, "metric": comparison.metric,
                "shortest": int(sizes[rows].min()), "longest": int(sizes[rows].max()),
                "value": _known(level.value), "low": _known(level.low), "high": _known(level.high),
                "n": int(rows.sum()), "seeds": len(parts),
            }  # fmt: skip


def _only(part: Part, rows: np.ndarray) -> Part:
    """Some segments of a part, with what was counted of them."""
    counted = {name: counts[rows] for name, counts in part.counted.items()}
    clusters = None if part.clusters is None else part.clusters[rows]
    texts = tuple(side[rows] for side in part.texts)
    return part._replace(ids=part.ids[rows], texts=texts, clusters=clusters, counted=counted)


def faults_table(found: Written) -> Table:
    """Every fault, a row each, of every method."""
    said = {name: title for name, (title, _) in FAULTS.items()} | {CUT: "still writing at max_new_tokens"}
    shown = found.comparison.methods[:MOST_SAID]
    by = {(row["method"], row["fault"]): row for row in found.faults}
    rows = []
    for name, title in said.items():
        own = [by.get((one.name, name)) for one in shown]
        if any(own):
            cells = (
                ("not known", "") if row is None else _percent(row["share"], row["low"], row["high"]) for row in own
            )
            rows.append((title, *cells))
    n = found.faults[0]["n"]
    header = (
        "% of the segments",
        *((one.title, f"n = {n} x {format.plural(len(one.parts), 'seed')}") for one in shown),
    )
    return plain_table(f"What is wrong with what was written, {found.comparison.where}", header, rows)


def _percent(share: float, low: float | None, high: float | None) -> tuple[str, str]:
    return f"{100 * share:.1f}", "" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"


def lengths_table(found: Written) -> Table:
    """The primary metric by the length of the references, a row per method."""
    classes = list(dict.fromkeys((row["shortest"], row["longest"], row["n"]) for row in found.lengths))
    metric, rows = found.comparison.metric, []
    for one in found.comparison.methods:
        own = [row for row in found.lengths if row["method"] == one.name]
        cells = [(units.level(metric, row["value"]), units.span(metric, row["low"], row["high"])) for row in own]
        rows.append((one.title, *cells))
    header = ("method", *((f"{low} to {high} words", f"n = {n}") for low, high, n in classes))
    return plain_table(f"{units.heading(metric)} by the length of the reference", header, rows)


def marked(reference: str, hypothesis: str) -> str:
    """What was written, with what the reference has not in brackets.

    >>> marked("Die Katze sieht den Hund.", "Die Maus sieht Hund.")
    'Die [Maus] sieht Hund.'
    """
    wanted, given = reference.split(), hypothesis.split()
    said: list[str] = []
    for how, _, _, start, end in difflib.SequenceMatcher(None, wanted, given, autojunk=False).get_opcodes():
        if how != "delete":
            words = " ".join(given[start:end])
            said.append(words if how == "equal" else f"[{words}]")
    return " ".join(said) or "(nothing)"


def _example(found: Written, place: int, alike: Mapping[str, np.ndarray]) -> Example:
    references = _first(found.chosen).texts[0]
    said = [("reference", _shortened(references[place]))]
    for one in found.comparison.methods[:MOST_SAID]:
        hypothesis = _first(one).texts[1][place]
        score = units.level("chrf", alike[one.name][place])
        said.append((f"{one.title} ({score})", _shortened(marked(references[place], hypothesis))))
    rest = len(found.comparison.methods) - MOST_SAID
    source = found.sources[place] if found.sources else ""
    more = f"and {rest} more methods" if rest > 0 else ""
    return Example(str(_first(found.chosen).ids[place]), _shortened(source), tuple(said), more)


def _shortened(said: str) -> str:
    said = " ".join(said.split())
    return said if len(said) <= MOST_LETTERS else said[: MOST_LETTERS - 1].rstrip() + "…"


def _segments(found: Written) -> dict[str, np.ndarray]:
    """Method -> (n,) chrF of each segment of its first seed."""
    return {one.name: text.SUMS["chrf"].value(_first(one).counts("chrf")) for one in found.comparison.methods}


def _blocks(found: Written) -> Iterator[Block]:
    comparison, n = found.comparison, found.comparison.n
    signatures = [f"{units.name(metric)}: {text.signature(metric)}" for metric in SIGNED]
    yield Note(
        f"{format.plural(n, 'segment')}, one reference each. A corpus score is a function of sums over segments, as "
        f"sacrebleu computes it, and no mean of segments' scores. Signatures: {'; '.join(signatures)}."
    )
    yield Heading("What is wrong with the texts", 4)
    yield Note(
        "Shares of the segments with 95 % intervals, all seeds together. Each is a sign, and none is a judgement: a "
        "name may have to be copied, and a short text may be right. The language is judged by the words that stand "
        "among the test's sources and references."
    )
    yield faults_table(found)
    if found.lengths:
        yield Heading("Short and long segments", 4)
        yield lengths_table(found)
    if found.terms:
        yield Heading("Terms", 4)
        yield Note(
            "Of the terms of a list that stand in the test's sources, the share whose translation stands in what was "
            "written. Below: from the lowest to the highest end of the single runs' 95 % intervals."
        )
        yield _counted_table(f"Terms used, {comparison.where}", "list", "terms", found.terms)
    if found.genders:
        yield Heading("Whose gender the German says", 4)
        yield Note(
            "96 English sentences about people with an occupation, whose gender a pronoun tells; counted where a "
            "German noun of the occupation is written, in one gender. A difference of 0 treats both alike; always the "
            "masculine is right about half, and 100 in men minus women. Below: from the lowest to the highest end of "
            "the single runs' 95 % intervals, over occupations."
        )
        yield _counted_table(f"Genders, {comparison.where}", "measured", "sentences or pairs", found.genders)
    yield Heading("Texts beside each other", 4)
    yield Note(
        "In brackets: words that the reference has not at that place. Behind a method's name: chrF of this segment, of "
        f"its first seed.{'' if found.sources else ' The study does not hold the sources, so only ids are shown.'}"
    )
    alike = _segments(found)
    mine = alike[found.chosen.name]
    worst, best = np.argsort(mine, kind="stable"), np.argsort(-mine, kind="stable")
    yield Note(f"Where {found.chosen.title} is least like the reference:", quiet=False)
    yield Examples(tuple(_example(found, int(place), alike) for place in worst[:MOST_WORST]))
    if n >= MOST_WORST + MOST_BEST:
        shown = tuple(_example(found, int(place), alike) for place in best[:MOST_BEST])
        yield Fold(f"where {found.chosen.title} is most like the reference", (Examples(shown),))
    able = [one for one in comparison.methods if not one.baseline]
    if len(able) > 1 and n >= MOST_WORST + MOST_BEST:
        spread = np.ptp([alike[one.name] for one in able], axis=0)
        places = np.argsort(-spread, kind="stable")[:MOST_APART]
        shown = tuple(_example(found, int(place), alike) for place in places)
        yield Fold("where models differ most", (Examples(shown),))


def _counted(task: str, one: MethodScores, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What evaluations counted in texts, before and after; with the single runs' intervals together."""
    runs = [run for run in one.group.ok if run.seed in one.parts]
    for stage in ("before", "after"):
        parts = dict.fromkeys(part for run in runs for part in run.record.metrics.get(stage, {}))
        for part, name in ((part, name) for part in parts for name in names):
            leaves = [run.record.metrics[stage].get(part, {}).get(name) for run in runs]
            if not all(leaves):
                continue
            said, lows, highs = ([leaf[end] for leaf in leaves] for end in ("value", "low", "high"))
            yield {
                "task": task, "method": one.name, "stage": stage, "metric": name, "of": part.partition(":")[2],
                "value": None if None in said else float(np.mean(said)),
                "low": None if None in lows else min(lows), "high": None if None in highs else max(highs),
                "n": min(leaf["n"] for leaf in leaves), "seeds": len(leaves),
                "reason": next((leaf["reason"] for leaf in leaves if leaf.get("reason")), ""),
            }  # fmt: skip


def _counted_table(caption: str, second: str, unit: str, found: Sequence[dict[str, Any]]) -> Table:
    """A row per method and what was counted, before and after."""
    by_key: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = {}
    for row in found:
        by_key.setdefault((row["method"], row["metric"], row["of"]), {})[row["stage"]] = row
    rows = []
    for (method, *what), own in by_key.items():
        some = (own.get(stage) for stage in ("before", "after"))
        cells = (
            ("", row["reason"] if row else "")
            if row is None or row["value"] is None
            else _percent(row["value"], row["low"], row["high"])
            for row in some
        )
        n = own.get("after") or own["before"]
        rows.append((method, _SAID.get(tuple(what), what[1]), *cells, f"{n['n']} x {n['seeds']}"))
    return plain_table(caption, ("method", second, "before, %", "after, %", f"{unit} x seeds"), rows, texts=2)


def _segment_rows(items: Sequence[OfTask]) -> list[dict[str, Any]]:
    rows = []
    for item in items:
        found: Written = item.found
        for one in found.comparison.methods:
            part = _first(one)
            scores = text.SUMS["chrf"].value(part.counts("chrf"))
            for place, name in enumerate(part.ids):
                rows.append(
                    {
                        "task": found.comparison.task, "id": str(name), "method": one.name,
                        "source": found.sources[place] if found.sources else "",
                        "reference": part.texts[0][place], "text_out": part.texts[1][place],
                        "chrf": float(scores[place]),
                    }
                )  # fmt: skip
    return rows


_FAULT_COLUMNS = ("task", "method", "fault", "share", "low", "high", "n", "seeds")

_COUNT_COLUMNS = ("task", "method", "stage", "metric", "of", "value", "low", "high", "n", "seeds", "reason")

_LENGTH_COLUMNS = ("task", "method", "metric", "shortest", "longest", "value", "low", "high", "n", "seeds")


def _rows(items: Sequence[OfTask]) -> dict[str, list[dict[str, Any]]]:
    return {
        "written_faults": [row for item in items for row in item.found.faults],
        "written_lengths": [row for item in items for row in item.found.lengths],
        "written_counts": [row for item in items for row in (*item.found.terms, *item.found.genders)],
    }


SECTION = Section(
    name="written",
    title="What was written",
    read=_read,
    columns={
        "written_faults": _FAULT_COLUMNS,
        "written_lengths": _LENGTH_COLUMNS,
        "written_counts": _COUNT_COLUMNS,
        "segments": ("task", "id", "method", "source", "reference", "text_out", "chrf"),
    },
    rows=_rows,
    blocks=lambda items: by_task(items, _blocks),
    csv=lambda items: _rows(items) | {"segments": _segment_rows(items)},
)
