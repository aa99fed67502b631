"""Two people, or two windows, in a real Chromium, and a server that is killed: no label twice."""

import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lima.rating.labels import standing
from tests.helpers.web.annotators import Person
from tests.helpers.web.labelling import OTHER, OURS, PAIR, Server, annotations, serving, write_pair

INVITED = ("--invite", "anna", "--invite", "ben")
ITEMS, SHARED = 60, 50


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_pair(tmp_path, ITEMS)


def test_two_people_at_once_with_reloads_and_a_server_that_is_killed(
    browser: Any, study: Path
) -> None:
    """Keyboard only; every label is kept once, none is lost, whatever dies in between."""
    chance = random.Random(11)
    pressed: dict[str, list[str]] = {"anna": [], "ben": []}
    arguments = [str(study), *PAIR, *INVITED, "--overlap", str(SHARED)]
    server = Server(arguments, study / "log")
    server.start()
    people = {name: Person(browser, link) for name, link in server.links.items()}
    kills = reloads = 0
    try:
        while any(p.tab.locator("#end").count() == 0 for p in people.values()):
            for name, person in people.items():
                if person.tab.locator("#end").count():
                    continue
                key = chance.choice("abn")
                kill = len(pressed[name]) in (7, 19, 33) and name == "anna"
                if kill:  # at the same moment as the key, before or after it is answered
                    person.tab.keyboard.press(key)
                    server.kill()
                    kills += 1
                    server.start()
                    person.ready()
                elif chance.random() < 0.2:  # the key, and a reload before the answer can come
                    person.tab.keyboard.press(key)
                    person.tab.reload()
                    reloads += 1
                    person.ready()
                else:
                    person.press(key)
                pressed[name].append(key)
                assert person.done() == len(pressed[name]), name
        said = server.stop()
    finally:
        if server.process.poll() is None:
            server.kill()
    assert (kills, reloads > 5) == (3, True)
    assert "of anna" in said
    rows = standing(annotations(study))
    assert Counter(Counter((r["rater"], r["item_id"]) for r in rows).values()) == {1: len(rows)}
    per_item = Counter(r["item_id"] for r in rows)
    assert Counter(per_item.values()) == {2: SHARED, 1: ITEMS - SHARED}
    words = {"a": "A", "b": "B", "n": "neither"}
    for name, keys in pressed.items():
        mine = [r for r in rows if r["rater"] == name]
        mine.sort(key=lambda r: r["ended_at"])
        assert [r["label"] for r in mine] == [words[key] for key in keys]
    for person in people.values():
        assert person.problems == []
        assert all(url.startswith((person.link, "data:")) for url in person.asked)
        everything = "\n".join(person.traffic)
        assert "Answer " in everything
        assert not re.search(f"{OURS}|{OTHER}|study", everything)


def test_two_windows_of_one_person_do_not_answer_twice(browser: Any, study: Path) -> None:
    with serving(study, *PAIR, "--count", "4") as server:
        one = Person(browser, server.links["me"])
        two = Person(browser, server.links["me"])
        one.press("a")
        two.press("b")  # still shows what the other window has answered
        assert "another window was first" in two.tab.inner_text("#alert")
        assert two.done() == 1
        two.press("b")
        assert two.tab.is_hidden("#alert")
        one.press("a")
        assert one.done() == 2
        server.stop()
    assert sorted(r["label"] for r in standing(annotations(study))) == ["A", "B"]


def test_the_page_says_when_an_answer_waits(browser: Any, study: Path) -> None:
    arguments = [str(study), *PAIR, "--count", "3"]
    server = Server(arguments, study / "log")
    server.start()
    person = Person(browser, server.links["me"])
    tab = person.tab
    server.kill()
    tab.keyboard.press("a")
    tab.get_by_text("is not saved yet").wait_for()
    tab.keyboard.press("b")  # not for a task that is not shown
    tab.goto("about:blank")  # the window is closed meanwhile
    server.start()
    try:
        tab.goto(person.link)
        person.ready()
        assert tab.inner_text("#saved") == "Your last answer is saved"
        assert person.done() == 1
        server.stop()
    finally:
        server.process.kill()
    assert [r["label"] for r in standing(annotations(study))] == ["A"]
