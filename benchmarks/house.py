"""What the house measures like: files and lines, circles, and what running an experiment or a report reaches.

Reach counts every file that is imported on the way, at the top of a file or inside a function; imports for type
checkers only are left out. Run: python benchmarks/house.py
"""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ftlib"


def name_of(path: Path) -> str:
    """A file's name as it is imported, without "ftlib."; empty for ftlib itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path, files: dict[str, Path]) -> set[str]:
    """The files of ftlib that a file imports."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ftlib":
            base = node.module.removeprefix("ftlib").lstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                found.add(inner if inner in files else base)
        waiting += ast.iter_child_nodes(node)
    return found - {name_of(path), ""}


def reach(start: str, graph: dict[str, set[str]]) -> set[str]:
    """Every file that is needed by the files whose names begin with `start`, those included."""
    found: set[str] = set()
    waiting = [name for name in graph if name == start or name.startswith(f"{start}.")]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += graph[name]
    return found


def longest_path(graph: dict[str, set[str]]) -> list[str]:
    """The longest chain of rooms of which each imports the next."""
    rooms: dict[str, set[str]] = {}
    for name, needs in graph.items():
        room = name.split(".")[0]
        rooms.setdefault(room, set()).update({need.split(".")[0] for need in needs} - {room})
    chains: dict[str, list[str]] = {}
    for room in TopologicalSorter(rooms).static_order():
        chains[room] = [room, *max((chains[need] for need in rooms.get(room, ())), key=len, default=[])]
    return max(chains.values(), key=len)


def main() -> None:
    """Print one line per figure."""
    files = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in files.items()}
    graph = {name: imported(path, files) for name, path in files.items()}
    print(f"ftlib: {len(files)} files, {sum(lines.values())} lines, {sum('.' not in n for n in files)} of them flat")
    for room in sorted({name.split(".")[0] for name in files if "." in name}):
        inside = [name for name in files if name.split(".")[0] == room]
        print(f"  {room:12} {len(inside):3} files {sum(lines[name] for name in inside):6} lines")
    try:
        TopologicalSorter(graph).prepare()
        print("circles: none")
    except CycleError as error:
        print(f"circles: {' -> '.join(error.args[1])}")
    for start in ("execution.run", "report"):
        found = reach(start, graph)
        print(f"reached from ftlib.{start}: {len(found)} files, {sum(lines[name] for name in found)} lines")
    print(f"longest path of rooms: {' -> '.join(longest_path(graph))}")
    tests = list((ROOT / "tests").rglob("*.py"))
    print(f"tests: {len(tests)} files, {sum(len(p.read_text(encoding='utf-8').splitlines()) for p in tests)} lines")


if __name__ == "__main__":
    main()
