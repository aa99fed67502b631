"""A web page for one person on this machine: bound to 127.0.0.1, reached by a secret address.

The page is one HTML file without anything from elsewhere; it calls named actions with JSON. Who may
call them beside knowing the token in the address is in `lima_k8s.web.guarded`.
"""

import asyncio
import hmac
import secrets
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response

from lima.errors import LimaError
from lima_k8s.web.guarded import NOTHING, as_json, guarded_app, page_answer, read_as, refusal
from lima_k8s.web.serving import bound_socket, open_page, server_of, until_stopped

Action = Callable[[dict[str, Any]], Any]
"""Takes the JSON object that the page sent, returns what goes back as JSON."""

HOST = "127.0.0.1"


class LocalPage:
    """Serves one page and its actions until it is shut down."""

    def __init__(self, html: str, actions: Mapping[str, Action], port: int = 0) -> None:
        """Bind to 127.0.0.1.

        Args:
            html: The page, see `lima_k8s.web.page.read_page`.
            actions: Functions that the page may call, by name; calls may come side by side.
            port: 0 takes a free one.

        Raises:
            OSError: the port is taken.

        """
        self._socket = bound_socket(HOST, port)
        self._socket.listen()  # who follows the address at once is kept waiting
        self.token = secrets.token_urlsafe(24)
        self.origin = f"http://{HOST}:{self._socket.getsockname()[1]}"
        self._server = server_of(_app(html, actions, self.origin, self.token))

    @property
    def url(self) -> str:
        """The address, which is also the permission."""
        return f"{self.origin}/{self.token}/"

    def serve_forever(self) -> None:
        """Serve until it is shut down, or Ctrl-C or SIGTERM, which are raised again."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def shutdown(self) -> None:
        """End the serving, which goes on in another thread."""
        self._server.should_exit = True


def _app(html: str, actions: Mapping[str, Action], origin: str, token: str) -> FastAPI:
    app = guarded_app(origin)

    def require(told: str) -> None:
        if not hmac.compare_digest(told.encode(), token.encode()):
            raise HTTPException(HTTPStatus.NOT_FOUND, NOTHING)

    @app.get("/{told}/")
    async def page(told: str) -> Response:
        require(told)
        return page_answer(html)

    @app.post("/{told}/{name}")
    async def act(told: str, name: str, request: Request) -> Response:
        require(told)
        action = actions.get(name)
        if action is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, NOTHING)
        asked = await read_as(request, dict[str, Any])
        try:
            return as_json(await _beside(action, asked))
        except LimaError as error:
            return refusal(HTTPStatus.CONFLICT, str(error))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            return refusal(HTTPStatus.BAD_REQUEST, f"{type(error).__name__}: {error}")

    return app


async def _beside(action: Action, asked: dict[str, Any]) -> Any:
    """Call an action in a thread that keeps nobody waiting when the page is closed."""
    answer: Future[Any] = Future()
    answer.set_running_or_notify_cancel()  # from here on nobody can take it back

    def call() -> None:
        try:
            answer.set_result(action(asked))
        except Exception as error:  # noqa: BLE001 - raised where it is awaited
            answer.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return await asyncio.wrap_future(answer)


def serve_page(page: LocalPage, *, browser: bool) -> None:
    """Serve a page until it is stopped, and close it."""
    with until_stopped():
        open_page(page.url, browser=browser)
        page.serve_forever()
