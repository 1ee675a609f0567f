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
    """A linear layer whose product is of bytes.

    >>> layer = torch.nn.Linear(2, 1, bias=False)
    >>> _ = layer.weight.data.copy_(torch.tensor([[127.0, 1.0]]))  # a scale of 1: nothing is lost
    >>> round(Int8Linear(layer)(torch.tensor([[1.0, 0.0]])).item())
    127
    """

    weight = None
    """T5 asks whether its layers' weights are tensors."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        weight = layer.weight.detach().float()
        if isinstance(layer, Conv1D):
            weight = weight.T
        self.out_features, self.in_features = weight.shape
        scales = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
        none = torch.zeros(len(scales), dtype=torch.int64)
        with warnings.catch_warnings():
            # torch 2.13 means to replace it, and has no other products of bytes that are right without AVX512-VNNI.
            warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
            rounded = torch.quantize_per_channel(weight.contiguous(), scales.double(), none, 0, torch.qint8)
        bias = None if layer.bias is None else layer.bias.detach().float()
        self.packed = torch.ops.quantized.linear_prepack(rounded, bias)
        self.nbytes = weight.numel() + 4 * len(scales) * (1 if bias is None else 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(..., in_features) -> (..., out_features) float32.

        Inputs take seven bits: the products of AVX2, which adds them in pairs, would overflow with eight.
        """
        return torch.ops.quantized.linear_dynamic(inputs.float(), self.packed, True)


class Int8Embedding(torch.nn.Module):
    """A vector for each token, each row of bytes with a scale of its own."""

    def __init__(self, layer: torch.nn.Embedding) -> None:
        super().__init__()
        weight = layer.weight.detach().float()
        scales = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
        self.embedding_dim = weight.shape[1]
        self.register_buffer("rows", (weight / scales).round().to(torch.int8))
        self.register_buffer("scales", scales)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(...) token numbers -> (..., width) float32."""
        return self.rows[ids].float() * self.scales[ids]


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
    added: set[str] = set()
    if hasattr(module, "merge_adapter"):
        module.merge_adapter()
        # Merged, an adapter's own matrices are not used.
        for one in module.modules():
            added |= {*getattr(one, "adapter_layer_names", ()), *getattr(one, "other_param_names", ())}
    inner = module.get_base_model() if hasattr(module, "get_base_model") else module
    speaking = [one for one in _modules(inner, "get_output_embeddings") if one is not None]
    kept = {id(one.weight) for one in speaking if getattr(one, "weight", None) is not None}
    vectors = {id(one) for one in _modules(inner, "get_input_embeddings")}
    for name, parent in list(module.named_modules()):
        for child, layer in list(parent.named_children()):
            if added & {*name.split("."), child} or id(getattr(layer, "weight", None)) in kept:
                continue
            if type(layer) in (torch.nn.Linear, Conv1D):
                setattr(parent, child, Int8Linear(layer))
            elif type(layer) is torch.nn.Embedding and id(layer) in vectors:
                setattr(parent, child, Int8Embedding(layer))
    module.eval()
    used = {
        id(one): one.numel() * one.element_size()
        for name, one in [*module.named_parameters(), *module.named_buffers()]
        if not added & set(name.split(".")) and ".original_module." not in name
    }
    return sum(used.values()) + sum(one.nbytes for one in module.modules() if isinstance(one, Int8Linear))


def _modules(module: torch.nn.Module, name: str) -> list[torch.nn.Module | None]:
    """What every part of a module answers when asked for its vectors, or for the layer that predicts tokens."""
    found = []
    for one in module.modules():
        # Parts without vectors of their own say that they have none.
        with contextlib.suppress(NotImplementedError, AttributeError):
            found.append(getattr(one, name)())
    return found
