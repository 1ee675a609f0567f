"""Trials of runs before a study: each in the process that such a run would have, its answer kept.

A trial is a folder that `ftlib run-one` executes, as it executes a run's: on Linux forked from a warm parent where the
study's runs will be, with a kernel of its own, so that its memory is counted as theirs is. Where the process dies, that
is the answer.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from ftlib.config.experiment import Experiment, digest
from ftlib.config.methods import METHODS
from ftlib.core.atomic import cache_folder, write_json
from ftlib.core.errors import FtlibError
from ftlib.data.task import Task
from ftlib.execution import notebook_exec, worker
from ftlib.execution.engines.base import Handle
from ftlib.execution.engines.local import engine
from ftlib.execution.planning import forecast
from ftlib.models import weights
from ftlib.records import provenance

VERSION = 2
"""Of what a trial does and says; another one does not read what this one kept."""


class Trial(NamedTuple):
    """One trial: runs that differ in seed, examples and steps only."""

    specs: tuple[Experiment, ...]
    task: Task

    @property
    def variants(self) -> list[Experiment]:
        """One run of each number of examples and steps."""
        return list({forecast.variant(spec): spec for spec in reversed(self.specs)}.values())[::-1]

    def key(self, at_once: int) -> str:
        """What its answer depends on; trials that go on at once slow each other, as runs do."""
        spec = self.specs[0]
        model = weights.find(spec.model).sha256 if METHODS[spec.method].model else ""
        asked = [variant.resolved() for variant in self.variants]
        machine = [provenance.device_name("cpu"), os.cpu_count(), provenance.versions()]
        return digest([VERSION, asked, model, self.task.sha256, machine, at_once])[:32]


def answers(
    trials: Sequence[Trial],
    study: Sequence[Experiment],
    at_once: int,
    show: Callable[[int, int, Sequence[str], float | None], None],
) -> list[dict[str, Any]]:
    """What each trial found: as `ftlib.execution.planning.dry_run.run_trial` says, with the seconds that starting took;
    or why there is nothing, as `failed`.

    Args:
        trials: What to try.
        study: Every run that is to follow: many of a kind start another way than one.
        at_once: Trials at a time.
        show: Told how many are done, of how many, what is tried now, and the seconds that are left, if known.
    """
    kept = [cache_folder() / "forecasts" / f"{trial.key(at_once)}.json" for trial in trials]
    waiting = [i for i in range(len(trials)) if not kept[i].exists()]
    found = {i: json.loads(kept[i].read_text(encoding="utf-8")) for i in range(len(trials)) if i not in waiting}
    total, began, running = len(waiting), time.monotonic(), {}
    with tempfile.TemporaryDirectory(prefix="ftlib-") as folder, engine(study) as start:
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    i = waiting.pop(0)
                    path = _prepared(Path(folder) / "runs" / str(i), trials[i])
                    running[i] = start(path), path
                for i in [i for i, (handle, _) in running.items() if handle.poll() is not None]:
                    handle, path = running.pop(i)
                    found[i] = _read(path, handle.poll())
                    if "failed" not in found[i]:
                        write_json(kept[i], found[i])
                done = total - len(waiting) - len(running)
                left = (time.monotonic() - began) / done * (total - done) if done else None
                show(done, total, [_name(trials[i].specs[0]) for i in running], left)
                time.sleep(0.02)
        finally:
            for handle, _ in running.values():
                _stop(handle)
    return [found[i] for i in range(len(trials))]


def _stop(handle: Handle) -> None:
    if handle.poll() is None:
        handle.stop()


def _name(spec: Experiment) -> str:
    return f"{spec.task} {spec.method}"


def _prepared(folder: Path, trial: Trial) -> Path:
    spec = trial.specs[0]
    write_json(folder / "spec.json", {"run_id": spec.run_id, "passed": spec.passed()})
    write_json(folder / "probe.json", {"variants": [variant.passed() for variant in trial.variants]})
    return folder


def _read(folder: Path, code: int | None) -> dict[str, Any]:
    path = folder / "answer.json"
    if not path.exists():
        return {"failed": f"the trial ended with code {code} and no answer (out of memory?)", "died": True}
    found = json.loads(path.read_text(encoding="utf-8"))
    if "failed" in found:
        return found
    took = json.loads((folder / "took.json").read_text(encoding="utf-8"))["seconds"]
    return found | {"start_seconds": max(0.0, took - found["inside_seconds"])}


def execute(folder: Path) -> bool:
    """Carry out the trial that a folder holds, in this process and its kernel; whether it has an answer.

    What goes wrong is the answer: an error in words, or a kernel that died.
    """
    import nbformat

    spec = Experiment(**provenance.request(folder)["passed"])
    worker.follow_parent()
    os.environ |= worker.thread_variables(spec.threads)
    cells = ['folder: str = ""', "from ftlib.execution.planning import dry_run\n\ndry_run.answer(folder)"]
    if METHODS[spec.method].trains:
        # What its notebook draws counts in what the run takes.
        drawn = 'ft.picture(lines.curves, [("trial", [1, 2], [1.0, 1.0])])'
        cells.append(f"import ftlib as ft\nfrom ftlib.report.plots import lines\n\n{drawn}")
    python = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": python})
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in cells]
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, folder / "trial.ipynb")
    try:
        notebook_exec.execute(folder / "trial.ipynb", folder / "notebook.ipynb", {"folder": str(folder.resolve())})
    except Exception as error:
        # Whatever it is, the run itself would meet it, and the person who plans should know.
        name = getattr(error, "ename", type(error).__name__)
        said = " ".join((getattr(error, "evalue", str(error)) or name).split())[:500]
        died = name == "DeadKernelError" or worker.ran_out(name, said)
        reason = said if name in ("FtlibError", "Diverged") else f"{name}: {said}"
        write_json(folder / "answer.json", {"failed": reason, "died": died})
        return False
    # From the first moment of this process: what a warm parent imports is not a run's.
    write_json(folder / "took.json", {"seconds": time.time() - psutil.Process().create_time()})
    return True


def main(run_dir: str | Path) -> int:
    """Carry out what a run's folder asks for, a trial or the run, and return the exit code of the process."""
    try:
        if (Path(run_dir) / "probe.json").exists():
            return 0 if execute(Path(run_dir)) else 1
        record = worker.run_one(run_dir)
    except FtlibError as error:
        print(f"ftlib: {error}", file=sys.stderr)
        return 2
    if record is None:
        # One of several processes of a run, and not the one that speaks for them.
        return 0
    print(f"{record.status}: {record.run_id}" + (f": {record.reason}" if record.reason else ""))
    return 0 if record.status == "ok" else 1
