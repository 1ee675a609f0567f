"""Where learning curves cross, and how many labels a target takes: by hand, by pairing, and in words."""

import time

import numpy as np
import pytest

import ftlib
from ftlib.core.errors import FtlibError
from ftlib.stats.learning_curve import Band, Curve, crossing, label_budget, tables_of
from ftlib.stats.paired import difference

SHOTS = (1, 2, 4, 8, 16, 32, 64)
INF = float("inf")


def exact(name, means, shots=SHOTS, draws=3, examples=4):
    """A curve without any chance in it."""
    return Curve(name, shots, tuple(np.full((draws, examples), float(m)) for m in means))


def noisy(name, means, seed, draws=10, examples=400, sd=0.02, numbers=0.3, centred=True):
    """A curve with chance in draws and in examples, in numbers whose mean is the metric; centred: exactly."""
    rng = np.random.default_rng(seed)
    noise = [sd * rng.normal(size=(draws, 1)) + numbers * rng.normal(size=(draws, examples)) for _ in means]
    return Curve(name, SHOTS, tuple(m + n - centred * n.mean() for m, n in zip(means, noise, strict=True)))


LINE = np.linspace(-0.3, 0.3, 7)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([-3, -1, 1, 3, 3, 3, 3], 2**1.5),
        ([-3, -2, -1, 0, 1, 2, 3], 8),
        ([-1, 3, 3, 3, 3, 3, 3], 2**0.25),
        ([1, -1, 1, 1, -1, 3, 1], 2**4.25),
        ([-1, -1, -1, -1, -1, -4, 1], 2**5.8),
        ([1, 1, 1, 1, 1, 1, 1], -INF),
        ([0, 1, 1, 1, 1, 1, 1], 1),
        ([1, 1, 1, 1, 1, 1, -1], INF),
        ([1, 1, 1, 1, 1, 1, 0], INF),
        ([0, 0, 0, 0, 0, 0, 0], INF),
    ],
)
def test_curves_without_chance_cross_where_the_last_change_of_sign_is(steps, expected):
    found = crossing(exact("a", [0.5] * 7), exact("b", 0.5 + 0.1 * np.array(steps)))
    assert found[2:5] == pytest.approx((expected,) * 3)
    assert (found.n_draws, found.n, found.reason) == (3, 4, "")
    assert found.ahead_first == (steps[0] > 0) and found.ahead_last == (steps[-1] > 0)


def test_numbers_of_labels_need_not_be_doublings():
    found = crossing(exact("a", [0, 0], (3, 48)), exact("b", [-1, 1], (3, 48)))
    assert found.shots == pytest.approx(12)  # half way in log2: sqrt(3 * 48)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ([0.4, 0.5, 0.6, 0.8, 0.8, 0.8, 0.8], 2**2.5),
        ([0.4, 0.5, 0.6, 0.7, 0.7, 0.7, 0.7], 8),
        ([0.7, 0.8, 0.8, 0.7, 0.7, 0.8, 0.9], -INF),
        ([0.4, 0.8, 0.6, 0.8, 0.8, 0.8, 0.8], 2**2.5),
        ([0.4, 0.5, 0.6, 0.7, 0.8, 0.8, 0.6], INF),
        ([0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.7], 64),
    ],
)
def test_a_target_is_reached_where_the_curve_stays_at_or_above_it(levels, expected):
    found = label_budget(exact("probe", levels, examples=7), 0.7)
    assert found[2:5] == pytest.approx((expected,) * 3)
    assert found.reached_last == (levels[-1] >= 0.7)


def test_losses_cross_the_other_way_round():
    a, b = exact("a", [2.0] * 7), exact("b", 2.0 - LINE)
    assert crossing(a, b, higher_is_better=False).shots == pytest.approx(8)
    found = label_budget(b, 1.9, higher_is_better=False, unit="bits per byte")
    assert found.shots == pytest.approx(16)
    assert found.sentence == "b needs 16 labels per class for 1.9 bits per byte (3 draws, 4 test examples)"
    a, b = noisy("a", [2.0] * 7, 1), noisy("b", 2.0 - LINE, 2)
    turned = [curve._replace(scores=tuple(-table for table in curve.scores)) for curve in (a, b)]
    assert crossing(a, b, higher_is_better=False)[2:7] == pytest.approx(crossing(*turned)[2:7])


def test_only_numbers_of_labels_that_both_have_count():
    a, b = exact("a", [0.5] * 7), exact("b", 0.5 + LINE)
    few = Curve("b", SHOTS[::3], b.scores[::3])
    found = crossing(a, few)
    assert found.shots == pytest.approx(8) and found.sentence.startswith("b overtakes a at 8 labels per class")
    assert crossing(a, Curve("b", (3, 8, 64), b.scores[:3])).shots == INF, "3 is left out"


def test_a_curve_against_itself_is_not_ahead_anywhere():
    a = noisy("a", 0.5 + LINE, 1)
    found = crossing(a, a)
    assert found[2:7] == (INF, INF, INF, 0.0, 0.0)
    assert found.sentence == "a is not ahead of a up to 64 labels per class (10 draws, 400 test examples)"


def test_the_interval_is_that_of_the_comparisons_at_every_number_of_labels():
    a, b = noisy("a", [0.5] * 7, 1), noisy("b", 0.5 + LINE / 4, 2)
    tables = {k: y - x for k, x, y in zip(SHOTS, a.scores, b.scores, strict=True)}
    band = Band(tables)
    for i, (x, y) in enumerate(zip(a.scores, b.scores, strict=True)):
        place, found = 16 * i, difference(y, x)
        assert band.middle[place] - band.half[place] == pytest.approx(found.low)
        assert band.middle[place] + band.half[place] == pytest.approx(found.high)
    between = difference(0.25 * b.scores[0] + 0.75 * b.scores[1], 0.25 * a.scores[0] + 0.75 * a.scores[1])
    assert band.half[12] == pytest.approx((between.high - between.low) / 2)
    found = crossing(a, b)
    assert found[2:5] == (band.shots, band.low, band.high) and found.low < found.shots < found.high
    one_sided = difference(b.scores[-1], a.scores[-1]).p_value / 2
    assert found.ahead_last == pytest.approx(1 - one_sided)
    assert found.ahead_first < 0.01


def test_bounds_are_where_the_band_leaves_nothing():
    """Two numbers of labels, one test of each: draws differ by 1 at the first only, examples not at all."""
    first = np.array([[-3.0, -3.0], [-2.0, -2.0], [-1.0, -1.0]])
    tables = Curve("b", (1, 4), (first, np.full((3, 2), 2.0)))
    found = crossing(exact("a", [0, 0], (1, 4), examples=2), tables)
    assert found.shots == pytest.approx(2)
    # At the first -2 -+ 4.303 / sqrt(3) = -4.484 and 0.484; towards the last all of it shrinks to 2.
    assert found.low == -INF and found.high == pytest.approx(4 ** (4.484 / 6.484), rel=1e-3)


def test_what_a_draw_does_to_both_methods_does_not_count():
    a, b = noisy("a", [0.5] * 7, 1), noisy("b", 0.5 + LINE, 2)
    luck = np.random.default_rng(3).normal(size=(7, 10, 1))
    hard = np.random.default_rng(4).normal(size=400)
    lucky = [
        curve._replace(scores=tuple(table + shift + hard for table, shift in zip(curve.scores, luck, strict=True)))
        for curve in (a, b)
    ]
    assert crossing(*lucky)[2:7] == pytest.approx(crossing(a, b)[2:7])
    alone = [label_budget(curve, 0.5) for curve in (b, lucky[1])]
    assert alone[1].high / max(alone[1].low, 1) > 2 * alone[0].high / alone[0].low


def test_what_a_draw_does_at_every_number_of_labels_is_counted_once():
    """Shifts that stay move a steep curve as a whole; shifts anew at every number would be averaged between two."""
    shift = 0.1 * np.random.default_rng(5).normal(size=(10, 1))
    staying = Curve("b", SHOTS, tuple(m + shift + np.zeros((10, 4)) for m in 0.5 + LINE))
    half = Band({k: table - 0.5 for k, table in zip(SHOTS, staying.scores, strict=True)}).half
    assert half == pytest.approx(np.full(97, half[0]))


def test_clusters_widen_and_single_examples_do_not():
    a, b = noisy("a", [0.5] * 7, 1, numbers=0.01), noisy("b", 0.5 + LINE, 2, numbers=0.01)
    source = np.repeat(np.arange(20), 20)
    shared = np.random.default_rng(6).normal(size=20)[source] * 0.3
    b = b._replace(scores=tuple(table + shared for table in b.scores))
    plain, clustered = crossing(a, b), crossing(a, b, clusters=source)
    assert clustered.shots == pytest.approx(plain.shots)
    assert clustered.low < plain.low and clustered.high > 1.5 * plain.high
    assert crossing(a, b, clusters=np.arange(400))[2:5] == pytest.approx(plain[2:5])
    assert clustered.n == 400


def test_one_row_stands_for_every_draw_of_what_draws_nothing():
    row = np.random.default_rng(7).normal(0.5, 0.3, 400)
    zero_shot = Curve("zero_shot", SHOTS, (row[None],) * 7)
    full = noisy("full", 0.5 + LINE, 2)
    repeated = Curve("zero_shot", SHOTS, (np.tile(row, (10, 1)),) * 7)
    assert crossing(zero_shot, full) == crossing(repeated, full)
    assert crossing(zero_shot, full).n_draws == 10
    alone = label_budget(zero_shot, 0.1)
    assert alone.shots == alone.high == -INF and alone.n_draws == 1
    assert alone.sentence == "zero_shot reaches 10 points from the first, 1 label per class (400 test examples)"


def test_no_number_without_two_draws_or_two_numbers_of_labels():
    one, ten = noisy("setfit", [0.5] * 7, 1, draws=1), noisy("full", 0.5 + LINE, 2)
    for found in (crossing(one, ten), crossing(ten, one), crossing(one, one), label_budget(one, 0.5)):
        assert np.isnan([found.shots, found.low, found.high, found[5]]).all()
        assert "one draw" in found.reason and found.reason in found.sentence
    rung = Curve("setfit", (8,), ten.scores[:1])
    found = crossing(rung, ten)
    assert np.isnan(found.shots) and "there is one" in found.reason
    assert np.isnan(crossing(rung, Curve("full", (4,), ten.scores[:1])).ahead_last)
    assert "1 number of labels" in label_budget(rung, 0.5).reason


@pytest.mark.parametrize(
    ("curve", "said"),
    [
        (Curve("b", (1, 2), (np.zeros((3, 4)),)), "b: found 1 tables of scores for (1, 2)"),
        (Curve("b", (2, 1), (np.zeros((3, 4)),) * 2), "ascending"),
        (Curve("b", (0, 1), (np.zeros((3, 4)),) * 2), "above 0"),
        (Curve("b", (), ()), "at least one"),
        (Curve("b", (1, 2), (np.zeros((3, 4)), np.zeros((2, 4)))), "b at 2: 2 x 4"),
        (Curve("b", (1, 2), (np.zeros((3, 5)),) * 2), "b at 1: 3 x 5"),
        (Curve("b", (1, 2), (np.zeros((3, 4)), np.full((3, 4), np.nan))), "b at 2: found 12 values that are NaN"),
    ],
)
def test_curves_that_do_not_fit_are_refused(curve, said):
    with pytest.raises(FtlibError) as caught:
        crossing(exact("a", [0, 0], (1, 2)), curve)
    assert said in str(caught.value)


def test_other_requests_are_refused():
    a = exact("a", [0, 1], (1, 2))
    with pytest.raises(FtlibError, match="alpha"):
        crossing(a, a, alpha=0.7)
    with pytest.raises(FtlibError, match="alpha"):
        label_budget(a, 0.5, alpha=0)
    with pytest.raises(FtlibError, match="target: found nan"):
        label_budget(a, float("nan"))
    with pytest.raises(FtlibError, match="clusters"):
        crossing(a, a, clusters=[1, 2])
    assert len(tables_of(a, a)) == 2


WORDS = [
    (LINE, 0.01, "b overtakes a between 7.", " labels per class (best guess "),
    (LINE - 0.29, 0.05, "b overtakes a at ", " labels per class or more, and may not do so within 64 (best guess "),
    (LINE + 0.29, 0.05, "b overtakes a at ", "or fewer, and may be ahead from the first, 1 (best guess"),
    (LINE + 1, 0.01, "b is ahead of a from the first, 1 label per class (10 draws, 400 test examples)", ""),
    (LINE - 1, 0.01, "b is not ahead of a up to 64 labels per class (10 draws, 400 test examples)", ""),
    (
        LINE / 100,
        0.1,
        "cannot tell whether b overtakes a within 64 labels per class (best guess",
        "; 10 draws, 400 test",
    ),
]


@pytest.mark.parametrize(("ahead", "sd", "start", "part"), WORDS)
def test_every_kind_of_crossing_has_its_words(ahead, sd, start, part):
    said = crossing(exact("a", [0.5] * 7, draws=10, examples=400), noisy("b", 0.5 + ahead, 8, sd=sd)).sentence
    assert said.startswith(start) and part in said


@pytest.mark.parametrize(
    ("ahead", "sd", "start", "part"),
    [
        (LINE, 0.01, "b needs between 7.", " labels per class for 50 points (best guess "),
        (LINE - 0.29, 0.05, "b needs ", " labels per class or more for 50 points, and 64 may not be enough (best"),
        (LINE + 0.29, 0.05, "b needs ", " or fewer for 50 points, and 1 may be enough (best"),
        (LINE + 1, 0.01, "b reaches 50 points from the first, 1 label per class (10 draws", ""),
        (LINE - 1, 0.01, "b does not reach 50 points up to 64 labels per class (10 draws", ""),
        (LINE / 100, 0.1, "cannot tell whether b reaches 50 points within 64 labels per class (best", ""),
    ],
)
def test_every_kind_of_budget_has_its_words(ahead, sd, start, part):
    said = label_budget(noisy("b", 0.5 + ahead, 8, sd=sd), 0.5).sentence
    assert said.startswith(start) and part in said


def test_a_best_guess_beyond_what_was_measured_is_said_in_words():
    a = exact("a", [0.5] * 7, draws=10, examples=400)
    beyond = crossing(a, noisy("b", 0.49 + np.minimum(LINE, 0), 1, sd=0.1))
    assert beyond.shots == INF > beyond.low and "best guess: not within 64; " in beyond.sentence
    first = crossing(a, noisy("b", 0.53 + np.maximum(LINE, 0), 3, sd=0.1))
    assert first.shots == -INF < first.high and "best guess: ahead from the first; " in first.sentence


def test_intervals_cover_and_nothing_is_drawn():
    """`benchmarks/bench_crossover.py` measures this in earnest."""
    line, hits = LINE / 6, 0
    for seed in range(300):
        found = crossing(
            noisy("a", [0.5] * 7, seed, 5, 60, 0.01, centred=False),
            noisy("b", 0.5 + line, 1000 + seed, 5, 60, 0.02, centred=False),
        )
        hits += found.low <= 8 <= found.high
    assert hits >= 0.91 * 300
    a, b = noisy("a", [0.5] * 7, 1), noisy("b", 0.5 + LINE, 2)
    assert crossing(a, b) == crossing(a, b)


def test_it_is_quick_and_found_at_the_top():
    a, b = noisy("a", [0.5] * 7, 1, examples=7_600), noisy("b", 0.5 + LINE, 2, examples=7_600)
    passed = []
    for _ in range(3):
        start = time.perf_counter()
        crossing(a, b)
        passed.append(time.perf_counter() - start)
    assert min(passed) < 0.2
    assert (ftlib.crossing, ftlib.label_budget, ftlib.Curve) == (crossing, label_budget, Curve)
