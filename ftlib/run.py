"""One experiment, from its spec to its record: the stages in order, on one page.

The run_ notebooks call the same functions, a cell each; a test holds the two together.
"""

import os
import sys
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ftlib import provenance, records
from ftlib.data import Task, general, load_task
from ftlib.data.cache import saved_seconds
from ftlib.errors import Diverged, FtlibError
from ftlib.methods import LANGUAGE_MODELING, METHODS, Likelihood, Predictor
from ftlib.metrics import leaf, measure, measure_text
from ftlib.metrics.language import order_sd, values
from ftlib.prompts import no_words
from ftlib.ranks import rank
from ftlib.records import Events, RunRecord
from ftlib.spec import Experiment
from ftlib.verdict import compare

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

    def scores(self) -> np.ndarray:
        """Values per example of the task whose mean is accuracy, or minus the bits per byte: (n_examples,)."""
        test = self.predictions[self.predictions["part"] == "test"]
        if test["label"].notna().any():
            return (test["label"] == test["prediction"]).to_numpy(dtype=float)
        return -values("bits_per_byte", test["nats"].to_numpy(), test["n_bytes"].to_numpy())[0]

    def against(self, other: "Measured", name: str, *, margin: float = 0.01) -> str:
        """In words, how it differs from another measurement of the same examples, the untouched model's as a rule."""
        if self.predictions is None or other.predictions is None:
            return "the untouched model has no predictions to compare with"
        rng, names = np.random.default_rng(0), {"name_a": name, "name_b": "the untouched model"}
        return compare(self.scores(), other.scores(), margin=margin, rng=rng, **names).sentence

    def mistakes(self, task: Task, most: int = 3) -> "pd.DataFrame":
        """The examples it got wrong with the most confidence; without labels, the documents it expected least."""
        test = self.predictions[self.predictions["part"] == "test"]
        if test["label"].isna().all():
            bits = test["nats"] / test["n_bytes"] / np.log(2)
            worst = bits.sort_values(ascending=False, kind="stable").index[:most]
            chosen = test.loc[worst, ["id"]].assign(bits_per_byte=bits.round(3))
        else:
            wrong = test[test["label"] != test["prediction"]]
            sure = wrong.filter(regex="^score_").max(axis=1).sort_values(ascending=False, kind="stable")
            chosen = wrong.loc[sure.index[:most], ["id", "label", "prediction"]].assign(confidence=sure.round(3))
        return chosen.merge(task.splits["test"][["id", "text"]], on="id")

    def _repr_html_(self) -> str:
        return RunRecord("", "ok", {}, metrics=self.metrics)._repr_html_()


class Adapted(NamedTuple):
    """An adapted model and what adapting it took."""

    predictor: Predictor
    cost: dict[str, float | None]
    tuned: dict[str, object]
    """The setting that validation chose and all that were tried; empty where the plan gives no tuning budget."""
    others: tuple[int, int] = (0, 0)
    """Bytes that the other processes of the training used; see `ftlib.train.Training`."""


def run(spec: Experiment, run_dir: str | Path | None = None) -> RunRecord | None:
    """Run one experiment in this process, without a notebook.

    Where several processes share the training, each of them calls this (`torchrun --nproc_per_node N`).

    Args:
        spec: What to run.
        run_dir: Folder for the record and the predictions; None: nothing is written.

    Returns:
        The record, status ok; None in every process but the first.

    Raises:
        FtlibError: The request cannot be carried out, or training diverged; nothing is recorded then.
    """
    if rank(spec):
        return assist(spec)
    events = Events(run_dir)
    task, model = open_task(spec, events), open_model(spec, events)
    before = measure_before(spec, task, model, events)
    adapted = adapt(spec, task, model, events)
    after = measure_after(spec, task, model, adapted, events)
    return save(spec, task, model, before, adapted, after, run_dir)


def assist(spec: Experiment) -> None:
    """What a process that is not the first does of an experiment: its share of every training; it writes nothing.

    Raises:
        FtlibError: As for the first one.
    """
    events = _Silent()
    task, model = open_task(spec, events), open_model(spec, events)
    if model.device == "cuda":
        import torch

        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    train, settings = task.draw(**spec.drawing()), _settings(spec)
    for setting in settings:
        try:
            _fit_once(setting, task, train, model, events)
        except Diverged:
            # The first process has met it too, and goes on with the next setting where there are several.
            if len(settings) == 1:
                raise


class _Silent(Events):
    def say(self, event: str, **facts: object) -> None:
        pass


def open_task(spec: Experiment, events: Events | None = None) -> Task:
    """Read the experiment's data."""
    (events or Events()).say("stage", name="data")
    return load_task(spec.task, **spec.columns())


def open_model(spec: Experiment, events: Events | None = None) -> "Model | None":
    """Find the experiment's base model; None for a method that has none.

    Raises:
        FtlibError: The method needs what is not here, or see `ftlib.models.load_model`.
    """
    if not METHODS[spec.method].model:
        return None
    if problem := METHODS[spec.method].lacks(spec.device):
        raise FtlibError(problem)
    (events or Events()).say("stage", name="model")
    # Not at the top: the baselines need no torch, which takes seconds to load.
    from ftlib.models import load_model

    return load_model(spec.model, device=spec.device, dtype=spec.dtype, threads=spec.threads)


def measure_before(spec: Experiment, task: Task, model: "Model | None", events: Events | None = None) -> Measured:
    """Measure the untouched model, by zero-shot; a method without a model has nothing before."""
    (events or Events()).say("stage", name="before")
    if model is None:
        return Measured({}, None, 0.0)
    if task.kind != LANGUAGE_MODELING and not task.label_words:
        missing = leaf(float("nan"), 0, 0, len(task.test_set(spec.eval_limit)), no_words(task))
        return Measured({"test": {"accuracy": missing}} | _general(spec, model, None)[0], None, 0.0)
    untouched = METHODS["zero_shot"].prepare()(model, spec, task, None)
    return _measure("before", spec, task, model, untouched)


def adapt(spec: Experiment, task: Task, model: "Model | None", events: Events | None = None) -> Adapted:
    """Draw the training examples and adapt the model to them as the method says.

    With a tuning budget the method is fitted once per setting, and the one best on validation stays: by accuracy,
    or by bits per byte where there are no labels. The cost is that of all of them, and of all processes: seconds on the
    clock, examples and operations of all together.
    """
    events = events or Events()
    events.say("stage", name="adapt")
    train = task.draw(**spec.drawing())
    start = _clock()
    if len(settings := _settings(spec)) > 1:
        predictor, training, tuned = _tune(settings, task, train, model, events)
    else:
        (predictor, training), tuned = _fit_once(spec, task, train, model, events), {}
    cost = {
        "train_seconds": _clock() - start,
        "validation_seconds": training.validation_seconds if training else None,
        "train_examples": len(train) if predictor.trainable_parameters or predictor.orders is not None else 0,
        "train_examples_per_second": training.examples_per_second if training else None,
        "achieved_flops_per_second": training.flops_per_second if training else None,
        "matmul_peak_flops_per_second": spec.processes * _peak(model) if training else None,
    }
    return Adapted(predictor, cost, tuned, training.others if training else (0, 0))


FACTORS = (1, 1 / 3, 3, 1 / 10, 10, 1 / 30, 30, 1 / 100, 100)
"""Learning rates a tuning budget buys, as multiples of the spec's, nearest first."""


def _settings(spec: Experiment) -> list[Experiment]:
    """What the tuning budget buys; without one, the experiment itself."""
    budget = spec.tuning.get("learning_rate", 1) if METHODS[spec.method].trains else 1
    if budget == 1:
        return [spec]
    rate = spec.resolved()["learning_rate"]
    return [spec.model_copy(update={"learning_rate": rate * one, "probes": []}) for one in FACTORS[:budget]]


def _tune(settings: list[Experiment], task: Task, train: "pd.DataFrame", model: "Model | None", events: Events):
    """Fit once per setting; a setting that diverges is one that was tried and is not taken."""
    tried, best = [], None
    metric, sign = ("bits_per_byte", -1) if task.kind == LANGUAGE_MODELING else ("accuracy", 1)
    for setting in settings:
        entry = {"learning_rate": setting.learning_rate, f"validation_{metric}": None}
        entry["n_validation"] = len(task.splits["validation"])
        try:
            predictor, training = _fit_once(setting, task, train, model, events)
            measured = _measure("after", setting, task, model, predictor, part="validation")
            score = measured.metrics["validation"][metric]["value"]
            entry[f"validation_{metric}"] = score
            if best is None or sign * score > sign * best[0]:
                best = score, predictor, training, setting.learning_rate
        except Diverged as error:
            entry["reason"] = str(error)
        tried.append(entry)
        events.say("tried", **entry)
    if best is None:
        raise Diverged(f"all {len(tried)} learning rates diverged: {[entry['learning_rate'] for entry in tried]}")
    return best[1], best[2], {"learning_rate": best[3], "tried": tried}


def _fit_once(spec: Experiment, task: Task, train: "pd.DataFrame", model: "Model | None", events: Events):
    predictor = METHODS[spec.method].prepare()(model, spec, task, train)
    if predictor.trainable is None:
        return predictor, None
    from ftlib.train import fit

    training = fit(predictor.trainable, model, spec, train, events, task.splits["validation"])
    if predictor.trainable.finish:
        predictor.trainable.finish()
    return predictor, training


def _peak(model: "Model") -> float:
    from ftlib.speed import matmul_peak

    return matmul_peak(model.device, model.dtype, model.threads)


def measure_after(
    spec: Experiment, task: Task, model: "Model | None", adapted: Adapted, events: Events | None = None
) -> Measured:
    """Measure the adapted model; here, once, at the end, the test split is read."""
    (events or Events()).say("stage", name="after")
    return _measure("after", spec, task, model, adapted.predictor)


def _measure(
    stage: str, spec: Experiment, task: Task, model: "Model | None", predictor: Predictor, part: str = "test"
) -> Measured:
    import pandas as pd

    start = _clock()
    examples = task.test_set(spec.eval_limit) if part == "test" else task.splits[part]
    if task.kind == LANGUAGE_MODELING:
        metrics, table = _of_text(stage, part, examples, predictor.likelihood)
    else:
        metrics, table = _of_labels(stage, part, task, examples, predictor)
    seconds = _clock() - start
    found, more = _general(spec, model, predictor.likelihood, stage)
    tables = [one for one in (table, more) if one is not None]
    # Columns that no row fills are left out of joining, whose type they would change, and put back.
    filled = pd.concat([one.dropna(axis=1, how="all") for one in tables], ignore_index=True)
    return Measured({part: metrics} | found, filled.reindex(columns=table.columns), seconds)


def _of_labels(
    stage: str, part: str, task: Task, examples: "pd.DataFrame", predictor: Predictor
) -> tuple[dict, "pd.DataFrame"]:
    texts = examples["text"].tolist()
    table = records.predictions_table(stage, part, examples, task.labels, predictor.probabilities(texts))
    metrics = measure(table, task.labels)
    if predictor.orders is not None:
        truth = examples["label"].map({label: code for code, label in enumerate(task.labels)}).to_numpy()
        others = [float((order(texts).argmax(axis=1) == truth).mean()) for order in predictor.orders]
        accuracies = [metrics["accuracy"]["value"], *others]
        reason = "one order of the shots has no spread"
        metrics["order_sd"] = leaf(*order_sd(accuracies), len(accuracies), reason)
    return metrics, table


def _of_text(stage: str, part: str, examples: "pd.DataFrame", likelihood: Likelihood) -> tuple[dict, "pd.DataFrame"]:
    table = records.likelihoods_table(stage, part, examples, likelihood.score(examples["text"].tolist()))
    return measure_text(table, protocol=likelihood.protocol, pseudo=likelihood.pseudo), table


def _general(
    spec: Experiment, model: "Model | None", likelihood: Likelihood | None, stage: str = ""
) -> tuple[dict[str, dict], "pd.DataFrame | None"]:
    """The probe on general text: what adapting to the task did to everything else."""
    if "general" not in spec.probes or model is None:
        return {}, None
    if likelihood is None:
        reason = f"this {model.family}, as adapted, gives no likelihood of running text"
        return {"general": {"bits_per_byte": leaf(float("nan"), 0, 0, 0, reason)}}, None
    metrics, table = _of_text(stage, "general", general.load(), likelihood)
    return {"general": metrics}, table


def _clock() -> float:
    return time.perf_counter() + saved_seconds()


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
    predictor = adapted.predictor
    cost = adapted.cost | {
        "eval_seconds": after.seconds,
        **_peak_memory(adapted.others),
        "trainable_parameters": predictor.trainable_parameters,
        "total_parameters": predictor.total_parameters,
        "checkpoint_bytes": predictor.checkpoint_bytes,
    }
    record = RunRecord(
        run_id=spec.run_id,
        status="ok",
        spec={"passed": given.get("passed", spec.passed()), "resolved": spec.resolved()},
        plan_hash=given.get("plan_hash", ""),
        metrics={"before": before.metrics, "after": after.metrics},
        cost=cost,
        provenance=provenance.describe(spec, task, model, given)
        | {name: value for name, value in (("tuned", adapted.tuned), ("prompt", predictor.prompt)) if value},
    )
    if run_dir:
        tables = [measured.predictions for measured in (before, after) if measured.predictions is not None]
        provenance.keep_examples(Path(run_dir), task)
        # Columns that no row fills are left out of joining, whose type they would change, and put back.
        filled = pd.concat([table.dropna(axis=1, how="all") for table in tables], ignore_index=True)
        records.write(run_dir, record, filled.reindex(columns=tables[0].columns))
    return record


def _peak_memory(others: tuple[int, int]) -> dict[str, int | None]:
    """Of main memory what all processes of the run need together, of a GPU's what the one that needs most does."""
    mine = provenance.peak_memory()
    on_gpu = mine["peak_device_memory_bytes"]
    return {
        "peak_memory_bytes": mine["peak_memory_bytes"] + others[0],
        "peak_device_memory_bytes": None if on_gpu is None else max(on_gpu, others[1]),
    }


class _Page(types.ModuleType):
    """Importing this module puts it where `ftlib.run(spec)` is looked up; so it can be called as well."""

    def __call__(self, spec: Experiment, run_dir: str | Path | None = None) -> RunRecord | None:
        return run(spec, run_dir)


sys.modules[__name__].__class__ = _Page
