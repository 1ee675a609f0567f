"""Audit of a data set before money is spent on it: what is in it, and what would make its scores mean less.

Classification: leaks, conflicts, repeats, balance, lengths. Text to be modelled: signs of a wrong encoding, characters
that are no text, sizes.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ftlib.data.files import normal
from ftlib.data.registry import TASKS, load_task
from ftlib.data.task import SPLITS, Task

FEW_EXAMPLES = 30
"""A label with fewer in a split has a score of its own that says little."""

MANY_WORDS = 90
"""About where 128 tokens of English, the default `max_length`, end."""

SHIFT = 0.1
"""Difference of a label's share between train and test that is worth a word."""

PURE, OFTEN, NEARLY_ALWAYS = 0.99, 0.3, 0.9
"""A word that is found with one label only, and often there, may be a leak; nearly always there, it is one."""

SHORT_BYTES = 50
"""A shorter document is a heading or a remnant."""

LONG_BYTES = 4000
"""About 1,000 tokens of English."""

# A first byte of UTF-8 read as Latin-1 or Windows-1252, and what may follow it there.
_MOJIBAKE = re.compile(
    "[\u00c2\u00c3\u00c5][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u2018-\u2022]"
    "|\u00e2\u20ac|\u00e2\u0080|\u00ef\u00bb\u00bf"
)

_LOST = re.compile("\ufffd")

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Findings:
    """What the audit found; printing it shows all of it in plain text."""

    name: str
    facts: tuple[str, ...]
    """Sizes, labels and lengths."""
    problems: tuple[str, ...]
    """What makes a score on this data mean less than it says; each with what to do."""
    notes: tuple[str, ...]
    """What to keep in mind."""

    def __str__(self) -> str:
        lines = [self.name, *(f"  {fact}" for fact in self.facts)]
        for title, found in (("problems", self.problems), ("notes", self.notes)):
            lines += [f"{title}: none"] if not found else [f"{title}:", *(f"  - {line}" for line in found)]
        # Labels and texts are somebody else's: nothing in them may move the terminal's cursor.
        return "\n".join("".join(mark if mark.isprintable() else " " for mark in line) for line in lines)


def check_data(path: str | Path) -> Findings:
    """Read a data set and audit it.

    Args:
        path: A file or folder, or a task's name: bundled, "file:PATH" or "hub:ID[@revision]".

    Raises:
        FtlibError: It cannot be read as a task; says why.
    """
    name = str(path)
    known = name in TASKS or name.startswith(("file:", "hub:"))
    return audit(load_task(name if known else f"file:{name}"))


def audit(task: Task) -> Findings:
    """Audit a task that has been read."""
    if not task.has_labels:
        return _audit_text(task)
    table = _everything(task)
    leaks, hints = _giveaways(task)
    problems = [*_conflicts(table), *_shared(table), *_shared_clusters(task), *leaks]
    notes = [*_repeats(table), *_balance(task), *_lengths(task), *_labels(task), *hints]
    return Findings(task.name, tuple(_facts(task)), tuple(problems), tuple(notes))


def _facts(task: Task) -> Iterator[str]:
    yield "examples: " + ", ".join(f"{split} {len(task.splits[split])}" for split in SPLITS)
    train = task.splits["train"]["label"].value_counts()
    said = [f"{label} {train[label]} ({train[label] / train.sum():.0%})" for label in task.labels[:10]]
    more = [f"and {len(task.labels) - 10} more"] if len(task.labels) > 10 else []
    yield f"{len(task.labels)} labels in train: " + ", ".join(said + more)
    for split in SPLITS:
        words = task.splits[split]["text"].str.split().str.len()
        middle, most = words.median(), words.quantile(0.95)
        yield f"words in {split}: median {middle:.0f}, 95 % up to {most:.0f}, most {words.max()}"
    yield from _stated(task)


def _stated(task: Task) -> Iterator[str]:
    for name, value in task.stated.items():
        yield f"{name}: {value}"


def _audit_text(task: Task) -> Findings:
    """Audit text to be modelled."""
    table = _everything(task)
    problems = [*_shared(table), *_shared_clusters(task), *broken(table)]
    empty = [line for split in SPLITS for line in _without_letters(split, task.splits[split]["text"])]
    notes = [*_repeats(table), *_few(task), *sizes(table), *empty]
    return Findings(task.name, tuple(_text_facts(task)), tuple(problems), tuple(notes))


def _text_facts(task: Task) -> Iterator[str]:
    yield "documents: " + ", ".join(f"{split} {len(task.splits[split])}" for split in SPLITS)
    for split in SPLITS:
        texts = task.splits[split]["text"]
        each = texts.map(lambda text: len(text.encode()))
        yield f"bytes in {split}: {each.sum()}; a document's median {each.median():.0f}, most {each.max()}"
    yield from _stated(task)


def _few(task: Task) -> Iterator[str]:
    if (count := len(task.splits["test"])) < FEW_EXAMPLES:
        yield f"test has fewer than {FEW_EXAMPLES} documents, {count}: differences between models will be uncertain"


def _without_letters(split: str, texts: pd.Series) -> Iterator[str]:
    if without := [text for text in texts if not re.search(r"\w", text)]:
        yield f"{split} texts without a letter or digit: {len(without)}, e.g. {example(without[0])}"


def _everything(task: Task) -> pd.DataFrame:
    columns = ["id", "text", "label"] if task.labels else ["id", "text"]
    parts = [task.splits[split][columns].assign(split=split) for split in SPLITS]
    table = pd.concat(parts, ignore_index=True)
    return table.assign(key=table["text"].map(normal))


def _conflicts(table: pd.DataFrame) -> Iterator[str]:
    several = table[table.groupby("key")["label"].transform("nunique") > 1]
    if len(several):
        first = several[several["key"] == several["key"].iloc[0]]
        yield (
            f"texts with more than one label: {several['key'].nunique()} ({len(several)} rows), e.g. "
            f"{example(first['text'].iloc[0])}: {', '.join(sorted(set(first['label'])))}; correct or drop them"
        )


def _shared(table: pd.DataFrame) -> Iterator[str]:
    for left, right in (("train", "test"), ("validation", "test"), ("train", "validation")):
        keys = set(table["key"][table["split"] == left])
        there = table[table["split"] == right]
        both = there[there["key"].isin(keys)]
        if len(both):
            yield (
                f"{right} texts that are also in {left}: {len(both)} of {len(there)} ({len(both) / len(there):.1%}), "
                f"e.g. {example(both['text'].iloc[0])} (id {both['id'].iloc[0]}); "
                f"drop them from {left}, or scores flatter"
            )


def _shared_clusters(task: Task) -> Iterator[str]:
    if all("cluster" in task.splits[split] for split in SPLITS):
        train, test = (set(task.splits[split]["cluster"]) for split in ("train", "test"))
        if both := train & test:
            yield f"clusters in train and in test: {len(both)}, e.g. {example(min(both))}; keep each in one split"


def _giveaways(task: Task) -> tuple[list[str], list[str]]:
    """Single words that all but name the label: surely leaks, and perhaps."""
    train = task.splits["train"]
    sizes = train["label"].value_counts()
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for text, label in zip(train["text"], train["label"], strict=True):
        for word in set(normal(text).split()):
            found[word][label] += 1
    leaks, hints = [], []
    for word, labels in sorted(found.items()):
        label, count = labels.most_common(1)[0]
        if count >= max(5, OFTEN * sizes[label]) and count >= PURE * labels.total():
            said = f"{word!r} (in {count / sizes[label]:.0%} of {label!r})"
            (leaks if count >= NEARLY_ALWAYS * sizes[label] else hints).append(said)
    words = "words found with one label only: "
    return (
        [f"{words}{_some(leaks)}; remove them if they would not be there in use"] if leaks else [],
        [f"{words}{_some(hints)}; are they there in use?"] if hints else [],
    )


def _repeats(table: pd.DataFrame) -> Iterator[str]:
    for split in SPLITS:
        keys = table["key"][table["split"] == split]
        if extra := int(keys.duplicated().sum()):
            yield f"{split} texts that repeat another one there, case and punctuation aside: {extra} of {len(keys)}"


def _balance(task: Task) -> Iterator[str]:
    shares = {split: task.splits[split]["label"].value_counts(normalize=True) for split in SPLITS}
    top = shares["test"].idxmax()
    if shares["test"][top] * len(task.labels) > 2 or shares["test"][top] > 0.7:
        yield f"always saying {top!r} is right on {shares['test'][top]:.0%} of test; judge by f1_macro beside accuracy"
    for split in ("train", "test"):
        counts = task.splits[split]["label"].value_counts()
        few = [f"{label} {counts.get(label, 0)}" for label in task.labels if counts.get(label, 0) < FEW_EXAMPLES]
        if few:
            yield f"{split} has fewer than {FEW_EXAMPLES} examples of {_some(few)}: scores per label say little there"
    moved = [
        f"{label} {shares['train'].get(label, 0):.0%} to {shares['test'].get(label, 0):.0%}"
        for label in task.labels
        if abs(shares["train"].get(label, 0) - shares["test"].get(label, 0)) > SHIFT
    ]
    if moved:
        yield f"labels are distributed differently in train and test: {_some(moved)}"


def _lengths(task: Task) -> Iterator[str]:
    for split in ("train", "test"):
        texts = task.splits[split]["text"]
        words = texts.str.split().str.len()
        if long := int((words > MANY_WORDS).sum()):
            yield f"{split} texts of over {MANY_WORDS} words: {long} of {len(texts)}; max_length = 128 tokens cuts them"
        yield from _without_letters(split, texts)
        if lost := int(texts.str.contains("\ufffd", regex=False).sum()):
            yield f"{split} texts with U+FFFD, a character lost when the file was written: {lost}"


def _labels(task: Task) -> Iterator[str]:
    alike = defaultdict(list)
    for label in task.labels:
        alike[normal(label) or label].append(label)
    for labels in alike.values():
        if len(labels) > 1:
            yield f"labels that differ in case, punctuation or space only: {', '.join(map(repr, labels))}"
    if not task.label_words:
        yield 'the labels have no words; zero-shot and prompts need label_words = {"0" = "...", ...}'


def _some(items: Iterable[str], most: int = 5) -> str:
    items = list(items)
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def broken(table: pd.DataFrame) -> Iterator[str]:
    """Signs that documents are not what their author wrote, a sentence each.

    Args:
        table: A row per document, with `id`, `text` and `split`.

    >>> table = pd.DataFrame({"id": ["a", "b"], "text": ["Un cafÃ©.", "Un café."], "split": "train"})
    >>> print(*broken(table))
    documents of UTF-8 read as another encoding: 1 of 2, e.g. "Un cafÃ©." (train, id a); write them anew
    """
    rewrite = "write them anew"
    for pattern, said, do in (
        (_MOJIBAKE, "of UTF-8 read as another encoding", rewrite),
        (_LOST, "with U+FFFD, a character lost when the file was written", rewrite),
        (_CONTROL, "with control characters", "remove those"),
    ):
        found = table[table["text"].str.contains(pattern)]
        if len(found):
            text, split, name = found[["text", "split", "id"]].iloc[0]
            place = pattern.search(text).start()  # type: ignore[union-attr]
            around = example(text[max(0, place - 20) : place + 20])
            yield f"documents {said}: {len(found)} of {len(table)}, e.g. {around} ({split}, id {name}); {do}"


def sizes(table: pd.DataFrame) -> Iterator[str]:
    """Documents too short to say much, or so long that they are read in pieces, a sentence for each split."""
    for split, texts in table.groupby("split", sort=False)["text"]:
        n_bytes = texts.map(lambda text: len(text.encode()))
        if short := int((n_bytes < SHORT_BYTES).sum()):
            first = example(texts[n_bytes < SHORT_BYTES].iloc[0])
            yield f"{split} documents of under {SHORT_BYTES} bytes: {short} of {len(texts)}, e.g. {first}"
        if long := int((n_bytes > LONG_BYTES).sum()):
            yield f"{split} documents of over {LONG_BYTES} bytes: {long} of {len(texts)}; models read them in pieces"


def example(text: str) -> str:
    """A text in quotes on one line, cut where it is long.

    >>> example("Two  words,   and more"), len(example("word " * 99))
    ('"Two words, and more"', 62)
    """
    shown = " ".join(text.split())
    return f'"{shown}"' if len(shown) <= 60 else f'"{shown[:57]}..."'
