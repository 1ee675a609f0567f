"""Two logs of lm_eval compared by ftlib, beside the test that lm_eval's own comparator makes; writes docs/compare.md.

    python benchmarks/bench_compare.py [--other PATH] [--docs docs]

`tiny-lm` answers every test text of `reviews` (written by this project) with lm_eval: as a continuation that calls it
good or bad, without examples and with four. `--other` names a second model, which then answers without examples, too.
`ftlib compare` reads the logs that --log_samples left. lm_eval's comparator (its scripts/model_comparator.py) is a
z-test on the two accuracies and their standard errors, read here from the totals that the same two runs wrote; it knows
nothing of which examples were right. Needs the extra `bench`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from ftlib.core.format import p_value
from ftlib.report.compare import compare_sources, lines, read_source
from ftlib.stats.unpaired import z_test

ROOT = Path(__file__).resolve().parents[1]
TASK = """task: reviews
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/test.jsonl, train: {folder}/train.jsonl}}}}
output_type: multiple_choice
test_split: test
fewshot_split: train
doc_to_text: "{{{{text}}}} It was"
doc_to_target: label
doc_to_choice: [bad, good]
metric_list: [{{metric: acc}}]
"""


def write_task(folder: Path) -> None:
    """The task as lm_eval reads it: a file of rows for each split, and its description."""
    rows = [json.loads(line) for line in (ROOT / "data/reviews/reviews.jsonl").read_text(encoding="utf-8").splitlines()]
    for split in ("train", "test"):
        kept = [row for row in rows if row["split"] == split]
        said = [{"id": row["id"], "text": row["text"], "label": int(row["label"] == "positive")} for row in kept]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in said), encoding="utf-8")
    (folder / "reviews.yaml").write_text(TASK.format(folder=folder), encoding="utf-8")


def asked(folder: Path, model: Path, shots: int, out: str) -> Path:
    """Run lm_eval; the folder of its log."""
    model_args = f"pretrained={model},dtype=float32"
    subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "lm_eval",
                "run",
                "--model",
                "hf",
                "--model_args",
                model_args,
                "--tasks",
                "reviews",
            ),
            *("--num_fewshot", str(shots), "--include_path", str(folder), "--device", "cpu", "--batch_size", "16"),
            *("--log_samples", "--output_path", str(folder / out)),
        ],
        check=True,
        capture_output=True,
    )
    return folder / out


def totals(folder: Path) -> tuple[float, float]:
    """Accuracy and its standard error, as lm_eval wrote them."""
    found = json.loads(next(folder.rglob("results_*.json")).read_text(encoding="utf-8"))["results"]["reviews"]
    return found["acc,none"], found["acc_stderr,none"]


def main() -> None:
    """Make the logs, compare them, write what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--other", type=Path)
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    options = parser.parse_args()
    said = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_task(folder)
        first = asked(folder, ROOT / "data/tiny-lm", 0, "no_examples")
        others = [("tiny-lm with four examples", asked(folder, ROOT / "data/tiny-lm", 4, "four_examples"))]
        if options.other:
            others.append((options.other.name, asked(folder, options.other, 0, "other")))
        for name, other in others:
            a, b = read_source("A", first), read_source("B", other)
            (found,) = compare_sources(a, b)
            (acc_a, se_a), (acc_b, se_b) = totals(first), totals(other)
            theirs, paired = z_test(acc_a, acc_b, se_a, se_b), found.pair.comparison
            assert abs(theirs.z - found.unpaired.z) < 1e-6, "ftlib's unpaired test is not lm_eval's"
            print("\n".join(lines(a, b, [found])))
            said.append(
                f"| tiny-lm, {name} | {found.n} | {100 * acc_a:.1f}, {100 * acc_b:.1f} | z = {theirs.z:.2f}, p = "
                f"{p_value(theirs.p_value)}, {100 * theirs.low:.1f} to {100 * theirs.high:.1f} | {paired.verdict}, p = "
                f"{p_value(paired.p_value)}, {100 * paired.low:.1f} to {100 * paired.high:.1f} | {len(found.flips)} |"
            )
    text = [
        "# Logs of lm_eval, compared",
        "",
        "Written by `python benchmarks/bench_compare.py`; do not edit. The same documents were answered twice with "
        "lm_eval (`--log_samples`); `ftlib compare A B` pairs them document by document and lists those that flipped. "
        "lm_eval's comparator tests the two accuracies as if they came from different documents. Differences are A - B "
        "in points.",
        "",
        "| A, B | documents | accuracy, % | lm_eval's comparator | ftlib | flipped |",
        "| --- | --- | --- | --- | --- | --- |",
        *said,
        "",
        "Where two models agree on most documents, what they share cancels in the paired difference, and its interval "
        "is that much narrower; nothing cancels in the other.",
        "",
    ]
    (options.docs / "compare.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    main()
