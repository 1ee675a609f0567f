"""What one state of a model shows: on its task, and on everything that is measured beside it."""

from typing import TYPE_CHECKING

from ftlib.config.experiment import Experiment
from ftlib.data import bundled
from ftlib.data.probes import is_bias
from ftlib.data.task import Task, limited
from ftlib.evaluation.examples import Evaluated, _of_text, clock, joined, of_examples
from ftlib.metrics import metric_value
from ftlib.metrics.language import Likelihood
from ftlib.training.contract import Predictor

if TYPE_CHECKING:
    import pandas as pd

    from ftlib.models.loading import Model


def evaluate(
    stage: str, spec: Experiment, task: Task, model: "Model | None", predictor: Predictor, part: str = "test"
) -> Evaluated:
    """Measure a predictor on its task, and on what else the experiment asks for.

    Args:
        stage: before, after, or the name of a state between them.
        spec: eval_limit and probes are read.
        task: Its data; where the test split is measured, the task's other test sets are too, as `tests.<name>`.
        model: The base model, if there is one.
        predictor: What answers.
        part: "test", or another split.
    """
    start = clock()
    examples = task.test_set(spec.eval_limit) if part == "test" else task.splits[part]
    found = {part: of_examples(stage, part, task, examples, predictor)}
    seconds = clock() - start
    if part == "test":
        for name, rows in task.tests.items():
            other = f"tests.{name}"
            found[other] = of_examples(stage, other, task, limited(rows, spec.eval_limit), predictor)
        if model is not None:
            found |= evaluate_others(stage, spec, task, model, predictor)
    return joined(found, seconds)


def evaluate_others(
    stage: str, spec: Experiment, task: Task, model: "Model", predictor: Predictor
) -> dict[str, tuple[dict, "pd.DataFrame | None"]]:
    """What the model's other tasks and the probes of an experiment show: what adapting did to everything else."""
    found: dict[str, tuple[dict, pd.DataFrame | None]] = {}
    for name, (other, answers) in predictor.members.items():
        found[name] = of_examples(stage, name, other, other.test_set(spec.eval_limit), answers)
    if "general" in spec.evaluations:
        found["general"] = _general(stage, model, predictor.likelihood)
    if "features" in spec.evaluations:
        from ftlib.evaluation import linear_probes

        found |= linear_probes.evaluate_linear_probes(stage, spec, model, predictor)
    if spec.canaries:
        from ftlib.evaluation import memorization

        found |= memorization.evaluate_memorization(stage, spec, task, model, predictor)
    for name in filter(is_bias, spec.evaluations):
        from ftlib.evaluation import bias_probes

        found |= bias_probes.evaluate_bias(stage, spec, task, model, predictor, name)
    return found


def _general(stage: str, model: "Model", likelihood: Likelihood | None) -> tuple[dict, "pd.DataFrame | None"]:
    if likelihood is None:
        reason = f"this {model.family}, as adapted, gives no likelihood of running text"
        return {"bits_per_byte": metric_value(float("nan"), 0, 0, 0, reason)}, None
    return _of_text(stage, "general", bundled.load_general(), likelihood)
