"""Label by label: F1, precision and recall, confusions; and which examples every method got wrong."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib.core import format
from ftlib.metrics import units
from ftlib.records.study import Study
from ftlib.report.blocks import (
    Block,
    Cell,
    Example,
    Examples,
    Figures,
    Fold,
    Heading,
    Note,
    OfTask,
    Section,
    Table,
    by_task,
    first_rows,
    plain_table,
)
from ftlib.report.metric_rows import value_of
from ftlib.report.sections.comparison import MethodScores, TaskComparison, confusion_figure
from ftlib.stats.intervals import Interval, ratio_interval

if TYPE_CHECKING:
    from ftlib.report.build import Reading

MOST_METHODS, MOST_LABEL_ROWS = 8, 24
"""Of the table of labels; the rest is folded."""
MOST_CONFUSIONS = 4
MOST_HARD, MOST_SAID, MOST_LETTERS = 20, 12, 300
"""Examples that are shown, answers to each, and letters of its text."""


class Hard(NamedTuple):
    """An example that every method got wrong."""

    id: str
    text: str
    """Empty where the study does not hold the texts."""
    label: str
    said: tuple[tuple[str, str], ...]
    """(method, what it said), the label most of its runs gave."""
    agreed: float
    """Share of the methods that gave the commonest wrong label."""
    nats: float
    """How unlikely the runs held the true label to be, on average; 0 where they gave no probabilities."""


def per_label(comparison: TaskComparison) -> Table:
    """F1 of each label, the ones that the best method finds hardest first."""
    shown, words = comparison.methods[:MOST_METHODS], words_of(comparison)
    first = next(iter(shown[0].parts.values()))
    counts = np.bincount(first.truth, minlength=len(first.labels))
    rows = []
    for code, label in enumerate(first.labels):
        values = [float(np.mean([value_of(part, f"f1.{label}") for part in one.parts.values()])) for one in shown]
        rows.append((label, int(counts[code]), values))
    rows.sort(key=lambda row: (np.nan_to_num(row[2][0], nan=2.0), row[0]))
    body = [
        (Cell(words(label)), format.count(n), *(units.level(f"f1.{label}", value) for value in values))
        for label, n, values in rows
    ]
    return plain_table("F1 of each label, %", ("label", "examples", *(one.title for one in shown)), body)


def rates(comparison: TaskComparison, one: MethodScores) -> Table:
    """Precision and recall of each label, with intervals, the worst recall first."""
    parts, words = list(one.parts.values()), words_of(comparison)
    truth, chosen = parts[0].truth, np.stack([part.chosen for part in parts])
    rows = []
    for code, label in enumerate(parts[0].labels):
        hits = (chosen == code) & (truth == code)
        recall, n = _rate(hits, (truth == code)[None], parts[0].clusters)
        precision, given = _rate(hits, chosen == code, parts[0].clusters)
        said = [Cell(words(label)), format.count(n), *_rate_cells(recall), format.count(given), *_rate_cells(precision)]
        rows.append((np.nan_to_num(recall.value, nan=2.0), label, said))
    header = ("label", "examples", ("recall, %", "found"), ("given", "mean of the seeds"), ("precision, %", "right"))
    return plain_table(
        f"Precision and recall of {one.title}", header, [said for _, _, said in sorted(rows, key=lambda r: r[:2])]
    )


def _rate(hits: np.ndarray, of: np.ndarray, clusters: Any) -> tuple[Interval, float]:
    """Share of hits with its interval, NaN where too few count; and how many count, in the mean of the seeds."""
    sums = of.sum(axis=1)
    found = Interval(np.nan, np.nan, np.nan)
    if sums.min() > 1:
        found = ratio_interval(hits.astype(float), of.astype(float), bounds=(0.0, 1.0), clusters=clusters)
    return found, float(sums.mean())


def _rate_cells(found: Interval) -> Iterator[tuple[str, str]]:
    if np.isnan(found.value):
        yield "not available", "fewer than two to divide by"
    else:
        yield f"{100 * found.value:.1f}", f"{100 * found.low:.1f} to {100 * found.high:.1f}"


def judges(comparison: TaskComparison) -> list[MethodScores]:
    """The methods whose errors are counted: those that look at the text, so not the majority class."""
    return [one for one in comparison.methods if one.group is None or not one.group.constant]


def hard_examples(study: Study, comparison: TaskComparison) -> list[Hard]:
    """Examples that every run of every method got wrong, first those on whose wrong label most methods agree,
    and of those the ones whose true label they held least likely.
    """
    able = judges(comparison)
    if len(able) < 2 or not comparison.has_labels:
        return []
    first = next(iter(able[0].parts.values()))
    parts = [part for one in able for part in one.parts.values()]
    wrong = np.all([part.chosen != part.truth for part in parts], axis=0)
    texts = texts_of(study, comparison)
    found = []
    for row in np.flatnonzero(wrong):
        said = []
        for one in able:
            votes = Counter(part.labels[part.chosen[row]] for part in one.parts.values())
            said.append((one.short, min(votes, key=lambda label: (-votes[label], label))))
        agreed = max(Counter(label for _, label in said).values()) / len(said)
        example = str(first.ids[row])
        nats = float(np.mean([part.numbers["nats"][row] if "nats" in part.numbers else 0.0 for part in parts]))
        label = first.labels[first.truth[row]]
        found.append(Hard(example, texts.get(example, ""), label, tuple(said), agreed, nats))
    return sorted(found, key=lambda hard: (-hard.agreed, -hard.nats, hard.id))


def words_of(comparison: TaskComparison) -> Callable[[str], str]:
    """What to call a label: its name, with its words where the spec gives them."""
    group = next((one.group for one in comparison.methods if one.group), None)
    words = group.runs[0].resolved.get("label_words") or {} if group else {}
    return lambda label: f"{label} ({words[label]})" if words.get(label, label) != label else label


def texts_of(study: Study, comparison: TaskComparison) -> dict[str, str]:
    """The test texts of a comparison by their ids; none where the study does not hold them."""
    group = next((one.group for one in comparison.methods if one.group), None)
    data = group.ok[0].record.provenance.get("data_sha256") if group else None
    examples = study.texts.get(data)
    return dict(examples.texts) if examples else {}


class Errors(NamedTuple):
    """One task's errors."""

    comparison: TaskComparison
    chosen: MethodScores
    """Whose confusions come first."""
    hard: tuple[Hard, ...]
    most_confusions: int


def _read(reading: "Reading") -> list[OfTask]:
    def read(comparison: TaskComparison) -> Errors | None:
        if not comparison.has_labels:
            return None
        chosen = comparison.find(reading.advice_on(comparison).chosen)
        most = 1 if comparison.shots else MOST_CONFUSIONS
        return Errors(comparison, chosen, tuple(hard_examples(reading.study, comparison)), most)

    return reading.of_tasks(read)


def _rows(items: list[OfTask]) -> list[dict[str, Any]]:
    return [
        {"task": one.found.comparison.task, "id": hard.id, "label": hard.label, "text": hard.text}
        | {"method": method, "said": said}
        for one in items
        for hard in one.found.hard
        for method, said in hard.said
    ]


def _blocks(found: Errors) -> Iterator[Block]:
    comparison, chosen = found.comparison, found.chosen
    yield Heading("F1 of each label", 4)
    yield Note(f"In per cent, mean over seeds; the labels that {comparison.methods[0].title} finds hardest come first.")
    yield from first_rows(per_label(comparison), MOST_LABEL_ROWS, "label")
    yield Heading("Confusion", 4)
    yield Note("Per cent of each true label, all seeds together; a strong diagonal is good.")
    others = [one for one in comparison.methods if one is not chosen and (one.untouched or not one.baseline)]
    shown = [chosen, *sorted(others, key=lambda one: not one.untouched)]
    few = len(next(iter(chosen.parts.values())).labels) <= 12
    most = found.most_confusions if few else 1
    yield Figures(tuple(confusion_figure(one, words_of(comparison)) for one in shown[:most]))
    yield Heading("Precision and recall of each label", 4)
    yield Note(
        f"{chosen.title}, with 95 % intervals. Recall: of the examples of a label, how many are found. Precision: of "
        "the answers that give it, how many are right."
    )
    yield from first_rows(rates(comparison, chosen), MOST_LABEL_ROWS, "label")
    if others := shown[1:MOST_CONFUSIONS]:
        tables = [block for one in others for block in (Note(one.title, quiet=False), rates(comparison, one))]
        yield Fold(f"The same of {format.listed([one.title for one in others])}", tuple(tables))


def hard_blocks(found: Errors) -> Iterator[Block]:
    """What every run of every method got wrong."""
    able = [one.title for one in judges(found.comparison)]
    if len(able) < 2:
        yield Note("Fewer than two methods that look at the text, so there is nothing that all of them got wrong.")
        return
    if not found.hard:
        yield Note("None: every test example was got right at least once.")
        return
    n = len(found.hard)
    first = f" The first {MOST_HARD} are shown; tables/hard_examples.csv has them all." if n > MOST_HARD else ""
    ids = "" if any(one.text for one in found.hard) else " The study does not hold the texts, so only ids are shown."
    yield Note(
        f"{format.plural(n, 'test example')} that every run of {format.some(able)} got wrong. First those on whose "
        "wrong label most methods agree, ordered by their confidence in it: there the label itself may be in "
        f"doubt.{first}{ids}"
    )
    words = words_of(found.comparison)
    yield Examples(
        tuple(
            Example(
                one.id,
                shortened(one.text),
                (("label", words(one.label)), *((method, words(said)) for method, said in one.said[:MOST_SAID])),
                f"and {len(one.said) - MOST_SAID} more methods, all wrong" if len(one.said) > MOST_SAID else "",
            )
            for one in found.hard[:MOST_HARD]
        )
    )


def shortened(text: str, most: int = MOST_LETTERS) -> str:
    """A text's first letters, on one line.

    >>> shortened("one two three", 8)
    'one two…'
    """
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


SECTION = Section(
    name="errors",
    title="Label by label",
    read=_read,
    columns={"hard_examples": ("task", "id", "label", "text", "method", "said")},
    rows=lambda _: {},
    blocks=lambda items: by_task(items, _blocks),
    csv=lambda items: {"hard_examples": _rows(items)},
)
