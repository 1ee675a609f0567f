"""The report: a study's folder in, one page that a person can act on out.

`build` reads `suite.toml` and `runs/*/` and writes `report.html`, `report.json`, `tables/*.csv` and `figures/*.svg`. It
is a pure function of the folder: the same folder gives the same bytes. Every figure is recomputed from the predictions,
and every comparison goes through `ftlib.verdict`.
"""

from pathlib import Path


def build(study_folder: str | Path) -> Path:
    """Write a study's report.

    Args:
        study_folder: The folder that holds `runs/`, and `suite.toml` where there is one.

    Returns:
        The path of `report.html`.

    Raises:
        FtlibError: There is no record, or one cannot be read.
    """
    from ftlib.report.assemble import write_report

    return write_report(Path(study_folder))
