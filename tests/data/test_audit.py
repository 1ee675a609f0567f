"""The data doctor finds each fault that was planted, and nothing in data without one."""

import pytest
from conftest import ROOT

from ftlib.core.errors import FtlibError
from ftlib.data.audit import check_data

SHARED = ROOT.parent / "shared" / "data"
SUBJECTS = ("river", "bridge", "garden", "window", "letter", "market", "winter", "kitchen", "teacher", "engine")


def clean(start, count):
    """Texts without a fault: their words say nothing about their labels."""
    return [
        (f"the {SUBJECTS[n % 10]} and the {SUBJECTS[n // 10 % 10]} {n}", "yes" if n % 3 == 0 else "no")
        for n in range(start, start + count)
    ]


def folder(path, **splits):
    for name, rows in splits.items():
        lines = "".join(f'"{text}",{label}\n' for text, label in rows)
        (path / f"{name}.csv").write_text("text,label\n" + lines, encoding="utf-8")
    return path


@pytest.fixture
def sound():
    return {"train": clean(0, 150), "validation": clean(150, 150), "test": clean(300, 150)}


def test_sound_data_has_neither_problems_nor_notes(tmp_path, sound):
    findings = check_data(folder(tmp_path, **sound))
    assert findings.problems == findings.notes == ()
    assert "examples: train 150, validation 150, test 150" in str(findings)
    assert "2 labels in train: no 100 (67%), yes 50 (33%)" in str(findings)
    assert str(findings).endswith("problems: none\nnotes: none")


def planted(sound, fault):
    train, test = sound["train"], sound["test"]
    if fault == "leak":
        train += [(text.upper() + " !", label) for text, label in test[:3]]
    elif fault == "conflict":
        train += [(train[0][0], "no"), (train[1][0], "yes")]
    elif fault == "repeat":
        train += [train[5]] * 4
    elif fault == "giveaway":
        sound["train"] = [(text + " posted in praise" * (label == "yes"), label) for text, label in train]
    elif fault == "imbalance":
        sound["test"] = [(text, "yes" if n < 5 else "no") for n, (text, _) in enumerate(test)]
    elif fault == "long":
        train[7] = ("word " * 100 + "end", "no")
    elif fault == "no words":
        test[4] = ("?!", "no")
    elif fault == "lost characters":
        test[4] = ("caf\ufffd by the river", "no")
    elif fault == "alike labels":
        train += [(f"one more {n}", "No") for n in range(40)]
        test += [(f"yet another {n}", "No") for n in range(40)]
    return sound


@pytest.mark.parametrize(
    ("fault", "where", "said"),
    [
        ("leak", "problems", "test texts that are also in train: 3 of 150 (2.0%)"),
        ("conflict", "problems", "texts with more than one label: 2 (4 rows)"),
        ("giveaway", "problems", "words found with one label only: 'in' (in 100% of 'yes'), 'posted'"),
        ("repeat", "notes", "train texts that repeat another one there, case and punctuation aside: 4 of 154"),
        ("imbalance", "notes", "always saying 'no' is right on 97% of test"),
        ("imbalance", "notes", "fewer than 30 examples of yes 5"),
        ("imbalance", "notes", "labels are distributed differently in train and test: no 67% to 97%"),
        ("long", "notes", "train texts of over 90 words: 1 of 150"),
        ("no words", "notes", 'test texts without a letter or digit: 1, e.g. "?!"'),
        ("lost characters", "notes", "test texts with U+FFFD"),
        ("alike labels", "notes", "labels that differ in case, punctuation or space only: 'No', 'no'"),
    ],
)
def test_a_planted_fault_is_found(tmp_path, sound, fault, where, said):
    findings = check_data(folder(tmp_path, **planted(sound, fault)))
    assert any(said in line for line in getattr(findings, where)), str(findings)


def test_clusters_across_splits(tmp_path):
    for split in ("train", "validation", "test"):
        rows = "".join(f"{text} {split},{label},page {n % 50}\n" for n, (text, label) in enumerate(clean(0, 150)))
        (tmp_path / f"{split}.csv").write_text("text,label,cluster\n" + rows)
    assert any('clusters in train and in test: 50, e.g. "page 0"' in line for line in check_data(tmp_path).problems)


def test_groups_are_counted_and_labels_that_go_with_them_are_said(tmp_path, sound):
    """Of 75 women in train 45 are "yes", of 75 men 15; the test's third group has 4 texts."""
    for split, rows in sound.items():
        women = [(text, "yes" if n % 5 < 3 else "no", "woman") for n, (text, _) in enumerate(rows[:75])]
        men = [(text, "yes" if n % 5 < 1 else "no", "man") for n, (text, _) in enumerate(rows[75:])]
        if split == "test":
            men[:4] = [(text, label, "other") for text, label, _ in men[:4]]
        lines = "".join(f'"{text}",{label},{who}\n' for text, label, who in women + men)
        (tmp_path / f"{split}.csv").write_text("text,label,who\n" + lines)
    found = check_data(tmp_path, group_columns=["who"])
    assert "3 groups of who in train and test: woman 75 and 75, man 75 and 71, other 0 and 4" in found.facts
    notes = {one.code: one for one in found}
    assert notes["small_groups"].text.startswith("test has fewer than 30 examples of groups of who: other 4;")
    said = "labels go with who in train (woman: 60% 'yes', the others 20%; man: 80% 'no', the others 40%)"
    assert notes["group_labels"].text.startswith(said) and notes["group_labels"].n == 2
    assert not {"small_groups", "group_labels"} & {one.code for one in check_data(tmp_path)}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("who", r"found the text 'who'; write a list: \['who'\]"),
        (["who & who"], "'who & who' crosses a column with itself"),
        (["label"], "'label' is the label column; groups are of people"),
    ],
)
def test_groups_that_cannot_be_are_refused(tmp_path, sound, columns, said):
    for split, rows in sound.items():
        lines = "".join(f'"{text}",{label},{"ab"[n % 2]}\n' for n, (text, label) in enumerate(rows))
        (tmp_path / f"{split}.csv").write_text("text,label,who\n" + lines)
    with pytest.raises(FtlibError, match=said):
        check_data(tmp_path, group_columns=columns)
    with pytest.raises(FtlibError, match="found list; give a file"):
        check_data([tmp_path])


def test_text_from_the_data_cannot_drive_the_terminal(tmp_path, sound):
    sound["train"] += [("\x1b[2Jgone \x07", "yes"), ("\x1b[2Jgone \x07", "no")]
    said = str(check_data(folder(tmp_path, **sound)))
    assert "gone" in said and "\x1b" not in said and "\x07" not in said


def texts(start, count):
    """Documents without a fault."""
    return [
        f"the {SUBJECTS[n % 10]} and the {SUBJECTS[n // 10]} " + f"met for the {n}th time " * 4
        for n in range(start, start + count)
    ]


def text_folder(path, **splits):
    for name, documents in splits.items():
        (path / f"{name}.txt").write_text("\n\n".join(documents), encoding="utf-8")
    return path


@pytest.fixture
def sound_text():
    return {"train": texts(0, 40), "validation": texts(40, 10), "test": texts(50, 30)}


def test_sound_text_has_neither_problems_nor_notes(tmp_path, sound_text):
    findings = check_data(text_folder(tmp_path, **sound_text))
    assert findings.problems == findings.notes == ()
    assert "documents: train 40, validation 10, test 30" in str(findings) and "label" not in str(findings)
    n_bytes = sum(len(text.encode()) for text in sound_text["test"])
    assert f"bytes in test: {n_bytes}; a document's median " in str(findings)


@pytest.mark.parametrize(
    ("split", "text", "where", "said"),
    [
        ("train", texts(50, 1)[0].upper() + "!", "problems", "test texts that are also in train: 1 of 30 (3.3%)"),
        (
            "train",
            texts(3, 1)[0],
            "notes",
            "train texts that repeat another one there, case and punctuation aside: 1 of 41",
        ),
        ("test", "CafÃ© by the river, " * 5, "problems", "documents of UTF-8 read as another encoding: 1 of 81"),
        ("test", "It\u00e2\u20ac\u2122s by the river, " * 5, "problems", "UTF-8 read as another encoding: 1 of 81"),
        ("test", "Caf\ufffd by the river, " * 5, "problems", "documents with U+FFFD, a character lost"),
        ("train", "A bell \x07 by the river, " * 5, "problems", "documents with control characters: 1 of 81"),
        ("train", "A heading", "notes", 'train documents of under 50 bytes: 1 of 41, e.g. "A heading"'),
        ("test", "a river of words " * 300, "notes", "test documents of over 4000 bytes: 1 of 31"),
        ("train", "* " * 40, "notes", "train texts without a letter or digit: 1"),
    ],
)
def test_a_fault_planted_in_text_is_found(tmp_path, sound_text, split, text, where, said):
    sound_text[split].append(text)
    findings = check_data(text_folder(tmp_path, **sound_text))
    assert any(said in line for line in getattr(findings, where)), str(findings)
    assert "\x07" not in str(findings)


def test_accents_and_a_small_test_set(tmp_path, sound_text):
    """Portuguese and French are no mojibake."""
    sound_text["test"] = ["Não é só à tarde que há pão; «Âge», Ã, Å and œuvre, too. — “Ça va?” it's €5"] * 2
    findings = check_data(text_folder(tmp_path, **sound_text))
    assert findings.problems == ()
    assert "test has fewer than 30 documents, 2: differences between models will be uncertain" in findings.notes


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the shared data sets in {SHARED}")
def test_the_known_leak_of_a_public_data_set_is_found():
    """The set's README: 12.8 % of the test sentences are in train."""
    assert any("173 of 1349 (12.8%)" in line for line in check_data(SHARED / "cs_abstruct").problems)
