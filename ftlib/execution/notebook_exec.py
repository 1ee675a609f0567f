"""The notebooks as the library sees them: where they are, what they accept, how one is executed."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from ftlib.core.errors import FtlibError, unknown
from ftlib.core.surroundings import GONE_WITHIN, remove_sockets, socket_folder

if TYPE_CHECKING:
    from ftlib.execution.engines.prefork import WaitingKernel

waiting_kernel: "WaitingKernel | None" = None
"""A process that waits to become the kernel of the one notebook that this process executes; None: one is started."""


def folder() -> Path:
    """The folder of hand-written notebooks: `notebooks/` of the working directory, else of ftlib's own checkout.

    Raises:
        FtlibError: Neither is there.
    """
    for place in (Path.cwd(), Path(__file__).resolve().parents[2]):
        if (place / "notebooks" / "00_start_here.ipynb").exists():
            return place / "notebooks"
    raise FtlibError(f"notebooks: no folder notebooks/ in {Path.cwd()}; run ftlib from a checkout of its repository")


def at_root() -> None:
    """Make paths relative to the repository when a notebook was opened in JupyterLab.

    Jupyter starts a kernel in the notebook's own folder, Papermill in the folder of whoever called it; only in the
    repository's `notebooks/` is anything changed.
    """
    global started_in
    if Path.cwd() == Path(__file__).resolve().parents[2] / "notebooks":
        started_in = Path.cwd()
        os.chdir("..")


started_in: Path | None = None
"""The notebook's own folder, where `at_root` left it."""


def from_notebook(path: Path) -> str:
    """A path as a link in the open notebook's output has to say it."""
    return Path(os.path.relpath(path, started_in or Path.cwd())).as_posix()


def find(name: str) -> Path:
    """The notebook's file.

    Raises:
        FtlibError: There is none of that name; lists those there are.
    """
    path = folder() / f"{name}.ipynb"
    if not path.exists():
        raise unknown("notebook", name, listed())
    return path


def listed() -> dict[str, str]:
    """Every notebook: name -> the question that is its title."""
    import json

    found = {}
    for path in sorted(folder().glob("*.ipynb")):
        first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]
        text = "".join(first["source"]) if isinstance(first["source"], list) else first["source"]
        found[path.stem] = text.splitlines()[0].lstrip("# ").strip()
    return found


def papermill_itself() -> Any:
    """The module papermill, imported in a quarter of the time.

    It imports jsonschema, which then makes parsers of internationalised addresses, if it finds the package for that
    (python-jsonschema's issue 1428). No notebook holds such an address.
    """
    unneeded = "rfc3987_syntax"
    if not {unneeded, "jsonschema"} & set(sys.modules):
        sys.modules[unneeded] = None  # type: ignore[assignment]
        try:
            import jsonschema  # noqa: F401
        finally:
            del sys.modules[unneeded]
    import papermill.execute

    return papermill


def execute(
    source: Path, target: Path, parameters: dict[str, Any], told: Callable[[str], None] = lambda folder: None
) -> None:
    """Execute a notebook with Papermill in a kernel of this interpreter, keeping the executed copy.

    Args:
        source: The stored notebook.
        target: Where the executed copy goes; written cell by cell.
        parameters: Values of its parameters cell; JSON values only.
        told: Told the folder of the kernel's sockets and its key, which a process that is killed leaves behind.

    Raises:
        FtlibError: A parameter that the notebook does not declare.
        papermill.PapermillExecutionError: A cell failed; the copy shows which.
    """
    papermill = papermill_itself()
    from jupyter_client.manager import AsyncKernelManager

    # Papermill only logs a name that the notebook does not have.
    declared = papermill.inspect_notebook(str(source))
    for name in parameters:
        if name not in declared:
            raise FtlibError(f"{source.name}: {unknown('parameter', name, declared)}")

    short = socket_folder()
    with _folder_of_kernel(short) as sockets:
        told(sockets)

        class OwnKernel(AsyncKernelManager):
            """A kernel of this interpreter, whatever kernelspec the user has, on sockets nobody else uses.

            The default TCP ports race when several kernels start at once; Windows has nothing else, and neither has a
            machine where no folder's name is short enough.
            """

            def __init__(self, **options: Any) -> None:
                super().__init__(**options)
                # With its key, and so to go when the run goes.
                self.connection_file = os.path.join(sockets, "kernel.json")
                if os.name == "posix" and short is not None:
                    self.transport, self.ip = "ipc", os.path.join(sockets, "k")

            def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
                return [sys.executable, "-m", "ipykernel_launcher", "-f", self.connection_file]

            async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
                if waiting_kernel is None:
                    return await super()._async_launch_kernel(kernel_cmd, **options)
                waiting_kernel.begin(kernel_cmd, options["env"], options.get("cwd") or os.getcwd())
                started = self.provisioner
                started.process, started.pid, started.pgid = waiting_kernel, waiting_kernel.pid, waiting_kernel.pid
                self._reconcile_connection_info(started.connection_info)

        papermill.execute_notebook(
            str(source),
            str(target),
            parameters=parameters,
            kernel_name="python3",
            kernel_manager_class=OwnKernel,
            progress_bar=False,
            log_output=False,
            cwd=str(Path.cwd()),
            start_timeout=180,
            iopub_timeout=60,
        )


@contextmanager
def _folder_of_kernel(place: str | None) -> Iterator[str]:
    made = tempfile.mkdtemp(prefix="ftlib-", dir=place)
    try:
        yield made
    finally:
        # A kernel that is still starting would make the folder again to put its connection file there.
        if waiting_kernel is not None:
            waiting_kernel.kill()
            waiting_kernel.wait()
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if any(made in part for part in child.cmdline()):
                    child.kill()
                    psutil.wait_procs([child], GONE_WITHIN)
        remove_sockets(made)
