"""The page in a real browser: axe-core objects to nothing, nothing is said or asked for, and searching works."""

import browser
import pytest
from conftest import drawn
from groups import LABELS, give_groups
from synthetic import TEXTS, TYPICAL, Made, write_study

from ftlib.report import build

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not browser.browser(), reason="no Chromium or Chrome on PATH: apt-get install chromium"),
    pytest.mark.skipif(not browser.axe(), reason="axe-core is not installed: pip install axe-core-python"),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Reports of labels with groups, of two labels, and of text."""
    folder, found = tmp_path_factory.mktemp("pages"), []
    made = (*TYPICAL[:4], Made("lora", 1.6, (0, 1, 2)), Made("full", 2.2, (0, 1, 2)))
    found.append(give_groups(write_study(folder / "groups", made, labels=LABELS, n=120), {"full": 0.5}))
    found.append(write_study(folder / "two", made, labels=("no", "yes"), n=120, texts=TEXTS))
    with drawn():
        return [build.build(study) for study in found]


@pytest.fixture(scope="module")
def tab():
    with browser.tab(browser.browser()) as found:
        yield found


OPEN = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1440, 768, 390])
def test_axe_finds_no_violation_and_the_page_asks_for_nothing(pages, tab, width, dark):
    for page in pages:
        tab.said.clear(), tab.asked.clear()
        tab.open(page, width, dark=dark)
        tab.run(OPEN)
        assert tab.run("document.documentElement.scrollWidth") <= width, "nothing lies beside the screen"
        tab.run(browser.axe())
        found = tab.run(
            "axe.run().then((told) => told.violations.map((one) => one.id + ': ' + one.nodes.map((n) => n.html)))"
        )
        assert found == []
        assert [url for url in tab.asked if not url.startswith(("data:", "file:"))] == []
        assert len([url for url in tab.asked if url.startswith("file:")]) == 1 and tab.said == []


def test_searching_finds_the_example_and_filters_by_who_is_right(pages, tab):
    tab.open(pages[0], 1440)
    told = "document.querySelector('.told').textContent"
    assert tab.run(told).startswith("120 of 120 examples")
    tab.run("document.querySelector('.words').value = 'test-00007'")
    tab.run("document.querySelector('.find').dispatchEvent(new Event('input'))")
    assert tab.run(told).startswith("1 of 120 examples")
    tab.run("document.querySelector('.words').value = ''; document.querySelector('.b').value = '0'")
    tab.run("document.querySelector('.find').dispatchEvent(new Event('input'))")
    wrong = int(tab.run(told).split()[0])
    assert 0 < wrong < 60
    assert tab.run("document.querySelectorAll('.finder > ul > li').length") == min(wrong, 20)


def test_without_scripts_everything_else_is_there_and_links_open_what_they_name(pages, tab):
    tab.open(pages[0], 1440, scripts=False)
    assert tab.run("document.querySelector('.finder').hidden") is True
    assert tab.run("document.querySelectorAll('article').length") > 3
    tab.do("Page.navigate", url=pages[0].resolve().as_uri() + "#confidence")
    assert tab.run("document.querySelector('#confidence').closest('details').open") is True


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (768, 1024), (390, 844)])
def test_page_one_is_at_most_three_screens(pages, tab, width, height):
    tab.open(pages[0], width)
    details = tab.run("document.querySelector('nav').getBoundingClientRect().top + window.scrollY")
    assert details <= 3 * height
    # What stands beside the verdict is read without a touch where there is room for it.
    shown = tab.run("document.querySelector('.aside li').checkVisibility({contentVisibilityAuto: true})")
    assert shown == (width == 1440)
