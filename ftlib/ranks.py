"""Which of the processes that share one training this one is, by the environment variables of torchrun."""

import os

from ftlib.errors import FtlibError
from ftlib.spec import Experiment


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
    ftlib.errors.FtlibError: processes: found 2, but 1 is running; start it as torchrun --nproc_per_node 2, or let \
`ftlib run-one` do that
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

    Read: ACCELERATE_USE_FSDP, which is taken out of the environment, and what `ftlib.shards` cannot do of what
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
    if spec.torch_compile:
        raise FtlibError("torch_compile: found true; a model divided by FSDP is not compiled. Leave out one of the two")
    if spec.method == "qlora":
        raise FtlibError(
            "method: qlora keeps weights in four bits, which FSDP does not divide; lora, or leave out FSDP"
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
