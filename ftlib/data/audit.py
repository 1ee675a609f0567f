"""Audit of a data set before money is spent on it: what is in it, and what would make its scores mean less.

Classification: leaks, conflicts, repeats, balance, lengths. Text to be modelled: signs of a wrong encoding, characters
that are no text, sizes.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ftlib.core.errors import FtlibError
from ftlib.data.files import normal
from ftlib.data.kinds import KINDS
from ftlib.data.labels import MISSING_WORDS, number, spellings
from ftlib.data.registry import TASKS, load_task
from ftlib.data.task import SPLITS, Task
from ftlib.data.words import MOST_READ, UNSPACED, unknown_share, unspaced

FEW_EXAMPLES = 30
"""A label with fewer in a split has a score of its own that says little."""

MANY_WORDS = 90
"""About where 128 tokens of English, the default `max_length`, end."""

MANY_CHARACTERS = 120
"""About as much in a script without spaces, where most models read a token at every character or two."""

MANY_NUMBERS = 20
"""More labels that are numbers are a score and no classes."""

VERY_FEW = 10
"""Test examples of a label that decide nothing."""

RARE = 0.1
"""Where all labels but the most frequent one have a smaller share together, doing nothing looks good."""

UNKNOWN_NOTE, UNKNOWN_PROBLEM = 0.01, 0.05
"""Shares of unknown tokens that are worth a word, and that hide what a text says."""

COPY, COPY_WORDS, COPY_SHARE = 0.5, 7, 0.05
"""Two texts of so many words at least are near-copies where they share this much of their word pairs (Jaccard); it is
a problem where this share of the test texts has one in train."""

COPY_READ = 150
"""Words of a text that are compared, from its beginning."""

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


class Finding(NamedTuple):
    """One thing that the audit found."""

    level: str
    """"problem": it makes a score mean less than it says; "note": to be kept in mind."""
    code: str
    """What kind of thing, the same in every version."""
    text: str
    """A sentence: what, how much, an example, and what to do."""
    n: int
    """How many examples, words or labels it is about."""

    def __str__(self) -> str:
        return self.text


def problem(code: str, text: str, n: int) -> Finding:
    """A finding that makes a score mean less than it says."""
    return Finding("problem", code, text, int(n))


def note(code: str, text: str, n: int) -> Finding:
    """A finding to be kept in mind."""
    return Finding("note", code, text, int(n))


@dataclass(frozen=True)
class Findings:
    """What the audit found: one Finding after the other; printing it shows all of it in plain text."""

    name: str
    facts: tuple[str, ...]
    """Sizes, labels and lengths."""
    found: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """What makes a score on this data mean less than it says; each with what to do."""
        return tuple(one.text for one in self.found if one.level == "problem")

    @property
    def notes(self) -> tuple[str, ...]:
        """What to keep in mind."""
        return tuple(one.text for one in self.found if one.level == "note")

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def __str__(self) -> str:
        lines = [self.name, *(f"  {fact}" for fact in self.facts)]
        for title, found in (("problems", self.problems), ("notes", self.notes)):
            lines += [f"{title}: none"] if not found else [f"{title}:", *(f"  - {line}" for line in found)]
        # Labels and texts are somebody else's: nothing in them may move the terminal's cursor.
        return "\n".join("".join(mark if mark.isprintable() else " " for mark in line) for line in lines)


def check_data(path: str | Path, **columns: Any) -> Findings:
    """Read a data set and audit it.

    Args:
        path: A file or folder, or a task's name: bundled, "file:PATH" or "hub:ID[@revision]".
        columns: How it is to be read: what `load_task` takes, such as `label_column`.

    Raises:
        FtlibError: It cannot be read as a task; says why.
    """
    if not isinstance(path, str | Path):
        raise FtlibError(f"check_data: found {type(path).__name__}; give a file, a folder or a task's name")
    name = str(path)
    known = name in TASKS or name.startswith(("file:", "hub:"))
    return audit(load_task(name if known else f"file:{name}", **columns))


def audit(task: Task) -> Findings:
    """Audit a task that has been read."""
    if not task.has_labels:
        return _audit_text(task) if KINDS[task.kind].of_text else _audit_pairs(task)
    table = _everything(task)
    script = unspaced(table["text"])
    found = [
        *_conflicts(table),
        *_shared(table),
        *_shared_clusters(task),
        *_near_copies(table, script),
        *_giveaways(task, script),
        *_repeats(table),
        *_balance(task),
        *_lengths(task, script),
        *_labels(task),
        *_groups(task),
    ]
    return Findings(task.name, tuple(_facts(task, script)), _sorted(found))


def _sorted(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Problems first, each level in its order."""
    return tuple(sorted(found, key=lambda one: one.level != "problem"))


def planned_findings(
    task: Task, *, primary: str = "", shots: int = 0, train_limit: int = 0, eval_limit: int = 0,
    found: Findings | None = None,
) -> tuple[Finding, ...]:  # fmt: skip
    """The audit of a task and what it means for runs that are decided by a metric on it.

    Args:
        primary: The metric that the plan decides by.
        shots: Training examples per label; 0: labels are drawn in their proportions.
        train_limit: Training examples in all; 0: no such limit.
        eval_limit: Test examples that are used; 0: all.
        found: The task's audit where it was made before.
    """
    found = audit(task) if found is None else found
    if not task.has_labels:
        return found.found
    counts = task.test_set(eval_limit)["label"].value_counts().reindex(task.labels, fill_value=0)
    more = [*_nothing_wins(task, counts, primary), *_handful(task, counts)]
    if shots:
        more += _even_draws(task, counts)
    elif 0 < train_limit <= len(task.splits["train"]):
        more += _never_learned(task, train_limit)
    return _sorted([*more, *found])


def unknown_tokens(task: Task, model: str, tokenizer: Any) -> list[Finding]:
    """How much of the test texts a model's tokenizer does not know, where it is worth a word.

    Args:
        model: How the model is called in the sentence.
        tokenizer: Of `transformers`, or a `tokenizers.Tokenizer`.
    """
    texts = task.splits["test"]["text"].tolist()[:MOST_READ]
    share = unknown_share(tokenizer, texts)
    if not share > UNKNOWN_NOTE:
        return []
    text = f"{model} does not know {share:.0%} of the tokens of the test texts: it cannot tell those texts by them"
    make = problem if share > UNKNOWN_PROBLEM else note
    return [make("unknown_tokens", text + "; take a model that reads this language", len(texts))]


def _nothing_wins(task: Task, counts: pd.Series, primary: str) -> Iterator[Finding]:
    """A primary metric that always giving one label does well by."""
    top = counts.idxmax()
    share = counts[top] / counts.sum()
    binary = len(task.labels) == 2
    if primary in ("accuracy", "brier") and share > 1 - RARE:
        yield problem(
            "nothing_wins",
            f"accuracy of the most frequent label is {share:.1%}: a primary metric that sees the rare label"
            f"{'' if binary else 's'} ({'f1_binary' if binary else 'f1_macro'}, mcc) is advised",
            counts[top],
        )
    elif primary == "f1_binary" and binary and top == task.labels[1] and share > 1 - RARE:
        yield problem(
            "nothing_wins",
            f"f1_binary is of {top!r}, which is {share:.1%} of the test: always saying it has "
            f"{2 * share / (1 + share):.1%}; a primary metric that sees the rare label (mcc, f1_macro) is advised",
            counts[top],
        )


def _handful(task: Task, counts: pd.Series) -> Iterator[Finding]:
    """Labels of which the test has a handful of examples."""
    if len(none := counts[counts == 0]):
        said = _some(map(repr, none.index))
        text = f"no test example of {said}: nothing is known of it, and metrics over labels may leave it out"
        yield problem("no_test_example", text, len(none))
    few = counts[(counts > 0) & (counts < VERY_FEW)]
    if len(few):
        said = _some(f"{n} test example{'s' * (n != 1)} of {label!r}" for label, n in few.items())
        yield problem("handful", f"{said}: one answer more or less moves what is said of it", len(few))


def _never_learned(task: Task, train_limit: int) -> Iterator[Finding]:
    """Labels of which so few training examples hold none; which, where labels are as frequent, the seed decides."""
    drawn = set(task.draw(train_limit=train_limit, seed=0)["label"])
    if lacking := [label for label in task.labels if label not in drawn]:
        text = (
            f"train_limit = {train_limit} draws no training example of {len(lacking)} of {len(task.labels)} labels "
            f"(with seed 0 {_some(map(repr, lacking), 3)}), which are never learned; shots = 1 draws one of each"
        )
        yield problem("never_learned", text, len(lacking))


def _even_draws(task: Task, counts: pd.Series) -> Iterator[Finding]:
    """As many training examples of each label, for a test that has another mixture."""
    shares = counts / counts.sum()
    if (abs(shares - 1 / len(task.labels)) > SHIFT).any():
        label = shares.idxmin()
        yield problem(
            "even_draws",
            f"shots draw each label equally; the test holds {shares[label]:.1%} {label!r}: probabilities are not those "
            "of use, and Brier scores are off; train_limit draws labels as they occur",
            counts[label],
        )


def _near_copies(table: pd.DataFrame, script: str) -> Iterator[Finding]:
    """Test texts of which a training text is a near-copy, such as texts made from a template."""
    from sklearn.feature_extraction.text import CountVectorizer

    train, test = (table[table["split"] == split].drop_duplicates("key") for split in ("train", "test"))
    # The same text is another finding.
    test = test[~test["key"].isin(set(train["key"]))]
    if script:
        read: dict[str, Any] = {"analyzer": "char", "ngram_range": (3, 3)}
        cut = [[key.replace(" ", "")[: 2 * COPY_READ] for key in part["key"]] for part in (train, test)]
        sizes = [[len(key) for key in part] for part in cut]
    else:
        read = {"ngram_range": (2, 2), "token_pattern": r"\S+"}
        cut = [[" ".join(key.split()[:COPY_READ]) for key in part["key"]] for part in (train, test)]
        sizes = [[key.count(" ") + 1 for key in part] for part in cut]
    kept = [[place for place, size in enumerate(part) if size >= COPY_WORDS] for part in sizes]
    if not kept[0] or not kept[1]:
        return
    vectorizer = CountVectorizer(binary=True, lowercase=False, dtype="int32", **read)
    pairs = vectorizer.fit_transform([cut[0][place] for place in kept[0]])
    other = vectorizer.transform([cut[1][place] for place in kept[1]])
    # Pairs that train does not have count in the size of a test text all the same.
    own = [len({tuple(gram) for gram in _grams(cut[1][place], script)}) for place in kept[1]]
    n_train = pairs.sum(axis=1).A1
    found, nearest = [], (0.0, 0, 0)
    transposed = pairs.T.tocsc()
    for start in range(0, other.shape[0], 256):
        shared = (other[start : start + 256] @ transposed).tocsr()
        for row in range(shared.shape[0]):
            both = shared.data[shared.indptr[row] : shared.indptr[row + 1]]
            if not len(both):
                continue
            columns = shared.indices[shared.indptr[row] : shared.indptr[row + 1]]
            alike = both / (own[start + row] + n_train[columns] - both)
            best = int(alike.argmax())
            if alike[best] >= COPY:
                found.append(start + row)
                nearest = max(nearest, (float(alike[best]), start + row, int(columns[best])))
    if not found:
        return
    total = int((table["split"] == "test").sum())
    copy = test["text"].iloc[kept[1][nearest[1]]]
    original = train["text"].iloc[kept[0][nearest[2]]]
    text = (
        f"test texts that are near-copies of a train text: {len(found)} of {total} ({len(found) / total:.1%}), e.g. "
        f"{example(copy)} and {example(original)}; keep all texts of one source or template in one split (a column "
        "cluster does), or scores flatter"
    )
    yield (problem if len(found) >= COPY_SHARE * total else note)("near_copies", text, len(found))


def _grams(text: str, script: str) -> Iterator[Sequence[str]]:
    """Three characters in a row; pairs of words where words are known."""
    parts: Sequence[str] = text if script else text.split()
    length = 3 if script else 2
    return (tuple(parts[place : place + length]) for place in range(len(parts) - length + 1))


def _facts(task: Task, script: str) -> Iterator[str]:
    yield "examples: " + ", ".join(f"{split} {len(task.splits[split])}" for split in SPLITS)
    train = task.splits["train"]["label"].value_counts()
    said = [f"{label} {train[label]} ({train[label] / train.sum():.0%})" for label in task.labels[:10]]
    more = [f"and {len(task.labels) - 10} more"] if len(task.labels) > 10 else []
    yield f"{len(task.labels)} labels in train: " + ", ".join(said + more)
    if script:
        yield f"script: {script}, which has no spaces between words; lengths are in characters"
    for split in SPLITS:
        texts = task.splits[split]["text"]
        sizes = texts.str.len() if script else texts.str.split().str.len()
        middle, most = sizes.median(), sizes.quantile(0.95)
        unit = "characters" if script else "words"
        yield f"{unit} in {split}: median {middle:.0f}, 95 % up to {most:.0f}, most {sizes.max()}"
    for column in task.group_columns:
        train, test = (task.splits[split][f"group_{column}"].value_counts() for split in ("train", "test"))
        groups = [*train.index, *test.index.difference(train.index)]
        said = [f"{group} {train.get(group, 0)} and {test.get(group, 0)}" for group in groups[:10]]
        more = [f"and {len(groups) - 10} more"] if len(groups) > 10 else []
        yield f"{len(groups)} groups of {column} in train and test: {', '.join(said + more)}"
    yield from _stated(task)


def _stated(task: Task) -> Iterator[str]:
    for name, value in task.stated.items():
        yield f"{name}: {value}"


def _audit_text(task: Task) -> Findings:
    """Audit text to be modelled."""
    table = _everything(task)
    empty = [one for split in SPLITS for one in _without_letters(split, task.splits[split]["text"])]
    found = [
        *_shared(table),
        *_shared_clusters(task),
        *_near_copies(table, unspaced(table["text"])),
        *broken(table),
        *_one_document(task),
        *_repeats(table),
        *_few(task),
        *sizes(table),
        *empty,
    ]
    return Findings(task.name, tuple(_text_facts(task)), _sorted(found))


def _audit_pairs(task: Task) -> Findings:
    """Audit source texts and what is to be written for them."""
    table = _everything(task)
    facts = [f"segments: {', '.join(f'{split} {len(task.splits[split])}' for split in SPLITS)}", *_stated(task)]
    found = [
        *_shared(table),
        *_shared_clusters(task),
        *_near_copies(table, unspaced(table["text"])),
        *broken(table),
        *_swapped(task),
        *_repeats(table),
        *_odd_pairs(task),
    ]
    return Findings(task.name, tuple(facts), _sorted(found))


def _swapped(task: Task) -> Iterator[Finding]:
    """Splits whose sources are in the language of the training references."""
    train = task.splits["train"]
    known = [{word for text in train[side] for word in normal(text).split()} for side in ("text", "label")]
    for split in SPLITS[1:]:
        words = [word for text in task.splits[split]["text"] for word in normal(text).split()]
        of_source, of_target = (sum(word in side for word in words) for side in known)
        if of_target > of_source + len(words) / 4:
            yield problem(
                "swapped",
                f"the sources of {split} look like the references of train: of {len(words)} words {of_target} are "
                f"among those, {of_source} among train's sources; are source and target swapped?",
                len(task.splits[split]),
            )


ODD_RATIO, ODD_LEAST = 4.0, 20
"""A pair is odd where one side is so many times as long as the other, in characters, and has so many at least."""


def _odd_pairs(task: Task) -> Iterator[Finding]:
    """Pairs that may be none: both sides alike, or one much longer than the other."""
    for split in SPLITS:
        table = task.splits[split]
        same = int((table["text"].map(normal) == table["label"].map(normal)).sum())
        if same:
            yield note("same_pairs", f"{split} pairs whose two sides are the same text: {same} of {len(table)}", same)
        one, other = table["text"].str.len(), table["label"].str.len()
        longer, shorter = np.maximum(one, other), np.minimum(one, other)
        odd = table[(longer >= ODD_LEAST) & (longer > ODD_RATIO * shorter)]
        if len(odd):
            text = (
                f"{split} pairs of which one side is over {ODD_RATIO:g} times as long as the other: {len(odd)} of "
                f"{len(table)}, e.g. {example(odd['text'].iloc[0])}: {example(odd['label'].iloc[0])}"
            )
            yield note("odd_pairs", text, len(odd))


def _one_document(task: Task) -> Iterator[Finding]:
    """Splits whose lines may all be documents, read as one since no line between them is empty."""
    for split in SPLITS:
        texts = task.splits[split]["text"]
        lines = texts.iloc[0].count("\n") + 1
        if len(texts) == 1 and lines >= FEW_EXAMPLES:
            yield problem(
                "one_document",
                f"{split} is one document of {lines} lines; where each line is a document, put an empty line between",
                lines,
            )


def _text_facts(task: Task) -> Iterator[str]:
    yield "documents: " + ", ".join(f"{split} {len(task.splits[split])}" for split in SPLITS)
    for split in SPLITS:
        texts = task.splits[split]["text"]
        each = texts.map(lambda text: len(text.encode()))
        yield f"bytes in {split}: {each.sum()}; a document's median {each.median():.0f}, most {each.max()}"
    yield from _stated(task)


def _few(task: Task) -> Iterator[Finding]:
    if (count := len(task.splits["test"])) < FEW_EXAMPLES:
        text = f"test has fewer than {FEW_EXAMPLES} documents, {count}: differences between models will be uncertain"
        yield note("few_documents", text, count)


def _without_letters(split: str, texts: pd.Series) -> Iterator[Finding]:
    if without := [text for text in texts if not re.search(r"\w", text)]:
        text = f"{split} texts without a letter or digit: {len(without)}, e.g. {example(without[0])}"
        yield note("without_letters", text, len(without))


def _everything(task: Task) -> pd.DataFrame:
    columns = ["id", "text", "label"] if task.labels else ["id", "text"]
    parts = [task.splits[split][columns].assign(split=split) for split in SPLITS]
    table = pd.concat(parts, ignore_index=True)
    return table.assign(key=table["text"].map(normal))


def _conflicts(table: pd.DataFrame) -> Iterator[Finding]:
    several = table[table.groupby("key")["label"].transform("nunique") > 1]
    if len(several):
        first = several[several["key"] == several["key"].iloc[0]]
        yield problem(
            "conflicts",
            f"texts with more than one label: {several['key'].nunique()} ({len(several)} rows), e.g. "
            f"{example(first['text'].iloc[0])}: {', '.join(sorted(set(first['label'])))}; correct or drop them",
            len(several),
        )


def _shared(table: pd.DataFrame) -> Iterator[Finding]:
    for left, right in (("train", "test"), ("validation", "test"), ("train", "validation")):
        from_left = table[table["split"] == left]
        there = table[table["split"] == right]
        both = there[there["key"].isin(set(from_left["key"]))]
        if not len(both):
            continue
        exact = int(both["text"].isin(set(from_left["text"])).sum())
        said = (
            f"{right} texts that are also in {left}: {len(both)} of {len(there)} ({len(both) / len(there):.1%}), "
            f"{exact} word for word, e.g. {example(both['text'].iloc[0])} (id {both['id'].iloc[0]}); "
        )
        if left == "validation" and len(both) == len(there):
            yield problem(
                "validation_is_test",
                f"{said}the test examples are the validation examples: what was chosen on validation (settings, when "
                "to stop) was chosen on test; give a validation file of its own, or none",
                len(both),
            )
        else:
            yield problem(f"{left}_in_{right}", f"{said}drop them from {left}, or scores flatter", len(both))


def _shared_clusters(task: Task) -> Iterator[Finding]:
    if all("cluster" in task.splits[split] for split in SPLITS):
        train, test = (set(task.splits[split]["cluster"]) for split in ("train", "test"))
        if both := train & test:
            text = f"clusters in train and in test: {len(both)}, e.g. {example(min(both))}; keep each in one split"
            yield problem("shared_clusters", text, len(both))


def _giveaways(task: Task, script: str) -> Iterator[Finding]:
    """Single words that all but name the label: surely leaks, and perhaps.

    Where no spaces stand between words, runs of two to four characters; of those inside each other, the longest.
    """
    train = task.splits["train"]
    sizes = train["label"].value_counts()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for text, label in zip(train["text"], train["label"], strict=True):
        for word in _runs(normal(text)) if script else set(normal(text).split()):
            counts[word][label] += 1
    found: dict[str, tuple[str, int]] = {}
    for word, labels in sorted(counts.items()):
        label, count = labels.most_common(1)[0]
        if count >= max(5, OFTEN * sizes[label]) and count >= PURE * labels.total():
            found[word] = label, count
    if script:
        found = {
            word: at
            for word, at in found.items()
            if not any(word != other and word in other and at[0] == longer[0] for other, longer in found.items())
        }
    leaks, hints = [], []
    for word, (label, count) in found.items():
        said = f"{word!r} (in {count / sizes[label]:.0%} of {label!r})"
        (leaks if count >= NEARLY_ALWAYS * sizes[label] else hints).append(said)
    words = f"{'characters' if script else 'words'} found with one label only: "
    if leaks:
        yield problem("giveaways", f"{words}{_some(leaks)}; remove them if they would not be there in use", len(leaks))
    if hints:
        yield note("perhaps_giveaways", f"{words}{_some(hints)}; are they there in use?", len(hints))


def _runs(text: str) -> set[str]:
    """Runs of two to four characters of a script without spaces, and the words of others.

    >>> sorted(_runs("很好吃 ok"))
    ['ok', '好吃', '很好', '很好吃']
    """
    found = set(re.findall(f"[^\\W{UNSPACED}]+", text))
    for part in re.findall(f"[{UNSPACED}]+", text):
        found |= {part[at : at + size] for size in (2, 3, 4) for at in range(len(part) - size + 1)}
    return found


def _repeats(table: pd.DataFrame) -> Iterator[Finding]:
    for split in SPLITS:
        keys = table["key"][table["split"] == split]
        if extra := int(keys.duplicated().sum()):
            text = f"{split} texts that repeat another one there, case and punctuation aside: {extra} of {len(keys)}"
            yield note("repeats", text, extra)


def _balance(task: Task) -> Iterator[Finding]:
    shares = {split: task.splits[split]["label"].value_counts(normalize=True) for split in SPLITS}
    top = shares["test"].idxmax()
    share = shares["test"][top]
    if share * len(task.labels) > 2 or share > 0.7:
        yield note(
            "imbalance",
            f"always saying {top!r} is right on {share:.0%} of test; judge by f1_macro beside accuracy",
            round(share * len(task.splits["test"])),
        )
    for split in ("train", "test"):
        counts = task.splits[split]["label"].value_counts()
        few = [f"{label} {counts.get(label, 0)}" for label in task.labels if counts.get(label, 0) < FEW_EXAMPLES]
        if few:
            text = f"{split} has fewer than {FEW_EXAMPLES} examples of {_some(few)}: scores per label say little there"
            yield note("few_examples", text, len(few))
    moved = [
        f"{label} {shares['train'].get(label, 0):.0%} to {shares['test'].get(label, 0):.0%}"
        for label in task.labels
        if abs(shares["train"].get(label, 0) - shares["test"].get(label, 0)) > SHIFT
    ]
    if moved:
        text = f"labels are distributed differently in train and test: {_some(moved)}"
        yield note("shift", text, len(moved))


def _lengths(task: Task, script: str) -> Iterator[Finding]:
    most, unit = (MANY_CHARACTERS, "characters") if script else (MANY_WORDS, "words")
    for split in ("train", "test"):
        texts = task.splits[split]["text"]
        lengths = texts.str.len() if script else texts.str.split().str.len()
        if long := int((lengths > most).sum()):
            text = f"{split} texts of over {most} {unit}: {long} of {len(texts)}; max_length = 128 tokens cuts them"
            yield note("cut", text, long)
        yield from _without_letters(split, texts)
        if lost := int(texts.str.contains("\ufffd", regex=False).sum()):
            text = f"{split} texts with U+FFFD, a character lost when the file was written: {lost}"
            yield note("lost_characters", text, lost)
        if wrong := texts[texts.str.contains(_MOJIBAKE)].tolist():
            text = f"{split} texts of UTF-8 read as another encoding: {len(wrong)}, e.g. {example(wrong[0])}"
            yield problem("encoding", f"{text}; write them anew", len(wrong))


def _labels(task: Task) -> Iterator[Finding]:
    counts = task.splits["train"]["label"].value_counts()
    for labels in spellings(task.labels):
        said = " and ".join(f"{ascii(label)} ({counts[label]} train rows)" for label in labels)
        text = f"one label in two spellings: {said}; write it one way, or name the classes apart"
        yield problem("two_spellings", text, len(labels))
    alike = defaultdict(list)
    for label in task.labels:
        # The sign of a number is no punctuation.
        alike[label if number(label) is not None else normal(label) or label].append(label)
    for labels in alike.values():
        if len(labels) > 1:
            text = f"labels that differ in case, punctuation or space only: {', '.join(map(repr, labels))}"
            yield note("alike_labels", text, len(labels))
    # "none" may be a class of its own, as where nobody takes sides.
    if missing := [label for label in task.labels if label.casefold() in MISSING_WORDS - {"none", "-", "--", "?"}]:
        said = " and ".join(f"{label!r} ({counts[label]} train rows)" for label in missing)
        text = f"a label that reads as a missing value: {said}; leave those rows out, or call the class by a full name"
        yield problem("missing_labels", text, len(missing))
    if len(task.labels) > MANY_NUMBERS and all(re.fullmatch(r"[+-]?\d+", label) for label in task.labels):
        text = (
            f"the labels are {len(task.labels)} different numbers: where they are a score, cut it into few classes; "
            "each number counts as a class of its own"
        )
        yield note("number_labels", text, len(task.labels))
    if not task.label_words:
        text = 'the labels have no words; zero-shot and prompts need label_words = {"0" = "...", ...}'
        yield note("no_words", text, len(task.labels))


def _groups(task: Task) -> Iterator[Finding]:
    """Groups of people about whom the test says little, and labels that go with a group in the training examples."""
    for column in task.group_columns:
        name = f"group_{column}"
        counts = {split: task.splits[split][name].value_counts() for split in ("train", "test")}
        everyone = counts["test"].index.union(counts["train"].index)
        if few := [f"{group} {n}" for group in everyone if (n := counts["test"].get(group, 0)) < FEW_EXAMPLES]:
            text = f"test has fewer than {FEW_EXAMPLES} examples of groups of {column}: {_some(few)}"
            yield note("small_groups", f"{text}; their gaps say little", len(few))
        train = task.splits["train"]
        moved = []
        for group in counts["train"].index[counts["train"] >= FEW_EXAMPLES]:
            inside = train[name] == group
            if inside.all():
                continue
            own, others = (train["label"][part].value_counts(normalize=True) for part in (inside, ~inside))
            label, there, elsewhere = max(
                ((label, own.get(label, 0.0), others.get(label, 0.0)) for label in task.labels),
                key=lambda one: one[1] - one[2],
            )
            if there - elsewhere > SHIFT:
                moved.append(f"{group}: {there:.0%} {label!r}, the others {elsewhere:.0%}")
        if moved:
            text = (
                f"labels go with {column} in train ({'; '.join(moved[:5])}): a model can learn whom a text is about in "
                "place of what it says; look at each label's gap between groups, and try a mitigation"
            )
            yield note("group_labels", text, len(moved))


def _some(items: Iterable[str], most: int = 5) -> str:
    items = list(items)
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def broken(table: pd.DataFrame) -> Iterator[Finding]:
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
            text = f"documents {said}: {len(found)} of {len(table)}, e.g. {around} ({split}, id {name}); {do}"
            yield problem("broken", text, len(found))


def sizes(table: pd.DataFrame) -> Iterator[Finding]:
    """Documents too short to say much, or so long that they are read in pieces, a sentence for each split."""
    for split, texts in table.groupby("split", sort=False)["text"]:
        n_bytes = texts.map(lambda text: len(text.encode()))
        if short := int((n_bytes < SHORT_BYTES).sum()):
            first = example(texts[n_bytes < SHORT_BYTES].iloc[0])
            text = f"{split} documents of under {SHORT_BYTES} bytes: {short} of {len(texts)}, e.g. {first}"
            yield note("short_documents", text, short)
        if long := int((n_bytes > LONG_BYTES).sum()):
            text = f"{split} documents of over {LONG_BYTES} bytes: {long} of {len(texts)}; models read them in pieces"
            yield note("long_documents", text, long)


def example(text: str) -> str:
    """A text in quotes on one line, cut where it is long.

    >>> example("Two  words,   and more"), len(example("word " * 99))
    ('"Two words, and more"', 62)
    """
    shown = " ".join(text.split())
    return f'"{shown}"' if len(shown) <= 60 else f'"{shown[:57]}..."'
