"""A real Chromium, driven by Playwright."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

NAMED = "labels.example.org"
"""A name for this machine that browsers take for another one, and so for less secure."""


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Start it for as long as the block lasts, or skip the test where there is none."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program:
        pytest.skip("needs chromium (apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        # Chromium's own sandbox does not start as root, as in a container.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        options += [f"--host-resolver-rules=MAP {NAMED} 127.0.0.1"]
        browser = playwright.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()
