"""`logs -f` over an API server whose answers end before the log does."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from lima_k8s.cluster.read.api import Cluster
from lima_k8s.cluster.read.failures import UnreachableError
from lima_k8s.cluster.watch import logs
from lima_k8s.main import run
from tests.helpers.web.serving import serving

Ends = Literal["clean", "cut", "refused"]
STEPS = [(f"2026-11-23T12:00:0{n // 2}.00000000{n}Z", f"step {n}") for n in range(6)]


class Server(ThreadingHTTPServer):
    """An API server with one run. Each answer with its log gives two lines more, then ends."""

    daemon_threads = True

    def __init__(self, ends: list[Ends]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ends, self.asked = ends, list[dict[str, str]]()
        self.written = 0
        self.pods, self.lost = True, False

    @property
    def over(self) -> bool:
        return self.written >= len(STEPS)

    def items(self, plural: str) -> list[dict[str, Any]]:
        meta = {"name": "r", "uid": "u", "labels": {"batch.kubernetes.io/job-name": "r"}}
        ended = self.over and not self.lost
        state: dict[str, Any] = {"terminated" if ended else "running": {}}
        status = {"containerStatuses": [{"name": "c", "state": state}]}
        job = ("Complete", "SUCCEEDED") if self.over else ("Running", "RUNNING")
        told = dict(zip(("jobDeploymentStatus", "jobStatus"), job, strict=True))
        pods = [{"metadata": meta, "status": status}] if self.pods else []
        return {"pods": pods, "rayjobs": [{"metadata": meta, "status": told}]}.get(plural, [])


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path.endswith("/log"):
            self.log({key: values[0] for key, values in parse_qs(url.query).items()})
            return
        items = self.server.items(url.path.rsplit("/", 1)[1])
        self.answer(200, json.dumps({"items": items}).encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log(self, asked: dict[str, str]) -> None:
        self.server.asked.append(asked)
        end = self.server.ends.pop(0) if self.server.ends else "clean"
        if end == "refused":
            self.answer(503, b"away")
            return
        self.server.written += 2
        since = asked.get("sinceTime", "")[:19]  # to the second, as Kubernetes does
        told = [(at, text) for at, text in STEPS[: self.server.written] if at[:19] >= since]
        lines = [f"{at} {text}" if "timestamps" in asked else text for at, text in told]
        body = "".join(f"{line}\n" for line in lines).encode() + (
            b"2026-1" if end == "cut" else b""
        )
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
        if end == "clean":
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def ends() -> list[Ends]:
    return []


@pytest.fixture
def server(ends: list[Ends], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(Server(ends)) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        config = {
            "clusters": [{"name": "c", "cluster": {"server": address}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "here",
        }
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        monkeypatch.setattr(logs, "POLL_S", 0.01)
        yield server


@pytest.mark.parametrize(
    "ends",
    [["clean", "clean", "clean"], ["cut", "clean", "cut"], ["clean", "refused", "cut"]],
    ids=["clean", "cut", "refused"],
)
def test_a_log_is_followed_to_its_end(
    ends: list[Ends], server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    troubled = any(end != "clean" for end in ends)
    assert run(["logs", "-f", "r"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [text for _, text in STEPS]
    assert ("waiting: " in captured.err) == troubled
    # Each goes on where the last one ended, and the last is asked for when all is written.
    times = [asked.get("sinceTime") for asked in server.asked]
    assert times[0] is None
    assert times[-1] == STEPS[-1][0]


@pytest.mark.parametrize("ends", [["cut"]])
def test_a_stream_that_is_cut_is_an_error_of_the_network(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UnreachableError, match="the log of r broke off"):
        list(Cluster().log("r", "c", follow=True))
    server.ends[:] = ["cut", "refused", "refused"]
    monkeypatch.setattr(logs, "PATIENCE_S", -1)
    assert run(["logs", "-f", "r"]) == 3
    assert "error: the log of r broke off" in capsys.readouterr().err


def test_storage_is_asked_only_if_nothing_was_printed(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logs, "uploaded", lambda run: iter(["from storage"]))
    server.written, server.pods = len(STEPS), False
    assert run(["logs", "-f", "r"]) == 0
    assert run(["logs", "r"]) == 0
    assert capsys.readouterr().out.splitlines() == ["from storage"] * 2
    server.pods = True
    assert run(["logs", "-f", "r"]) == 0
    assert run(["logs", "r"]) == 0
    assert capsys.readouterr().out.splitlines() == [text for _, text in STEPS] * 2
    assert "timestamps" not in server.asked[-1]


def test_a_pod_of_a_lost_node_ends_with_its_run(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.lost = True
    assert run(["logs", "-f", "r"]) == 0
    assert capsys.readouterr().out.splitlines() == [text for _, text in STEPS]
