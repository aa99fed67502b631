"""A real Chromium, by itself or driven by Playwright."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

NAMED = "labels.example.org"
"""A name for this machine that browsers take for another one, and so for less secure."""


def chromium_program() -> str:
    """Return where it is, or skip the test where there is none; CI installs it."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if program := shutil.which(name):
            return program
    missing = pytest.fail if os.environ.get("CI") else pytest.skip
    missing("needs chromium (apt-get install chromium)")


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Start it for as long as the block lasts, or skip the test where there is none."""
    program = chromium_program()
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        # Chromium's own sandbox does not start as root, as in a container.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        options += [f"--host-resolver-rules=MAP {NAMED} 127.0.0.1"]
        browser = playwright.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()
