"""A proxy between a browser and the server of a page, which can do what proxies do wrong."""

import contextlib
import http.client
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

from tests.helpers.web.serving import serving

Fault = Literal["502", "500", "portal", "json", "cut", "lost"]
"""A page of the proxy's own with a status, pages and JSON that look well, an answer that ends in
the middle, and a request that never arrives."""
ANSWERS: dict[str, tuple[int, str, bytes]] = {
    "502": (502, "text/html", b"<html><h1>502 Bad Gateway</h1></html>"),
    "500": (500, "text/plain", b"Internal Server Error"),
    "portal": (200, "text/html", b"<html>Please sign in to the network</html>"),
    "json": (200, "application/json", b"{}"),
}


class Proxy(ThreadingHTTPServer):
    """Passes requests on; `fault` is what it does to those to `act`, `met` counts how often."""

    daemon_threads = True
    fault: Fault | None = None
    met = 0

    @property
    def settings(self) -> dict[str, str]:
        """What a browser is told to use it, for this machine too."""
        return {"server": f"http://127.0.0.1:{self.server_address[1]}", "bypass": "<-loopback>"}


@contextlib.contextmanager
def proxying() -> Iterator[Proxy]:
    with serving(Proxy(("127.0.0.1", 0), _Handler)) as proxy:
        yield proxy


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._pass_on(b"")

    def do_POST(self) -> None:
        self._pass_on(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _pass_on(self, body: bytes) -> None:
        fault = self.server.fault if self.path.endswith("/act") else None
        self.server.met += fault is not None
        if fault == "lost":
            self.close_connection = True
        elif fault in ANSWERS:
            self._answer(*ANSWERS[fault])
        else:
            self._answer(*self._asked(body), cut=fault == "cut")

    def _asked(self, body: bytes) -> tuple[int, str, bytes]:
        address = urlsplit(self.path)
        connection = http.client.HTTPConnection(str(address.hostname), address.port)
        with contextlib.closing(connection):
            kept = ("Host", "Origin", "Content-Type", "Cookie")
            headers = {name: self.headers[name] for name in kept if name in self.headers}
            connection.request(self.command, address.path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers["Content-Type"], answer.read()

    def _answer(self, status: int, kind: str, body: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
