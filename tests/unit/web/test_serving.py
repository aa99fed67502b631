"""Serving a page ends with Ctrl-C or SIGTERM, and the command goes on."""

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from lima_k8s.web.serving import LAST_ANSWERS_S

CODE = """
from threading import Event
from time import sleep
from lima_k8s.web.local_page import LocalPage, serve_page
from lima_k8s.web.serving import LAST_ANSWERS_S
page = LocalPage("<p>hello</p>", {{"act": {action}}})
print(page.url, flush=True)
serve_page(page, browser=False)
{then}
print("went on")
"""


class Asking:
    """A command that serves a page, and a browser that calls its action."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.url = urlsplit(self.line())
        self.connection = http.client.HTTPConnection(str(self.url.hostname), self.url.port)

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def ask(self) -> None:
        headers = {"Content-Type": "application/json"}
        self.connection.request("POST", f"{self.url.path}act", "{}", headers)

    def end(self, how: signal.Signals) -> tuple[int, str, str]:
        self.process.send_signal(how)
        rest, errors = self.process.communicate()
        return self.process.returncode, rest, errors


@contextmanager
def serving(action: str, then: str = "") -> Iterator[Asking]:
    command = [sys.executable, "-c", CODE.format(action=action, then=then)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        asking = Asking(process)
        yield asking
        asking.connection.close()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_serving_and_not_the_command(end: signal.Signals) -> None:
    with serving("lambda asked: {'heard': asked}") as asking:
        asking.ask()
        answer = asking.connection.getresponse()
        assert (answer.status, json.load(answer)) == (200, {"heard": {}})
        assert asking.end(end) == (0, "went on\n", "")
        asking.connection.close()
        with pytest.raises(ConnectionRefusedError):
            asking.connection.connect()


def test_an_error_of_ours_is_told_in_a_line() -> None:
    with serving("lambda _: 1 / 0") as asking:
        asking.ask()
        answer = asking.connection.getresponse()
        assert (answer.status, json.load(answer)["refused"]) == (500, False)
        _, _, errors = asking.end(signal.SIGTERM)
    assert errors.startswith("error: internal error (ZeroDivisionError: division by zero)")
    assert errors.count("\n") == 1


def test_an_answer_that_takes_long_keeps_nobody_waiting() -> None:
    """As of a model that writes when its page is closed."""
    with serving("lambda _: print('asked', flush=True) or Event().wait()") as asking:
        asking.ask()
        assert asking.line() == "asked"
        assert asking.end(signal.SIGINT) == (0, "went on\n", "")


def test_an_answer_that_comes_too_late_is_no_error() -> None:
    action = "lambda _: print('asked', flush=True) or sleep(LAST_ANSWERS_S + 1)"
    with serving(action, then=f"sleep({LAST_ANSWERS_S + 2})") as asking:
        asking.ask()
        assert asking.line() == "asked"
        assert asking.end(signal.SIGINT) == (0, "went on\n", "")
