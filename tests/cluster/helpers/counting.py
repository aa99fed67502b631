"""A proxy before the API server that counts what each command asks of it."""

import http.client
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tests.helpers.web.serving import serving


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, target: str, token: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target, self.token = urlsplit(target), token
        self.asked: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    upstream: http.client.HTTPSConnection | None = None

    def _forward(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
        headers["Authorization"] = f"Bearer {self.server.token}"
        if self.upstream is None:  # one for each connection of the client
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            address = self.server.target
            self.upstream = http.client.HTTPSConnection(
                address.hostname or "", address.port, context=context
            )
        self.upstream.request(self.command, self.path, body, headers)
        answer = self.upstream.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "date"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _forward  # noqa: N815 - http.server's names

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def counted(kubeconfig: Path, folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield a kubeconfig, and the list of requests that are made with it: `GET /api/v1/…`."""
    config = yaml.safe_load(kubeconfig.read_text())
    [entry], [user] = config["clusters"], config["users"]
    server = _Server(entry["cluster"]["server"], user["user"]["token"])
    entry["cluster"] = {"server": f"http://127.0.0.1:{server.server_address[1]}"}
    file = folder / "counted"
    file.write_text(yaml.safe_dump(config))
    with serving(server):
        yield file, server.asked
