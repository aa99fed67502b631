"""Models of a hub: named by the commit, wherever the branch is, and loaded at it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lima.inputs.content import Contents
from lima.inputs.memory import Unknown
from lima.model.loading import resolve_run
from lima.preparing.prepare import prepare
from lima.spec import CellSpec, DataSpec, GenerateSpec, ModelSpec
from lima.spec.codec import run_id
from tests.helpers.web.serving import serving

OLD, NEW = "a" * 40, "b" * 40


@contextmanager
def hub(commits: dict[str, str]) -> Iterator[str]:
    """Serve which commit a revision is, as a hub does; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = commits.get(self.path)
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(json.dumps({"sha": found}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Yield what the hub of this test has, to be changed."""
    found = {"/api/models/team/llama/revision/main": OLD}
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    with hub(found) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield found


def prepared(name: str = "team/llama", revision: str | None = None) -> CellSpec:
    model = ModelSpec(name, revision=revision)
    generate = GenerateSpec(DataSpec("authored:test"), model)
    return prepare([CellSpec("e", "a", generate=generate)], Contents()).cells[0]


def test_a_branch_that_moved_is_a_new_run(commits: dict[str, str]) -> None:
    before = prepared()
    commits["/api/models/team/llama/revision/main"] = NEW
    after = prepared()
    assert before.generate
    assert before.generate.model.fingerprint == f"commit:{OLD}"
    assert run_id(after) != run_id(before)
    # A run that is under way goes on with its own.
    assert resolve_run(before.generate.model, before).revision == OLD
    commits["/api/models/team/llama/revision/main"] = OLD
    assert run_id(prepared()) == run_id(before), "moved back"


def test_a_study_that_names_a_commit_is_run_on_it_wherever_its_branch_is(
    commits: dict[str, str],
) -> None:
    before = prepared()
    commits["/api/models/team/llama/revision/main"] = NEW
    commits[f"/api/models/team/llama/revision/{OLD}"] = OLD
    found = prepare([before], Contents())
    assert found.cells == (before,)
    assert not found.unknown
    del commits[f"/api/models/team/llama/revision/{OLD}"]
    (seen,) = [s for s in prepare([before], Contents()).inputs if s.place.kind == "model"]
    assert isinstance(seen.content, Unknown), "it is said that the hub does not have it any more"


def test_the_name_and_the_branch_are_not_part_of_a_run(commits: dict[str, str]) -> None:
    commits["/api/models/team/llama/revision/v1"] = OLD
    commits["/api/models/fork/llama/revision/main"] = OLD
    ids = {run_id(c) for c in (prepared(), prepared(revision="v1"), prepared("fork/llama"))}
    assert len(ids) == 1


def test_a_hub_that_does_not_know_leaves_it_unknown(commits: dict[str, str]) -> None:
    cell = CellSpec("e", "a", generate=GenerateSpec(DataSpec("authored:test"), ModelSpec("no/no")))
    ((place, why),) = prepare([cell], Contents()).unknown
    assert place.role == "generate.model"
    assert "answers 404" in why


def test_without_a_hub_the_cache_of_this_machine_says(
    commits: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    refs = tmp_path / "hf" / "hub" / "models--team--llama" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(NEW)
    for offline in ("0", "1"):
        monkeypatch.setenv("HF_HUB_OFFLINE", offline)
        cell = prepared()
        assert cell.generate
        assert cell.generate.model.fingerprint == f"commit:{NEW}"
