"""What benchmarks share: studies that are run once, and documents in which what was written by hand stays."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
"""Public datasets, which a user does not have."""
BY_HAND = re.compile(r"<!-- by hand -->\n.*?<!-- /by hand -->\n", re.DOTALL)
"""What a person wrote into a document that a benchmark makes."""


def ran(study, text, minutes=0.0):
    """Run a study that is not finished, from the suite file's text.

    With `minutes` it is stopped after so long, as by a person, and its report is of what was finished by then; called
    again it goes on.

    Returns:
        Its report (`report.json`), and the seconds it took when it was run; 0 where nobody took the time.
    """
    study, took = Path(study), Path(study) / "seconds.txt"
    study.mkdir(parents=True, exist_ok=True)
    if not (study / "report.json").exists():
        (study / "suite.toml").write_text(text, encoding="utf-8")
        start, before = time.perf_counter(), float(took.read_text(encoding="utf-8")) if took.exists() else 0.0
        running = subprocess.Popen([sys.executable, "-m", "ftlib", "run", str(study)], cwd=ROOT)
        try:
            failed = running.wait(60 * minutes or None)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            running.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.wait(30)
            # In the background of a shell a process does not hear of an interruption.
            running.terminate()
            running.wait()
            failed = subprocess.call([sys.executable, "-m", "ftlib", "report", str(study)], cwd=ROOT)
        if failed:
            sys.exit(f"{study}: some run failed, see {study}/report.html")
        took.write_text(f"{before + time.perf_counter() - start:.0f}", encoding="utf-8")
    report = json.loads((study / "report.json").read_text(encoding="utf-8"))
    return report, float(took.read_text(encoding="utf-8")) if took.exists() else 0.0


def processor(device="cpu"):
    """What was measured on: the device, cores, what torch takes the processor for, the flags that decide its speed."""
    import torch

    from ftlib.core.surroundings import cores
    from ftlib.records.provenance import device_name

    flags = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    listed = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    mine = ", ".join(flag for flag in flags if f" {flag}" in listed)
    taken = torch.backends.cpu.get_cpu_capability()
    return f"{device_name(device)}, {cores()} cores ({mine}), taken for {taken} by torch {torch.__version__}"


def over(values, said, of="seeds"):
    """A mean with its interval over seeds; of one seed, which has none, the value alone."""
    from ftlib.stats import paired

    if len(values) < 2:
        return f"{said(values[0])} (one {of.removesuffix('s')})"
    value, low, high = paired.t_interval(values)
    return f"{said(value)} ({said(low)} to {said(high)} over {of})"


KINDS = {
    "matrix products": (
        "aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
    ),
    "copies, also between float32 and bfloat16": ("aten::copy_", "aten::cat", "aten::clone"),
    "optimizer and the norm of gradients": (
        "aten::_fused_adamw_", "aten::linalg_vector_norm", "aten::_foreach_mul_", "aten::_foreach_add_",
    ),
    "dropout masks": ("aten::random_", "aten::ge", "aten::bernoulli_"),
    "softmax": ("aten::_softmax", "aten::_softmax_backward_data"),
    "activation and layer norms": (
        "aten::gelu", "aten::gelu_backward", "aten::native_layer_norm", "aten::native_layer_norm_backward",
    ),
    "additions, products, sums, zeros": (
        "aten::add", "aten::add_", "aten::mul", "aten::mul_", "aten::sum", "aten::fill_",
    ),
}  # fmt: skip


def spent(call):
    """A line: kinds of operators and their shares of what a call takes, most first."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU]) as seen:
        call()
    times = {event.key: event.self_cpu_time_total for event in seen.key_averages()}
    whole = sum(times.values())
    found = {kind: sum(times.get(name, 0) for name in names) / whole for kind, names in KINDS.items()}
    found["the rest (Python, autograd, tokenising, other operators)"] = 1 - sum(found.values())
    shares = sorted(found.items(), key=lambda item: -item[1])
    return f"ftlib's time goes to: {', '.join(f'{kind} {share:.0%}' for kind, share in shares if share >= 0.005)}."


def suite_of(name):
    """The text of a suite that is in `reports`."""
    return (ROOT / "reports" / name / "suite.toml").read_text(encoding="utf-8")


def write(path, text):
    """Write a document; what was written by hand into a section of the old one stays at the end of that section.

    A section is known by its heading, without what is in brackets there. Where it is gone, its words go to the first.
    """
    path, by_hand = Path(path), {}
    for section in sections(path.read_text(encoding="utf-8")) if path.exists() else []:
        by_hand[heading(section)] = BY_HAND.findall(section)
    made = sections(text)
    known = {heading(section) for section in made}
    for gone in [name for name in by_hand if name not in known]:
        by_hand.setdefault(heading(made[0]), []).extend(by_hand.pop(gone))
    written = ["\n".join([section, *by_hand.get(heading(section), [])]) for section in made]
    path.write_text("\n".join(written).rstrip("\n") + "\n", encoding="utf-8")


def sections(text):
    """A document's parts, each begun by a heading and ended by one newline."""
    return [part.rstrip("\n") + "\n" for part in re.split(r"(?m)^(?=#+ )", text) if part.strip()]


def heading(section):
    """A section's first line without brackets: they hold what may differ from one measurement to the next."""
    return re.sub(r" \(.*?\)", "", section.partition("\n")[0])


def scores(report):
    """A line per task, method and test part: accuracy over seeds, after training and before."""
    found = {}
    for row in report["rows"]:
        part = row["part"]
        if row["metric"] == "accuracy" and (part == "test" or part.startswith("tests.")) and row["value"] is not None:
            key = row["task"], part, row["model"], row["method"], row["settings"]
            found.setdefault(key, {})[row["stage"]] = row
    lines = [
        "| task | texts | model | method | before, % | after, % | seeds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for key, stages in found.items():
        if "after" in stages:
            cells = [percent(stages.get(stage)) for stage in ("before", "after")]
            task, part, model, *method = key
            lines.append(
                f"| {task} | {part} | {model} | {' '.join(method)} | {' | '.join(cells)} | {stages['after']['seeds']} |"
            )
    return lines


def percent(row):
    """A share with its interval; a dash where it was not measured."""
    return f"{100 * row['value']:.1f} ({100 * row['low']:.1f} to {100 * row['high']:.1f})" if row else "-"
