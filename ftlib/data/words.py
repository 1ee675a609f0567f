"""Where words are: in most scripts between spaces; Chinese, Japanese, Thai, Lao, Khmer and others write none."""

import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"

_SCRIPTS = {
    "Japanese": "\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f",
    "Chinese": _HAN,
    "Thai": "\u0e01-\u0e7f",
    "Lao": "\u0e80-\u0eff",
    "Khmer": "\u1780-\u17ff",
    "Burmese": "\u1000-\u109f",
    "Tibetan": "\u0f00-\u0fff",
}
"""Scripts that put no space between words: the characters of each, as a regular expression has them."""

UNSPACED = "".join(_SCRIPTS.values())
"""All characters of those scripts, to stand inside [ ]."""

MOST_READ = 2000
"""Texts that are looked at to tell a script."""

ENOUGH = 0.1
"""Share of letters in a script without spaces from which on words cannot be had."""

LONG_WORD = 25
"""Characters of a word, on average, from which on what stands between spaces is no word."""


def unspaced(texts: Iterable[str]) -> str:
    r"""The script of texts that write no spaces between words; empty where words stand between spaces.

    Texts in such a script whose words somebody has set apart by spaces are read by words.

    >>> unspaced(["这家餐厅好吃满意。"]), unspaced(["这家 餐厅 好吃 满意 。"]), unspaced(["A quiet place"])
    ('Chinese', '', '')
    >>> unspaced(["この店はとても静かです。"]), unspaced(["อาหารอร่อยมาก"])
    ('Japanese', 'Thai')
    """
    some = list(texts)[:MOST_READ]
    joined = "\n".join(some)
    counts = {name: len(re.findall(f"[{marks}]", joined)) for name, marks in _SCRIPTS.items()}
    letters = sum(character.isalpha() for character in joined)
    found = sum(counts.values())
    if not letters or found < ENOUGH * letters:
        chunks = re.findall(r"\w+", joined)
        return "text without spaces" if chunks and letters > LONG_WORD * len(chunks) else ""
    gaps = len(re.findall(f"(?<=[{UNSPACED}])[^\\S\n]+(?=[{UNSPACED}])", joined))
    # Segmented Chinese has a space at every second character, segmented Thai at every fifth.
    if gaps * 8 > found:
        return ""
    if counts["Japanese"] * 20 > found:
        return "Japanese"
    return max(counts, key=lambda name: counts[name])


@cache
def word_pattern() -> str:
    r"""A word as a regular expression: letters and digits with the marks that stand on them.

    Without the marks, which `\w` leaves out, the words of Hindi, Tamil or Arabic with vowels fall apart.

    >>> re.findall(word_pattern(), "It's हिन्दी") == ["It", "s", "हिन्दी"]
    True
    """
    marks = [
        chr(code)
        for code in range(0x300, min(0x20000, sys.maxunicode))
        if unicodedata.category(chr(code)) in ("Mn", "Mc") and not 0xFE00 <= code <= 0xFE0F
    ]
    return rf"\w[\w{''.join(marks)}]*"


def unknown_share(tokenizer: Any, texts: Sequence[str]) -> float:
    """The share of tokens that a tokenizer does not know; nan where texts have none, 0 where it knows all bytes.

    Args:
        tokenizer: Of `transformers`, or a `tokenizers.Tokenizer`.
    """
    if hasattr(tokenizer, "encode_batch"):
        model = tokenizer.model
        unknown = getattr(model, "unk_token", None)
        if unknown is None and isinstance(number := getattr(model, "unk_id", None), int):
            unknown = tokenizer.id_to_token(number)
        # A stored tokenizer may pad and cut, which is no part of what a text holds.
        tokens = [
            token
            for found in tokenizer.encode_batch(list(texts), add_special_tokens=False)
            for part in (found, *found.overflowing)
            for token, real in zip(part.tokens, part.attention_mask, strict=True)
            if real
        ]
    else:
        unknown = tokenizer.unk_token_id
        read: Callable = tokenizer
        tokens = [token for ids in read(list(texts), add_special_tokens=False)["input_ids"] for token in ids]
    if not tokens:
        return float("nan")
    return 0.0 if unknown is None else tokens.count(unknown) / len(tokens)
