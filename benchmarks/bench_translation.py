"""Translation with tiny-mt: what adapting to a domain gains there and loses elsewhere; writes docs/translation.md
and .svg.

    python benchmarks/bench_translation.py [--folder build/translation] [--pairs N] [--seeds N] [--out docs] [--model M]
        [--epochs N] [--minutes N] [--rates FULL LORA RANDOM]

Two studies. `captions`: Multi30k English-German (`../shared/data`, 29 000 pairs, for benchmarks only), by full
fine-tuning and LoRA from tiny-mt, and by full fine-tuning of the same model from random weights; with the untouched
model and the copied source beside them. `strings`: the study `reports/translation` on uistrings. A study that is
finished in FOLDER is not run again: its report is read.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
import transformers
from _studies import SHARED, processor, ran, suite_of, write

from ftlib.config.methods import METHODS
from ftlib.models import weights

DATA = SHARED / "multi30k_en_de"

CAPTIONS = """
[study]
question = "Captions: LoRA or full fine-tuning, and what is the base model worth?"
[plan]
primary = "chrf"
margin = 1.0
seeds = {seeds}
[defaults]
task = "file:{data}:en>de"
model = "{model}"
train_limit = {pairs}
epochs = {epochs}
[[runs]]
method = "full"
learning_rate = {full_rate}
[[runs]]
method = "lora"
learning_rate = {lora_rate}
[[runs]]
method = "full"
model = "{random}"
learning_rate = {random_rate}
"""


def from_nothing(model, folder):
    """The same model with random weights: what a study without a base model begins with."""
    found = weights.find(model).folder
    if not (folder / "config.json").exists():
        config = transformers.AutoConfig.from_pretrained(found)
        torch.manual_seed(0)
        transformers.AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)
        for path in found.iterdir():
            if path.suffix in (".json", ".spm", ".txt", ".model") and not (folder / path.name).exists():
                shutil.copy(path, folder / path.name)
    return folder


def table(study, report):
    """One line per method: chrF and BLEU on test with intervals, n, seeds, and how long training took."""
    rows = [row for row in report["rows"] if row["part"] == "test" and row["metric"] in ("chrf", "bleu")]
    lines = [
        "| method | chrF | BLEU | segments | seeds | training, mean of the method |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    seconds = {}
    for path in (Path(study) / "runs").glob("*/record.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["status"] == "ok":
            own = record["spec"]["resolved"]
            seconds.setdefault((own["model"], own["method"]), []).append(record["cost"].get("train_seconds") or 0.0)
    names, first = {}, {}
    for row in rows:
        # The untouched model is the same before every method that trains; one that does not may search otherwise.
        same = METHODS[row["method"]].trains and first.setdefault(row["model"], row["method"]) == row["method"]
        if row["stage"] == "after" or (row["stage"] == "before" and same):
            key = (row["stage"], row["model"], row["method"], row["settings"] if row["stage"] == "after" else "")
            names.setdefault(key, {})[row["metric"]] = row
    for (stage, model, method, settings), found in sorted(names.items(), key=lambda one: -one[1]["chrf"]["value"]):
        who = " ".join(filter(None, (Path(model).name if method != "copy" else "", method, settings)))
        if stage != "after":
            who = f"{Path(model).name} untouched"
        cells = (f"{found[m]['value']:.1f} ({found[m]['low']:.1f} to {found[m]['high']:.1f})" for m in ("chrf", "bleu"))
        took = seconds.get((model, method), [0.0])
        trained = f"{sum(took) / len(took) / 60:.1f} min" if stage == "after" and max(took) > 2 else ""
        lines.append(f"| {who} | {' | '.join(cells)} | {found['chrf']['n']} | {found['chrf']['seeds']} | {trained} |")
    return [*lines, "", *(f"- {row['sentence']}" for row in report["verdicts"])]


AS_GOOD = {"best": "the best", "same": "yes", "better": "better", "worse": "no", "undecided": "undecided"}
FORGETS = {"best": "", "same": "equivalent", "better": "less", "worse": "more", "undecided": "undecided"}


def tradeoff(report):
    """One line per setting: what was gained on the editor's strings beside what was lost on websites', by verdict."""
    lines = [
        "",
        "The trade-off, best on the task first; as good as the best: within 1 point, shown by equivalence; both "
        "verdicts are paired over strings and seeds.",
        "",
        "| setting | chrF, notebooks | as good as the best | chrF lost, websites | loses beside the best | seeds | "
        "strings |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in report["tradeoff"]:
        lost = f"{row['forgotten']:+.1f} ({row['forgotten_low']:+.1f} to {row['forgotten_high']:+.1f})"
        gained = f"{row['value']:.1f} ({row['low']:.1f} to {row['high']:.1f})"
        lines.append(
            f"| {row['name']}{'; chosen' * row['chosen']} | {gained} | "
            f"{AS_GOOD.get(row['as_good'], row['as_good'])} | {lost} | {FORGETS.get(row['forgets'], row['forgets'])} | "
            f"{row['seeds']} | {row['n']} and {row['n_forgotten']} |"
        )
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/translation"))
    parser.add_argument("--model", default="tiny-mt")
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument(
        "--minutes", type=float, default=0, help="after which captions stops, with what it has; 0: never"
    )
    parser.add_argument("--rates", type=float, nargs=3, default=[5e-4, 3e-3, 1e-3], metavar=("FULL", "LORA", "RANDOM"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", choices=("captions", "strings"))
    asked = parser.parse_args()
    lines = ["# Translation", "", f"Made by `python benchmarks/bench_translation.py`; {processor()}.", ""]
    if asked.only != "strings" and DATA.is_dir():
        random = from_nothing(asked.model, (asked.folder / "random").resolve())
        text = CAPTIONS.format(
            seeds=list(range(asked.seeds)), data=DATA, model=asked.model, pairs=asked.pairs, epochs=asked.epochs,
            random=random, full_rate=asked.rates[0], lora_rate=asked.rates[1], random_rate=asked.rates[2],
        )  # fmt: skip
        report, took = ran(asked.folder / "captions", text, asked.minutes)
        pairs = asked.pairs or 29_000
        lines += [
            f"## Captions (Multi30k; {pairs:,} pairs, passes: {asked.epochs:g}; {took / 60:.0f} minutes in all)",
            "",
        ]
        renamed = ((f"full ({random})", "full from random weights"), (f"base model {random}", "random weights"))
        for line in [*table(asked.folder / "captions", report), ""]:
            for old, new in renamed:
                line = line.replace(old, new)
            lines.append(line)
    if asked.only != "captions":
        report, took = ran(asked.folder / "strings", suite_of("translation"))
        lines += [f"## A product's strings (reports/translation; {took / 60:.0f} minutes in all)", ""]
        against = [row for row in report["verdicts"] if "base model" in row["sentence"]]
        lines += [*table(asked.folder / "strings", report | {"verdicts": against}), *tradeoff(report)]
        if asked.out and (drawn := sorted((asked.folder / "strings" / "figures").glob("*-tradeoff.svg"))):
            shutil.copy(drawn[0], asked.out / "translation.svg")
            lines += ["", "![chrF on the editor's strings against chrF lost on websites'](translation.svg)"]
    print("\n".join(lines))
    if asked.out:
        write(asked.out / "translation.md", "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
