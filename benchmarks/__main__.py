"""`make bench`: every benchmark, one after another; with names as arguments, only those."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run them; the exit code is the number that failed."""
    names = sys.argv[1:] or sorted(path.stem for path in HERE.glob("[a-z]*.py"))
    failed = 0
    for name in names:
        print(f"\n== {name}", flush=True)
        failed += subprocess.call([sys.executable, str(HERE / f"{name}.py")], cwd=HERE.parent) != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
