"""Runs on a Dask cluster: this machine, SSH, SLURM or Kubernetes by the same code. All share the study's folder."""

import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
import distributed

from ftlib.core.errors import FtlibError
from ftlib.execution.engines.base import Process, Start


def work(run_dir: str, cwd: str) -> int:
    """On a worker: run the folder in a process of its own, and end it when the scheduler no longer wants it."""
    os.chdir(cwd)
    stop = Path(run_dir) / "stop"
    if stop.exists():
        # It was given up while it waited for this worker.
        return -9
    process = Process(Path(run_dir))
    try:
        while (code := process.poll()) is None and not stop.exists():
            time.sleep(0.3)
    finally:
        process.stop()
    return -9 if code is None else code


class Task:
    """One run on the cluster."""

    def __init__(self, client: distributed.Client, run_dir: Path) -> None:
        self.stop_file = run_dir / "stop"
        self.stop_file.unlink(missing_ok=True)
        # The worker opens it when it begins; one of an earlier try says nothing.
        self.log = run_dir / "log.txt"
        self.log.unlink(missing_ok=True)
        # Not pure: the same folder may have to run again. No retries: a run that ended badly is recorded as such.
        self.future = client.submit(work, str(run_dir.resolve()), os.getcwd(), pure=False, retries=0)

    def poll(self) -> int | None:
        """Its exit code, None while it waits or runs; -1 when its worker was lost."""
        if not self.future.done():
            return None
        return self.future.result() if self.future.status == "finished" else -1

    def waits(self) -> bool:
        """Whether no worker has begun it."""
        return not self.log.exists()

    def stop(self) -> None:
        """Ask the worker to end it, and wait until it has."""
        self.stop_file.touch()
        # One that still waits for a worker, or ends slowly, is no reason to end the study.
        with contextlib.suppress(TimeoutError):
            distributed.wait(self.future, timeout=60)
            self.stop_file.unlink(missing_ok=True)


@contextmanager
def engine(jobs: int, scheduler: str = "") -> Iterator[Start]:
    """Connect to a scheduler, or start workers here.

    Args:
        jobs: Workers to start, where there is no scheduler.
        scheduler: Address such as tcp://host:8786.

    Raises:
        FtlibError: Nobody answers at that address.
    """
    # A task that kills its worker would otherwise be tried on three more.
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        try:
            client = (
                distributed.Client(scheduler, timeout=10)
                if scheduler
                else distributed.Client(n_workers=jobs, threads_per_worker=1, dashboard_address=None)
            )
        except (OSError, TimeoutError) as error:
            raise FtlibError(f"--scheduler {scheduler}: no Dask scheduler answers there ({error})") from None
        with client:
            yield lambda run_dir: Task(client, run_dir)
