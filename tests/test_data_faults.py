"""Files that are read as something else: refused with all places and the way to go on, or named by the audit."""

import json

import pytest

from ftlib.core.errors import FtlibError
from ftlib.data.registry import load_task
from ftlib.data.tabular import read_rows, unquoted


def refused(name, **asked):
    with pytest.raises(FtlibError) as caught:
        load_task(str(name), **asked)
    return str(caught.value)


# Quotation marks that span rows

PLAIN = [f"The concert number {n} was fine.\t{'positive' if n % 2 else 'negative'}" for n in range(40)]


def quoted(delimiter, at=(0,)):
    """A file in which nothing is quoted and a quotation mark opens in one row and closes in the next."""
    lines = [row.replace("\t", delimiter) for row in PLAIN]
    for place in sorted(at, reverse=True):
        lines[place:place] = [f'"I loved it{delimiter}positive', f'said nobody ever"{delimiter}negative']
    return "\n".join([f"text{delimiter}label", *lines]) + "\n"


@pytest.mark.parametrize("suffix", ["tsv", "csv"])
def test_rows_are_never_joined_in_silence(tmp_path, suffix):
    path = tmp_path / f"spans.{suffix}"
    path.write_text(quoted("\t" if suffix == "tsv" else ",", at=(0, 10, 11)))
    said = refused(f"file:{path}")
    assert "spans." + suffix in said and "lines 2 to 3, 14 to 15, 17 to 18: a quotation mark opens in one row" in said
    assert "6 lines would become 3 rows" in said and "unquoted" in said
    new = unquoted(path)
    task = load_task(f"file:{new}")
    assert sum(map(len, task.splits.values())) == 46
    texts = [text for split in task.splits.values() for text in split["text"]]
    assert texts.count('"I loved it') == texts.count('said nobody ever"') == 3
    assert load_task(f"file:{path}", quoting="none").sha256 == task.sha256
    with pytest.raises(FtlibError, match="is there already"):
        unquoted(path)


def test_a_text_in_the_last_column_joins_rows_too(tmp_path):
    rows = [f"{'good' if n % 2 else 'bad'},text {n}" for n in range(30)]
    rows[4:4] = ['good,"I loved it', 'bad,said nobody"']
    (tmp_path / "all.csv").write_text("\n".join(["label,text", *rows]) + "\n")
    assert "lines 6 to 7: a quotation mark opens" in refused(f"file:{tmp_path / 'all.csv'}")


def test_all_lines_whose_quotes_do_not_balance_are_named_at_once(tmp_path):
    lines = [f"A quiet place {n}\tpositive" for n in range(30)]
    for place in (0, 7, 8, 20):
        lines[place] = '"Never again\tnegative'
    lines[2] = 'The "best" meal\tpositive'
    (tmp_path / "x.tsv").write_text("\n".join(["text\tlabel", *lines, 'A "b"\tnegative', '"c" d\tpositive']))
    said = refused(f"file:{tmp_path / 'x.tsv'}")
    assert "lines 2, 9 to 10, 22, 33: " in said and "write it as x.jsonl" in said


def test_every_file_of_a_folder_is_told(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.tsv").write_text(quoted("\t"))
    said = refused(f"file:{tmp_path}")
    assert "train.tsv lines 2 to 3" in said and "test.tsv lines 2 to 3" in said


@pytest.mark.parametrize("suffix", ["tsv", "csv"])
def test_line_ends_that_are_meant_still_work_and_are_counted(tmp_path, suffix):
    mark = "\t" if suffix == "tsv" else ","
    comma = "," if suffix == "csv" else ";"
    lines = [f'"Great food{comma} slow\nservice, {n}"{mark}{"pos" if n % 2 else "neg"}' for n in range(20)]
    (tmp_path / f"all.{suffix}").write_text("\n".join([f"text{mark}label", *lines]) + "\n")
    task = load_task(f"file:{tmp_path / f'all.{suffix}'}")
    assert sum(map(len, task.splits.values())) == 20 and task.stated["rows of several lines"] == 20
    assert task.splits["train"]["text"].str.contains("slow\nservice").all()


def test_without_quoting_a_ragged_line_is_named(tmp_path):
    (tmp_path / "a.csv").write_text('text,label\n"a, b",x\nc,y\n')
    with pytest.raises(FtlibError, match=r"a\.csv line 2 has 3 fields, the header has 2"):
        read_rows(tmp_path / "a.csv", quoting="none")
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "a", "label": "x"}))
    assert "quoting" in refused("reviews", quoting="none")


# Several labels per text


def table(path, labels, name="all.csv"):
    rows = [f'some text number {n},"{label}"\n' for n, label in enumerate(labels)]
    (path / name).write_text("text,label\n" + "".join(rows), encoding="utf-8")
    return f"file:{path / name}"


@pytest.mark.parametrize(
    ("several", "parts"),
    [
        ("joy,anger", "joy + anger"),
        ("anger;joy", "anger + joy"),
        ("joy|anger", "joy + anger"),
        ("['joy', 'anger']", "joy + anger"),
        ("joy & anger", "joy + anger"),
        ("joy anger", "joy + anger"),
        ("joy/anger/joy", "joy + anger + joy"),
    ],
)
def test_several_labels_in_one_cell_are_no_class(tmp_path, several, parts):
    name = table(tmp_path, ["joy", "anger", several] * 30)
    said = refused(name)
    assert f"these look like several labels per text ({several} = {parts}; 30 of 90 rows)" in said
    assert "one label per text is needed; make one study per label" in said
    words = {"joy": "joy", "anger": "anger", several: "both"}
    assert set(load_task(name, label_words=words).labels) == set(words), "an explicit yes"
    assert "label_words names 'c'" in refused(
        table(tmp_path, ["a", "b"] * 40), label_words={"a": "A", "b": "B", "c": "C"}
    )


def test_labels_that_are_never_alone_are_seen_too(tmp_path):
    assert "(a,b = a + b; 90 of 90 rows)" in refused(table(tmp_path, ["a,b", "b,c", "a,c"] * 30))


@pytest.mark.parametrize(
    "labels",
    [
        ("Sci/Tech", "World", "Sports"),
        ("Rock, Pop", "Folk"),
        ("card_arrival", "card_lost", "top_up"),
        ("not spam", "spam"),
        ("-1", "1"),
        ("[CLS]", "[SEP]"),
    ],
)
def test_labels_of_several_words_are_classes(tmp_path, labels):
    assert set(load_task(table(tmp_path, labels * 40)).labels) == set(labels)


def test_lists_are_refused_with_how_many(tmp_path):
    rows = [{"text": f"text {n}", "label": ["joy", "anger"] if n % 2 else ["joy"]} for n in range(40)]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = refused(f"file:{tmp_path / 'all.jsonl'}")
    assert "these look like several labels per text (['joy', 'anger']; 20 of 40 rows hold more than one)" in said
    rows = [{"text": f"text {n}", "label": ["joy"]} for n in range(40)]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "40 of 40 rows hold a list of one label or none; write the label itself" in refused(
        f"file:{tmp_path}/all.jsonl"
    )


@pytest.mark.parametrize(("no", "yes"), [("0", "1"), ("0.0", "1.0"), ("False", "True"), ("no", "yes")])
def test_a_column_per_label_is_named_with_all_candidates(tmp_path, no, yes):
    rows = [f"some text {n},{yes if n % 3 else no},{no},{yes if n % 5 else no}\n" for n in range(60)]
    (tmp_path / "all.csv").write_text("text,toxic,insult,threat\n" + "".join(rows))
    said = refused(f"file:{tmp_path / 'all.csv'}")
    assert "make one study per column" in said
    assert all(f'label_column = "{name}"' in said for name in ("toxic", "insult", "threat"))
    assert len(load_task(f"file:{tmp_path / 'all.csv'}", label_column="toxic").labels) == 2


def test_a_number_written_in_two_ways_is_refused(tmp_path):
    assert "'0' (30 rows) and '0.0' (30 rows) are the same number" in refused(table(tmp_path, ["0", "0.0", "1"] * 30))
    assert "'1' (30 rows) and '01' (30 rows)" in refused(table(tmp_path, ["1", "01", "2"] * 30))


# Groups


def groups(path, values, **asked):
    rows = [f"some text number {n},{'yes' if n // 3 % 2 else 'no'},{value},x\n" for n, value in enumerate(values)]
    (path / "groups.csv").write_text("text,label,sex,place\n" + "".join(rows))
    return f"file:{path / 'groups.csv'}"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("Male", "male", "female"), "'Male' (30 rows) and 'male' (30 rows) differ in case or space only"),
        (("New  York", "New York", "Rome"), "'New  York' (30 rows) and 'New York' (30 rows) differ"),
        (("f", "m", "NA"), "'NA' (30 rows) would be a group of its own and reads as a missing value"),
        (("f", "none", "N/A"), "'N/A' (30 rows) and 'none' (30 rows) would be"),
        ([str(18 + n) for n in range(30)] * 3, "30 different numbers, 18 to 47, in 90 rows are a quantity"),
        ([f"{n / 7:.3f}" for n in range(90)], "90 different numbers, 0 to 12.714, in 90 rows are a quantity"),
        ([f"user {n}" for n in range(90)], "90 different groups in 90 rows"),
    ],
)
@pytest.mark.parametrize("column", ["sex", "sex & place"])
def test_columns_that_do_not_name_groups_well_are_refused(tmp_path, values, said, column):
    values = list(values) * 30 if len(values) < 30 else list(values)
    assert f"group_columns: sex: {said}" in refused(groups(tmp_path, values), group_columns=[column])


def test_groups_left_blank_and_few_numbers_are_groups(tmp_path):
    task = load_task(groups(tmp_path, ["", "1", "2"] * 30), group_columns=["sex"])
    assert set(task.splits["train"]["group_sex"]) == {"(blank)", "1", "2"}
