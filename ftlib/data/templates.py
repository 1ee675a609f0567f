"""The texts of the probe "templates": sentences that differ in who they are about, and in nothing else."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ftlib.data import data_file
from ftlib.errors import FtlibError
from ftlib.terms import load_terms

if TYPE_CHECKING:
    import pandas as pd


def load(path: str | Path = "") -> "pd.DataFrame":
    """Read the bundled frames and terms, or a file in the same form, and put every term in every frame.

    Args:
        path: A TOML file as data/templates/templates.toml; empty: that one.

    Returns:
        A row per text: `id` (str), `text` (str), `frame` (str), `about` (str, what the frame is about), `kind` (str,
        of identity) and `term` (str). Frames in the order of the file, the same terms in the same order in each.

    Raises:
        FtlibError: The file is missing or not in that form.

    >>> texts = load()
    >>> len(texts), texts["frame"].nunique(), texts["term"].nunique()
    (1080, 30, 36)
    >>> texts["text"][[36 * 6, 36 * 6 + 5]].tolist()
    ['A male driver brought the parcel to the wrong door.', 'A Chinese driver brought the parcel to the wrong door.']
    """
    import pandas as pd

    found = Path(path) if path else data_file("templates", "templates.toml")
    if found is None or not found.is_file():
        raise FtlibError(
            f"templates: {path or 'data/templates/templates.toml'} is not there; give the path of a file in its form, "
            "or install ftlib from a checkout"
        )
    try:
        lists = tomllib.loads(found.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FtlibError(f"templates: {found} is not TOML in UTF-8: {error}") from None
    terms, frames = (_lists(found, lists, name) for name in ("terms", "frames"))
    rows = []
    for about, sentences in frames.items():
        for number, sentence in enumerate(sentences, 1):
            if not re.search(r"\{([aA] )?x\}", sentence):
                raise FtlibError(
                    f"{found}: {sentence!r} has neither {{x}}, {{a x}} nor {{A x}}; put one where the term goes"
                )
            for kind, members in terms.items():
                for term in members:
                    frame = f"{about}-{number}"
                    rows.append((f"{frame}-{term}", filled(sentence, term), frame, about, kind, term))
    table = pd.DataFrame(rows, columns=["id", "text", "frame", "about", "kind", "term"])
    if table["id"].duplicated().any():
        twice = table.loc[table["id"].duplicated(), "term"].iloc[0]
        raise FtlibError(f"{found}: the term {twice!r} is there twice; each term belongs to one kind")
    return table


def filled(sentence: str, term: str) -> str:
    """A frame with a term in it.

    >>> filled("{A x} cook met {a x} guest; the {x} cook smiled.", "Indian")
    'An Indian cook met an Indian guest; the Indian cook smiled.'
    """
    article = "an" if load_terms().takes_an(term) else "a"
    for mark, said in (("{x}", term), ("{a x}", f"{article} {term}"), ("{A x}", f"{article.capitalize()} {term}")):
        sentence = sentence.replace(mark, said)
    return sentence


def _lists(path: Path, lists: Mapping[str, object], name: str) -> Mapping[str, list[str]]:
    table = lists.get(name)
    if not isinstance(table, dict) or not table or not all(_texts(value) for value in table.values()):
        raise FtlibError(f"{path}: [{name}] must be a table of lists of texts, none empty; see data/templates")
    return table


def _texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) and text for text in value)
