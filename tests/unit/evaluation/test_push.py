"""`lima-k8s push`: what lies on the hub afterwards, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lima.model.checkpoint_manifest import weights_path
from lima.runs.ledger import record_run
from lima.spec import CellSpec, DataSpec, ModelSpec, TrainSpec
from lima.spec.codec import run_id
from lima.store.storage import Storage
from tests.helpers.hub_server import TOKEN, fake_hub

CELL = CellSpec(
    "study", "mine", 3, train=TrainSpec(ModelSpec("me/base"), DataSpec("data/here/mine.jsonl"))
)
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights " * 99,
    "tokenizer.json": b"{}",
    "README.md": b"that of the export",
}


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a storage with a trained run, whose data curation wrote."""
    monkeypatch.chdir(tmp_path)
    here = tmp_path / "data" / "here"
    here.mkdir(parents=True)
    (here / "mine.jsonl").write_text('{"conversations": ["a", "b"]}\n')
    (here / "attribution.md").write_text("by Ada")
    storage = Storage(str(tmp_path / "study"))
    record_run(storage, CELL, "train")
    folder = weights_path(run_id(CELL), 2)
    for name, data in FILES.items():
        storage.write(f"{folder}/{name}", data)
    sizes = ", ".join(f'"{name}": {len(data)}' for name, data in FILES.items())
    storage.write(f"{folder}.json", f'{{"files": {{{sizes}}}}}'.encode())
    return tmp_path / "study"


def push(study: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    # A process of its own: the library reads its settings when it is imported.
    return subprocess.run(
        [sys.executable, "-m", "lima_k8s", "push", "mine/3", *arguments, "--storage", str(study)],
        env=os.environ | {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_model_goes_with_its_card_and_attribution(study: Path) -> None:
    with fake_hub() as hub:
        settings = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
        done = push(study, "hub:me/tuned", "--licence", "apache-2.0", **settings)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{hub.url}/me/tuned/commit/{'c' * 40}\n"
        kept = dict(hub.files["me/tuned"])
        assert hub.private["me/tuned"]
        again = push(study, "hub:me/tuned", "--licence", "apache-2.0", **settings)
        assert again.returncode == 0, again.stderr
    card = kept.pop("README.md").decode()
    assert kept.pop("attribution.md") == b"by Ada"
    assert kept == {name: data for name, data in FILES.items() if name != "README.md"}
    assert "license: apache-2.0\nbase_model: me/base\n" in card
    assert f"run `{run_id(CELL)}`, weights of epoch 2" in card
    assert "| optimizer.lr_start | 1e-05 |" in card
    assert '| data.path | "mine.jsonl" |' in card
    assert "data/here" not in card
    assert TOKEN not in done.stderr + again.stderr


def test_what_is_refused(study: Path) -> None:
    assert push(study, "me/tuned").returncode == 2
    with fake_hub() as hub:
        denied = push(study, "hub:me/tuned", HF_ENDPOINT=hub.url, HF_TOKEN="hf_wrong")
        assert denied.returncode == 2
        assert "the hub refuses (401); set HF_TOKEN" in denied.stderr
        shown = push(study, "hub:me/tuned", "--dry-run", HF_ENDPOINT=hub.url)
        assert "# study: mine, seed 3" in shown.stdout
        assert not hub.files
        other = push(study, "hub:me/tuned", "--dry-run", "--epoch", "7", HF_ENDPOINT=hub.url)
        assert (other.returncode, other.stdout) == (2, "")
        assert "has no weights of epoch 7; there are those of 2" in other.stderr
    away = push(study, "hub:me/tuned", HF_ENDPOINT="http://127.0.0.1:1", HF_TOKEN=TOKEN)
    assert away.returncode == 3
    assert "the hub does not answer" in away.stderr
    (study / weights_path(run_id(CELL), 2) / "model.safetensors").write_bytes(b"cut")
    damaged = push(study, "hub:me/tuned", HF_ENDPOINT="http://127.0.0.1:1", HF_TOKEN=TOKEN)
    assert damaged.returncode == 2
    assert "model.safetensors has 3 of 792 bytes" in damaged.stderr
