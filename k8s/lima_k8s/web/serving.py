"""Serving pages to people: opened in their browser, until Ctrl-C or SIGTERM."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI
    from uvicorn import Server

LAST_ANSWERS_S = 2
"""Seconds that answers under way have when a server ends."""


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


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a bound socket; port 0 takes a free one.

    Raises:
        OSError: the address is taken, or not this machine's.

    """
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


def server_of(app: "FastAPI") -> "Server":
    """Return the server of an app, which says nothing: the app itself tells its errors."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="critical",
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=LAST_ANSWERS_S,
    )
    return uvicorn.Server(config)


def run_app(app: "FastAPI", bound: socket.socket) -> None:
    """Serve an app until Ctrl-C or SIGTERM, which are raised again; see `until_stopped`."""
    try:
        server_of(app).run(sockets=[bound])
    finally:
        bound.close()
