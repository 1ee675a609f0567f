"""From scores to words: better, worse, equivalent within the margin, or undecided and what would decide it.

Every comparison of ftlib ends here. Differences are paired on examples and seeds; the interval covers new examples
and, from two seeds on, new seeds (`ftlib.stats.variance.VarianceComponents`); `docs/calibration.md` measures how often
it is right. `ftlib.stats.multiple` compares many methods at once, `ftlib.stats.unpaired` two lists of runs that share
nothing.

The order of decisions is a choice: (1) scores that are equal everywhere are the same; (2) a difference shown to lie
within the margin is "same", even where it is surely not 0, because the plan said that it does not matter (the sentence
still names it); (3) an interval that leaves out 0 is "better" or "worse"; (4) the rest is undecided. No sentence says
"significant": it names the difference, how far it may be off, and whether it matters.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ftlib.core.html import paragraph, table
from ftlib.stats.paired import Difference, difference
from ftlib.stats.power import DifferenceVariance, examples_needed, grouped, power_of, seeds_needed

Verdict = Literal["better", "worse", "same", "undecided"]


class Comparison(NamedTuple):
    """What is known about a - b."""

    difference: float
    """a - b, in the unit of the scores (accuracy: 0.02 is 2 points)."""
    low: float
    """Lower bound of the 1 - alpha interval of the difference."""
    high: float
    """Upper bound."""
    p_value: float
    """Two-sided p-value of "no difference", before any correction for several comparisons."""
    verdict: Verdict
    """a against b: `better`, `worse`, `same` (within the margin) or `undecided`."""
    sentence: str
    """The verdict in words."""
    more_examples: int | None
    """Examples to add (seeds kept) to settle it with 80 % power, were the true difference the one found; None: not
    asked, or no number would."""
    more_seeds: int | None
    """Seeds to add (examples kept), likewise; None also with one seed, which says nothing about the spread of seeds."""

    def _repr_html_(self) -> str:
        return paragraph(self.sentence, strong=True) + table(
            ("difference", "interval", "p, before any correction"),
            [(f"{self.difference:+.4f}", f"{self.low:+.4f} to {self.high:+.4f}", f"{self.p_value:.3g}")],
        )


class Voice(NamedTuple):
    """How a difference is to be spoken of."""

    a: str
    b: str
    unit: str = "points"
    """`points` shows numbers times 100; any other unit as they are."""
    higher_is_better: bool = True
    one_run: bool = False
    """One training run of methods that draw: other seeds may differ."""
    unpaired: tuple[int, int] | None = None
    """Numbers of runs of two methods that share neither draws nor seeds; None: paired."""

    @property
    def aside(self) -> str:
        """What limits the comparison, to be said with every verdict."""
        if self.unpaired == (1, 1):
            return ", not paired: totals of one training run each; other seeds may differ"
        if self.unpaired:
            return ", not paired: {} and {} runs that share neither draws nor seeds".format(*self.unpaired)
        return ", for this one training run: other seeds may differ" if self.one_run else ""

    @property
    def noun(self) -> str:
        """What one draw of the test set is called: text that is modelled comes in documents."""
        return "document" if self.unit == "bits per byte" else "example"


class Forecast(NamedTuple):
    """What would settle an undecided comparison."""

    more_examples: int | None
    more_seeds: int | None
    words: str


def in_words(
    found: Difference,
    voice: Voice,
    p_family: float,
    n_comparisons: int = 1,
    forecast: Callable[[], Forecast] | None = None,
) -> Comparison:
    """Decide, and say it.

    Args:
        forecast: Says what would decide, where the variances of a paired table are not to be had.
    """
    a, b, alpha = voice.a, voice.b, found.alpha
    run = voice.aside
    show = _Numbers(found, voice.unit)
    more_examples = more_seeds = None
    verdict: Verdict
    if found.identical:
        verdict = "same"
        every = f"{grouped(found.n_examples)} {voice.noun}s"
        sentence = f"{a} and {b} are the same: equal scores on every one of the {every}"
        if found.p_same > alpha and found.margin > 0 and found.high > found.low:
            sentence += f" (so few that a difference of up to {show(found.high)} {voice.unit} could still hide)"
        sentence += run
    elif found.p_same <= alpha:
        verdict = "same"
        sure = f"{show.sized(found.low_same, found.high_same)} at {100 - 200 * alpha:g} %"
        sentence = f"{a} and {b} are equivalent within {show.margin()}: they differ by {show.size()} ({sure}){run}"
        if found.p_value <= alpha:
            sentence += "; a difference this small is real, but smaller than what matters"
    elif p_family <= alpha:
        verdict = "better" if (found.value > 0) == voice.higher_is_better else "worse"
        sentence = f"{a} is {verdict} than {b} by {show.size()} ({show.sized(found.low, found.high)}){run}"
        if min(abs(found.low), abs(found.high)) < found.margin:
            sentence += f"; it may be less than the {show.margin()} that matter{'s' * (show.margin() == '1 point')}"
    else:
        verdict = "undecided"
        wanted = forecast() if forecast else _what_would_decide(found, n_comparisons, voice.noun)
        more_examples, more_seeds, needed = wanted
        numbers = f"{show(found.value, '+')} {voice.unit} ({show(found.low)} to {show(found.high)})"
        sentence = f"undecided: {needed}; {a} against {b}: {numbers}{run}"
        if found.p_value <= alpha:
            sentence += f"; alone it would count, among {n_comparisons} comparisons not (corrected p = {p_family:.2g})"
    return Comparison(found.value, found.low, found.high, found.p_value, verdict, sentence, more_examples, more_seeds)


def _what_would_decide(found: Difference, n_comparisons: int, noun: str) -> Forecast:
    """How many examples or seeds to add, and the words for it."""
    if found.spread is None:
        return Forecast(None, None, "only the results of single examples could decide")
    chance = DifferenceVariance.measured(found.spread)
    plan = {"margin": found.margin, "alpha": found.alpha, "comparisons": n_comparisons}
    examples = examples_needed(found.value, found.n_seeds, chance, **plan)
    seeds = None if found.n_seeds == 1 else seeds_needed(found.value, found.n_draws, chance, **plan)
    more_examples = examples and max(1, round((examples - found.n_draws) * found.n_examples / found.n_draws))
    more_seeds = seeds and max(1, seeds - found.n_seeds)
    # What nobody can do is no advice: the numbers are kept, the sentence does not offer them.
    few_examples = realistic(more_examples, found.n_examples)
    few_seeds = realistic(more_seeds, found.n_seeds)
    words_examples = f"{roughly(more_examples)} more {noun}{'s' * (more_examples > 1)}" if few_examples else ""
    words_seeds = f"{more_seeds} more seed{'s' * (more_seeds > 1)}" if few_seeds else ""
    if few_examples and few_seeds:
        # Seeds cost computing, examples cost people who label them: the cheaper comes first.
        words = f"about {words_seeds} or {words_examples} would decide"
    elif few_examples and found.n_seeds == 1:
        words = f"about {words_examples} would decide"
    elif few_examples:
        words = f"about {words_examples} would decide; {_alone(more_seeds, 'seed')}"
    elif few_seeds:
        words = f"about {words_seeds} would decide; {_alone(more_examples, noun)}"
    else:
        words = _both(found, chance, noun, plan)
    return Forecast(more_examples, more_seeds, words)


def _both(found: Difference, chance: DifferenceVariance, noun: str, plan: dict[str, Any]) -> str:
    """What would decide where neither examples nor seeds alone would, in words."""
    for times in (2, 3, 5, 10) if found.n_seeds > 1 else ():
        if power_of(found.value, times * found.n_draws, times * found.n_seeds, chance, **plan).settled >= 0.8:
            extra = roughly((times - 1) * found.n_examples)
            both = f"about {extra} more {noun}s together with {(times - 1) * found.n_seeds} more seeds would decide"
            return f"{both}; neither is enough by itself"
    return f"no realistic number of {noun}s or seeds (up to {MOST_TIMES} times what there is) would decide"


def _alone(more: int | None, noun: str) -> str:
    """That adding one of the two only would not decide: never, or not in a number that anyone can add."""
    return f"no realistic number of {noun}s alone would" if more else f"more {noun}s alone would not"


MOST_TIMES = 10
"""How many times what there is can still be added."""


def realistic(more: int | None, there: int) -> bool:
    """Whether a person could add so many to what there is.

    >>> realistic(230, 24), realistic(3_000_000, 1200), realistic(None, 24)
    (True, False, False)
    """
    return bool(more) and more <= MOST_TIMES * there


def roughly(number: int) -> str:
    """Two leading digits are all that such a forecast is good for.

    >>> roughly(1432), roughly(87)
    ('1 500', '87')
    """
    step = 10 ** max(0, len(str(number)) - 2)
    return grouped(-(-number // step) * step)


class _Numbers:
    """Shows numbers with as many digits as the interval's width deserves, and enough to tell a bound from 0."""

    def __init__(self, found: Difference, unit: str) -> None:
        self.found, self.unit = found, unit
        self.scale = 100.0 if unit == "points" else 1.0
        sizes = [found.high - found.low]
        if found.low > 0 or found.high < 0:
            sizes.append(20 * min(abs(found.low), abs(found.high)))
        digits = [int(1 - np.floor(np.log10(self.scale * size))) for size in sizes if size > 0]
        self.digits = min(6, max([1, *digits]))

    def __call__(self, value: float, sign: str = "") -> str:
        """Format one number, with its plus where `sign` is "+"; never -0.0."""
        rounded = round(self.scale * value, self.digits) + 0.0
        return f"{rounded:{sign if rounded else ''}.{self.digits}f}"

    def size(self) -> str:
        """Format how large the difference is, with its unit."""
        return f"{self(abs(self.found.value))} {self.unit}"

    def sized(self, low: float, high: float) -> str:
        """Format bounds as those of the size: turned round where the difference is negative."""
        low, high = (low, high) if self.found.value >= 0 else (-high, -low)
        return f"{self(low)} to {self(high)}"

    def margin(self) -> str:
        """Format the margin as it was stated."""
        shown = f"{self.scale * self.found.margin:g}"
        return f"{shown} {self.unit[:-1] if shown == '1' and self.unit == 'points' else self.unit}"


def compare(
    a: ArrayLike,
    b: ArrayLike,
    *,
    margin: float,
    alpha: float = 0.05,
    rng: np.random.Generator | None = None,
    clusters: ArrayLike | None = None,
    name_a: str = "a",
    name_b: str = "b",
    unit: str = "points",
    higher_is_better: bool = True,
    seeded: bool = True,
    p_exact: float | None = None,
) -> Comparison:
    """Compare two methods by the mean of their scores, paired on examples and seeds.

    Args:
        a: `(n_seeds, n_examples)` scores, or `(n_examples,)`: one run. One row against several stands for every seed.
        b: The same examples and seeds.
        margin: Smallest difference that matters, in the unit of the scores (accuracy: 0.01 is 1 point); 0: any does.
        alpha: 1 - confidence; equivalence is tested at alpha on each side.
        rng: Nothing is drawn, since a mean has a formula; every comparison takes one.
        clusters: `(n_examples,)`: examples that share a source count as one draw.
        unit: `points` shows scores times 100; any other unit shows them as they are.
        higher_is_better: False for losses. The difference stays a - b, the verdict follows the direction.
        seeded: False where neither method draws anything, so that one run is all there is to know.
        p_exact: P-value of a permutation test, see `ftlib.stats.paired.difference`.

    Returns:
        The difference with its interval, the verdict, and what would decide it; see `Comparison`.

    Raises:
        FtlibError: Shapes, NaN, margin or alpha that are not allowed, with what was found.

    Of 40 examples a gets 12 that b does not, b gets 2 that a does not; the difference is 10 / 40:

    >>> a, b = np.repeat([1, 0, 1], [12, 2, 26]), np.repeat([0, 1, 1], [12, 2, 26])
    >>> result = compare(a, b, margin=0.01, rng=np.random.default_rng(0), name_a="LoRA", name_b="probe")
    >>> result.difference, result.verdict
    (0.25, 'better')
    >>> print(result.sentence)
    LoRA is better than probe by 25.0 points (5.8 to 41.8), for this one training run: other seeds may differ
    """
    found = difference(
        a, b, margin=margin, alpha=alpha, clusters=clusters, p_exact=p_exact, name_a=name_a, name_b=name_b
    )
    voice = Voice(name_a, name_b, unit, higher_is_better, one_run=seeded and found.n_seeds == 1)
    return in_words(found, voice, found.p_value)
