"""The dial as the page shows it: which setting keeps the gain and forgets least, the picture, the numbers."""

import math

from ftlib.plots.dial import dial as draw
from ftlib.report import say
from ftlib.report.dial import Dial, Point, duel
from ftlib.report.figures import Figure, figure_of
from ftlib.report.sequences import spanned
from ftlib.report.svg import drawing

MOST_POINTS = 24

_FORGOT = {
    "general": "{} that general text costs more than before",
    "sequence": "points of accuracy lost on the earlier tasks",
    "features": "points of accuracy that probes of the features lost",
}


def label(found: Dial) -> str:
    """What was forgotten, with its unit."""
    return _FORGOT[found.measure].format(say.name(found.metric))


def sentence(found: Dial) -> str:
    """Which setting keeps the gain within the margin of the best while forgetting least, or that nobody can tell."""
    best, chosen = found.points[0], found.points[found.chosen]
    within = say.margin(found.contest.metric, found.contest.margin)
    if found.chosen:
        gain = duel(found.gains, chosen.name).pair.comparison
        kept = (
            f"{chosen.name} keeps what {best.name}, the best on the task, gained, within {within}: they differ by "
            f"{say.difference(found.contest.metric, abs(gain.difference), signed=False)}"
            f"{say.unit(found.contest.metric)} ({spanned(gain, found.contest.metric)})"
        )
        return f"{kept}. {_less(found, chosen, best)}"
    doubtful = [
        one
        for one in found.points[1:]
        if one.forgot.value < best.forgot.value
        and (pair := duel(found.gains, one.name))
        and pair.pair.comparison.verdict == "undecided"
    ]
    if doubtful:
        names = say.some([one.name for one in doubtful], 3)
        return (
            f"Cannot tell: {best.name} is the best on the task; {names} forgot less, and whether the gain is kept "
            f"within {within} is undecided."
        )
    if any(one.forgot.value < best.forgot.value for one in found.points[1:]):
        return f"{best.name} is the best on the task, and nothing that forgot less keeps its gain within {within}."
    return f"{best.name} is the best on the task and forgot least of all settings measured."


def _less(found: Dial, chosen: Point, best: Point) -> str:
    """Whether it forgot less than the best."""
    pair = duel(found.losses, chosen.name)
    what = label(found)
    if pair is None:
        return f"Cannot tell whether it forgot less: no seed finished for both ({what})."
    said, metric = pair.pair.comparison, found.metric
    size = f"{say.difference(metric, abs(said.difference), signed=False)} ({spanned(said, metric)})"
    runs = say.plural(pair.n_seeds, "seed")
    if said.verdict == "better":
        return f"It forgot less by {size} {what}, paired on {runs}."
    if said.verdict == "same":
        return f"Both forgot the same within {say.margin(metric, found.margin)}: they differ by {size} {what}."
    return f"Cannot tell whether it forgot less than {best.name}: they differ by {size} {what}, paired on {runs}."


def figure(found: Dial) -> Figure:
    """Quality against what was forgotten, with the table that says the same."""
    metric, shown = found.contest.metric, found.points[:MOST_POINTS]
    by, by_loss = say.scale(metric), say.scale(found.metric)
    before = next((one for one in found.contest.contestants if one.untouched), None)
    lines: dict[str, list[tuple[float, int]]] = {}
    for place, one in enumerate(shown):
        lines.setdefault(one.group.name, []).append((1.0 if one.alpha is None else one.alpha, place))
    ways = [[place for _, place in sorted(some)] for some in lines.values() if len(some) > 1]
    # The adapted model's name, without how far along the way.
    joined = {min((shown[place].name for place in way), key=len): way for way in ways}
    with drawing(3.4 + 0.16 * math.ceil(len(lines) / 2)) as ax:
        draw(
            ax,
            [one.name for one in shown],
            [[by_loss * value for value in one.forgot] for one in shown],
            [[by * value for value in one.level] for one in shown],
            label=say.heading(metric),
            forgotten_label=label(found),
            lines=joined,
            chosen=found.chosen if found.chosen < len(shown) else None,
            untouched=by * before.level.value if before else None,
        )
        return figure_of(
            ax,
            "dial",
            f"What is gained and what is forgotten, {found.contest.task}",
            "Each setting with its 95 % intervals for new examples and seeds; left of the dashed line nothing is "
            "forgotten. A line joins states on the way from the untouched weights to the adapted ones. The level line "
            "is the untouched model.",
            (
                "setting", say.heading(metric), "95 % interval", "as good as the best", label(found), "95 % interval",
                "forgot less than the best", "seeds", "n",
            ),
            [_row(found, one) for one in found.points],
        )  # fmt: skip


_AS_GOOD = {"same": "yes", "better": "better", "worse": "no", "undecided": "undecided"}
_LESS = {"same": "the same", "better": "yes", "worse": "no, more", "undecided": "undecided"}


def _row(found: Dial, one: Point) -> tuple[str, ...]:
    gain, loss, metric = duel(found.gains, one.name), duel(found.losses, one.name), found.contest.metric
    best = one is found.points[0]
    return (
        one.name,
        say.level(metric, one.level.value),
        say.span(metric, one.level.low, one.level.high),
        "the best" if best else _AS_GOOD[gain.pair.comparison.verdict] if gain else "not compared",
        say.difference(found.metric, one.forgot.value),
        f"{say.difference(found.metric, one.forgot.low)} to {say.difference(found.metric, one.forgot.high)}",
        "the best" if best else _LESS[loss.pair.comparison.verdict] if loss else "not compared",
        str(len(one.parts)),
        f"{say.count(len(next(iter(one.parts.values())).ids))} and {say.count(one.loss.table.shape[1])}",
    )
