"""Whole studies as real jobs: disturbed, interrupted, on S3; all end the same."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lima.codec import encode, run_id
from lima.progress import read_progress
from lima.results import ATTEMPTS
from lima.shards import RunTable
from lima.spec import CellSpec, stage_cell
from lima.storage import Storage
from tests.integration.runs import Job, rows, study_cell, weights
from tests.models import make_base

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def cell(base: Path) -> CellSpec:
    return study_cell(base)


@pytest.fixture(scope="module")
def undisturbed(cell: CellSpec, tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """Return the storage of a study that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    job = Job([cell], str(folder / "study"), folder)
    job.finish()
    return job.storage


def assert_same(cell: CellSpec, storage: Storage, expected: Storage) -> None:
    assert weights(storage, cell) == weights(expected, cell)
    assert len(weights(storage, cell)) == 2
    assert rows(storage, cell) == rows(expected, cell)
    assert len(rows(storage, cell)["generate.generations"]) == 16


def outcomes(storage: Storage, cell: CellSpec) -> list[str]:
    """Return how the attempts at training ended, in order."""
    table = RunTable(storage, ATTEMPTS, stage_cell(cell, "train"))
    ended = [row for row in table.read().to_pylist() if row["event"] == "ended"]
    return [row["outcome"] for row in sorted(ended, key=lambda row: row["attempt_id"])]


def test_killed_workers_change_nothing(
    cell: CellSpec, undisturbed: Storage, tmp_path: Path
) -> None:
    job = Job([cell], str(tmp_path / "study"), tmp_path)
    step = random.Random(1).randint(3, 8)
    job.wait_until(lambda r: r["stage"] == "train" and r["done"] >= step)
    job.kill_worker("RayTrainWorker")
    job.wait_until(lambda r: r["stage"] == "generate")
    job.kill_worker("GenerateWorker")
    job.finish()
    assert_same(cell, job.storage, undisturbed)
    assert outcomes(job.storage, cell) == ["killed", "completed"]


def test_a_killed_driver_resumes_to_the_same_study(
    cell: CellSpec, undisturbed: Storage, tmp_path: Path
) -> None:
    moments = random.Random(2)
    for step in sorted(moments.sample(range(2, 9), 2)):
        job = Job([cell], str(tmp_path / "study"), tmp_path)
        job.wait_until(lambda r, s=step: r["stage"] == "train" and r["done"] >= s)  # type: ignore[misc]
        time.sleep(moments.random() / 2)
        job.kill()
    job = Job([cell], str(tmp_path / "study"), tmp_path)
    job.finish()
    assert_same(cell, job.storage, undisturbed)
    assert outcomes(job.storage, cell) == ["killed", "killed", "completed"]


def test_an_interrupted_submit_goes_on_where_it_was(
    cell: CellSpec, undisturbed: Storage, tmp_path: Path
) -> None:
    recipe = tmp_path / "study.json"
    recipe.write_text(json.dumps({"runs": [encode(cell)]}), "utf-8")
    uri = str(tmp_path / "study")
    command = [sys.executable, "-m", "lima_k8s", "submit", "ablation", "--local",
               "--recipe", str(recipe), "--storage", uri]  # fmt: skip
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (record := read_progress(Storage(uri), run_id(cell))) or record["done"] < 3:
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    _, messages = first.communicate()
    assert first.returncode == 1, messages
    assert "the same command goes on" in messages
    assert outcomes(Storage(uri), cell) == ["interrupted"]
    saved = sorted(p.name for p in tmp_path.glob("study/checkpoints/*/state/step=*.json"))
    second = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert_same(cell, Storage(uri), undisturbed)
    assert saved, "the interrupted attempt saved its state"
    third = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert "finished already" in third.stderr
    assert third.returncode == 0


def test_the_same_study_on_s3(
    cell: CellSpec, undisturbed: Storage, s3_storage: str, tmp_path: Path
) -> None:
    job = Job([cell], s3_storage, tmp_path)
    job.finish()
    assert_same(cell, job.storage, undisturbed)


def test_a_user_s_mistake_is_no_traceback(base: Path, tmp_path: Path) -> None:
    cell = study_cell(tmp_path / "no-such-model")
    job = Job([cell], str(tmp_path / "study"), tmp_path)
    assert job.wait() == 2
    log = job.log.read_text("utf-8")
    assert "no such folder; model.path must name a saved model" in log
    assert "Traceback" not in log
    assert outcomes(job.storage, cell) == ["failed"]
