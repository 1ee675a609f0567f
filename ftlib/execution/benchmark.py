"""How fast this machine multiplies, and how fast a base model reads and trains on it: measured here, in seconds."""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core.atomic import keep_json, remembered
from ftlib.core.errors import FtlibError
from ftlib.data.registry import load_task
from ftlib.models.catalog import architecture, speeds_folder
from ftlib.models.loading import encoded, load_model
from ftlib.records.events import Events
from ftlib.records.provenance import device_name
from ftlib.stats.paired import t_interval
from ftlib.training.trainer import fit

SIZES = {"cuda": (2048, 4096, 8192), "cpu": (512, 1024, 2048)}
"""Rows of the square matrices that are tried; other devices as cpu."""

SETTINGS = (
    "method", "method_args", "batch_size", "max_length", "gradient_accumulation", "gradient_checkpointing", "seed",
)  # fmt: skip
"""Fields of an experiment that its speed depends on, beside task, model, device, dtype and threads."""


class Speed(NamedTuple):
    """Texts a second, each a mean over the repeats with its 95 % interval (Student's t)."""

    reading: tuple[float, float, float]
    """Of the untouched model giving features: value, low, high."""
    training: tuple[float, float, float]
    """Of training steps."""
    n: int
    """Repeats; a first one, in which memory is laid out, is left out."""
    texts: int
    """Texts in each repeat."""
    tokens: float
    """Tokens of a text, on average."""
    how: dict[str, Any]
    """What was measured: model, task, method, device, dtype, threads, batch_size, max_length, torch."""

    @property
    def sentence(self) -> str:
        """The speed in words."""
        (reads, *of_reading), (trains, *of_training) = self.reading, self.training
        how = self.how
        return (
            f"{how['model']} reads {reads:.0f} ({of_reading[0]:.0f} to {of_reading[1]:.0f}) texts a second and trains "
            f"({how['method']}, batches of {how['batch_size']}) on {trains:.0f} ({of_training[0]:.0f} to "
            f"{of_training[1]:.0f}); {self.n} repeats of {self.texts} texts of {how['task']}, {self.tokens:.0f} tokens "
            f"each; {how['device']}, {how['dtype']}, threads {how['threads']}"
        )


def measure_speed(spec: Experiment, *, n_texts: int = 64, repeats: int = 5) -> Speed:
    """Measure how fast a model reads and trains on the task's own texts, or read what was measured here before.

    Kept in the user's cache folder, where `ftlib list models` finds it. Other work on the machine makes it slower, and
    the interval does not know of what does so all the time. On a GPU take enough texts for a second or more.

    Args:
        spec: Its task, model, method, batch_size, max_length, device, dtype, threads and seed are used.
        n_texts: Training examples in each repeat, drawn by the seed.
        repeats: At least 2.

    Raises:
        FtlibError: The method does not train, fewer than 2 repeats, or see `load_task` and `load_model`.
    """
    if not METHODS[spec.method].trains or repeats < 2:
        trained = [method.name for method in METHODS.values() if method.trains]
        raise FtlibError(f"speed: found {spec.method}, {repeats} repeats; allowed: one of {trained}, 2 repeats or more")
    model = load_model(spec.model, device=spec.device, dtype=spec.dtype, threads=spec.threads)
    task = load_task(spec.task, **spec.columns())
    # Examples per class would be others in number; one pass, however many steps the method would take at least.
    drawn = {"shots": 0, "train_limit": n_texts, "epochs": 1.0, "min_steps": 0, "processes": 1, "patience": 0}
    short = spec.model_copy(update=drawn)
    how = {name: short.resolved()[name] for name in SETTINGS}
    how |= {"device": device_name(model.device), "dtype": model.dtype, "threads": model.threads}
    how |= {"torch": torch.__version__, "n_texts": n_texts, "repeats": repeats, "task": task.name}
    key = hashlib.sha256(json.dumps([1, task.sha256, how], sort_keys=True).encode()).hexdigest()[:16]
    path = speeds_folder() / f"{architecture(model.folder)}-{key}.json"
    if not path.exists():
        train = task.draw(**short.drawing())
        texts = train["text"].tolist()
        lengths = [len(ids) for ids in model.tokenizer(texts, truncation=True, max_length=spec.max_length)["input_ids"]]
        encoder = model.encoder()
        reading = _rates(lambda: _timed(lambda: encoded(encoder, model, texts, spec.max_length)), len(texts), repeats)
        predictor = METHODS[spec.method].prepare()(model, short, task, train)
        with tempfile.TemporaryDirectory() as folder:
            # Somewhere for its diary, or it would talk to whoever is watching.
            events = Events(folder)
            training = _rates(
                lambda: fit(predictor.trainable, model, short, train, events).seconds, len(texts), repeats
            )
        found = Speed(reading, training, repeats, len(texts), float(np.mean(lengths)), how | {"model": spec.model})
        kept = found._asdict()
        keep_json(path, kept)
    else:
        kept = json.loads(path.read_text(encoding="utf-8"))
    # Another model of the same architecture may have been measured: it is as fast.
    kept["how"]["model"] = spec.model
    return Speed(**kept | {name: tuple(kept[name]) for name in ("reading", "training")})


def _rates(once: Callable[[], float], texts: int, repeats: int) -> tuple[float, float, float]:
    """Texts a second: mean and interval over repeats, the first of which is not counted."""
    return t_interval([texts / seconds for seconds in [once() for _ in range(1 + repeats)][1:]])


def _timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def matmul_peak(device: str = "cpu", dtype: str = "float32", threads: int = 1) -> float:
    """The fastest product of two square matrices: what the arithmetic of a training step can be compared with.

    Measured once for a machine, a version of torch, a dtype and a number of threads, then read from the user's cache
    folder (`FTLIB_CACHE`). Other work on the machine can only make it too low, so the best of many tries is taken.

    Args:
        device: cpu, cuda or mps.
        dtype: float32 or bfloat16, the dtype of both factors.
        threads: CPU threads of torch, for the measurement alone.

    Returns:
        Floating-point operations per second: a product of n x n matrices counts as 2 n^3.
    """
    capability = torch.backends.cpu.get_cpu_capability() if device == "cpu" else ""
    asked = [2, device_name(device), capability, torch.__version__, dtype, threads]
    key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]
    return float(remembered("speed", key, lambda: np.array(_fastest_product(device, dtype, threads))))


def _fastest_product(device: str, dtype: str, threads: int, seconds: float = 0.3) -> float:
    before, best = torch.get_num_threads(), 0.0
    torch.set_num_threads(threads)
    try:
        sizes = SIZES.get(device, SIZES["cpu"])
        for n in sizes:
            # Random, not zeros: some processors are faster where nothing changes.
            a = torch.rand(n, n, device=device).to(getattr(torch, dtype))
            product, until = torch.mm(a, a), time.perf_counter() + seconds / len(sizes)
            while time.perf_counter() < until:
                _finished(device)
                start = time.perf_counter()
                torch.mm(a, a, out=product)
                _finished(device)
                best = max(best, 2 * n**3 / (time.perf_counter() - start))
    finally:
        torch.set_num_threads(before)
    return best


def _finished(device: str) -> None:
    """Wait until the device has done what it was given; a GPU is given work, not watched."""
    if device != "cpu":
        getattr(torch, device).synchronize()
