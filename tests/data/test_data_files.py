"""file: tasks: what the file says is what the task holds, and every fault is named with its place."""

import csv
import json

import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from ftlib.core.errors import FtlibError
from ftlib.data.files import divide
from ftlib.data.registry import load_task
from ftlib.data.tabular import read_rows

SHARED = ROOT.parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the shared data sets in {SHARED}")


def write(folder, **files):
    """Write files by their stem: train="a,b\\n..." makes train.csv; a name with a suffix keeps it."""
    for name, content in files.items():
        stem, _, suffix = name.partition("__")
        path = folder / f"{stem}.{suffix or 'csv'}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return f"file:{folder}"


def rows(*pairs, header="text,label"):
    return "\n".join([header, *(f"{text},{label}" for text, label in pairs)]) + "\n"


TRAIN = rows(*((f"some text {n}", "yes" if n % 2 else "no") for n in range(40)))
TEST = rows(("a new text", "yes"), ("one more", "no"))


def error(folder, columns=None, **files):
    with pytest.raises(FtlibError) as caught:
        load_task(write(folder, **files), **(columns or {}))
    return str(caught.value)


def test_a_folder_with_three_splits_is_taken_as_it_is(tmp_path):
    task = load_task(write(tmp_path, train=TRAIN, dev=TEST, test=TEST))
    assert [len(task.splits[split]) for split in ("train", "validation", "test")] == [40, 2, 2]
    assert task.labels == ("no", "yes") and task.label_words == {"no": "no", "yes": "yes"}
    assert list(task.splits["test"].columns) == ["id", "text", "label"]
    assert task.stated["guessed"] == ["text_column", "label_column"] and task.stated["splits"] == "as given"


@pytest.mark.parametrize("name", ["validation", "valid", "dev", "val", "Dev"])
def test_a_validation_file_may_have_any_usual_name(tmp_path, name):
    assert len(load_task(write(tmp_path, train=TRAIN, test=TEST, **{name: TEST})).splits["validation"]) == 2


def test_text_that_looks_like_a_missing_value_stays_text(tmp_path):
    odd = ["NA", "null", "None", "nan", "", "N/A"]
    train = rows(*((text or "-", "None" if n % 2 else "NA") for n, text in enumerate(odd * 5)))
    task = load_task(write(tmp_path, train=train, test=rows(("nan", "NA"), ("null", "None"))))
    assert list(task.splits["test"]["text"]) == ["nan", "null"] and task.labels == ("NA", "None")


def test_byte_order_mark_windows_lines_and_quoted_newlines(tmp_path):
    content = '\ufefftext,label\r\n"one, ""two""\r\nthree",a\r\nfour,b\r\n'
    task = load_task(write(tmp_path, train=content, validation=content, test=content))
    assert list(task.splits["train"]["text"]) == ['one, "two"\r\nthree', "four"]


def test_line_numbers_count_newlines_inside_quotes(tmp_path):
    message = error(tmp_path, train='text,label\n"one\ntwo",a\n\nthree,b,c\nx,a\n', test=TEST)
    assert message == "train.csv line 5 has 3 fields, the header has 2"


def test_every_kind_of_problem_of_a_file_is_told_with_all_lines_up_to_five(tmp_path):
    assert error(tmp_path, train=TRAIN + "only one\n" * 7, test=TEST) == (
        "train.csv lines 42 to 48 have 1 field, the header has 2"
    )
    message = error(tmp_path, train=TRAIN + "".join("x," * n + "\n" for n in range(2, 9)), test=TEST)
    assert "7 problems" in message and "line 46 has 7 fields," in message and message.endswith("and 2 more")
    assert "line 47" not in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "train.csv: the file is empty"),
        ("\n\n", "train.csv: the file is empty"),
        ("text,label\n", "has a header and no rows"),
        ("text,label,text\na,b,c\n", "2 columns named 'text'"),
        ('text,label\n"open,a\nb,c\n', "line 2: unexpected end of data"),
        ('text,label\n"a"b,c\n', "line 2: "),
        ("text;label\na;b\n", "separate columns by commas, not ';'"),
        (b"text,label\nok,a\nna\xefve,b\n", "line 3: byte 18 of the file (0xef) is not UTF-8"),
        ("text,label\na,b\n".encode("utf-16"), "is UTF-16"),
        ("text,label\na\0,b\n", "NUL"),
        ("text,label\n  ,a\nx,b\n", "train.csv line 2: the text (text) is blank"),
        ("text,label\nx,a\ny, \n", "train.csv line 3: the label (label) is blank"),
        ("text,label\nx,a\ny,a\n", "every label (label) is 'a'"),
        ("text,label\nx,0.5\ny,1\n", "line 2: the label (label) is 0.5, a number with a fraction"),
        ("words,label\nx,a\ny,b\n", "text_column: no column has a usual name; columns: words, label"),
        ("text,sentence,label\nx,y,a\n", "could be 'text' or 'sentence'; say which: text_column ="),
        ("text,label,category\nx,y,a\n", "could be 'label' or 'category'; say which: label_column ="),
    ],
)
def test_faults_of_a_csv_file(tmp_path, content, said):
    path = tmp_path / "train.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(FtlibError) as caught:
        load_task(f"file:{path}")
    assert said in str(caught.value)


def test_a_label_column_that_names_no_classes_is_refused(tmp_path):
    many = rows(*((f"text {n}", f"name {n}") for n in range(30)))
    assert "does not look like a label column" in error(tmp_path, train=many, test=many)


def test_unseen_label_names_label_file_and_line(tmp_path):
    message = error(tmp_path, train=TRAIN, test=rows(("a", "yes"), ("b", "maybe")))
    assert message == "test.csv line 3: label 'maybe' is not in train, which has 'no', 'yes'"


def test_columns_asked_for(tmp_path):
    name = write(tmp_path, train=rows(("a", "x"), ("b", "y"), header="body text,kind"), val=TEST, test=TEST)
    with pytest.raises(FtlibError, match="no column 'txt'; columns: body text, kind"):
        load_task(name, text_column="txt", label_column="kind")
    one = write(tmp_path, train=rows(("a", "x"), ("b", "y"), header="text,kind"), val=TEST, test=TEST)
    with pytest.raises(FtlibError, match="label_column: the splits share no column"):
        load_task(one)
    with pytest.raises(FtlibError, match="both the text and the label"):
        load_task(write(tmp_path, train=TRAIN, val=TEST, test=TEST), text_column="text", label_column="text")
    with pytest.raises(FtlibError, match="group_columns: no column 'sex'"):
        load_task(write(tmp_path, train=TRAIN, val=TEST, test=TEST), group_columns=["sex"])


def test_title_and_description_are_joined(tmp_path):
    train = "title,description,label\nIs it?,It is.,a\nThis,that,b\n"
    task = load_task(write(tmp_path, train=train, val=train, test=train))
    assert list(task.splits["train"]["text"]) == ["Is it? It is.", "This. that"]
    assert task.stated["text_column"] == "title+description"


def test_groups_are_crossed_on_request(tmp_path):
    data = "text,label,sex,age\n" + "".join(
        f"t {n},{n % 2},{'' if n == 3 else 'fm'[n % 2]},{n // 2}\n" for n in range(4)
    )
    name = write(tmp_path, train=data, val=data, test=data)
    task = load_task(name, group_columns=["sex", "sex & age"])
    assert list(task.splits["test"]["group_sex & age"]) == ["f & 0", "m & 0", "f & 1", "(blank)"]
    assert task.group_columns == ("sex", "sex & age")
    with pytest.raises(FtlibError, match="group_columns: no column 'agee'"):
        load_task(name, group_columns=["sex & agee"])


def test_groups_and_clusters_come_along_as_text(tmp_path):
    train = "".join(json.dumps({"text": f"t {n}", "label": n % 2, "age": n, "cluster": 7}) + "\n" for n in range(4))
    task = load_task(write(tmp_path, train__jsonl=train, val__jsonl=train, test__jsonl=train), group_columns=["age"])
    assert list(task.splits["test"].columns) == ["id", "text", "label", "group_age", "cluster"]
    assert list(task.splits["test"]["group_age"]) == ["0", "1", "2", "3"] and task.group_columns == ("age",)
    blank = "text,label,age\na,x,\nb,y,4\n"
    for path in tmp_path.iterdir():
        path.unlink()
    task = load_task(write(tmp_path, train=blank, val=blank, test=blank), group_columns=["age"])
    assert list(task.splits["test"]["group_age"]) == ["(blank)", "4"]


def test_ids_are_the_files_own_or_made_from_the_text(tmp_path):
    own = "id,text,label\n7,a,x\n8,a,y\n"
    task = load_task(write(tmp_path, train=own, val=own, test=own))
    assert list(task.splits["test"]["id"]) == ["7", "8"] and task.stated["ids"] == "column id"
    twice = own.replace("8,", "7,")
    task = load_task(write(tmp_path, train=own, val=own, test=twice))
    assert list(task.splits["test"]["id"]) == ["ca978112ca1b", "ca978112ca1b-2"]
    assert task.stated["ids"] == "hash of the text"


# JSONL and Parquet


def jsonl(*objects):
    return "".join(json.dumps(value) + "\n" for value in objects)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (jsonl({"text": "a", "label": 1}, {"text": "b", "label": "1"}), "labels (label) of mixed types: number ("),
        (jsonl({"text": "a", "label": True}, {"text": "b", "label": 1}), "truth value (train.jsonl line 1: True)"),
        (jsonl({"text": "a", "label": 0.5}, {"text": "b", "label": 1}), "a number with a fraction"),
        (jsonl({"text": "a", "label": ["x"]}, {"text": "b", "label": ["y"]}), "the label (label) is ['x']"),
        (jsonl({"text": "a", "label": "x"}, {"text": "b"}), "train.jsonl line 2: the label (label) is missing"),
        (jsonl({"text": "a", "label": None}, {"text": "b", "label": "x"}), "line 1: the label (label) is missing"),
        (jsonl({"text": {"de": "a"}, "label": "x"}, {"text": "b", "label": "y"}), "line 1: text is dict, not text"),
        (jsonl({"text": 5, "label": "x"}, {"text": "b", "label": "y"}), "line 1: text is int, not text"),
        ('{"text": "a", "label": "x"}\n{"text": "b"\n', "line 2: not valid JSON"),
        ('{"text": "a", "label": NaN}\n', "NaN is no JSON value"),
        ('{"text": "a", "label": "x", "label": "y"}\n', "a key appears twice"),
        ('{"text": "\\ud800", "label": "x"}\n', "line 1: not valid JSON"),
        ("[1]\n", "line 1: found list"),
        ('\n[ {"text": "a"},\n{"text": "b"} ]\n', "is one JSON document; each line is one object"),
        ('{\n"text": "a"\n}\n', "is one JSON document; each line is one object"),
    ],
)
def test_faults_of_a_jsonl_file(tmp_path, content, said):
    (tmp_path / "train.jsonl").write_text(content)
    with pytest.raises(FtlibError) as caught:
        load_task(f"file:{tmp_path / 'train.jsonl'}")
    assert said in str(caught.value)


def test_a_json_text_may_hold_a_unicode_line_separator(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one\u2028two", "label": "x"}\n', encoding="utf-8")
    assert read_rows(tmp_path / "a.jsonl").column("text") == ["one\u2028two"]


def test_whole_numbers_and_truth_values_become_words(tmp_path):
    for values, labels in [((2, 10), ("2", "10")), ((0.0, 1.0), ("0", "1")), ((True, False), ("false", "true"))]:
        content = jsonl(*({"text": f"t{n}", "label": values[n % 2]} for n in range(20)))
        (tmp_path / "all.jsonl").write_text(content)
        assert load_task(f"file:{tmp_path / 'all.jsonl'}").labels == labels


def test_parquet_keeps_types_and_refuses_nulls(tmp_path):
    frame = pd.DataFrame({"text": [f"t {n}" for n in range(20)], "label": [float(n % 2) for n in range(20)]})
    frame.to_parquet(tmp_path / "all.parquet")
    assert load_task(f"file:{tmp_path / 'all.parquet'}").labels == ("0", "1")
    frame.loc[3, "label"] = None
    frame.loc[5, "text"] = None
    frame.to_parquet(tmp_path / "all.parquet")
    with pytest.raises(FtlibError) as caught:
        load_task(f"file:{tmp_path / 'all.parquet'}")
    assert "row 6: text is missing" in str(caught.value) and "row 4: the label (label) is missing" in str(caught.value)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(FtlibError, match="cannot be read as Parquet"):
        load_task(f"file:{tmp_path / 'broken.parquet'}")


def test_tsv(tmp_path):
    (tmp_path / "all.tsv").write_text("text\tlabel\n" + "".join(f"a, b {n}\t{n % 2}\n" for n in range(20)))
    task = load_task(f"file:{tmp_path / 'all.tsv'}")
    assert task.splits["train"]["text"].str.startswith("a, b").all()


# Splits


def test_one_file_is_divided_the_same_way_whatever_the_order(tmp_path):
    lines = [f"text {n},{'xyz'[n % 3]}" for n in range(100)] + ["text 5,z"] * 3
    found = []
    for order in (lines, lines[::-1]):
        (tmp_path / "all.csv").write_text("text,label\n" + "\n".join(order) + "\n")
        task = load_task(f"file:{tmp_path / 'all.csv'}")
        ids = {split: set(frame["text"]) for split, frame in task.splits.items()}
        assert {split: len(texts) for split, texts in ids.items()} == {"train": 70, "validation": 15, "test": 15}
        assert not ids["train"] & ids["test"] and not ids["train"] & ids["validation"]
        assert all(set(frame["label"]) == {"x", "y", "z"} for frame in task.splits.values())
        found.append(ids)
    assert found[0] == found[1]


def test_clusters_are_kept_together():
    table = pd.DataFrame(
        {"text": [f"t{n}" for n in range(60)], "label": list("ab") * 30, "cluster": [str(n // 6) for n in range(60)]}
    )
    parts = divide(table, {"train": 0.7, "validation": 0.15, "test": 0.15})
    assert all(len(part) % 6 == 0 for part in parts.values()) and sum(map(len, parts.values())) == 60


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text("abc ", max_size=3), st.sampled_from("xyz")), min_size=1, max_size=40))
def test_dividing_keeps_every_row_once_and_a_text_in_one_part(pairs):
    table = pd.DataFrame(pairs, columns=["text", "label"])
    parts = divide(table, {"train": 0.7, "validation": 0.15, "test": 0.15})
    assert sum(map(len, parts.values())) == len(table)
    texts = [set(part["text"]) for part in parts.values()]
    assert not (texts[0] & texts[1] or texts[0] & texts[2] or texts[1] & texts[2])


def test_too_few_rows_to_divide(tmp_path):
    (tmp_path / "all.csv").write_text(rows(("a", "x"), ("b", "y"), ("c", "x")))
    with pytest.raises(FtlibError, match="3 rows are too few to divide"):
        load_task(f"file:{tmp_path / 'all.csv'}")


def test_validation_is_set_aside_from_train_and_said(tmp_path):
    task = load_task(write(tmp_path, train=TRAIN, test=TEST))
    assert len(task.splits["validation"]) == 4 and len(task.splits["train"]) == 36
    assert task.stated["splits"] == "validation: 10 % of train, by hash of the text"


def test_folders_that_lack_or_repeat_a_split(tmp_path):
    assert "no train and no test file" in error(tmp_path, notes=TEST)
    assert "no test file; add test.csv" in error(tmp_path, train=TRAIN)
    assert "several files for train: train.csv, train.jsonl" in error(tmp_path, test=TEST, train__jsonl="{}\n")
    with pytest.raises(FtlibError, match="no file or folder there"):
        load_task(f"file:{tmp_path / 'nowhere'}")
    (tmp_path / "x.md").write_text("a")
    with pytest.raises(FtlibError, match="found '.md'; allowed: .csv.* text to be modelled: .txt"):
        load_task(f"file:{tmp_path / 'x.md'}")


def test_rows_without_a_key_are_refused(tmp_path):
    assert "every line is an empty object" in error(tmp_path, train__jsonl="{}\n{}\n", test__jsonl="{}\n")


def test_the_hash_of_a_task_does_not_change(tmp_path):
    task = load_task(write(tmp_path, train=TRAIN, validation=TEST, test=TEST))
    assert task.sha256 == "23262c3bde56abab18b993489ec2c4aa035ec5aab482bc15d65bd93bfe701257"


# Label words


def test_label_words_must_fit_the_labels(tmp_path):
    name = write(tmp_path, train=TRAIN, test=TEST)
    task = load_task(name, label_words={"yes": "agrees", "no": "disagrees"})
    assert task.label_words == {"no": "disagrees", "yes": "agrees"}
    with pytest.raises(FtlibError) as caught:
        load_task(name, label_words={"yes": "agrees", "nein": "disagrees"})
    assert "'nein', which is no label; labels: 'no', 'yes'" in str(caught.value)
    assert "says nothing for 'no'" in str(caught.value)


# Properties


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1), min_size=1))
def test_csv_written_by_python_is_read_back_exactly(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("round") / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "label"], *([text, "x"] for text in texts)])
    assert read_rows(path).column("text") == texts


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text('text,label\n"ab\t{}:1', max_size=60).map(str.encode)))
def test_no_bytes_whatever_raise_anything_but_our_error(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("fuzz")
    for suffix in ("csv", "tsv", "jsonl", "parquet"):
        path = folder / f"all.{suffix}"
        path.write_bytes(b"text,label\n" + content if suffix == "csv" else content)
        try:
            load_task(f"file:{path}")
        except FtlibError as error:
            assert str(error).strip()


# Real data

EXPECTED = {
    "sst2": (("0", "1"), "sentence"),
    "ag_news": (("Business", "Sci/Tech", "Sports", "World"), "title+description"),
    "trec6": (("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM"), "text"),
    "hatexplain": (("hatespeech", "normal", "offensive"), "text"),
    "cs_abstruct": (("background", "method", "objective", "other", "result"), "text"),
}


@needs_shared
@pytest.mark.parametrize("name", EXPECTED)
def test_real_data_sets_load_as_they_are(name):
    task = load_task(f"file:{SHARED / name}")
    assert (task.labels, task.stated["text_column"]) == EXPECTED[name]
    for frame in task.splits.values():
        assert frame["id"].is_unique and (frame["text"].str.strip() != "").all()
        assert set(frame["label"]) <= set(task.labels)


@needs_shared
def test_sst2_keeps_its_published_sizes_and_refuses_no_row():
    task = load_task(f"file:{SHARED / 'sst2'}", label_words={"0": "negative", "1": "positive"})
    assert [len(task.splits[split]) for split in ("train", "validation", "test")] == [6920, 872, 1821]
    assert task.sha256 == load_task(f"file:{SHARED / 'sst2'}").sha256


@needs_shared
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pubmedqa", 'text_column = "question+context"'),
        ("multi30k_en_de", "no column has a usual name"),
        ("winogender", "no train file"),
        ("wikitext2", "no train and no test file"),
    ],
)
def test_what_is_no_classification_task_is_refused_with_help(name, said):
    with pytest.raises(FtlibError) as caught:
        load_task(f"file:{SHARED / name}")
    assert said in str(caught.value)


@needs_shared
def test_two_columns_can_be_joined_on_request():
    task = load_task(f"file:{SHARED / 'pubmedqa'}", text_column="question+context")
    assert task.labels == ("maybe", "no", "yes") and len(task.splits["test"]) == 500
