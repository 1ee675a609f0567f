"""One training step: a batch in parts, by one process or several, with the loss each family of models needs."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import transformers

from ftlib.losses import next_token_loss
from ftlib.packing import IGNORED
from ftlib.shards import apart

Example = dict[str, Any]

WORTH = 0.1
"""Share of a batch's tokens, padding included, from which computing it in two parts is less work than in one."""


class Steps(transformers.Trainer):
    """transformers' Trainer, given its batches, each computed in parts whose gradients add up.

    Args:
        chosen: Which examples each step sees, of all processes together.
        collate: Examples as one padded batch.
        parts: In how many parts each process computes its share; 0: two on a processor where that saves padding.
        separable: Whether the loss is a mean over examples or tokens, so that a batch can be taken apart.
        sliced: Whether the loss of a causal model is taken a few positions at a time.
        compiled: Whether the model is compiled for training.
        pull: Adds to the gradients of a step what is no loss of examples.
        more: What `transformers.Trainer` takes.
    """

    def __init__(
        self,
        chosen: Sequence[list[int]],
        collate: Callable[[list[Example]], dict[str, Any]],
        *,
        parts: int,
        separable: bool,
        sliced: bool,
        compiled: bool = False,
        pull: Callable[[], None] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(**more)
        self.chosen, self.collate, self.parts, self.separable = chosen, collate, parts, separable
        self.compiled, self.pull, self.divided = compiled, pull, False
        self.rank, self.world = self.args.process_index, self.args.world_size
        # Only the wrapper's own forward pass tells other processes that a backward pass will follow.
        self.sliced = sliced and self.world == 1

    def divide(self, part: torch.nn.Module) -> None:
        """Train what is in shards (`ftlib.shards`), which every process calls as often as the others do."""
        self.model = self.model_wrapped = part
        # What transformers itself loads in shards it neither wraps nor moves.
        self.divided = self.is_distributed_loading_by_transformers = True

    def get_train_dataloader(self) -> torch.utils.data.DataLoader:
        """Each step's examples as parts, of which every process sees its own."""
        pin = self.args.dataloader_pin_memory
        return torch.utils.data.DataLoader(
            self.train_dataset, batch_sampler=self.chosen, collate_fn=self._mine, pin_memory=pin
        )

    def _mine(self, examples: list[Example]) -> dict[str, Any]:
        if not self.separable:
            return {"parts": [(1.0, self.collate(examples))]}
        whole = sum(map(counted, examples))
        # A process for which nothing is left computes something that counts for nothing: the others wait for it.
        mine = examples[self.rank :: self.world]
        parts = shares(mine, self.parts) if mine else [examples[:1]]
        weight = self.world / whole if mine else 0.0
        found = [(weight * sum(map(counted, part)), self.collate(part)) for part in parts]
        if self.divided:
            others = (examples[rank :: self.world] for rank in range(min(self.world, len(examples))))
            most = max(len(shares(other, self.parts)) for other in others)
            found += [(0.0, self.collate(examples[:1]))] * (most - len(found))
        return {"parts": found}

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """The gradient of one step, and its loss."""
        model.train()
        parts, total = self._prepare_inputs(inputs)["parts"], 0.0
        # Around all parts, so that the weights are turned into bfloat16 once.
        with self._autocast():
            for place, (share, part) in enumerate(parts):
                last = place == len(parts) - 1
                with nullcontext() if last else self.accelerator.no_sync(model):
                    loss = self.loss_of(model, part) * share
                    with torch.autocast(self.args.device.type, enabled=False):
                        self.accelerator.backward(loss)
                total = total + loss.detach()
        if self.pull:
            self.pull()
        return total

    def loss_of(self, model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        """The mean loss over the examples, or over the tokens whose loss counts."""
        if not self.sliced:
            return model(**inputs)["loss"]
        dtype = torch.bfloat16 if self.args.bf16 else torch.float32
        return next_token_loss(self.accelerator.unwrap_model(model, keep_fp32_wrapper=False), inputs, dtype)

    @torch.no_grad()
    def measured(self, module: torch.nn.Module, examples: Sequence[Example], size: int) -> float:
        """The mean loss over examples that are not trained on, in batches of similar length.

        Each process measures its share, and all are told the same: they must agree when to stop.
        """
        module.eval()
        order = sorted(examples, key=lambda example: -len(example["input_ids"]))[self.rank :: self.world]
        # The first process has the most; another one goes through something that counts for nothing beside it.
        most = -(-len(examples) // self.world)
        total, n = 0.0, 0
        # Compiling takes longer than these few passes forwards ever would.
        with torch.compiler.set_stance("force_eager") if self.compiled else nullcontext(), self._autocast():
            for start in range(0, most, size):
                some = order[start : start + size]
                weight = sum(map(counted, some))
                loss = self.loss_of(module, self._prepare_inputs(self.collate(some or examples[:1])))
                total, n = total + float(loss) * weight, n + weight
        if self.divided:
            apart(module)
        module.train()
        total, n = self.of_all([total, n]).sum(dim=0).tolist()
        return total / n

    def of_all(self, values: Sequence[float]) -> torch.Tensor:
        """What every process gives: (n_values,) -> (n_processes, n_values)."""
        mine = torch.tensor([list(values)], dtype=torch.float64)
        return self.accelerator.gather(mine.to(self.args.device)).cpu() if self.world > 1 else mine

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.args.device.type, dtype=torch.bfloat16, enabled=self.args.bf16)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted here: `ftlib.train` counts what texts need, without padding."""
        return 0


def counted(example: Example) -> int:
    """What an example counts for in a mean: 1 where it has one label, else its tokens whose loss counts.

    >>> counted({"input_ids": [5, 6, 7], "labels": 2}), counted({"input_ids": [5, 6, 7]})
    (1, 2)
    >>> counted({"input_ids": [5, 6, 7], "labels": [-100, -100, 7]})
    1
    """
    labels = example.get("labels")
    if labels is None:
        return len(example["input_ids"]) - 1
    return 1 if isinstance(labels, int) else sum(label != IGNORED for label in labels)


def shares(examples: Sequence[Example], parts: int) -> list[list[Example]]:
    """A batch taken apart, the longest first, so that each part is padded to its own longest.

    Args:
        examples: At least one.
        parts: How many, where there are as many examples; 0: two if that leaves out a tenth of the tokens, else one.

    >>> long, short = {"input_ids": [1] * 9}, {"input_ids": [1] * 2}
    >>> [len(part) for part in shares([short, long, short, long], 0)], len(shares([long, long], 0))
    ([2, 2], 1)
    """
    order = sorted(examples, key=lambda example: -len(example["input_ids"]))
    lengths = [len(example["input_ids"]) for example in order]
    half = -(-len(order) // 2)
    if not parts:
        parts = 2 if lengths[0] - lengths[-1] and _saved(lengths, half) > WORTH else 1
    size = -(-len(order) // parts)
    return [order[start : start + size] for start in range(0, len(order), size)]


def _saved(lengths: Sequence[int], half: int) -> float:
    """Share of the tokens, padding included, that two parts do without; lengths from the longest down."""
    return (len(lengths) - half) * (lengths[0] - lengths[half]) / (len(lengths) * lengths[0])
