"""file:PATH: a task from files of the user's, one file that is divided or a folder with one file per split.

CSV, TSV, JSONL and Parquet give a classification task; .txt gives text to be modelled.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, Unpack

import pandas as pd

from ftlib.core.errors import FtlibError, several
from ftlib.data.general import read_documents
from ftlib.data.labels import (
    check_labels,
    choose,
    crossed,
    frame,
    group_names,
    group_problems,
    has_ids,
    ordered,
    refuse_empty,
    same_numbers,
    several_labels,
    unseen,
    words_for,
)
from ftlib.data.tabular import SUFFIXES, Table, all_of, read_rows
from ftlib.data.task import SPLITS, Task, make_task
from ftlib.data.words import unspaced, word_pattern

NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing"),
}
"""What a split's file may be called, without its suffix."""

SET_ASIDE = 0.1
"""Share of train that becomes validation where there is none."""

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}
"""How one file of rows is divided."""

TEXT_SET_ASIDE = 0.1
"""Share of the documents that becomes validation, and test, where there is none; one document at least."""


class Asked(TypedDict, total=False):
    """What a reader of labelled examples may be told; what is left out is guessed, or not there."""

    label_words: Mapping[str, str] | None
    """What each label means, in words; every label or none."""
    text_column: str
    """Column that holds the text; "title+description" joins two. Empty: guessed."""
    label_column: str
    """Column that holds the label. Empty: guessed."""
    group_columns: Sequence[str]
    """Columns that name groups."""
    quoting: str
    """"none": quotation marks of a CSV or TSV are part of the text. Empty: they enclose fields."""


def load(name: str, **asked: Unpack[Asked]) -> Task:
    """Read `file:PATH`: a file, or a folder with train, validation and test.

    Args:
        name: "file:" and a path, relative to the working directory.

    Raises:
        FtlibError: The data is missing, empty, ragged, mixed or ambiguous; says file, line and what was found.
    """
    path = Path(name.removeprefix("file:"))
    quoting = asked.pop("quoting", "")
    tables: dict[str, Table] = {}
    wrong: list[FtlibError] = []
    for split, file in split_files(path).items():
        try:
            tables[split] = read_rows(file, quoting=quoting)
        except FtlibError as error:
            wrong.append(error)
    if wrong:
        raise wrong[0] if len(wrong) == 1 else several([problem for error in wrong for problem in error.problems])
    if joined := sum(len(table.joined) for table in tables.values()):
        asked["stated"] = {"rows of several lines": joined}
    return task_from(name, tables, source=str(path), **asked)


def task_from(
    name: str,
    tables: Mapping[str, Table],
    *,
    source: str,
    licence: str = "not stated",
    stated: Mapping[str, object] | None = None,
    label_words: Mapping[str, str] | None = None,
    text_column: str = "",
    label_column: str = "",
    group_columns: Sequence[str] = (),
) -> Task:
    """Make a task from the rows of its splits, or of the one table "all" that is to be divided."""
    refuse_empty(group_columns)
    columns = choose(tables, text_column=text_column, label_column=label_column, group_columns=group_columns)
    own_ids = all(has_ids(table) for table in tables.values())
    frames, problems = {}, []
    for split, table in tables.items():
        try:
            frames[split] = frame(table, columns, own_ids=own_ids)
        except FtlibError as error:
            problems += error.problems
    if problems:
        raise several(problems)

    first = tables.get("train") or tables["all"]
    known = frames.get("train", frames.get("all"))
    labels = ordered(known["label"])
    where = ", ".join(table.where for table in tables.values())
    wrong: list[str] = []
    if not (label_words and set(label_words) == set(labels)):
        # Words for exactly these labels say that each is meant to be a class of its own.
        everywhere = [label for rows in frames.values() for label in rows["label"]]
        joined = several_labels(where, columns.label, everywhere)
        wrong = [joined] * bool(joined) + same_numbers(where, columns.label, everywhere)
    singles = dict.fromkeys(part for group in columns.groups for part in crossed(group, first.columns))
    for part in singles:
        named = [value for table in tables.values() for value in group_names(table, part)]
        wrong += group_problems(where, part, named)
    if wrong:
        raise all_of(wrong)
    check_labels(first.where, columns.label, labels, len(known))
    if wrong := unseen({split: (tables[split], list(frames[split]["label"])) for split in frames}, labels):
        raise all_of(wrong)
    words = words_for(name, labels, label_words)

    splits, how = divided(first.where, frames)
    missing = [label for label in labels if label not in set(splits["train"]["label"])]
    if missing:
        raise FtlibError(
            f"{first.where}: label {missing[0]!r} is in too few rows for a training split; "
            "add rows, or give a folder with train, validation and test files"
        )
    said = {
        "text_column": columns.text,
        "label_column": columns.label,
        "guessed": list(columns.guessed),
        "ids": "column id" if own_ids else "hash of the text",
        "splits": how,
        **(stated or {}),
    }
    if script := unspaced(splits["train"]["text"]):
        said["words"] = f"{script}, which has no spaces between words: tfidf reads characters"
    return make_task(
        name, splits, labels, words, group_columns=columns.groups, source=source, licence=licence, stated=said
    )


def split_files(path: Path, suffixes: Sequence[str] = SUFFIXES) -> dict[str, Path]:
    """The file of each split; of "all" where the path is one file.

    Args:
        suffixes: What a split's file in the folder may end in.

    Raises:
        FtlibError: Nothing is there, train or test is lacking, or a split has several files.
    """
    if path.is_file():
        return {"all": path}
    if not path.is_dir():
        raise FtlibError(f"file:{path}: no file or folder there (from {Path.cwd()})")
    found: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for file in sorted(path.iterdir()):
        for split, names in NAMES.items():
            if file.is_file() and file.suffix.lower() in suffixes and file.stem.lower() in names:
                found[split].append(file)
    problems = [
        f"file:{path}: several files for {split}: {', '.join(file.name for file in files)}; keep one"
        for split, files in found.items()
        if len(files) > 1
    ]
    here = ", ".join(sorted(file.name for file in path.iterdir())[:12]) or "nothing"
    if lacking := [split for split in ("train", "test") if not found[split]]:
        wanted = " and ".join(split + suffixes[0] for split in lacking)
        others = f" (or {', '.join(suffixes[1:])}; .txt for text to be modelled)" if suffixes[1:] else ""
        problems.append(
            f"file:{path}: no {' and no '.join(lacking)} file; add {wanted}{others}, "
            f"or name one file, which is divided; the folder has {here}"
        )
    if problems:
        raise all_of(problems)
    return {split: files[0] for split, files in found.items() if files}


def divided(where: str, frames: Mapping[str, pd.DataFrame]) -> tuple[dict[str, pd.DataFrame], str]:
    """Divide what is not divided yet, and say how."""
    if "all" in frames:
        parts = divide(frames["all"], SHARES)
        if empty := [split for split in SPLITS if parts[split].empty]:
            raise FtlibError(
                f"{where}: {len(frames['all'])} rows are too few to divide 70/15/15 ({' and '.join(empty)} would be "
                "empty); add rows, or give a folder with train, validation and test files"
            )
        return parts, "70/15/15 of one file, by hash of the text"
    if "validation" in frames:
        return {split: frames[split] for split in SPLITS}, "as given"
    parts = divide(frames["train"], {"train": 1 - SET_ASIDE, "validation": SET_ASIDE})
    if parts["validation"].empty:
        raise FtlibError(f"{where}: {len(frames['train'])} rows are too few to set a validation split aside; add one")
    return {**parts, "test": frames["test"]}, "validation: 10 % of train, by hash of the text"


def divide(table: pd.DataFrame, shares: Mapping[str, float]) -> dict[str, pd.DataFrame]:
    """Divide rows by content, the same way whatever their order; every label is spread over the parts.

    Rows with the same text, or of the same cluster where there are clusters, stay together. Text to be modelled has no
    labels to spread.

    >>> rows = pd.DataFrame({"text": list("abcdefgh"), "label": ["x", "y"] * 4})
    >>> parts = divide(rows, {"train": 0.75, "test": 0.25})
    >>> len(parts["train"]), sorted(parts["test"]["label"])
    (6, ['x', 'y'])
    """
    unit = table["cluster"] if "cluster" in table else table["text"].map(normal)
    key = unit.map(_hash)
    units = (
        pd.DataFrame({"key": key, "label": table.get("label", "")}).sort_values(["key", "label"]).drop_duplicates("key")
    )
    place = units.groupby("label").cumcount()
    share = (place + 0.5) / units.groupby("label")["label"].transform("size")
    ranked = units.assign(share=share).sort_values(["share", "key"])["key"]
    cuts, start, total = {}, 0, 0.0
    for split, part in shares.items():
        total += part
        end = round(total * len(ranked))
        cuts[split] = set(ranked.iloc[start:end])
        start = end
    return {split: table[key.isin(keys)].reset_index(drop=True) for split, keys in cuts.items()}


def normal(text: str) -> str:
    """A text without what two copies of it may differ in: case, punctuation, space.

    >>> normal("It's  a TEST.") == normal("it s a test"), normal(" ?! ")
    (True, '?!')
    """
    return " ".join(re.findall(word_pattern(), text.casefold())) or text.strip()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def load_texts(name: str) -> Task:
    """Read `file:PATH`: a text file, or a folder with train.txt, test.txt and perhaps validation.txt.

    Documents are separated by an empty line (or one of spaces only); the line ends of Windows are read as any others,
    and nothing else of the text is changed.

    Args:
        name: "file:" and a path, relative to the working directory.

    Raises:
        FtlibError: A file is missing, is not UTF-8 (says file and line) or holds too few documents; or the folder also
            has files of a table.
    """
    path = Path(name.removeprefix("file:"))
    files = split_files(path, (".txt",))
    stems = {stem for names in NAMES.values() for stem in names}
    beside = sorted(path.iterdir()) if path.is_dir() else []
    if tables := [file.name for file in beside if file.suffix.lower() in SUFFIXES and file.stem.lower() in stems]:
        raise FtlibError(f"{name}: holds text (train.txt) and tables ({', '.join(tables)}); keep one or the other")
    frames = {split: read_documents(file) for split, file in files.items()}
    splits, how = _text_splits(frames, path)
    stated = {"documents": "separated by an empty line", "ids": "hash of the text", "splits": how}
    return make_task(name, splits, kind="language-modeling", source=str(path), stated=stated)


def _text_splits(frames: dict[str, pd.DataFrame], path: Path) -> tuple[dict[str, pd.DataFrame], str]:
    """Divide what is not divided yet, and say how."""
    if "validation" in frames:
        return {split: frames[split] for split in SPLITS}, "as given"
    whole = "all" if "all" in frames else "train"
    new = ("validation", "test") if whole == "all" else ("validation",)
    different = frames[whole]["text"].map(normal).nunique()
    if different <= len(new):
        raise FtlibError(
            f"{path}: {len(frames[whole])} documents, {different} different, are too few for "
            f"{' and '.join(('train', *new))}; separate documents by an empty line, or add some"
        )
    share = max(TEXT_SET_ASIDE, 1 / different)
    parts = divide(frames[whole], {"train": 1 - share * len(new), **dict.fromkeys(new, share)})
    how = "80/10/10 of one file, by hash of the document" if whole == "all" else "validation: 10 % of train, by hash"
    return {split: parts.get(split, frames.get(split)) for split in SPLITS}, how
