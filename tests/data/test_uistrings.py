"""uistrings: pairs as a reader sees them, nothing of a test in training, and a clear word where a catalog is broken."""

import sys
from collections import Counter

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo

from ftlib.core.errors import FtlibError
from ftlib.data import uistrings
from ftlib.data.installed import NearDuplicates
from ftlib.data.registry import load_task
from ftlib.data.task import SPLITS
from ftlib.data.uistrings import PLACEHOLDER, Pair, catalogs, fit, messages, pairs, unmarked

PO = """msgid ""
msgstr "Content-Type: text/plain; charset=UTF-8\\n"

msgctxt "menu"
msgid "Open the file"
msgstr "Datei öffnen"

#, fuzzy
msgid "Close the file"
msgstr "Ungewiss"

msgid "Not yet translated"
msgstr ""

msgid "%d file was found"
msgid_plural "%d files were found"
msgstr[0] "%d Datei wurde gefunden"
msgstr[1] "%d Dateien wurden gefunden"

#~ msgid "No longer used"
#~ msgstr "Nicht mehr benutzt"
"""

FOUND = [
    Pair("Open the file", "Datei öffnen"),
    Pair("%d file was found", "%d Datei wurde gefunden"),
    Pair("%d files were found", "%d Dateien wurden gefunden"),
]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with two catalogs, one compiled and one not; and one of another language."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for place, content in (("app/locale/de", PO), ("app/admin/locale/de_DE", PO), ("app/locale/fr", "not a catalog")):
        folder = tmp_path / place / "LC_MESSAGES"
        folder.mkdir(parents=True)
        (folder / "app.po").write_text(content, encoding="utf-8")
    (tmp_path / "app" / "__init__.py").write_text("raise RuntimeError('imported')")
    compiled = Catalog(locale="de")
    compiled.add("Say yes now", "Ja sagen")
    compiled.add(("%s day left", "%s days left"), ("%s Tag übrig", "%s Tage übrig"))
    with (tmp_path / "app/admin/locale/de_DE/LC_MESSAGES/app.mo").open("wb") as file:
        write_mo(file, compiled)
    return tmp_path / "app"


def test_compiled_catalogs_are_read_first_and_sources_where_there_is_nothing_else(package):
    assert [path.relative_to(package).as_posix() for path in catalogs("app")] == [
        "admin/locale/de_DE/LC_MESSAGES/app.mo",
        "locale/de/LC_MESSAGES/app.po",
    ]
    found = list(pairs(("app",)))
    assert set(found[:3]) == {
        Pair("Say yes now", "Ja sagen"),
        Pair("%s day left", "%s Tag übrig"),
        Pair("%s days left", "%s Tage übrig"),
    }
    assert found[3:] == FOUND and "app" not in sys.modules


@pytest.mark.parametrize("name, content", [("app.mo", b"\xde\x12\x04\x95\xff\xff"), ("app.po", b'msgid "x\nmsg')])
def test_a_broken_catalog_is_named(package, name, content):
    path = package / "locale/de/LC_MESSAGES" / name
    path.write_bytes(content)
    with pytest.raises(FtlibError, match=rf"{name} cannot be read as a message catalog"):
        list(messages(path))


def test_a_package_that_is_not_there_is_said_to_be_missing(monkeypatch):
    monkeypatch.setattr(uistrings, "DOMAINS", {"here": ("no_such_package",)})
    with pytest.raises(FtlibError, match="uistrings: reads .* missing: no_such_package; do: pip install"):
        uistrings.load()
    with pytest.raises(FtlibError, match="json has no German message catalog"):
        catalogs("json")
    with pytest.raises(FtlibError, match="leave out text_column"):
        uistrings.load(text_column="msgid")


@pytest.mark.parametrize(
    "raw, plain",
    [
        (("&Open file", "Datei ö&ffnen"), ("Open file", "Datei öffnen")),
        (("&Open file", "Datei öffnen"), ("&Open file", "Datei öffnen")),
        (("see ?a=1&b=2", "siehe ?a=1&b=2"), ("see ?a=1&b=2", "siehe ?a=1&b=2")),
        (("E&xit", "&Beenden"), ("Exit", "Beenden")),
        (("_Copy", "_Kopieren"), ("Copy", "Kopieren")),
        (("Save & close", "Speichern & schließen"), ("Save & close", "Speichern & schließen")),
        (("R&D", "F&E"), ("R&D", "F&E")),
        (("a &nbsp; b", "c &nbsp; d"), ("a &nbsp; b", "c &nbsp; d")),
        (("a snake_case name", "ein snake_case-Name"), ("a snake_case name", "ein snake_case-Name")),
    ],
)
def test_marks_of_shortcuts_go_and_other_signs_stay(raw, plain):
    assert unmarked(Pair(*raw)) == Pair(*plain)


@pytest.mark.parametrize(
    "text, found",
    [
        ("%(count)d of %(name)s", ["%(count)d", "%(name)s"]),
        ("%s: 100% sure, %1$s and %2", ["%s", "%1$s", "%2"]),
        ("{} {name} ${value} {0:.2f} {not this}", ["{}", "{name}", "${value}", "{0:.2f}"]),
        ('see <a href="{}">this</a>, 1 < 2 > 0', ['<a href="{}">', "</a>"]),
    ],
)
def test_what_a_program_fills_in_is_told_from_text(text, found):
    assert PLACEHOLDER.findall(text) == found


def test_pairs_that_do_not_fit_are_left_out():
    good = Pair("Delete %(name)s?  Really\n delete?", "%(name)s löschen? Wirklich?")
    bad = [
        Pair("Open", "Öffnen"),
        Pair("%(count)d items %(x)s", "%(count)d Elemente"),
        Pair("URL Patterns", "URL patterns"),
        Pair("word " * 61, "Wort " * 61),
        Pair("delete %(other)s! Really delete.", "%(other)s wirklich löschen!"),
        Pair("Something else", "%(name)s löschen? Wirklich?".replace("%(name)s", "").strip()),
    ]
    found = list(fit(iter([good, *bad]), NearDuplicates(), NearDuplicates()))
    assert found == [Pair("Delete %(name)s? Really delete?", "%(name)s löschen? Wirklich?")]


@pytest.fixture(scope="module")
def task():
    return load_task("uistrings")


def test_two_domains_of_enough_strings(task):
    sizes = {name: len(frame) for name, frame in [*task.splits.items(), *task.tests.items()]}
    assert list(sizes) == ["train", "validation", "test", "websites"]
    assert sizes["train"] > 400 and sizes["validation"] > 50 and sizes["test"] > 150 and sizes["websites"] > 200
    assert len(task.old) > 400
    assert task.kind == "text-to-text" and task.labels == ()
    assert "BSD" in task.licence and "django 5" in task.source and "uistrings" in task.card


def test_no_string_family_or_translation_is_in_two_parts(task):
    parts = [*task.splits.values(), *task.tests.values(), task.old]
    for frame in parts:
        assert list(frame.columns) == ["id", "text", "label", "cluster"] and frame["id"].is_unique
    for column in ("id", "text", "label"):
        assert max(Counter(value for frame in parts for value in frame[column].str.casefold()).values()) == 1
    families = [set(task.splits[split]["cluster"]) for split in SPLITS]
    assert not families[0] & families[1] and not families[0] & families[2] and not families[1] & families[2]
    assert not set(task.old["cluster"]) & set(task.tests["websites"]["cluster"])


def test_every_placeholder_of_the_english_is_in_the_german(task):
    for frame in [*task.splits.values(), *task.tests.values(), task.old]:
        for text, label in zip(frame["text"], frame["label"], strict=True):
            assert Counter(PLACEHOLDER.findall(text)) == Counter(PLACEHOLDER.findall(label))
            assert text.strip() and label.strip() and "\n" not in text + label


PUBLISHED = {
    **{"django": "5.2.19", "rest_framework": "3.18.3", "allauth": "65.22.1"},
    "jupyterlab_language_pack_de_DE": "4.5.post3",
}


def test_the_data_of_these_versions_is_what_it_has_always_been(task):
    assert uistrings.load().sha256 == task.sha256
    if task.stated["packages"] != PUBLISHED:
        pytest.skip("other versions of the packages are installed")
    assert task.sha256 == "9a8d62f60fced1a3e8057c1e65eae2be0da181af7e5359fcb8bf4bb813b15129"
