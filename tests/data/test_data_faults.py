"""Files that are read as something else: refused with all places and the way to go on, or named by the audit."""

import json
import random

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from ftlib.config.experiment import Experiment
from ftlib.core.errors import FtlibError
from ftlib.data.audit import audit, planned_findings
from ftlib.data.files import normal
from ftlib.data.identity_terms import Entry, Kind
from ftlib.data.registry import load_task
from ftlib.data.tabular import read_rows
from ftlib.data.words import unknown_share
from ftlib.methods.baselines import prepare_tfidf


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
    assert "6 lines would become 3 rows" in said
    assert 'quoting = "none"' in said and f"ftlib check {path} --quoting none" in said
    task = load_task(f"file:{path}", quoting="none")
    assert sum(map(len, task.splits.values())) == 46
    texts = [text for split in task.splits.values() for text in split["text"]]
    assert texts.count('"I loved it') == texts.count('said nobody ever"') == 3
    spec = Experiment(task=f"file:{path}", method="tfidf", quoting="none")
    assert load_task(spec.task, **spec.columns()).sha256 == task.sha256
    assert spec.run_id != Experiment(task=f"file:{path}", method="tfidf").run_id


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
    assert "lines 2, 9 to 10, 22, 33: " in said and 'quoting = "none"' in said


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
    ("labels", "said"),
    [
        (("joy;anger", "fear;sad"), "several labels per text (joy;anger = joy + anger; 80 of 80 rows)"),
        (("joy\nanger", "joy", "anger"), "several labels per text (joy anger = joy + anger; 40 of 120 rows)"),
        (("joy#anger", "joy", "anger"), "several labels per text (joy#anger = joy + anger; 40 of 120 rows)"),
        (("0 1 0", "1 1 0", "0 0 1"), "several labels per text, a 0 or 1 for each (0 1 0; 120 of 120 rows)"),
        (("[0, 1]", "[1, 1]"), "several labels per text, a 0 or 1 for each ([0, 1]; 80 of 80 rows)"),
        (("0:5:PER", "3:9:LOC"), "spans of the text and no labels of it (0:5:PER; 80 of 80 rows)"),
        (("O O B-PER", "B-LOC O O"), "a tag for every word and no label of the text (O O B-PER; 80 of 80 rows)"),
        (("0,5", "1,5"), "numbers with a decimal comma, or two labels per text (0,5; 80 of 80 rows)"),
    ],
)
def test_what_is_no_class_is_named_for_what_it_is(tmp_path, labels, said):
    name = table(tmp_path, labels * 40)
    assert f"these look like {said}" in refused(name)
    assert len(load_task(name, label_words=dict.fromkeys(labels, "a class")).labels) == len(labels), "an explicit yes"


@pytest.mark.parametrize("values", [("0.5", "1.0"), (".5", "1"), ("1e-3", "2e-1")])
def test_numbers_with_a_fraction_are_no_classes_however_they_are_written(tmp_path, values):
    assert "a number with a fraction; classification needs classes" in refused(table(tmp_path, values * 40))


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


@pytest.mark.parametrize(("no", "yes"), [("0", "1"), ("0.0", "1.0"), ("False", "True"), ("no", "yes"), ("", "x")])
def test_a_column_per_label_is_named_with_all_candidates(tmp_path, no, yes):
    rows = [f"some text {n},{yes if n % 3 else no},{yes if n % 7 else no},{yes if n % 5 else no}\n" for n in range(60)]
    (tmp_path / "all.csv").write_text("text,toxic,insult,threat\n" + "".join(rows))
    said = refused(f"file:{tmp_path / 'all.csv'}")
    assert "make one study per column" in said
    assert all(f'label_column = "{name}"' in said for name in ("toxic", "insult", "threat"))
    if no:
        assert len(load_task(f"file:{tmp_path / 'all.csv'}", label_column="toxic").labels) == 2


def test_columns_that_may_be_meant_are_named_and_never_guessed(tmp_path):
    path = tmp_path / "all.csv"

    def said(header, row):
        path.write_text(header + "\n" + "".join(row(n) + "\n" for n in range(60)))
        return refused(f"file:{path}")

    several = said("text,label_1,label_2", lambda n: f"a text {n},{'ab'[n % 2]},{'cd'[n % 2]}")
    assert "label_1, label_2 look like several labels per text" in several
    scores = said("text,joy,anger", lambda n: f"a text {n},{n / 60},{1 - n / 60}")
    assert "all hold numbers with a fraction: scores, which are no classes" in scores
    assert "could be 'text' or 'Text'" in said("text,label,Text", lambda n: f"a text {n},{'ab'[n % 2]},b")
    rows = said("I liked it very much indeed,pos", lambda n: f"a text {n},{'pos' if n % 2 else 'neg'}")
    assert "the first line reads as a row: a file begins with the names of its columns" in rows
    assert "--text-column 'I liked it very much indeed'" in rows, "the command works as it stands"


def test_every_line_of_a_kind_of_fault_is_named_once(tmp_path):
    path = tmp_path / "all.csv"
    path.write_text("text,label\n" + "a,b,c\n" * 3 + "x,y\n" + "only\n")
    assert refused(f"file:{path}").split("\n  ")[1:] == [
        "all.csv lines 2 to 4 have 3 fields, the header has 2",
        "all.csv line 6 has 1 field, the header has 2",
    ]
    path.write_text("text,label\n" + "a,\n" * 3 + "x,y\n" + " ,y\n")
    assert refused(f"file:{path}").split("\n  ")[1:] == [
        "all.csv line 6: the text (text) is blank",
        "all.csv lines 2 to 4: the label (label) is blank",
    ]
    path.write_bytes("text,label\ncaf\u00e9,a\nb,b\nth\u00e9,a\n".encode("latin-1"))
    assert "all.csv lines 2, 4: byte" in refused(f"file:{path}")
    path.write_text("text, label\n" + '"one, two", "a"\n' * 3)
    assert "all.csv lines 2 to 4: a space stands before the quotation marks" in refused(f"file:{path}")
    for start, kind in ((b"PK\x03\x04", "a zip archive, as Excel's .xlsx is"), (b"\x1f\x8b", "compressed (gzip)")):
        path.write_bytes(start + bytes(50))
        assert f"all.csv: is {kind} and no text" in refused(f"file:{path}")


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
        (
            ("caf\u00e9", "cafe\u0301"),
            "'cafe\\u0301' (30 rows) and 'caf\\xe9' (30 rows) differ only in signs that look",
        ),
        (("0", "0.0", "1"), "'0' (30 rows) and '0.0' (30 rows) are the same number"),
        ([f"{n} years" for n in range(30)] * 3, "30 different numbers, 0 years to 29 years, in 90 rows are a quantity"),
        ([f"2020-01-{n + 1:02d}" for n in range(30)] * 3, "30 different numbers, 2020-01-01 to 2020-01-30, in 90 rows"),
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


def test_a_group_is_not_called_as_nobodys_group_is(tmp_path):
    said = refused(groups(tmp_path, ["f", "(blank)"] * 30), group_columns=["sex"])
    assert "sex is '(blank)', which stands for nobody's group; leave the cell empty" in said
    said = refused(groups(tmp_path, ["f & m", "f"] * 30), group_columns=["sex & place"])
    assert "'f & m' has a & of its own" in said


# The audit as data


def test_one_label_in_two_spellings_is_a_problem(tmp_path):
    found = audit(load_task(table(tmp_path, ["Yes", "yes", "no"] * 40)))
    assert any("one label in two spellings: 'Yes' (" in line for line in found.problems)
    for same in (
        ("caf\u00e9", "cafe\u0301"),
        ("pos", "pos\u200b"),
        ("pos", "\uff50\uff4f\uff53"),
        ("not ok", "not\u00a0ok"),
    ):
        (said,) = audit(load_task(table(tmp_path, [*same, "no"] * 40))).problems
        assert "one label in two spellings" in said and said.isascii()


@pytest.mark.parametrize("label", ["nan", "N/A", "NULL"])
def test_a_label_for_nothing_and_texts_in_another_encoding_are_problems(tmp_path, label):
    (said,) = audit(load_task(table(tmp_path, ["a", "b", label] * 40))).problems
    assert f"a label that reads as a missing value: {label!r} (28 train rows)" in said
    assert not audit(load_task(table(tmp_path, ["for", "against", "none"] * 40))).problems, "which is a stance"
    rows = [(f"caf\u00c3\u00a9 {text}", one) for text, one in some(0, 180)]
    found = audit(folder(tmp_path, train=rows[:120], validation=rows[120:140], test=rows[140:]))
    assert codes(found).count("encoding") == 2


def folder(path, **splits):
    for split, rows in splits.items():
        lines = "".join(f'"{text}",{label}\n' for text, label in rows)
        (path / f"{split}.csv").write_text("text,label\n" + lines, encoding="utf-8")
    return load_task(f"file:{path}")


NOUNS = ("river", "bridge", "garden", "window", "letter", "market", "winter", "kitchen", "teacher", "engine")


def some(start, count, rare=3):
    return [
        (f"the {NOUNS[n % 10]} and the {NOUNS[n // 10 % 10]} {n}", "yes" if n % rare == 0 else "no")
        for n in range(start, start + count)
    ]


def codes(found, level="problem"):
    return [one.code for one in found if one.level == level]


def test_validation_that_is_the_test_is_said(tmp_path):
    task = folder(tmp_path, train=some(0, 120), validation=some(200, 60), test=some(200, 60))
    (one,) = [one for one in audit(task) if one.level == "problem"]
    assert (one.level, one.code, one.n) == ("problem", "validation_is_test", 60)
    assert "60 of 60 (100.0%), 60 word for word" in one.text
    assert "the test examples are the validation examples: what was chosen on validation" in one.text


def test_leaks_in_another_case_are_counted_apart_from_exact_ones(tmp_path):
    test = some(200, 60)
    leaked = [(test[0][0].upper(), "yes"), test[1]]
    task = folder(tmp_path, train=some(0, 120) + leaked, validation=some(300, 60), test=test)
    (one,) = [one for one in audit(task) if one.code == "train_in_test"]
    assert one.n == 2 and "2 of 60 (3.3%), 1 word for word" in one.text


def test_texts_from_templates_are_near_copies_of_each_other(tmp_path):
    forms = ("I want my money back for the broken {} of order {}", "When will you send the {} that I asked for, no {}")
    rows = [(forms[n % 2].format(NOUNS[n % 10], n), "complaint" if n % 2 else "question") for n in range(200)]
    found = audit(folder(tmp_path, train=rows[:120], validation=rows[120:160], test=rows[160:]))
    (one,) = [one for one in found if one.code == "near_copies"]
    assert one.level == "problem" and one.n == 40 and "40 of 40 (100.0%)" in one.text


def test_a_plan_for_a_rare_label_is_warned(tmp_path):
    test = [(text, "yes" if n < 8 else "no") for n, (text, _) in enumerate(some(500, 300))]
    task = folder(tmp_path, train=some(0, 120), validation=some(200, 60), test=test)
    found = planned_findings(task, primary="accuracy", shots=20)
    said = "\n".join(map(str, found))
    assert codes(found)[:3] == ["nothing_wins", "handful", "even_draws"]
    assert (
        "accuracy of the most frequent label is 97.3%: a primary metric that sees the rare label (f1_binary, mcc) is "
        "advised" in said
    )
    assert "8 test examples of 'yes'" in said
    assert "shots draw each label equally; the test holds 2.7% 'yes': probabilities are not those of use" in said
    assert "nothing_wins" not in codes(planned_findings(task, primary="mcc"))
    assert "even_draws" not in codes(planned_findings(task, primary="accuracy"))
    turned = folder(
        tmp_path,
        train=some(0, 120),
        validation=some(200, 60),
        test=[(text, "yes") for text, _ in test[:290]] + test[290:],
    )
    assert "f1_binary is of 'yes'" in "\n".join(map(str, planned_findings(turned, primary="f1_binary")))


# Words in scripts without spaces

PARTS = {
    "Chinese": (
        "这家餐厅",
        "朋友推荐",
        "环境比较安静",
        "服务人员忙碌",
        "昨天酒店",
        "价格不算便宜",
        "好吃满意",
        "难吃失望",
    ),
    "Japanese": (
        "この店は",
        "とても静かな",
        "場所にあり",
        "友達と",
        "昨日行き",
        "ましたが",
        "美味しかった",
        "不味かった",
    ),
    "Thai": ("ร้านนี้", "เมื่อวาน", "กับเพื่อน", "ที่โรงแรม", "ราคาแพง", "บรรยากาศ", "อร่อยมาก", "แย่มาก"),
    "Khmer": ("ហាងនេះ", "ម្សិលមិញ", "ជាមួយមិត្ត", "នៅសណ្ឋាគារ", "តម្លៃថ្លៃ", "បរិយាកាស", "ឆ្ងាញ់", "អាក្រក់"),
    "Lao": ("ຮ້ານນີ້", "ມື້ວານນີ້", "ກັບໝູ່", "ທີ່ໂຮງແຮມ", "ລາຄາແພງ", "ບັນຍາກາດ", "ແຊບຫຼາຍ", "ຂີ້ຮ້າຍ"),
}


@pytest.mark.parametrize("script", PARTS)
def test_words_are_not_what_stands_between_spaces(tmp_path, script):
    *others, good, bad = PARTS[script]
    rng = random.Random(0)
    rows = []
    for n in range(400):
        said = [*rng.sample(others, 5), good if n % 2 else bad]
        rng.shuffle(said)
        rows.append(("".join(said), "pos" if n % 2 else "neg"))
    task = folder(tmp_path, train=rows[:280], validation=rows[280:340], test=rows[340:])
    assert script in task.stated["words"]
    found = audit(task)
    assert f"script: {script}, which has no spaces between words" in str(found) and "characters in test" in str(found)
    assert "giveaways" in codes(found)
    spec = Experiment(task=task.name, method="tfidf", seed=0)
    predictor = prepare_tfidf(None, spec, task, task.splits["train"])
    test = task.splits["test"]
    chosen = predictor.probabilities(test["text"].tolist()).argmax(1)
    assert (np.array(task.labels)[chosen] == test["label"]).mean() > 0.95


def test_words_with_marks_stay_whole():
    assert normal("की") != normal("का") and normal("Ça va?") == "ça va"


def test_a_term_is_found_beside_characters_without_spaces():
    found = Kind("x", ("a", "b"), {"女人": Entry("女人", 0, ("男人", "男人"), ("人", "人"))}).pattern
    assert found.search("那个女人很好") and found.search("女人")


def test_the_share_of_tokens_that_are_not_known():
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "good": 1, "food": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    assert unknown_share(tokenizer, ["good food", "好吃 food"]) == 0.25
    assert np.isnan(unknown_share(tokenizer, [""]))
    tokenizer.enable_padding(length=50, pad_id=0, pad_token="[PAD]")
    tokenizer.enable_truncation(3)
    assert unknown_share(tokenizer, ["good food", "好吃 food"]) == 0.25, "stored padding is no text"
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")
    assert unknown_share(fast, ["good food", "好吃 food"]) == 0.25


def test_labels_without_an_example_are_said(tmp_path):
    rows = [(f"text {n} about {n % 12}", f"label {n % 12:02}") for n in range(240)]
    test = [row for row in rows[180:] if row[1] != "label 03"]
    task = folder(tmp_path, train=rows[:120], validation=rows[120:180], test=test)
    found = {one.code: one for one in planned_findings(task, primary="accuracy", train_limit=5)}
    assert "train_limit = 5 draws no training example of 7 of 12 labels" in found["never_learned"].text
    assert "no test example of 'label 03': nothing is known of it" in found["no_test_example"].text
    assert "never_learned" not in {one.code for one in planned_findings(task, train_limit=24)}


def test_texts_are_not_cut_by_what_a_tokenizer_fills_up(tmp_path):
    from ftlib.plan_power import _cut_texts

    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "good": 1, "food": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.enable_padding(length=50, pad_id=0, pad_token="[PAD]")
    task = folder(
        tmp_path, train=some(0, 20), validation=some(20, 20), test=[("good food", "yes"), ("good " * 12, "no")]
    )
    (said,) = _cut_texts(Experiment(max_length=8), task, tokenizer)
    assert "1 of 2 test texts is longer than max_length = 8" in said


def test_lines_that_may_be_documents_are_named(tmp_path):
    (tmp_path / "train.txt").write_text("\n\n".join(f"One document, number {n}." for n in range(40)))
    (tmp_path / "test.txt").write_text("\n".join(f"Another document, number {n}." for n in range(40)))
    assert any("test is one document of 40 lines" in line for line in audit(load_task(f"file:{tmp_path}")).problems)


def test_columns_that_cannot_be_joined_are_one_clear_error(tmp_path):
    path = tmp_path / "joined.csv"
    path.write_text("text,label\n" + "".join(f"word {n},{'ab'[n % 2]}\n" for n in range(40)), encoding="utf-8")
    for asked in ("text+", "text+text", "+text"):
        said = refused(f"file:{path}", text_column=asked)
        assert f"text_column: found {asked!r}; columns to be joined are named once each" in said


def test_json_too_deep_to_be_read_is_named_with_its_line(tmp_path):
    path = tmp_path / "deep.jsonl"
    path.write_text('{"text": ' + "[" * 100_000 + "]" * 100_000 + ', "label": "a"}\n', encoding="utf-8")
    assert "deep.jsonl line 1: not valid JSON" in refused(f"file:{path}")


def test_numbers_of_other_signs_are_not_alike(tmp_path):
    path = tmp_path / "signs.csv"
    rows = "".join(f"the word {n} and more,{n % 3 - 1}\n" for n in range(60))
    path.write_text("text,label\n" + rows, encoding="utf-8")
    found = audit(load_task(f"file:{path}"))
    assert "alike_labels" not in {one.code for one in found.found}
