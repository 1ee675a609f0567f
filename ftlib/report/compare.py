"""Two sets of results held against each other, wherever they come from: studies, runs, tables of predictions, logs.

Examples are matched by id or by text; what does not match is refused, or left out where that is asked for. Every
difference is paired and all of them are one family (Holm). Each says which examples flipped.
"""

import math
import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ftlib.config.constraints import size_problems
from ftlib.config.experiment import USUAL, Plan
from ftlib.core import format
from ftlib.core.errors import FtlibError, several, unknown
from ftlib.core.html import table as html_table
from ftlib.metrics import language, text, units
from ftlib.metrics.registry import CLASSIFICATION, LANGUAGE_MODELING, METRICS, TEXT_TO_TEXT
from ftlib.records import read_record
from ftlib.records.foreign import ALIASES, COLUMNS, Results, read, whole_numbers
from ftlib.records.predictions import Examples, Part
from ftlib.records.study import Group, Run, example_file, read_plan, read_run, read_study, seed_of
from ftlib.report.blocks import as_csv
from ftlib.report.metric_rows import OF_LABELS, document_sums, group_interval, metrics_of, values_of
from ftlib.report.pairing import common_examples
from ftlib.report.sections.comparison import least_detectable, most_apart, unit_of
from ftlib.stats.intervals import Interval, interval
from ftlib.stats.linearize import RANGES, label_values
from ftlib.stats.multiple import Pair, corrected
from ftlib.stats.paired import Difference, difference, label_swap_test
from ftlib.stats.unpaired import ZTest, z_test
from ftlib.stats.variance import check_alpha, check_margin
from ftlib.stats.verdict import Voice

SHOWN, LETTERS = 5, 100
"""Flips of each direction that are printed, and letters of their texts; --out has them all."""


class Source(NamedTuple):
    """One side: what it is, and the results in it."""

    side: str
    """A or B."""
    what: str
    results: tuple[Results, ...]
    plan: Plan | None
    """None where nobody made one."""

    def named(self, one: Results) -> str:
        """A result's name in sentences: both sides may have one of that name."""
        return f"{one.name} ({self.side})"


class Flip(NamedTuple):
    """An example on which the two differ."""

    id: str
    text: str
    label: str
    a_said: str
    b_said: str
    gain: float
    """By how much A did better, mean over seeds; below 0: B did."""


class Compared(NamedTuple):
    """One result of A against one of B."""

    a: str
    b: str
    task: str
    metric: str
    margin: float
    scale: int
    """What numbers are multiplied by for readers: 100 for shares."""
    levels: tuple[Interval, Interval]
    n: int
    """Examples in common; 0 where only totals are known."""
    n_seeds: int
    by: str
    """What the examples were matched by."""
    left: tuple[int, int]
    """Examples of A and of B that were left out."""
    pair: Pair
    detectable: float | None
    unpaired: ZTest | None
    """As if nothing were shared: what others print; None for a metric that is no mean over examples."""
    foreign: bool
    flips: tuple[Flip, ...]


def read_source(side: str, path: str | Path, columns: Mapping[str, str] = {}) -> Source:
    """Read one side: a study, a run, or what `ftlib.records.foreign` reads.

    Raises:
        FtlibError: There is nothing to compare in it, or it cannot be read.
    """
    path = Path(path)
    if path.name in ("suite.toml", "record.json") or (
        path.name == "predictions.parquet" and (path.parent / "record.json").is_file()
    ):
        path = path.parent
    if (path / "record.json").is_file():
        return _of_run(side, path)
    if (path / "suite.toml").is_file() or (path / "runs").is_dir():
        return _of_study(side, path)
    results = tuple(read(path, columns))
    n = sum(len(_any(one).ids) for one in results if one.parts)
    return Source(side, f"{path}: {results[0].kind}" + (f", {format.plural(n, 'example')}" if n else ""), results, None)


def _of_run(side: str, path: Path) -> Source:
    run = read_run(path, read_record(path), {})
    study = path.resolve().parent.parent
    plan = read_plan(study, [run])[1]
    if not run.ok or _TEST not in run.parts:
        why = run.unreadable or run.record.reason or "it has no predictions of the test set"
        raise FtlibError(f"{path}: status {run.record.status}: {why}")
    sha = str(run.record.provenance.get("data_sha256", ""))
    file = example_file(study, sha)
    texts = Examples.read(file).texts if file else {}
    task, method = str(run.resolved.get("task", "")), str(run.resolved.get("method", ""))
    one = Results(method, task, {run.seed: run.parts[_TEST]}, texts, draws=True)
    return Source(side, f"{path}: run of {method}, seed {run.seed}", (one,), plan)


_TEST = ("after", "test")


def _of_study(side: str, path: Path) -> Source:
    study = read_study(path)
    found = tuple(one for group in study.groups if (one := _of_group(study.texts, group)))
    if not found:
        raise FtlibError(f"{path}: no run has finished with predictions of the test set")
    return Source(side, f"{path}: study of {format.plural(len(study.runs), 'run')}", found, study.plan)


def _of_group(examples: Mapping[str, Examples], group: Group) -> Results | None:
    runs: list[Run] = [run for run in group.ok if _TEST in run.parts]
    if not runs:
        return None
    same = common_examples([run.parts[_TEST] for run in runs])[0].same
    kept = [run for run in runs if run.parts[_TEST].same == same]
    held = examples.get(str(kept[0].record.provenance.get("data_sha256", "")))
    parts = {run.seed: run.parts[_TEST] for run in kept}
    return Results(group.name, group.task, parts, held.texts if held else {}, draws=group.draws)


def _any(one: Results) -> Part:
    return next(iter(one.parts.values()))


def offered(one: Results) -> list[str]:
    """The metrics that results give, the usual one first.

    >>> offered(Results("theirs", totals={"accuracy": 0.5}))
    ['accuracy']
    """
    if not one.parts:
        return list(one.totals)
    part = _any(one)
    if part.texts is not None:
        return list(metrics_of(part))
    if part.of_text:
        return [f"{language.PREFIX * part.pseudo}{name}" for name in language.SIZES]
    labels = part.truth is not None and part.chosen is not None
    return list(
        dict.fromkeys([*([m for m in OF_LABELS if m != "f1_binary" or len(part.labels) == 2] * labels), *part.terms])
    )


def level(one: Results, metric: str) -> Interval:
    """A metric's value over the seeds with its interval; of totals the value alone."""
    if not one.parts:
        return Interval(one.totals[metric], math.nan, math.nan)
    return _level(list(one.parts.values()), metric)


def _level(parts: Sequence[Part], metric: str) -> Interval:
    if metric in parts[0].terms and metric not in METRICS or (metric == "accuracy" and parts[0].truth is None):
        return interval(np.stack([part.terms[metric] for part in parts]), clusters=parts[0].clusters)
    return group_interval(parts, metric)


def compare_sources(
    a: Source,
    b: Source,
    *,
    metric: str = "",
    margin: float | None = None,
    common: bool = False,
    all_pairs: bool = False,
    lower_is_better: bool = False,
    alpha: float = 0.05,
) -> list[Compared]:
    """Compare what two sides hold, as one family.

    Two studies are compared method by method, as far as both have a method; anything else every result with every.

    Args:
        metric: Empty: the plan's, else the first that both have.
        margin: The smallest difference that matters; None: the plan's, else what is usual.
        common: Leave out the examples that do not match instead of refusing.
        all_pairs: Compare every method of two studies with every.
        lower_is_better: For a metric that ftlib does not know.

    Raises:
        FtlibError: Nothing can be compared, with every reason.
    """
    check_alpha(alpha)
    if margin is not None:
        check_margin(margin, "--margin")
    found, problems = [], []
    wanted = list(_pairs(a, b, all_pairs))
    for one, other in wanted:
        try:
            found.append(_measured(a, b, one, other, metric, margin, common, lower_is_better, alpha))
        except FtlibError as error:
            problems += error.problems
    # A table does not say which of a study's tasks it is of: those whose examples it has.
    guessed = any(not (one.task and other.task) for one, other in wanted) and len({o.task for o, _ in wanted}) > 1
    if problems and not (found and guessed):
        raise several(dict.fromkeys(problems))
    pairs = corrected([(measured, voice) for measured, voice, _ in found])
    return [made._replace(pair=pair) for pair, (_, _, made) in zip(pairs, found, strict=True)]


def _pairs(a: Source, b: Source, all_pairs: bool) -> Iterator[tuple[Results, Results]]:
    """Which results are compared: of the same task, and of two studies those of the same method."""
    tasks = [{format.short_name(one.task) for one in side.results} for side in (a, b)]
    alone = all(len(some) == 1 for some in tasks)
    able = [
        (one, other)
        for one in a.results
        for other in b.results
        if alone or not (one.task and other.task) or format.short_name(one.task) == format.short_name(other.task)
    ]
    if not able:
        said = (f"{side.side}: {', '.join(sorted(some))}" for side, some in zip((a, b), tasks, strict=True))
        raise FtlibError(f"no task is in both; {'; '.join(said)}")
    named = [(one, other) for one, other in able if one.name == other.name]
    both = len(a.results) > 1 and len(b.results) > 1
    return iter(named if named and both and not all_pairs else able)


def unpaired_names(a: Source, b: Source, found: Sequence[Compared]) -> list[str]:
    """What has no counterpart on the other side."""
    seen = {name for one in found for name in (one.a, one.b)}
    return [side.named(one) for side in (a, b) for one in side.results if side.named(one) not in seen]


def _measured(
    a: Source,
    b: Source,
    one: Results,
    other: Results,
    metric: str,
    margin: float | None,
    common: bool,
    lower_is_better: bool,
    alpha: float,
) -> tuple[Difference, Voice, Compared]:
    names = a.named(one), b.named(other)
    plan = (a.plan or b.plan or Plan()).of(one.task or other.task)
    metric = _metric(names, one, other, ALIASES.get(metric, metric), plan.primary if a.plan or b.plan else "")
    up = METRICS[metric].higher_is_better if metric in METRICS else not lower_is_better
    if margin is not None and (wrong := size_problems(metric, margin)):
        raise FtlibError(f"--{wrong[0]}")
    if not (one.parts and other.parts):
        return _of_totals(names, one, other, metric, margin, up, alpha)
    rows, by = matched(names, one, other, common)
    sizes = [len(_any(x).ids) for x in (one, other)]
    sides = [[_taken(part, some) for part in parts] for parts, some in zip(_on_seeds(one, other), rows, strict=True)]
    sides[1] = [_relabelled(part, sides[0][0].labels) for part in sides[1]]
    labels = sides[1][0].labels
    sides[0] = [part._replace(labels=labels) for part in sides[0]]
    clusters = next((x[0].clusters for x in sides if x[0].clusters is not None), None)
    tables = [_values(parts, metric) for parts in sides]
    if wrong := [name for name, table in zip(names, tables, strict=True) if not np.isfinite(table).all()]:
        raise FtlibError(f"{metric} is undefined for {' and '.join(wrong)} on these examples")
    shares = all(((table >= 0) & (table <= 1)).all() for table in tables)
    if margin is None:
        margin = plan.margin if metric == plan.primary else _usual_margin(metric, shares)
    seeds = max(map(len, tables))
    p_swap = None
    if seeds == 1 and metric in OF_LABELS and metric != "accuracy":
        codes = [parts[0].chosen for parts in sides]
        rng = np.random.default_rng(seed_of(*names, metric))
        p_swap = label_swap_test(sides[0][0].truth, *codes, metric, rng, clusters=clusters)
    bounds = RANGES.get(metric) or (METRICS[metric].bounds if metric in METRICS else None)
    measured = difference(
        *tables, margin=margin, alpha=alpha, clusters=clusters, bounds=bounds, p_exact=p_swap, name_a=names[0],
        name_b=names[1],
    )  # fmt: skip
    drawn = one.draws or other.draws or bool(one.kind or other.kind)
    unit = unit_of(metric) if metric in METRICS else "points" if shares else f"in {metric}"
    voice = Voice(*names, unit, up, one_run=seeds == 1 and drawn)
    mean = metric not in RANGES or metric == "accuracy"
    made = Compared(
        *names,
        format.short_name(one.task or other.task),
        metric,
        margin,
        100 if unit == "points" else 1,
        (_level(sides[0], metric), _level(sides[1], metric)),
        len(rows[0]),
        seeds,
        by,
        (sizes[0] - len(rows[0]), sizes[1] - len(rows[1])),
        Pair(*names, None, math.nan),
        least_detectable(*tables, clusters, most_apart(metric) if metric in METRICS else 1.0),
        _z_test(*tables, alpha) if mean and not sides[0][0].of_text else None,
        bool(one.kind or other.kind),
        tuple(_flips(one, other, sides, tables, metric, up)),
    )
    return measured, voice, made


def _metric(names: tuple[str, str], one: Results, other: Results, asked: str, primary: str) -> str:
    able = [name for name in offered(one) if name in offered(other)]
    if asked:
        if missing := [name for name, x in zip(names, (one, other), strict=True) if asked not in offered(x)]:
            raise FtlibError(
                f"--metric {asked}: {' and '.join(missing)} cannot give it; both have: {', '.join(able) or 'none'}"
            )
        return asked
    if not able:
        said = (f"{name}: {', '.join(offered(x))}" for name, x in zip(names, (one, other), strict=True))
        raise FtlibError(f"no metric that both have; {'; '.join(said)}")
    return primary if primary in able else able[0]


def _usual_margin(metric: str, shares: bool) -> float:
    if metric in language.METRICS_OF_TEXT:
        return USUAL[LANGUAGE_MODELING].margin
    if metric in METRICS and METRICS[metric].unit.endswith(" points"):
        return USUAL[TEXT_TO_TEXT].margin
    return USUAL[CLASSIFICATION].margin if shares or metric in METRICS else 0.0


def _of_totals(
    names: tuple[str, str], one: Results, other: Results, metric: str, margin: float | None, up: bool, alpha: float
) -> tuple[Difference, Voice, Compared]:
    """Two totals: the unpaired bound is all they allow, and only where the number of examples follows from them."""
    if one.parts or other.parts:
        held = names[0] if one.parts else names[1]
        raise FtlibError(
            f"{' and '.join(names)}: only {held} says what happened on single examples, so nothing says whether both "
            "were measured on the same"
        )
    if one.source != other.source:
        raise FtlibError(f"{' and '.join(names)}: measured on other data ({one.source} and {other.source})")
    values = one.totals[metric], other.totals[metric]
    n = whole_numbers(values) if all(0 <= value <= 1 for value in values) else None
    if n is None or n < 2:
        raise FtlibError(
            f"{' and '.join(names)}: {metric} {values[0]:g} and {values[1]:g}; no interval is possible: the files hold "
            "totals of one seed, and neither results of single examples nor how many there were"
        )
    margin = USUAL[CLASSIFICATION].margin if margin is None else margin
    found = z_test(*values, *(math.sqrt(value * (1 - value) / (n - 1)) for value in values), alpha)
    measured = Difference(
        found.difference,
        found.low,
        found.high,
        found.p_value,
        1.0,
        math.nan,
        math.nan,
        False,
        margin,
        alpha,
        1,
        n,
        n,
        None,
    )
    levels = tuple(Interval(value, math.nan, math.nan) for value in values)
    made = Compared(
        *names, "", metric, margin, 100, levels, 0, 1, "", (n, n), Pair(*names, None, math.nan), None, found, True, ()
    )  # fmt: skip
    return measured, Voice(*names, "points", up, unpaired=(1, 1)), made


def matched(
    names: tuple[str, str], one: Results, other: Results, common: bool = False
) -> tuple[tuple[np.ndarray, np.ndarray], str]:
    """The rows of both that are the same example, and what says so: the id, or the text.

    An id says so only where no text and no label of the two contradicts it.

    Raises:
        FtlibError: Some example of either has no counterpart (with `common`: all but one), with how many.
    """
    sizes = [len(_any(x).ids) for x in (one, other)]
    tries = []
    for by in ("id", "text"):
        keys = [_keys(x, by) for x in (one, other)]
        if None in keys:
            continue
        place = {key: row for row, key in enumerate(keys[1])}
        rows = [(row, place[key]) for row, key in enumerate(keys[0]) if key in place]
        same = [pair for pair in rows if not _contradicts(one, other, *pair)]
        lone = [str(_any(one).ids[row]) for row, key in enumerate(keys[0]) if key not in place]
        right = set(same)
        wrong = [str(_any(one).ids[pair[0]]) for pair in rows if pair not in right]
        tries.append((same, by, lone, wrong))
    if not tries:
        raise FtlibError(
            f"{' and '.join(names)}: nothing to match the examples by: {' and '.join(_lacks(x) for x in (one, other))}"
        )
    same, by, lone, wrong = max(tries, key=lambda found: len(found[0]))
    if len(same) < 2 or (not common and not len(same) == sizes[0] == sizes[1]):
        left = [size - len(same) for size in sizes]
        said = " and ".join(f"{n} of {size} of {name}" for n, size, name in zip(left, sizes, names, strict=True))
        said = f"examples that do not match by {by}: {said}"
        if lone:
            said += f"; not in B: {format.some(lone, 3)}"
        if wrong:
            said += f"; of the same {by} but with another {'text or ' * (by == 'id')}label: {format.some(wrong, 3)}"
        way = "" if len(same) < 2 else f"; --common compares the {len(same)} that do"
        raise FtlibError(f"{said}{way}")
    first, second = map(np.asarray, zip(*same, strict=True))
    return (first, second), by


def _keys(one: Results, by: str) -> list[Any] | None:
    ids = [str(example) for example in _any(one).ids]
    if by == "id":
        return ids if one.has_ids else None
    if not all(example in one.texts for example in ids):
        return None
    seen: dict[str, int] = {}
    keys = []
    for example in ids:
        said = " ".join(one.texts[example].split())
        seen[said] = seen.get(said, 0) + 1
        keys.append((said, seen[said]))
    return keys


def _lacks(one: Results) -> str:
    ids, texts = _keys(one, "id") is not None, _keys(one, "text") is not None
    return f"{one.name} has {'ids' if ids else 'no ids'} and {'texts' if texts else 'no texts'}"


def _contradicts(one: Results, other: Results, row: int, place: int) -> bool:
    a, b = str(_any(one).ids[row]), str(_any(other).ids[place])
    if a in one.texts and b in other.texts and one.texts[a].split() != other.texts[b].split():
        return True
    rights = [_right_answer(x, at) for x, at in ((one, row), (other, place))]
    comparable = (_any(one).truth is None) == (_any(other).truth is None)
    return comparable and None not in rights and rights[0] != rights[1]


def _right_answer(one: Results, row: int) -> str | None:
    part = _any(one)
    if part.truth is not None:
        return part.labels[part.truth[row]]
    return one.answers.get(str(part.ids[row]), (None, ""))[0]


def _on_seeds(one: Results, other: Results) -> tuple[list[Part], list[Part]]:
    """The parts of both that are paired: on the seeds that both have, else in the order of the seeds."""
    if not (one.draws and other.draws):
        return list(one.parts.values()), list(other.parts.values())
    seeds = [tuple(sorted(x.parts)) for x in (one, other)]
    shared = tuple(seed for seed in seeds[0] if seed in seeds[1])
    if shared:
        return [one.parts[seed] for seed in shared], [other.parts[seed] for seed in shared]
    n = min(map(len, seeds))
    return [one.parts[seed] for seed in seeds[0][:n]], [other.parts[seed] for seed in seeds[1][:n]]


def _taken(part: Part, rows: np.ndarray) -> Part:
    def take(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[rows]

    return part._replace(
        ids=part.ids[rows],
        truth=take(part.truth),
        chosen=take(part.chosen),
        terms={name: values[rows] for name, values in part.terms.items()},
        numbers={name: values[rows] for name, values in part.numbers.items()},
        clusters=take(part.clusters),
    )


def _relabelled(part: Part, labels: tuple[str, ...]) -> Part:
    """The same predictions with the labels numbered as the other side numbers them, its own labels after those."""
    every = (*labels, *(label for label in part.labels if label not in labels))
    codes = np.asarray([every.index(label) for label in part.labels], dtype=np.int32)
    truth, chosen = (None if some is None else codes[some] for some in (part.truth, part.chosen))
    return part._replace(labels=every, truth=truth, chosen=chosen)


def _values(parts: Sequence[Part], metric: str) -> np.ndarray:
    """Values per run and example whose mean is the metric."""
    if metric == "accuracy":
        return np.stack([_right(part) for part in parts])
    if metric in OF_LABELS:
        return label_values(parts[0].truth, np.stack([part.chosen for part in parts]), metric)
    return np.stack([values_of(part, metric) for part in parts])


def _right(part: Part) -> np.ndarray:
    return part.terms["accuracy"] if part.truth is None else (part.truth == part.chosen).astype(float)


def _z_test(a: np.ndarray, b: np.ndarray, alpha: float) -> ZTest:
    means = [table.mean(axis=0) for table in (a, b)]
    return z_test(
        *(float(one.mean()) for one in means), *(float(one.std(ddof=1)) / len(one) ** 0.5 for one in means), alpha
    )


def _flips(
    one: Results, other: Results, sides: Sequence[Sequence[Part]], tables: Sequence[np.ndarray], metric: str, up: bool
) -> Iterator[Flip]:
    """Examples on which one did better, the largest difference first: by being right where there are answers."""
    answered = metric in OF_LABELS
    gains = [
        np.stack([_right(part) if answered else _by_itself(part, metric, row) for part, row in zip(*side, strict=True)])
        for side in zip(sides, tables, strict=True)
    ]
    gain = (gains[0].mean(axis=0) - gains[1].mean(axis=0)) * (1 if up else -1)
    for row in np.argsort(-np.abs(gain), kind="stable"):
        if gain[row] == 0:
            return
        a, b = (str(parts[0].ids[row]) for parts in sides)
        yield Flip(
            a,
            one.texts.get(a) or other.texts.get(b, ""),
            next((said for x, parts in zip((one, other), sides, strict=True) if (said := _label(x, parts, row))), ""),
            *(_said(x, parts, row) for x, parts in zip((one, other), sides, strict=True)),
            float(gain[row]),
        )


def _by_itself(part: Part, metric: str, values: np.ndarray) -> np.ndarray:
    """The metric of each example by itself: (n_examples,).

    Args:
        values: Whose mean is the metric; of a metric of sums they say what an example adds to it, and not its own.
    """
    if part.texts is not None:
        return text.SUMS[metric].value(part.counts(metric))
    if metric in language.METRICS_OF_TEXT:
        sums = np.stack(document_sums(part, metric))
        return np.array([METRICS[metric].function(*one) for one in sums.T[:, :, None]])
    return values


def _label(one: Results, parts: Sequence[Part], row: int) -> str:
    part = parts[0]
    if part.texts is not None:
        return str(part.texts[0][row])
    return one.answers.get(str(part.ids[row]), ("", ""))[0] if part.truth is None else part.labels[part.truth[row]]


def _said(one: Results, parts: Sequence[Part], row: int) -> str:
    """What was answered or written, by each run where they differ."""
    if parts[0].texts is not None:
        return " / ".join(dict.fromkeys(str(part.texts[1][row]) for part in parts))
    if parts[0].chosen is None:
        return one.answers.get(str(parts[0].ids[row]), ("", ""))[1]
    return " / ".join(dict.fromkeys(part.labels[part.chosen[row]] for part in parts))


class Condition(NamedTuple):
    """When a gate is not met."""

    said: str
    verdict: str = ""
    side: str = ""
    name: str = ""
    metric: str = ""
    test: str = ""
    number: float = math.nan


_TESTS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_VERDICTS = ("worse", "undecided", "same", "better")


def condition(said: str) -> Condition:
    """Read one --fail-if.

    Raises:
        FtlibError: Neither a verdict nor "NAME.METRIC < NUMBER".

    >>> condition("lora r=4.accuracy < 0.85")[3:]
    ('lora r=4', 'accuracy', '<', 0.85)
    """
    if said.strip() in _VERDICTS:
        return Condition(said, verdict=said.strip())
    found = re.fullmatch(r"\s*(?:([AB])[.:])?(.+)\.([\w,.-]+?)\s*(<=|>=|<|>)\s*([-+.\deE]+)\s*", said)
    try:
        side, name, metric, test, number = found.groups()
        return Condition(said, "", side or "", name.strip(), ALIASES.get(metric, metric), test, float(number))
    except (AttributeError, ValueError):
        raise FtlibError(
            f'--fail-if {said}: allowed: {", ".join(_VERDICTS)} (A against B), or "NAME.METRIC < NUMBER" (or <=, >, '
            '>=), such as "lora.accuracy < 0.85"; A. or B. in front says whose'
        ) from None


def check(conditions: Iterable[Condition], a: Source, b: Source, found: Sequence[Compared]) -> list[str]:
    """Every condition that holds, in words; none where the gate is met.

    Raises:
        FtlibError: A condition names what is not there.
    """
    failed = []
    for one in conditions:
        if one.verdict:
            failed += [
                f"{one.said}: {made.pair.comparison.sentence}"
                for made in found
                if made.pair.comparison.verdict == one.verdict
            ]
            continue
        able = [(side, x) for side in (a, b) if one.side in ("", side.side) for x in side.results]
        named = [(side, x) for side, x in able if x.name == one.name]
        # A method's name alone stands for every setting of it.
        named = named or [(side, x) for side, x in able if x.name.startswith(f"{one.name} ")]
        if not named:
            raise unknown("--fail-if", one.name, {x.name for _, x in able})
        # Whose is not said: of A, which is what is judged, where A has it.
        for side, x in ((side, x) for side, x in named if side is named[0][0]):
            if one.metric not in offered(x):
                raise unknown("--fail-if", one.metric, offered(x))
            value = level(x, one.metric).value
            shown = f"{side.named(x)} has {units.name(one.metric)} {value:.4g}"
            if math.isnan(value):
                failed.append(f"{one.said}: {units.name(one.metric)} of {side.named(x)} is not available")
            elif _TESTS[one.test](value, one.number):
                failed.append(f"{one.said}: {shown}")
    return failed


def lines(a: Source, b: Source, found: Sequence[Compared]) -> Iterator[str]:
    """What is printed."""
    yield from (f"{side.side}: {side.what}" for side in (a, b))
    head: tuple[Any, ...] = ()
    for one in found:
        if (said := (one.task, one.metric, one.n, one.margin, one.by)) != head:
            head = said
            yield ""
            yield _head(one)
        yield from _pair_lines(one, len(found))
    if lone := unpaired_names(a, b, found):
        yield ""
        yield f"not compared, without a counterpart: {', '.join(lone)} (--all-pairs compares every method with every)"


def _head(one: Compared) -> str:
    where = f"{one.task}, {units.name(one.metric)}" if one.task else units.name(one.metric)
    scale = one.scale
    margin = f"{scale * one.margin:g} point{'s' * (scale * one.margin != 1)}" if scale > 1 else f"{one.margin:g}"
    if not one.n:
        return (
            f"{where}: totals of one seed and no results of single examples, so no interval is possible beyond the "
            f"unpaired bound; at least {format.count(one.left[0])} examples each, from the totals; smallest difference "
            f"that matters {margin}"
        )
    left = "; left out, since they do not match: {} of A, {} of B".format(*one.left) if any(one.left) else ""
    n = format.plural(one.n, "example")
    return f"{where}: {n} matched by {one.by}{left}; smallest difference that matters {margin}"


def _pair_lines(one: Compared, family: int) -> Iterator[str]:
    found = one.pair.comparison
    scale = one.scale
    levels = (
        f"{name} {scale * x.value:.4g}"
        + ("" if math.isnan(x.low) else f" ({scale * x.low:.4g} to {scale * x.high:.4g})")
        for name, x in zip((one.a, one.b), one.levels, strict=True)
    )
    seeds = f", {format.plural(one.n_seeds, 'seed')}" if one.n_seeds > 1 else ""
    yield f"  {found.sentence}"
    yield f"    {'; '.join(levels)}{' %' * (scale > 1)}{seeds}"
    holm = f", {format.p_value(one.pair.p_holm)} corrected for {family} comparisons (Holm)" if family > 1 else ""
    yield f"    p = {format.p_value(found.p_value)}{holm}"
    if one.n and not one.flips:
        return  # The same on every example: there is nothing more to say.
    if one.detectable is not None:
        shown = f"{scale * one.detectable:.2g}{' points' * (scale > 1)}"
        yield f"    power: a true difference of {shown} between two like these is found 4 times of 5"
    elif one.n:
        yield "    power: no difference between two like these, however large, would be found 4 times of 5"
    if one.unpaired and one.foreign and one.n:
        z, points = one.unpaired, " points" * (scale > 1)
        bounds = f"{scale * z.low:.3g} to {scale * z.high:.3g}{points}"
        yield f"    unpaired, as lm_eval's comparator tests: z = {z.z:.2f}, p = {format.p_value(z.p_value)} ({bounds})"
    for better, sign in (("A", 1), ("B", -1)):
        flips = [flip for flip in one.flips if flip.gain * sign > 0]
        if not one.n:
            continue
        mean = ", mean over the seeds" * (one.n_seeds > 1)
        yield f"    {better} better on {format.plural(len(flips), 'example')}{mean}{':' * bool(flips)}"
        for flip in flips[:SHOWN]:
            answers = [_shortened(said) for said in (flip.label, flip.a_said, flip.b_said)]
            said = f"{flip.gain:+.3g}"
            if one.metric in text.SUMS:
                said = "{}; reference: {}, A: {}, B: {}".format(said, *answers)
            elif any(answers[1:]):
                said = "label {}, A {}, B {}".format(*answers)
            yield _plain(f"      {flip.id} [{said}] {_shortened(flip.text)}")
        if len(flips) > SHOWN:
            yield f"      and {len(flips) - SHOWN} more (--out FILE has them all)"


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LETTERS else text[: LETTERS - 1].rstrip() + "…"


def _plain(line: str) -> str:
    """Without what would drive a terminal."""
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in line)


def table_columns(said: str) -> dict[str, str]:
    """Read --columns.

    Raises:
        FtlibError: Not WHAT=NAME, or nothing that a table is read for.

    >>> table_columns("label=gold,prediction=answer")
    {'label': 'gold', 'prediction': 'answer'}
    """
    found = dict(pair.split("=", 1) for pair in said.split(",") if "=" in pair)
    if wrong := [
        pair for pair in filter(None, said.split(",")) if pair.partition("=")[0] not in COLUMNS or "=" not in pair
    ]:
        raise FtlibError(f"--columns {', '.join(wrong)}: write WHAT=NAME; WHAT is one of {', '.join(COLUMNS)}")
    return found


_FLIPS = ("a", "b", "task", "metric", "better", "id", "label", "a_said", "b_said", "gain_of_a", "text")


def flips_file(found: Sequence[Compared], suffix: str) -> str:
    """All flips as a file: CSV that a spreadsheet opens as text, or an HTML table in which nothing runs.

    Raises:
        FtlibError: Another ending.
    """
    rows = [
        {"a": one.a, "b": one.b, "task": one.task, "metric": one.metric, "better": "A" if flip.gain > 0 else "B"}
        | {"id": flip.id, "label": flip.label, "a_said": flip.a_said, "b_said": flip.b_said}
        | {"gain_of_a": flip.gain, "text": flip.text}
        for one in found
        for flip in one.flips
    ]
    if suffix == ".csv":
        return as_csv(rows, _FLIPS)
    if suffix == ".html":
        head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Examples that flipped</title>'
        return f"{head}<h1>Examples that flipped</h1>{html_table(_FLIPS, [list(row.values()) for row in rows])}</html>"
    raise FtlibError(f"--out: found {suffix or 'no ending'!r}; allowed: .csv, .html")
