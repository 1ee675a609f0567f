"""What ftlib computed once and keeps in the user's cache folder, with the seconds it took."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import platformdirs

from ftlib.records import write_atomically, write_json

_saved = 0.0


def cache_folder() -> Path:
    """The user's cache folder for ftlib; the environment variable FTLIB_CACHE names another."""
    return Path(os.environ.get("FTLIB_CACHE") or platformdirs.user_cache_dir("ftlib", appauthor=False))


def saved_seconds() -> float:
    """Seconds this process has been spared by the cache so far.

    A run's cost is what its work takes, not what was left to do: it counts the seconds spent and the seconds spared.
    """
    return _saved


def remembered(kind: str, key: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The array of that key: from the cache, or computed and put there.

    Args:
        kind: Subfolder of the cache.
        key: Names the array; must change with everything its values depend on.
        compute: Makes the array.
    """
    global _saved
    path = cache_folder() / kind / f"{key}.npy"
    timing = path.with_suffix(".json")
    if path.exists() and timing.exists():
        _saved += json.loads(timing.read_text(encoding="utf-8"))["seconds"]
        return np.load(path, allow_pickle=False)
    start = time.perf_counter()
    array = compute()
    write_json(timing, {"seconds": time.perf_counter() - start})

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)

    write_atomically(path, save)
    return array
