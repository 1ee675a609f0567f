"""What setting up again costs when nothing changed."""

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

if __name__ == "__main__":
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, str(ROOT / "bootstrap.py"), "setup"], check=True)
        taken.append(time.perf_counter() - start)
    print(f"setting up again, nothing changed: {min(taken):.3f} to {max(taken):.3f} s (wanted: under 1)")
