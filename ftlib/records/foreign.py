"""Predictions and results that ftlib did not make, read as a run's predictions are: one reader for each format."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ftlib.core.errors import FtlibError
from ftlib.data.labels import LABEL_NAMES, TEXT_NAMES
from ftlib.data.tabular import MISSING, Table, all_of, decoded, read_rows
from ftlib.records.predictions import Part

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "example_id", "doc_id", "sample_id", "guid", "idx"),
    "text": TEXT_NAMES,
    "label": (*LABEL_NAMES, "gold", "reference"),
    "prediction": ("prediction", "predicted", "predictions", "pred", "predicted_label"),
    "score": ("score", "correct", "accuracy", "acc", "exact_match"),
}
"""What a table of predictions is read for, and the usual names of its columns; the first that is there is taken."""

ALIASES = {"acc": "accuracy", "correct": "accuracy"}
"""Names that others give to a metric of ftlib: the share of examples that are right."""


@dataclass(frozen=True)
class Results:
    """What one method did on one evaluation set, whoever measured it."""

    name: str
    task: str = ""
    """The evaluation set's name; empty where nobody says."""
    parts: Mapping[int, Part] = field(default_factory=dict)
    """Seed, or epoch, -> predictions on the same examples; none where only totals are known."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Id -> text, for the examples that have one."""
    answers: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Id -> (right answer, given answer) in words, where the parts hold no labels."""
    totals: Mapping[str, float] = field(default_factory=dict)
    """Metric -> value, where nothing is known of single examples."""
    source: str = ""
    """What the totals were measured on, so that only like is held against like."""
    has_ids: bool = True
    """Whether ids were given; otherwise the text is all that an example is known by."""
    draws: bool = False
    """Whether its seeds are seeds of ftlib, or epochs; otherwise its one run stands for every seed."""
    kind: str = ""
    """What it was read from, in words."""


def read(path: Path, columns: Mapping[str, str] = {}) -> list[Results]:
    """Results from a file or folder that ftlib did not write: one for each evaluation set in it.

    Args:
        columns: Of a table of predictions: a key of `COLUMNS` -> the column's name there.

    Raises:
        FtlibError: Nothing that can be read so, with what can; or rows that say nothing, with their lines.
    """
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise FtlibError(f"{path}: there is no such file or folder")
    suffix = path.suffix.lower()
    if suffix == ".eval":
        return [_inspect(path)]
    if suffix == ".json":
        return [_json(path)]
    table = read_rows(path)
    if suffix == ".jsonl" and {"doc_id", "doc", "filtered_resps"} <= set(table.columns):
        return [_samples(path, table)]
    return [_table(path, table, columns)]


def _folder(path: Path) -> list[Results]:
    found = sorted(path.rglob("samples_*.jsonl"))
    if not found:
        raise FtlibError(
            f"{path}: neither a study (suite.toml, runs/), nor a run (record.json), nor the output of lm_eval with "
            "--log_samples (samples_*.jsonl)"
        )
    several = [name for name, n in Counter(_task_of(file) for file in found).items() if n > 1]
    if several:
        raise FtlibError(f"{path}: holds several logs of {', '.join(several)}; name one of the files")
    return [_samples(file, read_rows(file)) for file in found]


def _task_of(path: Path) -> str:
    """The task in the name of a log of samples.

    >>> _task_of(Path("samples_arc_easy_2026-11-29T02-07-37.625464.jsonl"))
    'arc_easy'
    """
    return re.sub(r"^samples_|_\d{4}-\d\d-\d\dT[\d.:-]+$", "", path.stem)


def _samples(path: Path, table: Table) -> Results:
    """lm-evaluation-harness, --log_samples: a line for each document and filter."""
    rows = [dict(zip(table.columns, row, strict=True)) for row in zip(*map(table.column, table.columns), strict=True)]
    filters = list(dict.fromkeys(row.get("filter", "none") for row in rows))
    documents: dict[str, dict[str, Any]] = {}
    values: dict[str, dict[str, float]] = {}
    problems = []
    own = [row["doc"].get("id") if isinstance(row["doc"], dict) else None for row in rows]
    # A data set's own ids outlive a limit or another order; doc_id counts the rows of this one.
    named = None not in own and len({str(one) for one in own}) == len({row["doc_id"] for row in rows})
    for place, row in enumerate(rows):
        example = str(own[place] if named else row["doc_id"])
        documents.setdefault(example, row)
        for metric in row["metrics"]:
            name = ALIASES.get(metric, metric) + (f",{row['filter']}" if len(filters) > 1 else "")
            value = row.get(metric, MISSING)
            if isinstance(value, bool | int | float) and np.isfinite(value):
                if example in values.setdefault(name, {}):
                    problems.append(f"{table.at(place)}: document {example} stands there twice")
                values[name][example] = float(value)
    if problems:
        raise all_of(problems)
    ids = sorted(documents)
    whole = {name: [found[one] for one in ids] for name, found in values.items() if len(found) == len(ids)}
    if not whole:
        names = sorted({name for row in rows for name in row["metrics"]})
        raise FtlibError(f"{path.name}: no metric with a number for every document; there is {', '.join(names)}")
    texts = {one: _document(documents[one]["doc"]) for one in ids}
    answers = {one: _answers(documents[one]) for one in ids}
    return Results(
        _model_of(path), _task_of(path), {0: _part(ids, terms=whole)}, texts, answers, kind="samples of lm_eval"
    )


def _model_of(path: Path) -> str:
    """The model that the folder of a log is named by; the file's own name elsewhere."""
    folder = path.absolute().parent.name
    return folder.rpartition("__")[2] if path.stem.startswith("samples_") and "__" in folder else path.stem


def _document(doc: Any) -> str:
    """A document in words: its usual text column, else everything that it says."""
    if isinstance(doc, dict):
        named = [doc[name] for name in TEXT_NAMES if isinstance(doc.get(name), str)]
        return named[0] if len(named) == 1 else json.dumps(doc, ensure_ascii=False, sort_keys=True, default=str)
    return str(doc)


def _answers(row: Mapping[str, Any]) -> tuple[str, str]:
    """The right and the given answer: of several continuations the likeliest, else what was generated."""
    asked, given, target = row.get("arguments"), row["filtered_resps"], str(row.get("target", ""))
    choices = [str(one.get("arg_1", "")).strip() for one in asked.values()] if isinstance(asked, dict) else []
    if len(given) == len(choices) > 1 and all(isinstance(one, list) and len(one) == 2 for one in given):
        said = choices[int(np.argmax([float(one[0]) for one in given]))]
        # Where it is a place among the choices, the words say more.
        right = choices[int(target)] if target.isdecimal() and int(target) < len(choices) else target
        return right, said
    return target, given[0] if given and isinstance(given[0], str) else ""


def _json(path: Path) -> Results:
    try:
        found = json.loads(decoded(path, path.name))
    except (ValueError, RecursionError) as error:
        raise FtlibError(f"{path.name}: not valid JSON: {error}") from None
    if isinstance(found, dict) and {"run_info", "train_info"} <= set(found):
        return _method_comparison(path, found)
    if isinstance(found, dict) and {"eval", "plan"} <= set(found):
        return _inspect(path)
    if isinstance(found, dict) and {"results", "configs"} <= set(found):
        raise FtlibError(
            f"{path.name}: the totals of lm_eval, which do not say which examples were right; run it with "
            "--log_samples and give the samples_*.jsonl that lies beside"
        )
    raise FtlibError(f"{path.name}: neither a result of peft's method_comparison nor a log of inspect_ai")


def _method_comparison(path: Path, found: Mapping[str, Any]) -> Results:
    """peft, method_comparison: one seed's totals, nothing of single examples."""
    train, meta = found["train_info"], found.get("meta_info", {})
    if train.get("status", "success") != "success":
        raise FtlibError(f"{path.name}: the run's status is {train['status']!r}, so it has no result to compare")
    totals = {
        # The last entry that has it: tests come after training.
        name.removeprefix("test ").replace(" ", "_"): float(value)
        for entry in train.get("metrics", ())
        for name, value in entry.items()
        if name.startswith("test ") and isinstance(value, int | float)
    }
    if not totals:
        raise FtlibError(f"{path.name}: no entry of train_info.metrics has a test value")
    data = {name: one.get("sha") for name, one in meta.get("dataset_info", {}).items()}
    name = str(found["run_info"].get("experiment_name", path.stem))
    source = json.dumps(data, sort_keys=True)
    return Results(name, totals=totals, source=source, kind="result of peft's method_comparison, totals of one seed")


def whole_numbers(shares: Sequence[float], most: int = 100_000) -> int | None:
    """The least number of examples of which all these shares are whole numbers; None where there is none.

    636 of 1 319 and 1 of 2 need 2 638:

    >>> whole_numbers([0.48218347232752085]), whole_numbers([0.48218347232752085, 0.5]), whole_numbers([0.3**0.5])
    (1319, 2638, None)
    """
    n = 1
    for share in shares:
        near = Fraction(share).limit_denominator(most)
        if abs(float(near) - share) > 1e-12:
            return None
        n = int(np.lcm(n, near.denominator))
    return n if n <= most else None


def _inspect(path: Path) -> Results:
    """inspect_ai, through its own reader: epochs stand as seeds do."""
    try:
        from inspect_ai.log import read_eval_log
        from inspect_ai.scorer import value_to_float
    except ImportError:
        raise FtlibError(
            f"{path.name}: logs of inspect_ai are read by its own reader, which is not installed here: "
            "pip install inspect_ai"
        ) from None
    log = read_eval_log(str(path))
    if log.status != "success" or not log.samples:
        raise FtlibError(
            f"{path.name}: its status is {log.status!r}, with {len(log.samples or [])} samples; nothing to compare"
        )
    number = value_to_float()
    scores: dict[str, dict[int, dict[str, float]]] = {}
    texts, answers, problems = {}, {}, []
    for sample in log.samples:
        example = str(sample.id)
        said = sample.input if isinstance(sample.input, str) else "\n".join(one.text for one in sample.input)
        texts[example] = said
        for scorer, score in (sample.scores or {}).items():
            value = number(score.value) if isinstance(score.value, str | int | float | bool) else np.nan
            if not np.isfinite(value):
                problems.append(f"{path.name}: sample {example}, epoch {sample.epoch}: {scorer} gave no number")
            scores.setdefault(scorer, {}).setdefault(sample.epoch, {})[example] = value
            right = sample.target if isinstance(sample.target, str) else ", ".join(sample.target)
            answers.setdefault(example, (right, score.answer or ""))
    if problems:
        raise all_of(problems)
    ids = sorted(texts)
    epochs = sorted({sample.epoch for sample in log.samples})
    whole = {name: found for name, found in scores.items() if all(len(found.get(e, ())) == len(ids) for e in epochs)}
    if not whole:
        raise FtlibError(f"{path.name}: no scorer gave every sample a score in every epoch")
    parts = {
        e: _part(ids, terms={name: [found[e][one] for one in ids] for name, found in whole.items()}) for e in epochs
    }
    if len(whole) == 1 and all(set(part.terms[next(iter(whole))]) <= {0.0, 1.0} for part in parts.values()):
        parts = {e: part._replace(terms={"accuracy": next(iter(part.terms.values()))}) for e, part in parts.items()}
    return Results(str(log.eval.model), str(log.eval.task), parts, texts, answers, kind="log of inspect_ai")


def _table(path: Path, table: Table, columns: Mapping[str, str]) -> Results:
    """A table with a row for each example: what it is, and how it was answered or scored."""
    if wrong := [f"{what}={name}" for what, name in columns.items() if name not in table.columns]:
        raise FtlibError(f"{path.name}: no such column: {', '.join(wrong)}; columns: {', '.join(table.columns)}")
    plain = {name.strip().lower(): name for name in reversed(table.columns)}
    found = {
        what: columns.get(what) or next((plain[name] for name in names if name in plain), "")
        for what, names in COLUMNS.items()
    }
    answered = found["label"] and found["prediction"]
    if not (found["id"] or found["text"]) or not (answered or found["score"]):
        usual = "; ".join(f"{what}: {', '.join(names)}" for what, names in COLUMNS.items())
        raise FtlibError(
            f"{path.name}: a table of predictions has an id or a text for each example, and a label with a prediction "
            f"or a score; columns: {', '.join(table.columns)}. Name them (--columns label=NAME,prediction=NAME) or use "
            f"the usual names ({usual})"
        )
    problems: list[str] = []
    known = {
        what: list(_words(table, name, problems))
        for what, name in found.items()
        if name and what != "score" and (what not in ("label", "prediction") or answered)
    }
    ids = known.get("id") or [f"row {place + 1}" for place in range(len(table.lines))]
    first = {one: place for place, one in reversed(list(enumerate(ids)))}
    problems += [
        f"{table.at(place)}: the id {one!r} stands there twice" for place, one in enumerate(ids) if first[one] != place
    ]
    terms = {}
    if not answered or "score" in columns:
        metric = ALIASES.get(found["score"].lower(), found["score"])
        terms[metric] = list(_numbers(table, found["score"], problems))
    if problems:
        raise all_of(problems)
    part = _part(ids, known.get("label"), known.get("prediction"), terms)
    texts = dict(zip(ids, known["text"], strict=True)) if "text" in known else {}
    return Results(path.stem, "", {0: part}, texts, has_ids="id" in known, kind="table of predictions")


def _words(table: Table, name: str, problems: list[str]) -> Iterator[str]:
    for place, value in enumerate(table.column(name)):
        if value is MISSING or not str(value).strip():
            problems.append(f"{table.at(place)}: {name} is empty")
        yield str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _numbers(table: Table, name: str, problems: list[str]) -> Iterator[float]:
    words = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}
    for place, value in enumerate(table.column(name)):
        try:
            number = words[value.lower()] if isinstance(value, str) and value.lower() in words else float(value)
        except (TypeError, ValueError):
            number = np.nan
        if not np.isfinite(number):
            problems.append(f"{table.at(place)}: {name} is {value!r}, no number")
        yield number


def _part(
    ids: Sequence[str],
    truth: Sequence[str] | None = None,
    chosen: Sequence[str] | None = None,
    terms: Mapping[str, Sequence[float]] = {},
) -> Part:
    """Rows as a run's predictions, in the order of their ids."""
    order = np.argsort(np.asarray(ids, dtype=object), kind="stable")
    labels = tuple(sorted({*(truth or ()), *(chosen or ())}))
    place = {label: code for code, label in enumerate(labels)}
    codes = [
        None if some is None else np.asarray([place[one] for one in some], dtype=np.int32)[order]
        for some in (truth, chosen)
    ]
    values = {name: np.asarray(some, dtype=float)[order] for name, some in terms.items()}
    return Part(np.asarray(ids, dtype=object)[order], labels, *codes, values, {}, None, b"", b"")
