"""One model divided among the processes that train it: each holds a part of every layer (FSDP).

By torch's `fully_shard` on processors and GPUs alike: accelerate 1.15 divides on GPUs only, and silently gives every
process the whole model elsewhere. What is measured before and after is the whole module, in the first process; so it
has to fit there once, but its gradients and the optimiser's two numbers a weight, three times as much, are divided.

On a processor that saves main memory only where what is freed goes back: glibc keeps it unless told otherwise, such as
by MALLOC_MMAP_THRESHOLD_=262144.

Which of the processes that share one training this one is, by the environment variables of torchrun.
"""

import copy
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core.errors import FtlibError

if TYPE_CHECKING:
    import torch


@contextmanager
def in_shards(module: "torch.nn.Module", device: "torch.device") -> "Iterator[torch.nn.Module]":
    """Within it, a module of which every process holds a part; afterwards what that has learned is in the whole one.

    Every process of the group does the same with it, and makes as many passes: weights are put together for each. A
    layer's are for as long as it computes, unless FSDP_RESHARD_AFTER_FORWARD=false keeps them for the way back.

    Args:
        module: What is trained, the same in every process. Meanwhile its weights take no memory and are NaN; they stay
            so where training fails. The parameters remain the same objects.
        device: Where it is. The process group for it is there.

    Yields:
        What is trained in its place.
    """
    # Not at the top: every run asks which process it is, also one that needs no torch.
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    wholes = dict(module.named_parameters())
    # Of the same memory: there is never a second copy of the whole.
    same = {id(p): torch.nn.Parameter(p.detach().contiguous(), p.requires_grad) for p in wholes.values()}
    part = copy.deepcopy(module, same)
    kept = os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "").lower() == "false"
    for layer in layers(part):
        fully_shard(layer, mesh=mesh, reshard_after_forward=not kept)
    fully_shard(part, mesh=mesh)
    del same
    for p in wholes.values():
        p.data = p.new_full((), math.nan).expand(p.shape)
    yield part
    apart(part)
    with torch.no_grad():
        for name, p in part.named_parameters():
            wholes[name].data = p.full_tensor()


def layers(module: "torch.nn.Module") -> "list[torch.nn.Module]":
    """The layers that stand one after another in lists, of which each is put together when it is its turn.

    >>> import torch
    >>> lists = torch.nn.ModuleDict({"h": torch.nn.ModuleList([torch.nn.Linear(1, 1), torch.nn.ReLU()])})
    >>> layers(lists)
    [Linear(in_features=1, out_features=1, bias=True), ReLU()]
    """
    import torch

    found = []
    for child in module.children():
        listed = isinstance(module, torch.nn.ModuleList) and type(child).forward is not torch.nn.Module.forward
        found += [child] if listed else layers(child)
    return found


def apart(module: "torch.nn.Module") -> None:
    """Leave each process its part again: after a pass forwards alone, some weights are still whole."""
    from torch.distributed.fsdp import FSDPModule

    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def launched() -> bool:
    """Whether this process was started by torchrun, or by something that speaks as it does."""
    return "WORLD_SIZE" in os.environ


def rank(spec: Experiment) -> int:
    """The number of this process among the experiment's; 0 for the first, which measures and writes.

    Raises:
        FtlibError: Another number of processes is running than the experiment asks for; or see `divided`.

    >>> rank(Experiment(method="full"))
    0
    >>> rank(Experiment(method="full", processes=2))
    Traceback (most recent call last):
        ...
    ftlib.core.errors.FtlibError: processes: found 2, but 1 is running; start it as torchrun --nproc_per_node 2, or \
let `ftlib run-one` do that
    """
    running = int(os.environ.get("WORLD_SIZE", 1))
    if running != spec.processes:
        raise FtlibError(
            f"processes: found {spec.processes}, but {running} {'is' if running == 1 else 'are'} running; start it as "
            f"torchrun --nproc_per_node {spec.processes}, or let `ftlib run-one` do that"
        )
    divided(spec)
    return int(os.environ.get("RANK", 0))


DIVIDED = "FTLIB_DIVIDED"
"""Environment variable under which ACCELERATE_USE_FSDP is passed on to what this process starts."""


def divided(spec: Experiment) -> bool:
    """Whether each process is to hold only a part of the model while it trains: FSDP, asked for as accelerate is.

    Read: ACCELERATE_USE_FSDP, which is taken out of the environment, and what `ftlib.training.distributed` cannot do of
        what
    `accelerate launch` sets beside it. Seeing it, accelerate 1.15 would divide on GPUs and not on processors, and
    transformers would read weights in the first process alone. One process holds all there is.

    Raises:
        FtlibError: The model would be divided in a way that ftlib does not know, or by a method that cannot be.

    >>> divided(Experiment(method="full", processes=2))
    False
    """
    for name in ("DEEPSPEED", "MEGATRON_LM"):
        if _said(f"ACCELERATE_USE_{name}") == "true":
            raise FtlibError(
                f"ACCELERATE_USE_{name}: found true; ftlib divides a model by FSDP alone (ACCELERATE_USE_FSDP=true, "
                "FSDP_VERSION=2). Leave it out"
            )
    if "ACCELERATE_USE_FSDP" in os.environ:
        os.environ[DIVIDED] = os.environ.pop("ACCELERATE_USE_FSDP").lower()
    if _said(DIVIDED) != "true" or spec.processes == 1:
        return False
    for name, (allowed, advice) in _KNOWN.items():
        if (found := _said(name) or allowed) != allowed:
            raise FtlibError(f"{name}: found {found}, allowed with ACCELERATE_USE_FSDP=true: {allowed}; {advice}")
    if METHODS[spec.method].quantised:
        raise FtlibError(
            f"method: {spec.method} keeps weights in four bits, which FSDP does not divide; lora, or leave out FSDP"
        )
    return True


_KNOWN = {
    "FSDP_VERSION": ("2", "accelerate config asks for it as fsdp_version"),
    "FSDP_OFFLOAD_PARAMS": ("false", "more processes, or gradient_checkpointing = true, take less memory each"),
    "FSDP_ACTIVATION_CHECKPOINTING": ("false", "ftlib's gradient_checkpointing = true does that"),
}
"""What accelerate sets beside ACCELERATE_USE_FSDP and what changes what is computed: what is allowed, what to do."""


def _said(name: str) -> str:
    return os.environ.get(name, "").lower()
