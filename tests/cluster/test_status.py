"""`status` against the real API server and real storage: states, records, requests sent."""

from dataclasses import replace

import pytest

from lima.recipes.demo import tiny
from lima.runs.ledger import attempt, record_run
from lima.runs.progress import Progress
from lima.spec import ComputeSpec
from lima.spec.codec import run_id
from lima.store.storage import Storage
from lima_k8s.cluster.read.api import Cluster
from lima_k8s.cluster.read.snapshot import read
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.helpers.lima import TINY, Lima, lima, queue, quota
from tests.helpers.promised import promised

__all__ = ["lima", "queue", "quota"]
NOTHING = {"cpu": "0", "memory": "0"}
CELL = next(cell for cell in promised(tiny()) if cell.arm == "howto-32" and cell.seed == 0)


def test_an_empty_namespace(lima: Lima) -> None:
    done = lima("status")
    assert done.out == ""
    assert f"no runs in namespace {lima.namespace}" in done.err
    assert lima("status", "nope", code=2).err.startswith("error: no run 'nope'")


@pytest.mark.parametrize("quota", [NOTHING])
def test_progress_and_cost_come_from_storage(lima: Lima) -> None:
    lima.submit(*TINY)
    storage = Storage(lima.storage)
    record_run(storage, CELL, "train")
    with attempt(storage, CELL, "train", ComputeSpec(workers=2, device="cpu"), run_id(CELL)):
        Progress(storage, run_id(CELL)).update("train", 3, 20, "steps", epoch=0.75)
    [told] = lima.json("status", run_id(CELL))["runs"]
    assert told["progress"]["done"] == 3
    assert (told["stage_starts"], told["gpu_hours"]) == (1, 0.0)
    assert told["last_attempt"]["outcome"] == "completed"
    assert "train 3/20 steps, epoch 0.75" in lima("status").out


@pytest.mark.parametrize("quota", [NOTHING])
def test_storage_out_of_reach_does_not_stop_it(lima: Lima) -> None:
    lima.submit(*TINY)
    deaf = replace(lima, environment={"AWS_ENDPOINT_URL": "http://127.0.0.1:1"})
    done = deaf("status")
    assert "no progress, attempts and GPU hours from here" in done.err
    assert len(done.out.splitlines()) == 5


@pytest.mark.parametrize("quota", [NOTHING])
def test_one_request_a_kind_however_many_runs(lima: Lima, kubectl: Kubectl) -> None:
    counts = []
    for arguments in (("--arm", "howto-32"), ()):
        lima.submit(*TINY, *arguments)
        lima.until(lambda runs: all(run["cause"] or run["queue_position"] for run in runs))
        cluster = Cluster(namespace=lima.namespace)
        assert len(read(cluster).runs) in (2, 4)
        counts.append(cluster.calls)
    # RayJobs, ConfigMaps, Workloads, Pods, Events, LocalQueues, and the queue's line.
    assert counts == [8, 8]
