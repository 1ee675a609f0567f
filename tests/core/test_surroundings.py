"""What surrounds a process: limits of a container, folders of others, long names; and all that is wrong, at once."""

import compileall
import csv
import errno
import json
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import toy
from conftest import ftlib_command
from filelock import FileLock

from ftlib import cli, listing, records
from ftlib.config.experiment import Experiment
from ftlib.core import atomic, surroundings
from ftlib.core.format import size
from ftlib.execution import notebook_exec, scheduler, worker
from ftlib.models import catalog, weights

HEAD = '[study]\nquestion = "Which?"\n[plan]\nmargin = 0.02\nseeds = [0]\n'
GIGABYTE = 10**9


def tree(root: Path, files: dict[str, object]) -> Path:
    """A machine's `proc` and `sys`, as a container sees them."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n", encoding="utf-8")
    return root


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine of 64 cores and 256 GB, without a scheduler or a shell that allows less."""
    memory = psutil.virtual_memory()._replace(total=256 * GIGABYTE, available=200 * GIGABYTE)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(64), raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


# The limits of a container.

V2 = {
    "proc/self/cgroup": "0::/",
    "sys/fs/cgroup/memory.max": 2 * GIGABYTE,
    "sys/fs/cgroup/memory.current": 1_500_000_000,
    "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 500000000",
    "sys/fs/cgroup/cpu.max": "250000 100000",
}
V1 = {
    "proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/docker/abc",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": 2 * GIGABYTE,
    "sys/fs/cgroup/memory/memory.usage_in_bytes": 1_500_000_000,
    "sys/fs/cgroup/memory/memory.stat": "total_inactive_file 500000000",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": 250000,
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": 100000,
}


@pytest.mark.parametrize("files", [V2, V1], ids=["v2", "v1"])
def test_a_containers_limits_are_what_there_is(tmp_path, files):
    root = tree(tmp_path, files)
    # 2 GB, of which 1.5 are in use, of which 0.5 would be given back.
    assert surroundings.memory(root) == (2 * GIGABYTE, GIGABYTE, surroundings.CONTAINER)
    assert surroundings.cores(root) == 2


@pytest.mark.parametrize("files, total, cores", [
    # The limits of a group's parents hold for it too.
    ({
        "proc/self/cgroup": "0::/pods/mine",
        "sys/fs/cgroup/pods/mine/memory.max": "max", "sys/fs/cgroup/pods/mine/cpu.max": "max 100000",
        "sys/fs/cgroup/pods/memory.max": 3 * GIGABYTE, "sys/fs/cgroup/pods/cpu.max": "400000 100000",
    }, 3, 4),
    ({
        "proc/self/cgroup": "3:memory:/slurm/job\n2:cpu:/slurm/job",
        "sys/fs/cgroup/memory/slurm/job/memory.limit_in_bytes": 9223372036854771712,
        "sys/fs/cgroup/memory/slurm/memory.limit_in_bytes": 5 * GIGABYTE,
        "sys/fs/cgroup/cpu/slurm/job/cpu.cfs_quota_us": -1, "sys/fs/cgroup/cpu/slurm/job/cpu.cfs_period_us": 100000,
    }, 5, 64),
    # Less than a core is one.
    ({"sys/fs/cgroup/cpu.max": "50000 100000"}, 256, 1),
    ({"sys/fs/cgroup/memory.max": 512 * GIGABYTE}, 256, 64),
    ({}, 256, 64),
])  # fmt: skip
def test_limits_of_parents_of_half_a_core_and_none(tmp_path, files, total, cores):
    root = tree(tmp_path, files)
    assert surroundings.memory(root).total == total * GIGABYTE
    assert surroundings.cores(root) == cores


def test_a_scheduler_and_a_shell_may_allow_less(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (4 * GIGABYTE, 4 * GIGABYTE))
    assert surroundings.cores(tmp_path) == 3
    assert surroundings.memory(tmp_path) == (4 * GIGABYTE, 4 * GIGABYTE, "the memory limit of this shell (ulimit -v)")


def test_models_and_plans_go_by_the_containers_limits(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(surroundings, "ROOT", tree(tmp_path, V2))
    monkeypatch.setattr(catalog.shutil, "which", lambda name: None)
    assert catalog.machine_memory() == (2 * GIGABYTE, surroundings.CONTAINER)
    row = {"problem": "", "memory_bytes": 2 * GIGABYTE, "fits": "nothing", "speed": {}, "family": "encoder"}
    row |= {"parameters": 1, "disk_bytes": 1, "context": 1, "predict_bytes": 1, "train_bytes": 1, "licence": "mit"}
    for fits in ("nothing", "predict", "train"):
        assert "2.0 GB (limit of this container)" in listing._in_columns(row | {"fits": fits}, surroundings.CONTAINER)
    toy.write_task(tmp_path / "opinions")
    study = write_study(
        tmp_path / "study", f'[defaults]\ntask = "file:{tmp_path}/opinions"\n[[runs]]\nmethod = "tfidf"\n'
    )
    assert scheduler.default_jobs(scheduler.plan(study)) == 2


def test_a_run_that_is_killed_in_a_container_names_its_limit(tmp_path, monkeypatch):
    spec = Experiment(method="tfidf")
    monkeypatch.setattr(surroundings, "ROOT", tmp_path)
    assert "limit" not in worker.explained("DeadKernelError", "Kernel died", spec)
    tree(tmp_path, V2)
    said = worker.explained("DeadKernelError", "Kernel died", spec)
    assert f"(the memory limit of this container is {size(2 * GIGABYTE)})" in said


def test_a_run_of_another_machine_is_alive_while_its_lock_is_held(tmp_path):
    said = {"pid": 1, "started": 1.0, "host": "elsewhere", "study": None}
    (tmp_path / "process.json").write_text(json.dumps(said))
    assert worker.owner(tmp_path) is None
    with FileLock(tmp_path / ".lock"):
        assert worker.owner(tmp_path) == (1, None, False)


# Folders of others, and full disks.


def write_study(folder: Path, runs: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "suite.toml").write_text(HEAD + runs, encoding="utf-8")
    return folder


@pytest.fixture
def study(tmp_path, monkeypatch) -> Path:
    """A study of two baselines."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTLIB_CACHE", str(tmp_path / "cache"))
    toy.write_task(tmp_path / "opinions")
    return write_study(tmp_path / "study", '[defaults]\ntask = "file:opinions"\n[[runs]]\nmethod = ["tfidf"]\n')


def closed_to(monkeypatch, *places: Path, need: int = os.W_OK) -> None:
    """Have the system say no as it does to a user without the right; a test may run as one who has every right."""
    real = os.access

    def access(path, mode, **options):
        asked = Path(path).resolve()
        return False if mode & need and asked in [place.resolve() for place in places] else real(path, mode, **options)

    monkeypatch.setattr(os, "access", access)


@pytest.mark.parametrize("command", [["plan", "study", "--no-trial"], ["run", "study", "--dry-run"], ["run", "study"]])
@pytest.mark.parametrize("place", ["study", "study/runs", "study/.lock", "study/runs/one"])
def test_a_study_of_somebody_else_is_one_sentence_before_anything_runs(study, monkeypatch, capsys, command, place):
    closed = study.parent / place
    if place.endswith(".lock"):
        closed.touch()
    else:
        closed.mkdir(parents=True, exist_ok=True)
    closed_to(monkeypatch, closed)
    assert cli.main(command) == 2
    said = capsys.readouterr()
    assert place in said.err and "cannot be written by you" in said.err and "cp -r" in said.err
    assert said.err.count("\n") == 1 and "Traceback" not in said.err and not said.out


def test_a_full_disk_is_said_before_anything_runs(study, monkeypatch, capsys):
    full = surroundings.shutil.disk_usage(study)._replace(free=10**6)
    monkeypatch.setattr(surroundings.shutil, "disk_usage", lambda path: full)
    assert cli.main(["run", "study"]) == 2
    assert "1 MB are free" in capsys.readouterr().err


@pytest.mark.parametrize("number, way_out", [
    (errno.EACCES, "ask its owner"), (errno.EROFS, "cp -r"), (errno.ENOSPC, "free some space"),
    (errno.ENOENT, "not any more"), (errno.EIO, os.strerror(errno.EIO)),
])  # fmt: skip
def test_what_the_file_system_refuses_later_is_a_sentence_too(study, monkeypatch, capsys, number, way_out):
    def refuse(*given):
        raise OSError(number, os.strerror(number), "study/runs/x")

    monkeypatch.setattr(scheduler, "plan", refuse)
    assert cli.main(["run", "study", "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("ftlib: study/runs/x: ") and way_out in said and "Traceback" not in said


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user who has not every right")
def test_a_folder_that_really_cannot_be_written(study, capsys):
    mode = stat.S_IMODE(study.stat().st_mode)
    study.chmod(0o555)
    try:
        assert cli.main(["run", "study"]) == 2
        assert "cannot be written by you" in capsys.readouterr().err
    finally:
        study.chmod(mode)


def test_a_model_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    toy.save_model(tmp_path / "tiny")
    real = Path.open

    def closed(path, *given, **options):
        if path.name == "model.safetensors":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *given, **options)

    weights._sha256_as_of.cache_clear()
    monkeypatch.setattr(Path, "open", closed)
    with pytest.raises(weights.FtlibError, match="model.safetensors cannot be read"):
        weights.find(str(tmp_path / "tiny"))


def test_a_cache_that_cannot_be_written_is_done_without(study, monkeypatch, capsys):
    import numpy as np

    # A file where the folder should be: nobody can write below it, whatever their rights.
    Path("cache").write_text("")
    atomic._done_without.cache_clear()
    made = [atomic.remembered("features", "key", lambda: np.ones(2)) for _ in range(2)]
    assert all((one == 1).all() for one in made)
    assert capsys.readouterr().err.count("is done without") == 1
    assert cli.main(["run", "study", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert "caution: the cache" in said.out and "is done without" in said.out
    assert cli.main(["run", "study"]) == 0
    assert [record.status for _, record in records.records_of(study)] == ["ok", "ok"]


def test_a_damaged_array_in_the_cache_is_computed_again(study, capsys):
    import numpy as np

    atomic.remembered("features", "key", lambda: np.ones(2))
    (study.parent / "cache/features/key.npy").write_bytes(b"half")
    assert atomic.remembered("features", "key", lambda: np.zeros(2)).tolist() == [0, 0]
    assert atomic.remembered("features", "key", lambda: np.ones(2)).tolist() == [0, 0]


# Sockets, whose paths must be short.


def test_sockets_go_where_their_path_is_short_enough(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    short = tmp_path / "s"
    short.mkdir()
    monkeypatch.setattr(surroundings.tempfile, "gettempdir", lambda: str(long))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert surroundings.socket_folder() in ("/dev/shm", "/tmp")
    if len(str(short)) < 80:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
        assert surroundings.socket_folder() == str(short)
    monkeypatch.setattr(surroundings, "SOCKET_PATH", 5)
    assert surroundings.socket_folder() is None


@pytest.mark.skipif(os.name != "posix", reason="sockets with a path")
def test_a_study_runs_with_a_long_temporary_folder_and_leaves_nothing_there(study):
    long = study.parent / ("x" * 100)
    long.mkdir()
    environment = os.environ | {"TMPDIR": str(long)}
    done = subprocess.run(ftlib_command("run", "study"), env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(long.iterdir()) == []


def test_a_kernel_without_a_short_folder_takes_tcp_and_leaves_no_connection_file(study, monkeypatch):
    place = study.parent / "tmp"
    place.mkdir()
    monkeypatch.setattr(notebook_exec.tempfile, "tempdir", str(place))
    monkeypatch.setattr(notebook_exec, "socket_folder", lambda: None)
    source, target = notebook_that("1 / 0", study.parent), study.parent / "out.ipynb"
    with pytest.raises(Exception, match="ZeroDivisionError"):
        notebook_exec.execute(source, target, {})
    assert list(place.iterdir()) == []


def notebook_that(does: str, folder: Path) -> Path:
    """A notebook of one cell."""
    import nbformat

    cells = [nbformat.v4.new_code_cell("a = 1", id="parameters", metadata={"tags": ["parameters"]})]
    cells.append(nbformat.v4.new_code_cell(does, id="does"))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = folder / "does.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


# What a model's files are.


def test_the_digest_of_a_model_changes_with_every_file_that_is_read_and_with_no_other(tmp_path):
    folder = toy.save_model(tmp_path / "tiny")
    for name in ("1_Pooling/config.json", "modules.json", "merges.txt", "sentence_bert_config.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    whole = weights.model_digest(folder)
    read = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md")
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= {path.name for path in read}
    for path in read:
        before = path.read_bytes()
        path.write_bytes(before + b" ")
        assert weights.model_digest(folder) != whole, path
        path.write_bytes(before)
        assert weights.model_digest(folder) == whole, path
    (folder / "README.md").write_text("A card.")
    assert weights.model_digest(folder) == whole


# Prompts that do not fit, and ten problems in one answer.

LONG = "The garden number {} was superb as expected and somehow. The concert was fine last week and again. " * 5


@pytest.fixture
def long_texts(tmp_path, monkeypatch) -> Path:
    """A task of texts of 100 tokens and more, with two labels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTLIB_CACHE", str(tmp_path / "cache"))
    rows = [(LONG.format(*[number] * 5), "ab"[number % 2]) for number in range(120)]
    toy.write_rows(tmp_path / "x.csv", rows)
    return tmp_path / "x.csv"


IN_CONTEXT = (
    '[defaults]\ntask = "file:x.csv"\nmodel = "tiny-lm"\nlabel_words = {a = "good", b = "bad"}\n[[runs]]\n'
    'method = "in_context"\n'
)


@pytest.mark.parametrize("command", [["plan", "study", "--no-trial"], ["run", "study", "--dry-run"], ["run", "study"]])
def test_prompts_that_do_not_fit_are_said_at_once_with_the_most_that_fits(long_texts, capsys, command):
    write_study(Path("study"), IN_CONTEXT + "shots = [1, 2, 8, 16]\nmax_length = 256\n")
    assert cli.main(command) == 2
    said = capsys.readouterr().err
    most = int(said.partition("the most is ")[2].split()[0])
    assert "do not fit 1024 tokens here" in said and said.count("\n") == 1
    # What is said to fit does, and one more does not.
    write_study(Path("study"), IN_CONTEXT + f"shots = {most}\nmax_length = 256\n")
    assert cli.main(["run", "study", "--dry-run"]) == 0
    write_study(Path("study"), IN_CONTEXT + f"shots = {most + 1}\nmax_length = 256\n")
    assert cli.main(["run", "study", "--dry-run"]) == 2
    assert f"shots = {most + 1} does not fit" in capsys.readouterr().err


def test_the_plan_and_the_run_count_the_same_tokens(long_texts):
    from ftlib.execution.planning.compatibility import tokenizer_of
    from ftlib.models.loading import load_model
    from ftlib.models.prompts import clipped, prompt_of, tokens_at_most

    write_study(Path("study"), IN_CONTEXT + "shots = 1\n")
    task = next(iter(scheduler.plan("study").tasks.values()))
    stored, loaded = tokenizer_of(weights.find("tiny-lm").folder, "tiny-lm"), load_model("tiny-lm").tokenizer
    prompt, texts = prompt_of(task), task.splits["train"]["text"].tolist()[:5]
    assert clipped(stored, texts, 40) == clipped(loaded, texts, 40)
    prefix = prompt.shots([(text, 0) for text in texts])
    assert tokens_at_most(stored, prompt, prefix, 40) == tokens_at_most(loaded, prompt, prefix, 40)


def test_a_text_that_is_too_long_by_itself_is_said_with_the_length_that_fits(tmp_path, long_texts, capsys):
    rows = [("word " * 1500 + str(number), "ab"[number % 2]) for number in range(120)]
    toy.write_rows(long_texts, rows)
    write_study(Path("study"), IN_CONTEXT.replace("in_context", "zero_shot") + "max_length = 2000\n")
    assert cli.main(["run", "study", "--dry-run"]) == 2
    said = capsys.readouterr().err
    most = int(said.partition("set max_length to at most ")[2].split(",")[0])
    write_study(Path("study"), IN_CONTEXT.replace("in_context", "zero_shot") + f"max_length = {most}\n")
    assert cli.main(["run", "study", "--dry-run"]) == 0


TEN = """
[study]
question = "Which?"
[plan]
margin = 0.02
seeds = [0]
[defaults]
task = "file:x.csv"
[[runs]]
method = "full"
lerning_rate = 0.1
[[runs]]
method = "lorra"
[[runs]]
method = "full"
l2_sp = inf
[[runs]]
method = "full"
ewc = nan
joint_tasks = ["file:other.csv"]
[[runs]]
method = "in_context"
model = "tiny-lm"
shots = [1, 8, 16]
max_length = 256
label_words = {a = "good", b = "bad"}
[[runs]]
method = "zero_shot"
model = "tiny-lm"
label_words = {a = "good", b = "Good"}
[[runs]]
method = "zero_shot"
model = "tiny-lm"
task = "file:numbers.csv"
[[runs]]
method = "setfit"
model = "tiny-lm"
[[runs]]
method = "tfidf"
shots = 500
[[runs]]
method = "tfidf"
task = "file:broken.csv"
[[runs]]
method = "tfidf"
task = "file:nowhere.csv"
[[runs]]
method = "probe"
model = "cut"
"""


def test_ten_problems_are_one_answer(long_texts, tmp_path):
    toy.write_rows(tmp_path / "other.csv", toy.opinions())
    toy.write_rows(tmp_path / "numbers.csv", [(text, str("ab".index(label))) for text, label in rows_of(long_texts)])
    (tmp_path / "broken.csv").write_bytes(b"text,label\nna\xefve,a\n")
    toy.save_model(tmp_path / "cut")
    (tmp_path / "cut" / "model.safetensors").unlink()
    Path("study").mkdir()
    (Path("study") / "suite.toml").write_text(TEN, encoding="utf-8")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        ftlib_command("plan", "study"), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    for words in (
        "unknown 'lerning_rate'; did you mean 'learning_rate'?",
        "unknown 'lorra'; did you mean 'lora'?",
        "l2_sp: found inf; allowed: 0 or more, finite",
        "ewc: found nan",
        "shots = 8, 16 do not fit 1024 tokens here; the most is ",
        "'a' and 'b' are both 'good'",
        "the labels are not all words (0, 1)",
        "tiny-lm is of the family decoder",
        "shots = 500, but train has fewer",
        "broken.csv",
        "no file or folder at 'nowhere.csv'",
        "no *.safetensors",
    ):
        assert words in done.stderr, f"{words}\n{done.stderr}"
    assert not list(Path("study").glob("runs"))
    # Of the processor: what the clock says depends on what else the machine does.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5


def rows_of(path: Path) -> list[tuple[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


def test_doctor_looks_at_the_surroundings(capsys, monkeypatch, tmp_path):
    found = {name: (good, text) for name, good, text in listing.surroundings_found()}
    assert set(found) == {"memory", "cores", "sockets", "cache", "bytecode"}
    assert all(good for name, (good, _) in found.items() if name != "bytecode")
    monkeypatch.setenv("FTLIB_CACHE", str(tmp_path / "file" / "cache"))
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(listing, "socket_folder", lambda: None)
    found = {name: (good, text) for name, good, text in listing.surroundings_found()}
    assert not found["cache"][0] and "TCP" in found["sockets"][1]


def test_who_compiles_everything_anew_is_told_so(tmp_path, monkeypatch):
    package = tmp_path / "packages" / "heavy"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert surroundings.bytecode_caution("heavy") == "", "the first import compiles it"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert f"{package} cannot be written" in surroundings.bytecode_caution("heavy")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    said = surroundings.bytecode_caution("heavy")
    assert "PYTHONDONTWRITEBYTECODE is set" in said and f"`{sys.executable} -m compileall -q {package.parent}`" in said
    compileall.compile_dir(package, quiet=2)
    assert surroundings.bytecode_caution("heavy") == ""
