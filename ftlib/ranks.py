"""Which of the processes that share one training this one is, by the environment variables of torchrun."""

import os

from ftlib.errors import FtlibError
from ftlib.spec import Experiment


def launched() -> bool:
    """Whether this process was started by torchrun, or by something that speaks as it does."""
    return "WORLD_SIZE" in os.environ


def rank(spec: Experiment) -> int:
    """The number of this process among the experiment's; 0 for the first, which measures and writes.

    Every process holds the whole model, and the first one measures with it. What accelerate can divide otherwise, by
    FSDP or DeepSpeed, would leave it a part.

    Raises:
        FtlibError: Another number of processes is running than the experiment asks for, or the model would be divided.

    >>> rank(Experiment(method="full"))
    0
    >>> rank(Experiment(method="full", processes=2))
    Traceback (most recent call last):
        ...
    ftlib.errors.FtlibError: processes: found 2, but 1 is running; start it as torchrun --nproc_per_node 2, or let \
`ftlib run-one` do that
    """
    running = int(os.environ.get("WORLD_SIZE", 1))
    if running != spec.processes:
        raise FtlibError(
            f"processes: found {spec.processes}, but {running} {'is' if running == 1 else 'are'} running; start it as "
            f"torchrun --nproc_per_node {spec.processes}, or let `ftlib run-one` do that"
        )
    for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true":
            raise FtlibError(
                f"ACCELERATE_USE_{name}: found true; ftlib keeps the whole model in every process and cannot divide "
                "it. Leave it out; gradient_checkpointing = true or an adapter takes less memory"
            )
    return int(os.environ.get("RANK", 0))
