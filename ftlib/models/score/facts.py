"""What a model can do, from its configuration and from a trial of a few dozen tokens, remembered for its life."""

import inspect
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers

from ftlib.core.errors import FtlibError
from ftlib.models.score import passes
from ftlib.models.score.trees import grow, rows


class Facts(NamedTuple):
    """How a causal model is run."""

    trees: bool
    """Whether trees behind a prefix give the same numbers as rows."""
    why: str
    """Why, or why not."""
    sliced: bool
    """Whether the logits are the output layer of the last hidden states and nothing else, so that slices will do."""


_KNOWN: weakref.WeakKeyDictionary[torch.nn.Module, dict[tuple, Facts]] = weakref.WeakKeyDictionary()


def facts(model: torch.nn.Module) -> Facts:
    """The facts about a causal model; found out when they are asked for first."""
    inner = passes.core(model)
    # What may change in an object that stays: where it is, how it attends, which adapter is on.
    parameter = next(model.parameters())
    attention = inner.config._attn_implementation
    now = parameter.device, parameter.dtype, attention, virtual_tokens(model), _by_invocation(model)
    known = _KNOWN.setdefault(model, {})
    if now not in known:
        with passes.at_rest(model, "float32"):
            sliced = _sliced(model)
            against = _against_trees(model) or _trial(model, sliced)
        known[now] = Facts(not against, against or "trees and rows gave the same numbers in a trial", sliced)
    return known[now]


def is_encoder_decoder(model: torch.nn.Module) -> bool:
    """Whether the model reads with an encoder and writes with a decoder."""
    return bool(getattr(passes.core(model).config, "is_encoder_decoder", False))


def limit(model: torch.nn.Module) -> int | None:
    """Tokens that the model can read at once; None where its configuration sets no limit."""
    config = passes.core(model).config.get_text_config()
    # A model with relative positions (T5) names the length it was trained on n_positions, and has no limit.
    if is_encoder_decoder(model) or _alibi(config):
        return None
    names = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
    most = next((value for name in names if (value := getattr(config, name, None)) is not None), None)
    return most - virtual_tokens(model) if most is not None else None


def one_at_a_time(model: torch.nn.Module) -> bool:
    """Whether the positions of a row depend on the longest row beside it (scaled rotations)."""
    return _rotation(passes.core(model).config.get_text_config()) in ("dynamic", "longrope")


def row_logits(model: torch.nn.Module, sliced: bool) -> passes.Logits:
    """The function that `ftlib.models.score.passes.score_rows` takes: tokens and wanted places -> logits, slice by
    slice.
    """
    inner = passes.core(model)
    parameters = inspect.signature(inner.forward).parameters
    keeps = "logits_to_keep" in parameters and not virtual_tokens(model)
    more = {"use_cache": False} if "use_cache" in parameters and not virtual_tokens(model) else {}

    def whole(ids: torch.Tensor, wanted: torch.Tensor) -> Iterator[torch.Tensor]:
        length = ids.shape[1]
        columns, column = torch.unique(wanted % length, return_inverse=True)
        some = {"logits_to_keep": columns} if keeps else {}
        logits = model(input_ids=ids, **some, **more).logits
        # Virtual tokens of a learned prompt stand in front.
        logits = logits if keeps else logits[:, logits.shape[1] - length :][:, columns]
        yield logits[wanted // length, column]

    def slices(ids: torch.Tensor, wanted: torch.Tensor) -> Iterator[torch.Tensor]:
        head = inner.get_output_embeddings()
        hidden = inner.base_model(input_ids=ids, **more)[0].flatten(0, 1)
        step = max(1, passes.SLICE_BYTES // (4 * head.weight.shape[0]))
        for some in wanted.split(step):
            yield head(hidden[some])

    return slices if sliced else whole


def virtual_tokens(model: torch.nn.Module) -> int:
    """Tokens of a learned prompt that peft puts in front of a text."""
    config = getattr(model, "active_peft_config", None)
    return config.num_virtual_tokens if config is not None and config.is_prompt_learning else 0


def _by_invocation(model: torch.nn.Module) -> bool:
    """Whether peft looks in the text for the token that switches its adapter on (activated LoRA)."""
    return bool(getattr(getattr(model, "active_peft_config", None), "alora_invocation_tokens", None))


def _rotation(config: Any) -> str:
    found = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return found.get("rope_type", "default")


def _alibi(config: Any) -> bool:
    attention = getattr(config, "attn_config", None)
    return bool(getattr(config, "alibi", False) or getattr(attention, "alibi", False)) or config.model_type == "bloom"


def _against_trees(model: torch.nn.Module) -> str:
    """What in the model's configuration speaks against trees; empty if nothing does."""
    inner = passes.core(model)
    config = inner.config.get_text_config()
    if is_encoder_decoder(model):
        return "an encoder reads the query, a decoder the continuations"
    if virtual_tokens(model):
        return "peft puts a learned prompt in front and ignores positions"
    if _by_invocation(model):
        return "peft looks for the token that switches its adapter on"
    asked = {"attention_mask", "position_ids", "past_key_values", "logits_to_keep"}
    if missing := asked - set(inspect.signature(inner.forward).parameters):
        return f"{type(inner).__name__} takes no {', '.join(sorted(missing))}"
    if _alibi(config):
        return "ALiBi counts distance in the line of tokens, not in the text"
    kinds = set(getattr(config, "layer_types", None) or ()) | set(getattr(config, "attention_layers", None) or ())
    if others := kinds - {"full_attention", "attention", "global"}:
        return f"some layers are {', '.join(sorted(others))}"
    windows = ("sliding_window", "attention_chunk_size", "attention_window_size")
    if not kinds and any(getattr(config, name, None) is not None for name in windows):
        return "attention is limited to a window"
    if one_at_a_time(model):
        return f"rotations ({_rotation(config)}) depend on the length of the row"
    if inner.config._attn_implementation not in ("sdpa", "eager"):
        return f"attention by {inner.config._attn_implementation} takes no mask of any shape"
    return ""


def _trial(model: torch.nn.Module, sliced: bool) -> str:
    """Run a small forest both ways; empty if the numbers are the same, else what happened."""
    vocabulary = passes.core(model).config.get_text_config().vocab_size
    rng = np.random.default_rng(0)
    prefix, *contexts = (rng.integers(0, vocabulary, n).tolist() for n in (13, 7, 1, 5))
    labels = [rng.integers(0, vocabulary, 4).tolist() for _ in range(2)]
    labels += [[*labels[0][:2], *labels[1]], labels[1][:1]]
    trees = [grow(context, labels, i * len(labels)) for i, context in enumerate(contexts)]
    found, wanted = np.zeros((2, len(trees) * len(labels)))
    lines = [row for tree in trees for row in rows(tree, prefix)]
    try:
        passes.score_rows(model, row_logits(model, sliced), lines, 64, wanted)
        kind = type(passes.read(model, prefix))
        if kind is not transformers.DynamicCache:
            return f"its cache is a {kind.__name__}, not plain keys and values"
        passes.score_trees(model, prefix, trees, 24, found)
    # Whatever a model's own code says to a mask, a cache or positions that it does not take.
    except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        if passes.ran_out(error):
            raise
        return f"a trial failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if not np.isfinite(wanted).all():
        return "its scores are not finite"
    apart = np.abs(found - wanted).max()
    near = _tolerance(model, np.abs(wanted).max())
    return "" if apart <= near else f"in a trial, trees were {apart:.2g} nats away from rows (allowed: {near:.2g})"


def _tolerance(model: torch.nn.Module, size: float) -> float:
    return (1e-4 if next(model.parameters()).dtype == torch.float32 else 1e-2) * max(1.0, size)


def _sliced(model: torch.nn.Module) -> bool:
    """Whether output layer and last hidden states are all there is to the logits, tried on a few tokens."""
    inner = passes.core(model)
    head = inner.get_output_embeddings()
    if virtual_tokens(model) or _by_invocation(model) or inner.base_model is inner or not hasattr(head, "weight"):
        return False
    vocabulary = inner.config.get_text_config().vocab_size
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, vocabulary, (1, 9))).to(passes.device_of(model))
    everything = torch.arange(9, device=ids.device)
    ours = torch.cat(list(row_logits(model, True)(ids, everything)))
    theirs = torch.cat(list(row_logits(model, False)(ids, everything)))
    if ours.shape != theirs.shape:
        return False
    return (ours - theirs).abs().max().item() <= _tolerance(model, theirs.abs().max().item())


def check_causal(model: torch.nn.Module, what: str) -> None:
    """Refuse a model that does not predict the next token.

    Raises:
        FtlibError: It is an encoder-decoder, or has no output layer.
    """
    inner = passes.core(model)
    name = type(inner).__name__
    if is_encoder_decoder(model):
        raise FtlibError(f"{what} needs a causal language model; {name} is an encoder-decoder")
    if inner.get_output_embeddings() is None:
        raise FtlibError(f"{what} needs a causal language model; {name} has no output layer over the vocabulary")
