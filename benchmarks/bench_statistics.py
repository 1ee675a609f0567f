"""Speed of the statistics, beside what a user would reach for instead.

    python benchmarks/bench_statistics.py [--replicates N] [--scipy-replicates N]

20 methods x 5 seeds x 2 000 examples. Both bootstraps draw the same examples for every method and seed; ours draws
seeds too, which scipy's cannot, so scipy does the lesser work. scipy is timed on fewer replicates, in batches of the
size that was fastest for it, and scaled up.
"""

import argparse
import resource
import time

import numpy as np
from scipy import stats as scipy_stats

from ftlib.stats.bootstrap import bootstrap_means
from ftlib.stats.intervals import metric_interval
from ftlib.stats.multiple import compare_all
from ftlib.stats.verdict import compare

METHODS, SEEDS, EXAMPLES, CLASSES = 20, 5, 2_000, 8


def timed(*calls, repeats=5):
    """Best time in seconds and last result of each call; taken in turns, so that a busy machine is busy for all."""
    best, results = [np.inf] * len(calls), [None] * len(calls)
    for _ in range(repeats):
        for i, call in enumerate(calls):
            start = time.perf_counter()
            results[i] = call()
            best[i] = min(best[i], time.perf_counter() - start)
    return [*best, *results]


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def by_scipy(data, statistic, n_replicates, **how):
    """Percentile interval by scipy."""
    return scipy_stats.bootstrap(
        data, statistic, n_resamples=n_replicates, batch=50, method="percentile", rng=np.random.default_rng(0), **how
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicates", type=int, default=10_000)
    parser.add_argument("--scipy-replicates", type=int, default=500)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    difficulty = rng.normal(size=EXAMPLES)
    ease = np.linspace(0.5, 1.5, METHODS)[:, None, None]
    scores = (ease + difficulty + rng.normal(size=(METHODS, SEEDS, EXAMPLES)) > 0).astype(float)
    before = peak_mb()

    ours, means = timed(lambda: bootstrap_means(scores, np.random.default_rng(0), n_replicates=options.replicates))
    print(f"peak memory {peak_mb():.0f} MB ({before:.0f} MB before the bootstrap)")
    print(f"ours: {options.replicates} two-level replicates, {METHODS} x {SEEDS} x {EXAMPLES}: {ours:.2f} s")

    n = options.scipy_replicates
    averaged = scores.mean(axis=1, keepdims=True)
    for said, table in (("of all 100 runs", scores), ("of 20 methods, seeds averaged first", averaged)):
        rows = table.reshape(-1, EXAMPLES)
        theirs, alike, reference, plain = timed(
            lambda rows=rows: by_scipy((rows,), np.mean, n, axis=-1),
            lambda table=table: bootstrap_means(
                table, np.random.default_rng(0), n_replicates=options.replicates, resample_seeds=False
            ),
        )
        scaled = theirs * options.replicates / n
        print(
            f"means {said}: scipy.stats.bootstrap {scaled:.1f} s (scaled), ours {alike:.2f} s: {scaled / alike:.0f} x"
        )
        if table is averaged:
            apart = np.quantile(plain, [0.025, 0.975], axis=0) - np.array(reference.confidence_interval)
            print(f"  largest gap between the percentile intervals of the two: {100 * np.abs(apart).max():.2f} points")

    # Paired differences: every pair of methods from one product here, a bootstrap for each pair there.
    pair = (averaged[0, 0], averaged[9, 0])
    theirs, _ = timed(
        lambda: by_scipy(pair, lambda x, y, axis: x.mean(axis) - y.mean(axis), n, paired=True, vectorized=True)
    )
    scaled = theirs * options.replicates / n * METHODS * (METHODS - 1) / 2
    print(
        f"paired differences of all 190 pairs: scipy {scaled:.0f} s (scaled), ours {ours:.2f} s: {scaled / ours:.0f} x"
    )
    low, high = np.quantile(means[:, 9] - means[:, 0], [0.025, 0.975])
    print(f"  the tenth from the first, two-level: {100 * low:.1f} to {100 * high:.1f} points")

    labels = rng.integers(0, CLASSES, EXAMPLES)
    guesses = np.where(scores[0] > 0, labels, (labels + 1) % CLASSES)
    for metric in ("accuracy", "f1_macro", "f1_binary", "mcc"):
        seconds, _ = timed(lambda metric=metric: metric_interval(labels, guesses, metric))
        print(f"metric_interval {metric}, {SEEDS} x {EXAMPLES}, {CLASSES} classes: {1e3 * seconds:.1f} ms")
    seconds, _ = timed(lambda: compare(scores[0], scores[9], margin=0.01, rng=rng))
    print(f"compare: {1e3 * seconds:.1f} ms")
    pair = {"a": guesses[0], "b": guesses[1]}
    seconds, _ = timed(lambda: compare_all(pair, labels=labels, metric="f1_macro", margin=0.01, rng=rng))
    print(f"compare_all, one pair, one seed, with 4 000 permutations of macro F1: {1e3 * seconds:.1f} ms")
    table = {f"method {i}": scores[i] for i in range(METHODS)}
    seconds, pairs = timed(lambda: compare_all(table, margin=0.01, rng=rng), repeats=1)
    print(f"compare_all: {len(pairs)} pairs of {METHODS} methods: {seconds:.2f} s")


if __name__ == "__main__":
    main()
