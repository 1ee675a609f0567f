"""A study beside the same notebooks executed by papermill, one after another; writes docs/papermill.md.

    python benchmarks/bench_papermill.py [--seeds 8] [--repeats 1] [--out docs]

Three methods on a task of a few short sentences with a model of a few thousand parameters, so that what is measured is
what executing costs. Papermill executes each run's notebook with the same parameters in a kernel of its own, as a loop
over `papermill.execute_notebook` does; ftlib runs the suite, from its file to its report. Either begins with an empty
cache. A busy machine slows both, and takes from ftlib the second core that it would use.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _studies import ROOT, over, processor, write

sys.path.insert(0, str(ROOT / "tests"))

import toy

WANTED = 0.4
METHODS = ("probe", "lora", "full")
STUDY = """
[study]
question = "What does executing cost?"
[plan]
primary = "accuracy"
margin = 0.02
seeds = {seeds}
[defaults]
task = "file:opinions"
model = "tiny"
shots = 8
[[runs]]
method = {methods}
"""
LOOP = """
import json, sys, papermill
for source, target, parameters in json.load(open(sys.argv[1])):
    papermill.execute_notebook(source, target, parameters=parameters, kernel_name="python3", progress_bar=False)
"""


def asked(study, executed):
    """What papermill is given: for each run of the study its notebook, where the executed copy goes, and parameters."""
    from ftlib.execution import notebook_exec, scheduler, worker

    found = []
    for job in scheduler.plan(study).jobs:
        source = notebook_exec.find(job.spec.resolved()["notebook"])
        # Its record goes beside it, so that it does what a run of the study does.
        parameters = worker.notebook_parameters(job.spec, source) | {"run_dir": str(executed / job.spec.run_id)}
        found.append((str(source), str(executed / f"{job.spec.run_id}.ipynb"), parameters))
    return found


def timed(command, cache):
    """Seconds on the clock, and of processors, that a command takes with a cache of its own."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, env=os.environ | {"FTLIB_CACHE": str(cache)}, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return time.perf_counter() - start, used


def main():
    """Both in turns; 1 where ftlib takes more of papermill's time than wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    rows, out = [], options.out.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        toy.write_task(Path("opinions"))
        toy.save_model(Path("tiny"))
        for repeat in range(options.repeats):
            study, executed = folder / f"study{repeat}", folder / f"executed{repeat}"
            study.mkdir()
            executed.mkdir()
            text = STUDY.format(seeds=list(range(options.seeds)), methods=json.dumps(METHODS))
            (study / "suite.toml").write_text(text, encoding="utf-8")
            jobs = asked(study, executed)
            (folder / "asked.json").write_text(json.dumps(jobs), encoding="utf-8")
            loop = [sys.executable, "-c", LOOP, str(folder / "asked.json")]
            theirs = timed(loop, folder / f"cache-papermill{repeat}")
            ours = timed([sys.executable, "-m", "ftlib", "run", str(study)], folder / f"cache-ftlib{repeat}")
            assert len(list(study.glob("runs/*/record.json"))) == len(list(executed.glob("*/record.json"))) == len(jobs)
            rows.append((*theirs, *ours))
            print(f"papermill {theirs[0]:.0f} s ({theirs[1]:.0f} of processors), ftlib {ours[0]:.0f} ({ours[1]:.0f})")
        os.chdir("/")
    shares = [ours / theirs for theirs, _, ours, _ in rows]
    ratio = over(np.log(shares), lambda x: f"{np.exp(x):.2f}", "repetitions")
    lines = [
        "# A study, compared with papermill over the same notebooks",
        "",
        f"Made by `python benchmarks/bench_papermill.py`; {processor()}. {len(jobs)} runs: {', '.join(METHODS)} with "
        f"{options.seeds} seeds each, on a toy task with a toy model.",
        "",
        "| turn | papermill, one after another, s | of processors | ftlib with its report, s | of processors, s |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(f"| {place} | {' | '.join(f'{value:.1f}' for value in row)} |" for place, row in enumerate(rows, 1)),
        "",
        f"ftlib takes {ratio} of papermill's time (wanted: at most {WANTED:g}). What remains goes to notebooks, "
        "each executed in a process of its own that was forked where the imports had been made, and to the report.",
        "",
    ]
    write(out / "papermill.md", "\n".join(lines))
    print("\n".join(lines))
    return float(np.mean(shares)) > WANTED


if __name__ == "__main__":
    sys.exit(main())
