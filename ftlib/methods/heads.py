"""Where a classifier's new head starts: at what a probe of the model as it is would say, instead of at random.

A head at random pulls the layers below it, in the first steps, to wherever it happens to look; one that fits already
leaves them in place (LP-FT: Kumar et al. 2022, section 3.4). Nothing else about the model changes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ftlib.errors import FtlibError
from ftlib.methods.contract import Trainable
from ftlib.models import Model, batches

PROBE = "probe"
"""The start that is fitted; the other one is drawn from the seed."""

STRENGTH = 10.0
"""C of the logistic regression (scikit-learn), for inputs that are 1 long on average."""


def fitted(model: Model) -> Callable[[Trainable, list[dict[str, Any]]], None]:
    """The function (what is trained, its encoded examples) -> None that fits a classifier's head to them, in place.

    Rows of labels that have no example keep what they were. Of a head that several tasks have rows in, each task's are
    fitted once, when it is first trained on.
    """
    done: set[tuple[int, int]] = set()

    def begin(trainable: Trainable, examples: list[dict[str, Any]]) -> None:
        head, inputs = _read(trainable, model, examples)
        labels = np.array([one["labels"] for one in examples])
        whole = (0, len(head.weight))
        of_task = [one.get("rows", whole) for one in examples]
        weights = np.array([one.get("weight", 1.0) for one in examples])
        for rows in sorted(set(of_task) - done):
            mine = np.array([one == rows for one in of_task])
            start(head, inputs[mine], labels[mine], weights[mine])
            done.add(rows)

    return begin


def start(head: torch.nn.Linear, inputs: np.ndarray, labels: Sequence[int], weights: Sequence[float]) -> None:
    """Set the rows of the labels that occur to logistic regression on the inputs; of two, half the difference to each.

    Args:
        head: What is set, in place.
        inputs: (n, width) what it reads.
        labels: (n,) which of its rows is right.
        weights: (n,) how much an example counts.

    Raises:
        FtlibError: There are no two different labels.

    >>> head = torch.nn.Linear(1, 3)
    >>> last = head.weight[2].item()
    >>> start(head, np.array([[-1.0], [1.0]]), [0, 1], [1.0, 1.0])
    >>> bool(head.weight[0] == -head.weight[1]), bool(head.weight[2] == last)
    (True, True)
    """
    from sklearn.linear_model import LogisticRegression

    known = np.unique(labels)
    if len(known) < 2:
        raise FtlibError(
            f'head: "{PROBE}" starts it at logistic regression, which needs two labels; found {len(known)} among '
            f'{len(labels)} training examples: take more of them, or head = "new"'
        )
    strength = STRENGTH / np.square(inputs).sum(axis=1).mean()
    with_bias = head.bias is not None
    fit = LogisticRegression(C=strength, fit_intercept=with_bias, max_iter=2000)
    fit.fit(inputs, labels, sample_weight=weights)
    slopes, offsets = fit.coef_, fit.intercept_
    if len(known) == 2:
        slopes, offsets = (np.concatenate([-found, found]) / 2 for found in (slopes, offsets))
    with torch.no_grad():
        for values, found in ((head.weight, slopes), (head.bias, offsets)):
            if values is not None:
                values[known] = torch.as_tensor(found, dtype=values.dtype, device=values.device)


@torch.inference_mode()
def _read(
    trainable: Trainable, model: Model, examples: list[dict[str, Any]], size: int = 64
) -> tuple[torch.nn.Linear, np.ndarray]:
    """The layer that gives the logits, and what it reads of each example, (n, width)."""
    module = trainable.module
    rows: np.ndarray | None = None
    was_training = module.training
    module.eval()
    with _last_linear(module) as seen:
        for batch in batches([len(one["input_ids"]) for one in examples], size):
            inputs = trainable.collate([examples[place] for place in batch])
            with model.autocast():
                module(**{name: value.to(model.device) for name, value in inputs.items()})
            layer, read = seen[-1]
            if read.ndim != 2:
                kind = type(module).__name__
                raise FtlibError(f'head: {model.name} ({kind}) does not end in a linear layer over texts; head = "new"')
            rows = np.zeros((len(examples), read.shape[1])) if rows is None else rows
            rows[batch] = read.float().cpu().numpy()
            seen.clear()
    module.train(was_training)
    return layer, rows


@contextmanager
def _last_linear(module: torch.nn.Module) -> Iterator[list[tuple[torch.nn.Linear, torch.Tensor]]]:
    """Within it, linear layers note themselves and what they read, in the order in which they do."""
    seen: list[tuple[torch.nn.Linear, torch.Tensor]] = []
    hooks = [
        layer.register_forward_pre_hook(lambda layer, args: seen.append((layer, args[0])))
        for layer in module.modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
