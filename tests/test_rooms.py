"""A room imports only rooms above it, no file leads back to itself, and nothing heavy loads before it is needed."""

import ast
import graphlib
import subprocess
from pathlib import Path

import pytest
from conftest import INTERPRETER

import ftlib

PACKAGE = Path(ftlib.__file__).parent
ROOMS = (
    "core", "stats", "metrics", "data", "config", "records", "models", "training", "methods", "evaluation",
    "execution", "report",
)  # fmt: skip
FILES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}
LIGHT = ("core", "stats", "config", "records", "report")
HEAVY = {
    "torch", "transformers", "peft", "accelerate", "datasets", "evaluate", "papermill", "sklearn", "distributed",
    "rfc3987_syntax",
}  # fmt: skip


def imported(node: ast.AST) -> set[str]:
    """Files of ftlib that a file imports, inside functions too; not what is for type checkers only."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return set()
    found = set()
    if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "ftlib":
        inside = node.module.removeprefix("ftlib").removeprefix(".")
        for name in (".".join(filter(None, (inside, alias.name))) for alias in node.names):
            known = (name, f"{name}.__init__", inside, f"{inside}.__init__")
            found.add(next((file for file in known if file in FILES), "__init__"))
    return found.union(*map(imported, ast.iter_child_nodes(node)))


@pytest.fixture(scope="module")
def imports() -> dict[str, set[str]]:
    """Every file of ftlib -> the others that it imports."""
    return {file: imported(ast.parse(path.read_text(encoding="utf-8"))) - {file} for file, path in FILES.items()}


def floor(file: str) -> int:
    """How far down a file's room is; what is in none, such as the command line, is below all."""
    room, _, inside = file.partition(".")
    return ROOMS.index(room) if inside else len(ROOMS)


def test_a_room_imports_only_rooms_above_it(imports):
    assert {file.partition(".")[0] for file in FILES if "." in file} == set(ROOMS)
    assert [(file, other) for file in FILES for other in imports[file] if floor(other) > floor(file)] == []


def test_no_file_leads_back_to_itself(imports):
    assert len(list(graphlib.TopologicalSorter(imports).static_order())) == len(FILES)


def fresh(code: str) -> set[str]:
    """Run code in a new process, every warning an error; the heavy packages that it loaded."""
    code += f"\nimport sys\nprint(*{HEAVY!r}.intersection(sys.modules))"
    done = subprocess.run([INTERPRETER, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import ftlib; ftlib.Experiment(method='lora').run_id",
        "import ftlib.cli\ntry: ftlib.cli.main(['--help'])\nexcept SystemExit: pass",
        "import ftlib.cli; ftlib.cli.main(['list', 'methods']); ftlib.cli.main(['list', 'metrics', '--json'])",
    ],
)
def test_asking_and_planning_load_nothing_heavy(code):
    assert fresh(code) == set()


def test_what_is_asked_recorded_and_reported_loads_nothing_heavy():
    files = (file.removesuffix(".__init__") for file in FILES if file.partition(".")[0] in LIGHT)
    assert fresh("\n".join(f"import ftlib.{file}" for file in files)) == set()


def test_papermill_comes_without_parsers_of_addresses_which_others_still_find():
    code = "from importlib.util import find_spec\nfrom ftlib.execution import notebook_exec\n"
    assert fresh(code + "notebook_exec.papermill_itself()\nassert find_spec('rfc3987_syntax')") == {"papermill"}
