"""One run as a person sees it: cluster and storage put together."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from lima.runs.progress import eta_seconds
from lima_k8s.cluster.causes.causes import find_cause
from lima_k8s.cluster.read.model import Cause, Place, Run, Snapshot, Workload
from lima_k8s.cluster.read.snapshot import events_of, queue_of
from lima_k8s.cluster.watch.storage_state import Records

State = Literal[
    "queued", "preempted", "starting", "running", "stopping", "blocked", "done", "failed"
]
STATES: dict[State, str] = {
    "queued": "waits for quota",
    "preempted": "made way for another run; goes on when there is quota again",
    "starting": "admitted; its pods are starting",
    "running": "its job runs",
    "stopping": "is being taken down",
    "blocked": "does not go on, for the cause that is named",
    "done": "finished",
    "failed": "failed, for the cause that is named",
}
"""Every state of a run and what it means."""
ENDED: tuple[State, ...] = ("done", "failed")
FRESH_S = 300.0
"""Seconds after its admission in which pods that made way for a run may still be ending."""


@dataclass(frozen=True)
class View:
    """A run with its state, its cause if it has one, and its records."""

    run: Run
    state: State
    workload: Workload | None = None
    place: Place | None = None
    cause: Cause | None = None
    records: Records | None = None
    eta_s: float | None = None
    """Seconds until its current stage ends; None: not known."""

    @property
    def stage(self) -> str:
        """The stage that it is in."""
        return str(self.progress.get("stage", ""))

    @property
    def progress(self) -> dict[str, Any]:
        """Its last progress record."""
        return self.records.progress if self.records else {}

    @property
    def ended(self) -> bool:
        """Whether it will not go on by itself."""
        return self.state in ENDED


def views(
    snapshot: Snapshot, runs: Sequence[Run], records: dict[str, Records], now: datetime
) -> list[View]:
    """Return the views of `runs`."""
    return [_view(snapshot, run, records.get(run.name), now) for run in runs]


def _view(snapshot: Snapshot, run: Run, records: Records | None, now: datetime) -> View:
    workload = snapshot.workloads.get(run.uid)
    pods = snapshot.pods.get(run.name, ())
    events = events_of(snapshot, run)
    leaving = [pod for others in snapshot.pods.values() for pod in others if pod.deleting]
    queue, fresh = queue_of(snapshot, run), _is_fresh(workload, now)
    cause = find_cause(run, workload, pods, events, queue, leaving=leaving, fresh=fresh)
    state = state_of(run, workload, cause)
    running = state == "running" and records is not None
    return View(
        run=run,
        state=state,
        workload=workload,
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


def retry_text(view: View) -> str:
    """Return what a run that is started again came to the last time; empty: it never failed."""
    if not view.run.failed_starts or view.ended:
        return ""
    records = view.records
    known = records and records.last_outcome not in ("", "completed")
    why = records.last_reason if records and known else view.run.message
    return f"start {view.run.failed_starts + 1}; the last one failed{f': {why}' if why else ''}"


def state_of(run: Run, workload: Workload | None, cause: Cause | None) -> State:
    """Return where a run is between its submission and its end."""
    if run.ended:
        return "done" if run.succeeded else "failed"
    if run.deleting:
        return "stopping"
    if cause and cause.fatal:
        return "blocked"
    if workload is None or not workload.admitted:
        stopping = run.deployment_status == "Suspending"
        evicted = workload is not None and workload.is_true("Evicted")
        preempted = evicted and workload and workload.conditions["Evicted"].reason == "Preempted"
        return "stopping" if stopping else "preempted" if preempted else "queued"
    return "running" if run.job_runs else "starting"


def as_json(view: View) -> dict[str, Any]:
    """Return a view as it is written by --format json."""
    run, records = view.run, view.records
    return {
        "name": run.name,
        "run_id": run.run_id or None,
        "kind": run.kind,
        "release": run.release,
        "experiment": run.experiment,
        "arm": run.arm,
        "seed": run.seed,
        "state": view.state,
        "queue": run.queue,
        "priority_class": run.priority_class or None,
        "queue_position": view.place.in_queue if view.place else None,
        "cluster_queue_position": view.place.in_cluster_queue if view.place else None,
        "admitted": bool(view.workload and view.workload.admitted),
        "evictions": dict(view.workload.evictions) if view.workload else {},
        "progress": view.progress or None,
        "eta_s": round(view.eta_s, 1) if view.eta_s is not None else None,
        "failed_starts": run.failed_starts,
        "stage_starts": records.stage_starts if records else None,
        "retries": records.retries if records else None,
        "gpu_hours": round(records.gpu_hours, 4) if records else None,
        "last_attempt": (
            {"outcome": records.last_outcome, "reason": records.last_reason}
            if records and records.last_outcome
            else None
        ),
        "cause": asdict(view.cause) if view.cause else None,
        "storage": run.storage,
        "created": run.created.isoformat() if run.created else None,
    }
