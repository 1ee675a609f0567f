"""`ftlib compare`: studies, runs and what others wrote, matched example by example, and the gate."""

import csv
import io
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import synthetic
from synthetic import Made

from ftlib import cli
from ftlib.core.errors import FtlibError
from ftlib.records.foreign import read
from ftlib.report import compare
from ftlib.report.compare import compare_sources, read_source
from ftlib.report.sections.comparison import least_detectable
from ftlib.stats.paired import mcnemar_counts

LOGS = Path(__file__).parents[1] / "records" / "lm_eval_logs"
TEXTS = [f"text number {n}" for n in range(40)]
LABELS = ["no", "yes"] * 20


def table(path, right, *, ids=True, texts=True, labels=LABELS, order=None):
    """A table of predictions of which the examples in `right` are right, as another program would write it."""
    wrong = {"no": "yes", "yes": "no"}
    rows = pd.DataFrame(
        {
            "id": [f"e{n}" for n in range(len(labels))],
            "text": TEXTS[: len(labels)],
            "label": labels,
            "prediction": [label if n in right else wrong.get(label, "no") for n, label in enumerate(labels)],
        }
    ).iloc[order if order is not None else slice(None)]
    rows = rows.drop(columns=["id"] * (not ids) + ["text"] * (not texts))
    if path.suffix == ".parquet":
        rows.to_parquet(path)
    elif path.suffix == ".jsonl":
        rows.to_json(path, orient="records", lines=True)
    else:
        rows.to_csv(path, index=False)
    return path


def sources(*paths):
    return [read_source(side, path) for side, path in zip("AB", paths, strict=True)]


def refused(*paths, **how):
    with pytest.raises(FtlibError) as caught:
        compare_sources(*sources(*paths), **how)
    return str(caught.value)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Last month's study and this month's: lora has got better, probe worse, the rest is as it was."""
    home = tmp_path_factory.mktemp("months")
    synthetic.write_study(home / "old")
    made = (
        Made("majority", -2.0),
        Made("tfidf", 0.62),
        Made("probe", 0.1),
        Made("lora", 1.6, (0, 1, 2)),
        Made("dora", 1),
    )
    synthetic.write_study(home / "new", made)
    return home


# Tables of predictions


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_paired_verdict_counts_what_only_one_got_right(tmp_path, suffix):
    a = table(tmp_path / f"a.{suffix}", set(range(30)))
    b = table(tmp_path / f"b.{suffix}", set(range(4, 18)), order=np.random.default_rng(0).permutation(40))
    (found,) = compare_sources(*sources(a, b))
    # 16 only A, none only B.
    assert (found.n, found.by, found.metric) == (40, "id", "accuracy")
    assert found.pair.comparison.verdict == "better" and found.pair.comparison.difference == pytest.approx(0.4)
    assert found.pair.comparison.p_value >= mcnemar_counts(16, 0)[1]
    assert {flip.id for flip in found.flips} == {f"e{n}" for n in (*range(4), *range(18, 30))}
    assert {flip.text for flip in found.flips} <= set(TEXTS)
    assert all(flip.gain == 1 and flip.a_said == flip.label != flip.b_said for flip in found.flips)


def test_texts_match_what_ids_do_not(tmp_path):
    a = table(tmp_path / "a.csv", set(range(30)))
    b = table(tmp_path / "b.csv", set(range(10, 40)), ids=False, order=list(reversed(range(40))))
    (found,) = compare_sources(*sources(a, b))
    assert found.by == "text" and found.n == 40 and len(found.flips) == 20
    said = refused(a, table(tmp_path / "c.csv", {1}, ids=False, texts=False))
    assert "has an id or a text for each example" in said


def test_what_does_not_match_is_refused_with_how_many(tmp_path):
    a = table(tmp_path / "a.csv", set(range(30)))
    b = table(tmp_path / "b.csv", set(range(20)), labels=LABELS[:35])
    said = refused(a, b)
    assert "5 of 40 of a (A) and 0 of 35 of b (B)" in said and "--common compares the 35 that do" in said
    (found,) = compare_sources(*sources(a, b), common=True)
    assert found.n == 35 and found.left == (5, 0)
    assert any(
        "left out, since they do not match: 5 of A, 0 of B" in line for line in compare.lines(*sources(a, b), [found])
    )


def test_the_same_id_with_another_label_or_text_is_no_match(tmp_path):
    a = table(tmp_path / "a.csv", set(range(30)))
    other = ["yes" if n == 4 else label for n, label in enumerate(LABELS)]
    b = table(tmp_path / "b.csv", set(range(20)), labels=other)
    said = refused(a, b)
    assert "1 of 40 of a (A) and 1 of 40 of b (B)" in said and "another text or label: e4" in said


def test_a_table_names_lines_that_say_nothing(tmp_path):
    (tmp_path / "x.csv").write_text("id,label,prediction\na,no,\nb,yes,yes\nb,no,no\n")
    with pytest.raises(FtlibError) as caught:
        read(tmp_path / "x.csv")
    assert "line 2: prediction is empty" in str(caught.value) and "line 4: the id 'b' stands there twice" in str(
        caught.value
    )
    (tmp_path / "y.csv").write_text("who,gold,said\na,no,no\nb,yes,yes\n")
    with pytest.raises(FtlibError, match="Name them"):
        read(tmp_path / "y.csv")
    (found,) = read(tmp_path / "y.csv", {"id": "who", "label": "gold", "prediction": "said"})
    assert found.parts[0].truth.tolist() == found.parts[0].chosen.tolist() == [0, 1]


def test_scores_of_examples_are_compared_whichever_way_is_better(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.normal(size=60)
    for name, values in (("a", base), ("b", base + 0.5 + rng.normal(scale=0.1, size=60))):
        pd.DataFrame({"id": range(60), "loss": values}).to_csv(tmp_path / f"{name}.csv", index=False)
    sides = [read_source(s, tmp_path / f"{s.lower()}.csv", {"score": "loss"}) for s in "AB"]
    assert compare_sources(*sides)[0].pair.comparison.verdict == "worse"
    (found,) = compare_sources(*sides, lower_is_better=True)
    assert found.pair.comparison.verdict == "better" and found.margin == 0


# Studies and runs


def test_two_studies_are_one_family(studies):
    found = compare_sources(*sources(studies / "old", studies / "new"))
    verdicts = {one.a: one.pair.comparison.verdict for one in found}
    assert verdicts == {"majority (A)": "same", "tfidf (A)": "same", "probe (A)": "better", "lora (A)": "worse"}
    lora = next(one for one in found if one.a == "lora (A)")
    assert lora.n_seeds == 3 and lora.pair.p_holm == pytest.approx(4 * lora.pair.comparison.p_value)
    assert 0 < lora.detectable < 0.2 and {flip.gain > 0 for flip in lora.flips} == {True, False}
    every = compare_sources(*sources(studies / "old", studies / "new"), all_pairs=True)
    assert len(every) == 6 * 5


def test_a_run_is_compared_with_a_run_and_with_a_table(studies, tmp_path):
    runs = {}
    for name in ("old", "new"):
        for path in (studies / name).glob("runs/*"):
            spec = json.loads((path / "record.json").read_text())["spec"]["resolved"]
            runs[name, spec["method"], spec["seed"]] = path
    run = runs["new", "lora", 0]
    (found,) = compare_sources(*sources(runs["old", "lora", 0], run))
    assert found.pair.comparison.verdict == "worse" and "one training run" in found.pair.comparison.sentence
    kept = pd.read_parquet(run / "predictions.parquet")
    kept = kept[(kept.stage == "after") & (kept.part == "test")]
    kept[["id", "label", "prediction"]].to_csv(tmp_path / "theirs.csv", index=False)
    (found,) = compare_sources(*sources(run, tmp_path / "theirs.csv"))
    assert found.pair.comparison.verdict == "same" and not found.flips
    # A run is its study's whatever way leads to it: the plan's margin and its texts are there.
    (tmp_path / "way").symlink_to(run)
    assert sources(run, tmp_path / "way")[1].plan == sources(run, run)[1].plan
    # One table stands for every seed of a method.
    found = compare_sources(*sources(studies / "new", tmp_path / "theirs.csv"), metric="f1_macro")
    assert {one.a: one.n_seeds for one in found}["lora (A)"] == 3


def test_the_command_lists_flips_and_keeps_the_gate(studies, capsys, tmp_path):
    old, new = str(studies / "old"), str(studies / "new")
    assert cli.main(["compare", old, new, "--out", str(tmp_path / "flips.csv")]) == 0
    said = capsys.readouterr().out
    assert "lora (A) is worse than lora (B)" in said and "corrected for 4 comparisons (Holm)" in said
    assert "not compared, without a counterpart: zero_shot (A), full (A), dora (B)" in said
    rows = list(csv.DictReader(io.StringIO((tmp_path / "flips.csv").read_text())))
    assert {row["better"] for row in rows} == {"A", "B"} and all(row["text"] for row in rows)

    assert cli.main(["compare", new, new, "--fail-if", "worse", "--fail-if", "lora.accuracy < 0.5"]) == 0
    assert "the same" in capsys.readouterr().out
    assert cli.main(["compare", old, new, "--fail-if", "worse"]) == 1
    assert "gate not met: worse: lora (A) is worse than lora (B) by" in capsys.readouterr().out
    assert cli.main(["compare", new, old, "--fail-if", "lora.accuracy < 0.85"]) == 1
    assert "gate not met: lora.accuracy < 0.85: lora (A) has accuracy 0.74" in capsys.readouterr().out
    assert cli.main(["compare", new, old, "--fail-if", "B.lora.accuracy < 0.65"]) == 1
    capsys.readouterr()
    for wrong in ("lora.accuracy", "lorra.accuracy < 1", "lora.acuracy < 1", "lora.accuracy < x"):
        assert cli.main(["compare", new, old, "--fail-if", wrong]) == 2
        assert "--fail-if" in capsys.readouterr().err


def test_a_name_alone_stands_for_every_setting_of_the_method(tmp_path, capsys):
    made = [Made("lora", skill, (0, 1), {"l2_sp": rank}) for skill, rank in ((3.0, 0.1), (0.2, 0.5))]
    study = str(synthetic.write_study(tmp_path / "ranks", made))
    assert cli.main(["compare", study, study, "--fail-if", "lora.accuracy < 0.7"]) == 1
    gate = [line for line in capsys.readouterr().out.splitlines() if line.startswith("gate")]
    assert len(gate) == 1 and "0.5" in gate[0]


def test_what_the_data_says_stays_inert(tmp_path):
    hostile = ['=HYPERLINK("http://evil","x")', "<script>alert(1)</script>\x1b[31m"]
    for name, said in (("a", ["good", "bad"]), ("b", ["bad", "good"])):
        pd.DataFrame({"text": hostile, "label": ["good", "bad"], "prediction": said}).to_csv(tmp_path / f"{name}.csv")
    a, b = sources(tmp_path / "a.csv", tmp_path / "b.csv")
    found = compare_sources(a, b)
    assert "\x1b" not in "\n".join(compare.lines(a, b, found))
    assert "'=HYPERLINK" in compare.flips_file(found, ".csv")
    page = compare.flips_file(found, ".html")
    assert "<script" not in page and "&lt;script&gt;" in page


# What others write


def test_two_logs_of_lm_eval_are_paired_document_by_document(capsys):
    assert cli.main(["compare", str(LOGS / "models__stories260K"), str(LOGS / "data__tiny-lm")]) == 0
    said = capsys.readouterr().out
    assert "reviews, accuracy: 24 examples matched by id" in said
    assert "A better on 3 examples" in said and "B better on 3 examples" in said
    assert "unpaired, as lm_eval's comparator tests: z = 0.00, p = 1.00" in said
    assert "stories260K (A)" in said and "tiny-lm (B)" in said


def test_a_log_of_lm_eval_is_compared_with_a_table_by_the_data_sets_own_ids(tmp_path):
    log = next((LOGS / "data__tiny-lm").iterdir())
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    words = ["bad", "good"]
    pd.DataFrame(
        [(row["doc"]["id"], words[row["doc"]["label"]], words[row["doc"]["label"]]) for row in rows],
        columns=["id", "label", "prediction"],
    ).to_csv(tmp_path / "ours.csv", index=False)
    (found,) = compare_sources(*sources(tmp_path / "ours.csv", log))
    assert found.pair.comparison.difference == pytest.approx(1 - np.mean([row["acc"] for row in rows]))
    assert found.foreign and found.flips[0].text


def method_comparison(path, accuracy, sha="e53f"):
    found = {
        "run_info": {"experiment_name": path.stem, "train_config": {"model_id": "a-model"}},
        "train_info": {"status": "success", "metrics": [{"valid accuracy": 0.5}, {"test accuracy": accuracy}]},
        "meta_info": {"dataset_info": {"gsm8k": {"sha": sha}}},
    }
    path.write_text(json.dumps(found))
    return path


def test_totals_of_peft_give_the_unpaired_bound_and_say_so(tmp_path):
    a, b = (method_comparison(tmp_path / f"{name}.json", n / 1319) for name, n in (("lora", 636), ("ia3", 560)))
    first, second = sources(a, b)
    found = compare_sources(first, second)
    said = "\n".join(compare.lines(first, second, found))
    assert "no interval is possible beyond the unpaired bound; at least 1\u202f319 examples each" in said
    one = found[0].pair.comparison
    assert one.verdict == "better" and "not paired" in one.sentence
    p, q = 636 / 1319, 560 / 1319
    half = 1.959964 * ((p * (1 - p) + q * (1 - q)) / 1318) ** 0.5
    assert (one.low, one.high) == pytest.approx((p - q - half, p - q + half))
    assert "other data" in refused(a, method_comparison(tmp_path / "c.json", 0.5, sha="another"))
    assert "no interval is possible" in refused(a, method_comparison(tmp_path / "d.json", 0.5**0.5))
    assert "nothing says whether both" in refused(a, table(tmp_path / "t.csv", {1}))


def test_a_log_of_inspect_is_read_by_its_own_reader_or_named(tmp_path, monkeypatch):
    path = tmp_path / "x.eval"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "inspect_ai", None)
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    with pytest.raises(FtlibError, match="pip install inspect_ai"):
        read(path)

    def sample(n, epoch, value):
        score = SimpleNamespace(value=value, answer="yes")
        return SimpleNamespace(id=n, epoch=epoch, input=f"q{n}", target="yes", scores={"match": score})

    samples = [sample(n, epoch, "C" if n % 2 else "I") for n in range(6) for epoch in (1, 2)]
    log = SimpleNamespace(status="success", samples=samples, eval=SimpleNamespace(model="m", task="t"))
    reader, scorer = ModuleType("inspect_ai.log"), ModuleType("inspect_ai.scorer")
    reader.read_eval_log = lambda name: log
    scorer.value_to_float = lambda: lambda value: {"C": 1.0, "I": 0.0}[value]
    for name, module in (
        ("inspect_ai", ModuleType("inspect_ai")),
        ("inspect_ai.log", reader),
        ("inspect_ai.scorer", scorer),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    (found,) = read(path)
    assert set(found.parts) == {1, 2} and found.parts[1].terms["accuracy"].tolist() == [0, 1, 0, 1, 0, 1]
    log.status = "error"
    with pytest.raises(FtlibError, match="status is 'error'"):
        read(path)


def test_what_cannot_be_read_says_what_can(tmp_path):
    (tmp_path / "results_x.json").write_text('{"results": {}, "configs": {}}')
    with pytest.raises(FtlibError, match="--log_samples"):
        read(tmp_path / "results_x.json")
    with pytest.raises(FtlibError, match="neither a study"):
        read_source("A", tmp_path)
    with pytest.raises(FtlibError, match="no such file"):
        read_source("A", tmp_path / "nothing")


def test_two_that_never_differ_say_nothing_of_what_could_be_detected():
    same = np.ones((3, 50))
    assert least_detectable(same, same) is None
    other = same.copy()
    other[:, :5] = 0.0
    assert 0.01 < least_detectable(same, other) < 0.5


def test_a_margin_that_the_metric_cannot_have_is_refused(tmp_path):
    both = [table(tmp_path / f"{name}.csv", set(range(30))) for name in "ab"]
    with pytest.raises(FtlibError, match="--margin: found 2; accuracy is from 0 to 1: two points are 0.02"):
        compare_sources(*sources(*both), margin=2.0)
