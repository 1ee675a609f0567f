"""What surrounds this process: a container's limits, folders that can be written, where sockets can lie.

Asked of the process's own surroundings and not of the machine: a container, a scheduler or a shell may give it less.
"""

import errno
import importlib.util
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

ROOT = Path("/")
"""Below it lie `proc/self/cgroup` and `sys/fs/cgroup`."""

UNLIMITED = 2**60
"""Bytes from which on a limit says that there is none: cgroup v1 writes the largest whole pages of 63 bits."""

SOCKET_PATH = 103 if sys.platform == "darwin" else 107
"""Bytes of a socket's path at most: `sun_path` of sockaddr_un, less its end (unix(7))."""

LEAST_FREE = 50 * 10**6
"""Bytes on the study's disk without which nothing is started."""


class Memory(NamedTuple):
    """Main memory that this process may use, in bytes."""

    total: int
    available: int
    of: str
    """Whose it is, in words."""


def memory(root: Path | None = None) -> Memory:
    """The machine's memory, or what a container or the shell leaves of it where that is less."""
    machine = psutil.virtual_memory()
    total, available, of = machine.total, machine.available, "this machine's memory"
    for folder, names in _groups("memory", root):
        limit = _number(folder / names[0])
        if limit is None or limit >= UNLIMITED:
            continue
        # What was read from files and not looked at since is given back when somebody needs the room.
        held = max(0, (_number(folder / names[1]) or 0) - _reclaimable(folder))
        available = min(available, max(0, limit - held))
        if limit < total:
            total, of = limit, CONTAINER
    if limit := _shell_limit():
        available = min(available, limit)
        if limit < total:
            total, of = limit, "the memory limit of this shell (ulimit -v)"
    return Memory(total, available, of)


CONTAINER = "the memory limit of this container"


def cores(root: Path | None = None) -> int:
    """Processor cores that this process may use: by its affinity, a container's quota, and SLURM; at least 1."""
    found = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    for folder, (quota, period) in _groups("cpu", root):
        if period:
            allowed, each = _number(folder / quota), _number(folder / period)
        else:
            # One file of cgroup v2 holds both.
            words = [*_text(folder / quota).split(), "", ""]
            allowed, each = (int(word) if word.isdigit() else None for word in words[:2])
        if allowed and each and allowed > 0:
            found.append(allowed // each)
    asked = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return max(1, min([*found, int(asked)] if asked.isdigit() else found))


MOST_THREADS = 8
"""A bound that was chosen, not measured: the products of a batch are small, and this was made on two cores."""


def threads_alone() -> int:
    """Threads for what runs by itself: its physical cores, up to `MOST_THREADS`, and no more than OMP_NUM_THREADS."""
    found = [cores(), psutil.cpu_count(logical=False) or MOST_THREADS, MOST_THREADS]
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min([*found, int(asked)] if asked.isdigit() else found))


def _groups(kind: str, root: Path | None) -> Iterator[tuple[Path, tuple[str, str]]]:
    """This process's control group and its parents, with the names of the files that hold limit and use, or quota and
    period: of version 2, then of version 1 (docs.kernel.org/admin-guide/cgroup-v2.html, cgroup-v1/memory.html).
    """
    root = ROOT if root is None else root
    files = {
        "memory": (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")),
        "cpu": (("cpu.max", ""), ("cpu.cfs_quota_us", "cpu.cfs_period_us")),
    }[kind]
    own = {"": "/", kind: "/"}
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, kinds, path = [*line.split(":", 2), "", ""][:3]
        own |= {one: path for one in kinds.split(",") if one in own}
    base = root / "sys/fs/cgroup"
    places = [(base, own[""], files[0]), (base / "unified", own[""], files[0])]
    places += [(base / name, own[kind], files[1]) for name in (kind, f"{kind},cpuacct", f"cpuacct,{kind}")]
    for top, path, names in places:
        # Inside a container the path may be the machine's, of which only the container's own part is there.
        inside = top / path.strip("/")
        for folder in (inside, *inside.parents):
            if (folder / names[0]).is_file():
                yield folder, names
            if folder == top:
                break


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    """The whole number in a file; None where there is none, such as "max"."""
    said = _text(path).strip()
    return int(said) if said.lstrip("-").isdigit() else None


def _reclaimable(folder: Path) -> int:
    counts = dict(line.split() for line in _text(folder / "memory.stat").splitlines() if len(line.split()) == 2)
    return int(counts.get("total_inactive_file", counts.get("inactive_file", 0)))


def _shell_limit() -> int:
    if sys.platform == "win32":
        return 0
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return 0 if limit == resource.RLIM_INFINITY else limit


def socket_folder() -> str | None:
    """A folder whose name is short enough for a kernel's sockets; None: there is none, and TCP has to do."""
    # What is made in it: a folder "ftlib-" with 8 letters, and in that "k-5".
    room = SOCKET_PATH - len("/ftlib-12345678/k-5")
    for place in (tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm", "/tmp"):
        if place and len(os.fsencode(place)) <= room and os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK):
            return place
    return None


def study_problems(study: Path) -> list[str]:
    """Why a study's folder cannot take what its runs leave, in words."""
    study = study.resolve()
    for path in (study, study / "runs"):
        if path.is_dir() and not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            return [
                f"{path}: this folder cannot be written by you; copy the study (cp -r {study} NAME) and run the copy, "
                "or ask its owner"
            ]
    closed = [path for path in (study / ".lock", *study.glob("runs/*")) if path.exists() and not _open(path)]
    if closed:
        more = f" and {len(closed) - 1} more" if len(closed) > 1 else ""
        return [f"{closed[0]}{more}: cannot be written by you, but belongs to somebody else; copy the study (cp -r)"]
    if study.is_dir() and (free := shutil.disk_usage(study).free) < LEAST_FREE:
        return [f"{study}: {free / 1e6:.0f} MB are free on its disk, and runs need {LEAST_FREE / 1e6:.0f}; free some"]
    return []


def _open(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0))


GONE_WITHIN = 5.0
"""Seconds in which a kernel that was told to end no longer makes files."""


def remove_sockets(folder: str | Path) -> None:
    """Remove the folder of a kernel that ends: anew if that, just starting, put a socket there meanwhile."""
    until = time.monotonic() + GONE_WITHIN
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder) or time.monotonic() > until:
            return
        time.sleep(0.05)


def cache_caution(cache: Path) -> str:
    """Why nothing can be kept in the cache folder, which is done without; empty where it can."""
    near = next(place for place in (cache, *cache.parents) if place.exists())
    if near.is_dir() and os.access(near, os.W_OK | os.X_OK):
        return ""
    return (
        f"the cache {cache} cannot be written by you and is done without: every run computes again what others have; "
        "FTLIB_CACHE names another folder"
    )


def bytecode_caution(name: str = "transformers") -> str:
    """Why every process compiles what it imports anew; empty where none does, or only the first.

    Args:
        name: A package that stands for all; installed with them, and imported as often.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.cached is None or (kept := Path(spec.cached)).exists():
        return ""
    near = next(place for place in kept.parents if place.exists())
    if sys.dont_write_bytecode:
        why = "PYTHONDONTWRITEBYTECODE is set"
    elif not os.access(near, os.W_OK | os.X_OK):
        why = f"{near} cannot be written by you"
    else:
        return ""
    packages = Path(spec.origin or near).parents[1]
    return (
        f"every process compiles the packages that it imports anew, which takes it seconds: {why}; "
        f"`{sys.executable} -m compileall -q {packages}` does it once for all, by whoever may write there"
    )


def in_words(error: OSError) -> str:
    """What the file system refused, with the path and a way out."""
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"{where}cannot be read or written by you ({error.strerror}); ask its owner, or copy the folder (cp -r) "
            "and work on the copy"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}{error.strerror}; free some space, or have TMPDIR and FTLIB_CACHE name folders on another disk"
    if error.errno == errno.ENOENT:
        return f"{where}is not there, or not any more; look at the path, and whether somebody removed it"
    if error.strerror:
        return f"{where}{error.strerror}"
    return " ".join(f"{type(error).__name__}: {error}".split())
