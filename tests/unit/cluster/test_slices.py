"""A run that changes its size has several Workloads; one speaks for it."""

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from lima_k8s.cluster.read.api import QUEUES, RAYJOBS, WORKLOADS, Cluster, Kind
from lima_k8s.cluster.read.model import Snapshot
from lima_k8s.cluster.read.snapshot import read
from lima_k8s.cluster.watch.view import ClusterView, views

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
NEVER = (
    "couldn't assign flavors to pod set workers: insufficient quota for nvidia.com/gpu in flavor "
    "lima-gpu, previously considered podsets requests (0) + current podset request (64) > maximum "
    "capacity (32)"
)


class Listed(Cluster):
    """A namespace with one run and some Workloads of it."""

    def __init__(self, workloads: list[dict[str, Any]], deployment: str, job: str) -> None:
        status = {"jobDeploymentStatus": deployment, "jobStatus": job}
        labels = {"kueue.x-k8s.io/queue-name": "lima"}
        self.objects: dict[Kind, list[dict[str, Any]]] = {
            RAYJOBS: [{"metadata": {"name": "r", "uid": "u", "labels": labels}, "status": status}],
            QUEUES: [{"metadata": {"name": "lima"}, "spec": {"clusterQueue": "lima"}}],
            WORKLOADS: workloads,
        }

    def list_all(self, kind: Kind, selector: str = "") -> list[dict[str, Any]]:
        return self.objects.get(kind, [])

    def places(self, queue: str) -> None:
        return None

    def may_get(self, kind: Kind, name: str = "") -> dict[str, Any] | None:
        return None


def a_slice(
    name: str, minutes: int, *true: str, waits: str = "", evictions: int = 0, **because: str
) -> dict[str, Any]:
    conditions = [{"type": kind, "status": "True"} for kind in true]
    conditions += [{"type": k, "status": "True", "reason": why} for k, why in because.items()]
    if "QuotaReserved" not in true:
        conditions += [{"type": "QuotaReserved", "status": "False", "message": waits}]
    return {
        "metadata": {
            "name": name,
            "uid": name,
            "creationTimestamp": (NOON + timedelta(minutes=minutes)).isoformat(),
            "ownerReferences": [{"uid": "u", "controller": True}],
        },
        "spec": {"queueName": "lima"},
        "status": {
            "conditions": conditions,
            "schedulingStats": {"evictions": [{"reason": "Preempted", "count": evictions}]},
        },
    }


HELD = ("QuotaReserved", "Admitted")
ADMITTED = a_slice("admitted", 0, *HELD, evictions=1)
WAITING = a_slice("waiting", 5, waits="insufficient unused quota")
TOO_LARGE = a_slice("too-large", 5, waits=NEVER)
GROWN = a_slice("grown", 5, *HELD)
REPLACED = a_slice("replaced", -5, *HELD, "Finished", evictions=2)
LATE = a_slice("late", 9, *HELD, "Finished")
EVICTED = a_slice("evicted", 5, Evicted="Preempted")


def seen(
    workloads: list[dict[str, Any]], deployment: str = "Running", job: str = "RUNNING"
) -> tuple[ClusterView, Snapshot]:
    snapshot = read(Listed(workloads, deployment, job))
    [view] = views(snapshot, snapshot.runs, {}, NOON)
    return view, snapshot


@pytest.mark.parametrize(
    ("slices", "name"),
    [
        ([ADMITTED, WAITING], "admitted"),
        ([ADMITTED, TOO_LARGE, REPLACED], "admitted"),
        ([ADMITTED, GROWN], "grown"),
        ([ADMITTED, LATE], "admitted"),
        ([REPLACED, LATE], "late"),
    ],
)
def test_the_slice_that_holds_quota_speaks(slices: list[dict[str, Any]], name: str) -> None:
    for order in permutations(slices):
        view, _ = seen(list(order))
        assert view.workload
        assert view.workload.name == name
        assert (view.state, view.place, view.cause) == ("running", None, None)


def test_a_run_that_made_way_is_preempted_though_an_old_slice_is_over() -> None:
    for order in permutations([EVICTED, REPLACED]):
        view, _ = seen(list(order), "Suspended", "")
        assert view.state == "preempted"


def test_evictions_of_all_slices_count() -> None:
    view, snapshot = seen([ADMITTED, WAITING, REPLACED])
    assert view.workload
    assert view.workload.evictions == {"Preempted": 3}
    assert list(snapshot.workloads) == ["u"]
    assert snapshot.others == ()
