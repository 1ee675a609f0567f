"""Processes of a run that a test starts: notebooks that break, who the processes are, and whether they have gone."""

import time
from collections.abc import Mapping
from pathlib import Path

import nbformat
import psutil
import pytest
from conftest import ROOT

PARAMETERS = 'task: str = "pydocs"\nmethod: str = "majority"\nseed: int = 0\nnotebook: str = ""\nrun_dir: str = ""'


HEAD = '[study]\nquestion = "What breaks?"\n[plan]\nseeds = [0]\n[defaults]\ntask = "file:opinions"\n'


def write_notebooks(folder: Path, codes: Mapping[str, str], parameters: str = PARAMETERS) -> None:
    """Notebooks that each do one thing, in `notebooks/` of a working directory, beside the repository's own."""
    (folder / "notebooks").mkdir()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        (folder / "notebooks" / path.name).symlink_to(path)
    for name, code in codes.items():
        cells = [nbformat.v4.new_markdown_cell("# What breaks?", id="title")]
        cells.append(nbformat.v4.new_code_cell(parameters, id="parameters", metadata={"tags": ["parameters"]}))
        cells.append(nbformat.v4.new_code_cell(code.strip(), id="breaks"))
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "notebooks" / f"{name}.ipynb")


def wait_for(ready, what: str, seconds: float = 90.0):
    """Wait until `ready()` gives something, and give it back."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := ready():
            return found
        time.sleep(0.05)
    pytest.fail(f"waited {seconds:g} s for {what}")


def family(pid: int) -> list[psutil.Process]:
    """Everything a process has started, and what that has started."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kernels(pid: int) -> list[psutil.Process]:
    """The kernels among a process's family."""
    found = []
    for process in family(pid):
        try:
            found += [process] if process.name() == "ftlib-kernel" or "ipykernel_launcher" in process.cmdline() else []
        except psutil.Error:
            continue
    return found


def all_gone(processes: list[psutil.Process]) -> bool:
    return not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
