"""The scoring engine against the definition: one text, one forward pass, one token at a time."""

import inspect
from types import SimpleNamespace

import numpy as np
import peft
import pytest
import tiny_models
import torch
import transformers
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from thorough import crossed

from ftlib.core.errors import Diverged, FtlibError
from ftlib.models import score
from ftlib.models.score import facts, passes, trees

SHARED = ROOT.parent / "shared" / "models"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the shared models in {SHARED}")
CAUSAL = [name for name in tiny_models.FAMILIES if name not in ("t5", "bert")]
FAST = ["llama", "gpt2", "gpt_neox", "qwen3", "gemma"]

ONCE = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a "
    "big, red ball. She wanted to play with it, but it was too high.\n"
    "Lily's mom said, \"Lily, let's go to the park.\" Lily was sad and didn't know what to do. She said, \"I want to "
    "play with your ball, but I can't find it.\"\n"
    "Lily was sad and didn't know what to do. She said, \"I'm sorry, Lily. I didn't know what to do.\"\n"
    "Lily didn't want to help her mom, so she"
)
CAT = (
    "One morning a small grey cat sat by the window and looked at the rain. She was waiting for her friend, but the "
    'road was empty. "Maybe tomorrow," she said, and went back to sleep.'
)
PREFIX = "Review: the rain was lovely.\nLabel: positive\n\n"
QUERIES = ["Review: the soup was cold.\nLabel:", "Review: never again, the road was empty and long.\nLabel:", "Label: "]
# One token and several, a common first token, one the beginning of another, the same twice.
LABELS = [" positive", " negative", " pos", " positively", " a", " positive"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


_BUILT = {}


def built(family):
    """The family's tiny model and tokenizer, made once."""
    if family not in _BUILT:
        _BUILT[family] = tiny_models.build(family)
    return _BUILT[family]


def shared(name):
    """One of the shared models and its tokenizer."""
    loaders = transformers.AutoModelForCausalLM, transformers.AutoTokenizer
    return tuple(loader.from_pretrained(SHARED / name) for loader in loaders)


@torch.no_grad()
def by_hand(model, ids, scored):
    """Log-probability of the last `scored` tokens of a text, in one forward pass of its own."""
    values = model(input_ids=torch.tensor([ids])).logits[0, -scored - 1 : -1].double().log_softmax(dim=-1)
    return values[torch.arange(scored), torch.tensor(ids[-scored:])].sum().item()


def one_by_one(model, tokenizer, texts, labels, bos=True):
    """Every continuation after every text, each pair on its own, cut as lm_eval cuts."""
    table = np.zeros((len(texts), len(labels)))
    for i, text in enumerate(texts):
        for j, label in enumerate(labels):
            context = text.rstrip()
            moved = text[len(context) :] + label
            before = tokenizer.encode(context, add_special_tokens=False)
            whole = tokenizer.encode(context + moved, add_special_tokens=False)
            own = whole[len(before) :]
            first = [tokenizer.bos_token_id] if bos else []
            table[i, j] = by_hand(model, [*first, *before, *own], len(own))
    return table


@needs_shared
def test_stories_are_told_as_llama2c_tells_them():
    model, tokenizer = shared("stories260K")
    start = torch.tensor([[tokenizer.bos_token_id]])
    told = model.generate(start, max_new_tokens=200, do_sample=False, pad_token_id=0)
    assert tokenizer.decode(told[0, 1:]) == ONCE


@needs_shared
def test_the_known_text_has_the_known_likelihood():
    model, tokenizer = shared("stories260K")
    found = score.score_text(model, tokenizer, [CAT], context=512, stride=512)
    assert found.loc[0, "nats"] == pytest.approx(154.508284, abs=1e-4)
    assert found.loc[0, ["n_tokens", "n_bytes"]].tolist() == [82, 178]
    ids = [tokenizer.bos_token_id, *tokenizer.encode(CAT, add_special_tokens=False)]
    token_by_token = sum(by_hand(model, ids[: end + 1], 1) for end in range(1, len(ids)))
    assert found.loc[0, "nats"] == pytest.approx(-token_by_token, abs=1e-4)


@needs_shared
@pytest.mark.parametrize("name", ["stories260K", "cappgpt2"])
def test_shared_models_score_continuations_as_one_by_one(name):
    model, tokenizer = shared(name)
    if name == "stories260K":
        prefix, queries, labels = PREFIX, QUERIES, LABELS
    else:
        # Sorted, for the vocabulary is a map of no order; without PAD and BOS, which are not words.
        words = sorted(set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens))
        rng = np.random.default_rng(0)
        prefix = " ".join(rng.choice(words, 9)) + " "
        queries = [" ".join(rng.choice(words, n)) for n in (3, 7, 1)]
        labels = [" " + " ".join(words[i] for i in chosen) for chosen in ([3], [3, 4], [3, 5, 4], [8, 9], [3, 4, 1])]
    assert score.fast_path(model)[0]
    found = score.score_continuations(model, tokenizer, prefix, queries, labels)
    assert np.abs(found - one_by_one(model, tokenizer, [prefix + q for q in queries], labels)).max() < 1e-4


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("family", CAUSAL)
def test_every_family_scores_continuations_as_one_by_one(family, bos):
    model, tokenizer = built(family)
    assert score.fast_path(model)[0] == (family in FAST), score.fast_path(model)
    found = score.score_continuations(model, tokenizer, PREFIX, QUERIES, LABELS, bos=bos)
    assert found.shape == (3, 6) and found.dtype == np.float64
    assert np.array_equal(found[:, 0], found[:, 5])
    wanted = one_by_one(model, tokenizer, [PREFIX + q for q in QUERIES], LABELS, bos)
    assert np.abs(found - wanted).max() < 1e-4
    assert np.ptp(found) > 1, "else the test could not tell one text from another"


@pytest.mark.parametrize("family", FAST)
def test_eager_attention_takes_the_trees_too(family):
    model, tokenizer = tiny_models.build(family, attn_implementation="eager")
    assert score.fast_path(model)[0]
    found = score.score_continuations(model, tokenizer, PREFIX, QUERIES, LABELS)
    assert np.abs(found - score.score_continuations(*built(family), PREFIX, QUERIES, LABELS)).max() < 1e-4


def test_an_encoder_decoder_scores_continuations_as_one_by_one():
    model, tokenizer = built("t5")
    found = score.score_continuations(model, tokenizer, PREFIX, QUERIES, LABELS)
    for i, query in enumerate(QUERIES):
        for j, label in enumerate(LABELS):
            text = PREFIX + query
            moved = text[len(text.rstrip()) :] + label
            ids = tokenizer(moved, add_special_tokens=False, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                logits = model(**_inputs(tokenizer, text.rstrip()), labels=ids).logits[0].double().log_softmax(dim=-1)
            assert found[i, j] == pytest.approx(logits.gather(1, ids[0][:, None]).sum().item(), abs=1e-4)
    assert "encoder" in score.fast_path(model)[1]
    assert np.allclose(score.score_continuations(model, tokenizer, PREFIX, QUERIES, LABELS, budget=1), found, atol=1e-5)


def _inputs(tokenizer, text):
    found = tokenizer(text, return_tensors="pt")
    return {"input_ids": found["input_ids"], "attention_mask": found["attention_mask"]}


def naive_windows(model, ids, context, stride):
    """Every token from the window that is the first to reach it, one forward pass for each token."""
    nats, end = 0.0, min(context, len(ids) - 1)
    for token in range(1, len(ids)):
        if token > end:
            end = min(end + stride, len(ids) - 1)
        nats -= by_hand(model, ids[max(0, end - context) : token + 1], 1)
    return nats


@pytest.mark.parametrize(("family", "stride"), crossed(CAUSAL, (5, 1, 16), CAUSAL[:2]))
def test_windows_are_those_of_the_definition(family, stride):
    model, tokenizer = built(family)
    texts = [CAT, "", "a", QUERIES[0], CAT[:70]]
    for bos in (True, False):
        found = score.score_text(model, tokenizer, texts, context=16, stride=stride, bos=bos)
        for row, text in enumerate(texts):
            ids = [tokenizer.bos_token_id] * bos + tokenizer.encode(text, add_special_tokens=False)
            assert found.loc[row, "nats"] == pytest.approx(naive_windows(model, ids, 16, stride), abs=2e-4)
            assert found.loc[row, "n_tokens"] == max(0, len(ids) - 1)


def test_bytes_are_those_of_the_text_whose_tokens_are_scored():
    model, tokenizer = built("llama")
    texts = ["The cat — naïve", "The", "ïx", ""]
    with_bos = score.score_text(model, tokenizer, texts, context=64, stride=64)
    assert with_bos["n_bytes"].tolist() == [len(text.encode()) for text in texts]
    without = score.score_text(model, tokenizer, texts, context=64, stride=64, bos=False)
    # "The" is one token; "ï" is two, which share a character that therefore counts as scored.
    assert without["n_bytes"].tolist() == [len(texts[0].encode()) - 3, 0, 3, 0]
    assert without["n_tokens"].tolist() == (with_bos["n_tokens"] - 1).clip(0).tolist()


def test_a_text_that_begins_with_bos_gets_no_second_one():
    model, tokenizer = built("llama")
    found = score.score_text(model, tokenizer, ["<bos>The cat", "The cat"], context=64, stride=64)
    assert found.loc[0, ["nats", "n_tokens", "n_bytes"]].tolist() == found.loc[1].tolist()


def test_eos_stands_in_for_bos_and_without_either_that_is_said():
    model, tokenizer = built("gpt2")
    tokenizer = tiny_models.tokenizer()
    tokenizer.bos_token = None
    found = score.score_text(model, tokenizer, [CAT], context=200, stride=200)
    ids = [tokenizer.eos_token_id, *tokenizer.encode(CAT, add_special_tokens=False)]
    assert found.loc[0, "nats"] == pytest.approx(-by_hand(model, ids, len(ids) - 1), abs=1e-4)
    tokenizer.eos_token = None
    with pytest.raises(FtlibError, match="neither a BOS nor an EOS"):
        score.score_text(model, tokenizer, [CAT], context=200, stride=200)


def test_a_masked_model_predicts_each_token_from_all_others():
    model, tokenizer = built("bert")
    texts = [CAT, "the rain", "", "a"]
    found = score.score_masked(model, tokenizer, texts, context=20)
    for row, text in enumerate(texts):
        ids = tokenizer.encode(text, add_special_tokens=False)
        nats = 0.0
        for start in range(0, len(ids), 20):
            piece = torch.tensor(ids[start : start + 20])
            for place, token in enumerate(piece):
                hidden = piece.clone()
                hidden[place] = tokenizer.mask_token_id
                with torch.no_grad():
                    nats -= model(input_ids=hidden[None]).logits[0, place].double().log_softmax(dim=-1)[token].item()
        assert found.loc[row].tolist() == [pytest.approx(nats, abs=1e-4), len(ids), len(text.encode())]
    again = score.score_masked(model, tokenizer, texts[::-1], context=20, budget=1)["nats"].to_numpy()[::-1]
    assert np.allclose(again, found["nats"], atol=1e-5)
    tokenizer = tiny_models.tokenizer()
    tokenizer.mask_token = None
    with pytest.raises(FtlibError, match="no mask token"):
        score.score_masked(model, tokenizer, texts, context=20)


def test_adapters_are_scored_and_a_learned_prompt_takes_the_plain_path():
    plain = score.score_continuations(*built("llama"), PREFIX, QUERIES, LABELS)
    for config, in_trees in (
        (
            peft.LoraConfig(task_type="CAUSAL_LM", r=2, init_lora_weights=False, target_modules=["q_proj", "up_proj"]),
            True,
        ),
        (peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5), False),
        (peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5), False),
    ):
        model, tokenizer = tiny_models.build("llama")
        torch.manual_seed(0)
        adapted = peft.get_peft_model(model, config).eval()
        assert score.fast_path(adapted)[0] == in_trees, score.fast_path(adapted)
        found = score.score_continuations(adapted, tokenizer, PREFIX, QUERIES, LABELS)
        assert np.abs(found - one_by_one(adapted, tokenizer, [PREFIX + q for q in QUERIES], LABELS)).max() < 1e-4
        assert np.abs(found - plain).max() > 1e-3
        assert facts.limit(adapted) == 256 - 5 * (not in_trees)
        text = score.score_text(adapted, tokenizer, [CAT], context=128, stride=128)
        ids = [tokenizer.bos_token_id, *tokenizer.encode(CAT, add_special_tokens=False)]
        assert text.loc[0, "nats"] == pytest.approx(-by_hand(adapted, ids, len(ids) - 1), abs=1e-4)


words = st.text(alphabet="abc eilnorst\n.,ï", max_size=12)
quick = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral", "t5"])
@quick
@given(data=st.data())
def test_continuations_do_not_depend_on_company_order_or_batches(family, data):
    model, tokenizer = built(family)
    queries = ["Review: " + text + "\nLabel:" for text in data.draw(st.lists(words, min_size=1, max_size=4))]
    labels = [" " + text + "s" for text in data.draw(st.lists(words, min_size=1, max_size=4))]
    together = score.score_continuations(model, tokenizer, PREFIX, queries, labels)
    rows = data.draw(st.permutations(range(len(queries))))
    columns = data.draw(st.permutations(range(len(labels))))
    again = score.score_continuations(
        model, tokenizer, PREFIX, [queries[i] for i in rows], [labels[i] for i in columns],
        budget=data.draw(st.integers(1, 90)),
    )  # fmt: skip
    assert np.abs(again - together[np.ix_(rows, columns)]).max() < 1e-5
    alone = score.score_continuations(model, tokenizer, PREFIX, queries[:1], labels[-1:])
    assert abs(alone[0, 0] - together[0, -1]) < 1e-5


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma2"])
@quick
@given(data=st.data())
def test_texts_do_not_depend_on_their_neighbours_and_the_past_not_on_the_future(family, data):
    model, tokenizer = built(family)
    texts = data.draw(st.lists(words, min_size=1, max_size=5))
    how = {"context": data.draw(st.integers(2, 12)), "stride": 2}
    together = score.score_text(model, tokenizer, texts, **how)["nats"].to_numpy()
    order = data.draw(st.permutations(range(len(texts))))
    again = score.score_text(model, tokenizer, [texts[i] for i in order], **how, budget=data.draw(st.integers(1, 40)))
    assert np.abs(again["nats"].to_numpy() - together[order]).max() < 1e-5
    # Another future: what is scored before it stays, so the difference is that of the continuation alone.
    text, more = "The cat " + texts[0].strip() + ".", data.draw(words).strip()
    before = score.score_text(model, tokenizer, [text], context=64, stride=64).loc[0, "nats"]
    label = "\nrain" + more
    after = score.score_text(model, tokenizer, [text + label], context=64, stride=64).loc[0, "nats"]
    added = score.score_continuations(model, tokenizer, "", [text], [label])[0, 0]
    ids = [tokenizer.encode(part, add_special_tokens=False) for part in (text, text + label)]
    if ids[1][: len(ids[0])] == ids[0]:
        assert before - added == pytest.approx(after, abs=5e-5)


@quick
@given(texts=st.lists(words, min_size=1, max_size=4), labels=st.lists(words, min_size=1, max_size=3), bos=st.booleans())
def test_tokens_are_those_of_the_definition(texts, labels, bos):
    tokenizer = tiny_models.tokenizer()
    texts, labels = ["x" + text for text in texts], [label + "!" for label in labels]
    contexts, found = trees.pairs(tokenizer, texts, labels, bos=bos)
    for text, context, row in zip(texts, contexts, found, strict=True):
        before = tokenizer.encode(text.rstrip(), add_special_tokens=False)
        assert context == [tokenizer.bos_token_id] * bos + before
        for label, own in zip(labels, row, strict=True):
            assert own == tokenizer.encode(text + label, add_special_tokens=False)[len(before) :]


@pytest.mark.parametrize("family", ["llama", "mistral", "t5"])
def test_bfloat16_is_near_float32(family):
    model, tokenizer = built(family)
    exact = score.score_continuations(model, tokenizer, PREFIX, QUERIES, LABELS)
    near = score.score_continuations(model, tokenizer, PREFIX, QUERIES, LABELS, dtype="bfloat16")
    assert 0 < np.abs(near - exact).max() < 0.05 * np.abs(exact).max()
    if family != "t5":
        exact = score.score_text(model, tokenizer, [CAT], context=64, stride=64).loc[0, "nats"]
        near = score.score_text(model, tokenizer, [CAT], context=64, stride=64, dtype="bfloat16").loc[0, "nats"]
        assert 0 < abs(near - exact) < 0.02 * exact


NO_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    MemoryError(),
)


@pytest.mark.parametrize("error", NO_MEMORY, ids=["device", "cpu", "numpy"])
@pytest.mark.parametrize("family", ["llama", "mistral", "t5"])
def test_when_memory_runs_out_batches_are_halved_and_nothing_is_lost(family, error, monkeypatch):
    model, tokenizer = tiny_models.build(family)
    queries = [f"Review: {word}\nLabel:" for word in CAT.split()[:12]]
    wanted = score.score_continuations(model, tokenizer, PREFIX, queries, LABELS)
    forward, passed = model.forward, []

    def small(*args, **more):
        ids = next(more[name] for name in ("decoder_input_ids", "input_ids") if name in more)
        if ids.numel() > 70:
            raise error
        passed.append(ids.numel())
        return forward(*args, **more)

    # The sliced path does not go through model.forward.
    monkeypatch.setattr(facts, "_sliced", lambda model: False)
    monkeypatch.setattr(facts, "_KNOWN", type(facts._KNOWN)())
    small.__signature__ = inspect.signature(forward)
    if family != "llama":
        monkeypatch.setattr(model, "forward", small)
    else:
        monkeypatch.setattr(passes, "look", _limited(passes.look, error, passed))
    found = score.score_continuations(model, tokenizer, PREFIX, queries, LABELS, budget=500)
    assert np.abs(found - wanted).max() < 1e-5 and passed


def _limited(look, error, passed):
    def small(model, ids, *more):
        if len(ids) > 70:
            raise error
        passed.append(len(ids))
        return look(model, ids, *more)

    return small


def test_memory_that_does_not_do_for_one_text_is_said(monkeypatch):
    def never(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    model, tokenizer = built("llama")
    assert score.fast_path(model)[0]
    monkeypatch.setattr(passes, "look", never)
    with pytest.raises(FtlibError, match="single text"):
        score.score_continuations(model, tokenizer, PREFIX, QUERIES, LABELS)
    monkeypatch.setattr(passes, "read", never)
    with pytest.raises(FtlibError, match="single text .*shorten"):
        score.score_continuations(model, tokenizer, PREFIX, QUERIES, LABELS)


def test_every_module_keeps_its_mode_and_the_weights_their_gradients():
    model, tokenizer = tiny_models.build("llama")
    model.train()
    model.model.layers[0].eval()
    before = [module.training for module in model.modules()]
    score.score_continuations(model, tokenizer, PREFIX, QUERIES, LABELS)
    score.score_text(model, tokenizer, [CAT], context=64, stride=32)
    assert [module.training for module in model.modules()] == before
    with pytest.raises(FtlibError):
        score.score_text(model, tokenizer, [CAT], context=64, stride=32, dtype="float16")
    assert [module.training for module in model.modules()] == before
    ids = torch.tensor([tokenizer.encode(CAT)])
    model(input_ids=ids, labels=ids).loss.backward()
    assert model.lm_head.weight.grad.abs().sum() > 0


def test_dropout_is_off():
    model, tokenizer = tiny_models.build("gpt2", resid_pdrop=0.5)
    wanted = score.score_continuations(model, tokenizer, PREFIX, QUERIES, LABELS)
    assert np.array_equal(score.score_continuations(model.train(), tokenizer, PREFIX, QUERIES, LABELS), wanted)


def test_a_model_whose_trees_go_wrong_is_found_out(monkeypatch):
    """What no configuration tells, a trial does: here a model that ignores the mask it is given."""
    model, tokenizer = tiny_models.build("llama")
    wanted = score.score_continuations(model, tokenizer, PREFIX, QUERIES, LABELS)
    forward = model.model.forward

    def blind(*args, **more):
        return forward(*args, **more | {"attention_mask": None})

    monkeypatch.setattr(model.model, "forward", blind)
    facts._KNOWN.clear()
    fast, why = score.fast_path(model)
    assert not fast and "nats away" in why
    assert np.abs(score.score_continuations(model, tokenizer, PREFIX, QUERIES, LABELS) - wanted).max() < 1e-5

    def refuses(*args, **more):
        if more.get("attention_mask") is not None:
            raise TypeError("no mask here")
        return forward(*args, **more)

    monkeypatch.setattr(model.model, "forward", refuses)
    facts._KNOWN.clear()
    assert score.fast_path(model) == (False, "a trial failed: TypeError: no mask here")


def test_wrong_requests_are_said():
    model, tokenizer = built("llama")
    for message, *request in (
        ("list of texts", PREFIX, "one query", LABELS),
        ("at least one", PREFIX, QUERIES, []),
        ("continuations: found nothing; give a list of texts", PREFIX, QUERIES, None),
        ("queries: 1 of 2 are no texts, the first at 1: 7", PREFIX, [QUERIES[0], 7], LABELS),
        ("query 0: continuation '' has no token", PREFIX, QUERIES[:1], [" a", ""]),
        ("1 of 2 queries are too long: query 1", "", ["a", "a cat" * 300], LABELS),
    ):
        with pytest.raises(FtlibError, match=message):
            score.score_continuations(model, tokenizer, *request)
    with pytest.raises(FtlibError, match="nothing stands before"):
        score.score_continuations(model, tokenizer, "", [""], [" a"], bos=False)
    assert score.score_continuations(model, tokenizer, "", [""], [" a"]).shape == (1, 1)
    assert score.score_continuations(model, tokenizer, "", [], [" a"]).shape == (0, 1)
    with pytest.raises(FtlibError, match="model: found SimpleNamespace; give the language model itself"):
        score.score_text(SimpleNamespace(), tokenizer, [CAT], context=8, stride=8)
    with pytest.raises(FtlibError, match="stride: 0 is not"):
        score.score_text(model, tokenizer, [CAT], context=8, stride=0)
    with pytest.raises(FtlibError, match="reads at most 256"):
        score.score_text(model, tokenizer, [CAT], context=257, stride=8)
    with pytest.raises(FtlibError, match="needs a causal"):
        score.score_text(*built("t5"), [CAT], context=8, stride=8)
    with pytest.raises(FtlibError, match="no output layer"):
        score.score_text(model.model, tokenizer, [CAT], context=8, stride=8)


def test_scores_that_are_not_numbers_are_not_returned():
    model, tokenizer = tiny_models.build("gpt2")
    with torch.no_grad():
        model.lm_head.weight[7] = float("nan")
    assert not score.fast_path(model)[0]
    with pytest.raises(Diverged):
        score.score_continuations(model, tokenizer, PREFIX, QUERIES, LABELS)


@needs_shared
def test_lm_eval_finds_the_same_numbers():
    pytest.importorskip("lm_eval", reason="needs lm_eval 0.4.13, which `make bench` installs")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = shared("stories260K")
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=32, add_bos_token=True, device="cpu", max_length=64)
    rng = np.random.default_rng(0)
    queries = [" ".join(rng.choice(CAT.split(), rng.integers(2, 9))) + "\nShe" + " " * (i % 2) for i in range(130)]
    labels = [" was", " went back", " went to sleep", " loved the rain"]
    requests = [
        Instance("loglikelihood", {}, ("One day " + query, label), i)
        for i, (query, label) in enumerate((query, label) for query in queries for label in labels)
    ]
    wanted = np.array([value for value, _ in theirs.loglikelihood(requests, disable_tqdm=True)]).reshape(130, 4)
    found = score.score_continuations(model, tokenizer, "One day ", queries, labels)
    assert np.abs(found - wanted).max() < 1e-4
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4, add_bos_token=False, device="cpu", max_length=64)
    texts = [ONCE, CAT, "One day"]
    rolling = theirs.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (t,), 0) for t in texts], True)
    found = score.score_text(model, tokenizer, texts, context=64, stride=64)
    assert np.abs(found["nats"] + np.array(rolling)).max() < 1e-4
