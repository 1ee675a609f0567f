"""Text to be modelled from files: documents as they stand there, divided by content, every fault named."""

from pathlib import Path

import pytest

from ftlib.core.errors import FtlibError
from ftlib.data.registry import kind_of, load_task
from ftlib.data.task import SPLITS

DOCUMENTS = [f"Document {n} begins.\n  It has two lines." for n in range(40)]


def corpus(path: Path, documents) -> str:
    path.write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return f"file:{path}"


def split_folder(path: Path, **splits) -> str:
    for name, documents in splits.items():
        corpus(path / f"{name}.txt", documents)
    return f"file:{path}"


def refused(name: str, **columns) -> str:
    with pytest.raises(FtlibError) as caught:
        load_task(name, **columns)
    return str(caught.value)


def test_the_kind_is_told_by_the_name(tmp_path):
    for name in ("pydocs_text", "file:nowhere/letters.txt", "file:LETTERS.TXT"):
        assert kind_of(name) == "language-modeling"
    for name in ("pydocs", "nonsense", "hub:ag_news", "hub:some/text.txt", "file:x.csv", f"file:{tmp_path}"):
        assert kind_of(name) == "classification"
    (tmp_path / "train.txt").mkdir()
    assert kind_of(f"file:{tmp_path}") == "classification"
    (tmp_path / "train.txt").rmdir()
    (tmp_path / "train.txt").write_bytes(b"\xff never read")
    assert kind_of(f"file:{tmp_path}") == "language-modeling"


def test_one_file_is_divided_the_same_way_whatever_the_order(tmp_path):
    task = load_task(corpus(tmp_path / "a.txt", DOCUMENTS))
    other = load_task(corpus(tmp_path / "b.txt", DOCUMENTS[::-1]))
    assert [len(task.splits[split]) for split in SPLITS] == [32, 4, 4]
    assert all(set(task.splits[split]["text"]) == set(other.splits[split]["text"]) for split in SPLITS)
    assert sorted(text for split in SPLITS for text in task.splits[split]["text"]) == sorted(DOCUMENTS)
    assert task.sha256 == load_task(f"file:{tmp_path / 'a.txt'}").sha256 != other.sha256
    assert task.stated["splits"] == "80/10/10 of one file, by hash of the document"


def test_a_task_of_text_has_documents_and_no_labels(tmp_path):
    task = load_task(corpus(tmp_path / "a.txt", DOCUMENTS))
    assert (task.kind, task.labels, task.label_words) == ("language-modeling", (), {})
    assert all(list(task.splits[split].columns) == ["id", "text"] for split in SPLITS)
    assert repr(task) == f"Task(file:{tmp_path / 'a.txt'}, language-modeling, train 32, validation 4, test 4)"
    shown = task._repr_html_()
    n_bytes = sum(len(text.encode()) for text in task.splits["test"]["text"])
    assert "documents" in shown and str(n_bytes) in shown and "label" not in shown


def test_documents_are_what_stands_between_empty_lines(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(
        "\ufeff\r\n One.\r\nMore of it.\r\n\r\n \t\r\n\r\nTwo\x0c is\u2028one.\n\n\nThree — é.\n\nThree — é.".encode()
    )
    found = [text for frame in load_task(f"file:{path}").splits.values() for text in frame["text"]]
    assert sorted(found) == [" One.\nMore of it.", "Three — é.", "Three — é.", "Two\x0c is\u2028one."]


@pytest.mark.parametrize(("count", "sizes"), [(3, [1, 1, 1]), (4, [2, 1, 1]), (7, [5, 1, 1]), (20, [16, 2, 2])])
def test_no_split_is_empty(tmp_path, count, sizes):
    task = load_task(corpus(tmp_path / "a.txt", DOCUMENTS[:count]))
    assert [len(task.splits[split]) for split in SPLITS] == sizes


def test_copies_of_a_document_stay_in_one_split(tmp_path):
    task = load_task(corpus(tmp_path / "a.txt", DOCUMENTS + [text.upper() for text in DOCUMENTS]))
    parts = [{text.lower() for text in task.splits[split]["text"]} for split in SPLITS]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]


def test_a_folder_is_taken_as_it_is(tmp_path):
    name = split_folder(tmp_path, train=DOCUMENTS[:30], validation=DOCUMENTS[30:32], test=DOCUMENTS[32:])
    task = load_task(name)
    assert list(task.splits["train"]["text"]) == DOCUMENTS[:30] and task.stated["splits"] == "as given"
    assert [len(task.splits[split]) for split in SPLITS] == [30, 2, 8]


def test_validation_is_set_aside_from_train_and_said(tmp_path):
    task = load_task(split_folder(tmp_path, train=DOCUMENTS[:30], test=DOCUMENTS[30:]))
    assert [len(task.splits[split]) for split in SPLITS] == [27, 3, 10]
    assert task.stated["splits"] == "validation: 10 % of train, by hash"


def test_draws_are_seeded_nested_and_count_documents(tmp_path):
    task = load_task(corpus(tmp_path / "a.txt", DOCUMENTS))
    draws = [set(task.draw(shots=0, train_limit=size, seed=1)["id"]) for size in (5, 12, 32)]
    assert [len(draw) for draw in draws] == [5, 12, 32] and draws[0] < draws[1] < draws[2]
    assert draws[0] == set(task.draw(shots=0, train_limit=5, seed=1)["id"])
    assert draws[0] != set(task.draw(shots=0, train_limit=5, seed=2)["id"])
    assert len(task.draw(shots=0, train_limit=0, seed=1)) == 32
    with pytest.raises(FtlibError, match="train_limit = 33, but train has 32 documents"):
        task.draw(shots=0, train_limit=33, seed=1)
    with pytest.raises(
        FtlibError, match="shots = 8 are examples per class, and language-modeling tasks have no classes"
    ):
        task.draw(shots=8, train_limit=0, seed=1)
    assert len(task.test_set(2)) == 2 and task.test_set(2)["id"].equals(task.test_set(2)["id"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"One.\n\nna\xefve.\n\nThree.\n", "a.txt line 3: byte 8 of the file (0xef) is not UTF-8"),
        (b"One.\n\nTw\0o.\n\nThree.\n", "a.txt line 3: holds a NUL character"),
        ("One.\n\nTwo.".encode("utf-16"), "a.txt: is UTF-16"),
        (b"", "a.txt: the file is empty"),
        (b" \n\n\t\n", "a.txt: the file is empty"),
        (b"One.\nTwo.\nThree.\n", "1 documents, 1 different, are too few for train and validation and test"),
        (b"One.\n\nTwo.\n\none\n\nTWO!", "4 documents, 2 different, are too few"),
    ],
)
def test_faults_of_a_file(tmp_path, content, said):
    (tmp_path / "a.txt").write_bytes(content)
    assert said in refused(f"file:{tmp_path / 'a.txt'}")


def test_faults_of_a_folder(tmp_path):
    name = split_folder(tmp_path, train=DOCUMENTS[:1])
    assert "no test file; add test.txt, or name one file" in refused(name)
    split_folder(tmp_path, test=DOCUMENTS[1:])
    assert "are too few for train and validation" in refused(name)
    split_folder(tmp_path, val=DOCUMENTS[:2], dev=DOCUMENTS[:2])
    assert "several files for validation: dev.txt, val.txt" in refused(name)
    (tmp_path / "dev.txt").unlink()
    assert [len(load_task(name).splits[split]) for split in SPLITS] == [1, 2, 39]
    (tmp_path / "test.csv").write_text("text,label\na,b\n")
    assert "holds text (train.txt) and tables (test.csv); keep one or the other" in refused(name)
    assert "no file or folder there" in refused(f"file:{tmp_path / 'nowhere.txt'}")


@pytest.mark.parametrize(
    "options",
    [{"text_column": "text"}, {"label_column": "x"}, {"label_words": {"a": "b"}}, {"group_columns": ["sex"]}],
)
def test_text_has_no_columns_labels_or_groups(tmp_path, options):
    for name in (corpus(tmp_path / "a.txt", DOCUMENTS), "pydocs_text"):
        said = refused(name, **options)
        assert said == f"{name}: is text to be modelled, without columns, labels or groups; leave out {[*options][0]}"
