"""Is this installation fit to run? The checks behind `ftlib doctor`."""

import importlib.util
import shutil
import sys
from pathlib import Path

from ftlib import notebooks, provenance
from ftlib.data.cache import cache_folder
from ftlib.errors import FtlibError

NEEDED = ("accelerate", "datasets", "jupyterlab", "papermill", "peft", "sklearn", "torch", "transformers")


def findings() -> list[tuple[str, bool, str]]:
    """(what, whether it is good, what was found and, where it is not good, what to do)."""
    found = [("python", sys.version_info >= (3, 11), f"{sys.version.split()[0]} at {sys.executable}; 3.11 or newer")]
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    found.append(
        ("packages", not missing, f"missing: {missing}; run `python bootstrap.py`" if missing else "all there")
    )
    if missing:
        return found
    found.append(("versions", True, ", ".join(f"{n} {v}" for n, v in provenance.versions().items() if v)))
    try:
        where = notebooks.folder()
        found.append(("notebooks", True, f"{len(notebooks.listed())} in {where}"))
    except FtlibError as error:
        found.append(("notebooks", False, str(error)))

    from ftlib.models import load_model, pick_device, pick_dtype

    device = pick_device()
    found.append(("device", True, f"{provenance.device_name(device)}; matrix products in {pick_dtype('auto', device)}"))
    try:
        model = load_model("minilm")
        found.append(("minilm", True, f"checksum as published, in {model.folder}"))
    except FtlibError as error:
        found.append(("minilm", False, str(error)))
    cache = cache_folder()
    near = next(place for place in (cache, *cache.parents) if place.exists())
    free = shutil.disk_usage(near).free / 1e9
    found.append(("disk", free > 1, f"{free:.1f} GB free for the cache {cache}" + ("" if free > 1 else "; free some")))
    found.append(("working folder", Path("reports").is_dir(), f"{Path.cwd()}: studies live in its folder reports/"))
    return found
