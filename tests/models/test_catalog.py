"""Base models to choose from: counted by their headers, licensed as their cards say, and fitting or not."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tiny_models
import toy
from conftest import INTERPRETER, ROOT
from safetensors.numpy import save_file

from ftlib.core.errors import FtlibError
from ftlib.listing import catalogue, footer
from ftlib.models import catalog, weights


@pytest.fixture(scope="session")
def stored(tmp_path_factory):
    """A folder with two models: an encoder and a decoder."""
    folder = tmp_path_factory.mktemp("models")
    toy.save_model(folder / "reader")
    tiny_models.tiny("llama", folder / "writer")
    return folder


@pytest.fixture
def empty_hub(tmp_path, monkeypatch):
    """A Hub cache that is not there yet, and no speeds measured."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("FTLIB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "hub"


@pytest.mark.parametrize("family", sorted(tiny_models.FAMILIES))
def test_headers_count_what_torch_counts(family, tmp_path):
    model, _ = tiny_models.build(family)
    model.save_pretrained(tmp_path)
    assert weights.parameters(tmp_path) == sum(parameter.numel() for parameter in model.parameters())


def test_shards_are_counted_together_and_a_second_copy_is_not_counted(tmp_path):
    model, _ = tiny_models.build("llama")
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    save_file({"all": np.zeros(10**5, np.float32)}, tmp_path / "consolidated.safetensors")
    assert weights.parameters(tmp_path) == sum(parameter.numel() for parameter in model.parameters())


def test_whole_numbers_are_no_parameters(tmp_path):
    save_file({"w": np.zeros((3, 4), np.float16), "ids": np.zeros(512, np.int64)}, tmp_path / "model.safetensors")
    assert weights.tensors(tmp_path) == {"w": ("F16", (3, 4)), "ids": ("I64", (512,))}
    assert weights.parameters(tmp_path) == 12


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 8, b"\xff" * 40, (99).to_bytes(8, "little") + b"{}", (4).to_bytes(8, "little") + b"oops",
                (2).to_bytes(8, "little") + b"[]", (9).to_bytes(8, "little") + b'{"w": []}']
)  # fmt: skip
def test_a_file_that_is_cut_off_or_something_else_is_said_to_be(content, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(FtlibError, match="model.safetensors: no safetensors header can be read"):
        weights.parameters(tmp_path)


def test_a_folder_without_weights_and_an_index_of_missing_files_are_errors(tmp_path):
    with pytest.raises(FtlibError, match="no \\*.safetensors"):
        weights.tensors(tmp_path)
    index = {"weight_map": {"w": "model-00001-of-00001.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FtlibError, match="missing, cut off or something else"):
        weights.tensors(tmp_path)


@pytest.mark.parametrize(
    ("name", "card", "expected"),
    [
        ("README.md", "---\nlicense: mit\n---\n# A model", "mit"),
        ("README.md", "---\nlicense: other\nlicense_name: our-own\n---\n", "our-own"),
        ("README.md", "---\nlicense: other\n---\n", "other"),
        ("README.md", "---\nlicense:\n- mit\n- gpl-3.0\n---\n", "mit, gpl-3.0"),
        ("README.md", "---\nlanguage: en\n---\nIt is under the MIT licence.", catalog.UNKNOWN_LICENCE),
        ("README.md", "no front matter", catalog.UNKNOWN_LICENCE),
        ("README.md", "---\nlicense: [mit\n---\n", "unknown: README.md cannot be read"),
        ("CARD.md", "# A model\n\n| | |\n| --- | --- |\n| Licence | CC BY 4.0 |\n", "CC BY 4.0"),
        ("LICENSE", "MIT License", catalog.UNKNOWN_LICENCE),
    ],
)
def test_a_licence_is_what_the_card_states_and_never_guessed(name, card, expected, tmp_path):
    (tmp_path / name).write_text(card, encoding="utf-8")
    assert catalog.licence_of(tmp_path).startswith(expected)


def test_the_bundled_models_are_candidates_with_the_sizes_their_cards_state(empty_hub):
    found = {one.name: one for one in catalog.candidates()}
    assert (found["tiny-lm"].parameters, found["tiny-lm"].context) == (7_212_288, 1024)
    assert "CC BY-SA 4.0" in found["tiny-lm"].licence and found["tiny-lm"].disk_bytes == 14_430_656
    if "minilm" in found:
        assert (found["minilm"].parameters, found["minilm"].licence) == (22_713_216, "apache-2.0")
        assert found["minilm"].train_bytes == 16 * 22_713_216 == 4 * found["minilm"].predict_bytes


def test_folders_are_listed_by_themselves_or_by_what_holds_them(stored, empty_hub):
    alone, together = catalog.candidates([stored / "reader"]), catalog.candidates([stored])
    assert str(stored / "reader") in [one.name for one in alone]
    families = {one.name: one.family for one in together}
    assert families[str(stored / "reader")] == "encoder" and families[str(stored / "writer")] == "decoder"
    assert len(catalog.candidates([stored, stored / "reader"])) == len(together), "none is listed twice"
    with pytest.raises(FtlibError, match="no model here"):
        catalog.candidates([stored / "reader" / "config.json"])


def test_models_of_the_hubs_cache_are_listed_with_a_commit_where_no_branch_names_it(stored, empty_hub, monkeypatch):
    commits = ["a" * 40, "b" * 40]
    for commit in commits:
        snapshot = empty_hub / "models--owner--name" / "snapshots" / commit
        snapshot.mkdir(parents=True)
        for path in (stored / "writer").iterdir():
            (snapshot / path.name).write_bytes(path.read_bytes())
    refs = empty_hub / "models--owner--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text(commits[0])
    pickled = empty_hub / "models--owner--pickled" / "snapshots" / commits[0]
    pickled.mkdir(parents=True)
    (pickled / "config.json").write_text("{}")
    (pickled / "pytorch_model.bin").write_bytes(b"0")
    data = empty_hub / "datasets--owner--data" / "snapshots" / commits[0]
    data.mkdir(parents=True)
    (data / "config.json").write_text("{}")
    names = {one.name for one in catalog.candidates()} - {"minilm", "tiny-lm", "tiny-mt"}
    assert names == {"owner/name", f"owner/name@{commits[1]}"}


def test_what_cannot_be_used_is_listed_last_with_the_reason(tmp_path, empty_hub):
    for name, config in (("quantised", '{"quantization_config": {"quant_method": "gptq"}}'), ("broken", "{oops")):
        (tmp_path / "some" / name).mkdir(parents=True)
        (tmp_path / "some" / name / "config.json").write_text(config)
        save_file({"w": np.zeros(4, np.float32)}, tmp_path / "some" / name / "model.safetensors")
    (tmp_path / "some" / "pickled").mkdir()
    (tmp_path / "some" / "pickled" / "config.json").write_text("{}")
    problems = {one.name.rpartition("/")[2]: one for one in catalog.candidates([tmp_path / "some"])[-3:]}
    assert "gptq" in problems["quantised"].problem and "no JSON" in problems["broken"].problem
    assert "no *.safetensors" in problems["pickled"].problem
    assert {one.use(10**12) for one in problems.values()} == {"nothing"}


def test_the_listing_says_what_fits_a_budget(stored, empty_hub):
    fits = {
        memory: {row["name"]: row["fits"] for row in catalogue("models", [str(stored)], memory) if "fits" in row}
        for memory in (1.0, 0.1, 0.01)
    }
    assert [fits[memory]["tiny-lm"] for memory in (1.0, 0.1, 0.01)] == ["train", "predict", "nothing"]
    assert fits[0.01][str(stored / "reader")] == "train"
    said = {row["name"]: row["summary"] for row in catalogue("models", (), 0.1)}
    assert "7.2 M parameters" in said["tiny-lm"] and "too large to fine-tune fully of the 0.1 GB" in said["tiny-lm"]
    assert "16 to fine-tune fully" in footer("models") and footer("methods") == ""
    json.dumps(catalogue("models", [str(stored)]), allow_nan=False)


@pytest.mark.parametrize(
    ("what", "folders", "memory"), [("methods", ["x"], 0.0), ("tasks", (), 1.0), ("models", (), -1)]
)
def test_folders_and_memory_are_for_models_and_a_memory_is_one(what, folders, memory):
    with pytest.raises(FtlibError, match="memory"):
        catalogue(what, folders, memory)


def test_a_gpu_is_asked_for_its_memory_where_there_is_one(tmp_path, monkeypatch):
    asker = tmp_path / "nvidia-smi"
    asker.write_text("#!/bin/sh\necho 81559\necho 40960\n")
    asker.chmod(0o755)
    room, of_what = catalog.machine_memory()
    if sys.platform != "win32":
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        assert catalog.machine_memory() == (81559 * 2**20, "the GPU's memory")
        asker.write_text("#!/bin/sh\nexit 9\n")
        assert catalog.machine_memory()[1] == "this machine's memory"
    assert room > 10**8 and of_what


def test_the_table_for_a_notebook_has_a_row_for_each(stored, empty_hub):
    found = catalog.candidates([stored])
    table = catalog.table(found, 10**9)
    assert list(table.index) == [one.name for one in found] and set(table["room to"]) == {"train"}
    assert table.loc["tiny-lm", "to train, GB"] == pytest.approx(0.115)


def test_listing_models_loads_no_torch():
    code = "import sys; from ftlib.cli import main; main(['list', 'models']); print('torch' in sys.modules)"
    done = subprocess.run([INTERPRETER, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
