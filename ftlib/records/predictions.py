"""The one reader of predictions.parquet: as a table, or as arrays for a report.

As arrays (`Part`), labels are numbers, examples stand in the order of their ids, and what is equal in many runs is kept
once.
"""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftlib.core.errors import FtlibError
from ftlib.metrics import text
from ftlib.metrics.fairness import PREFIX as PREFIX_OF_GROUPS
from ftlib.metrics.fairness import unnamed
from ftlib.metrics.language import METRICS_OF_TEXT, PREFIX
from ftlib.metrics.registry import terms_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow

Codes = NDArray[np.int32]

_CODED = ("stage", "part", "label", "prediction")

_NUMBERS = ("nats", "n_tokens", "n_bytes")


def read_predictions(run_dir: str | Path) -> "pd.DataFrame":
    """One row per stage, part and example of a run.

    Raises:
        FtlibError: The run has none.
    """
    import pandas as pd

    path = Path(run_dir) / "predictions.parquet"
    if not path.exists():
        raise FtlibError(f"{path}: no predictions; the run has not finished, or it failed")
    return pd.read_parquet(path)


def is_whole(run_dir: Path) -> bool:
    """Whether a run has predictions that were written to their end."""
    import pyarrow.parquet

    try:
        # The end of the file says what is in it; a file that was cut has none.
        pyarrow.parquet.read_metadata(run_dir / "predictions.parquet")
    except (OSError, pyarrow.ArrowException):
        return False
    return True


class Part(NamedTuple):
    """One run's predictions of one stage and part."""

    ids: NDArray[np.object_]
    """(n,) ids, sorted; shared by all runs on the same examples."""
    labels: tuple[str, ...]
    truth: Codes | None
    """(n,) numbers of the true labels; None where the part has none."""
    chosen: Codes | None
    """(n,) numbers of the predicted labels."""
    terms: Mapping[str, NDArray[np.float64]]
    """Metric -> (n,) values whose mean it is, for the metrics that have them; none where there are no probabilities."""
    numbers: Mapping[str, NDArray[np.float64]]
    """nats, n_tokens, n_bytes: (n,) each, where given for every example."""
    clusters: NDArray[np.object_] | None
    same: bytes
    """Equal for two parts exactly where examples, labels and true labels (of text: its bytes) are equal."""
    answers: bytes
    """Equal for two parts exactly where `same` and all predicted labels (of text: likelihoods, protocol) are equal."""
    protocol: str = ""
    """How the likelihoods of text came about; values under two protocols do not compare."""
    pseudo: bool = False
    """Whether they are a masked model's."""
    groups: Mapping[str, NDArray[np.object_]] = {}
    """Column -> (n,) names of groups, for the columns that this part has."""
    sure: NDArray[np.float32] | None = None
    """(n,) probability that the predicted label was given; None where there are no probabilities."""

    texts: tuple[NDArray[np.object_], NDArray[np.object_]] | None = None
    """(n,) references and (n,) what was written for them; None where no text is."""
    cut: NDArray[np.bool_] | None = None
    """(n,) whether the text was longer than `max_length` and its end was not read."""
    unfinished: NDArray[np.bool_] | None = None
    """(n,) whether what was written for it was as long as it may be, and not at its end."""
    counted: "dict[str, NDArray[np.float64]]" = {}
    """What `counts` has counted; shared by all parts with the same texts."""

    def counts(self, metric: str) -> NDArray[np.float64]:
        """What each segment adds to the sums of a metric of texts, (n, k) (`ftlib.metrics.text`)."""
        if metric not in self.counted:
            self.counted[metric] = text.counts_of(metric, *map(list, self.texts))
        return self.counted[metric]

    @property
    def of_text(self) -> bool:
        """Whether it holds likelihoods of documents, no answers."""
        return self.truth is None and self.texts is None and {"nats", "n_bytes"} <= set(self.numbers)


class Examples(NamedTuple):
    """Texts and labels of a task's test part."""

    texts: Mapping[str, str]

    @classmethod
    def read(cls, path: Path) -> "Examples":
        """Read `examples/<data_sha256>.parquet`.

        Raises:
            FtlibError: It cannot be read.
        """
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.read_table(path, columns=["id", "text"], partitioning=None)
        except (OSError, pyarrow.ArrowException) as error:
            raise FtlibError(f"{path}: cannot be read ({type(error).__name__}), so no texts are shown") from None
        return cls(dict(zip(table["id"].to_pylist(), map(str, table["text"].to_pylist()), strict=True)))


def read_parts(path: Path, metrics: Mapping[str, Any], cache: dict[bytes, Any]) -> dict[tuple[str, str], Part]:
    """Read one run's predictions.

    Args:
        metrics: Of the run's record: says under which protocol likelihoods of text came about.
        cache: Arrays that are equal in many runs are kept here once.

    Raises:
        FtlibError: The file is missing, cannot be read, repeats ids, or lacks a prediction of a labelled example.
    """
    import pyarrow
    import pyarrow.parquet

    if not path.is_file():
        raise FtlibError("predictions.parquet is missing")
    try:
        with pyarrow.parquet.ParquetFile(path, read_dictionary=list(_CODED)) as file:
            columns = [name for name in file.schema_arrow.names if _wanted(name)]
            table = file.read(columns=columns, use_threads=False)
    except (OSError, pyarrow.ArrowException) as error:
        raise FtlibError(f"predictions.parquet cannot be read ({type(error).__name__})") from None
    if lacking := {"stage", "part", "id", "label", "prediction"} - set(table.column_names):
        raise FtlibError(f"predictions.parquet lacks the columns {sorted(lacking)}")
    (stages, stage), (parts, part) = _coded(table["stage"]), _coded(table["part"])
    found = {}
    for code in np.unique(stage * len(parts) + part):
        rows = np.flatnonzero(stage * len(parts) + part == code)
        where = stages[code // len(parts)], parts[code % len(parts)]
        first, last = int(rows[0]), int(rows[-1])
        kept = table.slice(first, last - first + 1) if last - first + 1 == len(rows) else table.take(rows)
        one = _part(kept, "/".join(where), cache)
        found[where] = _with_protocol(one, metrics.get(where[0], {}).get(where[1], {}), cache) if one.of_text else one
    return found


def _with_protocol(part: Part, leaves: Mapping[str, Any], cache: dict[bytes, Any]) -> Part:
    """A part of text, which its bytes, likelihoods and protocol identify rather than labels."""
    named = next((name for name in METRICS_OF_TEXT if name in leaves), "")
    protocol, pseudo = str(leaves.get(named, {}).get("protocol", "")), named.startswith(PREFIX)
    same = hashlib.sha256(part.same + part.numbers["n_bytes"].tobytes()).digest()
    answers = hashlib.sha256(same + f"{pseudo} {protocol}".encode("utf-8", "surrogatepass"))
    for name in ("nats", "n_tokens"):
        answers.update(part.numbers[name].tobytes() if name in part.numbers else b"")
    numbers = cache.setdefault(answers.digest(), part.numbers)
    return part._replace(numbers=numbers, same=same, answers=answers.digest(), protocol=protocol, pseudo=pseudo)


def _wanted(name: str) -> bool:
    return name in ("id", "cluster", "text_out", "cut", "unfinished", *_CODED, *_NUMBERS) or name.startswith(
        ("score_", PREFIX_OF_GROUPS)
    )


def _coded(column: "pyarrow.ChunkedArray") -> tuple[list[str], NDArray[np.int64]]:
    """The texts of a column and, per row, the number of its text; -1 where null."""
    import pyarrow

    array = column.combine_chunks()
    if not pyarrow.types.is_dictionary(array.type):
        array = array.cast(pyarrow.string()).dictionary_encode()
    codes = array.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return [str(value) for value in array.dictionary.to_pylist()], codes


def _part(table: "pyarrow.Table", where: str, cache: dict[bytes, Any]) -> Part:
    ids = np.asarray(table["id"].to_pylist(), dtype=object).astype(str).astype(object)
    order = np.argsort(ids, kind="stable") if (ids[:-1] > ids[1:]).any() else np.arange(len(ids))
    ids = ids[order]
    if (ids[:-1] == ids[1:]).any():
        raise FtlibError(f"{where} repeats ids")
    if "text_out" in table.column_names and not table["text_out"].null_count and not table["label"].null_count:
        return _written(table, ids, order, cache)
    scored = [name for name in table.column_names if name.startswith("score_") and not table[name].null_count]
    (true_names, true_codes), (given_names, given_codes) = _coded(table["label"]), _coded(table["prediction"])
    labels = tuple(name.removeprefix("score_") for name in scored)
    used = [true_names[c] for c in np.unique(true_codes) if c >= 0] + [
        given_names[c] for c in np.unique(given_codes) if c >= 0
    ]
    labels += tuple(sorted(set(used) - set(labels)))
    truth, chosen = _codes(true_names, true_codes, labels), _codes(given_names, given_codes, labels)
    if truth is not None and chosen is None:
        raise FtlibError(f"{where} has labelled examples without a prediction")
    truth, chosen = (None if codes is None else codes[order] for codes in (truth, chosen))
    terms, sure = {}, None
    if truth is not None and scored and len(scored) == len(labels):
        scores = np.column_stack([table[name].to_numpy() for name in scored])[order]
        if np.isfinite(scores).all():
            terms, sure = terms_of(truth, chosen, scores), scores[np.arange(len(scores)), chosen].astype(np.float32)
    numbers, clusters = _numbers_of(table, order), _clusters_of(table, order)
    same = hashlib.sha256("\x1f".join([*labels, "\x1e", *ids]).encode("utf-8", "surrogatepass"))
    same.update(b"" if truth is None else truth.tobytes())
    ids, truth, clusters = cache.setdefault(same.digest(), (ids, truth, clusters))
    answers = hashlib.sha256(same.digest() + (b"" if chosen is None else chosen.tobytes())).digest()
    chosen = cache.setdefault(answers, chosen)
    groups = _groups(table, order, cache)
    return Part(
        ids, labels, truth, chosen, terms, numbers, clusters, same.digest(), answers, groups=groups, sure=sure,
        cut=_flags(table, "cut", order),
    )  # fmt: skip


def _numbers_of(table: "pyarrow.Table", order: NDArray[np.intp]) -> dict[str, NDArray[np.float64]]:
    names = [name for name in _NUMBERS if name in table.column_names and not table[name].null_count]
    return {name: table[name].to_numpy().astype(float)[order] for name in names}


def _clusters_of(table: "pyarrow.Table", order: NDArray[np.intp]) -> NDArray[np.object_] | None:
    if "cluster" not in table.column_names or table["cluster"].null_count:
        return None
    return np.asarray(table["cluster"].to_pylist(), dtype=object)[order]


def _written(
    table: "pyarrow.Table", ids: NDArray[np.object_], order: NDArray[np.intp], cache: dict[bytes, Any]
) -> Part:
    """A part of texts that were written, which its references and those texts identify."""
    references, hypotheses = (
        np.asarray(table[name].to_pylist(), dtype=object)[order] for name in ("label", "text_out")
    )
    same = hashlib.sha256("\x1f".join(["written", *ids, "\x1e", *references]).encode("utf-8", "surrogatepass")).digest()
    answers = hashlib.sha256(same + "\x1f".join(hypotheses).encode("utf-8", "surrogatepass")).digest()
    ids, references, clusters = cache.setdefault(same, (ids, references, _clusters_of(table, order)))
    hypotheses, counted = cache.setdefault(answers, (hypotheses, {}))
    return Part(
        ids, (), None, None, {}, _numbers_of(table, order), clusters, same, answers,
        texts=(references, hypotheses), cut=_flags(table, "cut", order), counted=counted,
        unfinished=_flags(table, "unfinished", order),
    )  # fmt: skip


def _flags(table: "pyarrow.Table", name: str, order: NDArray[np.intp]) -> NDArray[np.bool_] | None:
    """A column of yes and no; None where it is not there, or not filled."""
    if name not in table.column_names or table[name].null_count:
        return None
    return table[name].to_numpy().astype(bool)[order]


def _groups(table: "pyarrow.Table", order: NDArray[np.intp], cache: dict[bytes, Any]) -> dict[str, NDArray[np.object_]]:
    found = {}
    for name in table.column_names:
        if name.startswith(PREFIX_OF_GROUPS) and table[name].null_count < len(table):
            names, codes = _coded(table[name])
            codes = codes[order].astype(np.int32)
            key = hashlib.sha256("\x1f".join([name, *names]).encode("utf-8", "surrogatepass") + codes.tobytes())
            # A code of -1, no group, takes the last.
            column = np.asarray([*names, unnamed() if (codes < 0).any() else ""], dtype=object)[codes]
            found[name.removeprefix(PREFIX_OF_GROUPS)] = cache.setdefault(key.digest(), column)
    return found


def _codes(names: list[str], codes: NDArray[np.int64], labels: tuple[str, ...]) -> Codes | None:
    """Codes in the order of `labels`; None where any row has none."""
    if not len(codes) or (codes < 0).any():
        return None
    place = {name: number for number, name in enumerate(labels)}
    return np.asarray([place.get(name, -1) for name in names], dtype=np.int32)[codes]


def read_columns(
    path: Path, parts: Collection[str], wanted: Collection[str]
) -> dict[tuple[str, str], dict[str, NDArray]]:
    """(stage, evaluation set) -> column -> (n,) values, in the order of the file.

    Args:
        path: A predictions.parquet.
        parts: Evaluation sets to read.
        wanted: Columns to read where the file has them; those that a set leaves blank are other sets' and left out.
            `score_` stands for the scores of all labels.
    """
    import pyarrow.parquet

    if not parts:
        return {}
    all_scores = "score_" in wanted
    names = [
        name
        for name in pyarrow.parquet.read_schema(path).names
        if name in {"stage", "part", *wanted} or (all_scores and name.startswith("score_"))
    ]
    table = pyarrow.parquet.read_table(path, columns=names, filters=[("part", "in", sorted(parts))], partitioning=None)
    where = list(zip(table["stage"].to_pylist(), table["part"].to_pylist(), strict=True))
    found = {}
    for one in dict.fromkeys(where):
        rows = table.take([place for place, other in enumerate(where) if other == one])
        found[one] = {name: np.asarray(rows[name].to_pylist()) for name in names if not rows[name].null_count}
    return found
