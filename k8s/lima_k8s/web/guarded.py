"""What all servers of pages have in common: who may ask, and how they are answered.

Only the browser that has a page open may call its actions: another site in it may not send JSON
across origins, and a name that was made to point here does not pass as the host.
"""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, HTTPException, Request, Response
from starlette.exceptions import HTTPException as AnyHTTPException

from lima_k8s.terminal.output import say
from lima_k8s.web.page import HTML, JSON, guards, sealed

MAX_BODY = 1 << 16
"""Bytes that a page may send."""
FINAL = (HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
"""Refusals of what was sent, whenever it is sent: a page gives it up. Others may pass."""
NOTHING = "nothing is here"

Next = Callable[[Request], Awaitable[Response]]


def guarded_app(origin: str) -> FastAPI:
    """Return an app without actions, which refuses what its own pages do not ask for.

    Args:
        origin: Scheme, host and port under which browsers reach it.

    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def only_own(request: Request, go_on: Next) -> Response:
        if not is_own(request, origin):
            return refusal(HTTPStatus.NOT_FOUND, NOTHING)
        return await go_on(request)

    @app.exception_handler(AnyHTTPException)
    async def refused(_: Request, error: AnyHTTPException) -> Response:
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:  # it would say what there is
            return refusal(HTTPStatus.NOT_FOUND, NOTHING)
        return refusal(HTTPStatus(error.status_code), error.detail)

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        say(f"error: internal error ({type(error).__name__}: {error}); the pages try again")
        return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "an error of the server")

    return app


def is_own(request: Request, origin: str) -> bool:
    """Say whether a request comes to this app, and a writing one from its own page."""
    if request.headers.get("host", "") != origin.partition("://")[2]:
        return False
    if request.method != "POST":
        return request.method == "GET"
    kind = request.headers.get("content-type", "").split(";")[0].strip()
    return kind == "application/json" and request.headers.get("origin", origin) == origin


async def read_as(request: Request, kind: type[Any]) -> Any:
    """Return the body of a request as `kind`.

    Raises:
        HTTPException: it is too long, or something else.

    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too long")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HTTPException(HTTPStatus.BAD_REQUEST, str(error)) from None


def page_answer(html: str) -> Response:
    """Return a page, with a nonce of its own."""
    content, policy = sealed(html)
    return Response(content, media_type=HTML, headers=guards(policy))


def as_json(value: Any, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Return the answer to an action."""
    return Response(msgspec.json.encode(value), status, guards(), JSON)


def refusal(status: HTTPStatus, why: str) -> Response:
    """Return the answer to what is not done, as pages read it."""
    # A body that was not read must not pass for the next request of the connection.
    answer = as_json({"error": why, "refused": status in FINAL}, status)
    answer.headers["Connection"] = "close"
    return answer
