"""Running out of memory, whoever says so: recognised in one place, and said with what would help."""

from ftlib.methods import METHODS
from ftlib.spec import Experiment

_NAMES = ("OutOfMemoryError", "MemoryError", "_ArrayMemoryError")
"""Of exceptions: torch's on a GPU, Python's, numpy's."""

_WORDS = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "unable to allocate",
    "alloc_failed", "memoryallocation", "bad_alloc",
)  # fmt: skip
"""Of CUDA and MPS, torch on a processor, the operating system, numpy, cuBLAS, and C++."""


def ran_out(name: str, said: str) -> bool:
    """Whether an error says that memory ran out.

    Args:
        name: Of the exception.
        said: By it.

    >>> ran_out("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB.")
    True
    >>> ran_out("RuntimeError", "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8")
    True
    >>> ran_out("ValueError", "memory is a good name")
    False
    """
    return name in _NAMES or any(words in said.lower() for words in _WORDS)


def explained(name: str, said: str, spec: Experiment) -> str:
    """An error as the reason of a run that failed: with advice where memory ran out, or may have.

    Args:
        name: Of the exception.
        said: By it.
        spec: What was run.

    >>> explained("MemoryError", "", Experiment(method="probe"))
    'out of memory (MemoryError); what helps: a max_length below 128, a smaller model, fewer runs at a time (--jobs)'
    >>> explained("ValueError", "no", Experiment(method="probe"))
    'ValueError: no'
    """
    what = f"{name}: {said}" if said and said != name else name
    if ran_out(name, said):
        return f"out of memory ({what}); {advice(spec)}"
    if name == "DeadKernelError":
        return f"{what}; the system ends a process so when memory runs out: if that was it, {advice(spec)}"
    return what


def advice(spec: Experiment) -> str:
    """What needs less memory than this experiment, the smallest change first."""
    method, helps = METHODS[spec.method], []
    if method.trains:
        size = int(spec.resolved()["batch_size"])
        if size > spec.gradient_accumulation and method.name != "setfit":
            helps.append(f"gradient_accumulation = {min(size, 2 * spec.gradient_accumulation)}")
        if not spec.gradient_checkpointing:
            helps.append("gradient_checkpointing = true")
        if size > 1:
            helps.append(f"a batch_size below {size}")
    if method.model:
        helps.append(f"a max_length below {spec.max_length}")
    if method.name == "full":
        helps.append("an adapter such as lora")
    if method.model:
        helps.append("a smaller model")
    return "what helps: " + ", ".join([*helps, "fewer runs at a time (--jobs)"])
