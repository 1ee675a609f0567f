"""ftlib: which way of adapting this language model to my task should I use, and how sure can I be?

Every name below is loaded when it is first used, so that importing ftlib costs next to nothing.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

__version__ = "0.2.0"

_HOME = {
    "Curve": "ftlib.stats.learning_curve",
    "Events": "ftlib.records.events",
    "Experiment": "ftlib.config.experiment",
    "FtlibError": "ftlib.core.errors",
    "adapt": "ftlib.execution.run",
    "answer": "ftlib.notebook",
    "as_seen": "ftlib.models.prompts",
    "at_root": "ftlib.execution.notebook_exec",
    "bits_per_byte": "ftlib.metrics.language",
    "build_report": "ftlib.report.build",
    "by_protocol": "ftlib.models.inference",
    "check_data": "ftlib.data.audit",
    "compare": "ftlib.stats.verdict",
    "compare_unpaired": "ftlib.stats.unpaired",
    "comparisons": "ftlib.report.sections.comparison",
    "crossing": "ftlib.stats.learning_curve",
    "export": "ftlib.notebook",
    "full_text": "ftlib.core.html",
    "label_budget": "ftlib.stats.learning_curve",
    "label_descriptions": "ftlib.models.prompts",
    "load_adapted": "ftlib.models.export",
    "load_model": "ftlib.models.loading",
    "load_suite": "ftlib.config.suite_file",
    "load_task": "ftlib.data.registry",
    "look_inside": "ftlib.execution.inside",
    "measure_after": "ftlib.execution.run",
    "measure_before": "ftlib.execution.run",
    "open_model": "ftlib.execution.run",
    "open_task": "ftlib.execution.run",
    "perplexity": "ftlib.metrics.language",
    "picture": "ftlib.report.figures",
    "pictured": "ftlib.report.sections.continual",
    "read_curve": "ftlib.records.events",
    "read_learning_curves": "ftlib.report.sections.learning_curve",
    "read_predictions": "ftlib.records",
    "read_record": "ftlib.records",
    "read_runs": "ftlib.records",
    "read_study": "ftlib.notebook",
    "rival": "ftlib.execution.inside",
    "run": "ftlib.execution.run",
    "run_each": "ftlib.execution.inside",
    "save": "ftlib.execution.run",
    "score_continuations": "ftlib.models.score",
    "score_text": "ftlib.models.score",
    "scores": "ftlib.report.sections.comparison",
    "sentences": "ftlib.core.html",
    "states": "ftlib.report.sections.continual",
    "surprises": "ftlib.models.inference",
    "taken_apart": "ftlib.metrics.text",
    "what_was_forgotten": "ftlib.report.sections.continual",
}

_ALIASES = {"build_report": "build", "comparisons": "task_comparisons"}

__all__ = sorted(_HOME)

_MOVED = {
    "report.tables": "ftlib.report.blocks",
    "suite": "ftlib.execution.scheduler",
    "training.replay": "ftlib.execution.continual",
    "training.weight_interpolation": "ftlib.training.regularization",
    "weights": "ftlib.models.weights",
}
"""Modules that scripts of users import by an older name, and where their names are now."""


_RENAMED = {"contests": "comparisons", "read_ladder": "read_learning_curves"}
"""Names of 0.1 that notebooks of users call, and what they are called now."""


class _Moved(ModuleType):
    """A module under its old name; its names are looked up where they are now."""

    def __getattr__(self, name: str) -> Any:
        # What looks at every loaded module, as inspect does, is not to load this one.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(_MOVED[self.__name__.removeprefix("ftlib.")]), name)


for _old in _MOVED:
    sys.modules.setdefault(f"ftlib.{_old}", _Moved(f"ftlib.{_old}"))


def __getattr__(name: str) -> Any:
    if name in _MOVED:
        return sys.modules[f"ftlib.{name}"]
    name = _RENAMED.get(name, name)
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), _ALIASES.get(name, name))
        globals()[name] = value
        return value
    raise AttributeError(f"module 'ftlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
