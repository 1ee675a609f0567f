"""Base models to choose from: what is on this machine, how large each is, and what it would need. Loads no weight."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ftlib.config.constraints import BUNDLED_MODELS
from ftlib.config.methods import context_of, family_of, read_config
from ftlib.core.atomic import cache_folder, kept_json
from ftlib.core.errors import FtlibError
from ftlib.core.surroundings import memory
from ftlib.models import weights

if TYPE_CHECKING:
    import pandas as pd

BYTES_TO_PREDICT = 4
"""Per parameter: ftlib holds weights in float32."""

BYTES_TO_TRAIN = 16
"""Per parameter, when all move: weight, gradient, and the two running means of AdamW, each in float32."""

FORMULA = (
    f"memory, at least: {BYTES_TO_PREDICT} bytes a parameter to predict (float32); {BYTES_TO_TRAIN} to fine-tune fully "
    "(weight, gradient, AdamW's two means); what a batch of texts takes, and about 0.6 GB for the process, come on top"
)

UNKNOWN_LICENCE = "unknown: read its card"


class Candidate(NamedTuple):
    """A base model on this machine."""

    name: str
    """What to write as `model`."""
    folder: str
    family: str
    parameters: int
    """As stored; see `ftlib.models.weights.parameters`."""
    disk_bytes: int
    """Of the weights' files."""
    context: int | None
    """Tokens it sees at once; None: no limit is stated."""
    licence: str
    """As its card states it; never guessed."""
    speed: Mapping[str, Any]
    """What `ftlib.execution.benchmark.measure_speed` last found here; empty where it was not asked."""
    problem: str
    """Why ftlib cannot use it; empty where it can."""

    @property
    def predict_bytes(self) -> int:
        """Memory that predicting takes at least."""
        return BYTES_TO_PREDICT * self.parameters

    @property
    def train_bytes(self) -> int:
        """Memory that full fine-tuning takes at least."""
        return BYTES_TO_TRAIN * self.parameters

    def use(self, memory_bytes: int) -> str:
        """What fits into a memory: train, predict or nothing; none of both where there is a problem.

        >>> one = Candidate("a", "a", "encoder", 10**9, 4 * 10**9, 512, "mit", {}, "")
        >>> [one.use(gigabytes * 10**9) for gigabytes in (24, 8, 2)]
        ['train', 'predict', 'nothing']
        """
        if self.problem or self.predict_bytes > memory_bytes:
            return "nothing"
        return "train" if self.train_bytes <= memory_bytes else "predict"


def candidates(folders: Sequence[str | Path] = ()) -> list[Candidate]:
    """Every base model on this machine that ftlib knows of, the smallest first; those it cannot use last.

    Args:
        folders: More to look at: models, or folders of models. The bundled ones and the Hub's cache always are.

    Raises:
        FtlibError: A folder that holds no model.
    """
    found: dict[Path, Candidate] = {}
    for name, folder in (*_bundled(), *_cached(), *_named(folders)):
        # minilm may be in the Hub's cache, and a folder may be named that is bundled: the first name stays.
        found.setdefault(folder.resolve(), _described(name, folder))
    return sorted(found.values(), key=lambda one: (bool(one.problem), one.parameters, one.name))


def table(found: Sequence[Candidate], memory_bytes: float) -> "pd.DataFrame":
    """Candidates beside each other: sizes in millions and gigabytes (10^9 bytes), and what fits into the memory."""
    import pandas as pd

    rows = [
        {
            "model": one.name,
            "family": one.family,
            "parameters, M": one.parameters / 1e6,
            "on disk, GB": one.disk_bytes / 1e9,
            "context": one.context,
            "to predict, GB": one.predict_bytes / 1e9,
            "to train, GB": one.train_bytes / 1e9,
            "room to": one.use(int(memory_bytes)),
            "licence": one.licence,
        }
        for one in found
    ]
    return pd.DataFrame(rows).set_index("model").round(3)


def machine_memory() -> tuple[int, str]:
    """Bytes a model can be loaded into, and of what: the first GPU's where there is one, else of the main memory that
    this process may use.
    """
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        said = subprocess.run(asked, capture_output=True, text=True, check=False)
        if said.returncode == 0 and (lines := said.stdout.split()):
            return int(lines[0]) * 2**20, "the GPU's memory"
    main = memory()
    return main.total, main.of


def licence_of(folder: Path) -> str:
    """The licence that a model's card states: `license` of its front matter, or a table's row that begins so."""
    import yaml
    from huggingface_hub.repocard import metadata_load

    for path in (folder / "README.md", folder / "CARD.md"):
        if not path.is_file():
            continue
        try:
            stated = metadata_load(path) or {}
        except (ValueError, yaml.YAMLError) as error:
            return f"unknown: {path.name} cannot be read ({' '.join(str(error).split())})"
        named = stated.get("license_name") if stated.get("license") == "other" else None
        if licence := named or stated.get("license"):
            return ", ".join(licence) if isinstance(licence, list) else str(licence)
        for line in path.read_text(encoding="utf-8").splitlines():
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if line.startswith("|") and len(cells) == 2 and cells[0].lower() in ("licence", "license"):
                return cells[1]
    return UNKNOWN_LICENCE


def architecture(folder: Path) -> str:
    """What a model's speed depends on, hashed: its configuration and the shapes of its tensors, whatever they hold."""
    shapes = json.dumps(sorted(weights.tensors(folder).items()))
    return hashlib.sha256((folder / "config.json").read_bytes() + shapes.encode()).hexdigest()[:32]


def speeds_folder() -> Path:
    """Where measured speeds are kept: `<architecture>-<settings>.json`."""
    return cache_folder() / "speeds"


def _described(name: str, folder: Path) -> Candidate:
    licence = licence_of(folder)
    try:
        config = read_config(folder)
        family, context, parameters = family_of(config), context_of(config), weights.parameters(folder)
    except (ValueError, FtlibError) as error:
        problem = str(error) if isinstance(error, FtlibError) else f"config.json is no JSON ({error})"
        return Candidate(name, str(folder), "unknown", 0, 0, None, licence, {}, problem)
    size = sum(path.stat().st_size for path in weights.files_of(folder))
    problem = ""
    if how := config.get("quantization_config"):
        method = how.get("quant_method", "of its own")
        problem = f"stored quantised ({method}); ftlib loads weights of 16 or 32 bits, so parameters are not counted"
    kept = sorted(speeds_folder().glob(f"{architecture(folder)}-*.json"), key=lambda path: path.stat().st_mtime)
    speed = (kept_json(kept[-1]) or {}) if kept else {}
    return Candidate(name, str(folder), family, parameters, size, context, licence, speed, problem)


def _bundled() -> Iterator[tuple[str, Path]]:
    for name in BUNDLED_MODELS:
        try:
            yield name, weights.find(name).folder
        except FtlibError:
            # Not installed, which is no candidate on this machine; `ftlib doctor` says what to do.
            continue


def _cached() -> Iterator[tuple[str, Path]]:
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return
    for repository in sorted(repositories, key=lambda one: one.repo_id):
        if repository.repo_type != "model":
            continue
        for revision in sorted(repository.revisions, key=lambda one: one.commit_hash):
            at = "" if "main" in revision.refs else f"@{revision.commit_hash}"
            folder = revision.snapshot_path
            if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
                yield repository.repo_id + at, folder


def _named(folders: Iterable[str | Path]) -> Iterator[tuple[str, Path]]:
    for given in map(Path, folders):
        inside = [given] if (given / "config.json").is_file() else [p.parent for p in given.glob("*/config.json")]
        if not inside:
            raise FtlibError(
                f"{given}: no model here; allowed: a folder with config.json, a tokenizer and *.safetensors, or a "
                "folder of such folders"
            )
        yield from ((str(folder), folder) for folder in sorted(inside))
