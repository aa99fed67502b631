"""People who label, each in a browser of their own."""

import re
from typing import Any

# How the browser itself reports a server that was killed; a refused answer has a status instead.
GONE = re.compile(r"net::ERR_(?!BLOCKED)")


class Person:
    """An annotator with a browser of their own, who keeps what the page let them see."""

    def __init__(self, browser: Any, link: str, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
        self.link, self.problems, self.asked = link, list[str](), list[str]()
        self.traffic = list[str]()
        self.context.set_default_timeout(0)  # a busy machine is slow, and that is no failure
        self.tab = self.context.new_page()
        self.tab.on("pageerror", lambda error: self.problems.append(str(error)))
        self.tab.on("console", self._said)
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.on("response", self._answered)
        self.tab.goto(link)
        self.ready()

    def ready(self) -> None:
        """Wait for a task, or the end."""
        self.tab.wait_for_selector("main[aria-busy=false]")

    def press(self, *keys: str) -> None:
        """Press keys, each when the page is ready for it."""
        for key in keys:
            self.tab.keyboard.press(key)
            self.ready()

    def done(self) -> int:
        """Return how many tasks the page says are labelled."""
        return int(self.tab.inner_text("#counts b"))

    def _said(self, message: Any) -> None:
        if message.type == "error" and not GONE.search(message.text):
            self.problems.append(message.text)

    def _answered(self, response: Any) -> None:
        if response.ok:
            try:
                self.traffic.append(response.text())
            except Exception:  # noqa: BLE001 - gone with the server or the page
                self.traffic.append("")
