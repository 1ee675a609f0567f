"""Files written in one step, and arrays kept in the user's cache folder with the seconds they took."""

import json
import os
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs

from ftlib.core.surroundings import in_words

_saved = 0.0


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Have `write` fill a temporary file beside `path`, force it to disk and put it in place in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN is refused, since JSON has none."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def cache_folder() -> Path:
    """The user's cache folder for ftlib; the environment variable FTLIB_CACHE names another."""
    return Path(os.environ.get("FTLIB_CACHE") or platformdirs.user_cache_dir("ftlib", appauthor=False))


def keep(path: Path, write: Callable[[Path], None]) -> None:
    """Put a file into the cache as `write_atomically` does; a cache that cannot be written is done without."""
    try:
        write_atomically(path, write)
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
    """Seconds this process has been spared by the cache so far.

    A run's cost is what its work takes, not what was left to do: it counts the seconds spent and the seconds spared.
    """
    return _saved


def remembered(kind: str, key: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The array of that key: from the cache, or computed and put there.

    Args:
        key: Names the array; must change with everything its values depend on.
    """
    global _saved
    path = cache_folder() / kind / f"{key}.npy"
    timing = path.with_suffix(".json")
    try:
        seconds, array = json.loads(timing.read_text(encoding="utf-8"))["seconds"], np.load(path, allow_pickle=False)
        _saved += seconds
        return array
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        _done_without(path, f"it cannot be read ({error}) and is computed again")
    start = time.perf_counter()
    array = compute()
    keep_json(timing, {"seconds": time.perf_counter() - start})

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)

    keep(path, save)
    return array
