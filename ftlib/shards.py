"""One model divided among the processes that train it: each holds a part of every layer (FSDP).

By torch's `fully_shard` on processors and GPUs alike: accelerate 1.15 divides on GPUs only, and silently gives every
process the whole model elsewhere. What is measured before and after is the whole module, in the first process; so it
has to fit there once, but its gradients and the optimiser's two numbers a weight, three times as much, are divided.

On a processor that saves main memory only where what is freed goes back: glibc keeps it unless told otherwise, such as
by MALLOC_MMAP_THRESHOLD_=262144.
"""

import copy
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard


@contextmanager
def in_shards(module: torch.nn.Module, device: torch.device) -> Iterator[torch.nn.Module]:
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


def layers(module: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers that stand one after another in lists, of which each is put together when it is its turn.

    >>> lists = torch.nn.ModuleDict({"h": torch.nn.ModuleList([torch.nn.Linear(1, 1), torch.nn.ReLU()])})
    >>> layers(lists)
    [Linear(in_features=1, out_features=1, bias=True), ReLU()]
    """
    found = []
    for child in module.children():
        listed = isinstance(module, torch.nn.ModuleList) and type(child).forward is not torch.nn.Module.forward
        found += [child] if listed else layers(child)
    return found


def apart(module: torch.nn.Module) -> None:
    """Leave each process its part again: after a pass forwards alone, some weights are still whole."""
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()
