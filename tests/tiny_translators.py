"""A toy text-to-text task and tiny encoder-decoders of the families that translate, with random weights; no network."""

import json
import warnings
from pathlib import Path

import tiny_models
import torch
import transformers

WORDS = {
    "the": "die", "cat": "Katze", "mouse": "Maus", "sees": "sieht", "a": "eine", "bird": "Ente", "big": "große",
    "red": "rote", "loves": "liebt", "lamp": "Lampe", "table": "Tasse", "hears": "hört",
}  # fmt: skip
NOUNS, VERBS, KINDS = ("cat", "mouse", "bird", "lamp", "table"), ("sees", "loves", "hears"), ("big", "red")


def sentences() -> list[tuple[str, str]]:
    """Pairs that are translated word by word."""
    found = []
    for first in NOUNS:
        for verb in VERBS:
            for kind in KINDS:
                for other in NOUNS:
                    english = f"the {first} {verb} a {kind} {other}"
                    found.append((english, " ".join(WORDS[word] for word in english.split())))
    return found


def write_pairs(folder: Path) -> Path:
    """A folder with train.csv, validation.csv and test.csv of source and target."""
    folder.mkdir(parents=True)
    pairs = sentences()
    parts = {"train": pairs[0::3] + pairs[1::3], "validation": pairs[2::6], "test": pairs[5::6]}
    for split, rows in parts.items():
        lines = ["source,target", *(f"{one},{other}" for one, other in rows)]
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


SIZES = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 128,
}  # fmt: skip


def build(family: str, words: int, pad: int, eos: int, bos: int) -> transformers.PreTrainedModel:
    """A model of the family with so many words, always the same, in evaluation mode."""
    ids = {"vocab_size": words, "pad_token_id": pad, "eos_token_id": eos}
    if family == "t5":
        shape = {"d_model": 32, "d_ff": 64, "d_kv": 8, "num_layers": 2, "num_heads": 4}
        config = transformers.T5Config(**ids, **shape, decoder_start_token_id=pad)
        kind = transformers.T5ForConditionalGeneration
    elif family == "marian":
        config = transformers.MarianConfig(**ids, **SIZES, decoder_start_token_id=pad, forced_eos_token_id=eos)
        kind = transformers.MarianMTModel
    elif family == "mbart":
        config = transformers.MBartConfig(**ids, **SIZES, bos_token_id=bos, decoder_start_token_id=eos)
        kind = transformers.MBartForConditionalGeneration
    else:
        config = transformers.BartConfig(**ids, **SIZES, bos_token_id=bos, decoder_start_token_id=eos)
        kind = transformers.BartForConditionalGeneration
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.2)
    if family == "marian":
        model.generation_config.bad_words_ids, model.generation_config.renormalize_logits = [[pad]], True
    return model


def tiny(family: str, folder: Path) -> Path:
    """The folder, with a model of the family and its tokenizer saved in it; Marian's is of sentencepiece."""
    own = {"marian": _marian_tokenizer, "mbart": _mbart_tokenizer}
    words = own[family](folder) if family in own else tiny_models.tokenizer()
    ids = (words.pad_token_id, words.eos_token_id, words.bos_token_id)
    build(family, len(words), *ids).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def _marian_tokenizer(folder: Path) -> transformers.MarianTokenizer:
    import sentencepiece

    folder.mkdir(parents=True)
    pieces: dict[str, int] = {"</s>": 0, "<unk>": 1}
    for side, name in enumerate(("source", "target")):
        text = folder / f"{name}.txt"
        text.write_text("\n".join(pair[side] for pair in sentences()), encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(
            input=str(text), model_prefix=str(folder / name), vocab_size=99, hard_vocab_limit=False, minloglevel=2
        )
        (folder / f"{name}.model").rename(folder / f"{name}.spm")
        for path in (text, folder / f"{name}.vocab"):
            path.unlink()
        processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{name}.spm"))
        for number in range(3, processor.get_piece_size()):
            pieces.setdefault(processor.id_to_piece(number), len(pieces))
    pieces["<pad>"] = len(pieces)
    (folder / "vocab.json").write_text(json.dumps(pieces, ensure_ascii=False), encoding="utf-8")
    spm = (str(folder / "source.spm"), str(folder / "target.spm"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Recommended: pip install sacremoses", UserWarning)
        return transformers.MarianTokenizer(*spm, vocab=str(folder / "vocab.json"), source_lang="en", target_lang="de")


def _mbart_tokenizer(folder: Path) -> transformers.MBartTokenizer:
    """Whole words, and the names of mBART's languages."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    known = sorted({word for pair in sentences() for side in pair for word in side.split()})
    vocab = [(one, 0.0) for one in special] + [("▁", -2.0)] + [(f"▁{word}", -1.0) for word in known]
    return transformers.MBartTokenizer(vocab=vocab)


def decoder(family: str, words: int, pad: int, eos: int, bos: int) -> transformers.PreTrainedModel:
    """A decoder with so many words, always the same, in evaluation mode."""
    ids = {"vocab_size": words, "pad_token_id": pad, "eos_token_id": eos, "bos_token_id": bos}
    kind, shape = tiny_models.FAMILIES[family]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(kind.config_class(**ids, **shape)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.2)
    return model
