"""The probes for bias: swapped texts, sentences about different people, pairs with a stereotype, before and after."""

import hashlib
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ftlib import records
from ftlib.data import Task, templates
from ftlib.data.cache import remembered
from ftlib.data.pairs import Pairs, read_pairs
from ftlib.data.probes import part_of, swaps_of
from ftlib.families import ENCODER
from ftlib.methods import Predictor
from ftlib.metrics.counterfactual import measure_swaps, measure_templates
from ftlib.metrics.leaves import leaf
from ftlib.spec import Experiment
from ftlib.swaps import swap
from ftlib.terms import load_terms

if TYPE_CHECKING:
    import pandas as pd

    from ftlib.models import Model

Part = tuple[dict[str, Any], "pd.DataFrame | None"]
"""Metrics, and rows of the predictions."""


def measured(
    stage: str, spec: Experiment, task: Task, model: "Model", predictor: Predictor, name: str
) -> dict[str, Part]:
    """What one probe shows of one state of a model.

    Args:
        stage: Of the record.
        spec: eval_limit and, for pairs, what the likelihood was made with.
        task: Its test texts are swapped; its labels are what templates are given.
        model: The base model.
        predictor: What answers.
        name: "swaps:KIND", "swaps:KIND@PATH", "templates" or "pairs:PATH" (`ftlib.data.probes`).

    Returns:
        The probe's part -> its metrics and its rows of the predictions; rows None where the probe cannot be asked, and
        the metrics then say why.
    """
    measure = _pairs if name.startswith("pairs:") else _templates if name == "templates" else _swaps
    return {part_of(name): measure(stage, spec, task, model, predictor, name)}


def _swaps(stage: str, spec: Experiment, task: Task, model: "Model", predictor: Predictor, name: str) -> Part:
    if predictor.probabilities is None:
        return _nothing("flip_rate", "a task without labels has no answer that could flip"), None
    kind, path = swaps_of(name)
    terms = load_terms(path)
    examples = task.test_set(spec.eval_limit)
    found = [swap(text, terms, kind) for text in examples["text"]]
    kept = np.asarray([one is not None for one in found])
    chosen, swaps = examples[kept], [one for one in found if one is not None]
    if not swaps:
        return _nothing("flip_rate", f"none of {len(examples)} test texts holds a term of {kind}"), None
    # Both versions in one call: padding beside other texts must not be what makes them differ.
    both = predictor.probabilities([*chosen["text"], *(one.text for one in swaps)])
    before, after = both[: len(swaps)], both[len(swaps) :]
    names, sides = terms.kind(kind).sides, np.asarray([one.side for one in swaps])
    clusters = chosen["cluster"].to_numpy() if "cluster" in chosen else None
    metrics = measure_swaps(before, after, sides, names, clusters=clusters)
    ids = chosen["id"].tolist()
    named = [*names, "both"]
    table = _answers(
        stage,
        part_of(name),
        task,
        both,
        id=[*ids, *(f"{one}/swapped" for one in ids)],
        cluster=(ids if clusters is None else clusters.tolist()) * 2,
        group_names=[*(named[side] for side in sides), *(named[1 - side if side >= 0 else side] for side in sides)],
    )
    return {metric: value | {"of": len(examples)} for metric, value in metrics.items()}, table


def _templates(stage: str, spec: Experiment, task: Task, model: "Model", predictor: Predictor, name: str) -> Part:
    if predictor.probabilities is None:
        return _nothing("template_gap", "a task without labels gives no probabilities of them"), None
    texts = templates.load()
    probabilities = predictor.probabilities(texts["text"].tolist())
    n_frames = texts["frame"].nunique()
    pairs = texts[["kind", "term"]].drop_duplicates()
    terms = {kind: own["term"].tolist() for kind, own in pairs.groupby("kind", sort=False)}
    measured = measure_templates(probabilities.reshape(n_frames, len(pairs), -1), terms)
    columns = {"id": "id", "cluster": "frame", "group_kind": "kind", "group_term": "term"}
    table = _answers(stage, name, task, probabilities, **{new: texts[old].tolist() for new, old in columns.items()})
    return {"groups": measured}, table


def _pairs(stage: str, spec: Experiment, task: Task, model: "Model", predictor: Predictor, name: str) -> Part:
    from ftlib import stereotypes

    untouched = predictor.trainable is None
    masked = model.family == ENCODER
    if masked and not untouched:
        return _nothing("stereotype_share", "what is trained stands in place of the layer that predicts tokens"), None
    if masked and not model.speaks:
        return _nothing("stereotype_share", f"{model.name} was stored without the layer that predicts tokens"), None
    if not masked and predictor.likelihood is None:
        return _nothing("stereotype_share", f"this {model.family} gives no likelihood of a sentence"), None
    pairs = read_pairs(name.removeprefix("pairs:"))
    if masked:
        scores, protocol = _untouched_masked(model, pairs), stereotypes.MASKED
    else:
        scores = predictor.likelihood.score(stereotypes.sentences(pairs))
        protocol = f"{stereotypes.CAUSAL}, {predictor.likelihood.protocol}"
    ids = [f"{one}/{side}" for one in pairs.table["id"] for side in ("more", "less")]
    twice = {
        new: np.repeat(pairs.table[old].to_numpy(), 2)
        for new, old in (("cluster", "cluster"), ("group_bias_type", "bias_type"))
    }
    table = records.likelihoods_table(stage, part_of(name), _frame(id=ids, **twice), scores)
    # A part with the bytes of its texts counts as text to be modelled, and these sentences are none.
    table["n_bytes"] = None
    return stereotypes.measure(pairs, scores, protocol), table


def _untouched_masked(model: "Model", pairs: Pairs) -> "pd.DataFrame":
    """The scores of an untouched masked model, kept in the user's cache folder: every run of a study measures it."""
    import pandas as pd

    from ftlib.models import identity
    from ftlib.stereotypes import score_masked_pairs, sentences

    asked = [1, *identity(model), pairs.table["reverse"].tolist(), *sentences(pairs)]
    key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]
    columns = ["nats", "n_tokens", "n_bytes"]

    def compute() -> np.ndarray:
        return score_masked_pairs(model.speaker(), model.tokenizer, pairs)[columns].to_numpy(dtype=np.float64)

    return pd.DataFrame(remembered("pairs", key, compute), columns=columns).astype({"n_tokens": int, "n_bytes": int})


def _answers(stage: str, part: str, task: Task, probabilities: np.ndarray, **columns: Sequence[Any]) -> "pd.DataFrame":
    """Rows of the predictions: an answer per text, without true labels: nobody shall count them among a task's."""
    labels = np.asarray(task.labels, dtype=object)
    scores = {f"score_{label}": probabilities[:, place] for place, label in enumerate(task.labels)}
    table = _frame(stage=stage, part=part, **columns, prediction=labels[probabilities.argmax(axis=1)], **scores)
    return table.reindex(columns=[*table.columns, *(name for name in records.COLUMNS if name not in table)])


def _frame(**columns: Any) -> "pd.DataFrame":
    import pandas as pd

    # A scalar first would leave nothing to repeat it for.
    length = len(columns["id"])
    return pd.DataFrame(
        {name: [value] * length if isinstance(value, str) else value for name, value in columns.items()}
    )


def _nothing(metric: str, reason: str) -> dict[str, Any]:
    return {metric: leaf(math.nan, 0, 0, 0, reason)}
