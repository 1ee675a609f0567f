"""What a model cannot take is said before anything runs, as the run would say it, and nothing else is refused."""

from types import SimpleNamespace

import psutil
import pytest
import safetensors.numpy
import tiny_models
import torch
import toy
import transformers
from thorough import mostly

from ftlib import cli
from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS
from ftlib.execution import scheduler
from ftlib.execution.planning import compatibility, estimate
from ftlib.models.loading import load_model
from ftlib.plan_power import cautions, power

HERE = [name for name, method in METHODS.items() if method.tried_on_model]
VIRTUAL = {"prompt_tuning", "prefix_tuning", "p_tuning"}
HEAD = '[study]\nquestion = "Which?"\n[plan]\nseeds = [0, 1]\n[defaults]\ntask = "file:opinions"\nmax_length = 24\n'
HEAD += 'eval_limit = 20\nlabel_words = {bad = "negative, sad", good = "positive, a joy"}\n'


@pytest.fixture(autouse=True)
def models_are_asked_here():
    """Not here: by the process that a person's plan starts."""


@pytest.fixture(scope="module", autouse=True)
def more_models(toy_home):
    """Beside the toy's own: layers that peft knows by another name, two halves, and an encoder that takes no prefix."""
    for family, name in (("gpt2", "gpt2"), ("t5", "t5"), ("gpt_neox", "neox"), ("bert", "bare")):
        tiny_models.tiny(family, toy_home / name)
    words = tiny_models.tokenizer()
    config = transformers.DistilBertConfig(vocab_size=len(words), dim=32, hidden_dim=64, n_layers=2, n_heads=4)
    transformers.DistilBertForMaskedLM(config).save_pretrained(toy_home / "distil")
    words.save_pretrained(toy_home / "distil")


def asked(method, model, **fields):
    """An experiment that asks for a method and a model; merging is of several tasks."""
    more = {"joint_tasks": ["file:topics"]} if method == "merged" else {}
    return Experiment(task="file:opinions", method=method, model=model, **{"max_length": 24} | more | fields)


def written(at_home, runs, name):
    folder = at_home / "reports" / name
    folder.mkdir(exist_ok=True)
    (folder / "suite.toml").write_text(HEAD + runs, encoding="utf-8")
    return folder


# The copy and the model say the same.


@pytest.mark.parametrize(
    "name", mostly(("tiny", "writer", "t5"), ["tiny", "bare", "distil", "writer", "gpt2", "neox", "t5"])
)
def test_what_is_said_without_weights_is_what_the_run_would_say(name, at_home):
    model = load_model(name, dtype="float32", device="cpu")
    said = {}
    for method in HERE:
        if model.family not in METHODS[method].families:
            continue
        # The toy models have two layers; of these a small one keeps two, which is none fewer.
        error = compatibility.preparing_error(asked(method, name), model, 2)
        said[method] = compatibility.refusal(asked(method, name), model)
        if error is None:
            assert said[method] == "", method
        else:
            assert str(error) in said[method] and method in said[method] or method == "distill", method
    refused = {method for method, why in said.items() if why}
    # As tests/methods/test_adapters.py finds by training; of DistilBERT peft does not know what IA3 is to scale.
    wanted = {
        "writer": {"bitfit"},
        "t5": {"bitfit"},
        "gpt2": {"miss", "oft", "delora"},
        "distil": {"ia3", "prefix_tuning"},
    }
    assert refused - {"distill"} == wanted.get(name, set()) and ("distill" in refused) == ("distill" in said)


def test_an_encoder_that_takes_no_prefix_is_found_by_reading(at_home):
    model = load_model("distil", dtype="float32", device="cpu")
    assert "prefix_tuning does not fit distil" in compatibility.refusal(asked("prefix_tuning", "distil"), model)


@pytest.mark.parametrize("name", ["tiny", "writer", "gpt2", "t5"])
def test_no_weight_is_read_but_for_learned_tokens(name, at_home, monkeypatch):
    """Those are tried out by reading a text, or copied to be counted."""
    model = load_model(name, dtype="float32", device="cpu")
    monkeypatch.setattr("ftlib.models.loading._load", lambda *arguments, **more: pytest.fail("was loaded"))
    for method in set(HERE) - VIRTUAL:
        if model.family in METHODS[method].families:
            assert compatibility.refusal(asked(method, name), model) is not None, method


def test_a_copy_has_no_numbers_and_a_new_head(at_home):
    model = load_model("tiny", dtype="float32", device="cpu")
    module = compatibility.without_weights(model).classifier(3, 0)
    assert all(parameter.is_meta for parameter in module.parameters())
    assert [name for name, p in module.named_parameters() if not p._is_hf_initialized] == [
        "classifier.weight", "classifier.bias"
    ]  # fmt: skip
    assert module.classifier.weight.shape == torch.Size([3, 32])


def test_a_model_too_large_to_be_loaded_is_left_to_the_run(at_home, monkeypatch):
    model = load_model("tiny", dtype="float32", device="cpu")
    assert compatibility.refusal(asked("prefix_tuning", "tiny"), model) == ""
    none = psutil.virtual_memory()._replace(available=0)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: none)
    assert compatibility.refusal(asked("prefix_tuning", "tiny"), model) is None
    assert compatibility.refusal(asked("lora", "tiny"), model) == ""


def test_what_is_too_long_is_said_too(at_home):
    model = load_model("tiny", dtype="float32", device="cpu")
    assert "at most 108 are left" in compatibility.refusal(asked("p_tuning", "tiny", max_length=120), model)
    assert "found k = 3; it has 2 layers" in compatibility.refusal(
        asked("last_layers", "tiny", method_args={"k": 3}), model
    )


# The commands.


def test_a_plan_asks_once_and_then_plan_and_run_refuse_all_at_once(at_home, capsys, monkeypatch):
    runs = '[[runs]]\nmodel = "writer"\nmethod = ["bitfit", "lora"]\n[[runs]]\nmodel = "t5"\nmethod = ["bitfit"]\n'
    study = written(at_home, runs, "unfit")
    with monkeypatch.context() as patched:
        patched.setattr(compatibility, "_ask", lambda questions: pytest.fail("a study does not wait"))
        assert estimate.runs_that_do_not_fit(scheduler.plan(study)) == []
    assert cli.main(["plan", str(study), "--no-trial"]) == 2
    said = capsys.readouterr().err
    assert "2 problems:" in said and not (study / "runs").exists()
    assert "file:opinions (2 runs): method: bitfit does not fit writer: a LlamaForCausalLM has no biases" in said
    assert "file:opinions (2 runs): method: bitfit does not fit t5: " in said
    monkeypatch.setattr(compatibility, "_ask", lambda questions: pytest.fail("was asked again"))
    for command in (["run", str(study)], ["run", str(study), "--dry-run"], ["plan", str(study)]):
        assert cli.main(command) == 2
        assert "2 problems:" in capsys.readouterr().err


def test_who_cannot_be_asked_is_not_refused(at_home, capsys, monkeypatch):
    study = written(at_home, '[[runs]]\nmodel = "writer"\nmethod = "last_layers"\n', "silent")
    planned = scheduler.plan(study)
    with monkeypatch.context() as patched:
        patched.setattr(compatibility.sys, "executable", "false")
        assert compatibility.incompatible_runs(planned) == []
    assert "caution: what the models take could not be asked (code 1)" in capsys.readouterr().err
    asked = []
    monkeypatch.setattr(
        compatibility, "_ask", lambda questions: asked.extend(questions) or [{"said": ""}] * len(questions)
    )
    assert compatibility.incompatible_runs(planned) == [] and len(asked) == 1, "what nobody answered is asked again"


def test_text_is_not_measured_by_a_model_that_cannot_say_how_likely_it_is(at_home, capsys):
    study = written(at_home, '[[runs]]\nmethod = "zero_shot"\nmodel = ["tiny", "bare"]\n', "silent-text")
    text = study / "suite.toml"
    words = text.read_text(encoding="utf-8").replace("opinions", "notes.txt").partition("label_words")
    plan = words[0].replace("[plan]", '[plan]\nprimary = "bits_per_byte"\nmargin = 0.02')
    text.write_text(plan + words[2].partition("\n")[2], encoding="utf-8")
    assert cli.main(["run", str(study), "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "tiny was stored without it" in said and "bare" not in said


def test_the_plan_warns_of_what_measures_nothing_or_something_else(at_home):
    (at_home / "pairs.csv").write_text("sent_more,sent_less\na,b\n", encoding="utf-8")
    specs = [
        asked("lora", "tiny", evaluations=["pairs:pairs.csv"], sequential_tasks=["file:notes.txt"]),
        asked("lora", "bare", evaluations=["pairs:pairs.csv"], sequential_tasks=["file:notes.txt"]),
        asked("probe", "bare", evaluations=["pairs:pairs.csv"]),
        asked("lora", "writer", evaluations=["pairs:pairs.csv"], label_words=toy.LABEL_WORDS),
    ]
    lines = cautions(SimpleNamespace(jobs=[SimpleNamespace(spec=spec) for spec in specs]))
    assert [line.partition(": ")[2] for line in lines] == [
        "pairs:pairs.csv: tiny was stored without its masked-word layer: no value",
        "notes: tiny was stored without its masked-word layer, so it reads text by telling each from the others "
        "(SimCSE), not by guessing masked words",
        "pairs:pairs.csv: lora trains a head in place of bare's masked-word layer: a value before, none after",
    ]
    study = written(
        at_home, '[[runs]]\nmodel = "tiny"\nmethod = "full"\nsequential_tasks = ["file:notes.txt"]\n', "text-first"
    )
    assert any("SimCSE" in line for line in power(scheduler.plan(study)))


def test_a_trial_refuses_what_preparing_refuses_and_the_run_knows_it(at_home, capsys):
    """A plan with trials asks nobody beside them."""
    study = written(at_home, '[[runs]]\nmodel = "writer"\nmethod = "bitfit"\n', "tried-unfit")
    assert cli.main(["plan", str(study), "--jobs", "2"]) == 2
    assert "file:opinions (2 runs): method: bitfit does not fit writer: " in capsys.readouterr().err
    assert cli.main(["run", str(study)]) == 2 and not (study / "runs").exists()


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_a_model_stored_without_its_output_layer_is_refused_before_anything_loads(family, at_home, capsys, tmp_path):
    module, tokenizer = tiny_models.build(family, tie_word_embeddings=False)
    for name in ("whole", "half"):
        module.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    path = tmp_path / "half" / "model.safetensors"
    kept = safetensors.numpy.load_file(path)
    (output,) = {"lm_head.weight", "embed_out.weight"} & set(kept)
    del kept[output]
    safetensors.numpy.save_file(kept, path, {"format": "pt"})
    for name in ("whole", "half"):
        runs = f'[[runs]]\nmethod = "zero_shot"\nmodel = "{tmp_path / name}"\nmax_length = 16\n'
        code = cli.main(["run", str(written(at_home, runs, f"{family}_{name}")), "--dry-run"])
        said = capsys.readouterr().err
        assert (code, "was stored without its output layer" in said) == ((2, True) if name == "half" else (0, False)), (
            said
        )
