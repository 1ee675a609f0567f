"""Labels: from the values of a column to class names, their order, and the words that say what they mean."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ftlib.data.rows import MISSING, Table, all_of
from ftlib.errors import FtlibError

MOST_LABELS = 1000
_FEW_ROWS = 20


def label_values(table: Table, name: str) -> tuple[list[str], list[str]]:
    """A label column as class names, and what is wrong with it in words.

    Whole numbers become their digits, truth values "true" and "false"; space around a label is dropped.
    """
    values = table.column(name)
    problems = [
        f"{table.at(row)}: the label ({name}) is {'blank' if isinstance(value, str) else 'missing'}"
        for row, value in enumerate(values)
        if value is MISSING or (isinstance(value, str) and not value.strip())
    ]
    kinds: dict[str, int] = {}
    for row, value in enumerate(values):
        if value is not MISSING:
            kinds.setdefault(_kind(value), row)
    if len(kinds) > 1:
        said = " and ".join(f"{kind} ({table.at(row)}: {values[row]!r})" for kind, row in kinds.items())
        problems.append(f"{table.where}: labels ({name}) of mixed types: {said}; write them all the same way")
    elif kinds.keys() - _LABEL_KINDS:
        row = next(iter(kinds.values()))
        problems.append(f"{table.at(row)}: the label ({name}) is {_short(values[row])}; a label is a name or a number")
    if problems:
        return [], problems
    labels = [_label(value) for value in values]
    if (row := _fraction(labels)) is not None:
        problems.append(
            f"{table.at(row)}: the label ({name}) is {labels[row]}, a number with a fraction; classification needs "
            "classes: name another label_column, or cut the numbers into classes first"
        )
    return labels, problems


_LABEL_KINDS = {"text", "number", "truth value"}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "truth value"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else type(value).__name__


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 60 else said[:57] + "..."


def _label(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def number(label: str) -> float | None:
    """The number a label is, or None.

    >>> number("-1"), number("4.50"), number("nan"), number("one")
    (-1.0, 4.5, None, None)
    """
    return float(label) if re.fullmatch(r"[+-]?\d+(\.\d*)?", label) else None


def _fraction(labels: Sequence[str]) -> int | None:
    """Where the first label with a fraction is, when all labels are numbers."""
    numbers = [number(label) for label in labels]
    if None in numbers:
        return None
    return next(
        (row for row, value in enumerate(numbers) if value is not None and not value.is_integer()),
        None,
    )


def ordered(labels: Iterable[str]) -> tuple[str, ...]:
    """The distinct labels: numbers by size, else by the alphabet.

    >>> ordered(["10", "9", "9"]), ordered(["world", "sport"])
    (('9', '10'), ('sport', 'world'))
    """
    distinct = sorted(set(labels))
    if all(number(label) is not None for label in distinct):
        distinct.sort(key=lambda label: number(label) or 0.0)
    return tuple(distinct)


def check_labels(where: str, name: str, labels: Sequence[str], rows: int) -> None:
    """Refuse a label column that names no classes.

    Raises:
        FtlibError: One label only, more than `MOST_LABELS`, or more than half as many as rows.
    """
    if len(labels) < 2:
        raise FtlibError(f"{where}: every label ({name}) is {labels[0]!r}; classification needs two or more")
    if len(labels) > MOST_LABELS or (rows >= _FEW_ROWS and len(labels) * 2 > rows):
        raise FtlibError(
            f"{where}: {name} has {len(labels)} different values in {rows} rows and does not look like a label column; "
            'say which is: label_column = "..."'
        )


def unseen(tables: Mapping[str, tuple[Table, Sequence[str]]], known: Iterable[str]) -> list[str]:
    """Labels of other splits that train does not have, each with its place."""
    known = set(known)
    return [
        f"{table.at(labels.index(label))}: label {label!r} is not in train, which has {_listed(known)}"
        for table, labels in tables.values()
        for label in dict.fromkeys(labels)
        if label not in known
    ]


def words_for(where: str, labels: Sequence[str], given: Mapping[str, str] | None) -> dict[str, str]:
    """What each label means, in words: as given, else made from the labels; empty where labels are numbers.

    Raises:
        FtlibError: Words for a label that does not exist, or a label without words.

    >>> words_for("t", ("card_arrival", "SciTech"), None)
    {'card_arrival': 'card arrival', 'SciTech': 'Sci Tech'}
    >>> words_for("t", ("0", "1"), None)
    {}
    """
    if given:
        problems = [
            f"{where}: label_words names {key!r}, which is no label; labels: {_listed(labels)}"
            for key in given
            if key not in labels
        ]
        missing = [label for label in labels if not str(given.get(label, "")).strip()]
        if missing:
            problems.append(f"{where}: label_words says nothing for {_listed(missing)}; give words for every label")
        if problems:
            raise all_of(problems)
        return {label: str(given[label]).strip() for label in labels}
    if not all(re.search(r"[^\W\d_]", label) for label in labels):
        return {}
    return {label: _spoken(label) for label in labels}


def _spoken(label: str) -> str:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", label)
    return " ".join(re.sub(r"[_-]+", " ", apart).split())


def _listed(labels: Iterable[str], most: int = 20) -> str:
    shown = ordered(labels)
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(repr(label) for label in shown[:most]) + more
