"""Metrics of texts that a model wrote, one reference each: BLEU, chrF and TER as sacrebleu counts, and plainer ones.

A corpus has one value: a function of sums over its segments (of matches, n-grams, edits, words), as sacrebleu computes
it. So each metric is a pair: what a segment adds to the sums, and what the sums come to. The second takes as many sums
at once as there are leading axes, so that values without each segment in turn, for intervals and tests
(`ftlib.stats.linearize.sum_values`), cost no second count. BLEU, chrF and TER are from 0 to 100, as they are quoted.
"""

import functools
import hashlib
import importlib.util
import json
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftlib.core.atomic import remembered
from ftlib.core.errors import FtlibError
from ftlib.stats.intervals import Interval, interval
from ftlib.stats.linearize import sum_values

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
Texts = Sequence[str]


class Sums(NamedTuple):
    """A metric as a function of sums over segments."""

    count: Callable[[Texts, Texts], Any]
    """(n,) references, (n,) hypotheses -> (n, k): what each segment adds."""
    value: Callable[[Array], Array]
    """(..., k) sums -> (...)."""


def counts_of(metric: str, references: Texts, hypotheses: Texts) -> Array:
    """What each segment adds to the sums of a metric, (n, k); kept in the user's cache folder.

    Raises:
        FtlibError: Two lists of different length, or an empty reference.
    """
    for name, texts in (("references", references), ("hypotheses", hypotheses)):
        if odd := [place for place, one in enumerate(texts) if not isinstance(one, str)]:
            raise FtlibError(
                f"{name}: number {odd[0] + 1} is a {type(texts[odd[0]]).__name__}; each is one text, in the order of "
                "the segments (sacrebleu's lists of references hold one list of such texts for each)"
            )
    if len(references) != len(hypotheses):
        raise FtlibError(f"{len(references)} references and {len(hypotheses)} hypotheses: one of each per segment")
    if empty := [place for place, text in enumerate(references) if not text.strip()]:
        raise FtlibError(f"references: {len(empty)} of {len(references)} are empty, the first is number {empty[0] + 1}")
    asked = json.dumps([1, metric, signature(metric), list(references), list(hypotheses)])
    key = hashlib.sha256(asked.encode()).hexdigest()[:32]
    found = remembered("text_counts", key, lambda: np.asarray(SUMS[metric].count(references, hypotheses), dtype=float))
    return found.reshape(len(references), -1)


def score(metric: str, references: Texts, hypotheses: Texts) -> float:
    """A metric of a corpus; NaN of no segments."""
    if not len(references):
        return math.nan
    return float(SUMS[metric].value(counts_of(metric, references, hypotheses).sum(axis=0)))


def bleu(references: Texts, hypotheses: Texts) -> float:
    """Corpus BLEU with sacrebleu's defaults (tokens of mteval-v13a, exponential smoothing), 0 to 100.

    Six of seven words right, in runs of three and three: precisions 6/7, 4/6, 2/5 and 1/(2 x 4), geometric mean.

    >>> round(bleu(["the cat sat on the mat today"], ["the cat sat in the mat today"]), 2)
    41.11
    """
    return score("bleu", references, hypotheses)


def chrf(references: Texts, hypotheses: Texts) -> float:
    """Corpus chrF2: F of character n-grams up to 6, recall twice as important as precision; 0 to 100.

    Of "abc", "ab" has 2 of 2 characters and 1 of 1 pairs: precision 1, recall (2/3 + 1/2) / 2 = 0.583 over the two
    orders that both texts have, 5 x 0.583 / (4 + 0.583).

    >>> round(chrf(["abc"], ["ab"]), 2)
    63.64
    """
    return score("chrf", references, hypotheses)


def ter(references: Texts, hypotheses: Texts) -> float:
    """Translation edit rate: words inserted, deleted, replaced and blocks moved, per word of the references, x 100.

    One word of four is replaced:

    >>> ter(["a b c d"], ["a b x d"])
    25.0
    """
    return score("ter", references, hypotheses)


def exact_match(references: Texts, hypotheses: Texts) -> float:
    """The share of hypotheses that are the reference, space at their ends aside.

    >>> exact_match(["ja", "nein"], ["ja ", "Nein"])
    0.5
    """
    return score("exact_match", references, hypotheses)


def empty_share(references: Texts, hypotheses: Texts) -> float:
    """The share of hypotheses without a word.

    >>> empty_share(["ja", "nein"], ["ja", " "])
    0.5
    """
    return score("empty_share", references, hypotheses)


def length_ratio(references: Texts, hypotheses: Texts) -> float:
    """Words of the hypotheses per word of the references, in BLEU's tokens; 1: as long.

    >>> length_ratio(["one two", "three four"], ["one", "three four"])
    0.75
    """
    return score("length_ratio", references, hypotheses)


def rouge1(references: Texts, hypotheses: Texts) -> float:
    """Mean F1 of words that hypothesis and reference share (rouge-score, without stemming).

    Two of two words right, two of four found: 2 x 1 x 0.5 / 1.5.

    >>> round(rouge1(["a b c d"], ["a b"]), 4)
    0.6667
    """
    return score("rouge1", references, hypotheses)


def rouge2(references: Texts, hypotheses: Texts) -> float:
    """Mean F1 of word pairs that hypothesis and reference share (rouge-score, without stemming).

    One of one pairs right, one of three found: 2 x 1 x 1/3 / (4/3).

    >>> rouge2(["a b c d"], ["a b"])
    0.5
    """
    return score("rouge2", references, hypotheses)


def rougeL(references: Texts, hypotheses: Texts) -> float:
    """Mean F1 of the longest common subsequence of words (rouge-score, without stemming).

    >>> rougeL(["a b c d"], ["a x c"])  # a c: 2 of 3 and 2 of 4
    0.5714285714285715
    """
    return score("rougeL", references, hypotheses)


def term_use(used: Sequence[bool]) -> float:
    """The share of a list's terms in source texts whose translation stands in what was written for them.

    >>> term_use([True, True, False, True])
    0.75
    """
    return float(np.mean(used)) if len(used) else math.nan


def gender_right(right: Sequence[bool]) -> float:
    """The share of sentences whose person was written in the gender that the source's pronoun says.

    >>> gender_right([True, True, False, True])
    0.75
    """
    return float(np.mean(right)) if len(right) else math.nan


def gender_gap(differences: Sequence[float]) -> float:
    """Of sentences that differ in the pronoun alone, right about men (1 or 0) minus right about women, on average.

    >>> gender_gap([1, 0, 1, 0])  # two doctors who are men whatever the pronoun says
    0.5
    """
    return gender_right(differences)


def stereotype_gap(differences: Sequence[float]) -> float:
    """Of the same sentences, right where the gender is the expected one minus right where it is not, on average.

    >>> stereotype_gap([1, -1])  # a man who is a doctor, and a woman who is a nurse, are both written as men
    0.0
    """
    return gender_right(differences)


def named_gender(said: str, feminine: str, masculine: str) -> str:
    """Whether a German text holds a feminine noun of a list or a masculine one; empty where none, or both.

    Args:
        said: The text.
        feminine: Nouns separated by bars; each may end a compound, and be inflected.
        masculine: The same.

    >>> nouns = "Anwältin|Juristin", "Anwalt|Jurist"
    >>> [named_gender(said, *nouns) for said in ("Die Rechtsanwältin ging.", "Des Anwalts Hut.", "Sie ging.")]
    ['women', 'men', '']
    """
    forms = {"women": rf"\w*(?:{feminine})(?:nen)?", "men": rf"\w*(?:{masculine})(?:e?[sn]|en)?"}
    found = [who for who, form in forms.items() if re.search(rf"(?<!\w)(?:{form})(?!\w)", said, re.IGNORECASE)]
    return found[0] if len(found) == 1 else ""


def taken_apart(reference: str, hypotheses: Texts) -> "pd.DataFrame":
    """What BLEU and chrF of single sentences are made of, a row for each.

    Returns:
        text, bleu, chrf, ter; the words that the reference has too, alone and in runs of 2, 3 and 4, and the penalty
        for being short, which BLEU is the geometric mean and the product of; precision and recall of characters, which
        chrF is made of. All but ter in per cent.

    >>> found = taken_apart("a b c d", ["a b c d e"]).iloc[0]
    >>> [round(float(found[name]), 1) for name in ("1 word", "2 words", "4 words", "penalty", "bleu")]
    [80.0, 75.0, 50.0, 100.0, 66.9]
    """
    import pandas as pd

    references = [reference] * len(hypotheses)
    found = pd.DataFrame({"text": list(hypotheses)})
    for metric in ("bleu", "chrf", "ter"):
        found[metric] = segment_scores(metric, references, hypotheses)
    counts = counts_of("bleu", references, hypotheses)
    for order in range(1, 5):
        name = "1 word" if order == 1 else f"{order} words"
        found[name] = 100 * _share(counts[:, 1 + order], counts[:, 5 + order])
    ratio = np.divide(counts[:, 1], counts[:, 0], out=np.full(len(counts), np.inf), where=counts[:, 0] > 0)
    found["penalty"] = 100 * np.exp(np.minimum(0.0, 1 - ratio))
    given, wanted, right = (counts_of("chrf", references, hypotheses)[:, place::3] for place in range(3))
    found["characters right"] = 100 * _share(right.sum(axis=1), given.sum(axis=1))
    found["characters found"] = 100 * _share(right.sum(axis=1), wanted.sum(axis=1))
    return found


def segment_scores(metric: str, references: Texts, hypotheses: Texts) -> Array:
    """The metric of each segment by itself, (n,): to sort and to plot, not to average.

    >>> segment_scores("chrf", ["abc", "abc"], ["abc", "xyz"]).tolist()
    [100.0, 0.0]
    """
    return SUMS[metric].value(counts_of(metric, references, hypotheses))


def influences(metric: str, counts: ArrayLike) -> Array:
    """Values per segment whose mean is the corpus metric, so that means' intervals and tests serve it: (n_seeds, n)."""
    return sum_values(counts, SUMS[metric].value)


def corpus_interval(
    metric: str,
    counts: ArrayLike,
    *,
    bounds: tuple[float, float] | None,
    alpha: float = 0.05,
    clusters: ArrayLike | None = None,
) -> Interval:
    """A corpus metric over new segments and, from two seeds on, new seeds.

    Args:
        metric: A name of `SUMS`.
        counts: (n_seeds, n, k), as `counts_of` gives them for each seed.
        bounds: Least and greatest value, where there are.

    Returns:
        Value (the mean over seeds), low, high, none below 0, as no such metric is; no bounds where there is one segment
        or one source, NaN where none.
    """
    table = np.asarray(counts, dtype=float)
    if not table.shape[1]:
        return Interval(math.nan, math.nan, math.nan)
    if len(range(table.shape[1]) if clusters is None else set(np.asarray(clusters))) < 2:
        return Interval(float(SUMS[metric].value(table.sum(axis=1)).mean()), math.nan, math.nan)
    found = interval(influences(metric, table), alpha=alpha, clusters=clusters, bounds=bounds)
    return found._replace(low=max(0.0, found.low))


def signature(metric: str) -> str:
    """What must be equal for two values to compare, as sacrebleu says it; empty for the metrics that need none.

    >>> signature("chrf").rpartition("|version")[0], signature("exact_match")
    ('nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no', '')
    """
    if metric == "length_ratio":
        metric = "bleu"
    if metric in ROUGE:
        import importlib.metadata

        return f"rouge-score:{importlib.metadata.version('rouge-score')}|stemmer:no"
    return str(_scorer(metric).get_signature()) if metric in ("bleu", "chrf", "ter") else ""


def available(metric: str) -> bool:
    """Whether the package that a metric needs is installed: ROUGE's is an extra."""
    return metric not in ROUGE or importlib.util.find_spec("rouge_score") is not None


@functools.cache
def _scorer(metric: str) -> Any:
    from sacrebleu.metrics import BLEU, CHRF, TER

    # What looks tokenised is the user's to see: sacrebleu would say so once for every stage and part.
    found = {"bleu": functools.partial(BLEU, force=True), "chrf": CHRF, "ter": TER}[metric]()
    found.num_refs = 1
    return found


def _counted(metric: str) -> Callable[[Texts, Texts], list[list[float]]]:
    """What sacrebleu counts per segment: what its own resampling begins with."""

    def count(references: Texts, hypotheses: Texts) -> list[list[float]]:
        return _scorer(metric)._extract_corpus_statistics(list(hypotheses), [list(references)])

    return count


def _mean_of(value: Callable[[str, str], float]) -> Sums:
    def count(references: Texts, hypotheses: Texts) -> list[tuple[float, float]]:
        return [(value(*pair), 1.0) for pair in zip(references, hypotheses, strict=True)]

    return Sums(count, lambda sums: _share(sums[..., 0], sums[..., 1]))


ROUGE = ("rouge1", "rouge2", "rougeL")


def _rouge(metric: str) -> Sums:
    def value(reference: str, hypothesis: str) -> float:
        from rouge_score.rouge_scorer import RougeScorer

        return RougeScorer([metric]).score(reference, hypothesis)[metric].fmeasure

    return _mean_of(value)


def _share(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros(np.broadcast(part, whole).shape), where=whole > 0)


def _bleu(sums: Array) -> Array:
    """Papineni et al. 2002 from (length, reference length, matches of 1 to 4, n-grams of 1 to 4).

    Smoothed as mteval-v13a: the k-th order without a match counts as 1 / 2^k of one (Chen & Cherry 2014, method 3).
    """
    length, reference, right, total = sums[..., 0], sums[..., 1], sums[..., 2:6], sums[..., 6:10]
    missed = (right == 0) & (total > 0)
    half = np.where(missed, 0.5 ** np.cumsum(missed, axis=-1), right)
    with np.errstate(divide="ignore"):
        logs = np.log(_share(half, total)).mean(axis=-1)
    short = np.minimum(0.0, 1 - np.divide(reference, length, out=np.full(np.shape(length), np.inf), where=length > 0))
    return np.where(right.any(axis=-1), 100 * np.exp(logs + short), 0.0)


def _chrf(sums: Array) -> Array:
    """Popović 2015 from (n-grams, reference's n-grams, matches) of 1 to 6 characters, where both texts have some."""
    given, wanted, right = (sums[..., place::3] for place in range(3))
    both = (given > 0) & (wanted > 0)
    n = both.sum(axis=-1)
    precision = _share((_share(right, given) * both).sum(axis=-1), n)
    recall = _share((_share(right, wanted) * both).sum(axis=-1), n)
    return 100 * _share(5 * precision * recall, 4 * precision + recall)


def _length(references: Texts, hypotheses: Texts) -> Any:
    return np.asarray(_counted("bleu")(references, hypotheses), dtype=float)[:, :2]


SUMS: dict[str, Sums] = {
    "bleu": Sums(_counted("bleu"), _bleu),
    "chrf": Sums(_counted("chrf"), _chrf),
    "ter": Sums(_counted("ter"), lambda sums: 100 * _share(sums[..., 0], sums[..., 1])),
    "exact_match": _mean_of(lambda reference, hypothesis: float(reference.strip() == hypothesis.strip())),
    "length_ratio": Sums(_length, lambda sums: _share(sums[..., 0], sums[..., 1])),
    "empty_share": _mean_of(lambda _, hypothesis: float(not hypothesis.strip())),
    **{name: _rouge(name) for name in ROUGE},
}
"""Metric -> what a segment adds, and what the sums come to."""
