"""Serving a page to people: opened in their browser, until Ctrl-C or SIGTERM."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from lima_k8s.web.local_server import LocalPage


@contextmanager
def until_stopped() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM end what is done here, and not the command, which goes on then."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)


def open_page(url: str, *, browser: bool) -> None:
    """Open a page in the person's browser, if that is wanted."""
    if browser:
        import webbrowser

        webbrowser.open(url)


def serve_page(page: LocalPage, *, browser: bool) -> None:
    """Serve a page until it is stopped, and close it."""
    try:
        with until_stopped():
            open_page(page.url, browser=browser)
            page.serve_forever()
    finally:
        page.server_close()
