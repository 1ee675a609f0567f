"""hub:ID[@revision]: a classification task from the Hugging Face Hub, its revision pinned to a commit.

Where the Hub cannot be reached, the data set is read from what the Hub's cache on this machine holds of it.
"""

import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

from ftlib.core.errors import FtlibError
from ftlib.data import parallel
from ftlib.data.files import NAMES, Asked, task_from
from ftlib.data.kinds import directed
from ftlib.data.tabular import MISSING, Table, known
from ftlib.data.task import Task

if TYPE_CHECKING:
    from datasets import Dataset

PATIENCE_SECONDS = 2.5
"""How long the Hub may take to say which commit a revision is; a name server that hangs has no time-out of its own,
and nobody waits longer than five seconds to hear that there is no network."""

_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")

_COMMIT = r"[0-9a-f]{40}"

_NO_DATA = ("README.md", ".gitattributes", "dataset_infos.json", ".huggingface.yaml")


class Name(NamedTuple):
    """What `hub:owner/name/configuration@revision` names."""

    dataset: str
    config: str
    revision: str


def parse(name: str) -> Name:
    """Take a task's name apart.

    >>> parse("hub:stanfordnlp/sst2@main"), parse("hub:nyu-mll/glue/sst2").config
    (Name(dataset='stanfordnlp/sst2', config='', revision='main'), 'sst2')
    """
    path, _, revision = directed(name)[0].removeprefix("hub:").partition("@")
    owner, *rest = path.split("/")
    if len(rest) > 2 or not all([owner, *rest]) or "@" in revision:
        raise FtlibError(f"task: found {name!r}; allowed: hub:ID, hub:ID/CONFIGURATION, each with @revision or without")
    return Name("/".join([owner, *rest[:1]]), rest[1] if len(rest) == 2 else "", revision)


def load(name: str, **asked: Unpack[Asked]) -> Task:
    """Read a data set from the Hub, or from its cache where the Hub cannot be reached. No code of its runs.

    Args:
        name: "hub:" and the data set's id; "/configuration" where it has several; "@revision" to pin one.

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
        splits = _loaded(named, named.dataset, "cannot be loaded", revision=commit)
    tables = {split: _table(f"{named.dataset} {split}", rows) for split, rows in splits.items()}
    tables, how = _arranged(name, tables, asked.get("label_column", ""))
    make = parallel.task_from if directed(name)[1] else task_from
    return make(
        name,
        tables,
        source=f"https://huggingface.co/datasets/{named.dataset}/tree/{commit}",
        licence=licence,
        stated={"revision": commit, "hub_splits": how} | ({"configuration": named.config} if named.config else {}),
        **asked,
    )


def only_configuration(asked: Name, configs: Sequence[str]) -> str | None:
    """The configuration to read where none was asked for: the only one, or None for the default.

    Raises:
        FtlibError: There are several and none is the default.
    """
    if len(configs) > 1 and "default" not in configs:
        raise FtlibError(
            f"hub:{asked.dataset}: has {len(configs)} configurations: {', '.join(sorted(configs))}; "
            f'say which: task = "hub:{asked.dataset}/{sorted(configs)[0]}"'
        )
    return configs[0] if len(configs) == 1 else None


class _Folder(NamedTuple):
    """Where the cache has a data set: as Arrow files of one configuration, or as the files of its repository."""

    path: Path
    config: str
    commit: str


def cached_folders(asked: Name, commit: str) -> list[_Folder]:
    """Folders of the cache that hold this data set at a commit; at any, where the commit is empty."""
    from huggingface_hub import constants

    home = Path(os.environ.get("HF_DATASETS_CACHE") or Path(constants.HF_HOME) / "datasets")
    owner, _, title = asked.dataset.rpartition("/")
    # As datasets spells its folders: owner___snake_case_name.
    snake = re.sub(r"([a-z\d])([A-Z])", r"\1_\2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", title)).lower()
    arrow = home / (f"{owner}___{snake}" if owner else snake)
    repository = Path(constants.HF_HUB_CACHE) / f"datasets--{asked.dataset.replace('/', '--')}" / "snapshots"
    found = [_Folder(path.parent, path.parts[-4], path.parts[-2]) for path in arrow.glob("*/*/*/dataset_info.json")]
    found = [folder for folder in found if not asked.config or folder.config == asked.config]
    found += [_Folder(path, "", path.name) for path in repository.glob("*") if path.is_dir()]
    found.sort(key=lambda folder: folder.path.stat().st_mtime, reverse=True)
    return [folder for folder in found if not commit or folder.commit == commit]


def from_cache(asked: Name, why: str) -> tuple[str, Mapping[str, "Dataset"]]:
    """The commit and splits that the cache holds for a revision.

    Raises:
        FtlibError: The cache does not hold it; says how to fetch it.
    """
    from huggingface_hub import constants

    commit = asked.revision if re.fullmatch(_COMMIT, asked.revision) else ""
    reference = Path(constants.HF_HUB_CACHE) / f"datasets--{asked.dataset.replace('/', '--')}" / "refs"
    if not commit and (reference / (asked.revision or "main")).is_file():
        commit = (reference / (asked.revision or "main")).read_text().strip()
    folders = cached_folders(asked, commit) if commit or not asked.revision else []
    arrow = {folder.config: folder for folder in folders if folder.config and folder.commit == folders[0].commit}
    if arrow:
        config = asked.config or only_configuration(asked, sorted(arrow)) or "default"
        if splits := _arrow_splits(arrow[config].path):
            return arrow[config].commit, splits
    for folder in folders:
        if not folder.config and any(path.name not in _NO_DATA for path in folder.path.rglob("*") if path.is_file()):
            return folder.commit, _loaded(asked, str(folder.path), f"the copy in {folder.path} cannot be loaded")
    raise FtlibError(_how_to_fetch(asked, why, constants.HF_HOME))


def _how_to_fetch(asked: Name, why: str, home: str) -> str:
    arguments = [asked.dataset] + [asked.config] * bool(asked.config)
    said = ", ".join(
        [*(f'"{argument}"' for argument in arguments)] + [f'revision="{asked.revision}"'] * bool(asked.revision)
    )
    pinned = f" --revision {asked.revision}" if asked.revision else ""
    return (
        f"hub:{asked.dataset}: {why}, and the data set is not in the cache ({home}); where there is a network, run\n"
        f"    python -c 'from datasets import load_dataset; load_dataset({said})'\n"
        f"or  hf download --repo-type dataset {asked.dataset}{pinned}\n"
        "and copy that folder here, or name it with HF_HOME; a file on this machine is read with file:PATH"
    )


def _arrow_splits(folder: Path) -> dict[str, "Dataset"]:
    """The splits of one configuration that `load_dataset` has prepared before: one or more Arrow files each."""
    from datasets import Dataset, concatenate_datasets

    shards: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.arrow")):
        if path.name.startswith("cache-"):
            continue  # What somebody computed from the data set.
        if found := re.fullmatch(r".*?-(\w+?)(-\d{5}-of-\d{5})?\.arrow", path.name):
            shards.setdefault(found[1], []).append(path)
    return {
        split: concatenate_datasets([Dataset.from_file(str(path)) for path in paths]) for split, paths in shards.items()
    }


def _loaded(asked: Name, place: str, problem: str, **at: str) -> Mapping[str, "Dataset"]:
    """The splits that `datasets` reads from a repository of the Hub, or from a copy of one in a folder."""
    from datasets import get_dataset_config_names, load_dataset

    try:
        config = asked.config or only_configuration(asked, get_dataset_config_names(place, **at))
        return load_dataset(place, config, **at)
    except FtlibError:
        raise
    except Exception as error:  # datasets raises whatever its many readers raise.
        raise FtlibError(f"hub:{asked.dataset}: {problem}: {type(error).__name__}: {error}") from error


def _commit(asked: Name) -> tuple[tuple[str, str] | None, str]:
    """The commit of the revision and the licence, or None and why the Hub was not reached."""
    if any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in _OFFLINE):
        return None, "HF_HUB_OFFLINE is set"
    if re.fullmatch(_COMMIT, asked.revision) and cached_folders(asked, asked.revision):
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


def _within(seconds: float, ask: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """What `ask` returns or raises; (None, None) when it takes longer."""
    said: list[tuple[Any, Exception | None]] = []

    def run() -> None:
        try:
            said.append((ask(), None))
        except Exception as error:  # The caller says which it is; a thread must not print it.
            said.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return said[0] if said else (None, None)


def _table(where: str, rows: "Dataset") -> Table:
    """A split's rows; the numbers of a ClassLabel become its names, and -1, a hidden label, is missing."""

    def column(name: str) -> list[Any]:
        names = getattr(rows.features[name], "names", None)
        values = rows.with_format(None)[name][:]
        if names is not None:
            values = [names[value] if value is not None and value >= 0 else None for value in values]
        return [known(value) for value in values]

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
