"""A web page for one person on this machine: bound to 127.0.0.1, reached by a secret address.

The page is one HTML file without anything from elsewhere; it calls named actions with JSON.
Another site in the same browser cannot: it does not know the token in the address, may not send
JSON across origins, and a name that was made to point here does not pass as the host.
"""

import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lima.errors import LimaError
from lima_k8s.web.page import HTML, JSON, guards, sealed

Action = Callable[[dict[str, Any]], Any]
"""Takes the JSON object that the page sent, returns what goes back as JSON."""

HOST = "127.0.0.1"
MAX_BODY = 1 << 16


class LocalPage(ThreadingHTTPServer):
    """Serves one page and its actions until it is shut down."""

    daemon_threads = True

    def __init__(self, html: str, actions: Mapping[str, Action], port: int = 0) -> None:
        """Bind to 127.0.0.1.

        Args:
            html: The page, see `lima_k8s.web.page.read_page`.
            actions: Functions that the page may call, by name; calls may come side by side.
            port: 0 takes a free one.

        Raises:
            OSError: the port is taken.

        """
        super().__init__((HOST, port), _Handler)
        self.html, self.actions = html, dict(actions)
        self.token = secrets.token_urlsafe(24)
        self.origin = f"http://{HOST}:{self.server_address[1]}"

    @property
    def url(self) -> str:
        """The address, which is also the permission."""
        return f"{self.origin}/{self.token}/"


class _Handler(BaseHTTPRequestHandler):
    server: LocalPage
    server_version, sys_version = "lima-k8s", ""
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one packet: two would wait 40 ms for each other
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Send the page."""
        if self._name() != "":
            self._refuse()
            return
        page, policy = sealed(self.server.html)
        self._send(HTTPStatus.OK, HTML, page, guards(policy))

    def do_POST(self) -> None:
        """Call an action."""
        action = self.server.actions.get(self._name() or "")
        length = self.headers.get("Content-Length", "")
        if action is None or not self._from_page() or not length.isdigit():
            self._refuse()
        elif int(length) > MAX_BODY:
            self._json(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": "too long"})
        else:
            self._call(action, self.rfile.read(int(length)))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal belongs to the command."""

    def _call(self, action: Action, body: bytes) -> None:
        try:
            payload = json.loads(body or b"{}")
            if not isinstance(payload, dict):
                raise ValueError("not a JSON object")
            answer = action(payload)
        except LimaError as error:
            self._json(HTTPStatus.CONFLICT, {"error": str(error)})
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self._json(HTTPStatus.BAD_REQUEST, {"error": f"{type(error).__name__}: {error}"})
        else:
            self._json(HTTPStatus.OK, answer)

    def _name(self) -> str | None:
        """Return what follows the token in the path; None: the request is not for this page."""
        token, separator, name = self.path.removeprefix("/").partition("/")
        host = self.headers.get("Host", "")
        right_host = f"http://{host}" == self.server.origin
        right_token = hmac.compare_digest(token.encode(), self.server.token.encode())
        return name if separator and right_host and right_token else None

    def _from_page(self) -> bool:
        origin = self.headers.get("Origin", self.server.origin)
        kind = self.headers.get("Content-Type", "").split(";")[0].strip()
        return origin == self.server.origin and kind == "application/json"

    def _refuse(self) -> None:
        self.close_connection = True  # a body that was not read must not pass for a request
        self._json(HTTPStatus.NOT_FOUND, {"error": "nothing is here"})

    def _json(self, status: HTTPStatus, answer: Any) -> None:
        body = json.dumps(answer, ensure_ascii=False).encode()
        self._send(status, JSON, body, guards())

    def _send(self, status: HTTPStatus, kind: str, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        named = {"Content-Type": kind, "Content-Length": str(len(body)), **headers}
        for name, value in named.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
