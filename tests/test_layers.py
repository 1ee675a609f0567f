"""Imports point inward only, and nothing heavy is loaded before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import synthetic

import ftlib

PACKAGE = Path(ftlib.__file__).parent
TORCH = {
    "anchors", "between", "frozen", "lean", "losses", "models", "packing", "predict", "score", "shards", "speed",
    "steps", "stereotypes", "train", "watch",
}  # fmt: skip
STORY = {"battery", "biases", "course", "measured", "memorized", "probing", "run"}
OUTER = {
    "suite", "worker", "progress", "needs", "outlook", "catalogue", "cli", "__main__", "plots", "workshop",
    "installation",
}  # fmt: skip
HEAVY = {
    "dask",
    "distributed",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "datasets",
    "evaluate",
    "papermill",
    "sklearn",
}
PURE_METHODS = {"methods", "methods.baselines", "methods.contract"}


def ring(module: str) -> str:
    """The ring of a module of ftlib, by its name without "ftlib."; a new file is pure until it is named above."""
    first = module.partition(".")[0]
    if first in TORCH or (first == "methods" and module not in PURE_METHODS):
        return "torch"
    if first in STORY:
        return "story"
    return "outer" if first in OUTER or first in ("engines", "report") else "pure"


SEES = {"pure": {"pure"}, "torch": {"pure", "torch"}, "story": {"pure", "torch", "story"}, "outer": {"pure", "outer"}}


def modules() -> dict[str, Path]:
    """Every module of ftlib: name without "ftlib." -> file; the package itself is left out."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    del found[""]
    return found


MODULES = modules()


def imported(path: Path) -> set[str]:
    """What a file imports while it is being loaded: not inside functions, not for type checkers only."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return found


def own(name: str) -> str | None:
    """The module of ftlib that an imported name belongs to; None for another package's."""
    parts = name.split(".")
    if parts[0] != "ftlib":
        return None
    known = (".".join(parts[1:end]) for end in range(len(parts), 1, -1))
    return next((module for module in known if module in MODULES), None)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_inward_only(module):
    outward = {
        name for name in imported(MODULES[module]) if (target := own(name)) and ring(target) not in SEES[ring(module)]
    }
    assert not outward, f"{module} is in the {ring(module)} ring and must not import {sorted(outward)}"


ADAPTERS = {"engines.dask", "metrics.as_evaluate"}
"""Modules that are nothing but a door to a heavy package; they are imported where that package is asked for."""


@pytest.mark.parametrize("module", [module for module in MODULES if ring(module) in ("pure", "outer")])
def test_what_plans_and_reports_loads_nothing_heavy_at_its_top(module):
    if module not in ADAPTERS:
        assert not {name.partition(".")[0] for name in imported(MODULES[module])} & HEAVY
    for user in MODULES:
        assert not {own(name) for name in imported(MODULES[user])} & ADAPTERS, f"{user} imports a door at its top"


def test_the_rings_name_modules_that_exist():
    optional = {"score", "workshop"}
    assert {*TORCH, *STORY, *OUTER, *PURE_METHODS} - set(MODULES) <= optional


def fresh(code: str) -> str:
    """Run code in a new process, every warning an error; what it printed."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


LOADED = f"""
import sys
heavy = sorted(set({sorted(HEAVY)}) & set(sys.modules))
print("HEAVY", *heavy)
"""


@pytest.mark.parametrize(
    "code",
    [
        "import ftlib",
        "import ftlib.cli; assert ftlib.cli.main([]) == 2",
        "import ftlib.cli; ftlib.cli.main(['list', 'methods'])",
        "import ftlib.cli; ftlib.cli.main(['list', 'metrics', '--json'])",
        "import ftlib; ftlib.Experiment(method='lora').run_id",
    ],
)
def test_asking_and_planning_load_nothing_heavy(code):
    assert fresh(code + LOADED).splitlines()[-1] == "HEAVY"


def test_help_is_help_and_loads_nothing_heavy():
    said = fresh("import ftlib.cli\ntry: ftlib.cli.main(['--help'])\nexcept SystemExit: pass" + LOADED)
    assert said.startswith("usage: ftlib") and said.splitlines()[-1] == "HEAVY"


def test_a_suite_is_read_and_its_report_built_without_torch(tmp_path):
    study = synthetic.write_study(tmp_path / "study", n=40)
    assert fresh(f"import ftlib; ftlib.load_suite({str(study)!r})" + LOADED) == "HEAVY\n"
    said = fresh(f"import ftlib.report.build; print(ftlib.report.build.build({str(study)!r}))" + LOADED)
    assert (study / "report.html").stat().st_size > 10_000
    assert not {"torch", "transformers", "peft", "papermill"} & set(said.splitlines()[-1].split())


def test_every_module_can_be_the_first_that_is_imported():
    """So no cycle of imports works only in the order that the command line happens to take."""
    names = sorted(
        (f"ftlib.{module}" for module in MODULES if module != "__main__"), key=lambda n: ring(n[6:]) != "pure"
    )
    code = f"""
import importlib, sys
for name in {names}:
    for known in [module for module in sys.modules if module.partition(".")[0] == "ftlib"]:
        del sys.modules[known]
    importlib.import_module(name)
    print(name)
"""
    assert fresh(code).split() == names
