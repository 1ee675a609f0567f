"""How fairly the methods were tuned, as the page shows it: sentences, cautions, the curves, what was chosen."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ftlib import plots
from ftlib.report import say
from ftlib.report.contest import Contest
from ftlib.report.figures import Figure, figure_of
from ftlib.report.study import Study
from ftlib.report.svg import panels
from ftlib.report.tables import Cell, Table
from ftlib.report.tuning import Race, Stretch, Tuned, Tuning, chosen, rows, tuning

MOST_PANELS = 12
"""Methods that have a panel and remarks; the tables hold them all."""


class TuningPage(NamedTuple):
    """What a section shows of the tuning."""

    found: Tuning
    note: str
    """What the numbers are, on how many examples and seeds."""
    sentences: tuple[str, ...]
    """The answer first; cautions begin with that word."""
    warnings: tuple[str, ...]
    """What has to be said beside the verdict."""
    curves: Figure
    taken: Table

    def entry(self) -> dict[str, Any]:
        """The same for report.json."""
        found, contest = self.found, self.found.contest
        return {
            "task": contest.task,
            "metric": found.metric,
            "shots": contest.shots,
            "budget": found.race.budget,
            "note": self.note,
            "sentences": list(self.sentences),
            "winners": [one._asdict() for one in found.race.stretches],
            "winners_in_order": [one._asdict() for one in found.ordered.stretches],
            "curve": list(rows(found)),
            "chosen": list(chosen(found)),
        }


def tuning_page(study: Study, contest: Contest) -> TuningPage | None:
    """Everything about the tuning of a contest's methods; None where none was tuned."""
    found = tuning(study, contest)
    if found is None:
        return None
    cautions = list(_cautions(found))
    return TuningPage(
        found,
        _note(found),
        tuple(map(say.unbroken, [_answer(found), *_in_order(found), *cautions, *_remarks(found)])),
        tuple(_warnings(found)),
        _figure(found),
        _taken(found),
    )


def _note(found: Tuning) -> str:
    metric, noun = found.metric, say.noun(found.metric)
    sizes = sorted({one.n_validation for one in found.methods if one.n_validation is not None})
    n = " or ".join(map(say.count, sizes)) + " " if sizes else ""
    seeds = sorted({len(one.seeds) for one in found.methods})
    runs = " to ".join(dict.fromkeys((str(seeds[0]), say.plural(seeds[-1], "seed"))))
    if len(seeds) == 1:
        runs = say.plural(seeds[0], "seed")
    spread = (
        f"95 % intervals (Student's t over {runs}) are for new seeds on these same {n}validation {noun}s"
        if seeds[-1] > 1
        else f"One seed each on {n}validation {noun}s, so there is no interval"
    )
    protocol = f" Protocol: {say.protocols(found.contest.protocols)}." if found.contest.of_text else ""
    return (
        f"The best {say.name(metric)} on validation of k settings, in the mean over all choices of k of those tried "
        f"(Dodge et al. 2019, without replacement). {spread}.{protocol} The best of several is too good on the "
        f"{noun}s that chose it: compare methods by the verdict above, on test {noun}s that chose nothing."
    )


def _answer(found: Tuning) -> str:
    """Whether the winner depends on the budget, in one sentence."""
    race, (few, many) = found.race, found.race.n_common
    if len(found.methods) == 1:
        return f"Only {found.methods[0].name} was tuned, so there is no winner that a budget could change."
    if not many:
        return (
            f"{_turns(race, found.metric)}. No two methods have two seeds in common, so nobody can say whether that is "
            "chance."
        )
    seeds = f"paired on {f'{few} to ' if few < many else ''}{say.plural(many, 'seed')}"
    if len(race.stretches) > 1:
        what = "The winner" if race.changes else "How clear the winner is"
        return f"{what} on validation depends on the budget: {_course(race)} ({seeds})."
    (only,) = race.stretches
    if race.budget == 1:
        return f"With the 1 setting that all tried {_won(only.winners)} on validation ({seeds})."
    if len(only.winners) == 1:
        always = f"with 1 setting tried as with {race.budget}"
        return f"The winner on validation does not depend on the budget: {only.winners[0]}, {always} ({seeds})."
    return (
        f"No budget from 1 to {race.budget} settings shows a winner on validation: {say.some(only.winners)} cannot be "
        f"told apart ({seeds}). {_turns(race, found.metric)}, which may be chance."
    )


def _in_order(found: Tuning) -> Iterator[str]:
    """What this plan would have said with a smaller budget, where that is not what chance choices say."""
    race, ordered = found.race, found.ordered
    if race.budget < 2 or len(found.methods) == 1:
        return
    if ordered.n_common[1] == 0:
        if ordered.leaders != race.leaders:
            said = _turns(ordered, found.metric)
            yield f"In the order tried, the rate asked for first: {said[0].lower()}{said[1:]}."
    elif [set(one.winners) for one in ordered.stretches] != [set(one.winners) for one in race.stretches]:
        yield f"In the order tried, the rate asked for first, rather than by chance: {_course(ordered)}."


def _course(race: Race) -> str:
    """Who would have won, stretch by stretch."""
    return "; ".join(f"{_at(one, race.budget)} {_won(one.winners)}" for one in race.stretches)


def _turns(race: Race, metric: str) -> str:
    """Who has the best mean on validation, from which budget on."""
    best = "lowest" if say.of_text(metric) else "highest"
    turns = [k for k in range(race.budget) if k == 0 or race.leaders[k] != race.leaders[k - 1]]
    if len(turns) == 1:
        return f"{race.leaders[0]} has the {best} mean on validation at every budget from 1 to {race.budget}"
    said = [f"{race.leaders[k]} {f'from {k + 1} on' if k else 'with 1 setting tried'}" for k in turns]
    return f"The {best} mean on validation is that of {say.listed(said)}"


def _at(one: Stretch, k: int) -> str:
    """At which budgets; the first is said in full."""
    if one.first == one.last:
        return "with 1 setting tried" if one.first == 1 else f"with {one.first}"
    if one.first == 1:
        return f"with 1 to {one.last} settings tried"
    return f"from {one.first} on" if one.last == k else f"with {one.first} to {one.last}"


def _won(winners: Sequence[str]) -> str:
    if len(winners) == 1:
        return f"{winners[0]} would have won"
    return f"{say.some(winners)} could not have been told apart"


def _cautions(found: Tuning) -> Iterator[str]:
    yield from _unequal(found)
    edge = [one for one in found.methods if one.at_edge]
    if edge:
        said = say.some([f"{one.name} ({_of(len(one.at_edge), len(one.seeds))})" for one in edge], 8)
        yield (
            f"Caution: the rate taken is the smallest or the largest that was tried for {said}; a rate beyond the grid "
            "may be better."
        )


def _unequal(found: Tuning) -> Iterator[str]:
    if len(found.budgets) > 1:
        said = "; ".join(f"{say.some(names, 8)} tried {say.plural(k, 'setting')}" for k, names in found.budgets.items())
        yield f"Caution: the tuning was not fair, since the budgets differ: {said}."


def _remarks(found: Tuning) -> Iterator[str]:
    for one in found.methods[:MOST_PANELS]:
        if one.diverged:
            rates = [f"{rate:.2g} ({_of(n, len(one.seeds))})" for rate, n in one.diverged.items()]
            nothing = one.best.nothing[0]
            yield (
                f"{one.name} diverged at learning rate {say.listed(rates)}: of budgets of 1 setting "
                f"{100 * nothing:.0f} % would have had no result, which its curve leaves out."
            )
        if one.left_out:
            seeds = say.listed([str(seed) for seed in one.left_out])
            yield f"{one.name}: seeds left out, since they tried other rates than most: {seeds}."
    if found.metric != found.contest.metric:
        yield f"Settings are chosen by {say.name(found.metric)}; the plan compares by {say.name(found.contest.metric)}."


def _of(n: int, total: int) -> str:
    return f"{n} of {say.plural(total, 'seed')}" if total > 1 else "its only seed"


def _warnings(found: Tuning) -> Iterator[str]:
    yield from _unequal(found)
    if found.race.changes or found.ordered.changes:
        said = _answer(found) if found.race.changes else next(_in_order(found))
        yield f"Caution: {said[0].lower()}{said[1:]}"


def _figure(found: Tuning) -> Figure:
    metric, by = found.metric, say.scale(found.metric)
    shown = found.methods[:MOST_PANELS]
    curves = {one.name: tuple(by * getattr(one.best, name) for name in ("value", "low", "high")) for one in shown}
    with panels(len(shown), min(3, max(2, len(shown))), 1.35) as axes:
        plots.best_of(axes, curves, label=f"validation {say.heading(metric)}")
        axes[0].figure.supxlabel("settings tried", fontsize=9)
        axes[0].figure.supylabel(f"validation {say.heading(metric)}", fontsize=9)
        left = f" The first {MOST_PANELS} of {len(found.methods)} methods." if len(found.methods) > MOST_PANELS else ""
        return figure_of(
            axes[0],
            "best-of",
            "The best of as many settings as are tried",
            "Grey lines are the other methods. A curve that still rises at its end asks for a larger budget. The table "
            f"also has the best of the first k in the order tried, the first being the rate asked for.{left}",
            (
                "method", "settings tried", f"best {say.heading(metric)}", "95 % interval", "of the first k", "seeds",
                "n",
            ),
            [row for one in found.methods for row in _curve_rows(one)],
        )  # fmt: skip


def _curve_rows(one: Tuned) -> Iterator[tuple[str, ...]]:
    n = "not recorded" if one.n_validation is None else say.count(one.n_validation)
    for k in range(1, len(one.rates) + 1):
        value, low, high = (float(getattr(one.best, name)[k - 1]) for name in ("value", "low", "high"))
        span = say.span(one.metric, low, high) or "one seed"
        first = say.level(one.metric, float(one.firsts[:, k - 1].mean()))
        yield one.name, str(k), say.level(one.metric, value), span, first, str(len(one.seeds)), n


def _taken(found: Tuning) -> Table:
    """Which setting was chosen for which seeds, of which."""
    body = []
    for one in found.methods:
        seeds: dict[float, list[str]] = {}
        for seed, rate in zip(one.seeds, one.chosen, strict=True):
            seeds.setdefault(rate, []).append(str(seed))
        taken = [
            f"{rate:.2g}" + (f" (seed{'s' * (len(some) > 1)} {', '.join(some)})" if len(one.seeds) > 1 else "")
            for rate, some in sorted(seeds.items())
        ]
        body.append(
            (
                Cell(one.name, strong=True),
                Cell("; ".join(taken), "at the edge of the grid" if one.at_edge else ""),
                Cell(", ".join(f"{rate:.2g}" for rate in one.rates)),
                Cell(", ".join(f"{rate:.2g} ({_of(n, len(one.seeds))})" for rate, n in one.diverged.items()) or "none"),
            )
        )
    header = (Cell("method"), Cell("learning rate taken"), Cell("tried, in this order"), Cell("diverged"))
    return Table(f"Which setting validation chose, {found.contest.task}", header, tuple(body))
