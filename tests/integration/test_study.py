"""Whole studies as real jobs: disturbed, interrupted, on S3; all end the same."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lima.runs.progress import read_progress
from lima.spec import CellSpec, stage_cell
from lima.spec.codec import encode, run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ATTEMPTS
from tests.helpers.models import PARTITIONED, make_base
from tests.helpers.processes.asking import command_line
from tests.integration.runs import Job, rows, study_cell, weights

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> CellSpec:
    """Return a study whose two workers hold a part each of the largest weight."""
    return study_cell(make_base(tmp_path_factory.mktemp("partitioned"), **PARTITIONED))


@pytest.fixture(scope="module")
def one_worker(base: Path) -> CellSpec:
    """Return the study with one worker, for what is about the command and not the workers."""
    return study_cell(base, workers=1)


@pytest.fixture(scope="module")
def one_undisturbed(one_worker: CellSpec, tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return finished(one_worker, tmp_path_factory.mktemp("one-undisturbed"))


@pytest.fixture(scope="module")
def undisturbed(cell: CellSpec, tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """Return the storage of a study that nothing disturbed."""
    return finished(cell, tmp_path_factory.mktemp("undisturbed"))


def finished(cell: CellSpec, folder: Path) -> Storage:
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


def submit_command(cell: CellSpec, folder: Path) -> list[str]:
    """Return the command that a user types to run `cell` below `folder`."""
    recipe = folder / "study.json"
    recipe.write_text(json.dumps({"runs": [encode(cell)]}), "utf-8")
    # Whoever runs the tests in the background may have told them to ignore ctrl-C.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{heed}; from lima_k8s.main import main; main()"]
    return [
        *command,
        "submit",
        "ablation",
        "--local",
        "--recipe",
        str(recipe),
        "--storage",
        str(folder / "study"),
    ]


def submit(cell: CellSpec, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        submit_command(cell, folder), stderr=subprocess.PIPE, text=True, check=False
    )


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


def test_a_killed_driver_resumes_to_the_same_study_on_s3(
    cell: CellSpec, undisturbed: Storage, s3_storage: str, tmp_path: Path
) -> None:
    job = Job([cell], s3_storage, tmp_path)
    job.wait_until(lambda r: r["stage"] == "train" and r["done"] >= 1)
    time.sleep(random.Random(2).random())
    job.kill()
    job = Job([cell], s3_storage, tmp_path)
    job.finish()
    assert_same(cell, job.storage, undisturbed)
    lost, last = outcomes(job.storage, cell)
    # A worker that outlives its driver for a moment can still say that it failed.
    assert lost in ("killed", "failed")
    assert last == "completed"


def test_an_interrupted_submit_goes_on_where_it_was(
    one_worker: CellSpec, one_undisturbed: Storage, tmp_path: Path
) -> None:
    cell, undisturbed = one_worker, one_undisturbed
    uri = str(tmp_path / "study")
    first = subprocess.Popen(submit_command(cell, tmp_path), stderr=subprocess.PIPE, text=True)
    while not (record := read_progress(Storage(uri), run_id(cell))) or record["done"] < 1:
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    _, messages = first.communicate()
    assert first.returncode == 1, messages
    assert "the same command goes on" in messages
    assert outcomes(Storage(uri), cell) == ["interrupted"]
    saved = sorted(p.name for p in tmp_path.glob("study/checkpoints/*/state/step=*.json"))
    second = submit(cell, tmp_path)
    assert second.returncode == 0, second.stderr
    assert_same(cell, Storage(uri), undisturbed)
    assert saved, "the interrupted attempt saved its state"
    third = submit(cell, tmp_path)
    assert "finished already" in third.stderr
    assert third.returncode == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_while_workers_start_is_heard_at_once(
    base: Path, tmp_path: Path, workers: int
) -> None:
    cell = study_cell(base, workers=workers)
    job = Job([cell], str(tmp_path / "study"), tmp_path)
    job.wait_until(lambda record: record["figures"].get("status") == "starting workers")
    job.process.terminate()
    assert job.wait() == 1
    log = job.log.read_text("utf-8")
    assert "stopped on request while its workers started" in log
    assert "Traceback" not in log
    assert outcomes(job.storage, cell) == [], "no worker has begun"


def test_a_study_that_went_well_has_no_traceback_in_its_log(
    undisturbed: Storage, one_undisturbed: Storage
) -> None:
    for storage in (undisturbed, one_undisturbed):
        assert "Traceback" not in (Path(storage.root).parent / "job.log").read_text("utf-8")


def test_a_job_whose_submit_was_killed_stops_and_can_be_resumed(
    one_worker: CellSpec, one_undisturbed: Storage, tmp_path: Path
) -> None:
    cell, undisturbed = one_worker, one_undisturbed
    storage = Storage(str(tmp_path / "study"))
    first = subprocess.Popen(submit_command(cell, tmp_path), stderr=subprocess.DEVNULL)
    while not (record := read_progress(storage, run_id(cell))) or record["done"] < 1:
        assert first.poll() is None
        time.sleep(0.05)
    job = [p for p in psutil.Process(first.pid).children() if "lima_jobs.run" in command_line(p)]
    first.kill()
    first.wait()
    psutil.wait_procs(job)
    assert outcomes(storage, cell) == ["interrupted"]
    second = submit(cell, tmp_path)
    assert second.returncode == 0, second.stderr
    assert_same(cell, storage, undisturbed)


def test_a_user_s_mistake_is_no_traceback(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}", "utf-8")
    cell = study_cell(model, workers=1)
    result = submit(cell, tmp_path)
    assert result.returncode == 2, result.stderr
    assert "no tokenizer can be loaded" in result.stderr
    assert "Traceback" not in result.stderr
    assert outcomes(Storage(str(tmp_path / "study")), cell) == ["failed"]
