"""Files written in one step, and what is kept in the user's cache folder, each with the seconds it took.

Every name in the cache is a hash of all that its content depends on, so nothing in it is ever out of date. A file is
put there in one step: runs that work at the same time, or are killed, leave whole files or none. What has not been read
for longest goes first.
"""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import platformdirs

from ftlib.core.errors import FtlibError
from ftlib.core.surroundings import in_words

_saved = 0.0


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Have `write` fill a temporary file beside `path`, force it to disk and put it in place in one step.

    Raises:
        FtlibError: There is a folder of that name.
    """
    if path.is_dir():
        raise FtlibError(f"{path}: is a folder; name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(folder: Path, named: str) -> None:
    """Make a folder, and refuse one in which nothing can be written, before anything is computed for it.

    Raises:
        FtlibError: Nothing can be written there; `named` says what was asked for.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise FtlibError(f"{named}: cannot be written there ({error.strerror}); name another place") from None


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN is refused, since JSON has none."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def cache_folder() -> Path:
    """The user's cache folder for ftlib; the environment variable FTLIB_CACHE names another."""
    return Path(os.environ.get("FTLIB_CACHE") or platformdirs.user_cache_dir("ftlib", appauthor=False))


LIMIT = 4 * 10**9
"""Bytes that the cache may hold."""

UNREAD = 90 * 24 * 3600
"""Seconds after which what nobody has read is removed."""

_NAME = re.compile(r"\.?(.+-)?[0-9a-f]{16,64}(\.names)?\.(json|jsonl|npy)(\.\d+\.tmp)?")
"""What ftlib keeps is called so; whatever else lies in the folder is somebody's and stays."""


def cached_files() -> Iterator[Path]:
    """Every file that ftlib has put into the cache."""
    folder = cache_folder()
    found = (*folder.glob("*/*"), *folder.glob("*/*/*")) if folder.is_dir() else ()
    return (path for path in found if path.is_file() and _NAME.fullmatch(path.name))


def clear_cache(most: float = 0, age: float = 0) -> tuple[int, int]:
    """Remove what was not read for longest, until no more is left than that; by default, everything.

    Args:
        most: Bytes that may stay.
        age: Seconds; what was read since may stay.

    Returns:
        Files and bytes that were removed.
    """
    known, now, files, freed = [], time.time(), 0, 0
    for path in cached_files():
        try:
            found = path.stat()
        except FileNotFoundError:
            # Another process has removed it.
            continue
        # A day after a run was killed nobody writes its files on.
        known.append((0 if path.suffix == ".tmp" and now - found.st_mtime > 24 * 3600 else found.st_mtime, path, found))
    left = sum(found.st_size for _, _, found in known)
    for read, path, found in sorted(known, key=lambda one: one[0]):
        if left <= most and now - read < age:
            break
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        except PermissionError as error:
            # Windows does not let go of what another process reads.
            _done_without(path, in_words(error))
            continue
        files, freed, left = files + 1, freed + found.st_size, left - found.st_size
    return files, freed


def keep(path: Path, write: Callable[[Path], None]) -> None:
    """Put a file into the cache as `write_atomically` does; a cache that cannot be written is done without."""
    try:
        write_atomically(path, write)
        clear_cache(LIMIT, UNREAD)
    except OSError as error:
        _done_without(path.parent, in_words(error))


def keep_json(path: Path, value: Any) -> None:
    """Put JSON into the cache, as `keep` does."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    keep(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def kept_json(path: Path) -> Any:
    """What `keep_json` has put there; None where there is nothing, or nothing that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        _done_without(path, f"it cannot be read ({error})")
        return None


@cache
def _done_without(folder: Path, why: str) -> None:
    """Say so, once in a process."""
    print(f"ftlib: {folder} in the cache is done without: {why}", file=sys.stderr)


def saved_seconds() -> float:
    """Seconds this process has been spared by the cache so far."""
    return _saved


def clock() -> float:
    """Seconds, those included that the cache has spared: a cost is what the work takes, not what was left to do."""
    return time.perf_counter() + _saved


def remembered(kind: str, key: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The array of that key: from the cache, or computed and put there.

    Args:
        key: Names the array; must change with everything its values depend on.
    """
    global _saved
    path = cache_folder() / kind / f"{key}.npy"
    timing = path.with_suffix(".json")
    if (found := _kept_array(path)) is not None and isinstance(said := kept_json(timing), dict):
        _saved += said.get("seconds", 0.0)
        _read(path, timing)
        return found
    start = clock()
    array = compute()
    keep_json(timing, {"seconds": clock() - start})
    _keep_array(path, array)
    return array


_ROW = np.dtype([("name", "S32"), ("seconds", "<f8")])
"""How a row is called, and the seconds it took."""


def remembered_rows(
    kind: str, key: str, names: Sequence[str], compute: Callable[[list[int]], tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """One row for every name: from the cache, whoever put it there, or computed and put there.

    A sample of examples so takes its rows from what other samples have computed.

    Args:
        kind: The folder within the cache.
        key: Names all that a row's values depend on, but what is said of each by its name.
        names: 32 hexadecimal digits each.
        compute: Places in `names` -> (their rows, the seconds each of them took).

    Returns:
        (n_names, width).
    """
    global _saved
    folder, places = cache_folder() / kind / key, {}
    for place, name in enumerate(names):
        places.setdefault(name.encode(), []).append(place)
    table, missing = None, set(places)
    for listed in sorted(folder.glob("*.names.npy")) if folder.is_dir() else ():
        path = listed.with_name(listed.name.replace(".names", ""))
        if not missing or (rows := _kept_array(listed)) is None or (values := _kept_array(path)) is None:
            continue
        for row, (name, seconds) in enumerate(rows.tolist()):
            if name in missing:
                table = np.zeros((len(names), values.shape[1]), values.dtype) if table is None else table
                table[places[name]] = values[row]
                _saved += seconds
                missing.discard(name)
        _read(listed, path)
    if missing:
        todo = sorted(places[name][0] for name in missing)
        start = clock()
        values, seconds = compute(todo)
        # What belongs to no row, such as loading a model, is borne by all.
        seconds = seconds * ((clock() - start) / max(seconds.sum(), 1e-9))
        table = np.zeros((len(names), values.shape[1]), values.dtype) if table is None else table
        for place, value in zip(todo, values, strict=True):
            table[places[names[place].encode()]] = value
        rows = np.array([(names[place].encode(), took) for place, took in zip(todo, seconds, strict=True)], _ROW)
        path = folder / f"{hashlib.sha256(rows['name'].tobytes()).hexdigest()[:32]}.npy"
        _keep_array(path, values)
        # Last: rows without names are not there.
        _keep_array(path.with_suffix(".names.npy"), rows)
    return np.zeros((0, 0)) if table is None else table


def _kept_array(path: Path) -> np.ndarray | None:
    try:
        return np.load(path, allow_pickle=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, EOFError) as error:
        _done_without(path, f"it cannot be read ({error}) and is computed again")
        return None


def _keep_array(path: Path, array: np.ndarray) -> None:
    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)

    keep(path, save)


def _read(*paths: Path) -> None:
    """Note that they were read now."""
    for path in paths:
        # Another process may have removed it, and a cache that is only read keeps no time.
        with suppress(OSError):
            os.utime(path)
