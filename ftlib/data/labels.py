"""Labels and the columns of a table: which hold the text, the label and the groups, and what the labels are called.

From the values of a column to class names, their order, and the words that say what they mean; then the frame of a
split.
"""

import json
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from ftlib.core.errors import FtlibError
from ftlib.data.tabular import MISSING, Table, all_of, content_ids
from ftlib.metrics.fairness import BLANK_GROUP

MOST_LABELS = 1000

_FEW_ROWS = 20

_LABEL_KINDS = {"text", "number", "truth value"}


def label_values(table: Table, name: str) -> tuple[list[str], list[str]]:
    """A label column as class names, and what is wrong with it in words.

    Whole numbers become their digits, truth values "true" and "false"; space around a label is dropped.
    """
    values = table.column(name)
    problems = table.told(
        (row, f"the label ({name}) is {'blank' if isinstance(value, str) else 'missing'}")
        for row, value in enumerate(values)
        if value is MISSING or (isinstance(value, str) and not value.strip())
    )
    kinds: dict[str, int] = {}
    for row, value in enumerate(values):
        if value is not MISSING:
            kinds.setdefault(_kind(value), row)
    if len(kinds) > 1:
        said = " and ".join(f"{kind} ({table.at(row)}: {values[row]!r})" for kind, row in kinds.items())
        problems.append(f"{table.where}: labels ({name}) of mixed types: {said}; write them all the same way")
    elif kinds.keys() - _LABEL_KINDS:
        row = next(iter(kinds.values()))
        said = f"{table.at(row)}: the label ({name}) is {_short(values[row])}; a label is a name or a number"
        if kinds.keys() & {"list", "tuple", "dict"}:
            said += f"; {_lists(values)}"
        problems.append(said)
    if problems:
        return [], problems
    labels = [_label(value) for value in values]
    if (row := _fraction(labels)) is not None:
        problems.append(
            f"{table.at(row)}: the label ({name}) is {labels[row]}, a number with a fraction; classification needs "
            "classes: name another label_column, or cut the numbers into classes first"
        )
    return labels, problems


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

    >>> number("-1"), number("4.50"), number(".5"), number("1e-3"), number("nan"), number("one")
    (-1.0, 4.5, 0.5, 0.001, None, None)
    """
    return float(label) if re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", label) else None


def _fraction(labels: Sequence[str]) -> int | None:
    """Where the first label with a fraction is, when all labels are numbers."""
    numbers = [number(label) for label in labels]
    if None in numbers:
        return None
    return next((row for row, value in enumerate(numbers) if value is not None and not value.is_integer()), None)


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


ONE_LABEL = "one label per text is needed; make one study per label"

_SURE_MARKS = (",", ";", "|", "\n")
"""What stands between labels where a cell has several, and seldom inside one."""

_OTHER_MARKS = ("/", "&", "+", "#", ":", " and ", "-", "_", " ")
"""What stands inside labels, too: it counts only where every part is a label by itself."""

_OTHER_SHAPES = (
    (r"[\[({]?\s*[01](\.0?)?([\s,;|]+[01](\.0?)?)+\s*[\])}]?", "several labels per text, a 0 or 1 for each"),
    (r"\d+\s*[:,;–-]\s*\d+\s*[:,;]\s*[^\W\d].*|[\[({]\s*[\[({].*", "spans of the text and no labels of it"),
    (r"(O|[BIESLU]-\S+)([\s,]+(O|[BIESLU]-\S+))+", "a tag for every word and no label of the text"),
    (r"[+-]?\d+,\d+", "numbers with a decimal comma, or two labels per text"),
)
"""Regular expressions of what is no class, where every label is so, and what it is called."""


def _lists(values: Sequence[Any]) -> str:
    """What is said of a column whose values are lists."""
    lists = [value for value in values if isinstance(value, list | tuple | dict)]
    longer = [value for value in lists if len(value) > 1]
    if not longer:
        return f"{len(lists)} of {len(values)} rows hold a list of one label or none; write the label itself"
    return (
        f"these look like several labels per text ({_short(longer[0])}; {len(longer)} of {len(values)} rows hold more "
        f"than one): {ONE_LABEL}"
    )


def several_labels(where: str, name: str, labels: Sequence[str]) -> str:
    """What is said where cells hold several labels each, such as "joy,anger"; empty where they hold one.

    >>> several_labels("x.csv", "label", ["joy", "anger", "joy,anger"])[:70]
    'x.csv: label: these look like several labels per text (joy,anger = joy'
    >>> several_labels("x.csv", "label", ["Sci/Tech", "World", "Rock, Pop"])
    ''
    >>> several_labels("x.csv", "label", ["0 1 0", "1 1 0"])[:85]
    'x.csv: label: these look like several labels per text, a 0 or 1 for each (0 1 0; 2 of'
    """
    counts = Counter(labels)
    parts = {label: found for label in counts if (found := _parts(label, counts))}
    kind = "several labels per text"
    if shape := next((kind for form, kind in _OTHER_SHAPES if all(re.fullmatch(form, one) for one in counts)), ""):
        if not parts or "0 or 1" in shape:
            kind, parts = shape, {label: [] for label in counts}
    elif not parts:
        # A semicolon or a bar in most of the names stands between names, though none of them is there alone.
        marked = {label: _split(label, mark) for label in counts for mark in (";", "|", "\n") if mark in label}
        parts = {label: found for label, found in marked.items() if all(found)} if 2 * len(marked) > len(counts) else {}
    if not parts:
        return ""
    rows = sum(counts[label] for label in parts)
    shown = max(parts, key=lambda label: (len(parts[label]) > 1, counts[label]))
    words = ", ".join(f"{json.dumps(label, ensure_ascii=False)} = ..." for label in list(ordered(counts))[:2])
    made_of = " ".join(shown.split()) + (f" = {' + '.join(parts[shown])}" if parts[shown] else "")
    return (
        f"{where}: {name}: these look like {kind} ({made_of}; {rows} of {len(labels)} rows): {ONE_LABEL}; where each "
        f"is a class of its own, say so by label_words for all {len(counts)} ({words}, ...)"
    )


def _split(label: str, mark: str) -> list[str]:
    return [part.strip() for part in label.split(mark)]


def _parts(label: str, counts: Mapping[str, int]) -> list[str]:
    """The labels that a label is made of; empty where it is one."""
    if len(label) > 2 and label[0] + label[-1] in ("[]", "()", "{}"):
        inside = [part.strip().strip("'\"").strip() for part in re.split(r"[,;|]|(?<=['\"])\s+(?=['\"])", label[1:-1])]
        bare = label[1:-1].strip()
        if all(inside) and (len(inside) > 1 or bare[:1] in "'\"" or inside[0] in counts):
            return inside
    for marks, sure in ((_SURE_MARKS, True), (_OTHER_MARKS, False)):
        for mark in marks:
            parts = _split(label, mark)
            if len(parts) < 2 or not all(parts):
                continue
            if all(part in counts or (sure and _in_others(part, label, mark, counts)) for part in parts):
                return parts
    return []


def _in_others(part: str, label: str, mark: str, counts: Mapping[str, int]) -> bool:
    """Whether a part of a label is a part of another label, too."""
    return any(part in _split(other, mark) for other in counts if other != label)


def same_numbers(where: str, name: str, labels: Sequence[str]) -> list[str]:
    """What is said of labels that are one number written in several ways, such as "0" and "0.0".

    >>> same_numbers("x.csv", "label", ["0", "0.0", "1", "0"])
    ["x.csv: label: '0' (2 rows) and '0.0' (1 row) are the same number; write it one way"]
    """
    counts = Counter(labels)
    same: dict[float, list[str]] = {}
    for label in counts:
        if (value := number(label)) is not None:
            same.setdefault(value, []).append(label)
    return [
        f"{where}: {name}: {_counted(found, counts)} are the same number; write it one way"
        for found in same.values()
        if len(found) > 1
    ]


def _counted(names: Iterable[str], counts: Mapping[str, int], shown: Callable[[str], str] = repr) -> str:
    return " and ".join(f"{shown(name)} ({counts[name]} row{'s' * (counts[name] != 1)})" for name in names)


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
    """What each label means, in words: as given, else made from the labels; empty where one has no letter.

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


TEXT_NAMES = (
    *("text", "texts", "sentence", "sentences", "content", "review", "comment", "question", "query", "utterance"),
    *("document", "tweet", "message", "post", "body", "headline"),
)
"""Usual names of a text column. "title" counts only where none of these is there, or with a "description"."""

LABEL_NAMES = ("label", "labels", "category", "class", "target", "intent", "topic", "sentiment", "coarse_label")
"""Usual names of a label column."""

_BESIDE = {"context", "passage", "answer", "hypothesis"}
"""A question beside one of these is half of what is to be read, so it is not guessed alone."""


class Columns(NamedTuple):
    """The columns chosen, and how."""

    text: str
    label: str
    groups: tuple[str, ...]
    guessed: tuple[str, ...]
    """Which of text_column and label_column were guessed."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The text's columns, in the order they are joined."""
        return tuple(part.strip() for part in self.text.split("+")) if "+" in self.text else (self.text,)


def choose(
    tables: Mapping[str, Table],
    *,
    text_column: str,
    label_column: str,
    group_columns: Sequence[str],
) -> Columns:
    """Take the columns asked for, guess the others from their usual names, and check that every split has them.

    Raises:
        FtlibError: A column is missing in some split, or several could be meant; lists the choices.
    """
    first = next(iter(tables.values()))
    common = [name for name in first.columns if all(name in table.columns for table in tables.values())]
    problems: list[str] = []
    text = text_column or _guess(tables, common, "text_column", text_candidates(common, label_column), problems)
    usual = [name for name in common if _plain(name) in LABEL_NAMES]
    numbered = [name for name in common if re.fullmatch(r"labels?[ _.-]?\d+", _plain(name))]
    if not (label_column or usual) and len(numbered) > 1:
        label = ""
        problems.append(
            f"{', '.join(table.where for table in tables.values())}: label_column: {', '.join(numbered)} look like "
            f'several labels per text: {ONE_LABEL}; or say which column alone counts: label_column = "{numbered[0]}"'
        )
    elif label_column or usual:
        label = label_column or _guess(tables, common, "label_column", usual, problems)
    elif marks := [name for name in common if name != text and _is_mark(tables, name)]:
        label = ""
        problems.append(_mark_columns(tables, common, marks))
    else:
        label = _guess(tables, common, "label_column", usual, problems)
    guessed = tuple(name for name, asked in (("text_column", text_column), ("label_column", label_column)) if not asked)
    chosen = Columns(text, label, tuple(group_columns), guessed)
    # A column may hold a + in its own name.
    parts = (chosen.text,) if chosen.text in common else chosen.parts
    asked = [("text_column", part) for part in parts] + [("label_column", label)]
    parts_of_groups = [part for name in chosen.groups for part in crossed(name, first.columns)]
    for field, name in [*asked, *(("group_columns", part) for part in dict.fromkeys(parts_of_groups))]:
        without = [table for table in tables.values() if name and name not in table.columns]
        if without:
            where = ", ".join(table.where for table in without)
            problems.append(f"{where}: {field}: no column {name!r}; columns: {', '.join(without[0].columns)}")
    if len(parts) > 1 and (not all(parts) or len(set(parts)) < len(parts)):
        problems.append(f"text_column: found {chosen.text!r}; columns to be joined are named once each: 'title+body'")
    if label and label in parts:
        problems.append(f"{first.where}: {label!r} is both the text and the label column")
    for name in chosen.groups:
        crossed_with = crossed(name, first.columns)
        if len(set(crossed_with)) < len(crossed_with):
            problems.append(f"{first.where}: group_columns: {name!r} crosses a column with itself; name two")
        elif label and label in crossed_with:
            problems.append(f"{first.where}: group_columns: {label!r} is the label column; groups are of people")
    if problems:
        raise all_of(problems)
    return chosen


_MARKS = ({"0", "1"}, {"false", "true"}, {"no", "yes"}, {"n", "y"}, {"f", "t"}, {"", "x"}, {"", "1"}, {"", "yes"})


def _is_mark(tables: Mapping[str, Table], name: str) -> bool:
    """Whether a column only says yes or no, such as one of a label that a text has or has not."""
    values = {
        _label(value).casefold() if isinstance(value, str | int | float) else ""
        for table in tables.values()
        for value in table.column(name)
    }
    values = {str(int(float(value))) if number(value) in (0.0, 1.0) else value for value in values}
    return values != {""} and any(values <= marks for marks in _MARKS)


def _mark_columns(tables: Mapping[str, Table], common: Sequence[str], marks: Sequence[str]) -> str:
    where = ", ".join(table.where for table in tables.values())
    settings = " or ".join(f'label_column = "{name}"' for name in marks)
    said = f"{where}: label_column: no column has a usual name; columns: {', '.join(common)}; tried: "
    said += f"{', '.join(LABEL_NAMES)}; "
    if len(marks) == 1:
        return f"{said}say which: {settings}"
    return (
        f"{said}{', '.join(marks)} hold only yes or no (0 and 1): these look like several labels per text, one column "
        f"per label. One label per text is needed; make one study per column: {settings}"
    )


def _plain(name: str) -> str:
    return name.strip().casefold()


def text_candidates(columns: Sequence[str], label: str) -> list[str]:
    """The columns whose names say that they hold the text; none, or several, where names do not decide."""
    plain = {_plain(name): name for name in columns if name != label}
    # "text" and "Text" are two columns, of which either may be meant.
    found = [column for name in TEXT_NAMES for column in columns if _plain(column) == name and column != label]
    if len(found) == 1 and _plain(found[0]) in ("question", "query") and (beside := _BESIDE & plain.keys()):
        found += [plain[name] for name in sorted(beside)]
        found.append("+".join([found[0], found[1]]))
    if "title" in plain and "description" in plain:
        found.append(f"{plain['title']}+{plain['description']}")
    elif not found and ("title" in plain or "description" in plain):
        found.append(plain.get("title") or plain["description"])
    return found


def _guess(
    tables: Mapping[str, Table],
    common: Sequence[str],
    field: str,
    candidates: Sequence[str],
    problems: list[str],
) -> str:
    """The one candidate; else a problem that lists the choices."""
    if len(candidates) == 1:
        return candidates[0]
    where = ", ".join(table.where for table in tables.values())
    if candidates:
        problems.append(
            f"{where}: {field}: could be {' or '.join(repr(name) for name in candidates)}; "
            f'say which: {field} = "{candidates[-1]}"'
        )
    elif len(common) == max(len(table.columns) for table in tables.values()):
        said = f"{where}: {field}: no column has a usual name; columns: {', '.join(common)}; tried: "
        said += f"{', '.join(TEXT_NAMES if field.startswith('text') else LABEL_NAMES)}; "
        if (likely := _likely(tables, common, field)) is None:
            return problems.append(f"{said}all hold numbers with a fraction: scores, which are no classes") or ""
        shown = f"--{field.replace('_', '-')} {shlex.quote(likely)}"
        problems.append(f'{said}say which: {field} = "{likely}" (for `ftlib check`: {shown}){_no_header(common)}')
    else:
        listed = "; ".join(f"{table.where}: {', '.join(table.columns)}" for table in tables.values())
        problems.append(f"{field}: the splits share no column of a usual name; columns of {listed}")
    return ""


def _no_header(columns: Sequence[str]) -> str:
    """A hint where the names of columns read as a row of the data."""
    if not any(len(name.split()) > 5 for name in columns):
        return ""
    return "; the first line reads as a row: a file begins with the names of its columns, such as text,label"


def _likely(tables: Mapping[str, Table], common: Sequence[str], field: str) -> str | None:
    """The column that could be meant: for labels the fewest different values, for a text the longest; None: no column
    of labels, since all hold quantities.
    """
    values = {name: [str(value) for table in tables.values() for value in table.column(name)] for name in common}
    if field == "label_column":
        able = [name for name in common if _fraction([value.strip() for value in values[name]]) is None]
        if len(able) < 2 < len(common):  # One is the text.
            return None
        return min(able, key=lambda name: (len(set(values[name])) < 2, len(set(values[name]))))
    return max(common, key=lambda name: sum(map(len, values[name])))


def frame(table: Table, columns: Columns, *, own_ids: bool) -> pd.DataFrame:
    """One split with the columns a Task needs; ids are the file's own, or made from the texts.

    Raises:
        FtlibError: Blank or missing texts, labels or groups, or values of the wrong type; each with its place.
    """
    parts = (columns.text,) if columns.text in table.columns else columns.parts
    texts, problems = _texts(table, parts)
    labels, wrong = label_values(table, columns.label)
    problems += wrong
    data: dict[str, Any] = {"text": texts, "label": labels}
    for name in columns.groups:
        named = [_names(table, part, BLANK_GROUP) for part in crossed(name, table.columns)]
        if len(named) > 1:
            problems += table.told(
                (row, f"group_columns: {name}: {one!r} has a & of its own; write it otherwise")
                for names, _ in named
                for row, one in enumerate(names)
                if " & " in one
            )
        # Names are as many as rows unless some are wrong, and then nothing is returned.
        data[f"group_{name}"] = [_together(row) for row in zip(*(names for names, _ in named), strict=False)]
        problems += [line for _, wrong in named for line in wrong]
    if "cluster" in table.columns and "cluster" not in (*parts, columns.label):
        data["cluster"], wrong = _names(table, "cluster", "")
        problems += wrong
    if problems:
        raise all_of(problems)
    ids = [str(value).strip() for value in table.column("id")] if own_ids else content_ids(texts)
    return pd.DataFrame({"id": ids, **data}, dtype="str")


def crossed(name: str, columns: Sequence[str]) -> list[str]:
    """The columns that a name of groups stands for: "sex & age" for two, unless a column is called so.

    >>> crossed("sex & age", ["sex", "age"]), crossed("R&D", ["R&D"])
    (['sex', 'age'], ['R&D'])
    """
    return [name] if name in columns else [part.strip() for part in name.split("&")]


def group_names(table: Table, column: str) -> list[str]:
    """The groups that a column names, as they stand in a split."""
    return _names(table, column, BLANK_GROUP)[0]


def _together(names: Sequence[str]) -> str:
    """One name for somebody's groups; whoever is nobody's in one of them is nobody's in all.

    >>> _together(["f", "old"]), _together(["f", BLANK_GROUP])
    ('f & old', '(blank)')
    """
    return BLANK_GROUP if BLANK_GROUP in names else " & ".join(names)


def blank_or_not_text(table: Table, name: str, values: Sequence[Any]) -> list[str]:
    """What is wrong with the values of a column of texts, each thing with its places."""
    return table.told(
        (row, f"{name} is {'missing' if value is MISSING else type(value).__name__}, not text")
        if not isinstance(value, str)
        else (row, f"{name} is blank")
        for row, value in enumerate(values)
        if not isinstance(value, str) or not value.strip()
    )


def _texts(table: Table, parts: Sequence[str]) -> tuple[list[str], list[str]]:
    problems: list[tuple[int, str]] = []
    values = [table.column(part) for part in parts]
    texts = []
    for row, found in enumerate(zip(*values, strict=True)):
        wrong = [
            f"{part} is {'missing' if value is MISSING else type(value).__name__}, not text"
            for part, value in zip(parts, found, strict=True)
            if not isinstance(value, str)
        ]
        joined = "" if wrong else joined_text(found)
        if not wrong and not joined.strip():
            wrong = [f"the text ({'+'.join(parts)}) is blank"]
        problems += ((row, one) for one in wrong)
        texts.append(joined)
    return texts, table.told(problems)


def joined_text(parts: Sequence[str]) -> str:
    """Parts one after the other, a full stop between them where a part does not end in a mark of its own.

    >>> joined_text(("Is it?", "Yes", "", "It is.")), joined_text((" as it is ",))
    ('Is it? Yes. It is.', ' as it is ')
    """
    if len(parts) == 1:
        return parts[0]
    said = [part.strip() for part in parts if part.strip()]
    return " ".join([part if part[-1] in ".!?:;" else f"{part}." for part in said[:-1]] + said[-1:])


def _names(table: Table, column: str, blank: str) -> tuple[list[str], list[str]]:
    """A column of names as text; numbers and truth values are written out."""
    names: list[str] = []
    wrong: list[tuple[int, str]] = []
    for row, value in enumerate(table.column(column)):
        if isinstance(value, str | int | float):
            names.append(_label(value) or blank)
            if not names[-1]:
                wrong.append((row, f"{column} is blank"))
            elif blank and _label(value) == blank:
                wrong.append((row, f"{column} is {blank!r}, which stands for nobody's group; leave the cell empty"))
        else:
            wrong.append((row, f"{column} is {'missing' if value is MISSING else type(value).__name__}"))
    return names, table.told(wrong)


MISSING_WORDS = frozenset(
    ("na", "n/a", "#n/a", "nan", "null", "none", "nil", "-", "--", "?", "missing", "not available", "<na>", "undefined")
)
"""What people and programs write, in lower case, where they know nothing."""

MOST_NUMBERS = 20
"""Different numbers that name groups, at most; more are a quantity."""


def group_problems(where: str, name: str, groups: Sequence[str]) -> list[str]:
    """What is wrong with the groups that a column names: two spellings of one, words for nothing, a quantity.

    >>> group_problems("x.csv", "sex", ["f", "F", "m"])
    ["x.csv: group_columns: sex: 'F' (1 row) and 'f' (1 row) differ in case or space only; write the group one way"]
    """
    counts = Counter(groups)
    found = []
    for same in spellings(counts):
        alike = len({" ".join(group.casefold().split()) for group in same}) > 1
        said, how = _counted(same, counts), "in case or space only"
        if alike:
            said, how = _counted(same, counts, ascii), "only in signs that look alike or cannot be seen"
        found.append(f"{said} differ {how}; write the group one way")
    numbers_of: dict[float, list[str]] = {}
    for group in sorted(counts):
        if (value := number(group)) is not None:
            numbers_of.setdefault(value, []).append(group)
    found += [
        f"{_counted(same, counts)} are the same number; write the group one way"
        for same in numbers_of.values()
        if len(same) > 1
    ]
    if missing := [group for group in sorted(counts) if group.casefold() in MISSING_WORDS]:
        found.append(
            f"{_counted(missing, counts)} would be a group of its own and reads as a missing value; leave the cell "
            "empty where nothing is known, or call the group by a full name"
        )
    named = [group for group in counts if group != BLANK_GROUP and group.casefold() not in MISSING_WORDS]
    numbers = sorted((value, group) for group in named if (value := _number(group)) is not None)
    if len(numbers) > MOST_NUMBERS and len(numbers) >= 0.9 * len(named):
        ends = [f"{value:g}" if number(group) == value else group for value, group in (numbers[0], numbers[-1])]
        found.append(
            f"{len(numbers)} different numbers, {ends[0]} to {ends[1]}, in {len(groups)} rows are a "
            'quantity and not groups; write ranges, such as "18 to 29", into a column of their own'
        )
    elif len(groups) >= _FEW_ROWS and len(named) * 2 > len(groups):
        found.append(f"{len(named)} different groups in {len(groups)} rows; name a column with fewer")
    return [f"{where}: group_columns: {name}: {problem}" for problem in found]


def spellings(names: Iterable[str]) -> list[list[str]]:
    r"""Names that are one name but for case, space, width, invisible marks, or how accents are stored.

    >>> [len(same) for same in spellings(["f", "F", "m", "caf\u00e9", "cafe\u0301", "caf\u00e9\u200b"])]
    [2, 3]
    """
    same: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        plain = "".join(c for c in unicodedata.normalize("NFKC", name) if unicodedata.category(c) != "Cf")
        same.setdefault(" ".join(plain.casefold().split()), []).append(name)
    return [found for found in same.values() if len(found) > 1]


def _number(text: str) -> float | None:
    """The number that a text is, in any of the usual spellings, with a unit or a sign of money, or as a date."""
    plain = re.sub(r"^[$€£¥]|\s*([%$€£¥]|years?( old)?|yrs?|yo|months?|kg|cm)$", "", text.strip().casefold())
    if re.fullmatch(r"\d{4}-\d\d?-\d\d?([t ].*)?", plain):
        return float(re.sub(r"\D", "", plain[:10]))
    try:
        return float(plain.replace(",", "." if plain.count(",") == 1 and "." not in plain else ""))
    except ValueError:
        return None


def has_ids(table: Table) -> bool:
    """Whether an `id` column names every row once."""
    if "id" not in table.columns:
        return False
    ids = [str(value).strip() for value in table.column("id") if isinstance(value, str | int)]
    return len(ids) == len(table.lines) == len(set(ids)) and all(ids)


def refuse_empty(groups: Sequence[str]) -> None:
    """Refuse a group column named twice or left blank.

    Raises:
        FtlibError: Some name is blank or repeated.
    """
    if len(set(groups)) < len(groups) or not all(name.strip() for name in groups):
        raise FtlibError(f"group_columns: found {list(groups)}; name each column once")
