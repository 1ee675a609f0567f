"""How long a report over many records takes: `python benchmarks/bench_report.py [RECORDS] [EXAMPLES]`."""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import browser
from synthetic import write_large

from ftlib.report import build

if __name__ == "__main__":
    n_records, n_examples = (int(number) for number in (sys.argv[1:] or ["1000", "2000"]))
    with tempfile.TemporaryDirectory() as folder:
        study = write_large(Path(folder) / "study", n_records, n_examples)
        start = time.perf_counter()
        page = build.build(study)
        seconds, size = time.perf_counter() - start, page.stat().st_size
        opens = "no browser here"
        if program := browser.browser():
            with browser.tab(program) as tab:
                opens = f"{tab.open(page, 1440):.1f} s"
    print(f"report over {n_records} records of {n_examples} examples: {seconds:.1f} s (wanted: under 60)")
    print(f"the page: {size / 1e6:.1f} MB (wanted: under 5), opened in: {opens} (wanted: under 3 s)")
