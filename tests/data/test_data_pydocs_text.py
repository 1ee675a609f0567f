"""pydocs_text: whole documentation, nobody's address in it, the same on every reading and apart by file."""

import re
from collections import Counter
from dataclasses import replace

import pytest

from ftlib.core.errors import FtlibError
from ftlib.data import pydocs
from ftlib.data.installed import collect, docstrings, library_versions, package_folder
from ftlib.data.pydocs import TEXT_RECIPE, document, documents
from ftlib.data.registry import load_task
from ftlib.data.task import SPLITS, text_bytes

PROSE = "Sort the rows of a table in place and return nothing at all. "


@pytest.fixture(scope="module")
def task():
    return load_task("pydocs_text")


def test_kind_sizes_and_columns(task):
    assert (task.kind, task.labels, task.label_words) == ("language-modeling", (), {})
    sizes = {split: (len(frame), text_bytes(frame["text"])) for split, frame in task.splits.items()}
    for split, documents_, n_bytes in (("train", 1000, 1e6), ("validation", 104, 104e3), ("test", 200, 200e3)):
        assert 0.9 * documents_ <= sizes[split][0] <= documents_ and 0.8 * n_bytes <= sizes[split][1] <= 1.1 * n_bytes
    for frame in task.splits.values():
        assert list(frame.columns) == ["id", "text", "cluster"] and frame["id"].is_unique
        each = frame["text"].map(lambda text: len(text.encode()))
        assert each.min() >= 300 and each.max() <= 2000


def test_splits_share_neither_texts_nor_files_and_no_file_dominates(task):
    for column in ("id", "text", "cluster"):
        seen = [set(task.splits[split][column]) for split in SPLITS]
        assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    for split, most in TEXT_RECIPE.most_per_file.items():
        clusters = task.splits[split]["cluster"]
        assert clusters.value_counts().max() <= most
        assert len(set(Counter(clusters.str.partition("/")[0]).values())) == 1


def test_a_document_is_its_docstring_as_it_stands(task):
    package = package_folder("networkx")
    row = next(row for row in task.splits["test"].itertuples() if row.cluster.startswith("networkx/"))
    source = (package / row.cluster.removeprefix("networkx/")).read_text(encoding="utf-8")
    assert any(docstring.strip().startswith(row.text) for _, docstring in docstrings(source))


def test_nobody_is_given_an_address(task):
    address = re.compile(r"[\w.+-]+@[\w-]+\.(?:\w+\.)*[a-z]{2,}\b")
    for frame in task.splits.values():
        assert [text for text in frame["text"] if address.search(text)] == []


@pytest.mark.parametrize(
    "unfit",
    [
        PROSE * 3,
        "Parameters\n----------\nrows : list\n" + PROSE * 8,
        PROSE * 8 + "\n\nWritten to jane.doe@example.org for her table.",
        PROSE * 8 + "\n\nAsk jane at example.org about it.",
        PROSE * 8 + "\n\nCopyright 2020 the owners.",
        PROSE * 8 + "\n\nAuthor: Jane Doe",
        PROSE * 8 + "\n\nThanks to Jane Doe for it.",
        PROSE * 8 + "\x1b[2J",
        PROSE * 8 + "\ud800",
        PROSE * 40,
    ],
)
def test_what_is_no_document(unfit):
    assert document(unfit) == ""


def test_a_document_is_cut_between_paragraphs():
    whole = "\n\n".join(PROSE * 8 for _ in range(4)).replace(" \n", "\n").rstrip()
    assert len(whole.encode()) < 2000 and document(whole + "\n") == whole
    assert document(whole + "\n\nExamples:\n\n" + PROSE * 8) == whole
    assert document(whole + "\n\nNotes\n-----\n\n" + PROSE * 8) == whole


def test_documents_of_a_file_come_in_an_order_of_their_own():
    source = "".join(f'def f{n}():\n    """{PROSE * 6} Number {n}."""\n' for n in range(6))
    found = documents(source)
    assert len(found) == 6 and found == documents(source) != sorted(found)


def test_collections_are_equal_and_the_cache_gives_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("FTLIB_CACHE", str(tmp_path))
    small = replace(TEXT_RECIPE, sizes={"test": 2, "validation": 1, "train": 4})
    monkeypatch.setattr(pydocs, "TEXT_RECIPE", small)
    first, again = load_task("pydocs_text"), load_task("pydocs_text")
    assert first.sha256 == again.sha256 and len(first.splits["train"]) == 4 * len(pydocs.LIBRARIES)
    (path,) = (tmp_path / "pydocs_text").iterdir()
    assert len(path.read_text(encoding="utf-8").splitlines()) == 1 + 7 * len(pydocs.LIBRARIES)
    assert {example.text for example in collect(small).examples} == {
        text for frame in first.splits.values() for text in frame["text"]
    }


def test_a_missing_library_is_said_with_the_name_of_the_task():
    with pytest.raises(FtlibError, match="pydocs_text: reads .* missing: not-installed-here; do: pip install"):
        library_versions("pydocs_text", ["not-installed-here"])


def test_the_card_says_what_a_card_must(task):
    for words in ("Licence", "Known biases", "Not for", "People", "1 000", "cluster", "Made with"):
        assert words in task.card
