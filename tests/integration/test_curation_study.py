"""From raw files to a trained model: a set by one command, and the tiny recipe on it."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lima.model.checkpoint_manifest import weights_epochs
from lima.recipes.registry import load_study
from lima.spec import stage_cell
from lima.spec.codec import run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import STEPS
from tests.helpers.promised import promised

pytestmark = pytest.mark.slow

AUTHORED = Path(__file__).parents[2] / "lima" / "authored"
POOLS = {"train": "diverse", "dev": "dev", "test": "test", "dialogue": "dialogue"}
KINDS = {"stackexchange", "wikihow", "natural_instructions", "authored"}


@pytest.fixture
def root(shared_data: Path, tmp_path: Path) -> Path:
    """Return a folder with raw files of every kind, as `curate_small` reads them."""
    root = tmp_path / "data"
    root.mkdir()
    for kind in ("stackexchange", "wikihow", "reddit", "natural_instructions"):
        (root / kind).symlink_to(shared_data / kind)
    for pool, name in POOLS.items():
        (root / "authored" / pool).mkdir(parents=True)
        shutil.copy(AUTHORED / f"{name}.jsonl", root / "authored" / pool)
    return root


def _lima(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "lima_k8s", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _curated(root: Path, storage: str) -> dict[str, dict[str, Any]]:
    done = _lima(
        *("submit", "curate", "--local", "--recipe", "curate_small"),
        *("--set", f"curate.root={root}", "--storage", storage),
    )
    assert done.returncode == 0, done.stderr
    shown = _lima("curate", "show", storage, "--format", "json")
    return {data["name"]: data for data in json.loads(shown.stdout)["data_sets"]}


def test_one_command_writes_what_the_tiny_recipe_trains_on(root: Path, tmp_path: Path) -> None:
    storage = str(tmp_path / "study")
    found = _curated(root, storage)
    assert found.keys() == {"train", "dev", "test", "train-dialogue"}
    lines = [json.loads(line) for line in Path(found["train"]["path"]).read_text().splitlines()]
    assert {line["source"].partition("/")[0] for line in lines} == KINDS
    changes = [
        f"train.data.path={found['train']['path']}",
        "train.data.count=null",
        f"train.heldout.path={found['dev']['path']}",
        "train.epochs=1",
        "train.checkpoints.first_epoch=1",
        "train.checkpoints.last_epoch=1",
        "base.epochs=1",
        "base.checkpoints.first_epoch=1",
        "base.checkpoints.last_epoch=1",
    ]
    options = [option for change in changes for option in ("--set", change)]
    one = ("--arm", "diverse-32", "--seed", "0")
    trained = _lima(
        *("submit", "train", "--local", "--recipe", "tiny", *one),
        *(*options, "--storage", storage),
    )
    assert trained.returncode == 0, trained.stderr
    (cell,) = promised(load_study("tiny", changes, arms=["diverse-32"], seeds=[0]))
    assert cell.train is not None
    assert cell.train.data.path == found["train"]["path"]
    own = stage_cell(cell, "train")
    steps = RunTable(Storage(storage), STEPS, own).read().to_pylist()
    assert len(steps) == -(-len(lines) // cell.train.batch_size), "an epoch of all lines"
    assert all(math.isfinite(step["loss"]) for step in steps)
    assert weights_epochs(Storage(storage), run_id(cell, "train")) == [1]
