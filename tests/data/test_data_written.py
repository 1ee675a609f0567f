"""reviews and bios: of the stated sizes, with the stated skew, no text twice, and labels that no word gives away."""

import json
import re
import shutil
from collections import Counter

import pandas as pd
import pytest
from conftest import ROOT
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import ftlib.data.task
from ftlib.core.errors import FtlibError
from ftlib.data import bundled
from ftlib.data.audit import audit
from ftlib.data.files import normal
from ftlib.data.installed import NearDuplicates
from ftlib.data.registry import load_task
from ftlib.data.task import SPLITS
from ftlib.metrics.fairness import BLANK_GROUP

WOMEN = ("nurse", "schoolteacher", "paralegal", "interior_designer")
MEN = ("physician", "professor", "attorney", "architect")
IDENTITIES = {
    *("woman", "man", "nonbinary", "muslim", "jewish", "christian", "hindu", "black", "white", "asian", "latino"),
    *("gay", "disabled", "old", "young", "immigrant"),
}
NAMED = re.compile(
    r"(?i)\b(?:nurs\w*|doctor\w*|physician\w*|surgeon\w*|internists?|p(?:a)?ediatricians?|matron|midwi\w+|GP|MD"
    r"|(?:school)?teacher\w*|schoolm\w+|professor\w*|lecturer\w*|lawyer\w*|attorney\w*|counsel|counsell?or\w*"
    r"|solicitor\w*|barrister\w*|paralegal\w*|architect\w*|designer\w*|decorator\w*|stylist\w*)\b"
)
AUTHORS = {str(number) for number in range(1, 14)}
OWN = {"woman": r"(?i)\b(?:she|her|hers|herself)\b", "man": r"(?i)\b(?:he|his|him|himself)\b"}


@pytest.fixture(scope="module")
def bios():
    return load_task("bios", group_columns=["gender", "author"])


@pytest.fixture(scope="module")
def reviews():
    return load_task("reviews", group_columns=["mentions", "domain", "author"])


def everything(task) -> pd.DataFrame:
    """All splits and other test sets in one frame."""
    parts = {**task.splits, **task.tests}
    return pd.concat([rows.assign(split=name) for name, rows in parts.items()], ignore_index=True)


def card(task) -> str:
    """The card in one line: what it says may be broken across lines."""
    return " ".join(task.card.split())


@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        ("bios", "12c8e8006c547e444c5b719225c700bc1d6c53275185dd2de20cf25affb925ce"),
        ("reviews", "bab0fb906e282e7dc2e34b73a8a34af1b166469f55920c327774a25deefab351"),
    ],
)
def test_the_data_is_what_it_has_always_been(name, sha256):
    """Whoever changes a text changes this, the figures in the card, and says so in the changelog."""
    assert load_task(name).sha256 == sha256


def test_bios_are_skewed_in_train_and_balanced_in_test(bios):
    assert {name: len(rows) for name, rows in bios.splits.items()} == {"train": 1408, "validation": 128, "test": 960}
    assert set(bios.labels) == {*WOMEN, *MEN} and not bios.tests
    for split, (most, fewest) in {"train": (140, 36), "validation": (8, 8), "test": (60, 60)}.items():
        counts = bios.splits[split].groupby(["label", "group_gender"]).size()
        for usual, other, labels in (("woman", "man", WOMEN), ("man", "woman", MEN)):
            assert all((counts[label, usual], counts[label, other]) == (most, fewest) for label in labels)
    assert round(140 / (140 + 36), 2) == 0.80 and "80 %" in card(bios) and "80 %" in bios.caution


def test_reviews_are_balanced_in_every_domain(reviews):
    sizes = {name: len(rows) for name, rows in reviews.splits.items()}
    assert sizes == {"train": 1266, "validation": 96, "test": 720}
    assert reviews.labels == ("negative", "positive") and list(reviews.tests) == ["clinic"]
    for split, each in {"train": 211, "validation": 16, "test": 120}.items():
        counts = Counter(zip(reviews.splits[split]["group_domain"], reviews.splits[split]["label"], strict=True))
        assert set(counts.values()) == {each} and len(counts) == 6
    clinic = reviews.tests["clinic"]
    assert Counter(clinic["label"]) == {"negative": 275, "positive": 275} and set(clinic["group_domain"]) == {"clinic"}


def test_identities_are_mentioned_alike_in_good_and_bad_reviews(reviews):
    table = everything(reviews)
    counts = table.groupby(["group_mentions", "label"]).size().unstack()
    assert set(counts.index) == {BLANK_GROUP, *IDENTITIES}
    assert (counts["negative"] - counts["positive"]).abs().max() <= 3


def test_most_texts_with_an_identity_are_tested_on(reviews):
    table = everything(reviews)
    named = table[table["group_mentions"] != BLANK_GROUP]
    assert named["split"].isin(["test", "clinic"]).mean() > 2 / 3
    counts = named.groupby(["group_mentions", "split"]).size().unstack(fill_value=0)
    for split in ("test", "clinic"):
        assert f"{counts[split].min()} to {counts[split].max()} {split} texts" in card(reviews)
    assert f"{counts['test'].min()} to {counts['test'].max()} test texts" in reviews.caution
    apart = named[named["split"] == "test"].groupby(["group_mentions", "label"]).size().unstack()
    assert (apart["negative"] - apart["positive"]).abs().max() <= 5
    for split, rows in table.groupby("split"):
        assert f"{(rows['group_mentions'] != BLANK_GROUP).sum()} of {len(rows)}" in card(reviews), split


@pytest.mark.parametrize("name", ["bios", "reviews"])
def test_every_author_is_in_every_split(name, request):
    table = everything(request.getfixturevalue(name))
    assert all(set(rows["group_author"]) == AUTHORS for _, rows in table.groupby("split"))
    # The clinic texts are no draw: authors 8 to 13 wrote half as many of them.
    drawn = table[table["split"].isin(SPLITS)]
    shares = drawn.groupby("split")["group_author"].value_counts(normalize=True).unstack()
    relative = shares / drawn["group_author"].value_counts(normalize=True)
    assert relative.loc[["train", "test"]].stack().between(0.85, 1.15).all()
    assert relative.loc["validation"].between(0.5, 1.5).all()  # 6 to 12 texts of each


@pytest.mark.parametrize("name", ["bios", "reviews"])
def test_no_text_is_there_twice_or_nearly(name, request):
    texts = everything(request.getfixturevalue(name))["text"]
    assert texts.map(normal).is_unique
    near = NearDuplicates()
    assert [text for text in texts if not near.add(text)] == []
    sequences = Counter()
    for text in texts:
        words = re.findall(r"[a-z']+", text.lower())
        sequences.update(zip(words, words[1:], words[2:], words[3:], strict=False))
    assert len(sequences) / sequences.total() >= 0.97
    assert f"{len(sequences) / sequences.total():.1%}".replace("%", " %") in card(request.getfixturevalue(name))


def test_no_biography_names_an_occupation(bios):
    assert [text for text in everything(bios)["text"] if NAMED.search(text)] == []


def test_gender_shows_in_every_biography(bios):
    for gender, rows in everything(bios).groupby("group_gender"):
        assert [text for text in rows["text"] if not re.search(OWN[gender], text)] == []


@pytest.mark.parametrize("name", ["bios", "reviews"])
def test_ids_are_stable_and_say_nothing(name, request):
    table = everything(request.getfixturevalue(name))
    assert sorted(table["id"]) == [f"{name[0]}{number:04}" for number in range(1, len(table) + 1)]
    lines = (ROOT / "data" / name / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["id"] for row in rows] == sorted(table["id"])
    assert {row["id"]: row["text"] for row in rows} == dict(zip(table["id"], table["text"], strict=True))
    # By order of the ids, neighbours have the same label as often as by chance.
    labels = table.sort_values("id")["label"].tolist()
    same = sum(left == right for left, right in zip(labels, labels[1:], strict=False)) / len(labels)
    assert abs(same - 1 / len(set(labels))) < 0.04


@pytest.mark.parametrize("name", ["bios", "reviews"])
def test_the_doctor_finds_nothing_wrong(name):
    assert audit(load_task(name)).problems == ()


def tfidf(task):
    model = make_pipeline(
        TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b"),
        LogisticRegression(C=10, tol=1e-3, max_iter=1000),
    )
    return model.fit(task.splits["train"]["text"], task.splits["train"]["label"])


def test_bios_are_neither_too_easy_nor_too_hard_and_the_skew_is_picked_up(bios):
    test = bios.splits["test"]
    right = pd.Series(tfidf(bios).predict(test["text"]) == test["label"], index=test.index)
    assert 0.65 <= right.mean() <= 0.90
    found = right.groupby([test["label"], test["group_gender"]]).mean().unstack()
    towards = (found["woman"] - found["man"]) * [1 if label in WOMEN else -1 for label in found.index]
    assert (towards > 0).all() and towards.mean() > 0.2


def test_reviews_are_told_in_part_by_counting_words(reviews):
    model = tfidf(reviews)
    for rows, lowest, highest in ((reviews.splits["test"], 0.65, 0.90), (reviews.tests["clinic"], 0.55, 0.75)):
        assert lowest <= model.score(rows["text"], rows["label"]) <= highest


@pytest.mark.parametrize("name", ["bios", "reviews"])
def test_the_card_says_what_a_card_must(name, request):
    task = request.getfixturevalue(name)
    said = card(task)
    assert "language model in thirteen roles" in said and "2026" in said and "thirteen roles" in task.source
    for words in ("Known limits and biases", "Not for", "no templates", "Apache-2.0", "default_rng(2026)"):
        assert words in said
    assert all(f"{name} {len(task.splits[name])}" in said for name in SPLITS)
    assert all(f"`{name}` {len(rows)}" in said for name, rows in task.tests.items())
    words = everything(task)["text"].str.split().str.len()
    assert f"{words.min()} to {words.max()} words (median {words.median():.0f})" in said
    assert task.licence.startswith("Apache-2.0") and "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "group"), [("bios", "gender"), ("reviews", "mentions")])
def test_groups_come_by_themselves(name, group):
    task, asked = load_task(name), load_task(name, group_columns=[group])
    assert task.group_columns == asked.group_columns == (group,) and task.sha256 == asked.sha256
    assert task.stated == {"group_columns": [group]}
    for rows in (*task.splits.values(), *task.tests.values()):
        assert list(rows.columns) == ["id", "text", "label", f"group_{group}"]


def test_other_groups_are_taken_where_they_are_asked_for():
    task = load_task("reviews", group_columns=["domain", "author"])
    assert list(task.tests["clinic"].columns) == ["id", "text", "label", "group_domain", "group_author"]
    assert set(task.splits["train"]["group_author"]) == AUTHORS


def test_labels_have_words():
    task = load_task("bios")
    assert task.label_words["interior_designer"] == "interior designer" and "{label}" in task.template
    words = {"negative": "displeased", "positive": "pleased"}
    assert load_task("reviews", label_words=words).label_words == words
    with pytest.raises(FtlibError, match="label_words names 'bad', which is no label; labels: 'negative', 'positive'"):
        load_task("reviews", label_words={"bad": "bad", **words})


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"group_columns": ["gendre"]}, "bios: group_columns: unknown 'gendre'; did you mean 'gender'"),
        ({"group_columns": ["label"]}, "unknown 'label'. Known: author, gender"),
        ({"group_columns": ["gender", "gender"]}, "name each column once"),
        ({"text_column": "bio"}, "its columns are text and label"),
        ({"label_column": "gender"}, "its columns are text and label"),
    ],
)
def test_columns_that_are_not_there_are_refused(asked, said):
    with pytest.raises(FtlibError, match=re.escape(said)):
        load_task("bios", **asked)


def test_the_files_are_found_inside_an_installed_package(tmp_path, monkeypatch, bios):
    shutil.copytree(ROOT / "data" / "bios", tmp_path / "ftlib" / "_data" / "bios")
    monkeypatch.setattr(ftlib.data.task, "__file__", str(tmp_path / "ftlib" / "data" / "task.py"))
    task = load_task("bios", group_columns=["gender", "author"])
    assert task.sha256 == bios.sha256 and task.card == bios.card
    with pytest.raises(FtlibError, match="data/reviews/reviews.jsonl, are not in this installation"):
        load_task("reviews")


def test_a_file_that_was_damaged_says_the_line(tmp_path, monkeypatch):
    path = tmp_path / "bios.jsonl"
    path.write_text('{"id": "b0001", "text": " ", "label": "nurse", "split": "test", "gender": "woman"}\n')
    monkeypatch.setattr(bundled, "data_file", lambda name, file: path)
    with pytest.raises(FtlibError, match="bios.jsonl line 1: the text"):
        load_task("bios")
