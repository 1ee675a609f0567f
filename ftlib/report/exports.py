"""What a report says, for other programs: its tables, its figures and the page itself, and its runs in trackers."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftlib.core.atomic import write_atomically
from ftlib.core.errors import FtlibError, unknown
from ftlib.core.format import typed
from ftlib.report import trackers
from ftlib.report.build import build

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
"""Programs that print a page, by their names on PATH."""

Rows = Sequence[Mapping[str, Any]]


def export(study_folder: str | Path, kinds: Sequence[str]) -> list[Path | str]:
    """Write a study's report in other forms.

    Args:
        study_folder: The folder of a study whose report has been made.
        kinds: Names of `KINDS`.

    Returns:
        The files and stores.

    Raises:
        FtlibError: No such kind, no report, or something that the kind needs is not installed.
    """
    folder, written = Path(study_folder), []
    known(kinds)
    if not (folder / "report.json").is_file():
        raise FtlibError(f"{folder}: no report.json; make the report first (ftlib report {typed(folder)})")
    for kind in kinds:
        written += KINDS[kind](folder)
    return written


def known(kinds: Sequence[str]) -> None:
    """Refuse what is no name of `KINDS`."""
    if wrong := [kind for kind in kinds if kind not in KINDS]:
        raise unknown("export", wrong[0], KINDS)


def _tables(ending: str, write: Callable[[Rows, Path], None]) -> Callable[[Path], list[Path | str]]:
    """What writes every table of report.json to `exports/NAME.ending`."""

    def written(folder: Path) -> list[Path | str]:
        content, paths = json.loads((folder / "report.json").read_text(encoding="utf-8")), []
        for name, rows in content.items():
            if _is_table(rows):
                paths.append(folder / "exports" / f"{name}.{ending}")
                write_atomically(paths[-1], lambda temporary, rows=rows: write(rows, temporary))
        return paths

    return written


def _figures(folder: Path) -> list[Path | str]:
    """Every figure as PDF; drawn anew where the report was made without."""
    if not any(folder.glob("figures/*.pdf")):
        build(folder, pdf=True)
    return sorted(folder.glob("figures/*.pdf"))


def _is_table(rows: Any) -> bool:
    flat = (str, int, float, bool, type(None))
    return (
        isinstance(rows, list)
        and bool(rows)
        and all(isinstance(row, dict) and all(isinstance(cell, flat) for cell in row.values()) for row in rows)
    )


def _parquet(rows: Rows, path: Path) -> None:
    import pandas as pd

    pd.DataFrame(list(rows)).to_parquet(path, index=False)


def with_intervals(rows: Rows) -> tuple[list[str], list[list[str]]]:
    """Rows as people print them: a value with its interval in one cell, and no column that is empty throughout.

    >>> with_intervals([{"name": "lora", "value": 0.75, "low": 0.7, "high": 0.8, "reason": None}])
    (['name', 'value'], [['lora', '0.75 (0.7 to 0.8)']])
    """
    names = dict.fromkeys(name for row in rows for name, cell in row.items() if cell not in (None, ""))
    ends = {"low", "high"} if {"value", "difference"} & set(names) else set()
    kept = [name for name in names if name not in ends and name != "sentence"]
    body = []
    for row in rows:
        cells = []
        for name in kept:
            said = _said(row.get(name))
            if name in ("value", "difference") and row.get("low") is not None and row.get("high") is not None and said:
                said += f" ({_said(row['low'])} to {_said(row['high'])})"
            cells.append(said)
        body.append(cells)
    return kept, body


def _said(cell: Any) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return f"{cell:.4g}" if isinstance(cell, float) else " ".join(str(cell).split())


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def latex(said: str) -> str:
    r"""Text that LaTeX prints letter by letter.

    >>> latex("f1_macro & 50 %")
    'f1\\_macro \\& 50 \\%'
    """
    return "".join(_LATEX.get(mark, mark if mark.isprintable() else "?") for mark in said)


def _latex(rows: Rows, path: Path) -> None:
    header, body = with_intervals(rows)
    lines = [r"% \usepackage{booktabs}", rf"\begin{{tabular}}{{{'l' * len(header)}}}", r"\toprule"]
    lines += [" & ".join(map(latex, header)) + r" \\", r"\midrule"]
    lines += [" & ".join(map(latex, cells)) + r" \\" for cells in body]
    path.write_text("\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""]), encoding="utf-8")


def _markdown(rows: Rows, path: Path) -> None:
    header, body = with_intervals(rows)
    lines = ["| " + " | ".join(map(_plain, cells)) + " |" for cells in (header, *body)]
    lines.insert(1, "|" + " --- |" * len(header))
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


def _plain(said: str) -> str:
    for mark, safe in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("`", "\\`"), ("[", "\\["), ("*", "\\*")):
        said = said.replace(mark, safe)
    return said


def print_page(study_folder: str | Path) -> Path:
    """Print report.html to report.pdf with a browser that is installed; folds are opened in print.

    Raises:
        FtlibError: No browser, or it printed nothing.
    """
    folder = Path(study_folder)
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        raise FtlibError(
            f"report.pdf: found no browser that prints; allowed: one of {', '.join(BROWSERS)} on PATH. Install one, "
            f"or open {(folder / 'report.html').as_posix()} in any browser and print it there"
        )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        printed = Path(profile) / "report.pdf"
        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={profile}",
            "--no-pdf-header-footer",
        ]
        page = (folder / "report.html").resolve().as_uri()
        done = subprocess.run(
            [program, *options, f"--print-to-pdf={printed}", page],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if not printed.is_file():
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise FtlibError(
                f"report.pdf: {Path(program).name} printed nothing ({last}); print report.html in a browser"
            )
        data = printed.read_bytes()
    write_atomically(folder / "report.pdf", lambda temporary: temporary.write_bytes(data))
    return folder / "report.pdf"


KINDS: Mapping[str, Callable[[Path], list[Path | str]]] = {
    "parquet": _tables("parquet", _parquet),
    "latex": _tables("tex", _latex),
    "markdown": _tables("md", _markdown),
    "pdf": _figures,
    "page": lambda folder: [print_page(folder)],
    "mlflow": lambda folder: [trackers.to_mlflow(folder)],
    "trackio": lambda folder: [trackers.to_trackio(folder)],
}
"""Name -> what writes it."""
