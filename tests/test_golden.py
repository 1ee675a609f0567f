"""What reports say in numbers and names stays as it is stored in tests/golden: four studies made up from code.

`simplified` leaves out sentences and what depends on the machine, and rounds; then report.json and every tables/*.csv
are compared byte for byte. The studies depend on no run_id and on no hash of the plan, since names of fields are part
of both; they do depend on the words that seed a resampling (`seed_of`).

If a key, a column, a table or a field gets another name, `RENAMED` says so, and the stored files stay. If a report is
to say something else, `python tests/test_golden.py` writes them anew.
"""

import ast
import csv
import io
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from evaluations import PAIRS, give_biases, with_canaries
from groups import give_groups
from learning_curves import collapse, in_files, rising, run_of
from pages import read
from sequences import Went, sequence, write_courses
from sequences import plain as alone
from synthetic import Made, MadeText, write_study

from ftlib import records
from ftlib.core import atomic
from ftlib.report import build

GOLDEN = Path(__file__).parent / "golden"

RENAMED: Mapping[str, str] = {
    "earlier": "sequential_tasks",
    "together": "joint_tasks",
    "alphas": "interpolation",
    "plan.probes": "evaluations",
    "dial": "tradeoff",
    "carried": "transfer",
    "how: together": "joint_tasks",
    "a: untouched model": "base model",
    "b: untouched model": "base model",
    "method: untouched model": "base model",
    "goal: zero_shot (the untouched model)": "zero_shot (the base model)",
    "metric: f1_negative": "f1.negative",
    "metric: f1_numpy": "f1.numpy",
    "metric: f1_nurse": "f1.nurse",
    "metric: f1_pandas": "f1.pandas",
    "metric: f1_physician": "f1.physician",
    "metric: f1_poet": "f1.poet",
    "metric: f1_positive": "f1.positive",
    "metric: f1_scipy": "f1.scipy",
    "metric: f1_teacher": "f1.teacher",
    "metric: f1_torch": "f1.torch",
    "undone": "mitigation_cost",
    "ledger": "bias_summary",
    "memorised": "memorization",
    "memorised_verdicts": "memorization_verdicts",
    "verdict: cannot tell": "undecided",
    "gap_verdict: cannot tell": "undecided",
}
"""What is stored -> what it is called now.

"key" is a key of report.json, a column, a table, or a field where settings name it ("key=8"); "table.key" is that key
in one table only; "key: word" (or "table.key: word") is a word that stands under this key.
"""

LEFT_OUT = {
    "sentence", "sentences", "reason", "headline", "lead", "reasons", "ranks", "limits", "caution", "protocol", "note",
    "notes",
}  # fmt: skip
"""Keys that hold prose."""
ADDED = {
    "report_card",
    "fronts",
    "coverage",
    "thresholds",
    "written_faults",
    "written_lengths",
    "written_counts",
    "segments",
    "goes_by",
}
"""Tables that reports have and that are not stored: the card of page one, quality against forgetting and bias, what
probabilities are worth, and what is said of texts that are written, of which no stored study has any. Of keys: what a
mitigation goes by."""
GONE = {"winners_in_order"}
"""Keys that are stored and that reports no longer have: who would have won with the settings in the order tried."""
VARYING = {"provenance", "run_id"}
"""Keys that hold versions, paths, or hashes that the names of fields are part of."""
SORTED = {"sequences"}
"""Studies whose rows are sorted before comparing: methods stand in the order of their settings, and those begin with
names of fields."""
PLAN_HASH = "0123456789abcdef"
"""Resampling is seeded by the plan's hash."""


def plain_study(folder: Path) -> None:
    """Methods on labels and on text, beside them general text, canaries, predictions of cost and a failure."""
    made = (
        Made("majority", -2.0),
        Made("tfidf", 0.62),
        Made("zero_shot", -0.12, as_before=True),
        Made("probe", 0.68),
        Made("lora", 0.84, (0, 1, 2), general=0.05),
        Made("full", 1.6, (0, 1, 2), general=0.2),
        Made("ia3", 0.1, (0, 1)),
        Made("ia3", 0.0, (2,), status="diverged", reason="the training loss became nan by step 61 of 100"),
    )
    texts = (
        MadeText("ngram", 0.9, protocol="byte 6-grams"),
        MadeText("zero_shot", 0.0, 0.0),
        MadeText("lora", -0.21, 0.03, (0, 1, 2)),
        MadeText("full", -0.26, 0.12, (0, 1, 2)),
    )
    with_canaries(write_study(folder, made, labels=("numpy", "pandas", "torch"), n=160, texts=texts, n_texts=40))
    for path, record in records.records_of(folder):
        asked = json.loads((path / "spec.json").read_text(encoding="utf-8"))
        off = {"peak_memory_bytes": 0.8, "train_seconds": 2.0, "eval_seconds": 2.0}
        asked["predicted"] = {name: by * record.cost[name] for name, by in off.items()}
        atomic.write_json(path / "spec.json", asked)


def few_shot_study(folder: Path) -> None:
    """Three methods at three numbers of labels, drawn five times, examples in files; one run collapsed, one failed."""
    labels = ("numpy", "scipy", "torch")
    left_out = {("lora", 32), ("lora", 4)}
    made = [
        run
        for run in rising(("probe", "setfit", "lora"), (1, 4, 32), draws=5)
        if (run.method, run.fields.get("shots")) not in left_out
    ]
    made.append(Made("lora", -1.1, (0, 1, 3, 4), {"shots": 4}))
    made.append(Made("lora", 0.0, (2,), {"shots": 4}, status="diverged", reason="the loss was not finite"))
    write_study(folder, made, labels=labels, n=160, plan={"margin": 0.02, "target": 0.6}, noise=0.1)
    collapse(run_of(folder, method="lora", shots=1, seed=3), "scipy", 0.97, labels)
    in_files(folder)


def sequences_study(folder: Path) -> None:
    """Methods in sequence, on all tasks at once and alone; general text, features and a scale between two weights."""
    probed = {"before": {"features:bios": 0.8}, "after": {"features:bios": 0.6}}
    before = {"before": {"general": 0.0}}
    steps = {f"alpha_{100 * a:.0f}": {"test": 0.35 + 0.45 * a, "general": 0.3 * a} for a in (0, 0.5, 1)}
    bios = {"before": {"bios": None}, "after": {"bios": 0.85}}
    later = {"before": {"bios": None}, "after": {"bios": 0.6}}
    three, two = {"sequential_tasks": ["reviews", "bios"]}, {"sequential_tasks": ["bios"]}
    went = (
        Went("full", sequence(0.55, 0.6), fields=three, who="full in sequence"),
        Went("lora", sequence(0.7, 0.7), fields=three, who="lora in sequence"),
        Went("full", alone(0.7, **probed), who="with features"),
        Went("full", alone(0.85), fields={"task": "bios"}, who="bios"),
        Went("full", alone(0.88), fields={"task": "reviews"}, who="reviews"),
        Went("full", alone(0.9, **bios), fields={"joint_tasks": ["bios"]}, who="at once"),
        Went("full", alone(0.8, **later) | {"after_1": {"test": 0.4, "bios": 0.82}}, fields=two, who="two tasks"),
        Went("lora", alone(0.8, **before, after={"general": 0.3}) | steps,
             fields={"interpolation": [0.0, 0.5, 1.0]}, who="scale"),
        Went("lora", alone(0.8, **before, after={"general": 0.05}), fields={"l2_sp": 0.1}, who="held back"),
    )  # fmt: skip
    write_courses(folder, went, n=90)


def groups_study(folder: Path) -> None:
    """Groups of people, a mitigation and its cost, bias before and after, and settings tried."""
    seeds = (0, 1, 2)
    made = (
        Made("majority", -2.0),
        Made("tfidf", 1.0),
        Made("zero_shot", 0.5, as_before=True),
        Made("lora", 2.0, seeds, tried=(0.66, 0.64, 0.80), watched=(1.4, 1.1, 1.2, 1.5)),
        Made("full", 2.0, seeds, tried=(0.69, 0.63, None), kept=75),
        Made("full", 2.0, seeds, {"mitigation": "balance"}, tried=(0.7, 0.6)),
    )
    write_study(folder, made, labels=("nurse", "physician", "teacher"), n=240)
    give_groups(folder, {"full": 0.4})
    pairs = folder.parent / "toy.csv"
    pairs.write_text(PAIRS, encoding="utf-8")
    give_biases(folder, pairs)


STUDIES: Mapping[str, Callable[[Path], None]] = {
    "plain": plain_study,
    "few_shot": few_shot_study,
    "sequences": sequences_study,
    "groups": groups_study,
}


def built(name: str, folder: Path) -> dict[str, str]:
    """What the report of a study says, simplified: file -> text."""
    STUDIES[name](folder)
    with mock.patch("ftlib.records.study.hash_of", lambda *_: PLAN_HASH), mock.patch("ftlib.report.figures.svg", str):
        build.build(folder)
    lists = [path for path in sorted((folder / "tables").glob("*.csv")) if path.stem not in ADDED]
    files = [folder / "report.json", *lists]
    return {
        path.relative_to(folder).as_posix(): simplified(
            path.read_text(encoding="utf-8").replace(f"{folder.parent}/", ""), path, {}, name in SORTED
        )
        for path in files
    }


def stored(name: str) -> dict[str, str]:
    """What is stored of a study, with the names of today: file -> text."""
    found = {}
    for path in [GOLDEN / name / "report.json", *sorted((GOLDEN / name / "tables").glob("*.csv"))]:
        now = path.relative_to(GOLDEN / name).with_stem(RENAMED.get(path.stem, path.stem))
        found[now.as_posix()] = simplified(path.read_text(encoding="utf-8"), path, RENAMED, name in SORTED)
    return found


def simplified(text: str, path: Path, renamed: Mapping[str, str], any_order: bool) -> str:
    """A file without prose and what varies, rounded, with new names; numbers and names are all that is left."""
    if path.suffix == ".json":
        return _json(json.loads(text), renamed, any_order)
    header, *rows = csv.reader(io.StringIO(text))
    kept = [place for place, name in enumerate(header) if name not in LEFT_OUT | VARYING | GONE | ADDED]
    table = path.stem
    lines = [[_cell(table, header[place], row[place], renamed) for place in kept] for row in rows]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([_key(table, header[place], renamed) for place in kept])
    writer.writerows(sorted(lines) if any_order else lines)
    return file.getvalue()


def _json(content: Mapping[str, Any], renamed: Mapping[str, str], any_order: bool) -> str:
    """One row a line, so that a difference is easily seen."""
    said = []
    for name, value in content.items():
        if name in LEFT_OUT | VARYING | GONE | ADDED:
            continue
        value = _kept(name, "", value, renamed)
        if isinstance(value, list):
            lines = [_compact(row) for row in value]
            text = "[" + ",".join(f"\n{line}" for line in (sorted(lines) if any_order else lines)) + "]"
        else:
            text = _compact(value)
        said.append(f"{json.dumps(renamed.get(name, name))}: {text}")
    return "{" + ",\n".join(sorted(said)) + "}\n"


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _kept(table: str, key: str, value: Any, renamed: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {
            _key(table, name, renamed): _kept(table, name, item, renamed)
            for name, item in value.items()
            if name not in LEFT_OUT | VARYING | GONE | ADDED
        }
    if isinstance(value, list):
        return [_kept(table, key, item, renamed) for item in value]
    if isinstance(value, str):
        return _word(table, key, value, renamed)
    return _rounded(value) if isinstance(value, float) else value


def _key(table: str, key: str, renamed: Mapping[str, str]) -> str:
    return renamed.get(f"{table}.{key}", renamed.get(key, key))


def _word(table: str, key: str, word: str, renamed: Mapping[str, str]) -> str:
    word = renamed.get(f"{table}.{key}: {word}", renamed.get(f"{key}: {word}", word))
    return re.sub(r"\b(\w+)=", lambda found: f"{renamed.get(found[1], found[1])}=", word)


def _rounded(value: float) -> float:
    """Nine digits that count, which no processor's way of adding changes; what is 0 but for rounding is 0.

    >>> _rounded(0.1234567891234), _rounded(-3e-17), _rounded(12345678912.3)
    (0.123456789, 0.0, 12345678900.0)
    """
    return float(f"{value:.9g}") if abs(value) > 1e-12 else 0.0


def _cell(table: str, key: str, cell: str, renamed: Mapping[str, str]) -> str:
    if re.fullmatch(r"-?\d+(\.\d+(e[+-]?\d+)?|e[+-]?\d+)", cell):
        return repr(_rounded(float(cell)))
    # Lists are written as Python has them.
    return str(_kept(table, key, ast.literal_eval(cell) if cell.startswith("[") else cell, renamed))


def _differences(found: str, wanted: str) -> Iterator[str]:
    one, other = found.splitlines(), wanted.splitlines()
    if len(one) != len(other):
        yield f"{len(one)} lines, stored are {len(other)}"
    for number, (now, then) in enumerate(zip(one, other, strict=False), 1):
        if now != then:
            yield f"line {number}\n  now:    {now}\n  stored: {then}"


@pytest.mark.parametrize("name", STUDIES)
def test_a_report_says_what_it_said(name, tmp_path):
    found, wanted = built(name, tmp_path / name), stored(name)
    # All that it says is in the schema.
    read(tmp_path / name)
    assert sorted(found) == sorted(wanted)
    for file, text in found.items():
        different = list(_differences(text, wanted[file]))
        assert text == wanted[file], f"{name}/{file}: " + "\n".join(different[:5])


def test_new_names_reach_every_place_they_stand_in():
    renamed = {
        "sequential_tasks": "sequential_tasks",
        "rows": "levels",
        "rows.part": "evaluation",
        "verdict: same": "equivalent",
    }
    row = {"part": "test", "settings": "sequential_tasks=bios l2=0.1", "verdict": "same", "low": 1e-17}
    said = json.loads(_json({"rows": [row], "dial": [{"part": "x"}]}, renamed, False))
    row = {"evaluation": "test", "settings": "sequential_tasks=bios l2=0.1", "verdict": "equivalent", "low": 0.0}
    assert said == {"levels": [row], "dial": [{"part": "x"}]}
    text = 'part,verdict,sentence,gap\ntest,same,Long.,"[0.30000000000000004, None]"\n'
    table = simplified(text, Path("rows.csv"), renamed, False)
    assert table == 'evaluation,verdict,gap\ntest,equivalent,"[0.3, None]"\n'


def main() -> None:
    """Write the stored files anew."""
    if RENAMED:
        sys.exit("RENAMED is not empty: the files would be stored with new names. Take the names over first.")
    for name in STUDIES:
        with tempfile.TemporaryDirectory() as folder:
            files = built(name, Path(folder) / name)
        shutil.rmtree(GOLDEN / name, ignore_errors=True)
        for file, text in files.items():
            path = GOLDEN / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
