"""Where the figures come from: versions, devices, checksums, and whether the runs agree on them."""

import json
from collections.abc import Mapping
from typing import Any

from ftlib.core import format
from ftlib.records.study import Study

_OF_THE_RUN = ("tuned", "git", "packages", "data")


def provenance(study: Study) -> dict[str, Any]:
    """Each field with the values that the runs hold, and how many runs hold each, as report.json has it."""
    fields: dict[str, dict[str, int]] = {}
    for run in study.runs:
        for name, value in _flat(run.record.provenance).items():
            said = (
                value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
            )
            counts = fields.setdefault(name, {})
            counts[said] = counts.get(said, 0) + 1
    values = {
        name: [{"value": value, "runs": n} for value, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
        for name, counts in sorted(fields.items())
    }
    return {
        "plan_hash": study.plan_hash or None,
        "plan_stood_before_the_runs": plan_stood(study),
        "exploratory_runs": [run.record.run_id for run in study.exploratory],
        "runs": len(study.runs),
        "reproduce": command(study),
        "fields": values,
    }


def plan_stood(study: Study) -> bool:
    """Whether every run carries the hash of the plan as suite.toml holds it."""
    return bool(study.plan_hash) and not study.exploratory


def plan_line(study: Study) -> str:
    """Whether the plan stood, in words."""
    if not study.plan_hash:
        return "Exploratory: no plan stood before the runs, so what follows is a search, not a test."
    if not study.exploratory:
        n = len(study.runs)
        runs = "its only run" if n == 1 else f"all {n} runs"
        return (
            f"The plan stood before the first run: {runs} carry the hash of the plan in suite.toml ({study.plan_hash})."
        )
    n, total = len(study.exploratory), len(study.runs)
    which = "all runs were" if n == total else f"{n} of {total} runs were"
    return f"Exploratory: {which} made under another plan than suite.toml holds now ({study.plan_hash})."


def command(study: Study) -> str:
    """The command that makes this study again, from the repository's root."""
    return f"ftlib run reports/{study.folder.resolve().name}"


def facts(study: Study) -> list[tuple[str, str]]:
    """The provenance a reader looks for first, one line each; where runs differ, every value with its runs."""
    fields = provenance(study)["fields"]
    names = {
        "ftlib": "ftlib", "git.commit": "git commit", "git.dirty": "changed since the commit", "python": "Python",
        "system": "system", "device": "device", "threads": "threads", "dtype": "arithmetic",
        "model_sha256": "model, SHA-256", "data_sha256": "data, SHA-256",
    }  # fmt: skip
    lines = [(title, _said(fields[name])) for name, title in names.items() if name in fields]
    packages = [
        f"{name.removeprefix('packages.')} {_said(values)}"
        for name, values in fields.items()
        if name.startswith("packages.")
    ]
    return [*lines, *([("packages", ", ".join(packages))] if packages else [])]


def _said(values: list[Mapping[str, Any]]) -> str:
    shown = [
        {"": "none", "null": "none", "false": "no", "true": "yes"}.get(entry["value"], entry["value"])
        for entry in values
    ]
    if len(shown) == 1:
        return shown[0]
    return "; ".join(
        f"{value} ({format.plural(entry['runs'], 'run')})" for value, entry in zip(shown, values, strict=True)
    )


def _flat(node: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in node.items():
        if isinstance(value, Mapping) and name in ("git", "packages"):
            found |= _flat(value, f"{name}.")
        elif name not in _OF_THE_RUN:
            found[where + name] = value
    return found
