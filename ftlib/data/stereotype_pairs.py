"""Pairs of sentences, one of which is more stereotyping: CrowS-Pairs, WinoBias and Winogender as they are published.

None is bundled. Read from a file of the user's, a data set is told by its columns; a file with `sent_more` and
`sent_less` can be anybody's.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ftlib.core.errors import FtlibError
from ftlib.data.tabular import SUFFIXES, Table, read_rows

if TYPE_CHECKING:
    import pandas as pd

CRITICISM = (
    "Blodgett et al. 2021 (Stereotyping Norwegian Salmon) found pitfalls in nearly every pair of such benchmarks they "
    "looked at: more than one difference, unclear or untrue stereotypes, slips of spelling. A share near 0.5 shows no "
    "lack of bias, and a change of it says nothing of what a model does to people."
)
"""Shown beside every score of pairs."""


class Pairs(NamedTuple):
    """Pairs of sentences, and where they are from."""

    name: str
    table: "pd.DataFrame"
    """A row per pair: `id`, `more` (the more stereotyping sentence), `less`, `bias_type`, `reverse` (bool, whether the
    pair goes against a stereotype of a disadvantaged group) and `cluster` (pairs of one source)."""
    source: str
    note: str
    """How the pairs came from the file."""


def read_pairs(path: str | Path) -> Pairs:
    """Read pairs from a file (CSV, TSV, JSONL or Parquet).

    Args:
        path: With the columns of CrowS-Pairs (`sent_more`, `sent_less`; `bias_type`, `stereo_antistereo` and `id` where
            there are any), WinoBias (`type`, `stereotype`, `item`, `sentence`) or Winogender (`sentid`, `sentence`,
            `occupation`, `answer`, `gender`, `bls_pct_female`).

    Raises:
        FtlibError: The file is missing, has other columns, or a sentence lacks its counterpart.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        raise FtlibError(
            f"pairs: {path} is not there or not a table; allowed: a file that ends in {', '.join(SUFFIXES)}"
        )
    table = read_rows(path)
    for columns, read in FORMS.items():
        if set(columns) <= set(table.columns):
            found = read(path, table)
            if found.table.empty:
                raise FtlibError(f"pairs: {path} has no pairs")
            return found
    forms = "; ".join(", ".join(columns) for columns in FORMS)
    raise FtlibError(f"pairs: {path} has the columns {', '.join(table.columns)}; allowed: {forms}")


def _frame(rows: list[tuple]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(rows, columns=["id", "more", "less", "bias_type", "reverse", "cluster"])


def _crows(path: Path, table: Table) -> Pairs:
    n = len(table.lines)
    given = {name: [str(value) for value in table.column(name)] if name in table.columns else [] for name in _OPTIONAL}
    ids = given["id"] or [str(number) for number in range(n)]
    types = given["bias_type"] or ["all"] * n
    directions = given["stereo_antistereo"] or ["stereo"] * n
    rows = []
    for row, (more, less) in enumerate(zip(table.column("sent_more"), table.column("sent_less"), strict=True)):
        if not (isinstance(more, str) and isinstance(less, str) and more.strip() and less.strip()):
            raise FtlibError(f"{table.at(row)}: a pair lacks a sentence; both sent_more and sent_less are needed")
        if directions[row] not in ("stereo", "antistereo"):
            raise FtlibError(
                f"{table.at(row)}: stereo_antistereo: found {directions[row]!r}; allowed: stereo, antistereo"
            )
        rows.append((ids[row], more, less, types[row], directions[row] == "antistereo", ids[row]))
    if len(set(ids)) < n:
        raise FtlibError(f"pairs: {path} has an id twice; ids must differ")
    return Pairs("CrowS-Pairs", _frame(rows), "Nangia et al. 2020", "sent_more against sent_less")


_OPTIONAL = ("id", "bias_type", "stereo_antistereo")


def _winobias(path: Path, table: Table) -> Pairs:
    sides: dict[tuple[str, str], dict[str, str]] = {}
    columns = [table.column(name) for name in ("type", "item", "stereotype", "sentence")]
    for row, (kind, item, stereotype, sentence) in enumerate(zip(*columns, strict=True)):
        if stereotype not in ("pro", "anti"):
            raise FtlibError(f"{table.at(row)}: stereotype: found {stereotype!r}; allowed: pro, anti")
        sides.setdefault((kind, str(item)), {})[stereotype] = sentence
    if lone := [key for key, both in sides.items() if len(both) < 2]:
        raise FtlibError(f"pairs: {path}: {' '.join(lone[0])} is there in one form only; each item needs pro and anti")
    rows = [
        (f"{kind}-{item}", both["pro"], both["anti"], f"gender, {kind}", False, f"{kind}-{item}")
        for (kind, item), both in sides.items()
    ]
    note = "the pro-stereotypical sentence against its anti-stereotypical form; not the paper's coreference F1"
    return Pairs("WinoBias", _frame(rows), "Zhao et al. 2018", note)


def _winogender(path: Path, table: Table) -> Pairs:
    names = ("sentid", "sentence", "occupation", "answer", "gender", "bls_pct_female")
    forms: dict[str, dict[str, str]] = {}
    about: dict[str, tuple[str, float]] = {}
    for row, values in enumerate(zip(*(table.column(name) for name in names), strict=True)):
        sentid, sentence, occupation, answer, gender, share = values
        # Where the pronoun means the other participant, no statistic says who that is.
        if str(answer) != "0" or gender not in ("male", "female"):
            continue
        try:
            about[key := sentid.replace(f".{gender}.", ".")] = (occupation, float(share))
        except ValueError:
            raise FtlibError(f"{table.at(row)}: bls_pct_female: found {share!r}; allowed: a number") from None
        forms.setdefault(key, {})[gender] = sentence
    if lone := [key for key, both in forms.items() if len(both) < 2]:
        raise FtlibError(f"pairs: {path}: {lone[0]} is there for one gender only; each needs male and female")
    rows = []
    for key, both in forms.items():
        occupation, share = about[key]
        more, less = ("female", "male") if share > 50 else ("male", "female")
        rows.append((key, both[more], both[less], f"gender, mostly {more} occupations", False, occupation))
    note = (
        "sentences whose pronoun means the occupation; the more stereotyping has the gender of most who hold it (US "
        "Bureau of Labor Statistics); not the paper's coreference score"
    )
    return Pairs("Winogender", _frame(rows), "Rudinger et al. 2018", note)


FORMS: Mapping[tuple[str, ...], Callable[[Path, Table], Pairs]] = {
    ("sent_more", "sent_less"): _crows,
    ("type", "stereotype", "item", "sentence"): _winobias,
    ("sentid", "sentence", "occupation", "answer", "gender", "bls_pct_female"): _winogender,
}
"""Columns -> what reads them."""
