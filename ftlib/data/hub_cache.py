"""The Hub's cache on this machine: what it holds of a data set, read without a network."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ftlib.errors import FtlibError

if TYPE_CHECKING:
    from datasets import Dataset

_COMMIT = r"[0-9a-f]{40}"
_NO_DATA = ("README.md", ".gitattributes", "dataset_infos.json", ".huggingface.yaml")


class Name(NamedTuple):
    """What `hub:owner/name/configuration@revision` names."""

    dataset: str
    config: str
    revision: str


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

    Args:
        asked: The data set.
        why: Why the Hub itself was not asked.

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
            return folder.commit, _read_repository(asked, folder.path)
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


def _read_repository(asked: Name, folder: Path) -> Mapping[str, "Dataset"]:
    from datasets import get_dataset_config_names, load_dataset

    try:
        config = asked.config or only_configuration(asked, get_dataset_config_names(str(folder)))
        return load_dataset(str(folder), config)
    except FtlibError:
        raise
    except Exception as error:  # datasets raises whatever its many readers raise.
        raise FtlibError(f"hub:{asked.dataset}: the copy in {folder} cannot be loaded: {error}") from error
