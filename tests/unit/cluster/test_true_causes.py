"""The true cause is named, and none where nothing is wrong."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lima.errors import InputError, LimaError
from lima.evaluation.aggregate.table import aggregate
from lima.recipes.demo import tiny
from lima.runs.ledger import attempt, record_run
from lima.spec import ComputeSpec
from lima.spec.codec import run_id
from lima.store.storage import Storage
from lima_k8s.cluster.causes.causes import find_cause
from lima_k8s.cluster.read import parse
from lima_k8s.cluster.read.api import CLUSTER_QUEUES, Cluster, Kind
from lima_k8s.cluster.read.model import Condition, Pod, Queue, Snapshot, Workload
from lima_k8s.cluster.read.snapshot import behind
from lima_k8s.cluster.submit.requirements import require_queue
from lima_k8s.cluster.watch.view import views
from lima_k8s.runs.model import Run
from lima_k8s.runs.records import Reader, Records
from lima_k8s.runs.view import Gone, View, raise_for, retry_text

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
RUN = Run("r", uid="u", queue="lima", suspended=True)
NO_QUOTA = Condition(False, "Pending", "insufficient unused quota: maximum capacity (1)")
WAITING = Workload("w", "u", "lima", conditions={"QuotaReserved": NO_QUOTA})


def admitted(seconds: float) -> Workload:
    since = Condition(True, since=NOW - timedelta(seconds=seconds))
    flavors = {"cpu": "lima-h100"}
    return Workload(
        "w", "u", "lima", conditions={"QuotaReserved": since, "Admitted": since}, flavors=flavors
    )


def a_queue(reason: str, message: str = "") -> dict[str, Any]:
    conditions = [{"type": "Active", "status": "False", "reason": reason, "message": message}]
    return {
        "metadata": {"name": "lima"},
        "spec": {"clusterQueue": "lima"},
        "status": {"conditions": conditions},
    }


class Queues(Cluster):
    """A cluster with one queue that is not active."""

    namespace = "team"

    def __init__(self, local: dict[str, Any], cluster: dict[str, Any] | None) -> None:
        self.local, self.cluster = local, cluster

    def get(self, kind: Kind, name: str) -> dict[str, Any] | None:
        return self.cluster if kind is CLUSTER_QUEUES else self.local


INACTIVE = a_queue("ClusterQueueIsInactive", "Can't submit new workloads to clusterQueue")
ACTIVE: dict[str, Any] = {"metadata": {"name": "lima"}, "spec": {"clusterQueue": "lima"}}
MISSING = "references missing ResourceFlavor(s): lima-h100"


def test_a_flavor_that_is_missing_is_named_and_quota_is_not() -> None:
    cluster = Queues(INACTIVE, a_queue("FlavorNotFound", MISSING))
    [queue] = behind(cluster, [parse.queue(INACTIVE)])
    # What Kueue said of quota before the flavor went would never fit.
    said = (
        "insufficient quota for cpu in flavor f, current podset request (2) > maximum capacity (1)"
    )
    stale = replace(WAITING, conditions={"QuotaReserved": Condition(False, "", said)})
    cause = find_cause(RUN, stale, (), (), queue)
    assert cause
    assert (cause.name, MISSING in cause.what) == ("queue-stopped", True)


@pytest.mark.parametrize(
    ("local", "cluster", "state"),
    [
        (INACTIVE, a_queue("Terminating", "…"), "is being deleted"),
        (
            ACTIVE,
            {**ACTIVE, "metadata": {"name": "lima", "deletionTimestamp": "…"}},
            "is being deleted",
        ),
        (a_queue("ClusterQueueDoesNotExist", "Can't submit"), None, "does not exist"),
    ],
)
def test_a_queue_without_a_future_is_refused(
    local: dict[str, Any], cluster: dict[str, Any] | None, state: str
) -> None:
    there = Queues(local, cluster)
    with pytest.raises(InputError, match=f"ClusterQueue 'lima', which {state}"):
        require_queue(there, "lima")
    [queue] = behind(there, [parse.queue(local)])
    cause = find_cause(RUN, WAITING, (), (), queue)
    assert cause
    assert cause.name == "queue-missing"


def test_a_queue_that_is_held_takes_runs_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    require_queue(Queues(INACTIVE, a_queue("Stopped", "is stopped")), "lima")
    assert "queue lima admits nothing now: is stopped" in capsys.readouterr().err


def test_a_run_that_has_its_quota_does_not_miss_its_queue() -> None:
    assert find_cause(replace(RUN, suspended=False), admitted(9), (), (), None) is None
    cause = find_cause(RUN, WAITING, (), (), None)
    assert cause
    assert cause.name == "queue-missing"


POD = Pod("p", "r", unschedulable="0/1 nodes are available: 1 Insufficient nvidia.com/gpu.")
LABELLED = replace(
    POD,
    unschedulable="0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
    node_selector={"gpu": "h100"},
)


@pytest.mark.parametrize(
    ("pod", "others", "seconds", "name"),
    [
        (POD, (Pod("q", "other", deleting=True),), 3600, "waits-for-pods"),
        (POD, (), 10, "waits-for-pods"),
        (POD, (Pod("q", "other"),), 3600, "no-node-fits"),
        (LABELLED, (Pod("q", "other", deleting=True),), 10, "no-such-node"),
    ],
)
def test_why_no_node_takes_a_pod(
    pod: Pod, others: tuple[Pod, ...], seconds: float, name: str
) -> None:
    queue = Queue("lima", "lima")
    snapshot = Snapshot(
        (RUN,), {"u": admitted(seconds)}, {"r": (pod,), "other": others}, queues={"lima": queue}
    )
    [view] = views(snapshot, [RUN], {}, NOW)
    assert view.cause
    assert (view.cause.name, view.cause.fatal) == (name, False)
    if name == "no-such-node":
        assert "gpu=h100" in view.cause.what
        assert "lima-h100" in view.cause.what


def test_between_two_starts_the_last_reason_is_told() -> None:
    run = replace(RUN, failed_starts=2, suspended=False)
    records = Records(stage_starts=2, retries=1, last_outcome="failed", last_reason="no space left")
    assert retry_text(View(run, "starting", records=records)) == (
        "start 3; the last one failed: no space left"
    )
    assert retry_text(View(RUN, "starting", records=records)) == ""
    assert retry_text(View(run, "done", records=records)) == ""


def test_what_others_cancel_fails_only_those_who_asked_for_it() -> None:
    seen = [View(RUN, "done"), Gone(replace(RUN, name="theirs"), "failed")]
    raise_for(seen, asked_for=False)
    with pytest.raises(LimaError, match="theirs"):
        raise_for(seen)
    with pytest.raises(LimaError):
        raise_for([View(RUN, "failed")], asked_for=False)


def test_status_counts_attempts_as_aggregate_does(tmp_path: Path) -> None:
    cell, storage = tiny()[0], Storage(str(tmp_path))
    for stage, times in (("base", 2), ("train", 3)):
        record_run(storage, cell, stage)  # type: ignore[arg-type]
        for _ in range(times):
            with attempt(storage, cell, stage, ComputeSpec(device="cpu"), run_id(cell)):  # type: ignore[arg-type]
                pass
    run = Run("r", storage=storage.uri, cell=cell, run_id=run_id(cell), experiment="tiny")
    told = Reader().read([run], NOW)["r"]
    [row] = aggregate(storage, by=["arm"]).to_pylist()
    assert (told.stage_starts, told.retries) == (row["stage_starts"], row["retries"]) == (3, 2)
