"""Parts of the Hugging Face hub's API: what writes repositories, and what reads data sets."""

import base64
import contextlib
import hashlib
import json
import urllib.parse
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.helpers.web.serving import serving

TOKEN = "hf_of_a_test"


class FakeHub(ThreadingHTTPServer):
    """Keeps what is committed, and serves data sets: `files[repository][path]`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}
        self.read: list[str] = []

    @property
    def commit(self) -> str:
        """The commit of all repositories: other content, another commit."""
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.path == "/api/validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer(401, {"error": "no"})
        if self.path == "/api/repos/create":
            return self._create(json.loads(body))
        if self.path.endswith("/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        _, _, _, owner, name, action, _ = self.path.split("/")
        if action == "preupload":
            wanted = [
                {
                    "path": f["path"],
                    "shouldIgnore": False,
                    "oid": None,
                    "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                }
                for f in json.loads(body)["files"]
            ]
            return self._answer(200, {"files": wanted})
        return self._commit(f"{owner}/{name}", body)

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def _serve(self) -> None:
        """Answer for `/api/datasets/OWNER/NAME/revision/main` and `/datasets/…/resolve/…/FILE`."""
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).strip("/")
        api = path.startswith("api/")
        if "datasets/" not in path:
            return self._answer(404, {"error": "no"})
        _, owner, name, kind, revision, *rest = path.removeprefix("api/").split("/")
        files = self.server.files.get(f"{owner}/{name}")
        if files is None or revision not in ("main", self.server.commit):
            unknown = "RepoNotFound" if files is None else "RevisionNotFound"
            return self._answer(404, {"error": "no"}, {"X-Error-Code": unknown})
        if api and kind == "revision":
            listed = [{"rfilename": file} for file in files]
            about = {"id": f"{owner}/{name}", "sha": self.server.commit, "siblings": listed}
            return self._answer(200, about)
        if api:  # tree
            return self._answer(200, [self._entry(*item) for item in files.items()])
        file = "/".join(rest)
        if file not in files:
            return self._answer(404, {"error": "no"}, {"X-Error-Code": "EntryNotFound"})
        if self.command == "GET":
            self.server.read.append(file)
        found = {"ETag": f'"{self._tag(files[file])}"', "X-Repo-Commit": self.server.commit}
        return self._send(200, files[file], found)

    def _entry(self, path: str, data: bytes) -> dict[str, Any]:
        return {"type": "file", "path": path, "size": len(data), "oid": self._tag(data)}

    @staticmethod
    def _tag(data: bytes) -> str:
        return hashlib.sha1(data).hexdigest()

    def do_PUT(self) -> None:
        self.server.large[self.path.rpartition("/")[2]] = self.rfile.read(
            int(self.headers["Content-Length"])
        )
        self._answer(200, {})

    def _create(self, asked: dict[str, Any]) -> None:
        repository = f"{asked['organization']}/{asked['name']}"
        if repository in self.server.files:
            url = f"{self.server.url}/{repository}"
            return self._answer(409, {"error": "there already", "url": url})
        self.server.files[repository] = {}
        self.server.private[repository] = (
            asked.get("private") or asked.get("visibility") == "private"
        )
        return self._answer(200, {"url": f"{self.server.url}/{repository}"})

    def _batch(self, asked: dict[str, Any]) -> None:
        href = f"{self.server.url}/upload"
        objects = [
            {**o, "actions": {"upload": {"href": f"{href}/{o['oid']}"}}} for o in asked["objects"]
        ]
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _commit(self, repository: str, body: bytes) -> None:
        kept = self.server.files[repository]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                kept[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                kept[value["path"]] = self.server.large[value["oid"]]
        commit = "c" * 40
        url = f"{self.server.url}/{repository}/commit/{commit}"
        self._answer(200, {"success": True, "commitOid": commit, "commitUrl": url})

    def _answer(self, status: int, document: Any, more: Mapping[str, str] | None = None) -> None:
        headers = {"Content-Type": "application/json", **(more or {})}
        self._send(status, json.dumps(document).encode(), headers)

    def _send(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@contextlib.contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Serve an empty hub for as long as the block lasts."""
    with serving(FakeHub()) as server:
        yield server
