"""Text-to-text tasks from files of the user's: tables of source and target, TMX, and files that are aligned by line.

What to write as `task`: `file:pairs.csv` with the columns source and target (CSV, TSV, JSONL, Parquet, or a folder with
one such file per split); `file:pairs.csv:en>de` where the columns are called en and de; `file:memory.tmx:en>de`;
`file:corpus:en>de` for corpus.en and corpus.de, or for a folder with train.en, train.de, test.en and test.de. Every
refusal names file and line.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import pandas as pd

from ftlib.core.errors import FtlibError, several
from ftlib.data.files import NAMES, Asked, divided, split_files
from ftlib.data.kinds import TEXT_TO_TEXT, directed
from ftlib.data.labels import blank_or_not_text, has_ids
from ftlib.data.tabular import MISSING, SUFFIXES, Table, all_of, content_ids, decoded, known, read_rows
from ftlib.data.task import Task, make_task

PAIR = ("source", "target")
"""What the columns of a table are called where nothing else is said."""

TRANSLATION = "translation"
"""The Hub's column for pairs: an object with a text per language."""

_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


def load(name: str, **asked: Unpack[Asked]) -> Task:
    """Read `file:PATH[:SOURCE>TARGET]`; see the module.

    Args:
        name: "file:" and a path, relative to the working directory.

    Raises:
        FtlibError: The data is missing, ragged or empty, a side is blank, or files of one text differ in their lines.
    """
    bare, direction = directed(name)
    path = Path(bare.removeprefix("file:"))
    tables: dict[str, Table] = {}
    wrong: list[FtlibError] = []
    for split, files in _files(name, path, direction).items():
        try:
            tables[split] = _read(files, direction, asked.get("quoting", ""))
        except FtlibError as error:
            wrong.append(error)
    if wrong:
        raise wrong[0] if len(wrong) == 1 else several([problem for error in wrong for problem in error.problems])
    asked.pop("quoting", None)
    return task_from(name, tables, source=str(path), **asked)


def task_from(
    name: str,
    tables: Mapping[str, Table],
    *,
    source: str,
    licence: str = "not stated",
    stated: Mapping[str, object] | None = None,
    text_column: str = "",
    label_column: str = "",
    label_words: Mapping[str, str] | None = None,
    group_columns: Sequence[str] = (),
) -> Task:
    """Make a task from the rows of its splits, or of the one table "all" that is to be divided."""
    if label_words or group_columns:
        given = " and ".join(
            field for field, v in (("label_words", label_words), ("group_columns", group_columns)) if v
        )
        raise FtlibError(f"{name}: is a task of texts and what to write for them, without labels; leave out {given}")
    own_ids = all(has_ids(table) for table in tables.values())
    frames, problems, read = {}, [], ()
    for split, table in tables.items():
        sides = _sides(table, directed(name)[1], text_column, label_column, problems)
        if sides:
            read = sides[0], sides[2]
            frames[split] = _frame(table, sides, problems, own_ids)
    if problems:
        raise all_of(problems)
    splits, how = divided(next(iter(tables.values())).where, frames)
    said = {"ids": "column id" if own_ids else "hash of both texts", "splits": how, **(stated or {})}
    if direction := directed(name)[1]:
        said["direction"] = " to ".join(direction)
        if read != direction and TRANSLATION not in table.columns and table.unit != "unit":
            said["direction"] += f", read from the columns {' and '.join(read)}"
    for split, table in tables.items():
        said |= {what if len(tables) == 1 else f"{what} ({split})": told for what, told in table.stated.items()}
    return make_task(name, splits, kind=TEXT_TO_TEXT, source=source, licence=licence, stated=said)


def read_terms(path: str) -> list[tuple[str, str]]:
    """The pairs of a list of terms: a table with the columns source and target.

    Raises:
        FtlibError: There are no such columns, or a term is blank.
    """
    table, problems = read_rows(Path(path)), []
    sides = _sides(table, (), "", "", problems)
    if sides:
        problems += [*blank_or_not_text(table, *sides[:2]), *blank_or_not_text(table, *sides[2:])]
    if problems:
        raise all_of(problems)
    return list(dict.fromkeys((one.strip(), other.strip()) for one, other in zip(sides[1], sides[3], strict=True)))


def _files(name: str, path: Path, direction: tuple[str, ...]) -> dict[str, tuple[Path, ...]]:
    """The file of each split, or its two files."""
    if path.is_dir() and not any(_aligned(path, direction).values()):
        if direction or any((path / f"train{ending}").is_file() for ending in SUFFIXES):
            return {split: (file,) for split, file in split_files(path).items()}
        endings = " and ".join(sorted(file.name for file in path.glob("train.*"))[:2])
        raise FtlibError(f"{name}: holds {endings}; say which is the source: file:{path}:SOURCE>TARGET, such as en>de")
    if path.is_dir():
        found = _aligned(path, direction)
        if lacking := [split for split in ("train", "test") if not found[split]]:
            wanted = ", ".join(f"{split}.{side}" for split in lacking for side in direction)
            raise FtlibError(f"{name}: no {' and no '.join(lacking)} files; add {wanted}")
        return {split: files for split, files in found.items() if files}
    if path.is_file():
        return {"all": (path,)}
    pair = tuple(path.with_name(f"{path.name}.{side}") for side in direction)
    if pair and all(file.is_file() for file in pair):
        return {"all": pair}
    also = f", and no {' or '.join(file.name for file in pair)}" if pair else ""
    raise FtlibError(f"file:{path}: no file or folder there{also} (from {Path.cwd()})")


def _aligned(folder: Path, direction: tuple[str, ...]) -> dict[str, tuple[Path, ...]]:
    """Split -> its files of both languages; none where either is lacking."""
    found: dict[str, tuple[Path, ...]] = {}
    for split, stems in NAMES.items():
        pairs = [tuple(folder / f"{stem}.{side}" for side in direction) for stem in stems]
        found[split] = next((pair for pair in pairs if pair and all(file.is_file() for file in pair)), ())
    return found


def _read(files: tuple[Path, ...], direction: tuple[str, ...], quoting: str) -> Table:
    if len(files) == 2:
        return _lines_of(*files, direction)
    (file,) = files
    return _tmx(file, direction) if file.suffix.lower() == ".tmx" else read_rows(file, quoting=quoting)


def _lines_of(source: Path, target: Path, direction: tuple[str, ...]) -> Table:
    """Two files, a segment a line."""
    sides = [_segments(file) for file in (source, target)]
    if len(sides[0]) != len(sides[1]):
        raise FtlibError(
            f"{source.name} has {len(sides[0])} lines and {target.name} {len(sides[1])}: line n of one is the "
            "translation of line n of the other, so both have as many; look for a line that was lost or split"
        )
    columns = dict(zip(direction, sides, strict=True))
    where = f"{source.name} and {target.name}"
    return Table(where, "line", range(1, len(sides[0]) + 1), direction, lambda name: list(columns[name]))


def _segments(path: Path) -> list[str]:
    # Not splitlines(): U+2028 and a form feed may stand inside a segment.
    lines = decoded(path, path.name).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _tmx(path: Path, direction: tuple[str, ...]) -> Table:
    """The translation units of a TMX file (version 1.4b), of which each language's plain text is read."""
    try:
        content = path.read_bytes()
        # A file may grow without bounds by what it declares; in UTF-16 every other byte is 0.
        if b"<!ENTITY" in content.replace(b"\0", b""):
            raise FtlibError(f"{path.name}: declares XML entities, which are not read; write the characters themselves")
        root = ElementTree.fromstring(content)
    except OSError as error:
        raise FtlibError(f"{path.name}: cannot be read: {error.strerror}") from None
    except ElementTree.ParseError as error:
        raise FtlibError(f"{path.name} line {error.position[0]}: not XML: {error}") from None
    units = [
        {_lang(side): "".join(found.itertext()) for side in unit.iter("tuv") if (found := side.find("seg")) is not None}
        for unit in root.iter("tu")
    ]
    languages = list(dict.fromkeys(language for unit in units for language in unit))
    if not direction:
        header = root.find("header")
        first = "" if header is None else (header.get("srclang") or "").lower()
        others = [language for language in languages if language != first]
        if first not in languages or len(others) != 1:
            raise FtlibError(
                f"{path.name}: has the languages {', '.join(languages) or 'none'}; say which is written from which: "
                f"file:{path}:SOURCE>TARGET"
            )
        direction = (first, others[0])
    chosen = [_language(path, side, languages) for side in direction]
    kept = [(place, unit) for place, unit in enumerate(units, 1) if all(side in unit for side in chosen)]
    if not kept:
        raise FtlibError(f"{path.name}: no unit has both {' and '.join(chosen)}")
    columns = {side: [unit[one] for _, unit in kept] for side, one in zip(PAIR, chosen, strict=True)}
    stated = {"languages": " to ".join(chosen)}
    if left_out := len(units) - len(kept):
        stated["left out"] = f"{left_out} of {len(units)} units, which lack one of these languages"
    return Table(path.name, "unit", [place for place, _ in kept], PAIR, lambda name: list(columns[name]), stated=stated)


def _lang(variant: ElementTree.Element) -> str:
    return (variant.get(_LANGUAGE) or variant.get("lang") or "").lower()


def _language(path: Path, side: str, languages: Sequence[str]) -> str:
    """A file's own name of a language: itself, or the one with a country, where there is one such."""
    wanted = side.lower()
    found = [one for one in languages if one == wanted] or [one for one in languages if one.split("-")[0] == wanted]
    if len(found) != 1:
        raise FtlibError(f"{path.name}: no one language {side!r}; it has {', '.join(languages) or 'none'}")
    return found[0]


Sides = tuple[str, Sequence[Any], str, Sequence[Any]]


def _sides(
    table: Table, direction: tuple[str, ...], text_column: str, label_column: str, problems: list[str]
) -> Sides | None:
    """Name and values of the source, name and values of the target."""
    if TRANSLATION in table.columns and direction:
        pairs = [value if isinstance(value, dict) else {} for value in table.column(TRANSLATION)]
        one, other = ([known(pair.get(side)) for pair in pairs] for side in direction)
        return direction[0], one, direction[1], other
    # A direction names columns where a table has such; TMX and aligned files have sides called source and target.
    named = set(direction) & set(table.columns) or not set(PAIR) <= set(table.columns)
    usual = direction if direction and named else PAIR
    chosen = (text_column or usual[0], label_column or usual[1])
    if lacking := [name for name in chosen if name not in table.columns]:
        problems.append(
            f"{table.where}: no column {' and no column '.join(map(repr, lacking))}; columns: "
            f"{', '.join(table.columns)}; name them source and target, or say which they are: SOURCE>TARGET behind the "
            "name (file:pairs.csv:en>de), or text_column and label_column"
        )
        return None
    if chosen[0] == chosen[1]:
        problems.append(f"{table.where}: {chosen[0]!r} is both the source and the target column")
        return None
    return chosen[0], table.column(chosen[0]), chosen[1], table.column(chosen[1])


def _frame(table: Table, sides: Sides, problems: list[str], own_ids: bool) -> pd.DataFrame:
    source, texts, target, references = sides
    if lists := [row for row, value in enumerate(references) if isinstance(value, list | tuple)]:
        problems.append(
            f"{table.at(lists[0])}: {target} is a list of {len(references[lists[0]])} texts (in {len(lists)} of "
            f"{len(references)} rows); a row has one reference, which is a text: write one row per reference"
        )
        return pd.DataFrame()
    said = [*blank_or_not_text(table, source, texts), *blank_or_not_text(table, target, references)]
    if said:
        problems += said
        return pd.DataFrame()
    pairs = [f"{one}\x1f{other}" for one, other in zip(texts, references, strict=True)]
    ids = [str(value).strip() for value in table.column("id")] if own_ids else content_ids(pairs)
    data: dict[str, Any] = {"id": ids, "text": list(texts), "label": list(references)}
    if "cluster" in table.columns and not any(value is MISSING for value in table.column("cluster")):
        data["cluster"] = list(map(str, table.column("cluster")))
    return pd.DataFrame(data, dtype="str")
