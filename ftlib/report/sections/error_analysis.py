"""Label by label and example by example: F1 of each label, and the examples that every method got wrong."""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ftlib.records.study import Study
from ftlib.report.metric_rows import value_of
from ftlib.report.sections.comparison import MethodScores, TaskComparison

MOST_METHODS = 8


MOST_HARD = 20


MOST_LETTERS = 300


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


def per_label(contest: TaskComparison) -> tuple[tuple[str, ...], list[tuple[str, int, tuple[float, ...]]]]:
    """F1 of each label, the ones that the best method finds hardest first.

    Returns:
        The methods' names, and per label its name, its number of examples and each method's mean F1.
    """
    shown = contest.contestants[:MOST_METHODS]
    first = next(iter(shown[0].parts.values()))
    counts = np.bincount(first.truth, minlength=len(first.labels))
    rows = []
    for code, label in enumerate(first.labels):
        values = tuple(float(np.mean([value_of(part, f"f1.{label}") for part in one.parts.values()])) for one in shown)
        rows.append((label, int(counts[code]), values))
    rows.sort(key=lambda row: (np.nan_to_num(row[2][0], nan=2.0), row[0]))
    return tuple(one.short for one in shown), rows


def judges(contest: TaskComparison) -> list[MethodScores]:
    """The methods whose errors are counted: those that look at the text, so not the majority class."""
    return [one for one in contest.contestants if one.group is None or not one.group.constant]


def hard_examples(study: Study, contest: TaskComparison) -> list[Hard]:
    """Examples that every run of every method got wrong, first those on whose wrong label most methods agree,
    and of those the ones whose true label they held least likely.
    """
    able = judges(contest)
    if len(able) < 2 or contest.of_text:
        return []
    first = next(iter(able[0].parts.values()))
    parts = [part for one in able for part in one.parts.values()]
    wrong = np.all([part.chosen != part.truth for part in parts], axis=0)
    texts = _texts(study, contest)
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


def words_of(contest: TaskComparison) -> Callable[[str], str]:
    """What to call a label: its name, with its words where the spec gives them."""
    group = next((one.group for one in contest.contestants if one.group), None)
    words = group.runs[0].resolved.get("label_words") or {} if group else {}
    return lambda label: f"{label} ({words[label]})" if words.get(label, label) != label else label


def _texts(study: Study, contest: TaskComparison) -> dict[str, str]:
    group = next((one.group for one in contest.contestants if one.group), None)
    data = group.ok[0].record.provenance.get("data_sha256") if group else None
    examples = study.examples.get(data)
    return dict(examples.texts) if examples else {}
