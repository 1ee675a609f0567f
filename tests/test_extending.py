"""docs/extending.md holds: each section's blocks are put into a copy of ftlib, and what it says then works."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", (ROOT / "docs" / "extending.md").read_text(), re.M | re.S))


def put(text: str, table: str, rows: str) -> str:
    """A file's text with rows before the end of a table, or with a field in a class."""
    if re.search(rf"^class {table}\b", text, re.M):
        return re.sub(
            rf"(^class {table}\b.*?^    model_config = .*?$)", rf"\1\n\n{rows}", text, count=1, flags=re.M | re.S
        )
    begin = re.search(rf"^{table}\b.* = ", text, re.M).end()
    end = begin + re.search(r"^(        \)|    \}|\)  # fmt: skip|\))$", text[begin:], re.M).start()
    added = text[:end] + rows + text[end:]
    if table == "SECTIONS":
        (name,) = re.findall(r"(\w+)\.SECTION", rows)
        added = added.replace(
            "from ftlib.report.sections import (\n", f"from ftlib.report.sections import (\n    {name},\n"
        )
    return added


@pytest.mark.parametrize("section", SECTIONS)
def test_what_the_page_says_works(section, tmp_path, at_home):
    # With what is compiled: only files that a block changes are compiled anew.
    shutil.copytree(ROOT / "ftlib", tmp_path / "ftlib")
    for name in ("data", "notebooks"):
        (tmp_path / name).mkdir()
        for path in (ROOT / name).iterdir():
            (tmp_path / name / path.name).symlink_to(path)
    done = None
    for block in re.findall(r"^```python\n# (.*?)^```", SECTIONS[section], re.M | re.S):
        where, _, code = block.partition("\n")
        file, _, table = where.partition(", in ")
        path = tmp_path / file.removesuffix(", new")
        if where == "then":
            environment = os.environ | {"PYTHONPATH": str(tmp_path)}
            command = [sys.executable, "-W", "ignore", "-c", code]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
        elif table:
            path.write_text(put(path.read_text(), table, code))
        else:
            path.write_text(code)
    assert done is not None
