"""What a model keeps of its training text: planted canaries and their exposure, documents that it writes out.

A run with `canaries` trains on text with secrets in it, and measures, of the untouched model and of the adapted one:
how exposed the secrets are, for each number of repetitions (parts `canaries:<repetitions>`), and which share of its
training documents it continues token for token (`extraction:train`), beside documents that it never saw
(`extraction:test`). The untouched model, and canaries that are planted 0 times, are the controls.
"""

import math
from dataclasses import dataclass, fields
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from ftlib.config.experiment import Experiment
from ftlib.data.canaries import DIGITS, EACH, PREFIX, Canary, canaries, others, planted
from ftlib.data.task import Task, limited
from ftlib.evaluation.evaluate import Parts, State
from ftlib.metrics import metric_value
from ftlib.metrics.memorization import exposure_interval, rank
from ftlib.records import COLUMNS
from ftlib.stats.intervals import interval

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from ftlib.models.loading import Model

AT_ONCE = 1000
"""Candidates scored together: attention among more would take more memory, and is no faster."""

EXTRACTED = 100
"""Documents of each kind that the model is asked to continue, at most."""

GIVEN, WRITTEN = 32, 16
"""Tokens of a document that it is given, and that it is to continue with (the paper's are 50 and 50: these documents
are short)."""


@dataclass(frozen=True, repr=False)
class Planted(Task):
    """A task whose training documents hold canaries; nothing else of it is changed."""

    canaries: tuple[Canary, ...] = ()
    seed: int = 0

    def draw(self, **how: Any) -> "pd.DataFrame":
        """As `Task.draw`; the canaries are planted in what is drawn."""
        return planted(super().draw(**how), self.canaries, self.seed)

    def clean(self, **how: Any) -> "pd.DataFrame":
        """Those of the documents drawn that hold no canary."""
        before = super().draw(**how)
        return before[(before["text"] == self.draw(**how)["text"]).to_numpy()]

    def _repr_html_(self) -> str:
        from ftlib.core.html import table

        rows = [(one.repetitions, one.sentence) for one in self.canaries]
        return super()._repr_html_() + table(("planted so often", "canary"), rows)


def planted_task(task: Task, spec: Experiment) -> Task:
    """The task with the experiment's canaries in its training documents; the task itself where it asks for none."""
    if not spec.canaries:
        return task
    stated = {**task.stated, "canaries": f"{EACH} each, planted {spec.canaries} times"}
    kept = {one.name: getattr(task, one.name) for one in fields(Task)}
    return Planted(**kept | {"stated": stated}, canaries=tuple(canaries(spec.canaries, spec.seed)), seed=spec.seed)


def evaluate_memorization(state: State, name: str, data: None) -> Parts:
    """Exposure of the canaries and extraction of documents.

    Args:
        state: Of a decoder; its task is what `planted_task` gave.
        name: Of the evaluation; its parts are called `canaries:<repetitions>` and `extraction:<split>`.
        data: There is none but the task's.
    """
    stage, spec, task, model, predictor = state
    module = predictor.trainable.module if predictor.trainable else model.speaker()
    nats = _nats(stage, spec, task, model, module)
    found: Parts = {}
    for repetitions, some in groupby(enumerate(task.canaries), lambda one: one[1].repetitions):
        part = f"{PREFIX}{repetitions}"
        found[part] = _of_canaries(stage, part, list(some), nats)
    documents = {
        "extraction:train": task.clean(**spec.drawing()),
        "extraction:test": task.test_set(spec.eval_limit),
    }
    for part, rows in documents.items():
        found[part] = _of_documents(stage, part, limited(rows, EXTRACTED), spec, model, module)
    return found


def _nats(stage: str, spec: Experiment, task: Planted, model: "Model", module: "torch.nn.Module") -> np.ndarray:
    """(n_canaries, 1 + n_others) negative log-likelihoods: of each canary's own secret, then of the others."""
    from ftlib.models.loading import kept

    carriers, candidates = [one.carrier for one in task.canaries], others(spec.seed)
    own = [one.secret for one in task.canaries]
    if stage != "before":
        return _scored(module, model, spec, carriers, own, candidates)
    # All runs of one seed ask the untouched model the same.
    asked = (_dtype(spec), carriers, own, candidates)
    return kept("canaries", model, asked, lambda: _scored(module, model, spec, carriers, own, candidates))


def _scored(
    module: "torch.nn.Module", model: "Model", spec: Experiment, carriers: list[str], own: list[str], others: list[str]
) -> np.ndarray:
    from ftlib.models.score import score_continuations

    def logs(secrets: list[str]) -> np.ndarray:
        said = [f" {secret}" for secret in secrets]
        return score_continuations(module, model.tokenizer, "", carriers, said, dtype=_dtype(spec))

    pieces = [logs(others[start : start + AT_ONCE]) for start in range(0, len(others), AT_ONCE)]
    return -np.concatenate([np.diag(logs(own))[:, None], *pieces], axis=1)


def _of_canaries(
    stage: str, part: str, some: list[tuple[int, Canary]], nats: np.ndarray
) -> tuple[dict[str, Any], "pd.DataFrame"]:
    candidates = nats.shape[1]
    ranks = [rank(nats[place, 0], nats[place, 1:]) for place, _ in some]
    protocol = (
        f"{candidates:,} candidates, all secrets of {DIGITS} digits but those of other canaries: at most "
        f"{math.log2(candidates):.1f} bits; BOS and the sentence before the secret, no document around them"
    )
    found = metric_value(*exposure_interval(ranks, candidates), len(ranks), "") | {"protocol": protocol}
    columns = {"id": [one.id for _, one in some], "nats": [nats[place, 0] for place, _ in some]}
    return {"exposure": found}, _table(stage, part, **columns, rank=ranks, candidates=candidates)


def _of_documents(
    stage: str, part: str, documents: "pd.DataFrame", spec: Experiment, model: "Model", module: "torch.nn.Module"
) -> tuple[dict[str, Any], "pd.DataFrame | None"]:
    from ftlib.models.score.decoder import matched

    counts = matched(
        module, model.tokenizer, documents["text"].tolist(), prefix=GIVEN, length=WRITTEN, dtype=_dtype(spec)
    )
    kept = np.isfinite(counts)
    protocol = f"{GIVEN} tokens given, {WRITTEN} written by greedy decoding; documents of as many tokens at least"
    if kept.sum() < 2:
        reason = f"{int(kept.sum())} documents have {GIVEN + WRITTEN} tokens or more, and no canary among them"
        return {"extraction": metric_value(math.nan, 0, 0, int(kept.sum()), reason) | {"protocol": protocol}}, None
    clusters = documents["cluster"].to_numpy()[kept] if "cluster" in documents else None
    if clusters is not None and len(set(clusters)) < 2:
        clusters = None
    bounds = interval(counts[kept] == WRITTEN, clusters=clusters)
    columns = {"id": documents["id"].to_numpy()[kept], "n_tokens": counts[kept].astype(int), "cluster": clusters}
    found = metric_value(*bounds, int(kept.sum()), "") | {"protocol": protocol}
    return {"extraction": found}, _table(stage, part, **columns, n_wanted=WRITTEN)


def _table(stage: str, part: str, **columns: Any) -> "pd.DataFrame":
    """Predictions: of canaries nats and rank among so many candidates; of documents the tokens that were written as
    they stand, n_tokens, of n_wanted.
    """
    import pandas as pd

    table = pd.DataFrame({"stage": stage, "part": part, **columns})
    return table.reindex(columns=[*COLUMNS, *(name for name in columns if name not in COLUMNS)])


def _dtype(spec: Experiment) -> str:
    """As `ftlib.models.inference` has it: likelihoods are sums, in bfloat16 only where that was asked for by name."""
    return "bfloat16" if spec.dtype == "bfloat16" else "float32"
