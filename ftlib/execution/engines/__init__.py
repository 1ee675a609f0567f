"""Where runs execute. The unit of work is the idempotent command `ftlib run-one RUN_DIR`, so anything can call it.

An engine is a function that starts one run folder and gives back a handle; the loop that watches is the same for all.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager

from ftlib.config.experiment import Experiment
from ftlib.core.errors import FtlibError, unknown
from ftlib.execution.engines.base import Start

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
        from ftlib.execution.engines.local import engine

        return engine(specs)
    if name != "dask":
        raise unknown("engine", name, ENGINES)
    try:
        from ftlib.execution.engines.dask import engine
    except ImportError as error:
        raise FtlibError(f"engine dask: {error}; run `pip install 'ftlib[dask]'`") from None
    return engine(jobs, scheduler)
