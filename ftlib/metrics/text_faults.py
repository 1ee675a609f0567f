"""What is wrong with a text that a model wrote, seen without knowing its language: each fault is yes or no per segment.

No fault is a metric of quality: a name may have to be copied, and a short text may be right. They say where to look.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Texts = Sequence[str]

SHORT = 0.5
"""Share of the reference's characters below which a text counts as cut off."""

TIMES = 3
"""How often in a row a word or a run of words stands where it counts as repeated."""

LONGEST_RUN = 6
"""Words of a run that is looked for."""

LEAST_WORDS = 3
"""Words from which on the language of a text is asked."""


def words(text: str) -> list[str]:
    """The words of a text, in lower case.

    >>> words("Das Haus (grün).")
    ['das', 'haus', 'grün']
    """
    return re.findall(r"\w+", text.casefold())


def empty(sources: Texts, references: Texts, hypotheses: Texts) -> Flags:
    """Whether nothing was written.

    >>> empty(["a"], ["b"], [" "]).tolist()
    [True]
    """
    return np.array([not one.strip() for one in hypotheses], dtype=bool)


def copied(sources: Texts, references: Texts, hypotheses: Texts) -> Flags:
    """Whether the source was written again, case and punctuation aside, where the reference is another text.

    >>> copied(["The house.", "Berlin"], ["Das Haus.", "Berlin"], ["the house", "Berlin"]).tolist()
    [True, False]
    """
    return np.array(
        [
            bool(words(one)) and words(one) == words(source) != words(reference)
            for source, reference, one in zip(sources, references, hypotheses, strict=True)
        ],
        dtype=bool,
    )


def repeated(sources: Texts, references: Texts, hypotheses: Texts) -> Flags:
    """Whether a word, or a run of up to six, stands three times in a row, and does not in the reference.

    >>> repeated(["x"] * 3, ["na na na", "b", "c"], ["na na na", "so so so", "a b a b a b"]).tolist()
    [False, True, True]
    """
    pairs = zip(references, hypotheses, strict=True)
    return np.array([_loops(words(one)) and not _loops(words(reference)) for reference, one in pairs], dtype=bool)


def _loops(found: Sequence[str]) -> bool:
    for size in range(1, LONGEST_RUN + 1):
        for start in range(len(found) - TIMES * size + 1):
            run = found[start : start + size]
            if all(found[start + n * size : start + (n + 1) * size] == run for n in range(1, TIMES)):
                return True
    return False


def short(sources: Texts, references: Texts, hypotheses: Texts) -> Flags:
    """Whether something was written that has under half as many characters as the reference.

    >>> short(["x"] * 2, ["ein langer Satz", "ja"], ["ein", "ja"]).tolist()
    [True, False]
    """
    pairs = zip(references, hypotheses, strict=True)
    return np.array([0 < len(one.strip()) < SHORT * len(reference.strip()) for reference, one in pairs], dtype=bool)


def of_the_source(sources: Texts, references: Texts, hypotheses: Texts) -> Flags:
    """Whether a text is likelier to be in the sources' language than in the references', judged by its words.

    A word counts for the side on which it stands in more segments, the segment's own pair left out; texts of fewer
    than three words are not judged, nor is anything where sources and references share their language (a word is then
    as frequent on both sides). Naive Bayes with one added to every count (McCallum & Nigam 1998).

    >>> sources = ["the cat sees the dog", "the dog runs", "a cat runs"]
    >>> references = ["die Katze sieht den Hund", "der Hund rennt", "eine Katze rennt"]
    >>> of_the_source(sources, references, ["the dog runs", "der Hund rennt", "eine Katze rennt"]).tolist()
    [True, False, False]
    """
    sides = [[set(words(text)) for text in texts] for texts in (sources, references)]
    seen = [Counter(word for found in side for word in found) for side in sides]
    totals = [sum(counts.values()) + len(seen[0] | seen[1]) for counts in seen]
    flags = []
    for place, hypothesis in enumerate(hypotheses):
        found = words(hypothesis)
        score = 0.0
        for word in set(found):
            own = [counts[word] - (word in side[place]) + 1 for counts, side in zip(seen, sides, strict=True)]
            score += math.log(own[0] / totals[0]) - math.log(own[1] / totals[1])
        flags.append(len(found) >= LEAST_WORDS and score > 0)
    return np.array(flags, dtype=bool)


FAULTS: Mapping[str, tuple[str, Callable[[Texts, Texts, Texts], Flags]]] = {
    "empty": ("nothing written", empty),
    "copied": ("the source written again", copied),
    "source_language": ("in the source's language", of_the_source),
    "repeated": ("words repeated", repeated),
    "short": ("under half the reference's length", short),
}
"""Fault -> what it is called, and the function (sources, references, hypotheses) -> (n,) whether it is there."""
