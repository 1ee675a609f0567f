"""Metrics of models of text: perplexity and bits per byte; and what the order of a prompt's examples changes.

`nats` are negative log-likelihoods, one sum per document; `n_tokens` and `n_bytes` what that document was scored on:
tokens of the model's tokenizer and UTF-8 bytes. A corpus has one value: sums are divided by sums, no document's own
value is averaged. Every function returns NaN where its definition divides nothing by nothing, and refuses likelihoods
that are not finite. `clusters` and `alpha` are as in `ftlib.stats`.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftlib.core.errors import FtlibError
from ftlib.stats.intervals import Interval, ratio_interval
from ftlib.stats.linearize import ratio_values

if TYPE_CHECKING:
    import pandas as pd

PREFIX = "pseudo_"
"""Before the names of metrics of masked models, whose likelihoods are no likelihoods of text."""
SIZES = {"bits_per_byte": "n_bytes", "perplexity": "n_tokens"}
"""What each metric divides by."""

METRICS_OF_TEXT = (*SIZES, *(PREFIX + name for name in SIZES))


class Likelihood(NamedTuple):
    """How likely a model finds texts."""

    score: "Callable[[Sequence[str]], pd.DataFrame]"
    """(n_texts,) -> one row per text: nats, n_tokens, n_bytes."""
    protocol: str
    """What each token was given before it; printed beside every value."""
    pseudo: bool = False
    """Whether tokens were masked in turn, as for models that read both ways."""


def perplexity(nats: ArrayLike, n_tokens: ArrayLike) -> float:
    """exp(sum of nats / sum of tokens) of a corpus; compares models of one tokenizer only.

    A model that gives each of 3 tokens the probability 1/8:

    >>> round(perplexity([2 * math.log(8), math.log(8)], [2, 1]), 12)
    8.0
    """
    return float(_shown("perplexity", ratio(nats, n_tokens)))


def bits_per_byte(nats: ArrayLike, n_bytes: ArrayLike) -> float:
    """Sum of nats / (sum of bytes x ln 2) of a corpus; compares models whatever their tokenizers.

    As in EleutherAI's lm-evaluation-harness (`bits_per_byte` of `lm_eval/api/metrics.py`).

    Probabilities 1/8 and 1/2 for documents of 1 and 3 bytes: 3 and 1 bits for 4 bytes.

    >>> round(bits_per_byte([math.log(8), math.log(2)], [1, 3]), 12)
    1.0
    """
    return ratio(nats, n_bytes) / math.log(2)


def ratio(nats: ArrayLike, sizes: ArrayLike) -> float:
    """Sum of nats / sum of sizes; NaN for no documents, or none with anything to score.

    Raises:
        FtlibError: Two lists of different length, a likelihood that is no number, or a size below 0.

    >>> ratio([1.0, 5.0], [1, 2])
    2.0
    """
    nats, sizes = np.asarray(nats, dtype=float), np.asarray(sizes, dtype=float)
    if nats.ndim != 1 or nats.shape != sizes.shape:
        raise FtlibError(f"nats {nats.shape} and sizes {sizes.shape}: two lists of one length are needed")
    if bad := int((~np.isfinite(nats)).sum()):
        raise FtlibError(
            f"nats: found {bad} of {len(nats)} that are NaN or infinite; the model gives no likelihood there"
        )
    if not (sizes >= 0).all():
        raise FtlibError("sizes: allowed: numbers of tokens or bytes, none negative or missing")
    return float(nats.sum() / sizes.sum()) if sizes.sum() > 0 else math.nan


def values(metric: str, nats: ArrayLike, sizes: ArrayLike) -> NDArray[np.float64]:
    """Values per document whose mean is the metric of each seed, so that means' tests serve it.

    Args:
        metric: `bits_per_byte` or `pseudo_bits_per_byte`.

    Returns:
        `(n_seeds, n_documents)`. The differences of two models' values on the same documents are the values of the
        difference, so comparing them as means is the paired delta method (Cochran 1977, chapter 6; Miller 2024).

    Raises:
        FtlibError: Another metric (an exponential is no mean), or see `ftlib.stats.linearize.ratio_values`.

    >>> values("bits_per_byte", [math.log(2), math.log(4)], [1, 3]).mean().round(12)  # 3 bits for 4 bytes
    np.float64(0.75)
    """
    if not metric.endswith("bits_per_byte"):
        raise FtlibError(f"{metric}: is no mean over documents; compare by bits_per_byte")
    return ratio_values(np.asarray(nats, dtype=float) / math.log(2), sizes)


def text_interval(
    metric: str, nats: ArrayLike, sizes: ArrayLike, *, alpha: float = 0.05, clusters: ArrayLike | None = None
) -> Interval:
    """A metric of text over new documents and, from two seeds on, new seeds.

    Args:
        metric: A name of `METRICS_OF_TEXT`. Perplexity is the exp of the interval of nats per token, so over seeds it
            is their geometric mean.
        nats: `(n_seeds, n_documents)` or `(n_documents,)`.
        sizes: The same shape: bytes or tokens, as the metric divides by.

    Returns:
        Value, low, high; NaN where undefined, and no bounds where fewer than two documents or sources were scored.

    >>> [round(x, 3) for x in text_interval("perplexity", [math.log(2)] * 3, [1, 1, 1])]
    [2.0, 2.0, 2.0]
    """
    nats, sizes = np.atleast_2d(np.asarray(nats, dtype=float)), np.atleast_2d(np.asarray(sizes, dtype=float))
    alone = [ratio(*one) for one in zip(nats, sizes, strict=True)]
    unit = math.log(2) if metric.endswith("bits_per_byte") else 1.0
    sources = np.arange(nats.shape[1]) if clusters is None else np.asarray(clusters)
    if min(len(np.unique(sources[row > 0])) for row in sizes) > 1:
        found = ratio_interval(nats / unit, sizes, alpha=alpha, clusters=clusters)
    else:
        found = Interval(float(np.mean(alone)) / unit, math.nan, math.nan)
    return Interval(*(float(_shown(metric, bound)) for bound in found))


def why_undefined(metric: str, sizes: ArrayLike) -> str:
    """The reason a metric of these documents is NaN."""
    sizes = np.asarray(sizes, dtype=float)
    if not sizes.size:
        return "there are no documents"
    if not sizes.sum():
        return f"no {SIZES[metric.removeprefix(PREFIX)].removeprefix('n_')} were scored"
    return "too large for a number"


def order_sd(accuracies: ArrayLike, alpha: float = 0.05) -> Interval:
    """Standard deviation of the accuracies that the same shots reach in different orders.

    How far the order of a prompt's examples matters (Lu et al. 2022). The interval is that of a normal sample,
    (k - 1) s^2 / chi-square quantiles of k - 1 degrees of freedom; it has no upper bound where all orders agree, since
    nothing was seen that it could be scaled by.

    Args:
        accuracies: `(n_orders,)`, orders drawn at random.

    Returns:
        Value (divisor k - 1), low, high; NaN for fewer than two orders.

    Accuracies 0.5 and 0.7: sd 0.2 / sqrt(2).

    >>> [round(x, 3) for x in order_sd([0.5, 0.7])]
    [0.141, 0.063, 4.513]
    """
    from scipy.special import chdtri

    accuracies = np.asarray(accuracies, dtype=float)
    if accuracies.size < 2:
        return Interval(math.nan, math.nan, math.nan)
    sd, free = float(accuracies.std(ddof=1)), accuracies.size - 1
    if sd == 0:
        return Interval(0.0, 0.0, math.nan)
    low, high = (sd * math.sqrt(free / float(chdtri(free, tail))) for tail in (alpha / 2, 1 - alpha / 2))
    return Interval(sd, low, high)


def _shown(metric: str, value: float) -> float:
    """The exp where the metric is one; NaN where that is too large for a number, which JSON could not hold."""
    if metric.endswith("bits_per_byte"):
        return value
    return math.exp(value) if value < 709 else math.nan
