"""The text of the probe "general": of the stated size, screened, and made by the script beside it."""

import doctest
import runpy
import sys

import pytest
from conftest import ROOT

from ftlib.core.errors import FtlibError
from ftlib.data import general
from ftlib.data.task import text_bytes

FOLDER = ROOT / "data" / "general"
CORPUS = ROOT.parent / "shared" / "corpus" / "english_pretrain.valid.txt"
SENTENCES = ("The river rose in the night and took the bridge away.", "Mr. Hardy had seen it from his window, he said.")


@pytest.fixture(scope="module")
def excerpts():
    return general.load_general()


@pytest.fixture(scope="module")
def script():
    """The names of data/general/make.py, which is no part of the package."""
    return runpy.run_path(str(FOLDER / "make.py"), run_name="make")


def document(number: int) -> str:
    """A document of six paragraphs, in words of its own."""
    words = [f"{first}{second}" for first in "bcdfgh" for second in ("aro", "ilu", "ena")]
    own = [" ".join(f"{word}{chr(97 + number)}{chr(97 + place)}" for word in words) for place in range(6)]
    return "\n".join(f"{paragraph.capitalize()}. {' '.join(SENTENCES)}" for paragraph in own)


def test_the_excerpts_are_as_the_card_says(excerpts):
    assert list(excerpts.columns) == ["id", "text", "cluster"] and len(excerpts) == 96
    assert excerpts["id"].is_unique and excerpts["text"].is_unique and excerpts["cluster"].is_unique
    each = excerpts["text"].map(lambda text: len(text.encode()))
    card = (FOLDER / "CARD.md").read_text(encoding="utf-8")
    assert f"{each.min()} to {each.max() // 1000} {each.max() % 1000:03} bytes" in card
    assert f"{text_bytes(excerpts['text']) // 1000} {text_bytes(excerpts['text']) % 1000:03} bytes of text" in card
    for words in ("CC BY-SA 4.0", "OpenStax, Rice University, CC BY 4.0", "OneStopEnglish", "Screened for slurs"):
        assert words in card


def test_every_excerpt_is_sound(excerpts, script):
    assert all(script["is_sound"](text) for text in excerpts["text"])
    assert not script["is_sound"]("A sentence with a " + min(script["SLURS"]) + " in it.")


def test_the_script_is_deterministic_and_takes_one_excerpt_of_a_document(script):
    documents = [document(number) for number in range(5)]
    made = script["make"](documents, 5)
    assert made == script["make"](documents, 5)
    assert all(text in whole and whole.count(text) == 1 for text, whole in zip(made, documents, strict=True))
    assert all(700 <= len(text.encode()) <= 1150 and text.endswith((".", '"')) for text in made)
    with pytest.raises(FtlibError, match="5 documents have an excerpt .* needs 6"):
        script["make"]([*documents, documents[0], "Too short."], 6)


@pytest.mark.skipif(not CORPUS.is_file(), reason=f"needs the corpus {CORPUS}")
def test_the_file_is_what_the_script_makes_of_the_corpus(script):
    split = script["split_documents"](CORPUS.read_text(encoding="utf-8"))
    assert "\n\n".join(script["make"](split)) + "\n" == (FOLDER / "general.txt").read_text(encoding="utf-8")


def test_the_examples_in_the_script(script):
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    found = [test for name in ("whole_sentences", "is_sound") for test in finder.find(script[name], globs=script)]
    assert [runner.run(test).failed for test in found] == [0, 0]


def test_the_script_says_what_it_needs(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["make.py"])
    with pytest.raises(SystemExit):
        script["main"]()
    assert "corpus" in capsys.readouterr().err


def test_an_installation_without_the_file_says_so(monkeypatch):
    monkeypatch.setattr(general, "data_file", lambda name, file: None)
    with pytest.raises(FtlibError, match="data/general/general.txt, is not in this installation"):
        general.load_general()
