"""How well the bundled language model predicts text that it has not seen: bits per byte, protocol beside it.

    python benchmarks/bench_language_model.py [MODEL] [--bytes 300000]

Its own validation text and WikiText-2 (test) are read from `../shared`; a text that is not there is said to be missing.
WikiText-2 is stored word by word, spaces around every sign; "detokenised" undoes that (`detokenised` below).
"""

import argparse
import re
import time
from pathlib import Path

import pandas as pd
import torch

from ftlib.data import general
from ftlib.metrics.registry import measure_text
from ftlib.models.loading import load_model
from ftlib.models.score import protocol, score_text

SHARED = Path(__file__).resolve().parents[2] / "shared"
CONTEXT, STRIDE = 512, 256


def paragraphs(path: Path) -> list[str]:
    """Documents of a corpus: paragraphs by line, an empty line after each document."""
    return [part.strip() for part in path.read_text(encoding="utf-8").split("\n\n") if part.strip()]


def articles(path: Path) -> list[str]:
    """Articles of WikiText: each begins with a heading of one equals sign."""
    text = path.read_text(encoding="utf-8")
    starts = [match.start() for match in re.finditer(r"^ = [^=].*[^=] = $", text, re.M)]
    return [text[start:end].strip() for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]


def detokenised(text: str) -> str:
    r"""Spaces where a writer puts them; a word that WikiText replaced by <unk> stays as that.

    >>> detokenised('He said , " the well @-@ known 1 @,@ 000 ( sic ) . " \n = Early life = \n')
    'He said, "the well-known 1,000 (sic)."\nEarly life'
    """
    text = re.sub(r" @([-,.])@ ", r"\1", text)
    text = re.sub(r"^ *(?:= )+(.*?)(?: =)+ *$", r"\1", text, flags=re.M)
    text = re.sub(r' " ([^"\n]*?) "(?= |$)', r' "\1"', text, flags=re.M)
    text = re.sub(r" ([,.;:!?%)\]}]|'s\b|'t\b|n't\b|'re\b|'ve\b|'ll\b|'d\b|'m\b)", r"\1", text)
    text = re.sub(r"([(\[{$£€]) ", r"\1", text)
    text = re.sub(r'([,.;:!?]) "(?=[ \n]|$)', r'\1"', text)
    return re.sub(r"[ \t]*\n[ \t\n]*", "\n", text).strip()


def measured(name: str, texts: list[str], model, module, most: int) -> None:
    """Print a text's bits per byte and perplexity, from its first documents of `most` bytes together."""
    sizes = pd.Series([len(text.encode()) for text in texts]).cumsum()
    texts = texts[: max(2, int((sizes <= most).sum()))]
    start = time.perf_counter()
    found = score_text(module, model.tokenizer, texts, context=CONTEXT, stride=STRIDE)
    seconds = time.perf_counter() - start
    leaves = measure_text(found.assign(cluster=None), protocol=protocol(context=CONTEXT, stride=STRIDE, bos=True))
    bits, per_token = leaves["bits_per_byte"], leaves["perplexity"]
    print(
        f"{name:42s} {bits['value']:.4f} bits/byte ({bits['low']:.3f} to {bits['high']:.3f})  perplexity "
        f"{per_token['value']:.1f}  n {bits['n']} documents, {found['n_bytes'].sum():,} bytes  {seconds:.0f} s",
        flush=True,
    )


def main() -> None:
    """Measure the model on every text that is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="tiny-lm")
    parser.add_argument("--bytes", type=int, default=300_000, help="of each text; 0: all")
    args = parser.parse_args()
    model = load_model(args.model, threads=torch.get_num_threads())
    module, most = model.speaker(), args.bytes or 10**12
    print(f"{model}\n{protocol(context=CONTEXT, stride=STRIDE, bos=True)}")
    measured("general (bundled excerpts)", general.load_general()["text"].tolist(), model, module, most)
    valid, wiki = SHARED / "corpus" / "english_pretrain.valid.txt", SHARED / "data" / "wikitext2" / "test.txt"
    if valid.exists():
        measured("validation text of its corpus", paragraphs(valid), model, module, most)
    else:
        print(f"validation text: not here ({valid.name})")
    if wiki.exists():
        found = articles(wiki)
        measured("WikiText-2 test, as stored", found, model, module, most)
        clean = [detokenised(text) for text in found]
        measured("WikiText-2 test, detokenised", clean, model, module, most)
        without = [re.sub(r" ?<unk>", "", text) for text in clean]
        measured("WikiText-2 test, detokenised, without <unk>", without, model, module, most)
    else:
        print(f"WikiText-2: not here ({wiki.name})")


if __name__ == "__main__":
    main()
