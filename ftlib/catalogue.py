"""What there is: the rows of `ftlib list`."""

from pathlib import Path
from typing import Any


def catalogue(what: str) -> list[dict[str, Any]]:
    """The rows of one table, each with a name and a summary.

    Args:
        what: tasks, models, methods, metrics, notebooks or studies.

    >>> [row["name"] for row in catalogue("methods")][:3]
    ['majority', 'tfidf', 'ngram']
    """
    return {
        "tasks": _tasks,
        "models": _models,
        "methods": _methods,
        "metrics": _metrics,
        "notebooks": _notebooks,
        "studies": _studies,
    }[what]()


def _tasks() -> list[dict[str, Any]]:
    from ftlib.data import TASKS

    return [
        *({"name": name, "summary": question} for name, question in TASKS.items()),
        {
            "name": "file:PATH",
            "summary": "a CSV, TSV, JSONL, Parquet or text file, or a folder of train/validation/test",
        },
        {"name": "hub:ID[@revision]", "summary": "a dataset of the Hugging Face Hub"},
    ]


def _models() -> list[dict[str, Any]]:
    from ftlib.fields import BUNDLED_MODELS

    return [
        *({"name": name, "summary": what} for name, what in BUNDLED_MODELS.items()),
        {"name": "FOLDER", "summary": "a local folder with config.json, a tokenizer and *.safetensors"},
        {"name": "OWNER/NAME[@revision]", "summary": "a model of the Hugging Face Hub, safetensors only"},
    ]


def _methods() -> list[dict[str, Any]]:
    from ftlib.methods import METHODS

    rows = []
    for method in METHODS.values():
        row: dict[str, Any] = {"name": method.name, "summary": method.summary, "trains": method.trains}
        row |= {"notebook": method.notebook, "defaults": dict(method.defaults)}
        row["arguments"] = {name: f"{meaning} [{default!r}]" for name, (default, meaning) in method.arguments.items()}
        rows.append(row | {"kinds": list(method.kinds), "families": list(method.families)})
    return rows


def _metrics() -> list[dict[str, Any]]:
    from ftlib.metrics import METRICS

    return [
        {
            "name": metric.name,
            "summary": f"{metric.summary} ({'higher' if metric.higher_is_better else 'lower'} is better)",
            "higher_is_better": metric.higher_is_better,
            "unit": metric.unit,
            "range": list(metric.range),
            "source": metric.source,
        }
        for metric in METRICS.values()
    ]


def _notebooks() -> list[dict[str, Any]]:
    from ftlib import notebooks

    return [{"name": name, "summary": question} for name, question in notebooks.listed().items()]


def _studies() -> list[dict[str, Any]]:
    import tomllib

    rows = []
    for path in sorted(Path("reports").glob("*/suite.toml")):
        study = tomllib.loads(path.read_text(encoding="utf-8")).get("study", {})
        records = len(list(path.parent.glob("runs/*/record.json")))
        state = f"{records} records" if records else "not run yet"
        rows.append({"name": str(path.parent), "summary": f"{study.get('question', '')} ({state})", "records": records})
    return rows
