"""Base models: a name becomes weights, a tokenizer, a device and a dtype. Safetensors only; no remote code, ever."""

import hashlib
import json
import os
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import transformers

from ftlib.config.experiment import Experiment
from ftlib.config.methods import DECODER, ENCODER, ENCODER_DECODER, context_of, family_of, read_config
from ftlib.core.atomic import remembered, remembered_rows
from ftlib.core.errors import FtlibError
from ftlib.models import weights
from ftlib.models.unpadded import answering
from ftlib.records import provenance

_READ: weakref.WeakValueDictionary[tuple[str, str, str], torch.nn.Module] = weakref.WeakValueDictionary()
"""Untouched models that somebody holds."""


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
    pooling: str = "mean"
    """How its authors make one vector of a text's tokens; see `ftlib.models.weights.pooling_of`."""

    @property
    def unpads(self) -> bool:
        """Whether padding can be left out, where the encoder allows it: on a processor, and where it comes last."""
        return self.device == "cpu" and self.tokenizer.padding_side == "right"

    def __repr__(self) -> str:
        arithmetic = "bfloat16 autocast" if self.bf16 else self.dtype
        at = f"@{self.revision}" if self.revision else ""
        run_as = f"{self.device}, {arithmetic}, threads {self.threads}"
        return f"Model({self.name}{at}, {self.family}, sha256 {self.sha256[:12]}, {run_as})"

    def _repr_html_(self) -> str:
        from ftlib.core.format import count
        from ftlib.core.html import table

        arithmetic = "products in bfloat16, sums in float32" if self.bf16 else self.dtype
        return table(
            ("base model", self.name),
            [
                ("family", self.family),
                ("parameters", count(weights.parameters(self.folder))),
                ("reads at once", f"{self.context} tokens" if self.context else "no limit stated"),
                ("runs on", f"{self.device}, {self.threads} thread{'s' * (self.threads > 1)}, {arithmetic}"),
                ("revision", self.revision or "bundled or local"),
                ("SHA-256 of the weights", self.sha256[:12]),
            ],
        )

    @property
    def bf16(self) -> bool:
        """Whether matrix products run in bfloat16."""
        return self.dtype == "bfloat16"

    def autocast(self) -> torch.autocast:
        """The context in which the model's forward passes run."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.bf16)

    def encoder(self) -> torch.nn.Module:
        """The untouched model without a head, in evaluation mode, on its device; of two halves, the one that reads."""
        return self.body().get_encoder() if self.family == ENCODER_DECODER else self.body()

    def body(self) -> torch.nn.Module:
        """The untouched model without a head, both of its halves where it has two."""
        return _load(transformers.AutoModel, self.folder, _config(self.folder)).eval().to(self.device)

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
        return _load(loader, self.folder, _config(self.folder), whole=True).eval().to(self.device)

    def untouched_speaker(self) -> torch.nn.Module:
        """`speaker` for whoever only reads it: all that read the same model hold one copy."""
        key = (str(self.folder), self.files_sha256, self.device)
        found = _READ.get(key)
        if found is None:
            found = _READ[key] = self.speaker()
        return found

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
        own = _config(self.folder, **config)
        # A model that was stored as a classifier says what its old head was for; the new one is for something else.
        own.num_labels, own.problem_type = n_labels, "single_label_classification"
        plain = type(own)()
        for name in vars(own):
            if "dropout" in name and ("classif" in name or name.startswith("cls_")):
                setattr(own, name, getattr(plain, name, None))
        loader, old_head = transformers.AutoModelForSequenceClassification, self.stored_head
        if old_head:
            # Weights that are handed over are taken by the class itself alone.
            loader = transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(own)]
        torch.manual_seed(seed)
        module = _load(loader, self.folder, own, without=old_head).to(self.device)
        if hasattr(module, "score"):
            # A head on a text's last token finds it by what fills up, which the tokenizer decides.
            module.config.pad_token_id = self.tokenizer.pad_token_id
        return module

    @property
    def stored_head(self) -> list[str]:
        """Names of a classification head that the model was stored with; a run draws its own instead."""
        if self.family != ENCODER:
            return []
        config = _config(self.folder)
        try:
            with torch.device("meta"):
                module = transformers.AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
        except ValueError:
            # There is no classifier of this architecture; whoever asks for one is told.
            return []
        outside = [name for name in module.state_dict() if not name.startswith(f"{module.base_model_prefix}.")]
        found = sorted(set(outside) & weights.tensors(self.folder).keys())
        # What stands between body and output layer of a masked model has learned language, not somebody's labels.
        names = read_config(self.folder).get("architectures") or []
        guesses = any(name.endswith(("ForMaskedLM", "ForPreTraining")) for name in names)
        return [name for name in found if not guesses or name.startswith(("classifier.", "score."))]


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
    Experiment(device=device, dtype=dtype, threads=threads)
    found = weights.find(name)
    torch.set_num_threads(threads)
    transformers.utils.logging.disable_progress_bar()
    # Its threads would be beside those of the spec, and it warns when a process that used them forks.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Kernels for each shape of what is multiplied, of which texts have hundreds: at its own 1024 they take 270 MB more.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
    device = pick_device(device)
    try:
        tokenizer = tokenizer_in(found.folder)
    except (ImportError, OSError, ValueError) as error:
        raise FtlibError(f"model {name!r}: its tokenizer does not load from {found.folder}: {error}") from None
    config = read_config(found.folder)
    family = family_of(config)
    if tokenizer.pad_token is None:
        # Batches need something to fill up with; what it is does not matter, since it is masked.
        others = (tokenizer.eos_token, tokenizer.sep_token, tokenizer.bos_token, tokenizer.unk_token)
        if (fill := next(filter(None, others), None)) is None:
            raise FtlibError(f"model {name!r}: its tokenizer has no token to fill up a batch with; set its pad_token")
        tokenizer.pad_token = fill
    # Positions are counted from the left, and heads read the first token: filling up on the left would move the text.
    # XLNet alone counts no positions and reads the last one. Texts that are too long are cut at their end.
    tokenizer.padding_side = "left" if config.get("model_type") == "xlnet" else "right"
    tokenizer.truncation_side = "right"
    # The same in training and afterwards, whatever the tokenizer's own configuration lists.
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    rows, last = config.get("vocab_size"), max(tokenizer.get_vocab().values(), default=0)
    if rows and last >= rows:
        raise FtlibError(
            f"model {name!r}: its tokenizer gives numbers up to {last}, and the model has {rows} tokens, 0 to "
            f"{rows - 1}; they do not belong together"
        )
    run_as = (device, pick_dtype(dtype, device), threads)
    return Model(name, *found, *run_as, tokenizer, family, context_of(config), weights.pooling_of(found.folder))


def tokenizer_in(folder: Path) -> Any:
    """The tokenizer that is stored in a folder."""
    with warnings.catch_warnings():
        # Marian's would normalise punctuation with it as its authors' scripts do, and reads without.
        warnings.filterwarnings("ignore", "Recommended: pip install sacremoses", UserWarning)
        return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


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


def _config(folder: Path, **more: Any) -> transformers.PreTrainedConfig:
    """A model's configuration, less what it says about the form of the output, which is asked for here."""
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True, **more)
    plain = {"return_dict": True, "output_hidden_states": False, "output_attentions": False}
    for name, value in plain.items():
        if getattr(config, name, value) != value:
            setattr(config, name, value)
    return config


def _load(
    loader: Any, folder: Path, config: Any, *, whole: bool = False, without: Collection[str] = ()
) -> torch.nn.Module:
    """The module, its weights in float32.

    Args:
        whole: Whether every weight must be stored; else what is not is drawn.
        without: Names of stored weights that are not read, so that they are drawn.
    """
    stored: dict[str, Any] = {"pretrained_model_name_or_path": folder}
    if without:
        found: dict[str, torch.Tensor] = {}
        for path in weights.files_of(folder):
            found |= safetensors.torch.load_file(path)
        kept_ones = {name: value for name, value in found.items() if name not in without}
        stored = {"pretrained_model_name_or_path": None, "state_dict": kept_ones}
    # A new head is reported as "newly initialized", which is what was asked for.
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    try:
        module, told = loader.from_pretrained(
            **stored,
            config=config,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError) as error:
        raise FtlibError(f"model in {folder} does not load as {loader.__name__}: {error}") from None
    finally:
        transformers.utils.logging.set_verbosity(level)
    if whole and (lacking := sorted(told["missing_keys"])):
        raise FtlibError(
            f"model in {folder}: was stored without {', '.join(lacking[:3])}, which {loader.__name__} needs to say how "
            "likely a text is; choose a model stored with it (a bundled one: tiny-lm)"
        )
    return module


def batches(lengths: Sequence[int], size: int) -> list[np.ndarray]:
    """Indices in batches of similar length, longest first, so that padding is little and memory shows at once.

    >>> [batch.tolist() for batch in batches([3, 9, 5], 2)]
    [[1, 2], [0]]
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[start : start + size] for start in range(0, len(order), size)]


TOGETHER = {"cpu": 8}
"""Texts that are read at a time, by device; elsewhere 64. A processor is as fast with few."""

STEP = 4
"""Texts are padded to a multiple of so many tokens."""


def features(model: Model, texts: Sequence[str], max_length: int) -> np.ndarray:
    """Sentence features of the untouched model: its last layer's tokens, pooled as its authors do, scaled to length 1.

    Computed once for a model and a text, whatever sample of examples it is in, then read from the user's cache folder.

    Returns:
        (n_texts, width) float32.
    """
    return rows_kept(
        "features",
        model,
        (model.dtype, max_length),
        texts,
        lambda some: timed_features(model.encoder(), model, [texts[place] for place in some], max_length),
    )


def rows_kept(
    kind: str,
    model: Model,
    asked: Sequence[Any],
    texts: Sequence[Any],
    compute: Callable[[list[int]], tuple[np.ndarray, np.ndarray]],
) -> np.ndarray:
    """As `kept`, one row for each text; what is said of one must not depend on the others (see `read_alike`).

    Args:
        texts: Or what stands for them, as JSON has it.
        compute: Places in `texts` -> (their rows, the seconds each took).
    """
    names = [hashlib.sha256(json.dumps(text).encode()).hexdigest()[:32] for text in texts]
    return remembered_rows(kind, key_of(model, asked), names, compute)


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


def encoded(encoder: torch.nn.Module, model: Model, texts: Sequence[str], max_length: int) -> np.ndarray:
    """Sentence features of any encoder that reads the model's tokens, computed now; see `features`."""
    return timed_features(encoder, model, texts, max_length)[0]


@torch.inference_mode()
def features_in_use(
    encoder: torch.nn.Module, model: Model, texts: Sequence[str], max_length: int, batch_size: int
) -> np.ndarray:
    """The same but for the last bits, at what it costs a user: one text alone is read alone."""
    encoder.eval()
    tokens = model.tokenizer(list(texts), truncation=True, max_length=max_length)
    rows: list[np.ndarray] = [np.zeros(0)] * len(texts)
    with answering(encoder, len(texts) if model.unpads else 0, every=True):
        for batch in batches([len(ids) for ids in tokens["input_ids"]], batch_size):
            chosen = {name: [values[place] for place in batch] for name, values in tokens.items()}
            inputs = model.tokenizer.pad(chosen, return_tensors="pt").to(model.device)
            with model.autocast():
                hidden = encoder(**inputs).last_hidden_state
            found = pooled(hidden, inputs["attention_mask"], model.pooling).cpu().numpy()
            for place, row in zip(batch, found, strict=True):
                rows[place] = row
    return np.stack(rows)


def timed_features(
    encoder: torch.nn.Module, model: Model, texts: Sequence[str], max_length: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same, and the seconds that each text took."""
    encoder.eval()
    ids = model.tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]

    def read(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return pooled(encoder(**inputs).last_hidden_state, inputs["attention_mask"], model.pooling)

    return read_alike(model, ids, read)


@torch.inference_mode()
def read_alike(
    model: Model, ids: Sequence[Sequence[int]], read: Callable[[dict[str, torch.Tensor]], torch.Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """What a module says of texts, each the same to the last bit whatever texts are read beside it.

    The order of a sum, and so its last bits, follow from the shape of what is multiplied. So texts of like length are
    read in batches of one shape, the last one filled up with texts again.

    Args:
        model: Its tokenizer pads; its device and arithmetic are used.
        ids: Tokens of each text.
        read: Inputs -> (n, width).

    Returns:
        (n_texts, width) float32, and (n_texts,) seconds.
    """
    size, most = TOGETHER.get(model.device, 64), model.context or sys.maxsize
    widths = np.array([min(-(-len(one) // STEP) * STEP, max(most, len(one))) for one in ids])
    rows, seconds = np.zeros((len(ids), 0), np.float32), np.zeros(len(ids))
    for width in sorted(set(widths.tolist()), reverse=True):
        alike = np.flatnonzero(widths == width)
        for batch in (alike[start : start + size] for start in range(0, len(alike), size)):
            start = time.perf_counter()
            filled = {"input_ids": [list(ids[place]) for place in np.resize(batch, size)]}
            inputs = model.tokenizer.pad(filled, padding="max_length", max_length=width, return_tensors="pt")
            with model.autocast():
                found = read(dict(inputs.to(model.device)))[: len(batch)].float().cpu().numpy()
            rows = np.zeros((len(ids), found.shape[1]), np.float32) if not rows.shape[1] else rows
            rows[batch] = found
            seconds[batch] = (time.perf_counter() - start) / len(batch)
    return rows, seconds


def pooled(hidden: torch.Tensor, mask: torch.Tensor, how: str = "mean") -> torch.Tensor:
    """The tokens that are there made one, scaled to length 1: (n, n_tokens, width) -> (n, width) float32.

    Args:
        mask: (n, n_tokens) 1 where there is a token; what fills up may stand on either side.
        how: "mean", "max", or "first" or "last" of the tokens.

    >>> hidden = torch.tensor([[[9.0, 9.0], [3.0, 4.0], [0.0, 2.0]]])
    >>> pooled(hidden, torch.tensor([[0, 1, 1]]), "first")
    tensor([[0.6000, 0.8000]])
    """
    hidden, there = hidden.float(), mask.bool()
    if how == "mean":
        found = (hidden * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    elif how == "max":
        found = hidden.masked_fill(~there.unsqueeze(-1), -torch.inf).amax(dim=1)
    else:
        places = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        outside = mask.shape[1] if how == "first" else -1
        places = places.masked_fill(~there, outside)
        chosen = places.amin(dim=1) if how == "first" else places.amax(dim=1)
        found = hidden[torch.arange(len(hidden), device=hidden.device), chosen]
    return torch.nn.functional.normalize(found, dim=-1)


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
