"""Where runs execute. The unit of work is the idempotent command `ftlib run-one RUN_DIR`, so anything can call it.

An engine is a function that starts one run folder and gives back a handle; the loop that watches is the same for all.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ftlib.config.experiment import Experiment
from ftlib.core.errors import FtlibError, unknown
from ftlib.execution.engines.base import Handle, Process, Start
from ftlib.records import provenance

ENGINES = ("local", "dask")


def open_engine(
    name: str, jobs: int, scheduler: str = "", specs: Iterable[Experiment] = ()
) -> AbstractContextManager[Start]:
    """Open an engine: local, or dask by the address of a running scheduler or, without one, with workers started here.

    It is told what is about to run, since many runs are started another way than few.

    Raises:
        FtlibError: No such engine, or the package it needs is not installed.
    """
    if name == "local":
        return local_engine(specs)
    if name != "dask":
        raise unknown("engine", name, ENGINES)
    try:
        from ftlib.execution.engines.dask import engine
    except ImportError as error:
        raise FtlibError(f"engine dask: {error}; run `pip install 'ftlib[dask]'`") from None
    return engine(jobs, scheduler)


@contextmanager
def local_engine(specs: Iterable[Experiment] = ()) -> Iterator[Start]:
    """Runs as processes of this machine.

    Args:
        specs: What is about to run; where there are several of a kind they start warm, and others cold.
    """
    if sys.platform != "linux":
        yield Process
        return
    # Not at the top: it says how a process ends with its parent, which only Linux knows.
    from ftlib.execution.engines import prefork

    left = Counter(prefork.kind(spec) for spec in specs if spec.processes == 1)
    parents = {kind: None for kind, runs in left.items() if runs >= prefork.WORTH_A_PARENT}

    def start(run_dir: Path) -> Handle:
        spec = Experiment(**provenance.request(run_dir)["passed"])
        if spec.processes > 1:
            # Torchrun starts its processes, from nothing.
            return Process(run_dir)
        kind = prefork.kind(spec)
        left[kind] -= 1
        for other, parent in parents.items():
            if parent and left[other] < 1 and parent.idle and other != kind:
                # Its memory is of use to others.
                parent.stop()
        if kind not in parents:
            return Process(run_dir)
        parents[kind] = parents[kind] or prefork.Parent(kind, run_dir.parent)
        return Process(run_dir) if parents[kind].ended else prefork.Fork(parents[kind], run_dir)

    try:
        yield start
    finally:
        for parent in filter(None, parents.values()):
            parent.stop()
