"""The README's file tree and the disk say the same."""

import re
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT


def tree(markdown: str) -> dict[str, str]:
    """The paths under `## File tree`, with their phrases: two spaces of indentation are one folder."""
    block = re.search(r"^## File tree\n.*?^```\w*\n(.*?)^```", markdown, re.DOTALL | re.MULTILINE)
    assert block, "README.md has no fenced block under the heading '## File tree'"
    found: dict[str, str] = {}
    parents: list[str] = []
    for line in block.group(1).splitlines():
        if not line.strip():
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        name, _, phrase = line.strip().partition(" ")
        assert depth <= len(parents), f"{line!r} is indented by more than one level"
        parents[depth:] = [name.rstrip("/")]
        path = "/".join(parents)
        assert path not in found, f"{path} is there twice"
        found[path] = phrase.strip()
    return found


def kept_files() -> list[Path]:
    """Every file that git tracks, or would if it were added."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [Path(name) for name in done.stdout.split("\0") if name and (ROOT / name).exists()]


def expected() -> set[str]:
    """What a newcomer must find in the tree: the top of the repository, ftlib's files and folders, the notebooks."""
    wanted = set()
    for path in kept_files():
        wanted.add(path.parts[0])
        if path.parts[0] == "ftlib" and len(path.parts) > 1 and (len(path.parts) > 2 or path.suffix == ".py"):
            wanted.add("/".join(path.parts[:2]))
        if path.parts[0] == "notebooks" and path.suffix == ".ipynb":
            wanted.add(path.as_posix())
    return wanted


@pytest.fixture(scope="module")
def described() -> dict[str, str]:
    return tree((ROOT / "README.md").read_text(encoding="utf-8"))


def test_every_path_of_the_tree_exists(described):
    assert not [path for path in described if not (ROOT / path).exists()]


def test_everything_that_is_kept_is_in_the_tree(described):
    assert not sorted(expected() - set(described))


def test_every_path_has_a_phrase(described):
    assert not [path for path, phrase in described.items() if not phrase]


def test_a_tree_is_read_by_its_indentation():
    lines = ["README.md  this", "ftlib/  the library", "  data/   tasks", "    hub.py  the Hub", "  cli.py  it"]
    text = "\n".join(["# x", "", "## File tree", "", "```", *lines, "```", ""])
    assert tree(text) == {
        "README.md": "this",
        "ftlib": "the library",
        "ftlib/data": "tasks",
        "ftlib/data/hub.py": "the Hub",
        "ftlib/cli.py": "it",
    }
    with pytest.raises(AssertionError, match="twice"):
        tree(text.replace("  cli.py", "  data/"))
    with pytest.raises(AssertionError, match="no fenced block"):
        tree("# nothing")
