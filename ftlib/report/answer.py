"""The answer at the end of a run_ notebook: the method beside its rivals and the base model, in words and a picture."""

from typing import TYPE_CHECKING

import numpy as np

from ftlib.config.experiment import Experiment, draws
from ftlib.core import format
from ftlib.core.html import Shown, paragraph
from ftlib.core.html import table as html_table
from ftlib.metrics import units
from ftlib.metrics.shown import FIRST
from ftlib.report.figures import picture
from ftlib.report.plots import methods
from ftlib.report.sections.comparison import BASE, unit_of
from ftlib.stats.verdict import compare

if TYPE_CHECKING:
    from ftlib.evaluation.examples import Evaluated
    from ftlib.execution.run import Adapted, Rival

MARGIN = 0.02
"""The smallest difference that matters here; a study says its own."""


def answer(
    spec: Experiment,
    before: "Evaluated",
    adapted: "Adapted",
    after: "Evaluated",
    *rivals: "Rival | None",
    margin: float = MARGIN,
) -> Shown:
    """What one run says of its method: a sentence against each rival and the base model, a picture, and what each took.

    Args:
        rivals: Other methods on the same examples (`ftlib.rival`); None, as within a study, is left out.
        margin: The smallest difference that matters, in the metric's unit.
    """
    metric = next((name for name in FIRST if name in after.metrics["test"]), next(iter(after.metrics["test"])))
    able: list[Measured] = [(spec.method, spec, adapted, after)]
    able += [(one.name, one.spec, one.adapted, one.after) for one in rivals if one]
    # Zero-shot, measured afterwards, is the base model.
    if before.predictions is not None and not np.array_equal(before.scores(), after.scores()):
        able.append((BASE, None, None, before))
    said = [_sentence(metric, able[0], other, margin) for other in able[1:]]
    told = "".join(paragraph(f"{one}.", strong=True) for one in said)
    return Shown(told + _table(metric, able) + _forest(metric, able), "\n".join(said))


Measured = tuple[str, Experiment | None, "Adapted | None", "Evaluated"]
"""A name, and what was measured under it."""


def _sentence(metric: str, one: Measured, other: Measured, margin: float) -> str:
    losses = -1 if units.of_text(metric) else 1
    seeded = any(spec is not None and draws(spec.resolved()) for _, spec, _, _ in (one, other))
    names = {"name_a": one[0], "name_b": other[0], "unit": unit_of(metric), "higher_is_better": losses > 0}
    scores = (losses * measured.scores() for _, _, _, measured in (one, other))
    said = compare(*scores, margin=margin, rng=np.random.default_rng(0), seeded=seeded, **names).sentence
    needed, _, numbers = said.removeprefix("undecided: ").partition("; ")
    return f"{numbers}; no significant difference found: {needed}" if said.startswith("undecided: ") else said


def _forest(metric: str, able: list[Measured]) -> str:
    by, leaves = units.scale(metric), [one[3].metrics["test"][metric] for one in able]
    bounds = ("value", "low", "high")
    values = [[np.nan if leaf[name] is None else by * leaf[name] for leaf in leaves] for name in bounds]
    names = [one[0] for one in able]
    height = 0.75 + 0.3 * len(able)
    drawn = picture(methods.forest, names, *values, label=units.heading(metric), height=height)
    return drawn._repr_html_()


def _table(metric: str, able: list[Measured]) -> str:
    rows = []
    for name, _, adapted, measured in able:
        leaf = measured.metrics["test"][metric]
        shown = f"{units.level(metric, leaf['value'])} ({units.span(metric, leaf['low'], leaf['high'])})"
        took = (
            (format.count(adapted.predictor.trainable_parameters), format.seconds(adapted.cost["train_seconds"]))
            if adapted
            else ("none", "none")
        )
        rows.append((name, shown, leaf["n"], *took))
    header = ("method", f"{units.heading(metric)} (95 % interval)", "n", "trainable parameters", "training time")
    return html_table(header, rows)
