"""What page one says beside the verdict and the card: what was studied, what it does not show, and what to do next."""

import datetime
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ftlib.config.constraints import COURSE
from ftlib.config.methods import METHODS
from ftlib.core import format
from ftlib.core.format import short_name
from ftlib.data.evaluations import is_bias
from ftlib.metrics import units
from ftlib.records.study import Group, Run, Study
from ftlib.report.sections import runs
from ftlib.report.sections.comparison import TaskComparison, called, without_shots
from ftlib.report.sections.confidence import costs_sentence
from ftlib.report.sections.costs import mean
from ftlib.report.sections.fairness import GroupFairness, gap_of, points
from ftlib.report.sections.recommendation import Advice, needed, next_open
from ftlib.report.sections.report_card import Card, groups_of, says_little
from ftlib.stats.verdict import realistic, roughly

if TYPE_CHECKING:
    from ftlib.report.build import Reading

MOST_LETTERS = 280
"""Of the example text."""


class About(NamedTuple):
    """What a task's study was made from."""

    facts: tuple[tuple[str, str], ...]
    example: str
    """One text of the test set; empty where the study does not hold them."""
    label: str
    """Its label; empty where there are none."""


def about(study: Study, comparison: TaskComparison) -> About:
    """Which model, which data, under which licence, how much of it, when and on what machine."""
    groups = [group for group in study.groups if group.task == comparison.task and group.ok]
    found = [run for group in groups for run in group.ok]
    facts = [("model", _models(groups)), ("data", _data(comparison, found)), ("used", _used(comparison, groups))]
    facts += [("made", _made(study.runs))]
    part = next(iter(comparison.methods[0].parts.values()))
    data = next((study.texts[sha] for run in found if (sha := run.record.provenance.get("data_sha256")) in
                 study.texts), None)  # fmt: skip
    text = label = ""
    if data and (one := next((k for k, name in enumerate(part.ids) if data.texts.get(str(name), "").strip()), None)) \
            is not None:  # fmt: skip
        text = " ".join(data.texts[str(part.ids[one])].split())
        label = part.labels[part.truth[one]] if part.truth is not None else ""
    return About(
        tuple((name, said) for name, said in facts if said),
        text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 1].rstrip() + "…",
        label,
    )


def _models(groups: Sequence[Group]) -> str:
    said = []
    for name in dict.fromkeys(group.model for group in groups if group.model):
        own = [run for group in groups if group.model == name for run in group.ok]
        sizes = {run.record.cost.get("total_parameters") for run in own} - {None, 0}
        licence = next((run.record.provenance["model_licence"] for run in own
                        if run.record.provenance.get("model_licence")), "")  # fmt: skip
        about = [f"{format.count(min(sizes))} parameters"] if sizes else []
        about.append(f"licence: {licence}" if licence else "licence: not recorded")
        said.append(f"{name} ({', '.join(about)})")
    return format.listed(said) if said else ""


def _data(comparison: TaskComparison, found: Sequence[Run]) -> str:
    data = next((run.record.provenance.get("data") or {} for run in found), {})
    labels = next(iter(comparison.methods[0].parts.values())).labels
    said = [short_name(comparison.task)]
    if labels:
        said.append(f"{format.plural(len(labels), 'label')} ({format.some(list(labels), 8)})")
    sizes = data.get("sizes") or {}
    if sizes:
        said.append(" / ".join(f"{name} {format.count(n)}" for name, n in sizes.items()))
    said.append(f"licence: {data.get('licence') or 'not recorded'}")
    return "; ".join(said)


def _used(comparison: TaskComparison, groups: Sequence[Group]) -> str:
    noun, given = units.noun(comparison.metric), {mean(group, "train_examples") for group in groups} - {None, 0}
    ends = list(dict.fromkeys(format.count(n) for n in (min(given), max(given)))) if given else []
    trained = f"{' to '.join(ends)} training {noun}s, " if ends else ""
    tested = format.plural(comparison.n, f"test {noun}")
    return f"{trained}{tested}, {format.plural(len({without_shots(g.name) for g in groups}), 'method')}"


def _made(found: Sequence[Run]) -> str:
    """When, for how long and on what machine, from the diaries of the runs."""
    times = [span for run in found if (span := run.times) is not None]
    said = []
    if times:
        days = [datetime.datetime.fromtimestamp(at, datetime.UTC).date().isoformat()
                for at in (min(a for a, _ in times), max(b for _, b in times))]  # fmt: skip
        said.append(" to ".join(dict.fromkeys(days)))
        shared = any((run.record.cost.get("shared_seconds") or 0) > 1 for run in found)
        said.append(
            f"{format.seconds(sum(b - a for a, b in times))} of computing in {format.plural(len(times), 'run')}"
            + ", what they share counted once" * shared
        )
    machines = dict.fromkeys(str(run.record.provenance.get("device", "")) for run in found if run.ok)
    machine = format.some([name for name in machines if name], 2) if any(machines) else ""
    threads = {run.record.provenance.get("threads") for run in found if run.ok} - {None}
    if machine:
        each = f", {format.plural(min(threads), 'thread')} a run" if len(threads) == 1 else ""
        said.append(f"on {machine}{each}")
    return ", ".join(said)


def not_shown(reading: "Reading", comparison: TaskComparison, card: Card) -> Iterator[str]:
    """What a reader might take from the page and must not."""
    families, study = {column.family for column in card.columns}, reading.study
    data = next((str((run.record.provenance.get("data") or {}).get("caution") or "") for run in study.runs
                 if run.ok and run.resolved.get("task") == comparison.task), "")  # fmt: skip
    yield (
        f"Other texts than those of {short_name(comparison.task)}, other models and other machines: nothing here was "
        "measured on them."
    )
    if data:
        yield f"About the data: {data.rstrip('.')}."
    without = _without_value(reading, comparison)
    yield from (f"{part}: no value for any method: {reason}" for part, reason in without.items())
    yield from _unequal_terms(comparison)
    groups = groups_of(reading, comparison)
    if not groups and "bias" not in families and not any(map(is_bias, without)):
        yield "Whether groups of people are treated alike: no groups and no evaluation of bias were measured."
    yield from _gaps_elsewhere(groups, card)
    followed = any(one.task == comparison.task for one in reading.of("sequences") or [])
    if not families & {"forgetting", "text"} and not (comparison.of_text or without or followed):
        yield "Forgetting: it was not measured (`general` or `features` under evaluations in the plan do)."
    for column in card.columns:
        if column.family == "bias" and (open_ones := [one for one in column.entries.values() if says_little(one)]):
            widest = max(one.value.high - one.value.low for one in open_ones)
            yield (
                f"How large the {column.title} is: intervals are up to {100 * widest:.0f} points wide, since few "
                "examples of a label are of one group; more test examples of each group would narrow them."
            )
    if undecided := sum(entry.verdict == "undecided" for column in card.columns for entry in column.entries.values()):
        cells = format.plural(undecided, "cell")
        yield f"{cells} of the card {'is' if undecided == 1 else 'are'} undecided, which is not the same as equivalent."


_TERMS = (*COURSE, "canaries", "mitigation", "quantise")
"""Fields that change what a method learns from, or what is left of it, whatever the method."""


def _unequal_terms(comparison: TaskComparison) -> Iterator[str]:
    """What some of the methods that train were given and others not, where no name says so."""
    given = {}
    for one in comparison.methods:
        if one.group and one.group.method in METHODS and METHODS[one.group.method].trains:
            spec = one.group.runs[0].resolved
            named = {setting.partition("=")[0] for setting in one.group.settings.split()}
            given[one.name] = ", ".join(
                f"{field} = {spec[field]}" for field in _TERMS if spec.get(field) and field not in named
            )
    if len(set(given.values())) > 1:
        told = [f"{name} has {said}" for name, said in given.items() if said]
        yield f"What of a difference is the method's own: {format.listed(told)}, which not all others have."


def _gaps_elsewhere(groups: Sequence[GroupFairness], card: Card) -> Iterator[str]:
    """Gaps between groups of people that the card has no column for."""
    columns = {column.name.partition(":")[2] for column in card.columns if column.family == "bias"}
    untold = {True: [], False: []}
    for one in groups:
        if one.column not in columns:
            untold[any(change.metric == "tpr" and change.pair for change in one.changes)].append(one.column)
    if untold[False]:
        yield (
            f"How groups by {format.listed(untold[False])} differ in how often a label is found: no label has enough "
            "examples of two groups."
        )
    if untold[True]:
        yield f"How groups by {format.listed(untold[True])} differ: it is told in the section on groups, not here."
    beyond = [
        (change, one.column)
        for one in groups
        for change in one.changes
        if change.shown and not (change.metric == "tpr" and one.column in columns)
    ]
    if beyond:
        worst, column = max(beyond, key=lambda pair: pair[0].after.low)
        others = len(beyond) - 1
        more = f", as {'is' if others == 1 else 'are'} {others} more in the section on groups" if others else ""
        yield (
            f"Gaps beside the card's: {gap_of(worst)} is {points(worst.after)} apart by {column}, {worst.pair[1]} "
            f"against {worst.pair[0]}, which is more than chance{more}."
        )


def _without_value(reading: "Reading", comparison: TaskComparison) -> dict[str, str]:
    """Other evaluation sets of a task for which no method has a value -> why."""
    rows = [row for row in reading.rows if row["task"] == comparison.task and row["part"] not in ("test", "validation")]
    valued = {row["part"] for row in rows if row["value"] is not None and not np.isnan(row["value"])}
    return {row["part"]: row["reason"] for row in rows if row["part"] not in valued and row.get("reason")}


class Step(NamedTuple):
    """Something a person can do next."""

    what: str
    seconds: float
    """Of computing; NaN where it is not known, infinite where people have to label."""


def next_steps(reading: "Reading", comparison: TaskComparison, advice: Advice) -> list[str]:
    """What would settle what is open, the cheapest first; at least one thing to do."""
    study, found = reading.study, list(_settling(reading.study, comparison))
    found.sort(key=lambda step: (np.isnan(step.seconds), step.seconds))
    lines = [f"Cheapest first: {step.what}" if number == 0 and len(found) > 1 else step.what
             for number, step in enumerate(found)]  # fmt: skip
    lines += [more] if (more := _more_training(study, comparison)) else []
    if not found and len(comparison.methods) > 1 and not runs.unfinished(study, comparison.task):
        lines.insert(0, _first_place(comparison, advice))
    if advice.caution:
        lines.insert(0, "Mend first what is said of the data beside the verdict: it may move every score on this page.")
    return [format.unbroken(line) for line in lines]


def _first_place(comparison: TaskComparison, advice: Advice) -> str:
    """What is left to do about the first place where neither seeds nor examples alone would settle it."""
    best, *others = comparison.methods
    pair = next_open(comparison)
    if pair is None:
        if any(comparison.verdict(best.name, one.name) is None for one in others):
            return "What was not compared is open: run all methods on the same test examples."
        if all(one.one_label for one in others):
            return "Add a method that learns something, such as tfidf or probe: nothing else here has."
        return f"Nothing is open about the first place: {called(comparison.find(advice.chosen))}."
    said = needed(pair)
    if said.startswith("no realistic number"):
        return (
            "No realistic number of seeds or test examples would separate the methods at the top: choose among them by "
            "what they cost, forget and whom they treat worse."
        )
    names = format.listed([comparison.find(name).name for name in (pair.a, pair.b)])
    return f"To tell {names} apart: {said}."


def _settling(study: Study, comparison: TaskComparison) -> Iterator[Step]:
    """Runs that are missing; else more seeds or more test examples for the two that the headline is about."""
    missing = [spec for spec in study.missing if spec["task"] == comparison.task]
    if missing:
        seconds = [_seconds(study, comparison.task, str(spec["method"])) for spec in missing]
        yield Step(f"Finish the study: {format.plural(len(missing), 'run')} {'is' if len(missing) == 1 else 'are'} "
                   f"missing, {_about(sum(seconds))} of computing; the same command resumes it.",
                   0.0)  # fmt: skip
        return
    pair = next_open(comparison)
    if pair is None:
        return
    sides = [comparison.find(name) for name in (pair.a, pair.b)]
    names = format.listed([one.name for one in sides])
    if realistic(pair.comparison.more_seeds, pair.n_seeds):
        more = pair.comparison.more_seeds
        each = sum(_of_group(one.group) for one in sides if one.group and one.draws)
        drawn = format.listed([one.name for one in sides if one.draws])
        yield Step(f"Run {format.plural(more, 'more seed')} of {drawn}, {_about(more * each)} of computing, to tell "
                   f"{names} apart (were the difference as found, 4 times of 5).", more * each)  # fmt: skip
    if realistic(pair.comparison.more_examples, comparison.n):
        more, noun = pair.comparison.more_examples, units.noun(comparison.metric)
        yield Step(f"Label about {roughly(more)} more test {noun}s (there are "
                   f"{format.count(comparison.n)}) to tell {names} apart.", np.inf)  # fmt: skip


def _about(seconds: float) -> str:
    return "an unknown time" if np.isnan(seconds) else f"about {format.seconds(seconds)}"


def _of_group(group: Group | None) -> float:
    """Seconds of one run, training and evaluation."""
    found = [mean(group, name) for name in ("train_seconds", "eval_seconds")]
    return np.nan if None in found else float(sum(found))


def _seconds(study: Study, task: str, method: str) -> float:
    """Seconds of a run of a method, as its runs took that are here; NaN where it has none."""
    own = [group for group in study.groups if (group.task, group.method) == (task, method) and group.ok]
    return float(np.mean([_of_group(group) for group in own])) if own else np.nan


def _more_training(study: Study, comparison: TaskComparison) -> str:
    """Training examples that are there and were not used."""
    chosen = [one for one in comparison.methods if one.group and not one.untouched and not one.group.constant]
    limits = {one.group.runs[0].resolved.get("train_limit") or 0 for one in chosen if one.group and not one.group.shots}
    sizes = {(run.record.provenance.get("data") or {}).get("sizes", {}).get("train", 0)
             for one in chosen if one.group for run in one.group.ok}  # fmt: skip
    if len(limits) != 1 or len(sizes) != 1 or not 0 < (limit := limits.pop()) < (size := sizes.pop()):
        return ""
    noun = units.noun(comparison.metric)
    groups = [one.group for one in chosen if one.group]
    # Where any makes steps of training, the others' time hardly counts.
    trained = [group for group in groups if group.method in METHODS and METHODS[group.method].trains] or groups
    times = max(_steps(group, size) / _steps(group, limit) for group in trained)
    takes = f"about {times:.1f} times the" if times >= 1.05 else "about the same"
    return (
        f"Train on more: {format.count(limit)} of {format.count(size)} training {noun}s were used; train_limit = 0 "
        f"takes them all, for {takes} training time. What that gains was not measured."
    )


def _steps(group: Group, n: int) -> float:
    """What a training with n examples is long by: its steps, at least min_steps; without steps the examples."""
    spec, method = group.runs[0].resolved, METHODS.get(group.method)
    if method is None or not method.trains or not spec.get("batch_size"):
        return n
    return max(math.ceil(math.ceil(n / spec["batch_size"]) * spec.get("epochs", 1)), spec.get("min_steps") or 0)


class PageOne(NamedTuple):
    """What page one says of one task beside its verdict."""

    about: About
    not_shown: tuple[str, ...]
    next_steps: tuple[str, ...]
    by_costs: str
    """Which method at which threshold by the person's own costs of errors; empty where suite.toml says none."""


def page_one(reading: "Reading", comparison: TaskComparison, advice: Advice, card: Card) -> PageOne:
    """What page one says of one task beside its verdict."""
    lines = tuple(map(format.unbroken, not_shown(reading, comparison, card)))
    steps = next_steps(reading, comparison, advice)
    lacking = runs.unfinished(reading.study, comparison.task)
    if lacking and not any(line.startswith(("Finish", "Cheapest first: Finish")) for line in steps):
        steps.insert(0, lacking.detail)
    sure = next((one.found for one in reading.of("confidence") or [] if one.found.comparison is comparison), None)
    return PageOne(about(reading.study, comparison), lines, tuple(steps), costs_sentence(sure) if sure else "")
