"""What each method takes, on what terms it ran, and what `ftlib plan` predicted of the runs beside what they took."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib.config.methods import METHODS
from ftlib.core import format
from ftlib.core.errors import FtlibError
from ftlib.records import RunRecord, provenance
from ftlib.records.study import Group, Run, Study, differing
from ftlib.report.blocks import Block, Cell, Fold, Heading, Note, Section, Table, plain_table
from ftlib.report.sections.runs import long_name

if TYPE_CHECKING:
    from ftlib.report.build import Reading

GIGA = 1e9


def costs(study: Study) -> Table:
    """What every group of runs took, on average; a column that no run has a number for is left out."""
    groups = [group for group in study.groups if group.ok]
    columns = {
        "training examples": _examples,
        "training time": _training,
        "evaluation time": lambda group: _plain(format.seconds(mean(group, "eval_seconds"))),
        "prediction": _prediction,
        "peak memory": lambda group: _plain(format.size(mean(group, "peak_memory_bytes"))),
        "trainable parameters": _trainable,
        "stored": lambda group: _plain(format.size(mean(group, "checkpoint_bytes"))),
        "share of peak FLOP/s": _of_peak,
        "runs": lambda group: _plain(str(len(group.ok))),
    }
    cells = {name: [cell(group) for group in groups] for name, cell in columns.items()}
    shown = {name: found for name, found in cells.items() if any(cell.text + cell.small for cell in found)}
    several = len({group.task for group in study.groups}) > 1
    body = [
        ((group.name, group.task if several else ""), *(found[place] for found in shown.values()))
        for place, group in enumerate(groups)
    ]
    return plain_table("What each method takes, mean over its runs", ("method", *shown), body)


def settings(study: Study) -> Table | None:
    """The fields in which the methods differ beside their name, so that unequal terms are seen."""
    said = differing([{**group.runs[0].resolved, "method_args": {}} for group in study.groups])
    body = []
    for group, line in zip(study.groups, said, strict=True):
        own = group.runs[0].resolved.get("method_args", {})
        given = " ".join(f"{k}={json.dumps(v)}" for k, v in own.items() if v != "")
        body.append((long_name(study, group), line, given, _tuned(group)))
    header = ("method", "settings that differ", "the method's own", "chosen on validation")
    shown = 4 if any(row[3] for row in body) else 3
    caption = "Settings of each method"
    return plain_table(caption, header[:shown], [row[:shown] for row in body], texts=4) if body else None


def _tuned(group: Group) -> str:
    found = [run.record.provenance.get("tuned") for run in group.ok]
    rates = [
        f"{t['learning_rate']:.2g} of {len(t.get('tried', []))}"
        for t in found
        if isinstance(t, dict) and "learning_rate" in t
    ]
    return f"learning_rate {', '.join(rates)}" if rates else ""


def mean(group: Group, name: str) -> float | None:
    """Mean of a cost over the runs that finished; None where any did not measure it."""
    return _mean(group, lambda run: run.record.cost.get(name))


def pooled_speed(group: Group, name: str) -> float | None:
    """Examples a second of all runs together, as if each had so many; None where any did not measure it."""
    found = _mean(group, lambda run: 1 / rate if (rate := run.record.cost.get(name)) else None)
    return None if found is None else 1 / found


def _mean(group: Group, of: Callable[[Run], float | None]) -> float | None:
    values = [of(run) for run in group.ok]
    return None if any(value is None for value in values) else float(np.mean(values))


def seconds_per_thousand(group: Group) -> list[float]:
    """Seconds that each run needed to answer 1 000 texts; empty where a run does not say.

    Of a run that did not measure it the time of evaluation stands for it, unless that is spent on anything but a model.
    """
    found, modelled = [], group.method in METHODS and METHODS[group.method].model
    for run in group.ok:
        speed, seconds = (run.record.cost.get(name) for name in ("predict_examples_per_second", "eval_seconds"))
        part = run.parts.get(("after", "test"))
        if speed:
            found.append(1000 / speed)
        elif seconds is not None and part is not None and modelled:
            # The time of evaluation is that of the test set alone.
            found.append(1000 * seconds / len(part.ids))
    return found if len(found) == len(group.ok) else []


def share_of_peak(run: Run) -> float | None:
    """Arithmetic of a training as a share of the matmul peak measured on its machine; None where either is unknown."""
    done, peak = (run.record.cost.get(name) for name in ("achieved_flops_per_second", "matmul_peak_flops_per_second"))
    return done / peak if done is not None and peak else None


def _plain(said: str, *small: str) -> Cell:
    """A number with what there is to say below it, each on a line of its own where it does not fit on one."""
    return Cell(said, ", ".join(one.replace(" ", "\N{NO-BREAK SPACE}") for one in small), number=True)


def _examples(group: Group) -> Cell:
    return _plain(format.count(0 if _untaught(group) else mean(group, "train_examples")))


def _untaught(group: Group) -> bool:
    """Whether it is a model to which nothing was taught."""
    method = METHODS.get(group.method)
    return method is not None and method.model and not method.draws


def _training(group: Group) -> Cell:
    """How long, how fast, and how much of it went into watching validation."""
    if _untaught(group):
        return _plain("none")
    fast, watching = pooled_speed(group, "train_examples_per_second"), mean(group, "validation_seconds")
    said = [f"{format.count(round(fast))} examples/s"] if fast is not None else []
    said += [f"{format.seconds(watching)} validation"] if watching else []
    return _plain(format.seconds(mean(group, "train_seconds")), *said)


def _prediction(group: Group) -> Cell:
    """How many texts a second, how long one alone takes, and the memory of a process that does nothing else."""
    fast, memory = pooled_speed(group, "predict_examples_per_second"), mean(group, "predict_memory_bytes")
    if fast is None:
        return _plain("")
    one, slow = (mean(group, f"predict_latency_{name}_seconds") for name in ("median", "p99"))
    said = [] if one is None else [f"one text {1000 * one:.3g} ms", f"99 % within {1000 * slow:.3g} ms"]
    said += [f"{format.size(memory)} of memory"] if memory is not None else []
    return _plain(f"{fast:.3g} texts/s" if fast < 100 else f"{format.count(round(fast))} texts/s", *said)


def _trainable(group: Group) -> Cell:
    """How many parameters move, and which share of all that is."""
    moving, total = mean(group, "trainable_parameters"), mean(group, "total_parameters")
    said = f"{share(moving, total)} of {format.count(total)}" if moving is not None and total else ""
    return _plain(format.count(moving), said)


def share(part: float, total: float) -> str:
    """A share in per cent with two digits that count.

    >>> share(663_552, 22_716_296), share(5, 5), share(3, 100_000)
    ('2.9 %', '100 %', '0.003 %')
    """
    value = 100 * part / total
    return f"{value:.0f} %" if value >= 9.95 or value == 0 else f"{value:.2g} %"


def _of_peak(group: Group) -> Cell:
    """Model FLOPs utilization (Chowdhery et al. 2022, appendix B): what is cleverly left out counts as done."""
    done, used = mean(group, "achieved_flops_per_second"), _mean(group, share_of_peak)
    if done is None:
        return _plain("")
    if used is None:
        return _plain(format.NONE, f"{done / GIGA:.3g} GFLOP/s", "peak not measured")
    peak = mean(group, "matmul_peak_flops_per_second") / GIGA
    return _plain(f"{100 * used:.0f} %", f"{done / GIGA:.3g} of {peak:.3g} GFLOP/s")


def shared(study: Study) -> str:
    """How much work was not done again, in words; empty where none was spared, or no record says."""
    runs = [run.record.cost.get("shared_seconds") for group in study.groups for run in group.ok]
    spared = [value for value in runs if value]
    if not spared:
        return ""
    return (
        f"Computed once and shared: {format.seconds(sum(spared))} of work, by {format.plural(len(spared), 'run')} that "
        "took what another had computed (answers and features of the untouched model). The times above are what each "
        "run takes by itself."
    )


_WHAT = {
    "peak_memory_bytes": ("peak memory", format.size),
    "seconds": ("time", format.seconds),
    "checkpoint_bytes": ("stored", format.size),
}
"""What is predicted: its name and how it is said."""


class Compared(NamedTuple):
    """What was predicted of the runs of a method, and what was so."""

    task: str
    model: str
    """Empty for a method without one."""
    method: str
    what: str
    """peak_memory_bytes, seconds (of training and evaluation) or checkpoint_bytes."""
    predicted: float
    """Mean over the runs."""
    actual: float
    """Mean over the same runs."""
    ratio: float
    """predicted / actual; NaN where actual is 0."""
    lowest: float
    """The smallest ratio of a single run."""
    highest: float
    n: int
    """Runs that ended well and of which something was predicted."""


def against(runs: Iterable[tuple[Path, RunRecord]]) -> list[Compared]:
    """What was predicted of a study's runs beside what they needed: one row per task, model, method and what was
    predicted; none where nothing was.

    Args:
        runs: Run folder and record, as `ftlib.records.records_of` yields them.
    """
    found: dict[tuple[str, str, str, str], list[tuple[float, float]]] = {}
    for folder, record in runs:
        try:
            said = provenance.request(folder).get("predicted")
        except FtlibError:  # A damaged request says nothing of what its record holds.
            continue
        if not said or record.status != "ok":
            continue
        names, resolved = ("train_seconds", "eval_seconds"), record.spec["resolved"]
        for what in ("peak_memory_bytes", "seconds", "checkpoint_bytes"):
            parts = names if what == "seconds" else (what,)
            pair = [sum(source.get(name) or 0.0 for name in parts) for source in (said, record.cost)]
            if all(said.get(name) is not None for name in parts) and any(pair):
                key = (resolved["task"], resolved["model"], resolved["method"], what)
                found.setdefault(key, []).append((pair[0], pair[1]))
    return [Compared(*key, *_compared(pairs)) for key, pairs in found.items()]


def _compared(pairs: Sequence[tuple[float, float]]) -> tuple[float, float, float, float, float, int]:
    """Means, their ratio, and the ratios of single runs at both ends.

    >>> _compared([(2, 1), (2, 4)])
    (2.0, 2.5, 0.8, 0.5, 2.0, 2)
    """
    said, was = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    ratios = [a / b if b else math.nan for a, b in pairs]
    return said, was, said / was if was else math.nan, min(ratios), max(ratios), len(pairs)


def prediction_rows(found: Sequence[Compared]) -> list[dict[str, Any]]:
    """Predicted against actual, as report.json holds it."""
    return [
        {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in one._asdict().items()}
        for one in found
    ]


def _sentence(found: Sequence[Compared]) -> str:
    """How far the predictions were off, over the methods."""
    said = []
    for what, (name, _) in _WHAT.items():
        ratios = [one.ratio for one in found if one.what == what and not math.isnan(one.ratio)]
        if ratios:
            ends = " to ".join(dict.fromkeys((_times(min(ratios)), _times(max(ratios)))))
            half = f" (half of {format.plural(len(ratios), 'method')} below {_times(median(ratios))})"
            said.append(f"{name} {ends}{half if len(ratios) > 2 else ''}")
    return f"Predicted as a multiple of what it was: {'; '.join(said)}." if said else "Nothing predicted was measured."


def _times(ratio: float) -> str:
    """A ratio with two digits that count, and no more than that.

    >>> _times(0.8312), _times(1.049), _times(13.2)
    ('0.83×', '1.05×', '13×')
    """
    return f"{ratio:.0f}×" if ratio >= 9.95 else f"{ratio:.2f}×"


def _table(found: Sequence[Compared]) -> Table:
    several = {name for name in ("task", "model") if len({getattr(one, name) for one in found} - {""}) > 1}
    methods: dict[tuple[str, str, str], dict[str, Compared]] = {}
    for one in found:
        methods.setdefault((one.task, one.model, one.method), {})[one.what] = one
    body = []
    for (task, model, method), by_what in methods.items():
        name = f"{method} ({model})" if "model" in several and model else method
        n = max(one.n for one in by_what.values())
        cells = [_cell(by_what.get(what), said) for what, (_, said) in _WHAT.items()]
        body.append(((name, task if "task" in several else ""), *cells, str(n)))
    header = ("method", *(name for name, _ in _WHAT.values()), "runs")
    return plain_table("Predicted against actual, mean over the runs", header, body)


def _cell(one: Compared | None, said: Any) -> Cell:
    if one is None:
        return Cell(format.NONE, number=True)
    both = f"{said(one.predicted)}, was {said(one.actual)}"
    if math.isnan(one.ratio):
        return Cell(format.NONE, both, number=True)
    runs = f" ({_times(one.lowest)} to {_times(one.highest)})" if one.n > 1 else ""
    return Cell(_times(one.ratio) + runs, both, number=True)


class Costs(NamedTuple):
    """What a study took."""

    study: Study
    folded: bool
    """Whether there are so many settings that the table is shown on demand."""
    predicted: tuple[Compared, ...]


def _read(reading: "Reading") -> Costs:
    few_shot = any(one.shots for one in reading.comparisons)
    return Costs(reading.study, few_shot, tuple(against((run.folder, run.record) for run in reading.study.runs)))


def _blocks(found: Costs) -> Iterator[Block]:
    taken = costs(found.study)
    if not taken.rows:
        yield Note("No run has finished.")
    elif found.folded:
        yield Fold(format.plural(len(taken.rows), "setting"), (taken,))
    else:
        yield taken
    if said := shared(found.study):
        yield Note(said)
    if found.predicted:
        yield Heading("Predicted against actual")
        yield Note(_sentence(found.predicted), quiet=False)
        yield Note(
            "What was predicted before the runs, as a multiple of what they took (in brackets the least and the most "
            "of single runs); time is that of training and evaluation."
        )
        yield _table(found.predicted)
    if terms := settings(found.study):
        yield Fold("Settings of each method", (terms,))


SECTION = Section(
    name="costs",
    title="What it costs",
    read=_read,
    columns={
        "predicted": ("task", "model", "method", "what", "predicted", "actual", "ratio", "lowest", "highest", "n"),
    },
    rows=lambda found: {"predicted": prediction_rows(found.predicted)},
    blocks=_blocks,
)
