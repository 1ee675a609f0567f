"""Base models: a name becomes weights, a tokenizer, a device and a dtype. Safetensors only; no remote code, ever."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from ftlib.config.methods import DECODER, ENCODER_DECODER, context_of, family_of, read_config
from ftlib.core.atomic import remembered
from ftlib.core.errors import FtlibError
from ftlib.models import weights
from ftlib.records import provenance


@dataclass(frozen=True, repr=False)
class Model:
    """A base model that has been found and identified; its weights are loaded by `encoder`, `classifier`, `speaker`."""

    name: str
    folder: Path
    revision: str
    """Commit of a Hub model; empty for others."""
    sha256: str
    """Of the weights' files."""
    files_sha256: str
    """Of everything that is read; see `ftlib.models.weights.model_digest`."""
    device: str
    dtype: str
    """float32, or bfloat16 for autocast: matrix products in bfloat16, weights and sums in float32."""
    threads: int
    tokenizer: Any
    family: str = "encoder"
    """encoder, decoder or encoder-decoder."""
    context: int | None = None
    """The most tokens it can see at once; None: its configuration sets no limit."""

    def __repr__(self) -> str:
        arithmetic = "bfloat16 autocast" if self.bf16 else self.dtype
        at = f"@{self.revision}" if self.revision else ""
        run_as = f"{self.device}, {arithmetic}, threads {self.threads}"
        return f"Model({self.name}{at}, {self.family}, sha256 {self.sha256[:12]}, {run_as})"

    @property
    def bf16(self) -> bool:
        """Whether matrix products run in bfloat16."""
        return self.dtype == "bfloat16"

    def autocast(self) -> torch.autocast:
        """The context in which the model's forward passes run."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.bf16)

    def encoder(self) -> torch.nn.Module:
        """The untouched model without a head, in evaluation mode, on its device; of two halves, the one that reads."""
        module = _load(transformers.AutoModel, self.folder).eval().to(self.device)
        return module.get_encoder() if self.family == ENCODER_DECODER else module

    def speaker(self) -> torch.nn.Module:
        """The model with the layer that predicts tokens, in evaluation mode, on its device.

        Raises:
            FtlibError: The model was stored without that layer.
        """
        loader = {
            DECODER: transformers.AutoModelForCausalLM,
            ENCODER_DECODER: transformers.AutoModelForSeq2SeqLM,
        }.get(self.family, transformers.AutoModelForMaskedLM)
        if not self.speaks:
            raise FtlibError(f"model {self.name!r}: was stored without the layer that predicts tokens")
        return _load(loader, self.folder).eval().to(self.device)

    @property
    def speaks(self) -> bool:
        """Whether it can say how likely a text is: an encoder only where its masked-token layer was stored."""
        names = read_config(self.folder).get("architectures") or []
        return self.family in (DECODER, ENCODER_DECODER) or any(name.endswith("ForMaskedLM") for name in names)

    def classifier(self, n_labels: int, seed: int, **config: int) -> torch.nn.Module:
        """The model with a new classification head, initialised from the seed.

        Args:
            config: Of the model's configuration what shall be otherwise: `num_hidden_layers` keeps the first so many.
        """
        torch.manual_seed(seed)
        loader = transformers.AutoModelForSequenceClassification
        return _load(loader, self.folder, num_labels=n_labels, **config).to(self.device)


def load_model(name: str = "minilm", *, device: str = "auto", dtype: str = "auto", threads: int = 1) -> Model:
    """Find a base model and its tokenizer.

    Args:
        name: Bundled name, local folder, or Hub id with an optional "@revision".
        device: "cpu", "cuda", "mps" or "auto" (the first of cuda, mps, cpu that is there).
        dtype: "float32", "bfloat16" or "auto" (bfloat16 where the processor multiplies it natively).
        threads: CPU threads of torch, for the whole process; part of the result, since sums depend on it.

    Raises:
        FtlibError: See `ftlib.models.weights.find`; or a tokenizer that does not load, a device or dtype that is not
            there.
    """
    found = weights.find(name)
    torch.set_num_threads(threads)
    transformers.utils.logging.disable_progress_bar()
    # Its threads would be beside those of the spec, and it warns when a process that used them forks.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    device = pick_device(device)
    loader = transformers.AutoTokenizer
    try:
        tokenizer = loader.from_pretrained(found.folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError) as error:
        raise FtlibError(f"model {name!r}: its tokenizer does not load from {found.folder}: {error}") from None
    config = read_config(found.folder)
    family = family_of(config)
    if tokenizer.pad_token is None:
        # Batches need something to fill up with; what it is does not matter, since it is masked.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.bos_token or tokenizer.unk_token
    if family == DECODER:
        # Positions are counted from the left: filling up on the left would move the text.
        tokenizer.padding_side = "right"
    return Model(name, *found, device, pick_dtype(dtype, device), threads, tokenizer, family, context_of(config))


def pick_device(device: str = "auto") -> str:
    """The device to use.

    Raises:
        FtlibError: The device was named and is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, present in there.items() if present)
    if not there[device]:
        raise FtlibError(f"device: {device!r} is not there; this machine has {[n for n, p in there.items() if p]}")
    return device


def pick_dtype(dtype: str, device: str) -> str:
    """The dtype of matrix products: bfloat16 where it is native and therefore faster, else float32.

    A processor that torch was told to take for a lesser one (ATEN_CPU_CAPABILITY=avx2) has what the lesser one has.

    Raises:
        FtlibError: bfloat16 was asked of a device that has none.
    """
    if dtype == "float32" or (dtype == "auto" and device == "mps"):
        return "float32"
    if device == "cpu":
        features = torch.cpu.get_capabilities()
        # Both names of x86 belong to AVX-512; features are the machine's own, the capability is what torch makes of it.
        x86 = ("avx512_bf16", "amx_bf16") if torch.backends.cpu.get_cpu_capability() == "AVX512" else ()
        native = any(features.get(name, False) for name in (*x86, "bf16"))
    else:
        native = device == "cuda" and torch.cuda.is_bf16_supported()
        if dtype == "bfloat16" and not native:
            raise FtlibError(f"dtype: bfloat16 is not supported on this {device}; choose float32 or auto")
    return "bfloat16" if native or dtype == "bfloat16" else "float32"


def _load(loader: Any, folder: Path, **more: Any) -> torch.nn.Module:
    # A new head is reported as "newly initialized", which is what was asked for.
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    try:
        return loader.from_pretrained(
            folder, use_safetensors=True, trust_remote_code=False, local_files_only=True, dtype=torch.float32, **more
        )
    except (OSError, ValueError, KeyError) as error:
        raise FtlibError(f"model in {folder} does not load as {loader.__name__}: {error}") from None
    finally:
        transformers.utils.logging.set_verbosity(level)


def batches(lengths: Sequence[int], size: int) -> list[np.ndarray]:
    """Indices in batches of similar length, longest first, so that padding is little and memory shows at once.

    >>> [batch.tolist() for batch in batches([3, 9, 5], 2)]
    [[1, 2], [0]]
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[start : start + size] for start in range(0, len(order), size)]


def features(model: Model, texts: Sequence[str], max_length: int, batch_size: int = 64) -> np.ndarray:
    """Sentence features of the untouched model: the mean of its last layer's tokens, scaled to length 1.

    Computed once for a model and a list of texts, then read from the user's cache folder.

    Returns:
        (n_texts, width) float32.
    """
    asked = (model.dtype, max_length, batch_size, *texts)
    return kept("features", model, asked, lambda: encoded(model.encoder(), model, texts, max_length, batch_size))


def kept(kind: str, model: Model, asked: Sequence[Any], compute: Callable[[], np.ndarray]) -> np.ndarray:
    """What an untouched model answers, from the user's cache folder or computed and put there.

    Args:
        kind: The folder within the cache.
        asked: Everything that the answer depends on beside the model and the machine, as JSON has it.
    """
    return remembered(kind, key_of(model, asked), compute)


def key_of(model: Model, asked: Sequence[Any]) -> str:
    """The name of an answer that is kept: another one wherever anything it depends on is another.

    That is every file of the model that is read, ftlib's own code, the packages, the processor, what torch makes of it,
    threads, and what was asked.
    """
    machine = [provenance.device_name(model.device), torch.backends.cpu.get_cpu_capability(), model.threads]
    code = [weights.code_digest(), torch.__version__, provenance.versions()]
    # In ASCII: a text may hold half a surrogate pair, which UTF-8 refuses.
    return hashlib.sha256(json.dumps([model.files_sha256, machine, code, *asked]).encode()).hexdigest()[:32]


@torch.inference_mode()
def encoded(
    encoder: torch.nn.Module, model: Model, texts: Sequence[str], max_length: int, batch_size: int = 64
) -> np.ndarray:
    """Sentence features of any encoder that reads the model's tokens, computed now; see `features`."""
    encoder.eval()
    tokens = model.tokenizer(list(texts), truncation=True, max_length=max_length)
    tokens = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    rows = np.zeros((len(texts), encoder.config.hidden_size), np.float32)
    for batch in batches([len(ids) for ids in tokens["input_ids"]], batch_size):
        chosen = {name: [values[i] for i in batch] for name, values in tokens.items()}
        inputs = model.tokenizer.pad(chosen, return_tensors="pt").to(model.device)
        with model.autocast():
            hidden = encoder(**inputs).last_hidden_state
        rows[batch] = pooled(hidden, inputs["attention_mask"]).cpu().numpy()
    return rows


def pooled(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of the tokens that are there, scaled to length 1: (n, n_tokens, width) -> (n, width) float32."""
    mask = mask.unsqueeze(-1)
    return torch.nn.functional.normalize((hidden.float() * mask).sum(dim=1) / mask.sum(dim=1), dim=-1)


def parameters(module: torch.nn.Module) -> tuple[int, int, int]:
    """Trainable parameters, parameters in all, and the bytes of the trainable ones."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    return (
        sum(p.numel() for p in trainable),
        sum(p.numel() for p in module.parameters()),
        sum(p.numel() * p.element_size() for p in trainable),
    )


def count(model: Model) -> int:
    """Parameters of the untouched model."""
    config = transformers.AutoConfig.from_pretrained(model.folder, trust_remote_code=False, local_files_only=True)
    with torch.device("meta"):
        return sum(p.numel() for p in transformers.AutoModel.from_config(config).parameters())
