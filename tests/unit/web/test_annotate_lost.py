"""A label is never lost: whatever comes back that does not say that it is saved."""

import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from lima.rating.labels import standing
from tests.helpers.web.annotators import Person
from tests.helpers.web.labelling import PAIR, Server, act, annotations, serving, write_pair
from tests.helpers.web.proxying import Fault, Proxy, proxying

PENDING = "Object.keys(localStorage).filter((name) => name.startsWith('lima pending'))"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair(tmp_path_factory.mktemp("study"), 24)


@pytest.fixture(scope="module")
def server(study: Path) -> Iterator[Server]:
    with serving(study, *PAIR) as server:
        yield server


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with proxying() as proxy:
        yield proxy


def not_saved(person: Person) -> None:
    """Wait until the page says so, and look at what it keeps."""
    person.tab.wait_for_selector("#alert:not([hidden])")
    assert len(person.tab.evaluate(PENDING)) == 1


def saved(person: Person, done: int) -> None:
    person.ready()
    assert person.done() == done + 1
    assert person.tab.evaluate(PENDING) == []
    assert person.tab.is_hidden("#alert")


@pytest.mark.parametrize("fault", ["502", "500", "portal", "json", "cut", "lost"])
def test_a_proxy_that_fails_loses_no_label(
    browser: Any, server: Server, proxy: Proxy, fault: Fault
) -> None:
    person = Person(browser, server.links["me"], proxy=proxy.settings)
    done, proxy.fault = person.done(), fault
    person.tab.keyboard.press("a")
    not_saved(person)
    proxy.fault = None
    saved(person, done)
    assert proxy.met


def test_a_label_outlives_the_page(browser: Any, server: Server, proxy: Proxy) -> None:
    person = Person(browser, server.links["me"], proxy=proxy.settings)
    done, proxy.fault = person.done(), "502"
    person.tab.keyboard.press("b")
    not_saved(person)
    person.tab.on("dialog", lambda dialog: dialog.accept())
    person.tab.reload(wait_until="commit")
    not_saved(person)
    proxy.fault = None
    saved(person, done)


def test_a_disk_that_is_full_loses_no_label(browser: Any, server: Server) -> None:
    person = Person(browser, server.links["me"])
    done = person.done()
    process = psutil.Process(server.process.pid)
    most = process.rlimit(resource.RLIMIT_FSIZE)
    process.rlimit(resource.RLIMIT_FSIZE, (1, most[1]))  # no file takes more
    person.tab.keyboard.press("a")
    not_saved(person)
    assert "cannot save" in person.tab.inner_text("#alert")
    process.rlimit(resource.RLIMIT_FSIZE, most)
    saved(person, done)


def test_what_is_refused_for_good_is_given_up(browser: Any, server: Server) -> None:
    link = server.links["me"]
    person = Person(browser, link)
    [turn] = {server.ask(link, "open").value["task"]["turn"]}
    assert server.ask(link, "act", act(turn)).status == 200  # another window is first
    person.press("b")
    assert person.tab.inner_text("#saved") == "Not saved"
    assert person.tab.evaluate(PENDING) == []


def test_every_label_is_there_once(server: Server, study: Path) -> None:
    """Of all labels until here; a server that ends writes them."""
    done = server.ask(server.links["me"], "open").value["done"]
    server.stop()
    server.start()
    rows = standing(annotations(study))
    assert len(rows) == done
    assert len({row["annotation_id"] for row in annotations(study)}) == done


@pytest.mark.parametrize("turn", [1 << 63, 1 << 64, 10**30])
def test_a_turn_that_no_store_can_hold_is_refused(tmp_path: Path, turn: int) -> None:
    with serving(write_pair(tmp_path, 2), *PAIR) as server:
        answer = server.ask(server.links["me"], "act", act(turn))
    assert (answer.status, answer.value["refused"]) == (400, True), json.dumps(answer.value)
