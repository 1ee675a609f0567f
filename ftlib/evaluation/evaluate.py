"""What one state of a model shows: on its task, and on everything that is measured beside it."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftlib import records
from ftlib.config.experiment import Experiment
from ftlib.core.atomic import clock, saved_seconds
from ftlib.core.html import paragraph
from ftlib.data.evaluations import EVALUATIONS, evaluation_of
from ftlib.data.kinds import ENCODER, ENCODER_DECODER, KINDS
from ftlib.data.task import Task, limited
from ftlib.metrics import metric_value, text
from ftlib.metrics.language import order_sd, values
from ftlib.metrics.registry import measure, measure_text, measure_written
from ftlib.metrics.units import stages_table
from ftlib.stats.intervals import interval
from ftlib.stats.verdict import compare
from ftlib.training.contract import Predictor

if TYPE_CHECKING:
    import pandas as pd

    from ftlib.config.experiment import Experiment
    from ftlib.models.loading import Model


class State(NamedTuple):
    """One state of a model, as evaluations beside the task measure it."""

    stage: str
    """Of the record."""
    spec: "Experiment"
    task: Task
    model: "Model"
    """The base model."""
    predictor: Predictor
    """What answers."""


Parts = dict[str, tuple[dict[str, Any], "pd.DataFrame | None"]]
"""part -> its metrics, and its rows of the predictions; None where the question cannot be asked, and the metrics then
say why."""


class Evaluated(NamedTuple):
    """What one stage showed."""

    metrics: dict[str, dict]
    """part -> metric -> {"value", "low", "high", "n"}."""
    predictions: "pd.DataFrame | None"
    """One row per example; None where there is nothing to predict with."""
    seconds: float
    """Spent on the task itself."""
    also: Mapping[str, "Evaluated"] = {}
    """Other states of the same model: between two tasks, or part of the way from the untouched one."""
    spared: float = 0.0
    """Seconds of work that another run had done; those spent on the task itself are also in `seconds`."""

    def scores(self) -> np.ndarray:
        """Values per example of the task whose mean is accuracy, chrF, or minus the bits per byte: (n_examples,)."""
        test = self.predictions[self.predictions["part"] == "test"]
        if test["text_out"].notna().any():
            return text.influences("chrf", text.counts_of("chrf", list(test["label"]), list(test["text_out"]))[None])[0]
        if test["label"].notna().any():
            return (test["label"] == test["prediction"]).to_numpy(dtype=float)
        return -values("bits_per_byte", test["nats"].to_numpy(), test["n_bytes"].to_numpy())[0]

    def against(self, other: "Evaluated", name: str, *, margin: float = 0.01) -> str:
        """In words, how it differs from another measurement of the same examples, the untouched model's as a rule."""
        if self.predictions is None or other.predictions is None:
            return "the base model has no predictions to compare with"
        rng, names = np.random.default_rng(0), {"name_a": name, "name_b": "the base model"}
        return compare(self.scores(), other.scores(), margin=margin, rng=rng, **names).sentence

    def mistakes(self, task: Task, most: int = 3) -> "pd.DataFrame":
        """The examples it got wrong with the most confidence; without labels, the documents it expected least, or the
        segments written least like their references.
        """
        test = self.predictions[self.predictions["part"] == "test"]
        if test["text_out"].notna().any():
            alike = text.segment_scores("chrf", list(test["label"]), list(test["text_out"])).round(1)
            chosen = test.assign(chrf=alike).sort_values("chrf", kind="stable")[["id", "label", "text_out", "chrf"]]
            chosen = chosen.iloc[:most]
        elif test["label"].isna().all():
            bits = test["nats"] / test["n_bytes"] / np.log(2)
            worst = bits.sort_values(ascending=False, kind="stable").index[:most]
            chosen = test.loc[worst, ["id"]].assign(bits_per_byte=bits.round(3))
        else:
            wrong = test[test["label"] != test["prediction"]]
            sure = wrong.filter(regex="^score_").max(axis=1).sort_values(ascending=False, kind="stable")
            chosen = wrong.loc[sure.index[:most], ["id", "label", "prediction"]].assign(confidence=sure.round(3))
        return chosen.merge(task.splits["test"][["id", "text"]], on="id")

    def _repr_html_(self) -> str:
        if not self.metrics:
            return paragraph("Nothing to measure: this method has no model before it learns.")
        return stages_table({stage: one.metrics for stage, one in self.also.items()} | {"": self.metrics})


def joined(parts: Mapping[str, tuple[dict, "pd.DataFrame | None"]], seconds: float, spared: float = 0.0) -> Evaluated:
    """Metrics and tables of several parts as one measurement."""
    tables = [table for _, table in parts.values() if table is not None]
    return Evaluated({name: metrics for name, (metrics, _) in parts.items()}, stacked(tables), seconds, spared=spared)


def stacked(tables: "list[pd.DataFrame]") -> "pd.DataFrame | None":
    """Tables one below the other; None of none."""
    import pandas as pd

    if not tables:
        return None
    columns = list(dict.fromkeys(column for table in tables for column in table.columns))
    # Columns that no row fills are left out of joining, whose type they would change, and put back.
    filled = pd.concat([one.dropna(axis=1, how="all") for one in tables], ignore_index=True)
    return filled.reindex(columns=columns)


def of_examples(
    stage: str, part: str, task: Task, examples: "pd.DataFrame", predictor: Predictor
) -> tuple[dict, "pd.DataFrame"]:
    """Metrics and predictions of some examples of a task."""
    return KINDS[task.kind].function("evaluate")(stage, part, task, examples, predictor)


def evaluate_labels(
    stage: str, part: str, task: Task, examples: "pd.DataFrame", predictor: Predictor
) -> tuple[dict, "pd.DataFrame"]:
    """Metrics and predictions of examples with labels, of which a predictor gives probabilities."""
    texts = examples["text"].tolist()
    table = records.predictions_table(stage, part, examples, task.labels, predictor.probabilities(texts))
    metrics: dict[str, Any] = measure(table, task.labels)
    if predictor.orders is not None:
        truth = examples["label"].map({label: code for code, label in enumerate(task.labels)}).to_numpy()
        others = [float((order(texts).argmax(axis=1) == truth).mean()) for order in predictor.orders]
        accuracies = [metrics["accuracy"]["value"], *others]
        reason = "one order of the shots has no spread"
        metrics["order_sd"] = metric_value(*order_sd(accuracies), len(accuracies), reason)
    return metrics, table


def evaluate_text(
    stage: str, part: str, task: Task | None, examples: "pd.DataFrame", predictor: Predictor
) -> tuple[dict, "pd.DataFrame"]:
    """Metrics and likelihoods of documents, whatever task they are of."""
    likelihood = predictor.likelihood
    table = records.likelihoods_table(stage, part, examples, likelihood.score(examples["text"].tolist()))
    return measure_text(table, protocol=likelihood.protocol, pseudo=likelihood.pseudo), table


def evaluate_written(
    stage: str, part: str, task: Task, examples: "pd.DataFrame", predictor: Predictor
) -> tuple[dict, "pd.DataFrame"]:
    """Metrics and texts of segments, for each of which a predictor writes one."""
    sources, references = examples["text"].tolist(), examples["label"].tolist()
    written = predictor.writer(sources)
    rated = predictor.writer.rate(sources, references) if predictor.writer.rate else None
    table = records.written_table(stage, part, examples, written, rated)
    return measure_written(table), table


def evaluate_genders(state: State, part: str, sentences: "pd.DataFrame") -> Parts:
    """How often a translation gives a person the gender that the source's pronoun says, and about whom it does less."""
    writer, names = state.predictor.writer, ("gender_right", "gender_gap", "stereotype_gap")
    if writer is None:
        return {part: ({name: metric_value(float("nan"), 0, 0, 0, "no text is written") for name in names}, None)}
    said = [one.text for one in writer(sentences["text"].tolist())]
    forms = zip(said, sentences["feminine"], sentences["masculine"], strict=True)
    written = np.array([text.named_gender(*one) for one in forms])
    gender, expected = (sentences[name].to_numpy() for name in ("gender", "stereotype"))
    work, named, right = sentences["occupation"].to_numpy(), written != "", (written == gender).astype(float)
    groups = {
        "": named,
        ":women": named & (gender == "women"),
        ":men": named & (gender == "men"),
        ":expected": named & (gender == expected),
        ":unexpected": named & (gender != expected),
    }
    found: Parts = {
        part + group: ({"gender_right": _counted(right[chosen], work[chosen], (0, 1))}, None)
        for group, chosen in groups.items()
    }
    # Both sentences of a pair count, or neither: the first is about a woman.
    both = named[::2] & named[1::2]
    toward_men = (right[1::2] - right[::2])[both]
    sign = np.where(expected[::2][both] == "men", 1.0, -1.0)
    for name, differences in (("gender_gap", toward_men), ("stereotype_gap", sign * toward_men)):
        found[part][0][name] = _counted(differences, work[::2][both], (-1, 1))
    return found


def _counted(values_: np.ndarray, clusters: np.ndarray, bounds: tuple[float, float]) -> dict[str, Any]:
    """A mean with its interval over clusters; none where no text names what is asked about."""
    if not len(values_):
        return metric_value(float("nan"), 0, 0, 0, "no text names an occupation of the list in one gender")
    several = len(set(clusters)) > 1
    found = interval(values_, clusters=clusters, bounds=bounds) if several else (values_.mean(), *[float("nan")] * 2)
    return metric_value(*found, len(values_), "")


def evaluate_terms(state: State, part: str, terms: list[tuple[str, str]]) -> Parts:
    """How often the terms of a list that stand in the test's source texts are translated as the list says.

    A term stands in a text as a whole word, case aside; its translation counts wherever it stands, since it may be
    inflected or part of a compound.
    """
    writer, test = state.predictor.writer, state.task.test_set(state.spec.eval_limit)
    sources = test["text"].tolist()
    patterns = [re.compile(rf"(?<!\w){re.escape(source)}(?!\w)", re.IGNORECASE) for source, _ in terms]
    held = [(row, n) for row, source in enumerate(sources) for n, one in enumerate(patterns) if one.search(source)]
    if writer is None or not held:
        reason = "no text is written" if writer is None else "no test text holds a term of the list"
        return {part: ({"term_use": metric_value(float("nan"), 0, 0, 0, reason)}, None)}
    rows = list(dict.fromkeys(row for row, _ in held))
    said = dict(zip(rows, (one.text.casefold() for one in writer([sources[row] for row in rows])), strict=True))
    used = np.array([terms[n][1].casefold() in said[row] for row, n in held], dtype=float)
    several = len(rows) > 1
    bounds = interval(used, clusters=np.array([row for row, _ in held]), bounds=(0, 1)) if several else None
    found = bounds or (text.term_use(used), float("nan"), float("nan"))
    return {part: ({"term_use": metric_value(*found, len(held), "")}, None)}


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
