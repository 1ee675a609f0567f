"""The probe "features": what a model's features still say about the bundled tasks, read off by logistic regression.

An encoder gives no likelihood of general text; what it forgets shows in how well small tasks that it was not adapted to
can be read off its frozen features, before and after (a battery of linear probes: Conneau & Kiela 2018, section 2).
"""

from functools import cache, partial
from typing import TYPE_CHECKING

from ftlib.config.experiment import Experiment
from ftlib.config.methods import CLASSIFICATION, METHODS
from ftlib.data.registry import TASKS, kind_of, load_task
from ftlib.data.task import Task
from ftlib.evaluation.examples import of_examples
from ftlib.metrics import metric_value
from ftlib.training.contract import Predictor

if TYPE_CHECKING:
    import pandas as pd

    from ftlib.models.loading import Model

TRAIN, TEST = 400, 300
"""Examples a probe is fitted to and tested on, the same ones for every run."""


@cache
def _task(name: str) -> Task:
    return load_task(name)


def names(spec: Experiment) -> list[str]:
    """The bundled tasks that a run is not adapted to.

    >>> names(Experiment(task="pydocs"))
    ['reviews', 'bios']
    """
    own = {spec.task, *spec.sequential_tasks, *spec.joint_tasks}
    return [name for name in TASKS if kind_of(name) == CLASSIFICATION and name not in own]


def evaluate_linear_probes(
    stage: str, spec: Experiment, model: "Model", predictor: Predictor
) -> dict[str, tuple[dict, "pd.DataFrame | None"]]:
    """Accuracy of a linear probe per task, as the part `features:<task>`.

    Args:
        stage: Of the record.
        spec: max_length (tokens) is read; its own tasks are left out.
        model: The base model, whose features are those of a method that leaves it as it is.
        predictor: After a method that trains; its `features` are read.
    """
    from ftlib.methods.linear_probe import linear_head
    from ftlib.models.loading import features

    encode = predictor.features or partial(features, model, max_length=spec.max_length)
    found: dict[str, tuple[dict, pd.DataFrame | None]] = {}
    for name in names(spec):
        part = f"features:{name}"
        if predictor.features is None and predictor.trainable is not None:
            reason = f"{spec.method} stands before the text; the features that read it are the untouched model's"
            found[part] = {"accuracy": metric_value(float("nan"), 0, 0, 0, reason)}, None
            continue
        task = _task(name)
        train = task.draw(train_limit=min(TRAIN, len(task.splits["train"])), seed=0)
        C = METHODS["probe"].arguments["C"][0]
        head = linear_head(encode(train["text"].tolist()), train["label"], task.labels, C)
        probe = Predictor(0, 0, 0, lambda texts, head=head: head(encode(texts)))
        found[part] = of_examples(stage, part, task, task.test_set(TEST), probe)
    return found
