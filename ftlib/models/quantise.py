"""int8: a trained model's linear layers and word vectors in one byte a number, in place, by torch's own products.

Weights are rounded once, each output of a layer to its own scale; what comes into a layer is rounded as it comes, to
the range it has there (dynamic quantisation). No text is needed, and no other package: docs/int8.md holds this against
ONNX Runtime's and OpenVINO's. Everything between the products stays as it was.
"""

import contextlib
import warnings

import torch
from transformers.pytorch_utils import Conv1D

from ftlib.core.errors import FtlibError


class Int8Linear(torch.nn.Module):
    """A linear layer whose product is of bytes: a byte for each weight, a scale for each output.

    >>> layer = Int8Linear(torch.tensor([[127, 1]], dtype=torch.int8), torch.tensor([1.0]))
    >>> round(layer(torch.tensor([[1.0, 0.0]])).item())
    127
    """

    weight = None  # T5 asks whether its layers' weights are tensors.

    def __init__(self, values, scales, bias=None):
        super().__init__()
        self.out_features, self.in_features = values.shape
        none = torch.zeros(len(scales), dtype=torch.int64)
        with warnings.catch_warnings():
            # torch 2.13 means to replace it, and has no other products of bytes that are right without AVX512-VNNI.
            warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
            rounded = torch.quantize_per_channel(values * scales[:, None], scales.double(), none, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(rounded, bias)

    def forward(self, inputs):
        """(..., in_features) -> (..., out_features) float32.

        Inputs take seven bits: the products of AVX2, which adds them in pairs, would overflow with eight.
        """
        return torch.ops.quantized.linear_dynamic(inputs.float(), self.packed, True)


class Int8Embedding(torch.nn.Module):
    """A vector for each token, each row of bytes with a scale of its own."""

    def __init__(self, values, scales):
        super().__init__()
        self.embedding_dim, self.values, self.scales = values.shape[1], values, scales

    def forward(self, ids):
        """(...) token numbers -> (..., width) float32."""
        return self.values[ids].float() * self.scales[ids][..., None]


def restored(module, arrays):
    """The module, of the same configuration as the one that `stored` gave the arrays of, with what is in them."""
    arrays = dict(arrays)
    for name in [name.removesuffix(".int8_scales") for name in arrays if name.endswith(".int8_scales")]:
        parts = [arrays.pop(f"{name}.{part}", None) for part in ("int8_values", "int8_scales", "int8_bias")]
        old = module.get_submodule(name)
        new = Int8Embedding(*parts[:2]) if isinstance(old, torch.nn.Embedding) else Int8Linear(*parts)
        for parent in list(module.modules()):
            parent._modules.update({child: new for child, layer in parent._modules.items() if layer is old})
    strange = module.load_state_dict(arrays, strict=False).unexpected_keys
    if strange:
        raise ValueError(f"{strange[0]} is in no layer of this configuration")
    return module.eval()


def stored(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What a module in bytes takes to be made again, each tensor once, by its name."""
    found, seen = {}, set()
    for name, layer in module.named_modules():
        if isinstance(layer, Int8Linear):
            rounded, bias = torch.ops.quantized.linear_unpack(layer.packed)
            parts = {"values": rounded.int_repr(), "scales": rounded.q_per_channel_scales().float(), "bias": bias}
        elif isinstance(layer, Int8Embedding):
            parts = {"values": layer.values, "scales": layer.scales}
        else:
            continue
        found |= {f"{name}.int8_{part}": value.contiguous() for part, value in parts.items() if value is not None}
    for name, value in module.state_dict().items():
        if value.data_ptr() not in seen:
            found[name] = value.contiguous()
        seen.add(value.data_ptr())
    return found


def quantise(module: torch.nn.Module) -> int:
    """Put a trained module into int8, in place: adapters merged, linear layers and word vectors in bytes.

    The layer that predicts tokens stays as it is, and so does what it shares its weights with.

    Returns:
        Bytes that the whole of it takes to store.

    Raises:
        FtlibError: This build of torch has no products of bytes.
    """
    if torch.backends.quantized.engine == "none":
        raise FtlibError("quantise: int8 needs torch built with x86, onednn or qnnpack kernels; leave it out")
    if merged := hasattr(module, "merge_and_unload"):
        module.merge_and_unload()
    inner = module.get_base_model() if hasattr(module, "get_base_model") else module
    speaking = [one for one in _modules(inner, "get_output_embeddings") if one is not None]
    kept = {id(one.weight) for one in speaking if getattr(one, "weight", None) is not None}
    vectors = {id(one) for one in _modules(inner, "get_input_embeddings")}
    made: dict[int, torch.nn.Module] = {}
    for parent in list(module.modules()):
        for child, layer in parent._modules.items():
            if id(getattr(layer, "weight", None)) in kept:
                continue
            if type(layer) in (torch.nn.Linear, Conv1D):
                weight = layer.weight.T if isinstance(layer, Conv1D) else layer.weight
                bias = None if layer.bias is None else layer.bias.detach().float()
                made[id(layer)] = made.get(id(layer)) or Int8Linear(*_bytes(weight), bias)
            elif type(layer) is torch.nn.Embedding and id(layer) in vectors:
                made[id(layer)] = made.get(id(layer)) or Int8Embedding(*_bytes(layer.weight))
            else:
                continue
            parent._modules[child] = made[id(layer)]
    module.eval()
    # What an adapter shares between layers is left beside a merged model, and of no use to it.
    return sum(value.nbytes for value in stored(inner if merged else module).values())


def _bytes(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, width) weights -> the same in int8, and the (n,) scales of their rows."""
    weight = weight.detach().float()
    scales = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
    return (weight / scales[:, None]).round().to(torch.int8), scales


def _modules(module: torch.nn.Module, name: str) -> list[torch.nn.Module | None]:
    """What every part of a module answers when asked for its vectors, or for the layer that predicts tokens."""
    found = []
    for one in module.modules():
        # Parts without vectors of their own say that they have none.
        with contextlib.suppress(NotImplementedError, AttributeError):
            found.append(getattr(one, name)())
    return found
