"""Errors of fine-tuned models by group, and what a model memorises of its training text; writes docs/bias.md.

    python benchmarks/bench_bias.py [hatexplain bios reviews canaries] [--folder FOLDER] [--out docs]

hatexplain: false-positive rate per target group, before and after, of probe, LoRA and full fine-tuning over three
seeds; validation and test of HateXplain (`../shared/data`) pooled, the group where two of three annotators named it.
Each run's rates are compared with those of fairlearn's MetricFrame on the stored predictions.
bios: `reports/bias`. reviews: whether fine-tuning is better than TF-IDF, also on the domain kept apart.
canaries: `reports/misuse`. A study that is finished in FOLDER is not run again.
"""

import argparse
import csv
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from _studies import SHARED, ran, suite_of, write
from fairlearn.metrics import MetricFrame, false_positive_rate

from ftlib.metrics.fairness import BLANK_GROUP
from ftlib.records import records_of

HATEXPLAIN = SHARED / "hatexplain"
SUITES = {
    "hatexplain": """
[study]
question = "Of which groups are harmless posts called toxic, before adapting and after?"
[plan]
primary = "f1_macro"
margin = 0.02
seeds = [0, 1, 2]
[defaults]
task = "file:{folder}/data"
group_columns = ["group"]
model = "minilm"
train_limit = 2000
max_length = 64
[[runs]]
method = ["zero_shot", "tfidf", "probe", "lora", "full"]
""",
    "reviews": """
[study]
question = "Is fine-tuning better than TF-IDF where it was trained, and in a domain that it never saw?"
[plan]
primary = "accuracy"
margin = 0.02
seeds = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
[defaults]
task = "reviews"
model = "minilm"
[[runs]]
method = ["zero_shot", "tfidf", "probe"]
[[runs]]
method = "full"
epochs = 5.0
""",
}


def prepared(folder: Path) -> None:
    """HateXplain with labels in words; a thousand training posts for validation, and no test post in training."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = {
        name: pd.read_csv(HATEXPLAIN / f"{name}.csv", keep_default_na=False) for name in ("train", "validation", "test")
    }
    test = pd.concat([splits["validation"], splits["test"]])
    test["group"] = test["group"].where(test["group_votes"] >= 2, "")
    train = splits["train"][~splits["train"]["text"].isin(test["text"])].drop_duplicates("text")
    order = np.random.default_rng(0).permutation(len(train))
    parts = {"validation": train.iloc[order[:1000]], "train": train.iloc[order[1000:]], "test": test}
    for name, rows in parts.items():
        label = rows["toxic"].map({0: "harmless", 1: "toxic"})
        table = pd.DataFrame({"text": rows["text"], "label": label, "group": rows["group"]})
        table.drop_duplicates("text").to_csv(folder / f"{name}.csv", index=False, quoting=csv.QUOTE_ALL)


def farthest_from_fairlearn(study: Path) -> tuple[int, float]:
    """How many false-positive rates of groups the records hold, and the farthest that one is from fairlearn's."""
    found = []
    for folder, record in records_of(study):
        table = pd.read_parquet(folder / "predictions.parquet")
        for stage, of_stage in record.metrics.items():
            groups = of_stage.get("test", {}).get("groups", {}).get("group")
            if not groups:
                continue
            rows = table[(table["stage"] == stage) & (table["part"] == "test")]
            truth, chosen = (rows[name] == "toxic" for name in ("label", "prediction"))
            names = rows["group_group"].fillna(BLANK_GROUP)
            rates = MetricFrame(
                metrics=false_positive_rate, y_true=truth, y_pred=chosen, sensitive_features=names
            ).by_group
            for name, metrics in groups.items():
                leaf = metrics["fpr_toxic"]
                if leaf["value"] is not None:
                    found.append(abs(leaf["value"] - rates[name]))
    return len(found), max(found)


def rates(report: dict, metric: str) -> list[str]:
    """A line per method and group, as Markdown: a rate before and after, over seeds."""
    found: dict[tuple[str, str], dict[str, dict]] = {}
    for row in report["groups"]:
        if row["metric"] == metric and row["group"]:
            found.setdefault((row["method"], row["group"]), {})[row["stage"]] = row
    lines = ["| method | group | before, % | after, % | examples to divide by |", "| --- | --- | --- | --- | --- |"]
    for (method, group), stages in found.items():
        cells = [percent(stages.get(stage)) for stage in ("before", "after")]
        lines.append(f"| {method} | {group} | {' | '.join(cells)} | {stages['after']['n']} |")
    return lines


def percent(row: dict | None) -> str:
    """A share with its interval."""
    if row is None or row["value"] is None:
        return f"not available: {row['reason'] if row else 'not measured'}"
    value, *bounds = (100 * row[name] if row[name] is not None else None for name in ("value", "low", "high"))
    return f"{value:.1f}" + (f" ({bounds[0]:.1f} to {bounds[1]:.1f})" if bounds[0] is not None else "")


def exposure(report: dict) -> list[str]:
    """Exposure by how often a secret was planted, as Markdown: bits, mean over secrets and seeds."""
    rows = [row for row in report["memorization"] if row["metric"] == "exposure"]
    counts = sorted({row["repetitions"] for row in rows})
    lines = [f"| method | {' | '.join(f'planted {count}' for count in counts)} |"]
    lines.append(f"|{' --- |' * (1 + len(counts))}")
    for key in dict.fromkeys((row["method"], row["settings"], row["stage"]) for row in rows):
        of = {row["repetitions"]: row for row in rows if (row["method"], row["settings"], row["stage"]) == key}
        cells = [f"{of[n]['value']:.1f} ({of[n]['low']:.1f} to {of[n]['high']:.1f})" for n in counts]
        lines.append(f"| {' '.join(filter(None, key))} | {' | '.join(cells)} |")
    return lines


def said(report: dict) -> list[str]:
    """What the report says of gaps, in its own sentences."""
    return [f"- {row['sentence']}" for row in report["groups"] if row.get("sentence")]


def decided(report: dict) -> list[str]:
    """Verdicts against TF-IDF."""
    return [f"- {row['sentence']}" for row in report["verdicts"] if "tfidf" in (row["a"], row["b"])]


def folded(table: list[str]) -> list[str]:
    """A long table, shown on demand."""
    return ["<details><summary>Every rate</summary>", "", *table, "", "</details>", ""]


TITLES = {
    "hatexplain": "Whose harmless posts are called toxic? (HateXplain)",
    "bios": "Is a skew of the training data taken over, and what does mitigation cost? (bios)",
    "reviews": "Is fine-tuning better than counting words? (reviews)",
    "canaries": "How often must a secret be repeated before it is memorised? (canaries)",
}


def in_short(text: list[str]) -> list[str]:
    """The sections' sentences, counted: what there is to know before their tables are read."""
    found, lines = {}, []
    for line in text:
        if line.startswith("## "):
            lines = found.setdefault(line[3:], [])
        elif line.startswith("- "):
            lines.append(line[2:])
    said = []
    for title, lines in found.items():
        gaps = [line for line in lines if "before adapting" in line and "the answers are the same" not in line]
        if gaps:
            larger, smaller = (sum(f"became {how}" in line and "cannot" not in line for line in gaps)
                               for how in ("larger", "smaller"))  # fmt: skip
            shown = [line for line in gaps if " apart;" in line]
            said.append(
                f"**{title}** Of {len(gaps)} gaps after adapting {len(shown)} are more than chance; against the base "
                f"model {larger} became larger and {smaller} smaller; the rest is undecided."
            )
        costs = [line for line in lines if " against " in line and "the gap for" in line]
        if costs:
            closed = [line.partition(" against ")[0] for line in costs if "became smaller, by" in line]
            better = [line.partition(" against ")[0] for line in costs if "accuracy is better by" in line]
            worse = sum("accuracy is worse" in line for line in costs)
            said.append(
                f"Of {len(costs)} mitigations, compared with the same method without, {len(closed)} made the largest "
                f"gap smaller ({', '.join(closed) or 'none'}); accuracy became better with {len(better)} and worse "
                f"with {worse}."
            )
        ranks = [line for line in lines if re.match(r"\w+ is (better|worse) than tfidf", line)]
        if ranks and not gaps:
            said.append(f"**{title}** {ranks[0]}.")
        exposed = [line for line in lines if "exposed more" in line]
        if exposed:
            said.append(
                f"**{title}** " + "; ".join(line.split(" (")[0] for line in exposed) + "; nothing else is shown."
            )
    return ["## In short", "", *(f"- {one}" for one in said), ""]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["hatexplain", "bios", "reviews", "canaries"])
    parser.add_argument("--folder", default="build/bias")
    parser.add_argument("--out", default="docs")
    options = parser.parse_args()
    folder, text = Path(options.folder), ["# Errors by group, and memorised secrets: measured", ""]
    text += ["Made by `python benchmarks/bench_bias.py`.", ""]
    off = 0.0
    if "hatexplain" in options.parts and not HATEXPLAIN.exists():
        print("hatexplain: skipped, since ../shared/data is not beside the checkout")
    elif "hatexplain" in options.parts:
        if not (folder / "data" / "test.csv").exists():
            prepared(folder / "data")
        report, _ = ran(folder / "hatexplain", SUITES["hatexplain"].format(folder=folder.resolve().as_posix()))
        n, off = farthest_from_fairlearn(folder / "hatexplain")
        text += [f"## {TITLES['hatexplain']}", "", *folded(rates(report, "fpr"))]
        text += [*said(report), "", f"{n} rates in the records; the farthest from fairlearn's is off by {off:.1g}.", ""]
    if "bios" in options.parts:
        report, _ = ran(folder / "bios", suite_of("bias"))
        text += [
            f"## {TITLES['bios']}",
            "",
            *said(report),
            "",
            "What the mitigations did:",
            "",
        ]
        text += [
            *(f"- {row['sentence']}" for row in report["mitigation_cost"]),
            "",
            "Against TF-IDF:",
            "",
            *decided(report),
            "",
        ]
    if "reviews" in options.parts:
        report, _ = ran(folder / "reviews", SUITES["reviews"])
        text += [f"## {TITLES['reviews']}", "", *decided(report), ""]
    if "canaries" in options.parts:
        report, _ = ran(folder / "canaries", suite_of("misuse"))
        text += [f"## {TITLES['canaries']}", "", *exposure(report), ""]
        text += [f"- {row['sentence']}" for row in report["memorization_verdicts"] if row["question"] != "memorised"]
    text[4:4] = in_short(text)
    print("\n".join(text))
    write(Path(options.out) / "bias.md", "\n".join(text))
    sys.exit(int(off > 1e-12))
