"""What each method takes: time, memory, what moves, what is stored, and how much of the machine it used."""

from collections.abc import Callable

import numpy as np

from ftlib.methods import METHODS
from ftlib.report import say
from ftlib.report.study import Group, Run, Study
from ftlib.report.tables import Cell, Table

GIGA = 1e9


def costs(study: Study) -> Table:
    """What every group of runs took, on average; a column that no run has a number for is left out."""
    groups = [group for group in study.groups if group.ok]
    columns = {
        "training examples": _examples,
        "training time": _training,
        "evaluation time": lambda group: _plain(say.seconds(mean(group, "eval_seconds"))),
        "peak memory": lambda group: _plain(say.size(mean(group, "peak_memory_bytes"))),
        "trainable parameters": _trainable,
        "stored": lambda group: _plain(say.size(mean(group, "checkpoint_bytes"))),
        "of the matmul peak": _of_peak,
        "runs": lambda group: _plain(str(len(group.ok))),
    }
    cells = {name: [cell(group) for group in groups] for name, cell in columns.items()}
    shown = {name: found for name, found in cells.items() if any(cell.text + cell.small for cell in found)}
    header = (Cell("method"), *(Cell(name, number=True) for name in shown))
    several = len({group.task for group in study.groups}) > 1
    body = [
        (Cell(group.name, group.task if several else "", strong=True), *(found[place] for found in shown.values()))
        for place, group in enumerate(groups)
    ]
    return Table("What each method takes, mean over its runs", header, tuple(body))


def mean(group: Group, name: str) -> float | None:
    """Mean of a cost over the runs that finished; None where any did not measure it."""
    return _mean(group, lambda run: run.record.cost.get(name))


def _mean(group: Group, of: Callable[[Run], float | None]) -> float | None:
    values = [of(run) for run in group.ok]
    return None if any(value is None for value in values) else float(np.mean(values))


def share_of_peak(run: Run) -> float | None:
    """Arithmetic of a training as a share of the matmul peak measured on its machine; None where either is unknown."""
    done, peak = (run.record.cost.get(name) for name in ("achieved_flops_per_second", "matmul_peak_flops_per_second"))
    return done / peak if done is not None and peak else None


def _plain(said: str, *small: str) -> Cell:
    """A number with what there is to say below it, each on a line of its own where it does not fit on one."""
    return Cell(said, ", ".join(one.replace(" ", "\N{NO-BREAK SPACE}") for one in small), number=True)


def _examples(group: Group) -> Cell:
    method = METHODS.get(group.method)
    untaught = method is not None and method.model and not method.draws
    return _plain(say.count(0 if untaught else mean(group, "train_examples")))


def _training(group: Group) -> Cell:
    """How long, how fast, and how much of it went into watching validation."""
    speed, watching = mean(group, "train_examples_per_second"), mean(group, "validation_seconds")
    said = [f"{say.count(round(speed))} examples/s"] if speed is not None else []
    said += [f"{say.seconds(watching)} validation"] if watching else []
    return _plain(say.seconds(mean(group, "train_seconds")), *said)


def _trainable(group: Group) -> Cell:
    """How many parameters move, and which share of all that is."""
    moving, total = mean(group, "trainable_parameters"), mean(group, "total_parameters")
    said = f"{share(moving, total)} of {say.count(total)}" if moving is not None and total else ""
    return _plain(say.count(moving), said)


def share(part: float, total: float) -> str:
    """A share in per cent with two digits that count.

    >>> share(663_552, 22_716_296), share(5, 5), share(3, 100_000)
    ('2.9 %', '100 %', '0.003 %')
    """
    value = 100 * part / total
    return f"{value:.0f} %" if value >= 9.95 or value == 0 else f"{value:.2g} %"


def _of_peak(group: Group) -> Cell:
    """How much of the machine's measured peak the arithmetic of the training reached."""
    done, used = mean(group, "achieved_flops_per_second"), _mean(group, share_of_peak)
    if done is None:
        return _plain("")
    if used is None:
        return _plain(say.NONE, f"{done / GIGA:.3g} GFLOP/s", "peak not measured")
    peak = mean(group, "matmul_peak_flops_per_second") / GIGA
    return _plain(f"{100 * used:.0f} %", f"{done / GIGA:.3g} of {peak:.3g} GFLOP/s")
