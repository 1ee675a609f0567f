"""A run's model: what using it costs, kept beside the record where asked, and checked in a process of its own."""

import os
import shutil
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.core import format
from ftlib.core.errors import FtlibError
from ftlib.data.task import Task, limited
from ftlib.metrics import calibration
from ftlib.models import export
from ftlib.models.export import SavedModel
from ftlib.training.contract import Predictor
from ftlib.training.mitigation import column_of

if TYPE_CHECKING:
    import pandas as pd

    from ftlib.models.loading import Model

FOLDER = "model"
"""Of a run's folder."""

SECONDS = 1.0
"""Spent on either of the two speeds of prediction, about."""

ONE_BY_ONE = (5, 50)
"""Texts, at least and at most, that are asked one at a time."""

TOGETHER = 32
"""Texts that are asked at a time where many are waiting."""

BATCHES = (3, 10)
"""Of so many texts, at least and at most."""

VALIDATED = 1000
"""Examples of validation, at most, that a temperature is chosen on."""


def cost_of_use(spec: Experiment, task: Task, predictor: Predictor) -> dict[str, float | None]:
    """Texts a second, and how long one text alone takes: of the model as it would be read from its folder.

    Measured on test texts with the run's arithmetic and threads, after one call that is not counted. Where a method
    keeps nothing that could be read again, all are None.
    """
    names = ("predict_examples_per_second", "predict_latency_median_seconds", "predict_latency_p99_seconds")
    if predictor.saved is None:
        return dict.fromkeys(names)
    rows = task.test_set(spec.eval_limit)
    rows = rows.iloc[np.random.default_rng(0).permutation(len(rows))]
    ask = partial(_ask, predictor.saved.ready(spec), spec, task)
    ask(rows[:1])
    taken, start = [], time.perf_counter()
    for place in range(ONE_BY_ONE[1]):
        began = time.perf_counter()
        ask(rows.iloc[[place % len(rows)]])
        taken.append(time.perf_counter() - began)
        if len(taken) >= ONE_BY_ONE[0] and began - start > SECONDS:
            break
    # The median of several batches: another process may hold up one.
    rates, start = [], time.perf_counter()
    for place in range(BATCHES[1]):
        batch = rows.iloc[np.arange(place * TOGETHER, (place + 1) * TOGETHER) % len(rows)]
        began = time.perf_counter()
        ask(batch)
        rates.append(len(batch) / (time.perf_counter() - began))
        if len(rates) >= BATCHES[0] and time.perf_counter() - start > SECONDS:
            break
    found = (float(np.median(rates)), float(np.median(taken)), float(np.quantile(taken, 0.99)))
    return dict(zip(names, found, strict=True)) | {"predict_latency_n": len(taken)}


def _ask(saved: SavedModel, spec: Experiment, task: Task, rows: "pd.DataFrame") -> Any:
    texts = rows["text"].tolist()
    if not saved.labels:
        return saved.write(texts) if saved.question().writing else saved.likelihood(texts)
    column = _column(spec, task)
    return saved.probabilities(texts, groups=rows[column].tolist() if column else None)


def _column(spec: Experiment, task: Task) -> str:
    """The column of groups that must be told at prediction; empty for all methods but one."""
    return column_of(task, spec.mitigation_column) if METHODS[spec.method].groups == "prediction" else ""


def keep(
    folder: Path,
    spec: Experiment,
    task: Task,
    model: "Model | None",
    predictor: Predictor,
    recorded: "pd.DataFrame",
    *,
    merge: bool = False,
    int8: bool = False,
) -> dict[str, Any]:
    """Write a run's model into a folder, and have it answered by a process that knows no ftlib.

    Args:
        folder: Made anew; it is there only once the model has been checked.
        spec: The run.
        task: Its data.
        model: Its base model, if there is one.
        predictor: The adapted model.
        recorded: The run's predictions, of the stage `after`, part `test`.
        merge: Whether an adapter is added to the weights.
        int8: Whether it is put into bytes first; what was trained is in bytes afterwards.

    Returns:
        What the record says of it.

    Raises:
        FtlibError: The saved model answers otherwise than the run's.
    """
    saved = predictor.saved.ready(spec, precise=True)
    said = {"run_id": spec.run_id, **_facts(model, task)}
    if int8 or spec.quantise:
        said |= _in_int8(saved, spec, task, recorded)
    said |= validated(spec, task, saved)
    saved.facts = {**saved.facts, **said}
    allowed = export.INT8_TOLERANCE if saved.facts.get("int8") else export.TOLERANCE
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        export.write(part, saved, merge=merge, card=_card(saved.facts))
        own = saved.facts["task"]
        tests = {name: task if name == own else predictor.members[name][0] for name in saved.questions}
        rows = {name: one.test_set(spec.eval_limit) for name, one in tests.items()}
        asked = export.asked_of(saved, part, rows, _column(spec, task))
        (answers,), peak = export.ask_alone([asked], spec.threads)
        said |= {"largest_difference": export.difference(saved, asked, answers), "n": len(asked.texts[own])}
        if said["largest_difference"] > allowed:
            raise FtlibError(
                "save: the saved model, loaded in a process of its own, answers otherwise: by up to "
                f"{said['largest_difference']:.2g} on {said['n']} test examples; allowed: {allowed:g}"
            )
        said |= _against(saved, asked, answers, recorded, model)
        said["bytes"] = sum(path.stat().st_size for path in part.rglob("*") if path.is_file())
        said["predict_memory_bytes"] = peak
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return said


def _in_int8(saved: SavedModel, spec: Experiment, task: Task, recorded: "pd.DataFrame") -> dict[str, Any]:
    """Put a model into bytes, unless its run did; what that changes on the test set."""
    from ftlib.models.quantise import quantise, stored

    saved.facts = {**saved.facts, "int8": True}
    if not spec.quantise:
        quantise(saved.module)
    inner = saved.module.get_base_model() if hasattr(saved.module, "get_base_model") else saved.module
    parts = stored(inner)
    said = {"int8": True, "weights_bytes": sum(one.nbytes for one in parts.values())}
    said["float32_bytes"] = sum(4 * one.numel() for name, one in parts.items() if not name.endswith(".int8_scales"))
    if spec.quantise or not saved.labels:
        return said
    test = task.test_set(spec.eval_limit)
    found = saved.probabilities(test["text"].tolist()).argmax(axis=1)
    now, before = np.asarray(saved.labels, dtype=object)[found], recorded["prediction"].to_numpy()
    right = [float((one == test["label"].to_numpy()).mean()) for one in (before, now)]
    return said | {"int8_changed": int((now != before).sum()), "int8_n": len(test), "int8_accuracy": right}


def _against(
    saved: SavedModel,
    asked: export.Asked,
    answers: Mapping[str, np.ndarray],
    recorded: "pd.DataFrame",
    model: "Model | None",
) -> dict[str, Any]:
    """How far the saved model, in float32, is from what the run recorded, which may be in bfloat16."""
    name, labels, allowed = saved.facts["task"], saved.labels, export.TOLERANCE
    rows = recorded.iloc[export.spread(len(recorded))]
    if saved.question().writing:
        nats, tokens = answers[name][:, :2].astype(float).T
        there = rows["nats"].to_numpy(dtype=float)
        apart = float((np.abs(nats - there) / np.maximum(tokens, 1)).max())
        # The run rated them in batches, and what padding rounds grows with what is rounded.
        allowed *= max(1.0, float((there / np.maximum(tokens, 1)).max()))
        changed = {"texts_changed": int((answers[name][:, 2] != rows["text_out"].to_numpy()).sum())}
    elif not labels:
        return {}
    else:
        found = saved.probabilities(asked.texts[name], name, asked.groups)
        apart = float(np.abs(found - rows[[f"score_{label}" for label in labels]].to_numpy(dtype=float)).max())
        chosen = np.asarray(labels, dtype=object)[found.argmax(axis=1)]
        changed = {"labels_changed": int((chosen != rows["prediction"].to_numpy()).sum())}
    # In int8 a text's answer depends on what it was asked together with.
    if not (model is not None and (model.bf16 or saved.facts.get("int8"))) and apart > allowed:
        raise FtlibError(
            f"save: the saved model differs from the recorded predictions by up to {apart:.2g}; allowed: "
            f"{allowed:g} in float32"
        )
    return {"difference_to_record": apart, **changed}


def _facts(model: "Model | None", task: Task) -> dict[str, Any]:
    from ftlib.models.catalog import licence_of

    base = {} if model is None else {"base_model_sha256": model.sha256, "base_model_licence": licence_of(model.folder)}
    return {**base, "data_sha256": task.sha256, "data_licence": task.licence}


def validated(spec: Experiment, task: Task, saved: SavedModel) -> dict[str, Any]:
    """What validation says of a model: its figure, and the temperature of its probabilities where there is enough.

    A run with shots does not look at it: those labels would be more than the shots.
    """
    if spec.shots:
        return {"validation": None, "temperature": {"value": None, "reason": "with shots, validation is not looked at"}}
    rows = limited(task.splits["validation"], VALIDATED)
    if saved.question().writing:
        nats, tokens = saved.rate(rows["text"].tolist(), rows["label"].tolist()).sum(axis=0)
        return {"validation": {"nats_per_token": float(nats / tokens), "n": len(rows)}, "temperature": None}
    if not saved.labels:
        found = saved.likelihood(rows["text"].tolist())
        bits = float(found["nats"].sum() / found["n_bytes"].sum() / np.log(2))
        return {"validation": {"bits_per_byte": bits, "n": len(rows)}, "temperature": None}
    column = _column(spec, task)
    found = saved.probabilities(rows["text"].tolist(), groups=rows[column].tolist() if column else None)
    truth = rows["label"].map({label: code for code, label in enumerate(saved.labels)}).to_numpy()
    figure = {"accuracy": float((found.argmax(axis=1) == truth).mean()), "n": len(rows)}
    if len(rows) < calibration.LEAST:
        reason = f"{format.plural(len(rows), 'example')} of validation; {calibration.LEAST} are needed"
        return {"validation": figure, "temperature": {"value": None, "reason": reason}}
    chosen = calibration.temperature_of(found, truth)
    if not np.isfinite(chosen):
        reason = "a true label has no probability at all, which no temperature changes"
        return {"validation": figure, "temperature": {"value": None, "reason": reason}}
    nats = [calibration.nats(one, truth) for one in (found, calibration.at_temperature(found, chosen))]
    return {"validation": figure, "temperature": {"value": chosen, "n": len(rows), "nats": nats}}


def _card(facts: Mapping[str, Any]) -> list[str]:
    """What README.md says beside the code."""
    chosen = facts.get("temperature") or {}
    lines = [
        f"Made by ftlib in run {facts['run_id']}. The code above is what the saved model was checked with.",
        "",
    ]
    if facts["base_model"]:
        lines.append(f"- Texts are read up to {facts['max_length']} tokens; the rest is cut.")
        lines.append(f"- Base model: {facts['base_model']}, licence: {facts['base_model_licence']}.")
    lines.append(
        f"- Licence of the data: {facts['data_licence']}. This model has none yet: whoever releases it chooses."
    )
    if facts.get("int8"):
        size = f"{facts['weights_bytes'] / 1e6:.1f} MB, {facts['float32_bytes'] / 1e6:.1f} MB in float32"
        lines.append(
            f"- Linear layers and word vectors are in int8 ({size}), for torch on a processor. An answer depends a "
            "little on what a text is asked together with; asked alone, this folder and ftlib differ by at most "
            f"{export.INT8_TOLERANCE:g}."
        )
        if "int8_n" in facts:
            before, now = facts["int8_accuracy"]
            lines.append(
                f"- In int8 {facts['int8_changed']} of {facts['int8_n']} test examples have another label than in "
                f"float32; accuracy {now:.4f}, {before:.4f} before."
            )
    if chosen.get("value"):
        lines.append(
            f"- Probabilities are calibrated by dividing their logarithms by {chosen['value']:.3f} (chosen on "
            f"{chosen['n']} examples of validation); `ftlib predict` does so."
        )
    return lines
