"""What one state of a model shows: on its task, and on everything that is measured beside it."""

from typing import TYPE_CHECKING, Any

from ftlib.config.experiment import Experiment
from ftlib.core.atomic import clock, saved_seconds
from ftlib.data.evaluations import EVALUATIONS, evaluation_of
from ftlib.data.kinds import ENCODER, ENCODER_DECODER, KINDS
from ftlib.data.task import Task, limited
from ftlib.evaluation.examples import Evaluated, Parts, State, evaluate_text, joined, of_examples
from ftlib.metrics import metric_value
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
        spec: eval_limit and evaluations are read.
        task: Its data; where the test split is measured, the task's other test sets are too, as `tests.<name>`.
        model: The base model, if there is one.
        predictor: What answers.
        part: "test", or another split.
    """
    start, spared = clock(), saved_seconds()
    examples = task.test_set(spec.eval_limit) if part == "test" else task.splits[part]
    found = {part: of_examples(stage, part, task, examples, predictor)}
    seconds = clock() - start
    _say_cut(spec, task, model, examples, found[part])
    if part == "test":
        for name, rows in task.tests.items():
            other = f"tests.{name}"
            rows = limited(rows, spec.eval_limit)
            found[other] = of_examples(stage, other, task, rows, predictor)
            _say_cut(spec, task, model, rows, found[other])
        if model is not None:
            found |= evaluate_others(stage, spec, task, model, predictor)
    return joined(found, seconds, saved_seconds() - spared)


def _say_cut(
    spec: Experiment,
    task: Task,
    model: "Model | None",
    examples: "pd.DataFrame",
    found: "tuple[dict[str, Any], pd.DataFrame | None]",
) -> None:
    """Note with each answer whether its text was read to its end: by the run's own tokenizer and `max_length`."""
    kind = KINDS[task.kind]
    if model is not None and not kind.of_text and found[1] is not None:
        from ftlib.models.prompts import are_cut

        special = model.family == ENCODER or (kind.writes and model.family == ENCODER_DECODER)
        found[1]["cut"] = are_cut(model.tokenizer, examples["text"].tolist(), spec.max_length, special)


def evaluate_others(stage: str, spec: Experiment, task: Task, model: "Model", predictor: Predictor) -> Parts:
    """What the model's other tasks and the evaluations of an experiment show: what adapting did to everything else."""
    found: Parts = {}
    for name, (other, answers) in predictor.members.items():
        found[name] = of_examples(stage, name, other, other.test_set(spec.eval_limit), answers)
    fields = [row for row in EVALUATIONS.values() if row.field != "evaluations" and getattr(spec, row.field)]
    for name in (*spec.evaluations, *(row.name for row in fields)):
        found |= evaluate_named(stage, spec, task, model, predictor, name)
    return found


def evaluate_named(stage: str, spec: Experiment, task: Task, model: "Model", predictor: Predictor, name: str) -> Parts:
    """What one evaluation shows of one state of a model.

    Args:
        stage: Of the record.
        spec: eval_limit, max_length and what else the evaluation reads.
        task: Its test texts and labels are what some evaluations ask about.
        model: The base model.
        predictor: What answers.
        name: As a plan writes it; see EVALUATIONS (`ftlib.data.evaluations`).
    """
    row = evaluation_of(name)
    return row.function()(State(stage, spec, task, model, predictor), row.part(name), row.data(name))


def evaluate_general(state: State, part: str, documents: "pd.DataFrame") -> Parts:
    """How likely general text is."""
    if state.predictor.likelihood is None:
        reason = f"this {state.model.family}, as adapted, gives no likelihood of running text"
        return {part: ({"bits_per_byte": metric_value(float("nan"), 0, 0, 0, reason)}, None)}
    return {part: evaluate_text(state.stage, part, None, documents, state.predictor)}
