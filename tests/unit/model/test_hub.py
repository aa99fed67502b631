"""A model of a hub that cannot be had is said before workers start: a real server, a real job."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lima.errors import HubError, ModelError
from lima.model.checkpoint_manifest import mark_complete
from lima.model.hub import require_models
from lima.runs.job_end import MARK
from lima.spec import CellSpec, ModelSpec
from lima.spec.codec import encode, run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ATTEMPTS
from tests.helpers.models import small_cell
from tests.helpers.web.serving import serving

NOBODY = "http://127.0.0.1:1"
ANSWERS = {
    "no/model": (404, "RepoNotFound"),
    "private/model": (401, "RepoNotFound"),
    "gated/model": (403, "GatedRepo"),
    "no/config": (404, "EntryNotFound"),
    "no/revision": (404, "RevisionNotFound"),
    "away/model": (503, ""),
}


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does to a question about a model's file."""

    def do_HEAD(self) -> None:
        name = "/".join(self.path.split("/")[1:3])
        status, code = ANSWERS.get(name, (200, ""))
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("ETag", '"0"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Hub)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


def ask_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    template = "{repo_id}/resolve/{revision}/{filename}"
    name = "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE"
    monkeypatch.setattr(name, f"{address}/{template}")


@pytest.fixture
def hub(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A hub that may be asked, with an empty cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    ask_at(address, monkeypatch)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return address


def of(name: str) -> CellSpec:
    return small_cell(Path(name))


def require(name: str, folder: Path) -> None:
    require_models([of(name)], Storage(str(folder)))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no/model", "neither a folder here nor a model of the hub"),
        ("private/model", "HF_TOKEN opens those that are private"),
        ("gated/model", "accepted its terms"),
        ("no/config", "404"),
        ("no/revision", "404"),
        ("a name/no hub has", "neither a folder here nor a model of the hub"),
    ],
)
def test_what_the_hub_does_not_give_is_bad_input(
    name: str, why: str, hub: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=why) as caught:
        require(name, tmp_path)
    assert str(caught.value).endswith("--set train.model.path=FOLDER")


def test_a_hub_that_is_broken_or_away_is_no_bad_input(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HubError, match=r"away/model: the hub does not answer .*train\.model\.path"):
        require("away/model", tmp_path)
    require("some/model", tmp_path)
    ask_at(NOBODY, monkeypatch)
    with pytest.raises(HubError, match="not in the cache of this machine"):
        require("some/model", tmp_path)


def test_what_the_cache_holds_whole_needs_no_hub(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_at(NOBODY, monkeypatch)
    home = tmp_path / "cache" / "models--some--model"
    snapshot = home / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0" * 40)
    (snapshot / "config.json").write_text("{}")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    (snapshot / "model-1.safetensors").touch()
    with pytest.raises(HubError):
        require("some/model", tmp_path)
    (snapshot / "model-2.safetensors").touch()
    require("some/model", tmp_path)


def test_a_stage_that_is_done_needs_no_model(hub: str, tmp_path: Path) -> None:
    storage, cell = Storage(str(tmp_path)), of("no/model")
    mark_complete(storage, run_id(cell, "train"), 8)
    require_models([cell], storage)


def test_models_from_elsewhere_are_not_asked_for(hub: str, tmp_path: Path) -> None:
    assert of("x").train
    for path in ("scratch", "run:base", "s3://bucket/model", "./folder", str(tmp_path)):
        cell = of("x")
        require_models(
            [replace(cell, train=replace(cell.train, model=ModelSpec(path)))],  # type: ignore[type-var]
            Storage(str(tmp_path)),
        )


def test_the_job_says_it_once_before_it_starts_ray(tmp_path: Path) -> None:
    cell, specs = of("some/model"), tmp_path / "specs.json"
    specs.write_text(json.dumps({"runs": [encode(cell)]}))
    surroundings = {"HF_ENDPOINT": NOBODY, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-m", "lima_jobs.run", str(specs), "--storage", str(tmp_path / "st")],
        env={**os.environ, **surroundings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    said = done.stderr.partition(MARK)[0]  # the line at its end says it for programs
    assert said.count("the hub does not answer") == 1
    assert "--set train.model.path=FOLDER" in done.stderr
    assert RunTable(Storage(str(tmp_path / "st")), ATTEMPTS, cell).shards() == []
