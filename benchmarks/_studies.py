"""What benchmarks of whole studies share."""

import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
"""Public datasets, which a user does not have."""


def ran(study, text):
    """Run a study that is not finished, from the suite file's text.

    Returns:
        Its report (`report.json`), and the seconds it took when it was run; 0 where nobody took the time.
    """
    study, took = Path(study), Path(study) / "seconds.txt"
    study.mkdir(parents=True, exist_ok=True)
    if not (study / "report.json").exists():
        (study / "suite.toml").write_text(text, encoding="utf-8")
        start = time.perf_counter()
        if subprocess.call([sys.executable, "-m", "ftlib", "run", str(study)], cwd=ROOT):
            sys.exit(f"{study}: some run failed, see {study}/report.html")
        took.write_text(f"{time.perf_counter() - start:.0f}", encoding="utf-8")
    report = json.loads((study / "report.json").read_text(encoding="utf-8"))
    return report, float(took.read_text(encoding="utf-8")) if took.exists() else 0.0


def suite_of(name):
    """The text of a suite that is in `reports`."""
    return (ROOT / "reports" / name / "suite.toml").read_text(encoding="utf-8")
