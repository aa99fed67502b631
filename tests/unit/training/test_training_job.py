"""One worker of training as a Ray task: started again when it dies, and not for ever."""

import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from ray import cluster_resources
from ray.util import list_named_actors
from safetensors.torch import load

import lima_jobs.train
from lima.common.variables import WAIT_MINUTES
from lima.errors import ClusterError, LimaError, StorageError
from lima.runs.progress import Progress, read_progress
from lima.spec import CellSpec, CheckpointSpec
from lima.spec.codec import run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ATTEMPTS, RUNS, STEPS
from lima.training.certificate import certify
from lima.training.engine import PERSISTENT
from lima_jobs.meeting import LeanTrainer, LocalTrainer
from lima_jobs.run import run_stage
from lima_jobs.session import ray_session
from lima_jobs.train import WORKER_FAILURES, _fit, _reason, _with_machines, _Work, run_train
from tests.helpers.models import PARTITIONED, make_base, small_cell
from tests.integration.runs import VOLATILE, weights

pytestmark = pytest.mark.slow
RUN = "progress"
LENGTHS = ("trimmed_examples", "trimmed_share", "ends_trimmed", "example_tokens")


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> CellSpec:
    return small_cell(make_base(tmp_path_factory.mktemp("base")), epochs=20)


@pytest.fixture(scope="module", autouse=True)
def ray(cell: CellSpec) -> Iterator[None]:
    with ray_session([cell]):
        yield


@pytest.fixture(autouse=True)
def _no_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMA_STOP_FILE", str(tmp_path / "stop"))


@contextlib.contextmanager
def killing(ready: Callable[[], bool], most: int) -> Iterator[list[set[int]]]:
    """Send SIGKILL to the worker when it is `ready`, as often as `most`; yield whom.

    A worker that starts a program is two processes of its name for a moment.
    """
    killed: list[set[int]] = []
    ended = threading.Event()

    def kill() -> None:
        while len(killed) < most and not ended.wait(0.05):
            found: set[int] = set()
            for process in psutil.Process().children(recursive=True) if ready() else ():
                with contextlib.suppress(psutil.Error):  # it ended meanwhile
                    is_new = process.pid not in itertools.chain(*killed)
                    if is_new and "ray::_train" in " ".join(process.cmdline()):
                        process.kill()
                        found.add(process.pid)
            killed.extend([found] if found else [])

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def steps(storage: Storage, cell: CellSpec) -> list[dict[str, object]]:
    rows = RunTable(storage, STEPS, cell).read().to_pylist()
    return [{k: v for k, v in row.items() if k not in VOLATILE} for row in rows]


def test_kills_change_nothing(cell: CellSpec, tmp_path: Path) -> None:
    undisturbed, storage = Storage(str(tmp_path / "one")), Storage(str(tmp_path / "two"))
    run_stage(cell, "train", undisturbed)

    kills = iter((1, 11, 23))
    at = next(kills)

    def trains() -> bool:
        nonlocal at
        record = read_progress(storage, run_id(cell))
        ready = bool(record and record["done"] >= at)
        at = next(kills, 100) if ready else at
        return ready

    with killing(trains, 3) as killed:
        run_stage(cell, "train", storage)
    assert len(killed) == 3
    assert weights(storage, cell) == weights(undisturbed, cell)
    assert len(weights(storage, cell)) == 2
    assert steps(storage, cell) == steps(undisturbed, cell)
    certificate = certify(storage, run_id(cell))
    assert (certificate.problems, certificate.starts, certificate.steps) == ((), 4, 50)
    assert certificate.end == certify(undisturbed, run_id(cell)).end
    trimmed = [RunTable(s, RUNS, cell).read(LENGTHS).to_pylist() for s in (storage, undisturbed)]
    assert trimmed[0] == trimmed[1]
    assert trimmed[0][0]["trimmed_examples"] == 10
    assert len(trimmed[0][0]["example_tokens"]) == 10
    ended = [
        row
        for row in RunTable(storage, ATTEMPTS, cell).read().to_pylist()
        if row["event"] == "ended"
    ]
    ended.sort(key=lambda row: row["at"])
    assert [row["outcome"] for row in ended] == ["killed"] * 3 + ["completed"]
    saves = json.loads(ended[-1]["saves"])
    assert {save["kind"] for save in saves} == {"state"}, "weights were whole before the kills"
    assert saves[-1]["step"] == 50
    assert 0 < ended[-1]["idle_seconds"] < ended[-1]["seconds"]


def test_a_worker_that_dies_each_time_ends_the_run(cell: CellSpec, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    with (
        killing(lambda: True, 1 + WORKER_FAILURES) as killed,
        pytest.raises(LimaError, match=f"training failed {1 + WORKER_FAILURES} times"),
    ):
        run_train(cell, "train", storage, Progress(storage, RUN))
    assert len(killed) == 1 + WORKER_FAILURES


def test_the_error_of_a_worker_keeps_its_kind(
    cell: CellSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(lima_jobs.train, "WORKER_FAILURES", 0)
    storage = Storage(str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / f"run_id={run_id(cell)}").write_text("in the way of its states")
    with pytest.raises(StorageError, match="training failed 1 times; the last: cannot"):
        run_train(cell, "train", storage, Progress(storage, RUN))
    assert "lima/training/loop.py" in caplog.text, "the log says where"


def test_the_reason_of_several_lines_is_told_whole() -> None:
    """The point of transformers' messages stands in the middle."""
    message = "invalid: `temperature` is set\nto 0.9\n\nFix these issues to save the configuration."
    peer = RuntimeError("Connection closed by peer [127.0.0.1]:1")
    reason = str(_reason(Exception("last line"), [peer, ValueError(message)]))
    assert "ValueError: invalid: `temperature` is set to 0.9 Fix these" in reason
    assert "RuntimeError: Connection" in str(_reason(Exception("last line"), [peer]))
    assert isinstance(_reason(Exception(), [peer, StorageError("full")]), StorageError)


def test_a_cluster_with_fewer_machines_goes_on_where_that_is_allowed(
    cell: CellSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WAIT_MINUTES, "0")
    assert cell.train is not None
    storage, there = Storage(str(tmp_path)), int(cluster_resources()["CPU"])
    asked = replace(cell, train=replace(cell.train, epochs=1, on_workers=there + 5))
    with pytest.raises(ClusterError, match=f"{there} of {there + 5} CPUs are there"):
        _with_machines(_Work(asked, "train", storage, RUN))
    assert asked.train is not None
    allowed = replace(asked, train=replace(asked.train, fewest_workers=1))
    work = _with_machines(_Work(allowed, "train", storage, RUN))
    assert (work.compute.workers, _Work.decoded(work.encoded()).compute) == (there, work.compute)
    more = replace(asked, train=replace(asked.train, fewest_workers=there + 1))
    with pytest.raises(ClusterError):
        _with_machines(_Work(more, "train", storage, RUN))
    assert _fit(replace(work, workers=1)) is None
    rows = RunTable(storage, STEPS, allowed).read(["workers"]).to_pylist()
    assert {row["workers"] for row in rows} == {1}


def test_two_workers_with_a_part_each_train_what_one_does(tmp_path: Path) -> None:
    """Without dropout, whose noise is every worker's own."""
    base = make_base(tmp_path / "base", **PARTITIONED)
    checkpoints = CheckpointSpec(first_epoch=2, last_epoch=2)
    alone = small_cell(base, residual_dropout=0.0, epochs=2, checkpoints=checkpoints)
    assert alone.train is not None
    compute = replace(alone.train.compute, workers=2)
    together = replace(alone, train=replace(alone.train, compute=compute))
    one, two = Storage(str(tmp_path / "one")), Storage(str(tmp_path / "two"))
    run_stage(alone, "train", one)
    run_stage(together, "train", two)
    asked = [actor["name"] for actor in list_named_actors(all_namespaces=True)]
    assert not [name for name in asked if "AutoscalingCoordinator" in name], (
        "all machines are given"
    )
    expected, ours = (load(weights(s, c)[2]) for s, c in ((one, alone), (two, together)))
    assert expected.keys() == ours.keys()
    assert max(value.numel() for value in ours.values()) > PERSISTENT
    assert "lm_head.weight" not in ours, "it is the embedding"
    for name, value in ours.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)


def test_ray_train_starts_no_actor_for_what_we_do_not_use() -> None:
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    def started(trainer: type[TorchTrainer]) -> set[str]:
        made = trainer(print, scaling_config=ScalingConfig(num_workers=2))
        return {type(callback).__name__ for callback in made._create_default_callbacks()}

    assert started(TorchTrainer) - started(LeanTrainer) == {"DatasetsCallback"}
    assert started(LeanTrainer) - started(LocalTrainer) == {"PlacementGroupCleanerCallback"}
