"""A model card from a record: what the model is for, how it was measured and on whom, and what nobody has tested.

Everything in it comes from the record, from the cards of bundled data, and from the base model's own card; what they do
not say is said to be unknown (Mitchell et al. 2019, "Model Cards for Model Reporting"). Text from data, such as names
of labels and groups, is shown letter by letter and can be no markup.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlib import card_sections as sections
from ftlib.card_sections import UNKNOWN, inert
from ftlib.data import kind_of
from ftlib.errors import FtlibError
from ftlib.methods import CLASSIFICATION, METHODS
from ftlib.metrics import METRICS
from ftlib.naming import BUNDLED_MODELS
from ftlib.records import RunRecord, read_record, records_of, write_atomically

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

_HUB = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}
"""Bundled models that are on the Hub."""


def write(folder: str | Path, run: str = "", out: str | Path = "") -> Path:
    """Write the model card of one run.

    Args:
        folder: A run's folder, or a study's.
        run: The run's id, where a study has several that trained a model.
        out: The file; empty: MODEL_CARD.md in the run's folder.

    Raises:
        FtlibError: See `card`.
    """
    chosen, _, run_dir = _chosen(Path(folder), run)
    path = Path(out) if out else run_dir / "MODEL_CARD.md"
    content = str(card(run_dir, chosen.run_id))
    write_atomically(path, lambda temporary: temporary.write_text(content + "\n", encoding="utf-8"))
    return path


def card(folder: str | Path, run: str = "") -> "ModelCard":
    """The model card of one run, as the Hub reads it: metadata with every test metric, and sections in Markdown.

    Args:
        folder: A run's folder, or a study's.
        run: The run's id, where a study has several that trained a model.

    Raises:
        FtlibError: No such run, it did not finish, or it adapted no model; or it is not said which of several.
    """
    from huggingface_hub import ModelCard, ModelCardData

    record, others, _ = _chosen(Path(folder), run)
    spec = record.spec["resolved"]
    kind, licence = kind_of(spec["task"]), _licence(spec["model"])
    task_type = "text-classification" if kind == CLASSIFICATION else "text-generation"
    data = ModelCardData(
        model_name=f"{spec['method']}-{record.run_id}",
        base_model=_HUB.get(spec["model"]) or (None if _is_local(spec["model"]) else spec["model"].partition("@")[0]),
        datasets=spec["task"][4:].partition("@")[0] if spec["task"].startswith("hub:") else None,
        library_name="peft" if METHODS[spec["method"]].module == "adapters" else "transformers",
        pipeline_tag=task_type,
        tags=["ftlib", spec["method"]],
        eval_results=list(_results(record, task_type)),
    )
    parts = {
        "": sections.summary(record),
        "Intended use": sections.use(record, kind),
        "How it was made": sections.made(record, licence),
        "Data": sections.data(record),
        "How well it does": sections.levels(record, others),
        "Groups tested": sections.groups(record),
        "Memorised text": sections.memory(record),
        "What was not tested": [f"- {line}" for line in sections.untested(record, kind, others)],
        "Limits": [f"- {line}" for line in sections.limits(record)],
    }
    title = f"# {inert(spec['method'])} of {inert(spec['model'])} on {inert(spec['task'])}"
    body = [title]
    for name, lines in parts.items():
        body += ["", *([f"## {name}", ""] if name else []), *lines]
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(body))


def _chosen(folder: Path, run: str) -> tuple[RunRecord, list[RunRecord], Path]:
    """A run's record, those that differ from it in their seed only, and its folder."""
    if (folder / "record.json").is_file():
        record, study = read_record(folder), folder.parent.parent
        run = run or record.run_id
        found = list(records_of(study)) if folder.parent.name == "runs" else [(folder, record)]
    else:
        found = list(records_of(folder))
    if not found:
        raise FtlibError(f"{folder}: neither a run's folder nor a study with runs/*/record.json")
    able = {one.run_id: (one, path) for path, one in found if one.status == "ok" and _adapts(one)}
    if not run:
        first = {_terms(one): name for name, (one, _) in reversed(able.items())}
        if len(first) != 1:
            listed = [f"{name} ({able[name][0].spec['resolved']['method']})" for name in first.values()]
            raise FtlibError(
                f"{folder}: {len(first)} settings adapted a model, and a card is about one; say which with --run: "
                f"{', '.join(listed[:12]) or 'none'}"
            )
        run = next(iter(first.values()))
    if run not in able:
        known = {one.run_id for _, one in found}
        why = "did not finish, or adapted no model" if run in known else f"is not among {sorted(able)[:12]}"
        raise FtlibError(f"{folder}: run {run} {why}; there is nothing to make a card of")
    record, path = able[run]
    return record, [one for one, _ in able.values() if one is not record and _terms(one) == _terms(record)], path


def _adapts(record: RunRecord) -> bool:
    method = METHODS.get(record.spec["resolved"]["method"])
    return method is not None and method.model and method.name not in ("zero_shot", "in_context")


def _terms(record: RunRecord) -> str:
    return repr(sorted((name, repr(v)) for name, v in record.spec["resolved"].items() if name != "seed"))


def _is_local(model: str) -> bool:
    return model in BUNDLED_MODELS or Path(model).is_dir()


def _licence(model: str) -> str:
    """The base model's licence as its own card states it; nothing is downloaded."""
    from huggingface_hub import try_to_load_from_cache

    from ftlib import weights
    from ftlib.candidates import licence_of

    if model == "minilm":
        return "Apache-2.0"
    if _is_local(model):
        return licence_of(weights.find(model).folder)
    name, _, revision = model.partition("@")
    there = try_to_load_from_cache(name, "README.md", revision=revision or None)
    return licence_of(Path(there).parent) if isinstance(there, str) else UNKNOWN


def _results(record: RunRecord, task_type: str) -> Iterator[Any]:
    from huggingface_hub import EvalResult

    task = record.spec["resolved"]["task"]
    for name, leaf in sections.of_test(record):
        if name in METRICS and leaf["value"] is not None:
            yield EvalResult(
                task_type, task.removeprefix("hub:"), task, name, leaf["value"], dataset_split="test",
                metric_name=f"{name} (95 % interval: {sections.span(leaf)}; n = {leaf['n']})",
            )  # fmt: skip
