"""ftlib: which way of adapting this language model to my task should I use, and how sure can I be?

Every name below is loaded when it is first used, so that importing ftlib costs next to nothing.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "Curve": "ftlib.curves",
    "Events": "ftlib.events",
    "Experiment": "ftlib.spec",
    "FtlibError": "ftlib.errors",
    "adapt": "ftlib.run",
    "as_seen": "ftlib.prompts",
    "at_root": "ftlib.notebooks",
    "by_protocol": "ftlib.predict",
    "bits_per_byte": "ftlib.metrics.language",
    "build_report": "ftlib.report",
    "check_data": "ftlib.doctor",
    "compare": "ftlib.verdict",
    "compare_unpaired": "ftlib.unpaired",
    "contests": "ftlib.report.contest",
    "crossing": "ftlib.crossover",
    "label_budget": "ftlib.crossover",
    "label_descriptions": "ftlib.prompts",
    "load_model": "ftlib.models",
    "load_suite": "ftlib.grid",
    "load_task": "ftlib.data",
    "measure_after": "ftlib.run",
    "measure_before": "ftlib.run",
    "open_model": "ftlib.run",
    "open_task": "ftlib.run",
    "picture": "ftlib.report.svg",
    "pictured": "ftlib.report.sequence",
    "read_curve": "ftlib.losscurve",
    "read_ladder": "ftlib.report.ladder",
    "read_predictions": "ftlib.records",
    "read_record": "ftlib.records",
    "read_runs": "ftlib.records",
    "read_study": "ftlib.report.study",
    "run": "ftlib.run",
    "perplexity": "ftlib.metrics.language",
    "save": "ftlib.run",
    "score_continuations": "ftlib.score",
    "score_text": "ftlib.score",
    "scores": "ftlib.report.entrants",
    "states": "ftlib.report.sequence",
    "surprises": "ftlib.predict",
}

_ALIASES = {"build_report": "build"}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), _ALIASES.get(name, name))
        globals()[name] = value
        return value
    raise AttributeError(f"module 'ftlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
