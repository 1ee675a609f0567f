"""What a plan says about its data before anything runs: what the test sets can show, and how large the grid is."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from ftlib.config.experiment import DRAWS, FEW, draws
from ftlib.config.methods import ENCODER, METHODS, family_of, has_lm_head, read_config
from ftlib.core.format import short_name
from ftlib.data.audit import Findings, audit, planned_findings, unknown_tokens
from ftlib.data.kinds import KINDS
from ftlib.data.registry import kind_of
from ftlib.execution.scheduler import stored_tokenizer
from ftlib.models import weights
from ftlib.records.study import read_study
from ftlib.report.metric_rows import show_as_per_cent
from ftlib.report.sections.comparison import labels, task_comparisons
from ftlib.stats.power import planning_sentence

if TYPE_CHECKING:
    from ftlib.config.experiment import Experiment
    from ftlib.data.task import Task
    from ftlib.execution.scheduler import Planned

ASSUMED_DISCORDANCE = 0.15
"""Share of test examples on which exactly one of two methods is right, before anything is known about them."""


def power(planned: "Planned") -> list[str]:
    """What the test sets can show, assumed and, where runs are recorded, measured; and how large the grid is."""
    seeds = max(len(seeds) for seeds in _seeds(planned).values())
    sizes = {}
    for spec in planned.suite.experiments:
        task = planned.task_of(spec)
        sizes[spec.task, spec.eval_limit] = task, len(task.test_set(spec.eval_limit))
    lines = []
    for task, n in sizes.values():
        splits = ", ".join(f"{name} {len(table)}" for name, table in task.splits.items())
        if task.has_labels:
            lines += [
                f"{task.name}: {len(task.labels)} labels; {splits}; {n} test examples are used",
                f"  assumed: {planning_sentence(n, seeds, discordance=ASSUMED_DISCORDANCE)}",
            ]
        else:
            done, one = ("modelled", "document") if KINDS[task.kind].of_text else ("written", KINDS[task.kind].example)
            lines.append(f"{task.name}: {one}s to be {done}; {splits}; {n} test {one}s are used")
    if any((job.run_dir / "record.json").exists() for job in planned.jobs):
        for comparison in task_comparisons(read_study(planned.suite.folder)):
            if comparison.detectable:
                a, b, least = comparison.detectable
                shown = f"{100 * least:.1f} points" if show_as_per_cent(comparison.metric) else f"{least:.3f}"
                where = f"{comparison.task} with {labels(comparison.shots)}" if comparison.shots else comparison.task
                lines.append(f"  measured on {where}, between methods like {a} and {b}: {shown}")
    counts = Counter((job.spec.task, job.spec.method) for job in planned.jobs)
    shots: dict[tuple[str, str], set[int]] = {}
    for job in planned.jobs:
        if job.spec.shots:
            shots.setdefault((job.spec.task, job.spec.method), set()).add(job.spec.shots)
    for (task, method), n in counts.items():
        at = ", ".join(map(str, sorted(shots.get((task, method), ()))))
        lines.append(f"  {task} {method}: {n} run{'s' * (n > 1)}{f', at {at} examples per class' if at else ''}")
    return lines + few_draws(planned) + unused(planned) + cautions(planned)


def unused(planned: "Planned") -> list[str]:
    """What the plan settles and no run asks for: seeds where nothing draws, a target where no curve is climbed."""
    plan, specs = planned.suite.plan, planned.suite.experiments
    lines, drawn = [], any(draws(spec.model_dump()) for spec in specs)
    if len(plan.seeds) > 1 and not drawn:
        lines.append("caution: seeds: nothing that these methods do is drawn, so each has one run")
    if plan.target is not None and not any(spec.shots for spec in specs):
        lines.append("caution: target: it is for learning curves; no run here has a number of labels (shots)")
    return lines


def few_draws(planned: "Planned") -> list[str]:
    """What is said when few examples are drawn few times; empty where there are draws enough, or examples."""
    few = {key: len(seeds) for key, seeds in _seeds(planned).items() if 0 < key[2] <= FEW and len(seeds) < DRAWS}
    if not few:
        return []
    return [
        f"caution: {min(few.values())} draw{'s' * (min(few.values()) > 1)} at {FEW} examples per class or fewer; "
        f"which examples are drawn matters most where they are few, so {DRAWS} are advised (leave out seeds, or name "
        f"{DRAWS})"
    ]


def _seeds(planned: "Planned") -> dict[tuple[str, str, int], set[int]]:
    """Task, method, shots -> the seeds that run."""
    found: dict[tuple[str, str, int], set[int]] = {}
    for job in planned.jobs:
        if draws(job.spec.model_dump()):
            found.setdefault((job.spec.task, job.spec.method, job.spec.shots), set()).add(job.spec.seed)
    return found or {("", "", 0): {0}}


def cautions(planned: "Planned") -> list[str]:
    """What runs without an error and yet measures nothing, or something else than one may think; a line for each kind
    of model.
    """
    said: dict[str, None] = {}
    for spec in (job.spec for job in planned.jobs if METHODS[job.spec.method].model):
        config = read_config(weights.find(spec.model).folder)
        if family_of(config) != ENCODER:
            continue
        pairs = ", ".join(name for name in spec.evaluations if name.startswith("pairs:"))
        if pairs and not has_lm_head(config):
            said[f"caution: {pairs}: {spec.model} was stored without its masked-word layer: no value"] = None
        elif pairs and METHODS[spec.method].trains:
            said[
                f"caution: {pairs}: {spec.method} trains a head in place of {spec.model}'s masked-word layer: a value "
                "before, none after"
            ] = None
        others = (*spec.sequential_tasks, *spec.joint_tasks)
        texts = ", ".join(short_name(name) for name in others if KINDS[kind_of(name)].of_text)
        if texts and not has_lm_head(config):
            said[
                f"caution: {texts}: {spec.model} was stored without its masked-word layer, so it reads text by telling "
                "each from the others (SimCSE), not by guessing masked words"
            ] = None
    return list(said)


def data_cautions(planned: "Planned") -> list[str]:
    """What the audits of a plan's tasks found, a line each: all problems, and what concerns the plan itself."""
    audits: dict[str, Findings] = {}
    tokenizers: dict[str, Any] = {}
    unknown: set[tuple[str, str]] = set()
    read: set[tuple[str, str, int, int]] = set()
    lines: dict[str, None] = {}
    for spec in (job.spec for job in planned.jobs):
        task = planned.task_of(spec)
        if task.sha256 not in audits:
            audits[task.sha256] = audit(task)
        primary = planned.suite.plan.of(spec.task).primary
        found = list(
            planned_findings(
                task,
                primary=primary,
                shots=spec.shots,
                train_limit=spec.train_limit,
                eval_limit=spec.eval_limit,
                found=audits[task.sha256],
            )
        )
        if METHODS[spec.method].model and (task.sha256, spec.model) not in unknown:
            unknown.add((task.sha256, spec.model))
            if spec.model not in tokenizers:
                tokenizers[spec.model] = stored_tokenizer(spec.model)
            if tokenizers[spec.model] is not None:
                found += unknown_tokens(task, spec.model, tokenizers[spec.model])
        if METHODS[spec.method].model and task.has_labels:
            if spec.model not in tokenizers:
                tokenizers[spec.model] = stored_tokenizer(spec.model)
            known = task.sha256, spec.model, spec.max_length, spec.eval_limit
            if tokenizers[spec.model] is not None and known not in read:
                read.add(known)
                lines |= dict.fromkeys(_cut_texts(spec, task, tokenizers[spec.model]))
        for one in found:
            if one.level == "problem" or one.code == "unknown_tokens":
                lines[f"caution: {task.name}: {one}"] = None
    return ["".join(mark if mark.isprintable() else " " for mark in line) for line in lines]


def _cut_texts(spec: "Experiment", task: "Task", tokenizer: Any) -> list[str]:
    """How many texts of the test a run would not read to their end, by its own tokenizer and max_length."""
    # As it is stored it may cut texts, or fill them up.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    special = family_of(read_config(weights.find(spec.model).folder)) == ENCODER
    texts = task.test_set(spec.eval_limit)["text"].tolist()
    found = sum(len(one) > spec.max_length for one in tokenizer.encode_batch(texts, add_special_tokens=special))
    if not found:
        return []
    are = "is" if found == 1 else "are"
    return [
        f"caution: {task.name}: {found} of {len(texts)} test texts {are} longer than max_length = {spec.max_length} "
        f"tokens of {spec.model} and cut there"
    ]
