"""How often the intervals of crossings and label budgets are right, where the truth is known; writes docs/crossover.md.

    python benchmarks/bench_crossover.py [--replicates N] [--seed N] [--out docs]

Simulated few-shot studies: 1, 2, 4, ... 64 labels per class. An example's difficulty is shared by both methods, each
method has examples of its own it finds hard, every sample adds noise on every example (half of it the same at every
number of labels) and shifts the whole run; shifts are correlated from one number of labels to the next and half shared
by both methods, as the sample is. The truth is computed, not simulated: the expected accuracy is a normal probability.
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from ftlib.stats.learning_curve import Band, last_change

SHOTS = (1, 2, 4, 8, 16, 32, 64)
LOGS = np.log2(SHOTS)
OVERTAKEN = 0.55 + 0.03 * np.arange(7)
"""Expected accuracy of a: 55 to 73 points."""
DRAW_SDS = {"large": np.linspace(0.06, 0.01, 7), "small": np.linspace(0.02, 0.01, 7)}
"""Standard deviation of one method's accuracy from sample to sample: 6 to 1 points, 2 to 1 points."""
CORRELATION = 0.7
"""Of the shifts of a sample at one number of labels and the next."""
SHARED, OWN, REST, COMMON = 1.0, 0.7, 1.0, 0.5
"""Variances: difficulty, a method's own, a sample's noise; and the part of a sample's shift that both methods share."""
SIMULATED = 500
"""Replicate curves of the constructions that are not used."""
NUMBERS = [(n, draws) for n in (400, 1_000) for draws in (3, 5, 10)]


class Truth(NamedTuple):
    """What is known of a simulated study."""

    words: str
    ahead: np.ndarray
    """Expected b - a at every number of labels, as a fraction."""
    target: float | None = None
    """A label budget of b instead of a crossing."""

    def shots(self):
        """Labels per class of the true crossing or budget."""
        values = self.ahead if self.target is None else OVERTAKEN + self.ahead - self.target
        place = last_change(np.round(values, 9), LOGS, touching=self.target is not None)
        return 2.0**place if np.isfinite(place) else place


RISING = [-0.20, -0.15, -0.10, -0.06, -0.03, 0.011, 0.05]
TRUTHS = [
    Truth(words, np.array(ahead), *more)
    for words, ahead, *more in (
        ("between two numbers", RISING),
        ("at a number", [-0.16, -0.12, -0.08, -0.04, 0, 0.03, 0.06]),
        ("at a number, steep", [-0.16, -0.12, -0.08, -0.08, 0, 0.08, 0.1]),
        ("between the first two", [-0.02, 0.02, 0.04, 0.05, 0.05, 0.04, 0.04]),
        ("between the last two", [-0.2, -0.15, -0.1, -0.08, -0.06, -0.03, 0.01]),
        ("for good only the second time", [0.04, 0, -0.04, -0.04, 0.02, 0.05, 0.06]),
        ("before the first: 3 to 5 points ahead", [0.03, 0.04, 0.05, 0.05, 0.05, 0.05, 0.05]),
        ("beyond the last: 20 to 2 points behind", [-0.2, -0.15, -0.1, -0.08, -0.06, -0.04, -0.02]),
        ("flat: half a point for each doubling", [-0.015, -0.01, -0.005, 0, 0.005, 0.01, 0.015]),
        ("flat: 1 point ahead from 4 on", [-0.1, -0.05, 0.01, 0.01, 0.01, 0.01, 0.01]),
        ("flat: half a point ahead everywhere", [0.005] * 7),
        ("flat: equal everywhere", [0.0] * 7),
        ("budget, 70 points, between two numbers", RISING, 0.70),
        ("budget, 64 points, at a number", RISING, 0.64),
        ("budget, 30 points, before the first", RISING, 0.30),
        ("budget, 80 points, beyond the last", RISING, 0.80),
    )
]


def correlated(n_draws, rng):
    """Shifts `(n_draws, 7)` with variance 1, alike from one number of labels to the next."""
    apart = np.abs(np.subtract.outer(np.arange(7), np.arange(7)))
    return rng.standard_normal((n_draws, 7)) @ np.linalg.cholesky(CORRELATION**apart).T


def chance(n_draws, n_examples, rng):
    """One study's chance, for both methods: shifts `(2, n_draws, 7)` and ease `(2, 7, n_draws, n_examples)`."""

    def normal(*shape):
        return rng.standard_normal(shape, dtype=np.float32)

    shared = correlated(n_draws, rng)
    shifts = np.stack([COMMON**0.5 * shared + (1 - COMMON) ** 0.5 * correlated(n_draws, rng) for _ in range(2)])
    ease = SHARED**0.5 * normal(n_examples) + OWN**0.5 * normal(2, 1, 1, n_examples)
    ease = ease + (REST / 2) ** 0.5 * normal(2, 1, n_draws, n_examples)
    return shifts, ease + (REST / 2) ** 0.5 * normal(2, 7, n_draws, n_examples)


def scores(expected, sds, shifts, ease):
    """Right or wrong `(7, n_draws, n_examples)` with these expected accuracies."""
    place, variance = ndtri(expected), SHARED + OWN + REST
    # A shift of the ease moves the accuracy by the normal density, and widens the ease itself.
    share = (sds * np.sqrt(2 * np.pi) * np.exp(place**2 / 2)) ** 2
    of_shift = variance * share / (1 - share)
    moved = place * np.sqrt(variance + of_shift) + np.sqrt(of_shift) * shifts
    return (ease + moved.T[:, :, None].astype(np.float32) > 0).astype(float)


def last_changes(curves):
    """`ftlib.stats.learning_curve.last_change` of many curves `(n_curves, 7)`, in doublings."""
    below = curves <= 0
    last = 6 - np.argmax(below[:, ::-1], axis=1)
    row, step = np.arange(len(curves)), np.minimum(last, 5)
    places = step - curves[row, step] / (curves[row, step + 1] - curves[row, step])
    return np.where(below.any(axis=1), np.where(last == 6, np.inf, places), -np.inf)


def simulated(band, rng):
    """The two constructions that are not used: percentiles of replicate curves, and a simultaneous band."""
    of_seeds, of_examples, of_rest = band.squares
    cells, errors = band.n_seeds * band.n_draws, 0.0
    for products, free in ((of_examples, band.n_draws - 1), (of_seeds - of_rest, band.n_seeds - 1)):
        sizes, axes = np.linalg.eigh(products / cells)
        normal = rng.standard_normal((SIMULATED, 7)) * np.sqrt(sizes.clip(0)) @ axes.T
        errors = errors + normal * np.sqrt(free / rng.chisquare(free, (SIMULATED, 1)))
    percentile = np.quantile(last_changes(band.means + errors), [0.025, 0.975], method="inverted_cdf")

    # The upper edge widened for all later places at which b is not surely ahead, the widening tested place by place.
    doubtful = band.middle - band.half <= 0
    worst = np.where(doubtful, errors @ band.weights.T / band.half, -np.inf)
    worst = np.maximum.accumulate(worst[:, ::-1], axis=1)[:, ::-1]
    factor = np.quantile(worst, 0.975, axis=0, method="inverted_cdf").clip(1)
    behind = np.maximum.accumulate((-band.middle / band.half)[::-1])[::-1]
    allowed = np.flatnonzero(behind < factor)
    first = allowed[0] if len(allowed) else len(factor)
    low = -np.inf if first == 0 else band.places[min(first, len(factor) - 1)]
    return percentile, (min(low, np.log2(band.low) if band.low > 0 else -np.inf), np.log2(max(band.high, 0.1)))


def cell(sd_name, n_examples, n_draws, replicates, rng):
    """Shares of the replicates for every truth: covered, too late, too early, both bounds numbers, and the others'."""
    counts = np.zeros((len(TRUTHS), 6))
    ratios = [[] for _ in TRUTHS]
    for _ in range(replicates):
        shifts, ease = chance(n_draws, n_examples, rng)
        a = scores(OVERTAKEN, DRAW_SDS[sd_name], shifts[0], ease[0])
        for i, truth in enumerate(TRUTHS):
            b = scores(OVERTAKEN + truth.ahead, DRAW_SDS[sd_name], shifts[1], ease[1])
            # What `crossing(a, b)` and `label_budget(b, target)` put in words.
            found = Band(
                dict(zip(SHOTS, b if truth.target else b - a, strict=True)),
                target=truth.target or 0.0,
                touching=truth.target is not None,
            )
            goal, near = truth.shots(), 1 + 1e-9
            place = np.log2(goal) if goal > 0 else goal
            bounds = simulated(found, rng) if n_draws == 10 else []
            others = [low <= place + 1e-9 and place <= high + 1e-9 for low, high in bounds] or [np.nan] * 2
            early, late = found.high * near < goal, found.low > goal * near
            numbers = bool(np.isfinite([found.low, found.high]).all())
            counts[i] += [not early and not late, late, early, numbers, *others]
            if numbers:
                ratios[i].append(found.high / found.low)
    return counts / replicates, [float(np.median(r)) if r else np.nan for r in ratios]


def write(cells, replicates, folder):
    """Write what a crossing is, the table, and what to take from it."""
    noise = 100 * (0.95 * 0.05 / replicates) ** 0.5
    shares = {where: found for where, (found, _) in cells.items()}

    def coverage(rows, draws):
        found = [100 * shares[sd, n, s][i, 0] for sd, n, s in shares if s == draws for i in rows]
        return f"{min(found):.1f} to {max(found):.1f} %"

    flat = [i for i, t in enumerate(TRUTHS) if t.words.startswith("flat")]
    outside = [i for i, t in enumerate(TRUTHS) if np.isinf(t.shots()) and i not in flat]
    inside = [i for i in range(len(TRUTHS)) if i not in flat and i not in outside]
    other = {j: [100 * s[i, j] for (_, _, d), s in shares.items() for i in flat if d == 10] for j in (0, 4, 5)}
    lines = [
        *HEAD.format(replicates=replicates, noise=noise).splitlines(),
        "",
        "| | 3 samples | 5 samples | 10 samples |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {words} | {' | '.join(coverage(rows, draws) for draws in (3, 5, 10))} |"
            for words, rows in (
                ("the truth is a number", inside),
                ("it lies before the first or beyond the last, by far", outside),
                ("flat curves", flat),
            )
        ),
        "",
        f"Flat curves with 10 samples: {min(other[0]):.1f} to {max(other[0]):.1f} % with the band, "
        f"{min(other[4]):.1f} to {max(other[4]):.1f} % with percentiles,",
        f"{min(other[5]):.1f} to {max(other[5]):.1f} % with a simultaneous band.",
        "",
        *LIMITS.splitlines(),
        "",
        "## The grid",
        "",
        "`late` and `early`: the interval lies wholly above, or below, the truth. `two numbers`: neither bound is",
        "infinite; `wide`: then, the median of upper / lower bound. All but that in %, and all from `10 samples` on",
        "for 10 samples. `percentiles` and `simultaneous` are the constructions that are not used. All truths meet the",
        "same simulated chance, so rows of one spread and one number of examples err alike.",
        "",
        "| truth | labels | samples spread by | examples | 3 samples | 5 samples | 10 samples | late | early "
        "| two numbers | wide | percentiles | simultaneous |",
        f"| --- | ---: | --- | ---: |{' ---: |' * 9}",
    ]
    for i, truth in enumerate(TRUTHS):
        goal = {np.inf: "> 64", -np.inf: "< 1"}.get(truth.shots(), f"{truth.shots():.3g}")
        for sd in DRAW_SDS:
            for n in (400, 1_000):
                few = " | ".join(f"{100 * shares[sd, n, s][i, 0]:.1f}" for s in (3, 5))
                covered, late, early, numbers, percentile, simultaneous = 100 * shares[sd, n, 10][i]
                wide = cells[sd, n, 10][1][i]
                lines.append(
                    f"| {truth.words} | {goal} | {sd} | {n} | {few} | {covered:.1f} | {late:.1f} | {early:.1f} | "
                    f"{numbers:.0f} | {wide if numbers >= 5 else np.nan:.1f} | {percentile:.1f} | {simultaneous:.1f} |"
                )
    said = "\n".join(lines).replace(" nan |", " |") + "\n"
    (folder / "crossover.md").write_text(said, encoding="utf-8")
    return said


HEAD = """# From how many labels on: crossings and label budgets

Written by `python benchmarks/bench_crossover.py`; do not edit. {replicates} simulated studies for each number, so a
share near 95 % is uncertain by {noise:.1f} points (one standard error). How they are simulated is said at the top of
that file.

## What is asked

A few-shot study measures methods at 1, 2, 4, ... 64 labelled examples per class, all on the same samples of training
examples, a sample at 8 being part of the sample at 16, and on the same test examples. Between two measured numbers k
the mean curve is read as straight in log2 k.

- **Crossing** (`ftlib.crossing`): the k from which on the mean curve of b is above that of a at every larger k, that
  is, the last place where b - a turns positive. -inf: b is ahead from the smallest k measured on. inf: it is not
  ahead at the largest.
- **Label budget** (`ftlib.label_budget`): the k from which on the mean curve stays at or above a target. -inf and inf
  likewise.

The truth that an interval is about is the crossing of the curves of expected scores, over all samples and all test
examples that might have been.

## How the interval is computed

Around the mean of b - a lies a band. Its half width at a measured k is that of every other interval of ftlib:
variance between samples and between test examples (or clusters), each stretched by its own Student's t
(`ftlib.stats.variance.VarianceComponents`). Between two measured k the difference is a weighted mean of the two tables,
whose variances follow from the mean products of the tables; sample s at every k and for both methods is one unit, so
whatever a sample does to both methods, or at every k, is counted once. The interval of the crossing goes from where the
upper edge of the band rises above 0 for good to where the lower edge does. For a budget the band is that of one method,
and the target stands for 0.

The upper bound U is a promise: b is ahead at every k from U on. To break it where the true crossing is c > U, the
lower edge must lie above 0 at c, where the true difference is not above 0: one place, so at most 2.5 %, and however
many k were measured nothing needs correcting (an intersection-union test, Berger 1982). The lower bound says that b
is still behind at some k from there on. Among several k at which b is barely ahead, chance has several goes at making
one look behind; that side is not exact where curves run side by side, and is why the coverage was simulated.

Two other constructions were simulated beside it. Percentiles of replicate curves (multivariate t with the same
variances; a bootstrap of samples and examples is narrower still: `calibration.md`) fail where curves run side by side:
a replicate has the noise of the study and its own, so its last change of sign comes late, and both bounds with it. A
band that is widened until it holds at all later k at once (for those at which b is not surely ahead) errs on the
other side, and its lower bound tells less. The plain band is the simplest, agrees with the comparisons at every
measured k, and is nearest to 95 %.

## How often it is right

Nominal 95 %; an infinite bound counts as covering where it holds the truth. Where the truth lies outside what was
measured by far, only one bound can be wrong and the difference is hardly ever misjudged at the outermost k, so nearly
100 % is what to expect."""

LIMITS = """## Limits

Where two curves are nearly parallel and nearly equal there is no crossing worth the name: a difference of a tenth of
a point decides between "from the first" and "never". The interval then runs, as it should, from -inf or some small
number to inf, the sentence says that it cannot be told, and the best guess means nothing. Where b is ahead by less
than the study can show, the lower bound comes too late more often than in 2.5 % of studies (`late`, most with 3
samples). With 3 samples a bound is infinite far more often than with 10. Which of two methods is asked to overtake the
other should not depend on the scores; a report that asks of the one ahead at the largest k has, where the two are
equal there, twice the 2.5 % of seeing it ahead surely. What the curve does between two measured k is assumed, not
measured: a crossing between 16 and 32 is known to lie there, and 27 is a manner of speaking. Intervals are about one
crossing each; a study of many pairs has many chances to be wrong."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    grid = [(sd, n, draws) for sd in DRAW_SDS for n, draws in NUMBERS]
    streams, start, cells = np.random.default_rng(options.seed).spawn(len(grid)), time.perf_counter(), {}
    for where, stream in zip(grid, streams, strict=True):
        cells[where] = cell(*where, options.replicates, stream)
        covered = 100 * cells[where][0][:, 0]
        passed = (time.perf_counter() - start) / 60
        print(f"{where}: covered {covered.min():.1f} to {covered.max():.1f} %; {passed:.1f} min", flush=True)
    print(write(cells, options.replicates, options.out))


if __name__ == "__main__":
    main()
