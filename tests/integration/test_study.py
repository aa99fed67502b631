"""Whole studies as real jobs: disturbed, interrupted, on S3; all end the same."""

import random
import time
from pathlib import Path

import pytest

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
    moments = random.Random(1)
    job.wait_until(lambda r: r["stage"] == "train" and r["done"] >= 1)
    time.sleep(moments.random())
    job.kill_worker("RayTrainWorker")
    job.wait_until(lambda r: r["stage"] == "generate")
    job.kill_worker("GenerateWorker")
    job.finish()
    assert_same(cell, job.storage, undisturbed)
    # A worker that sees another one die can still say so; one that is killed cannot.
    first, last = outcomes(job.storage, cell)
    assert first in ("killed", "failed")
    assert last == "completed"
