"""Every notebook at its default settings, top to bottom: seconds, peak memory, figures, warnings, its last output.

Each runs in a copy of this checkout's notebooks and recorded studies, one after another, on all cores. The document
names what a notebook itself says of its time and memory, so that the two can be compared.

Run: python benchmarks/bench_notebooks.py [NAMES...] (about 20 minutes for all); it writes docs/notebooks.md.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from _studies import ROOT, processor

OUT = ROOT / "docs" / "notebooks.md"
KEPT = ROOT / "docs" / "notebooks.json"
"""Measured so far: a notebook that is run again replaces its own row only."""


def peak_of(process, stop):
    """The most memory in bytes that a process and those it started held at once, looked at five times a second."""
    most = 0
    while not stop.wait(0.2):
        try:
            family = [process, *process.children(recursive=True)]
            most = max(most, sum(one.memory_info().rss for one in family))
        except psutil.Error:
            continue
        stop.most = most


def measured(path, home):
    """One notebook's row."""
    made = home / "run.ipynb"
    command = [sys.executable, "-m", "papermill", str(path), str(made), "--no-progress-bar", "-k", "python3"]
    start, stop = time.perf_counter(), threading.Event()
    stop.most = 0
    process = subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    watch = threading.Thread(target=peak_of, args=(psutil.Process(process.pid), stop))
    watch.start()
    _, said = process.communicate()
    seconds = time.perf_counter() - start
    stop.set()
    watch.join()
    cells = json.loads(made.read_text(encoding="utf-8"))["cells"]
    outputs = [one for cell in cells for one in cell.get("outputs", [])]
    html = ["".join(one.get("data", {}).get("text/html", "")) for one in outputs]
    figures = sum("<svg" in one for one in html) + sum("image/png" in one.get("data", {}) for one in outputs)
    warned = [one for one in outputs if one.get("name") == "stderr" and "arning" in "".join(one["text"])]
    last = "".join(outputs[-1].get("data", {}).get("text/plain", outputs[-1].get("text", ""))) if outputs else ""
    return {
        "ok": process.returncode == 0,
        "seconds": round(seconds),
        "memory": stop.most,
        "figures": figures,
        "warnings": len(warned),
        "title": "".join(cells[0]["source"]).splitlines()[0].removeprefix("# "),
        "last": "(a picture)" if last.startswith("<ftlib.") else last.strip(),
        "error": "" if process.returncode == 0 else said.strip().splitlines()[-1],
    }


def stated(name):
    """What a notebook says of its time and memory."""
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    found = re.search(r"Time[^\n]*\n?[^\n]*", "".join(cells[0]["source"]))
    return found[0].replace("\n", " ").strip() if found else ""


def document(rows):
    lines = ["# The notebooks, run from top to bottom", ""]
    lines += [f"`python benchmarks/bench_notebooks.py`, default settings, {processor()}.", ""]
    lines += ["| notebook | seconds | peak memory | figures | warnings | what it says of itself |", "| --- " * 6 + "|"]
    for name, row in sorted(rows.items()):
        took = f"{row['seconds']}" if row["ok"] else f"failed: {row['error']}"
        memory = f"{row['memory'] / 1e9:.1f} GB"
        lines.append(f"| {name} | {took} | {memory} | {row['figures']} | {row['warnings']} | {stated(name)} |")
    lines += [
        "",
        "Memory is of papermill, the kernel and what they start, together.",
        "",
        "## Question and last output",
    ]
    for name, row in sorted(rows.items()):
        lines += ["", f"**{name}**: {row['title']}", "", "```text", row["last"], "```"]
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    found = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if sys.argv[1:] and path.stem not in sys.argv[1:]:
            continue
        with tempfile.TemporaryDirectory(prefix="ftlib-") as folder:
            for name in ("notebooks", "reports", "data"):
                shutil.copytree(ROOT / name, Path(folder, name))
            shutil.copy(ROOT / "pyproject.toml", folder)
            found[path.stem] = measured(path, Path(folder))
        KEPT.write_text(json.dumps(found, indent=1), encoding="utf-8")
        document(found)
        print(
            path.stem,
            {key: found[path.stem][key] for key in ("ok", "seconds", "memory", "figures", "warnings", "error")},
        )
