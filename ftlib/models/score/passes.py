"""Through the model: rows padded on the right, or trees behind a prefix that was read once; never out of memory twice.

Padding needs no mask, since no token sees what stands after it; so rows serve every causal model. Trees need a model
that takes a mask of any shape, explicit positions and a key/value cache; `ftlib.models.score.facts` finds out.

Throughout the package, `model` is at rest (`at_rest`), `budget` is the number of tokens in one pass, padding counted,
and `totals` is `(n_places,)` float64, nats, to which log-probabilities are added.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import psutil
import torch

from ftlib.core.errors import FtlibError
from ftlib.models.score.trees import Row, Tree, plant

Item = TypeVar("Item")

Logits = Callable[[torch.Tensor, torch.Tensor], Iterator[torch.Tensor]]

CPU_TOKENS = 512
"""At most in one pass on a CPU: what a pass reads and writes then stays near the processor."""

DEVICE_TOKENS = 4096
"""At most in one pass elsewhere; the mask of trees grows with its square."""

SLICE_BYTES = 2**23
"""Of logits that exist at once where the output layer can be applied in slices."""


@contextmanager
def at_rest(model: torch.nn.Module, dtype: str) -> Iterator[None]:
    """Evaluation mode, no gradients, autocast if asked for; every module's mode is restored.

    Raises:
        FtlibError: A dtype that is neither float32 nor bfloat16.
    """
    if dtype not in ("float32", "bfloat16"):
        raise FtlibError(f"dtype: {dtype!r} is neither 'float32' nor 'bfloat16'")
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with (
            torch.inference_mode(),
            torch.autocast(device_of(model).type, dtype=torch.bfloat16, enabled=dtype == "bfloat16"),
        ):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def device_of(model: torch.nn.Module) -> torch.device:
    """Where the model's first parameter is, and its inputs go."""
    return next(model.parameters()).device


def free_room(model: torch.nn.Module, vocabulary: int = 0) -> int:
    """Tokens for one pass such that its activations take an eighth of the free memory at most.

    Args:
        vocabulary: Width of the logits where they are kept for every token, else 0.
    """
    device, config = device_of(model), core(model).config.get_text_config()
    on_cuda = device.type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if on_cuda else psutil.virtual_memory().available
    layers = getattr(config, "num_hidden_layers", 1)
    # A token's activations in one layer, its keys and values in all, its logits (as they come and in float32).
    numbers = (40 + 2 * layers) * config.hidden_size + 3 * vocabulary
    most = CPU_TOKENS if device.type == "cpu" else DEVICE_TOKENS
    return max(1, min(most, free // 8 // (4 * numbers)))


def core(model: torch.nn.Module) -> Any:
    """The transformers model inside a peft wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def in_batches(
    items: Sequence[Item], cost: Callable[[Sequence[Item]], int], budget: int, run: Callable[[Sequence[Item]], None]
) -> None:
    """Run all items in their order, as many at once as the budget lets; halve it whenever memory runs out.

    Args:
        cost: Of a batch, in the unit of the budget; one item is run whatever it costs.
        run: Takes a batch; whatever it returns normally from is done and not run again.

    Raises:
        FtlibError: Memory ran out on a single item.
    """
    start = 0
    while start < len(items):
        end = start + 1
        while end < len(items) and cost(items[start : end + 1]) <= budget:
            end += 1
        said = None
        try:
            run(items[start:end])
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            said = str(error).partition("\n")[0] or type(error).__name__
        # Outside of `except`, whose traceback holds on to the tensors that have to go.
        if said is None:
            start = end
            continue
        if end - start == 1:
            raise FtlibError(f"memory ran out on a single text ({said}); shorten it or free memory")
        budget = min(budget, cost(items[start:end])) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def ran_out(error: BaseException) -> bool:
    """Whether the error says that memory ran out; torch has a class of its own for it on some devices only."""
    words = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)


def score_rows(model: torch.nn.Module, logits: Logits, rows: Sequence[Row], budget: int, totals: np.ndarray) -> None:
    """Add up the log-probabilities of the targets of rows, longest first.

    Args:
        logits: See `ftlib.models.score.facts`: (n_rows, length) tokens and the wanted (n_rows, length) -> logits in
            slices.
    """
    device = device_of(model)

    def run(batch: Sequence[Row]) -> None:
        length = len(batch[0].tokens)
        # Any token serves as padding; the row's first is surely in the vocabulary.
        ids = torch.tensor([[*row.tokens, *[row.tokens[0]] * (length - len(row.tokens))] for row in batch])
        at = np.array([i * length + target.at for i, row in enumerate(batch) for target in row.targets])
        targets = [target for row in batch for target in row.targets]
        nodes, which = np.unique(at, return_inverse=True)
        wanted = torch.from_numpy(nodes).to(device)
        found = log_probabilities(logits(ids.to(device), wanted), targets, which)
        np.add.at(totals, [target.place for target in targets], found)

    ordered = sorted(rows, key=lambda row: -len(row.tokens))
    in_batches(ordered, lambda batch: len(batch) * len(batch[0].tokens), budget, run)


def log_probabilities(slices: Iterator[torch.Tensor], targets: Sequence[Any], which: np.ndarray) -> np.ndarray:
    """Log-probability of every target, in nats.

    Args:
        slices: Logits (some, vocabulary), one slice after another, of the nodes that have targets.
        which: (n_targets,) the row of the logits that predicts each.
    """
    order = np.argsort(which, kind="stable")
    tokens = torch.tensor([targets[i].token for i in order])
    rows = torch.from_numpy(which[order])
    found = []
    start = 0
    for logits in slices:
        # Their softmax needs float32; a bfloat16 sum over a vocabulary is worth two digits.
        logits = logits.float()
        first, last = np.searchsorted(rows.numpy(), [start, start + len(logits)])
        here = (rows[first:last] - start).to(logits.device)
        values = logits.log_softmax(dim=-1)
        found.append(values[here, tokens[first:last].to(logits.device)].double().cpu())
        start += len(logits)
    sorted_back = np.empty(len(targets))
    sorted_back[order] = torch.cat(found).numpy()
    return sorted_back


def read(model: torch.nn.Module, prefix: Sequence[int]) -> Any:
    """The key/value cache of a prefix; None for an empty one."""
    if not prefix:
        return None
    ids = torch.tensor([list(prefix)], device=device_of(model))
    return model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values


def score_trees(
    model: torch.nn.Module, prefix: Sequence[int], trees: Sequence[Tree], budget: int, totals: np.ndarray
) -> None:
    """Add up the log-probabilities of the targets of trees that stand behind a prefix, which is read once."""
    caches: list[Any] = []
    in_batches([prefix], len, budget, lambda only: caches.append(read(model, only[0])))

    def run(batch: Sequence[Tree]) -> None:
        forest = plant(batch, len(prefix))
        nodes, which = np.unique([target.at for target in forest.targets], return_inverse=True)
        logits = look(model, forest.tokens, forest.positions, forest.sees, caches[0], nodes)
        found = log_probabilities(iter([logits]), forest.targets, which)
        np.add.at(totals, [target.place for target in forest.targets], found)

    in_batches(trees, lambda batch: sum(len(tree.tokens) for tree in batch), budget, run)


def look(
    model: torch.nn.Module, tokens: np.ndarray, positions: np.ndarray, sees: np.ndarray, cache: Any, nodes: np.ndarray
) -> torch.Tensor:
    """Logits (n_nodes, vocabulary) of some nodes of a line of tokens, each of which sees what `sees` says.

    The cache is left as it is: its layers put what they have and what is new together in a new tensor.
    """
    device = device_of(model)
    dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
    # Added to the attention scores; in boolean form some implementations would add it too.
    mask = torch.zeros(sees.shape, dtype=dtype or next(model.parameters()).dtype)
    mask.masked_fill_(torch.from_numpy(~sees), torch.finfo(mask.dtype).min)
    if cache is not None:
        cache, kept = copy.copy(cache), cache
        cache.layers = [copy.copy(layer) for layer in kept.layers]
    return model(
        input_ids=torch.from_numpy(tokens)[None].to(device),
        attention_mask=mask[None, None].to(device),
        position_ids=torch.from_numpy(positions)[None].to(device),
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=torch.from_numpy(nodes).to(device),
    ).logits[0]
