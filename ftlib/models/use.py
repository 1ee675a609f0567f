"""The code in the README of a saved model: what a user needs to load it and ask it, without ftlib.

It defines `probabilities(texts)`, or `nats(texts)` for a model of text without labels, or `write(texts)` and
`nats(texts, targets)` for one that writes. A saved model is checked by
running it, so it is never documentation alone.
"""

from ftlib.data.kinds import DECODER, ENCODER, ENCODER_DECODER, LOADERS

_PIPELINE = """
from transformers import pipeline

classify = pipeline("text-classification", model=folder, top_k=None, truncation=True)


def probabilities(texts, batch_size=16):
    labels = classify.model.config.id2label.values()
    found = [{one["label"]: one["score"] for one in each} for each in classify(list(texts), batch_size=batch_size)]
    return [[each[label] for label in labels] for each in found]
"""

_START = """
import json
import pathlib

import torch
from transformers import AutoTokenizer

said = json.loads(pathlib.Path(folder, "prediction.json").read_text(encoding="utf-8"))
tokenizer = AutoTokenizer.from_pretrained(folder)
"""

_WHOLE = """
from transformers import {loader}

model = {loader}.from_pretrained(folder, dtype=torch.float32).eval()
"""

_LABELS = """labels = dict(enumerate(said["outputs"]))
"""

_OF_ENCODER = """, num_labels=len(labels), id2label=labels,
    pad_token_id=tokenizer.pad_token_id, ignore_mismatched_sizes=True,"""

_CLASSIFIER = """

@torch.inference_mode()
def probabilities(texts, task=said["task"], batch_size=16):
    found = []
    for start in range(0, len(texts), batch_size):
        batch = tokenizer(list(texts[start : start + batch_size]), truncation=True, padding=True, return_tensors="pt")
        logits = model(**batch).logits[:, slice(*(said["tasks"][task]["rows"] or (None, None)))]
        found += logits.double().softmax(dim=-1).tolist()
    return found
"""

_FEATURES = """
from transformers import AutoModel

model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
{half}

@torch.inference_mode()
def features(texts, batch_size=16):
    found = []
    for start in range(0, len(texts), batch_size):
        batch = tokenizer(list(texts[start : start + batch_size]), truncation=True, padding=True, return_tensors="pt")
        hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"]
{pooled}
        found.append(torch.nn.functional.normalize(one, dim=-1))
    return torch.cat(found).numpy()
"""

_POOLED = {
    "mean": "one = (hidden * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)",
    "max": "one = hidden.masked_fill(~mask.bool()[:, :, None], -torch.inf).amax(dim=1)",
    "first": "one = hidden[torch.arange(len(hidden)), mask.argmax(dim=1)]",
    "last": "one = hidden[torch.arange(len(hidden)), mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)]",
}

_HEAD = """
import json
import pathlib

import numpy as np
from safetensors.numpy import load_file

said = json.loads(pathlib.Path(folder, "prediction.json").read_text(encoding="utf-8"))
head = load_file(pathlib.Path(folder, "head.safetensors"))


{functions}

{words}
def probabilities(texts, groups=None):
    return {called}.tolist()
"""

_STATIC = """from model2vec import StaticModel

model = StaticModel.from_pretrained(folder)


def features(texts):
    return model.encode(list(texts), use_multiprocessing=False)

"""

_TOKENS = """

def ids_of(text, special=False):
    return tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]


first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
"""

_CAUSAL = """

@torch.inference_mode()
def score(asked, answer):
    "The log-probability of an answer; white space between it and what was asked is the answer's."
    context = ids_of(asked.rstrip())
    ids = ids_of(asked + answer)[len(context) :]
    context = context if context[:1] == [first] else [first, *context]
    logits = model(input_ids=torch.tensor([context + ids])).logits[0, -len(ids) - 1 : -1]
    return logits.log_softmax(dim=-1)[range(len(ids)), ids].double().sum()
"""

_SEQ2SEQ = """

@torch.inference_mode()
def score(asked, answer):
    "The log-probability of an answer; white space between it and what was asked is the answer's."
    short = asked.rstrip()
    ids = ids_of(asked[len(short) :] + answer)
    decoded = torch.tensor([[model.config.decoder_start_token_id, *ids[:-1]]])
    found = model(input_ids=torch.tensor([ids_of(short, special=True)]), decoder_input_ids=decoded)
    logits = found.logits[0, -len(ids) :]
    return logits.log_softmax(dim=-1)[range(len(ids)), ids].double().sum()
"""

_WORDS = """

def clipped(text):
    read = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    most = said["max_length"]
    return text if len(read["input_ids"]) <= most else text[: read["offset_mapping"][most - 1][1]]


def probabilities(texts, task=said["task"]):
    how = said["tasks"][task]
    before, _, after = how["template"].partition("{label}")
    space = " " * (len(before) - len(before.rstrip(" ")))
    answers = [space + words + after for words in how["words"]]
    sizes = {"none": lambda _: 1, "token": lambda answer: len(ids_of(answer)), "byte": lambda one: len(one.encode())}

    def logs(text):
        asked = how["prefix"] + before.rstrip(" ").replace("{text}", text)
        return torch.stack([score(asked, one) / sizes[how["normalisation"]](one) for one in answers])

    found = torch.stack([logs(clipped(text)) for text in texts])
    if how["calibration"] == "contextual":
        found = found - torch.stack([logs(text) for text in ("N/A", "", "[MASK]")]).softmax(dim=-1).mean(dim=0).log()
    return found.softmax(dim=-1).tolist()
"""

_TEXT = """

@torch.inference_mode()
def nats(texts):
    "Minus the log-probability of each text, which fits what the model sees at once, and its number of tokens."
    found = []
    for text in texts:
        ids = [first, *ids_of(text)]
        logs = model(input_ids=torch.tensor([ids])).logits[0, -len(ids) : -1].log_softmax(dim=-1)
        found.append([-logs[range(len(ids) - 1), ids[1:]].double().sum().item(), len(ids) - 1])
    return found
"""

_READS = """
side = "right"
end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]


def source(text, how):
    asked = how["template"].replace("{text}", text)
    return tokenizer(asked, truncation=True, max_length=said["max_length"])["input_ids"]


def target(text):
    ids = tokenizer(text_target=text, truncation=True, max_length=said["max_length"])["input_ids"]
    return ids if not end or ids[-1:] == end else ids[: said["max_length"] - 1] + end


def logits_of(asked, ids):
    return model(input_ids=torch.tensor([asked]), labels=torch.tensor([ids])).logits[0, -len(ids) :]
"""

_GOES_ON = """
side = "left"
end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]


def source(text, how):
    ids = ids_of(text)
    text = text if len(ids) <= said["max_length"] else tokenizer.decode(ids[: said["max_length"]])
    ids = ids_of(how["prefix"] + how["template"].replace("{text}", text))
    return ids if ids[:1] == [first] else [first, *ids]


def target(text):
    return ids_of(" " + text)[: said["max_length"] - len(end)] + end


def logits_of(asked, ids):
    return model(input_ids=torch.tensor([asked + ids])).logits[0, -len(ids) - 1 : -1]
"""

_WRITE = """

how = said["tasks"][said["task"]]["writing"]
for name, language in (("src_lang", how["source_language"]), ("tgt_lang", how["target_language"])):
    if language:
        setattr(tokenizer, name, language)
{settings}.generation_config = GenerationConfig.from_pretrained(folder)


@torch.inference_mode()
def write(texts, task=said["task"], batch_size=16):
    "What the model writes for each text."
    found = []
    for start in range(0, len(texts), batch_size):
        ids = [source(text, said["tasks"][task]) for text in texts[start : start + batch_size]]
        batch = tokenizer.pad({"input_ids": ids}, padding_side=side, return_tensors="pt")
        made = model.generate(**batch)
        given = batch["input_ids"] if side == "left" else made[:, :1]
        begins = given.shape[1] if made[:, : given.shape[1]].equal(given) else 0
        found += tokenizer.batch_decode(
            made[:, begins:], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
    return [one.strip().partition("\\n")[0] if how["lines"] else one.strip() for one in found]


@torch.inference_mode()
def nats(texts, targets, task=said["task"]):
    "Minus the log-probability of each target after its text, and its number of tokens."
    found = []
    for text, wanted in zip(texts, targets):
        ids = target(wanted)
        logs = logits_of(source(text, said["tasks"][task]), ids).log_softmax(dim=-1)
        found.append([-logs[range(len(ids)), ids].double().sum().item(), len(ids)])
    return found
"""


def code(
    family: str = "", *, adapter: bool = False, pooling: str = "", head: tuple[str, str] | None = None,
    has_labels: bool = True, several: bool = False, half: bool = False, static: bool = False,
    writes: bool = False,
) -> str:  # fmt: skip
    """The code for one kind of saved model.

    Args:
        family: Of the base model; empty: there is none.
        adapter: Whether the folder holds an adapter of peft, whose base model lies elsewhere.
        pooling: How features are made of tokens, for a head on features.
        head: Its functions and how they are called (`ftlib.models.heads.Head.code`).
        has_labels: Whether it gives labels; else likelihoods of text.
        several: Whether the head's outputs are of several tasks.
        static: Whether features are means of static vectors (model2vec).
        half: Whether features are those of the reading half of an encoder-decoder.
        writes: Whether it writes a text for each that it is given.
    """
    loader = LOADERS.get(family, "")
    where = 'folder = "."  # this folder\n'
    if head:
        functions, called = head
        words = "" if family or "words" not in called else 'words = words_of(idf=head["idf"], **said["head"])\n\n'
        words = _STATIC if static else words
        made = _HEAD.format(functions=functions, called=called, words=words)
        if not family:
            return where + made
        pooled = " " * 8 + _POOLED[pooling]
        kept = "model = model.get_encoder()\n" if half else ""
        return where + _START + _FEATURES.format(pooled=pooled, half=kept) + made
    if family == ENCODER and not adapter and not several:
        return where + _PIPELINE
    if adapter:
        of_encoder = family == ENCODER
        load = f"\nfrom peft import AutoPeft{loader[4:]}\n\n{_LABELS if of_encoder else ''}model = AutoPeft{loader[4:]}"
        more = _OF_ENCODER if of_encoder else ""
        load += f".from_pretrained(\n    folder, dtype=torch.float32{more}\n).eval()\n"
    else:
        load = _WHOLE.format(loader=loader)
    if family == ENCODER:
        return where + _START + load + _CLASSIFIER
    if writes:
        start = _START.replace("AutoTokenizer", "AutoTokenizer, GenerationConfig", 1)
        # peft hands on its own wrapper's settings for a decoder, and none for an encoder-decoder.
        settings = "model.get_base_model().generation_config = model" if adapter else "model"
        asks = _READS if family == ENCODER_DECODER else _TOKENS + _GOES_ON
        return where + start + load + asks + _WRITE.replace("{settings}", settings)
    asks = {DECODER: _CAUSAL, ENCODER_DECODER: _SEQ2SEQ}[family]
    return where + _START + load + _TOKENS + (asks + _WORDS if has_labels else _TEXT)
