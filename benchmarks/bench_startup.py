"""What it costs to ask: `import ftlib`, `ftlib --help`, `ftlib list methods`; and that none of them loads torch."""

import subprocess
import sys
import time

ASKED = {
    "python -c pass": "pass",
    "import ftlib": "import ftlib",
    "ftlib --help": "from ftlib.cli import main; main([])",
    "ftlib list methods": "from ftlib.cli import main; main(['list', 'methods'])",
}
WANTED = 0.5

if __name__ == "__main__":
    slow = False
    for name, code in ASKED.items():
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            check = f"{code}\nimport sys\nassert 'torch' not in sys.modules"
            subprocess.run([sys.executable, "-c", check], check=True, stdout=subprocess.DEVNULL)
            taken.append(time.perf_counter() - start)
        slow |= min(taken) > WANTED
        print(f"{name:20} {min(taken):.3f} to {max(taken):.3f} s, best and worst of 5 (wanted: under {WANTED} s)")
    sys.exit(slow)
