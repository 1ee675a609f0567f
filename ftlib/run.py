"""One experiment, from its spec to its record: the stages in order, on one page.

The run_ notebooks call the same functions, a cell each; a test holds the two together.
"""

import sys
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ftlib import provenance, records
from ftlib.data import Task, load_task
from ftlib.data.cache import saved_seconds
from ftlib.errors import Diverged, FtlibError
from ftlib.methods import METHODS, Classifier
from ftlib.metrics import leaf, measure
from ftlib.records import Events, RunRecord
from ftlib.spec import Experiment

if TYPE_CHECKING:
    import pandas as pd

    from ftlib.models import Model


class Measured(NamedTuple):
    """What one stage showed."""

    metrics: dict[str, dict]
    """part -> metric -> {"value", "low", "high", "n"}."""
    predictions: "pd.DataFrame | None"
    """One row per example; None where there is nothing to predict with."""
    seconds: float

    def correct(self) -> np.ndarray:
        """(n_examples,): whether each example's prediction is its label."""
        return (self.predictions["label"] == self.predictions["prediction"]).to_numpy()

    def mistakes(self, task: Task, most: int = 3) -> "pd.DataFrame":
        """The examples it got wrong with the most confidence."""
        wrong = self.predictions[~self.correct()]
        sure = wrong.filter(regex="^score_").max(axis=1).sort_values(ascending=False, kind="stable")
        chosen = wrong.loc[sure.index[:most], ["id", "label", "prediction"]].assign(confidence=sure.round(3))
        return chosen.merge(task.splits["test"][["id", "text"]], on="id")

    def _repr_html_(self) -> str:
        return RunRecord("", "ok", {}, metrics=self.metrics)._repr_html_()


class Adapted(NamedTuple):
    """An adapted model and what adapting it took."""

    classifier: Classifier
    cost: dict[str, float | None]
    tuned: dict[str, object]
    """The setting that validation chose and all that were tried; empty where the plan gives no tuning budget."""


def run(spec: Experiment, run_dir: str | Path | None = None) -> RunRecord:
    """Run one experiment in this process, without a notebook.

    Args:
        spec: What to run.
        run_dir: Folder for the record and the predictions; None: nothing is written.

    Returns:
        The record, status ok.

    Raises:
        FtlibError: The request cannot be carried out, or training diverged; nothing is recorded then.
    """
    events = Events(run_dir)
    task, model = open_task(spec, events), open_model(spec, events)
    before = measure_before(spec, task, model, events)
    adapted = adapt(spec, task, model, events)
    after = measure_after(spec, task, adapted, events)
    return save(spec, task, model, before, adapted, after, run_dir)


def open_task(spec: Experiment, events: Events | None = None) -> Task:
    """Read the experiment's data."""
    (events or Events()).say("stage", name="data")
    return load_task(spec.task, **spec.columns())


def open_model(spec: Experiment, events: Events | None = None) -> "Model | None":
    """Find the experiment's base model; None for a method that has none."""
    if not METHODS[spec.method].model:
        return None
    (events or Events()).say("stage", name="model")
    # Not at the top: the baselines need no torch, which takes seconds to load.
    from ftlib.models import load_model

    return load_model(spec.model, device=spec.device, dtype=spec.dtype, threads=spec.threads)


def measure_before(spec: Experiment, task: Task, model: "Model | None", events: Events | None = None) -> Measured:
    """Measure the untouched model, by zero-shot; a method without a model has nothing before."""
    (events or Events()).say("stage", name="before")
    if model is None:
        return Measured({}, None, 0.0)
    if not task.label_words:
        from ftlib.methods.zero_shot import no_words

        missing = leaf(float("nan"), 0, 0, len(task.test_set(spec.eval_limit)), no_words(task))
        return Measured({"test": {"accuracy": missing}} | _general(spec), None, 0.0)
    untouched = METHODS["zero_shot"].prepare()(model, spec, task, None)
    return _measure("before", spec, task, untouched)


def adapt(spec: Experiment, task: Task, model: "Model | None", events: Events | None = None) -> Adapted:
    """Draw the training examples and adapt the model to them as the method says.

    With a tuning budget the method is fitted once per setting, and the one with the best accuracy on validation stays;
    the cost is that of all of them.
    """
    events = events or Events()
    events.say("stage", name="adapt")
    train = task.draw(shots=spec.shots, train_limit=spec.train_limit, seed=spec.seed)
    budget = spec.tuning.get("learning_rate", 1) if METHODS[spec.method].trains else 1
    start = _clock()
    if budget > 1:
        classifier, training, tuned = _tune(spec, task, train, model, events, budget)
    else:
        (classifier, training), tuned = _fit_once(spec, task, train, model, events), {}
    cost = {
        "train_seconds": _clock() - start,
        "train_examples": len(train) if classifier.trainable_parameters else 0,
        "train_examples_per_second": training.examples_per_second if training else None,
        "achieved_flops_per_second": training.flops_per_second if training else None,
    }
    return Adapted(classifier, cost, tuned)


FACTORS = (1, 1 / 3, 3, 1 / 10, 10, 1 / 30, 30, 1 / 100, 100)
"""Learning rates a tuning budget buys, as multiples of the spec's, nearest first."""


def _tune(spec: Experiment, task: Task, train: "pd.DataFrame", model: "Model | None", events: Events, budget: int):
    """Fit once per setting; a setting that diverges is one that was tried and is not taken."""
    rate, tried, best = spec.resolved()["learning_rate"], [], None
    for factor in FACTORS[:budget]:
        setting = spec.model_copy(update={"learning_rate": rate * factor})
        entry = {"learning_rate": rate * factor, "validation_accuracy": None}
        try:
            classifier, training = _fit_once(setting, task, train, model, events)
            score = _measure("after", setting, task, classifier, part="validation").metrics["validation"]["accuracy"]
            entry["validation_accuracy"] = score["value"]
            if best is None or score["value"] > best[0]:
                best = score["value"], classifier, training, rate * factor
        except Diverged as error:
            entry["reason"] = str(error)
        tried.append(entry)
        events.say("tried", **entry)
    if best is None:
        raise Diverged(f"all {budget} learning rates diverged: {[entry['learning_rate'] for entry in tried]}")
    return best[1], best[2], {"learning_rate": best[3], "tried": tried}


def _fit_once(spec: Experiment, task: Task, train: "pd.DataFrame", model: "Model | None", events: Events):
    classifier = METHODS[spec.method].prepare()(model, spec, task, train)
    if classifier.module is None:
        return classifier, None
    from ftlib.train import fit

    codes = [task.labels.index(label) for label in train["label"]]
    return classifier, fit(classifier.module, model, spec, train["text"].tolist(), codes, events)


def measure_after(spec: Experiment, task: Task, adapted: Adapted, events: Events | None = None) -> Measured:
    """Measure the adapted model; here, once, at the end, the test split is read."""
    (events or Events()).say("stage", name="after")
    return _measure("after", spec, task, adapted.classifier)


def _measure(stage: str, spec: Experiment, task: Task, classifier: Classifier, part: str = "test") -> Measured:
    start = _clock()
    examples = task.test_set(spec.eval_limit) if part == "test" else task.splits[part]
    probabilities = classifier.probabilities(examples["text"].tolist())
    seconds = _clock() - start
    table = records.predictions_table(stage, part, examples, task.labels, probabilities)
    return Measured({part: measure(table, task.labels)} | _general(spec), table, seconds)


def _clock() -> float:
    return time.perf_counter() + saved_seconds()


def _general(spec: Experiment) -> dict[str, dict]:
    if "general" not in spec.probes or not METHODS[spec.method].model:
        return {}
    reason = "an encoder gives no likelihood of running text"
    return {"general": {"bits_per_byte": leaf(float("nan"), 0, 0, 0, reason)}}


def save(
    spec: Experiment,
    task: Task,
    model: "Model | None",
    before: Measured,
    adapted: Adapted,
    after: Measured,
    run_dir: str | Path | None = "",
) -> RunRecord:
    """Put the record together and write it: predictions first, record last.

    Args:
        spec: What was asked.
        task: Its data.
        model: Its base model, if it has one.
        before: The untouched model, measured.
        adapted: The adapted model and its cost.
        after: The adapted model, measured.
        run_dir: The run's folder; empty: `reports/exploration/runs/<run_id>`; None: nothing is written.

    Raises:
        FtlibError: The folder belongs to another spec, or has a complete record already.
    """
    import pandas as pd

    if run_dir == "":
        run_dir = Path("reports/exploration/runs") / spec.run_id
    given = provenance.request(run_dir) if run_dir else {}
    if given and given["run_id"] != spec.run_id:
        raise FtlibError(f"{run_dir}: was planned for run {given['run_id']}, but this spec is run {spec.run_id}")
    classifier = adapted.classifier
    cost = adapted.cost | {
        "eval_seconds": after.seconds,
        **provenance.peak_memory(),
        "trainable_parameters": classifier.trainable_parameters,
        "total_parameters": classifier.total_parameters,
        "checkpoint_bytes": classifier.checkpoint_bytes,
    }
    record = RunRecord(
        run_id=spec.run_id,
        status="ok",
        spec={"passed": given.get("passed", spec.passed()), "resolved": spec.resolved()},
        plan_hash=given.get("plan_hash", ""),
        metrics={"before": before.metrics, "after": after.metrics},
        cost=cost,
        provenance=provenance.describe(spec, task, model, given) | ({"tuned": adapted.tuned} if adapted.tuned else {}),
    )
    if run_dir:
        tables = [measured.predictions for measured in (before, after) if measured.predictions is not None]
        provenance.keep_examples(Path(run_dir), task)
        # Columns that no row fills are left out of joining, whose type they would change, and put back.
        filled = pd.concat([table.dropna(axis=1, how="all") for table in tables], ignore_index=True)
        records.write(run_dir, record, filled.reindex(columns=tables[0].columns))
    return record


class _Page(types.ModuleType):
    """Importing this module puts it where `ftlib.run(spec)` is looked up; so it can be called as well."""

    def __call__(self, spec: Experiment, run_dir: str | Path | None = None) -> RunRecord:
        return run(spec, run_dir)


sys.modules[__name__].__class__ = _Page
