"""One experiment, from its spec to its record: the stages in order, on one page.

The run_ notebooks call the same functions, a cell each; a test holds the two together.
"""

import functools
import os
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ftlib import records
from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core import format
from ftlib.core.atomic import clock, saved_seconds
from ftlib.core.errors import Diverged, FtlibError, Interrupted
from ftlib.core.html import table
from ftlib.data.kinds import KINDS
from ftlib.data.registry import load_task
from ftlib.data.task import Task
from ftlib.evaluation.evaluate import Evaluated, evaluate, evaluate_others, joined, stacked
from ftlib.execution.saved import FOLDER, cost_of_use, keep
from ftlib.metrics import continual, metric_value
from ftlib.metrics.registry import METRICS
from ftlib.models.catalog import licence_of
from ftlib.models.prompts import no_words
from ftlib.records import RunRecord, provenance
from ftlib.records.events import Events
from ftlib.training.contract import Predictor
from ftlib.training.distributed import rank
from ftlib.training.mitigation import mitigated, scrub

if TYPE_CHECKING:
    import pandas as pd

    from ftlib.models.loading import Model
    from ftlib.training.regularization import Line


class Adapted(NamedTuple):
    """An adapted model and what adapting it took."""

    predictor: Predictor
    cost: dict[str, float | None]
    tuned: dict[str, object]
    """The setting that validation chose and all that were tried; empty where the plan gives no tuning budget."""
    others: tuple[int, int] = (0, 0)
    """Bytes that the other processes of the training used; see `ftlib.training.trainer.Training`."""
    between: Mapping[str, Evaluated] = {}
    """What it showed between two trainings, by stage."""
    line: "Line | None" = None
    """From the untouched weights to the adapted ones, where states on the way are asked for."""

    def __repr__(self) -> str:
        return f"Adapted({', '.join(f'{name}: {said}' for name, said in self._facts())})"

    def _repr_html_(self) -> str:
        return table(("what adapting took", ""), self._facts())

    def _facts(self) -> list[tuple[str, str]]:
        moved, total = self.predictor.trainable_parameters, self.predictor.total_parameters
        share = f" of {format.count(total)} ({moved / total:.2%})" if total else ""
        rate, used = self.cost["train_examples_per_second"], int(self.cost["train_examples"] or 0)
        found = [
            ("training examples", format.count(used) if used else "none"),
            ("trainable parameters", f"{format.count(moved)}{share}" if moved else "none"),
            ("training time", format.seconds(self.cost["train_seconds"])),
            ("speed", f"{rate:.1f} examples a second" if rate else ""),
            ("size of the saved weights", format.size(self.predictor.checkpoint_bytes) if moved else ""),
            ("learning rate chosen on validation", f"{self.tuned['learning_rate']:g}" if self.tuned else ""),
        ]
        return [(name, said) for name, said in found if said]


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
    if not isinstance(spec, Experiment):
        raise FtlibError(f"spec: found {type(spec).__name__}; give an Experiment: Experiment(task=..., method=...)")
    return assist(spec) if rank(spec) else run_stages(spec, run_dir, Events(run_dir))


def run_stages(spec: Experiment, run_dir: str | Path | None, events: Events) -> RunRecord:
    """Run one experiment, and keep a diary of it."""
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
    train, settings = drawn_examples(spec, task), _settings(spec)
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


def stoppable(stage: Callable[..., Any]) -> Callable[..., Any]:
    """The stage: whoever watches it reads how long it took, or, where they interrupt it, what was kept."""

    @functools.wraps(stage)
    def watched(*given: Any, **named: Any) -> Any:
        events = next((one for one in (*given, *named.values()) if isinstance(one, Events)), None) or _Silent()
        try:
            found = stage(*given, **named)
        except Interrupted:
            raise
        except KeyboardInterrupt:
            where = events.doing()
            raise Interrupted(
                f"Interrupted{where and f' in {where}'}: nothing of this stage was kept, and no record was written. "
                "What was made before is still there; run the cell again to start it over."
            ) from None
        events.ended()
        return found

    return watched


@stoppable
def open_task(spec: Experiment, events: Events | None = None) -> Task:
    """Read the experiment's data."""
    (events or _Silent()).say("stage", name="data")
    task = load_task(spec.task, **spec.columns())
    if spec.canaries:
        from ftlib.evaluation.memorization import planted_task

        return planted_task(task, spec)
    return scrub(task) if spec.mitigation == "scrub" else task


@stoppable
def open_model(spec: Experiment, events: Events | None = None) -> "Model | None":
    """Find the experiment's base model; None for a method that has none.

    Raises:
        FtlibError: The method needs what is not here, or see `ftlib.models.loading.load_model`.
    """
    if not METHODS[spec.method].model:
        return None
    if problem := METHODS[spec.method].lacks(spec.device):
        raise FtlibError(problem)
    (events or _Silent()).say("stage", name="model")
    # Not at the top: the baselines need no torch, which takes seconds to load.
    from ftlib.models.loading import load_model

    # Bytes are multiplied on the processor, whatever else is there.
    device = "cpu" if spec.quantise else spec.device
    return load_model(spec.model, device=device, dtype=spec.dtype, threads=spec.threads)


@stoppable
def measure_before(spec: Experiment, task: Task, model: "Model | None", events: Events | None = None) -> Evaluated:
    """Measure the untouched model, by zero-shot; a method without a model has nothing before."""
    (events or _Silent()).say("stage", name="before")
    if model is None:
        return Evaluated({}, None, 0.0)
    others, spared = _others(spec, model), saved_seconds()
    if task.has_labels and not task.label_words:
        missing = metric_value(float("nan"), 0, 0, len(task.test_set(spec.eval_limit)), no_words(task))
        silent = Predictor(0, 0, 0, members=others)
        if "general" in spec.evaluations and model.speaks:
            from ftlib.models.inference import untouched_likelihood

            silent.likelihood = untouched_likelihood(model.untouched_speaker(), model, spec)
        found = {"test": ({"accuracy": missing}, None)} | evaluate_others("before", spec, task, model, silent)
        return joined(found, 0.0, saved_seconds() - spared)
    untouched = METHODS["zero_shot"].prepare()(model, spec, task, None)
    untouched.members = others
    return evaluate("before", spec, task, model, untouched)


def _others(spec: Experiment, model: "Model") -> dict[str, tuple[Task, Predictor]]:
    if not spec.continued:
        return {}
    from ftlib.execution.continual import zero_shot_baselines

    return zero_shot_baselines(spec, model)


@stoppable
def adapt(spec: Experiment, task: Task, model: "Model | None", events: Events | None = None) -> Adapted:
    """Draw the training examples and adapt the model to them as the method says.

    With a tuning budget the method is fitted once per setting, and the one best on validation stays: by accuracy,
    or by bits per byte where there are no labels. The cost is that of all of them, and of all processes: seconds on the
    clock, examples and operations of all together.
    """
    events = events or Events()
    events.say("stage", name="adapt")
    train = drawn_examples(spec, task)
    start, spared = clock(), saved_seconds()
    between: Mapping[str, Evaluated] = {}
    tuned: dict[str, object] = {}
    line, examples = None, len(train)
    if spec.continued:
        from ftlib.execution.continual import train_sequence

        predictor, training, examples, between, line = train_sequence(spec, task, model, events)
    elif len(settings := _settings(spec)) > 1:
        predictor, training, line, tuned = _tune(settings, task, train, model, events)
    else:
        predictor, training, line = _fit_once(spec, task, train, model, events)
    quantised(spec, predictor)
    cost = {
        "train_seconds": clock() - start,
        "shared_seconds": saved_seconds() - spared,
        "validation_seconds": training.validation_seconds if training else None,
        "train_examples": examples if predictor.trainable_parameters or predictor.orders is not None else 0,
        "train_examples_per_second": training.examples_per_second if training else None,
        "achieved_flops_per_second": training.flops_per_second if training else None,
        "matmul_peak_flops_per_second": spec.processes * _peak(model) if training else None,
    }
    return Adapted(predictor, cost, tuned, training.others if training else (0, 0), between, line)


def quantised(spec: Experiment, predictor: Predictor) -> None:
    """Put what was trained into bytes where the experiment asks for it; it needs no base model beside it, then."""
    if spec.quantise:
        from ftlib.models.quantise import quantise

        predictor.checkpoint_bytes = quantise(predictor.trainable.module)


def drawn_examples(spec: Experiment, task: Task) -> "pd.DataFrame":
    """The examples a run is adapted to: drawn from the task, and mitigated as the experiment says."""
    train = task.draw(**spec.drawing())
    return mitigated(task, train, spec.mitigation, spec.mitigation_column, spec.seed)


FACTORS = (1, 1 / 3, 3, 1 / 10, 10, 1 / 30, 30, 1 / 100, 100)
"""Learning rates a tuning budget buys, as multiples of the spec's, nearest first."""


def _settings(spec: Experiment) -> list[Experiment]:
    """What the tuning budget buys; without one, the experiment itself."""
    budget = spec.tuning.get("learning_rate", 1) if METHODS[spec.method].trains else 1
    if budget == 1:
        return [spec]
    rate = spec.resolved()["learning_rate"]
    return [spec.model_copy(update={"learning_rate": rate * one, "evaluations": []}) for one in FACTORS[:budget]]


def _tune(settings: list[Experiment], task: Task, train: "pd.DataFrame", model: "Model | None", events: Events):
    """Fit once per setting; a setting that diverges is one that was tried and is not taken."""
    tried, best = [], None
    metric = KINDS[task.kind].primary
    sign = 1 if METRICS[metric].higher_is_better else -1
    for setting in settings:
        entry = {"learning_rate": setting.learning_rate, f"validation_{metric}": None}
        entry["n_validation"] = len(task.splits["validation"])
        try:
            predictor, training, line = _fit_once(setting, task, train, model, events)
            shown = evaluate("after", setting, task, model, predictor, part="validation")
            score = shown.metrics["validation"][metric]["value"]
            entry[f"validation_{metric}"] = score
            if best is None or sign * score > sign * best[0]:
                best = score, predictor, training, line, setting.learning_rate
        except Diverged as error:
            entry["reason"] = str(error)
        tried.append(entry)
        events.say("tried", **entry)
        # The best so far is held beside the one that is trained next; a third would be held for nothing.
        predictor = training = line = None
    if best is None:
        raise Diverged(f"all {len(tried)} learning rates diverged: {[entry['learning_rate'] for entry in tried]}")
    return *best[1:4], {"learning_rate": best[4], "tried": tried}


def _fit_once(spec: Experiment, task: Task, train: "pd.DataFrame", model: "Model | None", events: Events):
    predictor = METHODS[spec.method].prepare()(model, spec, task, train)
    if predictor.trainable is None:
        return predictor, None, None
    from ftlib.training.trainer import fit

    line = _line(spec, predictor) if spec.interpolation else None
    training = fit(predictor.trainable, model, spec, train, events, task.splits["validation"])
    if predictor.trainable.finish:
        predictor.trainable.finish()
    return predictor, training, line


def _line(spec: Experiment, predictor: Predictor) -> "Line":
    from ftlib.methods.finetune import new_parameters
    from ftlib.training.regularization import Line

    return Line(predictor.trainable.module, new_parameters(predictor.trainable.module))


def _peak(model: "Model") -> float:
    from ftlib.execution.benchmark import matmul_peak

    return matmul_peak(model.device, model.dtype, model.threads)


@stoppable
def measure_after(
    spec: Experiment, task: Task, model: "Model | None", adapted: Adapted, events: Events | None = None
) -> Evaluated:
    """Measure the adapted model; here, once, at the end, the test split is read."""
    events = events or _Silent()
    events.say("stage", name="after")
    spared = saved_seconds()
    if spec.interpolation:
        from ftlib.training import regularization
    after, also = evaluate("after", spec, task, model, adapted.predictor), dict(adapted.between)
    for alpha in spec.interpolation:
        events.say("stage", name=f"alpha {alpha:g}")
        with adapted.line.at(alpha):
            name = regularization.stage_of(alpha)
            also[name] = evaluate(name, spec, task, model, adapted.predictor)
    return after._replace(also=also, spared=saved_seconds() - spared)


def save(
    spec: Experiment,
    task: Task,
    model: "Model | None",
    before: Evaluated,
    adapted: Adapted,
    after: Evaluated,
    run_dir: str | Path | None = "",
) -> RunRecord:
    """Put the record together and write it: predictions first, record last.

    The run's folder is `reports/exploration/runs/<run_id>` if empty; None: nothing is written. There an earlier record
    with other values, as another version or another machine leaves it, is set aside and that is said.

    Raises:
        FtlibError: The folder belongs to another spec, or is named and has another record already; or the saved model
            answers otherwise than the run's.
    """
    exploring = run_dir == ""
    if exploring:
        run_dir = Path("reports/exploration/runs") / spec.run_id
    given = provenance.request(run_dir) if run_dir else {}
    if given and given["run_id"] != spec.run_id:
        raise FtlibError(f"{run_dir}: was planned for run {given['run_id']}, but this spec is run {spec.run_id}")
    predictor, states = adapted.predictor, {"before": before, **after.also, "after": after}
    metrics = {stage: one.metrics for stage, one in states.items()}
    table = stacked([one.predictions for one in states.values() if one.predictions is not None])
    if sequence := continual.summary(table, metrics, spec.resolved()):
        metrics["after"] = metrics["after"] | {"sequence": sequence}
    if exploring and _has_other_values(run_dir, metrics):
        made = ("notebook.ipynb", FOLDER, "predictions.parquet", "record.json")
        where = records.set_aside(run_dir, [path for name in made if (path := run_dir / name).exists()])
        print(f"an earlier record of this run has other values (another version, or another machine): it is in {where}")
    cost = adapted.cost | {
        "eval_seconds": after.seconds,
        "shared_seconds": before.spared + adapted.cost["shared_seconds"] + after.spared,
        **_peak_memory(adapted.others),
        **cost_of_use(spec, task, predictor),
        "trainable_parameters": predictor.trainable_parameters,
        "total_parameters": predictor.total_parameters,
        "checkpoint_bytes": predictor.checkpoint_bytes,
    }
    if predictor.writer is not None and predictor.writer.tokens:
        cost["written_tokens_per_second"] = predictor.writer.tokens / predictor.writer.seconds
    kept: dict[str, object] = {}
    if spec.save and run_dir and predictor.saved and METHODS[spec.method].saves:
        recorded = table[(table["stage"] == "after") & (table["part"] == "test")]
        kept = keep(Path(run_dir) / FOLDER, spec, task, model, predictor, recorded)
        cost["predict_memory_bytes"] = kept["predict_memory_bytes"]
    record = RunRecord(
        run_id=spec.run_id,
        status="ok",
        spec={"passed": given.get("passed", spec.passed()), "resolved": spec.resolved()},
        plan_hash=given.get("plan_hash", ""),
        metrics=metrics,
        cost=cost,
        provenance=provenance.describe(spec, task, model, given)
        | {
            name: value
            for name, value in (
                ("tuned", adapted.tuned),
                ("prompt", predictor.prompt),
                ("groups", METHODS[spec.method].groups),
                ("model_licence", licence_of(model.folder) if model else ""),
                ("saved", kept),
            )
            if value
        },
    )
    if run_dir:
        provenance.keep_examples(Path(run_dir), task)
        records.write(run_dir, record, table)
    return record


def _has_other_values(run_dir: Path, metrics: dict) -> bool:
    """Whether a record is there that is not the one to be written; a damaged one is none."""
    if not (run_dir / "record.json").exists():
        return False
    try:
        old = records.read_record(run_dir)
    except records.Damaged:
        return True
    return old.status == "ok" and old.metrics != metrics


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
