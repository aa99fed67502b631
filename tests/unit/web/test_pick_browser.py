"""The picking page in a real Chromium."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lima.curation.arms.picks import parse_picks
from lima_k8s.web.local_page import LocalPage
from lima_k8s.web.pick import PickFile
from tests.helpers.web.picking import ATTACK, decisions, file, page

__all__ = ["file", "page"]


@pytest.fixture
def tab(browser: Any, page: LocalPage) -> Iterator[Any]:
    tab = browser.new_page(viewport={"width": 1200, "height": 700})
    tab.problems = []

    def requested(request: Any) -> None:
        if not request.url.startswith((page.origin, "data:")):
            tab.problems.append(request.url)

    def said(message: Any) -> None:
        if message.type == "error":
            tab.problems.append(message.text)

    tab.on("pageerror", lambda error: tab.problems.append(str(error)))
    tab.on("console", said)
    tab.on("request", requested)
    tab.goto(page.url)
    tab.wait_for_selector(".text.user")
    yield tab
    tab.close()


def _press(tab: Any, *keys: str) -> None:
    for key in keys:
        with tab.expect_response("**/*"):
            tab.keyboard.press(key)


def test_a_person_picks_with_the_keyboard(tab: Any, file: PickFile) -> None:
    _press(tab, "k")
    tab.get_by_text("place 2 of 10").wait_for()
    _press(tab, "d")
    tab.get_by_text("place 3 of 10").wait_for()
    _press(tab, "k")
    tab.get_by_text("place 4 of 10").wait_for()
    assert decisions(file) == {"p1/c0": "keep", "p1/c1": "drop", "p2/c0": "keep"}
    assert tab.inner_text("#counts") == "2 of 3 kept · 1 dropped · 7 undecided"
    assert tab.inner_text("#hint") == "Another response to this prompt is kept."
    _press(tab, "u")
    tab.get_by_text("place 3 of 10").wait_for()
    assert decisions(file) == {"p1/c0": "keep", "p1/c1": "drop"}
    _press(tab, "ArrowLeft")
    tab.get_by_text("place 2 of 10").wait_for()
    assert tab.get_attribute("#drop", "aria-pressed") == "true"
    _press(tab, "n")
    tab.get_by_text("place 3 of 10").wait_for()
    assert tab.problems == []


def test_a_person_picks_with_the_mouse_until_the_set_is_complete(tab: Any, file: PickFile) -> None:
    for place in (2, 3, 4):
        tab.click("#keep")
        tab.get_by_text(f"place {place} of 10").wait_for()
    assert "the set is complete" in tab.inner_text("#counts")
    assert tab.get_attribute("#bar", "aria-valuenow") == "3"
    tab.select_option("#filter", "keep")
    assert tab.locator("#list li:visible").count() == 3
    tab.locator("#list li:visible button").first.click()
    tab.get_by_text("place 1 of 10").wait_for()
    tab.click("#keep")  # again: open once more
    tab.get_by_text("2 of 3 kept").wait_for()
    assert sorted(decisions(file)) == ["p1/c1", "p2/c0"]
    assert tab.problems == []


def test_quick_keys_are_neither_lost_nor_mixed_up(tab: Any, file: PickFile) -> None:
    for key in "kdkkdukdkk":
        tab.keyboard.press(key)
    tab.get_by_text("place 9 of 10").wait_for()
    kept = ["keep", "drop", "keep", "keep", "keep", "drop", "keep", "keep"]
    assert list(decisions(file).values()) == kept


def test_text_is_shown_and_never_run(tab: Any) -> None:
    assert tab.inner_text(".text.user") == ATTACK
    assert tab.inner_text(".text:not(.user)") == ATTACK + "\nStory"
    assert tab.locator("article img, article script, #list img").count() == 0
    assert tab.title() == "Pick writingprompts · LIMA"
    assert tab.get_attribute("#facts a", "href") == "https://www.reddit.com/p1"
    _press(tab, "ArrowRight")
    tab.get_by_text("place 2 of 10").wait_for()
    assert tab.locator("#facts a").count() == 0
    assert tab.problems == []


def test_the_page_goes_on_after_a_reload_and_says_when_the_command_ended(
    tab: Any, page: LocalPage, file: PickFile
) -> None:
    _press(tab, "k")
    tab.get_by_text("place 2 of 10").wait_for()
    tab.reload()
    tab.get_by_text("place 2 of 10").wait_for()
    assert tab.inner_text("#counts").startswith("1 of 3 kept")
    _press(tab, "u")
    tab.get_by_text("0 of 3 kept").wait_for()
    tab.route("**/decide", lambda route: route.abort())
    tab.keyboard.press("k")
    tab.get_by_text("The command has ended").wait_for()
    assert decisions(file) == {}
    assert parse_picks(Path(file.path).read_bytes(), "x").decisions == {}
