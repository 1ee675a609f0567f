"""Examples: where two methods disagree first, every example with every method's answer, and what all got wrong."""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib.core import format
from ftlib.records.study import Study
from ftlib.report.blocks import Block, Example, Examples, Finder, Heading, Note, OfTask, Section, by_task
from ftlib.report.sections.comparison import MethodScores, TaskComparison
from ftlib.report.sections.error_analysis import Errors, hard_blocks, shortened, texts_of, words_of

if TYPE_CHECKING:
    from ftlib.report.build import Reading

MOST_METHODS = 12
"""Whose answers are shown, the best first."""
MOST_FLIPS = 6
"""Examples that one of two methods gets right and the other does not, each way; with the script all are found."""
MOST_BYTES = 1_800_000
"""Of all examples on the page; texts are cut until they fit."""
LETTERS = (60, 280)
"""Of a text: the fewest and the most."""


class Answers(NamedTuple):
    """What some methods answered to each example of one task."""

    comparison: TaskComparison
    names: tuple[str, ...]
    chosen: np.ndarray
    """(n_methods, n_examples) numbers of labels: what most runs of a method gave."""
    sure: np.ndarray
    """(n_methods, n_examples) mean probability of it over the runs that gave it; NaN where there is none."""
    texts: dict[str, str]
    errors: Errors | None

    @property
    def part(self) -> Any:
        """Ids, labels and the truth."""
        return next(iter(self.comparison.methods[0].parts.values()))

    def right(self, place: int) -> np.ndarray:
        """(n_examples,) whether a method's answer is right."""
        return self.chosen[place] == self.part.truth


def answers(study: Study, comparison: TaskComparison, errors: Errors | None) -> Answers | None:
    """The answers of one task's methods; None where there are no labels or fewer than two methods look at the text."""
    able = [one for one in comparison.methods if one.group is None or not one.group.constant][:MOST_METHODS]
    if not comparison.has_labels or len(able) < 2:
        return None
    told = [_voted(one) for one in able]
    names = tuple(one.title for one in able)
    chosen, sure = (np.stack(side) for side in zip(*told, strict=True))
    return Answers(comparison, names, chosen, sure, texts_of(study, comparison), errors)


def _voted(one: MethodScores) -> tuple[np.ndarray, np.ndarray]:
    parts = list(one.parts.values())
    given = np.stack([part.chosen for part in parts])
    votes = np.stack([(given == code).sum(axis=0) for code in range(len(parts[0].labels))])
    chosen = votes.argmax(axis=0)
    sure = np.stack([np.full(len(part.ids), np.nan) if part.sure is None else part.sure for part in parts])
    agree = given == chosen
    return chosen, np.where(agree, sure, 0).sum(axis=0) / agree.sum(axis=0)


def flips(found: Answers, a: int, b: int) -> np.ndarray:
    """Places of the examples that method a gets right and b does not, the ones b was surest of first."""
    places = np.flatnonzero(found.right(a) & ~found.right(b))
    return places[np.argsort(-np.nan_to_num(found.sure[b, places]), kind="stable")]


def _example(found: Answers, place: int, letters: int = LETTERS[1]) -> Example:
    part, words = found.part, words_of(found.comparison)
    name = str(part.ids[place])
    said = [("label", words(part.labels[part.truth[place]]))]
    for row, method in enumerate(found.names):
        sure = found.sure[row, place]
        per_cent = "" if np.isnan(sure) else f" ({100 * sure:.0f} %)"
        said.append((method, f"{words(part.labels[found.chosen[row, place]])}{per_cent}"))
    return Example(name, shortened(found.texts.get(name, ""), letters), tuple(said))


def _finder(found: Answers, most_bytes: int) -> Finder:
    """Every example for the script, those that the two best disagree on first."""
    part = found.part
    order = [*flips(found, 0, 1), *flips(found, 1, 0)]
    order += sorted(set(range(len(part.ids))) - set(order), key=lambda k: (bool(found.right(0)[k]), k))
    each = most_bytes // max(1, len(order)) - 40 - 8 * len(found.names)
    letters = int(np.clip(each, *LETTERS))
    rows, size = [], 0
    for place in order:
        name = str(part.ids[place])
        sure = [None if np.isnan(p) else round(100 * float(p)) for p in found.sure[:, place]]
        row = [name, shortened(found.texts.get(name, ""), letters), int(part.truth[place])]
        row += [found.chosen[:, place].tolist(), sure]
        size += len(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace"))
        if size > most_bytes:
            break
        rows.append(row)
    words = words_of(found.comparison)
    content = {"methods": found.names, "labels": [words(label) for label in part.labels], "rows": rows}
    return Finder(inert_json(content), len(rows), len(order))


def inert_json(content: Any) -> str:
    r"""JSON that ends no element of HTML, whatever its texts say.

    >>> print(inert_json({"a": "</script>"}))
    {"a":"\u003c/script\u003e"}
    """
    said = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for mark in "<>&\u2028\u2029":
        said = said.replace(mark, f"\\u{ord(mark):04x}")
    return said.encode("utf-8", "replace").decode("utf-8")


def _pair_blocks(found: Answers, a: int, b: int) -> Iterator[Block]:
    """What one of the two best gets right and the other does not."""
    places, names = flips(found, a, b), found.names
    yield Heading(f"{names[a]} right, {names[b]} wrong: {format.plural(len(places), 'example')}", 4)
    if len(places):
        yield Examples(tuple(_example(found, place) for place in places[:MOST_FLIPS]))


def _blocks(found: Answers, most_bytes: int) -> Iterator[Block]:
    yield Note(
        "By the answer that most of a method's runs gave; in brackets the mean probability of those runs. First the "
        "two methods with the best means, and of their differences those that the wrong one was surest of."
    )
    yield _finder(found, most_bytes)
    yield from _pair_blocks(found, 0, 1)
    yield from _pair_blocks(found, 1, 0)
    if found.errors is not None:
        yield Heading("What every method got wrong", 4)
        yield from hard_blocks(found.errors)


def _read(reading: "Reading") -> list[OfTask]:
    errors = {id(one.found.comparison): one.found for one in reading.of("errors")}
    return reading.of_tasks(lambda comparison: answers(reading.study, comparison, errors.get(id(comparison))))


def _all_blocks(items: Sequence[OfTask]) -> Iterator[Block]:
    yield from by_task(items, lambda found: _blocks(found, MOST_BYTES // len(items)))


SECTION = Section(
    name="examples",
    title="Examples: where methods disagree, and what all got wrong",
    read=_read,
    columns={},
    rows=lambda _: {},
    blocks=_all_blocks,
)
