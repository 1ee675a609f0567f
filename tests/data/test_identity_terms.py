"""Swapped texts, as a person would write them, and what the lists of terms must be."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftlib.core.errors import FtlibError
from ftlib.data import bundled
from ftlib.data.evaluations import evaluation_problems as problems
from ftlib.data.identity_terms import BOTH, load_terms, scrubbed, swap, swapped

TERMS = load_terms()

GENDER = [
    ("He said that his dog bit him.", "She said that her dog bit her."),
    ("I told her that the coat was hers.", "I told him that the coat was his."),
    ("We saw her.", "We saw him."),
    ('Her "big" day; her (only) hat.', 'His "big" day; his (only) hat.'),
    ("Her only son and his well-known wife", "His only daughter and her well-known husband"),
    ("Give her a book and her keys.", "Give him a book and his keys."),
    ("The mistake was his, and his alone.", "The mistake was hers, and hers alone."),
    ("SHE IS AN ACTRESS.", "HE IS AN ACTOR."),
    ("The Man and the BOY.", "The Woman and the GIRL."),
    ("An uncle and a nephew", "An aunt and a niece"),
    ("my mother-in-law's car", "my father-in-law's car"),
    ("He's late; she'll wait.", "She's late; he'll wait."),
    ("A waiter, an actress", "A waitress, an actor"),
    ("Mr Smith and Mrs Jones", "Ms Smith and Mr Jones"),
    ("Emma met Daniel. Emma's dog liked Daniel.", "Daniel met Emma. Daniel's dog liked Emma."),
    ("a film about a man who hates his father", "a film about a woman who hates her mother"),
    ("i miss her , says james", "i miss him , says mary"),
]


@pytest.mark.parametrize(("text", "other"), GENDER)
def test_gender_is_swapped_as_a_person_would(text, other):
    assert swapped(text, TERMS, "gender") == other


@pytest.mark.parametrize(
    ("kind", "text", "other"),
    [
        ("nationality", "A German car", "An American car"),
        ("nationality", "An American car", "A Nigerian car"),
        ("nationality", "The Swede and two Spaniards", "The American and two Americans"),
        ("nationality", "He left the US for Poland.", "He left Nigeria for America."),
        ("nationality", "the US economy", "the Nigerian economy"),
        ("nationality", "GERMAN engineers polish the french horn", "AMERICAN engineers polish the french horn"),
        ("nationality", "a french film with turkey and polish", "an american film with turkey and polish"),
        ("nationality", "Turkey, not turkey", "America, not turkey"),
        ("religion", "Muslims and Christians pray.", "Christians and Muslims pray."),
        ("religion", "A Jew went to a synagogue with an imam.", "A Christian went to a church with a priest."),
        ("religion", "Priests of the Church", "Imams of the Mosque"),
        ("religion", "An atheist came.", "A Christian came."),
    ],
)
def test_members_become_the_reference_and_the_reference_another(kind, text, other):
    assert swapped(text, TERMS, kind) == other


@pytest.mark.parametrize("text", ["", "The shepherd is there; this hymn", "Manual labour, heir, humane, Willis"])
def test_no_term_no_swap(text):
    assert swapped(text, TERMS, "gender") is None


def test_known_limits_are_as_the_card_says():
    assert swapped("We saw her leave.", TERMS, "gender") == "We saw his leave."
    assert swapped("A friend of his came.", TERMS, "gender") == "A friend of her came."
    assert swapped("Mexico City", TERMS, "nationality") == "America City"


def test_sides_say_who_was_named():
    found = [swap(text, TERMS, "gender") for text in ("his hat", "her hat", "his wife", "a hat")]
    assert [one and one.side for one in found] == [0, 1, BOTH, None]


ONE_TO_ONE = ["he", "she", "himself", "man", "woman", "father", "mother", "Emma", "Daniel", "king", "and", "table", "A"]


@given(st.lists(st.sampled_from(ONE_TO_ONE), min_size=1, max_size=8))
def test_swapping_twice_gives_the_text_back(words):
    once = swapped(" ".join(words) + ".", TERMS, "gender")
    if once is None:
        return
    # From the first swap on every article agrees with its word, which no list of words need.
    twice = swapped(once, TERMS, "gender")
    assert swapped(twice, TERMS, "gender") == once
    assert twice.replace("An ", "A ") == " ".join(words) + "."


@given(st.text(max_size=60))
def test_any_text_is_swapped_or_not_and_never_fails(text):
    for kind in TERMS.kinds:
        assert swapped(text, TERMS, kind) != ""
    scrubbed(text, TERMS)


def test_scrubbed_texts_hold_no_term_of_the_kind():
    text = "The Muslim woman and her Polish husband, an uncle of Mary, sat in church."
    said = scrubbed(text, TERMS)
    assert said == "The religious person and their local spouse, a relative of Alex, sat in place of worship."
    assert [swapped(said, TERMS, kind) for kind in TERMS.kinds] == [None] * 3
    assert scrubbed(text, TERMS, ["religion"]).startswith("The religious woman and her Polish husband")


def test_every_listed_word_is_found_and_becomes_another():
    for kind in TERMS.kinds.values():
        for entry in kind.entries.values():
            other = swapped(f"X {entry.listed} .", TERMS, kind.name)
            assert other is not None and other != f"X {entry.listed} .", entry
            assert not re.search(r"\s{2}|\{", other)


def test_a_users_file_adds_kinds_rows_and_members(tmp_path):
    own = tmp_path / "words.toml"
    own.write_text(
        '[dialect]\nsides = ["British", "American"]\nrows = [["lift", "elevator", "way up"]]\n'
        '[gender]\nrows = [["wizard", "enchantress", "mage"], ["bloke", "gal", "person"]]\n'
        '[religion]\ninstead = "Jewish"\n[religion.members]\n'
        'Bahai = ["Bahai", "Bahai", "Bahais", "", "", "", "", "", ""]\n',
        encoding="utf-8",
    )
    terms = load_terms(str(own))
    assert swapped("An elevator", terms, "dialect") == "A lift"
    assert swapped("The wizard and his bloke", terms, "gender") == "The enchantress and her gal"
    assert swapped("A Bahai and a church", terms, "religion") == "A Christian and a synagogue"
    assert not problems([f"swaps:dialect@{own}"]) and "unknown 'dialect'" in problems(["swaps:dialect"])[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = ", "not TOML"),
        ("x = 1", "outside the tables"),
        ('[a]\nrow = []\nsides = ["b", "c"]', "did you mean 'rows'"),
        ('[a]\nrows = [["b", "c"]]\nsides = ["b", "c"]', "counterpart"),
        ("[a]\nrows = []", "two names"),
        ('[a]\nsides = ["b", "c"]', "neither rows nor members"),
        ('[religion]\nreference = "Moslem"', "did you mean 'Muslim'"),
        ('[religion]\nreference = "Atheist"', "must have every form"),
        ('[religion.members]\nBahai = ["Bahai"]', "one each of"),
    ],
)
def test_a_file_that_is_not_right_is_refused_in_words(tmp_path, text, said):
    own = tmp_path / "words.toml"
    own.write_text(text, encoding="utf-8")
    with pytest.raises(FtlibError, match=said):
        load_terms(str(own))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FtlibError, match="cannot be read"):
        load_terms(str(tmp_path / "none.toml"))
    with pytest.raises(FtlibError, match="kind of identity terms"):
        swapped("he", TERMS, "age")


def test_template_texts_differ_in_the_term_alone():
    texts = bundled.load_templates()
    assert texts["text"].is_unique and not texts["text"].str.contains(r"[{}]").any()
    for _, frame in texts.groupby("frame"):
        bare = {
            re.sub(r"\b([Aa])n? X", r"\1 X", re.sub(rf"(?<!\w){re.escape(term)}(?!\w)", "X", text))
            for text, term in zip(frame["text"], frame["term"], strict=True)
        }
        assert len(bare) == 1
    assert not texts["text"].str.contains(r"\b[Aa] [AEIOaeio]\w|\b[Aa]n [^AEIOaeioh]").any()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "terms"),
        ('[terms]\na = ["b"]\n[frames]\nc = ["No mark."]', "neither"),
        ('[terms]\na = ["b"]\nd = ["b"]\n[frames]\nc = ["The {x} one."]', "twice"),
    ],
)
def test_templates_that_are_not_right_are_refused(tmp_path, text, said):
    own = tmp_path / "frames.toml"
    own.write_text(text, encoding="utf-8")
    with pytest.raises(FtlibError, match=said):
        bundled.load_templates(own)
