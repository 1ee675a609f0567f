"""The evaluation "features": what a model's features still say about bundled tasks, read off by logistic regression.

An encoder gives no likelihood of general text; what it forgets shows in how well small tasks that it was not adapted to
can be read off its frozen features, before and after (a battery of linear probes: Conneau & Kiela 2018, section 2).
"""

from collections.abc import Sequence
from functools import cache, partial

from ftlib.config.methods import METHODS
from ftlib.data.evaluations import PROBE_TEST, PROBE_TRAIN
from ftlib.data.registry import load_task
from ftlib.data.task import Task
from ftlib.evaluation.evaluate import Parts, State, of_examples
from ftlib.metrics import metric_value
from ftlib.training.contract import Predictor


@cache
def _task(name: str) -> Task:
    return load_task(name)


def evaluate_linear_probes(state: State, part: str, tasks: Sequence[str]) -> Parts:
    """Accuracy of a linear probe for each task that a run is not adapted to, as the part `features:<task>`.

    The features are the base model's for a method that leaves it as it is, and the predictor's after one that trains.
    """
    from ftlib.methods.linear_probe import linear_head
    from ftlib.models.loading import features

    spec, model, predictor = state.spec, state.model, state.predictor
    encode = predictor.features or partial(features, model, max_length=spec.max_length)
    own = {spec.task, *spec.sequential_tasks, *spec.joint_tasks}
    found: Parts = {}
    for name in (name for name in tasks if name not in own):
        of_task = f"{part.partition(':')[0]}:{name}"
        if predictor.features is None and predictor.trainable is not None:
            reason = f"{spec.method} stands before the text; the features that read it are the untouched model's"
            found[of_task] = {"accuracy": metric_value(float("nan"), 0, 0, 0, reason)}, None
            continue
        task = _task(name)
        train = task.draw(train_limit=min(PROBE_TRAIN, len(task.splits["train"])), seed=0)
        C = METHODS["probe"].arguments["C"][0]
        head = linear_head(encode(train["text"].tolist()), train["label"], task.labels, C)
        probe = Predictor(0, 0, 0, lambda texts, head=head: head(encode(texts)))
        found[of_task] = of_examples(state.stage, of_task, task, task.test_set(PROBE_TEST), probe)
    return found
