"""How often the intervals and verdicts are right, where the truth is known; writes docs/calibration.md and .svg.

    python benchmarks/calibration.py [--replicates N] [--seed N] [--out docs]

Simulated test sets: four classes (40, 30, 20, 10 %), the rarer the harder; an example's difficulty is shared by both
methods, each method has examples of its own it finds hard, and every training run adds noise of its own on every
example (about a third of the discordance repeats from seed to seed) and, where seeds matter, a shift of the whole run.
The truth is computed, not simulated: the expected metric on endless examples over endless seeds. With one seed an
interval is about that one run, so it is held against the truth of that run.
"""

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from ftlib.stats.bootstrap import bootstrap_means
from ftlib.stats.intervals import interval, metric_interval
from ftlib.stats.linearize import label_values, ratio_values
from ftlib.stats.multiple import compare_all
from ftlib.stats.paired import difference
from ftlib.stats.power import DifferenceVariance, power_of
from ftlib.stats.variance import variance_components
from ftlib.stats.verdict import compare

PRIORS = np.array([0.4, 0.3, 0.2, 0.1])
OFFSETS = np.array([0.3, 0.0, -0.2, -0.4])
LEVEL = 0.82
SEED_SDS = {"none": 0.0, "small": 0.03, "large": 0.2}
"""On the scale of the latent ease; in accuracy 0, 0.5 and 3.2 points for each method."""
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(61)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


@dataclass(frozen=True)
class World:
    """Two methods whose expected metrics are known."""

    metric: str
    ease_a: float
    ease_b: float
    seed_sd: float
    shared: float = 1.2
    own: float = 0.8
    rest: float = 0.7

    def draw(self, n_seeds, n_examples, rng, one_shift=False):
        """Draw labels `(n,)`, predictions of a and b `(n_seeds, n)`, and the shifts of the runs `(2, n_seeds, 1)`."""
        labels = np.searchsorted(PRIORS.cumsum()[:-1], rng.random(n_examples), side="right")
        wrong = (labels + rng.integers(1, 4, n_examples)) % 4
        difficulty = OFFSETS[labels] + self.shared * rng.standard_normal(n_examples)
        shifts = self.seed_sd * rng.standard_normal((2, n_seeds, 1))
        if one_shift:
            shifts[1] = shifts[0]
        answers = []
        for ease, shift in zip((self.ease_a, self.ease_b), shifts, strict=True):
            method = ease + difficulty + self.own * rng.standard_normal(n_examples)
            noise = rng.standard_normal((n_seeds, n_examples), dtype=np.float32)
            answers.append(np.where(method + shift + self.rest * noise > 0, labels, wrong))
        return labels, *answers, shifts

    def truths(self, ease, shifts):
        """Metric on endless examples for each of some shifted runs."""
        scale = np.sqrt(self.shared**2 + self.own**2 + self.rest**2)
        recall = ndtr((ease + OFFSETS + np.reshape(shifts, (-1, 1))) / scale)
        if self.metric == "accuracy":
            return recall @ PRIORS
        hits, missed = PRIORS * recall, PRIORS * (1 - recall) / 3
        given = hits + missed.sum(axis=1, keepdims=True) - missed
        return (2 * hits / (given + PRIORS)).mean(axis=1)

    def expected(self, ease):
        """Metric on endless examples over endless seeds."""
        return float(WEIGHTS @ self.truths(ease, self.seed_sd * NODES))

    def difference(self, shifts=None):
        """Truth of a - b: of these one runs, or over seeds."""
        if shifts is not None:
            return float(self.truths(self.ease_a, shifts[0])[0] - self.truths(self.ease_b, shifts[1])[0])
        return self.expected(self.ease_a) - self.expected(self.ease_b)


def world(metric, seed_sd, difference):
    """Build a world where a scores LEVEL and b less by `difference`."""
    probe = World(metric, 0.0, 0.0, seed_sd)
    eases = [brentq(lambda e, v=v: probe.expected(e) - v, -12, 12) for v in (LEVEL, LEVEL - difference)]
    return replace(probe, ease_a=eases[0], ease_b=eases[1])


def values(metric, labels, predictions):
    """Scores, or the linear values of the metric."""
    return label_values(labels, predictions, metric)


def measure(metric, labels, a, b, margin=0.0):
    """Everything `compare` decides from, without putting it in words (which would search for what would decide)."""
    tables = (values(metric, labels, predictions) for predictions in (a, b))
    return difference(*tables, margin=margin, bounds=(0.0, 1.0))


def chance_of(w, rng):
    """Variances of the paired difference, from a table large enough to take them for true."""
    labels, a, b, _ = w.draw(40, 20_000, rng)
    found = variance_components(values(w.metric, labels, a) - values(w.metric, labels, b))
    shifts = w.seed_sd * np.random.default_rng(1).standard_normal((2, 200_000))
    grid = np.linspace(-5, 5, 201) * max(w.seed_sd, 1e-9)
    over_seeds = sum(
        np.var(np.interp(shift, grid, w.truths(ease, grid)))
        for shift, ease in zip(shifts, (w.ease_a, w.ease_b), strict=True)
    )
    return DifferenceVariance(found.var_examples, float(over_seeds), found.var_rest)


def cell(metric, sd_name, n_seeds, n_examples, replicates, rng):
    """One row of the grid: coverage, false claims and power, each a share of the replicates."""
    seed_sd, one = SEED_SDS[sd_name], n_seeds == 1
    plain, equal = world(metric, seed_sd, 0.03), world(metric, seed_sd, 0.0)
    # The difference that this cell finds with about 80 % power; it is also the margin that equivalence is held to.
    chance = chance_of(equal, rng)
    if one:
        chance = replace(chance, examples=chance.examples + chance.rest, rest=0.0, seeds=0.0)
    size = next(d for d in np.linspace(0.005, 0.5, 100) if power_of(d, n_examples, n_seeds, chance).different > 0.79)
    stretched = world(metric, 0.0 if one else seed_sd, min(size, 0.4))
    margin = stretched.difference()
    chance = chance_of(stretched, rng)
    if one:
        chance = replace(chance, examples=chance.examples + chance.rest, rest=0.0, seeds=0.0)
    predicted = power_of(margin, n_examples, n_seeds, chance).different

    hits = dict.fromkeys(("covered", "level", "expected", "wrong", "power", "same"), 0)
    width = 0.0
    truth, truth_level = plain.difference(), plain.expected(plain.ease_a)
    for _ in range(replicates):
        labels, a, b, shifts = plain.draw(n_seeds, n_examples, rng)
        found, level = measure(metric, labels, a, b), metric_interval(labels, a, metric)
        goal = plain.difference(shifts) if one else truth
        goal_level = plain.truths(plain.ease_a, shifts[0])[0] if one else truth_level
        hits["covered"] += found.low <= goal <= found.high
        hits["expected"] += found.low <= truth <= found.high
        hits["level"] += level.low <= goal_level <= level.high
        width += (found.high - found.low) / replicates
        labels, a, b, _ = equal.draw(n_seeds, n_examples, rng, one_shift=one)
        hits["wrong"] += measure(metric, labels, a, b).p_value <= 0.05
        labels, a, b, _ = stretched.draw(n_seeds, n_examples, rng)
        found = measure(metric, labels, a, b, margin)
        hits["power"] += found.low > 0
        hits["same"] += found.p_same <= 0.05
    shares = {name: count / replicates for name, count in hits.items()}
    where = {"metric": metric, "sd": sd_name, "seeds": n_seeds, "examples": n_examples}
    return {**where, **shares, "predicted": predicted, "margin": margin, "width": width}


def family(sd_name, n_seeds, n_examples, replicates, rng):
    """Share of families of ten equal methods in which any two are said to differ, after Holm."""
    w = world("accuracy", SEED_SDS[sd_name], 0.0)
    wrong = 0
    for _ in range(replicates):
        labels = np.searchsorted(PRIORS.cumsum()[:-1], rng.random(n_examples), side="right")
        difficulty = w.ease_a + OFFSETS[labels] + w.shared * rng.standard_normal(n_examples)
        shifts = w.seed_sd * rng.standard_normal((10, n_seeds, 1)) * (n_seeds > 1)
        own = w.own * rng.standard_normal((10, 1, n_examples))
        noise = w.rest * rng.standard_normal((10, n_seeds, n_examples), dtype=np.float32)
        right = difficulty + shifts + own + noise > 0
        # A margin of 1 calls nothing undecided, which spares the search for what would decide, and changes no p-value.
        pairs = compare_all({str(i): x for i, x in enumerate(right)}, margin=1.0, rng=rng)
        wrong += min(p.p_holm for p in pairs) <= 0.05
    return wrong / replicates


def elsewhere(replicates, rng):
    """Situations outside the grid, by what they are: (words, coverage)."""

    def share(hit):
        return sum(hit() for _ in range(replicates)) / replicates

    rows = []

    def covers(found, truth):
        return found.low <= truth <= found.high

    for sd_name in ("none", "large"):
        w = world("accuracy", SEED_SDS[sd_name], 0.03)

        def two_seeds(w=w):
            labels, a, b, _ = w.draw(2, 500, rng)
            return covers(measure("accuracy", labels, a, b), w.difference())

        rows.append((f"2 seeds, 500 examples, seed spread {sd_name}", share(two_seeds)))
    for n_seeds in (3, 5, 10):
        w = world("accuracy", SEED_SDS["large"], 0.03)

        def by_bootstrap(w=w, n_seeds=n_seeds):
            labels, a, b, _ = w.draw(n_seeds, 500, rng)
            means = bootstrap_means(((a == labels) * 1.0 - (b == labels))[None], rng, n_replicates=500)
            low, high = np.quantile(means, [0.025, 0.975])
            return low <= w.difference() <= high

        rows.append((f"percentile bootstrap (not used), {n_seeds} seeds, 500 examples, large", share(by_bootstrap)))

    for n_seeds in (3, 5, 10):

        def failing(n_seeds=n_seeds):
            # One run of a in five ends at chance: its expected score is 0.8 * 0.82 + 0.2 * 0.25.
            w = world("accuracy", SEED_SDS["small"], 0.0)
            labels, a, b, _ = w.draw(n_seeds, 500, rng)
            lost = rng.random((n_seeds, 1)) < 0.2
            a = np.where(lost, rng.integers(0, 4, a.shape), a)
            return covers(measure("accuracy", labels, a, b), 0.2 * (0.25 - LEVEL))

        rows.append((f"one run in five fails, {n_seeds} seeds, 500 examples", share(failing)))

    for n_seeds in (1, 3):

        def clustered(n_seeds=n_seeds):
            source = rng.integers(0, 60, 600)
            shift = 0.8 * rng.standard_normal((2, 60))[:, source]
            base = 0.9 + rng.standard_normal(600)
            a, b = (base + s + 0.7 * rng.standard_normal((n_seeds, 600)) > 0 for s in shift)
            return a, b, source

        rows.append(
            (
                f"600 examples from 60 sources, clusters given, {counted(n_seeds)}",
                share(lambda f=clustered: covers(compare(*(x := f())[:2], margin=1, rng=rng, clusters=x[2]), 0.0)),
            )
        )
        rows.append(
            (
                f"600 examples from 60 sources, clusters withheld, {counted(n_seeds)}",
                share(lambda f=clustered: covers(compare(*f()[:2], margin=1, rng=rng), 0.0)),
            )
        )

    for n_examples in (100, 500):

        def twins(n_examples=n_examples):
            u = rng.random(n_examples)
            a, b = u >= 0.02, (u >= 0.04) | (u < 0.02)
            return covers(compare(np.tile(a, (3, 1)), np.tile(b, (3, 1)), margin=1, rng=rng), 0.0)

        rows.append((f"near twins that draw nothing (4 % discordant), {n_examples} examples", share(twins)))

        def bits(n_examples=n_examples):
            n_bytes = rng.lognormal(5, 0.8, n_examples)
            text = rng.normal(1.2, 0.3, n_examples)
            a, b = (n_bytes * (text + rng.normal(0, 0.05, (3, n_examples)) + s)
                    for s in rng.normal(0, 0.01, (2, 3, 1)))  # fmt: skip
            tables = (ratio_values(nats, n_bytes) for nats in (a, b))
            return covers(compare(*tables, margin=1, unit="bits per byte", higher_is_better=False), 0.0)

        rows.append((f"bits per byte, 3 seeds, {n_examples} texts of uneven length", share(bits)))

        def rare(n_examples=n_examples):
            labels = rng.choice(20, size=n_examples, p=RARE)
            wrong = (labels + rng.integers(1, 20, n_examples)) % 20
            a, b = (np.where(rng.random((3, n_examples)) < 0.75, labels, wrong) for _ in range(2))
            return covers(measure("f1_macro", labels, a, b), 0.0)

        rows.append((f"macro F1 of 20 classes, the rarest 0.5 %, 3 seeds, {n_examples} examples", share(rare)))

        def skewed(n_examples=n_examples):
            labels = (rng.random(n_examples) < 0.1).astype(int)
            a, b = (np.where(rng.random((3, n_examples)) < 0.9, labels, 1 - labels) for _ in range(2))
            return covers(measure("mcc", labels, a, b), 0.0)

        rows.append((f"MCC, one class 10 %, 3 seeds, {n_examples} examples", share(skewed)))

    def rate(n_seeds, p, n_examples):
        return covers(interval(rng.random((n_seeds, n_examples)) < p), p)

    rows.append(("accuracy near 1 (0.99), 1 seed, 500 examples", share(lambda: rate(1, 0.99, 500))))
    rows.append(("accuracy near 1 (0.99), 3 seeds, 500 examples", share(lambda: rate(3, 0.99, 500))))
    return rows


RARE = np.array([0.005] * 5 + [0.025] * 5 + [0.085] * 10)


def counted(n_seeds):
    """Say "1 seed" or "3 seeds"."""
    return f"{n_seeds} seed{'s' * (n_seeds > 1)}"


def write(rows, families, others, replicates, folder):
    """Write the table in words and numbers, and the picture."""
    noise = 100 * (0.95 * 0.05 / replicates) ** 0.5

    def name(r):
        return f"{r['metric']}, seed spread {r['sd']}, {counted(r['seeds'])}, {r['examples']} examples"

    def percent(shares, digits=1):
        return f"{100 * max(shares):.{digits}f} %"

    inside = [r for r in rows if 0.93 <= r["covered"] <= 0.97]
    outside = [r for r in rows if r not in inside]
    doubtful = [r for r in rows if r["same"] > 0.05 + 0.02 * noise]
    too_often = "; ".join(f"{name(r)} ({100 * r['same']:.1f} %)" for r in doubtful)
    power_off = max(abs(r["power"] - r["predicted"]) for r in rows)

    covered = [r["covered"] for r in rows]
    exceptions = "; ".join(f"{name(r)} ({100 * r['covered']:.1f} %)" for r in outside)
    over_seeds = ", ".join(
        f"{percent([r['expected']], 0)} ({r['sd']} seed spread, {r['examples']} examples)"
        for r in rows
        if r["seeds"] == 1 and r["metric"] == "accuracy" and r["sd"] != "none"
    )
    lines = [
        "# How often the intervals are right",
        "",
        "Written by `python benchmarks/calibration.py` (`make bench`); do not edit. "
        f"{replicates} simulated studies for each number, so a share near 95 % is uncertain by "
        f"{noise:.1f} points (one standard error). How the studies are simulated is said at the top of that file.",
        "",
        f"- **Coverage** of the nominal 95 % interval of a difference: {len(inside)} of {len(rows)} cells within 93 to "
        f"97 %, lowest {100 * min(covered):.1f} %, highest {percent(covered)}."
        + (f" Outside: {exceptions}." if outside else ""),
        '- **False "better" or "worse"** where there is no difference: at most '
        f"{percent(r['wrong'] for r in rows)} in a cell, {percent([np.mean([r['wrong'] for r in rows])])} on average. "
        f"After Holm over ten equal methods (45 pairs), any: at most {percent(f[3] for f in families)} of studies.",
        f'- **False "equivalent"** where the difference is exactly the margin: at most '
        f"{percent(r['same'] for r in rows)}, "
        f"{percent([np.mean([r['same'] for r in rows])])} on average."
        + (f" More than two standard errors above 5 %: {too_often}." if doubtful else ""),
        f"- **Power**: predicted and simulated differ by at most {100 * power_off:.1f} points.",
        "- **One seed**: the interval is about that one run, and covers its truth. It says nothing of other seeds: "
        f"held against the expected difference over seeds, it covers {over_seeds}. "
        "That is why every sentence about one seed says so.",
        "",
        "![coverage of every cell](calibration.svg)",
        "",
        "## The grid",
        "",
        "Seed spread small and large: 0.5 and 3.2 points of accuracy for each method. `of a` is the interval of one "
        "method's own value; `width` the mean width of the difference's interval in points; power at the difference "
        'of the column before it, which is also the margin for false "equivalent".',
        "",
        "| metric | seed spread | seeds | examples | covered | of a | false better or worse | difference, margin | "
        "power predicted | simulated | false equivalent | width |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {r['metric']} | {r['sd']} | {r['seeds']} | {r['examples']} "
        f"| {100 * r['covered']:.1f} | {100 * r['level']:.1f} | "
        f"{100 * r['wrong']:.1f} | {100 * r['margin']:.1f} | {100 * r['predicted']:.0f} | {100 * r['power']:.0f} | "
        f"{100 * r['same']:.1f} | {100 * r['width']:.1f} |"
        for r in rows
    ]
    lines += [
        "",
        "## Ten equal methods, Holm over 45 pairs",
        "",
        "Share of studies in which any two are said to differ, % (with one seed the runs are equal too).",
        "",
        "| seed spread | seeds | examples | any false verdict |",
        "| --- | ---: | ---: | ---: |",
        *(f"| {sd} | {s} | {n} | {100 * share:.1f} |" for sd, s, n, share in families),
        "",
        "## Outside the grid",
        "",
        "| situation | covered |",
        "| --- | ---: |",
        *(f"| {words} | {100 * share:.1f} |" for words, share in others),
        "",
        "What to take from it: with two or three seeds that do not matter the interval is wider than it need be, "
        "because so few cannot show that they do not matter; runs that fail now and then make a spread that few seeds "
        "do not show, and no interval can make up for what was not seen; examples that share a source must be declared "
        "as clusters.",
        "",
    ]
    (folder / "calibration.md").write_text("\n".join(lines), encoding="utf-8")
    picture(rows, folder / "calibration.svg")


def picture(rows, path):
    """Draw coverage of every cell over the 93 to 97 % band."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "ftlib"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(10, 5.2), sharex=True, sharey=True, layout="constrained")
    markers = {100: "o", 500: "s", 2_000: "^"}
    for line, metric in zip(axes, ("accuracy", "f1_macro"), strict=True):
        for ax, sd in zip(line, SEED_SDS, strict=True):
            ax.axhspan(93, 97, color="0.92")
            ax.axhline(95, color="0.6", linewidth=0.8)
            for n, marker in markers.items():
                chosen = [r for r in rows if (r["metric"], r["sd"], r["examples"]) == (metric, sd, n)]
                x = np.arange(len(chosen)) + {100: -0.15, 500: 0.0, 2_000: 0.15}[n]
                ax.plot(x, [100 * r["covered"] for r in chosen], marker, label=f"{n} examples", markersize=6)
            ax.set_title(f"{metric}, seed spread {sd}", fontsize=10)
            ax.set_xticks(range(4), ["1", "3", "5", "10"])
            ax.set_ylim(90, 100)
    figure.supxlabel("seeds")
    figure.supylabel("covered, % (nominal 95)")
    axes[0, 0].legend(fontsize=8, loc="lower right")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "docs")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    grid = [
        (metric, sd, s, n)
        for metric in ("accuracy", "f1_macro")
        for sd in SEED_SDS
        for s in (1, 3, 5, 10)
        for n in (100, 500, 2_000)
    ]
    holm_grid = [(sd, s, n) for sd in SEED_SDS for s in (1, 3, 5, 10) for n in (100, 500)]
    # Time goes with the number of answers to draw and score, on top of a fixed part.
    costs = [2_000 + s * n for _, _, s, n in grid] + [20_000 for _ in holm_grid] + [150_000]
    streams = iter(np.random.default_rng(options.seed).spawn(len(costs)))
    start, done, rows, families = time.perf_counter(), 0, [], []

    def progress(what):
        passed = time.perf_counter() - start
        left = passed * (sum(costs) / sum(costs[:done]) - 1)
        print(f"{what}; {passed / 60:.1f} min passed, about {left / 60:.0f} to go", flush=True)

    for where in grid:
        rows.append(cell(*where, options.replicates, next(streams)))
        done += 1
        r = rows[-1]
        progress(f"{done}/{len(costs)} {' '.join(map(str, where))}: covered {100 * r['covered']:.1f} %")
    for where in holm_grid:
        families.append((*where, family(*where, max(50, options.replicates // 2), next(streams))))
        done += 1
        progress(f"{done}/{len(costs)} ten methods {' '.join(map(str, where))}: {100 * families[-1][3]:.1f} %")
    others = elsewhere(options.replicates, next(streams))
    done += 1
    write(rows, families, others, options.replicates, options.out)
    progress(f"wrote {options.out / 'calibration.md'}")


if __name__ == "__main__":
    main()
