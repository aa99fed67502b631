"""The labelling page in a real Chromium: keys, markup in texts, access, accessibility, widths."""

from pathlib import Path
from typing import Any

import pytest

from lima.rating.labels import standing
from tests.helpers.web.annotators import Person
from tests.helpers.web.chromium import NAMED
from tests.helpers.web.labelling import ATTACK, OURS, PAIR, annotations, serving, write_pair


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_pair(tmp_path, 60)


def test_undo_skip_comment_and_the_end(browser: Any, study: Path) -> None:
    with serving(study, *PAIR, "--count", "4") as server:
        person = Person(browser, server.links["me"])
        tab = person.tab
        assert tab.is_disabled("#undo")
        first = tab.inner_text("#response-a")
        person.press("a", "b", "x")
        assert tab.inner_text("#saved") == "Saved: cannot be labelled"
        person.press("z", "z", "z")
        assert tab.inner_text("#response-a") == first
        assert person.done() == 0
        assert tab.is_disabled("#undo")
        tab.keyboard.press("c")
        tab.keyboard.type("about a b n z 1, too")  # letters are text here, and no labels
        tab.keyboard.press("Escape")
        assert person.done() == 0
        person.press("n", "a", "x", "b")
        assert "Everything is labelled" in tab.inner_text("#end")
        assert tab.locator("#questions button:enabled").count() == 0
        person.press("z")
        assert tab.inner_text("#counts") == "3 labelled · 1 to go"
        person.press("a")
        assert person.problems == []
        server.stop()
    rows = standing(annotations(study))
    found = [(r["event"], r["label"], r["comment"]) for r in rows]
    assert sorted(found, key=str) == [
        ("labelled", "A", None),
        ("labelled", "A", None),
        ("labelled", "neither", "about a b n z 1, too"),
        ("skipped", None, None),
    ]


def test_a_response_with_script_and_markup_is_text(browser: Any, study: Path) -> None:
    with serving(study, *PAIR, "--overlap", "0") as server:
        person = Person(browser, server.links["me"])
        tab, seen = person.tab, 0
        while not tab.locator("#end").count():
            shown = tab.inner_text("#response-a")
            if "taken" in shown:
                assert ATTACK in tab.text_content("#response-a")
                seen += 1
            inside = "main img, main script, main style, main b, main a, main iframe"
            assert tab.locator(inside).count() == 0
            assert tab.is_visible("#prompt")
            person.press("n")
        assert seen == 9  # prompts 0, 7, … 56
        assert tab.title() == "Label responses · LIMA"
        assert person.problems == []


def test_the_keys_can_be_turned_off_and_the_buttons_do_the_same(browser: Any, study: Path) -> None:
    with serving(study, *PAIR, "--count", "3") as server:
        person = Person(browser, server.links["me"])
        tab = person.tab
        tab.uncheck("#quick")
        tab.keyboard.press("a")
        tab.wait_for_timeout(200)
        assert person.done() == 0
        tab.reload()
        person.ready()
        assert not tab.is_checked("#quick")  # remembered
        tab.get_by_role("button", name="Neither response is significantly better.").focus()
        tab.keyboard.press("Enter")
        person.ready()
        assert person.done() == 1


def test_safety_asks_two_questions_before_it_saves(browser: Any, study: Path) -> None:
    with serving(study, "--kind", "safety", "--run", OURS, "--count", "2") as server:
        person = Person(browser, server.links["me"])
        tab = person.tab
        person.press("s")
        assert person.done() == 0
        assert tab.inner_text("#saved") == "Still to answer: Does the prompt mean harm?"
        assert tab.get_attribute("button[data-label=safe]", "aria-pressed") == "true"
        person.press("u", "y")  # another label first, then what was missing
        assert person.done() == 1
        assert tab.locator("[aria-pressed=true]").count() == 0
        person.press("n", "s")
        assert "Everything is labelled" in tab.inner_text("#end")
        server.stop()
    found = {(r["label"], r["malicious"]) for r in standing(annotations(study))}
    assert found == {("unsafe", True), ("safe", False)}


def test_the_access_token_is_typed_once(browser: Any, study: Path) -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://{NAMED}:{port}"
    with serving(study, *PAIR, "--url", url, "--port", str(port)) as server:
        context = browser.new_context()
        context.set_default_timeout(0)
        tab = context.new_page()
        tab.goto(server.links["me"])
        assert tab.evaluate("document.activeElement.id") == "token"
        tab.keyboard.type("wrong")
        tab.keyboard.press("Enter")
        tab.get_by_text("this is not the access token").wait_for()
        tab.fill("#token", server.token)
        tab.keyboard.press("Enter")
        tab.wait_for_selector("#response-b")
        assert not tab.evaluate("isSecureContext")
        tab.keyboard.press("a")
        tab.get_by_text("Saved: A").wait_for()
        tab.reload()
        tab.wait_for_selector("#response-b")
        assert server.token not in str(tab.evaluate("document.cookie"))


# What a checker of accessibility looks for, in our own words.

NAMELESS = """() => {
  const used = 'button, input, select, textarea, a[href], [tabindex="0"]';
  const named = (e) => e.getAttribute('aria-label') || e.labels?.length || e.textContent.trim();
  return [...document.querySelectorAll(used)].filter((e) => e.checkVisibility() && !named(e))
    .map((e) => e.outerHTML);
}"""
CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const parse = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const back = (e) => {
    for (; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest(':disabled, script, style')) continue;
    const [one, two] = [light(parse(getComputedStyle(e).color)), light(back(e))];
    const ratio = (Math.max(one, two) + .05) / (Math.min(one, two) + .05);
    if (ratio < 4.5) found.push(`${e.outerHTML.slice(0, 80)} ${ratio.toFixed(2)}`);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["preference", "safety"])
def test_it_can_be_used_by_everybody(browser: Any, study: Path, scheme: str, kind: str) -> None:
    arguments = PAIR if kind == "preference" else ("--kind", kind, "--run", OURS)
    with serving(study, *arguments, "--count", "2") as server:
        person = Person(browser, server.links["me"], color_scheme=scheme, reduced_motion="reduce")
        tab = person.tab
        assert tab.evaluate("document.documentElement.lang") == "en"
        assert tab.evaluate(NAMELESS) == []
        assert tab.evaluate(CONTRAST) == []
        ids = tab.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
        assert len(ids) == len(set(ids))
        assert tab.locator("h1").count() == 1
        assert tab.locator("fieldset > legend").count() == tab.locator("fieldset").count() > 0
        assert tab.get_attribute("#saved", "role") == "status"
        assert tab.get_attribute("#alert", "role") == "alert"
        tab.get_by_role("progressbar", name="Labelled").wait_for(state="attached")
        reached = _tabbed(tab)
        wanted = {"prompt", "undo", "skip", "comment", "quick", "response-a"} - {"undo"}
        assert wanted <= {place["id"] for place in reached}
        assert all(place["outline"] for place in reached), reached
        person.press("n" if kind == "preference" else "y")
        assert tab.evaluate("document.activeElement.closest('main, footer') !== null")
        assert person.problems == []


def _tabbed(tab: Any) -> list[dict[str, Any]]:
    """Go round the page with Tab; return where the focus was, and whether it could be seen."""
    found: list[dict[str, Any]] = []
    for _ in range(40):
        tab.keyboard.press("Tab")
        place = tab.evaluate(
            "(() => { const e = document.activeElement, s = getComputedStyle(e); return {"
            "id: e.id, name: e.outerHTML.slice(0, 60), body: e === document.body, "
            "outline: s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0}; })()"
        )
        if not place["body"]:
            found.append(place)
    return found


@pytest.mark.parametrize(
    "arguments", [PAIR, ("--kind", "absolute", "--run", OURS)], ids=["pair", "one"]
)
def test_the_texts_have_the_window_to_themselves(
    browser: Any, study: Path, arguments: tuple[str, ...]
) -> None:
    with serving(study, *arguments) as server:
        person = Person(browser, server.links["me"])
        for width, sides in ((1280, 2 if arguments == PAIR else 1), (320, 1)):
            person.tab.set_viewport_size({"width": width, "height": 700})
            assert person.tab.evaluate("document.documentElement.scrollWidth") <= width
            for name in ("prompt", "response-a"):
                share = 1 if name == "prompt" else sides
                found = person.tab.locator(f"#{name}").bounding_box()["width"]
                assert found == pytest.approx(width / share, rel=0.1), name
