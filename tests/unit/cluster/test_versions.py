"""Clusters that lack what is needed: old operators, none, no rights, an expired token.

A small server answers as API servers do (Kubernetes 1.36) when a kind is not served, a right is
missing or a token has expired.
"""

import json
import os
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from lima_k8s.main import run
from tests.conftest import ROOT
from tests.helpers.web.serving import serving

Answer = tuple[int, Any]
Api = dict[str, Answer]
"""What is answered, by a path, or by the beginning of one up to a slash: a status and JSON."""
SUBMIT = [
    "submit",
    "ablation",
    "--recipe",
    "tiny",
    "--storage",
    "s3://b/x",
    "-n",
    "team",
    "--cluster",
    "cpu-test",
]
NAMESPACED = [["status"], ["watch"], ["explain", "r"], ["logs", "r"], ["cancel", "r", "--yes"]]
READING = [[*command, "-n", "team"] for command in NAMESPACED]


def group(name: str, *versions: str) -> Api:
    """Return how a server tells which versions of a group it serves."""
    served = [{"groupVersion": f"{name}/{v}", "version": v} for v in versions]
    return {f"/apis/{name}": (200, {"kind": "APIGroup", "name": name, "versions": served})}


def status(code: int, reason: str, message: str) -> Answer:
    """Return how a server refuses."""
    return code, {"kind": "Status", "code": code, "reason": reason, "message": message}


NONE: Answer = (200, {"items": []})
OURS: Api = {
    "/version": (200, {"major": "1", "minor": "36", "gitVersion": "v1.36.3"}),
    "/api/v1/namespaces/team/": NONE,
    "/apis/ray.io/v1/": NONE,
    "/apis/kueue.x-k8s.io/v1beta2/": NONE,
    "/apis/kueue.x-k8s.io/v1beta2/clusterqueues/": (200, {"metadata": {"name": "lima"}}),
    "/apis/kueue.x-k8s.io/v1beta2/namespaces/team/localqueues/lima": (
        200,
        {"metadata": {"name": "lima"}, "spec": {"clusterQueue": "lima"}},
    ),
}


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Api], None]]:
    """Yield a function that brings up a server with these answers, as the current context."""
    answers: Api = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.path.partition("?")[0]
            begun = [p for p in answers if asked == p or (p[-1] == "/" and asked.startswith(p))]
            code, document = answers[max(begun, key=len)] if begun else (404, None)
            body = json.dumps(document).encode() if document else b"404 page not found\n"
            self.send_response(code)
            self.send_header("Content-Type", "application/json" if document else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PATCH = do_DELETE = do_PUT = do_GET  # noqa: N815 - as the module names them

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    config = {
        "clusters": [
            {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        ],
        "users": [{"name": "ann", "user": {"token": "t"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "ann"}}],
        "current-context": "here",
    }
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(file))
    monkeypatch.setenv("PATH", f"{ROOT / '.cache' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    for part in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"HELM_{part}_HOME", str(tmp_path / "helm"))
    monkeypatch.setenv("HOME", str(tmp_path))  # Helm keeps what a server serves
    with serving(server):
        yield answers.update


def error_of(command: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> str:
    assert run(command) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") or command == SUBMIT  # which says more before
    return captured.err


@pytest.mark.parametrize("command", [["status", "-n", "team"], SUBMIT])
def test_an_old_kueue(
    serve: Callable[[Api], None], command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    old = {k: v for k, v in OURS.items() if "kueue" not in k}
    serve({**old, **group("kueue.x-k8s.io", "v1beta1")})
    said = error_of(command, 3, capsys)
    assert "Kueue in this cluster serves kueue.x-k8s.io/v1beta1, but" in said
    assert "v1beta2 is needed; have it upgraded" in said


@pytest.mark.parametrize("command", [*READING, SUBMIT])
def test_an_old_kuberay(
    serve: Callable[[Api], None], command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    old = {k: v for k, v in OURS.items() if "ray.io" not in k}
    serve({**old, **group("ray.io", "v1alpha1")})
    said = error_of(command, 3, capsys)
    assert "KubeRay in this cluster serves ray.io/v1alpha1, but rayjobs.ray.io/v1 is needed" in said


@pytest.mark.parametrize(
    ("missing", "name", "command"),
    [
        ("ray.io", "KubeRay", ["status", "-n", "team"]),
        ("ray.io", "KubeRay", SUBMIT),
        ("kueue.x-k8s.io", "Kueue", ["status", "-n", "team"]),
        ("kueue.x-k8s.io", "Kueue", SUBMIT),
    ],
)
def test_no_operator(
    serve: Callable[[Api], None],
    missing: str,
    name: str,
    command: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve({k: v for k, v in OURS.items() if not k.startswith(f"/apis/{missing}")})
    said = error_of(command, 3, capsys)
    assert f"{name} is not installed in this cluster" in said
    assert "docs/cluster.md" in said


@pytest.mark.parametrize("command", [*READING, SUBMIT])
def test_an_expired_token(
    serve: Callable[[Api], None], command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    serve({"/": status(401, "Unauthorized", "Unauthorized")})
    said = error_of(command, 3, capsys)
    assert "the cluster of context 'here' refuses your credentials (401)" in said
    assert "log in to it again" in said


@pytest.mark.parametrize("command", [*READING, SUBMIT])
def test_a_namespace_without_rights(
    serve: Callable[[Api], None], command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for kind, api in (("rayjobs", "ray.io"), ("localqueues", "kueue.x-k8s.io"), ("pods", "")):
        message = (
            f'{kind} is forbidden: User "ann" cannot list resource "{kind}" in API group "{api}" '
            'in the namespace "team"'
        )
        path = f"/apis/{api}/" if api else "/api/v1/"
        serve({path: status(403, "Forbidden", message)})
    said = error_of(command, 3, capsys)
    assert "ann may not list " in said
    assert "in namespace 'team'; ask for the role of lima-queue" in said


def test_no_helm_before_a_cluster_that_answers(
    serve: Callable[[Api], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve(OURS)
    monkeypatch.setenv("PATH", "/var/empty")
    said = error_of(SUBMIT, 2, capsys)
    assert "no helm on PATH" in said
    assert "https://helm.sh/docs/intro/install, or run on this machine with --local" in said


def test_a_queue_that_is_not_there(
    serve: Callable[[Api], None], capsys: pytest.CaptureFixture[str]
) -> None:
    queues = "/apis/kueue.x-k8s.io/v1beta2/namespaces/team/localqueues"
    missing = {
        "kind": "Status",
        "message": 'localqueues.kueue.x-k8s.io "lima" not found',
        "details": {"name": "lima", "kind": "localqueues"},
        "code": 404,
    }
    there = {"items": [{"metadata": {"name": "research"}}]}
    serve({**OURS, f"{queues}/lima": (404, missing), queues: (200, there)})
    said = error_of(SUBMIT, 2, capsys)
    assert "no LocalQueue 'lima' in namespace 'team'; queues there: research" in said
    assert "choose with --queue and -n" in said
