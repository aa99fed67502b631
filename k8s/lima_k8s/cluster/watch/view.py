"""A run on a cluster as a person sees it: what Kueue and KubeRay say, and its records."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from lima.runs.progress import eta_seconds
from lima_k8s.cluster.causes.causes import find_cause
from lima_k8s.cluster.read.model import Snapshot, Workload
from lima_k8s.cluster.read.snapshot import events_of, queue_of
from lima_k8s.runs.model import Cause, Run
from lima_k8s.runs.records import Records
from lima_k8s.runs.view import State, View

FRESH_S = 300.0
"""Seconds after its admission in which pods that made way for a run may still be ending."""


@dataclass(frozen=True)
class ClusterView(View):
    """A run on a cluster, with what Kueue says of it."""

    workload: Workload | None = None


def views(
    snapshot: Snapshot, runs: Sequence[Run], records: dict[str, Records], now: datetime
) -> list[ClusterView]:
    """Return the views of `runs`."""
    return [_view(snapshot, run, records.get(run.name), now) for run in runs]


def _view(snapshot: Snapshot, run: Run, records: Records | None, now: datetime) -> ClusterView:
    workload = snapshot.workloads.get(run.uid)
    pods = snapshot.pods.get(run.name, ())
    events = events_of(snapshot, run)
    leaving = [pod for others in snapshot.pods.values() for pod in others if pod.deleting]
    queue, fresh = queue_of(snapshot, run), _is_fresh(workload, now)
    cause = find_cause(run, workload, pods, events, queue, leaving=leaving, fresh=fresh)
    state = state_of(run, workload, cause)
    running = state == "running" and records is not None
    return ClusterView(
        run=run,
        state=state,
        workload=workload,
        admitted=bool(workload and workload.admitted),
        evictions=workload.evictions if workload else {},
        place=snapshot.places.get(workload.name) if workload and state == "queued" else None,
        cause=cause,
        records=records,
        eta_s=eta_seconds(records.progress, now) if running and records else None,
    )


def _is_fresh(workload: Workload | None, now: datetime) -> bool:
    """Say whether a run was admitted a moment ago."""
    admitted = workload.conditions.get("Admitted") if workload else None
    since = admitted.since if admitted and admitted.status else None
    return since is not None and (now - since).total_seconds() < FRESH_S


def state_of(run: Run, workload: Workload | None, cause: Cause | None) -> State:
    """Return where a run is between its submission and its end."""
    if run.ended:
        return "done" if run.succeeded else "failed"
    if run.deleting:
        return "stopping"
    if cause and cause.fatal:
        return "blocked"
    evicted = workload is not None and workload.is_true("Evicted")
    if workload is None or not workload.admitted:
        stopping = run.deployment_status == "Suspending"
        preempted = evicted and workload and workload.conditions["Evicted"].reason == "Preempted"
        return "stopping" if stopping else "preempted" if preempted else "queued"
    if evicted:  # it holds its quota until the last of its pods is gone
        return "stopping"
    return "running" if run.job_runs else "starting"
