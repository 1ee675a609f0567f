"""What is odd about documents to be modelled: signs of a wrong encoding, characters that are no text, sizes."""

import re
from collections.abc import Iterator

import pandas as pd

SHORT_BYTES = 50
"""A shorter document is a heading or a remnant."""

LONG_BYTES = 4000
"""About 1,000 tokens of English."""

# A first byte of UTF-8 read as Latin-1 or Windows-1252, and what may follow it there.
_MOJIBAKE = re.compile(
    "[\u00c2\u00c3\u00c5][\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u2018-\u2022]"
    "|\u00e2\u20ac|\u00e2\u0080|\u00ef\u00bb\u00bf"
)
_LOST = re.compile("\ufffd")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")


def broken(table: pd.DataFrame) -> Iterator[str]:
    """Signs that documents are not what their author wrote, a sentence each.

    Args:
        table: A row per document, with `id`, `text` and `split`.

    >>> table = pd.DataFrame({"id": ["a", "b"], "text": ["Un cafÃ©.", "Un café."], "split": "train"})
    >>> print(*broken(table))
    documents of UTF-8 read as another encoding: 1 of 2, e.g. "Un cafÃ©." (train, id a); write them anew
    """
    rewrite = "write them anew"
    for pattern, said, do in (
        (_MOJIBAKE, "of UTF-8 read as another encoding", rewrite),
        (_LOST, "with U+FFFD, a character lost when the file was written", rewrite),
        (_CONTROL, "with control characters", "remove those"),
    ):
        found = table[table["text"].str.contains(pattern)]
        if len(found):
            text, split, name = found[["text", "split", "id"]].iloc[0]
            place = pattern.search(text).start()  # type: ignore[union-attr]
            around = example(text[max(0, place - 20) : place + 20])
            yield f"documents {said}: {len(found)} of {len(table)}, e.g. {around} ({split}, id {name}); {do}"


def sizes(table: pd.DataFrame) -> Iterator[str]:
    """Documents too short to say much, or so long that they are read in pieces, a sentence for each split.

    Args:
        table: A row per document, with `text` and `split`.
    """
    for split, texts in table.groupby("split", sort=False)["text"]:
        n_bytes = texts.map(lambda text: len(text.encode()))
        if short := int((n_bytes < SHORT_BYTES).sum()):
            first = example(texts[n_bytes < SHORT_BYTES].iloc[0])
            yield f"{split} documents of under {SHORT_BYTES} bytes: {short} of {len(texts)}, e.g. {first}"
        if long := int((n_bytes > LONG_BYTES).sum()):
            yield f"{split} documents of over {LONG_BYTES} bytes: {long} of {len(texts)}; models read them in pieces"


def example(text: str) -> str:
    """A text in quotes on one line, cut where it is long.

    >>> example("Two  words,   and more"), len(example("word " * 99))
    ('"Two words, and more"', 62)
    """
    shown = " ".join(text.split())
    return f'"{shown}"' if len(shown) <= 60 else f'"{shown[:57]}..."'
