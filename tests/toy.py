"""A task and a model small enough to run every notebook in a test: 120 opinions, and a BERT of 32 numbers a token."""

import csv
from pathlib import Path

import numpy as np
import torch
import toy

from ftlib.config.experiment import Experiment
from ftlib.config.methods import METHODS

LABEL_WORDS = {"bad": "negative, disappointing", "good": "positive, a pleasure"}

THINGS = (
    "the soup", "this keyboard", "our hotel room", "the second season", "his new album", "the train", "that lecture",
    "my old bicycle", "the museum guide", "her first novel", "the app", "the coffee here", "this coat", "the manual",
    "the opening night",
)  # fmt: skip
SAID = {
    "good": (
        "{} was a joy from start to end", "I would recommend {} to anyone", "{} is simply lovely",
        "never a dull moment with {}", "{} works better than I hoped", "not bad at all, {}, I was delighted",
        "we keep praising {}", "{} made the whole week",
    ),
    "bad": (
        "{} was a waste of money", "I regret trusting {}", "{} is simply awful", "never again, {} let us down",
        "{} works worse than I feared", "not good at all, {}, I was annoyed", "we keep complaining about {}",
        "{} ruined the whole week",
    ),
}  # fmt: skip
SIZES = {"train": 80, "validation": 16, "test": 24}


def opinions() -> list[tuple[str, str]]:
    """120 (text, label), all different, in a fixed mixed order; both labels equally often."""
    rows = []
    for label, phrases in SAID.items():
        for number in range(60):
            thing = THINGS[(7 * number + number // 15) % len(THINGS)]
            rows.append((phrases[number % len(phrases)].format(thing), label))
    return [rows[place] for place in np.random.default_rng(3).permutation(len(rows))]


def write_rows(path: Path, rows: list[tuple[str, str]]) -> None:
    """A CSV file with the columns text and label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def write_task(folder: Path, spell: dict[str, str] | None = None) -> Path:
    """The task as a folder of train.csv, validation.csv and test.csv; `spell` writes labels another way."""
    rows = [(text, (spell or {}).get(label, label)) for text, label in opinions()]
    start = 0
    for split, size in SIZES.items():
        write_rows(folder / f"{split}.csv", rows[start : start + size])
        start += size
    return folder


def notes() -> list[str]:
    """Forty short documents of two lines, all different."""
    return [
        f"The {name} of a {kind} is {what} when it is called.\nIt returns {what} or raises an error about the {kind}."
        for name in ("name", "size", "shape", "order", "value")
        for kind in ("list", "table", "tensor", "file")
        for what in ("given", "kept")
    ]


def write_notes(path: Path) -> Path:
    """The documents as text to be modelled, an empty line between them."""
    path.write_text("\n\n".join(notes()) + "\n", encoding="utf-8")
    return path


def save_model(folder: Path, poison: bool = False) -> Path:
    """A random BERT of two layers with a WordPiece tokenizer, saved as transformers saves one.

    With `poison`, the layer that only a classification head reads is full of NaN: the untouched model can still be
    measured, and training meets a loss that is not a number.
    """
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    transformers.utils.logging.disable_progress_bar()
    words = sorted({word for text, _ in opinions() for word in text.lower().replace(",", " ").split()})
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters), *".,", *words]
    vocabulary = {token: code for code, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    named = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=128, **named).save_pretrained(
        folder
    )
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        pad_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.BertModel(config)
    if poison:
        with torch.no_grad():
            model.pooler.dense.weight.fill_(float("nan"))
    model.save_pretrained(folder, safe_serialization=True)
    return folder


def write_topics(folder: Path) -> Path:
    """Another task on the same texts: is it about an object or about an occasion?"""
    objects = ("soup", "keyboard", "album", "bicycle", "novel", "coat", "manual", "coffee")
    rows = [(text, "object" if any(word in text for word in objects) else "occasion") for text, _ in opinions()]
    start = 0
    for split, size in SIZES.items():
        write_rows(folder / f"{split}.csv", rows[start : start + size])
        start += size
    return folder


def grouped_spec(task, **fields):
    small = {"model": "tiny", "eval_limit": 20, "max_length": 24, "batch_size": 8, "epochs": 1.0}
    if not METHODS[fields["method"]].trains:
        small = {name: small[name] for name in ("model", "eval_limit", "max_length")}
    return Experiment(task=task, group_columns=["who"], label_words=toy.LABEL_WORDS, **small | fields)
