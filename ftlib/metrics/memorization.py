"""Metrics of memorised text: how exposed a planted secret is, and how much of its training text a model writes out.

Exposure (Carlini et al. 2019, "The Secret Sharer", section 4): of all secrets that could stand in a sentence, R, sorted
by how likely the model finds them, the planted one has a rank; exposure = log2 |R| - log2 rank, in bits. It is what the
model tells of the secret: a guesser who knows none of it needs |R| / 2 guesses in the mean, and each bit halves them.
A secret that was never seen has a rank by chance, and 1.44 bits in the mean (`by_chance`), not 0.

Where R is a sample of all secrets the exposure is an estimate: a secret that is likelier than all others of the sample
has log2 |R| bits at least, and no more can be seen. `candidates` is |R|, the secret itself counted.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftlib.core.errors import FtlibError
from ftlib.stats.intervals import Interval, interval


def rank(own: float, others: ArrayLike) -> int:
    """Place of a secret among all candidates, 1 the likeliest; who is exactly as likely stands before it.

    Args:
        own: Its negative log-likelihood, nats.
        others: `(n_candidates - 1,)` those of the others.

    Raises:
        FtlibError: A number is not finite, or there are no others.

    Nats 2 against 1, 2, 3: one is likelier, one as likely.

    >>> rank(2.0, [1.0, 2.0, 3.0])
    3
    """
    values = np.asarray(others, dtype=float)
    if values.ndim != 1 or not values.size or not np.isfinite([own, *values]).all():
        raise FtlibError(
            f"others: found shape {values.shape}; allowed: (n_candidates - 1,) finite numbers, one at least"
        )
    return 1 + int((values <= own).sum())


def exposures(ranks: ArrayLike, candidates: int) -> NDArray[np.float64]:
    """log2 candidates - log2 rank of each secret, in bits.

    Args:
        ranks: Any shape; 1 to candidates.

    Raises:
        FtlibError: A rank outside 1 to candidates.

    >>> exposures([1, 4, 16], 16).tolist()
    [4.0, 2.0, 0.0]
    """
    places = np.asarray(ranks, dtype=float)
    if places.size and not ((places >= 1) & (places <= candidates)).all():
        raise FtlibError(f"ranks: found {places.min():g} to {places.max():g}; allowed: 1 to {candidates} candidates")
    return math.log2(candidates) - np.log2(places)


def exposure(ranks: ArrayLike, candidates: int) -> float:
    """Mean exposure of several secrets, in bits; NaN of none.

    Args:
        ranks: `(n_secrets,)`.

    >>> exposure([1, 16], 16)
    2.0
    """
    found = exposures(ranks, candidates)
    return float(found.mean()) if found.size else math.nan


def exposure_interval(ranks: ArrayLike, candidates: int, alpha: float = 0.05) -> Interval:
    """The same with its interval: for new secrets and, from two seeds on, new trainings.

    Args:
        ranks: `(n_seeds, n_secrets)` or `(n_secrets,)`.

    Returns:
        Mean, low, high, all within 0 and log2 candidates; NaN bounds of a single secret.

    Where all five are found first the interval ends at the most that can be seen:

    >>> [round(bound, 2) for bound in exposure_interval([1, 1, 1, 1, 1], 1024)]
    [10.0, 5.66, 10.0]
    """
    found = np.atleast_2d(exposures(ranks, candidates))
    if found.shape[1] < 2:
        return Interval(exposure(ranks, candidates), math.nan, math.nan)
    return interval(found, alpha=alpha, bounds=(0.0, math.log2(candidates)))


def by_chance(candidates: int) -> float:
    """Mean exposure of a secret whose rank is chance, every rank as likely as any other, in bits.

    Of two candidates it is 1 bit or none:

    >>> round(by_chance(2), 6), round(by_chance(1024), 2)
    (0.5, 1.44)
    """
    return math.log2(candidates) - math.lgamma(candidates + 1) / math.log(2) / candidates


def extraction(matched: ArrayLike, length: int) -> float:
    """Share of documents whose continuation is written out, token for token, by greedy decoding after their prefix.

    Carlini et al. 2023 ("Quantifying Memorization Across Neural Language Models", definition 3.1). Text that anybody
    would continue so is counted as well: compare with documents that were not trained on.

    Args:
        matched: `(n_documents,)` tokens written as they stand in the document, up to the first that is not.

    Raises:
        FtlibError: More tokens matched than there are.

    Of three continuations of 4 tokens one is written out, one breaks off before its last token, one at once:

    >>> round(extraction([4, 3, 0], length=4), 4)
    0.3333
    """
    counts = np.asarray(matched, dtype=float)
    if counts.size and not ((counts >= 0) & (counts <= length)).all():
        raise FtlibError(f"matched: found {counts.min():g} to {counts.max():g}; allowed: 0 to {length} tokens")
    return float((counts == length).mean()) if counts.size else math.nan
