"""What is written out in data/: the tasks reviews and bios, and sentences made from templates.

reviews and bios were written for this project, one file and one card each. Templates give sentences that differ in who
they are about, and in nothing else.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ftlib.core.errors import FtlibError, unknown
from ftlib.data.identity_terms import load_terms
from ftlib.data.labels import Columns, frame, ordered, refuse_empty, words_for
from ftlib.data.tabular import read_rows
from ftlib.data.task import SPLITS, Task, data_file, make_task, read_card

LICENCE = "Apache-2.0, as the repository"

SOURCE = "written for this project in 2026 by a language model in thirteen roles (see the card); invented people"


class Written(NamedTuple):
    """What is said about a task beside its file, where there is something to say."""

    template: str = "This text is about {label}."
    groups: tuple[str, ...] = ()
    """The group columns it comes with; none has to be asked for, since whom a method treats worse is its question."""
    others: tuple[str, ...] = ()
    """Columns that may be asked for as groups, too."""
    caution: str = ""


WRITTEN: Mapping[str, Written] = {
    "reviews": Written(
        template="The customer's opinion is {label}.",
        groups=("mentions",),
        others=("domain", "author"),
        caution="Each identity is mentioned in 17 to 26 test texts only, and such texts are harder: read groups with "
        "their intervals, and compare methods.",
    ),
    "bios": Written(
        template="This person's occupation is {label}.",
        groups=("gender",),
        others=("author",),
        caution="Train is skewed on purpose: 80 % of each occupation are of one gender, on test 50 %.",
    ),
}


def load(
    name: str,
    *,
    label_words: Mapping[str, str] | None = None,
    text_column: str = "",
    label_column: str = "",
    group_columns: Sequence[str] = (),
) -> Task:
    """Read reviews, bios, or another task that is one file of `data/`.

    Args:
        group_columns: Which of the task's group columns to take; empty: those it comes with.

    Returns:
        The task; what the file calls neither train, validation nor test are its other test sets.

    Raises:
        FtlibError: The file is not in this installation, or a column was asked for that it does not have.

    >>> task = load("reviews")
    >>> task, {name: len(rows) for name, rows in task.tests.items()}
    (Task(reviews, classification, 2 labels, train 1266, validation 96, test 720), {'clinic': 550})
    """
    written = WRITTEN.get(name, Written())
    if text_column not in ("", "text") or label_column not in ("", "label"):
        raise FtlibError(f"{name}: its columns are text and label; leave text_column and label_column out")
    refuse_empty(group_columns)
    for column in group_columns:
        if column not in (known := (*written.groups, *written.others)):
            raise unknown(f"{name}: group_columns", column, known)
    path = data_file(name, f"{name}.jsonl")
    if path is None:
        raise FtlibError(
            f"{name}: its texts, data/{name}/{name}.jsonl, are not in this installation; install ftlib from a checkout"
        )
    table = read_rows(path)
    groups = tuple(group_columns) or written.groups
    whole = frame(table, Columns("text", "label", groups, guessed=()), own_ids=True)
    split = pd.Series(table.column("split"))
    parts = {part: whole[split == part].reset_index(drop=True) for part in dict.fromkeys(split)}
    labels = ordered(whole["label"])
    return make_task(
        name,
        {part: parts.pop(part) for part in SPLITS},
        labels,
        words_for(name, labels, label_words),
        tests=parts,
        template=written.template,
        group_columns=groups,
        licence=LICENCE,
        source=SOURCE,
        card=read_card(name),
        caution=written.caution,
        stated={"group_columns": list(groups)},
    )


def load_genders() -> pd.DataFrame:
    """English sentences about a person whose gender a pronoun tells, and the German nouns that say it (data/genders).

    Returns:
        A row per sentence: `text`, `occupation`, `gender` (women or men), `stereotype` (whose work people take it for),
        `feminine` and `masculine`, nouns separated by bars. Sentences that differ in the pronoun alone follow each
        other.

    >>> load_genders()["text"][:2].tolist()
    ['The doctor hurt herself at work yesterday.', 'The doctor hurt himself at work yesterday.']
    """
    path = data_file("genders", "sentences.csv")
    if path is None:
        raise FtlibError(
            "genders: its sentences, data/genders/sentences.csv, are not in this installation; "
            "install ftlib from a checkout, or leave the evaluation out"
        )
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def load_templates(path: str | Path = "") -> pd.DataFrame:
    """Read the bundled frames and terms, or a file in the same form, and put every term in every frame.

    Args:
        path: A TOML file as data/templates/templates.toml; empty: that one.

    Returns:
        A row per text: `id` (str), `text` (str), `frame` (str), `about` (str, what the frame is about), `kind` (str,
        of identity) and `term` (str). Frames in the order of the file, the same terms in the same order in each.

    Raises:
        FtlibError: The file is missing or not in that form.

    >>> texts = load_templates()
    >>> len(texts), texts["frame"].nunique(), texts["term"].nunique()
    (1080, 30, 36)
    >>> texts["text"][[36 * 6, 36 * 6 + 5]].tolist()
    ['A male driver brought the parcel to the wrong door.', 'A Chinese driver brought the parcel to the wrong door.']
    """
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
