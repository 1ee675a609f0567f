"""A run that is out of memory is a failed run that says what would help; the study goes on."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from processes import HEAD, PARAMETERS, write_notebooks

from ftlib import records
from ftlib.config.experiment import Experiment
from ftlib.core import atomic
from ftlib.execution import scheduler, worker
from ftlib.execution.engines import base

LARGE = {
    "80_run_allocates": "import torch\ntorch.empty(10**15)",
    "81_run_killed": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
}
SETTINGS = '\nmodel: str = "tiny"\nbatch_size: int = 0\ngradient_checkpointing: bool = False'


@pytest.fixture(scope="module")
def study(tmp_path_factory, toy_home) -> dict[str, records.RunRecord]:
    """Runs that ask for more than there is, one after the other, then one that is well: notebook -> record."""
    home = tmp_path_factory.mktemp("large")
    toy.write_task(home / "opinions")
    (home / "tiny").symlink_to(toy_home / "tiny")
    write_notebooks(home, LARGE, PARAMETERS + SETTINGS)
    folder = home / "reports" / "large"
    folder.mkdir(parents=True)
    runs = f'[[runs]]\nmethod = "full"\nmodel = "tiny"\nbatch_size = 8\nnotebook = {[*LARGE]}\n'
    (folder / "suite.toml").write_text(HEAD + runs, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("FTLIB_CACHE", str(home / "cache"))
        planned = scheduler.plan(folder)
        jobs = sorted(planned.jobs, key=lambda job: job.spec.method == "majority")
        jobs = [job for job in jobs if job.spec.notebook or job.spec.method == "majority"]
        for job in jobs:
            scheduler.prepare_folder(job, planned)
        base.execute([job.run_dir for job in jobs], 1, base.Process, lambda states: None)
    return {job.spec.notebook: records.read_record(job.run_dir) for job in jobs}


def test_the_study_goes_on(study):
    assert [record.status for record in study.values()] == ["failed"] * 2 + ["ok"]
    assert list(study)[-1] == ""


def test_the_reason_is_that_memory_ran_out(study):
    assert study["80_run_allocates"].reason.startswith("out of memory (")


@pytest.mark.parametrize(
    "ask", [lambda: np.empty(10**15), lambda: torch.empty(10**15), lambda: _raise(GPU)], ids=["numpy", "torch", "a GPU"]
)
def test_what_numpy_and_torch_raise_is_understood(ask):
    with pytest.raises(Exception) as raised:
        ask()
    status, reason = worker.failure(raised.value, Experiment(method="lora"))
    assert status == "failed" and reason.startswith("out of memory (")


GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.")


def _raise(error):
    raise error


@pytest.mark.parametrize("name", LARGE)
def test_the_reason_says_what_helps(study, name):
    for advice in (
        "gradient_accumulation = 2", "gradient_checkpointing = true", "batch_size below 8", "max_length below 128",
        "an adapter such as lora", "a smaller model", "--jobs",
    ):  # fmt: skip
        assert advice in study[name].reason


def test_a_kernel_that_died_may_have_been_out_of_memory(study):
    assert "DeadKernelError" in study["81_run_killed"].reason and "memory" in study["81_run_killed"].reason


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB"),
        ("RuntimeError", "MPS backend out of memory (MPS allocated: 8.95 GB, other allocations: 73.2 MB)"),
        ("RuntimeError", "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
        ("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        ("RuntimeError", "std::bad_alloc"),
        ("MemoryError", ""),
        ("_ArrayMemoryError", "Unable to allocate 7.11 PiB for an array"),
        ("OSError", "[Errno 12] Cannot allocate memory"),
        ("SafetensorError", "Error while deserializing header: Cannot allocate memory (os error 12)"),
    ],
)
def test_every_way_of_saying_it_is_understood(name, said):
    error = type(name, (Exception,), {})(said)
    status, reason = worker.failure(error, Experiment(method="lora"))
    assert status == "failed" and reason.startswith(f"out of memory ({name}") and "gradient_accumulation = 2" in reason


def test_other_failures_are_left_as_they_are():
    assert worker.failure(ValueError("no label"), Experiment()) == ("failed", "ValueError: no label")
    assert not worker.ran_out("KeyError", "memory")


def test_only_what_can_be_changed_is_advised():
    done = Experiment(method="lora", batch_size=1, gradient_checkpointing=True)
    assert "gradient" not in worker.memory_advice(done) and "batch_size" not in worker.memory_advice(done)
    assert "lora" not in worker.memory_advice(done) and "gradient_acc" not in worker.memory_advice(
        Experiment(method="setfit")
    )
    assert worker.memory_advice(Experiment(method="majority")) == "what helps: fewer runs at a time (--jobs)"


@pytest.mark.skipif(os.name != "posix", reason="kills as POSIX does")
def test_a_run_that_was_killed_itself_says_the_same(tmp_path):
    spec = Experiment(method="lora")
    run_dir = Path(tmp_path / spec.run_id)
    atomic.write_json(run_dir / "spec.json", {"run_id": spec.run_id, "passed": spec.passed()})

    class Killed:
        def poll(self) -> int:
            return -9

        def stop(self) -> None: ...

    base.execute([run_dir], 1, lambda path: Killed(), lambda states: None)
    reason = records.read_record(run_dir).reason
    assert "code -9" in reason and "if memory ran out, what helps: gradient_accumulation = 2" in reason
