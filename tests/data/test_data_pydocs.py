"""pydocs: real text without the answer in it, the same on every reading, and neither too easy nor too hard."""

import re
from collections import Counter
from dataclasses import replace

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from ftlib.core.errors import FtlibError
from ftlib.data import installed, pydocs
from ftlib.data.installed import collect, description, docstrings, mask
from ftlib.data.registry import load_task

NAMES = (
    *("torch", "pytorch", "transformers", "huggingface", "pandas", "pd", "sklearn", "scikit", "scipy", "numpy", "np"),
    *("matplotlib", "mpl", "plt", "pyplot", "networkx", "nx", "sympy"),
)


@pytest.fixture(scope="module")
def task():
    return load_task("pydocs")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a collection of two small libraries instead of the real one."""
    monkeypatch.setenv("FTLIB_CACHE", str(tmp_path))
    sizes = {"test": 6, "validation": 6, "train": 12}
    small = collect(replace(pydocs.RECIPE, libraries=("networkx", "pandas"), sizes=sizes))
    calls = []
    monkeypatch.setattr(installed, "collect", lambda recipe: calls.append(1) or small)
    return tmp_path, calls


PUBLISHED = {
    **{"matplotlib": "3.11.2", "networkx": "3.6.1", "pandas": "3.1.1", "scipy": "1.17.1", "sklearn": "1.9.1"},
    **{"sympy": "1.14.0", "torch": "2.13.0", "transformers": "5.23.0"},
}


def test_the_data_of_these_versions_is_what_it_has_always_been(task):
    if task.stated["libraries"] != PUBLISHED:
        pytest.skip("other versions of the libraries are installed")
    assert task.sha256 == "72080c4f125b28a98ee1f40f7d92b281840c97da1ff970ee826f89d8d3db3622"


def test_sizes_and_balance(task):
    sizes = {split: len(frame) for split, frame in task.splits.items()}
    assert 4600 <= sizes["train"] <= 6400 and 600 <= sizes["validation"] <= 800 and 1200 <= sizes["test"] <= 1600
    for frame in task.splits.values():
        assert len(set(Counter(frame["label"]).values())) == 1 and set(frame["label"]) == set(task.labels)
        assert frame["id"].is_unique and list(frame.columns) == ["id", "text", "label", "cluster"]


def test_no_text_names_a_library(task):
    pattern = re.compile(rf"(?i)\b({'|'.join(NAMES)})\b|torch|scikit|hugging ?face|🤗")
    for frame in task.splits.values():
        assert [text for text in frame["text"] if pattern.search(text)] == []


def test_no_text_holds_code(task):
    code = re.compile(r"`|>>>|\w_\w|\w\(\)|https?:|\b[a-z]+[A-Z]|\b[A-Za-z]\w+\.[a-z]\w+\.[a-z]")
    for frame in task.splits.values():
        assert [text for text in frame["text"] if code.search(text)] == []


def test_the_words_for_a_label_do_not_name_it(task):
    for label, words in task.label_words.items():
        assert not re.search(rf"(?i){label}|{'|'.join(NAMES)}", words)
    assert "{label}" in task.template


def test_splits_share_neither_texts_nor_files(task):
    parts = [task.splits[split] for split in ("train", "validation", "test")]
    for left, right in ((0, 1), (0, 2), (1, 2)):
        for column in ("text", "id", "cluster"):
            assert not set(parts[left][column]) & set(parts[right][column])


def test_near_duplicates_are_kept_out(task):
    """Four-word sequences: no test text has more than half of its own in one training text."""

    def sequences(text):
        words = re.findall("[a-z]+", text.lower())
        return {tuple(words[start : start + 4]) for start in range(max(1, len(words) - 3))}

    where = {}
    for number, text in enumerate(task.splits["train"]["text"]):
        for sequence in sequences(text):
            where.setdefault(sequence, []).append(number)
    for text in task.splits["test"]["text"]:
        own = sequences(text)
        shared = Counter(number for sequence in own for number in where.get(sequence, ()))
        assert not shared or max(shared.values()) <= 0.5 * len(own), text


def test_the_task_is_neither_too_easy_nor_too_hard(task):
    def accuracy(train):
        model = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
            # The default tolerance is worth half a point and twice the time.
            LogisticRegression(C=10, tol=1e-3, max_iter=1000),
        )
        model.fit(train["text"], train["label"])
        return model.score(task.splits["test"]["text"], task.splits["test"]["label"])

    assert 0.66 <= accuracy(task.splits["train"]) <= 0.80
    assert accuracy(task.draw(shots=0, train_limit=2000, seed=0)) >= 0.60


def test_two_collections_are_equal():
    sizes = {"test": 5, "validation": 5, "train": 20}
    small = replace(pydocs.RECIPE, libraries=("networkx", "scipy"), sizes=sizes)
    first, second = collect(small), collect(small)
    assert first == second and Counter(example.label for example in first.examples) == {"networkx": 30, "scipy": 30}


def test_the_cache_is_used_and_rebuilt_when_broken(cache):
    folder, calls = cache
    first = load_task("pydocs")
    again = load_task("pydocs")
    assert first.sha256 == again.sha256 and len(calls) == 1
    (path,) = (folder / "pydocs").iterdir()
    whole = path.read_bytes()
    for broken in (whole[:-40], whole.replace(b"graph", b"grape", 1), b"", b"\x00\xff" * 50):
        path.write_bytes(broken)
        before = len(calls)
        assert load_task("pydocs").sha256 == first.sha256 and len(calls) == before + 1
        assert path.read_bytes() == whole


def test_another_version_of_a_library_is_another_cache(cache, monkeypatch):
    folder, calls = cache
    load_task("pydocs")
    monkeypatch.setattr(pydocs, "library_versions", lambda name, libraries: {"pandas": "99"})
    load_task("pydocs")
    assert len(calls) == 2 and len(list((folder / "pydocs").iterdir())) == 2


def test_a_cache_that_cannot_be_written_is_said_and_survived(cache, capsys):
    folder, _ = cache
    (folder / "pydocs").write_text("a file where the folder should be")
    assert len(load_task("pydocs").splits["train"]) == 24
    assert "not kept for the next time" in capsys.readouterr().err


def test_what_pydocs_cannot_do_is_refused(monkeypatch):
    with pytest.raises(FtlibError, match="its columns are text and label"):
        load_task("pydocs", group_columns=["author"])
    monkeypatch.setitem(installed._DISTRIBUTIONS, "sympy", "not-installed-here")
    with pytest.raises(FtlibError, match="missing: not-installed-here; do: pip install not-installed-here"):
        load_task("pydocs")


def test_the_card_says_what_a_card_must(task):
    for words in ("Licence", "Known biases", "Not for", "1 200", "cluster"):
        assert words in task.card


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Like :func:`~scipy.signal.lfilter` but faster.", "Like _ but faster."),
        ("Uses matplotlib.pyplot (plt) and the PyTorch backend.", "Uses _ (_) and the _ backend."),
        ("A scikit-learn estimator, see HuggingFace 🤗 docs at https://x.y/z.", "A _ estimator, see _ docs at _"),
        ("Sort values. Then return them.", "Sort values. Then return them."),
        ("Read more in the :ref:`User Guide <x>`. Fit a model.", "Fit a model."),
        ("The *my_arg* or '_private' DataFrame of {klass} %(name)s", "The _ or _ of _"),
    ],
)
def test_masking(text, masked):
    assert mask(text, pydocs._NAMES) == masked


def test_only_prose_before_the_first_section_is_read():
    text = "Do it.\n\n.. note:: no\n\n- a list\n\n>>> code\n\nMore words here.\n\nParameters\n----------\nx : int"
    assert description(text, enough=20, most=60) == "Do it. More words here."
    assert description("One two. Three four five six.", enough=1, most=4) == "One two."


def test_private_and_nested_definitions_are_not_read():
    source = '"M"\nclass A:\n "A"\n def f(s):\n  "F"\n  def g(): "G"\n def _h(s): "H"\nasync def b(): "B"'
    assert list(docstrings(source)) == [("module", "M"), ("A", "A"), ("b", "B"), ("A.f", "F")]
