"""hub:ID[@revision]: a classification task from the Hugging Face Hub, its revision pinned to a commit."""

import os
import re
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Unpack

from ftlib.data import Task
from ftlib.data.files import NAMES, Asked, task_from
from ftlib.data.hub_cache import Name, cached_folders, from_cache, only_configuration
from ftlib.data.rows import MISSING, Table
from ftlib.errors import FtlibError

if TYPE_CHECKING:
    from datasets import Dataset

PATIENCE_SECONDS = 2.5
"""How long the Hub may take to say which commit a revision is; a name server that hangs has no time-out of its own,
and nobody waits longer than five seconds to hear that there is no network."""


def parse(name: str) -> Name:
    """Take a task's name apart.

    >>> parse("hub:stanfordnlp/sst2@main"), parse("hub:nyu-mll/glue/sst2").config
    (Name(dataset='stanfordnlp/sst2', config='', revision='main'), 'sst2')
    """
    path, _, revision = name.removeprefix("hub:").partition("@")
    owner, *rest = path.split("/")
    if len(rest) > 2 or not all([owner, *rest]) or "@" in revision:
        raise FtlibError(f"task: found {name!r}; allowed: hub:ID, hub:ID/CONFIGURATION, each with @revision or without")
    return Name("/".join([owner, *rest[:1]]), rest[1] if len(rest) == 2 else "", revision)


def load(name: str, **asked: Unpack[Asked]) -> Task:
    """Read a data set from the Hub, or from its cache where the Hub cannot be reached. No code of its runs.

    Args:
        name: "hub:" and the data set's id; "/configuration" where it has several; "@revision" to pin one.
        **asked: See `ftlib.data.files.Asked`.

    Raises:
        FtlibError: There is no such data set, it is not in the cache and the Hub cannot be reached, or its rows are
            not those of a classification task.
    """
    named = parse(name)
    found, unreachable = _commit(named)
    if found is None:
        commit, splits = from_cache(named, unreachable)
        licence = "see the data set's page"
    else:
        commit, licence = found
        splits = _download(named, commit)
    tables = {split: _table(f"{named.dataset} {split}", rows) for split, rows in splits.items()}
    tables, how = _arranged(name, tables, asked.get("label_column", ""))
    return task_from(
        name,
        tables,
        source=f"https://huggingface.co/datasets/{named.dataset}/tree/{commit}",
        licence=licence,
        stated={"revision": commit, "hub_splits": how} | ({"configuration": named.config} if named.config else {}),
        **asked,
    )


def _commit(asked: Name) -> tuple[tuple[str, str] | None, str]:
    """The commit of the revision and the licence, or None and why the Hub was not reached."""
    if any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in _OFFLINE):
        return None, "HF_HUB_OFFLINE is set"
    if re.fullmatch(r"[0-9a-f]{40}", asked.revision) and cached_folders(asked, asked.revision):
        return None, "the commit is in the cache"  # A commit never changes: nothing to ask.

    def ask() -> tuple[str, str]:
        from huggingface_hub import HfApi

        info = HfApi().dataset_info(asked.dataset, revision=asked.revision or None, timeout=PATIENCE_SECONDS)
        licence = getattr(info.card_data, "license", None) or "not stated"
        return str(info.sha), licence if isinstance(licence, str) else ", ".join(licence)

    answer, error = _within(PATIENCE_SECONDS, ask)
    if error is not None:
        _refuse(asked, error)
    if answer is None:
        said = "no answer" if error is None else type(error).__name__
        return None, f"the Hub cannot be reached ({said})"
    return answer, ""


def _refuse(asked: Name, error: Exception) -> None:
    """Raise what the Hub itself refused; return when it was not reached."""
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    where = f"hub:{asked.dataset}"
    if isinstance(error, GatedRepoError):
        raise FtlibError(f"{where}: is gated; ask for access on its page, then `hf auth login`")
    if isinstance(error, RevisionNotFoundError):
        raise FtlibError(f"{where}: has no revision {asked.revision!r}")
    if isinstance(error, RepositoryNotFoundError | HFValidationError):
        raise FtlibError(f"{where}: there is no such data set on the Hub, or it is private (`hf auth login`)")


_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")


def _within(seconds: float, ask: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """What `ask` returns or raises; (None, None) when it takes longer."""
    said: list[tuple[Any, Exception | None]] = []

    def run() -> None:
        try:
            said.append((ask(), None))
        except Exception as error:  # Told apart by the caller; a thread must not print it.
            said.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return said[0] if said else (None, None)


def _download(asked: Name, commit: str) -> Mapping[str, "Dataset"]:
    from datasets import get_dataset_config_names, load_dataset

    try:
        config = asked.config or only_configuration(asked, get_dataset_config_names(asked.dataset, revision=commit))
        return load_dataset(asked.dataset, config, revision=commit)
    except FtlibError:
        raise
    except Exception as error:  # datasets raises whatever its many readers raise.
        raise FtlibError(f"hub:{asked.dataset}: cannot be loaded: {type(error).__name__}: {error}") from error


def _table(where: str, rows: "Dataset") -> Table:
    """A split's rows; the numbers of a ClassLabel become its names, and -1, a hidden label, is missing."""

    def column(name: str) -> list[Any]:
        names = getattr(rows.features[name], "names", None)
        values = rows.with_format(None)[name][:]
        if names is not None:
            values = [names[value] if value is not None and value >= 0 else None for value in values]
        return [MISSING if value is None or value != value else value for value in values]

    return Table(where, "row", range(1, rows.num_rows + 1), tuple(rows.column_names), column)


def _arranged(name: str, tables: Mapping[str, Table], label_column: str) -> tuple[dict[str, Table], str]:
    """Give the Hub's splits our names, and find a test split whose labels are not hidden."""
    found = {split: [table for own, table in tables.items() if own.lower() in NAMES[split]] for split in NAMES}
    chosen = {split: several[0] for split, several in found.items() if several}
    if "train" not in chosen:
        if len(tables) > 1:
            raise FtlibError(f"{name}: no train split; it has {', '.join(tables)}")
        return {"all": next(iter(tables.values()))}, f"{next(iter(tables))} divided"
    if "test" in chosen and _hidden(chosen["test"], chosen["train"], label_column):
        del chosen["test"]
        how = "test: the Hub's validation split, as the labels of its test split are hidden"
    else:
        how = "as on the Hub" if "test" in chosen else "test: the Hub's validation split, as it has no test split"
    if "test" not in chosen:
        if "validation" not in chosen:
            return {"all": chosen["train"]}, "train divided, as no other split has labels"
        chosen["test"] = chosen.pop("validation")
    return chosen, how


def _hidden(test: Table, train: Table, label_column: str) -> bool:
    """Whether a test split hides its labels: the column is not there, or all of it missing or -1."""
    name = label_column or next((name for name in ("label", "labels") if name in train.columns), "")
    if name not in train.columns:
        return False
    return name not in test.columns or all(value is MISSING or value == -1 for value in test.column(name))
