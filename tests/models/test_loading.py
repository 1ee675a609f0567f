"""Which weights a name means, and which are refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import ftlib
from ftlib import cli
from ftlib.core.errors import FtlibError
from ftlib.models import loading, weights


def test_minilm_is_the_published_model_and_tells_meanings_apart(at_home):
    model = ftlib.load_model("minilm")
    assert model.sha256 == weights.SHA256["minilm"]
    texts = ["A cat sat on the mat.", "A kitten rested on the rug.", "Interest rates rose in March."]
    found = loading.features(model, texts, 64)
    assert np.allclose((found**2).sum(axis=1), 1, atol=1e-5)
    near, far = found[0] @ found[1], found[0] @ found[2]
    assert near > 0.5 > 0.2 > far


def test_minilm_with_another_checksum_is_refused(at_home, tmp_path, monkeypatch):
    shutil.copytree(at_home / "tiny", tmp_path / "model")
    monkeypatch.setattr(weights, "_minilm_folder", lambda: tmp_path / "model")
    with pytest.raises(FtlibError, match="expected 53aa51172d"):
        ftlib.load_model("minilm")


@pytest.mark.parametrize("name", weights.MINILM_FILES)
def test_what_lies_beside_minilms_weights_is_as_published_too(tmp_path, name):
    folder = Path(shutil.copytree(weights.find("minilm").folder, tmp_path / "model"))
    assert weights._as_published(folder) == folder
    with (folder / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(FtlibError, match=f"{name} has sha256 .*, expected .*; refused"):
        weights._as_published(folder)


def test_a_folder_with_pickled_weights_only_is_refused(at_home, tmp_path):
    shutil.copytree(at_home / "tiny", tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(FtlibError, match="loads no pickled weights"):
        ftlib.load_model(str(tmp_path / "model"))


DAMAGE = {
    "model.safetensors": (lambda held: b"", lambda held: held[:1000], lambda held: held[:-1000]),
    "config.json": (lambda held: b"", lambda held: b"[1]", lambda held: held[:40], lambda held: b"\xff\xfe{}"),
    "tokenizer.json": (lambda held: b"", lambda held: held[: len(held) // 2], lambda held: b"[]"),
    "tokenizer_config.json": (lambda held: b"", lambda held: b'["a"]'),
}


@pytest.mark.parametrize(("file", "number"), [(file, n) for file, some in DAMAGE.items() for n in range(len(some))])
def test_a_damaged_file_of_a_model_is_named_before_anything_runs(at_home, tmp_path, file, number, capsys):
    folder = Path(shutil.copytree(at_home / "tiny", tmp_path / "mine"))
    (folder / file).write_bytes(DAMAGE[file][number]((folder / file).read_bytes()))
    (folder / "data_config.json").write_text("[]")  # Of training: nobody reads it.
    with pytest.raises(FtlibError, match=rf"{file}: .*the file is missing, cut off or something else"):
        weights.find(str(folder))
    suite = f'[study]\nquestion = "q"\n[defaults]\ntask = "file:opinions"\nmodel = "{folder}"\n'
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "suite.toml").write_text(
        f'{suite}[plan]\nmargin = 0.1\n[[runs]]\nmethod = "probe"\n[[runs]]\nmethod = "lorra"\n', encoding="utf-8"
    )
    assert cli.main(["plan", str(tmp_path / "study"), "--no-trial"]) == 2
    said = capsys.readouterr().err
    assert file in said and "did you mean 'lora'?" in said, "all that is wrong, at once"


def test_device_and_dtype_are_chosen_and_can_be_chosen(at_home):
    assert loading.pick_device("cpu") == "cpu"
    for asked in ({"dtype": "int4"}, {"device": "gpu"}, {"threads": 0}):
        (name,) = asked
        with pytest.raises(FtlibError, match=f"{name}: found"):
            ftlib.load_model("minilm", **asked)
    assert loading.pick_dtype("float32", "cpu") == "float32"
    assert loading.pick_dtype("bfloat16", "cpu") == "bfloat16"
    assert loading.pick_dtype("auto", "cpu") in ("float32", "bfloat16")
    if not torch.cuda.is_available():
        with pytest.raises(FtlibError, match="'cuda' is not there"):
            loading.pick_device("cuda")


@pytest.mark.parametrize(
    ("features", "capability", "dtype"),
    [
        ({"avx512_bf16": True, "amx_bf16": True}, "AVX512", "bfloat16"),
        ({"avx512_bf16": True, "amx_bf16": True}, "AVX2", "float32"),
        ({"avx512_bf16": False}, "AVX512", "float32"),
        ({"bf16": True}, "DEFAULT", "bfloat16"),
    ],
)
def test_bfloat16_is_chosen_where_torch_makes_use_of_it(features, capability, dtype, monkeypatch):
    """A processor with AVX512-BF16 that is told to do as one with AVX2 does so; that of ARM has no such levels."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert loading.pick_dtype("auto", "cpu") == dtype


def test_an_unreachable_hub_is_said_with_the_command_that_prefetches(at_home, monkeypatch):
    import huggingface_hub

    def unreachable(*arguments, **more):
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    with pytest.raises(FtlibError, match="hf download some-owner/some-model --revision v2"):
        ftlib.load_model("some-owner/some-model@v2")


def test_threads_are_set_and_recorded(at_home):
    assert ftlib.load_model("tiny", threads=1).threads == 1
    assert torch.get_num_threads() == 1


def test_batches_hold_every_example_once_longest_first():
    lengths = np.random.default_rng(0).integers(1, 90, 100)
    found = loading.batches(lengths, 16)
    assert sorted(np.concatenate(found)) == list(range(100))
    assert lengths[found[0]].min() >= lengths[found[-1]].max()
