"""What a run costs beyond its work, started cold and warm: `python benchmarks/bench_run_start.py [RUNS]`."""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import toy

from ftlib import records
from ftlib.execution import engines, scheduler
from ftlib.execution.engines import base

STUDY = """
[study]
question = "What does starting cost?"
[plan]
seeds = {seeds}
[defaults]
task = "file:opinions"
model = "tiny"
[[runs]]
method = "{method}"
shots = 8
"""


def seconds() -> tuple[float, float]:
    """On the clock, and of processor time in all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter(), used.ru_utime + used.ru_stime


def measured(method: str, runs: int, warm: bool) -> tuple[float, float]:
    """Seconds and processor seconds per run of a fresh study, one run at a time."""
    name = f"{method}-{'warm' if warm else 'cold'}"
    folder = Path("reports") / name
    folder.mkdir(parents=True)
    (folder / "suite.toml").write_text(STUDY.format(method=method, seeds=list(range(runs))), encoding="utf-8")
    planned = scheduler.plan(folder)
    jobs = [job for job in planned.jobs if job.spec.method == method and job.spec.shots]
    for job in jobs:
        scheduler.prepare_folder(job, planned)
    start = seconds()
    with engines.open_engine("local", 1, "", [job.spec for job in jobs] if warm else ()) as begin:
        base.execute([job.run_dir for job in jobs], 1, begin, lambda states: None)
    spent = [(after - before) / len(jobs) for before, after in zip(start, seconds(), strict=True)]
    assert len(jobs) == runs and all(records.read_record(job.run_dir).status == "ok" for job in jobs)
    return spent[0], spent[1]


if __name__ == "__main__":
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["FTLIB_CACHE"] = str(Path(folder) / "cache")
        toy.write_task(Path("opinions"))
        toy.save_model(Path("tiny"))
        for method in ("tfidf", "probe", "lora"):
            cold, warm = measured(method, runs, warm=False), measured(method, runs, warm=True)
            said = [f"{start} {one[0]:5.2f} s ({one[1]:5.2f} s CPU)" for start, one in (("cold", cold), ("warm", warm))]
            print(f"{method:6} {runs} runs, per run: {', '.join(said)}; {cold[0] / warm[0]:.1f} x", flush=True)
        os.chdir("/")
