"""The chat's page in a real Chromium."""

import signal
import subprocess
from pathlib import Path
from typing import Any

from lima.rating.labels import standing
from lima.store.tables import ANNOTATIONS
from tests.helpers.judge_server import Reply, Request, error, running
from tests.helpers.web.chatting import COMMAND, heard, rows_of
from tests.helpers.web.labelling import ATTACK


def test_the_page(browser: Any, tmp_path: Path) -> None:
    def answer(request: Request) -> Reply:
        if "attack" in request.body["messages"][-1]["content"]:
            return Reply(ATTACK)
        return error(400, "no answer to this") if request.number == 2 else Reply(heard(request))

    with running(answer) as server:
        arguments = [
            "--base-url",
            server.base_url,
            "--model",
            "parrot",
            "--prompts",
            "authored:dialogue",
            "--count",
            "1",
            "--web",
            "--no-browser",
        ]
        process = subprocess.Popen(
            [*COMMAND, str(tmp_path), *arguments], stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        address = next(line.strip() for line in process.stderr if "http" in line)
        tab = browser.new_page(viewport={"width": 1200, "height": 760})
        try:
            _talk(tab, address)
        finally:
            tab.close()
            process.send_signal(signal.SIGINT)
            said = process.stderr.read()
    assert process.wait() == 0, said
    assert "2 conversations, 3 answers, 2 labelled" in said
    rows = standing(rows_of(tmp_path, ANNOTATIONS, "annotation_id", "supersedes", "event", "label"))
    assert sorted(r["label"] for r in rows) == ["excellent", "fail"]


def _talk(tab: Any, address: str) -> None:
    tab.set_default_timeout(0)  # a busy machine is slow, and that is no failure
    problems: list[str] = []
    tab.on("pageerror", lambda found: problems.append(str(found)))
    ready = "#thread[aria-busy=false]"
    tab.goto(address)
    tab.wait_for_selector(ready)
    assert not tab.is_editable("#text")  # the words to begin with are given
    tab.keyboard.press("Enter")
    tab.get_by_text("Heard 1").wait_for()
    tab.keyboard.type("Go on")
    tab.keyboard.press("Enter")
    tab.get_by_text("no answer to this").wait_for()  # the endpoint refused: nothing was said
    assert tab.locator(".labels").count() == 1
    tab.keyboard.press("Enter")  # the words are still there
    tab.get_by_text("Heard 3").wait_for()
    for label in ("pass", "excellent"):
        tab.get_by_role("button", name=f"Answer 2: {label}").click()
        tab.locator(f'[aria-label="Answer 2: {label}"][aria-pressed=true]').wait_for()
    assert tab.evaluate("document.activeElement.ariaLabel") == "Answer 2: excellent"
    tab.click("#new")
    tab.get_by_text("(new)").wait_for()
    tab.keyboard.type("an attack")
    tab.keyboard.press("Shift+Enter")
    tab.keyboard.type("in two lines")
    tab.keyboard.press("Enter")
    tab.wait_for_selector(".labels")
    assert tab.inner_text(".text.user") == "an attack\nin two lines"
    assert tab.text_content(".text:not(.user)") == ATTACK
    assert tab.locator("#thread img, #thread script, #thread b, #thread style").count() == 0
    tab.get_by_role("button", name="Answer 1: fail").click()
    tab.get_by_text("1 answer, 1 labelled").wait_for()
    tab.reload()
    tab.wait_for_selector(".labels")
    assert tab.locator("#list button").count() == 2
    assert tab.title() == "Chat · LIMA"
    assert not [p for p in problems if "400" not in p]
