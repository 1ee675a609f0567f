"""Make general.txt and old.txt: short excerpts of ordinary English, each from a document of its own.

    python data/general/make.py VALIDATION.txt
    python data/general/make.py TRAIN.txt --count 1000 --out old.txt

A corpus holds one paragraph per line and an empty line after each document. The same corpus gives the same file.
"""

import argparse
import codecs
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ftlib.core.errors import FtlibError
from ftlib.data.general import split_documents
from ftlib.data.installed import NearDuplicates
from ftlib.data.tabular import decoded

EXCERPTS = 96
FEWEST_BYTES, MOST_BYTES = 700, 1150

# Written in ROT13: a list of slurs is to be checked, not to be read in passing.
SLURS = frozenset(
    codecs.decode(
        "oynpxnzbbe pbyberq pbybherq puvanzna puvanzra puvax puvaxf pbba pbbaf pevccyr pevccyrf qntb qntbrf "
        "qnexvr qnexvrf qnexl qlxr rfxvzb snt sntf snttbg snttbgf tvcfvrf tvcfl tbbx tbbxf tlcfvrf tlcfl "
        "unysoerrq ubggragbg vzorpvyr vawha vawhaf wnc wncf wrjrff xnssve xnssvef xnsve xvxr xvxrf zhynggb "
        "arterff arteb artebrf avttn avttre avttref avten bpgbebba bevragnyf cnxv cnxvf cncvfg cvppnavaal "
        "cvpxnavaal dhnqebba erqfxva erqfxvaf ergneq ergneqrq fnintrf furral fcvp fcvpf fdhnj fdhnjf genaal "
        "jbt jbtf jbc jbcf lvq lvqf",
        "rot13",
    ).split()
)

# A title's full stop ends no sentence, nor does that of an initial.
_SENTENCE_END = re.compile(
    r"(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bSt)(?<!\b[A-Z])(?<!\bvs)[.!?][\"')\]]*(?=\s+[\"'(]?[A-Z]|$)"
)

_OPENING = re.compile(r"[\"'( ]*[A-Z0-9]")
_LOST = re.compile(r"[a-z]\?[A-Za-z]|\ufffd")  # A character lost in some earlier copy of the text.
_REFERENCE = re.compile(r"\b(?:19|20)\d\d\. [A-Z]")


def make(documents: Iterable[str], count: int = EXCERPTS) -> list[str]:
    """One excerpt of each document that has one, until there are enough.

    Raises:
        FtlibError: Fewer than `count` documents have an excerpt.
    """
    near, made = NearDuplicates(), []
    for document in documents:
        # Two versions of one news story are two documents, and one would be measured twice.
        text = next((text for text in excerpts(document) if near.add(text)), None)
        if text:
            made.append(text)
        if len(made) == count:
            return made
    raise FtlibError(f"{len(made)} documents have an excerpt of {FEWEST_BYTES} to {MOST_BYTES} bytes; needs {count}")


def excerpts(document: str) -> Iterator[str]:
    """Excerpts of one document, in an order that its content decides; each begins where a paragraph does.

    Not the document's beginning: textbooks open with lists of what is to be learned.
    """
    paragraphs = document.split("\n")
    start = int(hashlib.sha256(document.encode()).hexdigest(), 16)
    for step in range(len(paragraphs)):
        place = (start + step) % len(paragraphs)
        text = whole_sentences("\n".join(paragraphs[place:]))
        if is_sound(text) and len(text.encode()) >= FEWEST_BYTES:
            yield text


def is_sound(text: str) -> bool:
    """Whether a text begins where a sentence does, has lost no character, is no bibliography and holds no slur.

    >>> is_sound("A half-open door."), is_sound("A half?open door."), is_sound("and so it ended.")
    (True, False, False)
    """
    references = len(_REFERENCE.findall(text))
    words = set(re.findall(r"[a-z]+", text.lower()))
    return bool(_OPENING.match(text)) and not _LOST.search(text) and references < 3 and not SLURS & words


def whole_sentences(text: str, most: int = MOST_BYTES) -> str:
    """The sentences a text begins with, `most` bytes at most.

    >>> whole_sentences("It is. So Mr. Hardy said. Or did he?", most=28), whole_sentences("It is.", most=5)
    ('It is. So Mr. Hardy said.', '')
    """
    ends = [found.end() for found in _SENTENCE_END.finditer(text) if len(text[: found.end()].encode()) <= most]
    return text[: ends[-1]] if ends else ""


def main() -> None:
    """Write the excerpts beside this file."""
    parser = argparse.ArgumentParser(description=make.__doc__)
    parser.add_argument("corpus", type=Path, help="a paragraph per line, an empty line after each document")
    parser.add_argument("--count", type=int, default=EXCERPTS, help="excerpts")
    parser.add_argument("--out", default="general.txt", help="the file's name")
    options = parser.parse_args()
    made = make(split_documents(decoded(options.corpus, options.corpus.name)), options.count)
    Path(__file__).with_name(options.out).write_text("\n\n".join(made) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
